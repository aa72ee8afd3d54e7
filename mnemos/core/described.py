"""Settings records in words, for listings: name, type, bounds, default and meaning of each setting."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def described(model: type[BaseModel]) -> list[dict[str, Any]]:
    """One row a setting: {name, type, bounds, description, default}. type and bounds are words for people
    (``number or null``, ``>= 0, < 1``, ``forward | reverse``); a required setting has no key `default`."""
    properties = model.model_json_schema().get("properties", {})
    fields = model.model_fields
    made = {  # what a factory makes is no `default` of the schema
        name: fields[name].get_default(call_default_factory=True)
        for name in properties
        if name in fields and fields[name].default_factory is not None
    }
    return [
        _setting(name, {**text, **({"default": made[name]} if name in made else {})})
        for name, text in properties.items()
    ]


def _setting(name: str, said: dict[str, Any]) -> dict[str, Any]:
    row = {
        "name": name,
        "type": _type(said),
        "bounds": _bounds(said),
        "description": " ".join(said.get("description", "").split()),
    }
    return {**row, "default": said["default"]} if "default" in said else row


def _type(said: dict[str, Any]) -> str:
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(_type(choice) for choice in said["anyOf"]))
    if "$ref" in said:
        return "mapping"
    if said.get("type") == "array":
        return f"list of {_type(said.get('items', {}))}"
    return str(said.get("type", "any"))


def _bounds(said: dict[str, Any]) -> str:
    parts = [_bounds(choice) for choice in said.get("anyOf", ())]
    if "items" in said:
        parts.append(_bounds(said["items"]))
    if "const" in said:
        parts.append(str(said["const"]))
    if "enum" in said:
        parts.append(" | ".join(str(choice) for choice in said["enum"]))
    parts += [f"{sign} {said[key]}" for key, sign in _BOUNDS.items() if key in said]
    return ", ".join(part for part in parts if part)
