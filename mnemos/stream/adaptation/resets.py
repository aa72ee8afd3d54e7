"""When an adapting recogniser begins again: never, every so often, at known borders, or when its gain has gone.

After DSUTA (arXiv:2406.11064). Counted in utterances heard so far, t, the present one included. A reset can only fall
where the buffer of the slow model is full, and takes the place of its update.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

How = Literal["none", "fixed", "dynamic", "oracle"]


@dataclass
class Dynamic:
    """The test whether the domain that the slow model learned has gone.

    LII(x) = L(domain, x) - L(source, x), the loss of a frozen copy of the slow model less that of the source: how much
    better the copy is than the source, so negative within its domain. Since the last reset: at t = window / 2 the copy
    is taken; from then to t = window - 1 the LII of every utterance are kept; at t = window their mean and their
    standard deviation (n - 1) are fitted. Then, with every full buffer of M, z = (mean LII - mu) / (sigma / sqrt(M));
    `patience` buffers in a row above `bound` are a reset. Where all LII were equal, sigma is 0 and z is 0 or infinite.
    """

    window: int = 100
    patience: int = 2
    bound: float = 2.0
    since: int = 0
    collected: list[float] = field(default_factory=list)
    mean: float | None = None
    deviation: float | None = None
    strikes: int = 0

    def collects(self, t: int) -> bool:
        """Whether this utterance's LII is kept: the copy was taken before it."""
        return self.since + self.window // 2 < t < self.since + self.window

    def copies(self, t: int) -> bool:
        """Whether the copy is taken behind this utterance."""
        return t == self.since + self.window // 2

    def collect(self, gain: float) -> None:
        """Keep an LII."""
        self.collected.append(gain)

    def fits(self, t: int) -> None:
        """Fit where it is time."""
        if t == self.since + self.window and len(self.collected) > 1:
            self.mean, self.deviation = statistics.fmean(self.collected), statistics.stdev(self.collected)
            self.collected = []

    @property
    def ready(self) -> bool:
        """Whether z can be had."""
        return self.mean is not None

    def z(self, gains: Sequence[float]) -> float:
        """How far the mean of a buffer's LII lies above what the domain had, in standard errors."""
        assert self.mean is not None
        assert self.deviation is not None
        above = statistics.fmean(gains) - self.mean
        if self.deviation == 0:
            return 0.0 if above == 0 else math.copysign(math.inf, above)
        return above / (self.deviation / math.sqrt(len(gains)))

    def resets(self, gains: Sequence[float]) -> bool:
        """Count this buffer; whether it is one too many."""
        self.strikes = self.strikes + 1 if self.z(gains) > self.bound else 0
        return self.strikes >= self.patience

    def restart(self, t: int) -> None:
        """Everything begins behind utterance t."""
        self.since, self.collected, self.mean, self.deviation, self.strikes = t, [], None, None, 0

    def state(self) -> dict[str, Any]:
        """As a JSON value."""
        return {name: getattr(self, name) for name in KEPT} | {"collected": list(self.collected)}

    def load(self, state: dict[str, Any]) -> None:
        """What `state` gave."""
        for name in KEPT:
            setattr(self, name, state[name])
        self.collected = list(state["collected"])


KEPT = ("since", "mean", "deviation", "strikes")


@dataclass
class Fixed:
    """Every `every` utterances, at the next full buffer."""

    every: int = 50
    due: int = 0

    def __post_init__(self) -> None:
        self.due = self.due or self.every

    def resets(self, t: int) -> bool:
        """Whether it is time."""
        if t < self.due:
            return False
        self.due += self.every
        return True


def crossed(borders: Collection[int], after: int, t: int) -> bool:
    """Whether a known border lies behind utterance `after` and not behind utterance t."""
    return any(after < border <= t for border in borders)
