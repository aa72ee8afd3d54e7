"""What the report prints, as frozen records: missing numbers are None, the order is fixed.

`reading.read` fills them from results.json. Nothing is computed that is not in the file except
means over seeds and the two coordinates of the learning-forgetting plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnemos.report.standing import Frontier, Sweep
from mnemos.report.words import clean, scaled

ROLES = {
    "new": "New: what was taught",
    "old": "Old: what it could do before",
    "health": "Health: how it behaves",
}
STREAMED = "Asked: what came along the stream"
"""The role new of agents, who are taught nothing."""
VERDICTS = ("gained", "lost", "kept", "cannot tell")
MOST_MOVED = 0.5
"""Points by which missing items may move an arm on the plane: less is not seen there."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one suite measures. before: mean, low, high of the untouched model on the shown scale."""

    name: str
    role: str
    kind: str = ""
    unit: str = "points"
    better: str = "higher"
    items: int | None = None
    tolerance: float | None = None
    fingerprint: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[float | None, float | None, float | None] = (None, None, None)
    missing: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One comparison. All numbers on the shown scale (points, bits, nats); delta = after - before
    with its raw sign. gain: delta turned so that positive is better. claim: what the verdict is about, the checkpoint
    or the way of training. notices: warnings on how far it can be trusted."""

    arm: str
    suite: str
    role: str
    unit: str
    better: str
    verdict: str
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None
    minimum_detectable: float | None
    p: float | None
    p_holm: float | None
    tolerance: float | None
    seeds: int
    items: int
    missing: int
    reasons: tuple[tuple[str, int], ...]
    method: str
    claim: str = ""
    notices: tuple[str, ...] = ()

    @property
    def gain(self) -> float | None:
        """delta, positive when better; None when missing."""
        return None if self.delta is None else self.delta * (-1.0 if self.better == "lower" else 1.0)

    @property
    def gain_interval(self) -> tuple[float, float] | None:
        """low and high of `gain`, in that order; None when missing."""
        if self.low is None or self.high is None:
            return None
        # Turned round, the ends change places.
        return (-self.high, -self.low) if self.better == "lower" else (self.low, self.high)

    @property
    def suspected(self) -> bool:
        """Whether its own interval shows a loss that is not proven once corrected for the number of suites."""
        ends = self.gain_interval
        return self.verdict == "cannot tell" and ends is not None and ends[1] < 0


@dataclass(frozen=True, slots=True)
class Applied:
    """One method of an arm's history. off: it changed nothing with these settings."""

    method: str
    paper: str
    settings: Mapping[str, Any]
    off: bool


@dataclass(frozen=True, slots=True)
class Writing:
    """Rows that a model wrote before a training. tokens: generated. counts: rows kept and dropped by
    reason. notes: how it went, by name."""

    source: str
    rows: int
    seconds: float | None
    tokens: int
    counts: Mapping[str, int]
    notes: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Run:
    """One arm at one seed. scores: mean per suite in the suite's own scale. losses: (step, loss). noted:
    what training noted beside the loss, name -> (step, value)."""

    seed: str
    fingerprint: str
    scores: Mapping[str, float | None]
    cost: Mapping[str, float | None]
    losses: tuple[tuple[float, float], ...]
    counts: Mapping[str, int]
    written: tuple[Writing, ...] = ()
    noted: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training: its methods in order, its runs, its comparisons in suite order."""

    name: str
    history: tuple[Applied, ...]
    runs: tuple[Run, ...]
    changes: tuple[Change, ...]

    def of(self, role: str) -> tuple[Change, ...]:
        """The comparisons on suites of one role."""
        return tuple(change for change in self.changes if change.role == role)

    def cost(self, key: str, how: Callable[[Sequence[float]], float] | None = None) -> float | None:
        """Mean over seeds (or `how`, e.g. max) of one cost; None when no run has it."""
        values = [found for run in self.runs if (found := run.cost.get(key)) is not None]
        if not values:
            return None
        return how(values) if how else sum(values) / len(values)

    @property
    def accepted_nothing(self) -> bool:
        """Whether it was to learn answers of the model's own and not one passed in any run, so that what was
        learned is the gold answers alone."""
        rates = [one.notes.get("acceptance rate") for run in self.runs for one in run.written]
        known = [rate for rate in rates if rate is not None]
        return bool(known) and max(known) == 0

    @property
    def counts(self) -> Counter[str]:
        """Rows kept and dropped by reason, summed over seeds."""
        total: Counter[str] = Counter()
        for run in self.runs:
            total.update(run.counts)
        return total


@dataclass(frozen=True, slots=True)
class Point:
    """One run on the learning-forgetting plane, in points: mean loss over the old suites (positive
    is forgotten) and mean gain on the new ones."""

    arm: int
    seed: str
    forgetting: float
    learning: float


@dataclass(frozen=True, slots=True)
class Grid:
    """The score matrix of one arm, in points, mean over seeds: before[j], rows[i][j] = score on task j
    after learning tasks 0..i, joint[j]. metrics: name -> (mean, low, high). order: which order of the
    tasks, in words, where there are several; pooled: the mean over these, which has metrics but no rows."""

    arm: str
    tasks: tuple[str, ...]
    before: tuple[float | None, ...]
    rows: tuple[tuple[float | None, ...], ...]
    joint: tuple[float | None, ...] | None
    seeds: int
    metrics: Mapping[str, tuple[float | None, float | None, float | None]]
    order: str = ""
    pooled: bool = False

    @property
    def title(self) -> str:
        """The arm, and its order where there are several."""
        return f"{self.arm}, {self.order}" if self.order else self.arm


@dataclass(frozen=True, slots=True)
class Flip:
    """One item before and after, chosen by rule (`why`)."""

    arm: str
    seed: str
    suite: str
    item: str
    prompt: str
    gold: str
    before: str
    after: str
    before_score: float | None
    after_score: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the report prints."""

    study: str
    created: str
    kind: str
    manifest: Mapping[str, Any]
    suites: tuple[Suite, ...]
    arms: tuple[Arm, ...]
    grids: tuple[Grid, ...]
    flips: tuple[Flip, ...]
    frontier: Frontier | None = None
    sweep: Sweep | None = None
    sections: Mapping[str, Any] = field(default_factory=dict)
    """Section -> its record (see `report.sections`)."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every comparison, arm by arm."""
        return tuple(change for arm in self.arms for change in arm.changes)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles present, in the fixed order new, old, health, then any other."""
        present = {change.role for change in self.changes}
        return tuple(role for role in (*ROLES, *sorted(present - set(ROLES))) if role in present)

    def heading(self, role: str) -> str:
        """The words over suites of a role; one that is not known is its own name."""
        return STREAMED if self.kind == "stream" and role == "new" else ROLES.get(role, role)

    @property
    def seeds(self) -> tuple[str, ...]:
        """Every seed that was run, in order of first appearance."""
        text = [clean(seed) for seed in self.manifest.get("seeds") or ()]
        return tuple(dict.fromkeys([*text, *(run.seed for arm in self.arms for run in arm.runs)]))


def plane(facts: Facts) -> tuple[list[Point], list[str]]:
    """Every run on the learning-forgetting plane, and sentences on what could not be placed.

    Only suites in points with a known score before enter; a run that lacks one of them is left
    out, because a mean over other suites would not be comparable. So is an arm of which items are missing on one
    side so that its means differ by something else than the change of its pairs: a loss would be drawn as a gain.
    """
    notes: list[str] = []
    use: dict[str, list[Suite]] = {}
    for role in ("new", "old"):
        of_role = [suite for suite in facts.suites if suite.role == role]
        use[role] = [suite for suite in of_role if suite.unit == "points" and suite.before[0] is not None]
        other = [suite.name for suite in of_role if suite.unit != "points"]
        unscored = [suite.name for suite in of_role if suite.unit == "points" and suite.before[0] is None]
        for out, why in ((other, "not measured in points"), (unscored, "without a score before")):
            if out:
                notes.append(f"Not on this plane, because {why}: {', '.join(out)}.")
    if not use["new"] or not use["old"]:
        return [], notes
    points = []
    for place, arm in enumerate(facts.arms):
        if moved := [suite.name for role in use for suite in use[role] if _moved(arm, suite)]:
            notes.append(f"{arm.name}: not drawn, items are missing on one side of {', '.join(moved)}.")
            continue
        for run in arm.runs:
            gains = {role: _gains(run, use[role]) for role in use}
            new, old = gains["new"], gains["old"]
            if new is None or old is None:
                notes.append(f"{arm.name}, seed {run.seed}: not drawn, a suite's score is missing.")
                continue
            # Means over suites, each counting once; forgetting is the negative gain.
            points.append(Point(place, run.seed, -sum(old) / len(old), sum(new) / len(new)))
    return points, notes


def _gains(run: Run, suites: Sequence[Suite]) -> list[float] | None:
    gains = []
    for suite in suites:
        after, before = scaled(run.scores.get(suite.name), suite.unit), suite.before[0]
        if after is None or before is None:
            return None
        gains.append((after - before) * (-1.0 if suite.better == "lower" else 1.0))
    return gains


def _moved(arm: Arm, suite: Suite) -> bool:
    """Whether missing items move the difference of the means visibly away from the change of the paired items."""
    change = next((one for one in arm.changes if one.suite == suite.name), None)
    if change is None or not change.missing or change.gain is None:
        return False
    each = [gain for run in arm.runs for gain in _gains(run, [suite]) or ()]
    return bool(each) and abs(sum(each) / len(each) - change.gain) > MOST_MOVED
