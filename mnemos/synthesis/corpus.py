"""Texts of a domain that a model writes from a description and a few examples (arXiv:2309.10707)."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Turn
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.mix import is_new
from mnemos.sources.novelty import NoveltyIndex
from mnemos.sources.words import bare_words, words
from mnemos.synthesis.instructions import MadeInstructions, asked_as
from mnemos.synthesis.writers import Tally

ORIGIN = "new, corpus synthesis"
FEWEST_PROMPTS, PROMPTS_A_ROUND = 16, 64
"""Texts that are asked for before what came of them decides what is asked next."""

ASK = "Write one sentence that a person might say aloud.\nTopic: {domain}\n"
HOLD = 'The sentence must contain "{word}".\n'
FORM = "Write the sentence alone, on one line, with numbers in words.\n"
SHOW = "\nSentences of this topic:\n{examples}\n"
_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("「", "」"))


@dataclass(frozen=True)
class Writing:
    """Settings of the writing; see the method."""

    domain: str
    words: tuple[str, ...]
    rows: int
    oversample: float
    shots: int
    novelty: float
    min_words: int
    max_words: int
    max_new_tokens: int
    temperature: float
    top_p: float
    raw: bool
    min_usable: float
    seed: int


@dataclass(frozen=True)
class CorpusRows(MadeInstructions):
    """`writing.rows` texts of the domain by the author; seeds are shown to it and are no part of them."""

    writing: Writing

    def describe(self) -> str:
        """One line for people."""
        return f"{self.writing.rows:,} texts of {self.writing.domain!r} that {self.author.path} writes"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Texts by rounds until the budget is full or the prompts are spent. Raises DataError where examples are to be
        shown and there is none, and with counts by reason where too few texts are usable."""
        given, tally = self.writing, Tally(context)
        shown = texts_of(context.rows(self.seeds), given.max_words) if given.shots else []
        if given.shots and not shown:
            raise DataError(
                f"shots = {given.shots}: no new row",
                f"has a text of at most max_words = {given.max_words} words to show",
                "give such rows, raise max_words, or set shots: 0 to write from the description alone",
            )
        index = NoveltyIndex(given.novelty)
        for text in shown:
            index.add(text)
        rng = random.Random(f"corpus {given.seed}")
        # What is known of each word: texts that hold it, and texts that were asked to.
        held, tried = Counter[str](), Counter[str]()
        rows: list[Example] = []
        left = math.ceil(given.oversample * given.rows)
        while len(rows) < given.rows and left > 0:
            # As many as rows are missing, but never so few that the last rows are asked for one at a time.
            number = min(left, PROMPTS_A_ROUND, max(given.rows - len(rows), FEWEST_PROMPTS))
            asked = _next_words(given, held, tried, number)
            left -= number
            prompts = [asked_as(prompt_of(given, word, _drawn(rng, shown, given.shots)), given.raw) for word in asked]
            stop = ("\n",) if given.raw else ()
            decoding = Decoding(given.max_new_tokens, given.temperature, given.top_p, seed=given.seed, stop=stop)
            answers = context.model(self.author).generate(prompts, decoding)
            for word, answer in zip(asked, answers, strict=True):
                text = sentence(answer.text)
                row = Example(f"corpus/{len(rows)}", "text", (Turn("text", text),), origin=ORIGIN, meta=_about(word))
                reason = self._unfit(row, word, answer.finished) or (None if index.admit(text) else "like another")
                if reason is None:
                    held[word] += 1
                    rows.append(row)
                else:
                    tally.drop(f"text: {reason}")
        if given.words:
            context.note("texts of the rarest word", min(held[word] for word in given.words))
        cure = "raise corpus_synthesis.oversample, or name a larger corpus_synthesis.author"
        return tally.keep(rows, given.rows, given.min_usable, what=f"texts of {given.domain!r}", cure=cure)

    def _unfit(self, row: Example, word: str, finished: bool) -> str | None:
        """Why a text is not learned; None where it may be."""
        text, given = row.turns[0].text, self.writing
        if not finished:
            return "no end"
        number = len(words(text))
        if number < given.min_words or number > given.max_words:
            return f"fewer than {given.min_words} words" if number < given.min_words else "too many words"
        if word and not holds(text, word):
            return "without the word that was asked for"
        return self.leak(row)


def texts_of(rows: Sequence[Example], longest: int) -> list[str]:
    """The different texts of the new rows on one line each: of a row of sound its transcript, of a dialogue its last
    answer. longest: words."""
    found = dict.fromkeys(" ".join(row.turns[-1].text.split()) for row in rows if is_new(row.origin))
    return [text for text in found if 0 < len(words(text)) <= longest]


def prompt_of(writing: Writing, word: str, examples: Sequence[str]) -> str:
    """What the author is asked. word: "" for none. examples: texts of the domain."""
    lines = ASK.format(domain=writing.domain) + (HOLD.format(word=word) if word else "") + FORM
    if examples:
        lines += SHOW.format(examples="\n".join(f"- {text}" for text in examples))
    # A text to be continued ends where the next example would stand.
    return f"{lines}-" if writing.raw and examples else lines.rstrip("\n") + ("\n\nSentence:" if writing.raw else "")


def sentence(answer: str) -> str:
    """The first line of an answer that says something, without a list's mark and without quotation marks around it."""
    line = next((" ".join(one.split()) for one in answer.splitlines() if one.strip()), "")
    line = _MARK.sub("", line)
    for first, last in _QUOTES:
        if len(line) > 1 and line.startswith(first) and line.endswith(last):
            line = line[1:-1].strip()
    return line


def holds(text: str, word: str) -> bool:
    """Whether the words of `word` stand in the text, in a row, whatever their case."""
    text_words, wanted = bare_words(text), bare_words(word)
    width = len(wanted)
    return any(text_words[at : at + width] == wanted for at in range(len(text_words) - width + 1))


def _drawn(rng: random.Random, shown: Sequence[str], shots: int) -> list[str]:
    return rng.sample(shown, min(shots, len(shown)))


def _next_words(writing: Writing, held: Counter[str], tried: Counter[str], number: int) -> list[str]:
    """For each of `number` texts the word that it is asked to hold: one of those that fewest have so far. A word that
    the author cannot place takes no more than its own share of the prompts. "" where no word is wanted."""
    share = math.ceil(writing.oversample * writing.rows / max(len(writing.words), 1))
    out, waiting = [], Counter[str]()
    for _ in range(number):
        fresh = [word for word in writing.words if tried[word] < share]
        word = min(fresh or writing.words, key=lambda one: held[one] + waiting[one], default="")
        tried[word] += 1
        waiting[word] += 1
        out.append(word)
    return out


def _about(word: str) -> dict[str, str]:
    return {"word": word} if word else {}
