"""Long documents: left out, cut, or in pieces, and counted."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.sources.mix import Rows
from mnemos.sources.render import Renderer
from mnemos.train.rows import prepare
from tests.tiny import tiny_tokenizer

LONG = " ".join(f"word {n}" for n in range(60))


def plan(**settings: Any) -> Plan:
    rows = (
        Example("long", "text", (Turn("text", LONG),)),
        Example("short", "text", (Turn("text", "The river runs."),)),
        Example("chat", "messages", (Turn("user", LONG), Turn("assistant", "Yes."))),
    )
    handle: Any = None
    return Plan(Rows(rows, "rows"), handle, "task", 0, TrainSettings(max_length=40, **settings))


def test_by_default_a_long_row_of_any_kind_is_left_out_and_counted() -> None:
    made = prepare(plan(), Renderer(tiny_tokenizer()))
    assert made.counts["left out: longer than 40 tokens"] == 2
    assert made.counts["rows"] == 1


def test_a_long_document_is_learned_whole_in_pieces_and_a_long_chat_is_not() -> None:
    renderer = Renderer(tiny_tokenizer())
    made = prepare(plan(long_documents="chunk"), renderer)
    whole = renderer.render(Example("long", "text", (Turn("text", LONG),)))
    assert made.counts["documents cut into pieces"] == 1
    assert made.counts["pieces of them"] == made.counts["rows"] - 1 > 1
    assert made.counts["left out: longer than 40 tokens"] == 1
    pieces = [row[0] for row in made.rows if row[0].example.startswith("long")]
    assert [int(i) for piece in pieces for i in piece.ids[1:]] == whole.ids[1:].tolist()
    assert {int(piece.ids[0]) for piece in pieces} == {renderer.tokenizer.bos_token_id}


@pytest.mark.parametrize("packing", [False, True])
def test_pieces_may_be_packed(packing: bool) -> None:
    made = prepare(plan(long_documents="chunk", packing=packing), Renderer(tiny_tokenizer()))
    assert max(sum(len(one) for one in row) for row in made.rows) <= 40
