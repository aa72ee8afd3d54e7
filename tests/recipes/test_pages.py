"""Wrapped pages say the same words, and only paragraphs change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.files import read_json
from mnemos.recipes.pages import WIDTH, changes_table, in_percent, moments_table, shift_table, wrapped

DOCS = Path(__file__).parents[2] / "docs"

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


def test_what_arms_changed_stands_in_a_row_or_a_column_of_its_own() -> None:
    sums = {"suite": "sums", "unit": "points", "before": 0.5, "low": 0.05, "high": 0.2}
    bits = {"suite": "bits", "unit": "bits", "before": 1.5, "low": None, "high": None}
    results = {
        "arms": [{"arm": "plain"}, {"arm": "lora"}],
        "comparisons": [
            {**sums, "arm": "plain", "delta": 0.125, "verdict": "gained"},
            {**sums, "arm": "lora", "delta": -0.01, "low": -0.1, "high": 0.08, "verdict": "unclear"},
            {**bits, "arm": "plain", "delta": 0.25, "verdict": "lost"},
        ],
        "beside": {"other": {"scores": {"sums": {"mean": 0.75}}}},
    }
    down, across = (cells(changes_table(results, arms_down=turned)) for turned in (False, True))
    assert down == [
        ["", "before", "other", "plain", "lora"],
        ["sums", "50.0", "75.0", "**+12.5** [+5.0, +20.0]", "-1.0 [-10.0, +8.0]"],
        ["bits", "1.500", "", "**+0.250**", ""],
    ]
    assert across == [list(column) for column in zip(*down, strict=True)]


def test_a_suite_along_the_training_and_the_tokens_that_moved() -> None:
    moment = {"mean": 0.5, "low": 0.4, "high": 0.6}
    moments = [moment, {**moment, "mean": 0.75}, {"mean": 0.25, "low": None, "high": None}]
    arms = [
        {"arm": arm, "steps": [0.0, half, end], "suites": {"sums": {"moments": moments}}}
        for arm, half, end in (("plain", 37.0, 75.0), ("maybe", 40.0, 80.0))
    ]
    assert cells(moments_table({"trajectory": {"arms": arms}}, "sums"))[:2] == [
        ["", "before", "after 49 % of the steps", "after 100 % of the steps"],
        ["plain", "50.0 [40.0, 60.0]", "75.0 [40.0, 60.0]", "25.0"],
    ]
    one = {
        "tokens": 1234, "unshifted": 0.5, "marginal": 0.25, "shifted": 0.25, "kl": 1.234,
        "most": [[" the", 3, 4], ["the", 2, 2], ["|", 2, 2], ["\n", 1, 1], ["1", 1, 1]],
    }  # fmt: skip
    assert cells(shift_table({"token_shift": {"shift": {"plain": one}}}, "shift"))[1] == [
        "plain", "1,234", "50.0", "25.0", "25.0", "1.23", "`the`, `1`",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "results", "of"),
    [
        ("instruction.md", "real-flan", lambda kept: changes_table(kept, arms_down=True)),
        ("instruction.md", "following", lambda kept: changes_table(kept, arms_down=True)),
        ("instruction.md", "real-instruction", lambda kept: changes_table(kept, arms_down=True)),
        ("instruction.md", "real-instruction", lambda kept: shift_table(kept, "shift")),
        ("knowledge.md", "real-labels-gemma", lambda kept: changes_table(kept, arms_down=True)),
        ("knowledge.md", "real-labels-qwen", lambda kept: changes_table(kept, arms_down=True)),
        ("knowledge.md", "real-knowledge", lambda kept: moments_table(kept, "asked")),
        ("knowledge.md", "real-knowledge", lambda kept: shift_table(kept, "shift-json")),
        ("knowledge.md", "real-knowledge", lambda kept: shift_table(kept, "shift-refusals")),
    ],
)
def test_pages_have_the_tables_of_the_kept_results(page: str, results: str, of: Any) -> None:
    table = of(read_json(DOCS / "results" / f"{results}.json"))
    assert table.rstrip() in (DOCS / page).read_text(encoding="utf-8")


def cells(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without the line below its head."""
    lines = table.splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]
