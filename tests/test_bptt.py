"""The engine beside autograd: states, gradients, what it keeps, what it refuses, its memory; and truncated BPTT."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnncourse.bptt import NONLINEARITIES, Unroll, chunks, unroll
from rnncourse.recurrence import VanillaRNN, copy_weights_, unroll_loop
from rnncourse.training import WithReadout

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}  # relative to the largest entry
NAMES = ("x", "h_0", "W_xh", "b_h", "W_hh")
nonlinearities = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
several = pytest.mark.parametrize("models", [(), (3,)], ids=["one model", "three"])
devices = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)


def close(ours, theirs, dtype=torch.float64, name="it"):
    assert ours.shape == theirs.shape, name
    scale = max(1.0, float(theirs.detach().abs().max()))
    said = {"msg": lambda message: f"{name}: {message}"}
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale, **said)


def arguments(models=(), batch=2, T=5, inputs=3, hidden=4, dtype=torch.float64, device="cpu", seed=0):
    """x, h_0, W_xh, b_h, W_hh, each a leaf that wants its gradient; drawn on the CPU, so the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, T, inputs), (batch, hidden), (hidden, inputs), (hidden,), (hidden, hidden)
    drawn = [torch.randn(*models, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    for weight in drawn[2:]:
        weight /= hidden**0.5
    return [v.to(device, dtype).requires_grad_() for v in drawn]


def gradients(run, leaves, nonlinearity, weight, **options):
    """The states, and the gradient of Σ weight ⊙ h by each leaf that wants one."""
    h = run(*leaves, nonlinearity, **options)
    wanted = [v for v in leaves if v.requires_grad]
    return [h.detach(), *torch.autograd.grad(h, wanted, weight)]


def assert_engine_is_loop(leaves, nonlinearity, weight=None):
    weight = torch.randn(*leaves[1].shape[:-1], leaves[0].shape[-2], leaves[1].shape[-1]).to(leaves[0])
    ours, theirs = (gradients(run, leaves, nonlinearity, weight) for run in (unroll, unroll_loop))
    names = ["h", *(f"dL/d{name}" for name, leaf in zip(NAMES, leaves) if leaf.requires_grad)]
    for name, one, other in zip(names, ours, theirs, strict=True):
        close(one, other, leaves[0].dtype, name)


# -- the same as autograd ----------------------------------------------------------------------------------------------


@devices
@several
@nonlinearities
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_states_and_every_gradient_are_the_loops(nonlinearity, models, dtype, device):
    assert_engine_is_loop(arguments(models, 4, 9, 3, 8, dtype, device), nonlinearity)


@settings(deadline=None, max_examples=60)
@given(
    models=st.sampled_from([(), (1,), (2,)]),
    batch=st.integers(1, 5),
    T=st.integers(1, 12),
    inputs=st.integers(1, 4),
    hidden=st.integers(1, 9),
    dtype=st.sampled_from(list(TOLERANCE)),
    nonlinearity=st.sampled_from(NONLINEARITIES),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_shape_it_is_the_loop(models, batch, T, inputs, hidden, dtype, nonlinearity, seed):
    assert_engine_is_loop(arguments(models, batch, T, inputs, hidden, dtype, seed=seed), nonlinearity)


@devices
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_it_is_nn_rnn_backwards_too(nonlinearity, device):
    torch.manual_seed(0)
    rnn = nn.RNN(3, 8, nonlinearity=nonlinearity, batch_first=True, device=device, dtype=torch.float64)
    x, h_0 = (v.detach().requires_grad_() for v in arguments((), 4, 9, 3, 8, device=device)[:2])
    weight = torch.randn(4, 9, 8, dtype=torch.float64).to(device)
    wanted = (x, h_0, rnn.weight_ih_l0, rnn.bias_ih_l0, rnn.weight_hh_l0)
    theirs = torch.autograd.grad(rnn(x, h_0.unsqueeze(0))[0], wanted, weight)

    model = VanillaRNN(3, 8, 1, nonlinearity, device=device, dtype=torch.float64)
    copy_weights_(model, rnn)
    weights = model.W_xh.weight, model.W_xh.bias, model.W_hh.weight
    ours = torch.autograd.grad(unroll(x, h_0, *weights, nonlinearity), (x, h_0, *weights), weight)
    for name, one, other in zip(NAMES, ours, theirs, strict=True):
        close(one, other, name=f"dL/d{name}")


@nonlinearities
@pytest.mark.parametrize(
    "sizes",
    [
        dict(batch=2, T=4, inputs=2, hidden=3),
        dict(batch=3, T=1, inputs=2, hidden=3),
        dict(batch=1, T=4, inputs=1, hidden=2),
        dict(batch=2, T=3, inputs=2, hidden=1),
        dict(batch=1, T=1, inputs=1, hidden=1),
        dict(models=(2,), batch=2, T=3, inputs=2, hidden=3),
        dict(models=(1,), batch=1, T=1, inputs=1, hidden=1),
    ],
    ids=lambda sizes: ",".join(map(str, sizes.values())),
)
def test_gradcheck(nonlinearity, sizes):
    assert torch.autograd.gradcheck(lambda *v: unroll(*v, nonlinearity), arguments(**sizes))


def test_a_relu_at_its_corner_has_the_slope_that_torch_gives_it():
    leaves = [torch.zeros(1, 3, 1), torch.zeros(1, 2), torch.ones(2, 1), torch.zeros(2), torch.eye(2)]
    assert_engine_is_loop([v.requires_grad_() for v in leaves], "relu")  # every a_t is exactly 0


def test_long_sequences_stay_the_loop():
    assert_engine_is_loop(arguments((), 2, 2000, 2, 8), "tanh")


# -- what it keeps -----------------------------------------------------------------------------------------------------


@devices
@several
@nonlinearities
def test_kept_dL_dh_is_what_retain_grad_finds(nonlinearity, models, device):
    leaves, keep = arguments(models, 4, 7, 3, 8, device=device), {}
    unroll(*leaves, nonlinearity, keep=keep).square().sum().backward()

    x, h_t, W_xh, b_h, W_hh = leaves
    phi = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}[nonlinearity]
    h = []
    for x_t in x.unbind(-2):  # every state a tensor of its own, so that autograd can keep its gradient
        h_t = phi(x_t @ W_xh.mT + b_h.unsqueeze(-2) + h_t @ W_hh.mT)
        h_t.retain_grad()
        h.append(h_t)
    torch.stack(h).square().sum().backward()
    close(keep["dL_dh"], torch.stack([h_t.grad for h_t in h], dim=-2))


def test_what_was_kept_does_not_change_later():
    leaves, keep = arguments(), {}
    h = unroll(*leaves, keep=keep)
    h.sum().backward(retain_graph=True)
    first, copied = keep["dL_dh"], keep["dL_dh"].clone()
    (3 * h).sum().backward()
    assert torch.equal(first, copied)
    close(keep["dL_dh"], 3 * copied)


def test_what_was_kept_is_let_go_before_the_next_pass_takes_its_memory():
    class Watched(dict):
        def __setitem__(self, key, value):
            assert key not in self
            super().__setitem__(key, value)

    keep = Watched()
    for _ in range(2):
        unroll(*arguments(), keep=keep).sum().backward()
    assert keep["dL_dh"].shape == (2, 5, 4)


def test_keeping_changes_no_gradient_and_without_it_nothing_is_kept():
    leaves, weight = arguments(), torch.randn(2, 5, 4, dtype=torch.float64)
    kept = gradients(unroll, leaves, "tanh", weight, keep={})
    plain = gradients(unroll, leaves, "tanh", weight)
    assert all(torch.equal(a, b) for a, b in zip(kept, plain))


# -- only what is asked for --------------------------------------------------------------------------------------------


@several
@pytest.mark.parametrize("wanted", [c for n in range(1, 6) for c in itertools.combinations(range(5), n)])
def test_any_choice_of_gradients(models, wanted):
    leaves = arguments(models)
    for place, leaf in enumerate(leaves):
        leaf.requires_grad_(place in wanted)
    assert_engine_is_loop(leaves, "tanh")


def test_gradients_that_nobody_asked_for_are_not_computed(monkeypatch):
    returned = []
    backward = Unroll.backward
    monkeypatch.setattr(Unroll, "backward", lambda ctx, g: returned.append(backward(ctx, g)) or returned[-1])
    x, h_0, W_xh, b_h, W_hh = arguments()
    unroll(x.detach(), h_0.detach(), W_xh, b_h, W_hh.detach()).sum().backward()
    assert [gradient is not None for gradient in returned[0]] == [False, False, True, True, False, False, False]


@several
def test_without_grad_it_gives_the_states_and_no_graph(models):
    leaves = arguments(models)
    expected = unroll_loop(*leaves).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            h = unroll(*leaves)
            assert not h.requires_grad and h.grad_fn is None
            close(h.clone(), expected)
    assert not unroll(*(v.detach() for v in leaves)).requires_grad


# -- it leaves everything as it was ------------------------------------------------------------------------------------


@several
@nonlinearities
def test_two_backward_passes_through_one_graph_agree(nonlinearity, models):
    leaves = arguments(models)
    h = unroll(*leaves, nonlinearity)
    weight = torch.randn_like(h)
    first = torch.autograd.grad(h, leaves, weight, retain_graph=True)
    second = torch.autograd.grad(h, leaves, weight, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@several
@nonlinearities
def test_it_writes_into_nothing_that_it_was_given(nonlinearity, models):
    leaves = arguments(models)
    h = unroll(*leaves, nonlinearity)
    weight = torch.randn_like(h)
    given, before = [*leaves, h, weight], [v.detach().clone() for v in (*leaves, h, weight)]
    torch.autograd.grad(h, leaves, weight)
    assert all(torch.equal(a, b) for a, b in zip(given, before))


def test_states_changed_in_place_are_an_error_not_a_wrong_gradient():
    for change in (lambda h: h.mul_(2), lambda h: h.detach().mul_(2)):
        leaves = arguments()
        h = unroll(*leaves)
        with pytest.raises(RuntimeError, match="(?i)in-?place"):
            change(h)
            h.sum().backward()


def test_weights_changed_before_backward_are_an_error_not_a_wrong_gradient():
    leaves = arguments()
    h = unroll(*leaves)
    with torch.no_grad():
        leaves[4].mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        h.sum().backward()


def test_h_0_may_be_overwritten_after_the_call():
    leaves = arguments()
    theirs = torch.autograd.grad(unroll_loop(*leaves).sum(), leaves)
    h = unroll(*leaves)
    with torch.no_grad():
        leaves[1].zero_()
    for one, other in zip(torch.autograd.grad(h.sum(), leaves), theirs):
        close(one, other)


# -- tensors as they come: views, expanded, strided --------------------------------------------------------------------


@several
@nonlinearities
def test_an_expanded_gradient(nonlinearity, models):
    leaves = arguments(models)
    found = [torch.autograd.grad(run(*leaves, nonlinearity).sum(), leaves) for run in (unroll, unroll_loop)]
    for one, other in zip(*found):
        close(one, other)


@several
@pytest.mark.parametrize("loss", ["last step", "every other step", "one unit", "one sequence", "a transposed product"])
def test_gradients_that_come_strided_or_with_holes(models, loss):
    of = {
        "last step": lambda h: h[..., -1, :].square().sum(),
        "every other step": lambda h: h[..., ::2, :].square().sum(),
        "one unit": lambda h: h[..., 1].sum(),
        "one sequence": lambda h: h.select(-3, 1).square().sum(),
        "a transposed product": lambda h: (h.mT * torch.arange(1.0, 6.0, dtype=h.dtype)).sum(),
    }[loss]
    leaves = arguments(models)
    for one, other in zip(*(torch.autograd.grad(of(run(*leaves)), leaves) for run in (unroll, unroll_loop))):
        close(one, other)


def strided(v):
    """The same numbers in another memory layout: with its last two axes swapped, and a hole between any two numbers."""
    holes = torch.zeros(*v.shape, 2, dtype=v.dtype)
    holes[..., 0] = v
    v = holes[..., 0]
    return v.mT.contiguous().mT if v.dim() > 1 else v


@several
@nonlinearities
def test_inputs_that_are_not_contiguous(nonlinearity, models):
    leaves = [strided(v.detach()).requires_grad_() for v in arguments(models)]
    assert not any(v.is_contiguous() for v in leaves)
    assert_engine_is_loop(leaves, nonlinearity)


@nonlinearities
def test_inputs_that_are_expanded(nonlinearity):
    x, h_0, W_xh, b_h, W_hh = (v.detach() for v in arguments(batch=1))
    leaves = x, h_0[:, :1].clone(), W_xh, b_h[:1].clone(), W_hh
    found = []
    for run in (unroll, unroll_loop):
        x, h_0, W_xh, b_h, W_hh = (v.requires_grad_() for v in leaves)
        h = run(x.expand(3, 5, 3), h_0.expand(3, 4), W_xh, b_h.expand(4), W_hh, nonlinearity)
        found.append(torch.autograd.grad(h.square().sum(), leaves))
    for one, other in zip(*found):
        close(one, other)


def test_one_set_of_weights_expanded_to_several_models_gets_the_sum_of_their_gradients():
    x, h_0, W_xh, b_h, W_hh = arguments()
    stacked = [torch.stack([v, v.flip(0)]) for v in (x, h_0)]
    h = unroll(*stacked, W_xh.expand(2, 4, 3), b_h.expand(2, 4), W_hh.expand(2, 4, 4))
    together = torch.autograd.grad(h.square().sum(), (W_xh, b_h, W_hh))
    apart = unroll(stacked[0].flatten(0, 1), stacked[1].flatten(0, 1), W_xh, b_h, W_hh)
    for one, other in zip(together, torch.autograd.grad(apart.square().sum(), (W_xh, b_h, W_hh))):
        close(one, other)


# -- second derivatives ------------------------------------------------------------------------------------------------


def test_no_second_derivative_and_the_way_out_is_named():
    model = VanillaRNN(3, 4, 2)
    loss = model(torch.randn(2, 5, 3))[0].square().sum()
    with pytest.raises(NotImplementedError, match=r'create_graph=True.*VanillaRNN\(\.\.\., engine="loop"\)'):
        torch.autograd.grad(loss, model.W_hh.weight, create_graph=True)


def test_the_way_out_works():
    model = VanillaRNN(3, 4, 2, engine="loop")
    loss = model(torch.randn(2, 5, 3))[0].square().sum()
    (gradient,) = torch.autograd.grad(loss, model.W_hh.weight, create_graph=True)
    gradient.square().sum().backward()
    assert model.W_hh.weight.grad.abs().max() > 0


# -- memory ------------------------------------------------------------------------------------------------------------


def test_it_saves_the_states_once_and_nothing_else_of_their_size():
    x, h_0, W_xh, b_h, W_hh = arguments((), batch=3, T=50, inputs=2, hidden=8, dtype=torch.float32)
    saved = {}

    def note(v):
        return saved.setdefault(v.untyped_storage().data_ptr(), v)

    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        h = unroll(x, h_0, W_xh, b_h, W_hh)
    states, others = 51 * 3 * 8, x.numel() + W_xh.numel() + W_hh.numel()
    assert sum(v.untyped_storage().nbytes() for v in saved.values()) == 4 * (states + others)
    assert h.untyped_storage().data_ptr() in saved  # what is returned and what is saved are one buffer


PEAK = """
import resource, sys, torch
from pathlib import Path
from rnncourse.bptt import unroll
torch.set_num_threads(1)

def peak():  # Linux hands ru_maxrss on from the process that started this one, so there the kernel's own count
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    counted = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return counted[0] if counted else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

B, T, I, H = 16, 10_000, 4, 64
rnn = torch.nn.RNN(I, H, batch_first=True)
W_xh, W_hh, b_h, _ = rnn.parameters()
run = {"engine": lambda x: unroll(x, x.new_zeros(B, H), W_xh, b_h, W_hh), "nn.RNN": lambda x: rnn(x)[0]}[sys.argv[1]]
run(torch.zeros(B, 2, I)).sum().backward()
x = torch.zeros(B, T, I)
before = peak()
run(x).sum().backward()
print(peak() - before)
"""


def test_a_sequence_of_ten_thousand_steps_takes_no_more_memory_than_nn_rnn():
    pytest.importorskip("resource", reason="needs getrusage")
    runs = [
        subprocess.Popen([sys.executable, "-c", PEAK, who], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for who in ("engine", "nn.RNN")
    ]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    ours, theirs = (int(out) for out, _ in outputs)
    assert 0 < ours <= theirs


# -- bad input: what came, and what was expected -----------------------------------------------------------------------

GOOD = dict(zip(NAMES, (v.detach() for v in arguments())))
THREE = dict(zip(NAMES, (v.detach() for v in arguments((3,)))))
BAD = {
    "x of rank 2": ("x", lambda v: v[0], ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(5, 3\)"),
    "x of rank 4": ("x", lambda v: v[None], ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(1, 2, 5, 3\)"),
    "width of x": ("x", lambda v: v[..., :2], ValueError, r"x: expected shape \(batch, seq_len, 3\), got \(2, 5, 2\)"),
    "no step": ("x", lambda v: v[:, :0], ValueError, r"sequence of at least one step, got shape \(2, 0, 3\)"),
    "no sequence": ("x", lambda v: v[:0], ValueError, r"sequence of at least one step, got shape \(0, 5, 3\)"),
    "x of whole numbers": ("x", lambda v: v.long(), TypeError, "x: expected floating-point numbers, got torch.int64"),
    "x no tensor": ("x", lambda v: v.numpy(), TypeError, "x: expected a tensor, got ndarray"),
    "h_0 of another batch": ("h_0", lambda v: v[:1], ValueError, r"h_0: expected shape \(2, 4\), got \(1, 4\)"),
    "h_0 of another width": ("h_0", lambda v: v[:, :3], ValueError, r"h_0: expected shape \(2, 4\), got \(2, 3\)"),
    "h_0 as nn.RNN's": ("h_0", lambda v: v[None], ValueError, r"h_0: expected shape \(2, 4\), got \(1, 2, 4\)"),
    "h_0 of another dtype": ("h_0", lambda v: v.float(), TypeError, "h_0: expected .*torch.float64, got torch.float32"),
    "h_0 None": ("h_0", lambda v: None, TypeError, "h_0: expected a tensor, got NoneType"),
    "W_xh of rank 1": ("W_xh", lambda v: v[0], ValueError, r"W_xh: expected \(hidden, input\) or .*, got \(3,\)"),
    "W_xh of no unit": ("W_xh", lambda v: v[:0], ValueError, r"W_xh: expected \(hidden, input\) or .*, got \(0, 3\)"),
    "W_xh for several": ("W_xh", lambda v: v[None], ValueError, r"W_xh: expected shape \(4, 3\), got \(1, 4, 3\)"),
    "W_xh of another dtype": ("W_xh", lambda v: v.half(), TypeError, "W_xh: expected .*float64, got torch.float16"),
    "b_h as a column": ("b_h", lambda v: v[:, None], ValueError, r"b_h: expected shape \(4,\), got \(4, 1\)"),
    "b_h too short": ("b_h", lambda v: v[:1], ValueError, r"b_h: expected shape \(4,\), got \(1,\)"),
    "b_h None": ("b_h", lambda v: None, TypeError, "b_h: expected a tensor, got NoneType"),
    "W_hh not square": ("W_hh", lambda v: v[:3], ValueError, r"W_hh: expected shape \(4, 4\), got \(3, 4\)"),
    "W_hh of rank 1": ("W_hh", lambda v: v[0], ValueError, r"W_hh: expected shape \(4, 4\), got \(4,\)"),
    "W_hh of rank 4": (
        "W_hh",
        lambda v: v[None, None],
        ValueError,
        r"W_hh: expected \(hidden, hidden\) or \(models, hidden, hidden\), got \(1, 1, 4, 4\)",
    ),
}


@pytest.mark.parametrize("name, change, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(name, change, error, message):
    with pytest.raises(error, match=message):
        unroll(**{**GOOD, name: change(GOOD[name])})


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("x", lambda v: v[0], r"x: expected shape \(3, batch, seq_len, 3\), got \(2, 5, 3\)"),
        ("x", lambda v: v[:2], r"x: expected shape \(3, batch, seq_len, 3\), got \(2, 2, 5, 3\)"),
        ("h_0", lambda v: v[:2], r"h_0: expected shape \(3, 2, 4\), got \(2, 2, 4\)"),
        ("W_xh", lambda v: v[0], r"W_xh: expected shape \(3, 4, 3\), got \(4, 3\)"),
        ("b_h", lambda v: v[0], r"b_h: expected shape \(3, 4\), got \(4,\)"),
    ],
)
def test_bad_arguments_for_several_models(name, change, message):
    with pytest.raises(ValueError, match=message):
        unroll(**{**THREE, name: change(THREE[name])})


@pytest.mark.parametrize("unknown", ["sigmoid", "Tanh", None, torch.tanh])
def test_an_unknown_nonlinearity(unknown):
    with pytest.raises(ValueError, match="nonlinearity: expected one of 'tanh', 'relu', 'linear', got"):
        unroll(**GOOD, nonlinearity=unknown)


# -- truncated BPTT ----------------------------------------------------------------------------------------------------


def a_run(seeds=None, T=11, dtype=torch.float64):
    torch.manual_seed(0)
    lead = () if seeds is None else (len(seeds),)
    model = VanillaRNN(3, 6, 2, seeds=seeds, dtype=dtype)
    return model, torch.randn(*lead, 4, T, 3, dtype=dtype), torch.randn(*lead, 4, T, 2, dtype=dtype)


def chunked_gradient(model, x, y, length, carry=True):
    model.zero_grad()
    for outputs, y_chunk in chunks(model, x, y, length, carry):
        (outputs - y_chunk).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("seeds", [None, [1, 2]], ids=["one model", "two"])
@pytest.mark.parametrize("length", [1, 2, 4, 5, 11])
def test_chunks_cover_the_sequence_once_in_order_and_carry_the_state(seeds, length):
    model, x, y = a_run(seeds)
    outputs, targets = zip(*chunks(model, x, y, length))
    assert [o.shape[-2] for o in outputs] == [length] * (11 // length) + ([11 % length] if 11 % length else [])
    close(torch.cat(outputs, dim=-2), model(x)[0])
    assert torch.equal(torch.cat(targets, dim=-2), y)


@pytest.mark.parametrize("seeds", [None, [1, 2]], ids=["one model", "two"])
@pytest.mark.parametrize("length", [11, 12, 1000, np.int64(11)])
def test_a_chunk_as_long_as_the_sequence_is_full_bptt(seeds, length):
    model, x, y = a_run(seeds)
    ours = chunked_gradient(model, x, y, length)
    theirs = torch.autograd.grad((model(x)[0] - y).square().sum(), list(model.parameters()))
    for one, other in zip(ours, theirs):
        close(one, other)


@pytest.mark.parametrize("carry", [True, False])
def test_a_gradient_stops_at_its_chunks_first_step(carry):
    model, x, y = a_run()
    x.requires_grad_()
    for number, (outputs, _) in enumerate(chunks(model, x, y, 4, carry)):
        (dL_dx,) = torch.autograd.grad(outputs[:, -1].sum(), x)
        reached = dL_dx.abs().amax(dim=(0, 2)) > 0
        assert reached.tolist() == [4 * number <= t < min(4 * number + 4, 11) for t in range(11)]


def test_a_state_that_is_no_number_is_carried_on_as_zero():
    model, x, y = a_run([1, 2])  # one that has diverged must not stop the other, and the checks refuse a NaN
    seen = []

    def spoiled(x, h_prev=None):
        seen.append(h_prev)
        outputs, h = model(x, h_prev)
        return outputs, torch.cat([h[:1], torch.full_like(h[1:], math.nan)])

    list(chunks(spoiled, x, y, 4))
    assert (seen[1][0] != 0).all() and (seen[1][1] == 0).all()


def test_truncation_changes_the_recurrent_gradients_and_leaves_the_readouts():
    model, x, y = a_run()
    full, cut = chunked_gradient(model, x, y, 11), chunked_gradient(model, x, y, 3)
    for (name, _), one, other in zip(model.named_parameters(), full, cut):
        if name.startswith("W_hy"):
            close(other, one)
        else:
            assert (one - other).norm() > 0.01 * one.norm(), name


def test_without_carry_every_chunk_is_a_sequence_of_its_own():
    model, x, y = a_run()
    for number, (outputs, _) in enumerate(chunks(model, x, y, 4, carry=False)):
        close(outputs, model(x[:, 4 * number : 4 * number + 4])[0])
    carried, reset = (torch.cat([o for o, _ in chunks(model, x, y, 4, carry)], dim=1) for carry in (True, False))
    close(carried[:, :4], reset[:, :4])
    assert (carried - reset)[:, 4:].abs().max() > 0.01


def test_targets_that_are_class_numbers():
    model, x, _ = a_run()
    y = torch.arange(44).reshape(4, 11)
    assert torch.equal(torch.cat([targets for _, targets in chunks(model, x, y, 3)], dim=1), y)


def test_a_chunk_can_be_left_before_backward_and_other_models_can_be_chunked():
    class Counter(nn.Module):  # any module that takes a state and returns one
        def forward(self, x, h=None):
            h = x.sum(dim=(1, 2)) + (0 if h is None else h)
            return h.view(-1, 1, 1).expand(-1, x.shape[1], 1), h

    x = torch.ones(2, 7, 1)
    assert [int(o[0, 0, 0]) for o, _ in chunks(Counter(), x, x, 3)] == [3, 6, 7]
    assert [int(o[0, 0, 0]) for o, _ in chunks(Counter(), x, x, 3, carry=False)] == [3, 3, 1]


def test_a_state_of_two_tensors_is_carried_and_cut_too():
    torch.manual_seed(0)
    model = WithReadout(nn.LSTM(3, 6, batch_first=True, dtype=torch.float64), 2).double()
    x = torch.randn(4, 11, 3, dtype=torch.float64, requires_grad=True)
    outputs = []
    for number, (chunk, _) in enumerate(chunks(model, x, x, 4)):
        (dL_dx,) = torch.autograd.grad(chunk.sum(), x, retain_graph=True)
        assert (dL_dx[:, : 4 * number] == 0).all() and (dL_dx[:, 4 * number] != 0).all()
        outputs.append(chunk)
    close(torch.cat(outputs, dim=1), model(x)[0])


@pytest.mark.parametrize("length", [0, -1, 2.5, "3", None, True])
def test_a_bad_length(length):
    with pytest.raises(ValueError, match=f"length: expected a whole number of at least 1, got {length!r}"):
        list(chunks(*a_run(), length))


def test_bad_sequences_and_targets():
    model, x, y = a_run()
    for bad_x, bad_y, message in (
        (x, y[:, :5], r"y: expected a target for each of the 11 steps of x, got shape \(4, 5, 2\)"),
        (x, y[:, -1], r"y: expected a target for each of the 11 steps of x, got shape \(4, 2\)"),
        (x, y[0, 0, 0], r"y: expected a target for each of the 11 steps of x, got shape \(\)"),
        (x[0, 0], y, r"x: expected shape \(batch, seq_len, input_size\), got \(3,\)"),
        (x[0], y[0], r"x: expected shape \(batch, seq_len, input_size\), got \(11, 3\)"),
        (x[..., :2], y, r"x: expected shape \(batch, seq_len, 3\), got \(4, 4, 2\)"),
        (x[:, :0], y[:, :0], r"x: expected at least one sequence of at least one step, got shape \(4, 0, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            list(chunks(model, bad_x, bad_y, 4))
