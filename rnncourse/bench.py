"""The benchmarks: ``make bench``. Each prints ratios against a peer that is timed in the same run, interleaved with it.

Shapes are (batch, T, inputs, hidden). Times are medians of forward + backward. Nothing here asserts a time.
"""

import json
import statistics
import subprocess
import sys
import time

import nbformat
import pandas as pd
import torch
from nbclient import NotebookClient
from torch import nn
from tqdm import tqdm

from rnncourse.bptt import unroll
from rnncourse.initialization import MAPS, initialize_, keep_orthogonal_
from rnncourse.recurrence import VanillaRNN

SHAPES = [
    (32, 50, 10, 64),
    (32, 100, 10, 128),
    (64, 200, 32, 128),
    (16, 1000, 2, 64),
    (64, 100, 32, 256),
    (64, 100, 64, 512),
]
SECONDS = 6.0  # for each shape


def interleaved(contestants, seconds):
    """Median milliseconds of each contestant, called in turn, each round in another order, until ``seconds`` are over."""
    names, times = list(contestants), {name: [] for name in contestants}
    for name in names:
        contestants[name]()  # warm up
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < 5:
        names = names[1:] + names[:1]
        for name in names:
            start = time.perf_counter()
            contestants[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def tutorial_loop(x, h, W_xh, W_hh, watch=None):
    """The usual tutorial's recurrence: two layers a step, a list, a stack. ``watch`` is called with each state."""
    states = []
    for t in range(x.shape[1]):
        h = torch.tanh(W_xh(x[:, t]) + W_hh(h))
        if watch is not None:
            watch(h)
        states.append(h)
    return torch.stack(states, dim=1)


def floor_of(B, T, n, H):
    """The bare matrix products of one forward and backward pass, into buffers made beforehand: nothing is faster."""
    W_xh, W_hh = torch.randn(H, n) / n**0.5, torch.randn(H, H) / H**0.5
    source, target = torch.randn(T, B, H).unbind(0), torch.empty(T, B, H)
    x, da, h = torch.randn(T * B, n), torch.randn(T * B, H), torch.randn(T * B, H)
    dW_hh, dW_xh = torch.empty(H, H), torch.empty(H, n)
    steps, flat = target.unbind(0), target.view(T * B, H)

    def run():
        torch.mm(x, W_xh.t(), out=flat)
        for h_prev, a_t in zip(source, steps):
            torch.mm(h_prev, W_hh.t(), out=a_t)
        for da_t, dh_t in zip(source[1:], steps[1:]):
            torch.mm(da_t, W_hh, out=dh_t)
        torch.mm(da.t(), h, out=dW_hh)
        torch.mm(da.t(), x, out=dW_xh)

    return run


def engine_against_peers(seconds=SECONDS):
    """The engine beside the tutorial's loop, ``nn.RNN`` and the floor; and what watching ‖dL/dh_t‖ costs, three ways."""
    rows = []
    for B, T, n, H in tqdm(SHAPES, desc="engine", leave=False):
        torch.manual_seed(0)
        x, h_0, dL_dh = torch.randn(B, T, n), torch.zeros(B, H), torch.randn(B, T, H)
        rnn, W_x, W_h = nn.RNN(n, H, batch_first=True), nn.Linear(n, H), nn.Linear(H, H, bias=False)
        ours = [w.detach().clone().requires_grad_() for w in (rnn.weight_ih_l0, rnn.bias_ih_l0, rnn.weight_hh_l0)]

        def recording():
            keep = {}
            unroll(x, h_0, *ours, keep=keep).backward(dL_dh)
            return torch.linalg.vector_norm(keep["dL_dh"], dim=(0, 2))

        def retaining():
            states = []
            out = tutorial_loop(x, h_0, W_x, W_h, watch=lambda h: (h.retain_grad(), states.append(h)))
            out.backward(dL_dh)
            return [h.grad.norm() for h in states]

        def hooking():
            norms = []
            hook = lambda grad: norms.append(grad.norm())  # noqa: E731
            tutorial_loop(x, h_0, W_x, W_h, watch=lambda h: h.register_hook(hook)).backward(dL_dh)
            return norms

        contestants = {
            "loop": lambda: tutorial_loop(x, h_0, W_x, W_h).backward(dL_dh),
            "nn.RNN": lambda: rnn(x)[0].backward(dL_dh),
            "engine": lambda: unroll(x, h_0, *ours).backward(dL_dh),
            "engine, recording": recording,
            "loop, retain_grad": retaining,
            "loop, hooks": hooking,
            "floor": floor_of(B, T, n, H),
        }
        rows.append({"shape": str((B, T, n, H)), **interleaved(contestants, seconds)})
    table = pd.DataFrame(rows).set_index("shape")
    ratios = pd.DataFrame(
        {
            "loop/engine": table["loop"] / table["engine"],
            "nn.RNN/engine": table["nn.RNN"] / table["engine"],
            "engine/floor": table["engine"] / table["floor"],
            "recording": table["engine, recording"] / table["engine"],
            "retain_grad": table["loop, retain_grad"] / table["loop"],
            "hooks": table["loop, hooks"] / table["loop"],
        }
    )
    ratios.loc["geometric mean"] = ratios.map(float).apply(statistics.geometric_mean)
    print("Forward + backward, milliseconds\n", table.round(2).to_string(), "\n")
    print("Ratios (the last three: a step that also records every ‖dL/dh_t‖, over a plain step of the same kind)")
    print(ratios.round(3).to_string(), "\n")


def several_seeds(seconds=SECONDS / 3):
    """One call for S models beside S calls, milliseconds a training pass of all of them."""
    rows = []
    for S, B, T, n, H in tqdm([(8, 32, 30, 4, 16), (8, 32, 50, 4, 32), (8, 32, 50, 4, 64)], desc="seeds", leave=False):
        x = torch.randn(S, B, T, n)
        together = VanillaRNN(n, H, 4, seeds=range(S))
        alone = [VanillaRNN(n, H, 4) for _ in range(S)]
        contestants = {
            "together": lambda: together(x)[0].sum().backward(),
            "one by one": lambda: [model(x_s)[0].sum().backward() for model, x_s in zip(alone, x)],
        }
        rows.append({"models, shape": str((S, B, T, n, H)), **interleaved(contestants, seconds)})
    table = pd.DataFrame(rows).set_index("models, shape")
    table["one by one/together"] = table["one by one"] / table["together"]
    print("Several seeds at once, milliseconds\n", table.round(2).to_string(), "\n")


def orthogonal_maps(seconds=SECONDS / 3):
    """A training step (forward, backward, Adam) with W_hh free beside one with W_hh kept orthogonal, by each of the maps."""

    def training_step(shape, map):
        B, T, n, H = shape
        x, model = torch.randn(B, T, n), initialize_(VanillaRNN(n, H, 1), "orthogonal")
        if map != "free":
            keep_orthogonal_(model, map)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def step():
            optimizer.zero_grad()
            model(x)[0].square().mean().backward()
            optimizer.step()

        return step

    rows = []
    for shape in tqdm([(32, 50, 10, 64), (32, 50, 10, 128)], desc="orthogonal", leave=False):
        contestants = {map: training_step(shape, map) for map in ("free", *MAPS)}
        rows.append({"shape": str(shape), **interleaved(contestants, seconds)})
    table = pd.DataFrame(rows).set_index("shape")
    print("A training step with W_hh free, and kept orthogonal by each map, milliseconds\n", table.round(2).to_string())
    print("Over a free step\n", table[list(MAPS)].div(table["free"], axis=0).round(2).to_string(), "\n")


PEAK = r"""
import re, resource, sys, torch
from rnncourse.bench import tutorial_loop
from rnncourse.bptt import unroll
B, T, n, H = 16, 10_000, 8, 64
rnn, x, h_0 = torch.nn.RNN(n, H, batch_first=True), torch.randn(B, T, n), torch.zeros(B, H)
ours = [w.detach().clone().requires_grad_() for w in (rnn.weight_ih_l0, rnn.bias_ih_l0, rnn.weight_hh_l0)]
run = (lambda x: rnn(x)[0]) if sys.argv[1] == "nn.RNN" else (lambda x: unroll(x, h_0, *ours))

def peak():
    # bytes; on Linux ru_maxrss would begin at the parent's peak, VmHWM begins anew with the program
    if sys.platform == "linux":
        return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

run(x[:, :5]).square().sum().backward()
before = peak()
run(x).square().sum().backward()
print(peak() - before)
"""


def peak_memory():
    """The peak of memory that one forward and backward pass over 10,000 steps adds, each in a process of its own."""
    used = {
        name: int(subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True).stdout)
        for name in ("nn.RNN", "engine")
    }
    print("Peak memory of T = 10,000 (batch 16, hidden 64), MB:", {k: round(v / 1e6) for k, v in used.items()})
    print(f"engine/nn.RNN {used['engine'] / used['nn.RNN']:.2f}\n")


REDRAW = """
import json, statistics, time, ipywidgets, torch
from IPython.display import display
from rnncourse import widgets
torch.set_num_threads(1)

def times(control, values):
    seconds = []
    for value in values:
        start = time.perf_counter()
        control.value = value
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)

rows = []
for name in sorted(n for n in dir(widgets) if n.startswith("explore_")):
    explorer = getattr(widgets, name)()
    key, control = next(iter(explorer.controls.items()))
    rest = {k: c.value for k, c in explorer.controls.items() if k != key}
    if hasattr(control, "options"):
        options = [o[1] if isinstance(o, tuple) else o for o in control.options]
        values = [options[i % len(options)] for i in range(1, 21)]
        twin = ipywidgets.Dropdown(options=control.options, value=control.value)
    else:
        count = int((control.max - control.min) / control.step)
        values = [control.min + control.step * (1 + (7 * i) % max(count - 1, 1)) for i in range(20)]
        twin = type(control)(min=control.min, max=control.max, step=control.step, value=control.value)

    def redraw(value):
        explorer.update(**{key: value, **rest})
        display(explorer.fig)

    ipywidgets.interact(redraw, value=twin)
    rows.append((name, times(control, values), times(twin, values)))
print("ROWS" + json.dumps(rows))
"""


def explorers():
    """A move of each explorer's first control beside ``interact`` showing the same figure, its artists updated as well.

    Both in a Jupyter kernel, without a browser. (A figure built anew at each move, as ``interact`` is mostly used, takes longer.)
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(REDRAW)])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = "".join(o.text for o in notebook.cells[0].outputs if o.output_type == "stream" and o.name == "stdout")
    rows = json.loads(printed.split("ROWS")[1])
    table = pd.DataFrame(rows, columns=["explorer", "a move, ms", "interact, ms"]).set_index("explorer")
    table["ratio"] = table["a move, ms"] / table["interact, ms"]
    print("Explorers: from a new value to the new picture, milliseconds\n", table.round(2).to_string(), "\n")


def main():
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    engine_against_peers()
    several_seeds()
    orthogonal_maps()
    peak_memory()
    explorers()


if __name__ == "__main__":
    main()
