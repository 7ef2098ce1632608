"""Backpropagation through time, written by hand: the engine under every model of the course (notebook 03).

Forward, for t = 1 ... T, with φ = tanh, ReLU or the identity ("linear"):

    a_t = W_xh x_t + b_h + W_hh h_{t-1},    h_t = φ(a_t)

Backward, for t = T ... 1. The total derivative of the loss by a state has an immediate part, ∂⁺L/∂h_t, through the
output at t alone, and a part through every later state (Werbos 1990; Pascanu, Mikolov & Bengio 2013, eqs. 3-5):

    dL/dh_t = ∂⁺L/∂h_t + W_hhᵀ dL/da_{t+1}      (nothing flows into T from later)
    dL/da_t = φ'(a_t) ⊙ dL/dh_t                 (tanh' = 1 - h_t²)
    dL/dW_hh = Σ_t dL/da_t h_{t-1}ᵀ,    dL/dW_xh = Σ_t dL/da_t x_tᵀ,    dL/db_h = Σ_t dL/da_t
"""

import torch

from rnncourse.arguments import check_choice, check_whole

NONLINEARITIES = ("tanh", "relu", "linear")


class Unroll(torch.autograd.Function):
    """The recurrence over a whole sequence, and its backward pass. Call it through ``unroll``.

    Inside, time comes first: one buffer ``h`` of shape (T + 1, [models,] batch, hidden) holds h_0 ... h_T, and ``unbind``
    gives a view a step, made once, so that each step is one matrix product and one nonlinearity, both in place.
    """

    @staticmethod
    def forward(ctx, x, h_0, W_xh, b_h, W_hh, nonlinearity, keep):
        T = x.shape[-2]
        h = x.new_empty(T + 1, *h_0.shape)
        h[0] = h_0
        if W_hh.dim() == 2:  # the input's share of every a_t, in one product: for one model straight into its place
            torch.addmm(b_h, time_first(x).flatten(0, 1), W_xh.mT, out=h[1:].flatten(0, 1))
        else:
            a = torch.baddbmm(b_h.unsqueeze(-2), x.flatten(-3, -2), W_xh.mT)  # (models, batch * T, hidden)
            h[1:] = time_first(a.unflatten(-2, x.shape[-3:-1]))
        W_hh_T = W_hh.mT
        add_product_ = torch.Tensor.addmm_ if W_hh.dim() == 2 else torch.Tensor.baddbmm_
        apply_ = {"tanh": torch.Tensor.tanh_, "relu": torch.Tensor.relu_, "linear": lambda a: a}[nonlinearity]
        h_prev, *steps = h.unbind(0)
        for h_t in steps:
            apply_(add_product_(h_t, h_prev, W_hh_T))  # a_t = W_xh x_t + b_h + W_hh h_{t-1}; h_t = φ(a_t)
            h_prev = h_t
        ctx.save_for_backward(x, h, W_xh, W_hh)
        ctx.nonlinearity, ctx.keep = nonlinearity, keep
        return batch_first(h[1:])

    @staticmethod
    def backward(ctx, dL_dh_immediate):
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "the engine has no second derivatives (create_graph=True): its backward pass is written once, by hand. "
                'Use the loop instead: VanillaRNN(..., engine="loop").'
            )
        if ctx.keep is not None:
            ctx.keep.pop("dL_dh", None)  # of the last backward pass: its memory is free for this one
        x, h, W_xh, W_hh = ctx.saved_tensors
        # ∂⁺L/∂h_t in a buffer of its own, time first; dL/dh_t takes its place, step by step
        dL_dh = time_first(dL_dh_immediate).clone(memory_format=torch.contiguous_format)
        slope = {  # φ'(a_t) for all steps at once, from h_t = φ(a_t)
            "tanh": lambda: torch.addcmul(h.new_ones(()), h[1:], h[1:], value=-1),
            "relu": lambda: (h[1:] > 0).to(h.dtype),
            "linear": lambda: torch.ones_like(h[1:]),
        }[ctx.nonlinearity]()
        dL_da = slope  # and dL/da_t that of φ'(a_t)
        add_product_ = torch.Tensor.addmm_ if W_hh.dim() == 2 else torch.Tensor.baddbmm_

        dh_t, *dh_earlier = reversed(dL_dh.unbind(0))
        da_t, *slopes = reversed(slope.unbind(0))
        da_t.mul_(dh_t)
        for dh_t, slope_t in zip(dh_earlier, slopes):
            add_product_(dh_t, da_t, W_hh)  # dL/dh_t = ∂⁺L/∂h_t + W_hhᵀ dL/da_{t+1}
            da_t = slope_t.mul_(dh_t)  # dL/da_t = φ'(a_t) ⊙ dL/dh_t
        if ctx.keep is not None:
            ctx.keep["dL_dh"] = batch_first(dL_dh)

        dL_dh_0 = da_t @ W_hh if ctx.needs_input_grad[1] else None
        # every step of every sequence in one product each, of matrices ([models,] T * batch, n)
        T, batch = x.shape[-2], x.shape[-3]
        dL_da, x, h_prev = (v.movedim(0, -3).flatten(-3, -2) for v in (dL_da, time_first(x), h[:-1]))
        dL_dx = (dL_da @ W_xh).unflatten(-2, (T, batch)).movedim(-3, -2) if ctx.needs_input_grad[0] else None
        # Σ_t dL/da_t x_tᵀ, transposed twice: a product of few columns is slow where it sums over many rows
        dL_dW_xh = (x.mT @ dL_da).mT if ctx.needs_input_grad[2] else None
        dL_db_h = dL_da.sum(dim=-2) if ctx.needs_input_grad[3] else None
        dL_dW_hh = dL_da.mT @ h_prev if ctx.needs_input_grad[4] else None
        return dL_dx, dL_dh_0, dL_dW_xh, dL_db_h, dL_dW_hh, None, None


def unroll(x, h_0, W_xh, b_h, W_hh, nonlinearity="tanh", keep=None):
    """The states h_1 ... h_T of h_t = φ(W_xh x_t + b_h + W_hh h_{t-1}), differentiable once, by hand.

    Shapes: x (batch, T, input), h_0 (batch, hidden), W_xh (hidden, input), b_h (hidden), W_hh (hidden, hidden); returns
    (batch, T, hidden). All of them may carry one more leading axis of S independent models, trained in one call.
    ``keep``, a dict, receives ``keep["dL_dh"]`` in the backward pass: dL/dh_t of every step, of the returned shape.
    Raises ``ValueError`` on shapes that do not fit and on an unknown nonlinearity, ``TypeError`` on mixed dtypes.
    """
    check_recurrence(x, h_0, W_xh, b_h, W_hh, nonlinearity)
    return Unroll.apply(x, h_0, W_xh, b_h, W_hh, nonlinearity, keep)


def check_recurrence(x, h_0, W_xh, b_h, W_hh, nonlinearity):
    """Raise ``ValueError`` or ``TypeError``, saying what came and what was expected, if ``unroll`` can't run on these."""
    check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
    for name, tensor in (("x", x), ("h_0", h_0), ("W_xh", W_xh), ("b_h", b_h), ("W_hh", W_hh)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"x: expected floating-point numbers, got {x.dtype}")
    if W_xh.dim() < 2 or W_xh.numel() == 0:
        raise ValueError(f"W_xh: expected (hidden, input) or (models, hidden, input), got {tuple(W_xh.shape)}")
    hidden, input_size = W_xh.shape[-2:]
    models = tuple(W_hh.shape[:-2])
    if len(models) > 1:
        raise ValueError(f"W_hh: expected (hidden, hidden) or (models, hidden, hidden), got {tuple(W_hh.shape)}")
    if x.dim() != 3 + len(models) or x.shape[-1] != input_size or x.shape[: len(models)] != models:
        expected = ", ".join([*map(str, models), "batch", "seq_len", str(input_size)])
        raise ValueError(f"x: expected shape ({expected}), got {tuple(x.shape)}")
    if x.shape[-2] == 0 or x.shape[-3] == 0:
        raise ValueError(f"x: expected at least one sequence of at least one step, got shape {tuple(x.shape)}")
    batch = x.shape[-3]
    for name, tensor, shape in (
        ("h_0", h_0, (*models, batch, hidden)),
        ("W_xh", W_xh, (*models, hidden, input_size)),
        ("b_h", b_h, (*models, hidden)),
        ("W_hh", W_hh, (*models, hidden, hidden)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != x.dtype:
            raise TypeError(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")


def chunks(model, x, y, length, carry=True):
    """Run ``model`` over x, ``length`` steps at a time, for truncated BPTT (Williams & Peng 1990): yields (outputs, y) a chunk.

    Call ``backward`` on each chunk's loss before you ask for the next: gradients stop at the chunk's first step. The state is
    carried on, cut from the graph by ``detach``, or starts from zero in each chunk where ``carry`` is False. y has a target
    for every step, along the axis that follows the batch.
    """
    check_whole("length", length)
    length, lead = int(length), x.dim() - 2  # lead: the axes before time
    if lead < 1:
        raise ValueError(f"x: expected shape (batch, seq_len, input_size), got {tuple(x.shape)}")
    if y.dim() <= lead or y.shape[lead] != x.shape[-2]:
        raise ValueError(f"y: expected a target for each of the {x.shape[-2]} steps of x, got shape {tuple(y.shape)}")
    h = None
    for x_chunk, y_chunk in zip(x.split(length, dim=-2), y.split(length, dim=lead)):
        outputs, h = model(x_chunk, cut(h) if carry else None)
        yield outputs, y_chunk


def cut(state):
    """A state without its graph: a tensor, None, or a tuple of states as LSTMs have. NaN, of a model that has diverged, is 0."""
    if state is None or isinstance(state, tuple):
        return state and tuple(map(cut, state))
    return torch.where(state.isnan(), 0.0, state.detach())


def time_first(x):
    """(batch, T, n) -> (T, batch, n), or (models, batch, T, n) -> (T, models, batch, n)."""
    return x.movedim(-2, 0)


def batch_first(x):
    """The way back from ``time_first``."""
    return x.movedim(0, -2)
