"""Marking: what every kind of submission gets, what none of them can do, and what people read afterwards."""

import contextlib
import fcntl
import html
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import alembic.command
import alembic.config
import nbformat
import pytest
from nbgrader import dbutil
from nbgrader.api import Gradebook

import hostile
import submitting
from rnncourse.grading import bench, classroom, course, jail, report, submissions
from rnncourse.grading.graft import Unreadable
from rnncourse.grading.proxies import Student
from hostile import FEW, few, hand_in, student
from submitting import ROOT, table

SECONDS = 2.5
USER = 54321


class Graded:
    """A class that was graded: the folder, where the marks are, and what was said."""

    def __init__(self, root, cases, port, user=None, options=()):
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
        options = ["--seconds", SECONDS, "--workers", 2, *options]
        self.run = submitting.grade_apart(self.subs, self.out, self.source, *options, user=user)
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


@pytest.fixture(scope="module", autouse=True)
def one_zygote(tmp_path_factory):
    """For the classes that are graded in this process; those ``Graded`` are not, and start their own."""
    with submitting.one_zygote(tmp_path_factory.getbasetemp()) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest closes its own to all but its user, whenever another run of it begins."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.fixture(scope="module")
def graded(tmp_path_factory, port):
    cases = hostile.CASES
    if why_not := submitting.why_not_isolated():
        pytest.skip(f"no namespaces here ({why_not}): hostile submissions are not run")
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
    assert not [command for command in running if b"98765" in command]


def test_output_is_capped(graded):
    sizes = {path: path.stat().st_size for path in (graded.out / "autograded").rglob("*.ipynb")}
    assert max(sizes.values()) < 500_000
    assert "more was printed" in graded.shown("a print of 100 MB")


def test_failed_is_not_zero(graded):
    failed = [name for name, (_, marks) in hostile.CASES.items() if marks is None]
    assert {"an empty file", "a text", "a list", "nested a million deep", "cells of 4 MB"} == set(failed)
    for name in failed:
        row = graded.table[student(name)]
        assert (row["status"], row["total"], row["check_step_jacobian"]) == ("failed", "", "") and row["reason"]
        assert f"failed: {student(name)}: {row['reason']}" in graded.run.stdout
    assert graded.run.returncode == 1
    assert f"{len(graded.table) - 5} graded, 5 not" in graded.run.stdout


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
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", text), path  # nothing turns the marker's words round


def test_the_class_at_a_glance(graded):
    page = (graded.out / "index.html").read_text(encoding="utf-8")
    made = sum("you forgot tanh" in path.read_text() for path in (graded.out / "feedback").iterdir())
    assert made > 5 and "<td>step_jacobian</td><td>this is ∂a_t/∂h_{t-1}: you forgot tanh&#x27;" in page
    assert f"unit that receives</td><td>{made}</td>" in page
    assert "the file is no notebook: not JSON" in page and "Not isolated" not in page


def test_the_gradebook_is_nbgraders(graded):
    with Gradebook(f"sqlite:///{graded.out / 'gradebook.db'}", "rnncourse") as gradebook:
        submission = gradebook.find_submission("two", "right")
        assert (submission.score, submission.max_score, submission.needs_manual_grade) == (2, 5, True)
        assert gradebook.find_submission("two", student("points raised")).max_score == 5


def test_a_gradebook_notes_the_version_of_its_tables_that_alembic_s_own_command_finds():
    said = io.StringIO()
    with dbutil._temp_alembic_ini("sqlite://") as settings:
        alembic.command.heads(alembic.config.Config(settings, stdout=said))
    assert said.getvalue().split()[0] == course.tables_version()


# ---------------------------------------------------------------- again, by others, by hand, elsewhere


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


def test_a_submission_s_process_has_no_compiler_loaded(one_zygote):
    control, _ = one_zygote.connect()
    with Student(control, 30) as student:
        (shown,) = student.run("import torch; print(type(torch._dynamo).__name__)")
    control.close()
    assert shown["text"] == "Later\n"


@pytest.fixture
def running(one_zygote):
    """A submission's process, in which cells can be run."""
    control, _ = one_zygote.connect()
    with control, Student(control, 30) as student:
        yield student


@pytest.mark.parametrize("magic", ["%matplotlib inline", "%matplotlib notebook", "%matplotlib widget", "%matplotlib qt\n%gui qt"])
def test_a_magic_for_figures_changes_nothing(running, magic):
    (shown,) = running.run(f"{magic}\nimport matplotlib.pyplot as plt\ndef f():\n    return 7\nplt.plot([1, 2])\nplt.show()")
    assert "image/png" in shown["data"] and running.look_up("f")() == 7
    (shown,) = running.run("plt.subplots()\nplt.show()")
    assert "image/png" in shown["data"]


def test_a_traceback_has_the_frames_of_cells_and_none_of_files(running):
    (shown,) = running.run("import json\ndef f(x):\n    return json.loads(x)\nf('{')")
    text = "\n".join(shown["traceback"])
    assert "line 4" in text and "line 3, in f(x)" in text and "return json.loads(x)" in text
    assert shown["traceback"][-1].startswith("JSONDecodeError: Expecting property name")
    assert "File" not in text and "json/decoder" not in text and "site-packages" not in text
    (shown,) = running.run("import warnings\nwarnings.warn('hm')")
    assert shown["text"] == "UserWarning: hm\n"
    (stopped,) = running.run("import signal\nsignal.raise_signal(signal.SIGALRM)")
    assert stopped["ename"] == "TimeIsUp" and "child.py" not in "\n".join(stopped["traceback"])


@pytest.mark.parametrize("workers", [2, 4])
def test_marks_do_not_depend_on_the_number_of_workers(a_few, tmp_path, workers):
    folder, _ = a_few
    run = submitting.grade(folder / "subs", tmp_path / "out", folder / "two_SOLVED.ipynb", "--workers", workers)
    assert run.returncode == 0
    assert (tmp_path / "out" / "grades.csv").read_bytes() == (folder / "out" / "grades.csv").read_bytes()


def test_marks_given_by_hand_are_kept_and_exported(tmp_path):
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
    submitting.write(subs / "right" / "two.ipynb", submitting.filled(submitting.WRONG))
    submitting.grade(subs, out, source)
    row = table(out)["right"]
    assert (row["text_1"], row["check_step_jacobian"], row["waiting"]) == ("2.5", "0", "")  # the text is the same to the letter
    submitting.write(subs / "right" / "two.ipynb", submitting.filled(text="Another answer."))
    submitting.grade(subs, out, source)
    row = table(out)["right"]
    assert (row["text_1"], row["waiting"]) == ("2.5", "text_1")  # kept, and worth another look


def test_a_text_that_was_deleted_is_none(tmp_path):
    subs, source = few(tmp_path, ("right", "a stub"))
    submitting.write(subs / "blank" / "two.ipynb", submitting.filled(text=" \n\t"))
    assert submitting.grade(subs, tmp_path / "out", source).returncode == 0
    rows = table(tmp_path / "out")
    none = ("0", "", "No response.")
    for name, (score, waiting, said) in {"a-stub": none, "blank": none, "right": ("", "text_1", None)}.items():
        assert (rows[name]["text_1"], rows[name]["waiting"]) == (score, waiting)
        with Gradebook(f"sqlite:///{tmp_path / 'out' / 'gradebook.db'}", "rnncourse") as gradebook:
            assert gradebook.find_comment("text_1", "two", "two", name).auto_comment == said
    assert "nothing written (0 of 3)" in (tmp_path / "out" / "feedback" / "blank.html").read_text()


def test_who_withdraws_is_missing_and_has_no_feedback(tmp_path):
    subs, source = few(tmp_path, ("right", "a stub"))
    page = tmp_path / "out" / "feedback" / "right.html"
    assert submitting.grade(subs, tmp_path / "out", source).returncode == 0 and page.exists()
    (subs / "right" / "two.ipynb").unlink()
    run = submitting.grade(subs, tmp_path / "out", source)
    assert run.returncode == 1 and "1 graded, 1 not (0 failed, 1 missing)" in run.stdout and not page.exists()
    shutil.rmtree(subs)
    subs.mkdir()
    run = submitting.grade(subs, tmp_path / "out", source)
    assert run.returncode == 1 and "0 graded, 2 not (0 failed, 2 missing)" in run.stdout  # those on the roll
    assert not list(page.parent.iterdir())


def test_an_ordinary_user_marks_as_safely(open_folder, port):
    if not submitting.can_be_user():
        pytest.skip("only root can be another user")
    if why_not := submitting.why_not_isolated(USER):
        pytest.skip(f"no user namespaces here: {why_not}")
    attacks = list(hostile.CASES)[list(hostile.CASES).index("its own check") :]
    cases = {name: hostile.CASES[name] for name in ("right", "prints and plots", *attacks)}
    graded = Graded(open_folder, cases, port, USER)
    wrong = {name: graded.marks(name) for name in cases if graded.marks(name) != cases[name][1]}
    assert not wrong
    test_a_submission_sees_no_solution_no_test_and_nobody_else(graded)
    test_a_submission_writes_nothing_outside_its_folder(graded)
    test_a_submission_reaches_no_network(graded)
    test_nothing_outlives_the_marking(graded)


NOT_ISOLATED = (
    "right", "a typical mistake", "an endless answer", "leaves a process behind", "its own check",
    "os._exit in an answer", "5 GB", "a message that is no message", "an enormous result",
)  # fmt: skip


def test_without_namespaces_it_says_so_and_goes_on(open_folder):
    cases = {name: hostile.CASES[name] for name in NOT_ISOLATED}
    graded = Graded(open_folder, cases, 1, options=["--no-isolate"])
    assert {name: graded.marks(name) for name in cases} == {name: marks for name, (_, marks) in cases.items()}
    assert graded.run.returncode == 0 and "NOT ISOLATED" in graded.run.stdout
    assert {row["isolated"] for row in graded.table.values()} == {"no"}
    assert "Not isolated" in (graded.out / "index.html").read_text()
    test_nothing_outlives_the_marking(graded)


def test_stopped_by_hand_it_says_how_to_go_on(tmp_path):
    subs, source = few(tmp_path, ("right", "slow"))
    grading, said = submitting.forked(submitting.grade, subs, tmp_path / "out", source)
    while not (tmp_path / "out" / "release").exists() and grading.is_alive():
        time.sleep(0.1)
    time.sleep(1)
    os.kill(grading.pid, signal.SIGINT)
    run = said.recv()
    assert run.returncode == 130 and "goes on where it was" in run.stderr
    grading.join()


def test_a_full_disk_leaves_what_was_graded(tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    subs, source = few(tmp_path, ("right", "a stub"))
    out, small = tmp_path / "out", tmp_path / "small"
    submitting.grade(subs, out, source)
    before = (out / "grades.csv").read_bytes()
    submitting.write(subs / "late" / "two.ipynb", submitting.filled())
    small.mkdir()

    def grade_on_a_small_disk():
        jail.unshare(jail.NEWNS)  # so that it is mounted for this process alone
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
        shutil.copytree(out, small / "out")
        with contextlib.suppress(OSError), open(small / "rest", "wb") as rest:
            rest.write(bytes(9_000_000))
        return submitting.grade(subs, small / "out", source), (small / "out" / "grades.csv").read_bytes()

    grading, said = submitting.forked(grade_on_a_small_disk)
    run, after = said.recv()
    assert run.returncode == 2 and "No space left" in run.stderr and "intact" in run.stderr
    assert after == before
    grading.join()


@pytest.mark.parametrize(
    "options, said",
    [
        (["no-such-folder", "--out", "OUT"], "SUBMISSIONS"),
        (["SUBS", "--out", "/proc/nowhere"], "--out"),
        (["SUBS", "--out", "SUBS"], "--out: expected a folder outside SUBMISSIONS, where everything is taken for handed in, got"),
        (["SUBS", "--out", "INSIDE"], "--out: expected a folder outside SUBMISSIONS"),
        (["MARKS", "--out", "OUT"], "SUBMISSIONS: expected what was handed in, got a folder of marks"),
        (["EMPTY", "--out", "OUT"], "SUBMISSIONS: expected notebooks, folders or zips of students, and there is nothing in"),
        (["EMPTY.zip", "--out", "OUT"], "and there is nothing in"),
        (["SUBS", "--out", "OUT", "--source", "nothing.ipynb"], "--source"),
        (["SUBS", "--out", "OUT", "--db", "nonsense://x"], "--db"),
        (["SUBS", "--out", "OUT", "--db", "sqlite:////no/such/folder/x.db"], "--db"),
    ],
)
def test_what_cannot_start_says_why(tmp_path, options, said):
    subs, source = few(tmp_path, ("right",))
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "marks" / ".grading").mkdir(parents=True)
    zipped(tmp_path / "empty.zip")
    known = {"OUT": tmp_path / "out", "SUBS": subs, "INSIDE": subs / "a" / "b", "MARKS": tmp_path / "marks"}
    known |= {"EMPTY": tmp_path / "empty", "EMPTY.zip": tmp_path / "empty.zip"}
    options = [str(known.get(option, option)) for option in options]
    options += [] if "--source" in options else ["--source", str(source)]
    run = submitting.run(["grade", *options])
    assert run.returncode == 2 and said in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert list(subs.iterdir()) == [subs / "right"]


# ---------------------------------------------------------------- who handed in what


def found(folder):
    return {s.student: (s.path and s.path.name, s.member) for s in submissions.find(folder, "two")}


def test_folders_files_and_zips_are_found(tmp_path):
    for name in ("ann/two.ipynb", "ann/notes.ipynb", "bob.ipynb", "cy/deep/inside/two.ipynb", ".hidden/two.ipynb"):
        submitting.write(tmp_path / name, b"{}")
    submitting.write(tmp_path / "ann" / ".ipynb_checkpoints" / "two-checkpoint.ipynb", b"{}")
    (tmp_path / "dan").mkdir()
    with zipfile.ZipFile(tmp_path / "eve.zip", "w") as archive:
        archive.writestr("two.ipynb", "{}")
    (tmp_path / "fay.zip").write_bytes(b"no zip")
    (tmp_path / "gus.pdf").touch()
    assert found(tmp_path) == {
        "ann": ("two.ipynb", None),
        "bob": ("bob.ipynb", None),
        "cy": ("two.ipynb", None),
        "dan": (None, None),
        "eve": ("eve.zip", "two.ipynb"),
        "fay": ("fay.zip", ""),
        "gus": (None, None),
    }
    assert submissions.find(tmp_path, "two")[-1].problem == ("missing", "no notebook, only gus.pdf")
    with pytest.raises(Unreadable):
        submissions.find(tmp_path, "two")[-2].read()


@pytest.mark.parametrize(
    "names, students",
    [
        (
            ["Ann Lee_123_assignsubmission_file_/two.ipynb", "Bo_9_assignsubmission_file_/x.ipynb"],
            ["Ann Lee_123", "Bo_9"],
        ),
        (["leeann_111_222_two.ipynb", "bo_LATE_333_444_two-1.ipynb"], ["bo_333", "leeann_111"]),
        (["class/ann/two.ipynb", "class/bob/two.ipynb", "__MACOSX/ann/._two.ipynb"], ["ann", "bob"]),
        (["Ann Lee_123_assignsubmission_file/hw/two.ipynb"], ["Ann Lee_123"]),
        (["Pia_7_assignsubmission_file_two.ipynb"], ["Pia_7"]),
        (["A_1_assignsubmission_x_2_assignsubmission_file/two.ipynb", "A_1_assignsubmission_file/two.ipynb"],
         ["A_1", "A_1_assignsubmission_x_2"]),
    ],
)
def test_zips_of_learning_management_systems(tmp_path, names, students):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    for place in (tmp_path, tmp_path / "all.zip"):
        assert sorted(s.student for s in submissions.find(place, "two")) == students
        assert {s.read().decode() for s in submissions.find(place, "two")} <= set(names)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)


def test_nobody_s_work_takes_another_s_place(tmp_path):
    submitting.write(tmp_path / "bob.ipynb", b"{}")
    submitting.write(tmp_path / "cleo" / "two.ipynb", b"{}")
    zipped(tmp_path / "mallory.zip", "mallory/two.ipynb", "bob/two.ipynb", "friend/two.ipynb")
    zipped(tmp_path / "carl.zip", "two.ipynb", "other.ipynb")
    zipped(tmp_path / "forged.zip", "cleo_1_assignsubmission_file/two.ipynb", "cleo_assignsubmission_file/two.ipynb")
    assert set(found(tmp_path)) == {"bob", "carl", "cleo", "forged", "mallory"}
    assert found(tmp_path)["carl"] == ("carl.zip", "two.ipynb")
    submitting.write(tmp_path / "cleo.ipynb", b"{}")
    claimed = next(s for s in submissions.find(tmp_path, "two") if s.student == "cleo")
    assert claimed.problem == ("failed", "several submissions have this name: cleo, cleo.ipynb")


def test_who_hands_in_no_notebook_is_there_with_the_reason(tmp_path):
    names = ["Ann_1_assignsubmission_file/two.ipynb", "Wes_2_assignsubmission_onlinetext/onlinetext.html"]
    zipped(tmp_path / "all.zip", *names, "Xia_3_assignsubmission_file/essay.pdf", "Yan_4_assignsubmission_file/my.zip")
    assert {s.student: s.problem for s in submissions.find(tmp_path, "two")} == {
        "Ann_1": (),
        "Wes_2": ("missing", "no notebook, only onlinetext.html"),
        "Xia_3": ("missing", "no notebook, only essay.pdf"),
        "Yan_4": ("missing", "no notebook, only my.zip"),
    }


def test_a_name_is_the_same_whatever_system_wrote_its_accents():
    apart, together = "Jose\u0301", "José"
    assert submissions._student((apart, "two.ipynb")) == submissions._student((together, "two.ipynb")) == together


def test_the_inputs_of_the_marking_can_t_be_reckoned_beforehand(tmp_path, monkeypatch):
    seeds, nothing = [], {"status": "failed", "reason": "", "results": {}}
    monkeypatch.setattr(classroom, "mark", lambda data, release, control, seconds, seed, alone: (seeds.append(seed), (nothing, None))[1])
    subs, source = few(tmp_path, ("right",))
    notebook = nbformat.read(source, as_version=4)
    for out, text in (("a", "one"), ("b", "one"), ("c", "other")):
        notebook.cells[1].source = text  # the solved notebook, which only the instructor has
        nbformat.write(notebook, source)
        room = classroom.Class(subs, tmp_path / out, source)
        room.name, room.release, room.why_not = "two", None, None
        room._mark(submissions.find(subs, "two")[0], None, True)
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    "name", ["O'Neil, Pat", "Siân O’Hara", "Ann (Group 2)", "'t Hooft", "李明", "กิตติ", "हिन्दी", "Zoë-Ångström_7"]
)
def test_a_name_that_does_no_harm_is_kept(name):
    assert submissions._student((name, "two.ipynb")) == name


@pytest.mark.parametrize(
    "name, begins",
    [
        ("李明:2", "李明_2-"),
        ("กิตติ?", "กิตติ-"),
        ("Zoë\u202eÅ\x1b[31m", "Zoë_Å__31m-"),
        ("Å/Ö", "Å_Ö-"),
        ("字" * 80, "字" * 57 + "-"),
        ("\udcffö", "ö-"),
    ],
)
def test_a_name_that_is_changed_keeps_its_letters(name, begins):
    own = submissions._student((name, "two.ipynb"))
    assert own.startswith(begins) and re.fullmatch("[0-9a-f]{8}", own.removeprefix(begins))
    assert len(own.encode()) <= submissions.BYTES


STRANGE = [
    "-rf",
    "a\nb",
    "=1+1",
    "<script>",
    "..",
    "a/../../b",
    "\\evil",
    "con'cat\"",
    "ü" * 200,
    " ",
    "a\tb",
    "@x",
    "é",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_makes_a_harmless_id_of_its_own(name):
    ids = [submissions._student((other, "two.ipynb")) for other in STRANGE]
    assert len(set(ids)) == len(ids)
    (own,) = {submissions._student((name, "two.ipynb")), submissions._student((name, "other.ipynb"))}
    assert re.fullmatch(r"[\w'’(][\w.@+ '’(),-]{0,79}|-[0-9a-f]{8}", own) and not own.startswith(("=", "+", "@", "."))
    assert len(own.encode()) <= submissions.BYTES


def test_strange_names_all_the_way(tmp_path):
    names = ["-rf", "a\nb", "=1+1", "<script>alert(1)</script>", "A B", "é", "O'Neil, Pat (2)"]
    names = [name.replace("/", "") for name in names]
    for name in names:
        submitting.write(tmp_path / "subs" / name / "two.ipynb", submitting.filled())
    with zipfile.ZipFile(tmp_path / "subs" / "more.zip", "w") as archive:
        for name in ("../../out/two.ipynb", "/etc/two.ipynb", "x/../y/two.ipynb"):
            archive.writestr(name, json.dumps(submitting.filled()))
    run = submitting.grade(tmp_path / "subs", tmp_path / "out", submitting.assignment(tmp_path))
    rows = table(tmp_path / "out")
    assert run.returncode == 0 and len(rows) == 8 and "O'Neil, Pat (2)" in rows
    assert {(row["check_step_jacobian"], row["check_gradient_magnitude"]) for row in rows.values()} == {("1", "1")}
    assert len(list((tmp_path / "out" / "feedback").iterdir())) == 8
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>" not in page and "feedback/O%27Neil%2C%20Pat%20%282%29.html" in page


def test_files_beside_the_submissions_are_never_run(tmp_path):
    subs, source = few(tmp_path, ("right",))
    for name in ("torch", "names", "json", "rnncourse"):
        (subs / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nraise SystemExit('from a submission')")
    rnncourse = Path(sys.executable).with_name("rnncourse")  # not python -m, which begins with the folder it is called in
    asked = [rnncourse, *submitting.options(".", tmp_path / "out", source)]
    run = subprocess.run(asked, cwd=subs, capture_output=True, text=True, check=False)
    rows = table(tmp_path / "out")
    assert run.returncode == 1 and rows["right"]["total"] == "2", run.stderr
    assert rows["torch"]["reason"] == "no notebook, only torch.py" and not (tmp_path / "run").exists()


def test_an_answer_that_can_t_be_read_says_where(tmp_path):
    subs, source = tmp_path / "subs", submitting.assignment(tmp_path)
    submitting.write(subs / "ann.ipynb", submitting.filled("def step_jacobian(h_t, W_hh)\n    return W_hh"))
    submitting.grade(subs, tmp_path / "out", source)
    page = html.unescape((tmp_path / "out" / "feedback" / "ann.html").read_text())
    assert "the cell before stopped with SyntaxError: expected ':' (line 1). NameError: name 'step_jacobian'" in page


def test_one_who_hands_in_nothing_is_enough_for_exit_status_1(tmp_path):
    subs, source = few(tmp_path, ("right",))
    (subs / "nothing").mkdir()
    run = submitting.grade(subs, tmp_path / "out", source)
    assert run.returncode == 1 and "1 graded, 1 not (0 failed, 1 missing)" in run.stdout


def test_memory_is_asked_for_in_gigabytes(tmp_path, monkeypatch):
    asked = []

    class Class(classroom.Class):
        def run(self):
            asked.append((self.memory, self.seconds, self.workers))
            raise classroom.CannotStart("enough")

    monkeypatch.setattr(classroom, "Class", Class)
    subs, source = few(tmp_path, ("right",))
    submitting.grade(subs, tmp_path / "out", source, "--memory", 0.5, "--seconds", 4, "--workers", 3)
    assert asked == [(2**29, 4.0, 3)]


def test_links_pipes_and_absent_work_are_no_submissions(tmp_path):
    subs, source = few(tmp_path, ("right",))
    for name in ("link", "pipe", "nothing"):
        (subs / name).mkdir()
    (subs / "link" / "two.ipynb").symlink_to(subs / "right" / "two.ipynb")
    (subs / "folder-link").symlink_to(subs / "right")
    os.mkfifo(subs / "pipe" / "two.ipynb")
    run = submitting.grade(subs, tmp_path / "out", source)
    rows = {name: (row["status"], row["reason"]) for name, row in table(tmp_path / "out").items()}
    assert rows["right"] == ("graded", "") and run.returncode == 1
    assert rows["link"] == ("failed", "a link, not a file")
    assert rows["pipe"] == ("failed", "not a plain file")
    assert rows["nothing"] == ("missing", "no notebook in the folder")
    assert "folder-link" not in rows or rows["folder-link"][0] != "graded"


def test_the_bench_compares_equal_marks(tmp_path, record_property):
    table, same = bench.marking(count=12, peers=1, source=submitting.assignment(tmp_path))
    here, theirs = table["s each"]
    record_property("measured", f"marking: {here:.2f} s a submission, nbgrader {theirs:.2f} s")
    assert same and theirs > 3 * here  # a busy machine; `make bench` says how much more


@pytest.fixture
def postgresql():
    """The URL of a fresh database, where PostgreSQL and a driver are installed."""
    pytest.importorskip("psycopg2", reason="PostgreSQL test skipped: pip install psycopg2-binary")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or not submitting.can_be_user():
        pytest.skip("PostgreSQL test skipped: no server here (apt install postgresql), or not root")
    bin = programs[-1]
    with tempfile.TemporaryDirectory() as data:  # not in tmp_path, which only its owner may enter: the server is nobody
        shutil.chown(data, "nobody", "nogroup")
        nobody = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/", "stdout": subprocess.DEVNULL, "check": True}
        subprocess.run([bin / "initdb", "-D", data, "-U", "teacher", "-A", "trust"], **nobody)
        subprocess.run([bin / "pg_ctl", "-D", data, "-w", "-o", f"-k {data} -h ''", "-l", f"{data}/log", "start"], **nobody)
        yield f"postgresql+psycopg2://teacher@/postgres?host={data}"
        subprocess.run([bin / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **nobody)


def test_the_gradebook_may_be_postgresql(a_few, postgresql, tmp_path):
    folder, _ = a_few
    source = folder / "two_SOLVED.ipynb"
    for _ in range(2):
        run = submitting.grade(folder / "subs", tmp_path / "out", source, "--db", postgresql)
        assert run.returncode == 0, run.stderr
        assert (tmp_path / "out" / "grades.csv").read_bytes() == (folder / "out" / "grades.csv").read_bytes()
    assert not (tmp_path / "out" / "gradebook.db").exists()


@pytest.mark.parametrize("act", [lambda: 1 / 0, lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_what_fails_when_rehearsed_is_not_done(act):
    assert jail.rehearsed(act) and jail.rehearsed(lambda: None) is None


def test_two_graders_do_not_write_into_one_folder(a_few):
    folder, _ = a_few
    asked, fork = (folder / "subs", folder / "out", folder / "two_SOLVED.ipynb"), multiprocessing.get_context("fork")
    taken, done = fork.Event(), fork.Event()

    def other():
        with open(folder / "out" / ".grading" / "lock", "w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            taken.set()
            done.wait()

    process = fork.Process(target=other, daemon=True)
    process.start()
    assert taken.wait(60)
    run = submitting.grade(*asked)
    done.set()
    process.join()
    assert run.returncode == 2 and "another rnncourse grade is at work" in run.stderr
    assert submitting.grade(*asked).returncode == 0


def test_exercises_are_called_by_the_headings_above_them():
    known = report.titles(nbformat.read(ROOT / "notebooks" / "08_exercises.ipynb", as_version=4))
    assert known["check_stretch"] == "4b · And if not?" and len(set(known.values())) == len(known)
    assert report.titles(submitting.released())["text_1"] == "text_1"  # that heading has a check below it already
