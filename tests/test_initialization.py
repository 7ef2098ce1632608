"""Initializations: each has its defining property, from its own seed; and W_hh stays orthogonal in training, however it is mapped."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from rnncourse.gradients import spectral_norm, spectral_radius, state_gradients
from rnncourse.initialization import (
    INITS,
    MAPS,
    Cayley,
    SkipRNN,
    initialize_,
    keep_orthogonal_,
    orthogonality_error,
    recurrent_matrix,
    set_forget_bias_,
)
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Latch
from rnncourse.training import train

SIZES = [1, 2, 3, 16, 64]

every_init = pytest.mark.parametrize("init", INITS)
every_map = pytest.mark.parametrize("map", MAPS)
one_or_several = pytest.mark.parametrize("seeds", [None, range(3)], ids=["one", "several"])


def matrices(init, n, count, **options):
    return torch.stack([recurrent_matrix(init, n, seed=seed, **options) for seed in range(count)])


# -- what defines each init ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("gain", [0.5, 1.0, 1.7])
def test_orthogonal_is_the_gain_times_an_orthogonal_matrix(n, gain):
    W = matrices("orthogonal", n, 5, gain=gain)
    assert orthogonality_error(W / gain).max() < 1e-5
    assert torch.allclose(torch.linalg.svdvals(W), torch.tensor(gain), atol=1e-5)
    exact = matrices("orthogonal", n, 5, dtype=torch.float64)
    assert orthogonality_error(exact).max() < 1e-13
    v = torch.randn(5, n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose((torch.linalg.matrix_power(exact, 100) @ v).norm(dim=1), v.norm(dim=1), rtol=1e-12)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("gain", [0.5, 1.0, 1.7])
def test_scaled_has_the_gain_as_its_spectral_radius(n, gain):
    assert torch.allclose(spectral_radius(matrices("scaled", n, 5, gain=gain)), torch.tensor(gain), rtol=1e-5)


@pytest.mark.parametrize("n", SIZES)
def test_default_fills_its_bounds_evenly_and_no_more(n):
    W = matrices("default", n, 20) * math.sqrt(n)
    assert W.abs().max() <= 1
    assert W.max() > 1 - 20 / W.numel() and W.min() < -1 + 20 / W.numel()
    assert abs(W.mean()) < 4 / math.sqrt(3 * W.numel())
    assert abs(W.square().mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / W.numel())


@pytest.mark.parametrize("n", [16, 64])
def test_gaussian_has_variance_one_over_n(n):
    W = matrices("gaussian", n, 20)
    assert abs(W.mean() * math.sqrt(n)) < 4 / math.sqrt(W.numel())
    assert abs(W.var() * n - 1) < 4 * math.sqrt(2 / W.numel())


@pytest.mark.parametrize("n", SIZES)
def test_identity_is_the_identity_whatever_the_seed(n):
    assert torch.equal(matrices("identity", n, 3, gain=0.5), 0.5 * torch.eye(n).expand(3, n, n))


@pytest.mark.parametrize(
    "init, norm, radius", [("default", 1.1, 0.6), ("gaussian", 1.95, 1.05), ("scaled", 1.85, 1.0)], ids=lambda v: str(v)
)
def test_the_docstrings_figures_are_measured_ones(init, norm, radius):
    for n in (32, 64, 128):
        W = matrices(init, n, 20).double()
        assert spectral_norm(W).mean() == pytest.approx(norm, abs=0.06)
        assert spectral_radius(W).mean() == pytest.approx(radius, abs=0.03)


def test_orthogonal_is_uniform_over_the_orthogonal_matrices():
    """Entries of mean 0, variance 1/n and fourth moment 3/(n (n + 2)) in every place; rotations and reflections in equal parts.

    Without the sign fix, the library's choice shows: the entry at the top left would always be negative.
    """
    n, count = 4, 4000
    Q = matrices("orthogonal", n, count).double()
    assert Q.mean(dim=0).abs().max() < 4.5 / math.sqrt(n * count)
    assert (Q.square().mean(dim=0) - 1 / n).abs().max() < 4.5 * math.sqrt((3 / (n * (n + 2)) - 1 / n**2) / count)
    assert (Q**4).mean().item() == pytest.approx(3 / (n * (n + 2)), rel=0.02)
    for positive in ((Q > 0).double().mean(dim=0), (torch.linalg.det(Q) > 0).double().mean()):
        assert (positive - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(count)
    raw = torch.linalg.qr(torch.randn(200, n, n, dtype=torch.float64)).Q
    assert (raw[:, 0, 0] < 0).all()


# -- seeds and dtypes ----------------------------------------------------------------------------------------------


@every_init
def test_the_same_seed_gives_the_same_matrix_and_another_seed_another(init):
    torch.manual_seed(0)
    first = recurrent_matrix(init, 8, seed=5)
    torch.manual_seed(1)
    assert torch.equal(first, recurrent_matrix(init, 8, seed=5))
    assert torch.equal(first, recurrent_matrix(init, 8, seed=6)) == (init == "identity")
    assert first.dtype == torch.float32
    assert torch.allclose(first.double(), recurrent_matrix(init, 8, seed=5, dtype=torch.float64), atol=1e-6)


@every_init
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stacked_models_start_from_their_own_seeds(init, dtype):
    together = initialize_(VanillaRNN(3, 8, 2, seeds=[4, 0, 9], dtype=dtype), init, gain=0.7)
    for s, seed in enumerate([4, 0, 9]):
        alone = initialize_(VanillaRNN(3, 8, 2, dtype=dtype), init, gain=0.7, seed=seed)
        assert torch.equal(together.W_hh.weight[s], alone.W_hh.weight)
        assert torch.equal(alone.W_hh.weight, recurrent_matrix(init, 8, 0.7, seed, dtype))


@every_init
@one_or_several
def test_initialize_sets_W_hh_and_b_h_and_nothing_else(init, seeds):
    model = VanillaRNN(3, 8, 2, seeds=seeds)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert initialize_(model, init, seed=3) is model
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"W_hh.weight"} | ({"W_xh.bias"} if init != "default" else set())
    assert init == "default" or (model.W_xh.bias == 0).all()
    assert all(p.requires_grad for p in model.parameters())


# -- staying orthogonal --------------------------------------------------------------------------------------------


@every_map
@one_or_several
def test_it_begins_exactly_at_the_init(map, seeds):
    model = initialize_(VanillaRNN(3, 8, 2, seeds=seeds), "orthogonal", seed=3)
    before, x = model.W_hh.weight.detach().clone(), torch.randn(4, 5, 3)
    outputs = model(x)[0]
    assert keep_orthogonal_(model, map) is model
    assert torch.allclose(model.W_hh.weight, before, atol=1e-6)
    assert torch.allclose(model(x)[0], outputs, atol=1e-5)


@every_map
@pytest.mark.parametrize("seeds, steps", [(None, 200), (range(2), 1000)], ids=["one", "several"])
def test_it_stays_orthogonal_over_1000_training_steps_and_learns(map, seeds, steps):
    model = initialize_(VanillaRNN(4, 8, 4, seeds=seeds), "orthogonal")
    free = initialize_(VanillaRNN(4, 8, 4, seeds=seeds), "orthogonal")
    keep_orthogonal_(model, map)
    start = model.W_hh.weight.detach().clone()
    errors = []

    def watch(step, model):
        if step % 100 == 0:
            errors.append(orthogonality_error(model.W_hh.weight.detach()).max())

    history = train(model, Latch(3), steps, lr=1e-2, batch_size=16, evaluate_every=500, after_step=watch)
    assert len(errors) == steps // 100 and max(errors) < 1e-5
    assert (model.W_hh.weight - start).abs().amax(dim=(-2, -1)).min() > 0.1, "it never moved"
    assert (history.loss[-50:].mean(dim=0) < 0.5 * history.loss[:50].mean(dim=0)).all()
    train(free, Latch(3), 100, lr=1e-2, batch_size=16)
    assert orthogonality_error(free.W_hh.weight.detach()).min() > 0.1, "a free W_hh does not stay orthogonal by itself"


@every_map
def test_float64_models_stay_orthogonal_to_float64(map):
    model = keep_orthogonal_(initialize_(VanillaRNN(4, 6, 4, dtype=torch.float64), "orthogonal"), map)
    train(model, Latch(3), 30, lr=1e-2)
    assert model.W_hh.weight.dtype == torch.float64
    assert orthogonality_error(model.W_hh.weight) < 1e-12


@pytest.mark.parametrize("lead", [(), (2,)])
def test_gradients_flow_through_the_cayley_map(lead):
    Q_0 = matrices("orthogonal", 4, 2, dtype=torch.float64)[: len(lead) * 2 or 1].view(*lead, 4, 4)
    V = torch.randn(*lead, 4, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    cayley = Cayley(Q_0)
    assert torch.autograd.gradcheck(cayley, V)
    assert orthogonality_error(cayley(V)).max() < 1e-12
    assert torch.equal(cayley(torch.zeros_like(V)), Q_0) and (cayley.right_inverse(Q_0) == 0).all()


def test_the_cayley_map_keeps_the_determinant_and_is_its_textbook_form():
    V = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for seed in range(6):
        Q_0 = recurrent_matrix("orthogonal", 5, seed=seed, dtype=torch.float64)
        W, A, I = Cayley(Q_0)(3 * V), 3 * (V - V.mT) / 2, torch.eye(5, dtype=torch.float64)
        assert torch.linalg.det(W).item() == pytest.approx(torch.linalg.det(Q_0).item())
        assert torch.allclose(W, Q_0 @ torch.linalg.inv(I + A) @ (I - A), atol=1e-12)


@every_map
def test_every_parameter_gets_a_gradient(map):
    model = keep_orthogonal_(initialize_(VanillaRNN(3, 6, 2, seeds=[0, 1]), "orthogonal"), map)
    model(torch.randn(4, 5, 3))[0].square().sum().backward()
    assert len(list(model.parameters())) == 5
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# -- leaks, skips, gates -------------------------------------------------------------------------------------------


def test_with_neither_leak_nor_skip_it_is_nn_rnn():
    torch.manual_seed(0)
    ours, rnn, x = SkipRNN(3, 5), nn.RNN(3, 5, batch_first=True), torch.randn(2, 7, 3)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(ours.W_xh.weight)
        rnn.weight_hh_l0.copy_(ours.W_hh.weight)
        rnn.bias_ih_l0.copy_(ours.W_xh.bias)
        rnn.bias_hh_l0.zero_()
    assert torch.allclose(ours(x)[0], rnn(x)[0], atol=1e-6)


@pytest.mark.parametrize("keep, skip", [(0.0, None), (0.8, None), (0.0, 3), (0.6, 2)])
def test_skip_rnn_is_its_formula_and_goes_on_from_its_state(keep, skip):
    torch.manual_seed(0)
    model, x = SkipRNN(3, 5, keep, skip), torch.randn(2, 9, 3)
    h = {t: torch.zeros(2, 5) for t in range(-(skip or 1) + 1, 1)}  # h_0 and what came before it
    for t in range(1, 10):
        a = x[:, t - 1] @ model.W_xh.weight.T + model.W_xh.bias + h[t - 1] @ model.W_hh.weight.T
        a = a + h[t - skip] @ model.W_skip.weight.T if skip else a
        h[t] = keep * h[t - 1] + (1 - keep) * torch.tanh(a)
    outputs, _ = model(x)
    assert torch.allclose(outputs, torch.stack([h[t] for t in range(1, 10)], dim=1), atol=1e-6)
    first, state = model(x[:, :4])
    assert torch.allclose(torch.cat([first, model(x[:, 4:], state)[0]], dim=1), outputs, atol=1e-6)


def test_state_gradients_reads_skip_rnn():
    torch.manual_seed(0)
    model, x = SkipRNN(3, 5, keep=0.5, skip=2), torch.randn(2, 6, 3)
    grads = state_gradients(model, x, lambda h: h[:, -1].sum())
    assert grads.shape == (2, 6, 5) and torch.equal(grads[:, -1], torch.ones(2, 5)) and (grads != 0).all()


@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True)])
def test_the_forget_bias_is_a_leak_of_sigma_b_where_nothing_else_speaks(layers, bidirectional):
    lstm = nn.LSTM(3, 4, layers, batch_first=True, bidirectional=bidirectional)
    before = {name: p.detach().clone() for name, p in lstm.named_parameters()}
    assert set_forget_bias_(lstm, 2.0) is lstm
    for name, p in lstm.named_parameters():
        gates, old = p.detach().chunk(4), before[name].chunk(4)
        assert all(torch.equal(gates[g], old[g]) for g in (0, 2, 3)), name
        if name.startswith("bias"):
            assert (gates[1] == (2.0 if name.startswith("bias_ih") else 0.0)).all(), name
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            if name.startswith("weight"):
                p.zero_()
            else:
                p.view(4, -1)[[0, 2, 3]] = 0
    c_0 = torch.rand(layers * (1 + bidirectional), 1, 4)
    _, (_, c) = lstm(torch.zeros(1, 5, 3), (torch.zeros_like(c_0), c_0))
    assert torch.allclose(c, c_0 * torch.sigmoid(torch.tensor(2.0)) ** 5, atol=1e-6)


# -- bad inputs ----------------------------------------------------------------------------------------------------


def kept():
    return keep_orthogonal_(initialize_(VanillaRNN(3, 4, 2), "orthogonal"))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: recurrent_matrix("xavier", 4), ValueError, "init: expected one of 'default', .* got 'xavier'"),
        (lambda: recurrent_matrix("default", 0), ValueError, "n: expected a whole number of at least 1, got 0"),
        (lambda: recurrent_matrix("default", 2.0), ValueError, "n: expected a whole number"),
        (lambda: recurrent_matrix("default", 4, gain=0), ValueError, "gain: expected a positive number, got 0"),
        (lambda: recurrent_matrix("default", 4, float("nan")), ValueError, "gain: expected a positive number, got nan"),
        (lambda: initialize_(VanillaRNN(3, 4, 2), "orthonormal"), ValueError, "init: expected one of"),
        (lambda: initialize_(VanillaRNN(3, 4, 2), "identity", -1.0), ValueError, "gain: expected a positive number"),
        (lambda: initialize_(kept(), "orthogonal"), ValueError, "model: expected a free W_hh, got one that is kept"),
        (lambda: keep_orthogonal_(kept()), ValueError, "model: expected a free W_hh, got one that is kept"),
        (
            lambda: keep_orthogonal_(VanillaRNN(3, 4, 2)),
            ValueError,
            "W_hh: expected an orthogonal matrix, .*initialize_",
        ),
        (
            lambda: keep_orthogonal_(initialize_(VanillaRNN(3, 4, 2, seeds=[0, 1]), "orthogonal", gain=1.2)),
            ValueError,
            "W_hh: expected an orthogonal matrix, WᵀW = I to 1e-4, got 0.44",
        ),
        (lambda: keep_orthogonal_(VanillaRNN(3, 4, 2), "qr"), ValueError, "map: expected one of 'cayley', .* got 'qr'"),
        (
            lambda: orthogonality_error(torch.randn(3, 4)),
            ValueError,
            r"W: expected a square matrix .* got shape \(3, 4\)",
        ),
        (lambda: orthogonality_error(torch.randn(3)), ValueError, r"W: expected a square matrix .* got shape \(3,\)"),
        (lambda: SkipRNN(3, 4, keep=1.0), ValueError, "keep: expected a number from 0 to below 1, got 1.0"),
        (lambda: SkipRNN(3, 4, keep=float("nan")), ValueError, "keep: expected a number from 0 to below 1, got nan"),
        (lambda: SkipRNN(3, 4, skip=1), ValueError, "skip: expected a whole number of at least 2, got 1"),
        (lambda: SkipRNN(0, 4), ValueError, "input_size: expected a whole number of at least 1, got 0"),
        (lambda: set_forget_bias_(nn.GRU(3, 4), 1.0), TypeError, "lstm: expected an nn.LSTM with biases, got GRU"),
        (lambda: set_forget_bias_(nn.LSTM(3, 4, bias=False), 1.0), TypeError, "lstm: expected an nn.LSTM with biases"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_model_is_left_as_it_was():
    model = VanillaRNN(3, 4, 2)
    with pytest.raises(ValueError):
        keep_orthogonal_(model)
    assert not parametrize.is_parametrized(model.W_hh)


@pytest.mark.parametrize("map", MAPS)
def test_orthogonal_to_rounding_is_orthogonal_enough_and_no_more(map):
    Q = recurrent_matrix("orthogonal", 8)
    noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    model = VanillaRNN(3, 8, 2)
    for W in (1.0002 * Q, Q.masked_fill(noise == noise.max(), math.nan)):
        model.W_hh.weight.data = W
        with pytest.raises(ValueError, match="W_hh: expected an orthogonal matrix, .* got (0.0004|nan)"):
            keep_orthogonal_(model, map)
    model.W_hh.weight.data = Q + 1e-6 * noise
    assert orthogonality_error(keep_orthogonal_(model, map).W_hh.weight.detach()) < 1e-4


def test_every_parameter_of_a_skip_rnn_begins_within_one_over_sqrt_H():
    torch.manual_seed(0)
    for p in SkipRNN(3, 64, skip=2).parameters():
        assert 0.9 / 8 < p.abs().max() <= 1 / 8
