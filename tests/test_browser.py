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
ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
EXPLORERS = [  # the notebook, its explorer, and the cells that it needs, but for the set-up
    ("03_bptt.ipynb", "explore_bptt", ()),
    ("04_vanishing_and_exploding_gradients.ipynb", "explore_gradients", ()),
    ("05_gradient_clipping.ipynb", "explore_cliff", ()),
    ("06_orthogonal_initialization.ipynb", "explore_spectra", ()),
    ("07_applications.ipynb", "explore_temperature", ("names_all = census_names", "names_best = ", "train_characters(model, names_train")),
    ("02_recurrence.ipynb", "explore_unit", ()),
]
SHORTER = {  # an explorer takes any model
    "07_applications.ipynb": {"names_train, 450,": "names_train, 5,", "bits(model, names_test)": "bits(model, names_test[:99])"},
}
WHOLE = "08_exercises.ipynb"

# As by the space bar, through the presentation in JupyterLab: which cells are seen; what of a slide can be scrolled as a whole, and
# is larger than its room; of which cells the code is longer than its room, and which of those can't be scrolled to its end.
PRESENTED = """async () => {
  const {commands, shell} = window.jupyterapp, notebook = shell.currentWidget.content;
  const frames = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const place = () => notebook.widgets.map(cell => (cell.node.className.match(/jp-deck-mod-\\w+/g) || []).join()).join(" ")
    + notebook.activeCellIndex;
  const seen = new Set(), scrolled = [], long = [], cut = [];
  const whole = notebook.node.querySelector(".jp-WindowedPanel-outer");
  const around = (e, end) => e == end ? [] : [e, ...around(e.parentElement, end)];
  const scrolls = (e, axis) => /auto|scroll/.test(getComputedStyle(e)["overflow" + axis]);  // by a wheel; a script could always
  const bottom = cell => [...cell.querySelectorAll(".cm-line")].at(-1).getBoundingClientRect().bottom;
  const look = async number => {
    const cell = notebook.widgets[number].node, boxes = around(cell.querySelector(".cm-content"), whole);
    const clips = boxes.filter(e => getComputedStyle(e).overflowY != "visible");
    const room = Math.min(innerHeight, ...clips.map(e => e.getBoundingClientRect().bottom)) + 1;
    if (bottom(cell) <= room) return;
    long.push([bottom(cell) - room, number]);
    const move = boxes.filter(e => scrolls(e, "Y"));
    move.forEach(e => e.scrollTop = e.scrollHeight);
    await frames();
    if (bottom(cell) > room) cut.push([number, bottom(cell), room]);
    move.forEach(e => e.scrollTop = 0);
  };
  let before = null;
  notebook.activeCellIndex = 0;
  await frames();
  while (before != place()) {
    before = place();
    for (const [number, cell] of notebook.widgets.entries()) {
      if (!cell.node.classList.contains("jp-deck-mod-visible")) continue;
      if (!seen.has(number) && cell.model.type == "code") await look(number);
      seen.add(number);
    }
    for (const e of around(whole, document.documentElement))
      if (scrolls(e, "Y") && e.scrollHeight > e.clientHeight + 1 || scrolls(e, "X") && e.scrollWidth > e.clientWidth + 1)
        scrolled.push([notebook.activeCellIndex, e.className, e.scrollWidth, e.scrollHeight]);
    await commands.execute("deck:down");
    await frames();
    if (before == place()) await commands.execute("deck:forward");
    await frames();
  }
  return [[...seen], scrolled, long, cut];
}"""


# What of the slide that is seen one has to scroll to see the rest of: its height, and how much of it is shown.
SCROLLED = """() => [...document.querySelectorAll(".jp-WindowedPanel-outer, .jp-deck-mod-visible .jp-OutputArea")]
  .filter(e => e.scrollHeight > e.clientHeight + 1).map(e => [e.className, e.scrollHeight, e.clientHeight])"""
# Of the code of the active cell: how many pixels of it are hidden above, and below.
HIDDEN = """() => {
  const cell = document.querySelector(".jp-Cell.jp-mod-active");
  const box = part => cell.querySelector(part).getBoundingClientRect();
  const code = box(".cm-content"), room = box(".jp-InputArea");
  return [room.top - code.top, code.bottom - room.bottom];
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """JupyterLab on a copy of the notebooks, as stored but for the execution counts: a count says that a cell ran just now. Its page."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in [name for name, *_ in EXPLORERS] + [WHOLE]:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count = None
        for long, short in SHORTER.get(name, {}).items():
            (cell,) = [cell for cell in notebook.cells if long in cell.source]  # and nowhere else
            cell.source = cell.source.replace(long, short)
        nbformat.write(notebook, folder / name)
    with browser.jupyterlab(folder, tmp_path_factory.mktemp("jupyter"), ROOT / "lab") as url:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        browser.open_lab(page, url)
        yield page


def stored_pictures(name):
    """How many outputs of a notebook hold a picture."""
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def test_a_whole_notebook_by_run_all_cells(lab):
    browser.open_notebook(lab, WHOLE)
    browser.choose(lab, "Run", "Run All Cells")
    browser.wait_until_run(lab)
    assert browser.errors(lab) == []


@pytest.mark.parametrize("name, function, needs", EXPLORERS, ids=[name for name, *_ in EXPLORERS])
def test_explorer(lab, record_property, name, function, needs):
    browser.open_notebook(lab, name)
    stored = stored_pictures(name)
    browser.wait_until(lambda: lab.locator(browser.PICTURES).count() >= stored > 0, 60, f"{stored} stored pictures")
    shown = browser.pictures(lab)
    assert len(shown) == stored
    assert all(width and words for width, words in shown), "a stored picture is not shown, or shown without its words"

    for text in ("import", *needs, f"{function}("):  # the first that imports is the set-up
        browser.select(lab, text)
        lab.keyboard.press("Shift+Enter")
    browser.wait_until_run(lab, f"{function}(")
    assert browser.errors(lab) == []

    explorer = browser.Explorer(lab, function)
    assert explorer.sliders, f"{function}() shows no slider"
    assert explorer.unlabelled() == []
    times = []
    for number, slider in enumerate(explorer.sliders, start=1):
        picture, words = explorer.picture(), explorer.words()
        assert words.strip(), f"{function}() says nothing"
        times.append(explorer.latency(slider))
        browser.wait_until(lambda: explorer.picture() != picture, 10, f"a new picture from slider {number}")
        browser.wait_until(lambda: explorer.words() != words, 10, f"new words from slider {number}")

    shown = f"key press to new picture {statistics.median(times):.0f} ms (worst {max(times):.0f} ms)"
    record_property("measured", f"{function}: {shown}")


def test_a_notebook_is_presented_with_its_kernel_and_its_explorer(lab):
    name, function, _ = EXPLORERS[-1]  # still open
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    lab.set_viewport_size(browser.SLIDE)
    browser.open_notebook(lab, name)
    browser.select(lab)  # the set-up, which is no slide
    lab.keyboard.press("Shift+Enter")
    lab.locator("[data-command='deck:toggle']").click()
    lab.locator(".jp-deck-mod-visible").first.wait_for()
    seen, scrolled, long, cut = lab.evaluate(PRESENTED)
    kept = [i for i, cell in enumerate(cells) if cell.metadata.get("slideshow", {}).get("slide_type") != "skip"]
    assert set(kept) <= set(seen) and scrolled == [] and long and cut == []

    show(lab, max(long)[1])
    above, below = lab.evaluate(HIDDEN)
    assert above < 2 and below > 100
    box = lab.locator(".jp-Cell.jp-mod-active .jp-InputArea").bounding_box()
    lab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    lab.mouse.wheel(0, 2000)
    browser.wait_until(lambda: lab.evaluate(HIDDEN)[1] < 2, 10, "the end of the code, by the mouse's wheel")

    show(lab, next(i for i, cell in enumerate(cells) if f"{function}()" in cell.source and cell.cell_type == "code"))
    lab.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    shown = browser.Explorer(lab, function)
    picture = shown.picture()
    shown.press(shown.sliders[0])
    browser.wait_until(lambda: shown.picture() != picture, 10, "a new picture on the slide")
    tracks = [slider.evaluate("handle => handle.closest('.noUi-target').offsetWidth") for slider in shown.sliders]
    assert min(tracks) > 300, "too short for a hand with a mouse, before a class"
    assert lab.evaluate(SCROLLED) == []
    assert browser.errors(lab) == []


def show(lab, number):
    """Go to the slide of a cell."""
    lab.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i }", number)
    lab.locator(f".jp-Notebook-cell[data-windowed-list-index='{number}'].jp-mod-active.jp-deck-mod-visible").wait_for()
