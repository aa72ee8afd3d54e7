"""Orders of a stream: permutations by seed, and what is left out of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DUPLICATE = 0.95
"""Cosine above which an item counts as a duplicate of an earlier one."""


def permutation(ids: Sequence[str], seed: int) -> list[str]:
    """The ids in an order drawn by the seed alone: not by how they were listed, so that a file sorted anew streams the
    same."""
    known = sorted(ids)
    return [known[place] for place in np.random.default_rng([seed, len(known)]).permutation(len(known))]


def without_duplicates(
    order: Sequence[str], vectors: dict[str, npt.NDArray[np.float32]], bound: float = DUPLICATE
) -> list[str]:
    """The order without items whose nearest earlier kept neighbour is nearer than `bound`; vectors: unit ones by id.

    A stream of near duplicates rewards looking up; what is gained without them is not that.
    """
    kept: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    for name in order:
        if rows and float((np.stack(rows) @ vectors[name]).max()) > bound:
            continue
        kept.append(name)
        rows.append(vectors[name])
    return kept


def same_words(order: Sequence[str], keys: dict[str, str]) -> list[str]:
    """The order without items that have the same words as an earlier one: for streams without an encoder."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for name in order:
        words = tuple(sorted(set(keys[name].lower().split())))
        if words not in seen:
            seen.add(words)
            kept.append(name)
    return kept
