"""Real English that every Python installation carries: its documentation strings.

The text is that of the running interpreter (licence: PSF-2.0) and is read when it is asked
for; nothing of it is stored here. A paragraph's part (train, dev, test) follows from a hash of
its words, so that another Python version keeps the split.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from mnemos.recipes.worlds.seed import part

LEAVE_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "ensurepip", "encodings", "__pycache__"}
)
"""Folders of the standard library that hold other people's text, tests, or no prose."""

SHARES = {"test": 0.04, "dev": 0.04}
SHINGLE = 8
"""A training paragraph that shares this many successive words with a held-out one is dropped."""

_WORD = re.compile(r"[a-z0-9']+")
_PROSE = re.compile(r"^[A-Z\"'(].*[.!?:)\"']$", re.DOTALL)


def paragraphs(folder: Path | None = None) -> list[str]:
    """Every distinct paragraph of prose in the docstrings under `folder`, sorted.

    folder: the standard library of the running interpreter unless given. A paragraph is one
    line (breaks joined), 60 to 700 characters, starts like a sentence, ends with punctuation,
    and at least 80 % of its characters are letters and spaces: no tables, code or doctests.
    """
    root = Path(folder or sysconfig.get_paths()["stdlib"])
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        if LEAVE_OUT.isdisjoint(path.relative_to(root).parts):
            for text in _docstrings(path):
                for paragraph in _prose(text):
                    found.setdefault(" ".join(_words(paragraph)), paragraph)
    return sorted(found.values())


def english(which: str, folder: Path | None = None, *, seed: int = 0) -> list[str]:
    """The paragraphs of one part: "train", "dev" or "test".

    No training paragraph shares eight successive words with a held-out one.
    """
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for paragraph in paragraphs(folder):
        parts[part(SHARES, seed, "english", *_words(paragraph))].append(paragraph)
    if which != "train":
        return parts[which]
    held_out = {shingle for name in ("dev", "test") for text in parts[name] for shingle in _shingles(text)}
    return [text for text in parts["train"] if held_out.isdisjoint(_shingles(text))]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules are no concern of ours
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
    if path.parent.name == "pydoc_data":  # the language reference, as a dictionary of strings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 500:
                yield node.value


def _prose(text: str) -> Iterator[str]:
    for block in re.split(r"\n[ \t]*\n", text):
        line = " ".join(block.replace('"', "'").replace("``", "'").replace("`", "'").split())
        line = re.sub(r"\*([\w.]+)\*", r"\1", line)
        plain = sum(character.isalpha() or character == " " for character in line)
        if 60 <= len(line) <= 700 and ">>>" not in line and plain >= 0.8 * len(line) and _PROSE.match(line):
            yield line


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
