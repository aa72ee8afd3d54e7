"""Which rows are read at which step, by which process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Sampler

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens
from mnemos.sources.mix import Shape, is_new

RISEN: dict[Shape, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "linear": lambda x: x**2 / 2,
    "cosine": lambda x: x / 2 - np.sin(np.pi * x) / (2 * np.pi),
    "step": lambda x: np.maximum(0, x - 0.5),
}
"""The integral from 0 to x of x, of (1 - cos(pi x)) / 2, and of what is 0 and from 1/2 on 1. Each is 1/2 at 1."""


@dataclass(frozen=True)
class Ramp:
    """An order of reading in which the share of new rows changes over the whole stage.

    new: per row, whether it is of the task being taught. start: the share of new rows at the
    beginning, in [0, 1]. passes: how often the stage reads every row. shape: of the way to the end.

    The share at the end follows, 2 * (share of new rows in the set) - start, because every row is
    read as often as any other and every shape is half way at half time: over E passes each kind of
    row is read E times round, each time in another order, and the two are interleaved as evenly
    as the share allows. Raises DataError when there is only one kind, and when the share at the end
    would leave [0, 1].
    """

    new: tuple[bool, ...]
    start: float
    passes: float
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        share = sum(self.new) / len(self.new)
        if share in (0, 1):
            raise DataError(
                f"new_share_start = {self.start:g}",
                f"all {len(self.new):,} rows are {'new' if share else 'old'}",
                "there is nothing to order: leave new_share_start out",
            )
        if not 0 <= self.end <= 1:
            raise DataError(
                f"new_share_start = {self.start:g}: {100 * share:.1f} % of all rows are new",
                f"the share of new rows at the end would be {self.end:.3f}, and must lie in [0, 1]",
                f"set new_share_start between {max(0.0, 2 * share - 1):.3f} and {min(1.0, 2 * share):.3f}",
            )

    @property
    def end(self) -> float:
        """The share of new rows at the end of the stage."""
        return 2 * sum(self.new) / len(self.new) - self.start

    def order(self, epoch: int, seed: int) -> npt.NDArray[np.int64]:
        """int64[rows]: the rows read in pass `epoch`; a row may stand in it twice and another not at
        all, but over the stage all are read equally often."""
        rows = len(self.new)
        # int64[rows + 1]: how many new rows were read before each place of this pass. Where it rises a new one is due.
        taken = np.concatenate([[0], self._new_among_first])[epoch * rows : (epoch + 1) * rows + 1]
        is_new, place = np.diff(taken) > 0, np.arange(epoch * rows, (epoch + 1) * rows)
        out = np.empty(rows, np.int64)
        # `at` counts the rows of one kind over the whole stage; every len(members) of them are one round, in an order
        # of its own.
        for kind, at in ((True, taken[:-1][is_new]), (False, (place - taken[:-1])[~is_new])):
            members = np.flatnonzero(np.array(self.new) == kind)
            rounds, within = np.divmod(at, len(members))
            shuffled = {n: np.random.default_rng([seed, int(n), int(kind)]).permutation(members) for n in set(rounds)}
            out[is_new == kind] = [shuffled[n][i] for n, i in zip(rounds, within, strict=True)]
        return out

    @cached_property
    def _new_among_first(self) -> npt.NDArray[np.int64]:
        """int64: after 1, 2, … rows, how many of them were new; up to the end of the last pass."""
        total = max(1.0, self.passes * len(self.new))
        read = np.arange(1, int(np.ceil(self.passes)) * len(self.new) + 1)
        within = np.minimum(read, total)
        # The integral from 0 to x of the share start + (end - start) shape(x / total).
        ramp = self.start * within + (self.end - self.start) * total * RISEN[self.shape](within / total)
        # A hair above one half, so that equal steps round alike whatever the last bit says.
        return np.floor(ramp + self.end * (read - within) + 0.5 + 1e-9).astype(np.int64)


@dataclass(frozen=True)
class AsTheyStand:
    """The order of a curriculum: every pass reads the rows one after the other."""

    rows: int

    def order(self, epoch: int, seed: int) -> npt.NDArray[np.int64]:
        """int64[rows]: 0, 1, 2, …"""
        return np.arange(self.rows)


class Schedule(Sampler[list[int]]):
    """Row indices of each micro-batch of one process; a batch sampler.

    A pass is a permutation that depends on (seed, epoch) only, so the rows of an optimiser step
    are the same for 4 x 2 (micro-batches x rows) as for 1 x 8, for one process as for several,
    and for a continued run as for an unbroken one. With several processes a global micro-batch
    is dealt by falling length, which balances their work; near the end of a pass one process may
    get fewer rows or none (`[]`), and no row is ever read twice to fill up. A ramp orders the whole
    stage instead of each pass, a curriculum each pass in its own way.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        ramp: Ramp | AsTheyStand | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch, self.seed, self.process, self.processes = batch, seed, process, processes
        self.ramp = ramp
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iteration gives; called by transformers.Trainer."""
        self.epoch = epoch

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """int64[rows]: the rows of one pass in the order of reading."""
        if self.ramp is not None:
            return self.ramp.order(epoch, self.seed)
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths))

    def chunks(self, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
        """Global micro-batches: the rows that all processes read together."""
        order, width = self.order(epoch), self.batch * self.processes
        for start in range(0, len(order), width):
            yield order[start : start + width]

    def __iter__(self) -> Iterator[list[int]]:
        for chunk in self.chunks(self.epoch):
            # Dealt like cards, the longest first. Stable: every process must sort equal lengths alike.
            if self.processes > 1:
                chunk = chunk[np.argsort(-self.lengths[chunk], kind="stable")][self.process :: self.processes]
            yield [int(index) for index in chunk]

    def __len__(self) -> int:
        # The same on every process, since micro-batches are counted over all of them.
        return -(-len(self.lengths) // (self.batch * self.processes))

    def read(self, steps: int, accumulation: int) -> Iterator[int]:
        """Row indices of all processes over the first `steps` optimiser steps, repeats included."""
        # Rounded up: the last step of a pass has the micro-batches that are left, and none goes over into the next
        # pass.
        per_epoch = -(-len(self) // accumulation)
        for epoch in range(-(-steps // per_epoch)):
            left = min(per_epoch, steps - epoch * per_epoch) * accumulation
            for number, chunk in enumerate(self.chunks(epoch)):
                if number < left:
                    yield from (int(index) for index in chunk)


class Loader(DataLoader[Any]):
    """A data loader over rows whose order transformers.Trainer sets by epoch."""

    def __init__(
        self,
        rows: Sequence[tuple[Tokens, ...]],
        schedule: Schedule,
        pin_memory: bool,
        collate: Callable[[Any], Any] | None = None,
    ) -> None:
        # Its own generator: an epoch's start must not draw from the one that dropout uses.
        super().__init__(
            rows,  # type: ignore[arg-type]
            batch_sampler=schedule,
            collate_fn=collate or join,
            pin_memory=pin_memory,
            generator=torch.Generator(),
        )
        self.schedule = schedule

    def set_epoch(self, epoch: int) -> None:
        """Passed on to the schedule."""
        self.schedule.set_epoch(epoch)


def join(rows: Sequence[tuple[Tokens, ...]]) -> dict[str, Any]:
    """One micro-batch without padding: all examples of all rows, one after another.

    input_ids, position_ids: int64[1, T], positions restart at each example. weight:
    float32[1, T], 0 on each example's first token, which nothing predicts. taught: int64[N], the
    places of non-zero weight. rehearsed: bool[1, T], True in examples that are not of the new task.
    lengths: of the examples; names: (origin, id) of each. output: bool[1, T], True on what the model itself writes.
    sounds: what each is the transcript of, where any is. Without rows (a process with no
    share in a short step) one token of weight 0.
    """
    from mnemos.sources.batches import collate

    documents = [tokens for row in rows for tokens in row] or [EMPTY]
    batch = collate([documents], pad_id=0)
    positions, lengths = batch["position_ids"], [len(tokens) for tokens in documents]
    # The last token of the example before does not predict the first of this one.
    weight = batch["weight"].masked_fill(positions == 0, 0.0)
    sounds = tuple(tokens.sound for tokens in documents)
    return {
        **({"sounds": sounds} if any(sounds) else {}),
        "input_ids": batch["input_ids"],
        "position_ids": positions,
        "weight": weight,
        # Found here, on the CPU: looking for them on a GPU would stall it at every micro-batch.
        "taught": weight[0].nonzero()[:, 0],
        "rehearsed": torch.from_numpy(np.repeat([not is_new(tokens.origin) for tokens in documents], lengths))[None],
        "lengths": tuple(lengths),
        "names": tuple((tokens.origin, tokens.example) for tokens in documents),
        "output": torch.from_numpy(np.concatenate([tokens.output for tokens in documents]))[None],
    }


EMPTY = Tokens(np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.bool_), "")
