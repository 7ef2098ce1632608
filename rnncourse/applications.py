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
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from rnncourse.arguments import check_positive, check_whole
from rnncourse.recurrence import VanillaRNN, check_sequence, check_state
from rnncourse.sequences import one_hot
from rnncourse.training import progress_bar

# ---------------------------------------------------------------- characters, one at a time


class CharacterRNN(VanillaRNN):
    """A ``VanillaRNN`` that reads characters as numbers: x (batch, seq_len) -> outputs (batch, seq_len, characters), h_final.

    Each character is a column of W_xh, as a one-hot vector would pick it. A column comes in alone, so W_xh starts in U(-1, 1), to
    be heard beside the state. With ``embedding=n`` a character is first a row of a table E of n numbers, and W_xh starts as usual.
    ``forward`` is the formula, ``backpropagate`` the same thing made for training: forward and backward in one, without a graph.
    """

    def __init__(self, characters, hidden_size, embedding=None):
        self.embedding = embedding  # first: making the layers calls reset_parameters
        super().__init__(characters if embedding is None else embedding, hidden_size, characters)
        self.E = None if embedding is None else nn.Parameter(torch.randn(characters, embedding))
        self._memory = {}  # what ``backpropagate`` computes in, kept from one call to the next: fresh memory costs more than the sums

    @torch.no_grad()
    def reset_parameters(self):
        """Draw every parameter anew: W_xh, without a table, from U(-1, 1), the table from N(0, 1), the rest as a ``VanillaRNN``'s."""
        super().reset_parameters()
        if self.embedding is None:
            self.W_xh.weight.uniform_(-1, 1)
        elif hasattr(self, "E"):
            self.E.normal_()

    def forward(self, x, h_prev=None):
        check_characters("x", x, x, 0, self.output_size)
        x = one_hot(x, self.output_size).to(self.W_xh.weight) if self.E is None else self.E[x]
        return super().forward(x, h_prev)

    @torch.no_grad()
    def backpropagate(self, x, y, h_prev=None, mean=True):
        """The cross-entropy (nats) of the characters y that follow x, both (batch, seq_len), -1 in y where nothing is asked.

        It is the mean over what is asked, or with ``mean=False`` the sum. Leaves its gradient in every parameter's ``grad``, in
        the place of what was there, as ``backward`` would; returns loss, h_final and dL/dh_0. A large batch is taken in parts,
        each small enough for the processor's cache.
        """
        check_characters("x", x, x, 0, self.output_size)
        check_characters("y", y, x, -1, self.output_size)
        W_xh, W_hh, W_hy, b_y = self.W_xh.weight, self.W_hh.weight, self.W_hy.weight, self.W_hy.bias
        h_prev = W_hh.new_zeros(len(x), self.hidden_size) if h_prev is None else h_prev
        check_state(h_prev, (len(x), self.hidden_size), W_hh.dtype)
        E_W_xh = W_xh.mT if self.E is None else self.E @ W_xh.mT
        columns = torch.add(E_W_xh, self.W_xh.bias, out=W_xh.new_empty(E_W_xh.shape))  # (characters, hidden)
        rows = max(1, 8192 // x.shape[1])
        done = [
            loss_and_gradients(*part, columns, W_hh, W_hy, b_y, self._memory)
            for part in zip(x.split(rows), y.split(rows), h_prev.split(rows))
        ]
        if len(done) == 1:
            loss, h, dL_dh_0, *gradients = done[0]
        else:
            losses, h, dL_dh_0, *gradients = zip(*done)
            loss, h, dL_dh_0 = sum(losses), torch.cat(h), torch.cat(dL_dh_0)
            gradients = [torch.stack(parts).sum(dim=0) for parts in gradients]
        if mean:
            asked = y.numel() if y.min() >= 0 else int((y >= 0).sum())
            loss, dL_dh_0, *gradients = torch._foreach_div([loss, dL_dh_0, *gradients], asked)
        dL_dcolumns, W_hh.grad, W_hy.grad, b_y.grad = gradients
        self.W_xh.bias.grad = dL_dcolumns.sum(dim=0)
        if self.E is None:
            W_xh.grad = dL_dcolumns.mT.contiguous()
        else:
            W_xh.grad, self.E.grad = dL_dcolumns.mT @ self.E, dL_dcolumns @ W_xh
        return loss, h, dL_dh_0


def loss_and_gradients(x, y, h_0, columns, W_hh, W_hy, b_y, memory):
    """The summed loss over a part of a batch, its last states, and the gradients, as notebook 03 derives them.

    columns (characters, hidden): W_xh x + b_h for every character x, looked up where other networks multiply.
    """
    (B, T), (V, H) = x.shape, columns.shape
    x, y = x.mT.flatten(), y.mT.flatten()  # time first: (T * batch,)
    states, h = room(memory, "states", T, B, H, columns)
    slope, slopes = room(memory, "slope", T, B, H, columns)
    dL_da, da = room(memory, "dL_da", T, B, H, columns)
    log_p, _ = room(memory, "log_p", T, B, V, columns)

    torch.index_select(columns, 0, x, out=states)
    h_prev, W_hh_T = h_0, W_hh.mT
    for h_t in h:
        h_prev = h_t.addmm_(h_prev, W_hh_T).tanh_()  # h_t = tanh(W_xh x_t + b_h + W_hh h_{t-1})

    torch.log_softmax(torch.addmm(b_y, states, W_hy.mT, out=log_p), 1, out=log_p)
    unasked = y < 0 if y.min() < 0 else None
    right = torch.arange(0, len(y) * V, V, device=y.device)
    right += y if unasked is None else y.clamp(min=0)  # where log_p holds log p(y_t)
    log_p_y = log_p.take(right)
    dL_dy = log_p.exp_().put_(right, log_p_y.exp() - 1)  # softmax minus one-hot
    if unasked is not None:
        log_p_y.masked_fill_(unasked, 0.0)
        dL_dy.masked_fill_(unasked.unsqueeze(1), 0.0)

    torch.mm(dL_dy, W_hy, out=dL_da)  # ∂⁺L/∂h_t of every t; becomes dL/da_t, step by step
    torch.addcmul(columns.new_ones(()), states, states, value=-1, out=slope)  # tanh'(a_t) = 1 - h_t²
    da_t = da[-1].mul_(slopes[-1])
    for dh_t, slope_t in zip(da[-2::-1], slopes[-2::-1]):
        da_t = dh_t.addmm_(da_t, W_hh).mul_(slope_t)  # dL/da_t = (1 - h_t²) ⊙ (∂⁺L/∂h_t + W_hhᵀ dL/da_{t+1})
    dL_dcolumns = torch.zeros_like(columns).index_add_(0, x, dL_da)
    dL_dW_hh = (da_t.mT @ h_0).addmm_(dL_da[B:].mT, states[:-B])
    return -log_p_y.sum(), h_prev.clone(), da_t @ W_hh, dL_dcolumns, dL_dW_hh, dL_dy.mT @ states, dL_dy.sum(dim=0)


def room(memory, name, T, B, columns, like):
    """A matrix (T * batch, columns) to compute in, and its rows step by step: those in ``memory`` if they fit.

    Fresh memory, and fresh views of it, cost a small network more than its sums. Of the dtype and on the device of ``like``.
    """
    kind, size = (T, B, columns, like.dtype, like.device), T * B * columns
    held = memory.get(name)
    if held is None or held[0] != kind:
        fits = held is not None and held[0][3:] == kind[3:] and held[1].numel() >= size
        flat = held[1] if fits else like.new_empty(size)
        matrix = flat[:size].view(T * B, columns)
        held = memory[name] = kind, flat, matrix, matrix.view(T, B, columns).unbind(0)
    return held[2:]


def train_characters(
    model, numbers, steps, *, batch_size=32, chunk=25, lr=3e-3, clip_norm=1.0, seed=0, held_out=None, progress=True
):
    """Train ``model`` on a text, a tensor of characters' numbers; returns the loss (bits a character) of every step.

    The text is cut into ``batch_size`` streams, read side by side, ``chunk`` characters a step; the state is carried on. Adam, its
    rate falling from ``lr`` to 0. With ``held_out``, a second text, the model ends as it was best on that.
    """
    for name, count in {"steps": steps, "batch_size": batch_size, "chunk": chunk}.items():
        check_whole(name, count)
    check_positive("lr", lr)
    check_positive("clip_norm", clip_norm)
    least = batch_size * chunk + chunk + 1
    if len(numbers) < least:
        raise ValueError(f"numbers: expected at least {least} characters for these streams, got {len(numbers)}")
    if held_out is not None and len(held_out) < 32:
        raise ValueError(f"held_out: expected at least 32 characters, 2 in each of 16 streams, got {len(held_out)}")
    generator, parameters = torch.Generator().manual_seed(seed), list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=lr, fused=True)
    losses, best = [], (math.inf, None)
    with progress_bar(progress, total=steps) as bar:
        while len(losses) < steps:
            text = numbers[int(torch.randint(chunk, (), generator=generator)) :]  # so that chunks begin elsewhere in each pass
            x, y = streams(text[:-1], batch_size), streams(text[1:], batch_size)
            h = None
            for x_chunk, y_chunk in list(zip(x.split(chunk, 1), y.split(chunk, 1)))[: steps - len(losses)]:
                loss, h, _ = model.backpropagate(x_chunk, y_chunk, h)
                nn.utils.clip_grad_norm_(parameters, clip_norm)
                adam.param_groups[0]["lr"] = lr * (1 - len(losses) / steps)
                adam.step()
                losses.append(loss.item() / math.log(2))
                bar.update()
                if held_out is not None and len(losses) % max(1, steps // 10) == 0:
                    found = bits(model, streams(held_out, 16)).mean()
                    best = min(best, (found, copy.deepcopy(model.state_dict())), key=lambda pair: pair[0])
    if best[1] is not None:
        model.load_state_dict(best[1])
    return losses


def streams(numbers, count):
    """A text (n,) as ``count`` streams of equal length, (count, n // count); what is left over at the end is dropped."""
    check_whole("count", count)
    if len(numbers) < count:
        raise ValueError(f"numbers: expected at least {count}, one a stream, got {len(numbers)}")
    return numbers[: len(numbers) // count * count].view(count, -1)


@torch.no_grad()
def bits(model, numbers):
    """-log2 p of every character but the first, given all before it: numbers (n,) or (streams, n) -> one less along n."""
    log_p = model(numbers.view(-1, numbers.shape[-1])[:, :-1])[0].log_softmax(dim=-1)
    return -log_p.gather(-1, numbers.view(log_p.shape[0], -1)[:, 1:, None]).view(*numbers.shape[:-1], -1) / math.log(2)


def check_characters(name, numbers, x, least, size):
    """Raise ``ValueError`` or ``TypeError`` unless ``numbers`` are whole, from ``least`` to size - 1, and of the shape of x."""
    if not isinstance(numbers, torch.Tensor) or numbers.dtype != torch.long:
        kind = getattr(numbers, "dtype", type(numbers).__name__)
        raise TypeError(f"{name}: expected a tensor of whole numbers, torch.long, got {kind}")
    if numbers.dim() != 2 or 0 in numbers.shape or numbers.shape != x.shape:
        raise ValueError(f"{name}: expected shape (batch, seq_len), the same for x and y, got {tuple(numbers.shape)}")
    low, high = numbers.aminmax()
    if not least <= low <= high < size:
        raise ValueError(f"{name}: expected numbers from {least} to {size - 1}, got {int(low)} to {int(high)}")
    if high < 0:
        raise ValueError(f"{name}: expected at least one character to be asked for, got -1 everywhere")


class WittenBell:
    """Interpolated n-grams of a text, of orders 1 to ``order`` (Witten & Bell 1991): the strong classic among character models.

        P_k(c | h) = (n(h c) + u(h) P_{k-1}(c | h')) / (n(h) + u(h)),    P_0 = 1 / characters

    n counts occurrences in the text, h is the last k - 1 characters, h' all of them but the first, and u(h) how many different
    characters followed h. After the character ``end`` the context begins anew.
    """

    def __init__(self, numbers, characters, order, end=None):
        check_whole("order", order)
        if (characters + 1) ** order >= 2**63:
            raise ValueError(f"order: expected one whose contexts can be numbered, got {order} for {characters} characters")
        self.characters, self.order, self.end = characters, order, end
        self.tables = []
        for context, follower in self._contexts(numbers):
            seen, n_hc = np.unique(context * characters + follower, return_counts=True)
            contexts, first = np.unique(seen // characters, return_index=True)
            self.tables.append((seen, n_hc, contexts, np.add.reduceat(n_hc, first), np.diff(first, append=len(seen))))

    def _contexts(self, numbers):
        """For each order: the context of every character but the first, as one number, and the characters."""
        numbers = np.asarray(numbers)
        if numbers.ndim != 1 or len(numbers) < 2 or numbers.min() < 0 or numbers.max() >= self.characters:
            raise ValueError(f"numbers: expected two or more, from 0 to {self.characters - 1}, got {numbers!r}")
        places = np.arange(1, len(numbers))
        began = np.maximum.accumulate(np.where(numbers[:-1] == self.end, places - 1, 0))  # the last end, or the first place
        context = np.zeros_like(places)
        for k in range(self.order):
            if k:
                context = context + numbers[np.maximum(places - k, began)] * self.characters ** (k - 1)
            yield context, numbers[1:]

    def probabilities(self, numbers):
        """P_1 ... P_order of every character but the first, given all before it: (n,) -> (order, n - 1)."""
        p, rows = 1 / self.characters, []
        for (context, follower), (seen, n_hc, contexts, n_h, u_h) in zip(self._contexts(numbers), self.tables):
            pair = context * self.characters + follower
            at, at_pair = (np.searchsorted(a, v).clip(max=len(a) - 1) for a, v in ((contexts, context), (seen, pair)))
            n = np.where(seen[at_pair] == pair, n_hc[at_pair], 0)
            p = np.where(contexts[at] == context, (n + u_h[at] * p) / (n_h[at] + u_h[at]), p)
            rows.append(p)
        return np.stack(rows)


@torch.no_grad()
def sample(model, vocabulary, prompt="\n", length=100, temperature=1.0, count=1, seed=0, stop=None):
    """``count`` texts of at most ``length`` characters that go on from ``prompt``, each drawn from softmax(outputs / temperature).

    A text ends before the first ``stop``, where one is given. The same seed gives the same texts.
    """
    check_whole("length", length)
    check_whole("count", count)
    if not prompt:
        raise ValueError("prompt: expected at least one character to go on from, got an empty string")
    if len(vocabulary) != model.output_size:
        raise ValueError(f"vocabulary: expected {model.output_size} characters, as the model has, got {len(vocabulary)}")
    generator = torch.Generator().manual_seed(seed)
    x, h, drawn = vocabulary.encode(prompt).expand(count, -1), None, []
    for _ in range(length):
        outputs, h = model(x, h)
        x = torch.multinomial(soften(outputs[:, -1], temperature), 1, generator=generator)
        drawn.append(x)
    texts = [vocabulary.decode(row) for row in torch.cat(drawn, dim=1)]
    return [text.split(stop)[0] for text in texts] if stop else texts


def soften(outputs, temperature):
    """softmax(outputs / temperature), along the last axis: below 1 the likely becomes likelier, above 1 all come closer."""
    check_positive("temperature", temperature)
    return ((outputs - outputs.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)  # less the largest: none overflows


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
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order  # here: it takes a second, and few need it

    check_whole("max_order", max_order)
    check_whole("train", train, 2 * max_order + 16)
    series, origins = _check_origins(series, origins, horizon, known=train)
    options = {"seasonal": seasonal, "period": 12 if seasonal else None}
    with threadpool_limits(1):  # NumPy's threads cost these small matrices fifty times the work itself
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
    if any(map(parametrize.is_parametrized, model.modules())):
        raise ValueError(f"model: expected free weights, got some that follow from others, as one kept orthogonal:\n{model}")
    for name, W in model.named_parameters():
        if name.rpartition(".")[2].startswith("weight"):  # also nn.RNN's weight_hh_l0
            q, s = quantize_rows(W, bits)
            W.copy_(q * s)
    return model


def export_step(model, path):
    """Write one step of a ``VanillaRNN`` to an ONNX file: inputs x_t and h_prev, outputs y_t and h_t, float32, any batch size.

    The file holds the formula's four operations (ONNX's Gemm with ``transB`` is A Bᵀ + C) and its weights. A file at ``path`` is
    replaced only once the new one is complete. ``OSError`` names a path that can't be written.
    """
    from onnx import TensorProto, checker, helper, numpy_helper  # here: nothing else of the package needs it

    if model.seeds is not None:
        raise ValueError(f"model: expected one model, got {len(model.seeds)}, with seeds={model.seeds}")
    phi = {"tanh": "Tanh", "relu": "Relu", "linear": "Identity"}[model.nonlinearity]
    nodes = [
        helper.make_node("Gemm", ["x_t", "W_xh", "b_h"], ["a_x"], transB=1),  # W_xh x_t + b_h
        helper.make_node("Gemm", ["h_prev", "W_hh", "a_x"], ["a_t"], transB=1),  # ... + W_hh h_{t-1}
        helper.make_node(phi, ["a_t"], ["h_t"]),
        helper.make_node("Gemm", ["h_t", "W_hy", "b_y"], ["y_t"], transB=1),  # W_hy h_t + b_y
    ]
    weights = {"W_xh": model.W_xh.weight, "b_h": model.W_xh.bias, "W_hh": model.W_hh.weight}
    weights |= {"W_hy": model.W_hy.weight, "b_y": model.W_hy.bias}
    sizes = {"x_t": model.input_size, "h_prev": model.hidden_size, "y_t": model.output_size, "h_t": model.hidden_size}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in sizes.items()]
    stored = [numpy_helper.from_array(W.detach().cpu().float().numpy(), name) for name, W in weights.items()]
    graph = helper.make_graph(nodes, "step", inputs=values[:2], outputs=values[2:], initializer=stored)
    with written_whole(path) as part:
        # versions of the format that runtimes since 2022 read
        onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(onnx_model, full_check=True)
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
    except OSError as error:
        raise OSError(f"path: expected a folder that can be written to, got {str(path)!r} ({error.strerror})") from error
    try:
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
