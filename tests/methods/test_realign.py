"""realign: kinds of task, what the author is asked, and when the gold answer is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.methods.examples.realign import realign
from mnemos.sources.mix import Rows
from mnemos.synthesis.realign import FORMATS, KNOWLEDGE, MATHS, named, reformatting_fault
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Scripted, cut

AUTHOR = "http://localhost:8000/v1#author"


def row(number: int, answer: str, question: str = "", **meta: Any) -> Example:
    turns = (Turn("user", question or f"Question {number}?"), Turn("assistant", answer))
    return Example(f"r{number}", "messages", turns, meta=meta)


def write(rows: list[Example], author: Scripted, **settings: Any) -> tuple[list[Example], FakeContext]:
    plan = realign(base_plan(examples=Rows(tuple(rows))), author=AUTHOR, **settings)
    context = FakeContext({"before": Scripted(), AUTHOR: author})
    out = plan.examples.write(context)  # type: ignore[attr-defined]
    return out, context


def asked(author: Scripted) -> list[str]:
    return [prompt.turns[-1].text for prompts, _ in author.calls for prompt in prompts]


def test_the_paper_has_46_kinds_of_which_35_have_a_format() -> None:
    assert len(FORMATS) == 46
    assert sum(bool(form) for form in FORMATS.values()) == 35
    assert all(FORMATS[kind] for kind in {*KNOWLEDGE, MATHS})


def test_kinds_are_named_by_the_author_and_answers_put_into_their_format() -> None:
    kinds = {0: "Kind of task: Open QA.", 1: "a poem, perhaps", 2: "poem_generation", 3: "ordering"}

    def say(prompt: Prompt, number: int) -> str:
        text = prompt.turns[-1].text
        if "Kind of task:" in text:
            return next(reply for place, reply in kinds.items() if f"Question {place}?" in text)
        return "It is asked why. Because of the light, which is scattered." if "Question 0?" in text else "B, then A."

    author = Scripted(say)
    rows = [row(0, "Because the light is scattered."), row(1, "x y z"), row(2, "A rose."), row(3, " A")]
    out, context = write(rows, author)
    assert [one.turns[-1].text for one in out] == [
        "It is asked why. Because of the light, which is scattered.", "x y z", "A rose.", " A",
    ]  # fmt: skip
    assert context.counts == {
        "rewritten: open qa": 1, "gold kept: no kind of task was named": 1,
        "gold kept: no format for poem generation": 1, "gold kept: a letter, or true or false": 1,
    }  # fmt: skip
    assert FORMATS["open qa"] in asked(author)[-1]
    assert [decoding.temperature for _, decoding in author.calls] == [0.0, 0.3]


def test_kind_evidence_and_formats_of_your_own_come_from_columns_and_settings() -> None:
    author = Scripted(lambda prompt, number: f"Three lines of it, {number}.")
    rows = [
        row(0, "One line.", kind="Haiku", evidence="never shown"),
        row(1, "Because.", kind="open_qa", evidence=["Light is scattered.", 7]),
        row(2, "Because.", kind="open_qa"),
        row(3, "What?", kind="sonnet"),
    ]
    out, context = write(rows, author, task="kind", evidence="evidence", formats={"haiku": "Three lines."})
    first, second, third = asked(author)
    assert "Format:\nThree lines." in first
    assert "never shown" not in first
    assert "Light is scattered.\n7\n" in second
    assert "Evidence" not in third
    assert context.counts == {
        "rewritten: haiku": 1, "rewritten: open qa": 2, "gold kept: a kind of task that is not known": 1,
    }  # fmt: skip
    assert [one.turns[-1].text for one in out][3] == "What?"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("code_language_classification", "code language classification"),
        ("Language classification", "language classification"),
        ("**Math puzzles**, I think", "math puzzles"),
        ("open qa or closed qa", None),
        ("open qaz", None),
        ("", None),
    ],
)
def test_a_reply_names_one_kind_or_none(reply: str, kind: str | None) -> None:
    assert named(reply, FORMATS) == kind


CODE = "```python\nprint(1)\n```"


@pytest.mark.parametrize(
    ("old", "new", "kind", "reason"),
    [
        ("It is so.", "It  is\nso.", "open qa", "the author found the format unfit"),
        ("It is so.", "Revised answer: it is so.", "open qa", "speaks of the instruction"),
        ("Say it is so.", f"It is so: {CODE}", "open qa", "code came or went"),
        (f"Do {CODE} now.", "Print the number one, now and here.", "open qa", "code came or went"),
        (f"Do {CODE} now.", f"First do {CODE} and then no more.", "code correction", None),
        ("one two three four", "one two", "open qa", "half as long, or shorter"),
        ("one two three four", "one two three", "open qa", None),
        ("2 x 500 = 1,000 of it", "It is 2 x 500, that is 100.", MATHS, "the result went"),
        ("2 x 500 = 1,000 of it", "Twice five hundred, which gives 1000.", MATHS, None),
        ("2 x 500 = 1,000 of it", "It is 2 x 500, that is 100.", "open qa", None),
    ],
)
def test_when_the_gold_answer_is_kept(old: str, new: str, kind: str, reason: str | None) -> None:
    assert reformatting_fault(row(0, old), Generation(new, (), True), kind) == reason


def test_a_phrase_that_the_request_has_betrays_nothing() -> None:
    request = row(0, "It is so.", "Use the given format: X.")
    assert reformatting_fault(request, Generation("In the given format: it is so.", (), True), "open qa") is None


def test_an_author_that_comes_to_no_end_stops_the_writing_with_counts() -> None:
    author = Scripted(lambda prompt, number: cut("Because of the light"))
    rows = [row(n, "Because.", kind="open qa") for n in range(5)]
    with pytest.raises(DataError, match="no end: 5"):
        write(rows, author, task="kind")
    out, context = write(rows, author, task="kind", min_acceptance=0)
    assert out == rows
    assert context.counts == Counter({"gold kept: no end": 5})
