"""Learning from preferences: the data say which of two answers is better, or whether one is good."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import (
    CHOSEN,
    ORDINARY,
    BinaryFeedback,
    ModelHandle,
    Plan,
    PreferencePairs,
    Term,
)
from mnemos.core.settings import ModelRef
from mnemos.methods.draw.learned import learned_by
from mnemos.methods.objective.answers import (
    SMOOTHED,
    BinaryFeedbackLoss,
    OddsLoss,
    PairLoss,
    PartLikelihood,
    SimpleLoss,
)

PairLossType = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "robust",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
]
Weight = Annotated[float, Field(ge=0)]


def _learning(plan: Plan, name: str, draw: Any, terms: tuple[Term, ...], ordinary: float) -> Plan:
    """The plan with its likelihood replaced by terms on whole answers."""
    return learned_by(plan, name, draw, *terms, PartLikelihood(ORDINARY, ordinary))


def _reference(name: str, path: str | None) -> ModelHandle | None:
    if path is None:
        return None
    if "://" in path:
        raise UsageError(
            f"{name}.reference_model = {path}", "a server tells no losses of given tokens", "name a directory or hub id"
        )
    from mnemos.models.load import handle

    return handle(path)


@method(paper="arXiv:2305.18290", changes={"draw", "objective"}, off={"beta": 0.0})
def dpo(
    plan: Plan,
    *,
    beta: Weight = 0.1,
    loss: PairLossType = "sigmoid",
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
    soft_label: str | None = None,
    sft_weight: Weight = 0.0,
    ordinary: Weight = 1.0,
    reference_model: ModelRef | None = None,
) -> Plan:
    """Make the chosen answer of each pair likelier than the rejected one, beside the model before (DPO).

    beta: how dear it is to leave the reference, per nat of log-ratio; larger stays closer. 0 turns the
    method off: the chosen answers are then learned by likelihood. For ipo it is the paper's tau.
    loss: of the difference of both answers' log-ratios, by the names that TRL has for them.
    label_smoothing: how likely a pair is to be the wrong way round, below 0.5; for sigmoid and robust.
    soft_label: column that says how likely the chosen answer is the better one, in [0, 1]: `preferred` of
    `mnemos reward judge`, `reward_chosen` of judged_pairs by a judge with two samples; for sigmoid. Below
    0.5 the rejected answer is made likelier. A pair without it is left out and counted.
    sft_weight: weight of the chosen answers' mean negative log-likelihood per token, added (arXiv:2404.19733).
    ordinary: weight of the likelihood of rows that are no pairs, such as replayed chats.
    reference_model: directory or hub id of a model with the same tokenizer; the model before if unset.

    A step's loss is the mean over its rows: a pair by its loss, an ordinary row by the step's mean
    negative log-likelihood per token of such rows. Only the two last answers count, prompts do not.
    Rewards, their margin and accuracy, and KL(reference || model) along the answers are logged.

    Trap: both answers may become less likely while their difference grows; look at the reward of the
    chosen one, and add sft_weight where it falls.

    Trap: the reference is asked at every step: one more forward pass and a second copy of the weights,
    except under lora, dora and ia3. It answers without dropout.

    Trap: terms such as kl_to_before look at both answers' tokens, the rejected one's too.

    Deviations from the paper: 1. smoothed sigmoid is the conservative DPO of arXiv:2403.00409; a soft
    label is that with a rate of its own for each pair. 2. rows of other kinds may share a step.

    Raises UsageError where another method has said who writes answers or taken the likelihood's place,
    for label_smoothing or soft_label with a loss that knows none, or with each other, and when training
    begins with packing or a method that weighs tokens; DataError without a pair.
    """
    if beta == 0:
        return plan
    if label_smoothing and loss not in SMOOTHED:
        raise UsageError(
            f"dpo.label_smoothing = {label_smoothing:g}",
            f"has no meaning for loss: {loss}",
            "set it to 0, or choose loss: sigmoid or robust",
        )
    if soft_label is not None and (loss != "sigmoid" or label_smoothing):
        raise UsageError(
            f"dpo.soft_label = {soft_label}",
            f"stands beside loss: {loss}, label_smoothing: {label_smoothing:g}",
            "choose loss: sigmoid and label_smoothing: 0, or leave soft_label out",
        )
    terms: tuple[Term, ...] = (PairLoss(loss, beta, label_smoothing),)
    if sft_weight:
        terms = (*terms, PartLikelihood(CHOSEN, sft_weight))
    return _learning(plan, "dpo", PreferencePairs(_reference("dpo", reference_model), soft_label), terms, ordinary)


@method(paper="arXiv:2402.01306", changes={"draw", "objective"}, off={"beta": 0.0})
def kto(
    plan: Plan,
    *,
    beta: Weight = 0.1,
    desirable_weight: Weight = 1.0,
    undesirable_weight: Weight = 1.0,
    loss: Literal["kto", "apo_zero_unpaired"] = "kto",
    ordinary: Weight = 1.0,
    reference_model: ModelRef | None = None,
) -> Plan:
    """Make answers with a thumb up likelier and those with a thumb down less likely (KTO).

    beta: how dear it is to leave the reference, per nat of log-ratio. 0 turns the method off: answers
    with a thumb up are then learned by likelihood.
    desirable_weight: how much an answer with a thumb up counts; the paper asks for desirable_weight *
    (thumbs up) between 1 and 4/3 of undesirable_weight * (thumbs down); both numbers are in the counts.
    undesirable_weight: how much an answer with a thumb down counts.
    loss: kto, or APO-zero on single answers (arXiv:2408.06266), which estimates no divergence.
    ordinary: weight of the likelihood of rows without a thumb, such as replayed chats.
    reference_model: directory or hub id of a model with the same tokenizer; the model before if unset.

    How far the model has moved is the mean log-ratio of answers put behind another row's prompt,
    at least 0 and without gradient. A pair of chosen and rejected answers is read as two thumbs.

    Trap: mismatched answers cost two more forward passes a step beside the reference's.

    Trap: as in `dpo`: the reference in memory, and kl_to_before on answers with a thumb down too.

    Deviations from the paper: 1. the estimate runs over all rows of a step, however it was cut, where TRL's
    runs over a micro-batch. 2. an answer's mismatched prompt is that of the row behind it in the data, the
    same in every pass.

    Raises UsageError as `dpo` does, and DataError where all thumbs point the same way.
    """
    if beta == 0:
        return plan
    terms = (BinaryFeedbackLoss(loss, beta, desirable_weight, undesirable_weight),)
    # APO-zero has no z, so nothing needs to be read behind another row's prompt.
    draw = BinaryFeedback(loss == "kto", _reference("kto", reference_model))
    return _learning(plan, "kto", draw, terms, ordinary)


@method(paper="arXiv:2405.14734", changes={"draw", "objective"}, off={"beta": 0.0})
def simpo(
    plan: Plan, *, beta: Weight = 2.0, margin: Weight = 1.0, sft_weight: Weight = 0.0, ordinary: Weight = 1.0
) -> Plan:
    """Make the chosen answer likelier per token than the rejected one, without a reference (SimPO).

    beta: scale of the difference of mean log-probabilities per token; 0 turns the method off.
    margin: by how much beta times this difference should exceed 0 (the paper's gamma).
    sft_weight: weight of the chosen answers' mean negative log-likelihood per token, added.
    ordinary: weight of the likelihood of rows that are no pairs, such as replayed chats.

    Trap: nothing holds the model near where it was; combine it with kl_to_before or replay.

    Raises errors as `dpo` does.
    """
    if beta == 0:
        return plan
    terms: tuple[Term, ...] = (SimpleLoss(beta, margin),)
    if sft_weight:
        terms = (*terms, PartLikelihood(CHOSEN, sft_weight))
    # This loss asks for no reference, and no model is loaded before it is asked.
    return _learning(plan, "simpo", PreferencePairs(), terms, ordinary)


@method(paper="arXiv:2403.07691", changes={"draw", "objective"}, off={"weight": 0.0})
def orpo(plan: Plan, *, weight: Weight = 0.1, ordinary: Weight = 1.0) -> Plan:
    """Learn the chosen answers, and pay where the odds of the rejected ones are as good (ORPO).

    weight: of the odds' loss beside the chosen answers' mean negative log-likelihood per token; 0 turns
    the method off, which leaves this likelihood alone.
    ordinary: weight of the likelihood of rows that are no pairs, such as replayed chats.

    Deviation from the paper: 1. the likelihood of chosen answers leaves their prompts out, as the odds do.

    Raises errors as `dpo` does.
    """
    if weight == 0:
        return plan
    terms = (PartLikelihood(CHOSEN, 1.0), OddsLoss(weight))
    return _learning(plan, "orpo", PreferencePairs(), terms, ordinary)
