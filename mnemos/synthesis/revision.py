"""New rows that were criticised and revised by a written principle (arXiv:2212.08073)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from mnemos.core.nouns import Example, Generation
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import SynthesisContext
from mnemos.synthesis.self_generated import Replacement, SelfGenerated, answered, answers_to, betrays, instructed, most

CRITIQUE = (
    "Question:\n{question}\n\nAnswer:\n{draft}\n\nAnswers to it are compared by this principle: {principle}\n\n"
    "Say in a few sentences how the answer above falls short by this principle. Give the critique only."
)
REVISION = (
    "Question:\n{question}\n\nAnswer:\n{draft}\n\nCritique of the answer:\n{critique}\n\n"
    "Rewrite the answer so that the critique no longer applies. Give the new answer only."
)

BETRAYALS = ("critique", "revised answer", "new answer:", "the answer above", "previous answer", "this principle")
"""What betrays that a revision speaks of the instruction instead of following it."""


@dataclass(frozen=True)
class Revised(SelfGenerated):
    """The model's own answer, criticised by a principle and revised, `rounds` times.

    editor: who criticises and revises. principles: of which each round draws one, by `seed`, row and
    round. A revision with a fault is not used: the round leaves the text as it was.
    """

    editor: ModelHandle = field(kw_only=True)
    principles: tuple[str, ...] = field(kw_only=True)
    rounds: int = field(kw_only=True)
    seed: int = field(kw_only=True)

    wanted = "revised answers"
    cure = (
        "an answer without a revision that stands is not learned. A larger editor follows such instructions better; "
        "more max_new_tokens let it come to an end"
    )

    @property
    def rule(self) -> str:
        """In words."""
        who = "the model before" if self.editor == self.before else self.editor.path
        return f"with own answers that {who} revised in {self.rounds} rounds"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """The last revision that stands, for each row that has one."""
        first = answers_to(context.model(self.before), [row.prompt for row in rows], self.decoding)
        drafts = [one.text.strip() for one in first]
        revised = [0] * len(rows)
        faults: list[list[str]] = [[] for _ in rows]
        for number in range(self.rounds):
            # By row and round, not in turn: the principle of a row does not depend on which other rows there are.
            drawn = [{"principle": self.principle(row, number)} for row in rows]
            critiques = self._said(context, rows, CRITIQUE, drafts, drawn)
            text = [{"critique": one.text.strip()} for one in critiques]
            revisions = self._said(context, rows, REVISION, drafts, text)
            for i, fault in enumerate(self._faults(context, rows, critiques, revisions)):
                if fault is not None:
                    faults[i].append(fault)
                else:
                    # Only a revision that stands is what the next round criticises.
                    drafts[i] = revisions[i].text.strip()
                    revised[i] += 1
        context.note("revisions that stand, of all rounds", sum(revised) / (self.rounds * len(rows)) if rows else 0.0)
        return [
            (answered(row, draft), "revised") if count else (None, f"no revision, mostly {most(wrong)}")
            for row, draft, count, wrong in zip(rows, drafts, revised, faults, strict=True)
        ]

    def principle(self, row: Example, number: int) -> str:
        """By which a row is criticised in one round."""
        return random.Random(f"{self.seed} {row.id} {number}").choice(self.principles)

    def _said(
        self,
        context: SynthesisContext,
        rows: Sequence[Example],
        template: str,
        drafts: Sequence[str],
        parts: Sequence[dict[str, str]],
    ) -> list[Generation]:
        asked = [
            instructed(row, template, draft=draft, **part) for row, draft, part in zip(rows, drafts, parts, strict=True)
        ]
        return answers_to(context.model(self.editor), asked, self.decoding)

    def _faults(
        self,
        context: SynthesisContext,
        rows: Sequence[Example],
        critiques: Sequence[Generation],
        revisions: Sequence[Generation],
    ) -> list[str | None]:
        """Why each revision is refused; None where it may stand."""
        found = self.check.faults(context, rows, revisions)
        for i, (critique, revision) in enumerate(zip(critiques, revisions, strict=True)):
            # Before other faults: what answers an empty critique is a second draft, not a revision.
            if not critique.text.strip():
                found[i] = "empty critique"
            elif found[i] is None and betrays(revision.text, rows[i], BETRAYALS):
                found[i] = "speaks of the instruction"
        return found
