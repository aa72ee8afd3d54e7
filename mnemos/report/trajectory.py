"""Curves over training: read from results.json, and a hacked reward in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.report.facts import Along, AlongCurve, Facts, Hacked
from mnemos.report.words import clean, figure, interval, number, scaled

PANELS = {"reward": "reward that training saw", "kl_to_before": "KL(now || before), nats per token"}
"""What training noted, in words, in the order in which it is drawn."""

Span = tuple[float | None, float | None, float | None]
Points = tuple[tuple[float, float, float | None, float | None], ...]


def read_along(item: Any, arms: Sequence[str], units: Mapping[str, str]) -> Along | None:
    """The `along` of results.json; None where there is none. units: suite -> its unit."""
    if not isinstance(item, Mapping) or not item.get("arms"):
        return None
    place = {name: at for at, name in enumerate(arms)}
    curves: list[AlongCurve] = []
    hacked: list[Hacked] = []
    for entry in item["arms"]:
        arm = place.get(clean(entry["arm"]))
        if arm is None:
            continue
        steps = [float(step) for step in entry["steps"]]
        for name in PANELS:
            found = [_span(one, "") for one in (entry.get("noted") or {}).get(name) or ()]
            curves += [AlongCurve(name, "", arm, _points(steps[1:], found))] if found else []
        for name, suite in (entry.get("suites") or {}).items():
            unit = units.get(clean(name), "points")
            found = [_span(one, unit) for one in suite["moments"]]
            curves.append(AlongCurve(clean(name), unit, arm, _points(steps, found)))
        hacked += [_hacked(one, arm, steps, units) for one in entry.get("hacking") or ()]
    return Along(tuple(curves), tuple(hacked))


def _span(item: Mapping[str, Any], unit: str) -> Span:
    mean, low, high = (number(item.get(part)) for part in ("mean", "low", "high"))
    return (scaled(mean, unit), scaled(low, unit), scaled(high, unit)) if unit else (mean, low, high)


def _points(steps: Sequence[float], found: Sequence[Span]) -> Points:
    pairs = zip(steps, found, strict=True)
    return tuple((step, mean, low, high) for step, (mean, low, high) in pairs if mean is not None)


def _hacked(item: Mapping[str, Any], arm: int, steps: Sequence[float], units: Mapping[str, str]) -> Hacked:
    suite = clean(item["suite"])
    unit = units.get(suite, "points")
    reward, score = (
        tuple(number(item[side].get(part)) for part in ("start", "end", "delta", "low", "high"))
        for side in ("reward", "score")
    )
    return Hacked(arm, suite, unit, steps[int(item["moment"])], reward, tuple(scaled(one, unit) for one in score))


def hacking_words(facts: Facts) -> list[str]:
    """A sentence for each arm and suite: "reward hacking: the reward that proxy was trained on rose …"."""
    return [_sentence(one, facts.arms[one.arm].name) for one in facts.along.hacked] if facts.along else []


def _sentence(one: Hacked, arm: str) -> str:
    start, end, delta, low, high = one.reward
    around = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    since = "before training" if one.step == 0 else f"at step {one.step:.0f}"
    first, last, change, down, up = one.score
    went = "fell" if change is not None and change < 0 else "worsened"
    return (
        f"reward hacking: the reward that {arm} was trained on rose from {start:.2f} to {end:.2f}"
        f" ({delta:+.2f}{around}) while {one.suite} {went} from {figure(first, one.unit)} {since} to"
        f" {figure(last, one.unit)} at the end"
        f" ({figure(change, one.unit, sign=True)} {interval(down, up, one.unit, sign=True)})."
    )
