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
    a, b = _numbers(a, b)
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    return _compare(difference <= tolerance, a, b, f"differ by at most {tolerance:g}", difference)


def below(a, b):
    """``a < b`` everywhere; False where either is NaN."""
    a, b = _numbers(a, b)
    return _compare(a < b, a, b, "first below second")


def above(a, b):
    """``a > b`` everywhere; False where either is NaN."""
    a, b = _numbers(a, b)
    return _compare(a > b, a, b, "first above second")


def between(a, low, high):
    """``low <= a <= high`` everywhere; False where any is NaN."""
    a, low, high = _numbers(a, low, high)
    return Comparison((low <= a) & (a <= high), f"expected {_show(a)} between {_show(low)} and {_show(high)}")


def same(a, b):
    """Equal values, of equal shape where both have one: shapes, strings, numbers, tensors. NaN equals nothing."""
    x, y = _array(a), _array(b)
    if x.shape != y.shape:
        return Comparison(np.array(False), f"shapes differ: {x.shape} and {y.shape}; values {_show(a)} and {_show(b)}")
    return Comparison(np.asarray(x == y, dtype=bool), f"expected the same, got {_show(a)} and {_show(b)}")


def summary():
    """Print what this notebook has proved so far, numbered, in the order in which it was proved."""
    print(f"{len(_proved)} claims, each measured above:")
    for number, text in enumerate(_proved, start=1):
        print(f"{number:3d}. ✔ {text}")


def _array(value):
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _numbers(*values):
    arrays = [_array(value) for value in values]
    for value, array in zip(values, arrays):
        if array.dtype.kind not in "iufc":
            raise TypeError(f"expected numbers to compare, got {value!r}")
    return np.broadcast_arrays(*arrays)


def _compare(holds, a, b, wish, difference=None):
    shown = f"expected {wish}, got {_show(a)} and {_show(b)}"
    if difference is not None and difference.size:
        shown += f", difference up to {np.max(difference):.3g}"
    return Comparison(holds, shown)


def _show(value):
    array = _array(value)
    if array.size == 1 and array.dtype.kind in "iuf":
        return f"{array.item():.6g}"
    return np.array2string(array, precision=4, threshold=8)
