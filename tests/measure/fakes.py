"""Models without weights: what they answer is written in the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt


def text_of(prompt: Prompt) -> str:
    """The text of the last turn."""
    return prompt.turns[-1].text


@dataclass
class FakeModel:
    """answers: prompt text -> answer, or a function of it. likelihood: (prompt, option) -> ln p.
    calls: every prompt asked, in order."""

    answers: Mapping[str, str] | Callable[[str], str] = field(default_factory=dict)
    likelihood: Callable[[str, str], float] = lambda prompt, option: -float(len(option))
    nats_per_byte: float = math.log(2)
    divergences: Mapping[str, float] = field(default_factory=dict)
    finished: bool = True
    name: str = "fake"
    fingerprint: str = "fake"
    calls: list[str] = field(default_factory=list)
    decodings: list[Decoding] = field(default_factory=list)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.calls += [text_of(prompt) for prompt in prompts]
        self.decodings.append(decoding)
        texts = [self.answers(p) if callable(self.answers) else self.answers[p] for p in map(text_of, prompts)]
        return [Generation(text, tuple(range(len(text.split()))), self.finished) for text in texts]

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        self.calls += [text_of(context) for context in contexts]
        return [
            [OptionScore(self.likelihood(text_of(context), text), len(text.split()), False) for text in texts]
            for context, texts in zip(contexts, options, strict=True)
        ]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(self.nats_per_byte * len(text.encode()), len(text.split())) for text in texts]

    def divergence(
        self, other: FakeModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
    ) -> list[tuple[float, int]]:
        return [(other.divergences.get(text_of(p), 0.0), len(ids)) for p, ids in zip(prompts, answers, strict=True)]

    def text_divergence(self, other: FakeModel, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(other.divergences.get(text, 0.0), len(text.split())) for text in texts]
