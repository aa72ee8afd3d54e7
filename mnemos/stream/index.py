"""Nearest vectors: exact up to 50,000 rows, an HNSW graph (usearch) above, exact and said where that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.core.progress import note

MOST_EXACT = 50_000
"""Rows up to which every one is looked at."""
EXPANSION = 256
"""Of HNSW: candidates that are kept while adding and searching; recall grows with it."""

Floats = npt.NDArray[np.float32]


class Index:
    """Unit vectors in an array that doubles. width: numbers a vector."""

    def __init__(self, width: int, most_exact: int = MOST_EXACT) -> None:
        self.width, self.most_exact = width, most_exact
        self._rows: Floats = np.empty((64, width), np.float32)
        self._count = 0
        self._graph: Any = None
        self._no_graph = False

    def __len__(self) -> int:
        return self._count

    def add(self, vector: Floats) -> None:
        """Behind the others. DataError for another width, and for what is no direction."""
        if vector.shape != (self.width,):
            bound = f"must have {self.width} numbers like those that are there"
            raise DataError(f"a vector of shape {vector.shape}", bound, "use the encoder of the file")
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = unit(vector)
        self._count += 1
        if self._graph is not None:
            self._graph.add(self._count - 1, self._rows[self._count - 1])

    def search(self, vector: Floats, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> list[tuple[int, float]]:
        """(place, cosine) of the k nearest, best first; of equal ones the later one first. allowed: bool[rows]."""
        if not self._count or k < 1:
            return []
        asked = unit(np.asarray(vector, np.float32))
        if self._count > self.most_exact and (graph := self._made()) is not None:
            # More than k, because what is not allowed is left out afterwards.
            share = 1.0 if allowed is None else max(float(allowed.mean()), 1e-3)
            found = graph.search(asked, min(self._count, int(k / share) + k))
            near = [int(key) for key in found.keys if allowed is None or allowed[int(key)]]
            if len(near) >= min(k, self._count if allowed is None else int(allowed.sum())):
                return [(place, float(self._rows[place] @ asked)) for place in near[:k]]
        scores = self._rows[: self._count] @ asked
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        k = min(k, self._count if allowed is None else int(allowed.sum()))
        # A partition finds the k best in linear time; those that equal the k-th are all looked at, so that which of
        # them is taken does not depend on it.
        bound = np.partition(scores, self._count - k)[self._count - k] if k else np.inf
        places = np.flatnonzero(scores >= bound)
        order = np.lexsort((-places, -scores[places]))[:k]
        return [(int(places[at]), float(scores[places[at]])) for at in order]

    def _made(self) -> Any:
        if self._graph is None and not self._no_graph:
            try:
                from usearch.index import Index as Graph
            except ImportError:
                self._no_graph = True
                note(f"{self._count:,} memories and no package usearch: every one is looked at for each question")
                return None
            self._graph = Graph(
                ndim=self.width, metric="ip", dtype="f32", expansion_add=EXPANSION, expansion_search=EXPANSION
            )
            self._graph.add(np.arange(self._count), self._rows[: self._count])
        return self._graph


def unit(vector: Floats) -> Floats:
    """The vector at length 1; one that has no direction stays 0 and is near nothing."""
    if not np.isfinite(vector).all():
        raise DataError("a vector with a number that is not finite", "cannot be compared", "check the encoder")
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)
