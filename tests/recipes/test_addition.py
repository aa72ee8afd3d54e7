"""Addition by size: sums are told apart, answers are scored digit by digit, a small walk ends in a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt
from mnemos.recipes import addition


def test_sums_are_asked_that_are_not_learned() -> None:
    learned, asked = addition.split()
    assert len(learned) + len(asked) == 10_000
    assert not set(learned) & set(asked)
    assert addition.split() == (learned, asked)
    for row in addition.rows(learned[:50]):
        first, second = map(int, row.id.split("+"))
        assert int(row.turns[1].text[::-1]) == first + second
    assert addition.answer(57, 68) == "521"


class Carries:
    """Adds digit by digit and forgets what to carry."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        return [Generation("".join(self._digit(p.turns[0].text, n) for n in range(3)), (), True) for p in prompts]

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        out = []
        for context, [digit] in zip(contexts, options, strict=True):
            asked, _, before = context.turns[0].text.partition("=")
            right = self._digit(asked, len(before)) == digit
            out.append([OptionScore(-0.1 if right else -3.0, 1, right)])
        return out

    @staticmethod
    def _digit(asked: str, place: int) -> str:
        first, second = asked.removesuffix("=").split("+")
        return str((int(first[1 - place]) + int(second[1 - place])) % 10) if place < 2 else "0"


def test_each_digit_is_scored_behind_the_right_ones() -> None:
    model: Any = Carries()
    plain, carried = addition.outputs(model, 10, [(12, 34), (57, 68)])
    assert (plain["answer"], plain["output"], plain["token_right"]) == ("640", "640", [True, True, True])
    assert (carried["answer"], carried["output"], carried["token_right"]) == ("521", "510", [True, False, False])
    assert carried["token_logprobs"] == [-0.1, -3.0, -3.0]


def test_a_small_walk_ends_in_a_verdict_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, asked = addition.split()
    monkeypatch.setattr(addition, "split", lambda: (learned[:100], asked[:30]))
    settings = addition.TRAIN.model_copy(update={"max_steps": 2, "per_device_train_batch_size": 8})
    found = addition.run(tmp_path, (8, 16), (0,), settings)
    assert found["verdict"].startswith("CANNOT TELL: 2 sizes")
    assert [curve["name"] for curve in found["curves"]] == [
        "exact_match", "edit_similarity", "token_accuracy", "log_probability"
    ]  # fmt: skip
    monkeypatch.setattr("mnemos.train.likelihood.train", lambda *given, **more: pytest.fail("trained again"))
    assert addition.run(tmp_path, (8, 16), (0,), settings) == found
