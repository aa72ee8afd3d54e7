"""The reproduction of agents on streams: what it reads, and its table on the page."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mnemos.recipes.findings import HOLDS, Finding, Ordering, outcome
from mnemos.recipes.reproductions import real_streams
from mnemos.recipes.reproductions.real_streams import COPIED, help_table, page_table, questions, weights_table

ROOT = Path(__file__).parents[2]
TASKS = ("intents", "sql", "puzzles", "calls")
HELP = ROOT / "docs" / "results" / "stream-help.json"
WEIGHTS = ROOT / "docs" / "results" / "stream-weights.json"
KEPT = [path for name in TASKS if (path := ROOT / "docs" / "results" / f"stream-{name}.json").is_file()]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_shortest_calls_and_the_short_puzzles_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_streams, "CALL_ROWS", 2)
    for place in COPIED.values():
        write_rows(tmp_path / "data" / place, [{}])
    tool = [{"name": "f"}]
    calls = [{"id": f"c{n}", "function": tool, "question": "x" * size} for n, size in enumerate((9, 3, 6))]
    write_rows(tmp_path / "data" / real_streams.CALLS, calls)
    kinds = ("object_counting", "date_understanding", "word_sorting", "object_counting")
    puzzles = [
        {"id": f"p{n}", "task": kind, "input": "how many?", "target": "1" * (1 + 100 * (n == 3)), "canary": "c"}
        for n, kind in enumerate(kinds)
    ]
    write_rows(tmp_path / "data" / real_streams.PUZZLES, puzzles)
    questions(tmp_path / "data", tmp_path / "out")
    made = [json.loads(line)["id"] for line in (tmp_path / "out/data/calls.jsonl").read_text().splitlines()]
    assert made == ["c1", "c2"]
    rows = [json.loads(line) for line in (tmp_path / "out/data/puzzles.jsonl").read_text().splitlines()]
    assert rows == [{"id": name, "question": "how many?", "answer": "1"} for name in ("p0", "p2")]
    (tmp_path / "data" / real_streams.PUZZLES).unlink()
    with pytest.raises(FileNotFoundError):
        questions(tmp_path / "data", tmp_path / "out")


def test_an_ordering_of_agents_that_learn_nothing_is_tested() -> None:
    """Chain of thought is not taught, so that it need not have learned anything to be worse."""
    arms = [{"arm": name, "runs": [{}, {}, {}]} for name in ("zero-shot", "chain-of-thought")]
    row = {"arm": "chain-of-thought", "suite": "sql", "role": "new", "unit": "points", "verdict": "lost"}
    contrasts = {"arms": ["zero-shot", "chain-of-thought"], "suites": {"sql": [[1, 0, -0.06, -0.1, -0.02]]}}
    results = {"study": "s", "kind": "stream", "arms": arms, "comparisons": [row], "contrasts": contrasts}
    test = Ordering(arm="chain-of-thought", than="zero-shot", measure="sql", expect="not_higher")
    finding = Finding(id="f", paper="p", methods=[], statement="s", numbers="1", study="s", tests=[test])
    assert outcome(finding, {"s": results}).verdict == HOLDS


@pytest.mark.skipif(not KEPT, reason="no results of the reproduction are kept")
def test_the_page_has_the_table_of_the_kept_results() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in KEPT]
    assert page_table(results) in (ROOT / "docs" / "stream.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not HELP.is_file(), reason="no results of the reproduction are kept")
def test_the_page_has_the_table_of_asking_for_help() -> None:
    results = json.loads(HELP.read_text(encoding="utf-8"))
    assert help_table(results) in (ROOT / "docs" / "stream.md").read_text(encoding="utf-8")


def test_an_update_is_a_row_with_what_it_did_to_every_old_suite() -> None:
    lost = {"suite": "facts", "unit": "points", "before": 0.5, "after": 0.25, "delta": -0.25, "low": -0.4, "high": -0.1}
    kept = {**lost, "suite": "sums", "after": 0.5, "delta": 0.0, "low": None, "high": None, "verdict": "kept"}
    update = {"arm": "guarded", "order": 1, "number": 2, "step": 20, "rows": 15, "kept": False}
    results = {"updates": [{**update, "suites": [{**lost, "verdict": "lost"}, kept]},
                           {**update, "number": 3, "kept": True, "suites": [kept]}]}  # fmt: skip
    head, _, first, second = weights_table(results).splitlines()
    assert head == "|  | order | update | answers learned | facts | sums |  |"
    assert first == (
        "| guarded | 1 | 2, behind 20 questions | 15 | 50.0 to 25.0<br>-25.0 [-40.0, -10.0], lost "
        "| 50.0 to 50.0<br>0.0, kept | rolled back |"
    )
    assert second == "| guarded | 1 | 3, behind 20 questions | 15 |  | 50.0 to 50.0<br>0.0, kept | kept |"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="no results of the reproduction are kept")
def test_the_page_has_the_table_of_weights_that_learn() -> None:
    results = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    assert weights_table(results) in (ROOT / "docs" / "stream.md").read_text(encoding="utf-8")
