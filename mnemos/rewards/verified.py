"""Verifiers as rewards: does the answer say what the row's reference says?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.nouns import Example, Prompt
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards import checks
from mnemos.rewards import verifiers as verify


def reference_of(row: Example, column: str | None) -> str:
    """What a verifier compares an answer to the row with: a column of it, or the gold answer.

    Raises DataError where the row lacks the column.
    """
    if column is None:
        return row.turns[-1].text
    if column not in row.meta:
        there = ", ".join(sorted(row.meta)) or "none"
        raise DataError(f"row {row.id!r}", f"has no column {column!r}", f"its other columns: {there}")
    return str(row.meta[column])


@dataclass(frozen=True)
class Verified:
    """A verifier's score in [0, 1].

    verifier: a name of `verify.VERIFIERS` or `checks.CHECKS`. reference: the column that holds what the
    answer is compared with; None takes the gold answer. database: sqlite file, for sql. A reference that
    no answer could meet, a gold answer with a thumb down or that is a call of a tool, and a verifier that
    fails on an answer give a missing reward.
    """

    verifier: str
    reference: str | None = None
    database: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of the settings and the database's content."""
        content = None if self.database is None else file_fingerprint(self.database)
        settings = {"verifier": self.verifier, "reference": self.reference, "database": content}
        return fingerprint({"is": "Verified", **settings})

    def describe(self) -> str:
        """Which comparison."""
        return f"{self.verifier} against {'the gold answer' if self.reference is None else self.reference}"

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        """One score an answer."""
        references = [reference_of(row, self.reference) for row in examples]
        if self.verifier in checks.CHECKS:
            found = checks.scores(self.verifier, answers, references, self.database)
        else:
            found = [self._one(answer, one) for answer, one in zip(answers, references, strict=True)]
        if self.reference is not None:
            return found
        # Only where the gold answer itself was the reference: another column is not touched by its thumb.
        return [_no_gold(row) or one for one, row in zip(found, examples, strict=True)]

    def _one(self, answer: str, reference: str) -> Rewarded:
        try:
            verify.check_reference(self.verifier, reference, where="reference")
        except DataError:
            # Not 0: no answer could have done better, and a zero would teach that this one was wrong.
            return missing("a reference that no answer could meet")
        return verify.score(self.verifier, answer, reference)


def _no_gold(row: Example) -> Rewarded | None:
    """Why an answer cannot be compared with the row's own; None where it can."""
    if row.label is False:
        return missing("the gold answer has a thumb down")
    return None if row.turns[-1].is_plain else missing("the gold answer is a call of a tool, or has reasoning")


@dataclass(frozen=True)
class MeetsSchema:
    """1 where the whole answer is JSON that satisfies a schema, else 0. schema: a JSON schema."""

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        verify.check_schema(self.schema, where="reward")

    @property
    def fingerprint(self) -> str:
        """Of the schema."""
        return fingerprint({"is": "MeetsSchema", "schema": self.schema})

    def describe(self) -> str:
        """What it asks."""
        return "JSON that satisfies a schema"

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        """One score an answer."""
        return [verify.schema_score(answer, self.schema) for answer in answers]
