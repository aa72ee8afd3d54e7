"""New rows whose answers an author puts into the format of their kind of task (ReAlign, arXiv:2402.12219)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mnemos.core.nouns import Decoding, Example, Generation, Prompt
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.words import words
from mnemos.synthesis.self_generated import Replacement, SelfGenerated, answered, answers_to, betrays, instructed

_LIST = "Give what is asked for as a list."
_CHANGES = "Give the new text first, then a list of what was changed and why."
_CODE = (
    "Begin with a paragraph that says what is wanted and how it is done. Then give the code with comments in a code "
    "block, then a list that explains its pieces, and end with a conclusion."
)
_EXPLAINED = (
    "Begin with a paragraph that looks at the question, explain in a list or a table, and end with a conclusion."
)
_ANSWERED = (
    "Begin with a paragraph that looks at the question. Then give the answer, then why it is so, and end with a "
    "conclusion."
)
_VERDICT = "Give the answer first, then explain it."

FORMATS: dict[str, str] = {
    "question generation": _LIST,
    "email generation": "An e-mail: subject, salutation, who writes and why, short paragraphs, closing, signature.",
    "data generation": _LIST,
    "recommendations": "Name the purpose in the first sentence. Then recommend, explain in a list, and conclude.",
    "how to generation": _ANSWERED,
    "planning": "Name the goals in the first sentence. Then a list of steps in time, explanations, and a conclusion.",
    "instructional rewriting": _CHANGES,
    "language polishing": _CHANGES,
    "text correction": _CHANGES,
    "code correction": "Give the mended code with comments in a code block, then a list of what was changed and why.",
    "information extraction": "Give what was found as a list or a table.",
    "keywords extraction": "Give the keywords as a list.",
    "explain code": _EXPLAINED,
    "explain answer": _EXPLAINED,
    "text to text translation": "Give the translation first, then a list that explains it.",
    "text to code translation": _CODE,
    "code to code translation": _CODE,
    "code to text translation": "Begin with what the code is for, document it part by part, and end with a conclusion.",
    "open qa": _ANSWERED,
    "closed qa": _ANSWERED,
    "fill in the blank": "Begin with a paragraph that looks at the text. Then give the answer and explain it.",
    "fact verification": _VERDICT,
    "math puzzles": (
        "Begin with a paragraph that looks at the question. Then solve it in a list of steps, explain these, and end "
        "with the result."
    ),
    "language learning questions": _ANSWERED,
    "natural language learning tutor": _ANSWERED,
    "exam problem solving tutor": _ANSWERED,
    "ml ai language model tutor": "Give the answer, explain it, and end with a conclusion.",
    "general classification": _VERDICT,
    "ordering": _VERDICT,
    "sentiment analysis": _VERDICT,
    "code language classification": _VERDICT,
    "language classification": _VERDICT,
    "topic classification": _VERDICT,
    "value judgement": _ANSWERED,
    "rejecting": "Refuse first, then say why.",
    # What has no format of its own: its answers stay as they are.
    **dict.fromkeys(
        ("story generation", "poem generation", "advice giving", "code simplification", "paraphrasing",
         "table extraction", "title generation", "text summarization", "note summarization", "roleplay", "default"),
        "",
    ),
}  # fmt: skip
"""The paper's 46 kinds of task, and in other words the format that answers of each should have."""

KNOWLEDGE = frozenset(("how to generation", "open qa", "fact verification", "recommendations", "explain answer"))
"""Kinds whose rewriting is given evidence, where the row has some."""
MATHS = "math puzzles"

WHICH = (
    "Which kind of task is the request below? Reply with one of these names alone: {names}.\n\n"
    "Request:\n{question}\n\nKind of task:"
)
REWRITE = (
    "Below are a request, an answer to it, and a format. Where the format suits the request, write the answer anew in "
    "that format; where it does not, repeat the answer. Change the form alone: keep what the answer means and every "
    "fact, number and piece of code in it. Write no headings. Reply with the new answer alone.\n\n"
    "Request:\n{question}\n\nAnswer:\n{gold}\n\nFormat:\n{form}\n\n{evidence}New answer:"
)
EVIDENCE = "Evidence, of which you may use what helps:\n{evidence}\n\n"
NAMED = Decoding(max_new_tokens=16)
"""How a kind of task is named: in a few greedy tokens."""

BETRAYALS = (
    *("revised response", "revised answer", "new answer:", "rewritten answer"),
    *("the format above", "given format", "the original answer"),
)
"""What betrays that a rewriting speaks of the instruction instead of following it."""
SHORTEST = 0.5
"""A rewriting with at most this share of the answer's words has lost something."""

MOST_EVIDENCE = 8000
"""Characters of evidence that an author is shown."""

_ALONE = re.compile(r"(?i)\W*(?:[a-z]|true|false)\W*")
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Realigned(SelfGenerated):
    """Each answer in the format of its kind of task, where the rewriting passes; the gold one elsewhere.

    author: who names kinds and rewrites. formats: kind of task -> format, empty for answers that stay as they are.
    task, evidence: columns that hold a row's kind, and what may help to answer; without the first the author is asked.
    """

    author: ModelHandle = field(kw_only=True)
    formats: Mapping[str, str] = field(kw_only=True)
    task: str | None = field(kw_only=True)
    evidence: str | None = field(kw_only=True)

    wanted = "answers in the format of their task"
    cure = "a larger author names tasks and follows formats better; more max_new_tokens let it come to an end"

    @property
    def rule(self) -> str:
        """In words."""
        return f"in the format of their task, by {self.author.path}"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """One rewriting a row that has a kind with a format, kept where `reformatting_fault` finds none."""
        tasks = self._tasks(context, rows)
        out: list[Replacement] = [(None, self._why_kept(row, task)) for row, task in zip(rows, tasks, strict=True)]
        places = [at for at, (_, reason) in enumerate(out) if not reason]
        asked = [self._asked_for(rows[at], tasks[at] or "") for at in places]
        answers = answers_to(context.model(self.author), asked, self.decoding)
        faults = self.check.faults(context, [rows[at] for at in places], answers)
        for at, one, fault in zip(places, answers, faults, strict=True):
            reason = fault or reformatting_fault(rows[at], one, tasks[at] or "")
            out[at] = (None, reason) if reason else (answered(rows[at], one.text), f"rewritten: {tasks[at]}")
        return out

    def _tasks(self, context: SynthesisContext, rows: Sequence[Example]) -> list[str | None]:
        if self.task is not None:
            return [plain_name(str(row.meta.get(self.task, ""))) or None for row in rows]
        names = ", ".join(self.formats)
        asked = [instructed(row, WHICH, names=names) for row in rows]
        return [named(one.text, self.formats) for one in answers_to(context.model(self.author), asked, NAMED)]

    def _why_kept(self, row: Example, task: str | None) -> str:
        """Why the author is not asked; empty where it is."""
        if task is None:
            return "no kind of task was named"
        if task not in self.formats:
            return "a kind of task that is not known"
        if not self.formats[task]:
            return f"no format for {task}"
        # There is nothing to put into a form, and whoever reads answers by rule looks for just this.
        return "a letter, or true or false" if _ALONE.fullmatch(row.turns[-1].text) else ""

    def _asked_for(self, row: Example, task: str) -> Prompt:
        found = row.meta.get(self.evidence) if self.evidence is not None and task in KNOWLEDGE else None
        texts = [found] if isinstance(found, str) else found if isinstance(found, list | tuple) else []
        evidence = "\n".join(map(str, texts))[:MOST_EVIDENCE].strip()
        block = EVIDENCE.replace("{evidence}", evidence) if evidence else ""
        return instructed(row, REWRITE, gold=row.turns[-1].text, form=self.formats[task], evidence=block)


def plain_name(text: str) -> str:
    """A kind of task as `FORMATS` spells them: lower case, a space between words."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def named(reply: str, kinds: Iterable[str]) -> str | None:
    """The one kind of task that a reply names, wherever it stands in it; None for none and for several."""
    name = f" {plain_name(reply)} "
    found = [kind for kind in kinds if f" {kind} " in name]
    # "code language classification" holds the name "language classification".
    whole = [kind for kind in found if not any(kind != other and kind in other for other in found)]
    return whole[0] if len(whole) == 1 else None


def reformatting_fault(row: Example, one: Generation, task: str) -> str | None:
    """Why an answer in another form does not take the place of the row's; None where it may."""
    old, new = row.turns[-1].text, one.text
    if new.split() == old.split():
        return "the author found the format unfit"
    if betrays(new, row, BETRAYALS):
        return "speaks of the instruction"
    if _has_code(old) != _has_code(new):
        return "code came or went"
    if len(words(new)) <= SHORTEST * len(words(old)):
        return "half as long, or shorter"
    # The last number, because worked solutions end in their result.
    if task == MATHS and not set(_numbers(old)[-1:]) <= set(_numbers(new)):
        return "the result went"
    return None


def _has_code(text: str) -> bool:
    return _FENCE.search(text) is not None or ("def " in text and "return " in text)


def _numbers(text: str) -> list[str]:
    # 1,000 and 1000 are the same result.
    return [number.replace(",", "") for number in _NUMBER.findall(text)]
