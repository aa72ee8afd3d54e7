"""What is read: sounds that are answered as the model itself answers their transcripts."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import Seed
from mnemos.sources.in_words import TEXT, InWords
from mnemos.synthesis.continued import Continued

CONTINUE = "Continue the text above in a coherent and engaging style, in less than 40 words."

Column = Annotated[str, Field(min_length=1, max_length=200)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]


@method(paper="arXiv:2309.00916", changes={"examples"}, off={"max_new_tokens": 0})
def continuation(
    plan: Plan,
    *,
    max_new_tokens: Tokens = 64,
    instruction: Annotated[str, Field(min_length=1, max_length=10_000)] = CONTINUE,
    column: Column = TEXT,
    min_acceptance: Share = 0.05,
) -> Plan:
    """BLSP: teach the model to go on behind a sound as it goes on itself behind the sound's transcript.

    max_new_tokens: of a continuation; 0 turns the method off.
    instruction: what stands behind the sound, and behind the transcript when the continuation is written.
    column: of the rows' transcripts. A row that asks nothing of its sound (audio, text) is its own transcript.
    min_acceptance: share of the continuations that must have an end, else the study stops.

    The model before writes the continuations once, greedily, and whatever question and answer a row had are left out.
    The text model's own words are the target, so that a frozen language model loses nothing, and what is learned is
    only that a sound means what its transcript means.

    Trap: nothing that is not in the transcript (who speaks, how, in what noise) can be learned from it.

    Deviations from the paper: 1. the instruction stands behind the sound, as in all rows here, and says the same in
    other words. 2. continuations that have no end within max_new_tokens are left out and counted, as are those of whose
    4-grams more than half repeat; the paper keeps what 64 tokens hold.

    Raises DataError when rows are written and one with a sound has no transcript, by name.
    """
    if max_new_tokens == 0:
        return plan
    rows = Continued(plan.examples, plan.before, instruction, column, max_new_tokens, min_acceptance)
    return dataclasses.replace(plan, examples=rows)


@method(paper="arXiv:2311.06753", changes={"examples"}, off={"max_new_tokens": 0})
def modal_invariance(
    plan: Plan, *, max_new_tokens: Tokens = 256, column: Column = TEXT, min_acceptance: Share = 0.05
) -> Plan:
    """AudioChatLlama: teach the model to answer what is spoken as it answers the same in writing.

    max_new_tokens: of an answer; 0 turns the method off.
    column: of the rows' transcripts. A row that asks nothing of its sound (audio, text) is its own transcript.
    min_acceptance: share of the answers that must have an end, else the study stops.

    As `continuation`, but that the transcript alone is the prompt, and the sound alone takes its place: a question
    that a row asks of its sound is not asked. For one question to all rows there is `continuation`.

    Trap: as `continuation`. What people say in recordings that were made to be read aloud asks nothing, and a chat
    model's answers to it are small talk.

    Deviations from the paper: 1. answers are greedy. 2. answers without an end, and those of whose 4-grams more than
    half repeat, are left out and counted.

    Raises DataError when rows are written and one with a sound has no transcript, by name.
    """
    if max_new_tokens == 0:
        return plan
    rows = Continued(plan.examples, plan.before, "", column, max_new_tokens, min_acceptance)
    return dataclasses.replace(plan, examples=rows)


@method(paper="arXiv:2506.06343", changes={"examples"}, off={"share": 0.0})
def text_only(plan: Plan, *, share: Share = 1.0, column: Column = TEXT, seed: Seed = 0) -> Plan:
    """A control: learn the rows with words in the place of their sounds, so that nothing is ever heard.

    share: of the rows with a sound, drawn by id; 0 turns the method off.
    column: of the words. A row that asks nothing of its sound (audio, text) is its own transcript.
    seed: added to the arm's seed where rows are drawn.

    What an arm gains beyond it is owed to hearing; what it gains as well is owed to the answers' form and to the labels
    that are frequent.

    Trap: without a sound a bridge learns nothing. Give the arm `lora` or `only`, so that something moves.

    Deviation from the paper: 1. TESU-LLM trains the bridge itself on text, through an encoder that makes the same of
    speech and of its transcript, and then hears. No such encoder is at hand here: this is what stands in for it as a
    control, and it never learns to hear.

    Raises DataError when rows are read and one with a sound has no words, by name.
    """
    if share == 0:
        return plan
    return dataclasses.replace(plan, examples=InWords(plan.examples, column, share, plan.seed + seed))
