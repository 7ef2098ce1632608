"""Each explorer, in a real JupyterLab in a real browser: every slider moves its picture and its words.

That all cells of all notebooks run, and print what is stored, is nbval's to prove, in the same ``make test``. Here a notebook
opens with its stored pictures in place; then only what the explorer needs is run, as a learner would: the set-up cell, the
explorer's own, and in notebook 07, whose explorer takes a model, those that train it. Notebook 08, the quickest, is run whole,
by *Run All Cells*.
"""

import statistics
from pathlib import Path

import nbformat
import pytest

import browser

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EXPLORERS = [  # the notebook, its explorer, and the cells that it needs, but for the set-up
    ("02_recurrence.ipynb", "explore_unit", ()),
    ("03_bptt.ipynb", "explore_bptt", ()),
    ("04_vanishing_and_exploding_gradients.ipynb", "explore_gradients", ()),
    ("05_gradient_clipping.ipynb", "explore_cliff", ()),
    ("06_orthogonal_initialization.ipynb", "explore_spectra", ()),
    ("07_applications.ipynb", "explore_temperature", ("names_all = census_names", "names_best = ", "train_characters(model, names_train")),
]
SHORTER = {"07_applications.ipynb": ("names_train, 1400,", "names_train, 90,")}  # updates: an explorer takes any model
WHOLE = "08_exercises.ipynb"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """JupyterLab on a copy of the notebooks, as stored but for the execution counts: a count says that a cell ran just now."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in [name for name, *_ in EXPLORERS] + [WHOLE]:
        notebook, (long, short) = nbformat.read(NOTEBOOKS / name, as_version=4), SHORTER.get(name, ("", ""))
        assert any(long in cell.source for cell in notebook.cells), f"{name} has no {long!r} any more"
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count, cell.source = None, cell.source.replace(long, short) if long else cell.source
        nbformat.write(notebook, folder / name)
    with browser.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as url:
        yield url


def stored_pictures(name):
    """How many outputs of a notebook hold a picture."""
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("name, function, needs", EXPLORERS, ids=[name for name, *_ in EXPLORERS])
def test_explorer(lab, page, record_property, name, function, needs):
    browser.open_notebook(page, lab, name)
    shown = browser.pictures(page)
    assert len(shown) == stored_pictures(name) > 0
    assert all(width and words for width, words in shown), "a stored picture is not shown, or shown without its words"

    for text in ("import", *needs, f"{function}("):  # the first that imports is the set-up
        browser.select(page, text)
        page.keyboard.press("Shift+Enter")
    browser.wait_until_run(page, f"{function}(")
    assert browser.errors(page) == []

    explorer = browser.Explorer(page, function)
    assert explorer.sliders, f"{function}() shows no slider"
    assert explorer.unlabelled() == []
    for number, slider in enumerate(explorer.sliders, start=1):
        picture, words = explorer.picture(), explorer.words()
        assert words.strip(), f"{function}() says nothing"
        explorer.press(slider)
        browser.wait_until(lambda: explorer.picture() != picture, 10, f"a new picture from slider {number}")
        browser.wait_until(lambda: explorer.words() != words, 10, f"new words from slider {number}")

    times = [explorer.latency(explorer.sliders[0]) for _ in range(10)]
    shown = f"key press to new picture {statistics.median(times):.0f} ms (worst {max(times):.0f} ms)"
    record_property("measured", f"{function}: {shown}")


def test_a_whole_notebook_by_run_all_cells(lab, page):
    browser.open_notebook(page, lab, WHOLE)
    browser.choose(page, "Run", "Run All Cells")
    browser.wait_until_run(page)
    assert browser.errors(page) == []
