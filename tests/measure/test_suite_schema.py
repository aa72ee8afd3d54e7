"""The schema of suites says what the reader takes, and refuses what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mnemos.core.errors import MnemosError
from mnemos.core.yaml_text import read_yaml
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import BUILT_IN, load_suites
from mnemos.measure.suite_schema import schema
from mnemos.study.config import schema as study_schema

ROOT = Path(__file__).parents[2]


def plain(value: Any) -> Any:
    """As an editor reads it: numbers that keep their text are numbers."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def editor() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def test_every_shipped_suite_and_study_is_what_the_schemas_say(editor: jsonschema.Draft202012Validator) -> None:
    suites = sorted(BUILT_IN.glob("*.yaml"))
    assert len(suites) > 5
    for path in suites:
        editor.validate(plain(read_yaml(path)))
    jsonschema.Draft202012Validator.check_schema(study_schema())
    study = jsonschema.Draft202012Validator(study_schema())
    for name in ("demo", "catalogue", "self_rewarding"):
        study.validate(plain(read_yaml(ROOT / "mnemos" / "recipes" / f"{name}.yaml")))


def test_every_kind_has_every_key_with_its_sentence() -> None:
    made = schema()["$defs"]
    for name, kind in KINDS.items():
        properties = made[f"suite_{name}"]["properties"]
        assert properties["kind"]["const"] == name
        assert kind.settings.model_fields.keys() <= properties.keys()
        assert all(text.get("description") for text in properties.values())
    assert all(text.get("description") for text in made["item"]["properties"].values())


GOOD = {"name": "s", "kind": "generated", "match": "number", "items": [{"prompt": "1 + 1 =", "answer": 2, "note": "x"}]}


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"chat": True, "schema": {"type": "object"}, "match": "json"}, True),
        ({"kind": "generate"}, False),
        ({"match": "exakt"}, False),
        ({"kind": "choice"}, False),
        ({"max_new_token": 5}, False),
        ({"items": [{"prompt": "x", "expect": "refusal"}], "kind": "refusal", "match": None}, False),
        ({"items": None, "match": None, "kind": "lm_eval", "task": "tiny"}, True),
        ({"items": None, "kind": None, "match": None, "chat": None, "like": "sums", "limit": 3}, True),
        ({"like": "sums"}, False),
    ],
)
def test_the_schema_and_the_reader_agree(
    changed: dict[str, Any], good: bool, editor: jsonschema.Draft202012Validator
) -> None:
    suite = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
    study = jsonschema.Draft202012Validator(study_schema())
    for form in (suite, [suite], {"suites": [suite]}):
        assert editor.is_valid(form) == good
    rest = {"model": "m", "teach": {"data": "d"}, "arms": {"plain": None}}
    assert study.is_valid({**rest, "suites": {"new": ["name", suite]}}) == good
    assert not editor.is_valid({"suites": [suite], "more": 1})
    if suite.get("kind") == "lm_eval":
        return  # Whether there is such a task, the harness knows.
    if good:
        load_suites([suite], Path("."))
    else:
        with pytest.raises(MnemosError):
            load_suites([suite], Path("."))


def test_the_documentation_names_a_command_that_prints_it() -> None:
    from typer.testing import CliRunner

    from mnemos.cli import app

    (command,) = re.findall(r"Every key of every kind: `mnemos ([^`]+)`", (ROOT / "docs" / "suites.md").read_text())
    done = CliRunner().invoke(app, command.split())
    assert json.loads(done.output) == plain(schema())
