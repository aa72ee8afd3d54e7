"""What the reproduction of instruction data on a real base model reads: rows of Dolly to choose from and to be answered
anew, and what they may cost.

Called with (data, out) as in prepare.py. data: the folder of third-party data, which keep their own licences (Dolly
CC BY-SA 3.0, IFEval Apache-2.0, C4 ODC-BY, Universal Dependencies' Chinese GSD CC BY-SA 4.0) and never enter this
repository. The same bytes each time. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

from pathlib import Path

from mnemos.core.files import write_jsonl, write_text
from mnemos.recipes.reproductions.prepare import rows
from mnemos.recipes.reproductions.real_models import benign_rows, chat, shuffled, suite
from mnemos.recipes.reproductions.real_reading import TEMPLATE, begun_truth, documents, english, texts, truths
from mnemos.recipes.untuned import EXAMPLES
from mnemos.synthesis.self_generated import QUESTION

ITEMS, ANSWER_TOKENS = 48, 48
POOL, BUDGET = 240, 80
"""Rows of which the rules choose, and how many each arm learns."""
FOLLOWED, FOLLOWED_TOKENS = 48, 64
"""Prompts of IFEval, and how much of an answer is read."""


def instruction(data: Path, out: Path) -> None:
    """The pool, the rows that are answered anew, examples for a base model that answers them, and the suites."""
    below = out / "data"
    found = benign_rows(data)
    asked, pool = found[:ITEMS], found[ITEMS:][:POOL]
    taught = [chat(f"dolly-{n}", row["instruction"], row["output"]) for n, row in enumerate(pool)]
    write_jsonl(below / "pool.jsonl", taught)
    write_jsonl(below / "gold.jsonl", taught[:BUDGET])
    items = [{"id": f"dolly-test-{n}", "prompt": r["instruction"], "answer": r["output"]} for n, r in enumerate(asked)]
    suite(below, "dolly", {"kind": "generated", "match": "rouge_l", "max_new_tokens": ANSWER_TOKENS}, items)
    write_jsonl(
        below / "ifeval.items.jsonl", shuffled(rows(data / "ifeval/ifeval.jsonl.gz"), "real instruction")[:FOLLOWED]
    )
    write_text(below / "shown.txt", EXAMPLES.read_text(encoding="utf-8").replace("{instruction}", QUESTION))
    write_text(below / "chat.jinja", TEMPLATE)
    write_jsonl(below / "items/bits-chinese.jsonl", texts("zh-test", documents(data)[1]))
    write_jsonl(below / "items/bits-english.jsonl", texts("en-test", english(data)[1]))
    write_jsonl(below / "items/begun-truth.jsonl", [begun_truth(item) for item in truths()])
