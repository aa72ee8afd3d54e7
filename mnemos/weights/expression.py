"""Expressions over checkpoints, as people write them: ``"cp + 0.5*(chat - base)"``.

An expression is parsed with Python's own parser and never evaluated as code. Its value is a
linear combination of checkpoints and of operators on them (`OPERATORS`); it prints in a normal
form that parses back to an equal value. Interpolation (WiSE-FT, arXiv:2109.01903;
arXiv:2412.19512), chat vectors (arXiv:2310.04799) and task vectors (arXiv:2212.04089) need
nothing but ``+ - *`` and numbers.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mnemos.core.errors import UsageError, nearest
from mnemos.core.patterns import compiled
from mnemos.weights.combination import (
    FUNCTIONS,
    OPERATORS,
    Atom,
    Call,
    Combination,
    Depth,
    Number,
    Operator,
    Option,
    shown,
)

__all__ = ["Call", "Combination", "Depth", "names_in", "parse"]

MOST_POINTS = 1024
"""Points that a schedule may have; sums of schedules of 2 to 32 layers stay far below."""


def parse(text: str, numbers: Mapping[str, float] | None = None) -> Combination:
    """Parse ``+ - * /`` over names and numbers, ``mean``, ``depth`` and the operators.

    numbers: values of names that stand for numbers; the result holds the values. Checkpoints
    whose coefficients cancel are left out. Raises UsageError with a caret under the mistake: a
    syntax error, a product of checkpoints, a division by one or by zero, a bare number, a
    coefficient that is not finite, an unknown function or setting, a value out of bounds.
    """
    # An expression may stand in several lines of YAML; Python's would end with the first.
    text = " ".join(text.split())
    if "#" in text:
        raise _mistake(text, text.index("#"), "has a comment, which would be dropped without a word")
    try:
        tree = ast.parse(text, mode="eval")
        value = _Reader(text, dict(numbers or {})).read(tree.body)
    except SyntaxError as error:
        raise _mistake(text, (error.offset or 1) - 1, "is not an expression") from None
    except (RecursionError, MemoryError, OverflowError, ValueError) as error:
        raise _mistake(text, 0, f"cannot be computed ({type(error).__name__})") from None
    return _combination(value, text)


def names_in(text: str) -> tuple[str, ...]:
    """Every name that stands in an expression (functions apart), in order: what must be bound to
    a checkpoint or a number. Empty for what is no expression; `parse` says why."""
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return tuple(dict.fromkeys(node.id for node in sorted(found, key=lambda node: node.col_offset)))


Partial = tuple[dict[Atom, Number], Number]
"""Coefficients of the checkpoints, and the bare number beside them."""


@dataclass(frozen=True)
class _Reader:
    text: str
    numbers: Mapping[str, float]

    def read(self, node: ast.expr) -> Partial:
        match node:
            # Numbers before checkpoints: a name that is given a value is that value wherever it stands.
            case ast.Name(id=name) if name in self.numbers:
                return {}, float(self.numbers[name])
            case ast.Name(id=name):
                return {name: 1.0}, 0.0
            # True is an int to Python, and no coefficient.
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return {}, float(number)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return self._scale(self.read(inner), -1.0, inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.read(inner)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._add(self.read(left), self.read(right), node)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._add(self.read(left), self._scale(self.read(right), -1.0, right), node)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = self.read(left), self.read(right)
                if a[0] and b[0]:
                    raise self._refuse(right, "multiplies two checkpoints")
                # One side has no checkpoints, so its bare number is all of it: the product stays linear.
                return self._scale(b, a[1], right) if not a[0] else self._scale(a, b[1], right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                a, b = self.read(left), self.read(right)
                if isinstance(b[1], Depth):
                    raise self._refuse(right, "divides by a schedule")
                if b[0] or b[1] == 0:
                    raise self._refuse(right, "divides by a checkpoint or by zero")
                return self._scale(a, 1 / b[1], right)
            case ast.Call(func=ast.Name(id=name)):
                return self._call(node, name)
        raise self._refuse(node, f"{type(node).__name__} has no meaning for checkpoints")

    def _call(self, node: ast.Call, name: str) -> Partial:
        if name == "depth":
            return {}, self._depth(node)
        if name == "mean":
            models = [self._model(argument) for argument in node.args]
            if not models or node.keywords:
                raise self._refuse(node, "takes checkpoints and nothing else")
            total: Partial = ({}, 0.0)
            for model in models:
                # Spelled out as coefficients: what cancels between mean and the rest of the expression cancels here.
                total = self._add(total, self._scale((dict(model.terms), 0.0), 1 / len(models), node), node)
            return total
        if name not in OPERATORS:
            raise self._refuse(node, f"{name} is not a function here: {nearest(name, FUNCTIONS)}")
        return {self._operator(node, name, OPERATORS[name]): 1.0}, 0.0

    def _operator(self, node: ast.Call, name: str, operator: Operator) -> Call:
        arguments = list(node.args)
        pattern = self._pattern(node, arguments.pop(0) if arguments else None) if operator.pattern else ""
        most = len(arguments) if operator.most is None else operator.most
        models = tuple(self._model(argument) for argument in arguments[:most])
        if len(models) < operator.least:
            raise self._refuse(node, f"{name} takes at least {operator.least} checkpoints")
        given: dict[str, ast.expr] = {}
        rest = arguments[most:]
        if len(rest) > len(operator.options):
            raise self._refuse(rest[-1], f"is one argument too many for {name}")
        given.update(zip((option.name for option in operator.options), rest, strict=False))
        known = [option.name for option in operator.options]
        for keyword in node.keywords:
            if keyword.arg not in known or keyword.arg in given:
                twice = f"{keyword.arg} is given twice"
                unknown = f"{name} has no setting {keyword.arg}: {nearest(str(keyword.arg), known)}"
                raise self._refuse(keyword.value, twice if keyword.arg in known else unknown)
            given[keyword.arg] = keyword.value
        options = tuple((option.name, self._option(node, name, option, given.get(option.name)))
                        for option in operator.options)  # fmt: skip
        self._together(node, name, dict(options))
        return Call(name, models, options, pattern)

    def _together(self, node: ast.Call, name: str, options: Mapping[str, Number]) -> None:
        """Bounds that two settings share."""
        if name == "della":
            drop, half = float(options["drop"]), float(options["spread"]) / 2  # type: ignore[arg-type]
            # `weights.masks.DropByRank` divides by 1 - chance, and a chance below 0 would shrink what always stays.
            if drop - half < 0 or drop + half >= 1:
                raise self._refuse(
                    node, f"drops with a chance between {drop - half:g} and {drop + half:g}, not in [0, 1)"
                )
        if name == "breadcrumbs" and float(options["smallest"]) + float(options["largest"]) > 1:  # type: ignore[arg-type]
            raise self._refuse(node, "drops more than everything: smallest + largest must be at most 1")

    def _pattern(self, node: ast.Call, argument: ast.expr | None) -> str:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise self._refuse(argument or node, 'must be a pattern in quotes, as in where("mlp", a, b)')
        pattern = argument.value
        try:
            compiled(pattern)
        except ValueError as error:
            raise self._refuse(argument, f"is not a regular expression ({error})") from None
        if re.search(r"\s", pattern) or not pattern.isprintable():
            raise self._refuse(argument, "has spaces, which no tensor's name has")
        return pattern

    def _option(self, node: ast.Call, name: str, option: Option, given: ast.expr | None) -> Number:
        if given is None:
            if option.default is None:
                raise self._refuse(node, f"{name} needs {option.name}")
            return option.default
        models, value = self.read(given)
        if models:
            raise self._refuse(given, f"{option.name} must be a number")
        if isinstance(value, Depth):
            if not option.depth:
                raise self._refuse(given, f"{option.name} must be one number, not a schedule")
            return value
        inside = option.low <= value <= option.high and not (option.below and value == option.high)
        if not inside or not math.isfinite(value) or (option.whole and value != int(value)):
            bounds = f"[{option.low:g}, {option.high:g}{')' if option.below else ']'}"
            raise self._refuse(
                given, f"{option.name} must be {'an integer' if option.whole else 'a number'} in {bounds}"
            )
        return int(value) if option.whole else value

    def _model(self, node: ast.expr) -> Combination:
        if isinstance(node, ast.Starred):
            raise self._refuse(node, "Starred has no meaning for checkpoints")
        return _combination(self.read(node), self.text, lambda reason: self._refuse(node, reason))

    def _depth(self, node: ast.Call) -> Number:
        if len(node.args) < 2 or node.keywords:
            raise self._refuse(node, "depth takes at least two numbers, for the first layer … the last")
        points: list[float] = []
        for argument in node.args:
            models, value = self.read(argument)
            if models or isinstance(value, Depth):
                raise self._refuse(argument, "depth takes numbers only")
            points.append(value)
        if len(points) > MOST_POINTS:
            raise self._refuse(node, f"has more than {MOST_POINTS} points")
        return _schedule(points)

    def _scale(self, value: Partial, factor: Number, node: ast.expr) -> Partial:
        return {atom: self._times(c, factor, node) for atom, c in value[0].items()}, self._times(value[1], factor, node)

    def _times(self, a: Number, b: Number, node: ast.expr) -> Number:
        if isinstance(a, Depth) and isinstance(b, Depth):
            raise self._refuse(node, "multiplies two schedules")
        if isinstance(b, Depth):
            a, b = b, a
        if isinstance(a, Depth):
            return _schedule([point * b for point in a.points])  # type: ignore[operator]
        return a * b  # type: ignore[operator]

    def _add(self, a: Partial, b: Partial, node: ast.expr) -> Partial:
        atoms = dict(a[0])
        for atom, coefficient in b[0].items():
            atoms[atom] = self._plus(atoms[atom], coefficient, node) if atom in atoms else coefficient
        return atoms, self._plus(a[1], b[1], node)

    def _plus(self, a: Number, b: Number, node: ast.expr) -> Number:
        if isinstance(a, float) and isinstance(b, float):
            return a + b
        spans = [len(x.points) - 1 if isinstance(x, Depth) else 1 for x in (a, b)]
        # Lines between m and between n evenly spaced points add up to lines between lcm(m, n) of them, exactly.
        steps = math.lcm(*spans)
        if steps >= MOST_POINTS:
            raise self._refuse(node, f"adds schedules whose points fit together only with more than {MOST_POINTS}")
        return _schedule([x + y for x, y in zip(_refined(a, steps), _refined(b, steps), strict=True)])

    def _refuse(self, node: ast.expr, reason: str) -> UsageError:
        return _mistake(self.text, _column(self.text, node), reason)


def _refined(number: Number, steps: int) -> list[float]:
    """Values at steps + 1 evenly spaced places; exact where a point of the schedule lies."""
    if not isinstance(number, Depth):
        return [number] * (steps + 1)
    each = steps // (len(number.points) - 1)
    pairs = [(number.points[i // each], number.points[min(i // each + 1, len(number.points) - 1)], (i % each) / each)
             for i in range(steps + 1)]  # fmt: skip
    # At a point the number itself: times 1 plus another times 0 is NaN where that other is infinite.
    return [left * (1 - share) + right * share if share else left for left, right, share in pairs]


def _schedule(points: list[float]) -> Number:
    return points[0] if all(point == points[0] for point in points) else Depth(tuple(points))


def _combination(value: Partial, text: str, refuse: Callable[[str], UsageError] | None = None) -> Combination:
    terms, constant = value
    for atom, coefficient in terms.items():
        # Before the bare number: an overflow shows as a coefficient of infinity, and that is what to name.
        for point in coefficient.points if isinstance(coefficient, Depth) else (coefficient,):
            if not math.isfinite(point):
                raise UsageError(f"expression {text!r}", f"the coefficient of {atom} is {point}", "use a finite one")
    if constant != 0:
        words = f"adds the bare number {shown(constant)} to checkpoints"
        if refuse is not None:
            raise refuse(words)
        raise UsageError(f"expression {text!r}", words, "multiply it with a name")
    return Combination(tuple((atom, coefficient) for atom, coefficient in terms.items() if coefficient != 0))


def _column(text: str, node: ast.expr) -> int:
    # ast counts UTF-8 bytes, the caret stands under a character.
    return len(text.encode()[: node.col_offset].decode(errors="ignore"))


def _mistake(text: str, column: int, reason: str) -> UsageError:
    return UsageError(f"expression {text!r}", reason, f"  {text}\n    {' ' * max(column, 0)}^")
