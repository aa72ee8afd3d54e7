"""The novelty index's benchmark on a small pool: both results, and decisions that are those of the package."""

from __future__ import annotations

import pytest

from benchmarks import novelty_index as bench


def test_a_small_pool_gives_both_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rouge_score")
    monkeypatch.setattr(bench, "ROWS", 400)
    monkeypatch.setattr(bench, "QUERIES", 40)
    monkeypatch.setattr(bench, "COMPARED", 40)
    own, beside = bench.run()
    assert (own.name, beside.name) == ("novelty-index", "novelty-index-vs-rouge-score")
    assert own.details["rows"] == 400
    assert 0 < own.details["like one of the pool"] < 40, "some are like one, and some are not"
    assert beside.details["decisions compared"] == 40


def test_different_decisions_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROWS", 50)
    monkeypatch.setattr(bench, "QUERIES", 4)
    monkeypatch.setattr(bench, "all_compared", lambda pool, asked: ([1.0] * 4, [True, False, True, False]))
    monkeypatch.setattr(bench, "timed", lambda index, asked: ([1.0] * 4, [False] * 4))
    with pytest.raises(AssertionError, match="decisions differ"):
        list(bench.run())
