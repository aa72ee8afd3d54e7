"""Several models by pairwise verdicts: Bradley-Terry strengths, and win rates with the length of answers taken off.

Resampling is over prompts, never over votes: several verdicts on one prompt, by several raters or on several pairs of
models, are not independent (arXiv:2306.05685 counts them as if they were).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from mnemos.core.errors import DataError
from mnemos.measure.human import HALF, Pair

Floats = npt.NDArray[np.float64]

RESAMPLES = 500
FEWEST = 10
"""Prompts below which no interval is told."""

ELO = 400 / math.log(10)
"""Points of a rating for one nat of strength: 400 points are odds of ten to one."""

MIDDLE = 1000.0
MOST_MODELS = 200


@dataclass(frozen=True)
class Duel:
    """One verdict. prompt: what is resampled. first: 1 where the first model won, 0 where the second did, 1/2 a tie.
    longer: characters of the first answer minus those of the second."""

    prompt: str
    models: tuple[str, str]
    first: float
    longer: float = 0.0


@dataclass(frozen=True)
class Standing:
    """One model. rating: Bradley-Terry on the Elo scale, 1000 the mean of all; wins: win rate over its duels, ties as
    halves. low, high: 95 % percentile intervals over prompts, NaN for fewer than ten."""

    model: str
    duels: int
    rating: float
    low: float
    high: float
    wins: float
    wins_low: float
    wins_high: float


def duels_of(pairs: Sequence[Pair]) -> list[Duel]:
    """A duel of each labelled pair, by the majority of its raters."""
    out = []
    for pair in pairs:
        if pair.label is not None:
            a, b = pair.answers
            prompt = pair.cluster or repr([(turn.role, turn.text) for turn in pair.prompt.turns])
            out.append(Duel(prompt, pair.models, HALF[pair.label], float(len(a) - len(b))))
    return out


def strengths(duels: Sequence[Duel]) -> dict[str, float]:
    """Bradley-Terry by logistic regression, in nats, summing to 0: p(i beats j) = sigmoid(s_i - s_j), ties as half
    wins.

    Deviation: each two models that met get one tie beside their duels, or a model that won all would be infinitely
    strong. Raises DataError for fewer than two models.
    """
    names, wins = _table(duels)
    return dict(zip(names, _fitted(wins.sum(axis=0)), strict=True))


def _table(duels: Sequence[Duel]) -> tuple[list[str], Floats]:
    """Names of the models, and float[P, M, M]: for each prompt, how often the row beat the column."""
    names = sorted({name for duel in duels for name in duel.models})
    if not 2 <= len(names) <= MOST_MODELS:
        raise DataError(f"{len(names)} models", f"must be 2 to {MOST_MODELS}", "name model_a and model_b in the rows")
    place = {name: index for index, name in enumerate(names)}
    prompts = {name: index for index, name in enumerate(dict.fromkeys(duel.prompt for duel in duels))}
    wins = np.zeros((len(prompts), len(names), len(names)))
    for duel in duels:
        prompt, i, j = prompts[duel.prompt], place[duel.models[0]], place[duel.models[1]]
        wins[prompt, i, j] += duel.first
        wins[prompt, j, i] += 1 - duel.first
    return names, wins


def _fitted(wins: Floats) -> list[float]:
    """Strengths from a table of wins, by Newton's method; a model that met nobody of the others stays at its own."""
    met = wins + wins.T > 0
    n = (wins + wins.T) + met  # duels of each two, with the tie
    won = (wins + met / 2).sum(axis=1)
    s = np.zeros(len(wins))
    for _ in range(100):
        p = special.expit(s[:, None] - s[None, :])
        gradient = won - (n * p).sum(axis=1)
        curve = n * p * (1 - p)
        # Only differences are defined: a ridge too small to matter keeps the matrix invertible.
        step = np.linalg.solve(np.diag(curve.sum(axis=1)) - curve + 1e-9 * np.eye(len(s)), gradient)
        s += np.clip(step - step.mean(), -2, 2)
        if np.abs(step - step.mean()).max() < 1e-10:
            break
    return [float(one) for one in s - s.mean()]


def standings(duels: Sequence[Duel], *, seed: int = 0) -> list[Standing]:
    """Every model, the strongest first."""
    names, wins = _table(duels)
    whole = wins.sum(axis=0)
    ratings, rates = np.array(_fitted(whole)), _rates(whole)
    bounds = np.full((4, len(names)), math.nan)
    draws = _draws(len(wins), seed)
    if draws is not None:
        # float[B, M, M]: every resample's table in one product; strengths are fitted to each.
        tables = (draws @ wins.reshape(len(wins), -1)).reshape(len(draws), *whole.shape)
        fitted = np.array([_fitted(table) for table in tables])
        bounds[:2] = np.quantile(fitted, (0.025, 0.975), axis=0)
        bounds[2:] = np.nanquantile(np.array([_rates(table) for table in tables]), (0.025, 0.975), axis=0)
    out = []
    for k, name in enumerate(names):
        low, high, wins_low, wins_high = (float(one) for one in bounds[:, k])
        number = sum(name in duel.models for duel in duels)
        rating, low, high = (MIDDLE + ELO * one for one in (float(ratings[k]), low, high))
        out.append(Standing(name, number, rating, low, high, float(rates[k]), wins_low, wins_high))
    return sorted(out, key=lambda one: -one.rating)


def _rates(wins: Floats) -> Floats:
    """float[M]: each model's share of what it and its opponents won; NaN where it met nobody."""
    met = wins.sum(axis=1) + wins.sum(axis=0)
    return np.asarray(np.divide(wins.sum(axis=1), met, out=np.full(len(wins), math.nan), where=met > 0))


def _draws(prompts: int, seed: int) -> Floats | None:
    """float[B, P]: how often each prompt is in each resample; None where the prompts are too few."""
    if prompts < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES).astype(float)


@dataclass(frozen=True)
class LengthControlled:
    """rate: win rate of the first model at equal length; raw: as it is. length: nats for one standard deviation of the
    difference in length, above 0 where longer answers win."""

    rate: float
    low: float
    high: float
    raw: float
    length: float


def length_controlled(duels: Sequence[Duel], *, seed: int = 0) -> LengthControlled:
    """Win rate of the first model with the length of answers taken off (after arXiv:2404.04475): a logistic regression
    of the verdict on a constant and tanh(difference in length / its standard deviation), read at a difference of 0.

    Deviations: 1. no term for how hard each prompt is, which the paper fits over many models; 2. a ridge of one half
    on both terms, as two more ties would pull, so that a model that won all has a rate. All duels must be of the same
    two models in the same order.
    """
    if len({duel.models for duel in duels}) != 1:
        raise DataError(
            f"{len({duel.models for duel in duels})} pairs of models", "must be one, in one order", "filter"
        )
    y = np.array([duel.first for duel in duels])
    longer = np.array([duel.longer for duel in duels])
    # Longer by how many spreads; tanh keeps a single huge answer from deciding the slope.
    x = np.tanh(longer / (float(longer.std()) or 1.0))
    whole = _logistic(x, y, np.ones(len(y)))
    prompts = {name: index for index, name in enumerate(dict.fromkeys(duel.prompt for duel in duels))}
    draws = _draws(len(prompts), seed)
    low = high = math.nan
    if draws is not None:
        group = [prompts[duel.prompt] for duel in duels]
        rates = [float(special.expit(_logistic(x, y, counts[group])[0])) for counts in draws]
        low, high = np.quantile(rates, (0.025, 0.975))
    return LengthControlled(float(special.expit(whole[0])), float(low), float(high), float(y.mean()), float(whole[1]))


def _logistic(x: Floats, y: Floats, weights: Floats, ridge: float = 0.5) -> Floats:
    """float[2]: constant and slope of a penalised logistic regression with fractional outcomes, by Newton's method."""
    design = np.stack([np.ones(len(x)), x], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = special.expit(design @ beta)
        gradient = design.T @ (weights * (y - p)) - ridge * beta
        curve = (design * (weights * p * (1 - p))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(curve, gradient)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return beta


def lines(found: Sequence[Standing]) -> list[str]:
    """A table, for people."""
    out = ["| model | rating | win rate | duels |", "|---|---|---|---:|"]
    for one in found:
        interval = "" if math.isnan(one.low) else f" [{one.low:.0f}, {one.high:.0f}]"
        wins = "" if math.isnan(one.wins_low) else f" [{100 * one.wins_low:.1f}, {100 * one.wins_high:.1f}]"
        out.append(f"| {one.model} | {one.rating:.0f}{interval} | {100 * one.wins:.1f} %{wins} | {one.duels} |")
    return out
