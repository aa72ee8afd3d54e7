"""Tasks: rows, what is read in an answer, what it is worth, and bad rows by line."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.stream.examiner import Examiner
from mnemos.stream.task import TaskSettings
from mnemos.stream.tasks import names, open_task
from mnemos.stream.tasks.calls import parse as parse_call
from mnemos.stream.tasks.calls import same
from mnemos.stream.tasks.sql import parse as parse_sql
from tests.stream.worlds import write_rows

REAL = {"sql": None, "python": None, "calls": None, "intents": None, "paragraphs": None}


@pytest.mark.parametrize("name", sorted(REAL))
def test_gold_answers_of_real_tasks_are_right_and_others_are_not(
    name: str, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    task = open_task(TaskSettings(name=name))
    some = task.rows[:: max(1, len(task.rows) // 12)]
    parsed = [task.parse(row.gold) for row in some]
    assert None not in parsed
    right = task.verify(some, [str(one) for one in parsed])
    assert [one.value for one in right] == [1.0] * len(some), [one.note for one in right]
    shifted = [str(one) for one in [*parsed[1:], parsed[0]]]
    wrong = task.verify(some, shifted)
    assert sum(one.value for one in wrong) < 0.4 * len(some)
    assert len({row.id for row in task.rows}) == len(task.rows)
    assert not {row.id for row in task.rows} & {row.id for row in task.shots}
    assert len(task.shots) == 16
    for row in some:
        assert row.key
        assert row.text
        assert row.instruction
        if name not in ("paragraphs",):
            assert row.gold not in row.text


def test_chinook_has_300_questions_in_several_wordings(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    task = open_task(TaskSettings(name="sql"))
    assert len(task.rows) >= 300
    kinds = {row.id.split(":")[0] for row in task.rows}
    assert len(kinds) >= 18
    other = open_task(TaskSettings(name="sql", seed=1))
    mine_, theirs = ({row.id: row.key for row in one.rows} for one in (task, other))
    assert sum(mine_[name] != theirs[name] for name in set(mine_) & set(theirs)) > 50
    ordered = [row for row in task.rows if row.id.startswith("largest-invoices")][:3]
    backwards = [row.gold.replace("DESC", "ASC") for row in ordered]
    assert {one.value for one in task.verify(ordered, backwards)} == {0.0}
    assert task.show is not None
    assert "no such table" in task.show(ordered[:1], ["SELECT * FROM Nowhere"])[0]
    assert task.show(ordered[:1], ["SELECT Name FROM Genre WHERE GenreId = 1"]) == ["('Rock',)"]
    # Nothing but reading is let through.
    assert "error" in task.show(ordered[:1], ["DELETE FROM Genre"])[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 1", "SELECT 1"),
        ("```sql\nSELECT a\n  FROM b;\n```\nThis counts.", "SELECT a FROM b"),
        ("The query is: select 1; -- done", "select 1"),
        ("SELECT 1\n\nIt gives one.", "SELECT 1"),
        (
            "I would select it. Final answer: WITH x AS (SELECT 1) SELECT * FROM x",
            "WITH x AS (SELECT 1) SELECT * FROM x",
        ),
        ("no query here", None),
        ("", None),
    ],
)
def test_queries_are_read(text: str, found: str | None) -> None:
    assert parse_sql(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("area(base=10, height=5)", "area(base=10, height=5)"),
        ("```python\nmath.factorial(number=5)\n```", "math.factorial(number=5)"),
        ("Call f(x) like this: g.h(text='a) (b', n=[1, 2]) and done", "g.h(text='a) (b', n=[1, 2])"),
        ("area(10, 5)", None),
        ("area(base=open('x'))", None),
        ("area(**{})", None),
        ("(" * 5000, None),
    ],
)
def test_calls_are_read_and_never_run(text: str, found: str | None) -> None:
    assert parse_call(text) == found


@pytest.mark.parametrize(
    ("ours", "theirs", "equal"),
    [
        ("San Francisco", "san francisco", True),
        (5, 5.0, True),
        (True, 1, False),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": [1, 2], "b": [""]}, True),
        ({"a": 3}, {"a": [1, 2]}, False),
        ({"a": 1, "c": 1}, {"a": [1]}, False),
        ("5", 5, False),
    ],
)
def test_arguments_are_compared(ours: Any, theirs: Any, equal: bool) -> None:
    assert same(ours, theirs) is equal


@settings(deadline=None)
@given(st.text(max_size=200))
def test_whatever_a_model_writes_is_read(text: str) -> None:
    for parse in (parse_call, parse_sql):
        found = parse(text)
        assert found is None or found.strip()


def test_bad_rows_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"question": "a?", "answer": "b"})
    for bad, words in (
        ('{"question": "c?"}', "rows.jsonl:2: has no text under 'answer'"),
        ('{"question": "c?", "answer": ""}', "no text under 'answer'"),
        ('{"question": "c?", "answer": true}', "no text under 'answer'"),
        ('{"question": "c?", "answer": []}', "no text under 'answer'"),
        ("[1]", "no JSON object"),
        ('{"question": NaN}', "NaN"),
        ('{"question": "c?", "question": "d?", "answer": "b"}', "twice"),
    ):
        path.write_text(f"{good}\n{bad}\n", encoding="utf-8")
        with pytest.raises(DataError, match=words.replace("[", r"\[").replace("?", r"\?")):
            open_task(TaskSettings(data=str(path)))
        with pytest.raises(MnemosError, match=r"rows\.jsonl:2"), Examiner(TaskSettings(data=str(path))):
            pass
    path.write_text(f"{good}\n{good}\n", encoding="utf-8")
    assert len(open_task(TaskSettings(data=str(path))).rows) == 2
    path.write_text('{"id": 1, "question": "a?", "answer": "b"}\n' * 2, encoding="utf-8")
    with pytest.raises(DataError, match="id '1' of another"):
        open_task(TaskSettings(data=str(path)))


def test_tasks_and_files_that_are_not_there_are_named() -> None:
    assert set(names()) == {*REAL, "jsonl"}
    for asked, words in (
        (TaskSettings(name="sqll"), "did you mean 'sql'"),
        (TaskSettings(name="./nowhere.py"), "does not exist"),
        (TaskSettings(data="/nowhere.jsonl"), "does not exist"),
        (TaskSettings(), "names no rows"),
        (TaskSettings(data="x", verifier="exakt"), "did you mean 'exact'"),
    ):
        with pytest.raises(UsageError, match=words):
            open_task(asked)


OWN = """
import time
from mnemos.core.reward import Rewarded
from mnemos.stream.task import Row, Task

def verify(rows, answers):
    print("a task may print")
    for answer in answers:
        if answer == "crash": raise ValueError("secret of a row")
        if answer == "hang": time.sleep(60)
    return [Rewarded(float(answer == row.gold)) for row, answer in zip(rows, answers)]

def parse(text):
    if text == "unreadable": raise KeyError(text)
    return text or None

def task(settings):
    rows = tuple(Row(f"r{i}", f"{i}?", str(i), str(i)) for i in range(settings.options.get("rows", 5)))
    return Task("own", rows, parse, verify)
"""


def test_a_task_of_one_file_and_verifiers_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    with Examiner(TaskSettings(name=str(path), options={"rows": 6}), patience=3.0) as examiner:
        assert sorted(examiner.questions) == [f"r{i}" for i in range(6)]
        found = examiner.grade([("r1", "1"), ("r2", "crash"), ("r3", "unreadable"), ("r4", ""), ("r5", "x" * 300_000)])
        assert [one.feedback.value for one in found] == [1.0, None, None, 0.0, None]
        assert found[1].feedback.reason == "the verifier failed: ValueError"
        assert found[2].feedback.reason == "the parser failed: KeyError"
        assert "more than" in str(found[4].feedback.reason)
        hung = examiner.grade([("r1", "1"), ("r2", "hang"), ("r3", "2")])
        assert [one.feedback.value for one in hung] == [1.0, None, 0.0]
        assert "took more than 3 seconds" in str(hung[1].feedback.reason)
    for text, words in (("x = 1", "no function task"), ("def task(s): raise OSError('x')", "the task failed: OSError")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MnemosError, match=words), Examiner(TaskSettings(name=str(path))):
            pass


def test_items_are_drawn_by_seed_and_gold_examples_held_back(tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", 100))
    first, again, other = (open_task(TaskSettings(data=data, items=30, seed=s)) for s in (0, 0, 1))
    assert [row.id for row in first.rows] == [row.id for row in again.rows]
    assert {row.id for row in first.rows} != {row.id for row in other.rows}
    assert len(first.rows) == 30
    assert not {row.id for row in first.rows} & {row.id for row in first.shots}


def opened_as(**settings: Any) -> str:
    with Examiner(TaskSettings(**settings)) as examiner:
        return examiner.fingerprint


def test_whatever_changes_the_worth_of_an_answer_makes_another_stream(tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", 5))
    usual = opened_as(data=data)
    assert usual == opened_as(data=data, verifier="normalised", options={"for": "own files alone"})
    task = open_task(TaskSettings(data=data))
    rows = [[r.id, r.text, r.key, r.gold, r.instruction, repr(r.check), r.hint] for r in task.rows]
    assert usual == fingerprint([rows, [], task.max_new_tokens]), "streams that were begun before keep their names"
    assert opened_as(data=data, verifier="exact") not in (usual, opened_as(data=data, verifier="f1"))
    queries, database = tmp_path / "queries.jsonl", tmp_path / "a.sqlite"
    queries.write_text("".join(f'{{"question": "{i}?", "answer": "SELECT x FROM t"}}\n' for i in range(2)))
    found = set()
    for value in (1, 2):
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("create table if not exists t (x)")
            connection.execute("insert into t values (?)", (value,))
        found.add(opened_as(data=str(queries), verifier="sql", database=str(database)))
    assert len(found) == 2

    own = tmp_path / "own.py"
    own.write_text(OWN, encoding="utf-8")
    before = opened_as(name=str(own))
    assert before == opened_as(name=str(own))
    assert before != opened_as(name=str(own), options={"strict": True})
    own.write_text(OWN.replace("answer == row.gold", "answer.lower() == row.gold"), encoding="utf-8")
    assert before != opened_as(name=str(own))


def test_what_a_check_holds_is_named_alike_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.py"
    made = 'Row(f"r{i}", f"{i}?", str(i), str(i), check=[{"red", "rouge", "rot"}, {"by": object()}])'
    own.write_text(OWN.replace('Row(f"r{i}", f"{i}?", str(i), str(i))', made), encoding="utf-8")
    found = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        with Examiner(TaskSettings(name=str(own))) as examiner:
            found.add(examiner.fingerprint)
    assert len(found) == 1
