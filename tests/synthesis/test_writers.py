"""Filling a budget with rows that a model answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Turn
from mnemos.synthesis.writers import Tally, answered, fill, share_out, sure
from tests.laws import Handle, rows
from tests.methods.contexts import FakeContext, Scripted, cut

MODEL = Handle("m")


def scripted(**script: object) -> tuple[FakeContext, Tally]:
    made = FakeContext({"m": Scripted(**script)})  # type: ignore[arg-type]
    return made, Tally(made)


@given(st.integers(0, 80), st.integers(0, 40), st.integers(1, 5))
def test_fill_improves_in_order_and_no_more_than_it_needs(count: int, wanted: int, keeps: int) -> None:
    """Every `keeps`-th candidate survives."""
    candidates = list(rows("c", count))
    asked: list[Example] = []

    def improve(part: list[Example]) -> list[Example]:
        asked.extend(part)
        return [row for row in part if candidates.index(row) % keeps == 0]

    done = fill(candidates, wanted, improve)
    assert asked == candidates[: len(asked)]
    assert done == [row for row in asked if candidates.index(row) % keeps == 0]
    assert len(done) >= wanted or asked == candidates
    if keeps == 1:
        assert len(asked) == min(count, wanted)


def test_answers_are_written_anew_and_bad_ones_counted() -> None:
    words = {"q 0?": "Zero.", "q 1?": cut("On"), "q 2?": "  ", "q 3?": "a b c d a b c d"}
    made, tally = scripted(say=lambda prompt, _: words[prompt.turns[-1].text])
    text = Example("t", "text", (Turn("text", "A river."),))
    out = answered(tally, MODEL, [*rows("q", 4), text], 99, repetition=0.1)
    assert [row.turns[-1].text for row in out] == ["Zero.", "A river."]
    assert out[0].turns[0].text == "q 0?"
    assert made.counts == {
        "dropped: the answer has no end": 1,
        "dropped: empty answer": 1,
        "dropped: the answer repeats itself": 1,
    }
    ((_, decoding),) = made.models["m"].calls
    assert (decoding.temperature, decoding.max_new_tokens) == (0, 99)


def test_confidence_is_the_geometric_mean_per_token() -> None:
    likely = {"0.": 0.5, "1.": 0.7, "2.": math.nan, "A river.": 0.9, "Mud.": 0.1}
    made, tally = scripted(probability=lambda text: likely[text])
    texts = [Example(text, "text", (Turn("text", text),)) for text in ("A river.", "Mud.")]
    kept = sure(tally, MODEL, [*rows("q", 3), *texts], 0.6)
    assert [row.turns[-1].text for row in kept] == ["1.", "A river."]
    assert made.counts == {"dropped: the model is unsure of the answer": 3}
    assert len(sure(tally, MODEL, list(rows("q", 3)), 0.0)) == 3


def test_a_budget_that_stays_half_empty_is_refused_with_the_reasons() -> None:
    made, tally = scripted()
    tally.drop("no end", 7)
    kept = tally.keep(list(rows("q", 5)), 4, 0.5, what="rows", cure="mend it")
    assert len(kept) == 4
    assert made.counts == {"dropped: no end": 7, "kept": 4, "usable, not needed": 1}
    assert len(tally.keep(list(rows("q", 2)), 4, 0.5, what="rows", cure="mend it")) == 2
    with pytest.raises(DataError, match=r"1 usable rows \(no end: 7\).*\n  mend it"):
        tally.keep(list(rows("q", 1)), 4, 0.5, what="rows", cure="mend it")
    with pytest.raises(DataError):
        tally.keep([], 4, 0.0, what="rows", cure="mend it")


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_even(total: int, parts: int) -> None:
    out = share_out(total, parts)
    assert sum(out) == total
    assert len(out) == parts
    assert max(out) - min(out) <= 1
    assert out == sorted(out, reverse=True)
