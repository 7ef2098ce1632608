"""The "Your turn" exercises of notebook 04: the Jacobian of a step, the bound, a product that keeps its range, Lyapunov exponents."""

import math

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import normal, uniform, whole

# ---------------------------------------------------------------- the Jacobian of one step


def step_jacobian(h_t, W_hh):
    slope = 1 - h_t**2  # tanh'(a_t), from h_t = tanh(a_t)
    return slope.unsqueeze(1) * W_hh  # row i times slope i: diag(slope) W_hh


def _step_inputs(generator):
    n = whole(generator, 3, 6)
    return torch.tanh(normal(generator, n)), normal(generator, n, n)


STEP_JACOBIAN = Exercise(
    name="step_jacobian",
    reference=step_jacobian,
    inputs=_step_inputs,
    tolerance=1e-8,
    hints=(
        "Entry (i, j) is ∂h_t[i]/∂h_{t-1}[j]. Write h_t[i] = tanh(a_t[i]) with a_t[i] = ... + Σ_j W_hh[i, j] h_{t-1}[j], and "
        "use the chain rule.",
        "∂h_t[i]/∂h_{t-1}[j] = (1 - h_t[i]²) W_hh[i, j]: the slope of unit i multiplies row i of W_hh.",
        "`torch.diag(1 - h_t**2) @ W_hh`, or the same without building the diagonal matrix: `(1 - h_t**2).unsqueeze(1) * W_hh`.",
    ),
    why="The slope belongs to the unit that receives, so it multiplies rows: J_t = diag(1 - h_t²) W_hh. No a_t is needed: h_t tells "
    "the slope of its own tanh.",
    mistakes=(
        Mistake(
            lambda h, W: W,
            "this is ∂a_t/∂h_{t-1}: you forgot tanh', the slope 1 - h_t² of the unit that receives",
        ),
        Mistake(
            lambda h, W: W * (1 - h**2),
            "the diagonal is on the wrong side: W_hh * v scales columns, W_hh diag(v); the slope of unit i multiplies row i",
        ),
        Mistake(lambda h, W: (1 - h).unsqueeze(1) * W, "tanh' is 1 - h_t², with the square: you used 1 - h_t"),
        Mistake(lambda h, W: h.unsqueeze(1) * W, "you scaled by h_t itself: the slope of tanh is 1 - h_t²"),
        Mistake(lambda h, W: (h**2).unsqueeze(1) * W, "you scaled by h_t²: the slope of tanh is 1 - h_t²"),
        Mistake(
            lambda h, W: ((1 - h**2).unsqueeze(1) * W).T,
            "this is the transpose, J_tᵀ, which carries a gradient (a column) back; entry (i, j) of J_t is ∂h_t[i]/∂h_{t-1}[j]",
        ),
        Mistake(
            lambda h, W: (1 - h**2).unsqueeze(1) * W.T,
            "W_hh is transposed: h_t[i] gets W_hh[i, j] h_{t-1}[j], so row i of the Jacobian is row i of W_hh",
        ),
        Mistake(
            lambda h, W: (1 - torch.tanh(h) ** 2).unsqueeze(1) * W,
            "h_t is tanh(a_t) already: the slope is 1 - h_t², you took tanh a second time",
        ),
        Mistake(
            lambda h, W: torch.diag(1 - h**2) * W,
            "diag(...) * W_hh multiplies entry by entry and keeps only the diagonal: you want the matrix product, @",
        ),
        Mistake(
            lambda h, W: (1 - h**2) @ W,
            "this sums over the units: 1 - h_t² as a row times W_hh is a vector; a Jacobian is a matrix, diag(1 - h_t²) W_hh",
        ),
        Mistake(
            lambda h, W: W @ (1 - h**2),
            "this sums over the units: W_hh times 1 - h_t² as a column is a vector; a Jacobian is a matrix, diag(1 - h_t²) W_hh",
        ),
        Mistake(
            lambda h, W: torch.diag(1 - h**2),
            "this is ∂h_t/∂a_t, the slopes alone: from h_{t-1} to a_t leads W_hh, and the chain rule multiplies the two",
        ),
        Mistake(
            lambda h, W: 1 - h**2,
            "these are the slopes alone, a vector: the Jacobian is a matrix, row i of W_hh times the slope of unit i",
        ),
    ),
)

# ---------------------------------------------------------------- the bound


def gradient_magnitude(sigma, slope, steps):
    return (slope * sigma) ** steps


def _bound_inputs(generator):
    return uniform(generator, 0.9, 1.5), uniform(generator, 0.8, 0.98), whole(generator, 5, 20)


GRADIENT_MAGNITUDE = Exercise(
    name="gradient_magnitude",
    reference=gradient_magnitude,
    inputs=_bound_inputs,  # the tolerance lets float32 pass
    hints=(
        "What does one step back do at most to the length of a gradient? Then think of a loan: what do many steps of it do?",
        "One step multiplies the length by at most slope · sigma, the largest φ' times the largest singular value; steps multiply.",
        "`(slope * sigma) ** steps`",
    ),
    why="‖J_T ... J_{t+1}‖ ≤ ‖J_T‖ ... ‖J_{t+1}‖, and each factor is at most slope · σ. It is a bound, reached only where every slope is the "
    "largest and every step stretches the very direction that the one before gave: it says how far a gradient can grow, not how far it does.",
    mistakes=(
        Mistake(lambda s, p, k: s**k, "you forgot the slope of φ: every step multiplies by slope as well as by sigma"),
        Mistake(lambda s, p, k: p**k, "you forgot sigma: every step multiplies by sigma as well as by slope"),
        Mistake(lambda s, p, k: p * s**k, "the slope counts at every step, not once: (slope · sigma)^steps"),
        Mistake(lambda s, p, k: s * p**k, "sigma counts at every step, not once: (slope · sigma)^steps"),
        Mistake(lambda s, p, k: p * s * k, "steps multiply, they don't add: a power, (slope · sigma)^steps, not a product with steps"),
        Mistake(lambda s, p, k: (p * s) ** (k - 1), "off by one: going back k steps passes k Jacobians, not k - 1"),
        Mistake(lambda s, p, k: (p * s) ** (k + 1), "off by one: going back k steps passes k Jacobians, not k + 1"),
        Mistake(lambda s, p, k: (p + s) ** k, "slope and sigma multiply within a step: (slope · sigma)^steps"),
        Mistake(
            lambda s, p, k: k * math.log(p * s),
            "this is the logarithm of the bound: take exp of it, or the power directly",
        ),
    ),
)

# ---------------------------------------------------------------- a long product


def log_product_norm(J):
    P, log_scale = torch.eye(J.shape[-1], dtype=J.dtype), 0.0
    for J_t in J:  # J[0] = J_1 acts first: it stands on the right
        P = J_t @ P
        norm = torch.linalg.matrix_norm(P, 2)
        P, log_scale = P / norm, log_scale + torch.log(norm)
    return log_scale


def _product_inputs(generator):
    n, gain = whole(generator, 3, 5), uniform(generator, 1e-4, 1e-3)
    J = torch.eye(n, dtype=torch.float64) + 0.1 * normal(generator, 120, n, n)
    return (gain * J,)  # 120 factors of 1e-3 are 1e-360, below the range of float64 too


def _multiplied(J):
    P = torch.eye(J.shape[-1], dtype=J.dtype)
    for J_t in J:
        P = J_t @ P
    return P


def _rescaled(J, norm=None, log=torch.log, times=torch.matmul):
    """``log_product_norm`` with another norm, another logarithm, or another product."""
    norm = norm or (lambda P: torch.linalg.matrix_norm(P, 2))
    P, total = torch.eye(J.shape[-1], dtype=J.dtype), 0.0
    for J_t in J:
        P = times(J_t, P)
        scale = norm(P)
        P, total = P / scale, total + log(scale)
    return total


def _log_radius(P):
    return torch.linalg.eigvals(P).abs().max().log()


LOG_PRODUCT_NORM = Exercise(
    name="log_product_norm",
    reference=log_product_norm,
    inputs=_product_inputs,
    tolerance=1e-6,
    hints=(
        "The product leaves the range of floating point, its logarithm doesn't. After every factor, take out what can be taken out: "
        "the norm.",
        "Keep P (a matrix of norm 1) and s (a number) such that the product so far is e^s P. A factor: P ← J_t P, n = ‖P‖, P ← P / n, "
        "s ← s + log n.",
        "In the loop: `P = J_t @ P; norm = torch.linalg.matrix_norm(P, 2); P = P / norm; log_scale = log_scale + norm.log()`. "
        "At the end ‖P‖ = 1, so the answer is log_scale.",
    ),
    why="e^s P is the product, exactly, whatever it was divided by on the way. P stays at norm 1, and s grows only as fast as the number of "
    "factors. `rnncourse.gradients.jacobian_products` does this for every lag.",
    mistakes=(
        Mistake(
            lambda J: torch.linalg.matrix_norm(_multiplied(J), 2).log(),
            "the product itself left the range of floating point and reads 0, its logarithm -inf: divide by the norm after every factor, "
            "and add up the logarithms",
        ),
        Mistake(
            lambda J: torch.linalg.matrix_norm(J, 2).log().sum(),
            "you summed the logarithms of the factors' norms: that is the bound, ‖J_T‖ ... ‖J_1‖, not the norm of the product",
        ),
        Mistake(
            lambda J: _rescaled(J, times=lambda J_t, P: P @ J_t),
            "the order is reversed: the product is J_T ... J_1, the last step stands on the left: P = J_t @ P",
        ),
        Mistake(
            lambda J: _rescaled(J, norm=torch.linalg.matrix_norm),
            "your norm is Frobenius', the default of norm and of matrix_norm: the spectral norm is torch.linalg.matrix_norm(P, 2)",
        ),
        Mistake(
            lambda J: _rescaled(J, norm=lambda P: P.abs().max()),
            "you divide by the largest entry, which is fine, but then P ends with a norm other than 1: add log ‖P‖ at the end",
        ),
        Mistake(
            lambda J: _rescaled(J[:-1]),
            "the norm of the last P is missing: add its logarithm at the end",
        ),
        Mistake(
            lambda J: _rescaled(J, times=torch.mul),
            "J_t * P multiplies entry by entry: the product of matrices is J_t @ P",
        ),
        Mistake(
            lambda J: 0.0,
            "0 is no logarithm of this product: it is the product itself, which lies below the range, or the logarithm of ‖P‖ after "
            "its division by the norm; add up the logarithms of the norms that you divide by",
        ),
        Mistake(
            lambda J: _rescaled(J, log=lambda norm: norm),
            "you added up the norms themselves: the product is the product of them, so add up their logarithms",
        ),
        Mistake(lambda J: _rescaled(J, log=torch.log10), "your logarithm is to base 10: the natural one is asked for"),
        Mistake(lambda J: _rescaled(J) / len(J), "you divided by T: that is the growth a step; the whole logarithm is asked for"),
        Mistake(
            lambda J: _log_radius(_multiplied(J / J.abs().max())) + len(J) * J.abs().max().log(),
            "you took the largest eigenvalue of the product: the norm is its largest singular value",
        ),
    ),
)

# ---------------------------------------------------------------- Lyapunov exponents


def lyapunov_from_growth(R_diagonals):
    return R_diagonals.abs().log().mean(dim=0)


def _growth_inputs(generator):
    T, n = whole(generator, 15, 30), whole(generator, 3, 6)
    size = (normal(generator, T, n) - torch.arange(n)).exp()
    signs = normal(generator, T, n).sign()
    signs[:, 0] = 1.0  # so that a logarithm without its absolute value is NaN in the other directions alone
    return (size * signs,)


LYAPUNOV_FROM_GROWTH = Exercise(
    name="lyapunov_from_growth",
    reference=lyapunov_from_growth,
    inputs=_growth_inputs,
    tolerance=1e-8,
    hints=(
        "|R_ii| of one step is the factor by which direction i was stretched in that step. Factors multiply over the steps; an exponent "
        "is the mean growth a step.",
        "λ_i = (1/T) Σ_t log |R_ii(t)|. Signs don't matter: they turn a direction round, they don't stretch it.",
        "`R_diagonals.abs().log().mean(dim=0)`",
    ),
    why="Stretching factors multiply, so their logarithms add, and the exponent is the mean of the logarithms. It is the logarithm of the "
    "geometric mean: the arithmetic mean would let a few large steps outvote all others.",
    mistakes=(
        Mistake(
            lambda R: R.abs().mean(0).log(),
            "this is the logarithm of the mean: the mean of the logarithms is asked for, since factors multiply",
        ),
        Mistake(
            lambda R: R.log().mean(0),
            "an R_ii can be negative, and its logarithm is NaN: take its absolute value first, a sign only turns a direction round",
        ),
        Mistake(lambda R: R.abs().log().sum(0), "you added up and did not divide by T: an exponent is growth a step"),
        Mistake(
            lambda R: R.abs().log().mean(1),
            "you averaged over the directions: average over time, dim=0, and keep one exponent a direction",
        ),
        Mistake(lambda R: R.abs().log().mean(), "you averaged over everything: one exponent for each of the n directions is asked for"),
        Mistake(lambda R: R.abs().log10().mean(0), "your logarithm is to base 10: the natural one is asked for"),
        Mistake(lambda R: R.abs().log2().mean(0), "your logarithm is to base 2: the natural one is asked for"),
        Mistake(
            lambda R: R.abs().log().mean(0).exp(),
            "this is the factor a step, e^λ: the exponent λ is its logarithm",
        ),
        Mistake(lambda R: R.abs().mean(0), "you averaged the factors: an exponent is the mean of their logarithms"),
    ),
)

EXERCISES = (STEP_JACOBIAN, GRADIENT_MAGNITUDE, LOG_PRODUCT_NORM, LYAPUNOV_FROM_GROWTH)
