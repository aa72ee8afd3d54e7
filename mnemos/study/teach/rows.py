"""A user's rows, looked at before anything is trained: what is in them, and what is held out of them to measure by."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_jsonl
from mnemos.core.json_text import parse_json
from mnemos.core.names import data_name
from mnemos.core.nouns import Example
from mnemos.measure.split import PARTS, part_of_question
from mnemos.sources.read import read
from mnemos.sources.write import beside, row_of
from mnemos.study.teach.suites import FEWEST, asked, plain

HELD, SHARE = 400, 5
"""Rows that are taken out to measure by: one of SHARE, HELD at most, in two halves (see `measure.split`)."""

SHORT = 8
"""Words of an answer up to which it is compared whole; longer ones are compared by their overlap."""

SHATTERED = 1.5
"""Bytes a token carries, below which a text is in pieces: byte-level vocabularies carry about four in English."""


@dataclass(frozen=True)
class Rows:
    """What was found. rows: read. repeated: that stand there more than once. contradicting: whose question is
    answered in another way by another row. taught: left to train on. held: taken out to measure by. match: how
    answers are compared; None where no rows were taken out. file: the rows to teach. suite: how a study file writes
    the new suite. length: tokens of a row, on average. longest: of 99 rows in 100. bytes_per_token: of the answers.
    notices: what should be known before anything is trained."""

    rows: int
    repeated: int
    contradicting: int
    taught: int
    held: int
    match: str | None
    file: str
    suite: dict[str, Any] | None
    length: float
    longest: int
    bytes_per_token: float
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def look_at_rows(data: str, folder: Path, renderer: Any, *, hold_out: bool, taken: Collection[str] = ()) -> Rows:
    """Read the rows, hold some out, and write both under `folder`.

    renderer: of the model that is to be taught. hold_out: False where suites of the user's measure what is taught.
    taken: names of other suites. The rows to teach are written in a fixed random order, so that the first ones are a
    fair share of all; equal questions are held out together. Raises DataError where too few rows are left on either
    side.
    """
    examples = list(read(data))
    answers: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        answers[asked(example)].add(_answer(example))
    whole = Counter((asked(example), _answer(example)) for example in examples)
    # A question that several rows answer differently has no reference; those that do not are measured by.
    contradicting = sum(1 for example in examples if len(answers[asked(example)]) > 1)
    stem = _free(data_name(data, "rows"), taken)
    measured = _measured(examples, answers, data) if hold_out else {}
    taught = [example for example in examples if asked(example) not in measured]
    random.Random(0).shuffle(taught)
    file = folder / f"{stem}.jsonl"
    write_jsonl(file, [{**row_of(example), "id": f"{n}"} for n, example in enumerate(taught)])
    spec = _suite(list(measured.values()), stem, folder, renderer) if measured else None
    lengths, carried, tokens = _lengths(taught, renderer)
    found = Rows(
        rows=len(examples),
        repeated=sum(count - 1 for count in whole.values()),
        contradicting=contradicting,
        taught=len(taught),
        held=len(examples) - len(taught),
        match=str(spec["match"]) if spec else None,
        file=str(file),
        suite=spec,
        length=sum(lengths) / len(lengths),
        longest=sorted(lengths)[min(len(lengths) - 1, math.floor(0.99 * len(lengths)))],
        bytes_per_token=carried / max(1, tokens),
        notices=(),
    )
    return Rows(**{**asdict(found), "notices": tuple(_notices(found))})


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with the first number that no other suite has: rows of several rounds are often called alike."""
    number = 1
    while (found := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return found


def _answer(example: Example) -> str:
    return plain(example.turns[-1].in_words())


def _measured(examples: Sequence[Example], answers: dict[str, set[str]], data: str) -> dict[str, Example]:
    """Question -> the row that measures what is taught by it, as many in each part (see `measure.split`): of a question
    with one plain answer, the first row that has it."""
    if all(example.kind == "text" for example in examples):
        raise UsageError(
            f"{data}", "is running text, whose learning is measured in bits and not in points", "give --new SUITE.yaml"
        )
    fit: dict[str, Example] = {}
    for example in examples:
        last = example.turns[-1]
        good = (
            example.label is not False and not example.rejected and last.learn and last.is_plain and last.text.strip()
        )
        if good and example.kind != "text" and len(answers[asked(example)]) == 1:
            fit.setdefault(asked(example), example)
    # By a hash, not by their place: the last rows of a file are often of another kind than the first.
    ranked = sorted(fit, key=lambda text: hashlib.sha256(f"held {text}".encode(errors="surrogatepass")).hexdigest())
    halves = [[text for text in ranked if part_of_question(fit[text].turns[:-1]) == part] for part in PARTS]
    # The part of a question is a coin of its own: twenty taken as they come would rarely be ten and ten.
    count = min(HELD // 2, len(fit) // (2 * SHARE), *(len(half) for half in halves))
    if count < FEWEST:
        raise DataError(
            f"{data}",
            f"leaves {2 * count} questions to measure by ({len(examples)} rows, {len(fit)} of them with one plain "
            f"answer): {2 * FEWEST} are needed, one of {SHARE}",
            f"give {2 * FEWEST * SHARE} rows or more, or --new SUITE.yaml, which measures what they teach",
        )
    chosen = {text for half in halves for text in half[:count]}
    return {text: example for text, example in fit.items() if text in chosen}


def _suite(measured: Sequence[Example], stem: str, folder: Path, renderer: Any) -> dict[str, Any]:
    """The suite of the rows that measure; its items are written beside the rows that are taught."""
    match = _match([example.turns[-1].text for example in measured])
    file = folder / f"{stem}.items.jsonl"
    write_jsonl(file, [_item(example, number) for number, example in enumerate(measured)])
    longest = max(
        len(renderer.tokenizer(example.turns[-1].text, add_special_tokens=False)["input_ids"]) for example in measured
    )
    spec: dict[str, Any] = {"name": stem, "kind": "generated", "data": str(file), "match": match}
    spec["max_new_tokens"] = min(512, max(8, math.ceil(1.25 * longest) + 4))
    return spec


def _item(example: Example, number: int) -> dict[str, Any]:
    *before, last = example.turns
    row: dict[str, Any] = {"id": str(number), "answer": last.text}
    if example.kind == "completion":
        return {**row, "prompt": before[0].text}
    return {**row, "messages": [turn.message() for turn in before], **beside(example.variables)}


def _match(answers: Sequence[str]) -> str:
    """How to compare: as JSON where all references are objects or lists, whole where they are short, else by their
    longest common subsequence of words."""
    if all(_is_json(answer) for answer in answers):
        return "json"
    lengths = sorted(len(answer.split()) for answer in answers)
    return "normalised" if lengths[len(lengths) * 9 // 10] <= SHORT else "rouge_l"


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse_json(text, "answer"), dict | list)
    except DataError:
        return False
    except json.JSONDecodeError:
        return False


def _lengths(examples: Sequence[Example], renderer: Any) -> tuple[list[int], int, int]:
    """Tokens of each of up to 1,000 rows; bytes of their answers, and tokens of these."""
    lengths, carried, tokens = [], 0, 0
    for example in examples[:1000]:
        text = "\n".join(turn.in_words() for turn in example.turns)
        # The markers of a turn, in most templates.
        lengths.append(_tokens(text, renderer) + 5 * len(example.turns))
        answer = example.turns[-1].in_words()
        carried += len(answer.encode(errors="surrogatepass"))
        tokens += _tokens(answer, renderer)
    return lengths, carried, tokens


def _tokens(text: str, renderer: Any) -> int:
    return len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])


def _notices(found: Rows) -> list[str]:
    out = []
    if found.repeated:
        out.append(f"{found.repeated:,} rows stand there more than once: they count as often")
    if found.contradicting:
        share = found.contradicting / found.rows
        out.append(
            f"{found.contradicting:,} rows ({share:.0%}) answer a question that another row answers differently: no "
            "model can learn both, and none of them measures"
        )
    if found.bytes_per_token < SHATTERED:
        out.append(
            f"the tokenizer breaks these answers into pieces of {found.bytes_per_token:.1f} bytes: the model reads and "
            "writes them slowly and badly; extend its vocabulary (train its tokenizer on such text) before teaching"
        )
    return out
