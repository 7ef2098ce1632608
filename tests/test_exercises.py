"""The exercises: solutions pass, every typical mistake gets its own message, stubs are not attempted; and the checker itself."""

import contextlib
import copy
import cProfile
import inspect
import io
import math
import multiprocessing
import re
import sys
import threading
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from rnncourse import exercises
from rnncourse.exercises import EXERCISES, Exercise, Mistake, check, hint, solution
from rnncourse.exercises.checking import Raised, check_answer, difference, time_limit
from rnncourse.exercises.inputs import whole

FUNCTIONS = {name: exercise for name, exercise in EXERCISES.items() if exercise.inputs is not None}
SEEDS = range(2)

every_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
every_function = pytest.mark.parametrize("exercise", FUNCTIONS.values(), ids=FUNCTIONS)


def arguments(exercise, seed=0):
    return exercise.inputs(torch.Generator().manual_seed(seed))


# -- the exercises of the notebooks --------------------------------------------------------------------------------


@every_exercise
def test_the_solution_is_correct(exercise):
    for seed in range(5):
        result = check_answer(exercise, exercise.reference, seed)
        assert (result.status, result.score) == ("correct", 1.0), result.message
    assert check_answer(exercise, exercise.reference).status == "correct"  # on inputs without a seed


@every_exercise
def test_every_mistake_is_caught_with_its_own_message(exercise):
    for number, mistake in enumerate(exercise.mistakes):
        for seed in SEEDS:
            result, told = check_answer(exercise, mistake.answer, seed), mistake.message
            if mistake.error:
                start, told = result.message.partition(":")[0], f"({told})"
                assert start.startswith("your function raised ") and result.message.endswith(f" {told}"), (number, seed)
                result = replace(result, message=told)
            assert (result.status, result.score, result.message) == ("wrong", mistake.credit, told), (number, seed)
    assert all(0 <= mistake.credit < 1 for mistake in exercise.mistakes)


@every_exercise
def test_it_has_what_a_learner_needs(exercise):
    messages = [mistake.message for mistake in exercise.mistakes]
    assert len(set(messages)) == len(messages) >= 4
    assert len(set(exercise.hints)) == len(exercise.hints) == 3
    for text in [*messages, *exercise.hints, exercise.why]:
        assert len(text.strip()) >= 20, text


@every_exercise
def test_the_solution_as_shown_is_correct(exercise):
    shown = repr(solution.__getattr__(exercise.name)())
    (code,) = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    namespace = names_beside(exercise)
    exec(code, namespace)
    made = exercise.name if exercise.inputs is None else exercise.reference.__name__
    assert check_answer(exercise, namespace[made]).status == "correct"
    assert exercise.why in shown


def names_beside(exercise):
    """What the exercise's module has, the solution left out: what a learner's notebook has imported, and more."""
    (module,) = [m for m in vars(exercises).values() if inspect.ismodule(m) and exercise in getattr(m, "EXERCISES", ())]
    return {name: value for name, value in vars(module).items() if value is not exercise.reference}


@every_function
def test_inputs_are_fresh_and_come_from_the_generator(exercise):
    first, again, other = (arguments(exercise, seed) for seed in (0, 0, 1))
    if exercise.judge is None:  # what is asked of them differs, too
        first, again, other = (exercise.reference(*given) for given in (first, again, other))
        assert difference(first, other, exercise.tolerance) or isinstance(first, bool)  # of two values, two may be alike
    assert not difference(plain(first), plain(again), 0.0)
    if exercise.judge is not None:
        assert difference(plain(first), plain(other), exercise.tolerance)


def plain(value):
    """A result or arguments with a model's weights for the model."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return list(value.state_dict().values()) if isinstance(value, torch.nn.Module) else value


def stub(*arguments):
    """Not written yet."""
    ...  # your code here


def stub_that_raises(*arguments):
    raise NotImplementedError


def stub_that_says_so(*arguments):
    raise NotImplementedError("your code here")


def stub_with_an_ellipsis(*arguments):
    return ...


@every_exercise
def test_a_stub_is_not_attempted(exercise):
    stubs = (
        [None, ...]
        if exercise.inputs is None
        else [None, ..., stub, stub_that_raises, stub_that_says_so, stub_with_an_ellipsis]
    )
    for answer in stubs:
        result = check_answer(exercise, answer)
        assert (result.status, result.score, str(result)) == ("not attempted", 0.0, "○ not attempted yet")


@every_function
def test_nonsense_gets_a_message(exercise):
    def nan(*given):
        return like(exercise.reference(*given), float("nan"))

    for answer in (
        3.0,
        "answer",
        torch.zeros(3),
        lambda: None,
        lambda *given: "answer",
        lambda *given: object(),
        lambda *given: torch.zeros(2, 3, 5, 7),
        lambda *given: [],
        lambda *given: {},
        nan,
    ):
        result = check_answer(exercise, answer)
        assert result.status == "wrong" and len(result.message) > 10
        if exercise.judge is None:  # a judge's first question may be one that nonsense fails
            assert result.message not in [mistake.message for mistake in exercise.mistakes]


def like(value, fill):
    """``value`` with every number in it replaced."""
    if isinstance(value, (list, tuple)):
        return [like(v, fill) for v in value]
    if isinstance(value, dict):
        return {k: like(v, fill) for k, v in value.items()}
    return torch.full_like(value, fill, dtype=torch.float64) if isinstance(value, torch.Tensor) else fill


@every_function
def test_changing_the_arguments_in_place_disturbs_nothing_and_is_told_where_it_matters(exercise):
    def vandal(*given):
        result = exercise.reference(*copy.deepcopy(given))
        for argument in given:
            if isinstance(argument, torch.Tensor):
                argument.data.zero_()
            elif isinstance(argument, (list, dict)):
                argument.clear()
        return result

    assert check_answer(exercise, vandal).message == (exercise.in_place or "correct")


def bound_in_float32(sigma, slope, steps=50):
    factor = torch.tensor(sigma * slope)
    return factor**steps, "vanishes" if factor < 1 else "may explode"


def norms_into_a_buffer(model, x, y):
    h, states, outputs, norms = torch.zeros(len(x), model.hidden_size), [], [], torch.zeros(x.shape[1])
    for x_t in x.unbind(1):
        h = torch.tanh(model.W_xh(x_t) + model.W_hh(h))
        h.retain_grad()
        states.append(h)
        outputs.append(model.W_hy(h))
    torch.nn.functional.cross_entropy(torch.stack(outputs, 2), y, ignore_index=-1).backward()
    for t, h in enumerate(states):
        norms[t] = h.grad.norm()
    return norms


def norms_of_states_handed_out(model, x, y):
    h, states, outputs = None, [], []
    for t in range(x.shape[1]):
        _, h = model(x[:, t : t + 1], h)
        h.retain_grad()
        states.append(h)
        outputs.append(model.W_hy(h))
    torch.nn.functional.cross_entropy(torch.stack(outputs, 2), y, ignore_index=-1).backward()
    return [h.grad.norm() for h in states]


def angle_by_torch(a, b):
    cosine = (a * b).sum() / (a.norm() * b.norm() + 1e-8)
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def angle_by_numpy(a, b):
    a, b = (v.numpy().ravel() / np.linalg.norm(v.numpy()) for v in (a, b))
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


def untouched_if_short(grads, threshold):
    norm = torch.nn.utils.get_total_norm(grads)
    return grads if norm <= threshold else [g * (threshold / norm) for g in grads]


def between_two_norms(norms, share):
    ordered = norms.sort(descending=True).values
    above = int(share * len(norms))
    return (ordered[above] + ordered[above - 1]) / 2


def both_stacked(dL_da_next, immediate, h_t, W_hh):
    dL_dh = immediate + dL_da_next @ W_hh
    return torch.stack((dL_dh, (1 - h_t**2) * dL_dh))


def plot_with_words_of_the_figure(norms):
    fig, ax = plt.subplots()
    ax.semilogy(range(1, len(norms) + 1), norms)
    fig.suptitle("The gradient through time")
    fig.supxlabel("time step")
    fig.supylabel("norm")
    return fig


@pytest.mark.parametrize(
    "name, answer",
    [
        ("bound_after", bound_in_float32),
        ("gradient_norms", norms_into_a_buffer),
        ("gradient_norms", norms_of_states_handed_out),
        ("angle_between", angle_by_torch),
        ("angle_between", angle_by_numpy),
        ("clip_by_norm", untouched_if_short),
        ("threshold_from_norms", between_two_norms),
        ("backward_step", both_stacked),
        ("plot_gradient_norms", plot_with_words_of_the_figure),
    ],
)
def test_a_right_answer_in_another_dress_is_right(name, answer):
    for seed in range(10):
        result = check_answer(EXERCISES[name], answer, seed)
        assert result.status == "correct", result.message


def norms_of_what_the_model_hands_out(model, x, y):
    h, states, outputs = None, [], []
    for t in range(x.shape[1]):
        out, h = model(x[:, t : t + 1], h)
        h.retain_grad()
        states.append(h)
        outputs.append(out)
    torch.nn.functional.cross_entropy(torch.cat(outputs, 1).mT, y, ignore_index=-1).backward()
    return [h.grad.norm() for h in states]


def radians_without_a_cut(a, b):
    return torch.acos((a * b).sum() / (a.norm() * b.norm()))


def radians_by_math_without_a_cut(a, b):
    return math.acos((a * b).sum() / (a.norm() * b.norm()))


def the_next_norm(norms, share):
    return norms.sort(descending=True).values[int(share * len(norms)) - 1] * (1 + 1e-9)


def the_list_itself(grads, threshold):
    norm = torch.cat([g.flatten() for g in grads]).norm()
    grads[:] = [g * min(1.0, threshold / norm) for g in grads]
    return grads


@pytest.mark.parametrize(
    "name, answer, words",
    [
        ("gradient_norms", norms_of_what_the_model_hands_out, "has no attribute 'norm' (no gradient has come to"),
        ("angle_between", radians_without_a_cut, "this is the angle in radians"),  # later calls give NaN
        ("angle_between", radians_by_math_without_a_cut, "this is the angle in radians"),
        ("threshold_from_norms", the_next_norm, "one norm too high"),
        ("threshold_from_norms", lambda norms, share: [None], "expected a number, got a list with None in it"),
        ("threshold_from_norms", lambda norms, share: "0.1", "expected a number, got str '0.1'"),
        ("clip_by_norm", the_list_itself, "you changed the gradients that were handed in"),
        ("is_highway", lambda W: (W == W.T).all(), "says that W is symmetric"),
        ("is_highway", lambda W: np.allclose(W.T @ W, np.eye(len(W))), "your tolerance is too narrow"),
        ("plot_gradient_norms", lambda norms: plt, "return the figure, for example plt.gcf(), not the module"),
        ("gradient_after", lambda W, v, k: plt, "expected a number, got the module matplotlib.pyplot"),
    ],
)
def test_another_form_of_a_typical_mistake_is_named(name, answer, words):
    for seed in SEEDS:
        result = check_answer(EXERCISES[name], answer, seed)
        assert words in str(result) and result.status != "correct"


def test_gradients_of_parallel_vectors_are_asked_for():
    cosines = []

    def spy(a, b):
        cosines.append(float((a * b).sum() / (a.norm() * b.norm())))
        return EXERCISES["angle_between"].reference(a, b)

    assert check_answer(EXERCISES["angle_between"], spy).status == "correct"
    assert max(cosines) > 1 and min(cosines) < -1 and len(cosines) == 4


def test_a_wrong_plot_does_not_stay_below_its_message():
    def linear(norms):
        fig, ax = plt.subplots()
        ax.plot(range(1, len(norms) + 1), norms)
        return fig

    assert "logarithmic" in check_answer(EXERCISES["plot_gradient_norms"], linear).message
    assert not plt.get_fignums()


def norms_after_a_line_at_one(norms):
    fig, ax = plt.subplots()
    ax.axhline(1.0)
    ax.semilogy(range(1, len(norms) + 1), norms)
    ax.set(title="The gradient through time", xlabel="time step", ylabel="norm")
    return ax


def test_a_plot_may_have_a_line_of_reference_before_its_norms():
    for seed in SEEDS:
        result = check_answer(EXERCISES["plot_gradient_norms"], norms_after_a_line_at_one, seed)
        assert result.status == "correct", result.message


def test_a_share_near_a_half_is_asked_for():
    """At the last distance both verbs are of the right number, other words: who knows the number can but guess."""
    exercise = EXERCISES["agreement_experiment"]
    for seed in SEEDS:
        _, _, tests, _, _ = arguments(exercise, seed)
        plural = [[(words >= 7, words) for words in (right, wrong)] for _, right, wrong in tests]  # 5, 6 singular | 7, 8 plural
        alike = [bool((right == wrong).all()) for (right, _), (wrong, _) in plural]
        assert alike == [False, False, True]
        assert all((right != wrong).all() for (_, right), (_, wrong) in plural)
        assert all(set(words.tolist()) == {5, 6, 7, 8} for pair in plural for _, words in pair)


def test_whole_numbers_come_from_both_ends_and_between():
    generator = torch.Generator().manual_seed(0)
    assert {whole(generator, 2, 4) for _ in range(100)} == {2, 3, 4}


# -- check, hint, solution -----------------------------------------------------------------------------------------


def double_sum(x, n):
    total = 2 * x.sum()
    return n * total


MADE_UP = Exercise(
    name="double_sum",
    reference=double_sum,
    inputs=lambda g: (torch.randn(4, 3, generator=g), int(torch.randint(2, 9, (), generator=g))),
    hints=("first hint", "second hint", "third hint"),
    why="because twice is more than once",
    mistakes=(
        Mistake(lambda x, n: n * x.sum(), "twice, please"),
        Mistake(lambda x, n: 2 * x.sum(), "times n, please"),
        Mistake(lambda x, n: 2 * n * x.sum(0), "over both axes, please"),
    ),
    seconds=0.3,
)
A_VALUE = Exercise(
    name="vanishes",
    reference={"magnitude": 0.9**50, "vanishes": True, "word": "vanish"},
    hints=("1", "2", "3"),
    why="0.9 < 1",
    mistakes=(Mistake({"magnitude": 0.9**49, "vanishes": True, "word": "vanish"}, "50 steps, not 49"),),
    code="vanishes = {'magnitude': 0.9**50, 'vanishes': True, 'word': 'vanish'}\n",
)


@pytest.fixture
def course(monkeypatch):
    """The course with two made-up exercises and no hint given yet."""
    made_up = {exercise.name: exercise for exercise in (MADE_UP, A_VALUE)}
    monkeypatch.setattr(exercises, "EXERCISES", made_up)
    monkeypatch.setattr(exercises, "_hints_given", {})
    return made_up


def test_hints_come_in_order_and_the_last_stays(course):
    given = [repr(hint.double_sum()) for _ in range(4)]
    numbered = [f"**Hint {i} of 3.** {word} hint" for i, word in enumerate(["first", "second", "third"], start=1)]
    assert given == [*numbered, numbered[2]]
    assert repr(hint.double_sum(2)) == numbered[1] == hint.double_sum(number=2)._repr_markdown_()
    assert repr(hint.vanishes()) == "**Hint 1 of 3.** 1"


@pytest.mark.parametrize("number", [0, 4, -1, 1.5, "1"])
def test_there_is_no_other_hint(course, number):
    with pytest.raises(ValueError, match=f"number: expected a hint from 1 to 3, got {number!r}"):
        hint.double_sum(number)


@pytest.mark.parametrize("by_name", [check, hint, solution])
def test_an_unknown_exercise_names_those_there_are(course, by_name):
    with pytest.raises(AttributeError, match="no exercise is called 'dubble_sum'; there are double_sum, vanishes"):
        by_name.dubble_sum
    assert dir(by_name) == ["double_sum", "vanishes"]
    assert "NAME" in by_name.__doc__


def test_the_solution_shows_code_and_reason(course):
    shown = solution.double_sum()._repr_markdown_()
    assert f"```python\n{inspect.getsource(double_sum)}```" in shown and shown.endswith(MADE_UP.why)
    assert "0.9**50, 'vanishes': True" in repr(solution.vanishes())


def test_a_result_is_its_score_as_text_and_its_message_as_html(course):
    right, wrong, missing = check.double_sum(double_sum), check.double_sum(lambda x, n: 0), check.double_sum(stub)
    assert [repr(r) for r in (right, wrong, missing)] == ["1", "0", "0"]
    assert [float(repr(r)) for r in (right, wrong)] == [1.0, 0.0]
    assert (
        str(right) == "✔ correct" and str(missing) == "○ not attempted yet" and str(wrong).startswith("✘ wrong value")
    )
    assert right._repr_html_() == "<p>✔ correct</p>"
    told = check.double_sum(lambda x, n: "<b>")
    assert "<b>" not in told._repr_html_() and "&lt;b&gt;" in told._repr_html_()


def test_a_seed_makes_a_check_repeatable(course):
    seen = []
    for seed in (1, 1, 2):
        check.double_sum(lambda x, n: seen.append(x) or double_sum(x, n), seed=seed)
    assert torch.equal(torch.stack(seen[:3]), torch.stack(seen[3:6]))
    assert not torch.equal(seen[0], seen[6]) and not torch.equal(seen[0], seen[1])


# -- answers of every kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        float,
        np.float64,
        np.float32,
        np.asarray,
        lambda t: t.double(),
        lambda t: t.numpy(),
        lambda t: t.requires_grad_(),
    ],
)
def test_a_number_may_come_in_any_form(convert):
    assert check_answer(MADE_UP, lambda x, n: convert(double_sum(x, n))).status == "correct"


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x, n: n * x.sum(), "twice, please"),
        (lambda x, n: float(n * x.sum()), "twice, please"),
        (lambda x, n: 2 * n * x.sum(0), "over both axes, please"),
        (lambda x, n: 3 * n * x.sum(), "wrong value: "),
        (lambda x, n: 2 * n * x.sum().unsqueeze(0), "expected a single number, got the shape (1,)"),
        (lambda x, n: float("nan"), "the result is NaN"),
        (lambda x, n: float("inf"), "wrong value: inf is too large"),
        (lambda x, n: "12", "expected a number, got str '12'"),
        (lambda x, n: (double_sum(x, n), 1, None), "expected a number, got a tuple"),
        (lambda x, n: check, "expected a number, got a _ByName"),
        (lambda x: x.sum(), "your function raised TypeError: "),
        (lambda x, n: x @ x, "your function raised RuntimeError at line "),
        (lambda x, n: sys.exit(3), "your function raised SystemExit at line "),
        (
            double_sum(torch.ones(2), 1),
            "hand over the function itself, not the result of a call: got a tensor of shape ()",
        ),
        (3, "hand over the function itself, not the result of a call: got int 3"),
    ],
)
def test_a_wrong_answer_is_told_why(answer, words):
    result = check_answer(MADE_UP, answer)
    assert result.status == "wrong" and words in result.message
    assert "\n" not in result.message and "rnncourse" not in result.message


def test_a_mistake_on_one_input_alone_is_not_that_mistake():
    calls = []

    def sometimes(x, n):
        calls.append(n)
        return n * x.sum() if len(calls) == 1 else 0

    assert check_answer(MADE_UP, sometimes).message.startswith("wrong value")


@pytest.mark.parametrize("wrong_at", [1, 2, 3])
def test_what_went_wrong_first_is_told(wrong_at):
    calls = []

    def once(x, n):
        calls.append(n)
        if len(calls) < wrong_at:
            return n * x.sum()
        if len(calls) == wrong_at:
            raise ArithmeticError("oh")
        return float("nan")

    told = check_answer(MADE_UP, once).message
    assert told == "twice, please" if wrong_at > 1 else "ArithmeticError" in told


def test_an_error_s_message_is_added_and_agrees_with_no_result():
    mistake = Mistake(lambda x, n: n * x.sum(), "no division here", error="division|modulo")
    exercise = replace(MADE_UP, mistakes=(mistake, *MADE_UP.mistakes))
    assert check_answer(exercise, lambda x, n: n / 0).message.endswith("): division by zero (no division here)")
    assert check_answer(exercise, lambda x, n: x[9]).message.endswith("with size 4")
    assert check_answer(exercise, lambda x, n: n * x.sum()).message == "twice, please"

    def far_away(x, n):
        raise Raised("ZeroDivisionError", "division by zero")

    assert check_answer(exercise, far_away).message.endswith("ZeroDivisionError: division by zero (no division here)")


def test_an_answer_that_changes_its_arguments_is_told_so_unless_it_is_wrong_anyway():
    keeping = replace(MADE_UP, in_place="hands off")
    assert check_answer(keeping, lambda x, n: n * x.mul_(2).sum()).message == "hands off"
    assert check_answer(keeping, lambda x, n: n * x.mul_(1).sum()).message == "twice, please"
    assert check_answer(keeping, lambda x, n: 2 * n * x.zero_().sum()).message.startswith("wrong value")
    assert check_answer(keeping, lambda x, n: 2 * n * x.mul_(1).sum()).status == "correct"  # changed, and yet as it was


def test_what_is_accepted_counts_as_right_whatever_the_reference_says():
    lenient = replace(MADE_UP, accepts=lambda given, x, n: given == "much")
    assert check_answer(lenient, lambda x, n: "much").status == "correct"
    assert check_answer(lenient, lambda x, n: "little").message == "expected a number, got str 'little'"


@pytest.mark.parametrize("wrong_at", [1, 2, 3])
def test_an_answer_that_is_wrong_on_one_input_is_wrong(wrong_at):
    calls = []

    def sometimes(x, n):
        calls.append(n)
        return double_sum(x, n) * (1.5 if len(calls) == wrong_at else 1)

    assert check_answer(MADE_UP, sometimes).status == "wrong"


def test_an_error_is_told_by_the_learner_s_own_line():
    shell = InteractiveShell.instance()
    try:
        shell.run_cell("import torch\ndef helper(x):\n    return torch.softmax(x, dim=7)\n", silent=True)
        shell.run_cell("def double_sum(x, n):\n    n = n + 1\n    return helper(x) * n  # oh\n", silent=True)
        message = check_answer(MADE_UP, shell.user_ns["double_sum"]).message
    finally:
        InteractiveShell.clear_instance()
    assert message.startswith("your function raised IndexError at line 3 of its cell (return helper(x) * n")
    assert "Dimension out of range" in message


def test_a_missing_return_is_suspected():
    def forgetful(x, n):
        double_sum(x, n)

    result = check_answer(MADE_UP, forgetful)
    assert result.status == "not attempted" and "is a return missing?" in result.message


def test_a_library_s_missing_implementation_is_an_error_and_no_stub():
    def unsupported(x, n):
        w = torch.ones(3, requires_grad=True)
        sparse = torch.eye(3).to_sparse()
        return torch.linalg.qr(sparse)[0].sum() * w

    result = check_answer(MADE_UP, unsupported)
    assert result.status == "wrong" and "NotImplementedError at line" in result.message


def endless(x, n):
    while True:
        try:
            for i in range(10):
                n += i
        except Exception:
            n = 0


def test_an_endless_loop_is_stopped():
    start = time.perf_counter()
    result = check_answer(MADE_UP, endless)
    assert result.message == "your function did not return within 0.3 s: is there a loop that never ends?"
    assert time.perf_counter() - start < 5


def test_an_endless_loop_is_stopped_in_any_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(check_answer(MADE_UP, endless)), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert results and "did not return within 0.3 s" in results[0].message


def test_the_time_limit_leaves_what_comes_after_alone():
    patient = replace(MADE_UP, seconds=0.05)
    before = threading.active_count()
    assert check_answer(patient, double_sum).status == "correct"
    time.sleep(0.1)
    assert threading.active_count() <= before


@every_function
def test_what_everybody_is_asked_is_left_as_it_was(exercise):
    """Marking draws the inputs once, and gives them to one submission after another."""
    try:
        exercises.checking.seed_all("a class")
        check_answer(exercise, exercise.reference)
        asked = exercises.checking._drawn[exercise.name]
        before = copy.deepcopy(asked)
        for answer in [exercise.reference, *(mistake.answer for mistake in exercise.mistakes[:3])]:
            check_answer(exercise, answer)
        assert exercises.checking._drawn[exercise.name] is asked and len(asked) == exercise.trials
        for trial, was in zip(asked, before):
            if not exercise.judge:
                assert not difference(trial.expected, was.expected, 0.0)
            for argument, its in zip(trial.arguments, was.arguments):
                if isinstance(argument, torch.nn.Module):
                    assert all(torch.equal(p, q) for p, q in zip(argument.parameters(), its.parameters()))
                    assert all(p.grad is None for p in argument.parameters())
                elif isinstance(argument, torch.Generator):
                    assert torch.equal(argument.get_state(), its.get_state())
                else:
                    assert not difference(argument, its, 0.0)
    finally:
        exercises.checking.seed_all(None)
        plt.close("all")


def test_after_a_check_python_can_be_profiled():
    """Taking an interrupt back that never came leaves Python waiting for it: the next traced call then never returns."""

    def checked_and_profiled():
        with time_limit(5):
            pass
        with contextlib.redirect_stdout(io.StringIO()):
            cProfile.run("int()")

    process = multiprocessing.get_context("fork").Process(target=checked_and_profiled)
    process.start()
    process.join(60)
    try:
        assert process.exitcode == 0
    finally:
        process.kill()


def test_the_learner_s_interrupt_passes_through():
    def interrupted(x, n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_answer(MADE_UP, interrupted)


def test_a_value_is_checked_as_it_is():
    right = {"magnitude": 0.9**50, "vanishes": True, "word": "vanish"}
    for form in (
        {},
        {"magnitude": torch.tensor(0.9**50)},
        {"vanishes": np.bool_(True)},
        {"vanishes": torch.tensor(True)},
    ):
        assert check_answer(A_VALUE, {**right, **form}).status == "correct"
    for wrong, words in [
        ({**right, "magnitude": 0.9**49}, "50 steps, not 49"),
        ({**right, "magnitude": 1.0}, "magnitude: wrong value"),
        ({**right, "magnitude": "small"}, "magnitude: expected a number, got str 'small'"),
        ({**right, "vanishes": False}, "vanishes: False is not the answer"),
        ({**right, "vanishes": 1}, "vanishes: expected a bool, got int 1"),
        ({**right, "word": "explode"}, "word: 'explode' is not the answer"),
        ({**right, "word": 3.0}, "word: expected a str, got float 3.0"),
        ({"magnitude": 1.0}, "expected the keys ['magnitude', 'vanishes', 'word'], got ['magnitude']"),
        (3.0, "expected a dict with the keys ['magnitude', 'vanishes', 'word'], got float 3.0"),
        (stub, "expected a dict with the keys ['magnitude', 'vanishes', 'word'], got a function"),
    ]:
        result = check_answer(A_VALUE, wrong)
        assert result.status == "wrong" and words in result.message
    assert check_answer(A_VALUE, None).status == check_answer(A_VALUE, ...).status == "not attempted"


# -- difference ----------------------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "given, expected",
    [
        (1, 1.0),
        (torch.ones(2, 3), np.ones((2, 3))),
        ([[1.0, 2.0]], torch.tensor([[1.0, 2.0]])),
        ([torch.tensor(1.0, requires_grad=True), 2], torch.tensor([1, 2])),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (np.array([1.0, 2.0]), (1, torch.tensor(2.0))),
        ([torch.ones(2), 3], (torch.ones(2), 3)),
        (torch.ones(2, 3), (torch.ones(3), np.ones(3))),  # one tensor that stacks the results
        (np.ones((2, 3)), ([1.0, 1.0, 1.0], torch.ones(3))),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN])),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}),
        (torch.tensor([1.0, INF, -INF]), [1, INF, -INF]),
        (torch.tensor([1 + 2j]), np.array([1 + 2j])),
        (torch.tensor(True), torch.tensor(1.0)),
        (1000.009, 1000.0),  # 1e-5 of the largest entry
        (torch.tensor([1000.0, 0.009]), torch.tensor([1000.0, 0.0])),
        (torch.zeros(0, 3), torch.zeros(0, 3)),
        ("yes", "yes"),
        (np.str_("yes"), "yes"),
        (True, True),
    ],
)
def test_what_is_no_difference(given, expected):
    assert difference(given, expected, 1e-5) == ""


@pytest.mark.parametrize(
    "given, expected, words",
    [
        (2.0001, 2.0, "wrong value: 2.0001 is too large"),
        (3.000035, 3.0, "wrong value: 3.00004 is too large"),
        (0, 3e-4, "wrong value: 0 is too small"),
        (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), "right shape, wrong values: off by up to 0.5"),
        (torch.ones(3, 2), torch.ones(2, 3), "expected the shape (2, 3), got the shape (3, 2)"),
        (1.0, torch.ones(2), "expected the shape (2,), got a single number"),
        (torch.tensor([NAN, 1.0]), torch.ones(2), "NaN in 1 of 2 places"),
        (INF, -INF, "wrong value: inf is too large"),
        (NAN, INF, "the result is NaN"),
        (1 + 1j, 1.0, "wrong value"),
        ([1, 2], (1, 2, 3), "expected 3 results, got 2"),
        (3, (1, 2), "expected 2 results, got int 3"),
        (torch.tensor(3.0), (1, 2), "expected 2 results, got a tensor of shape ()"),
        (torch.ones(2, 6), (torch.ones(2, 6), 1), "expected 2 results, got one tensor of shape (2, 6)"),
        (np.ones((16, 5)), (np.ones((16, 5)), np.ones(16)), "expected 2 results, got one array of shape (16, 5)"),
        (torch.ones(3), (1, 2), "expected 2 results, got 3"),
        ([1.0, None], torch.ones(2), "expected a tensor of shape (2,), got a list with None in it"),
        (math, 1.0, "expected a number, got the module math"),
        pytest.param(10**5000, 1.0, "expected a number, got an enormous whole number", id="enormous"),
        ((1, 5), (1, 2), "result 2: wrong value: 5 is too large"),
        ((1, [2]), torch.ones(2), "expected a tensor of shape (2,), got a tuple"),
        (None, 1.0, "expected a number, got a NoneType"),
        (None, "vanish", "expected a str, got a NoneType"),
        ({"a": 1}, {"b": 1}, "expected the keys ['b'], got ['a']"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a: b: wrong value"),
    ],
)
def test_what_is_a_difference(given, expected, words):
    told = difference(given, expected, 1e-5)
    assert words in told
    if isinstance(expected, str):
        assert expected not in told  # the answer is not given away


def test_the_tolerance_is_of_the_largest_entry_and_below_one_of_one():
    assert difference(0.1 + 5e-6, 0.1, 1e-5) == difference(100 + 5e-4, 100.0, 1e-5) == ""
    assert difference(torch.tensor([100, 0.1005]), torch.tensor([100, 0.1]), 1e-5) == ""
    assert difference(0.1 + 2e-5, 0.1, 1e-5) and difference(100 + 2e-3, 100.0, 1e-5)
