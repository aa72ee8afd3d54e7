"""A study, a comparison and a merge on a GGUF file: the same as on the directory that the file was made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import ModelError
from mnemos.models.load import load_model
from mnemos.study.run import plan_lines
from mnemos.weights.checkpoint import resolve
from tests.study.worlds import chat, make_study, write_jsonl
from tests.weights.gguf_files import write_gguf


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study on a directory, and `study-gguf.yaml`, the same on a file of float32 made of it."""
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    study = make_study(tmp_path, arms={"lora": [{"lora": {"rank": 2}}]})
    folder = tmp_path / "model"
    write_gguf(tmp_path / "m.gguf", load_model(str(folder)), AutoTokenizer.from_pretrained(folder), "llama")
    raw = yaml.safe_load(study.read_text())
    (tmp_path / "study-gguf.yaml").write_text(yaml.safe_dump({**raw, "model": "m.gguf"}))
    return tmp_path


def verdicts(record: Any) -> Any:
    return [(row["arm"], row["suite"], row["delta"], row["verdict"]) for row in record.comparisons]


def test_a_study_on_a_file_is_the_study_on_its_directory(world: Path) -> None:
    assert any("m.gguf" in line for line in plan_lines(world / "study-gguf.yaml"))
    plain = mnemos.run(world / "study.yaml", out=world / "plain", quiet=True)
    packed = mnemos.run(world / "study-gguf.yaml", out=world / "packed", quiet=True)
    assert verdicts(packed) == verdicts(plain)
    losses = [[run["losses"] for arm in one.results["arms"] for run in arm["runs"]] for one in (plain, packed)]
    assert losses[0] == losses[1]
    (adapter,) = (world / "packed").glob("steps/train-*/model/adapter_config.json")
    assert json.loads(adapter.read_text())["base_model_name_or_path"] == str(world / "m.gguf")
    load_model(str(adapter.parent))


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_gate_and_a_merge_take_a_file(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    done = invoked("gate", "m.gguf", "model", "--suites", "new.yaml", "--suites", "old.yaml", "--max-loss", "99")
    # No item changed; so few of them prove nothing.
    assert done.exit_code == 4, done.output
    assert "no proven loss" in done.output
    done = invoked("merge", "0.5*a + 0.5*b", "a=m.gguf", "b=model", "--out", "merged")
    assert done.exit_code == 0, done.output
    one, other = (load_model(str(world / name)).state_dict() for name in ("model", "merged"))
    assert all(torch.allclose(other[name], value, atol=1e-6) for name, value in one.items())


def test_init_and_the_plan_of_a_teaching_take_a_file(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    done = invoked("init", "new.jsonl", "--model", "m.gguf", "--out", "own.yaml", "--no-probe")
    assert done.exit_code == 0, done.output
    assert any("m.gguf" in line for line in plan_lines(world / "own.yaml"))
    write_jsonl(world / "rows.jsonl", [chat(n, f"Weather in town {n} today", "rain") for n in range(150)])
    done = invoked("teach", "rows.jsonl", "--model", "m.gguf", "--plan-only", "--out", "taught", "--budget", "30m")
    assert done.exit_code == 0, done.output
    assert "m.gguf" in (world / "taught" / "plan.yaml").read_text()


def test_a_file_that_is_none_is_one_error_for_every_verb(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    (world / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    for words in (
        ("gate", "bad.gguf", "model", "--suites", "new.yaml"),
        ("merge", "a", "a=bad.gguf", "--out", "merged"),
        ("teach", "new.jsonl", "--model", "bad.gguf", "--plan-only", "--out", "taught"),
        ("run", "study.yaml", "--set", "model=bad.gguf", "--dry-run"),
    ):
        error = invoked(*words).exception
        assert isinstance(error, ModelError), (words, error)
        assert "bad.gguf" in error.value


@pytest.mark.skipif(not hasattr(os, "fork"), reason="file sizes are limited per process")
def test_a_cache_that_takes_no_more_bytes_is_one_error(world: Path) -> None:
    """The system itself refuses the bytes; nothing is left behind that would be taken for the model."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from mnemos.core.errors import RunError\n"
        "from mnemos.weights.checkpoint import resolve\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        f"    resolve({str(world / 'm.gguf')!r}, allow_pickle=False, trust_remote_code=False)\n"
        "except RunError as error:\n"
        "    print('refused:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "refused:" in done.stdout, done.stderr
    assert "MNEMOS_CACHE" in done.stdout
    assert [one for one in (world / "cache" / "models").iterdir() if one.is_dir()] == []
    assert resolve(str(world / "m.gguf"), allow_pickle=False, trust_remote_code=False).is_dir()


def test_two_runs_share_one_cache(world: Path) -> None:
    """Begun at once on one file, by two processes: both end, with the same results."""
    command = [sys.executable, "-m", "mnemos", "run", str(world / "study-gguf.yaml"), "--quiet"]
    runs = [subprocess.Popen([*command, "--out", str(world / name)], stderr=-1, text=True) for name in ("one", "two")]
    errors = [run.communicate(timeout=900)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    one, two = (json.loads((world / name / "results.json").read_text()) for name in ("one", "two"))
    assert [row["delta"] for row in one["comparisons"]] == [row["delta"] for row in two["comparisons"]]


def test_a_file_and_what_was_written_of_it_compare_as_one_model(world: Path) -> None:
    place = resolve(str(world / "m.gguf"), allow_pickle=False, trust_remote_code=False)
    record = mnemos.compare(world / "m.gguf", place, [str(world / "new.yaml"), str(world / "old.yaml")], health=False)
    assert [row["delta"] for row in record.comparisons] == [0.0] * 3
