"""The README's first table says what a study's results say, and nothing else changes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.adaptation_intervals import covered_table
from benchmarks.readme import (
    CATEGORIES,
    ROOT,
    arms_table,
    category_table,
    change_table,
    fill,
    ledger_table,
    levels_table,
    session,
)
from benchmarks.suite_means import means_table
from mnemos.core.errors import UsageError
from mnemos.core.files import read_json
from tests.report.synthetic import study

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


def test_the_short_table_is_bold_where_a_change_is_proven() -> None:
    lines = change_table(RESULTS).splitlines()
    assert lines[1] == "|---|---:|---|---|"
    assert lines[2] == "| facts | 75.0 | **-30.0** [-40.0, -20.0] | 0.0 [-40.0, -20.0] |"


def test_the_session_is_what_the_terminal_shows_first() -> None:
    lines = session(study()).splitlines()
    assert lines[:2] == ["```console", "$ mnemos run mnemos:demo.yaml --jobs 2"]
    assert lines[2].startswith("Plain training learned")
    assert any(line.startswith("lora+replay: learned") for line in lines)
    assert all(len(line) <= 100 for line in lines)


def test_many_arms_stand_below_each_other_with_what_they_took() -> None:
    runs = [
        {"cost": {"seconds": 60.0, "peak_memory_bytes": 4.04e9}},
        {"cost": {"seconds": 90.0, "peak_memory_bytes": 4e9}},
    ]
    results = {**RESULTS, "arms": [{**arm, "runs": runs} for arm in RESULTS["arms"]]}
    assert arms_table(results).splitlines() == [
        "| | facts | minutes | GB |",
        "|---|---|---:|---:|",
        "| before | 75.0 | | |",
        "| plain | **-30.0** [-40.0, -20.0] | 1.2 | 4.0 |",
        "| replay | 0.0 [-40.0, -20.0] | 1.2 | 4.0 |",
    ]


def test_the_page_of_studies_holds_the_kept_levels() -> None:
    results = read_json(ROOT / "docs/results/instruct.json")
    table = levels_table(results)
    assert len(table.splitlines()) == 3 + len(results["arms"])
    point = next(one for one in results["frontier"]["points"] if one["arm"] == "self_output")
    own = next(line for line in table.splitlines() if line.startswith("| self_output ("))
    assert f"| {100 * point['learned']['mean']:.1f} [" in own
    assert table in (ROOT / "docs/studies.md").read_text(encoding="utf-8")


def test_the_page_of_judges_holds_the_kept_ratings_by_category(real_data: Path) -> None:
    place = ROOT / "docs/results/real-judge.json"
    table = category_table(place)
    assert table in (ROOT / "docs/judges.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    before = next(one["before"] for one in read_json(place)["comparisons"] if one["suite"] == "mt-bench-first")
    assert rows[0][-1] == f"{100 * before:.1f} |"
    with gzip.open(real_data / "mt_bench/mt_bench_questions.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            assert row["category"] == CATEGORIES[(row["question_id"] - 81) // 10]


def test_the_page_of_speech_holds_the_kept_coverage() -> None:
    details = read_json(ROOT / "benchmarks/results/adaptation-intervals.json")["details"]
    table = covered_table(details)
    assert table in (ROOT / "docs/speech.md").read_text(encoding="utf-8")
    last = table.splitlines()[-1]
    assert last.endswith(f"{100 * details['rise, 400 utterances, source 60%, outbursts']['covered']:.1f} |")


def test_the_page_of_sweeps_holds_the_kept_coverage_of_means_over_suites() -> None:
    details = read_json(ROOT / "benchmarks/results/suite-means.json")["details"]
    table = means_table(details)
    assert table in (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    assert table.splitlines()[2].startswith(f"| 2 of 100 items | {100 * details['2 of 100 items']['1']:.1f} |")
