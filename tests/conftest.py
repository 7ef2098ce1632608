"""For the unit tests: no time limit on an example of hypothesis, since the first one pays for imports; one thread; which
files come first. And a browser."""

import gc

import pytest
from hypothesis import settings

import browser

settings.register_profile("course", deadline=None)
settings.load_profile("course")

LONG = "applications browser exercises formgrader grading grading_killed initialization notebooks release slides training widgets"


def pytest_collection_modifyitems(items):
    """After the notebooks the long files: a long one at the end would leave a processor without work."""
    long = {f"test_{name}.py" for name in LONG.split()}
    items.sort(key=lambda item: 0 if item.path.suffix == ".ipynb" else 1 if item.path.name in long else 2)


def pytest_unconfigure():
    """As it ends Python would look through all objects for those that nothing needs any more: seconds, after so many imports."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small lose more to coordination than a second thread gains."""
    import torch  # here: the process that only hands out the tests has no use for it, and would take seconds to start

    torch.set_num_threads(1)


@pytest.fixture(scope="module")  # not for a whole session: playwright's event loop stands in the way of nbval's kernels
def chromium():
    """Chromium, driven by Playwright; the test is skipped where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser test skipped: playwright is not installed")
    if not browser.CHROMIUM:
        pytest.skip("browser test skipped: no Chromium (apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=browser.CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(chromium):
    """A fresh page, as large as a laptop's screen."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    page.close()
