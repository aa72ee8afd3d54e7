"""Cutting, packing, bucketing, collating."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens
from mnemos.sources.batches import PADDING, bucketed, chunks, collate, fit, pack


def row(length: int, name: str = "a", first: float = 0.0) -> Tokens:
    ids = np.arange(1, length + 1, dtype=np.int32)
    weight = np.linspace(0.5, 1.0, length, dtype=np.float32)
    weight[:1] = first
    return Tokens(ids, weight, np.ones(length, np.bool_), name)


LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=60)


def test_fit_counts_what_it_leaves_out_or_cuts() -> None:
    rows = [row(3), row(5), row(9), row(4)]
    kept, counts = fit(rows, 4, truncate=False)
    assert ([len(r) for r in kept], counts) == ([3, 4], {"left out: longer than 4 tokens": 2})
    kept, counts = fit(rows, 4, truncate=True)
    assert ([len(r) for r in kept], counts) == ([3, 4, 4, 4], {"cut to 4 tokens": 2})
    assert kept[2].ids.tolist() == [1, 2, 3, 4]
    assert kept[2].weight.tolist() == rows[2].weight[:4].tolist()
    assert fit(rows, 9, truncate=True) == (rows, {})


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_packing_loses_nothing_and_leaves_no_two_rows_that_fit_into_one(lengths: list[int]) -> None:
    rows = [row(length, str(i)) for i, length in enumerate(lengths)]
    packed = pack(rows, 16)
    assert sorted(int(r.example) for group in packed for r in group) == list(range(len(rows)))
    assert all(sum(map(len, group)) <= 16 for group in packed)
    # Two rows that would fit into one are never both there.
    used = sorted(sum(map(len, group)) for group in packed)
    assert len(used) < 2 or used[0] + used[1] > 16
    assert [[r.example for r in group] for group in pack(rows, 16)] == [[r.example for r in g] for g in packed]


def _fewest(lengths: list[int], room: int) -> int:
    """The fewest rows there can be, by trying everything."""

    def place(at: int, free: tuple[int, ...]) -> int:
        if at == len(lengths):
            return len(free)
        best = place(at + 1, (*free, room - lengths[at]))
        for i, left in enumerate(free):
            if left >= lengths[at]:
                best = min(best, place(at + 1, (*free[:i], left - lengths[at], *free[i + 1 :])))
        return best

    return place(0, ())


@settings(deadline=None, max_examples=50)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=6))
def test_packing_keeps_the_bound_of_best_fit_decreasing(lengths: list[int]) -> None:
    packed = pack([row(length) for length in lengths], 16)
    assert len(packed) <= 11 / 9 * _fewest(lengths, 16) + 6 / 9


def test_packing_takes_the_fullest_row_that_has_room() -> None:
    packed = pack([row(length) for length in (6, 5, 4, 3, 2)], 10)
    assert [[len(r) for r in group] for group in packed] == [[6, 4], [5, 3, 2]]


def test_packing_refuses_what_fits_nowhere() -> None:
    with pytest.raises(DataError, match="example 'long': 11 tokens"):
        pack([row(11, "long")], 10)


@settings(deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 7), seed=st.integers(0, 5))
def test_bucketing_gives_every_index_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = bucketed(lengths, batch_size, seed)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert batches == bucketed(lengths, batch_size, seed)


def test_bucketing_saves_padding_and_differs_by_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000).tolist()
    batches = bucketed(lengths, 8, 0)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    assert batches != bucketed(lengths, 8, 1)
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest != sorted(longest, reverse=True)


def test_collate_restarts_positions_and_never_learns_across_documents() -> None:
    batch = collate([[row(3), row(2, first=1.0)], [row(4, first=1.0)]], pad_id=99, pad_to_multiple_of=4)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 1, 2, 99, 99, 99], [1, 2, 3, 4, 99, 99, 99, 99]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2, 3]]
    assert batch["document"].tolist() == [[0, 0, 0, 1, 1, -1, -1, -1], [0, 0, 0, 0, -1, -1, -1, -1]]
    wanted = [[0, 0.75, 1, 0, 1, 0, 0, 0], [0, 4 / 6, 5 / 6, 1, 0, 0, 0, 0]]
    np.testing.assert_allclose(batch["weight"].numpy(), wanted, rtol=1e-6)
    assert PADDING == -1
    assert collate([[row(3)]], pad_id=0)["input_ids"].shape == (1, 3)


def test_a_packed_row_gives_each_document_its_own_logits() -> None:
    import torch

    from tests.tiny import tiny_model, tiny_tokenizer

    model = tiny_model(tiny_tokenizer())
    documents = [row(7), row(5), row(9)]
    batch = collate([documents], pad_id=0, pad_to_multiple_of=8)
    same = batch["document"][:, None, :, None] == batch["document"][:, None, None, :]
    causal = torch.ones(same.shape[-2:], dtype=torch.bool).tril()
    with torch.no_grad():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], attention_mask=same & causal
        ).logits
        at = 0
        for document in documents:
            alone = model(input_ids=torch.from_numpy(document.ids).long()[None]).logits
            torch.testing.assert_close(packed[:, at : at + len(document)], alone, rtol=1e-4, atol=1e-5)
            at += len(document)


@given(st.integers(2, 40), st.integers(2, 12), st.booleans())
def test_chunks_learn_every_token_once_behind_what_it_may_see(length: int, limit: int, bos: bool) -> None:
    ids = np.arange(100, 100 + length, dtype=np.int32)
    weight = np.linspace(0.5, 1, length, dtype=np.float32)
    weight[0] = 0
    row = Tokens(ids, weight, np.ones(length, np.bool_), "doc", "old")
    pieces = chunks(row, limit, 100 if bos else 1)
    assert all(2 <= len(piece) <= limit for piece in pieces)
    assert all(piece.origin == "old" for piece in pieces)
    assert len({piece.example for piece in pieces}) == len(pieces)
    learned = [(int(i), float(w)) for piece in pieces for i, w in zip(piece.ids[1:], piece.weight[1:], strict=True)]
    assert learned == [(int(i), float(w)) for i, w in zip(ids[1:], weight[1:], strict=True)]
    firsts = [int(piece.ids[0]) for piece in pieces]
    assert all(float(piece.weight[0]) == 0 for piece in pieces)
    expected = [100] * len(pieces) if bos else [int(piece.ids[1]) - 1 for piece in pieces]
    assert firsts == expected


def test_a_short_document_is_one_chunk() -> None:
    row = Tokens(np.arange(3, dtype=np.int32), np.ones(3, np.float32), np.ones(3, np.bool_), "doc")
    assert chunks(row, 3, None) == [row]
    with pytest.raises(ValueError, match="at least 2"):
        chunks(row, 1, None)
