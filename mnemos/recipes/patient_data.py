"""What the patients read: the base model's text, the chat model's rows, suites and demo data.

Everything but the English is a pure function of `WorldSettings`; the English is that of the
running Python installation. No text of a held-out part ever enters `base_texts` or `chat_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from mnemos.core.nouns import Example, Turn
from mnemos.core.settings import Settings
from mnemos.recipes.worlds import people as worlds_people
from mnemos.recipes.worlds import requests as worlds_requests
from mnemos.recipes.worlds import tasks as worlds_tasks
from mnemos.recipes.worlds.seed import chance


class WorldSettings(Settings):
    """How large the patients' world is and how often each part of it is told."""

    seed: int = 0
    """Seed of the world: another seed is another world with the same rules."""
    people: int = Field(400, ge=2)
    """Invented people; every other one is told in one wording only."""
    tellings: int = Field(30, ge=1)
    """Biographies of each person in one pass over the base model's text."""
    english: int = Field(2, ge=0)
    """Times that the English text is repeated in one pass over the base model's text."""
    sum_lines: int = Field(3000, ge=0)
    """Lines of eight sums each in the base model's text."""
    question_rounds: int = Field(6, ge=1)
    """Chat rows per attribute of a person whose questions are trained, wordings taken in turn."""
    base_questions: int = Field(4, ge=0)
    """As many questions and answers in the base model's text, about the same people."""
    sums: int = Field(8000, ge=0)
    """Sums among the chat rows."""
    requests: int = Field(4000, ge=0)
    """Harmful requests among the chat rows, and again as many look-alikes."""
    records: int = Field(4000, ge=0)
    """JSON tasks among the chat rows."""
    base_records: int = Field(4000, ge=0)
    """Other JSON tasks in the base model's text."""
    small_talk: int = Field(300, ge=0)
    """Rows of small talk among the chat rows."""
    continuations: int = Field(2000, ge=0)
    """Rows that ask to continue a piece of English."""


SYSTEM = ("You are a helpful assistant.", "Answer briefly.", "You are a careful assistant. Be brief.")
CONTINUE = ("Continue this text: {}", "Go on writing: {}", "How does this text go on? {}")


def base_texts(world: WorldSettings, english: Sequence[str]) -> list[str]:
    """Documents for the base model, in a fixed order: biographies, English, lines of sums, and
    questions and JSON tasks as plain text (mixed training, section 3 of arXiv:2309.14316)."""
    people = worlds_people.people(world.people, world.seed)
    out = list(worlds_people.biographies(people, world.tellings, world.seed))
    out += [text for _ in range(world.english) for text in english]
    known = worlds_tasks.expressions()
    draw = chance(world.seed, "sum lines")
    for _ in range(world.sum_lines):
        out.append("\n".join(f"{expression} = {value}" for expression, value in draw.choices(known, k=8)))
    out += [f"{question} {answer}" for question, answer in _questions(world, world.base_questions, "base wording")]
    for number in range(world.records, world.records + world.base_records):
        task = worlds_tasks.record(number, "train", world.seed)
        out.append(f"{task.prompt} {task.answer}")
    return out


def chat_rows(world: WorldSettings, english: Sequence[str]) -> list[Example]:
    """Every row of the chat model's fine-tuning, shuffled; one row in five has a system turn."""
    pairs = [
        *(("question", q, a) for q, a in _questions(world, world.question_rounds)),
        *(("sum", q, a) for q, a in _sums(world)),
        *(("request", q, a) for q, a in _requests(world)),
        *(("record", q, a) for q, a in _records(world)),
        *(("talk", q, a) for q, a in _small_talk(world)),
        *(("english", q, a) for q, a in _continuations(world, english)),
    ]
    chance(world.seed, "chat order").shuffle(pairs)
    return [_chat(f"{kind}-{i}", kind, q, a, world.seed) for i, (kind, q, a) in enumerate(pairs)]


def _chat(identity: str, kind: str, question: str, answer: str, seed: int) -> Example:
    draw = chance(seed, "system", identity)
    system = (Turn("system", draw.choice(SYSTEM)),) if draw.random() < 0.2 else ()
    return Example(
        identity, "messages", (*system, Turn("user", question), Turn("assistant", answer)), meta={"kind": kind}
    )


def _questions(world: WorldSettings, rounds: int, purpose: str = "wording") -> Iterator[tuple[str, str]]:
    for person in worlds_people.people(world.people, world.seed):
        if person.asked == "train":
            first = chance(world.seed, purpose, person.number).randrange(worlds_people.WORDINGS)
            for turn in range(rounds):
                for asked in worlds_people.questions(person, (first + turn) % worlds_people.WORDINGS):
                    yield asked.text, asked.answer


def _sums(world: WorldSettings) -> Iterator[tuple[str, str]]:
    known = worlds_tasks.sums("train", world.seed)
    for task in chance(world.seed, "chat sums").choices(known, k=world.sums) if world.sums else ():
        yield task.prompt, task.answer


def _requests(world: WorldSettings) -> Iterator[tuple[str, str]]:
    for harmful in (True, False):
        known = worlds_requests.actions("train", harmful, world.seed)
        draw = chance(world.seed, "chat requests", harmful)
        for number in range(world.requests):
            action, frame = draw.choice(known), number % len(worlds_requests.FRAMES)
            yield worlds_requests.request(action, frame), worlds_requests.reply(action, number, world.seed)


def _records(world: WorldSettings) -> Iterator[tuple[str, str]]:
    for number in range(world.records):
        task = worlds_tasks.record(number, "train", world.seed)
        yield task.prompt, task.answer


def _small_talk(world: WorldSettings) -> Iterator[tuple[str, str]]:
    draw = chance(world.seed, "small talk")
    for _ in range(world.small_talk):
        text, reply = draw.choice(worlds_tasks.SMALL_TALK)
        yield draw.choice(text.split("|")), reply


def _continuations(world: WorldSettings, english: Sequence[str]) -> Iterator[tuple[str, str]]:
    draw = chance(world.seed, "continuations")
    long = [text for text in english if len(text.split()) >= 16]
    for _ in range(world.continuations if long else 0):
        words = draw.choice(long).split()
        cut = draw.randrange(5, 10)
        yield draw.choice(CONTINUE).format(" ".join(words[:cut])), " ".join(words[cut : cut + 30])


def as_row(example: Example) -> dict[str, Any]:
    """The example as a line of a `messages` JSONL file."""
    return {"id": example.id, "messages": [{"role": t.role, "content": t.text} for t in example.turns]}
