"""corpus_synthesis: what the author is shown and asked for, what is left out and why, and that `tts` speaks it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import AudioPart, Decoding, Example, Generation, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.instructions import corpus_synthesis
from mnemos.methods.examples.sound import tts
from mnemos.sources.generated import generated_in, materialize
from mnemos.sources.held_out import HeldOut
from mnemos.sources.mix import Rows
from mnemos.sources.voices import Spoken
from mnemos.synthesis.corpus import CorpusRows, holds, prompt_of, sentence
from mnemos.synthesis.instructions import guarded
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Say, Scripted, cut

TRANSCRIPTS = ["turn the lamp on", "play some old songs", "what is the weather in orford", "wake me at seven"]


def spoken() -> list[Example]:
    sound = AudioPart("clip.wav")
    return [
        Example(f"clip-{i}", "messages", (Turn("user", (sound,)), Turn("assistant", text)))
        for i, text in enumerate(TRANSCRIPTS)
    ]


def about(**changed: object) -> Plan:
    given = {"domain": "requests to a smart speaker", "seeds": "leave_out", **changed}
    plan = base_plan(examples=Rows(tuple(spoken())), past=(), sequence=False)
    return corpus_synthesis(plan, **given)


def written(plan: Plan, say: Say) -> tuple[list[Example], FakeContext, Scripted]:
    (one,) = generated_in(plan)
    model = Scripted(say)
    context = FakeContext({plan.before.path: model})
    return one.write(context), context, model


def test_texts_of_a_domain_are_asked_for_by_shown_transcripts_and_cleaned() -> None:
    answers: Iterator[Generation | str] = iter(
        [
            '- "Set the oven to two hundred degrees."', "1. dim every light in the hall\nand more", "hush",
            "turn the lamp on", "please order the usual groceries for monday", cut("start the washing"),
            "is the suite's own long item about the garden gate here",
        ]
    )  # fmt: skip
    held_out = HeldOut([("gate", "v1", ("is the suite's own long item about the garden gate here",))])
    plan = guarded(about(rows=3, shots=2, oversample=3, min_usable=0.1), held_out)
    rows, context, model = written(plan, lambda prompt, number: next(answers, "hush"))
    assert [row.turns[0].text for row in rows] == [
        "Set the oven to two hundred degrees.", "dim every light in the hall",
        "please order the usual groceries for monday",
    ]  # fmt: skip
    assert {(row.kind, row.turns[0].role, row.origin) for row in rows} == {("text", "text", "new, corpus synthesis")}
    assert context.counts["dropped: text: fewer than 2 words"] == 1 + 2
    assert context.counts["dropped: text: like another"] == 1
    assert context.counts["dropped: text: no end"] == 1
    assert context.counts["dropped: text: holds an item of suite gate"] == 1
    shown = [prompt.turns[0].text for prompts, _ in model.calls for prompt in prompts]
    assert all(text.count("\n- ") == 2 and "requests to a smart speaker" in text for text in shown)
    assert len(set(shown)) > 1, "other examples in other prompts"
    assert model.calls[0][1] == Decoding(64, 1.0, 0.95, seed=3)


@given(rows=st.integers(1, 40), others=st.integers(1, 6))
def test_words_are_shared_out_evenly_and_none_eats_the_budget(rows: int, others: int) -> None:
    """A word that the author never places takes no more than its share of the prompts."""
    names = ("zyxel", *(f"person{i} lane" for i in range(others)))
    asked = []

    def say(prompt: Prompt, number: int) -> str:
        word = next(name for name in names if f'"{name}"' in prompt.turns[0].text)
        asked.append(word)
        here = len(asked)
        who = "nobody" if word == "zyxel" else word
        return f"{who} number{here} place{here} at{here} by{here}"

    made, context, _ = written(about(rows=rows, words=names, shots=0), say)
    counts = Counter(word for word in asked if word != "zyxel")
    assert len(made) == rows
    assert all(holds(row.turns[0].text, str(row.meta["word"])) for row in made)
    assert max(counts.values()) - min(counts[name] for name in names[1:]) <= 1
    assert asked.count("zyxel") <= math.ceil(2.0 * rows / len(names))
    assert context.counts["dropped: text: without the word that was asked for"] == asked.count("zyxel")
    assert context.notes["texts of the rarest word"] == 0


def test_texts_that_cannot_be_asked_for_are_refused() -> None:
    with pytest.raises(DataError, match="max_words = 3"):
        written(about(rows=2, max_words=3, min_words=1), lambda prompt, number: "a b c")
    with pytest.raises(UsageError, match="min_words = 9"):
        about(min_words=9, max_words=8)
    with pytest.raises(DataError, match=r"texts of .*no end"):
        written(about(rows=4), lambda prompt, number: cut("on and on"))


def test_written_texts_are_spoken() -> None:
    plan = tts(about(rows=2), command="sh -c 'exit 1' {out}")
    (one,) = generated_in(plan)
    assert one.describe() == f"2 texts of 'requests to a smart speaker' that {plan.before.path} writes"
    texts = ["put the kettle on now", "read me the evening news"]
    rows = one.write(FakeContext({plan.before.path: Scripted(lambda prompt, number: texts[number % 2])}))
    ready = materialize(plan, lambda _: Rows(tuple(rows), "written"))
    assert not generated_in(ready)
    assert isinstance(ready.examples, Spoken)
    assert list(ready.examples.rows) == rows


def test_an_author_without_a_template_continues_the_list() -> None:
    (rows,) = generated_in(about(raw=True, rows=1))
    assert isinstance(rows, CorpusRows)
    writing = rows.writing
    assert prompt_of(writing, "", ["a b", "c d"]).endswith("\n- a b\n- c d\n-")
    assert prompt_of(writing, "tea", []).endswith("with numbers in words.\n\nSentence:")
    assert sentence("\n  “Bring tea.”\nmore") == "Bring tea."
    assert sentence('He said "no"') == 'He said "no"'
    assert holds("Call Ada-Lane now", "ada lane")
    assert not holds("call Adalane", "Ada Lane")
