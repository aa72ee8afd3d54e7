"""What is read: answers in the format of their kind of task in place of the gold ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef
from mnemos.methods.examples.sampling import AnswerSettings
from mnemos.methods.examples.self_generated import with_rows
from mnemos.models.load import handle
from mnemos.synthesis.realign import FORMATS, Realigned, plain_name
from mnemos.synthesis.self_generated import Check


@method(
    paper="arXiv:2402.12219", changes={"examples"}, off={"share": 0.0},
    example={"author": "http://localhost:8000/v1#Qwen/Qwen3-8B"},
)  # fmt: skip
def realign(
    plan: Plan,
    answers: AnswerSettings,
    *,
    author: AskedModelRef,
    task: str | None = None,
    evidence: str | None = None,
    formats: dict[str, str] = {},  # noqa: B006  pydantic copies a default; it is never written into
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.3,
) -> Plan:
    """Let a chat model put each answer into the format that suits its kind of task, with what it says kept (ReAlign).

    author: the chat model that rewrites: a directory, hub id or http://host:port/v1#name.
    task: column that holds a row's kind of task; without one the author is asked for it, of the paper's 46.
    evidence: column that holds a text or list of texts that may help to answer; the author sees it where the task asks
    for knowledge.
    formats: kind of task -> format, instead of or beside those in `mnemos/synthesis/realign.py`; an empty one leaves
    the answers of that kind as they are.
    temperature: of sampling the rewriting; 0 is greedy.

    The gold answer is kept where the rewriting is at most half as long, where code came or went, where a solution
    lost its result, where the author repeats it because the format does not suit, and where the answer is a letter or
    true or false. Stories, poems, summaries and other kinds have no format and stay as they are.

    Trap: what is learned is a form. The same suites read by rule may score it lower, since the answer stands elsewhere.
    The formats are English; give your own for other languages.

    Deviations from the paper: 1. kinds of task are named by the author, not by a trained classifier. 2. formats and
    instruction are in other words, and no reasoning is asked for before the rewriting. 3. one rewriting, not the longer
    of two. 4. evidence comes with the rows; nothing is retrieved. 5. lengths are in words. 6. of a solution the last
    number must be in the rewriting, where the authors' code looks for any number in the question.
    """
    if answers.share == 0:
        return plan
    given = {plain_name(kind): text.strip() for kind, text in formats.items()}
    decoding = answers.decoding(plan, temperature)
    return with_rows(
        plan,
        Realigned(
            plan.examples,
            plan.before,
            Check(),
            decoding,
            answers.share,
            answers.min_acceptance,
            author=handle(author),
            formats={**FORMATS, **given},
            task=task,
            evidence=evidence,
        ),
    )
