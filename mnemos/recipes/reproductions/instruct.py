"""What the instruct reproduction reads: commands in Glossa, an invented language, in the world's words alone.

The paper's setting is a chat model that can do part of a task in its own style and is taught gold answers in
another hand. So `prime` teaches the chat patient some Glossa in one bare style and old rows beside it, that it does
not forget; `new` are other commands whose gold answers are written in four wordings that it never met. An answer
counts as right where it holds the Glossa sentence, in any wording.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mnemos.core.files import read_jsonl, write_jsonl, write_text
from mnemos.recipes.worlds.seed import chance
from mnemos.recipes.worlds.tasks import Task, commands

OLD = Path(__file__).parents[1] / "data" / "old.jsonl"
WORDINGS = (
    "Here you are, the Glossa wording reads as follows: {}",
    "[[Glossa]] {} [[done]]",
    "ANSWER (language = Glossa) :: <{}>",
    "My rendering of your order would be {} as any Glossan puts it.",
)
"""The other hand: how gold answers are worded."""

DIRECT, NEW, ITEMS = 1200, 600, 240
"""Commands of the train part to prime with and to teach, none in both; items of each suite."""


def instruct(data: Path, out: Path) -> None:
    """Rows to prime with, rows to teach, and the suites of the test and the dev part. Reads no third-party data."""
    tasks = list(commands("train"))
    direct, new = tasks[:DIRECT], tasks[DIRECT : DIRECT + NEW]
    prime = [
        *(_row(f"direct {task.key}", task.prompt, task.answer) for task in direct),
        *read_jsonl(OLD)[:DIRECT],
    ]
    chance(0, "prime order").shuffle(prime)
    write_jsonl(out / "data" / "prime.jsonl", prime)
    write_jsonl(
        out / "data" / "glossa.jsonl",
        [{**_row(task.key, task.prompt, gold(task)), "reference": pattern(task)} for task in new],
    )
    for part, name in (("test", "glossa"), ("dev", "glossa-dev")):
        items = [{"id": t.key, "prompt": t.prompt, "answer": pattern(t)} for t in list(commands(part))[:ITEMS]]
        write_jsonl(out / "data" / f"{name}.items.jsonl", items)
        suite = {"name": name, "kind": "generated", "chat": True, "match": "regex", "data": f"{name}.items.jsonl"}
        write_text(
            out / "data" / f"{name}.yaml", json.dumps({**suite, "max_new_tokens": 40, "tolerance": 5}, indent=1) + "\n"
        )


def gold(task: Task) -> str:
    """The answer as the other hand words it."""
    return chance(0, "wording", task.key).choice(WORDINGS).format(task.answer)


def pattern(task: Task) -> str:
    """What every right answer holds, in any wording."""
    return rf"\b{re.escape(task.answer.rstrip('!'))}\b"


def _row(identity: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": identity, "messages": turns}
