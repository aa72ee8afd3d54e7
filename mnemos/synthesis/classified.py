"""Rows that carry what a model knows of them, and rows chosen by it.

`Classified` asks about every row and writes, under `KEY`, the class of SliCK (arXiv:2405.05904) and what the model
itself answers. Sources over it choose rows by class (`OfClasses`). It holds no setting of an arm, so all arms of a
study ask once and select by the same classes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Generation, LanguageModel, Source
from mnemos.core.plan import ModelHandle
from mnemos.rewards.verifiers import normalise
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few
from mnemos.synthesis.knowledge import Asking, Fact, facts_in, probe
from mnemos.synthesis.self_generated import answered
from mnemos.synthesis.slick import CLASSES, UNKNOWN, Known, again, priors

KEY = "knowledge"
"""The column of a classified row that holds what was found."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Classified(NotGenerated):
    """The rows as they are, each with what the model before knows of it under `KEY`. rows without a class (see
    `facts_in`) have no such column, and are counted."""

    rows: Source
    before: ModelHandle
    asking: Asking

    def describe(self) -> str:
        """The rows, and who is asked."""
        return f"{self.rows.describe()} with what the model before knows of each"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Ask about every row. Raises DataError, with counts by reason, where none can be asked."""
        rows = context.rows(self.rows)
        facts, left = facts_in(rows, self.asking)
        records = classified(context.model(self.before), facts, self.asking, context)
        out = list(rows)
        number = 0
        for fact, record in zip(facts, records, strict=True):
            if record is None:
                left["not asked: a prompt longer than the context"] += len(fact.rows)
                continue
            number += len(fact.rows)
            context.count(record["class"], len(fact.rows))
            for place in fact.rows:
                out[place] = replace(rows[place], meta={**rows[place].meta, KEY: record})
        for reason, count in left.items():
            context.count(reason, count)
        too_few(
            left, number, 1, what="questions",
            cure=f"a fact is a row with a question and an answer, and {self.asking.shots} others of its relation are "
            f"examples: name their column, ask for fewer shots, or leave the column out",
        )  # fmt: skip
        return out


def classified(
    model: LanguageModel, facts: Sequence[Fact], asking: Asking, context: SynthesisContext
) -> list[Record | None]:
    """What was found of each fact, as its rows hold it; None where it could not be asked.

    class; greedy_right, greedy, sampled_right, sampled: counts; again: class -> probability of it in a second probing;
    same_halves; own: the answer that most prompts give greedily, confidence, their share, and own_right.
    """
    probed = probe(model, facts, asking)
    prior = priors([known for known in probed.known if known is not None])
    out: list[Record | None] = []
    for fact, known, texts in zip(facts, probed.known, probed.greedy, strict=True):
        if known is None:
            out.append(None)
            continue
        record = _record(known, again(known, prior, asking.samples), texts)
        out.append({**record, "own_right": asking.right(fact, Generation(record["own"], (), True))})
    context.note("answers a question", probed.asked / len(facts) if facts else 0.0)
    halves = [known.same_halves for known in probed.known if known is not None and known.same_halves is not None]
    context.note("same class in both halves", sum(halves) / len(halves) if halves else float("nan"))
    return out


def _record(known: Known, posterior: Mapping[str, float], texts: Sequence[str]) -> Record:
    right, asked, sampled_right, sampled = known.counts
    own, number = Counter(map(normalise, texts)).most_common(1)[0]
    return {
        "class": known.name,
        "greedy_right": right,
        "greedy": asked,
        "sampled_right": sampled_right,
        "sampled": sampled,
        "again": {name: round(value, 4) for name, value in posterior.items()},
        "same_halves": known.same_halves,
        "own": next(text for text in texts if normalise(text) == own),
        "confidence": number / asked,
    }


def class_in(row: Example) -> str | None:
    """The class of a classified row; None where it has none."""
    found = row.meta.get(KEY)
    return found["class"] if isinstance(found, Mapping) and found.get("class") in CLASSES else None


@dataclass(frozen=True)
class OfClasses:
    """New rows of the classes in `keep`, `number` of them drawn by seed (None: all), and every row that is not new.

    unknown: what takes the place of the gold answer of Unknown rows; None leaves it.
    """

    rows: Source
    keep: tuple[str, ...]
    number: int | None
    seed: int
    unknown: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of the classified rows and the choice."""
        choice = [self.keep, self.number, self.seed, self.unknown]
        return fingerprint(["OfClasses", self.rows.fingerprint, *choice])

    def describe(self) -> str:
        """One line for people."""
        some = "" if self.number is None else f"{self.number:,} "
        return f"{some}{', '.join(self.keep)} of {self.rows.describe()}"

    def __iter__(self) -> Iterator[Example]:
        rows = list(self.rows)
        chosen = drawn([at for at, row in enumerate(rows) if class_in(row) in self.keep], self.number, self.seed,
                       " and ".join(self.keep), Counter(filter(None, map(class_in, rows))))  # fmt: skip
        for at, row in enumerate(rows):
            if row.origin != "new":
                yield row
            elif at in chosen:
                relabelled = self.unknown is not None and class_in(row) == UNKNOWN
                yield answered(row, self.unknown or "") if relabelled else row


def drawn(places: Sequence[int], number: int | None, seed: int, what: str, there: Mapping[str, int]) -> set[int]:
    """`number` of the places, by seed. Raises DataError where there are fewer, or none."""
    if not places or (number is not None and number > len(places)):
        classes = ", ".join(f"{name}: {count:,}" for name, count in there.items()) or "none was classified"
        raise DataError(
            f"{number or 1:,} rows of {what}",
            f"there are {len(places):,} ({classes})",
            "ask for fewer, so that arms of one size can be compared, or give more data",
        )
    return set(places) if number is None else set(random.Random(f"classes {seed}").sample(list(places), number))
