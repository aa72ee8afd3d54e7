"""A model of a run on its own: what it is made of stands beside it, and agrees with the run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import DataError, ModelError, RunError, UsageError
from mnemos.models.load import load_model
from mnemos.study.commands import export as exporting
from mnemos.study.commands.export import MADE, export
from mnemos.weights.export_gguf import PROGRAM
from tests.study.worlds import make_study
from tests.tiny import save_tiny

CONVERTER = """
import argparse, sys
from pathlib import Path
from transformers import AutoTokenizer
from mnemos.models.load import load_model
from tests.weights.gguf_files import write_gguf
parser = argparse.ArgumentParser()
parser.add_argument("model"); parser.add_argument("--outfile"); parser.add_argument("--outtype")
given = parser.parse_args()
kind = {"f32": "F32", "q8_0": "Q8_0"}[given.outtype]
write_gguf(Path(given.outfile), load_model(given.model), AutoTokenizer.from_pretrained(given.model), "llama", kind)
"""
"""A stand-in for llama.cpp's program: the same arguments, and a real GGUF file."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two arms, one of adapters."""
    folder = tmp_path_factory.mktemp("export")
    replay = [{"replay": {"data": "old.jsonl", "share_of_final": 0.25}}]
    make_study(folder, arms={"replay": replay, "lora": [{"lora": {"rank": 4}}]}, seeds=[0])
    mnemos.run(folder / "study.yaml", out=folder / "run", quiet=True)
    return folder / "run"


def test_the_model_is_the_runs_and_says_what_it_is_made_of(run: Path, tmp_path: Path) -> None:
    found = export(run, "replay", tmp_path / "models" / "out")
    out = found.model
    results = json.loads((run / "results.json").read_text())
    (arm,) = [one for one in results["arms"] if one["arm"] == "replay"]
    source = run / arm["runs"][0]["model"]
    ours, theirs = (load_model(str(place)).state_dict() for place in (out, source))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    made = json.loads((out / MADE).read_text())
    assert made["files"].keys() == {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
    for name, value in made["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == value
    assert made["before"] == {"name": "model", "fingerprint": results["manifest"]["model"]["fingerprint"]}
    assert (made["arm"], made["seed"], made["plan"]) == ("replay", 0, arm["runs"][0]["fingerprint"])
    assert list(made["rows"].values()) == [json.loads((run / "inputs.json").read_text())["rows of replay, new"]]
    assert [step["method"] for step in made["methods"]] == [step["method"] for step in arm["history"]]
    rows = {row["suite"]: row for row in results["comparisons"] if row["arm"] == "replay"}
    assert {row["suite"]: row["delta"] for row in made["changes"]} == {name: row["delta"] for name, row in rows.items()}


def test_the_card_says_it_to_people(run: Path, tmp_path: Path) -> None:
    out = export(run, "replay", tmp_path / "out", seed=0).model
    text, made = (out / "README.md").read_text(), json.loads((out / MADE).read_text())
    assert text.startswith("---\ntags:\n- mnemos\nlibrary_name: transformers\n---\n\n# model, taught in study by ")
    assert "share\\_of\\_final=0.25" in text
    assert str(run) not in text.split("The whole study")[0], "no place of this machine"
    for value in made["files"].values():
        assert value in text
    for row in made["changes"]:
        assert row["suite"] in text
        assert row["verdict"] in text


def test_an_adapter_still_finds_its_base(run: Path, tmp_path: Path) -> None:
    out = export(run, "lora", tmp_path / "elsewhere" / "out").model
    config = json.loads((out / "adapter_config.json").read_text())
    assert Path(config["base_model_name_or_path"]).is_dir()
    made = json.loads((out / MADE).read_text())
    assert (
        hashlib.sha256((out / "adapter_config.json").read_bytes()).hexdigest() == made["files"]["adapter_config.json"]
    )
    with pytest.raises(UsageError, match="keep_merged"):
        export(run, "lora", tmp_path / "other", gguf="q8_0")
    assert not (tmp_path / "other").exists()


def test_what_is_not_there_is_refused_by_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"(?s)--arm replya.*'replay'"):
        export(run, "replya", tmp_path / "out")
    with pytest.raises(UsageError, match="--seed 7"):
        export(run, "replay", tmp_path / "out", seed=7)
    with pytest.raises(DataError, match="no finished run"):
        export(tmp_path, "replay", tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="is there already"):
        export(run, "replay", tmp_path / "there")
    with pytest.raises(UsageError, match=r"(?s)--gguf q4_9.*known"):
        export(run, "replay", tmp_path / "out", gguf="q4_9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    with pytest.raises(UsageError, match=r"(?s)not on the PATH.*LLAMA_CPP"):
        export(run, "replay", tmp_path / "out", gguf="q8_0")
    assert not (tmp_path / "out").exists()
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    results = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps({**results, "kind": "compare"}))
    with pytest.raises(UsageError, match="of no study"):
        export(copy, "replay", tmp_path / "out")
    for arm in results["arms"]:
        arm["runs"][0]["model"] = "../there"
    (copy / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match="not there any more"):
        export(copy, "replay", tmp_path / "out")


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / PROGRAM).write_text(text)
    return folder


def test_a_gguf_file_is_written_by_the_converter(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(program(tmp_path / "llama", CONVERTER)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), *sys.path]))
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    words = ["model", "export", str(run), "--arm", "replay", "--out", str(tmp_path / "out"), "--gguf", "f32"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.split() == [str(tmp_path / "out"), str(tmp_path / "out.gguf")]
    ours, theirs = (load_model(str(tmp_path / name)).state_dict() for name in ("out.gguf", "out"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].float(), value.float())
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys; sys.exit('no such architecture')", "fails with 1: no such architecture"),
        ("import sys; open(sys.argv[3], 'w').write('hello')", "is no GGUF file"),
        ("pass", "fails with 0"),
    ],
)
def test_a_converter_that_fails_leaves_the_model(
    text: str, says: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(program(tmp_path / "llama", text)))
    with pytest.raises(ModelError, match=says):
        export(run, "replay", tmp_path / "out", gguf="q8_0")
    assert (tmp_path / "out" / MADE).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "out"]


def test_the_hub_is_asked_before_and_gets_the_directory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hub answers is held against a server of its own in tests/weights/test_push.py."""
    asked: list[Any] = []
    monkeypatch.setattr(exporting, "check_hub", lambda name: asked.append((name, (tmp_path / "out").exists())))
    monkeypatch.setattr(exporting, "push", lambda folder, name: asked.append((folder, name)) or "https://hub/a/b")
    found = export(run, "replay", tmp_path / "out", push_to_hub="a/b")
    assert asked == [("a/b", False), (tmp_path / "out", "a/b")]
    assert found.address == "https://hub/a/b"


def test_a_tiny_model_is_no_run(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    with pytest.raises(DataError, match=r"results\.json"):
        export(tmp_path / "model", "plain", tmp_path / "out")
