"""A context whose models answer by a script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnemos.core.nouns import Decoding, Example, Generation, OptionScore, Prompt, Source
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import GeneratedSource, materialize
from mnemos.sources.mix import Rows

Say = Callable[[Prompt, int], Generation | str]


@dataclass
class Scripted:
    """say: (prompt, its number in the call) -> answer; a text is a finished one without ids.
    probability: of each token of an option; tokens are words."""

    say: Say = lambda prompt, number: ""
    probability: Callable[[str], float] = lambda option: 0.5
    calls: list[tuple[tuple[Prompt, ...], Decoding]] = field(default_factory=list)
    name: str = "scripted"
    fingerprint: str = "scripted"

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.calls.append((tuple(prompts), decoding))
        text = [self.say(prompt, number) for number, prompt in enumerate(prompts)]
        return [Generation(one, (), True) if isinstance(one, str) else one for one in text]

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        return [[self._option(text) for text in texts] for texts in options]

    def _option(self, text: str) -> OptionScore:
        return OptionScore(len(text.split()) * math.log(self.probability(text)), len(text.split()), False)

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(-len(text.split()) * math.log(self.probability(text)), len(text.split())) for text in texts]


@dataclass
class FakeContext:
    """models: by the handle's path. Rows of written sources inside others are written on demand."""

    models: Mapping[str, Any]
    counts: Counter[str] = field(default_factory=Counter)
    notes: dict[str, float] = field(default_factory=dict)

    def model(self, handle: ModelHandle) -> Any:
        return self.models[handle.path]

    def rows(self, source: Source) -> list[Example]:
        def find(written: GeneratedSource) -> Rows:
            return Rows(tuple(written.write(FakeContext(self.models))), "written")

        return list(materialize(source, find))

    def count(self, reason: str, number: int = 1) -> None:
        self.counts[reason] += number

    def note(self, name: str, value: float) -> None:
        self.notes[name] = value


def cut(text: str) -> Generation:
    """An answer that the length limit cut off."""
    return Generation(text, (), False)
