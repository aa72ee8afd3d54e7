"""Statistics of the dynamic reset by hand-made cases, against scipy, and by properties."""

from __future__ import annotations

import itertools
import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemos.stream.adaptation.resets import Dynamic, Fixed, crossed


def test_which_utterances_are_kept() -> None:
    reset = Dynamic()
    kept = [t for t in range(1, 301) if reset.collects(t)]
    assert kept == list(range(51, 100))  # 49 of them, as published
    assert [t for t in range(1, 301) if reset.copies(t)] == [50]
    reset.restart(200)
    assert [t for t in range(1, 401) if reset.collects(t)] == list(range(251, 300))


def test_fit_and_z_by_hand() -> None:
    reset = Dynamic(window=8)
    for t in range(1, 9):
        if reset.collects(t):
            reset.collect({5: -1.0, 6: -2.0, 7: -3.0}[t])
        reset.fits(t)
    assert (reset.mean, reset.deviation) == (-2.0, 1.0)
    assert reset.z([-1.0, -2.0, 0.0, -1.0]) == pytest.approx((-1 + 2) / (1 / 2))
    assert reset.collected == []


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30), st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_z_is_that_of_a_normal_mean(collected: list[float], buffer: list[float]) -> None:
    reset = Dynamic(mean=statistics.fmean(collected), deviation=statistics.stdev(collected))
    if reset.deviation is not None and reset.deviation > 1e-9:
        cdf = stats.norm(np.mean(collected), np.std(collected, ddof=1) / math.sqrt(len(buffer))).cdf(np.mean(buffer))
        assert stats.norm.cdf(reset.z(buffer)) == pytest.approx(float(cdf), abs=1e-9)


def test_patience_counts_buffers_in_a_row() -> None:
    reset = Dynamic(mean=0.0, deviation=1.0)
    far, near = [2.0] * 5, [0.0] * 5  # z is 4.5 and 0
    assert [reset.resets(one) for one in (far, near, far, far)] == [False, False, False, True]
    assert [Dynamic(mean=0.0, deviation=1.0, patience=1).resets(far)] == [True]


def test_equal_gains_have_no_deviation() -> None:
    reset = Dynamic(mean=-1.0, deviation=0.0)
    assert reset.z([-1.0, -1.0]) == 0
    assert reset.z([-0.9]) == math.inf
    assert reset.z([-1.1]) == -math.inf


def test_a_restart_forgets_all() -> None:
    reset = Dynamic(mean=0.0, deviation=1.0, strikes=1, collected=[1.0])
    reset.restart(30)
    assert not reset.ready
    assert reset.state() == {"since": 30, "mean": None, "deviation": None, "strikes": 0, "collected": []}
    other = Dynamic()
    other.load(json.loads(json.dumps(reset.state())))
    assert other == reset


def test_fixed() -> None:
    reset = Fixed(50)
    assert [t for t in range(5, 205, 5) if reset.resets(t)] == [50, 100, 150, 200]
    # Buffers that do not divide it: at the next full one, and the next is due 50 later all the same.
    reset = Fixed(50)
    assert [t for t in range(7, 170, 7) if reset.resets(t)] == [56, 105, 154]


@given(st.sets(st.integers(1, 60), max_size=8), st.integers(1, 9))
def test_every_border_is_crossed_once(borders: set[int], buffer: int) -> None:
    ends = range(0, 61 + buffer, buffer)
    crossings = [end for start, end in itertools.pairwise(ends) if crossed(borders, start, end)]
    assert {math.ceil(border / buffer) * buffer for border in borders} == set(crossings)
