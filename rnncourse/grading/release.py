"""From the solved notebook to what is handed out: the student's copy, the student's pack, the instructor's course folder."""

import copy
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import nbformat
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import IncludeHeaderFooter, InstantiateTests, SaveCells
from traitlets.config import Config

from rnncourse.grading.course import CONFIG, COURSE, STUBS, make_course

ROOT = Path(__file__).parents[2]
SOLVED = "_SOLVED.ipynb"
PACK = "rnn-deep-dive"
# What of the course a student gets, as patterns; the solved notebook, tests and tools stay here.
PARTS = (
    "notebooks/*.ipynb",
    "rnncourse/**/*.py",
    "lab/**/*.json",
    "Makefile",
    "pyproject.toml",
    "environment.yml",
    "LICENSE",
)
WELCOME = """\
# RNN Deep Dive: your copy

Notebooks 01 to 07 teach, 08 is the assignment. With Python 3.10 or newer and make, `make lab` installs everything into this
folder and opens JupyterLab on them. With conda:

    conda env create -f environment.yml
    conda activate rnncourse
    jupyter lab notebooks

On Windows without conda, in a terminal in this folder:

    py -m venv .venv
    .venv\\Scripts\\python -m pip install -e .
    .venv\\Scripts\\python -m jupyterlab notebooks

**Torch without CUDA.** The course needs no GPU, but on Linux, pip's default torch brings some gigabytes of CUDA along. To do
without, choose Linux, Pip and CPU on [pytorch.org](https://pytorch.org/get-started/locally/), and give what follows
`pip3 install` in the command it shows (`torchvision` can be left out) to make:

    make lab TORCH="torch --index-url ..."

Work in `notebooks/{name}.ipynb`. Each function that you write has a check right below it; your sentences go where it says
*Your answer here.* Before you hand the notebook in, run it once more from the top, and look at it the way the marking will:

    .venv/bin/rnncourse check notebooks/{name}.ipynb     # with conda: rnncourse check ...; on Windows: .venv\\Scripts\\rnncourse

Then hand in that one file, under that name, unless you are told otherwise. Code is under the MIT License, prose and figures under
CC BY 4.0 (`LICENSE`).
"""


class CannotRelease(Exception):
    """Nothing can be handed out; the text says why."""


def student_copy(solved):
    """The notebook that a student gets: nbgrader's own release of ``solved``, step by step, without a gradebook."""
    notebook, resources = copy.deepcopy(solved), {}
    steps = GenerateAssignment().preprocessors
    for step in steps:
        if step not in (IncludeHeaderFooter, InstantiateTests, SaveCells):  # need a file, a kernel, a gradebook
            notebook, resources = step(config=Config(ClearSolutions=STUBS)).preprocess(notebook, resources)
    return notebook


def solved_notebook(course=ROOT):
    """Where the course keeps its solved notebook."""
    found = sorted(Path(course, "notebooks", "instructor").glob(f"*{SOLVED}"))
    if not found:
        raise CannotRelease(
            f"no solved notebook in {Path(course, 'notebooks', 'instructor')}: run this from the course's own folder, installed by "
            "`make` or `pip install -e .`"
        )
    return found[0]


def release(out, course=ROOT):
    """Fill ``out``, a new or empty folder, with the student's pack, as a folder and a zip, and the instructor's course folder.

    Returns the three paths. ``CannotRelease`` if ``out`` is no such folder or can't be written, or the course is not all there.
    """
    out, course = Path(out), Path(course)
    solved = solved_notebook(course)
    name = solved.name.removesuffix(SOLVED)
    if out.exists() and not out.is_dir():
        raise CannotRelease(f"OUT: expected a folder, and {out} is a file")
    if out.exists() and any(out.iterdir()):
        raise CannotRelease(f"OUT: expected a new or empty folder, and {out} has something in it already")
    part = out.with_name(f".{out.resolve().name}.{os.getpid()}.part")  # all of it or nothing
    try:
        part.mkdir(parents=True)
        _zip(_student_pack(part / PACK, course, name, solved), part / f"{PACK}.zip")
        _course_folder(part / "instructor", solved)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise CannotRelease(f"OUT: can't write {error.filename or out}: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / PACK, out / f"{PACK}.zip", out / "instructor"


def changed_notebooks(course=ROOT):
    """The names of the notebooks that go out other than the course has them, as git knows them; none where git knows nothing.

    The assignment is not among them: its copy is made from the solved notebook.
    """
    command = ["git", "--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "notebooks"]
    try:
        status = subprocess.run(command, cwd=course, capture_output=True, check=True, timeout=60).stdout
        assignment = solved_notebook(course).name.replace(SOLVED, ".ipynb")
    except (OSError, subprocess.SubprocessError, CannotRelease):
        return []
    paths = [Path(os.fsdecode(entry[3:])) for entry in status.split(b"\0") if entry]  # "XY path"
    return sorted(
        path.name
        for path in paths
        if path.match("notebooks/*.ipynb") and path.name != assignment and Path(course, "notebooks", path.name).exists()
    )


def _course_folder(folder, solved):
    """nbgrader's, which may be moved: the gradebook, which it looks for beside its configuration, is not named there."""
    make_course(folder, solved)
    config = CONFIG.format(course=COURSE, db_url="", **STUBS)
    kept = [line for line in config.splitlines(keepends=True) if "db_url" not in line]
    (folder / "nbgrader_config.py").write_text("".join(kept), encoding="utf-8")
    shutil.rmtree(folder / ".grading", ignore_errors=True)
    (folder / "submitted").mkdir()


def _student_pack(pack, course, name, solved):
    for pattern in PARTS:
        for path in sorted(course.glob(pattern)):
            if ".ipynb_checkpoints" not in path.parts:
                copied = pack / path.relative_to(course)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)
    fresh = student_copy(nbformat.read(solved, as_version=4))
    for path in (
        pack / "notebooks" / f"{name}.ipynb",
        pack / ".release" / f"{name}.ipynb",
    ):  # to work in, and to check against
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(fresh, path)
    (pack / "README.md").write_text(WELCOME.format(name=name), encoding="utf-8")
    return pack


def _zip(folder, archive):
    """A folder as a zip that is the same whenever it is made."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", (2020, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(entry, path.read_bytes())
    return archive


def released_notebook(course=ROOT):
    """(name, notebook): the student's copy as it was handed out, which a submission is held against."""
    handed_out = sorted(Path(course, ".release").glob("*.ipynb"))
    if handed_out:
        return handed_out[0].stem, nbformat.read(handed_out[0], as_version=4)
    solved = solved_notebook(course)
    return solved.name.removesuffix(SOLVED), student_copy(nbformat.read(solved, as_version=4))
