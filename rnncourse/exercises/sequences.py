"""The "Your turn" exercises of the notebook on sequences."""

import math

import torch

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import whole

# ---------------------------------------------------------------- windows of a series


def make_windows(series, length):
    n_windows = len(series) - length  # the last window needs a value after it
    x = torch.stack([series[i : i + length] for i in range(n_windows)])
    y = series[length:]  # window i ends at i + length - 1: the next value is number i + length
    return x, y


def _windows_inputs(generator):
    length = whole(generator, 3, 6)
    n = length * whole(generator, 3, 4) + whole(generator, 1, 2)
    return torch.randn(n, generator=generator), length


def _last_value_as_target(series, length):
    return make_windows(series, length)[0], series[length - 1 : -1]


def _target_two_ahead(series, length):
    return make_windows(series, length)[0][:-1], series[length + 1 :]


def _window_without_target(series, length):
    return series.unfold(0, length, 1), series[length:]


def _window_after_the_last(series, length):
    return series.unfold(0, length, 1), series[length - 1 :]


def _one_window_short(series, length):
    x, y = make_windows(series, length)
    return x[:-1], y[:-1]


def _side_by_side(series, length):
    x, y = make_windows(series, length)
    return x[::length], y[::length]


def _backwards(series, length):
    x, y = make_windows(series, length)
    return x.flip(1), y


def _windows_as_columns(series, length):
    x, y = make_windows(series, length)
    return x.T, y


MAKE_WINDOWS = Exercise(
    name="make_windows",
    reference=make_windows,
    inputs=_windows_inputs,
    tolerance=1e-6,
    hints=(
        "Write a series of 5 values, 0 1 2 3 4, on paper, with windows of length 2. Which windows have a value after them?",
        (
            "Window i holds the values i to i + length - 1; its target is value i + length, which must still exist: so i runs "
            "from 0 to n - length - 1."
        ),
        (
            "`x = torch.stack([series[i : i + length] for i in range(len(series) - length)])`; and the targets are a slice "
            "of the series: where does it start?"
        ),
    ),
    why="Of n values, the first `length` can't be targets, since no full window comes before them, and every other one can: "
    "n - length pairs. `rnncourse.sequences.windows` does the same by `unfold`, which makes views and copies nothing.",
    mistakes=(
        Mistake(
            _last_value_as_target,
            "the target is the last value of its own window: a model could copy it and forecast nothing. The value *after* "
            "window i is series[i + length]",
        ),
        Mistake(_target_two_ahead, "the target lies two steps after the window: the next value is series[i + length]"),
        Mistake(
            _window_without_target,
            "there is one window more than targets: the very last window of the series has no value after it",
        ),
        Mistake(
            _window_after_the_last,
            "the last window has no value after it, and every target is the last value of its own window: leave that "
            "window out, and let the targets start at series[length]",
        ),
        Mistake(
            _one_window_short,
            "one window is missing at the end: range(n) stops at n - 1 by itself, so take range(len(series) - length)",
        ),
        Mistake(_side_by_side, "your windows lie side by side: let them overlap, each one step after the one before"),
        Mistake(_backwards, "within a window, time runs backwards: the oldest value comes first"),
        Mistake(
            _windows_as_columns, "your windows are the columns of x: make them its rows, shape (n - length, length)"
        ),
        Mistake(
            lambda series, length: (make_windows(series, length)[0], series[:-length]),
            "each target is the first value of its own window: the value *after* window i is series[i + length]",
        ),
        Mistake(
            lambda series, length: make_windows(series, length)[::-1],
            "both are right, in the wrong order: the windows first, then their targets, x, y",
        ),
        Mistake(
            lambda series, length: make_windows(series, length)[0],
            "these are the windows alone, and they are right: return their targets, too, x, y",
        ),
    ),
)

# ---------------------------------------------------------------- the mean over real steps


def masked_mean(losses, mask):
    return losses[mask].sum() / mask.sum()


def _masked_inputs(generator):
    lengths = torch.tensor([whole(generator, 6, 8), whole(generator, 3, 5), whole(generator, 1, 2)])
    mask = torch.arange(8) < lengths.unsqueeze(1)
    return torch.rand(3, 8, generator=generator) + 0.5, mask


MASKED_MEAN = Exercise(
    name="masked_mean",
    reference=masked_mean,
    inputs=_masked_inputs,
    hints=(
        "A mean is a sum divided by a count. Which numbers belong in the sum, and how many are they?",
        (
            "Keep the losses where mask is True, add them up, divide by the number of True entries. Every real step then weighs "
            "the same, in a long name and in a short one."
        ),
        "`losses[mask]` is a flat tensor of the real steps' losses. What is its mean?",
    ),
    why="With m the mask, the loss is Σ m·loss / Σ m, over all sequences and steps at once. It is what you would get one by "
    "one, without padding: all the real steps' losses in one list, and their mean. (`losses[mask].mean()` says it shorter.)",
    mistakes=(
        Mistake(
            lambda losses, mask: losses.mean(),
            "this is the mean over all steps, padded ones included: use the mask to leave those out",
        ),
        Mistake(
            lambda losses, mask: (losses * mask).mean(),
            "the padded losses are zero in your sum, but still counted: divide by the number of real steps, mask.sum()",
        ),
        Mistake(
            lambda losses, mask: ((losses * mask).sum(1) / mask.sum(1)).mean(),
            "this is the mean of the sequences' means, in which a step of a short sequence weighs more: sum over all "
            "sequences first, then divide once",
        ),
        Mistake(
            lambda losses, mask: losses.sum() / mask.sum(),
            "the number of steps is right, but the padded losses are still in your sum: take losses[mask]",
        ),
        Mistake(
            lambda losses, mask: (losses * mask).sum() / len(losses),
            "you divide by the number of sequences, so longer ones cost more: divide by the number of real steps",
        ),
        Mistake(
            lambda losses, mask: (losses * mask).sum(),
            "this is the sum over the real steps: divide it by their number",
        ),
        Mistake(
            lambda losses, mask: losses[~mask].mean(),
            "this is the mean over the padded steps: True in the mask means real",
        ),
        Mistake(
            lambda losses, mask: (losses * mask).sum(1) / mask.sum(1),
            "these are the means of each sequence: the answer is one number, the mean over all real steps together",
        ),
    ),
)

# ---------------------------------------------------------------- chance on copy memory


def copy_memory_chance(T, S, k):
    steps = T + 2 * S  # S to listen, T - 1 blanks and the go signal, S to recall
    loss_blank = 0.0  # at T + S steps the answer is "blank", known in advance
    loss_recall = math.log(k)  # at the S others, 1/k for each symbol is the best without memory
    return ((T + S) * loss_blank + S * loss_recall) / steps


def _one_guess_for_all_steps(T, S, k):
    recalled = S / (T + 2 * S)  # the share of the steps that ask for a symbol
    return -(1 - recalled) * math.log(1 - recalled) - recalled * math.log(recalled / k)


def _copy_inputs(generator):
    return whole(generator, 5, 100), whole(generator, 2, 12), whole(generator, 4, 9)


COPY_MEMORY_CHANCE = Exercise(
    name="copy_memory_chance",
    reference=copy_memory_chance,
    inputs=_copy_inputs,
    hints=(
        (
            "Some targets are the same in every sequence: what do they cost one who knows the rules but remembers nothing? "
            "How many are the others?"
        ),
        (
            "The loss is a mean over all T + 2S steps. It is 0 at the T + S steps whose target is blank, and at each of the S "
            "others what one of k equally likely symbols costs."
        ),
        "One of k equally likely symbols costs -log(1/k) = log(k) nats; S of T + 2S steps cost that much.",
    ),
    why="Who remembers nothing still knows the clock: blank at T + S steps, for free, and 1/k for each symbol at the last S. "
    "So the loss is S ln k / (T + 2S). It shrinks as the delay grows, with no merit of anybody's: a small loss on this task "
    "says nothing until you compare it with this number.",
    mistakes=(
        Mistake(
            lambda T, S, k: math.log(k),
            "log(k) is the cost of a recalled step: the loss is the mean over all T + 2S steps, most of which ask for blank",
        ),
        Mistake(
            lambda T, S, k: S * math.log(k) / (T + S),
            "you divide by T + S steps: the S steps at which the message is heard count as well, T + 2S in all",
        ),
        Mistake(
            lambda T, S, k: S * math.log(k) / T,
            "you divide by T, the delay alone: the loss is the mean over all steps, T + 2S of them",
        ),
        Mistake(
            lambda T, S, k: S * math.log(k) / T + 2 * S,
            "the brackets are missing: you divide by T and then add 2S; divide by (T + 2 * S)",
        ),
        Mistake(
            lambda T, S, k: ((T + S) * math.log(k + 1) + S * math.log(k)) / (T + 2 * S),
            "your blanks cost ln(k + 1): who counts the steps knows where blank is asked, and it costs nothing",
        ),
        Mistake(
            lambda T, S, k: S * math.log2(k) / (T + 2 * S),
            "this is in bits: the course's losses are in nats, so take the natural logarithm, math.log",
        ),
        Mistake(
            lambda T, S, k: S * math.log(k + 1) / (T + 2 * S),
            "you spread the guess over k + 1 classes: blank is never the target at the last S steps, so k remain",
        ),
        Mistake(
            lambda T, S, k: math.log(k + 1),
            "that guesses blindly among all k + 1 classes at every step: who knows the rules knows where blank is asked",
        ),
        Mistake(
            _one_guess_for_all_steps,
            "this is the entropy of all targets taken together, the best guess of one who doesn't count the steps: at each "
            "step, take the frequencies of the classes at that step",
        ),
        Mistake(
            lambda T, S, k: math.log(k) / (T + 2 * S),
            "this counts one recalled symbol: there are S of them",
        ),
        Mistake(
            lambda T, S, k: S * math.log(k),
            "this is the sum over the steps: the loss is their mean, so divide by T + 2S",
        ),
        Mistake(
            lambda T, S, k: -S * math.log(k) / (T + 2 * S),
            "the sign is wrong: a probability of 1/k costs -log(1/k) = +log(k)",
        ),
    ),
)

EXERCISES = (MAKE_WINDOWS, MASKED_MEAN, COPY_MEMORY_CHANCE)
