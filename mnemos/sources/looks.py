"""What planning asks of rows, how many there are and what the first ones look like, read once for all who ask.

A study of a million rows would otherwise read them once for each arm and seed before anything is trained. What was
seen is kept for this process by the source's content, so that a changed file is looked at again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mnemos.core.errors import MnemosError
from mnemos.core.nouns import Example, Source
from mnemos.sources.generated import generated_in, inside, replaced
from mnemos.sources.mix import Mixture, Rows, is_new
from mnemos.sources.read import FileSource

FIRST = 256
"""Rows that are kept of the beginning of a source."""

MOST_CHARS = 4 << 20
"""Characters of them; where they are longer, fewer are kept, and who asks for more reads them again."""

MOST_LOOKS = 64
"""Sources of which is kept what was seen; beyond it, the one that was looked at first is forgotten."""

T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """What was seen of a source. first: its first rows. whole: whether these are all. rows, new: how many there are,
    and of these how many of the new task; None where only the first ones were read."""

    first: tuple[Example, ...]
    whole: bool = False
    rows: int | None = None
    new: int | None = None


_kept: dict[str, Look] = {}


def counted(source: Source) -> tuple[int, int]:
    """(rows, rows of the new task), by reading all of them, once for each content. Raises as the source does."""
    name = _name(source)
    look = _kept.get(name)
    if look is None or look.rows is None or look.new is None:
        first = _First()
        rows = new = 0
        for row in source:
            first.add(row)
            rows, new = rows + 1, new + is_new(row.origin)
        look = _keep(name, Look(first.rows, len(first.rows) == rows, rows, new))
    assert look.rows is not None
    assert look.new is not None
    return look.rows, look.new


def refuse_few_old_rows(values: Iterable[Any]) -> None:
    """Raises DataError for the first mixture within the values that needs more old rows than there are,
    so that it is known before the first of many trainings. A mixture with rows that are not written yet is looked at
    when it is read."""
    for one in inside(tuple(values)):
        if isinstance(one, Mixture) and not generated_in(one):
            size(one)


def size(source: Source) -> int:
    """How many rows it gives; those of a mixture follow from its parts. Raises as reading it does."""
    if not isinstance(source, Mixture):
        return counted(source)[0]
    new = size(source.new)
    if wanted := source.wanted(new):
        source.refuse_few(wanted, size(source.old))
    return new + wanted


def first_rows(source: Source, count: int) -> Iterator[Example]:
    """The first `count` rows, read only where no one has looked so far. Raises as the source does, where it does."""
    name = _name(source)
    look = _kept.get(name)
    if look is not None and (look.whole or len(look.first) >= count):
        yield from look.first[:count]
        return
    first, seen = _First(), 0
    for row in itertools.islice(source, count):
        first.add(row)
        seen += 1
        yield row
    # Only whoever read to here knows that these are the first ones, and whether there are more.
    if look is None or len(first.rows) > len(look.first):
        known = look or Look(())
        _keep(name, replace(known, first=first.rows, whole=seen < count and len(first.rows) == seen))


def few(source: Source, count: int) -> list[Example]:
    """At most `count` rows like those of the source, for estimates. A mixture draws from all rows of its parts; here it
    draws from the first ones of each, in the share that it has. Raises as the source does."""
    if any(isinstance(one, Mixture) for one in inside(source)):
        try:
            return list(itertools.islice(_cut(source, count), count))
        except MnemosError:
            pass  # what weighs or caps parts may find too little in a beginning, and all of it is right
    return list(first_rows(source, count))


class _First:
    """Rows from the beginning on, as many as may be kept."""

    def __init__(self) -> None:
        self.rows: tuple[Example, ...] = ()
        self._left, self._open = MOST_CHARS, True

    def add(self, row: Example) -> None:
        """Keep it, unless there was one already that was not."""
        if not self._open:
            return
        self._left -= sum(len(turn.text) for turn in (*row.turns, *row.rejected))
        self._open = self._left >= 0 and len(self.rows) < FIRST
        if self._open:
            self.rows = (*self.rows, row)


def _name(source: Source) -> str:
    """Its content, and where that lies: a row says its place, which errors quote, and two files may hold the same."""
    return "\n".join([source.fingerprint, *(one.location for one in inside(source) if isinstance(one, FileSource))])


def _keep(name: str, look: Look) -> Look:
    while len(_kept) >= MOST_LOOKS and name not in _kept:
        del _kept[next(iter(_kept))]
    _kept[name] = look
    return look


def _cut(value: T, count: int) -> T:
    """The same with the first rows of every file within, and mixtures that use rows again: there are fewer of them."""

    def cut(one: object) -> Source | None:
        if isinstance(one, FileSource):
            return Rows(tuple(first_rows(one, count)), one.location)
        if isinstance(one, Mixture):
            return replace(one, new=_cut(one.new, count), old=_cut(one.old, count), repeat=True)
        return None

    return replaced(value, cut)
