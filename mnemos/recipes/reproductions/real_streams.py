"""What the reproduction of agents on streams reads, and its table: four tasks of real questions, nothing made up.

Called with (data, out) as in prepare.py; data: the folder of third-party data, which keep their own licences (SLURP's
texts CC BY 4.0, BIG-Bench Hard MIT, Chinook MIT, BFCL Apache-2.0) and never enter this repository. A missing file
raises FileNotFoundError. The rows of BIG-Bench Hard must not be trained on; here they are asked, and shown to the same
model as examples, and no weight learns them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.prepare import rows

COPIED = {"intents.jsonl.gz": "slurp_text/devel.jsonl.gz", "chinook.sqlite.gz": "chinook/Chinook_Sqlite.sqlite.gz"}
"""Our name -> the file below the folder of third-party data."""
CALLS, PUZZLES = "bfcl/simple_python.jsonl.gz", "bbh/bbh_shared_4tasks.jsonl.gz"
CALL_ROWS = 216
"""The shortest ones: what is shown stands in every prompt, and a description of a tool is most of it. Sixteen of them
are held back as gold examples."""
KINDS, LONGEST, LONGEST_ANSWER = ("boolean_expressions", "object_counting", "word_sorting"), 240, 60
"""Kinds of puzzles, and characters of a question and of its answer."""


def questions(data: Path, out: Path) -> None:
    """The files that the parts name."""
    below = out / "data"
    below.mkdir(parents=True, exist_ok=True)
    for name, place in COPIED.items():
        (below / name).write_bytes((data / place).read_bytes())
    calls = list(rows(data / CALLS))
    size = {row["id"]: len(json.dumps([row["function"], row["question"]])) for row in calls}
    write_jsonl(below / "calls.jsonl", sorted(calls, key=lambda row: (size[row["id"]], row["id"]))[:CALL_ROWS])
    puzzles = [
        {"id": row["id"], "question": row["input"], "answer": row["target"]}
        for row in rows(data / PUZZLES)
        if row["task"] in KINDS and len(row["input"]) <= LONGEST and len(row["target"]) <= LONGEST_ANSWER
    ]
    write_jsonl(below / "puzzles.jsonl", puzzles)


def page_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/stream.md: a row for each arm, a column for each task. Its share of right answers in %, and
    what it gained over the bare question, in points with the 95 % interval."""
    from mnemos.report.markdown import table
    from mnemos.report.words import figure, interval

    names = list(dict.fromkeys(one["arm"] for result in results for one in result["arms"]))
    columns = [{row["arm"]: row for row in result["comparisons"]} for result in results]
    rows = []
    for name in names:
        cells = []
        for column in columns:
            row = column.get(name)
            if row is None or row["delta"] is None:
                cells.append("")
                continue
            text = figure(100 * row["after"], "points")
            if name != "zero-shot":
                low, high = (None if row[key] is None else 100 * row[key] for key in ("low", "high"))
                around = interval(low, high, "points", sign=True)
                text += f"<br>{figure(100 * row['delta'], 'points', sign=True)} {around}".rstrip()
            cells.append(text)
        rows.append([name, *cells])
    return table(("", *(str(result["stream"]["task"]) for result in results)), rows)


def help_table(results: Mapping[str, Any]) -> str:
    """The table of docs/stream.md on asking for help: the area below each way's curve with its 95 % interval, how many
    questions must be asked for 80 % of the whole gain, and what a threshold set along the way gained."""
    from mnemos.report.markdown import table
    from mnemos.report.words import figure

    found, rows = results["help"], []
    for one in found["ways"]:
        along = one["online"]
        area = "" if one["area"] is None else f"{one['area']:.3f}"
        around = "" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]"
        needed = "" if one["needed"] is None else f"{one['needed']} of {found['items']}"
        asked = f"{figure(100 * along['gain'], 'points', sign=True)} at {100 * along['share']:.0f} % asked"
        rows.append([one["way"], area + around, needed, asked, figure(100 * along["regret"], "points")])
    return table(("way", "area", "for 80 % of the gain", "along the way", "regret"), rows)


def weights_table(results: Mapping[str, Any]) -> str:
    """The table of docs/stream.md on weights that learn along the stream: of each update its arm, order, step and rows,
    what every old suite scored before the stream and after the update, with the 95 % interval of the difference and the
    verdict, and whether it was kept."""
    from mnemos.report.markdown import table

    suites = list(dict.fromkeys(one["suite"] for update in results["updates"] for one in update["suites"]))
    rows = []
    for update in results["updates"]:
        found = {one["suite"]: one for one in update["suites"]}
        where = (update["arm"], str(update["order"]), f"{update['number']}, behind {update['step']} questions")
        fate = "kept" if update["kept"] else "rolled back"
        rows.append([*where, str(update["rows"]), *(_old_suite(found.get(name)) for name in suites), fate])
    return table(("", "order", "update", "answers learned", *suites, ""), rows)


def _old_suite(row: Mapping[str, Any] | None) -> str:
    """Before, after, difference and verdict of one suite behind one update; nothing where it has no score."""
    from mnemos.report.words import figure, interval, scaled

    if row is None or row["delta"] is None:
        return ""
    unit = row["unit"]
    before, after, delta, low, high = (scaled(row[key], unit) for key in ("before", "after", "delta", "low", "high"))
    around = interval(low, high, unit, sign=True)
    change = f"{figure(delta, unit, sign=True)} {around}".rstrip()
    return f"{figure(before, unit)} to {figure(after, unit)}<br>{change}, {row['verdict']}"
