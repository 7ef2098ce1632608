"""The exercises of every notebook: ``check``, ``hint`` and ``solution``, each by the exercise's name.

check.gradient_norms(gradient_norms)   # ✔ correct · ✘ what is wrong, in a sentence · ○ not attempted yet
hint.gradient_norms()                  # the first of three hints; call again for the next
solution.gradient_norms()              # the worked solution, and why
"""

from functools import partial

from rnncourse.exercises import (
    applications,
    bptt,
    clipping,
    experiments,
    generating,
    gradients,
    initialization,
    magnitudes,
    monitoring,
    recurrence,
    sequences,
    speaking,
)
from rnncourse.exercises.checking import SIGNS, Exercise, Mistake, Result, check_answer

MODULES = (sequences, recurrence, bptt, gradients, clipping, initialization, applications)
MODULES += (magnitudes, experiments, monitoring, generating, speaking)  # of notebook 08
EXERCISES = {exercise.name: exercise for module in MODULES for exercise in module.EXERCISES}


class _ByName:
    """``check.NAME(...)`` and the like: looks the exercise up and hands it over."""

    def __init__(self, act, what):
        self._act, self.__doc__ = act, what

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in EXERCISES:
            raise AttributeError(f"no exercise is called {name!r}; there are {', '.join(EXERCISES)}")
        return partial(self._act, EXERCISES[name])

    def __dir__(self):
        return list(EXERCISES)


class Text:
    """Text that a notebook shows as Markdown and a terminal as it is."""

    def __init__(self, text):
        self.text = text

    def _repr_markdown_(self):
        return self.text

    def __repr__(self):
        return self.text


_hints_given: dict[str, int] = {}


def _hint(exercise, number=None):
    """The next hint, or the one of the given number, 1 to 3."""
    total = len(exercise.hints)
    if number is None:
        number = min(_hints_given.get(exercise.name, 0) + 1, total)
        _hints_given[exercise.name] = number
    if number not in range(1, total + 1):
        raise ValueError(f"number: expected a hint from 1 to {total}, got {number!r}")
    return Text(f"**Hint {number} of {total}.** {exercise.hints[number - 1]}")


def _solution(exercise):
    """The worked solution and its reason."""
    return Text(f"**One solution** (there are others)\n\n```python\n{exercise.source}```\n\n{exercise.why}")


_results: dict[str, Result] = {}  # of this session, each exercise's last


def _check(exercise, answer, seed=None):
    _results[exercise.name] = check_answer(exercise, answer, seed)
    return _results[exercise.name]


def score_sheet(*names):
    """Print what the exercises of these names were last found to be, and the points they earn."""
    for name in names:
        if name not in EXERCISES:
            raise ValueError(f"names: no exercise is called {name!r}; there are {', '.join(EXERCISES)}")
        result, points = _results.get(name), EXERCISES[name].points
        sign = SIGNS[result.status if result else "not attempted"]
        print(f"{sign} {name:24s} {result or 0!r:>4} of {points}")
    earned = sum(_results[name].score * EXERCISES[name].points for name in names if name in _results)
    print(f"{earned:g} of {sum(EXERCISES[name].points for name in names)} points; what you wrote in words is marked by a person")


check = _ByName(
    _check, "check.NAME(answer) says whether an answer is right, and if not, what is the likely cause."
)
hint = _ByName(_hint, "hint.NAME() gives the next of three hints; hint.NAME(2) the second.")
solution = _ByName(_solution, "solution.NAME() shows a worked solution and the reason for it.")

__all__ = ["EXERCISES", "Exercise", "Mistake", "Result", "Text", "check", "hint", "score_sheet", "solution"]
