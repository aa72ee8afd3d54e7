"""LAMOL: one model solves the tasks and writes samples of the earlier ones."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Source
from mnemos.core.plan import ModelHandle, PastTask, Plan
from mnemos.methods.examples.rehearsal import LossBeside
from mnemos.methods.examples.sampling import BudgetSettings
from mnemos.sources.mix import Beside
from mnemos.synthesis.forms import AS_TEXT, WithForms
from mnemos.synthesis.lamol import PseudoSamples, Sampling
from mnemos.synthesis.writers import AnsweredBy

SHARED = "__gen__\n"
"""The generator token of all tasks together."""


@method(paper="arXiv:1909.03329", changes={"examples", "weigh"}, off={"per_new": 0.0, "lm_weight": 0.0})
def lamol(
    plan: Plan,
    budget: BudgetSettings,
    *,
    per_new: Annotated[float, Field(ge=0, le=1000)] = 0.2,
    lm_weight: Annotated[float, Field(ge=0)] = 0.25,
    tokens: Literal["shared", "task"] = "task",
    samples_by: Literal["latest", "task"] = "latest",
    answers: AnsweredBy = "sampled",
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 20,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256,
) -> Plan:
    """Teach the model to write rows of each task too, and let it rehearse earlier tasks from its own samples.

    per_new: samples per new row (the paper's gamma), rounded up and divided evenly among the
    earlier tasks; 0 teaches to write rows and rehearses nothing.
    lm_weight: weight of the language-model loss (the paper's lambda): the loss is (mean over the
    tokens of rows as they are used) + lm_weight * (mean over the tokens of whole rows as text).
    tokens: task has one generator token for each task, shared one for all. With shared, samples of
    early tasks grow rare exponentially; with task, a sample may be of the wrong task.
    samples_by: latest samples from the model before the stage; task from the model right after the
    task, which has seen its real rows last. task needs tokens: task.
    answers: sampled keeps the answer that was sampled; latest has the model before the stage answer
    the sampled question greedily, task the model right after the task (a teacher for each task;
    needs tokens: task).
    confidence: leave out samples whose answer has a lower mean probability per token (geometric, in
    [0, 1)) under the model that gave it; 0 keeps all.
    top_k: likeliest tokens that are drawn from; 0 draws from all.
    temperature: of sampling.
    max_new_tokens: longest sample, and longest new answer, in tokens; a longer one is left out.

    From the first task on, each row is also learned as a text behind a generator token. Before a
    later task, the model writes samples behind that token; those without exactly one answer marker
    are left out and counted by reason. Samples are learned like new rows, in both forms. Rows of the
    kinds messages, completion and text are written and read back as what they were.

    The reference arms: replay (real rows, same number) and joint. What closes the gap to joint in
    later work is here as settings: answers: task (L2KD, arXiv:2010.02123, in words instead of
    logits), confidence, oversample.

    Trap: it needs a sequence (teach: a list), and models that know the generator token: each earlier
    stage must have been trained with lamol in the same arm and the same tokens, as a study does.

    Trap: rows longer than train.max_length as a text are left out of that form and counted.

    Deviations from the paper: 1. markers are plain text (``__gen__``, ``__ans__``, …), because a
    tokenizer need not have unused tokens; a row that spells one is refused. 2. rows are learned and
    measured in their ordinary format (chat template) and only their text form has markers. 3. the
    two means are over the whole set, not over each step, and the answer marker does not weigh more.
    4. the budget is rounded up and divided to within one row, where the code rounds down. 5. nothing
    is cut to fit; a sample without an end is left out. 6. the default is one token for each task.

    Raises UsageError outside a sequence, and DataError with counts by reason when too few samples
    are usable, when the budget is below one sample a task, and for kinds with no single answer.
    """
    if per_new == 0 and lm_weight == 0:
        return plan
    _check(plan, per_new, lm_weight, tokens, {"samples_by": samples_by, "answers": answers})
    # L = L_QA + lambda L_LM (arXiv:1909.03329). Pseudo-samples have the text form too, so both origins are named.
    weigh = (*plan.weigh, LossBeside(("new" + AS_TEXT, "replay" + AS_TEXT), lm_weight))
    examples: Source = WithForms(plan.examples, _generator(tokens, plan.task))
    if plan.past and per_new > 0:
        sampling = Sampling(
            per_new,
            top_k,
            temperature,
            max_new_tokens,
            budget.oversample,
            confidence,
            budget.min_usable,
            plan.seed + budget.seed,
        )
        examples = Beside(examples, _samples(plan, tokens, samples_by, answers, sampling))
    return dataclasses.replace(plan, examples=examples, weigh=weigh)


def _check(plan: Plan, per_new: float, lm_weight: float, tokens: str, by: dict[str, str]) -> None:
    if not plan.sequence:
        raise UsageError(
            "lamol",
            "rehearses the earlier tasks of a sequence, and this is not one",
            "teach a list of tasks; for one task after pre-training use magpie, replay or pretraining_mix",
        )
    if per_new > 0 and lm_weight == 0:
        raise UsageError(
            f"lamol.lm_weight = 0 with per_new = {per_new:g}",
            "nothing would teach the model to write the samples that it is to learn from",
            "set lm_weight (the paper's 0.25), or per_new: 0",
        )
    for name, value in by.items():
        if value == "task" and tokens == "shared":
            raise UsageError(
                f"lamol.{name} = task with tokens = shared",
                "a sample behind the shared token does not say which task it is of",
                "set tokens: task",
            )


def _generator(tokens: str, task: str) -> str:
    return SHARED if tokens == "shared" else f"__{task}__\n"


def _samples(
    plan: Plan, tokens: str, samples_by: str, answers: AnsweredBy, sampling: Sampling
) -> tuple[WithForms, ...]:
    """One source a generator token, each with its text forms."""
    if tokens == "shared":
        # One source for all earlier tasks, which takes the whole budget: part 0 of 1.
        anew = plan.before if answers == "latest" else None
        names = " and ".join(task.name for task in plan.past)
        parts = [PseudoSamples(plan.examples, names, SHARED, 0, 1, plan.before, anew, sampling)]
    else:
        parts = [
            PseudoSamples(
                plan.examples,
                task.name,
                _generator(tokens, task.name),
                # Its place among the earlier tasks and their number say which part of the budget is its own.
                place,
                len(plan.past),
                after(task, "lamol.samples_by") if samples_by == "task" else plan.before,
                answerer(plan, task, answers, "lamol.answers"),
                sampling,
            )
            for place, task in enumerate(plan.past)
        ]
    return tuple(WithForms(part, part.generator) for part in parts)


def answerer(plan: Plan, task: PastTask, answers: AnsweredBy, where: str) -> ModelHandle | None:
    """The model that answers rows of an earlier task anew; None keeps the sampled answers."""
    if answers == "task":
        return after(task, where)
    return plan.before if answers == "latest" else None


def after(task: PastTask, where: str) -> ModelHandle:
    """The model right after a task; UsageError naming the setting `where` if it was not kept."""
    if task.checkpoint is None:
        raise UsageError(
            f"{where} = task", f"the model right after task {task.name} is not known", "use latest instead"
        )
    return task.checkpoint
