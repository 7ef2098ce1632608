"""The "Your turn" exercises of notebook 06: an orthogonal matrix, the gain for tanh's toll, the Cayley map, a gate's half-life."""

import math

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import in_turn, uniform

# ---------------------------------------------------------------- an orthogonal matrix from any matrix


def orthogonal_matrix(A):
    Q, R = torch.linalg.qr(A)
    return Q * R.diagonal().sign()


def random_square(generator):
    """A Gaussian matrix of 4 to 7 rows, in float64."""
    n = int(torch.randint(4, 8, (), generator=generator))
    return [torch.randn(n, n, generator=generator, dtype=torch.float64)]


def polar_factor(A):
    U, _, V_T = torch.linalg.svd(A)
    return U @ V_T


def signs_on_the_rows(A):
    Q, R = torch.linalg.qr(A)
    return R.diagonal().sign().unsqueeze(1) * Q


def signs_of_Q(A):
    Q = torch.linalg.qr(A).Q
    return Q * Q.diagonal().sign()


def times_R(A):
    Q, R = torch.linalg.qr(A)
    return Q * R.diagonal()


def Q_and_R(A):
    Q, R = torch.linalg.qr(A)
    signs = R.diagonal().sign()
    return Q * signs, signs.unsqueeze(1) * R


ORTHOGONAL = Exercise(
    name="orthogonal_matrix",
    reference=orthogonal_matrix,
    inputs=random_square,
    hints=(
        "The QR decomposition writes A as Q R with Q orthogonal and R upper triangular. PyTorch has it: `torch.linalg.qr`.",
        "Q R = (Q D)(D R) for any diagonal D of signs. Choose D so that D R has a positive diagonal: D = sign of R's diagonal.",
        "`Q * R.diagonal().sign()` multiplies column j of Q by the sign of R_jj.",
    ),
    why="With the signs of R's diagonal moved into Q, the decomposition is unique, and a Gaussian A gives a Q that is uniform "
    "over all orthogonal matrices (Mezzadri 2007).",
    mistakes=(
        Mistake(
            lambda A: torch.linalg.qr(A).Q,
            "orthogonal, but the signs are left to the library: multiply column j of Q by the sign of R_jj",
        ),
        Mistake(lambda A: torch.linalg.qr(A).R, "this is R, the triangular factor: return Q"),
        Mistake(lambda A: Q_and_R(A)[1], "this is R, its diagonal made positive: return the Q that goes with it"),
        Mistake(Q_and_R, "you returned Q and R: return Q alone"),
        Mistake(
            lambda A: tuple(torch.linalg.qr(A)),
            "you returned Q and R as they come from the library: give Q its signs, and return it alone",
        ),
        Mistake(
            times_R,
            "the columns are at right angles, but not of length 1: multiply by the signs of R's diagonal, not by the diagonal",
        ),
        Mistake(
            lambda A: -torch.linalg.qr(A).Q,
            "you changed the sign of every column; column j needs a change only where R_jj is negative",
        ),
        Mistake(
            lambda A: orthogonal_matrix(A).mT,
            "this is the transpose of the answer: orthogonal too, but A = Q R, not Qᵀ R",
        ),
        Mistake(
            signs_on_the_rows,
            "the signs multiply the rows of Q; they belong to its columns, since Q R = (Q D)(D R)",
        ),
        Mistake(signs_of_Q, "you took the signs of Q's diagonal; it is R's diagonal that must become positive"),
        Mistake(
            lambda A: A / A.norm(dim=0),
            "every column has length 1 now, but the columns are not at right angles: QᵀQ has to be I, not only on its diagonal",
        ),
        Mistake(
            lambda A: A / A.norm(dim=1, keepdim=True),
            "every row has length 1 now, but the rows are not at right angles: dividing lengths out does not make them so",
        ),
        Mistake(
            lambda A: A / torch.linalg.matrix_norm(A, 2),
            "you divided by the spectral norm: that makes the largest singular value 1, and all of them have to be",
        ),
        Mistake(
            lambda A: torch.linalg.svd(A).U,
            "this is the U of A's singular value decomposition: orthogonal too, but asked is the Q of QR",
        ),
        Mistake(
            polar_factor,
            "this is the orthogonal matrix nearest to A (U Vᵀ of its singular value decomposition); asked is the Q of QR",
        ),
    ),
)

# ---------------------------------------------------------------- the gain that pays tanh's toll


def highway_gain(h):
    slope = 1 - h**2
    toll = slope.square().mean().sqrt()
    return 1 / toll


def tanh_states(generator):
    """States of a tanh network, (batch, T, hidden), from nearly linear to well saturated."""
    scale = 0.3 + 1.2 * torch.rand((), generator=generator, dtype=torch.float64)
    return [torch.tanh(scale * torch.randn(4, 6, 8, generator=generator, dtype=torch.float64))]


HIGHWAY_GAIN = Exercise(
    name="highway_gain",
    reference=highway_gain,
    inputs=tanh_states,
    hints=(
        "First the slopes tanh'(a_t) of every unit at every step, from the states themselves; then one number for all of them.",
        "tanh' = 1 - h². The toll is its root mean square: square, mean over everything, root. Gain times toll should be 1.",
        "`1 / (1 - h**2).square().mean().sqrt()`",
    ),
    why="A step multiplies the gradient by gain · Qᵀ and by the slopes. Q turns it anywhere, so on average over directions its "
    "squared length is multiplied by gain² times the mean squared slope.",
    mistakes=(
        Mistake(
            lambda h: (1 - h**2).square().mean().sqrt(), "this is the toll itself; the gain that pays it is 1 / toll"
        ),
        Mistake(
            lambda h: 1 / (1 - h**2).mean(),
            "you took the mean of the slopes; lengths add in squares, so it is their root mean square",
        ),
        Mistake(lambda h: 1 / (1 - h**2).square().mean(), "the square root is missing: root mean square"),
        Mistake(
            lambda h: 1 / (1 - h**2).mean().sqrt(),
            "there is a root, but the slopes were not squared before the mean: root of the mean of (1 - h²)²",
        ),
        Mistake(lambda h: 1 / (1 - h).square().mean().sqrt(), "the slope of tanh is 1 - h², not 1 - h"),
        Mistake(
            lambda h: 1 / (1 - torch.tanh(h) ** 2).square().mean().sqrt(),
            "h is tanh(a) already: the slope is 1 - h², with no second tanh",
        ),
        Mistake(lambda h: 1 / h.square().mean().sqrt(), "this is about the size of the states, not the slopes 1 - h²"),
        Mistake(
            lambda h: (1 - h**2).mean(),
            "this is the mean slope; the toll is the root mean square of the slopes, and the gain 1 / toll",
        ),
        Mistake(
            lambda h: (1 - h**2).square().mean(),
            "this is the mean square of the slopes: take its root, which is the toll, and then 1 / toll",
        ),
        Mistake(
            lambda h: (1 / (1 - h**2)).mean(),
            "you inverted each slope and then took the mean: first one number for all slopes, then its inverse",
        ),
        Mistake(
            lambda h: 1 / (1 - h**2).norm(),
            "you took the root of the sum of the squares; a root mean square has the mean under the root",
        ),
        Mistake(
            lambda h: 1 / (1 - h**2).square().mean(dim=(0, 1)).sqrt(),
            "one gain for each unit; asked is one number, with the mean over batch, time and units",
        ),
        Mistake(
            lambda h: 1 / (1 - h**2).max(),
            "you took the largest slope: that is the bound of notebook 04, not what a gradient meets on average",
        ),
    ),
)

# ---------------------------------------------------------------- the Cayley map


def cayley(V):
    identity = torch.eye(len(V), dtype=V.dtype)
    A = (V - V.mT) / 2
    return torch.linalg.solve(identity + A, identity - A)


def skew(V):
    return (V - V.mT) / 2


def cayley_of(A):
    return torch.linalg.solve(one_plus(A), one_plus(-A))


def one_plus(A):
    return torch.eye(len(A), dtype=A.dtype) + A


CAYLEY = Exercise(
    name="cayley",
    reference=cayley,
    inputs=random_square,
    hints=(
        "Two steps: make V skew-symmetric (A = -Aᵀ), then put A into (I + A)⁻¹(I - A).",
        "A = (V - Vᵀ)/2. For the inverse, solve a linear system: `torch.linalg.solve(M, N)` is M⁻¹ N.",
        "`torch.linalg.solve(identity + A, identity - A)` with `identity = torch.eye(len(V), dtype=V.dtype)`",
    ),
    why="Aᵀ = -A makes Wᵀ = (I + A)(I - A)⁻¹, the inverse of W (the two factors commute). I + A always has an inverse, since "
    "the eigenvalues of a skew A are imaginary.",
    mistakes=(
        Mistake(
            lambda V: cayley_of(V),
            "you put V itself in: it has to be made skew-symmetric first, A = (V - Vᵀ)/2",
        ),
        Mistake(lambda V: cayley_of(V - V.mT), "A is twice too large: A = (V - Vᵀ)/2"),
        Mistake(
            lambda V: cayley_of((V + V.mT) / 2),
            "(V + Vᵀ)/2 is the symmetric part; the skew-symmetric one is (V - Vᵀ)/2",
        ),
        Mistake(
            lambda V: cayley_of(-skew(V)),
            "this is the transpose of the answer: either A is (Vᵀ - V)/2 in place of (V - Vᵀ)/2, or the inverse is that of I - A "
            "in place of I + A",
        ),
        Mistake(lambda V: torch.linalg.inv(one_plus(skew(V))), "the factor I - A is missing"),
        Mistake(lambda V: one_plus(-skew(V)), "the factor (I + A)⁻¹ is missing"),
        Mistake(
            lambda V: torch.linalg.solve(1 + skew(V), 1 - skew(V)),
            "`1 + A` adds 1 to every entry of A; I has ones on its diagonal only: torch.eye(len(V))",
        ),
        Mistake(
            lambda V: torch.linalg.inv(one_plus(skew(V))) * one_plus(-skew(V)),
            "`*` multiplies entry by entry; the product of two matrices is `@`",
        ),
        Mistake(
            lambda V: cayley_of(V - V.mT / 2),
            "the half belongs to both: (V - Vᵀ)/2, not V - Vᵀ/2, which is not skew-symmetric",
        ),
        Mistake(
            lambda V: one_plus(skew(V)) @ one_plus(-skew(V)),
            "you multiplied by I + A where its inverse is asked: (I + A)⁻¹(I - A)",
        ),
        Mistake(
            lambda V: one_plus(-skew(V)) / one_plus(skew(V)),
            "you divided entry by entry; (I + A)⁻¹ is the inverse of a matrix: torch.linalg.solve(I + A, I - A)",
        ),
        Mistake(skew, "this is A, skew-symmetric but not orthogonal: put it into (I + A)⁻¹(I - A)"),
        Mistake(
            lambda V: torch.linalg.matrix_exp(skew(V)),
            "this is the exponential of A: it gives orthogonal matrices too, but others than Cayley's",
        ),
    ),
)

# ---------------------------------------------------------------- the half-life behind a forget gate


def leak_half_life(b):
    leak = 1 / (1 + math.exp(-b))
    return math.log(2) / -math.log(leak)


def one_bias(generator):
    """A forget-gate bias between 0.5 and 6; its half-life would in turn be rounded down and up."""
    low = in_turn(generator, 0.1, 0.6)
    while True:
        b = uniform(generator, 0.5, 6)
        if low < leak_half_life(b) % 1 < low + 0.3:
            return [b]


def sigmoid(b):
    return 1 / (1 + math.exp(-b))


HALF_LIFE = Exercise(
    name="leak_half_life",
    reference=leak_half_life,
    inputs=one_bias,
    tolerance=1e-4,  # ln σ(b) in float32 is off by some 2e-5 where σ(b) is near 1
    hints=(
        "After n steps the gradient is σ(b) to the power n. Ask for which n that is a half.",
        "σ(b)ⁿ = 1/2 means n ln σ(b) = -ln 2. And σ(b) = 1 / (1 + exp(-b)).",
        "`math.log(2) / -math.log(1 / (1 + math.exp(-b)))`",
    ),
    why="From σ(b)ⁿ = 1/2 follows n = ln 2 / -ln σ(b), for large b about ln 2 · exp(b): every unit of bias buys e times the "
    "steps.",
    mistakes=(
        Mistake(
            lambda b: -math.log(sigmoid(b)) / math.log(2),
            "upside down: this is how many halvings a step makes, asked is how many steps a halving takes",
        ),
        Mistake(
            lambda b: 1 / -math.log(sigmoid(b)),
            "this is the time to fall to 1/e, not to 1/2: a factor ln 2 is missing",
        ),
        Mistake(
            lambda b: 1 / (1 - sigmoid(b)),
            "this is the leak's time constant, in which it falls to about 1/e: solve σ(b)ⁿ = 1/2 for n",
        ),
        Mistake(
            lambda b: 0.5 / (1 - sigmoid(b)),
            "a leak multiplies: after n steps σ(b)ⁿ is left, not 1 - n (1 - σ(b))",
        ),
        Mistake(
            lambda b: math.log(2) / math.log(sigmoid(b)),
            "a negative number of steps: ln σ(b) is negative, so is ln(1/2), and their ratio is positive",
        ),
        Mistake(
            lambda b: math.log(2) / -math.log(1 - sigmoid(b)),
            "1 - σ(b) is what is forgotten in a step; what is kept is σ(b)",
        ),
        Mistake(
            lambda b: math.log(2) / -math.log(math.tanh(b)),
            "a gate is a sigmoid, 1 / (1 + exp(-b)), not a tanh",
        ),
        Mistake(lambda b: math.log(2) / b, "the leak is σ(b), not exp(-b): the bias goes through the sigmoid first"),
        Mistake(sigmoid, "this is σ(b), the leak itself; asked is after how many steps its power is a half"),
        Mistake(
            lambda b: math.log(2) * math.exp(b),
            "ln 2 · exp(b) comes near it for large b only: solve σ(b)ⁿ = 1/2 exactly",
        ),
        Mistake(
            lambda b: 2 * leak_half_life(b),
            "after that many steps a quarter is left, not a half",
        ),
        Mistake(
            lambda b: math.log(2) / -math.log10(sigmoid(b)),
            "you mixed logarithms of two bases; with the same base above and below, either is right",
        ),
        Mistake(
            lambda b: math.log10(2) / -math.log(sigmoid(b)),
            "you mixed two bases of the logarithm: with the same base above and below, either is right",
        ),
        Mistake(
            lambda b: math.ceil(leak_half_life(b)),
            "rounded up: return the number as it comes, with its fraction",
        ),
        Mistake(
            lambda b: math.floor(leak_half_life(b)),
            "rounded down: return the number as it comes, with its fraction",
        ),
        Mistake(
            lambda b: round(leak_half_life(b)),
            "rounded to a whole number: return the number as it comes, with its fraction",
        ),
    ),
)

EXERCISES = (ORTHOGONAL, HIGHWAY_GAIN, CAYLEY, HALF_LIFE)
