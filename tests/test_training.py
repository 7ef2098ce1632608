"""The training loop: the same seed gives the same run, several models learn what each would alone, and a run that breaks says so."""

import copy
import io
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from tqdm import tqdm

from rnncourse import training
from rnncourse.compiler import Later
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Adding, CopyMemory, Echo, Latch
from rnncourse.training import OPTIMIZERS, TRAINING, Together, WithReadout, clip_norm_, evaluate, gradient_norm, train

SEEDS = [3, 0, 7]
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


def lstm():
    return WithReadout(nn.LSTM(4, 6, batch_first=True), 4)


def rnns(seeds=SEEDS, task=None, **options):
    task = task or Latch(4)
    return VanillaRNN(task.input_size, 8, task.output_size, seeds=seeds, **options)


MAKERS = {"VanillaRNN": rnns, "Together": lambda seeds=SEEDS: Together(lstm, seeds)}


def recorded(history):
    """All the numbers of a history, its duration apart."""
    return [history.loss, history.grad_norm, history.eval_loss, history.accuracy, history.reached, history.diverged]


def equal(a, b, tolerance=0.0):
    return all(torch.allclose(p.double(), q.double(), rtol=0, atol=tolerance) for p, q in zip(a, b, strict=True))


class Recorder(Latch):
    """Latch, which keeps the batches that it gives."""

    def batch(self, batch_size, generator=None):
        self.batches = [*getattr(self, "batches", []), super().batch(batch_size, generator)]
        return self.batches[-1]


# -- the same again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_same_seeds_give_the_same_run_whatever_came_before(make):
    histories = []
    for start in (0, 1):
        torch.manual_seed(start)
        histories.append(train(make(), Latch(4), 12, evaluate_every=5, clip_norm=1.0))
    assert equal(*map(recorded, histories))


def test_a_model_without_seeds_depends_on_its_weights_and_on_the_seed_of_the_run():
    torch.manual_seed(0)
    model = rnns(seeds=None)
    first, again, other = (train(copy.deepcopy(model), Latch(4), 12, seed=seed) for seed in (5, 5, 6))
    assert equal(recorded(first), recorded(again))
    assert first.loss.shape == (12,) and first.reached.shape == ()
    assert not (first.loss == other.loss).any()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_different_seeds_give_different_runs(make):
    history = train(make([0, 1]), Latch(4), 5)
    assert not (history.loss[:, 0] == history.loss[:, 1]).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_several_seeds_at_once_equal_one_at_a_time(make, optimizer):
    options = {"optimizer": optimizer, "lr": 0.03, "clip_norm": 0.5, "evaluate_every": 4}
    together = make()
    history = train(together, Latch(4), 8, **options)
    for s, seed in enumerate(SEEDS):
        alone = make([seed])
        one = train(alone, Latch(4), 8, **options)
        assert equal([values[..., s] for values in recorded(history)], [v[..., 0] for v in recorded(one)], 1e-5)
        if isinstance(together, VanillaRNN):
            assert equal([p[s] for p in together.parameters()], [p[0] for p in alone.parameters()], 1e-5)
        else:
            assert equal(together.models[s].parameters(), alone.parameters(), 1e-5)


def test_real_valued_targets_have_a_loss_and_no_accuracy():
    task = Adding(6)
    history = train(rnns(task=task), task, 10, evaluate_every=5, target_loss=1e-9)
    assert history.loss.shape == (10, 3) and history.eval_loss.shape == (2, 3) and history.accuracy is None
    alone = train(rnns([7], task), task, 10, evaluate_every=5)
    assert torch.allclose(history.loss[:, 2], alone.loss[:, 0], atol=1e-5)


# -- the data ------------------------------------------------------------------------------------------------------


def test_weights_training_and_held_out_batches_have_streams_of_their_own():
    task = Recorder(12)  # 4**12 sequences: two alike by chance are not to be expected
    train(rnns([0], task), task, 3, batch_size=16, eval_size=16)
    held_out, *trained_on = [{tuple(row) for row in x.argmax(-1).tolist()} for x, _ in task.batches]
    assert len(trained_on) == 3 and all(len(batch) == 16 for batch in [held_out, *trained_on])
    assert not held_out & set.union(*trained_on)
    assert not trained_on[0] & trained_on[1]
    of_the_weights = task.batch(64, torch.Generator().manual_seed(0))[0]
    assert not {tuple(row) for row in of_the_weights.argmax(-1).tolist()} & set.union(held_out, *trained_on)


def test_evaluation_leaves_the_model_as_it_was():
    model = WithReadout(nn.GRU(4, 6, batch_first=True, num_layers=2, dropout=0.5), 4)
    x, y = Latch(4).batch(8)
    for mode in (True, False):
        model.train(mode)
        loss, accuracy = evaluate(model, Latch(4), x, y)
        assert model.training is mode and not loss.requires_grad
        assert evaluate(model, Latch(4), x, y) == (loss, accuracy)  # without dropout
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("task", [Latch(4), Adding(4)], ids=["classes", "numbers"])
def test_devices_and_dtypes(task, dtype, device):
    model = rnns(task=task, dtype=dtype, device=device)
    history = train(model, task, 6, evaluate_every=3, clip_norm=1.0)
    assert history.loss.dtype == history.eval_loss.dtype == dtype
    assert {values.device.type for values in recorded(history) if values is not None} == {"cpu"}
    expected = train(rnns(task=task, dtype=dtype).double(), task, 6, evaluate_every=3, clip_norm=1.0)
    assert torch.allclose(history.loss.double(), expected.loss, atol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_every_optimizer_learns(optimizer, device):
    model = rnns(device=device)
    history = train(model, Latch(4), 30, optimizer=optimizer, lr={"sgd": 0.5, "adagrad": 0.1}.get(optimizer, 0.02))
    assert (history.loss[-5:].mean(0) < history.loss[:5].mean(0)).all()


# -- clipping ------------------------------------------------------------------------------------------------------


def with_gradient(model, scale=1.0):
    x, y = Latch(4).batch(16, torch.Generator().manual_seed(1))
    (scale * Latch(4).loss(model(x)[0], y.expand(*model(x)[0].shape[:-2], 1))).sum().backward()
    return model


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clipping_one_model_is_torch_s(scale, bound):
    ours, theirs = (with_gradient(rnns(seeds=None), scale) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    for p, q in zip(ours.parameters(), theirs.parameters()):
        q.grad = p.grad.clone()
    norm, expected = clip_norm_(ours, bound), nn.utils.clip_grad_norm_(theirs.parameters(), bound)
    assert torch.allclose(norm, expected)
    assert all(torch.allclose(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_clipping_several_models_is_clipping_each(make):
    together, alone = with_gradient(make()), [with_gradient(make([seed])) for seed in SEEDS]
    before = gradient_norm(together)
    bound = before.median().item()  # one model's gradient is above it, one's below
    assert before.min() < 0.999 * bound < 1.001 * bound < before.max()
    assert torch.equal(clip_norm_(together, bound), before)
    assert torch.allclose(gradient_norm(together), before.clamp(max=bound))
    for s, one in enumerate(alone):
        expected = nn.utils.clip_grad_norm_(one.parameters(), bound)
        assert torch.allclose(before[s], expected)
        if isinstance(together, Together):
            clipped = [p.grad for p in together.models[s].parameters()]
        else:
            clipped = [p.grad[s : s + 1] for p in together.parameters()]
        assert all(torch.allclose(grad, p.grad) for grad, p in zip(clipped, one.parameters(), strict=True))


def test_clipping_by_norm_and_by_value_bounds_what_sgd_does():
    for option in ("clip_norm", "clip_value"):
        model = rnns(seeds=None)
        before = [p.detach().clone() for p in model.parameters()]
        history = train(model, Latch(4), 1, optimizer="sgd", lr=1.0, **{option: 1e-3})
        moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before)]).detach()
        size = moved.norm() if option == "clip_norm" else moved.abs().max()
        assert abs(size.item() - 1e-3) < 1e-5
        assert history.grad_norm[0] > 0.1  # recorded before clipping


def test_norm_and_clipping_need_a_gradient_and_a_bound():
    with pytest.raises(ValueError, match="call backward"):
        gradient_norm(rnns())
    with pytest.raises(ValueError, match="clip_norm: expected a positive number, got 0"):
        clip_norm_(with_gradient(rnns()), 0)


# -- truncated BPTT ------------------------------------------------------------------------------------------------

SOME_MODELS = {
    "one": lambda: rnns(seeds=[1]),
    "several": rnns,
    "LSTM": lambda: Together(lstm, [1]).models[0],
    "LSTMs": lambda: Together(lstm, SEEDS),
}


@pytest.mark.parametrize("make", SOME_MODELS.values(), ids=SOME_MODELS)
@pytest.mark.parametrize("carry", [True, False])
def test_chunks_as_long_as_the_sequence_are_no_chunks(make, carry):
    task = Echo(6, 2)
    whole, *others = [train(make(), task, 6, chunk=chunk, carry=carry) for chunk in (None, 6, 100)]
    assert all(equal(recorded(whole), recorded(other), 1e-6) for other in others)


@pytest.mark.parametrize("make", SOME_MODELS.values(), ids=SOME_MODELS)
def test_a_carried_state_changes_what_a_chunk_sees(make):
    carried, reset, whole = (
        train(make(), Echo(6, 2), 6, chunk=chunk, carry=carry) for chunk, carry in ((3, True), (3, False), (None, True))
    )
    assert not (carried.loss == reset.loss).any()
    assert not (carried.loss == whole.loss).any()


def test_chunks_make_an_update_each_where_something_is_asked():
    task, model = Echo(6, 2), rnns([0], Echo(6, 2))
    by_hand = copy.deepcopy(model)
    history = train(model, task, 1, optimizer="sgd", lr=0.1, chunk=2)
    losses = []
    x, y = task.batch(32, torch.Generator().manual_seed(TRAINING))  # the batch that train drew for seed 0
    update, h = torch.optim.SGD(by_hand.parameters(), lr=0.1), None
    for t in (0, 2, 4):
        outputs, h = by_hand(x[:, t : t + 2], h)
        h = h.detach()
        if t > 0:  # the lag is 2: nothing is asked of the first chunk
            update.zero_grad()
            losses.append(task.loss(outputs, y[None, :, t : t + 2]).sum())
            losses[-1].backward()
            update.step()
    assert equal(model.parameters(), by_hand.parameters(), 1e-7)
    assert history.loss[0].item() == pytest.approx(sum(losses).item() / 2, rel=1e-5)


def test_chunks_need_a_target_at_every_step():
    with pytest.raises(ValueError, match="each of the 4 steps"):
        train(rnns(), Latch(4), 1, chunk=2)


# -- when it ends --------------------------------------------------------------------------------------------------


def test_a_vanilla_rnn_learns_to_remember_five_steps():
    model = VanillaRNN(4, 32, 4, seeds=range(5))
    history = train(model, Latch(5), 500, target_accuracy=0.99)
    assert (history.reached > 0).all() and history.message == ""
    assert len(history.loss) == history.reached.max() == history.evaluated[-1] < 500
    for s, step in enumerate(history.reached.tolist()):  # the first evaluation that met it, and none before
        row = history.evaluated.index(step)
        assert history.accuracy[row, s] >= 0.99 and (history.accuracy[:row, s] < 0.99).all()


def test_a_target_loss_ends_the_run_at_the_first_evaluation_that_meets_it():
    torch.manual_seed(0)
    model = rnns(seeds=None)
    free = train(copy.deepcopy(model), Latch(1), 60, lr=0.02, evaluate_every=7)
    assert free.evaluated == [7, 14, 21, 28, 35, 42, 49, 56, 60] and free.reached == -1
    assert (free.eval_loss[:4] > free.eval_loss[4]).all()
    history = train(model, Latch(1), 60, lr=0.02, evaluate_every=7, target_loss=free.eval_loss[4].item())
    assert history.reached == 35 == len(history.loss) and history.evaluated == [7, 14, 21, 28, 35]


def test_a_target_out_of_reach_leaves_minus_one():
    history = train(rnns(), Latch(30), 7, evaluate_every=3, target_accuracy=1.0)
    assert history.reached.tolist() == [-1, -1, -1] == history.diverged.tolist()
    assert history.evaluated == [3, 6, 7] and len(history.loss) == 7


def test_the_target_is_met_where_it_is_just_reached():
    class Solved(Latch):
        def accuracy(self, outputs, y):
            return torch.ones(outputs.shape[:-3])

    history = train(rnns(), Solved(4), 4, evaluate_every=2, target_accuracy=1.0)
    assert history.reached.tolist() == [2, 2, 2] and len(history.loss) == 2


def test_what_train_takes_where_nothing_is_said():
    said = {"optimizer": "adam", "lr": 3e-3, "batch_size": 32, "evaluate_every": 50, "eval_size": 256, "seed": 0}
    ours, theirs = (train(rnns(), Latch(4), 51, **options) for options in ({}, said))
    assert equal(recorded(ours), recorded(theirs)) and ours.evaluated == theirs.evaluated == [50, 51]
    echo = Echo(6, lag=2)
    one, other = (train(rnns([0], echo), echo, 3, chunk=2, **options) for options in ({}, {"carry": True}))
    assert equal(recorded(one), recorded(other))


def test_after_step_sees_every_update():
    model, steps, weights = rnns([0]), [], []
    start = model.W_hh.weight.detach().clone()

    def after_step(step, seen):
        assert seen is model
        steps.append(step)
        weights.append(seen.W_hh.weight.detach().clone())

    train(model, Latch(4), 3, after_step=after_step)
    assert steps == [1, 2, 3]
    assert all(not torch.equal(a, b) for a, b in zip([start, *weights], weights))


def broken(seed=None, **options):
    """Models of which the one of ``seed``, or all, compute losses past all numbers."""
    model = rnns(task=Adding(4), **options)
    with torch.no_grad():
        model.W_hy.weight[slice(None) if seed is None else SEEDS.index(seed)] *= 1e30
    return model


def test_a_run_that_diverges_ends_and_says_when_and_what_to_try(capsys):
    torch.manual_seed(0)
    history = train(rnns(None, Adding(4)), Adding(4), 50, optimizer="sgd", lr=1e30, evaluate_every=1)
    step = int(history.diverged)
    assert 1 < step < 50 and len(history.loss) == len(history.grad_norm) == step
    assert (history.loss[: step - 1].isfinite() & history.grad_norm[: step - 1].isfinite()).all()
    assert not (history.loss[-1].isfinite() and history.grad_norm[-1].isfinite())
    assert len(history.eval_loss) == step - 1
    for words in (f"step {step}.", "NaN or infinite", "clip_norm=1.0", "lr=1e+30", "smaller init"):
        assert words in history.message
    assert capsys.readouterr().out == history.message + "\n"


def test_of_several_that_diverge_the_first_step_is_told():
    breaks = {3: SEEDS[2], 5: SEEDS[0]}  # after which step whose weights break: the loss is then NaN or inf in the next

    def after_step(step, model):
        if step in breaks:
            model.W_hy.weight.data[SEEDS.index(breaks[step])] = torch.inf

    history = train(rnns(), Latch(4), 8, after_step=after_step)
    assert history.diverged.tolist() == [6, -1, 4] and len(history.loss) == 8
    assert " for 2 of 3 seeds, first at step 4." in history.message


def test_a_run_that_starts_broken_ends_at_its_first_step():
    history = train(broken(), Adding(4), 50)
    assert history.diverged.tolist() == [1, 1, 1] and len(history.loss) == 1 and history.eval_loss is None
    assert "3 of 3 seeds" in history.message


def test_a_gradient_that_breaks_is_a_divergence_though_the_loss_is_a_number():
    task = Latch(4)
    task.loss = lambda outputs, y: (outputs - outputs.detach()).abs().sum(dim=(-3, -2, -1)).sqrt()  # 0, of slope ∞
    history = train(rnns(), task, 5)
    assert history.loss.tolist() == [[0, 0, 0]] and history.diverged.tolist() == [1, 1, 1]


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1.0}, {"clip_value": 0.1}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_seed_that_diverges_leaves_the_others_alone(optimizer, clip):
    options = {"optimizer": optimizer, "lr": 0.01, "evaluate_every": 4, **clip}
    history = train(broken(0), Adding(4), 12, **options)
    healthy = train(rnns(task=Adding(4)), Adding(4), 12, **options)
    assert history.diverged.tolist() == [-1, 1, -1] and len(history.loss) == 12
    assert torch.equal(history.loss[:, [0, 2]], healthy.loss[:, [0, 2]])
    assert torch.equal(history.eval_loss[:, [0, 2]], healthy.eval_loss[:, [0, 2]])
    assert "1 of 3 seeds, first at step 1." in history.message
    assert ("lower clip_norm" in history.message) == ("clip_norm" in clip)


def test_a_seed_that_diverged_never_reaches_the_target():
    history = train(broken(0), Adding(4), 12, evaluate_every=4, target_loss=1e30)
    assert history.reached.tolist() == [4, -1, 4] and len(history.loss) == 4
    model = rnns()
    with torch.no_grad():
        model.W_hy.bias[1] = torch.inf  # its outputs are NaN or inf, and class 0 is right in a quarter of cases
    history = train(model, Latch(4), 12, evaluate_every=4, target_accuracy=0.05)
    assert history.reached.tolist() == [4, -1, 4]


def test_a_state_that_diverges_between_chunks_ends_that_seed_alone():
    task = Echo(6, 2)
    model, healthy = (rnns(task=task, nonlinearity="relu") for _ in range(2))
    with torch.no_grad():
        model.W_hh.weight[1] = 1e20
        model.W_xh.bias[1] = 1e20
    history, others = (train(m, task, 6, chunk=3) for m in (model, healthy))
    assert history.diverged.tolist() == [-1, 1, -1] and len(history.loss) == 6
    assert torch.equal(history.loss[:, [0, 2]], others.loss[:, [0, 2]])


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        ({"optimizer": "adamm"}, "optimizer: expected one of 'adam', 'adamw', 'sgd', 'adagrad', got 'adamm'"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 1.5}, "steps: .* got 1.5"),
        ({"batch_size": 0}, "batch_size: .* got 0"),
        ({"evaluate_every": -1}, "evaluate_every: .* got -1"),
        ({"eval_size": True}, "eval_size: .* got True"),
        ({"lr": -0.1}, "lr: expected a positive number, got -0.1"),
        ({"lr": 0}, "lr: .* got 0"),
        ({"lr": None}, "lr: .* got None"),
        ({"lr": float("nan")}, "lr: .* got nan"),
        ({"clip_norm": 0}, "clip_norm: expected a positive number, got 0"),
        ({"clip_value": -1.0}, "clip_value: .* got -1.0"),
        ({"clip_norm": "1"}, "clip_norm: .* got '1'"),
        ({"target_loss": 0}, "target_loss: expected a positive number, got 0"),
        ({"target_loss": "0.1"}, "target_loss: expected a positive number, got '0.1'"),
        ({"target_loss": float("nan")}, "target_loss: .* got nan"),
        ({"target_loss": float("inf")}, "target_loss: expected a finite number, got inf"),
        ({"chunk": 0}, "length: expected a whole number of at least 1, got 0"),
        ({"target_accuracy": 99}, "target_accuracy: expected a share, .* got 99"),
        (
            {"target_accuracy": 0.5, "task": Adding(4)},
            "target_accuracy: expected None for real-valued targets, got 0.5",
        ),
        ({"task": CopyMemory(3)}, r"x: expected shape .*4\), got"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),  # names alone: an object's repr differs by process
)
def test_bad_options_say_what_came_and_what_was_expected(options, words):
    with pytest.raises(ValueError, match=words):
        train(rnns(), **{"task": Latch(4), "steps": 2, **options})


def test_a_task_that_asks_nothing_is_refused():
    task = Latch(4)
    task.batch = lambda size, generator: (Latch.batch(task, size, generator)[0], torch.full((size, 1), -1))
    with pytest.raises(ValueError, match="Latch: expected a target at one step at least, got none"):
        train(rnns(), task, 2)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"model: expected one with parameters to train, got Identity\(\)"):
        train(nn.Identity(), Latch(4), 2)


@pytest.mark.parametrize("seeds, error", [([], ValueError), (3, TypeError), (["a"], TypeError), (None, TypeError)])
def test_together_needs_seeds(seeds, error):
    with pytest.raises(error, match="seeds: expected .*, got") as refused:
        Together(lstm, seeds)
    assert seeds is not None or "expected None" not in str(refused.value)


@pytest.mark.parametrize("shape", [(2, 5, 6, 4), (4, 5, 6, 4), (1, 5, 6, 4), (6, 4), (3, 1, 5, 6, 4)], ids=str)
def test_together_gives_each_model_one_input_and_no_input_to_none(shape):
    with pytest.raises(ValueError) as refused:
        Together(lstm, SEEDS)(torch.zeros(shape))
    assert str(refused.value) == f"x: expected shape (batch, seq_len, input_size) or (3, batch, seq_len, input_size), got {shape}"


def test_together_gives_each_model_its_state():
    model, x = Together(lstm, SEEDS), torch.randn(3, 5, 6, 4)
    outputs, state = model(x, model(x)[1])
    for s, one in enumerate(model.models):
        assert torch.equal(outputs[s], one(x[s], one(x[s])[1])[0])
    with pytest.raises(ValueError, match="state: expected 3, one for each model, or None, got 2"):
        model(x, state[:2])


def test_together_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Together(lstm, SEEDS)
    assert torch.equal(torch.rand(2), expected)


def test_a_layer_needs_its_batch_first():
    with pytest.raises(ValueError, match="batch_first=True, got LSTM"):
        WithReadout(nn.LSTM(4, 6), 4)
    with pytest.raises(ValueError, match="batch_first=True, got Linear"):
        WithReadout(nn.Linear(4, 6), 4)


# -- no compiler ---------------------------------------------------------------------------------------------------


AN_OPTIMIZER = """
import inspect, sys
import torch
import rnncourse.training
from rnncourse.compiler import Later, put_off
from rnncourse.recurrence import VanillaRNN

model = torch.nn.Linear(2, 2)
for make in (torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad):
    optimizer = make(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)
    optimizer.load_state_dict(optimizer.state_dict())
print(torch.func.jacrev(torch.sin)(torch.zeros(1)).item())
inspect.getmodule(inspect.currentframe())  # as a traceback does
assert type(torch._dynamo) is Later, "the compiler was loaded"
later = torch._dynamo
print(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item())
assert type(torch._dynamo) is not Later and torch._dynamo is sys.modules["torch._dynamo"]
real = torch._dynamo
assert later.config is real.config and torch._dynamo is real is sys.modules["torch._dynamo"], "it was loaded twice"
put_off()
assert torch._dynamo is real
import torch._dynamo.backends
optimizer.step()
# whether x has a NaN is a question that would break the graph of a VanillaRNN: compiling, it is not asked
model, x = VanillaRNN(3, 4, 2), torch.randn(2, 5, 3)
for engine in ("bptt", "loop"):
    model.engine = engine
    outputs, h_final = torch.compile(model, backend="eager", fullgraph=True)(x)
    assert torch.equal(outputs, model(x)[0]) and torch.equal(h_final, model(x)[1]), engine
"""


def test_the_compiler_is_not_loaded_until_something_is_compiled():
    done = subprocess.run([sys.executable, "-c", AN_OPTIMIZER], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["1.0", "2.0"]), done.stderr


def test_what_is_kept_from_the_compiler_is_the_function_itself():
    def f():
        pass

    assert Later.disable(f) is Later.disable()(f) is Later.disable(reason="none")(f) is f


# -- the progress bar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress, refused, shown", [(True, False, True), (True, True, False), (False, False, False)])
def test_a_bar_is_shown_unless_it_is_refused(progress, refused, shown, monkeypatch):
    """``refused``: by TQDM_DISABLE, which sets tqdm's default; and a notebook's kernel has no terminal."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(training, "tqdm", partial(tqdm, disable=refused))
    train(rnns(), Latch(4), 3, progress=progress)
    assert ("0/3" in screen.getvalue()) == shown


@pytest.mark.parametrize("target", [None, 1e9], ids=["to the end", "early"])
def test_the_bar_is_closed_at_the_end(target, monkeypatch):
    bars = []

    class Bar(tqdm):
        """tqdm also closes itself as it is forgotten, or drawn to its end; this one only where it is told to."""

        def __iter__(self):
            bars.append(self)
            return iter(self.iterable)

        def close(self):
            self.closed = True

    monkeypatch.setattr(training, "tqdm", Bar)
    history = train(rnns(), Latch(4), 3, evaluate_every=2, target_loss=target)
    assert len(history.loss) == (3 if target is None else 2)
    assert [vars(bar).get("closed", False) for bar in bars] == [True]
