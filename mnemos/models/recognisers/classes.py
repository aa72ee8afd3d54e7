"""Which class of transformers loads which recogniser, and what such a checkpoint may lack."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.weights.adapter import adapter_base
from mnemos.weights.checkpoint import configuration_folder
from mnemos.weights.files import ADAPTER_CONFIG, CONFIGURATIONS, HUB_ID, is_recogniser, read_config

SPARE = ("masked_spec_embed",)
"""Ends of names of tensors that a checkpoint may lack: read only while training with masks, and drawn anew then."""


def class_for(folder: Path, config: Any) -> Any:
    """What loads a recogniser of this configuration: a class with `from_pretrained`. ModelError for what is none."""
    from transformers import AutoModelForCTC, WhisperForConditionalGeneration
    from transformers.models.auto import modeling_auto as auto

    from mnemos.models.recognisers.whisper_ctc import WHISPER_CTC, WhisperEncoderForCTC

    named_there = getattr(config, "architectures", None) or ()
    if WHISPER_CTC in named_there:
        return WhisperEncoderForCTC
    if config.model_type == "whisper":
        return WhisperForConditionalGeneration
    if config.model_type in auto.MODEL_FOR_CTC_MAPPING_NAMES:
        return AutoModelForCTC
    raise ModelError(
        f"{folder}: {', '.join(named_there) or config.model_type}",
        "is no recogniser of speech that is known here (a CTC class of transformers, or Whisper)",
        "name such a model",
    )


def hears(path: str) -> bool:
    """Whether a directory (a model's, or that of an adapter on one) or a hub id holds a recogniser. Of a hub id whose
    configuration can neither be found in the cache nor asked for nothing is known, and it is taken for a language
    model."""
    folder = Path(path)
    if not folder.exists() and HUB_ID.match(path):
        found = _configured(path)
        if found is None:
            return False
        folder = found
    if (folder / ADAPTER_CONFIG).is_file():
        folder = Path(adapter_base(folder))
    file = folder / "config.json"
    return file.is_file() and is_recogniser(read_config(file, CONFIGURATIONS[file.name]))


def without_embeddings(network: Any) -> Any:
    """The network, which says that it has no embeddings of tokens where transformers raises instead: adapters and
    whatever looks for tied weights ask every model."""
    try:
        network.get_input_embeddings()
    except NotImplementedError:
        network.get_input_embeddings = _none
    return network


def _none() -> None:
    return None


@lru_cache(maxsize=64)
def _configured(hub_id: str) -> Path | None:
    """The folder of a hub id's configuration; asked for once in a process."""
    try:
        return configuration_folder(hub_id)
    except ModelError:
        return None


def refuse_missing(folder: Path, missing: list[str]) -> list[str]:
    """The missing tensors that matter. ModelError where they are the head."""
    left = [name for name in missing if not name.endswith(SPARE)]
    if left and all(name.startswith(("lm_head.", "ctc_head.", "head.")) for name in left):
        raise ModelError(
            f"{folder}",
            f"has no CTC head ({', '.join(left)} is missing): it hears and cannot write",
            "name a model with one",
        )
    return left
