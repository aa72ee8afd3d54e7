"""Sound: clips out of files (wav, flac, mp3, ogg, whatever libsndfile reads), mono, at the rate that is asked for.

A clip that cannot be learned from is refused with a reason of few words, under which readers count it: "too short",
"too long", "silent", "damaged audio", "not finite". Files are hostile: a header says how long a file is before any
sample is read, no more than MOST_SECONDS are ever decoded, and decoding is libsndfile's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import UsageError
from mnemos.core.nouns import AudioPart
from mnemos.core.packages import missing
from mnemos.sources.bad_row import refuse

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au")
"""File names that a folder of sounds is searched for."""
MOST_SECONDS = 3600.0
"""Longer files are refused before they are decoded."""
RATES = (1_000, 768_000)
"""Sample rates in Hz that a header may name; libsoxr resamples between all of them."""
BLOCK = 1 << 16
"""Frames that are decoded at a time."""
CLIPPED_AT = 0.999
"""A sample of such a size counts as clipped."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """A stretch of sound. samples: float32[N] in [-1, 1], mono. rate: samples a second. path: the file it is from, ""
    for one that was made. id: its name among others. speaker: who speaks, "" where nobody says."""

    samples: Samples
    rate: int
    path: str = ""
    id: str = ""
    speaker: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate

    @property
    def clipped_share(self) -> float:
        """The share of samples at full scale: above a few in ten thousand a recording is distorted."""
        return float(np.mean(np.abs(self.samples) >= CLIPPED_AT)) if len(self.samples) else 0.0

    def at(self, rate: int) -> Clip:
        """The same at another sample rate, by libsoxr at its high quality; itself where it has that rate."""
        if rate == self.rate:
            return self
        return replace(self, samples=resampled(self.samples, self.rate, rate), rate=rate)


@dataclass(frozen=True)
class Bounds:
    """What a clip must be to be used. shortest, longest: seconds. silence: a clip whose root mean square is not above
    it is silent (1e-5 is -100 dB of full scale, below the noise of 16 bits)."""

    shortest: float = 0.05
    longest: float = 30.0
    silence: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.longest <= MOST_SECONDS:
            raise UsageError(
                f"seconds from {self.shortest:g} to {self.longest:g}",
                f"must rise, from 0 to {MOST_SECONDS:g}",
                "give the shorter bound first",
            )

    def check(self, clip: Clip, where: str) -> Clip:
        """The clip; RowError for one outside the bounds, by reason."""
        self.check_seconds(clip.seconds, where)
        if rms(clip.samples) <= self.silence:
            refuse("silent", where, f"is silent ({self.silence:g} of full scale or less)", "take the row out")
        return clip

    def check_seconds(self, seconds: float, where: str) -> None:
        """RowError for a length outside the bounds."""
        if seconds < self.shortest:
            refuse("too short", f"{where}: {seconds:.3f} s", f"is shorter than {self.shortest:g} s", "take it out")
        if seconds > self.longest:
            cure = "cut it at pauses, or raise the bound where the model hears so much at once"
            refuse("too long", f"{where}: {seconds:.1f} s", f"is longer than {self.longest:g} s", cure)


ANY = Bounds(0.0, MOST_SECONDS, silence=-1.0)
"""Bounds that everything with a length keeps."""


def read(path: str | Path, *, rate: int | None = None, part: AudioPart | None = None, bounds: Bounds = ANY) -> Clip:
    """The sound of a file, several channels averaged to one, at `rate` (Hz; None: its own).

    part: which stretch of it (seconds). bounds: what it must be. Raises RowError, whose `reason` a reader counts:
    "no such file", "damaged audio", "empty audio", "too short", "too long", "silent", "not finite"; UsageError where
    soundfile is not installed. Trap: a file that ends early decodes to what is there, and is refused as damaged where
    its header promised more.
    """
    soundfile = _soundfile()
    where = str(path)
    if not Path(path).is_file():
        # A pipe or a device is none either: opening one could wait for ever.
        refuse("no such file", where, "there is no such file", "check the path, which is relative to the data file")
    try:
        with soundfile.SoundFile(where) as file:
            start, frames = _stretch(file, part, where, bounds)
            file.seek(start)
            data = _decoded(file, frames)
            own, promised = int(file.samplerate), frames
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        refuse("damaged audio", where, f"cannot be decoded ({error})", "copy or record it again")
    # Lossy formats count their last block roughly; a tenth of a second is more than any of them rounds by.
    if len(data) < promised - max(own // 10, promised // 100):
        bound = f"ends after {len(data) / own:.2f} s of the {promised / own:.2f} s that its header promises"
        refuse("damaged audio", where, bound, "copy it again")
    if not np.isfinite(data).all():
        refuse(
            "not finite", where, "holds samples that are no finite numbers", "record it again, or mend its float data"
        )
    clip = Clip(data, own, where, Path(path).stem)
    bounds.check(clip, where)
    return clip if rate is None else clip.at(rate)


def _decoded(file: Any, frames: int) -> Samples:
    """float32[N]: as many of the next `frames` as there are, channels averaged. Block by block, so that memory follows
    what is there and not what a header promises."""
    blocks: list[Samples] = []
    while frames > 0:
        block = file.read(min(frames, BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block.mean(axis=1, dtype=np.float32))
        frames -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _stretch(file: Any, part: AudioPart | None, where: str, bounds: Bounds) -> tuple[int, int]:
    """(first frame, number of frames) to read. RowError where that cannot be."""
    total, rate = int(file.frames), int(file.samplerate)
    if not RATES[0] <= rate <= RATES[1]:
        refuse("damaged audio", f"{where}: {rate:,} Hz", f"a rate lies from {RATES[0]:,} to {RATES[1]:,} Hz", "mend it")
    start = 0 if part is None or part.start is None else round(part.start * rate)
    stop = total if part is None or part.end is None else min(total, round(part.end * rate))
    if total <= 0 or stop <= start or start < 0:
        refuse("empty audio", where, "holds no sample" if total <= 0 else "holds nothing of the stretch", "take it out")
    bounds.check_seconds((stop - start) / rate, where)
    return start, stop - start


def resampled(samples: Samples, old: int, new: int) -> Samples:
    """float32[round(N * new / old)] by libsoxr (https://sourceforge.net/projects/soxr), quality HQ, linear phase."""
    soxr = _package("soxr")
    found: Samples = soxr.resample(np.ascontiguousarray(samples, dtype=np.float32), old, new, quality="HQ")
    return found.astype(np.float32, copy=False)


def rms(samples: Samples) -> float:
    """Root mean square of the samples, in float64; 0 of none."""
    return math.sqrt(float(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def write(clip: Clip, path: str | Path) -> None:
    """The clip as a file of the format that the name ends in; 16 bits where the format counts them."""
    _soundfile().write(str(path), clip.samples, clip.rate)


def joined(clips: Sequence[Clip], pause: float = 0.0) -> Clip:
    """The clips behind one another, at the rate of the first, with `pause` seconds of silence in between."""
    rate = clips[0].rate
    gap = np.zeros(round(pause * rate), np.float32)
    parts = [part for clip in clips for part in (clip.at(rate).samples, gap)]
    speakers = {clip.speaker for clip in clips}
    return Clip(
        np.concatenate(parts[:-1]),
        rate,
        id="+".join(clip.id for clip in clips),
        speaker=speakers.pop() if len(speakers) == 1 else "",
    )


def _soundfile() -> Any:
    return _package("soundfile")


def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing("reading and resampling sound", name, why=error) from None
