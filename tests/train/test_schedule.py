from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.nouns import Tokens
from mnemos.train.schedule import Schedule, join


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
