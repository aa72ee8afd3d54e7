"""Several models by pairwise verdicts, against logistic regressions written out with scipy."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import optimize, special

from mnemos.core.errors import DataError
from mnemos.measure.arena import ELO, Duel, duels_of, length_controlled, lines, standings, strengths
from mnemos.measure.human import Pair
from tests.rewards.test_judge import ASKED


def drawn(true: dict[str, float], number: int, seed: int = 0) -> list[Duel]:
    rng = random.Random(seed)
    names, out = sorted(true), []
    for prompt in range(number):
        a, b = rng.sample(names, 2)
        p = 1 / (1 + math.exp(true[b] - true[a]))
        out.append(Duel(str(prompt), (a, b), 0.5 if rng.random() < 0.1 else float(rng.random() < p)))
    return out


def test_strengths_are_those_of_a_logistic_regression() -> None:
    duels = drawn({"a": 0.8, "b": 0.0, "c": -0.8}, 300)
    names = ["a", "b", "c"]
    met = [*[(d.models, d.first) for d in duels], *[((x, y), 0.5) for x, y in (("a", "b"), ("a", "c"), ("b", "c"))]]

    def loss(s: np.ndarray) -> float:
        gaps = np.array([s[names.index(x)] - s[names.index(y)] for (x, y), _ in met])
        first = np.array([value for _, value in met])
        return float(-(first * special.log_expit(gaps) + (1 - first) * special.log_expit(-gaps)).sum() + s.sum() ** 2)

    best = optimize.minimize(loss, np.zeros(3), tol=1e-10).x
    found = strengths(duels)
    assert [found[name] for name in names] == pytest.approx(list(best), abs=1e-3)
    assert sum(found.values()) == pytest.approx(0)


def test_a_rating_is_the_odds_on_the_scale_of_elo() -> None:
    duels = [Duel(str(i), ("a", "b"), float(i % 11 < 10)) for i in range(11_000)]
    first, second = standings(duels)
    assert first.rating - second.rating == pytest.approx(ELO * math.log(10), abs=2)  # ten to one: 400 points
    assert (first.model, first.wins) == ("a", pytest.approx(10 / 11))
    assert first.low < first.rating < first.high
    assert lines([first, second])[2].startswith("| a | 1200 [")


def test_a_model_that_won_all_has_a_finite_rating_and_few_prompts_no_interval() -> None:
    found = standings([Duel(str(i), ("a", "b"), 1.0) for i in range(5)])
    assert math.isfinite(found[0].rating)
    assert math.isnan(found[0].low)
    with pytest.raises(DataError, match=r"0 models"):
        strengths([])


def test_votes_on_one_prompt_count_as_one() -> None:
    """Twenty raters who repeat each other do not make the interval narrower."""
    duels = drawn({"a": 0.5, "b": 0.0}, 40)
    one, many = standings(duels)[0], standings([duel for duel in duels for _ in range(20)])[0]
    assert many.wins_high - many.wins_low == pytest.approx(one.wins_high - one.wins_low, rel=0.05)


def test_the_interval_covers_the_truth() -> None:
    hits = 0
    for seed in range(12):
        duels = [Duel(d.prompt, ("a", "b"), d.first if d.models[0] == "a" else 1 - d.first)
                 for d in drawn({"a": 0.4, "b": 0.0}, 120, seed)]  # fmt: skip
        truth = 0.1 * 0.5 + 0.9 * special.expit(0.4)
        (found,) = [one for one in standings(duels) if one.model == "a"]
        hits += found.wins_low <= truth <= found.wins_high
    assert hits >= 9


def test_a_judge_of_length_alone_has_even_models_at_equal_length() -> None:
    rng = random.Random(0)
    duels = []
    for i in range(400):
        longer = rng.gauss(60, 100)  # the first model writes more
        duels.append(Duel(str(i), ("a", "b"), float(rng.random() < special.expit(longer / 40)), longer))
    found = length_controlled(duels)
    assert found.raw > 0.6
    assert found.length > 1
    assert found.low <= 0.5 <= found.high
    better = length_controlled([Duel(d.prompt, d.models, float(i % 4 > 0), d.longer) for i, d in enumerate(duels)])
    assert better.rate == pytest.approx(0.75, abs=0.03)
    with pytest.raises(DataError, match="one order"):
        length_controlled([duels[0], Duel("x", ("b", "a"), 1.0)])


def test_the_length_term_is_that_of_a_penalised_regression() -> None:
    rng = random.Random(1)
    duels = [Duel(str(i), ("a", "b"), rng.choice((0.0, 0.5, 1.0)), rng.gauss(0, 9)) for i in range(60)]
    y, longer = np.array([d.first for d in duels]), np.array([d.longer for d in duels])
    x = np.tanh(longer / longer.std())

    def loss(beta: np.ndarray) -> float:
        eta = beta[0] + beta[1] * x
        return float(-(y * special.log_expit(eta) + (1 - y) * special.log_expit(-eta)).sum() + 0.25 * (beta @ beta))

    best = optimize.minimize(loss, np.zeros(2), tol=1e-10).x
    found = length_controlled(duels)
    assert found.rate == pytest.approx(special.expit(best[0]), abs=1e-4)
    assert found.length == pytest.approx(best[1], abs=1e-3)


def test_duels_are_those_that_people_decided() -> None:
    pairs = [Pair("1", ASKED, ("long", "x"), ("m", "n"), {"ann": "both_bad"}), Pair("2", ASKED, ("a", "b"), ("m", "n"))]
    (found,) = duels_of(pairs)
    assert (found.first, found.longer) == (0.5, 3.0)
