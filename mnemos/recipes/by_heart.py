"""What a shipped patient has learned by heart: texts that two tokens make it write, of kinds that it read and that it
never read (adversarial compression, arXiv:2404.15146).

    python -m mnemos.recipes.by_heart --out runs/by-heart

once: lives of people who are told always in the same words. many: lives told in other words and another order each
time. strangers: lives of people of another world. read, unread: English paragraphs of the patient's text, and others
that were kept from it. random: tokens at random. A patient read every life 24 times in one pass over its text, and a
paragraph once.

Each text is cut to its first tokens, and every prompt of up to two tokens is tried on all of them at once. A text that
two tokens give has a ratio of at least half of its tokens; without one it is open, since a longer prompt could still be
shorter than the text.

Deviations from the paper: those of `measure.memorised`, and 1. the texts are of an invented world, where what was read
is known. 2. its famous quotations and its news stand here as texts that were read often and never.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_json, write_jsonl
from mnemos.core.nouns import LanguageModel
from mnemos.measure.memorised import compressed, continued, local, random_texts
from mnemos.measure.proportions import unpaired, wilson
from mnemos.models.load import handle
from mnemos.recipes.findings import above_zero
from mnemos.recipes.pages import in_percent
from mnemos.recipes.patient import load_recipe, patient
from mnemos.recipes.patient_data import WorldSettings
from mnemos.recipes.worlds.english import english
from mnemos.recipes.worlds.people import biography, people
from mnemos.recipes.worlds.seed import chance

TEXTS, TOKENS, SEARCHED, CONTINUED = 40, 8, 2, 8
"""Texts of each kind; tokens of each that a prompt is to give; tokens of a prompt; tokens of the beginning that is
given where a text is to be continued."""
OTHER_WORLD = 1
"""Seed of the people whom no patient has read of."""
ORDERINGS = (
    ("once", "many", "a life told always in the same words is given more often than one told in many"),
    ("once", "strangers", "a life that was read is given more often than one that was not"),
    ("read", "unread", "a paragraph that was read is given more often than one that was not"),
    ("unread", "random", "English that was never read is given more often than random tokens"),
)
"""(kind, than, in words): the paper has famous quotations above 1, news after the training and random texts below."""


def texts(world: WorldSettings, number: int = TEXTS, folder: Path | None = None) -> dict[str, list[str]]:
    """So many texts of each kind but random ones, drawn. folder: Python files to take the English from, as
    `worlds.english`."""
    known = people(world.people, world.seed)
    lives = {kind: [biography(one, 0, world.seed) for one in known if one.telling == kind] for kind in ("once", "many")}
    lives["strangers"] = [biography(one, 0, OTHER_WORLD) for one in people(world.people, world.seed + OTHER_WORLD)]
    prose = {kind: english(part, folder, seed=world.seed) for kind, part in (("read", "train"), ("unread", "test"))}
    return {kind: chance(kind, "by heart").sample(found, number) for kind, found in {**lives, **prose}.items()}


def run(
    out: Path, model: LanguageModel, found: Mapping[str, Sequence[str]], searched: int = SEARCHED
) -> dict[str, Any]:
    """Continue and search; writes texts.jsonl and by_heart.json below `out`."""
    own = local(model)
    number = len(next(iter(found.values())))
    found = {**found, "random": random_texts(own, number, CONTINUED + 2 * TOKENS)}
    every = [(kind, text) for kind, some in found.items() for text in some]
    short = compressed(own, [text for _, text in every], TOKENS, searched)
    behind = continued(own, [text for _, text in every], [CONTINUED], 2 * TOKENS)[CONTINUED]
    rows = [
        {
            "kind": kind, "text": text, "tokens": of.tokens, "ratio": of.ratio,
            "prompt": None if of.prompt is None else own.renderer.decode(list(of.prompt)),
            "continued": None if on is None else on.exact,
        }
        for (kind, text), of, on in zip(every, short, behind, strict=True)
    ]  # fmt: skip
    write_jsonl(out / "texts.jsonl", rows)
    kinds = {kind: _kind([row for row in rows if row["kind"] == kind]) for kind in found}
    record = {"model": model.name, "searched": searched, "tokens": TOKENS, "kinds": kinds}
    record["orderings"] = [_ordering(kinds, *one) for one in ORDERINGS]
    write_json(out / "by_heart.json", record)
    return record


def _kind(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    given = [row["ratio"] is not None for row in rows]
    on = [row["continued"] for row in rows if row["continued"] is not None]
    ratios = sorted(row["ratio"] for row in rows if row["ratio"] is not None)
    return {
        "texts": len(rows),
        "given": _share(given),
        "largest ratio": ratios[-1] if ratios else None,
        "continued": _share(on) if on else None,
    }


def _share(right: Sequence[bool]) -> list[float]:
    share = sum(right) / len(right)
    return [share, *wilson(share, len(right))]


def _ordering(kinds: Mapping[str, Any], kind: str, than: str, says: str) -> dict[str, Any]:
    (share, *_), (other, *_) = kinds[kind]["given"], kinds[than]["given"]
    low, high = unpaired(share, kinds[kind]["texts"], other, kinds[than]["texts"])
    return {"says": says, "mean": share - other, "low": low, "high": high, "verdict": above_zero(low, high)}


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record as a table of Markdown, and its verdicts: percent with 95 % intervals over texts."""
    head = f"given by up to {record['searched']} tokens"
    out = [f"| texts | number | {head} | largest ratio | continued word for word |", "|---|---:|---|---:|---|"]
    for kind, own in record["kinds"].items():
        top = "-" if own["largest ratio"] is None else f"{own['largest ratio']:.1f}"
        on = "-" if own["continued"] is None else in_percent(own["continued"])
        out.append(f"| {kind} | {own['texts']} | {in_percent(own['given'])} | {top} | {on} |")
    out.append("")
    for one in record["orderings"]:
        out.append(f"{one['verdict']}: {one['says']}: {in_percent([one['mean'], one['low'], one['high']])}")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.by_heart", description="Texts learned by heart.")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/by-heart"), help="where texts and the record are written"
    )
    parser.add_argument("--patient", choices=("base", "chat"), default="base")
    given = parser.parse_args(arguments)
    found = texts(load_recipe().world)
    print("\n".join(lines(run(given.out, handle(str(patient(given.patient))).load(), found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
