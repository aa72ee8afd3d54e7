"""Which items of a suite may take part in a choice, and which are kept for the proof.

Every item belongs to one of two parts, about half of them to each:

development   asked as often as one likes: arms are compared on them, and one is chosen
held_out      asked once, of the arm that was chosen: what is said about it there is not made better by the choice

The part follows from what is asked (or from the item's cluster), by a hash: it is the same in every study and every
suite, whatever items join or leave, equal questions are in one part, and clusters stay whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from mnemos.core.nouns import Turn
from mnemos.measure.items import Item

Part = Literal["development", "held_out"]
PARTS: tuple[Part, Part] = ("development", "held_out")


def part_of(item: Item) -> Part:
    """The part that an item belongs to: that of its cluster, or of what it asks."""
    if item.cluster is not None:
        return _part(f"cluster {item.cluster}")
    return part_of_question(item.prompt.turns) if item.prompt is not None else _part(_alike(item.text or item.id))


def part_of_question(turns: Sequence[Turn]) -> Part:
    """The part of every item without a cluster that asks this."""
    return _part(_alike("\n".join(turn.in_words() for turn in turns)))


def _alike(text: str) -> str:
    """Case and white space alike, so that equal questions are in one part."""
    return " ".join(text.casefold().split())


def _part(unit: str) -> Part:
    # The first bit of a hash: no item's part depends on another's, as their rank would.
    return PARTS[hashlib.sha256(unit.encode(errors="surrogatepass")).digest()[0] >> 7]


def in_part(items: tuple[Item, ...], part: Part) -> tuple[Item, ...]:
    """The items of one part, in their order."""
    return tuple(item for item in items if part_of(item) == part)
