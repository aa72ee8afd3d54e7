"""How long a process may go on, told from how long a busy machine has kept it waiting.

Processor time decides, and time in which the process waited by its own choice (for a lock, in its sleep). Time in
which it was ready to run and another one ran instead is the machine's: the kernel counts it for each thread, as the
second number of /proc/PID/schedstat (Linux `Documentation/scheduler/sched-stats.rst`).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Literal

PATIENCE = 10.0
"""The longest that is waited for a process, busy or not, as a multiple of the time that it may take by itself."""

LOOK = 0.02
"""Seconds between two looks at a process that is late."""

End = Literal["time", "busy"]


def open_processes() -> int | None:
    """A descriptor of /proc, to be opened before it goes out of sight; None where there is none."""
    try:
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def own_name(processes: int | None) -> bytes:
    """What this process is called in `processes`, whatever namespace it is in; empty where that cannot be said."""
    try:
        return os.readlink(b"self", dir_fd=processes) if processes is not None else b""
    except OSError:
        return b""


class Clock:
    """Watches one process from its parent. child: its id. name: what it is called in `processes`. wall_seconds: it may
    run and sleep. cpu_seconds: it may run, all threads together."""

    def __init__(self, child: int, name: bytes, processes: int | None, wall_seconds: float, cpu_seconds: float) -> None:
        self._child, self._processes = child, processes
        self._threads = f"{name.decode()}/task" if name.isdigit() else None
        self._wall, self._cpu = wall_seconds, cpu_seconds
        self._start = time.monotonic()
        self._next = wall_seconds
        self._used: float | None = None
        self._looked = 0.0

    def left(self) -> float:
        """Seconds until `over` is worth asking."""
        return max(self._start + self._next - time.monotonic(), 0.0)

    def over(self) -> End | None:
        """Whether its time is over: by its own doing, or because the machine was too busy to let it run."""
        passed = time.monotonic() - self._start
        if passed < self._next:
            return None
        used = self.cpu()
        kept_waiting, ready = self._waits(passed, used)
        # The kernel adds a wait when it ends. Of a process that is ready, the last one may go on since the look before,
        # and where it has not moved since then, longer.
        stands_still, self._used = ready and self._used in (None, used), used
        own = max(used, self._looked - kept_waiting) if ready else passed - kept_waiting
        self._looked = passed
        if used >= self._cpu or (own >= self._wall and not stands_still):
            return "time"
        if passed >= PATIENCE * self._wall:
            return "busy"
        # It cannot be late sooner than when all the time until then was its own.
        self._next = passed + max(self._wall - own, LOOK)
        return None

    def cpu(self) -> float:
        """Processor time that it has used."""
        with contextlib.suppress(OSError):
            # The kernel's name of another process's clock (clock_getcpuclockid).
            return time.clock_gettime(~self._child << 3 | 2)
        return 0.0

    def _waits(self, passed: float, used: float) -> tuple[float, bool]:
        """Seconds in which a thread of it was ready and did not run: of the thread that waited longest, since they may
        wait at the same time. And whether one is ready, or runs, now. A kernel that does not count them leaves all but
        processor time in doubt."""
        waits: list[float] = []
        ready = False
        if self._threads is not None:
            with contextlib.suppress(OSError):
                for thread in _listed(self._threads, self._processes):
                    with contextlib.suppress(OSError, ValueError, IndexError):
                        place = f"{self._threads}/{thread}"
                        waits.append(int(_read(f"{place}/schedstat", self._processes).split()[1]) / 1e9)
                        ready |= _read(f"{place}/stat", self._processes).rpartition(b")")[2].split()[0] == b"R"
        return (max(waits), ready) if waits else (passed - used, False)


def _listed(path: str, root: Any) -> list[str]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _read(path: str, root: Any) -> bytes:
    file = os.open(path, os.O_RDONLY, dir_fd=root)
    try:
        return os.read(file, 256)
    finally:
        os.close(file)
