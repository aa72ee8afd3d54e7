"""SliCK's classes against their definition, and what is expected of a second probing against scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from mnemos.synthesis.slick import CLASSES, UNIFORM, Known, Priors, again, beta_prior, class_of, fitted_risk, priors

HALF = st.lists(st.booleans(), min_size=1, max_size=6)


@settings(deadline=None)
@given(HALF, st.integers(0, 3))
def test_a_class_is_what_the_two_probabilities_say(greedy: list[bool], right: int) -> None:
    p_greedy, p_sampled = np.mean(greedy), right / 3
    table = {
        "HighlyKnown": p_greedy == 1,
        "MaybeKnown": 0 < p_greedy < 1,
        "WeaklyKnown": p_greedy == 0 and p_sampled > 0,
        "Unknown": p_greedy == 0 and p_sampled == 0,
    }
    assert [name for name, holds in table.items() if holds] == [class_of(greedy, right)]


@settings(deadline=None)
@given(HALF, st.data())
def test_halves_are_two_probings_of_their_own(greedy: list[bool], data: st.DataObject) -> None:
    sampled = [(data.draw(st.integers(0, 2)), 2) for _ in greedy]
    known = Known(tuple(greedy), tuple(sampled))
    if len(greedy) == 1:
        assert known.same_halves is None
        return
    halves = [Known(known.greedy[at::2], known.sampled[at::2]).name for at in (0, 1)]
    assert known.same_halves == (halves[0] == halves[1])


@settings(deadline=None)
@given(st.integers(0, 10), st.integers(0, 160), st.floats(0.1, 5), st.floats(0.1, 5))
def test_a_second_probing_is_a_beta_binomial(right: int, sampled: int, a: float, b: float) -> None:
    known = Known((True,) * right + (False,) * (10 - right), ((0, 16),) * 9 + ((min(sampled, 16), 16),))
    prior = Priors((a, b), (b, a), (True, True))
    found = again(known, prior, 16)
    greedy = betabinom(10, a + right, b + 10 - right)
    hits = min(sampled, 16)
    samples = betabinom(160, b + hits, a + 160 - hits)
    expected = {
        "HighlyKnown": greedy.pmf(10),
        "MaybeKnown": greedy.pmf(range(1, 10)).sum(),
        "WeaklyKnown": greedy.pmf(0) * (1 - samples.pmf(0)),
        "Unknown": greedy.pmf(0) * samples.pmf(0),
    }
    assert found == pytest.approx(expected, abs=1e-9)
    assert sum(found.values()) == pytest.approx(1)


@settings(deadline=None, max_examples=6)
@given(st.sampled_from([(0.3, 0.4), (0.2, 2.0), (3.0, 1.0)]), st.integers(0, 10**6))
def test_a_prior_is_the_likeliest_one(truth: tuple[float, float], seed: int) -> None:
    counts = betabinom(10, *truth).rvs(200, random_state=seed)
    a, b = beta_prior([(int(k), 10 - int(k)) for k in counts]) or UNIFORM
    best = betabinom(10, a, b).logpmf(counts).sum()
    for x in np.geomspace(0.05, 20, 7):
        for y in np.geomspace(0.05, 20, 7):
            assert betabinom(10, x, y).logpmf(counts).sum() <= best + 1e-3


def test_few_facts_have_a_uniform_prior_and_equal_ones_a_bounded_one() -> None:
    known = Known((True, True), ((0, 0), (0, 0)))
    assert priors([known] * 5) == Priors(UNIFORM, UNIFORM, (False, False))
    found = priors([known] * 100)
    assert (found.fitted, found.sampled) == ((True, False), UNIFORM)
    assert all(0.01 <= one <= 100.01 for one in found.greedy)
    assert again(known, found, 4)["HighlyKnown"] > 0.99


@pytest.mark.parametrize("shape", [(0.3, 0.3), (1.0, 1.0), (0.2, 1.0)])
def test_as_many_facts_keep_their_class_as_is_expected(shape: tuple[float, float]) -> None:
    """Two probings of 2,000 simulated facts. A uniform prior is far too careful where facts lie at 0 and 1."""
    rng = np.random.default_rng(3)
    greedy, sampled = rng.beta(*shape, size=2000), rng.beta(0.3, 3.0, size=2000)

    def probing() -> list[Known]:
        hits = [tuple(bool(one) for one in rng.random(10) < p) for p in greedy]
        draws = [tuple((int(rng.binomial(4, q)), 4) for _ in range(10)) for q in sampled]
        return [Known(*one) for one in zip(hits, draws, strict=True)]

    first, second = probing(), probing()
    prior = priors(first)
    expected = np.mean([again(one, prior, 4)[one.name] for one in first])
    uniform = np.mean([again(one, Priors(UNIFORM, UNIFORM, (False, False)), 4)[one.name] for one in first])
    same = np.mean([a.name == b.name for a, b in zip(first, second, strict=True)])
    assert expected == pytest.approx(same, abs=0.03)
    if shape == (0.3, 0.3):
        assert uniform < same - 0.03


def test_the_linear_model_is_the_papers() -> None:
    shares = dict(zip(CLASSES, (0.25, 0.25, 0.1, 0.4), strict=True))
    assert 36.9 + fitted_risk(shares) == pytest.approx(36.9 + 7.3 * 0.6 - 8.3 * 0.4)
