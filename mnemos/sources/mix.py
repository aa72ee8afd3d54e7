"""Sources made of other sources: rows in memory, a sample, a mixture of new and old."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source
from mnemos.sources.generated import inside


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


Shape = Literal["linear", "cosine", "step"]
"""How the share of new rows goes from where it starts to where it ends: in a line, slowly at both ends, or at once
half way."""


@dataclass(frozen=True)
class Mixture:
    """All rows of `new` and so many of `old` that these are `share_of_final` of the result.

    share_of_final: old / (old + new), in [0, 1); n_old = round(share / (1 - share) * n_new), drawn
    without replacement and shuffled together by `seed`. Old rows come out with `origin` and an id
    that begins with it, ``replay/`` (``replay2/`` in a mixture of a mixture, …). repeat: when `old`
    is too small, go round it as often as needed (each row as often as any other, give or take one);
    otherwise iterating raises DataError, because a smaller share than the one that was asked for
    would look like the method's failure.
    new_share_start: the share of new rows among those that training reads first; it changes
    from there, in `new_share_shape`, such that each row is still read as often as any other (see
    `train.schedule.Ramp`). None reads all rows in a random order.
    """

    new: Source
    old: Source
    share_of_final: float
    seed: int
    repeat: bool = False
    origin: str = "replay"
    new_share_start: float | None = None
    new_share_shape: Shape = "linear"

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
        more: dict[str, Any] = {} if self.origin == "replay" else {"origin": self.origin}
        more |= {} if self.new_share_start is None else {"new_share_start": self.new_share_start}
        more |= {} if self.new_share_shape == "linear" else {"new_share_shape": self.new_share_shape}
        return fingerprint({"mixture": parts, "seed": self.seed, "repeat": self.repeat, **more})

    def describe(self) -> str:
        """Both parts and the share."""
        start = self.new_share_start
        order = "" if start is None else f", new rows from {100 * start:g} % at the start upwards"
        return f"{self.new.describe()} + {self.old.describe()} as {100 * self.share_of_final:g} % of all rows{order}"

    def __iter__(self) -> Iterator[Example]:
        # First the draw, then the order, from one generator: both follow from the seed alone.
        rng = random.Random(f"mixture {self.seed}")
        new = list(self.new)
        wanted = self.wanted(len(new))
        rows = new + (self._draw(wanted, _free_prefix(new, self.origin), rng) if wanted else [])
        rng.shuffle(rows)
        return iter(rows)

    def wanted(self, new: int) -> int:
        """How many old rows go with so many new ones."""
        # share = old / (old + new), solved for old.
        return round(self.share_of_final / (1 - self.share_of_final) * new)

    def refuse_few(self, wanted: int, there: int) -> None:
        """Raises DataError where so many old rows cannot be drawn from those that are there."""
        if wanted == 0 or (there and (wanted <= there or self.repeat)):
            return
        # new = wanted * (1 - share) / share, and with it the share that the rows at hand would make.
        largest = there / (there + wanted / self.share_of_final * (1 - self.share_of_final))
        raise DataError(
            f"share_of_final = {self.share_of_final:g}: {wanted:,} old rows are needed",
            f"{self.old.describe()} has {there:,}",
            f"at most {largest:.3f} is possible with these; give more old data, or set repeat: true to use "
            "rows more than once",
        )

    def _draw(self, wanted: int, prefix: str, rng: random.Random) -> list[Example]:
        old = list(self.old)
        self.refuse_few(wanted, len(old))
        drawn = []
        # Whole turns through all old rows and a part of one: how often two rows are drawn differs by one at most.
        for turn in range(-(-wanted // len(old))):
            count = min(len(old), wanted - turn * len(old))
            mark = f"#{turn + 1}" if turn else ""
            for i in rng.sample(range(len(old)), count):
                drawn.append(dataclasses.replace(old[i], id=f"{prefix}{old[i].id}{mark}", origin=self.origin))
        return drawn


@dataclass(frozen=True)
class Beside:
    """All rows of `new` and then all rows of each of `old`, whose ids begin with ``replay/`` as in a
    `Mixture`, and whose origin is "replay" unless it says already that they are not new. For old
    rows that were made in the number that is wanted, such as those that a model writes.
    """

    new: Source
    old: tuple[Source, ...]

    @property
    def fingerprint(self) -> str:
        """Of every source, in order."""
        return fingerprint({"beside": self.new.fingerprint, "old": [source.fingerprint for source in self.old]})

    def describe(self) -> str:
        """Every part."""
        return " + ".join(source.describe() for source in (self.new, *self.old))

    def __iter__(self) -> Iterator[Example]:
        new = list(self.new)
        yield from new
        prefix = _free_prefix(new, "replay")
        for place, source in enumerate(self.old):
            start = prefix + (f"{place}/" if len(self.old) > 1 else "")
            for example in source:
                origin = "replay" if is_new(example.origin) else example.origin
                yield dataclasses.replace(example, id=start + example.id, origin=origin)


def new_share_start(source: Source) -> float | None:
    """The `new_share_start` of the outermost mixture within `source` that has one; None if none has."""
    found = growing(source)
    return None if found is None else found.new_share_start


def growing(source: Source) -> Mixture | None:
    """The outermost mixture within `source` whose share of new rows changes; None if there is none."""
    mixtures = [one for one in inside(source) if isinstance(one, Mixture)]
    return next((one for one in reversed(mixtures) if one.new_share_start is not None), None)


def read_in_turn(source: Source) -> bool:
    """Whether training is to read the rows in the order in which they stand. Raises UsageError where a source that is
    to be read so lies within another, which has mixed its rows with others."""
    if getattr(source, "in_turn", False):
        return True
    if any(getattr(one, "in_turn", False) for one in inside(source)):
        raise UsageError(source.describe(), "mixes rows that were put into an order", "put curriculum last in the arm")
    return False


def is_new(origin: str) -> bool:
    """Whether rows of this origin are of the task that is being taught, and not beside it."""
    return origin.startswith("new")


def _free_prefix(new: list[Example], origin: str) -> str:
    """What old rows' ids begin with, such that they meet no new row's, in mixtures of mixtures too."""
    number, prefix = 1, f"{origin}/"
    while any(example.id.startswith(prefix) for example in new):
        number += 1
        prefix = f"{origin}{number}/"
    return prefix
