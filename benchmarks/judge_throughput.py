"""200 pairs judged in both orders by option log-probabilities, beside asking one prompt at a time.

    python -m benchmarks judge_throughput

Both sides score the same two options behind the same 400 prompts with the same model. The peer scores each option of
each prompt in a call of its own, as a loop around a scoring call does; ours gives all prompts at once: batches by
length, and both options behind one pass over their context. The verdicts must be the same.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.common import Result, alternate, compared
from mnemos.core.nouns import LanguageModel, OptionScore, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.models.load import Checkpoint
from mnemos.rewards.judge import CONSTITUTION, Judge, Verdict, principles

PAIRS, REPETITIONS, BOUND = 200, 3, 4.0
MODEL = "MNEMOS_JUDGE_BENCHMARK"
"""Environment variable that names another model than the shipped patient."""


class OneByOne:
    """A model that is asked one option of one prompt at a time."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
        """See `core.nouns.LanguageModel`."""
        return [
            [self.model.choose([context], [[option]])[0][0] for option in texts]
            for context, texts in zip(contexts, options, strict=True)
        ]


def pairs(number: int) -> tuple[list[Prompt], list[str], list[str]]:
    """Questions of one to four sentences, and two answers of different length each."""
    rng = random.Random(0)
    words = "river stone answer city number green small great early light water paper seven".split()  # noqa: SIM905

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(low, high)))

    prompts = [Prompt((Turn("user", text(8, 40)),)) for _ in range(number)]
    return prompts, [text(5, 60) for _ in prompts], [text(5, 60) for _ in prompts]


def judging(model: Any, place: ModelHandle) -> Judge:
    return Judge(place, principles(CONSTITUTION), models=lambda _: model)


def run(items: int = PAIRS) -> Iterator[Result]:
    """Pairs a second, ours and the peer's."""
    from mnemos.core.places import PATIENTS

    # In float32: two ways to the same number differ by rounding alone, which 16 bits would let decide close verdicts.
    place = Checkpoint(os.environ.get(MODEL) or str(PATIENTS / "chat"), torch_dtype="float32")
    model = place.load()
    prompts, first, second = pairs(items)
    found: dict[str, list[Verdict]] = {}

    def timed(name: str, judge: Judge) -> float:
        began = time.perf_counter()
        found[name] = judge.compare(prompts, first, second)
        return items / (time.perf_counter() - began)

    ours, peer = judging(model, place), judging(OneByOne(model), place)
    ours.compare(prompts[:2], first[:2], second[:2])
    sides = alternate(lambda: timed("ours", ours), lambda: timed("peer", peer), REPETITIONS)
    gaps = [abs(a.first - b.first) for a, b in zip(found["ours"], found["peer"], strict=True)]
    same = sum(a.decision == b.decision for a, b in zip(found["ours"], found["peer"], strict=True))
    if max(gaps) > 1e-3:
        raise SystemExit(f"verdicts differ: by up to {max(gaps):.2g}, {same} of {items} decisions are the same")
    yield compared(
        "judge-throughput", sides, unit="pairs in both orders a second", direction="higher is better", bound=BOUND,
        details={"pairs": items, "model": place.path, "largest_gap": max(gaps), "same_decisions": same},
    )  # fmt: skip
