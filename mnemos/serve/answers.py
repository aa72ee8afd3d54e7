"""Answers of two models to one suite, filtered, with what differs in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.serve import places
from mnemos.serve.difference import Part, marked
from mnemos.serve.index import CONDITIONS, Filter, Pair, Shown
from mnemos.serve.look import LONGEST, cut
from mnemos.serve.places import Run
from mnemos.serve.prompts import Asked
from mnemos.serve.runs import numbered
from mnemos.serve.served import Served

PER_PAGE = 20
WORDS: dict[Filter, str] = {
    "all": "all items",
    "flips": "score changed",
    "lost": "lost",
    "gained": "gained",
    "differs": "text differs",
    "missing": "score missing",
}
MOST_SEARCHED = 200


def answers_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """A page of items."""
    run = served.run(query)
    sides = places.sides(served.root, run)
    names = [side.name for side in sides]
    a, b = chosen_pair(names, query)
    suites = places.suites(places.side_named(served.root, run, a)) if a else []
    suite = query.get("suite") or (suites[0] if suites else "")
    show = query.get("show", "all")
    if show not in CONDITIONS:
        raise UsageError(f"show {show[:50]!r}", f"is none of {', '.join(CONDITIONS)}", "choose one of them")
    seed, text = _seed(query.get("seed", "")), query.get("q", "")[:MOST_SEARCHED]
    values: dict[str, Any] = {
        "run": run, "here": "answers", "names": names, "a": a, "b": b, "suites": suites, "suite": suite,
        "show": show, "words": WORDS, "seed": query.get("seed", "") if seed is not None else "", "text": text,
    }  # fmt: skip
    if not suite:
        return "answers.html", {**values, "items": [], "total": 0, "number": 1, "pages": 1, "notes": []}
    files = files_of(served, run, a, b, suite)
    name, bad = served.index.about(files[0])
    asked = served.prompts.of(run, name)
    number = numbered(query, 1 << 30, PER_PAGE)[0]
    total, items = served.index.items(
        *files, show=show, text=text, better=asked.better, seed=seed,
        most=PER_PAGE, skip=(number - 1) * PER_PAGE,
    )  # fmt: skip
    pages = max(1, -(-total // PER_PAGE))
    notes = [asked.note] if asked.note else []
    notes += [f"{count:,} lines of a file of answers were left out: {why}." for why, count in bad.items()]
    cards = [card(pair, asked) for pair in served.index.pairs(*files, items)]
    # `items` would be the mapping's own method in a template.
    return "answers.html", {
        **values, "items": cards, "total": total, "number": min(number, pages), "pages": pages, "notes": notes,
    }  # fmt: skip


def chosen_pair(names: Sequence[str], query: Mapping[str, str]) -> tuple[str, str]:
    """The two models that an address names; else the one before and the first other."""
    if not names:
        return "", ""
    a = query.get("a") or names[0]
    b = query.get("b") or next((name for name in names if name != a), a)
    return a, b


def files_of(served: Served, run: Run, a: str, b: str, suite: str) -> tuple[int, int]:
    """The two files of answers, by their number in the index."""
    first, second = (
        served.index.file(places.answers_file(places.side_named(served.root, run, name), suite)) for name in (a, b)
    )
    return first, second


def card(pair: Pair, asked: Asked) -> dict[str, Any]:
    """One item as the template shows it."""
    prompt, gold = asked.items.get(pair.item, ("", ""))
    texts = [cut(side.text) for side in (pair.first, pair.second)]
    parts: tuple[list[Part], list[Part]] = marked(texts[0][0], texts[1][0])
    shown = [
        {
            "parts": own,
            "more": side.length - min(side.length, LONGEST),
            "score": _score(side),
            "none": side.text is None,
        }
        for own, side in zip(parts, (pair.first, pair.second), strict=True)
    ]
    return {"item": pair.item, "prompt": cut(prompt), "gold": cut(gold), "sides": shown, "change": _change(pair, asked)}


def _score(side: Shown) -> str:
    words = f"no score ({side.reason})" if side.score is None else f"score {side.score:.3g}"
    return words + (", not ended" if side.finished is False else "")


def _change(pair: Pair, asked: Asked) -> str:
    x, y = pair.first.score, pair.second.score
    if x is None or y is None or x == y:
        return ""
    better = y > x if asked.better == "higher" else y < x
    return "gained" if better else "lost"


def _seed(text: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdigit() or len(text) > 15:
        raise UsageError(f"seed {text[:50]!r}", "must be a whole number from 0", "type one, or leave it empty")
    return int(text)
