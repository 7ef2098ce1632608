"""The "Your turn" exercises of notebook 03: one step back, the sum over time, truncated BPTT, and how far it reaches."""

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import normal, whole
from rnncourse.recurrence import VanillaRNN

# ---------------------------------------------------------------- one step of the backward pass


def backward_step(dL_da_next, immediate, h_t, W_hh):
    dL_dh = immediate + dL_da_next @ W_hh  # row by row: v @ W is Wᵀ v
    dL_da = (1 - h_t**2) * dL_dh
    return dL_dh, dL_da


def _step_inputs(generator):
    batch, H = whole(generator, 2, 4), whole(generator, 5, 7)
    h_t = torch.tanh(normal(generator, batch, H))
    return normal(generator, batch, H), normal(generator, batch, H), h_t, normal(generator, H, H)


def _then(dL_dh, slope):
    return dL_dh, slope * dL_dh


BACKWARD_STEP = Exercise(
    name="backward_step",
    reference=backward_step,
    inputs=_step_inputs,
    tolerance=1e-8,
    hints=(
        "Two results, in this order: first everything that reaches h_t (from its own output, and from step t+1), then what "
        "of that passes back through tanh. Both equations stand right above.",
        "dL/dh_t = ∂⁺L/∂h_t + W_hhᵀ dL/da_{t+1} and dL/da_t = (1 - h_t²) ⊙ dL/dh_t. In code each row is one sequence, and "
        "for a row v the product Wᵀ v is `v @ W`.",
        "`dL_dh = immediate + dL_da_next @ W_hh`; the second line multiplies it, element by element, with tanh' = 1 - h_t².",
    ),
    why="The gradient passes W_hh transposed on its way back, because the state passed W_hh on its way forward; a batch in rows "
    "turns Wᵀ v into `v @ W`. The slope of tanh is that of step t, not of t+1: dL/da_{t+1} has been through its own already.",
    mistakes=(
        Mistake(
            lambda da, im, h, W: (im + da @ W, im + da @ W),
            "dL/dh_t is right; dL/da_t lacks the slope of tanh: you forgot tanh' = 1 - h_t²",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + da @ W.T, 1 - h**2),
            "W_hh is transposed: the formula's W_hhᵀ v, for a vector v that stands in a row, is v @ W_hh (v @ W_hh.T is W_hh v)",
        ),
        Mistake(
            lambda da, im, h, W: _then(da @ W, 1 - h**2),
            "the immediate part is missing: step t has an output of its own, and ∂⁺L/∂h_t comes through it",
        ),
        Mistake(
            lambda da, im, h, W: _then(im, 1 - h**2),
            "only the immediate part is there: h_t also acts on the loss through h_{t+1}, by W_hhᵀ dL/da_{t+1}",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + da @ W, 1 - h),
            "tanh' is 1 - h_t², with the square: you used 1 - h_t",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + da @ W, 1 - torch.tanh(h) ** 2),
            "h_t is tanh(a_t) already: tanh' = 1 - h_t², you took tanh a second time",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + da @ W, h**2),
            "tanh' is 1 - h_t²: you used h_t² alone",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + ((1 - h**2) * da) @ W, 1 - h**2),
            "dL/da_{t+1} has been through the slope of its own step already: multiply it by W_hh as it is",
        ),
        Mistake(
            lambda da, im, h, W: (im + da @ W, im + (1 - h**2) * (da @ W)),
            "dL/dh_t is right; for dL/da_t the slope multiplies all of it, the immediate part too",
        ),
        Mistake(
            lambda da, im, h, W: (im + da @ W, (1 - h**2) * im),
            "dL/dh_t is right; dL/da_t is the slope times all of dL/dh_t, not times its immediate part alone",
        ),
        Mistake(
            lambda da, im, h, W: _then(im + W.T @ da, 1 - h**2),
            "the sequences of the batch stand in rows: for a row v, the formula's W_hhᵀ v is v @ W_hh",
            error="shapes cannot be multiplied",
        ),
        Mistake(
            lambda da, im, h, W: backward_step(da, im, h, W)[::-1],
            "both are right, in the wrong order: return dL/dh_t first, then dL/da_t",
        ),
        Mistake(
            lambda da, im, h, W: im + da @ W,
            "this is dL/dh_t alone, and it is right: return dL/da_t, too, dL_dh, dL_da",
        ),
    ),
)

# ---------------------------------------------------------------- the gradient of W_hh


def gradient_W_hh(dL_da, h, h_0):
    dL_dW_hh, h_prev = 0, h_0
    for t in range(h.shape[1]):
        dL_dW_hh = dL_dW_hh + dL_da[:, t].T @ h_prev  # the product of the two matrices sums over the batch
        h_prev = h[:, t]
    return dL_dW_hh


def _states_before(h, h_0):
    """h_0 ... h_{T-1}, shaped as h."""
    return torch.cat([h_0.unsqueeze(1), h[:, :-1]], dim=1)


def _sum_of_products(dL_da, h):
    return torch.einsum("bti,btj->ij", dL_da, h)


def _sum_inputs(generator):
    batch, T, H = whole(generator, 2, 4), whole(generator, 5, 7), whole(generator, 3, 4)
    h_0 = torch.tanh(normal(generator, batch, H))
    return normal(generator, batch, T, H), torch.tanh(normal(generator, batch, T, H)), h_0


GRADIENT_W_HH = Exercise(
    name="gradient_W_hh",
    reference=gradient_W_hh,
    inputs=_sum_inputs,
    tolerance=1e-8,
    hints=(
        "W_hh is used at every step and for every sequence of the batch: each use adds a matrix of shape (H, H). Which state "
        "does W_hh multiply at step t?",
        "Σ_t dL/da_t h_{t-1}ᵀ, summed over the batch too. With one sequence in each row, the sum over the batch at one step is "
        "`dL_da[:, t].T @ h_prev`. At the first step h_prev is h_0.",
        "Start with `h_prev = h_0`; in a loop over t, add `dL_da[:, t].T @ h_prev` and then set `h_prev = h[:, t]`. (Without "
        "a loop: shift h by one step with `torch.cat([h_0.unsqueeze(1), h[:, :-1]], dim=1)`, then one einsum.)",
    ),
    why="Each use of W_hh at step t, in sequence b, contributes the outer product of what came back, dL/da_t, and what W_hh "
    "multiplied there, h_{t-1}. One matrix, many uses: the total derivative is the sum over all of them.",
    mistakes=(
        Mistake(
            lambda da, h, h_0: _sum_of_products(da, h),
            "off by one step: at step t W_hh multiplies h_{t-1}, the state before; h[:, t] in Python is the state after",
        ),
        Mistake(
            lambda da, h, h_0: _sum_of_products(da, h.roll(1, 1)),
            "all right but the first step: in Python h[:, t - 1] at t = 0 is h[:, -1], the last state; there take h_0",
        ),
        Mistake(
            lambda da, h, h_0: _sum_of_products(da[:, 1:], h[:, :-1]),
            "the first step is missing: there W_hh multiplies h_0, which is not zero here",
        ),
        Mistake(
            lambda da, h, h_0: gradient_W_hh(da, h, h_0) / h.shape[1],
            "this is the mean over time: the gradient is the sum over all uses of W_hh",
        ),
        Mistake(
            lambda da, h, h_0: gradient_W_hh(da, h, h_0) / len(h),
            "this is the mean over the batch: what comes in as dL_da is the gradient of the whole loss already, so sum",
        ),
        Mistake(
            lambda da, h, h_0: gradient_W_hh(da, h, h_0) / (len(h) * h.shape[1]),
            "this is the mean over time and batch: the gradient is the sum over all uses of W_hh",
        ),
        Mistake(
            lambda da, h, h_0: da[:, -1].T @ h[:, -2],
            "this is the last step's contribution alone: W_hh is used at every step, so sum over t (did a `=` replace a `+=`?)",
        ),
        Mistake(
            lambda da, h, h_0: da[:, 0].T @ h_0,
            "this is the first step's contribution alone: sum over all t (is the return inside the loop?)",
        ),
        Mistake(
            lambda da, h, h_0: gradient_W_hh(da[:1], h[:1], h_0[:1]),
            "this is the gradient of the first sequence alone: sum over the batch too",
        ),
        Mistake(
            lambda da, h, h_0: gradient_W_hh(da, h, h_0).T,
            "the transpose of the gradient: entry (i, j) is Σ (dL/da_t)_i (h_{t-1})_j, so dL_da comes first",
        ),
        Mistake(
            lambda da, h, h_0: _sum_of_products(da, h).T,
            "two faults: off by one step (W_hh multiplies h_{t-1}), and transposed (dL_da comes first)",
        ),
        Mistake(
            lambda da, h, h_0: da.sum((0, 1)).outer(_states_before(h, h_0).sum((0, 1))),
            "the product of the sums is not the sum of the products: multiply at each step, then add up",
        ),
        Mistake(
            lambda da, h, h_0: _sum_of_products((1 - h**2) * da, _states_before(h, h_0)),
            "dL/da_t has been through tanh' already: multiply it by h_{t-1} as it is",
        ),
    ),
)

# ---------------------------------------------------------------- truncated BPTT


def truncated_gradient(model, x, target, length):
    h = None
    for x_chunk, target_chunk in zip(x.split(length, dim=1), target.split(length, dim=1)):
        outputs, h = model(x_chunk, h)
        loss = (outputs - target_chunk).square().sum() / 2
        loss.backward()  # adds to .grad
        h = h.detach()  # the numbers go on, the graph ends here
    return model.W_hh.weight.grad


def _truncated_inputs(generator):
    model = VanillaRNN(2, 4, 1, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(normal(generator, *parameter.shape) / 2)
    length = whole(generator, 3, 4)
    T = 3 * length + whole(generator, 1, length - 1)  # the last chunk is shorter
    return model, normal(generator, 5, T, 2), normal(generator, 5, T, 1), length  # a batch that is no chunk's length


def _full_gradient(model, x, target, length):
    return truncated_gradient(model, x, target, x.shape[1])


def _reset_state(model, x, target, length):
    for x_chunk, target_chunk in zip(x.split(length, dim=1), target.split(length, dim=1)):
        ((model(x_chunk)[0] - target_chunk).square().sum() / 2).backward()
    return model.W_hh.weight.grad


def _last_chunk(model, x, target, length):
    rest = x.shape[1] % length
    h = model(x[:, :-rest])[1].detach()
    return _one_chunk(model, x[:, -rest:], target[:, -rest:], h)


def _last_chunk_alone_from_zero(model, x, target, length):
    rest = x.shape[1] % length
    return _one_chunk(model, x[:, -rest:], target[:, -rest:], None)


def _one_chunk(model, x, target, h):
    ((model(x, h)[0] - target).square().sum() / 2).backward()
    return model.W_hh.weight.grad


def _without_the_rest(model, x, target, length):
    whole = x.shape[1] // length * length
    return truncated_gradient(model, x[:, :whole], target[:, :whole], length)


def _means(model, x, target, length, share=1.0, cut=torch.Tensor.detach):
    h = None
    for x_chunk, target_chunk in zip(x.split(length, dim=1), target.split(length, dim=1)):
        outputs, h = model(x_chunk, h)
        (share * (outputs - target_chunk).square().mean()).backward()
        h = cut(h)
    return model.W_hh.weight.grad


TRUNCATED_GRADIENT = Exercise(
    name="truncated_gradient",
    reference=truncated_gradient,
    inputs=_truncated_inputs,
    tolerance=1e-8,
    hints=(
        "A loop over chunks: run the model from the state so far, compute the loss of this chunk, call backward. What must "
        "pass from a chunk to the next, and what must not? (An error about going backward a second time tells the same.)",
        "`model(x_chunk, h)` takes the state and gives back the new one. `backward` adds to `.grad` by itself. `h.detach()` has "
        "the same numbers and no graph.",
        "`for x_chunk, target_chunk in zip(x.split(length, dim=1), target.split(length, dim=1)):` run, "
        "`((outputs - target_chunk).square().sum() / 2).backward()`, `h = h.detach()`; in the end return "
        "`model.W_hh.weight.grad`.",
    ),
    why="The state's numbers go on, so the outputs are those of the whole sequence; its graph is cut, so each backward pass ends "
    "at its chunk's first step. `backward` adds each chunk's share to `.grad`. `bptt.chunks` is this loop.",
    mistakes=(
        Mistake(
            _full_gradient,
            "this is the full gradient: the state crosses the borders with its graph. Cut it after each chunk, h = h.detach() "
            "(retain_graph=True silences PyTorch's error and keeps what caused it)",
        ),
        Mistake(
            _reset_state,
            "the state starts from zero in every chunk: hand h on, detached, as model(x_chunk, h)",
        ),
        Mistake(
            _last_chunk,
            "this is the last chunk's gradient alone: let backward add up over the chunks, with no zero_grad between them",
        ),
        Mistake(
            _last_chunk_alone_from_zero,
            "two faults: the state starts from zero (hand h on, detached), and only the last chunk's gradient is left (no "
            "zero_grad between the chunks)",
        ),
        Mistake(
            _without_the_rest,
            "the last chunk, shorter than the others, is missing: x.split(length, dim=1) gives it too",
        ),
        Mistake(
            lambda model, x, target, length: 2 * truncated_gradient(model, x, target, length),
            "twice the gradient: the loss is ½ Σ (outputs - target)², and the ½ is missing",
        ),
        Mistake(
            _means,
            "your loss is the mean over each chunk: it is ½ Σ (outputs - target)², a sum, so that the chunks' losses add up",
        ),
        Mistake(
            lambda *given: _means(*given, share=0.5),
            "your loss is half the mean over each chunk (mse_loss takes the mean by itself): it is half the sum, "
            "½ Σ (outputs - target)², so that the chunks' losses add up",
        ),
        Mistake(
            lambda model, x, target, length: truncated_gradient(model, x, target, length) / 2,
            "half the gradient: the loss is ½ Σ (outputs - target)², and yours has a ½ more",
        ),
        Mistake(
            lambda model, x, target, length: truncated_gradient(model, x, target, length) / len(x),
            "your loss is divided by the size of the batch: it is ½ Σ (outputs - target)², the sum over all sequences",
        ),
        Mistake(
            lambda model, x, target, length: model.W_hh.weight,
            "this is the weight itself: return its gradient, which backward has put into `.grad`",
        ),
        Mistake(
            lambda *given: _means(*given, cut=lambda h: h),
            "not retain_graph: cut the state from its past, `h = h.detach()`",
            error="retain_graph=True",
        ),
        Mistake(
            lambda model, x, target, length: truncated_gradient(model, x, target, 1),
            "the state is cut at every step: detach it once a chunk, after its last step",
        ),
        Mistake(
            lambda model, x, target, length: truncated_gradient(model, x, target, length + 1),
            "the chunks are one step too long: length steps each",
        ),
    ),
)

# ---------------------------------------------------------------- how far a truncated gradient reaches


def credited_share(lag, lengths):
    return [max(0, length - lag) / length for length in lengths]


def _share_inputs(generator):
    lag = whole(generator, 3, 9)
    return lag, [lag - whole(generator, 1, 2), lag, lag + 1, lag + whole(generator, 2, 4), 2 * lag + 1, 10 * lag]


CREDITED_SHARE = Exercise(
    name="credited_share",
    reference=credited_share,
    inputs=_share_inputs,
    tolerance=1e-6,
    hints=(
        "Number the steps of one chunk 1, 2, ..., k. The target at step p is about the input `lag` steps before. For which p "
        "does that input lie in the same chunk?",
        "Step p sees x_{p-lag} if p - lag ≥ 1. Count the p from lag + 1 to k, and divide by k. Then think of k ≤ lag.",
        "`(length - lag) / length` for each length above lag; below, no target is credited, and the share is 0, not negative.",
    ),
    why="Steps lag + 1 to k of each chunk reach x_{t-lag}: k - lag of k, none if k ≤ lag. So chunk = lag + 1 is the threshold, "
    "and there only one target in lag + 1 teaches the lag; twice the lag credits half of them.",
    mistakes=(
        Mistake(
            lambda lag, lengths: [max(0, k - lag + 1) / k for k in lengths],
            "one too many: the last step of a chunk of `lag` steps reaches back lag - 1 steps, not lag",
        ),
        Mistake(
            lambda lag, lengths: [max(0, k - lag - 1) / k for k in lengths],
            "one too few: in a chunk of lag + 1 steps the last step does reach back to the first",
        ),
        Mistake(
            lambda lag, lengths: [(k - lag) / k for k in lengths],
            "right above the lag; a share can't be negative: where the chunk is not longer than the lag it is 0",
        ),
        Mistake(
            lambda lag, lengths: [float(k > lag) for k in lengths],
            "not all or nothing: also in a long chunk the first `lag` steps have their input in the chunk before",
        ),
        Mistake(
            lambda lag, lengths: [float(k >= lag) for k in lengths],
            "not all or nothing, and a chunk of `lag` steps reaches back lag - 1 steps only: count the steps p of a chunk for "
            "which p - lag ≥ 1",
        ),
        Mistake(
            lambda lag, lengths: [max(0, k - lag) for k in lengths],
            "this counts the credited targets of one chunk: divide by the chunk's length",
        ),
        Mistake(
            lambda lag, lengths: [min(1, lag / k) for k in lengths],
            "this is the share that is not reached: the first `lag` steps of each chunk",
        ),
        Mistake(
            lambda lag, lengths: [min(1, k / lag) for k in lengths],
            "the chunk as a share of the lag is not what counts: for each step p of the chunk, is p - lag still in it?",
        ),
        Mistake(
            lambda lag, lengths: [max(0, k - lag) / lag for k in lengths],
            "you divide by the lag: it is a share of the chunk's targets, so divide by its length",
        ),
    ),
)

EXERCISES = (BACKWARD_STEP, GRADIENT_W_HH, TRUNCATED_GRADIENT, CREDITED_SHARE)
