"""Templates, style and script of the page, and the words that templates need. What a person or a model wrote passes
Jinja's autoescape, and `clean` before it where it could turn the direction of a line."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnemos.report.page import colours
from mnemos.report.words import amount, clean, counted, duration, size, typeset

HERE = Path(str(files("mnemos.serve")))
LONGEST = 4_000
"""Characters of a text that are shown at first."""

STATES = {
    "running": "running",
    "silent": "running, but silent",
    "done": "finished",
    "failed": "failed",
    "stopped": "stopped",
    "ended": "ended without a word",
    "unknown": "not begun",
}


def link(path: str, **query: Any) -> str:
    """An address within the page; what is None or empty is left out."""
    kept = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def cut(text: str | None, most: int = LONGEST) -> tuple[str, int]:
    """The beginning of a text as it may be shown, and how many characters are left out."""
    text = text or ""
    return clean(text[:most], lines=True), max(0, len(text) - most)


def curve(points: Any, width: int = 240, height: int = 44) -> str:
    """The points of an SVG polyline through (step, loss); empty below two of them."""
    if len(points) < 2:
        return ""
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    y0, y1 = min(y for _, y in points), max(y for _, y in points)
    across, up = (x1 - x0) or 1, (y1 - y0) or 1
    return " ".join(
        f"{(x - x0) / across * width:.1f},{height - 2 - (y - y0) / up * (height - 4):.1f}" for x, y in points
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates. Strict: a misspelt name is an error and no empty place."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(link=link, cut=cut, curve=curve, states=STATES)
    made.filters.update(
        clean=clean, counted=counted, size=size, typeset=typeset, duration=duration, amount=amount, ago=ago
    )
    return made


def ago(seconds: float) -> str:
    """Like "3 min ago"."""
    for bound, unit, word in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < bound:
            return f"{max(0, round(seconds / unit))} {word} ago"
    return f"{round(seconds / 86_400)} days ago"


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """The report's palette and style, and what only the page has."""
    report = files("mnemos.report").joinpath("page.css").read_text(encoding="utf-8")
    arms = "".join(f".arm-{n} {{ color: var(--arm-{n}); }}\n" for n in range(8))
    return colours() + report + arms + (HERE / "static" / "page.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def script() -> str:
    """The page's only script."""
    return (HERE / "static" / "page.js").read_text(encoding="utf-8")
