"""Rows that ask something about a sound: columns audio, question and answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.nouns import AudioPart, TextPart
from mnemos.sources.bad_row import RowError
from mnemos.sources.read import read


def source(folder: Path, **row: Any) -> Any:
    (folder / "rows.jsonl").write_text(json.dumps({"audio": "a.wav", "question": "Who?", "answer": "Ada.", **row}))
    return read(str(folder / "rows.jsonl"))


def test_a_row_is_a_sound_and_a_question_in_one_turn_and_its_answer(tmp_path: Path) -> None:
    made = source(tmp_path, start=0.5, end=2, system="Listen.", text="one two", speaker="ada")
    assert made.format == "audio_question"
    [row] = made
    system, asked, answer = row.turns
    assert (system.role, system.content) == ("system", "Listen.")
    assert asked.content == (AudioPart(str(tmp_path / "a.wav"), 0.5, 2.0), TextPart("\nWho?"))
    assert (answer.role, answer.content) == ("assistant", "Ada.")
    assert row.meta == {"text": "one two", "speaker": "ada"}


def test_a_transcript_beside_a_question_is_not_what_is_learned(tmp_path: Path) -> None:
    [row] = source(tmp_path, transcript="one two")
    assert row.turns[-1].text == "Ada."
    assert row.meta == {"transcript": "one two"}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("question", " ", "empty question"), ("answer", "", "empty answer"), ("end", "soon", "wrong stretch"),
     ("system", 3, "wrong type"), ("audio", 7, "wrong type")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_reason(tmp_path: Path, column: str, value: Any, reason: str) -> None:
    with pytest.raises(RowError) as found:
        list(source(tmp_path, **{column: value}))
    assert found.value.reason == reason


def test_another_sound_is_another_source(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"one")
    first = source(tmp_path).fingerprint
    (tmp_path / "a.wav").write_bytes(b"two")
    assert source(tmp_path).fingerprint != first
