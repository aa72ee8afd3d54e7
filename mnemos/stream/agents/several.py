"""MAM-StreamICL: several models share one memory (arXiv:2406.08747, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from mnemos.stream.agents.shots import keeps, shots_ask
from mnemos.stream.learner import Answering, Feedback, Learning, Question, Recall, Remember, Reply

FORGETS_FROM = 100
"""C of the discounted draw: observations of a model from which old ones fade."""


@dataclass
class Shared:
    """k: shots. models: how many there are. turn: round-robin, so that each question costs what one model costs;
    thompson: each question draws from Beta(S + 1, F + 1) of each model and takes the highest; discounted: as thompson,
    with (S, F) scaled by C / (C + 1) after each outcome of a model that has C = 100 or more. seed: of these draws."""

    prompts: Mapping[str, str]
    k: int = 16
    models: int = 1
    turn: Literal["round-robin", "thompson", "discounted"] = "round-robin"
    seed: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"turn": ("round-robin", "thompson", "discounted")}

    def answer(self, question: Question) -> Answering:
        """One request for shots, one for an answer of the model whose turn it is."""
        model = self._whose_turn()
        shots = yield Recall(question.key, self.k)
        written = yield shots_ask(self.prompts, question, shots, model=model)
        return Reply(written.text, shown=tuple(one.id for one in shots[written.dropped :]), notes={"model": model})

    def _whose_turn(self) -> int:
        step = int(self.state.get("step", 0))
        if self.turn == "round-robin":
            return step % self.models
        # Drawn from the step alone, so that a killed stream draws the same.
        draw = np.random.default_rng([self.seed, step])
        right, wrong = self._counts()
        return int(np.argmax(draw.beta(np.array(right) + 1, np.array(wrong) + 1)))

    def _counts(self) -> tuple[list[float], list[float]]:
        none = [0.0] * self.models
        return list(self.state.get("right", none)), list(self.state.get("wrong", none))

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Count the outcome for the model that answered; remember a correct answer."""
        right, wrong = self._counts()
        model = int(reply.notes.get("model", 0))
        if feedback.correct is not None:
            fades = self.turn == "discounted" and right[model] + wrong[model] >= FORGETS_FROM
            (right if feedback.correct else wrong)[model] += 1
            if fades:
                right[model] *= FORGETS_FROM / (FORGETS_FROM + 1)
                wrong[model] *= FORGETS_FROM / (FORGETS_FROM + 1)
        self.state = {"step": int(self.state.get("step", 0)) + 1, "right": right, "wrong": wrong}
        if keeps("correct", feedback) and reply.parsed is not None:
            yield Remember(question.key, question.text, reply.parsed, True)
