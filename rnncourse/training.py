"""One training loop for the whole course: any model, any task, one seed or several at once."""

import sys
import time
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm import tqdm

from rnncourse.arguments import check_choice, check_finite, check_positive, check_whole
from rnncourse.bptt import chunks
from rnncourse.compiler import put_off
from rnncourse.recurrence import check_seeds

put_off()  # for optimizers, of which no notebook compiles one
# glibc gives what a backward pass frees back to the system, which hands it out anew, page by page, in the next: up to a sixth of
# the time. Once it has seen a block of 31 MiB freed (it looks at no larger ones than 32), it keeps what is smaller.
torch.empty(31 * 2**20, dtype=torch.uint8)

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
}
# A seed's weights, training batches and held-out batches come from three streams of random numbers: from seed, seed +
# TRAINING and seed + HELD_OUT. (torch's generator on a CPU takes a seed modulo 2**32.)
TRAINING, HELD_OUT = 2**30, 2**31


@dataclass
class History:
    """What a run left behind. With several models, every tensor has an axis of models, last; what is no tensor is of all.

    ``loss`` and ``grad_norm`` (before clipping): one row a step; ``evaluated`` the steps, a list, at which the held-out
    ``eval_loss`` and ``accuracy`` (None for real-valued targets; both None before a first evaluation) were measured, a row for
    each; ``reached`` the step at which the target was met, -1 if never; ``diverged`` the step at which loss or gradient ceased to
    be finite, -1 if never; ``seconds`` how long it took, and ``message`` what was printed of models that diverged, "" if none did.
    """

    loss: torch.Tensor = None
    grad_norm: torch.Tensor = None
    evaluated: list = field(default_factory=list)
    eval_loss: torch.Tensor = None
    accuracy: torch.Tensor = None
    reached: torch.Tensor = None
    diverged: torch.Tensor = None
    seconds: float = 0.0
    message: str = ""


class Together(nn.Module):
    """Independent models of any kind as one, a seed each: what ``VanillaRNN(..., seeds=...)`` is for ``nn.LSTM`` and others.

    ``make()`` builds a model that maps x (batch, seq_len, input_size) and a state to (outputs, state). It runs them one
    after another; the state is a tuple of theirs. An x without an axis of models goes to each of them.
    """

    def __init__(self, make, seeds):
        super().__init__()
        if seeds is None:  # one model, to check_seeds: there would be nothing to put together
            raise TypeError("seeds: expected whole numbers, such as range(5), got None")
        self.seeds = check_seeds(seeds)
        self.models = nn.ModuleList()
        for seed in self.seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.models.append(make())

    def forward(self, x, state=None):
        count = len(self.models)
        if x.dim() < 3 or tuple(x.shape[:-3]) not in ((), (count,)):
            expected = f"(batch, seq_len, input_size) or ({count}, batch, seq_len, input_size)"
            raise ValueError(f"x: expected shape {expected}, got {tuple(x.shape)}")
        if state is not None and len(state) != count:
            raise ValueError(f"state: expected {count}, one for each model, or None, got {len(state)}")
        x = x.expand(count, *x.shape[-3:])
        states = [None] * count if state is None else state
        outputs, states = zip(*[model(x_s, h_s) for model, x_s, h_s in zip(self.models, x, states, strict=True)])
        return torch.stack(outputs), states


class WithReadout(nn.Module):
    """A recurrent layer of PyTorch (``nn.RNN``, ``nn.LSTM``, ``nn.GRU``; batch_first) and the readout that it lacks."""

    def __init__(self, layer, output_size):
        super().__init__()
        if not getattr(layer, "batch_first", False):
            raise ValueError(f"layer: expected a recurrent layer with batch_first=True, got {layer}")
        self.layer, self.readout = layer, nn.Linear(layer.hidden_size, output_size)

    def forward(self, x, state=None):
        h, state = self.layer(x, state)
        return self.readout(h), state


def train(
    model, task, steps, *, optimizer="adam", lr=3e-3, batch_size=32, clip_norm=None, clip_value=None, chunk=None, carry=True,
    seed=0, target_accuracy=None, target_loss=None, evaluate_every=50, eval_size=256, after_step=None, progress=True,
):  # fmt: skip
    """Train ``model`` on fresh batches of ``task`` for at most ``steps`` batches; returns a ``History``.

    A model with ``seeds`` (``VanillaRNN(..., seeds=...)``, ``Together``) is several: each has its own data, from its own seed
    (a single model's come from ``seed``), its own clipping and optimizer state, and learns what it would learn alone.
    ``optimizer`` is "adam", "adamw", "sgd" or "adagrad", ``lr`` its learning rate. ``clip_norm`` bounds the norm of each model's
    gradient, ``clip_value`` each of its components. ``chunk`` trains by truncated BPTT, one update a chunk, with the state carried
    on or (``carry=False``) reset. ``after_step(step, model)`` runs after each update.

    Every ``evaluate_every`` steps, and after the last, loss and accuracy are measured on ``eval_size`` held-out sequences, always
    the same. The run ends early when every model has met the target on them, an accuracy of at least ``target_accuracy`` or a loss
    of at most ``target_loss``, or when the loss or gradient of every model has become NaN or inf: then it says at which step, and
    the history up to there stays. The same seed gives the same run.

    ``ValueError`` for an option that can't be, a model without parameters, and a task that asks nothing.
    """
    check_choice("optimizer", optimizer, tuple(OPTIMIZERS))
    counts = {"steps": steps, "batch_size": batch_size, "evaluate_every": evaluate_every, "eval_size": eval_size}
    for name, count in counts.items():
        check_whole(name, count)
    check_positive("lr", lr)
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise ValueError(f"target_accuracy: expected a share, above 0 and at most 1, got {target_accuracy!r}")
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value), ("target_loss", target_loss)):
        if bound is not None:
            check_positive(name, bound)
    if target_loss is not None:
        check_finite("target_loss", target_loss)  # at infinity every model would be done
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError(f"model: expected one with parameters to train, got {model}")
    place = {"device": parameters[0].device, "dtype": parameters[0].dtype}
    seeds = getattr(model, "seeds", None)
    generators, others = ([torch.Generator().manual_seed(s + k) for s in seeds or [seed]] for k in (TRAINING, HELD_OUT))
    held_out = draw(task, eval_size, others, seeds, **place)
    if target_accuracy is not None and held_out[1].is_floating_point():
        raise ValueError(f"target_accuracy: expected None for real-valued targets, got {target_accuracy!r}")
    fused = parameters[0].is_cpu or None  # None: torch's choice
    update = OPTIMIZERS[optimizer](parameters, lr=lr, fused=fused)

    shape = () if seeds is None else (len(seeds),)
    history = History(reached=torch.full(shape, -1), diverged=torch.full(shape, -1))
    losses, norms, eval_losses, accuracies = [], [], [], []
    start = time.perf_counter()
    bar = progress_bar(progress, range(1, steps + 1))
    for step in bar:
        x, y = draw(task, batch_size, generators, seeds, **place)
        loss, norm = update_on(model, task, x, y, update, chunk, carry, clip_norm, clip_value)
        losses.append(loss)
        norms.append(norm)
        if after_step is not None:
            after_step(step, model)
        broken = ~(loss.isfinite() & norm.isfinite())
        history.diverged[broken.cpu() & (history.diverged < 0)] = step
        if (history.diverged >= 0).all():
            break
        if step % evaluate_every == 0 or step == steps:
            eval_loss, accuracy = evaluate(model, task, *held_out)
            history.evaluated.append(step)
            eval_losses.append(eval_loss)
            accuracies.append(accuracy)
            met = torch.zeros(shape, dtype=torch.bool)
            if target_accuracy is not None:
                met |= accuracy.cpu() >= target_accuracy
            if target_loss is not None:
                met |= eval_loss.cpu() <= target_loss
            history.reached[met & (history.reached < 0) & (history.diverged < 0)] = step
            bar.set_postfix_str(f"loss {eval_loss.mean():.4f}", refresh=False)
            if ((history.reached >= 0) | (history.diverged >= 0)).all():
                break
    bar.close()
    history.seconds = time.perf_counter() - start
    history.loss, history.grad_norm = torch.stack(losses).cpu(), torch.stack(norms).cpu()
    history.eval_loss = torch.stack(eval_losses).cpu() if eval_losses else None
    history.accuracy = torch.stack(accuracies).cpu() if accuracies and accuracies[0] is not None else None
    history.message = divergence_message(history, seeds, clip_norm, lr)
    if history.message:
        print(history.message)
    return history


def progress_bar(progress, steps=None, total=None):
    """A bar over ``steps``, or for ``total`` of them, unless ``progress`` is False."""
    shown = {} if progress else {"disable": True}  # where the bar is not refused, TQDM_DISABLE decides
    # on stdout: Jupyter keeps a red strip of what was ever written to stderr
    return tqdm(steps, total=total, leave=False, mininterval=0.5, file=sys.stdout, **shown)


def update_on(model, task, x, y, update, chunk, carry, clip_norm, clip_value):
    """Forward, backward and an update of the optimizer ``update``, once or once a chunk: the mean loss, the last norm."""
    parts = [(model(x)[0], y)] if chunk is None else chunks(model, x, y, chunk, carry)
    losses = []
    for outputs, y_part in parts:
        if not y_part.is_floating_point() and (y_part < 0).all():
            continue  # nothing is asked in this chunk
        loss = task.loss(outputs, y_part)
        update.zero_grad(set_to_none=True)
        loss.sum().backward()
        norm = gradient_norm(model) if clip_norm is None else clip_norm_(model, clip_norm)
        if clip_value is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip_value)
        update.step()
        losses.append(loss.detach())
    if not losses:
        raise ValueError(f"{type(task).__name__}: expected a target at one step at least, got none")
    return torch.stack(losses).mean(dim=0), norm


def draw(task, batch_size, generators, seeds, device=None, dtype=None):
    """A batch for one model, or one for each seed, stacked along a leading axis of models."""
    batches = [task.batch(batch_size, generator) for generator in generators]
    x, y = batches[0] if seeds is None else (torch.stack(part) for part in zip(*batches))
    return x.to(device=device, dtype=dtype), y.to(device=device, dtype=dtype if y.is_floating_point() else None)


@torch.no_grad()
def evaluate(model, task, x, y):
    """(loss, accuracy) of ``model`` on given sequences, one number a model; accuracy None for real-valued targets."""
    was_training = model.training
    model.eval()
    outputs = model(x)[0]
    model.train(was_training)
    return task.loss(outputs, y), task.accuracy(outputs, y)


def gradient_norm(model):
    """The norm of the gradient over all parameters, one number a model: what clipping by norm compares."""
    if isinstance(model, Together):
        return torch.stack([gradient_norm(one) for one in model.models])
    several = getattr(model, "seeds", None) is not None
    grads = [p.grad.flatten(1) if several else p.grad.flatten() for p in model.parameters() if p.grad is not None]
    if not grads:
        raise ValueError("the model has no gradient yet: call backward on a loss of its outputs first")
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dim=-1) for g in grads]), dim=0)


def clip_norm_(model, clip_norm):
    """Scale each model's gradient to norm ``clip_norm`` where it is larger; returns the norms before.

    ``nn.utils.clip_grad_norm_``, model by model: the same numbers for one model.
    """
    check_positive("clip_norm", clip_norm)
    if isinstance(model, Together):
        return torch.stack([clip_norm_(one, clip_norm) for one in model.models])
    norm = gradient_norm(model)
    scale = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
    for p in model.parameters():
        if p.grad is not None:
            p.grad.mul_(scale.view(-1, *[1] * (p.dim() - 1)) if scale.dim() else scale)
    return norm


def divergence_message(history, seeds, clip_norm, lr):
    """What to tell about models whose loss or gradient ceased to be finite, or the empty string."""
    dead = history.diverged >= 0
    if not dead.any():
        return ""
    step = int(history.diverged[dead].min())
    who = "" if seeds is None else f" for {int(dead.sum())} of {len(seeds)} seeds, first"
    advice = "clipping the gradient (clip_norm=1.0)" if clip_norm is None else "a lower clip_norm"
    return f"Loss or gradient became NaN or infinite{who} at step {step}. Try {advice}, a lower rate than lr={lr:g}, or a smaller init."
