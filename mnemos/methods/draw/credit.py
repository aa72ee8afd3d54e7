"""From rewards to advantages: how much better than expected an answer, or a token of it, was.

Values of `core.rollouts.Rollouts.credit`; numpy only, over all answers of a batch of rollouts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.rollouts import Advantages, Floats, RolloutBatch

EPSILON = 1e-4
"""Added to a standard deviation before dividing by it, as in TRL."""


def _spread(values: Floats, lengths: npt.NDArray[np.int64]) -> list[Floats]:
    """One number an answer, put on each of its tokens; missing ones become 0."""
    return [np.full(length, value) for value, length in zip(np.nan_to_num(values), lengths, strict=True)]


def _paid(batch: RolloutBatch, beta: float) -> Floats:
    """Rewards minus beta times the sequence's summed ln p(now) - ln p(before) (the k1 estimate)."""
    if beta == 0:
        return batch.rewards
    # The sum over an answer drawn from `now` is an unbiased estimate of KL(now || before) in nats. It is taken off
    # once an answer, because the whole answer is the one action here (arXiv:2402.14740).
    kl = [float((now - before).sum()) for now, before in zip(batch.now, batch.before, strict=True)]
    return batch.rewards - beta * np.array(kl)


def _asks(beta: float) -> frozenset[str]:
    return frozenset({"before"} if beta else ())


@dataclass(frozen=True)
class GroupNormalised:
    """(r - mean) / (s + 1e-4) over the answers to one prompt whose reward is there; s is the sample
    standard deviation of the group, of the whole batch ("batch"), or 1 without the constant ("none")."""

    scale: Literal["group", "batch", "none"]

    @property
    def asks(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def __call__(self, batch: RolloutBatch) -> Advantages:
        """See the class; an answer alone in its group gets 0."""
        out = np.zeros(len(batch.rewards))
        # Without missing rewards: one NaN in the deviation would make every advantage NaN.
        everyone = _deviation(batch.rewards[~np.isnan(batch.rewards)])
        for members in _groups(batch):
            rewards = batch.rewards[members]
            # A_i = (r_i - mean(r)) / (std(r) + epsilon) within the group (arXiv:2402.03300, section 4.1.2). The mean
            # is the group's at every scale; without a divisor it is the estimator of arXiv:2503.20783.
            divisor = {"group": _deviation(rewards) + EPSILON, "batch": everyone + EPSILON, "none": 1.0}[self.scale]
            out[members] = (rewards - rewards.mean()) / divisor
        return Advantages(_spread(out, batch.lengths))


def _deviation(values: Floats) -> float:
    # numpy divides by n unless told otherwise; torch, and with it TRL, divides by n - 1.
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _groups(batch: RolloutBatch) -> list[npt.NDArray[np.int64]]:
    """Places of the answers to each prompt, without those whose reward is missing."""
    there = ~np.isnan(batch.rewards)
    return [np.flatnonzero((batch.groups == group) & there) for group in np.unique(batch.groups[there])]


@dataclass(frozen=True)
class LeaveOneOut:
    """r_i minus the mean of the other answers to the same prompt, where r_i has lost beta times the
    sequence's KL estimate."""

    beta: float

    @property
    def asks(self) -> frozenset[str]:
        """The model before's log-probabilities, with beta > 0."""
        return _asks(self.beta)

    def __call__(self, batch: RolloutBatch) -> Advantages:
        """See the class; an answer alone in its group gets 0."""
        paid, out = _paid(batch, self.beta), np.zeros(len(batch.rewards))
        for members in _groups(batch):
            if len(members) > 1:
                # A_i = r_i - mean_{j != i} r_j (arXiv:2402.14740). The baseline knows nothing of answer i, so that it
                # lowers the variance of the gradient and leaves its mean.
                group = paid[members]
                out[members] = group - (group.sum() - group) / (len(members) - 1)
        return Advantages(_spread(out, batch.lengths))


@dataclass(frozen=True)
class RunningMean:
    """r_i minus the mean of all rewards of earlier batches ("running"), or r_i itself ("none"), where
    r_i has lost beta times the sequence's KL estimate. The first batch's own mean stands in for
    earlier ones."""

    beta: float
    baseline: Literal["running", "none"]

    @property
    def asks(self) -> frozenset[str]:
        """The model before's log-probabilities, with beta > 0."""
        return _asks(self.beta)

    def __call__(self, batch: RolloutBatch) -> Advantages:
        """See the class."""
        # The past holds rewards as they were given, without the KL that `_paid` takes off.
        mean, number = batch.past
        there = batch.rewards[~np.isnan(batch.rewards)]
        if number == 0:
            mean = float(there.mean()) if len(there) else 0.0
        expected = mean if self.baseline == "running" else 0.0
        return Advantages(_spread(_paid(batch, self.beta) - expected, batch.lengths))


@dataclass(frozen=True)
class Generalised:
    """Generalised advantage estimates with discount gamma and trace lam, whitened over the drawing.

    The reward of token t is -beta * (ln p(now) - ln p(before)); the last token also gets the answer's
    reward. returns are advantages before whitening plus values.
    """

    beta: float
    gamma: float
    lam: float
    whiten: bool

    @property
    def asks(self) -> frozenset[str]:
        """The value head, and the model before's log-probabilities."""
        return frozenset({"values"}) | _asks(self.beta)

    def __call__(self, batch: RolloutBatch) -> Advantages:
        """See the class; an answer whose reward is missing gets 0 and keeps its values as returns."""
        there = ~np.isnan(batch.rewards)
        # float64[L_i] an answer, in the reward's unit. The value head learns from these, not from whitened ones: its
        # target must not be moved and stretched by whatever else was drawn beside it.
        raw = [self._answer(batch, i) if there[i] else np.zeros(n) for i, n in enumerate(batch.lengths)]
        returns = [advantage + values for advantage, values in zip(raw, batch.values, strict=True)]
        return Advantages(self._whitened(raw, there) if self.whiten else raw, returns)

    def _answer(self, batch: RolloutBatch, i: int) -> Floats:
        values, length = batch.values[i], int(batch.lengths[i])
        # float64[L]: what each token costs, in units of the reward.
        rewards = -self.beta * (batch.now[i] - batch.before[i]) if self.beta else np.zeros(length)
        # delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lambda A_{t+1} (arXiv:1707.06347, eq. 11 and
        # 12, here as a recursion from the end). V behind the last token is 0: nothing follows an answer.
        out, trace = np.zeros(length), 0.0
        for t in reversed(range(length)):
            last = t == length - 1
            gained = rewards[t] + (batch.rewards[i] if last else self.gamma * values[t + 1])
            trace = gained - values[t] + (0.0 if last else self.gamma * self.lam * trace)
            out[t] = trace
        return out

    def _whitened(self, raw: Sequence[Floats], there: npt.NDArray[np.bool_]) -> list[Floats]:
        # Answers without a reward stand at 0 before and behind: they would pull the mean and then leave 0 with it.
        known = np.concatenate([np.zeros(0), *(one for one, is_there in zip(raw, there, strict=True) if is_there)])
        if len(known) < 2:
            return [np.zeros(len(one)) for one in raw]
        # The constant keeps answers that are all alike at 0 instead of 0 / 0.
        mean, deviation = known.mean(), np.sqrt(known.var(ddof=1) + 1e-8)
        whitened = [(one - mean) / deviation for one in raw]
        return [one if is_there else np.zeros(len(one)) for one, is_there in zip(whitened, there, strict=True)]
