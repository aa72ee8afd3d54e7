"""Steps on the nodes of a Ray cluster: `mnemos run --engine ray --address HOST:PORT` (docs/cluster.md).

A step is one task of Ray's core. The loop is that of the other engines; what is more here is that a node may be lost,
may be another kind of machine, or may not see the run's directory. Ray's own retries are off: they would begin a step
anew that was ended for want of memory, as often as one whose node is gone. Here only the latter is begun again.
"""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError, UsageError
from mnemos.core.places import resolved
from mnemos.core.progress import Status
from mnemos.study import processes
from mnemos.study.engines import attempts, cluster, remote
from mnemos.study.engines.cluster import Node
from mnemos.study.engines.engine import Engine
from mnemos.study.engines.pool import threads_of
from mnemos.study.engines.ranks import LostRankError, carry_out_together
from mnemos.study.engines.schedule import Retries, Schedule, bring_to_done
from mnemos.study.progress import LOG, Log, Progress
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import Step, TrainStep
from mnemos.train.arguments import micro_batches

LOOK_EVERY = 1.0
"""Seconds between two looks at the cluster where nothing ends."""

UNPLACED = 60.0
"""Seconds after which a step without a place is said, and again after as many times ten."""

NODE_PATIENCE = 120.0
"""Seconds in which it has to turn out whether a worker died alone or with its node; Ray itself takes up to a minute."""

STATUS_EVERY = 2.0
"""Seconds for which what a worker said of its step is taken as it is."""


@dataclass(frozen=True)
class RayEngine:
    """Steps as tasks of a Ray cluster that is joined, never started; `settings` as a study's `engine` has them.

    Trap: steps' keys hold versions and the device where the run is planned. A node that differs is refused.
    """

    settings: EngineSettings
    quiet: bool = False

    def __post_init__(self) -> None:
        if processes.count() > 1:
            raise UsageError(
                f"engine ray under a launcher of {processes.count()} processes",
                "each process would hand out the steps",
                "start mnemos without torchrun or accelerate; engine.processes lets several train together",
            )

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; the first failure cancels all tasks and is raised, unless `keep_going`."""
        root = resolved(root)  # it is sent to other machines
        for step in steps:
            if isinstance(step, TrainStep):
                micro_batches(step.plan, self.settings.processes)
        schedule, log = Schedule(steps, root), Log(root / LOG)
        with Progress(schedule.todo, schedule.reused, silent=self.quiet, log=log) as progress:
            if schedule.over:
                return
            threads = threads_of(int(self.settings.num_cpus))
            with cluster.joined(self.settings.address, cluster.passed_on(threads)) as ray:
                progress.note("cluster: looking at its nodes")
                files = dict.fromkeys(path for step in steps for path in step.files)
                found = checked_nodes(ray, self.settings, root, tuple(files))
                progress.note("cluster: " + "; ".join(node.words() for node in found))
                place = _Tasks(ray, self.settings, root, threads)
                try:
                    bring_to_done(schedule, place, progress, keep_going=self.settings.keep_going)
                finally:
                    place.end()
            shutil.rmtree(root / attempts.FOLDER, ignore_errors=True)


def checked_nodes(ray: Any, settings: EngineSettings, root: Path, files: Sequence[str]) -> list[Node]:
    """The nodes that steps fit on. Raises UsageError where there are none or too few, RunError for the first of them
    that must not work on this run."""
    every = cluster.nodes(ray)
    found = [node for node in every if node.places(settings.num_cpus, settings.num_gpus)]
    places = sum(node.places(settings.num_cpus, settings.num_gpus) for node in found)
    size = f"{settings.num_cpus:g} CPU and {settings.num_gpus:g} GPU"
    if places < settings.processes:
        wanted = f"{settings.processes} processes of {size}" if settings.processes > 1 else f"a step of {size}"
        has = "; ".join(node.words() for node in every)
        raise UsageError(
            f"engine: {wanted}",
            f"fits on no node of the cluster ({has})" if not places else f"fits {places} times on the cluster ({has})",
            "ask for less under engine:, or add nodes",
        )
    answers = cluster.looked_at(ray, found, root, files, gpus=settings.num_gpus > 0)
    expected = remote.here()
    for node in found:
        error = cluster.trouble(node, answers[node.id], expected, root)
        if error is not None:
            raise error
    return found


@dataclass
class _Running:
    """A step that was handed over. nodes: those that lived then. last, word: when its worker was last asked after, and
    what it had said."""

    step: Step
    attempt: str
    began: float
    nodes: frozenset[str]
    last: float = float("-inf")
    word: dict[str, Any] | None = None


class _Tasks:
    """A cluster as a workplace."""

    def __init__(self, ray: Any, settings: EngineSettings, root: Path, threads: int) -> None:
        self.ray, self.settings, self.root, self.threads = ray, settings, root, threads
        self.expected = remote.here()
        # Ray's word for "on the node that has least to do"; `_again` knows which loss deserves another attempt.
        options = {"max_retries": 0, "retry_exceptions": False, "scheduling_strategy": "SPREAD"}
        # Once: each remote function is sent to the cluster, and each worker fetches it.
        self.one = ray.remote(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, **options)(_one)
        self.several = ray.remote(num_cpus=0, **options)(_several)
        self.running: dict[Any, _Running] = {}
        self.by_key: dict[str, _Running] = {}
        self.retries = Retries(settings.max_retries)
        self.alive: list[Node] = []
        self.asked = self.unplaced_after = float("-inf")

    def room(self) -> int:
        """By --jobs, or as many as the living nodes have places: nodes come and go."""
        places = sum(node.places(self.settings.num_cpus, self.settings.num_gpus) for node in self._nodes())
        taken = sum(self._processes(one.step) for one in self.running.values())
        most = self.settings.jobs - len(self.running) if self.settings.jobs else places - taken
        return max(most, 0 if self.running else 1)

    def begin(self, step: Step) -> Callable[[], Status]:
        """Submit it."""
        self._submit(step)
        return lambda: self._status(step.key)

    def heard(self) -> Iterator[tuple[str, Status | str | Exception | None]]:
        """What ended, was lost, or has no place for long."""
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=LOOK_EVERY)
        for ref in done:
            one = self.running.pop(ref)
            try:
                lines = self.ray.get(ref)
            except self.ray.exceptions.RayError as error:
                yield one.step.key, self._own(one, error) or self._again(one, error)
                continue
            for line in lines:
                yield one.step.key, line
            yield one.step.key, None
        yield from self._unplaced()

    def end(self) -> None:
        """Cancel what still runs, and let no worker go on that does not hear of it."""
        for ref, one in self.running.items():
            attempts.end(self.root, one.step.key)
            self.ray.cancel(ref, force=True)
        self.running = {}

    def _processes(self, step: Step) -> int:
        return self.settings.processes if step.every_process else 1

    def _nodes(self) -> list[Node]:
        if time.monotonic() - self.asked > LOOK_EVERY:
            self.alive, self.asked = cluster.nodes(self.ray), time.monotonic()
        return self.alive

    def _submit(self, step: Step) -> None:
        attempt = attempts.begin(self.root, step.key)
        order = remote.Order(
            pickle.dumps(step), step.title, step.key, str(self.root), attempt, self.threads, self.expected
        )
        several = self._processes(step)
        # Before it is submitted: one that is lost from then on may be lost with it.
        living = frozenset(node.id for node in self._nodes())
        try:
            if several > 1:
                ref = self.several.remote(order, several, self.settings.num_cpus, self.settings.num_gpus)
            else:
                ref = self.one.remote(order)
        except (self.ray.exceptions.ObjectStoreFullError, self.ray.exceptions.OutOfDiskError) as error:
            raise _store_full(step, len(order.step)) from error
        one = _Running(step, attempt, time.monotonic(), living)
        self.running[ref] = self.by_key[step.key] = one

    def _word(self, one: _Running) -> dict[str, Any] | None:
        if time.monotonic() - one.last > STATUS_EVERY:
            one.word, one.last = attempts.last_word(self.root, one.attempt), time.monotonic()
        return one.word

    def _status(self, key: str) -> Status:
        return attempts.status_of(self._word(self.by_key[key]))

    def _own(self, one: _Running, error: Exception) -> Exception | None:
        """What the step itself failed with; None where it was lost with a node or could not be handed over."""
        exceptions, cause = self.ray.exceptions, getattr(error, "cause", None)
        if not isinstance(error, exceptions.RayTaskError) or isinstance(cause, LostRankError):
            return None
        if isinstance(cause, exceptions.RayError):
            return RunError(one.step.title, f"failed on the cluster: {cause}", "see the lines above")
        return cause if isinstance(cause, Exception) else error

    def _again(self, one: _Running, error: Exception) -> str:
        """Submit a step again whose node is lost, and return what is to be said; anything else is raised."""
        exceptions = self.ray.exceptions
        if isinstance(error, exceptions.ObjectStoreFullError | exceptions.OutOfDiskError):
            raise _store_full(one.step, None) from error
        if isinstance(error, exceptions.RuntimeEnvSetupError):
            raise RunError(one.step.title, f"could not be set up: {error}", "see the logs of that node") from error
        lost = None if isinstance(error, exceptions.OutOfMemoryError) else self._lost_node(one)
        if lost is None:
            raise RunError(
                one.step.title,
                "its worker ended without a word (killed, or out of memory?)",
                "run the same command again: finished steps are kept; a larger engine.num_cpus lets fewer steps share "
                "a node",
            ) from error
        self.retries.count(one.step, lost)
        self._submit(one.step)
        return f"{one.step.title}: its node {lost} is lost; begun again"

    def _lost_node(self, one: _Running) -> str | None:
        """The node that went with the step; None where all that worked on it live."""
        word = attempts.last_word(self.root, one.attempt)
        suspects = frozenset(word["nodes"]) if word else one.nodes
        names: dict[str, str] = {node["NodeID"]: node["NodeManagerAddress"] for node in self.ray.nodes()}
        pings = [cluster.on_node(remote.ping, self.ray, node).remote() for node in suspects]
        until = time.monotonic() + NODE_PATIENCE
        while time.monotonic() < until:
            gone = suspects - {node.id for node in cluster.nodes(self.ray)}
            if gone:
                return names.get(min(gone), min(gone))
            done, _ = self.ray.wait(pings, num_returns=len(pings), timeout=LOOK_EVERY)
            if len(done) == len(pings) and all(self._answers(ref) for ref in done):
                return None
        return "that does not answer"

    def _answers(self, ref: Any) -> bool:
        try:
            return bool(self.ray.get(ref))
        except self.ray.exceptions.RayError:
            return False

    def _unplaced(self) -> Iterator[tuple[str, str]]:
        """A line about a step that has had no place for long: another job may have all of the cluster."""
        now = time.monotonic()
        late = [one for one in self.running.values() if now - one.began > UNPLACED]
        if now < self.unplaced_after or not late:
            return
        waiting = [one for one in late if self._word(one) is None]
        self.unplaced_after = now + (10 * UNPLACED if waiting else UNPLACED / 4)
        if waiting:
            free = self.ray.available_resources()
            size = f"{self.settings.num_cpus:g} CPU, {self.settings.num_gpus:g} GPU"
            has = f"{free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU"
            yield (
                waiting[0].step.key,
                f"no free resources: {len(waiting)} steps have not begun, each needs {size}, and {has} are free on the "
                "whole cluster; they begin when others end, or once their workers are started on a busy machine "
                "(Ctrl-C stops, the same command continues)",
            )


def _store_full(step: Step, size: int | None) -> RunError:
    much = "" if size is None else f" ({size:,} bytes)"
    return RunError(
        f"{step.title}{much}",
        "cannot be sent: the cluster's object store, or the disk that it spills to, is full",
        "end the jobs that fill it (ray memory lists what is held), then run the same command again",
    )


def _one(order: remote.Order) -> list[str]:
    """A step, on whichever node has a place."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return remote.carry_out(order, ray.util.get_node_ip_address(), [node])


def _several(order: remote.Order, several: int, num_cpus: float, num_gpus: float) -> list[str]:
    return carry_out_together(order, several, num_cpus, num_gpus)


def make(settings: EngineSettings, quiet: bool) -> Engine:
    """Raises UsageError where Ray is not installed."""
    cluster.package()
    return RayEngine(settings, quiet)
