"""What a model wrote for an arm, in every form of the report."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.report import render
from mnemos.report.reading import read
from mnemos.report.verdicts import cost_line, cost_words, sentence, writing_words
from tests.report import synthetic


def written(rows: int, **changed: Any) -> dict[str, Any]:
    one = {
        "source": "own <answers>",
        "rows": rows,
        "counts": {"kept": rows, "no number": 1200},
        "notes": {"acceptance rate": 0.8333333, "target perplexity before": None},
        "seconds": 12.0,
        "tokens": 900,
    }
    return {**one, **changed}


def study(shared: bool) -> dict[str, Any]:
    results = synthetic.study()
    for place, run in enumerate(results["arms"][1]["runs"]):
        run["written"] = [written(40 if shared else 40 + place)]
        run["cost"].update(seconds=60.0, writing_seconds=12.0, written_rows=40, written_tokens=900)
    return results


LINE = (
    "own <answers>: 40 rows written in 12 s; no number: 1,200, kept: 40; "
    "acceptance rate 0.833, target perplexity before missing"
)


def test_one_line_for_all_seeds_and_one_for_each_that_differs() -> None:
    facts = read(study(shared=True))
    assert writing_words(facts.arms[0]) == []
    assert writing_words(facts.arms[1]) == [LINE]
    apart = writing_words(read(study(shared=False)).arms[1])
    assert len(apart) == len(facts.arms[1].runs) > 1
    assert apart[0] == f"seed 0: {LINE}"


def test_the_cost_says_how_much_was_writing() -> None:
    plain, own = read(study(shared=True)).arms[:2]
    words = dict(cost_words(own))
    assert (words["time"], words["of it writing"], words["rows written"]) == ("60 s", "12 s", "40")
    assert cost_line(own).startswith("60 s (12 s of it writing), ")
    assert "of it writing" not in dict(cost_words(plain))
    assert "writing" not in cost_line(plain)


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_every_report_says_in_which_phase_the_memory_was_highest(form: str) -> None:
    results = synthetic.study()
    for run in results["arms"][0]["runs"]:
        run["cost"].update({"peak_memory_prepare_bytes": 3e8, "peak_memory_load_bytes": 5e8})
        run["cost"].update({"peak_memory_train_bytes": 11e8, "peak_memory_save_bytes": 12e8, "peak_memory_bytes": 12e8})
    assert cost_line(read(results).arms[0]).find("1.20 GB peak memory (in saving the model)") > 0
    assert "saving the model" in " ".join(render(results, form).split())


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_an_arm_that_learned_gold_alone_is_said_to(form: str) -> None:
    """Its numbers are those of gold answers, and say nothing about the method that it is named after."""
    results = study(shared=True)
    text = "no own answer was accepted, so gold alone was learned"
    assert text not in " ".join(render(results, form).split())
    for run in results["arms"][1]["runs"]:
        run["written"] = [written(40, notes={"acceptance rate": 0.0})]
    assert text in " ".join(render(results, form).split())
    assert sentence(read(results).arms[1]).startswith(f"{text}; ")


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_every_report_shows_it_and_the_page_escapes_it(form: str) -> None:
    shown = render(study(shared=True), form, *([200] if form == "text" else []))
    assert "acceptance rate 0.833" in shown
    assert "40 rows written in 12" in shown
    assert ("own <answers>" in shown) == (form == "text")
