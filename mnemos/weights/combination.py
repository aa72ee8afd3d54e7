"""Values of expressions over checkpoints: linear combinations and the operators inside them.

Each value prints in a normal form that `weights.expression.parse` reads back to an equal value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Depth:
    """A number that changes with depth: linear between points spaced evenly from the first layer
    (place 0) to the last (place 1). At least two points, not all equal."""

    points: tuple[float, ...]

    def at(self, place: float) -> float:
        """The value at a place in [0, 1]."""
        position = min(max(place, 0.0), 1.0) * (len(self.points) - 1)
        # Place 1 is the end of the last span, not the start of one behind it.
        left = min(int(position), len(self.points) - 2)
        share = position - left
        return self.points[left] * (1 - share) + self.points[left + 1] * share

    def __str__(self) -> str:
        return f"depth({', '.join(map(repr, self.points))})"


Number = float | Depth


def value_at(number: Number, place: float) -> float:
    """A coefficient at a place in [0, 1], from the first layer to the last."""
    return number.at(place) if isinstance(number, Depth) else number


def shown(value: Number) -> str:
    """A number as it is printed in an expression; infinities and NaN as words."""
    return str(value) if isinstance(value, Depth) else f"{value:g}" if not math.isfinite(value) else repr(value)


@dataclass(frozen=True)
class Option:
    """One setting of an operator. default: None where it must be given. low, high: bounds;
    below: high itself is excluded. depth: a schedule may stand for it. whole: an integer."""

    name: str
    default: float | None
    low: float = -math.inf
    high: float = math.inf
    below: bool = False
    depth: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator on checkpoints. least, most: how many it takes. pattern: a regular expression
    comes first. What each one computes is said in `weights.operators`."""

    least: int
    most: int | None
    options: tuple[Option, ...] = ()
    pattern: bool = False


_SCALE = Option("scale", 1.0, depth=True)
_SEED = Option("seed", 0, 0, 2**53 - 1, whole=True)
_DENSITY = Option("density", 0.2, 0, 1)
_EXACT = Option("exact", 0, 0, 1, whole=True)
_DROP = Option("drop", 0.9, 0, 1, below=True)

OPERATORS: dict[str, Operator] = {
    "slerp": Operator(2, 2, (Option("t", None, depth=True),)),
    "ties": Operator(2, None, (_DENSITY, _SCALE, _EXACT)),
    "dare": Operator(2, None, (_DROP, _SEED, _SCALE)),
    "dare_ties": Operator(2, None, (_DROP, _SEED, _SCALE)),
    "della": Operator(2, None, (Option("drop", 0.5, 0, 1, below=True), Option("spread", 0.2, 0, 1), _SEED, _SCALE)),
    "breadcrumbs": Operator(2, None, (Option("smallest", 0.85, 0, 1), Option("largest", 0.01, 0, 1), _SCALE, _EXACT)),
    "model_stock": Operator(3, None),
    "where": Operator(2, 2, pattern=True),
    "soup": Operator(2, None),
}
FUNCTIONS = (*OPERATORS, "mean", "depth")
"""Every name that may be called in an expression."""


@dataclass(frozen=True)
class Call:
    """An operator applied. models: its arguments. options: all of its settings, in the table's
    order. pattern: of `where`: tensors whose name it finds take the first model."""

    operator: str
    models: tuple[Combination, ...]
    options: tuple[tuple[str, Number], ...] = ()
    pattern: str = ""

    def option(self, name: str) -> Number:
        """The value of a setting."""
        return dict(self.options)[name]

    def __str__(self) -> str:
        parts = [repr(self.pattern)] if OPERATORS[self.operator].pattern else []
        parts += map(str, self.models)
        for option, (name, value) in zip(OPERATORS[self.operator].options, self.options, strict=True):
            if option.default is None:
                parts.append(shown(value))
            elif value != option.default:
                parts.append(f"{name}={shown(value)}")
        return f"{self.operator}({', '.join(parts)})"


Atom = str | Call


@dataclass(frozen=True)
class Combination:
    """sum_i coefficient_i * atom_i; an atom is a checkpoint's name or an operator's result."""

    terms: tuple[tuple[Atom, Number], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoints that are needed, in the order of their first use."""
        found: dict[str, None] = {}
        for atom, _ in self.terms:
            for name in (atom,) if isinstance(atom, str) else (n for model in atom.models for n in model.names):
                found.setdefault(name)
        return tuple(found)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every operator inside, outer ones first."""
        found: list[Call] = []
        for atom, _ in self.terms:
            if isinstance(atom, Call):
                found.append(atom)
                found += [call for model in atom.models for call in model.calls]
        return tuple(found)

    def __str__(self) -> str:
        """Normal form; parsing it again gives an equal Combination."""
        parts: list[str] = []
        for atom, coefficient in self.terms:
            if isinstance(coefficient, Depth):
                parts.append(f"{' + ' if parts else ''}{coefficient}*{atom}")
                continue
            size = abs(coefficient)
            # repr of a float is the shortest text that reads back as the same float, so the normal form loses no bit.
            sign = ("-" if coefficient < 0 else "") if not parts else (" - " if coefficient < 0 else " + ")
            parts.append(f"{sign}{atom}" if size == 1 else f"{sign}{size!r}*{atom}")
        return "".join(parts) or "0"
