"""Numbers that remember how they were written, because an answer 1.10 or 007 is a text."""

from __future__ import annotations

import re
from typing import Any

MOST_DIGITS = 4000
"""Digits above which a number stays the text that it was: Python itself converts no more."""

_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")


class WrittenInt(int):
    """A whole number whose text is as it was written: str() of 007 is "007"."""

    written: str

    def __new__(cls, value: int, written: str) -> WrittenInt:
        """The number and its text."""
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __str__(self) -> str:
        return self.written

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self), self.written)


class WrittenFloat(float):
    """A number whose text is as it was written: str() of 1.10 is "1.10"."""

    written: str

    def __new__(cls, value: float, written: str) -> WrittenFloat:
        """The number and its text."""
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __str__(self) -> str:
        return self.written

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (float(self), self.written)


def whole(text: str, base: int = 10) -> int | str:
    """The integer that `text` writes; the text itself above MOST_DIGITS."""
    if len(text) > MOST_DIGITS:
        return text
    value = int(text, base)
    return value if str(value) == text else WrittenInt(value, text)


def real(text: str) -> float:
    """The number that `text` writes."""
    value = float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan"))
    return value if str(value) == text else WrittenFloat(value, text)


def core_schema(text: str) -> Any:
    """What an unquoted scalar means in YAML 1.2's core schema: null, a boolean, a number, or the text as it is.

    Dates, 12:30, yes, no, on, off and 1_000 are texts, unlike in YAML 1.1.
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INT.fullmatch(text):
        return whole(text)
    if _OTHER_BASE.fullmatch(text):
        return whole(text, 0)
    if _FLOAT.fullmatch(text) or _INFINITE.fullmatch(text):
        return real(text)
    return WrittenFloat(float("nan"), text) if text in (".nan", ".NaN", ".NAN") else text
