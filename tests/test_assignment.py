"""The exercises of notebook 08 beyond what test_exercises.py asks of all: every correct style has full marks; what marking needs."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnncourse import exercises
from rnncourse.exercises import EXERCISES, check, score_sheet
from rnncourse.exercises.checking import Exercise, Mistake, Raised, check_answer, seed_all
from rnncourse.exercises.drawing import Drawing, describe
from rnncourse.exercises.experiments import copy_last_half
from rnncourse.exercises.speaking import agreement
from rnncourse.gradients import state_gradients
from rnncourse.plotting import figure
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Examples, one_hot
from rnncourse.training import train

# -- styles ------------------------------------------------------------------------------------------------------------


def bound_as_tensors(sigma, slope, steps=50):
    bound = torch.tensor(sigma * slope, dtype=torch.float64).pow(steps)
    return [bound, np.str_("may explode" if bound > 1 else "vanishes")]


def bound_by_a_loop(sigma, slope, steps=50):
    bound = 1.0
    for _ in range(steps):
        bound *= sigma * slope
    return bound, "vanishes" if bound < 1 else "may explode"


def gradient_by_numpy(W_hh, v, steps=50):
    return float(np.linalg.norm(np.linalg.matrix_power(W_hh.numpy().T, steps) @ v.numpy()))


def copy_by_a_loop(symbols, k=8):
    batch, n = symbols.shape
    x = torch.zeros(batch, n + n // 2, k + 1)
    for b in range(batch):
        for t in range(x.shape[1]):
            x[b, t, symbols[b, t] if t < n else k] = 1
    return [x.double(), symbols[:, -(n // 2) :].tolist()]


def copy_by_train(test, steps, seed):
    """The course's own loop, on a pool of random sequences."""
    torch.manual_seed(seed)
    model, pool = VanillaRNN(9, 64, 8), torch.randint(8, (2000, test.shape[1]))
    train(model, Examples(*copy_last_half(pool), output_size=8), steps, clip_norm=1.0, seed=seed, progress=False)
    x, y = copy_last_half(test)
    return model, (model(x)[0][:, -y.shape[1] :].argmax(-1) == y).double().mean().item()


def copy_without_clipping(test, steps, seed):
    """The text's way but for the clipping, which the check can't see; gradients set to zero at the end of an update."""
    torch.manual_seed(seed)
    model = VanillaRNN(9, 64, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, y = copy_last_half(torch.randint(0, 8, (32, test.shape[1])))
        F.cross_entropy(model(x)[0][:, -y.shape[1] :].mT, y).backward()
        optimizer.step()
        model.zero_grad(set_to_none=False)
    x, y = copy_last_half(test)
    return model, (model(x)[0][:, -y.shape[1] :].argmax(-1) == y).float().mean()


def copy_with_gradients_added_up(test, steps, seed):
    torch.manual_seed(seed)
    model = VanillaRNN(9, 64, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, y = copy_last_half(torch.randint(8, (32, test.shape[1])))
        F.cross_entropy(model(x)[0][:, -y.shape[1] :].flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x, y = copy_last_half(test)
    return model, (model(x)[0][:, -y.shape[1] :].argmax(-1) == y).float().mean()


def unrolled(model, x, y):
    h, states, outputs = torch.zeros(len(x), model.hidden_size, dtype=x.dtype), [], []
    for x_t in x.unbind(1):
        h = torch.tanh(model.W_xh(x_t) + model.W_hh(h))
        states.append(h)
        outputs.append(model.W_hy(h))
    return states, F.cross_entropy(torch.stack(outputs, 1).flatten(0, 1), y.flatten(), ignore_index=-1)


def norms_by_retain_grad(model, x, y):
    states, loss = unrolled(model, x, y)
    for h in states:
        h.retain_grad()
    loss.backward()
    return [h.grad.norm().item() for h in states]


def norms_by_autograd(model, x, y):
    states, loss = unrolled(model, x, y)
    return np.array([float(g.norm()) for g in torch.autograd.grad(loss, states)])


def norms_by_the_engine(model, x, y):
    model.keep_dL_dh = True
    F.cross_entropy(model(x)[0][y >= 0], y[y >= 0]).backward()
    return model.dL_dh.norm(dim=(0, 2))


def norms_by_the_course(model, x, y):
    return state_gradients(model, x, lambda o: F.cross_entropy(o.mT, y, ignore_index=-1)).square().sum((0, 2)).sqrt()


def plot_by_pyplot(norms):
    plt.figure()
    plt.semilogy(np.arange(1, len(norms) + 1), norms, "o-")
    plt.xlabel("t")
    plt.ylabel("norm")
    plt.title("gradients", loc="left")
    return plt.gcf()


def plot_by_axes(norms):
    fig, ax = plt.subplots()
    ax.scatter(range(1, len(norms) + 1), norms.tolist())
    ax.set(yscale="log", xlabel="t", ylabel="norm", title="gradients")
    return fig, ax


def plot_of_logarithms(norms):
    fig, ax = figure()
    ax.plot(range(len(norms), 0, -1), norms.log10().flip(0), color="k")  # drawn from the right, with a line beside it
    ax.axhline(0)
    ax.set(xlabel="t", ylabel="log10 norm")
    fig.suptitle("gradients")
    return ax


def plot_of_bars(norms):
    fig, ax = figure()
    ax.bar(range(1, len(norms) + 1), norms)
    ax.set(yscale="log", xlabel="t", ylabel="norm", title="gradients")
    return fig


def highway_by_singular_values(W):
    return torch.allclose(torch.linalg.svdvals(W), torch.ones(len(W), dtype=W.dtype), atol=1e-6)


def highway_as_a_tensor(W):
    return ((W @ W.T - torch.eye(len(W), dtype=W.dtype)).abs() < 1e-6).all()


def stretch_by_a_loop(W, steps):
    P = torch.eye(len(W), dtype=W.dtype)
    for _ in range(steps):
        P = W.T @ P
    s = torch.linalg.svd(P).S
    return torch.stack([s[-1], s[0]])


def generate_by_categorical(model, start, length, temperature=1.0):
    words, h = start.tolist(), None
    for word in words[:-1]:
        h = model(one_hot(torch.tensor([[word]]), model.input_size), h)[1]
    for _ in range(length):
        outputs, h = model(one_hot(torch.tensor([[words[-1]]]), model.input_size), h)
        words.append(torch.distributions.Categorical(logits=outputs.detach()[0, 0] / temperature).sample())
    return torch.tensor([int(word) for word in words[len(start) :]])


def generate_from_the_start_each_time(model, start, length, temperature=1.0):
    words = start.clone()
    for _ in range(length):
        p = torch.softmax(model(one_hot(words[None], model.input_size))[0][0, -1] / temperature, -1)
        words = torch.cat([words, torch.multinomial(p.detach(), 1)])
    return words[len(start) :]


def agreement_by_a_loop(model, prefixes, right, wrong):
    passed = 0
    for prefix, r, w in zip(prefixes, right, wrong):
        scores = model(one_hot(prefix.unsqueeze(0), model.input_size))[0][0, -1].softmax(0)
        passed += int(scores[r] > scores[w])
    return passed / len(prefixes)


def speaking_by_train(words, k, tests, steps, seed):
    torch.manual_seed(seed)
    model = VanillaRNN(k, 32, k)
    x, y = one_hot(words[:, :-1], k), words[:, 1:]
    train(model, Examples(x, y, k), steps, lr=1e-2, clip_norm=1.0, seed=seed, progress=False)
    return model, torch.stack([agreement(model, *test) for test in tests])


STYLES = {
    "bound_after": [bound_as_tensors, bound_by_a_loop],
    "gradient_after": [gradient_by_numpy],
    "copy_last_half": [copy_by_a_loop],
    "copy_experiment": [copy_by_train, copy_without_clipping],
    "gradient_norms": [norms_by_retain_grad, norms_by_autograd, norms_by_the_engine, norms_by_the_course],
    "plot_gradient_norms": [plot_by_pyplot, plot_by_axes, plot_of_logarithms, plot_of_bars],
    "is_highway": [highway_by_singular_values, highway_as_a_tensor],
    "stretch": [stretch_by_a_loop],
    "generate": [generate_by_categorical, generate_from_the_start_each_time],
    "agreement": [agreement_by_a_loop],
    "agreement_experiment": [speaking_by_train],
}


@pytest.mark.parametrize(
    "name, answer", [(name, a) for name, many in STYLES.items() for a in many], ids=lambda v: getattr(v, "__name__", v)
)
def test_every_correct_style_has_full_marks(name, answer):
    for seed in range(3):
        result = check_answer(EXERCISES[name], answer, seed)
        assert result.status == "correct", result.message
    assert not plt.get_fignums()


def test_gradients_that_add_up_are_seen_though_the_easy_case_is_learned():
    for seed in range(3):
        result = check_answer(EXERCISES["copy_experiment"], copy_with_gradients_added_up, seed)
        assert "call `optimizer.zero_grad()` at every update" in result.message


def test_the_answer_of_one_that_counts_its_calls_is_none():
    said = []
    check_answer(EXERCISES["is_highway"], lambda W: said.append(EXERCISES["is_highway"].reference(W)) or said[-1], 0)
    assert 0 < sum(said) < len(said) == EXERCISES["is_highway"].trials
    for seed in range(1, 5):
        counted = iter(said)
        assert check_answer(EXERCISES["is_highway"], lambda W: next(counted), seed).status == "wrong"


# -- points, seeds, errors from elsewhere ------------------------------------------------------------------------------


def twice(x):
    return 2 * x


WORTH_THREE = Exercise(
    name="twice",
    reference=twice,
    inputs=lambda g: (torch.randn(3, generator=g),),
    hints=("1", "2", "3"),
    why="twice",
    mistakes=(Mistake(lambda x: x, "once"),),
    points=3,
)


def test_a_result_s_text_is_its_points():
    right, wrong = check_answer(WORTH_THREE, twice), check_answer(WORTH_THREE, lambda x: x)
    assert (repr(right), right.score, right.exercise) == ("3", 1.0, "twice")
    assert (repr(wrong), wrong.score) == ("0", 0.0)
    assert right._repr_html_() == "<p>✔ correct (3 of 3 points)</p>" and "(0 of 3 points)" in wrong._repr_html_()


def test_seed_all_gives_everybody_the_same_inputs():
    def inputs(assignment):
        seen = []
        seed_all(assignment)
        check_answer(WORTH_THREE, lambda x: seen.append(x) or 2 * x)
        return torch.stack(seen)

    try:
        first, again, other = inputs("08"), inputs("08"), inputs("09")
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert not torch.equal(inputs(None), inputs(None))
        assert len({tuple(row.tolist()) for row in first}) == 3
    finally:
        seed_all(None)


def test_an_error_from_another_process_reads_as_one_of_here():
    def far_away(x):
        raise Raised("ZeroDivisionError", "division\nby zero", " at line 3 of its cell (1 / 0)")

    message = check_answer(WORTH_THREE, far_away).message
    assert message == "your function raised ZeroDivisionError at line 3 of its cell (1 / 0): division by zero"


class ARule(VanillaRNN):
    """No network: it looks the answer up."""

    def forward(self, x, h_prev=None):
        symbols = x.argmax(-1)[:, : 2 * x.shape[1] // 3]
        said = F.one_hot(symbols[:, symbols.shape[1] // 2 :], 8).float()
        return torch.cat([said, said, said], dim=1)[:, -x.shape[1] :], None


class OfTheLibrary(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.readout = nn.RNN(9, 64, batch_first=True), nn.Linear(64, 8)

    def forward(self, x):
        return self.readout(self.rnn(x)[0])


@pytest.mark.parametrize(
    "make",
    [lambda: ARule(9, 64, 8), OfTheLibrary, lambda: VanillaRNN(9, 32, 8), lambda: VanillaRNN(9, 64, 8, seeds=[0]), lambda: None],
    ids=["a rule", "nn.RNN", "of another size", "two in one", "none"],
)
def test_an_experiment_hands_over_the_network_that_was_asked_for(make):
    result = check_answer(EXERCISES["copy_experiment"], lambda test, steps, seed: (make(), 1.0), 0)
    assert "not the VanillaRNN(9, 64, 8) that the text asks for" in result.message


def test_a_model_that_breaks_in_the_judge_s_hands_is_the_learner_s():
    model = VanillaRNN(9, 64, 8)
    model.nonlinearity = "sine"
    result = check_answer(EXERCISES["copy_experiment"], lambda test, steps, seed: (model, 1.0), 0)
    assert result.message.startswith("what your function returned can't be used: ValueError: nonlinearity: expected ")


def test_an_experiment_may_compute_in_float64():
    def in_double(test, steps, seed):
        torch.set_default_dtype(torch.float64)
        try:
            torch.manual_seed(seed)
            model = VanillaRNN(9, 64, 8)
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            for _ in range(steps):
                x, y = EXERCISES["copy_last_half"].reference(torch.randint(8, (32, test.shape[1])))
                outputs = model(x.double())[0][:, -y.shape[1] :]
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten()).backward()
                optimizer.step()
            x, y = EXERCISES["copy_last_half"].reference(test)
            return model, (model(x.double())[0][:, -y.shape[1] :].argmax(-1) == y).double().mean()
        finally:
            torch.set_default_dtype(torch.float32)

    result = check_answer(EXERCISES["copy_experiment"], in_double, 0)
    assert result.status == "correct", result.message


def test_what_is_nearly_right_earns_a_part_of_the_points():
    def untitled(norms):
        fig = EXERCISES["plot_gradient_norms"].reference(norms)
        fig.axes[0].set_title("")
        return fig

    result = check_answer(EXERCISES["plot_gradient_norms"], untitled, 0)
    assert (result.status, repr(result)) == ("wrong", "1") and "(1 of 2 points)" in result._repr_html_()
    assert repr(check_answer(EXERCISES["plot_gradient_norms"], lambda norms: norms, 0)) == "0"

    def nameless(norms):
        fig = untitled(norms)
        fig.axes[0].set_ylabel("")
        return fig

    result = check_answer(EXERCISES["plot_gradient_norms"], nameless, 0)
    assert repr(result) == "0" and "the y axis has no label" in result.message and "no title" in result.message


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.judge and name != "plot_gradient_norms"])
def test_where_a_judge_stops_at_the_first_fault_none_earns_a_part(name):
    """An untrained network with its accuracy in per cent would otherwise earn more than one that tells the truth."""
    assert not any(mistake.credit for mistake in EXERCISES[name].mistakes)


def test_the_score_sheet_adds_up_what_was_checked(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "_results", {})
    check.is_highway(highway_as_a_tensor)
    check.stretch(lambda W, steps: (1.0, 1.0))
    score_sheet("is_highway", "stretch", "generate")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["✔", "is_highway", "2", "of", "2"],
        ["✘", "stretch", "0", "of", "1"],
        ["○", "generate", "0", "of", "2"],
    ]
    assert lines[3].startswith("2 of 5 points")
    with pytest.raises(ValueError, match="no exercise is called 'strech'"):
        score_sheet("strech")


# -- drawings ----------------------------------------------------------------------------------------------------------


def test_a_drawing_says_what_a_figure_shows_and_survives_a_journey():
    fig, ax = plt.subplots(2)[0], plt.gcf().axes[1]
    ax.plot([1, 2], [3.5, np.nan])
    ax.set(xlabel="x", ylabel="y", yscale="log")
    fig.suptitle("all of it")
    drawing = describe(fig)
    assert (drawing.title, drawing.xlabel, drawing.ylabel, drawing.yscale) == ("all of it", "x", "y", "log")
    assert drawing.points[0][0] == (1.0, 2.0) and drawing.points[0][1][0] == 3.5 and np.isnan(drawing.points[0][1][1])
    sent = json.loads(json.dumps(drawing.to_dict()))
    assert repr(Drawing.from_dict(sent)) == repr(drawing)
    assert describe(drawing) is drawing and not plt.get_fignums()


@pytest.mark.parametrize("thing", [None, 3, "figure", torch.zeros(2), {}, [], object()])
def test_what_is_no_figure_has_no_drawing(thing):
    assert describe(thing) is None


@pytest.mark.parametrize(
    "change", [{"points": 3}, {"points": [3]}, {"points": [[[1], ["a"]]]}, {"points": [[[1], [2], [3]]]}]
)
def test_a_forged_drawing_is_refused(change):
    with pytest.raises((TypeError, ValueError)):
        Drawing.from_dict(Drawing().to_dict() | change)
    with pytest.raises(KeyError):
        Drawing.from_dict({})
