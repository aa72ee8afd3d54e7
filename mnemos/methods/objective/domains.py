"""How much each source of text counts, learned while a small model reads them all: DoReMi (arXiv:2305.10429)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.method import method
from mnemos.core.outputs import log_prob
from mnemos.core.plan import Likelihood, ModelHandle, Plan, Stage, StepView
from mnemos.core.settings import ModelRef
from mnemos.methods.objective.divergence import reference_of
from mnemos.sources.domains import EXCESS, WEIGHT, domain_of

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]


def reweighed(weights: Floats, excess: Floats, step_size: float, smoothing: float) -> Floats:
    """float64[K]: (1 - c) * weights * exp(eta * excess) / its sum + c / K.

    weights: float64[K], positive. excess: float64[K], nats a token. step_size: eta. smoothing: c.
    """
    # In logarithms, less the largest: exp of a large step is no number.
    risen = np.log(weights) + step_size * excess
    risen = np.exp(risen - risen.max())
    mixed: Floats = (1 - smoothing) * risen / risen.sum() + smoothing / len(weights)
    return mixed


@dataclass(frozen=True)
class DomainRobust:
    """sum_i alpha_i * (mean nats a token of domain i), alpha rising where the model is furthest behind a reference."""

    reference: ModelHandle
    column: str
    step_size: float
    smoothing: float
    old: None = dataclasses.field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> LearnedWeights:
        """Find each row's domain; all weigh alike at first."""
        accumulated = stage.plan.train.gradient_accumulation_steps
        if accumulated > 1:
            raise UsageError(
                f"doremi with train.gradient_accumulation_steps = {accumulated}",
                "weights are learned from whole batches, once a step",
                "set it to 1 and raise per_device_train_batch_size instead",
            )
        of = {example.id: domain_of(example, self.column) for example in stage.plan.examples}
        names = tuple(sorted(set(of.values())))
        if len(names) < 2:
            raise DataError(
                f"doremi.column = {self.column}",
                f"all rows are of {names[0]}",
                "teach several sources, or leave it out",
            )
        return LearnedWeights(self, names, of, stage.summed)

    def loss(self, view: StepView) -> torch.Tensor:
        """Its place is taken by what `begin` returns."""
        raise NotImplementedError("begin() makes the term that is computed")


class LearnedWeights:
    """The running weights: what `begin` puts in a `DomainRobust`'s place. weights: float64[K]; excess: float64[K], the
    last known excess loss of each domain, 0 before it was first met."""

    def __init__(
        self,
        settings: DomainRobust,
        names: Sequence[str],
        of: Mapping[str, str],
        summed: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.settings, self.names, self.summed = settings, names, summed
        self.place = {row: names.index(name) for row, name in of.items()}
        self.weights: Floats = np.full(len(names), 1 / len(names))
        self.excess: Floats = np.zeros(len(names))

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        return {"weights": self.weights.tolist(), "excess": self.excess.tolist()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Take over what a checkpoint kept."""
        self.weights, self.excess = np.array(state["weights"]), np.array(state["excess"])

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar: the step's loss under the weights that the step itself has moved."""
        import torch

        nll = -view.log_probs()
        domain = self._domains(view)
        weight = view.weight.abs()
        with torch.no_grad():
            theirs = -view.references.other(self.settings.reference).each(log_prob, view.targets)
            # Cut at 0 for each token, as the paper has it: a domain is not forgiven by what it knows better elsewhere.
            excess = (nll - theirs).clamp(min=0) * weight
            # float32[3, K]: excess and tokens of each domain, and how many processes read; over all of them.
            sums = torch.zeros(3, len(self.names), device=nll.device)
            sums[0].index_add_(0, domain, excess.float())
            sums[1].index_add_(0, domain, weight.float())
            sums[2] = 1.0
            sums = self.summed(sums)
        self._move(sums.double().cpu().numpy())
        for name, alpha, behind in zip(self.names, self.weights, self.excess, strict=True):
            view.metric(WEIGHT + name, float(alpha), 1.0)
            view.metric(EXCESS + name, float(behind), 1.0)
        # Each token counts alpha / tokens of its domain in the batch. Processes average gradients, so that each
        # multiplies by how many they are.
        each = torch.as_tensor(self.weights, device=nll.device, dtype=nll.dtype) / sums[1].clamp(min=1e-9)
        return (nll * weight * each[domain]).sum() * float(sums[2, 0])

    def _move(self, sums: Floats) -> None:
        excess, tokens = sums[0], sums[1]
        met = tokens > 0
        self.excess[met] = excess[met] / tokens[met]
        self.weights = reweighed(self.weights, self.excess, self.settings.step_size, self.settings.smoothing)

    def _domains(self, view: StepView) -> torch.Tensor:
        """int64[N]: which domain each position is of."""
        import torch

        documents = view.documents
        assert documents is not None
        rows = [self._place(name) for _, name in documents.names]
        return torch.tensor(rows, device=view.targets.device, dtype=torch.int64)[documents.of]

    def _place(self, row: str) -> int:
        # A piece of a long document is called after it, ID#2. A process without rows reads one token of no row, which
        # has no weight.
        found = self.place.get(row, self.place.get(row.rpartition("#")[0])) if row else 0
        if found is None:
            raise ModelError(f"doremi: row {row}", "is none of the rows that the stage was made of")
        return found


@method(
    paper="arXiv:2305.10429",
    changes={"objective"},
    off={"step_size": 0.0},
    example={"reference_model": "."},
)
def doremi(
    plan: Plan,
    *,
    reference_model: ModelRef,
    column: str = "source",
    step_size: Annotated[float, Field(ge=0, le=100)] = 1.0,
    smoothing: Annotated[float, Field(gt=0, lt=1)] = 1e-3,
) -> Plan:
    """Learn how much each source of text should count, as a proxy model reads them all (group DRO).

    reference_model: directory or hub id of a model of the same tokenizer that was trained on the sources in their
    natural shares: how far one can get with them.
    column: the column of the data that names each row's source, as `mnemos data mix` writes it.
    step_size: eta; how fast weights rise where the model is behind the reference. 0 turns the method off.
    smoothing: c, the share of every weight that is spread evenly at each step. The paper has 0.001, its code 0.0001.

    At each step, for each source i with n_i tokens in the batch: excess_i = sum of max(nats - nats of the reference, 0)
    / n_i; alpha_i is multiplied by exp(eta * excess_i), normalised, and smoothed; the loss is the sum over sources of
    alpha_i times their mean nats. The weights found are the mean of alpha over all steps: they are noted beside the
    loss, and `mixture` with by: run draws a larger model's text by them. The trained proxy itself is thrown away.

    Put `mixture` with by: uniform before it: the paper draws each batch evenly from the sources.

    Trap: the weights are those of a tokenizer, a proxy's size and a number of steps; arXiv:2411.05735 (Aioli) finds
    them worse than even shares in three of six settings. Compare both with the natural shares.

    Trap: while the proxy is still behind the reference everywhere, weights follow what is hardest to begin with, and
    few steps give these first ones much of the mean.

    Trap: a source that is not in a batch keeps its last known excess, and so goes on rising or falling by it; make
    batches large enough to hold every source.

    Deviations from the paper: 1. a source that was not met yet counts as one on which nothing is behind. 2. documents
    of a batch are drawn by chance from an even mixture, not an equal number of each source.

    Raises UsageError where the likelihood is not part of the objective and, as training begins, for gradient
    accumulation; DataError for a row without the column and for a single source; ModelError where tokenizers differ.
    """
    if step_size == 0:
        return plan
    reference = reference_of(plan, "doremi", reference_model, "there is no likelihood that sources could weigh in")
    robust: Any = DomainRobust(reference, column, step_size, smoothing)
    return dataclasses.replace(
        plan, objective=tuple(robust if term == Likelihood() else term for term in plan.objective)
    )
