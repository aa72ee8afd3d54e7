"""Writing the directory of a language model that listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnemos.core.files import write_json
from mnemos.core.places import resolved
from mnemos.models.speech.bridges import bridge_of, settings_of
from mnemos.weights.speech import ARCHITECTURE, MODEL_TYPE, SpeechConfig

MOST_BYTES = "5GB"
"""Of one file of weights."""


def write_directory(folder: Path, config: SpeechConfig, text_config: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Write config.json, which refers to the parts of `config` where they are, and the weights."""
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    there = {name: _in_full(place) for name, place in config.parts.items()}
    write_json(folder / "config.json", written(replace(
        config, folder=folder, language=there["language"], encoder=there.get("encoder"),
        recogniser=there.get("recogniser"), text=text_config.to_dict(),
    )))  # fmt: skip
    tensors = {name: one.detach().contiguous().cpu() for name, one in state.items()}
    if tensors:
        save_torch_state_dict(tensors, folder, max_shard_size=MOST_BYTES, metadata={"format": "pt"})


def _in_full(place: str) -> str:
    return str(resolved(Path(place))) if Path(place).is_dir() else place


def written(config: SpeechConfig) -> dict[str, Any]:
    """config.json's object."""
    return {
        "model_type": MODEL_TYPE,
        "architectures": [ARCHITECTURE],
        "language_model": config.language,
        "encoder": config.encoder,
        "recogniser": config.recogniser,
        "bridge": None if config.bridge is None else settings_of(bridge_of(config.bridge)),
        "window_seconds": config.window_seconds,
        "before": config.before,
        "behind": config.behind,
        "audio_lora": config.audio_lora,
        "dtype": "float32",
        "text_config": {name: one for name, one in config.text.items() if name != "_name_or_path"},
    }
