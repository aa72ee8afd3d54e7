"""A network that hears, with what turns sounds and texts into its numbers."""

from __future__ import annotations

from typing import Any

from mnemos.models.recognisers.base import Recogniser
from mnemos.weights.checkpoint import explained, load_tokenizer, resolve


def wrapped(network: Any, path: str, fingerprint: str = "") -> Recogniser:
    """The recogniser around a network that was loaded, or trained, from `path`."""
    from transformers import AutoFeatureExtractor

    from mnemos.models.recognisers.ctc import CTCRecogniser
    from mnemos.models.recognisers.sequence import SequenceRecogniser

    folder = resolve(path, allow_pickle=False, trust_remote_code=False)
    cure = "copy preprocessor_config.json of the original model"
    with explained(folder, "what makes features of sound cannot be read", cure):
        processor = AutoFeatureExtractor.from_pretrained(folder)
    kind = SequenceRecogniser if getattr(network.config, "is_encoder_decoder", False) else CTCRecogniser
    return kind(network, processor, load_tokenizer(path), path, fingerprint)
