"""What a person has in a folder, or in the zip of a learning-management system: who handed in which notebook.

Nobody's work is left out in silence, and nobody's can take the place of another's: what has no notebook is there with the
reason, and so is a name that several submissions claim.
"""

import hashlib
import os
import re
import stat
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rnncourse.grading.graft import LARGEST, Unreadable

PLAIN = re.compile(r"[\w'’(][\w.@+ '’(),-]{0,79}")  # harmless in a path, a table, a page and a query
BYTES = 180  # of a name; a path's part may have 255, and something is put after it
MOODLE = re.compile(r"(.+_\d+)_assignsubmission_.*")  # greedy: a display name may look like this too
CANVAS = re.compile(r"(?P<who>.+?)(?:_LATE)?_(?P<id>\d+)_\d+_.+")


@dataclass(frozen=True)
class Submission:
    """One student's: ``path`` is a file, ``member`` its name in it if that is a zip.

    ``problem`` is (status, reason) where there is nothing to mark; then both are None.
    """

    student: str
    path: Path | None
    member: str | None = None
    problem: tuple = ()

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
        except Unreadable:
            raise
        except Exception as error:  # of the disk, of zipfile, or of one of the ways to pack that it knows
            link = self.member is None and self.path.is_symlink()
            raise Unreadable("a link, not a file" if link else f"can't be read: {type(error).__name__}") from None
        if len(data) > LARGEST:
            raise Unreadable(f"larger than {LARGEST >> 20} MB")
        return data


def find(folder, assignment):
    """The submissions in ``folder`` (or a class's zip), one a student, by name; those with nothing to mark among them."""
    found = {}  # student: {where it came from: its files}
    for student, source, file in _entries(Path(folder)):
        found.setdefault(student, {}).setdefault(source, []).append(file)
    return [_pick(student, sources, assignment) for student, sources in sorted(found.items())]


def _entries(folder):
    """(student, the entry of ``folder`` that it comes from, (its parts below that, path, member of a zip)) of every file."""
    tops = [folder] if folder.is_file() else [top for top in sorted(folder.iterdir()) if not _ignored((top.name,))]
    for top in tops:
        if top.suffix == ".zip" and not top.is_symlink():
            inside = list(_in_zip(top))
            if not inside and top == folder:
                return
            # a class's zip is all there is, or is named as a system names it; any other is one student's own
            if inside and (len(tops) == 1 or all(_from_a_system(parts) for parts, _, _ in inside)):
                yield from ((_student(parts), top.name, (parts, path, name)) for parts, path, name in _unwrapped(inside))
                continue
            student, files = _student((top.stem, "")), inside
        elif top.is_dir() and not top.is_symlink():
            files = [(p.relative_to(top).parts, p, None) for p in sorted(top.rglob("*")) if not p.is_dir()]
            student, files = _student((top.name, "")), [file for file in files if not _ignored(file[0])]
        else:
            student, files = _student((top.name,)), [((top.name,), top, None)]
        yield from ((student, top.name, file) for file in files or [((), None, None)])


def _in_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except Exception:
        yield (f"{path.stem}.ipynb",), path, ""  # reading it will say what is wrong
        return
    for name in names:
        parts = tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", "."))
        if parts and not _ignored(parts):
            yield parts, path, name


def _unwrapped(inside):
    """A class's files, without a folder around all of them."""
    tops = {parts[0] for parts, _, _ in inside}
    around = len(tops) == 1 and not MOODLE.fullmatch(*tops) and all(len(parts) > 2 for parts, _, _ in inside)
    return [(parts[around:], path, name) for parts, path, name in inside]


def _from_a_system(parts):
    return bool(MOODLE.fullmatch(parts[0]) or (len(parts) == 1 and CANVAS.fullmatch(parts[0])))


def _ignored(parts):
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _student(parts):
    """The student's id, from the folder or else the file's name: fit for a path, a table and the gradebook, and nobody else's."""
    name = unicodedata.normalize("NFC", parts[0])  # a Mac takes letters and their accents apart
    name = name if len(parts) > 1 else PurePosixPath(name).stem or name
    if match := MOODLE.fullmatch(name):
        name = match[1]
    elif len(parts) == 1 and (match := CANVAS.fullmatch(name)):
        name = f"{match['who']}_{match['id']}"
    known = name.encode("utf-8", "surrogateescape")
    spelled = name[:1] + "".join(char for char in name[1:] if not _is_mark(char))
    if PLAIN.fullmatch(spelled) and len(known) <= BYTES and name == name.strip(" ."):
        return name
    begins = _plain(name).strip("_.-+@")[:60].encode()[: BYTES - 9].decode(errors="ignore")
    return f"{begins}-{hashlib.sha256(known).hexdigest()[:8]}"


def _plain(name):
    """Without what a path or a message may trip over: the letters of every language stay, what turns the text round does not."""
    return re.sub(r"[^\w.@+-]", lambda char: char[0] if _is_mark(char[0]) else "_", name)


def _is_mark(char):
    """Whether a character belongs to the letter before it, as a vowel does in Hindi or Thai: no letter to Python."""
    return unicodedata.category(char).startswith("M")


def _pick(student, sources, assignment):
    """Of a student's files the one to mark: that of the assignment's name, else the last."""
    if len(sources) > 1:
        places = ", ".join(map(_plain, sorted(sources)))
        return Submission(student, None, problem=("failed", f"several submissions have this name: {places}"))
    ((source, files),) = sources.items()
    notebooks = [file for file in files if file[0] and file[0][-1].endswith(".ipynb")]
    if not notebooks:
        others = ", ".join(_plain(parts[-1]) for parts, _, _ in files[:3] if parts)
        reason = f"no notebook, only {others}" if others else "no notebook in the folder"
        return Submission(student, None, problem=("missing", reason))

    def order(file):
        stem = file[0][-1].removesuffix(".ipynb")
        return stem == assignment, assignment in stem, stem

    _, path, member = max(notebooks, key=order)
    return Submission(student, path, member)
