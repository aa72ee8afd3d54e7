"""Clips for people: what they are in words and as a row of blocks in the terminal, and as a drawing (SVG)."""

from __future__ import annotations

import html
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from mnemos.core.errors import UsageError, printable
from mnemos.core.nouns import Example, Source
from mnemos.sources import audio
from mnemos.sources.bad_row import RowError

BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 72
COUNTED = 500
"""Rows whose sounds are read for the counts; more would make looking slow."""
WIDTH, HEIGHT, LEFT, LINE = 720, 120, 8, 18
"""Of one clip's drawing, in user units: the wave, its margin, and a line of text."""


def show(source: Source, count: int = 1, *, bounds: audio.Bounds | None = None) -> RenderableType:
    """The first `count` clips of rows of sound, and what the first 500 rows are: seconds in all, and what would be left
    out of a training, by reason."""
    examples = _first(source, count)
    parts: list[RenderableType] = [Text(printable(source.describe()), style="bold")]
    for example in examples[:count]:
        parts += [Rule(Text(printable(example.id)), align="left", characters="-"), *_lines(example)]
    parts += [Rule(characters="-"), Text(_counts(examples[:COUNTED], bounds or audio.Bounds()))]
    return Group(*parts)


def _first(source: Source, count: int) -> list[Example]:
    if count < 1:
        raise UsageError(f"count = {count}", "must be at least 1", "ask for one example or more")
    return list(itertools.islice(source, max(COUNTED, count)))


def clip_of(example: Example) -> audio.Clip:
    """The sound of a row, at its own rate. RowError where it cannot be read."""
    part = next(part for turn in example.turns for part in turn.sounds)
    return audio.read(part.path, part=part)


def _lines(example: Example) -> list[Text]:
    transcript = Text(printable(example.turns[-1].text), style="green")
    try:
        clip = clip_of(example)
    except RowError as problem:
        return [Text(printable(str(problem)), style="yellow"), transcript]
    return [Text(wave(clip)), Text(words(clip), style="dim"), transcript]


def words(clip: audio.Clip) -> str:
    """Length, rate, level, and what is wrong with it: "0.64 s, 8,000 Hz, -23.1 dB of full scale, peak 0.61"."""
    size = audio.rms(clip.samples)
    level = f"{20 * math.log10(size):.1f} dB of full scale" if size else "silent"
    peak = float(np.abs(clip.samples).max(initial=0.0))
    text = f"{clip.seconds:.2f} s, {clip.rate:,} Hz, {level}, peak {peak:.2f}"
    return text + (f", {100 * clip.clipped_share:.2g} % at full scale" if clip.clipped_share else "")


def wave(clip: audio.Clip, columns: int = COLUMNS) -> str:
    """The loudest sample of each of `columns` stretches, in nine heights; the clip's own peak is the highest."""
    peaks = np.abs(envelope(clip.samples, columns)).max(axis=1)
    highest = peaks.max(initial=0.0)
    steps = np.zeros(len(peaks), int) if highest == 0 else np.ceil(peaks / highest * (len(BLOCKS) - 1)).astype(int)
    return "".join(BLOCKS[step] for step in steps)


def envelope(samples: audio.Samples, places: int) -> npt.NDArray[np.float32]:
    """float32[P, 2]: lowest and highest sample of each of at most `places` equal stretches."""
    parts = np.array_split(samples, min(places, max(1, len(samples))))
    return np.array([(part.min(initial=0.0), part.max(initial=0.0)) for part in parts], np.float32)


def _counts(examples: Sequence[Example], bounds: audio.Bounds) -> str:
    seconds, reasons = 0.0, Counter[str]()
    for example in examples:
        try:
            clip = clip_of(example)
            bounds.check(clip, "")
            seconds += clip.seconds
        except RowError as problem:
            reasons[problem.reason] += 1
    left = "".join(f"; {count:,} left out: {reason}" for reason, count in reasons.items())
    first = "first " if len(examples) == COUNTED else ""
    return f"{first}{len(examples):,} rows, {seconds / 60:.1f} minutes of sound{left}"


def svg(source: Source, count: int = 1) -> str:
    """The first `count` clips as one drawing: wave, words and transcript below one another. RowError where a sound
    cannot be read."""
    clips = [(example, clip_of(example)) for example in _first(source, count)[:count]]
    each = HEIGHT + 3 * LINE
    inside = "\n".join(_drawn(example, clip, number * each) for number, (example, clip) in enumerate(clips))
    size = f'viewBox="0 0 {WIDTH + 2 * LEFT} {each * len(clips)}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{inside}\n</svg>\n'


def _drawn(example: Example, clip: audio.Clip, top: float) -> str:
    edges = envelope(clip.samples, WIDTH)
    middle, scale = top + HEIGHT / 2, HEIGHT / 2 / max(float(np.abs(edges).max(initial=0.0)), 1e-9)
    step = WIDTH / len(edges)
    # Along the highest samples to the right, back along the lowest: one shape.
    upper = [(LEFT + step * i, middle - scale * float(high)) for i, (_, high) in enumerate(edges)]
    lower = [(LEFT + step * i, middle - scale * float(low)) for i, (low, _) in enumerate(edges)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
    below = top + HEIGHT + LINE
    title, transcript = (_text(one) for one in (f"{example.id}: {words(clip)}", example.turns[-1].text))
    return (
        f'<polygon points="{points}" fill="currentColor" stroke="currentColor" stroke-width="0.5"/>\n'
        f'<text x="{LEFT}" y="{below}" fill="currentColor" opacity="0.7">{title}</text>\n'
        f'<text x="{LEFT}" y="{below + LINE}" fill="currentColor">{transcript}</text>'
    )


def _text(text: str, most: int = 110) -> str:
    shown = " ".join(printable(text).split())
    # Outside of escapes no character that XML forbids is left.
    return html.escape(shown if len(shown) <= most else shown[: most - 1] + "…")
