"""Each explorer, in a real JupyterLab in a real browser: the notebook runs, and every slider moves picture and words."""

import statistics
from pathlib import Path

import nbformat
import pytest

import browser

sync_api = pytest.importorskip("playwright.sync_api", reason="browser test skipped: playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not browser.CHROMIUM, reason="browser test skipped: no Chromium (apt install chromium)"),
]

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EXPLORERS = {
    "02_recurrence.ipynb": "explore_unit",
    "03_bptt.ipynb": "explore_bptt",
    "04_vanishing_and_exploding_gradients.ipynb": "explore_gradients",
    "05_gradient_clipping.ipynb": "explore_cliff",
    "06_orthogonal_initialization.ipynb": "explore_spectra",
    "07_applications.ipynb": "explore_temperature",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, their outputs cleared, so that what is seen was made just now."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in EXPLORERS:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / name)
    with browser.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as url:
        yield url


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=browser.CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(chromium):
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    page.close()


@pytest.mark.parametrize("name, function", EXPLORERS.items())
def test_explorer(lab, page, record_property, name, function):
    browser.run_notebook(page, lab, name)
    assert browser.errors(page) == []
    assert browser.unrun_cells(page) == []

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
