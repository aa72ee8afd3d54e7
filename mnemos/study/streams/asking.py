"""Asking for help within a study: answers with and without hints, scores of every way of asking, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Prompt, Turn
from mnemos.core.progress import doing
from mnemos.measure.uncertainty import paired
from mnemos.stream.asking import NO, YES, curve, online, verbalised, yes_score
from mnemos.stream.examiner import Examiner
from mnemos.stream.learner import Ask
from mnemos.study.streams.opened import Arms, Opened
from mnemos.study.streams.settings import REFERENCE, StreamStudy

PROMPTS = {
    "direct": "help-direct",
    "written": "help-written",
    "executed": "help-executed",
    "verbalised": "help-verbalised",
}
MOST_POINTS = 200
"""Points of a curve that are kept for the report."""


def check_help(study: StreamStudy, examiner: Examiner) -> None:
    """Raise UsageError for a task without hints, and where answers are not run and should be shown as run; before
    anything is streamed."""
    if study.help is None:
        return
    if not examiner.hinted:
        raise UsageError("help", f"needs hints, and task {examiner.name} has none", "give rows a hint, or leave it out")
    if not examiner.runs and {"executed", "verbalised"} & set(study.help.ways):
        raise UsageError(
            "help.ways", f"show what an answer gives, and task {examiner.name} runs none", "leave these out"
        )


def ask_for_help(opened: Opened, arms: Arms) -> dict[str, Any]:
    """The `help` of results.json, from the zero-shot answers of the first order."""
    study, examiner = opened.study, opened.examiner
    assert study.help is not None
    first = {step.item: step for step in arms.stateful[REFERENCE][0].journal.steps()}
    items = [name for name in arms.stateful[REFERENCE][0].order if first[name].value is not None]
    doing("answering with hints")
    hints = dict(zip(items, examiner.hints(items), strict=True))
    helped = _with_hints(opened, items, hints)
    kept = [name for name in items if helped[name] is not None]
    without, having = [float(first[n].value or 0) for n in kept], [float(helped[n] or 0) for n in kept]
    answers = {name: first[name].parsed or first[name].answer for name in kept}
    ways = []
    for way in study.help.ways:
        doing(f"asking whether help is needed, {way}")
        scores = _scores(opened, way, kept, answers)
        ways.append(_way(way, scores, without, having, study.help.budget, study.orders[0]))
    found = paired(without, [having], power=False)
    return {
        "items": len(kept),
        "missing": len(examiner.questions) - len(kept),
        "without": found.before,
        "with": found.after,
        "low": found.low,
        "high": found.high,
        "budget": study.help.budget,
        "ways": ways,
    }


def _with_hints(opened: Opened, items: Sequence[str], hints: Mapping[str, str]) -> dict[str, float | None]:
    asks = [
        (
            Ask(opened.prompts["with-hint"], {**_fields(opened, name), "hint": hints[name] or "none"}),
            opened.study.orders[0],
        )
        for name in items
    ]
    served = opened.answering.answer(asks)
    graded = opened.examiner.grade([(name, one.written.text) for name, one in zip(items, served, strict=True)])
    return {
        name: None if one.failed else found.feedback.value
        for name, one, found in zip(items, served, graded, strict=True)
    }


def _fields(opened: Opened, name: str) -> dict[str, str]:
    question = opened.questions[name]
    return {"instruction": question.instruction, "question": question.text}


def _scores(opened: Opened, way: str, items: Sequence[str], answers: Mapping[str, str]) -> list[float]:
    """How much help each question needs, in [0, 1]."""
    if way == "random":
        return [float(value) for value in np.random.default_rng(opened.study.orders[0]).random(len(items))]
    shown = opened.examiner.show([(name, answers[name]) for name in items]) if way in ("executed", "verbalised") else []
    asks = []
    for place, name in enumerate(items):
        fields = {**_fields(opened, name), "answer": answers[name], "result": shown[place] if shown else ""}
        asks.append(Ask(opened.prompts[PROMPTS[way]], fields, max_new_tokens=12))
    if way == "verbalised":
        served = opened.answering.answer([(ask, opened.study.orders[0]) for ask in asks])
        found = [verbalised(one.written.text) for one in served]
        return [0.5 if value is None else value for value in found]
    model = opened.models[0]
    prompts = [ask.prompt() for ask in asks]
    if not hasattr(model, "renderer"):
        # A server scores continuations of raw text alone; its chat template is not known here.
        prompts = [Prompt((Turn("prompt", f"{prompt.turns[0].text}\nAnswer:"),)) for prompt in prompts]
    options = model.choose(prompts, [[*YES, *NO]] * len(prompts))
    return [yes_score([option.log_prob for option in some]) for some in options]


def _way(
    way: str, scores: Sequence[float], without: Sequence[float], having: Sequence[float], budget: float, seed: int
) -> dict[str, Any]:
    found = curve(scores, without, having, seed)
    along = online(scores, without, having, budget, seed)
    every = max(1, len(found.shares) // MOST_POINTS)
    points = list(zip(found.shares, found.gains, strict=True))
    kept = [*points[:-1:every], points[-1]]
    return {
        "way": way,
        "area": found.area,
        "low": found.low,
        "high": found.high,
        "needed": found.needed,
        "curve": [[float(share), float(gain)] for share, gain in kept],
        "online": {"gain": along.gain, "share": along.share, "regret": along.regret},
    }
