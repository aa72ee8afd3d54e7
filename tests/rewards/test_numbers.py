"""Numbers in what models write: found before anything is normalised, read exactly."""

from __future__ import annotations

import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.nouns import Example, Prompt, Turn
from mnemos.rewards.numbers import Joined, last_number, same
from mnemos.rewards.verified import Verified
from mnemos.rewards.verifiers import number

READ = {
    "so the answer is 42.": 42,
    "1,234.50 dollars": Fraction("1234.5"),
    "$-3": -3,
    "it fell from 7 to −2": -2,
    r"\boxed{17}": 17,
    r"the result is $\frac{3}{4}$": Fraction(3, 4),
    "3/4 of them": Fraction(3, 4),
    "2e3": 2000,
    "答案是１２。": 12,
    "共42个": 42,
    "10-4": 4,
    "page-7": 7,
    ".5": Fraction(1, 2),
    "50%": 50,
    "1,2,3": 3,
    "7/0": 7,
    # superscripts, subscripts and names
    "30 cm²": 30,
    "30cm³": 30,
    "30 cm^2": 30,
    "30 cm2": 30,
    r"30 \text{cm}^{2}": 30,
    "5 m³": 5,
    "25 kg of CO₂": 25,
    "25 kg of CO_2": 25,
    "18 g of H2O": 18,
    "x₁ = 3": 3,
    "x_1 = 5": 5,
    "_42_": 42,
    "**42** 2 of them": 2,
    "x²": None,
    "I have 3, for USD50": 50,
    r"2\times10": 10,
    r"90^\circ": 90,
    # fractions
    "½": Fraction(1, 2),
    "3½": Fraction(7, 2),
    "3 ½ cups": Fraction(7, 2),
    "1⁄2": Fraction(1, 2),
    "2¹⁄₂": Fraction(5, 2),
    "3 1/2": Fraction(7, 2),
    "-3 1/2": Fraction(-7, 2),
    "3 5/2": Fraction(5, 2),
    r"3\frac{1}{2}": Fraction(7, 2),
    r"3\,\dfrac{1}{2}": Fraction(7, 2),
    r"\frac12": Fraction(1, 2),
    r"-\frac{1}{2}": Fraction(-1, 2),
    r"\frac{-1}{2}": Fraction(-1, 2),
    r"\frac{x}{2}": None,
    # signs
    "–5": -5,
    "－５": -5,
    "3–4": 4,
    "-$7": -7,
    r"-\$7": -7,
    "−€7.5": Fraction("-7.5"),
    # powers
    "10^3": 1000,
    "10³": 1000,
    "10⁻³": Fraction(1, 1000),
    r"10^{-3}": Fraction(1, 1000),
    "2**10": 1024,
    "2 × 10^3": 2000,
    r"2.5 \times 10^{3}": 2500,
    "6.02e23": 602 * 10**21,
    "2^99999": None,
    r"3\sqrt{2}": None,
    "2π": None,
    # separators
    "12,34,567": 1234567,
    "1\u202f234\u202f567": 1234567,
    "1'234": 1234,
    "1_000_000": 1000000,
    "1.234.567": 1234567,
    "1{,}234": 1234,
    r"1\,234": 1234,
    "3,5": Fraction(7, 2),
    "0,125": Fraction(1, 8),
    "٣٫٥": Fraction(7, 2),
    # several numbers that are one value
    "9:30": Joined((Fraction(9), Fraction(30))),
    "at 9:30 p.m.": Joined((Fraction(9), Fraction(30)), "p"),
    "9点30分": Joined((Fraction(9), Fraction(30))),
    "2024-05-12": Joined((Fraction(2024), Fraction(5), Fraction(12))),
    "1.2.3": Joined((Fraction(1), Fraction(2), Fraction(3))),
    "9" * 5000: None,
    "none": None,
}


@pytest.mark.parametrize("text", READ, ids=lambda text: text[:30])
def test_the_last_number(text: str) -> None:
    assert last_number(text) == READ[text]


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("30 cm²", "25 cm²", 0),
        ("25 cm²", "25 cm²", 1),
        ("25 m³", "25", 1),
        ("½", "0.5", 1),
        (r"3\frac{1}{2}", "3.5", 1),
        ("3 1/2", "3.5", 1),
        ("–5", "5", 0),
        ("–5", "-5", 1),
        ("-5", "5", 0),
        ("7006655", "7006652", 0),
        ("1000001", "1000000", 0),
        ("7,006,652", "7006652.0", 1),
        ("7006652.5", "7006652", 0),
        ("12345678.91", "12345678.92", 0),
        ("9:30", "10:30", 0),
        ("09:30", "9:30", 1),
        ("9:30 pm", "21:30", 1),
        ("9:30 pm", "9:30 am", 0),
        ("9:30 PM", "9:30", 1),
        ("12:15 a.m.", "0:15", 1),
        ("3:2", "5:2", 0),
        ("12/05/2024", "13/05/2024", 0),
        ("10^3", "1000", 1),
        ("10^3", "3", 0),
        ("-$7", "7", 0),
        ("-$7", "-7", 1),
        ("It is 1,000.0", "1000", 1),
        ("50%", "50", 1),
        ("6.02e23", "6.02 × 10^23", 1),
        ("0.3333333", "1/3", 1),
        ("0.33", "1/3", 0),
        ("33333.3333", "100000/3", 1),
        ("6.9999999", "7", 1),
        ("3.1415927", "3.14159265", 1),
        ("3.1415", "3.14159265", 0),
        ("4,5", "3,5", 0),
        ("none", "1", 0),
    ],
)
def test_number(answer: str, reference: str, value: float) -> None:
    assert number(answer, reference) == value
    rows = [Example("r", "messages", (Turn("user", "?"), Turn("assistant", reference)))]
    assert Verified("number")([Prompt((Turn("user", "?"),))], [answer], rows)[0].value == value


@given(st.integers(-(10**30), 10**30))
def test_number_reads_what_python_writes(value: int) -> None:
    for text in (f"it is {value:,}", f"it is {value}", f"{value:_}", f"({value})"):
        assert last_number(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_reads_floats_exactly(value: float) -> None:
    assert last_number(f"= {value!r}") == Fraction(repr(value))


@given(st.times())
def test_a_time_is_itself_however_it_is_written(time: datetime.time) -> None:
    words = last_number(f"{time:%H:%M:%S}")
    assert words is not None
    for text in (f"{time:%I:%M:%S %p}", f"{time.hour}:{time:%M:%S}"):
        meant = last_number(text)
        assert meant is not None
        assert same(words, meant)
    other = last_number(f"{(time.hour + 1) % 24:02d}:{time:%M:%S}")
    assert other is not None
    assert not same(words, other)


@given(st.integers(), st.integers())
def test_integers_are_the_same_where_they_are_equal(one: int, other: int) -> None:
    assert same(Fraction(one), Fraction(other)) == (one == other)
