"""Watching gradients, and clipping them (notebook 05). For training, use ``train(clip_norm=...)`` or ``torch.nn.utils``."""

import math

import pandas as pd
import torch

from rnncourse.arguments import check_positive, check_whole


class GradientMonitor:
    """Records the norm of every parameter's gradient, and of dL/dh_t at every step, as they come out of the backward pass.

    ``monitor = GradientMonitor(model)``, then ``train(model, ..., after_step=monitor)``, or ``monitor(step, model)`` after each
    backward pass of a loop of your own. Parameters are read by hooks, before any clipping. A ``VanillaRNN`` of one seed also leaves
    dL/dh_t, from the engine, at no extra pass. ``close()`` takes the hooks off.
    """

    def __init__(self, model):
        self.steps, self.rows, self.through_time = [], [], []
        self._norms, self._model = {}, model
        self._hooks = [
            p.register_post_accumulate_grad_hook(lambda p, name=name: self._norms.update({name: p.grad.norm().item()}))
            for name, p in model.named_parameters()
        ]
        if hasattr(model, "keep_dL_dh"):
            model.keep_dL_dh = True

    def __call__(self, step, model):
        """Take down what the last backward pass left."""
        if not self._norms:
            raise ValueError("no gradient yet: call the monitor after backward()")
        self.steps.append(step)
        self.rows.append(dict(self._norms))
        if hasattr(model, "keep_dL_dh"):
            self.through_time.append(norm_per_step(model.dL_dh))

    def table(self):
        """Norms as a DataFrame: a row a recorded step, a column a parameter, and "all", the norm that clipping compares."""
        table = pd.DataFrame(self.rows, index=pd.Index(self.steps, name="step"))
        table["all"] = (table**2).sum(axis=1) ** 0.5
        return table

    def profile(self):
        """‖dL/dh_t‖ of every recorded step: a tensor of shape (recorded steps, T)."""
        if not self.through_time:
            raise ValueError("no dL/dh_t recorded: the model is no VanillaRNN, or the monitor was never called")
        return torch.stack(self.through_time)

    def close(self):
        """Remove the hooks and stop keeping dL/dh_t."""
        for hook in self._hooks:
            hook.remove()
        if hasattr(self._model, "keep_dL_dh"):
            self._model.keep_dL_dh = False


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
    """Every component cut to -threshold ... threshold: it may turn the gradient. (Mikolov 2012.)"""
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
    """The loss of one unit after many steps, and its gradient: (E, dE/dw, dE/db), of the shape of w and b together.

    x_t = w σ(x_{t-1}) + b, E = (σ(x_T) - target)²: the model of Pascanu, Mikolov & Bengio 2013, figure 6. The derivatives go
    forward beside the state: dx_t/dw = σ(x_{t-1}) + w σ'(x_{t-1}) dx_{t-1}/dw, dx_t/db = 1 + w σ'(x_{t-1}) dx_{t-1}/db.
    """
    check_whole("steps", steps)
    w, b = torch.broadcast_tensors(torch.as_tensor(w, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64))
    x, dx_dw, dx_db = torch.full_like(w, x_0), torch.zeros_like(w), torch.zeros_like(w)
    for _ in range(steps):
        s = torch.sigmoid(x)
        slope = w * s * (1 - s)
        x, dx_dw, dx_db = w * s + b, s + slope * dx_dw, 1 + slope * dx_db
    s = torch.sigmoid(x)
    outer = 2 * (s - target) * s * (1 - s)
    return (s - target) ** 2, outer * dx_dw, outer * dx_db


def descend(w, b, rate, steps, clip_norm=None, **unit):
    """Gradient descent on ``unit_loss`` from (w, b): the path, as rows (w, b, loss, norm of the gradient), steps + 1 of them."""
    check_positive("rate", rate)
    path = []
    for _ in range(steps + 1):
        loss, *gradient = unit_loss(w, b, **unit)
        gradient = torch.stack(gradient)
        path.append([w, b, float(loss), float(gradient.norm())])
        move = gradient if clip_norm is None else clip_by_norm(gradient, clip_norm)
        w, b = w - rate * float(move[0]), b - rate * float(move[1])
    return torch.tensor(path, dtype=torch.float64)
