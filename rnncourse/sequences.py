"""Sequences as tensors, the course's tasks, and its real data (notebook 01).

Sequences have the shape (batch, seq_len, input_size). A task makes fresh batches ``x, y``, knows its loss and what a
model that guesses gets. Its targets y belong to the last steps of the outputs: (batch, n) class numbers, -1 where
nothing is asked, or (batch, n, output_size) real values.
"""

import json
import math
import re
from numbers import Integral
from operator import index
from pathlib import Path

import names
import numpy as np
import torch
from torch.nn import functional as F

from rnncourse.arguments import check_choice, check_positive, check_whole

# ---------------------------------------------------------------- from data to tensors


class Vocabulary:
    """The characters of a text, in sorted order, numbered from 0."""

    def __init__(self, text):
        if not isinstance(text, str):
            raise TypeError(f"text: expected a string, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one character, got an empty string")
        self.characters = sorted(set(text))
        self.numbers = {c: i for i, c in enumerate(self.characters)}

    def __len__(self):
        return len(self.characters)

    def encode(self, text):
        """The numbers of a text's characters, a tensor of shape (len(text),). ``KeyError`` names those it lacks."""
        missing = sorted(set(text) - set(self.numbers))
        if missing:
            raise KeyError(f"not in the vocabulary: {missing}; it has {''.join(self.characters)!r}")
        return torch.tensor([self.numbers[c] for c in text], dtype=torch.long)

    def decode(self, numbers):
        """The text of a sequence of whole numbers. ``KeyError`` names those that stand for no character."""
        numbers = [index(i) for i in numbers]
        missing = sorted({i for i in numbers if not 0 <= i < len(self)})
        if missing:
            raise KeyError(f"no character has the number {missing}; the vocabulary has 0 to {len(self) - 1}")
        return "".join(self.characters[i] for i in numbers)


def one_hot(numbers, size):
    """(...,) whole numbers -> (..., size) floats, each row a 1 in the numbered place and 0 elsewhere."""
    _check_tensor("numbers", numbers)
    check_whole("size", size)
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"numbers: expected whole numbers, got {numbers.dtype}")
    if numbers.numel():
        low, high = map(int, numbers.aminmax())
        if not 0 <= low <= high < size:
            raise ValueError(f"numbers: expected 0 to {size - 1}, got {low} to {high}")
    # for each number its row of the identity: faster than F.one_hot
    return F.embedding(numbers.long(), torch.eye(size, dtype=torch.float32, device=numbers.device))


def windows(series, length, horizon=1):
    """Every window of ``length`` values of a series, and the ``horizon`` values that follow it.

    series (n,) or (n, features) -> x (m, length, features), y (m, horizon, features), m = n - length - horizon + 1.
    """
    check_whole("length", length)
    check_whole("horizon", horizon)
    series = np.asarray(series)
    if series.dtype.kind not in "iuf":
        raise TypeError(f"series: expected real numbers, got dtype {series.dtype}")
    series = torch.tensor(series, dtype=torch.float32)
    series = series.unsqueeze(-1) if series.dim() == 1 else series
    if series.dim() != 2:
        raise ValueError(f"series: expected shape (n,) or (n, features), got {tuple(series.shape)}")
    if len(series) < length + horizon:
        raise ValueError(f"series: expected at least length + horizon = {length + horizon} values, got {len(series)}")
    if gaps := int((~series.isfinite()).sum()):
        raise ValueError(f"series: expected finite numbers, got NaN or infinity in {gaps} places; fill the gaps first")
    both = series.unfold(0, length + horizon, 1).mT  # (m, length + horizon, features)
    return both[:, :length], both[:, length:]


def pad(sequences, value=0.0):
    """Sequences of unequal length, (T_i,) or (T_i, n) each -> one tensor (batch, longest, ...) and a mask (batch, longest).

    The mask is True where a step is real, False where it was filled with ``value``.
    """
    sequences = [torch.as_tensor(s) for s in sequences]
    shapes = [tuple(s.shape) for s in sequences]
    if not shapes or any(not shape or shape[0] == 0 for shape in shapes):
        raise ValueError(f"sequences: expected at least one, each of at least one step, got the shapes {shapes}")
    if len({(s.dtype, *s.shape[1:]) for s in sequences}) > 1:
        got = [(str(s.dtype), shape) for s, shape in zip(sequences, shapes)]
        raise ValueError(f"sequences: expected one dtype, and shapes that differ in length alone, got {got}")
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)
    lengths = torch.tensor([len(s) for s in sequences])
    return padded, torch.arange(padded.shape[1]) < lengths.unsqueeze(1)


# ---------------------------------------------------------------- tasks


class Task:
    """What every task has: sizes, fresh batches, a loss and an accuracy, and what guessing gets.

    ``chance_loss`` is the least loss of a model that sees no input; ``chance_accuracy`` the share it gets right, or None
    for real-valued targets. Loss and accuracy keep a leading axis of models, if there is one.
    """

    input_size = output_size = seq_len = 1
    recalled = None  # how many of the last targets count for the accuracy; None: all
    chance_loss = chance_accuracy = None

    def batch(self, batch_size, generator=None):
        """x (batch, seq_len, input_size) and its targets y, fresh from ``generator``."""
        raise NotImplementedError

    def loss(self, outputs, y):
        """Mean cross-entropy (nats) or mean squared error of the last outputs, one number a model: shape (models,) or ()."""
        outputs = last_outputs(outputs, y)
        if y.is_floating_point():
            return (outputs - y).square().mean(dim=(-3, -2, -1))
        nll = F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="none", ignore_index=-1).view_as(y)
        return nll.sum(dim=(-2, -1)) / (y >= 0).sum(dim=(-2, -1))

    def accuracy(self, outputs, y):
        """The share of targets that the largest output names; None for real-valued targets. Shape as ``loss``."""
        if y.is_floating_point():
            return None
        n = self.recalled or y.shape[-1]
        right = (last_outputs(outputs, y).argmax(-1) == y)[..., -n:]  # never where y is -1
        return right.sum(dim=(-2, -1)) / (y >= 0)[..., -n:].sum(dim=(-2, -1))


def last_outputs(outputs, y):
    """Of outputs ([models,] batch, seq_len, output_size), those of the last steps, which the targets y are for."""
    real = y.is_floating_point()
    if outputs.dim() >= 3 and y.dim() >= 2:
        last = outputs[..., -y.shape[-2 if real else -1] :, :]
        if y.shape == (last.shape if real else last.shape[:-1]):
            return last
    raise ValueError(
        f"outputs: expected ([models,] batch, seq_len, output_size) with the models, the batch and at least the steps of "
        f"the targets, got {tuple(outputs.shape)} for {y.dtype} targets of shape {tuple(y.shape)}"
    )


class Latch(Task):
    """Remember the first symbol of seq_len, and name it at the last step: all others, drawn from the same k, distract.

    A four-way form of the latch of Bengio, Simard & Frasconi 1994. Chance: 1/k.
    """

    def __init__(self, seq_len, k=4):
        check_whole("seq_len", seq_len, 1)
        check_whole("k", k, 2)
        self.seq_len, self.k, self.input_size, self.output_size = seq_len, k, k, k
        self.chance_loss, self.chance_accuracy = math.log(k), 1 / k

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        symbols = torch.randint(self.k, (batch_size, self.seq_len), generator=generator)
        return one_hot(symbols, self.k), symbols[:, :1].clone()


class Order(Task):
    """Two marked symbols, A and B, each once among distractors: which came first? A bag of inputs can't tell: chance 1/2."""

    def __init__(self, seq_len, distractors=4):
        check_whole("seq_len", seq_len, 2)
        check_whole("distractors", distractors, 1)
        self.seq_len, self.distractors = seq_len, distractors
        self.input_size, self.output_size = distractors + 2, 2
        self.chance_loss, self.chance_accuracy = math.log(2), 1 / 2

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        symbols = torch.randint(2, 2 + self.distractors, (batch_size, self.seq_len), generator=generator)
        places = torch.rand(batch_size, self.seq_len, generator=generator).argsort(dim=1)[:, :2]  # two different steps
        symbols.scatter_(1, places[:, :1], 0).scatter_(1, places[:, 1:], 1)  # A at the first of them, B at the second
        return one_hot(symbols, self.input_size), (places[:, :1] > places[:, 1:]).long()


class Adding(Task):
    """Add the two marked numbers among seq_len (Hochreiter & Schmidhuber 1997; as in Le, Jaitly & Hinton 2015).

    Each step has a value in U(0, 1) and a mark: 1 at one step of the first half and one of the second, else 0. The best
    guess without looking is 1, the mean, and its squared error is the variance of a sum of two uniforms, 2/12 = 1/6.
    """

    input_size, output_size, chance_loss = 2, 1, 1 / 6

    def __init__(self, seq_len):
        check_whole("seq_len", seq_len, 2)
        self.seq_len = seq_len

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        values = torch.rand(batch_size, self.seq_len, generator=generator)
        half = self.seq_len // 2
        first = torch.randint(half, (batch_size, 1), generator=generator)
        second = torch.randint(half, self.seq_len, (batch_size, 1), generator=generator)
        marks = torch.zeros_like(values).scatter_(1, first, 1.0).scatter_(1, second, 1.0)
        total = (values * marks).sum(dim=1)
        return torch.stack([values, marks], dim=-1), total.view(batch_size, 1, 1)


class CopyMemory(Task):
    """Recall ``symbols`` symbols of ``k`` after a delay (Hochreiter & Schmidhuber 1997; Arjovsky, Shah & Bengio 2016).

    Input: the symbols, delay - 1 blanks, a go signal, as many blanks as symbols: T + 2S steps for delay T, S symbols.
    Target: blank for T + S steps, then the symbols. Without a memory the best is to say blank, then guess: its loss is
    S ln k / (T + 2S), its accuracy on the recalled symbols 1/k.
    """

    def __init__(self, delay, symbols=10, k=8):
        check_whole("delay", delay, 1)
        check_whole("symbols", symbols, 1)
        check_whole("k", k, 2)
        self.delay, self.recalled, self.k = delay, symbols, k
        self.seq_len, self.input_size, self.output_size = delay + 2 * symbols, k + 2, k + 1
        self.chance_loss, self.chance_accuracy = symbols * math.log(k) / self.seq_len, 1 / k

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        S, blank, go = self.recalled, self.k, self.k + 1
        message = torch.randint(self.k, (batch_size, S), generator=generator)
        x = torch.full((batch_size, self.seq_len), blank)
        x[:, :S] = message
        x[:, -S - 1] = go
        y = torch.full((batch_size, self.seq_len), blank)
        y[:, -S:] = message
        return one_hot(x, self.input_size), y


class Echo(Task):
    """Say, at every step, which of ``k`` symbols came ``lag`` steps ago; nothing is asked at the first ``lag`` steps."""

    def __init__(self, seq_len, lag, k=4):
        check_whole("lag", lag, 1)
        check_whole("seq_len", seq_len, lag + 1)
        check_whole("k", k, 2)
        self.seq_len, self.lag, self.k, self.input_size, self.output_size = seq_len, lag, k, k, k
        self.chance_loss, self.chance_accuracy = math.log(k), 1 / k

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        symbols = torch.randint(self.k, (batch_size, self.seq_len), generator=generator)
        unasked = torch.full((batch_size, self.lag), -1)
        return one_hot(symbols, self.k), torch.cat([unasked, symbols[:, : -self.lag]], dim=1)


class Examples(Task):
    """A task on given examples, drawn with replacement: x (examples, seq_len, input_size), y as every task's targets."""

    def __init__(self, x, y, output_size=None):
        _check_tensor("x", x)
        _check_tensor("y", y)
        y_axes = "n, output_size" if y.is_floating_point() else "n"
        y_fits = y.dim() == (3 if y.is_floating_point() else 2) and 1 <= y.shape[1]
        if x.dim() != 3 or 0 in x.shape or not y_fits or len(x) != len(y) or y.shape[1] > x.shape[1]:
            raise ValueError(
                f"expected x (examples, seq_len, input_size) and {y.dtype} targets y (examples, {y_axes}), n at most "
                f"seq_len, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if gaps := int(x.isnan().sum() + y.isnan().sum()):
            raise ValueError(f"expected numbers, got NaN in {gaps} places of x and y")
        least = y.shape[-1] if y.is_floating_point() else max(int(y.max()) + 1, 1)
        output_size = least if output_size is None else output_size
        check_whole("output_size", output_size, least)
        if y.is_floating_point() and output_size != least:
            raise ValueError(f"output_size: expected {least} for these targets, got {output_size}")
        self.x, self.y = x, y
        self.seq_len, self.input_size, self.output_size = *x.shape[1:], output_size

    def batch(self, batch_size, generator=None):
        check_whole("batch_size", batch_size)
        drawn = torch.randint(len(self.x), (batch_size,), generator=generator)
        return self.x[drawn], self.y[drawn]


# ---------------------------------------------------------------- a small grammar

NOUNS = ("cat", "dog", "bird", "king", "farmer", "sister", "teacher", "robot")
VERBS = ("sleep", "run", "sing", "wait", "laugh", "fall")
PREPOSITIONS = ("near", "behind", "beside", "above")


class Agreement(Task):
    """Sentences such as "the cat near the dogs sleeps.", a word a step: the verb has the number of the subject, the first noun.

    ``attractors`` is how many nouns stand between subject and verb, or a list: the shares of sentences with 0, 1, 2 ... of them.
    Each word is drawn evenly from its kind, and a coin gives each noun its number; with ``disagree=True`` every attractor has
    the other number than the subject. Targets: the next word at every step, -1 after the end. Accuracy: the share of verbs at
    which the verbs of the right number together get more probability than those of the wrong one. Chance: 1/2.
    """

    chance_accuracy = 1 / 2

    def __init__(self, attractors=(0.6, 0.3, 0.1), disagree=False):
        if isinstance(attractors, Integral):
            check_whole("attractors", attractors, 0)
            attractors = [0.0] * int(attractors) + [1.0]
        try:
            shares = [float(share) for share in attractors]
        except (TypeError, ValueError):  # one number that is not whole, or no numbers
            shares = []
        if not shares or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(f"attractors: expected a whole number, or shares that add up to 1, got {attractors!r}")
        self.shares, self.disagree = shares, disagree
        with_s = {words: [word + "s" for word in words] for words in (NOUNS, VERBS)}  # several nouns, or what one of them does
        self.words = ["the", ".", *PREPOSITIONS, *NOUNS, *with_s[NOUNS], *with_s[VERBS], *VERBS]  # singular, then plural
        self.numbers = {word: i for i, word in enumerate(self.words)}
        self.first_noun, self.first_verb = self.numbers[NOUNS[0]], self.numbers[VERBS[0] + "s"]
        self.input_size = self.output_size = len(self.words)
        self.seq_len = 3 + 3 * (len(shares) - 1)  # of the inputs: without the last word, the full stop

    def draw(self, count, generator=None):
        """``count`` sentences as numbers of words, (count, seq_len + 1): the ... verb, full stop, then -1."""
        check_whole("count", count)

        def even(n, *places):
            return torch.randint(n, (count, *places), generator=generator)

        most = len(self.shares) - 1
        attractors = torch.multinomial(torch.tensor(self.shares), count, replacement=True, generator=generator)
        words = torch.full((count, self.seq_len + 1), -1)
        subject = even(2)  # 0: singular, 1: plural
        words[:, 0] = self.numbers["the"]
        words[:, 1] = self.first_noun + subject * len(NOUNS) + even(len(NOUNS))
        between = words[:, 2 : 2 + 3 * most].unflatten(1, (most, 3))  # a view: preposition, "the", noun; cut to length below
        number = 1 - subject.unsqueeze(1) if self.disagree else even(2, most)
        between[..., 0] = self.numbers[PREPOSITIONS[0]] + even(len(PREPOSITIONS), most)
        between[..., 1] = self.numbers["the"]
        between[..., 2] = self.first_noun + number * len(NOUNS) + even(len(NOUNS), most)
        verb = 2 + 3 * attractors.unsqueeze(1)
        words.scatter_(1, verb, (self.first_verb + subject * len(VERBS) + even(len(VERBS))).unsqueeze(1))
        words.scatter_(1, verb + 1, self.numbers["."])
        return words.masked_fill(torch.arange(self.seq_len + 1) > verb + 1, -1)

    def batch(self, batch_size, generator=None):
        words = self.draw(batch_size, generator)
        return one_hot(words[:, :-1].clamp(min=0), self.input_size), words[:, 1:]  # what follows the end is never asked

    def sentences(self, count, generator=None):
        """``count`` sentences as strings: "the cat near the dogs sleeps."."""
        sentences = [" ".join(self.words[i] for i in row if i >= 0) for row in self.draw(count, generator).tolist()]
        return [sentence.replace(" .", ".") for sentence in sentences]

    def accuracy(self, outputs, y):
        outputs = last_outputs(outputs, y)
        of_verbs = outputs[..., self.first_verb :].unflatten(-1, (2, len(VERBS))).logsumexp(-1)  # singular, plural
        asked = y >= self.first_verb
        right = of_verbs.argmax(-1) == (y >= self.first_verb + len(VERBS)).long()
        return (right & asked).sum(dim=(-2, -1)) / asked.sum(dim=(-2, -1))

    def entropy(self, per="token"):
        """Its entropy in bits per "sentence", "token" (the full stop is one) or "character" (with a space after each sentence).

        A sentence's words tell how it was drawn, so the entropies of the choices add up; no model can need fewer bits on average.
        """
        check_choice("per", per, ("sentence", "token", "character"))
        mean = sum(k * share for k, share in enumerate(self.shares))  # attractors in a sentence
        bits = {words: math.log2(len(words)) for words in (NOUNS, VERBS, PREPOSITIONS)}
        number = {"subject": 1, "attractor": 0 if self.disagree else 1}
        total = -sum(share * math.log2(share) for share in self.shares if share)  # of the number of attractors
        total += number["subject"] + bits[NOUNS] + bits[VERBS]
        total += mean * (bits[PREPOSITIONS] + number["attractor"] + bits[NOUNS])
        noun, verb, preposition = (1 + sum(map(len, words)) / len(words) for words in (NOUNS, VERBS, PREPOSITIONS))
        # that is with a space, or the full stop; "the " is 4 characters; of subject and verb, one ends in "s"
        characters = 4 + noun + verb + 1 + 1 + mean * (preposition + 4 + noun + 0.5)
        return total / {"sentence": 1, "token": 4 + 3 * mean, "character": characters}[per]


# ---------------------------------------------------------------- real data, from installed packages


def census_names(kind="last", count=None):
    """Names of the US Census of 1990, lower case, most frequent first: "last", "first:female" or "first:male"."""
    check_choice("kind", kind, tuple(names.FILES))
    lines = Path(names.FILES[kind]).read_text(encoding="ascii").splitlines()
    found = [line.split()[0].lower() for line in lines if line.strip()]
    if count is not None:
        check_whole("count", count)
        if count > len(found):
            raise ValueError(f"count: expected at most {len(found)}, the names of kind {kind!r}, got {count}")
    return found[:count]


def course_prose(folder=None):
    """The paragraphs of this course's notebooks 01 to 06, a list of strings: lower case, ASCII, "_" for a formula or code.

    ``folder`` holds the notebooks; without it, the course's own folder ``notebooks``, beside the package.
    """
    folder = Path(__file__).parent.parent / "notebooks" if folder is None else Path(folder)
    found = [sorted(folder.glob(f"{number:02d}_*.ipynb"), key=lambda path: len(path.name)) for number in range(1, 7)]
    files = [paths[0] for paths in found if paths]  # JupyterLab's "-Copy1" makes a name longer: a copy is read by nobody
    if len(files) < 6:
        raise FileNotFoundError(
            f"the notebooks 01 to 06 are not all in {folder}: found {[path.name for path in files]}. Clone the course with its "
            'notebooks, or name their folder: course_prose("path/to/notebooks")'
        )
    cells = [cell for path in files for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    paragraphs = [_plain(part) for text in texts for part in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n")]
    return [paragraph for paragraph in paragraphs if len(paragraph) > 40]


def _plain(markdown):
    """Markdown as plain lower-case ASCII in one line: without headings, tables and emphasis, with "_" for formulas and code."""
    markdown = re.sub(r"^[#|].*$", "", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "_", markdown, flags=re.DOTALL)
    markdown = re.sub(r"!?\[([^]]*)\]\([^)]*\)|\*|<[^>]*>", r"\1", markdown)
    return " ".join("".join(c for c in markdown.lower() if c.isascii()).split())


def digits():
    """1,797 handwritten digits (Alpaydin & Kaynak 1998): images (1797, 8, 8) scaled to 0 ... 1, labels (1797,)."""
    from sklearn.datasets import load_digits  # here, like the next two: it takes a second, and few need it

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)


def el_nino():
    """Sea surface temperature off Peru (region 1+2), °C, by month, 1950 to 2010: a pandas Series with monthly periods."""
    import pandas as pd
    from statsmodels import datasets

    table = datasets.elnino.load_pandas().data.drop(columns="YEAR")
    months = pd.period_range("1950-01", periods=table.size, freq="M")
    return pd.Series(table.to_numpy().ravel(), index=months, name="temperature, °C")


def co2():
    """CO2 at Mauna Loa, parts per million, monthly means, 1958 to 2001; missing weeks are interpolated in time."""
    from statsmodels import datasets

    weekly = datasets.co2.load_pandas().data["co2"].interpolate("time")
    return weekly.resample("MS").mean().to_period("M").rename("CO2, ppm")


FORMANTS = {
    "a": (730, 1090, 2440),
    "i": (270, 2290, 3010),
    "u": (300, 870, 2240),
}  # Hz, men: Peterson & Barney 1952


def vowel(name="a", seconds=0.5, rate=8000, pitch=120):
    """A synthesized vowel, not a recording: (seconds * rate,) samples within -1 ... 1.

    Harmonics of ``pitch`` (Hz), each weighted by its closeness to the vowel's three formants, as in formant synthesis.
    """
    check_choice("name", name, tuple(FORMANTS))
    for label, value in (("seconds", seconds), ("rate", rate), ("pitch", pitch)):
        check_positive(label, value)
    if pitch >= rate / 2:
        raise ValueError(f"pitch: expected less than half the rate, {rate / 2:g} Hz, got {pitch!r}")
    if round(seconds * rate) < 2:
        raise ValueError(f"seconds: expected at least 2 samples, got {seconds!r} s at {rate} a second")
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    harmonics = torch.arange(pitch, rate / 2, pitch, dtype=torch.float64)
    width = 80.0  # Hz, half the width of each resonance
    weights = sum(1 / (1 + ((harmonics - formant) / width) ** 2) for formant in FORMANTS[name])
    sound = (weights.unsqueeze(1) * torch.sin(2 * math.pi * harmonics.unsqueeze(1) * time)).sum(dim=0)
    return (sound / sound.abs().max()).float()


def _check_tensor(name, value):
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
