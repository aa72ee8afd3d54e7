"""What the reproductions on real weights read where nobody teaches an answer: sums that are verified, questions whose
answers the model judges and revises itself, and instructions that it rehearses from rows of its own making.

One function a reproduction, called with (data, out) as in prepare.py. data: the folder of third-party data, which keep
their own licences (Dolly CC BY-SA 3.0, AdvBench MIT, XSTest prompts CC BY 4.0, Super-NaturalInstructions Apache-2.0,
each of its tasks with its own source) and never enter this repository. The rows and suites are the same bytes each
time. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

import random
from pathlib import Path

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.prepare import Row, rows, turns
from mnemos.recipes.reproductions.real_models import (
    DOLLY_ITEMS,
    REFUSED,
    benign_rows,
    chat,
    refusal_suites,
    requests,
    shuffled,
    suite,
)

SUMS, SUM_ITEMS, ADDENDS = 320, 100, 3
ALONE = "Answer with the number alone."
"""So that an answer is a few tokens. Of 32 such sums the model answers seven right."""
JUDGED_ROWS = 64
CATEGORIES = ("trans", "para", "pe")
"""Those whose definition and rows are short: two cores read some seventy tokens a second."""
TASK_ROWS, TASK_ITEMS, LONGEST_OUTPUT = 80, 40, 160


def sums(data: Path, out: Path) -> None:
    """Sums of three numbers of two digits, which the model answers right one time in five; suites of sums and of
    refusals."""
    rng = random.Random("real models: sums")
    asked: dict[str, int] = {}
    while len(asked) < SUMS + SUM_ITEMS:
        numbers = [rng.randint(11, 99) for _ in range(ADDENDS)]
        asked[f"What is {' + '.join(map(str, numbers))}?"] = sum(numbers)
    found = [
        {
            "id": f"sum-{n}",
            "messages": [{"role": "system", "content": ALONE}, *turns(question, str(answer))],
            "reference": str(answer),
        }
        for n, (question, answer) in enumerate(asked.items())
    ]
    below = out / "data"
    write_jsonl(below / "sums.jsonl", found[:SUMS])
    items = [{"id": row["id"], "messages": row["messages"][:-1], "answer": row["reference"]} for row in found[SUMS:]]
    suite(below, "sums", {"kind": "generated", "match": "number", "max_new_tokens": 8}, items)
    refusal_suites(data, below, requests(data)[2])


def judged(data: Path, out: Path) -> None:
    """Questions of Dolly whose answers the model judges, requests whose answers it revises, and suites of Dolly and
    of refusals. No request that is revised is asked."""
    below = out / "data"
    harm, refused, asked = requests(data)
    short = benign_rows(data)
    learn, measure = short[:JUDGED_ROWS], short[JUDGED_ROWS:][:DOLLY_ITEMS]
    write_jsonl(
        below / "questions.jsonl", [chat(f"dolly-{n}", r["instruction"], r["output"]) for n, r in enumerate(learn)]
    )
    write_jsonl(
        below / "requests.jsonl", [chat(f"request-{n}", r["goal"], REFUSED) for n, r in enumerate([*harm, *refused])]
    )
    items = [
        {"id": f"dolly-test-{n}", "prompt": r["instruction"], "answer": r["output"]} for n, r in enumerate(measure)
    ]
    suite(below, "dolly", {"kind": "generated", "match": "rouge_l", "max_new_tokens": 64}, items)
    refusal_suites(data, below, asked)


def instructions(data: Path, out: Path) -> None:
    """Three categories of Super-NaturalInstructions as tasks: rows to learn and a suite of others, each under its
    whole definition."""
    below = out / "data"
    found: dict[str, list[Row]] = {name: [] for name in CATEGORIES}
    for row in rows(data / "superni_cl/train10pct.jsonl.gz"):
        answer = row["output"].strip()
        if row["category"] in found and answer and len(answer) <= LONGEST_OUTPUT:
            found[row["category"]].append(row)
    for name, batch in found.items():
        batch = shuffled(batch, name)
        learn, measure = batch[:TASK_ROWS], batch[TASK_ROWS:][:TASK_ITEMS]
        write_jsonl(below / f"{name}.jsonl", map(as_chat, learn))
        items = [
            {"id": row["id"], "messages": as_chat(row)["messages"][:-1], "answer": row["output"].strip()}
            for row in measure
        ]
        suite(below, name, {"kind": "generated", "match": "rouge_l", "max_new_tokens": 64}, items)


def as_chat(row: Row) -> Row:
    """A row as a chat: the definition of its task as the system turn, then input and output."""
    definition = {"role": "system", "content": definition_of(row)}
    return {"id": row["id"], "messages": [definition, *turns(row["input"].strip(), row["output"].strip())]}


def definition_of(row: Row) -> str:
    """What stands before the input in the whole prompt."""
    return str(row["full_prompt"]).partition(row["input"])[0].removesuffix("Input:").strip()
