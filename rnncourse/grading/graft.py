"""From a submission, whatever became of it, and the released notebook: a notebook that can be marked.

Of the submission only the type, the text and the name of each cell are read. Names, locked cells, points and all other
metadata come from the release. So a copied, deleted, moved or mangled cell does no harm, nor an answer in another cell.
"""

import copy
import json
import re

from nbformat import NotebookNode

LARGEST = 100 * 2**20  # bytes of a submission
LONGEST = 200_000  # characters of a cell
MOST = 1000  # cells
ALL = 2_000_000  # characters of all of them
ELSEWHERE = "# This answer is in another cell."
STEP = 1e-6  # between cells that come one after another, where the submission's have whole numbers


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
        copies = (name, None) if _is_answer(cell) and _defined(cell.source) else (name,)  # a nameless stub undoes an answer too
        drop |= {i for i, (_, source, own) in enumerate(cells) if own in copies and i != index and source == cell.source}
    late = {name: _elsewhere(cell, chosen[name], cells, named, chosen, given) for name, cell in named.items()}
    places, result = _places(named, chosen, late), []
    for name, cell in named.items():
        cell, index = copy.copy(cell), chosen[name]  # its metadata, which nobody changes, stay the release's
        if _is_answer(cell):
            cell.source = _answer(cell, index, cells, late[name])
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


def _places(named, chosen, late):
    """Where each released cell stands: where it was, but a locked one never before an answer that it comes after.

    One that needs a function of ``late`` stands after the cell which that is in. A check or an experiment that has to wait so
    holds up none that follow, for they need nothing of it: that cell of the student's may need them.
    """
    places, last, needed = {}, -1.0, {}  # needed: {function: the cell of the student's that it is in}, for those in late
    for name, cell in named.items():
        index, step = chosen[name], STEP * (len(places) + 1)
        if _is_answer(cell):
            places[name] = last + STEP if index is None else float(index)
            last = last if index is None else max(last, places[name])
            needed |= dict.fromkeys(_defined(cell.source), late[name]) if late[name] is not None else {}
            continue
        place = max(last + step, -1.0 if index is None else float(index))
        places[name] = max([place, *(needed[word] + step for word in re.findall(r"\w+", cell.source) if word in needed)])
        if places[name] == place or not _only_looks(cell):
            last = max(last, places[name])
    return places


def _only_looks(cell):
    return bool(cell.metadata.nbgrader.get("grade") or "experiment" in cell.metadata.get("tags", []))


def _elsewhere(cell, index, cells, named, chosen, given):
    """The last cell of the student's own that defines what the answer ``cell`` should and does not; None if it does, or none."""
    wanted = _defined(cell.source) if _is_answer(cell) and cell.cell_type == "code" else set()
    if index is not None and cells[index][1].strip() != cell.source.strip() and wanted & _defined(cells[index][1]):
        return None
    locked = {chosen[name] for name, other in named.items() if not _is_answer(other)}
    own = [i for i, (kind, source, _) in enumerate(cells) if kind == "code" and source.strip() not in given and i not in locked]
    return max((i for i in own if wanted & _defined(cells[i][1])), default=None)


def _answer(cell, index, cells, late):
    """What an answer cell holds: what the student wrote in it; else the stub, unless that would undo an answer elsewhere."""
    written = "" if index is None else cells[index][1]
    untouched = index is None or written.strip() == cell.source.strip()
    if late is not None and untouched:
        return ELSEWHERE
    if untouched or (cell.cell_type == "markdown" and not written.strip()):  # a text that was deleted is none
        return cell.source
    return written


def _choose(cell, name, cells):
    """Which of the submission's cells is the released ``cell``: of several copies, the last that has been worked on."""
    same = [i for i, (_, _, own) in enumerate(cells) if own == name]
    worked_on = [i for i in same if cells[i][1].strip() not in ("", cell.source.strip())]
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
    """The functions and classes that a cell defines at top level, also one that Python can't read or that has a magic."""
    return {a or b for a, b in re.findall(r"^(?:(?:async +)?(?:def|class) +(\w+)|(\w+) *= *lambda\b)", source, re.MULTILINE)}
