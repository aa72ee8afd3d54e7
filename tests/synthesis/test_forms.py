"""Rows as texts and back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.sources.mix import Rows
from mnemos.sources.render import Renderer
from mnemos.synthesis.forms import MalformedError, WithForms, row_of, text_of, written
from tests.tiny import tiny_tokenizer

WORDS = st.text("ab_:\n é河", min_size=1, max_size=12).filter(lambda text: text.strip() and "__" not in text)


def chat(*turns: tuple[str, str]) -> Example:
    return Example("x", "messages", tuple(Turn(role, text) for role, text in turns), origin="replay")


@given(st.lists(st.tuples(st.sampled_from(["user", "tool"]), WORDS), max_size=3), WORDS, WORDS, st.booleans())
def test_a_chat_comes_back_as_it_was(more: list[tuple[str, str]], question: str, answer: str, system: bool) -> None:
    asked = [("system", "Be brief.")] * system + more + [("user", question)]
    row = chat(*asked, ("assistant", answer))
    assert row_of(text_of(row), "x") == row


@given(WORDS, WORDS)
def test_pairs_and_texts_come_back_as_they_were(one: str, other: str) -> None:
    pair = Example("x", "completion", (Turn("prompt", one), Turn("completion", other)), origin="replay")
    text = Example("x", "text", (Turn("text", one),), origin="replay")
    assert row_of(text_of(pair), "x") == pair
    assert row_of(text_of(text), "x") == text


def test_a_simple_chat_is_question_marker_answer() -> None:
    assert text_of(chat(("user", "2+3?"), ("assistant", "5."))) == "2+3?\n__ans__\n5."
    longer = chat(("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R"), ("assistant", "B"))
    assert text_of(longer) == "__system__\nS\n__user__\nQ\n__assistant__\nA\n__user__\nR\n__ans__\nB"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2+3? 5.", "no answer marker"),
        ("2+3?\n__ans__\n5.\n__ans__\n6.", "several answer markers"),
        ("2+3?\n__ans__\n5.\n__completion__\n6.", "several answer markers"),
        ("2+3? __ans__\n5.", "broken answer marker"),
        ("2+3?\n__ans__ 5.", "broken answer marker"),
        ("so __text__\nfar", "broken answer marker"),
        ("2+3?\n__ans__\n ", "empty answer"),
        ("__text__\n", "empty answer"),
        (" \n__ans__\n5.", "empty question"),
        ("And\n__user__\n2+3?\n__ans__\n5.", "broken turns"),
        ("__user__\n2+3?\n__assistant__\n4\n__ans__\n5.", "broken turns"),
        ("__system__\n\n__user__\n2+3?\n__ans__\n5.", "broken turns"),
    ],
)
def test_malformed_texts(text: str, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        row_of(text, "x")


def test_a_text_without_an_end_is_no_row() -> None:
    text = "2+3?\n__ans__\n5."
    assert written(Generation(text, (), True), "x") == row_of(text, "x")
    with pytest.raises(MalformedError, match="no end"):
        written(Generation(text, (), False), "x")


@pytest.mark.parametrize("spelt", ["__ans__", "__user__"])
def test_a_row_that_spells_a_marker_is_refused(spelt: str) -> None:
    with pytest.raises(DataError, match=rf"example 'x' holds '{spelt}'"):
        text_of(chat(("user", f"What is {spelt}?"), ("assistant", "A marker.")))


def test_rows_without_one_answer_are_refused() -> None:
    row = dataclasses.replace(chat(("user", "Q"), ("assistant", "A")), kind="preference")
    with pytest.raises(DataError, match="kind preference"):
        text_of(row)


def test_the_form_is_a_prompt_that_the_model_can_be_given() -> None:
    """The generator alone is the prompt, and the whole row with its end is what the model writes."""
    rows = Rows((Example("a", "messages", (Turn("user", "Q?"), Turn("assistant", "A."))),), "r")
    _, form = WithForms(rows, "__gen__\n")
    assert (form.id, form.origin, form.kind) == ("a, as text", "new, as text", "completion")
    renderer = Renderer(tiny_tokenizer())
    tokens = renderer.render(form)
    given = renderer.prompt_ids(Prompt((Turn("prompt", "__gen__\n"),)))
    assert tokens.ids[: len(given)].tolist() == given
    assert tokens.output.tolist() == [False] * len(given) + [True] * (len(tokens) - len(given))
    assert renderer.decode(tokens.ids[len(given) : -1]) == "Q?\n__ans__\nA."
    assert int(tokens.ids[-1]) == renderer.tokenizer.eos_token_id
