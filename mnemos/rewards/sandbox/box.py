"""Sandbox: run code and SQL that a model wrote, many at a time, each in a process that can only compute.

On Linux a check runs in namespaces of its own (user, processes, mounts, network, shared memory), sees an
empty root with the standard library, may make a short list of system calls (no new process, no exec, no
socket, no signal) and is limited in time, memory and output. Workers start once and fork for each check.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from mnemos.core.errors import UsageError
from mnemos.rewards.sandbox import inside
from mnemos.rewards.sandbox.clock import PATIENCE

WEAK = "MNEMOS_WEAK_SANDBOX"
"""Environment variable: 1 lets code run where the kernel gives no namespaces."""

Status = Literal[
    "passed", "failed", "left early", "time", "memory", "output", "killed", "bad reference", "busy", "broken"
]
REPORTS = range(16, 64)
"""Descriptors that a child's report may go to."""
START = 60.0
"""Seconds beyond a check's own that the sandbox's process has for one check."""


@dataclass(frozen=True)
class Limits:
    """What one check may use. cpu_seconds: of processor time. wall_seconds: of time, without that in which the machine
    let it wait for a processor (a check is given up after `clock.PATIENCE` times as long). memory_bytes: address
    space, the interpreter's 40 MB included. output_bytes: of stdout and stderr together. scratch_bytes: of files
    below /scratch, the only place where it can write."""

    wall_seconds: float = 6.0
    cpu_seconds: int = 4
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10
    scratch_bytes: int = 16 << 20


@dataclass(frozen=True)
class Code:
    """A program that passes when the last line of its tests has run without an exception.

    answer: what a model wrote. reference: the tests, to be run after it; what stands before a line `programs.PLACE` is
    run before it, and may be the beginning of a statement that the answer continues. others: further texts that may
    be the answer, where `answer` does not compile.
    """

    answer: str
    reference: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """Passes when `answer` gives the same rows as `reference` on a sqlite file. The file must be among
    those that the sandbox shows. others: further texts that may be the answer, where `answer` is no SQL."""

    database: str
    reference: str
    answer: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Functions:
    """Calls of a file's own functions on a state; passes where the file could be run, with what
    `sandbox.functions.functions` says as its detail. source: the file's text. state: JSON of an object. calls: JSON of
    a list of (name, arguments), each name a function of the file."""

    source: str
    state: str
    calls: str


Check = Code | Query | Functions
_KINDS: Mapping[type, str] = {Code: "code", Query: "sql", Functions: "functions"}


@dataclass(frozen=True)
class Outcome:
    """How a check ended. status: passed; failed (an exception, other rows); left early (exit before the end); time,
    memory, output (a limit); killed (a signal, e.g. of a crash); and what says nothing about the answer: bad reference
    (the reference query fails, or the tests cannot be met), busy (the machine did not let it run to its end, or ended
    it), broken (the sandbox itself failed). detail: in words, general ones before a colon. output: what it printed."""

    status: Status
    detail: str = ""
    output: str = ""


class Sandbox:
    """Workers that run checks. Use as a context manager, or `shared`.

    readable: files that checks may read, shown read-only at their own paths. weak: whether to go on
    where the kernel gives no namespaces; files are then protected by the user's rights alone. workers:
    checks at a time. Raises UsageError at start where the walls cannot be built.
    """

    def __init__(
        self,
        readable: Sequence[str] = (),
        limits: Limits | None = None,
        workers: int | None = None,
        weak: bool | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.readable = tuple(os.path.abspath(path) for path in readable)
        self.weak = os.environ.get(WEAK) == "1" if weak is None else weak
        # The processors that this process may use, not all that the machine has.
        size = workers or min(len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1, 16)
        self.level = ""
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker(self) for _ in range(size)]
        for worker in self._all:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="sandbox")

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._threads.shutdown(wait=True)
        for worker in self._all:
            worker.stop()

    def run(self, checks: Sequence[Check]) -> list[Outcome]:
        """One outcome a check, in their order. Nothing that a check does raises here."""
        return list(self._threads.map(self._one, checks))

    def _one(self, check: Check) -> Outcome:
        worker = self._free.get()
        try:
            return worker.check(check)
        finally:
            self._free.put(worker)


class _Worker:
    """One process that forks for checks, started when first needed and again when it is gone."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.process: subprocess.Popen[bytes] | None = None
        self.root: tempfile.TemporaryDirectory[str] | None = None

    def check(self, check: Check) -> Outcome:
        """How it ends; tried once more where the machine was too busy the first time, or its process was lost."""
        found = self._once(check)
        return self._once(check) if found.status in ("busy", "broken") else found

    def _once(self, check: Check) -> Outcome:
        # Drawn anew for each try: what a first one might have learned is worth nothing in the second.
        limits, token = self.box.limits, secrets.token_hex(16)
        job: dict[str, Any] = {**vars(check), **vars(limits), "token": token, "report": secrets.choice(REPORTS)}
        job["kind"] = _KINDS[type(check)]
        if isinstance(check, Query):
            job["database"] = os.path.abspath(check.database)
        process = self._started()
        # Should the worker itself hang, it is ended from here, and its pipe closes.
        timer = threading.Timer(PATIENCE * limits.wall_seconds + START, process.kill)
        timer.start()
        try:
            inside.write_message(_pipe(process.stdin), job)
            text = inside.read_message(_pipe(process.stdout))
        except OSError:
            text = None
        finally:
            timer.cancel()
        if text is None:
            self.stop()
            return Outcome("broken", "the sandbox's process ended")
        return outcome(text, token)

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.stop()
        if sys.platform != "linux":
            raise _refused("this is not Linux", none=True)
        package = str(Path(__file__).parents[3])
        self.root = tempfile.TemporaryDirectory(prefix="mnemos-sandbox-")
        start = f"import sys; sys.path.append({package!r}); from mnemos.rewards.sandbox.inside import main; main()"
        # Nothing of this process's environment goes along: no token, no key, no path.
        environment = {"LANG": "C.UTF-8", "HOME": "/scratch", "TMPDIR": "/scratch", "PYTHONHASHSEED": "0"}
        # A heap of 64 MB of address space for each thread would leave room for a dozen.
        environment["MALLOC_ARENA_MAX"] = "1"
        self.process = subprocess.Popen(
            [_base_python(), "-I", "-S", "-B", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        setup = {"root": self.root.name, "readable": self.box.readable, "weak": self.box.weak, "hide": [package]}
        try:
            inside.write_message(_pipe(self.process.stdin), setup)
            hello = inside.read_message(_pipe(self.process.stdout))
        except OSError:
            hello = None
        if hello is None or hello["level"] == "none":
            why = "its process ended at once" if hello is None else hello["why"]
            self.stop()
            raise _refused(why, none=hello is None)
        self.box.level = hello["level"]
        return self.process

    def stop(self) -> None:
        """End the process and forget it."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    _close(pipe)
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.root is not None:
            self.root.cleanup()
            self.root = None


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        pipe.close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _base_python() -> str:
    """The interpreter that the virtual environment, if this is one, was made from."""
    return os.path.realpath(sys.executable)


def _refused(why: str, *, none: bool) -> UsageError:
    cure = "run it on Linux 5.12 or later, where users may make namespaces (in a container: allow unshare and mount)"
    if not none:
        cure += f"; or set {WEAK}=1 to run the code all the same, with your rights to read and write files"
    return UsageError(f"the sandbox for code that a model writes ({why})", "cannot be closed here", cure)


def outcome(message: dict[str, Any], token: str) -> Outcome:
    """The outcome in a worker's message. token: what a report begins with; anything else where reports are written
    is not one."""
    output, ended, signal = message["output"], message["ended"], message["signal"]
    # Whatever stands before the token is not a report: a program may write to any descriptor, but cannot know the
    # token.
    word, _, detail = message["report"].partition(token)[2].partition(" ")
    if word == "guard":
        return Outcome("broken", detail, output)
    if ended == "busy":
        return Outcome("busy", "the machine was busy", output)
    if ended in ("time", "output"):
        return Outcome(ended, f"over the limit of {ended}", output)
    if word == "tests":
        return Outcome("bad reference", detail, output)
    if word == "memory":
        return Outcome("memory", "over the limit of memory", output)
    if word in ("passed", "failed"):
        return Outcome(word, detail, output)
    if signal:
        return Outcome("killed", f"signal {signal}", output)
    return Outcome("left early", "ended before its last line", output)


@cache
def shared(readable: tuple[str, ...] = ()) -> Sandbox:
    """The sandbox of this process, started at its first check and ended with the process."""
    made = Sandbox(readable)
    atexit.register(made.close)
    return made
