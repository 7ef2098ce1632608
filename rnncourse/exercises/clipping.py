"""The "Your turn" exercises of notebook 05: clipping by norm and by value, the angle between gradients, a threshold from norms."""

import math

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import in_turn, normal, uniform, whole

# ---------------------------------------------------------------- by norm


def clip_by_norm(grads, threshold):
    norm = torch.sqrt(sum(g.square().sum() for g in grads))  # of all of them, as of one long vector
    scale = torch.clamp(threshold / norm, max=1.0)
    return [scale * g for g in grads]


IN_PLACE = "you changed the gradients that were handed in: return a list of new tensors, and leave those as they are"


def some_grads(generator):
    """Four gradients of unlike sizes and scales, and a threshold that is 3 to 8 times below, then above, their norm."""
    shapes, scales = [(6, 3), (6, 6), (6,), (2, 6)], [0.3, 2.0, 0.1, 1.0]
    grads = [k * torch.randn(shape, generator=generator, dtype=torch.float64) for k, shape in zip(scales, shapes)]
    factor = uniform(generator, 3, 8)
    return [grads, float(_norm(grads)) * in_turn(generator, 1 / factor, factor)]


def _norm(grads):
    return torch.cat([g.flatten() for g in grads]).norm()


def _scaled(grads, scale):
    return [g * scale for g in grads]


def _shortened(norm):
    """Clipping that takes something else for the norm of all gradients."""
    return lambda grads, c: _scaled(grads, min(1.0, c / float(norm(grads))))


CLIP_BY_NORM = Exercise(
    name="clip_by_norm",
    reference=clip_by_norm,
    inputs=some_grads,
    in_place=IN_PLACE,
    tolerance=3e-6,  # torch's own divides by the norm plus 1e-6
    hints=(
        "All gradients together are one long vector, and it has one length. If that is above the threshold, every gradient is "
        "multiplied by the same number; if not, nothing happens.",
        "The length is the root of the sum of all squares, over all entries of all tensors. The factor is min(1, threshold / "
        "length).",
        "`norm = torch.sqrt(sum(g.square().sum() for g in grads))`, then `[min(1.0, threshold / float(norm)) * g for g in "
        "grads]`.",
    ),
    why="One factor for all of them keeps the direction of the whole gradient, in the space of all parameters. It is 1 where the "
    "gradient is short enough already: clipping never lengthens.",
    mistakes=(
        Mistake(
            lambda grads, c: [g * min(1.0, c / float(g.norm())) for g in grads],
            "each tensor is clipped on its own: that turns the whole gradient. Take one norm over all tensors, and one factor",
        ),
        Mistake(
            lambda grads, c: [g * (c / float(g.norm())) for g in grads],
            "each tensor is brought to the threshold on its own, short ones too: take one norm over all tensors and one factor, and "
            "scale only if that norm is above the threshold",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, c / float(_norm(grads))),
            "a gradient shorter than the threshold came out longer: scale only if the norm is above the threshold, min(1, ...)",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, max(1.0, c / float(_norm(grads)))),
            "short gradients are made longer and long ones left alone: the factor is min(1, ...), not max",
        ),
        Mistake(
            lambda grads, c: [g.clamp(-c, c) for g in grads],
            "this is clipping by value, entry by entry: by norm multiplies every entry by the same factor",
        ),
        Mistake(
            _shortened(lambda grads: _norm(grads) ** 2),
            "the square root is missing: you compare the sum of squares with the threshold",
        ),
        Mistake(
            _shortened(lambda grads: sum(g.norm() for g in grads)),
            "the norms of the tensors are added: the norm of all is the root of the sum of their squares",
        ),
        Mistake(
            _shortened(lambda grads: sum(g.norm() for g in grads) / len(grads)),
            "this takes the mean of the tensors' norms: the norm of all is the root of the sum of their squares",
        ),
        Mistake(
            lambda grads, c: torch.cat([g.flatten() for g in clip_by_norm(grads, c)]),
            "the right numbers, as one long vector: return a list of tensors, each of the shape that it came in",
        ),
        Mistake(
            _shortened(lambda grads: max(g.norm() for g in grads)),
            "this takes the largest of the tensors' norms: take the norm of all entries together",
        ),
        Mistake(
            _shortened(lambda grads: max(g.abs().max() for g in grads)),
            "this takes the largest entry for the norm: take the root of the sum of all squares",
        ),
        Mistake(
            _shortened(lambda grads: sum(g.abs().sum() for g in grads)),
            "this is the sum of absolute values: the norm is the root of the sum of squares",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, 1 / max(1.0, float(_norm(grads)))),
            "the gradient is brought to length 1: bring it to the threshold, which is not 1 here",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, 1 / float(_norm(grads))) if _norm(grads) > c else grads,
            "a long gradient is brought to length 1, not to the threshold: multiply by the threshold too",
        ),
        Mistake(
            lambda grads, c: grads,
            "nothing was clipped, though the norm of all gradients was above the threshold: return them multiplied by the factor",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, min(1.0, float(_norm(grads)) / c)),
            "the factor is upside down: it is threshold / norm, so that the result has the length of the threshold",
        ),
        Mistake(
            lambda grads, c: _scaled(grads, float(_norm(grads) <= c)),
            "a gradient above the threshold is thrown away: make it shorter, it still knows the direction",
        ),
        Mistake(lambda grads, c: [g.mul_(k) for k in [min(1.0, c / float(_norm(grads)))] for g in grads], IN_PLACE),
    ),
)

# ---------------------------------------------------------------- by value


def clip_by_value(grads, threshold):
    return [g.clamp(-threshold, threshold) for g in grads]


def spread_grads(generator):
    """Three gradients with entries of both signs, inside and outside the threshold."""
    threshold = uniform(generator, 0.4, 0.9)
    entries = torch.tensor([0.2, -0.3, 1.6, -2.0], dtype=torch.float64)  # so that every case is met, whatever is drawn
    sizes = [(3, 4), (7,), (2, 5)]
    return [[torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes] + [entries], threshold]


CLIP_BY_VALUE = Exercise(
    name="clip_by_value",
    reference=clip_by_value,
    inputs=spread_grads,
    in_place=IN_PLACE,
    hints=(
        "Every entry is looked at on its own. What becomes of one that is too large, of one that is too far below zero, and of "
        "all others?",
        "An entry above the threshold becomes the threshold, one below minus the threshold becomes minus the threshold.",
        "`torch.clamp(g, low, high)` cuts every entry to low ... high. Return a list of them.",
    ),
    why="Entries inside the bounds keep their value and those outside lose part of theirs, so the proportions between entries "
    "change: the vector turns.",
    mistakes=(
        Mistake(
            lambda grads, c: [g.clamp(max=c) for g in grads],
            "only large positive entries are cut: entries below minus the threshold must become minus the threshold",
        ),
        Mistake(
            lambda grads, c: [g.abs().clamp(max=c) for g in grads],
            "the signs are lost: cut to between -threshold and threshold, without taking absolute values",
        ),
        Mistake(
            lambda grads, c: [g.clamp(0, c) for g in grads],
            "negative entries are gone: the lower bound is minus the threshold, not 0",
        ),
        Mistake(
            lambda grads, c: [g * (g.abs() <= c) for g in grads],
            "entries beyond the threshold became 0: they become the threshold, with their sign",
        ),
        Mistake(
            lambda grads, c: [g.sign() * c for g in grads],
            "every entry became plus or minus the threshold: those within it keep their value",
        ),
        Mistake(
            lambda grads, c: [g * min(1.0, c / float(g.abs().max())) for g in grads],
            "each tensor is scaled until its largest entry fits: by value cuts that entry alone and leaves the others",
        ),
        Mistake(
            lambda grads, c: clip_by_norm(grads, c),
            "this is clipping by norm: by value looks at each entry on its own",
        ),
        Mistake(
            lambda grads, c: [g.clamp(min=-c) for g in grads],
            "only entries below minus the threshold are cut: entries above it must become the threshold",
        ),
        Mistake(
            lambda grads, c: [torch.where(g.abs() > c, c, g) for g in grads],
            "entries below minus the threshold became plus the threshold: they keep their sign",
        ),
        Mistake(
            lambda grads, c: [g.clamp(c, -c) for g in grads],
            "every entry became minus the threshold: the lower bound comes first, clamp(-threshold, threshold)",
        ),
        Mistake(
            lambda grads, c: grads[0].clamp(-c, c),
            "this is the first gradient alone: return a list with all of them (is the return inside the loop?)",
        ),
        Mistake(
            lambda grads, c: torch.cat([g.flatten() for g in clip_by_value(grads, c)]),
            "the right numbers, as one long vector: return a list of tensors, each of the shape that it came in",
        ),
        Mistake(
            lambda grads, c: [g.clamp(-1, 1) for g in grads],
            "the bounds are -1 and 1: they are to be -threshold and threshold",
        ),
        Mistake(lambda grads, c: grads, "nothing was clipped: return the new gradients"),
        Mistake(lambda grads, c: [g.clamp_(-c, c) for g in grads], IN_PLACE),
    ),
)

# ---------------------------------------------------------------- the angle between two gradients


def angle_between(a, b):
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))  # rounding may push a cosine beyond 1


def two_matrices(generator):
    """In turn, two gradients of a square matrix at an angle below and above 90 degrees, parallel, and opposite ones."""
    make = in_turn(
        generator,
        lambda: at_an_angle(generator, uniform(generator, 20, 70)),
        lambda: at_an_angle(generator, uniform(generator, 110, 160)),
        lambda: in_line(generator, 1),
        lambda: in_line(generator, -1),
    )
    return make()


def at_an_angle(generator, degrees):
    """Two gradients of unlike lengths."""
    n = whole(generator, 3, 5)
    a, b = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    a, b = a / a.norm(), b / b.norm()
    b = b - (a * b).sum() * a
    theta = math.radians(degrees)
    b = math.cos(theta) * a + math.sin(theta) * b / b.norm()
    return [a * uniform(generator, 1.5, 4), b * uniform(generator, 0.1, 0.24)]  # an inner product within acos


def in_line(generator, sign):
    """Two gradients along one line whose cosine rounds to a number beyond 1 or -1, in whichever order it is computed.

    They are long, so that a small number added to a length against a division by zero does not show.
    """
    beyond = False
    while not beyond:
        a = 1e8 * normal(generator, 4, 4)
        b = sign * uniform(generator, 0.2, 3) * a
        roots = a.square().sum().sqrt() * b.square().sum().sqrt()
        cosines = (_cosine(a, b), float((a / a.norm() * (b / b.norm())).sum()), float((a * b).sum() / roots))
        beyond = min(abs(cosine) for cosine in cosines) > 1
    return [a, b]


def _cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


def _acos(x, most=1.0):
    """In degrees, of x cut to -most ... most; NaN, as torch, where there is none."""
    return math.degrees(torch.acos(torch.as_tensor(x, dtype=torch.float64).clamp(-most, most)))


ANGLE = Exercise(
    name="angle_between",
    reference=angle_between,
    inputs=two_matrices,
    trials=4,
    hints=(
        "Take each gradient as one long vector. Two vectors have an inner product, and it holds the cosine of their angle.",
        "Σ a_i b_i = ‖a‖ ‖b‖ cos θ. The sum runs over all entries; `.norm()` of a matrix is the norm of all its entries.",
        "`cosine = (a * b).sum() / (a.norm() * b.norm())`, then `math.degrees(math.acos(max(-1.0, min(1.0, "
        "float(cosine)))))`: rounding may push the cosine beyond 1, where there is no acos.",
    ),
    why="The inner product of two vectors is the product of their lengths times the cosine of their angle. Rounding "
    "may make that cosine 1.0000000000000002 for parallel gradients, hence the cut. (Near 0 and 180 degrees acos loses "
    "half of the digits; `rnncourse.clipping.angle` takes a way that keeps them.)",
    mistakes=(
        Mistake(
            lambda a, b: math.radians(_acos(_cosine(a, b))),
            "this is the angle in radians: 180 degrees are π of them",
        ),
        Mistake(_cosine, "this is the cosine: the angle is its acos, in degrees"),
        Mistake(
            lambda a, b: _acos(abs(_cosine(a, b))),
            "an angle above 90 degrees came out below it: keep the sign of the inner product",
        ),
        Mistake(
            lambda a, b: 90 - _acos(_cosine(a, b)),
            "this is the asin: the inner product gives the cosine, so take acos",
        ),
        Mistake(
            lambda a, b: 180 - _acos(_cosine(a, b)),
            "this is the angle to -b: is there a minus sign too many?",
        ),
        Mistake(
            lambda a, b: _acos(torch.diagonal(a @ b).sum() / (a.norm() * b.norm())),
            "a @ b is a matrix product: the inner product of two gradients multiplies entry by entry, (a * b).sum()",
        ),
        Mistake(
            lambda a, b: _acos((a * b).sum() / a.norm() ** 2),
            "divided by ‖a‖ twice: the lengths of both, ‖a‖ ‖b‖, belong below the inner product",
        ),
        Mistake(
            lambda a, b: _acos((a * b).mean() / (a.norm() * b.norm())),
            "this takes the mean of the products: the inner product is their sum",
        ),
        Mistake(
            lambda a, b: _acos((a * b).sum()),
            "the lengths are missing: divide the inner product by ‖a‖ ‖b‖",
        ),
        Mistake(
            lambda a, b: _acos(_cosine(a - a.mean(), b - b.mean())),
            "this is the correlation: the means are not to be taken off",
        ),
        Mistake(
            lambda a, b: _acos(_cosine(a, b), most=math.inf),
            "right, but NaN for parallel or opposite gradients: rounding pushes their cosine beyond 1 or -1, where no "
            "acos is. Cut it to -1 ... 1 first, with clamp(-1, 1)",
        ),
        Mistake(
            lambda a, b: math.degrees(math.acos(_cosine(a, b))),
            "acos is defined from -1 to 1. Is what you put in divided by both lengths? Even then rounding may push the "
            "cosine of parallel gradients beyond 1: cut it first, max(-1.0, min(1.0, cosine))",
            error="math domain error|expected a number in range",  # of Python 3.14 on, the second
        ),
        Mistake(
            lambda a, b: _acos(_cosine(a, b), most=1 - 1e-7),
            "right, but parallel gradients come out 0.03 degrees apart: cut the cosine to -1 ... 1 and no narrower, "
            "acos is defined there",
        ),
    ),
)

# ---------------------------------------------------------------- a threshold from the norms of a run


def threshold_from_norms(norms, share):
    return torch.quantile(norms, 1 - share)


def norms_of_a_run(generator):
    """101 norms with a long tail, in no order, and a share for which the quantile is one of them, far from the middle."""
    norms = torch.exp(1.5 * torch.randn(101, generator=generator, dtype=torch.float64))
    return [norms, in_turn(generator, 0.1, 0.05, 0.2)]


def clips_the_same(threshold, norms, share):
    """Whether a threshold lies between the smallest one and the next larger norm: it clips the same steps."""
    try:
        threshold = float(threshold)
    except (TypeError, ValueError, RuntimeError):
        return False
    smallest = threshold_from_norms(norms, share)
    next_larger = norms[norms > smallest].min()
    return bool(smallest <= threshold < next_larger * (1 - 1e-5))  # that norm itself, rounded, is none


THRESHOLD = Exercise(
    name="threshold_from_norms",
    reference=threshold_from_norms,
    inputs=norms_of_a_run,
    accepts=clips_the_same,
    hints=(
        "Sort the norms in your mind. The threshold stands where the wanted share of them lies above it.",
        "A share of 0.1 above means 0.9 below or at it: that is a quantile.",
        "`torch.quantile(norms, q)` has the share q of the norms below it. Which q leaves `share` of them above? "
        "(A threshold between that norm and the next larger one clips the same steps, so it counts as well.)",
    ),
    why="The q-quantile has the share q below it and 1 - q above: clipping there touches 1 - q of the steps, the longest, and "
    "leaves the rest as they are.",
    mistakes=(
        Mistake(
            lambda norms, share: torch.quantile(norms, share),
            "the wrong end: this threshold would clip all but that share of the steps; take the quantile of 1 - share",
        ),
        Mistake(
            lambda norms, share: norms.mean(),
            "this is the mean: it does not depend on the share, and a few huge norms move it far",
        ),
        Mistake(lambda norms, share: norms.median(), "this is the median: it clips half of the steps"),
        Mistake(
            lambda norms, share: (1 - share) * norms.max(),
            "this is a share of the largest norm: the share is to be of the steps, so count them (a quantile)",
        ),
        Mistake(
            lambda norms, share: share * norms.max(),
            "this is a share of the largest norm: the share is to be of the steps, so count them (a quantile of 1 - share)",
        ),
        Mistake(
            lambda norms, share: norms[int((1 - share) * len(norms))],
            "sort the norms first: they stand in the order of the steps",
        ),
        Mistake(
            lambda norms, share: (norms > share).double().mean(),
            "this is the share of norms above a threshold: the question is the other way round, the threshold for a share",
        ),
        Mistake(
            lambda norms, share: norms.sort(descending=True).values[int(share * len(norms)) - 1],
            "one norm too high: a step is clipped if its norm is above the threshold, and this one is not above itself",
        ),
        Mistake(
            lambda norms, share: norms.sort().values[int((1 - share) * len(norms)) - 1],
            "one norm too low: this would clip a step too many",
        ),
        Mistake(
            lambda norms, share: torch.quantile(norms, (1 - share) / 100),
            "far too low: percentiles are counted in hundredths, so take 100 * (1 - share) for np.percentile",
        ),
        Mistake(lambda norms, share: norms.max(), "this is the largest norm: nothing at all would be clipped"),
        Mistake(
            lambda norms, share: norms.mean() + norms.std(),
            "mean plus a standard deviation suits a bell curve: these norms have a long tail, and the share is given; count",
        ),
    ),
)

EXERCISES = (CLIP_BY_NORM, CLIP_BY_VALUE, ANGLE, THRESHOLD)
