"""The commands ``rnncourse release`` and ``rnncourse check``."""

import os
import re
import textwrap
from html import unescape
from pathlib import Path
from typing import Annotated

import typer

from rnncourse.grading.command import stop

SECONDS = 30  # for a cell, and for each answer to a call, as in marking


def release(out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")]):
    """Make the student's pack, as a folder and a zip, and the instructor's course folder for nbgrader."""
    from rnncourse.grading.release import CannotRelease, changed_notebooks
    from rnncourse.grading.release import release as make

    try:
        pack, archive, instructor = make(out)
    except CannotRelease as error:
        stop(str(error))
    if changed := changed_notebooks():
        advice = "To hand out the course's own: git checkout HEAD notebooks (your changes are lost), and release again"
        typer.echo(f"These notebooks differ from the course's, and go out as they are: {', '.join(changed)}. {advice}.", err=True)
    typer.echo(f"{pack}: for each student, notebooks without solutions and what runs them")
    typer.echo(f"{archive}: the same, to upload")
    typer.echo(f"{instructor}: yours alone, nbgrader's course folder with the solutions")


def check(notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="Your copy of the assignment.")]):
    """Run a notebook's checks the way marking does, and say what they found. The notebook is not changed."""
    from rnncourse.grading.graft import Unreadable, read
    from rnncourse.grading.release import CannotRelease, released_notebook

    try:
        data = notebook.read_bytes()
        name, released = released_notebook()
        known = {cell.metadata.nbgrader.grade_id for cell in released.cells if "nbgrader" in cell.metadata}
        if not known & {own for _, _, own in read(data)}:
            stop(f"{notebook}: expected a copy of {name}.ipynb, and this notebook has none of its cells")
    except (OSError, CannotRelease) as error:
        stop(f"{notebook}: {error.strerror}" if isinstance(error, OSError) else str(error))
    except Unreadable as error:
        stop(f"{notebook}: {error}")
    typer.echo("Running the notebook's cells, without the experiments ...", err=True)
    from rnncourse.exercises.checking import SIGNS

    results, marked = _results(data, released, name)
    earned, most = 0.0, 0.0
    for cell, result in results.items():
        earned, most = earned + result["score"], most + result["points"]
        sign = SIGNS.get(result["status"], "✘")
        typer.echo(f"{sign} {cell.removeprefix('check_'):24s} {result['score']:g} of {result['points']:g}")
        if result["status"] != "correct":
            typer.echo(textwrap.indent(textwrap.fill(result["message"], 96), "    "))
    for cell in marked.cells:
        given = cell.metadata.get("nbgrader", {})
        if given.get("grade") and given.get("solution"):
            written = cell.source.strip() != next(c.source for c in released.cells if c.id == cell.id).strip()
            said = "waits for a person" if written else "nothing written yet"
            typer.echo(f"{'✎' if written else '○'} {given.grade_id:24s} {said}, of {given.points:g}")
    typer.echo(f"{earned:g} of {most:g} points from the checks.")


def _results(data, released, name):
    """({check's cell: its result}, the notebook as it was marked): in a jailed child; where there is none to be had, in a kernel."""
    if hasattr(os, "fork"):
        from rnncourse.grading.marking import mark
        from rnncourse.grading.proxies import Broken, Zygote

        try:
            with Zygote() as zygote:
                control, _ = zygote.connect()
                with control:
                    record, marked = mark(data, released, control, SECONDS, name)
                return record["results"], marked
        except (OSError, RuntimeError, Broken):
            pass  # a machine that lets us not: a kernel does it too
    return _in_a_kernel(data, released, name)


def _in_a_kernel(data, released, name):
    """The same with a Jupyter kernel: slower, and the checks run beside the learner's code."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell
    from nbgrader import utils

    from rnncourse.exercises.checking import SIGNS
    from rnncourse.grading.graft import graft, read

    marked = graft(read(data), released)
    run = [cell for cell in marked.cells if "experiment" not in cell.metadata.get("tags", [])]
    seed = new_code_cell(f"from rnncourse.exercises.checking import seed_all\nseed_all({name!r})")
    NotebookClient(
        type(marked)(marked, cells=[seed, *run]),
        timeout=10 * SECONDS,
        allow_errors=True,
        kernel_name="python3",
        interrupt_on_timeout=True,
        shutdown_kernel="immediate",
    ).execute(env={**os.environ, "TQDM_DISABLE": "1"})
    if seed.outputs:  # it says nothing unless it fails
        stop(f"the checks could not be loaded: {seed.outputs[0].get('ename')}: {seed.outputs[0].get('evalue')}")
    results = {}
    for cell in run:
        if utils.is_grade(cell) and not utils.is_solution(cell):
            html = next(
                (o.data["text/html"] for o in cell.outputs if "text/html" in o.get("data", {})), "<p>✘ no result</p>"
            )
            message = re.sub(r" \(\S+ of \d+ points\)$", "", unescape(re.sub(r"<[^>]+>", "", html)))
            score, points = (
                utils.determine_grade(cell) if "✘ no result" not in html else (0, float(cell.metadata.nbgrader.points))
            )
            status = {sign: status for status, sign in SIGNS.items()}.get(message[:1], "wrong")  # check may be their own
            result = {"status": status, "message": message[2:], "score": score, "points": points}
            results[cell.metadata.nbgrader.grade_id] = result
    return results, marked
