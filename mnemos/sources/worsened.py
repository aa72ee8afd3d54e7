"""Rows whose sounds are made worse by seed (`sources.augment`), kept by content in the cache."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mnemos.core.cache import cache_folder
from mnemos.core.errors import DataError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.nouns import AudioPart, Example, Source, Turn
from mnemos.sources import audio
from mnemos.sources.augment import Worse


@dataclass(frozen=True)
class Worsened:
    """Of a share of the rows, drawn by id, the sound made worse. noise, room: a file of sound, or a folder of them."""

    rows: Source
    share: float
    noise: str | None
    snr: tuple[float, float]
    room: str | None
    speed: tuple[float, ...]
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the rows, and of all that they are made worse with, by content."""
        sounds = [[file_fingerprint(one) for one in files_at(place)] for place in (self.noise, self.room)]
        how = [self.share, self.snr, self.speed, self.seed]
        return fingerprint({"worsened": [self.rows.fingerprint, sounds, how]})

    def describe(self) -> str:
        """One line for people."""
        with_what = [
            *([f"noise at {self.snr[0]:g} to {self.snr[1]:g} dB"] if self.noise else []),
            *(["rooms"] if self.room else []),
            *([f"speeds {', '.join(f'{one:g}' for one in self.speed)}"] if self.speed else []),
        ]
        return f"{self.rows.describe()}, {100 * self.share:g} % of them in {', '.join(with_what)}"

    def __iter__(self) -> Iterator[Example]:
        noises, rooms = (tuple(_clip(path) for path in files_at(place)) for place in (self.noise, self.room))
        worse = Worse(noises, self.snr, rooms, self.speed)
        named = self.fingerprint
        for row in self.rows:
            drawn = self.share == 1 or random.Random(f"worse {self.seed} {row.id}").random() < self.share
            if not drawn or not any(turn.sounds for turn in row.turns):
                yield row
                continue
            yield dataclasses.replace(row, turns=tuple(self._turn(turn, row.id, worse, named) for turn in row.turns))

    def _turn(self, turn: Turn, name: str, worse: Worse, named: str) -> Turn:
        if isinstance(turn.content, str):
            return turn
        parts = (self._part(one, name, worse, named) if isinstance(one, AudioPart) else one for one in turn.content)
        return dataclasses.replace(turn, content=tuple(parts))

    def _part(self, part: AudioPart, name: str, worse: Worse, named: str) -> AudioPart:
        # By the row and by the file's content: the same row of the same source is made once on a machine.
        place = cache_folder() / "worsened" / f"{fingerprint([named, name, part, file_fingerprint(part.path)])}.wav"
        if not place.is_file():
            seed = int(fingerprint([self.seed, name]), 16) & 0x7FFFFFFF
            clip = worse(audio.read(part.path, part=part, bounds=audio.Bounds()), [seed])
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.with_name(f".{os.getpid()}-{place.name}")
            audio.write(clip, temporary)
            os.replace(temporary, place)
        return AudioPart(str(place))


def files_at(place: str | None) -> list[Path]:
    """The sounds at a place, by name; none where there is no place. DataError where there is nothing to hear."""
    if place is None:
        return []
    path = Path(place)
    if path.is_file():
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in audio.SUFFIXES) if path.is_dir() else []
    if not found:
        raise DataError(f"{place}", "holds no sounds", f"name a folder with {', '.join(audio.SUFFIXES)}")
    return found


@lru_cache(maxsize=64)
def _clip(path: Path) -> audio.Clip:
    return audio.read(path)
