"""Imports flow one way, in no circle, and what must start fast loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

import mnemos

PACKAGE = Path(mnemos.__file__).parent
ROOT = "mnemos"

LAYERS = (
    "core",
    "sources",
    "weights",
    "models",
    "rewards",
    "synthesis",
    "methods",
    "train",
    "measure",
    "stream",
    "report",
    "study",
    "recipes",
    "serve",
    "cli",
)
"""A module imports only from its own layer and from those before it."""

HEAVY = ("torch", "transformers", "datasets", "peft", "trl", "pyarrow", "pandas", "matplotlib", "scipy", "sklearn")
"""Packages that take a noticeable part of a second to load."""


def module_of(path: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, package: bool, known: set[str]) -> set[str]:
    """Modules of this package that a module names in an import, wherever the import stands: one
    inside a function or under TYPE_CHECKING is a dependency as well."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == ROOT}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[: len(module.split(".")) - node.level + (1 if package else 0)]
                base = ".".join([*parts, *([base] if base else [])])
            if base.split(".")[0] == ROOT:
                # The version is a constant that the front sets before it imports anything.
                names = {f"{base}.{alias.name}" for alias in node.names} - {f"{ROOT}.__version__"}
                submodules = names & known
                found |= submodules
                if submodules != names:
                    found.add(base)
    return found - {module}


@cache
def graph() -> dict[str, set[str]]:
    """Module -> modules of this package that it imports."""
    files = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    known = set(files)
    out = {}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        out[module] = imported(tree, module, path.name == "__init__.py", known)
    return out


def layer(module: str) -> str | None:
    """The layer of a module; None for the package itself and `python -m mnemos`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def upward(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Imports against the order of LAYERS. Only the package's front may import from everywhere,
    and nothing may import the front."""
    wrong = []
    for module, targets in edges.items():
        here = layer(module)
        for target in targets:
            there = layer(target)
            if here is not None and (there is None or LAYERS.index(there) > LAYERS.index(here)):
                wrong.append(f"{module} imports {target}")
    return wrong


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def test_every_module_has_a_layer() -> None:
    strangers = {module for module in graph() if (here := layer(module)) is not None and here not in LAYERS}
    assert not strangers


def test_imports_flow_one_way() -> None:
    assert not upward(graph())


def test_no_import_circle() -> None:
    assert not circles(graph())


def test_the_checks_can_fail() -> None:
    bad = {"mnemos.core.a": {"mnemos.study.b"}, "mnemos.study.b": {"mnemos.core.a"}, "mnemos.train.c": {"mnemos"}}
    assert upward(bad) == ["mnemos.core.a imports mnemos.study.b", "mnemos.train.c imports mnemos"]
    assert circles(bad) == [["mnemos.core.a", "mnemos.study.b"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import mnemos.core.plan", {"mnemos.core.plan"}),
        ("from mnemos.core import plan", {"mnemos.core.plan"}),
        ("from mnemos.core.plan import Plan", {"mnemos.core.plan"}),
        ("from .plan import Plan", {"mnemos.core.plan"}),
        ("from . import plan", {"mnemos.core.plan"}),
        ("from ..methods import listing", {"mnemos.methods"}),
        ("def f():\n    from mnemos import study", {"mnemos.study"}),
        ("from mnemos import __version__", set()),
        ("from mnemos import __version__, run", {"mnemos"}),
        ("import torch", set()),
        ("from mnemosyne import x", set()),
    ],
)
def test_imports_are_found(text: str, expected: set[str]) -> None:
    known = {"mnemos", "mnemos.core", "mnemos.core.plan", "mnemos.methods", "mnemos.study"}
    assert imported(ast.parse(text), "mnemos.core.method", False, known) == expected


def loaded_by(modules: Iterable[str]) -> set[str]:
    """Heavy packages in memory once a fresh interpreter has imported `modules`."""
    lines = [f"import {module}" for module in modules]
    lines += ["import sys", f"print(*sorted(set(sys.modules) & {set(HEAVY)!r}))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_starting_loads_nothing_heavy() -> None:
    """`import mnemos`, its core, every method and the command line stay light."""
    light = [module for module in graph() if layer(module) in ("core", "methods")]
    assert loaded_by(["mnemos", *light, "mnemos.cli"]) == set()


def test_the_heavy_check_can_fail() -> None:
    assert loaded_by(["scipy.version"]) == {"scipy"}


def test_the_command_line_helps_without_loading_anything_heavy() -> None:
    lines = "import sys\nfrom mnemos.cli import main\nsys.argv = ['mnemos', '--help']\n"
    lines += "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code\n"
    lines += f"print('loaded:', *sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
