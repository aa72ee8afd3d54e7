"""What `mnemos data filter` does with one file of pages: a step of an engine, which others stand beside.

A file that is done has its completion marker (the step's done.json), so that a killed filtering goes on with the files
that are left, whichever engine had worked on the others. What looks at all files together, deduplication, comes after
(`study.commands.filter`).
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.progress import counting, doing
from mnemos.sources.bad_row import RowError
from mnemos.sources.dedup import Contamination
from mnemos.sources.filters.other import HEAD, Perplexity, character_model
from mnemos.sources.filters.page import Filter, Page, through
from mnemos.sources.filters.presets import made
from mnemos.sources.language import language_identifier
from mnemos.sources.plain import texts_at
from mnemos.sources.read import LocalFile, Part, read
from mnemos.study.steps import NamedStep

AUDITED = 2000
"""Pages, the first ones, on which every filter is tried by itself."""
SHOWN, MOST_NAMES = 12, 100_000
"""Domains and languages that are listed, and that are counted at most."""
KEPT, DROPPED, MARKS = "kept.jsonl.gz", "dropped.jsonl.gz", "marks.jsonl.gz"
"""What a step leaves: rows that passed, rows that did not with their reason, and of each that passed its language,
domain and whether a filter changed it."""


@dataclass(frozen=True)
class Asked:
    """What is done. filters: names and presets. settings: "filter.setting" -> value. dedup: of `DEDUP`. against: files
    of suite items that must not be in the text. reference: text whose like perplexity keeps. classifiers: files of
    `study.commands.classifier`. text, url, label: columns."""

    filters: tuple[str, ...] = ("fineweb",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    language: str | None = None
    dedup: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    reference: str | None = None
    classifiers: tuple[str, ...] = ()
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


class Reading:
    """Rows as pages, bad ones counted; may be read again."""

    def __init__(self, parts: Sequence[Part], asked: Asked) -> None:
        self.parts, self.asked = parts, asked
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


def parts_of(location: str) -> tuple[Part, ...]:
    """The files or data sets of pages at a location. Raises DataError where there are none."""
    return read(location, format="text", columns=None).parts


def steps_of(parts: tuple[Part, ...], asked: Asked) -> list[PartStep]:
    """A step for each file; one for all where only so many rows are read, which lie at the beginning."""
    if asked.limit is not None or not all(isinstance(part, LocalFile) for part in parts):
        return [PartStep(parts, asked)]
    return [PartStep((part,), asked) for part in parts]


@dataclass(frozen=True)
class PartStep(NamedStep):
    """Pages of one file through the filters, each by itself."""

    parts: tuple[Part, ...]
    asked: Asked
    needs: tuple[str, ...] = ()
    every_process = False

    @property
    def title(self) -> str:
        """The file's name."""
        first = self.parts[0]
        name = first.path.name if isinstance(first, LocalFile) else "pages"
        return f"{name}: filter"

    def _key(self) -> str:
        from mnemos.measure.manifest import versions

        # What is looked at over all files, and in the driver, is no part of it.
        own = replace(self.asked, dedup=(), audited=0)
        others = [texts_at(one).source for one in (*own.against, own.reference) if one is not None]
        learned = [file_fingerprint(one) for one in own.classifiers]
        return "filter-" + fingerprint([self.parts, own, others, learned, versions()])

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Write KEPT, DROPPED and MARKS; the counts are what done.json keeps."""
        rows, filters = Reading(self.parts, self.asked), filters_of(self.asked)
        contamination = _contamination(self.asked)
        tally = Tally()
        doing("filtering")
        with (
            opened(directory / KEPT) as kept,
            opened(directory / DROPPED) as dropped,
            opened(directory / MARKS) as marks,
            counting(0, "pages") as count,
        ):
            for row in rows:
                page, reason = through(filters, row.page)
                if page is not None and contamination is not None and contamination.hits(page.text):
                    page, reason = None, "contamination: holds words of a suite"
                names = tally.add(row.page, page, reason)
                if page is None:
                    write_row(dropped, {**row.value, "dropped": reason})
                else:
                    write_row(kept, {**row.value, self.asked.text: page.text})
                    write_row(marks, [*names, page.text != row.page.text])
                count.to(tally.pages)
        return {"bad": dict(rows.bad), "tally": vars(tally)}


def _contamination(asked: Asked) -> Contamination | None:
    if not asked.against:
        return None
    return Contamination(text for location in asked.against for text in texts_at(location))


def filters_of(asked: Asked) -> list[Filter]:
    """The filters asked for, and those that learn from other text first. Raises UsageError for an unknown one."""
    found = made(asked.filters, asked.settings, asked.language)
    # With their content: a process filters several files, and learns or reads once.
    content = [] if asked.reference is None else [texts_at(asked.reference).source.fingerprint]
    content += [file_fingerprint(one) for one in asked.classifiers if Path(one).is_file()]
    found += _taught(asked.reference, asked.classifiers, tuple(content))
    names = Counter(one.name for one in found)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UsageError(
            f"classifiers of {twice!r}", "there is another filter of that name", "train it on another label"
        )
    return found


@lru_cache(maxsize=1)
def _taught(reference: str | None, classifiers: tuple[str, ...], content: tuple[str, ...]) -> tuple[Filter, ...]:
    found: list[Filter] = [] if reference is None else [Perplexity(character_model(texts_at(reference)))]
    if classifiers:
        from mnemos.study.commands.classifier import load_filter

        found += [load_filter(one) for one in classifiers]
    return tuple(found)


def opened(path: Path, mode: str = "wt") -> IO[str]:
    """A packed file to write rows into."""
    return cast("IO[str]", gzip.open(path, mode, encoding="utf-8", compresslevel=3))


def lines_of(path: Path) -> Iterator[Any]:
    """The JSON values of a packed file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def write_row(file: IO[str], row: Mapping[str, Any] | list[Any]) -> None:
    """One line."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair in somebody's JSON: only escapes can hold it
        text = json.dumps(row, default=str)
    file.write(text + "\n")


@dataclass
class Tally:
    """Counts of pages and characters, by reason, language and domain."""

    pages: int = 0
    kept: int = 0
    characters: int = 0
    characters_kept: int = 0
    changed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    by: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {"language": {}, "domain": {}})

    def add(self, before: Page, after: Page | None, reason: str) -> list[str]:
        """One page; returns its language and domain."""
        self.pages += 1
        self.characters += len(before.text)
        if after is None:
            self.reasons[reason] += 1
        else:
            self.kept += 1
            self.characters_kept += len(after.text)
            self.changed += after.text != before.text
        head = before.text[:HEAD]
        language = language_identifier(()).classify(head)[0] if head.strip() else "none"
        names = [language, before.domain or "unknown"]
        for what, name in zip(self.by, names, strict=True):
            self._count(what, name, 1, int(after is not None))
        return names

    def join(self, other: Mapping[str, Any]) -> None:
        """Add the counts of another part, as `vars` has them."""
        for name in ("pages", "kept", "characters", "characters_kept", "changed"):
            setattr(self, name, getattr(self, name) + other[name])
        self.reasons.update(other["reasons"])
        for what, found in other["by"].items():
            for name, (pages, kept) in found.items():
                self._count(what, name, pages, kept)

    def _count(self, what: str, name: str, pages: int, kept: int) -> None:
        # Whoever writes pages chooses how many domains there are.
        if name in self.by[what] or len(self.by[what]) < MOST_NAMES:
            counts = self.by[what].setdefault(name, [0, 0])
            counts[0] += pages
            counts[1] += kept

    def shorten(self, before: str, after: str, marks: Sequence[Any]) -> None:
        """A page that was counted as kept has lost paragraphs. marks: what stands in MARKS of it."""
        self.characters_kept -= len(before) - len(after)
        self.changed += not marks[-1]

    def drop(self, text: str, reason: str, marks: Sequence[Any] | None = None) -> None:
        """A page that was counted as kept goes after all. Without marks, shares by language and domain, and how many
        were changed, are those before."""
        self.kept -= 1
        self.characters_kept -= len(text)
        self.reasons[reason] += 1
        if marks is not None:
            *names, changed = marks
            self.changed -= changed
            for what, name in zip(self.by, names, strict=True):
                if name in self.by[what]:
                    self.by[what][name][1] -= 1

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
