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
    name: str

    @cached_property
    def fingerprint(self) -> str:
        """Of every row, in order."""
        return fingerprint({"rows": self.examples})

    def describe(self) -> str:
        """Name and number of rows."""
        return f"{self.name}: {len(self.examples):,} rows"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


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
    and an id that begins with ``replay/``. repeat: when `old` is too small, go round it as often
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
        rows = list(self.new)
        wanted = round(self.share_of_final / (1 - self.share_of_final) * len(rows))
        rows += self._draw(wanted, dice) if wanted else []
        dice.shuffle(rows)
        return iter(rows)

    def _draw(self, wanted: int, dice: random.Random) -> list[Example]:
        old = list(self.old)
        if not old or (wanted > len(old) and not self.repeat):
            raise DataError(
                f"{self.old.describe()}",
                f"share_of_final = {self.share_of_final:g} needs {wanted:,} old rows, {len(old):,} are there",
                "lower share_of_final, give more old data, or set repeat: true",
            )
        drawn = []
        for turn in range(-(-wanted // len(old))):
            count = min(len(old), wanted - turn * len(old))
            mark = f"#{turn + 1}" if turn else ""
            for i in dice.sample(range(len(old)), count):
                drawn.append(dataclasses.replace(old[i], id=f"replay/{old[i].id}{mark}", origin="replay"))
        return drawn
