"""Characters, forecasts, streams and edge devices: what the course's network is used for (notebook 07)."""

import contextlib
import copy
import io
import logging
import math
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from statsmodels.tsa.ar_model import AutoReg, ar_select_order
from torch import nn
from torch.nn import functional as F

from rnncourse.arguments import check_whole
from rnncourse.recurrence import PHI, check_sequence

# ---------------------------------------------------------------- characters, one at a time


# ---------------------------------------------------------------- forecasting


def rolling_origins(series, held_out, horizon):
    """The origins t, last months that a forecast knows, from which t+1 ... t+horizon all lie in the last ``held_out`` values."""
    n = len(_check_series(series))
    check_whole("horizon", horizon)
    check_whole("held_out", held_out, horizon)
    if held_out >= n:
        raise ValueError(f"held_out: expected fewer than the {n} values of the series, got {held_out}")
    return np.arange(n - held_out - 1, n - horizon)


def ahead(series, origins, horizon):
    """What came: the ``horizon`` values after each origin, (origins, horizon)."""
    series, origins = _check_origins(series, origins, horizon)
    return series[origins[:, None] + np.arange(1, horizon + 1)]


def persistence(series, origins, horizon):
    """Everything stays as it is: the value at the origin, for every month ahead, (origins, horizon)."""
    series, origins = _check_origins(series, origins, horizon)
    return series[origins, None].repeat(horizon, axis=1)


def seasonal_naive(series, origins, horizon, period=12, drift=False):
    """The last known value of the same month, (origins, horizon); with ``drift``, plus what the last ``period`` added."""
    check_whole("period", period)
    series, origins = _check_origins(series, origins, horizon, known=period + 1)
    months = np.arange(1, horizon + 1)
    periods = -(-months // period)  # whole periods to go back, rounded up: the month must be known at the origin
    change = (series[origins] - series[origins - period])[:, None] * periods
    return series[origins[:, None] + months - period * periods] + (change if drift else 0)


def ar_forecast(series, origins, horizon, train, seasonal=False, max_order=36):
    """Autoregression on the last p values, iterated: forecasts (origins, horizon), and p, the order of least AIC up to ``max_order``.

    Order and weights are fitted once, on the first ``train`` values. ``seasonal`` adds a constant for each of 12 months.
    """
    check_whole("max_order", max_order)
    check_whole("train", train, 2 * max_order + 16)
    series, origins = _check_origins(series, origins, horizon, known=train)
    options = {"seasonal": seasonal, "period": 12 if seasonal else None}
    lags = ar_select_order(series[:train], max_order, ic="aic", **options).ar_lags
    weights = AutoReg(series[:train], lags, **options).fit().params
    model = AutoReg(series, lags, **options)  # never fitted: it reads off, at each origin, the values up to there
    paths = [model.predict(weights, start=t + 1, end=t + horizon, dynamic=0) for t in origins]
    return np.stack(paths), 0 if lags is None else len(lags)


def interval_width(errors, coverage=0.9):
    """Half the width of an interval around forecasts, by horizon: errors (..., origins, horizon) -> (..., horizon).

    The ⌈(m + 1) coverage⌉-th smallest of m absolute errors at earlier origins: split conformal prediction.
    """
    errors = np.asarray(errors, dtype=float)
    if errors.ndim < 2 or not np.isfinite(errors).all():
        raise ValueError(f"errors: expected finite numbers (..., origins, horizon), got shape {errors.shape}")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage: expected a share between 0 and 1, got {coverage!r}")
    m = errors.shape[-2]
    rank = math.ceil((m + 1) * coverage)
    if rank > m:
        raise ValueError(f"errors: expected more than {m} origins for a coverage of {coverage:g}; rank {rank} is asked")
    return np.sort(np.abs(errors), axis=-2)[..., rank - 1, :]


def _check_series(series):
    series = np.asarray(series)
    if series.ndim != 1 or len(series) < 2 or series.dtype.kind not in "iuf":
        raise ValueError(f"series: expected two or more real numbers, (n,), got shape {series.shape} of {series.dtype}")
    if gaps := int((~np.isfinite(series)).sum()):
        raise ValueError(f"series: expected finite numbers, got NaN or infinity in {gaps} places; fill the gaps first")
    return series.astype(float)


def _check_origins(series, origins, horizon, known=1):
    """Both as arrays, if every origin has ``known`` values up to it and ``horizon`` after it."""
    series, origins = _check_series(series), np.asarray(origins)
    check_whole("horizon", horizon)
    check_whole("known", known)
    if origins.ndim != 1 or len(origins) == 0 or origins.dtype.kind not in "iu":
        raise ValueError(f"origins: expected whole numbers, (m,), got shape {origins.shape} of {origins.dtype}")
    low, high = known - 1, len(series) - 1 - horizon
    if not low <= origins.min() <= origins.max() <= high:
        raise ValueError(
            f"origins: expected {low} to {high}, with {known} values up to each and {horizon} after it in a series of "
            f"{len(series)}, got {origins.min()} to {origins.max()}"
        )
    return series, origins


# ---------------------------------------------------------------- streaming, and devices at the edge


class CachedAttention(nn.Module):
    """One layer of causal self-attention (one head of Vaswani et al. 2017), called as a ``VanillaRNN`` is: x -> (outputs, state).

        e_t = W_xe x_t + b_e,    q_t, k_t, v_t = W_q e_t, W_k e_t, W_v e_t
        c_t = Σ_{s≤t} a_ts v_s,  a_ts = softmax over s of q_t·k_s / √width,    y_t = W_ey (e_t + c_t) + b_y

    Its state is a ``Cache`` of k_1 ... k_t and v_1 ... v_t. Given it, a stream goes on.
    """

    def __init__(self, input_size, width, output_size, dtype=None):
        super().__init__()
        for name, size in (("input_size", input_size), ("width", width), ("output_size", output_size)):
            check_whole(name, size)
        self.input_size = input_size
        self.W_xe = nn.Linear(input_size, width, dtype=dtype)
        self.W_qkv = nn.Linear(width, 3 * width, bias=False, dtype=dtype)
        self.W_ey = nn.Linear(width, output_size, dtype=dtype)

    def forward(self, x, state=None):
        """x (batch, seq_len, input_size), the cache of a stream or None at its start -> (outputs, cache)."""
        check_sequence(x, self.input_size, self.W_xe.weight.dtype)
        e = self.W_xe(x)  # (batch, seq_len, width)
        q, k, v = self.W_qkv(e).chunk(3, dim=-1)
        if state is None:
            state = Cache(k, v)
        else:
            k, v = state.append(k, v)  # (batch, t, width) each
        T, t = x.shape[1], k.shape[1]
        seen = torch.ones(T, t, dtype=torch.bool, device=x.device).tril(t - T)  # s ≤ t
        c = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], seen)[:, 0]  # of one head
        return self.W_ey(e + c), state


class Cache:
    """The keys and values of a stream's t steps so far, without gradient. It grows in place: its room doubles when it is full."""

    def __init__(self, k, v):
        self.t, self.room = k.shape[1], torch.stack([k, v]).detach()  # (2, batch, t or more, width)

    def append(self, k, v):
        """Add k and v (batch, steps, width); returns all keys and all values so far, (batch, t, width) each."""
        if k.shape[0] != self.room.shape[1]:
            raise ValueError(f"state: expected the cache of {k.shape[0]} streams, as in x, got one of {self.room.shape[1]}")
        t, self.t = self.t, self.t + k.shape[1]
        if self.t > self.room.shape[2]:
            old, self.room = self.room, self.room.new_empty(2, len(k), 2 * self.t, k.shape[2])
            self.room[:, :, :t] = old[:, :, :t]
        self.room[:, :, t : self.t] = torch.stack([k, v]).detach()
        return self.room[:, :, : self.t]

    @property
    def nbytes(self):
        """The bytes in use; up to twice as many are reserved."""
        return self.room[:, :, : self.t].nbytes


@torch.no_grad()
def stream(model, x):
    """Feed x (batch, seq_len, input_size) to a model one step at a time: yields (y_t, state) after each."""
    state = None
    for x_t in x.split(1, dim=-2):
        y_t, state = model(x_t, state)
        yield y_t, state


def quantize_rows(W, bits=8):
    """W (..., n, m) as small whole numbers q and a scale for each row, (..., n, 1): W ≈ s·q, to s/2 in each entry.

        s = max|W_i| / (2^(bits-1) - 1),    q = W / s, rounded

    Symmetric: 0 stays 0, and q lies within ±127 for 8 bits. A row of zeros has the scale 1.
    """
    if isinstance(bits, bool) or bits not in range(2, 9):
        raise ValueError(f"bits: expected a whole number from 2 to 8, got {bits!r}")
    if not W.isfinite().all():
        raise ValueError(f"W: expected finite numbers, got {int((~W.isfinite()).sum())} of {W.numel()} that are not")
    s = W.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
    s = torch.where(s > 0, s, 1.0)
    return (W / s).round().to(torch.int8), s


@torch.no_grad()
def with_small_weights(model, bits=8):
    """A copy of a model whose weight matrices are rounded as ``quantize_rows`` does; the biases stay as they are."""
    model = copy.deepcopy(model)
    for name, W in model.named_parameters():
        if name.endswith("weight"):
            q, s = quantize_rows(W, bits)
            W.copy_(q * s)
    return model


class Step(nn.Module):
    """One step of a ``VanillaRNN``, all that a device needs: x_t (batch, input_size), h_{t-1} (batch, hidden_size) -> y_t, h_t."""

    def __init__(self, model):
        super().__init__()
        if model.seeds is not None:
            raise ValueError(f"model: expected one model, got {len(model.seeds)}, with seeds={model.seeds}")
        self.W_xh, self.W_hh, self.W_hy, self.phi = model.W_xh, model.W_hh, model.W_hy, PHI[model.nonlinearity]

    def forward(self, x_t, h_prev):
        h_t = self.phi(self.W_xh(x_t) + self.W_hh(h_prev))
        return self.W_hy(h_t), h_t


def export_step(model, path):
    """Write one step of a ``VanillaRNN`` to an ONNX file: inputs x_t and h_prev, outputs y_t and h_t, float32, any batch size.

    A file at ``path`` is replaced only once the new one is complete. ``OSError`` names a path that can't be written.
    """
    step = Step(copy.deepcopy(model)).float().eval()
    example = torch.zeros(2, model.input_size), torch.zeros(2, model.hidden_size)
    names = {"input_names": ["x_t", "h_prev"], "output_names": ["y_t", "h_t"]}
    with written_whole(path) as part, quiet():
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            step, example, dynamo=True, verbose=False, dynamic_shapes=({0: batch}, {0: batch}), **names
        )
        onnx_model = program.model_proto
        for node in onnx_model.graph.node:
            del node.metadata_props[:]  # where in our source an operation came from: not the device's business
        part.write_bytes(onnx_model.SerializeToString())


@contextlib.contextmanager
def written_whole(path):
    """A file beside ``path`` to write to: it takes the place of ``path`` when the block ends well, and is removed when not."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise OSError(f"path: expected a file in a folder that exists, got {str(path)!r}")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.touch()  # whether this folder can be written to is known before the work begins
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def quiet():
    """Keep what a library prints, logs and warns of in the block from the reader; its errors are raised as ever."""
    level, said = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)




# ---------------------------------------------------------------- agreement over a distance
