"""Figures: one look, and every figure readable without colour, and without eyes.

fig, ax = figure()
curve(ax, x, y, "orthogonal")
ax.set(title="What the figure shows", xlabel="time step t", ylabel="loss, nats")
show(fig, alt="What a person who can't see the figure needs to know of it.")
"""

import base64
import html
import io
import sys

import matplotlib
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from rnncourse.arguments import check_choice, check_whole

# Okabe & Ito's palette, told apart with every common kind of colour blindness; its yellow is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SEQUENTIAL, DIVERGING = "cividis", "PuOr"  # colour maps that the colour-blind read too
LOOK = {
    "axes.prop_cycle": cycler(color=COLOURS, marker=MARKERS, markevery=[0.08] * len(COLOURS)),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.color": "#dddddd",
    "image.cmap": SEQUENTIAL,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}
matplotlib.rcParams.update(LOOK)


def figure(rows=1, columns=1, width=7.0, height=3.4, **options):
    """A figure and its axes, in the course's look: one ``Axes``, or an array of them. Sizes in inches, for each row of axes.

    Further ``options`` go to matplotlib's ``Figure.subplots`` (``sharex``, ``width_ratios``, ...).
    """
    fig = Figure(figsize=(width, height * rows))
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **options)


def curve(ax, x, y, label=None, band="interval", **style):
    """A curve; with y of shape (runs, len(x)), the mean over runs and a band: 95 % t-interval of the mean, or "range"."""
    x, y = to_numpy(x), to_numpy(y)
    check_axis("x", x)
    if y.ndim not in (1, 2) or y.shape[-1] != len(x) or len(y) == 0:
        raise ValueError(f"y: expected shape ({len(x)},) or (runs, {len(x)}), got {y.shape}")
    check_choice("band", band, ("interval", "range"))
    (line,) = ax.plot(x, y if y.ndim == 1 else y.mean(axis=0), label=label, **style)
    if y.ndim == 2 and len(y) > 1:
        low, high = (y.min(axis=0), y.max(axis=0)) if band == "range" else mean_interval(y)
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line


def success_curve(ax, x, successes, runs, label=None, **style):
    """The share of ``runs`` that succeeded at each x, with 95 % Wilson intervals as error bars."""
    from statsmodels.stats.proportion import proportion_confint  # here: it takes a second, and few need it

    x, successes = to_numpy(x), to_numpy(successes)
    check_axis("x", x)
    check_whole("runs", runs)
    if successes.shape != x.shape:
        raise ValueError(f"successes: expected shape {x.shape}, a count for each x, got {successes.shape}")
    if not ((0 <= successes) & (successes <= runs)).all():
        raise ValueError(f"successes: expected counts from 0 to runs = {runs}, got {successes.tolist()}")
    share = successes / runs
    low, high = proportion_confint(successes, runs, method="wilson")
    errors = np.clip([share - low, high - share], 0, None)
    return ax.errorbar(x, share, yerr=errors, label=label, capsize=3, **{"markevery": 1, **style})


def mean_interval(y):
    """The 95 % t-interval of the mean over the first axis, of the runs: (low, high), each of the shape of one run."""
    from scipy.special import stdtrit  # here: it takes a quarter of a second, and few need it

    y = to_numpy(y)
    if y.ndim == 0 or len(y) < 2:
        raise ValueError(f"y: expected at least two runs along its first axis, got shape {y.shape}")
    half = stdtrit(len(y) - 1, 0.975) * y.std(axis=0, ddof=1) / np.sqrt(len(y))
    return y.mean(axis=0) - half, y.mean(axis=0) + half


def show(fig, alt):
    """Display a figure as a PNG image whose alternative text, ``alt``, is stored with it in the notebook, and close it.

    ``ValueError`` where a figure would leave a reader out: no title, an axis without a label (unless it is switched off),
    or alternative text of fewer than 40 characters.
    """
    forms, metadata = picture(fig, alt)
    display(forms, metadata=metadata, raw=True)
    close(fig)


def close(fig):
    """Take a figure out of pyplot's hands, if pyplot made it: a notebook would show it, or show it once more."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)


def picture(fig, alt):
    """What ``show`` displays: the figure in every form that a notebook stores, and its metadata."""
    check_figure(fig, alt)
    png = base64.b64encode(to_png(fig)).decode("ascii")
    # JupyterLab and nbconvert's usual HTML show an image/png without its alternative text: for them, the HTML form
    img = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{png}">'
    return {"text/html": img, "image/png": png, "text/plain": f"Figure: {alt}"}, {"image/png": {"alt": alt}}


def check_figure(fig, alt):
    """Raise ``ValueError`` that says what a figure lacks: alternative text, a title, a label of an axis."""
    if not isinstance(alt, str) or len(alt.strip()) < 40:
        raise ValueError(
            f"alt: expected a sentence that says what the figure shows (40 characters or more), got {alt!r}"
        )
    titled = [ax.get_title(loc) for ax in fig.axes for loc in ("left", "center", "right")] + [fig.get_suptitle()]
    if not any(title.strip() for title in titled):
        raise ValueError("the figure has no title: state its finding with ax.set(title=...) or fig.suptitle(...)")
    for number, ax in enumerate(fig.axes):
        if not (getattr(ax, "_axis3don", ax.axison) and ax.get_visible()):  # in 3-D, axison is always False
            continue
        needs = {
            "x": [a.get_xlabel() for a in ax.get_shared_x_axes().get_siblings(ax) if ax.xaxis.get_visible()],
            "y": [a.get_ylabel() for a in ax.get_shared_y_axes().get_siblings(ax) if ax.yaxis.get_visible()],
            "z": [ax.get_zlabel()] if hasattr(ax, "get_zlabel") else [],
        }
        if hasattr(ax, "_colorbar"):
            needs = {"colour bar": [ax.get_xlabel(), ax.get_ylabel()]}
        for axis, labels in needs.items():
            if labels and not any(label.strip() for label in labels):
                raise ValueError(f"axes {number} has no {axis} label: name the quantity and its unit")


def to_png(fig):
    """The figure as PNG bytes, in 256 colours: a third of the size, and notebooks keep all their figures."""
    canvas, png = FigureCanvasAgg(fig), io.BytesIO()  # one that has pixels, whatever pyplot drew on
    canvas.draw()  # savefig would draw twice: once for the layout
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(png, format="png", optimize=True)
    return png.getvalue()


def check_axis(name, values):
    """Raise ``ValueError`` unless ``values`` are one axis, of at least one place."""
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name}: expected shape (n,) with n at least 1, got {values.shape}")


def to_numpy(values):
    """A tensor, on any device and with or without a gradient, or anything else numeric, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, dtype=float)


def draw_unrolled(ax, steps=4):
    """The recurrence as a graph: once with its loop, and unrolled over ``steps`` steps, each with the same three weights."""
    check_whole("steps", steps)

    def node(x, y, name):
        ax.text(x, y, f"${name}$", ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white"})

    def arrow(start, end, weight, colour, label, gap=15, bend=0):
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": gap, "shrinkB": gap}
        ax.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"})
        ax.text(*label, f"$W_{{{weight}}}$", color=colour, ha="center", va="center", fontsize="small")

    def column(x, t):
        for y, name in enumerate("xhy"):
            node(x, y, name + t)
        arrow((x, 0), (x, 1), "xh", COLOURS[0], (x + 0.2, 0.5))
        arrow((x, 1), (x, 2), "hy", COLOURS[2], (x + 0.2, 1.5))

    column(0, "_t")
    arrow((0.11, 0.9), (0.11, 1.1), "hh", COLOURS[1], (0.56, 1), gap=0, bend=2.4)
    ax.text(1.35, 1, "=", ha="center", va="center", fontsize="x-large")
    node(2, 1, "h_0")
    for t in range(1, steps + 1):
        column(2 + t, f"_{t}")
        arrow((1 + t, 1), (2 + t, 1), "hh", COLOURS[1], (1.5 + t, 1.13))
    ax.set(xlim=(-0.5, 2.5 + steps), ylim=(-0.35, 2.35))
    ax.axis("off")
