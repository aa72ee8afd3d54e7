"""A whole study in one or two sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mnemos.report.facts import Arm, Change, Facts
from mnemos.report.verdicts import TONES, every, old_changes, tone
from mnemos.report.words import counted, figure, listing

MANY = 2
"""Names up to which each stands in the headline; beyond, arms are counted."""


def headline(facts: Facts) -> str:
    """The whole study in one or two sentences, names and numbers only from the comparisons."""
    arms = [arm for arm in facts.arms if arm.changes]
    if not arms:
        return "Nothing was compared."
    if facts.kind == "stream":
        return _stream_sentence(arms)
    if facts.kind == "compare" or not any(arm.of("new") for arm in arms):
        return (
            _kept_by_many(arms) if len(arms) > MANY else " ".join(_kept_sentence(a, alone=len(arms) == 1) for a in arms)
        )
    plain = next((arm for arm in arms if arm.name == "plain"), None)
    # The joint arm sees every task at once: a reference for a sequence, not a way to choose.
    others = [arm for arm in arms if arm is not plain and arm.name != "joint"]
    text = [_plain_sentence(plain)] if plain else []
    learners = [arm for arm in others if _learned_any(arm)]
    keepers = [arm.name for arm in learners if tone(arm) == "kept"]
    unproven = [arm.name for arm in learners if tone(arm) == "unclear"]
    too = " too" if plain and _learned_any(plain) else ""
    if keepers:
        kept = " and kept every old suite" if any(old_changes(arm) for arm in learners) else ""
        text.append(f"{listing(keepers, at_most=4)} learned{too}{kept}.")
    elif unproven:
        unsure = [arm for arm in learners if arm.name in unproven]
        text.append(f"{listing(unproven, at_most=4)} learned{too}, with no loss proven{_suspected_of(unsure)}.")
    elif learners:
        least = min(learners, key=_mean_loss).name
        everyone = f"Every {'other ' if plain else ''}arm that learned lost something too; {least} lost least."
        text.append(everyone if len(learners) > 1 else f"{least} learned{too} and lost something as well.")
    elif others:
        text.append(f"No {'other ' if plain else ''}arm is proven to have learned.")
    return " ".join([*text, *_sequence_sentence(facts)])


def _stream_sentence(arms: Sequence[Arm]) -> str:
    """Agents against zero-shot, the first arm."""
    groups = {verdict: [arm.name for arm in arms[1:] if arm.changes[0].verdict == verdict] for verdict in TONES}
    parts = [f"{listing(groups['gained'], at_most=4)} did better than {arms[0].name}"] if groups["gained"] else []
    parts += [f"{listing(groups['lost'], at_most=4)} did worse"] if groups["lost"] else []
    parts += [f"{listing(groups['kept'], at_most=4)} did the same"] if groups["kept"] else []
    unclear = groups["cannot tell"]
    parts += [f"of {listing(unclear, at_most=4)} this many questions cannot tell"] if unclear else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else f"Only {arms[0].name} was streamed."


def _sequence_sentence(facts: Facts) -> list[str]:
    moved = [
        (grid.arm, grid.metrics["backward_transfer"])
        for grid in facts.grids
        if "backward_transfer" in grid.metrics and (grid.pooled or not grid.order)
    ]
    # Only what is proven: a mean below 0 may be nothing but the seeds.
    lost = [
        f"{figure(-mean, 'points')} points under {arm}"
        for arm, (mean, _, high) in moved
        if mean is not None and high is not None and high < 0
    ]
    return [f"Once later tasks were taught, earlier ones lost {listing(lost, at_most=4)}."] if lost else []


def _learned_any(arm: Arm) -> bool:
    return any(change.verdict == "gained" for change in arm.of("new"))


def _mean_loss(arm: Arm) -> float:
    """Points lost per old suite on average, to name the arm that lost least."""
    # Bits and nats have another scale and cannot enter one mean with points.
    gains = [change.gain for change in arm.of("old") if change.unit == "points" and change.gain is not None]
    return -sum(gains) / len(gains) if gains else math.inf


def _plain_sentence(arm: Arm) -> str:
    new, old = arm.of("new"), old_changes(arm)
    gained = [change for change in new if change.verdict == "gained"]
    lost = [change for change in old if change.verdict == "lost"]
    count = every(len(new)) if len(gained) == len(new) else f"{len(gained)} of {len(new)}"
    what = gained[0].suite if len(new) == 1 and gained else f"{count} new suites"
    did = f"learned {what}" if gained else "is not proven to have learned anything"
    if lost:
        return f"Plain training {did} {'but' if gained else 'and'} lost {_part(lost, old)}."
    kept = old and all(change.verdict in ("kept", "gained") for change in old)
    doubt = f"; no loss is proven{_suspected_of([arm], alone=True)}" if old else ""
    return f"Plain training {did}{' and kept every old suite' if kept else doubt}."


def _suspected_of(arms: Sequence[Arm], *, alone: bool = False) -> str:
    """Behind "no loss proven": the suites whose own interval shows one, each with its arm unless there is one only."""
    found = [(arm.name, [change.suite for change in old_changes(arm) if change.suspected]) for arm in arms]
    text = [f"{listing(suites, at_most=3)}{'' if alone else f' under {name}'}" for name, suites in found if suites]
    return f" beside the other suites, but shown alone on {listing(text, at_most=4)}" if text else ""


def _part(some: Sequence[Change], whole: Sequence[Change]) -> str:
    if len(some) == 1:
        return some[0].suite
    return f"{every(len(whole)) if len(some) == len(whole) else f'{len(some)} of {len(whole)}'} old suites"


def _kept_by_many(arms: Sequence[Arm]) -> str:
    """What every arm lost, what some did, and who kept everything."""
    changes = {arm.name: [one for one in arm.changes if one.role != "health"] or list(arm.changes) for arm in arms}
    losers: dict[str, list[str]] = {}
    for name, own in changes.items():
        for change in own:
            losers.setdefault(change.suite, []).extend([name] if change.verdict == "lost" else [])
    everywhere = [suite for suite, names in losers.items() if len(names) == len(arms)]
    text = [f"Every arm lost {listing(everywhere, at_most=4)}"] if everywhere else []
    for suite, names in losers.items():
        if names and suite not in everywhere:
            who = listing(names) if len(names) <= MANY else f"{len(names)} of {len(arms)} arms"
            text.append(f"{who} lost {suite}")
    kept = [name for name, own in changes.items() if all(change.verdict in ("kept", "gained") for change in own)]
    text += [f"{listing(kept, at_most=4)} kept every suite"] if kept else []
    return f"{'; '.join(text)}." if text else "No arm is proven to have lost anything."


def _kept_sentence(arm: Arm, *, alone: bool) -> str:
    changes = [change for change in arm.changes if change.role != "health"] or list(arm.changes)
    groups = {verdict: [change.suite for change in changes if change.verdict == verdict] for verdict in TONES}
    who = "The model after" if alone and arm.name == "after" else arm.name
    n = len(changes)
    gained = f" and gained {listing(groups['gained'], at_most=4)}" if groups["gained"] else ""
    if groups["lost"]:
        return (
            f"{who} lost {listing(groups['lost'], at_most=4)} ({len(groups['lost'])} of {counted(n, 'suite')}){gained}."
        )
    if groups["cannot tell"]:
        unclear = listing(groups["cannot tell"], at_most=4)
        if likely := [change.suite for change in changes if change.suspected]:
            what = listing(likely, at_most=4)
            return (
                f"{who} may have lost {what}{gained}: shown alone, not proven beside {counted(n - 1, 'other suite')}."
            )
        return f"{who} shows no proven loss{gained}; {unclear} cannot be told at this sample size."
    if len(groups["kept"]) == n:
        return f"{who} kept {'every suite' if n > 1 else groups['kept'][0]}."
    return f"{who} lost nothing{gained}."
