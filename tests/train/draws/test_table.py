"""What must be known of a draw stands in its row of DRAWS: nothing else asks which class it is of."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.core.plan import PreferencePairs
from mnemos.train import draws
from mnemos.train.draws import DRAWS
from mnemos.train.draws.batches import Batches

PACKAGE = Path(mnemos.__file__).parent
CLASSES = {kind.__name__ for kind in DRAWS}
TABLE = PACKAGE / "train" / "draws" / "__init__.py"
ASKING = {"isinstance", "issubclass", "hasattr", "getattr"}


def asked(tree: ast.AST) -> Iterator[int]:
    """Lines that ask what a draw is: isinstance or a match on its class, type(plan.draw), hasattr(plan.draw, …)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.MatchClass) and names(node.cls) & CLASSES:
            yield node.cls.lineno
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in ASKING and any(names(given) & CLASSES for given in node.args[1:]):
            yield node.lineno
        about = node.args[0] if node.args else None
        if node.func.id in ASKING | {"type"} and isinstance(about, ast.Attribute) and about.attr == "draw":
            yield node.lineno


def names(tree: ast.AST) -> set[str]:
    """Every name and attribute in it."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_only_the_table_asks_of_what_class_a_draw_is() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text[line - 1].strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != TABLE
        for text in [path.read_text(encoding="utf-8").splitlines()]
        for line in asked(ast.parse("\n".join(text)))
    ]
    # An error message may name the class.
    assert [one for one in found if "type(plan.draw).__name__" not in one] == []


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(plan.draw, BinaryFeedback)",
        "isinstance(draw, TeacherForcing | PreferencePairs)",
        "isinstance(draw, (Echo, rollouts.Rollouts))",
        "type(self.trainer.plan.draw) is SelfTaught",
        "hasattr(plan.draw, 'max_new_tokens')",
        "getattr(self.draw, 'soft_label', None)",
        "match draw:\n    case PreferencePairs():\n        pass",
    ],
)
def test_a_ladder_would_be_found(line: str) -> None:
    assert list(asked(ast.parse(line)))


@dataclass(frozen=True)
class Derived(PreferencePairs):
    """Of a class that has no row of its own."""


def test_every_row_leads_to_a_module_with_both_names() -> None:
    for row in DRAWS.values():
        module = importlib.import_module(row.module)
        assert callable(module.prepare)
        assert issubclass(module.Batches, Batches)
        assert row.in_data or not row.likelihood
    with pytest.raises(UsageError, match="is not learned here"):
        draws.known(Derived())
