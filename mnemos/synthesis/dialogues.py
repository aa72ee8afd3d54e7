"""Dialogues of two models: one writes as a user, the other answers, until the user says nothing (arXiv:2308.11534)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.dedup import Exact
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.mix import is_new
from mnemos.sources.recast import Opening, exchangeable, exchanged
from mnemos.synthesis.instructions import MadeInstructions
from mnemos.synthesis.writers import Tally, fault

ORIGIN = "new, simulated dialogues"
REPETITION = 0.5
"""Share of 4-grams of a turn that may repeat an earlier one."""

Begin = Literal["rows", "simulator"]
"""Who asks first: a row's own first question, or the simulator from nothing."""


@dataclass(frozen=True)
class Talking:
    """Settings of the dialogues; see the method."""

    rows: int
    begin: Begin
    opening: Opening
    max_exchanges: int
    max_question_tokens: int
    max_answer_tokens: int
    temperature: float
    top_p: float
    oversample: float
    min_usable: float
    seed: int


@dataclass
class _Dialogue:
    """What two models have said so far, a question and its answer in turn; over: why no more is asked."""

    turns: list[Turn] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    over: str = ""


@dataclass(frozen=True)
class DialogueRows(MadeInstructions):
    """`talking.rows` dialogues of the simulator (`author`) with the assistant. seeds give first questions at most."""

    assistant: ModelHandle
    talking: Talking

    def describe(self) -> str:
        """One line for people."""
        given = self.talking
        return f"{given.rows:,} dialogues of {self.author.path} as a user with {self.assistant.path}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """All dialogues turn by turn, side by side, so that each turn of all is one batch. Raises DataError for fewer
        first questions than dialogues, and with counts by reason where too few are usable."""
        given, tally = self.talking, Tally(context)
        number = math.ceil(given.oversample * given.rows)
        dialogues = [_Dialogue() for _ in range(number)]
        first = _first_questions(context.rows(self.seeds), number) if given.begin == "rows" else None
        for exchange in range(given.max_exchanges):
            going = [one for one in dialogues if not one.over]
            if not going:
                break
            if first is not None and exchange == 0:
                for one, question in zip(going, first, strict=True):
                    _ask(one, question)
            else:
                self._questions(context, going)
            self._answers(context, [one for one in going if not one.over])
        for one in dialogues:
            context.count(f"ended: {one.over or 'as many exchanges as are allowed'}")
        rows = self.clean(tally, [_row(at, one) for at, one in enumerate(dialogues) if one.turns], Exact())
        tally.drop("nothing asked and answered", sum(not one.turns for one in dialogues))
        questions = [turn.text for row in rows for turn in row.turns[::2]]
        context.note("exchanges of a dialogue", len(questions) / len(rows) if rows else math.nan)
        context.note("share of questions that differ", len(set(questions)) / len(questions) if rows else math.nan)
        cure = "raise simulated_dialogues.oversample or the token limits, or teach the simulator longer"
        return tally.keep(rows, given.rows, given.min_usable, what="dialogues", cure=cure)

    def _questions(self, context: SynthesisContext, going: Sequence[_Dialogue]) -> None:
        """The next question of each dialogue, or why there is none."""
        given = self.talking
        prompts = [Prompt(exchanged(one.turns, given.opening)) for one in going]
        decoding = Decoding(given.max_question_tokens, given.temperature, given.top_p, seed=given.seed)
        for one, text in zip(going, context.model(self.author).generate(prompts, decoding), strict=True):
            question = text.text.strip()
            one.over = (
                "the user wrote nothing"
                if text.finished and not question
                else fault(text, "question", REPETITION) or ""
            )
            if not one.over and question in one.asked:
                one.over = "a question that was asked before"
            if not one.over:
                _ask(one, question)

    def _answers(self, context: SynthesisContext, going: Sequence[_Dialogue]) -> None:
        """The answer to each dialogue's last question; a question without a usable one is taken back."""
        if not going:
            return
        prompts = [Prompt(tuple(one.turns)) for one in going]
        decoding = Decoding(self.talking.max_answer_tokens)
        for one, text in zip(going, context.model(self.assistant).generate(prompts, decoding), strict=True):
            one.over = fault(text, "answer", REPETITION) or ""
            if one.over:
                one.turns.pop()
            else:
                one.turns.append(Turn("assistant", text.text.strip()))


def _ask(dialogue: _Dialogue, question: str) -> None:
    dialogue.asked.add(question)
    dialogue.turns.append(Turn("user", question))


def _first_questions(rows: Sequence[Example], number: int) -> list[str]:
    """The first questions of `number` different new chats, in their order."""
    found: dict[str, None] = {}
    for row in rows:
        turns = row.turns[1:] if row.turns[0].role == "system" else row.turns
        if is_new(row.origin) and row.kind == "messages" and exchangeable(turns):
            found.setdefault(turns[0].text.strip())
    if len(found) < number:
        raise DataError(
            f"{len(found):,} different first questions of chats",
            f"are fewer than the {number:,} dialogues that are to begin with one",
            "set simulated_dialogues.rows or oversample lower, give more chats, or set begin: simulator",
        )
    return list(found)[:number]


def _row(number: int, dialogue: _Dialogue) -> Example:
    return Example(
        f"dialogue/{number}", "messages", tuple(dialogue.turns), origin=ORIGIN, meta={"ended": dialogue.over}
    )
