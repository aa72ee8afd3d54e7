"""A study of a recogniser: audio rows taught, word error rates before and after, the errors in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos
from mnemos.sources import audio
from mnemos.study.run import plan_lines
from tests.tiny_speech import sound, tiny_whisper_ctc


def study(folder: Path) -> dict[str, object]:
    rows = []
    for number, text in enumerate(["one two", "three", "four", "five six"]):
        audio.write(sound(0.4, number), folder / f"{number}.wav")
        rows.append({"audio": f"{number}.wav", "text": text, "speaker": f"s{number % 2}"})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tiny_whisper_ctc(folder / "ears")
    heard = {"kind": "wer", "data": str(folder / "rows.jsonl")}
    return {
        "model": str(folder / "ears"),
        "teach": {"data": str(folder / "rows.jsonl")},
        "suites": {"new": [{"name": "new", **heard}], "old": [{"name": "letters", **heard, "kind": "cer"}]},
        "arms": {"plain": [], "half": [{"weights": {"expression": "before + 0.5*(after - before)"}}]},
        "train": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3},
        "seeds": [0],
        "name": "ears",
    }


def test_a_recogniser_is_taught_and_measured(tmp_path: Path) -> None:
    made = study(tmp_path)
    lines = "\n".join(plan_lines(made))
    assert "speech (audio, text)" in lines
    record = mnemos.run(made, out=tmp_path / "run", quiet=True)
    found = {(one["arm"], one["suite"]): one for one in record.comparisons}
    assert set(found) == {(arm, suite) for arm in ("plain", "half") for suite in ("new", "letters")}
    assert {one["unit"] for one in found.values()} == {"WER", "CER"}
    assert all(one["missing"] == 0 for one in found.values())
    sides = record.results["recognition"]["new"]
    assert set(sides) == {"before", "plain", "half"}
    assert sides["before"]["rate"] == pytest.approx(found["plain", "new"]["before"])
    [new] = [one for one in record.results["manifest"]["suites"] if one["name"] == "new"]
    assert new["settings"]["normaliser"] == "basic"
    for form in ("text", "md", "html"):
        assert "Errors of recognition" in record.report(form) or form == "html"
    # Finished steps are found again: sounds that are where they were have the same names.
    again = mnemos.run(made, out=tmp_path / "run", quiet=True)
    assert again.results["recognition"] == record.results["recognition"]


def test_two_recognisers_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    study(tmp_path)
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps({"name": "heard", "kind": "wer", "data": "rows.jsonl"}))
    record = mnemos.compare(str(tmp_path / "ears"), str(tmp_path / "ears"), suites=[str(suite)])
    [one] = record.comparisons
    assert (one["suite"], one["delta"], one["verdict"]) == ("heard", 0.0, "kept")
