"""Benchmarks by name, and items whose texts are made of several columns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure, score
from mnemos.measure.listing import by_name
from mnemos.measure.sampling import pass_at
from mnemos.measure.suite import Suite, load_suites
from mnemos.recipes import sql_questions
from mnemos.rewards import checks
from mnemos.stream.tasks import _chinook
from tests.measure.fakes import FakeModel


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
        ({"prompt": [1], "answer": "b"}, {"prompt": "{prompt}"}, "prompt = .*must be a text"),
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


def test_sql_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    (made,) = load_suites(["sql"], tmp_path)
    assert made.fingerprint
    # The file that ships is what the generator makes of the database, and so is the schema of the prompt.
    rows = sql_questions.items()
    assert [(row["id"], row["query"]) for row in rows] == [(item.id, item.answers[0]) for item in made.items]
    database = next((tmp_path / "cache").rglob("*.sqlite"))
    assert _chinook.schema(str(database)) in prompt_of(made)
    by_kind = {item.category: item for item in made.items}
    assert len(by_kind) == 22
    assert all(item.cluster == item.category for item in made.items)
    ordered = next(item for item in made.items if item.category == "largest-invoices")
    made = dataclasses.replace(made, items=(*by_kind.values(), ordered))
    for change, wrong in (
        (lambda query: f"```sql\n{query};\n```", set()),
        (lambda query: query.replace("DESC", "ASC"), {"largest-invoices", "longest-of-genre"}),
        (lambda query: query.replace("SELECT", "SELECT ALL"), set()),
        (lambda query: query.replace("SELECT", "DELETE"), set(by_kind)),
    ):
        answers = [Answer("sql", item.id, change(item.answers[0])) for item in made.items]
        found = score(made, answers)
        assert {item.category for item, one in zip(made.items, found, strict=True) if one.value == 0} == wrong


def mbpp_row(number: int) -> dict[str, Any]:
    """A row as MBPP's published file has them."""
    tests = [f"assert add({n}, 1) == {n + 1}" for n in range(3)]
    code = "def add(a, b):\r\n  return a + b"
    return {
        "task_id": number,
        "text": f"Write a function to add two numbers, {number}.",
        "code": code,
        "test_list": tests,
        "test_setup_code": "ONE = 1" if number == 11 else "",
        "challenge_test_list": [],
    }


def test_mbpp_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    (tmp_path / "mbpp").mkdir()
    rows = [mbpp_row(number) for number in range(1, 975)]
    (tmp_path / "mbpp/mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made,) = load_suites(["mbpp"], tmp_path)
    assert [made.items[0].id, made.items[-1].id, len(made.items)] == ["11", "510", 500]
    first = made.items[0]
    assert prompt_of(made).endswith(
        "Write a function to add two numbers, 11. Your code should pass these tests:\n\n"
        + "\n".join(rows[10]["test_list"])
    )
    assert first.answers == ("ONE = 1\n# ANSWER\n" + "\n".join(rows[10]["test_list"]),)
    made = dataclasses.replace(made, items=made.items[:3])
    texts = ["```python\ndef add(a, b):\n    return a + b\n```", "def add(a, b): return b", rows[0]["code"]]
    found = score(made, [Answer("mbpp", i.id, text) for i, text in zip(made.items, texts, strict=True)])
    assert [one.value for one in found] == [1, 0, 1]
    (tmp_path / "mbpp/mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:500]))
    with pytest.raises(DataError, match=r"(?s)mbpp\.jsonl.*rows 11 to 510, and the file has 500.*take it out"):
        load_suites(["mbpp"], tmp_path)


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_mean_over_all_ways_to_draw_k(n: int, data: Any) -> None:
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    ways = [max(some) for some in itertools.combinations(values, k)]
    assert pass_at(k, [(value, None) for value in values])[0] == pytest.approx(sum(ways) / len(ways))


def test_pass_at_k_of_many_samples_and_of_samples_that_cannot_be_scored() -> None:
    # 1 - prod(1 - k / i for i from n - c + 1 to n), the product that the paper computes
    expected = 1 - math.prod(1 - 100 / i for i in range(1000 - 3 + 1, 1001))
    assert pass_at(100, [(float(i < 3), None) for i in range(1000)])[0] == pytest.approx(expected, rel=1e-12)
    assert pass_at(1, [(1.0, None), (math.nan, "too long")]) == (1.0, None, 1.0, "1 of 1 samples right")
    value, reason, *_ = pass_at(2, [(1.0, None), (math.nan, "too long")])
    assert math.isnan(value)
    assert reason == "too long"


def test_several_samples_are_asked_in_one_call_and_scored_by_pass_at_k() -> None:
    rows = [{"prompt": f"p{n}", "answer": "7"} for n in range(2)]
    settings = {"samples": 4, "pass_at": 2, "temperature": 0.8, "match": "number"}
    (made,) = load_suites([{"name": "s", "kind": "generated", "items": rows, **settings}], Path())
    drawn = iter(["7", "1", "2", "7", "1", "2", "3", "4"])
    model = FakeModel(lambda prompt: next(drawn))
    found = measure(model, [made])["s"]
    assert model.calls == ["p0"] * 4 + ["p1"] * 4
    assert len(model.decodings) == 1
    # Of six pairs of two right and two wrong ones, one has no right one.
    assert [one.value for one in found.scores] == [pytest.approx(5 / 6), 0.0]
    assert [one.note for one in found.scores] == ["2 of 4 samples right", "0 of 4 samples right"]
    assert found.answers[0].data["samples"] == ["7", "1", "2", "7"]


def test_a_suite_may_be_like_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    (tmp_path / "mbpp").mkdir()
    text = "".join(json.dumps(mbpp_row(number)) + "\n" for number in range(1, 511))
    (tmp_path / "mbpp/mbpp.jsonl").write_text(text)
    several = {"like": "mbpp", "name": "mbpp-10", "samples": 20, "pass_at": 10, "temperature": 0.8, "rows": [11, 13]}
    plain, made = load_suites(["mbpp", several], tmp_path)
    assert made.items == plain.items[:3]
    assert (made.settings.samples, made.name, made.decoding.temperature) == (20, "mbpp-10", 0.8)  # type: ignore[attr-defined,union-attr]
    # A file of its own folder, seen from another one, whose own data lie here.
    (tmp_path / "there").mkdir()
    (tmp_path / "there/rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "there/s.yaml").write_text("name: s\nkind: generated\ndata: rows.jsonl\nmatch: exact\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "c", "answer": "d"}\n')
    there, here = load_suites(
        [{"like": "there/s.yaml"}, {"like": "there/s.yaml", "name": "h", "data": "rows.jsonl"}], tmp_path
    )
    assert [there.items[0].answers, here.items[0].answers] == [("b",), ("d",)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"like": "sums", "kind": "choice"}, "kind.*that of the other suite"),
        ({"like": "summs"}, "did you mean 'sums'"),
        ({"like": 3}, "names no suite"),
        ({"like": "loop.yaml"}, "is like itself"),
        ({"like": "two.yaml"}, "a file of 2 suites"),
        ({"like": "sums", "limt": 3}, "limt"),
    ],
)
def test_a_suite_like_none_is_refused(tmp_path: Path, spec: dict[str, Any], words: str) -> None:
    (tmp_path / "loop.yaml").write_text("{like: loop.yaml}\n")
    (tmp_path / "two.yaml").write_text("- {like: sums}\n- {like: code}\n")
    with pytest.raises(UsageError, match=f"(?s){words}"):
        load_suites([spec], tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samples": 4}, "set temperature"),
        ({"pass_at": 2}, "needs as many samples"),
        ({"samples": 4, "temperature": 1.0, "match": "f1"}, "match: f1 grades"),
        ({"rows": [1, 2]}, "goes with data"),
    ],
)
def test_samples_that_say_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        suite({"prompt": "a", "answer": "b"}, **settings)
    assert (
        suite({"prompt": "a", "answer": "b"}).fingerprint
        == suite({"prompt": "a", "answer": "b"}, samples=1).fingerprint
    )
