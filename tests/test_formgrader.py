"""After ``rnncourse grade``: a person marks the texts in nbgrader's Formgrader, in a real JupyterLab in a real browser."""

import html
import re

import pytest

import browser
import submitting
from rnncourse.grading import course

HOSTILE = """Look here.

<script>document.title = "taken over"</script><img src="x" onerror="document.title = 'taken over'">

```mermaid
<img src="x" onerror="document.title = 'taken over'">
```

[a link](javascript:document.title='taken_over')"""
PICTURE = "My sketch: ![the sketch](attachment:sketch.png)"
TEXTS = {  # a student's text, and what the person gives and writes
    "ada": ("**Because** the norm of a product is at most the product of the norms.", "3", "Well said."),
    "Zoë Ångström": (PICTURE, "0.5", "A sketch is not <enough>."),
    "mallory": (HOSTILE, "0", "This says nothing about $W_{hh}$."),
}


@pytest.mark.parametrize("text", [HOSTILE, PICTURE, "[x](javascript:alert(1))", "<svg/onload=alert(1)>", "<b onclick=x>y"])
def test_a_text_is_shown_and_never_run(text):
    shown = course.as_html(text)
    assert not re.search(r"<(script|img|svg)|<[^>]*(javascript:|\bon\w+ *=)", shown)
    assert len(re.sub("<[^>]*>", "", shown).strip()) > 0


def test_a_text_is_shown_as_markdown():
    assert "<strong>Because</strong>" in course.as_html(TEXTS["ada"][0])
    assert "$a&lt;b$" in course.as_html("If $a<b$, then.")
    assert "<td>1</td>" in course.as_html("| a |\n|---|\n| 1 |")


@pytest.mark.browser
def test_texts_marked_in_the_formgrader_are_kept_and_exported(page, tmp_path):
    handed_in, out, source = tmp_path / "submissions", tmp_path / "grades", submitting.assignment(tmp_path)
    for student, (text, _, _) in TEXTS.items():
        submitting.write(handed_in / f"{student}.ipynb", submitting.filled(text=text))

    def grade():
        done = submitting.grade(handed_in, out, source)
        assert done.returncode == 0, done.stderr
        return submitting.table(out)

    assert {student: (row["total"], row["waiting"]) for student, row in grade().items()} == {
        student: ("2", "text_1") for student in TEXTS
    }
    with browser.jupyterlab(out, tmp_path) as url:
        page.goto(f"{url}/lab?token={browser.TOKEN}&reset")
        browser.choose(page, "Nbgrader", "Formgrader")
        forms = page.frame_locator("iframe").last
        forms.get_by_role("link", name="Manual Grading").click()
        forms.locator("td a[href$='/gradebook/two']").click()  # the assignment
        forms.locator("td a[href$='/gradebook/two/two']").click()  # and its only notebook
        forms.get_by_role("link", name="Submission #1").click()
        titles, marked = set(), set()
        for number in (1, 2, 3):
            forms.get_by_text(f"Submission {number} / 3").wait_for()
            box = forms.locator(".nbgrader_cell:has(#text_1)")
            box.locator("textarea[placeholder]").wait_for()  # what the gradebook has is there
            shown = box.locator(".rendered_html").inner_text()
            student = next(s for s, begins in (("ada", "Because"), ("mallory", "Look"), ("Zoë Ångström", "My")) if shown.startswith(begins))
            _, score, comment = TEXTS[student]
            for kind, role, value in (("grade", "spinbutton", score), ("comment", "textbox", comment)):
                with page.expect_response(lambda said: f"/api/{kind}/" in said.url and said.request.method == "PUT"):
                    box.get_by_role(role).first.fill(value)
                    box.get_by_role(role).first.blur()
            titles.add(page.frames[-1].title())
            marked.add(student)
            forms.get_by_role("link", name="Next").click()
        forms.get_by_role("link", name="Submission #1").wait_for()
    assert marked == set(TEXTS) and titles == {"two"}

    for student, row in grade().items():
        _, score, comment = TEXTS[student]
        assert (float(row["text_1"]), float(row["total"]), row["waiting"]) == (float(score), 2 + float(score), "")
        feedback = (out / "feedback" / f"{student}.html").read_text()
        assert html.escape(comment) in feedback
