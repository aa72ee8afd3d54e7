"""What a checkpoint is stored in, by its headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mnemos.core.files import read_json
from mnemos.weights.precision import record_precision, stored_precision
from tests.tiny import save_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model")


def cast(folder: Path, kind: torch.dtype, *, but: str = "nothing") -> None:
    """Store all tensors in another dtype, those whose names hold `but` excepted."""
    file = folder / "model.safetensors"
    tensors = {name: value if but in name else value.to(kind) for name, value in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "float64"])
def test_it_is_the_dtype_of_the_files_whatever_the_configuration_says(folder: Path, kind: str) -> None:
    cast(folder, getattr(torch, kind))
    found = stored_precision(folder)
    assert (found.own, dict(found.of), found.dtype("anything")) == (kind, {}, kind)


def test_tensors_of_another_dtype_keep_theirs(folder: Path) -> None:
    cast(folder, torch.bfloat16, but="norm")
    found = stored_precision(folder)
    assert found.own == "bfloat16"
    assert found.of
    assert all("norm" in name and kind == "float32" for name, kind in found.of.items())
    assert found.dtype("model.norm.weight") == "float32"


def test_an_adapter_is_stored_as_its_base(folder: Path, tmp_path: Path) -> None:
    cast(folder, torch.bfloat16)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../model"}))
    assert stored_precision(adapter).own == "bfloat16"


def test_where_headers_tell_nothing_the_configuration_does(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    config = read_json(folder / "config.json")
    for named, own in (("float16", "float16"), ("int8", "float32"), (None, "float32")):
        (folder / "config.json").write_text(json.dumps({**config, "dtype": named, "torch_dtype": named}))
        assert stored_precision(folder).own == own


def test_it_is_recorded_in_every_part_of_the_configuration(tmp_path: Path) -> None:
    config = {"dtype": "float32", "text_config": {"dtype": "float32", "width": 3}, "name": "x"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    record_precision(tmp_path, "bfloat16")
    assert read_json(tmp_path / "config.json") == {
        "dtype": "bfloat16",
        "text_config": {"dtype": "bfloat16", "width": 3},
        "name": "x",
    }
