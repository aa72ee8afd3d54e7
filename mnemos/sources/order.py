"""In which order a model reads: at random, by length, or each text beside its neighbours.

In-context pre-training (arXiv:2310.10638): a graph of nearest neighbours, near-duplicates left out, and a path through
it: from the unvisited text of fewest neighbours to the most similar unvisited neighbour, until none is left, then from
the next text of fewest neighbours. The paper's algorithm box says least similar; its text, and this, most similar.

Deviation: 1. texts are embedded by latent semantic analysis (`similarity.embed`), not by a retrieval model, and
compared exactly, not by an approximate index.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mnemos.core.errors import UsageError
from mnemos.sources.similarity import Points, embed

Order = Literal["random", "length", "in-context"]
ORDERS: tuple[Order, ...] = ("random", "length", "in-context")
NEIGHBOURS = 10
SAME = 0.98
"""Cosine from which on two texts are near-duplicates, and no neighbours."""
BLOCK = 1024
MOST = 100_000
"""Texts that are put beside their neighbours: every pair is compared."""


def ordered(texts: Sequence[str], how: Order, seed: int = 0) -> list[int]:
    """Places of the texts in the order in which they are read; every place once.

    length: a curriculum from short to long, equal ones at random.
    """
    places = list(range(len(texts)))
    random.Random(f"order {seed}").shuffle(places)
    if how == "random":
        return places
    if how == "length":
        return sorted(places, key=lambda place: len(texts[place]))
    if len(texts) > MOST:
        raise UsageError(
            f"{len(texts):,} texts", f"are more than the {MOST:,} that are put beside neighbours", "use random"
        )
    return path(neighbours(embed(texts, seed))) if len(texts) > 1 else places


def neighbours(points: Points, count: int = NEIGHBOURS, same: float = SAME) -> list[dict[int, float]]:
    """For each text its neighbours and their cosines: an edge where either is among the other's nearest.

    points: float[N, D], rows of length 1.
    """
    found: list[dict[int, float]] = [{} for _ in range(len(points))]
    for start in range(0, len(points), BLOCK):
        likeness = points[start : start + BLOCK] @ points.T  # float[B, N]
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        likeness[likeness >= same] = -np.inf
        k = min(count, len(points) - 1)
        nearest = np.argpartition(-likeness, k - 1, axis=1)[:, :k] if k else np.zeros((len(likeness), 0), int)
        for row, places in enumerate(nearest):
            for place in places:
                value = float(likeness[row, place])
                if np.isfinite(value):
                    found[start + row][int(place)] = value
                    found[int(place)][start + row] = value
    return found


def path(graph: Sequence[dict[int, float]]) -> list[int]:
    """Every node once: see the module. Equal degrees and likenesses are resolved in favour of the earlier node."""
    left = [len(edges) for edges in graph]
    heap = [(degree, node) for node, degree in enumerate(left)]
    heapq.heapify(heap)
    visited = [False] * len(graph)
    out: list[int] = []
    while len(out) < len(graph):
        degree, node = heapq.heappop(heap)
        # A node's degree counts its unvisited neighbours; an older entry of the heap is passed over.
        if visited[node] or degree != left[node]:
            continue
        while True:
            visited[node] = True
            out.append(node)
            open_edges = []
            for other, value in graph[node].items():
                if not visited[other]:
                    left[other] -= 1
                    heapq.heappush(heap, (left[other], other))
                    open_edges.append((-value, other))
            if not open_edges:
                break
            node = min(open_edges)[1]
    return out
