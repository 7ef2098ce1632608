"""The command ``rnncourse``."""

import typer

from rnncourse.grading.command import grade
from rnncourse.grading.handout import check, release

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (release, check, grade):
    app.command()(command)


@app.callback()
def main():
    """RNN Deep Dive: hand out the exercises, check your own, mark a class's."""


if __name__ == "__main__":
    app()
