"""A grader that is killed at any moment, twenty times, and started again, gives the marks of one that was left alone."""

import multiprocessing
import random
import signal
import time

from nbgrader.api import Gradebook

import submitting
from hostile import few
from rnncourse.grading.classroom import Class
from submitting import table

NAMES = ("right", "a typical mistake", "a stub", "another style", "os._exit in an answer", "a copied cell")


def killed(times, folder, earliest, latest):
    """Start, and kill at a random moment, its workers with it; again and again. Finished in the end: the same marks.

    ``earliest``, ``latest``: the moments lie between these shares of the time of the first run, which also makes the course.
    """
    (subs, source), out = few(folder, NAMES), folder / "out"
    context, moments = multiprocessing.get_context("fork"), random.Random(0)
    start = time.monotonic()
    Class(subs, out, source).run()
    whole, interrupted = time.monotonic() - start, 0
    expected = (out / "grades.csv").read_bytes()  # of this run, which nobody killed
    (out / "grades.csv").unlink()
    for _ in range(3 * times):  # a moment may come too late, and is no kill
        for record in sorted((out / ".grading" / "records").glob("*.json")):
            if moments.random() < 0.8:
                record.unlink()  # so that there is something left to interrupt
        run = context.Process(target=Class(subs, out, source).run)
        run.start()
        time.sleep(moments.uniform(earliest, latest) * whole)
        run.kill()
        run.join()
        interrupted += run.exitcode == -signal.SIGKILL
        if interrupted == times:
            break
    Class(subs, out, source).run()
    assert interrupted == times
    assert (out / "grades.csv").read_bytes() == expected
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}", "rnncourse") as gradebook:
        scores = {s.student.id: s.score for s in gradebook.assignment_submissions("two")}
    assert scores == {row["student"]: float(row["total"]) for row in table(out).values()}


def test_killed_at_any_moment_of_the_marking_it_loses_nothing(tmp_path):
    with submitting.one_zygote(tmp_path) as zygote:
        zygote.connect()[0].close()  # it is there already, so that most moments lie in the marking
        killed(19, tmp_path, 0.05, 0.6)


def test_killed_with_the_process_that_runs_the_submissions_it_loses_nothing(tmp_path):
    killed(1, tmp_path, 0.4, 0.9)
