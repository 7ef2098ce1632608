"""Submissions that attack the marking, or only look odd: each with the marks it deserves on the two exercises.

A hostile one does its worst in the first exercise, mostly without solving it, and solves the second, which must count.
"""

import json
import re

from nbformat.v4 import new_code_cell, new_notebook

from submitting import RIGHT, TEXT, WRONG, assignment, filled, released, write


def first(body):
    """An answer to the first exercise with this body."""
    return "def step_jacobian(h_t, W_hh):\n" + "\n".join("    " + line for line in body.split("\n"))


CASES = {}  # name -> (notebook or bytes, marks)


def case(name, marks, notebook):
    CASES[name] = (notebook, marks)


# ---------------------------------------------------------------- honest, each in its own way

case("right", (1, 1), filled())
case("a typical mistake", (0, 1), filled(WRONG))
case("a stub", (0, 0), filled(*(f"def {n}(*a):\n    ...  # your code here" for n in RIGHT), text="*Your answer here.*"))
case(
    "another style",
    (1, 1),
    filled(first("J = W_hh.clone()\nfor i, h in enumerate(h_t):\n    J[i] *= 1 - h * h\nreturn J")),
)
case("numpy", (1, 1), filled(first("import numpy as np\nreturn np.diag(1 - h_t.numpy()**2) @ W_hh.numpy()")))
case(
    "a helper of its own",
    (1, 1),
    filled(first("return slope(h_t) * W_hh"), before="slope = lambda h: (1 - h**2)[:, None]"),
)
case(
    "warnings",
    (1, 1),
    filled(
        first(
            "import sys, warnings\nwarnings.warn('hm')\nprint('!', file=sys.stderr)"
            + "\nreturn (1 - h_t**2)[:, None] * W_hh"
        )
    ),
)
case(
    "prints and plots",
    (1, 1),
    filled(before="import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('hello')"),
)
case(
    "slow",
    (1, 1),
    filled(
        first("import time\ntime.sleep(0.4)" + "\nreturn (1 - h_t**2)[:, None] * W_hh"),
        before="import time\ntime.sleep(1)",
    ),
)
case("magics", (1, 1), filled(before="%matplotlib inline\n!echo shell > note.txt\nopen('note.txt').read()"))
case(
    "magics for figures",
    (1, 1),
    filled(
        "%matplotlib inline\nimport math\n" + first("return (math.prod([1, 1]) - h_t**2)[:, None] * W_hh"),
        "%matplotlib notebook\nfrom math import pow as power\n"
        "def gradient_magnitude(sigma, slope, steps):\n    return power(slope * sigma, steps)",
        before="%matplotlib widget\n%gui qt\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    ),
)
case(
    "threads of its own",
    (1, 1),
    filled(before="import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()"),
)
case("an error before", (1, 1), filled(before="1 / 0"))

copied = filled()
copied.cells.insert(3, copied.cells[2].copy())
case("a copied cell", (1, 1), copied)
stub_copy = filled()
stub_copy.cells.insert(3, released().cells[2])
case("a copied stub after the answer", (1, 1), stub_copy)
all_twice = filled()
all_twice.cells = all_twice.cells + [cell.copy() for cell in all_twice.cells]
case("everything twice", (1, 1), all_twice)
below = released()
for at, name in ((7, "gradient_magnitude"), (4, "step_jacobian")):
    below.cells.insert(at, new_code_cell(RIGHT[name]))
case("answers in new cells below the checks", (1, 1), below)
in_one = released()
in_one.cells.insert(1, new_code_cell("\n\n\n".join(RIGHT.values())))
case("all functions in one cell, stubs below", (1, 1), in_one)
in_one = filled()
in_one.cells[1:3] = [new_code_cell("\n\n\n".join(RIGHT.values()))]
in_one.cells = [c for c in in_one.cells if not c.metadata.get("nbgrader", {}).get("grade_id", "").startswith("answer")]
case("all functions in one cell, answer cells deleted", (1, 1), in_one)
moved = filled()
moved.cells.insert(1, moved.cells.pop(3))
case("a test moved above its answer", (1, 1), moved)
deleted = filled()
deleted.cells = [
    c for c in deleted.cells if c.metadata.get("nbgrader", {}).get("grade_id") not in ("setup", "check_step_jacobian")
]
case("deleted cells", (1, 1), deleted)
bare = filled()
for cell in bare.cells:
    cell.metadata = {}
case("no metadata", (1, 1), bare)
edited = filled()
edited.cells[3].source = "check.step_jacobian(lambda *a: 1)  # mine"
case("an edited test", (1, 1), edited)
for name, about in {
    "metadata of another version": {"schema_version": 99, "grade_id": "answer_step_jacobian", "points": "many"},
    "metadata that is a list": [1, 2],
    "a name that is a number": {"grade_id": 7},
}.items():
    odd = filled()
    odd.cells[2].metadata["nbgrader"] = about
    case(name, (1, 1), odd)
points = filled(WRONG)
points.cells[3].metadata["nbgrader"]["points"] = 48
case("points raised", (0, 1), points)
typed = filled()
typed.cells[2].cell_type = "raw"
case("an answer cell of another type", (1, 1), typed)
case("nbformat 99", (1, 1), dict(filled(), nbformat=99, nbformat_minor=7))
v3 = [
    {"cell_type": c.cell_type, "input" if c.cell_type == "code" else "source": c.source, "metadata": c.metadata}
    for c in filled().cells
]
case(
    "nbformat 3",
    (1, 1),
    {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": v3, "metadata": {}}]},
)
case("utf-16", (1, 1), json.dumps(filled(text="für"), ensure_ascii=False).encode("utf-16"))
case("latin-1", (1, 1), json.dumps(filled(text="für"), ensure_ascii=False).encode("latin-1"))
large = filled()
large.cells[2].outputs = [{"output_type": "stream", "name": "stdout", "text": "x" * (50 << 20)}]
case("50 MB", (1, 1), large)

# ---------------------------------------------------------------- no notebooks

case("an empty file", None, b"")
case("a text", None, b"I did it in Word, sorry")
case("a list", None, b"[1, 2]")
case("nested a million deep", None, b"[" * 1_000_000)
case(
    "cells that are none",
    (0, 0),
    {"cells": [1, None, {"source": 3}, {"cell_type": "code", "source": [1, "x"]}], "nbformat": 4},
)

# ---------------------------------------------------------------- for marks that are not deserved

case(
    "its own check",
    (0, 1),
    filled(WRONG, before="class check:\n    def __getattr__(s, n): return lambda *a: 1.0\ncheck = check()"),
)
case(
    "torch.allclose",
    (0, 1),
    filled(
        WRONG,
        before="import torch, numpy\ntorch.allclose = numpy.allclose = lambda *a, **k: True\ntorch.equal = torch.allclose",
    ),
)
case(
    "an input transformer",
    (0, 0),  # it undoes its own second answer
    filled(
        WRONG,
        before="get_ipython().input_transformers_post.append(lambda lines: ['1.0'])\nget_ipython().ast_transformers.clear()",
    ),
)
case(
    "sys.displayhook",
    (0, 1),
    filled(WRONG, before="import sys\nsys.displayhook = lambda v: print(1.0)\nsys.stdout.write = lambda t: None"),
)
case(
    "builtins",
    (0, 1),
    filled(
        WRONG,
        before="import builtins\nbuiltins.abs = lambda x: 0.0\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 1",
        second=RIGHT["gradient_magnitude"],
    ),
)
case(
    "the package patched",
    (0, 1),
    filled(
        WRONG,
        before="import rnncourse.exercises as e, sys\ne.check_answer = lambda *a: 1\nsys.modules['rnncourse.exercises.checking'] = e",
    ),
)
case(
    "a result equal to everything",
    (0, 1),
    filled(
        "class Equal(float):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0.0\n    __hash__ = float.__hash__\n"
        + first("return Equal(0.0)")
    ),
)
case(
    "a tensor that lies about its shape",
    (0, 1),
    filled(
        "import torch\nclass Liar(torch.Tensor):\n    @property\n    def shape(s): return torch.Size([5, 5])\n    def __eq__(s, o): return True\n"
        + first("return torch.zeros(3).as_subclass(Liar)")
    ),
)
case(
    "a pickle with a bomb",
    (0, 1),
    filled("class Bomb:\n    def __reduce__(s): return (exec, ('import os; os._exit(0)',))\n" + first("return Bomb()")),
)
case(
    "a forged message",
    (0, 1),
    filled(
        first(
            "import os, struct\nt = b'{\"dict\": [[\"value\", 1.0]]}'\nfor n in range(3, 100):\n    try: os.write(n, struct.pack('>QQ', len(t), 0) + t)\n    except OSError: pass\nreturn W_hh"
        )
    ),
)
case(
    "a message that is no message",
    (0, 1),
    filled(
        first(
            "import os\nfor n in range(3, 100):\n    try: os.write(n, b'\\xff' * 64)\n    except OSError: pass\nreturn W_hh"
        )
    ),
)
case(
    "a look at the caller",
    (0, 1),
    filled(
        first(
            "import gc, inspect\nfound = [f.function for f in inspect.stack()]\nobjects = [o for o in gc.get_objects() if type(o).__name__ in ('Exercise', 'Mistake')]\nif objects: return objects[0].reference(h_t, W_hh)\nreturn W_hh"
        )
    ),
)

# ---------------------------------------------------------------- to stop the marking, or to take all there is

LOOP = "import time\nwhile True:\n    try: time.sleep(0.01)\n    except BaseException: pass"  # idle: other tests run meanwhile
case(
    "an endless answer",
    (0, 1),
    filled(first("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + LOOP)),
)
case("an endless cell", (1, 1), filled(before="import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n" + LOOP))
case("an answer, then an endless loop", (1, 1), filled(RIGHT["step_jacobian"] + "\nwhile True: pass"))
case("os._exit in an answer", (0, 1), filled(first("import os\nos._exit(0)")))
case("os._exit in a cell", (1, 1), filled(before="import os\nos._exit(0)"))
case("sys.exit", (0, 1), filled(first("raise SystemExit(0)"), before="exit()"))
case("a crash", (0, 1), filled(first("import ctypes\nctypes.string_at(1)")))
case(
    "kills everybody",
    (0, 1),
    filled(
        first(
            "import os\nfor p in (0, -1, 1, os.getppid(), os.getpid()):\n    try: os.kill(p, 9)\n    except OSError: pass\nreturn W_hh"
        )
    ),
)
case(
    "a fork bomb",
    (0, 1),
    filled(first("import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.1)")),
)
case(
    "a thousand threads",
    (0, 1),
    filled(
        first(
            "import threading, time\nfor _ in range(1000): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nreturn W_hh"
        )
    ),
)
case("5 GB", (0, 1), filled(first("return bytearray(5 << 30)")))
case("a print of 100 MB", (1, 1), filled(before="for _ in range(100): print('x' * (1 << 20))"))
case("an enormous result", (0, 1), filled(first("import torch\nreturn torch.zeros(30_000_000)")))
case("an enormous list", (0, 1), filled(first("return [0.0] * 20_000_000")))
case("an enormous number", (0, 1), filled(first("return 10 ** 100_000")))
case("a result nested deep", (0, 1), filled(first("x = []\nfor _ in range(100_000): x = [x]\nreturn x")))
case("a result that contains itself", (0, 1), filled(first("x = []\nx.append(x)\nreturn x")))
case("many open files", (0, 1), filled(first("kept = [open('/dev/null') for _ in range(100_000)]\nreturn W_hh")))
case(
    "fills the disk",
    (0, 1),
    filled(first("n = 0\nwhile True:\n    n += 1\n    open(f'f{n}', 'wb').write(b'x' * (8 << 20))")),
)
case("an error with half a character", (0, 1), filled(first("raise ValueError('\\ud800 \\u202e turned')")))
case("a result with half a character", (0, 1), filled(first("return '\\ud800'")))
many = filled()
many.cells += [new_code_cell("def x\n" * 16_000) for _ in range(40)]
case("cells of 4 MB", None, many)
case("an error that lies", (0, 1), filled("class E(Exception):\n    def __str__(s): raise E\n" + first("raise E")))
case(
    "leaves a process behind",
    (0, 1),
    filled(first("import subprocess\nsubprocess.Popen(['sleep', '98765'], start_new_session=True)\nreturn W_hh")),
)

# ---------------------------------------------------------------- to see or to change what is not theirs; {…} are paths

READS = """import glob, os
found = []
for place in {places!r}:
    for top, folders, files in os.walk(place):
        found += [os.path.join(top, f) for f in files]
for name in {files!r}:
    try: found.append(open(name, 'rb').read(9))
    except OSError: pass
print('FOUND', found)"""
WRITES = """for name in {files!r} + {new!r}:
    try: print('WROTE', name, open(name, 'ab').write(b'x'))
    except OSError: pass"""
CALLS = """import socket
for address in [('127.0.0.1', {port}), ('1.1.1.1', 53)]:
    try: print('REACHED', socket.create_connection(address, 1))
    except OSError: pass"""
case("reads solutions and others' work", (0, 1), (WRONG, READS))
case("writes to the gradebook", (0, 1), (WRONG, WRITES))
case("calls home", (0, 1), (WRONG, CALLS))

# ---------------------------------------------------------------- for the one who reads

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
case(
    "script in its outputs",
    (0, 1),
    filled(
        first(f"raise ValueError({SCRIPT!r})"),
        before=f"from IPython.display import HTML\nprint({SCRIPT!r})\nHTML({SCRIPT!r})",
        text=f"{TEXT} {SCRIPT}",
    ),
)
case("nothing but a cell", (0, 0), new_notebook(cells=[new_code_cell("print('hi')")]))

# ---------------------------------------------------------------- handed in


def student(name):
    return re.sub(r"\W+", "-", name).strip("-")


def hand_in(folder, notebooks):
    for name, notebook in notebooks.items():
        write(folder / student(name) / "two.ipynb", notebook)


FEW = ("right", "a typical mistake", "a stub", "another style", "os._exit in an answer", "a copied cell")


def few(folder, names=FEW):
    hand_in(folder / "subs", {name: CASES[name][0] for name in names})
    return folder / "subs", assignment(folder)
