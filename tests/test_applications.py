"""Applications: n-grams and samples of a character model, baselines of forecasts, streaming, export, agreement."""

import logging
import math
import os
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from rnncourse.applications import (
    Cache,
    CachedAttention,
    CharacterRNN,
    WittenBell,
    ahead,
    ar_forecast,
    bits,
    export_step,
    interval_width,
    persistence,
    quantize_rows,
    quiet,
    rolling_origins,
    sample,
    seasonal_naive,
    soften,
    stream,
    streams,
    train_characters,
    with_small_weights,
    written_whole,
)
from rnncourse.bench import RECIPES, losses_apart, names_text
from rnncourse.initialization import initialize_, keep_orthogonal_
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Agreement, Latch, Vocabulary
from rnncourse.training import WithReadout, train

ROOT = Path(__file__).parent.parent

# ---------------------------------------------------------------- characters


def text_of(count, characters=5, seed=0):
    """Whole numbers at random, each dependent on the one before."""
    steps = torch.randint(0, 3, (count,), generator=torch.Generator().manual_seed(seed))
    return steps.cumsum(0) % characters


def by_hand(model, x, y, h_0):
    """The loss by the formula, differentiated by autograd, and the last state."""
    inputs = torch.eye(model.output_size, dtype=h_0.dtype)[x] if model.E is None else model.E[x]
    h, losses = h_0, []
    for t in range(x.shape[1]):
        h = torch.tanh(model.W_xh(inputs[:, t]) + model.W_hh(h))
        nll = -model.W_hy(h).log_softmax(-1).gather(1, y[:, t : t + 1].clamp(min=0))[:, 0]
        losses.append(nll[y[:, t] >= 0])
    return torch.cat(losses).mean(), h


@pytest.mark.parametrize("embedding", [None, 4])
@pytest.mark.parametrize("batch, T", [(1, 1), (3, 7), (900, 20)], ids=str)  # the last in three parts
@pytest.mark.parametrize("skips", [False, True])
def test_the_loss_of_a_character_model_and_every_gradient_are_those_of_the_formula(embedding, batch, T, skips):
    torch.manual_seed(0)
    model = CharacterRNN(5, 6, embedding).double()
    x, y = torch.randint(5, (batch, T)), torch.randint(-1 if skips else 0, 5, (batch, T))
    y[0, 0] = 2  # something is asked
    h_0 = torch.randn(batch, 6, dtype=torch.float64, requires_grad=True)
    wanted = [*model.parameters(), h_0]
    for mean in (True, False):
        expected, last = by_hand(model, x, y, h_0)
        expected = expected if mean else expected * (y >= 0).sum()
        model.W_hh.weight.grad = torch.ones(6, 6, dtype=torch.float64)  # is replaced
        loss, h, dL_dh_0 = model.backpropagate(x, y, h_0, mean)
        got = [loss, h, *(p.grad for p in model.parameters()), dL_dh_0]
        for right, ours in zip([expected, last, *torch.autograd.grad(expected, wanted)], got, strict=True):
            assert torch.allclose(ours, right, rtol=1e-12, atol=1e-12 * y.numel())
            assert ours.is_contiguous() and not ours.requires_grad
    if embedding is None:
        assert model.state_dict().keys() == VanillaRNN(5, 6, 5).state_dict().keys()
        assert 0.5 < model.W_xh.weight.abs().max() <= 1


@pytest.mark.parametrize("embedding", [None, 4])
def test_the_formula_computes_in_the_model_s_own_dtype_and_reads_characters_alone(embedding):
    model = CharacterRNN(5, 6, embedding).double()
    x = torch.tensor([[0, 4, 2]])
    assert model(x)[0].dtype == torch.float64
    with pytest.raises(ValueError, match="x: expected numbers from 0 to 4, got -1 to -1"):
        model(torch.full((1, 3), -1))


@pytest.mark.parametrize("embedding", [None, 4])
def test_a_character_model_is_drawn_anew_as_it_was_made(embedding):
    torch.manual_seed(0)
    model = CharacterRNN(5, 600, embedding)
    made = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.reset_parameters()
    for name, p in model.named_parameters():
        assert not torch.equal(p, made[name])
        drawn, before = p.detach().flatten(), made[name].flatten()
        if name == "E":  # 20 numbers, normal
            assert float(drawn.std()) == pytest.approx(float(before.std()), rel=0.9)
        else:  # uniform, 600 at least but for the readout's bias
            assert float(drawn.abs().max()) == pytest.approx(float(before.abs().max()), rel=0.02 if len(drawn) > 5 else 0.5)


def test_a_second_batch_of_another_size_computes_in_the_memory_of_the_first_and_changes_nothing():
    torch.manual_seed(0)
    model, fresh = CharacterRNN(5, 6), CharacterRNN(5, 6)
    fresh.load_state_dict(model.state_dict())
    big, small = torch.randint(5, (2, 40, 9)), torch.randint(5, (2, 3, 4))
    first = [*model.backpropagate(*big), *(p.grad for p in model.parameters())]
    kept = [value.clone() for value in first]
    assert model.backpropagate(*small)[0].item() == fresh.backpropagate(*small)[0].item()
    assert all(torch.equal(value, before) for value, before in zip(first, kept))  # nothing returned lies in that memory
    again = [*model.backpropagate(*big), *(p.grad for p in model.parameters())]
    assert all(torch.equal(value, before) for value, before in zip(again, kept))


@pytest.mark.parametrize(
    "x, y, complaint",
    [
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), "x: expected a tensor of whole numbers, torch.long, got torch.float32"),
        (torch.zeros(2, 3).long(), [[0]], "y: expected a tensor of whole numbers, torch.long, got list"),
        (torch.zeros(3).long(), torch.zeros(3).long(), r"x: expected shape \(batch, seq_len\), the same for x and y, got \(3,\)"),
        (torch.zeros(2, 3).long(), torch.zeros(2, 4).long(), r"y: expected shape .* got \(2, 4\)"),
        (torch.full((2, 3), 5), torch.zeros(2, 3).long(), "x: expected numbers from 0 to 4, got 5 to 5"),
        (torch.full((2, 3), -1), torch.zeros(2, 3).long(), "x: expected numbers from 0 to 4, got -1 to -1"),
        (torch.zeros(2, 3).long(), torch.full((2, 3), -2), "y: expected numbers from -1 to 4, got -2 to -2"),
        (torch.zeros(2, 3).long(), torch.full((2, 3), -1), "y: expected at least one character to be asked"),
    ],
)
def test_characters_that_cannot_be_read_are_refused(x, y, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        CharacterRNN(5, 6).backpropagate(x, y)


def test_a_state_of_another_batch_is_refused():
    with pytest.raises(ValueError, match=r"h_prev: expected shape \(2, 6\)"):
        CharacterRNN(5, 6).backpropagate(torch.zeros(2, 3).long(), torch.zeros(2, 3).long(), torch.zeros(3, 6))


def test_training_on_characters_learns_repeats_itself_and_ends_where_it_was_best():
    numbers, held_out = text_of(3000), text_of(500, seed=1)
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        model = CharacterRNN(5, 16)
        losses = train_characters(model, numbers, 150, batch_size=8, chunk=10, lr=1e-2, held_out=held_out, progress=False)
        ends.append((losses, bits(model, held_out).mean().item()))
    assert ends[0] == ends[1] and len(losses) == 150
    assert ends[0][1] < 1.75  # three of five characters may follow: log2 3 = 1.58; a guess has 2.32
    torch.manual_seed(0)
    overfitted = CharacterRNN(5, 16)
    train_characters(overfitted, text_of(60), 150, batch_size=2, chunk=10, lr=3e-2, progress=False)
    torch.manual_seed(0)
    stopped = CharacterRNN(5, 16)
    train_characters(stopped, text_of(60), 150, batch_size=2, chunk=10, lr=3e-2, held_out=held_out, progress=False)
    assert bits(stopped, held_out).mean() < bits(overfitted, held_out).mean() - 0.05


def test_training_on_characters_reads_chunks_in_order_carries_the_state_and_counts_in_bits():
    calls = []

    class Watched(CharacterRNN):
        def backpropagate(self, x, y, h=None):
            loss, h_end, gradient = super().backpropagate(x, y, h)
            calls.append((x.clone(), y.clone(), h if h is None else h.clone(), h_end.clone(), loss.item()))
            return loss, h_end, gradient

    numbers = text_of(500)
    losses = train_characters(Watched(5, 6), numbers, 24, batch_size=4, chunk=10, progress=False)
    assert losses == pytest.approx([loss / math.log(2) for *_, loss in calls])
    begun = [i for i, (_, _, h, _, _) in enumerate(calls) if h is None]
    assert 1 < len(begun) < len(calls) / 2  # most chunks go on from the one before
    assert all(torch.equal(calls[i][2], calls[i - 1][3]) for i in range(len(calls)) if i not in begun)
    assert len({tuple(calls[i][0][0].tolist()) for i in begun}) > 1  # passes begin at different characters
    assert all(torch.equal(x[:, 1:], y[:, :-1]) for x, y, *_ in calls)


def test_training_on_characters_clips_and_lets_its_rate_fall_to_zero(monkeypatch):
    rates, norms = [], []

    class Watched(torch.optim.Adam):
        def step(self):
            (group,) = self.param_groups
            rates.append(group["lr"])
            norms.append(math.hypot(*(float(p.grad.norm()) for p in group["params"])))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    options = {"batch_size": 4, "chunk": 6, "lr": 0.02, "clip_norm": 0.01, "progress": False}
    train_characters(CharacterRNN(5, 6), text_of(300), 4, **options)
    assert rates == pytest.approx([0.02, 0.015, 0.01, 0.005])
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)  # a new network's gradient is longer than that


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"steps": 0}, "steps: expected a whole number"),
        ({"lr": 0.0}, "lr: expected a positive number"),
        ({"clip_norm": float("nan")}, "clip_norm: expected a positive number"),
        ({"batch_size": 100}, "numbers: expected at least 2526 characters for these streams, got 300"),
        ({"held_out": text_of(31)}, "held_out: expected at least 32 characters, 2 in each of 16 streams, got 31"),
    ],
)
def test_training_on_characters_refuses_what_it_cannot_do(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        train_characters(CharacterRNN(5, 6), text_of(300), **{"steps": 30, "batch_size": 4, "progress": False, **options})


def test_bits_are_those_of_each_character_given_all_before():
    torch.manual_seed(0)
    model, numbers = CharacterRNN(5, 6), text_of(40)
    p = model(numbers[None, :-1])[0].softmax(-1)[0].detach()
    expected = [-math.log2(p[t, numbers[t + 1]]) for t in range(39)]
    assert torch.allclose(bits(model, numbers), torch.tensor(expected), atol=1e-5)
    assert bits(model, streams(numbers, 3)).shape == (3, 12)
    assert math.isclose(bits(model, numbers[:13]).sum(), bits(model, streams(numbers, 3))[0].sum(), rel_tol=1e-5)


# The recipes of the benchmark are in bench.py: equal losses make their times comparable.


@pytest.mark.parametrize("recipe", RECIPES)
def test_ours_has_the_losses_of_the_plain_recipe_in_ten_steps(recipe):
    assert losses_apart(RECIPES[recipe], names_text(), steps=10) < 1e-4
    ours = RECIPES[recipe]["ours"](names_text(3000))
    losses = [ours() for _ in range(10)]
    assert abs(losses[-1] - losses[0]) > 1e-3  # they have moved


def test_witten_bell_by_hand():
    model = WittenBell([0, 1, 0, 1], characters=2, order=2)
    first, second = model.probabilities([0, 1, 0])
    assert np.allclose(first, [3 / 5, 2 / 5])  # after count 2 and 1 of 3, u = 2: (2 + 2/2) / 5 and (1 + 2/2) / 5
    assert np.allclose(second, [(2 + 3 / 5) / 3, (1 + 2 / 5) / 2])  # 0 was followed by 1 twice, 1 by 0 once; u = 1
    assert np.allclose(WittenBell([0, 1], 3, 2).probabilities([2, 0])[1], (0 + 1 / 3) / 2)  # context 2 was never seen: order 1


def slow_witten_bell(train, text, characters, order, end):
    """The definition, one character after another, with dictionaries of strings."""

    def contexts(numbers, i):
        since = max([j for j in range(i) if numbers[j] == end], default=0)
        return [tuple(numbers[max(i - k, since)] for k in range(n - 1, 0, -1)) for n in range(1, order + 1)]

    followers = {}
    for i in range(1, len(train)):
        for h in contexts(train, i):
            followers.setdefault(h, []).append(train[i])
    rows = []
    for i in range(1, len(text)):
        p, row = 1 / characters, []
        for h in contexts(text, i):
            if h in followers:
                n, u = len(followers[h]), len(set(followers[h]))
                p = (followers[h].count(text[i]) + u * p) / (n + u)
            row.append(p)
        rows.append(row)
    return np.array(rows).T


@pytest.mark.parametrize("end", [None, 0])
def test_witten_bell_is_its_definition_and_adds_up_to_one(end):
    train, text = text_of(300).tolist(), text_of(80, seed=1).tolist()
    model = WittenBell(train, 5, 4, end)
    assert np.allclose(model.probabilities(text), slow_witten_bell(train, text, 5, 4, end), rtol=1e-12)
    for i in (1, 2, 7, 40):
        total = sum(model.probabilities([*text[:i], c])[:, -1] for c in range(5))
        assert np.allclose(total, 1, rtol=1e-12)


def test_witten_bell_beats_no_entropy():
    noise = torch.randint(4, (20_000,), generator=torch.Generator().manual_seed(0))
    found = -np.log2(WittenBell(noise[:15_000], 4, 4).probabilities(noise[15_000:])).mean(axis=1)
    assert (found > 2 - 0.002).all() and found[0] < 2.01
    grammar = Agreement()
    text = [" ".join(grammar.sentences(2000, torch.Generator().manual_seed(seed))) for seed in (0, 1)]
    vocabulary = Vocabulary(text[0])
    model = WittenBell(vocabulary.encode(text[0]), len(vocabulary), 5)
    found = -np.log2(model.probabilities(vocabulary.encode(text[1]))).mean(axis=1)
    assert (found > grammar.entropy("character")).all() and (np.diff(found) < 0).all()


@pytest.mark.parametrize(
    "numbers, options, complaint",
    [
        ([0], {}, "numbers: expected two or more, from 0 to 4"),
        ([0, 5], {}, "numbers: expected two or more, from 0 to 4"),
        ([[0, 1]], {}, "numbers: expected two or more, from 0 to 4"),
        ([0, 1], {"order": 0}, "order: expected a whole number of at least 1, got 0"),
        ([0, 1], {"order": 40}, "order: expected one whose contexts can be numbered, got 40 for 5 characters"),
    ],
)
def test_witten_bell_refuses_what_it_cannot_count(numbers, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        WittenBell(numbers, **{"characters": 5, "order": 2, **options})


@pytest.fixture(scope="module")
def letters():
    torch.manual_seed(0)
    return CharacterRNN(5, 6), Vocabulary("\nabcd")


def test_a_sample_is_drawn_from_the_softmax_of_the_outputs_over_the_temperature(letters):
    model, vocabulary = letters
    for temperature in (0.3, 1.0, 4.0):
        drawn = sample(model, vocabulary, "\nab", 1, temperature, count=20_000)
        p = (model(vocabulary.encode("\nab")[None])[0][0, -1] / temperature).softmax(-1)
        shares = torch.tensor([drawn.count(c) / len(drawn) for c in vocabulary.characters])
        assert (shares - p).abs().max() < 4 * math.sqrt(0.25 / 20_000)
    likeliest = sample(model, vocabulary, "\n", 12, temperature=1e-6, count=3)
    assert len(set(likeliest)) == 1 and len(likeliest[0]) == 12
    text = "\n"
    for _ in range(12):  # the same by reading all from the start at each step
        text += vocabulary.characters[int(model(vocabulary.encode(text)[None])[0][0, -1].argmax())]
    assert likeliest[0] == text[1:]


def test_a_sample_repeats_with_its_seed_and_ends_before_its_stop(letters):
    drawn = [sample(*letters, "\n", 20, count=50, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and all(len(text) == 20 for text in drawn[0])
    assert sample(*letters, "\n", 20, count=50, stop="\n") == [text.split("\n")[0] for text in drawn[0]]


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan"), "hot"])
def test_a_temperature_that_is_none_is_refused(letters, temperature):
    with pytest.raises(ValueError, match="temperature: expected a positive number, got"):
        sample(*letters, "\n", 5, temperature)
    with pytest.raises(ValueError, match="temperature: expected a positive number, got"):
        soften(torch.zeros(3), temperature)


def test_prompts_and_vocabularies_that_do_not_fit_are_refused(letters):
    model, vocabulary = letters
    with pytest.raises(KeyError, match=r"not in the vocabulary: \['!', 'z'\]"):
        sample(model, vocabulary, "az!")
    with pytest.raises(ValueError, match="prompt: expected at least one character"):
        sample(model, vocabulary, "")
    with pytest.raises(ValueError, match="vocabulary: expected 5 characters, as the model has, got 3"):
        sample(model, Vocabulary("abc"), "a")
    for options in ({"length": 0}, {"count": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a whole number"):
            sample(model, vocabulary, "a", **options)


def test_the_smallest_temperatures_overflow_nowhere():
    p = soften(torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, -1.0]]), 1e-30)
    assert torch.equal(p, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert torch.allclose(soften(torch.tensor([3.0, 0.0]), 1e9), torch.tensor(0.5))


# ---------------------------------------------------------------- forecasting


YEARS = np.tile(np.arange(12.0), 20)  # the same year twenty times
RISING = np.arange(240.0)


def random_series(n=240, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def test_every_origin_has_its_targets_in_the_held_out_part_and_no_origin_is_missing():
    for held_out, horizon in ((20, 1), (20, 12), (12, 12)):
        origins = rolling_origins(random_series(100), held_out, horizon)
        possible = [t for t in range(100) if all(100 - held_out <= t + h < 100 for h in range(1, horizon + 1))]
        assert origins.tolist() == possible
        came = ahead(np.arange(100.0), origins, horizon)
        assert came.shape == (held_out - horizon + 1, horizon)
        assert came.min() == 100 - held_out and came.max() == 99
        assert (came == origins[:, None] + np.arange(1, horizon + 1)).all()


@pytest.mark.parametrize("horizon", [1, 5, 12, 13, 30])
@pytest.mark.parametrize("period", [1, 7, 12])
def test_naive_forecasts_are_the_loops_that_define_them(horizon, period):
    series, origins = random_series(), np.array([50, 120, 180])
    for row, t in enumerate(origins):
        for h in range(1, horizon + 1):
            back = period
            while h - back > 0:
                back += period  # the latest value of the same season that is known at t
            drift = back // period * (series[t] - series[t - period])
            assert persistence(series, origins, horizon)[row, h - 1] == series[t]
            assert seasonal_naive(series, origins, horizon, period)[row, h - 1] == series[t + h - back]
            drifting = seasonal_naive(series, origins, horizon, period, drift=True)[row, h - 1]
            assert drifting == pytest.approx(series[t + h - back] + drift)


def test_naive_forecasts_are_right_where_they_must_be():
    origins = rolling_origins(YEARS, 60, 24)
    assert (seasonal_naive(YEARS, origins, 24) == ahead(YEARS, origins, 24)).all()
    both = YEARS + RISING
    assert np.allclose(seasonal_naive(both, origins, 24, drift=True), ahead(both, origins, 24))
    assert (persistence(np.ones(240), origins, 24) == 1).all()


def autoregressive(n=2000, seed=0, months=False):
    """x_t = 3 + 0.5 x_{t-1} - 0.4 x_{t-2} + noise, and with months a constant for each of them."""
    noise, x = np.random.default_rng(seed).standard_normal(n), np.zeros(n)
    for t in range(2, n):
        x[t] = 3 + 0.5 * x[t - 1] - 0.4 * x[t - 2] + noise[t] + (t % 12 if months else 0)
    return x


def test_ar_is_least_squares_iterated():
    x, train, horizon = autoregressive(), 1500, 12
    origins = np.arange(1499, 1980, 37)
    found, order = ar_forecast(x, origins, horizon, train, max_order=6)
    lags = np.arange(1, order + 1)
    rows = np.arange(order, train)
    design = np.column_stack([np.ones(len(rows)), x[rows[:, None] - lags]])
    weights = np.linalg.lstsq(design, x[rows], rcond=None)[0]
    assert 2 <= order <= 6
    assert weights[1:3] == pytest.approx([0.5, -0.4], abs=0.1)
    for row, t in enumerate(origins):
        path = x[: t + 1].tolist()
        for _ in range(horizon):
            path.append(weights[0] + weights[1:] @ np.array(path[-order:])[::-1])
        assert np.allclose(found[row], path[-horizon:], atol=1e-8)


def test_the_order_is_that_of_least_aic():
    x, train, most = autoregressive(seed=3), 400, 8
    rows = np.arange(most, train)  # the same for every order
    aic = []
    for p in range(most + 1):
        design = np.column_stack([np.ones(len(rows)), x[rows[:, None] - np.arange(1, p + 1)]])
        rest = x[rows] - design @ np.linalg.lstsq(design, x[rows], rcond=None)[0]
        aic.append(len(rows) * np.log((rest**2).mean()) + 2 * (p + 1))
    assert ar_forecast(x, np.array([500]), 3, train, max_order=most)[1] == int(np.argmin(aic))


def test_seasonal_terms_are_worth_it_where_there_is_a_season():
    x = autoregressive(months=True)
    origins = rolling_origins(x, 400, 3)
    errors = [ar_forecast(x, origins, 3, 1500, seasonal, max_order=4)[0] - ahead(x, origins, 3) for seasonal in (True, False)]
    with_season, without = (np.sqrt((e**2).mean()) for e in errors)
    assert with_season < 1.2 and without > 1.5 * with_season


@pytest.mark.parametrize("seasonal", [False, True])
def test_no_forecast_sees_what_comes_after_its_origin(seasonal):
    series, origin = random_series(300), np.array([219])
    other = series.copy()
    other[220:] += 100 * random_series(80, seed=1)

    def forecasts(series):
        ar = ar_forecast(series, origin, 12, 200, seasonal, max_order=8)[0]
        return [persistence(series, origin, 12), seasonal_naive(series, origin, 12, drift=True), ar]

    for one, two in zip(forecasts(series), forecasts(other)):
        assert np.isfinite(one).all() and (one == two).all()
    other[:220] = series[:220] + 1e-3 * random_series(220, seed=2)
    assert all((one != two).all() for one, two in zip(forecasts(series), forecasts(other)))


def test_the_interval_is_the_quantile_that_covers():
    errors = np.array([[1.0, -4], [-3, 0], [2, 2], [0, -1]])
    assert interval_width(errors, 0.8).tolist() == [3, 4]  # rank ⌈5 · 0.8⌉ = 4, the largest
    assert interval_width(errors, 0.6).tolist() == [2, 2]
    assert interval_width(errors, 0.5).tolist() == [2, 2]
    assert interval_width(np.stack([errors, 2 * errors]), 0.8).tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_the_interval_covers_exchangeable_errors_as_promised(coverage):
    random = np.random.default_rng(0)
    old, new = random.standard_normal((5000, 19, 2)), random.standard_normal((5000, 1, 2))
    covered = (np.abs(new) <= interval_width(old, coverage)[:, None]).mean()
    assert coverage - 0.01 < covered < coverage + 1 / 20 + 0.01


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rolling_origins(random_series(100), 100, 12), "held_out: expected fewer than the 100 values .* got 100"),
        (lambda: rolling_origins(random_series(100), 11, 12), "held_out: expected a whole number of at least 12, got 11"),
        (lambda: rolling_origins(random_series(100), 20, 0), "horizon: expected a whole number of at least 1, got 0"),
        (lambda: rolling_origins([[1.0, 2.0]], 1, 1), r"series: expected two or more real numbers, .* got shape \(1, 2\)"),
        (lambda: rolling_origins(["a", "b", "c"], 1, 1), "series: expected two or more real numbers"),
        (lambda: rolling_origins([1.0, np.nan, 3.0], 1, 1), "series: expected finite numbers, got NaN or infinity in 1 places"),
        (lambda: persistence([1.0, np.inf, 3.0], np.array([0]), 1), "series: expected finite numbers"),
        (lambda: persistence(random_series(9), np.array([3.0]), 1), r"origins: expected whole numbers, .* of float64"),
        (lambda: persistence(random_series(9), np.array([], int), 1), r"origins: expected whole numbers, .* shape \(0,\)"),
        (lambda: ahead(random_series(9), np.array([3, 8]), 1), "origins: expected 0 to 7, .* 1 after it .* got 3 to 8"),
        (lambda: ahead(random_series(9), np.array([-1, 3]), 1), "origins: expected 0 to 7, .* got -1 to 3"),
        (lambda: ahead(random_series(9), np.array([3]), 1.5), "horizon: expected a whole number of at least 1, got 1.5"),
        (lambda: seasonal_naive(random_series(30), np.array([11]), 1), "origins: expected 12 to 28, with 13 values up to"),
        (lambda: seasonal_naive(random_series(30), np.array([15]), 1, 0), "period: expected a whole number .* got 0"),
        (lambda: ar_forecast(random_series(300), np.array([150]), 12, 200), "origins: expected 199 to 287, with 200 values"),
        (lambda: ar_forecast(random_series(100), np.array([80]), 1, 60), "train: expected .* at least 88, got 60"),
        (lambda: ar_forecast(random_series(100), np.array([90]), 1, 120), "origins: expected 119 to 98"),
        (lambda: ar_forecast(random_series(300), np.array([250]), 1, 200, max_order=0), "max_order: expected .* got 0"),
        (lambda: interval_width(np.ones(5)), r"errors: expected finite numbers .* got shape \(5,\)"),
        (lambda: interval_width([[1.0], [np.nan]]), "errors: expected finite numbers"),
        (lambda: interval_width(np.ones((8, 2)), 0.9), "errors: expected more than 8 origins for a coverage of 0.9"),
        (lambda: interval_width(np.ones((8, 2)), 1.0), "coverage: expected a share between 0 and 1, got 1.0"),
    ],
)
def test_a_bad_forecast_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- streaming, and devices at the edge


def random_input(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("cuts", [[1] * 30, [30], [1, 7, 1, 1, 20], [29, 1]], ids=str)
def test_attention_with_its_cache_is_its_formula_over_the_whole_sequence(dtype, tolerance, cuts):
    torch.manual_seed(0)
    model, x = CachedAttention(4, 6, 3, dtype=dtype), random_input(2, 30, 4, dtype=dtype)
    e = x @ model.W_xe.weight.T + model.W_xe.bias
    W_q, W_k, W_v = model.W_qkv.weight.chunk(3)
    expected = torch.empty(2, 30, 3, dtype=dtype)
    for b in range(2):
        for t in range(30):
            scores = torch.stack([(W_q @ e[b, t]) @ (W_k @ e[b, s]) for s in range(t + 1)]) / math.sqrt(6)
            c = sum(a * (W_v @ e[b, s]) for s, a in enumerate(scores.softmax(dim=0)))
            expected[b, t] = model.W_ey(e[b, t] + c)
    state, outputs = None, []
    for part in x.split(cuts, dim=1):
        y, state = model(part, state)
        outputs.append(y)
    assert torch.allclose(torch.cat(outputs, dim=1), expected, rtol=0, atol=tolerance)
    assert state.nbytes == 2 * 2 * 30 * 6 * x.element_size()
    assert state.room.nbytes <= 2 * state.nbytes


def test_attention_trains_as_one_of_the_courses_models():
    torch.manual_seed(0)
    model, task = CachedAttention(4, 16, 4), Latch(6)
    history = train(model, task, 200, lr=1e-2)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert history.eval_loss[-1] < 0.9 * task.chance_loss


@pytest.mark.parametrize(
    "make",
    [
        lambda: VanillaRNN(3, 8, 2, dtype=torch.float64),
        lambda: VanillaRNN(3, 8, 2, seeds=range(3), engine="loop", dtype=torch.float64),
        lambda: CachedAttention(3, 8, 2, dtype=torch.float64),
        lambda: WithReadout(nn.LSTM(3, 8, batch_first=True), 2).double(),
    ],
    ids=["rnn", "several", "attention", "lstm"],
)
def test_a_stream_is_the_whole_sequence(make):
    torch.manual_seed(0)
    model, x = make(), random_input(2, 40, 3, dtype=torch.float64)
    with torch.no_grad():
        whole = model(x)[0]
    steps = [y_t for y_t, _ in stream(model, x)]
    assert len(steps) == 40 and not steps[0].requires_grad
    assert torch.allclose(torch.cat(steps, dim=-2), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 1)], ids=str)
def test_rounded_rows_are_within_half_a_scale(bits, shape):
    W = random_input(*shape, dtype=torch.float64) * torch.logspace(-3, 3, shape[-2], dtype=torch.float64).unsqueeze(1)
    q, s = quantize_rows(W, bits)
    top = 2 ** (bits - 1) - 1
    assert q.dtype == torch.int8 and q.shape == W.shape and s.shape == (*W.shape[:-1], 1)
    assert ((W - s * q).abs() <= s / 2 * (1 + 1e-12)).all()
    assert (q.abs().amax(dim=-1) == top).all(), "each row fills its range"
    assert torch.equal(quantize_rows(-W, bits)[0], -q)


def test_rounded_rows_of_a_known_matrix():
    q, s = quantize_rows(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0], [-254.0, 1.0, 3.0]]))
    assert q.tolist() == [[127, -50, 0], [0, 0, 0], [-127, 0, 2]]
    assert torch.allclose(s, torch.tensor([[0.01], [1.0], [2.0]]))


@pytest.mark.parametrize("bits", [8, 3])
def test_small_weights_are_rounded_in_a_copy_each_model_by_itself(bits):
    several = VanillaRNN(3, 8, 2, seeds=range(3))
    before = {name: p.detach().clone() for name, p in several.named_parameters()}
    small = with_small_weights(several, bits)
    for name, p in several.named_parameters():
        assert torch.equal(p, before[name])
        for s in range(3):
            rounded = small.get_parameter(name)[s]
            if name.endswith("bias"):
                assert torch.equal(rounded, p[s])
            else:
                q, scale = quantize_rows(p[s].detach(), bits)
                assert torch.equal(rounded, q * scale) and not torch.equal(rounded, p[s])


def test_small_weights_are_rounded_wherever_they_are_and_refused_where_they_follow_from_others():
    layer = WithReadout(nn.LSTM(3, 4, batch_first=True), 2)
    small = with_small_weights(layer, 2)
    for name, p in small.named_parameters():
        if "weight" in name:
            assert all(len(row.abs().unique()) <= 2 for row in p), name
    with pytest.raises(ValueError, match="model: expected free weights"):
        with_small_weights(keep_orthogonal_(initialize_(VanillaRNN(3, 4, 2), "orthogonal")))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "linear"])
def test_an_exported_step_is_the_model(nonlinearity, tmp_path, capfd, recwarn):
    torch.manual_seed(0)
    model, path = VanillaRNN(3, 8, 2, nonlinearity, dtype=torch.float64), tmp_path / "step.onnx"
    export_step(model, path)
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert os.listdir(tmp_path) == ["step.onnx"]
    assert str(ROOT).encode() not in path.read_bytes(), "the file names a path of this machine"
    assert model.W_xh.weight.dtype == torch.float64, "the model itself was changed"
    session = onnxruntime.InferenceSession(path)
    for batch in (1, 5):
        x = random_input(batch, 9, 3)
        h, outputs = np.zeros((batch, 8), dtype=np.float32), []
        for x_t in x.unbind(1):
            y_t, h = session.run(["y_t", "h_t"], {"x_t": x_t.numpy(), "h_prev": h})
            outputs.append(torch.from_numpy(y_t))
        expected, h_final = model(x.double())
        assert torch.allclose(torch.stack(outputs, dim=1).double(), expected, rtol=0, atol=1e-5)
        assert torch.allclose(torch.from_numpy(h).double(), h_final, rtol=0, atol=1e-5)


def test_a_path_that_can_not_be_written_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    def never(*given, **options):
        raise AssertionError("the export began")

    monkeypatch.setattr(onnx.helper, "make_model", never)
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "none" / "step.onnx", tmp_path / "file" / "step.onnx", tmp_path):
        with pytest.raises(OSError, match=f"path: expected a file in a folder that exists, got '{re.escape(str(path))}'"):
            export_step(VanillaRNN(3, 8, 2), path)
    with pytest.raises(ValueError, match=r"model: expected one model, got 2, with seeds=\[0, 1\]"):
        export_step(VanillaRNN(3, 8, 2, seeds=range(2)), tmp_path / "step.onnx")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path, monkeypatch):
    def refuse(self, *given, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    words = f"path: expected a folder that can be written to, got '{tmp_path / 'a.onnx'}' (Permission denied)"
    with pytest.raises(OSError, match=re.escape(words)), written_whole(tmp_path / "a.onnx"):
        pass
    assert os.listdir(tmp_path) == []


def test_an_export_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def fails(*given, **options):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(onnx.checker, "check_model", fails)
    path = tmp_path / "step.onnx"
    path.write_text("the old one")
    with pytest.raises(RuntimeError, match="no such operation"):
        export_step(VanillaRNN(3, 8, 2), path)
    assert path.read_text() == "the old one" and os.listdir(tmp_path) == ["step.onnx"]


@pytest.mark.parametrize("old", [None, "the old one"])
def test_a_file_is_written_whole_or_not_at_all(old, tmp_path):
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), written_whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_text() == old
    with written_whole(str(path)) as part:
        part.write_text("whole")
        assert not path.exists() or path.read_text() == old
    assert path.read_text() == "whole" and os.listdir(tmp_path) == ["file"]


def test_quiet_swallows_words_and_no_errors(capsys, caplog, recwarn):
    with pytest.raises(ZeroDivisionError), quiet():
        print("chatter")
        warnings.warn("careful", stacklevel=1)
        logging.getLogger("library").warning("hm")
        raise ZeroDivisionError
    assert capsys.readouterr().out == "" and not caplog.records and not recwarn.list
    logging.getLogger("library").warning("loud again")
    assert [record.message for record in caplog.records] == ["loud again"]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: CachedAttention(0, 4, 2), ValueError, "input_size: expected a whole number of at least 1, got 0"),
        (lambda: CachedAttention(3, 4.0, 2), ValueError, "width: expected a whole number of at least 1, got 4.0"),
        (lambda: CachedAttention(3, 4, 2)(torch.zeros(1, 5, 2)), ValueError, r"x: expected shape .*3\), got \(1, 5, 2\)"),
        (lambda: CachedAttention(3, 4, 2)(torch.zeros(1, 5, 3).double()), TypeError, "x: expected torch.float32"),
        (
            lambda: CachedAttention(3, 4, 2)(torch.zeros(2, 1, 3), Cache(torch.zeros(3, 1, 4), torch.zeros(3, 1, 4))),
            ValueError,
            "state: expected the cache of 2 streams, as in x, got one of 3",
        ),
        (lambda: quantize_rows(torch.zeros(2, 3), 9), ValueError, "bits: expected a whole number from 2 to 8, got 9"),
        (lambda: quantize_rows(torch.zeros(2, 3), True), ValueError, "bits: expected a whole number .* got True"),
        (lambda: quantize_rows(torch.tensor([1.0, math.nan])), ValueError, "W: expected finite numbers, got 1 of 2 that"),
        (lambda: quantize_rows(torch.tensor([1.0, math.inf])), ValueError, "W: expected finite numbers, got 1 of 2 that"),
    ],
)
def test_bad_input_of_streams_and_devices_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()




# ---------------------------------------------------------------- agreement over a distance


def test_a_sample_carries_its_state():
    torch.manual_seed(0)
    model, vocabulary, heard = CharacterRNN(5, 16), Vocabulary("abcde"), "ab"
    with torch.no_grad():
        model.W_hh.weight.mul_(4)
    (text,) = sample(model, vocabulary, heard, 20, temperature=1e-4)
    for _ in range(20):
        heard += vocabulary.characters[int(model(vocabulary.encode(heard)[None])[0][0, -1].argmax())]
    assert text == heard[2:]


def test_the_order_is_aic_s_where_bic_would_choose_another():
    from statsmodels.tsa.ar_model import ar_select_order  # here: it takes a second

    generator = np.random.default_rng(0)
    series = np.zeros(160)
    for t in range(3, 160):
        series[t] = 0.5 * series[t - 1] + 0.22 * series[t - 3] + generator.normal()
    orders = {ic: len(ar_select_order(series[:120], 12, ic=ic).ar_lags) for ic in ("aic", "bic")}
    assert orders["aic"] != orders["bic"]
    assert ar_forecast(series, [130], 2, 120, max_order=12)[1] == orders["aic"]
