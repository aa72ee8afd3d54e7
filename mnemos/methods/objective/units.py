"""Tokens that stand for sound take no part in the likelihood of text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.patterns import Overtime, search
from mnemos.core.plan import Likelihood, Plan, Stage, StepView
from mnemos.sources.units import PATTERN

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextLikelihood:
    """The likelihood, but that in examples which teach none of the tokens `ids` these have no probability.

    pattern: which tokens these are, found as the stage begins.
    """

    pattern: str
    ids: tuple[int, ...] = ()
    old: None = dataclasses.field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> TextLikelihood:
        """With the ids of the tokens of the model before that match. UsageError where there are none."""
        from mnemos.weights.checkpoint import load_tokenizer

        path = stage.plan.before.path
        tokenizer = load_tokenizer(path, trust_remote_code=bool(getattr(stage.plan.before, "trust_remote_code", False)))
        ids = matching(tokenizer, self.pattern)
        if not ids:
            raise UsageError(
                f"mask_units.pattern = {self.pattern!r}",
                f"no added token of {path} is such a one",
                "extend the model first (mnemos tokenizer extend --tokens), or mend the pattern",
            )
        return dataclasses.replace(self, ids=ids)

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; nats per unit of weight, this micro-batch's summand of the step's mean."""
        import torch

        assert view.documents is not None, "which example a position is of must be known"
        of = view.documents.of
        device = view.targets.device
        ids = torch.tensor(self.ids, device=device)
        # bool[N]: whether the target is a unit; then of each example whether any of its targets is.
        taught = torch.isin(view.targets, ids)
        count = int(of.max()) + 1 if len(of) else 0
        sounding = torch.zeros(count, device=device).index_add(0, of, taught.float()) > 0

        def log_prob(logits: torch.Tensor, targets: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            wide = logits.float()
            # float32[n, V]: -inf at units where the example is text, so that the softmax is over text alone.
            bars = torch.zeros(wide.shape[-1], device=wide.device).index_fill(0, ids.to(wide.device), -torch.inf)
            wide = torch.where(text[:, None], wide + bars, wide)
            return -torch.nn.functional.cross_entropy(wide, targets, reduction="none")

        each = view.outputs.each(log_prob, view.targets, ~sounding[of])
        return (-each * view.weight).sum() / view.normaliser


def matching(tokenizer: Any, pattern: str) -> tuple[int, ...]:
    """The ids of a tokenizer's added tokens that a pattern matches whole, in their order. UsageError for a pattern
    that is none, or takes too long."""
    found = tokenizer.added_tokens_decoder
    try:
        return tuple(i for i in sorted(found) if search(rf"\A(?:{pattern})\Z", found[i].content, seconds=0.1))
    except (ValueError, Overtime) as error:
        why = str(error) or "takes too long"
        raise UsageError(
            f"mask_units.pattern = {pattern!r}", f"cannot be used ({why})", f"{PATTERN!r} is usual"
        ) from None


@method(paper="arXiv:2305.11000", changes={"objective"}, off={"where": "nowhere"})
def mask_units(
    plan: Plan,
    *,
    where: Literal["nowhere", "text"] = "text",
    pattern: Annotated[str, Field(min_length=1, max_length=200)] = PATTERN,
) -> Plan:
    r"""Leave the tokens of discrete units out of the softmax wherever text alone is learned.

    where: text masks them in examples that teach no unit, whatever their prompt holds (transcripts of units too).
    nowhere: the likelihood over all tokens.
    pattern: which added tokens are units, as a regular expression of the whole token.

    A model that reads sound as units has as many new rows in its output layer. With tied embeddings these compete
    with text from the first step on: each position of text pushes all of them away. Masked, they get no gradient from
    text at all, and the probability of text is the one that it had before they were added.

    Trap: nothing keeps the masked tokens out of what the model writes: extend it with `--suppress`, which leaves them
    out of answers and of the likelihood of suites too.

    Trap: weight decay moves their rows all the same. Fisher information, gradient projection and evaluation on the
    way look at the likelihood over all tokens.

    Deviation from the paper: 1. it adds 1,000 units and masks none; the mask is what it leaves out.

    Raises UsageError where the likelihood is not part of the objective, and when training begins and no token matches.
    """
    if where == "nowhere":
        return plan
    if Likelihood() not in plan.objective:
        raise UsageError(
            f"mask_units with objective {', '.join(type(term).__name__ for term in plan.objective)}",
            "there is no likelihood to mask units in",
            "use mask_units once, and without a method that puts another objective in the likelihood's place",
        )
    objective = tuple(TextLikelihood(pattern) if term == Likelihood() else term for term in plan.objective)
    return dataclasses.replace(plan, objective=objective)
