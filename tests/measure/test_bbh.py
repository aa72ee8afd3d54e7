"""BIG-Bench Hard by name: prompts and scores are the harness's own; and categories that count alike."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure, score
from mnemos.measure.bbh import balanced, conclusion
from mnemos.measure.compare import summary
from mnemos.measure.items import Item
from mnemos.measure.suite import load_suites
from tests.measure.fakes import FakeModel, text_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")

TASKS = ("boolean_expressions", "word_sorting")


def questions(data: Path, task: str, number: int) -> list[dict[str, Any]]:
    with gzip.open(data / "bbh/bbh_shared_4tasks.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["task"] == task][:number]


@pytest.mark.parametrize("task", TASKS)
def test_prompts_and_scores_are_those_of_the_harness(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    rows = questions(real_data, task, 8)
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    published = Path(lm_eval.__file__).parent / "tasks/bbh/cot_fewshot"
    template = (published / "_cot_fewshot_template_yaml").read_text(encoding="utf-8")
    own = (published / f"{task}.yaml").read_text(encoding="utf-8")
    (folder / "_template").write_text(template.replace("SaylorTwift/bbh", "json"), encoding="utf-8")
    (folder / "task.yaml").write_text(
        own.replace("_cot_fewshot_template_yaml", "_template").replace(f"dataset_name: {json.dumps(task)}\n", "")
        + f"\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n",
        encoding="utf-8",
    )
    specs = [
        {"name": "harness", "kind": "lm_eval", "task": f"bbh_cot_fewshot_{task}", "include_path": "tasks"},
        {
            "name": "ours",
            "kind": "bbh",
            "data": "tasks/rows.jsonl",
            "prompts": str(real_data / "bbh/cot_prompts_shared.jsonl.gz"),
            "max_new_tokens": 1024,
            "stop": ["</s>", "Q", "\n\n"],
        },
    ]
    suites = load_suites(specs, tmp_path)
    ends = [
        "So the answer is {}.",
        "so the answer is {}.\nQ: and more",
        "So the answer is {}. It is.",
        "the answer is {}, the answer is {}.",
        "{}.",
        "So the answer is not {}.",
        "Think: so\nthe answer is {}.",
        "So the answer is  {}.",
    ]
    targets = {row["input"]: (row["target"], end) for row, end in zip(rows, ends, strict=True)}

    def answers(prompt: str) -> str:
        asked = prompt.rpartition("\n\nQ: ")[2].partition("\nA: ")[0]
        target, end = targets[asked]
        return end.format(target, target)

    models = [FakeModel(answers), FakeModel(answers)]
    found = [measure(model, [suite])[suite.name] for model, suite in zip(models, suites, strict=True)]
    assert models[0].calls == models[1].calls
    assert "canary" not in models[1].calls[0]
    assert models[1].calls[0].count("\nQ: ") == 4, "three worked examples, and the question"
    assert models[0].decodings[0].stop == models[1].decodings[0].stop
    values = [[one.value for one in side.scores] for side in found]
    # The harness keeps a space that stands double before the target; that answer alone is read otherwise.
    assert values[0][:7] == values[1][:7]
    assert sum(values[1][:7]) == 3
    assert text_of(suites[1].items[0].prompt) == models[1].calls[0]  # type: ignore[arg-type]


def test_conclusions() -> None:
    assert conclusion("So the answer is (D).") == "(D)"
    assert conclusion("the answer is 3.5") == "3.5"
    assert conclusion("the answer is True") == "True", "the harness would read Tru"
    assert conclusion("I cannot say.") is None


def test_bbh_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    (made,) = load_suites(["bbh"], tmp_path)
    assert len(made.items) == 1000
    assert {item.category for item in made.items} >= set(TASKS)
    right = [Answer("bbh", item.id, f"Well, so the answer is {item.answers[0]}.") for item in made.items]
    assert all(one.value == 1 for one in score(made, right))
    assert all(
        one.value == 0 for one in score(made, [Answer("bbh", item.id, "the answer is 7 7") for item in made.items])
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"task": "sortin", "input": "a", "target": "b"}, "sortin.*no prompt.*sorting"),
        ({"task": "sorting", "input": "", "target": "b"}, "input.*not empty"),
        ({"task": "sorting", "input": "a"}, "target.*must be a text"),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(tmp_path: Path, row: dict[str, str], words: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"task": "sorting", "prompt": "Sort."}) + "\n")
    with pytest.raises(DataError, match=rf"(?s)rows.jsonl:1.*{words}"):
        load_suites([{"name": "b", "kind": "bbh", "data": "rows.jsonl", "prompts": "prompts.jsonl"}], tmp_path)


def test_a_suite_without_rows_or_prompts_is_refused(tmp_path: Path) -> None:
    for more in ({"items": []}, {"data": "rows.jsonl"}):
        with pytest.raises(MnemosError):
            load_suites([{"name": "b", "kind": "bbh", **more}], tmp_path)


def test_categories_that_count_alike() -> None:
    """Three items of one category and one of another: the mean of the categories' means, not of the items."""
    items = [{"prompt": f"p{n}", "answer": "x", "category": "many" if n < 3 else "few"} for n in range(4)]
    means = {}
    for flag in (False, True):
        (made,) = load_suites([{"name": "s", "kind": "generated", "items": items, "balanced": flag}], Path())
        scores = score(made, [Answer("s", item.id, "x" if item.category == "many" else "y") for item in made.items])
        means[flag] = summary(scores, made)["mean"]
    assert means == {False: pytest.approx(0.75), True: pytest.approx(0.5)}
    three = [Item("1", category="a"), Item("2"), Item("3")]
    assert balanced(three, [1.0, 1.0, 1.0]) == pytest.approx([1.5, 0.75, 0.75])
    assert balanced(three, [2.0, 0.0, 0.0]) == pytest.approx([2.0, 0.0, 0.0])


def test_categories_of_texts_count_alike_whatever_their_bytes() -> None:
    """990 bytes of one bit each and 10 of three: 2 bits, and not 1.02."""
    texts = [{"id": "1", "text": "x" * 990, "category": "a"}, {"id": "2", "text": "y" * 10, "category": "b"}]
    (made,) = load_suites([{"name": "b", "kind": "bits_per_byte", "balanced": True, "items": texts}], Path())
    nats = [990 * math.log(2), 30 * math.log(2)]
    answers = [
        Answer("b", item.id, None, None, 9, {"nats": n, "bytes": size})
        for item, n, size in zip(made.items, nats, (990, 10), strict=True)
    ]
    assert summary(score(made, answers), made)["mean"] == pytest.approx(2.0)


@pytest.mark.parametrize("more", [{"columns": {"input": "other"}}, {"templates": {"input": "{other}"}}])
def test_names_of_columns_are_refused_where_rows_have_names_of_their_own(
    tmp_path: Path, more: dict[str, dict[str, str]]
) -> None:
    (tmp_path / "b.jsonl").write_text('{"task": "t", "input": "i", "other": "o", "target": "x"}')
    (tmp_path / "p.jsonl").write_text('{"task": "t", "prompt": "P"}')
    bbh = {"name": "s", "kind": "bbh", "data": "b.jsonl", "prompts": "p.jsonl"}
    for raw in (bbh, {"name": "s", "kind": "lm_eval", "task": "x"}):
        with pytest.raises(UsageError, match=f"{next(iter(more))}: is not for kind {raw['kind']}"):
            load_suites([{**raw, **more}], tmp_path)


def test_balancing_is_part_of_a_suites_name_only_where_it_is_asked_for() -> None:
    row = {"prompt": "p", "answer": "x"}
    prints = [
        load_suites([{"name": "s", "kind": "generated", "items": [row], **flag}], Path())[0].fingerprint
        for flag in ({}, {"balanced": False}, {"balanced": True})
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_task_with_two_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"task": "t", "input": "i", "target": "x"}')
    (tmp_path / "p.jsonl").write_text('{"task": "t", "prompt": "P"}\n{"task": "t", "prompt": "Q"}')
    with pytest.raises(DataError, match=r"task 't': stands at .*p\.jsonl.* already"):
        load_suites([{"name": "s", "kind": "bbh", "data": "b.jsonl", "prompts": "p.jsonl"}], tmp_path)
