"""A file that is swapped while a step works: refused by name, nothing reused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import RunError
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.inputs import Watch, noted_files, refuse_changed, watched
from mnemos.study import steps
from tests.study.worlds import chat, make_study, without_timings, write_jsonl
from tests.tiny import save_tiny


def _swap(file: Path, other: Path) -> None:
    """Put `other` in the file's place in one move, as a download or an editor does."""
    shutil.copy(other, file.with_name("coming"))
    os.replace(file.with_name("coming"), file)


def _at_work(monkeypatch: pytest.MonkeyPatch, kind: type, act: Callable[[], None]) -> None:
    """Do something once, right before the first step of a kind works."""
    work, done = kind.work, []  # type: ignore[attr-defined]

    def both(self: Any, directory: Path, quiet: bool) -> Any:
        if not done:
            done.append(1)
            act()
        return work(self, directory, quiet)

    monkeypatch.setattr(kind, "work", both)


@pytest.mark.parametrize("kind", [steps.MeasureStep, steps.TrainStep])
@pytest.mark.parametrize("name", ["model/model.safetensors", "model/chat_template.jinja", "old.jsonl"])
def test_a_swapped_file_is_refused_by_name_and_nothing_is_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    study = make_study(tmp_path, arms={"replay": [{"replay": {"data": "old.jsonl", "share_of_final": 0.5}}]})
    if kind is steps.MeasureStep and name == "old.jsonl":
        pytest.skip("a measurement reads no rows")
    if kind is steps.TrainStep and name.endswith("jinja"):
        pytest.skip("read as the weights are")
    file = tmp_path / name
    save_tiny(tmp_path / "second", seed=1)
    write_jsonl(tmp_path / "second" / "old.jsonl", [chat(n, f"Add {n} and 2.", str(n + 2)) for n in range(24)])
    template = tmp_path / "second" / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "model"))
    shutil.copy(file, tmp_path / "kept")
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        # The plain arm reads no old rows: its training comes first and must be kept.
        only = [s for s in ("replay",) if name == "old.jsonl"]
        work = kind.work  # type: ignore[attr-defined]

        def swapping(self: Any, directory: Path, quiet: bool) -> Any:
            if not only or only[0] in self.title:
                _swap(file, tmp_path / "second" / file.name)
            return work(self, directory, quiet)

        patch.setattr(kind, "work", swapping)
        with pytest.raises(RunError, match=file.name) as caught:
            mnemos.run(study, out=tmp_path / "run", quiet=True)
        assert "was changed while" in str(caught.value)
    finished = list((tmp_path / "run" / "steps").glob("*/done.json"))
    _swap(file, tmp_path / "kept")
    again = mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert without_timings(again.results) == without_timings(whole.results)
    assert len(finished) < len(list((tmp_path / "run" / "steps").glob("*/done.json")))


def test_a_file_that_was_swapped_and_put_back_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, arms={})
    file = tmp_path / "model" / "model.safetensors"

    def there_and_back() -> None:
        os.replace(file, tmp_path / "kept")
        save_tiny(tmp_path / "second", seed=1)
        shutil.copy(tmp_path / "second" / file.name, file)
        os.replace(tmp_path / "kept", file)

    _at_work(monkeypatch, steps.MeasureStep, there_and_back)
    with pytest.raises(RunError, match=r"model\.safetensors: was replaced or touched while before: measure worked"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert not list((tmp_path / "run" / "steps").glob("*/done.json"))


def test_another_name_for_a_file_changes_nothing_and_a_copy_that_is_put_in_its_place_does(tmp_path: Path) -> None:
    file, copy = tmp_path / "weights", tmp_path / "copy"
    file.write_bytes(b"numbers")
    shutil.copy2(file, copy)
    watch = Watch({str(file): file_fingerprint(file)}, "train")
    os.link(file, tmp_path / "link")
    watch.refuse_changed()
    (tmp_path / "link").unlink()
    watch.refuse_changed()
    os.utime(file)
    with pytest.raises(RunError, match="replaced or touched while train worked"):
        watch.refuse_changed()
    watch = Watch({str(file): file_fingerprint(file)}, "train")
    os.link(file, tmp_path / "link")
    os.replace(copy, file)
    with pytest.raises(RunError, match="replaced or touched while train worked"):
        watch.refuse_changed()


def test_a_checkpoint_of_a_swapped_training_is_not_continued_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the wrong rows lie there: what is continued from was saved before they came."""
    train = {"learning_rate": 1e-3, "max_steps": 6, "save_steps": 1, "logging_steps": 1}
    study = make_study(tmp_path, arms={}, train=train)
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    shutil.copy(tmp_path / "new.jsonl", tmp_path / "kept")
    from mnemos.train import trainer

    saved, save = [], trainer.PlanTrainer._save_checkpoint

    def saving(self: Any, model: Any, trial: Any) -> None:
        if len(saved) == 2:
            write_jsonl(tmp_path / "new.jsonl", [chat(0, "Say 0.", "nothing")])
        saved.append(1)
        save(self, model, trial)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.PlanTrainer, "_save_checkpoint", saving)
        with pytest.raises(RunError, match=r"new\.jsonl: was changed while"):
            mnemos.run(study, out=tmp_path / "run", quiet=True)
    complete = [path.parent.name for path in (tmp_path / "run" / "steps").glob("train-*/checkpoints/*/mnemos.json")]
    assert complete == ["checkpoint-2"]
    _swap(tmp_path / "new.jsonl", tmp_path / "kept")
    assert without_timings(mnemos.run(study, out=tmp_path / "run", quiet=True).results) == without_timings(
        whole.results
    )


def test_a_file_that_was_changed_before_its_step_began(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_text("one")
    with noted_files() as files:
        name = file_fingerprint(file)
    assert files == {str(file): name}
    file.write_text("two")
    with pytest.raises(RunError, match="rows: was changed since this run began; training needs what it was"):
        Watch(files, "training")
    file.write_text("one")
    with watched(files, "training"):
        refuse_changed()
        file.unlink()
        with pytest.raises(RunError, match="rows: cannot be read any more while training needs it"):
            refuse_changed()
    refuse_changed()  # nothing is watched any more


CODE = """
import os, shutil, sys, mnemos
mnemos.run(sys.argv[1], out=sys.argv[2], quiet=True)
"""


@pytest.mark.slow
def test_swapped_from_outside_while_a_run_works(tmp_path: Path) -> None:
    """No part of the run is touched: another process swaps the weights while the training goes on."""
    train = {"learning_rate": 1e-3, "max_steps": 400, "save_steps": 5}
    study, out = make_study(tmp_path, arms={}, train=train), tmp_path / "run"
    save_tiny(tmp_path / "second", seed=1)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(study), str(out)], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE
    )
    while not list(out.glob("steps/train-*/checkpoints/checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    _swap(tmp_path / "model" / "model.safetensors", tmp_path / "second" / "model.safetensors")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert b"model.safetensors" in errors
    assert b"was changed while plain, seed 0: train worked" in errors
    assert not list(out.glob("steps/train-*/done.json"))
