"""Verifiers that run what a model wrote: programs against their tests, SQL against a database.

Both go through `sandbox.box`, many at a time. They are beside `verify.VERIFIERS`, which compare texts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnemos.core.cache import unpacked
from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards import fences
from mnemos.rewards.sandbox.box import Code, Outcome, Query, Sandbox, shared
from mnemos.rewards.sandbox.programs import PLACE as PLACE
from mnemos.rewards.verifiers import LONGEST, VERIFIERS

CHECKS = ("code", "sql")
"""Names of these verifiers in `match:` and `verifier:`."""

MOST_FENCES = 50
"""Fences of an answer that are tried."""
PYTHON, SQL = ("python", "python3", "py", "py3"), ("sql", "sqlite", "sqlite3")
"""Languages of Markdown fences in which an answer may stand."""

if TYPE_CHECKING:
    MatchName = str
else:
    MatchName = Literal[(*VERIFIERS, *CHECKS)]
"""A name of any verifier, for settings."""


@dataclass(frozen=True)
class Trial:
    """What came of a reference before any answer. fault: why no answer can meet it, in words that add up; None where
    one could. empty_passes: whether an answer without a word would."""

    fault: str | None = None
    empty_passes: bool = False


def scores(
    name: str,
    answers: Sequence[str],
    references: Sequence[str],
    database: str | None = None,
    solutions: Sequence[str | None] | None = None,
) -> list[Rewarded]:
    """1 for each answer that passes, 0 for one that does not; missing where the check itself is at fault.

    name: code, where a reference is a Python program of tests (see `sandbox.box.Code`), or sql, where it is the right
    query and `database` the sqlite file (.gz too) that both are run on. solutions: known right answers, for code; a
    reference that does not accept its own is at fault. Raises UsageError without a database, or where this machine
    gives no sandbox.
    """
    known = solutions or [None] * len(references)
    # Tests that are at fault by themselves say so beside each answer; what only a trial shows is tried once.
    # Many answers share one reference, and each pair is tried once.
    tried = dict.fromkeys(zip(references, known, strict=True)) if name == "sql" or solutions else {}
    faults = dict(zip(tried, trials(name, [r for r, _ in tried], database, [s for _, s in tried]), strict=True))
    rows = list(zip(answers, references, known, strict=True))
    lost = [_too_long(answer) or faults.get((reference, one), Trial()).fault for answer, reference, one in rows]
    made = [_check(name, *row[:2], database) for row, fault in zip(rows, lost, strict=True) if fault is None]
    # `made` leaves out what is lost, so that only the others take an outcome.
    found = iter(_box(database).run(made))
    return [_rewarded(next(found)) if fault is None else missing(fault) for fault in lost]


def _too_long(answer: str) -> str | None:
    return f"an answer of more than {LONGEST:,} characters" if len(answer) > LONGEST else None


_TRIED: dict[str, Trial] = {}


def trials(
    name: str,
    references: Sequence[str],
    database: str | None = None,
    solutions: Sequence[str | None] | None = None,
) -> list[Trial]:
    """Try each reference before an answer is there: by itself, and on its solution where there is one; once in this
    process. A right query is run as its own answer. Raises what `scores` raises."""
    file = None if database is None else file_fingerprint(database)
    known = solutions or [None] * len(references)
    keys = [fingerprint([name, reference, one, file]) for reference, one in zip(references, known, strict=True)]
    todo = {key: i for i, key in enumerate(keys) if key not in _TRIED}
    # Tests run beside an empty answer, a query as its own answer: what then fails is at fault by itself.
    alone = [_check(name, references[i] if name == "sql" else "", references[i], database) for i in todo.values()]
    shown = [(key, _check(name, one, references[i], database)) for key, i in todo.items() if (one := known[i])]
    outcomes = _box(database).run([*alone, *(check for _, check in shown)]) if todo else []
    solved = dict(zip([key for key, _ in shown], outcomes[len(alone) :], strict=True))
    made = {key: _trial(name, one, solved.get(key)) for key, one in zip(todo, outcomes, strict=False)}
    # What could not be told is not kept, so that a busy machine is asked again.
    _TRIED.update({key: trial for key, trial in made.items() if trial is not None})
    return [_TRIED.get(key) or made.get(key) or Trial() for key in keys]


def _trial(name: str, alone: Outcome, solved: Outcome | None) -> Trial | None:
    """None where it cannot be told, and may be tried again."""
    for one in (alone, *([solved] if solved else [])):
        if one.status in _DOUBT:
            return None
        if one.status == "bad reference":
            return Trial(_reason(one))
    # A query has no tests that could be tried apart: that it runs at all is all that can be known of it.
    if name == "sql":
        return Trial(None if alone.status == "passed" else f"the reference query is {alone.detail or alone.status}")
    if alone.status in ("time", "memory", "output"):
        return Trial(f"the tests alone are over the limit of {alone.status}")
    if solved is not None and solved.status != "passed":
        return Trial("the tests do not accept the known solution")
    return Trial(None, empty_passes=alone.status == "passed")


def _box(database: str | None) -> Sandbox:
    return shared() if database is None else shared((_plain(database),))


def _plain(database: str) -> str:
    """The database as SQLite opens it: unpacked, where it is compressed."""
    return str(unpacked(database, ".sqlite"))


def _check(name: str, answer: str, reference: str, database: str | None) -> Code | Query:
    if name == "code":
        return _program(answer, reference)
    if database is None:
        raise UsageError("verifier sql", "needs a database", "database: path of a sqlite file")
    return _query(database, answer, reference)


def _program(answer: str, reference: str) -> Code:
    first, *others = candidates(answer, PYTHON)
    return Code(first, reference, tuple(others))


def _query(database: str, answer: str, reference: str) -> Query:
    first, *others = (one.strip().rstrip(";") for one in candidates(answer, SQL))
    return Query(_plain(database), reference, first, tuple(others))


def candidates(answer: str, languages: Collection[str]) -> list[str]:
    """What may be meant by the answer, in the order in which it is tried: all of it; the Markdown fences in it, those
    of the language first; what stands before the first one, which may only be the end of one that the prompt began."""
    found = [*fences.ranked(answer, languages)[:MOST_FENCES], fences.before(answer)]
    return [answer, *dict.fromkeys(one for one in found if one.strip() and one != answer)]


_DOUBT = ("busy", "broken")
"""Outcomes that say nothing about an answer, nor about its reference."""
LONGEST_NOTE = 200


def _rewarded(outcome: Outcome) -> Rewarded:
    if outcome.status in (*_DOUBT, "bad reference"):
        return missing(_reason(outcome))
    if outcome.status == "passed":
        return Rewarded(1.0)
    return Rewarded(0.0, note=f"{outcome.status}: {outcome.detail}"[:LONGEST_NOTE])


def _reason(outcome: Outcome) -> str:
    return "the sandbox failed" if outcome.status == "broken" else outcome.detail.partition(": ")[0]


def check_reference(reference: str, *, where: str) -> None:
    """Raise DataError for a reference that every answer would meet: an empty one."""
    if not reference.strip():
        raise DataError(f"{where}: answer {reference!r}", "is empty", "give the tests, or the right query")
