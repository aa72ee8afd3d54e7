"""Items that are asked about a sound: how the sound is put to a model, and what stands in its place as a control."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.cache import cache_folder
from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.nouns import AudioPart, Prompt
from mnemos.measure.items import Item
from mnemos.measure.tool_calls import offered
from mnemos.sources import audio
from mnemos.sources.bad_row import RowError
from mnemos.sources.speech import before_text

RATE = 16_000
"""Hz of sounds that are made here."""
SILENCE = 1e-4
"""Root mean square of what stands for silence; `audio.Bounds` calls a tenth of it silent."""
PAUSE = 0.5
"""Seconds of silence between the two sounds of a pair, as Dynamic-SUPERB's second phase joins them for models that
hear one (arXiv:2411.05361)."""


def asked(model: Any, item: Item) -> Prompt:
    """What the model is asked for an item: its prompt with tools, and its sound before the text of the last turn."""
    return with_sound(offered(model, item), item)


def with_sound(prompt: Prompt, item: Item) -> Prompt:
    """The prompt with the item's sound before the text of its last turn; itself where there is none."""
    if item.sound is None:
        return prompt
    *before, last = prompt.turns
    return replace(prompt, turns=(*before, replace(last, content=before_text(item.sound, last.text))))


def unheard(model: Any, suite: str, items: Sequence[Item]) -> dict[str, str]:
    """Why a sound cannot be put to the model, by item: it is missing or damaged, or longer than what is heard at once
    (`longest`, seconds, where the model has such a bound). Raises UsageError for a model that reads text alone."""
    sounding = [item for item in items if item.sound is not None]
    if sounding and not getattr(model, "hears", True):
        raise UsageError(
            f"suite {suite!r}", f"asks {model.name} about sounds, and it reads text alone", "measure a model that hears"
        )
    return {item.id: reason for item in sounding if (reason := _fault(model, item)) is not None}


def _fault(model: Any, item: Item) -> str | None:
    """Why the model cannot be given the item's sound, in the words of whoever reads it."""
    assert item.sound is not None
    render = getattr(getattr(model, "renderer", None), "prompt_ids", None)
    try:
        if render is not None:
            render(asked(model, item))
            return None
        clip = audio.read(item.sound.path, part=item.sound)
    except RowError as problem:
        return problem.reason
    return "longer than the model hears at once" if clip.seconds > getattr(model, "longest", math.inf) else None


def clustered(found: Sequence[tuple[Item, str]]) -> list[tuple[Item, str]]:
    """The items, those about one sound as one cluster where their rows name none: they are not independent."""
    prints = [None if item.sound is None else _print(item.sound) for item, _ in found]
    times = Counter(prints)
    return [
        (item if item.cluster or name is None or times[name] < 2 else replace(item, cluster=name), place)
        for (item, place), name in zip(found, prints, strict=True)
    ]


def controlled(settings: Any, found: Sequence[tuple[Item, str]], where: str) -> list[tuple[Item, str]]:
    """The items in clusters, with the sounds that `audio` of the settings asks for."""
    found = clustered(found)
    if settings.audio == "heard":
        return found
    if settings.audio == "absent":
        return [(replace(item, sound=None), place) for item, place in found]
    if settings.audio == "silence":
        return [(replace(item, sound=item.sound and silence_like(item.sound)), place) for item, place in found]
    others = _others([item.sound for item, _ in found if item.sound is not None], settings.audio_seed, where)
    return [(replace(item, sound=item.sound and others[_print(item.sound)]), place) for item, place in found]


def _others(sounds: Sequence[AudioPart], seed: int, where: str) -> Mapping[str, AudioPart]:
    """For each sound, by its print, another one: all in one cycle, drawn by seed, so that none keeps its own. Equal
    sounds under several names are one, or an item could be given its own back."""
    by_print = {_print(sound): sound for sound in sounds}
    if len(by_print) < 2:
        raise DataError(f"{where}: audio: shuffled", f"has {len(by_print)} different sound(s)", "at least 2 are needed")
    names = sorted(by_print)
    random.Random(f"another sound {seed}").shuffle(names)
    return {name: by_print[names[place - 1]] for place, name in enumerate(names)}


def _print(sound: AudioPart) -> str:
    try:
        own = file_fingerprint(sound.path)
    except OSError:
        own = sound.path  # it is missing in the measurement, with the reason
    return fingerprint([own, sound.start, sound.end])


def silence_like(sound: AudioPart) -> AudioPart:
    """As much silence, out of the cache: noise of 1e-4 of full scale (-80 dB), since what holds nothing but zeros is no
    recording and is refused where sounds are read. A sound that cannot be read stays, and the measurement says why."""
    try:
        seconds = audio.read(sound.path, part=sound).seconds
    except RowError:
        return sound
    size = max(1, round(seconds * RATE))
    return AudioPart(str(_cached(f"silence-{size}", lambda: audio.Clip(_hiss(size), RATE))))


def _hiss(size: int) -> audio.Samples:
    """float32[size]; the same for the same size."""
    return (SILENCE * np.random.default_rng(size).standard_normal(size)).astype(np.float32)


def joined(first: AudioPart, second: AudioPart) -> AudioPart:
    """Two sounds as one, with half a second of silence between, out of the cache."""
    name = fingerprint([_print(first), _print(second), PAUSE, RATE])
    clips = [first, second]
    return AudioPart(
        str(_cached(name, lambda: audio.joined([audio.read(one.path, rate=RATE, part=one) for one in clips], PAUSE)))
    )


def _cached(name: str, make: Callable[[], audio.Clip]) -> Path:
    place = cache_folder() / "sounds" / f"{name}.wav"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not there: two processes may write the same sound at once.
        temporary = place.with_name(f".{os.getpid()}-{place.name}")
        audio.write(make(), temporary)
        temporary.replace(place)
    return place
