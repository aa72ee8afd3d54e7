"""Suites of kind dynamic_superb: questions about sounds whose answer is a label (arXiv:2309.09510, 2411.05361).

A classification's instruction ends "The answer could be A, B, or C.", and these are its options; where none does, the
options are the labels of the task. An answer is read in three ways: it is the label (exact), the first option that it
names is the label (parsed; a number up to twelve may be named in numerals), or a judge says that it means the label. An
answer that names no option is unparsable, and wrong. That is the second phase's rule for answers that cannot be read:
with a share n of them, the score over those that can is multiplied by (1 - n), which is the mean over all with 0 for
the unparsable ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Answer, AudioPart, Prompt, Turn
from mnemos.measure.heard import controlled, joined
from mnemos.measure.items import Item
from mnemos.measure.sound_rows import instance_of, rows_at, sound_in, text_in
from mnemos.rewards.verifiers import LONGEST, normalise
from mnemos.sources.bad_row import RowError

DIMENSIONS = ("content", "semantics", "paralinguistics", "degradation", "speaker", "audio")
"""What Dynamic-SUPERB's tasks are about."""
DIMENSION_OF: Mapping[str, str] = {
    "transcript": "content", "digit": "content", "intent": "semantics", "emotion": "paralinguistics",
    "accent": "paralinguistics", "pitch": "paralinguistics", "volume": "paralinguistics", "speed": "paralinguistics",
    "noise": "degradation", "snr": "degradation", "room": "degradation", "speaker": "speaker", "gender": "speaker",
    "age": "speaker", "speakers": "speaker", "duration": "audio",
}  # fmt: skip
"""Where the attributes of rows that `mnemos listen rows` writes belong. Ours, not Dynamic-SUPERB's."""
MOST_LABELS = 64
"""A task of more labels than these is no classification, and its labels are no options."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""Options that an answer may write in numerals: "The digit spoken is 6." names six."""

_OPTIONS = re.compile(r"answer (?:could|can|should|may|might) be:? ((?:[^.]|\.(?=\S))*)", re.IGNORECASE)
_BETWEEN = re.compile(r",\s*(?:or\s+)?|\s+or\s+")

JUDGE = (
    "Question about a sound:\n{question}\n\nRight answer:\n{label}\n\nAnswer to be judged:\n{answer}\n\n"
    "Does the answer to be judged say the same as the right answer? Reply with yes or no."
)


def items_at(settings: Any, folder: Path, where: str) -> list[tuple[Item, str]]:
    """Items with their places: rows of audio (or file_name), instruction (or question) and label (or answer), with a
    second sound in audio2; `data` may be a folder with metadata.csv, or its instance.json."""
    instance = {} if settings.data is None else instance_of(Path(settings.data))
    found = []
    for row, name, place in rows_at(settings, folder, where):
        instruction, label = (text_in(row, _key(row, *keys), place) for keys in _COLUMNS)
        system = (Turn("system", settings.system),) if settings.system else ()
        item = Item(
            name,
            Prompt((*system, Turn("user", instruction))),
            options=options_of(instruction),
            answers=(label,),
            cluster=None if row.get("cluster") is None else str(row["cluster"]),
            category=settings.dimension or _dimension(row, instance),
            sound=_sound(row, place),
        )
        found.append((item, place))
    return controlled(settings, _with_labels(found), where)


_COLUMNS = (("instruction", "question"), ("label", "answer"))


def _key(row: Mapping[str, Any], first: str, second: str) -> str:
    return second if first not in row and second in row else first


def _dimension(row: Mapping[str, Any], instance: Mapping[str, Any]) -> str | None:
    words = instance.get("keywords")
    named = [row.get("dimension"), *(words if isinstance(words, list) else ())]
    found = (str(word).strip().lower() for word in named if isinstance(word, str))
    return next((word for word in found if word in DIMENSIONS), DIMENSION_OF.get(str(row.get("attribute"))))


def _sound(row: Mapping[str, Any], place: str) -> AudioPart:
    first = sound_in(row, place)
    if row.get("audio2") is None:
        return first
    try:
        return joined(first, AudioPart(str(row["audio2"])))
    except RowError as problem:
        raise problem.at(place) from None


def _with_labels(found: Sequence[tuple[Item, str]]) -> list[tuple[Item, str]]:
    """Items whose instruction names no options get the labels of the task, where these are few enough to be options."""
    labels = tuple(dict.fromkeys(item.answers[0] for item, _ in found))
    beside = labels if 1 < len(labels) <= MOST_LABELS and len(labels) < len(found) else ()
    return [(item if item.options else replace(item, options=beside), place) for item, place in found]


def options_of(instruction: str) -> tuple[str, ...]:
    """The options that an instruction names at its end: "The answer could be A, B, or C."; empty where it names none or
    one."""
    found = [*_OPTIONS.finditer(instruction)]
    if not found:
        return ()
    words = (word.strip().strip("\"'") for word in _BETWEEN.split(found[-1][1].strip().rstrip(".")))
    named = tuple(dict.fromkeys(word for word in words if word))
    return named if len(named) > 1 else ()


def check(settings: Any, item: Item, where: str) -> None:
    """Refuse a label that is none of the options that its own instruction names: no answer could be right."""
    if item.options and plain(item.answers[0]) not in map(plain, item.options):
        raise DataError(
            f"{where}: label {item.answers[0]!r}",
            f"is none of the options {list(item.options)[:8]}",
            "mend one of them",
        )


def plain(text: str) -> str:
    """Lower case, without white space around it: what Dynamic-SUPERB compares."""
    return text.strip().lower()


def first_named(text: str, options: Sequence[str]) -> str | None:
    """The option that an answer names first, as whole words in any case; the longest of those that begin at one place,
    None where it names none. `NUMBERS` are named by their numerals, too."""
    found = []
    for option in options:
        # A model that was told "six" answers "6" as often as not, and 60, 1.6 and 6:30 are not six.
        numeral = rf"|(?<![\w.,:]){NUMBERS.index(plain(option))}(?![\w:]|[.,]\d)" if plain(option) in NUMBERS else ""
        place = re.search(rf"(?<!\w){re.escape(plain(option))}(?!\w){numeral}", plain(text))
        if place is not None:
            found.append((place.start(), -len(option), option))
    return min(found)[2] if found else None


def readings(item: Item, text: str) -> tuple[bool, bool | None]:
    """(the answer is the label, the first option that it names is); the second is None for an answer that names none,
    and the same as the first for an item without options."""
    label = plain(item.answers[0])
    exact = plain(text) == label
    if not item.options:
        return exact, exact
    named = first_named(text, item.options)
    return exact, None if named is None else plain(named) == label


def scores(
    settings: Any, items: Sequence[Item], answers: Sequence[Answer]
) -> list[tuple[float, str | None, float, str]]:
    """1 where the answer is right as the suite reads it; the note has the readings that ask nobody."""
    judged = _judged(settings, items, answers) if settings.reading == "judged" else None
    out: list[tuple[float, str | None, float, str]] = []
    for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
        text = answer.text or ""
        if len(text) > LONGEST:
            out.append((math.nan, f"an answer of more than {LONGEST:,} characters", 1.0, ""))
            continue
        exact, parsed = readings(item, text)
        note = f"exact {exact:d}, " + ("unparsable" if parsed is None else f"parsed {parsed:d}")
        value = float(exact if settings.reading == "exact" else bool(parsed))
        if judged is not None:
            value, reason = judged[place]
            out.append((value, reason, 1.0, note))
        else:
            out.append((value, None, 1.0, note))
    return out


def _judged(settings: Any, items: Sequence[Item], answers: Sequence[Answer]) -> list[tuple[float, str | None]]:
    """What the judge says of each answer; missing where it says neither yes nor no."""
    from mnemos.core.nouns import Decoding
    from mnemos.models.load import handle

    # Filled in one pass: an answer may hold braces.
    prompts = []
    for item, answer in zip(items, answers, strict=True):
        assert item.prompt is not None
        given = {
            "question": item.prompt.turns[-1].text,
            "label": item.answers[0],
            "answer": (answer.text or "").strip(),
        }
        prompts.append(Prompt((Turn("user", re.sub(r"\{(\w+)\}", lambda found: given[found[1]], JUDGE)),)))  # noqa: B023
    said_of: list[tuple[float, str | None]] = []
    for verdict in handle(settings.judge).load().generate(prompts, Decoding(max_new_tokens=8)):
        word = normalise(verdict.text).split()[:1]
        unread = word not in (["yes"], ["no"])
        said_of.append((math.nan, "the judge says neither yes nor no") if unread else (float(word == ["yes"]), None))
    return said_of


def totals(items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Dimension -> {items, exact, parsed, unparsable, read} of one side: shares of all answered items; `read` is the
    share that is right among those that name an option, so that parsed = read (1 - unparsable)."""
    rows: dict[str, list[tuple[bool, bool | None]]] = {}
    for item, answer in zip(items, answers, strict=True):
        if answer.text is not None and len(answer.text) <= LONGEST:
            rows.setdefault(item.category or "", []).append(readings(item, answer.text))
    out = {}
    for name, found in rows.items():
        named = [parsed for _, parsed in found if parsed is not None]
        out[name] = {
            "items": len(found),
            "exact": sum(exact for exact, _ in found) / len(found),
            "parsed": sum(named) / len(found),
            "unparsable": 1 - len(named) / len(found),
            "read": sum(named) / len(named) if named else None,
        }
    return out
