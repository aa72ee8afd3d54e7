"""What a stream remembers: rows of one SQLite file, found by meaning, by words, or by both.

Exact search by one matrix product (float32, cosine) up to `index.MOST_EXACT` rows and an approximate index above it;
words by SQLite's FTS5 (bm25), one table a stream, because bm25 weighs a word by how many rows hold it and other
streams' rows must not move that. Hybrid: reciprocal rank fusion (Cormack, Clarke & Büttcher 2009, k = 60).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.stream.index import Index
from mnemos.stream.learner import Recall, Remember, Shot
from mnemos.stream.store import Store

Search = Literal["similar", "lexical", "hybrid"]
MOST_WORDS = 64
"""Different words of a key that are looked for; the first ones."""
FUSION = 60
"""Constant of reciprocal rank fusion."""
DEEP = 4
"""How many times k of each list is fused."""

_WORD = re.compile(r"\w+")
Floats = npt.NDArray[np.float32]
Added = tuple[int, bool | None, str, Floats | None]
"""What is known of a row that was written: its number, what its feedback was, its key, its vector."""


def claim_encoder(store: Store, fingerprint: str, width: int) -> None:
    """Note whose vectors a file holds. DataError where it holds another encoder's: vectors of two encoders say nothing
    to each other, whatever their width."""
    with store.transaction() as run:
        found = run.execute("select fingerprint, width from encoder").fetchone()
        if found is None:
            run.execute("insert into encoder values (?, ?)", (fingerprint, width))
        elif found != (fingerprint, width):
            bound = f"holds vectors of another encoder (width {found[1]}, this one's {width})"
            raise DataError(f"{store.path}", bound, "name the encoder that made them, or another file")


class Memory:
    """The rows of one stream. stream: its number in the file. search: how similar ones are found; without vectors
    only by words."""

    def __init__(self, store: Store, stream: int, search: Search = "lexical") -> None:
        self.store, self.stream, self.search = store, stream, search
        self._words = f"words_{stream}"
        with store.transaction() as run:
            run.execute(f"create virtual table if not exists {self._words} using fts5(key)")
        self._load()

    def _load(self) -> None:
        rows: list[Any] = self.store.rows(
            "select id, correct, key, vector from memories where stream = ? order by id", self.stream
        )
        self._ids: list[int] = []
        # int8[capacity]: 1 correct, 0 not, -1 not judged; it doubles, so that a stream's cost grows linearly.
        self._flags = np.empty(64, np.int8)
        self.index: Index | None = None
        # Word -> rows that hold it.
        self._held: Counter[str] = Counter()
        for number, correct, key, vector in rows:
            self._add(number, correct, key, np.frombuffer(vector, np.float32) if vector else None)

    def _add(self, number: int, correct: object, key: str, vector: Floats | None) -> None:
        if len(self._ids) == len(self._flags):
            self._flags = np.concatenate([self._flags, np.empty_like(self._flags)])
        self._flags[len(self._ids)] = -1 if correct is None else int(bool(correct))
        self._ids.append(number)
        self._held.update(set(_WORD.findall(key.lower())))
        if vector is not None:
            if self.index is None:
                self.index = Index(len(vector))
            self.index.add(vector)

    def __len__(self) -> int:
        return len(self._ids)

    # writing ----------------------------------------------------------------------------

    def insert(self, step: int, item: str, rows: Sequence[tuple[Remember, Floats | None]], source: str) -> list[Added]:
        """Write rows within a transaction of the store that is open; `added` takes what this returns once it is
        committed, so that nothing is found that was rolled back."""
        run, out = self.store.connection.execute, []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for row, vector in rows:
            correct = None if row.correct is None else int(row.correct)
            blob = None if vector is None else vector.astype(np.float32).tobytes()
            values = (self.stream, step, item, row.key, row.text, row.answer, correct, source, now, blob)
            made = run(
                "insert into memories (stream, step, item, key, question, answer, correct, source, made, vector) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            assert made.lastrowid is not None
            run(f"insert into {self._words} (rowid, key) values (?, ?)", (made.lastrowid, row.key))
            out.append((made.lastrowid, row.correct, row.key, vector))
        return out

    def added(self, rows: Sequence[Added]) -> None:
        """Rows are committed and may be found."""
        for number, correct, key, vector in rows:
            self._add(number, correct, key, vector)

    # finding ----------------------------------------------------------------------------

    def recall(self, request: Recall, vector: Floats | None, draw: np.random.Generator) -> tuple[Shot, ...]:
        """What a learner asked for, the best last. vector: of the key, where there is an encoder. draw: for random
        ones."""
        flags = self._flags[: len(self._ids)]
        allowed = np.ones(len(flags), bool) if request.which == "all" else flags == (request.which == "correct")
        if request.k < 1 or not allowed.any():
            return ()
        if request.how == "similar":
            found = self._similar(request.key, vector, request.k, allowed)
        else:
            places = np.flatnonzero(allowed)
            if request.how == "random":
                places = draw.permutation(places)
            found = [(self._ids[place], 0.0) for place in places[-request.k :][::-1]]
        return self._shots(found[::-1])

    def _similar(
        self, key: str, vector: Floats | None, k: int, allowed: npt.NDArray[np.bool_]
    ) -> list[tuple[int, float]]:
        """(id, score), the best first."""
        if self.search == "lexical" or vector is None or self.index is None:
            return self.lexical(key, k, allowed)
        near = [(self._ids[place], score) for place, score in self.index.search(vector, DEEP * k, allowed)]
        if self.search == "similar":
            return near[:k]
        fused: dict[int, float] = {}
        for ranked in (near, self.lexical(key, DEEP * k, allowed)):
            for rank, (number, _) in enumerate(ranked, 1):
                fused[number] = fused.get(number, 0.0) + 1 / (FUSION + rank)
        # Equal scores: the later memory first, as everywhere here.
        return sorted(fused.items(), key=lambda pair: (-pair[1], -pair[0]))[:k]

    def lexical(self, key: str, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> list[tuple[int, float]]:
        """(id, -bm25) of rows that share a word with the key, the best first.

        Words that more than half of the rows hold are asked for only where the others find fewer than k: SQLite gives
        them the weight 1e-6, which orders nothing but rows that share no other word, and every row would be scored.
        """
        words = list(dict.fromkeys(_WORD.findall(key.lower())))[:MOST_WORDS]
        telling = [word for word in words if 2 * self._held[word] <= len(self._ids)]
        found = self._matching(telling, k, allowed)
        return found if len(found) >= k or len(telling) == len(words) else self._matching(words, k, allowed)

    def _matching(self, words: Sequence[str], k: int, allowed: npt.NDArray[np.bool_] | None) -> list[tuple[int, float]]:
        if not words:
            return []
        asked = " OR ".join(f'"{word}"' for word in words)
        rows = self.store.rows(
            f"select rowid, -bm25({self._words}) as score from {self._words} where {self._words} match ? "
            "order by score desc, rowid desc limit ?",
            asked,
            k if allowed is None or allowed.all() else max(k, len(self._ids)),
        )
        text = [(int(str(number)), float(str(score))) for number, score in rows]
        if allowed is not None and not allowed.all():
            known = {number for number, flag in zip(self._ids, allowed, strict=True) if flag}
            text = [pair for pair in text if pair[0] in known]
        return text[:k]

    def _shots(self, found: Sequence[tuple[int, float]]) -> tuple[Shot, ...]:
        marks = ", ".join("?" * len(found))
        rows = self.store.rows(
            f"select id, question, answer, correct, step from memories where id in ({marks})",
            *(number for number, _ in found),
        )
        by_id = {row[0]: row for row in rows}
        out = []
        for number, score in found:
            if number not in by_id:
                continue  # deleted meanwhile by `mnemos stream memory`
            _, text, answer, correct, step = by_id[number]
            flag = None if correct is None else bool(correct)
            out.append(Shot(int(str(step)), str(text), str(answer), flag, score))
        return tuple(out)
