"""Answers that the chat template rewrites: refused, masked, each in a row of its own, or learned as they come out.

Templates of reasoning models drop the reasoning of earlier answers, because that is what the model sees of its past in
use. Learned from one rendered conversation, these answers teach to answer without reasoning.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Literal

from mnemos.core.errors import DataError, shortened
from mnemos.core.nouns import Example, Tokens, Turn
from mnemos.sources.render import Renderer, place_of

Rule = Literal["refuse", "mask", "split", "keep"]
"""refuse: an error. mask: read, not learned. split: every answer of the row becomes a row, behind its history as in use
and whole. keep: what the template left of it is learned."""

QUOTED = 60
"""Characters that an error shows of what became of an answer."""


def as_learned(renderer: Renderer, example: Example, rule: Rule, counts: Counter[str]) -> list[Tokens]:
    """The example's tokens, in one row or, where it is split, in several; `counts` says what was done to how many.

    Of a split row, only the answer has weight, and the second is called ``id#2``. Raises DataError where an answer is
    rewritten and the rule is refuse, and where it is split and stays so, because its reasoning stands in a field
    that the template never writes.
    """
    changed = renderer.rewritten(example)
    if not changed:
        return [renderer.render(example)]
    if rule == "refuse":
        raise _refused(example, changed)
    if rule == "keep":
        counts["rewritten answers: learned as the chat template has them"] += len(changed)
        return [renderer.render(example)]
    if rule == "mask":
        counts["rewritten answers: masked"] += len(changed)
        turns = (dataclasses.replace(turn, learn=False) if i in changed else turn for i, turn in _turns(example))
        return [renderer.render(dataclasses.replace(example, turns=tuple(turns)))]
    rows = _split(renderer, example)
    counts["rewritten answers: conversations split"] += 1
    counts["rewritten answers: rows of them"] += len(rows)
    return rows


def _split(renderer: Renderer, example: Example) -> list[Tokens]:
    rows: list[Tokens] = []
    for i, turn in _turns(example):
        if turn.role != "assistant" or not turn.learn:
            continue
        silent = tuple(dataclasses.replace(one, learn=False) for one in example.turns[:i])
        name = f"{example.id}#{len(rows) + 1}" if rows else example.id
        alone = dataclasses.replace(example, id=name, turns=(*silent, turn))
        if renderer.rewritten(alone):
            rows.append(renderer.render_in_use(alone))
            continue
        tokens = renderer.render(alone)
        rows.append(dataclasses.replace(tokens, weight=tokens.weight * tokens.output))
    return rows


def _turns(example: Example) -> enumerate[Turn]:
    return enumerate(example.turns)


def _refused(example: Example, changed: dict[int, str]) -> DataError:
    i, written = next(iter(changed.items()))
    more = f", as {len(changed) - 1} more of the row" if len(changed) > 1 else ""
    return DataError(
        f"{place_of(example)}, turn {i + 1} (assistant)",
        f"is rewritten by the chat template{more}: {shortened(written, QUOTED)!r} is left of it, and would be learned",
        "set train.rewritten_turns: split (each answer a row, as in use, its reasoning with it), mask (read, not "
        "learned) or keep (learned so)",
    )
