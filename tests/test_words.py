"""One name, one thing: words that were given up for the field's own are no identifiers and no keys any more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mnemos
from mnemos.core.method import RETIRED

PACKAGE = Path(mnemos.__file__).parent
GONE = {
    "Desk", "desk", "Written", "Unwritten", "is_written", "written_in", "settle", "OwnAnswers", "Drawing", "Credit",
    "Credited", "DrawnView", "OwnWords", "OwnSamples", "Thumbs", "Elastic", "Razor", "Along", "dice", "lots",
    "WritingDesk", "hushed", "said", "told", "mine",
}  # fmt: skip
"""Identifiers; `Drawing` is a figure of the report and nothing else."""

MODULES = [
    path for folder in (PACKAGE, *(PACKAGE.parent / name for name in ("benchmarks", "tests")))
    for path in sorted(folder.rglob("*.py"))
]  # fmt: skip
PAGES = [PACKAGE.parent / "README.md", *sorted((PACKAGE.parent / "docs").glob("*.md"))]


def names(path: Path) -> set[str]:
    """Every identifier that a file binds, reads or takes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_identifier_is_a_word_that_was_given_up(path: Path) -> None:
    allowed = {"Drawing"} if "report" in path.parts else set()
    assert not (names(path) & GONE) - allowed


def test_no_recipe_and_no_page_says_an_old_key() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in [*PACKAGE.rglob("*.yaml"), *PAGES]}
    pattern = "|".join(sorted(set(RETIRED) - {"samples", "trace", "discount", "clip", "sft", "longest", "shortest"}))
    wrong = {str(path) for path, text in texts.items() if re.search(rf"(?m)(?<![\w-])({pattern}):(?= )", text)}
    assert not wrong


def test_the_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(desk):\n    return desk.lots\n", encoding="utf-8")
    assert names(tmp_path / "a.py") & GONE == {"desk", "lots"}
