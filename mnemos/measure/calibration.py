"""What a judge is worth on pairs that people labelled: agreement, errors of each model, what they cost a win rate.

A judge is an instrument, and this is its calibration: it holds for one judge (weights, prompt, how it is asked), named
by a fingerprint, and is refused for any other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, NotComparable
from mnemos.core.json_text import parse_json
from mnemos.core.yaml_text import read_utf8
from mnemos.measure.agreement import agreement, alpha_estimate
from mnemos.measure.correction import Rates, labels_needed, prediction_powered, rates, rogan_gladen
from mnemos.measure.human import HALF, LABELS, OF_VOTE, Pair
from mnemos.measure.judging import position_bias
from mnemos.measure.proportions import wilson
from mnemos.measure.uncertainty import independent, mean_interval
from mnemos.rewards.judge import Verdict

FORMAT = 1


def calibrate(
    pairs: Sequence[Pair],
    verdicts: Sequence[Verdict],
    again: Sequence[Verdict] = (),
    *,
    width: float = 0.1,
    seed: int = 0,
) -> dict[str, Any]:
    """A record of everything below. verdicts: the judge's, on all pairs; again: its verdicts on the first of them when
    it was asked a second time. width: of the interval that a budget of labels is told for. DataError where fewer than
    two pairs have both a vote and a verdict."""
    reasons = Counter(one.reason for one in verdicts if one.reason is not None)
    there = [(pair, one) for pair, one in zip(pairs, verdicts, strict=True) if one.reason is None]
    both = [(pair, one) for pair, one in there if pair.label is not None]
    if len(both) < 2:
        raise DataError(
            f"{len(both)} of {len(pairs)} pairs", "have both a human vote and the judge's verdict", "label more of them"
        )
    people, judged = [str(pair.label) for pair, _ in both], [one.decision for _, one in both]
    clusters = [pair.cluster for pair, _ in both]
    return {
        "format": FORMAT,
        "pairs": len(pairs),
        "labelled": len(both),
        "missing": dict(reasons),
        "agreement": _agreement(people, judged, clusters, seed),
        "soft": _soft(both),
        "people": _people([pair for pair, _ in both], seed),
        "position": _position([one for _, one in there], [pair.cluster for pair, _ in there]),
        "noise": _noise(pairs, verdicts, again),
        "models": _models(there, width),
    }


def _agreement(people: list[str], judged: Sequence[str], clusters: Sequence[str | None], seed: int) -> dict[str, Any]:
    found = asdict(agreement(people, list(judged), LABELS, clusters=clusters, seed=seed))
    # p_e and the shares stand beside the coefficients: each alone misleads.
    return _plain({**found, "prevalence": {k: list(v) for k, v in found["prevalence"].items()}})


def _soft(both: Sequence[tuple[Pair, Verdict]]) -> dict[str, Any]:
    """Of pairs that people decided, how often the judge's mean over both orders lies on their side; a half is half."""
    decided = [(pair, one.first) for pair, one in both if pair.label != "tie"]
    right = [
        0.5 if math.isclose(p, 0.5, abs_tol=1e-9) else float((p > 0.5) == (pair.label == "a")) for pair, p in decided
    ]
    if not right:
        return {"pairs": 0, "right": None, "low": None, "high": None}
    share = sum(right) / len(right)
    _, low, high = mean_interval(right, clusters=[pair.cluster for pair, _ in decided])
    return {"pairs": len(right), "right": share, "low": low, "high": high}


def _people(pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    """Agreement of the raters with each other: the judge's ceiling."""
    raters = sorted({rater for pair in pairs for rater in pair.votes})
    table = [[OF_VOTE[pair.votes[r]] if r in pair.votes else None for pair in pairs] for r in raters]
    several = sum(len(pair.votes) > 1 for pair in pairs)
    alpha = alpha_estimate(table, seed=seed, clusters=[pair.cluster for pair in pairs])
    return _plain({"raters": len(raters), "pairs": several, "alpha": asdict(alpha)})


def _position(verdicts: Sequence[Verdict], clusters: Sequence[str | None]) -> dict[str, Any]:
    """See `judging.position_bias`; and of the pairs on which the orders differ, how often the first place won."""
    torn = [(one, cluster) for one, cluster in zip(verdicts, clusters, strict=True) if not one.agree]
    # p(A) is shown_first in the one order and 1 - shown_second in the other; where orders differ their sum is not 1.
    first = [one.shown_first + 1 - one.shown_second > 1 for one, _ in torn]
    share, low, high = _share(first, [cluster for _, cluster in torn])
    rate = {"pairs": len(torn), "rate": share, "low": low, "high": high}
    return _plain({**asdict(position_bias(verdicts, clusters)), "first_when_torn": rate})


def _noise(pairs: Sequence[Pair], verdicts: Sequence[Verdict], again: Sequence[Verdict]) -> dict[str, Any]:
    """How often the same judge says something else when asked the same again."""
    every = zip(pairs, verdicts, again, strict=False)
    twice = [(pair, a.decision != b.decision) for pair, a, b in every if a.reason is None and b.reason is None]
    flips = [flip for _, flip in twice]
    _, low, high = _share(flips, [pair.cluster for pair, _ in twice])
    return {"pairs": len(twice), "flips": sum(flips), "low": low, "high": high}


def _share(
    found: Sequence[bool], clusters: Sequence[str | None]
) -> tuple[float, float, float] | tuple[None, None, None]:
    """A share with Wilson's interval at as many items as are independent; None without items."""
    if not found:
        return None, None, None
    value = sum(found) / len(found)
    return value, *wilson(value, independent(found, clusters))


def _models(there: Sequence[tuple[Pair, Verdict]], width: float) -> dict[str, Any]:
    """For each model: sensitivity (of its human wins) and specificity (of the others), and its win rate corrected."""
    names = sorted({name for pair, _ in there for name in pair.models})
    out = {}
    for name in names:
        own = [one for one in there if name in one[0].models]
        clusters = [pair.cluster for pair, _ in own]
        out[name] = corrected_rates([_seen_by(name, *one) for one in own], width, clusters=clusters)
    return out


def _seen_by(name: str, pair: Pair, verdict: Verdict) -> tuple[str | None, str]:
    """The human label and the judge's decision with this model's answer as a."""
    if pair.models[0] == name:
        return pair.label, verdict.decision
    turned = {"a": "b", "b": "a", "tie": "tie", None: None}
    return turned[pair.label], str(turned[verdict.decision])


def corrected_rates(
    rows: Sequence[tuple[str | None, str]], width: float = 0.1, *, clusters: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """Of one model's pairs, each as (human label or None, the judge's decision) with its answer as a: the judge's error
    rates, its share of wins by Rogan and Gladen, its win rate by prediction-powered inference, and labels needed.
    clusters: one a pair; pairs with the same name are not independent."""
    own = list(clusters) if clusters is not None else [None] * len(rows)
    known = [place for place, (label, _) in enumerate(rows) if label is not None]
    others = [place for place, (label, _) in enumerate(rows) if label is None]
    labelled, among = [(str(rows[place][0]), rows[place][1]) for place in known], [own[place] for place in known]
    found = rates([decision == "a" for _, decision in labelled], [label == "a" for label, _ in labelled], among)
    judged = [decision == "a" for _, decision in rows]
    wins, size = sum(judged) / len(rows), independent(judged, own)
    powered = prediction_powered(
        [HALF[label] for label, _ in labelled],
        [HALF[decision] for _, decision in labelled],
        [HALF[rows[place][1]] for place in others],
        clusters=among,
        other_clusters=[own[place] for place in others],
    )
    sensitivity, specificity = found.intervals()
    table = asdict(found)
    if found.sizes is None:
        del table["sizes"]  # where no pair shares a cluster, the record is what it was
    return _plain(
        {
            "rates": {**table, "sensitivity_interval": sensitivity, "specificity_interval": specificity},
            "judged": len(rows),
            "wins": asdict(rogan_gladen(wins, size, found)),
            "win_rate": asdict(powered),
            "labels_needed": {"width": width, "labels": labels_needed(width, wins, size, found)},
        }
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON holds it: no NaN, no tuples."""
    return {str(key): _json(one) for key, one in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_calibration(path: str | Path, judge: str) -> dict[str, Rates]:
    """A judge's rates by model from a calibration that was written. judge: fingerprint of the judge that they are to
    correct. Raises NotComparable for a calibration of another judge, DataError for a file that is none."""
    value = parse_json(read_utf8(path, DataError), f"{path}")
    try:
        if value["judge"]["fingerprint"] != judge:
            raise NotComparable(
                f"calibration {path}",
                f"is of {value['judge']['name']} ({value['judge']['fingerprint']}), and this judge is {judge}",
                "calibrate this judge with this prompt: neither weights nor prompt may change in between",
            )
        return {name: _rates(one["rates"]) for name, one in value["models"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}", f"is no calibration ({error!r})", "mnemos judge calibrate writes one") from None


def _rates(value: Mapping[str, Any]) -> Rates:
    def share(name: str) -> float:
        return math.nan if value[name] is None else float(value[name])

    sizes = value.get("sizes")
    return Rates(
        share("sensitivity"),
        int(value["right"]),
        share("specificity"),
        int(value["wrong"]),
        None if sizes is None else (float(sizes[0]), float(sizes[1])),
    )


# in words -------------------------------------------------------------------------------------


def lines(record: Mapping[str, Any]) -> list[str]:
    """What was found, for people."""
    both, place, soft = record["agreement"], record["position"], record["soft"]
    missing = "".join(f"; {number} missing: {reason}" for reason, number in record["missing"].items())
    shares = ", ".join(f"{label} {percent(a)} / {percent(b)}" for label, (a, b) in both["prevalence"].items())
    out = [
        f"{record['labelled']} of {record['pairs']} pairs have a human label and a verdict{missing}",
        f"same verdict: {share(both['agree'], 'value')}; without ties: {share(both['without_ties'], 'value')}"
        f" ({both['ties']} of {both['items']} pairs have one)",
        f"right side of a decided pair: {share(soft, 'right')} of {soft['pairs']}",
        f"beyond chance: kappa {_number(both['kappa'])}, AC1 {_number(both['ac1'])}, alpha {_number(both['alpha'])}",
        f"shares of labels, people / judge: {shares}",
    ]
    people = record["people"]
    if people["pairs"]:
        out.append(f"people among themselves: alpha {_number(people['alpha'])} on {people['pairs']} pairs")
    torn = place["first_when_torn"]
    out.append(
        f"both orders agree on {percent(place['consistent'])} of {place['pairs']} pairs; of the {torn['pairs']} "
        f"others the first place wins {percent(torn['rate'])}"
    )
    noise = record["noise"]
    if noise["pairs"]:
        out.append(
            f"asked again, {noise['flips']} of {noise['pairs']} verdicts are others, at most {percent(noise['high'])}"
        )
    for name, model in record["models"].items():
        out += _model_lines(name, model)
    return out


def _model_lines(name: str, model: Mapping[str, Any]) -> list[str]:
    rate, wins, win_rate = model["rates"], model["wins"], model["win_rate"]
    budget = model["labels_needed"]
    points = f"{100 * budget['width']:.0f} points"
    labels = f"{budget['labels']:,} human labels" if budget["labels"] is not None else "no number of labels"
    return [
        f"{name}: sensitivity {percent(rate['sensitivity'])} of {rate['right']}, specificity "
        f"{percent(rate['specificity'])} of {rate['wrong']}",
        f"{name}: wins by the judge {share(wins, 'naive', 'naive_')}, corrected {_corrected(wins)}; win rate with "
        f"ties as halves {share(win_rate, 'naive', 'naive_')}, corrected {_corrected(win_rate)}",
        f"{name}: an interval {points} wide needs {labels}",
    ]


def _corrected(value: Mapping[str, Any]) -> str:
    return share(value, "value") if value["value"] is not None else f"not possible ({value['reason']})"


def percent(value: float | None) -> str:
    """In per cent; a hyphen for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def share(value: Mapping[str, Any], key: str, prefix: str = "") -> str:
    """A share in per cent with its interval, from a record of both; prefix: of the names of its bounds."""
    low, high = value.get(f"{prefix}low"), value.get(f"{prefix}high")
    if value[key] is None:
        return "-"
    return percent(value[key]) + ("" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]")


def _number(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return f"not defined ({value['reason']})"
    return f"{value['value']:.2f}" + ("" if value["low"] is None else f" [{value['low']:.2f}, {value['high']:.2f}]")
