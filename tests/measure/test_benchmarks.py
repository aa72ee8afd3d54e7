"""Benchmarks by name, and items whose texts are made of several columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import score
from mnemos.measure.listing import by_name
from mnemos.measure.suite import Suite, load_suites
from mnemos.rewards import checks


def suite(row: dict[str, Any], **settings: Any) -> Suite:
    (made,) = load_suites([{"name": "s", "kind": "generated", "items": [row], **settings}], Path())
    return made


def prompt_of(made: Suite) -> str:
    item = made.items[0]
    assert item.prompt is not None
    return item.prompt.turns[-1].text


def test_a_template_puts_columns_into_a_text_once() -> None:
    row = {"q": "a {n} {x y} {}", "n": 3, "prompt": "old", "gold": "b"}
    made = suite(row, templates={"prompt": "Q{n}: {q} {prompt}", "answer": "{gold}!"})
    assert prompt_of(made) == "Q3: a {n} {x y} {} old"
    assert made.items[0].answers == ("b!",)


def test_templates_change_no_other_suites_name() -> None:
    row = {"prompt": "a", "answer": "b"}
    assert suite(row).fingerprint == suite(row, templates={"answer": "{answer}"}).fingerprint
    assert suite(row).fingerprint != suite(row, templates={"answer": "{answer}c"}).fingerprint


@pytest.mark.parametrize(
    ("row", "templates", "words"),
    [
        ({"prompt": "a", "answer": "b"}, {"prompt": "{question}"}, "column 'question'.*missing"),
        ({"prompt": "a", "answer": "b"}, {"promt": "{prompt}"}, "'promt'.*not a known key"),
        ({"prompt": ["a"], "answer": "b"}, {"prompt": "{prompt}"}, "prompt = .*must be a text"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(row: Any, templates: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=r"(?s)" + words):
        suite(row, templates=templates)


def test_every_benchmark_is_listed_with_its_file_and_says_where_it_would_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    monkeypatch.setenv("MNEMOS_JUDGE", "http://127.0.0.1:1/v1#judge")
    rows = by_name()
    assert {"bbh", "gsm8k", "human-eval", "ifeval", "bfcl-simple", "mt-bench"} <= {row["name"] for row in rows}
    for row in rows:
        # MT-bench looks for its file of references first.
        file = row["data"].removeprefix("$MNEMOS_DATA/").partition("/")[0]
        with pytest.raises((DataError, UsageError), match=f"{tmp_path}/{file}/"):
            load_suites([row["name"]], tmp_path)


def test_gsm8k_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    (made,) = load_suites(["gsm8k"], tmp_path)
    assert len(made.items) == 1319
    made = dataclasses.replace(made, items=made.items[:100])
    finals = [item.answers[0].rpartition("#### ")[2] for item in made.items]
    for texts, right in ((finals, 100), ([f"So it is \\boxed{{{one}}}." for one in finals], 100), (["0.5"] * 100, 0)):
        found = score(made, [Answer("gsm8k", i.id, text) for i, text in zip(made.items, texts, strict=True)])
        assert sum(one.value for one in found) == right


def test_human_eval_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    (made,) = load_suites(["human-eval"], tmp_path)
    assert len(made.items) == 164
    first = made.items[0]
    assert first.id == "HumanEval/0"
    assert prompt_of(made).startswith("Complete this Python function.")
    assert f"\n{checks.PLACE}\n" in first.answers[0]
    assert first.answers[0].endswith("check(has_close_elements)")
    assert first.solution is not None
    # Run in the sandbox in tests/rewards/test_sandbox_data.py, with the same references.
    compile(first.solution, "solution", "exec")
