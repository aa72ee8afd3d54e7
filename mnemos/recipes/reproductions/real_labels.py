"""What the reproduction of recognising a task or learning it reads: spoken commands with four topics, under their own
names, names drawn at random, and letters.

Called with (data, out) as in prepare.py. data: the folder of third-party data, which keep their own licences (SLURP's
texts CC BY 4.0) and never enter this repository. The same bytes each time. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

from pathlib import Path

from mnemos.measure.in_context import Asked, Labelled, task_of
from mnemos.recipes.reproductions.prepare import rows
from mnemos.study.commands.labels import write_labellings

COMMANDS = "slurp_text/devel.jsonl.gz"
TOPICS = ("alarm", "email", "transport", "weather")
ASKED = Asked(natural="Request: {text}\nTopic: {label}")
"""As `mnemos labels` asks of the same texts in context (docs/knowledge.md)."""
ITEMS = 60


def labels(data: Path, out: Path) -> None:
    """Rows with gold, random and abstract labels, and what is asked of each, as `mnemos labels --learn` writes them."""
    texts = [Labelled(row["sentence"], row["scenario"]) for row in rows(data / COMMANDS) if row["scenario"] in TOPICS]
    task = task_of(texts, ITEMS, max(ASKED.shots))
    write_labellings(task, ASKED, out / "data")
