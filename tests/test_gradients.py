"""Step Jacobians, their products, Lyapunov exponents and dL/dh_t, against autograd, direct multiplication and known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnncourse.gradients import (
    bare_rnn,
    jacobian_products,
    log_norm_bound,
    log_product_norms,
    log_singular_values,
    log_slope,
    lyapunov_exponents,
    spectral_norm,
    spectral_radius,
    state_gradients,
    step_jacobians,
)
from rnncourse.initialization import INITS, SkipRNN, initialize_, recurrent_matrix
from rnncourse.recurrence import VanillaRNN, fixed_points, unroll_loop
from rnncourse.training import Together, WithReadout

NONLINEARITIES = ["tanh", "relu", "linear"]
F64 = torch.float64
nonlinearities = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def random_jacobians(*shape, scale=1.0):
    return scale * torch.randn(*shape, shape[-1], dtype=F64)


def rotation(angle, scale=1.0):
    c, s = math.cos(angle), math.sin(angle)
    return scale * torch.tensor([[c, -s], [s, c]], dtype=F64)


# -- the Jacobian of a step --------------------------------------------------------------------------------------------


def recurrence(n, nonlinearity):
    """h, W_hh and the map from (x, h_t) to the states after it."""
    W_xh, b_h, W_hh = (torch.randn(*shape, dtype=F64) for shape in ((n, 3), (n,), (n, n)))

    def states(x, h):
        return unroll_loop(x[None], h[None], W_xh, b_h, W_hh, nonlinearity)[0]

    return W_hh, states


@nonlinearities
def test_a_step_s_jacobian_is_jacrev_s(nonlinearity):
    W_hh, states = recurrence(5, nonlinearity)
    x, h_0 = torch.randn(4, 3, dtype=F64), torch.randn(5, dtype=F64)
    h = states(x, h_0)
    J = step_jacobians(h, W_hh, nonlinearity)
    for t, h_prev in enumerate([h_0, *h[:-1]]):
        close(J[t], torch.func.jacrev(lambda h_prev: states(x[t : t + 1], h_prev)[0])(h_prev))


@nonlinearities
def test_their_product_is_jacrev_s_over_any_lag(nonlinearity):
    W_hh, states = recurrence(4, nonlinearity)
    W_hh *= 0.5
    T = 6
    x, h_0 = torch.randn(T, 3, dtype=F64), torch.randn(4, dtype=F64)
    h = states(x, h_0)
    P, log_scale = jacobian_products(step_jacobians(h, W_hh, nonlinearity))
    for k in range(1, T + 1):
        h_start = h_0 if k == T else h[T - 1 - k]
        by_autograd = torch.func.jacrev(lambda h_t: states(x[T - k :], h_t)[-1])(h_start)
        close(P[k - 1] * log_scale[k - 1].exp(), by_autograd)


def test_jacobians_of_several_models_and_sequences_at_once():
    h, W = torch.randn(2, 3, 7, 5, dtype=F64).tanh(), torch.randn(2, 5, 5, dtype=F64)
    J = step_jacobians(h, W.unsqueeze(1))
    assert J.shape == (2, 3, 7, 5, 5)
    close(J[1, 2, 4], torch.diag(1 - h[1, 2, 4] ** 2) @ W[1])


def test_relu_at_zero_has_slope_zero_as_autograd_s():
    h = torch.tensor([[0.0, 1.0]])
    assert step_jacobians(h, torch.ones(2, 2), "relu").tolist() == [[[0, 0], [1, 1]]]


# -- products ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2), st.integers(0, 1000))
def test_products_are_direct_multiplication(T, n, lead, seed):
    torch.manual_seed(seed)
    J = random_jacobians(*[2] * lead, T, n)
    P, log_scale = jacobian_products(J)
    assert P.shape == J.shape and log_scale.shape == J.shape[:-2]
    close(P.abs().amax(dim=(-2, -1)), torch.ones_like(log_scale))
    direct = torch.eye(n, dtype=F64)
    for k in range(1, T + 1):
        direct = direct @ J[..., T - k, :, :]
        close(P[..., k - 1, :, :] * log_scale[..., k - 1].exp()[..., None, None], direct, 1e-9)
    close(log_product_norms(J)[..., -1], torch.linalg.matrix_norm(direct, 2).log(), 1e-9)
    close(log_singular_values(J)[..., 0], log_product_norms(J)[..., -1], 1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_long_products_leave_no_range(scale, dtype):
    Q = recurrent_matrix("orthogonal", 6, dtype=dtype)
    log_norms = log_product_norms((scale * Q).expand(1000, 6, 6))
    expected = torch.arange(1, 1001, dtype=F64) * math.log(scale)
    torch.testing.assert_close(log_norms.double(), expected, rtol=1e-5, atol=1e-5)
    assert log_norms.dtype == dtype


def test_a_product_that_is_zero_says_minus_infinity_from_there_on():
    J = torch.eye(3, dtype=F64).repeat(5, 1, 1)
    J[1] = 0  # J_2: seen from lag 4 on
    P, log_scale = jacobian_products(J)
    assert log_scale.isneginf().tolist() == [False, False, False, True, True]
    assert not P.isnan().any() and (P[3:] == 0).all()
    assert log_product_norms(J).isneginf().tolist() == [False, False, False, True, True]


def test_denormal_jacobians_keep_their_scale():
    J = torch.full((3, 1, 1), 1e-41)  # below float32's normal range
    close(log_product_norms(J).double(), torch.arange(1, 4, dtype=F64) * J[0].double().log().item(), 1e-4)


def test_singular_values_of_a_product_beyond_the_range():
    J = torch.diag(torch.tensor([1e20, 1.0, 1e-20], dtype=F64)).expand(30, 3, 3)
    assert log_singular_values(J)[0].item() == pytest.approx(600 * math.log(10))
    D = torch.diag(torch.tensor([3.0, 2.0, 0.5], dtype=F64)).expand(20, 3, 3)
    close(log_singular_values(D), 20 * torch.tensor([3.0, 2.0, 0.5], dtype=F64).log(), 1e-9)


# -- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", INITS)
@nonlinearities
def test_no_product_is_above_the_bound(init, nonlinearity):
    model = initialize_(VanillaRNN(3, 12, 1, nonlinearity, seeds=range(3), dtype=F64), init, 1.5)
    W_hh = model.W_hh.weight.detach()
    J = step_jacobians(model.states(torch.randn(4, 25, 3, dtype=F64)).detach(), W_hh.unsqueeze(1), nonlinearity)
    bound = log_norm_bound(W_hh, range(1, 26)).unsqueeze(1)
    assert (log_product_norms(J) <= bound + 1e-9).all()


def test_the_bound_is_reached_by_a_scaled_rotation():
    W, lags = rotation(1.0, 0.7), torch.arange(1, 30, dtype=F64)
    close(log_product_norms(W.expand(29, 2, 2)), log_norm_bound(W, lags), 1e-10)
    assert log_norm_bound(torch.stack([W, W]), [1, 2, 3]).shape == (2, 3)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_norm_and_radius_are_numpy_s(n, seed):
    torch.manual_seed(seed)
    W = torch.randn(3, n, n, dtype=F64)
    for one, norm, radius in zip(W.numpy(), spectral_norm(W), spectral_radius(W)):
        assert norm.item() == pytest.approx(np.linalg.norm(one, 2))
        assert radius.item() == pytest.approx(np.abs(np.linalg.eigvals(one)).max())
        assert radius <= norm * (1 + 1e-12)


# -- Lyapunov exponents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(2.0, 1.0, 0.5), (0.5, 1.0, 2.0)], ids=["in order", "not in order"])
@pytest.mark.parametrize("kind", ["diagonal", "triangular"])
def test_exponents_of_a_linear_map_are_the_logarithms_of_its_eigenvalues(rates, kind):
    J = torch.diag(torch.tensor(rates, dtype=F64))
    if kind == "triangular":
        J = J + torch.ones(3, 3, dtype=F64).triu(1)
    exponents = lyapunov_exponents(J.expand(300, 3, 3), warmup=100)
    assert exponents.shape == (200, 3)
    close(exponents[-1], torch.tensor([2.0, 1.0, 0.5], dtype=F64).log(), 1e-9)


def test_a_scaled_rotation_stretches_all_directions_alike():
    exponents = lyapunov_exponents(torch.stack([rotation(a, 0.7) for a in torch.rand(50).tolist()]))
    close(exponents, torch.full((50, 2), math.log(0.7), dtype=F64))


@pytest.mark.parametrize("w, b", [(0.5, 0.2), (2.0, 0.0), (-0.8, 0.3), (3.0, -0.4)])
def test_one_unit_at_its_fixed_point(w, b):
    h_star, slope = fixed_points(w, b)[0]
    model = VanillaRNN(1, 1, 1, dtype=F64)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (0.0, b, w, 1.0, 0.0)):
            parameter.fill_(value)
        h = model.states(torch.zeros(1, 50, 1, dtype=F64), torch.tensor([[h_star]], dtype=F64))[0]
    exponent = lyapunov_exponents(step_jacobians(h, torch.tensor([[w]], dtype=F64)))[-1, 0].item()
    assert exponent == pytest.approx(math.log(abs(w * (1 - h_star**2))), abs=1e-9)
    assert exponent == pytest.approx(math.log(abs(slope)), abs=1e-9)


def test_exponents_add_up_to_the_mean_of_log_abs_det():
    J = random_jacobians(2, 40, 5)
    exponents = lyapunov_exponents(J, warmup=10)
    close(exponents[:, -1].sum(-1), torch.linalg.slogdet(J[:, 10:]).logabsdet.mean(-1), 1e-10)


def test_the_largest_is_the_growth_of_the_product():
    J = random_jacobians(2000, 4)
    assert lyapunov_exponents(J)[-1, 0].item() == pytest.approx(log_product_norms(J)[-1].item() / 2000, abs=2e-3)


def test_count_gives_the_first_of_all():
    J = random_jacobians(3, 60, 6)
    close(lyapunov_exponents(J, 20, count=2), lyapunov_exponents(J, 20)[..., :2], 1e-9)


def test_running_means_are_means_of_the_growth_so_far():
    J = random_jacobians(30, 3)
    exponents = lyapunov_exponents(J, warmup=5)
    for steps in (1, 10):
        close(lyapunov_exponents(J[: 5 + steps], warmup=5)[-1], exponents[steps - 1])


def test_the_same_jacobians_give_the_same_exponents_and_leave_torch_s_generator_alone():
    J = random_jacobians(20, 3)
    state = torch.get_rng_state()
    assert torch.equal(lyapunov_exponents(J), lyapunov_exponents(J))
    assert torch.equal(torch.get_rng_state(), state)


# -- dL/dh_t -----------------------------------------------------------------------------------------------------------


def by_autograd(model, x, loss):
    """dL/dh_t of a ``VanillaRNN``, by ``retain_grad`` on each state of a loop of its own."""
    h, kept = x.new_zeros(len(x), model.hidden_size), []
    for x_t in x.unbind(1):
        h = torch.tanh(model.W_xh(x_t) + model.W_hh(h))
        h.retain_grad()
        kept.append(h)
    loss(model.W_hy(torch.stack(kept, dim=1))).backward()
    model.zero_grad()
    return torch.stack([h.grad for h in kept], dim=1)


def squared_error(outputs):
    return (outputs - torch.linspace(-1, 1, outputs.shape[-1], dtype=outputs.dtype)).square().mean()


def last_error(outputs):
    return squared_error(outputs[..., -1:, :])


@pytest.mark.parametrize("loss", [squared_error, last_error])
@pytest.mark.parametrize("engine", ["bptt", "loop"])
def test_state_gradients_of_a_vanilla_rnn_are_autograd_s(loss, engine):
    model, x = VanillaRNN(3, 6, 2, engine=engine, dtype=F64), torch.randn(4, 7, 3, dtype=F64)
    close(state_gradients(model, x, loss), by_autograd(model, x, loss))


def manual_states(layer, x):
    """The top layer's h_t, and c_t of an LSTM, of PyTorch's layer run by its cells, each with its gradient retained."""
    cell_type = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[type(layer)]
    inputs, c_top = list(x.unbind(1)), None
    for number in range(layer.num_layers):
        cell = cell_type(inputs[0].shape[-1], layer.hidden_size, dtype=x.dtype)
        own = (getattr(layer, f"{name}_l{number}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        cell.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (p.detach() for p in own))))
        state, hs, cs = None, [], []
        for x_t in inputs:
            state = cell(x_t, state)
            h, *c = state if isinstance(state, tuple) else (state,)
            hs.append(h)
            cs += c
        inputs, c_top = hs, cs
    for tensor in (*inputs, *c_top):
        tensor.retain_grad()
    return inputs, c_top


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("readout", [True, False], ids=["readout", "bare"])
def test_state_gradients_of_pytorch_s_layers_are_autograd_s(kind, layers, readout):
    layer = kind(3, 5, num_layers=layers, batch_first=True, dtype=F64)
    model = WithReadout(layer, 2).double() if readout else layer
    x = torch.randn(4, 6, 3, dtype=F64)
    h, c = manual_states(layer, x)
    outputs = torch.stack(h, dim=1)
    close(outputs, layer(x)[0])
    squared_error(model.readout(outputs) if readout else outputs).backward()
    close(state_gradients(model, x, squared_error), torch.stack([v.grad for v in h], dim=1))
    if kind is nn.LSTM:
        close(state_gradients(model, x, squared_error, cell=True), torch.stack([v.grad for v in c], dim=1))


def test_state_gradients_of_a_module_of_one_s_own():
    layer, x = SkipRNN(3, 5, keep=0.5).double(), torch.randn(2, 6, 3, dtype=F64)
    assert state_gradients(layer, x, squared_error).shape == (2, 6, 5)
    dL_dh_T = state_gradients(layer, x, lambda y: y[:, -1].sum())[:, -1]
    close(dL_dh_T, torch.ones(2, 5, dtype=F64))


def test_several_models_get_what_each_gets_alone():
    several, x = VanillaRNN(3, 6, 2, seeds=[5, 6], dtype=F64), torch.randn(4, 7, 3, dtype=F64)
    target = torch.randn(7, 2, dtype=F64)
    together = state_gradients(several, x, lambda y: (y - target).square().mean(dim=(-3, -2, -1)))  # a loss a model
    for number, seed in enumerate([5, 6]):
        alone = state_gradients(
            VanillaRNN(3, 6, 2, seeds=[seed], dtype=F64), x, lambda y: (y - target).square().mean()
        )
        close(together[number], alone[0])


@pytest.mark.parametrize("keep", [True, False])
def test_state_gradients_leave_the_model_as_it_was(keep):
    model, x = VanillaRNN(3, 6, 2, dtype=F64), torch.randn(4, 7, 3, dtype=F64)
    model.keep_dL_dh = keep
    model(x)[0].sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    kept = model.dL_dh.clone() if keep else None
    state_gradients(model, 2 * x, squared_error)
    assert model.keep_dL_dh is keep and model.engine == "bptt" and not x.requires_grad
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before))
    if keep:
        assert torch.equal(model.dL_dh, kept)
    else:
        with pytest.raises(ValueError, match="no dL/dh_t yet"):
            _ = model.dL_dh


def test_the_flag_survives_a_loss_that_fails():
    model, x = VanillaRNN(3, 6, 2), torch.randn(4, 7, 3)
    with pytest.raises(ZeroDivisionError):
        state_gradients(model, x, lambda y: 1 / 0)
    assert model.keep_dL_dh is False


@pytest.mark.parametrize("make", [lambda: VanillaRNN(3, 6, 2), lambda: WithReadout(nn.GRU(3, 6, batch_first=True), 2)])
def test_frozen_weights_and_no_grad_do_not_matter(make):
    model, x = make(), torch.randn(4, 7, 3)
    expected = state_gradients(model, x, squared_error)
    model.requires_grad_(False)
    with torch.no_grad():
        close(state_gradients(model, x, squared_error), expected, 1e-7)


def test_steps_that_the_loss_does_not_reach_have_gradient_zero():
    model = WithReadout(nn.RNN(3, 6, batch_first=True), 2)
    gradients = state_gradients(model, torch.randn(1, 5, 3), lambda y: y[:, 2].sum())
    assert (gradients[:, :3] != 0).any(dim=-1).all() and (gradients[:, 3:] == 0).all()


def test_gradients_follow_the_product_of_jacobians():
    model, x = VanillaRNN(3, 6, 2, dtype=F64), torch.randn(1, 9, 3, dtype=F64)
    gradients = state_gradients(model, x, last_error)[0]
    P, log_scale = jacobian_products(step_jacobians(model.states(x).detach()[0], model.W_hh.weight.detach()))
    for k in range(1, 9):
        close(gradients[-1 - k], log_scale[k - 1].exp() * P[k - 1].T @ gradients[-1])


# -- a recurrence of W_hh alone ----------------------------------------------------------------------------------------


@nonlinearities
def test_bare_rnn_is_the_recurrence_and_nothing_else(nonlinearity):
    W, x = torch.randn(4, 4, dtype=F64), torch.randn(2, 5, 4, dtype=F64)
    outputs, h_T = bare_rnn(W, nonlinearity)(x)
    h = torch.zeros(2, 4, dtype=F64)
    for t in range(5):
        h = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}[nonlinearity](x[:, t] + h @ W.T)
        close(outputs[:, t], h)
    close(h_T, h)


def test_bare_rnn_of_several_matrices():
    W, x = torch.randn(3, 4, 4), torch.randn(2, 5, 4)
    together = bare_rnn(W)(x)[0]
    for one, outputs in zip(W, together):
        close(outputs, bare_rnn(one)(x)[0], 1e-5)


# -- slopes ------------------------------------------------------------------------------------------------------------


def test_log_slope_reads_lags_from_the_end():
    lags = torch.arange(49, -1, -1, dtype=F64)  # entry t has lag T - 1 - t
    norms = torch.stack([3 * 0.8**lags, 1.2**lags])
    close(log_slope(norms, 5, 40), torch.tensor([0.8, 1.2], dtype=F64).log(), 1e-10)
    norms[:, :9] = 7.0  # lags 41 to 49
    norms[:, 45:] = 7.0  # lags 0 to 4
    close(log_slope(norms, 5, 40), torch.tensor([0.8, 1.2], dtype=F64).log(), 1e-10)


def test_log_slope_is_numpy_s_least_squares():
    norms = torch.rand(20, dtype=F64) + 0.1
    lags = np.arange(3, 16)
    expected = np.polyfit(lags, norms.flip(0).log().numpy()[3:16], 1)[0]
    assert log_slope(norms, 3, 15).item() == pytest.approx(expected)
    assert log_slope(norms, np.int64(3), np.int64(15)) == log_slope(norms, 3, 15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_numbers_are_the_same():
    W, x = recurrent_matrix("gaussian", 8, dtype=F64), torch.randn(2, 30, 8, dtype=F64)
    found = []
    for device in ("cpu", "cuda"):
        model, here = bare_rnn(W.to(device)), x.to(device)
        J = step_jacobians(model.states(here).detach(), W.to(device))
        measured = [
            state_gradients(model, here, squared_error),
            log_product_norms(J),
            lyapunov_exponents(J, 5),
            log_norm_bound(W.to(device), [1, 2]),
            log_slope(J.norm(dim=(-2, -1)), 2, 20),
        ]
        assert all(value.device.type == device for value in measured)
        found.append([value.cpu() for value in measured])
    for on_cpu, on_gpu in zip(*found):
        close(on_gpu, on_cpu, 1e-8)


# -- bad input ---------------------------------------------------------------------------------------------------------

SQUARE, FLAT = torch.eye(3), torch.ones(3, 2)
NAN = torch.full((3, 3), math.nan)
X = torch.randn(2, 4, 3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: step_jacobians(torch.ones(5, 2), SQUARE), r"h: expected shape \(\.\.\., T, 3\).*got \(5, 2\)"),
        (lambda: step_jacobians(torch.ones(0, 3), SQUARE), "T of 1 or more"),
        (lambda: step_jacobians(torch.ones(3), SQUARE), r"got \(3,\)"),
        (lambda: step_jacobians(torch.ones(5, 3), FLAT), r"W_hh: expected a square matrix.*\(3, 2\)"),
        (lambda: step_jacobians(torch.ones(5, 3), SQUARE, "sigmoid"), "nonlinearity: expected one of.*'sigmoid'"),
        (lambda: jacobian_products(SQUARE), r"J: expected Jacobians \(\.\.\., T, n, n\)"),
        (lambda: jacobian_products(torch.ones(0, 3, 3)), "T of 1 or more"),
        (lambda: jacobian_products(torch.ones(4, 3, 2)), "J: expected a square matrix"),
        (lambda: log_product_norms(NAN.expand(4, 3, 3)), "J: expected finite numbers"),
        (lambda: log_singular_values(SQUARE), "J: expected Jacobians"),
        (lambda: lyapunov_exponents(SQUARE), "J: expected Jacobians"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), warmup=5), "warmup: expected 0 to 4.*got 5"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), warmup=-1), "warmup"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), count=0), "count: expected 1 to 3.*got 0"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), count=4), "count: expected 1 to 3.*got 4"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), count=2.0), "count: expected a whole number.*got 2.0"),
        (lambda: lyapunov_exponents(SQUARE.expand(5, 3, 3), warmup=1.5), "warmup: expected a whole number.*got 1.5"),
        (lambda: spectral_norm(FLAT), "W: expected a square matrix"),
        (lambda: spectral_radius(FLAT), "W: expected a square matrix"),
        (lambda: spectral_radius(NAN), "W: expected finite numbers"),
        (lambda: log_norm_bound(FLAT, [1]), "W_hh: expected a square matrix"),
        (lambda: bare_rnn(FLAT), "W_hh: expected a square matrix"),
        (lambda: bare_rnn(torch.ones(2, 2, 3, 3)), r"W_hh: expected \(n, n\) or \(models, n, n\)"),
        (lambda: log_slope(torch.ones(10), 0, 10), "first and last.*< 10, got 0 and 10"),
        (lambda: log_slope(torch.ones(10), 5, 5), "got 5 and 5"),
        (lambda: log_slope(torch.ones(10), -1, 5), "first: expected a whole number of at least 0, got -1"),
        (lambda: log_slope(torch.ones(10), 0.0, 5), "first: expected a whole number of at least 0, got 0.0"),
        (lambda: log_slope(torch.ones(10), 0, 5.5), "last: expected a whole number of at least 0, got 5.5"),
        (lambda: state_gradients(VanillaRNN(3, 4, 2), X, lambda y: y.mean(dim=0)), "loss: expected one number"),
        (lambda: state_gradients(nn.RNN(3, 4), X, squared_error), "batch_first=True"),
        (lambda: state_gradients(nn.RNN(3, 4, batch_first=True, bidirectional=True), X, squared_error), "one direction"),
        (lambda: state_gradients(nn.GRU(3, 4, batch_first=True), X, squared_error, cell=True), "an LSTM.*got GRU"),
        (lambda: state_gradients(VanillaRNN(3, 4, 2), X, squared_error, cell=True), "an LSTM.*got VanillaRNN"),
        (lambda: state_gradients(nn.GRU(3, 4, batch_first=True), X[0], squared_error), r"x: expected shape.*\(4, 3\)"),
        (lambda: state_gradients(nn.GRU(3, 4, batch_first=True), X[:, :0], squared_error), "seq_len of 1 or more"),
        (lambda: state_gradients(VanillaRNN(3, 4, 2), X[..., :2], squared_error), "x: expected shape"),
        (lambda: state_gradients(VanillaRNN(3, 4, 2), X.long(), squared_error), "x: expected floating-point numbers"),
        (lambda: state_gradients(Together(lambda: VanillaRNN(3, 4, 2), [0, 1]), X, squared_error), "one model"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
