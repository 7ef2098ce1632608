"""How an answer is checked, the same for a learner's feedback and for marking.

An exercise holds a solution (the reference), a maker of fresh random inputs, three hints, and a bank of typical mistakes:
wrong answers that run, each with the message that its maker needs. An answer that agrees with the reference on every input
is right; one that agrees with a mistake gets that mistake's message. Where many results are right, as of an experiment, a
judge of the exercise's own looks at the result instead.
"""

import contextlib
import copy
import ctypes
import functools
import html
import inspect
import re
import textwrap
import threading
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer that runs, and what to tell its maker. For a value, ``answer`` is the value itself.

    For one that ends in an error, ``error`` is a pattern of its type and text: the message is added to one that fits.
    ``credit`` is the share of the points that it earns all the same: only where nothing else can be wrong, that is where results are
    compared, or the judge has looked for all of its faults.
    """

    answer: object
    message: str
    error: str = ""
    credit: float = 0.0


@dataclass(frozen=True)
class Exercise:
    """One exercise. ``reference`` is its solution: a function, or the value if ``inputs`` is None.

    ``inputs(generator)`` returns the arguments of one call, fresh from a ``torch.Generator``. ``tolerance`` is the largest
    difference allowed, relative to the largest entry of the expected result where that exceeds 1. ``judge(result, *arguments)``,
    where there is one, says what is wrong with a result, "" if nothing; then nothing is compared, and a mistake's message is the
    judge's. ``accepts(result, *arguments)``, where there is one, says whether a result that differs is right as well.
    ``in_place`` is what an answer is told that changes its arguments: where it is empty, it may. (Marking does not see
    that, since there an answer gets copies in another process.) ``points`` are those of the cell in a marked notebook.
    """

    name: str
    reference: object
    hints: tuple
    why: str
    mistakes: tuple
    inputs: Callable | None = None
    tolerance: float = 1e-5
    seconds: float = 10.0
    trials: int = 3  # fresh inputs a check
    code: str = field(default="")  # what ``solution`` shows for a value: how it comes about
    judge: Callable | None = None
    accepts: Callable | None = None
    in_place: str = ""
    points: int = 1

    @property
    def source(self):
        return self.code or textwrap.dedent(inspect.getsource(self.reference))


SIGNS = {"correct": "✔", "wrong": "✘", "not attempted": "○"}


@dataclass(frozen=True)
class Result:
    """What a check found. Its text is the score (a number, as nbgrader's partial credit wants), its HTML the message."""

    status: str  # "correct", "wrong" or "not attempted"
    message: str
    exercise: str = ""
    points: int = 1
    credit: float = 0.0  # of an answer that is wrong

    @property
    def score(self):
        return 1.0 if self.status == "correct" else self.credit

    def __str__(self):
        return f"{SIGNS[self.status]} {self.message}"

    def __repr__(self):
        return f"{self.score * self.points:g}"

    def _repr_html_(self):
        earned = f" ({self!r} of {self.points} points)" if self.points > 1 else ""
        return f"<p>{html.escape(str(self) + earned)}</p>"


class NotAttempted(Exception):
    """The answer is still the stub."""


class Wrong(Exception):
    """The answer is wrong; the text says how."""


class Raised(Exception):
    """An error of a learner's function that ran in another process: its type's name, its text, and where, in words."""

    def __init__(self, kind, text, place=""):
        super().__init__(text)
        self.kind, self.place = kind, place


class OutOfTime(BaseException):
    """The learner's call took too long. No ``Exception``, so that an ``except Exception`` in it does not go on."""


_assignment = None
_drawn = {}  # for everybody the same: of each exercise, its trials


def seed_all(assignment):
    """From now on, give everybody the same inputs: they follow from this text and the exercise's name. None: fresh ones again."""
    global _assignment
    if assignment != _assignment:
        _drawn.clear()
    _assignment = assignment


def check_answer(exercise, answer, seed=None):
    """Check ``answer`` on fresh random inputs (from ``seed``, where given) and return a ``Result``. Never raises for it."""
    status, message, credit = "correct", "correct", 0.0
    try:
        if exercise.inputs is None:
            _check_value(exercise, answer)
        else:
            _check_function(exercise, answer, _trials(exercise, seed))
    except NotAttempted as reason:
        status, message = "not attempted", f"not attempted yet{reason}"
    except Wrong as wrong:
        status, message = "wrong", str(wrong)
        credit = max((m.credit for m in exercise.mistakes if m.message == message), default=0.0)
    return Result(status, message, exercise.name, exercise.points, credit)


def _check_value(exercise, answer):
    if answer is None or answer is Ellipsis:
        raise NotAttempted
    fault = difference(answer, exercise.reference, exercise.tolerance)
    if fault:
        agreeing = [m for m in exercise.mistakes if not difference(answer, m.answer, exercise.tolerance)]
        raise Wrong(agreeing[0].message if agreeing else fault)


def _trials(exercise, seed):
    """A check's trials, one after the other. Where everybody gets the same, they are drawn only once."""
    generator = _generator(exercise, seed)
    if seed is not None or _assignment is None:
        return (Trial(exercise, exercise.inputs(generator)) for _ in range(exercise.trials))
    if exercise.name not in _drawn:
        _drawn[exercise.name] = [Trial(exercise, exercise.inputs(generator)) for _ in range(exercise.trials)]
    return _drawn[exercise.name]


class Trial:
    """The arguments of one call, and what should come back. An answer and a reference get copies, and no judge changes them."""

    def __init__(self, exercise, arguments):
        self.exercise, self.arguments = exercise, arguments

    @functools.cached_property
    def expected(self):
        return self.exercise.reference(*copy.deepcopy(self.arguments))


def _check_function(exercise, answer, trials):
    if answer is None or answer is Ellipsis:
        raise NotAttempted
    if not callable(answer):
        raise Wrong(f"hand over the function itself, not the result of a call: got {_kind(answer)}")
    results, fault, changed = [], "", ""
    for trial in trials:
        arguments = trial.arguments
        handed = arguments if getattr(answer, "takes_copies", False) else copy.deepcopy(arguments)
        try:
            given = _call(answer, handed, exercise)
            told = _fault(exercise, given, trial)
            if fault and "NaN" in told:
                raise Wrong(told)
        except Wrong:
            if fault:  # that came first, and says more
                break
            raise
        results.append((arguments, given))
        fault = fault or told
        changed = changed or (exercise.in_place and difference(handed, arguments, 0.0))
    if fault:
        suspects = (m for m in exercise.mistakes if all(_agrees(exercise, m, *result) for result in results))
        suspect = None if exercise.judge else next(suspects, None)
        raise Wrong(suspect.message if suspect else fault)
    if changed:
        raise Wrong(exercise.in_place)


def _fault(exercise, given, trial):
    """In a sentence, what is wrong with a result, "" if nothing: by the judge, or beside the reference's."""
    if exercise.judge:
        return _judged(exercise.judge, given, trial.arguments)
    fault = difference(given, trial.expected, exercise.tolerance)
    return "" if fault and exercise.accepts and exercise.accepts(given, *trial.arguments) else fault


def _judged(judge, given, arguments):
    """What a judge says of a result. It may run what the learner made, a model: its errors are the learner's."""
    try:
        return judge(given, *arguments)
    except Wrong as wrong:
        return str(wrong)
    except Raised as error:
        kind, text = error.kind, str(error)
    except Exception as error:
        kind, text = type(error).__name__, str(error)
    return f"what your function returned can't be used: {kind}: {' '.join(text.split())}"


def _agrees(exercise, mistake, arguments, given):
    """Whether an answer's result is the one that a typical mistake would give."""
    return not mistake.error and not difference(given, mistake.answer(*copy.deepcopy(arguments)), exercise.tolerance)


def _call(answer, arguments, exercise):
    """The learner's result; ``NotAttempted`` for a stub; ``Wrong``, with the learner's own line, for an error or endless loop.

    An answer that runs in another process, as in marking, brings a time limit of its own.
    """
    try:
        with getattr(answer, "time_limit", time_limit)(exercise.seconds):
            given = answer(*arguments)
    except OutOfTime:
        limit = f"{exercise.seconds:g} s"
        raise Wrong(f"your function did not return within {limit}: is there a loop that never ends?") from None
    except Raised as error:
        raise _error(exercise, error.kind, error.place, str(error)) from None
    except (Exception, SystemExit) as error:
        lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        mine = [f for f in lines if f.name == getattr(answer, "__name__", "")]
        where = (mine or lines)[-1] if lines else None
        line = (where and where.line) or ""
        if isinstance(error, NotImplementedError) and (not error.args or line.startswith("raise ")):
            raise NotAttempted from None  # the stub's own, not that of a library
        place = f" at line {where.lineno} of its cell ({where.line or where.name})" if where else ""
        raise _error(exercise, type(error).__name__, place, str(error)) from None
    if given is None and not _is_stub(answer):
        raise NotAttempted(", or is a return missing? Your function gave back None")
    if given is None or given is Ellipsis:
        raise NotAttempted
    return given


def _error(exercise, kind, place, text):
    """``Wrong`` for an error of the learner's function, with what the typical mistake says that ends in it."""
    text = " ".join(text.split())
    meant = [f" ({m.message})" for m in exercise.mistakes if m.error and re.search(m.error, f"{kind}: {text}")]
    return Wrong(f"your function raised {kind}{place}: {text}{meant[0] if meant else ''}")


def _is_stub(answer):
    """Whether a function has no body but a docstring, ``pass`` or ``...``: it compiles to what this one's would."""
    code = getattr(answer, "__code__", _is_nothing.__code__)
    return len(code.co_code) == len(_is_nothing.__code__.co_code)


def _is_nothing(): ...


@contextlib.contextmanager
def time_limit(seconds):
    """Raise ``OutOfTime`` in the block after ``seconds``, in whichever thread it runs, signals ignored or not."""
    thread = ctypes.c_ulong(threading.get_ident())
    interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
    timer = threading.Timer(seconds, interrupt, [thread, ctypes.py_object(OutOfTime)])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for _ in range(2):  # one that fired as the block ended strikes here, where a loop turns, and not in what follows
            pass


def difference(given, expected, tolerance):
    """In a sentence, how ``given`` differs from ``expected``; the empty string if it does not.

    Numbers and tensors compare by shape and value, whatever their dtype; sequences entry by entry, dicts key by key.
    It never tells the expected value itself.
    """
    if isinstance(expected, (str, bool)):
        if isinstance(given, (np.ndarray, np.generic, torch.Tensor)) and given.ndim == 0:
            given = given.item()
        if type(given) is not type(expected):
            return f"expected a {type(expected).__name__}, got {_kind(given)}"
        return "" if given == expected else f"{given!r} is not the answer"
    if isinstance(expected, dict):
        if not isinstance(given, dict):
            return f"expected a dict with the keys {sorted(expected)}, got {_kind(given)}"
        if set(given) != set(expected):
            return f"expected the keys {sorted(expected)}, got {sorted(map(_key, given))}"
        return next((f"{k}: {fault}" for k in expected if (fault := difference(given[k], expected[k], tolerance))), "")
    if isinstance(expected, (list, tuple)):
        if isinstance(given, (np.ndarray, torch.Tensor)) and given.ndim:
            if not _stacks(given, expected):
                kind = "tensor" if isinstance(given, torch.Tensor) else "array"
                return f"expected {len(expected)} results, got one {kind} of shape {tuple(given.shape)}"
            given = list(given)
        if not isinstance(given, (list, tuple)):
            return f"expected {len(expected)} results, got {_kind(given)}"
        if len(given) != len(expected):
            return f"expected {len(expected)} results, got {len(given)}"
        pairs = enumerate(zip(given, expected), start=1)
        return next((f"result {i}: {fault}" for i, (g, e) in pairs if (fault := difference(g, e, tolerance))), "")
    return _numeric_difference(given, expected, tolerance)


def _key(key):
    """A key of a dict in words."""
    return key if isinstance(key, str) else _kind(key)


def _stacks(array, expected):
    """Whether the rows of one array have the shapes of several results, however many there are."""
    row, nested = tuple(array.shape[1:]), (list, tuple, dict)
    return all(isinstance(e, nested) or tuple(getattr(e, "shape", ())) == row for e in expected)


def _numeric_difference(given, expected, tolerance):
    try:
        given_array, expected_array = _as_array(given), _as_array(expected)
    except (TypeError, ValueError, RuntimeError):
        wanted = f"a tensor of shape {tuple(expected.shape)}" if np.ndim(expected) else "a number"
        return f"expected {wanted}, got {_kind(given)}"
    if given_array.shape != expected_array.shape:
        if isinstance(given, (list, tuple)) and expected_array.ndim and given_array.shape[1:] == expected_array.shape:
            return f"expected one tensor of shape {expected_array.shape}, got a {type(given).__name__} of {len(given)}"
        wanted, got = (f"the shape {a.shape}" if a.ndim else "a single number" for a in (expected_array, given_array))
        return f"expected {wanted}, got {got}"
    if np.isnan(given_array).any() and not np.isnan(expected_array).any():
        places = f"NaN in {int(np.isnan(given_array).sum())} of {given_array.size} places"
        return places if given_array.ndim else "the result is NaN"
    with np.errstate(invalid="ignore"):
        apart = np.abs(given_array - expected_array)
    alike = (given_array == expected_array) | (np.isnan(given_array) & np.isnan(expected_array))
    apart = np.where(alike, 0.0, apart)  # equal infinities are equal, and NaN is what a mistake with NaN gives
    allowed = tolerance * max(1.0, float(np.abs(expected_array[np.isfinite(expected_array)]).max(initial=0.0)))
    if (apart <= allowed).all():
        return ""
    if expected_array.ndim:
        return f"right shape, wrong values: off by up to {float(np.nanmax(apart, initial=0.0)):.3g}"
    if np.iscomplex(given_array - expected_array):
        return "wrong value"
    return (
        f"wrong value: {given_array.real:.6g} is too {'large' if given_array.real > expected_array.real else 'small'}"
    )


def _as_array(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().to(torch.complex128 if value.is_complex() else torch.float64).numpy()
    array = np.array([_as_array(v) for v in value]) if isinstance(value, (list, tuple)) else np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError
    return array.astype(complex if array.dtype.kind == "c" else float)


def _kind(value):
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if type(value).__name__ == "module":  # or what stands for one in marking
        return f"the module {value.__name__}"
    if isinstance(value, (list, tuple)) and any(v is None for v in value):
        return f"a {type(value).__name__} with None in it"
    if isinstance(value, int) and value.bit_length() > 200:
        return "an enormous whole number"  # Python refuses to write it out
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, (int, float, str, bool))
        else f"a {type(value).__name__}"
    )


def _generator(exercise, seed):
    """The source of an exercise's inputs: fresh, or from a seed, or the same for everybody who does the assignment."""
    generator = torch.Generator()
    if seed is None and _assignment is not None:
        seed = zlib.crc32(f"{_assignment}/{exercise.name}".encode())
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
