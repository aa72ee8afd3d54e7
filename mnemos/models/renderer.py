"""The renderer of a model that is not loaded: its tokenizer, its chat template, and what it reads for a sound."""

from __future__ import annotations

from typing import Any

from mnemos.sources.render import Renderer
from mnemos.weights.checkpoint import tokenizer_of
from mnemos.weights.speech import speech_folder


def renderer_of(handle: Any, tokenizer: Any = None) -> Renderer:
    """Of a model handle. tokenizer: the handle's, where it was read already. Raises as `tokenizer_of`."""
    hear = None
    if speech_folder(handle.path) is not None:
        from mnemos.models.speech.files import hear_of

        hear = hear_of(handle.path)
    return Renderer(tokenizer_of(handle) if tokenizer is None else tokenizer, hear=hear)
