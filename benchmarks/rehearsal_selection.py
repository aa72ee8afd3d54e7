"""Choosing among generated rows: the parts of ssr and magpie that ask no model, on many rows.

SSR: embed the inputs, k-means with 20 clusters, a tenth of the rows nearest the centroids. Magpie:
rules, near-duplicates by MinHash, and the same choice. ROWS rows of about 20 words (a quarter of
them slight changes of an earlier one), each part in a process of its own, so that the peak memory
is its own. The peer is the bound, SECONDS for both parts together and GIGABYTES for the larger one:
ratios are shares of it. MNEMOS_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.common import Result, compared

ROWS = int(os.environ.get("MNEMOS_BENCH_ROWS", "100000"))
SECONDS, GIGABYTES = 120.0, 2.0
SEED = 0


def run() -> list[Result]:
    """Seconds of both parts, and the larger peak memory."""
    parts = {name: _alone(part) for name, part in (("ssr", choose), ("magpie", filter_chats))}
    details: dict[str, Any] = {"rows": ROWS, **parts}
    seconds = sum(part["seconds"] for part in parts.values())
    memory = max(part["gigabytes"] for part in parts.values())
    return [
        compared(
            f"rehearsal-selection-{what}",
            ([ours], [peer]),
            unit=unit,
            direction="lower is better",
            bound=1.0,
            details=details,
        )
        for what, ours, peer, unit in (
            ("seconds", seconds, SECONDS, "s"),
            ("memory", memory, GIGABYTES, "GB"),
        )
    ]


def _alone(part: Callable[[int], dict[str, float]]) -> dict[str, float]:
    """A part in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(part, ROWS).result()


def choose(rows: int) -> dict[str, float]:
    """SSR's step 3."""
    from mnemos.sources.similarity import representative

    texts = invented(rows)
    started, processor = time.perf_counter(), time.process_time()
    chosen = representative(texts, rows // 10, 20, SEED)
    return measured(started, processor, len(chosen))


def filter_chats(rows: int) -> dict[str, float]:
    """Magpie's filters and choice."""
    from mnemos.sources.similarity import representative
    from mnemos.synthesis.magpie import Asking, filtered
    from mnemos.synthesis.writers import Tally

    asking = Asking(
        system="",
        temperature=1.0,
        top_p=1.0,
        max_question_tokens=256,
        max_answer_tokens=512,
        oversample=3.0,
        min_chars=8,
        max_chars=2000,
        repetition=0.2,
        similarity=0.8,
        clusters=20,
        min_usable=0.5,
        seed=SEED,
    )
    texts = invented(rows)
    started, processor = time.perf_counter(), time.process_time()
    questions = filtered(Tally(_Counting()), texts, asking)  # type: ignore[arg-type]
    representative(questions, rows // 3, asking.clusters, SEED)
    return measured(started, processor, len(questions))


class _Counting:
    """The part of a desk that filters use."""

    def count(self, reason: str, number: int = 1) -> None:
        """Counts are not looked at here."""


def measured(started: float, processor: float, kept: int) -> dict[str, float]:
    """Seconds, and the peak memory of this process."""
    # The peak since the process began, texts and libraries included; kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "gigabytes": peak,
        "kept": kept,
    }


def invented(rows: int) -> list[str]:
    """Questions of about 20 words; words are drawn as in a language, the n-th with weight 1 / n."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("aeioubdfgklmnprstv", k=rng.randint(3, 8))) for _ in range(20_000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    made: list[str] = []
    for i in range(rows):
        if i % 4 == 3:
            tokens = rng.choice(made).rstrip("?").split()
            tokens[rng.randrange(len(tokens))] = rng.choice(words)
        else:
            tokens = rng.choices(words, weights, k=rng.randint(8, 32))
        made.append(" ".join(tokens) + "?")
    return made
