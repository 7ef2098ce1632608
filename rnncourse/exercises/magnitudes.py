"""Exercises 1 and 4 of notebook 08: what σ promises about a gradient, and the highway of an orthogonal W_hh."""

import math

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import in_any_order, in_turn, normal, uniform, whole


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


def orthogonal(generator, n):
    return torch.linalg.qr(normal(generator, n, n)).Q


# ---------------------------------------------------------------- 1a: the bound, and what follows from it


def bound_after(sigma, slope, steps=50):
    factor = sigma * slope  # the most that one step back does to a gradient's length
    verdict = "vanishes" if factor < 1 else "may explode"
    return factor**steps, verdict


def bounds(generator):
    """In turn: σ above 1 and the product below, all above 1, and σ below 1; 20 to 40 steps: no bound is tiny."""
    sigma, factor = in_turn(
        generator, ((1.02, 1.2), (0.93, 0.97)), ((1.25, 1.5), (1.05, 1.15)), ((0.96, 0.99), (0.92, 0.95))
    )
    sigma, factor = uniform(generator, *sigma), uniform(generator, *factor)
    return sigma, factor / sigma, whole(generator, 20, 40)


def verdict(factor):
    return "vanishes" if factor < 1 else "may explode"


BOUND_AFTER = Exercise(
    name="bound_after",
    points=2,
    reference=bound_after,
    inputs=bounds,  # to the default tolerance: a float32 tensor's power is right to 1e-6
    hints=(
        "What is the most that one step back can do to the length of a gradient? Which two numbers have a part in it?",
        "One step multiplies the length by at most sigma · slope, fifty steps by at most its fiftieth power. Below 1 "
        "that bound falls to 0 and takes the gradient along; above 1 it grows, and whether the gradient does is open.",
        "`factor = sigma * slope`; return `factor**steps` and `'vanishes' if factor < 1 else 'may explode'`.",
    ),
    why="‖∂h_T/∂h_t‖ ≤ (φ'_max · σ)^(T-t). A bound that goes to 0 forces the gradient to 0. A bound that grows forces "
    "nothing: it is reached only if every slope is the largest and every step stretches just the direction that the "
    "step before delivered. That is why the other verdict is 'may explode'.",
    mistakes=(
        Mistake(
            lambda s, p, k: (s**k, verdict(s)),
            "you left out the slope: each step multiplies the gradient by φ' too, at most slope, so the factor is "
            "sigma · slope",
        ),
        Mistake(
            lambda s, p, k: (s**k, verdict(s * p)),
            "the verdict is right, the magnitude lacks the slope: (sigma · slope)^steps",
            credit=0.5,
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** k, verdict(s)),
            "the magnitude is right; the verdict looks at sigma alone. What decides is sigma · slope, below 1 or above",
            credit=0.5,
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** k, "explodes" if s * p > 1 else "vanishes"),
            "'explodes' says more than the bound does: above 1 it only allows growth, the gradient may still vanish "
            "below it",
            credit=0.5,
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** k, "may explode"),
            "you say 'may explode' where sigma · slope is below 1: the bound then falls to 0 as the steps go on, "
            "however far it has come after `steps` of them, and takes the gradient along",
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** k, verdict(s * p).capitalize()),
            "the verdict is spelled 'vanishes' or 'may explode', in small letters",
            credit=0.5,
        ),
        Mistake(
            lambda s, p, k: (p * s**k, verdict(s * p)),
            "the slope counts at every step, not once: (sigma · slope)^steps",
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** (k - 1), verdict(s * p)),
            "off by one: `steps` steps back pass `steps` Jacobians, not one fewer",
        ),
        Mistake(
            lambda s, p, k: ((s * p) ** 50, verdict(s * p)),
            "your power is 50 whatever `steps` says: 50 is only its default",
        ),
        Mistake(
            lambda s, p, k: (k * math.log(s * p), verdict(s * p)),
            "this is the logarithm of the bound: take its exponential, or the power directly",
        ),
        Mistake(lambda s, p, k: (s * p) ** k, "the magnitude is right; return the verdict with it, as a pair", credit=0.5),
        Mistake(
            lambda s, p, k: (s * p * k, verdict(s * p)),
            "steps multiply, they don't add: (sigma · slope)^steps, a power, not a product with steps",
        ),
    ),
)

# ---------------------------------------------------------------- 1b: the gradient itself, of a linear network


def gradient_after(W_hh, v, steps=50):
    for _ in range(steps):
        v = W_hh.T @ v  # dL/dh_{t-1} = W_hhᵀ dL/dh_t
    return v.norm()


def matrices(generator):
    """A W_hh that is not normal, with a norm above 1 and a spectral radius about 1, a gradient, and 20 to 50 steps."""
    n = whole(generator, 3, 6)
    W = orthogonal(generator, n) + 0.5 * normal(generator, n, n) / math.sqrt(n)
    W = W / torch.linalg.eigvals(W).abs().max() * uniform(generator, 0.95, 1.05)
    return W, uniform(generator, 1.5, 3) * normal(generator, n), whole(generator, 20, 50)


def powered(W, v, k):
    return torch.linalg.matrix_power(W.T, k) @ v


GRADIENT_AFTER = Exercise(
    name="gradient_after",
    points=2,
    reference=gradient_after,
    inputs=matrices,
    tolerance=1e-6,
    hints=(
        "In a linear network φ' = 1, and every step back does the same to the gradient. What does one step do?",
        "dL/dh_{t-1} = W_hhᵀ dL/dh_t: multiply v by the transpose, `steps` times, and take the length of what is left.",
        "`for _ in range(steps): v = W_hh.T @ v`, then `v.norm()`. Or `torch.linalg.matrix_power(W_hh.T, steps) @ v`.",
    ),
    why="The forward pass multiplies by W_hh, the backward pass by its transpose. With W_hh = σQ, Q orthogonal, the "
    "result is σ^steps ‖v‖ and reaches the bound, whatever v is. With any other W_hh most gradients stay below it; by "
    "how much depends on W_hh and on the direction of v.",
    mistakes=(
        Mistake(
            lambda W, v, k: (torch.linalg.matrix_power(W, k) @ v).norm(),
            "this carries v forward, by W_hh: a gradient comes back by its transpose, W_hhᵀ",
        ),
        Mistake(
            lambda W, v, k: torch.linalg.matrix_norm(W, 2) ** k * v.norm(),
            "this is the bound, σ^steps times the length of v: multiply v by W_hhᵀ and measure what really comes out",
        ),
        Mistake(
            lambda W, v, k: torch.linalg.eigvals(W).abs().max() ** k * v.norm(),
            "this is the spectral radius to the power: it tells the growth a step in the end, not the length after "
            "`steps` steps",
        ),
        Mistake(
            lambda W, v, k: torch.linalg.matrix_norm(torch.linalg.matrix_power(W, k), 2),
            "this is the norm of W_hh^steps, the most that any v could have: it must depend on the direction of v",
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k).norm() / v.norm(),
            "you divided by the length of v: the magnitude itself is asked for, not the ratio",
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k - 1).norm(), "off by one: there are `steps` products, you made one fewer"
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k + 1).norm(), "off by one: there are `steps` products, you made one more"
        ),
        Mistake(
            lambda W, v, k: ((W.T**k) @ v).norm(),
            "`**` takes the power of every entry: a matrix power is torch.linalg.matrix_power, or products in a loop",
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k).square().sum(),
            "the square root is missing: this is the squared length",
            credit=0.5,
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k),
            "this is the gradient itself: return its length, one number",
            credit=0.5,
        ),
        Mistake(
            lambda W, v, k: powered(W, v, k).abs().sum(), "this is the sum of absolute values: the length is `norm()`"
        ),
        Mistake(
            lambda W, v, k: powered(W, v, 50).norm(), "you took 50 steps whatever `steps` says: 50 is only its default"
        ),
    ),
)

# ---------------------------------------------------------------- 4a: is it a highway?


def is_highway(W):
    identity = torch.eye(len(W), dtype=W.dtype)
    return bool(((W.T @ W - identity).abs() < 1e-6).all())


def candidates(generator):
    """In turn: a rotation, a reflection, what resembles them in one respect each, what is off by 0.02 % and by 4e-7."""
    n = 2 * whole(generator, 2, 3)
    Q = orthogonal(generator, n)
    rotation = Q * torch.where(torch.arange(n) == 0, torch.linalg.det(Q).sign(), 1.0)
    triangle = torch.eye(n, dtype=torch.float64) + normal(generator, n, n).triu(1)  # all eigenvalues 1, determinant 1
    involution = triangle @ diagonal(*[1.0, -1.0] * (n // 2)) @ torch.linalg.inv(triangle)
    columns, row = normal(generator, n, n), normal(generator, n)
    lossy = Q @ diagonal(1.0, *[0.5] * (n - 1)) @ Q.T
    nudge = torch.eye(n, dtype=torch.float64)
    nudge[0, 1] = nudge[1, 0] = 2.2e-7  # makes 4.4e-7 of two zeros in WᵀW, and singular values of 1 ± 2.2e-7
    make = in_any_order(
        generator,
        lambda: rotation,  # of determinant 1
        lambda: rotation @ diagonal(-1.0, *[1.0] * (n - 1)),  # of determinant -1
        lambda: triangle,
        lambda: involution,  # its own inverse, of determinant ±1
        lambda: columns / columns.norm(dim=0),
        lambda: columns / columns.norm(dim=1, keepdim=True),
        lambda: torch.stack([row.roll(i) for i in range(n)]) / row.norm(),  # columns and rows of length 1
        lambda: 1.0002 * Q,
        lambda: 0.9 * Q,
        lambda: (lossy + lossy.T) / 2,  # symmetric; norm and radius 1, and all directions but one are lost
        lambda: Q @ diagonal(2.0, 0.5, *[1.0] * (n - 2)),  # determinant ±1, columns at right angles
        lambda: rotation @ nudge,  # within the tolerance
    )
    return (make(),)


def close(a, b, tolerance=1e-6):
    return bool((torch.as_tensor(a) - b).abs().max() < tolerance)


IS_HIGHWAY = Exercise(
    name="is_highway",
    points=2,
    reference=is_highway,
    inputs=candidates,
    trials=12,
    tolerance=0.0,
    hints=(
        "A highway keeps the length of every gradient, whatever its direction. Which property of W_hh says just that?",
        "‖Wᵀv‖ = ‖v‖ for every v is the same as WᵀW = I, and the same as: all singular values are 1. Numbers are "
        "rounded: allow differences up to 1e-6.",
        "`torch.allclose(W.T @ W, torch.eye(len(W), dtype=W.dtype), atol=1e-6)`, or `torch.linalg.svdvals(W)` all "
        "near 1.",
    ),
    why="‖Wᵀv‖² = vᵀWWᵀv, which is ‖v‖² for every v only if WWᵀ = I (for a square matrix the same as WᵀW = I). "
    "Determinants and eigenvalues say less: a shear has determinant 1 and only the eigenvalue 1, and stretches some "
    "directions at the cost of others.",
    mistakes=(
        Mistake(
            lambda W: close(torch.linalg.det(W).abs(), 1.0),
            "you looked at the determinant: it is ±1 for a shear too, which stretches one direction and squeezes "
            "another",
        ),
        Mistake(
            lambda W: close(torch.linalg.eigvals(W).abs(), 1.0),
            "you looked at the eigenvalues: all of modulus 1 is not enough, since W need not be normal. Singular "
            "values tell",
        ),
        Mistake(
            lambda W: close(torch.linalg.eigvals(W).abs().max(), 1.0),
            "you looked at the spectral radius: that is the growth in the long run, not what one step does to every "
            "direction",
        ),
        Mistake(
            lambda W: close(torch.linalg.matrix_norm(W, 2), 1.0),
            "σ = 1 says that nothing grows: a highway must not lose anything either, so look at all singular values",
        ),
        Mistake(
            lambda W: close(W.norm(dim=0), 1.0),
            "columns of length 1 are not enough: they must also stand at right angles to each other, WᵀW = I",
        ),
        Mistake(
            lambda W: close(W.norm(dim=1), 1.0),
            "rows of length 1 are not enough: they must also stand at right angles to each other, WWᵀ = I",
        ),
        Mistake(
            lambda W: close(W.norm(dim=0), 1.0) and close(W.norm(dim=1), 1.0),
            "columns and rows of length 1 are not enough: they must also stand at right angles to each other, WᵀW = I",
        ),
        Mistake(
            lambda W: close(W.T @ W, torch.diag(W.square().sum(dim=0))),
            "columns at right angles are not enough: each must also have length 1, WᵀW = I",
        ),
        Mistake(
            lambda W: close(torch.linalg.cond(W), 1.0),
            "a condition number of 1 says that all directions fare alike: they could all lose a tenth at every step",
        ),
        Mistake(
            lambda W: close(W.square().sum(), len(W)),
            "the squared entries add up to n where the squared singular values do so: that is their mean, and each "
            "must be 1",
        ),
        Mistake(
            lambda W: close(W.T @ W, torch.eye(len(W), dtype=W.dtype)) and bool(torch.linalg.det(W) > 0),
            "you leave out the reflections: with determinant -1, WᵀW = I keeps every length as well",
        ),
        Mistake(
            lambda W: close(W @ W, torch.eye(len(W), dtype=W.dtype)),
            "W @ W = I says that W is its own inverse: the transpose must be the inverse, W.T @ W = I",
        ),
        Mistake(
            lambda W: close(W, W.T),
            "W = Wᵀ says that W is symmetric: the transpose must be the inverse, W.T @ W = I",
        ),
        Mistake(
            lambda W: close(W.T @ W, torch.eye(len(W), dtype=W.dtype), 1e-8),
            "your tolerance is too narrow: a difference of up to 1e-6 is none (by itself, torch.allclose allows 1e-8 "
            "where 0 is expected: give it atol=1e-6)",
        ),
        Mistake(
            lambda W: close(W.T @ W, torch.eye(len(W), dtype=W.dtype), 0.01),
            "your tolerance is too wide: a factor of 1.0002 a step is e after 5,000 steps. Allow 1e-6",
        ),
        Mistake(
            lambda W: bool((W.T @ W == torch.eye(len(W), dtype=W.dtype)).all()),
            "you asked for exact equality: rounding leaves 1e-16 in the zeros. Allow differences up to 1e-6",
        ),
        Mistake(lambda W: True, "you call every matrix a highway, one that halves lengths too"),
        Mistake(
            lambda W: not close(W.T @ W, torch.eye(len(W), dtype=W.dtype)),
            "the right test, the wrong way round: return True where W is a highway",
        ),
    ),
)

# ---------------------------------------------------------------- 4b: how far from one


def stretch(W, steps):
    singular_values = torch.linalg.svdvals(torch.linalg.matrix_power(W, steps))
    return singular_values.min(), singular_values.max()


def nearly_orthogonal(generator):
    n, noise = whole(generator, 3, 6), uniform(generator, 0.1, 0.2)
    return orthogonal(generator, n) + noise * normal(generator, n, n) / math.sqrt(n), whole(generator, 4, 9)


def extremes(values):
    return values.min(), values.max()


STRETCH = Exercise(
    name="stretch",
    points=1,
    reference=stretch,
    inputs=nearly_orthogonal,
    tolerance=1e-8,
    hints=(
        "What carries a gradient `steps` steps back through a linear network, as one matrix? And which numbers of a "
        "matrix say by how much it shortens and lengthens vectors?",
        "That matrix is (Wᵀ)^steps. Its smallest singular value is the least that any direction keeps, its largest "
        "the most.",
        "`s = torch.linalg.svdvals(torch.linalg.matrix_power(W, steps))`; return `s.min(), s.max()`. (A matrix and "
        "its transpose have the same singular values.)",
    ),
    why="The image of all vectors of length 1 under a matrix is an ellipsoid, and its half-axes are the singular "
    "values. For an orthogonal W both numbers are 1, after any number of steps: that is the highway. The singular "
    "values of a power are not the powers of the singular values unless W is normal.",
    mistakes=(
        Mistake(
            lambda W, k: extremes(torch.linalg.svdvals(W) ** k),
            "you took powers of the singular values: the steps turn directions too, so take the singular values of "
            "the power",
        ),
        Mistake(
            lambda W, k: extremes(torch.linalg.eigvals(W).abs() ** k),
            "these are moduli of eigenvalues: how much a matrix shortens and lengthens is told by its singular values",
        ),
        Mistake(lambda W, k: extremes(torch.linalg.svdvals(W)), "this is one step: take the power of W first"),
        Mistake(
            lambda W, k: extremes(torch.linalg.svdvals(W**k)),
            "`**` takes the power of every entry: use torch.linalg.matrix_power, or a product in a loop",
        ),
        Mistake(lambda W, k: stretch(W, k)[::-1], "both numbers are right, in the wrong order: the smallest first"),
        Mistake(lambda W, k: stretch(W, k)[1], "this is the largest alone: return the smallest and the largest"),
        Mistake(
            lambda W, k: extremes(torch.linalg.matrix_power(W, k).abs()),
            "these are entries of the matrix: by how much it stretches vectors is told by its singular values",
        ),
        Mistake(
            lambda W, k: extremes(torch.linalg.svdvals(torch.linalg.matrix_power(W, k)).square()),
            "the square roots are missing: the eigenvalues of PᵀP are the squares of P's singular values",
        ),
        Mistake(lambda W, k: stretch(W, k - 1), "off by one: there are `steps` factors, you took one fewer"),
    ),
)

EXERCISES = (BOUND_AFTER, GRADIENT_AFTER, IS_HIGHWAY, STRETCH)
