"""What a person has in a folder, or in the zip of a learning-management system: who handed in which notebook."""

import hashlib
import os
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rnncourse.grading.graft import LARGEST, Unreadable

PLAIN = re.compile(r"\w[\w.@+ -]{0,79}")
MOODLE = re.compile(r"(.+?_\d+)_assignsubmission_.*")
CANVAS = re.compile(r"(?P<who>.+?)(?:_LATE)?_(?P<id>\d+)_\d+_.+")


@dataclass(frozen=True)
class Submission:
    """One student's: ``path`` is a file, ``member`` its name in it if that is a zip; both None if there is none."""

    student: str
    path: Path | None
    member: str | None = None

    def read(self):
        """The notebook's bytes; ``Unreadable`` if it is no plain file, or too large."""
        try:
            if self.member is not None:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    data = file.read(LARGEST + 1)
            else:
                number = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with open(number, "rb") as file:
                    if not stat.S_ISREG(os.fstat(number).st_mode):
                        raise Unreadable("not a plain file")
                    data = file.read(LARGEST + 1)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            link = self.member is None and self.path.is_symlink()
            raise Unreadable("a link, not a file" if link else f"can't be read: {type(error).__name__}") from None
        if len(data) > LARGEST:
            raise Unreadable(f"larger than {LARGEST >> 20} MB")
        return data


def find(folder, assignment):
    """The submissions in ``folder`` (or a zip), one a student, by name. A student's folder without a notebook counts as missing."""
    folder = Path(folder)
    entries = list(_in_zip(folder) if folder.is_file() else _in_folder(folder))
    found = {}
    for parts, path, member in entries:
        found.setdefault(_student(parts), []).append((parts, path, member))
    return [_pick(student, files, assignment) for student, files in sorted(found.items())]


def _in_folder(folder):
    for top in sorted(folder.iterdir()):
        if top.name.startswith((".", "__MACOSX")):
            continue
        if top.is_dir() and not top.is_symlink():
            notebooks = [p for p in sorted(top.rglob("*.ipynb")) if not _ignored(p.relative_to(folder).parts)]
            yield from ((p.relative_to(folder).parts, p, None) for p in notebooks)
            if not notebooks:
                yield (top.name, ""), None, None
        elif top.suffix == ".ipynb":
            yield (top.name,), top, None
        elif top.suffix == ".zip":
            inside = list(_in_zip(top))
            several = len({_student(parts) for parts, _, _ in inside}) > 1
            yield from (((parts if several else (top.stem, parts[-1])), path, m) for parts, path, m in inside)
            if not inside:
                yield (top.stem, ""), None, None


def _in_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError):
        yield (path.stem, path.name), path, ""  # reading it will say what is wrong
        return
    inside = []
    for name in names:
        parts = tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", "."))
        if name.endswith(".ipynb") and parts and not _ignored(parts):
            inside.append((parts, path, name))
    around = len({parts[0] for parts, _, _ in inside}) == 1 and all(len(parts) > 2 for parts, _, _ in inside)
    yield from ((parts[around:], path, name) for parts, path, name in inside)  # without a folder around all of them


def _ignored(parts):
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _student(parts):
    """The student's id, from the folder or else the file's name: fit for a path, a table and the gradebook, and nobody else's."""
    name = parts[0] if len(parts) > 1 else parts[0].removesuffix(".ipynb")
    if len(parts) > 1 and (match := MOODLE.fullmatch(name)):
        name = match[1]
    elif len(parts) == 1 and (match := CANVAS.fullmatch(name)):
        name = f"{match['who']}_{match['id']}"
    if PLAIN.fullmatch(name) and name == name.strip(" ."):
        return name
    known = name.encode("utf-8", "surrogateescape")
    return (
        re.sub(r"[^\w.@+-]+", "_", name, flags=re.ASCII).strip("_.-+@")[:60]
        + "-"
        + hashlib.sha256(known).hexdigest()[:8]
    )


def _pick(student, files, assignment):
    """Of a student's files the one to mark: that of the assignment's name, else the last."""

    def order(file):
        stem = file[0][-1].removesuffix(".ipynb")
        return stem == assignment, assignment in stem, stem

    _, path, member = max(files, key=order)
    return Submission(student, path, member)
