r"""Numbers as people and models write them: found in the text as it stands, read exactly.

The text is not normalised first: unfolding "cm²" would leave behind a 2 that nobody wrote. Read are 1,234.5,
12,34,567, 1'234, 1.234.567, 3,5, .5, -3, –3, -$7, 2e3, 10^3, 10³, 2 × 10^3, 3/4, ½, 3½, 3 1/2, \frac{1}{2},
3\frac{1}{2}, \boxed{7} and digits of all scripts; times, ratios, dates and versions (9:30, 2024-05-12, 1.2.3) are
one value. Digits that belong to a name (cm², CO₂, m^3, x_1, H2O) are no numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 1000
"""Characters of a number, and powers, beyond which it is not read."""

NOISE = Fraction(1, 1_000_000)
"""What may lie between two numbers, not both of them integers, that are the same; see `same`."""


@dataclass(frozen=True)
class Joined:
    """Numbers that are one value: a time, a ratio, a date, a version. half: "a" before noon, "p" after it,
    empty where the text does not say."""

    parts: tuple[Fraction, ...]
    half: str = ""

    @property
    def clock(self) -> tuple[Fraction, ...]:
        """The parts with hours from 0 to 23."""
        hours = self.parts[0] % 12 + (12 if self.half == "p" else 0) if self.half else self.parts[0]
        return (hours, *self.parts[1:])


# One character each, so that places stay what they are.
_PLAIN = {0xFF01 + i: chr(0x21 + i) for i in range(94)}
_PLAIN |= dict.fromkeys((0x2212, 0x2013, 0x2011, 0xFE63, 0xFF0D), "-") | dict.fromkeys((0x2044, 0x2215), "/")
_PLAIN |= dict.fromkeys((0x00A0, 0x2007, 0x2009), "\u202f") | {0x066B: ".", 0x066C: ",", 0x2019: "'"}
_SMALL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉", "0123456789+-0123456789")
_UP, _DOWN, _VULGAR = "⁰¹²³⁴-⁹", "₀-₉", "¼½¾⅐-⅞↉"

# Between groups of three digits: spaces and marks, also as LaTeX writes them.
_GAP = r"[\u202f'_]|\{,\}|,\\!|\\[,;!]|,"
_WHOLE = (
    r"(?!0)\d{1,3}(?:\.\d{3}){2,20}(?:,\d+)?(?![.\d])"  # 1.234.567,5
    rf"|(?!0)\d{{1,3}}(?P<gap>{_GAP})\d{{3}}(?:(?P=gap)\d{{3}})*(?!\d)(?:\.\d+)?"  # 1,234.5
    r"|(?!0)\d{1,2}(?:,\d\d){1,10},\d{3}(?!\d)(?:\.\d+)?"  # 12,34,567
    r"|(?<![\d,])\d+,\d+(?![,\d])"  # 3,5
    r"|\d+(?:\.\d+)?|\.\d+"
)
_FRAC = r"\\[dt]?frac *(?:\{([^{}]{0,200})\}|(\d)) *(?:\{([^{}]{0,200})\}|(\d))"
_POWER = rf"(?:\^ ?|\*\*(?=[-+\d]))(?:\{{ *([-+]?\d+) *\}}|([-+]?\d+))|([⁺⁻]?[{_UP}]+(?!/[{_DOWN}]|[{_UP}]))"
_NEXT = re.compile(
    # Values that are no fractions: what follows must not be read as a number of its own (the 2 of a root of 2).
    r"(?P<symbol>\\sqrt *(?:\[[^][]{0,20}\] *)?(?:\{[^{}]{0,100}\}|\d)|√ ?\d*|[)\]}](?:\^|\*\*)\{?[-+]?\d+)"
    rf"|(?P<small>[{_UP}]+/[{_DOWN}]+)"
    # Digits of a name: a power or an index behind a letter or a bracket, and small digits anywhere else.
    rf"|(?P<skip>(?<=[^\s\d])\^ ?(?:\{{[^{{}}]{{0,40}}\}}|[-+]?\d+)"
    rf"|(?<=[^\W_]|[)\]}}])_(?:\{{[^{{}}]{{0,40}}\}}|\d+)|[⁺⁻{_UP}{_DOWN}]+)"
    rf"|(?P<frac>{_FRAC})|(?P<vulgar>[{_VULGAR}])"
    # Before whole numbers, which would read the last part of a date or a time alone. 1.234.567 is a whole number,
    # though.
    r"|(?P<joined>(?!\d{1,3}(?:\.\d{3}){2,20}(?![.\d]))(?:\d+(?P<dot>[-./:])\d+(?:(?P=dot)\d+){1,6}"
    r"(?:(?<=:\d\d)\.\d+)?(?![-/:]\d)"
    r"|\d+:\d+(?!:?\d)|\d{1,2}[h点點时時]\d{1,2}分?)(?: ?(?P<half>[aApP])\.?[mM]\b)?)"
    rf"|(?P<whole>{_WHOLE})"
)
_TEN = re.compile(rf"[ \u202f]?(?:[×xX*·⋅]|\\times|\\cdot) ?10(?:{_POWER})")
_RAISED = re.compile(_POWER)
_EXPONENT = re.compile(r"[eE]([-+]?\d{1,3})(?!\d)")
_MIXED = re.compile(
    rf"(?: |\u202f|\\[,;! ])?(?:(?P<vulgar>[{_VULGAR}])|(?P<frac>{_FRAC})|(?P<small>[{_UP}]+/[{_DOWN}]+))"
    r"|[ \u202f](?P<over>\d+)/(?P<under>\d+)(?![./\d])"
)
_DIVIDED = re.compile(r"\s?/\s?(\d+)(?![.\d])")
_SYMBOL = re.compile(r"\s?(?:\\pi\b|π|\\sqrt|√)")
_SIGN = re.compile(r"(-)(?:\\?[$¢-¥֏؋฿₠-⃏][ \u202f]?)?\Z")
_LETTERS = re.compile(r"(\\?)([^\W\d_]+)\Z")
_MONEY = frozenset(("usd", "eur", "gbp", "jpy", "cny", "rmb", "inr", "chf", "cad", "aud", "hkd", "krw", "rs", "rm"))


def last_number(text: str) -> Fraction | Joined | None:
    """The last number in the text; None if there is none, or if it is not one that can be read (longer than
    `LONGEST`, a root, a multiple of pi). Signs of currency and percent around it are ignored: "50%" is 50.

    Digits right behind a letter count only where the text has no other number ("USD50" is 50, always).
    """
    plain = text.translate(_PLAIN)
    last: tuple[re.Match[str], int] | None = None
    named: tuple[re.Match[str], int] | None = None
    for match, end in _found(plain):
        if _in_name(plain, match.start()):
            named = match, end
        else:
            last = match, end
    chosen = last or named
    return None if chosen is None else _value(plain, *chosen)


def _found(plain: str) -> Iterator[tuple[re.Match[str], int]]:
    """Every number's beginning and where it ends."""
    at = 0
    while match := _NEXT.search(plain, at):
        at = match.end()
        if match.lastgroup == "skip":
            continue
        if match["whole"]:
            tail = _tail(plain, match)
            at = at if tail is None else tail.end()
        yield match, at


def _tail(plain: str, whole: re.Match[str]) -> re.Match[str] | None:
    """What belongs to a number behind its digits: a power, an exponent, a fraction."""
    for pattern in (_TEN, _RAISED, _EXPONENT, _MIXED, _DIVIDED):
        found = pattern.match(plain, whole.end())
        if found is None:
            continue
        if pattern is _MIXED and not _proper(whole.group(), found):
            continue
        return found
    return None


def _proper(whole: str, mixed: re.Match[str]) -> bool:
    """Whether the two are a mixed fraction: "3 1/2" is, "3 5/2" and "3.5 1/2" are not."""
    part = _fraction(mixed)
    return part is not None and 0 <= part < 1 and re.fullmatch(r"\d+|\d{1,3}(?:,\d{3})+", whole) is not None


def _in_name(plain: str, start: int) -> bool:
    """Whether a letter of a script with capitals stands right before: H2O, but not USD50, \times10 or 是42."""
    if not start or plain[start - 1].lower() == plain[start - 1].upper():
        return False
    before = _LETTERS.search(plain, max(0, start - 16), start)
    return before is not None and not before[1] and before[2].lower() not in _MONEY


def _value(plain: str, match: re.Match[str], end: int) -> Fraction | Joined | None:
    if end - match.start() > LONGEST or match["symbol"] or _SYMBOL.match(plain, end):
        return None
    if match["joined"]:
        parts = re.findall(r"\d+\.\d+\Z|\d+" if ":" in match["joined"] else r"\d+", match["joined"])
        return Joined(tuple(map(Fraction, parts)), (match["half"] or "").lower())
    try:
        value = _fraction(match) if not match["whole"] else _raised(match["whole"], _tail(plain, match))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return -value if value is not None and _is_negative(plain, match.start()) else value


def _raised(whole: str, tail: re.Match[str] | None) -> Fraction:
    # Fractions throughout: 0.1 is one tenth, and comparing is exact.
    value = _plain(whole)
    if tail is None:
        return value
    if tail.re is _EXPONENT:
        return value * Fraction(10) ** int(tail[1])
    if tail.re is _DIVIDED:
        return value / Fraction(tail[1]) if Fraction(tail[1]) else value
    if tail.re is _MIXED:
        return value + (_fraction(tail) or 0)
    power = int(next(group for group in tail.groups() if group).translate(_SMALL))
    # Before computing it: 9^(9^9) would fill the memory, and its digits are about len(whole) * power.
    if abs(power) > LONGEST or len(whole) * abs(power) > 10 * LONGEST:
        raise OverflowError
    return value * Fraction(10) ** power if tail.re is _TEN else value**power


def _fraction(match: re.Match[str]) -> Fraction | None:
    r"""The value of ½, \frac{1}{2}, ¹⁄₂ or 1/2; None where it is none (\frac{x}{2}, a division by 0)."""
    groups = match.groupdict()
    if groups["vulgar"]:
        top, _, bottom = unicodedata.normalize("NFKC", groups["vulgar"]).partition("\u2044")
        if not bottom:
            top, bottom = str(int(unicodedata.numeric(groups["vulgar"]))), "1"
    elif groups["small"]:
        top, _, bottom = groups["small"].translate(_SMALL).partition("/")
    elif groups["frac"]:
        inner = re.fullmatch(_FRAC, groups["frac"])
        assert inner is not None
        top, bottom = inner[1] or inner[2] or "", inner[3] or inner[4] or ""
    else:
        top, bottom = groups["over"], groups["under"]
    try:
        return _plain(top.strip()) / _plain(bottom.strip())
    except (ValueError, ZeroDivisionError):
        return None


def _plain(digits: str) -> Fraction:
    """1,234.5 and its kin."""
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,20}(?:,\d+)?", digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"0\d*,\d+|\d+,(?:\d{1,2}|\d{4,})|\d{4,},\d+", digits):
        digits = digits.replace(",", ".")
    digits = re.sub(_GAP, "", digits)
    return Fraction(digits)


def _is_negative(plain: str, start: int) -> bool:
    """Whether a minus stands before: "3-4" is a range or a subtraction, "page-7" a hyphen."""
    # Five characters hold a minus, a backslash, a sign of currency and a space.
    sign = _SIGN.search(plain, max(0, start - 5), start)
    if sign is None:
        return False
    before = plain[sign.start() - 1] if sign.start() else " "
    return not (before.isalnum() or before in ")]")


def same(answer: Fraction | Joined, meant: Fraction | Joined) -> bool:
    """Whether two numbers are the same.

    Integers must be equal. Others may differ by 1e-6, by a millionth of the larger one where that is smaller;
    or one is the other rounded to the decimals that it shows, to a millionth. So 0.3333333 is 1/3, 33333.3333
    is 100000/3, 6.9999999 is 7; 12345678.91 is not 12345678.92. Times are compared as times: 9:30 p.m. is 21:30;
    where only one of them names its half of the day, also as they stand.
    """
    if isinstance(answer, Joined) or isinstance(meant, Joined):
        return isinstance(answer, Joined) and isinstance(meant, Joined) and _same_joined(answer, meant)
    if answer == meant or (answer.denominator == meant.denominator == 1):
        return answer == meant
    gap: Fraction = abs(answer - meant)
    size: Fraction = max(abs(answer), abs(meant))
    # A millionth of the larger one, and never more than 1e-6: by size alone 12345678.91 would equal 12345678.92.
    if gap <= NOISE * min(size, Fraction(1)):
        return True
    if gap > NOISE * size:
        return False
    places = [_places(answer), _places(meant)]
    # Rounded to n decimals a number lies within half a unit of the n-th, 1 / (2 * 10^n); an integer (n = 0) is no
    # rounding here.
    coarse = min(places)
    return 0 < coarse < max(places) and gap <= Fraction(1, 2 * 10**coarse)


def _same_joined(answer: Joined, meant: Joined) -> bool:
    if answer.clock == meant.clock:
        return True
    return bool(answer.half) != bool(meant.half) and answer.parts == meant.parts


def _places(value: Fraction) -> int:
    """Decimals that the number needs; as many as could be where it never ends."""
    return next((n for n in range(40) if (value * 10**n).denominator == 1), 40)
