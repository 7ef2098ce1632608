"""A class: every submission marked once, by several workers, to be stopped and resumed at any moment."""

import contextlib
import csv
import fcntl
import functools
import gc
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import nbformat
import torch
from tqdm import tqdm

from rnncourse.grading import course, report, submissions
from rnncourse.grading.graft import Unreadable
from rnncourse.grading.jail import die_with_parent, limit_memory
from rnncourse.grading.marking import mark
from rnncourse.grading.proxies import Broken, Zygote
from rnncourse.grading.report import number

PACKAGE = Path(__file__).parent.parent
WORKER = 4 * 2**30  # bytes that a worker may take


class CannotStart(Exception):
    """Nothing can be graded; the text says why."""


class Interrupts:
    """Ctrl-C while the ``with`` block lasts: raised as always, but never lost, and put off where ``wait`` says so.

    Python drops one that comes in a destructor or a callback; ``heed``, called now and then, raises it all the same.
    """

    asked, waits = False, False

    def __enter__(self):
        self.asked = False
        self.here = threading.current_thread() is threading.main_thread()  # an interrupt comes to that thread alone
        self.before = signal.signal(signal.SIGINT, self._interrupt) if self.here else None
        return self

    def __exit__(self, *_):
        if self.here:
            signal.signal(signal.SIGINT, self.before)

    def _interrupt(self, *_):
        self.asked = True
        if not self.waits:
            raise KeyboardInterrupt

    def heed(self):
        if self.asked:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def wait(self):
        """Let one wait until the block has ended: nbgrader would tell it as a failure of its own."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
        self.heed()


class Class:
    """The marking of the submissions in ``folder`` into ``out``. ``run`` does it and returns a summary."""

    def __init__(
        self, folder, out, source, db_url=None, workers=2, seconds=30, memory=2 * 2**30, regrade=False, isolate=True
    ):
        self.folder, self.out, self.source, self.db_url = Path(folder), Path(out), Path(source), db_url
        self.workers, self.seconds, self.memory, self.regrade = workers, float(seconds), memory, regrade
        self.isolate, self.spent, self.interrupts = isolate, 0.0, Interrupts()
        if not self.folder.exists():
            raise CannotStart(f"SUBMISSIONS: expected a folder or a zip, and there is none at {folder}")
        if any((self.folder / name).exists() for name in (".grading", "nbgrader_config.py")):
            raise CannotStart(f"SUBMISSIONS: expected what was handed in, got a folder of marks, as --out makes it: {folder}")
        if self.out.resolve().is_relative_to(self.folder.resolve()):
            expected = "a folder outside SUBMISSIONS, where everything is taken for handed in"
            raise CannotStart(f"--out: expected {expected}, got {out}")
        if not self.source.is_file():
            raise CannotStart(f"--source: expected the solved notebook, and there is none at {source}")

    def run(self):
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            course.written(self.out / ".grading" / "version", package_version())
            lock = open(self.out / ".grading" / "lock", "w")  # closed below; unlike a file's presence, it ends with us
        except OSError as error:
            raise CannotStart(f"--out: can't write to {self.out}: {error.strerror}. What is there is intact.") from None
        with lock, self.interrupts:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise CannotStart(f"--out: another rnncourse grade is at work on {self.out}. Wait for its end.") from None
            return self._run()

    def _run(self):
        with course.open_gradebook(self.out, self.db_url) as gradebook:
            try:
                with self.interrupts.wait():
                    self.name = course.make_course(self.out, self.source, self.db_url)
            except ValueError as error:
                raise CannotStart(f"--source: {error}") from None
            self.release = course.released(self.out, self.name, gradebook)
            self.found = submissions.find(self.folder, self.name)
            if not self.found and not gradebook.students:
                expected = "notebooks, folders or zips of students"
                raise CannotStart(f"SUBMISSIONS: expected {expected}, and there is nothing in {self.folder}")
            self.records = {s.student: self._record(s) for s in self.found}
            for submission in self.found:
                if self.records[submission.student]["status"] == "graded":
                    self._enter(submission.student, gradebook)
            todo = [s for s in self.found if not self.records[s.student].get("key")]
            if todo:
                with Zygote([self.folder, self.out, self.source], self.memory, self.isolate) as zygote:
                    control, self.why_not = zygote.connect()
                    control.close()
                    self.interrupts.heed()
                    start = time.perf_counter()
                    self._all(todo, zygote, gradebook)
                    self.spent = time.perf_counter() - start
            return self._finish(gradebook)

    def _key(self, data):
        settings = f"{package_version()} {self.seconds} {self.memory}".encode()
        return hashlib.sha256(data + settings + self.source.read_bytes()).hexdigest()

    def _path(self, student):
        return self.out / ".grading" / "records" / f"{student}.json"

    def _record(self, submission):
        """What is known of a submission: its record, if that is of these very bytes; otherwise one without a key."""
        if submission.problem:
            status, reason = submission.problem
            return {"status": status, "reason": reason, "results": {}, "key": "none"}
        with contextlib.suppress(OSError, ValueError, KeyError, Unreadable):
            record = json.loads(self._path(submission.student).read_text())
            if record["key"] == self._key(submission.read()) and not self.regrade:
                return record
        return {"status": "failed", "reason": "not graded yet", "results": {}}

    def _all(self, todo, zygote, gradebook):
        """Mark ``todo``, and enter it in the gradebook as it comes; what got into trouble once more, with nothing beside it."""
        with tqdm(total=len(todo), unit="submission", desc="grading", leave=False) as bar:
            again = list(todo)
            for workers in (self.workers, 1):
                again = self._round(again, min(workers, len(again)), zygote, gradebook, bar) if again else []

    def _round(self, todo, workers, zygote, gradebook, bar):
        """Mark ``todo`` with so many workers; those that are to be marked again."""
        waiting, busy, again = list(reversed(todo)), {}, []
        while waiting or any(busy.values()):
            self.interrupts.heed()
            while waiting and len(busy) < workers:  # at the start, and after one has ended
                busy[self._start(zygote, list(busy), workers == 1)] = None
            for pipe in [pipe for pipe, submission in busy.items() if submission is None][: len(waiting)]:
                busy[pipe] = waiting.pop()
                pipe.send(busy[pipe])
            for pipe in wait([pipe for pipe, submission in busy.items() if submission]):
                submission = busy[pipe]
                try:
                    record, busy[pipe] = json.loads(pipe.recv_bytes()), None
                except EOFError:
                    record = {"status": "failed", "reason": "the grader's own process ended", "results": {}}
                    del busy[pipe]
                if record["status"] == "again":
                    again.append(submission)
                    continue
                if record["status"] == "stop":
                    raise OSError(record["errno"], record["reason"])
                self.records[submission.student] = record
                if record["status"] == "graded":
                    self._enter(submission.student, gradebook, new=True)
                bar.update()
        for pipe in busy:
            pipe.close()
        return sorted(again, key=todo.index)

    def _start(self, zygote, others, alone):
        """A worker, as the pipe to it."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        context.Process(target=self._work, args=(theirs, zygote, [*others, ours], alone), daemon=True).start()
        theirs.close()
        return ours

    def _work(self, pipe, zygote, others, alone):
        """A worker: marks one submission after another."""
        die_with_parent()
        limit_memory(WORKER)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for other in (*others, zygote.alive):
            other.close()
        torch.set_num_threads(1)
        gc.freeze()  # what was there before is not looked through again, and stays shared
        with contextlib.suppress(EOFError, ConnectionError):  # the main process has ended, or waits for its end
            control, _ = zygote.connect()
            while True:
                pipe.send_bytes(json.dumps(self._mark(pipe.recv(), control, alone)).encode())
        os._exit(0)

    def _mark(self, submission, control, alone):
        try:
            data = submission.read()
            secret = hashlib.sha256(self.source.read_bytes()).hexdigest()  # nobody can reckon the inputs beforehand
            record, notebook = mark(data, self.release, control, self.seconds, f"{self.name} {secret}", alone)
            if record["status"] == "again":
                return record
            before = self._answers(submission.student)
            now = before if notebook is None else answers(notebook)
            unchanged = [cell for cell in now if before.get(cell) == now[cell]]  # a person need not look at them again
            record |= {"key": self._key(data), "why_not": self.why_not, "answers": now, "unchanged": unchanged}
            if notebook is not None:
                text = nbformat.writes(notebook)
                course.written(self._notebook("submitted", submission.student), data)
                course.written(self._notebook("autograded", submission.student), text)
            course.written(self._path(submission.student), json.dumps(record))
            return record
        except Unreadable as unreadable:
            return {"status": "failed", "reason": str(unreadable), "results": {}}
        except OSError as error:  # the disk is full, or the like: not this submission's fault
            return {"status": "stop", "errno": error.errno, "reason": error.strerror or str(error)}
        except (Exception, Broken) as error:  # ours, whatever the submission made of it
            reason = f"the grader failed: {type(error).__name__}: {error}"[:500]
            return {"status": "failed", "reason": reason, "results": {}}

    def _answers(self, student):
        """What ``answers`` said of what was marked last."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return json.loads(self._path(student).read_text())["answers"]
        return {}

    def _notebook(self, step, student):
        return self.out / step / student / self.name / f"{self.name}.ipynb"

    def _enter(self, student, gradebook, new=False):
        """See to it that the gradebook has what the record says."""
        known = {} if new else self._entered(gradebook).get(student, {})
        wanted = {cell: result["score"] for cell, result in self.records[student]["results"].items()}
        if not known or any(known[cell]["auto"] != score for cell, score in wanted.items()):
            notebook = nbformat.read(self._notebook("autograded", student), as_version=4)
            course.save(gradebook, self.name, student, notebook, self.records[student]["unchanged"])

    def _entered(self, gradebook):
        if not hasattr(self, "_marks"):
            self._marks = course.marks(gradebook, self.name)
        return self._marks

    def _finish(self, gradebook):
        """grades.csv, the feedback and the class at a glance; the summary."""
        marks = course.marks(gradebook, self.name)
        for student in gradebook.students:  # on the roll, and nothing handed in
            absent = {"status": "missing", "reason": "nothing handed in", "results": {}}
            self.records.setdefault(student.id, absent)
        cells = [c for c in self.release.cells if c.metadata.get("nbgrader", {}).get("grade")]
        points = {c.metadata.nbgrader.grade_id: float(c.metadata.nbgrader.points) for c in cells}
        rows = [
            self._row(student, record, marks.get(student, {}), points)
            for student, record in sorted(self.records.items())
        ]
        course.written(self.out / "grades.csv", table(rows, points))
        for row in rows:
            path = self.out / "feedback" / f"{row['student']}.html"
            if row["status"] != "graded":
                path.unlink(missing_ok=True)  # of what was handed in before
            else:
                notebook = nbformat.read(self._notebook("autograded", row["student"]), as_version=4)
                said = course.comments(gradebook, self.name, row["student"])
                page = report.feedback(
                    self.name, row, self.records[row["student"]], notebook, points, said, self.release
                )
                course.written(path, page)
        why_not = next((r["why_not"] for r in self.records.values() if r.get("why_not")), None)
        title = report.titles(self.release)
        course.written(self.out / "index.html", report.index(self.name, rows, self.records, points, why_not, title))
        count = {status: sum(row["status"] == status for row in rows) for status in ("graded", "failed", "missing")}
        return count | {"assignment": self.name, "isolated": why_not is None, "why_not": why_not, "rows": rows}

    def _row(self, student, record, marks, points):
        row = {"student": student, "status": record["status"], "reason": record["reason"]}
        graded = record["status"] == "graded"
        row["scores"] = {cell: marks[cell]["score"] if graded else None for cell in points}
        row["waiting"] = [cell for cell in points if graded and marks[cell]["waits"]]
        row["total"] = sum(s for s in row["scores"].values() if s is not None) if graded else None
        row["isolated"] = ("no" if record.get("why_not") else "yes") if graded else ""
        return row


@functools.cache
def package_version():
    """A hash of the whole package: the checks call all of it."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*.py")))).hexdigest()


def answers(notebook):
    """{marked cell: a hash of what a student wrote for it}: of a text itself; of a check all code, for it may depend on any."""
    marked = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")}
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    texts = {name: cell.source if cell.cell_type == "markdown" else code for name, cell in marked.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def table(rows, points):
    """grades.csv: a line a student. What was not marked is empty, never 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", *points, "total", "of", "status", "reason", "waiting", "isolated"])
    for row in rows:
        scores = [number(row["scores"][cell]) for cell in points]
        end = [number(row["total"]), number(sum(points.values())), row["status"], row["reason"]]
        writer.writerow([row["student"], *scores, *end, " ".join(row["waiting"]), row["isolated"]])
    return text.getvalue()
