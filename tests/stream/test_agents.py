"""Agents, driven by hand: what they ask for, what they show, what they keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnemos.core.errors import UsageError
from mnemos.stream.agents import AGENTS, make, row
from mnemos.stream.agents.playbook import alike, counted, merged, pruned, written
from mnemos.stream.learner import (
    Ask,
    Feedback,
    Generated,
    GoldShots,
    Question,
    Recall,
    Remember,
    Reply,
    Reveal,
    Shot,
    drive,
)
from mnemos.stream.prompts import filled, load, prompt_hash, shipped

PROMPTS = load()
QUESTION = Question("q", "Question: two and two?\nAnswer:", "Add.", "two and two?")
SHOTS = (Shot(3, "Question: far?\nAnswer:", "1", False, 0.1), Shot(7, "Question: near?\nAnswer:", "4", True, 0.9))
RIGHT, WRONG, UNKNOWN = Feedback(1.0), Feedback(0.0), Feedback(None, "the verifier failed")


class World:
    """Answers requests by a script, and keeps them."""

    def __init__(self, *texts: str, dropped: int = 0, shots: tuple[Shot, ...] = SHOTS) -> None:
        self.texts, self.dropped, self.shots, self.asked = list(texts), dropped, shots, list[Any]()

    def give(self) -> dict[type, Any]:
        def ask(request: Ask) -> Generated:
            self.asked.append(request)
            return Generated(self.texts.pop(0), True, self.dropped)

        def recall(request: Any) -> tuple[Shot, ...]:
            self.asked.append(request)
            return self.shots

        return {Ask: ask, Recall: recall, GoldShots: recall, Remember: self.asked.append, Reveal: lambda _: "GOLD"}

    def answer(self, agent: Any) -> Reply:
        reply: Reply = drive(agent.answer(QUESTION), self.give())
        return reply

    def learn(self, agent: Any, reply: Reply, feedback: Feedback) -> None:
        drive(agent.learn(QUESTION, Reply(reply.text, reply.text, reply.shown, reply.notes), feedback), self.give())

    @property
    def prompt(self) -> str:
        text: str = next(one for one in reversed(self.asked) if isinstance(one, Ask)).prompt().turns[0].text
        return text


def test_shots_stand_in_the_prompt_the_most_similar_last() -> None:
    world = World("4")
    reply = world.answer(make("self-stream-icl", PROMPTS, {"k": 2}))
    assert world.asked[0] == Recall("two and two?", 2, "correct", "similar")
    assert world.prompt.index("far?") < world.prompt.index("near?") < world.prompt.index("two and two?")
    assert "correct" not in world.prompt.split("Question: far?")[1]
    assert reply.shown == (3, 7)
    assert World("4", dropped=1).answer(make("self-stream-icl", PROMPTS, {})).shown == (7,)


def test_without_a_memory_the_prompt_is_that_of_zero_shot() -> None:
    bare, empty = World("4"), World("4", shots=())
    bare.answer(make("zero-shot", PROMPTS, {}))
    empty.answer(make("self-stream-icl", PROMPTS, {}))
    assert bare.prompt == empty.prompt == "Add.\n\nQuestion: two and two?\nAnswer:"
    assert len(bare.asked) == 1


def test_judged_shots_say_what_the_feedback_was() -> None:
    world = World("4")
    world.answer(make("mem-prompt", PROMPTS, {}))
    assert "1\nThis answer was not correct." in world.prompt
    assert "4\nThis answer was correct." in world.prompt
    grown = World("4")
    grown.answer(make("grow-prompt", PROMPTS, {"k": 5}))
    assert grown.asked[0] == Recall("two and two?", 5, "all", "latest")


@pytest.mark.parametrize(
    ("agent", "kept"),
    [
        ("self-stream-icl", (True, False)),
        ("random-correct", (True, False)),
        ("only-incorrect", (False, True)),
        ("all-answers", (True, True)),
        ("mem-prompt", (True, True)),
        ("zero-shot", (False, False)),
        ("few-shot", (False, False)),
        ("chain-of-thought", (False, False)),
        ("mam-stream-icl", (True, False)),
    ],
)
def test_what_is_remembered(agent: str, kept: tuple[bool, bool]) -> None:
    for feedback, expected in ((RIGHT, kept[0]), (WRONG, kept[1]), (UNKNOWN, False)):
        world = World("4")
        made = make(agent, PROMPTS, {})
        world.learn(made, world.answer(made), feedback)
        stored = [one for one in world.asked if isinstance(one, Remember)]
        assert bool(stored) is expected
        if stored:
            assert stored == [Remember("two and two?", QUESTION.text, "4", feedback.correct)]


def test_an_answer_that_cannot_be_read_is_not_remembered() -> None:
    world, agent = World("4"), make("self-stream-icl", PROMPTS, {})
    drive(agent.learn(QUESTION, Reply("???", None), RIGHT), world.give())
    assert not world.asked


def test_oracle_memory_stores_gold_whatever_the_feedback_was() -> None:
    world, agent = World("5"), make("oracle-memory", PROMPTS, {})
    world.learn(agent, world.answer(agent), WRONG)
    assert world.asked[-1] == Remember("two and two?", QUESTION.text, "GOLD", True)
    assert [name for name, one in AGENTS.items() if one.sees_gold] == ["oracle-memory"]


def test_self_refine_ends_where_nothing_is_left_to_refine() -> None:
    world = World("5", "Wrong sum.", "4", "no need to refine")
    assert world.answer(make("self-refine", PROMPTS, {})).text == "4"
    assert "Wrong sum." in world.prompt
    assert "Answer: 5" in world.prompt
    endless = World(*(f"{i}" for i in range(9)))
    assert endless.answer(make("self-refine", PROMPTS, {"rounds": 2})).text == "4"
    assert len(endless.asked) == 5


def test_models_take_turns() -> None:
    agent, turns = make("mam-stream-icl", PROMPTS, {}, models=3), []
    for _ in range(6):
        world = World("4")
        reply = world.answer(agent)
        turns.append(next(one for one in world.asked if isinstance(one, Ask)).model)
        world.learn(agent, reply, WRONG)
    assert turns == [0, 1, 2, 0, 1, 2]
    assert agent.state["wrong"] == [2.0, 2.0, 2.0]


def test_thompson_sampling_finds_the_better_model_and_repeats_itself() -> None:
    def run() -> list[int]:
        agent, turns = make("mam-thompson", PROMPTS, {}, models=2, seed=5), []
        draw = np.random.default_rng(0)
        for _ in range(120):
            world = World("4")
            reply = world.answer(agent)
            turns.append(int(reply.notes["model"]))
            rate = (0.2, 0.9)[turns[-1]]
            world.learn(agent, reply, Feedback(float(draw.random() < rate)))
        return turns

    first = run()
    assert first == run()
    assert sum(first[60:]) > 50


def test_discounted_counts_fade_once_a_model_has_a_hundred() -> None:
    agent = make("mam-discounted", PROMPTS, {}, models=1)
    agent.state = {"step": 0, "right": [60.0], "wrong": [40.0]}
    world = World("4")
    world.learn(agent, world.answer(agent), RIGHT)
    # The authors' rule: add the outcome, then scale both by C / (C + 1).
    assert np.allclose(agent.state["right"], 61 * 100 / 101)
    assert np.allclose(agent.state["wrong"], 40 * 100 / 101)
    young = make("mam-discounted", PROMPTS, {}, models=1)
    young.state = {"step": 0, "right": [50.0], "wrong": [40.0]}
    world = World("4")
    world.learn(young, world.answer(young), WRONG)
    assert young.state["right"] == [50.0]
    assert young.state["wrong"] == [41.0]


def test_a_playbook_reflects_counts_and_curates_without_the_gold_answer() -> None:
    agent = make("playbook", PROMPTS, {})
    first = World("5", "Adding failed. Carry.", "mistakes: carry the one\nstrategies: add slowly\nformulas: third")
    reply = first.answer(agent)
    first.learn(agent, reply, WRONG)
    assert [note["id"] for note in agent.state["notes"]] == ["mis-00001", "str-00002"]
    assert all("GOLD" not in one.prompt().turns[0].text for one in first.asked)
    assert "not correct" in first.asked[1].prompt().turns[0].text
    second = World("4\nUsed: [mis-00001], [str-99999]", "mis-00001 helpful, str-00002 harmful", "nothing")
    reply = second.answer(agent)
    assert reply.text == "4"
    assert reply.notes == {"used": ["mis-00001"]}
    second.learn(agent, reply, RIGHT)
    notes = {note["id"]: (note["helpful"], note["harmful"]) for note in agent.state["notes"]}
    assert notes == {"mis-00001": (1, 0), "str-00002": (0, 0)}  # one that was not used is not counted
    told_gold = make("playbook", PROMPTS, {"sees_gold": True})
    world = World("5", "x", "nothing")
    world.learn(told_gold, world.answer(told_gold), WRONG)
    assert any("GOLD" in one.prompt().turns[0].text for one in world.asked if isinstance(one, Ask))


def test_notes_that_harm_or_do_not_fit_go_and_the_same_is_said_once() -> None:
    def note(name: str, text: str, helpful: int = 0, harmful: int = 0) -> dict[str, Any]:
        return {"id": name, "section": "strategies", "text": text, "helpful": helpful, "harmful": harmful}

    notes = [note("str-00001", "a" * 10, 3), note("str-00002", "b" * 10), note("str-00003", "c" * 10, 0, 2)]
    assert [one["id"] for one in pruned(notes, 100)] == ["str-00001", "str-00002"]
    assert [one["id"] for one in pruned(notes, 10)] == ["str-00001"]
    assert alike("add the numbers slowly", "Add the numbers, slowly!")
    same, made = merged([note("str-00001", "add numbers slowly")], "strategies: Add numbers slowly.", 1)
    assert (len(same), made) == (1, 1)
    assert counted(notes, "str-00001: helpful. str-00001 harmful", ["str-00001"])[0]["harmful"] == 1
    assert "[str-00001] helpful=3 harmful=0 :: aaaaaaaaaa" in written(notes)
    long, _ = merged([], "mistakes: " + "x" * 9000, 0)
    assert len(long[0]["text"]) == 400


def test_prompts_are_filled_once_and_replaced_by_a_user_s_files(tmp_path: Any) -> None:
    assert filled("{a} {b} {c}", {"a": "{b}", "b": "x\\1"}) == "{b} x\\1 {c}"
    (tmp_path / "zero-shot.txt").write_text("Do: {instruction} {question}", encoding="utf-8")
    own = load(tmp_path)
    assert own["zero-shot"].startswith("Do:")
    assert own["shots"] == shipped()["shots"]
    assert prompt_hash(own) != prompt_hash(shipped())
    (tmp_path / "zero-shot.txt").write_text("Do: {instruction}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"lacks the place \{question\}"):
        load(tmp_path)
    (tmp_path / "zero-shot.txt").rename(tmp_path / "zero-shoot.txt")
    with pytest.raises(UsageError, match="did you mean 'zero-shot'"):
        load(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        load(tmp_path / "nowhere")


def test_rows_say_what_they_are() -> None:
    for name, one in AGENTS.items():
        assert one.summary, name
        assert make(name, PROMPTS, {}).state == {}
    assert row("frozen-at-half").control == {"learn_until": 0.5}
