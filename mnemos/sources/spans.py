"""Where each turn sits in the text that a chat template renders.

Nothing is searched for in decoded text. A template is asked: rendered once with a mark in place
of every content, it shows the pieces that it writes between contents; rendered up to a turn with
the generation prompt, it shows what the model is given before it writes that turn. A conversation
is then read as piece, content, piece, content, …, and the reading must reproduce the rendered
text to the last character. Where a template looks into a content (Qwen3 drops earlier thinking),
one turn at a time is replaced by a mark instead and the text before and after it compared.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Turn
from mnemos.sources.template_trial import try_template

PINNED_DATE = datetime.date(2024, 7, 26)
"""Today, to templates that print the date, so that a run's tokens do not change overnight. It is the
date that the Llama 3 templates themselves fall back on."""

_DATED = re.compile(r"strftime_now\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")

Span = tuple[int, int]
"""Characters [start, end) of the rendered text."""


@dataclass(frozen=True)
class Located:
    """A rendered conversation. written[i]: what the model writes of assistant turn i in use, from
    the end of the generation prompt to the end of the content; the end-of-turn token follows it.
    own[i]: up to where the text after it belongs to the turn itself, whatever comes next."""

    text: str
    written: Mapping[int, Span]
    own: Mapping[int, int]


@dataclass(frozen=True)
class Skeleton:
    """What a template writes around contents, for one sequence of roles.

    order: turns in the order in which their contents appear. pieces: the text before the first
    content, between contents, and after the last (one more than turns). lead: per assistant turn,
    how many characters of the piece before it are not part of the generation prompt.
    """

    order: tuple[int, ...]
    pieces: tuple[str, ...]
    lead: Mapping[int, int]


class Template:
    """A tokenizer's chat template as a function from turns to text.

    source: the template, with a fixed date in place of today's. options: variables passed to it
    (``enable_thinking``, ``date_string`` …).
    Raises ModelError when the tokenizer has no template, or one that `template_trial` refuses.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        try:
            self.source = _with_fixed_date(tokenizer.get_chat_template())
        except ValueError:
            raise ModelError(
                f"tokenizer {tokenizer.name_or_path!r}",
                "has no chat template, and the data are chats",
                "set tokenizer.chat_template and save it with the model, or give raw text "
                "(columns text, or prompt and completion)",
            ) from None
        self.options: dict[str, Any] = dict(options)
        try_template(self.source, {**tokenizer.special_tokens_map, **self.options}, tokenizer.name_or_path)
        self._skeletons: dict[tuple[str, ...], Skeleton | None] = {}

    def text(self, turns: Sequence[Turn], *, generation: bool = False, where: str = "the conversation") -> str:
        """The rendered text, with the generation prompt if asked. Raises DataError when the template refuses."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                messages,
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation,
                **self.options,
            )
        except MemoryError:
            raise
        except Exception as error:  # whatever a template does is about the template
            said = f"{error}" if isinstance(error, ValueError) or "jinja2" in type(error).__module__ else repr(error)
            raise _refused(turns, where, f"the chat template refuses it: {said}") from None
        return rendered

    def locate(self, turns: Sequence[Turn], where: str) -> Located:
        """Render `turns` and find what the model writes of each assistant turn. Raises DataError
        where a turn is dropped or cannot be told from the template's own text."""
        text = self.text(turns, where=where)
        roles = tuple(turn.role for turn in turns)
        skeleton = self._skeleton(roles, turns, where)
        contents = _align(text, turns, skeleton) if skeleton else None
        written, own = {}, {}
        for i, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            if skeleton and contents:
                written[i] = (contents[i][0] - skeleton.lead[i], contents[i][1])
            else:
                written[i] = self._locate_one(text, turns, i, skeleton, where)
            end = written[i][1]
            own[i] = end + _same(text[end:], self._ending(roles[: i + 1])) if i + 1 < len(roles) else len(text)
        return Located(text, written, own)

    def _ending(self, roles: tuple[str, ...]) -> str:
        """What the template writes after the last turn of a conversation."""
        try:
            skeleton = self._skeleton(roles, [Turn(role, "") for role in roles], "")
        except DataError:
            return ""
        return skeleton.pieces[-1] if skeleton and skeleton.order[-1] == len(roles) - 1 else ""

    def content(self, turns: Sequence[Turn], i: int, *, generation: bool = False, where: str = "") -> Span:
        """Where the content of turn `i` alone stands, found by putting a mark in its place."""
        text = self.text(turns, generation=generation, where=where)
        before, after = self._around(turns, i, generation, where)
        if not (text.startswith(before) and text.endswith(after) and len(before) + len(after) <= len(text)):
            raise _lost(turns, i, where)
        return len(before), len(text) - len(after)

    def _around(self, turns: Sequence[Turn], i: int, generation: bool, where: str) -> tuple[str, str]:
        marked = [*turns[:i], Turn(turns[i].role, _mark(i)), *turns[i + 1 :]]
        before, found, after = self.text(marked, generation=generation, where=where).partition(_mark(i))
        if not found:
            raise _lost(turns, i, where)
        return before, after

    def _locate_one(self, text: str, turns: Sequence[Turn], i: int, skeleton: Skeleton | None, where: str) -> Span:
        before, after = self._around(turns, i, False, where)
        end = len(text) - len(after)
        given = self._given(turns[:i])
        if given is not None and text.startswith(given):
            start = len(given)
        elif text.startswith(before):
            start = len(before) - (skeleton.lead[i] if skeleton else 0)
        else:
            raise _lost(turns, i, where)
        if not text.endswith(after) or start > end:
            raise _lost(turns, i, where)
        return start, end

    def _given(self, turns: Sequence[Turn]) -> str | None:
        """The prompt before an assistant turn; None where the template cannot be asked for it."""
        if not turns:
            return None
        try:
            return self.text(turns, generation=True)
        except DataError:
            return None

    def _skeleton(self, roles: tuple[str, ...], turns: Sequence[Turn], where: str) -> Skeleton | None:
        if roles not in self._skeletons:
            self._skeletons[roles] = self._new_skeleton(roles, turns, where)
        return self._skeletons[roles]

    def _new_skeleton(self, roles: tuple[str, ...], turns: Sequence[Turn], where: str) -> Skeleton | None:
        marked = [Turn(role, _mark(i)) for i, role in enumerate(roles)]
        text = self.text(marked, where=where)
        found = {i: text.find(_mark(i)) for i in range(len(roles))}
        for i, at in found.items():
            if at < 0 and roles[i] == "system":
                raise _refused(turns, where, "the chat template drops the system turn")
        if any(at < 0 or text.count(_mark(i)) != 1 for i, at in found.items()):
            return None
        order = sorted(found, key=lambda i: found[i])
        pieces, at = [], 0
        for i in order:
            pieces.append(text[at : found[i]])
            at = found[i] + len(_mark(i))
        pieces.append(text[at:])
        lead = {}
        for place, i in enumerate(order):
            if roles[i] == "assistant":
                previous = _mark(order[place - 1]) if place else ""
                lead[i] = self._lead(marked[:i], pieces[place], previous)
        return Skeleton(tuple(order), tuple(pieces), lead)

    def _lead(self, before: Sequence[Turn], piece: str, previous: str) -> int:
        """Characters at the end of `piece` that the generation prompt does not give."""
        given = self._given(before)
        if given is None or not previous or previous not in given:
            return 0
        prompt = given.rpartition(previous)[2]
        return len(piece) - _same(piece, prompt)


def _same(a: str, b: str) -> int:
    """How many first characters are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _with_fixed_date(source: str) -> str:
    formats = {single or double for single, double in _DATED.findall(source)}
    if not formats:
        return source
    cases = "".join(f"{{% if f == {form!r} %}}{PINNED_DATE.strftime(form)}{{% endif %}}" for form in sorted(formats))
    # The line end after a block is swallowed, so one of the template's own needs another before it.
    return f"{{% macro strftime_now(f) %}}{cases}{{% endmacro %}}" + ("\n" if source[:1] == "\n" else "") + source


def _mark(i: int) -> str:
    # Private-use characters: no template trims, splits or matches them.
    return f"\ue000{i}\ue001"


def _align(text: str, turns: Sequence[Turn], skeleton: Skeleton) -> dict[int, Span] | None:
    """Read `text` as piece, content, piece, … with each content as given or trimmed; None if it is not."""
    at = len(skeleton.pieces[0])
    if not text.startswith(skeleton.pieces[0]):
        return None
    spans: dict[int, Span] = {}
    for i, piece in zip(skeleton.order, skeleton.pieces[1:], strict=True):
        content = turns[i].content
        last = len(spans) == len(turns) - 1
        for form in (content, content.strip(), content.lstrip(), content.rstrip()):
            end = at + len(form)
            if text.startswith(form + piece, at) and (not last or end + len(piece) == len(text)):
                spans[i] = (at, end)
                at = end + len(piece)
                break
        else:
            return None
    return spans


def _refused(turns: Sequence[Turn], where: str, said: str) -> DataError:
    roles = ", ".join(turn.role for turn in turns)
    cure = "put the roles in the order that this model's template expects"
    if any(turn.role == "system" for turn in turns):
        cure = (
            "put the system text at the start of the first user turn, or use a model whose template has a system role"
        )
    return DataError(f"{where} (roles: {roles})", said, cure)


def _lost(turns: Sequence[Turn], i: int, where: str) -> DataError:
    return DataError(
        f"{where}, turn {i + 1} ({turns[i].role})",
        "the chat template drops or rewrites its content, so its tokens cannot be told from the template's own",
        "look at tokenizer.apply_chat_template(..., tokenize=False) of this row, and mend the row or the template",
    )
