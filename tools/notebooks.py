"""Run the course's notebooks top to bottom, in place, and keep of each only what a reader needs.

    python tools/notebooks.py                           # all of notebooks/
    python tools/notebooks.py notebooks/03_bptt.ipynb   # this one

A notebook whose run fails, or whose outputs would not do, is left as it was, and the exit status is 1. Where there is a
solved notebook, notebooks/instructor/NAME_SOLVED.ipynb, the student's copy, notebooks/NAME.ipynb, is made from it.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SOLVED = "_SOLVED.ipynb"

# All the metadata a notebook of the course has; the rest (versions, times, widget state) differs from run to run.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"},
}
CELL_METADATA = {"tags", "slideshow", "jupyter", "nbgrader", "editable", "deletable"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# The first folder of a path that exists on one machine only; not part of a URL or of a relative path.
MACHINE_PATH = re.compile(
    r"(?<![\w/.:>-])(?:/(?:home|root|tmp|work|Users|private|opt|usr|var|mnt)/[\w.\-]|[A-Za-z]:\\{1,2}Users\\)[^\s'\",;)]*"
)


def find_machine_path(text):
    """The first path of one machine in `text`, or None."""
    found = MACHINE_PATH.search(text)
    return found and found.group(0)


def output_text(output):
    """All the words of one output: what it printed, its text and HTML forms, its error; not its pictures."""
    parts = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    parts += [data for kind, data in output.get("data", {}).items() if isinstance(data, str) and "image/" not in kind]
    return "\n".join(parts)


def clean_output(output):
    """One output as it is stored: a widget as its text, an error without the files it passed through."""
    output = nbformat.from_dict(dict(output))
    if "data" in output:
        # A stored widget without its kernel shows as "model not found"; its text form says what to do.
        output["data"].pop(WIDGET_VIEW, None)
    if output.output_type == "error":
        output["traceback"] = [f"{output.ename}: {output.evalue}"]
    return output


def clean(notebook):
    """Reduce a notebook to what is stored, in place: sources, numbered outputs, and no trace of the run."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = [clean_output(output) for output in cell.outputs]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def problems(notebook):
    """What must not be stored, one sentence each; strict nbval would trip over it on the next machine."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if path := find_machine_path(output_text(output)):
                found.append(f"cell {number}: its output names a path of this machine: {path}")
            if output.get("name") == "stderr":
                found.append(f"cell {number}: it writes to stderr: {output.text.strip()[:200]}")
    return found


def execute(path, timeout=600):
    """The notebook at `path`, run in a fresh kernel of this Python, and cleaned. The file is not touched.

    Of a notebook with a solved one, it is a fresh student's copy of that.
    """
    solved = path.parent / "instructor" / f"{path.stem}{SOLVED}"
    notebook = nbformat.read(solved if solved.exists() else path, as_version=4)
    if solved.exists():
        from rnncourse.grading.release import student_copy  # not at the top: nbgrader takes a second to import

        notebook = student_copy(notebook)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    # As in the tests (conftest.py): no progress bars, and nothing of what a kernel logs about itself.
    client.execute(env={**os.environ, "TQDM_DISABLE": "1"}, stderr=subprocess.DEVNULL)
    return clean(notebook)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    paths = parser.parse_args(arguments).notebooks
    if not paths:
        solved = sorted(NOTEBOOKS.glob(f"instructor/*{SOLVED}"))
        copies = [NOTEBOOKS / f"{path.name.removesuffix(SOLVED)}.ipynb" for path in solved]
        paths = [*solved, *sorted({*NOTEBOOKS.glob("*.ipynb"), *copies})]
    failed = not paths
    if failed:
        print(f"no notebooks in {NOTEBOOKS.name}/", file=sys.stderr)
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = execute(path)
            complaints = problems(notebook)
        except (OSError, CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            complaints = [str(error).strip()]
        if not complaints:
            nbformat.write(notebook, path)
        failed |= bool(complaints)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", *(complaints or ["written"]), sep="\n    ")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
