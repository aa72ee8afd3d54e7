"""One self-contained HTML page: no script, no font, no picture or style from anywhere else.

Everything that a model or a user wrote passes through Jinja's autoescape; the only markup let
through is what this package drew itself, in which such text was escaped by the XML writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mnemos.report import plots
from mnemos.report.advice import advise
from mnemos.report.claims import claim_words
from mnemos.report.facts import Change, Facts, Flip, Suite, plane
from mnemos.report.headlines import headline
from mnemos.report.provenance import plain, provenance
from mnemos.report.section import Section
from mnemos.report.sections import present
from mnemos.report.svg import PALETTE, SHAPES, Drawing
from mnemos.report.verdicts import (
    GLOSSARY,
    TONES,
    UNTAUGHT,
    cost_words,
    missing_words,
    sentence,
    short_words,
    tone,
    verdict_words,
    writing_words,
)
from mnemos.report.words import counted, figure, interval, p_words, reasons, typeset

LONGEST_TEXT = 2400
"""Characters of a prompt or answer shown; the rest is in results.json, and the page says so."""

FLIPS_PER_ARM = 9
MANY = 8
"""Measured arms above which the overview has arms down and suites across."""

SYMBOLS = {
    "X": "M3 1 8 6 13 1l2 2-5 5 5 5-2 2-5-5-5 5-2-2 5-5-5-5z",
    "o": "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z",
    "s": "M2 2h12v12H2z",
    "^": "M8 1.5 15 14H1z",
    "D": "M8 .5 15.5 8 8 15.5.5 8z",
    "v": "M8 14.5 15 2H1z",
    "P": "M5.6 1h4.8v4.6H15v4.8h-4.6V15H5.6v-4.6H1V5.6h4.6z",
    "p": "M8 .8 15.4 6.2 12.6 15H3.4L.6 6.2z",
    "h": "M8 .5 14.5 4.2v7.6L8 15.5 1.5 11.8V4.2z",
    "<": "M1.5 8 14 1v14z",
    ">": "M14.5 8 2 1v14z",
    "unclear": "M8 .5 15.5 8 8 15.5.5 8zM8 4.2 4.2 8 8 11.8 11.8 8z",
}
"""The figures' markers as paths in a 16 x 16 box."""

VERDICT_SYMBOLS = {"gained": "^", "lost": "v", "kept": "s", "unclear": "unclear"}


def page(facts: Facts) -> str:
    """The report as HTML text."""
    here = files("mnemos.report")
    # Strict: a name that the template misspells is an error, not an empty place in somebody's report.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["typeset"] = typeset
    template = environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8"))
    css = here.joinpath("page.css").read_text(encoding="utf-8")
    return template.render(**_context(facts), css=Markup(colours() + css)).strip() + "\n"


def colours() -> str:
    """The palette as CSS variables: one source for the figures and the page."""
    light, dark = ("".join(f"--{name}:{pair[k]};" for name, pair in PALETTE.items()) for k in (0, 1))
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{color-scheme:light;--paper:#fff;--panel:#fff}}}}\n"
    )


def _context(facts: Facts) -> dict[str, Any]:
    points, notes = plane(facts)
    return {
        "facts": facts,
        "trained": facts.kind not in UNTAUGHT,
        "headline": headline(facts),
        "lede": _lede(facts),
        "claim": claim_words(facts),
        "arms": [
            {
                "arm": arm,
                "place": place,
                "shape": _symbol(SHAPES[place % len(SHAPES)]),
                "tone": tone(arm),
                "sentence": sentence(arm, facts.kind),
                "groups": [
                    (facts.heading(role), [_row(change) for change in arm.of(role)])
                    for role in facts.roles
                    if arm.of(role)
                ],
                "methods": [(step.method, plain(step.settings), step.paper, step.off) for step in arm.history],
                "counts": reasons(arm.counts),
                "written": writing_words(arm),
                "cost": dict(cost_words(arm)),
            }
            for place, arm in enumerate(facts.arms)
        ],
        "measured": [arm for arm in facts.arms if arm.changes],
        "glance": [(facts.heading(role), _glance(facts, role)) for role in facts.roles],
        "turned": overview(facts) if sum(bool(arm.changes) for arm in facts.arms) > MANY else None,
        "costs": list(dict.fromkeys(name for arm in facts.arms for name, _ in cost_words(arm))),
        "plane": _drawing(plots.learning_forgetting(facts)) if points else None,
        "plane_notes": notes,
        "forest": [_drawing(panel) for panel in plots.deltas(facts, *(r for r in facts.roles if r != "health"))],
        "health": [_drawing(panel) for panel in plots.deltas(facts, "health")],
        "advice": _advice(facts),
        "sweep": [(axis, also, _drawing(drawing)) for axis, also, drawing in plots.sweep(facts)],
        "sections": [_section(facts, section, record) for section, record in present(facts)],
        "flips": _flips(facts),
        "provenance": provenance(facts),
        "suites": [_suite(suite) for suite in facts.suites],
        "glossary": GLOSSARY,
        "symbols": SYMBOLS,
        "verdict_symbols": VERDICT_SYMBOLS,
        "symbol": _symbol,
    }


def _symbol(shape: str) -> str:
    """The id of a marker's symbol: letters and digits only."""
    return f"mark-{list(SYMBOLS).index(shape)}"


def _section(facts: Facts, section: Section, record: Any) -> dict[str, Any]:
    figures = section.figures(facts, record)
    return {
        "id": section.KEY.replace("_", "-"),
        "title": section.TITLE,
        "lead": typeset(section.LEAD),
        "figures": [
            {
                "title": figure.title,
                "lead": typeset(figure.lead),
                "drawing": _drawing(figure.drawing),
                "lines": [(name, typeset(words), typeset(around)) for name, words, around in figure.lines],
            }
            for figure in figures
        ],
        "small": all(figure.drawing.narrow == "" for figure in figures),
        "words": [typeset(text) for text in section.words(facts, record)],
    }


def _drawing(drawing: Drawing) -> tuple[Markup, Markup] | None:
    return (Markup(drawing.wide), Markup(drawing.narrow)) if drawing else None


def _lede(facts: Facts) -> str:
    items = sum(suite.items or 0 for suite in facts.suites)
    text = f"{counted(len(facts.suites), 'suite')} with {counted(items, 'item')}, measured before and after"
    if facts.kind == "compare":
        return f"Two models, {text}."
    if facts.kind == "stream":
        orders = counted(len(facts.seeds), "order")
        return f"{counted(len(facts.arms), 'agent')} in {orders} of {counted(items, 'question')}, against zero-shot."
    arms, seeds = len(facts.arms), max((len(arm.runs) for arm in facts.arms), default=0)
    if facts.kind == "adaptation":  # a run is a sequence of utterances by one seed, and nothing was trained before
        heard = f"{counted(seeds, 'sequence')} of utterances"
        return (
            f"{counted(arms, 'way')} of adapting, {heard}, {counted(len(facts.suites), 'suite')}, against the source."
        )
    each = f" at {counted(seeds, 'seed')}" + (" each" if arms > 1 else "") if seeds else ""
    return f"{counted(arms, 'way')} of training{each}, {text}."


def _row(change: Change) -> dict[str, Any]:
    seen = change.minimum_detectable
    return {
        "suite": change.suite,
        "before": figure(change.before, change.unit),
        "after": figure(change.after, change.unit),
        "change": typeset(figure(change.delta, change.unit, sign=True)),
        "words": typeset(verdict_words(change)),
        "tone": TONES[change.verdict],
        "seen": "" if seen is None else f"\u00b1{figure(seen, change.unit)}",
        "p": p_words(change.p_holm),
        "items": f"{change.items:,}",
        "missing": missing_words(change),
        "notices": change.notices,
        "unit": change.unit,
        "method": change.method,
    }


def _glance(facts: Facts, role: str) -> list[dict[str, Any]]:
    """Rows of the overview: one suite, one cell per arm; None where the pair was not compared."""
    rows = []
    for suite in facts.suites:
        found = [next((c for c in arm.of(role) if c.suite == suite.name), None) for arm in facts.arms if arm.changes]
        if any(found):
            rows.append(
                {
                    "suite": suite.name,
                    "unit": suite.unit,
                    "lower": suite.better == "lower",
                    "before": next(figure(change.before, change.unit) for change in found if change),
                    "cells": [change and _cell(change) for change in found],
                }
            )
    return rows


def overview(facts: Facts) -> dict[str, Any]:
    """The overview with arms down and suites across, for more arms than columns can hold."""
    suites = [suite for suite in facts.suites if any(change.suite == suite.name for change in facts.changes)]
    rows = []
    for place, arm in enumerate(facts.arms):
        found = {change.suite: change for change in arm.changes}
        if found:
            cells = [_cell(found[suite.name]) if suite.name in found else None for suite in suites]
            rows.append(
                {"arm": arm.name, "place": place, "shape": _symbol(SHAPES[place % len(SHAPES)]), "cells": cells}
            )
    before = {change.suite: figure(change.before, change.unit) for change in facts.changes}
    heads = [{"suite": suite.name, "role": suite.role, "before": before.get(suite.name, "")} for suite in suites]
    return {"heads": heads, "rows": rows}


def _advice(facts: Facts) -> dict[str, Any] | None:
    """Which arm to take, where there are at least two to choose from."""
    frontier = facts.sweep.frontier if facts.sweep and facts.sweep.frontier else facts.frontier
    if frontier is None or len(frontier.points) < 2:
        return None
    advice = advise(facts)
    place = {arm.name: number for number, arm in enumerate(facts.arms)}
    rows = [
        {"arm": arm, "learned": typeset(learned), "forgot": typeset(forgot), "standing": standing,
         "place": place.get(arm, 0), "shape": _symbol(SHAPES[place.get(arm, 0) % len(SHAPES)])}
        for arm, learned, forgot, standing in advice.rows
    ]  # fmt: skip
    title = f"Sweep of {', '.join(facts.sweep.keys)}" if facts.sweep else "Which arm to take"
    left_out = [f"{suite} {why}" for suite, why in frontier.left_out]
    return {
        "title": title,
        "sentences": [typeset(sentence) for sentence in advice.sentences],
        "rows": rows,
        "take": advice.take,
        "rule": frontier.rule,
        "left_out": left_out,
    }


def _cell(change: Change) -> dict[str, str]:
    return {"tone": TONES[change.verdict], "words": typeset(short_words(change)), "long": verdict_words(change)}


def _flips(facts: Facts) -> list[tuple[str, list[dict[str, Any]], int]]:
    """(arm, cards, how many more there are): the same number of every kind of choice, so that a
    page never shows only losses."""
    out = []
    for arm, group in groupby(sorted(facts.flips, key=_arm_order(facts)), key=lambda flip: flip.arm):
        flips = list(group)
        shown = _in_turn(flips)[:FLIPS_PER_ARM]
        out.append((arm, [_card(flip) for flip in shown], len(flips) - len(shown)))
    return out


def _arm_order(facts: Facts) -> Any:
    order = {arm.name: place for place, arm in enumerate(facts.arms)}
    return lambda flip: (order.get(flip.arm, len(order)), flip.arm)


def _in_turn(flips: Sequence[Flip]) -> list[Flip]:
    """Flips so ordered that each rule of choice (`why`) comes once before any comes again."""
    seen: dict[str, int] = {}
    ranked = []
    for place, flip in enumerate(flips):
        seen[flip.why] = seen.get(flip.why, 0) + 1
        ranked.append((seen[flip.why], place, flip))
    return [flip for _, _, flip in sorted(ranked, key=lambda item: item[:2])]


def _card(flip: Flip) -> dict[str, Any]:
    def cut(text: str) -> tuple[str, int]:
        return text[:LONGEST_TEXT], max(0, len(text) - LONGEST_TEXT)

    def score(number: float | None) -> str:
        return "no score" if number is None else f"score {number:.3g}"

    worse = None not in (flip.before_score, flip.after_score) and flip.before_score != flip.after_score
    return {
        "flip": flip,
        "prompt": cut(flip.prompt),
        "gold": cut(flip.gold),
        "sides": [
            ("before", cut(flip.before), score(flip.before_score), ""),
            ("after", cut(flip.after), score(flip.after_score), "changed" if worse else ""),
        ],
    }


def _suite(suite: Suite) -> dict[str, str]:
    mean, low, high = suite.before
    why = reasons(suite.reasons) or "no reason recorded"
    return {
        "name": suite.name,
        "role": suite.role,
        "kind": suite.kind,
        "items": "" if suite.items is None else f"{suite.items:,}",
        "before": typeset(f"{figure(mean, suite.unit)} {interval(low, high, suite.unit)}".strip()),
        "missing": f"{suite.missing:,} missing ({why})" if suite.missing else "",
        "unit": suite.unit + (", lower is better" if suite.better == "lower" else ""),
        "tolerance": "" if suite.tolerance is None else f"\u00b1{figure(suite.tolerance, suite.unit)}",
        "fingerprint": suite.fingerprint,
        "settings": plain(suite.settings) if suite.settings else "",
    }
