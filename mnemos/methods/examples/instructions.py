"""What is read: instructions that a model makes up from the new rows."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, get_args

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef
from mnemos.methods.examples.sampling import BudgetSettings, Share, TextSampling
from mnemos.methods.examples.self_generated import model_of
from mnemos.sources.mix import Joined
from mnemos.synthesis.evol_instruct import EvolvedRows, Evolving
from mnemos.synthesis.instructions import MadeInstructions
from mnemos.synthesis.self_instruct import Making, SelfInstructRows

BUDGET = BudgetSettings(oversample=1.0, min_usable=0.5)
MAKING, EVOLVING = TextSampling(temperature=0.7, top_p=0.5), TextSampling(temperature=1.0, top_p=0.9)

Operation = Literal["constraint", "deepen", "concretise", "reasoning", "complicate_input", "breadth"]
ALL: tuple[Operation, ...] = get_args(Operation)
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]


@method(paper="arXiv:2212.10560", changes={"examples"}, off={"rows": 0})
def self_instruct(
    plan: Plan,
    sampling: TextSampling = MAKING,
    budget: BudgetSettings = BUDGET,
    *,
    author: AskedModelRef | None = None,
    rows: Annotated[int, Field(ge=0, le=100_000_000)] = 1000,
    seeds: Literal["learn", "leave_out"] = "learn",
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    generated_shots: Annotated[int, Field(ge=0, le=8)] = 2,
    max_instruction_tokens: Tokens = 1024,
    max_instance_tokens: Tokens = 350,
    raw: bool = True,
) -> Plan:
    """Let a model make up further instructions, inputs and answers from the new rows as seeds (Self-Instruct).

    author: who writes: a directory, hub id or http://host:port/v1#name; the model before unless given.
    rows: rows to be made; 0 turns the method off. oversample is in prompts a row; a prompt gives up to eight.
    seeds: whether the seeds themselves are learned beside what is made of them.
    novelty: an instruction is left out whose ROUGE-L with any seed or any made one is at least so much.
    generated_shots: of the eight instructions that each prompt shows, how many may be made ones.
    max_instruction_tokens: longest list of instructions.
    max_instance_tokens: longest text of an instruction's inputs and answers.
    raw: ask by texts to be continued, without a chat template, as the paper does.

    Seeds are the new rows of one question and one answer; eight different ones are needed. Each instruction is first
    asked whether its answers are labels; if so its labels are written first and then inputs for them, else inputs
    first. temperature and top_p are of the instructions; everything else is greedy.

    A row that shares 13 words in a row with an item of one of the study's suites, or whose question is a short item, is
    left out and counted by the suite's name.

    Trap: answers are the author's own, right or wrong; the paper finds 54 % of all instances wholly valid. A stronger
    model as author is distillation, and leaks its name.

    Trap: the keywords by which unfit instructions are known are English.

    Deviations from the paper: 1. no presence penalty. 2. pools are looked at after each 32 prompts. 3. the prompts that
    show tasks of each kind are shorter and in other words. 4. of a list that the length limit cut off, the whole
    instructions stay. 5. an instruction that is as like as `novelty` is left out (its code keeps exactly 0.7). 6. words
    of ROUGE-L are of any script.

    Raises DataError, when rows are written, for fewer than eight seeds or too few usable rows, with counts by reason.
    """
    if rows == 0:
        return plan
    making = Making(
        rows,
        budget.oversample,
        novelty,
        generated_shots,
        sampling.temperature,
        sampling.top_p,
        max_instruction_tokens,
        max_instance_tokens,
        raw,
        budget.min_usable,
        plan.seed + budget.seed,
    )
    return _with(plan, SelfInstructRows(plan.examples, model_of(author) or plan.before, making), seeds)


@method(paper="arXiv:2304.12244", changes={"examples"}, off={"rounds": 0})
def evol_instruct(
    plan: Plan,
    sampling: TextSampling = EVOLVING,
    *,
    author: AskedModelRef | None = None,
    rounds: Annotated[int, Field(ge=0, le=64)] = 4,
    seeds: Literal["learn", "leave_out"] = "learn",
    operations: tuple[Operation, ...] = ALL,
    max_instruction_tokens: Tokens = 512,
    max_answer_tokens: Tokens = 1024,
    judge_gain: bool = True,
    min_acceptance: Share = 0.05,
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0,
) -> Plan:
    """Let a model make the new rows' instructions harder or rarer, round by round, and answer them (Evol-Instruct).

    author: who rewrites and answers: a directory, hub id or http://host:port/v1#name; the model before unless given.
    rounds: each evolves what the one before left; rows of all rounds are learned. 0 turns the method off.
    seeds: whether the seeds themselves are learned beside what they became.
    operations: of which each row and round draws one: five in depth (a constraint more, deeper, more concrete, more
    reasoning, a more complicated input) and one in breadth.
    max_instruction_tokens: longest rewritten instruction.
    max_answer_tokens: longest answer.
    judge_gain: ask the author whether a rewrite differs from its parent, and leave it out if not.
    min_acceptance: share of all rewrites that must stand, else the study stops with the counts by reason.
    seed: added to the arm's seed where operations are drawn and instructions sampled.

    A rewrite is left out, and its parent tried again in the next round, where the author sees no gain, the answer says
    sorry in fewer than 80 words or has marks and empty words alone, the instruction copies the prompt that asked for
    it, was there before, or holds an item of one of the study's suites. Each row's columns say its parent, root, round
    and operation. Only rows of one question and one answer evolve.

    Trap: a small author does not follow such prompts: its "harder" instructions are the old ones in other words. Read
    some rows of the step and the share of rewrites that stand.

    Deviations from the paper: 1. the prompts say the same in other words, and complicate_input shows no examples. 2. a
    parent is kept for the next round by its place, so a round has at most as many rows as there are seeds. 3. answers
    are greedy.

    Raises DataError, when rows are written, with counts by reason where too few rewrites stand.
    """
    if rounds == 0:
        return plan
    evolving = Evolving(
        rounds,
        tuple(operations) or ALL,
        sampling.temperature,
        sampling.top_p,
        max_instruction_tokens,
        max_answer_tokens,
        judge_gain,
        min_acceptance,
        plan.seed + seed,
    )
    return _with(plan, EvolvedRows(plan.examples, model_of(author) or plan.before, evolving), seeds)


def _with(plan: Plan, made: MadeInstructions, seeds: str) -> Plan:
    examples = Joined((plan.examples, made)) if seeds == "learn" else made
    return dataclasses.replace(plan, examples=examples)
