"""Sources made of other sources: stored rows, subsets, mixtures. All lazy, all repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source


@dataclass(frozen=True)
class Rows:
    """Examples held in memory."""

    examples: tuple[Example, ...]
    name: str = "rows"

    @property
    def fingerprint(self) -> str:
        """Of every row's content."""
        return fingerprint(["Rows", self.examples])

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name}: {len(self.examples):,} rows"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


@dataclass(frozen=True)
class Joined:
    """All rows of several sources, one source after the other (training shuffles them).

    Ids that several sources share are told apart by the source's place.
    """

    sources: tuple[Source, ...]
    name: str = "joined"

    @property
    def fingerprint(self) -> str:
        """Of the sources, in their order."""
        return fingerprint(["Joined", [source.fingerprint for source in self.sources]])

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name}: " + " + ".join(source.describe() for source in self.sources)

    def __iter__(self) -> Iterator[Example]:
        for number, source in enumerate(self.sources):
            for example in source:
                yield replace(example, id=f"{number}/{example.id}") if len(self.sources) > 1 else example


@dataclass(frozen=True)
class Subset:
    """`count` rows of a source, drawn without replacement by `seed`, in the source's order."""

    source: Source
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"a subset of {self.count} rows", "must not be negative", "ask for 0 rows or more")

    @property
    def fingerprint(self) -> str:
        """Of the source, the count and the seed."""
        return fingerprint(["Subset", self.source.fingerprint, self.count, self.seed])

    def describe(self) -> str:
        """One line for people."""
        return f"{self.count:,} of {self.source.describe()}"

    def __iter__(self) -> Iterator[Example]:
        examples = list(self.source)
        if self.count > len(examples):
            raise DataError(
                f"{self.source.describe()}: {self.count:,} rows asked for",
                f"only {len(examples):,} exist",
                "ask for fewer, or add rows",
            )
        chosen = set(random.Random(self.seed).sample(range(len(examples)), self.count))
        return iter([example for number, example in enumerate(examples) if number in chosen])


@dataclass(frozen=True)
class Mixture:
    """All new rows, plus old rows until they make up `share_of_final` of the whole, shuffled.

    share_of_final: in [0, 1); the number of old rows is round(share / (1 - share) * new rows).
    Old rows are drawn without replacement by `seed`; when fewer exist, DataError, unless `repeat`
    allows whole further passes over them. Old rows carry origin "replay" and an id that cannot
    meet a new row's. Trap: other trainers give the same number three other meanings (share of
    the old set that is kept, share of batches, number of rows).
    """

    new: Source
    old: Source
    share_of_final: float
    seed: int
    repeat: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share_of_final < 1:
            raise UsageError(
                f"share_of_final = {self.share_of_final}", "must be in [0, 1)", "0.1 makes a tenth of the rows old"
            )

    @property
    def fingerprint(self) -> str:
        """Of both sources and every setting."""
        parts = [self.new.fingerprint, self.old.fingerprint, self.share_of_final, self.seed, self.repeat]
        return fingerprint(["Mixture", *parts])

    def describe(self) -> str:
        """One line for people."""
        return f"{self.new.describe()} + {self.share_of_final:.1%} of the whole from {self.old.describe()}"

    def __iter__(self) -> Iterator[Example]:
        new = list(self.new)
        count = round(self.share_of_final / (1 - self.share_of_final) * len(new))
        drawing = random.Random(self.seed)
        mixed = new + [
            replace(example, id=f"replay-{number}/{example.id}", origin="replay")
            for number, example in enumerate(self._draw(list(self.old) if count else [], count, drawing))
        ]
        drawing.shuffle(mixed)
        return iter(mixed)

    def _draw(self, old: Sequence[Example], count: int, drawing: random.Random) -> list[Example]:
        if count > len(old) and not (self.repeat and old):
            largest = len(old) / (len(old) + count / self.share_of_final * (1 - self.share_of_final)) if old else 0.0
            raise DataError(
                f"share_of_final = {self.share_of_final}: {count:,} old rows are needed",
                f"{self.old.describe()} has {len(old):,}",
                f"at most {largest:.3f} is possible, or set repeat: true to use rows more than once",
            )
        drawn: list[Example] = []
        while len(drawn) < count:
            drawn += drawing.sample(old, min(len(old), count - len(drawn)))
        return drawn
