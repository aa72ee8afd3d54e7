"""`mnemos data filter`: pages through filters and deduplication, with what each of them did."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.core.places import resolved
from mnemos.measure.auc import auc
from mnemos.sources.dedup import Exact, Paragraphs, minhash_groups
from mnemos.sources.filters.classifier import cross_scores
from mnemos.sources.filters.page import LONGEST, Filter, through
from mnemos.study.commands.filter_parts import (
    DROPPED,
    KEPT,
    MARKS,
    Asked,
    PartStep,
    Reading,
    Row,
    Tally,
    filters_of,
    lines_of,
    opened,
    parts_of,
    steps_of,
    write_row,
)
from mnemos.study.engines import AskedEngine
from mnemos.study.engines import engine as engine_of
from mnemos.study.lock import locked
from mnemos.study.steps import explained, result_of
from mnemos.study.stopping import terminable

DEDUP = ("exact", "paragraphs", "minhash")
BEGUN = "filtering.json"
"""What lies in `out` while files are filtered: the same command continues there."""


def filter_pages(
    location: str, out: Path, asked: Asked, *, engine: AskedEngine = None, jobs: int | None = None
) -> dict[str, Any]:
    """Filter the pages at a location into out/pages.jsonl.gz; what was dropped, and why, into out/dropped.jsonl.gz.

    Each file is a step of its own, for `engine` and `jobs` (see `study.run.run`) to execute; a filtering that was
    stopped goes on with the files that are left. Pages stream: memory holds hashes of them where deduplication is asked
    for. Raises DataError where no page is left, UsageError for what cannot be meant. Returns the record that
    filter.json holds.
    """
    chosen = engine_of(engine, jobs=jobs)
    out = resolved(out)
    _check(asked, out)
    parts, filters = parts_of(location), filters_of(asked)
    steps = steps_of(parts, asked)
    with terminable(), locked(out), explained(out):
        write_json(out / BEGUN, {"location": location, "steps": [step.key for step in steps]})
        chosen.run(steps, out)
        found = [result_of(step.key, out) for step in steps]
        tally = Tally()
        for one in found:
            tally.join(one["tally"])
        _gathered(out, steps, asked, tally)
        rows = Reading(parts, asked)
        bad = dict(sum((Counter(one["bad"]) for one in found), Counter()))
        record = {**tally.record(), "bad_rows": bad, "filters": [one.name for one in filters],
                  "dedup": list(asked.dedup), "audit": audit(rows, filters, asked)}  # fmt: skip
        _finish(record, out)
        _tidy(out)
    if not record["kept"]:
        raise DataError(location, "leaves no page", f"see {out / 'filter.html'} for what dropped them")
    return record


def _gathered(out: Path, steps: Sequence[PartStep], asked: Asked, tally: Tally) -> None:
    """What the steps left as one: deduplication looks at all files together, in their order."""
    first = out / ("filtered.jsonl.gz" if "minhash" in asked.dedup else "pages.jsonl.gz")
    folders = [out / "steps" / step.key for step in steps]
    _joined([folder / DROPPED for folder in folders], out / DROPPED)
    with opened(out / DROPPED, "at") as dropped:
        if "exact" in asked.dedup or "paragraphs" in asked.dedup:
            _without_repeats(folders, first, asked, tally, dropped)
        else:
            _joined([folder / KEPT for folder in folders], first)
        if "minhash" in asked.dedup:
            _near(first, out / "pages.jsonl.gz", asked.text, tally, dropped)


def _joined(parts: Sequence[Path], whole: Path) -> None:
    """Packed files one behind the other are a packed file: nothing is unpacked."""
    with open(whole, "wb") as target:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)


def _without_repeats(folders: Sequence[Path], first: Path, asked: Asked, tally: Tally, dropped: IO[str]) -> None:
    exact, paragraphs = Exact(), Paragraphs()
    with opened(first) as file:
        for folder in folders:
            for row, marks in zip(lines_of(folder / KEPT), lines_of(folder / MARKS), strict=True):
                text = row[asked.text]
                if "exact" in asked.dedup and exact.repeats(text):
                    left, reason = "", "dedup: an exact copy"
                elif "paragraphs" in asked.dedup:
                    left, reason = paragraphs.without(text), "dedup: every paragraph was there"
                else:
                    left, reason = text, ""
                if not left:
                    tally.drop(text, reason, marks)
                    write_row(dropped, {**row, "dropped": reason})
                    continue
                if left != text:
                    tally.shorten(text, left, marks)
                write_row(file, {**row, asked.text: left})


def _check(asked: Asked, out: Path) -> None:
    from mnemos.core.errors import nearest

    wrong = next((one for one in asked.dedup if one not in DEDUP), None)
    if wrong:
        raise UsageError(f"dedup {wrong!r}", "is not known", nearest(wrong, DEDUP))
    begun = (out / BEGUN).is_file()
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not begun:
        raise UsageError(f"{out}", "is there already", "name another place with --out, or remove it")


def _near(first: Path, last: Path, column: str, tally: Tally, dropped: IO[str]) -> None:
    """Copy what is no near-duplicate of an earlier page."""
    groups = minhash_groups(str(row[column]) for row in lines_of(first))
    with opened(last) as file:
        for at, row in enumerate(lines_of(first)):
            if groups[at] == at:
                write_row(file, row)
            else:
                tally.drop(str(row[column]), "dedup: a near-duplicate")
                write_row(dropped, {**row, "dropped": "dedup: a near-duplicate"})
    first.unlink()


def _tidy(out: Path) -> None:
    """Remove what only a continued filtering needs: the files of this one's steps, those of other settings too."""
    for folder in (out / "steps").glob("filter-*"):
        shutil.rmtree(folder)
    (out / BEGUN).unlink()
    with contextlib.suppress(OSError):
        (out / "steps").rmdir()


# each filter by itself ----------------------------------------------------------------------


def audit(rows: Iterable[Row], filters: Sequence[Filter], asked: Asked) -> dict[str, Any]:
    """Every filter on the first pages as they came: kept share, overlap of drops, and agreement with human labels.

    overlap: of the pages that the row's filter drops, the share that the column's drops too. agreement: area under
    the ROC curve of keeping, with its 95 % interval; of a rule, which only keeps or drops, that is the mean of the
    shares of good pages kept and of others dropped.
    """
    some = [row for row in itertools.islice(iter(rows), asked.audited) if 0 < len(row.page.text) <= LONGEST]
    names = [one.name for one in filters]
    keeps = {one.name: np.array([not isinstance(one(row.page), str) for row in some]) for one in filters}
    keeps["all together"] = np.array([through(filters, row.page)[0] is not None for row in some])
    out: dict[str, Any] = {
        "pages": len(some),
        "kept": {name: float(keep.mean()) if len(some) else None for name, keep in keeps.items()},
        "overlap": [[_overlap(keeps[a], keeps[b]) for b in names] for a in names],
    }
    good = np.array([row.good is not None and row.good for row in some], dtype=bool)
    known = np.array([row.good is not None for row in some], dtype=bool)
    if known.any() and good[known].any() and (~good[known]).any():
        out["labels"] = {"good": int(good[known].sum()), "others": int((~good[known]).sum())}
        out["agreement"] = {name: list(auc(keep[known].astype(float), good[known])) for name, keep in keeps.items()}
        texts = [row.page.text for row, there in zip(some, known, strict=True) if there]
        out["agreement"] |= _learned(lambda: list(auc(cross_scores(texts, good[known].tolist()), good[known])))
    return out


def _learned(score: Callable[[], list[float]]) -> dict[str, list[float]]:
    try:
        return {"classifier, 5-fold": score()}
    except DataError:  # too few of a kind in some fold
        return {}


def _overlap(first: Any, second: Any) -> float | None:
    drops = ~first
    return float((drops & ~second).sum() / drops.sum()) if drops.any() else None


# for people ---------------------------------------------------------------------------------


def _finish(record: Mapping[str, Any], out: Path) -> None:
    from mnemos.report.plot_filters import kept_bars
    from mnemos.report.plot_laws import page

    write_json(out / "filter.json", record)
    figure = kept_bars(record)
    text = page("What filters kept", [figure] if figure else [], "\n".join(lines(record)))
    write_text(out / "filter.html", text)


def lines(record: Mapping[str, Any]) -> list[str]:
    """What was kept and dropped."""
    pages = max(1, record["pages"])
    share = 100 * record["characters_kept"] / max(1, record["characters"])
    out = [
        f"{record['kept']:,} of {record['pages']:,} pages kept ({100 * record['kept'] / pages:.1f} %), "
        f"{share:.1f} % of the characters; {record['changed']:,} of them changed"
    ]
    out += [f"  bad row, {reason}: {count:,}" for reason, count in record["bad_rows"].items()]
    out += [f"  {count:>8,}  {reason}" for reason, count in record["reasons"].items()]
    for what, found in record["by"].items():
        if [row["name"] for row in found] not in ([], ["unknown"]):
            cells = "; ".join(f"{row['name']} {row['kept']:,} of {row['pages']:,}" for row in found)
            out.append(f"kept by {what}: {cells}")
    return [*out, *_audit_lines(record["audit"])]


def _audit_lines(found: Mapping[str, Any]) -> list[str]:
    out = [f"each filter by itself, {found['pages']:,} pages: share kept" + _agreement_head(found)]
    for name, kept in found["kept"].items():
        out.append(f"  {name:<22}{'–' if kept is None else f'{100 * kept:.1f} %':>8}{_agreement(found, name)}")
    for name in found.get("agreement", {}):
        if name not in found["kept"]:
            out.append(f"  {name:<22}{'':>8}{_agreement(found, name)}")
    names = [name for name in found["kept"] if name != "all together"]
    if len(names) > 1:
        out.append("of what the row drops, the share that the column drops too")
        out.append(f"  {'':<22}" + "".join(f"{name[:18]:>20}" for name in names))
        for name, row in zip(names, found["overlap"], strict=True):
            cells = "".join(f"{'–' if value is None else f'{100 * value:.0f} %':>20}" for value in row)
            out.append(f"  {name:<22}{cells}")
    return out


def _agreement_head(found: Mapping[str, Any]) -> str:
    if "labels" not in found:
        return ""
    good, others = found["labels"]["good"], found["labels"]["others"]
    return f", and agreement with {good} good and {others} other pages (area under the ROC curve)"


def _agreement(found: Mapping[str, Any], name: str) -> str:
    if name not in found.get("agreement", {}):
        return ""
    area, low, high = found["agreement"][name]
    return f"   {area:.3f} [{low:.3f}, {high:.3f}]"
