from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens
from mnemos.sources.mix import Shape
from mnemos.train.schedule import Ramp, Schedule, join


def _dealt(rows: int, batch: int, processes: int, epoch: int = 0, seed: int = 3) -> list[list[list[int]]]:
    """[process][micro-batch] -> rows."""
    out = []
    for process in range(processes):
        schedule = Schedule([1 + i % 5 for i in range(rows)], batch, seed, process, processes)
        schedule.set_epoch(epoch)
        assert len(schedule) == len(list(schedule))
        out.append(list(schedule))
    return out


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), batch=st.integers(1, 5), processes=st.integers(1, 4), epoch=st.integers(0, 3))
def test_every_row_is_read_exactly_once_a_pass(rows: int, batch: int, processes: int, epoch: int) -> None:
    dealt = _dealt(rows, batch, processes, epoch)
    assert sorted(row for one in dealt for chunk in one for row in chunk) == list(range(rows))
    assert len({len(one) for one in dealt}) == 1
    assert all(len(chunk) <= batch for one in dealt for chunk in one)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), batch=st.integers(1, 3), processes=st.integers(2, 4))
def test_processes_together_read_what_one_would(rows: int, batch: int, processes: int) -> None:
    alone = _dealt(rows, batch * processes, 1)[0]
    dealt = _dealt(rows, batch, processes)
    together = [sorted(row for one in dealt for row in one[number]) for number in range(len(alone))]
    assert together == [sorted(chunk) for chunk in alone]


def test_passes_differ_and_depend_on_the_seed_only() -> None:
    first, second = _dealt(30, 4, 1, epoch=0), _dealt(30, 4, 1, epoch=1)
    assert first != second
    assert first == _dealt(30, 4, 1, epoch=0)
    assert first != _dealt(30, 4, 1, epoch=0, seed=4)


def test_read_counts_what_steps_read() -> None:
    schedule = Schedule([1] * 10, 2, 0)
    # 5 micro-batches a pass, 2 to a step: steps of 4, 4 and 2 rows.
    assert [len(list(schedule.read(steps, 2))) for steps in range(1, 5)] == [4, 8, 10, 14]
    assert sorted(schedule.read(3, 2)) == list(range(10))


def _row(*ids: int) -> Tokens:
    count = len(ids)
    return Tokens(np.array(ids, np.int32), np.ones(count, np.float32), np.ones(count, np.bool_), "x")


def test_join_puts_examples_one_after_another_without_padding() -> None:
    batch = join([(_row(5, 6, 7), _row(8, 9)), (_row(1, 2),)])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 1, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["weight"].tolist() == [[0, 1, 1, 0, 1, 0, 1]]
    assert batch["taught"].tolist() == [1, 2, 4, 6]
    assert batch["lengths"] == (3, 2, 2)


def test_join_of_nothing_is_one_silent_token() -> None:
    batch = join([])
    assert batch["input_ids"].shape == (1, 1)
    assert not batch["weight"].any()
    assert torch.equal(batch["taught"], torch.zeros(0, dtype=torch.int64))


def _stage(ramp: Ramp, seed: int = 0) -> list[int]:
    """Every row that the stage reads, in order."""
    passes = [ramp.order(epoch, seed) for epoch in range(math.ceil(ramp.passes))]
    return [int(row) for one in passes for row in one][: round(ramp.passes * len(ramp.new))]


SHAPES: dict[Shape, Callable[[float], float]] = {
    "linear": lambda x: x,
    "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2,
    "step": lambda x: (x > 0.5) + (x == 0.5) / 2,
}


@settings(max_examples=60, deadline=None)
@given(
    new=st.integers(1, 40),
    old=st.integers(1, 40),
    lean=st.floats(0, 1),
    passes=st.integers(1, 4),
    shape=st.sampled_from(sorted(SHAPES)),
)
def test_a_ramp_reads_every_row_equally_often_and_keeps_to_its_shape(
    new: int, old: int, lean: float, passes: int, shape: Shape
) -> None:
    share = new / (new + old)
    low, high = max(0.0, 2 * share - 1), min(1.0, 2 * share)
    start = low + lean * (high - low)
    ramp = Ramp((True,) * new + (False,) * old, start, passes, shape)
    read = _stage(ramp)
    assert np.bincount(read).tolist() == [passes] * (new + old)
    so_far = 0.0
    for place, row in enumerate(read):
        # The integral of the share, by the middle of each step; the count is never a whole row away.
        so_far += start + (ramp.end - start) * SHAPES[shape]((place + 0.5) / len(read))
        assert abs(sum(one < new for one in read[: place + 1]) - so_far) < 1, row


def test_a_ramp_from_old_to_new() -> None:
    ramp = Ramp((True, False) * 50, 0.0, 2)
    read = [row % 2 == 0 for row in _stage(ramp)]
    tenths = [sum(read[at : at + 20]) for at in range(0, 200, 20)]
    assert tenths == sorted(tenths)
    assert (tenths[0], tenths[-1]) == (1, 19)
    assert _stage(ramp, seed=1) != _stage(ramp)
    new = [row for row in _stage(ramp) if row % 2 == 0]
    assert sorted(new[:50]) == sorted(new[50:])
    assert new[:50] != new[50:], "each round in its own order"


def test_a_ramp_ends_with_the_stage_and_not_with_the_pass() -> None:
    ramp = Ramp((True,) * 30 + (False,) * 30, 0.0, 1.5)
    read = [row < 30 for row in _stage(ramp)]
    assert len(read) == 90
    assert sum(read) == 45
    assert all(read[-5:])


@pytest.mark.parametrize(
    ("new", "start", "message"),
    [(20, 0.5, "all 20 rows are new"), (18, 0.2, r"end would be 1.600.*\n.*between 0.800 and 1.000")],
)
def test_impossible_ramps(new: int, start: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Ramp(tuple(place < new for place in range(20)), start, 1)


def test_a_schedule_with_a_ramp_deals_its_order_to_processes() -> None:
    ramp = Ramp((True,) * 12 + (False,) * 12, 0.0, 2)
    alone = Schedule([1] * 24, 4, 3, ramp=ramp)
    dealt = [Schedule([1] * 24, 2, 3, process, 2, ramp) for process in (0, 1)]
    for epoch in (0, 1):
        for schedule in (alone, *dealt):
            schedule.set_epoch(epoch)
        together = [sorted(a + b) for a, b in zip(*dealt, strict=True)]
        assert together == [sorted(chunk) for chunk in alone]
    assert sorted(alone.read(12, 1)) == sorted(list(range(24)) * 2)
