"""Power sampling: answers from p(x)^alpha, the model's own distribution over whole answers made sharper (2510.14901).

Low temperature sharpens every next token by itself; p^alpha sharpens whole answers, so that a token counts by the best
way to go on behind it. Answers are extended block by block. After each block some Metropolis-Hastings steps draw a
place in what is written, write everything behind it anew at temperature 1 / alpha, and accept the new answer with the
probability that makes p^alpha stationary (`log_ratio`).

Deviations from the paper's code: 1. both suffixes are summed whole, the stop token included, where the code compares as
many tokens as the shorter one has. 2. places are drawn among those of the answer as it stands, whose number differs
where an answer ends early, so that the ratio of the two numbers belongs into the acceptance.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import UsageError
from mnemos.core.nouns import PowerDecoding
from mnemos.core.progress import Count, counting
from mnemos.models.decode import Decoded, Job, ways_of
from mnemos.models.forward import context_length, kept


@dataclass(frozen=True)
class State:
    """An answer so far. ids: its tokens, the stop token among them, which is last where `over`. p, q: ln p of each in
    the model and in the proposal, in nats."""

    ids: tuple[int, ...] = ()
    p: tuple[float, ...] = ()
    q: tuple[float, ...] = ()
    over: bool = False

    def before(self, place: int) -> State:
        """What stands before a place."""
        return State(self.ids[:place], self.p[:place], self.q[:place])

    def then(self, more: State) -> State:
        """What was written behind it."""
        return State(self.ids + more.ids, self.p + more.p, self.q + more.q, more.over)


Numbers = np.ndarray[Any, Any]
Continue = Callable[[Sequence[int], Sequence[Sequence[int]], Sequence[int], Sequence[Numbers]], list[State]]
"""(which rows, what each has written, how many tokens each may still write, a uniform number for each of these) ->
what each writes by the proposal."""


def log_ratio(current: State, new: State, place: int, alpha: float) -> float:
    """ln of the Metropolis-Hastings ratio of replacing what stands from `place` on.

    alpha [ln p(new) - ln p(current)] + ln q(current) - ln q(new) over whole suffixes, and ln of the numbers of places
    that could have been drawn, since each is drawn with probability 1 / length.
    """
    gain = alpha * (math.fsum(new.p[place:]) - math.fsum(current.p[place:]))
    back = math.fsum(current.q[place:]) - math.fsum(new.q[place:])
    return gain + back + math.log(len(current.ids)) - math.log(len(new.ids))


def chains(
    rows: Sequence[Sequence[int]], room: Sequence[int], decoding: PowerDecoding, go_on: Continue
) -> tuple[list[State], list[int]]:
    """An answer a row, from p^alpha over answers of at most `room` tokens; and how many tokens were written for each,
    stop tokens and those of proposals included."""
    rngs = _generators(rows, decoding)
    states = [State() for _ in rows]
    spent = [0] * len(rows)
    blocks = range(decoding.block, max(room, default=0) + decoding.block, decoding.block)
    with counting(len(blocks) * (1 + decoding.steps), "steps") as count:
        for number, end in enumerate(blocks):
            longest = [min(end, own) for own in room]
            open_ = [i for i, state in enumerate(states) if not state.over and len(state.ids) < longest[i]]
            _extend(open_, states, states, longest, rngs, spent, go_on)
            for step in range(decoding.steps):
                # Also of answers that are over: within the block's length another end may be likelier.
                moved = [i for i in range(len(rows)) if states[i].ids and room[i] > end - decoding.block]
                places = {i: int(rngs[i].integers(len(states[i].ids))) for i in moved}
                new = [states[i].before(places[i]) if i in places else states[i] for i in range(len(rows))]
                _extend(moved, new, new, longest, rngs, spent, go_on)
                for i in moved:
                    ratio = log_ratio(states[i], new[i], places[i], decoding.power)
                    if math.log(1 - rngs[i].random()) < ratio:
                        states[i] = new[i]
                count.to(number * (1 + decoding.steps) + step + 2)
    return states, spent


def _extend(
    places: Sequence[int],
    begun: Sequence[State],
    into: list[State],
    longest: Sequence[int],
    rngs: Sequence[np.random.Generator],
    spent: list[int],
    go_on: Continue,
) -> None:
    """Write on behind `begun` up to the longest, into `into`, and add to `spent` how many tokens that took."""
    if not places:
        return
    left = [longest[i] - len(begun[i].ids) for i in places]
    uniform = [rngs[i].random(size) for i, size in zip(places, left, strict=True)]
    found = go_on(places, [begun[i].ids for i in places], left, uniform)
    for i, more in zip(places, found, strict=True):
        into[i] = begun[i].then(more)
        spent[i] += len(more.ids)


def _generators(rows: Sequence[Sequence[int]], decoding: PowerDecoding) -> list[np.random.Generator]:
    """One a row, by the seed, the row's ids and how often it came before: other rows change nothing."""
    seen: Counter[bytes] = Counter()
    out = []
    for row in rows:
        digest = hashlib.sha256(np.asarray(row, dtype=np.int64).tobytes()).digest()
        out.append(np.random.default_rng([decoding.seed, seen[digest], int.from_bytes(digest[:8], "big"), 1]))
        seen[digest] += 1
    return out


# with a model ---------------------------------------------------------------------------------------


def write(
    model: Any, rows: Sequence[Sequence[int]], stop: frozenset[int], decoding: PowerDecoding, batch_tokens: int
) -> list[tuple[Decoded, int]]:
    """Continue each row of token ids by an answer from p^power, with the number of tokens that were written for it and
    do not stand in it; see `decode.write` for rows and room.

    Raises UsageError for settings under which p^power is not what is sampled: a proposal that leaves tokens out
    (top_k, top_p), and stop texts, at which answers would be cut after they were drawn.
    """
    _check(decoding)
    limit = context_length(model)
    room = [max(0, min(decoding.max_new_tokens, limit - len(row))) if row else 0 for row in rows]

    def ask() -> list[Any]:
        with counting(len(rows)) as count:

            def go_on(places: Any, begun: Any, left: Any, uniform: Any) -> list[State]:
                own = [[*rows[i], *ids] for i, ids in zip(places, begun, strict=True)]
                return _continued(model, own, left, stop, decoding, uniform, batch_tokens, count)

            states, spent = chains(rows, room, decoding, go_on)
        return [[list(s.ids), s.over, own - len(s.ids)] for s, own in zip(states, spent, strict=True)]

    how = [decoding.max_new_tokens, decoding.temperature, decoding.seed]
    how += [decoding.power, decoding.block, decoding.steps]
    # Named otherwise than before the tokens of each answer were counted, when what was kept held no counts.
    asked = ["power, counted", [list(row) for row in rows], room, sorted(stop), how]
    with counting(len(rows)) as count:
        found = kept(asked, ask, count)
        count.to(len(rows))
    return [((ids[:-1], ids[-1]) if over else (ids, None), more) for ids, over, more in found]


def _check(decoding: PowerDecoding) -> None:
    if decoding.top_k or decoding.top_p != 1 or decoding.stop:
        raise UsageError(
            f"power sampling with top_k {decoding.top_k}, top_p {decoding.top_p:g}, stop {list(decoding.stop)}",
            "samples whole answers from every token",
            "leave top_k, top_p and stop out",
        )
    if not decoding.temperature > 0 or not decoding.power > 0 or decoding.block < 1 or decoding.steps < 0:
        raise UsageError(
            f"power {decoding.power:g}, temperature {decoding.temperature:g}, block {decoding.block}, steps "
            f"{decoding.steps}",
            "power, temperature and block must be above 0, steps at least 0",
            "temperature is the proposal's: 1 / power",
        )


class _Scored(Job):
    """A job that keeps ln p of each token that it writes, in the model and in the proposal."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.p: list[list[float]] = [[] for _ in self.rows]
        self.q: list[list[float]] = [[] for _ in self.rows]

    def next_tokens(self, logits: torch.Tensor, live: Sequence[int]) -> list[int]:
        """See `Job.next_tokens`."""
        tokens = super().next_tokens(logits, live)
        wide, at = logits.double(), torch.tensor(tokens, device=logits.device)[:, None]
        # float[B]: the model's own probabilities, and those at the proposal's temperature, which `pick` draws from.
        for kept_by, scaled in ((self.p, wide), (self.q, wide / self.decoding.temperature)):
            values = (scaled.gather(-1, at)[:, 0] - scaled.logsumexp(dim=-1)).tolist()
            for row, value in zip(live, values, strict=True):
                kept_by[row].append(value)
        return tokens


def _continued(
    model: Any,
    rows: Sequence[Sequence[int]],
    room: Sequence[int],
    stop: frozenset[int],
    decoding: PowerDecoding,
    uniform: Sequence[Numbers],
    batch_tokens: int,
    count: Count,
) -> list[State]:
    out = [State()] * len(rows)
    lengths = [len(row) + own for row, own in zip(rows, room, strict=True)]
    for way, members in ways_of(model, range(len(rows)), lengths, batch_tokens):
        parts = [[side[i] for i in members] for side in (rows, room, uniform)]
        job = _Scored(parts[0], parts[1], stop, decoding, parts[2], count)
        for i, (ids, end), p, q in zip(members, job.run(model, way, batch_tokens), job.p, job.q, strict=True):
            whole = ids if end is None else [*ids, end]
            out[i] = State(tuple(whole), tuple(p), tuple(q), end is not None)
    return out
