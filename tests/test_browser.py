"""Each explorer, in a real JupyterLab in a real browser: every slider moves its picture and its words.

That all cells of all notebooks run, and print what is stored, is nbval's to prove, in the same ``make test``. Here a notebook
opens with its stored pictures in place; then only what the explorer needs is run, as a learner would: the set-up cell and the
explorer's own; in notebook 07, whose explorer takes a model trained before it, *Run All Above Selected Cell*; and the whole of
notebook 02, the quickest, by *Run All Cells*.
"""

import statistics
from pathlib import Path

import nbformat
import pytest

import browser

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EXPLORERS = [
    ("02_recurrence.ipynb", "explore_unit", "Run All Cells"),
    ("03_bptt.ipynb", "explore_bptt", "Shift+Enter"),
    ("04_vanishing_and_exploding_gradients.ipynb", "explore_gradients", "Shift+Enter"),
    ("05_gradient_clipping.ipynb", "explore_cliff", "Shift+Enter"),
    ("06_orthogonal_initialization.ipynb", "explore_spectra", "Shift+Enter"),
    ("07_applications.ipynb", "explore_temperature", "Run All Above Selected Cell"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """JupyterLab on a copy of the notebooks, as stored but for the execution counts: a count says that a cell ran just now."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name, *_ in EXPLORERS:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count = None
        nbformat.write(notebook, folder / name)
    with browser.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as url:
        yield url


def stored_pictures(name):
    """How many outputs of a notebook hold a picture."""
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("name, function, way", EXPLORERS, ids=[name for name, *_ in EXPLORERS])
def test_explorer(lab, page, record_property, name, function, way):
    browser.open_notebook(page, lab, name)
    shown = browser.pictures(page)
    assert len(shown) == stored_pictures(name) > 0
    assert all(width and words for width, words in shown), "a stored picture is not shown, or shown without its words"

    if way == "Shift+Enter":
        browser.select(page)  # the set-up
        page.keyboard.press("Shift+Enter")
    browser.select(page, f"{function}(")
    if way != "Shift+Enter":
        browser.choose(page, "Run", way)
    if way != "Run All Cells":
        page.keyboard.press("Shift+Enter")
    browser.wait_until_run(page, "" if way == "Run All Cells" else f"{function}(")
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
