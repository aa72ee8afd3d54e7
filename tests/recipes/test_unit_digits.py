"""The study of digits as units is made of takes that do not overlap, and can be planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.recipes import unit_digits
from mnemos.sources.units import units_of
from mnemos.study.config import raw_study, resolved_study
from mnemos.study.run import plan_lines
from tests.tiny_speech import sound, tiny_whisper


def test_rows_units_and_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = {
        ("theo", digit, take): sound(0.3, 10 * digit + take, speaker="theo")
        for digit in (0, 7)
        for take in (0, 4, 5, 9)
    }
    monkeypatch.setattr(unit_digits, "read_digits", lambda folder: clips)
    monkeypatch.setattr(unit_digits, "CLUSTERS", 8)
    out = tmp_path / "out"
    place = unit_digits.make(tmp_path, str(tiny_whisper(tmp_path / "ears")), out, layer=1, takes=3)
    rows = {
        name: [json.loads(line) for line in (out / f"{name}-units.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    }
    # Takes 0 to 4 measure, and three from 5 on are learned.
    assert [row["completion"] for row in rows["train"]] == ["zero", "seven"]
    assert [row["completion"] for row in rows["test"]] == ["zero", "zero", "seven", "seven"]
    assert all(units_of(row["prompt"]) and row["speaker"] == "theo" for row in rows["train"] + rows["test"])
    study = resolved_study(*raw_study(str(place)))
    assert set(study.arms) == {"plain", "masked", "replay", "masked+replay"}
    assert Path(study.model).resolve() == (out / "extended").resolve()
    assert "mask_units" in "\n".join(plan_lines(str(place)))
