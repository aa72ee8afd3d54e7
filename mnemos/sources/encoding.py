"""Text as token ids with the characters that each stands for; parts of it without special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Span = tuple[int, int]
"""Characters [start, end) of a text."""

Encoded = tuple[list[int], list[Span]]
"""Token ids, and the span of each."""


class Encoder:
    """Encodes with one tokenizer, which must be a fast one."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str, plain: Sequence[Span] = ()) -> Encoded:
        """Ids and character spans; no special token is recognised within the spans `plain`."""
        if not plain:
            return self._piece(text, False)
        ids: list[int] = []
        spans: list[Span] = []
        for start, end, split in _pieces(plain, len(text)):
            piece_ids, piece_spans = self.inner(text[start:end], split) if start else self._piece(text[:end], split)
            ids += piece_ids
            spans += [(start + a, start + b) for a, b in piece_spans]
        return ids, spans

    def _piece(self, text: str, split: bool) -> Encoded:
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            split_special_tokens=split,
            verbose=False,
        )
        return list(encoded["input_ids"]), list(encoded["offset_mapping"])

    def inner(self, text: str, split: bool) -> Encoded:
        """Encode what stands in the middle of a text: some tokenizers put a space before a first word."""
        guard = self._piece("\n", split)[0]
        ids, spans = self._piece("\n" + text, split)
        if ids[: len(guard)] != guard or (text and spans[len(guard)][0] < 1):
            return self._piece(text, split)
        return ids[len(guard) :], [(a - 1, b - 1) for a, b in spans[len(guard) :]]


def _pieces(plain: Sequence[Span], length: int) -> list[tuple[int, int, bool]]:
    pieces, at = [], 0
    for start, end in sorted(plain):
        pieces += [(at, start, False), (start, end, True)]
        at = end
    pieces.append((at, length, False))
    return [piece for piece in pieces if piece[1] > piece[0]]


def borders(spans: Sequence[Span]) -> tuple[Any, Any]:
    """int64[T] starts and ends without gaps: a tokenizer may trim the spaces from a token's offsets,
    but they belong to it; tokens that share a character (bytes of one letter) share its span."""
    if not spans:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = np.maximum.accumulate(np.array([end for _, end in spans], np.int64))
    starts = np.array([start for start, _ in spans], np.int64)
    starts[0] = 0
    starts[1:] = np.minimum(starts[1:], ends[:-1])
    return np.minimum.accumulate(starts[::-1])[::-1], ends
