"""The parts of marking one by one, each with what no whole class shows: limits, forged answers, copies, retries, escapes."""

import base64
import contextlib
import copy
import errno
import json
import multiprocessing
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import submitting
from rnncourse.exercises import EXERCISES, Exercise, checking
from rnncourse.exercises.checking import Raised, check_answer, difference
from rnncourse.grading import child, classroom, command, course, graft, handout, jail, marking, proxies, release
from rnncourse.grading import report, submissions, wire, zygote
from rnncourse.grading.graft import Unreadable
from submitting import RIGHT, TEXT, named

STEP, RIGHT_STEP = "answer_step_jacobian", RIGHT["step_jacobian"]
STUB, CHECK = submitting.released().cells[2].source, "check.step_jacobian(step_jacobian)"
TURNED, PNG = "a\u202eb\x1b[31mc\x00", b"\x89PNG\r\n\x1a\n"
SCRIPT = "<script>alert(1)</script>"


# ---------------------------------------------------------------- graft


def cells_of(notebook):
    return graft.read(json.dumps(notebook).encode())


def bare(notebook):
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def by_name(notebook):
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in notebook.cells if "nbgrader" in cell.metadata}


def test_of_copies_that_differ_the_last_counts_and_the_others_still_run():
    notebook = submitting.filled(first="early = 1")
    notebook.cells[3:3] = [submitting.filled().cells[2], submitting.released().cells[2]]
    grafted = graft.graft(cells_of(notebook), submitting.released())
    sources = [cell.source for cell in grafted.cells]
    assert by_name(grafted)[STEP] == RIGHT_STEP
    assert sources.index("early = 1") < sources.index(RIGHT_STEP) and submitting.released().cells[2].source not in sources


def test_of_nameless_cells_the_last_that_defines_the_function_is_the_answer():
    notebook = bare(submitting.filled())
    notebook.cells.insert(2, new_code_cell(submitting.WRONG))
    assert by_name(graft.graft(cells_of(notebook), submitting.released()))[STEP] == RIGHT_STEP


def test_neither_a_note_nor_a_given_text_is_taken_for_a_text_answer():
    released, notebook = submitting.released(), bare(submitting.filled())
    released.cells.insert(-1, new_markdown_cell("Read this."))
    notebook.cells.insert(-1, new_markdown_cell("Read this."))
    notebook.cells.insert(1, new_markdown_cell("A note of my own."))
    assert by_name(graft.graft(cells_of(notebook), released))["text_1"] == TEXT


def test_a_stub_in_place_of_a_deleted_answer_undoes_nothing_that_comes_after():
    answer = "if True:\n" + textwrap.indent(RIGHT_STEP, "    ")  # nobody can tell what this defines
    notebook = submitting.filled(answer)
    notebook.cells[2].metadata.nbgrader["grade_id"] = "mine"
    sources = [cell.source for cell in graft.graft(cells_of(notebook), submitting.released()).cells]
    assert sources.index(STUB) < sources.index(answer) < sources.index(CHECK)


BOTH = "\n\n\n".join(RIGHT.values())


def with_own(at, *sources, deleted=False):
    """A student's copy, untouched or without its answer cells, with cells of the student's own at a place of it."""
    notebook = submitting.released()
    notebook.cells[at:at] = map(new_code_cell, sources)
    if deleted:
        notebook.cells = [c for c in notebook.cells if not c.metadata.get("nbgrader", {}).get("grade_id", "").startswith("answer")]
    return notebook


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize(
    "at, sources", [(1, (BOTH,)), (8, (BOTH,)), (4, tuple(RIGHT.values())), (8, ("helper = 1", *RIGHT.values()))]
)
def test_an_answer_in_a_cell_of_the_student_s_own_is_undone_by_no_stub_and_checked_after_it(at, sources, deleted):
    notebook = with_own(at, *sources, deleted=deleted)
    grafted = graft.graft(cells_of(notebook), submitting.released())
    done, checked = [cell.source for cell in grafted.cells], by_name(grafted)
    assert set(checked) == set(by_name(submitting.released())) and STUB not in done
    assert [source for source in done if source in sources] == list(sources)
    for name in RIGHT:
        last = max(i for i, source in enumerate(done) if f"def {name}(" in source)
        assert done[last] in sources and last < done.index(f"check.{name}({name})")


def test_the_answer_cell_counts_where_it_holds_the_answer_and_of_drafts_the_last():
    notebook = submitting.filled(second=submitting.released().cells[5].source)
    notebook.cells[1:1] = [new_code_cell(submitting.WRONG), new_code_cell("gradient_magnitude = lambda *a: 0")]
    notebook.cells += [new_code_cell(RIGHT["gradient_magnitude"])]
    answers = by_name(graft.graft(cells_of(notebook), submitting.released()))
    assert (answers[STEP], answers["answer_gradient_magnitude"]) == (RIGHT_STEP, graft.ELSEWHERE)
    sources = [cell.source for cell in graft.graft(cells_of(notebook), submitting.released()).cells]
    assert sources[-2:] == [RIGHT["gradient_magnitude"], "check.gradient_magnitude(gradient_magnitude)"]


def test_what_an_answer_elsewhere_needs_of_the_set_up_runs_before_it():
    released, own = submitting.released(), f"assert data\n{RIGHT_STEP}"
    look = named(new_code_cell("draw(step_jacobian)"), "look", locked=True)
    look.metadata["tags"] = ["experiment"]
    uses = named(new_code_cell("J = step_jacobian"), "uses", locked=True)
    given = named(new_code_cell("data = [1]"), "data", locked=True)
    released.cells[4:4] = [look]
    released.cells[7:7] = [given, uses]
    notebook = copy.deepcopy(released)
    notebook.cells += [new_code_cell(own)]
    sources = [cell.source for cell in graft.graft(cells_of(notebook), released).cells]
    assert sources.index("data = [1]") < sources.index(own)
    for later in (CHECK, "draw(step_jacobian)", "J = step_jacobian"):
        assert sources.index(own) < sources.index(later)


def test_a_copy_of_a_stub_without_a_name_undoes_no_answer():
    notebook = submitting.filled()
    notebook.cells.insert(3, new_code_cell(STUB))
    assert STUB not in [cell.source for cell in graft.graft(cells_of(notebook), submitting.released()).cells]


@pytest.mark.parametrize("text", ["", " \n\t", "*Your answer here.*\n\n"])
def test_a_text_of_blanks_is_as_it_was_handed_out(text):
    assert by_name(graft.graft(cells_of(submitting.filled(text=text)), submitting.released()))["text_1"] == "*Your answer here.*"
    notebook = submitting.filled()
    notebook.cells.append(submitting.filled(text=text).cells[-1])  # a copy that was emptied
    assert by_name(graft.graft(cells_of(notebook), submitting.released()))["text_1"] == TEXT


def test_one_student_s_answer_is_not_left_in_the_release():
    released = submitting.released()
    before = copy.deepcopy(released)
    graft.graft(cells_of(submitting.filled()), released)
    assert released == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_notebook_may_be_in_any_unicode(encoding):
    text = json.dumps({"cells": [{"cell_type": "markdown", "source": "für"}]}, ensure_ascii=False)
    data = b"\xfe\xff" * (encoding == "utf-16-be") + text.encode(encoding)
    assert graft.read(data) == [("markdown", "für", None)]


def test_what_should_be_a_list_of_cells_and_is_none_is_no_cells():
    for sheets in ([{"cells": 5}], [7], [{"cells": None}], [{}]):
        assert graft.read(json.dumps({"worksheets": sheets}).encode()) == []


def test_half_a_character_in_a_cell_can_be_written():
    ((_, source, _),) = cells_of({"cells": [{"source": "a\ud800b"}]})
    assert source.encode() == b"a?b"


def test_what_is_too_large_is_no_notebook(monkeypatch):
    assert len(cells_of({"cells": [{}] * graft.MOST})) == graft.MOST
    with pytest.raises(Unreadable, match="1001 cells; the limit is 1000"):
        cells_of({"cells": [{}] * (graft.MOST + 1)})
    ((_, source, _),) = cells_of({"cells": [{"source": "x" * (graft.LONGEST + 1)}]})
    assert len(source) == graft.LONGEST
    monkeypatch.setattr(graft, "LARGEST", 20)
    with pytest.raises(Unreadable, match="the limit is"):
        cells_of({"cells": [{}] * 9})


# ---------------------------------------------------------------- wire


@pytest.fixture
def wires():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("text, size", [(wire.TEXT + 1, 0), (0, wire.LIMIT + 1), (1, wire.LIMIT), (2**64 - 1, 2**64 - 1)])
def test_a_message_that_says_it_is_too_large_is_not_waited_for(wires, text, size):
    wires[0].sendall(struct.pack(">QQ", text, size))
    wires[0].shutdown(socket.SHUT_WR)
    with pytest.raises(wire.Nonsense, match="larger than"):
        wire.receive(wires[1])


def test_one_who_sends_byte_after_byte_has_a_deadline_too(wires):
    wires[0].sendall(wire.pack(1))
    with pytest.raises(TimeoutError):
        wire.receive(wires[1], time.monotonic() - 1)
    wires[0].close()
    assert wire.unpack(*wire.receive(wires[1], time.monotonic() + 60)) == 1
    with pytest.raises(EOFError):
        wire.receive(wires[1], time.monotonic() + 60)


def test_many_small_tensors_are_too_much_as_one_large_one_is(monkeypatch):
    monkeypatch.setattr(wire, "LIMIT", 200)
    wire.pack(torch.zeros(10))
    with pytest.raises(wire.Nonsense, match="larger than"):
        wire.pack([torch.zeros(30), torch.zeros(30)])


@pytest.mark.parametrize("shape", [[1] * 17, [2**40, 0]], ids=len)
def test_a_tensor_of_an_impossible_shape_is_refused_though_its_bytes_would_do(shape):
    with pytest.raises(wire.Nonsense, match="impossible shape"):
        wire.unpack(json.dumps({"tensor": ["uint8", shape, 0], "requires_grad": False}), b"x")


def test_half_a_character_that_was_sent_can_be_written():
    assert wire.unpack('["\\ud800", {"dict": [["\\udfff", 1]]}]', b"") == ["?", {"?": 1}]


# ---------------------------------------------------------------- proxies


@pytest.fixture
def hearing():
    """Makes a ``Student`` whose process has sent these messages already, whatever will be asked."""
    sockets = []

    def make(*messages, seconds=1000, silent=False):
        (ours, theirs), (control, other) = socket.socketpair(), socket.socketpair()
        sockets.extend((ours, theirs, control, other))
        theirs.sendall(b"".join(wire.pack(message, vars) for message in messages))
        other.sendall(b"ok\n")  # to "kill"
        for one in (theirs, other)[silent:]:
            one.shutdown(socket.SHUT_WR)  # who waits for more is told so at once
        student = proxies.Student(control, seconds)
        student.connection = ours
        return student

    yield make
    for one in sockets:
        one.close()


def test_an_answer_to_what_was_asked_before_is_not_this_one(hearing):
    student = hearing([0, {"value": "old"}], [1, {"value": "new"}], [2, {"value": "next"}])
    assert [student.ask(act="name"), student.ask(act="name")] == ["new", "next"]


@pytest.mark.parametrize("message", [[2, {"value": 1}], [True, {"value": 1}], [1.0, {"value": 1}], [1], 7, {"value": 1}])
def test_a_forged_answer_ends_the_process(hearing, message):
    student = hearing(message)
    with pytest.raises(Raised) as told:
        student.ask(act="name")
    assert told.value.kind == "Stopped" and "can't be read" in str(told.value)
    assert student.connection is None and student.trouble


def test_a_submission_has_a_time_limit_for_all_of_it(hearing):
    student = hearing()
    assert 0 < student.end - time.monotonic() <= proxies.TOTAL * 1000
    student.end = time.monotonic() - 1
    with pytest.raises(Raised, match="no answer within 1000 s"):
        student.ask(act="name")
    with pytest.raises(Raised, match="no answer within 1000 s"):
        student.ask(act="name")  # of what is gone nothing is asked
    student.exercise()
    assert student.gone is None


def test_a_check_s_time_limit_ends_the_wait_for_one_call(hearing):
    student, start = hearing(silent=True), time.monotonic()
    with pytest.raises(checking.OutOfTime), student.time_limit(0.1):
        student.ask(act="call")
    assert 0.1 <= time.monotonic() - start < 5 and student.limit == float("inf")
    with pytest.raises(Raised, match="no answer in time"):
        student.ask(act="call")
    patient = hearing(silent=True)
    patient.end = time.monotonic() + 0.1  # the submission's own time is up first
    with pytest.raises(Raised, match="no answer within 1000 s"), patient.time_limit(100):
        patient.ask(act="call")


def test_a_reported_error_is_text_of_bounded_length_whatever_was_sent(hearing):
    for error, kind, text in [
        ({"type": "E" * 5000, "text": 3, "place": []}, "E" * 2000, "3"),
        ("oh", "", ""),
        ({"stub": 1, "type": "E", "text": ""}, "E", ""),
    ]:
        with pytest.raises(Raised) as told:
            hearing([1, {"error": error}]).ask(act="name")
        assert (told.value.kind, str(told.value)) == (kind, text)
    with pytest.raises(NotImplementedError):
        hearing([1, {"error": {"stub": True}}]).ask(act="name")


def test_a_call_that_is_given_up_is_not_asked_again_in_this_exercise(hearing):
    student = hearing()
    student._ask = lambda *_, **__: student._end() or (_ for _ in ()).throw(checking.OutOfTime)
    with pytest.raises(checking.OutOfTime):
        student.ask(act="call")
    with pytest.raises(Raised, match="no answer in time"):
        student.ask(act="call")


def test_a_cell_that_ends_the_process_only_when_replayed_is_dropped():
    class Replaying(proxies.Student):
        spawned = 0

        def _spawn(self):
            self.connection, self.spawned = True, self.spawned + 1
            assert self.spawned < 5

        def _run(self, source):
            self.connection = None if source == "exit" else True

        def _end(self):
            pass

    student = Replaying(None, 1)
    student.cells = ["a", "exit", "b"]
    student._replay()
    assert (student.cells, student.spawned) == (["a", "b"], 2)


def test_what_an_ended_process_held_is_looked_up_again_by_its_name_or_lost(hearing):
    thing = {"handle": 4, "type": "function", "name": "f", "callable": True, "code": 9}
    student = hearing([1, {"value": SimpleNamespace(**thing | {"handle": 7})}])
    kept, lost = (student._proxy(thing) for _ in range(2))
    student.age, kept._origin = 1, "f"
    assert proxies._reference(kept) == {"handle": 7}
    with pytest.raises(proxies.Gone):
        proxies._reference(lost)


def test_a_proxy_asks_for_public_names_only(hearing):
    thing = hearing()._proxy({"handle": 0, "type": "T", "name": "", "callable": False, "code": 0})
    for name in ("__array__", "__torch_function__", "_private"):
        assert not hasattr(thing, name)
    assert not callable(thing) and copy.deepcopy([thing])[0] is thing


def test_what_a_process_says_of_an_object_is_cut_to_size(hearing):
    said = {"handle": 0, "type": "a b", "name": "n" * 99, "callable": 1, "code": 10**12}
    thing, other = (hearing()._proxy(said | more) for more in ({}, {"type": "T" * 99, "code": -1, "callable": True}))
    assert repr(thing) == "<object of the submission>" and thing.__name__ == "n" * 60
    assert (len(thing.__code__.co_code), len(other.__code__.co_code)) == (10_000, 0)
    assert type(other).__name__ == "T" * 60 and callable(other) and not callable(thing)


def test_of_the_grader_s_environment_a_submission_gets_what_it_needs(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "of the gradebook")
    asked = {}
    monkeypatch.setattr(proxies.subprocess, "Popen", lambda command, **options: asked.update(options) or SimpleNamespace(wait=bool, kill=bool))
    with proxies.Zygote():
        pass
    assert "PGPASSWORD" not in asked["env"] and asked["env"]["PATH"] == os.environ["PATH"]
    assert {name: asked["env"][name] for name in ("OMP_NUM_THREADS", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES")} == {
        "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""
    }
    assert asked["stdin"] == subprocess.DEVNULL


def test_a_process_that_does_not_listen_keeps_nobody_waiting(monkeypatch, hearing):
    student = hearing(seconds=3)
    kept = []

    def spawn(control, message, descriptors):
        kept.append(socket.socket(fileno=os.dup(descriptors[0])))
        kept[0].sendall(b"!")

    monkeypatch.setattr(proxies.socket, "send_fds", spawn)
    student._spawn()
    assert struct.unpack("ll", student.connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)) == (4, 0)
    student.connection.close()
    kept[0].close()


# ---------------------------------------------------------------- marking


class AtOnce:
    """In place of a student's process: shows what it is told to, and holds these names."""

    shown, names, trouble = {}, {}, False

    def __init__(self, *_):
        self.ran.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def exercise(self):
        pass

    def run(self, source):
        self.ran.append(source)
        return self.shown.get(source, [])

    def look_up(self, name):
        if name not in self.names:
            raise Raised("NameError", f"name {name!r} is not defined")
        return self.names[name]


@pytest.fixture
def at_once(monkeypatch):
    class Student(AtOnce):
        ran, shown, names = [], {}, {}

    monkeypatch.setattr(marking, "Student", Student)
    yield Student
    checking.seed_all(None)


def marked(*cells, **options):
    """The record of a submission that is the release as it is."""
    notebook = new_notebook(cells=list(cells))
    return marking.mark(json.dumps(notebook).encode(), notebook, None, 1, "seed", **options)[0]


def check_cell(source, points=5):
    return named(new_code_cell(source), "check_it", grade=True, locked=True, points=points)


def test_the_names_of_a_test_are_the_release_s_and_python_s_before_the_student_s(at_once):
    at_once.names |= {"LIMIT": 5, "len": lambda _: 5, "check": None, "own": 2}
    given = named(new_code_cell("LIMIT = 1"), "setup", locked=True)
    assert marked(given, check_cell("LIMIT * len([0]) * own if check else 5"))["results"]["check_it"]["score"] == 2


def test_a_test_that_fails_earns_nothing_and_says_why(at_once):
    result = marked(check_cell("1 / 0"))["results"]["check_it"]
    assert (result["score"], result["points"], result["status"]) == (0, 5, "wrong")
    assert result["message"] == "ZeroDivisionError: division by zero"
    assert len(marked(check_cell("raise ValueError('x' * 9999)"))["results"]["check_it"]["message"]) == marking.LONGEST


def test_experiments_are_not_run_in_marking(at_once):
    experiment = named(new_code_cell("train()"), "experiment", locked=True)
    experiment.metadata["tags"] = ["experiment"]
    marked(experiment, named(new_code_cell("x = 1"), "answer", solution=True))
    assert at_once.ran == ["x = 1"]


def test_an_empty_cell_does_not_hide_why_a_name_is_missing(at_once):
    at_once.shown["def f("] = [{"output_type": "error", "ename": "S" * 999, "evalue": TURNED + "x" * 999}]
    answer = named(new_code_cell("def f("), "answer", solution=True)
    message = marked(answer, new_code_cell(" "), check_cell("f"))["results"]["check_it"]["message"]
    assert message.startswith("the cell before stopped with SSS") and message.endswith("S: abc" + "x" * 95 + ". NameError: name 'f' is not defined")
    assert "before" not in marked(answer, new_code_cell("f = 1"), check_cell("g"))["results"]["check_it"]["message"]


@pytest.mark.parametrize("alone, status", [(True, "graded"), (False, "again")])
def test_trouble_beside_others_is_looked_into_alone(at_once, alone, status):
    at_once.trouble = True
    assert marked(check_cell("1"), alone=alone)["status"] == status


def test_everybody_s_inputs_follow_from_the_seed(at_once):
    marked(check_cell("1"))
    assert checking._assignment == "seed"


def test_what_a_test_says_is_cut_and_turns_nothing_round(at_once):
    at_once.names["said"] = checking.Result("wrong", TURNED + "x" * 9999, "one")
    result = marked(check_cell("said"))["results"]["check_it"]
    assert result["message"] == "abc" + "x" * (marking.LONGEST - 3) and result["exercise"] == "one"

    def raises():
        raise Raised("\u202eError", TURNED)

    (error,) = marking.evaluate("raises()", {"raises": raises})[0]
    assert (error.ename, error.evalue) == ("Error", "Error: abc")
    (shown,) = marking.evaluate("said", at_once.names)[0]
    assert shown.data["text/html"].startswith("<p>✘ abcxxx")


def stream(text, **more):
    return {"output_type": "stream", "name": "stdout", "text": text} | more


def test_outputs_are_capped_whatever_a_process_sends():
    most = marking.OUTPUT
    for sent in ([stream("x" * most), stream("y")], [stream("x" * (most + 9))], [{"output_type": "error", "traceback": ["x" * most, "y"]}, stream("z")]):
        (output,) = marking.as_outputs(sent)
        assert len(output.get("text") or output["traceback"][0]) == most
    assert [o.text for o in marking.as_outputs([stream("x"), None, {"output_type": "hologram"}, stream("y")])] == ["x", "y"]
    assert len(marking.as_outputs([stream("")] * 2000)) == 1000
    assert [marking.as_outputs(sent) for sent in (None, "text", {"output_type": "stream"})] == [[], [], []]
    (error,) = marking.as_outputs([{"output_type": "error", "ename": "E" * 999, "evalue": 3, "traceback": ["t"] * 999}])
    assert (error.ename, error.evalue, error.traceback) == ("E" * 200, "", ["t"] * 100)


def test_an_output_is_text_and_a_picture_and_nothing_else():
    data = {"text/plain": TURNED, "text/html": SCRIPT, "application/javascript": "alert(1)", "image/svg+xml": "<svg/>"}
    (shown,) = marking.as_outputs([{"output_type": "execute_result", "data": data, "metadata": {"a": 1}, "execution_count": 3}])
    assert dict(shown) == {"output_type": "display_data", "data": {"text/plain": "abc"}, "metadata": {}}
    outputs = marking.as_outputs([stream(TURNED, name="stderr"), stream("a", name="<b>"), {"output_type": "error", "ename": TURNED, "traceback": [TURNED]}])
    assert [(o.get("name"), o.get("text")) for o in outputs] == [("stderr", "abc"), ("stdout", "a"), (None, None)]
    assert (outputs[2].ename, outputs[2].traceback) == ("abc", ["abc"])


def test_only_a_png_is_a_picture():
    code = base64.b64encode(PNG + b"...").decode()
    assert marking._png(code) == marking._png(code + '">') == code
    assert marking._png(base64.b64encode(b"<svg onload=alert(1)>").decode()) is None
    assert marking._png(3) is marking._png("a") is marking._png(code + "A" * marking.PICTURE) is None


# ---------------------------------------------------------------- submissions


def of(folder, student):
    return {s.student: s for s in submissions.find(folder, "two")}[student]


def test_of_several_notebooks_that_of_the_assignment_s_name_counts(tmp_path):
    for name in ("ann/two.ipynb", "ann/zoo.ipynb", "ann/two-1.ipynb", "bob/my two.ipynb", "bob/zoo.ipynb", "cy/a.ipynb", "cy/b.ipynb"):
        submitting.write(tmp_path / name, b"{}")
    chosen = {s.student: s.path.name for s in submissions.find(tmp_path, "two")}
    assert chosen == {"ann": "two.ipynb", "bob": "my two.ipynb", "cy": "b.ipynb"}


def test_links_to_zips_and_folders_are_not_followed(tmp_path):
    subs, elsewhere = tmp_path / "subs", tmp_path / "elsewhere"
    submitting.write(elsewhere / "two.ipynb", b"{}")
    (subs / "ann").mkdir(parents=True)
    (subs / "ann" / "deep").symlink_to(elsewhere)
    with zipfile.ZipFile(elsewhere / "all.zip", "w") as archive:
        archive.writestr("two.ipynb", "{}")
    (subs / "bob.zip").symlink_to(elsewhere / "all.zip")
    (subs / "cy.ipynb").symlink_to(elsewhere / "two.ipynb")
    assert of(subs, "ann").problem == ("missing", "no notebook in the folder")
    assert of(subs, "bob").problem == ("missing", "no notebook, only bob.zip")
    with pytest.raises(Unreadable, match="a link, not a file"):
        of(subs, "cy").read()


def damaged(archive, where, value):
    """A zip with one byte changed."""
    data = bytearray(archive.read_bytes())
    data[where(data)] = value
    archive.write_bytes(data)


def test_a_damaged_zip_is_one_student_s_trouble(tmp_path):
    for name in ("ann", "bob"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("two.ipynb", "{}" * 99)
    damaged(tmp_path / "ann.zip", lambda data: data.index(b"PK\x01\x02") + 6, 99)  # for a zip of version 9.9
    damaged(tmp_path / "bob.zip", lambda data: data.index(b"two.ipynb") + 9, 0xFF)  # in what was packed
    submitting.write(tmp_path / "cy.ipynb", b"{}")
    assert of(tmp_path, "cy").read() == b"{}"
    for name in ("ann", "bob"):
        with pytest.raises(Unreadable, match="can't be read"):
            of(tmp_path, name).read()


def test_no_more_is_read_than_the_largest_submission(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 1000)
    for size, name in ((1000, "ann"), (1001, "bob")):
        submitting.write(tmp_path / f"{name}.ipynb", b" " * size)
        with zipfile.ZipFile(tmp_path / f"{name}-zipped.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("two.ipynb", " " * size)
    assert len(of(tmp_path, "ann").read()) == len(of(tmp_path, "ann-zipped").read()) == 1000
    for name in ("bob", "bob-zipped"):
        with pytest.raises(Unreadable, match="larger than"):
            of(tmp_path, name).read()


@pytest.mark.parametrize("name", ["ann ", "ann.", " ann"])
def test_a_name_does_not_end_in_what_a_path_may_lose(name):
    assert re.fullmatch(r"ann-[0-9a-f]{8}", submissions._student((name, "two.ipynb")))


# ---------------------------------------------------------------- classroom


@pytest.fixture
def room(tmp_path):
    """Makes a class, with ``ann`` and what else is asked for handed in, and nothing begun."""
    source, handed_in = submitting.assignment(tmp_path), submitting.filled()

    def make(*others, kind=classroom.Class, **options):
        for name in ("ann", *others):
            submitting.write(tmp_path / "subs" / f"{name}.ipynb", handed_in)
        made = kind(tmp_path / "subs", tmp_path / "out", source, **options)
        made.name, made.release, made.why_not = "two", submitting.released(), None
        made.found = submissions.find(made.folder, "two")
        return made

    return make


def test_a_record_is_of_these_bytes_and_settings_and_of_this_source(room, monkeypatch):
    first = room()
    known = {first._key(b"a")}
    for options in ({"seconds": 31}, {"memory": 2**30}):
        known.add(room(**options)._key(b"a"))
    assert room()._key(b"a") in known
    first.source.write_text("another")
    known |= {first._key(b"a"), first._key(b"b")}
    monkeypatch.setattr(classroom, "package_version", lambda: "a newer rnncourse")
    known.add(first._key(b"a"))
    assert len(known) == 6


def test_what_was_graded_is_not_graded_again_unless_asked(room):
    one = room()
    submission, other = *one.found, room("bob").found[1]
    assert one._record(submission)["reason"] == "not graded yet"
    course.written(one._path("ann"), json.dumps({"status": "graded", "key": one._key(submission.read())}))
    assert one._record(submission)["status"] == "graded" and "key" not in one._record(other)
    assert "key" not in room(regrade=True)._record(submission)
    submission.path.write_bytes(b"{}")
    assert "key" not in one._record(submission)
    course.written(one._path("ann"), "{")
    assert "key" not in one._record(submission)


def test_a_record_is_written_when_all_that_it_tells_of_is_there(room, monkeypatch):
    one, written = room(), []
    record = {"status": "graded", "reason": "", "results": {}}
    monkeypatch.setattr(classroom, "mark", lambda *_: (dict(record), submitting.released()))
    monkeypatch.setattr(course, "written", lambda path, data: written.append(path))
    one._mark(one.found[0], None, True)
    assert written == [one._notebook("submitted", "ann"), one._notebook("autograded", "ann"), one._path("ann")]


def test_what_is_to_be_marked_again_leaves_no_record(room, monkeypatch):
    one = room()
    monkeypatch.setattr(classroom, "mark", lambda *_: ({"status": "again"}, None))
    assert one._mark(one.found[0], None, False) == {"status": "again"} and not one.out.exists()


def test_only_of_what_has_changed_a_person_is_asked_to_look_again(room, monkeypatch):
    one = room()

    def mark(data, release, *_):
        return {"status": "graded", "results": {}}, graft.graft(graft.read(data), release)

    def unchanged(**answers):
        submitting.write(one.found[0].path, submitting.filled(**answers))
        return set(one._mark(one.found[0], None, True)["unchanged"])

    checks = {"check_step_jacobian", "check_gradient_magnitude"}
    monkeypatch.setattr(classroom, "mark", mark)
    assert unchanged() == set() and unchanged() == checks | {"text_1"}
    assert unchanged(first=submitting.WRONG) == {"text_1"}
    assert unchanged(first=submitting.WRONG, text="Another.") == checks
    monkeypatch.setattr(classroom, "mark", lambda *_: ({"status": "failed", "results": {}}, None))
    unchanged()
    monkeypatch.setattr(classroom, "mark", mark)
    assert unchanged(text="Another.") == {"text_1"}  # what could not be read has not made it forgotten


@pytest.mark.parametrize("known, entered", [({}, True), ({"check": {"auto": 0}}, True), ({"check": {"auto": 1}}, False)])
def test_a_record_that_the_gradebook_does_not_have_is_entered(room, monkeypatch, known, entered):
    one, saved = room(), []
    one.records, one._marks = {"ann": {"results": {"check": {"score": 1}}, "unchanged": ["text"]}}, {"ann": known}
    monkeypatch.setattr(classroom.nbformat, "read", lambda *_, **__: None)
    monkeypatch.setattr(course, "save", lambda *given: saved.append(given[2:]))
    one._enter("ann", None)
    assert saved == [("ann", None, ["text"])] * entered


class Pretending(classroom.Class):
    """Marks at once, by the student's name."""

    def _mark(self, submission, control, alone):
        if submission.student == "aborts":
            os._exit(3)
        if submission.student == "full":
            return {"status": "stop", "errno": errno.ENOSPC, "reason": "No space left on device"}
        if submission.student.startswith("again") and not alone:
            return {"status": "again"}
        return {"status": "graded", "alone": alone, "results": {}}

    def _enter(self, student, gradebook, new=False):
        self.entered.append(student)

    def everybody(self):
        self.records, self.entered = {}, []
        with socket.socket() as alive:
            self._all(self.found, SimpleNamespace(alive=alive, connect=lambda: (None, None)), None)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_who_got_into_trouble_is_marked_again_alone_and_a_worker_s_death_is_one_student_s(room, workers):
    class_ = room("aborts", "again-1", "again-2", "bob", kind=Pretending, workers=workers)
    class_.everybody()
    assert {student: record["status"] for student, record in class_.records.items()} == {
        "again-1": "graded", "again-2": "graded", "ann": "graded", "bob": "graded", "aborts": "failed"
    }
    assert class_.records["aborts"]["reason"] == "the grader's own process ended"
    assert class_.records["again-1"]["alone"] and class_.records["again-2"]["alone"]
    assert class_.records["bob"]["alone"] == (workers == 1)
    assert sorted(class_.entered) == ["again-1", "again-2", "ann", "bob"]


def test_a_worker_ends_in_silence_when_nobody_listens(room):
    one, context = room(kind=Pretending), multiprocessing.get_context("fork")
    (ours, theirs), gone = context.Pipe(), context.Event()
    one._mark = lambda *_: gone.wait() and {}
    with socket.socket() as alive:
        zygote = SimpleNamespace(alive=alive, connect=lambda: (None, None))
        worker = context.Process(target=one._work, args=(theirs, zygote, [ours], True))
        worker.start()
        ours.send(one.found[0])
        theirs.close()
        ours.close()
        gone.set()
        worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    "source, says",
    [("", False), ("# a\n\n   # b", False), ("# a\nb", True), ("%%time", True), ("'#'", True), ("#\rprint(1)", True)],
)
def test_a_cell_of_comments_alone_is_not_run(source, says):
    assert marking.says_something(source) is says


def test_an_interrupt_waits_for_what_must_not_be_interrupted():
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), classroom.Interrupts() as interrupts, interrupts.wait():
        signal.raise_signal(signal.SIGINT)
        done.append(True)
    assert done and signal.getsignal(signal.SIGINT) is before
    with classroom.Interrupts() as interrupts:
        with interrupts.wait():
            pass
        interrupts.heed()
    with pytest.raises(KeyboardInterrupt), classroom.Interrupts():
        signal.raise_signal(signal.SIGINT)
        done.append("went on")
    assert "went on" not in done and signal.getsignal(signal.SIGINT) is before
    thread = threading.Thread(target=lambda: done.append(classroom.Interrupts().__enter__().here))
    thread.start()
    thread.join()
    assert done == [True, False] and signal.getsignal(signal.SIGINT) is before


class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_heeded_all_the_same(room):
    with classroom.Interrupts() as interrupts:
        Interrupted()
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()

    class Dropping(Pretending):
        def _enter(self, student, gradebook, new=False):
            super()._enter(student, gradebook, new)
            Interrupted()

    class_ = room("bob", "cleo", "dora", kind=Dropping, workers=1)
    with pytest.raises(KeyboardInterrupt), class_.interrupts:
        class_.everybody()
    assert class_.entered == ["ann"]


def test_no_parser_of_addresses_is_built_to_read_a_notebook():
    script = "import sys, rnncourse.grading, nbformat; nbformat.validate(nbformat.v4.new_notebook()); print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_what_is_expected_of_everybody_is_computed_once():
    calls = []

    def reference(n):
        calls.append(n)
        return 2 * n

    exercise = Exercise("twice", reference, ("", "", ""), "", (), lambda generator: [len(calls) + 5])
    try:
        checking.seed_all("a class")
        for answer in (lambda n: 2 * n, lambda n: n + n):
            assert check_answer(exercise, answer).status == "correct"
        assert len(calls) == exercise.trials
        assert check_answer(exercise, lambda n: 2 * n + 1).status == "wrong"
    finally:
        checking.seed_all(None)
    check_answer(exercise, lambda n: 2 * n)
    assert len(calls) == 2 * exercise.trials


def test_a_zygote_that_nobody_asked_is_not_waited_for():
    with proxies.Zygote() as zygote:
        pass
    assert zygote.process.returncode == -signal.SIGKILL


def test_a_full_disk_stops_everything(room):
    with pytest.raises(OSError) as error:
        room("full", kind=Pretending).everybody()
    assert error.value.errno == errno.ENOSPC


def test_in_the_end_everybody_on_the_roll_is_told_of(room, monkeypatch):
    one = room()
    marks = {"check_step_jacobian": 1, "check_gradient_magnitude": 0.5, "text_1": None}
    entered = {cell: {"score": score, "auto": score, "waits": score is None} for cell, score in marks.items()}
    monkeypatch.setattr(course, "marks", lambda *_: {"ann": entered, "cy": entered})
    monkeypatch.setattr(course, "comments", lambda *_: {"text_1": f"Well. {SCRIPT}"})
    nbformat.write(submitting.filled(), course.written(one._notebook("autograded", "ann"), "") or one._notebook("autograded", "ann"))
    submitting.write(one.out / "feedback" / "cy.html", b"of what was handed in before")
    one.records = {
        "cy": {"status": "failed", "reason": "the file is empty", "results": {}},
        "ann": {"status": "graded", "reason": "", "results": {}, "why_not": None},
    }
    roll = SimpleNamespace(students=[SimpleNamespace(id=student) for student in ("ann", "zoe")])
    summary = one._finish(roll)
    assert (one.out / "grades.csv").read_text().splitlines() == [
        "student,check_step_jacobian,check_gradient_magnitude,text_1,total,of,status,reason,waiting,isolated",
        "ann,1,0.5,,1.5,5,graded,,text_1,yes",
        "cy,,,,,5,failed,the file is empty,,",
        "zoe,,,,,5,missing,nothing handed in,,",
    ]
    assert [path.name for path in (one.out / "feedback").iterdir()] == ["ann.html"]
    assert "Comment:</strong> Well. &lt;script&gt;" in (one.out / "feedback" / "ann.html").read_text()
    assert (summary["graded"], summary["failed"], summary["missing"], summary["isolated"]) == (1, 1, 1, True)
    one.records["ann"]["why_not"] = "no <namespaces>"
    assert one._finish(roll)["isolated"] is False and ",1.5,5,graded,,text_1,no\n" in (one.out / "grades.csv").read_text()
    assert "no &lt;namespaces&gt;" in (one.out / "index.html").read_text()


# ---------------------------------------------------------------- report


def row(student="ann", status="graded", reason="", waiting=(), **scores):
    total = sum(s for s in scores.values() if s is not None) if status == "graded" else None
    return {"student": student, "status": status, "reason": reason, "waiting": list(waiting), "scores": scores, "total": total}


def shown(*outputs):
    return report.feedback("two", row(), {"results": {}}, new_notebook(cells=[new_code_cell("x", outputs=list(outputs))]), {}, {}, new_notebook())


def test_all_that_a_student_wrote_is_escaped_in_the_feedback():
    outputs = [
        marking.output("stream", name="stdout", text=SCRIPT),
        marking.output("error", ename="E", evalue=SCRIPT, traceback=[]),
        marking.output("error", ename="E", evalue="", traceback=[SCRIPT]),
        marking.output("display_data", data=nbformat.NotebookNode({"text/plain": SCRIPT}), metadata=nbformat.NotebookNode()),
        marking.output("display_data", data=nbformat.NotebookNode({"image/png": f'">{SCRIPT}'}), metadata=nbformat.NotebookNode()),
    ]
    cells = [new_code_cell(SCRIPT, outputs=outputs), new_markdown_cell(SCRIPT), new_markdown_cell(f"# {SCRIPT}")]
    cells += [check_cell("check"), named(new_markdown_cell(SCRIPT), "text", grade=True, solution=True, points=3)]
    record = {"results": {"check_it": {"status": SCRIPT, "message": SCRIPT}}}
    marks = row(SCRIPT, check_it=1, text=2)
    page = report.feedback(SCRIPT, marks, record, new_notebook(cells=cells), marks["scores"], {"text": SCRIPT}, new_notebook())
    assert SCRIPT not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 16
    assert "default-src 'none'" in page and "<script" not in page


def test_feedback_shows_what_the_student_wrote_and_not_what_was_given():
    released, notebook = submitting.released(), submitting.filled(text="*Your answer here.*")
    notebook.cells += [new_markdown_cell("a note"), new_markdown_cell("# a heading ##")]
    marks = row(waiting=["text_1"], check_step_jacobian=1, check_gradient_magnitude=0, text_1=None)
    results = {"check_step_jacobian": {"status": "correct", "message": "correct"}}
    points = {"check_step_jacobian": 1, "check_gradient_magnitude": 1, "text_1": 3}
    page = report.feedback("two", marks, {"results": results}, notebook, points, {}, released)
    assert "<strong>1 of 5 points</strong>, 1 still to be marked by a person" in page
    assert "✔ correct <em>(1 of 1)</em>" in page and "nothing written (waits for a person)" in page
    assert RIGHT_STEP in page and "<pre>a note</pre>" in page and "<h2>a heading</h2>" in page
    assert "import torch" not in page and "check.gradient_magnitude" not in page
    notebook.cells[-3].source = TEXT
    done = report.feedback("two", marks | {"waiting": [], "scores": {"text_1": 2.5}} | {"total": 3.5}, {"results": {}}, notebook, points, {}, released)
    assert "by hand: <em>2.5 of 3</em>" in done and "still to be marked" not in done and "nothing written" not in done


def test_a_cell_s_outputs_are_all_in_the_feedback():
    code = base64.b64encode(PNG).decode()
    data = nbformat.NotebookNode({"image/png": code, "text/plain": "<Figure>"})
    page = shown(marking.output("stream", name="stdout", text="said"), marking.output("display_data", data=data, metadata={}))
    assert "<pre>said</pre>" in page and f'src="data:image/png;base64,{code}"' in page


def test_of_a_long_text_that_was_printed_the_beginning_is_shown():
    text = "\n".join(f"line {i}." for i in range(report.LINES + 3))
    data = nbformat.NotebookNode({"text/plain": text})
    page = shown(marking.output("stream", name="stdout", text=text), marking.output("display_data", data=data, metadata={}))
    assert page.count("line 39.\n… and 3 more lines</pre>") == 2 and "line 40." not in page
    assert "more lines" not in shown(marking.output("stream", name="stdout", text="x\n" * report.LINES))


def test_a_check_in_another_place_than_its_own_says_of_what_it_is():
    released, points = submitting.released(), {"check_step_jacobian": 1, "check_gradient_magnitude": 1}
    records = {"results": {name: {"status": "correct", "message": "well"} for name in points}}
    notebook = submitting.filled()
    del notebook.cells[-1]
    assert "<strong>step_jacobian" not in report.feedback("two", row(**points), records, notebook, points, {}, released)
    notebook.cells.append(notebook.cells.pop(3))
    page = report.feedback("two", row(**points), records, notebook, points, {}, released)
    assert "<strong>step_jacobian</strong> ✔ well" in page and "gradient_magnitude</strong>" not in page


def test_the_class_at_a_glance_counts_and_escapes():
    rows = [row("ann", one=2, text=None, waiting=["text"]), row("bob", one=1, text=0), row("cy", one=0, text=3), row(f"dan {SCRIPT}", one=2.5, text=1)]
    rows += [row(SCRIPT, "failed", SCRIPT), row("eve", "missing", "none")]
    points, titles = {"one": 2.0, "text": 3.0}, {"one": f"1a · {SCRIPT}", "text": "1b · Text"}
    page = report.index("two", rows, {}, points, SCRIPT, titles)
    assert "<p>4 graded, 2 not.</p>" in page and SCRIPT not in page
    cells = [re.findall("<td>(.*?)</td>", line) for line in re.findall("<tr>(.*?)</tr>", page)]
    assert [line[1:7] for line in cells if len(line) == 8] == [["2", "1.38", "2", "1", "1", "0"], ["3", "1.33", "1", "1", "1", "1"]]
    assert ["eve", "missing", "none"] in cells
    assert ['<a href="feedback/ann.html">ann</a>', "2", "", "2", "1b"] in cells
    assert "None of the typical ones." in page and "Not isolated" not in report.index("two", [], {}, points, None, titles)


def test_the_commonest_mistake_comes_first():
    one, other = (m.message for m in EXERCISES["step_jacobian"].mistakes[:2])
    said = {"a": [other], "b": [one], "c": [other], "d": ["something else"], "e": [other], "f": [one]}
    records = {s: {"results": {"check": {"exercise": "step_jacobian", "message": text}}} for s, (text,) in said.items()}
    records["g"] = {"results": {"check": {"exercise": "", "message": one}}}
    assert report.typical(records) == [(("check", other), 3), (("check", one), 2)]
    broken = next((e, m) for e in EXERCISES.values() for m in e.mistakes if m.error)
    message = f"your function raised E: oh ({broken[1].message})"
    records = {"a": {"results": {"check": {"exercise": broken[0].name, "message": message}}}}
    assert report.typical(records) == [(("check", broken[1].message), 1)]


def test_points_are_written_short_and_what_is_not_marked_is_empty():
    assert [report.number(value) for value in (None, 0.0, 2.0, 2.5)] == ["", "0", "2", "2.5"]


# ---------------------------------------------------------------- nbgrader's course folder


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "grades.csv"
    course.written(path, "first")
    with pytest.raises(UnicodeEncodeError):
        course.written(path, "half a character: \ud800")
    seen = []

    def fail(number):
        seen.append(path.read_text())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(course.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        course.written(path, b"second")
    assert seen == ["first"] and path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_a_text_has_no_name_by_which_nbgrader_s_pages_know_a_field():
    text = '<p id="text_1" class="score" style="color: red" data-x="1">a</p><input value=9><textarea>b</textarea><form>c</form><iframe src=x></iframe>'
    shown = course.harmless(text)
    assert re.findall(r"<[^>]*>", shown) == ["<p>", "</p>"] and "a" in shown
    assert course.harmless('<a href="https://x.org" onclick="y" target="z">a</a>') == '<a href="https://x.org">a</a>'


def test_the_course_is_made_again_when_its_source_has_changed(tmp_path):
    source = submitting.assignment(tmp_path)
    assert course.make_course(tmp_path / "out", source) == "two"
    released = tmp_path / "out" / "release" / "two" / "two.ipynb"
    before = released.stat().st_mtime_ns
    course.make_course(tmp_path / "out", source)
    assert released.stat().st_mtime_ns == before
    source.write_text(source.read_text().replace("## step_jacobian", "## Something else"))
    course.make_course(tmp_path / "out", source)
    assert "## Something else" in released.read_text()
    source.write_text("no notebook")
    for _ in range(2):
        with pytest.raises(ValueError, match="nbgrader can't release it"):
            course.make_course(tmp_path / "out", source)


def test_marks_are_those_of_the_assignment_and_a_person_s_stay(tmp_path):
    with course.open_gradebook(tmp_path) as gradebook:
        for name, score in (("one", 1), ("two", 0)):
            (tmp_path / f"{name}_SOLVED.ipynb").write_bytes(submitting.assignment(tmp_path).read_bytes())
            assert course.make_course(tmp_path, tmp_path / f"{name}_SOLVED.ipynb") == name
            notebook = course.released(tmp_path, name, gradebook)
            assert "secret_of_the_tests = 7" in by_name(notebook)["check_step_jacobian"]
            for cell in notebook.cells:
                if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
                    shown = nbformat.NotebookNode({"text/plain": str(score)})
                    cell.outputs = [marking.output("execute_result", data=shown, metadata=nbformat.NotebookNode(), execution_count=1)]
                if cell.metadata.get("nbgrader", {}).get("grade_id") == "text_1":
                    cell.source = TEXT
            course.save(gradebook, name, "ann", notebook, [])

        def marks():
            return {name: course.marks(gradebook, name)["ann"] for name in ("one", "two")}

        assert [marks()[name]["check_step_jacobian"]["score"] for name in ("one", "two")] == [1, 0]
        assert marks()["two"]["text_1"] == {"score": None, "auto": None, "waits": True}
        grade = gradebook.find_grade("check_step_jacobian", "two", "two", "ann")
        grade.manual_score, grade.needs_manual_grade = 1, False  # a person knows better than the check
        gradebook.db.commit()
        course.save(gradebook, "two", "ann", notebook, ["check_step_jacobian"])
        assert marks()["two"]["check_step_jacobian"] == {"score": 1, "auto": 0, "waits": False}
        course.save(gradebook, "two", "ann", notebook, ["text_1"])
        assert marks()["two"]["check_step_jacobian"] == {"score": 1, "auto": 0, "waits": True}
        assert course.comments(gradebook, "two", "ann") == {}


# ---------------------------------------------------------------- what is handed out


def test_a_zip_is_the_same_whenever_it_is_made_and_can_be_read_by_all(tmp_path):
    pack = tmp_path / "pack"
    for name in ("b/two.txt", "a.txt"):
        submitting.write(pack / name, name.encode())
    first = release._zip(pack, tmp_path / "first.zip").read_bytes()
    os.utime(pack / "a.txt", (1, 10**9))
    (pack / "a.txt").chmod(0o600)
    assert release._zip(pack, tmp_path / "second.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "first.zip") as packed:
        assert packed.namelist() == ["pack/a.txt", "pack/b/two.txt"]
        assert {stat.S_IMODE(entry.external_attr >> 16) for entry in packed.infolist()} == {0o644}


def test_checkpoints_are_not_handed_out(tmp_path):
    source = tmp_path / "notebooks" / "instructor" / "two_SOLVED.ipynb"
    submitting.write(source, submitting.solved())
    for name in ("rnncourse/bptt.py", "rnncourse/.ipynb_checkpoints/answers-checkpoint.py", "notebooks/one.ipynb"):
        submitting.write(tmp_path / name, b"{}")
    pack = release._student_pack(tmp_path / "pack", tmp_path, "two", source)
    files = {path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file()}
    assert files == {"README.md", "rnncourse/bptt.py", "notebooks/one.ipynb", "notebooks/two.ipynb", ".release/two.ipynb"}
    assert "secret_of_the_tests" not in (pack / "notebooks" / "two.ipynb").read_text()


@pytest.mark.parametrize(
    "place, error",
    [("Student._spawn", proxies.Broken()), ("Zygote.connect", RuntimeError()), ("Zygote.__init__", OSError())],
)
def test_where_no_process_of_its_own_can_be_had_a_kernel_checks(monkeypatch, place, error):
    def fail(*_, **__):
        raise error

    connection = socket.socket()
    owner, name = place.split(".")
    monkeypatch.setattr(proxies.Zygote, "__init__", lambda self: None)
    monkeypatch.setattr(proxies.Zygote, "__exit__", lambda *_: None)
    monkeypatch.setattr(proxies.Zygote, "connect", lambda self: (connection, None))
    monkeypatch.setattr(getattr(proxies, owner), name, fail)
    monkeypatch.setattr(handout, "_in_a_kernel", lambda *_: "from a kernel")
    with contextlib.closing(connection):
        assert handout._results(json.dumps(submitting.filled()).encode(), submitting.released(), "two") == "from a kernel"
    checking.seed_all(None)


# ---------------------------------------------------------------- jail, zygote, child

INSIDE = """
import json, os, resource, sys
from rnncourse.grading.jail import Jail

SPACES = [f"/proc/self/ns/{name}" for name in ("mnt", "net", "ipc", "uts", "pid")]
outside, jail = [open(space) for space in SPACES], Jail(sys.argv[1], [], 2**31)  # open: so their numbers are not used again
if os.geteuid() == 0:
    os.setgroups([0, 7])
jail.prepare()
seen = []
for _ in range(2):
    reading, writing = os.pipe()
    child = jail.fork()
    if not child:
        jail.enter(None)
        said = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
        space, limits = os.statvfs("/scratch"), ("CORE", "FSIZE", "NOFILE", "NPROC")
        about = {
            "shared": [space for space, was in zip(SPACES, outside) if os.path.sameopenfile(os.open(space, os.O_RDONLY), was.fileno())],
            "capabilities": [said[name].strip("0\\t ") for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")],
            "no_new": said["NoNewPrivs"].strip(), "user": os.getuid(), "groups": os.getgroups(),
            "writable": [top for top in ("/", "/usr", "/dev/null", sys.prefix) if not os.statvfs(top).f_flag & os.ST_RDONLY],
            "devices": [top for top in ("/", "/scratch", "/dev/shm") if not os.statvfs(top).f_flag & os.ST_NODEV],
            "scratch": [space.f_blocks * space.f_frsize, space.f_files], "at": os.getcwd(),
            "limits": [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in limits],
            "memory": 2**31 < resource.getrlimit(resource.RLIMIT_AS)[1] < 2**32, "first": open("/proc/self/oom_score_adj").read().strip(),
            "leader": os.getsid(0) == os.getpid(),
        }
        os.write(writing, json.dumps(about).encode())
        os._exit(0)
    os.close(writing)
    seen.append(json.loads(open(reading).read()))
    os.waitpid(child, 0)
print(json.dumps(seen))
"""


@pytest.mark.parametrize("user", [None, pytest.param(54321, marks=pytest.mark.skipif("not submitting.can_be_user()"))])
def test_a_submission_s_process_has_nothing_of_its_own_but_a_small_folder(user):
    if why_not := submitting.why_not_isolated(user):
        pytest.skip(f"no namespaces here: {why_not}")
    with tempfile.TemporaryDirectory() as view:
        os.chmod(view, 0o777)
        asked = [*submitting.as_user(user), sys.executable, "-c", INSIDE, view]
        run = subprocess.run(asked, capture_output=True, text=True, cwd=submitting.ROOT, check=True)
    seen = json.loads(run.stdout)
    users = {about.pop("user") for about in seen}
    assert len(users) == (2 if os.geteuid() == 0 and user is None else 1) and 0 not in users
    for about in seen:
        about.pop("groups") if user else None
        assert about == {
            "shared": [],
            "capabilities": [""] * 5,
            "no_new": "1",
            "writable": [],
            "devices": [],
            "scratch": [jail.SCRATCH, 8192],
            "at": "/scratch",
            "limits": [0, jail.SCRATCH, 256, jail.PROCESSES],
            "memory": True,
            "first": "1000",
            "leader": True,
        } | ({} if user else {"groups": []})


def test_without_namespaces_the_limits_are_the_same(tmp_path):
    tmp_path.chmod(0o777)
    kept = jail.Jail(tmp_path, [], 2**31, isolate=False)
    users = []

    def inside():
        kept.enter(str(tmp_path))
        most = {name: jail.resource.getrlimit(getattr(jail.resource, f"RLIMIT_{name}"))[1] for name in ("CORE", "FSIZE", "NOFILE")}
        assert most == {"CORE": 0, "FSIZE": jail.SCRATCH, "NOFILE": 256}
        assert 2**31 < jail.resource.getrlimit(jail.resource.RLIMIT_AS)[1] <= jail.size() + 2**31
        assert os.getsid(0) == os.getpid() and os.getcwd() == str(tmp_path)
        assert os.geteuid() != 0 and "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
        raise RuntimeError(str(os.geteuid()))

    for kept.children in (1, 2):
        users.append(jail.rehearsed(inside))
    assert all(map(str.isdigit, users)) and (users[0] != users[1]) == (os.geteuid() == 0)


def test_a_child_keeps_no_file_but_its_own_connection(wires):
    def inside():
        with open(os.devnull) as other:
            zygote.only(wires[1])
            files = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
            try:
                os.fstat(other.fileno())
            except OSError:
                files.discard(other.fileno())
            wires[1].sendall(json.dumps([sorted(files), wires[1].fileno(), os.readlink("/proc/self/fd/1")]).encode())
            os._exit(0)

    jail.rehearsed(inside)
    wires[0].settimeout(60)
    files, own, out = json.loads(wires[0].recv(4096))
    assert set(files) == {0, 1, 2, own} and out == os.devnull


def test_the_end_of_one_is_not_the_end_of_others(tmp_path):
    scratch = tmp_path / "scratch"
    (scratch / "deep").mkdir(parents=True)

    def inside():
        own, orphan, other = (subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3))
        zygote.end((own.pid, str(scratch)), [other.pid])
        assert zygote.left_behind() == {other.pid}
        other.kill()

    assert jail.rehearsed(inside) is None
    assert not scratch.exists()


def test_what_a_cell_shows_is_kept_up_to_a_limit():
    outputs = child.Outputs()
    outputs.start()
    outputs.stream("stdout", "a")
    outputs.stream("stdout", "b")
    outputs.stream("stderr", "c" * child.TEXT)
    outputs.stream("stdout", "d")
    assert [(o["name"], len(o["text"])) for o in outputs[:1]] == [("stdout", 2)]
    assert outputs[1]["text"].startswith("c" * (child.TEXT - 2) + "\n... (more was printed") and len(outputs) == 2
    picture = "p" * (child.PICTURES // 2)
    for _ in range(3):
        outputs.show("display_data", {"text/plain": "<Figure>", "image/png": picture})
    assert ["image/png" in o["data"] for o in outputs[2:]] == [True, True, False]
    wire.pack(list(outputs))
    outputs.start()
    assert outputs == [] and outputs.pictures == child.PICTURES


def test_of_a_traceback_the_cells_and_the_last_line_are_kept():
    cell, file = "Cell In[1], line 2\n----> 2 f()\n", "File /opt/rnncourse/grading/child.py:9, in f()\n----> 9 g()\n"
    assert child.own_frames(["---", "E   Traceback", file, cell, file, "E: /x"]) == ["---", "E   Traceback", cell, "E: /x"]
    assert child.own_frames(["  File /opt/x.py:1\n    def\n       ^\nSyntaxError: no\n"]) == ["SyntaxError: no"]
    assert child.own_frames(["File <timed exec>:1\n", "E: "]) == ["File <timed exec>:1\n", "E: "]


def test_a_cell_s_time_limit_ends_with_the_cell():
    before = signal.getsignal(signal.SIGALRM)
    try:
        child.run(SimpleNamespace(run_cell=lambda *_, **__: None), {}, "x = 1", 1000)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert signal.getsignal(signal.SIGALRM) == before


def reported(function):
    with pytest.raises(BaseException) as error:
        function()
    return child._report(error.value, {"thing": function})


def test_an_error_is_reported_in_words_and_a_stub_as_one():
    def stub():
        raise NotImplementedError("your code here")

    def of_a_library():
        return torch.linalg.qr(torch.eye(3).to_sparse())

    def lying():
        raise type("Lying", (Exception,), {"__str__": lambda self: 1 / 0})

    assert reported(stub)["stub"] is True and child._report(NotImplementedError(), {})["stub"] is True
    assert reported(of_a_library) | {"text": ""} == {
        "type": "NotImplementedError",
        "text": "",
        "place": f" at line {of_a_library.__code__.co_firstlineno + 1} of its cell (return torch.linalg.qr(torch.eye(3).to_sparse()))",
        "stub": False,
    }
    assert (reported(lying)["type"], reported(lying)["text"]) == ("Lying", "")
    assert len(child._report(ValueError("x" * 9999), {})["text"]) == 2000


# ---------------------------------------------------------------- the command's words


def test_the_summary_says_what_is_left_to_do(capsys):
    rows = [row(waiting=["a", "b"]), row("bob", waiting=["a"]), row("cy", "failed", "empty"), row("eve", "missing", "none")]
    summary = {"rows": rows, "graded": 2, "failed": 1, "missing": 1, "isolated": True, "why_not": None}
    command.tell(summary, Path("out"))
    said = capsys.readouterr().out
    assert said.splitlines()[:4] == [
        "  failed: cy: empty",
        "  missing: eve: none",
        "2 graded, 2 not (1 failed, 1 missing).",
        "3 text answers wait for a person: open nbgrader's Formgrader on out, then run this again.",
    ]
    assert "NOT ISOLATED" not in said
    command.tell(summary | {"rows": [], "isolated": False, "why_not": "no Linux"}, Path("out"))
    said = capsys.readouterr().out
    assert "NOT ISOLATED: this machine gives no namespaces (no Linux)" in said and "wait for a person" not in said


# ---------------------------------------------------------------- checking


def judged(error):
    def judge(given, x):
        raise error

    exercise = Exercise("made up", lambda x: x, (), "", (), inputs=lambda g: (torch.rand(2, generator=g),), judge=judge)
    return check_answer(exercise, lambda x: x).message


def test_an_error_in_a_judge_s_hands_is_told_by_its_own_name_wherever_it_was_raised():
    assert judged(Raised("ZeroDivisionError", "by\nzero")) == judged(ZeroDivisionError("by zero"))
    assert judged(ZeroDivisionError("by zero")) == "what your function returned can't be used: ZeroDivisionError: by zero"
    assert judged(checking.Wrong("the model is too small")) == "the model is too small"


def test_two_exercises_of_an_assignment_have_inputs_of_their_own():
    def asked(name):
        given = []
        exercise = Exercise(name, lambda x: x, (), "", (), inputs=lambda g: (torch.rand(2, generator=g),))
        check_answer(exercise, lambda x: given.append(x) or x)
        return torch.stack(given)

    try:
        checking.seed_all("two")
        assert not torch.equal(asked("made up"), asked("made up as well"))
    finally:
        checking.seed_all(None)


@pytest.mark.parametrize(
    "given, expected, tolerance, words",
    [
        ([1.0, 2.0], np.array([1.0, np.nan]), 1e-5, "wrong values"),
        ([np.inf, 2.0], torch.tensor([np.inf, 1.0]), 1e-5, "off by up to 1"),
        ({"a": [1.0, 1.2]}, {"a": [1.0, 1.0]}, 0.5, ""),
        ({"a": [1.0, 1.2]}, {"a": [1.0, 1.0]}, 0.1, "a: result 2: wrong value: 1.2 is too large"),
        (torch.tensor(1), True, 0, "expected a bool, got int 1"),
        (["no"], ["yes"], 0, "result 1: 'no' is not the answer"),
        ({10**5000: 1.0, "b": 1.0}, {"a": 1.0}, 0, "expected the keys ['a'], got ['an enormous whole number', 'b']"),
    ],
)
def test_differences_in_the_corners(given, expected, tolerance, words):
    told = difference(given, expected, tolerance)
    assert words in told and bool(told) == bool(words)
