"""The study of noisy digits is made of rows as they lie there, noise in the target's alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError
from mnemos.recipes import noisy_digits
from mnemos.sources import audio
from mnemos.sources.read import read
from mnemos.study.config import raw_study, resolved_study
from tests.tiny_speech import sound


def prepared(folder: Path, rows: int) -> Path:
    (folder / "noise").mkdir(parents=True)
    (folder.parent / noisy_digits.MODEL).mkdir(parents=True)
    audio.write(sound(0.5, 99), folder / noisy_digits.NOISE)
    for name in ("train", "stream"):
        lines = []
        for number in range(rows):
            audio.write(sound(0.2, number), folder / f"{name}-{number}.wav")
            lines.append(json.dumps({"audio": f"{name}-{number}.wav", "text": f"one {number}", "speaker": "x"}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def test_rows_and_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count in (("TARGET", 2), ("SOURCE", 1), ("TESTED", 2)):
        monkeypatch.setattr(noisy_digits, name, count)
    data = prepared(tmp_path / "data", 3)
    noisy_digits.main([str(data), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "study.yaml")
    study = resolved_study(*raw_study(str(tmp_path / "out" / "study.yaml")))
    assert set(study.arms) == {"plain", "replay", "ewc", "halfway"}
    assert Path(study.model).resolve() == (data.parent / noisy_digits.MODEL).resolve()

    def heard(name: str) -> list[audio.Clip]:
        return [audio.read(row.turns[0].sounds[0].path) for row in read(str(tmp_path / "out" / f"{name}.jsonl"))]

    clean, noisy = heard("source-test"), heard("target-test")
    assert [len(clip.samples) for clip in clean] == [len(clip.samples) for clip in noisy]
    assert np.allclose(clean[0].samples, audio.read(data / "stream-0.wav").samples, atol=1e-4)
    assert not np.allclose(clean[0].samples, noisy[0].samples, atol=1e-2)
    assert len(heard("source-train")) == 1


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 3 and 3 rows"):
        noisy_digits.make(prepared(tmp_path / "data", 3), tmp_path / "out")
