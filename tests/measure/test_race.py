"""The race: evidence that is valid at every look, limits that hold, arms that are dropped for a reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.measure.composite import Part
from mnemos.measure.frontier import SuiteScores
from mnemos.measure.race import BETS, Rules, Terms, choice, interval, log_evidence, look, lower_limit


def part(d: np.ndarray, weight: float = 1.0, group: np.ndarray | None = None) -> Part:
    d = np.atleast_2d(d)
    n = d.shape[1]
    return Part(d, np.full(n, 1 / n), np.arange(n) if group is None else group, weight)


def terms(*parts: Part) -> Terms:
    return Terms.of(parts)


def suite(name: str, role: str, before: np.ndarray, **after: np.ndarray) -> SuiteScores:
    n = len(before)
    rows = {arm: np.atleast_2d(values) for arm, values in after.items()}
    return SuiteScores(name, role, "points", "higher", before, rows, np.ones(n), [None] * n)


def test_the_evidence_of_one_suite_is_the_mean_of_products_of_bets() -> None:
    d = np.array([1.0, 0.0, -1.0, 1.0, 0.5])
    expected = np.mean([math.prod(1 + bet * x for x in d) for bet in BETS])
    assert log_evidence([terms(part(d))]) == pytest.approx(math.log(expected))


def test_clusters_are_one_bet_each() -> None:
    d, group = np.array([1.0, -1.0, 1.0, 1.0]), np.array([0, 0, 1, 1])
    expected = np.mean([(1 + bet * 0) * (1 + bet * 1) for bet in BETS])
    assert log_evidence([terms(part(d, group=group))]) == pytest.approx(math.log(expected))


def test_portions_multiply_bet_by_bet() -> None:
    first, second = np.array([1.0, 0.0, 1.0]), np.array([1.0, -1.0])
    expected = np.mean([math.prod(1 + bet * x for x in (*first, *second)) for bet in BETS])
    assert log_evidence([terms(part(first)), terms(part(second))]) == pytest.approx(math.log(expected))


def test_two_suites_bet_by_their_share_of_the_whole() -> None:
    a, b = np.array([1.0, 0.0]), np.array([1.0, 0.5, 0.0, -1.0])
    # terms a / 2 and (1/2) b / 4, bounds 1/2 and 1/8
    expected = np.mean([math.prod(1 + bet * x for x in a) * math.prod(1 + bet * x / 4 for x in b) for bet in BETS])
    assert log_evidence([terms(part(a), part(b, 0.5))]) == pytest.approx(math.log(expected))


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 30), st.sampled_from([0.01, 0.05, 0.3]))
@settings(max_examples=40, deadline=None)
def test_a_limit_is_where_the_evidence_ends(seed: int, n: int, m: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [part(rng.uniform(-1, 1, n)), part(rng.choice([-1.0, 0.0, 1.0], m), -0.5)]
    low = lower_limit([Terms.of(parts)], level)
    mean = sum(one.weight * float(one.d.mean()) for one in parts)
    assert -1.5 <= low <= mean
    wanted = math.log(1 / level)
    assert log_evidence([Terms.of(parts)], low + 1e-4) < wanted
    if low > -1.5 + 1e-4:
        assert log_evidence([Terms.of(parts)], low - 1e-4) >= wanted
    values = [log_evidence([Terms.of(parts)], least) for least in np.linspace(-1.4, 1.4, 9)]
    assert values == sorted(values, reverse=True)


def test_the_limit_holds_at_every_look() -> None:
    """Rademacher items of mean 0, looked at after each of 12 portions: the capital passes 1/level in 5 % of 2,000 runs
    at most."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(2000):
        draws = rng.choice([-1.0, 1.0], (12, 10))
        growth = np.log1p(BETS[:, None, None] * draws).sum(axis=2).cumsum(axis=1)  # (bets, looks)
        passed += bool((np.log(np.exp(growth).mean(axis=0)) >= math.log(20)).any())
    assert passed / 2000 <= 0.05
    # The same numbers as of the function.
    portions = [terms(part(row)) for row in draws]
    assert log_evidence(portions) == pytest.approx(math.log(np.exp(growth[:, -1]).mean()))


def test_the_interval_is_mirrored_with_the_data() -> None:
    d = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0] * 6)
    low, high = interval([terms(part(d))])
    assert low < float(d.mean()) < high
    assert interval([terms(part(-d))]) == pytest.approx((-high, -low))


def test_nothing_lies_above_the_largest_sum() -> None:
    assert log_evidence([terms(part(np.ones(5)))], 1.0) == -math.inf


ARMS = ("good", "weak", "harmful")


def race_suites(n: int = 100) -> list[SuiteScores]:
    zeros, ones = np.zeros(n), np.ones(n)
    half = np.tile([0.0, 1.0], n // 2)
    return [
        suite("new", "new", zeros, good=ones, weak=zeros, harmful=ones),
        suite("old", "old", ones, good=ones, weak=ones, harmful=half),
        SuiteScores("bits", "old", "bits", "lower", ones, dict.fromkeys(ARMS, ones[None]), ones, [None] * n),
    ]


def test_arms_are_dropped_for_what_is_proven() -> None:
    places = {place.arm: place for place in look([race_suites()], ARMS, Rules(3, 3, 1, 0.02))}
    assert places["weak"].beaten_by == ("good", "harmful")
    assert places["harmful"].lost == ("old",)
    assert [places[arm].dropped for arm in ARMS] == [False, True, True]
    assert places["good"].balance == 1.0
    assert places["harmful"].forgotten == 0.5


def test_losses_drop_nobody_where_everybody_lost() -> None:
    n = 100
    ones, zeros = np.ones(n), np.zeros(n)
    suites = [suite("new", "new", zeros, a=ones, b=ones), suite("old", "old", ones, a=zeros, b=zeros)]
    places = look([suites], ("a", "b"), Rules(2, 3, 1, 0.02))
    assert all(place.lost and not place.dropped for place in places)


def test_somebody_is_left_where_the_best_lost_and_the_others_are_beaten() -> None:
    n = 200
    ones, zeros = np.ones(n), np.zeros(n)
    fifth = np.tile([0.0, 1.0, 1.0, 1.0, 1.0], n // 5)
    suites = [suite("new", "new", zeros, a=ones, b=zeros), suite("old", "old", ones, a=fifth, b=ones)]
    places = look([suites], ("a", "b"), Rules(2, 3, 1, 0.02))
    assert [place.dropped for place in places] == [False, True]


def test_who_has_learned_nothing_beats_nobody() -> None:
    """After few rows no arm has learned; the one that moved least has lost least, and says nothing about the others."""
    n = 200
    ones, zeros = np.ones(n), np.zeros(n)
    tenth = np.tile([0.0, *[1.0] * 9], n // 10)
    old = suite("old", "old", ones, still=ones, moving=tenth)
    for moving, still, beaten in ((zeros, zeros, ()), (zeros, ones, ("still",)), (ones, zeros, ())):
        suites = [suite("new", "new", zeros, still=still, moving=moving), old]
        first, second = look([suites], ("still", "moving"), Rules(2, 3, 1, 0.5))
        assert (first.proven, second.proven) == (bool(still.any()), bool(moving.any()))
        assert second.beaten_by == beaten


def test_few_items_drop_nobody() -> None:
    places = look([race_suites(4)], ARMS, Rules(3, 3, 1, 0.02))
    assert not any(place.dropped for place in places)


def test_items_without_a_score_in_one_arm_count_for_none() -> None:
    n = 60
    ones, zeros = np.ones(n), np.zeros(n)
    gap = np.where(np.arange(n) < 30, np.nan, 1.0)
    suites = [suite("new", "new", zeros, a=gap, b=zeros), suite("old", "old", ones, a=ones, b=ones)]
    first, second = look([suites], ("a", "b"), Rules(2, 1, 1, 0.02))
    assert first.learned == pytest.approx(1.0)
    assert second.beaten_by == ("a",)


def test_portions_add_up_to_the_whole() -> None:
    whole = race_suites(100)
    parts = [
        [
            SuiteScores(s.name, s.role, s.unit, s.better, s.before[cut], {a: v[:, cut] for a, v in s.after.items()},
                        s.weight[cut], s.clusters[cut])
            for s in whole
        ]
        for cut in (slice(0, 40), slice(40, 100))
    ]  # fmt: skip
    rules = Rules(3, 3, 1, 0.02)
    together, portioned = look([whole], ARMS, rules), look(parts, ARMS, rules)
    assert [(p.arm, p.dropped, p.beaten_by) for p in together] == [(p.arm, p.dropped, p.beaten_by) for p in portioned]
    assert [p.balance for p in together] == pytest.approx([p.balance for p in portioned])


def test_the_level_is_divided_over_everything_that_could_drop_an_arm() -> None:
    assert Rules(5, 3, 6, 0.02).level == pytest.approx(0.05 / (3 * (4 + 6)))
    assert Rules(1, 1, 0, 0.02).level == 0.05


def test_the_simplest_of_equals_is_chosen_and_losers_are_passed_over() -> None:
    n = 100
    ones, zeros = np.ones(n), np.zeros(n)
    nearly = np.where(np.arange(n) < 1, 0.0, 1.0)
    tenth = np.where(np.arange(n) < 10, 0.0, 1.0)
    suites = [
        suite("new", "new", zeros, plain=tenth, replay=nearly, both=ones, loser=ones),
        suite("old", "old", ones, plain=ones, replay=ones, both=ones, loser=tenth),
    ]
    ranks = {"plain": (0.0,), "replay": (1.0,), "both": (2.0,), "loser": (0.0,)}
    arms = ("plain", "replay", "both", "loser")
    assert choice(suites, arms, max_loss=0.02, ranks=ranks) == "replay"
    assert choice(suites, ("loser",), max_loss=0.02, ranks=ranks) == "loser"
