"""Where a student's code runs: namespaces of its own, a read-only view without solutions, and limits. Linux, through ctypes.

``prepare`` is called once, in the zygote; ``enter`` in each forked child. Where the system gives no namespaces, ``prepare``
says so, and ``enter`` keeps to limits and an unprivileged user.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOEXEC, NOATIME, NODIRATIME, ST_RELATIME, RELATIME = 8, 1024, 2048, 4096, 1 << 21
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE, DETACH = 1, 2, 4, 32, 4096, 16384, 1 << 18, 2
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("null", "zero", "full", "random", "urandom")
SCRATCH = 64 * 2**20  # bytes a submission may write
PROCESSES = 24  # each with the memory that a submission may use
NOBODY = 65534

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A function of libc; ``OSError`` if it fails."""
    given = [a.encode() if isinstance(a, str) else ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    result = getattr(libc, name)(*given)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def prctl(option, value):
    call("prctl", option, value, 0, 0, 0)


def die_with_parent():
    if sys.platform == "linux":
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def limit(name, most):
    """Lower a resource limit, as far as it is not lower already."""
    name = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(name)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(name, (most, most))


def limit_memory(more, now=None):
    """Let this process grow by so many bytes. ``now``: its size, where it can't be read any more."""
    if sys.platform == "linux":
        limit("AS", (now or size()) + more)


def size():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def unshare(flags):
    """``unshare(2)``; a new user namespace knows this user alone, under its own number."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", flags)
    if flags & NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def mount(source, target, kind=None, flags=0, data=None):
    call("mount", str(source), str(target), kind, flags, data)


def bind(source, target):
    """Show ``source`` at ``target``, read-only."""
    mount(source, target, None, BIND | REC)
    flags = os.statvfs(target).f_flag
    kept = flags & (NOSUID | NODEV | NOEXEC | NOATIME | NODIRATIME)  # which a user namespace may not take away
    kept |= RELATIME if flags & ST_RELATIME else 0
    mount("none", target, None, BIND | REMOUNT | RDONLY | NOSUID | kept)


def rehearsed(act, fork=os.fork):
    """Try ``act`` in a child: why the system does not let it, or None."""
    reading, writing = os.pipe()
    child = fork()
    if not child:
        try:
            act()
        except Exception as error:
            os.write(writing, str(error).encode() or b"it failed")
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        why_not = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return why_not or (f"trying it ended with status {status}" if status else None)


class Jail:
    """``view``: an empty folder to build the view in; ``hidden``: files and folders that the view must not show."""

    def __init__(self, view, hidden, memory, isolate=True):
        self.view, self.memory, self.root = Path(view), memory, os.geteuid() == 0
        self.hidden = [Path(path).resolve() for path in hidden]
        self.why_not = None if isolate else "it was asked not to isolate"
        self.why_not = self.why_not if sys.platform == "linux" else "this is no Linux"
        self.children = 0

    def prepare(self):
        """Start the zygote over as the first process of a namespace, with a view; on return, ``why_not`` says if not."""
        self.why_not = self.why_not or rehearsed(self._start_over)  # for real there is no way back
        if not self.why_not:
            self._start_over()
        elif sys.platform == "linux":
            prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a submission leaves behind comes to us

    def _start_over(self):
        unshare((0 if self.root else NEWUSER) | NEWPID | NEWNS)
        child = os.fork()
        if child:  # only waits: its end is the end of everything in the namespace
            die_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
        die_with_parent()
        mount("none", "/", None, REC | PRIVATE)
        self._build()
        if why_not := rehearsed(lambda: self.enter(None), self.fork):
            raise OSError(why_not)

    def _build(self):
        package = Path(__file__).resolve().parent.parent
        mount("tmpfs", self.view, "tmpfs", NOSUID | NODEV, "mode=755,size=4m")
        shown = {Path(p) for p in (*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)}
        shown |= {Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")} | {package}
        shown |= {Path(f"/dev/{name}") for name in DEVICES}
        for path in sorted(shown):  # parents before children
            if path.is_symlink() and str(path) in SYSTEM and path.is_dir():
                self._at(path).symlink_to(os.readlink(path))
            elif path.exists() and not self._at(path).exists():
                self._place(path)
                bind(path.resolve(), self._at(path))
        for path in (*self.hidden, package / "exercises", package / "grading"):
            if any(path in inner.parents for inner in shown):
                continue  # of this folder, only what is inside is shown
            if self._at(path).is_dir():
                mount("tmpfs", self._at(path), "tmpfs", RDONLY | NOSUID, "size=4k")
            elif self._at(path).exists():
                bind("/dev/null", self._at(path))
        for name in ("proc", "scratch", "dev/shm", "etc"):
            (self.view / name).mkdir(parents=True, exist_ok=True)
        if not (self.view / "tmp").exists():
            (self.view / "tmp").symlink_to("scratch")
        (self.view / "etc/passwd").write_text(f"student:x:{NOBODY}:{NOBODY}::/scratch:/bin/sh\n")

    def _at(self, path):
        return self.view / str(path).lstrip("/")

    def _place(self, path):
        """An empty place for ``path`` in the view."""
        self._at(path).parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            self._at(path).mkdir()
        else:
            self._at(path).touch()

    def fork(self):
        """``os.fork()``, the child being the first process of a namespace of its own."""
        self.children += 1
        if not self.why_not:
            own = os.open("/proc/self/ns/pid", os.O_RDONLY)
            call("setns", own, NEWPID)  # a process may leave its children's namespace for a new one only by its own
            call("unshare", NEWPID)
            os.close(own)
        return os.fork()

    def enter(self, scratch):
        """In the child, for good: the view as the world, no network, no privileges, limits."""
        os.setsid()
        now = None
        if sys.platform == "linux":
            now = size()
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this goes first
        if self.why_not:
            os.chdir(scratch)
        else:
            self._shut_in()
            os.chdir("/scratch")
        self._drop(scratch)
        limit_memory(self.memory, now)
        for name, most in {"CORE": 0, "FSIZE": SCRATCH, "NOFILE": 256, "NPROC": self._processes()}.items():
            limit(name, most)

    def _shut_in(self):
        unshare(NEWNS | NEWNET | NEWIPC | NEWUTS)
        mount(self.view, self.view, None, BIND | REC)
        for place in ("scratch", "dev/shm"):
            mount("tmpfs", self.view / place, "tmpfs", NOSUID | NODEV, f"mode=1777,size={SCRATCH},nr_inodes=8192")
        with contextlib.suppress(OSError):  # in some containers; then there is none
            mount("proc", self.view / "proc", "proc", NOSUID | NODEV)
        os.chdir(self.view)
        call("pivot_root", ".", ".")
        call("umount2", ".", DETACH)
        mount("none", "/", None, BIND | REMOUNT | RDONLY | NOSUID | NODEV)
        if not self.root and Path("/proc/self").exists():
            unshare(NEWUSER)  # this submission's processes are counted apart, and its privileges reach nowhere

    def _drop(self, scratch):
        if sys.platform == "linux":
            for capability in range(64):  # first: only who may change them may drop them
                libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
        # A user of its own, since processes are counted by user; in a container there may be no such number.
        for user in (600_000 + self.children % 60_000, 64_000 + self.children % 1000, NOBODY) if self.root else ():
            with contextlib.suppress(OSError):
                if scratch:
                    os.chown(scratch, user, user)
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                break
        if self.root and os.geteuid() == 0 and not self.why_not:
            raise OSError("there is no other user to run as")
        if sys.platform == "linux":
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            call("capset", header, none)
            prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
            prctl(4, 1)  # PR_SET_DUMPABLE, which a change of user clears
            die_with_parent()  # so is this

    def _processes(self):
        if self.root or not self.why_not:
            return PROCESSES
        mine = [path for path in Path("/proc").glob("[0-9]*/task/*") if _owner(path) == os.getuid()]
        return PROCESSES + len(mine)


def _owner(path):
    try:
        return path.stat().st_uid
    except OSError:
        return None
