"""For the tests of marking: a small assignment of two exercises and a text, and what students hand in."""

import contextlib
import csv
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rnncourse.__main__ import app
from rnncourse.grading import classroom
from rnncourse.grading.proxies import Zygote

ROOT = Path(__file__).parent.parent
RIGHT = {
    "step_jacobian": "def step_jacobian(h_t, W_hh):\n    return (1 - h_t**2).unsqueeze(1) * W_hh",
    "gradient_magnitude": "def gradient_magnitude(sigma, slope, steps):\n    return (slope * sigma) ** steps",
}
WRONG = "def step_jacobian(h_t, W_hh):\n    return W_hh"  # forgot tanh'
TEXT = "Because it is a bound."
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def named(cell, name, **about):
    """A cell as nbgrader knows it."""
    usual = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3, "grade_id": name}
    cell.metadata["nbgrader"] = usual | about
    return cell


def solved():
    """The assignment's source."""
    cells = [named(new_code_cell("import torch\nfrom rnncourse.exercises import check, hint"), "setup", locked=True)]
    for name, answer in RIGHT.items():
        head, body = answer.split("\n", 1)
        marked = f"{head}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        hidden = f"### BEGIN HIDDEN TESTS\nsecret_of_the_tests = 7\n### END HIDDEN TESTS\ncheck.{name}({name})"
        cells += [new_markdown_cell(f"## {name}"), named(new_code_cell(marked), f"answer_{name}", solution=True)]
        cells += [named(new_code_cell(hidden), f"check_{name}", grade=True, locked=True, points=1)]
    cells += [named(new_markdown_cell(TEXT), "text_1", grade=True, solution=True, points=3)]
    return new_notebook(cells=cells, metadata=PYTHON)


def released():
    """What a student gets, as nbgrader makes it of ``solved()`` (but for checksums)."""
    notebook = solved()
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if name.startswith("answer_"):
            cell.source = cell.source.split("\n")[0] + "\n    ...  # your code here"
        elif name.startswith("check_"):
            cell.source = cell.source.split("\n")[-1]
        elif name == "text_1":
            cell.source = "*Your answer here.*"
    return notebook


def filled(first=None, second=None, before=None, text=TEXT):
    """A student's notebook: the answers to the two exercises, a cell of their own before, and the text."""
    notebook = released()
    answers = {"answer_step_jacobian": first, "answer_gradient_magnitude": second, "text_1": text}
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell.source = answers[name] if answers[name] is not None else RIGHT[name.removeprefix("answer_")]
    if before is not None:
        notebook.cells.insert(1, new_code_cell(before))
    return notebook


def write(path, notebook):
    """A notebook, or the bytes of what should be one, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(notebook, bytes):
        path.write_bytes(notebook)
    else:
        path.write_text(json.dumps(notebook), encoding="utf-8")


def assignment(folder):
    """The source's path."""
    path = folder / "two_SOLVED.ipynb"
    nbformat.write(solved(), path)
    return path


def options(folder, out, source, *more):
    """What to write after ``rnncourse``."""
    return list(map(str, ["grade", folder, "--out", out, "--source", source, *more]))


def command(folder, out, source, *more):
    return [sys.executable, "-m", "rnncourse", *options(folder, out, source, *more)]


def grade(folder, out, source, *more):
    """``rnncourse grade``, as a ``CompletedProcess``."""
    return run(options(folder, out, source, *more))


def run(asked):
    """``rnncourse`` in this process, which has imported everything already, as a ``CompletedProcess``."""
    said, complained, status = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            app(asked)
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(asked, status, said.getvalue(), complained.getvalue())


@contextlib.contextmanager
def one_zygote(hidden):
    """All classes that this process grades meanwhile have their submissions run by one zygote: each start takes seconds."""
    with Zygote([hidden]) as zygote, pytest.MonkeyPatch.context() as patch:
        patch.setattr(classroom, "Zygote", lambda hidden, memory, isolate: contextlib.nullcontext(zygote))
        yield zygote


def grade_apart(folder, out, source, *more, user=None):
    """The same in a process of its own, with a zygote of its own, as an ordinary user if asked."""
    if user is None:
        process, said = forked(grade_alone, folder, out, source, *more)
        run = said.recv()
        process.join()
        return run
    asked = [*as_user(user), *command(folder, out, source, *more)]
    return subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)


def grade_alone(*asked):
    classroom.Zygote = Zygote  # whatever zygote others share
    return grade(*asked)


def why_not_isolated(user=None):
    """Why submissions can't be isolated here, by the user asked for; "" if they can."""
    script = "import sys; from rnncourse.grading.jail import Jail, rehearsed; "
    script += "print(rehearsed(Jail(sys.argv[1], [], 2**31)._start_over) or '')"
    with tempfile.TemporaryDirectory() as view:
        os.chmod(view, 0o777)
        asked = [*as_user(user), sys.executable, "-c", script, view]
        return subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()


def forked(work, *arguments):
    """Start a copy of this process, in which everything is imported, to do some work: (the process, where its result comes)."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(work(*arguments)))
    process.start()
    there.close()  # so that a process that dies is heard of
    return process, here


def as_user(user):
    """What to put before a command that root runs so that an ordinary user runs it, also where root alone can read Python."""
    if user is None:
        return []
    python = Path(sys.base_prefix).resolve()
    closed = next((p for p in reversed(python.parents) if not p.stat().st_mode & 1), None)
    show = ""
    if closed:  # in a mount namespace of its own, an open folder with only Python in it stands in its place
        show = f"mkdir -p /run/python-{user} && mount --bind {python} /run/python-{user} && mount -t tmpfs -o mode=755 none {closed}"
        show += f" && mkdir -p {python} && mount --bind /run/python-{user} {python} && "
    script = f'mount --make-rprivate / && {show}exec setpriv --reuid={user} --regid={user} --clear-groups "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh", "env", "HOME=/tmp"]


def can_be_user():
    return os.geteuid() == 0 and all(map(shutil.which, ("unshare", "setpriv")))


def table(out):
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}
