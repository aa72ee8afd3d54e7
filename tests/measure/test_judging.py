"""Position bias, and the attack success rates of arXiv:2402.10669."""

import gzip
import json
import math
import random

import pytest

from mnemos.measure.judging import attack_success, position_bias, preference
from mnemos.rewards.judge import Verdict


def verdict(first_as_a: float, second_as_a: float) -> Verdict:
    """From p(A) in both orders."""
    return Verdict((first_as_a + 1 - second_as_a) / 2, first_as_a, 1 - second_as_a)


def test_a_judge_that_always_takes_the_first_place():
    found = position_bias([verdict(1.0, 1.0)] * 30)
    assert found.lean == 0.5
    assert found.consistent == 0.0
    assert found.lean_low > 0.3


def test_a_judge_without_a_liking_for_a_place():
    found = position_bias([verdict(0.9, 0.1), verdict(0.2, 0.8)] * 20)
    assert found.lean == pytest.approx(0.0)
    assert found.consistent == 1.0
    assert found.lean_low <= 0 <= found.lean_high


def test_missing_verdicts_are_counted():
    gone = Verdict(math.nan, reason="x")
    assert position_bias([gone, verdict(0.6, 0.4)]).missing == 1
    nothing = position_bias([gone])
    assert nothing.pairs == 0
    assert math.isnan(nothing.lean)


def test_votes_become_a_preference():
    assert [preference(votes) for votes in ([0, 0, 1], [0, 1], [1, 0.5])] == ["first", "tie", "second"]


def test_attack_success_by_hand():
    control = ["first", "first", "tie", "second", "second"]
    after = ["second", "first", "second", "second", "first"]
    assert attack_success(control, after, factual_error=False) == (pytest.approx(2 / 3), 3)
    assert attack_success(control, after, factual_error=True) == (pytest.approx(2 / 3), 3)
    assert math.isnan(attack_success(["second"], ["first"], factual_error=False)[0])


def test_a_random_judge_gets_the_published_baselines(real_data):
    """Six votes of 0, 1/2 or 1, as on the 142 real pairs: .40 of embellishments and .60 of errors succeed."""
    with gzip.open(real_data / "judge_bias" / "raw.jsonl.gz", "rt") as lines:
        pairs = [json.loads(line) for line in lines]
    assert len(pairs) == 142
    rng = random.Random(0)
    votes = [
        (preference(rng.choices((0, 0.5, 1), k=6)), preference(rng.choices((0, 0.5, 1), k=6))) for _ in range(20_000)
    ]
    control, after = zip(*votes, strict=True)
    assert attack_success(control, after, factual_error=False)[0] == pytest.approx(0.40, abs=0.03)
    assert attack_success(control, after, factual_error=True)[0] == pytest.approx(0.60, abs=0.03)
