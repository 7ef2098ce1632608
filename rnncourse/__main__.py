"""The command ``rnncourse``."""

import typer

from rnncourse.grading.command import grade

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(grade)


@app.callback()
def main():
    """RNN Deep Dive, for those who teach with it."""


if __name__ == "__main__":
    app()
