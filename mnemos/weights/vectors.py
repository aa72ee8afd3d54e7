"""Differences between checkpoints beside each other: how long, at what angle, of how different signs.

Two task vectors at right angles can be added without hurting one another; where their signs
conflict, a sum cancels (arXiv:2212.04089, arXiv:2306.01708).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mnemos.core.errors import ModelError, UsageError, nearest
from mnemos.weights.combination import Combination
from mnemos.weights.lora import open_weights
from mnemos.weights.operators import Tensor, chosen, resolve
from mnemos.weights.shards import pool
from mnemos.weights.tensors import Weights, layer_of, places

ALL = "all"


@dataclass(frozen=True)
class Figures:
    """One layer. norms: of each vector. cosines, conflicts: by pair (i, j), i < j; conflicts is the
    share of elements whose signs differ among those where neither is 0. NaN where nothing is."""

    layer: str
    norms: tuple[float, ...]
    cosines: Mapping[tuple[int, int], float]
    conflicts: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class Comparison:
    """vectors: in normal form. layers: embeddings, 0, 1, …, end, all. left_out: tensors that not
    every checkpoint has in the same shape."""

    vectors: tuple[str, ...]
    layers: tuple[Figures, ...]
    left_out: tuple[str, ...]


def compare_vectors(
    vectors: Sequence[Combination], checkpoints: Mapping[str, Path], *, threads: int | None = None
) -> Comparison:
    """Norms, cosines and sign conflicts of each layer of several differences, out of core.

    Raises UsageError for a name that is not given and a difference of nothing, ModelError where the
    checkpoints share no tensor.
    """
    for vector in vectors:
        if not vector.names:
            raise UsageError(f"{vector}", "is nothing: its checkpoints cancel", "write a difference of two")
    names = list(dict.fromkeys(name for vector in vectors for name in vector.names))
    for name in names:
        if name not in checkpoints:
            raise UsageError(f"checkpoint {name!r}", "is not given", nearest(name, checkpoints))
    with ExitStack() as stack:
        opened = {}
        for name in names:
            opened[name] = open_weights(name, Path(checkpoints[name]))
            stack.callback(opened[name].close)
        shared, left_out = _shared(opened)
        if not shared:
            raise ModelError(" and ".join(names), "share no tensor", "compare checkpoints of one architecture")
        depth = places(shared)
        with pool(threads) as workers:
            sums = _sums(vectors, opened, shared, depth, workers)
    layers = sorted(sums, key=_order)
    total = sum(sums.values(), np.zeros((3, len(vectors), len(vectors))))
    rows = [_figures(layer, sums[layer]) for layer in layers]
    return Comparison(tuple(map(str, vectors)), (*rows, _figures(ALL, total)), tuple(left_out))


def _shared(opened: Mapping[str, Weights]) -> tuple[list[str], list[str]]:
    first, *rest = opened.values()
    shared: list[str] = []
    left_out: list[str] = []
    for key, stored in first.stored.items():
        at = [(one, one.find(key)) for one in rest]
        same = all(place is not None and one.stored[place].shape == stored.shape for one, place in at)
        if stored.dtype.is_floating_point:
            (shared if same else left_out).append(key)
    return shared, left_out


def _sums(
    vectors: Sequence[Combination], opened: Mapping[str, Weights], keys: Sequence[str], depth: Mapping[str, float],
    workers: ThreadPoolExecutor,
) -> dict[str, np.ndarray]:  # fmt: skip
    """layer -> float64[3, n, n]: inner products, sign conflicts, elements where neither is 0."""

    def one(key: str) -> np.ndarray:
        formulas = [chosen(vector, key) for vector in vectors]
        names = {name for formula in formulas for name in formula.names}
        views = {name: opened[name].view(str(opened[name].find(key))) for name in names}
        shape = next(iter(opened.values())).view(key).shape
        tensor = Tensor(key, shape, depth[key], torch.float32, views, math.prod(shape))
        # Lower triangles: [0] inner products (squared norms on the diagonal), [1] pairs of opposite signs, [2] pairs
        # where neither is 0. All three are sums over elements, so blocks, tensors and layers just add up.
        out = np.zeros((3, len(vectors), len(vectors)))
        for values in tensor.each(*[resolve(formula, tensor) for formula in formulas]):
            for i, x in enumerate(values):
                out[0, i, i] += float(x.dot(x))
                for j in range(i):
                    product = x * values[j]
                    out[0, i, j] += float(product.sum())
                    out[1, i, j] += int((product < 0).sum())
                    out[2, i, j] += int((product != 0).sum())
        return out

    sums: dict[str, np.ndarray] = {}
    # In the order of the keys, not as threads finish: sums of floats depend on their order.
    for key, found in zip(keys, workers.map(one, keys), strict=True):
        sums[layer_of(key)] = sums.get(layer_of(key), 0) + found
    return sums


def _figures(layer: str, sums: np.ndarray) -> Figures:
    norms = np.sqrt(np.diag(sums[0]))
    pairs = [(j, i) for i in range(len(norms)) for j in range(i)]
    # 0 / 0 where a layer has no difference at all: NaN says so, and 0 would be a claim.
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = {(j, i): float(sums[0, i, j] / (norms[i] * norms[j])) for j, i in pairs}
        conflicts = {(j, i): float(sums[1, i, j] / sums[2, i, j]) for j, i in pairs}
    return Figures(layer, tuple(map(float, norms)), cosines, conflicts)


def _order(layer: str) -> tuple[bool, bool, int]:
    return layer != "embeddings", layer == "end", int(layer) if layer.isdigit() else 0
