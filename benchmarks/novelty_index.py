"""Whether one new instruction is like any of ROWS others, by ROUGE-L: the inverted index beside all comparisons.

ROWS instructions of about 20 words, a quarter of them slight changes of an earlier one, are in the pool; QUERIES more,
made in the same way, are asked about. novelty-index: seconds an instruction, where "peer" is the limit that we set
ourselves. novelty-index-vs-rouge-score: the same beside the package rouge_score on every text of the pool, as the
authors of Self-Instruct do it, on COMPARED of the instructions; the decisions of both are compared, and a run with
different ones ends in an error. MNEMOS_BENCH_ROWS sets another number of rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from benchmarks.common import Result, compared
from benchmarks.rehearsal_selection import invented
from mnemos.sources.novelty import NoveltyIndex

ROWS = int(os.environ.get("MNEMOS_BENCH_ROWS", "50000"))
QUERIES, COMPARED = 200, 4
BOUND, SECONDS = 0.7, 0.010
SHARE = 0.01
"""Of the package's time that the index may take."""


def run() -> Iterator[Result]:
    """Both results, of one pool."""
    texts = invented(ROWS + QUERIES)
    pool, asked = texts[:ROWS], texts[ROWS:]
    index = NoveltyIndex(BOUND)
    began = time.perf_counter()
    for text in pool:
        index.add(text)
    filling = time.perf_counter() - began
    ours, found = timed(index, asked)
    details = {
        "rows": ROWS,
        "seconds to fill the index": filling,
        "like one of the pool": sum(found),
        "subsequences computed an instruction": index.compared / len(asked),
        "slowest": max(ours),
    }
    yield compared(
        "novelty-index",
        (ours, [SECONDS]),
        unit="s",
        direction="lower is better",
        bound=1.0,
        details=details,
    )
    peer, expected = all_compared(pool, asked[:COMPARED])
    if found[:COMPARED] != expected:
        raise AssertionError(f"decisions differ: {found[:COMPARED]} and {expected}")
    yield compared(
        "novelty-index-vs-rouge-score",
        (ours[:COMPARED], peer),
        unit="s",
        direction="lower is better",
        bound=SHARE,
        details={"rows": ROWS, "decisions compared": COMPARED},
    )


def timed(index: NoveltyIndex, asked: Sequence[str]) -> tuple[list[float], list[bool]]:
    """Seconds of each question, and its answer."""
    seconds, found = [], []
    for text in asked:
        began = time.perf_counter()
        found.append(index.like(text) is not None)
        seconds.append(time.perf_counter() - began)
    return seconds, found


def all_compared(pool: Sequence[str], asked: Sequence[str]) -> tuple[list[float], list[bool]]:
    """The same by the package, which compares with every text of the pool."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    seconds, found = [], []
    for text in asked:
        began = time.perf_counter()
        found.append(max(scorer.score(text, one)["rougeL"].fmeasure for one in pool) >= BOUND - 1e-9)
        seconds.append(time.perf_counter() - began)
    return seconds, found
