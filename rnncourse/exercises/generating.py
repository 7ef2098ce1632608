"""Exercise 5a of notebook 08: a network that speaks, a word at a time."""

import torch
from torch.distributions import Binomial
from torch.nn import functional as F

from rnncourse.exercises.checking import Exercise, Mistake
from rnncourse.exercises.inputs import in_turn, whole
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import one_hot


@torch.no_grad()
def generate(model, start, length, temperature=1.0):
    words, h = [], None
    outputs, h = model(one_hot(start, model.input_size).unsqueeze(0), h)  # read the start
    for _ in range(length):
        p = torch.softmax(outputs[0, -1] / temperature, dim=0)
        words.append(int(torch.multinomial(p, 1)))
        x = one_hot(torch.tensor([words[-1:]]), model.input_size)  # what it said, it hears
        outputs, h = model(x, h)
    return words


def a_speaker(generator):
    """In turn a loaded die at temperature 2, a lively network near 0, where it says its favourites, a parrot at 1."""
    make = in_turn(generator, a_die, a_lively_one, a_parrot)
    return make(generator)


def a_start(generator, words):
    return torch.randint(words, (whole(generator, 4, 6),), generator=generator)


@torch.no_grad()
def a_die(generator):
    """A network that hears nothing: thirty words come equally often, one more often."""
    model = VanillaRNN(31, 4, 31)
    for parameter in model.parameters():
        parameter.zero_()
    model.W_hy.bias[whole(generator, 0, 30)] = 6.0
    return model, a_start(generator, 31), 100, 2.0


def a_lively_one(generator):
    """A random network in which every way to go wrong is heard, and every favourite is clear."""
    model = VanillaRNN(5, 12, 5)
    while True:
        start = a_start(generator, 5)
        randomize(model, generator)
        words = favourites(model, start, 14)
        if least_lead(model, start, words) < 0.05:  # before the six ways: it is one call where they are a hundred
            continue
        typical = [words, *ways_to_go_wrong(model, start, 14).values()]
        if len(set(map(tuple, typical))) == len(typical):
            return model, start, 14, 1e-3


@torch.no_grad()
def a_parrot(generator):
    """A network that after word 0 says any other word, and after any other that word again, if it hears it one-hot."""
    model = VanillaRNN(5, 5, 5)
    for parameter in model.parameters():
        parameter.zero_()
    model.W_xh.weight.fill_diagonal_(5.0)
    model.W_hy.weight[1:, 1:].fill_diagonal_(20.0)
    model.W_hy.weight[0] = -20.0
    return model, F.pad(a_start(generator, 5), (0, 1)), 12, 1.0


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
NOT_ONE_HOT = (
    "the network does not hear the word that it said: hand it on one-hot, not the probabilities that it was drawn "
    "from, and not the start again"
)
FAVOURITE = (
    "at a temperature of 2 it still says its favourite nearly always: draw from the probabilities, "
    "torch.multinomial(p, 1), and divide by the temperature, don't multiply"
)
NO_TEMPERATURE = "the temperature has no effect: divide the outputs by it before the softmax"
EVENLY = "every word comes equally often: draw with the probabilities softmax(outputs / temperature)"
ELSE = (
    "the words are not those that this network says: does it read all of `start` once, are its outputs at the last "
    "word divided by the temperature, and do the state and the word drawn go into the next step?"
)


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
    if temperature == 1:
        return "" if words == words[:1] * length and words[0] else NOT_ONE_HOT
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
    """Whether the loaded face comes up as often as at this temperature it should: 100 throws tell the cases apart."""
    logits = model.W_hy.bias.detach()
    face = int(logits.argmax())
    came_up = torch.tensor(float(words.count(face)))
    chances = {  # of the face: 0.40 if all is right, otherwise 0.93, 0.9998 and 0.03
        "": torch.softmax(logits / temperature, 0)[face],
        NO_TEMPERATURE: torch.softmax(logits, 0)[face],
        FAVOURITE: torch.softmax(logits * temperature, 0)[face],
        EVENLY: torch.tensor(1 / len(logits)),
    }
    likeliest = max(chances, key=lambda fault: Binomial(len(words), chances[fault]).log_prob(came_up))
    return likeliest if abs(float(chances[likeliest] - came_up / len(words))) < 0.23 else ELSE


def said(carry=True, all_of_start=True, hear=True, softly=False, draw=None, wrap=None, prepare=None):
    """``generate`` done another way, for the bank of mistakes."""

    @torch.no_grad()
    def answer(model, start, length, temperature=1.0):
        heard, h, words = (start if all_of_start else start[-1:]), None, []
        x = one_hot(prepare(heard) if prepare else heard, model.input_size)
        for _ in range(length):
            outputs, h = model(x.unsqueeze(0), h if carry else None)
            p = torch.softmax(outputs[0, -1] / temperature, 0)
            words.append(int(draw(outputs[0, -1], temperature) if draw else torch.multinomial(p, 1)))
            x = one_hot(torch.tensor(words[-1:]), model.input_size) if hear else x[-1:]
            x = p.unsqueeze(0) if softly else x
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
    trials=3,
    hints=(
        "First let the network read `start`. Its outputs at the last word are the scores of the first new word. What "
        "must it be given to say the second?",
        "Two things go on from word to word: the state h, which the call returns, and the word just drawn, which is "
        "the next input. The probabilities are softmax(outputs / temperature).",
        "`outputs, h = model(one_hot(start, model.input_size).unsqueeze(0))`; then `length` times: `p = "
        "torch.softmax(outputs[0, -1] / temperature, dim=0)`, `w = int(torch.multinomial(p, 1))`, `outputs, h = "
        "model(one_hot(torch.tensor([[w]]), model.input_size), h)`.",
    ),
    why="The state carries all that was said, so each word costs one step, however long the text. Dividing by the "
    "temperature sharpens the probabilities below 1 and flattens them above; near 0 only the favourite is left.",
    mistakes=(
        Mistake(said(carry=False), FORGETS),
        Mistake(said(all_of_start=False), LAST_ONLY),
        Mistake(said(hear=False), DEAF),
        Mistake(said(prepare=lambda start: torch.cat([start, start[-1:]])), READ_TWICE),
        Mistake(said(prepare=lambda start: start.flip(0)), BACKWARDS),
        Mistake(said(wrap=lambda words, start: start.tolist() + words), WITH_START),
        Mistake(said(wrap=lambda words, start: words[:-1]), COUNT),
        Mistake(said(softly=True), NOT_ONE_HOT),
        Mistake(
            said(draw=lambda logits, T: thrown((logits / T).exp())),
            "exp overflows where the temperature is low: torch.softmax does not",
            error="probability tensor contains either",
        ),
        Mistake(said(draw=lambda logits, T: thrown(torch.softmax(logits * T, 0))), FAVOURITE),
        Mistake(said(draw=lambda logits, T: thrown(torch.softmax(logits, 0))), NO_TEMPERATURE),
        Mistake(said(draw=lambda logits, T: thrown(torch.ones_like(logits))), EVENLY),
    ),
)

EXERCISES = (GENERATE,)
