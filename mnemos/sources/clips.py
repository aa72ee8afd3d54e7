"""Sounds by what names them, read again when they are needed again."""

from __future__ import annotations

from collections import OrderedDict

from mnemos.core.nouns import AudioPart
from mnemos.sources import audio

KEPT_SAMPLES = 1 << 26
"""Samples that stay in memory between passes over the rows (256 MB)."""


class Clips:
    """Sounds at one rate, within bounds; the latest `most` samples stay in memory."""

    def __init__(self, rate: int, bounds: audio.Bounds, most: int = KEPT_SAMPLES) -> None:
        self.rate, self.bounds, self.most = rate, bounds, most
        self._kept: OrderedDict[AudioPart, audio.Clip] = OrderedDict()
        self._samples = 0

    def __call__(self, part: AudioPart) -> audio.Clip:
        """The clip at the rate. Raises as `audio.read`."""
        if part in self._kept:
            self._kept.move_to_end(part)
            return self._kept[part]
        clip = audio.read(part.path, rate=self.rate, part=part, bounds=self.bounds)
        self._kept[part] = clip
        self._samples += len(clip.samples)
        while self._samples > self.most and len(self._kept) > 1:
            self._samples -= len(self._kept.popitem(last=False)[1].samples)
        return clip
