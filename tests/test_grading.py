"""Marking: what every kind of submission gets, what none of them can do, and what people read afterwards."""

import csv
import json
import re
import socket
import subprocess
from pathlib import Path

import nbformat
import pytest

import hostile
import submitting
from submitting import ROOT

SECONDS = 4
USER = 54321
DANGER = ("kills everybody", "a fork bomb")  # only where isolation was seen to work


def student(name):
    return re.sub(r"\W+", "-", name).strip("-")


def table(out):
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def hand_in(folder, notebooks):
    for name, notebook in notebooks.items():
        submitting.write(folder / student(name) / "two.ipynb", notebook)


class Graded:
    """A class that was graded: the folder, where the marks are, and what was said."""

    def __init__(self, root, cases, port, user=None):
        self.subs, self.out, self.source = root / "subs", root / "out", submitting.assignment(root)
        self.out.mkdir()
        others = [self.subs / "right" / "two.ipynb", self.source, self.out / "gradebook.db"]
        places = [self.subs, self.out, ROOT / "notebooks" / "instructor", ROOT / ".git"]
        places += [ROOT / "rnncourse" / "exercises", ROOT / "rnncourse" / "grading"]
        self.new = [
            root / "new",
            self.out / "grades.csv",
            Path("/usr/new-by-a-submission"),
            ROOT / "new-by-a-submission",
        ]
        known = {"port": port, "places": list(map(str, places)), "new": list(map(str, self.new))}
        known["files"] = list(map(str, others))
        notebooks = {name: notebook for name, (notebook, _) in cases.items()}
        for name, notebook in notebooks.items():
            if isinstance(notebook, tuple):
                notebooks[name] = submitting.filled(notebook[0], before=notebook[1].format(**known))
        hand_in(self.subs, notebooks)
        if user:
            for path in (root, *root.rglob("*")):
                path.chmod(0o777 if path.is_dir() else 0o666)
            for parent in root.parents:
                if parent.stat().st_uid == 0 and len(parent.parts) > 2:
                    parent.chmod(parent.stat().st_mode | 0o5)
        self.run = submitting.grade(self.subs, self.out, self.source, "--seconds", SECONDS, "--workers", 2, user=user)
        assert (self.out / "grades.csv").exists(), self.run.stderr
        self.table = table(self.out)

    def marks(self, name):
        row = self.table[student(name)]
        return (
            (int(row["check_step_jacobian"]), int(row["check_gradient_magnitude"]))
            if row["status"] == "graded"
            else None
        )

    def shown(self, name):
        """The text that a submission's cells showed."""
        notebook = nbformat.read(self.out / "autograded" / student(name) / "two" / "two.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return "\n".join(o.get("text", "") or str(o.get("data", "")) or o.get("evalue", "") for o in outputs)


def isolated(root, user=None):
    """Whether submissions are isolated here; the dangerous ones are only run if so."""
    return Graded(root, {"right": hostile.CASES["right"]}, 1, user).table["right"]["isolated"] == "yes"


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def graded(tmp_path_factory, port):
    cases = hostile.CASES
    if not isolated(tmp_path_factory.mktemp("probe")):
        pytest.skip("no namespaces here: hostile submissions are not run")
    return Graded(tmp_path_factory.mktemp("class"), cases, port)


every_case = pytest.mark.parametrize("name", hostile.CASES)


@every_case
def test_everyone_gets_the_marks_deserved(graded, name):
    assert graded.marks(name) == hostile.CASES[name][1], graded.table[student(name)]


# ---------------------------------------------------------------- what they could not do


def test_a_submission_sees_no_solution_no_test_and_nobody_else(graded):
    assert "FOUND []" in graded.shown("reads solutions and others' work")


def test_a_submission_writes_nothing_outside_its_folder(graded):
    assert "WROTE" not in graded.shown("writes to the gradebook")
    assert not any(path.exists() for path in graded.new if path.name.startswith("new"))


def test_a_submission_reaches_no_network(graded):
    assert "REACHED" not in graded.shown("calls home")


def test_nothing_outlives_the_marking(graded):
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in running if b"98765" in command or b"rnncourse.grading.zygote" in command]


def test_output_is_capped(graded):
    sizes = {path: path.stat().st_size for path in (graded.out / "autograded").rglob("*.ipynb")}
    assert max(sizes.values()) < 500_000
    assert "more was printed" in graded.shown("a print of 100 MB")


def test_failed_is_not_zero(graded):
    for name in ("an empty file", "a text", "a list", "nested a million deep"):
        row = graded.table[student(name)]
        assert (row["status"], row["total"], row["check_step_jacobian"]) == ("failed", "", "") and row["reason"]
        assert f"failed: {student(name)}: {row['reason']}" in graded.run.stdout
    assert graded.run.returncode == 1
    assert f"{len(graded.table) - 4} graded, 4 not" in graded.run.stdout


def test_text_answers_wait_for_a_person(graded):
    assert graded.table["right"]["waiting"] == "text_1" and graded.table["right"]["text_1"] == ""
    assert graded.table["a-stub"]["waiting"] == "" and graded.table["a-stub"]["text_1"] == "0"
    assert graded.table["no-metadata"]["waiting"] == "text_1"


# ---------------------------------------------------------------- what people read


def test_feedback_names_the_mistake_and_runs_nothing(graded):
    page = (graded.out / "feedback" / "a-typical-mistake.html").read_text(encoding="utf-8")
    assert "you forgot tanh&#x27;" in page
    for path in [graded.out / "index.html", *(graded.out / "feedback").iterdir()]:
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text and "onerror=alert" not in re.sub(r"&lt;img src=x onerror=alert", "", text), path
        assert "secret_of_the_tests" not in text and "HIDDEN" not in text, path
        assert not re.search(r"(src|href)=.?(https?:)?//", text), path


def test_the_class_at_a_glance(graded):
    page = (graded.out / "index.html").read_text(encoding="utf-8")
    made = sum("you forgot tanh" in path.read_text() for path in (graded.out / "feedback").iterdir())
    assert made > 5 and f"<td>step_jacobian</td><td>this is ∂a_t/∂h_{{t-1}}: you forgot tanh&#x27;" in page
    assert f"unit that receives</td><td>{made}</td>" in page
    assert "the file is no notebook: not JSON" in page and "Not isolated" not in page


def test_the_gradebook_is_nbgraders(graded):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{graded.out / 'gradebook.db'}", "rnncourse") as gradebook:
        submission = gradebook.find_submission("two", "right")
        assert (submission.score, submission.max_score, submission.needs_manual_grade) == (2, 5, True)
        assert gradebook.find_submission("two", student("points raised")).max_score == 5


# ---------------------------------------------------------------- again, by others, by hand, elsewhere

FEW = ("right", "a typical mistake", "a stub", "another style", "os._exit in an answer", "a copied cell")


def few(folder, names=FEW):
    hand_in(folder / "subs", {name: hostile.CASES[name][0] for name in names})
    return folder / "subs", submitting.assignment(folder)


@pytest.fixture(scope="module")
def a_few(tmp_path_factory):
    """A small class that was graded, to look at; tests that change it take ``again``."""
    folder = tmp_path_factory.mktemp("few")
    subs, source = few(folder)
    run = submitting.grade(subs, folder / "out", source, "--workers", 1, "--json")
    return folder, run


def test_as_json(a_few):
    folder, run = a_few
    summary = json.loads(run.stdout)
    assert (run.returncode, summary["graded"], summary["failed"], summary["missing"]) == (0, len(FEW), 0, 0)
    right = next(row for row in summary["rows"] if row["student"] == "right")
    assert right["total"] == 2 and right["waiting"] == ["text_1"]


@pytest.mark.parametrize("workers", [2, 4])
def test_marks_do_not_depend_on_the_number_of_workers(a_few, tmp_path, workers):
    folder, _ = a_few
    run = submitting.grade(folder / "subs", tmp_path / "out", folder / "two_SOLVED.ipynb", "--workers", workers)
    assert run.returncode == 0
    assert (tmp_path / "out" / "grades.csv").read_bytes() == (folder / "out" / "grades.csv").read_bytes()


def test_marks_given_by_hand_are_kept_and_exported(tmp_path):
    from nbgrader.api import Gradebook

    subs, source = few(tmp_path, ("right", "a stub"))
    out = tmp_path / "out"
    submitting.grade(subs, out, source)
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}", "rnncourse") as gradebook:
        grade = gradebook.find_grade("text_1", "two", "two", "right")
        grade.manual_score, grade.needs_manual_grade = 2.5, False  # as the Formgrader does
        gradebook.find_comment("text_1", "two", "two", "right").manual_comment = "Good <b>point</b>."
        gradebook.db.commit()
    for options in ((), ("--regrade",)):
        submitting.grade(subs, out, source, *options)
        row = table(out)["right"]
        assert (row["text_1"], row["total"], row["waiting"]) == ("2.5", "4.5", ""), options
        assert "Good &lt;b&gt;point&lt;/b&gt;." in (out / "feedback" / "right.html").read_text()
    submitting.write(subs / "right" / "two.ipynb", submitting.filled(text="Another answer."))
    submitting.grade(subs, out, source)
    row = table(out)["right"]
    assert (row["text_1"], row["waiting"]) == ("2.5", "text_1")  # kept, and worth another look
