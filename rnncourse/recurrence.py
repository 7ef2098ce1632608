"""The vanilla recurrent network of notebook 02 (Elman 1990), in the course's letters:

    h_t = φ(W_xh x_t + b_h + W_hh h_{t-1}),    y_t = W_hy h_t + b_y

``unroll_loop`` is that formula as a loop. ``VanillaRNN`` runs it on the engine of notebook 03, ``bptt.unroll``, which
computes the same states faster; ``engine="loop"`` goes back to the loop.
"""

import math
from numbers import Integral

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from rnncourse.arguments import check_choice, check_finite, check_whole
from rnncourse.bptt import NONLINEARITIES, check_recurrence, unroll

PHI = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}
ENGINES = ("bptt", "loop")


def unroll_loop(x, h_prev, W_xh, b_h, W_hh, nonlinearity="tanh", keep=None):
    """The states h_1 ... h_T, one step after another, as the formula says. Same arguments and shapes as ``bptt.unroll``.

    (But for a name: the second is ``h_prev`` here, which each step replaces, and ``h_0`` there and in the errors.) Autograd
    differentiates it, any number of times. It can't fill ``keep``: raises ``ValueError`` if it is given.
    """
    if keep is not None:
        raise ValueError('dL/dh_t is kept by the engine alone: use engine="bptt", or retain_grad on each state')
    check_recurrence(x, h_prev, W_xh, b_h, W_hh, nonlinearity)
    phi = PHI[nonlinearity]
    h = []
    for x_t in x.unbind(-2):
        h_prev = phi(x_t @ W_xh.mT + b_h.unsqueeze(-2) + h_prev @ W_hh.mT)
        h.append(h_prev)
    return torch.stack(h, dim=-2)


class VanillaRNN(nn.Module):
    """A recurrent layer and its readout: x (batch, seq_len, input_size) -> outputs (batch, seq_len, output_size), h_final.

    ``nonlinearity`` is "tanh", "relu" or "linear". Every parameter starts in U(-1/√H, 1/√H), as in ``nn.RNN``.
    ``seeds=[0, 1, 2]`` makes three independent models, one for each seed, in one module: every shape gets a leading axis of
    three, and one call trains them all. (An x without that axis goes to each of them.)
    With ``model.keep_dL_dh = True`` each backward pass leaves dL/dh_t of all steps in ``model.dL_dh``, at no extra pass.
    """

    def __init__(
        self,
        input_size,
        hidden_size,
        output_size,
        nonlinearity="tanh",
        seeds=None,
        engine="bptt",
        device=None,
        dtype=None,
    ):
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("output_size", output_size),
        ):
            check_whole(name, size)
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        check_choice("engine", engine, ENGINES)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.nonlinearity, self.engine, self.seeds = nonlinearity, engine, check_seeds(seeds)
        make = nn.Linear if seeds is None else lambda *sizes, **options: Linears(len(seeds), *sizes, **options)
        place = {"device": device, "dtype": dtype}
        self.W_xh = make(input_size, hidden_size, **place)
        self.W_hh = make(hidden_size, hidden_size, bias=False, **place)
        self.W_hy = make(hidden_size, output_size, **place)
        self.keep_dL_dh = False
        self._kept = {}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self):
        """Draw every parameter from U(-1/√H, 1/√H): with seeds, model s from seed s alone, else from torch's generator."""
        bound = 1 / math.sqrt(self.hidden_size)
        if self.seeds is None:
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound)
        for s, seed in enumerate(self.seeds or ()):
            generator = torch.Generator().manual_seed(seed)
            for parameter in self.parameters():
                drawn = torch.empty(parameter.shape[1:], dtype=parameter.dtype).uniform_(
                    -bound, bound, generator=generator
                )
                parameter[s] = drawn.to(parameter.device)

    def forward(self, x, h_prev=None):
        """x (batch, seq_len, input_size), h_prev (batch, hidden_size) or None for zeros -> (outputs, h_final)."""
        h = self.states(x, h_prev)  # (batch, seq_len, hidden_size)
        return self.W_hy(h), h[..., -1, :]

    def states(self, x, h_prev=None):
        """h_1 ... h_T, of shape (batch, seq_len, hidden_size): what ``forward`` reads its outputs from."""
        models = () if self.seeds is None else (len(self.seeds),)
        dtype = self.W_xh.weight.dtype
        check_sequence(x, self.input_size, dtype, models)
        x = x.expand(*models, *x.shape[-3:])  # an x without the axis of models goes to each of them
        state_shape = (*x.shape[:-2], self.hidden_size)
        if h_prev is None:
            h_prev = x.new_zeros(state_shape)
        else:
            check_state(h_prev, state_shape, dtype)
        keep = self._kept if self.keep_dL_dh else None
        run = unroll if self.engine == "bptt" else unroll_loop
        return run(x, h_prev, self.W_xh.weight, self.W_xh.bias, self.W_hh.weight, self.nonlinearity, keep)

    @property
    def dL_dh(self):
        """dL/dh_t of the last backward pass, shape (batch, seq_len, hidden_size). Needs ``keep_dL_dh = True`` before it."""
        if "dL_dh" not in self._kept:
            raise ValueError("no dL/dh_t yet: set model.keep_dL_dh = True, then run the model and call backward")
        return self._kept["dL_dh"]

    def extra_repr(self):
        return f"nonlinearity={self.nonlinearity!r}" + (f", seeds={self.seeds}" if self.seeds else "")


class Linears(nn.Module):
    """``nn.Linear`` for several independent models: weight (models, out, in), x (models, batch, seq_len, in)."""

    def __init__(self, models, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(models, out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(models, out_features, device=device, dtype=dtype)) if bias else None

    def forward(self, x):
        columns = x.flatten(1, -2).mT  # (models, in, batch * seq_len): with few outputs Wx is faster than xᵀWᵀ
        y = self.weight @ columns if self.bias is None else torch.baddbmm(self.bias.unsqueeze(2), self.weight, columns)
        return y.mT.unflatten(1, x.shape[1:-1])


@torch.no_grad()
def copy_weights_(model, rnn):
    """Give ``model``'s recurrence the weights of ``rnn``, an ``nn.RNN`` of one layer. Its two biases add up to b_h."""
    if not isinstance(rnn, nn.RNN):
        raise TypeError(f"rnn: expected an nn.RNN, got {type(rnn).__name__}")
    if rnn.num_layers != 1 or rnn.bidirectional or not rnn.bias:
        raise ValueError(f"rnn: expected one layer, one direction, with biases, got {rnn}")
    if model.seeds is not None:
        raise ValueError(f"model: expected one model, got {len(model.seeds)}, with seeds={model.seeds}")
    for name in ("input_size", "hidden_size", "nonlinearity"):
        if getattr(rnn, name) != getattr(model, name):
            raise ValueError(f"rnn: expected {name}={getattr(model, name)!r}, as in model, got {getattr(rnn, name)!r}")
    check_free(model)
    model.W_xh.weight.copy_(rnn.weight_ih_l0)
    model.W_xh.bias.copy_(rnn.bias_ih_l0 + rnn.bias_hh_l0)
    model.W_hh.weight.copy_(rnn.weight_hh_l0)


def check_free(model):
    """Raise ``ValueError`` if the model's W_hh is already the result of a parametrization: setting it would do nothing."""
    if parametrize.is_parametrized(model.W_hh):
        raise ValueError("model: expected a free W_hh, got one that is kept orthogonal already; build a fresh model")


def fixed_points(w, b):
    """The fixed points h* = tanh(w h* + b) of one unit without input: a list of (h*, slope), h* rising.

    The slope w (1 - h*²) says whether the unit stays near h*: stable where it lies between -1 and 1.
    """
    for name, value in (("w", w), ("b", b)):
        check_finite(name, value)
    from scipy.optimize import brentq  # here: it takes half a second, and few need it

    def gap(h):
        return math.tanh(w * h + b) - h

    # gap turns where w (1 - tanh²) = 1, that is cosh² = w: between its turns it is monotone and crosses zero at most once
    turns = [(s * math.acosh(math.sqrt(w)) - b) / w for s in (-1, 1)] if w > 1 else []
    edges = [-1.0, *(h for h in turns if -1 < h < 1), 1.0]
    roots = [h for h in edges if gap(h) == 0]  # at a turning point, or where tanh rounds to ±1
    roots += [brentq(gap, lo, hi, xtol=1e-14) for lo, hi in zip(edges, edges[1:]) if gap(lo) * gap(hi) < 0]
    return [(h, w * (1 - h * h)) for h in sorted(roots)]


def trajectory(w, b, h_0, steps):
    """h_0, h_1 ... h_steps of one unit without input, h_t = tanh(w h_{t-1} + b): an array of steps + 1 numbers."""
    for name, value in (("w", w), ("b", b), ("h_0", h_0)):
        check_finite(name, value)
    check_whole("steps", steps)
    h = np.empty(steps + 1)
    h[0] = h_0
    for t in range(steps):
        h[t + 1] = math.tanh(w * h[t] + b)
    return h


def check_sequence(x, input_size, dtype, models=()):
    """Raise ``ValueError`` or ``TypeError``, saying what came and what was expected, if x can't be read as a sequence."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x: expected a tensor, got {type(x).__name__}")
    if x.dim() < 3 or x.shape[-1] != input_size or tuple(x.shape[:-3]) not in ((), models):
        expected = f"(batch, seq_len, {input_size})"
        if models:
            expected += f" or ({models[0]}, batch, seq_len, {input_size})"
        raise ValueError(f"x: expected shape {expected}, got {tuple(x.shape)}")
    if 0 in x.shape:
        raise ValueError(f"x: expected at least one sequence of at least one step, got shape {tuple(x.shape)}")
    check_numbers("x", x, dtype)


def check_state(h_prev, shape, dtype):
    """The same for the state to start from."""
    if not isinstance(h_prev, torch.Tensor):
        raise TypeError(f"h_prev: expected a tensor or None, got {type(h_prev).__name__}")
    if h_prev.shape != shape:
        raise ValueError(f"h_prev: expected shape {tuple(shape)}, one state a sequence, got {tuple(h_prev.shape)}")
    check_numbers("h_prev", h_prev, dtype)


def check_numbers(name, values, dtype):
    """The same for the entries of a tensor: of the weights' dtype, and none of them NaN."""
    if values.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, the dtype of the model's weights, got {values.dtype}")
    if not torch.compiler.is_compiling() and values.isnan().any():
        raise ValueError(f"{name}: expected numbers, got NaN in {int(values.isnan().sum())} of {values.numel()} places")


def check_seeds(seeds):
    """``seeds`` as a list, or None; ``TypeError`` or ``ValueError`` if they are no whole numbers, or none at all."""
    if seeds is None:
        return None
    listed = hasattr(seeds, "__len__") and not isinstance(seeds, str)
    if not listed or not all(isinstance(s, Integral) and not isinstance(s, bool) for s in seeds):
        raise TypeError(f"seeds: expected None or whole numbers, such as range(5), got {seeds!r}")
    if len(seeds) == 0:
        raise ValueError(f"seeds: expected None or at least one seed, got {seeds!r}")
    return [int(s) for s in seeds]
