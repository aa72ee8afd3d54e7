"""The utterances of a study: read once, put into domains by the utterance's own draw, and in order by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.nouns import AudioPart, Example
from mnemos.sources.audio import Clip, read
from mnemos.sources.augment import noisy
from mnemos.sources.bad_row import RowError
from mnemos.sources.read import read as read_rows
from mnemos.study.adaptations.settings import Domain, SpeechSettings

KEPT = 64
"""Clips that are held at a time: methods hear a stream one after the other, and a buffer is heard again."""


@dataclass(frozen=True)
class Utterance:
    """What is said, and where it is heard. speaker: "" where nobody says."""

    id: str
    part: AudioPart
    text: str
    speaker: str


def utterances(location: str) -> dict[str, Utterance]:
    """By id, in the order of the file. DataError where no row has a sound and a transcript."""
    found: dict[str, Utterance] = {}
    for row in read_rows(location):
        sounds = row.turns[0].sounds if row.turns else ()
        if sounds and len(row.turns) == 2:
            found[row.id] = Utterance(row.id, sounds[0], row.turns[1].text, _speaker(row))
    if not found:
        raise DataError(f"{location}", "has no row with a sound and a transcript", "give columns audio and text")
    return found


def _speaker(row: Example) -> str:
    return str(row.meta.get("speaker") or "")


class Speech:
    """A study's utterances in their domains. An item is ``segment/domain/utterance``."""

    def __init__(self, settings: SpeechSettings) -> None:
        self.settings = settings
        self.stream = utterances(settings.data)
        self.old = {} if settings.old is None else utterances(settings.old)
        self.noises = {name: read(one.noise) for name, one in settings.domains.items() if one.noise is not None}
        self._clip = lru_cache(maxsize=KEPT)(self._made)

    @property
    def fingerprint(self) -> str:
        """Of everything that is heard."""
        # What stands in the journal as right or wrong is by the normaliser; the transcripts are not.
        how, apart = self.settings.normaliser, {"data", "old", "language_model", "normaliser"}
        noises = [one.noise for one in self.settings.domains.values() if one.noise is not None]
        return fingerprint(
            {
                "settings": self.settings.model_dump(mode="json", exclude=apart),
                "rows": [_print(self.stream), _print(self.old)],
                "noises": [file_fingerprint(path) for path in noises],
                **({} if how == "basic" else {"normaliser": how}),
            }
        )

    def order(self, segments: Sequence[str], seed: int) -> list[str]:
        """Items of a sequence of domains. Each segment draws its utterances by seed and place, none twice before all
        of them were heard once."""
        out, left = list[str](), list[str]()
        draw = np.random.default_rng([seed, len(self.stream)])
        known = sorted(self.stream)
        for place, domain in enumerate(segments):
            own: list[str] = []
            while len(own) < self.settings.utterances:
                if not left:
                    left = [known[int(at)] for at in draw.permutation(len(known))]
                own.append(left.pop())
            out += [f"{place}.{at}/{domain}/{name}" for at, name in enumerate(own)]
        return out

    def parts(self, item: str) -> tuple[str, Utterance]:
        """(domain, utterance) of an item."""
        _, domain, name = item.split("/", 2)
        return domain, self.stream[name]

    def clip(self, item: str) -> Clip:
        """The item as it sounds. DataError for a sound that cannot be heard."""
        clip: Clip = self._clip(item)
        return clip

    def _made(self, item: str) -> Clip:
        name, one = self.parts(item)
        # By utterance and not by place: the same utterance in the same domain sounds the same in every order.
        draw = np.random.default_rng(list(f"{name}/{one.id}".encode()))
        return self.heard_in(name, self.settings.domains[name], sound_of(one), draw)

    def heard_in(self, name: str, domain: Domain, clip: Clip, draw: np.random.Generator) -> Clip:
        """The clip in a domain."""
        if domain.noise is not None:
            noise = self.noises[name].at(clip.rate)
            return noisy(clip, noise, domain.snr, start=int(draw.integers(len(noise.samples))))
        if domain.gaussian is not None:
            white = domain.gaussian * draw.standard_normal(len(clip.samples))
            return replace(clip, samples=(clip.samples + white).astype(np.float32))
        return clip


def sound_of(one: Utterance) -> Clip:
    """The clip of an utterance at 16 kHz. DataError, with its reason, for one that cannot be heard."""
    try:
        return read(one.part.path, rate=16000, part=one.part)
    except RowError as error:
        raise DataError(one.id, str(error.reason), "see the file") from None


def _print(rows: Mapping[str, Utterance]) -> list[Any]:
    return [[one.id, file_fingerprint(one.part.path), one.part.start, one.part.end, one.text] for one in rows.values()]
