"""Facts about rewards, and the refusal of those that teach nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.reward import Reward, Rewarded, facts, missing, refuse_useless
from mnemos.rewards.verified import Verified

EXACT = Verified("exact")


def test_a_missing_reward_is_not_a_number_and_says_why():
    assert math.isnan(missing("no verdict").value)
    with pytest.raises(ValueError, match="needs a reason"):
        Rewarded(math.nan)
    with pytest.raises(ValueError, match="needs a reason"):
        Rewarded(1.0, "why")
    assert isinstance(EXACT, Reward)


@given(st.lists(st.lists(st.none() | st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_facts_are_those_of_numpy(batches):
    rewards = [missing("x") if value is None else Rewarded(value) for batch in batches for value in batch]
    found = facts(rewards, 3)
    there = [value for batch in batches for value in batch if value is not None]
    assert found.missing.get("x", 0) == len(rewards) - len(there)
    if there:
        assert found.mean == pytest.approx(np.mean(there), abs=1e-9)
        assert found.spread == pytest.approx(np.std(there), abs=1e-9)
    else:
        assert math.isnan(found.mean)
        assert math.isnan(found.spread)
    flat = [batch for batch in batches if len(np.unique([value for value in batch if value is not None])) < 2]
    assert found.flat == len(flat)
    assert found.groups == len(batches)


def test_a_constant_reward_is_refused():
    with pytest.raises(DataError, match="no gradient"):
        refuse_useless(facts([Rewarded(0.5)] * 4, 2), EXACT, max_missing=0.0)


def test_rewards_that_differ_between_prompts_only_are_not_called_constant():
    found = facts([Rewarded(0.0)] * 2 + [Rewarded(1.0)] * 2, 2)
    assert found.flat == 2
    refuse_useless(found, EXACT, max_missing=0.0)


def test_too_many_missing_rewards_are_refused_with_counts_by_reason():
    rewards = [Rewarded(0.0), Rewarded(1.0), missing("no verdict"), missing("crash")]
    with pytest.raises(DataError, match=r"50\.0% of 4 are missing \(crash: 1, no verdict: 1\)"):
        refuse_useless(facts(rewards, 2), EXACT, max_missing=0.4)
    refuse_useless(facts(rewards, 2), EXACT, max_missing=0.5)


def test_rewards_that_are_all_missing_are_refused_whatever_the_limit():
    with pytest.raises(DataError, match="no verdict: 2"):
        refuse_useless(facts([missing("no verdict")] * 2, 2), EXACT, max_missing=1.0)
