"""A tokenizer's chat template as a function from turns to text, and what it has no use for.

The date of today is pinned, the template is tried before it is used (`template_trial`), and whatever a row gives it
that it ignores is refused: tools, variables, calls, reasoning would be learned as if they were not there.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import REASONING, SAYING, Frozen, Turn, frozen, thawed
from mnemos.sources.encoding import Span
from mnemos.sources.template_trial import try_template

PINNED_DATE = datetime.date(2024, 7, 26)
"""Today, to templates that print the date, so that a run's tokens do not change overnight. It is the
date that the Llama 3 templates themselves fall back on."""

_DATED = re.compile(r"strftime_now\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")


SETTINGS_END = "{#- end of the settings of the study #}"
"""Stands between what a study gives to a template (`chat_settings`) and the template itself."""

PROBE_CALL = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": {"a": "told"}}}
"""A call by which templates are asked how they write one."""

WAYS_TO_CALL: tuple[tuple[str | None, bool], ...] = (("", False), (None, False), ("", True), (None, True))


class Template:
    """A tokenizer's chat template as a function from turns to text.

    source: the template, with a fixed date in place of today's. options: variables passed to it
    (``enable_thinking``, ``date_string`` …). row: those of one row (`Example.variables`), tools among them, for
    which some tokenizers have a template of its own.
    Raises ModelError when the tokenizer has no template, or one that `template_trial` refuses.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        row = dict(row or {})
        try:
            self.source = _with_fixed_date(tokenizer.get_chat_template(tools=row.get("tools")))
        except ValueError:
            raise ModelError(
                f"tokenizer {tokenizer.name_or_path!r}",
                "has no chat template, and the data are chats",
                "put the original's chat_template.jinja beside the weights (beside a GGUF file too), or give raw text "
                "(columns text, or prompt and completion)",
            ) from None
        self.row, self.options = row, {**options, **row}
        try_template(self.source, {**tokenizer.special_tokens_map, **options}, tokenizer.name_or_path)
        self._calls: tuple[str | None, bool] = WAYS_TO_CALL[0]
        if self.knows("tool_calls"):
            self._calls = self._way_to_call()

    def text(
        self,
        turns: Sequence[Turn],
        *,
        generation: bool = False,
        where: str = "the conversation",
        others: Mapping[str, Any] | None = None,
    ) -> str:
        """The rendered text, with the generation prompt if asked. others: variables in place of the template's own.
        Raises DataError when the template refuses."""
        messages = [self._message(turn) for turn in turns]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation,
                **{**self.options, **(others or {})},
            )
        except MemoryError:
            raise
        except Exception as error:  # whatever a template does is about the template
            text = f"{error}" if isinstance(error, ValueError) or "jinja2" in type(error).__module__ else repr(error)
            raise refused(turns, where, f"the chat template refuses it: {text}") from None
        return rendered

    def _message(self, turn: Turn) -> dict[str, Any]:
        message = turn.message()
        if "tool_calls" in message:
            empty, as_text = self._calls
            message["content"] = turn.text or empty
            for call in message["tool_calls"] if as_text else ():
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return message

    def _way_to_call(self) -> tuple[str | None, bool]:
        """How the template takes an answer that only calls tools: with an empty content, which is what servers hand
        on, or with none, for templates that look for calls only then; its arguments as an object, or (True) as JSON
        text, for templates that join it to other text (DeepSeek's). The first way that shows the call."""
        turns = [Turn("user", "a"), Turn("assistant", "", fields=frozen({"tool_calls": [PROBE_CALL]}))]
        for self._calls in WAYS_TO_CALL:
            try:
                text = self.text(turns)
            except DataError:
                continue
            if "probe" in text and "told" in text:
                return self._calls
        return WAYS_TO_CALL[0]

    def refuse_unused(self, turns: Sequence[Turn], where: str) -> None:
        """DataError where the template has no use for what the row gives it: tools, a variable, or a field in which
        a message says something. It would be learned, or asked, as if absent."""
        for i, turn in enumerate(turns):
            for name, _ in turn.fields:
                if name in SAYING and not self.knows(name):
                    raise unused(turns, i, name, where)
        for name in self.row:
            if name != "tools" and not self.knows(name):
                raise DataError(
                    f"{where}: chat_template_kwargs.{name}", "is no variable of the chat template", "take it out"
                )
        if "tools" in self.row and not self.shows_tools(turns, where):
            raise DataError(
                f"{where}: tools",
                "is ignored by the chat template, so they would be learned as if absent",
                "use a model whose template knows tools, write them into the system turn, or take such rows out",
            )

    def shows_tools(self, turns: Sequence[Turn], where: str) -> bool:
        """Whether the row's tools stand in the rendered text. Raises DataError when the template refuses the turns."""
        return self.text(turns, where=where) != self.text(turns, where=where, others={"tools": None})

    def knows(self, name: str) -> bool:
        """Whether the template reads a variable, or a field of messages, of this name at all."""
        # transformers hands reasoning to a template under every name that it has.
        names = REASONING if name in REASONING else (name,)
        # A system prompt in front of the template may hold any word.
        own = self.source.rpartition(SETTINGS_END)[2]
        return any(re.search(rf"\b{re.escape(one)}\b", own) for one in names)

    def variables(self) -> list[str]:
        """Names that the template reads beside the messages and what every caller gives, in order."""
        from jinja2 import Environment, TemplateError, meta

        try:
            tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(self.source)
        except TemplateError:
            return []  # transformers adds a block to the language
        given = {"messages", "add_generation_prompt", "tools", "documents", "raise_exception", "strftime_now"}
        return sorted(meta.find_undeclared_variables(tree) - given - set(self.tokenizer.special_tokens_map))

    def content(self, turns: Sequence[Turn], i: int, *, generation: bool = False, where: str = "") -> Span:
        """Where the content of turn `i` alone stands, found by putting a mark in its place."""
        text = self.text(turns, generation=generation, where=where)
        before, after = self.around(turns, i, generation, where, turns[i].fields)
        if not (text.startswith(before) and text.endswith(after) and len(before) + len(after) <= len(text)):
            raise lost(turns, i, where)
        return len(before), len(text) - len(after)

    def fields_spelling(
        self, text: str, turns: Sequence[Turn], tokens: Sequence[str], generation: bool, where: str
    ) -> list[Span]:
        """Where tools, and fields of messages, spell one of `tokens`: found by putting marks in their place."""
        marks = {token: f"\ue002{n}\ue003" for n, token in enumerate(tokens)}

        def marked(value: Any) -> Any:
            words = json.dumps(value, ensure_ascii=False)
            for token, mark in marks.items():
                words = words.replace(token, mark)
            return json.loads(words)

        others = [replace(turn, fields=frozen(marked(thawed(turn.fields)))) for turn in turns]
        found = self.text(others, generation=generation, where=where, others=marked(self.row))
        spans: list[Span] = []
        rest, at = found, 0
        while met := re.search("\ue002([0-9]+)\ue003", rest):
            token = tokens[int(met[1])]
            start = at + met.start()
            spans.append((start, start + len(token)))
            at, rest = start + len(token), rest[met.end() :]
        if any(text[start:end] not in tokens for start, end in spans):
            raise DataError(f"{where}: a tool or its call", "spells a special token", "spell it differently in the row")
        return spans

    def around(
        self, turns: Sequence[Turn], i: int, generation: bool, where: str, fields: Frozen = ()
    ) -> tuple[str, str]:
        """The text before and behind a mark in the place of the content of turn `i`, which keeps only `fields`."""
        marked = [*turns[:i], Turn(turns[i].role, mark(i), fields=fields), *turns[i + 1 :]]
        before, found, after = self.text(marked, generation=generation, where=where).partition(mark(i))
        if not found:
            raise lost(turns, i, where)
        return before, after


def _with_fixed_date(source: str) -> str:
    formats = {single or double for single, double in _DATED.findall(source)}
    if not formats:
        return source
    cases = "".join(f"{{% if f == {form!r} %}}{PINNED_DATE.strftime(form)}{{% endif %}}" for form in sorted(formats))
    # The line end after a block is swallowed, so one of the template's own needs another before it.
    return f"{{% macro strftime_now(f) %}}{cases}{{% endmacro %}}" + ("\n" if source[:1] == "\n" else "") + source


def mark(i: int) -> str:
    """What stands for the content of turn `i` while a template is asked."""
    # Private-use characters: no template trims, splits or matches them.
    return f"\ue000{i}\ue001"


def refused(turns: Sequence[Turn], where: str, bound: str, dropped: str = "system") -> DataError:
    """The error for a conversation that the template does not take. dropped: the role that it leaves out."""
    roles = ", ".join(turn.role for turn in turns)
    cure = "put the roles in the order that this model's template expects"
    if dropped != "system":
        cure = f"use a model whose template has a {dropped} role here, or put the text into another turn"
    elif any(turn.role == "system" for turn in turns):
        cure = (
            "put the system text at the start of the first user turn, or use a model whose template has a system role"
        )
    return DataError(f"{where} (roles: {roles})", bound, cure)


def unused(turns: Sequence[Turn], i: int, name: str, where: str) -> DataError:
    """The error for a field that the template leaves out."""
    return DataError(
        f"{where}, turn {i + 1} ({turns[i].role}): {name}",
        "is dropped by the chat template, so it would be learned as if absent",
        "use a model whose template knows it, or write it into the content as this model's own answers have it",
    )


def lost(turns: Sequence[Turn], i: int, where: str) -> DataError:
    """The error for a turn that cannot be told from the text of the template."""
    return DataError(
        f"{where}, turn {i + 1} ({turns[i].role})",
        "the chat template drops or rewrites its content, so its tokens cannot be told from the template's own",
        "look at tokenizer.apply_chat_template(..., tokenize=False) of this row, and mend the row or the template",
    )
