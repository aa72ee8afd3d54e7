"""The study that `mnemos init` writes: rates by size, what the model can do, arms that a template allows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.yaml_text import read_yaml
from mnemos.study import proposal
from mnemos.study.commands.init import _match, write_study
from mnemos.study.config import load_study
from mnemos.study.proposal import Facts, duration, propose
from mnemos.study.run import plan_lines
from tests.study.worlds import chat, make_study, write_jsonl
from tests.tiny import save_tiny


def facts(**changes: Any) -> Facts:
    """Qwen2.5 of half a billion parameters."""
    values = {"family": "qwen2", "parameters": 494_032_768, "layers": 24, "width": 896, "vocabulary": 151_936}
    more = {"context": 32_768, "chat": True, "thinking": False, "lengths": (100,) * 64}
    return Facts(**{**values, **more, **changes})  # type: ignore[arg-type]


def needed(rows: int, length: int, recompute: bool) -> int:
    """16 bytes a parameter in full training, and of each token what its layers and logits keep."""
    per_token = 68 * 24 * 896 if not recompute else 4 * 41 * 896
    return 16 * 494_032_768 + rows * length * (per_token + 12 * 151_936)


def test_rates_follow_the_size_and_lora_takes_ten_times() -> None:
    made = propose(facts(), 1000, free_bytes=24 * 2**30, flops=1e11, needed=needed)
    assert 1e-5 <= made.learning_rate <= 2e-5
    assert made.lora_rate == pytest.approx(10 * made.learning_rate)
    assert propose(facts(parameters=1_300_000), 1000, free_bytes=2**34, flops=None).learning_rate > 1e-4
    # 6 operations a parameter and token, at half the speed of a matrix product.
    assert made.seconds == pytest.approx(6 * 494_032_768 * 3 * 1000 * 100 / 5e10)


def test_batch_and_accumulation_follow_the_memory_that_is_free() -> None:
    for free in range(4, 200, 8):
        made = propose(facts(), 1000, free_bytes=free * 2**30, flops=None, needed=needed)
        assert made.batch * made.accumulation == proposal.STEP_ROWS
        assert made.batch in (1, 2, 4, 8)
    little, much = (propose(facts(), 1000, free_bytes=n * 2**30, flops=None, needed=needed) for n in (12, 160))
    assert little.batch < much.batch
    assert not much.checkpointing
    none = propose(facts(), 1000, free_bytes=2**30, flops=None, needed=needed)
    assert (none.batch, none.checkpointing) == (1, True)
    assert none.needs is not None
    assert none.needs > 16 * 494_032_768
    assert much.needs is None


def test_max_length_fits_the_rows_and_the_context() -> None:
    assert propose(facts(lengths=(100, 120)), 100, free_bytes=2**36, flops=None).max_length == 128
    assert propose(facts(lengths=(700,)), 100, free_bytes=2**36, flops=None).max_length == 1024
    assert propose(facts(lengths=(700,), context=512), 100, free_bytes=2**36, flops=None).max_length == 512
    assert propose(None, 100, free_bytes=2**36, flops=None).max_length == 1024


@pytest.mark.parametrize(("seconds", "expected"), [(0.2, "1 s"), (40, "40 s"), (700, "12 min"), (12_600, "3.5 h")])
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_matrix_product_has_a_speed() -> None:
    assert proposal.matrix_flops(0.01) > 1e6


def starter(folder: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[list[str], str]:
    monkeypatch.chdir(folder)
    lines = list(write_study("new.jsonl", "model", folder / "own.yaml", **how))
    return lines, (folder / "own.yaml").read_text()


def test_without_asking_the_built_in_suites_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path)
    lines, text = starter(tmp_path, monkeypatch, probe=False)
    assert any("llama" in line and "parameters" in line for line in lines)
    assert "# - refusals" in text
    study, _ = load_study(tmp_path / "own.yaml")
    assert set(study.arms) == {"plain", "lora", "own-replay", "kl", "half-way"}
    assert study.seeds == [0]
    assert study.train.warmup_ratio == 0.03
    assert study.train.save_steps is None
    assert study.suites.old == []
    assert not [line for line in plan_lines(tmp_path / "own.yaml") if line.startswith("note")]


def test_what_the_model_can_do_becomes_the_old_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "new.jsonl", [chat(n, f"Say {n} in words, please.", f"{n} it is") for n in range(24)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnemos.measure.probe.ITEMS", 8)
    done = CliRunner().invoke(app, ["init", "new.jsonl", "--model", "mnemos:patients/chat"])
    assert done.exit_code == 0, done.output
    assert "asking the model 8 items" in done.output
    study, _ = load_study(tmp_path / "study.yaml")
    kept = {one["name"]: one for one in study.suites.old}
    assert {"refusals", "look-alikes", "json-answers", "arithmetic", "facts"} <= set(kept)
    assert not {"code", "sums", "world-facts", "instructions"} & set(kept)
    assert all(one["limit"] == 64 for one in kept.values())
    text = (tmp_path / "study.yaml").read_text()
    assert "# - code   # left out: 0 % (0 to 32) of 8 items" in text
    assert "model: mnemos:patients/chat" in text
    assert any(
        line.startswith("suite   refusals (old, refusal, 64 items)") for line in plan_lines(tmp_path / "study.yaml")
    )


def test_a_base_model_gets_no_chats_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path)
    shutil.rmtree(tmp_path / "model")
    save_tiny(tmp_path / "model", chat=False)
    write_jsonl(tmp_path / "new.jsonl", [{"text": f"The river runs past mill {n}."} for n in range(24)])
    lines, text = starter(tmp_path, monkeypatch)
    assert "magpie" not in text
    assert any("no chat template" in line for line in lines)
    assert "# - refusals   # not asked:" in text


def test_thinking_is_set_where_the_template_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path)
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text("{# " + "enable_thinking" + " #}" + template.read_text())
    _, text = starter(tmp_path, monkeypatch, probe=False)
    assert read_yaml(tmp_path / "own.yaml")["chat_template_kwargs"] == {"enable_thinking": False}
    write_jsonl(tmp_path / "new.jsonl", [chat(n, f"Say {n}.", f"<think>\nx\n</think>\n\n{n}") for n in range(24)])
    _, text = starter(tmp_path, monkeypatch, probe=False, force=True)
    assert "enable_thinking: true" in text


def test_a_model_that_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = list(write_study("new.jsonl", "org/absent", tmp_path / "own.yaml"))
    assert any("org/absent: not a directory here" in line for line in lines)
    assert read_yaml(tmp_path / "own.yaml")["train"]["learning_rate"] == 2e-5
    (tmp_path / "model" / "config.json").write_text("{")
    lines = list(write_study("new.jsonl", "model", tmp_path / "own.yaml", force=True))
    assert any("not looked at" in line for line in lines)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (["4", "1,200", "-3.5"], "number"),
        (['{"a": 1}', "[1]"], "json"),
        (["Paris", "New York"], "normalised"),
        (["A river is a long stream of water that runs into the sea."] * 3, "chrf"),
        (["河流是流入大海的一条很长的水流，它养育了两岸的许多城市和村庄。"] * 3, "chrf"),
    ],
)
def test_how_answers_are_compared_follows_from_them(answers: list[str], match: str) -> None:
    assert _match(answers) == match
