"""What is read: how much of each source of text, by size, evenly, by given weights or by those that a proxy learned."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.files import read_json
from mnemos.core.fingerprint import fingerprint
from mnemos.core.inputs import file_hash
from mnemos.core.method import method
from mnemos.core.nouns import Example, Source
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import FileRef, Seed
from mnemos.sources.domains import domain_of, learned_weights
from mnemos.sources.mix import is_new
from mnemos.sources.mixture import drawn
from mnemos.sources.mixture import plan as planned

By = Literal["natural", "size", "uniform", "given", "run"]
Weight = Annotated[float, Field(gt=0, le=1e9)]
BATCH = 1000
"""Texts that are put into tokens together."""


@dataclass(frozen=True)
class Learned:
    """Weights in the results.json of a study with `doremi`; read when rows are drawn. seed: of the arm, whose own
    proxy's weights are taken where there is one."""

    path: str
    arm: str | None
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the file's content; of its name where it is not there yet, as in the plan of a whole reproduction."""
        content = file_hash(self.path) if Path(self.path).is_file() else self.path
        return fingerprint({"learned weights": content, "arm": self.arm, "seed": self.seed})

    def read(self) -> dict[str, float]:
        """Source -> weight. Raises UsageError for a file that is not there, and as `learned_weights`."""
        path = Path(self.path)
        if not path.is_file():
            raise UsageError(f"mixture.run = {self.path}", "does not exist", "name the results.json of a finished run")
        results = read_json(path)
        return learned_weights(results if isinstance(results, Mapping) else {}, self.path, self.seed, self.arm)


@dataclass(frozen=True)
class Weighted:
    """The new rows of a source, drawn so that each of its sources of text has its share of the tokens.

    weights: pairs of source and weight, `Learned`, or None: by size^(1 / temperature), evenly where that is None.
    total: tokens; None, as many as the rows have. tokenizer: of which model they are. Rows that are not of the new task
    stay, behind the others. Rows are drawn in whole turns, so that no two of a source are read more than once apart;
    a row that is read again has #2, #3, … behind its id.
    """

    source: Source
    column: str
    weights: tuple[tuple[str, float], ...] | Learned | None
    temperature: float | None
    total: float | None
    max_epochs: float
    tokenizer: ModelHandle
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the rows and every setting; reads no rows."""
        return fingerprint({f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {"kind": "weighted"})

    def describe(self) -> str:
        """The rows, and by what they are weighed."""
        by = "learned weights" if isinstance(self.weights, Learned) else "given weights" if self.weights else "size"
        by = "even weights" if self.weights is None and self.temperature is None else by
        return f"{self.source.describe()}, mixed by {by} of {self.column}"

    def __iter__(self) -> Iterator[Example]:
        rows: dict[str, list[Example]] = defaultdict(list)
        others: list[Example] = []
        for example in self.source:
            if is_new(example.origin):
                rows[domain_of(example, self.column)].append(example)
            else:
                others.append(example)
        lengths = {name: self._lengths(some) for name, some in rows.items()}
        sizes = {name: float(sum(some)) for name, some in lengths.items()}
        weights = self._weights(sizes)
        total = sum(sizes.values()) if self.total is None else self.total
        parts = planned(sizes, total, weights=weights, temperature=self.temperature or 1.0, max_epochs=self.max_epochs)
        for part in parts:
            turns: dict[int, int] = defaultdict(int)
            rng = random.Random(f"weighted {self.seed} {part.name}")
            for place in drawn(lengths[part.name], part.amount, rng):
                turns[place] += 1
                row = rows[part.name][place]
                yield row if turns[place] == 1 else dataclasses.replace(row, id=f"{row.id}#{turns[place]}")
        yield from others

    def _weights(self, sizes: Mapping[str, float]) -> dict[str, float] | None:
        if self.weights is None:
            return None if self.temperature is not None else dict.fromkeys(sizes, 1.0)
        return self.weights.read() if isinstance(self.weights, Learned) else dict(self.weights)

    def _lengths(self, rows: list[Example]) -> list[int]:
        from mnemos.weights.checkpoint import tokenizer_of

        tokenizer = tokenizer_of(self.tokenizer)
        texts = ["\n".join(turn.text for turn in row.turns) for row in rows]
        out: list[int] = []
        for at in range(0, len(texts), BATCH):
            found = tokenizer(texts[at : at + BATCH], add_special_tokens=False, verbose=False)["input_ids"]
            out += [len(ids) for ids in found]
        return out


@method(paper="arXiv:2305.10429", changes={"examples"}, off={"by": "natural"})
def mixture(
    plan: Plan,
    *,
    by: By = "size",
    column: str = "source",
    weights: dict[str, Weight] = {},  # noqa: B006  pydantic copies a default; it is never written into
    run: FileRef | None = None,
    arm: str | None = None,
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    total_tokens: Annotated[float, Field(gt=0)] | None = None,
    max_epochs: Annotated[float, Field(gt=0, le=100_000)] = 4.0,
    seed: Seed = 0,
) -> Plan:
    """Draw the new rows so that each source of text has its share of the tokens.

    by: natural, the rows as they stand, which turns the method off; size, shares in proportion to size^(1 /
    temperature); uniform, equal shares; given, by `weights`; run, by the weights that `doremi` learned in a `run`.
    column: the column of the data that names each row's source, as `mnemos data mix` writes it.
    weights: with by: given, for each source any positive number.
    run: with by: run, the results.json of a study one of whose arms has doremi. Weights are means over all its steps;
    of the run with the arm's own seed where there is one, else over all seeds.
    arm: with by: run, which arm's weights; may be left out where one alone has learned some.
    temperature: with by: size, 1 is in proportion, more is more even (mT5's exponent 0.3 is 3.3).
    total_tokens: size of the mixture, in tokens of the model's tokenizer; as many as the rows have unless given.
    max_epochs: how often a source may be read; what one cannot give is shared among the others by their weights.
    seed: added to the arm's seed where rows are drawn.

    Rows of earlier tasks, or mixed in by a method that stands before, are left as they are.

    Trap: a small source of high weight is read many times over, and above four times its tokens are worth less and less
    (arXiv:2305.16264). Where the caps leave less than the total, the mixture is refused with what there is.

    Trap: weights that a proxy learned are those of its tokenizer and of the sources as they were named there; a source
    that has none is refused.

    Deviation from the paper: rows are drawn once, in whole turns, not anew at every step.

    Raises UsageError for settings that do not go together; DataError, when the rows are drawn, for a row without the
    column and a mixture that cannot be filled.
    """
    if by == "natural":
        return plan
    if (by == "given") != bool(weights):
        raise UsageError(f"mixture.by = {by} with weights = {weights}", "do not go together", "weights need by: given")
    if (by == "run") != (run is not None) or (arm is not None and by != "run"):
        raise UsageError(
            f"mixture.by = {by} with run = {run}, arm = {arm}", "do not go together", "a run needs by: run"
        )
    if by != "size" and temperature != 1:
        raise UsageError(f"mixture.by = {by} with temperature = {temperature:g}", "does nothing", "set by: size")
    chosen: tuple[tuple[str, float], ...] | Learned | None = tuple(sorted(weights.items())) or None
    if run is not None:
        chosen = Learned(run, arm, plan.seed)
    mixed = Weighted(
        plan.examples, column, chosen, temperature if by == "size" else None, total_tokens, max_epochs, plan.before,
        plan.seed + seed,
    )  # fmt: skip
    return dataclasses.replace(plan, examples=mixed)
