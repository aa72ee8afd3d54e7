"""Intervals against independent references: published examples, scipy, statsmodels, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mnemos.measure import power
from mnemos.measure import uncertainty as u
from mnemos.measure.proportions import unpaired

COUNT = st.integers(0, 60)


def vectors(both: int, gained: int, lost: int, neither: int) -> tuple[list[float], list[float]]:
    before = [1.0] * both + [0.0] * gained + [1.0] * lost + [0.0] * neither
    after = [1.0] * both + [1.0] * gained + [0.0] * lost + [0.0] * neither
    return before, after


@pytest.mark.parametrize(
    ("table", "low", "high", "digits"),
    [
        # Altman et al. 2000, Statistics with Confidence, table 6.2: 14, 5 / 0, 22
        ((14, 5, 0, 22), 0.011, 0.226, 3),
        # Fagerland, Lydersen & Laake 2017, chapter 8 (Cavo et al. 2012): 59, 6 / 16, 80
        ((59, 6, 16, 80), -0.1186, -0.0046, 4),
    ],
)
def test_newcombe_on_published_examples(table: tuple[int, int, int, int], low: float, high: float, digits: int) -> None:
    n = sum(table)
    found = u.newcombe((table[0] / n, table[1] / n, table[2] / n, table[3] / n), n)
    assert found == (pytest.approx(low, abs=0.5 * 10**-digits), pytest.approx(high, abs=0.5 * 10**-digits))


@pytest.mark.parametrize(
    ("a", "n", "b", "m", "low", "high"),
    [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090), (0, 10, 0, 10, -0.2775, 0.2775)],
)
def test_unpaired_on_published_examples(a: int, n: int, b: int, m: int, low: float, high: float) -> None:
    """Table II of Newcombe 1998, method 10."""
    assert unpaired(a / n, n, b / m, m) == pytest.approx((low, high), abs=5e-5)
    assert unpaired(b / m, m, a / n, n) == pytest.approx((-high, -low), abs=5e-5)


@given(COUNT, COUNT, COUNT, COUNT)
def test_newcombe_contains_the_estimate_stays_inside_and_mirrors(a: int, b: int, c: int, d: int) -> None:
    n = a + b + c + d
    if n == 0:
        return
    table = a / n, b / n, c / n, d / n
    low, high = u.newcombe(table, n)
    assert -1 <= low <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= high <= 1
    assert high - low > 0
    mirrored = u.newcombe((table[0], table[2], table[1], table[3]), n)
    assert mirrored == (pytest.approx(-high), pytest.approx(-low))


@given(COUNT, COUNT)
def test_mcnemar_is_statsmodels(gained: int, lost: int) -> None:
    expected = mcnemar([[5, gained], [lost, 5]], exact=True).pvalue if gained + lost else 1.0
    assert u.mcnemar_p(gained, lost) == pytest.approx(min(1.0, expected))


@given(st.integers(0, 80), st.integers(1, 80))
def test_wilson_is_statsmodels(successes: int, failures: int) -> None:
    n = successes + failures
    expected = proportion_confint(successes, n, method="wilson")
    assert u.wilson(successes / n, n) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_definition(p: list[float]) -> None:
    """The largest of (number of p values not below p_j) * p_j over all p_j <= p_i, at most 1."""
    by_hand = [min(1.0, max(sum(q >= pj for q in p) * pj for pj in p if pj <= pi)) for pi in p]
    assert u.holm(p) == pytest.approx(by_hand)


def test_holm_is_statsmodels() -> None:
    p = [0.3, 0.001, 0.02, 0.02, 0.9, 0.004]
    assert u.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert u.holm([0.01, None, 0.04]) == [0.02, None, 0.04]


@given(st.integers(0, 30), st.integers(0, 10), st.integers(0, 10), st.integers(20, 40))
def test_right_or_wrong_items_get_mcnemar_and_newcombe(a: int, b: int, c: int, d: int) -> None:
    before, after = vectors(a, b, c, d)
    n = a + b + c + d
    found = u.paired(before, [after])
    assert (found.low, found.high) == pytest.approx(u.newcombe((a / n, b / n, c / n, d / n), n))
    assert found.p == pytest.approx(u.mcnemar_p(b, c))
    assert found.delta == pytest.approx((b - c) / n)


def test_few_right_or_wrong_items_get_a_wider_interval() -> None:
    before, after = vectors(3, 1, 3, 2)
    found = u.paired(before, [after])
    plain = u.newcombe((3 / 9, 1 / 9, 3 / 9, 2 / 9), 9)
    assert found.low is not None
    assert found.high is not None
    assert found.low < plain[0]
    assert found.high > plain[1]
    assert found.p == pytest.approx(u.mcnemar_p(1, 3))


def test_scores_without_bounds_need_nine_independent_items() -> None:
    rng = np.random.default_rng(4)
    x, d = rng.random(27), rng.normal(size=27)
    assert u.paired(x[:9], [x[:9] + d[:9]], bounded=False).low is not None
    for found in (
        u.paired(x[:8], [x[:8] + d[:8]], bounded=False),
        u.paired(x, [x + d], bounded=False, clusters=[str(i // 4) for i in range(27)]),
    ):
        assert (found.low, found.high, found.p, found.minimum_detectable) == (None, None, None, None)
        assert found.method == u.TOO_FEW
        assert found.delta != 0


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("seeds", [1, 3])
def test_graded_p_is_the_level_at_which_the_interval_ends_at_zero(bounded: bool, seeds: int) -> None:
    rng = np.random.default_rng(4)
    for shift in (0.02, 0.05, 0.08, 0.12, 0.2):
        x = rng.uniform(0.3, 0.5, 60)
        found = u.paired(x, x + rng.normal(shift, 0.1, (seeds, 60)), bounded=bounded)
        assert found.low is not None
        assert found.p is not None
        if abs(found.low) > 1e-3:
            assert (found.p < 0.05) == (found.low > 0)


def test_many_even_items_get_students_interval() -> None:
    """The reweighed interval without bounds costs little where Student's t is right."""
    d = np.random.default_rng(5).normal(0.1, 1.0, 2000)
    found = u.paired(np.zeros(2000), [d], bounded=False)
    theirs = stats.t.interval(0.95, 1999, loc=d.mean(), scale=stats.sem(d))
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.006)
    assert found.p is not None
    assert math.log10(found.p) == pytest.approx(math.log10(stats.ttest_1samp(d, 0).pvalue), abs=0.5)


def test_no_more_is_lost_than_there_was() -> None:
    """Scores near 0.1 cannot lose half a scale, however few items there are."""
    x = np.linspace(0.05, 0.15, 12)
    found = u.paired(x, [x * 0.2])
    assert found.low is not None
    assert found.low > -0.45
    assert found.low < -0.1


def test_clustered_error_is_millers() -> None:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(12), 5)
    d = rng.normal(size=12)[group] + rng.normal(size=60)
    found = u.two_way(d[None], np.full(60, 1 / 60), group)
    residual = d - d.mean()
    by_hand = math.sqrt(sum(residual[group == c].sum() ** 2 for c in range(12))) / 60
    assert math.sqrt(found.variance) == pytest.approx(by_hand * math.sqrt(12 / 11))
    assert (found.df, found.units) == (11, 12)
    interval = u.paired(np.zeros(60), [d], clusters=[str(c) for c in group], bounded=False)
    assert interval.high is not None
    student = stats.t.ppf(0.975, 11) * math.sqrt(found.variance)
    assert student < interval.high - d.mean() < 3 * student, "never narrower; one unseen cluster more"
    assert interval.method == "12 clusters, reweighed"


def test_two_way_variance_is_that_of_a_crossed_anova() -> None:
    rng = np.random.default_rng(6)
    s, n = 4, 25
    d = rng.normal(size=n) + rng.normal(size=(s, 1)) + rng.normal(size=(s, n))
    items = s * d.mean(axis=0).var(ddof=1)
    seeds = n * d.mean(axis=1).var(ddof=1)
    rest = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
    error = (rest**2).sum() / ((n - 1) * (s - 1))
    assert seeds > error
    found = u.two_way(d, np.full(n, 1 / n), np.arange(n))
    assert found.variance == pytest.approx((items + seeds - u.share_taken_off(s) * error) / (n * s))
    assert 1 <= found.df <= n - 1


def test_a_seed_twice_tells_no_more_than_once() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=30), rng.normal(size=30)
    one = u.two_way((y - x)[None], np.full(30, 1 / 30), np.arange(30))
    two = u.two_way(np.stack([y - x] * 2), np.full(30, 1 / 30), np.arange(30))
    assert (two.variance, two.df, two.units) == (pytest.approx(one.variance), one.df, one.units)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (1.0, 1.0), (0.0, 0.0), (0.4, 0.4), (0.2, 0.5)])
def test_no_interval_shrinks_to_a_point(x: float, y: float, seeds: int) -> None:
    found = u.paired([x] * 40, [[y] * 40] * seeds)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= y - x <= found.high
    assert 0.02 < found.high - found.low < 0.3
    assert found.p == pytest.approx(1.0 if x == y else 0.0, abs=1e-3)


def test_unbounded_scores_that_all_moved_alike_get_a_bound_too() -> None:
    found = u.paired([2.0] * 30, [[2.0] * 30], bounded=False)
    assert found.low is not None
    assert found.low < 0 < -found.low
    alone = u.paired([2.0], [[3.0]], bounded=False)
    assert (alone.low, alone.high, alone.p) == (None, None, None)


def test_one_cluster_says_nothing_about_others() -> None:
    found = u.paired([1.0] * 20, [[0.0] * 20], clusters=["same"] * 20)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 0.7
    assert found.p == 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans(), st.booleans())
def test_intervals_are_ordered_contain_delta_and_mirror(seed: int, seeds: int, binary: bool, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.random(24), rng.random((seeds, 24))
    if binary:
        x, y = (x < 0.6).astype(float), (y < 0.6).astype(float)
    clusters = [str(i // 3) for i in range(24)] if clustered else None
    found = u.paired(x, y, clusters=clusters)
    mirrored = u.paired(1 - x, 1 - y, clusters=clusters)
    assert found.low is not None
    assert found.high is not None
    assert mirrored.low is not None
    assert found.low <= found.delta + 1e-9
    assert found.delta - 1e-9 <= found.high
    assert found.delta == pytest.approx(-mirrored.delta)
    assert found.high == pytest.approx(-mirrored.low, abs=0.01)
    assert 0 <= (found.p or 0) <= 1


@pytest.mark.parametrize(("discordance", "n", "delta"), [(0.10, 1960, 0.02), (0.10, 300, 0.0507)])
def test_detectable_change_is_near_the_published_formula(discordance: float, n: int, delta: float) -> None:
    """Connor 1987 has the asymptotic test; the exact one that is used here needs a little more."""
    assert delta < power.mcnemar_detectable(discordance, n) < 1.06 * delta


def test_detectable_change_is_found_with_eighty_percent_power() -> None:
    rng = np.random.default_rng(8)
    n, discordance = 400, 0.12
    delta = power.mcnemar_detectable(discordance, n)
    flips = rng.multinomial(n, [(discordance + delta) / 2, (discordance - delta) / 2, 1 - discordance], size=2000)
    found = [u.mcnemar_p(int(gained), int(lost)) < 0.05 for gained, lost, _ in flips]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_detectable_change_of_graded_items_is_near_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    d = np.random.default_rng(9).normal(0, 0.3, 400)
    found = u.paired(np.zeros(400), [d], bounded=False)
    effect = TTestPower().solve_power(nobs=400, alpha=0.05, power=0.8)
    assert found.minimum_detectable == pytest.approx(effect * d.std(ddof=1), rel=0.08)


def test_no_detectable_change_where_it_would_mislead() -> None:
    rng = np.random.default_rng(9)
    x = np.zeros(60)
    even = rng.uniform(-0.2, 0.2, size=(3, 60))
    assert u.paired(x, even[:1] + 0.5).minimum_detectable is not None
    assert u.paired(x, even + 0.5).minimum_detectable is not None
    assert u.paired(x, even[:2] + 0.5).minimum_detectable is None, "two seeds"
    assert u.paired(x[:15], even[:1, :15] + 0.5).minimum_detectable is None, "few items"
    many = rng.normal(size=120)
    assert u.paired(np.zeros(120), [many], bounded=False).minimum_detectable is not None
    assert u.paired(np.zeros(120), [many], bounded=False, power=False).minimum_detectable is None
    alone = np.eye(120)[0] + 1e-3 * many
    assert u.paired(np.zeros(120), [alone], bounded=False).minimum_detectable is None, "one item made all of it"
    uneven = rng.lognormal(0, 1, 120)
    assert u.paired(np.zeros(120), [many], weights=uneven, bounded=False).minimum_detectable is None, "few by weight"
    hit = (rng.random((3, 60)) < 0.02).astype(float)
    assert u.paired(x, hit).minimum_detectable is None, "hardly a flip in a seed"


def test_means_of_one_side() -> None:
    assert u.mean_interval([1, 1, 0, 1]) == (0.75, *u.wilson(0.75, 4))
    values = np.random.default_rng(10).random(25)
    mean, low, high = u.mean_interval(values)
    expected = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(expected, abs=0.03)
    wide = u.mean_interval([1.0, 0.0] * 10, clusters=[str(i // 10) for i in range(20)])
    assert wide[1] is not None
    assert wide[2] is not None
    assert wide[2] - wide[1] > 0.4
    assert u.mean_interval([3.0], bounded=False) == (3.0, None, None)


@pytest.mark.parametrize(
    ("before", "after"), [([], [[]]), ([1.0], [[math.nan]]), ([1.0, 0.0], [[1.0]]), ([math.inf], [[1.0]])]
)
def test_what_cannot_be_paired_is_refused(before: list[float], after: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="paired needs"):
        u.paired(before, after)
