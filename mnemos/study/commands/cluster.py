"""`mnemos cluster check`: what each node of a Ray cluster has, and whether it can do the steps of runs started here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.places import resolved
from mnemos.study.engines import attempts, cluster, remote

SHOWN = ("mnemos", "torch", "transformers", "device", "dtype")
"""Of what steps' keys hold; the rest is named where it differs."""


def check(address: str | None = None, out: str | Path | None = None) -> tuple[list[str], bool]:
    """(lines, whether every node can work on a run that is started here). address: as of `EngineSettings`. out: a
    directory of runs that every node shall see. A node with GPUs is looked at as for steps that are given them. Raises
    UsageError and RunError for a cluster that is none or does not answer."""
    root = None if out is None else resolved(Path(out))
    if root is not None and not root.is_dir():
        raise UsageError(f"--out {root}", "is no directory", "make it, or name one that every node shares")
    with cluster.joined(address) as ray, _tidy(root):
        found = cluster.nodes(ray)
        gpus = any(node.resources.get("GPU", 0) for node in found)
        answers = cluster.looked_at(ray, found, root, (), gpus=gpus)
        expected = remote.here()
        lines = [f"here    {_words(expected)}, ray {ray.__version__}"]
        fine = True
        for node in found:
            error = cluster.trouble(node, answers[node.id], expected, root or Path())
            lines += _lines(node, answers[node.id], error)
            fine = fine and error is None
    total = "every node can work on runs started here" if fine else "a run that needs all of these nodes is refused"
    return [*lines, f"{len(found)} nodes: {total}"], fine


def _lines(node: cluster.Node, answer: Mapping[str, Any] | str, error: MnemosError | None) -> list[str]:
    memory = node.resources.get("memory", 0) / 2**30
    lines = [f"node    {node.words()}, {memory:.1f} GiB for tasks"]
    if not isinstance(answer, str):
        lines.append(f"        {answer['host']}: {_words(answer['here'])}, ray {answer['ray']}")
    if error is not None:
        lines.append(f"        NO: {error.bound}; {error.cure}")
    return lines


def _words(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {found[key]}" for key in SHOWN if found.get(key))


@contextlib.contextmanager
def _tidy(root: Path | None) -> Iterator[None]:
    """Take the folder of tokens away again, unless a run has files in it."""
    yield
    if root is not None:
        with contextlib.suppress(OSError):
            (root / attempts.FOLDER).rmdir()
