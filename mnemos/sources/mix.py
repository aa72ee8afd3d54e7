"""Sources made of other sources: rows in memory, a sample, a mixture of new and old."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source


@dataclass(frozen=True)
class Rows:
    """Examples that are already in memory. name: what people call them."""

    examples: tuple[Example, ...]
    name: str = "rows"

    @cached_property
    def fingerprint(self) -> str:
        """Of every row, in order."""
        return fingerprint({"rows": self.examples})

    def describe(self) -> str:
        """Name and number of rows."""
        return f"{self.name}: {len(self.examples):,} row{'' if len(self.examples) == 1 else 's'}"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


@dataclass(frozen=True)
class Joined:
    """All rows of several sources, one source after another (training shuffles them).

    With more than one source, ids begin with the source's place, ``0/``, ``1/``, …, so that equal
    ids of different sources stay apart.
    """

    sources: tuple[Source, ...]
    name: str = "joined"

    @property
    def fingerprint(self) -> str:
        """Of the sources, in their order."""
        return fingerprint({"joined": [source.fingerprint for source in self.sources]})

    def describe(self) -> str:
        """Every part."""
        return f"{self.name}: " + " + ".join(source.describe() for source in self.sources)

    def __iter__(self) -> Iterator[Example]:
        several = len(self.sources) > 1
        for place, source in enumerate(self.sources):
            for example in source:
                yield dataclasses.replace(example, id=f"{place}/{example.id}") if several else example


@dataclass(frozen=True)
class Subset:
    """`count` rows of `source`, drawn without replacement by `seed`, in the source's order.

    Iterating raises DataError when the source holds fewer rows.
    """

    source: Source
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"count = {self.count}", "must be at least 0", "ask for a number of rows")

    @property
    def fingerprint(self) -> str:
        """Of the source and the draw; reads no rows."""
        return fingerprint({"subset": self.source.fingerprint, "count": self.count, "seed": self.seed})

    def describe(self) -> str:
        """How many rows of what."""
        return f"{self.count:,} rows of {self.source.describe()}"

    def __iter__(self) -> Iterator[Example]:
        rows = list(self.source)
        if self.count > len(rows):
            raise DataError(
                f"{self.source.describe()}",
                f"{self.count:,} rows were asked for, {len(rows):,} are there",
                "ask for fewer rows or give more data",
            )
        chosen = sorted(random.Random(f"subset {self.seed}").sample(range(len(rows)), self.count))
        return iter([rows[i] for i in chosen])


@dataclass(frozen=True)
class Mixture:
    """All rows of `new` and so many of `old` that these are `share_of_final` of the result.

    share_of_final: old / (old + new), in [0, 1); n_old = round(share / (1 - share) * n_new), drawn
    without replacement and shuffled together by `seed`. Old rows come out with origin "replay"
    and an id that begins with ``replay/`` (``replay2/`` in a mixture
    of a mixture, …). repeat: when `old` is too small, go round it as often
    as needed (each row as often as any other, give or take one); otherwise iterating raises
    DataError, because a smaller share than the one that was asked for would look like the method's
    failure.
    """

    new: Source
    old: Source
    share_of_final: float
    seed: int
    repeat: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share_of_final < 1:
            raise UsageError(
                f"share_of_final = {self.share_of_final}",
                "must be at least 0 and below 1",
                "0.1 makes one row in ten old",
            )

    @property
    def fingerprint(self) -> str:
        """Of both sources, the share and the draw; reads no rows."""
        parts = {"new": self.new.fingerprint, "old": self.old.fingerprint, "share_of_final": self.share_of_final}
        return fingerprint({"mixture": parts, "seed": self.seed, "repeat": self.repeat})

    def describe(self) -> str:
        """Both parts and the share."""
        return f"{self.new.describe()} + {self.old.describe()} as {100 * self.share_of_final:g} % of all rows"

    def __iter__(self) -> Iterator[Example]:
        dice = random.Random(f"mixture {self.seed}")
        new = list(self.new)
        wanted = round(self.share_of_final / (1 - self.share_of_final) * len(new))
        rows = new + (self._draw(wanted, _free_prefix(new), dice) if wanted else [])
        dice.shuffle(rows)
        return iter(rows)

    def _draw(self, wanted: int, prefix: str, dice: random.Random) -> list[Example]:
        old = list(self.old)
        if not old or (wanted > len(old) and not self.repeat):
            largest = len(old) / (len(old) + wanted / self.share_of_final * (1 - self.share_of_final))
            raise DataError(
                f"share_of_final = {self.share_of_final:g}: {wanted:,} old rows are needed",
                f"{self.old.describe()} has {len(old):,}",
                f"at most {largest:.3f} is possible with these; give more old data, or set repeat: true to use "
                "rows more than once",
            )
        drawn = []
        for turn in range(-(-wanted // len(old))):
            count = min(len(old), wanted - turn * len(old))
            mark = f"#{turn + 1}" if turn else ""
            for i in dice.sample(range(len(old)), count):
                drawn.append(dataclasses.replace(old[i], id=f"{prefix}{old[i].id}{mark}", origin="replay"))
        return drawn


def _free_prefix(new: list[Example]) -> str:
    """What old rows' ids begin with, such that they meet no new row's, in mixtures of mixtures too."""
    number, prefix = 1, "replay/"
    while any(example.id.startswith(prefix) for example in new):
        number += 1
        prefix = f"replay{number}/"
    return prefix
