"""From rendered examples to rows that fit: cutting, packing, bucketing by length, collating."""

from __future__ import annotations

import bisect
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Tokens

if TYPE_CHECKING:
    import torch

PADDING = -1
"""The document number of padding."""


def fit(rows: Sequence[Tokens], max_length: int, truncate: bool) -> tuple[list[Tokens], Counter[str]]:
    """Keep rows of at most `max_length` tokens; cut longer ones at the end if `truncate`.

    Returns the rows and how many were cut or left out, by reason: nothing is dropped silently.
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


def pack(rows: Sequence[Tokens], max_length: int) -> list[list[Tokens]]:
    """Join examples into rows of at most `max_length` tokens by best-fit decreasing.

    Each example goes whole into the fullest row that still has room. Deterministic; every example
    is in exactly one row. Raises UsageError for an example that fits nowhere (call `fit` first).
    """
    packed: list[list[Tokens]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row number), sorted
    for number in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        row = rows[number]
        if len(row) > max_length:
            raise UsageError(f"{row.example}: {len(row)} tokens", f"cannot be packed into {max_length}", "raise max_length")
        place = bisect.bisect_left(room, (len(row), -1))
        if place == len(room):
            packed.append([row])
            free, target = max_length - len(row), len(packed) - 1
        else:
            free, target = room.pop(place)
            packed[target].append(row)
            free -= len(row)
        bisect.insort(room, (free, target))
    return packed


def bucketed(rows: Sequence[Tokens], batch_size: int, seed: int) -> Iterator[list[Tokens]]:
    """Batches of rows of similar length, in shuffled order; every row exactly once.

    Rows are shuffled, sorted by length within windows of 50 batches, cut into batches, and the
    batches shuffled: little padding, and still a different order for each seed.
    """
    drawing = random.Random(seed)
    order = list(range(len(rows)))
    drawing.shuffle(order)
    window = 50 * batch_size
    batches: list[list[Tokens]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda i: len(rows[i]))
        batches += [[rows[i] for i in part[at : at + batch_size]] for at in range(0, len(part), batch_size)]
    drawing.shuffle(batches)
    return iter(batches)


def collate(rows: Sequence[Sequence[Tokens]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad packed rows to one batch.

    rows: B rows of one or several examples. Returns input_ids, position_ids, document: int64[B, T]
    and weight: float32[B, T]. Positions restart at 0 in each example; document numbers the examples
    of a row from 0 and is -1 on padding, so that attention can stay within a document; padding has
    weight 0 and position 0.
    """
    import torch

    length = max(sum(len(tokens) for tokens in row) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    documents = torch.full(shape, PADDING, dtype=torch.int64)
    weight = torch.zeros(shape, dtype=torch.float32)
    for number, row in enumerate(rows):
        start = 0
        for document, tokens in enumerate(row):
            here = slice(start, start + len(tokens))
            ids[number, here] = torch.from_numpy(tokens.ids).long()
            positions[number, here] = torch.arange(len(tokens))
            documents[number, here] = document
            weight[number, here] = torch.from_numpy(tokens.weight)
            start += len(tokens)
    return {"input_ids": ids, "position_ids": positions, "document": documents, "weight": weight}
