"""New rows in the model's own words: answers that it finds likely, checked against the gold ones.

Each class is a `GeneratedSource` source with one row for every row of `rows`. What is asked is the last
answer of a chat or completion; every row is counted once, under what became of it.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, LanguageModel, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.rewards.verified import reference_of
from mnemos.rewards.verifiers import check_reference, normalise, score
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few

LEAKS = ("reference answer", "your response", "my response", "your own response", "now it's your turn")
"""What betrays that a rewrite speaks of the instruction instead of following it (arXiv:2402.13669)."""

TEMPLATES = {
    "refer": (
        "{question}\n\nHere is a reference answer to the text above:\n{gold}\n\n"
        "Refer to it and write an answer of your own, in your own words. Give the answer only."
    ),
    "guide": (
        "Below are an instruction and a reference answer to it. Using the reference answer as a guide, write your "
        "own response to the instruction.\n\nInstruction:\n{question}\n\nReference answer:\n{gold}\n\nYour response:"
    ),
    "maths": (
        "{question}\n\nA reference solution:\n{gold}\n\nSolve the problem yourself, step by step, and end with the "
        "result. Begin with: Let's think step by step."
    ),
}
"""Ways to ask for a rewrite; {question} is the last user turn."""

EDIT = (
    "Make the draft correct by changing as few words as possible. Keep its style and its order: the reasoning first, "
    "the final answer last. Give the changed text only.\n\nQuestion:\n{question}\n\nDraft:\n{draft}\n\n"
    "Correct answer:\n{gold}\n\nChanged draft:"
)
JUDGE = (
    "Question:\n{question}\n\nReference answer:\n{gold}\n\nAnswer to be judged:\n{draft}\n\n"
    "Does the answer to be judged say the same as the reference answer? Reply with yes or no."
)

ASKERS = ("user", "prompt")
QUESTION = "{question}"
"""Where a text that a teacher goes on with has the row's question."""

Replacement = tuple[Example | None, str]
"""The row that takes a gold row's place and what it is counted as; or None and why the gold one stays."""
JUDGEMENT = Decoding(max_new_tokens=8)


@dataclass(frozen=True)
class Check:
    """When an answer may take the gold one's place.

    verifier: a name of `verify.VERIFIERS`, or none. min_score: what it must give at least.
    reference: the column of a row that holds what the verifier compares with; None takes the gold
    answer. leaks: whether the phrases of `LEAKS` are refused. judge: a model that is asked instead.
    """

    verifier: str = "none"
    min_score: float = 1.0
    reference: str | None = None
    leaks: bool = False
    judge: ModelHandle | None = None

    def of(self, row: Example) -> str:
        """What the verifier compares with. DataError where the row lacks the column."""
        return reference_of(row, self.reference)

    def usable(self, row: Example) -> bool:
        """Whether any answer could meet the row's reference."""
        if self.verifier == "none":
            return True
        try:
            check_reference(self.verifier, self.of(row), where=row.id)
        except DataError:
            # A column that is not there is a mistake in the settings, and no property of the row.
            if self.reference is not None and self.reference not in row.meta:
                raise
            return False
        return True

    def fault(self, row: Example, answer: Generation) -> str | None:
        """Why the answer is refused, a judge not asked; None where it may stand."""
        text = answer.text.strip()
        if not text:
            return "empty"
        if not answer.finished:
            return "no end"
        low = text.lower()
        if self.leaks and (any(phrase in low for phrase in LEAKS) or low.startswith("your turn")):
            return "speaks of the instruction"
        if self.verifier == "none":
            return None
        found = score(self.verifier, text, self.of(row))
        return found.reason or ("wrong" if found.value < self.min_score else None)

    def faults(
        self, context: SynthesisContext, rows: Sequence[Example], answers: Sequence[Generation]
    ) -> list[str | None]:
        """`fault` for each pair; those without one go to the judge, if there is one."""
        found = [self.fault(row, answer) for row, answer in zip(rows, answers, strict=True)]
        if self.judge is None:
            return found
        # What already has a fault is not put to the judge: it could not save it, and costs an answer.
        good = [i for i, fault in enumerate(found) if fault is None]
        asked = [instructed(rows[i], JUDGE, gold=self.of(rows[i]), draft=answers[i].text.strip()) for i in good]
        text = context.model(self.judge).generate(asked, JUDGEMENT) if asked else []
        for i, verdict in zip(good, text, strict=True):
            # The first word alone: "No, it does not say yes" is a no.
            word = normalise(verdict.text).split()[:1]
            found[i] = None if word == ["yes"] else "wrong" if word == ["no"] else "the judge said neither yes nor no"
        return found


@dataclass(frozen=True)
class SelfGenerated(NotGenerated):
    """What the rules share. rows: the gold rows. before: the model whose words are wanted. share: of
    the rows that are asked about, drawn by seed. floor: share of these whose answer must be replaced,
    else writing stops. unsolved: whether a row without an acceptable answer keeps its gold one."""

    rows: Source
    before: ModelHandle
    check: Check
    decoding: Decoding
    share: float = 1.0
    floor: float = 0.05
    unsolved: str = "keep"

    def describe(self) -> str:
        """The rule and the rows."""
        return f"{self.rows.describe()} {self.rule}"

    @property
    def rule(self) -> str:
        """What is done with the rows, in words."""
        raise NotImplementedError

    wanted = "answers in the model's own words"
    """What the rows become, for an error."""

    cure = (
        "with fewer, this arm would be training on the gold answers under another name. A larger model follows such "
        "instructions better; another verifier may fit the task better"
    )
    """What to do where too few do."""

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """For each row, what takes its place."""
        raise NotImplementedError

    def write(self, context: SynthesisContext) -> list[Example]:
        """The rows in their order, answers replaced. Raises DataError, with counts by reason, where
        fewer than the share `floor` of the answers could be replaced."""
        rows = context.rows(self.rows)
        asked = self._asked(context, rows)
        found = self.replacements(context, [rows[i] for i in asked])
        refused: Counter[str] = Counter()
        new: dict[int, Example] = {}
        for i, (row, what) in zip(asked, found, strict=True):
            if row is None:
                refused[what] += 1
            else:
                new[i] = row
                context.count(what)
        for what, number in refused.items():
            context.count(f"{'gold kept' if self.unsolved == 'keep' else 'left out'}: {what}", number)
        rate = len(new) / len(asked) if asked else 0.0
        context.note("acceptance rate", rate)
        too_few(
            refused if asked else {"nothing to ask about": len(rows)},
            len(new),
            max(1, math.ceil(self.floor * len(asked))) if self.floor else 0,
            what=self.wanted,
            cure=f"min_acceptance = {self.floor:g} of {len(asked):,} answers: {self.cure}; min_acceptance: 0 goes on "
            "all the same",
        )
        self._note_perplexity(context, [(rows[i], new.get(i)) for i in asked])
        lost = set(asked) - set(new) if self.unsolved == "drop" else set()
        return [new.get(i, row) for i, row in enumerate(rows) if i not in lost]

    def _asked(self, context: SynthesisContext, rows: Sequence[Example]) -> list[int]:
        """Which rows are asked about; the others are counted and stay as they are."""
        out = []
        for i, row in enumerate(rows):
            # By the row's own id: which rows are asked about does not change when rows are added or taken away.
            drawn = self.share == 1 or random.Random(f"own words {self.decoding.seed} {row.id}").random() < self.share
            if row.origin != "new":
                context.count("as it was: not a new row")
            elif not answerable(row):
                context.count("as it was: no answer to a question")
            elif not drawn:
                context.count("as it was: not in the share")
            elif not self.check.usable(row):
                context.count("as it was: a reference that no answer could meet")
            else:
                out.append(i)
        return out

    def _note_perplexity(self, context: SynthesisContext, pairs: Sequence[tuple[Example, Example | None]]) -> None:
        """How surprising the answers are to the model before, gold and as they are now learned: exp of
        the mean nats per token over all answers that were asked about and fit its context."""
        totals = [[0.0, 0], [0.0, 0]]
        scored = [(gold, new) for gold, new in pairs if gold.turns[-1].text]
        options = [[one.turns[-1].text for one in (gold, new) if one is not None] for gold, new in scored]
        contexts = [gold.prompt for gold, _ in scored]
        for (_, new), scores in zip(scored, context.model(self.before).choose(contexts, options), strict=True):
            # Both sides or neither, so that the two perplexities are of the same rows.
            if any(math.isnan(one.log_prob) for one in scores):
                continue
            # Without a replacement options[i] holds the gold answer alone; it counts as learned where the row is
            # kept.
            after = scores[-1] if new is not None or self.unsolved == "keep" else None
            # Weighted by tokens, as a loss over all of them would be: exp(sum nats / sum tokens).
            for total, one in zip(totals, (scores[0], after), strict=True):
                if one is not None:
                    total[0] -= one.log_prob
                    total[1] += one.tokens
        for name, (nats, tokens) in zip(("gold", "learned"), totals, strict=True):
            context.note(f"target perplexity, {name}", math.exp(nats / tokens) if tokens else math.nan)


@dataclass(frozen=True)
class Rewritten(SelfGenerated):
    """The author is given question and gold answer, and writes the answer in its own words."""

    author: ModelHandle = field(kw_only=True)
    template: str = field(kw_only=True)

    @property
    def rule(self) -> str:
        """In words."""
        return f"rewritten by {'the model before' if self.author == self.before else self.author.path}"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """One rewrite a row, kept where the check has no fault with it."""
        template = TEMPLATES[self.template]
        asked = [instructed(row, template, gold=row.turns[-1].text) for row in rows]
        answers = answers_to(context.model(self.author), asked, self.decoding)
        faults = self.check.faults(context, rows, answers)
        return [
            (None, fault) if fault else (answered(row, answer.text), "rewritten")
            for row, answer, fault in zip(rows, answers, faults, strict=True)
        ]


@dataclass(frozen=True)
class TeacherAnswers(SelfGenerated):
    """Another model's answer to each question, which it sees without the gold one. shown: a text that the teacher goes
    on with, {question} being the row's last question; None puts the row through the teacher's own chat template."""

    teacher: ModelHandle = field(kw_only=True)
    shown: str | None = field(kw_only=True)

    wanted = "answers of the teacher"
    cure = (
        "with fewer, this arm would learn few of its rows. Read the teacher's answers in journal.jsonl: more tokens, a "
        "text to be shown, stop texts or verifier: none may be what they need"
    )

    @property
    def rule(self) -> str:
        """In words."""
        return f"answered by {'the model before' if self.teacher == self.before else self.teacher.path}"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """One answer a row, kept where the check has no fault with it."""
        asked = [row.prompt if self.shown is None else self._shown(row, self.shown) for row in rows]
        answers = answers_to(context.model(self.teacher), asked, self.decoding)
        faults = self.check.faults(context, rows, answers)
        return [
            (None, fault) if fault else (answered(row, answer.text), "answered by the teacher")
            for row, answer, fault in zip(rows, answers, faults, strict=True)
        ]

    @staticmethod
    def _shown(row: Example, text: str) -> Prompt:
        """The text with the row's last question in it, no other brace being touched."""
        question = next(turn.text for turn in reversed(row.turns[:-1]) if turn.role in ASKERS)
        return Prompt((Turn("prompt", text.replace(QUESTION, question)),))


@dataclass(frozen=True)
class SelfAnswers(SelfGenerated):
    """The model's own zero-shot answer where it is right; else, where there is an editor, that answer
    with few words changed."""

    editor: ModelHandle | None = None

    @property
    def rule(self) -> str:
        """In words."""
        return "with the model's own answer where it is right" + (", edited where not" if self.editor else "")

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """Own answers; those with a fault are edited and checked again."""
        drafts = answers_to(context.model(self.before), [row.prompt for row in rows], self.decoding)
        faults = self.check.faults(context, rows, drafts)
        out: list[Replacement] = [
            (None, fault) if fault else (answered(row, draft.text), "own answer")
            for row, draft, fault in zip(rows, drafts, faults, strict=True)
        ]
        wrong = [i for i, fault in enumerate(faults) if fault]
        if self.editor is None:
            return out
        context.note("right without editing", 1 - len(wrong) / len(rows) if rows else math.nan)
        asked = [instructed(rows[i], EDIT, gold=rows[i].turns[-1].text, draft=drafts[i].text.strip()) for i in wrong]
        edited = answers_to(context.model(self.editor), asked, self.decoding)
        # Edited answers pass the same check as drafts did: an editor may break what it mends.
        again = self.check.faults(context, [rows[i] for i in wrong], edited)
        for i, answer, fault in zip(wrong, edited, again, strict=True):
            out[i] = (None, f"edited, {fault}") if fault else (answered(rows[i], answer.text), "own answer, edited")
        return out


@dataclass(frozen=True)
class SelfSamples(SelfGenerated):
    """Of several sampled answers, the right one that the model finds likeliest per token."""

    num_generations: int = field(kw_only=True)

    @property
    def rule(self) -> str:
        """In words."""
        return f"with the likeliest right one of {self.num_generations} own answers"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """The right sample of lowest perplexity; the first of equals."""
        model = context.model(self.before)
        answers, faults = drawn(self, context, rows, self.num_generations)
        right: list[list[str]] = []
        out: list[Replacement] = []
        for at in range(0, len(answers), self.num_generations):
            batch = list(
                zip(answers[at : at + self.num_generations], faults[at : at + self.num_generations], strict=True)
            )
            # Equal texts once: a likelihood is asked of each text, not of each sample.
            right.append(list(dict.fromkeys(answer.text.strip() for answer, fault in batch if fault is None)))
            out.append((None, f"no right sample, mostly {most(fault for _, fault in batch if fault)}"))
        context.note("right samples", sum(fault is None for fault in faults) / len(faults) if faults else math.nan)
        solved = [i for i, texts in enumerate(right) if texts]
        scores = model.choose([rows[i].prompt for i in solved], [right[i] for i in solved])
        for i, row in zip(solved, scores, strict=True):
            # Nats per token: a sum would prefer the shortest answer.
            nats = [-one.log_prob / one.tokens if one.tokens else math.inf for one in row]
            # NaN last: compared with anything it is False, and min could stop at it.
            best = min(range(len(nats)), key=lambda k: (math.isnan(nats[k]), nats[k]))
            out[i] = (answered(rows[i], right[i][best]), "own sample")
        return out


def drawn(
    own: SelfGenerated, context: SynthesisContext, rows: Sequence[Example], num_generations: int
) -> tuple[list[Generation], list[str | None]]:
    """`num_generations` answers of the model before to each row, side by side, and what is wrong with each."""
    prompts = [row.prompt for row in rows for _ in range(num_generations)]
    answers = answers_to(context.model(own.before), prompts, own.decoding)
    return answers, own.check.faults(context, [row for row in rows for _ in range(num_generations)], answers)


def most(faults: Iterable[str]) -> str:
    """The most frequent one, of equals the first in the alphabet; empty where there is none."""
    counts = Counter(faults)
    return min(counts, key=lambda name: (-counts[name], name), default="")


def answers_to(model: LanguageModel, prompts: Iterable[Prompt], decoding: Decoding) -> list[Generation]:
    """One answer a prompt."""
    asked = list(prompts)
    return model.generate(asked, decoding) if asked else []


def answerable(row: Example) -> bool:
    """Whether the row ends in an answer to be learned, behind a question."""
    last = row.turns[-1]
    return (
        row.kind in ("messages", "completion")
        and last.role in ("assistant", "completion")
        and last.learn
        and last.is_plain
        and bool(last.text.strip())
        and any(turn.role in ASKERS for turn in row.turns[:-1])
    )


def instructed(row: Example, template: str, **parts: str) -> Prompt:
    """The row's context with its last question put into a template."""
    context = list(row.turns[:-1])
    # The last turn of the asker; turns of tools may stand behind it.
    place = max(i for i, turn in enumerate(context) if turn.role in ASKERS)
    content = template.format(question=context[place].text, **parts)
    context[place] = dataclasses.replace(context[place], content=content)
    return Prompt(tuple(context), row.variables)


def answered(row: Example, text: str) -> Example:
    """The row with another answer, behind the white space that the gold one begins with."""
    last = row.turns[-1]
    lead = last.text[: len(last.text) - len(last.text.lstrip())]
    return dataclasses.replace(row, turns=(*row.turns[:-1], dataclasses.replace(last, content=lead + text.strip())))


def betrays(text: str, row: Example, phrases: Iterable[str]) -> bool:
    """Whether a text that was written for a row has one of the phrases (lower case), which speak of the instruction to
    write it, and the row's conversation has not."""
    asked = " ".join(turn.text for turn in row.turns[:-1]).lower()
    return any(phrase in text.lower() and phrase not in asked for phrase in phrases)
