"""A grader that is killed at any moment, twenty times, and started again, gives the marks of one that was left alone."""

import multiprocessing
import random
import time

from nbgrader.api import Gradebook

from hostile import few
from rnncourse.grading.classroom import Class
from submitting import table


def test_killed_at_any_moment_it_loses_nothing(tmp_path):
    """Twenty times: started, and killed at a random moment, its workers with it. Finished in the end: the same marks."""
    names = ("right", "a typical mistake", "a stub", "another style", "os._exit in an answer", "a copied cell", "slow")
    subs, source = few(tmp_path, names)
    context, moments, start = multiprocessing.get_context("fork"), random.Random(0), time.monotonic()
    Class(subs, tmp_path / "undisturbed", source).run()
    whole, out = time.monotonic() - start, tmp_path / "out"
    for _ in range(20):
        run = context.Process(target=Class(subs, out, source).run)
        run.start()
        time.sleep(moments.uniform(0.2, 1.0) * whole)
        run.kill()
        run.join()
        for record in sorted((out / ".grading" / "records").glob("*.json"))[: moments.randrange(4)]:
            record.unlink()  # so that there is something left to interrupt
    Class(subs, out, source).run()
    assert (out / "grades.csv").read_bytes() == (tmp_path / "undisturbed" / "grades.csv").read_bytes()
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}", "rnncourse") as gradebook:
        scores = {s.student.id: s.score for s in gradebook.assignment_submissions("two")}
    assert scores == {row["student"]: float(row["total"]) for row in table(out).values()}
