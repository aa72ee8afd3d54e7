"""Agents that write more before they answer, and learn nothing: chain of thought and Self-Refine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnemos.stream.learner import Answering, Ask, Feedback, Learning, Question, Reply

THOUGHT_TOKENS = 512
"""Tokens of an answer with its thoughts, and of a critique."""
ENOUGH = "NO NEED TO REFINE"


@dataclass
class ChainOfThought:
    """Think first (arXiv:2201.11903, here without examples). The task reads what stands behind "Final answer:"."""

    prompts: Mapping[str, str]
    max_new_tokens: int = THOUGHT_TOKENS
    state: dict[str, Any] = field(default_factory=dict)

    def answer(self, question: Question) -> Answering:
        """One request."""
        fields = {"instruction": question.instruction, "question": question.text}
        written = yield Ask(self.prompts["chain-of-thought"], fields, max_new_tokens=self.max_new_tokens)
        return Reply(written.text)

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Nothing."""
        yield from ()


@dataclass
class SelfRefine:
    """Answer, criticise, improve, at most `rounds` times (arXiv:2303.17651), with the whole trajectory in the prompt;
    ends where the critique says that there is no need."""

    prompts: Mapping[str, str]
    rounds: int = 4
    max_new_tokens: int = THOUGHT_TOKENS
    state: dict[str, Any] = field(default_factory=dict)

    def answer(self, question: Question) -> Answering:
        """One request, and two a round."""
        fields = {"instruction": question.instruction, "question": question.text}
        written = yield Ask(self.prompts["zero-shot"], fields)
        text, trajectory = written.text, [f"Answer: {written.text}"]
        for _ in range(self.rounds):
            so_far = {**fields, "trajectory": "\n\n".join(trajectory)}
            critique = yield Ask(self.prompts["critique"], so_far, max_new_tokens=self.max_new_tokens)
            if ENOUGH in critique.text.upper():
                break
            trajectory.append(f"Critique: {critique.text}")
            better = yield Ask(self.prompts["refine"], {**fields, "trajectory": "\n\n".join(trajectory)})
            text = better.text
            trajectory.append(f"Answer: {text}")
        return Reply(text)

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Nothing."""
        yield from ()
