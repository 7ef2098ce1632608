"""Watching gradients, and clipping them (notebook 05). For training, use ``train(clip_norm=...)`` or ``torch.nn.utils``."""

import math
from numbers import Real

import pandas as pd
import torch

from rnncourse.arguments import check_finite, check_positive, check_whole


class GradientMonitor:
    """Records the norm of every parameter's gradient, and of dL/dh_t at every step, as they come out of the backward pass.

    ``monitor = GradientMonitor(model)``, then ``train(model, ..., after_step=monitor)``, or ``monitor(step, model)`` after each
    backward pass of a loop of your own. Parameters are read by hooks, before any clipping. The engine of a ``VanillaRNN`` also
    leaves dL/dh_t, at no extra pass. It watches one model, not several seeds at once. ``close()`` takes the hooks off.
    """

    def __init__(self, model):
        if getattr(model, "seeds", None) is not None:
            raise ValueError(f"model: expected one model, got {len(model.seeds)}, with seeds={model.seeds}")
        self.steps, self.rows, self.through_time = [], [], []
        self._norms, self._model = {}, model
        self._hooks = [
            p.register_post_accumulate_grad_hook(lambda p, name=name: self._norms.update({name: p.grad.norm().item()}))
            for name, p in model.named_parameters()
            if p.requires_grad
        ]
        self._kept_before = getattr(model, "keep_dL_dh", None)  # None: no VanillaRNN, there is nothing to keep
        self._has_states = self._kept_before is not None and model.engine == "bptt"
        if self._has_states:
            model.keep_dL_dh = True

    def __call__(self, step, model=None):
        """Take down what the last backward pass left."""
        if not self._norms:
            raise ValueError("no gradient yet: call the monitor once after each backward()")
        self.steps.append(step)
        row = {name: self._norms[name] for name, _ in self._model.named_parameters() if name in self._norms}
        self.rows.append({**row, "all": math.hypot(*row.values())})
        self._norms.clear()
        if self._has_states:
            self.through_time.append(norm_per_step(self._model.dL_dh).cpu())

    def table(self):
        """Norms as a DataFrame: a row a recorded step, a column a parameter, and "all", the norm that clipping compares."""
        return pd.DataFrame(self.rows, index=pd.Index(self.steps, name="step"))

    def profile(self):
        """‖dL/dh_t‖ of every recorded step: a tensor of shape (recorded steps, T)."""
        if not self.through_time:
            raise ValueError("no dL/dh_t recorded: the model is no VanillaRNN on the engine, or the monitor was never called")
        if len(lengths := {len(norms) for norms in self.through_time}) > 1:
            raise ValueError(f"expected sequences of one length at every recorded step, got {sorted(lengths)}: see through_time")
        return torch.stack(self.through_time)

    def close(self):
        """Remove the hooks, and keep dL/dh_t only if it was kept before. What was recorded stays."""
        for hook in self._hooks:
            hook.remove()
        if self._has_states:
            self._model.keep_dL_dh = self._kept_before


def norm_per_step(dL_dh):
    """‖dL/dh_t‖ over the whole batch, for every t: (batch, T, hidden) -> (T,), with models (models, batch, T, hidden) -> (models, T)."""
    if dL_dh.dim() not in (3, 4):
        raise ValueError(
            f"dL_dh: expected shape (batch, T, hidden) or (models, batch, T, hidden), got {tuple(dL_dh.shape)}"
        )
    return torch.linalg.vector_norm(dL_dh, dim=(-3, -1))


def clip_by_norm(gradient, threshold):
    """gradient · min(1, threshold/‖gradient‖): shorter, never turned. (Pascanu, Mikolov & Bengio 2013, algorithm 1.)"""
    check_positive("threshold", threshold)
    return gradient * min(1.0, threshold / max(float(gradient.norm()), 1e-12))


def clip_by_value(gradient, threshold):
    """Every component cut to -threshold ... threshold, as ``clip_grad_value_`` does: it may turn the gradient."""
    check_positive("threshold", threshold)
    return gradient.clamp(-threshold, threshold)


def angle(a, b):
    """The angle between two gradients of one shape, in degrees."""
    if a.shape != b.shape:
        raise ValueError(f"a and b: expected one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.flatten().double(), b.flatten().double()
    if a.norm() == 0 or b.norm() == 0:
        raise ValueError("a and b: expected gradients of a length above zero: the zero vector has no direction")
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))  # exact for small angles too


# ---------------------------------------------------------------- the cliff


def unit_loss(w, b, steps=50, x_0=0.5, target=0.7):
    """The loss of one unit after many steps, and its gradient: (E, dE/dw, dE/db), numbers or of the shape of w and b together.

    x_t = w σ(x_{t-1}) + b, E = (σ(x_T) - target)²: the model of Pascanu, Mikolov & Bengio 2013, figure 6. The derivatives go
    forward beside the state: dx_t/dw = σ(x_{t-1}) + w σ'(x_{t-1}) dx_{t-1}/dw, dx_t/db = 1 + w σ'(x_{t-1}) dx_{t-1}/db.
    """
    check_whole("steps", steps)
    if isinstance(w, Real) and isinstance(b, Real):
        sigmoid, x, dx_dw, dx_db = sigmoid_of_number, x_0, 0.0, 0.0
    else:
        w, b = torch.broadcast_tensors(torch.as_tensor(w, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64))
        sigmoid, x, dx_dw, dx_db = torch.sigmoid, torch.full_like(w, x_0), torch.zeros_like(w), torch.zeros_like(w)
    for _ in range(steps):
        s = sigmoid(x)
        slope = w * s * (1 - s)
        x, dx_dw, dx_db = w * s + b, s + slope * dx_dw, 1 + slope * dx_db
    s = sigmoid(x)
    outer = 2 * (s - target) * s * (1 - s)
    return (s - target) ** 2, outer * dx_dw, outer * dx_db


def sigmoid_of_number(x):
    """σ(x) of a plain number: far faster than of a tensor of one, and without overflow."""
    return (1 + math.tanh(x / 2)) / 2


def descend(w, b, rate, steps, clip_norm=None):
    """Gradient descent on ``unit_loss`` from (w, b): the path, as rows (w, b, loss, norm of the gradient), steps + 1 of them."""
    for name, value in (("w", w), ("b", b)):
        check_finite(name, value)
    check_positive("rate", rate)
    check_whole("steps", steps)
    if clip_norm is not None:
        check_positive("clip_norm", clip_norm)
    path = []
    for _ in range(steps + 1):
        loss, dE_dw, dE_db = unit_loss(w, b)
        norm = math.hypot(dE_dw, dE_db)
        path.append([w, b, loss, norm])
        scale = rate if clip_norm is None else rate * min(1.0, clip_norm / max(norm, 1e-12))  # as in clip_by_norm
        w, b = w - scale * dE_dw, b - scale * dE_db
    return torch.tensor(path, dtype=torch.float64)
