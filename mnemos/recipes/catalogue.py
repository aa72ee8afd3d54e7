"""docs/methods.md: one row a method, from the registry; what it cost and where it held, from a study.
docs/catalogue.md: the ledger of that study, one row an arm.

    python -m mnemos.recipes.catalogue --results docs/results/catalogue.json --out docs/methods.md

The first five columns of the methods follow from the registry alone and are checked against it; the
others are measured and say so where they are not yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_text
from mnemos.methods import listing
from mnemos.recipes.findings import (
    NOT_TESTED,
    Outcome,
    accepted_nothing,
    load_findings,
    outcome,
    paper_link,
    read_results,
)
from mnemos.recipes.pages import wrapped
from mnemos.report.markdown import escape, table
from mnemos.report.words import figure, interval, limit, scaled, value

NOT_MEASURED = "not measured yet"
NOTHING_ACCEPTED = "no own answer was accepted: gold was learned, as in plain"
HEAD = ("method", "changes", "what it does", "paper", "settings", "time, weights", "learned, forgot", "findings")
REGISTERED = 5
"""How many of the columns follow from the registry."""

COMMAND = "python -m mnemos.recipes.catalogue"


def registered() -> list[list[str]]:
    """The columns that follow from the registry, one row a method."""
    return [
        [
            f"`{row['name']}`",
            escape(", ".join(row["changes"])),
            escape(row["summary"]),
            paper_link(row["paper"]),
            "<br>".join(f"`{_setting(setting)}`".replace("|", "\\|") for setting in row["settings"]),
        ]
        for row in listing()
    ]


def _setting(setting: Mapping[str, Any]) -> str:
    if "default" not in setting:
        return f"{setting['name']}: {setting['type']}"
    return f"{setting['name']}: {value(setting['default'])}"


def arms_of(method: str, results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The arms that use this method and no other (output_only, which every arm has, aside)."""
    found = []
    for arm in results.get("arms") or ():
        used = {step["method"] for step in arm.get("history") or () if not step.get("off")} - {"output_only"}
        if used == {method}:
            found.append(arm)
    return found


def _mean(arm: Mapping[str, Any], key: str) -> float | None:
    values = [run["cost"][key] for run in arm.get("runs") or () if run.get("cost") and run["cost"].get(key) is not None]
    return sum(values) / len(values) if values else None


def cost_words(arm: Mapping[str, Any], plain: Mapping[str, Any] | None) -> str:
    """ "2.4 x plain's time (61 % writing rows), 1.8 % of the weights"."""
    seconds, base = _mean(arm, "seconds"), _mean(plain, "seconds") if plain else None
    parts = []
    if seconds is not None and base:
        writing = _mean(arm, "writing_seconds")
        share = f" ({100 * writing / seconds:.0f} % writing rows)" if writing else ""
        parts.append(f"{seconds / base:.1f} x plain's time{share}")
    trained, total = _mean(arm, "trainable_parameters"), _mean(arm, "total_parameters")
    if trained is not None and total:
        parts.append(f"{100 * trained / total:.3g} % of the weights")
    return ", ".join(parts)


def measured(method: str, results: Mapping[str, Mapping[str, Any]], outcomes: Sequence[Outcome]) -> list[str]:
    """The measured columns of one method, from the first study that has an arm of it."""
    for study in results.values():
        arms = arms_of(method, study)
        if arms:
            plain = next((arm for arm in study["arms"] if arm["arm"] == "plain"), None)
            points = {point["arm"]: point for point in (study.get("frontier") or {}).get("points") or ()}
            costs = [_named(arm, arms, method, cost_words(arm, plain)) for arm in arms]
            places = [
                _named(
                    arm,
                    arms,
                    method,
                    NOTHING_ACCEPTED if accepted_nothing(study, arm["arm"]) else _place(points[arm["arm"]]),
                )
                for arm in arms
                if arm["arm"] in points
            ]
            return [_cell(costs), _cell(places), _held(method, outcomes)]
    return [NOT_MEASURED, NOT_MEASURED, _held(method, outcomes)]


def _named(arm: Mapping[str, Any], arms: Sequence[Any], method: str, words: str) -> str:
    alone = len(arms) == 1 and arm["arm"] == method
    return escape(words if alone or not words else f"{arm['arm']}: {words}")


def _place(point: Mapping[str, Any]) -> str:
    numbers = [
        figure(None if p["mean"] is None else 100 * p["mean"], "points") for p in (point["learned"], point["forgotten"])
    ]
    return f"{numbers[0]}, {numbers[1]}"


def _cell(parts: Sequence[str]) -> str:
    return "<br>".join(part for part in parts if part) or NOT_MEASURED


def _held(method: str, outcomes: Sequence[Outcome]) -> str:
    own = [o for o in outcomes if method in o.finding.methods and o.verdict != NOT_TESTED]
    if not own:
        return NOT_MEASURED
    return "<br>".join(f"{o.verdict}: [{o.finding.id}](findings.md)" for o in own)


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/methods.md."""
    outcomes = [outcome(finding, results) for finding in load_findings()]
    names = [row["name"] for row in listing()]
    rows = [[*row, *measured(name, results, outcomes)] for row, name in zip(registered(), names, strict=True)]
    blocks = [
        "# Methods",
        f"Written by `{COMMAND}` from the registry and the results of a study. A method changes the named fields of "
        "the plan and nothing else; an arm is a list of methods, applied left to right. Settings stand with their "
        "defaults, one without a default with its type: `mnemos methods NAME` explains each. Points learned on the "
        "new suites and forgotten on the old ones are means of the study named in [findings.md](findings.md), where "
        "each finding's numbers stand too.",
        table(HEAD, rows),
    ]
    return wrapped("\n\n".join(blocks) + "\n")


def ledger(results: Mapping[str, Any]) -> str:
    """docs/catalogue.md: every arm of one study with each suite's change, verdict and cost."""
    suites = [entry for entry in results["manifest"]["suites"] if entry["role"] != "health"]
    cells = {(row["arm"], row["suite"]): row for row in results["comparisons"]}
    points = {point["arm"]: point for point in results["frontier"]["points"]}
    arms = results["arms"]
    before = {name: row["before"] for (arm, name), row in cells.items() if arm == arms[0]["arm"]}
    units = {name: row["unit"] for (_, name), row in cells.items()}
    names = [suite["name"] for suite in suites]
    rows = [["(before)", "", "", *(figure(scaled(before[name], units[name]), units[name]) for name in names), ""]]
    for arm in arms:
        place = points.get(arm["arm"])
        means = [_interval(place[key], "points") for key in ("learned", "forgotten")] if place else ["", ""]
        changes = [_change(cells[arm["arm"], name]) for name in names]
        if accepted_nothing(results, arm["arm"]):
            # Its numbers are those of plain, and would be read as the method's.
            means, changes = ["", ""], [NOTHING_ACCEPTED, *[""] * (len(names) - 1)]
        rows.append([escape(arm["arm"]), *means, *changes, figure(_mean(arm, "seconds"), "points")])
    head = ["arm", "learned", "forgot", *map(escape, names), "seconds"]
    seeds = ", ".join(map(str, results["manifest"]["seeds"]))
    blocks = [
        f"# The {escape(results['study'])} study, arm by arm",
        f"Written by `{COMMAND}`. The difference to the model before, its 95 % interval over items and seeds "
        f"({seeds}) and the verdict; points are hundredths of a suite's scale, bits per byte stay bits (more is "
        "worse). Seconds are those of one run's training, rows written for it included, on a machine that carried "
        "out two steps at a time.",
        table(head, rows),
    ]
    return wrapped("\n\n".join(blocks) + "\n")


def _change(row: Mapping[str, Any]) -> str:
    return f"{_interval({'mean': row['delta'], **row}, row['unit'], sign=True)} {row['verdict']}"


def _interval(numbers: Mapping[str, Any], unit: str, *, sign: bool = False) -> str:
    mean, low, high = scaled(numbers["mean"], unit), *(limit(numbers[key], unit) for key in ("low", "high"))
    return f"{figure(mean, unit, sign=sign)} {interval(low, high, unit, sign=sign)}"


def table_rows(text: str) -> list[list[str]]:
    """The cells of the page's table, head included, as they were written."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        [cell.replace("\0", "\\|").strip() for cell in line.replace("\\|", "\0")[1:-1].split("|")] for line in lines
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the page."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write docs/methods.md.")
    parser.add_argument("--results", type=Path, action="append", default=[], help="a results.json; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/methods.md"), help="the page (docs/methods.md)")
    given = parser.parse_args(arguments)
    results = read_results(given.results)
    write_text(given.out, page(results))
    if "catalogue" in results:
        write_text(given.out.with_name("catalogue.md"), ledger(results["catalogue"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
