"""The built-in suites' items and the demo's rows, generated from the patients' world.

Every item is of the "test" part of its generator; what the patients were tuned on is the "dev"
part, and what they learned the "train" part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mnemos.core.nouns import Example
from mnemos.recipes.patient_data import WorldSettings, as_row, base_texts, chat_rows
from mnemos.recipes.worlds import people as worlds_people
from mnemos.recipes.worlds import requests as worlds_requests
from mnemos.recipes.worlds import tasks as worlds_tasks
from mnemos.recipes.worlds.people import Telling
from mnemos.recipes.worlds.seed import chance

Item = dict[str, Any]

NEW_ROWS, REFUSAL_ROWS, TEXT_ROWS, ITEMS, PARAGRAPHS = 1800, 200, 400, 240, 100
PAGE = 6
"""Commands on one page of new text."""

REHEARSED = {"question": 650, "sum": 500, "request": 220, "record": 380, "english": 230, "talk": 20}
"""Rows to rehearse by kind of chat row."""


def suites(world: WorldSettings, english: Sequence[str], part: str = "test") -> dict[str, list[Item]]:
    """Suite name -> items, of one part. english: held-out paragraphs for bits per byte."""
    return {
        "facts": facts(world, part),
        "biographies": biographies(world, "many", part),
        "biographies-once": biographies(world, "once", part),
        "arithmetic": arithmetic(world, part),
        "refusals": requests(world, harmful=True, part=part),
        "look-alikes": requests(world, harmful=False, part=part),
        "json-answers": json_answers(world, part),
        "new-skill": new_skill(world, part),
        "new-form": new_skill(world, part, form=True),
        "bits-per-byte:english": paragraphs(world, english),
        "bits-per-byte:glossa": new_texts(world, part)[:PARAGRAPHS],
    }


def facts(world: WorldSettings, part: str = "test") -> list[Item]:
    """What the patients have learned to answer, asked in a wording that they never met: questions
    about people told in many wordings, every other one for tests and the rest for tuning."""
    known = [
        one for one in worlds_people.people(world.people, world.seed) if (one.telling, one.asked) == ("many", "train")
    ]
    chosen = known[0::2] if part == "test" else known[1::2]
    return [_question(asked) for person in chosen for asked in worlds_people.questions(person, worlds_people.WORDINGS)]


def biographies(world: WorldSettings, telling: Telling, part: str = "test") -> list[Item]:
    """One question per attribute about people of whom no question was ever trained; items about
    the same person share a cluster."""
    items = []
    for person in worlds_people.people(world.people, world.seed):
        if (person.telling, person.asked) == (telling, part):
            wording = chance(world.seed, "test wording", person.number).randrange(worlds_people.WORDINGS)
            for asked in worlds_people.questions(person, wording):
                items.append(_question(asked))
    return items


def _question(asked: worlds_people.Question) -> Item:
    identity = f"{asked.person.number}-{asked.attribute}"
    return {"id": identity, "prompt": asked.text, "answer": asked.answer, "cluster": asked.person.name}


def arithmetic(world: WorldSettings, part: str = "test") -> list[Item]:
    """Known sums and differences, each in a wording in which it was never trained."""
    draw = chance(world.seed, "test sums", part)
    known = draw.sample(worlds_tasks.sums(part, world.seed), ITEMS)
    return [{"id": task.key, "prompt": task.prompt, "answer": task.answer} for task in known]


def requests(world: WorldSettings, *, harmful: bool, part: str = "test") -> list[Item]:
    """Each held-out action once, in frames taken in turn."""
    return [
        {
            "id": action.text,
            "prompt": worlds_requests.request(action, number),
            "expect": "refuse" if harmful else "answer",
        }
        for number, action in enumerate(worlds_requests.actions(part, harmful, world.seed))
    ]


def json_answers(world: WorldSettings, part: str = "test") -> list[Item]:
    """Records that were never trained; the schema asks for exactly the two keys."""
    tasks = _distinct(worlds_tasks.record(number, part, world.seed) for number in range(4 * ITEMS))
    return [
        {"id": task.key, "prompt": task.prompt, "answer": task.answer, "schema": worlds_tasks.schema_of(task.answer)}
        for task in tasks[:ITEMS]
    ]


def new_skill(world: WorldSettings, part: str = "test", *, form: bool = False) -> list[Item]:
    """Commands to translate into Glossa, as a sentence or a form, that no training row holds."""
    tasks = list(worlds_tasks.commands(part, world.seed, form=form))[:ITEMS]
    return [{"id": task.key, "prompt": task.prompt, "answer": task.answer} for task in tasks]


def paragraphs(world: WorldSettings, english: Sequence[str]) -> list[Item]:
    """A sample of held-out paragraphs, as raw text."""
    chosen = chance(world.seed, "paragraphs").sample(list(english), min(PARAGRAPHS, len(english)))
    return [{"id": str(number), "text": text} for number, text in enumerate(sorted(chosen))]


def new_rows(world: WorldSettings, *, form: bool = False) -> list[Item]:
    """Training rows of a new skill: Glossa commands of the "train" part, as sentences or forms."""
    tasks = list(worlds_tasks.commands("train", world.seed, form=form))[:NEW_ROWS]
    return [
        {
            "id": task.key,
            "messages": [{"role": "user", "content": task.prompt}, {"role": "assistant", "content": task.answer}],
        }
        for task in tasks
    ]


def old_rows(world: WorldSettings, english: Sequence[str]) -> list[Item]:
    """Rows to rehearse, drawn from every kind of chat row; none is a suite's item."""
    by_kind: dict[str, list[Example]] = {}
    for example in chat_rows(world, english):
        by_kind.setdefault(example.meta["kind"], []).append(example)
    draw = chance(world.seed, "old rows")
    chosen = [example for kind, count in REHEARSED.items() for example in draw.sample(by_kind[kind], count)]
    draw.shuffle(chosen)
    return [as_row(example) for example in chosen]


def new_texts(world: WorldSettings, part: str = "train") -> list[Item]:
    """Text to go on pre-training with: pages of commands with their Glossa beside them."""
    tasks = list(worlds_tasks.commands(part, world.seed))[:NEW_ROWS]
    pages = [tasks[start : start + PAGE] for start in range(0, len(tasks), PAGE)]
    lines = [[f"{task.key.capitalize()}. {task.answer}" for task in page] for page in pages]
    return [{"id": f"page-{number}", "text": "\n".join(page)} for number, page in enumerate(lines)]


def refusal_rows(world: WorldSettings) -> list[Item]:
    """Harmful requests and their refusals, drawn from the chat rows, no request twice."""
    found: dict[str, Example] = {}
    for example in chat_rows(world, []):
        if example.turns[-1].text in worlds_requests.REFUSALS:
            found.setdefault(example.turns[-2].text, example)
    chosen = chance(world.seed, "refusal rows").sample(list(found.values()), REFUSAL_ROWS)
    return [as_row(example) for example in chosen]


def old_texts(world: WorldSettings, english: Sequence[str]) -> list[Item]:
    """Documents to rehearse, drawn from the base model's text."""
    texts = list(dict.fromkeys(base_texts(world, english)))
    chosen = chance(world.seed, "old texts").sample(texts, TEXT_ROWS)
    return [{"id": f"text-{number}", "text": text} for number, text in enumerate(chosen)]


def _distinct(tasks: Iterable[worlds_tasks.Task]) -> list[worlds_tasks.Task]:
    return list({task.key: task for task in tasks}.values())
