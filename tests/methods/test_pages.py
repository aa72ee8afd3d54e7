"""wrap and textbooks: what the author is asked, what is left out and why, and what is read beside what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.methods.examples.pages import textbooks, wrap
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Mixture, Rows
from mnemos.synthesis.pages import READERS, STYLES, Style, rewriting_fault
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Scripted, cut
from tests.study.worlds import write_jsonl

PAGE = "The mill was built of stone. The river turned it until the flood. It then stood still for years."
AUTHOR = "http://localhost:8000/v1#author"


def pages(count: int) -> Rows:
    rows = (Example(f"{n}", "text", (Turn("text", f"{PAGE} In {n} it burned."),)) for n in range(count))
    return Rows(tuple(rows), "pages")


def say(prompt: Prompt, number: int) -> str:
    text = prompt.turns[-1].text
    if STYLES["qa"] in text:
        return "Question: Of what was the mill built?\nAnswer: Of stone, beside the river that turned it."
    return "A mill of stone stood by a river, which turned it for long, and burned down in the end."


def test_each_passage_is_rewritten_once_in_a_style_of_its_own() -> None:
    plan = wrap(base_plan(examples=pages(40)), author=AUTHOR, styles=("qa", "medium"), share_of_final=1.0)
    (made,) = generated_in(plan)
    model = Scripted(say)
    context = FakeContext({AUTHOR: model})
    rows = made.write(context)
    assert len(rows) == 40
    counts = Counter(row.meta["style"] for row in rows)
    assert set(counts) == {"medium", "qa"}
    assert all(10 <= number <= 30 for number in counts.values())
    assert all(row.kind == "text" and row.origin == "new, rephrased" for row in rows)
    ((asked, decoding),) = model.calls
    assert all(f"In {n} it burned." in one.turns[-1].text for n, one in enumerate(asked))
    assert decoding.temperature == 0.7
    # Styles belong to passages: fewer of them change no other's.
    (fewer,) = generated_in(
        wrap(base_plan(examples=pages(9)), author=AUTHOR, styles=("medium", "qa"), share_of_final=1.0)
    )
    again = fewer.write(FakeContext({AUTHOR: Scripted(say)}))
    assert [row.meta for row in again] == [row.meta for row in rows[:9]]


def test_arms_and_seeds_share_one_rewriting_and_half_of_the_rows_are_pages() -> None:
    made = []
    for share, seed in ((1.0, 0), (0.5, 1)):
        plan = wrap(base_plan(examples=pages(12), seed=seed), author=AUTHOR, share_of_final=share)
        made.append(generated_in(plan)[0].fingerprint)
    assert made[0] == made[1]
    assert isinstance(plan.examples, Mixture)
    rows = FakeContext({AUTHOR: Scripted(say)}).rows(plan.examples)
    assert Counter(row.origin for row in rows) == {"new": 12, "new, rephrased": 12}


def test_a_long_document_is_rewritten_passage_by_passage() -> None:
    row = Example("long", "text", (Turn("text", " ".join([PAGE] * 20)),))
    (made,) = generated_in(wrap(base_plan(examples=Rows((row,))), author=AUTHOR, max_chars=200, share_of_final=1.0))
    model = Scripted(say)
    rows = made.write(FakeContext({AUTHOR: model}))
    assert len(rows) > 5
    asked = [one.turns[-1].text.partition("Text:\n")[2] for one in model.calls[0][0]]
    assert " ".join(asked) == row.turns[0].text
    assert max(map(len, asked)) <= 300


@pytest.mark.parametrize(
    ("answer", "style", "reason"),
    [
        ("", "easy", "empty"),
        (cut("A mill of stone."), "easy", "no end"),
        (PAGE, "easy", "a copy of the text"),
        ("Sure! Here is the text: a mill was built of stone by the river.", "hard", "speaks of the instruction"),
        ("A mill stood by the river and was turned by it.", "qa", "no questions and answers"),
        ("Stone.", "medium", "much shorter or longer than the text"),
        ("the mill stood by the " * 9, "medium", "repeats itself"),
        ("A mill of stone stood by a river, which turned it.", "medium", None),
        ("Question: Of what?\nAnswer: Of stone, beside a river.", "qa", None),
    ],
)
def test_why_a_rewriting_is_left_out(answer: Generation | str, style: Style, reason: str | None) -> None:
    one = Generation(answer, (), True) if isinstance(answer, str) else answer
    assert rewriting_fault(one, PAGE, style) == reason


def test_too_few_rewritings_and_no_style_are_refused() -> None:
    (made,) = generated_in(wrap(base_plan(examples=pages(10)), author=AUTHOR, share_of_final=1.0))
    with pytest.raises(DataError, match="speaks of the instruction: 10"):
        made.write(FakeContext({AUTHOR: Scripted(lambda prompt, number: "Sure, I can do that for you now.")}))
    with pytest.raises(UsageError, match="styles"):
        wrap(base_plan(examples=pages(1)), author=AUTHOR, styles=())


def test_topics_are_written_about_in_turn_for_other_readers(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "topics.jsonl", [{"text": "primes"}, {"text": "rivers"}, {"text": "primes"}])
    data = str(tmp_path / "topics.jsonl")
    plan = textbooks(base_plan(examples=pages(6)), author=AUTHOR, data=data, rows=6, share_of_final=0.5)
    model = Scripted(lambda prompt, number: f"Section {number} of a book. " + f"It explains {number} things well. " * 2)
    rows = generated_in(plan)[0].write(context := FakeContext({AUTHOR: model}))
    (asked, _) = model.calls[0]
    for topic, places in (("primes", (0, 2, 4)), ("rivers", (1, 3, 5))):
        own = [asked[place].turns[-1].text for place in places]
        assert all(topic in one for one in own)
        assert {reader for reader in READERS for one in own if reader in one} == set(READERS)
    assert [row.meta["topic"] for row in rows] == ["primes", "rivers"] * 3 or context.counts["kept"] < 6
    assert {row.kind for row in rows} == {"text"}
