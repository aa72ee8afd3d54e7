"""A study on a real model, killed while it trains and while it writes, and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnemos.core.fingerprint import file_fingerprint
from mnemos.train.resume import MARK
from tests.study.worlds import write_jsonl

pytestmark = pytest.mark.slow

PATIENCE = 1500.0
"""Seconds until a run has come to the place where it is killed."""


def real_model() -> Path:
    """The smaller one of the real models that are here."""
    folder = Path(os.environ.get("MNEMOS_MODELS", Path.home() / ".cache" / "mnemos-models")).expanduser()
    for name in ("gemma", "qwen"):
        if (folder / name / "config.json").is_file():
            return folder / name
    pytest.skip(f"no real model in {folder} (set MNEMOS_MODELS)")


def study_of(folder: Path, model: Path) -> Path:
    """Two arms of four steps, six answers and six choices, with what is read as text: a base model will do."""
    write_jsonl(folder / "rows.jsonl", [{"prompt": f"Say {n}:", "completion": f" {n} it is"} for n in range(8)])
    items = [{"id": str(n), "prompt": f"Say {n}:", "answer": f"{n} it is"} for n in range(6)]
    asked = {"name": "say", "kind": "generated", "match": "normalised", "max_new_tokens": 12, "chat": False}
    choices = [
        {"id": str(n), "prompt": f"{n} plus 1 is", "options": [f" {n + 1}", f" {n}"], "answer": 0} for n in range(6)
    ]
    (folder / "say.yaml").write_text(yaml.safe_dump({**asked, "items": items}))
    (folder / "add.yaml").write_text(yaml.safe_dump({"name": "add", "kind": "choice", "chat": False, "items": choices}))
    train = {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-5, "max_length": 64, "save_steps": 1}
    study = {
        "model": str(model),
        "teach": {"data": "rows.jsonl"},
        "suites": {"new": ["say.yaml"], "old": ["add.yaml"]},
        "arms": {"lora": [{"lora": {"rank": 4}}]},
        "train": {**train, "logging_steps": 1},
        "health": False,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def run(study: Path, out: Path) -> subprocess.Popen[str]:
    # One row at a time and one batch a job, so that there is a place to be killed at.
    code = (
        "import sys, mnemos\nfrom mnemos.models import decode, language\n"
        "language.BATCH_TOKENS['cpu'], decode.JOB = 64, 1\n"
        f"mnemos.run({str(study)!r}, out={str(out)!r}, quiet=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def killed(study: Path, out: Path, there: Callable[[], bool]) -> None:
    """Run until `there`, then take the process away at once."""
    process = run(study, out)
    began = time.monotonic()
    while not there():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def ended(study: Path, out: Path) -> None:
    process = run(study, out)
    _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, errors


def found(out: Path) -> dict[str, Any]:
    """What a run found, without what hangs on the clock: scores, losses, weights."""
    results = json.loads((out / "results.json").read_text())
    weights = {
        f"{path.parents[2].name}/{path.name}": file_fingerprint(path)
        for path in sorted(out.glob("steps/train-*/model/*.safetensors"))
    }
    answers = {str(path.relative_to(out)): path.read_text() for path in sorted(out.glob("steps/*/answers/*.jsonl"))}
    losses = [[run["losses"] for run in arm["runs"]] for arm in results["arms"]]
    deltas = [(row["arm"], row["suite"], row["delta"], row["low"], row["high"]) for row in results["comparisons"]]
    return {"deltas": deltas, "losses": losses, "weights": weights, "answers": answers}


def test_killed_in_training_and_in_writing_it_ends_the_same(tmp_path: Path) -> None:
    study = study_of(tmp_path, real_model())
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    # While the model before writes its answers, and then between two steps of the first training.
    killed(study, broken, lambda: any(one.stat().st_size for one in broken.glob("steps/measure-*/journal.jsonl")))
    assert not list(broken.glob("steps/*/done.json"))
    marks = f"steps/train-*/checkpoints/checkpoint-2/{MARK}"
    killed(study, broken, lambda: bool(list(broken.glob(marks))))
    assert not list(broken.glob("steps/train-*/done.json"))
    ended(study, broken)
    ended(study, whole)
    assert found(broken) == found(whole)
