"""The command ``rnncourse grade``."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

SOURCES = Path(__file__).parents[2] / "notebooks" / "instructor"


def grade(
    folder: Annotated[
        Path, typer.Argument(metavar="SUBMISSIONS", help="STUDENT/NAME.ipynb, STUDENT.ipynb, or an LMS's zip.")
    ],
    out: Annotated[Path, typer.Option(help="Where grades.csv, index.html, feedback/ and nbgrader's course folder go.")],
    source: Annotated[Path | None, typer.Option(help="The solved notebook. Default: that of notebook 08.")] = None,
    db: Annotated[str | None, typer.Option(help="Gradebook, as an SQLAlchemy URL. Default: SQLite in --out.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions marked at a time.")] = min(os.cpu_count() or 1, 8),
    seconds: Annotated[
        float, typer.Option(min=1, help="For each cell and each call of an answer; ten times that in all.")
    ] = 30,
    memory: Annotated[float, typer.Option(min=0.1, help="GB that each process of a submission may use.")] = 2,
    regrade: Annotated[bool, typer.Option("--regrade", help="Mark all again; marks given by hand stay.")] = False,
    isolate: Annotated[
        bool, typer.Option(hidden=True, help="For the tests: as on a machine without namespaces.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
):
    """Mark a folder of submissions. Stop it at any moment; the same command goes on where it was."""
    typer.echo("Loading ...", err=True)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        from rnncourse.grading.classroom import CannotStart, Class
    except ImportError as error:  # of fcntl and resource, which Windows lacks
        stop(f"Marking a class needs Linux or macOS (on Windows, WSL): {error}")
    try:
        if source is None:
            source = next(iter(sorted(SOURCES.glob("*_SOLVED.ipynb"))), SOURCES / "08_exercises_SOLVED.ipynb")
        summary = Class(folder, out, source, db, workers, seconds, int(memory * 2**30), regrade, isolate).run()
    except CannotStart as error:
        stop(str(error))
    except OSError as error:
        stop(
            f"{error.filename or out}: {error.strerror or error}. What was graded before is intact; run the same command again.",
        )
    except RuntimeError as error:
        stop(str(error))
    except (SQLAlchemyError, ImportError) as error:
        stop(f"--db: the gradebook can't be used: {str(error).splitlines()[0]}. What was graded before is intact.")
    except KeyboardInterrupt:
        stop("Stopped. The same command goes on where it was.", 130)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        tell(summary, out)
    raise typer.Exit(0 if summary["failed"] + summary["missing"] == 0 else 1)


def tell(summary, out):
    """The summary, on the terminal."""
    if not summary["isolated"]:
        typer.secho("NOT ISOLATED: this machine gives no namespaces (" + summary["why_not"] + ").", fg="red", bold=True)
        typer.echo(
            "The submissions ran with limits on time and memory only; files and the network were within their reach."
        )
    for row in summary["rows"]:
        if row["status"] != "graded":
            typer.echo(f"  {row['status']}: {row['student']}: {row['reason']}")
    waiting = sum(len(row["waiting"]) for row in summary["rows"])
    rest = summary["failed"] + summary["missing"]
    typer.echo(f"{summary['graded']} graded, {rest} not ({summary['failed']} failed, {summary['missing']} missing).")
    if waiting:
        typer.echo(
            f"{waiting} text answers wait for a person: open nbgrader's Formgrader on {out}, then run this again."
        )
    typer.echo(f"See {out / 'index.html'}, {out / 'grades.csv'} and {out / 'feedback'}.")


def stop(message, status=2):
    """End the command with a message."""
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(status)
