"""YAML 1.2 in and out: the one reader of studies, suites, recipes, settings and --set.

Values follow the core schema (see `core.scalars`); keys are always text. What would be misread in silence
is refused with its line: a key written twice, a second document, a tag, an alias that multiplies.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.representer import SafeRepresenter

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.scalars import WrittenFloat, WrittenInt, core_schema

MOST_BYTES = 10_000_000
"""Size of a YAML file at most; more rows belong into a .jsonl file, which is read a hundred times faster."""

MOST_VALUES = 200_000
"""Keys and values of a YAML text at most: it takes some seconds to read so many."""

MOST_DEEP = 64
"""Levels of nesting at most."""

MOST_ALIASED = 100_000
"""Values that aliases may repeat altogether: nine lines of aliases of aliases would be a billion."""

IN_JSONL = "keep rows and items in a .jsonl file"
STR = "tag:yaml.org,2002:str"
BREAKS = "\x85\u2028\u2029\ufeff"
"""Line ends of YAML 1.1 alone."""

OLD_YAML = re.compile(r"(?i:y|n|yes|no|on|off|[-+]?[0-9][0-9_:.]*)")
"""Texts that YAML 1.1 reads as booleans or numbers."""

_MERGE = object()
_NO_KEY = object()


@dataclass
class _Open:
    """A list or mapping that is being read."""

    value: list[Any] | dict[str, Any]
    line: int
    anchor: str | None
    key: Any = _NO_KEY
    lines: dict[str, int] = field(default_factory=dict)
    merged: list[Any] = field(default_factory=list)


class _Reader:
    """Builds values from the parser's events with a stack of its own, so that depth is bounded here."""

    def __init__(self, where: str, refuse: type[MnemosError]) -> None:
        self.where, self.refuse = where, refuse
        self.stack: list[_Open] = []
        self.anchors: dict[str, Any] = {}
        self.aliased, self.values = 0, 0
        self.done: list[Any] = []

    def error(self, line: int | None, bound: str, cure: str) -> MnemosError:
        place = self.where if line is None else f"{self.where}:{line + 1}"
        return self.refuse(place, bound, cure)

    def take(self, event: Any) -> None:
        line = event.start_mark.line
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.error(line, f"is the end of {MOST_VALUES:,} values, the most there may be", IN_JSONL)
        if isinstance(event, DocumentStartEvent):
            self._start_document(event, line)
        elif isinstance(event, ScalarEvent):
            value = self._scalar(event, line)
            if event.anchor:
                self.anchors[event.anchor] = value
            self._put(value, line, is_key_text=event.value, plain=bool(event.implicit[0]))
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._open(event, line)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._close()
        elif isinstance(event, AliasEvent):
            self._put(self._alias(event.anchor, line), line)

    def _start_document(self, event: Any, line: int) -> None:
        if self.done:
            raise self.error(line, "is a second document", "leave one: no line of --- between parts")
        version = getattr(event, "version", None)
        if version is not None and tuple(version) != (1, 2):
            raise self.error(line, "asks for another YAML than 1.2", "leave the %YAML line out")

    def _scalar(self, event: Any, line: int) -> Any:
        tag = None if event.tag is None else str(event.tag)
        if tag not in (None, STR, "!"):
            raise self.error(line, f"has the tag {tag}", "write the value without a tag; quotes make it a text")
        if any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise self.error(line, "holds half a surrogate pair", "write the whole letter")
        return core_schema(event.value) if tag is None and event.implicit[0] else event.value

    def _open(self, event: Any, line: int) -> None:
        if event.tag is not None and str(event.tag) not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self.error(line, f"has the tag {event.tag}", "write the value without a tag")
        if len(self.stack) >= MOST_DEEP:
            raise self.error(line, f"is nested deeper than {MOST_DEEP} levels", "write it flatter")
        self._refuse_as_key(line)
        value: Any = {} if isinstance(event, MappingStartEvent) else []
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append(_Open(value, line, event.anchor))

    def _close(self) -> None:
        top = self.stack.pop()
        if isinstance(top.value, dict):
            for other in top.merged:
                for key, value in other.items():
                    top.value.setdefault(key, value)
        if top.anchor:
            self.anchors[top.anchor] = top.value
        self._put(top.value, top.line)

    def _put(self, value: Any, line: int, *, is_key_text: str | None = None, plain: bool = False) -> None:
        if not self.stack:
            self.done.append(value)
            return
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is _NO_KEY:
            if is_key_text is None and not isinstance(value, str):
                self._refuse_as_key(line)
            self._take_key(top, str(value) if is_key_text is None else is_key_text, line, plain)
        else:
            if top.key is _MERGE:
                self._merge(top, value, line)
            else:
                top.value[top.key] = value
            top.key = _NO_KEY

    def _take_key(self, top: _Open, key: str, line: int, plain: bool) -> None:
        if plain and key == "<<":
            top.key = _MERGE
            return
        if key in top.lines:
            raise self.error(line, f"the key {key!r} stands at line {top.lines[key] + 1} already", "leave one of them")
        top.lines[key] = line
        top.key = key

    def _refuse_as_key(self, line: int) -> None:
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is _NO_KEY:
            raise self.error(line, "a key must be a text, not a list or a mapping", "quote it if it is one")

    def _merge(self, top: _Open, value: Any, line: int) -> None:
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in several):
            raise self.error(line, "<< merges mappings only", "give it an alias of a mapping")
        top.merged += several

    def _alias(self, anchor: str, line: int) -> Any:
        if anchor not in self.anchors:
            inside = any(one.anchor == anchor for one in self.stack)
            text = "refers to itself" if inside else "refers to no anchor before it"
            raise self.error(line, f"the alias *{anchor} {text}", f"write &{anchor} before a whole value")
        value = self.anchors[anchor]
        self.aliased += _count(value, MOST_ALIASED)
        if self.aliased > MOST_ALIASED:
            raise self.error(line, f"aliases repeat more than {MOST_ALIASED:,} values", "write them out, or use fewer")
        return copy.deepcopy(value)  # --set changes one place, not all that share it


def _count(value: Any, most: int) -> int:
    """Values inside, itself included, counted up to just above `most`."""
    waiting, count = [value], 0
    while waiting and count <= most:
        one = waiting.pop()
        count += 1
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return count


def parse_yaml(text: str, where: str = "YAML", refuse: type[MnemosError] = UsageError) -> Any:
    """Plain values of YAML 1.2 text; None of an empty one.

    where: the file or option, for messages. refuse: the error raised, with where, line and cure. A number
    that Python would print otherwise keeps its text (see `core.scalars`).
    """
    reader = _Reader(where, refuse)
    if len(text) > MOST_BYTES:
        raise refuse(where, f"is longer than {MOST_BYTES:,} characters", IN_JSONL)
    try:
        for event in _events(text):
            reader.take(event)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error)
        line = None if mark is None else mark.line
        raise reader.error(line, f"is not YAML: {' '.join(words.split())}", "check indentation and quotes") from None
    except (ValueError, RecursionError, IndexError) as error:  # what the parser itself does not foresee
        raise reader.error(None, f"is not YAML: {error}", "check indentation and quotes") from None
    return reader.done[0] if reader.done else None


def _events(text: str) -> Iterator[Any]:
    yield from YAML(typ="safe", pure=True).parse(text)


def read_yaml(path: str | os.PathLike[str], refuse: type[MnemosError] = UsageError, cure: str = "") -> Any:
    """The values of a YAML file. refuse: the error raised where it is missing, unreadable, not UTF-8 or not
    YAML; cure: what to do where it is missing."""
    return parse_yaml(read_utf8(path, refuse, cure), f"{path}", refuse)


def read_utf8(path: str | os.PathLike[str], refuse: type[MnemosError] = UsageError, cure: str = "") -> str:
    """The text of a file that a user wrote, its byte order mark left out. refuse: as for `read_yaml`."""
    try:
        if Path(path).is_dir():
            raise refuse(f"{path}", "is a directory", cure or "name the file inside it")
        size = os.stat(path).st_size
        if size > MOST_BYTES:
            raise refuse(f"{path}", f"is {size:,} bytes, above {MOST_BYTES:,}", IN_JSONL)
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise refuse(f"{path}", "does not exist", cure or "check the path") from None
    except PermissionError:
        raise refuse(f"{path}", "may not be read by you", "change its permissions, e.g. chmod u+r") from None
    except UnicodeDecodeError as error:
        raise refuse(f"{path}", f"is not UTF-8 (byte {error.start})", "save the file as UTF-8") from None
    except (OSError, ValueError) as error:  # a loop of links, a NUL or 5,000 letters in the path
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(f"{path}", f"cannot be read: {text}", "check the path") from None


class _Representer(SafeRepresenter):
    """Numbers as they were written, tuples as lists, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_written(self, data: WrittenInt | WrittenFloat) -> Any:
        kind = "int" if isinstance(data, int) else "float"
        return self.represent_scalar(f"tag:yaml.org,2002:{kind}", data.written)

    def represent_text(self, data: str) -> Any:
        """Quoted also where only a reader of YAML 1.1 would see something else: yes, 12:30, 1_000."""
        style = '"' if any(letter in data for letter in BREAKS) else "'" if OLD_YAML.fullmatch(data) else None
        return self.represent_scalar(STR, data, style=style)


_Representer.add_representer(str, _Representer.represent_text)
_Representer.add_representer(WrittenInt, _Representer.represent_written)
_Representer.add_representer(WrittenFloat, _Representer.represent_written)
_Representer.add_representer(tuple, _Representer.represent_list)


def dump_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` reads as the same values, keys in their order."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _Representer
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    writer.dump(value, out)
    return out.getvalue()


def yaml_scalar(text: str) -> str:
    """A text as it may stand in a line of YAML: quoted only where it would be read as something else."""
    try:
        if text.isprintable() and parse_yaml(f"- {text}") == [text] and parse_yaml(f"- [{text}]") == [[text]]:
            return text
    except UsageError:
        pass
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() or ord(one) > 0xFFFF else f"\\u{ord(one):04x}" for one in quoted)
