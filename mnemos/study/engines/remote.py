"""What is carried out on a node of a cluster: one step, or a look at what the node has. No Ray in it."""

from __future__ import annotations

import os
import pickle
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError
from mnemos.core.progress import Status, Work, working
from mnemos.study.engines import attempts

SHARED_AFTER = 10.0
"""Seconds within which what the driver wrote has to be seen: network file systems show a new file late."""


@dataclass(frozen=True)
class Order:
    """One attempt at a step, as it is sent. step: pickled. expected: what `here` said where the run was planned."""

    step: bytes
    title: str
    key: str
    root: str
    attempt: str
    threads: int
    expected: Mapping[str, Any]


def here() -> dict[str, Any]:
    """What a step's key and result depend on: versions, device and dtype, and the commit of mnemos' own sources."""
    from mnemos.measure.manifest import source_state
    from mnemos.study.steps import surroundings

    return {**surroundings(), "commit": source_state()["commit"]}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs, one text each with both values; a commit that one side does not know is none."""
    out = []
    for key in sorted({*expected, *found}):
        ours, theirs = expected.get(key), found.get(key)
        if ours != theirs and not (key == "commit" and None in (ours, theirs)):
            out.append(f"{key} {theirs} there, {ours} here")
    return out


def refuse_different(name: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise RunError naming the node and each difference: a step's name says where it was done, and would be wrong."""
    found_differences = differences(expected, found)
    if found_differences:
        device = expected.get("device") != found.get("device")
        raise RunError(
            f"node {name}",
            f"is not what this run was planned on: {'; '.join(found_differences)}",
            "start mnemos on a node like those that work, and set engine.num_gpus if these have GPUs"
            if device
            else "install the same versions on every node",
        )


def use_threads(count: int) -> None:
    """Compute on so many threads: sums of floats depend on their number."""
    # torch may be loaded already, in a worker that did another step; OMP_NUM_THREADS is read when it is.
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


def carry_out(order: Order, node: str, nodes: list[str], *, main: bool = True) -> list[str]:
    """Do the step and return the lines that it said. node: this one's name. main: False for a process that works on
    the step together with the one that tells how far it is."""
    root = Path(order.root)
    if main and root.is_dir():
        # Before torch is loaded: from now on it has a place, and its node is known.
        attempts.tell(root, order.attempt, nodes, Status("loading libraries"))
    use_threads(order.threads)
    _refuse_unseen(order, root, node)
    refuse_different(node, order.expected, here())
    from mnemos.study.steps import execute

    step = pickle.loads(order.step)
    lines: list[str] = []
    work = Work(lines.append)
    if not main:
        with working(work):
            execute(step, root, quiet=True)
        return []
    with attempts.attended(root, order.key, order.attempt, nodes, work), working(work):
        execute(step, root, quiet=False)
    return lines


def _refuse_unseen(order: Order, root: Path, node: str) -> None:
    until = time.monotonic() + SHARED_AFTER
    while attempts.current(root, order.key) != order.attempt:
        if time.monotonic() > until:
            raise unshared(node, order.root)
        time.sleep(0.2)


def unshared(node: str, root: str) -> RunError:
    """The error for a node that does not see what the driver wrote."""
    return RunError(
        f"node {node}",
        f"does not see this run's directory {root}",
        "choose an --out on storage that every node has at the same path",
    )


def look(root: str | None, token: str, files: list[str], gpus: bool) -> dict[str, Any]:
    """What this node has. root, token: where the driver wrote a file, and its name. files: inputs of the run. gpus:
    whether steps are given GPUs; a task without any would not see them."""
    if gpus:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import ray
    import torch

    seen = True if root is None else _sees(Path(root) / attempts.FOLDER / token)
    return {
        "here": here(),
        "ray": ray.__version__,
        "host": platform.node(),
        "visible_gpus": torch.cuda.device_count(),
        "root": seen,
        "missing": [path for path in files if not os.path.exists(path)][:3],
    }


def _sees(path: Path) -> bool:
    until = time.monotonic() + SHARED_AFTER
    while not path.is_file():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def ping() -> bool:
    """Whether the node answers."""
    return True
