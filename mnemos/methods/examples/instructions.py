"""What is read: instructions and texts that a model makes up from the new rows."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, get_args

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef, DataRef
from mnemos.methods.examples.sampling import BudgetSettings, Seeds, Share, TextSampling, learned_with
from mnemos.methods.examples.self_generated import model_of
from mnemos.models.load import handle
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge_prompt import SHIPPED, load_prompts
from mnemos.sources.read import read
from mnemos.synthesis.backtranslation import TAGS, BacktranslatedRows, Backtranslating, Tagged
from mnemos.synthesis.corpus import CorpusRows, Writing
from mnemos.synthesis.evol_instruct import EvolvedRows, Evolving
from mnemos.synthesis.self_instruct import Making, SelfInstructRows

BUDGET = BudgetSettings(oversample=1.0, min_usable=0.5)
WRITING_BUDGET = BudgetSettings(oversample=2.0, min_usable=0.5)
SELF, CURATION = "self", str(SHIPPED / "curation.yaml")
BACK = TextSampling(temperature=0.7, top_p=0.9)
CORPUS = TextSampling(temperature=1.0, top_p=0.95)
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
    seeds: Seeds = "learn",
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
    return learned_with(plan, SelfInstructRows(plan.examples, model_of(author) or plan.before, making), seeds)


@method(paper="arXiv:2308.06259", changes={"examples"}, off={"rows": 0}, example={"data": "pages.jsonl"})
def backtranslation(
    plan: Plan,
    sampling: TextSampling = BACK,
    *,
    data: DataRef,
    author: AskedModelRef | None = None,
    judge: Literal["self", "none"] | AskedModelRef = SELF,
    rows: Annotated[int, Field(ge=0, le=100_000_000)] = 1000,
    seeds: Seeds = "learn",
    min_rating: Annotated[float, Field(ge=1, le=5)] = 4.5,
    prompted: bool = True,
    tags: bool = True,
    min_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 600,
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 3000,
    max_instruction_tokens: Tokens = 256,
    verdict: Literal["log_probs", "text"] = "log_probs",
    raw: bool = False,
    max_unparsed: Share = 0.2,
    min_usable: Share = 0.1,
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0,
) -> Plan:
    """Let a model make up instructions that texts answer, and learn the pairs that it rates high (Humpback).

    data: texts that people wrote, such as pages of the web: the answers.
    author: who makes instructions up: a directory, hub id or http://host:port/v1#name; the model before unless given.
    judge: who rates the pairs from 1 to 5: a model, `self` for the model before, or `none` to keep them all.
    rows: pairs at most; 0 turns the method off.
    seeds: whether the arm's own rows are learned beside them.
    min_rating: pairs below it are left out.
    prompted: ask the author in words; false shows it the text alone, as a model that learned with `reverse` was taught.
    tags: put the paper's two system turns before the arm's own rows and before the pairs.
    min_chars: shorter texts are left out.
    max_chars: longer texts are left out.
    max_instruction_tokens: longest instruction.
    verdict: a rating is the mean of the scale under the judge's option probabilities, or the number that it writes.
    raw: ask the judge without a chat template, as option probabilities of a server need it.
    max_unparsed: with verdict: text, share of ratings that may be unreadable; above it the study stops.
    min_usable: share of `rows` that must be kept, else the study stops with the counts by reason.
    seed: added to the arm's seed where instructions are sampled.

    A pair is left out where the instruction is empty, has no end or is a run of the text's own words, where it was
    there before, and where it holds an item of one of the study's suites. The rating is in the column `rating`.

    Trap: without curation the paper finds no gain from more data; and a small judge rates nearly everything alike: read
    the mean rating in the step's notes, and calibrate it (docs/judges.md).

    Trap: a chat template without system turns refuses the tags: set tags: false.

    Deviations from the paper: 1. one round of curation; for the second make the arm's model the judge of another study.
    2. the judge reads option probabilities unless verdict is text. 3. the prompts say the same in other words.

    Raises DataError, when rows are written, for too few usable pairs, with counts by reason.
    """
    if rows == 0:
        return plan
    asked = plan.before if judge == SELF else None if judge == "none" else handle(judge)
    grader = None if asked is None else Grader(asked, verdict, raw, max_unparsed, load_prompts(CURATION))
    making = Backtranslating(
        rows,
        prompted,
        TAGS[1] if tags else None,
        min_rating,
        sampling.temperature,
        sampling.top_p,
        max_instruction_tokens,
        min_chars,
        max_chars,
        min_usable,
        plan.seed + seed,
    )
    texts = read(data, format="text", on_bad="skip")
    made = BacktranslatedRows(plan.examples, model_of(author) or plan.before, texts, grader, making)
    if tags:
        plan = dataclasses.replace(plan, examples=Tagged(plan.examples, TAGS[0]))
    return learned_with(plan, made, seeds)


@method(paper="arXiv:2304.12244", changes={"examples"}, off={"rounds": 0})
def evol_instruct(
    plan: Plan,
    sampling: TextSampling = EVOLVING,
    *,
    author: AskedModelRef | None = None,
    rounds: Annotated[int, Field(ge=0, le=64)] = 4,
    seeds: Seeds = "learn",
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
    return learned_with(plan, EvolvedRows(plan.examples, model_of(author) or plan.before, evolving), seeds)


@method(
    paper="arXiv:2309.10707", changes={"examples"}, off={"rows": 0}, example={"domain": "requests to a smart speaker"}
)
def corpus_synthesis(
    plan: Plan,
    sampling: TextSampling = CORPUS,
    budget: BudgetSettings = WRITING_BUDGET,
    *,
    domain: Annotated[str, Field(min_length=1, max_length=2000)],
    author: AskedModelRef | None = None,
    words: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = (),
    rows: Annotated[int, Field(ge=0, le=100_000_000)] = 1000,
    seeds: Seeds = "learn",
    shots: Annotated[int, Field(ge=0, le=64)] = 8,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    min_words: Annotated[int, Field(ge=1, le=10_000)] = 2,
    max_words: Annotated[int, Field(ge=1, le=10_000)] = 30,
    max_new_tokens: Tokens = 64,
    raw: bool = False,
) -> Plan:
    """Let a language model write texts of a domain, of which there are a few or none; `tts` behind it speaks them.

    domain: what the texts are about, as the author is told it: "orders in a restaurant".
    author: who writes: a directory, hub id or http://host:port/v1#name; the model before unless given.
    words: names or words of which each text must hold one, shared out evenly: what a recogniser has never heard.
    rows: texts to be written; 0 turns the method off. oversample is in prompts a text.
    seeds: whether the arm's own rows are learned beside the texts.
    shots: texts of the arm's own rows that each prompt shows, drawn by seed; 0 writes from the description alone.
    novelty: a text is left out whose ROUGE-L with a shown or a written one is at least so much.
    min_words: shorter texts are left out.
    max_words: longer texts are left out, and not shown.
    max_new_tokens: longest answer.
    raw: ask by a text to be continued, without a chat template, as an author without one needs it.

    Of an answer the first line counts, without a list's mark and quotation marks. A text is left out that has no end,
    does not hold the word that was asked for, is like another, or holds an item of one of the study's suites. Of rows
    of sound the transcripts are shown. The step's notes say how many texts the rarest of the words has.

    Trap: a recogniser cannot write: name an author where the model of the study is one.

    Trap: a recogniser's alphabet often has no digits, and some authors write them all the same: rows with characters
    that it cannot write are counted when they are learned.

    Deviations from the paper: 1. the author is not tuned to follow the instruction first; use a chat model. 2. a text
    is asked for by a topic in words, and not by tagged slots.

    Raises DataError, when rows are written, where nothing can be shown or too few texts are usable, with counts by
    reason.
    """
    if rows == 0:
        return plan
    if min_words > max_words:
        raise UsageError(
            f"corpus_synthesis.min_words = {min_words}",
            f"is above max_words = {max_words}, so that no text can be kept",
            "set min_words to max_words or less",
        )
    writing = Writing(
        domain,
        words,
        rows,
        budget.oversample,
        shots,
        novelty,
        min_words,
        max_words,
        max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        raw,
        budget.min_usable,
        plan.seed + budget.seed,
    )
    return learned_with(plan, CorpusRows(plan.examples, model_of(author) or plan.before, writing), seeds)
