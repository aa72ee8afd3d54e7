"""The delta-burden curve against the paper's sums and brute force over ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mnemos.stream.asking import NO, YES, curve, online, verbalised, yes_score

SIDES = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans(), st.booleans()), min_size=2, max_size=6)


def brute(order: list[int], d: list[float]) -> list[float]:
    """Delta after asking the first m of an order."""
    return [sum(d[i] for i in order[:m]) / len(d) for m in range(len(d) + 1)]


@settings(deadline=None)
@given(SIDES)
def test_ties_are_averaged_over_every_order(rows: list[tuple[float, bool, bool]]) -> None:
    scores = [a for a, _, _ in rows]
    without, helped = [float(y) for _, y, _ in rows], [float(z) for _, _, z in rows]
    d = [z - y for y, z in zip(without, helped, strict=True)]
    assume(sum(d) > 0)
    orders = [
        list(order)
        for order in itertools.permutations(range(len(rows)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    mean = np.mean([brute(order, d) for order in orders], axis=0)
    found = curve(scores, without, helped)
    places = np.linspace(0, 1, len(rows) + 1)
    assert np.interp(places, found.shares, found.gains) == pytest.approx(mean)
    area = float(((mean[1:] + mean[:-1]) / 2).sum() / len(rows) / mean[-1])
    assert found.area == pytest.approx(area)


def test_the_area_is_the_paper_s_but_for_its_border() -> None:
    draw = np.random.default_rng(0)
    n = 400
    without = (draw.random(n) < 0.3).astype(float)
    helped = np.maximum(without, draw.random(n) < 0.5).astype(float)
    scores = draw.random(n) + 0.5 * (1 - without)
    d = helped - without
    deltas = brute(list(np.argsort(-scores)), list(d))
    paper = sum(deltas) / n / (helped.mean() - without.mean())
    found = curve(list(scores), list(without), list(helped))
    assert found.area == pytest.approx(paper - 0.5 / n, abs=1e-9)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.area < found.high
    assert found.low > 0.5


def test_a_constant_score_is_a_coin_and_an_oracle_is_above_it() -> None:
    without, helped = [0.0, 1.0, 0.0, 0.0] * 20, [1.0, 1.0, 0.0, 0.0] * 20
    assert curve([0.3] * 80, without, helped).area == pytest.approx(0.5)
    d = [z - y for y, z in zip(without, helped, strict=True)]
    best = curve(d, without, helped)
    assert best.area == pytest.approx(1 - 0.25 / 2)
    assert best.needed == 16  # 80 % of the 20 that a hint helps
    assert curve([-one for one in d], without, helped).area == pytest.approx(0.25 / 2)


def test_hints_that_gain_nothing_have_no_area() -> None:
    found = curve([0.1, 0.2, 0.3], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    assert (found.area, found.low, found.needed) == (None, None, None)


def test_all_spellings_count() -> None:
    logs = [math.log(p) for p in (0.1, 0.2, 0.05, 0.05, 0.0001, 0.0001, 0.1, 0.1, 0.1, 0.05, 0.025, 0.025)]
    assert len(logs) == len(YES) + len(NO)
    yes, no = sum(map(math.exp, logs[:6])), sum(map(math.exp, logs[6:]))
    assert yes_score(logs) == pytest.approx(yes / (yes + no))
    assert yes_score([math.nan] * 12) == 0.5
    assert yes_score([-5000.0] * 6 + [-1.0] * 6) == pytest.approx(0.0)
    assert yes_score([-math.inf] * 6 + [-math.inf] * 6) == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.25000", 0.25), ("Probability: .7", 0.7), ("1", 1.0), ("no idea", None), ("about 85", None), ("1.5", None)],
)
def test_probabilities_are_read(text: str, value: float | None) -> None:
    assert verbalised(text) == value


def test_the_online_threshold_keeps_its_budget_and_its_regret_shrinks() -> None:
    draw = np.random.default_rng(1)
    regrets = []
    for n in (60, 2000):
        without = (draw.random(n) < 0.4).astype(float)
        helped = np.maximum(without, draw.random(n) < 0.6).astype(float)
        scores = 0.7 * (1 - without) + 0.3 * draw.random(n)
        found = online(list(scores), list(without), list(helped), 0.3)
        assert found.share <= 0.3
        regrets.append(found.regret)
    assert abs(regrets[1]) < 0.02
    assert regrets[1] < regrets[0]
    # A coin among equal scores: asked as often as the budget says.
    flat = online([0.5] * 1000, [0.0] * 1000, [1.0] * 1000, 0.3)
    assert 0.24 < flat.share <= 0.3
