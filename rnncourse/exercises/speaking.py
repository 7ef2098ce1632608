"""Exercises 5b and 5c of notebook 08: whether a network's verbs agree with their subjects, and over what distance."""

import torch
from torch import nn
from torch.nn import functional as F

from rnncourse.exercises.checking import Exercise, Mistake, Wrong
from rnncourse.exercises.experiments import (
    ENOUGH,
    NOT_SEEDED,
    PAIR,
    SWAPPED,
    after_two_as,
    as_share,
    fit,
    model_and_number,
    outputs_of,
    seeded,
    two_updates,
)
from rnncourse.exercises.generating import randomize
from rnncourse.exercises.inputs import in_turn, whole
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import one_hot

# ---------------------------------------------------------------- 5b: does the verb agree?


@torch.no_grad()
def agreement(model, prefixes, right, wrong):
    outputs = model(one_hot(prefixes, model.input_size))[0][:, -1]  # (tests, words), at the end
    tests = torch.arange(len(prefixes))
    return (outputs[tests, right] > outputs[tests, wrong]).float().mean()


def some_tests(generator):
    """A random network, and 31 prefixes with two different words each of which one is right."""
    k, T = (whole(generator, low, low + 3) for low in (7, 4))
    model = VanillaRNN(k, 8, k)
    randomize(model, generator)
    words = torch.rand(31, k, generator=generator).argsort(dim=1)
    return model, torch.randint(k, (31, T), generator=generator), words[:, 0], words[:, 1]


@torch.no_grad()
def scores(model, prefixes, at=-1, carry=True):
    x = one_hot(prefixes, model.input_size)
    return model(x if carry else x[:, at:])[0][:, at]


def of(outputs, words):
    return outputs.gather(1, words.unsqueeze(1)).squeeze(1)


AGREEMENT = Exercise(
    name="agreement",
    points=1,
    reference=agreement,
    inputs=some_tests,
    tolerance=1e-6,
    hints=(
        "After a prefix the network has a score for every word. Two of them matter. Which step of the outputs is it?",
        "`model(one_hot(prefixes, model.input_size))[0][:, -1]` has the scores, (tests, words). A test is passed if "
        "the score of its right word is above that of its wrong one.",
        "`tests = torch.arange(len(prefixes))`; `(outputs[tests, right] > outputs[tests, wrong]).float().mean()`.",
    ),
    why="The comparison of two forms asks for the number alone: which verb would fit best, and whether a verb may "
    "come here at all, does not count (Linzen, Dupoux & Goldberg 2016). Softmax would change nothing, it keeps the "
    "order.",
    mistakes=(
        Mistake(
            lambda m, p, r, w: (scores(m, p).argmax(1) == r).float().mean(),
            "you ask whether the right word is the best of all words: compare it with its wrong form alone",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p), r) < of(scores(m, p), w)).float().mean(),
            "this is the share of failed tests: the right word's score must be above the wrong one's",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p), r) > of(scores(m, p), w)).float().sum(),
            "this is the number of passed tests: divide by how many there are",
        ),
        Mistake(
            lambda m, p, r, w: 100 * (of(scores(m, p), r) > of(scores(m, p), w)).float().mean(),
            "this is in per cent: return the share, between 0 and 1",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p), r) - of(scores(m, p), w)).sigmoid().mean(),
            "this is the mean probability of the right word beside the wrong one: count the tests in which it is "
            "above one half",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p, at=0), r) > of(scores(m, p, at=0), w)).float().mean(),
            "you look at the outputs after the first word: take those after the last, [:, -1]",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p, carry=False), r) > of(scores(m, p, carry=False), w)).float().mean(),
            "the network has read only the last word of each prefix: let it read the whole",
        ),
        Mistake(
            lambda m, p, r, w: (scores(m, p)[:, r] > scores(m, p)[:, w]).float().mean(),
            "outputs[:, right] takes every test's words for every test, a square table: index both, outputs[tests, "
            "right] with tests = torch.arange(len(prefixes))",
        ),
        Mistake(
            lambda m, p, r, w: of(scores(m, p).softmax(1), r).mean(),
            "this is the mean probability of the right word: count the tests in which it is above the wrong one",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p), r) > of(scores(m, p), w)).float(),
            "these are the single tests: return the share that is passed, their mean",
        ),
    ),
)

# ---------------------------------------------------------------- 5c: over what distance?


def agreement_experiment(words, k, tests, steps, seed):
    torch.manual_seed(seed)
    model = VanillaRNN(k, 32, k)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        batch = words[torch.randint(len(words), (32,))]
        outputs = model(one_hot(batch[:, :-1], k))[0]  # at each word, the scores of the next
        loss = F.cross_entropy(outputs.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, [agreement(model, *test) for test in tests]


def little_language(count, between, generator):
    """Sentences such as "dogs often run .", with ``between`` adverbs before the verb, as numbers of words.

    Not the notebook's language, and sooner learned: 0 is the full stop, 1-2 are adverbs, 3 | 4 the nouns of the two
    numbers and 5-6 | 7-8 their verbs.

    Returns the sentences (count, between + 3), and for each its verb in the right and in the wrong number.
    """

    def even(n, columns=1):
        return torch.randint(n, (count, columns), generator=generator)

    number, verb = even(2), 5 + even(2)
    right, wrong = verb + 2 * number, verb + 2 * (1 - number)
    stop = torch.zeros_like(verb)
    words = torch.cat([3 + number, 1 + even(2, between), right, stop], dim=1)
    return words, right.squeeze(1), wrong.squeeze(1)


def speaking_runs(generator):
    """In turn a run that must learn to agree, at once and past an adverb, and one of 2 updates, which can't have.

    The first 32 sentences are all of one number: who trains on the first batch alone can't learn the other.
    The last test has two verbs of the right number: its share lies near a half, and is no mean of all three.
    """
    short, long = (little_language(140, between, generator)[0] for between in (0, 1))
    words = torch.cat([F.pad(short, (0, 1)), long])[torch.randperm(280, generator=generator)]
    singular = words[:, 0] < 4
    words = torch.cat([words[singular][:32], words[~singular], words[singular][32:]])
    words[32:] = words[32:][torch.randperm(248, generator=generator)]
    tests = []
    for between in range(3):
        sentences, right, wrong = little_language(41, between, generator)
        other = 5 + ((right - 5) ^ 1)  # of the same number
        tests.append((sentences[:, :-2], right, other if between == 2 else wrong))
    return words, 9, tests, in_turn(generator, UPDATES, 2), whole(generator, 0, 999)


UPDATES = 40  # so many are asked for: 200 correct runs of 200 then agree in every test, at once and past an adverb

SHARES = "return one share for each test, in their order: {} are expected"
OTHER_SHARES = (
    "the shares that you return are not those of the model that you return: measure them at the end, with "
    "`agreement(model, *test)` for each test, and nothing typed in. If your `agreement` is not right yet, mend that first: this "
    "builds on it"
)
FAILED_SHARES = "these are the shares of verbs that do not agree: is your `agreement` right yet? Mend that first, this builds on it"
SHARES_IN_PERCENT = "your shares are in per cent: return them between 0 and 1"
AVERAGED = "all your shares are the same number, the mean over the tests: each distance has its own"
NOT_SHIFTED = (
    "your network learned to repeat the word it has just heard: the target at each step is the next word, words[:, 1:]"
)
STILL_GUESSES = (
    f"after {UPDATES} updates your model still guesses the next word: is `optimizer.step()` called, is it Adam with rate 0.01, are "
    "gradients set to zero before each `backward`, and does every output, at every place, meet the word that follows there, a full stop too?"
)
TOO_SLOW = (
    f"after {UPDATES} updates your model has the verb wrong even right after its subject: take Adam with rate 0.01, batches of "
    "32 sentences drawn from all of `words`, and the loss over every next word"
)
FORGETFUL = (
    f"after {UPDATES} updates your model's verbs agree with a noun right before them, but not past an adverb: does it read "
    "whole sentences, its state going on from word to word, in batches of 32 with Adam's rate at 0.01?"
)
SAME_SENTENCES = "you train on the same 32 sentences at every update: draw new ones in the loop"
TRAINED_AT_TWO = "asked for 2 updates your model has learned the language already: make just `steps` updates"


def judge_agreement(result, words, k, tests, steps, seed):
    model, shares = model_and_number(result, k, 32, k)
    if isinstance(shares, torch.Tensor) and shares.ndim == 1:
        shares = shares.tolist()
    if isinstance(shares, dict):
        shares = list(shares.values())
    if not isinstance(shares, (list, tuple)) or len(shares) != len(tests):
        raise Wrong(SHARES.format(len(tests)))
    shares = [as_share(share) for share in shares]
    measured = []
    for prefixes, right, wrong in tests:
        outputs = outputs_of(model, one_hot(prefixes, k))[:, -1]
        measured.append(float((of(outputs, right) > of(outputs, wrong)).float().mean()))

    def agree(others):
        return max(abs(share - other) for share, other in zip(shares, others)) < 1.01 / len(tests[0][0])

    if not agree(measured):
        if agree([1 - share for share in measured]):
            return FAILED_SHARES
        mean = sum(measured) / len(measured)
        if max(shares) > 1 and agree([100 * share for share in measured]):
            return SHARES_IN_PERCENT
        return AVERAGED if agree([mean] * len(tests)) else OTHER_SHARES
    outputs = outputs_of(model, one_hot(words[:32, :-1], k))  # who learned these alone does not guess, but is wrong
    loss = F.cross_entropy(outputs.flatten(0, 1), words[:32, 1:].flatten())
    if steps < ENOUGH:
        if loss < 1.0:
            return TRAINED_AT_TWO
        if not seeded(model, seed):
            return NOT_SEEDED
        return after_two_as(model, {SAME_SENTENCES: {"fresh": False}}, after_two_sentences, words, k, seed)
    if (outputs.argmax(-1) == words[:32, :-1]).float().mean() > 0.95:
        return NOT_SHIFTED
    if loss > 1.2:
        return STILL_GUESSES
    return TOO_SLOW if measured[0] < 0.95 else FORGETFUL if measured[1] < 0.95 else ""


def after_two_sentences(words, k, seed, fresh=True):
    """W_hh of a speaking network after 2 updates."""

    def batch():
        sentences = words[torch.randint(len(words), (32,))]
        return one_hot(sentences[:, :-1], k), sentences[:, 1:]

    return two_updates((k, 32, k), batch, 1e-2, seed, fresh=fresh)


def spoken(
    pairs=lambda batch: (batch[:, :-1], batch[:, 1:]),
    of_words=None,
    updates=None,
    lr=1e-2,
    learn=True,
    seed=None,
    report=None,
    fresh=True,
):
    """``agreement_experiment`` done another way, for the bank of mistakes. ``pairs(batch)``: what goes in and out."""

    def answer(words, k, tests, steps, its_seed):
        def batch():
            some = words[of_words] if of_words else words
            heard, said = pairs(some[torch.randint(len(some), (32,))])
            return one_hot(heard, k), said

        torch.manual_seed(its_seed if seed is None else seed)
        model = VanillaRNN(k, 32, k)
        one = None if fresh else batch()
        fit(model, lambda: one or batch(), updates or steps, lr, learn)
        shares = [float(agreement(model, *test)) for test in tests]
        return report(model, shares) if report else (model, shares)

    return answer


def one_by_one(batch):
    """Every word of a batch as a sequence of its own, and the word after it."""
    return batch[:, :-1].reshape(-1, 1), batch[:, 1:].reshape(-1, 1)


AGREEMENT_EXPERIMENT = Exercise(
    name="agreement_experiment",
    points=2,
    reference=agreement_experiment,
    inputs=speaking_runs,
    judge=judge_agreement,
    trials=2,
    seconds=30.0,
    hints=(
        "Every word of a sentence is a target for the words before it. What goes in, and what is to come out, if "
        "`batch` holds whole sentences?",
        "In: batch[:, :-1], one-hot. Out: batch[:, 1:]. A batch is `words[torch.randint(len(words), (32,))]`. "
        "Cross-entropy, Adam with rate 0.01, norm clipped to 1. In the end your `agreement` for each test.",
        "In the loop: `outputs = model(one_hot(batch[:, :-1], k))[0]`, `F.cross_entropy(outputs.flatten(0, 1), "
        "batch[:, 1:].flatten())`, zero_grad, backward, step. After it `return model, [agreement(model, *test) for "
        "test in tests]`.",
    ),
    why="The network is never told about subjects. It is asked for the next word, everywhere, and the verb is one "
    "word among them: agreement is learned only as far as it helps to guess. That is why it reaches as far as the "
    "corpus makes it pay.",
    mistakes=(
        Mistake(spoken(report=lambda model, shares: (model, shares[:1])), SHARES.format(3)),
        Mistake(spoken(report=lambda model, shares: (shares, model)), SWAPPED),
        Mistake(spoken(report=lambda model, shares: model), PAIR),
        Mistake(spoken(report=lambda model, shares: (model, [100 * s for s in shares])), SHARES_IN_PERCENT),
        Mistake(spoken(report=lambda model, shares: (model, [0.99, 0.66, 0.33])), OTHER_SHARES),
        Mistake(spoken(report=lambda model, shares: (model, [1 - s for s in shares])), FAILED_SHARES),
        Mistake(spoken(report=lambda model, shares: (model, [sum(shares) / 3] * 3)), AVERAGED),
        Mistake(spoken(lambda batch: (batch[:, :-1], batch[:, :-1])), NOT_SHIFTED),
        Mistake(spoken(learn=False), STILL_GUESSES),
        Mistake(spoken(of_words=slice(32)), TOO_SLOW),
        Mistake(spoken(one_by_one), FORGETFUL),
        Mistake(spoken(seed=-1), NOT_SEEDED),
        Mistake(spoken(updates=80), TRAINED_AT_TWO),
        Mistake(spoken(fresh=False), SAME_SENTENCES),
    ),
)

EXERCISES = (AGREEMENT, AGREEMENT_EXPERIMENT)
