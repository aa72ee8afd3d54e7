"""Advantages against the formulas, written out again in plain loops."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.rollouts import AdvantageEstimator, RolloutBatch
from mnemos.methods.draw.credit import Generalised, GroupNormalised, LeaveOneOut, RunningMean

REWARDS = [0.0, 1.0, 0.25, math.nan, 0.5, 0.5, 0.5, 0.5, 1.0]
GROUPS = [7, 7, 7, 7, 3, 3, 3, 3, 5]
LENGTHS = [3, 1, 2, 2, 4, 1, 1, 2, 3]


def rollouts(**changes: Any) -> RolloutBatch:
    made = np.random.default_rng(3)
    logs = [[made.normal(size=length) for length in LENGTHS] for _ in range(3)]
    fields = {"rewards": REWARDS, "groups": GROUPS, "lengths": LENGTHS, "now": logs[0], "before": logs[1]}
    fields |= {"values": logs[2], **changes}
    for name in ("rewards", "groups", "lengths"):
        fields[name] = np.array(fields[name])
    return RolloutBatch(**fields)


def paid(given: RolloutBatch, beta: float) -> list[float]:
    kl = [
        sum(n - b for n, b in zip(now, before, strict=True))
        for now, before in zip(given.now, given.before, strict=True)
    ]
    return [float(reward) - beta * one for reward, one in zip(given.rewards, kl, strict=True)]


def test_grpo_normalises_within_the_group() -> None:
    out = GroupNormalised("group")(rollouts()).advantages
    there = REWARDS[:3]
    for i in range(3):
        expected = (REWARDS[i] - statistics.mean(there)) / (statistics.stdev(there) + 1e-4)
        assert out[i] == pytest.approx([expected] * LENGTHS[i])
    assert all(np.all(one == 0) for one in out[3:]), "missing, constant and lonely rewards teach nothing"
    whole = statistics.stdev(reward for reward in REWARDS if not math.isnan(reward)) + 1e-4
    assert GroupNormalised("batch")(rollouts()).advantages[1][0] == pytest.approx((1 - statistics.mean(there)) / whole)
    assert GroupNormalised("none")(rollouts()).advantages[1][0] == pytest.approx(1 - statistics.mean(there))


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_rloo_compares_with_the_others(beta: float) -> None:
    drawn = rollouts()
    rewards, out = paid(drawn, beta), LeaveOneOut(beta)(drawn).advantages
    for i, group in enumerate(GROUPS):
        others = [rewards[j] for j in range(9) if GROUPS[j] == group and j != i and not math.isnan(rewards[j])]
        alone = not others or math.isnan(rewards[i])
        expected = 0.0 if alone else rewards[i] - statistics.mean(others)
        assert out[i] == pytest.approx([expected] * LENGTHS[i])


@pytest.mark.parametrize("past", [(0.0, 0), (0.75, 40)])
@pytest.mark.parametrize("baseline", ["running", "none"])
def test_reinforce_compares_with_what_came_before(past: Any, baseline: Any) -> None:
    drawn = rollouts(past=past)
    known = [reward for reward in REWARDS if not math.isnan(reward)]
    expected = 0.0 if baseline == "none" else past[0] if past[1] else statistics.mean(known)
    out = RunningMean(0.3, baseline)(drawn).advantages
    for i, reward in enumerate(paid(drawn, 0.3)):
        assert out[i] == pytest.approx([0.0 if math.isnan(reward) else reward - expected] * LENGTHS[i])


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.9, 0.0)])
def test_ppo_is_the_discounted_sum_of_surprises(gamma: float, lam: float) -> None:
    """sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t, with V = 0 after the end."""
    drawn, beta = rollouts(), 0.2
    out = Generalised(beta, gamma, lam, whiten=False)(drawn)
    for i, length in enumerate(LENGTHS):
        if math.isnan(REWARDS[i]):
            assert np.all(out.advantages[i] == 0)
            assert np.array_equal(out.returns[i], drawn.values[i])
            continue
        values = [*drawn.values[i], 0.0]
        rewards = [
            -beta * (drawn.now[i][t] - drawn.before[i][t]) + (t == length - 1) * REWARDS[i] for t in range(length)
        ]
        surprise = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(length)]
        expected = [sum((gamma * lam) ** (k - t) * surprise[k] for k in range(t, length)) for t in range(length)]
        assert out.advantages[i] == pytest.approx(expected)
        assert out.returns[i] == pytest.approx([a + v for a, v in zip(expected, values, strict=False)])
    white = np.concatenate(
        Generalised(beta, gamma, lam, whiten=True)(rollouts(rewards=[0.5, *REWARDS[1:3], 0.1, *REWARDS[4:]])).advantages
    )
    assert white.mean() == pytest.approx(0, abs=1e-12)
    assert white.var(ddof=1) == pytest.approx(1, rel=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(-3, 3))
def test_a_constant_added_to_all_rewards_changes_nothing(rewards: list[float], shift: float) -> None:
    one, other = (
        RolloutBatch(np.array(r), np.zeros(4, int), np.ones(4, int)) for r in (rewards, [x + shift for x in rewards])
    )
    for credit in (GroupNormalised("none"), LeaveOneOut(0.0)):
        assert isinstance(credit, AdvantageEstimator)
        assert np.allclose(credit(one).advantages, credit(other).advantages, atol=1e-9)
        assert np.sum(credit(one).advantages) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "credit", [GroupNormalised("group"), LeaveOneOut(0.1), RunningMean(0.1, "running"), Generalised(0.1, 1, 0.95, True)]
)
def test_a_drawing_without_answers(credit: Any) -> None:
    none = RolloutBatch(np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    assert list(credit(none).advantages) == []
