"""What is read, in which order: documents beside their neighbours, rows from easy to hard."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.method import method
from mnemos.core.nouns import Example, Source, Turn
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import ModelRef, Seed
from mnemos.sources.generated import NotGenerated, SynthesisContext
from mnemos.sources.mix import is_new
from mnemos.sources.order import Order, ordered

BETWEEN = "\n\n"
"""What stands between two documents that are read as one."""
LONGEST = 1_000_000
"""Characters of joined documents after which another text begins: tokenizers take one text at a time."""


@dataclass(frozen=True)
class Concatenated:
    """The new documents of a source one behind the other as few long texts, in an order. Rows that are not of the new
    task stay as they are, behind them. cut: whether training cuts long texts into pieces; without it there is nothing
    to learn from texts as long as these, which iterating then says (UsageError). Raises DataError for a chat."""

    source: Source
    order: Order
    seed: int
    cut: bool

    @property
    def fingerprint(self) -> str:
        """Of the rows and the order; reads no rows."""
        return fingerprint({"concatenated": self.source.fingerprint, "order": self.order, "seed": self.seed})

    def describe(self) -> str:
        """The rows and their order."""
        return f"{self.source.describe()}, documents joined in {self.order} order"

    def __iter__(self) -> Iterator[Example]:
        if not self.cut:
            raise UsageError(
                "in_context with train.long_documents = as_rows",
                "joins documents into texts far longer than train.max_length",
                "set train.long_documents: chunk, which cuts them into rows of it",
            )
        rows = list(self.source)
        new = [row for row in rows if is_new(row.origin)]
        chat = next((row for row in new if row.kind != "text"), None)
        if chat is not None:
            raise DataError(f"{chat.place or chat.id}", "is no document", "in_context is for rows of text alone")
        texts = [row.turns[0].text for row in new]
        joined: list[str] = []
        length = number = 0
        for place in ordered(texts, self.order, self.seed):
            joined.append(texts[place])
            length += len(texts[place])
            if length >= LONGEST:
                yield _document(number, joined)
                joined, length, number = [], 0, number + 1
        if joined:
            yield _document(number, joined)
        yield from (row for row in rows if not is_new(row.origin))


def _document(number: int, texts: list[str]) -> Example:
    return Example(f"joined-{number}", "text", (Turn("text", BETWEEN.join(texts)),))


@method(paper="arXiv:2310.10638", changes={"examples"}, off={"order": "apart"})
def in_context(plan: Plan, *, order: Literal["in-context", "random", "apart"] = "in-context", seed: Seed = 0) -> Plan:
    """Join documents one behind the other, each beside its nearest neighbours, so that one is read in the context of
    those that are like it (in-context pre-training).

    order: in-context, along a path through the graph of nearest neighbours; random, the usual packing of whole
    documents, which is what the paper compares with; apart, each document by itself, which turns the method off.
    seed: added to the arm's seed where the order is drawn.

    The joined text is cut into rows of train.max_length (train.long_documents: chunk), which are read in a random
    order; within a row a document sees those before it, of which train.packing otherwise keeps it apart. Two blank
    lines stand between them.

    Trap: a row holds neighbours only where it is longer than a document: with max_length below the usual length of a
    document the order changes nothing but which ends meet.

    Trap: without leaving out near-duplicates the model learns to copy; those of cosine 0.98 and more are no neighbours
    here, and are read all the same.

    Deviations from the paper: as of `mnemos data mix --order in-context` (`sources.order`).

    Raises, when rows are read, UsageError unless train.long_documents is chunk, DataError for rows that are chats.
    """
    if order == "apart":
        return plan
    cut = plan.train.long_documents == "chunk"
    return dataclasses.replace(plan, examples=Concatenated(plan.examples, order, plan.seed + seed, cut))


@dataclass(frozen=True)
class Sorted(NotGenerated):
    """All rows from easy to hard; equally hard ones by chance. reference: None, by how many characters a row has;
    else by the mean nats a token of its text under that model."""

    source: Source
    reference: ModelHandle | None
    hard_first: bool
    seed: int

    def describe(self) -> str:
        """The rows and what is easy."""
        return f"{self.source.describe()}, sorted by {'length' if self.reference is None else 'loss'}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """The rows. One that the model cannot read at all is the hardest."""
        rows = context.rows(self.source)
        random.Random(f"curriculum {self.seed}").shuffle(rows)
        texts = ["\n".join(turn.text for turn in row.turns) for row in rows]
        keys = [float(len(text)) for text in texts]
        if self.reference is not None:
            found = context.model(self.reference).nats(texts)
            keys = [nats / count if count else float("inf") for nats, count in found]
        order = sorted(range(len(rows)), key=keys.__getitem__, reverse=self.hard_first)
        return [rows[place] for place in order]


@dataclass(frozen=True)
class InTurn:
    """Rows that training reads in every pass in the order in which they stand (`train.schedule.AsTheyStand`)."""

    in_turn: ClassVar[bool] = True

    source: Source

    @property
    def fingerprint(self) -> str:
        """Of the rows, and that they are read in turn."""
        return fingerprint({"in turn": self.source.fingerprint})

    def describe(self) -> str:
        """The rows."""
        return f"{self.source.describe()}, read in that order"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.source)


@method(paper="arXiv:2405.07490", changes={"examples"}, off={"by": "chance"})
def curriculum(
    plan: Plan,
    *,
    by: Literal["length", "loss", "chance"] = "length",
    reference_model: ModelRef | None = None,
    hard_first: bool = False,
    seed: Seed = 0,
) -> Plan:
    """Read the rows from easy to hard.

    by: length, short rows first, by characters; loss, those of the fewest nats a token first; chance, in a random order
    as usual, which turns the method off.
    reference_model: with by: loss, whose loss: a directory or hub id; the model before the stage unless given, which
    from random weights tells nothing.
    hard_first: the other way round, a control.
    seed: added to the arm's seed where equally hard rows are ordered.

    Every pass over the rows goes from easy to hard; with train.packing rows are packed in turn, and documents that
    train.long_documents cuts are read on piece by piece.

    Trap: the learning rate of most schedules has fallen by the time the hard rows come; compare with a constant one
    before the order is blamed or praised. A last batch of one kind is also what the model remembers best.

    Trap: it must be the last method that changes what is read: one that mixes rows in behind it shuffles them.

    Deviations from the paper: 1. lengths are of the whole row in characters, not of its prompt. 2. it has attention
    scores as a third measure, which are not offered.

    Raises UsageError for a reference_model beside by: length, and for a method behind it that mixes rows in.
    """
    if by == "chance":
        return plan
    if by == "length" and reference_model is not None:
        raise UsageError(f"curriculum.reference_model = {reference_model}", "is not asked by: length", "leave it out")
    reference: ModelHandle | None = None
    if by == "loss":
        from mnemos.models.load import handle

        reference = plan.before if reference_model is None else handle(reference_model)
    made = InTurn(Sorted(plan.examples, reference, hard_first, plan.seed + seed))
    return dataclasses.replace(plan, examples=made)
