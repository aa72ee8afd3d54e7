"""Rows of sound whose answers are what the language model itself says to the transcript."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from mnemos.core.nouns import AudioPart, Example, Part, Source, TextPart, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few
from mnemos.sources.in_words import has_sound, in_words, words_of
from mnemos.synthesis.writers import Tally, answered

REPETITION = 0.5
"""Share of 4-grams that may repeat an earlier one."""


@dataclass(frozen=True)
class Continued(NotGenerated):
    """Each row with a sound asked anew: its sound, the instruction, and what `before` answers to the transcript and the
    instruction. instruction: "" for none. column: of the transcript, which the new row keeps there. floor: share of
    the answers that must be usable. Rows without a sound stay as they are."""

    rows: Source
    before: ModelHandle
    instruction: str
    column: str
    max_new_tokens: int
    floor: float

    def describe(self) -> str:
        """The rows, and whose answers they have."""
        return f"{self.rows.describe()}, answered by the model before, given transcripts"

    def write(self, context: SynthesisContext) -> list[Example]:
        """See `GeneratedSource.write`. DataError for a row without a transcript, by name, and where too few answers
        have an end."""
        rows = context.rows(self.rows)
        asked = {(row.origin, row.id): self._asked(row) for row in rows if has_sound(row)}
        tally = Tally(context)
        pairs = [in_words(row, str(row.meta[self.column])) for row in asked.values()]
        named = [dataclasses.replace(row, id=str(number)) for number, row in enumerate(pairs)]
        found = {row.id: row.turns[-1] for row in answered(tally, self.before, named, self.max_new_tokens, REPETITION)}
        least = max(1, math.ceil(self.floor * len(asked))) if asked else 0
        too_few(tally.dropped, len(found), least, what="answers to transcripts")
        context.count("answered", len(found))
        turns = {name: found.get(str(number)) for number, name in enumerate(asked)}
        out: list[Example] = []
        for row in rows:
            name = row.origin, row.id
            if name not in asked:
                out.append(row)
            elif (turn := turns[name]) is not None:
                out.append(dataclasses.replace(asked[name], turns=(*asked[name].turns[:-1], turn)))
        return out

    def _asked(self, row: Example) -> Example:
        """The row as it is asked, with an empty answer."""
        words = words_of(row, self.column, answers=True)
        [sound] = [part for turn in row.turns for part in turn.sounds]
        content: tuple[Part, ...] = (AudioPart(sound.path, sound.start, sound.end),)
        if self.instruction:
            content = (*content, TextPart(f"\n{self.instruction}"))
        before = tuple(turn for turn in row.turns if turn.role == "system")
        turns = (*before, Turn("user", content), Turn("assistant", ""))
        return dataclasses.replace(row, turns=turns, meta={**row.meta, self.column: words})
