"""Imports run one way: a module imports only those that stand before it, so that each can be read with what came before."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rnncourse"

# The notebooks' modules in the order in which they build on each other, then what shows, asks, measures and marks. The
# engine of notebook 03 stands before the model of notebook 02, which runs on it.
ORDER = ["arguments", "compiler", "sequences", "bptt", "recurrence", "training", "gradients", "clipping", "initialization"]
ORDER += ["applications", "claims", "plotting", "widgets", "exercises", "bench", "grading", "__main__"]
ENGINE = ["sequences", "bptt"]  # import nothing of the course but the checks of their arguments
APART = ["claims", "plotting"]  # the same: they know nothing of networks


def modules():
    """Each module's name and the file it is in; a folder's modules count as one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name != "__init__":
            yield name, path


def imported(source):
    """What a source imports, anywhere in it, as dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def complaints(name, source):
    """What is wrong with the imports of the course's module ``name``, one sentence each."""
    if name not in ORDER:
        return [f"{name} has no place in the order: give it one"]
    found = []
    for dotted in imported(source):
        top, _, rest = dotted.partition(".")
        other = rest.split(".")[0]
        if top in ("", "notebooks", "tests", "tools"):
            found.append(f"{name} imports {dotted}")
        if top != "rnncourse" or other == name:
            continue
        if other not in ORDER or ORDER.index(other) > ORDER.index(name):
            found.append(f"{name} imports {other}, which stands after it")
        if name in ENGINE + APART and other != "arguments":
            found.append(f"{name} imports {other}, and should stand alone")
    return found


@pytest.mark.parametrize("name, path", list(modules()), ids=lambda value: str(value).removeprefix(f"{PACKAGE}/"))
def test_imports_run_one_way(name, path):
    assert complaints(name, path.read_text()) == []


@pytest.mark.parametrize(
    "name, source",
    [
        ("bptt", "from rnncourse.recurrence import VanillaRNN"),
        ("bptt", "from rnncourse.sequences import Latch"),
        ("plotting", "import rnncourse.training"),
        ("recurrence", "from rnncourse import training"),
        ("gradients", "def f():\n    from rnncourse.plotting import curve"),
        ("training", "from rnncourse.exercises.bptt import EXERCISES"),
        ("training", "from . import bptt"),
        ("widgets", "from notebooks import helper"),
        ("widgets", "from rnncourse import *"),
        ("helpers", ""),
    ],
)
def test_the_other_way_is_found(name, source):
    assert complaints(name, source)


def test_the_right_way_is_not():
    assert complaints("recurrence", "import torch\nfrom rnncourse.bptt import unroll\nfrom torch import nn") == []
    assert complaints("exercises", "from rnncourse.exercises import bptt\nfrom rnncourse.training import train") == []
