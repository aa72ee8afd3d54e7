"""Lists of messages in the spellings of other tools, as turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from mnemos.core.errors import DataError, nearest
from mnemos.core.nouns import Turn

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Role names of the common tools and what they mean here."""


class RowError(DataError):
    """A row that cannot be learned from. reason: what a skipped row is counted under."""

    def __init__(self, reason: str, value: str, bound: str = "", cure: str = "") -> None:
        super().__init__(value, bound, cure)
        self.reason = reason

    def at(self, where: str) -> RowError:
        """The same with the row's place in front."""
        return RowError(self.reason, f"{where}: {self.value}", self.bound, self.cure)


def refuse(reason: str, value: str, bound: str, cure: str) -> NoReturn:
    """Raise a RowError whose place is added by the caller."""
    raise RowError(reason, value, bound, cure)


def text_of(value: Any, where: str) -> str:
    """A text column's value; refuses anything that is not text."""
    if not isinstance(value, str):
        refuse("wrong type", f"{where} = {_short(value)}", "must be text", f"write {where} as a string")
    return value


def conversation(value: Any, where: str) -> tuple[Turn, ...]:
    """Turns from a list of ``{role, content}`` or ``{from, value}``.

    A message with ``weight: 0`` or ``train: false`` is exempt from the loss. Content in parts is
    joined when all parts are text. What would be lost without a word (images, tool_calls,
    reasoning in a field of its own) is refused.
    """
    if not isinstance(value, list | tuple) or not value:
        refuse("wrong type", f"{where} = {_short(value)}", "must be a list of messages", "see the row's format")
    return tuple(_turn(message, f"{where}[{number}]") for number, message in enumerate(value))


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, Mapping):
        refuse("wrong type", f"{where} = {_short(message)}", "must be an object", 'write {"role": …, "content": …}')
    said = message.get("role", message.get("from"))
    if said is None:
        refuse("no role", f"{where} has {', '.join(message) or 'nothing'}", "needs role (or from)", "add role")
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        refuse("unknown role", f"{where}: role = {said!r}", "is not known", nearest(str(said), ROLES))
    for field in ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"):
        if message.get(field):
            refuse(
                "unsupported field",
                f"{where}.{field}",
                "cannot be told apart from the answer's text here",
                "write it inside content, the way the model's own template would print it",
            )
    content = message.get("content", message.get("value"))
    return Turn(role, _content(content, where), _learn(message, where))


def _content(content: Any, where: str) -> str:
    if isinstance(content, list | tuple):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            refuse("unsupported content", f"{where}.content", "has a part that is not text", "keep text parts only")
        return "".join(texts)
    return text_of(content, f"{where}.content")


def _learn(message: Mapping[str, Any], where: str) -> bool:
    for field in ("train", "weight"):
        value = message.get(field)
        if value is None:
            continue
        if value not in (0, 1):
            refuse("wrong type", f"{where}.{field} = {_short(value)}", "must be 0 or 1, false or true", f"mend {field}")
        return bool(value)
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
