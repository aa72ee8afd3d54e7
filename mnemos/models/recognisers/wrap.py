"""A network that hears, with what turns sounds and texts into its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.models.recognisers.base import Recogniser
from mnemos.weights.checkpoint import explained, load_tokenizer, resolve


def wrapped(network: Any, path: str, fingerprint: str = "") -> Recogniser:
    """The recogniser around a network that was loaded, or trained, from `path`."""
    from mnemos.models.recognisers.ctc import CTCRecogniser
    from mnemos.models.recognisers.sequence import SequenceRecogniser

    folder = resolve(path, allow_pickle=False, trust_remote_code=False)
    processor = processor_of(folder)
    kind = SequenceRecogniser if getattr(network.config, "is_encoder_decoder", False) else CTCRecogniser
    return kind(network, processor, load_tokenizer(path), path, fingerprint)


def processor_of(folder: Path) -> Any:
    """What makes features of sound; ModelError where the directory has none."""
    from transformers import AutoFeatureExtractor

    cure = "copy preprocessor_config.json of the original model"
    with explained(folder, "what makes features of sound cannot be read", cure):
        return AutoFeatureExtractor.from_pretrained(folder)
