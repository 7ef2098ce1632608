"""Watching gradients and clipping them: the monitor reads what autograd made, clipping is torch's, the cliff's gradient is autograd's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnncourse.clipping import (
    GradientMonitor,
    angle,
    clip_by_norm,
    clip_by_value,
    descend,
    norm_per_step,
    unit_loss,
)
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Echo, Latch
from rnncourse.training import Together, WithReadout, gradient_norm, train

TASK = Latch(6)


def vanilla(**options):
    torch.manual_seed(0)
    return VanillaRNN(4, 8, 4, **options)


def stacked():
    torch.manual_seed(0)
    return WithReadout(nn.RNN(4, 8, num_layers=2, batch_first=True), 4)


def backward(model, task=TASK, seed=0):
    x, y = task.batch(5, torch.Generator().manual_seed(seed))
    model.zero_grad()
    task.loss(model(x)[0], y).backward()


def norms(model):
    return {name: p.grad.norm().item() for name, p in model.named_parameters()}


# -- the monitor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [vanilla, stacked])
def test_the_monitor_records_the_norm_of_each_gradient_and_of_all(make):
    model = make()
    monitor, expected = GradientMonitor(model), []
    for step in (1, 2, 5):
        backward(model, seed=step)
        monitor(step, model)
        expected.append({**norms(model), "all": gradient_norm(model).item()})
    table = monitor.table()
    assert list(table.index) == [1, 2, 5] and table.index.name == "step"
    assert list(table.columns) == [*(name for name, _ in model.named_parameters()), "all"]
    for row, wanted in zip(table.to_dict("records"), expected):
        assert row == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("make", [vanilla, stacked])
def test_in_training_it_reads_the_gradient_before_it_is_clipped(make):
    model, after = make(), []

    def watch(step, model):
        monitor(step, model)
        after.append(gradient_norm(model).item())

    monitor = GradientMonitor(model)
    history = train(model, TASK, 4, clip_norm=1e-3, after_step=watch, progress=False)
    assert monitor.table()["all"].to_numpy() == pytest.approx(history.grad_norm.numpy(), rel=1e-5)
    assert max(after) < 1.01e-3 < 0.01 < monitor.table()["all"].min()


def test_the_profile_is_the_engine_s_dL_dh():
    model, expected = vanilla(), []

    def watch(step, model):
        monitor(step, model)
        expected.append([model.dL_dh[:, t].norm().item() for t in range(6)])

    monitor = GradientMonitor(model)
    train(model, TASK, 3, after_step=watch, progress=False)
    assert monitor.profile().shape == (3, 6)
    assert torch.allclose(monitor.profile(), torch.tensor(expected), rtol=1e-5)


def test_the_profile_is_what_hooks_on_the_loop_s_states_find():
    model = vanilla(dtype=torch.float64)
    x, y = TASK.batch(5, torch.Generator().manual_seed(0))
    monitor = GradientMonitor(model)
    TASK.loss(model(x.double())[0], y).backward()
    monitor(1)
    states, h = [], torch.zeros(5, 8, dtype=torch.float64)
    for x_t in x.double().unbind(1):
        h = torch.tanh(model.W_xh(x_t) + model.W_hh(h))
        h.retain_grad()
        states.append(h)
    TASK.loss(model.W_hy(torch.stack(states, dim=1)), y).backward()
    assert torch.allclose(monitor.profile()[0], torch.stack([h.grad.norm() for h in states]), rtol=1e-12)


def test_watching_changes_nothing():
    runs = []
    for watched in (False, True):
        model = vanilla()
        after_step = GradientMonitor(model) if watched else None
        runs.append(train(model, TASK, 10, clip_norm=0.1, after_step=after_step, progress=False).loss)
    assert torch.equal(*runs)


def test_close_removes_the_hooks_and_keeps_the_record():
    model = vanilla()
    monitor = GradientMonitor(model)
    backward(model)
    monitor(1)
    monitor.close()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not model.keep_dL_dh
    backward(model)
    with pytest.raises(ValueError, match="after each backward"):
        monitor(2)
    assert len(monitor.table()) == len(monitor.profile()) == 1


def test_a_profile_needs_sequences_of_one_length():
    model = vanilla()
    monitor = GradientMonitor(model)
    for step, T in enumerate((4, 6)):
        model(torch.randn(2, T, model.input_size))[0].square().mean().backward()
        monitor(step)
    assert [len(norms) for norms in monitor.through_time] == [4, 6]
    with pytest.raises(ValueError, match=r"expected sequences of one length at every recorded step, got \[4, 6\]"):
        monitor.profile()


def test_close_leaves_dL_dh_kept_where_it_was_kept_before():
    model = vanilla()
    model.keep_dL_dh = True
    GradientMonitor(model).close()
    assert model.keep_dL_dh


def test_a_frozen_parameter_is_left_out():
    model = vanilla()
    model.W_hy.weight.requires_grad_(False)
    monitor = GradientMonitor(model)
    backward(model)
    monitor(1)
    assert "W_hy.weight" not in monitor.table() and "W_hy.bias" in monitor.table()


def test_the_loop_has_norms_and_no_profile():
    model = vanilla(engine="loop")
    monitor = GradientMonitor(model)
    backward(model)
    monitor(1)
    assert monitor.table()["all"].item() > 0
    with pytest.raises(ValueError, match="no dL/dh_t recorded"):
        monitor.profile()


def test_a_gradient_that_is_nan_is_recorded_as_nan():
    model = vanilla()
    monitor = GradientMonitor(model)
    (model(TASK.batch(2)[0])[0].sum() * float("nan")).backward()
    monitor(1)
    assert monitor.table().isna().all(axis=None)


def test_the_monitor_says_what_it_needs():
    for model in (VanillaRNN(4, 8, 4, seeds=[0, 1]), Together(stacked, [0, 1])):
        with pytest.raises(ValueError, match="expected one model, got 2"):
            GradientMonitor(model)
    monitor = GradientMonitor(vanilla())
    with pytest.raises(ValueError, match="after each backward"):
        monitor(1)
    with pytest.raises(ValueError, match="no dL/dh_t recorded"):
        monitor.profile()


def test_norm_per_step_is_over_batch_and_units_model_by_model():
    dL_dh = torch.randn(3, 5, 7, 2)
    by_hand = torch.tensor([[dL_dh[m, :, t].square().sum() ** 0.5 for t in range(7)] for m in range(3)])
    assert torch.allclose(norm_per_step(dL_dh), by_hand)
    assert torch.allclose(norm_per_step(dL_dh[0]), by_hand[0])
    for shape in [(5, 7), (1, 2, 3, 4, 5)]:
        with pytest.raises(ValueError, match=r"expected shape \(batch, T, hidden\)"):
            norm_per_step(torch.zeros(shape))


# -- clipping ------------------------------------------------------------------------------------------------------


def by_torch(clip_, gradient, threshold):
    parameter = nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient.clone()
    clip_(parameter, threshold)
    return parameter.grad


gradients = st.builds(
    lambda seed, size, scale: torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale,
    st.integers(0, 2**31),
    st.integers(1, 20),
    st.sampled_from([1e-6, 0.1, 1.0, 1e4]),
)
thresholds = st.floats(1e-3, 1e3)


@given(gradients, thresholds)
def test_clipping_is_torch_s(gradient, threshold):
    theirs = by_torch(nn.utils.clip_grad_norm_, gradient, threshold)
    # torch divides by ‖g‖ + 1e-6
    assert torch.allclose(clip_by_norm(gradient, threshold), theirs, rtol=2e-6 + 1e-6 / threshold, atol=0)
    assert torch.equal(clip_by_value(gradient, threshold), by_torch(nn.utils.clip_grad_value_, gradient, threshold))


@given(gradients, thresholds)
def test_by_norm_shortens_and_never_turns(gradient, threshold):
    clipped = clip_by_norm(gradient, threshold)
    assert clipped.norm() <= threshold * (1 + 1e-6) or torch.equal(clipped, gradient)
    assert angle(gradient, clipped) < 1e-4
    if gradient.norm() < threshold * (1 - 1e-6):
        assert torch.equal(clipped, gradient)


@given(gradients, thresholds)
def test_by_value_may_turn_but_never_by_a_right_angle(gradient, threshold):
    clipped = clip_by_value(gradient, threshold)
    assert clipped.abs().max() <= threshold
    assert angle(gradient, clipped) < 90


def test_clipping_leaves_its_argument_and_zero_alone():
    gradient = torch.tensor([3.0, 4.0])
    assert torch.allclose(clip_by_norm(gradient, 1.0), torch.tensor([0.6, 0.8]))
    assert torch.equal(clip_by_value(gradient, 3.5), torch.tensor([3.0, 3.5]))
    assert torch.equal(gradient, torch.tensor([3.0, 4.0]))
    assert torch.equal(clip_by_norm(torch.zeros(2), 1.0), torch.zeros(2))


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "1", None, True])
def test_a_threshold_is_a_positive_number(bad):
    for call in (clip_by_norm, clip_by_value):
        with pytest.raises(ValueError, match="threshold: expected a positive number, got"):
            call(torch.ones(2), bad)
    if bad is not None:  # None: no clipping
        with pytest.raises(ValueError, match="clip_norm: expected a positive number, got"):
            descend(5.0, -2.6, 0.1, 3, clip_norm=bad)


# -- angles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 1e-9, 1e-5, 0.1, 30, 45, 90, 120, 179.9, 180 - 1e-7, 180])
def test_angle_is_exact_down_to_the_tiniest(degrees):
    turned = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=torch.float64)
    for length in (1e-8, 1.0, 1e8):
        found = angle(torch.tensor([2.0, 0.0], dtype=torch.float64), length * turned)
        assert found == pytest.approx(degrees, rel=1e-9, abs=1e-13)


def test_angle_is_of_tensors_of_any_shape():
    a, b = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    assert angle(a, b) == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-9)
    assert angle(a, -a) == 180 and angle(a, 3 * a) == pytest.approx(0, abs=1e-12)


def test_angle_says_what_it_needs():
    with pytest.raises(ValueError, match=r"expected one shape, got \(2,\) and \(3,\)"):
        angle(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="the zero vector has no direction"):
        angle(torch.ones(2), torch.zeros(2))


# -- the cliff -----------------------------------------------------------------------------------------------------


def by_autograd(w, b, steps=50, x_0=0.5, target=0.7):
    w, b = w.clone().requires_grad_(), b.clone().requires_grad_()
    x = torch.full_like(w, x_0)
    for _ in range(steps):
        x = w * torch.sigmoid(x) + b
    loss = (torch.sigmoid(x) - target) ** 2
    return loss.detach(), *torch.autograd.grad(loss.sum(), (w, b))


@pytest.mark.parametrize("unit", [{}, {"steps": 1}, {"steps": 7, "x_0": -0.3, "target": 0.2}])
def test_the_loss_of_a_unit_has_autograd_s_gradient(unit):
    grid = torch.meshgrid(
        torch.linspace(4.4, 5.8, 15, dtype=torch.float64), torch.linspace(-3, -2.2, 9, dtype=torch.float64), indexing="ij"
    )
    for ours, theirs in zip(unit_loss(*grid, **unit), by_autograd(*grid, **unit), strict=True):
        assert ours.shape == (15, 9)
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_loss_of_a_unit_takes_numbers_tensors_or_both():
    w = torch.linspace(4.5, 5.5, 4, dtype=torch.float64)
    for k, row in enumerate(zip(*unit_loss(w, -2.7), strict=True)):
        numbers = unit_loss(w[k].item(), -2.7)
        assert all(isinstance(number, float) for number in numbers)
        assert numbers == pytest.approx([value.item() for value in row], rel=1e-10)
    assert unit_loss(1, 0) == pytest.approx(unit_loss(1.0, 0.0))
    assert all(math.isfinite(value) for value in unit_loss(2000.0, -3000.0))
    for bad in (0, 1.5, "50"):
        with pytest.raises(ValueError, match="steps: expected a whole number of at least 1"):
            unit_loss(5.0, -2.6, steps=bad)


def test_on_the_wall_the_start_is_an_unstable_fixed_point():
    x_0 = 0.5
    s = 1 / (1 + math.exp(-x_0))
    for w in (4.6, 5.0, 5.4):
        growth = w * s * (1 - s)
        loss, dE_dw, dE_db = unit_loss(w, x_0 - w * s)
        assert loss == pytest.approx((s - 0.7) ** 2, rel=1e-6)
        assert dE_db == pytest.approx(2 * (s - 0.7) * s * (1 - s) * (growth**50 - 1) / (growth - 1), rel=1e-6)
        assert dE_dw == pytest.approx(s * dE_db, rel=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0.1, 1e9])
def test_a_descent_is_gradient_descent(clip_norm):
    path = descend(5.5, -2.6, 0.5, 8, clip_norm)
    assert path.shape == (9, 4) and path[0, :2].tolist() == [5.5, -2.6]
    for now, then in zip(path[:-1], path[1:]):
        loss, *gradient = unit_loss(now[0], now[1])
        gradient = torch.stack(gradient)
        assert torch.allclose(now[2:], torch.stack([loss, gradient.norm()]), rtol=1e-8)
        move = gradient if clip_norm is None else clip_by_norm(gradient, clip_norm)
        assert torch.allclose(then[:2], now[:2] - 0.5 * move, rtol=1e-9)


def test_clipping_keeps_the_descent_on_the_map():
    thrown, kept = descend(5.5, -2.6, 0.5, 300), descend(5.5, -2.6, 0.5, 300, clip_norm=1.0)
    assert thrown[-1, 0] > 1000 and thrown[-1, 2] > 0.08
    assert kept[:, :2].abs().max() < 6 and kept[:, 2].min() < 1e-3


def test_a_descent_says_what_it_needs():
    for arguments, message in [
        ((float("nan"), 0.0, 0.5, 3), "w: expected a finite number"),
        ((5.0, "0", 0.5, 3), "b: expected a finite number"),
        ((5.0, 0.0, 0.0, 3), "rate: expected a positive number"),
        ((5.0, 0.0, 0.5, 0), "steps: expected a whole number of at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            descend(*arguments)


def test_a_chunked_run_is_watched_chunk_by_chunk():
    model = vanilla()
    monitor = GradientMonitor(model)
    train(model, Echo(12, 2), 2, chunk=4, after_step=monitor, progress=False)
    assert monitor.profile().shape == (2, 4) and len(monitor.table()) == 2
