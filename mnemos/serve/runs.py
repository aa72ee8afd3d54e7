"""The list of runs, and the page of one run: how far it is, and its arms side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mnemos.core.errors import MnemosError
from mnemos.report.facts import Facts
from mnemos.report.headlines import headline
from mnemos.report.page import overview
from mnemos.report.verdicts import cost_words, sentence, tone
from mnemos.report.words import clean, typeset
from mnemos.serve import places
from mnemos.serve.live import live
from mnemos.serve.served import Served

PER_PAGE = 50
MOST_CURVES = 60
"""Curves of the loss that are drawn."""


def runs_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Every run, the one that changed last first."""
    found = places.runs(served.root)
    wanted = query.get("q", "").strip()
    if wanted:
        found = [run for run in found if wanted.casefold() in run.id.casefold()]
    number, pages = numbered(query, len(found), PER_PAGE)
    shown = found[(number - 1) * PER_PAGE : number * PER_PAGE]
    now = time.time()
    lines = [(served.results.line(run), max(0.0, now - run.changed)) for run in shown]
    values = {"lines": lines, "total": len(found), "wanted": wanted, "number": number, "pages": pages}
    return "runs.html", {**values, "here": "runs"}


def run_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """One run."""
    run = served.run(query)
    facts, broken = None, ""
    try:
        facts = served.results.facts(run)
    except MnemosError as error:
        broken = f"{error.bound or error}"
    arms = _arms(facts) if facts else None
    return "run.html", {
        "run": run,
        "here": "run",
        "live": live(run.path),
        "broken": broken,
        "headline": headline(facts) if facts else "",
        "created": facts.created if facts else "",
        "arms": arms,
        "sides": [side.name for side in places.sides(served.root, run)],
        "curves": _curves(facts) if facts else [],
    }


def _arms(facts: Facts) -> dict[str, Any]:
    """Arms side by side: what each comes to, its verdict on every suite, and what it cost."""
    lines = [
        {"name": arm.name, "place": place % 8, "tone": tone(arm), "words": typeset(sentence(arm))}
        for place, arm in enumerate(facts.arms)
    ]
    costs = [(clean(arm.name), dict(cost_words(arm))) for arm in facts.arms]
    names = list(dict.fromkeys(name for _, cost in costs for name in cost))
    return {"lines": lines, "table": overview(facts), "costs": costs, "names": names}


def _curves(facts: Facts) -> list[dict[str, Any]]:
    found = [
        {"arm": arm.name, "seed": run.seed, "place": place % 8, "points": thinned(run.losses)}
        for place, arm in enumerate(facts.arms)
        for run in arm.runs
        if len(run.losses) > 1
    ]
    return found[:MOST_CURVES]


def thinned(points: Any, most: int = 200) -> list[tuple[float, float]]:
    """At most so many of the points, the last among them."""
    step = max(1, len(points) // most)
    return [*points[:-1:step], points[-1]]


def numbered(query: Mapping[str, str], total: int, each: int) -> tuple[int, int]:
    """Which page is asked for, and how many there are."""
    pages = max(1, -(-total // each))
    given = query.get("page", "1")
    number = int(given) if given.isdigit() and len(given) < 9 else 1
    return min(max(1, number), pages), pages
