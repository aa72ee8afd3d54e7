"""Suites of kind wer and cer: what a recogniser writes of a sound, against its transcript; of kind answer_wer and
answer_cer: what a language model answers to a prompt, such as one that holds a sound's discrete units.

Errors are the fewest substitutions, deletions and insertions of words (characters) that make one text of the other.
A suite's rate is the sum of errors over all items divided by the sum of reference words: an item's score is its errors
a word, and its weight its words, so that the weighted mean is that ratio, and intervals are those of the ratio.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, AudioPart, Example
from mnemos.measure.items import Item

BATCH = 64
"""Clips that are in memory at a time."""
LONGEST = 20_000
"""Words or characters of a transcript that are compared; a longer one is no transcript of a clip."""

_VARIANT = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""How the character before is drawn (an emoji in colour), not what is said."""
_MARKS = re.compile(r"[^\w\s']|_|(?<!\w)'|'(?!\w)")


def _basic(text: str) -> str:
    """Lower case, without marks but apostrophes inside words; accents, vowel signs and digits stay."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower()
    # Signs that sit on a letter are letters here: cut out, they would leave a word in pieces. x stands for both.
    shape = "".join("x" if inside else letter for letter, inside in zip(text, _in_words(text), strict=True))
    return "".join(" " if kept == " " else letter for letter, kept in zip(text, _MARKS.sub(" ", shape), strict=True))


def _in_words(text: str) -> Iterator[bool]:
    """Whether each character is a letter, a digit, or a sign on one (Unicode's Mn, Mc)."""
    inside = False
    for letter in text:
        sign = inside and unicodedata.category(letter) in ("Mn", "Mc") and not _VARIANT.match(letter)
        inside = sign or letter.isalnum()
        yield inside


def signed(items: Iterable[Item]) -> bool:
    """Whether words of the transcripts hold signs on letters that no letter of its own stands for."""
    texts = (unicodedata.normalize("NFKC", text).lower() for item in items for text in item.answers)
    return any(
        inside and not letter.isalnum() for text in texts for letter, inside in zip(text, _in_words(text), strict=True)
    )


def _english(text: str) -> str:
    """Whisper's rules for English (numbers as digits, contractions in full), without its table of spellings."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    found: str = EnglishTextNormalizer({})(text)
    return found


NORMALISERS: dict[str, Callable[[str], str]] = {"none": lambda text: text, "basic": _basic, "english": _english}
"""What is done to both texts before they are compared, by its name in a suite."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Of one transcript. units: of the reference, words or characters."""

    units: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions


def errors(reference: Sequence[str], written: Sequence[str]) -> Errors:
    """The fewest edits from `reference` to `written` (Levenshtein); of several ways that with most substitutions."""
    if max(len(reference), len(written)) > LONGEST:
        raise DataError(f"{max(len(reference), len(written)):,} units", f"at most {LONGEST:,} are compared", "cut it")
    # Per place in `written`: (edits, deletions and insertions among them) of turning reference[:i] into written[:j].
    row = [(j, j) for j in range(len(written) + 1)]
    for i, wanted in enumerate(reference, 1):
        above, row = row, [(i, i)]
        for j, found in enumerate(written, 1):
            edits, moved = above[j - 1]
            best = (edits + (wanted != found), moved)
            for edits, moved in (above[j], row[j - 1]):
                best = min(best, (edits + 1, moved + 1))
            row.append(best)
    edits, moved = row[-1]
    # Deletions and insertions differ by as much as the lengths do.
    insertions = (moved + len(written) - len(reference)) // 2
    return Errors(len(reference), edits - moved, moved - insertions, insertions)


def units(text: str, *, normaliser: str, kind: str) -> list[str]:
    """The words of a text (kind wer, answer_wer) or its characters, spaces between words included (cer, answer_cer)."""
    words = NORMALISERS[normaliser](text).split()
    return words if kind.endswith("wer") else list(" ".join(words))


def errors_of(settings: Any, item: Item, answer: Answer) -> Errors:
    """The errors of one answer; of several references of an item, those of the closest."""
    how = {"normaliser": settings.normaliser, "kind": settings.kind}
    written = units(answer.text or "", **how)
    return min((errors(units(text, **how), written) for text in item.answers), key=lambda one: one.total)


def score(settings: Any, item: Item, answer: Answer) -> tuple[float, None, float, str]:
    """Errors a word with the words as weight; the note says which errors."""
    found = errors_of(settings, item, answer)
    parts = (("substituted", found.substitutions), ("deleted", found.deletions), ("inserted", found.insertions))
    note = ", ".join(f"{count} {name}" for name, count in parts if count)
    return found.total / found.units, None, float(found.units), note


def check(settings: Any, item: Item, where: str) -> None:
    """Refuse an item without a sound, or whose transcript has no words to count errors by."""
    if item.sound is None:
        raise DataError(where, "has no audio", "audio: the path of a sound, relative to the suite's file")
    check_answer(settings, item, where)


def check_answer(settings: Any, item: Item, where: str) -> None:
    """Refuse an item whose transcript has no words to count errors by, and one without, or with several."""
    for text in item.answers:
        if not units(text, normaliser=settings.normaliser, kind=settings.kind):
            raise DataError(f"{where}: {text!r}", "has no word left to count errors by", "take the item out")
    if len(item.answers) != 1:
        found = "has several transcripts" if item.answers else "has no transcript"
        raise DataError(where, found, "errors are counted against one: answer: the transcript")


def items_at(settings: Any, folder: Path, where: str) -> list[tuple[Item, str]]:
    """The items of a suite with their places: from `data`, whatever training data may be, or `items`."""
    from mnemos.sources.bad_row import RowError
    from mnemos.sources.files import Raw
    from mnemos.sources.formats import example_of
    from mnemos.sources.read import read
    from mnemos.sources.speech import SPEECH, spoken

    if settings.data is not None:
        return [_item(example) for example in read(settings.data, format=SPEECH, columns=settings.columns)]
    out = []
    for number, row in enumerate(settings.items or (), 1):
        place = f"{where}: item {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place} = {row!r}", "must be a mapping", "write {audio: …, text: …}")
        found = spoken(row, folder, False, place)
        if isinstance(found, RowError):
            raise found
        out.append(_item(example_of(Raw(place, str(number), found), SPEECH)))
    return out


def _item(example: Example) -> tuple[Item, str]:
    [sound] = example.turns[0].sounds
    cluster = example.meta.get("cluster", example.meta.get("speaker"))
    made = Item(example.id, answers=(example.turns[-1].text,), cluster=None if cluster is None else str(cluster))
    return _with_sound(made, sound), example.place


def _with_sound(item: Item, sound: AudioPart) -> Item:
    import dataclasses

    return dataclasses.replace(item, sound=sound)


def prints(items: Iterable[Item]) -> list[Any]:
    """What the sounds of a suite's items are, by content."""
    from mnemos.sources.speech import sounds_in

    sounds = [item.sound for item in items if item.sound is not None]
    return [sounds_in({"audio": one.path} for one in sounds), [(one.start, one.end) for one in sounds]]


def transcribe(model: Any, suite: Any, refused: Callable[[str, str], Answer]) -> list[Answer]:
    """What a recogniser writes of each item; a sound that cannot be read or heard is missing, with the reason."""
    from mnemos.sources import audio
    from mnemos.sources.bad_row import RowError

    if not hasattr(model, "transcribe"):
        raise UsageError(
            f"suite {suite.name!r}", f"asks {model.name} to hear, which reads text alone", "measure a recogniser by it"
        )
    out: dict[str, Answer] = {}
    for start in range(0, len(suite.items), BATCH):
        clips, items = [], []
        for item in suite.items[start : start + BATCH]:
            try:
                clip = audio.read(item.sound.path, rate=model.rate, part=item.sound)
            except RowError as problem:
                out[item.id] = refused(item.id, problem.reason)
                continue
            if not model.shortest <= clip.seconds <= model.longest:
                why = "too short" if clip.seconds < model.shortest else "longer than the model hears at once"
                out[item.id] = refused(item.id, why)
                continue
            clips.append(clip)
            items.append(item)
        for item, text in zip(items, model.transcribe(clips, beam=suite.settings.beam), strict=True):
            out[item.id] = Answer(suite.name, item.id, text, True, len(text.split()))
    return [out[item.id] for item in suite.items]


def totals(settings: Any, items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, Any] | None:
    """What the errors of one side were, for the report: {units, substitutions, deletions, insertions, items, empty};
    None where nothing was heard. empty: answers without a word."""
    found = [
        (errors_of(settings, item, answer), answer)
        for item, answer in zip(items, answers, strict=True)
        if answer.text is not None
    ]
    if not found:
        return None
    sums = {name: sum(getattr(one, name) for one, _ in found) for name in Errors.__dataclass_fields__}
    empty = sum(not (answer.text or "").strip() for _, answer in found)
    return {**sums, "items": len(found), "empty": empty, "rate": _rate(sums)}


def _rate(sums: Mapping[str, int]) -> float:
    wrong = sums["substitutions"] + sums["deletions"] + sums["insertions"]
    return wrong / sums["units"] if sums["units"] else math.nan
