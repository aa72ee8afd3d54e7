"""Learning from a teacher's probabilities, whatever its tokenizer: Universal Logit Distillation (arXiv:2402.12030)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Tokens
from mnemos.core.plan import ModelHandle, Plan, Stage, StepView
from mnemos.core.settings import ModelRef
from mnemos.sources.rewritten import as_learned

if TYPE_CHECKING:
    import torch

Name = tuple[str, str]
"""(origin, id) of an example."""
Places = npt.NDArray[np.int64]


def sorted_distance(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """float[N], in [0, 2]: sum_k |p_(k) - q_(k)|, both sorted from the largest; the shorter one is filled up with 0.

    p: float[N, V], q: float[N, W], probabilities. It is the Wasserstein distance where every token lies equally far
    from every other: which token has which probability is not compared, so that vocabularies need nothing in common.
    """
    import torch

    left, right = p.sort(dim=-1, descending=True).values, q.sort(dim=-1, descending=True).values
    wide = max(left.shape[-1], right.shape[-1])
    left, right = (torch.nn.functional.pad(one, (0, wide - one.shape[-1])) for one in (left, right))
    distance: torch.Tensor = (left - right).abs().sum(-1)
    return distance


@dataclass(frozen=True)
class UniversalLogits:
    """coefficient * sum_t |weight_t| * distance_t / normaliser, t over the answers' tokens, the t-th of the one model
    beside the t-th of the other, up to the shorter of both. runs: the teacher's tokens of each row. answers: where, in
    each row as the model in training reads it, the answers' tokens stand, whatever weight a method leaves them."""

    teacher: ModelHandle
    coefficient: float
    runs: Mapping[Name, Tokens] = field(default_factory=dict, compare=False, repr=False)
    answers: Mapping[Name, Places] = field(default_factory=dict, compare=False, repr=False)
    asked: Any = field(default=None, compare=False, repr=False)
    old: None = field(default=None, init=False, compare=False)

    by_token: ClassVar[bool] = False

    def begin(self, stage: Stage) -> UniversalLogits:
        """With the teacher, and its own rendering of every row whose answer is learned. DataError where there is none,
        or all are longer than the teacher reads."""
        from mnemos.models.forward import context_length
        from mnemos.models.renderer import renderer_of

        plan = stage.plan
        own: Any = renderer_of(plan.before)
        teacher: Any = self.teacher.load()
        model = teacher.model.requires_grad_(False)
        limit = context_length(model)
        runs: dict[Name, Tokens] = {}
        answers: dict[Name, Places] = {}
        rows = 0
        for row in plan.examples:
            if row.kind not in ("messages", "completion"):
                continue
            rows += 1
            run = teacher.renderer.render(row)
            if len(run) <= limit and (run.weight * run.output)[1:].any():
                runs[row.origin, row.id] = run
                # As the row is learned, before anything is masked in it; of one that is split, its first answer.
                read = as_learned(own, row, plan.train.rewritten_turns, Counter())[0]
                answers[row.origin, row.id] = np.flatnonzero(read.weight * read.output)
        if not runs:
            raise DataError(
                f"uld: {plan.examples.describe()}",
                f"has {rows:,} rows with an answer, none of which {self.teacher.path} can read whole",
                "give chats or prompts with completions, shorter than the teacher's context",
            )
        return dataclasses.replace(self, runs=runs, answers=answers, asked=model)

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the model in training only."""
        import torch

        documents = view.documents
        assert documents is not None, "which example a position is of must be known"
        assert documents.output is not None, "what the model writes itself must be known"
        learned = documents.output & (view.weight != 0)
        total = view.logits.sum() * 0.0
        tokens = 0
        for number, name in enumerate(documents.names):
            run = self.runs.get(name)
            places = (learned & (documents.of == number)).nonzero()[:, 0]
            if run is None or not len(places):
                continue
            theirs = self._probabilities(run, view.logits.device)
            # By number among all tokens of the answers, not among those that have weight: where `token_mask` leaves
            # some out, those behind them would be compared with another token of the teacher's.
            places, rank = self._ranked(name, places, documents.place[places] - sum(documents.lengths[:number]))
            there = rank < len(theirs)
            places, rank = places[there], rank[there]
            ours = view.logits[places].float().softmax(-1)
            total = total + (sorted_distance(ours, theirs[rank]) * view.weight[places].abs()).sum()
            tokens += len(places)
        view.metric("distance to the teacher", total.detach(), float(tokens))
        return self.coefficient * total / torch.as_tensor(view.normaliser, device=total.device)

    def _ranked(self, name: Name, places: torch.Tensor, within: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The places that are of an answer, and which of its tokens each is, from 0. within: where they stand in the
        row."""
        import torch

        answers = torch.as_tensor(self.answers[name], device=within.device)
        known = torch.isin(within, answers)
        return places[known], torch.searchsorted(answers, within[known].contiguous())

    def _probabilities(self, run: Tokens, device: torch.device) -> torch.Tensor:
        """float[T, W]: what the teacher expects at each token of the row's answers."""
        import torch

        self.asked.to(device)
        at = np.flatnonzero((run.weight * run.output)[1:] != 0)
        with torch.no_grad():
            ids = torch.tensor(run.ids[None].astype(np.int64), device=device)
            # Position t - 1 predicts token t.
            logits = self.asked(input_ids=ids).logits[0, torch.tensor(at, device=device)]
        probabilities: torch.Tensor = logits.float().softmax(-1)
        return probabilities


@method(paper="arXiv:2402.12030", changes={"objective"}, off={"coefficient": 0.0}, example={"teacher": "."})
def uld(plan: Plan, *, teacher: ModelRef, coefficient: Annotated[float, Field(ge=0)] = 1.5) -> Plan:
    """Learn a teacher's probabilities beside the data, whatever tokenizer and vocabulary it has (ULD).

    teacher: directory or hub id of any language model that runs here.
    coefficient: how much the distance to the teacher counts beside the likelihood, per supervised token.

    At the t-th token of an answer the two models' probabilities are sorted, each for itself, and compared rank by rank:
    how sure the teacher is is learned, and not of which token; that stands in the data. The teacher reads each row in
    its own chat template and with its own tokens. Rows of text, and those that it cannot read whole, are learned by
    their likelihood alone. With one tokenizer for both, `distillation`, `distill` and `kl_to_before` learn
    more: which token is likely.

    Trap: the data should be the teacher's own answers (`magpie`, `self_output` with it as the author), as in the paper;
    beside answers of others a sure teacher may be sure of something else.

    Trap: tokens are paired by their number, not by their text: where the tokenizers cut words differently the pairs
    drift apart along an answer. The teacher is asked at every step, and its weights take memory.

    Deviations from the paper: 1. the term is divided by the weight of all supervised tokens, as the likelihood is. 2.
    it is computed on the answers' tokens, never on prompts.

    Raises UsageError for a server, which hands out no distributions, and DataError where no row can be compared.
    """
    from mnemos.models.load import handle

    if coefficient == 0:
        return plan
    if "://" in teacher:
        raise UsageError(
            f"uld.teacher = {teacher}",
            "is a server, which hands out no whole distributions",
            "name a directory or hub id, or learn its answers instead (magpie, self_output)",
        )
    return dataclasses.replace(plan, objective=(*plan.objective, UniversalLogits(handle(teacher), coefficient)))
