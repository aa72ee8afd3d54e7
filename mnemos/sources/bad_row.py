"""The error of a row that cannot be learned from, and what every reader of a row needs to raise it."""

from __future__ import annotations

from typing import Any, NoReturn

from mnemos.core.errors import DataError


class RowError(DataError):
    """A row that cannot be learned from. reason: what a skipped row is counted under."""

    def __init__(self, reason: str, value: str, bound: str = "", cure: str = "") -> None:
        super().__init__(value, bound, cure)
        self.reason = reason

    def at(self, where: str) -> RowError:
        """The same with the row's place in front."""
        return RowError(self.reason, f"{where}: {self.value}", self.bound, self.cure)


def refuse(reason: str, value: str, bound: str, cure: str) -> NoReturn:
    """Raise a RowError whose place is added by the caller."""
    raise RowError(reason, value, bound, cure)


def text_of(value: Any, where: str) -> str:
    """A text column's value; refuses anything that is not text."""
    if not isinstance(value, str):
        refuse("wrong type", f"{where} = {short(value)}", "must be text", f"write {where} as a string")
    return value


def short(value: Any) -> str:
    """The value as written in Python, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
