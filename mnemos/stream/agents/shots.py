"""Agents that show earlier questions with answers: zero-shot, few-shot, GrowPrompt, MemPrompt, Self-StreamICL.

They are one agent with settings: how many shots, of whose feedback, found how, and whether the prompt says what the
feedback was. StreamBench (arXiv:2406.08747) shows what follows from these: correct ones alone help, wrong ones hurt
even where the prompt calls them wrong. Deviations: 1. the ablations filter before they search, so that k shots stand in
the prompt, where the authors' code filters what it found; 2. only-incorrect says beside each answer that it was wrong,
all-answers says nothing, mem-prompt is the one that says both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mnemos.stream.learner import (
    Answering,
    Ask,
    Feedback,
    GoldShots,
    Learning,
    Question,
    Recall,
    Remember,
    Reply,
    Reveal,
    Shot,
)


@dataclass
class Shots:
    """k: shots at most; 0 asks the bare question. which: whose feedback was what. how: found how; gold: the task's own
    examples, and nothing is learned. judged: say what the feedback was. stores_gold: remember the gold answer instead
    of the own one, whatever the feedback was: a control that shows how much memory could give. model: which of
    several answers, 0 the study's first."""

    prompts: Mapping[str, str]
    k: int = 16
    which: Literal["correct", "incorrect", "all"] = "correct"
    how: Literal["similar", "latest", "random", "gold"] = "similar"
    judged: bool = False
    stores_gold: bool = False
    model: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "which": ("correct", "incorrect", "all"),
        "how": ("similar", "latest", "random", "gold"),
    }

    def answer(self, question: Question) -> Answering:
        """One request for shots, one for an answer."""
        shots: tuple[Shot, ...] = ()
        if self.k and self.how == "gold":
            shots = yield GoldShots(self.k)
        elif self.k:
            shots = yield Recall(question.key, self.k, self.which, self.how)  # type: ignore[arg-type]
        ask = shots_ask(self.prompts, question, shots, judged=self.judged, model=self.model)
        written = yield ask
        # The shots that did not fit are those in front.
        return Reply(written.text, shown=tuple(one.id for one in shots[written.dropped :]))

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Remember the answer where its feedback is of the kind that is shown."""
        if not self.k or self.how == "gold":
            return
        if self.stores_gold:
            gold = yield Reveal()
            yield Remember(question.key, question.text, gold, True)
        elif keeps(self.which, feedback) and reply.parsed is not None:
            yield Remember(question.key, question.text, reply.parsed, feedback.correct)


def keeps(which: str, feedback: Feedback) -> bool:
    """Whether an answer with this feedback is one that the agent shows; never one without feedback."""
    if feedback.correct is None:
        return False
    return which == "all" or feedback.correct == (which == "correct")


def shots_ask(
    prompts: Mapping[str, str], question: Question, shots: Any, *, judged: bool = False, model: int = 0
) -> Ask:
    """The prompt with shots; without any, and where none fits, that of zero-shot."""
    return Ask(
        prompts["judged-shots" if judged else "shots"],
        {"instruction": question.instruction, "question": question.text},
        tuple(one.judged() if judged else one.plain() for one in shots),
        bare=prompts["zero-shot"],
        model=model,
    )
