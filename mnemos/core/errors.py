"""Everything that mnemos raises on purpose.

    MnemosError              exit 1   something failed at run time
    ├── UsageError           exit 2   a key, value or combination that cannot be meant
    │   └── NotComparable    exit 2   before and after were not measured the same way
    ├── DataError            exit 1   a file or row that cannot be read or learned from
    ├── ModelError           exit 1   a checkpoint that cannot be loaded, trained or trusted
    └── RunError             exit 1   the run directory: locked, full, changed underneath

Each message names the value, the bound it broke and the cure, in that order, and is printed
without a traceback unless ``--debug`` is given.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class MnemosError(Exception):
    """A failure that mnemos explains.

    value: what was met, with its place (a key, a file and line, a tensor name).
    bound: what was expected of it.
    cure: what to do about it; empty only where nothing can be done.
    """

    exit_code = 1

    def __init__(self, value: str, bound: str = "", cure: str = "") -> None:
        self.value, self.bound, self.cure = value, bound, cure
        super().__init__(value, bound, cure)

    def __str__(self) -> str:
        value, bound, cure = (printable(shortened(part)) for part in (self.value, self.bound, self.cure))
        text = f"{value}: {bound}" if bound else value
        return f"{text}\n  {cure}" if cure else text


class UsageError(MnemosError):
    """A key, value or combination that cannot be meant; exit code 2."""

    exit_code = 2


class NotComparable(UsageError):  # noqa: N818 - reads as what it says, as StopIteration does
    """Two measurements that differ in more than the model; names what differs."""


class DataError(MnemosError):
    """A file or row that cannot be read or learned from."""


class ModelError(MnemosError):
    """A checkpoint that cannot be loaded, trained or trusted."""


class RunError(MnemosError):
    """The run directory is locked, full, or has changed underneath."""


_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

MOST_QUOTED = 2000
"""Characters of a message's part that are shown; a longer one is somebody's file, quoted whole."""


def shortened(text: str, most: int = MOST_QUOTED) -> str:
    """The text, or its beginning and end where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = (most - 40) // 2
    return f"{text[:half]} … [{len(text) - 2 * half:,} characters left out] … {text[-half:]}"


def printable(text: str) -> str:
    """The text with everything that would steer a terminal, or cannot be written as UTF-8, as an escape.

    Control characters other than line ends and tabs, marks that turn the direction of writing, halves of
    surrogate pairs: whatever a file or a server put there is shown and does nothing.
    """
    if text.isprintable():
        return text
    return "".join(one.encode("unicode_escape").decode() if _steers(one) else one for one in text)


def _steers(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs")


def nearest(name: str, known: Iterable[str]) -> str:
    """The cure for a misspelt name: the closest known one, else the whole list."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(choices) if choices else "nothing may stand here"
