"""Which arm to take, and why, in two sentences; from results.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.report.facts import Facts
from mnemos.report.standing import Frontier, Interval, Standing
from mnemos.report.words import figure, interval, listing

EVERY = 200
"""Names that a sentence may list: every dominated arm is named."""


@dataclass(frozen=True)
class Advice:
    """order: every arm, the one to take first. take: that arm, None where none can be recommended.
    sentences: why. rows: (arm, learned, forgot, standing) in words, in that order."""

    order: tuple[str, ...]
    take: str | None
    sentences: tuple[str, str]
    rows: tuple[tuple[str, str, str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """What `--format json` prints."""
        return {
            "order": list(self.order),
            "take": self.take,
            "why": " ".join(self.sentences),
            "arms": [dict(zip(("arm", "learned", "forgot", "standing"), row, strict=True)) for row in self.rows],
        }


def advise(facts: Facts) -> Advice:
    """Order the arms of a study by their frontier, or by average accuracy where it is a sequence
    without old suites. One seed orders checkpoints and recommends nothing.
    Raises UsageError where results.json holds neither."""
    found = facts.sweep.frontier if facts.sweep and facts.sweep.frontier else facts.frontier
    if found is not None:
        return _with_seeds(_by_frontier(found), facts)
    if facts.grids:
        return _with_seeds(_by_accuracy(facts), facts)
    raise UsageError(
        f"{facts.study}",
        "has no frontier: it needs an arm, a new and an old suite in points",
        "add suites.new and suites.old and run the study again: finished steps are kept",
    )


def _with_seeds(advice: Advice, facts: Facts) -> Advice:
    """The advice, with nothing to take where every arm was trained once: another seed may turn the order round."""
    if advice.take is None or max((len(arm.runs) for arm in facts.arms), default=0) > 1:
        return advice
    first = (
        f"Nothing can be recommended from one seed: its numbers are about that checkpoint, not about this way of "
        f"training; run it again with several (seeds: [0, 1, 2]). Of these checkpoints {advice.take} comes first."
    )
    return replace(advice, take=None, sentences=(first, advice.sentences[1]))


def ranked(frontier: Frontier) -> list[Standing]:
    """The knee first, then the rest of the frontier by balance, then what remains, front by front."""
    left, out = list(frontier.points), []
    while left:
        names = {point.arm for point in left}
        # `or left`: a file in which dominance runs in a circle must not keep the loop from ending.
        front = [point for point in left if not names & set(point.dominated_by)] or left
        out += sorted(front, key=lambda point: -(point.balance[0] or 0.0))
        left = [point for point in left if point not in front]
    return sorted(out, key=lambda point: point.arm != frontier.knee)


def _by_frontier(frontier: Frontier) -> Advice:
    order = ranked(frontier)
    rows = tuple(
        (point.arm, shown(point.learned), shown(point.forgotten), standing_words(frontier, point)) for point in order
    )
    sentences = (_first(frontier, order), _second(order))
    return Advice(tuple(point.arm for point in order), frontier.knee, sentences, rows)


def shown(numbers: Interval) -> str:
    """ "92.1 [90.0, 94.2]"."""
    mean, low, high = numbers
    return f"{figure(mean, 'points')} {interval(low, high, 'points')}".rstrip()


def standing_words(frontier: Frontier, point: Standing) -> str:
    """One arm's place in a few words."""
    if point.arm == frontier.knee:
        return f"the knee ({_often(point)})"
    words = [] if point.proven else ["not proven to have learned"]
    if point.proven_by:
        words.append(f"dominated by {listing(point.proven_by, at_most=3)}: proven")
    elif point.dominated_by:
        words.append(f"dominated by {listing(point.dominated_by, at_most=3)} in the means: cannot tell")
    else:
        words.append("on the frontier")
    if _rival(frontier, point):
        words.append(f"cannot tell from the knee ({_often(point)})")
    return ", ".join(words)


def _often(point: Standing) -> str:
    return f"{100 * point.chosen:.0f} % of resamples"


def _rival(frontier: Frontier, point: Standing) -> bool:
    return frontier.knee not in (None, point.arm) and point.proven and not point.below_knee


def _first(frontier: Frontier, order: Sequence[Standing]) -> str:
    knee = frontier.of(frontier.knee) if frontier.knee is not None else None
    if knee is None:
        return f"Nothing can be recommended: {frontier.why_not or 'no arm fits the rule'}."
    able = sum(point.proven for point in order)
    rivals = sorted((point for point in order if _rival(frontier, point)), key=lambda point: -point.chosen)
    among = (
        f"the best balance of learned minus forgotten ({shown(knee.balance)}) of the {able} arms proven to have learned"
        if able > 1
        else "the only arm proven to have learned"
    )
    sure = f"it is the choice in {100 * knee.chosen:.0f} % of {frontier.draws:,} resamples"
    if rivals:
        sure += f", and one cannot tell it from {listing([point.arm for point in rivals], at_most=6)}"
    return (
        f"Take {knee.arm}: it learned {shown(knee.learned)} and forgot {shown(knee.forgotten)} points, {among}; {sure}."
    )


def _second(order: Sequence[Standing]) -> str:
    proven = [point.arm for point in order if point.proven_by]
    open_ = [point.arm for point in order if point.dominated_by and not point.proven_by]
    if not proven and not open_:
        return "No arm is dominated: each that forgot less also learned less."
    parts = []
    if proven:
        parts.append(f"dominated, proven by another arm that learned no less and forgot no more: {_all(proven)}")
    if open_:
        parts.append(f"dominated in the means, but at this sample size one cannot tell: {_all(open_)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _all(names: Sequence[str]) -> str:
    return listing(names, at_most=EVERY)


def _by_accuracy(facts: Facts) -> Advice:
    """A sequence without old suites: its earlier tasks are what can be forgotten."""
    whole = {grid.arm: grid for grid in facts.grids if grid.pooled or not any(g.pooled for g in facts.grids)}
    nothing: Interval = (None, None, None)
    scores = {arm: grid.metrics.get("average_accuracy", nothing) for arm, grid in whole.items()}
    order = sorted(scores, key=lambda arm: -(scores[arm][0] or 0.0))
    top = scores[order[0]]
    level = [arm for arm in order[1:] if _overlap(scores[arm], top)]
    below = [arm for arm in order[1:] if arm not in level]
    first = (
        f"Take {order[0]}: after the last task it stands at {shown(top)} points on average, the highest; the study has "
        "no old suites, so arms are ordered by average accuracy."
    )
    parts = [f"intervals that overlap with its own, so that one cannot tell: {_all(level)}"] if level else []
    parts += [f"below it, with intervals that do not overlap: {_all(below)}"] if below else []
    second = "; ".join(parts) or "there is no other arm"
    rows = []
    for arm in order:
        forgot = whole[arm].metrics.get("forgetting", nothing)
        place = "first" if arm == order[0] else "cannot tell from the first" if arm in level else "below the first"
        rows.append((arm, shown(scores[arm]), shown(forgot), place))
    return Advice(tuple(order), order[0], (first, f"{second[0].upper()}{second[1:]}."), tuple(rows))


def _overlap(a: Interval, b: Interval) -> bool:
    # Without an interval nothing can be told apart.
    if a[2] is None or b[1] is None:
        return True
    return a[2] >= b[1]


def text(advice: Advice) -> str:
    """The advice for a terminal or a file: two sentences and one line an arm."""
    head = ("arm", "learned", "forgot", "standing")
    table = [head, *advice.rows]
    widths = [max(len(row[place]) for row in table) for place in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in table
    ]
    return "\n".join([*advice.sentences, "", *lines])


def recommend(results: Mapping[str, Any]) -> Advice:
    """The advice on the content of a results.json."""
    from mnemos.report.reading import read

    return advise(read(results))
