"""How W_hh begins, and how it can stay orthogonal while it learns (notebook 06).

An orthogonal Q (QᵀQ = I) keeps every length: all its singular values are 1, and so are those of every power of it (Saxe,
McClelland & Ganguli 2014). ``initialize_`` starts a model's W_hh in one of several ways; ``keep_orthogonal_`` makes it a function
of an unconstrained matrix, so that every step of any optimizer leaves it orthogonal. Leaks, skip connections and gates are
the other ways to let a gradient through: ``SkipRNN`` and ``set_forget_bias_``.
"""

import math

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from rnncourse.arguments import check_choice, check_positive, check_whole
from rnncourse.gradients import spectral_radius
from rnncourse.recurrence import check_free


def default(n, generator):
    """U(-1/√n, 1/√n), as ``nn.RNN`` begins: spectral norm about 1.1, spectral radius about 0.6 (n = 32 to 256)."""
    return torch.empty(n, n).uniform_(-1 / math.sqrt(n), 1 / math.sqrt(n), generator=generator)


def gaussian(n, generator):
    """N(0, 1/n): spectral norm about 1.95, spectral radius about 1.05 (2 and 1 for large n: the circular law)."""
    return torch.randn(n, n, generator=generator) / math.sqrt(n)


def scaled(n, generator):
    """Gaussian, divided by its spectral radius: radius exactly 1, norm about 1.85."""
    W = gaussian(n, generator).double()
    return W / spectral_radius(W)


def orthogonal(n, generator):
    """Q of a Gaussian matrix's QR, with R's diagonal made positive: uniform over all orthogonal matrices (Mezzadri 2007)."""
    Q, R = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return Q * R.diagonal().sign()


def identity(n, generator=None):
    """The identity; with ReLU, the IRNN of Le, Jaitly & Hinton 2015."""
    return torch.eye(n)


INITS = {"default": default, "gaussian": gaussian, "scaled": scaled, "orthogonal": orthogonal, "identity": identity}


def recurrent_matrix(init, n, gain=1.0, seed=0, dtype=torch.float32):
    """An n × n matrix of the named init, times ``gain``, from ``seed`` alone. Orthogonal to the precision of ``dtype``."""
    check_choice("init", init, tuple(INITS))
    check_whole("n", n)
    check_positive("gain", gain)
    return gain * INITS[init](n, torch.Generator().manual_seed(seed)).to(dtype)


@torch.no_grad()
def initialize_(model, init, gain=1.0, seed=0):
    """Set the W_hh of a ``VanillaRNN`` to the named init times ``gain``, and its b_h to zero; returns the model.

    With several seeds, model s draws from its own seed, and ``seed`` is not used. "default" leaves b_h as it is.
    """
    check_free(model)
    W_hh = model.W_hh.weight
    matrices = [recurrent_matrix(init, model.hidden_size, gain, s, W_hh.dtype) for s in (model.seeds or [seed])]
    W_hh.copy_(torch.stack(matrices).view_as(W_hh))
    if init != "default":
        model.W_xh.bias.zero_()
    return model


class Cayley(nn.Module):
    """W = Q_0 (I + A)⁻¹ (I - A) with A = (V - Vᵀ)/2: orthogonal for every V, Q_0 where V = 0 (after Helfrich, Willmott & Ye 2018)."""

    def __init__(self, Q_0):
        super().__init__()
        self.register_buffer("Q_0", Q_0.detach().clone())
        self.register_buffer("I", torch.eye(Q_0.shape[-1], dtype=Q_0.dtype, device=Q_0.device))

    def forward(self, V):
        A = (V - V.mT) / 2
        return self.Q_0 @ torch.linalg.solve(self.I + A, self.I - A)

    def right_inverse(self, W):
        """Where training begins: V = 0, the matrix that W is already."""
        return torch.zeros_like(W)


MAPS = ("cayley", "torch_cayley", "matrix_exp", "householder")


def keep_orthogonal_(model, map="cayley"):
    """Keep the W_hh of a ``VanillaRNN`` orthogonal from now on, by a parametrization; returns the model.

    It begins at the W_hh it finds: ``ValueError`` unless that is orthogonal. "cayley" is ``Cayley`` above;
    "torch_cayley", "matrix_exp" and "householder" are the maps of ``torch.nn.utils.parametrizations.orthogonal``, of which the
    first costs what ours does and the others several times that (``make bench``).
    """
    check_choice("map", map, MAPS)
    check_free(model)
    W_hh = model.W_hh.weight.detach()
    off = orthogonality_error(W_hh).max()
    if not off <= 1e-4:  # and not off > 1e-4, which NaN is not either
        raise ValueError(f"W_hh: expected an orthogonal matrix, WᵀW = I to 1e-4, got {off:.2g}; initialize_ it first")
    if map == "cayley":
        parametrize.register_parametrization(model.W_hh, "weight", Cayley(W_hh))
    else:
        parametrizations.orthogonal(model.W_hh, "weight", orthogonal_map=map.removeprefix("torch_"))
    return model


def orthogonality_error(W):
    """The largest entry of |WᵀW - I|: (..., n, n) -> (...)."""
    if W.dim() < 2 or W.shape[-1] != W.shape[-2]:
        raise ValueError(f"W: expected a square matrix (..., n, n), got shape {tuple(W.shape)}")
    return (W.mT @ W - torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)).abs().amax(dim=(-2, -1))


# ---------------------------------------------------------------- the other ways out


class SkipRNN(nn.Module):
    """A tanh layer whose state also comes along by a shorter road: x (batch, seq_len, input_size) -> (h, state).

        h_t = keep · h_{t-1} + (1 - keep) · tanh(W_xh x_t + b_h + W_hh h_{t-1} + W_skip h_{t-skip})

    ``keep`` above 0 makes leaky units (Jaeger et al. 2007); ``skip``, a number of steps, adds a connection over time (Lin et al.
    1996). With neither it is ``nn.RNN``'s layer. Every parameter starts in U(-1/√H, 1/√H).
    """

    def __init__(self, input_size, hidden_size, keep=0.0, skip=None):
        super().__init__()
        check_whole("input_size", input_size)
        check_whole("hidden_size", hidden_size)
        if not 0 <= keep < 1:
            raise ValueError(f"keep: expected a number from 0 to below 1, got {keep!r}")
        if skip is not None:
            check_whole("skip", skip, 2)
        self.hidden_size, self.keep, self.skip = hidden_size, keep, skip
        self.W_xh = nn.Linear(input_size, hidden_size)
        self.W_hh = nn.Linear(hidden_size, hidden_size, bias=False)
        self.W_skip = nn.Linear(hidden_size, hidden_size, bias=False) if skip else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(self, x, state=None):
        """state: h_{t-1}, h_{t-2}, ... h_{t-skip}, or None for zeros."""
        past = [x.new_zeros(len(x), self.hidden_size)] * (self.skip or 1) if state is None else list(state)
        h = []
        for x_t in x.unbind(1):
            a_t = self.W_xh(x_t) + self.W_hh(past[0])
            if self.skip:
                a_t = a_t + self.W_skip(past[-1])
            past = [self.keep * past[0] + (1 - self.keep) * torch.tanh(a_t), *past[:-1]]
            h.append(past[0])
        return torch.stack(h, dim=1), tuple(past)


@torch.no_grad()
def set_forget_bias_(lstm, b):
    """Give the forget gates of an ``nn.LSTM`` the bias b: without input they keep σ(b) of the cell a step. Returns the LSTM.

    (PyTorch adds two biases; b goes into the first, and the second becomes 0. The gates come in the order i, f, g, o.)
    """
    if not isinstance(lstm, nn.LSTM) or not lstm.bias:
        raise TypeError(f"lstm: expected an nn.LSTM with biases, got {lstm}")
    for name, bias in lstm.named_parameters():
        if name.startswith("bias"):
            bias[lstm.hidden_size : 2 * lstm.hidden_size] = b if name.startswith("bias_ih") else 0.0
    return lstm
