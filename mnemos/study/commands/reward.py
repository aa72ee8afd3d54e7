"""`mnemos reward`: train a reward model on pairs, and say what it is worth on pairs that it never saw."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_jsonl, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example
from mnemos.measure.judging import position_bias
from mnemos.measure.uncertainty import paired, wilson
from mnemos.rewards.by_name import RewardSettings, judge
from mnemos.rewards.grader import Grader
from mnemos.sources.read import read
from mnemos.sources.write import row_of
from mnemos.train.reward_model import RewardTraining, sides, train_reward_model

BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Borders of the confidence sigmoid(|r_chosen - r_rejected|) in a reliability table."""


def read_pairs(location: str, *, limit: int | None = None) -> tuple[list[Example], dict[str, int]]:
    """The preference pairs at a location, and counts: those used, and rows left out by reason (chosen
    and rejected are equal; their prompts differ; …). DataError where none is left."""
    source = read(location, format="preference", limit=limit, on_bad="skip")
    pairs = list(source)
    counts = {"pairs": len(pairs)}
    counts |= {f"left out: {name}": number for name, number in source.counts.items() if name != "rows"}
    return pairs, counts


def split(pairs: Sequence[Example], held_out: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Pairs to train on and pairs to test on. Pairs of one first question stay on one side."""
    parts: tuple[list[Example], list[Example]] = ([], [])
    for pair in pairs:
        first = next((turn.text for turn in pair.turns if turn.role in ("user", "prompt")), "")
        # 16 hex digits as a number in [0, 1): the question's text draws, whatever the order and number of pairs.
        drawn = int(fingerprint([seed, first]), 16) / 16**16
        parts[drawn < held_out].append(pair)
    if not parts[0] or not parts[1]:
        raise DataError(f"{len(pairs)} pairs", f"leave nothing to {'test' if parts[0] else 'train'} on", "give more")
    return parts


def lengths(pairs: Sequence[Example]) -> list[float]:
    """Characters of the chosen answer minus those of the rejected one."""
    return [float(len(pair.turns[-1].text) - len(pair.rejected[-1].text)) for pair in pairs]


def length_baseline(train: Sequence[Example], test: Sequence[Example]) -> list[float]:
    """r_chosen - r_rejected of a reward that looks at length only: a logistic regression on the
    difference, without intercept, fitted to the training pairs both ways round."""
    from sklearn.linear_model import LogisticRegression

    # x: float[N]. Both ways round, because who stands first says nothing; that also is why there is no intercept.
    x = np.array(lengths(train))
    # Characters in units of their mean: the penalty of the regression depends on the size of x.
    scale = float(np.abs(x).mean()) or 1.0
    both, label = np.concatenate([x, -x])[:, None] / scale, np.repeat([1, 0], len(x))
    weight = float(LogisticRegression(fit_intercept=False).fit(both, label).coef_[0, 0])
    return [weight * difference / scale for difference in lengths(test)]


def right(differences: Sequence[float]) -> list[float]:
    """1 where the chosen answer has the higher reward, 1/2 where both have the same, else 0."""
    return [math.nan if math.isnan(d) else (1.0 if d > 0 else 0.5 if d == 0 else 0.0) for d in differences]


def reliability(differences: Sequence[float]) -> dict[str, Any]:
    """Does sigmoid(|r_chosen - r_rejected|) say how often the higher reward is right?

    bins: low, high, number, mean confidence, share right with a 95 % Wilson interval. error: expected
    calibration error, mean |confidence - share right| over pairs (arXiv:1706.04599). Missing ones are
    left out.
    """
    there = np.array([d for d in differences if not math.isnan(d)])
    confidence, hit = 1 / (1 + np.exp(-np.abs(there))), np.array(right(there.tolist()))
    # A confidence of exactly 1 belongs to the last bin.
    place = np.clip(np.searchsorted(BINS, confidence, side="right") - 1, 0, len(BINS) - 2)
    bins: list[dict[str, Any]] = []
    for i, (low, high) in enumerate(itertools.pairwise(BINS)):
        inside = place == i
        number = int(inside.sum())
        row: dict[str, Any] = {"from": low, "to": high, "number": number}
        if number:
            share = float(hit[inside].mean())
            bounds = wilson(share, number)
            row |= {"confidence": float(confidence[inside].mean()), "right": share, "low": bounds[0], "high": bounds[1]}
        bins.append(row)
    # ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)| (arXiv:1706.04599, eq. 3).
    error = sum(row["number"] * abs(row["confidence"] - row["right"]) for row in bins if row["number"])
    return {"bins": bins, "error": error / len(there) if len(there) else None}


def compared(differences: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Accuracy with its interval, that of the baseline on the same pairs, and the paired difference."""
    pairs = [(a, b) for a, b in zip(right(differences), right(baseline), strict=True) if not math.isnan(a)]
    if not pairs:
        raise DataError(f"0 of {len(differences)} pairs", "have a reward on both sides", "raise max_length")
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired(theirs, [ours])
    return {
        "pairs": len(pairs),
        "missing": len(differences) - len(pairs),
        "accuracy": _share(ours),
        "length_only": _share(theirs),
        "difference": {"value": found.delta, "low": found.low, "high": found.high, "p": found.p},
    }


def _share(values: Sequence[float]) -> dict[str, float]:
    share = sum(values) / len(values)
    low, high = wilson(share, len(values))
    return {"value": share, "low": low, "high": high}


def differences(model: str | Path, pairs: Sequence[Example]) -> list[float]:
    """r_chosen - r_rejected of each pair by a reward model; NaN where one side is too long."""
    from mnemos.rewards.reward_model import load_scorer

    both = [side for pair in pairs for side in sides(pair)]
    # Two a pair, chosen then rejected.
    found = load_scorer(str(model)).score(both)
    return [chosen - rejected for chosen, rejected in zip(found[::2], found[1::2], strict=True)]


def train_and_test(
    model: str,
    data: str,
    out: Path,
    settings: RewardTraining,
    *,
    held_out: float = 0.2,
    limit: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train on a part of the pairs, test on the rest; writes the checkpoint with reward.json and
    calibration.svg in it, and returns what reward.json says."""
    from mnemos.report.plot_reliability import reliability_plot

    pairs, counts = read_pairs(data, limit=limit)
    train, test = split(pairs, held_out, settings.seed)
    made = train_reward_model(model, train, out, settings, quiet=quiet)
    found = differences(out, test)
    record: dict[str, Any] = {
        "model": model,
        "data": data,
        "counts": counts | {f"training {name}": number for name, number in made.counts.items()},
        "settings": settings.model_dump(mode="json"),
        "losses": made.losses,
        "test": compared(found, length_baseline(train, test)),
        "calibration": reliability(found),
    }
    write_text(out / "reward.json", json.dumps(record, indent=1) + "\n")
    write_text(out / "calibration.svg", reliability_plot(record["calibration"], name="calibration"))
    return record


def judge_pairs(settings: RewardSettings, data: str, out: Path, *, limit: int | None = None) -> dict[str, Any]:
    """Let a judge label pairs: a file of pairs whose chosen answer is the one that the judge prefers, with
    its probability as the column `preferred`; and a record of how far to trust it.

    Pairs on which it has no preference, or gives no verdict, are left out and counted.
    """
    pairs, counts = read_pairs(data, limit=limit)
    made = judge(settings)
    if isinstance(made, Grader):
        raise UsageError(f"prompt {settings.prompt}", "rates single answers, and pairs are compared", "name another")
    firsts, seconds = [pair.turns[-1].text for pair in pairs], [pair.rejected[-1].text for pair in pairs]
    verdicts = made.compare([pair.prompt for pair in pairs], firsts, seconds)
    rows, agree = [], []
    tally: Counter[str] = Counter()
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if verdict.reason is not None or math.isclose(verdict.first, 0.5, abs_tol=1e-9):
            # A verdict of one half would be learned as a label like any other.
            tally[f"left out: {verdict.reason or 'no preference'}"] += 1
            continue
        agree.append(float(verdict.first > 0.5))
        kept = pair if agree[-1] else _turned(pair)
        rows.append(row_of(replace(kept, meta={**pair.meta, "preferred": max(verdict.first, 1 - verdict.first)})))
    write_jsonl(out, rows)
    return {
        "judge": made.describe(),
        "counts": counts | dict(tally) | {"labelled": len(rows)},
        "agreement": _share(agree) if agree else None,
        "position": asdict(position_bias(verdicts)),
    }


def _turned(pair: Example) -> Example:
    """The pair with chosen and rejected answer exchanged."""
    return replace(pair, turns=(*pair.turns[:-1], pair.rejected[-1]), rejected=(pair.turns[-1],))


def judge_lines(record: Mapping[str, Any]) -> list[str]:
    """What the judge did, for people."""
    bias, agreement = record["position"], record["agreement"]
    counts = "; ".join(f"{name}: {number:,}" for name, number in record["counts"].items())
    if agreement is None:
        return [counts, "no pair was labelled"]
    return [
        counts,
        f"prefers the chosen answer: {_said(agreement)}",
        f"leans to the first place by {100 * bias['lean']:+.1f} points "
        f"[{100 * bias['lean_low']:+.1f}, {100 * bias['lean_high']:+.1f}]",
        f"both orders agree on {100 * bias['consistent']:.1f} % of {bias['pairs']} pairs "
        f"[{100 * bias['consistent_low']:.1f}, {100 * bias['consistent_high']:.1f}]",
    ]


def _said(value: Mapping[str, float]) -> str:
    return f"{100 * value['value']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def lines(record: Mapping[str, Any]) -> list[str]:
    """What was found, for people."""
    test, calibration = record["test"], record["calibration"]
    gain = test["difference"]
    missing = f", {test['missing']} too long" if test["missing"] else ""
    counts = "; ".join(f"{name}: {number:,}" for name, number in record["counts"].items())
    return [
        counts,
        f"accuracy on {test['pairs']} pairs held out{missing}: {_said(test['accuracy'])}",
        f"length alone: {_said(test['length_only'])}",
        f"difference: {100 * gain['value']:+.1f} points [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]",
        f"expected calibration error: {calibration['error']:.3f}",
    ]
