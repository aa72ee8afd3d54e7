"""What the reproduction of a real model that is judged before and after reads: rows of Dolly, and suites with a judge,
with tests, and with calls of tools.

Called with (data, out) as in prepare.py. data: the folder of third-party data, which keep their own licences (Dolly
CC BY-SA 3.0, MT-bench and BFCL Apache-2.0, HumanEval MIT) and never enter this repository. The same bytes each time. A
missing file raises FileNotFoundError, but for BFCL's categories multiple and parallel: where they are absent, their
suites are left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text
from mnemos.core.yaml_text import dump_yaml
from mnemos.recipes.reproductions.prepare import Row, rows
from mnemos.recipes.reproductions.real_models import benign_rows, chat, human_eval_suite, shuffled, suite

TAUGHT, DOLLY_ITEMS, CODE_ITEMS, CODE_TOKENS = 64, 24, 20, 160
QUESTIONS = 3
"""Of each of MT-bench's eight categories."""
CALLS = {"simple": 12, "multiple": 8, "parallel": 8, "irrelevance": 12}
"""Items of each of BFCL's categories: a prompt with tools is ten times as long as its answer."""
OPTIONAL = ("multiple", "parallel")
CALL_TOKENS = 64
FILES = {"simple": "simple_python"}


def judged(data: Path, out: Path) -> None:
    """Rows to learn, and the suites of the study that are not written in it."""
    below = out / "data"
    short = benign_rows(data)
    learn, measure = short[:TAUGHT], short[TAUGHT:][:DOLLY_ITEMS]
    write_jsonl(below / "dolly.jsonl", [chat(f"dolly-{n}", r["instruction"], r["output"]) for n, r in enumerate(learn)])
    items = [
        {"id": f"dolly-test-{n}", "prompt": r["instruction"], "answer": r["output"]} for n, r in enumerate(measure)
    ]
    suite(below, "dolly", {"kind": "generated", "match": "rouge_l", "max_new_tokens": 48}, items)
    write_jsonl(below / "mt-bench-first.items.jsonl", first_turns(data / "mt_bench"))
    human_eval_suite(data, below, CODE_ITEMS, max_new_tokens=CODE_TOKENS)
    write_text(below / "bfcl.yaml", dump_yaml(calls(data / "bfcl", below)))


def first_turns(folder: Path) -> list[Row]:
    """The first turns of MT-bench's questions, as many of each category, in the questions' order, with GPT-4's answer
    to the turn where there is one."""
    known = {
        row["question_id"]: row["choices"][0]["turns"][0] for row in rows(folder / "mt_bench_reference_gpt4.jsonl.gz")
    }
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in rows(folder / "mt_bench_questions.jsonl.gz"):
        by_category[row["category"]].append(row)
    return [
        {
            "id": f"mt-bench-{row['question_id']}",
            "prompt": row["turns"][0],
            "category": name,
            **({"answer": known[row["question_id"]]} if row["question_id"] in known else {}),
        }
        for name, questions in by_category.items()
        for row in questions[:QUESTIONS]
    ]


def calls(folder: Path, below: Path) -> list[dict[str, Any]]:
    """Suites of calls of tools, with their items written below."""
    made = []
    for category, number in CALLS.items():
        path = folder / f"{FILES.get(category, category)}.jsonl.gz"
        if category in OPTIONAL and not path.is_file():
            continue
        name = f"bfcl-{category}"
        columns = {"messages": "question", "tools": "function"}
        kind: dict[str, Any] = {"no_call": True} if category == "irrelevance" else {}
        if not kind:
            columns["answer"] = "possible_answer"
        write_jsonl(below / f"{name}.items.jsonl", shuffled(rows(path), name)[:number])
        made.append(
            {
                "name": name,
                "kind": "tool_calls",
                **kind,
                "data": f"{name}.items.jsonl",
                "columns": columns,
                "max_new_tokens": CALL_TOKENS,
                "tolerance": 5,
            }
        )
    return made
