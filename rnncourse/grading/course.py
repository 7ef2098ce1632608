"""nbgrader's course folder and gradebook: made from the solved notebook, filled with marks, read for the table."""

import contextlib
import hashlib
import os
import warnings
from html import escape
from pathlib import Path

import nbformat
import nbgrader
from alembic.script import ScriptDirectory
from nbconvert.filters import markdown2html
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbgrader import api, utils
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

COURSE = "rnncourse"
STUBS = {"code_stub": {"python": "...  # your code here"}, "text_stub": "*Your answer here.*"}
CONFIG = """# For nbgrader and its Formgrader, opened on this folder.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = {course!r}
c.CourseDirectory.db_url = {db_url!r}
c.ClearSolutions.code_stub = {code_stub!r}
c.ClearSolutions.text_stub = {text_stub!r}
# What students write is shown, and never run: nbgrader's pages take the HTML in a text as it is.
c.HTMLExporter.filters = {{
    "markdown2html": "rnncourse.grading.course.as_html",
    "clean_html": "rnncourse.grading.course.harmless",
}}
c.HTMLExporter.sanitize_html = True
"""
TAGS = (  # no pictures from elsewhere; and no class or id, by which nbgrader's pages know their own fields
    "a b blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre span strong sub sup "
    "table tbody td th thead tr ul"
)
ATTRIBUTES = {"a": ["href", "title"]}


def written(path, data):
    """Write a file whole or not at all: never half of it, whenever the power fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def harmless(html):
    """HTML without what a browser would run: other tags and attributes are shown as the text they are, or left out."""
    return SanitizeHTML(tags=TAGS.split(), attributes=ATTRIBUTES).sanitize_html_tags(html)


def as_html(markdown):
    """Markdown for nbgrader's pages, harmless; as it was written where it can't be shown, as with a picture that is missing."""
    try:
        return harmless(markdown2html(markdown))
    except Exception:  # one student's text must not keep a person from the others
        return f"<pre>{escape(markdown)}</pre>"


def default_db(folder):
    return f"sqlite:///{Path(folder).resolve() / 'gradebook.db'}"


def make_course(folder, source, db_url=None):
    """nbgrader's course folder with ``source`` (a solved notebook) as its assignment, released; returns the assignment's name."""
    folder, data = Path(folder).resolve(), Path(source).read_bytes()
    name = Path(source).stem.removesuffix("_SOLVED")
    db_url = db_url or default_db(folder)
    stamp, made = folder / ".grading" / "source", hashlib.sha256(data + (db_url + CONFIG).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == made:
        return name
    written(folder / "source" / name / f"{name}.ipynb", data)
    written(folder / "nbgrader_config.py", CONFIG.format(course=COURSE, db_url=db_url, **STUBS))
    place = CourseDirectory(root=str(folder), assignment_id=name, db_url=db_url, course_id=COURSE)
    converter = GenerateAssignment(coursedir=place, config=Config(ClearSolutions=STUBS))
    converter.force = True
    result = utils.capture_log(converter)
    if not result["success"]:
        raise ValueError(f"{source}: nbgrader can't release it: {result.get('log') or result['error']}")
    written(stamp, made)
    return name


def released(folder, name, gradebook):
    """The released notebook as the gradebook knows it: locked cells with their hidden tests."""
    notebook = nbformat.read(Path(folder, "release", name, f"{name}.ipynb"), as_version=4)
    sources = {cell.name: cell for cell in gradebook.find_notebook(name, name).source_cells}
    for cell in notebook.cells:
        stored = sources.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if stored is not None:
            cell.metadata.nbgrader["checksum"] = stored.checksum
            cell.source = stored.source if stored.locked else cell.source
    return notebook


def tables_version():
    """The version of nbgrader's tables, which a new gradebook notes."""
    return ScriptDirectory(str(Path(nbgrader.__file__).parent / "alembic")).get_current_head()


api.get_alembic_version = tables_version  # nbgrader's own runs a command for it, which takes seconds and may be off the path


def open_gradebook(folder, db_url=None):
    gradebook = api.Gradebook(db_url or default_db(folder), COURSE)
    gradebook.db().expire_on_commit = False  # else all that is known of the assignment is read again for each student
    return gradebook


@contextlib.contextmanager
def only_flushed(session):
    """What asks for a commit in the block is written, and waits for one that follows: each takes a disk its time."""
    session.commit = session.flush
    try:
        yield
    finally:
        del session.commit


def save(gradebook, name, student, notebook, unchanged):
    """Enter a marked notebook, in one transaction.

    Marks given by hand stay. They want another look, but for those of the cells named in ``unchanged``.
    """
    with warnings.catch_warnings(), only_flushed(gradebook.db):
        warnings.simplefilter("ignore")  # nbgrader's own, about SQLAlchemy
        gradebook.update_or_create_student(student)
        gradebook.update_or_create_submission(name, student)
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id")}
    submitted = gradebook.find_submission_notebook(name, name, student)
    for grade in submitted.grades:
        grade.auto_score = utils.determine_grade(cells[grade.name])[0]
        by_hand = grade.manual_score is not None
        grade.needs_manual_grade = (
            grade.needs_manual_grade if by_hand and grade.name in unchanged else by_hand or grade.auto_score is None
        )
    for comment in submitted.comments:
        cell = cells[comment.name]
        untouched = cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
        comment.auto_comment = "No response." if untouched else None
    gradebook.db.commit()


def marks(gradebook, name):
    """{student: {cell: {"score", "auto", "waits"}}} of all that the gradebook has on an assignment."""
    Submitted, Notebook = api.SubmittedAssignment, api.SubmittedNotebook
    rows = (
        gradebook.db.query(api.Student.id, api.BaseCell.name, api.Grade)
        .join(Submitted, Submitted.student_id == api.Student.id)
        .join(api.Assignment, api.Assignment.id == Submitted.assignment_id)
        .join(Notebook, Notebook.assignment_id == Submitted.id)
        .join(api.Grade, api.Grade.notebook_id == Notebook.id)
        .join(api.BaseCell, api.BaseCell.id == api.Grade.cell_id)
        .filter(api.Assignment.name == name)
    )
    found = {}
    for student, cell, grade in rows:
        scored = grade.auto_score is not None or grade.manual_score is not None
        found.setdefault(student, {})[cell] = {
            "score": grade.score if scored else None,
            "auto": grade.auto_score,
            "waits": bool(grade.needs_manual_grade),
        }
    return found


def comments(gradebook, name, student):
    """{cell: what a person wrote to the student about it}."""
    submitted = gradebook.find_submission_notebook(name, name, student)
    return {c.name: c.manual_comment for c in submitted.comments if c.manual_comment}
