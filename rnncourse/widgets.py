"""Explorers: a figure that answers a slider. Each computes what it shows, anew at every move; one call makes it.

explore_unit()       one unit's map, its fixed points and its path (notebook 02)
explore_bptt()       the backward pass, walked a step at a time (notebook 03)
explore_gradients()  the gradient through time, beside its forecasts (notebook 04)
explore_cliff()      gradient descent on the cliff, clipped or not (notebook 05)
explore_spectra()    eigenvalues and singular values of each initialization (notebook 06)
explore_temperature(model, vocabulary)    the next character, and samples, at any temperature (notebook 07)
"""

import html
import io
import math
import time
from functools import cache

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from rnncourse import plotting
from rnncourse.applications import CharacterRNN, sample, soften, train_characters
from rnncourse.bptt import NONLINEARITIES
from rnncourse.clipping import GradientMonitor, descend, unit_loss
from rnncourse.gradients import (
    bare_rnn,
    lyapunov_exponents,
    spectral_norm,
    spectral_radius,
    state_gradients,
    step_jacobians,
)
from rnncourse.initialization import INITS, recurrent_matrix
from rnncourse.recurrence import VanillaRNN, fixed_points, trajectory
from rnncourse.sequences import Vocabulary, census_names, el_nino


class Explorer(ipywidgets.VBox):
    """Controls, a picture, and the picture in words.

    ``update(**values)`` gets the controls' values by name, moves the ``artists`` of ``fig`` and returns the words. The rest of
    the figure is drawn once for each setting of the axes' limits: a move redraws the artists alone, over the stored background,
    and replaces the image's bytes.
    """

    def __init__(self, name, fig, artists, controls, update):
        self.name, self.fig, self.artists, self.controls, self.update = name, fig, artists, controls, update
        as_large = ipywidgets.Layout(max_width="100%", align_self="flex-start")  # as drawn, not stretched
        self.picture = ipywidgets.Image(format="png", layout=as_large)
        self.words = ipywidgets.HTML()
        self.picture.add_class("explorer-picture")
        self.words.add_class("explorer-words")
        for artist in artists:
            artist.set_animated(True)  # left out of the background
        fig.canvas.draw()
        fig.set_layout_engine("none")  # the layout is settled: no need to solve it again at every move
        self.backgrounds = {}
        for control in controls.values():
            control.observe(self.redraw, names="value")
        super().__init__([ipywidgets.VBox(list(controls.values())), self.picture, self.words])
        self.add_class("explorer")
        self.redraw()

    def redraw(self, change=None):
        """Compute and draw for the controls' present values."""
        words = self.update(**{name: control.value for name, control in self.controls.items()})
        canvas, limits = self.fig.canvas, tuple(limit for ax in self.fig.axes for limit in ax.viewLim.extents)
        if limits not in self.backgrounds:
            canvas.draw()
            self.backgrounds[limits] = canvas.copy_from_bbox(self.fig.bbox)
        canvas.restore_region(self.backgrounds[limits])
        for artist in self.artists:
            artist.axes.draw_artist(artist)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, format="png", compress_level=1)
        self.picture.value = buffer.getvalue()
        self.words.value = f'<p role="status" aria-live="polite">{html.escape(words)}</p>'

    def __repr__(self):
        return f"{self.name}(): an explorer with {len(self.controls)} controls; it moves where a kernel runs"


def slider(description, low, high, value, step=None):
    """A slider with its label; whole numbers if its limits are."""
    kind = ipywidgets.IntSlider if isinstance(low, int) and isinstance(high, int) else ipywidgets.FloatSlider
    step = step or (1 if kind is ipywidgets.IntSlider else (high - low) / 100)
    style, layout = {"description_width": "16em"}, ipywidgets.Layout(width="34em", max_width="100%")
    return kind(value=value, min=low, max=high, step=step, description=description, style=style, layout=layout)


def dropdown(description, options):
    """A choice with its label; ``options`` as ``ipywidgets.Dropdown`` takes them."""
    style, layout = {"description_width": "16em"}, ipywidgets.Layout(width="34em", max_width="100%")
    return ipywidgets.Dropdown(options=options, description=description, style=style, layout=layout)


def explore_unit():
    """One unit without input, h_t = tanh(w h_{t-1} + b): its map with the path of the state, its fixed points, its course in time."""
    steps, grid = 30, np.linspace(-1, 1, 201)
    fig, (left, right) = plotting.figure(columns=2, width=8.4, height=3.8)
    left.plot(grid, grid, color="#888888", marker="", label="$h_t = h_{t-1}$")
    (curve,) = left.plot([], [], color=plotting.COLOURS[0], marker="", label="$h_t = \\tanh(w\\, h_{t-1} + b)$")
    (path,) = left.plot([], [], color=plotting.COLOURS[1], marker="", linewidth=1, label="path of the state")
    (stable,) = left.plot([], [], "o", color=plotting.COLOURS[2], markersize=9, markevery=1, label="stable fixed point")
    (unstable,) = left.plot(
        [], [], "o", color="k", mfc="white", markersize=9, markevery=1, label="unstable fixed point"
    )
    left.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), title="The map from one state to the next")
    left.set(xlabel="state $h_{t-1}$", ylabel="next state $h_t$")
    fig.legend(fontsize="x-small", loc="outside lower center", ncols=5)  # in the axes it would lie under the path
    (course,) = right.plot([], [], color=plotting.COLOURS[1], marker="o", markevery=1, markersize=4)
    right.set(
        xlim=(-0.5, steps + 0.5),
        ylim=(-1.05, 1.05),
        title="The state in time",
        xlabel="time step t",
        ylabel="state $h_t$",
    )

    def update(w, b, h_0):
        h = trajectory(w, b, h_0, steps)
        points = fixed_points(w, b)
        # at w = 1 and at w = -1, b = 0, the slope is 1 or -1, and the state still comes nearer: tanh bends
        kept = [p for p, slope in points if abs(slope) <= 1]
        left_behind = [p for p, slope in points if abs(slope) > 1]
        curve.set_data(grid, np.tanh(w * grid + b))
        path.set_data(np.repeat(h, 2)[:-1], np.concatenate([[h[0]], np.repeat(h[1:], 2)]))
        stable.set_data(kept, kept)
        unstable.set_data(left_behind, left_behind)
        course.set_data(np.arange(steps + 1), h)
        return f"w = {w:.2f}, b = {b:.2f}: {describe_fixed_points(points)} {describe_end(w, b, h)}"

    controls = {
        "w": slider("recurrent weight w", -2.5, 2.5, 1.5, 0.05),
        "b": slider("bias b", -1.0, 1.0, 0.0, 0.05),
        "h_0": slider("first state h_0", -1.0, 1.0, 0.1, 0.05),
    }
    return Explorer("explore_unit", fig, [curve, path, stable, unstable, course], controls, update)


def describe_fixed_points(points):
    """In words: how many fixed points there are, where, and which of them hold the state."""
    named = ", ".join(f"{p:.2f} ({'stable' if abs(slope) <= 1 else 'unstable'})" for p, slope in points)
    return f"one fixed point, at {named}." if len(points) == 1 else f"{len(points)} fixed points, at {named}."


def describe_end(w, b, h):
    """In words: where a course of states ends; slow courses, as at w = 1, are followed further to tell."""
    later = trajectory(w, b, h[-1], 1000)
    if abs(later[::2] - h[-1]).max() > 0.005:
        return f"From h_0 = {h[0]:.2f} the state is still moving after {len(h) - 1} steps, at {h[-1]:.2f}."
    if abs(later[-1] - later[-2]) > 0.005:
        return f"From h_0 = {h[0]:.2f} the state ends up jumping between {h[-2]:.2f} and {h[-1]:.2f}."
    return f"From h_0 = {h[0]:.2f} the state goes to {round(h[-1], 2) + 0.0:.2f} and stays."  # + 0.0: no -0.00


def explore_bptt():
    """The backward pass over the twelve months of 1996, walked a step at a time: what enters each dL/dh_t, and from where."""
    T, H = 12, 8
    temperature = el_nino()
    year = ((temperature - temperature.mean()) / temperature.std())["1996-01":"1997-01"].to_numpy()
    series = torch.tensor(year, dtype=torch.float32).view(1, T + 1, 1)
    x, y = series[:, :-1], series[:, 1:]  # at every step, predict the next month
    times = np.arange(1, T + 1)
    fig, (left, right) = plotting.figure(columns=2, width=8.4, height=3.6)
    heat = left.imshow(np.zeros((H, T)), cmap=plotting.DIVERGING, aspect="auto", extent=(0.5, T + 0.5, H + 0.5, 0.5))
    left.grid(False)
    left.set(title="$dL/dh_t$ by unit: purple above zero, orange below", xlabel="time step t", ylabel="hidden unit")
    lines = {}
    for label, style in (
        ("immediate, $∂^+L/∂h_t$", {"marker": "o"}),
        ("through $h_{t+1}$", {"marker": "s"}),
        ("total, $dL/dh_t$", {"marker": "^", "linewidth": 5, "alpha": 0.4}),  # the others show through it
    ):
        (lines[label],) = right.plot([], [], markevery=1, label=label, **style)
    right.set(xlim=(0.5, T + 0.5), ylim=(1e-9, 1), yscale="log", title="Where each $dL/dh_t$ comes from")
    right.set(xlabel="time step t", ylabel="norm of the gradient")
    right.legend(fontsize="x-small", loc="lower left")

    def update(t, gain, steps_asked):
        outputs, dL_dh, W_hy = backward_pass(x, y, H, gain, steps_asked)
        immediate = outputs.grad[0] @ W_hy
        through = dL_dh - immediate
        norms = [v.norm(dim=-1).numpy() for v in (immediate, through, dL_dh)]
        walked = times >= t
        heat.set_data(np.where(walked, dL_dh.T.numpy(), np.nan))
        scale = float(dL_dh.abs().max())
        heat.set_clim(-scale, scale)
        for line, norm in zip(lines.values(), norms):
            line.set_data(times[walked & (norm > 0)], norm[walked & (norm > 0)])
        first, flown, total = (norm[t - 1] for norm in norms)
        came = f"{flown:.3g} comes through h_{t + 1}" if t < T else "nothing comes from later, this is the last step"
        beside_last = f", {total / norms[2][-1]:.3g} times that of the last step" if t < T else ""
        return (
            f"At step {t} of {T}: ∂⁺L/∂h_{t}, by the output of this step alone, has norm {first:.3g}; {came}; "
            f"together dL/dh_{t} has norm {total:.3g}{beside_last}."
        )

    controls = {
        "t": slider("walked back to step t", 1, T, T // 2),
        "gain": slider("largest singular value of W_hh", 0.5, 2.5, 1.0, 0.1),
        "steps_asked": dropdown("steps with a loss", [("every step", T), ("the last step alone", 1)]),
    }
    return Explorer("explore_bptt", fig, [heat, *lines.values()], controls, update)


def backward_pass(x, y, hidden_size, gain, steps_asked):
    """One forward and backward pass: the outputs (with their ``.grad``), dL/dh_t of shape (T, hidden), and W_hy."""
    model = VanillaRNN(1, hidden_size, 1, seeds=[0], dtype=x.dtype)
    with torch.no_grad():
        model.W_hh.weight *= gain / torch.linalg.matrix_norm(model.W_hh.weight[0], 2)
    model.keep_dL_dh = True
    outputs = model(x)[0][0]
    outputs.retain_grad()
    (outputs - y)[:, -steps_asked:].square().mean().backward()
    return outputs, model.dL_dh[0, 0], model.W_hy.weight[0].detach()


def explore_gradients():
    """The gradient on its way back from the last step: its norm against lag, beside the bound, the radius and the exponent."""
    n, longest, scales = 32, 100, (1, 3, 10, 30, 100, 330)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 400, n, generator=generator, dtype=torch.float64)
    end = torch.nn.functional.normalize(torch.randn(n, generator=generator, dtype=torch.float64), dim=0)
    fig, ax = plotting.figure(width=8.4, height=3.6)
    names = {
        "gradient": ("norm of $dL/dh_t$", {"marker": "o", "markersize": 4}),
        "bound": ("the bound, $σ^k$", {"linestyle": "--"}),
        "radius": ("spectral radius, $ρ^k$", {"linestyle": ":", "linewidth": 2.5}),
        "exponent": ("Lyapunov exponent, $e^{λ_1 k}$", {"linestyle": "-."}),
    }
    lines = {name: ax.plot([], [], label=label, **{"marker": "", **style})[0] for name, (label, style) in names.items()}
    ax.set(xlim=(0, longest), ylim=(-100, 100), title="The gradient on its way back, and three forecasts of it")
    ax.set(xlabel="lag k, steps back from the last", ylabel="log10 of the norm")
    ax.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))  # where no line can cross it

    def update(gain, scale, length, init, nonlinearity):
        W_hh, x = recurrent_matrix(init, n, gain, dtype=torch.float64), scale * noise
        model = bare_rnn(W_hh, nonlinearity)
        norms = state_gradients(model, x[:, :length], lambda h: h[0, -1] @ end)[0].norm(dim=-1).flip(0)
        with torch.no_grad():
            J = step_jacobians(model.states(x)[0], W_hh, nonlinearity)
        sigma, radius = spectral_norm(W_hh).item(), spectral_radius(W_hh).item()
        exponent = lyapunov_exponents(J, warmup=100, count=1)[-1, 0].item()
        lags, alive = np.arange(length), norms.numpy() > 0  # where all ReLUs are off, nothing comes through
        powers = norms[alive].log10().numpy()
        lines["gradient"].set_data(lags[alive], powers)
        for name, growth in (("bound", sigma), ("radius", radius), ("exponent", math.exp(exponent))):
            lines[name].set_data(lags, lags * math.log10(max(growth, 1e-300)))
        low, high = (next(s for s in scales if s >= extent) for extent in (-powers.min(), powers.max()))
        ax.set_ylim(-low, high)
        factor = norms[-1].item()
        change = "kept its norm" if abs(factor - 1) < 0.005 else f"{'grew' if factor > 1 else 'shrank'} to {factor:.3g} times its norm"
        return (
            f"σ = {sigma:.3g}, ρ = {radius:.3g}, λ₁ = {round(exponent, 3) + 0.0:.3f}, that is a factor of {math.exp(exponent):.3g} a step. "
            f"From step {length} back to step 1 the gradient {change}, "
            f"{factor ** (1 / (length - 1)):.3g} a step; the bound allows {sigma ** (length - 1):.3g}."
        )

    controls = {
        "gain": slider("gain, W_hh = gain × init", 0.5, 3.0, 1.2, 0.05),
        "scale": slider("s.d. of the inputs", 0.05, 2.0, 0.1, 0.05),
        "length": slider("length of the sequence T", 2, longest, 50),
        "init": dropdown("init of W_hh", ["orthogonal", *(name for name in INITS if name != "orthogonal")]),
        "nonlinearity": dropdown("nonlinearity", list(NONLINEARITIES)),
    }
    return Explorer("explore_gradients", fig, list(lines.values()), controls, update)


def explore_cliff():
    """Gradient descent on the loss of one unit after 50 steps, clipped or not: the path over the map, its loss and its gradient."""
    w_axis, b_axis, longest = np.linspace(3.8, 5.8, 161), np.linspace(-3.1, -1.6, 121), 120
    loss, _, _ = unit_loss(torch.tensor(w_axis), torch.tensor(b_axis)[:, None])
    fig, (left, right) = plotting.figure(columns=2, width=8.6, height=3.9)
    levels = np.linspace(-5, 0, 11)
    filled = left.contourf(w_axis, b_axis, np.log10(np.maximum(loss.numpy(), 1e-5)), levels=levels)
    fig.colorbar(filled, ax=left, label="$\\log_{10}$ of the loss")
    left.grid(False)
    white, red = {"color": "white", "markeredgecolor": "k"}, {"color": plotting.COLOURS[1], "markeredgecolor": "k"}
    (path,) = left.plot([], [], color=red["color"], marker="o", markersize=3, markevery=1, label="path")
    (start,) = left.plot([], [], "s", markersize=9, markevery=1, label="start", **white)
    (end,) = left.plot([], [], "*", markersize=13, markevery=1, label="end", **red)
    left.set(xlim=(3.8, 5.8), ylim=(-3.1, -1.6), title="The path over the map of the loss", xlabel="w", ylabel="b")
    left.legend(fontsize="x-small", loc="lower left", facecolor="#cccccc", frameon=True)
    (losses,) = right.plot([], [], marker="", label="loss")
    (norms,) = right.plot([], [], marker="o", markersize=3, markevery=1, linewidth=0.8, label="norm of the gradient")
    (bound,) = right.plot([], [], color="k", linestyle="--", marker="", label="threshold")
    right.set(xlim=(0, longest), ylim=(1e-8, 1e6), yscale="log", title="Step by step", xlabel="step", ylabel="value")
    right.legend(fontsize="x-small", loc="lower right")

    def update(w, b, rate, power, steps):
        threshold = 10.0**power
        rows = descend(w, b, rate, steps, threshold).numpy()
        path.set_data(rows[:, 0], rows[:, 1])
        start.set_data(rows[:1, 0], rows[:1, 1])
        end.set_data(rows[-1:, 0], rows[-1:, 1])
        for line, column in ((losses, 2), (norms, 3)):
            line.set_data(np.arange(steps + 1), np.maximum(rows[:, column], 1e-9))
        bound.set_data([0, longest], [threshold, threshold])
        return describe_descent(rows, threshold)

    controls = {
        "w": slider("start w", 4.4, 5.8, 5.5, 0.02),
        "b": slider("start b", -3.0, -2.2, -2.6, 0.02),
        "rate": slider("learning rate", 0.05, 1.0, 0.5, 0.05),
        "power": slider("threshold, as a power of 10", -2.0, 4.0, 0.0, 0.25),
        "steps": slider("number of steps", 1, longest, 100),
    }
    return Explorer("explore_cliff", fig, [path, end, start, losses, norms, bound], controls, update)


def describe_descent(rows, threshold):
    """In words: where a descent (rows w, b, loss, norm of the gradient) ends, its lowest loss, and what clipping did on the way."""
    w, b, loss, _ = rows[-1]
    norms = rows[:-1, 3]  # those that a step was made of
    place = "" if 3.8 <= w <= 5.8 and -3.1 <= b <= -1.6 else ", off the map"
    step = int(norms.argmax())
    clipped = int((norms > threshold).sum())
    return (
        f"From w = {rows[0, 0]:.2f}, b = {rows[0, 1]:.2f}, after {len(norms)} step{'s' * (len(norms) > 1)}: w = {w:.4g}, b = {b:.4g}{place}; the loss is "
        f"{loss:.2g}, the lowest on the way was {rows[:, 2].min():.2g}. The threshold {threshold:.3g} clipped {clipped} of "
        f"{len(norms)} step{'s' * (len(norms) > 1)}; the longest gradient, {norms[step]:.3g}, came at step {step}."
    )


def explore_spectra():
    """How W_hh begins: the eigenvalues and the singular values of each initialization, for any size, gain and seed."""
    angles = np.linspace(0, 2 * np.pi, 200)
    fig, (left, right) = plotting.figure(columns=2, width=8.4, height=3.9)
    left.plot(np.cos(angles), np.sin(angles), color="#888888", marker="", label="unit circle")
    (eigenvalues,) = left.plot([], [], "o", color=plotting.COLOURS[0], markersize=3.5, markevery=1, label="eigenvalues")
    left.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", title="Eigenvalues, in the complex plane")
    left.set(xlabel="real part", ylabel="imaginary part")
    left.legend(fontsize="x-small", loc="upper right")
    right.axhline(1, color="#888888", label="1: lengths are kept")
    (singular,) = right.plot(
        [], [], "s", color=plotting.COLOURS[1], markersize=3.5, markevery=1, label="singular values"
    )
    right.set(xlim=(-0.02, 1.02), ylim=(0, 3.2), title="Singular values, largest first")
    right.set(xlabel="rank, as a share of H", ylabel="singular value")
    right.legend(fontsize="x-small", loc="upper right")

    def update(init, H, gain, seed):
        W = recurrent_matrix(init, H, gain, seed, dtype=torch.float64)
        eig, sv = torch.linalg.eigvals(W).numpy(), torch.linalg.svdvals(W).numpy()
        eigenvalues.set_data(eig.real, eig.imag)
        singular.set_data(np.linspace(0, 1, H), sv)
        return f"{init}, H = {H}, gain {gain:.2f}, seed {seed}: {describe_spectrum(eig, sv)}"

    controls = {
        "init": dropdown("initialization of W_hh", list(INITS)),
        "H": slider("hidden size H", 2, 128, 64),
        "gain": slider("gain", 0.5, 1.5, 1.0, 0.05),
        "seed": slider("seed", 0, 50, 0),
    }
    return Explorer("explore_spectra", fig, [eigenvalues, singular], controls, update)


def describe_spectrum(eigenvalues, singular_values):
    """In words: spectral norm, radius and condition number, and what a step does to a length."""
    norm, least, radius = singular_values[0], singular_values[-1], abs(eigenvalues).max()
    numbers = f"spectral norm {norm:.3f}, spectral radius {radius:.3f}, condition number {norm / least:.3g}."
    if norm - least < 1e-9:
        return f"{numbers} Every vector's length is multiplied by {norm:.3f} a step, whatever its direction."
    return f"{numbers} A step multiplies a length by {least:.2g} to {norm:.2f}, depending on its direction."


def explore_temperature(model=None, vocabulary=None, prompts=("", "s", "mc", "john", "schw")):
    """What a character model of names would write next, at any temperature: the probability of each character, and samples.

    ``prompts`` are beginnings of names to go on from; a ``KeyError`` names the characters that ``vocabulary`` lacks. Without a
    model, a small one is trained on census names first, which takes about a second.
    """
    if (model is None) != (vocabulary is None):
        raise ValueError("model, vocabulary: expected both, or neither, got one of them")
    if model is None:
        model, vocabulary = small_name_model()
    outputs = {prompt: next_outputs(model, vocabulary, "\n" + prompt) for prompt in prompts}
    characters = ["end" if c == "\n" else c for c in vocabulary.characters]
    places = np.arange(len(characters))
    fig, (ax, right) = plotting.figure(columns=2, width=9.0, height=3.4, width_ratios=[4, 1])
    (soft,) = ax.plot([], [], "o", color=plotting.COLOURS[0], markevery=1, markersize=6, label="at the temperature")
    (plain,) = ax.plot([], [], "_", color="k", markevery=1, markersize=11, markeredgewidth=1.6, label="at temperature 1")
    stems = ax.vlines(places, 0, 0 * places, color=plotting.COLOURS[0], linewidth=5, alpha=0.5)
    ax.set(xlim=(-0.7, len(characters) - 0.3), ylim=(0, 1.05), title="The next character", ylabel="probability")
    ax.set_xticks(places, characters)
    ax.set_xlabel("character, or the end of the name")
    ax.legend(fontsize="x-small", loc="upper right")
    right.set(title="Eight names", xlabel="drawn just now", ylabel="name", xticks=[], yticks=[])
    written = right.text(0.08, 0.94, "", va="top", linespacing=1.5, fontsize="small")

    def update(temperature, seed, prompt):
        p = soften(outputs[prompt], temperature).numpy()
        soft.set_data(places, p)
        plain.set_data(places, soften(outputs[prompt], 1.0).numpy())
        stems.set_segments([[(i, 0), (i, height)] for i, height in enumerate(p)])
        drawn = sample(model, vocabulary, "\n" + prompt, 14, temperature, count=8, seed=seed, stop="\n")
        names = [prompt + rest for rest in drawn]
        written.set_text("\n".join(names))
        return describe_next(prompt, temperature, seed, p, characters, names)

    controls = {
        "temperature": slider("temperature", 0.1, 3.0, 1.0, 0.05),
        "seed": slider("seed of the samples", 0, 50, 0),
        "prompt": dropdown("beginning of the name", [(prompt or "(none)", prompt) for prompt in prompts]),
    }
    return Explorer("explore_temperature", fig, [stems, soft, plain, written], controls, update)


@cache
def small_name_model():
    """A small ``CharacterRNN`` of census names and its vocabulary: enough to see what a temperature does."""
    names = census_names(count=5000)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    text = "\n" + "".join(names[i] + "\n" for i in order)
    vocabulary = Vocabulary(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CharacterRNN(len(vocabulary), 48)
    train_characters(model, vocabulary.encode(text), 400, batch_size=64, chunk=8, lr=1e-2, progress=False)
    return model, vocabulary


@torch.no_grad()
def next_outputs(model, vocabulary, prompt):
    """What the readout says after ``prompt``: one number for each character."""
    return model(vocabulary.encode(prompt).unsqueeze(0))[0][0, -1]


def describe_next(prompt, temperature, seed, p, characters, names):
    """In words: the likeliest next character, how many are needed for nine draws in ten, the entropy, and samples."""
    likeliest, entropy = int(p.argmax()), float(-(p * np.log2(np.maximum(p, 1e-30))).sum())
    few = int((np.cumsum(np.sort(p)[::-1]) < 0.9).sum()) + 1
    after = f'After "{prompt}"' if prompt else "At the beginning of a name"
    return (
        f"{after}, at temperature {temperature:.2f}, the likeliest next is {characters[likeliest]!r}, with probability {p[likeliest]:.3f}; "
        f"{few} of {len(p)} share nine draws in ten; the entropy is {entropy + 0.0:.2f} bits. Eight names of seed {seed}: {', '.join(names)}."
    )


class LiveMonitor(GradientMonitor):
    """A ``GradientMonitor`` with its picture, drawn again while training runs; that takes about ``share`` of the time.

    with LiveMonitor(model, title, alt) as monitor:
        train(model, task, 300, after_step=monitor)

    Left the norms of the weights' gradients; right, for a ``VanillaRNN``, ‖dL/dh_t‖ over time. The last picture stays.
    """

    def __init__(self, model, title, alt, share=0.1):
        super().__init__(model)
        self.alt, self.share, self.handle = alt, share, None
        self.fig, axes = plotting.figure(columns=1 + self._has_states, width=8.4, height=3.6, squeeze=False)
        self.left, *right = axes[0]
        weights = [name for name, p in model.named_parameters() if p.requires_grad and p.dim() > 1]
        self.lines = {name: self.left.plot([], [], label=name)[0] for name in [*weights, "all"]}
        self.left.set(yscale="log", xlabel="training step", ylabel="norm of the gradient", title=title)
        self.left.legend(fontsize="x-small")
        self.heat = right[0].imshow([[0.0]], aspect="auto", origin="lower") if right else None
        if right:
            right[0].set(xlabel="training step", ylabel="time step t", title="Through time")
            right[0].grid(False)
            self.fig.colorbar(self.heat, ax=right[0], label="$\\log_{10} \\Vert dL/dh_t \\Vert$")
        self.due = time.perf_counter() + 0.3

    def __call__(self, step, model=None):
        super().__call__(step, model)
        if time.perf_counter() >= self.due:
            self.draw()

    def draw(self):
        """Draw what is recorded so far, and choose when to draw next."""
        start, table = time.perf_counter(), self.table()
        for name, line in self.lines.items():
            line.set(data=(table.index, table[name]), markevery=max(1, len(table) // 12))  # a dozen markers, not a band
        self.left.relim()
        self.left.autoscale_view()
        if self.heat:
            logs = self.profile().log10().T.numpy()
            self.heat.set(data=logs, extent=(self.steps[0] - 0.5, self.steps[-1] + 0.5, 0.5, len(logs) + 0.5))
            self.heat.autoscale()
        forms, metadata = plotting.picture(self.fig, self.alt)
        if self.handle is None:
            self.handle = display(forms, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(forms, metadata=metadata, raw=True)
        now = time.perf_counter()
        self.due = now + (now - start) / self.share

    def close(self):
        """Draw the last picture, if anything was recorded, and remove the hooks."""
        super().close()
        if self.steps:
            self.draw()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
