"""Sounds spelled in token ids: a vector that a bridge makes of a sound has an id as every token has.

An id from FIRST_SOUND (2**62) on names a window of sound by its samples, and which of its vectors is meant:

    bit 62 | 48 bits of the digest of the window's samples | 14 bits: the vector's number

So a row with sounds is a row of ids like any other: it is laid out, packed, joined, cut, decoded in slots that share
prefixes, and looked up, by code that knows of no sound, and only the model's embedding sees the difference
(`model.SpeechLanguageModel`). Ids depend on samples alone: they are the same in every process and every run.

What an id stands for is known to the process that spelled it (`_KNOWN`), which every copy of a model there shares.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import AudioPart
from mnemos.models.speech.bridges import MOST_VECTORS, bridge_of
from mnemos.models.speech.encoders import Encoder
from mnemos.sources import audio
from mnemos.sources.bad_row import refuse
from mnemos.sources.clips import Clips
from mnemos.sources.sound_marks import FIRST_SOUND, SpelledSound
from mnemos.weights.speech import SpeechConfig

NUMBER_BITS = 14
assert 1 << NUMBER_BITS == MOST_VECTORS
DIGEST_BITS = 62 - NUMBER_BITS
KEPT = 1024
"""Sounds whose ids are kept: a row is rendered several times in a row."""


@dataclass(frozen=True)
class Window:
    """A stretch of a sound that is encoded at once. digest: of its samples, 32 hex digits. part: the sound. rate:
    samples a second. start, length: in samples of the sound at that rate."""

    digest: str
    part: AudioPart
    rate: int
    start: int
    length: int

    @property
    def code(self) -> int:
        """The bits of the digest that stand in ids."""
        return int(self.digest, 16) & ((1 << DIGEST_BITS) - 1)


_KNOWN: dict[int, Window] = {}
_CLIPS: dict[int, Clips] = {}


def window_of(code: int) -> Window:
    """The window that an id's code names. ModelError where this process has not spelled it."""
    if code not in _KNOWN:
        raise ModelError(
            f"a token id that stands for sound {code:x}", "no row of this process spells it", "render its row first"
        )
    return _KNOWN[code]


def codes(ids: Any) -> tuple[Any, Any]:
    """(codes of windows, numbers of vectors) of ids of sounds, a tensor or an array of int64."""
    inside = ids - FIRST_SOUND
    return inside >> NUMBER_BITS, inside & (MOST_VECTORS - 1)


def samples_of(window: Window) -> npt.NDArray[np.float32]:
    """float32[N]: a window's samples, read again. DataError where the file has changed since it was spelled."""
    clip = _clips(window.rate)(window.part)
    found = clip.samples[window.start : window.start + window.length]
    if _digest(found) != window.digest:
        raise DataError(window.part.path, "has changed since its row was read", "run the same command again")
    return found


def _clips(rate: int) -> Clips:
    if rate not in _CLIPS:
        _CLIPS[rate] = Clips(rate, audio.ANY)
    return _CLIPS[rate]


def _digest(samples: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()[:32]


class Speller:
    """What a model reads for a sound, known from configurations alone (`sources.sound_marks.Hear`).

    transcribe: gives the words of a recogniser for a sound; None where the model is given none.
    """

    def __init__(self, config: SpeechConfig, transcribe: Callable[[AudioPart], str] | None = None) -> None:
        self.config, self.transcribe = config, transcribe
        self.encoder = None if config.encoder is None else Encoder(config.encoder)
        self.bridge = (
            None if config.bridge is None else bridge_of(config.bridge, f"{config.folder}/config.json: bridge")
        )
        self._spelled: OrderedDict[AudioPart, SpelledSound] = OrderedDict()

    def __call__(self, part: AudioPart) -> SpelledSound:
        """The sound's ids between its words. Raises RowError for a sound that cannot be heard."""
        if part not in self._spelled:
            ids = () if self.encoder is None else self._ids(part)
            words = "" if self.transcribe is None else self.transcribe(part)
            self._spelled[part] = SpelledSound(ids, self.config.before, f"{words}{self.config.behind}")
            if len(self._spelled) > KEPT:
                self._spelled.popitem(last=False)
        return self._spelled[part]

    def windows(self, part: AudioPart) -> list[Window]:
        """The stretches of a sound that are heard one after the other."""
        assert self.encoder is not None
        samples = _clips(self.encoder.rate)(part).samples
        if audio.rms(samples) <= audio.Bounds().silence:
            refuse("silent", part.path, "is silent", "take the row out")
        most = round(min(self.config.window_seconds, self.encoder.longest) * self.encoder.rate)
        starts = list(range(0, len(samples), most))
        # A rest too short for one frame is left out rather than a sound that is otherwise fine.
        pieces = [(start, samples[start : start + most]) for start in starts]
        pieces = [(start, one) for start, one in pieces if len(one) >= self.encoder.least]
        if not pieces:
            seconds = self.encoder.least / self.encoder.rate
            bound = f"is shorter than the {seconds:.3g} s that the encoder makes a frame of"
            refuse("too short", f"{part.path}: {len(samples)} samples", bound, "take it out")
        return [Window(_digest(one), part, self.encoder.rate, start, len(one)) for start, one in pieces]

    def _ids(self, part: AudioPart) -> tuple[int, ...]:
        assert self.encoder is not None
        assert self.bridge is not None
        ids: list[int] = []
        for window in self.windows(part):
            known = _KNOWN.get(window.code, window)
            if known.digest != window.digest:  # two of 2**48: never by chance
                raise ModelError(f"{part.path} and {known.part.path}", "share a code", "leave one of them out")
            # The latest place of a sound that lies in several: an earlier one may be gone.
            _KNOWN[window.code] = window
            count = self.bridge.vectors(self.encoder.frames(window.length))
            if count > MOST_VECTORS:
                bound = f"more than {MOST_VECTORS:,} vectors of one window"
                raise ModelError(f"{part.path}: {count:,}", bound, "lower window_seconds")
            ids += range(FIRST_SOUND + (window.code << NUMBER_BITS), FIRST_SOUND + (window.code << NUMBER_BITS) + count)
        return tuple(ids)
