"""Learning rates that are usual for supervised training, by the size of the model.

| parameters | full, to begin with | usual | where it comes from |
|---|---|---|---|
| below 20 M | 3e-4 | 3e-5 to 3e-3 | the shipped patients' own recipes |
| to 300 M | 5e-5 | 1e-5 to 3e-4 | BERT: 2e-5 to 5e-5 (arXiv:1810.04805) |
| to 3 B | 2e-5 | 3e-6 to 6e-5 | Llama 2 chat: 2e-5 (arXiv:2307.09288); benign fine-tuning: 2e-5 (arXiv:2310.03693) |
| to 20 B | 1e-5 | 1e-6 to 3e-5 | Tülu 3 of 8 B: 5e-6 (arXiv:2411.15124); Llama 2 chat |
| above | 5e-6 | 5e-7 to 2e-5 | Tülu 3 of 70 B: 2e-6 |

LoRA and DoRA take ten times the full rate: the best LoRA rate of instruction tuning lies about ten times above the
best full one (arXiv:2405.09673), over ranks and model sizes alike (Schulman et al. 2025, LoRA Without Regret,
doi:10.64434/tml.20250929). The bands are wide on purpose: a rate outside of one is worth a second look, not wrong.
They are AdamW's; on-policy training and preferences take smaller rates (`unusual` says nothing against those).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnemos.core.plan import Plan
from mnemos.train import draws

LORA_FACTOR = 10.0
"""How many times the full rate an adapter of low rank takes."""


@dataclass(frozen=True)
class Band:
    """most: parameters up to which it holds. start: what to begin with. low, high: what is usual; all of full
    fine-tuning. source: who used such rates."""

    most: float
    start: float
    low: float
    high: float
    source: str


BANDS = (
    Band(20e6, 3e-4, 3e-5, 3e-3, "the shipped patients' recipes"),
    Band(300e6, 5e-5, 1e-5, 3e-4, "arXiv:1810.04805"),
    Band(3e9, 2e-5, 3e-6, 6e-5, "arXiv:2307.09288, arXiv:2310.03693"),
    Band(20e9, 1e-5, 1e-6, 3e-5, "arXiv:2307.09288, arXiv:2411.15124"),
    Band(float("inf"), 5e-6, 5e-7, 2e-5, "arXiv:2411.15124"),
)


def band(parameters: int) -> Band:
    """The row of the table for a model of so many parameters."""
    return next(one for one in BANDS if parameters <= one.most)


def starting_rate(parameters: int, *, lora: bool = False) -> float:
    """What to begin with."""
    return band(parameters).start * (LORA_FACTOR if lora else 1.0)


def unusual(plan: Plan, parameters: int) -> str | None:
    """What to say of the plan's learning rate where it lies outside of what is usual; None where it does not, or where
    no table knows: other optimisers than AdamW, (IA)³, and low rates of other draws than the data's own answers."""
    kind = _kind(plan.trainable)
    if kind is None or not str(plan.train.optim).startswith("adamw"):
        return None
    rate = plan.train.learning_rate if plan.trainable.learning_rate is None else plan.trainable.learning_rate
    factor = LORA_FACTOR if kind == "adapter" else 1.0
    row = band(parameters)
    low, high = row.low * factor, row.high * factor
    if rate > high:
        side = "above"
    elif rate < low and draws.known(plan.draw).likelihood:
        side = "below"
    else:
        return None
    way = "LoRA takes ten times the full rate, arXiv:2405.09673" if kind == "adapter" else row.source
    what = "a low-rank adapter on" if kind == "adapter" else "full fine-tuning of"
    return (
        f"learning_rate {rate:g} is {side} what is usual for {what} {size(parameters)} parameters: "
        f"{low:g} to {high:g} ({way}); begin with {row.start * factor:g}"
    )


def size(parameters: int) -> str:
    """Like "494 M" and "1.3 B"."""
    unit, word = (1e9, "B") if parameters >= 1e9 else (1e6, "M")
    return f"{parameters / unit:.3g} {word}"


def _kind(trainable: Any) -> str | None:
    if getattr(trainable, "kind", None) in ("lora", "dora"):
        return "adapter"
    # (IA)³ trains scales, whose rates are of another order.
    return None if type(trainable).__name__ == "Rescaled" else "full"
