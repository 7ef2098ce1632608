"""The zygote: imports torch and the rest once, then forks a jailed child for each submission, which runs the student's cells.

``python -m rnncourse.grading.zygote`` with the options as JSON. It knows no exercise and no answer. Graders connect to its
socket, one at a time each asks for a child ("spawn", with a socket to talk to it) and for its end ("kill").
"""

import contextlib
import gc
import importlib.util
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import types
from pathlib import Path

from rnncourse.grading.jail import Jail, die_with_parent

MODULES = ["arguments", "sequences", "bptt", "recurrence", "training", "gradients", "clipping", "initialization"]
MODULES += ["applications", "claims", "plotting", "widgets"]
LAZY = ["matplotlib.pyplot", "matplotlib_inline.backend_inline", "pandas"]


def import_everything():
    """What a submission may import, so that it need not; and the exercises' own module, without what is in it."""
    for name in [f"rnncourse.{name}" for name in MODULES] + LAZY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    exercises = types.ModuleType("rnncourse.exercises")
    exercises.__path__, exercises.__getattr__ = [], Silent().__getattr__
    sys.modules["rnncourse.exercises"] = exercises
    drawing = Path(__file__).parent.parent / "exercises" / "drawing.py"
    if drawing.exists():
        spec = importlib.util.spec_from_file_location("rnncourse.exercises.drawing", drawing)
        sys.modules[spec.name] = exercises.drawing = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(exercises.drawing)


class Silent:
    """In place of check, hint and solution: has any name, takes anything, says nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Silent()

    def __call__(self, *args, **kwargs):
        return None


def main():
    options = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the grader decides when to stop
    die_with_parent()
    listener = socket.socket(fileno=options["listener"])
    jail = Jail(options["view"], options["hidden"], options["memory"], options["isolate"])
    jail.prepare()
    import_everything()
    from rnncourse.grading import child as student

    shell = student.make_shell()
    gc.collect()
    gc.freeze()  # no child looks through all of this again: that would also copy every page of it
    os.environ.update(HOME="/scratch", TMPDIR="/scratch")
    children, selector = {}, selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    alive = socket.socket(fileno=options["alive"])  # its other end closes with the grader
    selector.register(alive, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is alive:
                for child in list(children.values()):
                    end(child, ())
                os._exit(0)
            if key.fileobj is listener:
                control = listener.accept()[0]
                selector.register(control, selectors.EVENT_READ)
                control.sendall(json.dumps(jail.why_not).encode() + b"\n")
                continue
            control = key.fileobj
            try:
                message, fds, _, _ = socket.recv_fds(control, 16, 1)
            except ConnectionError:
                message, fds = b"", []
            end(children.pop(control, None), [pid for pid, _ in children.values()])
            if not message:
                selector.unregister(control)
                control.close()
                continue
            if fds:
                scratch = tempfile.mkdtemp(prefix="scratch-", dir="/tmp") if jail.why_not else None
                pid = jail.fork()
                if not pid:
                    try:
                        connection = socket.socket(fileno=fds[0])
                        only(connection)
                        jail.enter(scratch)
                        os.environ.update({"HOME": scratch, "TMPDIR": scratch} if scratch else {})
                        student.serve(connection, shell)
                    finally:
                        os._exit(1)
                os.close(fds[0])
                children[control] = pid, scratch
            with contextlib.suppress(ConnectionError):
                control.sendall(b"ok\n")


def only(connection):
    """Close every other file of this process; its input and outputs go nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    kept = connection.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def end(child, others):
    """Kill a child, everything in its session, everything it left behind, and its scratch folder; not the ``others``."""
    if child is None:
        return
    pid, scratch = child
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if scratch:
        for _ in range(100):  # not isolated: who survived has become ours
            mine = left_behind() - set(others)
            for orphan in mine:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(orphan, signal.SIGKILL)
                    os.waitpid(orphan, 0)
            if not mine:
                break
        shutil.rmtree(scratch, ignore_errors=True)


def left_behind():
    """The processes whose parent is this one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


if __name__ == "__main__":
    main()
