"""Rows out of files, as they stand there: JSON Lines, a JSON array, Parquet, plain text; gzipped or not.

Streaming and repeatable. What a row means is the affair of `formats`.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mnemos.core.errors import DataError
from mnemos.sources.messages import RowError

SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".txt")
"""File names that a folder of data is searched for; each but Parquet may end in .gz."""

_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation"}
_SPLITS |= {"val": "validation", "dev": "validation", "eval": "validation"}
_CHUNK = 1 << 20


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
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        yield from _parquet(path, label, stem)
        return
    try:
        with _opened(path) as stream:
            head = stream.peek(4096)[:4096]
            _refuse_odd(head, label)
            if is_text(path):
                yield from _paragraphs(stream, label, stem, text_unit(path))
            elif head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
                with io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
                    yield from _array(text, label, stem)
            else:
                yield from _lines(stream, label, stem)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(label, f"is a damaged gzip file ({error})", "copy or download it again") from None


def count_rows(path: Path, label: str) -> int:
    """How many rows `rows_of` would give, without parsing them where that can be known."""
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return int(_parquet_file(path, label).metadata.num_rows)
    with _opened(path) as stream:
        jsonl = stream.peek(4096)[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"["
        if jsonl and not is_text(path):
            return sum(1 for line in stream if not line.isspace())
    return sum(1 for _ in rows_of(path, label, ""))


def is_text(path: Path) -> bool:
    """Whether the file is plain text by its name."""
    return path.name.removesuffix(".gz").endswith(".txt")


def text_unit(path: Path) -> str:
    """What a row of a text file is: a "paragraph" where blank lines part the text, else a "line"."""
    with _opened(path) as stream:
        return "paragraph" if any(line.isspace() for line in stream) else "line"


def data_files(folder: Path, split: str) -> list[Path]:
    """The data files of a folder that belong to `split`: by the word train, test, … in their path,
    or all of them when no path says any split. Raises DataError when there is none."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and _is_data(p.relative_to(folder))]
    if not found:
        names = ", ".join(SUFFIXES)
        raise DataError(f"{folder}", f"holds no data files ({names}, or .gz of these)", "name a file or another folder")
    splits = {path: _split_of(path.relative_to(folder)) for path in found}
    if all(said is None for said in splits.values()):
        return found
    chosen = [path for path, said in splits.items() if said == _SPLITS.get(split, split)]
    if not chosen:
        there = ", ".join(sorted({said for said in splits.values() if said}))
        raise DataError(f"{folder}", f"has no split {split!r}", f"splits there: {there}")
    return chosen


def _is_data(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts) and path.name.removesuffix(".gz").endswith(SUFFIXES)


def _split_of(path: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(path.with_name(path.name.split(".")[0])).lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), None)


def _opened(path: Path) -> io.BufferedReader:
    raw = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if raw.peek(2)[:2] != b"\x1f\x8b":
        return raw
    raw.close()
    return io.BufferedReader(gzip.open(path, "rb"))


def _refuse_odd(head: bytes, label: str) -> None:
    if not head.strip():
        raise DataError(label, "is empty", "give a file with at least one row")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(label, "is UTF-16, not UTF-8", "convert it: iconv -f utf-16 -t utf-8 IN > OUT")


def _lines(stream: IO[bytes], label: str, stem: str) -> Iterator[Raw]:
    for number, line in enumerate(stream, 1):
        if line.isspace():
            continue
        where = f"{label}:{number}"
        yield Raw(where, f"{stem}:{number}", _parsed(line, where, first=number == 1))


def _parsed(line: bytes, where: str, *, first: bool) -> Mapping[str, Any] | RowError:
    try:
        value = json.loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        return _not_utf8(where, error)
    except json.JSONDecodeError as error:
        cure = 'each line must be one JSON object, like {"messages": [...]}'
        if first and line.strip() == b"{":
            cure = "this looks like one object over many lines: write one object per line, or a JSON array of objects"
        return RowError("malformed JSON", f"{where}, column {error.colno}", f"is not valid JSON ({error.msg})", cure)
    except RecursionError:
        return RowError("malformed JSON", where, "is nested too deeply", "flatten it")
    return _object(value, where)


def _object(value: Any, where: str) -> Mapping[str, Any] | RowError:
    if isinstance(value, dict):
        return value
    return RowError("not an object", where, f"is {_kind(value)}, not an object with columns", 'write {"text": ...}')


def _kind(value: Any) -> str:
    names = {"NoneType": "null", "bool": "a boolean", "int": "a number", "float": "a number", "str": "a string"}
    return names.get(type(value).__name__, "a list" if isinstance(value, list | tuple) else "an object")


def _not_utf8(where: str, error: UnicodeDecodeError) -> RowError:
    byte = error.object[error.start]
    return RowError(
        "not UTF-8",
        f"{where}, byte {error.start + 1}",
        f"is not UTF-8 (0x{byte:02x})",
        "convert the file: iconv -f ITS_ENCODING -t utf-8 IN > OUT",
    )


def _array(stream: IO[str], label: str, stem: str) -> Iterator[Raw]:
    """Elements of a JSON array, a chunk in memory at a time. A syntax error ends the reading:
    behind it, nobody knows where the next row begins."""
    decoder = json.JSONDecoder()
    text, at, line, number, more = "", 0, 1, 0, True
    started = False
    while True:
        gap = re.compile(r"[\s,]*" if started else r"\s*\[\s*").match(text, at)
        skipped = gap.end() if gap else at
        element, broken = None, None
        try:
            element, end = decoder.raw_decode(text, skipped)
        except json.JSONDecodeError as error:
            broken = error
        # A number or word could go on in the next chunk, so an element that touches the end waits.
        if more and (gap is None or broken is not None or end == len(text)):
            text, at = text[at:], 0
            chunk = _read(stream, label)
            more = bool(chunk)
            text += chunk
            continue
        if gap is None:
            raise DataError(label, "is not a JSON array", "write one JSON object per line")
        line += text.count("\n", at, skipped)
        started = True
        if text[skipped : skipped + 1] == "]":
            return
        where = f"{label}:{line}"
        if broken is not None:
            raise DataError(where, f"is not valid JSON ({broken.msg})", "mend it, or write one JSON object per line")
        number += 1
        yield Raw(where, f"{stem}:{number}", _object(element, where))
        line += text.count("\n", skipped, end)
        at = end


def _read(stream: IO[str], label: str) -> str:
    try:
        return stream.read(_CHUNK)
    except UnicodeDecodeError as error:
        raise _not_utf8(label, error) from None


def _paragraphs(stream: IO[bytes], label: str, stem: str, unit: str) -> Iterator[Raw]:
    lines: list[str] = []
    start, bad = 1, None
    for number, raw in enumerate(itertools.chain(stream, [b""]), 1):
        broken = None
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line, broken = "?", _not_utf8(f"{label}:{number}", error)
        if lines and (not line.strip() or unit == "line"):
            yield Raw(f"{label}:{start}", f"{stem}:{start}", bad or {"text": "".join(lines).rstrip("\n")})
            lines, bad = [], None
        if line.strip():
            start = start if lines else number
            lines.append(line)
            bad = bad or broken


def _parquet_file(path: Path, label: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(label, f"is a damaged Parquet file ({error})", "copy or download it again") from None


def _parquet(path: Path, label: str, stem: str) -> Iterator[Raw]:
    number = 0
    with _parquet_file(path, label) as file:
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield Raw(f"{label}, row {number:,}", f"{stem}:{number}", row)
