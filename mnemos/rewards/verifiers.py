"""Verifiers: does an answer say what the reference says? Text in, a number in [0, 1] out.

They are shared by measurement (`match:` of a generated suite) and by training on rewards, so both
mean the same thing by "right". `VERIFIERS` is the one table of them. An answer is any text: `score` takes bounded
time and gives a number or a reason. A reference that no answer could meet is refused once, before anything is
asked, by `check_reference`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import regex as bounded_re

from mnemos.core.errors import DataError, nearest
from mnemos.core.patterns import SECONDS, Overtime, compiled, search
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards import parsed
from mnemos.rewards.numbers import last_number, same
from mnemos.rewards.parsed import check_schema, json_equal, json_schema, parse_json
from mnemos.sources.similarity import longest_common
from mnemos.sources.words import bare_words, words

__all__ = ["check_schema", "json_equal", "json_schema", "last_number", "parse_json"]

LONGEST = 200_000
"""Characters of an answer that is compared; the score of a longer one is missing."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SMALL = re.compile("(?<=\\d)(?=[²³¹⁰-⁹₀-₉¼-¾⅐-⅞↉])")
_PILED = bounded_re.compile(r"(\p{M}{30})(?=\p{M})")


def exact(answer: str, reference: str) -> float:
    """1 where the two are equal but for white space at the ends."""
    return float(answer.strip() == reference.strip())


def normalise(text: str) -> str:
    """Lower case, without punctuation, English articles and repeated white space.

    The normalisation of SQuAD (arXiv:1606.05250) after Unicode NFKC, with all Unicode punctuation
    instead of ASCII alone. Trap: "-5" and "5" become equal; compare numbers with `number`.
    """
    # A small digit does not become one of the number before it ("10²" is not "102"); marks piled on one letter
    # are parted as UAX 15 does it, because sorting them takes time that grows with their square.
    parted = _PILED.sub("\\1\u034f", _SMALL.sub(" ", text))
    folded = unicodedata.normalize("NFKC", parted).lower()
    # Unicode calls these signs of ASCII symbols, where SQuAD's string.punctuation counts them as punctuation.
    kept = "".join(c for c in folded if not (unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~"))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def normalised(answer: str, reference: str) -> float:
    """1 where the two are equal after `normalise`."""
    return float(normalise(answer) == normalise(reference))


def number(answer: str, reference: str) -> float:
    """1 where the last number of the answer is that of the reference; see `numbers.same`.

    The last number, because worked solutions end in their result (the flexible extraction that
    evaluations of GSM8K, arXiv:2110.14168, use). An answer without a number scores 0.
    """
    text, meant = last_number(answer), last_number(reference)
    return float(text is not None and meant is not None and same(text, meant))


def regex(answer: str, pattern: str) -> float:
    """1 where the pattern is found anywhere in the answer; anchor it with ^ and $ to match all."""
    return float(search(pattern, answer))


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words (see `words`), with multiplicity
    (SQuAD, arXiv:1606.05250). Both empty scores 1."""
    text, meant = Counter(words(normalise(answer))), Counter(words(normalise(reference)))
    if not text or not meant:
        return float(text == meant)
    # F1 = 2 P R / (P + R) with P = shared / words said and R = shared / words meant.
    shared = sum((text & meant).values())
    return 2 * shared / (sum(text.values()) + sum(meant.values()))


def chrf(answer: str, reference: str) -> float:
    """chrF2 of one sentence in [0, 1]: character n-grams, n = 1..6, recall counts twice.

    Popović 2015, doi:10.18653/v1/W15-3049; white space is left out, and orders longer than either
    text do not count (sacrebleu's effective order). Graded, so it shows a translation getting worse
    long before exact match does; works for Chinese, which has no spaces.
    """
    text, meant = "".join(answer.split()), "".join(reference.split())
    precision, recall, orders = 0.0, 0.0, 0
    for n in range(1, 7):
        # Clipped counts: an n-gram counts at most as often as the other text has it.
        a = Counter(text[i : i + n] for i in range(len(text) - n + 1))
        b = Counter(meant[i : i + n] for i in range(len(meant) - n + 1))
        if not a or not b:
            continue
        shared = sum((a & b).values())
        # Summed over n; the means over the orders that count are taken below.
        precision, recall, orders = precision + shared / a.total(), recall + shared / b.total(), orders + 1
    if not orders or precision + recall == 0:
        return 0.0
    precision, recall = precision / orders, recall / orders
    # chrF_beta = (1 + beta^2) P R / (beta^2 P + R), beta = 2
    return 5 * precision * recall / (4 * precision + recall)


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L of one sentence in [0, 1]: harmonic mean of the longest common subsequence of words as a
    share of the answer's and of the reference's.

    Lin 2004 (aclanthology.org/W04-1013) with precision and recall counted alike and without stemming,
    as in Super-NaturalInstructions; words are `bare_words`. 0 where either has none. Trap: implementations that
    know ASCII letters only cut other words to pieces, and give 0 for scripts without spaces.
    """
    text, meant = bare_words(answer), bare_words(reference)
    return 2 * longest_common(text, meant) / (len(text) + len(meant)) if text and meant else 0.0


def _is_pattern(reference: str) -> str | None:
    try:
        compiled(reference)
    except ValueError as error:
        return f"is no regular expression ({error}); escape special characters"
    return None


def _is_number(reference: str) -> str | None:
    if last_number(reference) is not None:
        return None
    return "holds no number that can be read; give a number, or another match:"


def _is_json(reference: str) -> str | None:
    try:
        parse_json(reference)
    except ValueError as error:
        return f"is not JSON ({error}); write it as JSON"
    return None


def _has_words(reference: str) -> str | None:
    return None if normalise(reference) else "is empty after normalisation; use match: exact for such answers"


def _has_letters(reference: str) -> str | None:
    return None if bare_words(reference) else "holds no word; use match: exact for such answers"


@dataclass(frozen=True)
class Verifier:
    """compare: (answer, reference) -> score in [0, 1]. graded: whether scores between 0 and 1 are given.
    fault: why no answer could meet the reference, and the cure behind a semicolon; None where one could."""

    compare: Callable[[str, str], float]
    graded: bool = False
    fault: Callable[[str], str | None] = lambda reference: None


VERIFIERS: Mapping[str, Verifier] = {
    "exact": Verifier(exact),
    "normalised": Verifier(normalised, fault=_has_words),
    "number": Verifier(number, fault=_is_number),
    "regex": Verifier(regex, fault=_is_pattern),
    "json": Verifier(json_equal, fault=_is_json),
    "f1": Verifier(f1, graded=True, fault=_has_words),
    "chrf": Verifier(chrf, graded=True),
    "rouge_l": Verifier(rouge_l, graded=True, fault=_has_letters),
}
"""Every verifier that compares with one reference text, by the name used in `match:` and `verifier:`. What is
listed elsewhere, settings and schemas, is read from here; programs and SQL are in `checks.CHECKS`."""

if TYPE_CHECKING:
    TextName = str
    TextNameOrNone = str
else:
    TextName = Literal[tuple(VERIFIERS)]
    TextNameOrNone = Literal[("none", *VERIFIERS)]
"""A name of `VERIFIERS`, or none, for settings."""


def verifier(name: str) -> Verifier:
    """The verifier called `name`; DataError with the nearest name otherwise."""
    if name not in VERIFIERS:
        raise DataError(f"verifier {name!r}", "is not known", nearest(name, VERIFIERS))
    return VERIFIERS[name]


def score(name: str, answer: str, reference: str) -> Rewarded:
    """What the verifier gives the answer; missing, with the reason, where it cannot say in bounded time."""
    compare = verifier(name).compare
    return guarded(answer, lambda: compare(answer, reference))


def schema_score(answer: str, schema: Mapping[str, Any]) -> Rewarded:
    """`json_schema`; missing, with the reason, where it cannot say in bounded time."""
    return guarded(answer, lambda: json_schema(answer, schema))


def guarded(answer: str, compare: Callable[[], float]) -> Rewarded:
    """The score of a comparison that meets whatever a model writes: its own failure is a reason, no zero."""
    if len(answer) > LONGEST:
        return missing(f"an answer of more than {LONGEST:,} characters")
    try:
        return Rewarded(compare())
    except Overtime:
        return missing(f"the comparison takes more than {SECONDS:g} seconds")
    except parsed.Unreadable:
        return missing("JSON that is nested too deep or holds too long a number")
    # Whatever a model writes meets this: one answer that a verifier cannot bear must not end a training.
    except Exception as error:
        return missing(f"the verifier failed: {type(error).__name__}")


def best(found: list[Rewarded]) -> Rewarded:
    """Of an answer's scores against several references: one that is met is enough; a missing one says nothing,
    unless another is met."""
    top = max((one for one in found if one.reason is None), key=lambda one: one.value, default=None)
    lost = next((one for one in found if one.reason is not None), None)
    # What is missing might have been met: a score below 1 is then not known to be the best.
    if lost is None or (top is not None and top.value == 1):
        assert top is not None
        return top
    return lost


def check_reference(name: str, reference: str, *, where: str) -> None:
    """Raise DataError for a reference that no answer could meet: a broken pattern, no number, no
    JSON. where: file and line, for the message."""
    fault = verifier(name).fault(reference)
    if fault is not None:
        bound, _, cure = fault.rpartition("; ")
        shown = reference if len(reference) <= 200 else f"{reference[:200]}…"
        raise DataError(f"{where}: {'pattern' if name == 'regex' else 'answer'} {shown!r}", bound, cure)
