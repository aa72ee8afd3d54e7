"""`mnemos stream`: studies of streams, the agents there are, and what a file of memories holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_jsonl
from mnemos.stream.agents import AGENTS, settings_of
from mnemos.stream.memory import Memory
from mnemos.stream.store import Store
from mnemos.study.adaptations.run import carry_out_adaptation
from mnemos.study.adaptations.run import plan_lines as adaptation_lines
from mnemos.study.adaptations.settings import AdaptationStudy, is_adaptation, resolved_adaptation
from mnemos.study.config import raw_study
from mnemos.study.run import Record
from mnemos.study.streams.run import carry_out_stream, plan_lines
from mnemos.study.streams.settings import StreamStudy, is_stream, resolved_stream

MOST_SHOWN = 200
"""Characters of a question or answer in a listing."""


def load(
    study: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> StreamStudy | AdaptationStudy:
    """The study, checked. Raises UsageError for one that trains."""
    raw, folder = raw_study(study, overrides)
    if is_adaptation(raw):
        return resolved_adaptation(raw, folder)
    if not is_stream(raw):
        raise UsageError(f"{study}", "has no stream", "write stream: {name: TASK}, or use mnemos run for a training")
    return resolved_stream(raw, folder)


def stream(
    study: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Record:
    """Stream a task past agents, or speech past recognisers that adapt, and return the record. A killed one continues
    behind its last committed step.

    study: path of the YAML file, or a mapping with the same keys. out: run directory, runs/<name> unless given.
    """
    loaded = load(study, overrides)
    if isinstance(loaded, AdaptationStudy):
        return Record(*carry_out_adaptation(loaded, out=out, quiet=quiet))
    return Record(*carry_out_stream(loaded, out=out, quiet=quiet))


def lines_of(study: str | Path, overrides: Mapping[str, Any] | None = None) -> list[str]:
    """What `stream` would do; loads no model."""
    loaded = load(study, overrides)
    return adaptation_lines(loaded) if isinstance(loaded, AdaptationStudy) else plan_lines(loaded)


def agent_rows() -> list[dict[str, Any]]:
    """Every agent: name, summary, paper, settings with their values, control."""
    return [
        {
            "name": name,
            "summary": row.summary,
            "paper": row.paper,
            "settings": settings_of(name),
            "control": dict(row.control),
            "sees_gold": row.sees_gold,
        }
        for name, row in AGENTS.items()
    ]


COLUMNS = "m.id, s.name, m.step, m.item, m.key, m.question, m.answer, m.correct, m.source, m.made"
NAMES = ("id", "stream", "step", "item", "key", "question", "answer", "correct", "source", "made")


class MemoryFile:
    """The memories in a file that a study or a server wrote, whatever stream they belong to."""

    def __init__(self, path: str | Path) -> None:
        self.store = Store(path, create=False)

    def rows(
        self,
        *,
        stream: str | None = None,
        source: str | None = None,
        correct: bool | None = None,
        until: int | None = None,
        words: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Memories, oldest first; those found by words with the best first. stream, source: parts of their names.
        until: made at this step or before, so what a stream held then."""
        where, values = ["1"], list[Any]()
        for condition, value in (
            ("s.name like ? escape '!'", _like(stream)),
            ("m.source like ? escape '!'", _like(source)),
            ("m.correct = ?", None if correct is None else int(correct)),
            ("m.step <= ?", until),
        ):
            if value is not None:
                where.append(condition)
                values.append(value)
        text = f"select {COLUMNS} from memories m join streams s on s.number = m.stream where {' and '.join(where)}"
        found = [dict(zip(NAMES, row, strict=True)) for row in self.store.rows(f"{text} order by m.id", *values)]
        if words is not None:
            found = self._ranked(found, words)
        return found[:limit]

    def _ranked(self, rows: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
        scores: dict[int, float] = {}
        for (number,) in self.store.rows("select number from streams"):
            memory = Memory(self.store, int(str(number)))
            # All that match, not as many as are wanted: those that other conditions leave out may rank before them.
            scores |= dict(memory.lexical(words, len(memory)))
        return sorted((row for row in rows if row["id"] in scores), key=lambda row: (-scores[row["id"]], row["id"]))

    def delete(self, ids: list[int]) -> int:
        """Take memories out, for good; how many there were. Steps that showed them keep their rows."""
        with self.store.transaction() as run:
            gone = 0
            for number in ids:
                found = run.execute("select stream from memories where id = ?", (number,)).fetchone()
                if found is not None:
                    run.execute("delete from memories where id = ?", (number,))
                    run.execute(f"delete from words_{int(found[0])} where rowid = ?", (number,))
                    gone += 1
        return gone

    def export(self, rows: list[dict[str, Any]], path: Path) -> None:
        """Write memories as JSON Lines: messages, and where each came from, so that a training can read them."""
        write_jsonl(
            path,
            (
                {
                    "messages": [
                        {"role": "user", "content": row["question"]},
                        {"role": "assistant", "content": row["answer"]},
                    ],
                    "correct": None if row["correct"] is None else bool(row["correct"]),
                    **{name: row[name] for name in ("stream", "step", "item", "source", "made")},
                }
                for row in rows
            ),
        )


def _like(text: str | None) -> str | None:
    if text is None:
        return None
    for letter in "!%_":
        text = text.replace(letter, f"!{letter}")
    return f"%{text}%"


def memory_lines(rows: list[dict[str, Any]]) -> list[str]:
    """One line a memory."""
    marks = {1: "right", 0: "wrong", None: "?"}
    return [
        f"{row['id']:>6} {marks[row['correct']]:<5} {_short(row['question'])} => {_short(row['answer'])}"
        f"  [{row['source']}, {row['made']}]"
        for row in rows
    ]


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= MOST_SHOWN else f"{one[:MOST_SHOWN]}…"


def parse_ids(text: str) -> list[int]:
    """``3,5,9-12`` as numbers. DataError for anything else."""
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or (last and int(last) - int(first) > 1_000_000):
            raise DataError(f"--delete {text}", "must be ids, as 3,5,9-12", "mnemos stream memory FILE lists them")
        out += range(int(first), int(last or first) + 1)
    return out
