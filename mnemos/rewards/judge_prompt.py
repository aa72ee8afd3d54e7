"""What a judge is asked: prompts in files that anybody may replace, filled in without being read as anything else.

A file holds one prompt, or up to four: plain; reference, for items with a right answer; later and later_reference, for
turns after the first. One that is not there is stood in for by the plain one. `FILE.jsonl#single` reads the prompts of
FastChat's judge_prompts.jsonl (single, pair; or one by its whole name) in the same way.

Fields of a template, each filled in once (what an answer says in braces stays text):

conversation, question, question_1 …   what the model was asked; with answers of its own turns between
answer, answer_1 …                     the judged answer, for kind single
answer_a, answer_b, answer_a_1 …       both answers, for kind pairwise
ref_answer, ref_answer_1 …             the right answer
criteria                               of this item
principle                              a line of the constitution
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.core.method import validated
from mnemos.core.nouns import Prompt, Turn
from mnemos.core.settings import Settings
from mnemos.core.yaml_text import read_yaml
from mnemos.sources import files
from mnemos.sources.bad_row import RowError

SHIPPED = Path(__file__).parents[1] / "recipes" / "judges"
PAIR, SINGLE, CRITERIA = (str(SHIPPED / f"{name}.yaml") for name in ("pair", "single", "criteria"))

MOST_STEPS = 1_000
"""Ratings of one scale: a judge by option probabilities is asked about each."""

LONGEST = 40_000
"""Characters of one field that a judge is shown; more is left out at the end, and no judge's context holds it."""

FIELDS = ("conversation", "question", "answer", "answer_a", "answer_b", "ref_answer", "criteria", "principle")
_NUMBERED = re.compile(r"(question|answer|answer_a|answer_b|ref_answer)_[1-9]\d?")
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


class Verdicts(Settings):
    """How a pairwise verdict is written."""

    a: str = Field(default="(A)", min_length=1)
    """The first answer is better."""
    b: str = Field(default="(B)", min_length=1)
    """The second one is."""
    tie: str | None = Field(default=None, min_length=1)
    """Neither; where the judge may say so."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that there are, in the order a, b, tie."""
        return (self.a, self.b, *(() if self.tie is None else (self.tie,)))


class JudgePrompt(Settings):
    """One prompt and how its verdict is read."""

    kind: Literal["pairwise", "single"]
    """Two answers, or one on a scale."""
    template: str = Field(min_length=1)
    """What the judge is asked, with fields in braces."""
    system: str = ""
    """Its system turn."""
    verdicts: Verdicts = Verdicts()
    """For kind pairwise: the marks of a verdict."""
    scale: tuple[float, float] = (1, 10)
    """For kind single: lowest and highest rating."""
    step: float = Field(1, gt=0)
    """For kind single: between two ratings, where options are scored."""
    rating: str = "[[{rating}]]"
    """For kind single: how a rating is written. It must end in a mark, or 1 would be the beginning of 10."""
    max_new_tokens: int = Field(16, ge=1, le=100_000)
    """Longest written verdict; more where the judge is to explain itself first."""

    @model_validator(mode="after")
    def _can_be_meant(self) -> JudgePrompt:
        low, high = self.scale
        if not low < high:
            raise ValueError(f"scale = [{low:g}, {high:g}]: the lowest rating comes first")
        if (high - low) / self.step > MOST_STEPS:
            raise ValueError(f"step = {self.step:g}: more than {MOST_STEPS:,} ratings")
        if self.rating.count("{rating}") != 1 or self.rating.endswith("{rating}"):
            raise ValueError(f"rating = {self.rating!r}: must hold {{rating}} once, and end in a mark behind it")
        if len(set(self.verdicts.texts)) < len(self.verdicts.texts):
            raise ValueError("verdicts: must differ")
        for name in sorted(self.fields):
            if name not in FIELDS and not _NUMBERED.fullmatch(name):
                raise ValueError(f"{{{name}}} is no field: {nearest(name, FIELDS)}")
        needed = {"answer_a", "answer_b"} if self.kind == "pairwise" else {"answer"}
        absent = [
            one for one in sorted(needed) if not any(name == one or name.startswith(f"{one}_") for name in self.fields)
        ]
        if absent:
            raise ValueError(f"template: shows the judge no {{{absent[0]}}}")
        return self

    @property
    def fields(self) -> frozenset[str]:
        """Fields of the template."""
        return frozenset(_FIELD.findall(self.template))

    @property
    def ratings(self) -> tuple[float, ...]:
        """Every rating of the scale."""
        low, high = self.scale
        return tuple(low + i * self.step for i in range(round((high - low) / self.step) + 1))

    def share(self, rating: float) -> float:
        """A rating in [0, 1]: 0 the lowest of the scale, 1 the highest."""
        low, high = self.scale
        return (rating - low) / (high - low)

    def filled(self, case: Case, *, raw: bool, principle: str = "") -> Prompt:
        """The question about a case. raw: without a chat template. Raises DataError for a field that the case lacks."""
        values = {**case.values, "principle": principle}

        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name not in values:
                raise DataError(
                    f"{{{name}}} of the judge's prompt",
                    "is asked for, and the item has none",
                    "give the items it, or take it out of the prompt",
                )
            text = values[name]
            return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"

        text = _FIELD.sub(value, self.template)
        if raw:
            return Prompt((Turn("prompt", f"{self.system}\n\n{text}" if self.system else text),))
        system = (Turn("system", self.system),) if self.system else ()
        return Prompt((*system, Turn("user", text)))


@dataclass(frozen=True)
class Case:
    """What is judged. prompt: what the model was asked; earlier answers in it are turns of it. answers: one or two;
    each a text, or a tuple of replies to the user turns of the prompt in their order, where the two models talked each
    in its own dialogue. references: right answers, one a user turn (or one for the last). criteria: of this item,
    which the judged model never sees."""

    prompt: Prompt
    answers: tuple[str | tuple[str, ...], ...]
    references: tuple[str, ...] = ()
    criteria: str = ""

    @property
    def turns(self) -> int:
        """User turns of the prompt."""
        return sum(turn.role != "system" and turn.role != "assistant" for turn in self.prompt.turns)

    @property
    def turned(self) -> Case:
        """With the two answers exchanged."""
        return Case(self.prompt, self.answers[::-1], self.references, self.criteria)

    @property
    def values(self) -> dict[str, str]:
        """The fields that a template may name."""
        turns = list(self.prompt.turns)
        questions = [turn.in_words() for turn in turns if turn.role not in ("assistant", "system")]
        own = [turn.in_words() for turn in turns if turn.role == "assistant"]
        values = {
            "conversation": "\n\n".join(f"{turn.role}: {turn.in_words()}" for turn in turns),
            "question": questions[-1] if questions else "",
            **_numbered("question", questions),
        }
        names = ("answer",) if len(self.answers) == 1 else ("answer_a", "answer_b")
        for name, answer in zip(names, self.answers, strict=True):
            replies = [*own, answer] if isinstance(answer, str) else list(answer)
            values |= {name: _shown(questions, answer), **_numbered(name, replies)}
        if self.references:
            values |= {"ref_answer": self.references[-1], **_numbered("ref_answer", self.references)}
        if self.criteria:
            values["criteria"] = self.criteria
        return values


def _shown(questions: Sequence[str], answer: str | tuple[str, ...]) -> str:
    if isinstance(answer, str):
        return answer
    if len(answer) == 1:
        return answer[0]
    return "\n\n".join(f"user: {asked}\n\nassistant: {reply}" for asked, reply in zip(questions, answer, strict=True))


def _numbered(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, 1)}


class PromptSet(Settings):
    """Prompts of one kind: which one is asked depends on the case."""

    plain: JudgePrompt
    """Asked unless one of the others fits."""
    reference: JudgePrompt | None = None
    """For items with a right answer."""
    later: JudgePrompt | None = None
    """For turns after the first."""
    later_reference: JudgePrompt | None = None
    """For turns after the first of items with a right answer."""

    @model_validator(mode="after")
    def _one_kind(self) -> PromptSet:
        there = [one for one in (self.plain, self.reference, self.later, self.later_reference) if one is not None]
        if len({(one.kind, one.scale) for one in there}) > 1:
            raise ValueError("all prompts of a file have one kind and one scale")
        return self

    @property
    def kind(self) -> str:
        """pairwise or single."""
        return self.plain.kind

    def of(self, case: Case) -> JudgePrompt:
        """The prompt for a case; the more special one first."""
        later = self.later if case.turns > 1 else None
        fitting = [later]
        if case.references:
            fitting = [self.later_reference if case.turns > 1 else None, later, self.reference]
        return next((one for one in fitting if one is not None), self.plain)


def load_prompts(place: str | Path) -> PromptSet:
    """The prompts in a file: YAML, or FastChat's rows as ``FILE.jsonl#NAME``. Raises UsageError and DataError with the
    file's name."""
    text, _, name = str(place).partition("#")
    if name or text.removesuffix(".gz").endswith(".jsonl"):
        return _fastchat(Path(text), name)
    values = read_yaml(text)
    if isinstance(values, Mapping) and "template" in values:
        values = {"plain": values}
    found: PromptSet = validated(PromptSet, values, where=f"{text}")
    return found


def _fastchat(path: Path, name: str) -> PromptSet:
    rows: dict[str, Mapping[str, Any]] = {}
    for raw in files.rows_of(path, str(path), ""):
        if isinstance(raw.value, RowError):
            raise raw.value
        rows[str(raw.value.get("name"))] = raw.value
    family = {"single": ("single-v1", "single-math-v1"), "pair": ("pair-v2", "pair-math-v1")}.get(name)
    if family is None:
        return PromptSet(plain=_row_prompt(_row(rows, name, path), path))
    plain, reference = family
    names = {"plain": plain, "reference": reference}
    names |= {"later": f"{plain}-multi-turn", "later_reference": f"{reference}-multi-turn"}
    return PromptSet(**{key: _row_prompt(_row(rows, one, path), path) for key, one in names.items()})


def _row(rows: Mapping[str, Mapping[str, Any]], name: str, path: Path) -> Mapping[str, Any]:
    if name not in rows:
        cure = nearest(name, [*rows, "single", "pair"])
        raise UsageError(
            f"{path}#{name}", "is no prompt of this file", f"write {path.name}#single, #pair or a name; {cure}"
        )
    return rows[name]


def _row_prompt(row: Mapping[str, Any], path: Path) -> JudgePrompt:
    kind = row.get("type")
    values: dict[str, Any] = {
        "kind": kind,
        "system": row.get("system_prompt") or "",
        "template": row.get("prompt_template"),
    }
    # Explanations come before the verdict there.
    values["max_new_tokens"] = 1024
    if kind == "pairwise":
        values["verdicts"] = {"a": "[[A]]", "b": "[[B]]", "tie": "[[C]]"}
    found: JudgePrompt = validated(JudgePrompt, values, where=f"{path}: prompt {row.get('name')!r}")
    return found


def prints(prompts: PromptSet) -> str:
    """What names these prompts in a manifest."""
    return fingerprint({"prompts": prompts.model_dump(mode="json")})
