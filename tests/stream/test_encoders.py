"""Encoders against a reference computed here, on models made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.core.errors import ModelError
from mnemos.stream.encoders import DirectoryEncoder, Kept, ModelEncoder, make
from tests.tiny import save_tiny_encoder, tiny_model, tiny_tokenizer

TEXTS = ["The river runs.", "", "What is two plus three? The answer is five and more.", "The river runs."]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")


def states(encoder: DirectoryEncoder, text: str) -> Any:
    import torch

    ids = encoder.tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
    with torch.inference_mode():
        return encoder.model(**ids).last_hidden_state[0].numpy()


def test_a_directory_s_pooling_is_obeyed_and_padding_counts_for_nothing(directory: Path) -> None:
    for modes, pool in (
        ({"pooling_mode_mean_tokens": True}, lambda one: one.mean(0)),
        ({"pooling_mode_cls_token": True}, lambda one: one[0]),
    ):
        pooling(directory, **modes)
        encoder = DirectoryEncoder(str(directory))
        found = encoder.encode(TEXTS)
        assert found.shape == (4, 16)
        assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)
        for text, row in ((TEXTS[0], found[0]), (TEXTS[2], found[2])):
            wanted = pool(states(encoder, text))
            assert row == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)
    mean = DirectoryEncoder(str(directory)).fingerprint
    pooling(directory, pooling_mode_mean_tokens=True)
    assert DirectoryEncoder(str(directory)).fingerprint != mean
    pooling(directory, pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="pooling other than mean or cls"):
        DirectoryEncoder(str(directory))


def test_layers_behind_the_pooling_are_refused_by_name(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "encoder")
    pooling(folder, pooling_mode_mean_tokens=True)
    DirectoryEncoder(str(folder))
    pooling(folder, pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)
    with pytest.raises(ModelError, match="pooling other than mean or cls"):
        DirectoryEncoder(str(folder))
    pooling(folder, pooling_mode_mean_tokens=True)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 16, "out_features": 8}))
    with pytest.raises(ModelError, match="has a module Dense"):
        DirectoryEncoder(str(folder))
    parts = [{"path": f"{n}_{name}", "type": f"sentence_transformers.models.{name}"}
             for n, name in enumerate(("Transformer", "Pooling", "Normalize"))]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(parts))
    DirectoryEncoder(str(folder))
    parts.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match="has a module Dense"):
        DirectoryEncoder(str(folder))


def test_a_model_s_own_hidden_states(tmp_path: Path) -> None:
    import torch

    from mnemos.models.language import LocalModel

    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "f")
    encoder = make("model", model)
    assert encoder is not None
    found = encoder.encode(TEXTS)
    ids = torch.tensor([tokenizer(TEXTS[2])["input_ids"]])
    with torch.inference_mode():
        wanted = model.model.base_model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
    assert found[2] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)
    assert np.isfinite(found).all()
    assert ModelEncoder(model).width == 32
    with pytest.raises(ModelError, match="needs the weights"):
        make("model", object())
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        make(str(tmp_path), None)


def test_texts_that_come_again_are_encoded_once() -> None:
    class Counting:
        fingerprint, width = "c", 2

        def __init__(self) -> None:
            self.texts: list[str] = []

        def encode(self, texts: Any) -> Any:
            self.texts += texts
            return np.array([[len(text), 1] for text in texts], np.float32)

    inner = Counting()
    kept = Kept(inner)
    assert kept.encode(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    assert kept.encode(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert inner.texts == ["a", "bb", "ccc"]
    assert kept.encode([]).shape == (0, 2)
