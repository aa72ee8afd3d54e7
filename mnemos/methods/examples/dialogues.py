"""What is read: dialogues of two models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef
from mnemos.methods.examples.sampling import BudgetSettings, Seeds, TextSampling, learned_with
from mnemos.methods.examples.self_generated import model_of
from mnemos.sources.recast import Opening
from mnemos.synthesis.dialogues import Begin, DialogueRows, Talking

BUDGET = BudgetSettings(oversample=1.2, min_usable=0.5)
QUESTIONS = TextSampling(temperature=0.7, top_p=1.0)
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


@method(paper="arXiv:2308.11534", changes={"examples"}, off={"rows": 0})
def simulated_dialogues(
    plan: Plan,
    sampling: TextSampling = QUESTIONS,
    budget: BudgetSettings = BUDGET,
    *,
    simulator: AskedModelRef | None = None,
    assistant: AskedModelRef | None = None,
    rows: Annotated[int, Field(ge=0, le=100_000_000)] = 1000,
    seeds: Seeds = "learn",
    begin: Begin = "simulator",
    opening: Opening = "dropped",
    max_exchanges: Annotated[int, Field(ge=1, le=256)] = 8,
    max_question_tokens: Tokens = 128,
    max_answer_tokens: Tokens = 512,
) -> Plan:
    """Learn from dialogues between a model that writes as a user and one that answers (PlatoLM).

    simulator: who asks: a model that learned with `user_turns`, as a directory, hub id or http://host:port/v1#name; the
    model before unless given.
    assistant: who answers, greedily; the model before unless given.
    rows: dialogues to be made; 0 turns the method off. oversample is in dialogues begun for one.
    seeds: whether the arm's own rows are learned beside them.
    begin: simulator, it asks from nothing; rows, a dialogue begins with the first question of one of the arm's chats.
    opening: as the simulator was taught; empty for chat templates that must begin with a user.
    max_exchanges: questions and answers of one dialogue, at most.
    max_question_tokens: longest turn of the simulator.
    max_answer_tokens: longest answer.

    A dialogue ends when the simulator writes nothing or what it asked before, or a turn has no end or repeats itself;
    what was asked and answered until then is kept. One that was there before, or holds an item of one of the study's
    suites, is left out. The step counts how dialogues ended, and notes how many questions differ.

    Trap: a chat model that learned no user's turns is no user: it offers help, and two of them thank each other until
    the limit. Look at the share of questions that differ.

    Deviations from the paper: 1. answers are greedy where the paper draws them at 0.7. 2. an empty turn is the end of a
    dialogue.

    Raises DataError, when rows are written, for fewer first questions than dialogues to begin, and for too few usable
    ones, with counts by reason.
    """
    if rows == 0:
        return plan
    talking = Talking(
        rows, begin, opening, max_exchanges, max_question_tokens, max_answer_tokens, sampling.temperature,
        sampling.top_p, budget.oversample, budget.min_usable, plan.seed + budget.seed,
    )  # fmt: skip
    made = DialogueRows(plan.examples, model_of(simulator) or plan.before, model_of(assistant) or plan.before, talking)
    return learned_with(plan, made, seeds)
