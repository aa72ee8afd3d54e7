"""What a study gives to its model's chat template: another template, variables, a system prompt.

They are written into the template itself, in front of it, in the template's own language:

    {%- if enable_thinking is not defined -%}{%- set enable_thinking = false -%}{%- endif -%}
    {%- if not messages or messages[0]['role'] != 'system' -%}
    {%- set messages = [{'role': 'system', 'content': "Be brief."}] + messages -%}{%- endif -%}

so that training, measuring, rows that the model writes and whoever uses the trained model (its template is saved with
it) render alike, and the template's hash tells it. What a row, an item or a caller says itself stands before it: a
system turn of its own, a variable of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Frozen, Turn, frozen, thawed
from mnemos.sources.chat_template import SETTINGS_END, Template
from mnemos.sources.tools import RESERVED

SETTINGS_BEGIN = "{#- settings of the study -#}"


@dataclass(frozen=True)
class ChatSettings:
    """template: the text of another chat template, in place of the model's; None keeps it. variables: of the template
    (`enable_thinking`), where nobody says otherwise. system: the system turn of chats that have none."""

    template: str | None = None
    variables: Frozen = ()
    system: str | None = None

    @classmethod
    def of(
        cls, template: str | None = None, variables: Mapping[str, Any] | None = None, system: str | None = None
    ) -> ChatSettings | None:
        """The settings, or None where there are none. UsageError for a variable that rendering needs itself, and
        for a system prompt without a word."""
        for name in variables or {}:
            if name in RESERVED or not name.isidentifier():
                raise UsageError(f"chat_template_kwargs.{name}", "is no variable of a template", "take it out")
        if system is not None and not system.strip():
            raise UsageError("system", "is empty", "write the system prompt, or leave it out")
        try:
            kept = frozen(dict(variables or {}))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"chat_template_kwargs = {variables}", f"cannot be written as JSON ({error})", "mend it"
            ) from None
        made = cls(template, kept, system)
        return made if made != cls() else None

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all of it."""
        return fingerprint([self.template, list(map(list, self.variables)), self.system])

    def apply(self, tokenizer: Any) -> Any:
        """The tokenizer with its chat template changed in place; the same when it is applied again.

        Raises UsageError where the template has no such variable, or leaves the system prompt out; ModelError where
        there is no template.
        """
        if self.template is not None:
            tokenizer.chat_template = self.template
        plain = Template(tokenizer, {})  # also tried before any of it is rendered here
        self._refuse_unknown(plain)
        front = self._front()
        if front:
            source = tokenizer.chat_template
            # Some tokenizers have several by name, one for chats with tools.
            named = isinstance(source, dict)
            given = source.items() if named else [("default", source)]
            made = {name: one if one.startswith(front) else _joined(front, one) for name, one in given}
            tokenizer.chat_template = made if named else made["default"]
        if self.system is not None:
            self._refuse_dropped(Template(tokenizer, {}), plain)
        return tokenizer

    def _front(self) -> str:
        lines = [
            f"{{%- if {name} is not defined -%}}{{%- set {name} = {literal(value)} -%}}{{%- endif -%}}"
            for name, value in thawed(self.variables).items()
        ]
        if self.system is not None:
            turn = f"{{'role': 'system', 'content': {literal(self.system)}}}"
            lines.append("{%- if not messages or messages[0]['role'] != 'system' -%}")
            lines.append(f"{{%- set messages = [{turn}] + (messages | list) -%}}{{%- endif -%}}")
        return "\n".join([SETTINGS_BEGIN, *lines, SETTINGS_END]) if lines else ""

    def _refuse_unknown(self, template: Template) -> None:
        for name in thawed(self.variables):
            if not template.knows(name):
                known = template.variables()
                raise UsageError(
                    f"chat_template_kwargs.{name}",
                    "is no variable of the model's chat template, which would ignore it",
                    nearest(name, known) if known else "the template has none: leave it out",
                )

    def _refuse_dropped(self, template: Template, plain: Template) -> None:
        turns = [Turn("user", "a")]
        words = (self.system or "").strip()
        try:
            kept = words in template.text(turns)
            bound = "is left out by the model's chat template"
        except DataError as error:
            plain.text(turns)  # where the template takes no chat at all, it is not about the system prompt
            kept, bound = False, f"is refused by the model's chat template ({error.bound})"
        if not kept:
            raise UsageError(
                "system",
                bound,
                "write it at the start of the first user turn of rows and items, or give a chat_template",
            )


def _joined(front: str, source: str) -> str:
    # A template that was given settings before gets these in front of it: the first to define a variable wins. The
    # line end behind a comment is swallowed, so one of the template's own needs another before it.
    return front + ("\n" if source[:1] == "\n" else "") + source


def literal(value: Any) -> str:
    """A JSON value in the language of templates."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return '"' + re.sub(r'["\\\n\r\t]', lambda met: _ESCAPED[met[0]], value) + '"'
    return repr(value)


_ESCAPED = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
