"""What is minimised beside the likelihood of the new data, or in its place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.outputs import log_prob
from mnemos.core.plan import Likelihood, ModelHandle, Plan, Stage, StepView
from mnemos.core.settings import ModelRef

if TYPE_CHECKING:
    import torch

Direction = Literal["forward", "reverse"]
Rows = Literal["all", "new", "rehearsed"]
"""Which rows' tokens a term looks at: those of the new task, those rehearsed beside them, or all."""

Coefficient = Annotated[float, Field(ge=0)]


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """float[N]: KL(p || q) in nats between rows of log-probabilities, float[N, V]."""
    mass = p.exp()
    # A token that p rules out (logit -inf) adds 0, not 0 * nan, to the loss and to its gradient.
    return (mass * (p - q).masked_fill(mass == 0, 0.0)).sum(-1)


def _chosen(view: StepView, on: Rows) -> torch.Tensor:
    """float[N]: |weight| of the tokens looked at, 0 elsewhere. |weight| as in the normaliser: under a
    negative advantage a penalty stays a penalty."""
    if on == "all":
        return view.weight.abs()
    return view.weight.abs() * (view.rehearsed if on == "rehearsed" else ~view.rehearsed)


def _must_rehearse(stage: Stage, method: str, on: Rows) -> None:
    """Refuse a term on rehearsed rows where none are, which would be plain training in disguise."""
    from mnemos.sources.mix import is_new

    origins = [name.removeprefix("origin ") for name in stage.counts if name.startswith("origin ")]
    # The first task has nothing to rehearse yet, and the same arm must be able to begin with it.
    first = stage.plan.sequence and not stage.plan.past
    if on == "rehearsed" and not first and all(is_new(origin) for origin in origins):
        raise UsageError(
            f"{method}.on = rehearsed", "no row of this stage is rehearsed", "add replay, or another rehearsing method"
        )


@dataclass(frozen=True)
class KLToBefore:
    """coefficient * sum_n |weight_n| * KL_n / normaliser, in nats, over the full vocabulary.

    KL_n is KL(before || after) at position n for "forward", KL(after || before) for "reverse"; the
    sum runs over the rows named by `on`, the normaliser over all.
    """

    by_token: ClassVar[bool] = True
    holds: ClassVar[tuple[str, ...]] = ("before",)

    coefficient: float
    direction: Direction
    on: Rows = "all"
    old: None = dataclasses.field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> KLToBefore:
        """Itself, where there are rows to look at."""
        _must_rehearse(stage, "kl_to_before", self.on)
        return self

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only."""
        # float32[N, V] both. The model before is a constant: it has no gradient in either direction of the divergence.
        after = view.logits.float().log_softmax(-1)
        before = view.references.before_logits().detach().float().log_softmax(-1)
        each = divergence(before, after) if self.direction == "forward" else divergence(after, before)
        return self.coefficient * (each * _chosen(view, self.on)).sum() / view.normaliser


@dataclass(frozen=True)
class Distilled:
    """coefficient * T^2 * sum_n |weight_n| * KL(before_n^(1/T) || after_n^(1/T)) / normaliser, where
    p^(1/T) is p raised to 1/T and normalised anew."""

    by_token: ClassVar[bool] = True
    holds: ClassVar[tuple[str, ...]] = ("before",)

    coefficient: float
    temperature: float
    on: Rows
    old: None = dataclasses.field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> Distilled:
        """Itself, where there are rows to look at."""
        _must_rehearse(stage, "distill", self.on)
        return self

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only; nats times T^2."""
        after = (view.logits.float() / self.temperature).log_softmax(-1)
        before = (view.references.before_logits().detach().float() / self.temperature).log_softmax(-1)
        # The gradient of this divergence falls with 1 / T^2; the factor below makes up for it (arXiv:1503.02531).
        total = (divergence(before, after) * _chosen(view, self.on)).sum()
        return self.coefficient * self.temperature**2 * total / view.normaliser


@dataclass(frozen=True)
class L2ToBefore:
    """coefficient / 2 * sum_i (theta_i - theta_i at the start)^2 over the trainable parameters."""

    holds: ClassVar[tuple[str, ...]] = ("start",)

    coefficient: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar, times the micro-batch's share of the step; summed in float32."""
        import torch

        start = view.references.start()
        moving = [(name, value) for name, value in view.model.named_parameters() if value.requires_grad]
        # One sum a tensor, so that no vector of all parameters is laid out. The term knows nothing of the data: each
        # micro-batch adds its share, and the step the whole.
        squares = [(value.float() - start[name].float()).square().sum() for name, value in moving]
        return self.coefficient / 2 * view.share * torch.stack(squares).sum()


@dataclass(frozen=True)
class SelectiveLikelihood:
    """The negative log-likelihood of those tokens only whose loss exceeds the reference's most.

    Of a micro-batch's n supervised tokens the round(kept_share * n) with the largest excess are
    kept, at least one; their mean stands for all n.
    """

    reference: ModelHandle
    kept_share: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; nats per unit of weight, this micro-batch's summand of the step's mean."""
        import torch

        nll = -view.log_probs()
        # A process without a share in a short step still needs something to go backwards from, beside the others.
        if not len(nll):
            return nll.sum()
        with torch.no_grad():
            # Excess loss: that of the model in training minus that of the reference (arXiv:2404.07965). Stable, so
            # that equal ones are always chosen alike.
            theirs = -view.references.other(self.reference).each(log_prob, view.targets)
            order = (nll - theirs).argsort(descending=True, stable=True)
        kept = order[: max(1, round(self.kept_share * len(nll)))]
        weight = view.weight[kept]
        # The mean of the kept tokens is given the weight of all; else a smaller share would be a smaller loss and step.
        mean = (nll[kept] * weight).sum() / weight.abs().sum()
        return mean * view.weight.abs().sum() / view.normaliser


@method(paper="arXiv:1606.09282", changes={"objective"}, off={"coefficient": 0.0})
def kl_to_before(
    plan: Plan, *, coefficient: Coefficient = 0.1, direction: Direction = "forward", on: Rows = "all"
) -> Plan:
    """Pay for every nat by which next-token distributions leave those of the model before.

    coefficient: nats of loss per nat of divergence (per supervised token, beside the likelihood).
    direction: forward is KL(before || after), an expectation under the model before: it must keep
    covering what the model before could say. reverse is KL(after || before), an expectation under
    the model in training: it must not say what the model before would not.
    on: whose tokens are compared: all rows, only those of the new task (new), or only rows that
    another method rehearses beside them (rehearsed).

    Summed over the full vocabulary, not estimated from the token in the data, at the positions
    that the weights supervise and weighted as they are, divided by the weight of all rows: on new
    and on rehearsed with one coefficient add up to on all.

    Trap: reports and papers say "KL to the reference" for both directions. Distillation and
    `measure`'s kl suites are forward; the penalty of PPO and GRPO is reverse.

    Trap: the model before must be asked at every step: one more forward pass, and a second copy
    of the weights in memory, except under lora, dora and ia3, where it is the same model with its
    adapters turned off. It answers without dropout: a model that trains with dropout (GPT-2's
    default) pays a little from the first step on.

    Deviations from the paper (learning without forgetting: the old model's outputs on the new
    data are targets): 1. one output layer serves old and new, so both losses share it. 2. the
    temperature is 1, not 2 (see `distill`). 3. the entropy of the target is subtracted: 0 means no
    change, and the gradient stays the same. 4. the paper has the forward direction, on new rows,
    only.

    Raises UsageError when training begins with on: rehearsed and no row is, except in the first
    task of a sequence.
    """
    if coefficient == 0:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, KLToBefore(coefficient, direction, on)))


@method(paper="arXiv:1606.09282", changes={"objective"}, off={"coefficient": 0.0})
def distill(
    plan: Plan,
    *,
    coefficient: Coefficient = 1.0,
    temperature: Annotated[float, Field(gt=0)] = 2.0,
    on: Rows = "new",
) -> Plan:
    """Learn the model before's softened next-token distributions beside the data (LwF).

    coefficient: how much the distillation loss counts beside the likelihood, per supervised token.
    temperature: both models' logits are divided by it; above 1 it evens distributions out, so that
    unlikely tokens count for more.
    on: whose tokens are compared: those of the new task (new, as in the paper), only rows that
    another method rehearses beside them (rehearsed), or all.

    At temperature 1 it is `kl_to_before` with direction: forward.

    Trap: the model before must be asked at every step, see `kl_to_before`.

    Deviations from the paper: 1. one output layer serves old and new, so both losses share it. 2.
    the loss is multiplied by the square of the temperature, which keeps its gradient's size when
    the temperature changes (arXiv:1503.02531). 3. the entropy of the target is subtracted: 0 means
    no change, and the gradient stays the same. 4. there is no warm-up in which only the new output
    layer learns, since there is none.

    Raises UsageError when training begins with on: rehearsed and no row is, except in the first
    task of a sequence.
    """
    if coefficient == 0:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, Distilled(coefficient, temperature, on)))


@method(paper="arXiv:1802.01483", changes={"objective"}, off={"coefficient": 0.0})
def l2_to_before(plan: Plan, *, coefficient: Coefficient = 0.01) -> Plan:
    """Pull every trainable weight back to where it stood before the stage (L2-SP).

    coefficient: loss per half squared unit of weight; the term is
    coefficient / 2 * sum_i (theta_i - theta_i at the start)^2.

    Unlike weight decay it does not pull towards zero, and unlike `ewc` all weights count alike.

    Raises UsageError when training begins under FSDP.

    Trap: the sum grows with the number of parameters, so a coefficient does not carry over
    between model sizes.

    Deviations from the paper: 1. there is no separate L2 term for a new output layer, since
    there is none. 2. under lora, dora and ia3 the trainable weights are the adapter's: the term
    is the squared distance of its factors from their start, not that of the full weights.
    """
    if coefficient == 0:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, L2ToBefore(coefficient)))


@method(
    paper="arXiv:2404.07965",
    changes={"objective"},
    off={"kept_share": 1.0},
    example={"reference_model": "."},
)
def rho1(plan: Plan, *, reference_model: ModelRef, kept_share: Annotated[float, Field(gt=0, le=1)] = 0.6) -> Plan:
    """Learn only the tokens on which the model is furthest behind a reference model (Rho-1).

    reference_model: directory or hub id of a model of the same tokenizer that has been trained on
    data of the kind one wants; tokens that it too finds unlikely are left out as noise.
    kept_share: share of the supervised tokens of a batch that are learned, in (0, 1]; those with
    the largest excess, loss of the model in training minus loss of the reference. 1 turns the
    method off.

    The loss is normalised by the tokens kept, so that a smaller share does not mean smaller steps.

    Trap: the choice depends on what shares a batch, and it is remade at every step: with few
    tokens in a micro-batch the share holds roughly, and one token is always kept.

    Trap: the reference is asked at every step: one more forward pass and its weights in memory.

    Deviations from the paper: 1. the share is taken in each micro-batch of each process, not in the
    whole batch, so how a step is cut changes what is learned a little. 2. the reference is asked
    during training; the paper scores the corpus with it beforehand, which gives the same numbers.
    3. tokens that carry no weight (prompts, padding) take no part; the paper trains on plain text.

    Raises UsageError where the likelihood is not part of the objective (a preference loss has no
    tokens to choose), ModelError when training begins and the tokenizers differ.
    """
    if kept_share == 1:
        return plan
    reference = reference_of(plan, "rho1", reference_model, "there is no likelihood whose tokens could be chosen")
    selective = SelectiveLikelihood(reference, kept_share)
    objective = tuple(selective if term == Likelihood() else term for term in plan.objective)
    return dataclasses.replace(plan, objective=objective)


def reference_of(plan: Plan, name: str, reference_model: str, without: str) -> ModelHandle:
    """The reference model of a method that takes the likelihood's place. name: the method's. without: what cannot be
    done where there is no likelihood. Raises UsageError there, and for a server, which tells no losses of tokens."""
    from mnemos.models.load import handle

    if Likelihood() not in plan.objective:
        raise UsageError(
            f"{name} with objective {', '.join(type(term).__name__ for term in plan.objective)}",
            without,
            f"use {name} once, and without a method that puts another objective in the likelihood's place",
        )
    if "://" in reference_model:
        raise UsageError(
            f"{name}.reference_model = {reference_model}",
            "a server tells no losses of given tokens",
            "name a directory or hub id",
        )
    return handle(reference_model)
