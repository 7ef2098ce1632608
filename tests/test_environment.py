"""environment.yml asks conda for what pyproject.toml asks pip for: the same packages, bounds and Python."""

import ast
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along before Python 3.11

ROOT = Path(__file__).parent.parent
# Where conda-forge has another name than pip.
PIP_NAME = {"pytorch": "torch", "playwright-python": "playwright", "psycopg2": "psycopg2-binary"}
CONDA_ONLY = {"pip"}


def bounds(requirements):
    """{"torch": ">=2.3", ...}"""
    parsed = [Requirement(requirement) for requirement in requirements]
    return {PIP_NAME.get(r.name.lower(), r.name.lower()): str(r.specifier) for r in parsed}


def pip_needs(pyproject):
    """What pyproject.toml asks for, tests and Python included."""
    project = pyproject["project"]
    needs = bounds(project["dependencies"] + project["optional-dependencies"]["test"])
    return {**needs, "python": project["requires-python"]}


def conda_needs(environment):
    """What environment.yml asks for, its pip section included, the course itself and pip left out."""
    entries = environment["dependencies"]
    from_pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    assert "-e ." in from_pip, "environment.yml does not install the course itself"
    from_conda = [entry for entry in entries if isinstance(entry, str) and entry not in CONDA_ONLY]
    return bounds(from_conda + [line for line in from_pip if line != "-e ."])


def differences(pip, conda):
    """One sentence for each package that the two do not ask for alike."""
    return [
        f"{name}: pyproject.toml {pip.get(name, 'lacks it')}, environment.yml {conda.get(name, 'lacks it')}"
        for name in sorted(pip.keys() | conda.keys())
        if pip.get(name) != conda.get(name)
    ]


def test_environment_and_pyproject_agree():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert differences(pip_needs(pyproject), conda_needs(environment)) == []
    assert environment["name"] == pyproject["project"]["name"]
    assert environment["channels"] == ["conda-forge"]


PYPROJECT = {
    "project": {
        "requires-python": ">=3.10",
        "dependencies": ["torch>=2.3", "names>=0.3"],
        "optional-dependencies": {"test": ["pytest>=8.0"]},
    }
}


@pytest.mark.parametrize(
    "dependencies, expected",
    [
        (["python>=3.10", "pip", "pytorch>=2.3", "pytest>=8.0", {"pip": ["names>=0.3", "-e ."]}], []),
        (["python>=3.10", "pytorch>=2.3", {"pip": ["names>=0.3", "-e ."]}], ["pytest"]),
        (["python>=3.10", "pytorch>=2.3", "pytest>=8.0", "tqdm", {"pip": ["names>=0.3", "-e ."]}], ["tqdm"]),
        (["python>=3.10", "pytorch>=2.4", "pytest>=8.0", {"pip": ["names>=0.3", "-e ."]}], ["torch"]),
        (["python>=3.9", "pytorch>=2.3", "pytest>=8.0", {"pip": ["names>=0.2", "-e ."]}], ["names", "python"]),
    ],
)
def test_a_difference_is_found(dependencies, expected):
    found = differences(pip_needs(PYPROJECT), conda_needs({"dependencies": dependencies}))
    assert [sentence.split(":")[0] for sentence in found] == expected


def test_the_course_itself_must_be_installed():
    with pytest.raises(AssertionError, match="course itself"):
        conda_needs({"dependencies": ["python>=3.10", {"pip": ["names>=0.3"]}]})


def imported():
    """The first names of what the package imports, anywhere in it."""
    for path in (ROOT / "rnncourse").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


def test_the_course_imports_nothing_that_is_installed_for_its_tests_alone():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = packages_distributions()
    needed = {package.lower() for name in set(imported()) for package in found.get(name, [])}
    assert "torch" in needed
    assert needed & bounds(pyproject["project"]["optional-dependencies"]["test"]).keys() == set()


TOOLS = "bash dirname mktemp rm ls id"  # what .ci/run calls, but for apt-get, which would install


@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize("browser", ["chromium", "chromium-browser", "google-chrome", "chrome", None])
def test_the_whole_run_knows_each_chromium_keeps_the_status_and_leaves_nothing(browser, tmp_path):
    for folder in ("bin", "tmp", "course/.ci"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "course" / ".ci")
    for name in TOOLS.split():
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    for name, script in {"make": 'echo "$PWD"; exit 7', browser or "no-browser": "exit 1"}.items():
        (tmp_path / "bin" / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(["bash", tmp_path / "course/.ci/run"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines()[-1] == str((tmp_path / "course").resolve())
    assert ("chromium" in done.stdout.replace(str(tmp_path), "")) == (browser is None)
    assert list((tmp_path / "tmp").iterdir()) == []
