"""Gopher's rules of quality and repetition (arXiv:2112.11446, appendix A), as FineWeb's code counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import regex

from mnemos.sources.filters.page import Page

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("\u2022", "-")
ELLIPSES = ("...", "\u2026")
_LETTER = regex.compile(r"\p{L}")
_NO_SYMBOL = regex.compile(r"[^\W_]")


@dataclass(frozen=True)
class GopherQuality:
    """Drops a page whose words are too few or many, too short or long, or too seldom words; with too many # or
    ellipses; of bullets; or without stop words.

    Marks of punctuation count as words in shares and not in the number and length of words. Of the stop words,
    distinct ones count (DCLM counts occurrences).

    Trap: written for English. Scripts without spaces fail the number, length and stop words by construction.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_word_length: float = 3.0
    max_word_length: float = 10.0
    max_symbols: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_words_with_letter: float = 0.8
    min_stop_words: int = 2
    name: str = "gopher_quality"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        words, text = page.words, page.text
        plain = [word for word in words if _NO_SYMBOL.search(word)]
        if not self.min_words <= len(plain) <= self.max_words:
            return f"{'fewer' if len(plain) < self.min_words else 'more'} words than allowed"
        mean = sum(map(len, plain)) / len(plain)
        if not self.min_word_length <= mean <= self.max_word_length:
            return f"words {'shorter' if mean < self.min_word_length else 'longer'} than allowed on average"
        many = len(words)
        if text.count("#") / many > self.max_symbols:
            return "too many #"
        if sum(map(text.count, ELLIPSES)) / many > self.max_symbols:
            return "too many ellipses"
        lines = text.splitlines()
        if sum(line.lstrip().startswith(BULLETS) for line in lines) / len(lines) > self.max_bullet_lines:
            return "too many lines with bullets"
        if sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines) > self.max_ellipsis_lines:
            return "too many lines that end in an ellipsis"
        if sum(_LETTER.search(word) is not None for word in words) / many < self.min_words_with_letter:
            return "too few words with a letter"
        if self.min_stop_words and len(set(words).intersection(STOP_WORDS)) < self.min_stop_words:
            return "too few stop words"
        return page


@dataclass(frozen=True)
class GopherRepetition:
    """Drops a page that repeats lines, paragraphs or n-grams: shares of lines (paragraphs) that repeat an earlier one,
    of characters in them, of characters in the most frequent 2-, 3-, 4-gram, and in repeated 5- to 10-grams.

    The denominator is the length of the text; repeated n-grams are found by a scan that passes over what it counted,
    and are joined without spaces.
    """

    max_lines: float = 0.3
    max_paragraphs: float = 0.3
    max_line_characters: float = 0.2
    max_paragraph_characters: float = 0.2
    top: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    repeated: tuple[tuple[int, float], ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    name: str = "gopher_repetition"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        size = len(page.text)
        for parts, what, most, most_characters in (
            (page.paragraphs, "paragraphs", self.max_paragraphs, self.max_paragraph_characters),
            (page.lines, "lines", self.max_lines, self.max_line_characters),
        ):
            number, characters = duplicates(parts)
            if number / len(parts) > most:
                return f"too many repeated {what}"
            if characters / size > most_characters:
                return f"too many characters in repeated {what}"
        words = page.words
        for n, most in self.top:
            if top_characters(words, n) / size > most:
                return f"too many characters in one {n}-gram"
        # Ids instead of texts: an n-gram is a tuple of small numbers, and lengths are looked up.
        for n, most in self.repeated:
            if repeated_characters(words, n) / size > most:
                return f"too many characters in repeated {n}-grams"
        return page


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts repeat an earlier one, and their characters."""
    seen: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in seen:
            number += 1
            characters += len(part)
        else:
            seen.add(part)
    return number, characters


def top_characters(words: Sequence[str], n: int) -> int:
    """Characters of the most frequent n-gram, words joined by spaces, times how often it occurs; the first of equally
    frequent ones."""
    counts = Counter(grams(words, n))
    if not counts:
        return 0
    best, count = counts.most_common(1)[0]
    return (sum(map(len, best)) + n - 1) * count


def grams(words: Sequence[str], n: int) -> Any:
    """The n-grams as tuples."""
    return pairwise(words) if n == 2 else zip(*(words[at:] for at in range(n)), strict=False)


def repeated_characters(words: Sequence[str], n: int) -> int:
    """Characters of n-grams that occurred before, found without overlap."""
    seen: set[str] = set()
    at = characters = 0
    last = len(words) - n
    while at <= last:
        gram = "".join(words[at : at + n])
        if gram in seen:
            characters += len(gram)
            at += n
        else:
            seen.add(gram)
            at += 1
    return characters
