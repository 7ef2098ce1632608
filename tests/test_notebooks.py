"""What every committed notebook keeps to, each rule shown to bite; and tools/notebooks.py, which runs and cleans them.

A rule takes a notebook and returns its complaints, one sentence each.
"""

import copy
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks as tool

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def tags(cell):
    return cell.metadata.get("tags", [])


def is_marked(notebook):
    """Whether it is a notebook of exercises: checks with points, and no claims of its own."""
    return any(cell.metadata.get("nbgrader", {}).get("grade") for cell in notebook.cells)


def first_line(cell):
    return cell.source.splitlines()[0]


def text(cells):
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


# -- the rules ---------------------------------------------------------------------------------------------------------


def is_valid(notebook):
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [str(error).splitlines()[0]]
    version = f"{notebook.nbformat}.{notebook.nbformat_minor}"
    return [] if version == "4.5" else [f"its format is {version}, not 4.5"]


def has_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"its cells ran in the order {counts}"]


def is_clean(notebook):
    cleaned = tool.clean(copy.deepcopy(notebook))
    if cleaned == notebook:
        return []
    cells = [i for i, (old, new) in enumerate(zip(notebook.cells, cleaned.cells)) if old != new]
    return [f"`make notebooks` would change its metadata or stored outputs (cells {cells})"]


def has_no_errors(notebook):
    return [
        f"the cell `{first_line(cell)}` has a stored error: {output.ename}"
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error" and "raises-exception" not in tags(cell)
    ]


def names_no_machine(notebook):
    sources = [f"a source names {path}" for c in notebook.cells if (path := tool.find_machine_path(c.source))]
    return sources + tool.problems(notebook)


def pictures_have_words(notebook):
    complaints = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
                alt = output.metadata.get(kind, {}).get("alt", "")
                if len(alt) < 20:
                    complaints.append(f"a figure of `{first_line(cell)}` has as alternative text only {alt!r}")
    if re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", text(notebook.cells)):
        complaints.append("a picture in the text has no alternative text")
    return complaints


def proves_what_it_says(notebook):
    if is_marked(notebook):
        return []
    lines = [
        line
        for cell in code_cells(notebook)
        if "claim(" in cell.source
        for output in cell.outputs
        for line in output.get("text", "").splitlines()
    ]
    claims = sum(line.startswith("✔") for line in lines)
    return [] if claims >= 5 else [f"it proves {claims} claims, fewer than five"]


def cells_are_short(notebook):
    complaints = []
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        if len(lines) > 40:
            complaints.append(f"the cell `{lines[0]}` has {len(lines)} lines, more than 40")
        complaints += [f"a line of {len(line)} characters: {line[:40]}…" for line in lines if len(line) > 110]
    return complaints


def nothing_escapes_comparison(notebook):
    """Only a cell that prints a varying number may be left out of nbval's comparison, and never one with a claim."""
    complaints = []
    for cell in code_cells(notebook):
        marks = re.findall(r"^\s*#\s*(NBVAL_\w+)", cell.source, re.MULTILINE)
        marks += [tag.upper().replace("-", "_") for tag in tags(cell)]
        if "NBVAL_SKIP" in marks:
            complaints.append(f"the cell `{first_line(cell)}` is never tested")
        if "NBVAL_IGNORE_OUTPUT" in marks:
            if "claim(" in cell.source:
                complaints.append(f"the cell `{first_line(cell)}` has a claim that nbval does not compare")
            by_learner = "experiment" in tags(cell)  # runs what the learner writes, and says so while there is nothing
            if not by_learner and not any(re.search(r"\d", tool.output_text(output)) for output in cell.outputs):
                complaints.append(f"the cell `{first_line(cell)}` is not compared, though no number in it varies")
    return complaints


def tags_are_known(notebook):
    """A tag that nobody reads does nothing: nbval, for one, knows its own in small letters only."""
    known = {"experiment", "raises-exception", "nbval-ignore-output", "nbval-skip"}
    return [
        f"the cell `{first_line(cell)}` has the unknown tag {tag!r}"
        for cell in code_cells(notebook)
        for tag in tags(cell)
        if tag not in known
    ]


def hides_nothing_by_semicolon(notebook):
    """nbval runs cells without IPython's history, where a closing `;` hides nothing: the outputs would differ."""
    return [
        f"the cell ending in `{cell.source.splitlines()[-1]}` hides its value by a semicolon: assign it to `_`"
        for cell in code_cells(notebook)
        if re.search(r";\s*(#[^\n]*)?$", cell.source)
    ]


def opens_with_objectives(notebook):
    first_code = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), 0)
    opening = text(notebook.cells[:first_code])
    wanted = {
        "a title": r"\A# \S",
        "what you will be able to do": r"able to",
        "its minutes": r"\d+\s*min",
        "what it needs": r"\bneed|\bbefore\b|prerequisite",
    }
    return [f"its opening lacks {what}" for what, form in wanted.items() if not re.search(form, opening, re.IGNORECASE)]


def closes_with_summary(notebook):
    last_code = max((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), default=0)
    complaints = []
    summary = "score_sheet(" if is_marked(notebook) else "claims.summary()"
    if summary not in notebook.cells[last_code].source:
        complaints.append(f"its last code cell is not {summary}")
    closing = text(notebook.cells[last_code:])
    for what, form in {"further reading": r"further reading", "the door to the next": r"\bnext\b"}.items():
        if not re.search(form, closing, re.IGNORECASE):
            complaints.append(f"after claims.summary() it lacks {what}")
    return complaints


def wraps_without_accidents(notebook):
    """A line of a paragraph that happens to start with a minus, a plus, a star, a "1." or a "#" would become a list or a heading."""
    complaints = []
    for one in notebook.cells:
        if one.cell_type == "markdown":
            prose = re.sub(r"^(```|\$\$).*?\1", "", one.source, flags=re.MULTILINE | re.DOTALL)
            for paragraph in re.split(r"\n\s*\n", prose):
                first, *rest = paragraph.strip("\n").split("\n")
                if not re.match(MARKER, first):
                    complaints += [f"a line of a paragraph begins like a list: {x[:40]}" for x in rest if re.match(MARKER, x)]
    return complaints


MARKER = r"\s*([-+*]|1[.)]|#+)\s|\s*(=+|-+)\s*$"

RULES = [
    is_valid,
    has_run_in_order,
    is_clean,
    has_no_errors,
    names_no_machine,
    pictures_have_words,
    proves_what_it_says,
    cells_are_short,
    nothing_escapes_comparison,
    tags_are_known,
    hides_nothing_by_semicolon,
    wraps_without_accidents,
    opens_with_objectives,
    closes_with_summary,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, rule):
    assert rule(nbformat.read(path, as_version=4)) == []


# -- each rule against a notebook that breaks it -----------------------------------------------------------------------


def stdout(words, name="stdout"):
    return new_output("stream", name=name, text=words)


def picture(alt):
    return new_output("display_data", data={"image/png": "iVBORw0="}, metadata={"image/png": {"alt": alt}})


def error():
    return new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])


def cell(source, *outputs, tags=(), **more):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {}, **more)


def made_up(*extra):
    """A notebook that keeps to every rule, with the cells `extra` before its closing."""
    claims = [cell(f'claim("{i}", True)', stdout(f"✔ {i}\n")) for i in range(5)]
    opening = new_markdown_cell("# Tiny\n\nYou will be able to add, in 5 minutes. It needs nothing.")
    closing = new_markdown_cell("## Further reading\n\nA paper. Next: 02.")
    notebook = new_notebook(cells=[opening, *claims, *extra, cell("claims.summary()", stdout("5 claims\n")), closing])
    return tool.clean(notebook)


def without(what):
    """The made-up notebook without the words `what` in its text and sources."""
    notebook = made_up()
    for one in notebook.cells:
        one.source = one.source.replace(what, "")
    return notebook


def changed(change, *extra):
    notebook = made_up(*extra)
    change(notebook)
    return notebook


def marked(*extra, closing="score_sheet('f')"):
    """A notebook of exercises that keeps to every rule."""
    notebook = made_up(*extra)
    notebook.cells[-2].source = closing
    notebook.cells[1] = cell("check.f(f)", stdout("1\n"))
    notebook.cells[1].metadata["nbgrader"] = {"grade": True, "grade_id": "check_f"}
    del notebook.cells[2:6]
    return tool.clean(notebook)


GOOD = [
    made_up(),
    marked(),
    marked(cell("run(f)", stdout("not written yet\n"), tags=["experiment", "nbval-ignore-output"])),
    made_up(cell("1 / 0", error(), tags=["raises-exception"])),
    made_up(cell("plot()", picture("A line that rises from 0 to 1.")), cell("_ = plot()"), cell("f('a;b')")),
    made_up(cell("# NBVAL_IGNORE_OUTPUT\nprint(seconds)", stdout("1.2 s\n"))),
    made_up(new_markdown_cell("- a list\n- of two\n\n$$\na\n- b\n$$\n\nand -1\n-1 apart.")),
    made_up(new_markdown_cell("![a loop](loop.png), https://example.org/home/page, dL/dh")),
]

BROKEN = [
    (is_valid, changed(lambda n: n.cells[1].pop("outputs"))),
    (is_valid, changed(lambda n: n.update(nbformat_minor=4) or [one.pop("id") for one in n.cells])),
    (has_run_in_order, changed(lambda n: n.cells[2].update(execution_count=None))),
    (has_run_in_order, changed(lambda n: n.cells[2].update(execution_count=7))),
    (is_clean, changed(lambda n: n.metadata.update(widgets={}))),
    (is_clean, changed(lambda n: n.cells[1].metadata.update(execution={"iopub.status.busy": "2026-01-01"}))),
    (is_clean, changed(lambda n: n.cells[1].outputs.append(new_output("display_data", {tool.WIDGET_VIEW: {}})))),
    (has_no_errors, made_up(cell("1 / 0", error()))),
    (names_no_machine, made_up(cell("print(path)", stdout("read /home/ada/rnn/names.txt\n")))),
    (names_no_machine, made_up(cell("path", new_output("execute_result", {"text/plain": "'C:\\\\Users\\\\ada'"})))),
    (names_no_machine, made_up(cell("open('/tmp/names.txt')"))),
    (names_no_machine, made_up(cell("warn()", stdout("careful\n", name="stderr")))),
    (pictures_have_words, made_up(cell("plot()", picture("")))),
    (pictures_have_words, made_up(cell("plot()", picture("a plot")))),
    (pictures_have_words, made_up(new_markdown_cell("![](loop.png)"))),
    (pictures_have_words, made_up(new_markdown_cell('<img src="loop.png">'))),
    (proves_what_it_says, changed(lambda n: n.cells.pop(1))),
    (cells_are_short, made_up(cell("x = 1\n" * 41))),
    (cells_are_short, made_up(cell("x = " + "1" * 110))),
    (nothing_escapes_comparison, made_up(cell("f()", stdout("1\n"), tags=["nbval-skip"]))),
    (nothing_escapes_comparison, made_up(cell("# NBVAL_IGNORE_OUTPUT\nclaim('x', 1)", stdout("✔ 1\n")))),
    (nothing_escapes_comparison, made_up(cell("f()", stdout("fast\n"), tags=["nbval-ignore-output"]))),
    (tags_are_known, made_up(cell("f()", stdout("1\n"), tags=["NBVAL_IGNORE_OUTPUT"]))),
    (hides_nothing_by_semicolon, made_up(cell("plot(); "))),
    (hides_nothing_by_semicolon, made_up(cell("plot();  # hidden"))),
    (wraps_without_accidents, made_up(new_markdown_cell("It is h\n- x and no more."))),
    (wraps_without_accidents, made_up(new_markdown_cell("Some words\n1. and others."))),
    (opens_with_objectives, without("# Tiny")),
    (opens_with_objectives, without("able to")),
    (opens_with_objectives, without("5 minutes")),
    (opens_with_objectives, without("needs")),
    (closes_with_summary, without("claims.summary()")),
    (closes_with_summary, marked(closing="claims.summary()")),
    (closes_with_summary, without("Further reading")),
    (closes_with_summary, without("Next")),
]


@pytest.mark.parametrize("notebook", GOOD)
def test_a_good_notebook_breaks_no_rule(notebook):
    assert [complaint for rule in RULES for complaint in rule(notebook)] == []


@pytest.mark.parametrize("rule, notebook", BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_rule_is_found(rule, notebook):
    assert rule(notebook)


def test_every_rule_has_a_notebook_that_breaks_it():
    assert {rule for rule, _ in BROKEN} == set(RULES)


# -- tools/notebooks.py, and nbval as the Makefile calls it ------------------------------------------------------------

RUN = """\
import sys
from ipywidgets import IntSlider
from tqdm import tqdm
total = sum(tqdm(range(3)))
print(total, sys.prefix)
IntSlider()"""


def write(folder, *cells, name="01_tiny.ipynb"):
    path = folder / name
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def test_execute_runs_in_this_environment_and_keeps_only_what_a_reader_needs(tmp_path):
    path = write(tmp_path, cell(RUN), cell(""), cell("1 / 0", tags=["raises-exception"]), cell("2"))
    before = path.read_text()
    notebook = tool.execute(path)
    printed, slider = notebook.cells[0].outputs
    assert printed.name == "stdout" and printed.text == f"3 {sys.prefix}\n"
    assert set(slider.data) == {"text/plain"} and "IntSlider" in slider.data["text/plain"]
    assert notebook.cells[2].outputs[0].traceback == ["ZeroDivisionError: division by zero"]
    assert [one.execution_count for one in notebook.cells] == [1, None, 2, 3]
    assert notebook.metadata == tool.METADATA
    assert [one.metadata for one in notebook.cells] == [{}, {}, {"tags": ["raises-exception"]}, {}]
    assert [one.id for one in notebook.cells] == [one.id for one in nbformat.read(path, 4).cells]
    assert path.read_text() == before


def test_main_writes_good_notebooks_and_leaves_bad_ones_alone(tmp_path, capsys):
    good = write(tmp_path, cell("1 + 1"), name="good.ipynb")
    fails = write(tmp_path, cell("1 / 0"), name="fails.ipynb")
    tells = write(tmp_path, cell("print('/home/ada/x')"), name="tells.ipynb")
    before = fails.read_text(), tells.read_text()
    assert tool.main([str(path) for path in (good, fails, tells, tmp_path / "none.ipynb")]) == 1
    assert (fails.read_text(), tells.read_text()) == before
    assert nbformat.read(good, 4).cells[0].outputs[0].data == {"text/plain": "2"}
    printed = capsys.readouterr().out
    for words in ["good.ipynb", "ZeroDivisionError", "/home/ada/x", "none.ipynb"]:
        assert words in printed
    once = good.read_text()
    assert tool.main([str(good)]) == 0
    assert good.read_text() == once, "a second run changes the file"


def test_main_fails_where_there_is_no_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    assert tool.main([]) == 1


def test_nbval_runs_this_python_and_fails_on_a_stale_output(tmp_path):
    write(tmp_path, cell("import sys; print(sys.prefix)", stdout(f"{sys.prefix}\n"), execution_count=1))
    write(tmp_path, cell("print(2)", stdout("1\n"), execution_count=1), name="stale.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert "1 failed, 1 passed" in result.stdout and "stale.ipynb" in result.stdout
