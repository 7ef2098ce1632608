"""Figures: nothing is shown that leaves a reader out, the alternative text arrives, and the bands are the intervals they claim."""

import base64
import io
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.colors import to_rgb
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from nbval.plugin import get_sanitize_patterns
from PIL import Image

from rnncourse import plotting
from rnncourse.plotting import check_figure, curve, draw_unrolled, figure, mean_interval, show, success_curve

ALT = 'The loss falls from 1.4 to 0.1 nats, "fast" & steadily, in < 300 steps of training.'


def labelled(rows=1, columns=1, **options):
    fig, axes = figure(rows, columns, **options)
    for ax in np.ravel(axes):
        ax.set(xlabel="step", ylabel="loss, nats")
    np.ravel(axes)[0].set_title("The loss falls")
    return fig, axes


def changed(change, *size, **options):
    fig, axes = labelled(*size, **options)
    change(fig, axes)
    return fig


def surface(zlabel):
    fig, ax = labelled(subplot_kw={"projection": "3d"})
    ax.set_zlabel(zlabel)
    return fig


def heat_map(label):
    fig, ax = labelled()
    fig.colorbar(ax.imshow(np.eye(3)), label=label)
    return fig


def twin(label):
    fig, ax = labelled()
    ax.twinx().set_ylabel(label)
    return fig


# -- what may be shown ---------------------------------------------------------------------------------------------

GOOD = {
    "plain": lambda: labelled()[0],
    "a grid": lambda: labelled(2, 2)[0],
    "title at the left": lambda: changed(lambda f, ax: [ax.set_title(""), ax.set_title("It falls", loc="left")]),
    "title of the figure": lambda: changed(lambda f, ax: [ax.set_title(""), f.suptitle("It falls")]),
    "shared axes": lambda: changed(
        lambda f, ax: [ax[0].set_xlabel(""), ax[1].set_ylabel("")], 2, sharex=True, sharey=True
    ),
    "axes switched off": lambda: changed(lambda f, ax: [ax[1].set(xlabel="", ylabel=""), ax[1].set_axis_off()], 1, 2),
    "axes not visible": lambda: changed(
        lambda f, ax: [ax[1].set(xlabel="", ylabel=""), ax[1].set_visible(False)], 1, 2
    ),
    "an axis not visible": lambda: changed(lambda f, ax: [ax.set_ylabel(""), ax.yaxis.set_visible(False)]),
    "colour bar": lambda: heat_map("weight"),
    "twin axes": lambda: twin("accuracy"),
    "3-D": lambda: surface("loss"),
}
BAD = {
    "title": lambda: changed(lambda f, ax: ax.set_title(" ")),
    "axes 0 has no x label": lambda: changed(lambda f, ax: ax.set_xlabel("")),
    "axes 0 has no y label": lambda: changed(lambda f, ax: ax.set_ylabel(" ")),
    "axes 3 has no y label": lambda: changed(lambda f, ax: ax[1, 1].set_ylabel(""), 2, 2),
    "axes 1 has no x label": lambda: changed(lambda f, ax: [a.set_xlabel("") for a in ax[1:]], 2),
    "axes 0 has no x label: name": lambda: changed(lambda f, ax: [a.set_xlabel("") for a in ax], 2, sharex=True),
    "axes 1 has no colour bar label": lambda: heat_map(""),
    "axes 1 has no y label": lambda: twin(""),
    "axes 0 has no z label": lambda: surface(""),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_figure_with_all_its_labels_may_be_shown(make):
    check_figure(make(), ALT)


@pytest.mark.parametrize("message, make", BAD.items(), ids=BAD)
def test_a_figure_that_lacks_a_label_is_refused(message, make):
    with pytest.raises(ValueError, match=message):
        check_figure(make(), ALT)
    with pytest.raises(ValueError, match=message):
        show(make(), ALT)


@pytest.mark.parametrize("alt", ["", "a plot", " " * 50, "x" * 39, None, 3])
def test_a_figure_needs_alternative_text(alt):
    with pytest.raises(ValueError, match=r"alt: expected a sentence .*got"):
        check_figure(labelled()[0], alt)


# -- what is shown -------------------------------------------------------------------------------------------------


def test_show_displays_a_picture_and_its_words():
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            assert show(labelled(width=5.0, height=2.0)[0], ALT) is None
    finally:
        InteractiveShell.clear_instance()
    (output,) = captured.outputs
    assert set(output.data) == {"text/html", "image/png", "text/plain"}
    assert output.data["image/png"] in output.data["text/html"]
    assert output.data["text/plain"] == f"Figure: {ALT}"
    assert output.metadata == {"image/png": {"alt": ALT}}
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
        assert picture.format == "PNG" and picture.size == (500, 200)


def alts(page):
    """The alternative texts of the pictures of an HTML page, None where there is none."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tag == "img" and found.append(dict(attributes).get("alt"))
    parser.feed(page)
    return found


def test_the_words_reach_the_stored_notebook_and_its_html_once():
    source = f"""
from matplotlib import pyplot
from rnncourse.plotting import *
fig, ax = MAKE
curve(ax, [0, 1], [1.4, 0.1])
ax.set(title="The loss falls", xlabel="step", ylabel="loss, nats")
show(fig, alt={ALT!r})
assert not pyplot.get_fignums()"""
    notebook = new_notebook(cells=[new_code_cell(source.replace("MAKE", make)) for make in ("figure()", "pyplot.subplots()")])
    NotebookClient(notebook, kernel_name="python3", timeout=120, shutdown_kernel="immediate").execute()
    for cell in notebook.cells:
        (output,) = cell.outputs
        assert output.metadata["image/png"]["alt"] == ALT and output.data["text/plain"] == f"Figure: {ALT}"
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert alts(page) == [ALT, ALT]


def test_nbval_compares_the_words_of_a_picture_and_not_its_pixels(request):
    """Rendering differs from machine to machine; conftest.py hands nbval the file that leaves pixels out."""
    patterns = get_sanitize_patterns(Path(request.config.option.nbval_sanitize_with).read_text())
    assert len(patterns) == 1
    seen = [re.sub(*patterns[0], f'<img alt="{alt}" src="data:image/png;base64,{png}"> 1') for alt, png in PICTURES]
    assert seen[0] == seen[1] != seen[2] and seen[0].endswith("> 1")


PICTURES = [("a", "iVBORw0K/gg+AA=="), ("a", "iVBORw0KBB"), ("b", "iVBORw0KBB")]


# -- bands and bars ------------------------------------------------------------------------------------------------

RUNS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def band(ax):
    """(low, high) of the one band in ``ax``."""
    (shade,) = ax.collections
    low, high = {}, {}
    for x, y in shade.get_paths()[0].vertices:
        low[x], high[x] = min(y, low.get(x, y)), max(y, high.get(x, y))
    return np.array([low[x] for x in sorted(low)]), np.array([high[x] for x in sorted(high)])


def test_the_band_is_the_t_interval_of_the_mean():
    from scipy import stats  # here: it takes seconds

    fig, ax = figure()
    line = curve(ax, range(7), RUNS, "some")
    low, high = stats.ttest_1samp(RUNS.numpy(), 0).confidence_interval(0.95)
    assert np.allclose(line.get_ydata(), RUNS.mean(0)) and line.get_label() == "some"
    assert np.allclose(band(ax), (low, high))
    by_hand = 2.7764451 * RUNS.std(0) / 5**0.5  # t of 4 degrees of freedom, 97.5 %
    assert np.allclose(high, RUNS.mean(0) + by_hand)
    assert np.allclose(mean_interval(RUNS), (low, high))


def test_the_band_may_be_the_range():
    fig, ax = figure()
    curve(ax, np.arange(7), RUNS, band="range")
    assert np.allclose(band(ax), (RUNS.min(0).values, RUNS.max(0).values))


@pytest.mark.parametrize("y", [RUNS[0], RUNS[:1], RUNS[0].clone().requires_grad_(), RUNS[0].tolist()])
def test_one_run_has_no_band(y):
    fig, ax = figure()
    line = curve(ax, torch.arange(7), y)
    assert len(ax.collections) == 0 and np.allclose(line.get_ydata(), RUNS[0])


def test_the_bars_are_wilson_s():
    from statsmodels.stats.proportion import proportion_confint  # here: it takes seconds

    fig, ax = figure()
    successes, x = torch.tensor([0, 3, 7, 8]), [5, 10, 15, 20]
    line, caps, (bars,) = success_curve(ax, x, successes, 8, "orthogonal")
    low, high = proportion_confint(successes.numpy(), 8, method="wilson")
    assert np.allclose(line.get_xydata(), np.stack([x, successes / 8], axis=1))
    drawn = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert np.allclose(drawn, np.stack([low, high], axis=1))
    assert low[0] == 0 < high[0] and low[-1] < 1 == high[-1]  # no certainty from 8 runs


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda ax: curve(ax, range(7), RUNS[:, :6]), r"y: expected shape \(7,\) or \(runs, 7\), got \(5, 6\)"),
        (lambda ax: curve(ax, range(7), RUNS[None]), r"y: expected shape .* got \(1, 5, 7\)"),
        (lambda ax: curve(ax, range(7), RUNS[:0]), r"y: expected shape .* got \(0, 7\)"),
        (lambda ax: curve(ax, [], []), r"x: expected shape \(n,\) .* got \(0,\)"),
        (lambda ax: curve(ax, 3, RUNS), r"x: expected shape \(n,\) .* got \(\)"),
        (lambda ax: curve(ax, range(7), RUNS, band="sem"), "band: expected one of 'interval', 'range', got 'sem'"),
        (lambda ax: success_curve(ax, [1, 2], [1, 2, 3], 4), r"successes: expected shape \(2,\).* got \(3,\)"),
        (lambda ax: success_curve(ax, [1, 2], [1, 5], 4), "successes: expected counts from 0 to runs = 4, got"),
        (lambda ax: success_curve(ax, [1, 2], [1, -1], 4), "successes: expected counts from 0"),
        (lambda ax: success_curve(ax, [1, 2], [1, np.nan], 4), "successes: expected counts from 0"),
        (lambda ax: success_curve(ax, [1, 2], [0, 0], 0), "runs: expected a whole number of at least 1, got 0"),
        (lambda ax: mean_interval(RUNS[:1]), r"y: expected at least two runs .* got shape \(1, 7\)"),
        (lambda ax: mean_interval(3.0), r"y: expected at least two runs .* got shape \(\)"),
    ],
)
def test_bad_input_says_what_came_and_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call(figure()[1])


# -- seen without colours, or with other eyes ----------------------------------------------------------------------


def test_curves_differ_in_marker_as_well_as_in_colour():
    fig, ax = figure()
    lines = [curve(ax, range(50), np.full(50, i)) for i in range(len(plotting.COLOURS))]
    lines += [success_curve(figure()[1], [1], [1], 2)[0]]
    assert (
        len({line.get_color() for line in lines[:-1]})
        == len({line.get_marker() for line in lines[:-1]})
        == len(lines) - 1
    )
    assert all(line.get_marker() not in ("", "None", None) for line in lines)
    assert lines[-1].get_markevery() == 1  # every point of a success curve is a measurement


# Vision without green- or red-sensitive cones, in linear RGB: Machado, Oliveira & Fernandes 2009, severity 1.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour, sight):
    """CIE L*a*b* of a colour as seen with ``sight``."""
    xyz = TO_XYZ @ np.clip(SIGHT[sight] @ linear(colour), 0, 1) / TO_XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colours_can_be_told_apart(sight):
    distances = [np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in combinations(plotting.COLOURS, 2)]
    assert min(distances) > 15  # 2.3 is just noticeable
    assert np.linalg.norm(lab("#888888", sight) - lab("#888889", sight)) < 1  # the measure itself is no blunder


def test_every_colour_stands_out_from_white():
    for colour in plotting.COLOURS:
        luminance = TO_XYZ[1] @ linear(colour)
        assert 1.05 / (luminance + 0.05) > 2, colour  # contrast as WCAG defines it


def test_the_unrolled_picture_numbers_its_steps():
    _, ax = figure()
    draw_unrolled(ax, steps=2)
    names = [text.get_text() for text in ax.texts]
    assert [n for n in names if n.startswith("$h")] == ["$h_t$", "$h_0$", "$h_1$", "$h_2$"]
