"""The process in which the sandbox lives: started once, it forks a guarded child for every job.

Messages over its standard input and output: four bytes of length, then JSON. It is the first process
of its own namespace, so killing "everybody" after a job kills what the job left, and nothing else.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import time
from typing import IO, Any

from mnemos.sources.sandbox import guard, jobs

# fmt: off
PRELOADED = (
    "bisect", "collections", "copy", "csv", "datetime", "decimal", "enum", "fractions",
    "functools", "hashlib", "heapq", "io", "itertools", "math", "operator",
    "random", "re", "sqlite3", "statistics", "string", "textwrap", "time", "traceback", "typing", "unittest",
)
# fmt: on
"""Imported once, before the forks, so that a job does not wait for them."""

REPORT = 3
"""The child's file descriptor for what it has to say about the job itself."""
LONGEST_REPORT = 1 << 16


def read_message(stream: IO[bytes]) -> Any:
    """The next message; None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return json.loads(stream.read(struct.unpack("=I", head)[0]))


def write_message(stream: IO[bytes], message: Any) -> None:
    """Send a message."""
    body = json.dumps(message).encode()
    stream.write(struct.pack("=I", len(body)) + body)
    stream.flush()


def main() -> None:
    """Build the walls, say which ones stand, then carry out jobs until the input ends."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    setup = read_message(inbox)
    guard.die_with_parent()
    for name in PRELOADED:
        __import__(name)
    level, why = "full", ""
    try:
        guard.own_namespaces()
    except OSError as error:
        level, why = "weak" if setup["weak"] else "none", str(error)
    if level == "full":
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            return
        guard.die_with_parent()
        try:
            guard.own_root(setup["root"], setup["readable"])
        except OSError as error:
            level, why = "none", str(error)
    write_message(outbox, {"level": level, "why": why})
    if level == "none":
        return
    # Nothing of the import path is left but the standard library, and nobody can look into the parent.
    sys.path[:] = [path for path in sys.path if path not in setup["hide"]]
    while (job := read_message(inbox)) is not None:
        write_message(outbox, carry_out(job, level, setup["root"]))


def carry_out(job: dict[str, Any], level: str, root: str) -> dict[str, Any]:
    """Fork a child for one job, watch its time and output, and say how it ended."""
    output, report = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _child(job, level, root, output[1], report[1])
    for end in (output[1], report[1]):
        os.close(end)
    deadline = time.monotonic() + job["wall_seconds"]
    said, ended = _watch({output[0]: job["output_bytes"], report[0]: LONGEST_REPORT}, deadline)
    status = _reap(child, deadline if not ended else 0.0)
    if level == "full" and os.getpid() == 1:
        _kill_all()
    for end in (output[0], report[0]):
        os.close(end)
    return {
        "ended": ended or (None if status is not None else "time"),
        "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0,
        "output": said[output[0]].decode("utf-8", "replace"),
        "report": said[report[0]].decode("utf-8", "replace"),
    }


def _watch(limits: dict[int, int], deadline: float) -> tuple[dict[int, bytes], str | None]:
    """What comes out of the pipes, and why watching stopped before they closed: output, time or None."""
    said = dict.fromkeys(limits, b"")
    open_ends = set(limits)
    while open_ends:
        left = deadline - time.monotonic()
        ready = select.select(list(open_ends), [], [], max(left, 0.0))[0] if left > 0 else []
        if not ready:
            return said, "time"
        for end in ready:
            block = os.read(end, 1 << 16)
            if not block:
                open_ends.discard(end)
            said[end] += block
            if len(said[end]) > limits[end]:
                said[end] = said[end][: limits[end]]
                return said, "output"
    return said, None


def _reap(child: int, deadline: float) -> int | None:
    """The child's exit status; None where it had to be killed at the deadline."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.0005)


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _child(job: dict[str, Any], level: str, root: str, output: int, report: int) -> None:
    """Never returns: the job, in a process that may do nothing but compute."""
    try:
        os.setsid()
        # Move both ends out of the way of the numbers that they are to have.
        output, report = os.dup2(output, 100), os.dup2(report, 101)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        for number, end in ((1, output), (2, output), (REPORT, report)):
            os.dup2(end, number)
        os.closerange(REPORT + 1, 4096)
        if level == "full":
            guard.own_scratch(job["scratch_bytes"])
        os.chdir("/scratch" if level == "full" else root)
        guard.limit(job["cpu_seconds"], job["memory_bytes"], job["scratch_bytes"])
        guard.give_up_rights()
    except BaseException as error:
        _say({"guard": f"{type(error).__name__}: {error}"})
    else:
        _say(jobs.JOBS[job["kind"]](job))
    finally:
        os._exit(0)


def _say(report: dict[str, Any]) -> None:
    body = json.dumps(report).encode()
    while body:
        body = body[os.write(REPORT, body) :]
