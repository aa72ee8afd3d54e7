"""Sounds as discrete units: how a unit is written, and the rows that a language model learns from (arXiv:2305.11000).

A unit is the number of the nearest centre of a clustering (`models.units`). It is written `<|unit_12|>`, a token of its
own in a vocabulary that `mnemos tokenizer extend --tokens` has extended. SpeechGPT writes `<12>`, which stands in many
a text; this spelling hardly does, and a transcript that holds it is refused by name, because it would be read as sound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.sources.bad_row import refuse
from mnemos.sources.formats import COLUMNS
from mnemos.sources.media import COLUMNS as MEDIA
from mnemos.sources.write import plain

PATTERN = r"<\|unit_\d+\|>"
"""Every unit, and nothing else, as a regular expression."""
MOST = 100_000
"""Units that a clustering may have; SpeechGPT has 1,000."""
INPUT = "{input}"
"""Where units, or a transcript, stand in a prompt."""
PROMPTS = {
    "transcribe": f"Write down what is spoken. This is input: {INPUT}",
    "speak": f"Speak this text aloud. This is input: {INPUT}",
}
"""What is asked of each form that asks; SpeechGPT's prompts hold the words "This is input: " too."""

_UNIT = re.compile(r"<\|unit_(\d+)\|>")
Row = dict[str, Any]


def token(unit: int) -> str:
    """The token of a unit."""
    return f"<|unit_{unit}|>"


def tokens(count: int) -> list[str]:
    """The tokens of a clustering, by their units."""
    return [token(unit) for unit in range(count)]


def text_of(units: Iterable[int]) -> str:
    """Units as the language model reads them."""
    return "".join(map(token, units))


def units_of(text: str) -> list[int]:
    """The units in a text, in their order; whatever else stands there is passed over."""
    return [int(found[1]) for found in _UNIT.finditer(text)]


def refuse_spelled(text: str, where: str) -> None:
    """RowError for a text in which a unit's token is spelled: it would be read as sound."""
    found = _UNIT.search(text)
    if found is not None:
        refuse("text that spells a unit", f"{where}: {found[0]!r}", "would be read as sound", "take it out of the text")


def runs(units: Iterable[int]) -> tuple[list[int], list[int]]:
    """(units without consecutive repeats, how often each stood there). Trap: without the counts how long anything lasts
    is lost, and with it the rate of speech."""
    merged: list[int] = []
    counts: list[int] = []
    for unit in units:
        if merged and merged[-1] == unit:
            counts[-1] += 1
        else:
            merged.append(unit)
            counts.append(1)
    return merged, counts


def repeated(units: Sequence[int], counts: Sequence[int]) -> list[int]:
    """What `runs` was given."""
    return [unit for unit, count in zip(units, counts, strict=True) for _ in range(count)]


def _transcribe(units: str, text: str, prompt: str, chat: bool) -> Row:
    return _asked(prompt, units, text, chat)


def _speak(units: str, text: str, prompt: str, chat: bool) -> Row:
    return _asked(prompt, text, units, chat)


def _continue(units: str, text: str, prompt: str, chat: bool) -> Row:
    return {"text": units}


def _asked(prompt: str, given: str, answer: str, chat: bool) -> Row:
    question = prompt.replace(INPUT, given)
    if not chat:
        return {"prompt": f"{question}\n", "completion": answer}
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


FORMS: dict[str, Callable[[str, str, str, bool], Row]] = {
    "transcribe": _transcribe,
    "speak": _speak,
    "continue": _continue,
}
"""Rows that can be made of a clip: units -> text, text -> units, and units alone, which is SpeechGPT's first stage."""


def checked_prompt(prompt: str | None, form: str) -> str:
    """What is asked in a form. UsageError for a form that there is not, a prompt without its place, one that spells a
    unit, and one where nothing is asked."""
    if form not in FORMS:
        raise UsageError(f"form = {form!r}", f"must be one of {', '.join(FORMS)}", "transcribe is units to text")
    if prompt is None:
        return PROMPTS.get(form, "")
    if form not in PROMPTS:
        raise UsageError(f"prompt = {prompt!r}", f"form {form} asks nothing", "leave the prompt out")
    if prompt.count(INPUT) != 1:
        raise UsageError(f"prompt = {prompt!r}", f"must hold {INPUT} once", f"like {PROMPTS[form]!r}")
    if _UNIT.search(prompt):
        raise UsageError(f"prompt = {prompt!r}", "spells a unit, which would be read as sound", "take it out")
    return prompt


def row(
    units: Sequence[int],
    text: str,
    *,
    form: str,
    prompt: str,
    chat: bool = False,
    with_counts: bool = False,
    beside: Mapping[str, Any] | None = None,
) -> Row:
    """The row of one clip. units: one a frame, repeats and all. text: its transcript, "" where the form needs none.
    prompt: of `checked_prompt`. chat: as turns for a chat template, instead of raw text. with_counts: a column `counts`
    says how many frames each unit lasts. beside: other columns, those apart that a format reads.

    Raises RowError, whose reason a reader counts, for a text that spells a unit and for a form that needs a text where
    there is none.
    """
    refuse_spelled(text, "the transcript")
    if form != "continue" and not text.strip():
        refuse("no transcript", "text", "is empty or not there", "use --form continue, which learns units alone")
    merged, counts = runs(units)
    read = {*COLUMNS, *MEDIA, "label", "kto_tag", "counts", "file_name"}
    kept = {name: plain(value) for name, value in (beside or {}).items() if name not in read}
    made = FORMS[form](text_of(merged), text, prompt, chat)
    return {**kept, **made, **({"counts": counts} if with_counts else {})}
