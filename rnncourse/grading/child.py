"""The student's side: runs cells as a notebook would, and lets the grader look names up and call what they hold.

Everything here runs in the student's process, which may do with it what it likes: the grader believes none of it.
"""

import contextlib
import io
import json
import random
import re
import signal
import sys
import traceback
import warnings

import matplotlib
import numpy as np
import torch
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib_inline.backend_inline import configure_inline_support
from traitlets.config import Config

from rnncourse.grading import wire

TEXT = 100_000  # characters of output kept, a cell
PICTURES = 4_000_000  # characters of pictures kept, a cell
OTHERS = re.compile(r"\s*File (?!<)")  # a frame of a traceback in a file: nobody's cell
INLINE = "module://matplotlib_inline.backend_inline"
WARM_UP = "import matplotlib.pyplot as plt\nplt.plot([1, 2], label='$h_t$')\nplt.legend()\nplt.show()\n"


class TimeIsUp(BaseException):
    """A cell took too long. No ``Exception``, so that an ``except Exception`` in it does not go on."""


class Outputs(list):
    """What a cell shows, as a notebook stores it, up to a limit."""

    def start(self):
        self.clear()
        self.text, self.pictures = TEXT, PICTURES

    def stream(self, name, text):
        kept = text[: self.text]
        if len(kept) < len(text) and self.text:
            kept += "\n... (more was printed; it is not kept)\n"
        self.text = max(0, self.text - len(text))
        if self and self[-1].get("name") == name:
            self[-1]["text"] += kept
        elif kept:
            self.append({"output_type": "stream", "name": name, "text": kept})

    def show(self, kind, data):
        text, picture = str(data.get("text/plain", ""))[:TEXT], data.get("image/png", "")
        kept = {"text/plain": text}
        if picture and len(picture) <= self.pictures:
            self.pictures -= len(picture)
            kept["image/png"] = picture
        self.append({"output_type": kind, "data": kept})


OUTPUTS = Outputs()


class Stream(io.TextIOBase):
    def __init__(self, name):
        self.name = name

    def write(self, text):
        OUTPUTS.stream(self.name, str(text))
        return len(text)


class Hook(DisplayHook):
    def __call__(self, result=None):
        if result is not None:
            OUTPUTS.show("execute_result", self.shell.display_formatter.format(result)[0])


class Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, **options):
        OUTPUTS.show("display_data", data)


class Shell(InteractiveShell):
    displayhook_class, display_pub_class = Hook, Publisher

    def _showtraceback(self, kind, value, stb):
        lines = [str(line)[:TEXT] for line in own_frames(stb)[-30:]]
        OUTPUTS.append(
            {"output_type": "error", "ename": kind.__name__, "evalue": str(value)[:2000], "traceback": lines}
        )

    def init_io(self):
        pass

    def enable_gui(self, gui=None):
        """For ``%gui``: there is no window here, and no event loop."""

    def enable_matplotlib(self, gui=None):
        """For ``%matplotlib``, whatever follows it: figures are shown as they always are here."""
        return "inline", INLINE

    system = InteractiveShell.system_raw


def own_frames(stb):
    """IPython's traceback without the frames of files: what is left are the student's cells and the error's words.

    A file's name would tell where the grader keeps things, and its lines help no student.
    """
    *frames, end = map(str, stb)
    end = end.strip().splitlines()[-1] if OTHERS.match(end) else end  # a file that is no Python: its place and the words in one
    return [frame for frame in frames if not OTHERS.match(frame)] + [end]


def make_shell():
    """The shell of every child, made in the zygote, once."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    shell = Shell.instance(config=config)
    shell.display_formatter.active_types = ["text/plain", "image/png"]
    matplotlib.use(INLINE)
    configure_inline_support(shell, INLINE)
    OUTPUTS.start()
    for source in (WARM_UP, "1 / 0"):  # what the first picture and the first error load is there for all
        shell.run_cell(source, store_history=False)
    shell.reset(new_session=False)
    return shell


def serve(connection, shell):
    """Answer the grader's requests until it closes the connection."""
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
    warnings.formatwarning = lambda message, kind, *_: f"{kind.__name__}: {message}\n"  # without the file, as in a traceback
    signal.signal(signal.SIGALRM, _time_is_up)
    connection.sendall(b"!")  # ready: whatever happens from now on is the submission's doing
    handles = {}
    while True:
        number = wire.unpack(*wire.receive(connection))
        request = wire.unpack(*wire.receive(connection), lambda node: handles[node["handle"]])
        try:
            answer = {"value": ANSWERS[request.pop("act")](shell, handles, **request)}
            data = wire.pack([number, answer], lambda value: _describe(value, handles))
        except BaseException as error:  # SystemExit and KeyboardInterrupt too
            data = wire.pack([number, {"error": _report(error, request)}])
        OUTPUTS.start()
        connection.setblocking(True)
        connection.sendall(data)


def run(shell, handles, source, seconds):
    """Run a cell; what it showed."""
    OUTPUTS.start()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        shell.run_cell(source, store_history=False)
    except TimeIsUp as error:
        OUTPUTS.append({"output_type": "error", "ename": "TimeIsUp", "evalue": str(error), "traceback": []})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return list(OUTPUTS)


def name(shell, handles, name):
    if name not in shell.user_ns:
        raise NameError(f"name {name!r} is not defined")
    return shell.user_ns[name]


def use(shell, handles, thing, args, kwargs):
    OUTPUTS.start()
    return thing(*args, **kwargs)


def attribute(shell, handles, thing, name):
    return getattr(thing, name)


ANSWERS = {"run": run, "name": name, "call": use, "attribute": attribute}


def _time_is_up(*_):
    raise TimeIsUp("this cell took too long, and was stopped")


def _describe(value, handles):
    """What the grader is told of an object that stays here."""
    from rnncourse.exercises import drawing

    if "matplotlib" in type(value).__module__ or isinstance(value, np.ndarray):  # an array of axes
        with contextlib.suppress(Exception):
            return {"drawing": json.loads(json.dumps(drawing.describe(value).to_dict()))}
    number = len(handles)
    handles[number] = value
    code = getattr(getattr(value, "__code__", None), "co_code", b"")
    return {
        "handle": number,
        "type": type(value).__name__,
        "name": str(getattr(value, "__name__", "")),
        "callable": callable(value),
        "code": len(code),
    }


def _report(error, request):
    """An error in words: its type, its text, and the line of the student's that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in (__file__, wire.__file__)]
    mine = [f for f in frames if f.name == getattr(request.get("thing"), "__name__", "")]
    where = (mine or frames)[-1] if frames else None
    line = (where and where.line) or ""
    try:
        text = str(error)
    except Exception:
        text = ""
    return {
        "type": type(error).__name__,
        "text": text[:2000],
        "place": f" at line {where.lineno} of its cell ({line[:200] or where.name})" if where else "",
        "stub": isinstance(error, NotImplementedError) and (not error.args or line.startswith("raise ")),
    }
