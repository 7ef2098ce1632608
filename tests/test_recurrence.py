"""VanillaRNN's contract, the loop beside the engine, and one unit's fixed points."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from rnncourse.initialization import initialize_, keep_orthogonal_
from rnncourse.recurrence import VanillaRNN, copy_weights_, fixed_points, trajectory, unroll_loop

NONLINEARITIES = ["tanh", "relu", "linear"]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
nonlinearities = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
several = pytest.mark.parametrize("seeds", [None, [3, 1, 4]], ids=["one model", "three"])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def made(engine="bptt", nonlinearity="tanh", seeds=None, dtype=torch.float64, sizes=(3, 8, 2)):
    return VanillaRNN(*sizes, nonlinearity=nonlinearity, seeds=seeds, engine=engine, dtype=dtype)


def twin(model, engine):
    """The same weights on another engine."""
    other = VanillaRNN(
        model.input_size, model.hidden_size, model.output_size, model.nonlinearity, model.seeds, engine,
        dtype=model.W_hh.weight.dtype,
    )  # fmt: skip
    other.load_state_dict(model.state_dict())
    return other


# -- the contract ------------------------------------------------------------------------------------------------------


def test_shapes_of_the_contract():
    outputs, h_final = VanillaRNN(10, 64, 5)(torch.randn(32, 20, 10))
    assert outputs.shape == (32, 20, 5)
    assert h_final.shape == (32, 64)


def test_parameters_have_the_names_and_shapes_of_the_formula():
    shapes = {name: tuple(p.shape) for name, p in VanillaRNN(10, 64, 5).named_parameters()}
    assert shapes == {
        "W_xh.weight": (64, 10),
        "W_xh.bias": (64,),
        "W_hh.weight": (64, 64),
        "W_hy.weight": (5, 64),
        "W_hy.bias": (5,),
    }


def test_it_is_the_formula_step_by_step():
    model, x = made(sizes=(2, 3, 1)), torch.randn(1, 4, 2, dtype=torch.float64)
    outputs, h_final = model(x)
    h = torch.zeros(3, dtype=torch.float64)
    for t in range(4):
        h = torch.tanh(model.W_xh.weight @ x[0, t] + model.W_xh.bias + model.W_hh.weight @ h)
        close(outputs[0, t], model.W_hy.weight @ h + model.W_hy.bias, 1e-12)
    close(h_final[0], h, 1e-12)
    close(model.states(x)[0, -1], h, 1e-12)


@dtypes
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("engine", ["bptt", "loop"])
@pytest.mark.parametrize("with_state", [False, True])
def test_equals_nn_rnn_given_the_same_weights(dtype, nonlinearity, engine, with_state):
    model = made(engine, nonlinearity, dtype=dtype, sizes=(10, 64, 5))
    rnn = nn.RNN(10, 64, nonlinearity=nonlinearity, batch_first=True, dtype=dtype)
    copy_weights_(model, rnn)
    x, h_0 = torch.randn(32, 20, 10, dtype=dtype), torch.randn(32, 64, dtype=dtype) if with_state else None
    h, h_T = rnn(x, None if h_0 is None else h_0.unsqueeze(0))
    outputs, h_final = model(x, h_0)
    close(model.states(x, h_0), h, TOLERANCE[dtype])
    close(h_final, h_T[0], TOLERANCE[dtype])
    close(outputs, model.W_hy(h), TOLERANCE[dtype])


def test_default_init_is_uniform_within_one_over_sqrt_H_and_follows_the_seed():
    model = VanillaRNN(10, 64, 5)
    drawn = torch.cat([p.flatten() for p in model.parameters()])
    assert drawn.abs().max() <= 1 / 8
    assert drawn.abs().max() > 0.99 / 8
    assert abs(drawn.std() * 8 - 1 / math.sqrt(3)) < 0.02
    torch.manual_seed(0)
    assert torch.equal(VanillaRNN(10, 64, 5).W_hh.weight, model.W_hh.weight)
    assert not torch.equal(VanillaRNN(10, 64, 5).W_hh.weight, model.W_hh.weight)


def test_any_length_any_batch_same_parameters():
    model = made()
    for batch, seq_len in [(1, 1), (1, 7), (5, 1), (2, 100)]:
        outputs, h_final = model(torch.randn(batch, seq_len, 3, dtype=torch.float64))
        assert outputs.shape == (batch, seq_len, 2) and h_final.shape == (batch, 8)


def test_an_input_that_is_a_view_gives_the_same():
    model, x = made(), torch.randn(7, 4, 3, dtype=torch.float64)
    close(model(x.mT.contiguous().mT)[0], model(x)[0], 1e-12)
    close(model(x.transpose(0, 1))[0], model(x.transpose(0, 1).contiguous())[0], 1e-12)
    close(model(x[:1].expand(7, 4, 3))[0][3], model(x[:1])[0][0], 1e-12)


# -- the engine beside the loop ----------------------------------------------------------------------------------------


@nonlinearities
@several
def test_engine_equals_loop_in_outputs_and_every_gradient(nonlinearity, seeds):
    engine = made("bptt", nonlinearity, seeds)
    loop = twin(engine, "loop")
    lead = () if seeds is None else (3,)
    x, h_prev = torch.randn(*lead, 4, 9, 3, dtype=torch.float64), torch.randn(*lead, 4, 8, dtype=torch.float64)
    weights = torch.randn(*lead, 4, 9, 2, dtype=torch.float64), torch.randn(*lead, 4, 8, dtype=torch.float64)
    found = []
    for model in (engine, loop):
        inputs = x.clone().requires_grad_(), h_prev.clone().requires_grad_()
        outputs, h_final = model(*inputs)
        ((outputs * weights[0]).sum() + (h_final * weights[1]).sum()).backward()
        gradients = [v.grad for v in (*inputs, *model.parameters())]
        assert all(g is not None and g.abs().max() > 0 for g in gradients)
        found.append([outputs.detach(), h_final.detach(), *gradients])
    for ours, theirs in zip(*found):
        close(ours, theirs, 1e-12)


def test_gradients_of_only_what_asks_for_them():
    model = made()
    model.W_hh.weight.requires_grad_(False)
    model(torch.randn(2, 5, 3, dtype=torch.float64))[0].sum().backward()
    assert model.W_hh.weight.grad is None and model.W_xh.weight.grad is not None
    with torch.no_grad():
        assert not model(torch.randn(2, 5, 3, dtype=torch.float64))[0].requires_grad


@nonlinearities
@several
def test_kept_dL_dh_is_what_retain_grad_finds_on_each_state(nonlinearity, seeds):
    model = made("bptt", nonlinearity, seeds)
    model.keep_dL_dh = True
    lead = () if seeds is None else (3,)
    x, target = torch.randn(*lead, 4, 6, 3, dtype=torch.float64), torch.randn(*lead, 4, 6, 2, dtype=torch.float64)
    (model(x)[0] - target).square().sum().backward()

    phi = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}[nonlinearity]
    h = [torch.zeros(*lead, 4, 8, dtype=torch.float64)]
    for t in range(6):  # every state a tensor of its own, so that autograd can keep its gradient
        a = x[..., t, :] @ model.W_xh.weight.mT + model.W_xh.bias.unsqueeze(-2) + h[-1] @ model.W_hh.weight.mT
        h.append(phi(a))
        if h[-1].requires_grad:
            h[-1].retain_grad()
    (model.W_hy(torch.stack(h[1:], dim=-2)) - target).square().sum().backward()
    close(model.dL_dh, torch.stack([h_t.grad for h_t in h[1:]], dim=-2), 1e-12)


def test_dL_dh_before_a_backward_pass_says_what_to_do():
    model = made()
    with pytest.raises(ValueError, match="set model.keep_dL_dh = True.*call backward"):
        _ = model.dL_dh
    loop = made("loop")
    loop.keep_dL_dh = True
    with pytest.raises(ValueError, match='use engine="bptt"'):
        loop(torch.randn(1, 2, 3, dtype=torch.float64))


# -- several seeds at once ---------------------------------------------------------------------------------------------


@dtypes
def test_several_seeds_have_the_parameters_of_each_alone(dtype):
    together = made(seeds=range(3), dtype=dtype)
    for s in range(3):
        alone = made(seeds=[s], dtype=dtype)
        for (name, p), q in zip(together.named_parameters(), alone.parameters()):
            assert torch.equal(p[s], q[0]), name


@nonlinearities
@pytest.mark.parametrize("engine", ["bptt", "loop"])
def test_several_seeds_at_once_equal_one_by_one(engine, nonlinearity):
    together = made(engine, nonlinearity, seeds=[5, 2, 7])
    x = torch.randn(3, 4, 6, 3, dtype=torch.float64)
    outputs, h_final = together(x)
    assert outputs.shape == (3, 4, 6, 2) and h_final.shape == (3, 4, 8)
    outputs.square().sum().backward()
    for s, parameters in enumerate(zip(*together.parameters())):
        one = made(engine, nonlinearity)
        with torch.no_grad():
            for p, value in zip(one.parameters(), parameters):
                p.copy_(value)
        outputs_alone, h_alone = one(x[s])
        close(outputs[s], outputs_alone, 1e-12)
        close(h_final[s], h_alone, 1e-12)
        outputs_alone.square().sum().backward()
        for p, q in zip(together.parameters(), one.parameters()):
            close(p.grad[s], q.grad, 1e-12)


def test_an_x_without_the_axis_of_models_goes_to_each():
    model, x = made(seeds=[0, 1]), torch.randn(4, 6, 3, dtype=torch.float64)
    close(model(x)[0], model(torch.stack([x, x]))[0], 1e-12)


def test_seeds_leave_the_global_generator_where_it_was():
    made(seeds=[0, 1])
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert drawn == torch.rand(1)


# -- streaming ---------------------------------------------------------------------------------------------------------


@dtypes
@several
@pytest.mark.parametrize("engine", ["bptt", "loop"])
def test_a_step_at_a_time_equals_the_whole_sequence(dtype, seeds, engine):
    model = made(engine, seeds=seeds, dtype=dtype)
    x = torch.randn(*(() if seeds is None else (3,)), 4, 30, 3, dtype=dtype)
    whole, h_whole = model(x)
    steps, h = [], None
    for x_t in x.split(1, dim=-2):
        y_t, h = model(x_t, h)
        steps.append(y_t)
    close(torch.cat(steps, dim=-2), whole, TOLERANCE[dtype])
    close(h, h_whole, TOLERANCE[dtype])


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 4),
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(1, 9),
    st.sampled_from(NONLINEARITIES),
    st.data(),
)
def test_cut_anywhere_the_state_carries_all(batch, seq_len, inputs, hidden, nonlinearity, data):
    model = made(nonlinearity=nonlinearity, sizes=(inputs, hidden, 2))
    x, cut = torch.randn(batch, seq_len, inputs, dtype=torch.float64), data.draw(st.integers(1, seq_len - 1))
    first, h = model(x[:, :cut])
    second, h = model(x[:, cut:], h)
    whole, h_whole = model(x)
    close(torch.cat([first, second], dim=1), whole, 1e-12)
    close(h, h_whole, 1e-12)


# -- a module like any other -------------------------------------------------------------------------------------------


@several
def test_state_dict_round_trip(seeds):
    model, other = made(seeds=seeds), made(seeds=None if seeds is None else [9, 8, 7])
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert not torch.equal(model(x)[0], other(x)[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x)[0], other(x)[0])


@several
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(copied, seeds):
    model, x = made(seeds=seeds), torch.randn(2, 5, 3, dtype=torch.float64)
    model.keep_dL_dh = True
    model(x)[0].sum().backward()  # a copy must do after a backward pass too
    other = copied(model)
    before = model(x)[0]
    assert torch.equal(other(x)[0], before)
    with torch.no_grad():
        other.W_hh.weight.zero_()
    assert torch.equal(model(x)[0], before)


def test_takes_a_dtype_and_changes_it_as_modules_do():
    assert {p.dtype for p in VanillaRNN(3, 8, 2, dtype=torch.float64).parameters()} == {torch.float64}
    model = VanillaRNN(3, 8, 2).double()
    outputs, h_final = model(torch.randn(2, 5, 3, dtype=torch.float64))
    assert outputs.dtype == h_final.dtype == torch.float64


def test_takes_a_device():
    assert {p.device.type for p in VanillaRNN(3, 8, 2, device="meta").parameters()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@dtypes
@several
def test_on_cuda_equal_to_cpu(dtype, seeds):
    cpu = made(seeds=seeds, dtype=dtype)
    cuda = VanillaRNN(3, 8, 2, seeds=seeds, device="cuda", dtype=dtype)
    cuda.load_state_dict(cpu.state_dict())
    moved = copy.deepcopy(cpu).to("cuda")
    x = torch.randn(4, 9, 3, dtype=dtype)
    expected = cpu(x)
    expected[0].square().sum().backward()
    for model in (cuda, moved):
        outputs, h_final = model(x.to("cuda"))
        assert outputs.is_cuda and h_final.is_cuda
        close(outputs.cpu(), expected[0], TOLERANCE[dtype])
        outputs.square().sum().backward()
        for p, q in zip(model.parameters(), cpu.parameters()):
            torch.testing.assert_close(p.grad.cpu(), q.grad, rtol=1e-4, atol=10 * TOLERANCE[dtype])


def test_the_printed_model_says_what_it_is():
    assert "nonlinearity='relu'" in repr(VanillaRNN(3, 8, 2, nonlinearity="relu"))
    assert "seeds=[0, 1]" in repr(VanillaRNN(3, 8, 2, seeds=range(2)))


# -- bad input: what came, and what was expected -----------------------------------------------------------------------

X, H = torch.zeros(4, 6, 3, dtype=torch.float64), torch.zeros(4, 8, dtype=torch.float64)
WITH_NAN = X.clone().index_fill_(1, torch.tensor(2), float("nan"))

BAD_SEQUENCES = {
    "no tensor": ([[[1.0]]], None, TypeError, r"x: expected a tensor, got list"),
    "rank 2": (X[0], None, ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(6, 3\)"),
    "rank 4": (X[None], None, ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(1, 4, 6, 3\)"),
    "rank 0": (X.sum(), None, ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(\)"),
    "width": (X.mT, None, ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(4, 3, 6\)"),
    "dtype": (X.float(), None, TypeError, r"x: expected torch.float64, the dtype .*, got torch.float32"),
    "whole numbers": (X.long(), None, TypeError, r"x: expected torch.float64, .*, got torch.int64"),
    "empty batch": (X[:0], None, ValueError, r"at least one sequence of at least one step, got shape \(0, 6, 3\)"),
    "no step": (X[:, :0], None, ValueError, r"at least one sequence of at least one step, got shape \(4, 0, 3\)"),
    "NaN": (WITH_NAN, None, ValueError, r"x: expected numbers, got NaN in 12 of 72 places"),
    "state of no tensor": (X, 0.0, TypeError, r"h_prev: expected a tensor or None, got float"),
    "state of another batch": (X, H[:1], ValueError, r"h_prev: expected shape \(4, 8\).*, got \(1, 8\)"),
    "state as nn.RNN's": (X, H[None], ValueError, r"h_prev: expected shape \(4, 8\).*, got \(1, 4, 8\)"),
    "state of another width": (X, H[:, :5], ValueError, r"h_prev: expected shape \(4, 8\).*, got \(4, 5\)"),
    "state of another dtype": (X, H.float(), TypeError, r"h_prev: expected torch.float64, .*, got torch.float32"),
    "NaN in the state": (X, H / 0, ValueError, r"h_prev: expected numbers, got NaN in 32 of 32 places"),
}


@pytest.mark.parametrize("engine", ["bptt", "loop"])
@pytest.mark.parametrize("x, h_prev, error, message", BAD_SEQUENCES.values(), ids=BAD_SEQUENCES)
def test_bad_sequences_and_states(engine, x, h_prev, error, message):
    model = made(engine)
    for run in (model, model.states):
        with pytest.raises(error, match=message):
            run(x, h_prev)


@pytest.mark.parametrize(
    "x, h_prev, message",
    [
        (X[..., :2], None, r"x: expected shape \(batch, seq_len, 3\) or \(2, batch, seq_len, 3\), got \(4, 6, 2\)"),
        (X.expand(5, 4, 6, 3), None, r"or \(2, batch, seq_len, 3\), got \(5, 4, 6, 3\)"),
        (X[None], None, r"or \(2, batch, seq_len, 3\), got \(1, 4, 6, 3\)"),
        (X, H, r"h_prev: expected shape \(2, 4, 8\).*, got \(4, 8\)"),
    ],
)
def test_bad_sequences_for_several_models(x, h_prev, message):
    with pytest.raises(ValueError, match=message):
        made(seeds=[0, 1])(x, h_prev)


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_bad_sizes(size, place):
    sizes, name = [3, 8, 2], ("input_size", "hidden_size", "output_size")[place]
    sizes[place] = size
    with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least 1, got {size!r}"):
        VanillaRNN(*sizes)


@pytest.mark.parametrize(
    "options, error, message",
    [
        (
            {"nonlinearity": "sigmoid"},
            ValueError,
            "nonlinearity: expected one of 'tanh', 'relu', 'linear', got 'sigmoid'",
        ),
        ({"engine": "fast"}, ValueError, "engine: expected one of 'bptt', 'loop', got 'fast'"),
        ({"seeds": []}, ValueError, r"seeds: expected None or at least one seed, got \[\]"),
        ({"seeds": range(0)}, ValueError, "seeds: expected None or at least one seed"),
        ({"seeds": 3}, TypeError, "seeds: expected None or whole numbers, such as range.5., got 3"),
        ({"seeds": [True]}, TypeError, r"seeds: expected None or whole numbers, .*, got \[True\]"),
        ({"seeds": [0.5]}, TypeError, r"seeds: expected None or whole numbers, .*, got \[0.5\]"),
        ({"seeds": "abc"}, TypeError, "seeds: expected None or whole numbers, .*, got 'abc'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        VanillaRNN(3, 8, 2, **options)


def test_the_loop_alone_refuses_what_the_engine_refuses():
    W_xh, b_h, W_hh = torch.zeros(8, 3), torch.zeros(8), torch.zeros(8, 8)
    x, h = torch.zeros(4, 6, 3), torch.zeros(4, 8)
    assert unroll_loop(x, h, W_xh, b_h, W_hh).shape == (4, 6, 8)
    with pytest.raises(ValueError, match=r"h_0: expected shape \(4, 8\), got \(1, 8\)"):
        unroll_loop(x, h[:1], W_xh, b_h, W_hh)
    with pytest.raises(ValueError, match="nonlinearity: expected one of .*, got 'gelu'"):
        unroll_loop(x, h, W_xh, b_h, W_hh, "gelu")
    with pytest.raises(ValueError, match='use engine="bptt"'):
        unroll_loop(x, h, W_xh, b_h, W_hh, keep={})


# -- copy_weights_ -----------------------------------------------------------------------------------------------------


def test_copy_weights_copies_and_adds_the_two_biases():
    model, rnn = VanillaRNN(3, 8, 2), nn.RNN(3, 8)
    readout = model.W_hy.weight.clone()
    copy_weights_(model, rnn)
    assert torch.equal(model.W_xh.weight, rnn.weight_ih_l0)
    assert torch.equal(model.W_hh.weight, rnn.weight_hh_l0)
    assert torch.equal(model.W_xh.bias, rnn.bias_ih_l0 + rnn.bias_hh_l0)
    assert torch.equal(model.W_hy.weight, readout)
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
    assert model.W_hh.weight.abs().sum() > 0


@pytest.mark.parametrize(
    "model, rnn, error, message",
    [
        ({}, nn.LSTM(3, 8), TypeError, "rnn: expected an nn.RNN, got LSTM"),
        ({}, nn.RNN(3, 8, num_layers=2), ValueError, "rnn: expected one layer, .*, got RNN.*num_layers=2"),
        ({}, nn.RNN(3, 8, bidirectional=True), ValueError, "rnn: expected one layer, one direction"),
        ({}, nn.RNN(3, 8, bias=False), ValueError, "rnn: expected one layer, .* with biases"),
        ({}, nn.RNN(4, 8), ValueError, "rnn: expected input_size=3, as in model, got 4"),
        ({}, nn.RNN(3, 1), ValueError, "rnn: expected hidden_size=8, as in model, got 1"),
        ({}, nn.RNN(3, 8, nonlinearity="relu"), ValueError, "expected nonlinearity='tanh', as in model, got 'relu'"),
        ({"seeds": [0]}, nn.RNN(3, 8), ValueError, "model: expected one model, got 1, with seeds="),
    ],
)
def test_copy_weights_of_what_does_not_fit(model, rnn, error, message):
    with pytest.raises(error, match=message):
        copy_weights_(VanillaRNN(3, 8, 2, **model), rnn)


def test_weights_are_not_copied_to_where_they_would_not_arrive():
    model = keep_orthogonal_(initialize_(VanillaRNN(3, 8, 2), "orthogonal"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match="model: expected a free W_hh"):
        copy_weights_(model, nn.RNN(3, 8))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# -- one unit ----------------------------------------------------------------------------------------------------------


def fork(w):
    """For w > 1 there are three fixed points while |b| is below this: where the map touches the diagonal, w (1 - h²) = 1."""
    h = math.sqrt(1 - 1 / w) if w > 1 else 0.0
    return w * h - math.atanh(h)


@settings(deadline=None, max_examples=100)
@given(st.floats(-30, 30), st.one_of(st.floats(-3, 3), st.floats(-60, 60)))
def test_fixed_points_are_those_that_a_fine_grid_brackets(w, b):
    assume(w <= 1 or abs(abs(b) - fork(w)) > 1e-3)  # at the fork itself two of them merge
    points = fixed_points(w, b)
    h = np.array([p for p, _ in points])
    assert (np.diff(h) > 0).all()
    assert np.abs(np.tanh(w * h + b) - h).max() <= 1e-12 * max(1, abs(w))
    for p, slope in points:
        assert slope == pytest.approx(w * (1 - p * p), abs=1e-12)

    grid = np.linspace(-1.0001, 1.0001, 40_003)  # a little beyond ±1, where saturated fixed points sit
    gap = np.tanh(w * grid + b) - grid
    brackets = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0)
    on_grid = grid[gap == 0]
    assert len(points) == len(brackets) + len(on_grid)
    found = np.sort(np.concatenate([(grid[brackets] + grid[brackets + 1]) / 2, on_grid]))
    assert np.abs(found - h).max() <= grid[1] - grid[0]


@pytest.mark.parametrize(
    "w, b, expected",
    [
        (0.0, 0.3, [math.tanh(0.3)]),
        (1.0, 0.0, [0.0]),
        (-1.5, 0.0, [0.0]),
        (1.5, 0.0, [-0.858560, 0.0, 0.858560]),
        (2.0, 0.6, [0.988515]),  # the bias has swallowed the other two
        (0.5, 100.0, [1.0]),  # saturated: tanh rounds to 1
        (0.5, -100.0, [-1.0]),
        (-5.0, 40.0, [1.0]),
        (200.0, 0.0, [-1.0, 0.0, 1.0]),
        (1e300, 0.0, [-1.0, 0.0, 1.0]),
    ],
)
def test_fixed_points_known(w, b, expected):
    assert [h for h, _ in fixed_points(w, b)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("w", [1.0001, 1.2, 2.0, 7.0])
def test_three_fixed_points_below_the_fork_and_one_beyond(w):
    edge = fork(w)
    for sign in (-1, 1):
        assert len(fixed_points(w, sign * edge * 0.99)) == 3
        assert len(fixed_points(w, sign * edge * 1.01)) == 1


@settings(deadline=None, max_examples=50)
@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(-1, 1))
def test_the_slope_says_whether_a_state_nearby_stays(w, b, side):
    for h_star, slope in fixed_points(w, b):
        assume(abs(abs(slope) - 1) > 0.05)
        start = h_star + 1e-3 * (1 if side >= 0 else -1)
        apart = np.abs(trajectory(w, b, start, 40) - h_star)
        assert (apart[-1] < apart[0]) == (abs(slope) < 1)


def test_trajectory_is_the_unit_a_step_at_a_time():
    h = trajectory(1.3, -0.2, 0.4, 6)
    assert h.shape == (7,) and h[0] == 0.4
    model = VanillaRNN(1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        model.W_hh.weight.fill_(1.3), model.W_xh.bias.fill_(-0.2)
    states = model.states(torch.zeros(1, 6, 1, dtype=torch.float64), torch.full((1, 1), 0.4, dtype=torch.float64))
    close(torch.tensor(h[1:]), states[0, :, 0].detach(), 1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None])
def test_one_unit_refuses_what_is_no_finite_number(bad):
    calls = {
        "w": [lambda: fixed_points(bad, 0.0), lambda: trajectory(bad, 0.0, 0.0, 3)],
        "b": [lambda: fixed_points(1.0, bad), lambda: trajectory(1.0, bad, 0.0, 3)],
        "h_0": [lambda: trajectory(1.0, 0.0, bad, 3)],
    }
    for name, functions in calls.items():
        for call in functions:
            with pytest.raises(ValueError, match=f"{name}: expected a finite number, got {bad!r}"):
                call()


@pytest.mark.parametrize("steps", [0, -3, 2.5])
def test_trajectory_refuses_less_than_one_step(steps):
    with pytest.raises(ValueError, match=f"steps: expected a whole number of at least 1, got {steps}"):
        trajectory(1.0, 0.0, 0.5, steps)
