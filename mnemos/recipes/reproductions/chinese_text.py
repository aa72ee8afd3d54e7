"""Makes the rows and suites of `continual-pretraining`: Chinese text to read on with, and what is asked.

Third-party text is read from $MNEMOS_DATA and stays below runs/: Tatoeba (CC BY 2.0 FR). What is asked about the
patients' world is generated.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.recipes.patient import load_recipe
from mnemos.recipes.patient_data import CONTINUE, WorldSettings, base_texts
from mnemos.recipes.worlds import people as worlds_people
from mnemos.recipes.worlds.english import english
from mnemos.recipes.worlds.seed import chance

Row = dict[str, Any]

SOURCE = "tatoeba_en_zh/shared.jsonl.gz"
TRAIN, HELD_OUT = 200, 30
"""Documents to learn; documents of the dev part and of the test part each."""

OLD_ROWS, PROMPTS, TRUTHS = 100, 30, 100
FALSE_OPTIONS = 3
CHARACTERS = 200
"""Commonest characters, of which the Chinese text is made."""


def make(data: Path, out: Path) -> None:
    """Write chinese.jsonl, old_text.jsonl and items/<suite>.jsonl to `out`/data, dev parts too
    (items/dev-*.jsonl), on which the settings were chosen. Raises FileNotFoundError where `data` lacks a set."""
    out = out / "data"
    documents = chinese(data)
    world = load_recipe().world
    prose = {part: english(part, seed=world.seed) for part in ("train", "dev", "test")}
    write_jsonl(out / "chinese.jsonl", documents["train"])
    write_jsonl(out / "old_text.jsonl", old_texts(world, prose["train"]))
    for part, prefix in (("test", ""), ("dev", "dev-")):
        folder = out / "items"
        write_jsonl(folder / f"{prefix}bits-chinese.jsonl", documents[part])
        write_jsonl(folder / f"{prefix}truth.jsonl", truths(world, part, TRUTHS))
        write_jsonl(folder / f"{prefix}asked-english.jsonl", english_prompts(prose[part], part))
        write_jsonl(folder / f"{prefix}asked-chinese.jsonl", chinese_prompts(documents[part]))


def chinese(data: Path) -> dict[str, list[Row]]:
    """Documents by part, three short sentences each, of common characters only; no sentence is in two parts.

    A character is three tokens to the patients, who never met one: with rare ones among them a model of
    this size does not learn in minutes to write a whole character.
    """
    sentences = common(list(dict.fromkeys(_sentences(data))), CHARACTERS)
    chance("chinese").shuffle(sentences)
    texts = ["".join(sentences[start : start + 3]) for start in range(0, len(sentences) - 2, 3)]
    rows = [{"id": f"zh-{number}", "text": text} for number, text in enumerate(texts)]
    ends = {"test": (0, HELD_OUT), "dev": (HELD_OUT, 2 * HELD_OUT), "train": (2 * HELD_OUT, 2 * HELD_OUT + TRAIN)}
    return {part: rows[start:end] for part, (start, end) in ends.items()}


def common(sentences: Sequence[str], characters: int) -> list[str]:
    """The sentences that are made of the `characters` commonest ones alone."""
    counts = Counter(character for sentence in sentences for character in sentence)
    known = {character for character, _ in counts.most_common(characters)}
    return [sentence for sentence in sentences if known.issuperset(sentence)]


def _sentences(data: Path) -> Iterator[str]:
    """One translation of each English sentence."""
    with gzip.open(data / SOURCE, "rt", encoding="utf-8") as file:
        once = {row["en"]: row["zh"] for row in map(json.loads, file)}
    return (text for text in once.values() if 6 <= len(text) <= 14)


def old_texts(world: WorldSettings, prose: Sequence[str]) -> list[Row]:
    """Documents that the base patient was pre-trained on, to be mixed in."""
    texts = list(dict.fromkeys(base_texts(world, prose)))
    chosen = chance(world.seed, "old texts of the road").sample(texts, OLD_ROWS)
    return [{"id": f"old-{number}", "text": text} for number, text in enumerate(chosen)]


def truths(world: WorldSettings, part: str, count: int) -> list[Row]:
    """Questions about known people with the true answer and false ones, for mc2 (TruthfulQA): asked in a
    wording that was never trained. The people of one part are not asked about in another."""
    known = [p for p in worlds_people.people(world.people, world.seed) if (p.telling, p.asked) == ("many", "train")]
    values = {name: sorted({p.facts[name] for p in known}) for name in worlds_people.ATTRIBUTES}
    rows = []
    for person in known[0 if part == "test" else 1 :: 2]:
        for asked in worlds_people.questions(person, worlds_people.WORDINGS):
            wrong = [value for value in values[asked.attribute] if value != asked.answer]
            false = chance(world.seed, "false", part, person.number, asked.attribute).sample(wrong, FALSE_OPTIONS)
            rows.append(
                {
                    "id": f"{person.number}-{asked.attribute}",
                    "prompt": asked.text,
                    "options": [asked.answer, *false],
                    "answer": 0,
                    "cluster": person.name,
                }
            )
    return sorted(chance(world.seed, "truths", part).sample(rows, min(count, len(rows))), key=lambda row: row["id"])


def english_prompts(prose: Sequence[str], part: str) -> list[Row]:
    """Requests in English whose answer is English."""
    long = [text for text in prose if len(text.split()) >= 16]
    chosen = chance("english prompts", part).sample(long, min(PROMPTS, len(long)))
    return [
        {"id": str(n), "prompt": CONTINUE[n % len(CONTINUE)].format(" ".join(text.split()[:8])), "language": "en"}
        for n, text in enumerate(chosen)
    ]


def chinese_prompts(rows: Sequence[Row]) -> list[Row]:
    """Requests in Chinese whose answer should be Chinese: go on with a text that was not learned."""
    asked = ("請繼續寫：{}", "請接著往下寫：{}", "這段話的下文是什麼？{}")
    return [
        {"id": row["id"], "prompt": asked[n % len(asked)].format(row["text"][:6]), "language": "zh"}
        for n, row in enumerate(rows[:PROMPTS])
    ]
