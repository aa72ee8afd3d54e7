"""Which rows are learned: the rules of `select` and `deita` that need no language model, on many rows.

BUDGET of ROWS rows of about 20 words a question and 40 an answer are chosen by the longest answer (tokens of the
shipped patient), by k-center, and from the highest of given scores with rows passed over that are too like a chosen
one, as `deita` does; each rule in a process of its own. The peer is the bound: SECONDS of one processor for the
slowest of them (all its threads added up; what the clock said is beside it) and GIGABYTES for the largest, reading rows
and latent semantic analysis included. MNEMOS_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.common import Result, compared
from benchmarks.rehearsal_selection import SEED, invented, measured

ROWS = int(os.environ.get("MNEMOS_BENCH_ROWS", "100000"))
BUDGET, SIMILARITY = 1000, 0.9
SECONDS, GIGABYTES = 120.0, 1.0


def run() -> list[Result]:
    """Processor's seconds of the slowest rule, and the largest peak memory."""
    parts = {name: _alone(part) for name, part in (("longest", longest), ("k_center", k_center), ("unlike", unlike))}
    details: dict[str, Any] = {"rows": ROWS, "chosen": BUDGET, **parts}
    slowest = max(part["processor_seconds"] for part in parts.values())
    memory = max(part["gigabytes"] for part in parts.values())
    return [
        compared(
            f"selection-{what}", ([ours], [peer]), unit=unit, direction="lower is better", bound=1.0, details=details
        )
        for what, ours, peer, unit in (("seconds", slowest, SECONDS, "s"), ("memory", memory, GIGABYTES, "GB"))
    ]


def _alone(part: Callable[[int], dict[str, float]]) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(part, ROWS).result()


def longest(rows: int) -> dict[str, float]:
    """By tokens of the answer."""
    from mnemos.models.load import Checkpoint
    from mnemos.recipes.patient import patient
    from mnemos.synthesis.selection import AnswerTokens

    return _chosen(rows, score=AnswerTokens(Checkpoint(str(patient("chat")))))


def k_center(rows: int) -> dict[str, float]:
    """By how far a row lies from all that are chosen."""
    return _chosen(rows)


def unlike(rows: int) -> dict[str, float]:
    """By given scores, rows too like a chosen one passed over."""
    from mnemos.synthesis.selection import Drawn

    return _chosen(rows, score=Drawn(SEED), similarity=SIMILARITY)


def _chosen(rows: int, **rule: Any) -> dict[str, float]:
    from mnemos.sources.mix import Rows
    from mnemos.synthesis.selection import Selected

    source = Rows(tuple(examples(invented(rows))), "invented")
    started, processor = time.perf_counter(), time.process_time()
    chosen = Selected(source, "select", min(BUDGET, rows // 10), **rule).write(_Context())  # type: ignore[arg-type]
    return measured(started, processor, len(chosen))


def examples(questions: Sequence[str]) -> list[Any]:
    """Chats of a question and an answer of twice as many words, out of other questions'."""
    from mnemos.core.nouns import Example, Turn

    rng = random.Random(SEED)
    answers = [f"{rng.choice(questions)} {rng.choice(questions)}" for _ in questions]
    return [
        Example(f"{n}", "messages", (Turn("user", question), Turn("assistant", answer)))
        for n, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]


class _Context:
    """The part of a writing's context that selections use."""

    def rows(self, source: Any) -> list[Any]:
        """All of them."""
        return list(source)

    def count(self, reason: str, number: int = 1) -> None:
        """Counts are not looked at here."""

    def note(self, name: str, value: float) -> None:
        """Nor are notes."""
