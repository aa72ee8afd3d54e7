"""The benchmark of batched generation, on a few prompts."""

from __future__ import annotations

import pytest

from benchmarks import rehearsal_generation as bench


def test_a_few_prompts_are_answered_alike_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PROMPTS", 12)
    monkeypatch.setattr(bench, "NEW_TOKENS", 12)
    monkeypatch.setattr(bench, "REPETITIONS", 1)
    (result,) = bench.run()
    assert (result.name, result.unit, result.bound) == ("rehearsal-generation", "answers/s", 5.0)
    assert result.details["prompts"] == 12
    assert 0 < result.details["tokens written"] <= 12 * 12
    assert result.ours > 0
    assert result.peer > 0


def test_a_difference_is_not_passed_over() -> None:
    bench.agree(["a", "b"], ["a", "b"])
    with pytest.raises(RuntimeError, match="1 of 2 answers differ, first 1: 'b' against 'c'"):
        bench.agree(["a", "b"], ["a", "c"])
