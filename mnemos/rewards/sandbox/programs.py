"""A program with its tests: its parts are compiled apart and run one after another in one namespace.

Apart, so that nothing in an answer can swallow a line of its tests (`if False:\\` at its end did), and so that each
part may begin with `from __future__`. What is no fault of the answer is found before the answer runs: tests that do
not compile or import what is not here, lines before the answer that fail.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import contextlib
import io
import linecache
import marshal
import re
import sys
import types
import unittest
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLACE = "# ANSWER"
"""A line of a reference that stands for the answer; without one, the answer comes before the reference."""

_LINE = re.compile(r"\r\n?|\n")
_FUTURE = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})
_RUN: Any = exec
_MAYBE = (ast.If, ast.IfExp, ast.Try, ast.TryStar, ast.Match, ast.With, ast.AsyncWith)
"""Whose contents may not run, or may fail unnoticed."""


class BadTests(Exception):  # noqa: N818 - reads as what it says
    """Tests that no answer can meet: a reason in a few words, and more behind a colon."""


@dataclass(frozen=True)
class Frame:
    """One way in which an answer can stand in its reference: by itself, or within a statement that begins before it
    or ends behind it. before: whole statements in front. opening, rest: of the statement around it. tests: what comes
    behind. flags: of `from __future__` in front."""

    before: types.CodeType
    opening: str
    rest: str
    tests: types.CodeType
    flags: int


def code(job: dict[str, Any]) -> bytes:
    """Run a program and its tests as a module called __main__; what came of it: a word and, behind a space, details.

    passed is said only when the last line of the tests has run: leaving early (exit, os._exit) is no way to it.
    Nothing that the answer could change is used once it runs: not json, not the builtins, not the streams.
    """
    try:
        ready = _prepared(job)
    except BadTests as error:
        return f"tests {error}"[:500].encode(errors="replace")
    except MemoryError:
        return b"memory"
    except BaseException as error:
        return b"failed " + _words(error)
    streams, names = [sys.stdout, sys.stderr], sys.modules["__main__"].__dict__
    try:
        # Evaluated from left to right: while the answer runs, its tests lie on the stack of this frame, as bytes, where
        # Python's means of looking into frames and at the collector's objects do not find them.
        _test(ready.pop("tests"), names, dict(vars(builtins)), (_RUN, marshal.loads), _RUN(ready.pop("answer"), names))
    except MemoryError:
        return b"memory"
    except BaseException as error:
        return b"failed " + _words(error)
    finally:
        for name in ("stdout", "stderr"):
            streams.append(vars(sys).get(name))
        for stream in streams:
            with contextlib.suppress(BaseException):
                stream.flush()
    return b"passed"


def _prepared(job: dict[str, Any]) -> dict[str, Any]:
    """The answer and its tests, ready to run, in a module __main__ where everything before the answer has run. The
    job is emptied: it can be seen from within the answer."""
    answers, reference = [job.pop("answer"), *job.pop("others")], job.pop("reference")
    job.clear()
    frames, tree = frames_of(reference)
    # Tests that make modules, or places to look for them, know what they do.
    imports = [] if "sys.modules" in reference or "sys.path" in reference else list(_imports(tree, _named(tree)))
    try:
        source, made, frame = chosen(answers, frames, _named(tree) - _made(tree) - set(vars(builtins)))
    except Exception:
        # None of it compiles; but that says nothing where no answer could do better.
        _begin(frames[0], imports)
        raise
    _begin(frame, imports)
    linecache.cache["<answer>"] = (len(source), None, source.splitlines(keepends=True), "<answer>")
    return {"answer": made, "tests": marshal.dumps(frame.tests)}


def _begin(frame: Frame, imports: Sequence[ast.Import | ast.ImportFrom]) -> None:
    """Run what stands before the answer, in a new module __main__, and try what the tests import, before an answer
    could spoil it. Raises BadTests for what fails: it would fail beside every answer."""
    names = _main_module()
    try:
        exec(frame.before, names)
    except ImportError as error:
        raise _lacking(error, "a module") from None
    except BaseException as error:
        raise BadTests(f"the lines before the answer fail: {_words(error).decode(errors='replace')}") from None
    for node in imports:
        module = node.names[0].name if isinstance(node, ast.Import) else node.module
        if module in ("__main__", "__future__") or getattr(node, "level", None):
            continue
        try:
            exec(_compiled(ast.unparse(node), "<tests>", 0), {"__name__": "__main__"})
        except Exception as error:
            raise _lacking(error, str(module)) from None


def _lacking(error: Exception, module: str) -> BadTests:
    return BadTests(f"the tests import {getattr(error, 'name', None) or module}, which the sandbox lacks: {error}")


def chosen(answers: Sequence[str], frames: Sequence[Frame], wanted: set[str]) -> tuple[str, types.CodeType, Frame]:
    """The first of the texts that compiles, in the first frame in which it does, and makes a name that the tests
    want; where none makes one, the first that compiles. Raises what compiling the first text raises."""
    fitting, fault = [], None
    for answer in answers:
        for frame in frames:
            source = frame.opening + answer + frame.rest
            try:
                fitting.append((source, _compiled(source, "<answer>", frame.flags), frame))
            except Exception as error:
                fault = fault or error
                continue
            if not wanted or wanted & _made(ast.parse(source)):
                return fitting[-1]
            break
    if not fitting:
        raise fault or ValueError("no text")
    return fitting[0]


def _main_module() -> dict[str, Any]:
    """The names of a new module __main__, so that unittest, pickle and dataclasses find what is defined in it."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv[:] = ["answer.py"]
    return module.__dict__


def _test(tests: bytes, names: dict[str, Any], kept: Mapping[str, Any], means: tuple[Any, Any], _: None) -> None:
    """Run the tests, after mending what the answer may have changed under them: the builtins, tracing, standard
    streams that are gone."""
    vars(builtins).update(kept)
    names["__builtins__"] = builtins
    sys.settrace(None)
    sys.setprofile(None)
    for name, number in (("stdout", 1), ("stderr", 2)):
        with contextlib.suppress(Exception):
            stream = vars(sys).get(name)
            if stream is None or stream.closed:
                setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "backslashreplace"))
    unittest.main = _unittest_main  # type: ignore[assignment]
    run, load = means
    run(load(tests), names)


_TestProgram = unittest.TestProgram


def _unittest_main(*arguments: Any, **more: Any) -> Any:
    """unittest.main, which ends the program: here it fails where a test does, and goes on where none does."""
    leaves = more.pop("exit", True)
    found = _TestProgram(*arguments, **{**more, "exit": False})
    if leaves and (found.result is None or not found.result.wasSuccessful() or not found.result.testsRun):
        raise AssertionError(f"unittest: {found.result}")
    return found


def _words(error: BaseException) -> bytes:
    """The error in words. It may be one of the answer's own, which fails when it is asked."""
    try:
        return f"{type(error).__name__}: {error}"[:500].encode(errors="replace")
    except BaseException:
        return b"an exception"


# the parts --------------------------------------------------------------------------------------


def frames_of(reference: str) -> tuple[list[Frame], ast.Module]:
    """The ways in which an answer can stand in the reference, by itself first; and the reference with nothing of
    account in its place. Raises BadTests for one that does not compile."""
    lines = _LINE.split(reference)
    at = next((number for number, line in enumerate(lines) if line.strip() == PLACE), None)
    head, tail = ([], lines) if at is None else (lines[:at], lines[at + 1 :])
    places = _places(head, tail, "" if at is None else _indent(lines[at]))
    frames: dict[tuple[int, int], Frame] = {}
    for _, opens, ends in places:
        if (opens, ends) in frames:
            continue
        before = _compiled_tests("\n".join(head[:opens]), 0)
        # `from __future__` in front holds for the answer and its tests, too, as it would in one file.
        flags = before.co_flags & _FUTURE
        # Empty lines in front, so that an error names the line of the reference.
        behind = "\n" * (len(lines) - len(tail) + ends) + "\n".join(tail[ends:])
        opening = "".join(f"{line}\n" for line in head[opens:])
        rest = "".join(f"\n{line}" for line in tail[:ends])
        frames[opens, ends] = Frame(before, opening, rest, _compiled_tests(behind, flags), flags)
    return list(frames.values()), places[0][0]


def _places(head: Sequence[str], tail: Sequence[str], indent: str) -> list[tuple[ast.Module, int, int]]:
    """The reference with something in the answer's place, at every depth where that compiles; with it, the line of
    `head` where the statement begins that the place is in, and the line of `tail` where it has ended."""
    last = next((line for line in reversed(head) if line.strip()), "")
    first = next((line for line in tail if line.strip()), "")
    inner = _indent(last) + "    " * last.rstrip().endswith(":")
    found: list[tuple[ast.Module, int, int]] = []
    fault: Exception | None = None
    # A stand-in, the expression 0, at each depth at which an answer may begin: flush left, as deep as the mark, as
    # deep as the line before or behind wants it.
    for guess in dict.fromkeys(("", indent, inner, _indent(first))):
        try:
            tree = ast.parse("\n".join([*head, f"{guess}0", *tail]), "<tests>")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            fault = fault or error
            continue
        place = len(head) + 1
        within = next(one for one in tree.body if _first_line(one) <= place <= (one.end_lineno or 0))
        found.append((tree, _first_line(within) - 1, (within.end_lineno or 0) - place))
    if not found:
        raise BadTests(f"the tests do not compile: {fault}")
    return found


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _compiled(text: str, name: str, flags: int) -> types.CodeType:
    made: types.CodeType = compile(text, name, "exec", flags, dont_inherit=True)
    return made


def _compiled_tests(text: str, flags: int) -> types.CodeType:
    try:
        return _compiled(text, "<tests>", flags)
    except Exception as error:
        raise BadTests(f"the tests do not compile: {error}") from None


def _imports(node: ast.AST, called: set[str]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run whatever the answer is: not behind a condition, not where their failure is caught, not in
    functions that are never named again."""
    for child in ast.iter_child_nodes(node):
        uncalled = isinstance(node, ast.Module) and isinstance(child, ast.FunctionDef) and child.name not in called
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not uncalled and not isinstance(child, _MAYBE):
            yield from _imports(child, called)


def _named(tree: ast.Module) -> set[str]:
    """Names that are used anywhere in it."""
    return {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def _made(tree: ast.AST) -> set[str]:
    """Names that are bound anywhere in it."""
    found: set[str] = set()
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(one.name)
        elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            found.add(one.id)
        elif isinstance(one, ast.alias):
            found.add((one.asname or one.name).split(".")[0])
        elif isinstance(one, ast.arg):
            found.add(one.arg)
        elif isinstance(one, ast.ExceptHandler) and one.name:
            found.add(one.name)
    return found
