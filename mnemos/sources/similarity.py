"""Texts beside each other: words, repeated 4-grams, near-duplicates, and a small set that spreads.

Nothing here asks a model, so a hundred thousand texts are a matter of a minute on one core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mnemos.sources.words import words

SHINGLE = 5
"""Characters of a shingle; texts are compared by which shingles they hold."""

HASHES, BAND = 128, 4
"""Numbers of a signature, and how many of them must agree for two texts to be compared at all: two
texts with Jaccard similarity s are compared with probability 1 - (1 - s^4)^32, 0.9999 at s = 0.7."""

SEED = 20_240_113
"""Of the hash functions: the same texts are kept on every machine."""

DIMENSIONS = 64
"""Of an embedding."""

FEATURES = 2**16
"""Columns that words are hashed into before they are projected."""

Points = npt.NDArray[np.float64]


def repeated_4grams(text: str) -> float:
    """Share of 4-grams that repeat an earlier one: 1 - distinct / all (rep-4, arXiv:2401.03129).

    Words are those of `words.words`. NaN below four.
    """
    message = words(text)
    grams = list(zip(message, message[1:], message[2:], message[3:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else math.nan


def shingles(text: str) -> npt.NDArray[np.uint32]:
    """uint32[S], sorted, distinct: hashes of the text's 5-character pieces, after lower-casing and
    with white space run together; of the whole text where it is shorter."""
    plain = " ".join(text.lower().split())
    pieces = {plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1))}
    return np.array(sorted(crc32(piece.encode(errors="surrogatepass")) for piece in pieces), np.uint32)


def jaccard(one: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> float:
    """Shared shingles as a share of all shingles of both."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def distinct(texts: Sequence[str], similarity: float) -> list[int]:
    """Places of the texts that are no near-duplicate of an earlier kept one, in order.

    similarity: Jaccard similarity of 5-character shingles from which on two texts are
    near-duplicates, in (0, 1]; 1 takes out texts with the same shingles only. Candidates come from
    MinHash signatures cut into bands (Broder 1997), so of pairs just above a low similarity a few
    are missed (see `BAND`); every pair that is found is compared exactly.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=similarity, num_perm=HASHES, num_bands=HASHES // BAND)
    kept: list[int] = []
    sets: dict[int, npt.NDArray[np.uint32]] = {}
    signatures: dict[int, Any] = {}
    for place, text in enumerate(texts):
        here = shingles(text)
        signature = RMinHash(num_perm=HASHES, seed=SEED)
        signature.update([str(piece) for piece in here])
        # The share of agreeing hashes estimates the similarity with a standard error below 0.045: what lies far
        # below is not worth comparing exactly.
        near = [one for one in index.query(signature) if signature.jaccard(signatures[one]) > similarity - 0.2]
        if any(jaccard(here, sets[earlier]) >= similarity for earlier in near):
            continue
        index.insert(place, signature)
        sets[place], signatures[place] = here, signature
        kept.append(place)
    return kept


def embed(texts: Sequence[str], seed: int = 0) -> Points:
    """float64[N, D], rows of length 1 (0 for a text without words), D at most 64.

    Words and pairs of words hashed into 65,536 columns, weighted by tf-idf (with sublinear counts),
    projected by a truncated singular value decomposition (latent semantic analysis, Deerwester 1990).
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    counted = HashingVectorizer(
        n_features=FEATURES, analyzer=_features, alternate_sign=False, norm=None, dtype=np.float64
    ).transform(texts)
    weighed = TfidfTransformer(sublinear_tf=True).fit_transform(counted)
    dimensions = max(1, min(DIMENSIONS, len(texts) - 1))
    # One thread: sums in another order would turn a tie between two texts around.
    with threadpool_limits(1):
        # X ~ U S V^T, so U S are the rows of X along the D strongest directions: float64[N, D].
        left, singular, _ = randomized_svd(weighed, dimensions, n_iter=3, random_state=seed)
    return np.asarray(normalize(left * singular), np.float64)


def _features(text: str) -> list[str]:
    message = words(text.lower())
    return message + [f"{a} {b}" for a, b in pairwise(message)]


def representative(texts: Sequence[str], count: int, clusters: int = 20, seed: int = 0) -> list[int]:
    """Places of `count` texts that spread over all of them, in order; all where there are no more.

    The rule of Self-Synthesized Rehearsal (arXiv:2403.01244): k-means on embeddings of length 1,
    then from each cluster a number in proportion to its size, those nearest to its centroid.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if count >= len(texts):
        return list(range(len(texts)))
    points = embed(texts, seed)
    with threadpool_limits(1):
        # There cannot be more clusters than distinct points; nine digits take rounding for no difference.
        places = len(np.unique(points.round(9), axis=0))
        found: Any = KMeans(min(clusters, places), n_init=3, max_iter=100, random_state=seed)
        labels = found.fit_predict(points)
    return nearest(points, labels, found.cluster_centers_, count)


def nearest(points: Points, labels: npt.NDArray[np.int32], centres: Points, count: int) -> list[int]:
    """From each cluster its quota of the points nearest to its centre; places in order.

    points: float64[N, D]. labels: int[N], the cluster of each. centres: float64[K, D]. Equal
    distances are resolved in favour of the earlier point.
    """
    distances = np.linalg.norm(points - centres[labels], axis=1)
    quotas = apportioned(np.bincount(labels, minlength=len(centres)).tolist(), count)
    chosen: list[int] = []
    for cluster, quota in enumerate(quotas):
        members = np.flatnonzero(labels == cluster)
        order = np.argsort(distances[members], kind="stable")
        chosen += [int(place) for place in members[order[:quota]]]
    return sorted(chosen)


def apportioned(sizes: Sequence[int], count: int) -> list[int]:
    """Whole numbers that add up to `count`, in proportion to `sizes` (largest remainders; the
    earlier of equal ones), none above its size as long as count <= sum(sizes)."""
    total = sum(sizes)
    # Whole numbers throughout: the remainder of count * size / total is exact, so equal ones are seen as equal.
    quotas = [count * size // total for size in sizes]
    rest = sorted(range(len(sizes)), key=lambda i: (-(count * sizes[i] % total), i))
    for i in rest[: count - sum(quotas)]:
        quotas[i] += 1
    return quotas


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence of two sequences of words, a row of the table at a time as bits of one
    integer (Hyyrö 2004): texts of a hundred thousand words take a second."""
    # Bit i of places[word] is set where other[i] is the word. In `row` bit i is 0 where the table of the longest common
    # subsequence steps up at column i, so its length is the number of zeros: what `one` has so far in common with it.
    places: dict[str, int] = {}
    for i, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(other)) - 1
    row = full
    for word in one:
        met = row & places.get(word, 0)
        # The carry runs to the end of a block of ones and moves the step there down to the first match in the block,
        # for all blocks at once.
        row = ((row + met) | (row - met)) & full
    return len(other) - row.bit_count()
