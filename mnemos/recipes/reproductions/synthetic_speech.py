"""What the reproduction of learning from synthetic speech reads: real digits, parted so that the target has no speech.

Source: strings of the digits zero to four, real and as texts alone. Target: five to nine, of which only texts are
learned, so that all their real recordings can measure. A vector's scale is chosen within the source: its digits are
parted once more, zero to two for the vector and three and four as a target of which real speech is there to look at.
Every recording of a suite is heard once in it, and what is learned, chosen on and measured are different takes. Rows
of suites name no speaker: intervals are over utterances of these four people and say nothing of others.

A recogniser that learned the source's digits alone has never written half of the target's letters (i, v, s, x, g).
So all begin from one that can write: Whisper's encoder as it came, with a head that learned strings of all ten digits
from the same program. Tried instead: encoder and head trained on everyday requests by that program, which made the
encoder deaf to people (100 % of a target's real words wrong, with a vector and without).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.adaptation import DIGITS, PAUSE, SPEAKERS, read_digits, write_rows

SOURCE, TARGET = range(5), range(5, 10)
VECTOR, CHOICE = range(3), range(3, 5)
"""The source's digits again: of which the vector of a choice is made, and on which it is tried."""
TEST, DEV, TRAIN = range(10), range(10, 30), range(20, 50)
"""Takes that measure the source, that a scale is chosen on, and that are learned. Of the target, whose speech is never
learned, the first twenty measure; nor is that of the digits of a choice, before it is made."""
LEARNED, LENGTHS = 128, (3, 5)
"""Strings to learn of each domain, and their least and most digits."""
WORDS = 3
"""Digits of a string that measures."""
WRITTEN = 240
"""Strings of all ten digits that the head learns to write from."""

Recordings = dict[tuple[str, int, int], Any]


def digits(data: Path, out: Path) -> None:
    """Rows and suites. data: of third parties. out: the reproduction's folder."""
    below = out / "data"
    recordings = read_digits(data / "fsdd")
    for name, wanted, seed in (("source", SOURCE, 0), ("vector", VECTOR, 1)):
        strings = learned(recordings, wanted, seed)
        write_rows(below, f"{name}-real", strings)
        # The same texts: what differs between the two models of a vector is who speaks.
        write_texts(below, f"{name}-texts", [text for _, text, _ in strings])
    write_texts(below, "choice-texts", drawn_texts(CHOICE, LEARNED, 2))
    write_texts(below, "target-texts", drawn_texts(TARGET, LEARNED, 3))
    write_texts(below, "words-texts", drawn_texts((*SOURCE, *TARGET), LEARNED, 4, among=TARGET))
    write_texts(below, "letters", drawn_texts((*SOURCE, *TARGET), WRITTEN, 8))
    for name, wanted, takes, seed in (
        ("source-test", SOURCE, TEST, 5),
        ("choice-dev", CHOICE, DEV, 6),
        ("target-test", TARGET, range(20), 7),
    ):
        write_rows(below, name, [(clip, text, "") for clip, text, _ in cut(recordings, wanted, takes, seed)])


def learned(recordings: Recordings, wanted: Iterable[int], seed: int) -> list[tuple[Any, str, str]]:
    """(clip, text, speaker) of strings of these digits to learn, speakers in turn."""
    draw = np.random.default_rng(seed)
    out = []
    for place, text in enumerate(drawn_texts(wanted, LEARNED, seed)):
        speaker = SPEAKERS[place % len(SPEAKERS)]
        keys = [(speaker, DIGITS.index(word), int(draw.choice(TRAIN))) for word in text.split()]
        out.append(_string(recordings, keys, draw))
    return out


def drawn_texts(wanted: Iterable[int], count: int, seed: int, among: Sequence[int] = ()) -> list[str]:
    """Strings of these digits in words; with `among`, at least one of those in each."""
    draw, known = np.random.default_rng(seed), list(wanted)
    out: list[str] = []
    while len(out) < count:
        drawn = draw.choice(known, size=int(draw.integers(LENGTHS[0], LENGTHS[1] + 1)))
        if not among or any(digit in among for digit in drawn):
            out.append(" ".join(DIGITS[int(digit)] for digit in drawn))
    return out


def cut(recordings: Recordings, wanted: Iterable[int], takes: Iterable[int], seed: int) -> list[tuple[Any, str, str]]:
    """(clip, text, speaker) of strings in which each recording of these digits and takes is heard at most once."""
    draw, out = np.random.default_rng(seed), []
    digits, known = set(wanted), set(takes)
    for speaker in SPEAKERS:
        own = sorted(key for key in recordings if key[0] == speaker and key[1] in digits and key[2] in known)
        order = [own[int(at)] for at in draw.permutation(len(own))]
        for start in range(0, len(order) - WORDS + 1, WORDS):
            out.append(_string(recordings, order[start : start + WORDS], draw))
    return out


def _string(recordings: Recordings, keys: Sequence[tuple[str, int, int]], draw: Any) -> tuple[Any, str, str]:
    from mnemos.sources.audio import joined

    clip = joined([recordings[key] for key in keys], float(draw.uniform(*PAUSE)))
    return clip, " ".join(DIGITS[digit] for _, digit, _ in keys), keys[0][0]


def write_texts(below: Path, name: str, texts: Sequence[str]) -> None:
    """Rows of text alone, which `tts` has spoken."""
    below.mkdir(parents=True, exist_ok=True)
    write_jsonl(below / f"{name}.jsonl", [{"id": f"{name}-{at:04}", "text": text} for at, text in enumerate(texts)])


def page_table(results: Mapping[str, Any], suite: str) -> str:
    """A table of docs/speech.md: a suite's word error rate in % with its 95 % interval before and by arm, and below it
    the difference to plain."""
    from mnemos.report.markdown import table

    contrasts = results.get("contrasts") or {"arms": [], "suites": {}}
    names, against = contrasts["arms"], dict[str, list[float | None]]()
    for a, b, *numbers in contrasts["suites"].get(suite, ()):
        # The first arm less the second: turned round where plain is the first.
        if names[b] == "plain":
            against[names[a]] = numbers
        elif names[a] == "plain":
            delta, low, high = (None if value is None else -value for value in numbers)
            against[names[b]] = [delta, high, low]
    before = results["before"][suite]
    rows = [["before", _rate(before["mean"], before["low"], before["high"])]]
    for one in results["comparisons"]:
        if one["suite"] != suite:
            continue
        cell = _rate(one["after"])
        if one["arm"] in against:
            delta, low, high = against[one["arm"]]
            cell += f"<br>{_rate(delta, low, high, sign=True)}"
        rows.append([one["arm"], cell])
    return table(("", suite), rows)


def _rate(mean: float | None, low: float | None = None, high: float | None = None, sign: bool = False) -> str:
    from mnemos.report.words import figure, interval

    mean, low, high = (None if value is None else 100 * value for value in (mean, low, high))
    return f"{figure(mean, 'points', sign=sign)} {interval(low, high, 'points', sign=sign)}".rstrip()


def chosen_scale(choice: Mapping[str, Any]) -> str:
    """Of `spoken_choice.yaml` the arm with a vector that errs least on the source's real speech; of equal ones that of
    the smallest scale. Whether to add a vector at all is what the finding asks."""
    rates = {str(one["arm"]): float(one["after"]) for one in choice["comparisons"] if one["arm"] != "plain"}
    return min(rates, key=lambda arm: (rates[arm], arm))
