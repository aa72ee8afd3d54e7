"""What is minimised beside the likelihood of the new data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan, StepView

if TYPE_CHECKING:
    import torch

Direction = Literal["forward", "reverse"]


@dataclass(frozen=True)
class KLToBefore:
    """coefficient * sum_n |weight_n| * KL_n / normaliser, in nats, over the full vocabulary.

    KL_n is KL(before || after) at position n for "forward", KL(after || before) for "reverse".
    """

    coefficient: float
    direction: Direction

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only."""
        after = view.logits.float().log_softmax(-1)
        before = view.before_logits().detach().float().log_softmax(-1)
        p, q = (before, after) if self.direction == "forward" else (after, before)
        mass = p.exp()
        # A token that p rules out (logit -inf) adds 0, not 0 * nan, to the loss and to its gradient.
        divergence = (mass * (p - q).masked_fill(mass == 0, 0.0)).sum(-1)
        # |weight| as in the normaliser: under a negative advantage the penalty stays a penalty.
        return self.coefficient * (divergence * view.weight.abs()).sum() / view.normaliser


@dataclass(frozen=True)
class L2ToBefore:
    """coefficient / 2 * sum_i (theta_i - theta_i at the start)^2 over the trainable parameters."""

    coefficient: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar, times the micro-batch's share of the step; summed in float32."""
        import torch

        start = view.start()
        moving = [(name, value) for name, value in view.model.named_parameters() if value.requires_grad]
        squares = [(value.float() - start[name].float()).square().sum() for name, value in moving]
        return self.coefficient / 2 * view.share * torch.stack(squares).sum()


@method(paper="arXiv:1606.09282", changes={"objective"}, off={"coefficient": 0.0})
def kl_to_before(
    plan: Plan, *, coefficient: Annotated[float, Field(ge=0)] = 0.1, direction: Direction = "forward"
) -> Plan:
    """Pay for every nat by which next-token distributions leave those of the model before.

    coefficient: nats of loss per nat of divergence (per supervised token, beside the likelihood).
    direction: forward is KL(before || after), an expectation under the model before: it must keep
    covering what the model before could say. reverse is KL(after || before), an expectation under
    the model in training: it must not say what the model before would not.

    Summed over the full vocabulary, not estimated from the token in the data, at the positions
    that the weights supervise and weighted as they are.

    Trap: reports and papers say "KL to the reference" for both directions. Distillation and
    `measure`'s kl suites are forward; the penalty of PPO and GRPO is reverse.

    Trap: the model before must be asked at every step: one more forward pass, and a second copy
    of the weights in memory, except under lora, dora and ia3, where it is the same model with its
    adapters turned off. It answers without dropout: a model that trains with dropout (GPT-2's
    default) pays a little from the first step on.

    Deviations from the paper (learning without forgetting: the old model's outputs on the new
    data are targets): 1. one output layer serves old and new, so both losses share it. 2. the
    temperature is 1, not 2. 3. the entropy of the target is subtracted: 0 means no change, and
    the gradient stays the same. 4. the paper has the forward direction only.
    """
    if coefficient == 0:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, KLToBefore(coefficient, direction)))


@method(paper="arXiv:1802.01483", changes={"objective"}, off={"coefficient": 0.0})
def l2_to_before(plan: Plan, *, coefficient: Annotated[float, Field(ge=0)] = 0.01) -> Plan:
    """Pull every trainable weight back to where it stood before the stage (L2-SP).

    coefficient: loss per half squared unit of weight; the term is
    coefficient / 2 * sum_i (theta_i - theta_i at the start)^2.

    Unlike weight decay it does not pull towards zero, and unlike EWC all weights count alike.

    Trap: the sum grows with the number of parameters, so a coefficient does not carry over
    between model sizes.

    Deviations from the paper: 1. there is no separate L2 term for a new output layer, since
    there is none. 2. under lora, dora and ia3 the trainable weights are the adapter's: the term
    is the squared distance of its factors from their start, not that of the full weights.
    """
    if coefficient == 0:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, L2ToBefore(coefficient)))
