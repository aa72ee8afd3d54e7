"""What can be measured of a clip instead of being believed: how loud it is, how high a voice, how fast it speaks."""

from __future__ import annotations

import math

import numpy as np

from mnemos.sources.audio import Clip, rms

FRAME, HOP = 0.04, 0.02
"""Seconds of a frame in which a pitch is looked for, and between two of them: two periods of the lowest voice."""
LOWEST, HIGHEST = 60.0, 400.0
"""Hz between which a voice is looked for."""
VOICED = 0.7
"""Normalised cross-correlation from which a frame counts as voiced."""
NEAR_BEST = 0.9
"""The shortest lag whose correlation is so close to the best one is taken: multiples of a period fit as well."""
LEAST_FRAMES, FEWEST_WORDS = 5, 3
LISTENED_SECONDS = 30.0
"""Of a longer clip the pitch is that of its beginning."""


def volume_db(clip: Clip) -> float:
    """Root mean square in decibels of full scale; -inf of silence."""
    size = rms(clip.samples)
    return 20 * math.log10(size) if size else -math.inf


def words_per_second(text: str, seconds: float) -> float | None:
    """Words of a transcript over the clip's length, pauses included; None of fewer than three words, whose speed is no
    more than the length of the words, and of no length."""
    words = len(text.split())
    return words / seconds if words >= FEWEST_WORDS and seconds > 0 else None


def pitch_hz(clip: Clip) -> float | None:
    """The median fundamental frequency of the voiced frames in Hz; None where fewer than five are voiced.

    Per frame x of N samples, the lag t in [rate / 400, rate / 60] at which
    sum x[i] x[i + t] / sqrt(sum x[i]^2 sum x[i + t]^2) is largest, the shortest of those within 0.9 of it (Talkin's
    normalised cross-correlation, 1995, without its dynamic programming). Trap: noise with a hum has a pitch as well;
    ask it only of clips in which a voice is louder than what is beside it.
    """
    rate = clip.rate
    size, hop = round(FRAME * rate), max(1, round(HOP * rate))
    short, long = max(1, math.floor(rate / HIGHEST)), math.ceil(rate / LOWEST)
    samples = clip.samples[: round(LISTENED_SECONDS * rate)].astype(np.float64)
    frames = range(0, len(samples) - size - long, hop)
    if not frames:
        return None
    # The frames of speech are far louder than those between words; 30 dB below the loudest nothing is looked for.
    loud = 10 ** (-30 / 20) * max(float(np.sqrt(np.mean(samples[at : at + size] ** 2))) for at in frames)
    found = []
    for at in frames:
        window = samples[at : at + size + long]
        window = window - window.mean()
        head = window[:size]
        if np.sqrt(np.mean(head**2)) <= loud:
            continue
        products = np.correlate(window, head, "valid")  # one value for each lag from 0 to `long`
        sums = np.concatenate(([0.0], np.cumsum(window**2)))
        energy = np.sqrt(sums[size] * (sums[size:] - sums[:-size]))
        likeness = products[short:] / np.maximum(energy[short:], 1e-12)
        best = float(likeness.max())
        if best < VOICED:
            continue
        # The first local maximum near the best: its first sample alone would lie on the peak's slope.
        lag = int(np.argmax(likeness >= NEAR_BEST * best))
        while lag + 1 < len(likeness) and likeness[lag + 1] > likeness[lag]:
            lag += 1
        found.append(rate / (short + lag))
    return float(np.median(found)) if len(found) >= LEAST_FRAMES else None
