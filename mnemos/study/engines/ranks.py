"""One step on several GPUs or nodes of a cluster: a process a rank, with what torchrun would have told it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import MnemosError, RunError
from mnemos.study.engines import remote

GATHER = 5.0
"""Seconds that other ranks have to say what they failed with, after the first: the cause may not be the first word."""

PLACES = 600.0
"""Seconds between two looks at whether all ranks have a place."""


@dataclass(frozen=True)
class Seat:
    """Where a rank's process is. gpus: its own, as CUDA_VISIBLE_DEVICES spells them. number: in the order in which the
    processes were made."""

    number: int
    address: str
    node: str
    gpus: tuple[str, ...]


def environments(seats: Sequence[Seat], port: int) -> list[tuple[int, dict[str, str]]]:
    """(number, variables) of each process in the order of its rank; `port` is free on the node of rank 0.

    Ranks stand in the order of addresses and GPUs, so that a run which goes on on the same nodes gives each the shard
    that it had. MASTER_ADDR is the node of rank 0, which need not be the cluster's head: one that no rank runs on would
    let all others wait. Ranks of one node see all of its ranks' GPUs and take theirs by LOCAL_RANK, as under torchrun.
    """
    ranked = sorted(seats, key=lambda seat: (_numeric(seat.address), seat.node, [_numeric(gpu) for gpu in seat.gpus]))
    on_node = {seat.node: [one for one in ranked if one.node == seat.node] for seat in ranked}
    out = []
    for rank, seat in enumerate(ranked):
        local = on_node[seat.node]
        variables = {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(ranked)),
            "LOCAL_RANK": str(local.index(seat)),
            "LOCAL_WORLD_SIZE": str(len(local)),
            "GROUP_RANK": str(list(on_node).index(seat.node)),
            "MASTER_ADDR": ranked[0].address,
            "MASTER_PORT": str(port),
        }
        gpus = [gpu for one in local for gpu in one.gpus]
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        out.append((seat.number, variables))
    return out


def _numeric(text: str) -> list[tuple[int, str]]:
    """A key by which 10.0.0.9 stands before 10.0.0.10."""
    return [(int(part) if part.isdigit() else -1, part) for part in text.split(".")]


class Rank:
    """The process of a rank."""

    def seat(self, number: int) -> Seat:
        """Where it is."""
        import ray

        context = ray.get_runtime_context()
        gpus = tuple(str(one) for one in context.get_accelerator_ids().get("GPU", ()))
        return Seat(number, ray.util.get_node_ip_address(), context.get_node_id(), gpus)

    def free_port(self) -> int:
        """One that nobody listens on here, now."""
        with socket.socket() as listener:
            listener.bind(("", 0))
            return int(listener.getsockname()[1])

    def carry_out(self, order: remote.Order, variables: dict[str, str], nodes: list[str]) -> list[str]:
        """Work on the step as the rank that `variables` name."""
        # Before torch looks for GPUs, which it does once.
        os.environ.update(variables)
        node = variables["MASTER_ADDR"] if variables["RANK"] == "0" else f"of rank {variables['RANK']}"
        return remote.carry_out(order, node, nodes, main=variables["RANK"] == "0")


def carry_out_together(order: remote.Order, processes: int, num_cpus: float, num_gpus: float) -> list[str]:
    """Do the step with so many processes and return the lines that rank 0 said. It runs in a task of its own, which
    owns the processes: they end with it. Raises what the step raised, before what other ranks met because of that."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    size = {"CPU": num_cpus, **({"GPU": num_gpus} if num_gpus else {})}
    group = placement_group([size] * processes, strategy="PACK")
    ranks: list[Any] = []
    try:
        # The driver says it when there is no place for long; all ranks are placed, or none.
        while not group.wait(PLACES):
            pass
        for bundle in range(processes):
            strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
            made = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0, scheduling_strategy=strategy)(Rank)
            ranks.append(made.remote())
        seats = ray.get([rank.seat.remote(number) for number, rank in enumerate(ranks)])
        first = environments(seats, 0)[0][0]
        ranked = environments(seats, ray.get(ranks[first].free_port.remote()))
        nodes = sorted({seat.node for seat in seats} | {ray.get_runtime_context().get_node_id()})
        refs = [ranks[number].carry_out.remote(order, variables, nodes) for number, variables in ranked]
        return _first_result(ray, refs)
    except ray.exceptions.RayActorError as error:
        raise _lost_rank(error) from error
    finally:
        for rank in ranks:
            ray.kill(rank)
        remove_placement_group(group)


def _first_result(ray: Any, refs: list[Any]) -> list[str]:
    """What rank 0 returned, once all ranks are done."""
    left, failures, until = list(refs), [], float("inf")
    while left and time.monotonic() < until:
        done, left = ray.wait(left, num_returns=1, timeout=1.0)
        for ref in done:
            try:
                ray.get(ref)
            except ray.exceptions.RayError as error:
                failures.append(error)
                until = min(until, time.monotonic() + GATHER)
    if failures:
        raise _cause(ray, failures)
    lines: list[str] = ray.get(refs[0])
    return lines


def _cause(ray: Any, failures: Sequence[BaseException]) -> BaseException:
    """The failure that the others are likely to have come of: what mnemos explains, then a lost process, then the
    first."""
    causes = [getattr(error, "cause", None) or error for error in failures]
    explained = [cause for cause in causes if isinstance(cause, MnemosError)]
    lost = [cause for cause in causes if isinstance(cause, ray.exceptions.RayActorError)]
    if explained:
        return explained[0]
    if lost:
        return _lost_rank(lost[0])
    return causes[0]


def _lost_rank(error: BaseException) -> LostRankError:
    return LostRankError("a process of this step", f"ended without a word: {str(error).splitlines()[0]}")


class LostRankError(RunError):
    """A rank's process is gone; whether with its node is for the driver to find out."""
