"""Which items of a suite may take part in a choice, and which are kept for the proof.

Every item belongs to one of two parts, about half of them to each:

development   asked as often as one likes: arms are compared on them, and one is chosen
held_out      asked once, of the arm that was chosen: what is said about it there is not made better by the choice

The part follows from what is asked (or from the item's cluster), by a hash: it is the same in every study and every
suite, whatever items join or leave, equal questions are in one part, and clusters stay whole.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from mnemos.measure.items import Item

Part = Literal["development", "held_out"]
PARTS: tuple[Part, Part] = ("development", "held_out")


def part_of(item: Item) -> Part:
    """The part that an item belongs to."""
    # The first bit of a hash: no item's part depends on another's, as their rank would.
    return PARTS[hashlib.sha256(_unit(item).encode(errors="surrogatepass")).digest()[0] >> 7]


def _unit(item: Item) -> str:
    """What must not be divided: a cluster, or all items that ask the same."""
    if item.cluster is not None:
        return f"cluster {item.cluster}"
    asked = [turn.in_words() for turn in item.prompt.turns] if item.prompt is not None else [item.text or item.id]
    return " ".join("\n".join(asked).casefold().split())


def in_part(items: tuple[Item, ...], part: Part) -> tuple[Item, ...]:
    """The items of one part, in their order."""
    return tuple(item for item in items if part_of(item) == part)
