"""Reading a user's data: find the files, say which format they are in, give examples one by one."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.nouns import Example, Source
from mnemos.sources.bad_row import RowError
from mnemos.sources.files import SUFFIXES, Raw, count_rows, data_files, is_table, is_text, rows_of, text_unit
from mnemos.sources.formats import COLUMNS, FORMATS, detect, example_of
from mnemos.sources.generated import inside
from mnemos.sources.hub import HubDataset, SavedDataset, is_saved
from mnemos.sources.speech import HEARD, SPEECH, metadata_files, sound_paths, sound_prints, spoken
from mnemos.sources.thumbs import ASKED, Labels, labels_of, unclear
from mnemos.sources.tools import COLUMNS as BESIDE

SAMPLE = 20
"""Rows that the format is detected from."""

ORDER = ("system", "history", "instruction", "input", "output", "prompt", "completion")
"""Columns in the order in which people name them."""

MOST_SOUNDS = 16
"""Sources of which is kept which sounds their rows name."""

_SOUNDS: dict[tuple[str, str], tuple[str, ...]] = {}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]+)?")


def read(
    location: str,
    *,
    format: str | None = None,
    name: str | None = None,
    limit: int | None = None,
    on_bad: Literal["stop", "skip"] = "stop",
    columns: Mapping[str, str] | None = None,
    split: str = "train",
) -> FileSource:
    """The rows at `location`, lazily.

    location: a file (JSON Lines, JSON array, Parquet, .txt; gzipped or not), a folder of such
    files, a folder written by `datasets.Dataset.save_to_disk`, or a hub id (``owner/name`` or
    ``owner/name:configuration``).
    format: a name in `formats.FORMATS`; None detects it from the columns of the first rows.
    name: what people call it; the file's name by default. limit: read only so many rows.
    on_bad: "stop" raises at the first bad row, "skip" leaves it out and counts it by reason.
    columns: our column name -> the file's, ``{"prompt": "en", "completion": "zh"}``.
    split: which part of a folder or hub data set.

    Raises UsageError for settings that cannot be meant and DataError when nothing is there; bad
    rows raise DataError (file, line, what was expected, cure) when they are read.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"format = {format!r}", "is not a known format", nearest(format, FORMATS))
    if limit is not None and limit < 1:
        raise UsageError(f"limit = {limit}", "must be at least 1", "leave it out to read every row")
    if on_bad not in ("stop", "skip"):
        raise UsageError(f"on_bad = {on_bad!r}", "must be stop or skip", nearest(on_bad, ("stop", "skip")))
    for column in columns or ():
        if column not in COLUMNS:
            raise UsageError(f"columns: {column}", "is not a column that any format reads", nearest(column, COLUMNS))
    source = FileSource(location, format, name, limit, on_bad, dict(columns or {}), split)
    source.parts  # noqa: B018 - nothing there is said now, not after an hour of training
    return source


@dataclass(frozen=True)
class LocalFile:
    """One file. label: how messages call it. stem: what the ids of its rows begin with."""

    path: Path
    label: str
    stem: str

    @property
    def fingerprint(self) -> str:
        """Of its bytes and the name that ids begin with."""
        return fingerprint([self.stem, file_fingerprint(self.path)])

    def rows(self) -> Iterator[Raw]:
        """Its rows as they stand there."""
        return rows_of(self.path, self.label, self.stem)

    def count(self) -> int:
        """How many rows there are, good or bad."""
        return count_rows(self.path, self.label)


Part = LocalFile | SavedDataset | HubDataset


@dataclass(frozen=True)
class FileSource:
    """Examples at one location; made by `read`, whose arguments its fields are.

    counts: filled anew by every pass: "rows" given, and skipped rows by reason.
    """

    location: str
    asked_format: str | None
    name: str | None
    limit: int | None
    on_bad: Literal["stop", "skip"]
    columns: Mapping[str, str] = field(hash=False)
    split: str
    counts: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The files or data sets at the location. Raises DataError when there are none."""
        path = Path(self.location).expanduser()
        if path.is_dir():
            if is_saved(path):
                return (SavedDataset(path, self.split),)
            found = metadata_files(path, self.split) or data_files(path, self.split)
            return tuple(LocalFile(file, str(file), str(file.relative_to(path)).split(".")[0]) for file in found)
        if path.is_file():
            return (LocalFile(path, self.location, path.name.split(".")[0] or path.name),)
        if path.exists():
            bound = "is a pipe or a device, which cannot be read again"
            raise DataError(self.location, bound, "save its rows in a file")
        if _HUB_ID.fullmatch(self.location) and not self.location.removesuffix(".gz").endswith(SUFFIXES):
            return (HubDataset(self.location, self.split),)
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        cure = nearest(path.name, near) if near else f"there is no folder {path.parent} either"
        raise DataError(self.location, "does not exist", cure if len(cure) < 200 else "check the path")

    @property
    def fingerprint(self) -> str:
        """Of the content of the files (a hub data set: of its commit), of the sounds that their rows name, and every
        setting but `name`."""
        settings = [self.asked_format, self.limit, self.on_bad, self.columns]
        made: dict[str, Any] = {"read": [part.fingerprint for part in self.parts], "settings": settings}
        if self._is_speech:
            made["sounds"] = sound_prints(self._sound_paths(fingerprint([made, self.split])))
        return fingerprint(made)

    def _sound_paths(self, content: str) -> tuple[str, ...]:
        """The files that the rows name. content: of the rows, whose fingerprint is asked for more often than they are
        worth reading; the sounds themselves are looked at each time."""
        name = (self.location, content)
        if name not in _SOUNDS:
            while len(_SOUNDS) >= MOST_SOUNDS:
                del _SOUNDS[next(iter(_SOUNDS))]
            rows = (raw.value for raw in itertools.islice(self._raws(), self.limit))
            _SOUNDS[name] = tuple(sound_paths(rows))
        return _SOUNDS[name]

    @cached_property
    def _is_speech(self) -> bool:
        try:
            rows = [raw.value for raw in self._sample if not isinstance(raw.value, RowError)]
        except DataError:
            return False  # whoever reads the rows says what is wrong with them
        return self.asked_format in (None, SPEECH, HEARD, "messages") and bool(sound_paths(rows))

    @cached_property
    def format(self) -> str:
        """The name of the rows' format. Raises DataError when the columns fit none."""
        if self.asked_format:
            return self.asked_format
        sample = [dict(raw.value) for raw in self._sample if not isinstance(raw.value, RowError)]
        # Where not all agree, the first row says what the others should have been.
        first = [row for row in sample if self.on_bad == "stop" or detect([row])][:1]
        labels = self.labels
        found = detect(sample, labels) or detect(first, labels)
        if found and labels == "ask" and (met := unclear(sample)):
            raise DataError(f"{self.location}: label = {met}", *ASKED)
        if found is None:
            bad = next((raw.value for raw in self._sample if isinstance(raw.value, RowError)), None)
            if bad is not None and not sample:
                raise bad
            there = ", ".join(sorted({key for row in sample for key in row})) or "none"
            known = "; ".join(f"{name} ({_needs(name)})" for name in FORMATS)
            raise DataError(
                f"{self.location}: columns {there}",
                "fit no format",
                f"formats: {known}. Name them, for example columns: {_guess(sample)}",
            )
        return found

    @cached_property
    def labels(self) -> Labels:
        """What a label that is no boolean says; see `sources.thumbs`."""
        if self.asked_format == "label" or "label" in self.columns:
            return "thumb"
        sample = [raw.value for raw in self._sample if not isinstance(raw.value, RowError)]
        return "class" if self.asked_format else labels_of(sample)

    def describe(self) -> str:
        """Like ``data.jsonl: 1,200 rows, alpaca (instruction, input, output)``."""
        short = self.location if isinstance(self.parts[0], HubDataset) else Path(self.location).name
        title = short if self.name in (None, short) else f"{self.name} ({short})"
        rows = sum(part.count() for part in self.parts)
        count = f"{rows:,} row{'' if rows == 1 else 's'}"
        if self.limit is not None and self.limit < rows:
            count = f"first {self.limit:,} of {count}"
        form = FORMATS[self.format]
        there = {key for raw in self._sample if not isinstance(raw.value, RowError) for key in raw.value}
        read = [c for c in _ordered(form.needs, form.takes | BESIDE) if c in there]
        text = [f"{c} = {self.columns[c]}" if c in self.columns else c for c in read]
        units = {text_unit(part.path) for part in self.parts if isinstance(part, LocalFile) and is_text(part.path)}
        per = f", one a {' or '.join(sorted(units))}" if units else ""
        return f"{title}: {count}{per}, {self.format} ({', '.join(text)})"

    def __iter__(self) -> Iterator[Example]:
        self.counts.clear()
        seen: dict[str, str] = {}
        good = 0
        for raw in self._raws():
            if self.limit is not None and good >= self.limit:
                break
            try:
                example = example_of(raw, self.format, self.labels)
                if example.id in seen:
                    raise RowError(
                        "duplicate id",
                        f"{raw.where}: id = {example.id!r}",
                        f"was already used at {seen[example.id]}",
                        "make ids unique or leave the column out",
                    )
            except RowError as problem:
                if self.on_bad == "stop":
                    raise
                self.counts[problem.reason] += 1
                continue
            if example.id != raw.id:
                seen[example.id] = raw.where
            good += 1
            self.counts["rows"] = good
            yield example
        if good == 0:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in self.counts.items()) or "it is empty"
            raise DataError(self.location, f"gives no row to learn from ({reasons})", "look at the first rows")

    @cached_property
    def _sample(self) -> tuple[Raw, ...]:
        return tuple(itertools.islice(self._raws(), SAMPLE))

    def _raws(self) -> Iterator[Raw]:
        """Rows with the columns under our names."""
        for part in self.parts:
            folder = part.path.parent if isinstance(part, LocalFile) else None
            named = isinstance(part, LocalFile) and is_table(part.path)
            for raw in part.rows():
                if isinstance(raw.value, RowError):
                    yield raw
                    continue
                found = self._renamed(raw) if self.columns else raw
                if isinstance(found.value, RowError):
                    yield found
                else:
                    yield Raw(found.where, found.id, spoken(found.value, folder, named, found.where))

    def _renamed(self, raw: Raw) -> Raw:
        theirs: Mapping[str, Any] = raw.value  # type: ignore[assignment]
        missing = [column for column in self.columns.values() if column not in theirs]
        if missing:
            problem = RowError(
                f"no {missing[0]}",
                f"{raw.where}: columns {', '.join(theirs) or 'none'}",
                f"has no column {missing[0]!r}, which columns names",
                nearest(missing[0], theirs),
            )
            return Raw(raw.where, raw.id, problem)
        taken = set(self.columns.values())
        value = {key: item for key, item in theirs.items() if key not in taken and key not in self.columns}
        return Raw(raw.where, raw.id, {**value, **{ours: theirs[their] for ours, their in self.columns.items()}})


def skipped(source: Source) -> Counter[str]:
    """Of everything read inside a source, by its last pass: how many rows were skipped, by reason."""
    found: Counter[str] = Counter()
    for one in inside(source):
        if isinstance(one, FileSource):
            found.update({f"skipped: {reason}": n for reason, n in one.counts.items() if reason != "rows"})
    return found


def _guess(rows: Sequence[Mapping[str, Any]]) -> str:
    """A `columns` setting that may be what was meant, from names that data sets often use."""
    there = set(rows[0]) if rows else set()
    asked = next((name for name in _ASKED if name in there), None)
    answered = next((name for name in _ANSWERED if name in there and name != asked), None)
    if asked is None and answered is None and len(there) == 1:
        return f"{{text: {min(there)}}}"
    return f"{{prompt: {asked or 'THEIR_NAME'}, completion: {answered or 'THEIR_NAME'}}}"


_ASKED = ("prompt", "instruction", "question", "query", "input", "source", "problem", "goal", "sentence", "src")
_ANSWERED = ("completion", "output", "answer", "response", "target", "solution", "intent", "summary", "label", "tgt")


def _needs(name: str) -> str:
    return " or ".join(" + ".join(sorted(need)) for need in FORMATS[name].needs)


def _ordered(needs: tuple[frozenset[str], ...], takes: frozenset[str]) -> list[str]:
    natural = dict.fromkeys([*ORDER, *sorted(COLUMNS)])
    return [column for column in natural if column in frozenset().union(*needs) | takes]
