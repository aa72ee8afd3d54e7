"""Verifiers: does an answer say what the reference says? Text in, a number in [0, 1] out.

They are shared by measurement (`match:` of a generated suite) and by training on rewards, so both
mean the same thing by "right". Each is pure; a reference that no answer could meet is refused once,
before anything is asked, by `check_reference`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mnemos.core.errors import DataError, nearest

Verifier = Callable[[str, str], float]
"""(answer, reference) -> score in [0, 1]."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FENCE = re.compile(r"\A\s*```[\w+-]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?:\s?/\s?\d+(?![.\d]))?|-?\.\d+")


def exact(answer: str, reference: str) -> float:
    """1 where the two are equal but for white space at the ends."""
    return float(answer.strip() == reference.strip())


def normalise(text: str) -> str:
    """Lower case, without punctuation, English articles and repeated white space.

    The normalisation of SQuAD (arXiv:1606.05250) after Unicode NFKC, with all Unicode punctuation
    instead of ASCII alone. Trap: "-5" and "5" become equal; compare numbers with `number`.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    kept = "".join(c for c in folded if not (unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~"))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def normalised(answer: str, reference: str) -> float:
    """1 where the two are equal after `normalise`."""
    return float(normalise(answer) == normalise(reference))


def last_number(text: str) -> Fraction | None:
    r"""The last number in the text, exactly; None if there is none.

    Reads 1,234.5, -3, 2e3, 3/4, full-width digits and LaTeX (\boxed{7}, \frac{1}{2}); signs of
    currency and percent around it are ignored ("50%" is 50).
    """
    plain = unicodedata.normalize("NFKC", text).replace("−", "-")
    plain = _LATEX_FRACTION.sub(r"\1/\2", plain).replace("{,}", ",")
    found = list(_NUMBER.finditer(plain))
    if not found:
        return None
    digits, before = found[-1].group(), plain[: found[-1].start()]
    if digits.startswith("-") and before and (before[-1].isalnum() or before[-1] in ")]"):
        digits = digits[1:]  # "3-4" is a range or a subtraction, "page-7" a hyphen: not a sign
    top, _, bottom = digits.replace(",", "").replace(" ", "").partition("/")
    return Fraction(top) / Fraction(bottom) if bottom and Fraction(bottom) else Fraction(top)


def number(answer: str, reference: str) -> float:
    """1 where the last number of the answer equals that of the reference, to a relative 1e-6.

    The last number, because worked solutions end in their result (the flexible extraction that
    evaluations of GSM8K, arXiv:2110.14168, use). An answer without a number scores 0.
    """
    said, meant = last_number(answer), last_number(reference)
    if said is None or meant is None:
        return 0.0
    return float(abs(said - meant) <= Fraction(1, 1_000_000) * max(abs(said), abs(meant)))


def regex(answer: str, pattern: str) -> float:
    """1 where the pattern is found anywhere in the answer; anchor it with ^ and $ to match all."""
    return float(re.search(pattern, answer) is not None)


def parse_json(text: str) -> Any:
    """The JSON value that the whole text is, alone or inside one Markdown fence.

    Raises ValueError where it is none. NaN and Infinity are refused, because they are not JSON.
    """
    fenced = _FENCE.match(text)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(fenced.group(1) if fenced else text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_equal(answer: str, reference: str) -> float:
    """1 where both are the same JSON value: order of keys and white space do not count; 1 == 1.0,
    but true != 1."""
    try:
        return float(_strict(parse_json(answer)) == _strict(parse_json(reference)))
    except ValueError:
        return 0.0


def _strict(value: Any) -> Any:
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return value


def json_schema(answer: str, schema: Mapping[str, Any]) -> float:
    """1 where the whole answer is JSON that the schema accepts.

    The dialect is the one that ``$schema`` names, 2020-12 otherwise. References to other documents
    are not fetched; an answer that needs one scores 0.
    """
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        value = parse_json(answer)
    except ValueError:
        return 0.0
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        return float(kind(schema, registry=Registry()).is_valid(value))
    except Unresolvable:
        return 0.0


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words, with multiplicity (SQuAD,
    arXiv:1606.05250). Both empty scores 1."""
    said, meant = Counter(normalise(answer).split()), Counter(normalise(reference).split())
    if not said or not meant:
        return float(said == meant)
    shared = sum((said & meant).values())
    return 2 * shared / (sum(said.values()) + sum(meant.values()))


def chrf(answer: str, reference: str) -> float:
    """chrF2 of one sentence in [0, 1]: character n-grams, n = 1..6, recall counts twice.

    Popović 2015, doi:10.18653/v1/W15-3049; white space is left out, and orders longer than either
    text do not count (sacrebleu's effective order). Graded, so it shows a translation getting worse
    long before exact match does; works for Chinese, which has no spaces.
    """
    said, meant = "".join(answer.split()), "".join(reference.split())
    precision, recall, orders = 0.0, 0.0, 0
    for n in range(1, 7):
        a = Counter(said[i : i + n] for i in range(len(said) - n + 1))
        b = Counter(meant[i : i + n] for i in range(len(meant) - n + 1))
        if not a or not b:
            continue
        shared = sum((a & b).values())
        precision, recall, orders = precision + shared / a.total(), recall + shared / b.total(), orders + 1
    if not orders or precision + recall == 0:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 5 * precision * recall / (4 * precision + recall)


_WORD = re.compile(r"[^\W_]+")


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L of one sentence in [0, 1]: harmonic mean of the longest common subsequence of words as a
    share of the answer's and of the reference's.

    Lin 2004 (aclanthology.org/W04-1013) with precision and recall counted alike and without stemming,
    as in Super-NaturalInstructions; words are lower-case runs of letters and digits. 0 where either
    has none. Trap: implementations that know ASCII letters only cut other words to pieces.
    """
    said, meant = _WORD.findall(answer.lower()), _WORD.findall(reference.lower())
    if not said or not meant:
        return 0.0
    row = [0] * (len(meant) + 1)
    for word in said:
        before = row
        row = [0]
        for j, other in enumerate(meant):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
    return 2 * row[-1] / (len(said) + len(meant))


VERIFIERS: Mapping[str, Verifier] = {
    "exact": exact,
    "normalised": normalised,
    "number": number,
    "regex": regex,
    "json": json_equal,
    "f1": f1,
    "chrf": chrf,
    "rouge_l": rouge_l,
}
"""Every verifier that compares with one reference text, by the name used in `match:`."""


def verifier(name: str) -> Verifier:
    """The verifier called `name`; DataError with the nearest name otherwise."""
    if name not in VERIFIERS:
        raise DataError(f"verifier {name!r}", "is not known", nearest(name, VERIFIERS))
    return VERIFIERS[name]


def check_reference(name: str, reference: str, *, where: str) -> None:
    """Raise DataError for a reference that no answer could meet: a broken pattern, no number, no
    JSON. where: file and line, for the message."""
    if name == "regex":
        try:
            re.compile(reference)
        except re.error as error:
            raise DataError(
                f"{where}: pattern {reference!r}", f"is no regular expression ({error})", "escape special characters"
            ) from None
    elif name == "number" and last_number(reference) is None:
        raise DataError(f"{where}: answer {reference!r}", "holds no number", "give a number, or another match:")
    elif name == "json":
        try:
            parse_json(reference)
        except ValueError as error:
            raise DataError(f"{where}: answer {reference!r}", f"is not JSON ({error})", "write it as JSON") from None
    elif name in ("normalised", "f1") and not normalise(reference):
        raise DataError(
            f"{where}: answer {reference!r}", "is empty after normalisation", "use match: exact for such answers"
        )


def check_schema(schema: Any, *, where: str) -> None:
    """Raise DataError where `schema` is not a valid JSON schema."""
    import jsonschema

    if not isinstance(schema, Mapping):
        raise DataError(f"{where}: schema {schema!r}", "must be a mapping", "write a JSON schema, e.g. {type: object}")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise DataError(f"{where}: schema", f"is not valid: {error.message}", "see json-schema.org") from None
