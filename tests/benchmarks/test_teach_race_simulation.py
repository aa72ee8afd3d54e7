"""A small slice of the table of docs/race.md, and that its bounds can be broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.teach_race_simulation import Row, Setting, holds, line, raced, row

FOUND = Row(4, 40, 0.0, 1.0, 2.0, 144.0, 20.0, 3.0, 0.0, 400)


def test_an_arm_far_ahead_wins_and_the_others_are_dropped() -> None:
    arms, trained, _, proven, _ = raced(np.random.default_rng(0), Setting(4, 120, 0.5))
    assert arms == ["0"]
    assert trained < 1
    assert proven


def test_equal_arms_are_kept_and_nothing_is_proven_too_often() -> None:
    found = row(Setting(3, 40, 0.0), 20)
    assert found.best_dropped == 0
    assert holds(found)
    assert found.proven is not None


def test_no_claim_is_false_where_something_is_gained() -> None:
    found = row(Setting(3, 40, 0.4), 4)
    assert found.proven is None
    assert line(found).endswith("| \u2013 | \u2013 | \u2013 |")


@pytest.mark.parametrize("change", [{"best_dropped": 9.0}, {"proven": 9.0}, {"let_through": 9.0}])
def test_a_broken_bound_is_seen(change: dict[str, float]) -> None:
    assert holds(FOUND)
    assert not holds(replace(FOUND, **change))
