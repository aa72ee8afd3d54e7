"""Which rows are in progress, in which slots, and what the next pass reads of each."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnemos.models.slots import Piece, Slots

SHARED = 16
"""Tokens that two prompts must share for the second to wait for the first one's keys and values and copy them."""


class Scheduler:
    """Which row is in which slot, and what each has still to read. todo: by row in progress, the tokens that are not
    in its slot yet; the first pass over all of them gives its next token.

    A row begins with a copy of what another row's slot holds of the same tokens (few-shot examples, a system
    prompt, the same prompt again), if that row is there or was there last.
    """

    def __init__(self, rows: Sequence[Sequence[int]], slots: Slots) -> None:
        self.slots = slots
        self.todo: dict[int, list[int]] = {}
        self._rows = [np.asarray(row, dtype=np.int64) for row in rows]
        self._waiting = list(range(len(rows)))
        self._slot: dict[int, int] = {}
        # In the order in which they became free: what was read last stays longest.
        self._free = list(range(slots.rows))
        # Rows in the order of their tokens: the one that shares most with a row is among its neighbours.
        order = sorted(range(len(rows)), key=lambda i: list(rows[i]))
        self._rank = {row: rank for rank, row in enumerate(order)}
        self._order = order
        # Ranks of the rows whose prompts stand in slots, those that have ended included; and the row that came last
        # into each slot; read: tokens of each row there.
        self._held: list[int] = []
        self._read: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def admit(self) -> bool:
        """Fill free slots with rows that wait, in their order; whether any row is in progress."""
        waiting = []
        for place, row in enumerate(self._waiting):
            if not self._free:
                waiting += self._waiting[place:]
                break
            source, ready, coming = self._nearest(row)
            # Soon another row will have read what this one would read now, too.
            if coming - ready >= SHARED:
                waiting.append(row)
            else:
                self._enter(row, source, ready if ready >= SHARED else 0)
        self._waiting = waiting
        if not waiting:
            self._close_up()
        return bool(self.todo)

    def _nearest(self, row: int) -> tuple[int, int, int]:
        """The row to copy from, how many tokens of it, and how many it will have when its prompt is read."""
        source, ready, coming = row, 0, 0
        at = bisect_left(self._held, self._rank[row])
        for rank in self._held[max(0, at - 1) : at + 1]:
            other = self._order[rank]
            # The last token is never copied: its logits are needed.
            shared = min(_shared(self._rows[row], self._rows[other]), len(self._rows[row]) - 1)
            coming = max(coming, shared)
            if min(shared, self._read[other]) > ready:
                source, ready = other, min(shared, self._read[other])
        return source, ready, coming

    def _enter(self, row: int, source: int, count: int) -> None:
        slot = self._free.pop(0)
        self.slots.copy(self._slot[source] if count else slot, slot, count)
        if slot in self._last:
            gone = self._last[slot]
            self._held.remove(self._rank[gone])
            del self._slot[gone], self._read[gone]
        self._last[slot], self._slot[row], self._read[row] = row, slot, count
        insort(self._held, self._rank[row])
        self.todo[row] = self._rows[row][count:].tolist()

    def pieces(self, batch_tokens: int) -> tuple[list[int], list[Piece]]:
        """The rows of the next pass and what each reads: one token each, then longer ones within the budget."""
        single = sorted((row for row, todo in self.todo.items() if len(todo) == 1), key=self._slot.__getitem__)
        rows, sizes, left = list(single), [1] * len(single), batch_tokens - len(single)
        for row, todo in self.todo.items():
            # Two at least: a single token has its place before the longer pieces.
            if len(todo) > 1 and (left > 1 or not rows):
                size = max(2, min(len(todo), left))
                rows, sizes, left = [*rows, row], [*sizes, size], left - size
        pieces = []
        for row, size in zip(rows, sizes, strict=True):
            pieces.append(Piece(self._slot[row], self._read[row], self.todo[row][:size]))
            self.todo[row] = self.todo[row][size:]
            self._read[row] += size
        return rows, pieces

    def leave(self, row: int) -> None:
        """The row has ended; what it read stays in its slot until another row takes it."""
        del self.todo[row]
        self._free.append(self._slot[row])

    def _close_up(self) -> None:
        """Move rows from the highest slots into free ones below: a pass runs over all slots up to the highest."""
        by_slot = sorted(self.todo, key=self._slot.__getitem__)
        while by_slot and self._free and (low := min(self._free)) < self._slot[by_slot[-1]]:
            row = by_slot.pop()
            self.slots.copy(self._slot[row], low, self._read[row])
            self._free[self._free.index(low)] = self._slot[row]
            self._slot[row] = low


def _shared(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    """How many tokens two rows begin with alike."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if len(differs) else size
