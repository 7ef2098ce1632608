"""The grader's side of a student's process: names that the student defined resolve to proxies that call the child.

If the child dies or does not answer in time, a new one is forked, the cells before are replayed, and marking goes on.
"""

import contextlib
import json
import math
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rnncourse.exercises.checking import OutOfTime, Raised
from rnncourse.grading import wire

ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "MPLCONFIGDIR", "PYTHONPATH")
FIXED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
START = 60  # seconds that a child may need to begin
TOTAL = 10  # times the seconds for a cell that a whole submission may take
FIXED |= {"TQDM_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}


class Zygote:
    """The process that all children are forked from, for as long as the ``with`` block lasts."""

    def __init__(self, hidden=(), memory=2 * 2**30, isolate=True):
        self.folder = tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True)
        self.address, self.asked = os.path.join(self.folder.name, "zygote"), False
        view = Path(self.folder.name, "view")
        view.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            self.alive, theirs = socket.socketpair()
            options = {"listener": listener.fileno(), "alive": theirs.fileno(), "view": str(view), "memory": memory}
            options["isolate"], options["hidden"] = isolate, [os.fspath(path) for path in hidden]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rnncourse.grading.zygote", json.dumps(options)],
                pass_fds=(listener.fileno(), theirs.fileno()),
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | FIXED,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=self.folder.name,  # Python looks for modules in its folder first: never in one with what was handed in
            )
            theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.alive.close()
        if not self.asked:
            self.process.kill()  # it may be at its imports, which take seconds, and runs nothing yet
        self.process.wait()
        self.folder.cleanup()

    def connect(self):
        """(connection, why it is not isolated or None); waits until the zygote has imported everything."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        answer = b""
        while not answer.endswith(b"\n"):
            more = connection.recv(4096)
            if not more:
                raise RuntimeError("the process that runs the submissions could not start")
            answer += more
        self.asked = True
        return connection, json.loads(answer)


class Broken(BaseException):
    """Marking itself does not work. No ``Exception``, so that no check takes it for a fault of the answer."""


class Gone(Exception):
    """The student's process ended, or was ended."""


class Student:
    """A submission's namespace, in a child. ``seconds``: for each cell, and for each answer to a call."""

    def __init__(self, control, seconds):
        self.control, self.seconds = control, seconds
        self.connection, self.cells, self.gone, self.age, self.number = None, [], None, 0, 0
        self.end, self.limit, self.trouble = time.monotonic() + TOTAL * seconds, math.inf, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def run(self, source):
        """Run a cell; what it showed, as it came. The cell is dropped from then on if it ends the process."""
        self._replay()
        outputs = self._run(source)
        if self.connection:
            self.cells.append(source)
        return outputs

    @contextlib.contextmanager
    def time_limit(self, seconds):
        """Raise ``OutOfTime`` in the block where it waits for an answer after ``seconds``."""
        self.limit = time.monotonic() + seconds
        try:
            yield
        finally:
            self.limit = math.inf

    def exercise(self):
        """A new exercise begins: one that ended the process before it has no bearing on it."""
        self.gone = None

    def _run(self, source):
        try:
            return self._ask(self.seconds + 1, act="run", source=source, seconds=self.seconds)
        except Gone as gone:
            return [{"output_type": "error", "ename": "Stopped", "evalue": str(gone), "traceback": []}]

    def _replay(self):
        """Have a child in which the cells so far have run."""
        while self.connection is None:
            self._spawn()
            for number, source in enumerate(self.cells):
                self._run(source)
                if self.connection is None:
                    del self.cells[number]  # it went well before, and does not now
                    break

    def ask(self, **request):
        """The child's answer; ``Raised`` for an error of the student's, and for a process that ended."""
        if self.gone:
            raise Raised("Stopped", self.gone)
        self._replay()
        try:
            return self._ask(self.seconds, **request)
        except Gone as gone:
            self.gone = str(gone)
            raise Raised("Stopped", self.gone) from None
        finally:
            if self.connection is None and not self.gone:
                self.gone = "no answer in time"  # it is not asked again in this exercise

    def _ask(self, patience, **request):
        deadline = min(time.monotonic() + patience, self.end, self.limit)
        try:
            message = wire.pack(request, _reference)
            self.number += 1
            self.connection.sendall(wire.pack(self.number) + message)
            number = 0
            while number < self.number:  # an answer that came too late, or was made up before, is not this one
                answer = wire.unpack(*wire.receive(self.connection, deadline), self._proxy)
                number, answer = answer if isinstance(answer, list) and len(answer) == 2 else (None, None)
                if type(number) is not int:
                    raise wire.Nonsense("it is no answer")
            if number > self.number:
                raise wire.Nonsense("it answers what was not asked")
        except BaseException as error:
            self._end()
            self.trouble = True
            if isinstance(error, TimeoutError):
                if time.monotonic() >= self.limit:
                    raise OutOfTime from None
                raise Gone(f"no answer within {self.seconds:g} s: is there a loop that never ends?") from None
            if isinstance(error, (EOFError, OSError)):
                raise Gone("the process ended: it exited, crashed or ran out of memory") from None
            if isinstance(error, wire.Nonsense):
                raise Gone(f"the answer can't be read: {error}") from None
            raise
        if isinstance(answer, dict) and "value" in answer:
            return answer["value"]
        report = answer.get("error") if isinstance(answer, dict) else None
        report = report if isinstance(report, dict) else {}
        if report.get("stub") is True:
            raise NotImplementedError
        raise Raised(*(str(report.get(key, ""))[:2000] for key in ("type", "text", "place")))

    def _spawn(self):
        self.connection, theirs = socket.socketpair()
        with theirs:
            self._tell(lambda: socket.send_fds(self.control, [b"spawn"], [theirs.fileno()]))
        ready = select.select([self.connection], [], [], START)[0]
        if not ready or self.connection.recv(1) != b"!":
            raise Broken("a process for the submission could not be started")
        self.age += 1
        limit = struct.pack("ll", int(self.seconds) + 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _end(self):
        if self.connection:
            self.connection.close()
            self.connection = None
            self._tell(lambda: self.control.sendall(b"kill"))

    def _tell(self, send):
        """Ask the zygote for something, and wait until it is done."""
        try:
            send()
            done = self.control.recv(16)
        except OSError:
            done = b""
        if not done:
            raise Broken("the process that runs the submissions is gone")

    def _proxy(self, node):
        if "drawing" in node:
            from rnncourse.exercises.drawing import Drawing

            return Drawing.from_dict(node["drawing"])
        kind = str(node["type"])[:60]
        handle = type(kind if kind.isidentifier() else "object", (Called if node["callable"] is True else Proxy,), {})()
        handle._student, handle._handle, handle._age = self, int(node["handle"]), self.age
        handle.__name__ = str(node["name"])[:60]
        handle.__code__ = type("code", (), {"co_code": bytes(min(max(int(node["code"]), 0), 10_000))})
        return handle

    def look_up(self, name):
        """What the student's ``name`` holds: data, or a proxy."""
        value = self.ask(act="name", name=name)
        if isinstance(value, Proxy):
            value._origin = name
        return value


class Proxy:
    """Stands for an object in the student's process. It has that object's public attributes."""

    _origin = None

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self._student.ask(act="attribute", thing=self, name=name)

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        return f"<{type(self).__name__} of the submission>"


class Called(Proxy):
    """The same for an object that can be called."""

    takes_copies = True  # for a check: what it is given travels

    def time_limit(self, seconds):
        """For a check: as ``checking.time_limit``, which needs a thread for each call."""
        return self._student.time_limit(seconds)

    def __call__(self, *args, **kwargs):
        return self._student.ask(act="call", thing=self, args=args, kwargs=kwargs)


def _reference(value):
    if not isinstance(value, Proxy):
        raise TypeError(f"no way to send a {type(value).__name__}")
    student = value._student
    if value._age != student.age:
        # the process that held it is gone: a name can be looked up again, anything else is lost
        if value._origin is None:
            raise Gone("the process that held it has ended")
        again = student._ask(student.seconds, act="name", name=value._origin)
        value._handle, value._age = again._handle, student.age
    return {"handle": value._handle}
