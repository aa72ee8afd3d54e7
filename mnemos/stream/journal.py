"""Steps of streams on disk: what was answered, what it was worth, what it cost, and what was known afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError
from mnemos.stream.store import Store


@dataclass(frozen=True, slots=True)
class Step:
    """One item answered. value: of its feedback in [0, 1], None where the verifier could not say (`reason`). calls,
    prompt_tokens, tokens: of all prompts and all that was written for it, learning included. seconds: waited for the
    model, its share of a batch. memories: rows after the step. shown: steps of the memories in the prompt, the most
    similar last; dropped: how many did not fit. model: which answered, where there are several."""

    step: int
    item: str
    answer: str
    parsed: str | None
    value: float | None
    reason: str | None
    note: str | None
    calls: int
    prompt_tokens: int
    tokens: int
    seconds: float
    memories: int
    shown: tuple[int, ...] = ()
    dropped: int = 0
    model: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One item of a frozen panel, asked after `step` with learning switched off."""

    step: int
    item: str
    answer: str
    value: float | None
    reason: str | None


class Journal:
    """The steps of one stream. number: of the stream in the file."""

    def __init__(self, store: Store, name: str, fingerprint: str) -> None:
        """name: unique in the file. fingerprint: of everything that decides the steps; DataError where the file has a
        stream of that name made otherwise."""
        self.store, self.name = store, name
        with store.transaction() as run:
            run.execute("insert or ignore into streams (name, fingerprint) values (?, ?)", (name, fingerprint))
            found = run.execute("select number, fingerprint, state from streams where name = ?", (name,)).fetchone()
        self.number: int = found[0]
        if found[1] != fingerprint:
            bound = "was made with other settings, items, model or prompts"
            raise DataError(f"stream {name} of {store.path}", bound, "name another file, or delete this one")
        self.state: dict[str, Any] = json.loads(found[2])
        self._state_text = found[2]

    def done(self) -> int:
        """Steps that are committed."""
        return int(str(self.store.rows("select count(*) from steps where stream = ?", self.number)[0][0]))

    def write(self, step: Step, state: Mapping[str, Any]) -> None:
        """Within an open transaction of the store. A step that is there already raises sqlite3.IntegrityError, which
        the store explains: another process writes the same stream."""
        values = (
            self.number, step.step, step.item, _plain(step.answer), _plain(step.parsed), step.value, step.reason,
            _plain(step.note), step.calls, step.prompt_tokens, step.tokens, step.seconds, step.memories,
            json.dumps(step.shown), step.dropped, step.model,
        )  # fmt: skip
        self.store.connection.execute(f"insert into steps values ({', '.join('?' * len(values))})", values)
        text = json.dumps(state, sort_keys=True)
        if text != self._state_text:
            self.store.connection.execute("update streams set state = ? where number = ?", (text, self.number))
            self._state_text = text

    def write_panel(self, asked: Sequence[Asked]) -> None:
        """Within an open transaction; a panel of a step that was asked already stays."""
        rows = [(self.number, a.step, a.item, _plain(a.answer), a.value, a.reason) for a in asked]
        self.store.connection.executemany("insert or ignore into panels values (?, ?, ?, ?, ?, ?)", rows)

    def steps(self) -> list[Step]:
        """All steps in their order."""
        rows: list[Any] = self.store.rows("select * from steps where stream = ? order by step", self.number)
        return [Step(*[*row[1:13], tuple(json.loads(row[13])), *row[14:16]]) for row in rows]

    def panels(self) -> list[Asked]:
        """All panels, by step, in the order in which they were asked."""
        rows: list[Any] = self.store.rows("select * from panels where stream = ? order by step, rowid", self.number)
        return [Asked(*row[1:]) for row in rows]


def _plain(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which SQLite cannot hold as text."""
    return None if text is None else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
