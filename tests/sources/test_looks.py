"""Rows are read once for everyone who asks how many there are and what they look like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Turn
from mnemos.methods.examples.replay import PastRows
from mnemos.sources import looks, read
from mnemos.sources.mix import Joined, Mixture, Rows
from mnemos.sources.read import FileSource
from mnemos.study.run import plan_lines


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_kept", {})


@dataclass(frozen=True)
class Counting:
    """A source that counts how many rows of it are read."""

    rows: tuple[Example, ...]
    seen: Counter[str]

    @property
    def fingerprint(self) -> str:
        return f"{len(self.rows)} rows"

    def describe(self) -> str:
        return self.fingerprint

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            self.seen[row.id] += 1
            yield row


def rows(count: int, text: str = "row", origin: str = "new") -> tuple[Example, ...]:
    return tuple(Example(f"{text}-{n}", "text", (Turn("text", f"{text} {n}"),), origin=origin) for n in range(count))


def test_counting_and_looking_read_each_row_once() -> None:
    source = Counting((*rows(300), *rows(5, "old", "replay")), Counter())
    assert looks.counted(source) == (305, 300)
    assert looks.counted(source) == (305, 300)
    assert tuple(looks.first_rows(source, 100)) == source.rows[:100]
    assert looks.few(source, looks.FIRST) == list(source.rows[: looks.FIRST])
    assert set(source.seen.values()) == {1}
    # More than is kept is read again, as is what nobody has looked at.
    assert tuple(looks.first_rows(source, 300)) == source.rows[:300]
    assert max(source.seen.values()) == 2


def test_a_short_source_is_known_whole_after_one_look() -> None:
    source = Counting(rows(3), Counter())
    assert [len(list(looks.first_rows(source, count))) for count in (9, 2, 200)] == [3, 2, 3]
    assert set(source.seen.values()) == {1}
    # A look that is broken off says nothing about what follows.
    broken = Counting(rows(7), Counter())
    next(looks.first_rows(broken, 5))
    assert tuple(looks.first_rows(broken, 5)) == broken.rows[:5]


def test_long_rows_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MOST_CHARS", 20)
    source = Counting(rows(9), Counter())
    for _ in range(2):
        assert tuple(looks.first_rows(source, 9)) == source.rows
    assert looks.counted(source) == (9, 9)
    assert tuple(looks.first_rows(source, 2)) == source.rows[:2]
    assert source.seen["row-8"] == 3
    for number in range(3 * looks.MOST_LOOKS):
        looks.counted(Counting(rows(number), Counter()))
    assert len(looks._kept) == looks.MOST_LOOKS


def written(path: Path, count: int, text: str) -> FileSource:
    path.write_text("".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n in range(count)))
    return read.read(str(path))


def test_rows_know_their_place_where_two_files_hold_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (row,) = looks.first_rows(written(tmp_path / name / "rows.jsonl", 1, "row"), 9)
        assert row.place == f"{tmp_path / name / 'rows.jsonl'}:1"
    # Another content behind the same name is looked at anew.
    assert looks.counted(written(tmp_path / "two" / "rows.jsonl", 5, "row")) == (5, 5)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_few_rows_of_a_mixture_have_its_shares(tmp_path: Path, share: float) -> None:
    new, old = written(tmp_path / "new.jsonl", 900, "new"), written(tmp_path / "old.jsonl", 9000, "old")
    mixed = Mixture(new, PastRows("first", old), share, 0)
    found = looks.few(mixed, 200)
    assert len(found) == 200
    assert {row.origin for row in found} == {"new", "replay"}
    # 200 of a shuffle with this share: four standard deviations.
    drawn = sum(row.origin == "replay" for row in found)
    assert abs(drawn - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5
    # All of a mixture that is small, and what cannot be mixed is refused as ever.
    assert sorted(row.id for row in looks.few(Mixture(Rows(rows(8)), Rows(rows(2, "old")), 0.2, 0), 20)) == sorted(
        row.id for row in Mixture(Rows(rows(8)), Rows(rows(2, "old")), 0.2, 0)
    )
    with pytest.raises(DataError, match="gives no row"):
        looks.few(Joined((mixed, read.read(str(_empty(tmp_path)), on_bad="skip"))), 10_000)


def _empty(folder: Path) -> Path:
    path = folder / "empty.jsonl"
    path.write_text('{"text": 3}\n')
    return path


def test_the_name_of_rows_with_sounds_is_made_of_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n}.wav" for n in range(50)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    rows = [{"audio": name, "text": f"take {name}"} for name in names]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen: Counter[str] = Counter()
    plain = read.rows_of

    def counted(path: Path, label: str, stem: str) -> Iterator[Any]:
        for raw in plain(path, label, stem):
            seen[raw.where] += 1
            yield raw

    monkeypatch.setattr(read, "rows_of", counted)
    first = {read.read(str(tmp_path / "rows.jsonl")).fingerprint for _ in range(3)}
    assert len(first) == 1
    assert seen[f"{tmp_path / 'rows.jsonl'}:40"] == 1
    # A changed sound is another source, and so is a changed row; a shorter one is told apart by its limit.
    (tmp_path / "40.wav").write_bytes(b"another")
    second = read.read(str(tmp_path / "rows.jsonl")).fingerprint
    assert second not in first
    assert seen[f"{tmp_path / 'rows.jsonl'}:40"] == 1
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    assert len({*first, second, *(read.read(str(tmp_path / "rows.jsonl"), limit=n).fingerprint for n in (9, 50))}) == 4


def test_a_plan_with_replay_reads_no_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {tmp_path / "rows.jsonl": 1500, tmp_path / "old.jsonl": 700}
    for path, count in places.items():
        pairs = [{"prompt": f"What is {n} plus one?", "completion": f"It is {n + 1}."} for n in range(count)]
        path.write_text("".join(json.dumps(one) + "\n" for one in pairs))
    seen: Counter[str] = Counter()
    plain = read.rows_of

    def counted(path: Path, label: str, stem: str) -> Iterator[Any]:
        for raw in plain(path, label, stem):
            seen[raw.where] += 1
            yield raw

    monkeypatch.setattr(read, "rows_of", counted)
    new, old = map(str, places)
    study = {
        "model": "mnemos:patients/chat",
        "teach": {"data": new},
        "suites": {"new": [], "old": ["refusals"]},
        "arms": {"replay": [{"replay": {"data": old, "share_of_final": 0.3}}], "lora": [{"lora": {}}]},
        "seeds": [0, 1],
    }
    lines = plan_lines(study, out=tmp_path / "run")
    assert sum("train: about" in line for line in lines) == 6
    beyond = {where: count for where, count in seen.items() if int(where.rsplit(":", 1)[1]) > read.SAMPLE}
    assert len(beyond) == sum(places.values()) - 2 * read.SAMPLE
    assert set(beyond.values()) == {1}
