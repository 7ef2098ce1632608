"""What people read: a page of feedback for each student, and the class at a glance. No script, nothing to load, all escaped."""

import re
from collections import Counter
from html import escape
from urllib.parse import quote

from nbgrader import utils

from rnncourse.exercises import EXERCISES
from rnncourse.exercises.checking import SIGNS

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff }}
pre {{ background: #f5f5f5; padding: .6rem; overflow: auto; white-space: pre-wrap; max-height: 40rem }}
table {{ border-collapse: collapse }} th, td {{ padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #ccc; vertical-align: top }}
td.n {{ text-align: right }} img {{ max-width: 100% }} .alarm {{ border: 3px solid #b00020; padding: .6rem; font-weight: bold }}
.verdict {{ border-left: .4rem solid #777; padding: .3rem .8rem; background: #f5f5f5 }}
.correct {{ border-color: #1b7837 }} .wrong {{ border-color: #b00020 }} .bar {{ display: inline-block; height: .8rem; background: #4575b4 }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
LINES = 40  # of a printed text that are shown
HEADING = re.compile(r"^#+ *(.*?)(?: *\(\d+ points?\))?$", re.MULTILINE)


def page(title, *parts):
    return PAGE.format(title=escape(title), body="\n".join(parts))


def feedback(name, row, record, notebook, points, comments, given):
    """One student's page: what was written, what the checks and the marker say of it. Tests and ``given`` cells are not shown."""
    parts = [f"<p><strong>{number(row['total'])} of {number(sum(points.values()))} points</strong>"]
    title, above, heading = titles(given), headings(given), ""
    given = {cell.source for cell in given.cells}
    parts[0] += f", {len(row['waiting'])} still to be marked by a person</p>" if row["waiting"] else "</p>"
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        own, result = about.get("grade_id"), record["results"].get(about.get("grade_id"))
        if result:
            sign, score = SIGNS.get(result["status"], ""), _of(row["scores"][own], points[own])
            moved = above.get(own, "") not in heading  # below an answer in another place than its own
            of_what = f"<strong>{escape(title[own])}</strong> " if moved else ""
            parts.append(
                f'<p class="verdict {escape(result["status"])}">{of_what}{sign} {escape(result["message"])} <em>({score})</em></p>'
            )
        elif own is None and cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.splitlines()[0].strip("# ")
            parts.append(f"<h2>{escape(heading)}</h2>")
        elif (own and utils.is_locked(cell)) or (own is None and cell.source in given):
            continue
        elif cell.cell_type == "code":
            parts.append(f"<pre><code>{escape(cell.source)}</code></pre>")
            parts += [_output(output) for output in cell.outputs]
        elif own:
            waits = "waits for a person" if own in row["waiting"] else _of(row["scores"][own], points[own])
            waits = f"nothing written ({waits})" if cell.source in given else waits
            parts.append(f'<pre>{escape(cell.source)}</pre><p class="verdict">by hand: <em>{waits}</em></p>')
        else:
            parts.append(f"<pre>{escape(cell.source)}</pre>")
        if comments.get(own):
            parts.append(f"<p><strong>Comment:</strong> {escape(comments[own])}</p>")
    return page(f"{name}: {row['student']}", *parts)


def _output(output):
    if output.output_type == "stream":
        return f"<pre>{escape(_beginning(output.text))}</pre>"
    if output.output_type == "error":
        return f"<pre>{escape(chr(10).join(output.traceback) or output.evalue)}</pre>"
    picture = output.data.get("image/png")
    if picture:
        return f'<img src="data:image/png;base64,{escape(picture)}" alt="a picture that this cell made">'
    return f"<pre>{escape(_beginning(output.data.get('text/plain', '')))}</pre>"


def _beginning(text):
    """A printed text's first lines, and how many follow: a page is read, and nobody reads ten thousand."""
    lines = text.splitlines()
    return text if len(lines) <= LINES else "\n".join([*lines[:LINES], f"… and {len(lines) - LINES} more lines"])


def headings(release):
    """{marked cell: the heading above it}, without the points that it may end in."""
    heading, found = "", {}
    for cell in release.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade"):
            found[about["grade_id"]] = heading
        elif cell.cell_type == "markdown" and (lines := HEADING.findall(cell.source)):
            heading = lines[-1]
    return found


def titles(release):
    """{marked cell: what a person calls it}: the heading above it in the release; the cell's name where two share one."""
    found = headings(release)
    shared = {title for title, count in Counter(found.values()).items() if count > 1 or not title}
    return {cell: cell if title in shared else title for cell, title in found.items()}


def index(name, rows, records, points, why_not, title):
    """The class at a glance: each exercise, the mistakes most made, who failed to run and why, every student's marks."""
    graded = [row for row in rows if row["status"] == "graded"]
    parts = []
    if why_not:
        parts.append(
            f'<p class="alarm">Not isolated: this machine gives no namespaces ({escape(why_not)}). The submissions ran with limits '
            "on time and memory only; files and the network were within their reach.</p>"
        )
    others = [row for row in rows if row["status"] != "graded"]
    parts.append(f"<p>{len(graded)} graded, {len(others)} not.</p><h2>Exercises</h2>")
    heads = ["exercise", "points", "mean", "full marks", "some", "none", "waiting", ""]
    parts.append(_table(heads, _exercises(graded, points, title)))
    parts.append("<h2>Mistakes most made</h2>")
    mistakes = [(escape(title[cell]), escape(message), count) for (cell, message), count in typical(records)]
    parts.append(
        _table(["exercise", "mistake", "students"], mistakes) if mistakes else "<p>None of the typical ones.</p>"
    )
    if others:
        parts.append("<h2>Not graded</h2>")
        cells = [(escape(row["student"]), row["status"], escape(row["reason"])) for row in others]
        parts.append(_table(["student", "status", "why"], cells))
    parts.append("<h2>Students</h2>")
    short = {cell: text.split(" · ")[0] for cell, text in title.items()}  # "1a", where titles begin so
    short = short if len(set(short.values())) == len(short) else title
    students = [
        (
            f'<a href="feedback/{quote(row["student"])}.html">{escape(row["student"])}</a>',
            *(number(row["scores"][cell]) for cell in points),
            number(row["total"]),
            escape(", ".join(short[cell] for cell in row["waiting"])),
        )
        for row in graded
    ]
    parts.append(_table(["student", *(escape(short[cell]) for cell in points), "total", "waiting"], students))
    return page(f"{name}: the class", *parts)


def typical(records):
    """((cell, message), how many made it) of the mistakes that the exercises know, the commonest first."""
    count = Counter()
    for cell, result in (item for record in records.values() for item in record["results"].items()):
        known = EXERCISES[result["exercise"]].mistakes if result["exercise"] in EXERCISES else ()
        said = {m.message for m in known if m.message == result["message"] or (m.error and m.message in result["message"])}
        count.update((cell, message) for message in said)
    return sorted(count.items(), key=lambda item: (-item[1], item[0]))


def _exercises(graded, points, title):
    for cell, most in points.items():
        scores = [row["scores"][cell] for row in graded if row["scores"][cell] is not None]
        waiting, mean = sum(cell in row["waiting"] for row in graded), sum(scores) / len(scores) if scores else None
        full, none = sum(score >= most for score in scores), sum(score <= 0 for score in scores)
        bar = f'<span class="bar" style="width:{10 * (mean or 0) / (most or 1):.1f}rem"></span>'
        some = len(scores) - full - none
        yield escape(title[cell]), number(most), "" if mean is None else f"{mean:.2f}", full, some, none, waiting, bar


def _table(head, rows):
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    return (
        f"<table><thead><tr>{heads}</tr></thead><tbody>"
        + "".join(f"<tr>{line}</tr>" for line in lines)
        + "</tbody></table>"
    )


def _of(score, most):
    return f"{number(score)} of {number(most)}"


def number(value):
    """Points as they are written; what was not marked is empty, never 0."""
    return "" if value is None else f"{value:g}"
