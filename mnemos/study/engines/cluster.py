"""A Ray cluster: joining one that runs (none is ever started), what its nodes have, and what is wrong with them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import MnemosError, RunError, UsageError
from mnemos.core.packages import missing
from mnemos.study.engines import attempts, remote

REACH = 5.0
"""Seconds that a cluster's head has to accept a connection."""

LOOK = 600.0
"""Seconds that a node has to say what it has: it starts an interpreter and loads torch for it."""

MOST_FILES = 2_000
"""Input files that each node is asked for."""

START = "ray start --head --disable-usage-stats --include-dashboard=false"

PASSED = ("MNEMOS_", "HF_", "TRANSFORMERS_", "TOKENIZERS_")
"""Variables that steps read and that workers get as the driver has them, by how their names begin."""

SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")
"""Not passed, though they begin so: a cluster keeps such variables in its logs."""


@dataclass(frozen=True)
class Node:
    """One that lives. resources: all that it has, whoever uses it."""

    id: str
    name: str
    resources: Mapping[str, float]

    def places(self, num_cpus: float, num_gpus: float) -> int:
        """How many steps of this size fit."""
        cpus = self.resources.get("CPU", 0) / num_cpus
        gpus = self.resources.get("GPU", 0) / num_gpus if num_gpus else cpus
        return int(min(cpus, gpus) + 1e-6)

    def words(self) -> str:
        """Like ``10.0.0.1: 8 CPU, 1 GPU``."""
        return f"{self.name}: {self.resources.get('CPU', 0):g} CPU, {self.resources.get('GPU', 0):g} GPU"


def package() -> Any:
    """Ray itself, which reports nothing about its use; UsageError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise missing("engine ray", "ray", why=error) from None
    return ray


@contextlib.contextmanager
def joined(address: str | None, variables: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Ray, as a member of the cluster at `address` (see `EngineSettings`), which is left again afterwards unless the
    program had joined it itself. variables: set in its workers. Raises UsageError where no cluster is named or runs
    here, RunError for one that does not answer."""
    ray = package()
    if ray.is_initialized():
        yield ray
        return
    place = reached(address)
    settings: dict[str, Any] = {"env_vars": dict(variables)} if variables else {}
    with _our_own_sigterm():
        try:
            ray.init(place, log_to_driver=False, logging_level=logging.ERROR, runtime_env=settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RunError(
                f"the cluster at {place}",
                f"could not be joined: {_first_line(error)}",
                "install the versions of Python and Ray that it has, and start mnemos on one of its nodes",
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _our_own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM over, and its handler would end a run without a word (see `study.stopping`)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ours)


def reached(address: str | None) -> str:
    """HOST:PORT of a head that accepts a connection. Ray itself would wait for a minute, and end the process."""
    from ray._private import services

    place = address or "auto"
    if place == "auto":
        place = os.environ.get("RAY_ADDRESS") or "auto"
    if "://" in place:
        raise UsageError(
            f"--address {place}",
            "is that of a Ray client, and a run needs to be on a node of its cluster",
            "start mnemos there, with HOST:PORT of the head",
        )
    named = f"--address {place}"
    if place == "auto":
        try:
            place = services.canonicalize_bootstrap_address("auto")
        except ConnectionError:
            place = ""
        if not place:
            raise UsageError(
                "engine ray",
                "no Ray cluster runs on this machine, and none is started silently",
                f"start one with: {START}; or give --address HOST:PORT; or --engine pool for one machine",
            )
        # A note of Ray's on this machine, which outlives a cluster that was killed.
        named = f"the cluster at {place}, which Ray last noted on this machine"
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(named, "must be HOST:PORT, or auto", "a head listens on port 6379 by default")
    cure = f"mend the address, or start a head there: {START}"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH) as connection:
            head = os.environ.get("RAY_USE_TLS") == "1" or _speaks_grpc(connection)
    except OSError as error:
        raise RunError(named, f"nobody answers there ({error.strerror or error})", cure) from None
    if not head:
        raise RunError(named, "something answers there that is no head of Ray", cure)
    return place


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether the other side begins HTTP/2 as a server of gRPC does: with a frame of settings (RFC 9113, 3.4)."""
    settings = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    first = connection.recv(len(settings))
    return len(first) > 3 and first[3] == 4


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[:3]) if lines else type(error).__name__


def passed_on(threads: int) -> dict[str, str]:
    """The variables that workers get."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED) and not any(word in name for word in SECRET)
    }
    return {**own, "OMP_NUM_THREADS": str(threads)}


def nodes(ray: Any) -> list[Node]:
    """Those that live, in the order of their addresses."""
    found = [
        Node(one["NodeID"], one["NodeManagerAddress"], dict(one["Resources"])) for one in ray.nodes() if one["Alive"]
    ]
    return sorted(found, key=lambda node: (node.name, node.id))


def on_node(function: Any, ray: Any, node: str, **options: Any) -> Any:
    """A remote function that runs on one node, beside whatever it is busy with."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place, **options)(function)


def looked_at(
    ray: Any, found: Sequence[Node], root: Path | None, files: Sequence[str], *, gpus: bool, patience: float = LOOK
) -> dict[str, dict[str, Any] | str]:
    """What `remote.look` says of each node, by its id, or why it says nothing."""
    token = f"token-{uuid.uuid4().hex[:12]}"
    if root is not None:
        (root / attempts.FOLDER).mkdir(parents=True, exist_ok=True)
        (root / attempts.FOLDER / token).write_text(token, encoding="utf-8")
    # Of its own process, which ends with it: it may have opened a GPU.
    arguments = (None if root is None else str(root), token, list(files)[:MOST_FILES], gpus)
    asked = {on_node(remote.look, ray, node.id, max_calls=1).remote(*arguments): node.id for node in found}
    out: dict[str, dict[str, Any] | str] = {}
    until, left = time.monotonic() + patience, list(asked)
    while left and time.monotonic() < until:
        done, left = ray.wait(left, num_returns=1, timeout=1.0)
        for ref in done:
            out[asked[ref]] = _said(ray, ref)
    for ref in left:
        out[asked[ref]] = f"it did not answer within {patience:g} seconds"
        ray.cancel(ref, force=True)
    if root is not None:
        with contextlib.suppress(OSError):
            (root / attempts.FOLDER / token).unlink()
    return out


def _said(ray: Any, ref: Any) -> dict[str, Any] | str:
    try:
        found: dict[str, Any] = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None) or error
        return f"{type(cause).__name__}: {_first_line(cause)}"
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {_first_line(error)}"
    return found


def trouble(node: Node, answer: Mapping[str, Any] | str, expected: Mapping[str, Any], root: Path) -> MnemosError | None:
    """What keeps a node from working on this run's steps; None where nothing does."""
    if isinstance(answer, str):
        return RunError(
            f"node {node.name}",
            f"cannot work on this run: {answer}",
            "install mnemos there as it is installed here, or take the node out of the cluster",
        )
    if not answer["root"]:
        return remote.unshared(node.name, str(root))
    try:
        remote.refuse_different(node.name, expected, answer["here"])
    except RunError as error:
        return error
    if answer["missing"]:
        return RunError(
            f"node {node.name}",
            f"does not see {', '.join(answer['missing'])}",
            "keep data and models on storage that every node has at the same path",
        )
    return None
