"""`mnemos labels`: does a model recognise a task, or learn it from examples in context and from rows in training?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.core.files import write_json, write_jsonl, write_text
from mnemos.core.nouns import Source
from mnemos.core.plan import ModelHandle
from mnemos.core.yaml_text import dump_yaml
from mnemos.measure.in_context import (
    LABELLINGS,
    Asked,
    Cell,
    Labelled,
    Labelling,
    Task,
    accuracy,
    ask,
    difference,
    items_to_ask,
    orderings,
    rows_to_learn,
    task_of,
)
from mnemos.sources.generated import GeneratedSource
from mnemos.sources.read import skipped
from mnemos.study.lock import locked
from mnemos.study.synthesis import JournaledContext

TAUGHT: tuple[Labelling, ...] = ("gold", "random", "abstract")
"""Labels of rows to train on. What the first two taught is asked by names, what the last one taught by symbols."""


def labelled_rows(
    source: Source, most_characters: int, labels: Sequence[str] = ()
) -> tuple[list[Labelled], Counter[str]]:
    """Rows of one question and its answer as text and label, and those left out, by reason. labels: the only ones that
    are kept; all where there is none."""
    left: Counter[str] = Counter()
    rows = []
    for example in source:
        text, label = "".join(turn.text for turn in example.turns[:-1]).strip(), example.turns[-1].text.strip()
        if not text or not label:
            left["no text or no label"] += 1
        elif labels and label not in labels:
            left["another label"] += 1
        elif len(text) > most_characters:
            left[f"longer than {most_characters} characters"] += 1
        else:
            rows.append(Labelled(text, label))
    left.update(skipped(source))  # known once the rows have been read
    if labels and (missing := sorted({*labels} - {row.label for row in rows})):
        raise DataError(f"label {missing[0]!r}", "no row has it", "labels are compared letter by letter")
    return rows, left


def ask_labels(
    rows: Sequence[Labelled],
    model: ModelHandle,
    out: Path,
    asked: Asked,
    items: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Ask in context, and write labels.json. Every answer goes into a journal: the same command goes on where it was
    killed. Returns the record that labels.json holds."""
    task = task_of(rows, items, max(asked.shots), asked.seed)
    with locked(out):
        context = JournaledContext(out, _nothing)
        cells = ask(context.model(model), task, asked, say)
        record = {
            "model": model.path,
            "fingerprint": model.fingerprint,
            "labels": list(task.labels),
            "items": len(task.items),
            "chance": task.chance,
            "asked": asdict(asked),
            "cells": [_cell(cell, task) for cell in cells],
            "learned": _learned(cells, task),
            "orderings": {
                name: [asdict(one) for one in orderings(cells, task, name == "calibrated")]
                for name in ("sums", "calibrated")
            },
            "seconds": context.journal.seconds,
        }
        write_json(out / "labels.json", record)
    return record


def _nothing(source: GeneratedSource) -> Any:
    raise RunError(source.describe(), "has not been written", "a file's rows are all there")


def _cell(cell: Cell, task: Task) -> dict[str, Any]:
    return {
        "labelling": cell.labelling,
        "shots": cell.shots,
        "accuracy": float(cell.right.mean()),
        "corrected": list(accuracy(cell.right, task)),
        "calibrated": list(accuracy(cell.calibrated, task)),
    }


def _learned(cells: Sequence[Cell], task: Task) -> list[dict[str, Any]]:
    """gold - random by number of examples: what the mapping adds to recognition."""
    table = {(cell.labelling, cell.shots): cell for cell in cells}
    shots = sorted({cell.shots for cell in cells if cell.shots})
    pairs = [(number, table["gold", number], table["random", number]) for number in shots]
    return [
        {
            "shots": number,
            "corrected": list(difference(gold.right, drawn.right, task)),
            "calibrated": list(difference(gold.calibrated, drawn.calibrated, task)),
        }
        for number, gold, drawn in pairs
    ]


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record for people: corrected accuracy by labelling and number of examples, and the orderings."""
    shots = sorted({cell["shots"] for cell in record["cells"]})
    out = [
        f"{len(record['labels'])} labels, {record['items']} items, {record['asked']['draws']} draws of examples; 0 is "
        f"chance ({100 * record['chance']:.1f} %), 100 is all right; 95 % intervals"
    ]
    for name, title in (("corrected", "by the sum of ln p"), ("calibrated", "calibrated by a text without content")):
        out += ["", f"{title:<38}" + "".join(f"{f'{number} examples':>22}" for number in shots)]
        for labelling in LABELLINGS:
            own = {cell["shots"]: cell[name] for cell in record["cells"] if cell["labelling"] == labelling}
            out.append(f"{labelling:<38}" + "".join(f"{_words(own[number]):>22}" for number in shots if number in own))
        own = {one["shots"]: one[name] for one in record["learned"]}
        out.append(f"{'gold - random':<38}" + "".join(f"{_words(own[k]) if k in own else '-':>22}" for k in shots))
    for name, found in record["orderings"].items():
        out += ["", *(f"{one['verdict']:<13} {one['says']}: {_words(one['interval'])} ({name})" for one in found)]
    return out


def _words(interval: Sequence[float]) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:.0f} [{low:.0f}, {high:.0f}]"


# in training --------------------------------------------------------------------------------------


def write_study(
    rows: Sequence[Labelled], model: str, out: Path, asked: Asked, items: int, sizes: Sequence[int]
) -> Path:
    """Rows with gold, random and abstract labels, suites that ask for names and for symbols, and a study with an arm
    for each labelling and number of rows. Raises UsageError where there are fewer rows than the largest number."""
    task = task_of(rows, items, max(asked.shots), asked.seed)
    if not sizes or min(sizes) < 1 or max(sizes) > len(task.pool):
        raise UsageError(
            f"rows to learn {list(sizes)}",
            f"must be numbers from 1 to {len(task.pool):,}, the rows beside the {len(task.items)} items",
            "take fewer",
        )
    write_labellings(task, asked, out)
    write_text(out / "study.yaml", _study(model, sizes))
    return out / "study.yaml"


def write_labellings(task: Task, asked: Asked, out: Path) -> None:
    """The pool with each labelling as LABELLING.jsonl, and the items as ask-natural.jsonl and ask-abstract.jsonl."""
    for labelling in TAUGHT:
        write_jsonl(out / f"{labelling}.jsonl", rows_to_learn(task, asked, labelling))
    write_jsonl(out / "ask-natural.jsonl", items_to_ask(task, asked, "gold"))
    write_jsonl(out / "ask-abstract.jsonl", items_to_ask(task, asked, "abstract"))


def _study(model: str, sizes: Sequence[int]) -> str:
    arms = {
        f"{labelling}-{size}": [{"select": {"by": "random", "rows": size}}] for labelling in TAUGHT for size in sizes
    }
    suites = [{"name": name, "kind": "choice", "data": f"ask-{name}.jsonl"} for name in ("natural", "abstract")]
    study = {
        "name": "labels",
        "model": model,
        "teach": {"name": "labels", "data": "gold.jsonl", "columns": {"prompt": "prompt", "completion": "completion"}},
        "suites": {"new": suites},
        "arms": arms,
        "arm_data": {
            name: {"labels": f"{name.rpartition('-')[0]}.jsonl"} for name in arms if not name.startswith("gold-")
        },
        "seeds": [0, 1, 2],
        "health": False,
    }
    head = (
        "# Learned from labels that are right, drawn at random, or symbols: what is recognised, and what is learned?\n"
    )
    return head + dump_yaml(study)
