"""The benchmarks: ``make bench``. Each prints a table of ratios against a peer that is timed in the same run, interleaved with it.

Shapes are (batch, T, inputs, hidden), times medians in milliseconds. Nothing here asserts a time.
"""

import json
import statistics
import subprocess
import sys
import time
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from rnncourse.applications import CharacterRNN
from rnncourse.bptt import unroll
from rnncourse.clipping import norm_per_step
from rnncourse.initialization import MAPS, initialize_, keep_orthogonal_
from rnncourse.recurrence import VanillaRNN
from rnncourse.sequences import Vocabulary, census_names

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
    """Median milliseconds of each contestant, see ``rounds``."""
    return {name: statistics.median(times) for name, times in rounds(contestants, seconds).items()}


def rounds(contestants, seconds, calls=3):
    """The milliseconds of each contestant's calls, ``calls`` at a turn, in rounds that each begin with another, for ``seconds``.

    Before each turn comes a call that is not counted, so that, as in training, a call follows one of its own kind: in what
    another has left of the heap, a pass may find its memory given back, and fetching it anew costs up to an eighth.
    """
    names, times = list(contestants), {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < 5:
        names = names[1:] + names[:1]
        for name in names:
            contestants[name]()
            for _ in range(calls):
                start = time.perf_counter()
                contestants[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def print_table(title, table, decimals=2):
    """A table under its title, its numbers rounded; where there is none, nothing."""
    print(f"\n{title}\n{table.to_string(index_names=False, float_format=f'{{:.{decimals}f}}'.format, na_rep='')}")


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


def passes(B, T, n, H):
    """A forward and backward pass at one shape: the engine's, its peers', and of both kinds with every ‖dL/dh_t‖ recorded."""
    torch.manual_seed(0)
    x, h_0, dL_dh = torch.randn(B, T, n), torch.zeros(B, H), torch.randn(B, T, H)
    rnn, W_x, W_h = nn.RNN(n, H, batch_first=True), nn.Linear(n, H), nn.Linear(H, H, bias=False)
    ours = [w.detach().clone().requires_grad_() for w in (rnn.weight_ih_l0, rnn.bias_ih_l0, rnn.weight_hh_l0)]

    def loop(watch=None):
        tutorial_loop(x, h_0, W_x, W_h, watch).backward(dL_dh)

    def recording():
        keep = {}
        unroll(x, h_0, *ours, keep=keep).backward(dL_dh)
        return norm_per_step(keep["dL_dh"])

    def retaining():
        states = []
        loop(watch=lambda h: (h.retain_grad(), states.append(h)))
        return [h.grad.norm() for h in states]

    def hooking():
        norms = []
        loop(watch=lambda h: h.register_hook(lambda grad: norms.append(grad.norm())))
        return norms

    return {
        "loop": loop,
        "nn.RNN": lambda: rnn(x)[0].backward(dL_dh),
        "engine": lambda: unroll(x, h_0, *ours).backward(dL_dh),
        "engine, recording": recording,
        "loop, retain_grad": retaining,
        "loop, hooks": hooking,
        "floor": floor_of(B, T, n, H),
    }


def engine_against_peers(seconds=SECONDS):
    """The engine beside the tutorial's loop, ``nn.RNN`` and the floor; and what watching ‖dL/dh_t‖ costs, three ways."""
    shapes = tqdm(SHAPES, desc="engine", leave=False)
    rows = [{"shape": str(shape), **interleaved(passes(*shape), seconds)} for shape in shapes]
    times = pd.DataFrame(rows).set_index("shape")
    ratios = over(times, [("loop", "engine"), ("nn.RNN", "engine"), ("engine", "floor")])
    print_table(
        "Engine: forward + backward, beside the tutorial's loop, nn.RNN and the bare matrix products (floor), ms",
        pd.concat([times[["loop", "nn.RNN", "engine", "floor"]], ratios], axis=1),
    )
    watching = [("engine, recording", "engine"), ("loop, retain_grad", "loop"), ("loop, hooks", "loop")]
    print_table("What recording every ‖dL/dh_t‖ costs: over a pass without", over(times, watching), 3)


def over(times, pairs):
    """The ratios a/b of a table's columns, for each of the ``pairs`` (a, b), and below them their geometric means."""
    ratios = pd.DataFrame({f"{a}/{b}": times[a] / times[b] for a, b in pairs})
    ratios.loc["geometric mean"] = ratios.apply(statistics.geometric_mean)
    return ratios


def several_seeds(seconds=SECONDS / 3):
    """One call for S models beside S calls, milliseconds a training pass of all of them."""

    def both(S, B, T, n, H):
        x, together = torch.randn(S, B, T, n), VanillaRNN(n, H, 4, seeds=range(S))
        alone = [VanillaRNN(n, H, 4) for _ in range(S)]
        return {
            "together": lambda: together(x)[0].sum().backward(),
            "one by one": lambda: [model(x_s)[0].sum().backward() for model, x_s in zip(alone, x)],
        }

    shapes = tqdm([(8, 32, 30, 4, 16), (8, 32, 50, 4, 32), (8, 32, 50, 4, 64)], desc="seeds", leave=False)
    rows = [{"models, shape": str(shape), **interleaved(both(*shape), seconds)} for shape in shapes]
    table = pd.DataFrame(rows).set_index("models, shape")
    table["one by one/together"] = table["one by one"] / table["together"]
    print_table("Several models of (models, shape) at once, forward + backward, beside one after another, ms", table)


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
        steps = {map: training_step(shape, map) for map in ("free", *MAPS)}
        rows.append({"shape": str(shape), **interleaved(steps, seconds)})
    times = pd.DataFrame(rows).set_index("shape")
    ratios = times[list(MAPS)].div(times["free"], axis=0).add_suffix("/free")
    title = "Orthogonal W_hh: a training step by each map, over one with W_hh free, ms"
    print_table(title, pd.concat([times[["free"]], ratios], axis=1))


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
        name: int(subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True).stdout) / 1e6
        for name in ("nn.RNN", "engine")
    }
    row = pd.DataFrame([{**used, "engine/nn.RNN": used["engine"] / used["nn.RNN"]}], index=["(16, 10000, 8, 64)"])
    print_table("Peak memory that forward + backward add, MB", row)


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
    from nbclient import NotebookClient  # here: these two take seconds, and notebooks import this module for its peers
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(cells=[new_code_cell(REDRAW)])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = "".join(o.text for o in notebook.cells[0].outputs if o.output_type == "stream" and o.name == "stdout")
    rows = json.loads(printed.split("ROWS")[1])
    table = pd.DataFrame(rows, columns=["name", "explorer", "interact"]).set_index("name")
    table["explorer/interact"] = table["explorer"] / table["interact"]
    print_table("Explorers: from a slider's new value to the new picture, beside ipywidgets.interact, ms", table)


# ---------------------------------------------------------------- the character model at three well-known recipes

# Each recipe is a pair of makers, called with a text (numbers of 27 characters) and a dtype. They return a step: it fetches its
# batch, trains on it and returns the loss. Both begin with the same weights and meet the same batches, in the same order.


def textbook(text, dtype=torch.float32, loader=True, batch=1024, T=32, H=32):
    """The RNN from scratch of a well-known textbook (Dive into Deep Learning): one-hot inputs, a loop, SGD 1, norm clipped at 1."""
    windows, order = text.unfold(0, T + 1, 1), fixed_order(len(text) - T, batch)
    if loader:
        pairs = TensorDataset(windows[:, :-1], windows[:, 1:])
        batches = cycle_of(lambda: DataLoader(pairs, batch, sampler=order.flatten().tolist()))
    else:
        batches = cycle_of(lambda: ((windows[rows, :-1], windows[rows, 1:]) for rows in order))
    W_xh, b_h, W_hh, W_hy, b_y = parameters = small_weights(H, dtype)

    def step():
        x, y = next(batches)
        h, outputs = torch.zeros(batch, H, dtype=dtype), []
        for x_t in F.one_hot(x.T, 27).to(dtype):
            h = torch.tanh(x_t @ W_xh + h @ W_hh + b_h)
            outputs.append(h @ W_hy + b_y)
        loss = F.cross_entropy(torch.stack(outputs, 1).reshape(-1, 27), y.reshape(-1))
        for p in parameters:
            p.grad = None
        loss.backward()
        with torch.no_grad():
            norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
            for p in parameters:
                p -= p.grad / norm if norm > 1 else p.grad
        return loss.item()

    return step


def textbook_ours(text, dtype=torch.float32, batch=1024, T=32, H=32):
    windows, order = text.unfold(0, T + 1, 1), fixed_order(len(text) - T, batch)
    batches = cycle_of(lambda: (windows[rows] for rows in order))
    model = character_model(small_weights(H, dtype))
    update, parameters = torch.optim.SGD(model.parameters(), lr=1, fused=True), list(model.parameters())

    def step():
        xy = next(batches)
        loss, _, _ = model.backpropagate(xy[:, :-1], xy[:, 1:])
        nn.utils.clip_grad_norm_(parameters, 1, foreach=False)
        update.step()
        return loss.item()

    return step


def min_char(text, dtype=np.float64, T=25, H=100):
    """min-char-rnn's recipe in NumPy: one text, the state carried on, Adagrad 0.1, every entry of the gradient clipped at 5."""
    text = text.numpy()
    W_xh, b_h, W_hh, W_hy, b_y = parameters = [
        p.detach().numpy().astype(dtype).T.reshape(p.shape[-1], -1).copy() for p in small_weights(H)
    ]
    memory, place, h_final = [np.zeros_like(p) for p in parameters], cycle(range(0, len(text) - T - 1, T)), np.zeros((H, 1))

    def step():
        nonlocal h_final
        start = next(place)
        x, h, p, loss = {}, {-1: h_final}, {}, 0.0
        for t in range(T):
            x[t] = np.zeros((27, 1), dtype)
            x[t][text[start + t]] = 1
            h[t] = np.tanh(W_xh @ x[t] + W_hh @ h[t - 1] + b_h)
            scores = np.exp(W_hy @ h[t] + b_y)
            p[t] = scores / scores.sum()
            loss -= np.log(p[t][text[start + t + 1], 0])
        dW_xh, db_h, dW_hh, dW_hy, db_y = gradients = [np.zeros_like(parameter) for parameter in parameters]
        dh_later = np.zeros_like(h_final)
        for t in reversed(range(T)):
            dy = p[t].copy()
            dy[text[start + t + 1]] -= 1
            dW_hy += dy @ h[t].T
            db_y += dy
            da = (1 - h[t] ** 2) * (W_hy.T @ dy + dh_later)
            db_h += da
            dW_xh += da @ x[t].T
            dW_hh += da @ h[t - 1].T
            dh_later = W_hh.T @ da
        for parameter, gradient, squares in zip(parameters, gradients, memory):
            np.clip(gradient, -5, 5, out=gradient)
            squares += gradient * gradient
            parameter -= 0.1 * gradient / np.sqrt(squares + 1e-8)
        h_final = h[T - 1]
        return loss / T

    return step


def min_char_torch(text, dtype=torch.float64, T=25, H=100):
    """The same recipe as it is written with PyTorch and autograd."""
    W_xh, b_h, W_hh, W_hy, b_y = parameters = small_weights(H, dtype)
    adagrad = torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=1e-8, eps=0)  # min-char-rnn's formula
    place, h = cycle(range(0, len(text) - T - 1, T)), torch.zeros(1, H, dtype=dtype)

    def step():
        nonlocal h
        start, outputs = next(place), []
        for x_t in F.one_hot(text[start : start + T], 27).to(dtype):
            h = torch.tanh(x_t @ W_xh + h @ W_hh + b_h)
            outputs.append(h @ W_hy + b_y)
        loss = F.cross_entropy(torch.cat(outputs), text[start + 1 : start + T + 1], reduction="sum")
        adagrad.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(parameters, 5)
        adagrad.step()
        h = h.detach()
        return loss.item() / T

    return step


def min_char_ours(text, dtype=torch.float64, T=25, H=100):
    """The same recipe as the course trains it, in float64 as NumPy computes."""
    model = character_model(small_weights(H, dtype))
    parameters = list(model.parameters())
    adagrad = torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=1e-8, eps=0, fused=True)
    place, h = cycle(range(0, len(text) - T - 1, T)), None

    def step():
        nonlocal h
        start = next(place)
        xy = text[None, start : start + T + 1]
        loss, h, _ = model.backpropagate(xy[:, :-1], xy[:, 1:], h, mean=False)
        nn.utils.clip_grad_value_(parameters, 5, foreach=False)
        adagrad.step()
        return loss.item() / T

    return step


class MakemoreRNN(nn.Module):
    """makemore's RNN in plain PyTorch: an embedding, a cell on (character, state) in one product, a start that is learned."""

    def __init__(self, H):
        super().__init__()
        self.start, self.embedding = nn.Parameter(torch.zeros(1, H)), nn.Embedding(27, H)
        self.cell, self.readout = nn.Linear(2 * H, H), nn.Linear(H, 27)

    def forward(self, x, y):
        embedded, h, states = self.embedding(x), self.start.expand(len(x), -1), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.cell(torch.cat([embedded[:, t], h], dim=1)))
            states.append(h)
        outputs = self.readout(torch.stack(states, dim=1))
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten(), ignore_index=-1)


class PaddedNames(torch.utils.data.Dataset):
    """Names as makemore serves them: x is the end's number 0, the name, and 0 to fill; y the name, 0, and -1 to fill."""

    def __init__(self, text, T):
        self.names, self.T = [name for name in split_names(text) if len(name) < T], T

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        name, x, y = self.names[i], torch.zeros(self.T, dtype=torch.long), torch.zeros(self.T, dtype=torch.long)
        x[1 : 1 + len(name)] = name
        y[: len(name)] = name
        y[len(name) + 1 :] = -1
        return x, y

    def whole(self):
        """All of them at once, the same numbers: x and y (names, T)."""
        filled, ends = nn.utils.rnn.pad_sequence(self.names, batch_first=True), torch.tensor([[len(name)] for name in self.names])
        x, y = torch.zeros(2, len(self), self.T, dtype=torch.long)
        x[:, 1 : 1 + filled.shape[1]] = filled
        y[:, : filled.shape[1]] = filled
        return x, y.masked_fill_(torch.arange(self.T) > ends, -1)


def makemore(text, dtype=torch.float32, loader=True, batch=32, T=16, H=64):
    """The recipe of makemore's RNN: padded names, drawn with replacement, AdamW 5e-4."""
    names = PaddedNames(text, T)
    order = fixed_order(len(names), batch)
    if loader:
        batches = cycle_of(lambda: DataLoader(names, batch, sampler=order.flatten().tolist()))
    else:
        x, y = names.whole()
        batches = cycle_of(lambda: ((x[rows], y[rows]) for rows in order))
    torch.manual_seed(0)
    model = MakemoreRNN(H).to(dtype)
    adamw = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01, betas=(0.9, 0.99))

    def step():
        loss = model(*next(batches))
        adamw.zero_grad()
        loss.backward()
        adamw.step()
        return loss.item()

    return step


def makemore_ours(text, dtype=torch.float32, batch=32, T=16, H=64):
    names = PaddedNames(text, T)
    order = fixed_order(len(names), batch)
    x, y = names.whole()
    batches = cycle_of(lambda: ((x[rows], y[rows]) for rows in order))
    torch.manual_seed(0)
    plain = MakemoreRNN(H)
    model = character_model(
        (plain.cell.weight[:, :H].T, plain.cell.bias, plain.cell.weight[:, H:].T, plain.readout.weight.T, plain.readout.bias),
        plain.embedding.weight,
    ).to(dtype)
    start = nn.Parameter(torch.zeros(1, H, dtype=dtype))
    adamw = torch.optim.AdamW([*model.parameters(), start], lr=5e-4, weight_decay=0.01, betas=(0.9, 0.99), fused=True)

    def step():
        x, y = next(batches)
        loss, _, dL_dh_0 = model.backpropagate(x, y, start.expand(len(x), -1))
        start.grad = dL_dh_0.sum(dim=0, keepdim=True)
        adamw.step()
        return loss.item()

    return step


RECIPES = {
    "textbook: batch 1024, T 32, H 32": {
        "plain": textbook,
        "plain, no loader": lambda text, **options: textbook(text, loader=False, **options),
        "ours": textbook_ours,
    },
    "min-char-rnn: batch 1, T 25, H 100": {
        "plain": min_char,
        "plain, PyTorch": min_char_torch,
        "ours": min_char_ours,
    },
    "makemore: batch 32, T 16, H 64": {
        "plain": makemore,
        "plain, no loader": lambda text, **options: makemore(text, loader=False, **options),
        "ours": makemore_ours,
    },
}


def fixed_order(count, batch):
    """Which of ``count`` examples come in which batch, the same for all contestants: at most 50 rows of numbers."""
    rows = min(50, count // batch)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[: rows * batch].view(rows, batch)


def cycle_of(make):
    """The batches of ``make()``, again and again."""
    while True:
        yield from make()


def small_weights(H, dtype=torch.float32):
    """W_xh, b_h, W_hh, W_hy, b_y for rows of vectors (x @ W_xh), N(0, 0.01²) and zeros, as both from-scratch recipes begin."""
    generator = torch.Generator().manual_seed(0)
    shapes = (27, H), (H,), (H, H), (H, 27), (27,)
    drawn = [0.01 * torch.randn(s, generator=generator) if len(s) == 2 else torch.zeros(s) for s in shapes]
    return [w.to(dtype).requires_grad_() for w in drawn]


@torch.no_grad()
def character_model(weights, embedding=None):
    """A ``CharacterRNN`` with given weights, those of the plain model."""
    W_xh, b_h, W_hh, W_hy, b_y = weights
    model = CharacterRNN(27, len(W_hh), None if embedding is None else len(W_xh)).to(W_hh.dtype)
    given = {"W_xh.weight": W_xh.T, "W_xh.bias": b_h, "W_hh.weight": W_hh.T, "W_hy.weight": W_hy.T, "W_hy.bias": b_y}
    model.load_state_dict({**given, **({} if embedding is None else {"E": embedding})})
    return model


def names_text(count=20_000):
    """Census names as numbers, each ended by 0, in a fixed random order: "a" is 1."""
    names = census_names(count=count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    return Vocabulary("\nabcdefghijklmnopqrstuvwxyz").encode("".join(names[i] + "\n" for i in order))


def split_names(text):
    """The names in a text of numbers, without their ends."""
    ends = (text == 0).nonzero().flatten()
    return [text[a + 1 : b] for a, b in zip([-1, *ends.tolist()], ends.tolist())]


def losses_apart(makers, text, steps=20, dtype=torch.float64):
    """The largest difference between our losses and the plain ones' in the first steps, all computed in ``dtype``.

    (min-char-rnn's first steps are as long as Adagrad's rate, whatever the gradient: in float32 a difference in the last digit
    grows to one in the first within some ten steps.)
    """
    dtypes = {name: str(dtype).removeprefix("torch.") if make is min_char else dtype for name, make in makers.items()}
    makers = {name: make(text, dtype=dtypes[name]) for name, make in makers.items()}
    losses = {name: torch.tensor([float(step()) for _ in range(steps)], dtype=torch.float64) for name, step in makers.items()}
    return max((losses[name] - losses["ours"]).abs().max().item() for name in losses)


def character_recipes(seconds=SECONDS):
    """A training step, data fetch included, of ``CharacterRNN`` at three well-known recipes, beside plain versions: a table.

    "plain" is the recipe as it is commonly written, "plain otherwise" the same without a ``DataLoader``, or with PyTorch where the
    recipe has NumPy. Medians; the last column is of the least times, which other work on the machine disturbs less.
    """
    rows, text = [], names_text()
    for recipe, makers in tqdm(RECIPES.items(), desc="recipes", leave=False):
        calls = rounds({name: make(text) for name, make in makers.items()}, seconds)
        median, least = ({name: f(times) for name, times in calls.items()} for f in (statistics.median, min))
        plain, otherwise, ours = median.values()
        row = {"recipe": recipe, "plain, ms": plain, "plain otherwise, ms": otherwise, "ours, ms": ours}
        row |= {"plain/ours": plain / ours, "otherwise/ours": otherwise / ours}
        rows.append({**row, "least plain/least ours": least["plain"] / least["ours"]})
    return pd.DataFrame(rows).set_index("recipe")


def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}. Medians in milliseconds; what is compared was timed in turn, in the same run.")
    table, text = character_recipes(), names_text()
    table.columns = ["plain", "otherwise", "ours", "plain/ours", "otherwise/ours", "least/least"]
    table["differ by"] = [f"{losses_apart(makers, text):.0e}" for makers in RECIPES.values()]
    print_table("Character model: a training step, data fetch included, one thread, ms", table)
    print("plain: as commonly written; otherwise: without a DataLoader, or, min-char-rnn being NumPy, with PyTorch;")
    print("least: plain/ours of the shortest times; differ by: the largest difference of their losses in 20 steps, in float64")
    torch.set_num_threads(2)
    print(f"\nFrom here on: {torch.get_num_threads()} threads. Shapes are (batch, T, inputs, hidden).")
    engine_against_peers()
    several_seeds()
    orthogonal_maps()
    peak_memory()
    explorers()


if __name__ == "__main__":
    main()
