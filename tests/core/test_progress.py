"""Counting what is done, wherever it is done, and the pace that is read off it."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core import progress
from mnemos.core.progress import Status, Work, clock, counting, doing, note, read, working


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def unheard(text: str) -> None:
    raise AssertionError(text)


def test_the_pace_is_that_of_what_was_done(time: Clock) -> None:
    with working(Work(unheard)) as work, counting(10, "steps") as count:
        assert work.status() == Status("", 0, 10, "steps")
        for _ in range(4):
            time.now += 3
            count.read(600)
            count.to(count.done + 1)
        time.now += 1  # six steps of three seconds, one of which has passed
        assert work.status() == Status("", 4, 10, "steps", None, 200.0, 17.0)
        time.now += 60  # within one long step nothing is late before it is done
        assert work.status().seconds_left == 0
    assert work.status() == Status()


def test_what_a_journal_kept_took_no_time_and_tells_no_pace(time: Clock) -> None:
    with working(Work(unheard)) as work, counting(100) as count:
        time.now += 0.5
        count.to(90)
        assert work.status().seconds_left is None
        time.now += 8
        count.to(92)
        assert work.status().seconds_left == 32


def test_tokens_a_second_are_of_late(time: Clock) -> None:
    with working(Work(unheard)) as work, counting(1) as count:
        for pace in (1000, 10):
            for _ in range(40):
                time.now += 1
                count.read(pace)
        assert work.status().tokens_per_second == 10


def test_a_count_within_one_of_its_unit_is_a_part_of_it(time: Clock) -> None:
    with working(Work(unheard)) as work, counting(10) as outer:
        outer.to(4)
        with counting(3) as inner:
            inner.to(2)
            time.now += 2
            inner.read(8)
            assert (work.status().done, work.status().total, work.status().tokens_per_second) == (6, 10, 4)
        with counting(20) as inner:
            inner.to(20)
        assert work.status().done == 10, "never beyond the whole"


def test_a_count_within_one_of_another_unit_is_not_shown() -> None:
    with working(Work(unheard)) as work, counting(5, "steps") as steps:
        with counting(8) as answers, counting(8) as again:
            again.to(8)
            read(100)
            assert answers.done == 8
        steps.to(1)
        assert (work.status().done, work.status().unit, steps.tokens) == (1, "steps", 0)


@given(st.integers(1, 12))
def test_parts_of_an_item_make_a_whole_one(parts: int) -> None:
    with working(Work(unheard)) as work, counting(1) as count:
        done = 0.0
        for _ in range(parts):
            done += 1 / parts
            count.to(done)
        assert work.status().done == 1


def test_words() -> None:
    assert str(Status()) == ""
    assert str(Status("loading the model")) == "loading the model"
    assert str(Status("", 3, 0, "items")) == "3 items"
    everything = Status("suite a (1 of 2)", 1200, 3000, "items", 2.3456, 1812.4, 3725)
    assert str(everything) == "suite a (1 of 2), 1,200 of 3,000 items, loss 2.346, 1,812 tokens/s, 1:02:05 left"
    assert str(Status(tokens_per_second=0.24)) == "0.2 tokens/s"
    assert (clock(0), clock(65.9), clock(3600)) == ("0:00", "1:05", "1:00:00")


def test_where_nobody_looks_nothing_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    doing("nothing")
    read(3)
    with counting(2) as count:
        count.to(1)
    note("a line\x1b[2J")
    assert capsys.readouterr().err == "a line\\x1b[2J\n"


def test_each_thread_has_its_own_work() -> None:
    notes: list[str] = []
    with working(Work(notes.append)) as work:
        doing("this")
        note("heard")
        thread = threading.Thread(target=doing, args=("that",))
        thread.start()
        thread.join()
    assert (work.status().doing, notes) == ("this", ["heard"])
