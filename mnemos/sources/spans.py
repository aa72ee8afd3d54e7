"""Where each turn sits in the text that a chat template renders.

Nothing is searched for in decoded text. A template is asked: rendered once with a mark in place
of every content, it shows the pieces that it writes between contents; rendered up to a turn with
the generation prompt, it shows what the model is given before it writes that turn. A conversation
is then read as piece, content, piece, content, …, and the reading must reproduce the rendered
text to the last character. A turn that calls tools, or has its reasoning in a field of its own, stays as it is in
the pieces; what the template makes of it lies between the generation prompt and what follows the turn. Where a
template looks into a content (Qwen3 drops earlier thinking), one turn at a time is replaced by a mark instead and
the text before and after it compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mnemos.core.errors import DataError
from mnemos.core.nouns import REASONING, Turn, thawed
from mnemos.sources.chat_template import Template, lost, mark, refused, unused
from mnemos.sources.encoding import Span

MOST_SKELETONS = 1000
"""Kept of a template: one for each sequence of roles, and for each conversation that calls tools."""

_OPENING = re.compile(r"\s*(<[^<>\s]+>)\s*")
_SHORT = (Turn("user", ""), Turn("assistant", ""))


@dataclass(frozen=True)
class Located:
    """A rendered conversation. written[i]: what the model writes of assistant turn i in use, from
    the end of the generation prompt to the end of the content; the end-of-turn token follows it.
    own[i]: up to where the text after it belongs to the turn itself, whatever comes next. contents: where each plain
    turn's content stands; None where the template changed one. rewritten: assistant turns of which the template
    left out, or changed, more than white space."""

    text: str
    written: Mapping[int, Span]
    own: Mapping[int, int]
    contents: Mapping[int, Span] | None
    rewritten: tuple[int, ...] = ()


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


class Spans:
    """Finds the turns in what one template renders; keeps what it learned of the template."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._skeletons: dict[tuple[Turn, ...], Skeleton | None] = {}
        self._last: tuple[tuple[Turn, ...], Located] | None = None

    def locate(self, turns: Sequence[Turn], where: str) -> Located:
        """Render `turns` and find what the model writes of each assistant turn. Raises DataError
        where a turn is dropped or cannot be told from the template's own text."""
        if self._last is None or self._last[0] != tuple(turns):
            self._last = tuple(turns), self._locate(turns, where)
        return self._last[1]

    def _locate(self, turns: Sequence[Turn], where: str) -> Located:
        self.template.refuse_unused(turns, where)
        text = self.template.text(turns, where=where)
        skeleton = self._skeleton(turns, where)
        contents = _align(text, turns, skeleton) if skeleton else None
        written, own = {}, {}
        for i, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            if skeleton and contents and i in contents:
                # What the template puts between its generation prompt and the content, the model writes too.
                written[i] = (contents[i][0] - skeleton.lead[i], contents[i][1])
            else:
                calls = None if turn.is_plain else self._locate_calls(text, turns, i, contents)
                written[i] = calls or self._locate_one(text, turns, i, skeleton, where)
                self._refuse_dropped(text[slice(*written[i])], turns, i, where)
            end = written[i][1]
            # What follows is the turn's own as far as a conversation that ends here would have it too.
            own[i] = end + _same(text[end:], self._ending(turns[: i + 1])) if i + 1 < len(turns) else len(text)
        changed = (i for i, span in written.items() if i not in (contents or ()))
        rewritten = tuple(i for i in changed if not _is_whole(turns[i], text, *written[i]))
        return Located(text, written, own, contents, rewritten)

    def in_use(self, turns: Sequence[Turn], where: str) -> Located:
        """The last turn as the model would have to write it: behind the generation prompt, its content whole, and what
        ends a turn; `own` and `written` of that turn alone. A tag that the generation prompt opens already (`<think>`)
        is not written again. Raises DataError where the template cannot be asked, and for reasoning outside the
        content, which only the template knows how to write."""
        i, last = len(turns) - 1, turns[-1]
        given = self._given(turns[:-1])
        if given is None or not last.is_plain:
            raise lost(turns, i, where)
        # The generation prompt may open a thought already; opening it twice is what no model writes in use.
        content = _behind(given, last.text)
        text = given + content + self._ending(turns)
        return Located(text, {i: (len(given), len(given) + len(content))}, {i: len(text)}, None)

    def _refuse_dropped(self, written: str, turns: Sequence[Turn], i: int, where: str) -> None:
        """DataError where a call of a tool is not in what the template makes of its turn."""
        for call in thawed(turns[i].fields).get("tool_calls", ()):
            if call["function"]["name"] not in written:
                raise unused(turns, i, "tool_calls", where)

    def _ending(self, turns: Sequence[Turn]) -> str:
        """What the template writes after the last turn of a conversation, were it plain text."""
        try:
            skeleton = self._skeleton([*turns[:-1], Turn(turns[-1].role, "")], "")
        except DataError:
            return ""
        return skeleton.pieces[-1] if skeleton and skeleton.order[-1:] == (len(turns) - 1,) else ""

    def _locate_one(self, text: str, turns: Sequence[Turn], i: int, skeleton: Skeleton | None, where: str) -> Span:
        fields = turns[i].fields if turns[i].is_plain else ()
        before, after = self.template.around(turns, i, False, where, fields)
        end = len(text) - len(after)
        given = self._given(turns[:i])
        if given is not None and text.startswith(given):
            start = len(given)
        elif text.startswith(before):
            start = len(before) - (skeleton.lead.get(i, 0) if skeleton else 0)
        elif given is not None and _squeezed(turns[i].text).endswith(_squeezed(text[_same(text, given) : end])):
            start = _same(text, given)  # the prompt in use closes a thought that this answer has
        else:
            raise lost(turns, i, where)
        if not text.endswith(after) or start > end:
            raise lost(turns, i, where)
        return start, end

    def _locate_calls(self, text: str, turns: Sequence[Turn], i: int, found: Mapping[int, Span] | None) -> Span | None:
        """Where a turn stands that calls tools or has its reasoning in a field of its own: behind what the generation
        prompt, and before what the end of the turn, writes after the last content before it. None where the turn
        comes out otherwise when others follow it, its reasoning aside. found: where the contents of plain turns
        stand."""
        if found is None:
            return None
        marked = self._marked(turns)
        last = max((k for k in found if k < i), key=lambda k: found[k], default=None)
        known, at = ("", 0) if last is None else (mark(last), found[last][1])
        # Some templates show the reasoning of the last turn only, so once with it and once without.
        bare = replace(turns[i], fields=tuple(one for one in turns[i].fields if one[0] not in REASONING))
        for form in (turns[i], bare):
            try:
                prompt = self.template.text(marked[:i], generation=True)
                whole = self.template.text((*marked[:i], form))
            except DataError:
                continue
            if known not in prompt or known not in whole:
                continue
            prompt, whole = (one.rpartition(known)[2] if known else one for one in (prompt, whole))
            # Behind a thought that the generation prompt opens, and this turn has not, both differ.
            start, end = at + _same(text[at:], prompt), at + len(whole) - self._length_of_stop(turns[:i], whole)
            if text[at:end] == whole[: end - at] and start <= end:
                return start, end
        return None

    def _length_of_stop(self, before: Sequence[Turn], text: str) -> int:
        """Characters at the end of a conversation that end its last turn: those that end a plain answer too, or else a
        special token (Llama 3.1 ends calls with <|eom_id|>)."""
        ending = self._ending([*before, Turn("assistant", "")]) or self._ending(_SHORT)
        if text.endswith(ending):
            return len(ending)
        stop = self._stop.search(text)
        return len(text) - stop.start() if stop else len(text) - len(text.rstrip())

    @cached_property
    def _stop(self) -> re.Pattern[str]:
        """A special token at the end of a text."""
        special = [
            one.content for one in self.template.tokenizer.added_tokens_decoder.values() if one.special and one.content
        ]
        return re.compile(rf"(?:{'|'.join(map(re.escape, special)) or '(?!)'})\s*\Z")

    def _given(self, turns: Sequence[Turn]) -> str | None:
        """The prompt before an assistant turn; None where the template cannot be asked for it."""
        if not turns:
            return None
        try:
            return self.template.text(turns, generation=True)
        except DataError:
            return None

    def _marked(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns with a mark in the place of each content that is all of its turn."""
        return tuple(
            Turn(turn.role, mark(i), fields=turn.fields) if turn.is_plain else turn for i, turn in enumerate(turns)
        )

    def _skeleton(self, turns: Sequence[Turn], where: str) -> Skeleton | None:
        marked = self._marked(turns)
        if marked not in self._skeletons:
            if len(self._skeletons) >= MOST_SKELETONS:
                # All at once: each is made again from the template when it is next asked for.
                self._skeletons.clear()
            self._skeletons[marked] = self._new_skeleton(marked, where)
        return self._skeletons[marked]

    def _new_skeleton(self, marked: tuple[Turn, ...], where: str) -> Skeleton | None:
        text = self.template.text(marked, where=where)
        roles = [turn.role for turn in marked]
        found = {i: text.find(mark(i)) for i, turn in enumerate(marked) if turn.is_plain}
        for i, at in found.items():
            if at < 0 and roles[i] != "assistant":
                raise refused(marked, where, f"the chat template drops the {roles[i]} turn", dropped=roles[i])
        # The template changes or repeats contents: turns are then replaced one at a time.
        if any(at < 0 or text.count(mark(i)) != 1 for i, at in found.items()):
            return None
        order = sorted(found, key=lambda i: found[i])
        pieces, at = [], 0
        for i in order:
            pieces.append(text[at : found[i]])
            at = found[i] + len(mark(i))
        pieces.append(text[at:])
        lead = {}
        for place, i in enumerate(order):
            if roles[i] == "assistant":
                previous = mark(order[place - 1]) if place else ""
                lead[i] = self._lead(marked[:i], pieces[place], previous)
        return Skeleton(tuple(order), tuple(pieces), lead)

    def _lead(self, before: Sequence[Turn], piece: str, previous: str) -> int:
        """Characters at the end of `piece` that the generation prompt does not give."""
        given = self._given(before)
        if given is None or previous not in given:
            return 0
        prompt = given.rpartition(previous)[2] if previous else given
        return len(piece) - _same(piece, prompt)


def _is_whole(turn: Turn, text: str, start: int, end: int) -> bool:
    """Whether all that the turn says, but for white space, stands in what the template writes of it, text[start:end]:
    the content at its end, unless calls follow, and reasoning before it."""
    found = _squeezed(text[start:end])
    fields = thawed(turn.fields)
    reasoning = next((fields[name] for name in REASONING if fields.get(name)), "")
    words = [_squeezed(one) for one in (reasoning, _behind(text[:start], turn.text))]
    if "tool_calls" not in fields and not found.endswith(words[1]):
        return False
    return all(one in found for one in words)


def _behind(given: str, content: str) -> str:
    """The content without the tag that it begins with, where the text before it ends with the same (`<think>`)."""
    opened = _OPENING.match(content)
    return content[opened.end() :] if opened and given.rstrip().endswith(opened[1]) else content


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _same(a: str, b: str) -> int:
    """How many first characters are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _align(text: str, turns: Sequence[Turn], skeleton: Skeleton) -> dict[int, Span] | None:
    """Read `text` as piece, content, piece, … with each content as given or trimmed; None if it is not."""
    at = len(skeleton.pieces[0])
    if not text.startswith(skeleton.pieces[0]):
        return None
    spans: dict[int, Span] = {}
    for i, piece in zip(skeleton.order, skeleton.pieces[1:], strict=True):
        content = turns[i].text
        # The last piece must reach the end: a content that repeats the template's own text ends too early else.
        last = len(spans) == len(skeleton.order) - 1
        # As given before trimmed, so that white space which the template keeps is part of the content.
        for form in (content, content.strip(), content.lstrip(), content.rstrip()):
            end = at + len(form)
            if text.startswith(form + piece, at) and (not last or end + len(piece) == len(text)):
                spans[i] = (at, end)
                at = end + len(piece)
                break
        else:
            return None
    return spans
