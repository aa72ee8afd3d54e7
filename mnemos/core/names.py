"""Names of studies, arms, tasks and suites, and of reproductions: each becomes a file or folder, by one rule.

A name may hold letters and digits of any script, spaces and signs. It may not hold what leaves the folder that it
stands in (``/``, ``\\``, ``.``, ``..``), what a file's name cannot hold or a terminal acts upon (NUL, control and
format characters, halves of surrogate pairs), or what a command takes for an option (a hyphen in front); and the
file's name made of it must fit. Two names whose files would be one on a disk that does not tell capitals apart,
or that composes accents, are refused beside each other everywhere, so that a run can be copied.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from mnemos.core.errors import UsageError

MOST_BYTES = 180
"""UTF-8 bytes of a name: file systems take 255, and ours stand before and behind it ("stage-3-", ".jsonl", a
temporary file's process number)."""

EXTENDED = "-extended"
"""Behind an arm's name: its model with new pieces, before it is taught anything."""

CURE = "rename it: letters, digits, spaces and signs, without / and \\"


def trouble(name: str) -> str | None:
    """What keeps a name from naming a file; None where nothing does."""
    if not name.strip():
        return "is no name: it is empty"
    if name in (".", ".."):
        return "names a folder, and this one is another folder already"
    for separator in "/\\":
        if separator in name:
            return f"names a file or folder, and {separator} separates folders"
    if not name.isprintable():
        return "names a file or folder, and holds a character that cannot be printed"
    if name[0] == "-":
        return "begins with a hyphen, and commands would take its file for an option"
    if name != name.strip():
        return "begins or ends with a space"
    if len(name.encode()) > MOST_BYTES:
        return f"names a file or folder, and has {len(name.encode()):,} bytes, above {MOST_BYTES}"
    return None


def check_name(name: str, where: str, cure: str = CURE) -> str:
    """The name. Raises UsageError where it cannot name a file. where: its place, for the message."""
    text = trouble(name)
    if text is not None:
        raise UsageError(f"{where} = {name!r}", text, cure)
    return name


def refuse_clash(names: Iterable[str], what: str) -> None:
    """Raise UsageError where two names would be one file on some disk. what: such as "arms"."""
    taken: dict[str, str] = {}
    for name in names:
        key = one_file(name)
        if key in taken:
            same = taken[key] == name
            bound = "is there twice" if same else "would be the same file or folder on some disks"
            raise UsageError(f"{what}: {name if same else f'{taken[key]}, {name}'}", bound, "rename one")
        taken[key] = name


def one_file(name: str) -> str:
    """Equal for names whose files some disk takes for one: capitals, accents, and the colon, written as a hyphen."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).replace(":", "-")


def named_after(text: str, otherwise: str) -> str:
    """A name made of what a user called something else (a file, a setting's value): what no name may hold becomes
    ``_``, and a long one keeps its beginning and a hash of the whole. otherwise: where nothing is left."""
    cleaned = "".join("_" if letter in "/\\" or not letter.isprintable() else letter for letter in text).strip()
    cleaned = f"_{cleaned[1:]}" if cleaned[:1] == "-" else cleaned
    if len(cleaned.encode()) > MOST_BYTES:
        mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        cleaned = f"{cleaned.encode()[: MOST_BYTES - 9].decode(errors='ignore').rstrip()}-{mark}"
    return otherwise if trouble(cleaned) else cleaned


def data_name(location: str, otherwise: str) -> str:
    """What rows are called unless somebody names them: their file's name without its endings."""
    return named_after(re.sub(r"(\.(jsonl|json|parquet|txt|gz))+$", "", Path(location).name), otherwise)


def _valid(name: str) -> str:
    text = trouble(name)
    if text is not None:
        raise ValueError(f"{text}: {CURE}")
    return name


Name = Annotated[str, AfterValidator(_valid)]
"""A setting that names a study, task or suite."""
