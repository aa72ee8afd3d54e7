"""Whether an ordering of two arms says anything: an arm that learned nothing forgets less than any other.

Asked of an ordering, read as "the arm is better" or "worse" at learning or at keeping:

learning   The arm must have learned something, or the ordering be refuted. Where it is to learn no less, no more or
           as much as the other, the other must have learned something too.
keeping    Whoever keeps more must have learned something, or have gained what is said to be kept: to do nothing is
           no way of training. Of the mean over old suites, the other one must have lost something.

Something is learned, lost or gained where the arm's own 95 % interval lies away from zero, or a suite's verdict says
so; a reward that rose while training is learning, and what an arm with new pieces learned is told from the model that
was given them. What a study did not measure is not asked for, and nothing of this of agents on a stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

BEFORE, JOINT = "before", "joint"

Way = Literal["better", "worse", "no worse", "no better", "same"]
_WAYS: dict[str, Way] = {
    "higher": "better",
    "lower": "worse",
    "not_lower": "no worse",
    "not_higher": "no better",
    "same": "same",
}
_TURNED: dict[Way, Way] = {
    "better": "worse",
    "worse": "better",
    "no worse": "no better",
    "no better": "no worse",
    "same": "same",
}


def why_empty(
    results: Mapping[str, Any], arm: str, than: str, measure: str, expect: str, low: float | None, high: float | None
) -> str:
    """Why an ordering says nothing; empty where it does say something.

    than: the other arm, `before` or `joint`. measure: learned, forgotten or a suite. expect: lower, higher, same,
    not_lower, not_higher. low, high: of the arm minus the other.
    """
    if results.get("kind") == "stream":
        # Agents are asked, and not taught: one that learns nothing is a way of answering like any other.
        return ""
    row: Mapping[str, Any] = next((row for row in results.get("comparisons") or () if row["suite"] == measure), {})
    role = {"learned": "new", "forgotten": "old"}.get(measure, str(row.get("role")))
    turned = measure == "forgotten" or row.get("better") == "lower"
    way = _TURNED[_WAYS[expect]] if turned else _WAYS[expect]
    shown: Way | None = None
    if low is not None and high is not None and (low > 0 or high < 0):
        shown = "better" if (low > 0) != turned else "worse"
    if role == "new":
        return _learning(results, arm, than, way, shown)
    return _keeping(results, arm, than, measure, way, shown) if role == "old" else ""


def _learning(results: Mapping[str, Any], arm: str, than: str, way: Way, shown: Way | None) -> str:
    refuted = (way in ("better", "no worse", "same") and shown == "worse") or (way == "no better" and shown == "better")
    if than == BEFORE or refuted:
        return ""
    if learned(results, arm) is False:
        return _nothing(arm)
    if way in ("no worse", "no better", "same") and learned(results, than) is False:
        return _nothing(than)
    return ""


def _keeping(results: Mapping[str, Any], arm: str, than: str, measure: str, way: Way, shown: Way | None) -> str:
    # What is proven counts before what is expected: a refuted ordering is the opposite one, held.
    keeps = arm if (shown or way) in ("better", "no worse", "same") else than
    loses = than if keeps == arm else arm
    if BEFORE in (keeps, loses):
        # Beside the untouched model a proven loss needs nothing more, and nothing lost means nothing untaught.
        return "" if shown == "worse" or learned(results, arm) is not False else _nothing(arm)
    if learned(results, keeps) is False and not _gained(results, keeps, measure):
        return f"{_nothing(keeps)}: to forget less is then no merit"
    if measure == "forgotten" and lost_something(results, loses) is False:
        return f"{loses} is not shown to have lost anything, so that there was nothing to keep"
    return ""


def _nothing(arm: str) -> str:
    return f"{arm} is not shown to have learned anything"


def learned(results: Mapping[str, Any], arm: str) -> bool | None:
    """Whether an arm is shown to have learned something; None where no new suite and no reward was measured."""
    curves = (results.get("trajectory") or {}).get("arms") or ()
    rises = [(curve.get("rise") or {}).get("low") for curve in curves if curve["arm"] == arm]
    if any(low is not None and low > 0 for low in rises):
        return True
    began = [one for one in (results.get("beside") or {}).values() if arm in (one.get("since") or {})]
    if began:
        # New pieces cost more at first than little text brings back, and a model that an earlier study taught may have
        # nothing left to gain: what an arm learned is told from there.
        means = [(one.get("learned") or {}).get(arm, {}).get("low") for one in began]
        gained = [row for one in began for row in one["since"][arm] if row.get("role") == "new"]
        return any(low is not None and low > 0 for low in means) or any(
            row.get("verdict") == "gained" for row in gained
        )
    return _shown(results, arm, "learned", "new", "gained")


def lost_something(results: Mapping[str, Any], arm: str) -> bool | None:
    """Whether an arm is shown to have lost something of the old suites; None where there are none."""
    return _shown(results, arm, "forgotten", "old", "lost")


def _gained(results: Mapping[str, Any], arm: str, measure: str) -> bool:
    """Whether an arm itself is proven better on a suite than the model before."""
    for row in results.get("comparisons") or ():
        if row["arm"] == arm and row["suite"] == measure and row.get("low") is not None and row.get("high") is not None:
            return bool(row["high"] < 0 if row.get("better") == "lower" else row["low"] > 0)
    return False


def _shown(results: Mapping[str, Any], arm: str, mean: str, role: str, verdict: str) -> bool | None:
    points = (results.get("frontier") or {}).get("points") or ()
    lows = [point[mean].get("low") for point in points if point["arm"] == arm and mean in point]
    verdicts = [
        row.get("verdict")
        for row in results.get("comparisons") or ()
        if row["arm"] == arm and row.get("role") == role and "verdict" in row
    ]
    if not lows and not verdicts:
        return None
    return any(low is not None and low > 0 for low in lows) or verdict in verdicts
