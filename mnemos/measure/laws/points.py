"""Runs of a scaling study: model size, tokens, loss, read from a CSV file that somebody else wrote."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.measure.laws.fitting import Floats
from mnemos.sources.files import opened
from mnemos.sources.json_rows import bounded

FLOPS_PER_TOKEN = 6.0
"""Training FLOP of a parameter and token (arXiv:2001.08361)."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "n": ("parameters", "params", "n", "model size", "model_size", "size"),
    "d": ("tokens", "d", "training tokens", "training_tokens"),
    "c": ("flop", "flops", "c", "compute", "training flop", "training_flop"),
    "loss": ("loss", "l", "eval_loss", "validation loss"),
    "unique": ("unique_tokens", "unique", "u"),
    "run": ("run", "run_id", "name"),
}
"""Our name -> the names that a column may have, in any case."""
MOST_POINTS = 100_000
MOST_COLUMNS = 1000


@dataclass(frozen=True)
class Points:
    """n: parameters, d: tokens seen, loss: nats per token, unique: distinct tokens, all float[P]; run: what each
    belongs to (points of one run are one training at several moments). left_out: rows that are no point, by reason."""

    n: Floats
    d: Floats
    loss: Floats
    unique: Floats
    run: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.n)

    @property
    def compute(self) -> Floats:
        """FLOP: 6 N D."""
        return FLOPS_PER_TOKEN * self.n * self.d

    def where(self, keep: np.ndarray) -> Points:
        """The points of a mask bool[P] or of places int[k]."""
        places = np.arange(len(self))[keep]
        run = tuple(self.run[int(at)] for at in places)
        return Points(self.n[places], self.d[places], self.loss[places], self.unique[places], run, self.left_out)

    def without_highest(self, count: int) -> Points:
        """Without the `count` points of highest loss."""
        if not 0 <= count < len(self):
            raise UsageError(
                f"without_highest = {count}", f"must be from 0 to {len(self) - 1}, one less than the points"
            )
        return self.where(np.sort(np.argsort(self.loss, kind="stable")[: len(self) - count]))


def made(
    n: Sequence[float] | Floats,
    d: Sequence[float] | Floats,
    loss: Sequence[float] | Floats,
    *,
    unique: Sequence[float] | Floats | None = None,
    run: Sequence[str] | None = None,
) -> Points:
    """Points from numbers; each is a run of its own unless `run` says otherwise."""
    size, tokens, losses = (np.asarray(column, dtype=float) for column in (n, d, loss))
    names = tuple(map(str, range(len(size)))) if run is None else tuple(run)
    return Points(size, tokens, losses, tokens if unique is None else np.asarray(unique, dtype=float), names)


def read_points(path: Path, columns: Mapping[str, str] | None = None) -> Points:
    """The points of a CSV file with a line of names, gzipped or not.

    columns: our name (n, d, c, loss, unique, run) -> the file's. Tokens are D, or C / 6N where only the FLOP are
    there. Rows without a positive finite number in each column are left out and counted by reason. Raises DataError
    for a file that is no such table, and where no point is left.
    """
    rows = csv.reader(_lines(path))
    try:
        head = [name.strip() for name in next(rows, [])]
        places = _places(path, head, columns or {})
        found, why = _read(path, rows, places)
    except csv.Error as error:
        raise DataError(f"{path}", f"is no CSV file ({error})", "save it as comma-separated values in UTF-8") from None
    if not found:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in why.items()) or "it has no rows"
        raise DataError(f"{path}", f"gives no point ({reasons})", "give rows with parameters, tokens and a finite loss")
    n, d, loss, unique = (np.array([row[at] for row in found], dtype=float) for at in range(4))
    return Points(n, d, loss, unique, tuple(str(row[4]) for row in found), dict(why))


def _lines(path: Path) -> Iterator[str]:
    with opened(path) as stream:
        for number, line in enumerate(bounded(stream), 1):
            if line is None or b"\0" in line:
                raise DataError(f"{path}:{number}", "is no line of a table", "save it as comma-separated values")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}", f"is not UTF-8 (byte {error.start})", "save it as UTF-8") from None


def _places(path: Path, head: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    if not head or len(head) > MOST_COLUMNS:
        raise DataError(
            f"{path}", f"has {len(head):,} columns", "begin it with a line of names: parameters,tokens,loss"
        )
    lower = [name.lower() for name in head]
    places = {}
    for ours, names in COLUMNS.items():
        if ours in columns:
            if columns[ours] not in head:
                raise UsageError(f"column {columns[ours]!r}", f"is not in {path}", nearest(columns[ours], head))
            places[ours] = head.index(columns[ours])
        elif there := [lower.index(name) for name in names if name in lower]:
            places[ours] = there[0]
    missing = [name for name in ("n", "loss") if name not in places]
    missing += [] if "d" in places or "c" in places else ["d (or c, the FLOP)"]
    if missing:
        cure = f"columns there: {', '.join(head[:20])}; name them, for example --column n=NAME"
        raise DataError(f"{path}", f"has no column for {', '.join(missing)}", cure)
    return places


def _read(
    path: Path, rows: Iterator[list[str]], places: Mapping[str, int]
) -> tuple[list[tuple[float, float, float, float, str]], Counter[str]]:
    found: list[tuple[float, float, float, float, str]] = []
    why: Counter[str] = Counter()
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(found) >= MOST_POINTS:
            raise DataError(f"{path}", f"has more than {MOST_POINTS:,} points", "thin out the training curves")
        values: dict[str, float] = {}
        reason = ""
        for name, place in places.items():
            if name == "run" or (name == "c" and "d" in places):
                continue
            values[name] = _number(row[place] if place < len(row) else "")
            if not reason and not values[name] > 0:
                reason = f"{name} is no positive number"
        if reason:
            why[reason] += 1
            continue
        d = values["d"] if "d" in values else values["c"] / FLOPS_PER_TOKEN / values["n"]
        name = row[places["run"]] if "run" in places and places["run"] < len(row) else str(number)
        found.append((values["n"], d, values["loss"], min(d, values.get("unique", d)), name))
    return found, why


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def as_csv(points: Points) -> str:
    """The points as a file that `read_points` reads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["parameters", "tokens", "loss", "unique_tokens", "run"])
    for n, d, loss, unique, run in zip(points.n, points.d, points.loss, points.unique, points.run, strict=True):
        writer.writerow([repr(float(n)), repr(float(d)), repr(float(loss)), repr(float(unique)), run])
    return out.getvalue()
