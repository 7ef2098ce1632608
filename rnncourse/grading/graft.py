"""From a submission, whatever became of it, and the released notebook: a notebook that can be marked.

Of the submission only the type, the text and the name of each cell are read. Names, locked cells, points and all other
metadata come from the release. So a copied, deleted, moved or mangled cell does no harm.
"""

import copy
import json
import re

from nbformat import NotebookNode

LARGEST = 100 * 2**20  # bytes of a submission
LONGEST = 200_000  # characters of a cell
MOST = 1000  # cells
ALL = 2_000_000  # characters of all of them


class Unreadable(Exception):
    """The submission is no notebook; the text says why."""


def read(data):
    """A submission's bytes as a list of (type, source, name or None), one a cell."""
    if len(data) > LARGEST:
        raise Unreadable(f"the file has {len(data) >> 20} MB; the limit is {LARGEST >> 20} MB")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        notebook = json.loads(data.decode(encoding, errors="replace"))
    except (ValueError, RecursionError):
        raise Unreadable("the file is empty" if not data.strip() else "the file is no notebook: not JSON") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if cells is None and isinstance(notebook, dict) and isinstance(notebook.get("worksheets"), list):  # nbformat 3
        sheets = [sheet.get("cells") for sheet in notebook["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(cells, list):
        raise Unreadable("the file is no notebook: it has no cells")
    if len(cells) > MOST:
        raise Unreadable(f"the notebook has {len(cells)} cells; the limit is {MOST}")
    cells = [_read(cell) for cell in cells if isinstance(cell, dict)]
    if sum(len(source) for _, source, _ in cells) > ALL:
        raise Unreadable(f"the notebook's cells have more than {ALL:,} characters")
    return cells


def _read(cell):
    source, metadata = cell.get("source", cell.get("input", "")), cell.get("metadata")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str):
        source = ""
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    source = source[:LONGEST].encode("utf-8", "replace").decode()  # no lone surrogates
    return "code" if cell.get("cell_type") == "code" else "markdown", source, name if isinstance(name, str) else None


def graft(cells, release):
    """The submission's cells with the metadata and the locked cells of ``release``, each where it belongs."""
    named = {c.metadata.nbgrader.grade_id: c for c in release.cells if c.metadata.get("nbgrader", {}).get("grade_id")}
    chosen = {name: _choose(cell, name, cells) for name, cell in named.items()}
    taken, drop, given = set(chosen.values()), set(), {cell.source.strip() for cell in release.cells}
    before = -1
    for name, cell in named.items():
        if chosen[name] is None:
            chosen[name] = _similar(cell, cells, taken, before, given)
        index = chosen[name]
        taken.add(index)
        before = before if index is None else index
        drop |= {i for i, (_, source, own) in enumerate(cells) if own == name and i != index and source == cell.source}
    places, last = {}, -1.0  # a locked cell stands where it was, but never before an answer that it comes after
    for name, cell in named.items():
        index = chosen[name]
        if _is_answer(cell):
            places[name] = last + 1e-6 if index is None else float(index)
            last = max(last, places[name]) if index is not None else last
        else:
            places[name] = max(last + 1e-6 * len(places), -1.0 if index is None else float(index))
            last = max(last, places[name])
    result = []
    for name, cell in named.items():
        cell, index = copy.copy(cell), chosen[name]  # its metadata, which nobody changes, stay the release's
        if _is_answer(cell) and index is not None:
            cell.source = cells[index][1]
        result.append((places[name], len(result), cell))
    for i, (kind, source, _) in enumerate(cells):
        if i not in taken and i not in drop:
            own = NotebookNode(id=f"own-{i}", cell_type=kind, metadata=NotebookNode(), source=source)
            result.append((float(i), len(result), own))
    notebook = copy.copy(release)
    notebook.cells = [cell for _, _, cell in sorted(result, key=lambda item: item[:2])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _is_answer(cell):
    return bool(cell.metadata.nbgrader.get("solution"))


def _choose(cell, name, cells):
    """Which of the submission's cells is the released ``cell``: of several copies, the last that has been worked on."""
    same = [i for i, (_, _, own) in enumerate(cells) if own == name]
    worked_on = [i for i in same if cells[i][1].strip() != cell.source.strip()]
    return (worked_on or same or [None])[-1] if _is_answer(cell) else (same or [None])[0]


def _similar(cell, cells, taken, before, given):
    """A cell without a name that must be the released ``cell``: its text, its function, or the next text of the student's."""
    nameless = [
        i for i, (kind, _, own) in enumerate(cells) if own is None and i not in taken and kind == cell.cell_type
    ]
    same = [i for i in nameless if cells[i][1].strip() == cell.source.strip()]
    if _is_answer(cell) and cell.cell_type == "code" and (wanted := _defined(cell.source)):
        same = [i for i in nameless if wanted & _defined(cells[i][1])] or same
    if _is_answer(cell) and cell.cell_type == "markdown":
        same = same or [i for i in nameless if i > before and cells[i][1].strip() not in given][:1]
    return same[-1] if same else None


def _defined(source):
    return set(re.findall(r"^(?:async +)?(?:def|class) +(\w+)", source, re.MULTILINE))
