"""Instructions made up for texts that are there, and pairs that a model thinks good (Humpback, arXiv:2308.06259)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Source, Turn
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge_prompt import Case
from mnemos.sources.dedup import Exact
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.mix import is_new
from mnemos.sources.plain import text_of
from mnemos.synthesis.instructions import MadeInstructions
from mnemos.synthesis.self_generated import answers_to
from mnemos.synthesis.writers import Tally

ORIGIN = "new, backtranslated"
PROMPT = """\
Write the instruction that a person could have given to an AI assistant, so that the text below is its answer. Reply
with the instruction alone.

Text:
{text}
"""
TAGS = ("Answer in the style of an AI Assistant.", "Answer with knowledge from web search.")
"""The paper's system turns: of the rows that were there, and of those that were made up."""
LIKE = 0.5
"""Share of an instruction's words in a row with the text from which on it is a copy of the text's beginning."""


@dataclass(frozen=True)
class Backtranslating:
    """Settings; see the method."""

    rows: int
    prompted: bool
    tag: str | None
    min_rating: float
    temperature: float
    top_p: float
    max_instruction_tokens: int
    min_chars: int
    max_chars: int
    min_usable: float
    seed: int


@dataclass(frozen=True)
class BacktranslatedRows(MadeInstructions):
    """Pairs of a made-up instruction and a text that was there. texts: the answers. grader: who curates; None keeps
    every pair."""

    texts: Source
    grader: Grader | None
    making: Backtranslating

    def describe(self) -> str:
        """One line for people."""
        return f"instructions by {self.author.path} for {self.texts.describe()}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Make an instruction up for each text, leave out what is none, and keep the highest rated. Raises DataError,
        with counts by reason, where too few are kept."""
        given, tally = self.making, Tally(context)
        texts = self._texts(context, tally)
        asked = [_asked(text, given.prompted) for _, text in texts]
        decoding = Decoding(given.max_instruction_tokens, given.temperature, given.top_p, seed=given.seed)
        made: list[Example] = []
        for (name, text), one in zip(texts, answers_to(context.model(self.author), asked, decoding), strict=True):
            reason = fault(one, text)
            if reason is None:
                made.append(self._row(name, one.text.strip(), text))
            else:
                tally.drop(f"instruction: {reason}")
        made = self.clean(tally, made, Exact())
        kept = self._curated(context, tally, made)
        cure = (
            "lower backtranslation.min_rating, give more texts, or a larger author; min_usable: 0 takes what there is"
        )
        return tally.keep(kept, given.rows, given.min_usable, what="backtranslated rows", cure=cure)

    def _texts(self, context: SynthesisContext, tally: Tally) -> list[tuple[str, str]]:
        out = []
        for row in context.rows(self.texts):
            text = text_of(row).strip()
            if not self.making.min_chars <= len(text) <= self.making.max_chars:
                tally.drop("a text too short or too long")
            else:
                out.append((row.id, text))
        return out

    def _row(self, name: str, instruction: str, text: str) -> Example:
        system = () if self.making.tag is None else (Turn("system", self.making.tag),)
        turns = (*system, Turn("user", instruction), Turn("assistant", text))
        return Example(f"{name}/backtranslated", "messages", turns, origin=ORIGIN)

    def _curated(self, context: SynthesisContext, tally: Tally, rows: Sequence[Example]) -> list[Example]:
        """Those rated high enough, in their order, with their rating as a column."""
        if self.grader is None or not rows:
            return list(rows)
        # Without the tag: the judge is asked about the pair.
        cases = [Case(Prompt((row.turns[-2],)), (row.turns[-1].text,)) for row in rows]
        found = self.grader.asking(context.model).ratings(cases)
        numbers = [one for one in found if not isinstance(one, str)]
        if numbers:
            context.note("mean rating", sum(numbers) / len(numbers))
        out = []
        for row, rating in zip(rows, found, strict=True):
            if isinstance(rating, str):
                tally.drop(f"rating: {rating}")
            elif rating < self.making.min_rating:
                tally.drop(f"rated below {self.making.min_rating:g}")
            else:
                out.append(replace(row, meta={**row.meta, "rating": rating}))
        return out


def _asked(text: str, prompted: bool) -> Prompt:
    # A model that was trained backwards (`reverse`) is shown the answer alone, as in its rows.
    return Prompt((Turn("user", PROMPT.replace("{text}", text) if prompted else text),))


def fault(one: Generation, text: str) -> str | None:
    """Why what was written is no instruction for a text; None where it may be one."""
    instruction = one.text.strip()
    if not instruction:
        return "empty"
    if not one.finished:
        return "no end"
    words = instruction.lower().split()
    shown = text.lower().split()[: 2 * len(words)]
    if words and _shared(words, shown) >= LIKE * len(words) and len(words) >= 4:
        return "a copy of the text"
    return None


def _shared(words: Sequence[str], shown: Sequence[str]) -> int:
    """The longest run of words that stands in both."""
    best = 0
    for start in range(len(words)):
        for at in range(len(shown)):
            size = 0
            while start + size < len(words) and at + size < len(shown) and words[start + size] == shown[at + size]:
                size += 1
            best = max(best, size)
    return best


# rows that are there ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tagged:
    """New chats under a system turn of their own; rows that have one, or are no chat, stay as they are."""

    rows: Source
    tag: str

    @property
    def fingerprint(self) -> str:
        """Of the rows and the tag."""
        return fingerprint({"tagged": [self.rows.fingerprint, self.tag]})

    def describe(self) -> str:
        """The rows, under their tag."""
        return f"{self.rows.describe()} under {self.tag!r}"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            plain = row.kind == "messages" and is_new(row.origin) and row.turns[0].role != "system"
            yield replace(row, turns=(Turn("system", self.tag), *row.turns)) if plain else row
