"""What is read: documents that a model rewrites or makes up, beside those that are there."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Decoding, Source
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef, DataRef
from mnemos.methods.examples.sampling import Share, TextSampling
from mnemos.models.load import handle
from mnemos.sources.mix import Mixture
from mnemos.sources.read import read
from mnemos.synthesis.pages import REPHRASED, STYLES, TEXTBOOK, Rephrased, Style, Textbooks, styles_of

WRAP, PHI = TextSampling(temperature=0.7, top_p=0.95), TextSampling(temperature=1.0, top_p=0.95)
ALL: tuple[Style, ...] = tuple(STYLES)
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


@method(
    paper="arXiv:2401.16380", changes={"examples"}, off={"share_of_final": 0.0},
    example={"author": "http://localhost:8000/v1#Qwen/Qwen3-8B"},
)  # fmt: skip
def wrap(
    plan: Plan,
    sampling: TextSampling = WRAP,
    *,
    author: AskedModelRef,
    styles: tuple[Style, ...] = ALL,
    share_of_final: Share = 0.5,
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 1200,
    max_new_tokens: Tokens = 512,
    min_acceptance: Share = 0.2,
    seed: Seed = 0,
) -> Plan:
    """Let a chat model rewrite documents in other styles, and learn these beside the documents (WRAP).

    author: the chat model that rewrites: a directory, hub id or http://host:port/v1#name.
    styles: easy (a small child's words), medium (an encyclopedia's), hard (a scholar's), qa (questions and answers).
    Each passage is rewritten once, in a style drawn by the seed.
    share_of_final: rewritten passages as a share of all rows; the paper reads half and half. 1 leaves the documents
    out.
    max_chars: characters of a passage, cut behind sentences or lines; the paper's passages have at most 300 tokens.
    max_new_tokens: longest rewriting; one that has no end is left out.
    min_acceptance: share of the passages that must come out usable, else the study stops with the counts by reason.
    seed: of styles and sampling. The arm's own seed is no part of it, so that all seeds learn from one rewriting.

    A rewriting is left out that has no end, repeats itself, copies the passage, is under a quarter or over three times
    as long, speaks of the instruction ("Here is …") or, asked for questions and answers, has none.

    Trap: shares are of rows. A row of a whole document beside a row of a passage is more text: cut the documents into
    passages first (as the reproduction does) where the share is to be one of text. Where fewer passages are usable than
    the share asks for, they are read again.

    Trap: the author's knowledge and mistakes come in with its style, and the instructions are English. Compare at
    equal tokens (train.max_steps), else more text looks like better text.

    Deviations from the paper: 1. the instructions are in other words, without its system prompt. 2. passages are
    measured in characters. 3. the checks above, of which the paper names none.

    Raises DataError, when rows are written, where too few are usable; UsageError for no style.
    """
    if share_of_final == 0:
        return plan
    if not styles:
        raise UsageError("wrap.styles = []", "names no style", f"known: {', '.join(ALL)}")
    decoding = Decoding(max_new_tokens, sampling.temperature, sampling.top_p, seed=seed)
    rows = Rephrased(plan.examples, handle(author), styles_of(styles), max_chars, decoding, min_acceptance)
    return _mixed(plan, rows, share_of_final, REPHRASED)


@method(
    paper="arXiv:2306.11644", changes={"examples"}, off={"share_of_final": 0.0},
    example={"author": "http://localhost:8000/v1#Qwen/Qwen3-8B", "data": "topics.jsonl"},
)  # fmt: skip
def textbooks(
    plan: Plan,
    sampling: TextSampling = PHI,
    *,
    author: AskedModelRef,
    data: DataRef,
    rows: Annotated[int, Field(ge=1, le=100_000_000)] = 1000,
    share_of_final: Share = 0.5,
    max_new_tokens: Tokens = 1024,
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8,
    min_usable: Share = 0.5,
    seed: Seed = 0,
) -> Plan:
    """Let a chat model write sections of textbooks on topics that you give, and learn these beside the documents (phi).

    author: the chat model that writes: a directory, hub id or http://host:port/v1#name.
    data: topics, a text a row: a file, folder or hub id.
    rows: sections that are asked for; topics are taken in turn, each time for another reader.
    share_of_final: sections as a share of all rows; 1 leaves the documents out. Where fewer are usable than the share
    asks for, they are read again.
    max_new_tokens: longest section; one that has no end is left out.
    similarity: two sections are near-duplicates from this Jaccard similarity of their 5-character shingles on.
    min_usable: refuse when less than this share of the sections is usable.
    seed: of sampling. The arm's own seed is no part of it, so that all seeds learn from one writing.

    Trap: variety comes from the topics; a model asked the same thing twice writes the same book twice.

    Deviations from the paper: 1. its prompts, which are not published, asked for text and code that teaches; here each
    section explains, works an example through and sets an exercise. 2. its readers and topics were constrained in ways
    that it does not say; here readers are three, in turn.

    Raises DataError, when rows are written, without topics or where too few sections are usable.
    """
    if share_of_final == 0:
        return plan
    decoding = Decoding(max_new_tokens, sampling.temperature, sampling.top_p, seed=seed)
    topics = read(data, name="topics")
    made = Textbooks(topics, handle(author), rows, decoding, similarity, min_usable)
    return _mixed(plan, made, share_of_final, TEXTBOOK)


def _mixed(plan: Plan, rows: Source, share: float, origin: str) -> Plan:
    """The plan that reads rows of a model as this share of all, or nothing else."""
    mixed = rows if share == 1 else Mixture(plan.examples, rows, share, plan.seed, repeat=True, origin=origin)
    return dataclasses.replace(plan, examples=mixed)
