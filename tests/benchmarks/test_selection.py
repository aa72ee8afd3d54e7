"""The benchmarks of selection and of probing, on a few rows."""

from __future__ import annotations

import pytest

from benchmarks import know_prefix, selection


def test_every_rule_chooses_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [part(200)["kept"] for part in (selection.longest, selection.k_center, selection.unlike)] == [20, 20, 20]
    monkeypatch.setattr(
        selection, "_alone", lambda part: {"seconds": 9.0, "processor_seconds": 3.0, "gigabytes": 0.5, "kept": 20}
    )
    seconds, memory = selection.run()
    assert (seconds.name, seconds.peer, memory.name, memory.peer) == ("selection-seconds", 120, "selection-memory", 1)
    assert (seconds.ours, memory.ours) == (3.0, 0.5)


def test_both_sides_answer_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FACTS", 6), ("PROMPTS", 2), ("SAMPLES", 2), ("NEW_TOKENS", 3), ("APART", 2), ("PADDED", 4)):
        monkeypatch.setattr(know_prefix, name, value)
    monkeypatch.setattr(know_prefix, "SHAPE", {**know_prefix.SHAPE, "hidden_size": 32, "num_hidden_layers": 1})
    apart, batched = know_prefix.run(1)
    assert (apart.name, batched.name) == ("know-prefix", "know-prefix-batched")
    assert apart.details["answers"] == 6 * 2 * 3
    assert apart.details["tokens of a prompt"] > 20
    assert apart.ours > 0 < batched.peer
