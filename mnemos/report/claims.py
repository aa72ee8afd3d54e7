"""What the verdicts of a report are about: a checkpoint, or a way of training."""

from __future__ import annotations

from mnemos.report.facts import Facts
from mnemos.report.words import listing

CLAIMS = ("about this checkpoint", "about this way of training")
"""Of one seed, and of several, for files that do not say it."""


def claim_words(facts: Facts) -> str:
    """What the verdicts are about, in one sentence; empty where nothing was compared."""
    if not facts.changes:
        return ""
    if facts.kind == "compare":
        return "Verdicts are about these two checkpoints, not about the way in which the second was trained."
    if facts.kind == "stream":
        orders = len(facts.seeds)
        return (
            "Verdicts cover the orders of the stream." if orders > 1 else "One order: another may come out otherwise."
        )
    claims = {arm.name: arm.changes[0].claim for arm in facts.arms if arm.changes}
    several = [name for name, claim in claims.items() if claim == CLAIMS[1]]
    single = [name for name in claims if name not in several]
    if not single:
        return "Verdicts are about this way of training: they cover its seeds."
    one = "One seed: verdicts are about this checkpoint, not about this way of training"
    if not several:
        return f"{one}; several seeds tell about that."
    return f"{one} ({listing(single)}). Several seeds: about this way of training ({listing(several)})."
