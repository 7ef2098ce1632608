"""How gradients fare on their way back through time (notebook 04).

One step of h_t = φ(W_xh x_t + b_h + W_hh h_{t-1}) has the Jacobian

    J_t = ∂h_t/∂h_{t-1} = diag(φ'(a_t)) W_hh,

and ∂h_T/∂h_t is the product J_T J_{T-1} ... J_{t+1}. Its norm is at most (max φ' · σ)^(T-t), σ the largest singular value of
W_hh (Pascanu, Mikolov & Bengio 2013). What it comes to is told by the largest Lyapunov exponent, its mean logarithmic growth a
step. Products are kept as a matrix of norm 1 and the logarithm of a scale: they neither overflow nor underflow.
"""

import torch
from torch import nn

from rnncourse.arguments import check_choice
from rnncourse.bptt import NONLINEARITIES
from rnncourse.recurrence import VanillaRNN
from rnncourse.training import WithReadout

SLOPE = {  # φ'(a_t) from h_t = φ(a_t)
    "tanh": lambda h: 1 - h * h,
    "relu": lambda h: (h > 0).to(h.dtype),
    "linear": torch.ones_like,
}


def state_gradients(model, x, loss, cell=False):
    """dL/dh_t for every t, shape (batch, T, hidden): the total derivative of ``loss(outputs)`` by each state.

    ``model`` is a ``VanillaRNN`` (whose engine has them at hand), a ``WithReadout``, a bare ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``
    with batch_first, or any module that maps (x, state) to (outputs, state) and reads its outputs from the very tensor that it
    returns as its state. All but the first run a step at a time, since a layer does not hand out what flows between its steps.
    Of stacked layers, the top one counts. ``cell=True`` gives dL/dc_t of an LSTM's cell. Parameters' ``.grad`` stays as it was.
    """
    if isinstance(model, VanillaRNN) and not cell:
        kept, model.keep_dL_dh = model.keep_dL_dh, True
        torch.autograd.grad(_one_number(loss(model(x)[0])), list(model.parameters()), allow_unused=True)
        model.keep_dL_dh = kept
        return model.dL_dh
    layer, readout = (model.layer, model.readout) if isinstance(model, WithReadout) else (model, nn.Identity())
    if cell and not isinstance(layer, nn.LSTM):
        raise ValueError(f"cell: expected an LSTM to have one, got {type(layer).__name__}")
    library = isinstance(layer, nn.RNNBase)
    if library and not layer.batch_first:
        raise ValueError(f"model: expected batch_first=True, got {layer}")
    if x.dim() < 3 or x.shape[-2] == 0:
        raise ValueError(
            f"x: expected shape (batch, seq_len, input_size) with seq_len of 1 or more, got {tuple(x.shape)}"
        )
    outputs, watched, state = [], [], None
    for x_t in x.split(1, dim=-2):
        y_t, state = layer(x_t, state)
        h = state[0] if isinstance(state, tuple) else state
        watched.append(state[1] if cell else h)
        if library:
            y_t = readout(h[-1].unsqueeze(1))  # the same values, read from the state, so that the gradient passes it
        outputs.append(y_t)
    grads = torch.autograd.grad(_one_number(loss(torch.cat(outputs, dim=-2))), watched, materialize_grads=True)
    return torch.stack([g[-1] if library else g for g in grads], dim=-2)


def step_jacobians(h, W_hh, nonlinearity="tanh"):
    """J_t = diag(φ'(a_t)) W_hh for every state: h (..., T, hidden), W_hh (..., hidden, hidden) -> (..., T, hidden, hidden).

    φ' comes from h_t = φ(a_t) itself: 1 - h², 1 where h > 0, or 1.
    """
    check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
    _check_square("W_hh", W_hh)
    if h.dim() < 2 or h.shape[-1] != W_hh.shape[-1] or h.shape[-2] == 0:
        raise ValueError(f"h: expected shape (..., T, {W_hh.shape[-1]}) with T of 1 or more, got {tuple(h.shape)}")
    return SLOPE[nonlinearity](h).unsqueeze(-1) * W_hh.unsqueeze(-3)


def jacobian_products(J):
    """∂h_T/∂h_{T-k} for k = 1 ... T, from the step Jacobians J (..., T, n, n).

    Returns (P, log_scale): P (..., T, n, n), each of Frobenius norm 1, and log_scale (..., T); entry k - 1 of the product is
    P · exp(log_scale). A product that is exactly zero has log_scale -inf.
    """
    _check_jacobians(J)
    P = torch.eye(J.shape[-1], dtype=J.dtype, device=J.device).expand(*J.shape[:-3], -1, -1)
    log_scale = J.new_zeros(J.shape[:-3])
    products, scales = [], []
    for J_t in reversed(J.unbind(-3)):
        P = P @ J_t
        norm = torch.linalg.matrix_norm(P)
        P = P / norm.clamp(min=torch.finfo(J.dtype).tiny)[..., None, None]
        log_scale = log_scale + norm.log()
        products.append(P)
        scales.append(log_scale)
    return torch.stack(products, dim=-3), torch.stack(scales, dim=-1)


def log_product_norms(J):
    """log ‖∂h_T/∂h_{T-k}‖ (spectral norm, natural logarithm) for k = 1 ... T: (..., T, n, n) -> (..., T)."""
    P, log_scale = jacobian_products(J)
    return spectral_norm(P).log() + log_scale


def log_singular_values(J):
    """Logarithms of the singular values of ∂h_T/∂h_0 = J_T ... J_1, largest first: (..., T, n, n) -> (..., n).

    Those below the largest by more than the dtype's precision (a factor of 1e16 in float64) drown in rounding.
    """
    P, log_scale = jacobian_products(J)
    return torch.linalg.svdvals(P[..., -1, :, :]).log() + log_scale[..., -1:]


def log_norm_bound(W_hh, lags, max_slope=1.0):
    """log (max φ' · σ)^k, the bound on log ‖∂h_T/∂h_{T-k}‖, for each lag k. φ' is at most 1 for tanh, ReLU and linear.

    W_hh (..., n, n), lags (k,) -> (..., k).
    """
    sigma = spectral_norm(W_hh)
    return torch.as_tensor(lags, dtype=sigma.dtype) * (max_slope * sigma).log().unsqueeze(-1)


def lyapunov_exponents(J, warmup=0):
    """Lyapunov exponents of the product of J (..., T, n, n), largest first, and how they settle (Benettin et al. 1980).

    An orthonormal frame is sent through the Jacobians and made orthonormal again at every step, J_t Q = Q' R; the mean of
    log |R_ii| tends to exponent i. Returns running means (..., T - warmup, n): the last row is the estimate, its difference
    from rows before it says how far to trust it. The first ``warmup`` steps turn the frame and are not counted.
    """
    _check_jacobians(J)
    T = J.shape[-3]
    if not 0 <= warmup < T:
        raise ValueError(f"warmup: expected 0 to {T - 1}, fewer than the {T} steps, got {warmup}")
    Q = torch.eye(J.shape[-1], dtype=J.dtype, device=J.device).expand(*J.shape[:-3], -1, -1)
    growth = []
    for J_t in J.unbind(-3):
        Q, R = torch.linalg.qr(J_t @ Q)
        growth.append(R.diagonal(dim1=-2, dim2=-1).abs().log())
    growth = torch.stack(growth[warmup:], dim=-2)
    return growth.cumsum(dim=-2) / torch.arange(1, T - warmup + 1, dtype=J.dtype, device=J.device).unsqueeze(-1)


def spectral_norm(W):
    """σ, the largest singular value: (..., n, n) -> (...)."""
    _check_square("W", W)
    return torch.linalg.matrix_norm(W, 2)


def spectral_radius(W):
    """ρ, the largest modulus of an eigenvalue: (..., n, n) -> (...). At most σ, and equal to it for a normal matrix."""
    _check_square("W", W)
    return torch.linalg.eigvals(W).abs().amax(dim=-1)


def log_slope(norms, first, last):
    """The mean growth of log norms a step back, fitted by least squares over lags ``first`` to ``last``: (..., T) -> (...).

    ``norms[..., t]`` belongs to step t; lag k is step T - 1 - k. Natural logarithm: -0.5 means a factor of e^-0.5 a step.
    """
    T = norms.shape[-1]
    if not 0 <= first < last < T:
        raise ValueError(f"first and last: expected lags with 0 <= first < last < {T}, got {first} and {last}")
    lags = torch.arange(first, last + 1, dtype=norms.dtype, device=norms.device)
    logs = norms.flip(-1)[..., first : last + 1].log()
    centred = lags - lags.mean()
    return (logs * centred).sum(-1) / (centred * centred).sum()


def _one_number(loss):
    if loss.dim() != 0:
        raise ValueError(f"loss: expected one number, got shape {tuple(loss.shape)}")
    return loss


def _check_square(name, W):
    if W.dim() < 2 or W.shape[-1] != W.shape[-2] or W.shape[-1] == 0:
        raise ValueError(f"{name}: expected a square matrix (..., n, n), got shape {tuple(W.shape)}")
    if not W.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")


def _check_jacobians(J):
    if J.dim() < 3 or J.shape[-3] == 0:
        raise ValueError(f"J: expected Jacobians (..., T, n, n) with T of 1 or more, got shape {tuple(J.shape)}")
    _check_square("J", J)
