"""What is read: answers in the model's own words in place of the gold ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import AskedModelRef, FileRef, PowerSettings
from mnemos.methods.examples.sampling import AnswerSettings, CheckSettings, Sampling, Share, TextSampling
from mnemos.models.load import handle
from mnemos.rewards.by_name import SELF, RewardSettings, make
from mnemos.rewards.verifiers import TextName, TextNameOrNone
from mnemos.synthesis.by_reward import BestSamples
from mnemos.synthesis.self_generated import (
    QUESTION,
    Check,
    Rewritten,
    SelfAnswers,
    SelfGenerated,
    SelfSamples,
    TeacherAnswers,
)

REWRITTEN, SAMPLED = TextSampling(temperature=0.7, top_p=0.95), Sampling(temperature=0.7, top_p=0.95)
"""How arXiv:2501.14315 samples."""
GREEDY = TextSampling(temperature=0.0)


@method(paper="arXiv:2402.13669", changes={"examples"}, off={"share": 0.0})
def sdft(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    *,
    template: Literal["refer", "guide", "maths"] = "refer",
    verifier: TextNameOrNone = "none",
    temperature: Annotated[float, Field(ge=0)] = 0.0,
) -> Plan:
    """Self-distillation: the model before rewrites each gold answer in its own words, and learns these.

    template: how the rewrite is asked for: refer (follow the question, with the reference at hand),
    guide (instruction and reference in blocks), maths (solve it step by step).
    verifier: what a rewrite must pass against the gold answer; a rewrite that fails, that never ends
    or that speaks of the instruction ("reference answer", "your response", …) is refused, and the gold
    answer is kept. number for maths, json for calls.
    temperature: of sampling the rewrite; 0 is greedy.

    Trap: a small model does not follow the instruction, and then nearly every gold answer is kept (of
    the paper's function calls 236 of 2,211 rows were changed). Read the acceptance rate in the ledger
    before comparing arms. With much capacity to learn (LoRA of rank 64 on all layers) others measured
    SDFT below plain fine-tuning on the task itself.

    Deviations from the paper: 1. the templates say the same in other words. 2. for maths the opener is
    asked for instead of being put into the model's mouth. 3. the verifier is one of this package's
    instead of a rule per data set. 4. of a chat of several turns the last answer is rewritten.
    """
    if answers.share == 0:
        return plan
    passes = check.by(verifier, leaks=True)
    decoding = answers.decoding(plan, temperature)
    return with_rows(
        plan,
        Rewritten(
            plan.examples,
            plan.before,
            passes,
            decoding,
            answers.share,
            answers.min_acceptance,
            author=plan.before,
            template=template,
        ),
    )


@method(paper="arXiv:2501.14315", changes={"examples"}, off={"share": 0.0})
def rephrase(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    sampling: TextSampling = REWRITTEN,
    *,
    author: AskedModelRef | None = None,
    verifier: TextNameOrNone = "normalised",
    unsolved: Literal["keep", "drop"] = "keep",
) -> Plan:
    """One sampled rewrite of each gold answer, learned where it says the same.

    author: who rewrites: a directory, hub id or http://host:port/v1#name; the model before unless given.
    verifier: what a rewrite must pass against the gold answer; none takes every rewrite that ends.
    unsolved: what becomes of a row whose rewrite fails: keep its gold answer, or drop the row. Kept
    gold answers raise the perplexity of what is learned, and with it what is forgotten.

    Deviations from the paper: 1. the instruction is `sdft`'s first template. 2. MBPP's tests and a
    judging model are replaced by this package's verifiers.
    """
    if answers.share == 0:
        return plan
    passes = check.by(verifier, leaks=True)
    decoding = answers.decoding(plan, sampling.temperature, sampling.top_p)
    return with_rows(
        plan,
        Rewritten(
            plan.examples,
            plan.before,
            passes,
            decoding,
            answers.share,
            answers.min_acceptance,
            unsolved,
            author=model_of(author) or plan.before,
            template="refer",
        ),
    )


@method(paper="arXiv:2402.11192", changes={"examples"}, off={"share": 0.0})
def minimum_change(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    *,
    editor: AskedModelRef | None = None,
    verifier: TextName = "normalised",
) -> Plan:
    """The model's own answer where it is right; where not, that answer with as few words changed as
    possible; the gold one only where neither is right.

    editor: who mends a wrong answer, with the gold one at hand: a directory, hub id or
    http://host:port/v1#name; the model before itself unless given.
    verifier: what an own or edited answer must pass against the gold answer.

    Answers are greedy. Own and edited ones count alike for min_acceptance.

    Trap: the paper's editor is GPT-4. A small model that edits its own answers mostly fails the
    verifier: the ledger counts own, edited and gold answers apart.

    Deviations from the paper: 1. the editor is a setting, by default the model before. 2. an edit that
    the verifier refuses is not used; the gold answer is.
    """
    if answers.share == 0:
        return plan
    passes = check.by(verifier)
    decoding = answers.decoding(plan)
    mends = model_of(editor) or plan.before
    return with_rows(
        plan,
        SelfAnswers(plan.examples, plan.before, passes, decoding, answers.share, answers.min_acceptance, editor=mends),
    )


@method(paper="arXiv:2409.04787", changes={"examples"}, off={"share": 0.0})
def selective_self_rehearsal(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    *,
    judge: AskedModelRef | None = None,
    verifier: TextNameOrNone = "normalised",
) -> Plan:
    """The model's own answer where a judge accepts it, the gold one elsewhere.

    judge: a model that is asked whether own and gold answer say the same: a directory, hub id or
    http://host:port/v1#name. Without one the verifier alone decides; with one, both must agree (and
    verifier: none leaves it to the judge).
    verifier: what an own answer must pass against the gold answer.

    Answers are greedy.

    Raises UsageError where neither judge nor verifier decides.

    Deviations from the paper: 1. a verifier stands in for the judging model unless one is named. 2. the
    judge is asked one question, for yes or no.
    """
    if answers.share == 0:
        return plan
    if judge is None and verifier == "none":
        raise UsageError(
            "selective_self_rehearsal.verifier = none",
            "leaves nobody to judge the answers",
            "name a verifier, or a model under judge",
        )
    passes = check.by(verifier, judge=model_of(judge))
    decoding = answers.decoding(plan)
    return with_rows(
        plan, SelfAnswers(plan.examples, plan.before, passes, decoding, answers.share, answers.min_acceptance)
    )


@method(paper="arXiv:2501.14315", changes={"examples"}, off={"share": 0.0})
def self_output(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    sampling: Sampling = SAMPLED,
    *,
    num_generations: Annotated[int, Field(ge=1, le=1024)] = 32,
    verifier: TextNameOrNone = "normalised",
    unsolved: Literal["drop", "keep"] = "drop",
) -> Plan:
    """Sample the model's own answers and learn, of the right ones, that of the lowest perplexity.

    num_generations: answers sampled to each question.
    verifier: what an answer must pass against the gold answer; none takes every answer that ends.
    unsolved: what becomes of a question without a right sample: drop it, or keep its gold answer. Kept
    gold answers raise the perplexity of what is learned, and with it what is forgotten.

    Perplexity is that of the answer's text behind its question, per token, under the model before.

    Trap: only what the model can already do is learned; of the paper's 374 programs 213 remained. A
    skill that the model lacks altogether leaves nothing, and the study says so.

    Deviation from the paper: 1. its tests and judging model are replaced by this package's verifiers.
    """
    if answers.share == 0:
        return plan
    passes = check.by(verifier)
    decoding = answers.decoding(plan, sampling.temperature, sampling.top_p)
    return with_rows(
        plan,
        SelfSamples(
            plan.examples,
            plan.before,
            passes,
            decoding,
            answers.share,
            answers.min_acceptance,
            unsolved,
            num_generations=num_generations,
        ),
    )


@method(paper="arXiv:1606.07947", changes={"examples"}, off={"share": 0.0}, example={"teacher": "self"})
def teacher_answers(
    plan: Plan,
    answers: AnswerSettings,
    check: CheckSettings,
    sampling: TextSampling = GREEDY,
    *,
    teacher: AskedModelRef,
    shown: FileRef | None = None,
    stop: tuple[str, ...] = (),
    verifier: TextNameOrNone = "none",
    unsolved: Literal["drop", "keep"] = "drop",
) -> Plan:
    """Learn a teacher's answers to the rows' questions in place of the gold ones (sequence-level distillation).

    teacher: who answers: a directory, hub id, http://host:port/v1#name, or self, the model before.
    shown: a text file that the teacher goes on with, {question} in it being the row's last question. It makes a base
    model answer (examples, URIAL arXiv:2312.01552), and what it says need not be said to the student any more (context
    distillation, arXiv:2209.15189). Without it the teacher is asked through its own chat template, as the row is.
    stop: texts that end an answer, which is cut before the first of them.
    verifier: what an answer must pass against the gold answer; none takes every answer that ends.
    unsolved: what becomes of a row whose answer fails: drop it, or keep its gold answer.

    The teacher's tokenizer does not matter. Its probabilities are not learned: `distillation` learns them on the
    model's own answers, `uld` across tokenizers.

    Trap: the rows bring the teacher's name, refusals and length of answers along; ask for them in suites.

    Trap: behind a shown text the teacher sees a chat's last question alone, not its system text or earlier turns.

    Deviations from the paper: 1. answers are greedy or sampled, no beam is searched. 2. an answer without an end
    within max_new_tokens is refused.
    """
    if answers.share == 0:
        return plan
    decoding = answers.decoding(plan, sampling.temperature, sampling.top_p)
    who = plan.before if teacher == SELF else handle(teacher)
    taught = TeacherAnswers(
        plan.examples,
        plan.before,
        check.by(verifier),
        dataclasses.replace(decoding, stop=stop),
        answers.share,
        answers.min_acceptance,
        unsolved,
        teacher=who,
        shown=None if shown is None else _shown(Path(shown)),
    )
    return with_rows(plan, taught)


@method(
    paper="arXiv:2112.09332",
    changes={"examples"},
    off={"share": 0.0},
    example={"reward": {"verifier": "normalised"}},
)
def best_of_n(
    plan: Plan,
    answers: AnswerSettings,
    sampling: Sampling,
    *,
    reward: RewardSettings,
    num_generations: Annotated[int, Field(ge=1, le=1024)] = 16,
    power: PowerSettings | None = None,
    min_reward: float | None = None,
    max_missing: Share = 0.1,
    unsolved: Literal["drop", "keep"] = "drop",
) -> Plan:
    """Rejection sampling: sample several answers, learn the one with the highest reward.

    reward: what answers are rewarded for: a verifier, a JSON schema, a reward model or a judge; see
    docs/reward.md.
    num_generations: answers sampled to each question.
    power: draw them from p^alpha, the model's distribution over whole answers made sharper (arXiv:2510.14901), with
    alpha, block and steps as in a suite; temperature is then the proposal's, 1 standing for 1 / alpha.
    min_reward: what the best sample must be worth at least; none asks nothing of it.
    max_missing: share of rewards that may be missing, in [0, 1]; above it the study stops with the
    counts by reason.
    unsolved: what becomes of a question without a sample to learn: drop it, or keep its gold answer.

    Best-of-n moves at most ln n - (n - 1) / n nats away from the model before (arXiv:2210.10760), so
    few samples forget little.

    Trap: with many samples the best one by a learned reward is often the one that the reward is wrong
    about. Measure on suites that the reward has not seen.

    Trap: without min_reward every question gives an answer, even where all samples are wrong.

    Deviation from the paper: 1. its best-of-n answers users; here the answers are learned, as in
    rejection sampling of arXiv:2307.09288.
    """
    if answers.share == 0:
        return plan
    decoding = answers.decoding(plan, sampling.temperature, sampling.top_p)
    if power is not None:
        if sampling.top_p < 1:
            raise UsageError(
                f"best_of_n.top_p = {sampling.top_p:g}",
                "leaves tokens out, and p^alpha is then not what is drawn from",
                "leave out top_p, or power",
            )
        proposal = None if sampling.temperature == 1 else sampling.temperature
        # A method gets its settings as plain mappings.
        sharper = PowerSettings.model_validate(power)
        decoding = sharper.decoding(decoding.max_new_tokens, proposal, decoding.seed)
    best = BestSamples(
        plan.examples,
        plan.before,
        # The reward decides; no verifier stands beside it.
        Check(),
        decoding,
        answers.share,
        answers.min_acceptance,
        unsolved,
        num_generations=num_generations,
        reward=make(reward, plan.before),
        max_missing=max_missing,
        least=min_reward,
    )
    return with_rows(plan, best)


def _shown(path: Path) -> str:
    """The text that a teacher goes on with. UsageError where the file cannot be read or has no place for a question."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"teacher_answers.shown = {path}", f"cannot be read ({error})", "name a text file") from None
    if QUESTION not in text:
        raise UsageError(
            f"teacher_answers.shown = {path}",
            f"has no {QUESTION}, so every row would be answered alike",
            f"write {QUESTION} where the row's question belongs",
        )
    return text


def with_rows(plan: Plan, examples: SelfGenerated) -> Plan:
    """The plan that reads these rows."""
    return dataclasses.replace(plan, examples=examples)


def model_of(reference: str | None) -> ModelHandle | None:
    """The handle of a model that a setting names, if it does."""
    return None if reference is None else handle(reference)
