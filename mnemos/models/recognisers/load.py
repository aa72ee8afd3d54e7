"""A directory -> the recogniser that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.models.recognisers.base import Recogniser
from mnemos.weights.checkpoint import explained, load_tokenizer, named, resolve


def load(path: str | Path, *, device: str | None = None) -> Recogniser:
    """The recogniser of a Hugging Face directory or hub id, in eval mode, in float32.

    device: where it computes; a GPU if there is one unless given. Raises ModelError for a model that is no recogniser,
    one without a CTC head (an encoder alone: give it one), and for whatever `models.load` refuses.
    """
    import torch

    from mnemos.models.load import load_model

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = load_model(str(path), hears=True).to(where)
    return wrapped(network, str(path), named(str(path)))


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
