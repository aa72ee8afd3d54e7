"""Finding 16 of 100,000 memories: exact search in numpy, and by words in SQLite.

There is no peer in one run: "peer" is the limit that we set ourselves, 40 ms exact; 5 ms with the index, which is
measured where usearch is installed, with its recall on vectors of clusters. Seconds are the processor's: one query is
one thread's work, and a busy machine changes them less.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, compared
from mnemos.stream.index import Index
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Remember
from mnemos.stream.memory import Memory
from mnemos.stream.store import Store

ROWS, WIDTH, K = 100_000, 384, 16
QUERIES = 30
EXACT, INDEXED, WORDS = 0.040, 0.005, 0.040
TOPICS = 2_000


def run() -> Iterator[Result]:
    """Exact first, then the index where there is one, then words."""
    vectors = clustered(ROWS + QUERIES)
    exact = filled(vectors[:ROWS], most_exact=ROWS)
    asked = vectors[ROWS:]
    yield result("memory-search", timed(lambda q: exact.search(q, K), asked), EXACT, {"rows": ROWS, "width": WIDTH})
    graph = filled(vectors[:ROWS], most_exact=1)
    graph.search(asked[0], K)
    if graph._graph is not None:
        shared = [{p for p, _ in graph.search(q, K)} & {p for p, _ in exact.search(q, K)} for q in asked]
        recall = float(np.mean([len(one) / K for one in shared]))
        yield result("memory-search-index", timed(lambda q: graph.search(q, K), asked), INDEXED, {"recall": recall})
    yield by_words()


def clustered(rows: int) -> np.ndarray:
    """Unit vectors around topics: questions of one kind lie close together, as real ones do."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(TOPICS, WIDTH)).astype(np.float32)
    out = centres[draw.integers(0, TOPICS, rows)] + 0.7 * draw.normal(size=(rows, WIDTH)).astype(np.float32)
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def filled(vectors: np.ndarray, most_exact: int) -> Index:
    index = Index(WIDTH, most_exact)
    for vector in vectors:
        index.add(vector)
    return index


def by_words() -> Result:
    draw = np.random.default_rng(0)
    words = [f"word{i}" for i in range(20_000)]
    # Zipf: a few words stand in most questions, as in any language.
    share = 1 / np.arange(1, len(words) + 1)
    picked = draw.choice(len(words), size=(ROWS, 12), p=share / share.sum())
    texts = [" ".join(words[i] for i in row) for row in picked]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "m.db")
        memory = Memory(store, Journal(store, "s", "x").number)
        with store.transaction():
            made = memory.insert(0, "q", [(Remember(text, text, "a", True), None) for text in texts], "x")
        memory.added(made)
        seconds = timed(lambda text: memory.lexical(text, K), texts[:: ROWS // QUERIES])
        store.close()
    return result("memory-search-words", seconds, WORDS, {"rows": ROWS})


def timed(find: Callable[[Any], object], asked: Iterable[Any]) -> list[float]:
    out = []
    for one in asked:
        began = time.process_time()
        find(one)
        out.append(time.process_time() - began)
    return out


def result(name: str, seconds: list[float], limit: float, details: dict[str, Any]) -> Result:
    more = {**details, "95th percentile": float(np.quantile(seconds, 0.95))}
    return compared(name, (seconds, [limit]), unit="s", direction="lower is better", bound=1.0, details=more)
