"""The benchmarks' own arithmetic: what is timed and in which order, the ratios, and that a page holds them. No time is asserted."""

import ast
import contextlib
import io
import math
import re
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
from torch import nn

from rnncourse import bench


def test_each_call_of_a_turn_but_the_first_is_counted_in_milliseconds(monkeypatch):
    clock, calls = [0.0], []

    def contestant(name, seconds):
        def call():
            calls.append(name)
            clock[0] += seconds

        return call

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    times = bench.rounds({"a": contestant("a", 0.5), "b": contestant("b", 0.25)}, seconds=0, calls=2)
    assert times == {"a": [500.0] * 6, "b": [250.0] * 6}  # three rounds are the fewest that leave five
    assert "".join(calls) == "bbbaaaaaabbbbbbaaa"  # a call that is not counted, then two that are


def test_ratios_and_their_geometric_mean():
    times = pd.DataFrame({"ours": [1.0, 2.0], "theirs": [2.0, 16.0]}, index=["small", "large"])
    ratios = bench.over(times, [("theirs", "ours")])
    assert ratios["theirs/ours"].tolist() == pytest.approx([2.0, 8.0, 4.0])
    assert ratios.index[-1] == "geometric mean"


def test_a_table_is_printed_rounded_under_its_title(capsys):
    bench.print_table("A title", pd.DataFrame({"ms": [1.2345, math.nan]}, index=["one", "two"]))
    assert capsys.readouterr().out == "\nA title\n      ms\none 1.23\ntwo     \n"


def test_the_contestants_at_a_shape_compute_the_same():
    B, T, n, H = 3, 5, 2, 4
    torch.manual_seed(0)
    rnn, W_x, W_h = nn.RNN(n, H, batch_first=True), nn.Linear(n, H), nn.Linear(H, H, bias=False)
    with torch.no_grad():
        W_x.weight.copy_(rnn.weight_ih_l0)
        W_x.bias.copy_(rnn.bias_ih_l0 + rnn.bias_hh_l0)
        W_h.weight.copy_(rnn.weight_hh_l0)
    x, seen = torch.randn(B, T, n), []
    states = bench.tutorial_loop(x, torch.zeros(B, H), W_x, W_h, watch=seen.append)
    torch.testing.assert_close(states, rnn(x)[0])
    assert torch.equal(torch.stack(seen, dim=1), states)
    recorded = bench.passes(B, T, n, H)
    assert len(recorded["loop, retain_grad"]()) == len(recorded["loop, hooks"]()) == len(recorded["engine, recording"]()) == T


def test_watching_the_loop_either_way_gives_the_same_norms():
    passes = bench.passes(3, 5, 2, 4)
    retained, hooked = (torch.stack(passes[name]()) for name in ("loop, retain_grad", "loop, hooks"))
    torch.testing.assert_close(retained, hooked.flip(0))  # hooks are called from the last step to the first


def test_all_names_padded_at_once_are_the_names_padded_one_by_one():
    names = bench.PaddedNames(bench.names_text(), 16)
    for whole, one_by_one in zip(names.whole(), zip(*names), strict=True):
        assert torch.equal(whole, torch.stack(one_by_one))


def test_several_seeds_divides_the_times_of_its_own_table(monkeypatch):
    tables = []
    monkeypatch.setattr(bench, "print_table", lambda title, table: tables.append(table))
    bench.several_seeds(seconds=0)
    (table,) = tables
    assert (table > 0).all(axis=None) and len(table) == 3
    assert table["one by one/together"].tolist() == pytest.approx((table["one by one"] / table["together"]).tolist())


def test_marking_says_how_many_times_as_fast_each_is_as_nbgrader(monkeypatch, tmp_path):
    """With both kinds of marking replaced by the time and the marks that they might have come to."""
    from rnncourse.grading import bench as marking  # here: nbgrader takes a second

    room = SimpleNamespace(name="tiny", spent=6.0, run=lambda: None)
    monkeypatch.setattr(marking, "Class", lambda *places, workers: room)
    monkeypatch.setattr(marking, "with_nbgrader", lambda *places: (8.0, {"student-000": {"cell": 1.0}}))
    monkeypatch.setattr(marking.course, "open_gradebook", lambda folder: contextlib.nullcontext())
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "tiny_SOLVED.ipynb")
    for mark in (1.0, 0.0):
        ours = {f"student-00{i}": {"cell": {"auto": mark}} for i in range(3)}
        monkeypatch.setattr(marking.course, "marks", lambda gradebook, name: ours)
        table, same = marking.marking(count=3, peers=1, source=tmp_path / "tiny_SOLVED.ipynb")
        assert table["submissions"].tolist() == [3, 1] and same is (mark == 1.0)
        assert table["s each"].tolist() == [2.0, 8.0] and table["times as fast"].tolist() == [4.0, 1.0]


def test_the_peak_of_memory_is_in_bytes():
    (peak,) = [node for node in ast.parse(bench.PEAK).body if isinstance(node, ast.FunctionDef)]
    status = "VmPeak:\t   99999 kB\nVmHWM:\t    2048 kB\n"
    names = {"re": re, "sys": SimpleNamespace(platform="linux"), "open": lambda path: io.StringIO(status)}
    exec(compile(ast.Module([peak], []), "peak", "exec"), names)
    assert names["peak"]() == 2048 * 1024
