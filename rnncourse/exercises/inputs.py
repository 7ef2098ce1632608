"""What the exercises draw their inputs from: each time afresh, from the generator that a check hands over."""

from weakref import WeakKeyDictionary

import torch

_turns, _orders = WeakKeyDictionary(), WeakKeyDictionary()


def whole(generator, low, high):
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def uniform(generator, low, high):
    """A number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def normal(generator, *shape):
    """A tensor of standard normal numbers, in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def in_turn(generator, *cases):
    """One of the cases after the other, from the first on for each generator: no check may miss one of them by chance."""
    turn = _turns[generator] = _turns.get(generator, -1) + 1
    return cases[turn % len(cases)]


def in_any_order(generator, *cases):
    """The same in an order that the generator draws: where an answer is yes or no, one that counts its calls must not know."""
    order = _orders[generator] = _orders.get(generator) or torch.randperm(len(cases), generator=generator).tolist()
    return cases[in_turn(generator, *order)]
