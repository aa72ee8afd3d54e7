"""Instructions that a model makes harder or rarer, round by round (Evol-Instruct, arXiv:2304.12244)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnemos.core.nouns import Decoding, Example, Generation
from mnemos.sources.dedup import Exact
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.words import bare_words
from mnemos.synthesis.instructions import MadeInstructions, asked_as, like, single
from mnemos.synthesis.self_generated import answers_to
from mnemos.synthesis.writers import Tally, answered

ORIGIN = "new, evolved"

_IN_DEPTH = """\
Rewrite the given instruction so that it is somewhat harder for an AI system. {how} The rewritten instruction must make
sense, and a person must be able to understand it and to answer it. Keep all of it that is not plain text, such as
tables and code, and keep its input. Add 10 to 20 words at most. Do not answer it. Reply with the rewritten instruction
alone, without the words "given instruction" or "rewritten instruction".

#Given instruction#:
{instruction}

#Rewritten instruction#:
"""
_IN_BREADTH = """\
Take the given instruction as inspiration for a brand new one of the same field that is even rarer. It must be of about
the same length and difficulty, it must make sense, and a person must be able to understand it and to answer it. Do not
answer it. Reply with the new instruction alone, without the words "given instruction" or "created instruction".

#Given instruction#:
{instruction}

#Created instruction#:
"""
_HOW = {
    "constraint": "Add one more constraint or requirement to it.",
    "deepen": "If it asks about an issue, ask more deeply and more broadly.",
    "concretise": "Put more specific concepts in the place of general ones.",
    "reasoning": "If a few simple thoughts answer it, ask explicitly for several steps of reasoning.",
    "complicate_input": "Give it a more complicated input, such as a table, code, a formula or data to work on.",
}
PROMPTS: Mapping[str, str] = {
    **{name: _IN_DEPTH.replace("{how}", how) for name, how in _HOW.items()},
    "breadth": _IN_BREADTH,
}
"""The six operations, five in depth and one in breadth."""

NO_GAIN = """\
Here are two instructions to an AI system:

First: {parent}

Second: {instruction}

Do they have the same constraints and requirements, and ask as deeply and as broadly? Reply with equal or different.
"""
BETRAYALS = (
    "given instruction",
    "rewritten instruction",
    "created instruction",
    "given prompt",
    "rewritten prompt",
    "created prompt",
)
"""What betrays that an instruction was copied from the prompt that asked for it."""

SORRY_WORDS = 80
"""Words below which an answer with "sorry" is taken for one that gives up."""

_EMPTY = """
a about above after again all am an and any are as at be because been before being below between both but by can did do
does doing down during each few for from further had has have having he her here him his how i if in into is it its just
me more most my no nor not now of off on once only or other our out over own same she should so some such than that the
their them then there these they this those through to too under until up very was we were what when where which while
who whom why will with you your
"""
EMPTY_WORDS = frozenset(_EMPTY.split())
"""English words that say nothing by themselves."""


@dataclass(frozen=True)
class Evolving:
    """Settings of the evolution; see the method."""

    rounds: int
    operations: tuple[str, ...]
    temperature: float
    top_p: float
    max_instruction_tokens: int
    max_answer_tokens: int
    judge_gain: bool
    min_acceptance: float
    seed: int


@dataclass(frozen=True)
class EvolvedRows(MadeInstructions):
    """What the seeds became, of every round; seeds are no part of it.

    A row's columns are its lineage: `parent` (the id of the row that it was made of), `root` (of the seed), `round`
    (from 1) and `operation`.
    """

    evolving: Evolving

    def describe(self) -> str:
        """One line for people."""
        return f"{self.seeds.describe()} evolved by {self.author.path} in {self.evolving.rounds} rounds"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Rounds of rewriting, answering and elimination; what is eliminated leaves its parent for the next round.
        Raises DataError, with counts by reason, where too few evolve."""
        given, tally = self.evolving, Tally(context)
        everything = context.rows(self.seeds)
        parents = single(everything)
        if len(parents) < len(everything):
            context.count("not evolved: no new row of one question and one answer", len(everything) - len(parents))
        exact = Exact()
        for row in parents:
            exact.repeats(row.turns[-2].text)
        done: list[Example] = []
        wanted = len(parents) * given.rounds
        for number in range(1, given.rounds + 1):
            children = self._evolved(context, tally, parents, number, exact)
            done += children.values()
            # A parent whose child was eliminated is tried again, by the operation of that round.
            parents = [children.get(row.id, row) for row in parents]
        context.note("share of all rewrites that stand", len(done) / wanted if wanted else 0.0)
        cure = "a larger evol_instruct.author follows such prompts better; min_acceptance: 0 takes what there is"
        return tally.keep(done, max(1, wanted), given.min_acceptance, what="evolved rows", cure=cure)

    def operation(self, row: Example, number: int) -> str:
        """By which a row is evolved in one round: by its root and round, whatever other rows there are."""
        root = row.meta.get("root", row.id) if row.origin == ORIGIN else row.id
        return random.Random(f"evol {self.evolving.seed} {root} {number}").choice(self.evolving.operations)

    def _evolved(
        self, context: SynthesisContext, tally: Tally, parents: Sequence[Example], number: int, exact: Exact
    ) -> dict[str, Example]:
        """The child that stands, by its parent's id."""
        given, model = self.evolving, context.model(self.author)
        operations = [self.operation(row, number) for row in parents]
        asked = [
            asked_as(PROMPTS[name].replace("{instruction}", row.turns[-2].text), raw=False)
            for row, name in zip(parents, operations, strict=True)
        ]
        decoding = Decoding(given.max_instruction_tokens, given.temperature, given.top_p, seed=given.seed + number)
        children: list[tuple[Example, Example]] = []
        for row, name, one in zip(parents, operations, answers_to(model, asked, decoding), strict=True):
            child = _child(row, one.text.strip(), number, name)
            reason = _fault(row, one) or self.leak(child)
            if reason is None and exact.repeats(child.turns[-2].text):
                reason = "an instruction that was there before"
            if reason is not None:
                tally.drop(f"{name}: {reason}")
            else:
                children.append((row, child))
        children = self._gained(context, tally, children)
        # The author answers: an instruction that it cannot answer is one that nobody learns from.
        there = {row.id: row for row in answered(tally, self.author, [c for _, c in children], given.max_answer_tokens)}
        out = {}
        for row, child in children:
            kept = there.get(child.id)
            if kept is None:
                continue
            reason = gives_up(kept.turns[-1].text) or self.leak(kept)
            if reason is not None:
                tally.drop(reason)
                continue
            context.count(f"evolved: {kept.meta['operation']}")
            out[row.id] = kept
        return out

    def _gained(
        self, context: SynthesisContext, tally: Tally, pairs: Sequence[tuple[Example, Example]]
    ) -> list[tuple[Example, Example]]:
        """The pairs whose instructions the author calls different."""
        if not self.evolving.judge_gain:
            return list(pairs)
        asked = [
            asked_as(_filled(NO_GAIN, parent=row.turns[-2].text, instruction=child.turns[-2].text), raw=False)
            for row, child in pairs
        ]
        out = []
        verdicts = answers_to(context.model(self.author), asked, Decoding(8))
        for pair, verdict in zip(pairs, verdicts, strict=True):
            word = bare_words(verdict.text)[:1]
            if word == ["different"]:
                out.append(pair)
            else:
                tally.drop("no gain by the author's own word" if word == ["equal"] else "neither equal nor different")
        return out


def _filled(template: str, **parts: str) -> str:
    """The template with its fields, in one pass: braces in what is filled in stay text."""
    return re.sub(r"\{(\w+)\}", lambda met: parts[met[1]], template)


def _child(parent: Example, instruction: str, number: int, operation: str) -> Example:
    evolved = parent.origin == ORIGIN
    root = str(parent.meta["root"]) if evolved else parent.id
    lineage = {"parent": parent.id, "root": root, "round": number, "operation": operation}
    # Its answer is written later; the parent's would be that of another question.
    return like(parent, f"{root}/evolved-{number}", instruction, "", ORIGIN, **lineage)


def _fault(parent: Example, one: Generation) -> str | None:
    text = one.text.strip()
    if not text:
        return "empty"
    if not one.finished:
        return "no end"
    low, before = text.lower(), parent.turns[-2].text.lower()
    if any(phrase in low and phrase not in before for phrase in BETRAYALS):
        return "copies the prompt"
    return None


def gives_up(answer: str) -> str | None:
    """Why an answer shows that its instruction was no good one; None where it does not."""
    found = bare_words(answer)
    if "sorry" in found and len(found) < SORRY_WORDS:
        return "the answer is sorry"
    if not [word for word in found if word not in EMPTY_WORDS]:
        return "the answer has marks and empty words alone"
    return None
