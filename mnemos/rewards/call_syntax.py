"""Calls of functions in what a model wrote: Python's call syntax, JSON, and the tagged forms of chat templates.

Nothing is run: Python is parsed to its syntax tree, and only values that stand there are read. A text is read as calls
where a program behind the model would: a tag opens a call, a Markdown fence holds nothing else, or the whole answer is
calls. A call that is mentioned within prose is none.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mnemos.rewards import fences
from mnemos.rewards.parsed import Unreadable, json_values

LONGEST_PYTHON = 20_000
"""Characters that are read as Python; a longer text holds no call."""
DEEPEST_PYTHON = 40
"""How deep brackets may be nested in it, and 4 times as deep its tree."""
LARGEST_POWER = 64
"""Exponent of a power that is computed."""

_LANGUAGES = ("", "python", "python3", "py", "json", "tool_code", "tool_call", "tool_calls")
_THOUGHT = "</think>"
# Qwen, Hermes and GLM; Phi and Granite; Nemotron; Mistral; Llama 3; Phi 3.5 and FireFunction
_TAGS = re.compile(
    r"(?P<opens><tool_call>|<\|tool_call\|>|<TOOLCALL>|\[TOOL_CALLS\]|<\|python_tag\|>|(?<!\w)functools(?=\[))"
    r"|</tool_call>|<\|/tool_call\|>|</TOOLCALL>"
)
_FUNCTION = re.compile(r"<function=(?P<name>[^<>\n]{1,200})>(?P<body>.*?)(?=</function>|<function=|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=(?P<name>[^<>\n]{1,200})>(?P<value>.*?)(?=</parameter>|<parameter=|\Z)", re.DOTALL)
_PAIR = re.compile(
    r"<arg_key>(?P<name>[^<>]{1,200})</arg_key>\s*<arg_value>(?P<value>.*?)(?=</arg_value>|<arg_key>|\Z)", re.DOTALL
)
_NAMED = re.compile(r"(?P<name>[\w.-]{1,200})\s*(?:\[ARGS\])?\s*(?P<body>\{.*)", re.DOTALL)
_BRACKETS = re.compile(r"[\[\](){}]")
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Call:
    """One call. arguments: by name; Python's tuples stay tuples. fault: why it can be no right call whatever is asked
    (a positional argument, arguments that cannot be read), in a few words; None where it could."""

    name: str
    arguments: Mapping[str, Any]
    fault: str | None = None


Types = Mapping[str, Mapping[str, Any]]
"""Functions that are offered: name -> parameter -> the schema's type of it."""


def calls_in(text: str, offered: Types) -> list[Call]:
    """The calls of an answer, in order; none where it is words.

    offered: decides two things alone: whether a fence beside prose holds a call or is an example of code, and
    whether a value that stands between tags without quotes is a text. Never raises.
    """
    text = text.rpartition(_THOUGHT)[2]
    tagged = _tagged(text)
    if tagged:
        return [call for part in tagged for call in _in_tag(part, offered)]
    if _FUNCTION.search(text):
        return _functions(text, offered)
    if (inner := fences.alone(text)) is not None:
        return _bare(inner, offered) or []
    found = [call for one in fences.fences(text) for call in _fenced(one, offered)]
    return found or _bare(text.strip(" \r\n\t`"), offered) or []


def same_name(a: str, b: str) -> bool:
    """Whether two names are one: a dot may be written as an underscore, because some servers allow no dot."""
    return a.replace(".", "_") == b.replace(".", "_")


def _tagged(text: str) -> list[str]:
    """What stands between each opening tag and the next tag, or the end."""
    parts: list[str] = []
    start: int | None = None
    for tag in _TAGS.finditer(text):
        if start is not None:
            parts.append(text[start : tag.start()])
        start = tag.end() if tag["opens"] else None
    if start is not None:
        parts.append(text[start:])
    return parts


def _in_tag(part: str, offered: Types) -> list[Call]:
    inner = fences.alone(part)
    part = (part if inner is None else inner).strip()
    if _FUNCTION.search(part):
        return _functions(part, offered)
    if "<arg_key>" in part:
        return [_listed(part.partition("<arg_key>")[0].strip(), _PAIR, part, offered)]
    if (found := _bare(part, offered)) is not None:
        return found
    if named := _NAMED.match(part):
        return [_call(named["name"], named["body"])]
    # A tag opened a call, so the answer is no answer in words.
    return [Call("", {}, "a call that cannot be read")]


def _functions(text: str, offered: Types) -> list[Call]:
    """Llama's ``<function=name>{…}</function>`` and Qwen's ``<function=name><parameter=x>…</parameter></function>``."""
    out = []
    for one in _FUNCTION.finditer(text):
        name, body = one["name"].strip(), one["body"]
        json_object = body.lstrip().startswith("{")
        out.append(_call(name, body) if json_object else _listed(name, _PARAMETER, body, offered))
    return out


def _listed(name: str, pattern: re.Pattern[str], body: str, offered: Types) -> Call:
    """A call whose arguments stand one by one between tags."""
    types = next((types for known, types in offered.items() if same_name(known, name)), {})
    values = {one["name"].strip(): one["value"] for one in pattern.finditer(body)}
    return Call(name, {key: _untyped(value, key, types) for key, value in values.items()})


def _untyped(text: str, name: str, types: Mapping[str, Any]) -> Any:
    """A value without quotes: a text where the schema says so, else the JSON or Python value that it spells."""
    text = text.removeprefix("\n").removesuffix("\n")
    if types.get(name) in ("string", None):
        return text
    try:
        values = json_values(text)
        return values[0] if len(values) == 1 else text
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


def _fenced(fence: fences.Fence, offered: Types) -> list[Call]:
    if fence.language not in _LANGUAGES:
        return []
    found = _bare(fence.content, offered) or []
    # Beside prose a fence may as well show how something is computed: print(6 * 7) calls nothing that is offered.
    return found if any(same_name(call.name, name) for call in found for name in offered) else []


def _bare(text: str, offered: Types) -> list[Call] | None:
    """The calls that the whole text is, as JSON or Python; None where it is something else."""
    try:
        values = json_values(text)
    except Unreadable:
        return None
    except ValueError:
        return _python(text)
    found = [_from_json(value, offered) for value in values]
    if not found or any(one is None for one in found):
        return None
    return [call for one in found if one is not None for call in one]


# JSON ---------------------------------------------------------------------------------------


def _from_json(value: Any, offered: Types) -> list[Call] | None:
    """The calls that a JSON value spells; None where it is no call. Never deeper than a list in a wrapper."""
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    if isinstance(value, list):
        found = [_one_from_json(one, offered) for one in value]
        return None if any(one is None for one in found) else [one for one in found if one is not None]
    one = _one_from_json(value, offered)
    return None if one is None else [one]


def _one_from_json(value: Any, offered: Types) -> Call | None:
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("function"), Mapping):
        value = value["function"]
    name = value.get("name", value.get("function"))
    beside = [key for key in ("arguments", "parameters", "args") if key in value]
    if isinstance(name, str) and (beside or name in offered):
        return _call(name, value[beside[0]] if beside else {})
    if len(value) == 1:
        [(name, arguments)] = value.items()
        if isinstance(arguments, Mapping) and any(same_name(name, known) for known in offered):
            return Call(name, arguments)
    return None


def _call(name: str, arguments: Any) -> Call:
    """A call with arguments that are an object, or the JSON text of one, as OpenAI's API writes them."""
    if isinstance(arguments, str):
        try:
            values = json_values(arguments)
        except ValueError:
            values = []
        arguments = values[0] if len(values) == 1 else arguments
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        return Call(name, {}, "arguments that are no JSON object")
    return Call(name, arguments)


# Python -------------------------------------------------------------------------------------


def _python(text: str) -> list[Call] | None:
    """The calls that the text is: one a line, or listed, with brackets or without."""
    tree = _parse(text)
    if tree is None or not tree.body:
        return None
    nodes: list[ast.expr] = []
    for statement in tree.body:
        if not isinstance(statement, ast.Expr):
            return None
        listed = isinstance(statement.value, ast.List | ast.Tuple)
        nodes += statement.value.elts if listed else [statement.value]  # type: ignore[attr-defined]
    found = [_from_node(node) for node in nodes]
    return None if any(one is None for one in found) else [one for one in found if one is not None]


def _parse(text: str) -> ast.Module | None:
    """The syntax tree, within bounds that make its time and depth small; None where there is none."""
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in "[({" else -1
        deepest = max(deepest, depth)
    # Brackets in texts count too: no harm, for such an answer is no call that anybody asked for.
    if len(text) > LONGEST_PYTHON or deepest > DEEPEST_PYTHON or "(" not in text:
        return None
    try:
        with warnings.catch_warnings():
            # What a model escapes wrongly, or compares by `is`, is not for the user of this program.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    # Chains of operators nest without brackets. Level by level, so that nothing here recurses before it is known.
    level: list[ast.AST] = [tree]
    for _ in range(4 * DEEPEST_PYTHON):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    return None


def _from_node(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or (name := _dotted(node.func)) is None:
        return None
    arguments: dict[str, Any] = {}
    fault = "a positional argument" if node.args else None
    for keyword in node.keywords:
        if keyword.arg is None:
            fault = "arguments that are unpacked"
            continue
        try:
            arguments[keyword.arg] = _value(keyword.value)
        except (ValueError, ArithmeticError, TypeError):
            fault = f"a value of {keyword.arg} that is computed"
    return Call(name, arguments, fault)


def _dotted(node: ast.expr) -> str | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join(reversed([*names, node.id])) if isinstance(node, ast.Name) else None


def _value(node: ast.expr) -> Any:
    """The value that stands there, as BFCL's reader takes it: a bare name, a call within and a subscript are texts.
    Raises ValueError for what would have to be run."""
    match node:
        case ast.Constant():
            return "..." if node.value is Ellipsis else node.value
        case ast.Name():
            return node.id
        case ast.List():
            return [_value(one) for one in node.elts]
        case ast.Tuple():
            return tuple(_value(one) for one in node.elts)
        case ast.Dict():
            # A key that is None unpacks another mapping, and raises TypeError here.
            return {_key(key): _value(one) for key, one in zip(node.keys, node.values, strict=True)}
        case ast.UnaryOp(op=ast.USub()):
            return -_number(node.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            return _number(node.operand)
        case ast.BinOp():
            return _computed(node)
        case ast.Call() if node.keywords and (name := _dotted(node.func)) is not None:
            return {name: {one.arg or "**": _value(one.value) for one in node.keywords}}
        case ast.Call() | ast.Subscript():
            return ast.unparse(node)
    raise ValueError("must be run")


def _key(node: ast.expr | None) -> Any:
    if not isinstance(node, ast.Constant | ast.Name):
        raise ValueError("no key that can be read")
    return _value(node)


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")
    return value


def _computed(node: ast.BinOp) -> Any:
    """Arithmetic with numbers that stand there, such as 3 * 60 or 10 ** 6."""
    left, right = _number(node.left), _number(node.right)
    if isinstance(node.op, ast.Pow):
        # Bounded, because a few characters can ask for a number of gigabytes.
        if not 0 <= right <= LARGEST_POWER or abs(left) > 1_000_000:
            raise ValueError("a power that is too large")
        return left**right
    if type(node.op) not in _OPERATORS:
        raise ValueError("no arithmetic")
    return _OPERATORS[type(node.op)](left, right)
