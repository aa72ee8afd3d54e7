"""Rows out of Arrow tables (Parquet, `datasets`), where objects in one column share all their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_MESSAGES = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "rejected_messages")
NESTED = frozenset({"tools", "functions", "chat_template_kwargs", *_OF_MESSAGES})
"""Columns that hold objects to be printed by a chat template."""


def as_written(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the nulls that Arrow fills in: two tools with other parameters, or two calls with other
    arguments, get each other's keys, and a template would print them all.

    Trap: a null that somebody wrote goes too; Arrow cannot tell them apart. JSON keeps it.
    """
    return {name: _present(value) if name in NESTED else value for name, value in row.items()}


def _present(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list | tuple) else value
