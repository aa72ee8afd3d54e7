"""A page of text with what several filters count of it, counted once; and what a filter is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import regex

LONGEST = 4_000_000
"""Characters above which a page is dropped unread: no page that people read is so long, and filters take memory for
each of its words."""

_WORD = regex.compile(
    r"https?://\S+|www\.\S+"
    r"|(?:\p{L}\.){2,}"  # U.S.A.
    r"|[^\W_]+?(?=(?i:n['\u2019]t)\b)|(?i:n['\u2019]t)\b"  # do n't
    r"|['\u2019](?i:s|re|ve|ll|d|m)\b"  # 's
    r"|[^\W_]+(?:(?:[:/&]|\.(?!\p{Lu})|,(?=\d)|['\u2019](?!(?i:s|re|ve|ll|d|m)\b))[^\W_]+)*"  # 3.5, and/or, o'clock
    r"|\.{2,}|-{2,}|\S"
)
_PARAGRAPH, _LINE = re.compile(r"\n{2,}"), re.compile(r"\n+")


@dataclass(frozen=True)
class Page:
    """text: what is kept of it. url: where it came from, empty where nobody knows."""

    text: str
    url: str = ""

    @cached_property
    def words(self) -> list[str]:
        """Words and marks of punctuation, about as spaCy's English tokenizer (FineWeb's code asks it) tells them apart:
        do n't, e - mail, 3.5, a URL and a run of dots are one each."""
        return list(_WORD.findall(self.text))

    @cached_property
    def lines(self) -> list[str]:
        """What stands between line ends."""
        return _LINE.split(self.text)

    @cached_property
    def paragraphs(self) -> list[str]:
        """What stands between empty lines."""
        return _PARAGRAPH.split(self.text.strip())

    @property
    def domain(self) -> str:
        """The host of the URL without www, empty without one."""
        found = re.match(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?([^/:?#]+)", self.url.lower())
        return found[1].removeprefix("www.") if found else ""


class Filter(Protocol):
    """name: what reasons begin with. Calling it gives the page, changed or not, or the reason to drop it."""

    @property
    def name(self) -> str:
        """What the filter is called."""
        ...

    def __call__(self, page: Page) -> Page | str:
        """The page as it goes on, or a reason."""
        ...


def through(filters: Sequence[Filter], page: Page) -> tuple[Page | None, str]:
    """The page behind all filters, or None and "filter: reason" of the first that drops it."""
    if len(page.text) > LONGEST:
        return None, f"page: longer than {LONGEST:,} characters"
    if not page.text.strip():
        return None, "page: empty"
    for one in filters:
        found = one(page)
        if isinstance(found, str):
            return None, f"{one.name}: {found}"
        page = found
    return page, ""
