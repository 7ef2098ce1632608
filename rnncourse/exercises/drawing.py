"""What a figure shows, in plain numbers and words: what a plot's check looks at, and what travels in marking."""

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Drawing:
    """One pair of axes: its words, its scales, and every row of points in it, a pair (xs, ys) of tuples of numbers."""

    title: str = ""
    xlabel: str = ""
    ylabel: str = ""
    xscale: str = "linear"
    yscale: str = "linear"
    points: tuple = ()

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, given):
        """A ``Drawing`` from ``to_dict``'s plain form. ``TypeError`` or ``ValueError`` if it is none."""
        points = tuple((_floats(xs), _floats(ys)) for xs, ys in given["points"])
        words = {name: str(given[name]) for name in ("title", "xlabel", "ylabel", "xscale", "yscale")}
        return cls(**words, points=points)


def describe(plot):
    """The ``Drawing`` of matplotlib's Figure or Axes (of several, the first that has points), or None if it is neither.

    A figure that pyplot holds is closed, so that a notebook does not show it once more.
    """
    if isinstance(plot, Drawing):
        return plot
    if type(plot).__name__ == "module":  # plt, whose axes is a function
        return None
    if isinstance(plot, (list, tuple, np.ndarray)):  # what plt.subplots returns, or a plot call: (fig, ax), lines
        found = [drawing for one in np.ravel(np.array(plot, dtype=object)) if (drawing := describe(one))]
        return next((drawing for drawing in found if drawing.points), found[0] if found else None)
    if hasattr(plot, "savefig") and hasattr(plot, "axes"):
        figure, axes = plot, list(plot.axes)
    elif hasattr(plot, "get_lines") and hasattr(plot, "figure"):
        figure, axes = plot.figure, [plot]
    elif getattr(plot, "axes", None) is not None and hasattr(plot.axes, "get_lines"):  # a line
        figure, axes = plot.axes.figure, [plot.axes]
    else:
        return None
    from rnncourse.plotting import close  # here: marking looks at drawings alone, and need not load matplotlib

    close(figure)
    drawings = [_of_axes(ax, figure) for ax in axes] or [Drawing()]
    return next((drawing for drawing in drawings if drawing.points), drawings[0])


def _of_axes(ax, figure):
    rows = [line.get_data(orig=False) for line in ax.get_lines()]
    rows += [np.asarray(dots.get_offsets()).T for dots in ax.collections if len(dots.get_offsets())]
    if ax.patches and all(hasattr(bar, "get_height") for bar in ax.patches):
        rows.append(
            ([bar.get_x() + bar.get_width() / 2 for bar in ax.patches], [bar.get_height() for bar in ax.patches])
        )
    titles = [ax.get_title(loc=place) for place in ("center", "left", "right")] + [figure.get_suptitle()]
    return Drawing(
        title=next((title for title in titles if title.strip()), ""),
        xlabel=ax.get_xlabel() or figure.get_supxlabel(),
        ylabel=ax.get_ylabel() or figure.get_supylabel(),
        xscale=ax.get_xscale(),
        yscale=ax.get_yscale(),
        points=tuple((_floats(xs), _floats(ys)) for xs, ys in rows),
    )


def _floats(values):
    return tuple(float(value) for value in np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel())
