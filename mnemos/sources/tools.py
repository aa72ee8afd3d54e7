"""Tools that a row offers and the calls that its answers make, in the spellings of other tools' files.

What comes out is the one spelling that chat templates are written for: ``{"type": "function", "function": {"name",
"description", "parameters"}}`` for a tool, and for a call the same with name and arguments, the latter an object.
Everything a template may read beside the messages is a variable of the row (`Example.variables`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mnemos.core.nouns import Frozen, frozen
from mnemos.sources.bad_row import refuse, short

COLUMNS = frozenset({"tools", "functions", "chat_template_kwargs"})
"""Columns that chat formats read beside their own; functions is OpenAI's older name of tools."""

RESERVED = frozenset(
    {"self", "conversation", "messages", "tools", "chat_template", "add_generation_prompt", "continue_final_message"}
    | {"tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"}
    | {"return_assistant_tokens_mask", "sanitize_control_tokens"}
)
"""Arguments of apply_chat_template that are no variables of the template."""


def variables_of(row: Mapping[str, Any]) -> Frozen:
    """What the row gives to its chat template: tools, and the names of chat_template_kwargs. Raises RowError
    for tools that are none, and for names that rendering needs itself."""
    found: dict[str, Any] = {}
    columns = [name for name in ("tools", "functions") if row.get(name)]
    if len(columns) > 1:
        refuse("unclear tools", "tools and functions", "both stand in the row", "keep tools")
    if columns:
        found["tools"] = _tools(row[columns[0]], columns[0])
        if not found["tools"]:
            del found["tools"]
    given = _parsed(row.get("chat_template_kwargs") or {}, "chat_template_kwargs")
    if not isinstance(given, Mapping):
        refuse("wrong type", f"chat_template_kwargs = {short(given)}", "must be an object", 'like {"thinking": true}')
    for name, value in given.items():
        if name in RESERVED:
            refuse("reserved name", f"chat_template_kwargs.{name}", "is no variable of a template", "take it out")
        if value is not None:
            found[name] = value
    return _kept(found, "tools or chat_template_kwargs")


def _tools(value: Any, where: str) -> list[Any]:
    listed = _parsed(value, where)
    if isinstance(listed, Mapping):
        listed = [listed]
    if not isinstance(listed, list | tuple):
        refuse("malformed tools", f"{where} = {short(value)}", "must be a list of functions", f"mend {where}")
    return [_tool(_parsed(one, f"{where}[{n}]"), f"{where}[{n}]") for n, one in enumerate(listed)]


def _tool(value: Any, where: str) -> dict[str, Any]:
    whole = isinstance(value, Mapping) and isinstance(value.get("function"), Mapping)
    function = value["function"] if whole else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        refuse(
            "malformed tools",
            f"{where} = {short(value)}",
            "is no function with a name",
            'write {"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}',
        )
    return dict(value) if whole else {"type": "function", "function": dict(function)}


def calls_of(value: Any, where: str) -> list[dict[str, Any]]:
    """Calls of tools as templates read them: from a list, one call, or JSON text of either (what LLaMA-Factory's
    files hold under `function_call`). Arguments that are JSON text become the object that they say, as servers
    hand them to the template."""
    listed = _parsed(value, where)
    if isinstance(listed, Mapping):
        listed = [listed]
    if not isinstance(listed, list | tuple) or not listed:
        refuse("malformed tool call", f"{where} = {short(value)}", "is no call of a function", CALL)
    return [_call(_parsed(one, where), f"{where}[{n}]") for n, one in enumerate(listed)]


CALL = 'write {"name": …, "arguments": {…}}'


def _call(value: Any, where: str) -> dict[str, Any]:
    whole = isinstance(value, Mapping) and isinstance(value.get("function"), Mapping)
    function = value["function"] if whole else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        refuse("malformed tool call", f"{where} = {short(value)}", "is no call of a function with a name", CALL)
    arguments = _parsed(function.get("arguments") or {}, f"{where}.arguments")
    if not isinstance(arguments, Mapping):
        refuse("malformed tool call", f"{where}.arguments = {short(arguments)}", "must be an object", CALL)
    made = {"type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}}
    identity = value.get("id")
    return made if identity is None else {"id": identity, **made}


def _parsed(value: Any, where: str) -> Any:
    """The value, or what its JSON text says."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        text = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        refuse("malformed tools", f"{where} = {short(value)}", f"is not valid JSON ({text})", f"mend {where}")


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kept(values: Mapping[str, Any], where: str) -> Frozen:
    try:
        return frozen(values)
    except (TypeError, ValueError, RecursionError) as error:
        refuse("wrong type", where, f"cannot be written as JSON ({error})", "use texts, numbers, lists and objects")
