"""Right answers to the "Your turn" exercises, by another road than the solutions': a fault in a solution can't agree with itself.

Autograd, PyTorch's own layers, NumPy, or plain loops over numbers. (Notebook 08's answers stand in test_assignment.py.)
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnncourse import exercises
from rnncourse.exercises.checking import check_answer
from rnncourse.gradients import log_singular_values
from rnncourse.sequences import CopyMemory, windows

ANSWERS = {}


def answers(function):
    """The answer to the exercise of its name."""
    ANSWERS[function.__name__] = function
    return function


# -- 01 ----------------------------------------------------------------------------------------------------------------


@answers
def make_windows(series, length):
    x, y = windows(series, length)
    return x[..., 0], y[:, 0, 0]


@answers
def masked_mean(losses, mask):
    total = count = 0
    for i, t in mask.nonzero().tolist():
        total, count = total + float(losses[i, t]), count + 1
    return total / count


@answers
def copy_memory_chance(T, S, k):
    task = CopyMemory(T, S, k)
    _, y = task.batch(1, torch.Generator().manual_seed(0))
    free, guess = F.one_hot(torch.tensor(k), k + 1), torch.tensor([1 / k] * k + [0.0])  # blank for sure, or any symbol
    said = [guess if symbol < k else free for symbol in y[0].tolist()]
    return -sum(math.log(p[symbol]) for p, symbol in zip(said, y[0].tolist())) / len(said)


# -- 02 ----------------------------------------------------------------------------------------------------------------


@answers
def rnn_step(x_t, h_prev, W_xh, W_hh, b_h):
    cell = nn.RNNCell(x_t.shape[1], len(W_hh))
    with torch.no_grad():
        for parameter, value in zip((cell.weight_ih, cell.weight_hh, cell.bias_ih), (W_xh, W_hh, b_h)):
            parameter.copy_(value)
        cell.bias_hh.zero_()
        return cell(x_t, h_prev)


@answers
def count_parameters(input_size, hidden_size, output_size):
    layer, readout = nn.RNN(input_size, hidden_size), nn.Linear(hidden_size, output_size)
    second_bias = layer.bias_hh_l0.numel()  # nn.RNN's, which the formula does not have
    return sum(p.numel() for m in (layer, readout) for p in m.parameters()) - second_bias


@answers
def fixed_point_slope(w, h_star):
    h, b = torch.tensor(h_star, dtype=torch.float64, requires_grad=True), math.atanh(h_star) - w * h_star
    return torch.autograd.grad(torch.tanh(w * h + b), h)[0]


@answers
def last_states(h, lengths):
    return torch.stack([h_i[:n][-1] for h_i, n in zip(h, lengths)])


# -- 03 ----------------------------------------------------------------------------------------------------------------


@answers
def backward_step(dL_da_next, immediate, h_t, W_hh):
    a_t = torch.atanh(h_t).requires_grad_()
    h_t = torch.tanh(a_t)
    loss = (immediate * h_t).sum() + (dL_da_next * (h_t @ W_hh.T)).sum()  # by the output at t, and by a_{t+1}
    return torch.autograd.grad(loss, (h_t, a_t))


@answers
def gradient_W_hh(dL_da, h, h_0):
    W_hh = torch.zeros(h.shape[2], h.shape[2], dtype=h.dtype, requires_grad=True)
    before = torch.cat([h_0.unsqueeze(1), h[:, :-1]], dim=1)
    return torch.autograd.grad((dL_da * (before @ W_hh.T)).sum(), W_hh)[0]


@answers
def truncated_gradient(model, x, target, length):
    h, outputs = x.new_zeros(len(x), model.hidden_size), []
    for t, x_t in enumerate(x.unbind(1)):  # one graph, cut where a chunk begins
        h = torch.tanh(model.W_xh(x_t) + model.W_hh(h.detach() if t % length == 0 else h))
        outputs.append(model.W_hy(h))
    loss = F.mse_loss(torch.stack(outputs, dim=1), target, reduction="sum") / 2
    return torch.autograd.grad(loss, model.W_hh.weight)[0]


@answers
def credited_share(lag, lengths):
    return [np.mean([step - lag in range(1, length + 1) for step in range(1, length + 1)]) for length in lengths]


# -- 04 ----------------------------------------------------------------------------------------------------------------


@answers
def step_jacobian(h_t, W_hh):
    a_t = torch.atanh(h_t)  # of h_{t-1} = 0, so that W_hh h_{t-1} adds nothing to it
    return torch.func.jacrev(lambda h_prev: torch.tanh(a_t + W_hh @ h_prev))(torch.zeros_like(h_t))


@answers
def gradient_magnitude(sigma, slope, steps):
    return math.prod([sigma] * steps) * math.prod([slope] * steps)


@answers
def log_product_norm(J):
    return log_singular_values(J)[0]


@answers
def lyapunov_from_growth(R_diagonals):
    import scipy.stats  # here: it takes seconds, and every process of the tests would wait for it

    return np.log(scipy.stats.gmean(np.abs(R_diagonals.numpy()), axis=0))


# -- 05 ----------------------------------------------------------------------------------------------------------------


def clipped_in_place(grads, clip, threshold):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, g in zip(parameters, grads):
        parameter.grad = g.clone()  # it is clipped in place
    clip(parameters, threshold)
    return [parameter.grad for parameter in parameters]


@answers
def clip_by_norm(grads, threshold):
    return clipped_in_place(grads, nn.utils.clip_grad_norm_, threshold)


@answers
def clip_by_value(grads, threshold):
    return clipped_in_place(grads, nn.utils.clip_grad_value_, threshold)


@answers
def angle_between(a, b):
    a, b = (v.flatten() / v.norm() for v in (a, b))
    along, across = a @ b, b - (a @ b) * a
    return math.degrees(math.atan2(across.norm(), along))


@answers
def threshold_from_norms(norms, share):
    return np.percentile(norms.numpy(), 100 * (1 - share))


# -- 06 ----------------------------------------------------------------------------------------------------------------


@answers
def orthogonal_matrix(A):
    columns = []  # Gram & Schmidt, whose R has a positive diagonal
    for a in A.T:
        for q in columns:
            a = a - (q @ a) * q
        columns.append(a / a.norm())
    return torch.stack(columns, dim=1)


@answers
def highway_gain(h):
    a = torch.atanh(h).requires_grad_()
    (slopes,) = torch.autograd.grad(torch.tanh(a).sum(), a)
    return math.sqrt(h.numel()) / slopes.norm()


@answers
def cayley(V):
    A, identity = (V - V.T) / 2, torch.eye(len(V), dtype=V.dtype)
    return 2 * torch.linalg.inv(identity + A) - identity  # (I + A)⁻¹ (2 I - (I + A))


@answers
def leak_half_life(b):
    return math.log(0.5) / F.logsigmoid(torch.tensor(b, dtype=torch.float64))


# -- 07 ----------------------------------------------------------------------------------------------------------------


@answers
def temperature_probabilities(outputs, temperature):
    return torch.distributions.Categorical(logits=outputs / temperature).probs


@answers
def bits_a_character(p):
    return -np.mean(np.log(p.numpy())) / np.log(2)


@answers
def rolling_rmse(series, first, horizon):
    values, squares = series.tolist(), [[] for _ in range(horizon)]
    for t in range(first, len(values)):
        if t + horizon < len(values):
            for h in range(1, horizon + 1):
                squares[h - 1].append((values[t + h] - values[t]) ** 2)
    return [math.sqrt(sum(row) / len(row)) for row in squares]


@answers
def int8_row(w):
    q, s = [], max(abs(v) for v in w.tolist()) / 127
    for v in w.tolist():
        q.append(round(v / s))
    return q, s


# -- the checks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_by_another_road_is_correct(name):
    for seed in range(5):
        assert str(check_answer(exercises.EXERCISES[name], ANSWERS[name], seed)) == "✔ correct"


def test_every_exercise_of_01_to_07_is_answered():
    of_08 = {e.name for m in (exercises.magnitudes, exercises.experiments, exercises.monitoring) for e in m.EXERCISES}
    of_08 |= {e.name for m in (exercises.generating, exercises.speaking) for e in m.EXERCISES}
    assert set(ANSWERS) == set(exercises.EXERCISES) - of_08
