"""Mixes of stored refusals and text, and the loss of a part of the rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Tokens
from mnemos.methods.examples.rehearsal import LossBeside, pretraining_mix, safety_mix
from mnemos.methods.examples.replay import replay
from mnemos.sources.mix import Mixture
from tests.laws import Handle, base_plan, data_file, rows

PLAN = base_plan(examples=rows("new", 97))


def test_three_percent_of_refusals() -> None:
    plan = safety_mix(PLAN, data=data_file("messages"))
    assert Counter(row.origin for row in plan.examples) == {"new": 97, "replay": 3}


def test_a_safety_mix_is_a_replay_of_that_file() -> None:
    data = data_file("messages")
    settings = {"data": data, "share_of_final": 0.1, "seed": 4, "repeat": True}
    assert safety_mix(PLAN, **settings).fingerprint == replay(PLAN, **settings).fingerprint


def test_too_few_refusals() -> None:
    with pytest.raises(DataError, match="97 old rows are needed"):
        list(safety_mix(PLAN, data=data_file("messages"), share_of_final=0.5).examples)


def test_data_is_required() -> None:
    with pytest.raises(UsageError, match=r"safety_mix\.data = missing"):
        safety_mix(PLAN)


def test_text_is_learned_whole_and_told_apart() -> None:
    plan = pretraining_mix(PLAN, data=data_file("text"), share_of_final=0.03)
    assert isinstance(plan.examples, Mixture)
    old = [row for row in plan.examples if row.origin == "pretraining"]
    assert [row.kind for row in old] == ["text"] * 3
    assert all(row.id.startswith("pretraining/") for row in old)
    assert plan.weigh == PLAN.weigh
    weighed = pretraining_mix(PLAN, data=data_file("text"), coefficient=27.8)
    assert weighed.weigh == (LossBeside(("pretraining",), 27.8),)


def test_chats_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    with pytest.raises(DataError, match="text"):
        list(pretraining_mix(PLAN, data=str(path), share_of_final=0.01).examples)


def tokens(length: int, origin: str, rng: np.random.Generator) -> Tokens:
    weight = rng.normal(size=length).astype(np.float32)
    output = np.arange(length) >= length // 3
    return Tokens(np.zeros(length, np.int32), weight, output, f"{rng.integers(1 << 30)}", origin)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 30), st.integers(0, 2**16))
def test_the_loss_is_the_sum_of_two_means(main: int, beside: int, coefficient: float, seed: int) -> None:
    """With weights in [0, 1] and any losses per token: what the trainer minimises, sum(weight * nll)
    / sum(weight), is (mean + coefficient * mean) / (1 + coefficient)."""
    rng = np.random.default_rng(seed)
    given = [tokens(int(rng.integers(3, 9)), origin, rng) for origin in ["new"] * main + ["ptx"] * beside]
    given = [Tokens(row.ids, np.abs(row.weight), row.output, row.example, row.origin) for row in given]
    out = LossBeside(("ptx",), coefficient)(given, Handle("before"))
    nll = [rng.random(len(row)) for row in given]

    def mean(part: str) -> float:
        rows = [(row, loss) for row, loss in zip(given, nll, strict=True) if row.origin == part]
        kept = [(row.weight * (row.output if part == "ptx" else 1), loss) for row, loss in rows]
        total = sum(float((weight[1:] * loss[1:]).sum()) for weight, loss in kept)
        return total / sum(float(weight[1:].sum()) for weight, _ in kept)

    summed = sum(float((row.weight[1:] * loss[1:]).sum()) for row, loss in zip(out, nll, strict=True))
    minimised = summed / sum(float(row.weight[1:].sum()) for row in out)
    expected = (mean("new") + coefficient * mean("ptx")) / (1 + coefficient)
    assert minimised == pytest.approx(expected, rel=1e-5)


def test_one_kind_alone_keeps_its_weights() -> None:
    rng = np.random.default_rng(0)
    given = [tokens(9, "new", rng), tokens(5, "new", rng)]
    out = LossBeside(("ptx",), 3.0)(given, Handle("before"))
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(given, out, strict=True))
    alone = LossBeside(("new",), 3.0)(given, Handle("before"))
    assert all(np.array_equal(np.where(a.output, a.weight, 0), b.weight) for a, b in zip(given, alone, strict=True))
