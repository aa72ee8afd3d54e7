"""Wrapped pages say the same words, and only paragraphs change."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mnemos.recipes.pages import WIDTH, in_percent, wrapped

LONG = "word " * 40 + "`a span of code` end"
BLOCKS = st.sampled_from([LONG, "- " + LONG, "2. " + LONG, "# " + LONG, "| " + LONG + " |", "short", "", "> " + LONG])


def test_paragraphs_are_cut_and_spans_of_code_are_not() -> None:
    lines = wrapped(f"# {LONG}\n\n{LONG}\n\n- {LONG}\n\n```\n{LONG}\n```").split("\n")
    assert lines[0] == f"# {LONG}"
    assert lines[-2] == LONG
    assert all(len(line) <= WIDTH for line in lines[1:-3])
    assert sum("`a span of code`" in line for line in lines) == 4
    assert [line[:2] for line in lines if line.startswith("- ")] == ["- "]


@given(st.lists(BLOCKS, max_size=8))
def test_no_word_is_lost_and_a_wrapped_page_stays(blocks: list[str]) -> None:
    page = "\n\n".join(blocks)
    once = wrapped(page)
    assert re.sub(r"\s+", " ", once) == re.sub(r"\s+", " ", page)
    assert wrapped(once) == once


def test_shares_are_shown_in_percent_with_what_is_known_of_them() -> None:
    assert in_percent((0.441, 0.37, 0.5129)) == "44.1 [37.0, 51.3]"
    assert in_percent((0.441, None, None)) == "44.1"
    assert in_percent((None, None, None)) == "-"
