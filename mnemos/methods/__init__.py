"""Remedies for forgetting: pure functions Plan -> Plan, one folder per field of Plan.

Importing this package imports every module in it and so fills the catalogue (`core.method.REGISTRY`): a file that is
put into one of the folders is found.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from mnemos.core.method import REGISTRY

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["listing", "schema"]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def listing() -> list[dict[str, Any]]:
    """The catalogue, sorted by the field changed, then by name.

    Each row: name, changes (fields of Plan), paper, summary, off (settings under which nothing
    changes) and settings, a list of {name, type, default, bounds, description}. type and bounds
    are words for people (``number or null``, ``>= 0, < 1``, ``forward | reverse``); a setting
    without a default has no key `default`.
    """
    rows = []
    for method in REGISTRY.values():
        properties = method.settings.model_json_schema().get("properties", {})
        settings = [_setting(name, dict(said)) for name, said in properties.items()]
        rows.append(
            {
                "name": method.name,
                "changes": sorted(method.changes),
                "paper": method.paper,
                "summary": method.summary,
                "off": dict(method.off),
                "settings": settings,
            }
        )
    return sorted(rows, key=lambda row: (row["changes"], row["name"]))


def _setting(name: str, said: dict[str, Any]) -> dict[str, Any]:
    row = {"name": name, "type": _type(said), "bounds": _bounds(said), "description": said.get("description", "")}
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


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of an arm: a list of one-key mappings {method: settings or nothing}."""
    steps: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for name, method in sorted(REGISTRY.items()):
        settings = method.settings.model_json_schema()
        definitions.update(settings.pop("$defs", {}))
        settings["description"] = f"{method.summary} ({method.paper})"
        bare = not settings.get("required")
        steps[name] = {"anyOf": [settings, {"type": "null"}]} if bare else settings
    step = {
        "type": "object",
        "properties": steps,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    arm: dict[str, Any] = {"type": "array", "items": step}
    return {**arm, "$defs": definitions} if definitions else arm
