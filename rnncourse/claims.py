"""Claims: sentences that a notebook states and measures in the same cell.

    claim("the engine's gradient is autograd's", near(ours, autograd, 1e-12))

prints ``✔ the engine's gradient is autograd's``, or raises ``ClaimError`` with the values that were compared.
A bare boolean works too, but then a failure has no values to show.
"""

from dataclasses import dataclass

import numpy as np
import torch

_proved: dict[str, None] = {}  # the texts, in the order in which they were proved


class ClaimError(AssertionError):
    """A claim that measurement did not bear out."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison found: ``holds`` (element by element) and the values, in words."""

    holds: np.ndarray
    shown: str


def claim(text, condition):
    """State ``text`` and prove it: print ``✔ text`` if ``condition`` holds everywhere, raise ``ClaimError`` if not.

    ``condition`` is a ``Comparison`` (from ``near``, ``below``, ``above``, ``between``, ``same``) or a boolean, also
    an array or tensor of booleans. Anything else, NaN included, raises ``TypeError``; an empty array, ``ValueError``,
    since a condition on nothing can't fail.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"a claim needs a sentence, got {text!r}")
    _proved.pop(text, None)  # a cell that is run again must prove its claim again
    holds, shown = (condition.holds, condition.shown) if isinstance(condition, Comparison) else (condition, "")
    holds = _array(holds)
    if holds.dtype != bool:
        raise TypeError(f"a claim needs a condition that is True or False, got {condition!r} for {text!r}")
    if holds.size == 0:
        raise ValueError(f"nothing was compared for {text!r}: the condition is empty")
    if not holds.all():
        where = "" if holds.ndim == 0 else f" ({(~holds).sum()} of {holds.size} places fail)"
        raise ClaimError(f"✘ {text}{where}\n  {shown or 'the condition is False'}")
    _proved[text] = None
    print(f"✔ {text}")


def near(a, b, tolerance):
    """``|a - b| <= tolerance`` everywhere. False where either is NaN, or infinite."""
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance: expected a number from 0 up, and finite, got {tolerance!r}")
    a, b = _numbers(a, b)
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.subtract(a, b, dtype=np.result_type(a, b, np.float64)))
    wish = f"a difference of at most {tolerance:g} (it is up to {difference.max(initial=0.0):.3g})"
    return _compare(difference <= tolerance, wish, a, b)


def below(a, b):
    """``a < b`` everywhere; False where either is NaN."""
    a, b = _numbers(a, b, kinds="iuf")
    return _compare(a < b, "the first below the second", a, b)


def above(a, b):
    """``a > b`` everywhere; False where either is NaN."""
    a, b = _numbers(a, b, kinds="iuf")
    return _compare(a > b, "the first above the second", a, b)


def between(a, low, high):
    """``low <= a <= high`` everywhere; False where any is NaN."""
    a, low, high = _numbers(a, low, high, kinds="iuf")
    return _compare((low <= a) & (a <= high), "the first between the second and the third", a, low, high)


def same(a, b):
    """Equal values, of equal shape where both have one: shapes, strings, numbers, tensors. NaN equals nothing."""
    x, y = _array(a), _array(b)
    if x.shape != y.shape:
        return Comparison(np.array(False), f"shapes differ: {x.shape} and {y.shape}; values {_show(x)} and {_show(y)}")
    return _compare(np.broadcast_to(np.asarray(x == y, dtype=bool), x.shape), "the same", x, y)


def summary():
    """Print what this notebook has proved so far, numbered, in the order in which it was proved."""
    print(f"{len(_proved)} claims, each measured above:")
    for number, text in enumerate(_proved, start=1):
        print(f"{number:3d}. ✔ {text}")


def _array(value):
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _numbers(*values, kinds="iufc"):
    arrays = [_array(value) for value in values]
    for value, array in zip(values, arrays):
        if array.dtype.kind not in kinds:
            raise TypeError(f"expected numbers to compare, got {value!r}")
    return np.broadcast_arrays(*arrays)


def _compare(holds, wish, *values):
    """The comparison of arrays of one shape; where it fails in a place of many, the words name the first such place."""
    holds = np.asarray(holds)
    shown = f"expected {wish}, got {' and '.join(map(_show, values))}"
    if holds.ndim and not holds.all():
        place = tuple(np.argwhere(~holds)[0].tolist())
        shown += f"; first at {list(place)}: {' and '.join(_show(value[place]) for value in values)}"
    return Comparison(holds, shown)


def _show(array):
    if array.size == 1 and array.dtype.kind in "iuf":
        return f"{array.item():.6g}"
    return np.array2string(array, precision=4, threshold=8)
