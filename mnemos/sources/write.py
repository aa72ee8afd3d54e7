"""The way back: an Example as a row of the files that `sources.read` reads, and a file of rows
that gives back exactly the examples that were put into it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError
from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.nouns import AudioPart, Example, Frozen, Part, TextPart, Turn, frozen, thawed
from mnemos.sources.tools import variables_of


def row_of(example: Example) -> dict[str, Any]:
    """A JSON row; reading it back gives an equal Example, up to its id's origin.

    A turn exempt from the loss is written with ``"train": false``; what the row gives to the chat template as
    `tools` and `chat_template_kwargs`.
    """
    row: dict[str, Any] = {"id": example.id, **example.meta, **beside(example.variables)}
    if example.kind == "text":
        return {**row, "text": example.turns[0].text}
    if example.kind == "completion":
        return {**row, "prompt": example.turns[0].text, "completion": example.turns[1].text}
    if example.kind == "preference":
        return {
            **row,
            "prompt": _messages(example.turns[: -len(example.rejected)]),
            "chosen": _messages(example.turns[-len(example.rejected) :]),
            "rejected": _messages(example.rejected),
        }
    row["messages"] = _messages(example.turns)
    return row if example.label is None else {**row, "label": example.label}


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    return [{**turn.message(), **_parts(turn), **({} if turn.learn else {"train": False})} for turn in turns]


def _parts(turn: Turn) -> dict[str, Any]:
    """The content of a turn with sounds, with the stretches that no chat template reads."""
    if isinstance(turn.content, str):
        return {}
    return {
        "content": [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {"type": "audio", "audio": part.path}
            | {name: value for name in ("start", "end") if (value := getattr(part, name)) is not None}
            for part in turn.content
        ]
    }


def beside(variables: Frozen) -> dict[str, Any]:
    """A row's variables under the names of their columns."""
    others = thawed(variables)
    tools = others.pop("tools", None)
    return {**({"tools": tools} if tools else {}), **({"chat_template_kwargs": others} if others else {})}


@dataclass(frozen=True)
class Kept:
    """The examples in a file that `keep` wrote. description: what people call them."""

    path: Path
    description: str = "kept rows"

    @property
    def fingerprint(self) -> str:
        """Of the file's content. Raises RunError when it is not there."""
        self._check()
        return file_fingerprint(self.path)

    def describe(self) -> str:
        """One line for people."""
        return self.description

    def __iter__(self) -> Iterator[Example]:
        self._check()
        return (_example_of(row) for row in read_jsonl(self.path))

    def _check(self) -> None:
        if not self.path.is_file():
            raise RunError(f"{self.path}", "has not been written yet", "run the study again")


def keep(path: str | os.PathLike[str], examples: Sequence[Example]) -> None:
    """Write examples atomically such that `Kept` gives equal ones; `sources.read` reads them too.

    A value in `meta` that JSON has no word for (a date, a NaN) is kept as text.
    """
    rows = []
    for example in examples:
        row = row_of(dataclasses.replace(example, meta={}))
        rows.append({**row, "kind": example.kind, "origin": example.origin, "meta": plain(example.meta)})
    write_jsonl(path, rows)


def plain(value: Any) -> Any:
    """A value as JSON has it: what JSON has no word for (a date, a NaN) as text."""
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def _example_of(row: Mapping[str, Any]) -> Example:
    kind = row["kind"]
    rejected: tuple[Turn, ...] = ()
    if kind == "text":
        turns: tuple[Turn, ...] = (Turn("text", row["text"]),)
    elif kind == "completion":
        turns = (Turn("prompt", row["prompt"]), Turn("completion", row["completion"]))
    elif kind == "preference":
        turns, rejected = _turns(row["prompt"]) + _turns(row["chosen"]), _turns(row["rejected"])
    else:
        turns = _turns(row["messages"])
    label, variables = row.get("label"), variables_of(row)
    return Example(row["id"], kind, turns, rejected, label, row["origin"], row["meta"], variables)


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    known = ("role", "content", "train")
    return tuple(
        Turn(
            one["role"],
            _content(one["content"]),
            one.get("train", True),
            frozen({name: value for name, value in one.items() if name not in known}),
        )
        for one in messages
    )


def _content(value: Any) -> str | tuple[Part, ...]:
    """What `_messages` wrote: a text, or parts."""
    if isinstance(value, str):
        return value
    return tuple(
        TextPart(part["text"])
        if part["type"] == "text"
        else AudioPart(part["audio"], part.get("start"), part.get("end"))
        for part in value
    )
