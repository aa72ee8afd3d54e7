"""Prompts of agents: files that a user can replace, one a name, filled without touching what is filled in.

A place is a name in braces. Only names that are given are places; every other brace stays. What is filled in is not
looked at again, so a question that holds "{shots}" stays a question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from mnemos.core.errors import UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.core.yaml_text import read_utf8

_PLACE = re.compile(r"\{([a-z_]+)\}")


def filled(template: str, fields: Mapping[str, str]) -> str:
    """The template with every {name} of `fields` replaced in one pass; surrounding white space is taken off."""
    return _PLACE.sub(lambda found: fields.get(found[1], found[0]), template).strip()


def shipped() -> dict[str, str]:
    """Name -> text of the prompts that come with the package."""
    here = files(__name__)
    texts = {one.name: one.read_text(encoding="utf-8") for one in here.iterdir() if one.name.endswith(".txt")}
    return {name.removesuffix(".txt"): text for name, text in sorted(texts.items())}


def load(folder: str | Path | None = None) -> dict[str, str]:
    """The prompts, those of a user's folder in place of the shipped ones of the same name.

    Raises UsageError for a file whose name is no prompt's, or that lacks a place which the shipped one has: without
    {question} an agent would answer nothing that was asked.
    """
    texts = shipped()
    for path in sorted(Path(folder).glob("*.txt")) if folder is not None else ():
        if path.stem not in texts:
            raise UsageError(f"prompt {path}", "is none that an agent has", nearest(path.stem, texts))
        own = read_utf8(path)
        lacking = set(_PLACE.findall(texts[path.stem])) - set(_PLACE.findall(own))
        if lacking:
            raise UsageError(f"prompt {path}", f"lacks the place {{{sorted(lacking)[0]}}}", "write it where it belongs")
        texts[path.stem] = own
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"prompts = {folder}", "is no folder", "give a folder of .txt files")
    return texts


def prompt_hash(texts: Mapping[str, str]) -> str:
    """16 hex digits of all prompts."""
    return fingerprint(dict(texts))
