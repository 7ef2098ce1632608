"""Explorers: every control has a label and moves the picture, and the words say what an independent computation finds."""

import io
import re
from functools import cache

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

from rnncourse import widgets
from rnncourse.applications import CharacterRNN
from rnncourse.clipping import descend
from rnncourse.initialization import recurrent_matrix
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Latch, Vocabulary, el_nino
from rnncourse.training import WithReadout, train
from rnncourse.widgets import (
    LiveMonitor,
    explore_bptt,
    explore_cliff,
    explore_gradients,
    explore_spectra,
    explore_temperature,
    explore_unit,
    small_name_model,
)

EXPLORERS = {name: make for name, make in vars(widgets).items() if name.startswith("explore_")}


@cache
def made(make):
    """One explorer of each kind for all tests, and where its controls began."""
    explorer = make()
    return explorer, {name: control.value for name, control in explorer.controls.items()}


def at_start(make, **values):
    """The explorer with its controls as they began, but for ``values``."""
    explorer, starts = made(make)
    for name, value in {**starts, **values}.items():
        explorer.controls[name].value = value
    return explorer


def words(explorer):
    """The words, as a reader has them."""
    return re.sub("<[^>]*>", "", explorer.words.value)


def numbers(text):
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text.replace("−", "-"))]


def drawn(explorer):
    """The picture as an array; it is a PNG of the figure's size."""
    with Image.open(io.BytesIO(explorer.picture.value)) as picture:
        assert picture.format == "PNG" and picture.size == explorer.fig.canvas.get_width_height()
        return np.asarray(picture.convert("RGB"))


def ends(control):
    """Values of a control that lie as far apart as it allows."""
    if isinstance(control, ipywidgets.Dropdown):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    return [control.min, control.max]


# -- every explorer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_every_control_has_a_label_that_is_shown_and_its_own(make):
    explorer = at_start(make)
    labels = [control.description for control in explorer.controls.values()]
    assert all(len(label) >= 4 for label in labels) and len(set(labels)) == len(labels)
    for control in explorer.controls.values():
        assert isinstance(control, (ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.Dropdown))
        assert not control.disabled and control.layout.visibility is None and control.layout.display is None
    shown = explorer.children[0].children
    assert list(shown) == list(explorer.controls.values())
    assert set(explorer.children[1:]) == {explorer.picture, explorer.words}


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_a_control_moves_picture_and_words_and_back(make):
    explorer = at_start(make)
    for name, control in explorer.controls.items():
        start, told, before = control.value, words(explorer), explorer.picture.value
        control.value = next(value for value in ends(control) if value != start)
        assert explorer.picture.value != before and (drawn(explorer) != 255).any(), name
        assert words(explorer) != told, name
        control.value = start
        assert explorer.picture.value == before and words(explorer) == told, name


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_a_slider_keeps_to_its_range(make):
    for name in made(make)[1]:
        explorer = at_start(make)
        control = explorer.controls[name]
        if isinstance(control, ipywidgets.Dropdown):
            with pytest.raises(Exception, match="Invalid selection"):
                control.value = "no such choice"
            continue
        for value, bound in ((control.max + 1000, control.max), (control.min - 1000, control.min)):
            control.value = value
            assert control.value == bound, name
            assert len(words(explorer)) > 40 and "nan" not in words(explorer), name


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_no_figure_is_left_open_and_the_text_form_is_stable(make):
    explorer = at_start(make)
    assert pyplot.get_fignums() == []
    name = make.__name__
    expected = f"{name}(): an explorer with {len(explorer.controls)} controls; it moves where a kernel runs"
    assert repr(explorer) == explorer._repr_mimebundle_()["text/plain"] == expected


def test_an_axis_is_drawn_anew_when_its_limits_change():
    """Around the axes stand the numbers of their ticks: there the picture is that of the figure drawn whole."""
    explorer = explore_gradients()
    ax, width = explorer.fig.axes[0], explorer.fig.axes[0].get_window_extent().x0
    limits, labels = set(), set()
    for gain in (0.5, 1.2, 3.0, 1.2):
        explorer.controls["gain"].value = gain
        seen = drawn(explorer)[:, : int(width) - 1]
        explorer.fig.canvas.draw()
        assert (seen == np.asarray(explorer.fig.canvas.buffer_rgba())[:, : int(width) - 1, :3]).all()
        limits.add(ax.get_ylim())
        labels.add(seen.tobytes())
    assert len(limits) == len(labels) == 3


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_two_explorers_do_not_share_a_picture(make):
    one, other = at_start(make), make()
    before = other.picture.value
    assert one.picture.value == before  # the same every time
    control = next(iter(one.controls.values()))
    control.value = next(value for value in ends(control) if value != control.value)
    assert other.picture.value == before != one.picture.value


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_screen_readers_are_told(make):
    explorer = at_start(make)
    assert 'role="status"' in explorer.words.value and 'aria-live="polite"' in explorer.words.value
    assert {"explorer-picture"} <= set(explorer.picture._dom_classes) and {"explorer"} <= set(explorer._dom_classes)


@pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS)
def test_the_figure_has_titles_and_labels(make):
    for ax in at_start(make).fig.axes:
        assert ax.get_ylabel() and (hasattr(ax, "_colorbar") or ax.get_xlabel() and ax.get_title())


# -- one unit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [-2.5, -1.1, -1.0, -0.9, -0.5, 0.0, 0.9, 1.0, 1.05, 2.5])
@pytest.mark.parametrize("b, h_0", [(0.0, 0.1), (0.3, -1.0), (-1.0, 1.0), (0.0, 0.0)])
def test_the_words_on_one_unit_are_true(w, b, h_0):
    explorer = at_start(explore_unit, w=w, b=b, h_0=h_0)
    told = words(explorer)
    assert told.startswith(f"w = {w:.2f}, b = {b:.2f}: ")

    grid = np.linspace(-1, 1, 200_002)  # fixed points: where tanh(w h + b) crosses h
    gap = np.tanh(w * grid + b) - grid
    crossings = grid[np.flatnonzero(np.sign(gap[:-1]) != np.sign(gap[1:]))]
    assert "-0.00" not in told
    found = re.findall(r"(-?\d\.\d\d) \((stable|unstable)\)", told)
    assert len(found) == len(crossings)
    assert ("one fixed point" if len(found) == 1 else f"{len(found)} fixed points") in told
    for (place, kind), h in zip(found, crossings):
        below, above = np.tanh(w * (h + np.array([-1e-3, 1e-3])) + b)
        assert abs(float(place) - h) < 0.0051
        assert kind == ("stable" if abs(above - below) < 2e-3 else "unstable")

    curve, _, stable, unstable, _ = explorer.artists
    assert np.allclose(curve.get_ydata(), np.tanh(w * curve.get_xdata() + b))
    assert [f"{h:.2f}" for h in stable.get_xdata()] == [h for h, kind in found if kind == "stable"]
    assert [f"{h:.2f}" for h in unstable.get_xdata()] == [h for h, kind in found if kind == "unstable"]

    h = [h_0]
    for _ in range(5000):
        h.append(np.tanh(w * h[-1] + b))
    end = told.split(f"From h_0 = {h_0:.2f} the state ")[1]
    if abs(h[30] - h[5000]) > 0.006:
        assert f"is still moving after 30 steps, at {h[30]:.2f}." == end
    elif abs(h[5000] - h[4999]) > 0.006:
        assert f"ends up jumping between {h[29]:.2f} and {h[30]:.2f}." == end
    else:
        assert f"goes to {round(h[30], 2) + 0.0:.2f} and stays." == end


def test_the_picture_of_one_unit_is_of_these_numbers():
    explorer = at_start(explore_unit)
    curve, path, stable, unstable, course = explorer.artists
    assert np.allclose(curve.get_ydata(), np.tanh(1.5 * curve.get_xdata()))
    assert np.allclose(stable.get_xdata(), [-0.8586, 0.8586], atol=1e-4) and np.allclose(unstable.get_xdata(), [0.0])
    h = course.get_ydata()
    assert np.allclose(h[1:], np.tanh(1.5 * h[:-1])) and h[0] == 0.1 and np.array_equal(course.get_xdata(), range(31))
    for h_prev, h_t in zip(path.get_xdata(), path.get_ydata()):  # on the map or on the diagonal, at every corner
        assert h_t == h_prev or np.isclose(h_t, np.tanh(1.5 * h_prev))


# -- the backward pass ---------------------------------------------------------------------------------------------


def by_autograd(gain, steps_asked, T=12, H=8):
    """The norms of ∂⁺L/∂h_t, of what comes through h_{t+1}, and of dL/dh_t, by autograd through a loop of its own."""
    months = torch.tensor(el_nino().to_numpy())
    months = ((months - months.mean()) / months.std()).float()[46 * 12 :]  # 1996 is the 47th year
    x, y = months[:T], months[1 : T + 1]
    model = VanillaRNN(1, H, 1, seeds=[0])
    W_xh, b_h, W_hh, W_hy, b_y = (p.detach()[0] for p in model.parameters())
    assert W_hh.shape == (H, H) and W_xh.shape == (H, 1) and W_hy.shape == (1, H)
    W_hh = W_hh * gain / torch.linalg.svdvals(W_hh)[0]
    h, states, outputs = torch.zeros(H, requires_grad=True), [], []
    for t in range(T):
        h = torch.tanh(W_xh[:, 0] * x[t] + b_h + W_hh @ h)
        h.retain_grad()
        states.append(h)
        outputs.append(W_hy @ h + b_y)
    error = torch.cat(outputs) - y
    error[T - steps_asked :].square().mean().backward()
    total = torch.stack([h.grad for h in states])
    asked = torch.arange(T) >= T - steps_asked
    immediate = (2 / steps_asked * error.detach() * asked)[:, None] * W_hy
    slope = 1 - torch.stack(states).detach() ** 2
    through = torch.cat([(slope * total)[1:] @ W_hh, torch.zeros(1, H)])
    assert torch.allclose(immediate + through, total, atol=1e-6)
    return [v.norm(dim=1).numpy() for v in (immediate, through, total)]


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("steps_asked", [12, 1])
def test_the_words_and_the_picture_of_the_backward_pass_are_true(gain, steps_asked):
    norms = by_autograd(gain, steps_asked)
    for t in (12, 11, 5, 1):
        explorer = at_start(explore_bptt, t=t, gain=gain, steps_asked=steps_asked)
        told = words(explorer)
        immediate, through, total = (norm[t - 1] for norm in norms)
        said = numbers(re.sub(r"h_\d+", "h", told))
        expected = [t, 12, immediate, through, total, total / norms[2][-1]]
        assert ("nothing comes from later" in told) == (t == 12)
        if t == 12:
            expected = [t, 12, immediate, total]
        assert np.allclose(said, expected, rtol=6e-3, atol=1e-9), told
        for line, norm in zip(explorer.artists[1:], norms):
            shown = np.flatnonzero((np.arange(1, 13) >= t) & (norm > 0))
            assert np.array_equal(line.get_xdata(), shown + 1)
            assert np.allclose(line.get_ydata(), norm[shown], rtol=1e-3)
            low, high = line.axes.get_ylim()
            assert ((low < line.get_ydata()) & (line.get_ydata() < high)).all()  # nothing lies outside the picture
        assert np.isnan(np.asarray(explorer.artists[0].get_array().filled(np.nan))[:, : t - 1]).all()


# -- the gradient through time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "linear"])
@pytest.mark.parametrize(
    "init, gain, scale, T", [("orthogonal", 1.2, 0.1, 50), ("gaussian", 3.0, 1.0, 30), ("default", 0.5, 2.0, 2)]
)
def test_the_words_and_the_picture_of_the_gradient_are_true(nonlinearity, init, gain, scale, T):
    values = {"init": init, "gain": gain, "scale": scale, "length": T, "nonlinearity": nonlinearity}
    explorer = at_start(explore_gradients, **values)
    W = recurrent_matrix(init, 32, gain, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(400, 32, generator=generator, dtype=torch.float64)
    v = torch.randn(32, generator=generator, dtype=torch.float64)
    phi = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}[nonlinearity]
    h, states = torch.zeros(32, dtype=torch.float64, requires_grad=True), []
    for x_t in x[:T]:
        h = phi(x_t + W @ h)
        h.retain_grad()
        states.append(h)
    (h @ v / v.norm()).backward()
    norms = torch.stack([state.grad.norm() for state in reversed(states)])
    singular, radius = torch.linalg.svdvals(W)[0].item(), np.abs(np.linalg.eigvals(W.numpy())).max()

    told = words(explorer)
    sigma, rho, exponent, a_step, start, end, factor, per_step, allowed = numbers(re.sub("₁", "", told))
    assert np.allclose([sigma, rho], [singular, radius], rtol=6e-3)
    assert (start, end) == (T, 1) and ("grew" in told) == (norms[-1] > 1)
    expected = [norms[-1], norms[-1] ** (1 / (T - 1)), singular ** (T - 1)]
    assert np.allclose([factor, per_step, allowed], expected, rtol=6e-3), told
    assert np.isclose(a_step, np.exp(exponent), rtol=6e-3) and exponent <= np.log(singular) + 1e-3
    with torch.no_grad():  # one tangent vector along the whole course: it grows as the largest exponent says
        h, u, growth = torch.zeros(32, dtype=torch.float64), v, []
        for x_t in x:
            h = phi(x_t + W @ h)
            slope = {"tanh": 1 - h**2, "relu": (h > 0).double(), "linear": torch.ones_like(h)}[nonlinearity]
            u = slope * (W @ u)
            growth.append(u.norm().log())
            u = u / u.norm()
    assert np.isclose(exponent, torch.stack(growth[100:]).mean(), atol=2e-2)

    gradient, bound, power_of_radius, forecast = explorer.artists
    assert np.allclose(gradient.get_ydata(), norms.log10(), atol=1e-9)
    low, high = gradient.axes.get_ylim()
    assert ((low <= gradient.get_ydata()) & (gradient.get_ydata() <= high)).all()
    for line, rate in ((bound, singular), (power_of_radius, radius), (forecast, np.exp(exponent))):
        assert np.allclose(line.get_ydata(), np.arange(T) * np.log10(rate), atol=0.02)
    assert (gradient.get_ydata() <= bound.get_ydata() + 1e-9).all()


def test_a_gradient_that_died_is_not_drawn_and_is_said_to_be_zero():
    explorer = at_start(explore_gradients, init="identity", gain=0.5, nonlinearity="relu", length=100)
    assert "shrank to 0 times its norm" in words(explorer) and "nan" not in words(explorer)
    assert np.isfinite(explorer.artists[0].get_ydata()).all() and 1 <= len(explorer.artists[0].get_ydata()) < 100


def test_a_gradient_that_keeps_its_norm_is_said_to_keep_it():
    explorer = at_start(explore_gradients, init="orthogonal", gain=1.0, nonlinearity="linear")
    assert "the gradient kept its norm, 1 a step" in words(explorer)


# -- the cliff -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power, rate, steps", [(0.0, 0.5, 100), (4.0, 0.5, 100), (-2.0, 0.3, 60), (0.5, 1.0, 1)])
def test_the_words_on_the_cliff_are_true(power, rate, steps):
    told = words(at_start(explore_cliff, power=power, rate=rate, steps=steps))
    path = descend(5.5, -2.6, rate, steps, 10.0**power)
    _, _, told_steps, w, b, loss, lowest, threshold, clipped, of, longest, step = numbers(told)
    norms = path[:-1, 3]
    assert [told_steps, of, clipped, step] == [steps, steps, int((norms > 10.0**power).sum()), int(norms.argmax())]
    assert [w, b] == pytest.approx(path[-1, :2].tolist(), rel=1e-3)
    assert [loss, lowest, longest] == pytest.approx(torch.stack([path[-1, 2], path[:, 2].min(), norms.max()]).tolist(), rel=0.06)
    assert threshold == pytest.approx(10.0**power, rel=1e-2)
    assert ("off the map" in told) == (power == 4.0)


# -- temperature ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature, seed, prompt", [(1.0, 0, ""), (0.1, 3, "mc"), (3.0, 50, "schw")])
def test_the_words_and_the_picture_on_temperature_are_true(temperature, seed, prompt):
    model, vocabulary = small_name_model()
    explorer = at_start(explore_temperature, temperature=temperature, seed=seed, prompt=prompt)
    outputs = model(vocabulary.encode("\n" + prompt)[None])[0][0, -1].detach().double()
    p = torch.exp(outputs / temperature) / torch.exp(outputs / temperature).sum()
    stems, soft, plain, written = explorer.artists
    assert np.allclose(soft.get_ydata(), p, atol=1e-5)
    assert np.allclose(plain.get_ydata(), outputs.softmax(-1), atol=1e-5)
    assert np.allclose([segment[1] for segment in stems.get_segments()], np.stack([range(len(p)), p], axis=1), atol=1e-5)
    told = words(explorer)
    names = re.search(r"Eight names of seed \d+: (.*)\.$", told)[1].split(", ")
    assert names == written.get_text().split("\n") and len(names) == 8 and all(name.startswith(prompt) for name in names)
    said_temperature, likeliest, few, of, entropy = numbers(re.sub(r"Eight.*", "", told).replace(prompt, ""))
    largest = p.sort(descending=True).values
    assert (said_temperature, of) == (temperature, 27) and likeliest == pytest.approx(largest[0].item(), abs=6e-4)
    assert largest[: int(few)].sum() >= 0.9 > largest[: int(few) - 1].sum()
    assert entropy == pytest.approx(-(p * p.log2()).sum().item(), abs=6e-3)


def test_temperature_takes_any_model_and_refuses_a_prompt_that_it_cannot_read():
    torch.manual_seed(0)
    vocabulary = Vocabulary("\nabc")
    explorer = explore_temperature(CharacterRNN(4, 8), vocabulary, prompts=("", "ab"))
    assert "of 4 share nine draws" in words(explorer) and explorer.controls["prompt"].options[1] == ("ab", "ab")
    with pytest.raises(KeyError, match=r"not in the vocabulary: \['z'\]"):
        explore_temperature(CharacterRNN(4, 8), vocabulary, prompts=("az",))
    with pytest.raises(ValueError, match="model, vocabulary: expected both, or neither"):
        explore_temperature(CharacterRNN(4, 8))


# -- the live monitor ----------------------------------------------------------------------------------------------

ALT = "Norms of the gradients against the training step, drawn for a test."


def watched(monkeypatch, model, share):
    """The pictures that a live monitor shows during a short run, and the monitor."""
    pictures = []

    class Handle:
        def update(self, forms, **options):
            pictures.append(forms)

    def display(forms, **options):
        assert options["display_id"] and options["metadata"]["image/png"]["alt"] == ALT
        pictures.append(forms)
        return Handle()

    monkeypatch.setattr(widgets, "display", display)
    with LiveMonitor(model, "Gradients", ALT, share) as monitor:
        monitor.due = 0.0
        train(model, Latch(5), 6, after_step=monitor, progress=False)
    return pictures, monitor


@pytest.mark.parametrize(
    "make, panels",
    [
        (lambda: VanillaRNN(4, 6, 4), 3),  # norms, heat map, its colour bar
        (lambda: WithReadout(torch.nn.GRU(4, 6, batch_first=True), 4), 1),
    ],
)
def test_the_live_monitor_draws_while_training_runs_and_leaves_the_last_picture(monkeypatch, make, panels):
    torch.manual_seed(0)
    pictures, monitor = watched(monkeypatch, make(), share=1e9)
    assert len(pictures) == 7 and len({picture["image/png"] for picture in pictures}) >= 6  # each step, and the last again
    assert {picture["text/plain"] for picture in pictures} == {f"Figure: {ALT}"}
    assert len(monitor.fig.axes) == panels
    for name, line in monitor.lines.items():
        assert np.array_equal(line.get_ydata(), monitor.table()[name])
    assert "all" in monitor.lines and not any("bias" in name for name in monitor.lines)


def test_the_live_monitor_spends_a_share_of_the_time(monkeypatch):
    pictures, monitor = watched(monkeypatch, VanillaRNN(4, 6, 4), share=1e-6)
    assert len(pictures) == 2  # the first, since it was due, and the last
    assert len(monitor.table()) == 6


def test_the_live_monitor_lets_go_of_the_model_even_after_an_error():
    model = VanillaRNN(4, 6, 4)
    with pytest.raises(KeyboardInterrupt), LiveMonitor(model, "Gradients", ALT):
        raise KeyboardInterrupt
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("init, H, gain", [("orthogonal", 6, 0.8), ("gaussian", 6, 1.0), ("default", 20, 1.3)])
def test_the_words_on_a_spectrum_are_true(init, H, gain):
    told = words(at_start(explore_spectra, init=init, H=H, gain=gain, seed=2)).split(": ", 1)[1]
    W = recurrent_matrix(init, H, gain, 2, dtype=torch.float64).numpy()
    lengths = np.sqrt(np.linalg.eigvalsh(W.T @ W))  # by another road: of the singular values' squares
    radius = abs(np.linalg.eigvals(W)).max()
    given = numbers(told)
    assert given[:3] == pytest.approx([lengths[-1], radius, lengths[-1] / lengths[0]], rel=1e-2)
    if init == "orthogonal":
        assert given[3] == pytest.approx(gain) and "whatever its direction" in told
    else:
        assert given[3:] == pytest.approx([lengths[0], lengths[-1]], rel=0.06)


def test_the_live_monitor_has_steps_along_and_time_up():
    model = VanillaRNN(4, 8, 4)
    with LiveMonitor(model, "Title", "Alternative text that is long enough for a figure to be shown.") as live:
        for step in (1, 2, 3):
            model(torch.randn(2, 5, 4))[0].sum().backward()
            live(step)
    assert np.allclose(live.heat.get_array(), live.profile().log10().T)
