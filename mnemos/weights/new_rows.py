"""Rows of an embedding for pieces that it never had: random, mean, mean of sub-pieces, and FOCUS-like.

Trap: input and output matrix need their own rows where they are not tied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError

Floats = npt.NDArray[np.float64]
Initialisation = Literal["random", "mean", "sub-pieces", "focus"]
INITIALISATIONS: tuple[Initialisation, ...] = ("random", "mean", "sub-pieces", "focus")
WINDOW, DIMENSIONS = 5, 64
"""Neighbours on each side that a vector of FOCUS is made of, and its length."""
APART = 1e-3
"""Standard deviations by which rows of the mean differ from one another: equal rows would get equal gradients."""


def new_rows(
    how: Initialisation,
    old: Floats,
    parts: Sequence[Sequence[int]],
    *,
    std: float = 0.02,
    vectors: tuple[Floats, Floats] | None = None,
    seed: int = 0,
) -> Floats:
    """float[K, d], a row for each new piece.

    old: float[V, d], the rows in use. parts: the old ids that each piece was written with before. std: of random
    rows. vectors: of FOCUS, see `neighbours`: float[V, m] of old tokens and float[K, m] of new pieces, 0 where unknown.

    random       N(0, std^2)
    mean         the mean of all old rows, moved by a thousandth of their spread
    sub-pieces   the mean of the rows of `parts`; the mean of all where it has none
    focus        sum over old tokens of sparsemax(cosine of vectors) times their row (arXiv:2305.14481)

    Deviations of focus: 1. vectors are positive pointwise mutual information reduced by a singular value
    decomposition, not fastText's; 2. a piece without a vector gets its sub-pieces' mean, not a random row.
    """
    rng = np.random.default_rng(seed)
    count, width = len(parts), old.shape[1]
    if how == "random":
        return rng.normal(0, std, (count, width))
    mean, spread = old.mean(axis=0), old.std(axis=0)
    if how == "mean":
        return np.asarray(mean + APART * spread * rng.standard_normal((count, width)))
    below = np.array([old[list(ids)].mean(axis=0) if len(ids) else mean for ids in parts])
    if how == "sub-pieces":
        return below
    if vectors is None:
        raise DataError("focus", "needs text to learn vectors from", "give the new language's text")
    known, new = (_unit(one) for one in vectors)
    overlap = np.flatnonzero(np.abs(known).sum(axis=1) > 0)
    rows = below.copy()
    for at in np.flatnonzero(np.abs(new).sum(axis=1) > 0):
        if len(overlap):
            weight = sparsemax(known[overlap] @ new[at])
            rows[at] = weight @ old[overlap]
    return rows


def sparsemax(z: Floats) -> Floats:
    """The nearest point of the probability simplex (arXiv:1602.02068)."""
    ordered = np.sort(z)[::-1]
    total = np.cumsum(ordered)
    place = np.arange(1, len(z) + 1)
    # The support is the largest k with 1 + k z_(k) > sum of the k largest.
    k = place[1 + place * ordered > total][-1]
    return np.asarray(np.maximum(z - (total[k - 1] - 1) / k, 0.0))


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows, dtype=float), where=length > 0))


def neighbours(sequences: Iterable[Sequence[int]], size: int, *, least: int = 3, seed: int = 0) -> Floats:
    """float[size, m]: a vector for each id, from what stands within five tokens of it; 0 for ids that occur less
    than `least` times.

    Positive pointwise mutual information max(0, ln p(a, b) / (p(a) p(b))) of pairs, reduced to 64 dimensions.
    """
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    pairs: Counter[tuple[int, int]] = Counter()
    counts = np.zeros(size)
    for ids in sequences:
        row = np.asarray(ids, dtype=np.int64)
        np.add.at(counts, row, 1)
        for step in range(1, WINDOW + 1):
            pairs.update(zip(row[:-step].tolist(), row[step:].tolist(), strict=True))
    if not pairs:
        return np.zeros((size, 1))
    a, b = np.array(list(pairs), dtype=np.int64).T
    table = coo_matrix((np.array(list(pairs.values()), float), (a, b)), shape=(size, size))
    both = (table + table.T).tocoo()
    share = np.asarray(both.sum(axis=1)).ravel()
    information = np.log(both.data * both.data.sum() / (share[both.row] * share[both.col]))
    positive = coo_matrix((np.maximum(information, 0), (both.row, both.col)), shape=(size, size)).tocsr()
    with threadpool_limits(1):  # sums in another order would turn signs around
        left, strength, _ = randomized_svd(positive, min(DIMENSIONS, size - 1), n_iter=3, random_state=seed)
    found = left * np.sqrt(strength)
    found[counts < least] = 0
    return np.asarray(found)
