"""`mnemos know`: how well a model knows each fact of a file, and the file of those that should be learned."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, RunError, UsageError, nearest
from mnemos.core.files import write_json, write_jsonl
from mnemos.core.nouns import Example, Source
from mnemos.core.plan import ModelHandle
from mnemos.measure.proportions import wilson
from mnemos.sources.generated import GeneratedSource
from mnemos.sources.read import skipped
from mnemos.sources.write import row_of
from mnemos.study.lock import locked
from mnemos.study.synthesis import JournaledContext
from mnemos.synthesis.classified import KEY, Classified, class_in
from mnemos.synthesis.knowledge import Asking
from mnemos.synthesis.slick import CLASSES, UNKNOWN, fitted_risk

MOST_COPIES = 1000
"""Times that a row may stand in the weighted file."""


@dataclass(frozen=True)
class Wanted:
    """What is written beside the classes. weights: class -> how often its rows stand in kept.jsonl, on average; empty
    for no such file. number: rows of it, drawn by seed."""

    weights: Mapping[str, float] = field(default_factory=dict)
    number: int | None = None


def know(source: Source, model: ModelHandle, out: Path, asking: Asking, wanted: Wanted) -> dict[str, Any]:
    """Ask the model every fact of a source, and write rows.jsonl, kept.jsonl where it is wanted, and know.json.

    Every answer goes into a journal: the same command continues one that was killed. Raises DataError where no row
    can be asked about, or none is kept. Returns the record that know.json holds.
    """
    with locked(out):
        context = JournaledContext(out, _nothing)
        found = Classified(source, model, asking).write(context)
        record = {"model": model.path, "fingerprint": model.fingerprint, **record_of(found, context, asking)}
        record["left_out"] |= skipped(source)
        write_jsonl(out / "rows.jsonl", map(row_of, found))
        if wanted.weights:
            kept = weighted(found, wanted.weights, asking.seed)
            record["kept"] = _write_kept(kept, wanted, out / "kept.jsonl", asking.seed)
        write_json(out / "know.json", record)
    return record


def _nothing(source: GeneratedSource) -> Any:
    raise RunError(source.describe(), "has not been written", "a file's rows are all there")


def weights_of(keep: Sequence[str], pairs: Sequence[str]) -> dict[str, float]:
    """Class -> weight, from classes that are kept whole and from CLASS=WEIGHT; classes not named have weight 0, or 1
    where none is kept whole. Raises UsageError for what is no class and no weight."""
    found = dict.fromkeys(keep, 1.0)
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--weight {pair}", "is not CLASS=NUMBER", "for example Unknown=0.25") from None
        if not 0 <= found[name] <= MOST_COPIES:
            raise UsageError(f"--weight {pair}", f"must lie in [0, {MOST_COPIES}]", "1 leaves the class as it is")
    for name in found:
        if name not in CLASSES:
            raise UsageError(f"class {name!r}", "is none of SliCK's", nearest(name, CLASSES))
    if not found:
        return {}
    return {name: found.get(name, 0.0 if keep else 1.0) for name in CLASSES}


def weighted(rows: Sequence[Example], weights: Mapping[str, float], seed: int) -> list[Example]:
    """Every row as often as its class weighs: the whole part surely, the rest by a draw of the row's own. Rows without
    a class are left out. Copies have ids of their own."""
    out = []
    for row in rows:
        weight = weights.get(class_in(row) or "", 0.0)
        # By the row's id: what else stands in the file does not change it.
        extra = random.Random(f"weight {seed} {row.id}").random() < weight % 1
        for copy in range(math.floor(weight) + extra):
            out.append(replace(row, id=f"{row.id}~{copy + 1}") if copy else row)
    return out


def _write_kept(kept: list[Example], wanted: Wanted, path: Path, seed: int) -> dict[str, Any]:
    if not kept or (wanted.number is not None and wanted.number > len(kept)):
        raise DataError(
            f"{wanted.number or 1:,} rows", f"the classes that were asked for have {len(kept):,}", "see rows.jsonl"
        )
    if wanted.number is not None:
        places = sorted(random.Random(f"rows {seed}").sample(range(len(kept)), wanted.number))
        kept = [kept[at] for at in places]
    write_jsonl(path, map(row_of, kept))
    counts = Counter(class_in(row) for row in kept)
    return {"rows": len(kept), "weights": dict(wanted.weights), "classes": {name: counts[name] for name in CLASSES}}


def record_of(rows: Sequence[Example], context: JournaledContext, asking: Asking) -> dict[str, Any]:
    """Counts of classes, what would change in a second probing, and what it cost."""
    found = [row.meta[KEY] for row in rows if class_in(row) is not None]
    counts = Counter(one["class"] for one in found)
    halves = [one["same_halves"] for one in found if one["same_halves"] is not None]
    same = sum(halves) / len(halves) if halves else None
    shares = {name: counts[name] / len(found) for name in CLASSES}
    return {
        "rows": len(rows),
        "classes": {
            name: {"rows": counts[name], "share": shares[name], "interval": list(wilson(shares[name], len(found)))}
            for name in CLASSES
        },
        "left_out": {reason: count for reason, count in context.counts.items() if reason not in CLASSES},
        "same_again": sum(one["again"][one["class"]] for one in found) / len(found),
        "same_halves": same,
        "same_halves_interval": None if same is None else list(wilson(same, len(halves))),
        "answers_a_question": context.notes["answers a question"],
        "answers_without_stop": asking.prompts * (1 + asking.samples),
        "fitted_risk": fitted_risk(shares),
        "seconds": context.journal.seconds,
        "asking": vars(asking),
    }


def lines(record: Mapping[str, Any], out: Path) -> list[str]:
    """The record for people."""
    text = [f"{'class':<13}{'rows':>8}{'share':>9}  95 % interval"]
    for name, one in record["classes"].items():
        low, high = (100 * value for value in one["interval"])
        text.append(f"{name:<13}{one['rows']:>8,}{100 * one['share']:>7.1f} %  [{low:.1f}, {high:.1f}]")
    text += [f"left out: {count:,} {reason}" for reason, count in record["left_out"].items()]
    text.append(f"a second probing of this size is expected to give {100 * record['same_again']:.1f} % the same class")
    if record["same_halves"] is not None:
        low, high = (100 * value for value in record["same_halves_interval"])
        text.append(f"both halves of the prompts agree on {100 * record['same_halves']:.1f} % [{low:.1f}, {high:.1f}]")
    text.append(
        f"{record['answers_a_question']:.1f} answers a question, of {record['answers_without_stop']} without stopping "
        f"early; {record['seconds']:.0f} seconds"
    )
    unknown = 100 * record["classes"][UNKNOWN]["share"]
    text.append(
        f"{unknown:.1f} % unknown: by the linear model of arXiv:2405.05904 (another model, its own data) learning all "
        f"rows by heart moves accuracy on such questions by {record['fitted_risk']:+.1f} points"
    )
    text.append(f"{out / 'rows.jsonl'}: every row with its class under {KEY!r}")
    if "kept" in record:
        counts = ", ".join(f"{name} {count:,}" for name, count in record["kept"]["classes"].items() if count)
        text.append(f"{out / 'kept.jsonl'}: {record['kept']['rows']:,} rows ({counts})")
    return text
