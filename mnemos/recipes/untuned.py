"""What a base model answers without any training: behind a bare prompt, behind examples, and with the rule adapter.

    python -m mnemos.recipes.untuned --model gemma --out runs/untuned

Dolly's questions are put to the model between two markers (arXiv:2409.14254), plainly and with the three rules, all of
them and each left out; and behind three examples in a fixed style (URIAL, arXiv:2312.01552). Answers are scored by
ROUGE-L with the person's answer, by whether they end, and by how much they repeat. A cell that was asked is not asked
again. Rows are read from $MNEMOS_DATA, models by name from $MNEMOS_MODELS.

Deviations: 1. the papers count how often a judge prefers an answer to a tuned model's; ROUGE-L with one reference sees
that an answer is about the question and has its length, and little of its quality. 2. URIAL's examples are longer,
about 1,000 tokens; those here (`untuned.txt`) are ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnemos.core.files import write_json, write_jsonl
from mnemos.core.nouns import LanguageModel
from mnemos.measure.ask import Measured
from mnemos.measure.suite import Suite, load_suites
from mnemos.recipes.findings import Ordering
from mnemos.recipes.pages import in_percent
from mnemos.recipes.reproduce import data_folder
from mnemos.recipes.reproductions.prepare import Row
from mnemos.recipes.reproductions.real_models import DOLLY_ROWS, benign_rows
from mnemos.recipes.ways import ask, mean, named_model, ordering, ordering_lines

MARKED = "<|user|>\n{instruction}\n<|assistant|>\n"
"""The markers of arXiv:2409.14254. A base model has never seen them as special tokens."""
EXAMPLES = Path(__file__).parent / "untuned.txt"
FENCE = "\n```"
"""What ends an answer behind examples, which stand in fences."""
Expect = Literal["lower", "higher"]
MARGIN = 0.01
"""Of every score, in [0, 1]: a difference that counts as none."""
SCORES = ("answers", "ends", "repeats")


@dataclass(frozen=True)
class Way:
    """A way to ask. prompt: with {instruction}. more: further settings of the suites."""

    prompt: str
    more: Mapping[str, Any]


def ways() -> dict[str, Way]:
    """Every way by its name."""
    found = {"bare": Way(MARKED, {}), "rules": Way(MARKED, {"rules": {}})}
    for name in ("end", "repetition", "words"):
        found[f"rules without {name}"] = Way(MARKED, {"rules": {name: False}})
    found["examples"] = Way(EXAMPLES.read_text(encoding="utf-8"), {"stop": [FENCE]})
    return found


ORDERINGS: tuple[tuple[str, str, str, Expect, str], ...] = (
    ("rules", "bare", "answers", "higher", "all rules against none: 24.4 and 2.4 % of wins"),
    ("rules", "rules without end", "answers", "higher", "the rule of ending left out: 10.4 %"),
    ("rules", "rules without repetition", "answers", "higher", "the rule of repetition left out: 14.3 %"),
    ("rules", "rules without words", "answers", "higher", "the rule of words left out: 16.3 %"),
    ("examples", "bare", "answers", "higher", "URIAL against the tuned model: 4.63 and 4.44 of 5"),
    ("rules", "bare", "ends", "higher", "-"),
    ("rules", "bare", "repeats", "lower", "-"),
    ("rules", "rules without end", "ends", "higher", "-"),
    ("rules", "rules without repetition", "repeats", "lower", "-"),
    ("rules", "rules without words", "repeats", "lower", "-"),
    ("examples", "bare", "ends", "higher", "-"),
    ("examples", "bare", "repeats", "lower", "-"),
)
"""(arm, than, score, how the arm should stand to the other, the paper's numbers: wins against instruction tuning)."""


def suites(way: Way, items: Path, longest: int) -> tuple[Suite, ...]:
    """The suites of a way: what is asked once, and is looked at three times."""
    asked = {
        "name": "answers", "kind": "generated", "match": "rouge_l", "data": str(items), "max_new_tokens": longest,
        "templates": {"prompt": way.prompt}, **way.more,
    }  # fmt: skip
    others = [
        {"name": "ends", "kind": "stop_rate", "of": "answers"},
        {"name": "repeats", "kind": "repetition", "of": "answers"},
    ]
    return load_suites([asked, *others], items.parent)


def asked_rows(data: Path, number: int) -> list[Row]:
    """Dolly's questions with a person's answer; none of them is taught by another recipe."""
    found = benign_rows(data)[DOLLY_ROWS:][:number]
    return [{"id": f"dolly-{n}", "instruction": r["instruction"], "answer": r["output"]} for n, r in enumerate(found)]


def walk(model: LanguageModel, out: Path, rows: Sequence[Row], longest: int) -> dict[str, dict[str, Measured]]:
    """Ask every way, once; see `ways.ask`."""
    items = out / "items.jsonl"
    write_jsonl(items, rows)
    return {name: ask(model, out, name, suites(way, items, longest)) for name, way in ways().items()}


def record_of(cells: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    """Means by way and score, and the orderings, with 95 % intervals over items."""
    means = {
        name: {score: list(mean(cell[score].scores)) for score in SCORES} | {"tokens": _tokens(cell["answers"])}
        for name, cell in cells.items()
    }
    return {"ways": means, "orderings": [_ordering(cells, *one) for one in ORDERINGS]}


def _tokens(found: Measured) -> float:
    return sum(answer.tokens for answer in found.answers) / len(found.answers)


def _ordering(
    cells: Mapping[str, Mapping[str, Measured]], arm: str, than: str, measure: str, expect: Expect, paper: str
) -> dict[str, Any]:
    test = Ordering(arm=arm, than=than, measure=measure, expect=expect, margin=MARGIN)
    return {"paper": paper, **ordering(test, cells[arm][measure].scores, cells[than][measure].scores)}


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record as two tables of Markdown."""
    out = ["| asked | ROUGE-L | ends | repeats | tokens |", "|---|---|---|---|---:|"]
    for name, own in record["ways"].items():
        shown = [in_percent(own[score]) for score in SCORES]
        out.append(f"| {name} | {' | '.join(shown)} | {own['tokens']:.0f} |")
    return [*out, "", *ordering_lines(record["orderings"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnemos.recipes.untuned", description="What does a base model answer without any training?"
    )
    parser.add_argument("--model", default="gemma", help="a directory, a hub id, or a name below $MNEMOS_MODELS")
    parser.add_argument("--items", type=int, default=40, help="questions that are asked")
    parser.add_argument("--max-new-tokens", type=int, default=96, help="longest answer")
    parser.add_argument("--out", type=Path, default=Path("runs/untuned"), help="where answers and untuned.json lie")
    given = parser.parse_args(arguments)
    checkpoint = named_model(given.model)
    rows = asked_rows(data_folder(), given.items)
    cells = walk(checkpoint.load(), given.out, rows, given.max_new_tokens)
    record = {"model": checkpoint.path, "fingerprint": checkpoint.fingerprint, "items": len(rows), **record_of(cells)}
    write_json(given.out / "untuned.json", record)
    print("\n".join(lines(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
