"""Self-Synthesized Rehearsal: old rows made up from a few examples, answered by the model itself."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import AskedModelRef
from mnemos.methods.examples.lamol import answerer
from mnemos.methods.examples.replay import with_rows
from mnemos.methods.examples.sampling import BudgetSettings, Sampling
from mnemos.sources.mix import Beside
from mnemos.synthesis.ssr import Synthesis, SyntheticRows
from mnemos.synthesis.writers import AnsweredBy

BUDGET, SAMPLED = BudgetSettings(oversample=5.7), Sampling(temperature=0.9, top_p=0.6)
"""As in the paper, which draws 1,140 samples for 200 rows."""


@method(paper="arXiv:2403.01244", changes={"examples"}, off={"per_new": 0.0})
def ssr(
    plan: Plan,
    budget: BudgetSettings = BUDGET,
    sampling: Sampling = SAMPLED,
    *,
    per_new: Annotated[float, Field(ge=0, le=1000)] = 0.1,
    author: AskedModelRef | None = None,
    answers: AnsweredBy = "task",
    demonstrations: Annotated[int, Field(ge=2, le=1_000_000)] = 20,
    shots: Annotated[int, Field(ge=1, le=1_000_000)] = 2,
    clusters: Annotated[int, Field(ge=1, le=1_000_000)] = 20,
    longest_input: Annotated[int, Field(ge=1, le=1_000_000)] = 2000,
    longest_output: Annotated[int, Field(ge=1, le=1_000_000)] = 512,
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512,
) -> Plan:
    """Rehearse rows of earlier tasks that a base model makes up from a few kept ones and the model answers itself.

    per_new: rows made up for each earlier task, per row that was new in it (the paper's 200 of
    2,000 is 0.1); rounded up.
    author: path, hub id or http://host:port/v1#name of the model that makes up rows from
    demonstrations; unset, the model at the start of the sequence (the base model).
    answers: task has the model right after the task answer the rows greedily, once for all later
    stages; latest has the model before each stage do it again; sampled keeps the author's outputs.
    demonstrations: kept rows of the task that are shown, 20 in the paper.
    shots: demonstrations in one prompt.
    clusters: of k-means; from each, the rows nearest its centroid are taken in proportion to its size.
    longest_input: in characters; rows with a longer one are left out.
    longest_output: in characters; rows with a longer one are left out.
    max_new_tokens: longest sample, and longest new answer, in tokens.

    Rows of the kinds messages (one question, one answer, and a system turn if all share it) and
    completion. The first task of a sequence has nothing to rehearse: there nothing changes.

    Trap: another method of nearly this name, selective self-rehearsal (arXiv:2409.04787), learns the
    model's own answer wherever a judge accepts it.

    Trap: the budget is for each earlier task, so the share of rehearsed rows grows along a sequence;
    that of replay and lamol does not. Tasks that kept no rows are left out.

    Deviations from the paper: 1. there is no repetition penalty. 2. lengths are in characters (2,000
    and 512 for its 500 and 128 tokens). 3. inputs are compared by tf-idf projected to 64 dimensions,
    not by SimCSE. 4. quotas of clusters are rounded to largest remainders, so that they add up. 5.
    equal inputs are taken once. 6. the task definition is the system turn, if there is one. 7. a row
    whose new answer has no end gives its place to the next one. 8. the number of samples follows the
    budget instead of three for each ordered pair. 9. unless answers is sampled, an input that ends
    without an output is taken too, since its answer is given anew.

    Raises UsageError outside a sequence and where no earlier task kept rows (keep: true), DataError
    with counts by reason when too few rows are usable or there are fewer rows than demonstrations.
    """
    if per_new == 0:
        return plan
    if shots > demonstrations:
        raise UsageError(
            f"ssr.shots = {shots}", f"is more than the {demonstrations} demonstrations", "show at least as many"
        )
    synthesis = Synthesis(
        per_new=per_new,
        demonstrations=demonstrations,
        shots=shots,
        oversample=budget.oversample,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        clusters=clusters,
        longest_input=longest_input,
        longest_output=longest_output,
        max_new_tokens=max_new_tokens,
        min_usable=budget.min_usable,
        seed=plan.seed + budget.seed,
    )
    old = tuple(
        SyntheticRows(task.name, rows, _author(plan, author), answerer(plan, task, answers, "ssr.answers"), synthesis)
        for task, rows in with_rows(plan, "ssr")
    )
    return dataclasses.replace(plan, examples=Beside(plan.examples, old)) if old else plan


def _author(plan: Plan, author: str | None) -> ModelHandle:
    from mnemos.models.load import handle

    if author is not None:
        return handle(author)
    return plan.past[0].before or plan.before
