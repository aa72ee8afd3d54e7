"""Rows that a model writes once, before training: rehearsal by generation, rewritten answers.

A method puts a `GeneratedSource` source into its plan, like any other source; no model is loaded for that.
Before the stage is trained, the study calls `write` of each one with a `SynthesisContext`, keeps the rows on
disk, and puts these in the place of the source (`materialize`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from mnemos.core.errors import DataError, RunError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, LanguageModel, Source
from mnemos.core.plan import ModelHandle

T = TypeVar("T")


class SynthesisContext(Protocol):
    """What a writer works with; a study hands it over."""

    def model(self, handle: ModelHandle) -> LanguageModel:
        """The model, loaded at its first question and then kept. Every answer goes into a journal,
        so that a killed writing continues where it was. Trap: a call is cut into pieces and each
        piece draws by a seed of its own, made of Decoding.seed, the piece and the call: the same
        prompts and seed in a second call give other samples."""
        ...

    def rows(self, source: Source) -> list[Example]:
        """The rows of any source; written ones inside it have been written before."""
        ...

    def count(self, reason: str, number: int = 1) -> None:
        """Add to the number of rows kept or dropped for `reason`; the ledger shows them."""
        ...

    def note(self, name: str, value: float) -> None:
        """Keep a number that says how the writing went: note("acceptance rate", 0.83). A number
        that is not finite is kept as missing."""
        ...


@runtime_checkable
class GeneratedSource(Source, Protocol):
    """A source whose rows a model writes. A frozen dataclass, so that what lies inside it is found;
    iterating over it before it is written raises RunError (see `NotGenerated`)."""

    def write(self, context: SynthesisContext) -> list[Example]:
        """The rows: the same ones whenever the models answer the same. Raises DataError with counts
        by reason when too little is usable (see `too_few`)."""
        ...


class NotGenerated:
    """Mixin for frozen dataclasses that are `GeneratedSource`: a fingerprint over class and fields, and an
    `__iter__` that refuses."""

    __slots__ = ()

    @property
    def fingerprint(self) -> str:
        """Of the class's name and every field."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}  # type: ignore[arg-type]
        return fingerprint({"written": type(self).__qualname__, **fields})

    def describe(self) -> str:
        """One line for people; say more in the class itself."""
        return type(self).__name__

    def __iter__(self) -> Iterator[Example]:
        raise RunError(self.describe(), "has not been written yet", "use the plan in a study: it writes the rows first")


def is_generated(value: Any) -> bool:
    """Whether `value` is a `GeneratedSource`. Unlike isinstance it reads no property, so it hashes no file."""
    kind = type(value)
    return dataclasses.is_dataclass(kind) and callable(getattr(kind, "write", None)) and hasattr(kind, "describe")


def inside(value: Any) -> Iterator[Any]:
    """Every frozen dataclass within a value (fields, tuples, lists, mappings), inner ones first, the
    value itself last. Rows of data are not looked into."""
    if isinstance(value, str | int | float | Example | None):
        return
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from inside(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from inside(getattr(value, field.name))
        yield value


def generated_in(value: Any) -> list[GeneratedSource]:
    """Every `GeneratedSource` within a value (a plan, a source, a tuple, …), inner ones first, equal ones once."""
    found: dict[str, GeneratedSource] = {}
    for one in inside(value):
        if is_generated(one):
            found.setdefault(one.fingerprint, one)
    return list(found.values())


def materialize(value: T, find: Callable[[GeneratedSource], Source]) -> T:
    """The same value with `find(written)`, a source of its rows, for each outermost `GeneratedSource` in it.

    What holds none comes back as the same object. Reaches what `inside` reaches.
    """
    return replaced(value, lambda one: find(one) if is_generated(one) else None)


def replaced(value: T, other: Callable[[Any], Any]) -> T:
    """The same value with `other(part)` in the place of each outermost part for which that is not None.

    What holds no such part comes back as the same object. Reaches what `inside` reaches.
    """
    settled: T = _replaced(value, other)
    return settled


def _replaced(value: Any, other: Callable[[Any], Any]) -> Any:
    if isinstance(value, str | int | float | Example | None):
        return value
    if (put := other(value)) is not None:
        return put
    if isinstance(value, Mapping):
        mapped = {key: _replaced(item, other) for key, item in value.items()}
        return value if all(mapped[key] is value[key] for key in mapped) else mapped
    if isinstance(value, tuple | list):
        items = [_replaced(item, other) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        changed = {name: new for name, old in fields.items() if (new := _replaced(old, other)) is not old}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def too_few(counts: Mapping[str, int], kept: int, floor: int, *, what: str = "written rows", cure: str = "") -> None:
    """Raise DataError with the counts by reason when fewer than `floor` rows were kept.

    counts: rows left out, by reason. kept: usable rows. floor: how many there must be (1: any).
    """
    if kept >= floor:
        return
    text = ", ".join(f"{reason}: {number:,}" for reason, number in sorted(counts.items()) if number)
    raise DataError(
        f"{kept:,} usable {what} ({text or 'nothing was written'})",
        f"at least {floor:,} {'is' if floor == 1 else 'are'} needed",
        cure or "look at the answers in the step's journal.jsonl; a larger author may follow the instruction better",
    )
