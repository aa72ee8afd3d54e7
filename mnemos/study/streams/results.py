"""results.json of a study of streams: the same layout as of a training, and the part `stream` for its section."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemos.core.nouns import LanguageModel
from mnemos.measure.compare import Comparison, judge
from mnemos.measure.flips import LONGEST
from mnemos.measure.uncertainty import mean_interval
from mnemos.stream import gains
from mnemos.stream.agents import CONTROLS, row, settings_of
from mnemos.stream.agents.several import Shared
from mnemos.stream.journal import Step
from mnemos.stream.prompts import prompt_hash
from mnemos.stream.weights import Update
from mnemos.study.streams.opened import Arms, Opened
from mnemos.study.streams.settings import REFERENCE

FORMAT = 1
OVER_ALONE = "over-each-model-alone"
EACH = 3
"""Answers that are shown of each kind: largest losses, largest gains, others."""


def assemble(opened: Opened, arms: Arms, asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record of a finished study. Deterministic but for `created`, seconds and `requests`, which counts what
    was asked before a kill and again behind it."""
    study, task = opened.study, opened.examiner.name
    steps = {arm: [one.journal.steps() for one in many] for arm, many in arms.stateful.items()}
    compared = [_comparison(opened, arm, steps[REFERENCE], own) for arm, own in steps.items()]
    return {
        "format": FORMAT,
        "study": study.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": "stream",
        "manifest": _manifest(opened),
        "before": {task: _side(steps[REFERENCE][0])},
        "arms": [_arm(opened, arm, own) for arm, own in steps.items()],
        "comparisons": [one.as_dict() for one in compared],
        "contrasts": _contrasts(opened, steps),
        "flips": [flip for arm in steps if arm != REFERENCE for flip in _flips(opened, arm, steps)],
        "stream": {
            "task": task,
            "items": len(opened.questions),
            "window": gains.WINDOW,
            "tokens_are_estimated": opened.answering.estimated,
            "requests": asdict(opened.table.totals()),
            "arms": [_gained(opened, arms, arm, steps[arm]) for arm in steps],
        },
        **_updates(arms),
        **({"help": dict(asked)} if asked else {}),
    }


def _manifest(opened: Opened) -> dict[str, Any]:
    study, examiner = opened.study, opened.examiner
    return {
        "model": _model(opened.models[0]),
        "models": [_model(model) for model in opened.models],
        "seeds": list(study.orders),
        "suites": [
            {
                "name": examiner.name,
                "role": "new",
                "kind": "stream",
                "unit": "points",
                "better": "higher",
                "items": len(examiner.questions),
                "tolerance": study.tolerance,
                "fingerprint": examiner.fingerprint,
                "settings": {**study.decoding.model_dump(), "max_new_tokens": examiner.max_new_tokens},
            }
        ],
        "prompts": prompt_hash(opened.prompts),
        "memory": {**study.memory.model_dump(), "search": study.memory.how},
        "gold_seen": opened.gold is not None,
    }


def _model(model: LanguageModel) -> dict[str, str]:
    """path: its last part, as everywhere that does not say where this machine keeps it."""
    return {"name": model.name, "path": Path(model.name).name, "fingerprint": model.fingerprint}


def _side(steps: Sequence[Step]) -> dict[str, Any]:
    values = [step.value for step in steps if step.value is not None]
    mean = low = high = None
    if values:
        mean, low, high = mean_interval(values, bounded=True)
    why = gains.missing(steps)
    return {"mean": mean, "low": low, "high": high, "items": len(values), "missing": sum(why.values()), "reasons": why}


def _arm(opened: Opened, arm: str, orders: Sequence[Sequence[Step]]) -> dict[str, Any]:
    agent, settings, control = opened.study.arm(arm)
    if arm in opened.study.weights:
        own = opened.study.weights[arm].model_dump(mode="json")
        return _entry(opened, arm, {"method": "weights", "paper": "", "settings": own, "off": False}, orders)
    own = {**settings_of(agent), **settings, **{k: v for k, v in control.items() if v not in ("real", "keep", 1.0)}}
    step = {"method": agent, "paper": row(agent).paper, "settings": own, "off": False}
    return _entry(opened, arm, step, orders)


def _entry(opened: Opened, arm: str, method: Mapping[str, Any], orders: Sequence[Sequence[Step]]) -> dict[str, Any]:
    return {
        "arm": arm,
        "history": [dict(method)],
        "runs": [
            {
                "seed": seed,
                "scores": {opened.examiner.name: _side(steps)},
                "cost": gains.cost(steps, opened.study.prices),
            }
            for seed, steps in zip(opened.study.orders, orders, strict=True)
        ],
    }


def _comparison(
    opened: Opened, arm: str, reference: Sequence[Sequence[Step]], own: Sequence[Sequence[Step]]
) -> Comparison:
    """The arm against zero-shot on the same items. Exactly 0 of zero-shot with itself."""
    study = opened.study
    greedy = not study.decoding.temperature
    found = gains.gain(own, reference[:1] if greedy else reference)
    margin = study.tolerance / 100
    same = arm == REFERENCE
    low, high = (0.0, 0.0) if same else (found.low, found.high)
    return Comparison(
        arm=arm,
        suite=opened.examiner.name,
        role="new",
        seeds=found.orders,
        items=found.items,
        missing=found.missing,
        before=found.reset,
        after=found.stateful,
        delta=0.0 if same and found.gain is not None else found.gain,
        low=low,
        high=high,
        verdict=judge(low, high, 1.0 if same else found.p, margin=margin, better="higher"),
        minimum_detectable=found.minimum_detectable,
        p=found.p,
        p_holm=found.p,
        tolerance=study.tolerance,
        unit="points",
        better="higher",
        method="the reference itself" if same else "paired by item over orders",
        scale=100.0,
        claim="about this way of training" if found.orders > 1 else "about this checkpoint",
    )


def _contrasts(opened: Opened, steps: Mapping[str, Sequence[Sequence[Step]]]) -> dict[str, Any]:
    """Every pair of arms on the same items: {arms, suites: {task: [[a, b, delta, low, high]]}}, in shares. Beside
    the task, OVER_ALONE: agents whose models take turns against the mean of Self-StreamICL by each model alone."""
    names = list(steps)
    found: dict[str, list[list[Any]]] = {}
    for a, first in enumerate(names):
        for b, second in enumerate(names[:a]):
            one = gains.gain(steps[first], steps[second], power=False)
            found.setdefault(opened.examiner.name, []).append([a, b, one.gain, one.low, one.high])
        if len(alone := _alone(opened, first, names)) > 1:
            one = gains.gain(steps[first], gains.mean_steps([steps[name] for name in alone]), power=False)
            found.setdefault(OVER_ALONE, []).append([a, names.index(alone[0]), one.gain, one.low, one.high])
    return {"arms": names, "suites": found}


def _alone(opened: Opened, arm: str, names: Sequence[str]) -> list[str]:
    """The arms in which each model alone does what those of `arm` do in turns; none unless all are there."""
    agent, settings, _ = opened.study.arm(arm)
    if row(agent).make is not Shared:
        return []
    own = {**settings_of(agent), **settings}
    out = []
    for model in range(len(opened.models)):
        for name in names:
            other, given, control = opened.study.arm(name)
            whole = {**settings_of(other), **given}
            if other == "self-stream-icl" and control == CONTROLS and (whole["k"], whole["model"]) == (own["k"], model):
                out.append(name)
                break
    return out if len(out) == len(opened.models) else []


def _gained(opened: Opened, arms: Arms, arm: str, steps: Sequence[Sequence[Step]]) -> dict[str, Any]:
    """Gain over the same agent reset before every item, curve, forgetting and cost."""
    agent, _, control = opened.study.arm(arm)
    reset = [one.journal.steps() for one in arms.reset[arm]]
    steady = row(agent).steady and arm not in arms.weights
    reset = reset if opened.study.decoding.temperature else reset[:1]
    found = gains.gain(steps, reset)
    kept = asdict(found)
    if steady:
        # It learns nothing: the reset agent is this one, and no interval is needed to say so.
        kept |= {"gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "normalised": 0.0}
    panels = [(own, one.journal.panels()) for own, one in zip(steps, arms.stateful[arm], strict=True)]
    prices = opened.study.prices
    return {
        "arm": arm,
        "agent": agent,
        "steady": steady,
        "sees_gold": row(agent).sees_gold,
        "coin": control["feedback"] == "coin",
        **kept,
        "pays_off": None if steady else gains.pays_off(steps, reset),
        "curve": gains.curve(steps),
        "forgetting": gains.forgetting(panels),
        "cost": _mean([gains.cost(own, prices) for own in steps]),
        "models": _turns(steps),
    }


def _updates(arms: Arms) -> dict[str, Any]:
    """Every update of the weights with what the guard saw; `updates` of results.json."""
    if not arms.weights:
        return {}
    return {
        "updates": [
            {"arm": name, "order": one.stream.seed, "guard": one.settings.guard, **_update(update)}
            for name, many in arms.weights.items()
            for one in many
            for update in one.updates()
        ]
    }


def _update(update: Update) -> dict[str, Any]:
    """Without the place of its weights, which says where this machine keeps them."""
    return {key: value for key, value in asdict(update).items() if key != "path"}


def _mean(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: math.fsum(one[key] for one in costs) / len(costs) for key in costs[0]} if costs else {}


def _turns(orders: Sequence[Sequence[Step]]) -> dict[str, int]:
    """How often each of several models answered."""
    out: dict[str, int] = {}
    for step in (step for own in orders for step in own if step.model is not None):
        out[str(step.model)] = out.get(str(step.model), 0) + 1
    return out


def _flips(opened: Opened, arm: str, steps: Mapping[str, Sequence[Sequence[Step]]]) -> list[dict[str, Any]]:
    """Answers of zero-shot and of the arm's first order, by rule: losses, gains, and random others. The gold answers
    stay where they are, in the grading process."""
    before = {step.item: step for step in steps[REFERENCE][0]}
    order = list(steps[arm][0])
    random.Random(f"{opened.study.orders[0]}/{arm}").shuffle(order)
    changes = [
        (one.value - base.value, one)
        for one in order
        if (base := before.get(one.item)) is not None and one.value is not None and base.value is not None
    ]
    losses = [one for change, one in sorted(changes, key=lambda pair: pair[0]) if change < 0][:EACH]
    won = [one for change, one in sorted(changes, key=lambda pair: -pair[0]) if change > 0][:EACH]
    picked = {one.item for one in (*losses, *won)}
    rest = [one for _, one in changes if one.item not in picked][:EACH]
    return [
        {
            "arm": arm,
            "seed": opened.study.orders[0],
            "suite": opened.examiner.name,
            "item": one.item,
            "prompt": opened.questions[one.item].text[:LONGEST],
            "gold": "",
            "before": {"text": before[one.item].answer[:LONGEST], "score": before[one.item].value},
            "after": {"text": one.answer[:LONGEST], "score": one.value},
            "why": why,
        }
        for why, some in (("largest loss", losses), ("largest gain", won), ("random", rest))
        for one in some
    ]
