"""The proof: the chosen arm on items that took no part in the choice, asked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnemos.measure.compare import Comparison
from mnemos.measure.gate import CANNOT_TELL, KEPT, LOST, Decision, gate
from mnemos.measure.race import means as learned_and_forgotten
from mnemos.study.results.assemble import compare_arm, measured
from mnemos.study.steps import as_before
from mnemos.study.teach.look import Look
from mnemos.study.teach.propose import Proposal, study_of
from mnemos.study.teach.race import Carried, Means, Raced, carry

Outcome = Literal["handed over", "lost", "cannot tell"]
CODES: dict[Outcome, int] = {"handed over": KEPT, "lost": LOST, "cannot tell": CANNOT_TELL}


@dataclass(frozen=True)
class Proof:
    """What held-out items show. outcome: what follows from the gate's words and the gain. comparisons: of the model to
    be handed over, which is that of the first seed. decision: of the gate over the old suites; None where there are
    none in the study. reasons: for the outcome, in words. development, held_out: points learned and lost, the former on
    the items by which the arm was chosen. carried: the study with all seeds."""

    outcome: Outcome
    comparisons: tuple[Comparison, ...]
    decision: Decision | None
    reasons: tuple[str, ...]
    development: tuple[float, float]
    held_out: tuple[float, float]
    carried: Carried

    @property
    def optimism(self) -> float:
        """Points of balance by which the choice flattered itself."""
        return (self.development[0] - self.development[1]) - (self.held_out[0] - self.held_out[1])


def prove(
    raced: Raced, proposal: Proposal, look: Look, model: str, means: Means, *, max_loss: float, seed: int
) -> Proof:
    """Measure the chosen arm on held-out items, with as many seeds as the schedule has. max_loss: in points."""
    arm, seeds = raced.chosen, range(seed, seed + proposal.schedule.seeds)
    study = study_of(
        look,
        model,
        [arm],
        proposal.train,
        proposal.proof_items,
        "held_out",
        name="proof",
        seeds=list(seeds),
        health=True,
    )
    carried = carry(study, means.root / "proof", means)
    experiment = carried.experiment
    first = next(run for run in experiment.runs if run.seed == seed)
    before = measured(experiment.before_step, means.root)
    after = {name: one.scores for name, one in measured(first.last.measure, means.root).items()}
    unmoved = as_before(first.last.measure.key, means.root)
    compared = compare_arm(experiment, arm.name, before, {seed: after}, unmoved)
    old = [one for one in compared if one.role == "old"]
    decision = gate(compared, max_loss=max_loss) if old else None
    outcome, reasons = judged(compared, decision)
    return Proof(
        outcome,
        tuple(compared),
        decision,
        reasons,
        learned_and_forgotten([raced.scores], [arm.name], arm.name),
        learned_and_forgotten([carried.scores([arm.name])], [arm.name], arm.name),
        carried,
    )


def judged(compared: Sequence[Comparison], decision: Decision | None) -> tuple[Outcome, tuple[str, ...]]:
    """handed over: the gate keeps every old suite and a gain on a new one is proven, none proven lost. lost: the gate
    proves a loss, or a new suite is proven worse. cannot tell otherwise. With the reasons, worst first."""
    new = [one for one in compared if one.role == "new"]
    reasons = list(decision.reasons) if decision is not None else ["no old suite had anything to lose"]
    gained = [one for one in new if one.verdict == "gained"]
    worse = [one for one in new if one.verdict == "lost"]
    for one in worse:
        reasons.insert(0, f"{one.suite}: what was to be taught is proven worse than before")
    if not gained and not worse:
        reasons.insert(0, f"{', '.join(one.suite for one in new)}: no gain is proven")
    code = decision.exit_code if decision is not None else KEPT
    if code == LOST or worse:
        return "lost", tuple(reasons)
    return ("handed over" if gained and code == KEPT else "cannot tell"), tuple(reasons)


def lines(proof: Proof) -> list[str]:
    """The proof in words: every suite, how much the choice flattered itself, and the reasons."""
    width = max(len(one.suite) for one in proof.comparisons)
    out = [_line(one, width) for one in proof.comparisons if one.role != "health"]
    learned, lost = proof.held_out
    hoped, cost = proof.development
    out.append(
        f"        held-out: learned {100 * learned:+.1f}, lost {100 * lost:+.1f}; development had said "
        f"{100 * hoped:+.1f} and {100 * cost:+.1f}: optimism {100 * proof.optimism:+.1f} points"
    )
    return out + [f"        {reason}" for reason in proof.reasons]


def _line(one: Comparison, width: int) -> str:
    if one.delta is None or one.before is None or one.after is None:
        return f"        {one.suite:<{width}}  {one.verdict} ({one.method})"
    digits = 1 if one.unit == "points" else 3
    before, after, delta = (f"{one.scale * value:.{digits}f}" for value in (one.before, one.after, one.delta))
    ends = [value for value in (one.low, one.high) if value is not None and math.isfinite(value)]
    interval = f" [{one.scale * ends[0]:+.{digits}f}, {one.scale * ends[1]:+.{digits}f}]" if len(ends) == 2 else ""
    sign = "" if one.delta < 0 else "+"
    unit = "" if one.unit == "points" else f" {one.unit}"
    return (
        f"        {one.suite:<{width}}  {one.role}  {before} -> {after}{unit}  {sign}{delta}{interval}  {one.verdict}"
    )


def needed(proof: Proof) -> list[str]:
    """What would be needed for another answer, in words."""
    out = []
    for finding in proof.decision.findings if proof.decision is not None else ():
        if finding.outcome == CANNOT_TELL and finding.items_needed:
            out.append(f"{finding.suite}: about {finding.items_needed:,} held-out items")
        elif finding.outcome == LOST:
            out.append(f"{finding.suite}: old rows of this kind to rehearse (--old-rows), or a larger --max-loss")
    if not any(one.verdict == "gained" for one in proof.comparisons if one.role == "new"):
        out.append("the new suite: more rows, a larger budget, or more items to see the gain with")
    return out


def as_dict(proof: Proof) -> dict[str, Any]:
    """For JSON."""
    return {
        "outcome": proof.outcome,
        "reasons": list(proof.reasons),
        "needed": needed(proof),
        "development": list(proof.development),
        "held_out": list(proof.held_out),
        "comparisons": [one.as_dict() for one in proof.comparisons],
    }
