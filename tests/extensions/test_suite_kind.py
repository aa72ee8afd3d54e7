"""A kind of suite is one row with its settings and its scorer: nothing else in the house is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure
from mnemos.measure.compare import comparisons
from mnemos.measure.items import Item
from mnemos.measure.kinds import KINDS, Kind, each
from mnemos.measure.settings import GenerateSettings
from mnemos.measure.suite import load_suites
from mnemos.measure.suite_schema import schema
from tests.measure.fakes import FakeModel


class BriefSettings(GenerateSettings):
    """brief: is the answer short?"""

    words: int = Field(3, ge=1)
    """Words that are still short."""


def short(settings: BriefSettings, item: Item, answer: Answer) -> tuple[float, str | None]:
    return float(len((answer.text or "").split()) <= settings.words), None


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "brief", Kind(BriefSettings, "generate", each(short), "be brief", needs=("prompt",)))


def load(**settings: Any) -> Sequence[Any]:
    items = [{"prompt": f"q{n}"} for n in range(12)]
    return load_suites([{"name": "s", "kind": "brief", "items": items, **settings}], Path("."))


def test_a_kind_from_outside_is_asked_scored_and_compared(brief: None) -> None:
    suites = load(words=2)
    before = measure(FakeModel(lambda prompt: "one two"), suites)
    after = measure(FakeModel(lambda prompt: "one two three"), suites)
    assert [one.value for one in before["s"].scores] == [1.0] * 12
    (row,) = comparisons(
        suites, {"s": before["s"].scores}, {0: {"s": after["s"].scores}}, arm="plain", roles={"s": "old"}
    )
    assert (row.verdict, row.delta) == ("lost", -1.0)
    assert "brief" in str(schema())
    assert "Words that are still short." in str(schema())


def test_its_settings_are_checked_like_those_of_any_kind(brief: None) -> None:
    with pytest.raises(UsageError, match="words = 0"):
        load(words=0)
    with pytest.raises(UsageError, match="did you mean 'words'"):
        load(wrods=1)
