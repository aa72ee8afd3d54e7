"""A study of thirty arms, and a sweep, with frontier and contrasts computed from made-up items."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnemos.measure.frontier import SuiteScores, contrasts, frontier
from tests.report import synthetic

NAMES = (
    "plain", "replay", "lamol", "ssr", "magpie", "safety_mix", "pretraining_mix", "sdft", "rephrase", "minimum_change",
    "self_output", "selective_self_rehearsal", "token_mask", "token_mask_random", "token_mask_lowest", "rho1", "ewc",
    "l2_to_before", "kl_to_before", "distill", "a_gem", "lora", "dora", "ia3", "freeze-first", "block_expansion",
    "self_distillation", "interpolation-0.3", "interpolation-0.5", "interpolation-0.7",
)  # fmt: skip


def rates(names: tuple[str, ...] = NAMES) -> dict[str, dict[str, float]]:
    """What each arm scores on each suite: those in the middle keep most, the last learn less."""
    out = {}
    for place, name in enumerate(names):
        part = place / max(1, len(names) - 1)
        kept = min(1.0, 0.25 + 1.4 * part)
        out[name] = {
            "new-format": 0.97 - 0.75 * part**3,
            **{s[0]: s[6] * kept for s in synthetic.SUITES[1:5]},
            "bits-per-byte:english": 1.912 + 0.5 * (1 - part),
            "kl-on-new": 2.4 * (1 - part),
        }
    return out


def items(names: tuple[str, ...], seeds: tuple[int, ...]) -> list[SuiteScores]:
    """Item scores around those rates."""
    rng = np.random.default_rng(5)
    out, rate = [], rates(names)
    for name, role, unit, better, count, _, before in synthetic.SUITES:
        level = rng.random(count)
        if unit == "points":
            first = (level < before).astype(float)
            after = {
                arm: np.stack(
                    [
                        (np.clip(level + 0.1 * rng.standard_normal(count), 0, 1) < rate[arm].get(name, before)) * 1.0
                        for _ in seeds
                    ]
                )
                for arm in names
            }
        else:
            first = before + 0.1 * rng.standard_normal(count)
            after = {
                arm: np.stack([first + rate[arm].get(name, before) - before + 0.01 * level for _ in seeds])
                for arm in names
            }
        out.append(SuiteScores(name, role, unit, better, first, after, np.ones(count), [None] * count))
    return out


def study(names: tuple[str, ...] = NAMES, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """A results.json whose frontier and contrasts are those of `items`; each arm's scores are its own."""
    results = synthetic.study(seeds, names, more=rates(names))
    scores = items(names, seeds)
    for arm in results["arms"]:
        arm["history"] = [
            {"method": arm["arm"], "paper": "arXiv:2501.14315", "settings": {"share": 0.25}, "off": False}
        ][arm["arm"] == "plain" :]
        for row, run in enumerate(arm["runs"]):
            for suite in scores:
                run["scores"][suite.name]["mean"] = float(suite.after[arm["arm"]][row].mean())
    for suite in scores:
        results["before"][suite.name]["mean"] = float(suite.before.mean())
    results["frontier"], results["contrasts"] = frontier(scores, names), contrasts(scores, names)
    return results


def sweep() -> dict[str, Any]:
    """Five shares of replayed rows."""
    shares = (0, 0.01, 0.03, 0.1, 0.3)
    names = ("plain", *(f"replay.share_of_final={share:g}" for share in shares))
    results = study(names)
    swept = names[1:]
    results["sweep"] = {
        "over": [{"key": "replay.share_of_final", "values": list(shares)}],
        "base": "replay",
        "arms": [
            {"arm": arm, "values": {"replay.share_of_final": share}, "off": share == 0}
            for arm, share in zip(swept, shares, strict=True)
        ],
        "frontier": frontier(items(names, (0, 1, 2)), swept),
    }
    return results
