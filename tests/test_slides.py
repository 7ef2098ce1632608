"""make slides: each deck stands alone, has the syllabus' notes, and no slide of it overflows 1280×720, measured in a browser."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import browser
from tools import slides

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))

# Every slide in turn; of what is on it, what reaches beyond its edge or is cut off within its own box.
COMPLAINTS = """async () => {
  const complaints = [], shown = new Set(), near = 1;
  let notes = "";
  Reveal.configure({transition: "none"});
  for (const slide of Reveal.getSlides()) {
    const {h, v} = Reveal.getIndices(slide);
    Reveal.slide(h, v, 99);
    await Promise.allSettled([...slide.querySelectorAll("img")].map(img => img.decode()));
    if (Reveal.getCurrentSlide() !== slide) complaints.push(`${h}.${v}: is not reached`);
    shown.add(slide);
    const box = slide.getBoundingClientRect(), say = (what, e) =>
      complaints.push(`${h}.${v}: ${what}: ${(e.innerText || e.outerHTML).trim().slice(0, 60)}`);
    if (box.width > 1280 + near || box.height > 720 + near || box.top < -near || box.left < -near) say("larger", slide);
    for (const e of slide.querySelectorAll("*")) {
      if (e.closest("aside, style, script, math *, svg *")) continue;
      const r = e.getBoundingClientRect();
      if (!r.width || !r.height || getComputedStyle(e).visibility == "hidden") continue;
      if (r.bottom > 720 + near || r.right > 1280 + near || r.left < -near || r.top < -near) say("beyond the edge", e);
      else if (getComputedStyle(e).overflowX != "visible" && e.scrollWidth > e.clientWidth + near) say("cut off", e);
      else if (getComputedStyle(e).overflowY != "visible" && e.scrollHeight > e.clientHeight + near) say("cut off", e);
    }
    for (const img of slide.querySelectorAll("img")) if (!img.naturalWidth) say("no picture", img);
    const words = slide.cloneNode(true);
    words.querySelectorAll("aside, style, script").forEach(e => e.remove());
    const noted = [...slide.querySelectorAll("aside.notes")].map(e => e.innerHTML).join();
    if (slide.querySelector("h2")) notes = noted;  // a section begins
    if (noted != notes) say("not the section's notes", slide);
    if (!words.textContent.trim() && !words.querySelector("img, math, svg")) say("empty", slide);
  }
  return [shown.size, complaints];
}"""


def looked_at(page, deck):
    """(how many slides a deck has, complaints about them); everything it asked for lay beside it."""
    asked, failed = [], []
    page.set_viewport_size(browser.SLIDE)
    page.on("request", lambda request: asked.append(request.url))
    page.route(re.compile("^https?:"), lambda route: route.abort())  # a room without network
    page.on("pageerror", lambda error: failed.append(f"script: {error}"))
    page.on("requestfailed", lambda request: failed.append(f"not there: {request.url}"))
    page.goto(deck.as_uri())
    page.wait_for_function("() => window.Reveal && Reveal.isReady()")
    count, complaints = page.evaluate(COMPLAINTS)
    elsewhere = [url for url in asked if not url.startswith(("data:", deck.parent.as_uri()))]
    return count, complaints + failed + [f"asks elsewhere: {url[:80]}" for url in elsewhere]


def written(folder, *cells):
    """The deck of a notebook of these cells, each on a slide of its own."""
    for cell in cells:
        cell.metadata.slideshow = {"slide_type": "slide"}
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A notebook"), *cells]), folder / "09_a.ipynb")
    slides.copy_reveal(folder)
    return slides.write_deck(folder / "09_a.ipynb", folder, {})


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The decks of all notebooks, by notebook."""
    folder = tmp_path_factory.mktemp("slides")
    slides.copy_reveal(folder)
    return {path: slides.write_deck(path, folder) for path in PATHS}


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_no_slide_overflows(page, decks, path):
    count, complaints = looked_at(page, decks[path])
    assert complaints == []
    begun = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in nbformat.read(path, as_version=4).cells]
    assert count >= begun.count("slide") + begun.count("subslide") > 10


@pytest.mark.browser
@pytest.mark.parametrize(
    "cell, complaint",
    [
        (new_markdown_cell("\n\n".join(["A paragraph."] * 20)), "beyond the edge"),
        (new_code_cell("x = " + " + ".join(["1"] * 60)), "beyond the edge|cut off"),
        (new_markdown_cell("![nowhere](nowhere.png)"), "no picture"),
        (new_markdown_cell("![far](https://example.org/far.png)"), "asks elsewhere"),
        (new_markdown_cell("Words<script>nonsense()</script>"), "script: "),
        (new_markdown_cell("<span></span>"), "empty"),
    ],
    ids=["high", "wide", "missing", "far", "script", "empty"],
)
def test_a_slide_that_will_not_do_is_seen(page, tmp_path, cell, complaint):
    assert any(re.search(complaint, said) for said in looked_at(page, written(tmp_path, cell))[1])


# -- without one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_each_section_s_row_of_the_syllabus_is_its_notes(path, decks):
    rows = slides.speaker_notes(slides.SYLLABUS.read_text(encoding="utf-8"))[path.stem]
    page = decks[path].read_text(encoding="utf-8")
    sections = [
        (title, cell.metadata.slideshow.slide_type == "skip")
        for cell in nbformat.read(path, as_version=4).cells
        for title in slides.headings(cell)
    ]
    assert list(rows) == [title for title, _ in sections]
    shown = [title for title, skipped in sections if not skipped]
    assert set(rows) - set(shown) <= {"Further reading"} and page.count('<aside class="notes">') == len(shown) > 5
    for title in shown:
        question = re.search(r"\*\*ask:\*\* ([\w ,]*)", rows[title])
        assert question is None or f"<strong>ask:</strong> {question[1]}" in page


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_no_answer_stands_on_its_question_s_slide(path):
    asked, told = None, []
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.metadata.get("slideshow", {}).get("slide_type", "-") in ("slide", "subslide"):
            asked = None
        if asked is not None and cell.get("outputs"):  # code without one, the training say, gives nothing away
            told.append(f"[{asked}] is answered by [{number}] on the same slide")
            asked = None
        if cell.cell_type == "markdown" and "**Decide" in cell.source:
            asked = number
    assert told == []


def test_a_widget_is_shown_as_its_text(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a1"}, "text/plain": "explore_unit(): it moves"}
    page = written(tmp_path, new_code_cell("explore_unit()", outputs=[new_output("display_data", widget)])).read_text()
    assert "explore_unit(): it moves" in page and "widget-view" not in page


def test_nothing_is_left_out_but_what_draws():
    source = "a = 1\nfig, ax = figure()\nax.plot(a)\nshow(fig, 'a line')\n\nclaim('a is 1', a == 1)"
    assert slides.without_drawing(source) == "a = 1\n\n\nclaim('a is 1', a == 1)"
    assert slides.without_drawing("fig, ax = figure()\nb = 2") == "fig, ax = figure()\nb = 2"  # it is never shown


def test_long_code_goes_on_at_a_blank_line():
    source = "\n".join(["x = 1"] * 20 + [""] + ["y = 2"] * 20)
    assert slides.split_code(source) == ["\n".join(["x = 1"] * 20), "\n".join(["y = 2"] * 20)]
    unbroken = "\n".join(f"x{i} = {i}" for i in range(60))
    parts = slides.split_code(unbroken)
    assert "\n".join(parts) == unbroken and max(len(part.splitlines()) for part in parts) == slides.LINES


def test_outputs_go_on_until_all_are_shown():
    printed = "\n".join(f"line {i}" for i in range(70))
    picture = new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    cell = new_code_cell("print()", outputs=[new_output("stream", text=printed), picture])
    cell.metadata.slideshow = {"slide_type": "slide"}
    pages = slides.paged(cell)
    said = "\n".join(o["text"].strip("\n") for page in pages for o in page.outputs if "text" in o)
    assert said == printed and sum(slides.is_picture(o) for page in pages for o in page.outputs) == 1
    assert [page.metadata.slideshow.slide_type for page in pages] == ["slide"] + ["subslide"] * (len(pages) - 1)
    assert all(sum(map(slides.height, page.outputs)) <= slides.LINES for page in pages)


@pytest.mark.browser
def test_a_section_s_notes_are_on_each_of_its_slides(page, tmp_path):
    sources = ["## One", "more of it", "## Two", "more of that", "## Three", "which has none"]
    cells = [new_markdown_cell(source, metadata={"slideshow": {"slide_type": "slide"}}) for source in sources]
    cells.insert(2, new_code_cell("x = 1", metadata={"slideshow": {"slide_type": "subslide"}}))
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A notebook"), *cells]), tmp_path / "09_a.ipynb")
    slides.copy_reveal(tmp_path)
    page.goto(slides.write_deck(tmp_path / "09_a.ipynb", tmp_path, {"One": "Ask A.", "Two": "Ask B."}).as_uri())
    page.wait_for_function("() => window.Reveal && Reveal.isReady()")
    notes = "() => Reveal.getSlides().map(s => [...s.querySelectorAll('aside.notes')].map(e => e.textContent.trim()).join())"
    assert page.evaluate(notes) == ["", "Ask A.", "Ask A.", "Ask A.", "Ask B.", "Ask B.", "", ""]


def test_formulas_need_no_script():
    assert "<math" in slides.Deck().markdown2html("$h_t = \\tanh(a_t)$")


def test_the_command_makes_all_decks_beside_reveal(tmp_path, capsys):
    assert slides.main([str(PATHS[0]), "--out", str(tmp_path)]) is None
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "01_sequences.html"
    assert (tmp_path / "reveal" / "dist" / "reveal.js").stat().st_size > 10_000
    assert "02_recurrence.html" in (tmp_path / "01_sequences.html").read_text(encoding="utf-8")
