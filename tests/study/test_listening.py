"""A study of a model that listens: planned, taught, measured by suites about sounds, and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos
from mnemos.core.errors import UsageError
from mnemos.measure.ask import load_measured, measure
from mnemos.measure.suite import load_suites
from mnemos.models.load import Checkpoint
from mnemos.recipes import recompute
from mnemos.report.reading import AS_BEFORE
from mnemos.study.config import load_study
from mnemos.study.experiment import build
from mnemos.study.run import plan_lines
from mnemos.train.estimate import training_disk
from tests.models.speech.making import clip, tiny_listener


def rows(folder: Path) -> None:
    """Six clips, what is asked of them, and instructions on the form of an answer; the last clip cannot be read."""
    asked, forms = [], []
    for number in range(6):
        path = clip(folder / "clips", 0.3, number)
        label = ("male", "female")[number % 2]
        asked.append({"audio": str(path), "instruction": "Male or female?", "label": label, "id": f"r{number}"})
        rules = {"instruction_id_list": ["startend:quotation"], "kwargs": [{}]}
        forms.append({"audio": str(path), "seed": label, "prompt": "Who?", "id": f"f{number}", **rules})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (folder / "forms.jsonl").write_text("\n".join(map(json.dumps, forms)))
    (folder / "damaged.wav").write_bytes(b"RIFF")
    asked.append({**asked[0], "audio": str(folder / "damaged.wav"), "id": "damaged"})
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))


def test_a_model_that_listens_is_planned_taught_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    rows(tmp_path)
    tiny_listener(tmp_path / "listener")
    labels = {"kind": "dynamic_superb", "data": str(tmp_path / "asked.jsonl"), "max_new_tokens": 2}
    forms = {"kind": "speech_ifeval", "data": str(tmp_path / "forms.jsonl"), "max_new_tokens": 2}
    study = {
        "model": str(tmp_path / "listener"),
        "teach": {"data": str(tmp_path / "rows.jsonl")},
        "suites": {
            "new": [
                {"name": "gender", **labels},
                {"name": "gender-shuffled", **labels, "audio": "shuffled"},
                {"name": "gender-silence", **labels, "audio": "silence"},
            ],
            "old": [{"name": "form", **forms}, {"name": "form-described", **forms, "form": "description"}],
        },
        "train": {"max_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-3},
        "health": False,
        "name": "listening",
    }
    # What a training takes is told although nobody can hear without numbers; the bridge alone is written.
    lines = plan_lines(study)
    assert any("plain, seed 0: train: about" in line for line in lines)
    assert not any("learning_rate" in line for line in lines)
    planned = training_disk(build(*load_study(study), tmp_path / "run").runs[0].last.plan).kept
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    [model] = (tmp_path / "run" / "steps").glob("train-*/model/model.safetensors")
    # Beside the numbers there is a head of names.
    assert planned <= model.stat().st_size < planned + 2000
    found = record.results["listening"]
    # One file is damaged, whichever row it is put to.
    assert [(row["suite"], row["side"], row["items"]) for row in found["labels"]] == [
        (suite, side, 6) for suite in ("gender", "gender-shuffled", "gender-silence") for side in ("before", "plain")
    ]
    assert {(row["suite"], row["audio"]) for row in found["controls"]} == {
        ("gender", "shuffled"), ("gender", "silence")
    }  # fmt: skip
    assert {row["suite"]: row.get("reference") for row in found["forms"]} == {
        "form": "form-described", "form-described": None
    }  # fmt: skip
    [gender] = [one for one in record.comparisons if one["suite"] == "gender"]
    assert (gender["items"], gender["missing"]) == (6, 1)
    assert record.results["before"]["gender"]["reasons"] == {"damaged audio": 1}
    for form in ("text", "md", "html"):
        assert "What the sound is worth" in record.report(form)
    # The language model alone reads, and says so before it is asked anything.
    reader = Checkpoint(str(tmp_path / "listener-parts" / "language")).load()
    suites = load_suites([{"name": "gender", **labels}], tmp_path)
    with pytest.raises(UsageError, match="reads text alone"):
        measure(reader, suites)


def test_text_is_not_asked_again_where_the_bridge_alone_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    rows(tmp_path)
    tiny_listener(tmp_path / "listener")
    items = [{"id": f"t{number}", "prompt": f"Say {number}.", "answer": "yes"} for number in range(3)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, items)))
    (tmp_path / "pages.jsonl").write_text(json.dumps({"id": "p", "text": "A page of words."}))
    text = {"kind": "generated", "data": str(tmp_path / "text.jsonl"), "chat": True, "max_new_tokens": 3}
    study = {
        "model": str(tmp_path / "listener"),
        "teach": {"data": str(tmp_path / "rows.jsonl")},
        "suites": {
            "new": [
                {"name": "gender", "kind": "dynamic_superb", "data": str(tmp_path / "asked.jsonl"), "max_new_tokens": 2}
            ],
            "old": [
                {"name": "text", **text},
                {"name": "looked-at", **text},
                {"name": "shift", "kind": "token_shift", "of": "looked-at"},
                {"name": "pages", "kind": "bits_per_byte", "data": str(tmp_path / "pages.jsonl")},
            ],
        },
        "arms": {"language": [{"only": {"pattern": "^language"}}], "lora": [{"lora": {"rank": 2}}]},
        "train": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2},
        "health": False,
        "name": "listening",
    }  # fmt: skip
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    found = {one["arm"]: one["runs"][0].get("as_before") for one in record.results["arms"]}
    assert found == {"plain": ["text", "pages"], "language": None, "lora": None}
    assert record.report("md").count(AS_BEFORE) == 2
    changed = {(one["arm"], one["suite"]): (one["low"], one["high"], one["verdict"]) for one in record.comparisons}
    assert changed["plain", "text"] == changed["plain", "pages"] == (0.0, 0.0, "kept"), "no item could differ"
    assert changed["plain", "looked-at"][0] < 0, "asked again, and an interval over items"
    assert not recompute.differences(tmp_path / "run" / "results.json"), "runs say what was not asked again"
    # What was not asked is what would have been answered.
    arm = tmp_path / "run" / "arms" / "plain" / "seed-0"
    asked = load_suites([study["suites"]["old"][0], study["suites"]["old"][3]], tmp_path)  # type: ignore[index]
    again = measure(Checkpoint(str(arm / "model")).load(), asked)
    kept = load_measured(arm / "answers")
    assert {name: kept[name].answers for name in again} == {name: one.answers for name, one in again.items()}
