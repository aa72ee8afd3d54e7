"""How the report says numbers: one place, so that every format says the same.

Everything here is ASCII except the plus-minus sign, so that a terminal, a spreadsheet and a pull
request can all take it; `typeset` gives the HTML page its true minus signs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MISSING = "missing"

_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: object, *, lines: bool = False) -> str:
    """Text that can be shown anywhere: control characters, lone surrogates and direction overrides
    become U+FFFD, so that a model's output cannot drive a terminal or reorder a line.

    lines: keep line breaks and tabs; otherwise all white space is one blank.
    """
    text = str(text)
    if lines:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    else:
        text = " ".join(text.split())
    return _INVISIBLE.sub("\ufffd", text)


def number(value: Any) -> float | None:
    """A finite float, or None for what JSON and NumPy call missing (null, NaN, infinity)."""
    if value is None or isinstance(value, bool | str):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def decimals(unit: str) -> int:
    """Digits after the point: one for points (hundredths of the scale), three for bits and nats."""
    return 1 if unit == "points" else 3


def scaled(value: float | None, unit: str) -> float | None:
    """From the suite's own scale to the one shown: times 100 for points."""
    return None if value is None else value * (100.0 if unit == "points" else 1.0)


def limit(value: float | None, unit: str) -> float | None:
    """An end of an interval from the suite's own scale to the one shown; points end at what is possible, 100."""
    shown = scaled(value, unit)
    return shown if shown is None or unit != "points" else min(100.0, max(-100.0, shown))


def figure(value: float | None, unit: str, *, sign: bool = False) -> str:
    """A value already on the shown scale: "31.0", "+0.180"; "missing" for None. Never "-0.0"."""
    if value is None:
        return MISSING
    text = f"{value:+.{decimals(unit)}f}" if sign else f"{value:.{decimals(unit)}f}"
    # What rounds to zero has no sign.
    return text.lstrip("+-") if not any(digit in text for digit in "123456789") else text


def interval(low: float | None, high: float | None, unit: str, *, sign: bool = False) -> str:
    """ "[25.1, 36.4]" on the shown scale; empty when there is none."""
    if low is None or high is None:
        return ""
    return f"[{figure(low, unit, sign=sign)}, {figure(high, unit, sign=sign)}]"


def listing(names: Iterable[str], *, at_most: int = 6, word: str = "and") -> str:
    """ "a, b and c"; beyond `at_most`, "a, b and 3 more"."""
    names = list(names)
    if len(names) > at_most:
        names = [*names[: at_most - 1], f"{len(names) - at_most + 1} more"]
    if len(names) <= 1:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def counted(n: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def reasons(counts: Mapping[str, int] | Sequence[tuple[str, int]]) -> str:
    """ "no JSON: 12, empty: 3", most frequent first."""
    pairs = counts.items() if isinstance(counts, Mapping) else counts
    return ", ".join(f"{clean(name)}: {n:,}" for name, n in sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def duration(seconds: float | None) -> str:
    """ "0.42 s", "41 s", "3 min 10 s", "2 h 05 min"."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.095 else f"{seconds:.2f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def amount(n: float | None) -> str:
    """A count in three digits: "950", "12,300", "123 k", "1.23 M", "4.56 B"."""
    if n is None:
        return MISSING
    for bound, factor, letter in ((1e5, 1.0, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M"), (math.inf, 1e9, " B")):
        # 999,600 would round to "1,000 k": from 999.5 of a unit on the next one is used.
        if n < bound * (1 - 5e-4 if letter else 1):
            return _three(n / factor) + letter if letter else f"{n:,.0f}"
    raise AssertionError(n)


def size(bytes_: float | None) -> str:
    """Memory in decimal units: "812 MB", "1.10 GB"."""
    if bytes_ is None:
        return MISSING
    return f"{_three(bytes_ / 1e9)} GB" if bytes_ >= 999.5e6 else f"{bytes_ / 1e6:.0f} MB"


def share(part: float | None, whole: float | None) -> str:
    """ "100 %", "0.83 %"."""
    if part is None or not whole:
        return MISSING
    return f"{100 * part / whole:.3g} %"


def _three(x: float) -> str:
    # Borders where rounding would add a digit: 9.996 is "10.0", not "10.00".
    return f"{x:,.0f}" if x >= 99.95 else f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def value(item: Any) -> str:
    """A setting as a reader would write it: true, 0.1, data/old.jsonl, [a, b]."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if item is None:
        return "none"
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{clean(k)}: {value(v)}" for k, v in item.items()) + "}" if item else "{}"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(value(part) for part in item) + "]"
    return clean(item)


def typeset(text: str) -> str:
    """The same words with true minus signs before numbers, for HTML and figures."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text)


def p_words(p: float | None) -> str:
    """ "0.032", "< 0.001"; empty when there is none."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
