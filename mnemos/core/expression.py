"""Sums of checkpoints, as people write them: ``"0.7*after + 0.3*before"``.

An expression is parsed with Python's own parser and never evaluated as code. Its value is a
linear combination, name -> coefficient; weights need nothing more for interpolation (WiSE-FT,
arXiv:2109.01903; arXiv:2412.19512), chat vectors (arXiv:2310.04799) and task vectors
(arXiv:2212.04089).
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass

from mnemos.core.errors import UsageError


@dataclass(frozen=True)
class Combination:
    """sum_i coefficient_i * checkpoint_i, names in the order of their first use."""

    terms: tuple[tuple[str, float], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoints that the sum needs, in the order of their first use."""
        return tuple(name for name, _ in self.terms)

    def __str__(self) -> str:
        """Normal form; parsing it again gives an equal Combination."""
        parts: list[str] = []
        for name, coefficient in self.terms:
            size = abs(coefficient)
            sign = ("-" if coefficient < 0 else "") if not parts else (" - " if coefficient < 0 else " + ")
            parts.append(f"{sign}{name}" if size == 1 else f"{sign}{size!r}*{name}")
        return "".join(parts) or "0"


def parse(text: str) -> Combination:
    """Parse ``+ - * /`` over names and numbers; names whose coefficients cancel are left out.

    Raises UsageError with a caret under the mistake: a syntax error, a product of checkpoints, a
    division by one or by zero, a bare number, a coefficient that is not finite.
    """
    text = " ".join(text.split())
    if "#" in text:
        raise _mistake(text, text.index("#"), "has a comment, which would be dropped without a word")
    try:
        tree = ast.parse(text, mode="eval")
        names, constant = _walk(tree.body, text)
    except SyntaxError as error:
        raise _mistake(text, (error.offset or 1) - 1, "is not an expression") from None
    except (RecursionError, MemoryError, OverflowError, ValueError) as error:
        raise _mistake(text, 0, f"cannot be computed ({type(error).__name__})") from None
    wild = [name for name, value in names.items() if not math.isfinite(value)]
    if wild:
        raise UsageError(
            f"expression {text!r}", f"the coefficient of {wild[0]} is {names[wild[0]]}", "use a finite one"
        )
    if constant:
        raise UsageError(
            f"expression {text!r}", f"adds the bare number {constant:g} to checkpoints", "multiply it with a name"
        )
    return Combination(tuple((name, value) for name, value in names.items() if value != 0))


Partial = tuple[dict[str, float], float]


def _walk(node: ast.expr, text: str) -> Partial:
    match node:
        case ast.Name(id=name):
            return {name: 1.0}, 0.0
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return {}, float(number)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _scale(_walk(inner, text), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _walk(inner, text)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _add(_walk(left, text), _walk(right, text))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _add(_walk(left, text), _scale(_walk(right, text), -1.0))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            a, b = _walk(left, text), _walk(right, text)
            if a[0] and b[0]:
                raise _mistake(text, _column(text, right), "multiplies two checkpoints")
            return _scale(b, a[1]) if not a[0] else _scale(a, b[1])
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            a, b = _walk(left, text), _walk(right, text)
            if b[0] or b[1] == 0:
                raise _mistake(text, _column(text, right), "divides by a checkpoint or by zero")
            return _scale(a, 1 / b[1])
    raise _mistake(text, _column(text, node), f"{type(node).__name__} has no meaning for checkpoints")


def _scale(value: Partial, factor: float) -> Partial:
    return {name: coefficient * factor for name, coefficient in value[0].items()}, value[1] * factor


def _add(a: Partial, b: Partial) -> Partial:
    names = dict(a[0])
    for name, coefficient in b[0].items():
        names[name] = names.get(name, 0.0) + coefficient
    return names, a[1] + b[1]


def _column(text: str, node: ast.expr) -> int:
    # ast counts UTF-8 bytes, the caret stands under a character.
    return len(text.encode()[: node.col_offset].decode(errors="ignore"))


def _mistake(text: str, column: int, said: str) -> UsageError:
    return UsageError(f"expression {text!r}", said, f"  {text}\n    {' ' * max(column, 0)}^")
