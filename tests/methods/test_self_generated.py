"""Answers in the model's own words, with models whose answers are written down in the test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnemos
from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_jsonl
from mnemos.core.nouns import Decoding, Example, Generation, OptionScore, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.methods.examples.self_generated import (
    minimum_change,
    rephrase,
    sdft,
    selective_self_rehearsal,
    self_output,
    teacher_answers,
)
from mnemos.models import load
from mnemos.sources.mix import Mixture, Rows
from mnemos.synthesis.self_generated import LEAKS, Check, answered
from mnemos.train.likelihood import train
from tests import laws
from tests.methods.contexts import FakeContext
from tests.study.worlds import chat, make_study, write_jsonl
from tests.tiny import save_tiny

Answers = Callable[[str, int], str | Generation]


@dataclass
class Author:
    """Answers by the last question; a text costs as many nats per token (one a letter) as `nats` says."""

    answers: Answers
    nats: Callable[[str], float] = lambda text: 1.0
    asked: list[tuple[Prompt, Decoding]] = field(default_factory=list)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        seen: Counter[str] = Counter()
        out = []
        for prompt in prompts:
            self.asked.append((prompt, decoding))
            question = prompt.turns[-1].text
            text = self.answers(question, seen[question])
            seen[question] += 1
            out.append(text if isinstance(text, Generation) else Generation(text, (), True))
        return out

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        assert all(texts and all(texts) for texts in options)
        return [[OptionScore(-self.nats(text) * len(text), len(text), False) for text in texts] for texts in options]


def row(number: int, gold: str, **changed: Any) -> Example:
    turns = (Turn("system", "Be brief."), Turn("user", f"Question {number}?"), Turn("assistant", gold))
    return Example(**{"id": f"r{number}", "kind": "messages", "turns": turns, **changed})


def plan_of(*rows: Example) -> Plan:
    return laws.base_plan(examples=Rows(rows))


def write(plan: Plan, author: Author, **others: Author) -> tuple[list[Example], FakeContext]:
    context = FakeContext({"before": author, **others})
    out = plan.examples.write(context)  # type: ignore[attr-defined]
    assert context.counts.total() == len(list(plan.examples.rows)), "every row is counted once"  # type: ignore[attr-defined]
    return out, context


def learned(rows: Sequence[Example]) -> list[str]:
    return [one.turns[-1].text for one in rows]


def by_number(answers: dict[int, str | Generation]) -> Answers:
    """Answers by the number of the question, wherever a template has put it."""

    def answer(question: str, again: int) -> str | Generation:
        found = [text for number, text in answers.items() if f"Question {number}?" in question]
        assert len(found) == 1, question
        return found[0]

    return answer


# --- teacher_answers ---------------------------------------------------------------------------


def test_a_teacher_answers_without_seeing_the_gold_answer() -> None:
    gold = [row(0, "gold zero"), row(1, "gold one"), row(2, "gold two")]
    words: dict[int, str | Generation] = {0: " A zero. ", 1: Generation("A one that", (), finished=False), 2: "A two."}
    teacher = Author(by_number(words))
    before = Author(lambda question, again: pytest.fail("asked"), nats=lambda text: 2.0 if "gold" in text else 0.5)
    plan = teacher_answers(plan_of(*gold), teacher="http://localhost:8000/v1#teacher")
    out, context = write(plan, before, **{"http://localhost:8000/v1#teacher": teacher})
    assert learned(out) == ["A zero.", "A two."]
    assert [(one.id, one.turns[:-1]) for one in out] == [(one.id, one.turns[:-1]) for one in (gold[0], gold[2])]
    assert [prompt for prompt, _ in teacher.asked] == [one.prompt for one in gold], "question and context, no answer"
    assert {(how.temperature, how.stop) for _, how in teacher.asked} == {(0.0, ())}
    assert context.counts == {"answered by the teacher": 2, "left out: no end": 1}
    assert context.notes["target perplexity, learned"] == pytest.approx(math.exp(0.5)), "under the model that learns"
    kept, _ = write(
        teacher_answers(plan_of(*gold), teacher="http://localhost:8000/v1#teacher", unsolved="keep"),
        before,
        **{"http://localhost:8000/v1#teacher": teacher},
    )
    assert learned(kept) == ["A zero.", "gold one", "A two."]


def test_a_base_model_answers_behind_a_text_that_the_student_does_not_see(tmp_path: Path) -> None:
    shown = tmp_path / "shown.txt"
    shown.write_text("Q: {one} brace\nA: yes\n\nQ: {question}\nA:", encoding="utf-8")
    author = Author(lambda question, again: "so it is")
    plan = teacher_answers(plan_of(row(5, "gold")), teacher="self", shown=str(shown), stop=("\n\n",))
    out, _ = write(plan, author)
    (prompt, how) = author.asked[0]
    assert prompt.turns == (Turn("prompt", "Q: {one} brace\nA: yes\n\nQ: Question 5?\nA:"),)
    assert how.stop == ("\n\n",)
    assert (out[0].turns[:-1], learned(out)) == (row(5, "gold").turns[:-1], ["so it is"])
    shown.write_text("no place", encoding="utf-8")
    with pytest.raises(UsageError, match=r"has no \{question\}"):
        teacher_answers(plan_of(row(5, "gold")), teacher="self", shown=str(shown))
    with pytest.raises(UsageError, match="cannot be read"):
        teacher_answers(plan_of(row(5, "gold")), teacher="self", shown=str(tmp_path / "nowhere.txt"))


def test_other_texts_to_be_shown_are_another_plan(tmp_path: Path) -> None:
    shown, prints = tmp_path / "shown.txt", set()
    for text in ("One. {question}", "Another. {question}"):
        shown.write_text(text, encoding="utf-8")
        prints.add(teacher_answers(plan_of(row(5, "gold")), teacher="self", shown=str(shown)).fingerprint)
    assert len(prints) == 2


# --- sdft --------------------------------------------------------------------------------------


def test_sdft_learns_rewrites_that_pass_and_gold_where_they_do_not() -> None:
    gold = [row(i, f"The sum is {i}.") for i in range(6)]
    words: dict[int, str | Generation] = {
        0: " It makes 0. ",
        1: "It makes 7.",
        2: "As the Reference Answer says: 2.",
        3: Generation("It makes 3", (), finished=False),
        4: "  ",
        5: "5",
    }
    plan = sdft(plan_of(*gold), verifier="number", template="guide")
    out, context = write(
        plan, Author(by_number(words), nats=lambda text: 0.5 if "makes" in text or text == "5" else 2.0)
    )
    assert learned(out) == ["It makes 0.", *[one.turns[-1].text for one in gold[1:5]], "5"]
    assert [(one.id, one.turns[:-1], one.origin) for one in out] == [(one.id, one.turns[:-1], "new") for one in gold]
    assert context.counts == {
        "rewritten": 2,
        "gold kept: wrong": 1,
        "gold kept: speaks of the instruction": 1,
        "gold kept: no end": 1,
        "gold kept: empty": 1,
    }
    assert context.notes["acceptance rate"] == pytest.approx(2 / 6)
    letters = [len(one.turns[-1].text) for one in gold]
    assert context.notes["target perplexity, gold"] == pytest.approx(math.exp(2.0))
    own, kept = len("It makes 0.") + len("5"), sum(letters[1:5])
    assert context.notes["target perplexity, learned"] == pytest.approx(math.exp((0.5 * own + 2 * kept) / (own + kept)))


@pytest.mark.parametrize("template", ["refer", "guide", "maths"])
def test_the_author_sees_question_and_gold_answer_in_its_context(template: str) -> None:
    author = Author(lambda question, again: "mine")
    text = row(3, "a {curly} answer", turns=(Turn("prompt", "Question 3?"), Turn("completion", " a raw one")))
    raw = Example("raw", "completion", text.turns)
    out, _ = write(sdft(plan_of(row(1, "a {curly} answer"), raw), template=template), author)
    chat_prompt, raw_prompt = (prompt for prompt, _ in author.asked)
    assert [turn.role for turn in chat_prompt.turns] == ["system", "user"]
    assert chat_prompt.turns[0] == Turn("system", "Be brief.")
    for part in ("Question 1?", "a {curly} answer"):
        assert part in chat_prompt.turns[1].text
    assert [turn.role for turn in raw_prompt.turns] == ["prompt"]
    assert learned(out) == ["mine", " mine"], "a completion keeps the space it begins with"
    assert {decoding.temperature for _, decoding in author.asked} == {0.0}


@pytest.mark.parametrize("leak", [*LEAKS, "YOUR RESPONSE", "Your turn: go on"])
def test_phrases_that_leak_the_instruction_are_refused(leak: str) -> None:
    check = Check(leaks=True)
    starts = leak.lower().startswith("your turn")
    text = f"{leak} is this" if starts else f"Well, {leak} is this"
    assert check.fault(row(0, "gold"), Generation(text, (), True)) == "speaks of the instruction"
    assert Check().fault(row(0, "gold"), Generation(text, (), True)) is None
    assert check.fault(row(0, "gold"), Generation("It is not your turn", (), True)) is None


def test_rows_that_are_not_asked_about_stay_and_are_counted() -> None:
    document = Example("d", "text", (Turn("text", "a document"),))
    old = row(9, "old", origin="replay")
    exempt = Example("x", "messages", (Turn("user", "Question 8?"), Turn("assistant", "answers", learn=False)))
    no_number = row(7, "no number here")
    rows = (row(1, "1"), document, old, exempt, no_number)
    out, context = write(sdft(plan_of(*rows), verifier="number"), Author(by_number({1: "one is 1"})))
    assert learned(out) == ["one is 1", "a document", "old", "answers", "no number here"]
    assert context.counts == {
        "rewritten": 1,
        "as it was: not a new row": 1,
        "as it was: no answer to a question": 2,
        "as it was: a reference that no answer could meet": 1,
    }


def test_too_few_accepted_stop_with_the_counts() -> None:
    gold = [row(i, f"{i}") for i in range(20)]
    author = Author(by_number({i: "0" if i == 0 else "wrong 99" for i in range(20)}))
    plan = sdft(plan_of(*gold), verifier="number", min_acceptance=0.1)
    with pytest.raises(DataError) as error:
        write(plan, author)
    for part in ("1 usable answers in the model's own words", "wrong: 19", "at least 2 are needed", "min_acceptance"):
        assert part in str(error.value)
    write(sdft(plan_of(*gold), verifier="number", min_acceptance=0.05), author)
    nothing = Author(lambda question, again: "")
    out, context = write(sdft(plan_of(*gold), min_acceptance=0.0), nothing)
    assert learned(out) == learned(gold)
    assert context.notes["acceptance rate"] == 0
    with pytest.raises(DataError, match="empty: 20"):
        write(sdft(plan_of(*gold)), nothing)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_the_share_is_drawn_by_seed_and_row(share: float, seed: int) -> None:
    gold = [row(i, f"gold {i}") for i in range(200)]
    author = Author(lambda question, again: "mine")
    out, context = write(sdft(plan_of(*gold), share=share, seed=seed, min_acceptance=0.0), author)
    drawn = {one.id for one in out if one.turns[-1].text == "mine"}
    assert abs(len(drawn) - 200 * share) <= 5 * math.sqrt(200 * share * (1 - share)) + 1
    assert context.counts["as it was: not in the share"] == 200 - len(drawn)
    fewer, _ = write(sdft(plan_of(*gold[50:]), share=share, seed=seed, min_acceptance=0.0), author)
    assert {one.id for one in fewer if one.turns[-1].text == "mine"} == drawn & {one.id for one in gold[50:]}


def test_the_reference_may_be_a_column_of_its_own() -> None:
    rows = [row(i, f"Long working, then a slip: {i + 1}", meta={"result": i}) for i in range(2)]
    plan = sdft(plan_of(*rows), verifier="number", reference="result")
    out, _ = write(plan, Author(by_number({0: "so 0", 1: "so 2"})))
    assert learned(out) == ["so 0", rows[1].turns[-1].text]
    with pytest.raises(DataError, match=r"no column 'resutl'.*\n?.*result"):
        write(sdft(plan_of(*rows), verifier="number", reference="resutl"), Author(by_number({})))


def test_greedy_rewrites_are_shared_by_seeds_and_sampled_ones_are_not() -> None:
    plans = [laws.base_plan(seed=seed) for seed in (0, 1)]
    for method, changed, shared in (
        (sdft, {}, True),
        (sdft, {"share": 0.5}, False),
        (sdft, {"temperature": 0.5}, False),
        (minimum_change, {}, True),
        (rephrase, {}, False),
        (self_output, {}, False),
    ):
        first, second = (method(plan, **changed).examples.fingerprint for plan in plans)
        assert (first == second) == shared, (method.name, changed)


# --- rephrase ----------------------------------------------------------------------------------


def test_rephrase_samples_one_rewrite_of_any_author_and_keeps_or_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mnemos.methods.examples.self_generated.handle", lambda reference: laws.Handle(reference, "other")
    )
    gold = [row(i, f"Answer {i}.") for i in range(3)]
    author = Author(by_number({0: "the answer, 0", 1: "something else", 2: "answer 2"}))
    before = Author(lambda question, again: "never asked", nats=lambda text: 3.0)
    plan = rephrase(plan_of(*gold), author="big", seed=4)
    out, context = write(plan, before, big=author)
    assert learned(out) == ["the answer, 0", "Answer 1.", "answer 2"]
    assert context.counts == {"rewritten": 2, "gold kept: wrong": 1}
    assert not before.asked
    assert {(d.temperature, d.top_p, d.seed) for _, d in author.asked} == {(0.7, 0.95, plan.seed + 4)}
    dropped, context = write(rephrase(plan_of(*gold), author="big", unsolved="drop"), before, big=author)
    assert [one.id for one in dropped] == ["r0", "r2"]
    assert context.counts == {"rewritten": 2, "left out: wrong": 1}


# --- minimum change and selective self-rehearsal -----------------------------------------------

PREDICTED = {0: "It is 0", 1: "It is 5", 2: "It is 6", 3: ""}


def two_steps(edited: dict[int, str | Generation]) -> Answers:
    first, second = by_number(dict(PREDICTED)), by_number(edited)

    def answer(question: str, again: int) -> str | Generation:
        return second(question, again) if "as few words as possible" in question else first(question, again)

    return answer


def test_minimum_change_keeps_own_right_answers_and_edits_wrong_ones() -> None:
    gold = [row(i, f"{i}") for i in range(4)]
    author = Author(two_steps({1: "It is 1", 2: "It is 7", 3: Generation("3", (), False)}))
    out, context = write(minimum_change(plan_of(*gold), verifier="number"), author)
    assert learned(out) == ["It is 0", "It is 1", "2", "3"]
    assert context.counts == {
        "own answer": 1,
        "own answer, edited": 1,
        "gold kept: edited, wrong": 1,
        "gold kept: edited, no end": 1,
    }
    assert context.notes["right without editing"] == 0.25
    assert context.notes["acceptance rate"] == 0.5
    questions = [prompt.turns[-1].text for prompt, _ in author.asked]
    assert questions[:4] == [f"Question {i}?" for i in range(4)], "the first answer is zero-shot"
    edits = questions[4:]
    assert len(edits) == 3
    assert all(part in edits[0] for part in ("Question 1?", "It is 5", "Correct answer:\n1"))


def test_another_editor_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mnemos.methods.examples.self_generated.handle", lambda reference: laws.Handle(reference, "other")
    )
    gold = [row(i, f"{i}") for i in range(4)]
    before, editor = Author(by_number(dict(PREDICTED))), Author(by_number({i: f"It is {i}" for i in (1, 2, 3)}))
    out, context = write(minimum_change(plan_of(*gold), verifier="number", editor="big"), before, big=editor)
    assert learned(out) == [f"It is {i}" for i in range(4)]
    assert (len(before.asked), len(editor.asked)) == (4, 3)
    assert context.counts == {"own answer": 1, "own answer, edited": 3}


def test_selective_self_rehearsal_takes_own_answers_that_pass() -> None:
    gold = [row(i, f"{i}") for i in range(4)]
    author = Author(by_number(dict(PREDICTED)))
    out, context = write(selective_self_rehearsal(plan_of(*gold), verifier="number"), author)
    assert learned(out) == ["It is 0", "1", "2", "3"]
    assert context.counts == {"own answer": 1, "gold kept: wrong": 2, "gold kept: empty": 1}
    assert len(author.asked) == 4


def test_a_judge_decides_by_yes_or_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mnemos.methods.examples.self_generated.handle", lambda reference: laws.Handle(reference, "other")
    )
    gold = [row(i, f"{i}") for i in range(4)]
    judge = Author(by_number({0: "Yes, it does.", 1: "**No**", 2: "Yesterday"}))
    plan = selective_self_rehearsal(plan_of(*gold), judge="big", verifier="none")
    out, context = write(plan, Author(by_number(dict(PREDICTED))), big=judge)
    assert learned(out) == ["It is 0", "1", "2", "3"]
    assert context.counts == {
        "own answer": 1,
        "gold kept: wrong": 1,
        "gold kept: the judge said neither yes nor no": 1,
        "gold kept: empty": 1,
    }
    assert len(judge.asked) == 3, "an empty answer needs no judge"
    assert all(part in judge.asked[1][0].turns[-1].text for part in ("Question 1?", "It is 5"))
    with pytest.raises(UsageError, match="leaves nobody to judge"):
        selective_self_rehearsal(plan_of(*gold), verifier="none")


# --- self-output -------------------------------------------------------------------------------


def test_self_output_takes_the_likeliest_right_sample() -> None:
    words = {
        "Question 0?": ["so 0", "well 0", "0", "no"],
        "Question 1?": ["1 it is", "2", "", "1"],
        "Question 2?": ["7", "8", "", ""],
    }
    nats = {"so 0": 0.9, "well 0": 0.2, "0": 0.5, "1 it is": 0.3, "1": 0.3, "no": 0.0}
    gold = [row(i, f"{i} is gold") for i in range(3)]
    author = Author(lambda question, again: words[question][again], nats=lambda text: nats.get(text, 4.0))
    plan = self_output(plan_of(*gold), num_generations=4, verifier="number", seed=2)
    out, context = write(plan, author)
    assert [(one.id, one.turns[-1].text) for one in out] == [("r0", "well 0"), ("r1", "1 it is")]
    assert context.counts == {"own sample": 2, "left out: no right sample, mostly empty": 1}
    assert context.notes["right samples"] == pytest.approx(5 / 12)
    assert context.notes["acceptance rate"] == pytest.approx(2 / 3)
    assert context.notes["target perplexity, gold"] == pytest.approx(math.exp(4.0))
    own = len("well 0"), len("1 it is")
    assert context.notes["target perplexity, learned"] == pytest.approx(
        math.exp((0.2 * own[0] + 0.3 * own[1]) / sum(own))
    )
    assert {(d.temperature, d.top_p, d.seed) for _, d in author.asked} == {(0.7, 0.95, plan.seed + 2)}
    kept, context = write(self_output(plan_of(*gold), num_generations=4, verifier="number", unsolved="keep"), author)
    assert learned(kept) == ["well 0", "1 it is", "2 is gold"]
    assert context.counts["gold kept: no right sample, mostly empty"] == 1


def test_a_sample_that_cannot_be_scored_is_taken_last() -> None:
    author = Author(
        lambda question, again: ["long 1", "short 1"][again], nats=lambda text: math.nan if text == "long 1" else 9.0
    )
    out, context = write(self_output(plan_of(row(1, "1")), num_generations=2, verifier="number"), author)
    assert learned(out) == ["short 1"]
    assert context.notes["target perplexity, learned"] == pytest.approx(math.exp(9.0))
    out, context = write(self_output(plan_of(row(1, "1")), num_generations=1, verifier="number"), author)
    assert learned(out) == ["long 1"]
    assert math.isnan(context.notes["target perplexity, gold"]), "where nothing fits the context, nothing is claimed"


def test_replay_around_and_inside() -> None:
    """Old rows that are already mixed in stay; the mixture of a later replay draws beside written rows."""
    mixed = Mixture(Rows((row(1, "1"), row(2, "2"))), laws.rows("old", 4), 0.5, 0)
    plan = sdft(laws.base_plan(examples=mixed))
    out, context = write(plan, Author(lambda question, again: "mine"))
    assert Counter(one.origin for one in out) == {"new": 2, "replay": 2}
    assert {one.turns[-1].text for one in out if one.origin == "new"} == {"mine"}
    assert context.counts["as it was: not a new row"] == 2


def test_answered_keeps_everything_but_the_text() -> None:
    one = row(1, "\n gold ", meta={"a": 1})
    assert answered(one, " new  ") == row(1, "\n new", meta={"a": 1})


# --- a study -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model taught to say one of two words, so that some of its samples are right."""
    folder = tmp_path_factory.mktemp("copier")
    words = ["bridge", "river"]
    rows = tuple(
        Example(str(n), "messages", (Turn("user", f"Say {n % 12}."), Turn("assistant", words[n % 2])))
        for n in range(48)
    )
    settings = TrainSettings(learning_rate=1e-2, num_train_epochs=12, per_device_train_batch_size=8)
    before = load.Checkpoint(str(save_tiny(folder / "model")))
    taught = train(Plan(Rows(rows), before, task="copy", seed=0, train=settings), folder / "out", quiet=True)
    return Path(taught.model)


def test_self_output_in_a_study(tmp_path: Path, copier: Path) -> None:
    arms = {
        "own": [
            {"self_output": {"num_generations": 12, "verifier": "exact", "max_new_tokens": 12, "min_acceptance": 0.1}}
        ]
    }
    study = make_study(tmp_path, arms=arms, health=False, model=str(copier))
    write_jsonl(tmp_path / "new.jsonl", [chat(n, f"Say {n}.", "river" if n < 8 else "never said") for n in range(12)])
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    run = next(arm for arm in record.results["arms"] if arm["arm"] == "own")["runs"][0]
    (written,) = run["written"]
    kept = read_jsonl(tmp_path / "run/arms/own/seed-0/written-0/rows.jsonl")
    assert {one["messages"][-1]["content"] for one in kept} == {"river"}
    assert {int(one["messages"][0]["content"][4:-1]) for one in kept} <= set(range(8))
    assert written["rows"] == len(kept) == written["counts"]["own sample"] >= 2
    assert sum(written["counts"].values()) == 12
    assert written["notes"]["acceptance rate"] == pytest.approx(len(kept) / 12)
    assert run["counts"]["examples"] == len(kept)
    model = load.handle(str(copier)).load()
    asked = [Prompt((Turn("user", one["messages"][0]["content"]),)) for one in kept]
    scores = [row[0] for row in model.choose(asked, [["river"]] * len(asked))]
    nats, tokens = -sum(one.log_prob for one in scores), sum(one.tokens for one in scores)
    assert written["notes"]["target perplexity, learned"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert written["notes"]["target perplexity, learned"] < written["notes"]["target perplexity, gold"]


def test_a_teacher_in_a_study_is_asked_the_rows_questions(tmp_path: Path, copier: Path) -> None:
    arms = {"taught": [{"teacher_answers": {"teacher": str(copier), "max_new_tokens": 12}}]}
    study = make_study(tmp_path, arms=arms, health=False)
    write_jsonl(tmp_path / "new.jsonl", [chat(n, f"Say {n}.", "gold") for n in range(12)])
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    run = next(arm for arm in record.results["arms"] if arm["arm"] == "taught")["runs"][0]
    kept = read_jsonl(tmp_path / "run/arms/taught/seed-0/written-0/rows.jsonl")
    teacher = load.handle(str(copier)).load()
    asked = [Prompt((Turn("user", f"Say {n}."),)) for n in range(12)]
    answers = {
        prompt.turns[0].text: answer.text.strip()
        for prompt, answer in zip(asked, teacher.generate(asked, Decoding(max_new_tokens=12)), strict=True)
        if answer.finished and answer.text.strip()
    }
    assert {one["messages"][0]["content"]: one["messages"][-1]["content"] for one in kept} == answers
    assert run["written"][0]["counts"]["answered by the teacher"] == len(answers) >= 6


def test_a_model_that_cannot_rewrite_stops_the_study_and_says_so(tmp_path: Path, copier: Path) -> None:
    arms = {"sdft": [{"sdft": {"verifier": "number", "max_new_tokens": 8}}]}
    study = make_study(tmp_path, arms=arms, health=False, model=str(copier))
    with pytest.raises(DataError, match=r"0 usable answers in the model's own words.*\n?.*min_acceptance"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
