"""Exercise 2 of notebook 08: copy the last half of a sequence, and how the accuracy falls as it grows."""

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

from rnncourse.exercises.checking import Exercise, Mistake, Wrong
from rnncourse.exercises.inputs import in_turn, whole
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import one_hot

ENOUGH = 20  # updates from which on an experiment must have learned its easy case
UPDATES = 32  # so many are asked for: of 100 correct runs the least right one then has 0.82 of the symbols

# ---------------------------------------------------------------- 2a: the task


def copy_last_half(symbols, k=8):
    last_half = symbols[:, symbols.shape[1] // 2 :]
    blanks = torch.full_like(last_half, k)
    x = one_hot(torch.cat([symbols, blanks], dim=1), k + 1)  # (batch, n + n/2, k + 1)
    return x, last_half


def some_symbols(generator):
    batch, half, k = (whole(generator, low, low + 3) for low in (3, 3, 4))
    return torch.randint(k, (batch, 2 * half), generator=generator), k


def with_blanks(symbols, k, blank=None, size=None):
    half = symbols.shape[1] // 2
    return one_hot(
        torch.cat([symbols, torch.full_like(symbols[:, :half], k if blank is None else blank)], 1), size or k + 1
    )


def silent(symbols, k):
    x = one_hot(symbols, k + 1)
    return torch.cat([x, torch.zeros_like(x[:, : x.shape[1] // 2])], dim=1)


def half_of(symbols):
    return symbols[:, symbols.shape[1] // 2 :]


COPY_LAST_HALF = Exercise(
    name="copy_last_half",
    points=2,
    reference=copy_last_half,
    inputs=some_symbols,
    tolerance=0.0,
    hints=(
        "The network reads n symbols, then speaks for n/2 steps, in which it must be given something: the blank. How "
        "many steps are there, and how many different inputs?",
        "x: the n symbols, then n/2 times the number k, all one-hot over k + 1 places. y: symbols n/2 ... n, as "
        "numbers.",
        "`last_half = symbols[:, n // 2 :]`; `x = one_hot(torch.cat([symbols, torch.full_like(last_half, k)], dim=1), "
        "k + 1)`; return `x, last_half`.",
    ),
    why="While the network speaks, its input must not tell anything but that it is time to speak, so the blank needs "
    "a place of its own: 9 inputs for 8 symbols. Every symbol must be kept for n/2 steps, and while it waits the "
    "others pass.",
    mistakes=(
        Mistake(
            lambda s, k: (with_blanks(s, k), s[:, : s.shape[1] // 2]),
            "your targets are the first half of the symbols: the last half is asked for",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k), half_of(s).flip(1)),
            "your targets run backwards: same order as they were read",
        ),
        Mistake(
            lambda s, k: (one_hot(s, k + 1), half_of(s)),
            "your x ends with the last symbol: n/2 blanks must follow, the steps at which the network speaks",
        ),
        Mistake(
            lambda s, k: (silent(s, k), half_of(s)),
            "your blanks are rows of zeros: the blank is an input of its own, number k, and its row has a 1 in the "
            "last place",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k, blank=0, size=k), half_of(s)),
            "your blank is the symbol 0, so the network can't tell it from one: give it number k, and x one place more",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k, blank=0), half_of(s)),
            "your x has k + 1 places but the blank is the symbol 0: it is number k",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, 8), half_of(s)),
            "your blank is number 8 whatever `k` says: 8 is only its default",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k).roll(s.shape[1] // 2, dims=1), half_of(s)),
            "your blanks come first: the network reads the symbols, and then speaks while it reads blanks",
        ),
        Mistake(
            lambda s, k: (torch.cat([one_hot(s, k + 1), one_hot(half_of(s), k + 1)], 1), half_of(s)),
            "your x shows the network the answer while it speaks: blanks belong there",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k), s),
            "your targets are all n symbols: only the last half is to be copied",
        ),
        Mistake(
            lambda s, k: (with_blanks(s, k), one_hot(half_of(s), k)),
            "your targets are one-hot: give them as numbers, which is what cross_entropy and == want",
        ),
        Mistake(
            lambda s, k: (torch.cat([s, torch.full_like(half_of(s), k)], 1), half_of(s)),
            "your x holds numbers of symbols: make it one-hot, k + 1 places a step",
        ),
        Mistake(lambda s, k: (half_of(s), with_blanks(s, k)), "both are right, in the wrong order: x first, then y"),
    ),
)

# ---------------------------------------------------------------- 2b: the experiment


def copy_experiment(test, steps, seed):
    torch.manual_seed(seed)
    model = VanillaRNN(9, 64, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, y = copy_last_half(torch.randint(8, (32, test.shape[1])))  # fresh sequences
        outputs = model(x)[0][:, -y.shape[1] :]  # of the steps at which it speaks
        loss = F.cross_entropy(outputs.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x, y = copy_last_half(test)
    outputs = model(x)[0][:, -y.shape[1] :]
    return model, (outputs.argmax(-1) == y).float().mean()


def copy_runs(generator):
    """In turn a run of 2 updates, and one that must learn 4 symbols, its test short enough for learning by heart."""
    size, steps = in_turn(generator, ((200, 6), 2), ((24, 4), UPDATES))
    return torch.randint(8, size, generator=generator), steps, whole(generator, 0, 999)


PAIR = "return a pair: the trained model, and the number that you measured"
SWAPPED = "both are there, in the wrong order: the model first"
NO_MODEL = (
    "the first of the pair is not the VanillaRNN({}, {}, {}) that the text asks for: make it right after "
    "`torch.manual_seed(seed)`, train it, and hand over the network itself"
)
NO_NUMBER = "the second of the pair is not a number: return the accuracy, between 0 and 1"
PERCENT = "your accuracy is in per cent: return the share, between 0 and 1"
IS_ERROR_RATE = "this is the share of wrong symbols: the accuracy is the share of right ones"
WHOLE = "you count whole sequences: count symbols, each one that is right"
FIRST_STEPS = "you look at the first outputs: the network speaks at the last n/2 steps"
OTHER_NUMBER = (
    "the accuracy that you return is not the one that your model has on `test`: measure it at the end, on `test`, of "
    "the model that you return (not on a training batch, and not a number from elsewhere). If your `copy_last_half` is not right "
    "yet, mend that first: this builds on it"
)
NOT_TRAINED = (
    f"after {UPDATES} updates on 4 symbols your model still guesses: is `optimizer.step()` called, is it Adam with rate 0.003, are "
    "gradients set to zero, and do the outputs that go into the loss belong to the steps at which the network speaks?"
)
ON_TEST = "your model knows `test` and little else: train on fresh random sequences, a new batch at every update"
SLOW = (
    f"after {UPDATES} updates on 4 symbols your model is right in fewer than seven of ten: take Adam with rate 0.003 and "
    "batches of 32, set the gradients to zero and draw a new batch at every update, and give cross_entropy the outputs "
    "themselves, not their softmax"
)
NOT_SEEDED = (
    "your network did not start where `seed` would have it: call `torch.manual_seed(seed)`, and make the network next, "
    "so that the run can be repeated"
)
NOT_ZEROED = (
    "after 2 updates your weights are those of gradients that were added up: call `optimizer.zero_grad()` at every "
    "update, before `backward()`"
)
OTHER_LENGTH = "your training sequences have always 4 symbols: make them as long as those of `test`, test.shape[1]"
ONE_BATCH = "you train on one and the same batch: draw new sequences in the loop, at every update"
IGNORES_STEPS = "asked for 2 updates your model has learned the task already: make just `steps` updates"


def outputs_of(model, x):
    """What a learner's model says of x."""
    with torch.no_grad():
        return model(x.to(model.W_hh.weight.dtype))[0]  # a learner may have set another dtype for all


def model_and_number(result, *sizes):
    """The two that an experiment returns, or ``Wrong``: a ``VanillaRNN`` of these sizes, and what was measured.

    No other model will do: this one runs in the hands of the check, from its weights. One of the learner's own making
    would run as they wrote it, and could follow a rule that knows the task.
    """
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Wrong(PAIR)
    model, number = result
    if type(number) is VanillaRNN:
        raise Wrong(SWAPPED)
    if type(model) is not VanillaRNN or model.seeds or (model.input_size, model.hidden_size, model.output_size) != sizes:
        raise Wrong(NO_MODEL.format(*sizes))
    return model, number


def seeded(model, seed):
    """False for a model whose weights show no trace of the ones it would have started with after the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = VanillaRNN(model.input_size, model.hidden_size, model.output_size, dtype=model.W_hh.weight.dtype)
    pairs = [m.W_hh.weight.detach().flatten() for m in (model, start)]
    return bool(F.cosine_similarity(*pairs, dim=0) > 0.5)


def as_share(number):
    """A number as a float, or ``Wrong``."""
    try:
        number = float(number)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(NO_NUMBER) from None
    if math.isnan(number):
        raise Wrong(NO_NUMBER)
    return number


def judge_copy(result, test, steps, seed):
    model, accuracy = model_and_number(result, 9, 64, 8)
    accuracy = as_share(accuracy)
    half = test.shape[1] // 2

    def right(symbols, first=0):
        x, y = copy_last_half(symbols)
        outputs = outputs_of(model, x)
        return (outputs[:, -half:] if not first else outputs[:, :half]).argmax(-1) == y

    def nats(symbols):
        x, y = copy_last_half(symbols)
        return F.cross_entropy(outputs_of(model, x)[:, -half:].flatten(0, 1), y.flatten())

    def agrees(share):
        return abs(accuracy - float(share)) < 1.01 / test.shape[0] / half  # one symbol may fall on either side of a tie

    measured = right(test).float().mean()
    if not agrees(measured):
        known = {
            PERCENT: abs(accuracy - 100 * measured) < 1.0 < accuracy,
            IS_ERROR_RATE: agrees(1 - measured),
            WHOLE: agrees(right(test).all(dim=1).float().mean()),
            FIRST_STEPS: agrees(right(test, first=1).float().mean()),
        }
        return next((fault for fault, is_it in known.items() if is_it), OTHER_NUMBER)
    unseen = torch.randint(8, (256, test.shape[1]), generator=torch.Generator().manual_seed(seed))
    fresh = right(unseen).float().mean()
    if steps < ENOUGH:
        if fresh > 0.6:
            return IGNORES_STEPS
        if not seeded(model, seed):
            return NOT_SEEDED
        faults = {NOT_ZEROED: {"zero": False}, ONE_BATCH: {"fresh": False}, OTHER_LENGTH: {"trained_on": 4}}
        return after_two_as(model, faults, after_two_copies, test.shape[1], seed)
    if fresh > 0.7:
        return ""
    if measured > fresh + 0.2:
        return ON_TEST
    return SLOW if nats(unseen) < math.log(8) - 0.035 else NOT_TRAINED  # to guess among 8 costs ln 8


def after_two_as(model, faults, after_two, *run):
    """Which of the ``faults`` a model has that made 2 updates: the message, "" if none.

    ``after_two(*run, **options)`` is W_hh after 2 updates as the text has them, or with a fault's options. A model's batches
    must be drawn as those there: another way to draw, or another rate, leads to other weights, and to "".
    """
    W_hh, right = model.W_hh.weight.detach().float(), after_two(*run)
    for message, options in faults.items():
        wrong = after_two(*run, **options)
        if (W_hh - wrong).norm() < 0.1 * (right - wrong).norm():
            return message
    return ""


@functools.lru_cache(maxsize=32)
def after_two_copies(length, seed, zero=True, fresh=True, trained_on=None):
    """W_hh of a copying network after 2 updates: the same for a whole class."""
    size = (32, trained_on or length)
    return two_updates((9, 64, 8), lambda: copy_last_half(torch.randint(8, size)), 3e-3, seed, zero, fresh)


def two_updates(sizes, batch, lr, seed, zero=True, fresh=True):
    """W_hh after 2 updates on ``batch()``; without ``zero``, gradients add up; without ``fresh``, both are on one batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VanillaRNN(*sizes)
        one = None if fresh else batch()
        fit(model, batch if fresh else lambda: one, 2, lr, zero=zero)
    return model.W_hh.weight.detach()


def fit(model, batch, updates, lr, learn=True, zero=True):
    """Train on ``batch()``, an x and the targets of its last steps, for the banks of mistakes, without clipping."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(updates if learn else 0):
        x, y = batch()
        loss = F.cross_entropy(model(x)[0][:, -y.shape[1] :].flatten(0, 1), y.flatten())
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def copied(
    batches=lambda test: torch.randint(8, (32, test.shape[1])),
    updates=None,
    lr=3e-3,
    learn=True,
    seed=None,
    report=None,
    zero=True,
    fresh=True,
):
    """``copy_experiment`` done another way, for the bank of mistakes. ``batches(test)`` gives each training batch."""

    def answer(test, steps, its_seed):
        torch.manual_seed(its_seed if seed is None else seed)
        model = VanillaRNN(9, 64, 8)
        one = None if fresh else copy_last_half(batches(test))
        fit(model, lambda: one or copy_last_half(batches(test)), updates or steps, lr, learn, zero)
        x, y = copy_last_half(test)
        outputs = model(x)[0]
        spoken = (outputs[:, -y.shape[1] :].argmax(-1) == y).float()
        return (report or (lambda model, spoken, outputs, y: (model, spoken.mean())))(model, spoken, outputs, y)

    return answer


COPY_EXPERIMENT = Exercise(
    name="copy_experiment",
    points=2,
    reference=copy_experiment,
    inputs=copy_runs,
    judge=judge_copy,
    trials=2,
    seconds=30.0,
    hints=(
        "Three parts: make the model, train it on batches that it has never seen, measure it on `test`. Which outputs "
        "go into the loss, those of all steps?",
        "The network speaks at the last n/2 steps: `model(x)[0][:, -n // 2 :]`, of shape (batch, n/2, 8). "
        "Cross-entropy against y, Adam with rate 0.003, batches of 32 fresh sequences from your `copy_last_half`, "
        "gradients clipped to norm 1.",
        "In the loop: `x, y = copy_last_half(torch.randint(8, (32, test.shape[1])))`, `outputs = model(x)[0][:, "
        "-y.shape[1] :]`, `F.cross_entropy(outputs.flatten(0, 1), y.flatten())`, zero_grad, backward, step. After it "
        "the same outputs for `test`, and `(outputs.argmax(-1) == y).float().mean()`.",
    ),
    why="Fresh batches make the training loss an honest one, and `test`, which no update has seen, makes the accuracy "
    "comparable between lengths. Nothing in the function knows how long the sequences are, so one function serves the "
    "whole curve.",
    mistakes=(
        Mistake(copied(report=lambda m, r, o, y: r.mean()), PAIR),
        Mistake(copied(report=lambda m, r, o, y: (r.mean(), m)), SWAPPED),
        Mistake(copied(report=lambda m, r, o, y: (m, 100 * r.mean())), PERCENT),
        Mistake(copied(report=lambda m, r, o, y: (m, 1 - r.mean())), IS_ERROR_RATE),
        Mistake(copied(report=lambda m, r, o, y: (m, r.prod(dim=1).mean())), WHOLE),
        Mistake(
            copied(report=lambda m, r, o, y: (m, (o[:, : y.shape[1]].argmax(-1) == y).float().mean())),
            FIRST_STEPS,
        ),
        Mistake(copied(report=lambda m, r, o, y: (m, 0.77)), OTHER_NUMBER),
        Mistake(copied(learn=False), NOT_TRAINED),
        Mistake(copied(batches=lambda test: test), ON_TEST),
        Mistake(copied(lr=4e-4), SLOW),
        Mistake(copied(seed=-1), NOT_SEEDED),
        Mistake(copied(updates=80), IGNORES_STEPS),
        Mistake(copied(zero=False), NOT_ZEROED),
        Mistake(copied(fresh=False), ONE_BATCH),
        Mistake(copied(batches=lambda test: torch.randint(8, (32, 4))), OTHER_LENGTH),
    ),
)

EXERCISES = (COPY_LAST_HALF, COPY_EXPERIMENT)
