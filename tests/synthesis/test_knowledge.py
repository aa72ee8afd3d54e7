"""Facts are asked as they should be, with a model that knows each with a probability of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Turn
from mnemos.models.language import LocalModel
from mnemos.models.slots import Slots
from mnemos.sources.mix import Rows
from mnemos.synthesis.classified import KEY, Classified, OfClasses
from mnemos.synthesis.knowledge import Asking, facts_in, probe, prompts_for
from mnemos.synthesis.slick import CLASSES, class_of
from tests.laws import Handle
from tests.methods.contexts import FakeContext
from tests.tiny import tiny_model, tiny_tokenizer

SMALL = Asking(prompts=4, shots=2, samples=3)


def fact(number: int, **meta: Any) -> Example:
    turns = (Turn("user", f"Capital of {number}?"), Turn("assistant", f"City {number}"))
    return Example(f"f{number}", "messages", turns, meta=meta)


def raw(number: int) -> Example:
    return Example(
        f"c{number}", "completion", (Turn("prompt", f"{number} is in"), Turn("completion", f" City {number}"))
    )


def chance(*parts: Any) -> float:
    """A number in [0, 1) that the parts decide."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


@dataclass
class Knows:
    """Answers a question right with the probability that `p` gives it, by the prompt and how often it came."""

    p: Callable[[str], float]
    calls: list[tuple[tuple[Prompt, ...], Decoding]] = field(default_factory=list)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.calls.append((tuple(prompts), decoding))
        seen: Counter[Prompt] = Counter()
        out = []
        for prompt in prompts:
            text = prompt.turns[-1].text.split("\n\n")[-1]
            number = "".join(c for c in text if c.isdigit())
            right = chance(number, prompt, decoding.temperature, seen[prompt]) < self.p(number)
            seen[prompt] += 1
            out.append(Generation(f"city {number}." if right else f"Town {len(seen)}", (1,), True))
        return out


def test_examples_are_shared_and_no_fact_is_its_own_example() -> None:
    facts, left = facts_in([fact(n, relation="r") for n in range(7)], SMALL)
    assert not left
    rounds = prompts_for(facts, SMALL)
    assert len(rounds) == SMALL.prompts
    for prompts in rounds:
        for one, prompt in zip(facts, prompts, strict=True):
            shown = [turn.text for turn in prompt.turns[:-1]]
            assert len(shown) == 2 * SMALL.shots
            assert prompt.turns[-1].text == one.question
            assert one.question not in shown
            assert one.golds[0] not in shown
        heads = Counter(prompt.turns[: 2 * SMALL.shots] for prompt in prompts)
        # All but the facts that are examples themselves share the same ones.
        assert heads.most_common(1)[0][1] >= len(facts) - SMALL.shots
    assert len({prompts[0] for prompts in rounds}) > 1, "rounds draw examples anew"


def test_relations_have_examples_of_their_own_and_small_ones_are_counted() -> None:
    rows = [fact(n, relation="a" if n < 5 else "b") for n in range(7)]
    facts, left = facts_in(rows, SMALL)
    assert len(facts) == 5
    assert left == {"not asked: fewer than 3 questions of its relation": 2}
    assert not facts_in(rows, replace(SMALL, relation="none"))[1], "without the column all rows are of one kind"


def test_rows_with_one_question_are_one_fact_with_all_their_answers() -> None:
    rows = [fact(n) for n in range(4)]
    again = replace(
        rows[0], id="x", turns=(rows[0].turns[0], Turn("assistant", "Old Town")), meta={"aliases": ["Burg", 7, None]}
    )
    facts, _ = facts_in([*rows, again], SMALL)
    assert facts[0].rows == (0, 4)
    assert facts[0].golds == ("City 0", "Old Town", "Burg", "7")
    for text in ("the old town", "BURG!", "city 0"):
        assert SMALL.right(facts[0], Generation(text, (), True))
    assert not SMALL.right(facts[0], Generation("City 1", (), True))


def test_what_cannot_be_asked_is_counted_by_reason() -> None:
    rows = [fact(n) for n in range(4)]
    empty = replace(rows[0], id="e", turns=(Turn("user", "Empty?"), Turn("assistant", "the.")))
    document = Example("d", "text", (Turn("text", "a document"),))
    old = replace(rows[1], id="o", origin="replay")
    several = replace(rows[0], id="s", turns=(*rows[0].turns, Turn("user", "And?"), Turn("assistant", "No")))
    _, left = facts_in([*rows, empty, document, old], SMALL)
    assert left == {
        "not asked: a gold answer that no answer could meet": 1,
        "not asked: no answer to a question": 1,
        "as it was: not a new row": 1,
    }
    assert "several turns" in next(iter(facts_in([*rows, several], replace(SMALL, raw=True))[1]))
    assert len(facts_in([*rows, several], SMALL)[0]) == 5, "a chat of several turns is asked as a chat"


def test_text_is_asked_as_it_is_written() -> None:
    facts, _ = facts_in([raw(n) for n in range(4)], replace(SMALL, shots=1))
    (prompts, *_) = prompts_for(facts, replace(SMALL, shots=1))
    shown, own = prompts[3].turns[0].text.split("\n\n")
    assert own == "3 is in"
    assert shown in {f"{n} is in City {n}" for n in range(3)}
    facts, _ = facts_in([fact(n) for n in range(4)], replace(SMALL, shots=1, raw=True))
    text = prompts_for(facts, replace(SMALL, shots=1))[0][0].turns
    assert [turn.role for turn in text] == ["prompt"]
    assert text[0].text.endswith("Question: Capital of 0?\nAnswer:")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]), min_size=3, max_size=8), st.integers(2, 5))
def test_stopping_early_changes_no_class(chances: list[float], prompts: int) -> None:
    rows = [fact(n) for n in range(len(chances))]
    asking = replace(SMALL, prompts=prompts)
    facts, _ = facts_in(rows, asking)

    def asked(early: bool) -> Any:
        return probe(Knows(lambda number: chances[int(number)]), facts, replace(asking, early_stop=early))  # type: ignore[arg-type]

    early, whole = asked(True), asked(False)
    assert whole.asked == len(rows) * prompts * (1 + asking.samples)
    assert early.asked <= whole.asked
    for a, b in zip(early.known, whole.known, strict=True):
        assert a.name == b.name
        assert a.same_halves == b.same_halves
        assert a.greedy == b.greedy
        assert b.name == class_of(b.greedy, sum(right for right, _ in b.sampled))
        assert (a.counts[3] == 0) == any(a.greedy), "samples are asked only where no greedy answer is right"


def test_samples_are_drawn_as_the_paper_draws_them() -> None:
    model = Knows(lambda number: 0.0)
    facts, _ = facts_in([fact(n) for n in range(4)], Asking(shots=2))
    assert probe(model, facts, Asking(shots=2)).asked == 4 * 170  # type: ignore[arg-type]
    greedy, *sampled = [decoding for _, decoding in model.calls]
    assert greedy.temperature == 0
    assert {(one.temperature, one.top_k) for one in sampled} == {(0.5, 40)}


def written(model: Any, rows: Sequence[Example], asking: Asking = SMALL) -> tuple[list[Example], FakeContext]:
    context = FakeContext({"before": model})
    return Classified(Rows(tuple(rows)), Handle("before"), asking).write(context), context


def test_rows_carry_what_was_found_and_are_chosen_by_it() -> None:
    rows = [fact(n) for n in range(40)]
    old = replace(rows[0], id="old", origin="replay")
    p = {0: 1.0, 1: 0.5, 2: 0.0}
    found, context = written(Knows(lambda number: p[int(number) % 3]), [*rows, old])
    assert context.counts["as it was: not a new row"] == 1
    for n, row in enumerate(found[:-1]):
        record = row.meta[KEY]
        assert (
            record["class"]
            in ({0: ["HighlyKnown"], 1: ["MaybeKnown", "HighlyKnown", "WeaklyKnown"], 2: ["Unknown"]}[n % 3])
        )
        if n % 3 == 0:
            assert (record["own"], record["confidence"]) == (f"city {n}.", 1.0)
            assert record["again"]["HighlyKnown"] > 0.6
    source = Rows(tuple(found))
    kept = list(OfClasses(source, ("Unknown",), None, 0))
    assert [row.id for row in kept] == [f"f{n}" for n in range(40) if n % 3 == 2] + ["old"]
    some = list(OfClasses(source, CLASSES, 10, 5))
    assert len(some) == 11
    assert some == list(OfClasses(source, CLASSES, 10, 5))
    assert some != list(OfClasses(source, CLASSES, 10, 6))
    relabelled = list(OfClasses(source, CLASSES, None, 0, "I don't know."))
    assert [row.turns[-1].text for row in relabelled[:3]] == ["City 0", "City 1", "I don't know."]
    with pytest.raises(DataError, match=r"20 rows of Unknown.*there are 13"):
        list(OfClasses(source, ("Unknown",), 20, 0))


def test_a_prompt_that_fills_the_context_leaves_its_fact_without_a_class() -> None:
    class Short(Knows):
        def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
            found = super().generate(prompts, decoding)
            long = [prompt.turns[-1].text == "Capital of 1?" for prompt in prompts]
            return [Generation("", (), False) if no else one for one, no in zip(found, long, strict=True)]

    found, context = written(Short(lambda number: 1.0), [fact(n) for n in range(4)])
    assert [KEY in row.meta for row in found] == [True, False, True, True]
    assert context.counts["not asked: a prompt longer than the context"] == 1
    with pytest.raises(DataError, match="0 usable questions"):
        written(Short(lambda number: 1.0), [fact(1)])


def test_a_real_model_reads_shared_examples_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that pass through the model, beside those of every prompt asked for itself."""
    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "tiny")
    facts, _ = facts_in([fact(n) for n in range(8)], SMALL)
    asking = replace(SMALL, max_new_tokens=3, early_stop=False)
    read = {"tokens": 0}
    forward = Slots.forward

    def counted(self: Slots, model: Any, pieces: Any) -> Any:
        read["tokens"] += sum(len(piece.ids) for piece in pieces)
        return forward(self, model, pieces)

    model.generate([Prompt((Turn("user", "a"),))], Decoding(1))  # tries once whether slots fit
    monkeypatch.setattr(Slots, "forward", counted)
    probe(model, facts, asking)
    prompts = prompts_for(facts, asking)
    apart = sum((1 + asking.samples) * len(model.renderer.prompt_ids(one)) for several in prompts for one in several)
    generated = len(facts) * asking.prompts * (1 + asking.samples) * asking.max_new_tokens
    assert read["tokens"] - generated < apart / 4
