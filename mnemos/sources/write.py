"""The way back: an Example as a row of the files that `sources.read` reads."""

from __future__ import annotations

from typing import Any

from mnemos.core.nouns import Example, Turn


def row_of(example: Example) -> dict[str, Any]:
    """A JSON row; reading it back gives an equal Example, up to its id's origin.

    A turn exempt from the loss is written with ``"train": false``.
    """
    row: dict[str, Any] = {"id": example.id, **example.meta}
    if example.kind == "text":
        return {**row, "text": example.turns[0].content}
    if example.kind == "completion":
        return {**row, "prompt": example.turns[0].content, "completion": example.turns[1].content}
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
    return [{"role": turn.role, "content": turn.content, **({} if turn.learn else {"train": False})} for turn in turns]
