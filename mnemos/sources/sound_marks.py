"""Sounds within a conversation: words and ids that stand for each, put where a chat template puts the turn.

A sound meets no tokenizer. In its place stands a mark that no text of the conversation holds; the template is rendered,
the text is cut around the mark, and the sound's ids take its place. So no tokenizer can split it, and nothing is
searched for in decoded text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mnemos.core.errors import DataError
from mnemos.core.nouns import AudioPart, TextPart, Tokens, Turn
from mnemos.sources.encoding import Encoded, Span

FIRST_SOUND = 1 << 62
"""Token ids from here on stand for sounds (`models.speech.spelling`); no vocabulary comes near."""


@dataclass(frozen=True)
class SpelledSound:
    """What stands for a sound. ids: from FIRST_SOUND on; none where its words alone do. before, behind: words around
    the ids."""

    ids: tuple[int, ...] = ()
    before: str = ""
    behind: str = ""


Hear = Callable[[AudioPart], SpelledSound]
"""What a model reads for a sound; raises RowError for one that cannot be spelled."""


@dataclass(frozen=True)
class Placed:
    """A conversation whose sounds are marks. marks, spelled: of each sound that has ids, in their order."""

    turns: tuple[Turn, ...]
    marks: tuple[str, ...] = ()
    spelled: tuple[SpelledSound, ...] = ()

    def spans(self, text: str, where: str) -> list[Span]:
        """Where the marks are in a rendered text. DataError where the template has left one out or doubled it."""
        counts = [text.count(mark) for mark in self.marks]
        if any(count != 1 for count in counts):
            raise DataError(
                f"{where}: {len(self.marks)} sounds",
                f"the chat template has places for {sum(counts)} of them",
                "give each sound in a user's turn of a conversation whose roles the template knows",
            )
        starts = [text.index(mark) for mark in self.marks]
        return [(start, start + len(mark)) for start, mark in zip(starts, self.marks, strict=True)]


def placed(turns: Sequence[Turn], hear: Hear) -> Placed:
    """The turns with words and marks in place of sounds."""
    texts = "\0".join(turn.text for turn in turns)
    number = 0
    while f"[[sound {number}." in texts:  # a text may quote a mark, but not all of them
        number += 1
    out: list[Turn] = []
    marks: list[str] = []
    found: list[SpelledSound] = []
    for turn in turns:
        if not turn.sounds:
            out.append(turn)
            continue
        words = []
        for part in turn.content:
            if isinstance(part, TextPart):
                words.append(part.text)
                continue
            assert isinstance(part, AudioPart)
            spelled = hear(part)
            mark = f"[[sound {number}.{len(marks)}]]" if spelled.ids else ""
            if spelled.ids:
                marks.append(mark)
                found.append(spelled)
            words.append(f"{spelled.before}{mark}{spelled.behind}")
        out.append(replace(turn, content="".join(words)))
    return Placed(tuple(out), tuple(marks), tuple(found))


def around(plain: Sequence[Span], marks: Sequence[Span]) -> list[Span]:
    """Spans without what lies within the marks, and the marks themselves."""
    out: list[Span] = list(marks)
    for start, end in plain:
        for first, last in sorted(marks):
            if start <= first and last <= end:
                out.append((start, first))
                start = last
        out.append((start, end))
    return sorted(out)


def folded(encoded: Encoded, marks: Sequence[Span]) -> Encoded:
    """Each mark's tokens as one id: -1 for the first mark, -2 for the second, ..."""
    ids: list[int] = []
    spans: list[Span] = []
    numbers = {start: (-1 - number, end) for number, (start, end) in enumerate(marks)}
    until = -1
    for token, (start, end) in zip(*encoded, strict=True):
        if start < until:
            continue
        if start in numbers and end > start:
            number, until = numbers[start]
            ids.append(number)
            spans.append((start, until))
            continue
        ids.append(token)
        spans.append((start, end))
    return ids, spans


def as_array(ids: Sequence[int]) -> Any:
    """int32[T], or int64[T] where some ids stand for sounds."""
    return np.array(ids, np.int64 if any(token >= FIRST_SOUND for token in ids) else np.int32)


def unfolded(ids: Sequence[int], spelled: Sequence[SpelledSound]) -> list[int]:
    """Ids with each sound's own in place of its one."""
    out: list[int] = []
    for token in ids:
        out += spelled[-1 - token].ids if token < 0 else (token,)
    return out


def unfolded_tokens(tokens: Tokens, spelled: Sequence[SpelledSound]) -> Tokens:
    """Tokens with each sound's ids in place of its one; nothing is learned of them, and no model writes them."""
    if not spelled:
        return tokens
    counts = [len(spelled[-1 - int(token)].ids) if token < 0 else 1 for token in tokens.ids]
    sound = np.repeat(tokens.ids < 0, counts)
    ids = np.array(unfolded([int(token) for token in tokens.ids], spelled), np.int64)
    weight = np.where(sound, np.float32(0), np.repeat(tokens.weight, counts))
    return replace(tokens, ids=ids, weight=weight, output=np.repeat(tokens.output, counts) & ~sound)
