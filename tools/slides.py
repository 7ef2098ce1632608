"""Make a deck of HTML slides of each notebook that needs no network and no kernel: slides/NAME.html.

    python tools/slides.py                           # all of notebooks/
    python tools/slides.py notebooks/03_bptt.ipynb   # this one

Where a slide begins stands in the cells' metadata, as JupyterLab's property inspector sets it, so the notebook presented
live has the same slides. Nothing is executed: pictures and words are the stored outputs. A section's row in the tables of
notebooks/README.md becomes the speaker notes of its slides: written on the first, and given to the others by the page itself.
"""

import argparse
import ast
import copy
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter, SlidesExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SYLLABUS = NOTEBOOKS / "README.md"
LINES = 26  # of code or printed text that a slide holds (slides.css)
WIDTH, CELL = 100, 30  # characters of such a line, and of a line in a table's cell
WORDS = 5  # of printed text that it holds below a picture


def speaker_notes(syllabus):
    """The syllabus' tables: {notebook: {section's heading: its row, as Markdown}}."""
    notes = {}
    for part in re.split(r"^## ", syllabus, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in body.splitlines() if line.startswith("|")]
        rows = [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]
        if not re.fullmatch(r"\d\d_\w+", name.strip()) or not rows:
            continue
        titles = rows[0][1:]
        notes[name.strip()] = {
            section: "\n\n".join(f"**{title}:** {cell}" for title, cell in zip(titles, cells) if cell)
            for section, *cells in rows[2:]
        }
    return notes


def headings(cell):
    """The section headings (``## ...``) of a Markdown cell."""
    return re.findall(r"^## (.+?)\s*$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []


def split_code(source, limit=LINES):
    """The source in parts of at most ``limit`` lines, cut at blank lines where there are any."""
    parts, lines = [], source.splitlines()
    while len(lines) > limit:
        blank = [i for i in range(limit // 3, limit + 1) if not lines[i].strip()]
        cut = blank[-1] if blank else limit
        parts.append("\n".join(lines[:cut]))
        lines = lines[cut:] if lines[cut].strip() else lines[cut + 1 :]
    return [*parts, "\n".join(lines)]


def without_drawing(source):
    """The source without its lines from ``fig, ax = figure(...)`` to ``show(fig, ...)``.

    On a slide the picture says it; what is left is the code that measures what is in the picture.
    """
    lines, first = source.splitlines(), None
    for statement in ast.parse(source).body:
        call = getattr(getattr(statement, "value", None), "func", None)
        name = getattr(call, "id", None)
        if name == "figure":
            first = statement.lineno - 1
        elif name == "show" and first is not None:
            lines[first : statement.end_lineno] = [""] * (statement.end_lineno - first)
            first = None
    return re.sub(r"\n{3,}", "\n\n\n", "\n".join(lines)).strip("\n")


def is_picture(output):
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def height(output):
    """About how many lines of code an output is as high as; a picture gets what words leave it."""
    if is_picture(output):
        return LINES - WORDS
    if rows := re.findall("<tr.*?</tr>", output.get("data", {}).get("text/html", ""), re.DOTALL):
        cells = [re.findall(">([^<]*)</t[hd]", row) for row in rows]
        return sum(0.4 + max(1 + len(text) // CELL for text in row) for row in cells)
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return sum(1 + len(line) // WIDTH for line in text.splitlines())


def pieces(output):
    """A long printed text in parts, each of which leaves room for a heading; any other output as it is."""
    lines = output.get("text", "").splitlines()
    if len(lines) <= LINES - 2:
        return [output]
    step = LINES - 8
    return [{**output, "text": "\n".join(lines[i : i + step])} for i in range(0, len(lines), step)]


def paged(cell):
    """A code cell as it goes on slides: one for each part of its source, then as many as its outputs need."""
    parts = split_code(without_drawing(cell.source))
    pages = [(part, []) for part in parts if part]
    used = len(parts[-1].splitlines()) + 2 if pages else LINES
    for output in (piece for whole in cell.outputs for piece in pieces(whole)):
        if used + height(output) > LINES or (is_picture(output) and pages[-1][0]):
            pages.append(("", []))
            used = 0
        pages[-1][1].append(output)
        used += height(output)
    cells = []
    for source, outputs in pages:
        page = nbformat.v4.new_code_cell(source, outputs=copy.deepcopy(outputs))
        page.metadata.update(copy.deepcopy(cell.metadata) if not cells else {"slideshow": {"slide_type": "subslide"}})
        page.metadata.transient = {"remove_source": not source}
        page.metadata.tags = ["with-words"] if len(outputs) > 1 and any(map(is_picture, outputs)) else []
        cells.append(page)
    return cells


def deck_of(notebook, notes):
    """The notebook as slides, none too long, its sections' notes in place."""
    cells = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "skip":
            continue
        cells += paged(cell) if cell.cell_type == "code" else [copy.deepcopy(cell)]
        for heading in headings(cell):
            if heading in notes:
                cells.append(nbformat.v4.new_markdown_cell(notes[heading]))
                cells[-1].metadata.slideshow = {"slide_type": "notes"}
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


class Renderer(IPythonRenderer):
    """Markdown to HTML, formulas to MathML, which browsers show by themselves."""

    def block_math(self, body):
        return convert(body, display="block")

    def inline_math(self, body):
        return convert(body)


class Deck(SlidesExporter):
    """nbconvert's slides, in the course's template."""

    def markdown2html(self, source):
        return MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True)).render(source)

    def default_filters(self):
        yield from super().default_filters()
        yield "highlight_code", Highlight2HTML(pygments_lexer="ipython3")
        yield "filter_data_type", WidgetsDataTypeFilter({}, parent=self)  # a widget, which needs a kernel, as its text
        yield "clean_html", lambda code: code  # the course's own, escaped when it was coloured: a third of the time

    def from_notebook_node(self, notebook, resources=None, **options):
        """The template's page as it is: ``HTMLExporter`` would read all of it once more, for pictures that lack their words."""
        return super(HTMLExporter, self).from_notebook_node(notebook, resources, **options)


def write_deck(path, folder, notes=None):
    """Write the deck of the notebook at ``path`` into ``folder``; give the deck's path."""
    notebook = nbformat.read(path, as_version=4)
    if notes is None:
        notes = speaker_notes(SYLLABUS.read_text(encoding="utf-8")).get(path.stem, {})
    options = {"template_name": "slide_template", "extra_template_basedirs": [str(Path(__file__).parent)]}
    exporter = Deck(config=Config({"Deck": options}))
    resources = {
        "title": notebook.cells[0].source.splitlines()[0].lstrip("# "),
        "pygments_css": HtmlFormatter(style="default").get_style_defs(".highlight"),
    }
    page, _ = exporter.from_notebook_node(deck_of(notebook, notes), resources)
    page = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', page)
    deck = folder / f"{path.stem}.html"
    deck.write_text(page, encoding="utf-8")
    return deck


def copy_reveal(folder):
    """Put reveal.js with its speaker view beside the decks: those that the package sphinx-revealjs carries."""
    package = importlib.util.find_spec("sphinx_revealjs")
    source = package and Path(package.origin).parent / "_static" / "revealjs"
    if not (source and (source / "dist" / "reveal.js").exists()):
        raise FileNotFoundError("reveal.js is not installed: pip install sphinx-revealjs")
    for part in ("LICENSE", "dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js"):
        target = folder / "reveal" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).exists():
            shutil.copy(source / part, target)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    parser.add_argument("--out", type=Path, default=ROOT / "slides", help="folder of the decks (default: slides/)")
    given = parser.parse_args(arguments)
    copy_reveal(given.out)
    for path in given.notebooks or sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        print(write_deck(path, given.out))


if __name__ == "__main__":
    sys.exit(main())
