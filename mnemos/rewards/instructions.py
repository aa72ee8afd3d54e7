"""Instructions whose following a program can check: the 25 kinds of IFEval (Zhou et al., arXiv:2311.07911).

`CHECKS` has one row for each kind. A check takes an answer that holds more than white space, and the instruction's
arguments under the names that IFEval's data have; it takes time in proportion to the answer.

Deviations from IFEval's own checkers: 1. sentences end where `sentences` says, without a trained splitter; 2. words in
capitals are found without a tokenizer; 3. the language is told by py3langid among `LANGUAGES` where they use langdetect
(both call a text without letters followed); 4. keywords are texts, not patterns; 5. a letter that is none
(`#`, `!`) is counted, where they draw a random one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnemos.core.errors import DataError, nearest
from mnemos.rewards.parsed import parse_json
from mnemos.sources.language import language_identifier

_CODES = """af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl
pt ro ru sk sl sq sv sw ta te th tl tr uk ur vi zh"""
LANGUAGES = tuple(_CODES.split())
"""ISO 639-1 codes among which the language of an answer is told: those that langdetect knows, but for Somali."""

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
# Not from within a run of stops: a long one would be tried from each of its characters.
_ENDS = re.compile(r"(?<![.!?…。！？])[.!?…。！？]+[\"'”’)\]*_]*(?=\s|\Z)|[。！？]")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|a\.m|p\.m|No|Inc|Ltd|Co|Gen|Sen|Rep|Fig|approx)"
    r"|(?:\A|\n)[ \t]*\d{1,3})\Z"
)
_HEARD_BACK = 12
_FENCE = re.compile(r"\A```(?:json|Json|JSON)?|```\Z")


def sentences(text: str) -> int:
    """How many sentences stand in a text: stretches that hold a letter or digit, up to a full stop, question or
    exclamation mark before white space. No sentence ends behind a common abbreviation, a single letter, or a number
    that begins a line (the place in a list)."""
    count, start = 0, 0
    for end in _ENDS.finditer(text):
        before = text[max(start, end.start() - _HEARD_BACK) : end.start()]
        if end[0] == "." and _ABBREVIATION.search(before):
            continue
        count += _says(text[start : end.end()])
        start = end.end()
    return count + _says(text[start:])


def _says(text: str) -> bool:
    return any(c.isalnum() for c in text)


def capital_words(text: str) -> int:
    """Words all of whose letters are capitals; a hyphen joins a word's parts, an apostrophe parts them."""
    return sum(word.isupper() for word in re.findall(r"[^\W_]+(?:[-./&][^\W_]+)*", text))


def language(text: str) -> str | None:
    """ISO 639-1 code of a text's language, one of `LANGUAGES`; None where no letter is."""
    if not any(c.isalpha() for c in text):
        return None
    # Letters in capitals alone look like no language to an identifier that has seen running text.
    code: str = language_identifier(LANGUAGES).classify(text.lower())[0]
    return code


def _related(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def _holds(text: str, keyword: str) -> int:
    return len(re.findall(re.escape(keyword.strip()), text, re.IGNORECASE))


def _nth_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = text.split("\n\n")
    filled = sum(bool(one.strip()) for one in paragraphs)
    # Counted among all parts, empty ones included, as IFEval counts them.
    if not 1 <= nth_paragraph <= filled or not (words := paragraphs[nth_paragraph - 1].split()):
        return False
    begins = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"').lower(), maxsplit=1)[0]
    return filled == num_paragraphs and begins == first_word.lower()


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    parts = [bool(one.strip()) for one in text.split("***")]
    # An empty part is a divider at the beginning or the end; between two others it is a slip.
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def _postscript(text: str, postscript_marker: str) -> bool:
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    return re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, num_bullets: int) -> bool:
    lines = [line.lstrip() for line in text.split("\n")]
    stars = sum(line[:1] == "*" and len(line) > 1 and line[1] != "*" for line in lines)
    return stars + sum(line[:1] == "-" for line in lines) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(one.strip("*").strip()) for one in [*single, *double]) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", text)) >= num_sections


def _json(text: str) -> bool:
    text = _FENCE.sub("", text.strip()).strip()
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _two(text: str) -> bool:
    parts = text.split("******")
    said_nothing = [not one.strip() for one in parts]
    found = [one.strip() for one in parts if one.strip()]
    return not any(said_nothing[1:-1]) and len(found) == 2 and found[0] != found[1]


def _quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _title(text: str) -> bool:
    for line in text.split("\n"):
        # From the first opening to the last closing, with a character between: found without trying each opening,
        # which would take time that grows with their square.
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start <= end - 3 and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _placeholders(text: str) -> int:
    """Square brackets from an opening to the next closing of the line; ``[a [b]`` is one."""
    count = 0
    for line in text.split("\n"):
        end = -1
        while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
    return count


def _in_english(text: str) -> bool:
    return language(text) in ("en", None)


RELATIONS = ("less than", "at least")


@dataclass(frozen=True)
class Check:
    """follows: (answer, **arguments) -> whether the instruction is followed. takes: the arguments, by name, and the
    type of each."""

    follows: Callable[..., bool]
    takes: Mapping[str, type] = field(default_factory=dict)


CHECKS: Mapping[str, Check] = {
    "keywords:existence": Check(lambda text, keywords: all(_holds(text, one) for one in keywords), {"keywords": list}),
    "keywords:frequency": Check(
        lambda text, keyword, frequency, relation: _related(_holds(text, keyword), relation, frequency),
        {"keyword": str, "frequency": int, "relation": str},
    ),
    "keywords:forbidden_words": Check(
        lambda text, forbidden_words: (
            not any(re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE) for one in forbidden_words)
        ),
        {"forbidden_words": list},
    ),
    "keywords:letter_frequency": Check(
        lambda text, letter, let_frequency, let_relation: _related(
            text.lower().count(letter.strip().lower()), let_relation, let_frequency
        ),
        {"letter": str, "let_frequency": int, "let_relation": str},
    ),
    "language:response_language": Check(lambda text, language: _told(text, language), {"language": str}),
    "length_constraints:number_sentences": Check(
        lambda text, num_sentences, relation: _related(sentences(text), relation, num_sentences),
        {"num_sentences": int, "relation": str},
    ),
    "length_constraints:number_paragraphs": Check(_paragraphs, {"num_paragraphs": int}),
    "length_constraints:number_words": Check(
        lambda text, num_words, relation: _related(len(re.findall(r"\w+", text)), relation, num_words),
        {"num_words": int, "relation": str},
    ),
    "length_constraints:nth_paragraph_first_word": Check(
        _nth_paragraph, {"num_paragraphs": int, "nth_paragraph": int, "first_word": str}
    ),
    "detectable_content:number_placeholders": Check(
        lambda text, num_placeholders: _placeholders(text) >= num_placeholders,
        {"num_placeholders": int},
    ),
    "detectable_content:postscript": Check(_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": Check(_bullets, {"num_bullets": int}),
    "detectable_format:constrained_response": Check(lambda text: any(one in text for one in _OPTIONS)),
    "detectable_format:number_highlighted_sections": Check(_highlights, {"num_highlights": int}),
    "detectable_format:multiple_sections": Check(_sections, {"section_spliter": str, "num_sections": int}),
    "detectable_format:json_format": Check(_json),
    "detectable_format:title": Check(_title),
    "combination:two_responses": Check(_two),
    "combination:repeat_prompt": Check(
        lambda text, prompt_to_repeat: text.strip().lower().startswith(prompt_to_repeat.strip().lower()),
        {"prompt_to_repeat": str},
    ),
    "startend:end_checker": Check(
        lambda text, end_phrase: text.strip().strip('"').lower().endswith(end_phrase.strip().lower()),
        {"end_phrase": str},
    ),
    "startend:quotation": Check(_quoted),
    "change_case:capital_word_frequency": Check(
        lambda text, capital_frequency, capital_relation: _related(
            capital_words(text), capital_relation, capital_frequency
        ),
        {"capital_frequency": int, "capital_relation": str},
    ),
    "change_case:english_capital": Check(lambda text: text.isupper() and _in_english(text)),
    "change_case:english_lowercase": Check(lambda text: text.islower() and _in_english(text)),
    "punctuation:no_comma": Check(lambda text: "," not in text),
}
"""Every kind of instruction by IFEval's name."""


def _told(text: str, code: str) -> bool:
    return language(text) in (code, None)


def followed(name: str, arguments: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer follows an instruction; one of white space follows none."""
    return bool(answer.strip()) and bool(CHECKS[name].follows(answer, **arguments))


def loosened(answer: str) -> list[str]:
    """The answer and the seven changed ones of IFEval's loose reading: without its first line, its last, or both,
    each also without asterisks. What is followed in any of them counts as followed."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(one.replace("*", "") for one in cut)]


def check_instruction(name: Any, arguments: Any, *, where: str) -> dict[str, Any]:
    """The instruction's arguments, without those that are null. Raises DataError for an unknown kind of instruction,
    and for arguments that it does not take, lacks, or that are of another type."""
    if not isinstance(name, str) or name not in CHECKS:
        raise DataError(f"{where}: instruction {name!r}", "is not known", nearest(str(name), CHECKS))
    takes = CHECKS[name].takes
    given = (
        {key: value for key, value in arguments.items() if value is not None} if isinstance(arguments, Mapping) else {}
    )
    if set(given) != set(takes):
        need = ", ".join(takes) or "none"
        raise DataError(
            f"{where}: {name} with {sorted(given)}", "has other arguments than it takes", f"it takes: {need}"
        )
    for key, kind in takes.items():
        _check_argument(key, given[key], kind, f"{where}: {name}")
    return given


def _check_argument(key: str, value: Any, kind: type, where: str) -> None:
    words: Sequence[Any] = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    fits = type(value) is kind and all(isinstance(one, str) and one.strip() for one in words) and value != []
    if key.endswith("relation"):
        fits = value in RELATIONS
    if key == "language":
        fits = value in LANGUAGES
    if not fits:
        cure = {"relation": " or ".join(RELATIONS), "language": ", ".join(LANGUAGES)}.get(
            "relation" if key.endswith("relation") else key, f"a {kind.__name__} that is not empty"
        )
        raise DataError(f"{where}: {key} = {str(value)[:100]!r}", "cannot be checked", f"give {cure}")
