"""How W_hh begins, and how it can stay orthogonal while it learns (notebook 06).

An orthogonal Q (QᵀQ = I) keeps every length: all its singular values are 1, and so are those of every power of it (Saxe,
McClelland & Ganguli 2014). ``initialize_`` starts a model's W_hh in one of several ways; ``keep_orthogonal_`` makes it a function
of an unconstrained matrix, so that every step of any optimizer leaves it orthogonal.
"""

import math

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from rnncourse.arguments import check_choice, check_positive, check_whole
from rnncourse.gradients import spectral_radius


def default(n, generator):
    """U(-1/√n, 1/√n), as ``nn.RNN`` begins: spectral norm about 1.15, spectral radius about 0.58."""
    return torch.empty(n, n).uniform_(-1 / math.sqrt(n), 1 / math.sqrt(n), generator=generator)


def gaussian(n, generator):
    """N(0, 1/n): spectral norm about 2, spectral radius about 1 (Ginibre's circular law)."""
    return torch.randn(n, n, generator=generator) / math.sqrt(n)


def scaled(n, generator):
    """Gaussian, divided by its spectral radius: radius exactly 1 (times the gain), norm about 2."""
    W = gaussian(n, generator)
    return W / spectral_radius(W)


def orthogonal(n, generator):
    """Q of a Gaussian matrix's QR, with R's diagonal made positive: uniform over all orthogonal matrices (Mezzadri 2007)."""
    Q, R = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return (Q * R.diagonal().sign()).float()


def identity(n, generator=None):
    """The identity; with ReLU, the IRNN of Le, Jaitly & Hinton 2015."""
    return torch.eye(n)


INITS = {"default": default, "gaussian": gaussian, "scaled": scaled, "orthogonal": orthogonal, "identity": identity}


def recurrent_matrix(init, n, gain=1.0, seed=0):
    """An n × n matrix of the named init, times ``gain``, from ``seed`` alone."""
    check_choice("init", init, tuple(INITS))
    check_whole("n", n)
    check_positive("gain", gain)
    return gain * INITS[init](n, torch.Generator().manual_seed(seed))


@torch.no_grad()
def initialize_(model, init, gain=1.0, seed=0):
    """Set the W_hh of a ``VanillaRNN`` to the named init times ``gain``, and its b_h to zero; returns the model.

    With several seeds, model s draws from its own seed, and ``seed`` is not used. "default" leaves b_h as it is.
    """
    W_hh = model.W_hh.weight
    matrices = [recurrent_matrix(init, model.hidden_size, gain, s) for s in (model.seeds or [seed])]
    W_hh.copy_(torch.stack(matrices).view_as(W_hh))
    if init != "default":
        model.W_xh.bias.zero_()
    return model


class Cayley(nn.Module):
    """W = Q_0 (I + A)⁻¹ (I - A) with A = (V - Vᵀ)/2: orthogonal for every V, and Q_0 where V = 0 (Helfrich, Willmott & Ye 2018)."""

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

    "cayley" is ``Cayley`` above, the cheapest; "torch_cayley", "matrix_exp" and "householder" are the maps of
    ``torch.nn.utils.parametrizations.orthogonal``. Raises ``ValueError`` unless W_hh is orthogonal to begin with.
    """
    check_choice("map", map, MAPS)
    W_hh = model.W_hh.weight.detach()
    if (off := orthogonality_error(W_hh).max()) > 1e-4:
        raise ValueError(f"W_hh: expected an orthogonal matrix, WᵀW = I to 1e-4, got {off:.2g}; initialize_ it first")
    if map == "cayley":
        parametrize.register_parametrization(model.W_hh, "weight", Cayley(W_hh))
    else:
        parametrizations.orthogonal(model.W_hh, "weight", orthogonal_map=map.removeprefix("torch_"))
    return model


def orthogonality_error(W):
    """The largest entry of |WᵀW - I|: (..., n, n) -> (...)."""
    return (W.mT @ W - torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)).abs().amax(dim=(-2, -1))
