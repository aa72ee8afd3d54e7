"""Rows out of files, as they stand there: JSON Lines, a JSON array, Parquet, CSV, plain text; gzipped or not.

Streaming and repeatable. What a row means is the affair of `formats`.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from mnemos.core.errors import DataError
from mnemos.core.inputs import Signature, signature
from mnemos.sources import json_rows
from mnemos.sources.arrow import as_written
from mnemos.sources.bad_row import RowError
from mnemos.sources.json_rows import MAX_ROW_BYTES, bounded, not_utf8, too_long

SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".txt", ".csv")
"""File names that a folder of data is searched for; each but Parquet may end in .gz."""

_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation"}
_SPLITS |= {"val": "validation", "dev": "validation", "eval": "validation"}
_CHUNK = 1 << 20

MOST_UNZIPPED = 250
"""How many times its size a gzip file may hold: a thousand is what nothing but zeros comes to."""
_UNZIPPED_AT_LEAST = 64 << 20
_PARQUET_ROWS = 256


@dataclass(frozen=True, slots=True)
class Raw:
    """One row. where: file and line, for people. id: the row's name when it has none of its own."""

    where: str
    id: str
    value: Mapping[str, Any] | RowError


def rows_of(path: Path, label: str, stem: str) -> Iterator[Raw]:
    """The rows of one file. label: how messages call it. stem: what ids begin with.

    The kind is read from the content (gzip and Parquet by their first bytes, an array by its
    bracket), plain text from the name .txt; see `text_unit` for its rows.
    Raises DataError for an empty, damaged or binary file; a bad row is yielded, not raised.
    """
    if _is_parquet(path, label):
        yield from _parquet(path, label, stem)
        return
    with opened(path, label) as stream:
        head = stream.peek(4096)[:4096]
        _refuse_odd(head, label)
        if is_table(path):
            yield from _table(stream, label, stem)
        elif is_text(path):
            yield from _paragraphs(stream, label, stem, text_unit(path))
        elif head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n") as text:
                for number, (line, value) in enumerate(json_rows.array(text, label), 1):
                    yield Raw(f"{label}:{line}", f"{stem}:{number}", value)
        else:
            for number, value in json_rows.lines(stream, label):
                yield Raw(f"{label}:{number}", f"{stem}:{number}", value)


def count_rows(path: Path, label: str) -> int:
    """How many rows `rows_of` would give, without parsing them where that can be known; counted again only where size
    or times of the file changed."""
    try:
        signed = signature(path)
    except OSError:  # whoever opens it says what is wrong
        signed = None
    return _counted(path, label, signed)


@lru_cache(maxsize=4096)
def _counted(path: Path, label: str, signed: Signature | None) -> int:
    """signed: part of the cache's key."""
    if _is_parquet(path, label):
        return int(_parquet_file(path, label).metadata.num_rows)
    with opened(path, label) as stream:
        jsonl = stream.peek(4096)[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"["
        if jsonl and not is_text(path) and not is_table(path):
            return sum(1 for line in bounded(stream) if line is None or not line.isspace())
    return sum(1 for _ in rows_of(path, label, ""))


def is_text(path: Path) -> bool:
    """Whether the file is plain text by its name."""
    return path.name.removesuffix(".gz").endswith(".txt")


def is_table(path: Path) -> bool:
    """Whether the file is comma-separated values by its name."""
    return path.name.removesuffix(".gz").endswith(".csv")


def text_unit(path: Path) -> str:
    """What a row of a text file is: a "paragraph" where blank lines part the text, else a "line"."""
    with opened(path) as stream:
        return "paragraph" if any(line is not None and line.isspace() for line in bounded(stream)) else "line"


def data_files(folder: Path, split: str) -> list[Path]:
    """The data files of a folder that belong to `split`: by the word train, test, … in their path,
    or all of them when no path says any split. Raises DataError when there is none."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and _is_data(p.relative_to(folder))]
    if not found:
        names = ", ".join(SUFFIXES)
        raise DataError(f"{folder}", f"holds no data files ({names}, or .gz of these)", "name a file or another folder")
    splits = {path: _split_of(path.relative_to(folder)) for path in found}
    if all(text is None for text in splits.values()):
        return found
    chosen = [path for path, text in splits.items() if text == _SPLITS.get(split, split)]
    if not chosen:
        there = ", ".join(sorted({text for text in splits.values() if text}))
        raise DataError(f"{folder}", f"has no split {split!r}", f"splits there: {there}")
    return chosen


def _is_data(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts) and path.name.removesuffix(".gz").endswith(SUFFIXES)


def _split_of(path: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(path.with_name(path.name.split(".")[0])).lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), None)


def opened(path: Path, label: str = "") -> io.BufferedReader:
    """The file's bytes, unpacked where it is gzipped. Raises DataError where it cannot be read, when it turns out
    to be damaged, and when it unpacks to far more than it could hold."""
    raw = _raw(path, label)
    if raw.peek(2)[:2] != b"\x1f\x8b":
        return raw
    raw.close()
    return io.BufferedReader(_Unzipped(path, label or str(path)), _CHUNK)


def _raw(path: Path, label: str) -> io.BufferedReader:
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            # Opening a pipe that nobody writes to would wait for ever.
            raise DataError(label or str(path), "is a pipe or a device, no file", "save its rows in a file")
        return open(path, "rb")
    except OSError as error:
        raise DataError(
            label or str(path), f"cannot be read ({error.strerror})", "check the path and its permissions"
        ) from None


def _is_parquet(path: Path, label: str) -> bool:
    with _raw(path, label) as file:
        return file.peek(4)[:4] == b"PAR1"


class _Unzipped(io.RawIOBase):
    """A gzip file's content as it is needed. DataError where it grows beyond what text can be packed to."""

    def __init__(self, path: Path, label: str) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed below
        self._bound = max(_UNZIPPED_AT_LEAST, MOST_UNZIPPED * path.stat().st_size)
        self._label, self._given = label, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(min(len(buffer), _CHUNK))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(self._label, f"is a damaged gzip file ({error})", "copy or download it again") from None
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given > self._bound:
            raise DataError(
                self._label,
                f"unpacks to more than {MOST_UNZIPPED} times its size, which no text does",
                "unpack it yourself if you trust it",
            )
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _refuse_odd(head: bytes, label: str) -> None:
    if not head.strip():
        begins = "begins with 4,096 bytes of white space" if len(head) == 4096 else "is empty"
        raise DataError(label, begins, "give a file with at least one row")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(label, "is UTF-16, not UTF-8", "convert it: iconv -f utf-16 -t utf-8 IN > OUT")


def _table(stream: IO[bytes], label: str, stem: str) -> Iterator[Raw]:
    """Rows of comma-separated values under the names of the first line (RFC 4180). An empty cell is no value."""
    reader = csv.DictReader(_text_lines(stream, label), strict=True)
    try:
        for number, row in enumerate(reader, 1):
            where = f"{label}:{reader.line_num}"
            if None in row or None in row.values():
                bound = f"has another number of cells than the {len(reader.fieldnames or ())} names of line 1"
                yield Raw(where, f"{stem}:{number}", RowError("ragged row", where, bound, "quote commas in cells"))
            else:
                yield Raw(where, f"{stem}:{number}", {name: cell for name, cell in row.items() if cell != ""})
    except csv.Error as error:
        # The reader is lost behind it: what is a row and what is not can no longer be told.
        bound = f"cannot be read as comma-separated values ({error})"
        raise DataError(f"{label}:{reader.line_num + 1}", bound, "save it as UTF-8 CSV") from None


def _text_lines(stream: IO[bytes], label: str) -> Iterator[str]:
    """Lines with their ends. Raises the error of the first one that is no text or longer than a row may be."""
    for number, line in enumerate(bounded(stream), 1):
        where = f"{label}:{number}"
        if line is None:
            raise too_long(where)
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(where, error) from None


def _paragraphs(stream: IO[bytes], label: str, stem: str, unit: str) -> Iterator[Raw]:
    lines: list[str] = []
    start, size, bad = 1, 0, None
    for number, raw in enumerate(itertools.chain(bounded(stream), [b""]), 1):
        line, broken = _line(raw, f"{label}:{number}", first=number == 1)
        if lines and (not line.strip() or unit == "line"):
            yield Raw(f"{label}:{start}", f"{stem}:{start}", bad or {"text": "".join(lines).rstrip("\n")})
            lines, size, bad = [], 0, None
        if line.strip():
            start = start if lines else number
            size += len(line)
            bad = bad or broken or (too_long(f"{label}:{start}") if size > MAX_ROW_BYTES else None)
            if bad:
                lines.clear()  # Nothing of it is needed but that it is there.
            lines.append(line)


def _line(raw: bytes | None, where: str, *, first: bool) -> tuple[str, RowError | None]:
    if raw is None:
        return "?", too_long(where)
    try:
        return raw.decode("utf-8-sig" if first else "utf-8").replace("\r\n", "\n"), None
    except UnicodeDecodeError as error:
        return "?", not_utf8(where, error)


def _parquet_file(path: Path, label: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(label, f"is a damaged Parquet file ({error})", "copy or download it again") from None


def _parquet(path: Path, label: str, stem: str) -> Iterator[Raw]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    with _parquet_file(path, label) as plain:
        texts = _texts(plain.schema)
    try:
        # A dictionary of one long text can be named by every row: left as a dictionary, it is unpacked row by row.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                sizes = _unpacked(batch)
                whole = sum(sizes) <= MAX_ROW_BYTES
                for row in [batch] if whole else [batch.slice(i, 1) for i in range(len(batch))]:
                    small = whole or _unpacked(row)[0] <= MAX_ROW_BYTES
                    for value in row.to_pylist() if small else [None]:
                        number += 1
                        where = f"{label}, row {number:,}"
                        yield Raw(where, f"{stem}:{number}", too_long(where) if value is None else as_written(value))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(label, f"is a damaged Parquet file ({error})", "copy or download it again") from None


def _texts(schema: Any) -> list[str]:
    """Columns of texts and bytes that stand by themselves, which pyarrow can leave as dictionaries."""
    columns = [schema.column(i) for i in range(len(schema))]
    return [one.path for one in columns if one.physical_type == "BYTE_ARRAY" and "." not in one.path]


def _unpacked(batch: Any) -> list[int]:
    """Bytes of each row, the texts of dictionaries as often as they are named; other columns in equal parts."""
    import pyarrow
    import pyarrow.compute

    rest, rows = 0, [0] * len(batch)
    for column in batch.columns:
        if isinstance(column, pyarrow.DictionaryArray):
            lengths = pyarrow.compute.binary_length(column.dictionary).take(column.indices).to_pylist()
            rows = [size + (length or 0) for size, length in zip(rows, lengths, strict=True)]
        else:
            rest += column.nbytes
    return [size + rest // max(1, len(batch)) for size in rows]
