"""What the task-vectors reproduction reads: the same commands in two languages and two formats, and records as JSON.

sentence: Glossa words in Glossa's order. form: Glossa words as fields. plain-sentence, plain-form: the same two with
the English words. Four experts that differ in language or format alone are what an analogy needs. Rows are of the
train part, suites of the test part; suites whose name ends in -dev are of the dev part, on which scales are chosen.
An expert's answers are right or wrong as a whole, so the same items are also scored by chrF, which shows how near a
sum of experts comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text
from mnemos.recipes.patient import load_recipe
from mnemos.recipes.patient_suites import facts, requests
from mnemos.recipes.worlds import tasks as worlds_tasks

ROWS, ITEMS = 800, 120
SENTENCE_FRAME, FORM_FRAME = "Say in plain words: {}", "Fill in a plain form: {}"


def plain_sentence(verb: str, number: str, adjective: str, noun: str) -> str:
    """English words in the order of a Glossa sentence."""
    return f"{noun} {adjective} {number} {verb}".capitalize() + "!"


def plain_form(verb: str, number: str, adjective: str, noun: str) -> str:
    """English words as the fields of a Glossa form."""
    return " | ".join(f"{name}={word}" for name, word in zip("DNAO", (verb, number, adjective, noun), strict=True))


def tasks(kind: str, part: str) -> Iterator[worlds_tasks.Task]:
    """The tasks of one kind and part, in a fixed order."""
    if kind == "records":
        seen: set[str] = set()
        for number in range(20_000):
            task = worlds_tasks.record(number, part)
            if task.key not in seen:
                seen.add(task.key)
                yield task
        return
    for task in worlds_tasks.commands(part, form=kind.endswith("form")):
        if kind.startswith("plain"):
            words = [word.removesuffix("s") if place == 3 else word for place, word in enumerate(task.key.split())]
            write: Callable[..., str] = plain_form if kind == "plain-form" else plain_sentence
            frame = FORM_FRAME if kind == "plain-form" else SENTENCE_FRAME
            yield worlds_tasks.Task(task.key, frame.format(task.key.capitalize() + "."), write(*words))
        else:
            yield task


def task_vectors(data: Path, out: Path) -> None:
    """Rows and suites of every kind. Reads no third-party data."""
    below = out / "data"
    for kind, tokens in (("sentence", 40), ("form", 40), ("plain-sentence", 40), ("plain-form", 40), ("records", 32)):
        every = tasks(kind, "train")
        write_jsonl(below / f"{kind}.jsonl", [_row(task) for _, task in zip(range(ROWS), every, strict=False)])
        for part, name in (("test", kind), ("dev", f"{kind}-dev")):
            chosen = [task for _, task in zip(range(ITEMS), tasks(kind, part), strict=False)]
            items = [{"id": task.key, "prompt": task.prompt, "answer": task.answer} for task in chosen]
            exact = "json" if kind == "records" else "normalised"
            for title, match in ((name, exact), (f"{name}-chrf", "chrf")):
                _suite(below, title, items, kind="generated", chat=True, match=match, max_new_tokens=tokens)
    world = load_recipe().world
    sums = [{"id": t.key, "prompt": t.prompt, "answer": t.answer} for t in worlds_tasks.sums("dev", world.seed)]
    asked = (
        ("facts-dev", facts(world, "dev"), {"kind": "generated", "match": "normalised", "max_new_tokens": 12}),
        ("arithmetic-dev", sums, {"kind": "generated", "match": "number", "max_new_tokens": 8}),
        ("refusals-dev", requests(world, harmful=True, part="dev"), {"kind": "refusal", "max_new_tokens": 16}),
    )
    for title, controls, settings in asked:
        _suite(below, title, controls[:ITEMS], chat=True, **settings)


def _suite(below: Path, name: str, items: Sequence[dict[str, Any]], **settings: Any) -> None:
    write_jsonl(below / f"{name}.items.jsonl", items)
    suite = {"name": name, "data": f"{name}.items.jsonl", **settings}
    write_text(below / f"{name}.yaml", json.dumps(suite, indent=1) + "\n")


def _row(task: worlds_tasks.Task) -> dict[str, Any]:
    turns = [{"role": "user", "content": task.prompt}, {"role": "assistant", "content": task.answer}]
    return {"id": task.key, "messages": turns}
