"""Markdown fences in what a model wrote: ``` and ~~~, with attributes, indented, unclosed, with any line end.

Read line by line as CommonMark reads them (0.31, section 4.5), so in time proportional to the text; other than
there, a fence may be indented by any width (it stands in lists), which is taken off its contents.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_LINE = re.compile(r"\r\n?|\n")
# indent, mark, info string
_OPENS = re.compile(r"([ \t]*)(`{3,}|~{3,})([^\n]*)\Z")
_NAME = re.compile(r"[\s{.,:=]*([\w+#-]*)")


@dataclass(frozen=True)
class Fence:
    """language: the first word behind the opening, in lower case; empty where there is none."""

    language: str
    content: str


def fences(text: str) -> list[Fence]:
    """Every fence in the text, in order; one that is not closed goes to the end."""
    return _split(text)[0]


def alone(text: str) -> str | None:
    """The contents where the whole text is one fence; None otherwise."""
    found, outside = _split(text)
    return found[0].content if len(found) == 1 and not outside else None


def before(text: str) -> str:
    """What stands before the first fence; all of the text where there is none."""
    kept: list[str] = []
    for line in _LINE.split(text):
        if _opening(line) is not None:
            break
        kept.append(line)
    return "\n".join(kept)


def ranked(text: str, languages: Collection[str]) -> list[str]:
    """The contents of the fences, those that may be meant first: of one of `languages`, then of none, then of
    another; in the order of the text among equals."""
    found = fences(text)
    ranks = [0 if fence.language in languages else 1 if not fence.language else 2 for fence in found]
    return [found[i].content for i in sorted(range(len(found)), key=lambda i: ranks[i])]


def _split(text: str) -> tuple[list[Fence], bool]:
    """The fences, and whether anything but white space stands outside them."""
    found: list[Fence] = []
    outside = False
    opened: re.Match[str] | None = None
    content: list[str] = []
    for line in _LINE.split(text):
        if opened is None:
            opened = _opening(line)
            outside |= opened is None and bool(line.strip())
        elif _closes(line, opened[2]):
            found.append(_fence(opened, content))
            opened, content = None, []
        else:
            content.append(line)
    if opened is not None:
        found.append(_fence(opened, content))
    return found, outside


def _opening(line: str) -> re.Match[str] | None:
    found = _OPENS.match(line)
    # Backticks behind backticks are code within a line.
    return None if found is None or (found[2][0] == "`" and "`" in found[3]) else found


def _closes(line: str, mark: str) -> bool:
    bare = line.strip()
    # At least as many marks close it, so that a fence of four may hold one of three.
    return len(bare) >= len(mark) and not bare.strip(mark[0])


def _fence(opened: re.Match[str], content: list[str]) -> Fence:
    width = len(opened[1])
    # A line that is indented less than its fence keeps its first letters.
    lines = [line[min(width, len(line) - len(line.lstrip(" \t"))) :] for line in content]
    name = _NAME.match(opened[3])
    return Fence(name[1].lower() if name else "", "\n".join(lines))
