"""What every public function says of an argument that it can't take: what came, and what was expected."""

import math
from numbers import Integral, Real


def check_choice(name, value, choices):
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def check_whole(name, value, least=1):
    """Raise ``ValueError`` unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def check_positive(name, value):
    """Raise ``ValueError`` unless ``value`` is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not value > 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


def check_finite(name, value):
    """Raise ``ValueError`` unless ``value`` is a number, neither NaN nor infinite."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
