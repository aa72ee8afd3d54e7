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

from mnemos.rewards.sandbox import guard, jobs
from mnemos.rewards.sandbox.clock import Clock, open_processes, own_name

# fmt: off
PRELOADED = (
    "bisect", "collections", "copy", "csv", "datetime", "decimal", "enum", "fractions",
    "functools", "hashlib", "heapq", "io", "itertools", "math", "operator",
    "random", "re", "sqlite3", "statistics", "string", "textwrap", "time", "traceback", "typing", "unittest",
)
# fmt: on
"""Imported once, before the forks, so that a job does not wait for them."""

NAME = 16
"""Bytes that a child writes first: what it is called in /proc."""
LONGEST_REPORT = 1 << 16
"""Bytes that a child may write where it says how its job ended; see `_child` for how a report is known."""


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
    processes = open_processes()
    level, why = "full", ""
    try:
        guard.own_namespaces()
    except OSError as error:
        level, why = "weak" if setup["weak"] else "none", str(error)
    if level == "full":
        # A process does not enter its own new process namespace: its first child becomes number 1 there.
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            return
        # Anew, because the wish to die is not inherited through fork.
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
        write_message(outbox, carry_out(job, level, setup["root"], processes))


def carry_out(job: dict[str, Any], level: str, root: str, processes: int | None) -> dict[str, Any]:
    """Fork a child for one job, watch its time and output, and say how it ended."""
    output, report = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(report[1], own_name(processes).ljust(NAME))
        _child(job, level, root, output[1], report[1])
    # With the parent's copies open, the pipes would never end.
    for end in (output[1], report[1]):
        os.close(end)
    name = os.read(report[0], NAME).strip()
    clock = Clock(child, name, processes, job["wall_seconds"], job["cpu_seconds"])
    text, ended = _watch({output[0]: job["output_bytes"], report[0]: LONGEST_REPORT}, clock)
    status, late, used = _reap(child, clock, at_once=ended is not None)
    # kill(-1) reaches every process that this one may signal: only as the first of a namespace of its own are these
    # the job's leftovers, elsewhere they are all that the user runs.
    if level == "full" and os.getpid() == 1:
        _kill_all()
    for end in (output[0], report[0]):
        os.close(end)
    # The kernel ends a process over its limit by SIGXCPU, and a second later by SIGKILL.
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    by_kernel = None
    if signalled == signal.SIGXCPU or (signalled and used >= job["cpu_seconds"]):
        by_kernel = "time"
    elif signalled == signal.SIGKILL:
        # No process in here can send it: it came from outside, as where the machine has no memory left.
        by_kernel = "busy"
    return {
        "ended": ended or late or by_kernel,
        "signal": signalled,
        "output": text[output[0]].decode("utf-8", "replace"),
        "report": text[report[0]].decode("utf-8", "replace"),
    }


def _watch(limits: dict[int, int], clock: Clock) -> tuple[dict[int, bytes], str | None]:
    """What comes out of the pipes, and why watching stopped before they closed: output, time, busy or None."""
    text = dict.fromkeys(limits, b"")
    open_ends = set(limits)
    while open_ends:
        ready = select.select(list(open_ends), [], [], clock.left())[0]
        if (over := clock.over()) is not None:
            return text, over
        for end in ready:
            block = os.read(end, 1 << 16)
            if not block:
                open_ends.discard(end)
            text[end] += block
            if len(text[end]) > limits[end]:
                text[end] = text[end][: limits[end]]
                return text, "output"
    return text, None


def _reap(child: int, clock: Clock, *, at_once: bool) -> tuple[int, str | None, float]:
    """The child's exit status, why it had to be killed before it ended, and the processor time that it used."""
    late, pause = None, 0.0005
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            return status, late, used.ru_utime + used.ru_stime
        if at_once or (late := clock.over()) is not None:
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, late, used.ru_utime + used.ru_stime
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _child(job: dict[str, Any], level: str, root: str, output: int, report: int) -> None:
    """Never returns: the job, in a process that may do nothing but compute.

    Its report goes to a descriptor of a number drawn for the job and begins with a token drawn for it. Neither can be
    seen by what runs: they lie on the stack of this frame, and `job` is emptied.
    """
    try:
        _shut_in(job, level, root, output, report)
    except BaseException as error:
        os.write(job["report"], f"{job['token']}guard {type(error).__name__}: {error}".encode())
    else:
        os.write(job.pop("report"), job.pop("token").encode() + jobs.JOBS[job.pop("kind")](job))
    finally:
        # Not sys.exit: the child would flush the parent's buffers a second time and carry on in its loop.
        os._exit(0)


def _shut_in(job: dict[str, Any], level: str, root: str, output: int, report: int) -> None:
    """Standard streams and the report's descriptor, and walls around this process."""
    os.setsid()
    # Move both ends out of the way of the numbers that they are to have.
    output, report = os.dup2(output, 100), os.dup2(report, 101)
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    for number, end in ((1, output), (2, output), (job["report"], report)):
        os.dup2(end, number)
    # The worker's own pipes, too: through them a job could answer in its place.
    os.closerange(3, job["report"])
    os.closerange(job["report"] + 1, 4096)
    if level == "full":
        guard.own_scratch(job["scratch_bytes"])
    os.chdir("/scratch" if level == "full" else root)
    guard.limit(job["cpu_seconds"], job["memory_bytes"], job["scratch_bytes"])
    guard.give_up_rights()
