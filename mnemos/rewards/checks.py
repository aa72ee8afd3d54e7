"""Verifiers that run what a model wrote: programs against their tests, SQL against a database.

Both go through `sandbox.box`, many at a time. They are beside `verify.VERIFIERS`, which compare texts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards import fences
from mnemos.rewards.sandbox.box import Code, Outcome, Query, shared
from mnemos.rewards.sandbox.programs import PLACE as PLACE
from mnemos.rewards.verifiers import VERIFIERS

CHECKS = ("code", "sql")
"""Names of these verifiers in `match:` and `verifier:`."""

PYTHON, SQL = ("python", "python3", "py", "py3"), ("sql", "sqlite", "sqlite3")
"""Languages of Markdown fences in which an answer may stand."""

if TYPE_CHECKING:
    MatchName = str
else:
    MatchName = Literal[(*VERIFIERS, *CHECKS)]
"""A name of any verifier, for settings."""


def scores(name: str, answers: Sequence[str], references: Sequence[str], database: str | None = None) -> list[Rewarded]:
    """1 for each answer that passes, 0 for one that does not; missing where the check itself is at fault.

    name: code, where a reference is a Python program of tests (see `sandbox.box.Code`), or sql, where it is the right
    query and `database` the sqlite file that both are run on. Raises UsageError without a database, or
    where this machine gives no sandbox.
    """
    if name == "code":
        programs = [_program(answer, one) for answer, one in zip(answers, references, strict=True)]
        return [_rewarded(one) for one in shared().run(programs)]
    if database is None:
        raise UsageError("verifier sql", "needs a database", "database: path of a sqlite file")
    queries = [_query(database, answer, one) for answer, one in zip(answers, references, strict=True)]
    return [_rewarded(one) for one in shared((database,)).run(queries)]


def _program(answer: str, reference: str) -> Code:
    first, *others = candidates(answer, PYTHON)
    return Code(first, reference, tuple(others))


def _query(database: str, answer: str, reference: str) -> Query:
    first, *others = (one.strip().rstrip(";") for one in candidates(answer, SQL))
    return Query(database, reference, first, tuple(others))


def candidates(answer: str, languages: Collection[str]) -> list[str]:
    """What may be meant by the answer, in the order in which it is tried: all of it; the Markdown fences in it, those
    of the language first; what stands before the first one, which may only be the end of one that the prompt began."""
    found = [answer, *fences.ranked(answer, languages), fences.before(answer)]
    return [answer, *dict.fromkeys(one for one in found[1:] if one.strip() and one != answer)]


def _rewarded(outcome: Outcome) -> Rewarded:
    if outcome.status == "bad reference":
        return missing(outcome.detail.partition(": ")[0])
    if outcome.status == "busy":
        return missing("the machine was busy")
    if outcome.status == "broken":
        return missing("the sandbox failed")
    return Rewarded(float(outcome.status == "passed"))


def check_reference(reference: str, *, where: str) -> None:
    """Raise DataError for a reference that every answer would meet: an empty one."""
    if not reference.strip():
        raise DataError(f"{where}: answer {reference!r}", "is empty", "give the tests, or the right query")
