"""One submission, marked: the student's cells run in the child, nbgrader's test cells here, with proxies for the student's names."""

import ast
import base64
import builtins
import contextlib
import dataclasses
import io
import re
import warnings

from nbformat import NotebookNode
from nbgrader import utils

from rnncourse import exercises
from rnncourse.exercises import checking
from rnncourse.grading.graft import Unreadable, graft, read
from rnncourse.grading.proxies import Student

LONGEST = 2000  # characters of a message
OUTPUT = 200_000  # characters of a cell's output, pictures apart
PICTURE = 4_000_000
PLACE = re.compile(r"<ipython-input-[^>]*>, ")  # IPython's name of a cell, which a syntax error tells
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # nor turn the text round


class Names(dict):
    """The names of a test cell: the released ones, and for any other what the student's process holds."""

    def __init__(self, student):
        super().__init__(__builtins__=builtins, __name__="marking", check=exercises.check)
        self.student = student

    def __missing__(self, name):
        if hasattr(builtins, name):
            return getattr(builtins, name)
        return self.student.look_up(name)


def mark(data, release, control, seconds, seed, alone=True):
    """(record, notebook) of a submission's bytes. The record is what JSON can hold: status, reason, and a result for each test.

    ``seed``, a text, decides on the inputs of the checks. Where others run beside it, not ``alone``, and the student's process
    ends or has to be ended, the status is "again": a busy machine, or a neighbour, may have been the reason.
    """
    try:
        notebook = graft(read(data), release)
    except Unreadable as unreadable:
        return {"status": "failed", "reason": str(unreadable), "results": {}}, None
    checking.seed_all(seed)
    results, broken = {}, ""
    with Student(control, seconds) as student:
        names = Names(student)
        for cell in notebook.cells:
            if student.trouble and not alone:
                return {"status": "again"}, None
            if cell.cell_type != "code" or "experiment" in cell.metadata.get("tags", []):
                continue
            if utils.is_grade(cell) and not utils.is_solution(cell):
                student.exercise()
                outputs, result = evaluate(cell.source, names)
                if result["message"].startswith("NameError") and broken:
                    result["message"] = f"the cell before stopped with {broken}. {result['message']}"
                cell.outputs = outputs
                results[cell.metadata.nbgrader.grade_id] = result | score(cell)
                continue
            if not says_something(cell.source):
                cell.outputs = []
                continue
            if utils.is_locked(cell):
                evaluate(cell.source, names)
            cell.outputs = as_outputs(student.run(cell.source))
            errors = [output for output in cell.outputs if output.output_type == "error"]
            broken = "".join(f"{error.ename}: {PLACE.sub('', error.evalue)}" for error in errors[:1])[:300]
    return {"status": "graded", "reason": "", "results": results}, notebook


def says_something(source):
    """Whether a cell holds more than comments: those of the hints are in every notebook."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in source.splitlines())


def evaluate(source, names):
    """Run a cell of the release in this process: (its outputs, {"status", "message", "exercise"} of the check at its end)."""
    value, outputs, result = None, [], {"status": "", "message": "", "exercise": ""}
    try:
        tree = ast.parse(source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(tree, "<test>", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<test>", "eval"), names)
    except (Exception, checking.OutOfTime) as error:
        kind, text = type(error).__name__, str(error)
        if isinstance(error, checking.Raised):
            kind = error.kind
        kind, text = ANSI.sub("", kind), ANSI.sub("", f"{kind}: {text}")[:LONGEST]
        outputs.append(output("error", ename=kind, evalue=text, traceback=[text]))
        return outputs, result | {"status": "wrong", "message": text}
    if isinstance(value, checking.Result):
        message = ANSI.sub("", value.message)[:LONGEST]
        result = {"status": value.status, "message": message, "exercise": value.exercise}
    if value is not None:
        data = NotebookNode({"text/plain": repr(value)[:LONGEST]})
        if isinstance(value, checking.Result):
            data["text/html"] = dataclasses.replace(value, message=message)._repr_html_()
        outputs.append(output("execute_result", data=data, metadata=NotebookNode(), execution_count=1))
    return outputs, result


def output(kind, **parts):
    """An output of a cell. nbformat's own maker validates each one, which is slow; writing the notebook validates all of them."""
    return NotebookNode(output_type=kind, **parts)


def score(cell):
    """{"score", "points"} of a test cell that has run, as nbgrader reads them."""
    points, most = utils.determine_grade(cell)
    return {"score": points, "points": most}


def as_outputs(sent):
    """What a child says that a cell showed, as outputs of a notebook: text and PNG pictures, nothing that a browser would run."""
    outputs, left = [], OUTPUT
    for item in sent[:1000] if isinstance(sent, list) else ():
        if not isinstance(item, dict):
            continue
        kind, data = item.get("output_type"), item.get("data")
        if kind == "stream":
            text = _text(item.get("text"))[:left]
            name = "stderr" if item.get("name") == "stderr" else "stdout"
            outputs.append(output("stream", name=name, text=text))
        elif kind == "error":
            lines = item.get("traceback") if isinstance(item.get("traceback"), list) else []
            text = "\n".join(_text(line) for line in lines[:100])[:left]
            kind, value = (_text(item.get(key))[:200] for key in ("ename", "evalue"))
            outputs.append(output("error", ename=kind, evalue=value, traceback=text.split("\n") if text else []))
        elif kind in ("display_data", "execute_result") and isinstance(data, dict):
            text = _text(data.get("text/plain"))[:left]
            shown = {"text/plain": text} | ({"image/png": png} if (png := _png(data.get("image/png"))) else {})
            outputs.append(output("display_data", data=NotebookNode(shown), metadata=NotebookNode()))
        else:
            continue
        left -= len(text)
        if left <= 0:
            break
    return outputs


def _text(value):
    return ANSI.sub("", value).encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _png(value):
    """The picture, if it is one."""
    if not isinstance(value, str) or len(value) > PICTURE:
        return None
    try:
        data = base64.b64decode(value)
    except ValueError:
        return None
    return base64.b64encode(data).decode() if data.startswith(b"\x89PNG\r\n\x1a\n") else None
