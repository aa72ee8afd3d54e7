"""What can be measured, for people: the suites that ship with mnemos, and the kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.core.described import described
from mnemos.core.errors import UsageError
from mnemos.core.yaml_text import read_yaml
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import BENCHMARKS, BUILT_IN, JUDGED, load_suites

EVERYWHERE = ("name", "kind")
"""Keys that a listing leaves out: they say which suite it is."""


def built_in() -> list[dict[str, Any]]:
    """Each shipped suite: name, kind, items, unit."""
    found = [suite for path in sorted(BUILT_IN.glob("*.yaml")) for suite in load_suites([str(path)], Path("."))]
    return [{"name": s.name, "kind": s.kind, "items": len(s.items), "unit": s.unit} for s in found]


def by_name() -> list[dict[str, Any]]:
    """Each suite by name of which a file does not ship: name, kind, and that file."""
    found = [read_yaml(path, UsageError) for folder in (JUDGED, BENCHMARKS) for path in sorted(folder.glob("*.yaml"))]
    return [{"name": one["name"], "kind": one["kind"], "data": _outside(one)} for one in found]


def _outside(suite: dict[str, Any]) -> str:
    """The file that a suite by name reads from $MNEMOS_DATA: its items, or the database behind them."""
    return next(str(suite[key]) for key in ("data", "database") if str(suite.get(key, "")).startswith("$"))


def kinds() -> list[dict[str, Any]]:
    """Each kind: name, summary, unit, better, tolerance, needs, and its settings as `core.described` has them."""
    return [
        {
            "name": name,
            "summary": kind.summary,
            "unit": kind.unit,
            "better": kind.better,
            "tolerance": kind.tolerance,
            "needs": list(kind.needs),
            "settings": [row for row in described(kind.settings) if row["name"] not in EVERYWHERE],
        }
        for name, kind in KINDS.items()
    ]
