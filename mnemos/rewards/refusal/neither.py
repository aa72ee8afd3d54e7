"""Answers that are neither an answer nor a refusal: silence, echoes, another language, noise."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mnemos.sources.language import language_identifier
from mnemos.sources.words import words

_CODES = (
    "ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu id it ja ko lt lv mr ms nl no pl pt ro ru sk sl sr sv sw "
    "ta te th tl tr uk ur vi zh"
)
MAJOR = frozenset(_CODES.split())
"""Languages that are told apart (ISO 639-1): among all that the identifier knows, short texts scatter over small
neighbours of the large ones."""

LETTERS = 20
"""UTF-8 bytes of letters below which no language is guessed."""

LONGEST = 20_000
"""Characters of an answer that are looked at."""

NUMBERS = 5
"""Numbers without a word from which on an answer to words is none."""

FOREIGN = "another language than the prompt's"

PLAUSIBLE, FITS = 0.05, 0.05
"""A language is the prompt's where its probability is at least the first; an answer is in another one where the
prompt's languages together have less than the second."""

NAMES = 0.6
"""Share of capitalised words from which on a text is a list of names, which has no language."""

_WORD = re.compile(r"\w+")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.S)
_ASKED = re.compile(
    r"\b(?:translat\w+|language|languages|english|chinese|mandarin|cantonese|spanish|french|german|italian|portuguese|"
    r"dutch|russian|japanese|korean|arabic|hindi|bengali|turkish|polish|swedish|danish|norwegian|finnish|greek|hebrew|"
    r"thai|vietnamese|indonesian|malay|swahili|latin|ukrainian|czech|hungarian|romanian|persian|farsi|urdu|"
    r"español|inglés|français|anglais|deutsch|englisch|italiano|inglese|português|inglês)\b|"
    r"翻译|翻譯|语言|語言|[英中汉漢法德俄日韩韓西阿葡意]文|[英汉漢法德俄日韩韓]语|[英漢法德俄日韓]語|"
    r"английск|русск|перевед|перевест|日本語|英語|영어|한국어|번역"
)


def neither(answer: str, prompt: str = "", language: str | None = None) -> str:
    """Why a text is no answer and no refusal; empty where it may be either.

    prompt: what was asked; without it echoes and other languages are not looked for. language: the code (ISO 639-1) of
    the language that the answer should have, instead of the prompt's. A prompt that names a language may be answered
    in any.
    """
    answer, prompt = answer[:LONGEST], prompt[:LONGEST]
    text = words(_folded(answer))
    # Signs alone say nothing, and neither does a single letter or digit: which option it names is anybody's guess.
    letters = sum(character.isalnum() for character in answer)
    if not letters:
        return "silence"
    if letters == 1:
        return "one character"
    if _noise(answer, text) or _numbers(answer, prompt):
        return "noise"
    if _echo(text, words(_folded(prompt))):
        return "an echo of the prompt"
    return _foreign(answer, prompt, language)


def _folded(text: str) -> str:
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _noise(answer: str, tokens: list[str]) -> bool:
    """Bytes that are no text, a few words over and over, or no letters where there is much."""
    solid = [character for character in answer if not character.isspace()]
    broken = sum(c == "\ufffd" or unicodedata.category(c) in ("Cc", "Co", "Cn") for c in solid)
    opening = tokens[:60]
    loops = len(opening) >= 12 and len(set(opening)) <= max(2, 0.15 * len(opening))
    run = re.search(r"(\w)\1{9,}|([^\w\s])(?:\s*\2){29,}", answer) is not None and len(set(solid)) <= 12
    signs = len(solid) >= 20 and sum(c.isalnum() or unicodedata.category(c)[0] == "M" for c in solid) < 0.2 * len(solid)
    # Code is full of signs, and no noise.
    return broken > 0.1 * len(solid) or loops or run or (signs and "```" not in answer)


def _numbers(answer: str, prompt: str) -> bool:
    """Sums in answer to words: many numbers and not one letter, where the prompt holds no number. A telephone number
    or a date has fewer."""
    worded = any(c.isalpha() for c in prompt) and not any(c.isdigit() for c in prompt)
    return worded and not any(c.isalpha() for c in answer) and len(re.findall(r"\d+", answer)) >= NUMBERS


def _echo(tokens: list[str], asked: list[str]) -> bool:
    """Whether the answer is the prompt, most of it, or the prompt and next to nothing more."""
    if len(asked) < 3 or not tokens:
        return False
    a, b = " ".join(tokens), " ".join(asked)
    # From about its beginning: an answer that quotes the passage behind a question is none.
    place = f" {b} ".find(f" {a} ")
    # the answer is a part of the prompt, half of it at least
    within = place >= 0 and len(b[:place].split()) <= 3 and 2 * len(tokens) >= len(asked)
    # the prompt comes first, and next to nothing behind it
    around = a.startswith(b) and len(tokens) - len(asked) <= max(2, len(asked) // 4)
    repeated = f" {b} {b} " in f" {a} "
    return within or around or repeated


@lru_cache(maxsize=4096)
def _languages(text: str) -> dict[str, float]:
    return {str(code): float(probability) for code, probability in language_identifier(tuple(sorted(MAJOR))).rank(text)}


def _prose(text: str) -> str:
    return " ".join(_CODE.sub(" ", text).split())[:600]


def _letters(text: str) -> int:
    return len("".join(c for c in text if c.isalpha()).encode(errors="replace"))


def _foreign(answer: str, prompt: str, language: str | None) -> str:
    text, asked = _prose(answer), _prose(prompt)
    if _letters(text) < LETTERS or (
        language is None and (_letters(asked) < LETTERS or _ASKED.search(prompt.casefold()))
    ):
        return ""
    if language is not None and language not in MAJOR:
        return ""
    wanted = {language} if language else {code for code, p in _languages(asked).items() if p >= PLAUSIBLE}
    found = _languages(text)
    # The sum, because neighbours such as Danish and Norwegian share out the probability of one text.
    if sum(found[code] for code in wanted) >= FITS:
        return ""
    capitals = [word for word in text.split() if word[:1].isupper()]
    return "" if len(capitals) > NAMES * len(text.split()) else FOREIGN
