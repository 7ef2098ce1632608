"""The "Your turn" exercises of notebook 02: one step, its parameters, a fixed point's slope, the state after padding."""

import torch

from rnncourse.exercises.checking import Exercise, Mistake

# ---------------------------------------------------------------- one step


def rnn_step(x_t, h_prev, W_xh, W_hh, b_h):
    return torch.tanh(x_t @ W_xh.T + h_prev @ W_hh.T + b_h)


def one_step(generator):
    """As many inputs as hidden units: then matrices that were mixed up still multiply, and the check can name them.

    And more sequences than units: then a batch taken for a column does not.
    """
    size = int(torch.randint(3, 8, (), generator=generator))
    batch = size + int(torch.randint(1, 4, (), generator=generator))
    shapes = [(batch, size), (batch, size), (size, size), (size, size), (size,)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


STEP = Exercise(
    name="rnn_step",
    reference=rnn_step,
    inputs=one_step,
    hints=(
        "Follow the formula from the inside out: two matrix products and a bias are added, then tanh is taken of the sum.",
        "Each row of `x_t` is one sequence. For a row x, the formula's W_xh x is `x @ W_xh.T`, as in `nn.Linear`.",
        "`torch.tanh(x_t @ W_xh.T + ... + b_h)`, where the dots are the same product for `h_prev` and `W_hh`.",
    ),
    why="A row of `x_t @ W_xh.T` is $W_{xh} x_t$ of one sequence; `b_h` is added to every row; tanh comes last, once.",
    mistakes=(
        Mistake(
            lambda x, h, W_xh, W_hh, b: x @ W_xh.T + h @ W_hh.T + b,
            "this is the sum before the nonlinearity: you forgot tanh",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + h @ W_hh + b),
            "W_hh is transposed: for rows of states the product W_hh h is h_prev @ W_hh.T, not h_prev @ W_hh",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh + h @ W_hh.T + b),
            "W_xh is transposed: for rows of inputs the product W_xh x is x_t @ W_xh.T, not x_t @ W_xh",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh + h @ W_hh + b),
            "both matrices are transposed: for rows, W x is x @ W.T, as in nn.Linear",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + h @ W_hh.T),
            "you forgot the bias b_h",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + h @ W_hh.T) + b,
            "the bias b_h belongs inside tanh, with the two products",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T) + torch.tanh(h @ W_hh.T) + torch.tanh(b),
            "tanh is taken of each term: add the three terms first, then take tanh once, of their sum",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + b) + torch.tanh(h @ W_hh.T),
            "tanh is taken twice, of the input's share and of the state's: add everything first, then take tanh once",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(h @ W_xh.T + x @ W_hh.T + b),
            "the matrices are swapped: W_xh multiplies the input x_t, W_hh the state h_prev",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(W_xh @ x + b + W_hh @ h),
            "the sequences of the batch stand in rows: for a row x, the formula's W x is x @ W.T",
            error="shapes cannot be multiplied",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + h + b),
            "the old state is added as it is: it passes W_hh first, h_prev @ W_hh.T",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(h @ W_hh.T + b),
            "the input x_t takes no part: add x_t @ W_xh.T",
        ),
        Mistake(
            lambda x, h, W_xh, W_hh, b: torch.tanh(x @ W_xh.T + b),
            "the state h_prev takes no part: without W_hh h_prev there is no recurrence, each step stands alone",
        ),
    ),
)

# ---------------------------------------------------------------- how many parameters


def count_parameters(input_size, hidden_size, output_size):
    W_xh, b_h = hidden_size * input_size, hidden_size
    W_hh = hidden_size * hidden_size
    W_hy, b_y = output_size * hidden_size, output_size
    return W_xh + b_h + W_hh + W_hy + b_y


def three_sizes(generator):
    """Three different sizes above 2, so that no two ways of counting agree by chance."""
    return [int(size) for size in 3 + torch.randperm(60, generator=generator)[:3]]


COUNT = Exercise(
    name="count_parameters",
    reference=count_parameters,
    inputs=three_sizes,
    hints=(
        "List what the two formulas hold: three matrices and two biases. Time is not among them.",
        "A matrix that maps n numbers to m has m · n entries, and a bias has one entry for each number it is added to.",
        "`hidden_size * input_size + hidden_size + ...`: W_xh with b_h; then W_hh; then W_hy with b_y.",
    ),
    why="$W_{xh}$ has H · input entries and $b_h$ has H; $W_{hh}$ has H²; $W_{hy}$ has output · H and $b_y$ output.",
    mistakes=(
        Mistake(lambda i, h, o: i * h + h * h + h * o, "you counted the three matrices and forgot both biases"),
        Mistake(lambda i, h, o: i * h + h * h + h * o + o, "you forgot the bias b_h of the recurrence"),
        Mistake(lambda i, h, o: i * h + h + h * h + h * o, "you forgot the bias b_y of the output"),
        Mistake(
            lambda i, h, o: i * h + 2 * h + h * h + h * o + o,
            "one bias of hidden_size too many: nn.RNN keeps two, the formula of the course has b_h alone",
        ),
        Mistake(
            lambda i, h, o: i * h + h + h * h,
            "you counted the recurrence alone: the readout W_hy and b_y belongs to the model too",
        ),
        Mistake(
            lambda i, h, o: i * h + h + h * o + o,
            "W_hh is missing: this is a network without recurrence",
        ),
        Mistake(
            lambda i, h, o: i * h + h + h + h * o + o,
            "W_hh is a square matrix, every unit to every unit: it has hidden_size² entries, not hidden_size",
        ),
    ),
)

# ---------------------------------------------------------------- the slope at a fixed point


def fixed_point_slope(w, h_star):
    return w * (1 - h_star**2)


def fixed_point(generator):
    """A weight and a fixed point of tanh(w h + b), for the bias b that makes it one: b = atanh(h*) - w h*, not 0.

    The weight is negative, so that a lost sign can never pass.
    """
    w, h_star = (torch.rand(2, generator=generator, dtype=torch.float64) * 0.6 + 0.2).tolist()
    return [-3 * w, h_star]


def slope_at(a, w):
    """d tanh(a)/dh, where da/dh = w."""
    return w * (1 - torch.tanh(torch.tensor(a, dtype=torch.float64)) ** 2)


SLOPE = Exercise(
    name="fixed_point_slope",
    reference=fixed_point_slope,
    inputs=fixed_point,
    hints=(
        "The next state is tanh(a) with a = w h + b. By the chain rule its derivative by h is tanh'(a) times da/dh.",
        "da/dh = w, and tanh'(a) = 1 - tanh(a)². At a fixed point tanh(a) is known without computing it.",
        "At the fixed point tanh(w h* + b) = h*. Put that into `w * (1 - tanh(a)**2)`.",
    ),
    why=r"The slope is $w\,(1 - \tanh^2(w h^* + b))$, and $\tanh(w h^* + b)$ is $h^*$ itself: so b is not needed.",
    mistakes=(
        Mistake(
            lambda w, h: 1 - h**2,
            "you forgot the factor w: this is tanh' = 1 - h*², and the chain rule multiplies it by da/dh = w",
        ),
        Mistake(
            lambda w, h: w,
            "w is the slope at h* = 0 with b = 0: at other fixed points tanh' is not 1",
        ),
        Mistake(
            lambda w, h: abs(w) * (1 - h**2),
            "the sign is lost: where w is negative the map falls, and its slope is negative",
        ),
        Mistake(lambda w, h: w * (1 - h), "you forgot the square: tanh' is 1 - h*², not 1 - h*"),
        Mistake(lambda w, h: w * (1 + h**2), "the sign is wrong: tanh' is 1 - h*², not 1 + h*²"),
        Mistake(
            lambda w, h: slope_at(w * h, w),
            "tanh(w h*) leaves out the bias: tanh(w h* + b) is h* itself, at any bias, so square h* instead",
        ),
        Mistake(
            lambda w, h: slope_at(h, w),
            "h* already is a tanh: tanh' at the fixed point is 1 - h*², not 1 - tanh(h*)²",
        ),
        Mistake(
            lambda w, h: w * (1 - (w * h) ** 2),
            "the square is of tanh(a), which is h* at the fixed point, not of w h*",
        ),
        Mistake(
            lambda w, h: w * (1 - w * h**2),
            "one w too many: tanh' is 1 - h*², and w multiplies it once",
        ),
    ),
)

# ---------------------------------------------------------------- the state after a padded sequence


def last_states(h, lengths):
    return h[torch.arange(len(h)), lengths - 1]


def padded_states(generator):
    """Every sequence shorter than seq_len, so that an index one too far still finds a state, and the check can name it."""
    batch, longest, hidden = (int(torch.randint(low, low + 5, (), generator=generator)) for low in (3, 4, 2))
    lengths = torch.randint(1, longest + 1, (batch,), generator=generator)
    lengths[:2] = torch.tensor([1, longest])
    return [torch.randn(batch, longest + 2, hidden, generator=generator), lengths]


LAST = Exercise(
    name="last_states",
    reference=last_states,
    inputs=padded_states,
    hints=(
        "For each sequence of the batch you need one row of h: the one at its own last step. Mind that Python counts from 0.",
        "The state after step t is `h[i, t - 1]`, so for sequence i it is `h[i, lengths[i] - 1]`.",
        "Two index tensors of equal length are taken in pairs: `h[torch.arange(len(h)), ...]`.",
    ),
    why="Indexing with two tensors of shape (batch,) takes pairs: sequence i at step `lengths[i] - 1`, counted from 0.",
    mistakes=(
        Mistake(
            lambda h, lengths: h[torch.arange(len(h)), lengths],
            "off by one: step t stands at index t - 1, so this is the state after one step of padding",
        ),
        Mistake(
            lambda h, lengths: h[torch.arange(len(h)), lengths - 2],
            "off by one: this is the state one step before the last; the last of T steps stands at index T - 1",
        ),
        Mistake(
            lambda h, lengths: h[:, -1],
            "this is the last step of the padded batch: by then a short sequence has read padding and moved on",
        ),
        Mistake(
            lambda h, lengths: torch.stack([h_i[:n].mean(dim=0) for h_i, n in zip(h, lengths)]),
            "this is the mean over a sequence's steps; wanted is the one state after its last step",
        ),
        Mistake(
            lambda h, lengths: h.mean(dim=1),
            "this is the mean over all steps, padding included; wanted is the one state after each sequence's last step",
        ),
        Mistake(
            lambda h, lengths: h[:, lengths - 1],
            "a colon pairs every sequence with every length: index the batch with torch.arange(len(h)) instead",
        ),
        Mistake(
            lambda h, lengths: h[:, int(lengths.max()) - 1],
            "this is the step at which the longest sequence ends: each sequence needs its own",
        ),
    ),
)

EXERCISES = (STEP, COUNT, SLOPE, LAST)
