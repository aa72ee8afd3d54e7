"""Votes: one a pair and rater, whoever writes at once, whatever a rater is called, and none lost by a crash."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.measure.votes import COLUMNS, MOST_REASON, Vote, VoteStore, read_table, read_votes, write_votes

VOTE = Vote("study", "chat", "81", "before", "replay/seed-0", "a", "b", "shorter", "ann", "2026-01-31T12:00:00+00:00")


def test_a_vote_comes_back(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    store.add(VOTE)
    assert store.votes() == [VOTE]
    assert VoteStore(tmp_path / "votes.sqlite").votes(suite="chat") == [VOTE]
    assert store.votes(suite="other") == []


@pytest.mark.parametrize("again", [VOTE, VOTE.turned(), replace(VOTE, verdict="a", reason="")])
def test_a_rater_votes_once_on_a_pair(tmp_path: Path, again: Vote) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    store.add(VOTE)
    with pytest.raises(DataError, match="has voted"):
        store.add(again)
    store.add(replace(again, rater="bob"))
    assert [vote.verdict for vote in store.votes(rater="ann")] == ["b"]
    assert len(store.votes()) == 2


def test_several_votes_are_kept_all_or_none(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    with pytest.raises(DataError, match="has voted"):
        store.add_all([VOTE, replace(VOTE, item="82"), VOTE.turned()])
    assert store.votes() == []


def test_a_pair_has_no_side() -> None:
    turned = VOTE.turned()
    assert (turned.model_a, turned.verdict, turned.shown_first) == ("replay/seed-0", "a", "b")
    assert turned.turned() == turned.in_order() == VOTE
    assert turned.pair == VOTE.pair


@pytest.mark.parametrize("name", ["Robert'); DROP TABLE votes;--", '" OR 1=1 --', "<script>alert(1)</script>", "雅婷"])
def test_a_rater_named_like_a_statement_is_a_name(tmp_path: Path, name: str) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    store.add(VOTE)
    store.add(replace(VOTE, rater=name))
    assert [vote.rater for vote in store.votes(rater=name)] == [name]
    assert len(store.votes()) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"verdict": "c"}, "none of a, b, tie, both_bad"),
        ({"shown_first": "before"}, "none of a, b"),
        ({"model_b": "before"}, "are one model"),
        ({"rater": " "}, "not empty"),
        ({"rater": "a\0b"}, "whole letters"),
        ({"item": "x" * 1001}, "at most 1,000"),
        ({"reason": "x" * (MOST_REASON + 1)}, "at most 4,000"),
        ({"reason": "\ud800"}, "text"),
        ({"at": "yesterday"}, "no time"),
        ({"at": "2026-01-31T12:00:00"}, "no time"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(VOTE, **wrong)  # type: ignore[arg-type]


def test_fifty_raters_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"

    def vote(rater: int) -> None:
        store = VoteStore(path)
        for item in range(2):
            store.add(replace(VOTE, rater=f"r{rater}", item=str(item)))

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(vote, range(50)))
    found = {(one.rater, one.item) for one in read_table(path)}
    assert found == {(f"r{rater}", str(item)) for rater in range(50) for item in range(2)}


def test_a_confirmed_vote_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"
    program = (
        "import sys; from dataclasses import replace; from mnemos.measure.votes import *\n"
        "store = VoteStore(sys.argv[1])\n"
        "for item in range(10**6):\n"
        "    store.add(Vote('r', 's', str(item), 'a', 'b', 'a', 'tie', '', 'x')); print(item, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = [int(child.stdout.readline()) for _ in range(20)]
    child.kill()
    confirmed += [int(line) for line in child.stdout.read().split() if line]
    child.wait()
    child.stdout.close()
    assert set(map(str, confirmed)) <= {vote.item for vote in read_table(path)}


def test_rows_of_a_file_are_votes(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    write_votes(path, [VOTE, replace(VOTE, rater="bob")])
    assert read_votes(path) == [VOTE, replace(VOTE, rater="bob")]


def test_a_row_may_leave_out_reason_and_time_and_number_its_item(tmp_path: Path) -> None:
    row = {name: getattr(VOTE, name) for name in COLUMNS if name not in ("reason", "at")} | {"item": 81, "more": [1]}
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (vote,) = read_votes(path)
    assert (vote.item, vote.reason) == ("81", "")


@pytest.mark.parametrize("text", ['{"run": "r"}', "[1]", "{broken", '{"run": NaN}'])
def test_an_unreadable_row_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text(text)
    with pytest.raises(MnemosError, match=r"votes.jsonl:1"):
        read_votes(path)


def test_a_second_vote_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    write_votes(path, [VOTE, VOTE.turned()])
    with pytest.raises(DataError, match=r"votes.jsonl:2: 'ann' has voted"):
        read_votes(path)


@pytest.mark.parametrize("statement", [None, "CREATE VIEW votes AS SELECT 1", "CREATE TABLE votes (run TEXT)"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, statement: str | None) -> None:
    path = tmp_path / "votes.sqlite"
    if statement is None:
        path.write_bytes(b"no database at all" * 100)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
    before = path.read_bytes()
    for use in (VoteStore, read_table):
        with pytest.raises(UsageError, match="votes"):
            use(path)
    assert path.read_bytes()[100:] == before[100:] or statement is not None


def test_a_trigger_in_a_file_from_outside_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"
    VoteStore(path).add(VOTE)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON votes BEGIN DELETE FROM votes; END")
    with pytest.raises(UsageError, match="no table of votes"):
        VoteStore(path)


def test_a_missing_file_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        read_table(tmp_path / "absent.sqlite")
    assert not list(tmp_path.iterdir())


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> VoteStore:
    return VoteStore(tmp_path_factory.mktemp("votes") / "votes.sqlite")


NUMBERS = itertools.count()


@settings(deadline=None, max_examples=30)
@given(rater=NAMES, item=NAMES, reason=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(shared: VoteStore, rater: str, item: str, reason: str) -> None:
    vote = replace(VOTE, rater=rater, item=item, reason=reason, run=f"run {next(NUMBERS)}")
    shared.add(vote)
    assert shared.votes(run=vote.run) == [vote]
