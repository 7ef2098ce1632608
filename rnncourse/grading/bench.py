"""What marking costs beside nbgrader's own autograde: the same submissions, in the same run, with the same marks."""

import copy
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import nbformat
import pandas as pd
from nbgrader import utils
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from rnncourse.grading import course
from rnncourse.grading.classroom import Class
from rnncourse.grading.release import solved_notebook, student_copy

CLASS = 200  # submissions of the class that is marked in one call
NBGRADER = 3  # of them are also marked by nbgrader, one after another, as it does


def submissions(folder, count, solved, name):
    """``count`` students' notebooks: one without the first answer, one without the second, ... and one with all, and again."""
    stub, answers = student_copy(solved), [c.id for c in solved.cells if utils.is_solution(c) and not utils.is_grade(c)]
    for number in range(count):
        missing, notebook = answers[number % (len(answers) + 1) :][:1], copy.deepcopy(solved)
        for cell, empty in zip(notebook.cells, stub.cells, strict=True):
            cell.source = empty.source if cell.id in missing else cell.source
        path = folder / f"student-{number:03d}" / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)


def with_nbgrader(folder, source, students, subs):
    """Median seconds a submission of nbgrader's autograde, and its marks."""
    name = course.make_course(folder, source)
    for student in students:
        shutil.copytree(subs / student, folder / "submitted" / student / name)
    times, quiet = [], Config(Execute={"timeout": 120})
    for student in students:
        place = CourseDirectory(
            root=str(folder),
            assignment_id=name,
            student_id=student,
            db_url=course.default_db(folder),
            course_id=course.COURSE,
        )
        start = time.perf_counter()
        result = utils.capture_log(Autograde(coursedir=place, config=quiet))
        times.append(time.perf_counter() - start)
        if not result["success"]:
            raise RuntimeError(result["log"])
    with course.open_gradebook(folder) as gradebook:
        return statistics.median(times), _auto(course.marks(gradebook, name))


def _auto(marks):
    return {student: {cell: mark["auto"] for cell, mark in cells.items()} for student, cells in marks.items()}


def marking(count=CLASS, peers=NBGRADER, source=None):
    """(table, whether all marks are the same) of a class marked here and, some of it, by nbgrader.

    The assignment is that of ``source``, by default notebook 08, without its experiments, which only nbgrader would run.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder, source = Path(folder), Path(source or solved_notebook())
        solved = nbformat.read(source, as_version=4)
        solved.cells = [cell for cell in solved.cells if "experiment" not in cell.metadata.get("tags", [])]
        source = folder / source.name
        nbformat.write(solved, source)
        submissions(folder / "subs", count, solved, source.stem.removesuffix("_SOLVED"))
        students = [path.name for path in sorted((folder / "subs").iterdir())[:peers]]
        workers = os.cpu_count() or 1
        room = Class(folder / "subs", folder / "here", source, workers=workers)
        room.run()
        with course.open_gradebook(folder / "here") as gradebook:
            ours = _auto(course.marks(gradebook, room.name))
        seconds, theirs = with_nbgrader(folder / "theirs", source, students, folder / "subs")
        rows = [[f"rnncourse grade, {workers} workers", count, room.spent / count]]
        rows += [["nbgrader's autograde", len(students), seconds]]
        table = pd.DataFrame(rows, columns=["marked by", "submissions", "s each"])
        table["times as fast"] = seconds / table["s each"]
        return table, all(ours[student] == theirs[student] for student in students)


def main():
    table, same = marking()
    print("\nMarking notebook 08, after start-up\n")
    print(table.round(3).to_string(index=False))
    print(f"\nThe marks are {'the same' if same else 'NOT THE SAME'}.")


if __name__ == "__main__":
    main()
