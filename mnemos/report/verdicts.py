"""Verdicts in words: per comparison, per arm, for the whole study.

The sign is always said: "lost 31.0 points", and where lower is better "lost: rose 0.180 bits".
Losing is proven or not; that nothing is proven lost is never called kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Arm, Change
from mnemos.report.words import MISSING, amount, counted, duration, figure, interval, listing, reasons, share, size

TONES = {"gained": "gained", "lost": "lost", "kept": "kept", "cannot tell": "unclear"}
"""A short name of each verdict for colours and style classes."""

GLOSSARY = (
    (
        "gained",
        "The paired 95 % interval of the change lies on the better side of zero, and p stays below 0.05 after "
        "Holm's correction for the number of suites (only p is corrected; the interval is each suite's own).",
    ),
    ("lost", "The same on the worse side: the loss is proven at this sample size."),
    ("kept", "The whole interval lies inside the tolerance: whatever changed is too small to matter."),
    (
        "cannot tell",
        "None of the three is shown. More items or seeds would narrow the interval; where they are too few for the "
        "kind of score there is none.",
    ),
    (
        "about this checkpoint",
        "What one seed shows: another seed of the same training may come out otherwise. About this way of training: "
        "shown over several seeds, whose spread the interval holds.",
    ),
    ("tolerance", "The largest change that counts as none, set per suite before measuring."),
    ("smallest visible change", "The minimum detectable change: what this many items and seeds would have noticed."),
    ("points", "Hundredths of a suite's scale: 31.0 points lost of 98.0 leave 67.0."),
    ("bits, nats", "Bits per byte of text, or nats of divergence from the model before. Lower is better."),
    ("missing", "An item that could not be scored. It is counted with its reason, never taken as zero."),
)

METRICS = {
    "average_accuracy": "Average accuracy",
    "backward_transfer": "Backward transfer",
    "forward_transfer": "Forward transfer",
    "forgetting": "Forgetting",
    "intransigence": "Intransigence",
    "gap_to_joint": "Gap to joint",
}


UNTAUGHT = ("stream", "adaptation")
"""Kinds of studies that teach no rows."""


def verdict_words(change: Change, *, unit: bool = True, tolerance: bool = True) -> str:
    """ "lost 31.0 points [25.1, 36.4]". unit, tolerance: False leaves the unit's name, or the
    tolerance that a kept suite lies in, out."""
    if change.delta is None:
        return f"cannot tell: missing ({_why(change)})"
    name = f" {change.unit}" if unit else ""
    if change.verdict in ("gained", "lost"):
        low, high = change.low, change.high
        if change.delta < 0 and low is not None and high is not None:
            # The size is said without its sign, so the interval is turned with it: ends change places.
            low, high = -high, -low
        size = figure(abs(change.delta), change.unit)
        text = f"{change.verdict}{_direction(change)} {size}{name} {interval(low, high, change.unit)}"
        return text.rstrip()
    around = interval(change.low, change.high, change.unit, sign=True) or _withheld(change)
    text = f"{change.verdict}: {figure(change.delta, change.unit, sign=True)}{name} {around}".rstrip()
    if tolerance and change.verdict == "kept" and change.tolerance is not None:
        text += f", within \u00b1{figure(change.tolerance, change.unit)}"
    return text


def _withheld(change: Change) -> str:
    """Why there is no interval, in brackets."""
    return f"({change.method})" if change.method else ""


def short_words(change: Change) -> str:
    """ "lost 31.0", "gained 92.0", "kept -0.3", "cannot tell -3.0"; "missing" without a number."""
    if change.delta is None:
        return "missing"
    if change.verdict in ("gained", "lost"):
        return f"{change.verdict} {figure(abs(change.delta), change.unit)}"
    return f"{change.verdict} {figure(change.delta, change.unit, sign=True)}"


def change_words(change: Change) -> str:
    """The signed change with its interval, "-31.0 [-36.4, -25.1]"; "missing (reason: n)" without one."""
    if change.delta is None:
        return f"missing ({_why(change)})"
    text = interval(change.low, change.high, change.unit, sign=True)
    return f"{figure(change.delta, change.unit, sign=True)} {text}".rstrip()


def missing_words(change: Change) -> str:
    """ "12 missing (no JSON: 12)"; empty when nothing is missing. Reasons count both sides, all seeds."""
    return f"{change.missing:,} missing ({_why(change)})" if change.missing else ""


def asides(change: Change) -> list[str]:
    """What stands beside a suite's verdict: missing items, and warnings on how far it can be trusted."""
    return [text for text in (missing_words(change), *change.notices) if text]


def _why(change: Change) -> str:
    return reasons(change.reasons) if change.reasons else "no reason recorded"


def _direction(change: Change) -> str:
    if change.better != "lower" or not change.delta:
        return ""
    return ": rose" if change.delta > 0 else ": fell"


def cost_words(arm: Arm) -> list[tuple[str, str]]:
    """What one run of the arm cost: (name, words) pairs, means over seeds; only what was recorded."""
    pairs = [
        ("time", arm.cost("seconds"), duration),
        ("of it writing", arm.cost("writing_seconds"), duration),
        ("measured on the way", arm.cost("trajectory_seconds"), duration),
        ("rows written", arm.cost("written_rows"), amount),
        ("tokens", arm.cost("tokens"), amount),
        ("supervised tokens", arm.cost("supervised_tokens"), amount),
        ("steps", arm.cost("steps"), amount),
        ("peak memory", arm.cost("peak_memory_bytes", max), size),
    ]
    out = [(name, say(number)) for name, number, say in pairs if number is not None]
    out += [("peak in", phase)] if (phase := peak_phase(arm)) else []
    part = share(arm.cost("trainable_parameters"), arm.cost("total_parameters"))
    return out if part == "missing" else [*out, ("trainable", part)]


PHASES = {
    "prepare": "preparing rows",
    "load": "loading the model",
    "train": "training",
    "save": "saving the model",
}
"""Phases of training as results.json names them -> in words."""


def peak_phase(arm: Arm) -> str | None:
    """In which phase the arm's peak memory was, in words; None where it was not kept."""
    found = {words: arm.cost(f"peak_memory_{phase}_bytes", max) for phase, words in PHASES.items()}
    known = {words: value for words, value in found.items() if value is not None}
    return max(known, key=known.__getitem__) if known else None


def cost_line(arm: Arm) -> str:
    """ "41 s, 120 k tokens, 1.10 GB peak memory, 100 % of the weights trainable, 3 seeds"."""
    text = dict(cost_words(arm))
    parts = [text.get("time", "") + (f" ({text['of it writing']} of it writing)" if "of it writing" in text else "")]
    parts += [f"{text['tokens']} tokens"] if "tokens" in text else []
    peak_in = f" (in {text['peak in']})" if "peak in" in text else ""
    parts += [f"{text['peak memory']} peak memory{peak_in}"] if "peak memory" in text else []
    parts += [f"{text['trainable']} of the weights trainable"] if "trainable" in text else []
    parts += [counted(len(arm.runs), "seed")] if text else []
    return ", ".join(part for part in parts if part)


def writing_words(arm: Arm) -> list[str]:
    """What a model wrote for the arm, a line each: rows, time, counts by reason and notes; the seeds
    are named where they differ."""
    seeds: dict[str, list[str]] = {}
    for run in arm.runs:
        for one in run.written:
            text = [f"{counted(one.rows, 'row')} written in {duration(one.seconds)}"]
            text += [reasons(one.counts)] if one.counts else []
            notes = (f"{name} {MISSING if value is None else f'{value:.3g}'}" for name, value in one.notes.items())
            text += [", ".join(notes)] if one.notes else []
            seeds.setdefault(f"{one.source}: {'; '.join(text)}", []).append(run.seed)
    everywhere = len(arm.runs)
    return [line if len(own) >= everywhere else f"seed {listing(own)}: {line}" for line, own in seeds.items()]


def sentence(arm: Arm, kind: str = "") -> str:
    """One arm in one sentence, without its name: "learned new-format +92.0 points; lost refusals
    31.0, json-answers 88.0 points; kept arithmetic". kind: of the study; where nothing is taught, an arm that is better
    has not learned it."""
    if not arm.changes:
        return "not measured"
    clauses = ["no own answer was accepted, so gold alone was learned"] if arm.accepted_nothing else []
    taught = kind not in UNTAUGHT
    clauses += [_learned(arm.of("new"), taught)] if arm.of("new") else []
    clauses += _fate(old_changes(arm))
    # Divergence from the model before rises with whatever is learned: no illness by itself.
    worse = _by_size([change for change in arm.of("health") if change.verdict == "lost" and change.unit != "nats"])
    if worse:
        clauses.append(f"health worse: {_amounts(worse)}")
    return "; ".join(clauses)


def _learned(changes: Sequence[Change], taught: bool) -> str:
    groups = {verdict: [change for change in changes if change.verdict == verdict] for verdict in TONES}
    parts = []
    if groups["gained"]:
        did = "learned" if taught else "did better at"
        parts.append(f"{did} {_amounts(_by_size(groups['gained']), sign=True)}")
    if groups["lost"]:
        parts.append(f"got worse at {_amounts(_by_size(groups['lost']))}")
    if groups["kept"]:
        parts.append(f"did not change {_names(groups['kept'])}")
    if groups["cannot tell"]:
        whether = "it learned" if taught else "it did better or worse at"
        parts.append(f"cannot tell whether {whether} {_names(groups['cannot tell'], word='or')}")
    return "; ".join(parts)


def _fate(changes: Sequence[Change]) -> list[str]:
    """Clauses on the old suites, losses first, the largest first; each suite stands in one of them."""
    if not changes:
        return []
    groups = {verdict: [change for change in changes if change.verdict == verdict] for verdict in TONES}
    # Cannot be told either, but what shows alone is said where it is looked for: behind the losses.
    suspected = [change for change in groups["cannot tell"] if change.suspected]
    open_ = [change for change in groups["cannot tell"] if not change.suspected]
    clauses = []
    if groups["lost"]:
        clauses.append(f"lost {_amounts(_by_size(groups['lost']))}")
    if suspected:
        clauses.append(f"may have lost {_amounts(_by_size(suspected))} (not proven beside the other suites)")
    elif open_ and not groups["lost"]:
        clauses.append("no loss proven")
    if groups["gained"]:
        clauses.append(f"gained {_amounts(_by_size(groups['gained']))}")
    if groups["kept"]:
        everything = len(groups["kept"]) == len(changes) > 1
        clauses.append(f"kept {every(len(changes))} old suites" if everything else f"kept {_names(groups['kept'])}")
    if open_:
        clauses.append(f"cannot tell {_names(open_)}")
    return clauses


def _names(changes: Sequence[Change], word: str = "and") -> str:
    return listing([change.suite for change in changes], word=word)


def _by_size(changes: Sequence[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: (change.unit != "points", -abs(change.delta or 0.0)))


def _amounts(changes: Sequence[Change], *, sign: bool = False) -> str:
    """ "a 31.0, b 4.0 points, c 0.180 bits higher": each unit is named once, after its last number; where lower is
    better, the way is said, and no minus stands for a gain."""
    parts = []
    for place, change in enumerate(changes):
        last = place + 1 == len(changes) or (changes[place + 1].unit, changes[place + 1].better) != (
            change.unit,
            change.better,
        )
        if change.better == "lower":
            way = "lower" if (change.delta or 0.0) < 0 else "higher"
            parts.append(f"{change.suite} {figure(abs(change.delta or 0.0), change.unit)} {change.unit} {way}")
            continue
        size = figure(change.delta if sign else abs(change.delta or 0.0), change.unit, sign=sign)
        parts.append(f"{change.suite} {size}{' ' + change.unit if last else ''}")
    return ", ".join(parts)


def tone(arm: Arm) -> str:
    """The arm's colour: lost when any old suite is proven lost, else unclear when any cannot be told,
    else kept."""
    if not arm.changes:
        return "unclear"
    found = {change.verdict for change in arm.changes if change.role not in ("new", "health")}
    if "lost" in found:
        return "lost"
    return "unclear" if "cannot tell" in found else "kept"


def old_changes(arm: Arm) -> list[Change]:
    """Of the suites that must not lose."""
    return [change for change in arm.changes if change.role not in ("new", "health")]


def every(n: int) -> str:
    """ "both", "all 5"."""
    return "both" if n == 2 else f"all {n}"


def metric_words(name: str, mean: float | None) -> str:
    """What a continual metric's value says, with its sign in words."""
    if mean is None:
        joint = name in ("intransigence", "gap_to_joint")
        return "not known: it needs the joint arm" if joint else "missing: a score it needs is missing"
    size, up = figure(abs(mean), "points"), mean > 0
    # What rounds to 0 gets one wording, whichever side of it it lies on.
    if figure(mean, "points") == "0.0":
        up, size = True, "0.0"
    if name == "average_accuracy":
        return f"{figure(mean, 'points')} points on average over all tasks, after the last one"
    if name == "backward_transfer":
        return f"earlier tasks {'gained' if up else 'lost'} {size} points once later ones were taught"
    if name == "forward_transfer":
        return f"tasks not yet taught stood {size} points {'above' if up else 'below'} the untouched model"
    if name == "forgetting":
        return f"from its best moment an earlier task {'lost' if up else 'gained'} {size} points"
    if name == "intransigence":
        return f"fresh tasks came out {size} points {'below' if up else 'above'} the joint arm"
    if name == "gap_to_joint":
        return f"after the last task all tasks came out {size} points {'below' if up else 'above'} the joint arm"
    return f"{figure(mean, 'points', sign=True)} points"


def metric_interval(name: str, low: float | None, high: float | None) -> str:
    """The interval of a continual metric; differences carry their sign, an accuracy does not."""
    return interval(low, high, "points", sign=name != "average_accuracy")
