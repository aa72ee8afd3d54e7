"""JSON schema of suites, for editors: every kind with its keys, and what an item may hold."""

from __future__ import annotations

from typing import Any

from mnemos.measure.items import KEYS
from mnemos.measure.kinds import KINDS, Kind
from mnemos.sources.messages import ROLES
from mnemos.sources.tools import COLUMNS as BESIDE

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SUITE = {"$ref": "#/$defs/suite"}

_TEXT: dict[str, Any] = {"type": "string"}
_SCALAR: dict[str, Any] = {"type": ["string", "number"]}
_ROLE = {"enum": list(ROLES)}
_TURN = {
    "type": "object",
    "properties": {"role": _ROLE, "from": _ROLE, "content": {}, "value": {}, "tool_calls": {"type": ["array", "null"]}},
    "anyOf": [{"required": ["role"]}, {"required": ["from"]}],
}
_ITEM: dict[str, dict[str, Any]] = {
    "id": {**_SCALAR, "description": "Unique within the suite; before and after are paired by it."},
    "prompt": {**_TEXT, "description": "What is put to the model, raw unless the suite says chat: true."},
    "messages": {"type": "array", "items": _TURN, "description": "A chat that ends with a user turn."},
    "text": {**_TEXT, "description": "A text to be predicted."},
    "raw": {"type": "boolean", "description": "Whether the chat template is left out for this item."},
    "answer": {"description": "The reference, or the right option: its text, or its index from 0."},
    "answers": {"type": "array", "description": "Several references, or several right options."},
    "options": {"type": "array", "items": _SCALAR, "description": "Candidates of choice, mc1 and mc2."},
    "expect": {"enum": ["refuse", "answer"], "description": "What a refusal suite expects."},
    "language": {**_TEXT, "description": "ISO 639-1 code of the expected language."},
    "schema": {"type": "object", "description": "JSON schema of the answer, with match: json."},
    "cluster": {**_SCALAR, "description": "Items that share it are not independent."},
    "solution": {"description": "With match: code, a known right answer: tests that refuse it are at fault."},
    "turns": {
        "type": "array",
        "items": _TEXT,
        "description": "User turns of a dialogue; each is asked after the model's reply to the one before.",
    },
    "criteria": {"description": "What a good answer meets, for the judge alone: a text, or a list of them."},
    "category": {**_SCALAR, "description": "Where tables by category put the item."},
    "instruction_id_list": {"description": "With kind ifeval: the instructions' kinds, by IFEval's names."},
    "kwargs": {"description": "With kind ifeval: the arguments of each instruction."},
    "state": {"description": "With kind tool_steps: an object that the functions work on."},
    "end_state": {"description": "With kind tool_steps: the object that they must leave."},
    "tools": {"description": "Functions offered to the model through its chat template, as a list or as JSON text."},
    "functions": {"description": "OpenAI's older name of tools."},
    "chat_template_kwargs": {"description": "Variables of the chat template for this item."},
}


def definitions() -> dict[str, Any]:
    """The `$defs` of suites: `suite`, one of the kinds; each kind by its name; `item`."""
    out: dict[str, Any] = {
        "suite": {"anyOf": [{"$ref": f"#/$defs/suite_{name}"} for name in (*KINDS, "like")]},
        "suite_like": {
            "title": "a suite like another one",
            "description": "The keys of another suite, with those that stand here in place of its own.",
            "type": "object",
            "properties": {
                "like": {**_TEXT, "description": "Name of a shipped suite, or a file of one suite."},
                "name": _TEXT,
                "kind": False,
            },
            "required": ["like"],
        },
        # Other columns of a row are left alone.
        "item": {"type": "object", "properties": {key: _ITEM[key] for key in (*KEYS, *sorted(BESIDE))}},
    }
    for name, kind in KINDS.items():
        made = _kind(name, kind)
        out.update(made.pop("$defs", {}))
        out[f"suite_{name}"] = made
    return out


def _kind(name: str, kind: Kind) -> dict[str, Any]:
    made: dict[str, Any] = kind.settings.model_json_schema()
    properties = made["properties"]
    properties["kind"] = {"const": name, "description": kind.summary}
    properties["items"] = {**properties["items"], "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/item"}}]}
    if "json_schema" in properties:
        properties["schema"] = properties["json_schema"]
    return {**made, "title": f"suite of kind {name}", "description": kind.summary}


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a suite file: one suite, a list of them, or a mapping with the key suites."""
    several = {"type": "array", "items": SUITE}
    wrapped = {
        "type": "object",
        "properties": {"suites": {"anyOf": [SUITE, several]}},
        "required": ["suites"],
        "additionalProperties": False,
    }
    return {
        "$schema": DRAFT,
        "title": "mnemos suites",
        "anyOf": [SUITE, several, wrapped],
        "$defs": definitions(),
    }
