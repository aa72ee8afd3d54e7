"""JSON rows, one object a line or an array of objects, with bounds on what one row may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from mnemos.core.errors import DataError
from mnemos.core.scalars import MOST_DIGITS, real, whole
from mnemos.sources.bad_row import RowError

MAX_ROW_BYTES = 16 << 20
"""A longer row is an error: nothing reads that much at once, and tokenizers break at it."""
MAX_DEPTH = 100
"""Lists and objects within one another that a row may hold."""

Value = Mapping[str, Any] | RowError
"""A row, or why it is none."""

_CHUNK = 1 << 20
_MEND = "mend it, or write one JSON object per line"
_LONGEST_WORD = 20
"""Characters at the end of a text that may be the beginning of a word or an escape."""
_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def bounded(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Lines; None for one that is longer than a row may be, which never lies in memory whole."""
    while line := stream.readline(MAX_ROW_BYTES + 1):
        if len(line) <= MAX_ROW_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
        yield None


def lines(stream: IO[bytes], label: str) -> Iterator[tuple[int, Value]]:
    """Each line's number and row; blank lines are passed over."""
    for number, line in enumerate(bounded(stream), 1):
        where = f"{label}:{number}"
        if line is None:
            yield number, too_long(where)
        elif not line.isspace():
            yield number, _parsed(line, where, first=number == 1)


def array(stream: IO[str], label: str) -> Iterator[tuple[int, Value]]:
    """The line on which each element of a JSON array begins, and its row; a chunk in memory at a time.
    A syntax error ends the reading (DataError): behind it, nobody knows where the next row begins."""
    text = _Text(stream, label)
    mark = text.take()
    if text.peek() == "]":
        mark = text.take()
    while mark != "]":
        text.peek()
        line = text.line
        yield line, text.element(f"{label}:{line}")
        mark = text.take()
        if mark not in (",", "]"):
            words = f"has {mark!r} where a comma or ] must stand" if mark else "ends within its array"
            raise DataError(f"{label}:{text.line}", f"is not valid JSON ({words})", _MEND)
    if text.peek():
        raise DataError(
            f"{label}:{text.line}",
            "goes on behind the end of its array",
            "keep one array in a file, or write one JSON object per line",
        )


def too_long(where: str) -> RowError:
    """The error for a row beyond `MAX_ROW_BYTES`."""
    bound = f"is longer than {MAX_ROW_BYTES >> 20} MiB, more than any model reads at once"
    return RowError("row too long", where, bound, "cut it into several rows")


def too_deep(where: str) -> RowError:
    """The error for a row beyond `MAX_DEPTH`."""
    return RowError("malformed JSON", where, f"is nested too deeply (more than {MAX_DEPTH} levels)", "flatten it")


def not_utf8(where: str, error: UnicodeDecodeError) -> RowError:
    """The error for bytes that are no text."""
    byte = error.object[error.start]
    return RowError(
        "not UTF-8",
        f"{where}, byte {error.start + 1}",
        f"is not UTF-8 (0x{byte:02x})",
        "convert the file: iconv -f ITS_ENCODING -t utf-8 IN > OUT",
    )


def _parsed(line: bytes, where: str, *, first: bool) -> Value:
    decoder = _Decoder()
    try:
        text = line.decode("utf-8-sig" if first else "utf-8")
        value = decoder.decode(text)
    except UnicodeDecodeError as error:
        return not_utf8(where, error)
    except json.JSONDecodeError as error:
        cure = 'each line must be one JSON object, like {"messages": [...]}'
        if first and line.strip() == b"{":
            cure = "this looks like one object over many lines: write one object per line, or a JSON array of objects"
        return RowError("malformed JSON", f"{where}, column {error.colno}", f"is not valid JSON ({error.msg})", cure)
    except RecursionError:
        return too_deep(where)
    return decoder.checked(value, text, where)


class _Decoder(json.JSONDecoder):
    """Reads one row, and says what it may not hold."""

    def __init__(self) -> None:
        super().__init__(parse_int=self._int, parse_float=real, object_pairs_hook=self._once)
        self._digits, self._twice = 0, ""

    def _int(self, digits: str) -> Any:
        self._digits = max(self._digits, len(digits) if len(digits) > MOST_DIGITS else 0)
        return whole(digits)

    def _once(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            self._twice = next(key for key in made if keys.count(key) > 1)
        return made

    def checked(self, value: Any, text: str, where: str) -> Value:
        """The row, or why it cannot be one. text: what it was read from."""
        if self._digits:
            bound = f"holds a number of {self._digits:,} digits"
            return RowError("number too long", where, bound, "write it as a text, in quotes")
        if self._twice:
            return RowError("key twice", where, f"has the key {self._twice!r} twice", "leave one of them")
        if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            return too_deep(where)
        if _SURROGATE.search(text) and (half := _half_pair(value)):
            return _half(half, where)
        if isinstance(value, dict):
            return value
        return RowError("not an object", where, f"is {_kind(value)}, not an object with columns", 'write {"text": ...}')


def _depth(value: Any) -> int:
    """Lists and objects within one another; stops counting beyond the bound."""
    level, found = {id(value): value}, 0
    while found <= MAX_DEPTH and (level := {i: one for i, one in level.items() if isinstance(one, dict | list)}):
        # What stands there several times (YAML's aliases) is looked at once.
        level = {id(inner): inner for one in level.values() for inner in _inner(one)}
        found += 1
    return found


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _half_pair(value: Any) -> str:
    """The first half of a surrogate pair in a value's texts, as JSON spells it; "" where there is none."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    return ""


def _half(half: str, where: str) -> RowError:
    bound = f"holds half of a character ({half}), which is no text"
    return RowError("lone surrogate", where, bound, "write the file anew with a JSON library, or take the row out")


def _kind(value: Any) -> str:
    names = {"NoneType": "null", "bool": "a boolean", "int": "a number", "float": "a number", "str": "a string"}
    return names.get(type(value).__name__, "a list")


class _Text:
    """Text of which a little lies in memory. line: of the next character, from 1."""

    def __init__(self, stream: IO[str], label: str) -> None:
        self._stream, self._label = stream, label
        self._text, self._at, self._more, self.line = "", 0, True, 1

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            end = found.end() if found else self._at
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text) or not self._read():
                return self._text[end : end + 1]

    def take(self) -> str:
        """The same, and go on behind it."""
        found = self.peek()
        self._at += len(found)
        return found

    def element(self, where: str) -> Value:
        """The row that begins here. Raises DataError where there is none."""
        while True:
            decoder, broken = _Decoder(), None
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                value, end, broken = None, len(self._text), error
            except RecursionError:
                raise too_deep(where) from None
            # A number or word could go on in the next chunk, so an element that touches the end waits.
            if end < len(self._text) or (broken and self._is_wrong(broken)) or not self._read():
                break
            if len(self._text) > MAX_ROW_BYTES:
                raise too_long(where)
        if broken is not None:
            raise DataError(where, f"is not valid JSON ({broken.msg})", _MEND)
        start, self._at = self._at, end
        self.line += self._text.count("\n", start, end)
        return decoder.checked(value, self._text[start:end], where)

    def _is_wrong(self, error: json.JSONDecodeError) -> bool:
        """Whether no further text could mend it."""
        return not error.msg.startswith("Unterminated") and error.pos < len(self._text) - _LONGEST_WORD

    def _read(self) -> bool:
        """Whether there was more, which now stands behind the text."""
        if not self._more:
            return False
        try:
            chunk = self._stream.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise not_utf8(self._label, error) from None
        self._more = bool(chunk)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return self._more
