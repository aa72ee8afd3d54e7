"""Losses on whole answers: pairs of which one is better, and single ones with a thumb.

Each looks at ln p(answer | prompt), summed over the answer's tokens, under the model in training and,
but for those that need none, under a frozen reference. A step's loss is a mean over its rows: a pair
or a thumb counts as one, and so does an ordinary row, by its share of the step's ordinary likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mnemos.core.outputs import log_prob
from mnemos.core.plan import CHOSEN, DESIRABLE, ORDINARY, UNDESIRABLE, Answers, StepView
from mnemos.methods.objective.divergence import divergence

if TYPE_CHECKING:
    import torch

ROWS = (CHOSEN, DESIRABLE, UNDESIRABLE, ORDINARY)
"""One of these stands in each row; a rejected answer shares its chosen one's."""


@dataclass(frozen=True)
class Pairs:
    """float[P] each. chosen, rejected: ln p of the answers. chosen_reference, rejected_reference: the
    same under the reference. chosen_tokens, rejected_tokens: their lengths."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_reference: torch.Tensor
    rejected_reference: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor

    @property
    def up(self) -> torch.Tensor:
        """How much likelier the chosen answer has become: ln p / p_reference."""
        return self.chosen - self.chosen_reference

    @property
    def down(self) -> torch.Tensor:
        """The same of the rejected answer."""
        return self.rejected - self.rejected_reference

    @property
    def per_token(self) -> torch.Tensor:
        """up - down with each divided by its answer's tokens."""
        return self.up / self.chosen_tokens - self.down / self.rejected_tokens


Loss = Callable[[Pairs, float, "float | torch.Tensor"], "torch.Tensor"]
"""(pairs, beta, how likely each label is wrong: a number or float[P]) -> float[P]."""


def _log_sigmoid(value: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F

    return F.logsigmoid(value)


def _sigmoid(pairs: Pairs, beta: float, smoothing: float | torch.Tensor) -> torch.Tensor:
    # -(1 - e) ln sigmoid(x) - e ln sigmoid(-x); at e = 0 it is DPO's loss (arXiv:2305.18290, eq. 7). e is a float or
    # float[P].
    logit = beta * (pairs.up - pairs.down)
    return -(1 - smoothing) * _log_sigmoid(logit) - smoothing * _log_sigmoid(-logit)


def _robust(pairs: Pairs, beta: float, smoothing: float | torch.Tensor) -> torch.Tensor:
    # Divided by 1 - 2e, the mean over labels that are turned round with probability e is the loss on the right ones
    # (arXiv:2403.00409). At e = 1/2 labels say nothing, and the divisor is 0.
    logit = beta * (pairs.up - pairs.down)
    return (-(1 - smoothing) * _log_sigmoid(logit) + smoothing * _log_sigmoid(-logit)) / (1 - 2 * smoothing)


def _nca(pairs: Pairs, beta: float, smoothing: float | torch.Tensor) -> torch.Tensor:
    up, down = beta * pairs.up, beta * pairs.down
    return -_log_sigmoid(up) - 0.5 * _log_sigmoid(-up) - 0.5 * _log_sigmoid(-down)


LOSSES: Mapping[str, Loss] = {
    "sigmoid": _sigmoid,
    "sigmoid_norm": lambda pairs, beta, _: -_log_sigmoid(beta * pairs.per_token),
    "hinge": lambda pairs, beta, _: (1 - beta * (pairs.up - pairs.down)).relu(),
    # arXiv:2310.12036, eq. 17, with beta for its tau. Per token, as in TRL: the square of a sum over tokens would grow
    # with the length of the answer.
    "ipo": lambda pairs, beta, _: (pairs.per_token - 1 / (2 * beta)).square(),
    "robust": _robust,
    "nca_pair": _nca,
    "bco_pair": lambda pairs, beta, _: -_log_sigmoid(beta * pairs.up) - _log_sigmoid(-beta * pairs.down),
    # The probability of winning is 1 for the chosen answer and 0 for the rejected one; it enters less one half.
    "sppo_hard": lambda pairs, beta, _: (pairs.up - 0.5 / beta).square() + (pairs.down + 0.5 / beta).square(),
    # arXiv:2408.06266, eq. 7 and eq. 8: the first moves the chosen answer up, the second moves it down, and the
    # rejected one further.
    "apo_zero": lambda pairs, beta, _: 1 - (beta * pairs.up).sigmoid() + (beta * pairs.down).sigmoid(),
    "apo_down": lambda pairs, beta, _: (beta * pairs.up).sigmoid() + 1 - (beta * (pairs.up - pairs.down)).sigmoid(),
}
"""dpo's losses by TRL's names. sigmoid: arXiv:2305.18290, smoothed: 3.3 of arXiv:2403.00409 (cDPO).
sigmoid_norm: per token. hinge: arXiv:2305.10425. ipo: arXiv:2310.12036. robust: arXiv:2403.00409.
nca_pair: arXiv:2402.05369. bco_pair: arXiv:2404.04656. sppo_hard: arXiv:2405.00675. apo_*: arXiv:2408.06266."""

SMOOTHED = frozenset({"sigmoid", "robust"})
"""Losses that know what to do with labels that may be wrong."""


def answer_log_probs(view: StepView, each: torch.Tensor) -> torch.Tensor:
    """float[A]: ln p of each answer of the micro-batch, summed over its tokens. each: ln p of every target,
    float32[N]."""
    answers = _given(view)
    # answers.of, int64[N], says which of the A answers each target belongs to.
    return each.new_zeros(len(answers.parts)).index_add(0, answers.of, each)


def _reference_log_probs(view: StepView) -> torch.Tensor:
    """float[A]: the same under the model that answers are compared with, without gradient."""
    return answer_log_probs(view, _given(view).reference().each(log_prob, view.targets).detach())


def _given(view: StepView) -> Answers:
    assert view.answers is not None, "this loss needs whole answers"
    return view.answers


def _places(answers: Answers, part: str, device: torch.device) -> torch.Tensor:
    import torch

    places = [place for place, name in enumerate(answers.parts) if name == part]
    return torch.tensor(places, dtype=torch.int64, device=device)


def _rows(answers: Answers) -> float:
    """Rows of the whole step, divided by processes."""
    # By processes, because these average their gradients.
    return sum(answers.count.get(part, 0.0) for part in ROWS)


def _pairs(view: StepView, compared: bool) -> Pairs:
    """The micro-batch's pairs; without a reference its numbers are 0."""
    answers = _given(view)
    ours = answer_log_probs(view, view.log_probs())
    theirs = _reference_log_probs(view) if compared else ours.new_zeros(len(ours))
    tokens = ours.new_zeros(len(ours)).index_add(0, answers.of, ours.new_ones(len(answers.of)))
    good = _places(answers, CHOSEN, ours.device)
    # A rejected answer stands right behind its chosen one: rows stay whole in a micro-batch.
    bad = good + 1
    return Pairs(ours[good], ours[bad], theirs[good], theirs[bad], tokens[good], tokens[bad])


def _pair_metrics(view: StepView, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
    """Rewards of both answers, their difference, and how often the chosen one's is larger."""
    count, margin = float(len(chosen)), chosen - rejected
    view.metric("reward of chosen", chosen.sum(), count)
    view.metric("reward of rejected", rejected.sum(), count)
    view.metric("reward margin", margin.sum(), count)
    view.metric("reward accuracy", (margin > 0).float().sum(), count)


def _divergence_metric(view: StepView) -> None:
    """KL(reference || model) in nats a token along the data's answers, of ordinary rows too."""
    import torch

    def divergence_from(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        return divergence(theirs.float().log_softmax(-1), ours.float().log_softmax(-1))

    with torch.no_grad():
        each = view.outputs.each(divergence_from, _given(view).reference())
    view.metric("KL(reference || model)", each.sum(), float(len(each)))


@dataclass(frozen=True)
class PairLoss:
    """sum over pairs of `LOSSES[loss]` / rows of the step. A label is wrong by label_smoothing, or by 1 -
    its soft label where the data have such."""

    holds: ClassVar[tuple[str, ...]] = ("reference",)

    loss_type: str
    beta: float
    label_smoothing: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only."""
        pairs, labels = _pairs(view, True), _given(view).soft_labels
        # The soft label is how likely the chosen answer is the better one, so it is wrong by the rest.
        wrong = self.label_smoothing if labels is None else 1 - labels[_places(_given(view), CHOSEN, labels.device)]
        each = LOSSES[self.loss_type](pairs, self.beta, wrong)
        _pair_metrics(view, self.beta * pairs.up.detach(), self.beta * pairs.down.detach())
        _divergence_metric(view)
        return each.sum() / _rows(_given(view))


@dataclass(frozen=True)
class SimpleLoss:
    """SimPO: sum over pairs of -ln sigmoid(beta * (difference of mean ln p per token) - margin) / rows."""

    beta: float
    margin: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar."""
        pairs = _pairs(view, False)
        _pair_metrics(
            view,
            self.beta * (pairs.chosen / pairs.chosen_tokens).detach(),
            self.beta * (pairs.rejected / pairs.rejected_tokens).detach(),
        )
        return -_log_sigmoid(self.beta * pairs.per_token - self.margin).sum() / _rows(_given(view))


@dataclass(frozen=True)
class OddsLoss:
    """ORPO's second part: weight * sum over pairs of -ln sigmoid(ln odds(chosen) - ln odds(rejected)) /
    rows, where odds(p) = p / (1 - p) of the geometric mean probability of an answer's tokens."""

    weight: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar."""
        pairs = _pairs(view, False)
        # float[P]: mean ln p of a token, that is, ln of the geometric mean p.
        chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
        # ln odds(p) = ln p - ln(1 - p) (arXiv:2403.07691, eq. 4 and 7).
        odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
        _pair_metrics(view, self.weight * chosen.detach(), self.weight * rejected.detach())
        return -self.weight * _log_sigmoid(odds).sum() / _rows(_given(view))


def _log1mexp(value: torch.Tensor) -> torch.Tensor:
    """ln(1 - e^value) for value < 0, precise at both ends."""
    import torch

    # At 0 the result would be ln 0, with an infinite gradient. From -ln 2 on, 1 - e^value is small and expm1 keeps its
    # digits; below, e^value is small and log1p does.
    safe = value.clamp(max=-1e-7)
    return torch.where(safe > -0.6931, (-torch.expm1(safe)).log(), torch.log1p(-safe.exp()))


@dataclass(frozen=True)
class BinaryFeedbackLoss:
    """sum over answers / rows of the step of: desirable_weight * (1 - sigmoid(beta * (r - z))) for a
    thumb up, undesirable_weight * (1 - sigmoid(beta * (z - r))) for one down.

    r is ln p(model) / p(reference) of the answer; z the step's `Answers.drift` for loss_type "kto", 0
    for "apo_zero_unpaired". z carries no gradient.
    """

    holds: ClassVar[tuple[str, ...]] = ("reference",)

    loss_type: str
    beta: float
    desirable_weight: float
    undesirable_weight: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only."""
        answers = _given(view)
        ratio = answer_log_probs(view, view.log_probs()) - _reference_log_probs(view)
        drift = answers.drift if answers.drift is not None else ratio.new_zeros(())
        up, down = (ratio[_places(answers, part, ratio.device)] for part in (DESIRABLE, UNDESIRABLE))
        # lambda - v, where v = lambda sigmoid(beta (r - z)) for a thumb up and lambda sigmoid(beta (z - r)) for one
        # down (arXiv:2402.01306). float[thumbs up], float[thumbs down].
        good = self.desirable_weight * (1 - (self.beta * (up - drift)).sigmoid())
        bad = self.undesirable_weight * (1 - (self.beta * (drift - down)).sigmoid())
        view.metric("reward of desirable", self.beta * up.detach().sum(), float(len(up)))
        view.metric("reward of undesirable", self.beta * down.detach().sum(), float(len(down)))
        right = (up.detach() > drift).sum() + (down.detach() < drift).sum()
        view.metric("reward accuracy", right, float(len(up) + len(down)))
        if answers.drift is not None:
            view.metric("KL estimate of mismatched pairs", drift, 1.0)
        _divergence_metric(view)
        return (good.sum() + bad.sum()) / _rows(answers)


@dataclass(frozen=True)
class PartLikelihood:
    """weight * (mean negative log-likelihood per token of the step's answers of one part) * (their
    share of the step's rows). part: "chosen", or "" for ordinary rows."""

    part: str
    weight: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; 0 in a step without such answers."""
        answers = _given(view)
        nll = -view.log_probs() * view.weight
        within = _places(answers, self.part, nll.device)
        # Count and weight are those of the whole step, so the summands of its micro-batches add up to one mean; a
        # micro-batch's own would make the loss depend on how the step was cut.
        total = nll.new_zeros(len(answers.parts)).index_add(0, answers.of, nll)[within].sum()
        share = answers.count.get(self.part, 0.0) / _rows(answers)
        return self.weight * share * total / max(answers.weight.get(self.part, 0.0), 1e-12)
