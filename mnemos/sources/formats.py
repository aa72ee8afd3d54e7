"""What a row means: a table of formats, each with its columns and a function row -> turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnemos.core.nouns import Example, Frozen, Kind, Turn
from mnemos.sources.bad_row import RowError, refuse, text_of
from mnemos.sources.files import Raw
from mnemos.sources.media import COLUMNS as MEDIA
from mnemos.sources.media import refuse_media, refuse_placeholder
from mnemos.sources.messages import conversation
from mnemos.sources.pairs import REJECTED, beside, chosen_and_rejected
from mnemos.sources.parts import Parts, Row, answer_turns, answered, asked, given, instruction, joined, with_system
from mnemos.sources.speech import HEARD, QUESTIONS, SPEECH, SPOKEN_ANSWERS, heard, speech
from mnemos.sources.thumbs import ASKED, Labels, as_thumb, thumb_of
from mnemos.sources.tools import COLUMNS as BESIDE
from mnemos.sources.tools import variables_of


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
        refuse_media({key: value for key, value in row.items() if name not in (SPEECH, HEARD) or key != "audio"})
        thumb = _thumb(row, name, labels)
        pair = name in ANSWERS and any(row.get(column) for column in REJECTED)
        if thumb is not None:
            kind, turns, rejected = _label(row, name)
        else:
            kind, turns, rejected = beside(_chat(row, name), row) if pair else form.parts(row)
        variables = _variables(row, kind)
    except RowError as problem:
        raise problem.at(raw.where) from None
    used = frozenset().union(*form.needs) | form.takes | BESIDE | {*MEDIA, "id"}
    used |= {"label", "kto_tag"} if thumb is not None else {*REJECTED} if pair else set()
    meta = {key: value for key, value in row.items() if key not in used}
    return Example(_id(row, raw), kind, turns, rejected, thumb, "new", meta, variables, raw.where)


def _variables(row: Row, kind: Kind) -> Frozen:
    found = variables_of(row)
    if found and kind in ("text", "completion"):
        refuse(
            "tools without a chat",
            found[0][0],
            f"stands beside raw text (kind {kind}), which no chat template renders",
            "give messages, or take the column out",
        )
    return found


def _thumb(row: Row, name: str, labels: Labels) -> bool | None:
    """The thumb that makes a row of format `name` one of kind "label"; None for a row without."""
    if name in (SPEECH, HEARD):
        return None
    if name == "text":
        # A document is no answer, so its label can only be a class, where the user says that it is a text.
        if labels == "ask" and as_thumb(row.get("kto_tag", row.get("label"))) is not None:
            refuse("unclear label", f"label = {row.get('kto_tag', row.get('label'))!r}", *ASKED)
        return None
    pair = name == "preference" or any(row.get(column) for column in REJECTED)
    thumb = thumb_of(row, "class" if pair else labels)
    if pair and thumb is False:
        refuse(
            "two verdicts",
            "label = false beside chosen and rejected",
            "says again, or otherwise, which answer is good",
            "keep the pair or the label, and rename the other column",
        )
    if name == "label" and thumb is None:
        refuse("wrong type", f"label = {row.get('label')!r}"[:80], "must be true or false", "mend label")
    return None if pair else thumb


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
    return "messages", answered(with_system(row, conversation(row["messages"], "messages"))), ()


def _sharegpt(row: Row) -> Parts:
    return "messages", answered(with_system(row, conversation(row["conversations"], "conversations"))), ()


def _alpaca(row: Row) -> Parts:
    turns = []
    history = row.get("history") or ()
    if not isinstance(history, list | tuple):
        refuse("wrong type", f"history = {history!r}"[:80], "must be a list of pairs", "mend history")
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            refuse("wrong type", f"history = {pair!r}"[:80], "must be pairs [instruction, output]", "mend history")
        turns += [Turn("user", text_of(pair[0], "history")), Turn("assistant", text_of(pair[1], "history"))]
    turns += [instruction(row), Turn("assistant", text_of(row["output"], "output"))]
    return "messages", answered(with_system(row, tuple(turns))), ()


def _prompt_completion(row: Row) -> Parts:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion.strip():
            refuse("empty answer", "completion", "is empty", "give it text or take the row out")
        refuse_placeholder(prompt, "prompt")
        return "completion", (Turn("prompt", prompt), Turn("completion", completion)), ()
    if isinstance(prompt, str) or isinstance(completion, str):
        refuse("wrong type", "prompt and completion", "must both be text or both messages", "write both the same way")
    turns = given(conversation(prompt, "prompt")) + conversation(completion, "completion")
    return "messages", answered(turns), ()


def _question_answer(row: Row) -> Parts:
    turns = (joined(row, "context", "question"), Turn("assistant", text_of(row["answer"], "answer")))
    return "messages", answered(with_system(row, turns)), ()


def _preference(row: Row) -> Parts:
    return chosen_and_rejected(row) if {"chosen", "rejected"} <= set(row) else beside(_chat(row, "label"), row)


def _text(row: Row) -> Parts:
    text = text_of(row["text"], "text")
    if not text.strip():
        refuse("empty text", "text", "is empty", "give it text or take the row out")
    return "text", (Turn("text", text),), ()


def _label(row: Row, name: str = "label") -> Parts:
    return "label", _chat(row, name), ()


def _chat(row: Row, name: str) -> tuple[Turn, ...]:
    """A row of any format of answers as a chat, raw texts too."""
    if name == "label":
        name = next(one for one in ANSWERS if FORMATS[one].fits(row))
    if name != "prompt_completion":
        return FORMATS[name].parts(row)[1]
    return answered(given(asked(row["prompt"], "prompt")) + answer_turns(row["completion"], "completion"))


def _columns(*names: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(name.split()) for name in names)


FORMATS: dict[str, Format] = {
    "preference": Format(
        _columns(
            "chosen rejected",
            *(
                f"{columns} {worse}"
                for worse in REJECTED
                for columns in ("messages", "conversations", "instruction output", "prompt completion")
            ),
        ),
        frozenset({"prompt", "system", "messages", "conversations", "instruction", "input"}),
        _preference,
        '{"prompt": "…", "chosen": "…", "rejected": "…"}',
    ),
    "label": Format(
        _columns(
            *(
                f"{columns} {thumb}"
                for thumb in ("label", "kto_tag")
                for columns in ("prompt completion", "messages", "conversations", "instruction output")
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
    HEARD: Format(
        _columns(*(f"audio {question} {answer}" for question in QUESTIONS for answer in SPOKEN_ANSWERS)),
        frozenset({"start", "end", "system"}),
        heard,
        '{"audio": "clips/a.wav", "question": "Who speaks?", "answer": "A woman."}',
    ),
    SPEECH: Format(
        _columns("audio text"), frozenset({"start", "end"}), speech, '{"audio": "clips/a.wav", "text": "…"}'
    ),
    "text": Format(_columns("text"), frozenset(), _text, '{"text": "…"}'),
    # Behind all others: a sound's row has a question and an answer, too.
    "question_answer": Format(
        _columns("question answer"),
        frozenset({"context", "system"}),
        _question_answer,
        '{"question": "…", "answer": "…"}',
    ),
}
"""Every format by name, in the order in which detection tries them."""

ANSWERS = ("messages", "sharegpt", "alpaca", "prompt_completion", "question_answer")
"""Formats of a conversation with its answer."""

COLUMNS = frozenset().union(*(need for form in FORMATS.values() for need in (*form.needs, form.takes))) | {
    "id",
    *BESIDE,
    *REJECTED,
}
"""Every column name that some format reads."""
