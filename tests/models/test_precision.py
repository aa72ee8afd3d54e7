"""The dtype that is fast here: chosen once, kept, and part of what names a step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.files import read_json
from mnemos.models import precision
from mnemos.models.load import Checkpoint
from tests.tiny import save_tiny
from tests.weights.test_precision import cast


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing was chosen yet."""
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    precision.fast_dtype.cache_clear()
    yield tmp_path / "cache" / "precision"
    precision.fast_dtype.cache_clear()


def test_the_probe_times_both_and_picks_one() -> None:
    found = precision.probe("cpu")
    assert found["seconds"].keys() == {"float32", "bfloat16"}
    assert all(value > 0 for value in found["seconds"].values())
    assert found["dtype"] == precision.chosen(found["seconds"])


def test_the_probe_counts_no_thread_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several threads the time of a process holds their waiting, by which this choice came out either way."""
    threads, seen, step = torch.get_num_threads(), [], precision._step

    def watched(device: str, dtype: Any) -> Any:
        real = step(device, dtype)
        return lambda: (seen.append(torch.get_num_threads()), real())

    monkeypatch.setattr(precision, "_step", watched)
    try:
        torch.set_num_threads(2)
        precision.probe("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert seen == [1] * 2 * (precision.REPEATS + 1)


def test_a_choice_found_in_an_earlier_way_is_found_anew(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = iter(["float32", "bfloat16"])
    monkeypatch.setattr(precision, "probe", lambda device: {"dtype": next(choices), "seconds": {}})
    monkeypatch.setattr(precision, "WAY", precision.WAY - 1)
    assert precision.fast_dtype() == "float32"
    precision.fast_dtype.cache_clear()
    monkeypatch.undo()
    monkeypatch.setenv("MNEMOS_CACHE", str(fresh.parent))
    monkeypatch.setattr(precision, "probe", lambda device: {"dtype": next(choices), "seconds": {}})
    assert precision.fast_dtype() == "bfloat16"


@pytest.mark.parametrize(("half", "dtype"), [(10.0, "float32"), (0.7, "float32"), (0.6, "bfloat16"), (0.1, "bfloat16")])
def test_half_the_digits_must_be_worth_it(half: float, dtype: str) -> None:
    assert precision.chosen({"float32": 1.0, "bfloat16": half}) == dtype


def test_what_was_chosen_is_read_by_the_next_process(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = iter(["bfloat16", "float32"])
    monkeypatch.setattr(precision, "probe", lambda device: {"dtype": next(choices), "seconds": {}})
    assert precision.fast_dtype() == "bfloat16"
    (file,) = fresh.glob("*.json")
    assert read_json(file)["torch"] == torch.__version__
    precision.fast_dtype.cache_clear()  # as a new process begins
    assert precision.fast_dtype() == "bfloat16"
    file.write_text("{")
    precision.fast_dtype.cache_clear()
    assert precision.fast_dtype() == "float32"
    assert read_json(file)["dtype"] == "float32"


def test_a_cache_that_cannot_be_written_costs_a_probe(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.parent.write_text("a file in the folder's place")
    monkeypatch.setattr(precision, "probe", lambda device: {"dtype": "float32", "seconds": {}})
    assert precision.fast_dtype() == "float32"


def test_sixteen_bits_are_computed_in_what_is_fast_and_float32_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "model")
    monkeypatch.setattr(precision, "fast_dtype", lambda: "bfloat16")
    assert Checkpoint(str(folder)).load().model.dtype == torch.float32
    cast(folder, torch.bfloat16)
    assert Checkpoint(str(folder)).load().model.dtype == torch.bfloat16
    monkeypatch.setattr(precision, "fast_dtype", lambda: "float32")
    assert Checkpoint(str(folder)).load().model.dtype == torch.float32
    asked = Checkpoint(str(folder), torch_dtype="bfloat16")
    assert asked.load().model.dtype == torch.bfloat16
    assert asked.fingerprint != Checkpoint(str(folder)).fingerprint
    assert precision.compute_dtype(Checkpoint(str(tmp_path / "nowhere"))) == "float32"


def test_a_machine_that_chooses_otherwise_makes_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemos.measure import manifest
    from mnemos.study import steps

    seen: list[Any] = []
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(precision, "fast_dtype", lambda dtype=dtype: dtype)
        manifest.hardware.cache_clear()
        steps.surroundings.cache_clear()
        seen.append(steps.surroundings())
    manifest.hardware.cache_clear()
    steps.surroundings.cache_clear()
    assert seen[0] == {**seen[1], "dtype": "float32"}
