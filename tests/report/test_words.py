from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.report import words


@pytest.mark.parametrize(
    ("value", "unit", "sign", "expected"),
    [
        (31.04, "points", False, "31.0"),
        (-0.04, "points", False, "0.0"),
        (-0.04, "points", True, "0.0"),
        (0.04, "points", True, "0.0"),
        (2.0, "points", True, "+2.0"),
        (-2.06, "points", True, "-2.1"),
        (0.1804, "bits", True, "+0.180"),
        (None, "points", False, "missing"),
    ],
)
def test_figure(value: float | None, unit: str, sign: bool, expected: str) -> None:
    assert words.figure(value, unit, sign=sign) == expected


@given(st.floats(-200, 200))
def test_figure_reads_back_within_rounding(value: float) -> None:
    assert abs(float(words.figure(value, "points", sign=True)) - value) <= 0.05 + 1e-9


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "3", True])
def test_number_calls_these_missing(value: object) -> None:
    assert words.number(value) is None


def test_number_takes_numpy() -> None:
    assert words.number(np.float32(0.5)) == 0.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (0.42, "0.42 s"), (4.26, "4.3 s"), (41.2, "41 s"), (190, "3 min 10 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (950, "950"), (12300, "12,300"), (123456, "123 k"), (999_600, "1.00 M"), (4.56e9, "4.56 B")],
)
def test_amount(n: float, text: str) -> None:
    assert words.amount(n) == text


@pytest.mark.parametrize(
    ("n", "text"), [(812e6, "812 MB"), (1.1e9, "1.10 GB"), (139.8e9, "140 GB"), (999.9e6, "1.00 GB")]
)
def test_size(n: float, text: str) -> None:
    assert words.size(n) == text


def test_share() -> None:
    assert [words.share(1, 1), words.share(18, 1000), words.share(None, 3)] == ["100 %", "1.8 %", "missing"]


def test_listing() -> None:
    assert words.listing([]) == ""
    assert words.listing("a") == "a"
    assert words.listing("abc") == "a, b and c"
    assert words.listing("abcdef", at_most=3) == "a, b and 4 more"


@given(st.text())
def test_clean_text_can_be_written_and_drives_nothing(text: str) -> None:
    message = words.clean(text + "\x1b[31m\ud800\u202e\r")
    message.encode("utf-8")
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char in "\u202a\u202e\u2066" for char in message)
    assert words.clean(message) == message


def test_clean_keeps_lines_where_asked() -> None:
    assert words.clean("a\r\nb\tc  d", lines=True) == "a\nb\tc  d"
    assert words.clean("a\r\nb\tc  d") == "a b c d"


def test_typeset_turns_only_signs() -> None:
    assert words.typeset("gpt-2: -3.0 [-4.1, -1.9]") == "gpt-2: \u22123.0 [\u22124.1, \u22121.9]"


def test_settings_read_like_yaml() -> None:
    assert words.value({"on": True, "share": 0.1, "of": [None, "x"]}) == "{on: true, share: 0.1, of: [none, x]}"


def test_reasons_most_frequent_first() -> None:
    assert words.reasons({"empty": 1, "no JSON": 12}) == "no JSON: 12, empty: 1"
