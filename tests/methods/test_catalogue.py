"""The listing for people and the JSON schema for editors, both from the signatures."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from mnemos.core.errors import UsageError
from mnemos.core.method import REGISTRY, RETIRED, apply
from mnemos.core.plan import CHANGEABLE
from mnemos.core.settings import TrainSettings
from mnemos.methods import listing, schema
from mnemos.study.config import Study
from tests.laws import base_plan

FIRST = {
    "output_only": "weigh",
    "replay": "examples",
    "freeze": "trainable",
    "only": "trainable",
    "lora": "trainable",
    "dora": "trainable",
    "ia3": "trainable",
    "weights": "after",
    "kl_to_before": "objective",
    "l2_to_before": "objective",
}


def test_the_first_methods_are_there() -> None:
    rows = {row["name"]: row for row in listing()}
    assert {name: rows[name]["changes"] for name in FIRST} == {name: [field] for name, field in FIRST.items()}
    assert set(rows) == set(REGISTRY)


def test_rows_are_whole() -> None:
    for row in listing():
        assert set(row) == {"name", "changes", "paper", "summary", "off", "settings"}
        assert set(row["changes"]) <= set(CHANGEABLE)
        assert row["paper"].startswith("arXiv:")
        assert row["summary"].endswith(".")
        assert row["settings"]
        for setting in row["settings"]:
            assert setting["type"] != "any", setting
            assert setting["description"]
    assert json.dumps(listing())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("replay", {"name": "share_of_final", "type": "number", "bounds": ">= 0, < 1", "default": 0.1}),
        ("lora", {"name": "alpha", "type": "number or null", "bounds": "> 0", "default": None}),
        ("lora", {"name": "targets", "type": "string or list of string", "bounds": "all-linear"}),
        ("kl_to_before", {"name": "direction", "bounds": "forward | reverse", "default": "forward"}),
        ("ia3", {"name": "parts", "type": "list of string", "bounds": "keys | values | feedforward"}),
        ("replay", {"name": "repeat", "type": "boolean", "bounds": "", "default": False}),
    ],
)
def test_settings_in_words(method: str, expected: dict[str, Any]) -> None:
    (row,) = (row for row in listing() if row["name"] == method)
    (setting,) = (setting for setting in row["settings"] if setting["name"] == expected["name"])
    assert {key: setting[key] for key in expected} == expected


ARMS: list[tuple[Any, bool]] = [
    ([], True),
    ([{"replay": {"share_of_final": 0.1}}], True),
    ([{"lora": {"rank": 4, "targets": ["q_proj"]}}, {"kl_to_before": None}], True),
    ([{"lora": {"targets": "all-linear", "alpha": None}}], True),
    ([{"only": {"parts": ["all"]}}], True),
    ([{"replay": {"share_of_final": 1.0}}], False),
    ([{"replay": {"share": 0.1}}], False),
    ([{"repaly": {}}], False),
    ([{"replay": {}, "lora": {}}], False),
    ([{}], False),
    ([{"freeze": {"parts": ["all"]}}], False),
    ([{"lora": {"rank": "big"}}], False),
    ([{"lora": 4}], False),
    (["replay"], False),
    ({"replay": {}}, False),
]


@pytest.mark.parametrize(("arm", "good"), ARMS)
def test_the_schema_and_the_code_agree(arm: Any, good: bool) -> None:
    text = schema()
    jsonschema.Draft202012Validator.check_schema(text)
    assert jsonschema.Draft202012Validator(text).is_valid(arm) == good
    steps = arm if isinstance(arm, list) else [arm, arm]
    if good:
        apply(base_plan(), steps)
    elif isinstance(arm, list):
        with pytest.raises(UsageError):
            apply(base_plan(), steps)


def test_an_editor_shows_what_a_method_does() -> None:
    steps = schema()["items"]["properties"]
    assert "arXiv:2106.09685" in json.dumps(steps["lora"])
    assert "share of all rows of the mixture" in json.dumps(steps["replay"])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (name, old, new)
        for name, one in REGISTRY.items()
        for old, new in RETIRED.items()
        if new in one.settings.model_fields and old not in one.settings.model_fields
    ],
)
def test_keys_of_earlier_versions_are_refused_with_the_new_name(name: str, old: str, new: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}\.{old}: is called {new} now\n  write {new} in its place"):
        REGISTRY[name].validate({**REGISTRY[name].example, old: 1})


def test_every_retired_key_is_met() -> None:
    known = (
        {key for one in REGISTRY.values() for key in one.settings.model_fields}
        | set(TrainSettings.model_fields)
        | set(Study.model_fields)
    )
    assert set(RETIRED.values()) <= known
    assert not (set(RETIRED) - {"samples"}) & known, "samples is what the Fisher information of ewc is taken from"
