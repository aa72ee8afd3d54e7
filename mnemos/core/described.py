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


def _setting(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    row = {
        "name": name,
        "type": _type(schema),
        "bounds": _bounds(schema),
        "description": " ".join(schema.get("description", "").split()),
    }
    return {**row, "default": schema["default"]} if "default" in schema else row


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if "$ref" in schema:
        return "mapping"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _bounds(schema: dict[str, Any]) -> str:
    parts = [_bounds(choice) for choice in schema.get("anyOf", ())]
    if "items" in schema:
        parts.append(_bounds(schema["items"]))
    if "const" in schema:
        parts.append(str(schema["const"]))
    if "enum" in schema:
        parts.append(" | ".join(str(choice) for choice in schema["enum"]))
    parts += [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return ", ".join(part for part in parts if part)
