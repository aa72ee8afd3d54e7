"""From rendered rows to tensors: what fits, what is packed together, what is padded."""

from __future__ import annotations

import bisect
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens

if TYPE_CHECKING:
    import torch


PADDING = -1
"""The document number of padding."""


def fit(rows: Sequence[Tokens], max_length: int, truncate: bool) -> tuple[list[Tokens], Counter[str]]:
    """Rows of at most `max_length` tokens, in order, and how many were cut or left out, by reason.

    A longer row is left out, or with `truncate` cut at its end: its end-of-turn token is lost then,
    and of a long prompt perhaps the whole answer.
    """
    kept: list[Tokens] = []
    counts: Counter[str] = Counter()
    for row in rows:
        if len(row) <= max_length:
            kept.append(row)
        elif truncate:
            cut = slice(0, max_length)
            kept.append(Tokens(row.ids[cut], row.weight[cut], row.output[cut], row.example, row.origin))
            counts[f"cut to {max_length} tokens"] += 1
        else:
            counts[f"left out: longer than {max_length} tokens"] += 1
    return kept, counts


def chunks(row: Tokens, max_length: int, bos: int | None) -> list[Tokens]:
    """A document in consecutive pieces of at most `max_length` tokens; every token is learned once.

    bos: where the document begins with it, every piece does, as every document that the model
    reads; otherwise a piece begins with the last token of the one before, which is learned there. A
    first token's weight is never used. A piece's example is ``id#2``, ``id#3``, …
    Raises ValueError for max_length below 2, which leaves no room to learn.
    """
    if max_length < 2:
        raise ValueError(f"max_length {max_length} must be at least 2")
    if len(row) <= max_length:
        return [row]
    starts_with_bos = bos is not None and int(row.ids[0]) == bos
    out = [Tokens(row.ids[:max_length], row.weight[:max_length], row.output[:max_length], row.example, row.origin)]
    # One place less than max_length: each later piece begins with a token that is there to be read, not learned.
    for at in range(max_length, len(row), max_length - 1):
        own = np.arange(at, min(at + max_length - 1, len(row)))
        first = 0 if starts_with_bos else at - 1
        taken = np.concatenate([[first], own])
        weight = row.weight[taken].copy()
        # That token was learned in the piece before (or is the BOS): once more would count it twice.
        weight[0] = 0.0
        name = f"{row.example}#{len(out) + 1}"
        out.append(Tokens(row.ids[taken], weight, row.output[taken], name, row.origin))
    return out


def pack(rows: Sequence[Tokens], max_length: int) -> list[list[Tokens]]:
    """Put rows together into groups of at most `max_length` tokens, few groups, none cut.

    Best-fit decreasing: the longest row first, each into the fullest group that still has room
    (at most 11/9 of the fewest groups, plus one). Deterministic; equal lengths keep their order.
    Raises DataError for a row longer than max_length (call `fit` first).
    """
    groups: list[list[Tokens]] = []
    # (free tokens, group), sorted: the first entry with enough room is the fullest group that fits.
    room: list[tuple[int, int]] = []
    for row in sorted(rows, key=len, reverse=True):
        refuse_longer(row, max_length)
        # -1 stands before every group, so a group with exactly this much room is found too.
        at = bisect.bisect_left(room, (len(row), -1))
        if at < len(room):
            free, group = room.pop(at)
        else:
            free, group = max_length, len(groups)
            groups.append([])
        groups[group].append(row)
        bisect.insort(room, (free - len(row), group))
    return groups


def pack_in_turn(rows: Sequence[Tokens], max_length: int) -> list[list[Tokens]]:
    """Groups of at most `max_length` tokens in the order in which the rows stand; a row that does not fit begins the
    next group. At most twice the groups that `pack` makes. Raises DataError as `pack`."""
    groups: list[list[Tokens]] = []
    free = 0
    for row in rows:
        refuse_longer(row, max_length)
        if len(row) > free:
            groups.append([])
            free = max_length
        groups[-1].append(row)
        free -= len(row)
    return groups


def refuse_longer(row: Tokens, max_length: int) -> None:
    """Raise DataError for a row that no group can hold."""
    if len(row) > max_length:
        raise DataError(
            f"example {row.example!r}: {len(row):,} tokens",
            f"is longer than a packed row, {max_length:,}",
            "raise max_length or set truncate: true",
        )


def bucketed(lengths: Sequence[int], batch_size: int, seed: int, *, spread: int = 50) -> list[list[int]]:
    """Indices in batches of similar lengths, so that little is padding; every index exactly once.

    Rows are shuffled, sorted by length within chunks of `spread` batches, cut into batches, and
    the batches shuffled: which rows meet and when still depends on `seed` alone.
    """
    # A text as the seed: another use of the same number draws from another stream.
    rng = random.Random(f"bucketed {seed}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    chunk = batch_size * spread
    for at in range(0, len(order), chunk):
        # Sorted within chunks only: over all rows each batch would always be of the same neighbours in length.
        near = sorted(order[at : at + chunk], key=lambda i: lengths[i], reverse=True)
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    rng.shuffle(batches)
    return batches


def collate(rows: Sequence[Sequence[Tokens]], pad_id: int, *, pad_to_multiple_of: int = 1) -> dict[str, torch.Tensor]:
    """One padded batch; each row is a list of documents that stand after one another.

    Returns tensors [B, T]: input_ids (int64); position_ids (int64, from 0 in every document and in
    the padding); document (int64, 0, 1, … within a row, -1 on padding: attention stays where
    numbers are equal); weight (float32, 0 on padding and on each document's first token, which
    would otherwise be learned from the document before it).
    """
    import torch

    longest = max(sum(len(document) for document in row) for row in rows)
    width = -(-longest // pad_to_multiple_of) * pad_to_multiple_of
    shape = (len(rows), width)
    # All [B, T].
    ids = np.full(shape, pad_id, np.int64)
    positions = np.zeros(shape, np.int64)
    documents = np.full(shape, PADDING, np.int64)
    weight = np.zeros(shape, np.float32)
    for r, row in enumerate(rows):
        at = 0
        for number, document in enumerate(row):
            here = slice(at, at + len(document))
            ids[r, here] = document.ids
            positions[r, here] = np.arange(len(document))
            documents[r, here] = number
            weight[r, here] = document.weight
            # A slice, so that an empty document at the very end is no index beyond the row.
            weight[r, at : at + 1] = 0.0
            at += len(document)
        positions[r, at:] = np.arange(width - at)
    return {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "weight": torch.from_numpy(weight),
        "document": torch.from_numpy(documents),
    }
