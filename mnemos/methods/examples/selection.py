"""What is read: some of the new rows, chosen by a rule at one budget for all rules."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef, FileRef, Seed
from mnemos.models.load import handle
from mnemos.rewards.by_name import SELF
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge_prompt import SHIPPED, load_prompts
from mnemos.synthesis.selection import (
    AnswerTokens,
    ComplexityTimesQuality,
    Drawn,
    InstructionFollowingDifficulty,
    Keep,
    Perplexity,
    Score,
    Selected,
)

COMPLEXITY, QUALITY = str(SHIPPED / "complexity.yaml"), str(SHIPPED / "quality.yaml")

Temperature = Annotated[float, Field(ge=1, le=1000)]
By = Literal["random", "longest", "perplexity", "ifd", "k_center", "all"]


@method(paper="arXiv:2402.04833", changes={"examples"}, off={"by": "all"})
def select(
    plan: Plan,
    *,
    by: By = "random",
    rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1000,
    keep: Keep = "highest",
    per: str | None = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
) -> Plan:
    """Learn from some of the new rows only: a budget, filled by one of several rules.

    by: random; longest, most answer tokens in the tokenizer of the model that learns; perplexity, of the answer behind
    its question; ifd, that over the answer's alone in mean nats a token (instruction-following difficulty,
    arXiv:2308.12032); k_center, rows that lie far apart (arXiv:1708.00489); all, every row, which turns the method off.
    rows: the budget, in rows. The papers keep 1,000.
    keep: which end of the score fills the budget: the highest, the lowest (shortest answers, most expected ones), or
    the middle ranks. Of no use beside random and k_center, and refused there.
    per: a column of the data (the source, the kind of task); each of its values has a share of the budget and fills it
    by itself. With by: random this is LIMA's recipe (arXiv:2305.11206).
    temperature: with per, shares are in proportion to size^(1 / temperature): 1 is by size, more is more even. LIMA
    has 3.
    seed: with random, added to the arm's seed.

    Rows that cannot be scored are left out and counted by reason: without an answer, longer than the model reads, or
    with an IFD above 1, where the instruction only hinders. A smaller budget lies inside a larger one (unless per
    shares it out). A pool that is smaller than the budget is refused. Perplexities are those of the model before, which
    reads every row once, and for ifd every answer once more.

    Trap: rows of equal number are not rows of equal length. `longest` trains on several times the tokens of `random`;
    the ledger's note says how many characters an answer has, chosen and in the pool.

    Trap: `longest` alone mostly picks code and lists; with per: it takes the longest of each kind.

    Trap: rows of earlier tasks are not chosen among, so a method that mixes them in by share stands behind this one.

    Deviations from the papers: 1. the model that scores is the one before the stage, not one that was first taught a
    thousand rows of each cluster (arXiv:2308.12032). 2. an answer alone stands behind the token that begins a text, not
    behind "### Response:". 3. k-center is over latent semantic embeddings of the whole row, and begins at the point
    nearest to their mean. 4. lengths and nats of a row's several answers add up.

    Raises UsageError for a column that no row has, and for keep where it says nothing; DataError, when the rows are
    chosen, for a budget that cannot be filled.
    """
    if by == "all":
        return plan
    if by in ("random", "k_center") and keep != "highest":
        raise UsageError(f"select.keep = {keep}", f"says nothing beside by: {by}", "leave keep out")
    # None is k-center. Neither a model nor a seed that changes nothing may change the fingerprint: arms share rows.
    scores: dict[str, Score | None] = {
        "random": Drawn(plan.seed + seed),
        "longest": AnswerTokens(plan.before),
        "perplexity": Perplexity(plan.before),
        "ifd": InstructionFollowingDifficulty(plan.before),
        "k_center": None,
    }
    chosen = Selected(
        plan.examples, "select", rows, scores[by], keep, per=per, temperature=temperature if per is not None else 1.0
    )
    return dataclasses.replace(plan, examples=chosen)


@method(paper="arXiv:2312.15685", changes={"examples"}, off={"rows": 0}, example={"judge": "self"})
def deita(
    plan: Plan,
    *,
    judge: Literal["self"] | AskedModelRef,
    rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = 6000,
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.9,
    turns: Literal["sum", "mean"] = "sum",
    verdict: Literal["log_probs", "text"] = "log_probs",
    raw: bool = False,
    max_unparsed: Annotated[float, Field(ge=0, le=1)] = 0.2,
    complexity_prompt: FileRef | None = None,
    quality_prompt: FileRef | None = None,
    per: str | None = None,
    temperature: Temperature = 1.0,
) -> Plan:
    """Learn from the complex questions with good answers that are unlike each other (DEITA).

    judge: a model that rates complexity and quality: a directory, hub id, http://host:port/v1#name, or self, the model
    before.
    rows: the budget, in rows; 0 keeps all rows and turns the method off.
    similarity: a row whose cosine to one that was chosen before it is at least so much is passed over; 1 passes over
    equal ones only.
    turns: a chat's score is the sum over its answers, as in the paper, or their mean.
    verdict: a rating is the mean of the scale under the judge's option probabilities (log_probs, as in the paper), or
    the number that it writes (text).
    raw: ask without a chat template, as option probabilities of a server need it.
    max_unparsed: with verdict: text, share of ratings that may be unreadable; above it the study stops.
    complexity_prompt: a file with a prompt of kind single in which {answer} is the question; the shipped one unless
    given.
    quality_prompt: the same for the answer.
    per: as of `select`.
    temperature: as of `select`.

    A row's score is (complexity of the question) * (quality of the answer), each from 1 to 6. From the highest score
    down, a row is chosen unless it is too like one that is chosen already, until the budget is full.

    Trap: the sum over answers prefers long chats, whatever is in them; turns: mean does not.

    Trap: a small judge rates nearly everything alike, and what is chosen is then chance; read the standard deviation of
    the scores in the step's notes, and calibrate the judge (docs/judges.md).

    Deviations from the paper: 1. ratings come from a judge that is asked, not from two models that were taught on
    evolved rows. 2. embeddings are latent semantic ones (`sources.similarity.embed`), whose cosines are not those of
    LLaMA: compare how many rows the filter passes over, not its bound. 3. a row is compared with the rows that were
    chosen; the authors' code also drops what is like a row that was refused in the same batch.
    """
    if rows == 0:
        return plan
    asked = plan.before if judge == SELF else handle(judge)
    complexity, quality = (
        Grader(asked, verdict, raw, max_unparsed, load_prompts(place))
        for place in (complexity_prompt or COMPLEXITY, quality_prompt or QUALITY)
    )
    score = ComplexityTimesQuality(complexity, quality, mean=turns == "mean")
    chosen = Selected(
        plan.examples,
        "deita",
        rows,
        score,
        similarity=similarity,
        per=per,
        temperature=temperature if per is not None else 1.0,
    )
    return dataclasses.replace(plan, examples=chosen)
