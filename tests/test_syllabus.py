"""notebooks/README.md, the syllabus: its tables name the notebooks' sections, its minutes add up, its commands exist.

A rule takes the syllabus' text (and what it is held against) and returns its complaints, one sentence each.
"""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
import typer

from rnncourse.__main__ import app
from rnncourse.exercises import EXERCISES

ROOT = Path(__file__).parent.parent
SYLLABUS = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
COLUMNS = ["section", "min", "show", "ask", "expect", "cut"]
PATHS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}


def sections(path):
    """The section headings of a notebook, in order."""
    notebook = nbformat.read(path, as_version=4)
    markdown = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [line[3:].strip() for source in markdown for line in source.splitlines() if line.startswith("## ")]


def parts(text):
    """{heading: what stands below it}, of the headings with two marks."""
    found = re.split(r"(?m)^## (.+)\n", text)[1:]
    return dict(zip((heading.strip() for heading in found[::2]), found[1::2]))


def rows(text):
    """The cells of each line of a table in ``text``, without the line below the head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def minutes(text):
    """{"01_sequences": {section: minutes}, ...}, as the syllabus' tables say."""
    tables = {name: rows(part)[1:] for name, part in parts(text).items() if re.match(r"\d\d_", name)}
    return {name: {row[0]: int(row[1]) for row in table} for name, table in tables.items()}


def code(text):
    """What stands in code: indented blocks and `...`."""
    return re.findall(r"(?m)^    (\S.*)$", text) + re.findall(r"`([^`\n]+)`", text)


# -- the rules ---------------------------------------------------------------------------------------------------------


def tables_are_the_notebooks(text, notebooks):
    """Each notebook has a heading and one table, whose first column is its sections, in their order."""
    found, complaints = parts(text), []
    if [name for name in found if re.match(r"\d\d_", name)] != list(notebooks):
        complaints.append("the headings are not the notebooks, in their order")
    for name in notebooks.keys() & found.keys():
        head, *table = rows(found[name])
        if head != COLUMNS:
            complaints.append(f"{name}: the columns are {head}")
        if any(len(row) != len(COLUMNS) or not all(row) for row in table):
            complaints.append(f"{name}: a row has an empty cell, or too few, or too many")
        if (here := [row[0] for row in table]) != notebooks[name]:
            complaints.append(f"{name}: the sections are {here}, in the notebook {notebooks[name]}")
    return complaints


def minutes_are_the_readme_s(text, readme):
    said = {name: int(number) for name, number in re.findall(r"(?m)^\| \[(\d\d_\w+)\]\([^)]*\) \| (\d+) \|", readme)}
    here = {name: sum(table.values()) for name, table in minutes(text).items()}
    return [
        f"{name}: {here.get(name)} minutes here, {said.get(name)} in the course's README"
        for name in sorted(said.keys() | here.keys())
        if said.get(name) != here.get(name)
    ]


def named_sections(cell, known):
    """(notebook, section) for all sections that a cell names: **NN** *section* to *section*, *section*."""
    found = []
    for number, names in re.findall(r"\*\*(\d\d)\*\*((?:(?:,| to)? \*[^*]+\*)+)", cell):
        (notebook,) = [name for name in known if name.startswith(number)]
        order = list(known[notebook])
        for joined, name in re.findall(r"(,| to)? \*([^*]+)\*", names):
            if name not in order:
                raise ValueError(f"{notebook} has no section {name!r}")
            first = order.index(found[-1][1]) + 1 if joined == " to" else order.index(name)
            found += [(notebook, section) for section in order[first : order.index(name) + 1]]
    return found


def timetables(text):
    """{plan: its rows}, a row (when it begins, minutes, what)."""
    found = re.split(r"(?m)^### (.+)\n", parts(text)["Three plans"])[1:]
    return {plan: rows(part)[1:] for plan, part in zip(found[::2], found[1::2])}


def timetables_add_up(text):
    """Each row begins where the one before ends; one that names sections is as long as they are; breaks are there."""
    known, complaints = minutes(text), []
    for plan, table in timetables(text).items():
        end, taught = None, []
        for begins, length, what in table:
            if begins.startswith("**"):  # a day's or a meeting's name: the clock begins anew
                end = None
                continue
            place, (hour, minute) = f"{plan}, {begins}", map(int, begins.split(":"))
            if end not in (None, 60 * hour + minute):
                complaints.append(f"{place}: the row before ends at {end // 60}:{end % 60:02d}")
            end = 60 * hour + minute + int(length)
            try:
                named = named_sections(what, known)
            except ValueError as error:
                complaints.append(f"{place}: {error}")
                continue
            needed = sum(known[notebook][section] for notebook, section in named)
            if named and needed != int(length):
                complaints.append(f"{place}: {length} minutes for sections of {needed}")
            if what.startswith("**") and not named:
                complaints.append(f"{place}: a notebook without a section")
            complaints += [f"{place}: {section} a second time" for section in named if section in taught]
            taught += named
        if "Break" not in [what for *_, what in table]:
            complaints.append(f"{plan}: no break")
    return complaints


def sections_named_exist(text):
    """Anywhere in the syllabus, **NN** *section* is a section of that notebook."""
    try:
        named = named_sections(text, minutes(text))
    except ValueError as error:
        return [str(error)]
    return [] if named else ["no section is named"]


def commands_exist(text, makefile):
    """Each `rnncourse ...` is a command of typer's with its options, each `make ...` a target with make's variables."""
    commands, complaints = typer.main.get_command(app).commands, []
    options = {name: {o for p in command.params for o in p.opts} for name, command in commands.items()}
    targets = re.search(r"(?m)^\.PHONY: (.*)$", makefile)[1].split()
    variables = re.findall(r"(?m)^(\w+) \?=", makefile)
    for line in code(text):
        words = shlex.split(line, comments=True)
        while words and words[0].startswith("PIP_"):  # pip's own, which make hands on
            words.pop(0)
        if len(words) > 1 and words[0].split("/")[-1] == "rnncourse":
            given = [word.split("=")[0] for word in words if word.startswith("--")]
            wrong = [o for o in given if o not in options.get(words[1], ())]
            complaints += [f"{line}: no command {words[1]}"] * (words[1] not in commands)
            complaints += [f"{line}: no option {option}" for option in wrong]
        elif len(words) > 1 and words[0] == "make":
            wrong = [word.split("=")[0] for word in words[2:] if word.split("=")[0] not in variables]
            complaints += [f"{line}: no target {words[1]}"] * (words[1] not in targets)
            complaints += [f"{line}: no variable {name}" for name in wrong]
        elif re.fullmatch(r"--\w[\w-]*", line) and not any(line in known for known in options.values()):
            complaints.append(f"{line}: an option of no command")
    return complaints


def messages_are_the_checks_own(text, notebook):
    """In the table of mistakes, each is 3a, `exercise`: "words of a message of its", 3a as in the notebook."""
    complaints, place, places = [], "", {}
    for cell in notebook.cells:
        heading = re.match(r"### (\d\w) · ", cell.source)
        place = heading[1] if heading else place
        if (name := cell.metadata.get("nbgrader", {}).get("grade_id", "")).startswith("answer_"):
            places[name.removeprefix("answer_")] = place
    for row in rows(parts(text)["What the class report says, and what to do about it"])[1:]:
        place, name, words = re.fullmatch(r'(\d\w), `(\w+)`: "(.+)"', row[1]).groups()
        if places.get(name) != place:
            complaints.append(f"{name} is {places.get(name)} in the notebook, {place} here")
        elif not any(words in mistake.message for mistake in EXERCISES[name].mistakes):
            complaints.append(f"{name}: no message says {words!r}")
    return complaints


def calls_exist(text, sources):
    """Each name in code that looks like Python's, `explore_unit()` or `make_windows`, stands in some notebook."""
    names = set(re.findall(r"`([a-z]\w*_\w+)(?:\([^`\n]*)?`", text))
    return [f"`{name}` stands in no notebook" for name in sorted(names) if name not in sources]


def points_are_the_notebook_s(text, notebook):
    """The points of 08, those from checks and those for words, as nbgrader has them."""
    graded = [
        (cell.cell_type, cell.metadata.nbgrader.points)
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    by_check, in_words = (sum(points for kind, points in graded if kind == which) for which in ("code", "markdown"))
    sentences = f"{by_check} from checks and {in_words} for what is written", f"`0 of {by_check} points`"
    return [f"not said: {sentence}" for sentence in sentences if sentence not in " ".join(text.split())]


def links_lead_somewhere(text):
    """Files that are linked are there."""
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    return [f"{link} is not there" for link in links if link and not (ROOT / "notebooks" / link).exists()]


# -- the syllabus keeps to them, and each can say no -------------------------------------------------------------------


NOTEBOOKS = {name: sections(path) for name, path in PATHS.items()}
EXERCISES_NOTEBOOK = nbformat.read(PATHS["08_exercises"], as_version=4)
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SOURCES = "\n".join(c.source for path in PATHS.values() for c in nbformat.read(path, as_version=4).cells)
RULES = {
    "tables": lambda text: tables_are_the_notebooks(text, NOTEBOOKS),
    "minutes": lambda text: minutes_are_the_readme_s(text, README),
    "timetables": timetables_add_up,
    "sections": sections_named_exist,
    "commands": lambda text: commands_exist(text, MAKEFILE),
    "messages": lambda text: messages_are_the_checks_own(text, EXERCISES_NOTEBOOK),
    "points": lambda text: points_are_the_notebook_s(text, EXERCISES_NOTEBOOK),
    "calls": lambda text: calls_exist(text, SOURCES),
    "links": links_lead_somewhere,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_syllabus_keeps_to_the_rule(rule):
    assert RULES[rule](SYLLABUS) == []


FAULTS = [  # rule, what stands in the syllabus, what would be wrong in its place
    ("tables", "| 4 · Does the order matter? |", "| 4 · Does order matter? |"),
    ("tables", "## 02_recurrence", "## 02_recurrent"),
    ("tables", "| section | min | show |", "| section | minutes | show |"),
    ("tables", "| Further reading | 1 | Elman 1990 | – |", "| Further reading | 1 | Elman 1990 | |"),
    ("minutes", "| What was proved here | 1 |", "| What was proved here | 2 |"),
    ("timetables", "| 10:15 | 15 | Break |", "| 10:15 | 10 | Break |"),
    ("timetables", "| 9:24 | 18 | **02** *6", "| 9:24 | 18 | **02** *5 · The same network in PyTorch*, *6"),
    ("timetables", "to *Watching it flow* |", "to *Watching it float* |"),
    ("timetables", "| 9:42 | 33 | **03** *How", "| 9:42 | 33 | **03** How"),
    ("sections", "**06** *1 · Which matrices keep lengths?* |", "**06** *1 · Which matrices keep length?* |"),
    ("commands", "rnncourse release", "rnncourse hand-out"),
    ("commands", "--out ../grades", "--into ../grades"),
    ("commands", "`--regrade`", "`--again`"),
    ("commands", "make lab LAB_ARGS", "make laboratory LAB_ARGS"),
    ("commands", "make lab LAB_ARGS", "make lab LAB_OPTIONS"),
    ("messages", "this is only the immediate part", "this is merely the immediate part"),
    ("messages", "3a, `gradient_norms`", "3b, `gradient_norms`"),
    ("messages", '`is_highway`: "you looked', '`is_motorway`: "you looked'),
    ("points", "21 from checks", "20 from checks"),
    ("points", "`0 of 21 points`", "`0 of 30 points`"),
    ("timetables", "| 14:07 | 15 | Break |", "| 14:07 | 15 | **07** *When to use what* |"),
    ("calls", "`explore_unit()`", "`explore_units()`"),
    ("links", "../README.md#", "../READ.md#"),
]


@pytest.mark.parametrize("rule, right, wrong", FAULTS)
def test_the_rule_can_say_no(rule, right, wrong):
    assert right in SYLLABUS
    assert RULES[rule](SYLLABUS.replace(right, wrong)) != []


def test_a_bar_within_a_cell_is_no_border():
    head = "| section | min | show | ask | expect | cut |\n|---|---|---|---|---|---|\n"
    table = f"## 01_a\n\n{head}| A \\| B | 3 | s | a | e | c |\n"
    assert tables_are_the_notebooks(table, {"01_a": ["A \\| B"]}) == []
    assert tables_are_the_notebooks(table, {"01_a": ["A \\| B", "C"]}) != []


def test_minutes_are_held_against_both_sides():
    table = "## 01_a\n\n| section | min |\n|---|---|\n| A | 3 |\n"
    assert minutes_are_the_readme_s(table, "| [01_a](x) | 3 | m | w |") == []
    assert len(minutes_are_the_readme_s(table, "| [01_a](x) | 4 | m | w |")) == 1
    assert len(minutes_are_the_readme_s(table, "| [01_a](x) | 3 | m | w |\n| [02_b](x) | 3 | m | w |")) == 1


def test_a_plan_needs_a_break():
    part = "## Three plans\n\n### A day\n\n| begins | min | what |\n|---|---|---|\n| 9:00 | 60 | Talk |\n"
    assert timetables_add_up(part) == ["A day: no break"]
    assert timetables_add_up(part + "| 10:00 | 15 | Break |\n") == []


def test_the_four_week_course_leaves_out_nothing_of_01_to_07():
    known, table = minutes(SYLLABUS), timetables(SYLLABUS)["A four-week course"]
    taught = [section for *_, what in table for section in named_sections(what, known)]
    assert sorted(taught) == sorted((n, section) for n in known if n < "08" for section in known[n])
