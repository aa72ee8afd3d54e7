"""docs/methods.md follows from the registry; its measured columns follow from a results.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json
from mnemos.core.method import REGISTRY
from mnemos.recipes.catalogue import (
    NOT_MEASURED,
    NOTHING_ACCEPTED,
    ledger,
    page,
    registered,
    table_rows,
)
from mnemos.recipes.findings import accepted_nothing, read_results

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date_with_the_registry_and_the_kept_results() -> None:
    kept = read_results(sorted((DOCS / "results").glob("*.json")))
    assert (DOCS / "methods.md").read_text(encoding="utf-8") == page(kept), "write the pages again: make docs"


def test_every_method_has_one_row_with_every_setting() -> None:
    rows = {row[0].strip("`"): row for row in registered()}
    assert set(rows) == set(REGISTRY)
    for name, method in REGISTRY.items():
        assert all(f"`{setting}: " in rows[name][4] for setting in method.settings.model_fields)


def run(seconds: float, **more: float) -> dict[str, Any]:
    return {"cost": {"seconds": seconds, "trainable_parameters": 10, "total_parameters": 1000, **more}}


def test_measured_columns_come_from_the_arms_that_use_the_method_alone() -> None:
    def step(name: str, off: bool = False) -> dict[str, Any]:
        return {"method": name, "off": off}

    def numbers(value: float) -> dict[str, float]:
        return {"mean": value, "low": value - 0.01, "high": value + 0.01}

    results = {
        "study": "catalogue",
        "arms": [
            {"arm": "plain", "history": [step("output_only")], "runs": [run(10), run(20)]},
            {"arm": "lora", "history": [step("output_only"), step("lora")], "runs": [run(30, writing_seconds=15)] * 2},
            {"arm": "both", "history": [step("lora"), step("replay")], "runs": [run(99)]},
            {"arm": "half", "history": [step("weights"), step("kl_to_before", off=True)], "runs": [run(15)]},
        ],
        "comparisons": [{"arm": "lora", "suite": "old", "unit": "points"}],
        "frontier": {
            "points": [
                {"arm": arm, "learned": numbers(0.5), "forgotten": numbers(0.125)} for arm in ("plain", "lora", "half")
            ]
        },
        "contrasts": {"arms": ["plain", "lora"], "suites": {}, "learned": [[0, 1, 0.2, 0.1, 0.3]], "forgotten": []},
    }
    rows = {row[0].strip("`"): row for row in table_rows(page({"catalogue": results}))[1:]}
    assert rows["lora"][5] == "2.0 x plain's time (50 % writing rows), 1 % of the weights"
    assert rows["lora"][6] == "50.0, 12.5"
    assert "HOLDS: [lora-learns-less](findings.md)" in rows["lora"][7]
    assert rows["weights"][6] == "half: 50.0, 12.5"
    assert rows["replay"][5:] == [NOT_MEASURED] * 3
    assert rows["kl_to_before"][5:7] == [NOT_MEASURED] * 2


def test_an_arm_whose_own_answers_were_all_refused_has_no_numbers_of_its_own() -> None:
    """They would be plain's, under the method's name."""
    results = read_json(DOCS / "results" / "catalogue.json")
    idle = [arm["arm"] for arm in results["arms"] if accepted_nothing(results, arm["arm"])]
    assert set(idle) == {"sdft", "rephrase", "minimum_change", "self_output", "selective_self_rehearsal"}
    for text in (ledger(results), (DOCS / "methods.md").read_text(encoding="utf-8")):
        for row in table_rows(text):
            if row[0].strip("`").replace("\\_", "_") in idle:
                assert NOTHING_ACCEPTED in row
                assert "46.9" not in " ".join(row)


def test_the_ledger_says_what_the_results_say() -> None:
    """The page of the shipped results: one row an arm, each figure that of results.json."""
    results = read_json(DOCS / "results" / "catalogue.json")
    text = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    assert text == ledger(results)
    head, before, *rows = table_rows(text)
    assert [row[0].replace("\\_", "_") for row in rows] == [arm["arm"] for arm in results["arms"]]
    ends = [float(end) for row in rows for pair in re.findall(r"\[(\S+), (\S+)\]", " ".join(row)) for end in pair]
    assert max(map(abs, ends)) == 100
    plain = next(row for row in results["comparisons"] if (row["arm"], row["suite"]) == ("plain", "facts"))
    low, high = 100 * plain["low"], 100 * plain["high"]
    assert rows[0][head.index("facts")] == f"{100 * plain['delta']:+.1f} [{low:+.1f}, {high:+.1f}] {plain['verdict']}"
    assert before[head.index("facts")] == f"{100 * plain['before']:.1f}"
