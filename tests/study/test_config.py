"""The study file: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.core.yaml_text import parse_yaml
from mnemos.study.config import dump_study, load_study, parse_override, schema
from mnemos.study.paths import resolve_path


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "new.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "model").mkdir()
    return {
        "model": "model",
        "teach": {"data": "new.jsonl"},
        "suites": {"new": [{"name": "new", "kind": "generated", "items": []}]},
        "arms": {"half": [{"weights": {"expression": "0.5*after + 0.5*before"}}]},
    }


def write(folder: Path, raw: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_paths_are_absolute_plain_is_added_and_the_dump_is_the_same_study(tmp_path: Path, raw: dict[str, Any]) -> None:
    study, folder = load_study(write(tmp_path, raw))
    assert folder == tmp_path.resolve()
    assert study.model == str(tmp_path / "model")
    assert study.tasks[0].data == str(tmp_path / "new.jsonl")
    assert study.tasks[0].name == "new"
    assert list(study.arms) == ["plain", "half"]
    again, _ = load_study(yaml.safe_load(dump_study(study)))
    assert again == study


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": "x"}, "model"),
        ({"train": {"learning_rat": 1}}, "learning_rate"),
        ({"train": {"learning_rate": -1}}, "learning_rate"),
        ({"train": {"learning_rate": "fast"}}, "fast"),
        ({"train": {"fsdp": "full_shard", "deepspeed": "x.json"}}, "fsdp and deepspeed"),
        ({"arms": {"a": [{"repaly": {}}]}}, "replay"),
        ({"arms": {"a": [{"replay": {"share": 0.1}}]}}, "share_of_final"),
        ({"arms": {"a": [{"replay": {"share_of_final": 1.5}}]}}, "1.5"),
        ({"arms": {"a": [{"replay": {}, "lora": {}}]}}, "one {method: settings} pair"),
        ({"arms": {"a/b": []}}, "/ separates folders"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "differ"),
        ({"suites": {}}, "no suite"),
        ({"suites": {"gnu": []}}, "new"),
        ({"teach": {"dato": "x"}}, "data"),
        ({"teach": []}, "at least one task"),
        ({"model": "./absent"}, "no such directory"),
        ({"model": "$UNSET_VARIABLE_OF_A_TEST/x"}, "not set"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    tmp_path: Path, raw: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_study(write(tmp_path, {**raw, **change}))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "mapping"), (b"\xff\xfe", "UTF-8"), (b"a: [", "not YAML"), (b"- 1", "mapping")]
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_study(path)


def test_a_missing_study_names_init(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mnemos init"):
        load_study(tmp_path / "none.yaml")


def test_overrides_reach_nested_keys_and_list_items(tmp_path: Path, raw: dict[str, Any]) -> None:
    overrides = dict(
        map(parse_override, ["train.learning_rate=1e-4", "seeds=[3, 4]", "arms.half.0.weights.expression=after"])
    )
    study, _ = load_study(write(tmp_path, raw), overrides)
    assert study.train.learning_rate == 1e-4
    assert study.seeds == [3, 4]
    half = study.arms["half"]
    assert half is not None
    assert half[0]["weights"]["expression"] == "after"  # type: ignore[index]


@pytest.mark.parametrize("text", ["novalue", "=1"])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_override(text)


@given(st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)))
def test_an_override_keeps_its_type(value: int | bool | float) -> None:
    assert parse_override(f"a.b={json.dumps(value)}") == ("a.b", value)


def test_package_paths(tmp_path: Path) -> None:
    assert resolve_path("mnemos:demo.yaml", tmp_path).parent.name == "recipes"


def test_the_schema_accepts_a_study_and_refuses_a_misspelt_method(raw: dict[str, Any]) -> None:
    import jsonschema

    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.validate(raw, made)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**raw, "arms": {"a": [{"repaly": {}}]}}, made)


def test_a_sequence_needs_a_suite_for_each_task(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["teach"] = [{"data": "new.jsonl", "name": "a"}, {"data": "new.jsonl", "name": "b"}]
    with pytest.raises(UsageError, match="needs its own suite"):
        load_study(write(tmp_path, raw))


def sequence(raw: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    teach = [
        {"data": "new.jsonl", "name": name, "suites": [{**raw["suites"]["new"][0], "name": name}]} for name in names
    ]
    return {**raw, "teach": teach, "suites": {}, **more}


def test_tasks_are_taught_in_the_order_that_is_named(tmp_path: Path, raw: dict[str, Any]) -> None:
    study, _ = load_study(write(tmp_path, sequence(raw, "a", "b", "c", order=["c", "a", "b"])))
    assert [task.name for task in study.tasks] == ["c", "a", "b"]
    assert not study.every_order
    again, _ = load_study(yaml.safe_load(dump_study(study)))
    assert again.task_orders == study.task_orders
    study, _ = load_study(write(tmp_path, sequence(raw, "a", "b", "c", orders="all")))
    assert len(study.task_orders) == 6
    assert len({tuple(str(task.name) for task in order) for order in study.task_orders}) == 6
    assert [task.name for task in study.tasks] == ["a", "b", "c"]
    assert study.every_order


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        ("ab", {"order": ["a"]}, "each of ['a', 'b'] once"),
        ("ab", {"order": ["a", "bb"]}, "bb"),
        ("ab", {"orders": [["a", "b"], ["a", "b"]]}, "holds an order twice"),
        ("ab", {"orders": []}, "names no order"),
        ("ab", {"orders": "some"}, "some"),
        ("ab", {"order": ["a", "b"], "orders": "all"}, "both set"),
        ("abcdef", {"orders": "all"}, "720 sequences of 6 tasks"),
    ],
)
def test_orders_that_cannot_be_meant(
    tmp_path: Path, raw: dict[str, Any], names: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_study(write(tmp_path, sequence(raw, *names, **more)))
    assert message in str(caught.value)


def test_an_order_needs_a_sequence(tmp_path: Path, raw: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs a sequence"):
        load_study(write(tmp_path, {**raw, "orders": "all"}))


def test_single_arms_may_train_otherwise(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["train"] = {"num_train_epochs": 2}
    study, _ = load_study(write(tmp_path, {**raw, "arm_train": {"half": {"learning_rate": 1e-3}}}))
    assert study.train_of("half").learning_rate == 1e-3
    assert study.train_of("half").num_train_epochs == 2
    assert study.train_of("plain") == study.train
    for wrong, text in (
        ({"hlaf": {}}, "half"),
        ({"half": {"learning_rat": 1}}, "learning_rate"),
        ({"half": {"max_steps": "x"}}, "x"),
    ):
        with pytest.raises(UsageError) as caught:
            load_study(write(tmp_path, {**raw, "arm_train": wrong}))
        assert text in str(caught.value)


def test_single_arms_may_read_other_rows(tmp_path: Path, raw: dict[str, Any]) -> None:
    (tmp_path / "other.jsonl").write_text('{"prompt": "p", "completion": "q"}\n', encoding="utf-8")
    name = str(load_study(write(tmp_path, raw))[0].tasks[0].name)
    study, _ = load_study(write(tmp_path, {**raw, "arm_data": {"half": {name: "other.jsonl"}}}))
    task = study.tasks[0]
    assert study.task_of("half", task).data == str(tmp_path / "other.jsonl")
    assert study.task_of("plain", task) == task
    for wrong, text in (({"hlaf": {}}, "half"), ({"half": {name[:-1]: "other.jsonl"}}, name)):
        with pytest.raises(UsageError) as caught:
            load_study(write(tmp_path, {**raw, "arm_data": wrong}))
        assert text in str(caught.value)


def test_inline_answers_stay_as_written_through_the_dump(tmp_path: Path, raw: dict[str, Any]) -> None:
    path = write(tmp_path, raw)
    items = "[{prompt: p, answer: 007}, {prompt: p, answer: 1.10}, {prompt: p, answer: yes}]"
    path.write_text(path.read_text().replace("items: []", f"items: {items}"))
    study, _ = load_study(path)
    again, _ = load_study(parse_yaml(dump_study(study)))
    for one in (study, again):
        assert [str(item["answer"]) for item in one.suites.new[0]["items"]] == ["007", "1.10", "yes"]


def test_two_arms_of_one_name_are_refused_with_file_and_line(tmp_path: Path, raw: dict[str, Any]) -> None:
    path = write(tmp_path, {**raw, "arms": {}})
    path.write_text(path.read_text().replace("arms: {}", "arms:\n  a: []\n  a: [{lora: {}}]"))
    with pytest.raises(UsageError, match=r"study\.yaml:3: the key 'a' stands at line 2 already"):
        load_study(path)


@pytest.mark.parametrize("text", ["seeds=[1", "a=*b", "a={b: 1, b: 2}", "a=" + "[" * 1000, "a=!!python/name:os.x y"])
def test_an_override_that_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_override(text)


def test_a_number_as_a_name_is_to_be_quoted_as_it_was_written(tmp_path: Path, raw: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match='Quote a text: "007"'):
        load_study(write(tmp_path, raw), dict([parse_override("name=007")]))
    study, _ = load_study(write(tmp_path, raw), dict([parse_override('name="007"')]))
    assert study.name == "007"


def test_the_key_of_an_earlier_version_is_refused_with_the_new_name(tmp_path: Path, raw: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"study\.along: is called trajectory now"):
        load_study(write(tmp_path, {**raw, "along": {"suites": ["new"]}}))


def test_a_trajectory_of_a_training_that_may_stop_early_is_refused(tmp_path: Path, raw: dict[str, Any]) -> None:
    stops = {"eval_strategy": "epoch", "load_best_model_at_end": True, "early_stopping_patience": 2}
    given = {**raw, "trajectory": {"suites": ["new"]}, "train": {**raw.get("train", {}), **stops}}
    with pytest.raises(UsageError, match=r"trajectory and train\.load_best_model_at_end"):
        load_study(write(tmp_path, given))
