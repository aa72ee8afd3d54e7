"""Items: the rows of a suite, read from what people write and checked with file and line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import DataError, nearest
from mnemos.core.nouns import AudioPart, Frozen, Prompt, Turn
from mnemos.core.yaml_text import parse_yaml
from mnemos.sources import files
from mnemos.sources.bad_row import RowError
from mnemos.sources.media import refuse_media
from mnemos.sources.messages import conversation
from mnemos.sources.tools import COLUMNS as BESIDE
from mnemos.sources.tools import variables_of

_COLUMN = re.compile(r"\{(\w+)\}")
MAX_YAML_BYTES = 16 << 20
"""YAML is read at one go, and slowly."""

KEYS = (
    "id",
    "prompt",
    "messages",
    "text",
    "raw",
    "answer",
    "answers",
    "options",
    "expect",
    "language",
    "schema",
    "cluster",
    "solution",
    "turns",
    "criteria",
    "category",
    "instruction_id_list",
    "kwargs",
    "state",
    "end_state",
)
"""What a row may hold. Other columns are left alone, unless they look like one of these misspelt."""


NEW = ("solution", "turns", "criteria", "category", "instruction_id_list", "kwargs", "state", "end_state")
"""Keys for which no other column is taken for a slip of the pen: files had columns like them before these were keys."""


LONGEST_NAME = 100
"""Characters of a column's name that are looked at: five times those of the longest key are like none of them."""


@dataclass(frozen=True)
class Goal:
    """What functions work on and must leave, for kind tool_steps. state, end_state: JSON of objects, the latter None
    where the answer alone counts. match: how the answer is compared; None where the row's kind is another."""

    state: str
    end_state: str | None = None
    match: str | None = None


@dataclass(frozen=True)
class Item:
    """One thing to ask.

    id: unique within its suite; before and after are paired by it. prompt: what is put to the model
    (None for a text to be predicted). text: a document, for bits per byte. options: candidates of
    choice kinds, true: indices of the right ones. answers: acceptable references of generated kinds.
    expect: "refuse" or "answer". language: code of the expected answer language. schema: JSON schema
    of the answer. cluster: items that share it (a passage, a dialogue) are not independent. solution: a known
    right answer, which the tests of match: code are tried on; see `Suite.fingerprint`. follow_ups: further user turns,
    each asked after the model's reply to the one before. criteria: for a judge alone. category: for tables.
    tools_in: how the tools of a suite of kind tool_calls are handed over; None elsewhere. sound: what is heard, by
    its file; see `Suite.fingerprint`. goal: of kind tool_steps; see `Suite.fingerprint`.
    """

    id: str
    prompt: Prompt | None = None
    text: str | None = None
    options: tuple[str, ...] = ()
    true: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    expect: str | None = None
    language: str | None = None
    schema: Mapping[str, Any] | None = None
    cluster: str | None = None
    solution: str | None = field(default=None, compare=False)
    follow_ups: tuple[str, ...] = field(default=(), compare=False)
    criteria: str | None = field(default=None, compare=False)
    category: str | None = field(default=None, compare=False)
    tools_in: Literal["auto", "template", "prompt"] | None = field(default=None, compare=False)
    sound: AudioPart | None = field(default=None, compare=False)
    goal: Goal | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Row:
    """A row as written, with its place for messages."""

    where: str
    number: int
    values: Mapping[str, Any]


def rows_of(values: Iterable[Any], where: str) -> Iterator[Row]:
    """Rows written inside a suite file; where: the suite, for messages."""
    for number, value in enumerate(values, 1):
        place = f"{where}: item {number}"
        if not isinstance(value, Mapping):
            raise DataError(f"{place} = {value!r}", "must be a mapping", "write {prompt: …, answer: …}")
        yield Row(place, number, value)


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of an item file: .jsonl (one object a line), .json or .yaml (a list of objects), .txt (one
    text per paragraph, or per line where no blank line parts them); each may end in .gz. All but YAML are
    read as training data are. Raises DataError with file and line."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".yaml", ".yml")):
        yield from rows_of(_yaml(path), str(path))
        return
    if not name.endswith((".jsonl", ".json", ".txt")):
        raise DataError(f"{path}", "ends in none of .jsonl, .json, .yaml, .txt (.gz)", "rename or convert the file")
    for count, raw in enumerate(files.rows_of(path, str(path), "")):
        if isinstance(raw.value, RowError):
            raise raw.value
        # Items without an id are called by their line in a file of lines, else by their place.
        number = int(raw.id[1:]) if name.endswith(".jsonl") else count + 1
        yield Row(raw.where, number, raw.value)


def _yaml(path: Path) -> list[Any]:
    with files.opened(path) as stream:
        # One byte more than allowed tells that there is more, without reading the rest of a large or compressed
        # file.
        data = stream.read(MAX_YAML_BYTES + 1)
    if len(data) > MAX_YAML_BYTES:
        raise DataError(f"{path}", f"is longer than {MAX_YAML_BYTES >> 20} MiB", "write items as .jsonl")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}", "is not UTF-8", "convert it, e.g. with iconv -t utf-8") from None
    if not text.strip():
        raise DataError(f"{path}", "is empty", "a suite needs at least one item")
    value = parse_yaml(text, f"{path}", DataError)
    if not isinstance(value, list):
        raise DataError(f"{path}", "must hold a list of items", "one item a list entry")
    return value


def parse(
    row: Row,
    *,
    chat: bool,
    system: str | None,
    columns: Mapping[str, str],
    templates: Mapping[str, str] | None = None,
) -> Item:
    """An Item from a row. columns: expected key -> the row's own column. templates: expected key -> a text with
    columns in it. Raises DataError with the row's place for a missing, misspelt or mistyped value."""
    # A mapped column counts under its new key alone: what a data set calls `answer` may be read as the prompt.
    values = {key: value for key, value in row.values.items() if key not in columns.values()}
    for key, column in columns.items():
        if column not in row.values:
            raise DataError(f"{row.where}: column {column!r}", "is missing", f"columns: maps {key} to it")
        values[key] = row.values[column]
    values |= {key: _filled(key, template, row) for key, template in (templates or {}).items()}
    _refuse_misspelt(values, row.where)
    given = {key: value for key, value in values.items() if key in (*KEYS, *BESIDE) and value is not None}
    try:
        refuse_media(values)
        variables = variables_of(given)
    except RowError as problem:
        raise problem.at(row.where) from None
    options = _strings(given.get("options", ()), row.where, "options")
    return Item(
        id=_scalar(given.get("id", row.number), row.where, "id"),
        prompt=_prompt(given, row.where, chat, system, variables),
        text=_plain(given, "text", row.where),
        options=options,
        true=_true(given, options, row.where) if options else (),
        answers=() if options else _answers(given, row.where),
        expect=_expect(given, row.where),
        language=_plain(given, "language", row.where),
        schema=given.get("schema"),
        cluster=_scalar(given["cluster"], row.where, "cluster") if "cluster" in given else None,
        # A column of this name may be anything where answers are not run.
        solution=given["solution"] if isinstance(given.get("solution"), str) else None,
        follow_ups=_user_turns(given, row.where)[1:],
        criteria=_criteria(given, row.where),
        category=_scalar(given["category"], row.where, "category") if _is_scalar(given.get("category")) else None,
        goal=_goal(given),
    )


def _filled(key: str, template: str, row: Row) -> str:
    """The template with the row's own columns in it, each put in once: what a column holds is no template."""
    if key not in KEYS:
        raise DataError(f"{row.where}: templates: {key!r}", "is not a known key", nearest(key, KEYS))

    def column(found: re.Match[str]) -> str:
        if found[1] not in row.values:
            raise DataError(f"{row.where}: column {found[1]!r}", "is missing", f"the template of {key} names it")
        value = row.values[found[1]]
        # A list of texts, such as MBPP's tests, is put one a line.
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return "\n".join(value)
        return _scalar(value, row.where, found[1])

    return _COLUMN.sub(column, template)


def _refuse_misspelt(values: Mapping[str, Any], where: str) -> None:
    for key in values:
        if key not in KEYS and (meant := _meant(str(key)[:LONGEST_NAME])):
            raise DataError(f"{where}: key {key!r}", "is not a known key", f"did you mean {meant!r}?")


@lru_cache(maxsize=1024)
def _meant(key: str) -> str | None:
    """The key that another one looks like; compared once for a column, not once for each of its rows."""
    close = [one for one in difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8) if one not in NEW]
    return close[0] if close else None


def _prompt(given: Mapping[str, Any], where: str, chat: bool, system: str | None, variables: Frozen) -> Prompt | None:
    if "messages" in given and "prompt" in given:
        raise DataError(f"{where}", "has both prompt and messages", "keep one")
    if "messages" in given:
        value = given["messages"]
        # A list of dialogues of which there is one, as BFCL writes it.
        value = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) else value
        if not isinstance(value, list):
            raise DataError(f"{where}: messages", "must be a list of turns", "[{role: user, content: …}]")
        try:
            turns = conversation(value, "messages") if value else ()
        except RowError as problem:
            raise problem.at(where) from None
        if not turns:
            raise DataError(f"{where}: messages", "is empty", "end it with a user turn")
        if turns[-1].role == "assistant":
            raise DataError(f"{where}: messages", "ends with an assistant turn", "put the reference under answer:")
        start = () if system is None or turns[0].role == "system" else (Turn("system", system),)
        return Prompt((*start, *turns), variables)
    if "prompt" not in given:
        texts = _user_turns(given, where)
        # A dialogue of several turns is a chat, whatever the suite says of its prompts.
        start = () if system is None else (Turn("system", system),)
        return Prompt((*start, Turn("user", texts[0])), variables) if texts else None
    # An empty prompt asks what the model writes, or takes to be likely, at the start of a text.
    content = "" if given["prompt"] == "" else _plain(given, "prompt", where) or ""
    raw = given.get("raw", not chat)
    if not isinstance(raw, bool):
        raise DataError(f"{where}: raw = {raw!r}", "must be true or false", "true leaves the chat template out")
    if raw and variables:
        raise DataError(f"{where}: {variables[0][0]}", "stands beside a raw prompt", "set chat: true, or take it out")
    if raw:
        return Prompt((Turn("prompt", content),))
    start = () if system is None else (Turn("system", system),)
    return Prompt((*start, Turn("user", content)), variables)


def _user_turns(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The turns of a dialogue that the model is led through, where `turns` is a list of texts. A column of this name
    that holds something else is the row's own affair, as long as a prompt stands beside it."""
    value = given.get("turns")
    if value is None or "prompt" in given or "messages" in given or "text" in given:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise DataError(f"{where}: turns", "must be a list of texts, none empty", "one user turn an entry")
    return tuple(value)


def _criteria(given: Mapping[str, Any], where: str) -> str | None:
    value = given.get("criteria")
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(f"- {one}" for one in value)
    # A column of this name may be anything where no judge reads it.
    return value if isinstance(value, str) and value.strip() else None


def _goal(given: Mapping[str, Any]) -> Goal | None:
    """The row's state and what must be left of it, where both are objects that JSON can write; columns of these names
    may be anything where no function reads them."""
    start, end = given.get("state"), given.get("end_state")
    if not isinstance(start, Mapping) or not isinstance(end, Mapping | None):
        return None
    try:
        left = None if end is None else json.dumps(end, allow_nan=False)
        return Goal(json.dumps(start, allow_nan=False), left)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _plain(given: Mapping[str, Any], key: str, where: str) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {key} = {value!r}", "must be a text that is not empty", "quote it")
    return value


def _scalar(value: Any, where: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(
            f"{where}: {key} = {value!r}", "must be a text or a number", "quote it (YAML reads yes as true)"
        )
    return str(value)


def _strings(value: Any, where: str, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: {key} = {value!r}", "must be a list", f"{key}: [first, second]")
    return tuple(_scalar(entry, where, key) for entry in value)


def _answers(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if "answers" in given and "answer" in given:
        raise DataError(where, "has both answer and answers", "keep one")
    value = given.get("answers", [given["answer"]] if "answer" in given else [])
    if not value and "instruction_id_list" in given:
        # What IFEval's rows give in place of an answer.
        value = [[given["instruction_id_list"], given.get("kwargs")]]
    if not isinstance(value, list):
        raise DataError(f"{where}: answers = {value!r}", "must be a list", "one acceptable answer an entry")
    return tuple(json.dumps(v) if isinstance(v, dict | list) else _scalar(v, where, "answer") for v in value)


def _true(given: Mapping[str, Any], options: tuple[str, ...], where: str) -> tuple[int, ...]:
    if len(set(options)) < len(options) or len(options) < 2:
        raise DataError(f"{where}: options", "must be at least two, all different", "drop the repeated one")
    value = given.get("answers", [given["answer"]] if "answer" in given else [])
    found = []
    for entry in value if isinstance(value, list) else [value]:
        # An integer is a place, unless it is itself the text of an option: of [3, 5, 7] the answer 5 is the second
        # one, not a place beyond the end.
        index = isinstance(entry, int) and not isinstance(entry, bool) and str(entry) not in options
        if index and not 0 <= entry < len(options):
            raise DataError(f"{where}: answer {entry}", f"is no index into {len(options)} options", "the first is 0")
        if not index and _scalar(entry, where, "answer") not in options:
            raise DataError(f"{where}: answer {entry!r}", "is not among the options", "copy one, or give its index")
        found.append(int(entry) if index else options.index(str(entry)))
    if not found:
        raise DataError(where, "names no right option", "answer: the text of one, or its index from 0")
    return tuple(sorted(set(found)))


def _expect(given: Mapping[str, Any], where: str) -> str | None:
    value = given.get("expect")
    if value is not None and value not in ("refuse", "answer"):
        raise DataError(f"{where}: expect = {value!r}", "must be refuse or answer", "refuse: the item is harmful")
    return value
