"""`mnemos listen rows`: rows that teach a language model to listen, out of a folder of clips."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError
from mnemos.core.files import write_json, write_jsonl
from mnemos.core.plan import ModelHandle
from mnemos.sources.described import described
from mnemos.sources.generated import GeneratedSource, too_few
from mnemos.study.lock import locked
from mnemos.study.synthesis import JournaledContext
from mnemos.synthesis.listening import Asking, Target, TargetRows, synthetic_share, write


def listen_rows(
    folder: Path,
    model: ModelHandle,
    out: Path,
    asking: Asking,
    targets: Sequence[Target],
    other: ModelHandle | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Write OUT/<target>.jsonl for each target, and rows.json; every answer goes into a journal, so that the same
    command continues one that was killed. Returns the record that rows.json holds.

    Raises DataError where no clip can be used, or a target has no row.
    """
    with locked(out):
        context = JournaledContext(out, _nothing)
        left_out: Counter[str] = Counter()
        clips = list(described(folder, left_out, limit=limit))
        reasons = {name: count for name, count in left_out.items() if not name.startswith("column ")}
        too_few(reasons, len(clips), 1, what="clips", cure="see what the rows of its metadata name")
        written = write(context, clips, asking, model, targets, other, out)
        for target, rows in written.rows.items():
            write_jsonl(out / f"{target}.jsonl", rows)
        record = {
            "model": model.path,
            "fingerprint": model.fingerprint,
            "other": None if other is None else other.path,
            "clips": {**synthetic_share(clips), "seconds": round(math.fsum(clip.seconds for clip in clips), 2)},
            "left_out": dict(left_out),
            "compared": written.compared,
            "targets": {target: _target(written, target) for target in written.rows},
            "journal": {"seconds": context.journal.seconds, "tokens": context.journal.tokens},
        }
        write_json(out / "rows.json", record)
    return record


def _nothing(source: GeneratedSource) -> Any:
    raise RunError(source.describe(), "has not been written", "clips are all there")


def _target(written: TargetRows, target: Target) -> dict[str, Any]:
    rows, perplexity = written.rows[target], written.perplexity[target]
    return {
        "rows": len(rows),
        "synthetic": sum(row.get("synthetic") is True for row in rows),
        "not_stated": sum("synthetic" not in row for row in rows),
        "perplexity": perplexity if math.isfinite(perplexity) else None,
        "dropped": dict(written.dropped[target]),
    }


def lines(record: Mapping[str, Any], out: Path) -> list[str]:
    """The record for people."""
    clips = record["clips"]
    number = clips["synthetic"] + clips["real"] + clips["not stated"]
    found = [
        f"{number:,} clips of {clips['seconds']:,.0f} s, {_share(clips['synthetic'], clips['not stated'], number)}"
    ]
    found += [f"left out, {reason}: {count:,}" for reason, count in record["left_out"].items() if reason]
    for target, one in record["targets"].items():
        found.append(
            f"{target:<6} {one['rows']:,} rows, {_share(one['synthetic'], one['not_stated'], one['rows'])}; "
            f"perplexity {'not known' if one['perplexity'] is None else format(one['perplexity'], '.2f')}"
        )
        found += [f"       left out, {reason}: {count:,}" for reason, count in one["dropped"].items()]
    found.append(
        f"perplexity is that of the answers under {record['model']}, given the line of text that describes the"
    )
    found.append(f"clip, over the {record['compared']:,} rows that every target has")
    return [*found, *(str(out / f"{target}.jsonl") for target in record["targets"])]


def _share(synthetic: int, unknown: int, number: int) -> str:
    text = f"{synthetic:,} synthetic ({100 * synthetic / number if number else 0:.0f} %)"
    return text + (f", {unknown:,} of which nobody says" if unknown else "")
