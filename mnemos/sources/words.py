"""Words of a text in any script.

Scripts that are written without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese and other Tai
scripts) give one word a character, with the marks on it; all others are split at white space. So a sentence that
differs in one character keeps most of its words, in every script, without a dictionary.
"""

from __future__ import annotations

import re

import regex

_SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet".split()  # noqa: SIM905
)
_ALONE = r"(?!\p{Nd})[\u30fc\uff70" + "".join(rf"\p{{{script}}}" for script in _SCRIPTS) + "]"
_WORDS = regex.compile(rf"\ufffd|{_ALONE}\p{{M}}*|(?:(?!{_ALONE})[^\s\ufffd])+")
_ASCII = re.compile(r"[^ \t\n\r\f\v]+")
"""The same of ASCII, several times as fast. White space is Unicode's, without the separators U+001C to U+001F."""
_RUNS = regex.compile(rf"{_ALONE}\p{{M}}*|(?:(?!{_ALONE})[^\W_]\p{{M}}*)+")


def words(text: str) -> list[str]:
    """Runs between white space; each character of an unspaced script is a word, and so is each mark of broken
    UTF-8."""
    return _ASCII.findall(text) if text.isascii() else list(map(str, _WORDS.findall(text)))


def bare_words(text: str) -> list[str]:
    """As `words`, of lower-case letters and digits alone, with the marks on them."""
    return list(map(str, _RUNS.findall(text.lower())))
