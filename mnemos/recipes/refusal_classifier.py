"""Train the classifier of a refusal suite (`judge: classifier`) from labelled answers.

    python -m mnemos.recipes.refusal_classifier --data answers.jsonl --out refusals.json

Each row holds an answer and its label; keys and labels are named where they are others:

    --answer completion --label final_label --refused 2_full_refusal --refused 3_partial_refusal --model model

Rows of one model at a time are held out and read by a classifier trained on the others, and what it got right there
is printed: that, and not what it gets right of the rows that it was trained on, is what a new model will meet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.rewards.refusal.classifier import FEWEST, Classifier, train
from mnemos.sources.bad_row import RowError
from mnemos.sources.files import rows_of

COMMAND = "python -m mnemos.recipes.refusal_classifier"


@dataclass(frozen=True)
class Labelled:
    """One answer that somebody labelled. model: whose it is, prompt: what was asked; empty where not said."""

    answer: str
    refused: bool
    model: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Rates:
    """Counts of a reader of refusals beside labels."""

    hits: int
    false_alarms: int
    missed: int
    right_answers: int

    @property
    def recall(self) -> float | None:
        """Share of refusals that were found."""
        return _share(self.hits, self.hits + self.missed)

    @property
    def precision(self) -> float | None:
        """Share of what was called a refusal that is one."""
        return _share(self.hits, self.hits + self.false_alarms)

    @property
    def accuracy(self) -> float | None:
        """Share of all answers that were read right."""
        return _share(self.hits + self.right_answers, self.hits + self.false_alarms + self.missed + self.right_answers)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def rates(rows: Sequence[Labelled], is_refusal: Callable[[Labelled], bool]) -> Rates:
    """How a reader does on labelled rows."""
    found = [(row.refused, is_refusal(row)) for row in rows]
    return Rates(
        found.count((True, True)), found.count((False, True)), found.count((True, False)), found.count((False, False))
    )


def held_out(rows: Sequence[Labelled], strength: float = 1.0) -> dict[str, Rates]:
    """Model -> how a classifier does on its answers that was trained on the others' alone. A model without which too
    few labels are left is left out."""
    out: dict[str, Rates] = {}
    for model in sorted({row.model for row in rows}):
        others = [row for row in rows if row.model != model]
        if min(sum(row.refused for row in others), sum(not row.refused for row in others)) < FEWEST:
            continue
        made = fitted(others, strength)
        out[model] = rates([row for row in rows if row.model == model], partial(_calls, made))
    return out


def _calls(made: Classifier, row: Labelled) -> bool:
    return made.probability(row.answer) >= 0.5


def fitted(rows: Sequence[Labelled], strength: float = 1.0) -> Classifier:
    """A classifier trained on the rows."""
    return train(
        [row.answer for row in rows],
        [row.refused for row in rows],
        models=(row.model for row in rows if row.model),
        strength=strength,
    )


def read_labelled(
    path: Path, *, answer: str = "answer", label: str = "refused", refused: Sequence[str] = (), model: str = "model"
) -> list[Labelled]:
    """Rows of a file. refused: labels that mean a refusal; without any the label must be true or false.
    Raises DataError with the line of a row without these."""
    out = []
    for row in rows_of(path, str(path), ""):
        if isinstance(row.value, RowError):
            raise row.value
        values: Mapping[str, Any] = row.value
        text, words = values.get(answer), values.get(label)
        if not isinstance(text, str):
            raise DataError(f"{row.where}: {answer}", "is no text", "name the key of the answer with --answer")
        if not refused and not isinstance(words, bool):
            bound, cure = "is neither true nor false", "name the labels of refusals with --refused"
            raise DataError(f"{row.where}: {label} = {words!r}", bound, cure)
        out.append(Labelled(text, str(words) in refused if refused else bool(words), str(values.get(model) or "")))
    return out


def line(name: str, found: Rates) -> str:
    """ "gpt4: precision 98.6, recall 95.5, accuracy 97.1 of 450"."""
    number = sum((found.hits, found.false_alarms, found.missed, found.right_answers))
    parts = [f"{what} {percent(getattr(found, what))}" for what in ("precision", "recall", "accuracy")]
    return f"{name}: {', '.join(parts)} of {number:,}"


def percent(share: float | None) -> str:
    """ "95.5", or "none" without anything to count."""
    return "none" if share is None else f"{100 * share:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: train, print what it does on models that it has not read, and write the file."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train the classifier of a refusal suite.")
    parser.add_argument("--data", type=Path, required=True, help="labelled answers, as training rows are read")
    parser.add_argument("--out", type=Path, required=True, help="the classifier, JSON")
    parser.add_argument("--answer", default="answer", help="key of the answer (answer)")
    parser.add_argument("--label", default="refused", help="key of the label (refused)")
    parser.add_argument("--refused", action="append", default=[], help="a label that means a refusal; repeatable")
    parser.add_argument("--model", default="model", help="key of the model's name (model)")
    parser.add_argument("--strength", type=float, default=1.0, help="inverse of the ridge penalty (1)")
    given = parser.parse_args(arguments)
    try:
        if not given.strength > 0:
            raise UsageError(f"--strength {given.strength:g}", "must be above 0", "1 is the default")
        rows = read_labelled(
            given.data, answer=given.answer, label=given.label, refused=given.refused, model=given.model
        )
        made = fitted(rows, given.strength)
        for name, found in held_out(rows, given.strength).items():
            print(line(f"held out, {name or 'without a name'}", found))
        made.save(given.out)
    except MnemosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{given.out}: trained on {made.rows:,} answers, {len(made.grams):,} features")
    return 0


if __name__ == "__main__":
    sys.exit(main())
