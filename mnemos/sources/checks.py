"""Verifiers that run what a model wrote: programs against their tests, SQL against a database.

Both go through `sandbox.box`, many at a time. They are beside `verify.VERIFIERS`, which compare texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.reward import Rewarded, missing
from mnemos.sources.sandbox.box import Code, Outcome, Query, shared
from mnemos.sources.verify import VERIFIERS

CHECKS = ("code", "sql")
"""Names of these verifiers in `match:` and `verifier:`."""

if TYPE_CHECKING:
    MatchName = str
else:
    MatchName = Literal[(*VERIFIERS, *CHECKS)]
"""A name of any verifier, for settings."""

PLACE = "# ANSWER"
"""A line of a reference that stands for the answer; without one, the reference follows the answer."""

_FENCED = re.compile(r"```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def program(answer: str, reference: str) -> str:
    """The program to run: the reference (imports, tests) with the answer's code at its `PLACE`, else
    behind the answer's code."""
    lines = reference.split("\n")
    if PLACE not in lines:
        return f"{unfenced(answer)}\n{reference}\n"
    at = lines.index(PLACE)
    return "\n".join([*lines[:at], unfenced(answer), *lines[at + 1 :]]) + "\n"


def unfenced(answer: str) -> str:
    """The contents of the last Markdown fence in the answer; the whole answer where there is none."""
    blocks = _FENCED.findall(answer)
    return str(blocks[-1]) if blocks else answer


def scores(name: str, answers: Sequence[str], references: Sequence[str], database: str | None = None) -> list[Rewarded]:
    """1 for each answer that passes, 0 for one that does not; missing where the check itself is at fault.

    name: code, where a reference is a Python program (see `program`), or sql, where it is the right
    query and `database` the sqlite file that both are run on. Raises UsageError without a database, or
    where this machine gives no sandbox.
    """
    if name == "code":
        programs = [program(answer, one) for answer, one in zip(answers, references, strict=True)]
        return [_rewarded(one) for one in shared().run([Code(text) for text in programs])]
    if database is None:
        raise UsageError("verifier sql", "needs a database", "database: path of a sqlite file")
    queries = [
        Query(database, one, unfenced(answer).strip().rstrip(";"))
        for answer, one in zip(answers, references, strict=True)
    ]
    return [_rewarded(one) for one in shared((database,)).run(queries)]


def _rewarded(outcome: Outcome) -> Rewarded:
    if outcome.status == "bad reference":
        return missing("the reference query fails")
    if outcome.status == "broken":
        return missing("the sandbox failed")
    return Rewarded(float(outcome.status == "passed"))


def check_reference(reference: str, *, where: str) -> None:
    """Raise DataError for a reference that every answer would meet: an empty one."""
    if not reference.strip():
        raise DataError(f"{where}: answer {reference!r}", "is empty", "give the tests, or the right query")
