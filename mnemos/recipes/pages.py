"""Pages of docs: paragraphs that fit a screen, shares as their tables show them, and what a study's arms changed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.report.markdown import table
from mnemos.report.words import figure, interval, scaled

WIDTH = 118
"""Columns of a line; rows of tables, headings and code are one line, however long."""

_ITEM = re.compile(r"^(\s*)((?:[-*]|\d+\.)\s+)")


def wrapped(page: str) -> str:
    """The Markdown page with its paragraphs and list items cut into lines of at most WIDTH columns, spans of code
    whole. What fits already stays as it is."""
    blocks: list[list[str]] = []
    code = False
    for line in page.split("\n"):
        fence = line.lstrip().startswith("```")
        whole = code or fence or not line.strip() or line.startswith(("|", "#", "<!--", ">", "    "))
        code = code != fence
        if whole or _ITEM.match(line) or not blocks or _stands_alone(blocks[-1][0]):
            blocks.append([line])
        else:
            blocks[-1].append(line)
    inside, out = False, []
    for block in blocks:
        fence = block[0].lstrip().startswith("```")
        keep = inside or fence or _stands_alone(block[0]) or all(len(line) <= WIDTH for line in block)
        inside = inside != fence
        out += block if keep else _cut(block)
    return "\n".join(out)


def _stands_alone(line: str) -> bool:
    return not line.strip() or line.startswith(("|", "#", "<!--", ">", "    ", "```"))


def _cut(block: list[str]) -> list[str]:
    found = _ITEM.match(block[0])
    indent, bullet = (found[1], found[2]) if found else ("", "")
    text = " ".join(line.strip() for line in block)[len(bullet) :]
    # A span of code that is cut in two is hard to read and to search for.
    text = re.sub(r"`[^`]+`", lambda span: span[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent + bullet,
        subsequent_indent=indent + " " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def in_percent(value: Sequence[float | None]) -> str:
    """(mean, low, high) as shares: "44.1 [37.0, 51.3]" in percent; a hyphen for no mean, no bracket without bounds."""
    mean, low, high = (None if one is None else 100 * one for one in value)
    if mean is None:
        return "-"
    return f"{figure(mean, 'points')} {interval(low, high, 'points')}".rstrip()


def changes_table(results: Mapping[str, Any], *, arms_down: bool = False) -> str:
    """What every arm of a study changed: a row for each suite and a column for each arm, or the other way round. The
    model before and the models beside it with their scores, arms as changes with their 95 % intervals, bold where one
    is proven.

    results: results.json of a study of one task. Scores of tasks are in %, their changes in points.
    """
    changes = {(row["arm"], row["suite"]): row for row in results["comparisons"]}
    arms = [one["arm"] for one in results["arms"]]
    beside = results.get("beside", {})
    suites = list(dict.fromkeys(row["suite"] for row in results["comparisons"]))
    lines = [["", "before", *beside, *arms]]
    for suite in suites:
        first = next(changes[arm, suite] for arm in arms if (arm, suite) in changes)
        unit = first["unit"]
        cells = [suite, figure(scaled(first["before"], unit), unit)]
        for other in beside.values():
            score = other["scores"].get(suite)
            cells.append("" if score is None else figure(scaled(score["mean"], unit), unit))
        cells += [_change(changes.get((arm, suite)), unit) for arm in arms]
        lines.append(cells)
    head, *rows = map(list, zip(*lines, strict=True)) if arms_down else lines
    return table(head, rows)


def moments_table(results: Mapping[str, Any], suite: str) -> str:
    """A suite of tasks along the training, in percent with 95 % intervals: a row for each arm, a column for each
    measured moment; the head of a column says which share of an arm's steps lies behind it."""
    curves = [(curve, curve["suites"][suite]["moments"]) for curve in results["trajectory"]["arms"]]
    # Arms of unequal length are measured at unequal steps, and at the same shares of their training but for rounding.
    ends = [round(100 * step / curves[0][0]["steps"][-1]) for step in curves[0][0]["steps"]]
    head = ["", *("before" if not end else f"after {end} % of the steps" for end in ends)]
    rows = [
        [curve["arm"], *(in_percent((moment["mean"], moment["low"], moment["high"])) for moment in moments)]
        for curve, moments in curves
    ]
    return table(head, rows)


def shift_table(results: Mapping[str, Any], suite: str) -> str:
    """What a suite of kind `token_shift` found of every arm: shares of its answers' tokens by their rank in the model
    before, in percent, KL(after || before) a token in nats, and the tokens that are shifted most."""
    shares = ("unshifted", "marginal", "shifted")
    head = ["", "tokens", *shares, "KL a token", "shifted most"]
    rows = [
        [
            arm,
            f"{one['tokens']:,}",
            *(figure(100 * one[share], "points") for share in shares),
            f"{one['kl']:.2f}",
            ", ".join(f"`{token}`" for token in _readable(one["most"])[:6]),
        ]
        for arm, one in results["token_shift"][suite].items()
    ]
    return table(head, rows)


def _readable(most: Sequence[Sequence[Any]]) -> list[str]:
    """Tokens that a page can show: without the spaces around them, and none of white space or marks of a table."""
    return list(dict.fromkeys(word for token, *_ in most if (word := str(token).strip()) and not set(word) & set("`|")))


def _change(row: Mapping[str, Any] | None, unit: str) -> str:
    """One arm's change of one suite; nothing where it was not asked."""
    if row is None:
        return ""
    delta, low, high = (scaled(row[key], unit) for key in ("delta", "low", "high"))
    bold = "**" if row["verdict"] in ("gained", "lost") else ""
    return f"{bold}{figure(delta, unit, sign=True)}{bold} {interval(low, high, unit, sign=True)}".rstrip()
