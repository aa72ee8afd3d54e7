"""Lists of messages in the spellings of other tools, as turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.core.errors import nearest
from mnemos.core.nouns import AudioPart, Part, TextPart, Turn, frozen
from mnemos.sources.bad_row import refuse, short, text_of
from mnemos.sources.media import refuse_media, refuse_placeholder
from mnemos.sources.sound_parts import is_sound, sound_part, stretch_of
from mnemos.sources.tools import calls_of

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
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
"""Role names of the common tools and what they mean here."""


CALLS = frozenset({"function_call", "tool_call"})
"""Roles whose content is nothing but calls of tools, as JSON: LLaMA-Factory's and ms-swift's."""

LOSS = ("train", "training", "trainable", "loss", "weight", "loss_weight")
"""Fields by which files of other trainers exempt a message from the loss: OpenAI's and Mistral's weight, axolotl's
train and training, ms-swift's and XTuner's loss, LLaMA-Factory's loss_weight."""

FIELDS = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
"""Fields that go to the chat template as they are."""

REFUSED = ("train_detail", "training_detail", "refusal", "prefix")
"""Fields that change what is learned, and cannot be honoured."""


def conversation(value: Any, where: str) -> tuple[Turn, ...]:
    """Turns from a list of ``{role, content}`` or ``{from, value}``.

    A message with one of `LOSS` false or 0 is exempt from the loss. Content in parts is joined when all parts are
    text. Calls of tools, reasoning, names and ids go along as `Turn.fields`; what cannot be learned (pictures,
    weights between 0 and 1, spans of a message) is refused by name.
    """
    if not isinstance(value, list | tuple) or not value:
        refuse("wrong type", f"{where} = {short(value)}", "must be a list of messages", "see the row's format")
    return tuple(_turn(message, f"{where}[{number}]") for number, message in enumerate(value))


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, Mapping):
        refuse("wrong type", f"{where} = {short(message)}", "must be an object", 'write {"role": …, "content": …}')
    words = message.get("role", message.get("from"))
    if words is None:
        refuse("no role", f"{where} has {', '.join(message) or 'nothing'}", "needs role (or from)", "add role")
    role = ROLES.get(words.lower()) if isinstance(words, str) else None
    if role is None:
        refuse("unknown role", f"{where}: role = {words!r}", "is not known", nearest(str(words), ROLES))
    refuse_media(message, f"{where}.")
    for field in REFUSED:
        if message.get(field):
            refuse("unsupported field", f"{where}.{field}", "cannot be honoured here", "take it out, or the row")
    fields: dict[str, Any] = {
        name: text_of(message[name], f"{where}.{name}") for name in FIELDS if message.get(name) not in (None, "")
    }
    content = message.get("content", message.get("value"))
    alone = words.lower() in CALLS
    calls = _calls(message, content if alone else None, where)
    if calls:
        fields["tool_calls"] = calls
        content = "" if content is None or alone else content
    parts = _content(content, where)
    text = parts if isinstance(parts, str) else "".join(one.text for one in parts if isinstance(one, TextPart))
    if role == "user":
        refuse_placeholder(text, where)
    elif not isinstance(parts, str):
        refuse(
            "unsupported content", f"{where}: a sound in a turn of {role}", "is heard in a user's turn alone", "move it"
        )
    return Turn(role, parts, _learn(message, role, where), _frozen(fields, where))


def _calls(message: Mapping[str, Any], written: Any, where: str) -> list[dict[str, Any]]:
    """The message's calls. written: those that are all of its content."""
    given = {"function_call": message.get("function_call"), "tool_calls": message.get("tool_calls"), "value": written}
    text = {name: value for name, value in given.items() if value}
    if len(text) > 1:
        refuse("malformed tool call", f"{where}: {' and '.join(text)}", "both call tools", "keep one")
    return next((calls_of(value, f"{where}.{name}") for name, value in text.items()), [])


def _frozen(fields: Mapping[str, Any], where: str) -> Any:
    try:
        return frozen(fields)
    except (TypeError, ValueError, RecursionError) as error:
        refuse("wrong type", where, f"cannot be written as JSON ({error})", "use texts, numbers, lists and objects")


def _content(content: Any, where: str) -> str | tuple[Part, ...]:
    if isinstance(content, list | tuple):
        if any(is_sound(part) for part in content):
            return tuple(_part(part, f"{where}.content[{number}]") for number, part in enumerate(content))
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            refuse("unsupported content", f"{where}.content", "has a part that is not text", "keep text parts only")
        return "".join(texts)
    return text_of(content, f"{where}.content")


def _part(part: Any, where: str) -> Part:
    """A sound, or text, of a content that holds sounds."""
    if is_sound(part):
        return AudioPart(sound_part(part, None)["audio"], *stretch_of(part))
    text = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(text, str):
        refuse("unsupported content", where, "is neither text nor a sound", "keep these parts only")
    return TextPart(text)


def _learn(message: Mapping[str, Any], role: str, where: str) -> bool:
    """Whether the message counts in the loss: yes, unless a field says no. A weight of 1 says nothing new; that
    another message than an answer shall be learned is more than can be honoured, where only answers are."""
    found: dict[str, bool] = {}
    for field in LOSS:
        value = message.get(field)
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            refuse("wrong type", f"{where}.{field} = {short(value)}", "must be 0 or 1, false or true", f"mend {field}")
        found[field] = bool(value)
    if len(set(found.values())) > 1:
        refuse("two losses", f"{where}: {' and '.join(found)}", "say different things", "keep one of them")
    learn = next(iter(found.values()), True)
    asked = [field for field in found if not field.endswith("weight")]
    if learn and asked and role != "assistant":
        refuse(
            "loss on a prompt",
            f"{where}.{asked[0]} = true ({role})",
            "cannot be honoured: a study's `output_only` decides whether more than answers is learned",
            f"take {asked[0]} out of messages that are no answers",
        )
    return learn
