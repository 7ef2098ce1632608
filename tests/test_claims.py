"""Claims: what holds passes, what does not hold raises and shows the values, and NaN never passes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnncourse import claims
from rnncourse.claims import ClaimError, above, below, between, claim, near, same

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def fresh_notebook(monkeypatch):
    monkeypatch.setattr(claims, "_proved", {})


def listed(capsys):
    """The texts that ``summary`` lists, in its order."""
    capsys.readouterr()
    claims.summary()
    return [line.split("✔ ")[1] for line in capsys.readouterr().out.splitlines()[1:]]


HOLDS = {
    "bool": True,
    "numpy bool": np.bool_(True),
    "array": np.array([True, True]),
    "tensor": torch.tensor([[True], [True]]),
    "0-d tensor": torch.tensor(True),
    "near": near(1.0, 1.0 + 1e-9, 1e-6),
    "near at the tolerance": near(1.0, 1.5, 0.5),
    "near, exactly": near([1, 2], [1, 2], 0),
    "near, tensor and array": near(torch.ones(2, 3, requires_grad=True), np.ones((2, 3)), 1e-12),
    "near, broadcast": near(torch.ones(2, 3), 1, 0),
    "near, small unsigned numbers": near(np.uint8(3), np.uint8(5), 2),
    "near, complex": near(1 + 1j, 1 + 1.1j, 0.11),
    "below": below(1, 2),
    "below, everywhere": below(torch.arange(3), 3),
    "below inf": below(1e300, INF),
    "above": above(np.array([2.0, 3.0]), torch.tensor([1.0, 2.0])),
    "between": between(torch.tensor([0.0, 0.5, 1.0]), 0, 1),
    "same number": same(3, 3.0),
    "same shape": same(torch.zeros(32, 20, 5).shape, (32, 20, 5)),
    "same string": same("abc", "abc"),
    "same tensors": same(torch.arange(3), np.arange(3)),
    "same dtype": same(torch.zeros(1).dtype, torch.float32),
    "same inf": same(INF, INF),
}

FAILS = {
    "bool": False,
    "array, at one place": np.array([True, False]),
    "tensor, at one place": torch.tensor([[True], [False]]),
    "near": near(1.0, 1.5, 0.499),
    "near, at one place": near([1, 2, 3], [1, 2, 4], 0.5),
    "near, wrapping": near(np.uint8(5), np.uint8(3), 1),
    "near inf": near(INF, INF, 1),
    "near inf and number": near(INF, 1, 1e300),
    "below, equal": below(1, 1),
    "below, at one place": below([1, 2, 3], [2, 3, 3]),
    "below inf": below(INF, INF),
    "above, equal": above(1, 1),
    "above": above(1, 2),
    "between, below": between(-0.01, 0, 1),
    "between, above": between([0.5, 1.01], 0, 1),
    "same number": same(1, 1 + 1e-12),
    "same length": same([1, 2], [1, 2, 3]),
    "same scalar and list": same(1, [1]),
    "same shape": same((32, 20, 5), (32, 5, 20)),
    "same string": same("abc", "abd"),
    "same string and number": same("1", 1),
    "same strings and numbers": same(["1", "2"], [1, 2]),
    "same dtype": same(torch.float32, torch.float64),
    **{f"near NaN {i}": near(a, b, 1e300) for i, (a, b) in enumerate([(NAN, 1), (1, NAN), (NAN, NAN), ([1, NAN], 1)])},
    **{f"{f.__name__} NaN {i}": f(a, b) for f in (below, above) for i, (a, b) in enumerate([(NAN, 1), (1, NAN)])},
    **{f"between NaN {i}": between(*abc) for i, abc in enumerate([(NAN, 0, 1), (0.5, NAN, 1), (0.5, 0, NAN)])},
    "same NaN": same(NAN, NAN),
    "same NaN in a tensor": same(torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN])),
}


@pytest.mark.parametrize("condition", HOLDS.values(), ids=HOLDS)
def test_what_holds_is_claimed(condition, capsys):
    claim("It holds.", condition)
    assert capsys.readouterr().out == "✔ It holds.\n"


@pytest.mark.parametrize("condition", FAILS.values(), ids=FAILS)
def test_what_does_not_hold_raises(condition, capsys):
    with pytest.raises(ClaimError, match="✘ It holds"):
        claim("It holds.", condition)
    assert capsys.readouterr().out == ""
    assert listed(capsys) == []


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_the_helpers_are_what_they_say(a, b, tolerance):
    assert near(a, b, tolerance).holds == (abs(a - b) <= tolerance)
    assert below(a, b).holds == (a < b) == above(b, a).holds
    assert between(a, b, b + tolerance).holds == (b <= a <= b + tolerance)
    assert same(a, b).holds == (a == b)


@pytest.mark.parametrize(
    "condition, words",
    [
        (near(1.0, 1.25, 1e-3), ["at most 0.001", "up to 0.25", "1 and 1.25"]),
        (below(2.5, 1.5), ["first below the second", "2.5 and 1.5"]),
        (above(1.5, 2.5), ["first above the second", "1.5 and 2.5"]),
        (between(7.5, 0, 1), ["7.5 and 0 and 1"]),
        (same("ab", "ba"), ["the same", "'ab' and 'ba'"]),
        (same((1, 2), (1, 2, 3)), ["shapes differ: (2,) and (3,)", "[1 2] and [1 2 3]"]),
        (same((4, 2), (4, 3)), ["[4 2] and [4 3]", "first at [1]: 2 and 3"]),
        (below(torch.arange(100), torch.arange(1, 101).clip(max=99)), ["1 of 100", "first at [99]: 99 and 99"]),
        (near(torch.zeros(2, 2), [[0, 1], [0, 2]], 0.5), ["2 of 4", "first at [0, 1]: 0 and 1", "up to 2"]),
        (np.array([True, False, False]), ["2 of 3 places fail", "the condition is False"]),
        (False, ["the condition is False"]),
    ],
)
def test_a_failure_shows_the_text_and_the_values(condition, words):
    with pytest.raises(ClaimError) as error:
        claim("Two is less than one.", condition)
    for word in ["Two is less than one.", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("condition", [1, 0, 1.0, NAN, None, "yes", np.ones(2), torch.ones(2), [1, 1], {"a": True}])
def test_a_condition_is_a_boolean(condition, capsys):
    with pytest.raises(TypeError, match="True or False, got .* for 'It holds'"):
        claim("It holds", condition)
    assert listed(capsys) == []


@pytest.mark.parametrize("condition", [np.array([], dtype=bool), torch.zeros(0, 3) > 0, near([], [], 1), same([], [])])
def test_a_condition_on_nothing_is_refused(condition, capsys):
    with pytest.raises(ValueError, match="nothing was compared for 'It holds'"):
        claim("It holds", condition)
    assert listed(capsys) == []


@pytest.mark.parametrize("text", ["", "  \n", None, True, 3])
def test_a_claim_needs_a_sentence(text):
    with pytest.raises(ValueError, match="sentence"):
        claim(text, True)


@pytest.mark.parametrize("tolerance", [-1e-9, NAN, INF])
def test_a_tolerance_that_can_only_pass_or_fail_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance: .*got"):
        near(1, 1, tolerance)


@pytest.mark.parametrize("helper", [lambda a: near(a, 1, 1), lambda a: below(a, 1), lambda a: above(1, a)])
@pytest.mark.parametrize("value", ["1", None, True, torch.tensor(True)])
def test_only_numbers_are_compared_by_size(helper, value):
    with pytest.raises(TypeError, match="expected numbers"):
        helper(value)


def test_complex_numbers_have_no_order():
    with pytest.raises(TypeError, match="expected numbers"):
        below(1j, 2)


def test_shapes_that_do_not_match_raise():
    with pytest.raises(ValueError):
        near([1, 2], [1, 2, 3], 1)


def test_summary_lists_the_claims_in_order(capsys):
    for text in ("b", "a", "c"):
        claim(text, True)
    assert listed(capsys) == ["b", "a", "c"]
    claims.summary()
    assert capsys.readouterr().out.splitlines() == [
        "3 claims, each measured above:",
        "  1. ✔ b",
        "  2. ✔ a",
        "  3. ✔ c",
    ]


def test_a_claim_made_again_is_listed_once_and_last(capsys):
    for text in ("a", "b", "a"):
        claim(text, True)
    assert listed(capsys) == ["b", "a"]


@pytest.mark.parametrize("condition", [False, 1, np.array([], dtype=bool)])
def test_a_claim_that_fails_after_it_passed_is_listed_no_more(condition, capsys):
    claim("a", True)
    claim("b", True)
    with pytest.raises((ClaimError, TypeError, ValueError)):
        claim("a", condition)
    assert listed(capsys) == ["b"]
