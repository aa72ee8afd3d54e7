"""The README's first table says what a study's results say, and nothing else changes."""

from __future__ import annotations

import pytest

from benchmarks.readme import fill, ledger_table
from mnemos.core.errors import UsageError

ROW = {"suite": "facts", "before": 0.75, "delta": -0.3, "low": -0.4, "high": -0.2, "verdict": "lost"}
RESULTS = {
    "arms": [{"arm": "plain"}, {"arm": "replay"}],
    "comparisons": [{**ROW, "arm": "plain"}, {**ROW, "arm": "replay", "verdict": "kept", "delta": 0.0}],
    "manifest": {"suites": [{"name": "facts", "role": "old", "unit": "points"}]},
}


def test_the_table_holds_the_chosen_arms_alone() -> None:
    assert ledger_table(RESULTS).splitlines()[0] == "| | before | plain | replay |"
    chosen = ledger_table(RESULTS, ["plain"]).splitlines()
    assert chosen[0] == "| | before | plain |"
    assert chosen[2] == "| facts | 75.0 | lost -30.0 [-40.0, -20.0] |"
    with pytest.raises(UsageError, match="did you mean 'replay'"):
        ledger_table(RESULTS, ["repaly"])


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n"
    assert fill(text, "x", "new") == text.replace("old", "new")
