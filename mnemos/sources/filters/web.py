"""Rules for web pages: C4 (arXiv:1910.10683), FineWeb's own (arXiv:2406.17557), DCLM's lines (arXiv:2406.11794)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import regex

from mnemos.sources.filters.gopher import duplicates
from mnemos.sources.filters.page import Page

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CITATIONS = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
ENDS = (".", "?", "!", '"', "'")
_ENDED = regex.compile(r"\p{STerm}$")
"""A line that ends like a sentence, in any script."""
_SENTENCE = regex.compile(
    r"(?<!\.|\b(?:Mr|Mrs|Ms|Dr|Prof|Inc|Ltd|Co|Corp|Jr|Sr|St|vs|e\.g|i\.e|a\.m|p\.m|\p{L}))"
    r"[.!?]+(?<!\.\.)[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f\u0964\u06d4\u061f\u2026]+"
)
"""Where a sentence ends; not behind common abbreviations and initials, nor at a run of dots."""
_COUNTER = re.compile(
    r"\W*\d+([.,]\d+)?[km]?\W*(likes?|shares?|comments?|retweets?|reposts?|quotes?|bookmarks?|upvotes?|"
    r"downvotes?|downloads?|views?|followers?|replies)\W*", re.IGNORECASE
)  # fmt: skip
_BOILERPLATE = re.compile(
    r"^\W*(sign[- ]in|log[- ]in|read more(\.\.\.)?|items in cart|share (this|on)|skip to (main )?content|"
    r"click here|add to cart|all rights reserved)\b", re.IGNORECASE
)  # fmt: skip


@dataclass(frozen=True)
class C4Lines:
    """Drops lines that are no sentence, then pages with fillers, code, or too few sentences.

    Lines with a word above 1,000 characters, of fewer than `min_words_per_line` words, with "javascript" or a phrase
    of policies go; citation marks are taken out. Pages with "lorem ipsum" or a curly bracket go, and those of fewer
    than `min_sentences` sentences. terminal: also drop lines that end in no . ? ! or quote (C4's own rule, which
    FineWeb leaves out, as it removes 30 % of tokens).
    """

    min_words_per_line: int = 3
    min_sentences: int = 5
    terminal: bool = False
    name: str = "c4"

    def __call__(self, page: Page) -> Page | str:
        """The page with the lines that stay, or why not."""
        kept, sentences = [], 0
        for raw in page.text.splitlines():
            line = CITATIONS.sub("", raw.strip())
            words = line.split()
            if any(len(word) > 1000 for word in words):
                continue
            if self.terminal and (not line.endswith(ENDS) or line.endswith("...")):
                continue
            if len(words) < self.min_words_per_line:
                continue
            low = line.lower()
            if "lorem ipsum" in low:
                return "lorem ipsum"
            if "javascript" in low:
                continue
            if "{" in line:
                return "a curly bracket"
            if any(phrase in low for phrase in POLICY):
                continue
            # What stands behind the last end is a sentence too.
            ends = [found.end() for found in _SENTENCE.finditer(line)]
            sentences += len(ends) + (not ends or bool(line[ends[-1] :].strip()))
            kept.append(line)
        if sentences < self.min_sentences:
            return "too few sentences"
        text = "\n".join(kept).strip()
        return page if text == page.text else replace(page, text=text)


@dataclass(frozen=True)
class FineWeb:
    """FineWeb's own rules: drops a page by the share of lines that end like a sentence, of short lines, of characters
    in repeated lines, and of line ends to words.

    max_repeated: the paper's text says 0.1, its appendix and the released code 0.01, which is the default here.
    """

    min_ended: float = 0.12
    max_short: float = 0.67
    short: int = 30
    max_repeated: float = 0.01
    max_line_ends: float = 0.3
    name: str = "fineweb"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        lines = [line for line in page.text.split("\n") if line.strip()]
        if not lines:
            return "empty"
        if sum(_ENDED.search(line[-1]) is not None for line in lines) / len(lines) < self.min_ended:
            return "too few lines that end like a sentence"
        if sum(len(line) <= self.short for line in lines) / len(lines) > self.max_short:
            return "too many short lines"
        ends = page.text.count("\n")
        if duplicates(lines)[1] / max(1, len(page.text) - ends) > self.max_repeated:
            return "too many characters in repeated lines"
        if ends / max(1, len(page.words)) > self.max_line_ends:
            return "too many line ends for its words"
        return page


@dataclass(frozen=True)
class DCLMLines:
    """RefinedWeb's and DCLM's correction of lines: those mostly in capitals, of digits alone, counters ("3 likes"),
    single words and boilerplate go; a page that loses more than 5 % of its words goes whole."""

    max_capitals: float = 0.5
    max_removed: float = 0.05
    short: int = 10
    name: str = "dclm_lines"

    def __call__(self, page: Page) -> Page | str:
        """The page with the lines that stay, or why not."""
        kept, removed, every = [], 0, 0
        for line in page.text.split("\n"):
            words = len(line.split())
            every += words
            if line.strip() and self._odd(line, words):
                removed += words
            else:
                kept.append(line)
        if removed > self.max_removed * max(1, every):
            return "too many words in lines that are no text"
        return page if not removed else replace(page, text="\n".join(kept))

    def _odd(self, line: str, words: int) -> bool:
        letters = sum(map(str.isalpha, line))
        bare = line.strip()
        return (
            words <= 1
            or (letters > 0 and sum(map(str.isupper, line)) > self.max_capitals * len(bare))
            or all(one.isdigit() or not one.isalnum() for one in bare)
            or _COUNTER.fullmatch(bare) is not None
            or (words <= self.short and _BOILERPLATE.match(bare) is not None)
        )
