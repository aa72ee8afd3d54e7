"""`mnemos data filter`: pages through filters and deduplication, with what each of them did."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.measure.auc import auc
from mnemos.sources.bad_row import RowError
from mnemos.sources.dedup import Contamination, Exact, Paragraphs, minhash_groups
from mnemos.sources.filters.classifier import cross_scores, learn
from mnemos.sources.filters.other import HEAD, Perplexity, Scored, character_model
from mnemos.sources.filters.page import LONGEST, Filter, Page, through
from mnemos.sources.filters.presets import made
from mnemos.sources.language import language_identifier
from mnemos.sources.plain import texts_at
from mnemos.sources.read import read

AUDITED = 2000
"""Pages, the first ones, on which every filter is tried by itself."""
SHOWN = 12
"""Domains and languages that are listed."""
DEDUP = ("exact", "paragraphs", "minhash")


@dataclass(frozen=True)
class Asked:
    """What is done. filters: names and presets. settings: "filter.setting" -> value. dedup: of `DEDUP`. against: files
    of suite items that must not be in the text. reference: text whose like perplexity keeps. labelled: rows with text
    and label that the classifier learns from. text, url, label: columns."""

    filters: tuple[str, ...] = ("fineweb",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    language: str | None = None
    dedup: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    reference: str | None = None
    labelled: str | None = None
    text: str = "text"
    url: str = "url"
    label: str | None = None
    limit: int | None = None
    audited: int = AUDITED


@dataclass(frozen=True)
class Row:
    """A page with its row and its human label, if it has one."""

    page: Page
    value: Mapping[str, Any]
    good: bool | None


class _Reading:
    """Rows of a location as pages, bad ones counted; may be read again."""

    def __init__(self, location: str, asked: Asked) -> None:
        self.parts = read(location, format="text", columns=None).parts
        self.asked, self.location = asked, location
        self.bad: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Row]:
        self.bad.clear()
        raws = (raw for part in self.parts for raw in part.rows())
        for raw in itertools.islice(raws, self.asked.limit):
            value = raw.value
            if isinstance(value, RowError):
                self.bad[value.reason] += 1
                continue
            text = value.get(self.asked.text)
            if not isinstance(text, str):
                self.bad[f"no text in {self.asked.text!r}"] += 1
                continue
            yield Row(Page(text, str(value.get(self.asked.url) or "")), value, self._label(value))

    def _label(self, value: Mapping[str, Any]) -> bool | None:
        found = value.get(self.asked.label) if self.asked.label else None
        return bool(found) if found in (0, 1) else None


def filter_pages(location: str, out: Path, asked: Asked) -> dict[str, Any]:
    """Filter the pages at a location into out/pages.jsonl.gz; what was dropped, and why, into out/dropped.jsonl.gz.

    Pages stream: memory holds hashes of them where deduplication is asked for. Raises DataError where no page is
    left, UsageError for what cannot be meant. Returns the record that filter.json holds.
    """
    _check(asked, out)
    rows = _Reading(location, asked)
    filters = [*made(asked.filters, asked.settings, asked.language), *_taught(asked)]
    out.mkdir(parents=True, exist_ok=True)
    tally = _Tally()
    dropped = out / "dropped.jsonl.gz"
    first = out / ("filtered.jsonl.gz" if "minhash" in asked.dedup else "pages.jsonl.gz")
    with _opened(dropped) as dropped_file:
        with _opened(first) as kept_file:
            for row, page, reason in _through(rows, filters, asked):
                tally.add(row.page, page, reason)
                if page is None:
                    _write(dropped_file, {**row.value, "dropped": reason})
                else:
                    _write(kept_file, {**row.value, asked.text: page.text})
        if "minhash" in asked.dedup:
            _near(first, out / "pages.jsonl.gz", asked.text, tally, dropped_file)
    record = {**tally.record(), "bad_rows": dict(rows.bad), "filters": [one.name for one in filters],
              "dedup": list(asked.dedup), "audit": audit(rows, filters, asked)}  # fmt: skip
    _finish(record, out)
    if not record["kept"]:
        raise DataError(location, "leaves no page", f"see {out / 'filter.html'} for what dropped them")
    return record


def _check(asked: Asked, out: Path) -> None:
    from mnemos.core.errors import nearest

    wrong = next((one for one in asked.dedup if one not in DEDUP), None)
    if wrong:
        raise UsageError(f"dedup {wrong!r}", "is not known", nearest(wrong, DEDUP))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}", "is there already", "name another place with --out, or remove it")


def _taught(asked: Asked) -> list[Filter]:
    """The filters that learn from other text first."""
    found: list[Filter] = []
    if asked.reference is not None:
        found.append(Perplexity(character_model(texts_at(asked.reference))))
    if asked.labelled is not None:
        texts, good = _labelled(asked.labelled, asked)
        found.append(Scored(learn(texts, good)))
    return found


def _labelled(location: str, asked: Asked) -> tuple[list[str], list[bool]]:
    rows = [row for row in _Reading(location, _with_label(asked)) if row.good is not None]
    return [row.page.text[:LONGEST] for row in rows], [bool(row.good) for row in rows]


def _with_label(asked: Asked) -> Asked:
    from dataclasses import replace

    return replace(asked, label=asked.label or "label", limit=None)


def _through(rows: Iterable[Row], filters: Sequence[Filter], asked: Asked) -> Iterator[tuple[Row, Page | None, str]]:
    """Each row with what is left of it, or the reason that it is gone."""
    exact, paragraphs = Exact(), Paragraphs()
    contamination = _contamination(asked)
    for row in rows:
        page, reason = through(filters, row.page)
        if page is not None and contamination is not None and contamination.hits(page.text):
            page, reason = None, "contamination: holds words of a suite"
        if page is not None and "exact" in asked.dedup and exact.repeats(page.text):
            page, reason = None, "dedup: an exact copy"
        if page is not None and "paragraphs" in asked.dedup:
            text = paragraphs.without(page.text)
            page, reason = (Page(text, page.url), "") if text else (None, "dedup: every paragraph was there")
        yield row, page, reason


def _contamination(asked: Asked) -> Contamination | None:
    if not asked.against:
        return None
    return Contamination(text for location in asked.against for text in texts_at(location))


def _near(first: Path, last: Path, column: str, tally: _Tally, dropped: IO[str]) -> None:
    """Copy what is no near-duplicate of an earlier page."""
    groups = minhash_groups(str(row[column]) for row in _lines(first))
    with _opened(last) as file:
        for at, row in enumerate(_lines(first)):
            if groups[at] == at:
                _write(file, row)
            else:
                tally.drop_kept(str(row[column]), "dedup: a near-duplicate")
                _write(dropped, {**row, "dropped": "dedup: a near-duplicate"})
    first.unlink()


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "wt", encoding="utf-8", compresslevel=3)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def _write(file: IO[str], row: Mapping[str, Any]) -> None:
    text = json.dumps(row, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair in somebody's JSON: only escapes can hold it
        text = json.dumps(row, default=str)
    file.write(text + "\n")


@dataclass
class _Tally:
    """Counts of pages and characters, by reason, language and domain."""

    pages: int = 0
    kept: int = 0
    characters: int = 0
    characters_kept: int = 0
    changed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    by: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {"language": {}, "domain": {}})

    def __post_init__(self) -> None:
        self.identifier = language_identifier(())

    def add(self, before: Page, after: Page | None, reason: str) -> None:
        """One page."""
        self.pages += 1
        self.characters += len(before.text)
        if after is None:
            self.reasons[reason] += 1
        else:
            self.kept += 1
            self.characters_kept += len(after.text)
            self.changed += after.text != before.text
        head = before.text[:HEAD]
        language = self.identifier.classify(head)[0] if head.strip() else "none"
        for what, name in (("language", language), ("domain", before.domain or "unknown")):
            if name in self.by[what] or len(self.by[what]) < 100_000:
                counts = self.by[what].setdefault(name, [0, 0])
                counts[0] += 1
                counts[1] += after is not None

    def drop_kept(self, text: str, reason: str) -> None:
        """A page that was counted as kept goes after all; shares by language and domain are those before."""
        self.kept -= 1
        self.characters_kept -= len(text)
        self.reasons[reason] += 1

    def record(self) -> dict[str, Any]:
        """As JSON."""
        by = {
            what: [{"name": name, "pages": pages, "kept": kept} for name, (pages, kept) in
                   sorted(found.items(), key=lambda one: (-one[1][0], one[0]))[:SHOWN]]
            for what, found in self.by.items()
        }  # fmt: skip
        return {
            "pages": self.pages, "kept": self.kept, "characters": self.characters,
            "characters_kept": self.characters_kept, "changed": self.changed,
            "reasons": dict(self.reasons.most_common()), "by": by,
        }  # fmt: skip


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
