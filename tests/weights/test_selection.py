"""Selection without holding everything, against sorting everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.weights import selection
from mnemos.weights.selection import blocks, largest


def held(*rows: np.ndarray) -> Any:
    return lambda start, stop: [row[start:stop].copy() for row in rows]


def sorted_(row: np.ndarray, rank: int) -> float:
    return float(np.sort(row)[::-1][min(rank, len(row)) - 1]) if rank else float("inf")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 2.0**20, width=32), min_size=1, max_size=60), st.integers(0, 70), st.integers(1, 64))
def test_counting_finds_what_sorting_finds(values: list[float], rank: int, block: int) -> None:
    row = np.array(values, dtype=np.float32)
    assert largest(held(row), 1, [rank], len(row), 1, block) == [[sorted_(row, rank)]]


KINDS = {
    "normal": lambda draw, n: draw.standard_normal(n),
    "heavy": lambda draw, n: draw.standard_cauchy(n),
    "few values": lambda draw, n: draw.integers(0, 4, n),
    "rising": lambda draw, n: np.arange(n),
    "zeros": lambda draw, n: np.zeros(n),
    "one side": lambda draw, n: np.where(np.arange(n) % 4096 < 100, 5.0, draw.random(n)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the sample is like, the value is that of sorting; a bad sample falls back to counting."""
    monkeypatch.setattr(selection, "SAMPLE", 1 << 10)
    draw = np.random.default_rng(1)
    rows = [np.abs(KINDS[kind](draw, 60_000)).astype(np.float32) for _ in range(2)]
    ranks = [0, 1, 7, 600, 12_000, 59_999, 60_000, 70_000]
    found = largest(held(*rows), 2, ranks, 60_000, 100, 5_000)
    assert found == [[sorted_(row, rank) for row in rows] for rank in ranks]


def test_a_like_sample_needs_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "SAMPLE", 1 << 10)
    row = np.abs(np.random.default_rng(2).standard_normal(60_000)).astype(np.float32)
    asked = []

    def sizes(start: int, stop: int) -> list[np.ndarray]:
        asked.append(stop - start)
        return [row[start:stop].copy()]

    assert largest(sizes, 1, [12_000], 60_000, 1, 5_000) == [[sorted_(row, 12_000)]]
    assert 60_000 <= sum(asked) <= 60_000 + 1100


def test_blocks_are_whole_rows() -> None:
    assert list(blocks(10, 3, 7)) == [(0, 6), (6, 10)]
    assert list(blocks(6, 3, 1)) == [(0, 3), (3, 6)]
    assert list(blocks(0, 3, 1)) == []
