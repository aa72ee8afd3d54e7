"""Remedies for forgetting: pure functions Plan -> Plan, one folder per field of Plan.

Importing this package imports every module in it and so fills the catalogue (`core.method.REGISTRY`): a file that is
put into one of the folders is found.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from mnemos.core.described import described
from mnemos.core.method import REGISTRY

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["listing", "schema"]


def listing() -> list[dict[str, Any]]:
    """The catalogue, sorted by the field changed, then by name.

    Each row: name, changes (fields of Plan), paper, summary, off (settings under which nothing
    changes) and settings, a list of {name, type, default, bounds, description}. type and bounds
    are words for people (``number or null``, ``>= 0, < 1``, ``forward | reverse``); a setting
    without a default has no key `default`.
    """
    rows = []
    for method in REGISTRY.values():
        settings = described(method.settings)
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


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of an arm: a list of one-key mappings {method: settings or nothing}."""
    steps: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for name, method in sorted(REGISTRY.items()):
        settings = method.settings.model_json_schema()
        # pydantic refers to #/$defs at the root of a schema, so those of all methods are brought there.
        definitions.update(settings.pop("$defs", {}))
        settings["description"] = f"{method.summary} ({method.paper})"
        # A method without required settings may stand by its name alone, with nothing behind it.
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
