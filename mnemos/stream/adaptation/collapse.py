"""Has a recogniser that adapts collapsed? It is looked at along the way, since a mean over a stream hides it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from mnemos.measure.recognition import errors

WINDOW = 20
"""Utterances that are looked at together."""
MOST_BLANK = 0.5
"""Share of utterances without a transcript, above which it has collapsed."""
FEWEST_CHARS = 0.3
"""Characters a second beside the source model's, below which it has."""
LEAST_ENTROPY = 1e-3
"""Nats; a mean entropy below it, with transcripts of its own, is a model sure of nothing that was said."""
MOST_CHANGED = 0.8
"""Share of the source's characters that differ, for that."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One utterance. blank: no frame has another best label. text, source: transcripts of the adapted and of the
    source model. seconds: of sound. entropy: the mean over frames that are not blank."""

    blank: bool
    text: str
    source: str
    seconds: float
    entropy: float


@dataclass
class Collapse:
    """The rule over the last WINDOW utterances; nothing is said before there are so many."""

    sights: deque[Sight] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def saw(self, sight: Sight) -> str | None:
        """Why it has collapsed, in words; None as long as it has not."""
        self.sights.append(sight)
        if len(self.sights) < WINDOW:
            return None
        blank = sum(one.blank for one in self.sights) / WINDOW
        if blank > MOST_BLANK:
            return f"{100 * blank:.0f} % of the last {WINDOW} utterances have no transcript"
        own, source = (sum(len(text) for text in texts) for texts in self._texts())
        if source and own < FEWEST_CHARS * source:
            return f"it writes {own / source:.2f} characters where the source model writes one"
        sure = math.fsum(one.entropy for one in self.sights) / WINDOW < LEAST_ENTROPY
        if sure and source and self._changed() > MOST_CHANGED * source:
            return "it is sure of everything, and agrees with the source model in nothing"
        return None

    def _texts(self) -> tuple[list[str], list[str]]:
        return [one.text for one in self.sights], [one.source for one in self.sights]

    def _changed(self) -> int:
        return sum(errors(one.source, one.text).total for one in self.sights)
