"""The gate of a release: kept, lost (proven), or cannot tell at this sample size."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.measure.compare import Comparison
from mnemos.measure.uncertainty import ALPHA

KEPT, LOST, CANNOT_TELL = 0, 3, 4
MOST_MISSING = 0.05
"""Share of items without a score above which a suite is not called kept: the losses may be there."""


@dataclass(frozen=True)
class Finding:
    """One suite at the gate. outcome: 0 kept, 3 lost, 4 cannot tell. limit: the largest loss allowed,
    in the suite's own scale. items_needed: about how many would decide it, None where that is
    unknown or settled. reason: in words."""

    arm: str
    suite: str
    outcome: int
    limit: float
    reason: str
    items_needed: int | None = None


@dataclass(frozen=True)
class Decision:
    """exit_code: 3 if any suite is lost, else 4 if any cannot be told, else 0. findings: worst first."""

    exit_code: int
    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a suite, worst first."""
        return tuple(finding.reason for finding in self.findings)


def gate(
    comparisons: Iterable[Comparison | Mapping[str, Any]],
    *,
    max_loss: float = 2.0,
    roles: Collection[str] = ("old",),
) -> Decision:
    """Decide by intervals. max_loss: the largest loss allowed on any suite, in points; suites in
    another unit (bits, nats) are held to their own tolerance. roles: which suites are gated.

    A suite is lost when its whole interval is a larger loss than allowed and the loss is significant
    after Holm's correction; kept when its whole interval is a smaller one and at most 5 % of its
    items lack a score; otherwise the sample cannot tell. Two given models: the decision is about these checkpoints,
    not about how the second was trained. Raises UsageError where nothing is gated.
    """
    if not max_loss >= 0:
        raise UsageError(f"max_loss = {max_loss:g}", "must not be negative", "2 allows two points")
    entries = [c.as_dict() if isinstance(c, Comparison) else dict(c) for c in comparisons]
    gated = [entry for entry in entries if entry["role"] in roles]
    if not gated:
        raise UsageError("the gate", f"has no suite of role {', '.join(roles)}", "name suites that must not lose")
    # Findings stand worst first, and the first one decides the exit code.
    order = {LOST: 0, CANNOT_TELL: 1, KEPT: 2}
    findings = sorted((_finding(entry, max_loss) for entry in gated), key=lambda finding: order[finding.outcome])
    return Decision(findings[0].outcome, tuple(findings))


def _finding(entry: Mapping[str, Any], max_loss: float) -> Finding:
    limit = max_loss / 100 if entry["unit"] == "points" else float(entry["tolerance"])
    outcome, reason, needed = _outcome(entry, limit)
    return Finding(entry["arm"], entry["suite"], outcome, limit, f"{entry['suite']}: {reason}", needed)


def _outcome(entry: Mapping[str, Any], limit: float) -> tuple[int, str, int | None]:
    low, high = entry["low"], entry["high"]
    if entry["method"] == "identical model":
        return KEPT, "kept: the same model", None
    if low is None or high is None:
        return CANNOT_TELL, f"cannot tell: {entry['method']}", None
    # Of the loss, positive where it is one; exchanged where higher is better.
    smallest, largest = (-high, -low) if entry["better"] == "higher" else (low, high)
    allowed = amount(limit, entry["unit"])
    estimate = f"loss between {amount(smallest, entry['unit'])} and {amount(largest, entry['unit'])}, {allowed} allowed"
    if smallest > limit and entry["p_holm"] is not None and entry["p_holm"] < ALPHA:
        return LOST, f"lost: {estimate}", None
    if smallest > limit:
        p = "" if entry["p_holm"] is None else f": p = {entry['p_holm']:.3f}"
        text = f"cannot tell: {estimate}, but not proven once corrected for the number of suites{p}"
        return CANNOT_TELL, f"{text}; gate fewer suites or measure more items", None
    missing, items = entry["missing"], entry["items"]
    if largest <= limit:
        # Only "kept" can be spoiled by missing items: a loss that is proven without them stays proven.
        if missing > MOST_MISSING * (items + missing):
            return CANNOT_TELL, f"cannot tell: {missing} of {items + missing} items have no score", None
        return KEPT, f"kept: {estimate}", None
    needed = _needed(items, smallest, largest, limit)
    more = f"; about {needed:,} items would decide it" if needed else "; the loss sits at the limit"
    return CANNOT_TELL, f"cannot tell: {estimate}{more}", needed


def _needed(items: int, smallest: float, largest: float, limit: float) -> int | None:
    """Items at which the interval, shrinking as 1/sqrt(items), would end at the limit."""
    # half sqrt(items / needed) = off, the distance from the middle of the interval to the limit.
    half, off = (largest - smallest) / 2, abs((largest + smallest) / 2 - limit)
    if off < half / 30:
        return None  # beyond 900 times as many items, the guess says nothing
    return max(items + 1, math.ceil(items * (half / off) ** 2))


def amount(value: float, unit: str) -> str:
    """A number with its unit, points as percent points: 0.031 -> "3.1 points"."""
    # Nought has no sign: -0.0 + 0.0 is 0.0.
    return f"{round(100 * value, 1) + 0.0:.1f} points" if unit == "points" else f"{value + 0.0:.3g} {unit}"
