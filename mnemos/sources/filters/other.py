"""Language, perplexity, runs of one character, personal data, and a classifier's score."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mnemos.core.errors import DataError
from mnemos.sources.filters.page import Page
from mnemos.sources.language import language_identifier

HEAD = 5000
"""Characters of a page that its language and perplexity are told from."""


@dataclass(frozen=True)
class Language:
    """Drops a page that is not in `language` (ISO 639-1), or not surely enough.

    Deviation: 1. FineWeb asks fastText's model; here py3langid's, whose probability is that of a sum over all
    languages, so that 0.65 is not the same 0.65.
    """

    language: str = "en"
    least: float = 0.65
    name: str = "language"

    @cached_property
    def _identifier(self) -> Any:
        return language_identifier(())

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        found, probability = self._identifier.classify(page.text[:HEAD])
        if found != self.language:
            return f"in {found}"
        return page if probability >= self.least else f"not surely in {self.language}"


@dataclass(frozen=True)
class RepeatedCharacters:
    """Drops a page with too many characters in runs of one (ten or more of the same, blanks and all)."""

    run: int = 10
    most: float = 0.2
    name: str = "repeated_characters"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        inside = sum(len(one[0]) for one in re.finditer(rf"(?s)(.)\1{{{self.run - 1},}}", page.text))
        return page if inside <= self.most * len(page.text) else "too many characters in runs of one"


_EMAIL = re.compile(r"\b[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\b")
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")


@dataclass(frozen=True)
class PersonalData:
    """Puts other text in the place of e-mail addresses and public IPv4 addresses; drops nothing. Addresses of private
    networks stay: they are nobody's."""

    email: str = "email@example.com"
    ip: str = "192.0.2.1"
    name: str = "personal_data"

    def __call__(self, page: Page) -> Page | str:
        """The page without them."""
        text = _EMAIL.sub(self.email, page.text)
        text = _IP.sub(lambda one: self.ip if _is_public(one[0]) else one[0], text)
        return page if text == page.text else replace(page, text=text)


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


@dataclass(frozen=True)
class Perplexity:
    """Drops a page that a character model of reference text finds too surprising, or too easy.

    model: made by `character_model`. most, least: bits per character.

    Trap: pages like the reference are kept, so that the filter must not be judged by perplexity on that text.
    """

    model: CharacterModel
    most: float = 4.0
    least: float = 0.5
    name: str = "perplexity"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        bits = self.model.bits(page.text[:HEAD])
        if bits > self.most:
            return "too surprising"
        return page if bits >= self.least else "too easy to predict"


ORDER = 5


@dataclass
class CharacterModel:
    """Characters given the four before them, by interpolation with the shorter contexts (Witten-Bell): counts of each
    context and of each character behind it."""

    behind: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(ORDER)])
    totals: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(ORDER)])
    kinds: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(ORDER)])

    def bits(self, text: str) -> float:
        """Mean of -log2 p of the text's characters; 0 for none."""
        if not text:
            return 0.0
        total = 0.0
        for at, _ in enumerate(text):
            p = 1 / 0x10FFFF  # a character that was never seen may be any
            for n in range(ORDER):
                if n > at:
                    break
                context = text[at - n : at]
                kinds = self.kinds[n][context]
                if not kinds:
                    break
                # p_n = (c(context, x) + T(context) p_{n-1}) / (c(context) + T(context)), T: kinds seen behind it.
                p = (self.behind[n][context + text[at]] + kinds * p) / (self.totals[n][context] + kinds)
            total -= math.log2(p)
        return total / len(text)


def character_model(texts: Iterable[str], most: int = 5_000_000) -> CharacterModel:
    """Learn from at most `most` characters. Raises DataError for none."""
    model, left = CharacterModel(), most
    for text in texts:
        text = text[:left]
        left -= len(text)
        for n in range(ORDER):
            grams = Counter(text[at : at + n + 1] for at in range(len(text) - n))
            model.behind[n].update(grams)
        if left <= 0:
            break
    if not model.behind[0]:
        raise DataError("the reference texts", "hold no character", "give text of the kind that should be kept")
    for n in range(ORDER):
        for gram, count in model.behind[n].items():
            model.totals[n][gram[:-1]] += count
            model.kinds[n][gram[:-1]] += 1
    return model


@dataclass(frozen=True)
class Scored:
    """Drops a page by a classifier's score. score: text -> number. keep: pages at `least` or above, or those below."""

    score: Callable[[str], float]
    least: float = 0.5
    name: str = "classifier"
    keep: Literal["above", "below"] = "above"

    def __call__(self, page: Page) -> Page | str:
        """The page, or why not."""
        value = self.score(page.text)
        if not np.isfinite(value):
            return "no score"
        if (value >= self.least) == (self.keep == "above"):
            return page
        return f"score below {self.least:g}" if self.keep == "above" else f"score of {self.least:g} or above"
