"""Clips made worse on purpose, by seed: noise at a level, the echo of a room, another speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.sources.audio import Clip, Samples, resampled, rms

LEVEL_DB = -25.0
"""Decibels of full scale to which speech and noise are brought before they are mixed."""


def noisy(clip: Clip, noise: Clip, snr: float, *, start: int = 0, level: float = LEVEL_DB) -> Clip:
    """The clip in noise at a signal-to-noise ratio of `snr` decibels.

    The rule of MS-SNSD (arXiv:1909.08050), which Dynamic-SUTA (arXiv:2406.11064) follows: speech and noise are each
    scaled to a root mean square of `level` (dB of full scale, over the whole clip), the noise then by 10^(-snr / 20),
    and both are added. The noise begins at sample `start`, is repeated where it is shorter, and its level is that of
    the stretch that is heard. Raises DataError for a silent clip or noise. Trap: the sum may pass full scale, and is
    not cut.
    """
    heard = noise.at(clip.rate).samples
    if not len(heard):
        raise DataError(noise.id or noise.path or "the noise", "is empty", "name another")
    stretch = np.resize(np.roll(heard, -(start % len(heard))), len(clip.samples))
    speech = scaled(clip.samples, level, clip.id or clip.path)
    beside = scaled(stretch, level - snr, noise.id or noise.path)
    return replace(clip, samples=(speech + beside).astype(np.float32))


def scaled(samples: Samples, level: float, name: str = "a clip") -> Samples:
    """The samples at a root mean square of `level` decibels of full scale. DataError where they are silent."""
    size = rms(samples)
    if size == 0:
        raise DataError(name, "is silent, so no level can be given to it", "leave it out")
    return (samples * (10 ** (level / 20) / size)).astype(np.float32)


def in_room(clip: Clip, response: Clip) -> Clip:
    """The clip as heard in a room of this impulse response: convolved, cut to its own length, at its own level.

    The response's strongest sample is the direct sound and stands at 0, so that words stay where they were.
    """
    from scipy.signal import fftconvolve

    impulse = response.at(clip.rate).samples
    if not len(impulse) or not np.any(impulse):
        raise DataError(response.id or response.path or "the impulse response", "is silent", "name another")
    direct = int(np.argmax(np.abs(impulse)))
    wet = fftconvolve(clip.samples.astype(np.float64), impulse[direct:].astype(np.float64))[: len(clip.samples)]
    size, own = rms(wet), rms(clip.samples)
    return replace(clip, samples=(wet * (own / size if size else 1.0)).astype(np.float32))


def faster(clip: Clip, factor: float) -> Clip:
    """The clip played `factor` times as fast; pitch moves along, as in Ko et al. 2015 (speed perturbation)."""
    if not 0.25 <= factor <= 4:
        raise UsageError(f"speed = {factor:g}", "must lie from 0.25 to 4", "0.9 and 1.1 are usual")
    # As if it had been recorded at another rate: resampled from rate x factor to rate.
    return replace(clip, samples=resampled(clip.samples, round(clip.rate * factor), clip.rate))


@dataclass(frozen=True)
class Worse:
    """What may be done to a clip, drawn by seed. noises, rooms: one of each, where there are any. snr: decibels, drawn
    evenly between the two. speeds: one of these factors."""

    noises: tuple[Clip, ...] = ()
    snr: tuple[float, float] = (5.0, 5.0)
    rooms: tuple[Clip, ...] = ()
    speeds: tuple[float, ...] = ()

    def __call__(self, clip: Clip, seed: Sequence[int]) -> Clip:
        """Speed first, then the room, then noise, as they follow each other between a mouth and a microphone. The same
        seed and clip give the same samples."""
        random = np.random.default_rng(list(seed))
        # Drawn whether or not they are used, so that adding one kind changes none of the others.
        speed, room, noise, level, start = (random.random() for _ in range(5))
        if self.speeds:
            clip = faster(clip, self.speeds[int(speed * len(self.speeds))])
        if self.rooms:
            clip = in_room(clip, self.rooms[int(room * len(self.rooms))])
        if self.noises:
            beside = self.noises[int(noise * len(self.noises))].at(clip.rate)
            snr = self.snr[0] + level * (self.snr[1] - self.snr[0])
            clip = noisy(clip, beside, snr, start=int(start * len(beside.samples)))
        return clip
