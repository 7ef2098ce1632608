"""Exercise 5 of notebook 08: a network that speaks, and whether its verbs agree with their subjects."""

import torch
from torch import nn
from torch.nn import functional as F

from rnncourse.exercises.checking import Exercise, Mistake, Wrong
from rnncourse.exercises.clipping import in_turn
from rnncourse.exercises.experiments import ENOUGH, PAIR, SWAPPED, as_share, model_and_number, outputs_of
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import one_hot

# ---------------------------------------------------------------- 5a: a word at a time


@torch.no_grad()
def generate(model, start, length, temperature=1.0):
    words, h = [], None
    outputs, h = model(one_hot(start, model.input_size).unsqueeze(0), h)  # read the start
    for _ in range(length):
        p = torch.softmax(outputs[0, -1] / temperature, dim=0)
        words.append(int(torch.multinomial(p, 1)))
        outputs, h = model(one_hot(torch.tensor([[words[-1]]]), model.input_size), h)  # say a word, hear it
    return words


def a_speaker(generator):
    """In turn a lively network at a temperature near 0, where it says its favourites, and a loaded die at a temperature of 3."""
    lively, model = in_turn(generator, True, False), VanillaRNN(5, 12, 5)
    while True:  # until every way to go wrong is heard, and every favourite is clear
        start = torch.randint(5, (int(torch.randint(4, 7, (), generator=generator)),), generator=generator)
        if not lively:
            break
        randomize(model, generator)
        typical = [favourites(model, start, 14), *ways_to_go_wrong(model, start, 14).values()]
        if len(set(map(tuple, typical))) == len(typical) and least_lead(model, start, typical[0]) > 0.05:
            return model, start, 14, 1e-3
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.W_hy.bias[torch.randint(5, (), generator=generator)] = 2.8
    return model, start, 500, 3.0


@torch.no_grad()
def randomize(model, generator):
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def least_lead(model, start, words):
    """By how much, at least, the favourite's logit leads when the network says these words."""
    heard = torch.cat([start, torch.tensor(words[:-1])])
    logits = model(one_hot(heard.unsqueeze(0), model.input_size))[0][0, len(start) - 1 :].sort(dim=-1).values
    return float((logits[:, -1] - logits[:, -2]).min())


NO_WORDS = "return the words that were said, a list or tensor of numbers from 0 to the size of the vocabulary less 1"
COUNT = "you return more or fewer words than `length`"
WITH_START = "you return the start with the rest: only the `length` new words are asked for"
FORGETS = "the network forgets from word to word: hand the state that it returns on to the next call, model(x, h)"
LAST_ONLY = "the network has heard only the last word of `start`: let it read all of them"
DEAF = "the network does not hear what it says: the word just drawn is the next input"
READ_TWICE = "the last word of `start` is read twice: the outputs at it already tell the first new word"
BACKWARDS = "`start` is read backwards"
LAST_OUTPUT = "you take the output at the first word of `start`: the one at its last word tells what comes next"
FAVOURITE = (
    "at a temperature of 3 it still says its favourite nearly always: draw from the probabilities, torch.multinomial(p, 1), and "
    "divide by the temperature, don't multiply"
)
NO_TEMPERATURE = "the temperature has no effect: divide the outputs by it before the softmax"
EVENLY = "every word comes equally often: draw with the probabilities softmax(outputs / temperature)"
ELSE = "the words are not those that this network says: compare yours step by step with the hints"


def favourites(model, start, length, carry=True, hear=True):
    """What the network says at a temperature near 0."""
    words, h, heard = [], None, start
    with torch.no_grad():
        for _ in range(length):
            outputs, h = model(one_hot(heard.unsqueeze(0), model.input_size), h if carry else None)
            words.append(int(outputs[0, -1].argmax()))
            heard = torch.tensor(words[-1:]) if hear else heard[-1:]
    return words


def judge_words(words, model, start, length, temperature):
    try:
        words = [int(word) for word in (words.flatten() if isinstance(words, torch.Tensor) else words)]
    except (TypeError, ValueError, RuntimeError):
        return NO_WORDS
    if not all(0 <= word < model.output_size for word in words):
        return NO_WORDS
    if len(words) == length + len(start) and words[: len(start)] == start.tolist():
        return WITH_START
    if len(words) != length:
        return COUNT
    if temperature > 1:
        return judge_frequency(words, model, temperature)
    if words == favourites(model, start, length):
        return ""
    typical = ways_to_go_wrong(model, start, length)
    return next((fault for fault, heard in typical.items() if words == heard), ELSE)


def ways_to_go_wrong(model, start, length):
    """What is said, near a temperature of 0, by each typical mistake."""
    words = favourites(model, start, length)
    with torch.no_grad():
        first = model(one_hot(start[:1].unsqueeze(0), model.input_size))[0]
    return {
        FORGETS: favourites(model, start, length, carry=False),
        LAST_ONLY: favourites(model, start[-1:], length),
        DEAF: favourites(model, start, length, hear=False),
        READ_TWICE: favourites(model, torch.cat([start, start[-1:]]), length),
        BACKWARDS: favourites(model, start.flip(0), length),
        LAST_OUTPUT: [int(first[0, -1].argmax()), *words[1:]],
    }


def judge_frequency(words, model, temperature):
    """Whether the loaded face comes up as often as at this temperature it should: 500 throws tell the cases apart."""
    logits = model.W_hy.bias.detach()
    face = int(logits.argmax())
    came_up = words.count(face) / len(words)
    expected = {
        "": torch.softmax(logits / temperature, 0)[face],
        NO_TEMPERATURE: torch.softmax(logits, 0)[face],
        FAVOURITE: torch.tensor(1.0),
        EVENLY: torch.tensor(1 / len(logits)),
    }
    fault = min(expected, key=lambda fault: abs(float(expected[fault]) - came_up))
    return fault if abs(float(expected[fault]) - came_up) < 0.1 else ELSE


def said(carry=True, all_of_start=True, hear=True, draw=None, wrap=None, prepare=None):
    """``generate`` done another way, for the bank of mistakes."""

    @torch.no_grad()
    def answer(model, start, length, temperature=1.0):
        heard, h, words = (start if all_of_start else start[-1:]), None, []
        heard = prepare(heard) if prepare else heard
        for _ in range(length):
            outputs, h = model(one_hot(heard.unsqueeze(0), model.input_size), h if carry else None)
            p = torch.softmax(outputs[0, -1] / temperature, 0)
            words.append(int(draw(outputs[0, -1], temperature) if draw else torch.multinomial(p, 1)))
            heard = torch.tensor(words[-1:]) if hear else heard[-1:]
        return wrap(words, start) if wrap else words

    return answer


def thrown(p):
    return torch.multinomial(p, 1)


GENERATE = Exercise(
    name="generate",
    points=2,
    reference=generate,
    inputs=a_speaker,
    judge=judge_words,
    trials=2,
    hints=(
        "First let the network read `start`. Its outputs at the last word are the scores of the first new word. What must it be given "
        "to say the second?",
        "Two things go on from word to word: the state h, which the call returns, and the word just drawn, which is the next input. "
        "The probabilities are softmax(outputs / temperature).",
        "`outputs, h = model(one_hot(start, model.input_size).unsqueeze(0))`; then `length` times: `p = torch.softmax(outputs[0, -1] "
        "/ temperature, dim=0)`, `w = int(torch.multinomial(p, 1))`, `outputs, h = model(one_hot(torch.tensor([[w]]), "
        "model.input_size), h)`.",
    ),
    why="The state carries all that was said, so each word costs one step, however long the text. Dividing by the temperature "
    "sharpens the probabilities below 1 and flattens them above; near 0 only the favourite is left.",
    mistakes=(
        Mistake(said(carry=False), FORGETS),
        Mistake(said(all_of_start=False), LAST_ONLY),
        Mistake(said(hear=False), DEAF),
        Mistake(said(prepare=lambda start: torch.cat([start, start[-1:]])), READ_TWICE),
        Mistake(said(prepare=lambda start: start.flip(0)), BACKWARDS),
        Mistake(said(wrap=lambda words, start: start.tolist() + words), WITH_START),
        Mistake(said(wrap=lambda words, start: words[:-1]), COUNT),
        Mistake(said(draw=lambda logits, T: logits.argmax()), FAVOURITE),
        Mistake(said(draw=lambda logits, T: thrown(torch.softmax(logits * (1 if T > 1 else 1 / T), 0))), NO_TEMPERATURE),
        Mistake(said(draw=lambda logits, T: thrown(torch.ones(5)) if T > 1 else logits.argmax()), EVENLY),
    ),
)

# ---------------------------------------------------------------- 5b: does the verb agree?


@torch.no_grad()
def agreement(model, prefixes, right, wrong):
    outputs = model(one_hot(prefixes, model.input_size))[0][:, -1]  # (tests, words), after the last word of each prefix
    tests = torch.arange(len(prefixes))
    return (outputs[tests, right] > outputs[tests, wrong]).float().mean()


def some_tests(generator):
    """A random network, and 31 prefixes with two different words each of which one is right."""
    k, T = (int(torch.randint(low, low + 4, (), generator=generator)) for low in (7, 4))
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
        "`model(one_hot(prefixes, model.input_size))[0][:, -1]` has the scores, (tests, words). A test is passed if the score of its "
        "right word is above that of its wrong one.",
        "`tests = torch.arange(len(prefixes))`; `(outputs[tests, right] > outputs[tests, wrong]).float().mean()`.",
    ),
    why="The comparison of two forms asks for the number alone: which verb would fit best, and whether a verb may come here at all, does "
    "not count (Linzen, Dupoux & Goldberg 2016). Softmax would change nothing, it keeps the order.",
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
            lambda m, p, r, w: (of(scores(m, p, at=0), r) > of(scores(m, p, at=0), w)).float().mean(),
            "you look at the outputs after the first word: take those after the last, [:, -1]",
        ),
        Mistake(
            lambda m, p, r, w: (of(scores(m, p, carry=False), r) > of(scores(m, p, carry=False), w)).float().mean(),
            "the network has read only the last word of each prefix: let it read the whole",
        ),
        Mistake(
            lambda m, p, r, w: (scores(m, p)[:, r] > scores(m, p)[:, w]).float().mean(),
            "outputs[:, right] takes every test's words for every test, a square table: index both, outputs[tests, right] with tests = "
            "torch.arange(len(prefixes))",
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


def little_language(count, nouns_between, generator):
    """Sentences of a language in which 0 ends and fills, 1 is "the", 2 "near", 3-5 | 6-8 nouns and 9-10 | 11-12 verbs of the two numbers.

    Returns the sentences (count, 3 nouns_between + 5), their subjects' number, and for each its verb.
    """
    number = torch.randint(2, (count, 1), generator=generator)

    def nouns(number):
        return 3 + 3 * number + torch.randint(3, (count, 1), generator=generator)

    parts = [torch.zeros(count, 1, dtype=torch.long), torch.ones(count, 1, dtype=torch.long), nouns(number)]
    for _ in range(nouns_between):
        parts += [torch.full((count, 1), 2), torch.ones(count, 1, dtype=torch.long), nouns(1 - number)]
    verb = torch.randint(2, (count, 1), generator=generator)
    parts += [9 + 2 * number + verb, torch.zeros(count, 1, dtype=torch.long)]
    return torch.cat(parts, dim=1), (9 + 2 * number + verb).squeeze(1), (9 + 2 * (1 - number) + verb).squeeze(1)


def speaking_runs(generator):
    """In turn a run that must learn what stands next to each other, and one of 2 updates, which can't have."""
    short, long = little_language(240, 0, generator)[0], little_language(40, 1, generator)[0]
    words = torch.cat([F.pad(short, (0, 3)), long])
    tests = []
    for between in range(3):
        sentences, right, wrong = little_language(41, between, generator)
        tests.append((sentences[:, :-2], right, wrong))
    return words, 13, tests, in_turn(generator, 80, 2), int(torch.randint(1000, (), generator=generator))


SHARES = "return one share for each test, in their order: {} are expected"
OTHER_SHARES = (
    "the shares that you return are not those of the model that you return: measure them at the end, with `agreement(model, *test)` "
    "for each test, and nothing typed in"
)
SHARES_IN_PERCENT = "your shares are in per cent: return them between 0 and 1"
AVERAGED = "all your shares are the same number, the mean over the tests: each distance has its own"
NOT_SHIFTED = "your network learned to repeat the word it has just heard: the target at each step is the next word, words[:, 1:]"
STILL_GUESSES = (
    "after 80 updates your model still guesses the next word: is `optimizer.step()` called, and are gradients set to zero before "
    "each `backward`?"
)
TOO_SLOW = (
    "after 80 updates your model has the verb wrong even right after its subject: take Adam with rate 0.01, batches of 32 sentences "
    "drawn from all of `words`, and the loss over every next word"
)
TRAINED_AT_TWO = "asked for 2 updates your model has learned the language already: make just `steps` updates"


def judge_agreement(result, words, k, tests, steps, seed):
    model, shares = model_and_number(result)
    if isinstance(shares, torch.Tensor) and shares.ndim == 1:
        shares = shares.tolist()
    if isinstance(shares, dict):
        shares = list(shares.values())
    if not isinstance(shares, (list, tuple)) or len(shares) != len(tests):
        raise Wrong(SHARES.format(len(tests)))
    shares = [as_share(share) for share in shares]
    measured = []
    for prefixes, right, wrong in tests:
        outputs = outputs_of(model, one_hot(prefixes, k), k)[:, -1]
        measured.append(float((of(outputs, right) > of(outputs, wrong)).float().mean()))

    def agree(others):
        return max(abs(share - other) for share, other in zip(shares, others)) < 1.01 / len(tests[0][0])

    if not agree(measured):
        mean = sum(measured) / len(measured)
        if max(shares) > 1 and agree([100 * share for share in measured]):
            return SHARES_IN_PERCENT
        return AVERAGED if agree([mean] * len(tests)) else OTHER_SHARES
    outputs = outputs_of(model, one_hot(words[:, :-1], k), k)
    loss = F.cross_entropy(outputs.flatten(0, 1), words[:, 1:].flatten())
    if steps < ENOUGH:
        return TRAINED_AT_TWO if loss < 1.2 else ""
    if (outputs.argmax(-1) == words[:, :-1]).float().mean() > 0.95:
        return NOT_SHIFTED
    if loss > 1.8:
        return STILL_GUESSES
    return "" if measured[0] > 0.9 else TOO_SLOW


def spoken(target=slice(1, None), updates=None, lr=1e-2, learn=True, report=None):
    """``agreement_experiment`` done another way, for the bank of mistakes."""

    def answer(words, k, tests, steps, seed):
        torch.manual_seed(seed)
        model = VanillaRNN(k, 32, k)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for _ in range(updates or steps):
            batch = words[torch.randint(len(words), (32,))]
            outputs = model(one_hot(batch[:, :-1], k))[0]
            loss = F.cross_entropy(outputs.flatten(0, 1), batch[:, target].flatten())
            optimizer.zero_grad()
            loss.backward()
            if learn:
                optimizer.step()
        shares = [float(agreement(model, *test)) for test in tests]
        return report(model, shares) if report else (model, shares)

    return answer


AGREEMENT_EXPERIMENT = Exercise(
    name="agreement_experiment",
    points=2,
    reference=agreement_experiment,
    inputs=speaking_runs,
    judge=judge_agreement,
    trials=2,
    seconds=30.0,
    hints=(
        "Every word of a sentence is a target for the words before it. What goes in, and what is to come out, if `batch` holds whole "
        "sentences?",
        "In: batch[:, :-1], one-hot. Out: batch[:, 1:]. A batch is `words[torch.randint(len(words), (32,))]`. Cross-entropy, Adam "
        "with rate 0.01, norm clipped to 1. In the end your `agreement` for each test.",
        "In the loop: `outputs = model(one_hot(batch[:, :-1], k))[0]`, `F.cross_entropy(outputs.flatten(0, 1), batch[:, "
        "1:].flatten())`, zero_grad, backward, step. After it `return model, [agreement(model, *test) for test in tests]`.",
    ),
    why="The network is never told about subjects. It is asked for the next word, everywhere, and the verb is one word among them: "
    "agreement is learned only as far as it helps to guess. That is why it reaches as far as the corpus makes it pay.",
    mistakes=(
        Mistake(spoken(report=lambda model, shares: (model, shares[:1])), SHARES.format(3)),
        Mistake(spoken(report=lambda model, shares: (shares, model)), SWAPPED),
        Mistake(spoken(report=lambda model, shares: model), PAIR),
        Mistake(spoken(report=lambda model, shares: (model, [100 * s for s in shares])), SHARES_IN_PERCENT),
        Mistake(spoken(report=lambda model, shares: (model, [0.99, 0.66, 0.33])), OTHER_SHARES),
        Mistake(spoken(report=lambda model, shares: (model, [sum(shares) / 3] * 3)), AVERAGED),
        Mistake(spoken(target=slice(None, -1)), NOT_SHIFTED),
        Mistake(spoken(learn=False), STILL_GUESSES),
        Mistake(spoken(lr=1.2e-3), TOO_SLOW),
        Mistake(spoken(updates=80), TRAINED_AT_TWO),
    ),
)

EXERCISES = (GENERATE, AGREEMENT, AGREEMENT_EXPERIMENT)
