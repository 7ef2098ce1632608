"""Sequences as tensors, the tasks and their chance levels, the real data, and what each says of bad input."""

import inspect
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rnncourse import sequences
from rnncourse.exercises import EXERCISES, check
from rnncourse.sequences import (
    FORMANTS,
    NOUNS,
    PREPOSITIONS,
    VERBS,
    Adding,
    Agreement,
    CopyMemory,
    Echo,
    Examples,
    Latch,
    Order,
    Task,
    Vocabulary,
    census_names,
    co2,
    course_prose,
    digits,
    el_nino,
    last_outputs,
    one_hot,
    pad,
    vowel,
    windows,
)

quick = settings(deadline=None, max_examples=40)
N = 20_000  # sequences for a measurement of chance


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- vocabulary, one-hot -----------------------------------------------------------------------------------------------


def test_a_vocabulary_numbers_the_characters_in_order():
    vocabulary = Vocabulary("banana, bread")
    assert vocabulary.characters == sorted(set("banana, bread"))
    assert len(vocabulary) == 8
    assert vocabulary.encode("nab").tolist() == [vocabulary.characters.index(c) for c in "nab"]
    assert vocabulary.encode("nab").dtype == torch.long


@quick
@given(st.text(min_size=1, max_size=30), st.data())
def test_decoding_undoes_encoding(text, data):
    vocabulary = Vocabulary(text)
    drawn = "".join(data.draw(st.lists(st.sampled_from(vocabulary.characters))))
    assert vocabulary.decode(vocabulary.encode(drawn)) == drawn
    assert vocabulary.decode(vocabulary.encode(drawn).tolist()) == drawn


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Vocabulary(["a", "b"]), TypeError, "text: expected a string, got list"),
        (lambda: Vocabulary(""), ValueError, "at least one character, got an empty string"),
        (
            lambda: Vocabulary("abc").encode("cäsar"),
            KeyError,
            r"not in the vocabulary: \['r', 's', 'ä'\]; it has 'abc'",
        ),
        (lambda: Vocabulary("abc").decode([0, 3, -1]), KeyError, r"no character has the number \[-1, 3\].*0 to 2"),
        (lambda: Vocabulary("abc").decode(torch.tensor([0.5])), TypeError, "integer"),
    ],
)
def test_a_vocabulary_names_what_it_lacks(call, error, message):
    with pytest.raises(error, match=message):
        call()


@quick
@given(
    st.lists(st.integers(0, 6), max_size=8), st.integers(7, 9), st.sampled_from([torch.long, torch.int32, torch.uint8])
)
def test_one_hot_has_a_single_one_in_the_numbered_place(numbers, size, dtype):
    x = one_hot(torch.tensor(numbers, dtype=dtype), size)
    assert x.shape == (len(numbers), size) and x.dtype == torch.float32
    assert x.argmax(-1).tolist() == numbers
    assert (x.sum(-1) == 1).all() and ((x == 0) | (x == 1)).all()


def test_one_hot_keeps_the_axes_before():
    assert one_hot(torch.tensor([[1, 0, 2], [2, 2, 1]]), 3).shape == (2, 3, 3)
    assert one_hot(torch.tensor(2), 3).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "numbers, size, error, message",
    [
        (torch.tensor([0.0]), 2, TypeError, "expected whole numbers, got torch.float32"),
        (torch.tensor([True]), 2, TypeError, "expected whole numbers, got torch.bool"),
        ([0, 1], 2, TypeError, "numbers: expected a tensor, got list"),
        (torch.tensor([0, 2]), 2, ValueError, "expected 0 to 1, got 0 to 2"),
        (torch.tensor([-1, 1]), 2, ValueError, "expected 0 to 1, got -1 to 1"),
        (torch.tensor([0]), 0, ValueError, "size: expected a whole number of at least 1, got 0"),
        (torch.tensor([0]), 2.0, ValueError, "size: expected a whole number of at least 1, got 2.0"),
    ],
)
def test_one_hot_says_what_it_cannot_take(numbers, size, error, message):
    with pytest.raises(error, match=message):
        one_hot(numbers, size)


# -- windows, padding --------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 6), st.integers(1, 3))
def test_windows_are_all_the_slices_and_what_follows_them(length, horizon, more, features):
    n = length + horizon + more
    series = torch.randn(n, features, generator=seeded())
    x, y = windows(series, length, horizon)
    assert x.shape == (more + 1, length, features) and y.shape == (more + 1, horizon, features)
    assert x.dtype == y.dtype == torch.float32
    for i in range(more + 1):
        assert torch.equal(x[i], series[i : i + length])
        assert torch.equal(y[i], series[i + length : i + length + horizon])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, pd.Series, lambda v: np.array(v, dtype=np.int32)])
def test_windows_take_any_series_of_numbers(kind):
    x, y = windows(kind([1, 2, 3, 4]), 2)
    assert x.tolist() == [[[1], [2]], [[2], [3]]] and y.tolist() == [[[3]], [[4]]]


@pytest.mark.parametrize(
    "series, length, horizon, error, message",
    [
        (torch.zeros(4, 2, 2), 2, 1, ValueError, r"expected shape \(n,\) or \(n, features\), got \(4, 2, 2\)"),
        (torch.tensor(1.0), 2, 1, ValueError, r"expected shape \(n,\) or \(n, features\), got \(\)"),
        (torch.zeros(3), 3, 1, ValueError, "at least length \\+ horizon = 4 values, got 3"),
        ([], 1, 1, ValueError, "at least length \\+ horizon = 2 values, got 0"),
        (torch.zeros(9), 0, 1, ValueError, "length: expected a whole number of at least 1, got 0"),
        (torch.zeros(9), 2.5, 1, ValueError, "length: expected a whole number of at least 1, got 2.5"),
        (torch.zeros(9), 2, 0, ValueError, "horizon: expected a whole number of at least 1, got 0"),
        (
            [1.0, math.nan, 2.0, math.nan],
            1,
            1,
            ValueError,
            "finite numbers, got NaN or infinity in 2 places; fill the gaps",
        ),
        ([1.0, math.inf, 2.0], 1, 1, ValueError, "NaN or infinity in 1 places"),
        (["a", "b", "c"], 1, 1, TypeError, "series: expected real numbers, got dtype <U1"),
        (np.array([1j, 2j, 3j]), 1, 1, TypeError, "series: expected real numbers, got dtype complex128"),
    ],
)
def test_windows_say_what_they_cannot_take(series, length, horizon, error, message):
    with pytest.raises(error, match=message):
        windows(series, length, horizon)


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans(), st.sampled_from([0.0, -1.0]))
def test_padding_keeps_every_sequence_and_marks_the_rest(lengths, flat, value):
    shapes = [(length,) if flat else (length, 3) for length in lengths]
    given_sequences = [torch.rand(shape, generator=seeded(i)) + 1 for i, shape in enumerate(shapes)]
    padded, mask = pad(given_sequences, value)
    assert padded.shape == (len(lengths), max(lengths), *shapes[0][1:])
    assert mask.dtype == torch.bool and mask.sum(dim=1).tolist() == lengths
    for i, sequence in enumerate(given_sequences):
        assert torch.equal(padded[i][mask[i]], sequence)
        assert torch.equal(padded[i, : len(sequence)], sequence)
    assert (padded[~mask] == value).all()


def test_padding_keeps_the_dtype():
    padded, _ = pad([torch.tensor([1, 2]), torch.tensor([3])], value=-1)
    assert padded.dtype == torch.long and padded.tolist() == [[1, 2], [3, -1]]


@pytest.mark.parametrize(
    "given_sequences, message",
    [
        ([], r"at least one, each of at least one step, got the shapes \[\]"),
        ([torch.ones(2), torch.ones(0)], r"each of at least one step, got the shapes \[\(2,\), \(0,\)\]"),
        ([torch.ones(2), torch.tensor(1.0)], r"got the shapes \[\(2,\), \(\)\]"),
        ([torch.ones(2, 3), torch.ones(2, 4)], r"differ in length alone, got .*\(2, 3\).*\(2, 4\)"),
        ([torch.ones(2), torch.ones(2, 1)], r"differ in length alone, got .*\(2,\).*\(2, 1\)"),
        ([torch.ones(2), torch.ones(2).long()], r"one dtype, .*torch.float32.*torch.int64"),
    ],
)
def test_padding_says_what_it_cannot_take(given_sequences, message):
    with pytest.raises(ValueError, match=message):
        pad(given_sequences)


# -- every task --------------------------------------------------------------------------------------------------------


def examples(targets="classes"):
    x = torch.randn(50, 6, 3, generator=seeded(1))
    return Examples(x, x[:, -1, :1].unsqueeze(1) if targets == "values" else (x[:, :1, 0] > 0).long())


TASKS = {
    "latch": lambda: Latch(7),
    "latch of one step": lambda: Latch(1, k=2),
    "order": lambda: Order(9),
    "order, as short as can be": lambda: Order(2, distractors=1),
    "adding": lambda: Adding(8),
    "adding, odd length": lambda: Adding(3),
    "copy memory": lambda: CopyMemory(5, symbols=3, k=4),
    "copy memory, delay 1": lambda: CopyMemory(1, symbols=1, k=2),
    "echo": lambda: Echo(8, lag=3),
    "echo of one step": lambda: Echo(2, lag=1, k=2),
    "examples, classes": examples,
    "examples, values": lambda: examples("values"),
}
every_task = pytest.mark.parametrize("task", [make() for make in TASKS.values()], ids=list(TASKS))


@every_task
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_batch_has_the_shapes_that_the_task_tells(task, batch_size):
    x, y = task.batch(batch_size, seeded())
    assert x.shape == (batch_size, task.seq_len, task.input_size) and x.dtype == torch.float32
    assert len(y) == batch_size and 1 <= y.shape[1] <= task.seq_len
    if y.is_floating_point():
        assert y.shape[2:] == (task.output_size,)
    else:
        assert y.dim() == 2 and -1 <= int(y.min()) and int(y.max()) < task.output_size


@every_task
def test_the_generator_alone_decides_on_the_batch(task):
    torch.manual_seed(1)
    x, y = task.batch(16, seeded(5))
    torch.manual_seed(2)
    x_again, y_again = task.batch(16, seeded(5))
    assert torch.equal(x, x_again) and torch.equal(y, y_again)
    assert not torch.equal(task.batch(16, seeded(6))[0], x)
    generator = seeded(5)
    task.batch(16, generator)
    assert not torch.equal(task.batch(16, generator)[0], x), "the second batch repeats the first"


@every_task
def test_a_batch_without_a_generator_comes_from_torch(task):
    torch.manual_seed(3)
    x, _ = task.batch(8)
    torch.manual_seed(3)
    assert torch.equal(task.batch(8)[0], x)


@every_task
def test_changing_a_batch_does_not_change_the_task(task):
    x, y = task.batch(40, seeded())
    kept, kept_y = x.clone(), y.clone()
    x.zero_(), y.zero_()
    assert torch.equal(task.batch(40, seeded())[0], kept) and torch.equal(task.batch(40, seeded())[1], kept_y)


@every_task
@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, None])
def test_a_batch_size_that_is_none(task, batch_size):
    with pytest.raises(ValueError, match=f"batch_size: expected a whole number of at least 1, got {batch_size}"):
        task.batch(batch_size)


@every_task
def test_loss_and_accuracy_against_their_definitions(task):
    _, y = task.batch(6, seeded())
    outputs = torch.randn(6, task.seq_len, task.output_size, generator=seeded(1), dtype=torch.float64)
    last = outputs[:, -y.shape[1] :]
    if y.is_floating_point():
        expected = sum((last[b, t] - y[b, t]).square().mean() for b in range(6) for t in range(y.shape[1]))
        assert math.isclose(task.loss(outputs, y), expected / (6 * y.shape[1]), rel_tol=1e-6)
        assert task.accuracy(outputs, y) is None
        return
    asked = [(b, t) for b in range(6) for t in range(y.shape[1]) if y[b, t] >= 0]
    losses = [-F.log_softmax(last[b, t], dim=0)[y[b, t]] for b, t in asked]
    assert math.isclose(task.loss(outputs, y), sum(losses) / len(losses), rel_tol=1e-9)
    first = y.shape[1] - (task.recalled or y.shape[1])
    right = [float(last[b, t].argmax() == y[b, t]) for b, t in asked if t >= first]
    assert math.isclose(task.accuracy(outputs, y), sum(right) / len(right), rel_tol=1e-6)


@every_task
def test_a_leading_axis_of_models_is_kept(task):
    parts = [task.batch(4, seeded(s)) for s in range(3)]
    y = torch.stack([y for _, y in parts])
    outputs = torch.randn(3, 4, task.seq_len, task.output_size, generator=seeded())
    loss, accuracy = task.loss(outputs, y), task.accuracy(outputs, y)
    assert loss.shape == (3,) and (accuracy is None or accuracy.shape == (3,))
    for s in range(3):
        torch.testing.assert_close(loss[s], task.loss(outputs[s], y[s]))
        if accuracy is not None:
            torch.testing.assert_close(accuracy[s], task.accuracy(outputs[s], y[s]))


@every_task
def test_the_right_outputs_have_no_loss(task):
    _, y = task.batch(6, seeded())
    outputs = torch.zeros(6, task.seq_len, task.output_size)
    outputs[:, -y.shape[1] :] = y if y.is_floating_point() else 100 * one_hot(y.clamp(min=0), task.output_size)
    assert task.loss(outputs, y) < 1e-6
    assert task.accuracy(outputs, y) in (None, 1)


@every_task
def test_a_model_may_give_fewer_outputs_than_steps_if_all_that_is_asked_for_is_there(task):
    _, y = task.batch(6, seeded())
    outputs = torch.randn(6, task.seq_len, task.output_size, generator=seeded())
    torch.testing.assert_close(task.loss(outputs[:, -y.shape[1] :], y), task.loss(outputs, y))


@every_task
def test_outputs_that_do_not_fit_the_targets(task):
    _, y = task.batch(6, seeded())
    n, shape = y.shape[1], (6, task.seq_len, task.output_size)
    bad = [(5, *shape[1:]), (6, n - 1, shape[2]), shape[1:], (2, *shape), shape[2:]]
    if y.is_floating_point():
        bad.append((*shape[:2], task.output_size + 1))
    for wrong in bad:
        for measure in (task.loss, task.accuracy) if not y.is_floating_point() else (task.loss,):
            with pytest.raises(ValueError) as caught:
                measure(torch.zeros(wrong), y)
            assert "outputs: expected ([models,] batch, seq_len, output_size)" in str(caught.value)
            assert f"got {wrong} for {y.dtype} targets of shape {tuple(y.shape)}" in str(caught.value)


@pytest.mark.parametrize("y", [torch.zeros(6).long(), torch.zeros(6), torch.tensor(1.0), torch.tensor(1)])
def test_targets_of_too_few_axes(y):
    with pytest.raises(ValueError, match="outputs: expected"):
        last_outputs(torch.zeros(6, 4, 2), y)


def test_steps_where_nothing_is_asked_do_not_count():
    outputs = torch.tensor([[[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]])
    y = torch.tensor([[-1, 1, 0]])
    task = Task()
    assert task.accuracy(outputs, y) == 1 / 2
    assert math.isclose(task.loss(outputs, y), F.cross_entropy(outputs[0, 1:], y[0, 1:]), rel_tol=1e-6)
    assert task.loss(outputs, torch.full((1, 3), -1)).isnan(), "a mean over nothing"


def test_unasked_steps_get_no_gradient():
    outputs = torch.randn(2, 5, 4, generator=seeded(), requires_grad=True)
    task = Echo(5, lag=2)
    task.loss(outputs, task.batch(2, seeded())[1]).backward()
    assert (outputs.grad[:, :2] == 0).all() and (outputs.grad[:, 2:] != 0).all()


def test_a_nan_in_the_outputs_shows_in_the_loss():
    assert Latch(3).loss(torch.full((2, 3, 4), math.nan), torch.zeros(2, 1).long()).isnan()


def test_a_task_without_a_batch():
    with pytest.raises(NotImplementedError):
        Task().batch(1)


# -- the tasks, one by one ---------------------------------------------------------------------------------------------

lengths = st.integers(2, 12)


def symbols(x):
    """The numbers of one-hot inputs, having checked that they are one-hot."""
    assert (x.sum(-1) == 1).all() and ((x == 0) | (x == 1)).all()
    return x.argmax(-1)


@quick
@given(lengths, st.integers(2, 5))
def test_latch_asks_for_the_first_symbol(seq_len, k):
    x, y = Latch(seq_len, k).batch(50, seeded())
    assert torch.equal(y, symbols(x)[:, :1])


@quick
@given(lengths, st.integers(1, 4))
def test_order_asks_which_of_two_came_first(seq_len, distractors):
    x, y = Order(seq_len, distractors).batch(50, seeded())
    read = symbols(x)
    assert ((read == 0).sum(1) == 1).all() and ((read == 1).sum(1) == 1).all()
    for sequence, answer in zip(read.tolist(), y):
        assert answer.item() == int(sequence.index(1) < sequence.index(0))


@quick
@given(lengths)
def test_adding_asks_for_the_sum_of_the_marked_values(seq_len):
    x, y = Adding(seq_len).batch(50, seeded())
    values, marks = x.unbind(-1)
    half = seq_len // 2
    assert (values >= 0).all() and (values < 1).all() and ((marks == 0) | (marks == 1)).all()
    assert (marks[:, :half].sum(1) == 1).all() and (marks[:, half:].sum(1) == 1).all()
    torch.testing.assert_close(y[:, 0, 0], torch.stack([v[m == 1].sum() for v, m in zip(values, marks)]))


@quick
@given(st.integers(1, 12), st.integers(1, 5), st.integers(2, 6))
def test_copy_memory_shows_waits_and_asks(delay, n, k):
    task = CopyMemory(delay, n, k)
    x, y = task.batch(20, seeded())
    blank, go, read = k, k + 1, symbols(x)
    assert x.shape[1] == delay + 2 * n
    assert (read[:, :n] < k).all(), "the message"
    assert (read[:, n : n + delay - 1] == blank).all() and (read[:, n + delay - 1] == go).all()
    assert (read[:, n + delay :] == blank).all()
    assert (y[:, : delay + n] == blank).all()
    assert torch.equal(y[:, delay + n :], read[:, :n])


def test_copy_memory_counts_the_recalled_symbols_alone():
    task = CopyMemory(30, symbols=2, k=4)
    _, y = task.batch(8, seeded())
    always_blank = one_hot(torch.full_like(y, 4), 5)
    assert task.accuracy(always_blank, y) == 0


@quick
@given(lengths, st.data())
def test_echo_asks_for_the_symbol_of_lag_steps_ago(seq_len, data):
    lag = data.draw(st.integers(1, seq_len - 1))
    x, y = Echo(seq_len, lag).batch(20, seeded())
    assert (y[:, :lag] == -1).all()
    assert torch.equal(y[:, lag:], symbols(x)[:, : seq_len - lag])


@pytest.mark.parametrize("targets", ["classes", "values"])
def test_examples_are_those_given(targets):
    task = examples(targets)
    x, y = task.batch(30, seeded())
    for one, target in zip(x, y):
        (i,) = torch.nonzero((task.x == one).all(dim=(1, 2))).flatten()
        assert torch.equal(task.y[i], target)


def test_examples_know_their_sizes():
    x = torch.zeros(4, 5, 3)
    assert Examples(x, torch.tensor([[0], [3], [1], [-1]])).output_size == 4
    assert Examples(x, torch.tensor([[0], [3], [1], [1]]), output_size=10).output_size == 10
    assert Examples(x, torch.zeros(4, 2, 7)).output_size == 7
    task = Examples(x, torch.zeros(4, 5).long())
    assert (task.seq_len, task.input_size, task.output_size) == (5, 3, 1)
    assert task.chance_loss is None and task.chance_accuracy is None


def real(n, *shape):
    return torch.zeros(n, *shape)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((real(4, 5), real(4, 1).long()), ValueError, r"expected x \(examples, seq_len, input_size\).* got \(4, 5\)"),
        ((real(4, 5, 3), real(3, 1).long()), ValueError, r"got \(4, 5, 3\) and \(3, 1\)"),
        ((real(0, 5, 3), real(0, 1).long()), ValueError, r"got \(0, 5, 3\)"),
        ((real(4, 0, 3), real(4, 0).long()), ValueError, r"got \(4, 0, 3\)"),
        ((real(4, 5, 3), real(4).long()), ValueError, r"torch.int64 targets y \(examples, n\), .* and \(4,\)"),
        (
            (real(4, 5, 3), real(4, 1)),
            ValueError,
            r"torch.float32 targets y \(examples, n, output_size\).* and \(4, 1\)",
        ),
        ((real(4, 5, 3), real(4, 6).long()), ValueError, r"n at most seq_len, got \(4, 5, 3\) and \(4, 6\)"),
        ((real(4, 5, 3) / 0, real(4, 1).long()), ValueError, "expected numbers, got NaN in 60 places of x and y"),
        ((real(4, 5, 3), real(4, 1, 1) / 0), ValueError, "expected numbers, got NaN in 4 places of x and y"),
        (
            (real(4, 5, 3), real(4, 1).long() + 2, 2),
            ValueError,
            "output_size: expected a whole number of at least 3, got 2",
        ),
        ((real(4, 5, 3), real(4, 1, 2), 3), ValueError, "output_size: expected 2 for these targets, got 3"),
        (([[[0.0]]], real(1, 1).long()), TypeError, "x: expected a tensor, got list"),
        ((real(1, 1, 1), np.zeros((1, 1))), TypeError, "y: expected a tensor, got ndarray"),
    ],
)
def test_examples_say_what_they_cannot_take(arguments, error, message):
    with pytest.raises(error, match=message):
        Examples(*arguments)


@pytest.mark.parametrize(
    "call, name, least",
    [
        (lambda v: Latch(v), "seq_len", 1),
        (lambda v: Latch(5, k=v), "k", 2),
        (lambda v: Order(v), "seq_len", 2),
        (lambda v: Order(5, distractors=v), "distractors", 1),
        (lambda v: Adding(v), "seq_len", 2),
        (lambda v: CopyMemory(v), "delay", 1),
        (lambda v: CopyMemory(5, symbols=v), "symbols", 1),
        (lambda v: CopyMemory(5, k=v), "k", 2),
        (lambda v: Echo(9, lag=v), "lag", 1),
        (lambda v: Echo(v, lag=3), "seq_len", 4),
        (lambda v: Echo(9, lag=3, k=v), "k", 2),
    ],
)
def test_a_task_of_a_size_that_cannot_be(call, name, least):
    for value in (least - 1, -3, 2.5, "7", None, True):
        with pytest.raises(ValueError, match=f"^{name}: expected a whole number of at least {least}, got {value!r}$"):
            call(value)
    call(np.int64(least + 1))


# -- chance, by formula and by measurement -----------------------------------------------------------------------------

CHANCE = [
    (Latch(6), math.log(4), 1 / 4),
    (Latch(6, k=7), math.log(7), 1 / 7),
    (Order(6), math.log(2), 1 / 2),
    (Echo(9, lag=3, k=5), math.log(5), 1 / 5),
    (CopyMemory(20, symbols=5, k=8), 5 * math.log(8) / 30, 1 / 8),
    (CopyMemory(7, symbols=10, k=3), 10 * math.log(3) / 27, 1 / 3),
    (Adding(7), 1 / 6, None),
    (Adding(30), 1 / 6, None),
]


@pytest.mark.parametrize("task, loss, accuracy", CHANCE)
def test_chance_is_what_the_best_guess_gets(task, loss, accuracy):
    """The best guess without input, fitted to some targets and scored on others, within 5 standard errors."""
    assert math.isclose(task.chance_loss, loss) and task.chance_accuracy == accuracy
    (_, seen), (_, y) = task.batch(N, seeded(1)), task.batch(N, seeded(2))
    if seen.is_floating_point():
        guess = seen.mean(dim=0)
    else:
        guess = one_hot(seen.clamp(min=0), task.output_size).mean(dim=0).log()
    outputs = guess.expand(N, *guess.shape)
    assert abs(task.loss(outputs, y) - loss) < 5 * math.sqrt(7 / 180 / N)  # adding's; the others vary less
    if accuracy is not None:
        assert abs(task.accuracy(outputs, y) - accuracy) < 5 * math.sqrt(accuracy * (1 - accuracy) / N)


@pytest.mark.parametrize("task", [Order(7), Adding(9)], ids=["order", "adding"])
def test_the_marked_steps_are_everywhere_they_may_be_and_equally_often(task):
    x, _ = task.batch(N, seeded())
    share = x[..., 0 if isinstance(task, Order) else 1].mean(dim=0)
    half = task.seq_len // 2
    expected = torch.full((task.seq_len,), 1 / task.seq_len)
    if isinstance(task, Adding):
        expected = torch.cat(
            [torch.full((half,), 1 / half), torch.full((task.seq_len - half,), 1 / (task.seq_len - half))]
        )
    assert ((share - expected).abs() < 5 * (expected / N).sqrt()).all()


def test_a_bag_of_inputs_says_nothing_about_order():
    """Swap A and B: the same bag, the other answer."""
    x, y = Order(9).batch(500, seeded())
    swapped = x[..., [1, 0, *range(2, x.shape[-1])]]
    assert torch.equal(x.mean(1), swapped.mean(1))
    assert torch.equal((swapped[..., 1].argmax(1) < swapped[..., 0].argmax(1)).long(), 1 - y[:, 0])


# -- data --------------------------------------------------------------------------------------------------------------


def test_census_names():
    last = census_names()
    assert last[:3] == ["smith", "johnson", "williams"] and len(last) == 88_799
    assert census_names("first:female")[0] == "mary" and census_names("first:male")[0] == "james"
    assert set("".join(last)) == set("abcdefghijklmnopqrstuvwxyz")
    assert census_names("last", count=5) == last[:5] and census_names(count=len(last)) == last


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("middle",), "kind: expected one of .*'last'.*, got 'middle'"),
        (("last", 0), "count: expected a whole number of at least 1, got 0"),
        (("last", 2.5), "count: expected a whole number of at least 1, got 2.5"),
        (("first:male", 10**6), "count: expected at most 1219, the names of kind 'first:male', got 1000000"),
    ],
)
def test_census_names_say_what_they_lack(arguments, message):
    with pytest.raises(ValueError, match=message):
        census_names(*arguments)


def test_digits():
    images, labels = digits()
    assert images.shape == (1797, 8, 8) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1
    assert labels.shape == (1797,) and labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize(
    "series, first, last, low, high",
    [
        (el_nino, "1950-01", "2010-12", 15, 30),
        (co2, "1958-03", "2001-12", 310, 375),
    ],
)
def test_series_are_whole(series, first, last, low, high):
    values = series()
    assert str(values.index[0]) == first and str(values.index[-1]) == last
    assert len(values) == len(pd.period_range(first, last, freq=values.index.freq)), "a period is missing"
    assert values.between(low, high).all(), "NaN, or a value out of range"
    assert values.name


def test_el_nino_runs_on_from_december_to_january():
    assert el_nino().diff().abs().max() < 5 and el_nino()["1950-02"] == 24.2


def test_co2_is_the_mean_of_a_months_weeks():
    import statsmodels.datasets  # here: it takes a second

    weeks = statsmodels.datasets.co2.load_pandas().data["co2"]["1990-06-01":"1990-06-30"]
    assert weeks.tolist() == [357.0, 356.6, 355.6, 355.5, 355.7]
    assert co2()["1990-06"] == pytest.approx(weeks.mean())


@pytest.mark.parametrize("name", FORMANTS)
def test_a_vowel_is_strong_at_its_formants_and_silent_between_harmonics(name):
    sound = vowel(name, seconds=0.5, rate=8000, pitch=120)
    assert sound.shape == (4000,) and sound.dtype == torch.float32 and math.isclose(sound.abs().max(), 1)
    level = torch.fft.rfft(sound.double()).abs()  # every 2 Hz
    harmonic = torch.zeros_like(level, dtype=torch.bool)
    harmonic[60::60] = True
    assert level[~harmonic].square().sum() < 1e-9 * level.square().sum()
    level = level[60::60]
    peaks = [120 * (i + 1) for i in range(1, len(level) - 1) if level[i] > level[i - 1] and level[i] > level[i + 1]]
    assert len(peaks) == 3 and all(abs(p - f) <= 60 for p, f in zip(peaks, FORMANTS[name]))


def test_formants_are_those_of_men_in_peterson_and_barney_1952():
    assert FORMANTS == {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240)}


def test_a_vowel_is_half_as_strong_80_hz_from_a_formant():
    level = torch.fft.rfft(vowel("i", seconds=0.5, rate=8000, pitch=10).double()).abs()  # every 2 Hz
    for formant in (270, 2290):  # the others are far: together they add less than a hundredth
        for beside in (formant - 80, formant + 80):
            assert level[beside // 2] / level[formant // 2] == pytest.approx(0.5, abs=0.01)


def test_a_vowel_of_other_sizes():
    assert vowel("i", seconds=0.1, rate=16_000).shape == (1600,)
    assert not torch.allclose(vowel("a"), vowel("u"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "ö"}, "name: expected one of 'a', 'i', 'u', got 'ö'"),
        ({"seconds": 0}, "seconds: expected a positive number, got 0"),
        ({"seconds": math.nan}, "seconds: expected a positive number, got nan"),
        ({"rate": -8000}, "rate: expected a positive number, got -8000"),
        ({"pitch": "high"}, "pitch: expected a positive number, got 'high'"),
        ({"pitch": 4000}, "pitch: expected less than half the rate, 4000 Hz, got 4000"),
        ({"seconds": 1e-5}, "seconds: expected at least 2 samples, got 1e-05 s at 8000 a second"),
    ],
)
def test_a_vowel_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        vowel(**options)


# -- a small grammar ---------------------------------------------------------------------------------------------------


def all_sentences(attractors, disagree):
    """Every sentence with this many attractors, and its probability, from the description of the grammar alone."""
    subjects = [(noun + "s" * plural, plural) for noun in NOUNS for plural in (False, True)]
    for noun, plural in subjects:
        others = [(other, number) for other, number in subjects if not disagree or number != plural]
        for parts in itertools.product(itertools.product(PREPOSITIONS, others), repeat=attractors):
            middle = "".join(f" {preposition} the {other}" for preposition, (other, _) in parts)
            p = 1 / len(subjects) / (len(PREPOSITIONS) * len(others)) ** attractors / len(VERBS)
            for verb in VERBS:
                yield f"the {noun}{middle} {verb + 's' * (not plural)}.", p


@pytest.mark.parametrize("disagree", [False, True])
@pytest.mark.parametrize("shares", [(1.0,), (0.0, 1.0), (0.7, 0.3), (0.95, 0.0, 0.05)])
def test_the_entropy_of_the_grammar_is_that_of_all_its_sentences(shares, disagree):
    total, p_all, tokens, characters = 0.0, 0.0, 0.0, 0.0
    for attractors, share in enumerate(shares):
        for sentence, p in all_sentences(attractors, disagree) if share else ():
            p *= share
            total -= p * math.log2(p)
            p_all += p
            tokens += p * len(sentence.replace(".", " .").split())
            characters += p * (len(sentence) + 1)
    grammar = Agreement(shares, disagree)
    assert math.isclose(p_all, 1)
    assert math.isclose(grammar.entropy("sentence"), total, rel_tol=1e-9)
    assert math.isclose(grammar.entropy("token"), total / tokens, rel_tol=1e-9) and grammar.entropy() == grammar.entropy("token")
    assert math.isclose(grammar.entropy("character"), total / characters, rel_tol=1e-9)


def test_sentences_of_the_grammar_are_its_own_and_as_frequent_as_they_should_be():
    for shares, disagree in (((0.7, 0.3), False), ((0.0, 1.0), True)):
        possible = {sentence: share * p for k, share in enumerate(shares) for sentence, p in all_sentences(k, disagree) if share}
        drawn = Agreement(shares, disagree).sentences(N, seeded())
        assert set(drawn) <= set(possible)
        short = [sentence for sentence in drawn if len(sentence.split()) == 3]
        assert abs(len(short) / N - shares[0]) < 4 * math.sqrt(0.25 / N)
        counts = {sentence: short.count(sentence) for sentence in set(short)}
        assert not short or len(counts) == 96 and all(abs(n - len(short) / 96) < 6 * math.sqrt(len(short) / 96) for n in counts.values())
    assert Agreement(5, True).sentences(3, seeded(1)) == Agreement(5, True).sentences(3, seeded(1))


def test_a_batch_of_the_grammar_asks_for_every_word_but_the_first():
    grammar = Agreement((0.5, 0.3, 0.2))
    x, y = grammar.batch(50, seeded())
    words = grammar.draw(50, seeded())
    assert x.shape == (50, grammar.seq_len, grammar.input_size) and y.shape == (50, grammar.seq_len) == (50, 9)
    assert torch.equal(y, words[:, 1:])
    asked = y >= 0
    assert torch.equal(x.argmax(-1)[asked], words[:, :-1][asked])
    ends = [row[row >= 0] for row in y]
    assert all(grammar.words[row[-1]] == "." and grammar.words[row[-2]].removesuffix("s") in VERBS for row in ends)
    assert {len(row) for row in ends} == {3, 6, 9}


@pytest.mark.parametrize("attractors", [0, 3])
def test_accuracy_on_the_grammar_asks_for_the_number_of_the_verb_alone(attractors):
    grammar = Agreement(attractors, disagree=True)
    x, y = grammar.batch(200, seeded())
    assert y.shape == (200, 3 + 3 * attractors) and (y >= 0).all()
    right, wrong = torch.zeros(2, 200, grammar.seq_len, grammar.output_size)
    place = y.shape[1] - 2
    plural_subject = torch.tensor([grammar.words[i].endswith("s") for i in x[:, 1].argmax(-1)])
    for row, plural in enumerate(plural_subject):
        singular, several = ([grammar.numbers[verb + end] for verb in VERBS] for end in ("s", ""))
        right[row, place, several if plural else singular] = 0.5
        wrong[row, place, singular if plural else several] = 0.5
    assert grammar.accuracy(right, y) == 1 and grammar.accuracy(wrong, y) == 0
    assert grammar.accuracy(torch.stack([right, wrong]), y.expand(2, -1, -1)).tolist() == [1, 0]
    nearest = torch.tensor([grammar.words[i].endswith("s") for i in x[:, place].argmax(-1)])
    assert (nearest == plural_subject).all() if attractors == 0 else (nearest != plural_subject).all()


def test_any_whole_number_of_attractors_will_do():
    assert Agreement(np.int64(2)).shares == Agreement(2).shares == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Agreement(-1), "attractors: expected a whole number of at least 0, got -1"),
        (lambda: Agreement((0.5, 0.4)), "attractors: expected a whole number, or shares that add up to 1"),
        (lambda: Agreement((1.5, -0.5)), "attractors: expected a whole number, or shares that add up to 1"),
        (lambda: Agreement(()), "attractors: expected a whole number, or shares that add up to 1"),
        (lambda: Agreement(0.5), "attractors: expected a whole number, or shares that add up to 1, got 0.5"),
        (lambda: Agreement("abc"), "attractors: expected a whole number, or shares that add up to 1, got 'abc'"),
        (lambda: Agreement().draw(0), "count: expected a whole number of at least 1, got 0"),
        (lambda: Agreement().entropy("word"), "per: expected one of 'sentence', 'token', 'character', got 'word'"),
    ],
)
def test_a_grammar_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- the course's own text ---------------------------------------------------------------------------------------------


def notebook(folder, name, *cells):
    cells = [{"cell_type": kind, "source": source} for kind, source in cells]
    (folder / name).write_text(json.dumps({"cells": cells}), encoding="utf-8")


def test_prose_is_the_markdown_of_notebooks_1_to_6_and_nothing_else(tmp_path):
    for number in range(1, 8):
        said = f"Paragraph *number* {number} says `code` and $x^2$, and gives a [link](http://x.y)."
        notebook(tmp_path, f"0{number}_a.ipynb", ("markdown", ["# Heading\n", "\n", said, "\n\nshort"]), ("code", "x = 1  # " + "no " * 30))
    notebook(tmp_path, "02_a.ipynb", ("markdown", "A naïve one, over\ntwo lines, with\n$$\nformula\n$$\n| a | table | row |\nand its end."))
    prose = course_prose(tmp_path)
    assert prose[1] == "a nave one, over two lines, with _ and its end."
    assert prose[0] == "paragraph number 1 says _ and _, and gives a link." and [p[17] for p in prose] == list("1") + [prose[1][17]] + list("3456")


def test_prose_has_no_word_of_a_fenced_block(tmp_path):
    before, after = ("{} the block there is a paragraph, long enough to count.".format(word) for word in ("Before", "After"))
    block = "```python\ncode = 'more than forty characters of words in a line'\n\nmore = 'and as many after an empty line'\n```"
    notebook(tmp_path, "01_a.ipynb", ("markdown", f"{before}\n\n{block}\n\n{after}\n\n{block}\n"), ("markdown", block))
    for number in range(2, 7):
        notebook(tmp_path, f"0{number}_a.ipynb")
    assert course_prose(tmp_path) == [before.lower(), after.lower()]


def test_prose_without_the_notebooks_says_what_is_missing(tmp_path):
    notebook(tmp_path, "01_a.ipynb")
    with pytest.raises(FileNotFoundError, match=r"not all in .*: found \['01_a.ipynb'\]. Clone the course"):
        course_prose(tmp_path)


def test_the_course_has_some_prose():
    prose = course_prose()
    text = "".join(prose)
    assert 50_000 < len(text) < 500_000 and text.isascii() and text == text.lower() and len(set(text)) < 75
    assert not any("$" in p or "`" in p or "\n" in p for p in prose)


# -- this file, and the exercises --------------------------------------------------------------------------------------


def test_every_public_name_is_used_here():
    public = [
        name
        for name, value in vars(sequences).items()
        if getattr(value, "__module__", "") == sequences.__name__ and not name.startswith("_")
    ]
    source = inspect.getsource(inspect.getmodule(test_every_public_name_is_used_here))
    assert [name for name in public if f"{name}(" not in source and f"{name}," not in source] == []


@pytest.mark.parametrize("name", ["make_windows", "masked_mean", "copy_memory_chance"])
def test_other_right_answers_pass(name):
    answers = {
        "make_windows": lambda series, length: (series[:-1].unfold(0, length, 1), series[length:]),
        "masked_mean": lambda losses, mask: losses[mask].mean(),
        "copy_memory_chance": lambda T, S, k: -S * math.log(1 / k) / (T + 2 * S),
    }
    assert name in EXERCISES
    result = getattr(check, name)(answers[name])
    assert result.score == 1, result.message


def test_the_exercise_on_chance_agrees_with_the_task():
    reference = EXERCISES["copy_memory_chance"].reference
    for T, S, k in [(20, 10, 8), (1, 1, 2), (100, 3, 5)]:
        assert math.isclose(reference(T, S, k), CopyMemory(T, S, k).chance_loss)


def test_the_exercise_on_chance_asks_for_sizes_that_tell_the_formulas_apart():
    """With one symbol, S ln k is ln k; and chance among few symbols lies near what some mistakes give."""
    generator = seeded()
    sizes = [EXERCISES["copy_memory_chance"].inputs(generator) for _ in range(200)]
    assert min(S for _, S, _ in sizes) == 2 and min(k for _, _, k in sizes) == 4


def test_the_exercise_on_windows_agrees_with_the_package():
    series = torch.randn(30, generator=seeded())
    x, y = EXERCISES["make_windows"].reference(series, 7)
    x_here, y_here = windows(series, 7)
    assert torch.equal(x, x_here[..., 0]) and torch.equal(y, y_here[:, 0, 0])


def test_attractors_take_either_number_whatever_the_subject_s_unless_they_disagree():
    for disagree, shares in ((False, (0.5, 0.5)), (True, (0.0, 1.0))):
        task = Agreement(1, disagree=disagree)
        words = task.draw(2000, torch.Generator().manual_seed(0))
        subject, attractor = (words[:, t] >= task.first_noun + len(NOUNS) for t in (1, 4))
        assert (subject == attractor).double().mean().item() == pytest.approx(shares[0], abs=0.05)


def test_accuracy_on_the_grammar_adds_up_the_verbs_of_each_number():
    grammar = Agreement(0)
    _, y = grammar.batch(50, torch.Generator().manual_seed(0))
    verbs = grammar.first_verb + torch.arange(2 * len(VERBS)).view(2, -1)  # singular, plural
    outputs = torch.full((50, 3, grammar.output_size), -9.0)
    for i, number in enumerate((y[:, 1] >= verbs[1, 0]).long()):
        outputs[i, 1, verbs[number]] = 0.0  # 6 of the right number, e^0 each
        outputs[i, 1, verbs[1 - number, 0]] = 1.0  # the single likeliest verb, e^1, has the wrong one
    assert grammar.accuracy(outputs, y) == 1


def test_missing_weeks_of_co2_lie_on_the_line_between_their_neighbours():
    import statsmodels.datasets

    weekly = statsmodels.datasets.co2.load_pandas().data["co2"]
    known = weekly.dropna()
    filled = np.interp(weekly.index.asi8, known.index.asi8, known)
    assert np.allclose(co2(), pd.Series(filled, weekly.index).resample("MS").mean())
