"""How an answer is checked, the same for a learner's feedback and for marking.

An exercise holds a solution (the reference), a maker of fresh random inputs, three hints, and a bank of typical mistakes:
wrong answers that run, each with the message that its maker needs. An answer that agrees with the reference on every input
is right; one that agrees with a mistake gets that mistake's message.
"""

import _thread
import contextlib
import copy
import html
import inspect
import textwrap
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

TRIALS = 3  # fresh inputs a check


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer that runs, and what to tell its maker. For a value, ``answer`` is the value itself."""

    answer: object
    message: str


@dataclass(frozen=True)
class Exercise:
    """One exercise. ``reference`` is its solution: a function, or the value if ``inputs`` is None.

    ``inputs(generator)`` returns the arguments of one call, fresh from a ``torch.Generator``. ``tolerance`` is the largest
    difference allowed, relative to the largest entry of the expected result where that exceeds 1.
    """

    name: str
    reference: object
    hints: tuple
    why: str
    mistakes: tuple
    inputs: Callable | None = None
    tolerance: float = 1e-5
    seconds: float = 10.0
    code: str = field(default="")  # what ``solution`` shows for a value: how it comes about

    @property
    def source(self):
        return self.code or textwrap.dedent(inspect.getsource(self.reference))


@dataclass(frozen=True)
class Result:
    """What a check found. Its text is the score (a number, as nbgrader's partial credit wants), its HTML the message."""

    status: str  # "correct", "wrong" or "not attempted"
    message: str

    @property
    def score(self):
        return 1.0 if self.status == "correct" else 0.0

    def __str__(self):
        return f"{ {'correct': '✔', 'wrong': '✘', 'not attempted': '○'}[self.status] } {self.message}"

    def __repr__(self):
        return f"{self.score:g}"

    def _repr_html_(self):
        return f"<p>{html.escape(str(self))}</p>"


class NotAttempted(Exception):
    """The answer is still the stub."""


class Wrong(Exception):
    """The answer is wrong; the text says how."""


def check_answer(exercise, answer, seed=None):
    """Check ``answer`` on fresh random inputs (from ``seed``, where given) and return a ``Result``. Never raises for it."""
    try:
        if exercise.inputs is None:
            _check_value(exercise, answer)
        else:
            _check_function(exercise, answer, torch.Generator().manual_seed(seed) if seed is not None else _fresh())
    except NotAttempted:
        return Result("not attempted", "not attempted yet")
    except Wrong as wrong:
        return Result("wrong", str(wrong))
    return Result("correct", "correct")


def _check_value(exercise, answer):
    if answer is None or answer is Ellipsis:
        raise NotAttempted
    fault = difference(answer, exercise.reference, exercise.tolerance)
    if fault:
        agreeing = [m for m in exercise.mistakes if not difference(answer, m.answer, exercise.tolerance)]
        raise Wrong(agreeing[0].message if agreeing else fault)


def _check_function(exercise, answer, generator):
    if answer is None or answer is Ellipsis:
        raise NotAttempted
    if not callable(answer):
        raise Wrong(f"hand over the function itself, not the result of a call: got {_kind(answer)}")
    suspects, fault = list(exercise.mistakes), None
    for _ in range(TRIALS):
        arguments = exercise.inputs(generator)
        expected = exercise.reference(*copy.deepcopy(arguments))
        given = _call(answer, arguments, exercise.seconds)
        fault = fault or difference(given, expected, exercise.tolerance)
        suspects = [m for m in suspects if _agrees(given, m, arguments, exercise.tolerance)]
    if fault:
        raise Wrong(suspects[0].message if suspects else fault)


def _agrees(given, mistake, arguments, tolerance):
    """Whether an answer's result is the one that a typical mistake would give."""
    return not difference(given, mistake.answer(*copy.deepcopy(arguments)), tolerance)


def _call(answer, arguments, seconds):
    """The learner's result; ``NotAttempted`` for a stub; ``Wrong``, with the learner's own line, for an error or endless loop."""
    try:
        with time_limit(seconds):
            given = answer(*copy.deepcopy(arguments))
    except NotImplementedError:
        raise NotAttempted from None
    except TimeoutError:
        raise Wrong(f"your function did not return within {seconds:g} s: is there a loop that never ends?") from None
    except Exception as error:
        lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        mine = [f for f in lines if f.name == getattr(answer, "__name__", "")]
        where = (mine or lines)[-1] if lines else None
        place = f" at line {where.lineno} of its cell ({where.line or where.name})" if where else ""
        text = " ".join(str(error).split())
        raise Wrong(f"your function raised {type(error).__name__}{place}: {text}") from None
    if given is None or given is Ellipsis:
        raise NotAttempted
    return given


@contextlib.contextmanager
def time_limit(seconds):
    """Raise ``TimeoutError`` in the block after ``seconds``. Works in the main thread, where notebooks run their cells."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    expired = threading.Event()

    def interrupt():
        expired.set()
        _thread.interrupt_main()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if expired.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


def difference(given, expected, tolerance):
    """In a sentence, how ``given`` differs from ``expected``; the empty string if it does not.

    Numbers and tensors compare by shape and value, whatever their dtype; sequences entry by entry, dicts key by key.
    """
    if isinstance(expected, (str, bool)):
        if type(given) is not type(expected):
            return f"expected {_kind(expected)}, got {_kind(given)}"
        return "" if given == expected else f"{given!r} is not the answer"
    if isinstance(expected, dict):
        if not isinstance(given, dict):
            return f"expected a dict with the keys {sorted(expected)}, got {_kind(given)}"
        if set(given) != set(expected):
            return f"expected the keys {sorted(expected)}, got {sorted(map(str, given))}"
        return next((f"{k}: {fault}" for k in expected if (fault := difference(given[k], expected[k], tolerance))), "")
    if isinstance(expected, (list, tuple)):
        if not isinstance(given, (list, tuple)):
            return f"expected {len(expected)} results, got {_kind(given)}"
        if len(given) != len(expected):
            return f"expected {len(expected)} results, got {len(given)}"
        pairs = enumerate(zip(given, expected), start=1)
        return next((f"result {i}: {fault}" for i, (g, e) in pairs if (fault := difference(g, e, tolerance))), "")
    return _numeric_difference(given, expected, tolerance)


def _numeric_difference(given, expected, tolerance):
    try:
        given_array, expected_array = _as_array(given), _as_array(expected)
    except (TypeError, ValueError):
        return f"expected {_kind(expected)}, got {_kind(given)}"
    if given_array.shape != expected_array.shape:
        return f"expected the shape {expected_array.shape}, got {given_array.shape}"
    if np.isnan(given_array).any() and not np.isnan(expected_array).any():
        return f"NaN in {int(np.isnan(given_array).sum())} of {given_array.size} places"
    apart = np.abs(given_array - expected_array)
    apart = np.where(given_array == expected_array, 0.0, apart)  # equal infinities are equal
    allowed = tolerance * max(1.0, float(np.abs(expected_array[np.isfinite(expected_array)]).max(initial=0.0)))
    if (apart <= allowed).all():
        return ""
    shape = "right shape, wrong values" if expected_array.ndim else "wrong value"
    return f"{shape}: off by up to {float(np.nanmax(apart)):.3g}"


def _as_array(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().to(torch.float64).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError
    return array.astype(float)


def _kind(value):
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, (int, float, str, bool))
        else f"a {type(value).__name__}"
    )


def _fresh():
    generator = torch.Generator()
    generator.seed()
    return generator
