"""A recogniser's words for sounds, written once and kept on disk by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.cache import cache_folder
from mnemos.core.nouns import AudioPart
from mnemos.models.recognisers.base import Recogniser
from mnemos.models.speech.spelling import Speller
from mnemos.sources import audio
from mnemos.sources.clips import Clips
from mnemos.weights.checkpoint import named
from mnemos.weights.speech import SpeechConfig

MOST_CHARACTERS = 4000
"""Of a transcript: a recogniser that repeats itself fills its whole context."""


class Transcripts:
    """Words of the recogniser at a place (directory or hub id), which `load` loads when a sound was never written down.

    A sound longer than the recogniser hears at once is written down piece by piece.
    """

    def __init__(self, place: str, load: Callable[[str], Recogniser]) -> None:
        self.place, self._load = place, load
        self._known: dict[AudioPart, str] = {}

    @cached_property
    def recogniser(self) -> Recogniser:
        """Loaded; ModelError for a model that is none."""
        return self._load(self.place)

    @cached_property
    def _folder(self) -> Path:
        return cache_folder() / "transcripts" / named(self.place)

    @cached_property
    def _clips(self) -> Clips:
        from transformers import AutoFeatureExtractor

        from mnemos.models.speech.encoders import encoder_folder

        return Clips(int(AutoFeatureExtractor.from_pretrained(encoder_folder(self.place)).sampling_rate), audio.ANY)

    def __call__(self, part: AudioPart) -> str:
        """The transcript, "" for nothing. Raises RowError for a sound that cannot be read."""
        if part not in self._known:
            self._known[part] = self._words(self._clips(part))
        return self._known[part]

    def _words(self, clip: Any) -> str:
        name = hashlib.sha256(np.ascontiguousarray(clip.samples, np.float32).tobytes()).hexdigest()[:32]
        file = self._folder / name[:2] / f"{name}.txt"
        try:
            return file.read_text(encoding="utf-8")[:MOST_CHARACTERS]
        except (OSError, ValueError):
            pass
        found = " ".join(one for one in self.recogniser.transcribe(self._pieces(clip)) if one)[:MOST_CHARACTERS]
        temporary = file.with_name(f".{os.getpid()}-{file.name}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(found, encoding="utf-8")
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
        return found

    def _pieces(self, clip: Any) -> list[Any]:
        most = min(self.recogniser.longest, 30.0)
        size = round(most * clip.rate)
        pieces = [clip.samples[start : start + size] for start in range(0, len(clip.samples), size)]
        least = max(1, round(self.recogniser.shortest * clip.rate))
        return [replace(clip, samples=one) for one in pieces if len(one) >= least]


def speller_of(config: SpeechConfig, load: Callable[[str], Recogniser]) -> Speller:
    """The speller of a configuration, with its recogniser's words where it has one. load: of a recogniser."""
    return Speller(config, None if config.recogniser is None else Transcripts(config.recogniser, load))
