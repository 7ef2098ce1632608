"""The "Your turn" exercises of notebook 07: bits a character, a temperature, a rolling origin, a row of int8 weights."""

import torch

from rnncourse.exercises.checking import Exercise, Mistake

# ---------------------------------------------------------------- characters


def temperature_probabilities(outputs, temperature):
    scaled = outputs / temperature
    exp = (scaled - scaled.max(dim=-1, keepdim=True).values).exp()
    return exp / exp.sum(dim=-1, keepdim=True)


def outputs_and_temperature(generator):
    """Outputs of a readout for 3 steps and 6 to 10 characters, in float64, and a temperature from 0.3 to 3, never near 1."""
    characters = int(torch.randint(6, 11, (), generator=generator))
    hot = bool(torch.rand((), generator=generator) < 0.5)
    temperature = float(torch.rand((), generator=generator))
    temperature = 1.6 + 1.4 * temperature if hot else 0.3 + 0.4 * temperature
    return [2 * torch.randn(3, characters, generator=generator, dtype=torch.float64), temperature]


def most_likely(outputs, temperature):
    return torch.nn.functional.one_hot(outputs.argmax(dim=-1), outputs.shape[-1]).double()


TEMPERATURE = Exercise(
    name="temperature_probabilities",
    reference=temperature_probabilities,
    inputs=outputs_and_temperature,
    tolerance=1e-9,
    hints=(
        "Temperature acts on the outputs, before they become probabilities; then comes the softmax as always, along the last axis.",
        "p_i = exp(y_i / temperature) / Σ_j exp(y_j / temperature).",
        "`(outputs / temperature).softmax(dim=-1)`",
    ),
    why="Ratios decide: p_i / p_j = exp((y_i - y_j) / temperature). Near 0 the largest output takes all, far above 1 all come close. "
    "Taking off the largest output first changes no ratio, and exp can't overflow.",
    mistakes=(
        Mistake(
            lambda y, temperature: (y * temperature).softmax(dim=-1),
            "you multiplied by the temperature: heat would sharpen the choice. Divide by it",
        ),
        Mistake(
            lambda y, temperature: y.softmax(dim=-1) / temperature,
            "these don't add up to 1: the temperature divides the outputs, before the softmax, not the probabilities",
        ),
        Mistake(
            lambda y, temperature: (y.softmax(dim=-1) / temperature).softmax(dim=-1),
            "you took the softmax twice, of probabilities the second time: divide the outputs themselves",
        ),
        Mistake(
            lambda y, temperature: y.softmax(dim=-1) ** (1 / temperature),
            "nearly: p^(1/temperature) has the right ratios, but it still has to be divided by its sum",
        ),
        Mistake(lambda y, temperature: y.softmax(dim=-1), "these are the probabilities at temperature 1: where did it go?"),
        Mistake(
            lambda y, temperature: (y / temperature).softmax(dim=0),
            "the softmax ran along the steps; it belongs along the last axis, over the characters",
        ),
        Mistake(
            lambda y, temperature: (y / temperature).log_softmax(dim=-1),
            "these are logarithms of the probabilities: use softmax, or exp of what you have",
        ),
        Mistake(
            lambda y, temperature: (y / temperature).exp(),
            "exp of the scaled outputs, but not yet divided by its sum along the last axis",
        ),
        Mistake(
            lambda y, temperature: (y / temperature).exp() / (y / temperature).exp().sum(),
            "all steps together add up to 1: divide by the sum along the last axis, with keepdim=True, so that each step does",
        ),
        Mistake(
            lambda y, temperature: y.softmax(dim=-1) * temperature,
            "you multiplied the probabilities by the temperature: it divides the outputs, before the softmax",
        ),
        Mistake(most_likely, "this always takes the likeliest character: that is the limit of temperature 0"),
    ),
)


def bits_a_character(p):
    return -torch.log2(p).mean()


def probabilities(generator):
    """What a model gave to 5 to 12 characters as they came."""
    count = int(torch.randint(5, 13, (), generator=generator))
    return [0.02 + 0.9 * torch.rand(count, generator=generator, dtype=torch.float64)]


BITS = Exercise(
    name="bits_a_character",
    reference=bits_a_character,
    inputs=probabilities,
    tolerance=1e-9,
    hints=(
        "An event of probability p costs -log2 p bits to write down, with the best code. What does a character cost on average?",
        "-(1/n) Σ log2 p_i: the logarithm first, then the mean.",
        "`-torch.log2(p).mean()`",
    ),
    why="Two characters of probability 1/2 and 1/8 cost 1 and 3 bits, 2 on average, the cost of 1/4, their geometric mean. One "
    "character given probability 0 would cost infinitely much: a model must never be sure.",
    mistakes=(
        Mistake(lambda p: -p.log().mean(), "these are nats, by the natural logarithm: bits take the logarithm to base 2"),
        Mistake(lambda p: -torch.log2(p).sum(), "these are the bits of the whole text: divide by the number of characters"),
        Mistake(
            lambda p: -torch.log2(p.mean()),
            "you took the logarithm of the mean; the bits of each character come first, then their mean",
        ),
        Mistake(lambda p: torch.log2(p).mean(), "the sign is missing: log2 of a probability is negative, a cost is not"),
        Mistake(
            lambda p: 2 ** -torch.log2(p).mean(), "this is the perplexity, 2 to the power of the bits: give the bits themselves"
        ),
        Mistake(
            lambda p: -(p * torch.log2(p)).sum(),
            "this is the formula of the entropy, which weighs by p: here each character has come once, and they weigh the same",
        ),
        Mistake(lambda p: -torch.log10(p).mean(), "base 10 counts decimal digits: bits take the logarithm to base 2"),
    ),
)


# ---------------------------------------------------------------- forecasting


def rolling_rmse(series, first, horizon):
    origins = torch.arange(first, len(series) - horizon)  # the last one still has `horizon` values after it
    months = torch.arange(1, horizon + 1)
    errors = series[origins].unsqueeze(1) - series[origins.unsqueeze(1) + months]  # (origins, horizon)
    return errors.square().mean(dim=0).sqrt()


def random_walk(generator):
    """A walk of some 40 values that drifts, the first origin at about half of it, a horizon of 3 to 5."""
    n, first = (int(torch.randint(low, low + 8, (), generator=generator)) for low in (36, 16))
    steps = 0.3 + torch.randn(n, generator=generator, dtype=torch.float64)
    return steps.cumsum(0), first, int(torch.randint(3, 6, (), generator=generator))


def walk_errors(series, origins, months):
    """The errors of persistence at the given origins, (origins, months)."""
    return series[origins].unsqueeze(1) - series[origins.unsqueeze(1) + months]


def usual(series, first, horizon):
    """The origins and months that were asked for."""
    return torch.arange(first, len(series) - horizon), torch.arange(1, horizon + 1)


def errors_asked(series, first, horizon):
    return walk_errors(series, *usual(series, first, horizon))


def a_step_early(series, first, horizon):
    origins, months = usual(series, first, horizon)
    return walk_errors(series, origins, months - 1).square().mean(dim=0).sqrt()


def value_before_each_target(series, first, horizon):
    origins, months = usual(series, first, horizon)
    places = origins.unsqueeze(1) + months
    return (series[places - 1] - series[places]).square().mean(dim=0).sqrt()


def from_the_start(series, first, horizon):
    return rolling_rmse(series, 0, horizon)


def as_many_as_fit(series, first, horizon):
    errors = [series[first:-h] - series[first + h :] for h in range(1, horizon + 1)]
    return torch.stack([e.square().mean().sqrt() for e in errors])


def one_origin(series, first, horizon):
    return errors_asked(series, first, horizon)[0].abs()


ROLLING_RMSE = Exercise(
    name="rolling_rmse",
    reference=rolling_rmse,
    inputs=random_walk,
    hints=(
        "Write a series of 6 values, 0 to 5, on paper, with first = 2 and horizon = 2. Which origins have two values after them?",
        "The origins are first ... n - horizon - 1. At each, all errors series[t] - series[t + h], h = 1 ... horizon: a table "
        "(origins, horizon). Then square, mean over the origins, root.",
        "`errors = series[origins].unsqueeze(1) - series[origins.unsqueeze(1) + months]` with `months = torch.arange(1, horizon + "
        "1)`; over which axis do you take the mean?",
    ),
    why="Every horizon is judged at the same origins, and no forecast uses a value after its origin. For a random walk the "
    "result grows as the square root of h.",
    mistakes=(
        Mistake(
            value_before_each_target,
            "a look into the future: you forecast each value by the one before it, series[t + h - 1], which nobody knows yet at "
            "the origin t. At t only series[: t + 1] is known, so the forecast is series[t] at every horizon",
        ),
        Mistake(
            a_step_early,
            "off by one horizon: your first error compares series[t] with itself. The horizons are 1 ... horizon",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).square().mean(dim=0),
            "this is the mean square by horizon: the square root is missing",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).abs().mean(dim=0),
            "this is the mean absolute error: square first, then mean, then root",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).mean(dim=0),
            "you took the mean of the errors with their signs, the bias, where too high and too low cancel: square them first",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).square().sum(dim=0).sqrt(),
            "this is the root of the sum over the origins: it grows with their number. Take the mean",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).square().mean(dim=1).sqrt(),
            "you took the mean over the horizons, one number an origin: take it over the origins, one number a horizon",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon).square().mean().sqrt(),
            "this is one number for all horizons: a forecast gets worse with its horizon, so return one number for each",
        ),
        Mistake(
            lambda series, first, horizon: errors_asked(series, first, horizon)[::horizon].square().mean(dim=0).sqrt(),
            "your origins lie `horizon` months apart: the origin rolls on a month at a time, and the forecasts overlap",
        ),
        Mistake(
            from_the_start,
            "your origins begin at 0: those before `first` belong to the training part, and are not asked",
        ),
        Mistake(
            as_many_as_fit,
            "each of your horizons has origins of its own, as many as fit: take the same for all, those with `horizon` values "
            "after them, or the horizons can't be compared",
        ),
        Mistake(
            lambda series, first, horizon: rolling_rmse(series[:-1], first, horizon),
            "the last origin is missing: t = n - horizon - 1 still has `horizon` values after it, and arange stops one early by "
            "itself",
        ),
        Mistake(
            lambda series, first, horizon: rolling_rmse(series, first + 1, horizon),
            "the first origin is missing: series[first] is known at it, and the first target is series[first + 1]",
        ),
        Mistake(
            lambda series, first, horizon: rolling_rmse(series, first - 1, horizon),
            "one origin too many: `first` is the first origin, not the first target",
        ),
        Mistake(
            one_origin,
            "these are the errors of one forecast, from the first origin: let the origin roll on, and average over all of them",
        ),
    ),
)


# ---------------------------------------------------------------- devices at the edge


def int8_row(w):
    s = w.abs().max() / 127
    q = (w / s).round().clamp(-127, 127)
    return q, s


def weight_row(generator):
    """5 to 12 Gaussian weights of any size, in float64, the largest in size a negative one."""
    n = int(torch.randint(5, 13, (), generator=generator))
    w = torch.randn(n, generator=generator, dtype=torch.float64) * torch.rand((), generator=generator).exp()
    w[int(torch.randint(n, (), generator=generator))] = -1.2 * w.abs().max()
    return [w]


def scaled_by(s, rounding=torch.round):
    return lambda w: (rounding(w / s(w)), s(w))


def full_range(w):
    s = (w.max() - w.min()) / 255
    return (w / s).round(), s


def from_zero(w):
    s = (w.max() - w.min()) / 255
    return ((w - w.min()) / s).round(), s


def largest_127th(w):
    return w.abs().max() / 127


INT8_ROW = Exercise(
    name="int8_row",
    reference=int8_row,
    inputs=weight_row,
    hints=(
        "First the scale: the weight that is largest in size has to land on 127 or -127. Then every weight in units of it.",
        "s = max|w| / 127, and q = w / s, rounded to the nearest whole number.",
        "`s = w.abs().max() / 127`, then `return (w / s).round(), s`",
    ),
    why="Symmetric: 0 stays 0, so a product needs no correction, and q lies within ±127, one value short of what 8 bits hold. "
    "Rounding to the nearest keeps every error within s/2.",
    mistakes=(
        Mistake(scaled_by(lambda w: w.max() / 127), "the scale comes from max(w): a negative weight may be larger in size, max|w|"),
        Mistake(
            lambda w: ((w * 127 / w.max()).round().clamp(-127, 127), w.max() / 127),
            "the scale comes from max(w), and the clamp hides it: the largest in size may be negative, so take max|w|",
        ),
        Mistake(
            lambda w: (int8_row(w)[0], w.abs().max()),
            "the whole numbers are right, but w ≈ s q doesn't hold with max|w| as the scale: s is one 127th of it",
        ),
        Mistake(scaled_by(lambda w: w.abs().max() / 128), "you divided by 128: 8 bits reach from -128 to 127, and +128 is not among them"),
        Mistake(scaled_by(lambda w: w.abs().max() / 255), "you divided by 255, the range of unsigned 8 bits: with signs, 127 is the largest"),
        Mistake(
            scaled_by(largest_127th, torch.trunc),
            "cut off instead of rounded (a conversion to int8 does that): errors of up to s, where rounding leaves s/2",
        ),
        Mistake(scaled_by(largest_127th, torch.floor), "rounded down instead of to the nearest: every weight comes out too low"),
        Mistake(scaled_by(largest_127th, lambda q: q), "these are w / s, not yet whole numbers: round them"),
        Mistake(
            lambda w: (int8_row(w)[0] * int8_row(w)[1], int8_row(w)[1]),
            "the first result is s·q, the weights back again: return the whole numbers q",
        ),
        Mistake(lambda w: (int8_row(w)[0], 1 / int8_row(w)[1]), "the scale is upside down: w ≈ s q, so s = max|w| / 127"),
        Mistake(lambda w: int8_row(w)[::-1], "the two results are in the other order: (q, s)"),
        Mistake(full_range, "(max - min) / 255 is the scale of an asymmetric quantizer; here 0 is in the middle: max|w| / 127"),
        Mistake(from_zero, "you shifted the weights by their minimum: here 0 stays 0, and q has both signs"),
    ),
)

EXERCISES = (BITS, TEMPERATURE, ROLLING_RMSE, INT8_ROW)
