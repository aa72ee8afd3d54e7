"""Learning from reward on the model's own answers: REINFORCE, RLOO, GRPO, PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from mnemos.core.method import method
from mnemos.core.outputs import log_prob
from mnemos.core.plan import Plan, StepView, Term
from mnemos.core.rollouts import AdvantageEstimator, Rollouts, RolloutView
from mnemos.methods.draw.credit import Generalised, GroupNormalised, LeaveOneOut, RunningMean
from mnemos.methods.draw.learned import learned_by
from mnemos.rewards.by_name import RewardSettings, make

if TYPE_CHECKING:
    import torch

Tokens = Annotated[int, Field(ge=0, le=1_000_000)]
Temperature = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0)]
Clip = Annotated[float, Field(gt=0, lt=1)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]


def own(view: StepView) -> RolloutView:
    """The drawn answers of a view; a defect of the trainer where there are none."""
    assert view.rollouts is not None
    return view.rollouts


def target_logs(view: StepView) -> torch.Tensor:
    """float[N]: ln p of each target at the temperature of drawing."""
    # At the temperature of drawing, because ratios and divergences are about the distribution that was sampled.
    temperature = own(view).temperature
    if temperature == 1:
        return view.log_probs()
    return view.outputs.each(lambda logits, targets: log_prob(logits.float() / temperature, targets), view.targets)


@dataclass(frozen=True)
class TaughtLikelihood:
    """The weighted negative log-likelihood of rows that are learned as they stand, beside drawn ones."""

    by_token: ClassVar[bool] = True

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; nats per unit of weight, this micro-batch's summand of the step's mean."""
        # At temperature 1, unlike `target_logs`: nobody drew these rows.
        return (-view.log_probs() * view.weight * ~own(view).drawn).sum() / view.normaliser


@dataclass(frozen=True)
class ClippedPolicy:
    """sum_n weight_n * -min(q_n A_n, clip(q_n, 1 - low, 1 + high) A_n) / normaliser over drawn tokens.

    q_n is p(now) / p(when drawn) of the token, or for level "answer" of the whole answer the token
    belongs to. clip: (low, high), or None for q_n A_n.
    """

    clip: tuple[float, float] | None
    level: Literal["token", "answer"]

    @property
    def by_token(self) -> bool:
        """An answer's ratio is a product over all of its tokens."""
        return self.level == "token"

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient."""
        import torch

        drawn = own(view)
        logs = target_logs(view)
        # Of no consequence to the value, 0 everywhere else keeps exp() of rehearsed rows at 1.
        change = (logs - (logs.detach() if drawn.old is None else drawn.old)) * drawn.drawn
        # ln of an answer's ratio is the sum over its tokens, which all of them then carry.
        if self.level == "answer":
            change = change.new_zeros(drawn.answers).index_add(0, drawn.answer, change)[drawn.answer]
        # float[N]. Where the answers are as new as the weights it is 1, and its gradient that of ln p: q A is then the
        # loss of REINFORCE.
        ratio = change.exp()
        each = ratio * drawn.advantage
        if self.clip is not None:
            # L^CLIP of arXiv:1707.06347, eq. 7. The minimum stops the push once the ratio has gone far enough in the
            # direction that the advantage wants, and never the way back.
            each = torch.minimum(each, ratio.clamp(1 - self.clip[0], 1 + self.clip[1]) * drawn.advantage)
        return -(each * view.weight * drawn.drawn).sum() / view.normaliser


@dataclass(frozen=True)
class SampledKL:
    """coefficient * sum_n weight_n * q_n (e^d_n - d_n - 1) / normaliser over drawn tokens, where d_n is
    ln p(before) - ln p(now) and q_n is p(now) / p(when drawn): the k3 estimate of KL(after || before) in
    nats, whose gradient is unbiased only with q_n (arXiv:2512.02556)."""

    by_token: ClassVar[bool] = True

    holds: ClassVar[tuple[str, ...]] = ("before",)

    coefficient: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient."""
        drawn = own(view)
        assert drawn.before is not None
        logs = target_logs(view)
        # The logarithm of q, and 0 with d outside drawn tokens, where e^0 - 0 - 1 leaves nothing to be masked below.
        ratio = (logs - (logs.detach() if drawn.old is None else drawn.old)) * drawn.drawn
        d = (drawn.before - logs) * drawn.drawn
        # e^d - d - 1 is never negative, unlike -d alone, and has the same mean (arXiv:2402.03300, eq. 4).
        return self.coefficient * (ratio.exp() * (d.exp() - d - 1) * view.weight).sum() / view.normaliser


@dataclass(frozen=True)
class ValueLoss:
    """coefficient * sum_n weight_n * max((v_n - R_n)^2, (v'_n - R_n)^2) / 2 / normaliser, where v'_n is
    the value kept within `clip` of what it was when the answer was drawn."""

    coefficient: float
    clip: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the value head, and through it for the trunk."""
        import torch

        drawn = own(view)
        assert drawn.values is not None
        assert drawn.returns is not None
        value = drawn.value()
        kept = value.clamp(drawn.values - self.clip, drawn.values + self.clip)
        # The clipped branch has no gradient. It is the larger where the value has already moved by more than `clip`
        # towards the return, so that it stops there; away from it the other branch is, and pulls back.
        each = torch.maximum((value - drawn.returns).square(), (kept - drawn.returns).square()) / 2
        return self.coefficient * (each * view.weight * drawn.drawn).sum() / view.normaliser


def on_rollouts(plan: Plan, name: str, draw: Rollouts, *terms: Term) -> Plan:
    """The plan with `draw`, and `terms` in the place of the likelihood, which stays for rehearsed rows.

    Raises UsageError where another method has said who writes answers or how they are learned.
    """
    return learned_by(plan, name, draw, *terms, TaughtLikelihood())


class RolloutSettings(BaseModel):
    """What every method shares that learns from the rewards of the model's own answers.

    reward: what answers are worth; `verifier:` with the column `reference:` (the gold answer unless
    given), or another of the rewards in docs/reward.md.
    max_new_tokens: longest answer in tokens; 0 turns the method off.
    temperature: of sampling; probabilities in the loss are those at this temperature.
    patience: batches of rollouts without any difference in reward, from the start, after which training stops.
    max_missing: largest share of answers without a reward; above it training stops.
    """

    reward: RewardSettings
    max_new_tokens: Tokens = 256
    temperature: Temperature = 1.0
    patience: Steps = 20
    max_missing: Share = 0.5

    def rewarded(self, plan: Plan, credit: AdvantageEstimator, **given: Any) -> Rollouts:
        """The draw with these settings; given: what the method adds."""
        return Rollouts(
            self.max_new_tokens,
            self.temperature,
            reward=make(self.reward, plan.before),
            credit=credit,
            patience=self.patience,
            max_missing=self.max_missing,
            **given,
        )


EXAMPLE = {"reward": {"verifier": "exact"}}


@method(paper="arXiv:2402.14740", changes={"draw", "objective"}, off={"max_new_tokens": 0}, example=EXAMPLE)
def reinforce(
    plan: Plan,
    rollouts: RolloutSettings,
    *,
    num_generations: Annotated[int, Field(ge=1, le=1024)] = 1,
    beta: Beta = 0.05,
    baseline: Literal["running", "none"] = "running",
) -> Plan:
    """Make the model's own answers likelier by as much as their reward exceeds the mean so far (REINFORCE).

    num_generations: answers drawn for each prompt and step. The batch (per device, times accumulation, times
    processes) counts answers and must be divisible by it.
    beta: reward taken off for each nat of ln p(now) - ln p(before), summed over the answer; 0 asks
    the model before only for the log.
    baseline: running subtracts the mean reward of all earlier batches of rollouts, none nothing.

    Rows that another method rehearses are learned by likelihood beside the drawn answers, each in the
    place of one prompt.

    Trap: drawing takes most of the time of a step. Trap: the baseline does not know how hard a prompt
    is; `rloo` does.

    Deviations from the paper: 1. the baseline holds whole batches before the present one, so that it
    does not depend on the answer that it is subtracted from. 2. an answer without a reward has
    advantage 0.

    Raises UsageError where another method has said who writes answers or taken the likelihood's place,
    and when training begins with a method that weighs tokens of the data.
    """
    if rollouts.max_new_tokens == 0:
        return plan
    draw = rollouts.rewarded(
        plan,
        RunningMean(beta, baseline),
        num_generations=num_generations,
        per="answer",
    )
    return on_rollouts(plan, "reinforce", draw, ClippedPolicy(None, "answer"))


@method(paper="arXiv:2402.14740", changes={"draw", "objective"}, off={"max_new_tokens": 0}, example=EXAMPLE)
def rloo(
    plan: Plan,
    rollouts: RolloutSettings,
    *,
    num_generations: Annotated[int, Field(ge=2, le=1024)] = 4,
    beta: Beta = 0.05,
    num_iterations: Steps = 1,
    epsilon: Clip = 0.2,
) -> Plan:
    """Compare each of the model's own answers with the others to the same prompt (REINFORCE leave-one-out).

    num_generations: answers drawn for each prompt. The batch (per device, times accumulation, times processes)
    counts answers and must be divisible by it.
    beta: reward taken off for each nat of ln p(now) - ln p(before), summed over the answer; 0 asks
    the model before only for the log.
    num_iterations: optimiser steps that learn from one batch of rollouts.
    epsilon: with several steps, how far the ratio p(now) / p(when drawn) of a whole answer may leave 1
    before it is no longer pushed.

    The advantage of answer i is r_i - mean of the r_j of its siblings; every answer counts alike. Losses
    and advantages are those of TRL's RLOOTrainer. Rows that another method rehearses are learned by
    likelihood beside the drawn answers, each in the place of one prompt.

    Trap: siblings that all have the same reward teach nothing; their share is in the training's log.

    Deviations from the paper: 1. with several steps per batch the ratio of the answer is clipped, as
    in TRL. 2. an answer without a reward has advantage 0 and is nobody's baseline.

    Raises UsageError as `reinforce` does.
    """
    if rollouts.max_new_tokens == 0:
        return plan
    draw = rollouts.rewarded(
        plan,
        LeaveOneOut(beta),
        num_generations=num_generations,
        num_iterations=num_iterations,
        per="answer",
    )
    return on_rollouts(plan, "rloo", draw, ClippedPolicy((epsilon, epsilon), "answer"))


@method(paper="arXiv:2402.03300", changes={"draw", "objective"}, off={"max_new_tokens": 0}, example=EXAMPLE)
def grpo(
    plan: Plan,
    rollouts: RolloutSettings,
    *,
    num_generations: Annotated[int, Field(ge=2, le=1024)] = 8,
    beta: Beta = 0.0,
    num_iterations: Steps = 1,
    epsilon: Clip = 0.2,
    epsilon_high: Annotated[float, Field(gt=0)] | None = None,
    scale: Literal["group", "batch", "none"] = "group",
    loss: Literal["dapo", "grpo"] = "dapo",
) -> Plan:
    """Reward answers by how far they stand out among the model's answers to the same prompt (GRPO).

    num_generations: answers drawn for each prompt. The batch (per device, times accumulation, times processes)
    counts answers and must be divisible by it.
    beta: loss per nat of KL(after || before) of a drawn token, by the k3 estimate; 0 asks the model
    before only for the log.
    num_iterations: optimiser steps that learn from one batch of rollouts.
    epsilon: how far below 1 the ratio p(now) / p(when drawn) of a token may fall before it is no longer
    pushed down.
    epsilon_high: the same above 1; that of epsilon unless given.
    scale: the standard deviation that advantages are divided by: that of the group, of the whole batch,
    or none (arXiv:2503.20783, which finds that dividing favours prompts that are nearly solved or
    nearly hopeless).
    loss: dapo lets every drawn token of a step count alike (arXiv:2503.14476), grpo every answer, as in
    the paper.

    The advantage of an answer is (r - mean) / (standard deviation + 1e-4) over its group. Losses and
    advantages are those of TRL's GRPOTrainer. Rows that another method rehearses are learned by
    likelihood beside the drawn answers, each in the place of one prompt.

    Trap: a group whose answers all have the same reward teaches nothing; the share of such groups is in
    the training's log. Trap: with one step per batch nothing is ever clipped.

    Deviations from the paper: 1. beta is 0 and loss is dapo unless set, as in TRL; the paper has 0.04
    and grpo. 2. the KL estimate is weighted by the ratio, as in TRL, since its gradient is biased without.
    3. an answer without a reward has advantage 0 and is left out of its group's mean.

    Raises UsageError as `reinforce` does.
    """
    if rollouts.max_new_tokens == 0:
        return plan
    draw = rollouts.rewarded(
        plan,
        GroupNormalised(scale),
        num_generations=num_generations,
        num_iterations=num_iterations,
        per="token" if loss == "dapo" else "answer",
        keeps_before=beta > 0,
    )
    terms: tuple[Term, ...] = (ClippedPolicy((epsilon, epsilon if epsilon_high is None else epsilon_high), "token"),)
    return on_rollouts(plan, "grpo", draw, *terms, *((SampledKL(beta),) if beta else ()))


@method(paper="arXiv:2203.02155", changes={"draw", "objective"}, off={"max_new_tokens": 0}, example=EXAMPLE)
def ppo(
    plan: Plan,
    rollouts: RolloutSettings,
    *,
    num_generations: Annotated[int, Field(ge=1, le=1024)] = 1,
    beta: Beta = 0.02,
    num_iterations: Steps = 4,
    epsilon: Clip = 0.2,
    value_coefficient: Annotated[float, Field(ge=0)] = 0.1,
    value_clip: Annotated[float, Field(gt=0)] = 0.2,
    gamma: Share = 1.0,
    gae_lambda: Share = 0.95,
    whiten: bool = True,
) -> Plan:
    """Reward each token by how much better things went than a learned value head expected (PPO).

    num_generations: answers drawn for each prompt. The batch (per device, times accumulation, times processes)
    counts answers and must be divisible by it.
    beta: reward taken off at each token for each nat of ln p(now) - ln p(before) of it.
    num_iterations: optimiser steps that learn from one batch of rollouts.
    epsilon: how far the ratio p(now) / p(when drawn) of a token may leave 1 before it is no longer pushed.
    value_coefficient: loss per half squared unit of error of the value head.
    value_clip: how far a value may move from what it was when drawn before it is no longer pulled.
    gamma: discount of later rewards in generalised advantage estimation, per token.
    gae_lambda: lambda of generalised advantage estimation: 1 takes whole answers, 0 one token and the value.
    whiten: bring advantages to mean 0 and variance 1 over the batch of rollouts.

    The value head is one linear layer, zero at the start, on the states that the output layer reads; it
    is not part of the trained model. Rows that another method rehearses are learned by likelihood beside
    the drawn answers (the paper's pre-training mix), each in the place of one prompt.

    Trap: the value loss also moves the trunk that it reads. Trap: until the head has learned, advantages
    are rewards minus zero, whitened.

    Deviations from the paper: 1. the value head shares the policy's trunk; the paper has a model of its
    own, started from the reward model. 2. a step learns from the whole batch, not from parts of it.
    3. an answer without a reward has advantage 0.

    Raises UsageError as `reinforce` does.
    """
    if rollouts.max_new_tokens == 0:
        return plan
    draw = rollouts.rewarded(
        plan,
        Generalised(beta, gamma, gae_lambda, whiten),
        num_generations=num_generations,
        num_iterations=num_iterations,
    )
    terms = (ClippedPolicy((epsilon, epsilon), "token"), ValueLoss(value_coefficient, value_clip))
    return on_rollouts(plan, "ppo", draw, *terms)
