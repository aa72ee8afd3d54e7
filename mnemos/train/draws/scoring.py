"""What became of drawn answers: log-probabilities of their tokens, and the ledger of rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens
from mnemos.core.outputs import Outputs, log_prob
from mnemos.core.rollouts import Floats, RolloutBatch, Rollouts
from mnemos.train.documents import MicroBatch, Way, micro_batch
from mnemos.train.schedule import join

Run = Callable[[MicroBatch], tuple[Outputs, Any]]
"""The logits of a micro-batch, and None or (float[N], a list): more numbers a target, and where they go."""


def token_logs(
    rows: Sequence[Tokens], size: int, way: Way, device: torch.device, run: Run, temperature: float
) -> list[Floats]:
    """Per row, ln p of each token that carries weight, float64; `size` rows a forward pass."""
    out: list[Floats] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        given = join([(row,) for row in part])
        moved = {name: one.to(device) if torch.is_tensor(one) else one for name, one in given.items()}
        batch = micro_batch(moved, way)
        found, more = run(batch)
        # float32[N], of the distribution that was drawn from.
        logs = found.each(lambda logits, targets: log_prob(logits.float() / temperature, targets), batch.targets)
        out += _by_row(logs, batch, part)
        if more is not None:
            more[1].extend(_by_row(more[0], batch, part))
    return out


def _by_row(values: torch.Tensor, batch: MicroBatch, rows: Sequence[Tokens]) -> list[Floats]:
    """Numbers of targets, in the order of the rows' tokens."""
    # By place in the joined batch, which is row after row, whatever order the passes were in.
    ordered = values[batch.place.argsort()].double().cpu().numpy()
    ends = np.cumsum([np.count_nonzero(row.weight[1:]) for row in rows])
    return np.split(ordered, ends[:-1])


def scaled(row: Tokens, weight: float) -> Tokens:
    """The row with its weights times `weight`."""
    return Tokens(row.ids, row.weight * np.float32(weight), row.output, row.example, row.origin)


def cut(
    scored: Sequence[tuple[Tokens, dict[str, Floats]]], taught: Sequence[Tokens], parts: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    """`parts` micro-batches of nearly equal numbers of rows, drawn answers first.

    Beside `schedule.join`'s: drawn bool[1, T], answer int64[1, T], and for each of `names` a float32[1, T]
    from the columns of the scored rows, 0 on all other tokens.
    """
    every: list[tuple[Tokens, dict[str, Floats] | None]] = [*scored, *((row, None) for row in taught)]
    # Fewer rows than parts leave some parts empty; `join` gives these one token of weight 0.
    borders = np.linspace(0, len(every), parts + 1).round().astype(int)
    return [_joined(every[start:end], names) for start, end in pairwise(borders)]


def _joined(part: Sequence[tuple[Tokens, dict[str, Floats] | None]], names: Sequence[str]) -> dict[str, Any]:
    batch = join([(row,) for row, _ in part])
    lengths = batch["lengths"]
    arrays: dict[str, npt.NDArray[Any]] = {name: np.zeros(sum(lengths), np.float32) for name in names}
    drawn, start = np.zeros(sum(lengths), bool), 0
    for row, columns in part:
        if columns is not None:
            # Columns are as long as the answer, which stands at the end of its row.
            place = slice(start + len(row) - len(columns["advantage"]), start + len(row))
            drawn[place] = True
            for name in names:
                arrays[name][place] = columns[name]
        start += len(row)
    out = {name: torch.from_numpy(values)[None] for name, values in arrays.items()}
    answer = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))[None]
    return {**batch, **out, "drawn": torch.from_numpy(drawn)[None], "answer": answer}


class Ledger:
    """Counts rewards while training, and stops a training that can learn nothing from them.

    counts: answers, groups, and answers without a reward by reason, over the stage. past: mean and number
    of all rewards so far.
    """

    def __init__(self, draw: Rollouts) -> None:
        self.draw = draw
        self.counts: Counter[str] = Counter()
        self.past: tuple[float, int] = (0.0, 0)
        self.seen, self.signal = 0, False

    def add(self, rollouts: RolloutBatch, answers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
        """Count a batch of rollouts; name -> (sum, number) of what the log shows the mean of.

        reward of the answers that have one, and missing_reward, the share of those that have none; flat,
        the share of groups without two different rewards; answer_tokens; finished, the share ended by a
        stop token; kl_to_before, nats per drawn token of ln p(now) - ln p(before), an unbiased estimate of
        KL(now || before) on the new prompts, where the model before was asked. Raises DataError when
        nothing can be learned from rewards like these.
        """
        number = len(answers)
        # Not strict: one of both is empty where nobody asked for it.
        kl = sum(float((now - before).sum()) for now, before in zip(rollouts.now, rollouts.before, strict=False))
        asked = float(rollouts.lengths.sum()) if rollouts.before else 0.0
        out = {
            "kl_to_before": (kl if asked else 0.0, asked),
            "answer_tokens": (float(rollouts.lengths.sum()), number),
            "finished": (float(sum(one["ended"] for one in answers)), number),
        }
        self.counts["answers drawn"] += number
        if self.draw.reward is None:
            return out
        there = rollouts.rewards[~np.isnan(rollouts.rewards)]
        flat, groups = self._flat(rollouts)
        self.seen += number > 0
        self.signal |= flat < groups
        self.counts.update({"groups": groups, "groups without a difference in reward": flat})
        self.counts.update(f"no reward: {one['reason']}" for one in answers if one["reason"] is not None)
        # mean_{n + m} = (n mean_n + sum of m) / (n + m).
        mean, before = self.past
        total = before + len(there)
        self.past = ((mean * before + float(there.sum())) / max(1, total), total)
        self.check(end=False)
        rewards = {"reward": (float(there.sum()), len(there)), "missing_reward": (number - len(there), number)}
        return {**out, **rewards, "flat": (flat, groups)}

    def _flat(self, rollouts: RolloutBatch) -> tuple[int, int]:
        """Groups without two different rewards, and groups; single answers are compared with all."""
        groups = rollouts.groups if self.draw.num_generations > 1 else np.zeros_like(rollouts.groups)
        names = np.unique(groups)
        batches = (rollouts.rewards[groups == name] for name in names)
        return sum(len(np.unique(batch[~np.isnan(batch)])) < 2 for batch in batches), len(names)

    def check(self, *, end: bool) -> None:
        """Raise DataError where too many rewards are missing, or none ever differed."""
        if self.draw.reward is None or not self.counts["answers drawn"]:
            return
        # Not at once: a few bad answers at the start of a training say little.
        late = end or self.seen >= self.draw.patience
        reasons = {name: number for name, number in self.counts.items() if name.startswith("no reward")}
        text = ", ".join(f"{name.removeprefix('no reward: ')}: {number:,}" for name, number in sorted(reasons.items()))
        number = self.counts["answers drawn"]
        share = sum(reasons.values()) / number
        if late and share > self.draw.max_missing:
            raise DataError(
                f"reward {self.draw.reward.describe()}: {share:.1%} of {number:,} answers have none ({text})",
                f"at most {self.draw.max_missing:.1%} may (max_missing)",
                "look at the answers under the reasons, or raise the limit",
            )
        if late and not self.signal:
            raise DataError(
                f"reward {self.draw.reward.describe()}: mean {self.past[0]:g}, without a difference between answers in"
                f" all of {self.seen} batches of rollouts",
                "a constant reward has no gradient (patience)",
                "sample at a higher temperature, take more samples, give easier prompts, or another reward",
            )

    def state(self) -> dict[str, Any]:
        """Everything that a continued training needs, in plain values."""
        return {
            "counts": dict(self.counts),
            "past": self.past,
            "drawings": int(self.seen),
            "signal": bool(self.signal),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.counts, self.past = Counter(kept["counts"]), tuple(kept["past"])
        self.seen, self.signal = kept["drawings"], kept["signal"]
