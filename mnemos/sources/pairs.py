"""Pairs of a good and a bad answer to the same conversation, in the spellings of other tools."""

from __future__ import annotations

import os
import re

from mnemos.core.nouns import Turn
from mnemos.sources.bad_row import refuse
from mnemos.sources.messages import ROLES, conversation
from mnemos.sources.parts import Parts, Row, answer_turns, answered, asked, instruction, with_system

REJECTED = ("rejected_response", "rejected_messages")
"""Columns with a worse answer beside a row of a format of answers."""


def chosen_and_rejected(row: Row) -> Parts:
    """A row of chosen and rejected: answers, conversations that end in them, or transcripts."""
    if "conversations" in row or "messages" in row:
        name = "conversations" if "conversations" in row else "messages"
        prompt = conversation(row[name], name)
    elif "prompt" in row:
        prompt = asked(row["prompt"], "prompt")
    else:
        prompt = (instruction(row),) if "instruction" in row else ()
    good, bad = row["chosen"], row["rejected"]
    if not prompt and isinstance(good, str) and isinstance(bad, str):
        chosen, rejected = _transcripts(good, bad)
    else:
        chosen, rejected = answer_turns(good, "chosen"), answer_turns(bad, "rejected")
    if chosen[0].role != "assistant":
        # The whole conversation stands on both sides; a prompt column would only say it again.
        prompt = ()
    chosen, rejected = prompt + chosen, prompt + rejected
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(chosen), len(rejected)))
    if chosen == rejected:
        refuse("equal pair", "chosen and rejected", "are the same", "take the row out: it prefers nothing")
    if len(chosen) != same + 1 or len(rejected) != same + 1 or rejected[-1].role != "assistant" or same == 0:
        refuse(
            "no common prompt",
            f"chosen has {len(chosen)} turns, rejected {len(rejected)}, the first {same} in common",
            "must be one conversation with two last answers",
            'give {"prompt": ..., "chosen": ..., "rejected": ...}',
        )
    return "preference", answered(with_system(row, chosen)), answered(rejected)[-1:]


def _transcripts(good: str, bad: str) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Two strings that hold the whole conversation: transcripts of Human and Assistant, or texts
    that begin alike (the prompt is what they share, up to the last whole word)."""
    if "\n\nHuman:" in good and "\n\nAssistant:" in good:
        return _transcript(good), _transcript(bad)
    shared = os.path.commonprefix([good, bad])  # noqa: RUF071 - of characters
    shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]
    if not shared.strip():
        refuse(
            "no common prompt",
            "chosen and rejected",
            "are texts without a prompt, and begin differently",
            "add a column prompt",
        )
    question = Turn("user", shared.rstrip())
    answers = [Turn("assistant", text[len(question.text) :].lstrip()) for text in (good, bad)]
    return (question, answers[0]), (question, answers[1])


def _transcript(text: str) -> tuple[Turn, ...]:
    pieces = re.split(r"\n\n(Human|Assistant):", text)[1:]
    return tuple(Turn(ROLES[who.lower()], what.strip()) for who, what in zip(pieces[::2], pieces[1::2], strict=True))


def beside(turns: tuple[Turn, ...], row: Row) -> Parts:
    """A conversation with its answer, and another, worse one in a column of its own (ms-swift)."""
    column = next((column for column in REJECTED if row.get(column)), None)
    if column is None:
        refuse("empty answer", " and ".join(one for one in REJECTED if one in row), "is empty", "give it text")
    bad = answer_turns(row[column], column)
    if len(bad) > 1 and bad[:-1] == turns[:-1]:
        bad = bad[-1:]
    if len(bad) != 1 or bad[0].role != "assistant":
        refuse("no common prompt", column, "must be another last answer to the same turns", "give its text alone")
    if bad[0] == turns[-1]:
        refuse("equal pair", f"the answer and {column}", "are the same", "take the row out: it prefers nothing")
    return "preference", turns, answered(bad)
