"""What is read: the model's own answers as feedback has them, in pairs of a better and a worse one, or
criticised and revised."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef, FileRef
from mnemos.methods.examples.sampling import AnswerSettings, CheckSettings, Sampling, Share, TextSampling
from mnemos.methods.examples.self_generated import model_of, with_rows
from mnemos.rewards.by_name import RewardSettings, make
from mnemos.rewards.judge import CONSTITUTION, principles
from mnemos.rewards.verifiers import TextNameOrNone
from mnemos.synthesis.by_reward import JudgedPairs
from mnemos.synthesis.revision import Revised
from mnemos.synthesis.self_generated import Check

RATED = Sampling(temperature=0.7, top_p=0.9)
"""How arXiv:2401.10020 samples the answers that its judge rates."""


@method(
    paper="arXiv:2401.10020",
    changes={"examples"},
    off={"share": 0.0},
    example={"reward": {"verifier": "normalised"}},
)
def judged_pairs(
    plan: Plan,
    answers: AnswerSettings,
    sampling: Sampling = RATED,
    *,
    reward: RewardSettings,
    num_generations: Annotated[int, Field(ge=2, le=1024)] = 4,
    min_gap: Annotated[float, Field(ge=0)] = 0.0,
    max_missing: Share = 0.1,
) -> Plan:
    """Sample several answers, let a judge rate them, learn to prefer the best one to the worst one.

    reward: what answers are worth: a verifier, a JSON schema, a reward model or a judge; see
    docs/reward.md. A judge compares a question's samples with each other, each two in both orders;
    judge: self is the model before, as it then is at each stage of a sequence.
    num_generations: answers sampled to each question; 2 with a judge are the labels of RLAIF
    (arXiv:2309.00267). A judge is asked num_generations * (num_generations - 1) questions a row.
    min_gap: by how much the rewards of a pair must differ at least, in the reward's unit (a judge's is
    a probability); equal ones never make a pair.
    max_missing: share of rewards that may be missing, in [0, 1]; above it the study stops with the
    counts by reason.

    It makes pairs; dpo, kto, simpo or orpo in the same arm learns them (without one, the better answers
    are learned by likelihood). Gold answers are read by verifiers only. A question without a pair is
    left out and counted. Rows that were not asked about stay, and are learned by likelihood.

    Trap: a judge that only likes one place gives verdicts that say nothing; ask `mnemos reward judge`
    how far it leans before believing the pairs.

    Trap: what a judge likes grows round by round, be it length or its own errors; measure old skills, and
    the new one by something else than the judge.

    Deviations from the papers: 1. a judge compares samples by principles in place of giving each a mark of
    5 points. 2. a judge's probability stands in the columns `reward_chosen` and `reward_rejected`; labels
    are hard unless dpo's soft_label names the first of them. 3. questions are those of the data, none is
    made up. 4. the judge is not trained to judge.
    """
    if answers.share == 0:
        return plan
    pairs = JudgedPairs(
        plan.examples,
        plan.before,
        # The reward decides; no verifier stands beside it.
        Check(),
        answers.decoding(plan, sampling.temperature, sampling.top_p),
        answers.share,
        answers.min_acceptance,
        "drop",
        num_generations=num_generations,
        reward=make(reward, plan.before),
        max_missing=max_missing,
        min_gap=min_gap,
    )
    return with_rows(plan, pairs)


@method(paper="arXiv:2212.08073", changes={"examples"}, off={"share": 0.0})
def critique_revision(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    sampling: TextSampling,
    *,
    rounds: Annotated[int, Field(ge=1, le=64)] = 4,
    constitution: FileRef | None = None,
    editor: AskedModelRef | None = None,
    verifier: TextNameOrNone = "none",
) -> Plan:
    """Constitutional AI: the model answers, criticises its answer by a principle, revises it, and learns
    the revision.

    rounds: of critique and revision, each by a principle drawn by seed.
    constitution: a text file of principles, one a line; the shipped ones unless given.
    editor: who criticises and revises: a directory, hub id or http://host:port/v1#name; the model before
    itself unless given. The first answer is always the model's.
    verifier: what a revision must pass against the gold answer; none takes every revision that ends.

    A revision is refused, and the text before it kept, where it is empty, has no end, fails the verifier
    or speaks of the instruction. A row without any revision that stands is left out. Gold answers are
    read by verifiers only.

    Trap: a small model does not follow such instructions, and its text then has an end and nothing to do
    with the question: name an editor that can, or a verifier.

    Trap: revising for long makes answers of one kind; read some before training on all.

    Deviations from the paper: 1. the last revision that stands is learned, by the model before. 2. the
    prompts say the same in other words, without examples. 3. one constitution serves critiques and
    judges.
    """
    if answers.share == 0:
        return plan
    decoding = answers.decoding(plan, sampling.temperature, sampling.top_p)
    revised = Revised(
        plan.examples,
        plan.before,
        check.by(verifier),
        decoding,
        answers.share,
        answers.min_acceptance,
        "drop",
        editor=model_of(editor) or plan.before,
        principles=principles(constitution or CONSTITUTION),
        rounds=rounds,
        seed=plan.seed + answers.seed,
    )
    return with_rows(plan, revised)
