"""The benchmarks of a GPU, tried without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import machine, training, world

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H200", 989e12), ("NVIDIA L40S", 362e12), ("NVIDIA L4", 121e12), ("NVIDIA GeForce GT 710", None)],
)
def test_the_peak_is_that_of_the_data_sheet(name: str, expected: float | None) -> None:
    assert machine.peak(name) == expected


def test_what_is_missing_is_named_with_the_version_of_the_lock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "_installed", lambda name: name != "trl")
    assert script.main(["--small"]) == 2
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lock if line.startswith("trl==")]
    assert f"--find-links wheels {line}" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert script.main([]) == 2
    assert "no GPU is to be had" in capsys.readouterr().err


def test_a_part_that_fails_is_shown_and_one_too_late_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> list[object]:
        raise ValueError("a broken part")

    assert script.measure({"one": fails}, deadline=float("inf"), keep=False) == 1
    assert "a broken part" in capsys.readouterr().err
    assert script.measure({"one": lambda: []}, deadline=float("inf"), keep=False) == 0
    assert script.measure({"late": lambda: []}, deadline=0.0, keep=False) == 1
    assert "late: not begun" in capsys.readouterr().err


def test_utilisation_counts_the_operations_of_every_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    folder = world.make(tmp_path / "model", world.SMALL)
    count = sum(value.numel() for value in AutoModelForCausalLM.from_pretrained(folder).parameters())
    assert training.utilisation(folder, 1000.0, lora=False) is None  # no GPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")
    assert training.utilisation(folder, 1000.0, lora=False) == pytest.approx(6 * count * 1000 / 989e12)
    assert training.utilisation(folder, 1000.0, lora=True) == pytest.approx(4 * count * 1000 / 989e12)


@pytest.mark.slow
def test_the_whole_script_runs_with_a_tiny_model() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = ("sft", "lora", "choice", "generate", "step-cost-kl-to-before", "dpo", "grpo")
    assert [name for name in parts if f"gpu-{name} " not in done.stdout] == []
