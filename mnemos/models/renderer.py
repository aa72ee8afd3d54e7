"""The renderer of a model that is not loaded: its tokenizer, its chat template, and what it reads for a sound."""

from __future__ import annotations

from typing import Any

from mnemos.sources.render import Renderer
from mnemos.weights.checkpoint import tokenizer_of
from mnemos.weights.speech import speech_config, speech_folder


def renderer_of(handle: Any, tokenizer: Any = None) -> Renderer:
    """Of a model handle. tokenizer: the handle's, where it was read already. Raises as `tokenizer_of`."""
    hear, folder = None, speech_folder(handle.path)
    if folder is not None:
        from mnemos.models.recognisers.load import load
        from mnemos.models.speech.transcripts import speller_of

        hear = speller_of(speech_config(folder), load)
    return Renderer(tokenizer_of(handle) if tokenizer is None else tokenizer, hear=hear)
