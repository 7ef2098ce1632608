"""How gradients fare on their way back through time (notebook 04).

One step of h_t = φ(W_xh x_t + b_h + W_hh h_{t-1}) has the Jacobian

    J_t = ∂h_t/∂h_{t-1} = diag(φ'(a_t)) W_hh,

and ∂h_T/∂h_t is the product J_T J_{T-1} ... J_{t+1}. Its norm is at most (max φ' · σ)^(T-t), σ the largest singular value of
W_hh (Pascanu, Mikolov & Bengio 2013). What it comes to is told by the largest Lyapunov exponent, its mean logarithmic growth a
step. Products are kept as a matrix of entries up to 1 and the logarithm of a scale: they neither overflow nor underflow.
"""

import torch
from torch import nn

from rnncourse.arguments import check_choice, check_whole
from rnncourse.bptt import NONLINEARITIES
from rnncourse.recurrence import VanillaRNN
from rnncourse.training import Together, WithReadout

SLOPE = {  # φ'(a_t) from h_t = φ(a_t)
    "tanh": lambda h: 1 - h * h,
    "relu": lambda h: (h > 0).to(h.dtype),
    "linear": torch.ones_like,
}


@torch.no_grad()
def bare_rnn(W_hh, nonlinearity="tanh"):
    """A ``VanillaRNN`` with nothing but W_hh (n, n): W_xh = W_hy = I, no biases, so that x_t goes straight into the units and
    the outputs are the states: h_t = φ(x_t + W_hh h_{t-1}). W_hh (models, n, n) makes several.
    """
    _check_square("W_hh", W_hh)
    if W_hh.dim() > 3:
        raise ValueError(f"W_hh: expected (n, n) or (models, n, n), got {tuple(W_hh.shape)}")
    n, seeds = W_hh.shape[-1], None if W_hh.dim() == 2 else range(len(W_hh))
    model = VanillaRNN(n, n, n, nonlinearity, seeds, dtype=W_hh.dtype, device=W_hh.device)
    model.W_hh.weight.copy_(W_hh)
    for layer in (model.W_xh, model.W_hy):
        layer.weight.copy_(torch.eye(n))
        layer.bias.zero_()
    return model


def state_gradients(model, x, loss, cell=False):
    """dL/dh_t for every t, shape (batch, T, hidden): the total derivative of ``loss(outputs)`` by each state.

    ``model`` is a ``VanillaRNN`` (whose engine has them at hand), a ``WithReadout``, a bare ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``
    with batch_first, or any module that maps (x, state) to (outputs, state) and reads its outputs from the very tensor that it
    returns as its state. All but the first run a step at a time, since a layer does not hand out what flows between its steps.
    Of stacked layers, the top one counts. ``cell=True`` gives dL/dc_t of an LSTM's cell, by way of h_t = o_t tanh(c_t) too (and
    NaN where c_t is exactly 0, since h_t = 0 does not tell o_t).
    ``loss`` returns one number, or one a model. The model is left as it was: its parameters' ``.grad``, its flags, the dL/dh_t
    of its own last backward pass.
    """
    if not x.is_floating_point():
        raise TypeError(f"x: expected floating-point numbers, which have a gradient, got {x.dtype}")
    x = x.detach().requires_grad_()  # so that a gradient flows even where every parameter is frozen
    if isinstance(model, VanillaRNN) and not cell:
        return _engine_gradients(model, x, loss)
    layer, readout = (model.layer, model.readout) if isinstance(model, WithReadout) else (model, nn.Identity())
    if cell and not (isinstance(layer, nn.LSTM) and layer.proj_size == 0):
        raise ValueError(f"cell: expected an LSTM, without projections, got {type(layer).__name__}")
    if isinstance(model, Together):
        raise ValueError("model: expected one model, got several together: hand over one of model.models")
    library = isinstance(layer, nn.RNNBase)
    if library and (not layer.batch_first or layer.bidirectional):
        raise ValueError(f"model: expected batch_first=True and one direction, got {layer}")
    if x.dim() < 3 or x.shape[-2] == 0:
        raise ValueError(
            f"x: expected shape (batch, seq_len, input_size) with seq_len of 1 or more, got {tuple(x.shape)}"
        )
    outputs, h, c, state = [], [], [], None
    with torch.enable_grad():
        for x_t in x.split(1, dim=-2):
            y_t, state = layer(x_t, state)
            h.append(state[0] if isinstance(state, tuple) else state)
            c += [state[1]] if cell else []
            if library:
                y_t = readout(h[-1][-1].unsqueeze(1))  # the same values, read from the state, so that the gradient passes it
            outputs.append(y_t)
        total = _one_number(loss(torch.cat(outputs, dim=-2)))
    grads = torch.autograd.grad(total, h + c, materialize_grads=True)
    h, c, dL_dh, dL_dc = (
        torch.stack([v[-1] if library else v for v in steps], dim=-2) if steps else None
        for steps in (h, c, grads[: len(h)], grads[len(h) :])
    )
    if not cell:
        return dL_dh
    o = h.detach() / c.detach().tanh()
    return dL_dc + dL_dh * o * (1 - c.detach().tanh() ** 2)  # through c_{t+1}, and through h_t = o_t tanh(c_t)


def _engine_gradients(model, x, loss):
    """``state_gradients`` of a ``VanillaRNN``: one backward pass of the engine, which keeps dL/dh_t."""
    was = model.keep_dL_dh, model.engine, model._kept
    model.keep_dL_dh, model.engine, model._kept = True, "bptt", {}
    try:
        with torch.enable_grad():
            total = _one_number(loss(model(x)[0]), model.seeds)
        torch.autograd.grad(total, x)
        return model.dL_dh
    finally:
        model.keep_dL_dh, model.engine, model._kept = was


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

    Returns (P, log_scale): P (..., T, n, n), the largest entry of each ±1, and log_scale (..., T): ∂h_T/∂h_{T-k} is
    P · exp(log_scale), both at index k - 1. A product that is exactly zero has P = 0 and log_scale -inf.
    """
    _check_jacobians(J)
    P = torch.eye(J.shape[-1], dtype=J.dtype, device=J.device).expand(*J.shape[:-3], -1, -1)
    log_scale = J.new_zeros(J.shape[:-3])
    products, scales = [], []
    for J_t in reversed(J.unbind(-3)):
        P = P @ J_t
        largest = P.abs().amax(dim=(-2, -1))  # no squares, which leave the range early
        P = P / torch.where(largest > 0, largest, 1)[..., None, None]
        log_scale = log_scale + largest.log()
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


def log_norm_bound(W_hh, lags):
    """log (max φ' · σ)^k, the bound on log ‖∂h_T/∂h_{T-k}‖, for each lag k: max φ' is 1 for tanh, ReLU and linear.

    W_hh (..., n, n), lags (k,) -> (..., k).
    """
    _check_square("W_hh", W_hh)
    sigma = spectral_norm(W_hh)
    return torch.as_tensor(lags, dtype=sigma.dtype, device=sigma.device) * sigma.log().unsqueeze(-1)


def lyapunov_exponents(J, warmup=0, count=None):
    """Lyapunov exponents of the product of J (..., T, n, n), largest first, and how they settle (Benettin et al. 1980).

    An orthonormal frame is sent through the Jacobians and made orthonormal again at every step, J_t Q = Q' R; the mean of
    log |R_ii| tends to exponent i. Returns running means (..., T - warmup, n): the last row is the estimate, its difference
    from rows before it says how far to trust it. The first ``warmup`` steps turn the frame, which starts in random directions
    (always the same), and are not counted. ``count`` asks for the largest exponents alone, (..., T - warmup, count), which is
    faster.
    """
    _check_jacobians(J)
    T, n = J.shape[-3], J.shape[-1]
    check_whole("warmup", warmup, 0)
    if warmup >= T:
        raise ValueError(f"warmup: expected 0 to {T - 1}, fewer than the {T} steps, got {warmup}")
    if count is not None and count not in range(1, n + 1):
        raise ValueError(f"count: expected 1 to {n}, the size of J, or None for all, got {count!r}")
    if count is not None:
        check_whole("count", count)  # 2.0 is in the range
    start = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    Q = torch.linalg.qr(start[:, :count]).Q.to(J)
    growth = []
    for J_t in J.unbind(-3):
        Q, R = torch.linalg.qr(J_t @ Q)
        growth.append(R)
    growth = torch.stack(growth[warmup:], dim=-3).diagonal(dim1=-2, dim2=-1).abs().log()
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
    check_whole("first", first, 0)
    check_whole("last", last, 0)
    if not first < last < T:
        raise ValueError(f"first and last: expected lags with 0 <= first < last < {T}, got {first} and {last}")
    lags = torch.arange(first, last + 1, dtype=norms.dtype, device=norms.device)
    logs = norms.flip(-1)[..., first : last + 1].log()
    centred = lags - lags.mean()
    return (logs * centred).sum(-1) / (centred * centred).sum()


def _one_number(loss, models=None):
    """A loss as one number, summed over independent models if there are several."""
    if loss.dim() != 0 and (models is None or loss.shape != (len(models),)):
        raise ValueError(f"loss: expected one number, or one a model, got shape {tuple(loss.shape)}")
    return loss.sum()


def _check_square(name, W):
    if W.dim() < 2 or W.shape[-1] != W.shape[-2] or W.shape[-1] == 0:
        raise ValueError(f"{name}: expected a square matrix (..., n, n), got shape {tuple(W.shape)}")
    # W.isfinite().all() says the same and takes seven times as long: an explorer asks at every move
    if W.numel() and not torch.stack(torch.aminmax(W.detach())).isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")


def _check_jacobians(J):
    if J.dim() < 3 or J.shape[-3] == 0:
        raise ValueError(f"J: expected Jacobians (..., T, n, n) with T of 1 or more, got shape {tuple(J.shape)}")
    _check_square("J", J)
