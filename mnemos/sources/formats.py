"""What a row means: a table of formats, each with its columns and a function row -> turns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemos.core.nouns import Example, Kind, Turn
from mnemos.sources.files import Raw
from mnemos.sources.messages import ROLES, RowError, conversation, refuse, text_of
from mnemos.sources.thumbs import ASKED, Labels, as_thumb, thumb_of

Row = Mapping[str, Any]
Parts = tuple[Kind, tuple[Turn, ...], tuple[Turn, ...]]
"""kind, turns, rejected: what an Example is made of, but for its thumb."""


@dataclass(frozen=True)
class Format:
    """needs: alternatives of columns that must be there. takes: further columns that it reads.
    example: a row for error messages."""

    needs: tuple[frozenset[str], ...]
    takes: frozenset[str]
    parts: Callable[[Row], Parts]
    example: str

    def fits(self, columns: Iterable[str]) -> bool:
        """Whether rows with these columns can be read as this format."""
        there = set(columns)
        return any(need <= there for need in self.needs)


def example_of(raw: Raw, name: str, labels: Labels = "ask") -> Example:
    """The example that a row says in the format `name`; columns that the format does not read
    become `meta`. labels: what a label that is no boolean says. A row with a thumb is of kind "label" in
    every format of answers. Raises RowError with file and line, what was expected, and the cure."""
    if isinstance(raw.value, RowError):
        raise raw.value
    form = FORMATS[name]
    row = {key: value for key, value in raw.value.items() if value is not None}
    if not form.fits(row):
        missing = min((need - set(row) for need in form.needs), key=len)
        raise RowError(
            f"no {', '.join(sorted(missing))}",
            f"{raw.where}: columns {', '.join(sorted(row)) or 'none'}",
            f"a row of format {name} needs {' and '.join(sorted(missing))}",
            f"like {form.example}; columns with other names are given as columns: {{{min(missing)}: THEIR_NAME}}",
        )
    try:
        thumb = _thumb(row, name, labels)
        kind, turns, rejected = form.parts(row) if thumb is None else ("label", _chat(row, name), ())
    except RowError as problem:
        raise problem.at(raw.where) from None
    used = frozenset().union(*form.needs) | form.takes | {"id"} | (set() if thumb is None else {"label", "kto_tag"})
    meta = {key: value for key, value in row.items() if key not in used}
    return Example(_id(row, raw), kind, turns, rejected, thumb, meta=meta)


def _thumb(row: Row, name: str, labels: Labels) -> bool | None:
    """The thumb that makes a row of format `name` one of kind "label"; None for a row without."""
    if name == "text":
        # A document is no answer, so its label can only be a class, where the user says that it is a text.
        if labels == "ask" and as_thumb(row.get("kto_tag", row.get("label"))) is not None:
            refuse("unclear label", f"label = {row.get('kto_tag', row.get('label'))!r}", *ASKED)
        return None
    thumb = thumb_of(row, "class" if name == "preference" else labels)
    if name == "preference" and thumb is False:
        refuse(
            "two verdicts",
            "label = false beside chosen and rejected",
            "says again, or otherwise, which answer is good",
            "keep the pair or the label, and rename the other column",
        )
    if name == "label" and thumb is None:
        refuse("wrong type", f"label = {row.get('label')!r}"[:80], "must be true or false", "mend label")
    return None if name == "preference" else thumb


def detect(rows: Sequence[Row], labels: Labels = "ask") -> str | None:
    """The name of the first format in the table that every one of `rows` fits; None if there is none."""
    shown = [{key for key, value in row.items() if value is not None} for row in rows]
    for name, form in FORMATS.items():
        if rows and all(form.fits(columns) for columns in shown):
            if name == "label" and not all(_has_thumb(row, labels) for row in rows):
                continue  # A column called label is more often a class name than a thumb.
            return name
    return None


def _has_thumb(row: Row, labels: Labels) -> bool:
    label = row.get("label")
    return row.get("kto_tag") is not None or isinstance(label, bool) or (labels == "thumb" and label is not None)


def _id(row: Row, raw: Raw) -> str:
    value = row.get("id", raw.id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(
            "wrong type", f"{raw.where}: id = {value!r}", "must be text or a whole number", "mend or leave out id"
        )
    return str(value)


def _messages(row: Row) -> Parts:
    return "messages", _answered(_with_system(row, conversation(row["messages"], "messages"))), ()


def _sharegpt(row: Row) -> Parts:
    return "messages", _answered(_with_system(row, conversation(row["conversations"], "conversations"))), ()


def _alpaca(row: Row) -> Parts:
    turns = []
    for pair in row.get("history") or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            refuse("wrong type", f"history = {pair!r}"[:80], "must be pairs [instruction, output]", "mend history")
        turns += [Turn("user", text_of(pair[0], "history")), Turn("assistant", text_of(pair[1], "history"))]
    turns += [_instruction(row), Turn("assistant", text_of(row["output"], "output"))]
    return "messages", _answered(_with_system(row, tuple(turns))), ()


def _prompt_completion(row: Row) -> Parts:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion.strip():
            refuse("empty answer", "completion", "is empty", "give it text or take the row out")
        return "completion", (Turn("prompt", prompt), Turn("completion", completion)), ()
    if isinstance(prompt, str) or isinstance(completion, str):
        refuse("wrong type", "prompt and completion", "must both be text or both messages", "write both the same way")
    given = _given(conversation(prompt, "prompt"))
    return "messages", _answered(given + conversation(completion, "completion")), ()


def _text(row: Row) -> Parts:
    text = text_of(row["text"], "text")
    if not text.strip():
        refuse("empty text", "text", "is empty", "give it text or take the row out")
    return "text", (Turn("text", text),), ()


def _label(row: Row) -> Parts:
    return "label", _chat(row, "label"), ()


def _chat(row: Row, name: str) -> tuple[Turn, ...]:
    """A row of any format of answers as a chat, raw texts too."""
    if name == "label":
        name = next(one for one in _ANSWERS if FORMATS[one].fits(row))
    if name != "prompt_completion":
        return FORMATS[name].parts(row)[1]
    return _answered(_given(_asked(row["prompt"], "prompt")) + _said(row["completion"], "completion"))


def _given(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Turns of a prompt: answers in it are context."""
    return tuple(replace(turn, learn=False) if turn.role == "assistant" else turn for turn in turns)


def _preference(row: Row) -> Parts:
    if "conversations" in row or "messages" in row:
        name = "conversations" if "conversations" in row else "messages"
        prompt = conversation(row[name], name)
    elif "prompt" in row:
        prompt = _asked(row["prompt"], "prompt")
    else:
        prompt = (_instruction(row),) if "instruction" in row else ()
    good, bad = row["chosen"], row["rejected"]
    if not prompt and isinstance(good, str) and isinstance(bad, str):
        chosen, rejected = _transcripts(good, bad)
    else:
        chosen, rejected = _said(good, "chosen"), _said(bad, "rejected")
    if chosen[0].role != "assistant":
        # The whole conversation stands on both sides; a prompt column would only say it again.
        prompt = ()
    chosen, rejected = prompt + chosen, prompt + rejected
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(chosen), len(rejected)))
    if chosen == rejected:
        refuse("equal pair", "chosen and rejected", "are the same", "take the row out: it prefers nothing")
    if len(chosen) != same + 1 or len(rejected) != same + 1 or rejected[-1].role != "assistant" or same == 0:
        refuse(
            "no common prompt",
            f"chosen has {len(chosen)} turns, rejected {len(rejected)}, the first {same} in common",
            "must be one conversation with two last answers",
            'give {"prompt": ..., "chosen": ..., "rejected": ...}',
        )
    return "preference", _answered(_with_system(row, chosen)), _answered(rejected)[-1:]


def _asked(value: Any, where: str) -> tuple[Turn, ...]:
    return (Turn("user", value),) if isinstance(value, str) else conversation(value, where)


def _said(value: Any, where: str) -> tuple[Turn, ...]:
    if isinstance(value, str):
        return (Turn("assistant", value),)
    return conversation([value] if isinstance(value, Mapping) else value, where)


def _transcripts(good: str, bad: str) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Two strings that hold the whole conversation: transcripts of Human and Assistant, or texts
    that begin alike (the prompt is what they share, up to the last whole word)."""
    if "\n\nHuman:" in good and "\n\nAssistant:" in good:
        return _transcript(good), _transcript(bad)
    shared = os.path.commonprefix([good, bad])  # noqa: RUF071 - of characters
    shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]
    if not shared.strip():
        refuse(
            "no common prompt",
            "chosen and rejected",
            "are texts without a prompt, and begin differently",
            "add a column prompt",
        )
    asked = Turn("user", shared.rstrip())
    answers = [Turn("assistant", text[len(asked.content) :].lstrip()) for text in (good, bad)]
    return (asked, answers[0]), (asked, answers[1])


def _transcript(text: str) -> tuple[Turn, ...]:
    said = re.split(r"\n\n(Human|Assistant):", text)[1:]
    return tuple(Turn(ROLES[who.lower()], what.strip()) for who, what in zip(said[::2], said[1::2], strict=True))


def _instruction(row: Row) -> Turn:
    instruction, more = text_of(row["instruction"], "instruction"), text_of(row.get("input", ""), "input")
    asked = "\n\n".join(part for part in (instruction, more) if part.strip())
    if not asked:
        refuse("empty prompt", "instruction and input", "are both empty", "give one of them text")
    return Turn("user", asked)


def _with_system(row: Row, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    system = text_of(row.get("system", ""), "system")
    if not system.strip():
        return turns
    if turns and turns[0].role == "system":
        refuse("two system turns", "system", "stands both in a column and in the conversation", "keep one")
    return (Turn("system", system), *turns)


def _answered(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if not turns or turns[-1].role != "assistant":
        said = f"last turn: {turns[-1].role}" if turns else "no turns"
        refuse("no answer", said, "must be the assistant's, or there is nothing to learn", "add the answer")
    for number, turn in enumerate(turns, 1):
        if turn.role == "assistant" and turn.learn and not turn.content.strip():
            refuse("empty answer", f"turn {number} (assistant)", "is empty", "give it text or take the row out")
    return turns


def _columns(*names: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(name.split()) for name in names)


FORMATS: dict[str, Format] = {
    "preference": Format(
        _columns("chosen rejected"),
        frozenset({"prompt", "system", "messages", "conversations", "instruction", "input"}),
        _preference,
        '{"prompt": "…", "chosen": "…", "rejected": "…"}',
    ),
    "label": Format(
        _columns(
            *(
                f"{said} {thumb}"
                for thumb in ("label", "kto_tag")
                for said in ("prompt completion", "messages", "conversations", "instruction output")
            )
        ),
        frozenset({"system", "input", "history"}),
        _label,
        '{"prompt": "…", "completion": "…", "label": true}',
    ),
    "messages": Format(
        _columns("messages"),
        frozenset({"system"}),
        _messages,
        '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
    ),
    "sharegpt": Format(
        _columns("conversations"),
        frozenset({"system"}),
        _sharegpt,
        '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}',
    ),
    "alpaca": Format(
        _columns("instruction output"),
        frozenset({"input", "system", "history"}),
        _alpaca,
        '{"instruction": "…", "input": "", "output": "…"}',
    ),
    "prompt_completion": Format(
        _columns("prompt completion"), frozenset(), _prompt_completion, '{"prompt": "…", "completion": "…"}'
    ),
    "text": Format(_columns("text"), frozenset(), _text, '{"text": "…"}'),
}
"""Every format by name, in the order in which detection tries them."""

_ANSWERS = ("messages", "sharegpt", "alpaca", "prompt_completion")

COLUMNS = frozenset().union(*(need for form in FORMATS.values() for need in (*form.needs, form.takes))) | {"id"}
"""Every column name that some format reads."""
