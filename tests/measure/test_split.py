"""Development and held-out items: fixed, about even, whole clusters, equal questions together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Prompt, Turn
from mnemos.measure.items import Item
from mnemos.measure.split import PARTS, in_part, part_of
from mnemos.measure.suite import BUILT_IN, Suite, load_suites


def asked(text: str, **more: Any) -> Item:
    return Item(more.pop("id", text), Prompt((Turn("user", text),)), **more)


def one(**values: Any) -> Suite:
    return load_suites([{"name": "s", "kind": "bits_per_byte", **values}], Path("."))[0]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True))
def test_every_item_is_in_one_part_whatever_stands_beside_it(texts: list[str]) -> None:
    items = tuple(map(asked, texts))
    parts = [in_part(items, part) for part in PARTS]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in items)
    for item in items:
        assert in_part((item,), part_of(item)) == (item,)


def test_the_parts_are_frozen() -> None:
    """Written down once: a changed rule would prove on items that chose before it."""
    found = ["".join(part_of(asked(f"What is {a} + {b}?"))[0] for b in range(8)) for a in range(3)]
    assert found == FROZEN


FROZEN = ["dhhddhhd", "hhdhdhhh", "dhdhhddh"]


def test_about_half_of_the_items_of_every_built_in_suite_are_held_out() -> None:
    for path in sorted(BUILT_IN.glob("*.yaml")):
        (suite,) = load_suites([str(path)], Path("."))
        held = len(in_part(suite.items, "held_out"))
        # five standard errors of a coin thrown for each item
        assert abs(held / len(suite.items) - 0.5) < 2.5 / len(suite.items) ** 0.5, path.stem


def test_clusters_and_equal_questions_stay_together() -> None:
    cluster = [asked(f"question {number}", cluster="passage 7") for number in range(20)]
    same = [asked("  Say   YES ", id="1"), asked("say yes", id="2", language="en")]
    assert len({part_of(item) for item in cluster}) == 1
    assert len({part_of(item) for item in same}) == 1


def test_a_suite_takes_one_part_of_its_items() -> None:
    items = [{"id": str(n), "text": f"text {n}"} for n in range(40)]
    whole, limited = one(items=items), one(items=items, limit=20)
    parts = [one(items=items, part=part) for part in PARTS]
    assert {i.id for part in parts for i in part.items} == {item.id for item in whole.items}
    assert not {i.id for i in parts[0].items} & {i.id for i in parts[1].items}
    assert len({whole.fingerprint, *(part.fingerprint for part in parts)}) == 3
    few = [one(items=items, part=part, limit=20) for part in PARTS]
    assert sorted(i.id for part in few for i in part.items) == sorted(item.id for item in limited.items)


def test_a_part_that_holds_every_item_is_the_suite() -> None:
    item = {"id": "1", "text": "a single text"}
    part = part_of(one(items=[item]).items[0])
    assert one(items=[item], part=part).fingerprint == one(items=[item]).fingerprint
    other = next(name for name in PARTS if name != part)
    with pytest.raises(DataError, match=f"part {other}: has none of the 1 items"):
        one(items=[item], part=other)


def test_a_part_needs_items_of_its_own() -> None:
    with pytest.raises(UsageError, match="goes with data or items"):
        one(kind="stop_rate", of="other", part="held_out")
