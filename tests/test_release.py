"""Notebook 08 and its solved source; what is handed out; rnncourse release and rnncourse check."""

import copy
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbgrader import utils
from typer.testing import CliRunner

from rnncourse.__main__ import app
from rnncourse.exercises import EXERCISES
from rnncourse.grading import handout, release
from rnncourse.grading.course import make_course

ROOT = Path(__file__).parent.parent
SOLVED_PATH = ROOT / "notebooks" / "instructor" / "08_exercises_SOLVED.ipynb"
COPY_PATH = ROOT / "notebooks" / "08_exercises.ipynb"
SOLVED, COPY = (nbformat.read(path, as_version=4) for path in (SOLVED_PATH, COPY_PATH))
CODE_STUB, TEXT_STUB = "...  # your code here", "*Your answer here.*"


def by_name(notebook):
    """The cells that nbgrader knows, by their names."""
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def checks(notebook):
    return {name: cell for name, cell in by_name(notebook).items() if utils.is_grade(cell) and cell.cell_type == "code"}


def answers(notebook):
    return {name: cell for name, cell in by_name(notebook).items() if utils.is_solution(cell)}


def as_written(notebook):
    """Sources and metadata of a notebook's cells, without what a run leaves in it."""
    return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]


# -- the two notebooks -------------------------------------------------------------------------------------------------


def test_the_copy_is_the_solution_minus_the_marked_lines():
    assert len(SOLVED.cells) == len(COPY.cells)
    for solved, copied in zip(SOLVED.cells, COPY.cells):
        lines, inside = [], False
        for line in solved.source.split("\n"):
            if "### BEGIN SOLUTION" in line:
                lines.append(line.replace("### BEGIN SOLUTION", CODE_STUB))
            inside = inside or "### BEGIN SOLUTION" in line
            if not inside:
                lines.append(line)
            inside = inside and "### END SOLUTION" not in line
        is_text_answer = solved.cell_type == "markdown" and utils.is_solution(solved)
        assert copied.source == (TEXT_STUB if is_text_answer else "\n".join(lines))
        assert utils.is_solution(solved) == (copied.source != solved.source)


def test_the_copy_in_the_course_is_the_one_that_nbgrader_would_hand_out(tmp_path):
    name = make_course(tmp_path, SOLVED_PATH)
    released = nbformat.read(tmp_path / "release" / name / f"{name}.ipynb", as_version=4)
    assert name == "08_exercises"
    assert as_written(COPY) == as_written(release.student_copy(SOLVED)) == as_written(released)


def test_nobody_s_answer_is_in_the_copy():
    text = COPY_PATH.read_text(encoding="utf-8")
    for name, cell in answers(SOLVED).items():
        lines = cell.source.split("### BEGIN SOLUTION")[-1].split("### END SOLUTION")[0].split("\n")
        for line in [line.strip() for line in lines if len(line.strip()) > 30]:
            assert line not in text, f"{name}: {line}"


def test_a_run_of_the_copy_attempts_nothing_and_one_of_the_source_earns_all():
    for name, cell in checks(COPY).items():
        (output,) = cell.outputs
        assert "○ not attempted yet" in output.data["text/html"], name
        assert utils.determine_grade(cell) == (0, cell.metadata.nbgrader.points)
    for name, cell in checks(SOLVED).items():
        points = cell.metadata.nbgrader.points
        assert utils.determine_grade(cell) == (points, points), name
    assert not [o for c in COPY.cells + SOLVED.cells for o in c.get("outputs", []) if o.output_type == "error"]


def test_points_agree_wherever_they_stand():
    points = {name: cell.metadata.nbgrader.points for name, cell in by_name(SOLVED).items() if utils.is_grade(cell)}
    assert {f"check_{name}" for name in EXERCISES} >= set(checks(SOLVED)) and len(checks(SOLVED)) == 11
    for name in checks(SOLVED):
        assert points[name] == EXERCISES[name.removeprefix("check_")].points
    auto = sum(points[name] for name in checks(SOLVED))
    row = f"| | | {auto} | {sum(points.values()) - auto} | {sum(points.values())} |"
    assert any(row in cell.source for cell in SOLVED.cells)
    assert sum(points.values()) == 30
    for before, cell in zip(SOLVED.cells, SOLVED.cells[1:]):
        if utils.is_solution(cell):
            (stated,) = re.findall(r"\((\d) points?\)", before.source)
            worth = points.get(cell.metadata.nbgrader.grade_id) or points[cell.metadata.nbgrader.grade_id.replace("answer", "check")]
            assert int(stated) == worth, before.source


def test_every_text_answer_has_its_rubric_before_it():
    texts = {name: cell for name, cell in answers(SOLVED).items() if cell.cell_type == "markdown"}
    assert list(texts) == ["text_1", "text_2", "text_4", "text_5"]
    for before, cell in zip(SOLVED.cells, SOLVED.cells[1:]):
        if cell in texts.values():
            rubric = before.source.partition("*Rubric.*")[2]
            assert rubric.count("**1 point**") == cell.metadata.nbgrader.points
            assert len(cell.source.split()) > 100


def test_every_check_stands_right_below_its_answer_and_ends_in_the_check():
    for before, cell in zip(SOLVED.cells, SOLVED.cells[1:]):
        if (name := cell.metadata.get("nbgrader", {}).get("grade_id", "")).startswith("check_"):
            exercise = name.removeprefix("check_")
            assert cell.source == f"check.{exercise}({exercise})"
            assert before.metadata.nbgrader.grade_id == f"answer_{exercise}"


def test_the_solution_in_the_notebook_is_the_exercise_s_own():
    for name in checks(SOLVED):
        exercise = EXERCISES[name.removeprefix("check_")]
        body = by_name(SOLVED)[f"answer_{exercise.name}"].source.split("### BEGIN SOLUTION\n")[1].split("\n    ### END SOLUTION")[0]
        code = [re.sub(r"\s*#.*", "", line) for line in body.split("\n")]
        theirs = [re.sub(r"\s*#.*", "", line) for line in exercise.source.rstrip().split("\n")]
        theirs = theirs[[line.startswith("def ") for line in theirs].index(True) + 1 :]
        assert code == theirs, exercise.name


# -- release -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "out"
    result = CliRunner().invoke(app, ["release", str(out)])
    assert result.exit_code == 0, result.output
    return out


def files(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_the_student_s_pack_has_what_a_student_needs_and_no_solution(handed_out):
    pack = handed_out / release.PACK
    wanted = {"README.md", "environment.yml", "pyproject.toml", "Makefile", "LICENSE", "rnncourse/__main__.py"}
    wanted |= {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")} | {".release/08_exercises.ipynb"}
    wanted |= {f"lab/labconfig/{name}.json" for name in ("page_config", "default_setting_overrides")}
    assert wanted <= files(pack)
    for path in pack.rglob("*.ipynb"):
        assert "BEGIN SOLUTION" not in path.read_text(encoding="utf-8")
    assert not [name for name in files(pack) if "SOLVED" in name or name.startswith(("tests/", "tools/"))]
    fresh = nbformat.read(pack / "notebooks" / "08_exercises.ipynb", as_version=4)
    assert as_written(fresh) == as_written(COPY)
    assert not [cell for cell in fresh.cells if cell.get("outputs")]


def test_what_the_pack_s_readme_names_is_in_the_pack(handed_out):
    pack = handed_out / release.PACK
    text = (pack / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"(?:notebooks/[\w.]+|environment\.yml|LICENSE)", text):
        assert (pack / name).exists(), name
    assert "{" not in text


def test_the_pack_s_readme_tells_of_torch_without_cuda_as_the_course_s_own_does(handed_out):
    line = '    make lab TORCH="torch --index-url ..."\n'
    for readme in (handed_out / release.PACK / "README.md", ROOT / "README.md"):
        text = readme.read_text(encoding="utf-8")
        assert line in text and "torch without cuda" in text.lower(), readme  # where the Makefile sends its reader


def test_the_zip_is_the_folder_and_the_same_each_time(handed_out, tmp_path):
    with zipfile.ZipFile(handed_out / f"{release.PACK}.zip") as packed:
        packed.extractall(tmp_path)
    folders = tmp_path / release.PACK, handed_out / release.PACK
    assert files(folders[0]) == files(folders[1])
    for name in files(folders[0]):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    again = release._zip(folders[1], tmp_path / "again.zip")
    assert again.read_bytes() == (handed_out / f"{release.PACK}.zip").read_bytes()


def test_the_instructor_s_folder_is_nbgrader_s_and_may_be_moved(handed_out):
    course = handed_out / "instructor"
    assert {"source/08_exercises/08_exercises.ipynb", "release/08_exercises/08_exercises.ipynb"} <= files(course)
    assert {"gradebook.db", "nbgrader_config.py"} <= files(course) and (course / "submitted").is_dir()
    config = (course / "nbgrader_config.py").read_text(encoding="utf-8")
    assert str(handed_out) not in config and "course_id = 'rnncourse'" in config
    source = nbformat.read(course / "source" / "08_exercises" / "08_exercises.ipynb", as_version=4)
    assert as_written(source) == as_written(SOLVED)


def told(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2
    return result.output + (result.stderr if result.stderr_bytes else "")


def test_release_says_what_is_wrong_with_its_folder(tmp_path, monkeypatch):
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    assert "something in it already" in told("release", full) and files(full) == {"mine.txt"}
    assert "is a file" in told("release", file) and file.read_text() == "mine"
    assert "can't write" in told("release", file / "below")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "no"))

    monkeypatch.setattr(release.shutil, "copyfile", refuse)
    assert "can't write" in told("release", tmp_path / "no")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"], "half a release is left behind"


def test_release_fills_an_empty_folder_too(tmp_path, monkeypatch):
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    (tmp_path / "new" / "empty").mkdir()
    result = CliRunner().invoke(app, ["release", "empty"])
    assert result.exit_code == 0 and f"empty/{release.PACK}.zip" in result.output
    assert (tmp_path / "new" / "empty" / "instructor" / "gradebook.db").exists()


def test_notebooks_that_differ_from_the_course_s_are_named(tmp_path, monkeypatch):
    def git(*arguments):
        me = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *me, *arguments], cwd=tmp_path, check=True, capture_output=True)

    if not shutil.which("git"):
        pytest.skip("there is no git")
    for name in ("01_a", "02_b", "03_c", "08_d", "instructor/08_d_SOLVED"):
        (tmp_path / "course" / "notebooks" / f"{name}.ipynb").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "course" / "notebooks" / f"{name}.ipynb").write_text("as it was")
    course, notebooks = tmp_path / "course", tmp_path / "course" / "notebooks"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert release.changed_notebooks(course) == []  # no checkout
    git("init")
    assert release.changed_notebooks(course) == []  # another's checkout, which knows nothing of the course
    git("add", ".")
    git("commit", "-m", "The course")
    assert release.changed_notebooks(course) == []
    for path in [*notebooks.glob("*.ipynb"), notebooks / "instructor" / "08_d_SOLVED.ipynb", notebooks / "mine.txt"]:
        path.write_text("half run")
    (notebooks / "01_a.ipynb").write_text("as it was")
    git("add", "course/notebooks/03_c.ipynb")
    assert release.changed_notebooks(course) == ["02_b.ipynb", "03_c.ipynb"]  # 08 is made anew from its solution
    (notebooks / "02_b.ipynb").unlink()  # does not go out at all
    assert release.changed_notebooks(course) == ["03_c.ipynb"]
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert release.changed_notebooks(course) == []


def test_release_needs_the_whole_course(tmp_path):
    with pytest.raises(release.CannotRelease, match="no solved notebook"):
        release.release(tmp_path / "out", course=tmp_path)


# -- check -------------------------------------------------------------------------------------------------------------


def submission(path, **sources):
    """A student's copy in which the named cells have other sources."""
    notebook = copy.deepcopy(COPY)
    for name, source in sources.items():
        by_name(notebook)[name].source = source
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def half_done(tmp_path):
    solution = answers(SOLVED)["answer_gradient_after"].source
    wrong = "def stretch(W, steps):\n    s = torch.linalg.svdvals(W)\n    return s.min(), s.max()"
    return submission(
        tmp_path / "mine.ipynb", answer_gradient_after=solution, answer_stretch=wrong, text_2="It stops at <20>."
    )


@pytest.mark.parametrize("where", ["child", "kernel"])
def test_check_tells_each_exercise_s_points_and_what_is_wrong(half_done, where, monkeypatch):
    if where == "kernel":
        monkeypatch.setattr(handout, "hasattr", lambda *_: False, raising=False)  # as where there is no fork
    before = half_done.read_bytes()
    result = CliRunner().invoke(app, ["check", str(half_done)])
    said = " ".join(result.output.split())
    assert result.exit_code == 0, result.output
    assert "✔ gradient_after 2 of 2" in said and "○ bound_after 0 of 2 not attempted yet" in said
    assert "✘ stretch 0 of 1 this is one step: take the power of W first" in said
    assert "✎ text_2 waits for a person, of 2" in said and "○ text_4 nothing written yet, of 3" in said
    assert "2 of 21 points from the checks." in said
    assert half_done.read_bytes() == before


def test_check_gives_the_solution_full_marks():
    result = CliRunner().invoke(app, ["check", str(SOLVED_PATH)])
    assert result.exit_code == 0 and "21 of 21 points" in result.output and "✘" not in result.output


def test_check_says_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / "empty.ipynb").touch()
    assert "the file is empty" in told("check", tmp_path / "empty.ipynb")
    assert "not JSON" in told("check", ROOT / "README.md")
    assert "No such file" in told("check", tmp_path / "none.ipynb")
    assert "none of its cells" in told("check", ROOT / "notebooks" / "03_bptt.ipynb")
    assert "Is a directory" in told("check", tmp_path)


def test_check_in_a_pack_holds_a_notebook_against_what_was_handed_out(handed_out):
    name, notebook = release.released_notebook(handed_out / release.PACK)
    assert (name, as_written(notebook)) == ("08_exercises", as_written(COPY))
