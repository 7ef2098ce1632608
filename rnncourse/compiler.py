"""PyTorch's compiler, ``torch._dynamo``, is imported by the first step of any optimizer: seconds, and memory, to be told nothing.

In its place stands a module with what optimizers and ``torch.func`` ask for, which does nothing unless something is being
compiled. Who wants more of it, as ``torch.compile`` does, gets the real one.
"""

import contextlib
import importlib
import sys
import types

import torch

NAME = "torch._dynamo"


class Later(types.ModuleType):
    """Stands for the compiler until it is needed."""

    compiled_autograd = types.SimpleNamespace(_disable=contextlib.nullcontext)

    @staticmethod
    def graph_break(msg=""):
        pass

    @staticmethod
    def disable(fn=None, recursive=True, *, reason=None, wrapping=True):
        return (lambda fn: fn) if fn is None else fn

    def __getattr__(self, name):
        if name.startswith("__") and name != "__path__":  # whoever looks through all modules, as a traceback does, needs none
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME], torch._dynamo
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def put_off():
    """Let this process, and those that it forks, do without the compiler until it is needed. ``rnncourse.training`` does."""
    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = Later(NAME)
