"""Answers that are there already: a greedy request that was answered once is answered from a table when it comes again.

The same question without shots comes in every arm and order, an agent that learns nothing asks the same in each order,
and a killed run asked much before it died. The first answer is kept and is everybody's: computed anew it could differ
in 16 bits, where a rounding hangs on what shares the batch. Sampled answers are never kept.

A key is made of all that decides an answer (`key`), so that another model, prompt or setting finds nothing. On disk are
answers of models whose fingerprint is made of their weights; one behind a server can change under its name, and its
answers are kept as long as the process lives. Every row has a seal: one that does not fit its content is taken out and
its request asked again.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mnemos.core.fingerprint import canonical
from mnemos.core.nouns import Decoding, Generation, LanguageModel, Prompt
from mnemos.core.progress import note
from mnemos.stream.store import Store

MOST_KEPT = 5_000
"""Answers that are kept in memory."""
MOST_AT_ONCE = 500
"""Keys of one query: SQLite takes 999 values at least."""

TABLES = (
    "create table if not exists requests (key text primary key, answer blob not null, seconds real not null, "
    "seal blob not null)",
    "create table if not exists asking (one integer primary key check (one = 1), asked integer not null, "
    "written integer not null, seconds real not null)",
)

ROW = "cast(answer as blob), cast(seconds as real), cast(seal as blob)"
"""A damaged text need not be UTF-8."""

Timed = tuple[Generation, float]
"""An answer and its share of the seconds that its batch took."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all runs on a file. asked: requests of agents, panels and helpers. written: answers that a model wrote for
    them; the others were there. seconds: that the models took."""

    asked: int = 0
    written: int = 0
    seconds: float = 0.0


def key(model: LanguageModel, prompt: Prompt, ids: Iterable[int] | None, decoding: Decoding) -> str:
    """SHA-256 of all that decides a greedy answer: the model's fingerprint (weights, tokenizer, chat template) with its
    device and dtype, the chat with tools and template variables, the tokens that it came to (a template may write
    today's date), and the decoding with its stop texts."""
    device, dtype = getattr(model, "device", None), getattr(getattr(model, "model", None), "dtype", None)
    where = [getattr(device, "type", None), None if dtype is None else str(dtype)]
    asked = canonical([model.fingerprint, where, prompt, None if ids is None else list(ids), decoding])
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class InMemory:
    """The last `MOST_KEPT` answers of this process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Timed] = OrderedDict()

    def find(self, keys: Iterable[str]) -> dict[str, Timed]:
        """Those that are kept."""
        return {one: self._kept[one] for one in keys if one in self._kept}

    def keep(self, made: Mapping[str, Timed]) -> dict[str, Timed]:
        """Keep answers; what is now kept under their keys."""
        self._kept.update(made)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return dict(made)


class Table:
    """Answers in the file of the streams, and how many were asked for. Each `keep` is a transaction: what a process
    that is killed had written, the next one finds."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._asked = 0
        with store.transaction() as run:
            for table in TABLES:
                run.execute(table)

    def find(self, keys: Iterable[str]) -> dict[str, Timed]:
        """Those that are kept and whole."""
        wanted, found, damaged = list(dict.fromkeys(keys)), dict[str, Timed](), list[tuple[Any, ...]]()
        for at in range(0, len(wanted), MOST_AT_ONCE):
            some = wanted[at : at + MOST_AT_ONCE]
            places = ", ".join("?" * len(some))
            for row in self.store.rows(f"select key, {ROW} from requests where key in ({places})", *some):
                timed = _opened(*row)
                if timed is None:
                    damaged.append(row)
                else:
                    found[str(row[0])] = timed
        if damaged:
            note(f"{len(damaged)} kept answers are damaged: taken out, and asked again")
            with self.store.transaction() as run:
                # Another process may have put a whole one there since.
                run.executemany(f"delete from requests where key = ? and ({ROW}) is (?, ?, ?)", damaged)
        return found

    def keep(self, made: Mapping[str, Timed]) -> dict[str, Timed]:
        """Keep answers where there is none yet; what is now kept under their keys. Where two processes answered the
        same request, the first answer stays and is both's."""
        rows = [_sealed(one, *timed) for one, timed in made.items()]
        with self.store.transaction() as run:
            run.executemany("insert or ignore into requests values (?, ?, ?, ?)", rows)
        return {**made, **self.find(made)}

    def count(self, asked: int, written: int, seconds: float) -> None:
        """Add to the totals; on disk as soon as a model wrote something, or they are read."""
        self._asked += asked
        if written:
            self._count(written, seconds)

    def totals(self) -> Totals:
        """What was asked and written so far."""
        if self._asked:
            self._count(0, 0.0)
        rows: list[Any] = self.store.rows("select asked, written, seconds from asking")
        return Totals(*rows[0]) if rows else Totals()

    def _count(self, written: int, seconds: float) -> None:
        add = (
            "asked = asked + excluded.asked, written = written + excluded.written, seconds = seconds + excluded.seconds"
        )
        with self.store.transaction() as run:
            run.execute(
                f"insert into asking values (1, ?, ?, ?) on conflict (one) do update set {add}",
                (self._asked, written, seconds),
            )
        self._asked = 0


def _sealed(one: str, generation: Generation, seconds: float) -> tuple[str, bytes, float, bytes]:
    answer = json.dumps([generation.text, list(generation.ids), generation.finished]).encode()
    return one, answer, float(seconds), _seal(one, answer, float(seconds))


def _opened(one: Any, answer: Any, seconds: Any, seal: Any) -> Timed | None:
    """None for a row that is not what was written."""
    if not isinstance(answer, bytes) or seal != _seal(one, answer, seconds):
        return None
    text, ids, finished = json.loads(answer)
    return Generation(text, tuple(ids), finished), seconds


def _seal(one: str, answer: bytes, seconds: float) -> bytes:
    return hashlib.sha256(b"%s\n%s\n%r" % (one.encode(), answer, seconds)).digest()[:16]
