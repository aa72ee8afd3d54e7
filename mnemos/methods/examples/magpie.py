"""Magpie: an aligned model writes questions from nothing but its chat template, and answers them."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import AskedModelRef
from mnemos.methods.examples.sampling import BudgetSettings, Sampling
from mnemos.sources.mix import Beside
from mnemos.synthesis.magpie import Asking, MagpieRows

BUDGET = BudgetSettings(oversample=3.0)


@method(paper="arXiv:2406.08464", changes={"examples"}, off={"share_of_final": 0.0})
def magpie(
    plan: Plan,
    sampling: Sampling,
    budget: BudgetSettings = BUDGET,
    *,
    share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    author: AskedModelRef | None = None,
    system: str = "",
    max_question_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256,
    max_answer_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512,
    min_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 8,
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 2000,
    repetition: Annotated[float, Field(ge=0, le=1)] = 0.2,
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8,
    clusters: Annotated[int, Field(ge=1, le=1_000_000)] = 20,
) -> Plan:
    """Rehearse chats that the model before the stage makes up by itself, without any stored data.

    share_of_final: made-up chats as a share of all rows, in [0, 1).
    author: path or hub id of the chat model that writes questions and answers; unset, the model
    before the stage. Another model's chats would shift this one instead of keeping it.
    system: a system turn under which questions are written, to steer what they are about ("You
    help with mathematics."); answers are given without it.
    max_question_tokens: longest question; a longer one has no end and is left out.
    max_answer_tokens: longest answer; a longer one is left out.
    min_chars: characters of a question at least.
    max_chars: characters of a question at most.
    repetition: share of 4-grams that may repeat an earlier one, in a question and in an answer.
    similarity: two questions are near-duplicates from this Jaccard similarity of their 5-character
    shingles on, in (0, 1]; the later one is left out.
    clusters: of k-means over the questions; those nearest the centroids are taken, from each cluster
    in proportion to its size.

    The model is given its own chat template up to where a user's words would begin (found by
    rendering a turn, for any template), writes the words, and answers them greedily. temperature and top_p are
    of the words: the paper has temperature 1, and 0.7 for Qwen2.5. It works
    without a sequence: what is rehearsed is the chat model as it came.

    Trap: it needs the weights or a completion endpoint of the very template; behind a chat server
    only greetings come out, so a server is refused as author. A base model without a chat template
    is refused too: use pretraining_mix.

    Trap: small chat models write poor questions; look at the rows of the step before you trust them.

    Deviations from the paper: 1. quality, difficulty and reward are not tagged by further models;
    filters are rules. 2. near-duplicates are found by shared pieces of words instead of distances of
    embeddings. 3. questions that spread over clusters are taken instead of those with the longest
    answers. 4. questions and answers are shorter than its 2,048 and 4,096 tokens unless set so.

    Raises UsageError for a server as author, DataError with counts by reason when too few chats are
    usable or the share is below one row, ModelError for a model without a chat template.
    """
    if share_of_final == 0:
        return plan
    asking = Asking(
        system=system,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_question_tokens=max_question_tokens,
        max_answer_tokens=max_answer_tokens,
        oversample=budget.oversample,
        min_chars=min_chars,
        max_chars=max_chars,
        repetition=repetition,
        similarity=similarity,
        clusters=clusters,
        min_usable=budget.min_usable,
        seed=plan.seed + budget.seed,
    )
    rows = MagpieRows(plan.examples, _author(plan, author), share_of_final, asking)
    return dataclasses.replace(plan, examples=Beside(plan.examples, (rows,)))


def _author(plan: Plan, author: str | None) -> ModelHandle:
    from mnemos.models.load import handle

    if author is None:
        return plan.before
    if author.startswith(("http://", "https://")):
        raise UsageError(
            f"magpie.author = {author!r}",
            "is a server, whose chat template is not known here and which answers chats only",
            "name a model directory or hub id",
        )
    return handle(author)
