"""Exercise 3 of notebook 08: gradient norms per time step during BPTT, and their plot."""

import numpy as np
import torch
from torch.nn import functional as F

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.drawing import describe
from rnncourse.exercises.inputs import whole
from rnncourse.recurrence import VanillaRNN

# ---------------------------------------------------------------- 3a: the monitor


def gradient_norms(model, x, y):
    batch, T, _ = x.shape
    h, outputs, norms = x.new_zeros(batch, model.hidden_size), [], [None] * T

    def monitor(t):
        def hook(dL_dh_t):  # called once all that flows into h_t has arrived
            norms[t] = dL_dh_t.norm()

        return hook

    for t in range(T):
        h = torch.tanh(model.W_xh(x[:, t]) + model.W_hh(h))
        h.register_hook(monitor(t))
        outputs.append(model.W_hy(h))
    outputs = torch.stack(outputs, dim=1).flatten(0, 1)
    loss = F.cross_entropy(outputs, y.flatten(), ignore_index=-1)
    loss.backward()
    return torch.stack(norms)


def a_model_and_a_batch(generator):
    """A small tanh network with lively weights, x (batch, T, input), and a class, or -1, for each step; in float32."""
    batch, T = (whole(generator, low, low + 3) for low in (3, 6))
    model = VanillaRNN(3, 5, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(batch, T, 3, generator=generator)
    y = torch.randint(4, (batch, T), generator=generator)
    y[:, :-1] = y[:, :-1].masked_fill(torch.rand(batch, T - 1, generator=generator) < 0.4, -1)
    return model, x, y


def cross_entropy(outputs, y, reduction="mean"):
    return F.cross_entropy(outputs.flatten(0, 1), y.flatten(), ignore_index=-1, reduction=reduction)


def mean_of_means(outputs, y):
    asked = [t for t in range(y.shape[1]) if (y[:, t] >= 0).any()]
    return torch.stack([cross_entropy(outputs[:, t : t + 1], y[:, t : t + 1]) for t in asked]).mean()


def through_time(model, x, y, of="h", first=0, detach=False, loss=cross_entropy):
    """dL/dh_t, or dL/da_t, (T, batch, hidden), that of h_0 first unless ``first``; ``detach`` cuts the past off."""
    h = x.new_zeros(len(x), model.hidden_size).requires_grad_()
    kept, outputs = {"h": [h], "a": [h]}, []
    for x_t in x.unbind(1):
        a = model.W_xh(x_t) + model.W_hh(h.detach() if detach else h)
        h = torch.tanh(a)
        kept["h"].append(h)
        kept["a"].append(a)
        outputs.append(model.W_hy(h))
    states = kept[of][1:] if first else kept[of]
    grads = torch.autograd.grad(loss(torch.stack(outputs, 1), y), states, allow_unused=True, materialize_grads=True)
    return torch.stack(grads)


def handed_out(model, x, y):
    """The gradients of the states that a model hands out which is called a step at a time; None for the last.

    Each is a slice of the states that the outputs are computed from: the loss reaches it only through the next step.
    """
    h, states, outputs = None, [], []
    for x_t in x.split(1, dim=1):
        output, h = model(x_t, h)
        states.append(h)
        outputs.append(output)
    return torch.autograd.grad(cross_entropy(torch.cat(outputs, 1), y), states, allow_unused=True)


def norms(grads):
    return grads.flatten(1).norm(dim=1)


def total(model, x, y, **options):
    return through_time(model, x, y, first=1, **options)


BESIDE = (
    "the `h` that `model` hands out stands beside its outputs, which are not computed from it. Compute the scores from "
    "it yourself, `model.W_hy(h)`"
)

GRADIENT_NORMS = Exercise(
    name="gradient_norms",
    points=3,
    reference=gradient_norms,
    inputs=a_model_and_a_batch,
    tolerance=3e-6,
    hints=(
        "`model(x)` hands out the states when all is done: a gradient taken there has no way back through time. Run "
        "the recurrence yourself, a step at a time, and keep every h_t: its hook is called with the whole dL/dh_t.",
        "In a loop over t: `h = torch.tanh(model.W_xh(x[:, t]) + model.W_hh(h))`, then `h.register_hook(...)` or "
        "`h.retain_grad()`, and `model.W_hy(h)` is the output. After the loop: the loss, and `backward()`. Hooks are "
        "called from the last step to the first, so say in each which t it is for.",
        "`states.append(h); h.retain_grad()` in the loop, `outputs.append(model.W_hy(h))`; then `loss = "
        "F.cross_entropy(torch.stack(outputs, 1).flatten(0, 1), y.flatten(), ignore_index=-1); loss.backward()`; and "
        "`torch.stack([h.grad.norm() for h in states])`.",
    ),
    why="A hook on h_t is called in the backward pass, when the share through the output at t and the share through "
    "h_{t+1} have both arrived: it sees the total derivative dL/dh_t. Autograd calls the hooks in the order of the "
    "backward pass, T first. `torch.autograd.grad(loss, states)` gives the same in one line, and the course's engine "
    "has it for free: `model.keep_dL_dh = True`.",
    mistakes=(
        Mistake(
            lambda m, x, y: norms(total(m, x, y, detach=True)),
            "this is only the immediate part ∂⁺L/∂h_t, through the output at t: what comes back through h_{t+1} is "
            "missing. Take the gradient of each h_t in the loop, not of the states that the model hands out, and "
            "detach none of them",
        ),
        Mistake(
            lambda m, x, y: [0.0 if g is None else g.norm() for g in handed_out(m, x, y)],
            f"this is only what comes back through h_{{t+1}}, and nothing at the last step: {BESIDE}",
        ),
        Mistake(
            lambda m, x, y: [g.norm() for g in handed_out(m, x, y)[:-1]],
            f"a norm for the last step is missing, and the others are only what comes back through h_{{t+1}}: {BESIDE}",
        ),
        Mistake(
            lambda m, x, y: [g.norm() for g in handed_out(m, x, y)],
            "no gradient has come to one of your states. Either it lacks `retain_grad()`, or your hooks all write to one place (give "
            f"each its own step, `lambda grad, t=t: ...`), or it is the last that `model` has handed out: {BESIDE}",
            error="NoneType' object has no attribute '(norm|square|pow|flatten|layout)'|norm.*NoneType|got NoneType",
        ),
        Mistake(
            lambda m, x, y: torch.autograd.grad(cross_entropy(m(x)[0], y), m(x)[1]),
            f"the loss does not reach one of your states, perhaps the last that `model` has handed out: {BESIDE}",
            error="not have been used in the graph",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y)).flip(0),
            "these are the right norms in reverse: hooks are called from the last step to the first, return step 1 "
            "first",
        ),
        Mistake(
            lambda m, x, y: F.pad(norms(total(m, x, y))[:1], (x.shape[1] - 1, 0)),
            "your hooks all write to the last place: `t` is looked up when a hook is called, after the loop. Give each its own, "
            "`lambda grad, t=t: ...`",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, of="a")),
            "this is dL/da_t, before the tanh: put the hook on h_t = tanh(a_t)",
        ),
        Mistake(
            lambda m, x, y: norms(through_time(m, x, y)[:-1]),
            "your states begin with h_0 and the last is missing: h_1 ... h_T are asked for",
        ),
        Mistake(
            lambda m, x, y: norms(through_time(m, x, y)),
            "you return T + 1 norms, that of h_0 among them: h_1 ... h_T are asked for",
        ),
        Mistake(
            lambda m, x, y: total(m, x, y).norm(dim=-1).mean(dim=1),
            "you took a norm for each sequence and then the mean: take one norm over batch and units, as of one long "
            "vector",
        ),
        Mistake(
            lambda m, x, y: total(m, x, y).norm(dim=-1).sum(dim=1),
            "you added up norms, one a sequence: take one norm over batch and units, the root of the sum of all "
            "squares",
        ),
        Mistake(
            lambda m, x, y: total(m, x, y).sum(dim=1).norm(dim=-1),
            "this is the norm of the sum over the batch, where gradients cancel: take the norm of all entries",
        ),
        Mistake(lambda m, x, y: norms(total(m, x, y)).square(), "the square root is missing: these are squared norms"),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, loss=lambda o, y: cross_entropy(o, y, "sum"))),
            "your loss adds up the cross-entropies: their mean over what is asked is wanted, the default of "
            "cross_entropy",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, loss=lambda o, y: cross_entropy(o, y, "sum") / y.numel())),
            "your mean counts the places where nothing is asked, y = -1: divide by the number of the others",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, loss=mean_of_means)),
            "you took the mean at each step and then the mean of those: where fewer are asked, each then counts more",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, loss=lambda o, y: cross_entropy(o, y.T))),
            "outputs and targets are flattened in different orders: an output must meet the y of its own sequence and "
            "step",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y.clamp(min=0))),
            "you take y = -1 for a class: nothing is asked there, cross_entropy leaves it out with ignore_index=-1",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y, loss=lambda o, y: F.cross_entropy(o[:, -1], y[:, -1]))),
            "your loss looks at the last step only: y has targets at other steps too",
        ),
        Mistake(
            lambda m, x, y: total(m, x, y).abs().amax(dim=(1, 2)),
            "this is the largest entry at each step: the norm is the root of the sum of squares",
        ),
        Mistake(
            lambda m, x, y: norms(total(m, x, y)).mean(),
            "you averaged over time: one norm for each step is asked for, T in all",
        ),
    ),
)

# ---------------------------------------------------------------- 3b: its plot


def figure():
    """The course's own, loaded when it is called: marking looks at drawings alone, and need not load matplotlib."""
    from rnncourse import plotting

    return plotting.figure()


def plot_gradient_norms(norms):
    fig, ax = figure()
    ax.plot(range(1, len(norms) + 1), norms)
    ax.set(yscale="log", xlabel="time step t", ylabel="norm of dL/dh_t")
    ax.set(title="The gradient through time")
    return fig


def falling_norms(generator):
    T = whole(generator, 8, 13)
    return (torch.exp(-6 * torch.rand(T, generator=generator, dtype=torch.float64).cumsum(0) / 2),)


A_MODULE = "return the figure, for example plt.gcf(), not the module"
NO_FIGURE = "return the figure (or its axes): what came back is neither a Figure nor an Axes of matplotlib"
NO_CURVE = "your plot has no row of points whose heights are the norms"
TOO_FEW = "your plot does not have one point for each norm: draw all T of them"
REVERSED = "the norms run backwards: step 1 belongs to the left, step T to the right"
LINEAR = (
    "norms that fall by powers of ten are a flat line on a linear axis: give y a logarithmic scale, "
    "ax.set_yscale('log')"
)
TWICE = "you took the logarithm and made the axis logarithmic too: do one of the two"
FROM_ZERO = "your x begins at 0: time steps are numbered 1 ... T here, so hand x over to plot, too"
WRONG_X = "the heights are right, their places on the x axis are not: norm number t belongs at x = t"
LOG_STEPS = (
    "your x axis is logarithmic: give the steps even distances, then a constant factor a step is a straight line"
)
NO_XLABEL = "the x axis has no label: say that it is the time step"
NO_YLABEL = "the y axis has no label: say what is drawn, the norm of dL/dh_t"
NO_TITLE = "the figure has no title"


def judge_plot(plot, norms):
    drawing = describe(plot)
    if drawing is None:
        return A_MODULE if type(plot).__name__ == "module" else NO_FIGURE
    heights, steps = norms.numpy(), np.arange(1, len(norms) + 1)
    rows = [(np.array(xs), np.array(ys)) for xs, ys in drawing.points]
    if not any(len(ys) == len(heights) for _, ys in rows):
        return TOO_FEW if rows else NO_CURVE
    forms = {"norms": heights, "log10": np.log10(heights), "log": np.log(heights)}
    row, form = next(((r, f) for r in rows for f, wanted in forms.items() if same_in_order(r, wanted)), (None, None))
    if row is None:
        backwards = any(same_in_order((xs, ys), heights[::-1]) for xs, ys in rows)
        return REVERSED if backwards else NO_CURVE
    xs = np.sort(row[0])
    faults = {
        LINEAR: form == "norms" and drawing.yscale not in ("log", "symlog"),
        TWICE: form != "norms" and drawing.yscale != "linear",
        FROM_ZERO: np.allclose(xs, steps - 1),
        WRONG_X: not np.allclose(xs, steps) and not np.allclose(xs, steps - 1),
        LOG_STEPS: drawing.xscale != "linear",
        NO_XLABEL: not drawing.xlabel.strip(),
        NO_YLABEL: not drawing.ylabel.strip(),
        NO_TITLE: not drawing.title.strip(),
    }
    return "; and ".join(fault for fault, there in faults.items() if there)  # of several, none is forgiven


def same_in_order(row, heights):
    """Whether a row of points, read from left to right, has these heights, to float32: plots may be drawn in it."""
    xs, ys = row
    return len(ys) == len(heights) and np.allclose(ys[np.argsort(xs, kind="stable")], heights, rtol=1e-5, atol=1e-9)


def plotted(change=lambda norms: (range(1, len(norms) + 1), norms), **settings):
    """An answer that plots ``change(norms)`` with other settings of its axes."""

    def answer(norms):
        fig, ax = figure()
        ax.plot(*change(norms))
        ax.set(**{"yscale": "log", "xlabel": "time step t", "ylabel": "norm", "title": "Gradients", **settings})
        return fig

    return answer


PLOT_GRADIENT_NORMS = Exercise(
    name="plot_gradient_norms",
    points=2,
    reference=plot_gradient_norms,
    inputs=falling_norms,
    judge=judge_plot,
    trials=1,  # else a wrong figure would stand below its message, once for each further call
    hints=(
        "A figure, one curve, its x the time steps 1 ... T. The norms span powers of ten: which scale shows them all? "
        "And what does a reader need in words?",
        "`ax.set_yscale('log')`, and a title and two labels. Return the figure.",
        "`fig, ax = figure()`, `ax.plot(range(1, len(norms) + 1), norms)`, `ax.set(yscale='log', xlabel='time step t', "
        "ylabel='norm of dL/dh_t', title='...')`, `return fig`.",
    ),
    why="An exponential is a straight line on a logarithmic axis, and its slope is the growth a step: a vanishing "
    "gradient shows as a line that falls towards step 1. On a linear axis all but a few points lie on zero.",
    mistakes=(
        Mistake(lambda norms: norms, NO_FIGURE),
        Mistake(lambda norms: np, A_MODULE),
        Mistake(plotted(yscale="linear"), LINEAR),
        Mistake(plotted(lambda norms: (norms,)), FROM_ZERO, credit=0.5),
        Mistake(plotted(lambda norms: (range(1, len(norms) + 1), norms.flip(0))), REVERSED),
        Mistake(plotted(lambda norms: (range(1, len(norms) + 1), norms.log10()), yscale="symlog"), TWICE),
        Mistake(plotted(lambda norms: (range(2, len(norms) + 2), norms)), WRONG_X),
        Mistake(plotted(lambda norms: (range(1, len(norms)), norms[1:])), TOO_FEW),
        Mistake(plotted(lambda norms: (range(1, len(norms) + 1), norms.square())), NO_CURVE),
        Mistake(plotted(xscale="log"), LOG_STEPS),
        Mistake(plotted(xlabel=""), NO_XLABEL, credit=0.5),
        Mistake(plotted(ylabel=""), NO_YLABEL, credit=0.5),
        Mistake(plotted(title=""), NO_TITLE, credit=0.5),
    ),
)

EXERCISES = (GRADIENT_NORMS, PLOT_GRADIENT_NORMS)
