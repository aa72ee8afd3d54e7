"""Several steps at a time on one machine: `mnemos run --jobs N`.

Small models gain little from more threads, so two trainings side by side finish sooner than one
after the other. Every worker is a process of its own that takes one step after another, with its
share of the cores and, where there are as many GPUs as workers, a GPU of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.study import processes
from mnemos.study.engine import Progress
from mnemos.study.steps import Step, distinct, execute, is_done

LOOK_EVERY = 0.5
"""Seconds between a worker's looks at whether its parent still lives."""


@dataclass(frozen=True)
class ParallelEngine:
    """Runs up to `jobs` steps at a time; a step starts once its `needs` are done.

    Trap: floating-point sums depend on the number of threads, so trainings of a run with another
    number of jobs are equal to these in distribution, not bit for bit. Finished steps are reused
    whatever the number was.
    """

    jobs: int
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs = {self.jobs}", "must be at least 1", "1 runs one step after another")
        if processes.count() > 1:
            raise UsageError(
                f"jobs = {self.jobs} under a launcher of {processes.count()} processes",
                "each process would start workers of its own",
                "leave --jobs out, or start mnemos without torchrun or accelerate",
            )

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; the first failure stops all workers and is raised."""
        waiting = {step.key: step for step in distinct(steps) if not is_done(step.key, root)}
        progress = Progress(len(waiting), len(distinct(steps)) - len(waiting), self.quiet)
        with _workers(min(self.jobs, len(waiting)), root) as idle:
            busy: dict[Connection, tuple[Step, float]] = {}
            while waiting or busy:
                for step in _ready(waiting, root)[: len(idle)]:
                    worker = idle.pop()
                    worker.send(waiting.pop(step.key))
                    busy[worker] = step, time.monotonic()
                said = wait(list(busy))
                for worker in [one for one in busy if one in said]:
                    step, began = busy.pop(worker)
                    _raise_failure(worker, step)
                    progress.finish(step.title, time.monotonic() - began)
                    idle.append(worker)
        progress.close()


def _ready(waiting: dict[str, Step], root: Path) -> list[Step]:
    return [step for step in waiting.values() if all(is_done(key, root) for key in step.needs)]


def _raise_failure(worker: Connection, step: Step) -> None:
    try:
        failure = worker.recv()
    except EOFError:
        raise ChildProcessError(f"{step.title}: its worker ended without a word (killed, or out of memory?)") from None
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _workers(count: int, root: Path) -> Iterator[list[Connection]]:
    """Idle workers; they are ended when the block is left, however it is left."""
    spawn = multiprocessing.get_context("spawn")
    devices = _devices()
    started: list[tuple[Any, Connection]] = []
    try:
        for number in range(count):
            ours, theirs = spawn.Pipe()
            device = devices[number] if len(devices) >= count else None
            arguments = (theirs, root, _threads(count), device, os.getpid())
            process = spawn.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        yield [connection for _, connection in started]
    except BaseException:
        for process, _ in started:
            process.terminate()
        raise
    finally:
        for process, connection in started:
            connection.close()
            process.join()


def _threads(jobs: int) -> int:
    """Threads of one worker: OMP_NUM_THREADS where it is set, else its share of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, (os.cpu_count() or 1) // jobs)


def _devices() -> list[str]:
    """Names of the visible GPUs, as CUDA_VISIBLE_DEVICES spells them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _serve(connection: Connection, root: Path, threads: int, device: str | None, parent: int) -> None:
    """A worker: one step after another until the connection closes."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            step: Step = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        failure: BaseException | None = None
        try:
            execute(step, root, quiet=True)
        except KeyboardInterrupt:
            return
        except Exception as error:
            failure = error
        connection.send(failure)


def _watch(parent: int) -> None:
    """End this process when its parent is gone: nobody would hold the run's lock any more."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)
