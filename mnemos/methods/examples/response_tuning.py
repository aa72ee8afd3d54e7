"""What is read: answers without their instructions, or chats from the user's side."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import Seed
from mnemos.sources.recast import AnswersAlone, Opening, Reversed, UsersAnswered


@method(paper="arXiv:2410.02465", changes={"examples"}, off={"share": 0.0})
def response_tuning(
    plan: Plan,
    *,
    share: Annotated[float, Field(ge=0, le=1)] = 1.0,
    opening: Opening = "dropped",
    seed: Seed = 0,
) -> Plan:
    """Learn the answers without the instructions that they answer: what remains is how an answer looks.

    share: of the rows that lose their instruction, drawn by the row's id; 0 is plain instruction tuning.
    opening: dropped, the chat begins with the assistant's turn, as in the paper; or empty, with a user's turn without
    words (arXiv:2409.14254), for chat templates that must begin with a user.
    seed: added to the arm's seed where the rows are drawn.

    A row keeps the first answer that is learned and nothing before it, no system turn and no tools. Rows that stand in
    the plan already are all recast, old ones too: `safety_mix` before this method gives the paper's refusals without
    their requests, behind it with them.

    Trap: a model learns from this how to answer only where pre-training taught it what; and from answers that need
    their question ("Yes.", "The second one.") it learns nothing.

    Trap: the untouched model is asked through its chat template too; a base model looks worse there than behind a plain
    prompt, so part of what this teaches is the template.

    Deviations from the paper: 1. of a chat of several turns the first answer alone is learned. 2. answers are not
    rewritten by a larger model first; `rephrase` before it does that.

    Raises DataError, when rows are rendered, where the chat template refuses a chat that begins with an answer: set
    opening: empty.
    """
    if share == 0:
        return plan
    # A seed that draws nothing must not change the fingerprint.
    alone = AnswersAlone(plan.examples, share, opening, plan.seed + seed if share < 1 else 0)
    return dataclasses.replace(plan, examples=alone)


@method(paper="arXiv:2308.11534", changes={"examples"}, off={"on": False})
def user_turns(plan: Plan, *, on: bool = True, opening: Opening = "dropped", ends: bool = True) -> Plan:
    """Learn to write the user's turns of each chat, as a simulator of users (PlatoLM).

    on: false turns the method off.
    opening: dropped, a chat begins with what the user wrote first; or empty, with an empty turn of the other side, for
    chat templates that must begin with a user.
    ends: of a chat that ends with an answer teach as well that the user writes nothing more, by an empty turn; false
    leaves that answer out.

    The two sides are exchanged: the user's words become the assistant's turns, the ends of turns included, and are all
    that is learned (with `output_only`, which every arm has unless it says otherwise); the assistant's words are read.
    So the trained model is asked for a user's next turn by any server or suite, through its own template, with the
    answers that it reacts to as the user's turns. `simulated_dialogues` lets it talk to an assistant.

    Trap: such a model answers like a user. Suites of skills say what it lost as an assistant, and nothing about its
    questions: count how many of them differ (`sources.novelty`).

    Trap: chats that a file cuts at some length end where no user wished it: set ends: false for those.

    Deviations from the paper: 1. sides are exchanged where the paper keeps the names and masks the other side. 2. chats
    with tools, with sounds, or whose turns do not alternate stay as they are. 3. a dialogue's end is an empty turn.
    """
    return dataclasses.replace(plan, examples=UsersAnswered(plan.examples, opening, ends)) if on else plan


@method(paper="arXiv:2308.06259", changes={"examples"}, off={"on": False})
def reverse(plan: Plan, *, on: bool = True) -> Plan:
    """Learn to write the question that an answer answers: a backward model, the author of `backtranslation`.

    on: false turns the method off.

    Of each chat of one question and one answer the answer is read as the user's turn and the question is learned as the
    assistant's. Such a model is named as the author of `backtranslation` with prompted: false.

    Trap: it answers every text with an instruction; suites of skills say what it lost as an assistant.

    Deviation from the paper: 1. system turns are left out.
    """
    return dataclasses.replace(plan, examples=Reversed(plan.examples)) if on else plan
