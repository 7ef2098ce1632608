"""What `make lab` shows: nbgrader's panels to those who teach, and to nobody else; no news on the wall."""

import os
import subprocess
from pathlib import Path

import pytest
from jupyter_core.paths import jupyter_config_path
from jupyter_server.services.config import ConfigManager
from jupyterlab.commands import get_app_dir
from jupyterlab_server.config import get_page_config
from jupyterlab_server.settings_utils import get_settings

ROOT = Path(__file__).parent.parent
SERVER_EXTENSIONS = ("formgrader", "validate_assignment", "assignment_list", "course_list")
FAKE = """#!/bin/sh
echo "$(pwd)|$JUPYTER_CONFIG_PATH|$*"
"""


@pytest.mark.parametrize("config, on", [(str(ROOT / "lab"), False), ("", True)], ids=["learner", "instructor"])
def test_nbgrader_is_off_for_a_learner_and_on_without_our_settings(monkeypatch, tmp_path, config, on):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))  # not what this user has set
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", config)
    paths = jupyter_config_path()
    switches = ConfigManager(read_config_path=paths).get("jupyter_server_config")["ServerApp"]["jpserver_extensions"]
    for name in SERVER_EXTENSIONS:
        assert switches[f"nbgrader.server_extensions.{name}"] is on
    page = get_page_config([], app_settings_dir=None)
    assert ("@jupyter/nbgrader" in page["disabledExtensions"]) is not on


def test_jupyterlab_asks_nobody_for_its_news_and_for_updates(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(ROOT / "lab"))
    app, plugin = Path(get_app_dir()), "@jupyterlab/apputils-extension:notification"
    found, _ = get_settings(str(tmp_path), str(app / "schemas"), str(tmp_path), plugin)
    values = {name: field["default"] for name, field in found["schema"]["properties"].items() if "default" in field}
    assert (values["fetchNews"], values["checkForUpdates"]) == ("false", False)


@pytest.fixture
def course(tmp_path):
    """A folder with the course's Makefile and an environment that only says how it was called."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for folder in ("notebooks", "class of 2030", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "bin" / "python").write_text(FAKE)
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    (tmp_path / ".venv" / "installed.stamp").touch()
    return tmp_path


def call(course, *arguments):
    environment = {**os.environ, "DISPLAY": ":0", "JUPYTER_CONFIG_PATH": "", "JUPYTER_CONFIG_DIR": str(course / "jupyter")}
    environment.pop("JUPYTERLAB_SETTINGS_DIR", None)
    said = subprocess.run(["make", "-s", "lab", *arguments], cwd=course, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return said.stdout.strip().split("|")


def test_make_lab_opens_the_notebooks_with_our_settings(course):
    folder, config, arguments = call(course, "LAB_ARGS=--port 9")
    assert (folder, config) == (str(course / "notebooks"), str(course / "lab"))
    assert arguments.startswith("-m jupyterlab") and arguments.endswith("--port 9")


@pytest.mark.parametrize("instructor, folder", [("1", "notebooks"), ("class of 2030", "class of 2030")])
def test_make_lab_for_an_instructor_opens_their_folder_with_nbgrader_s_panels(course, instructor, folder):
    opened, config, _ = call(course, f"INSTRUCTOR={instructor}")
    assert (opened, config) == (str(course / folder), "")


def test_make_lab_names_a_folder_that_is_not_there(course):
    said = subprocess.run(["make", "-s", "lab", "INSTRUCTOR=../handuot"], cwd=course, capture_output=True, text=True)
    assert said.returncode != 0 and "there is no folder ../handuot" in said.stderr and not said.stdout


def test_a_presentation_that_was_on_is_not_on_again(course):
    note = course / "jupyter" / "lab" / "user-settings" / "jupyterlab-slideshow" / "plugin.jupyterlab-settings"
    note.parent.mkdir(parents=True)
    note.write_text('{"active": true}')
    call(course)
    assert not note.exists()
