"""The reproduction of learning from synthetic speech: its parts share no recording, and its page holds its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.recipes.findings import load_findings
from mnemos.recipes.reproductions import synthetic_speech as of
from mnemos.recipes.reproductions.adaptation import DIGITS, SPEAKERS
from mnemos.sources.audio import Clip

ROOT = Path(__file__).parents[2]
KEPT = {name: ROOT / "docs" / "results" / f"spoken-{name}.json" for name in ("target", "choice", "words")}
KEPT["written"] = ROOT / "docs" / "results" / "written-speech.json"


@pytest.fixture(scope="module")
def recordings() -> dict[tuple[str, int, int], Any]:
    silent = np.zeros(10, np.float32)
    return {
        (speaker, digit, take): Clip(silent, 16000, id=f"{digit}_{speaker}_{take}", speaker=speaker)
        for speaker in SPEAKERS
        for digit in range(10)
        for take in range(50)
    }


def test_each_recording_measures_once_and_none_that_is_learned(recordings: dict[tuple[str, int, int], Any]) -> None:
    measured = of.cut(recordings, of.SOURCE, of.TEST, 5)
    parts = [part for clip, _, _ in measured for part in clip.id.split("+")]
    assert len(parts) == len(set(parts)) >= 5 * 10 * 4 - 4 * (of.WORDS - 1)
    for clip, text, speaker in measured:
        names = [part.split("_") for part in clip.id.split("+")]
        assert [DIGITS[int(digit)] for digit, _, _ in names] == text.split()
        assert {name for _, name, _ in names} == {speaker}
    taught = {part for clip, _, _ in of.learned(recordings, of.SOURCE, 0) for part in clip.id.split("+")}
    assert not taught & set(parts)
    assert {int(part.split("_")[0]) for part in taught} == set(of.SOURCE)


def test_texts_are_of_the_digits_asked_for() -> None:
    texts = of.drawn_texts(of.TARGET, 50, 3)
    assert {word for text in texts for word in text.split()} == {DIGITS[digit] for digit in of.TARGET}
    assert texts == of.drawn_texts(of.TARGET, 50, 3)
    mixed = of.drawn_texts(range(10), 50, 4, among=of.TARGET)
    assert all(set(text.split()) & {DIGITS[digit] for digit in of.TARGET} for text in mixed)


def test_the_table_turns_contrasts_towards_plain() -> None:
    row = {"suite": "s", "low": None, "high": None}
    results = {
        "before": {"s": {"mean": 1.0, "low": 0.9, "high": 1.1}},
        "comparisons": [{**row, "arm": "plain", "after": 0.5}, {**row, "arm": "scale-1", "after": 0.4}],
        # A pair's difference is its first arm less its second; whichever plain is, the table has the arm less plain.
        "contrasts": {"arms": ["plain", "scale-1"], "suites": {"s": [[0, 1, 0.1, 0.05, 0.2]]}},
    }
    table = of.page_table(results, "s")
    other = {**results, "contrasts": {"arms": ["plain", "scale-1"], "suites": {"s": [[1, 0, -0.1, -0.2, -0.05]]}}}
    assert of.page_table(other, "s") == table
    assert "| 40.0<br>-10.0 [-20.0, -5.0] |" in table


def test_the_scale_that_errs_least_is_chosen() -> None:
    rates = {"plain": 0.2, "scale-0.2": 0.4, "scale-0.5": 0.3, "scale-1": 0.3}
    rows = [{"arm": arm, "after": rate} for arm, rate in rates.items()]
    assert of.chosen_scale({"comparisons": rows}) == "scale-0.5"


@pytest.mark.skipif(not KEPT["choice"].is_file(), reason="no choice is kept")
def test_findings_name_the_scale_that_was_chosen_on_the_source() -> None:
    chosen = of.chosen_scale(json.loads(KEPT["choice"].read_text(encoding="utf-8")))
    found = next(one for one in load_findings() if one.id == "synthetic-to-real-vector-beats-synthetic-speech")
    assert {test.arm for test in found.tests} == {chosen}


@pytest.mark.parametrize(
    ("study", "suite"),
    [
        ("target", "target-test"),
        ("words", "new-words"),
        ("words", "known-words"),
        ("written", "target"),
        ("written", "other"),
        ("written", "people"),
    ],
)
def test_the_page_has_the_tables_of_the_kept_results(study: str, suite: str) -> None:
    results = json.loads(KEPT[study].read_text(encoding="utf-8"))
    assert of.page_table(results, suite) in (ROOT / "docs" / "speech.md").read_text(encoding="utf-8")
