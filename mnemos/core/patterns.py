"""Regular expressions that somebody else wrote, on texts that somebody else wrote: in bounded time."""

from __future__ import annotations

import re
from functools import lru_cache

import regex

SECONDS = 2.0
"""Processor time that one pattern, or one schema, may take on one text."""


class Overtime(Exception):  # noqa: N818 - reads as what it says
    """A check that would take too long."""


def search(pattern: str, text: str, seconds: float = SECONDS) -> bool:
    """Whether the pattern is found in the text. Raises `Overtime` after `seconds` of backtracking, ValueError as
    `compiled`."""
    try:
        return compiled(pattern).search(text, timeout=max(seconds, 1e-3)) is not None
    except TimeoutError:
        raise Overtime from None


@lru_cache(maxsize=1000)
def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern. Raises ValueError where it is none to Python's `re`, whose syntax and meaning are kept:
    `regex` is used because it stops when told to."""
    try:
        re.compile(pattern)
        return regex.compile(pattern)
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
