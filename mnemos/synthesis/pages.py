"""Texts for pre-training that a model writes: pages in other styles (WRAP), and textbooks from topics (phi)."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few
from mnemos.sources.mix import is_new
from mnemos.sources.passages import passages
from mnemos.sources.similarity import distinct, repeated_4grams
from mnemos.sources.words import words
from mnemos.synthesis.self_generated import answers_to
from mnemos.synthesis.writers import Tally

Style = Literal["easy", "medium", "hard", "qa"]
REPHRASED, TEXTBOOK = "new, rephrased", "new, textbook"
STYLES: dict[Style, str] = {
    "easy": "Rewrite the text below in very simple words and short sentences that a small child understands.",
    "medium": "Rewrite the text below in other words, in clear and careful English such as an encyclopedia has.",
    "hard": "Rewrite the text below in terse and scholarly language with rare and learned words.",
    "qa": "Turn the text below into a conversation of questions and answers that says all that it says. Begin each "
    "question with 'Question:' and each answer with 'Answer:'.",
}
"""What is asked for each of WRAP's four styles."""
ASKED = "{style} Leave out no fact and add none. Reply with the new text alone.\n\nText:\n{text}"
WRITE = (
    "Write a section of a textbook on {topic}, for {reader}. Explain the idea in plain words, step by step, give an "
    "example that is worked through, and end with an exercise and its solution. Reply with the section alone."
)
READERS = ("children at school", "students in their first year", "people who use it at work")
OPENERS = re.compile(r"(?i)^\W*(sure|certainly|of course|okay|here(['’]s| is| are)|as an ai|i('m| am) sorry|text:)\b")
"""How an answer begins that speaks to whoever asked instead of being the text."""
LEAST, MOST = 0.25, 3.0
"""Words of a rewritten passage, as a share of the passage's: outside, it is no rewriting of it."""
REPETITION = 0.3
"""Share of 4-grams that may repeat an earlier one."""


@dataclass(frozen=True)
class Rephrased(NotGenerated):
    """Every document of `rows` in passages, each rewritten by `author` in one of the styles, drawn by seed.

    floor: share of the passages that must come out usable. Rows that are no text, or not new, are left out: they stand
    beside these rows, not in them.
    """

    rows: Source
    author: ModelHandle
    styles: tuple[Style, ...]
    max_chars: int
    decoding: Decoding
    floor: float

    def describe(self) -> str:
        """One line for people."""
        return f"{self.rows.describe()} rewritten by {self.author.path} ({', '.join(self.styles)})"

    def write(self, context: SynthesisContext) -> list[Example]:
        """A row a passage. Raises DataError, with counts by reason, where too few are usable."""
        tally = Tally(context)
        cut = self._passages(context, tally)
        drawn = [self._style(name) for name, _ in cut]
        asked = [_asked(STYLES[style], text) for (_, text), style in zip(cut, drawn, strict=True)]
        out = []
        for (name, text), style, one in zip(
            cut, drawn, answers_to(context.model(self.author), asked, self.decoding), strict=True
        ):
            reason = rewriting_fault(one, text, style)
            if reason is not None:
                tally.drop(reason)
                continue
            context.count(f"rewritten: {style}")
            meta = {"style": style}
            out.append(
                Example(f"{name}/{style}", "text", (Turn("text", one.text.strip()),), origin=REPHRASED, meta=meta)
            )
        context.note("usable share", len(out) / len(cut) if cut else math.nan)
        too_few(
            tally.dropped, len(out), max(1, math.ceil(self.floor * len(cut))), what="rewritten passages",
            cure=f"wrap.min_acceptance = {self.floor:g} of {len(cut):,}: a larger author follows instructions better, "
            "max_new_tokens may be too few; min_acceptance: 0 goes on all the same",
        )  # fmt: skip
        return out

    def _passages(self, context: SynthesisContext, tally: Tally) -> list[tuple[str, str]]:
        found = []
        for row in context.rows(self.rows):
            if row.kind != "text" or not is_new(row.origin):
                tally.drop("as it was: no new text")
                continue
            found += [(f"{row.id}/{n}", text) for n, text in enumerate(passages(row.turns[0].text, self.max_chars))]
        return found

    def _style(self, name: str) -> Style:
        # By the passage's own name: its style does not change when others are added or taken away.
        return random.Random(f"wrap {self.decoding.seed} {name}").choice(self.styles)


def _asked(style: str, text: str) -> Prompt:
    return Prompt((Turn("user", ASKED.replace("{style}", style).replace("{text}", text)),))


def rewriting_fault(one: Generation, passage: str, style: Style) -> str | None:
    """Why what was written is no rewriting of a passage; None where it may be one."""
    text = one.text.strip()
    reason = text_fault(one)
    if reason is not None:
        return reason
    if " ".join(text.split()) == " ".join(passage.split()):
        return "a copy of the text"
    if style == "qa" and not ("Question:" in text and "Answer:" in text):
        return "no questions and answers"
    share = len(words(text)) / max(1, len(words(passage)))
    return None if LEAST <= share <= MOST else "much shorter or longer than the text"


def text_fault(one: Generation) -> str | None:
    """Why what was written is no text to learn; None where it may be one."""
    text = one.text.strip()
    if not text:
        return "empty"
    if not one.finished:
        return "no end"
    if OPENERS.match(text):
        return "speaks of the instruction"
    # NaN, of fewer than four words, is above nothing.
    return "repeats itself" if repeated_4grams(text) > REPETITION else None


@dataclass(frozen=True)
class Textbooks(NotGenerated):
    """Sections of textbooks on the topics of `topics`, a text each, for readers in turn. rows: sections wanted.
    similarity: sections from this Jaccard similarity on are near-duplicates, of which the first stays."""

    topics: Source
    author: ModelHandle
    rows: int
    decoding: Decoding
    similarity: float
    floor: float

    def describe(self) -> str:
        """One line for people."""
        return f"{self.rows:,} sections of textbooks by {self.author.path} on {self.topics.describe()}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Topics in turn, each time for another reader. DataError without topics, and where too few are usable."""
        tally = Tally(context)
        topics = list(dict.fromkeys(" ".join(row.turns[0].text.split()) for row in context.rows(self.topics)))
        too_few({}, len(topics), 1, what="topics", cure="give a file with a topic a row")
        plan = [divmod(number, len(topics)) for number in range(self.rows)]
        asked = [_section(topics[place], place, turn) for turn, place in plan]
        answers = answers_to(context.model(self.author), asked, self.decoding)
        good: list[Example] = []
        for number, ((_, place), one) in enumerate(zip(plan, answers, strict=True)):
            reason = text_fault(one)
            if reason is not None:
                tally.drop(reason)
                continue
            text = (Turn("text", one.text.strip()),)
            good.append(Example(f"textbook-{number}", "text", text, origin=TEXTBOOK, meta={"topic": topics[place]}))
        kept = distinct([row.turns[0].text for row in good], self.similarity)
        tally.drop("a near-duplicate of an earlier section", len(good) - len(kept))
        cure = "give more topics, a larger author or more max_new_tokens; min_usable: 0 takes what there is"
        return tally.keep([good[n] for n in kept], self.rows, self.floor, what="sections", cure=cure)


def _section(topic: str, place: int, turn: int) -> Prompt:
    # Readers shift by a place each round, so that no topic is written for one reader alone.
    reader = READERS[(place + turn) % len(READERS)]
    return Prompt((Turn("user", WRITE.replace("{topic}", topic).replace("{reader}", reader)),))


def styles_of(names: Sequence[Style]) -> tuple[Style, ...]:
    """Each once, in the order of `STYLES`: order and repeats mean nothing."""
    return tuple(style for style in STYLES if style in names)
