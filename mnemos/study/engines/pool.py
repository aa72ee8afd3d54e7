"""Several steps at a time on one machine: `mnemos run --jobs N`.

Small models gain little from more threads, so two trainings side by side finish sooner than one
after the other. Every worker is a process of its own that takes one step after another, with its
share of the cores and, where there are as many GPUs as workers, a GPU of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError, UsageError
from mnemos.core.progress import Status, Work, working
from mnemos.study import processes
from mnemos.study.engines.engine import Engine, refuse_unread
from mnemos.study.engines.schedule import Schedule, bring_to_done
from mnemos.study.progress import LOG, Log, Progress
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import Step, execute

MOST_JOBS = 256
"""Processes at a time: each holds a model."""

LOOK_EVERY = 0.1
"""Seconds between a worker's looks at whether its parent still lives."""

TELL_EVERY = 0.5
"""Seconds between two words of a worker about how far its step is."""

PATIENCE = 10.0
"""Seconds that a worker is given to end by itself when it is told to."""


@dataclass(frozen=True)
class ParallelEngine:
    """Runs up to `jobs` steps at a time; a step starts once its `needs` are done.

    Trap: floating-point sums depend on the number of threads, so trainings of a run with another
    number of jobs are equal to these in distribution, not bit for bit. Finished steps are reused
    whatever the number was. keep_going: as in `EngineSettings`.
    """

    jobs: int
    quiet: bool = False
    keep_going: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= MOST_JOBS:
            raise UsageError(f"jobs = {self.jobs}", f"must be from 1 to {MOST_JOBS}", "1 runs one step after another")
        if processes.count() > 1:
            raise UsageError(
                f"jobs = {self.jobs} under a launcher of {processes.count()} processes",
                "each process would start workers of its own",
                "leave --jobs out, or start mnemos without torchrun or accelerate",
            )

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; the first failure stops all workers and is raised, unless `keep_going`."""
        schedule = Schedule(steps, root)
        with (
            Progress(schedule.todo, schedule.reused, silent=self.quiet, log=Log(root / LOG)) as progress,
            _workers(min(self.jobs, len(schedule.todo)), root) as idle,
        ):
            bring_to_done(schedule, _Workers(idle), progress, keep_going=self.keep_going)


class _Workers:
    """The processes of this machine as a workplace. idle: connections to those that do nothing."""

    def __init__(self, idle: list[Connection]) -> None:
        self.idle, self.busy = idle, dict[Connection, Step]()

    def room(self) -> int:
        return len(self.idle)

    def begin(self, step: Step) -> Callable[[], Status]:
        worker = self.idle.pop()
        worker.send(step)
        self.busy[worker] = step
        return lambda: Status("starting")

    def heard(self) -> Iterator[tuple[str, Status | str | Exception | None]]:
        ready = wait(list(self.busy))
        for worker in [one for one in self.busy if one in ready]:
            step = self.busy[worker]
            word = _heard(worker, step)
            if word is None or isinstance(word, Exception):
                del self.busy[worker]
                self.idle.append(worker)
            yield step.key, word


def _heard(worker: Connection, step: Step) -> Status | str | Exception | None:
    """How far the step is, a line to show, or what it failed with; None when it is done."""
    try:
        heard: Status | str | Exception | None = worker.recv()
    except (EOFError, ConnectionResetError):
        raise RunError(
            step.title,
            "its worker ended without a word (killed, or out of memory?)",
            "run the same command again: finished steps are kept; fewer --jobs need less memory",
        ) from None
    return heard


@contextlib.contextmanager
def _workers(count: int, root: Path) -> Iterator[list[Connection]]:
    """Idle workers; they are ended when the block is left, however it is left."""
    # A forked process would inherit threads' locks and a started GPU runtime, neither of which survives a fork.
    spawn = multiprocessing.get_context("spawn")
    devices = _devices()
    started: list[tuple[Any, Connection]] = []
    try:
        for number in range(count):
            ours, theirs = spawn.Pipe()
            device = devices[number] if len(devices) >= count else None
            arguments = (theirs, root, threads_of((os.cpu_count() or 1) // count), device, os.getpid())
            process = spawn.Process(target=_serve, args=arguments, daemon=True)
            # Before it is started: what fails from here on still closes the connection.
            started.append((process, ours))
            with _no_interrupt():
                process.start()
            # With our copy of the worker's end open, a worker that dies would never read as the end of the file.
            theirs.close()
        yield [connection for _, connection in started]
    except BaseException:
        for process, _ in started:
            if process.pid is not None:
                process.terminate()
        raise
    finally:
        for process, connection in started:
            connection.close()
            if process.pid is not None:
                _end(process)


def _end(process: Any) -> None:
    """Wait for a worker that has no connection any more, or that was told to end."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal. A worker that is started within this does not hear it, not
    even while it still imports: its parent ends it. The parent itself hears it when the block is left, so that no
    worker waits for the rest of its arguments."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    heard: list[int] = []
    # The mask is what a worker inherits. It is this thread's alone: a signal that reaches another thread is handled in
    # the main one all the same.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def threads_of(cores: int) -> int:
    """Threads of a worker that has so many cores: OMP_NUM_THREADS where it is set, else these."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores)


def _devices() -> list[str]:
    """Names of the visible GPUs, as CUDA_VISIBLE_DEVICES spells them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _serve(connection: Connection, root: Path, threads: int, device: str | None, parent: int) -> None:
    """A worker: one step after another until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # Before torch looks for GPUs, which it does once.
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            step: Step = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        failure: Exception | None = None
        try:
            with _reporting(connection):
                execute(step, root, quiet=False)
        except Exception as error:
            failure = error
        connection.send(failure)


@contextlib.contextmanager
def _reporting(connection: Connection) -> Iterator[None]:
    """Within it, a thread tells the parent how far the step is; afterwards nothing more of it is sent."""
    over, sending = threading.Event(), threading.Lock()

    def send(value: Status | str) -> None:
        # Two threads send, and a parent that is gone is noticed by `_watch`.
        with sending, contextlib.suppress(OSError):
            connection.send(value)

    work = Work(send)

    def report() -> None:
        while not over.wait(TELL_EVERY):
            send(work.status())

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        with working(work):
            yield
    finally:
        over.set()
        reporter.join()


def _watch(parent: int) -> None:
    """End this process when its parent is gone: nobody would hold the run's lock any more."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)


def make(settings: EngineSettings, quiet: bool) -> Engine:
    """Raises UsageError for what is a cluster's."""
    refuse_unread(settings, "pool", "jobs", "keep_going")
    return ParallelEngine(settings.jobs or 1, quiet, settings.keep_going)
