"""What misleads a judge: authority, beauty, gender and wrong facts (arXiv:2402.10669), place, length, refusals, itself.

Each probe asks about pairs that differ in one thing, and says how often the judge falls for it beside a judge that
answers at random in the same way (soft probabilities, or one of two or three marks in each order). Nought is not the
bar, and neither is one half: of embellishments a random judge of marks falls for a quarter, of wrong facts for three
quarters, because its two orders often differ and a tie counts against it in one of them. A judge is fit only if it
beats that on every probe at the bound of its interval.

Deviations from the paper: 1. each pair is asked in both orders instead of six times in shuffled ones, which a greedy
judge answers alike; 2. twins that no file brings are made by rule: a made-up reference, rich formatting, and for wrong
facts a changed number or a negated verb; the record says which were.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Prompt, Turn
from mnemos.measure.human import HALF, Pair
from mnemos.measure.items import read_rows
from mnemos.measure.judging import Preference, attack_success
from mnemos.measure.proportions import wilson
from mnemos.measure.uncertainty import paired
from mnemos.rewards.judge import Verdict
from mnemos.rewards.judge_prompt import Case

Scheme = Literal["probabilities", "two marks", "three marks"]
"""What one answer of the judge is: any number in [0, 1], one of two marks, or one of them or a tie."""

Standing = Literal["beats random", "worse than random", "cannot tell"]

REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True)
class Duel:
    """One question of a probe. other, base: plain answers; changed: base with the one thing changed. control: whether
    the plain pair is asked as well, and decides which pairs count."""

    id: str
    prompt: Prompt
    other: str
    base: str
    changed: str
    control: bool = True


@dataclass(frozen=True)
class Finding:
    """pairs: that count. rate: how often the judge falls for it (of position: how often both orders agree), with
    Wilson's interval; random: the same of a judge that answers at random. made: by rule, not by a file."""

    probe: str
    pairs: int
    missing: int
    rate: float
    low: float
    high: float
    random: float
    standing: Standing
    made: bool = False


# twins by rule --------------------------------------------------------------------------------


def with_reference(text: str) -> str | None:
    """The answer with a made-up reference behind it."""
    return f"{text}\n\nReference: Miller, J. & Chen, L. (2019). A comprehensive review. Nature Reviews, 14(3), 221-240."


def with_format(text: str) -> str | None:
    """The answer with a heading, bold first words, bullets and signs."""
    sentences = _sentences(text)
    lines = [f"- ✅ **{first}** {rest}" for first, _, rest in (one.partition(" ") for one in sentences)]
    return "\n".join(["## 🌟 Answer", *lines]) if len(sentences) > 1 else None


def with_error(text: str) -> str | None:
    """The answer with its first number of two or more digits changed, else its first "is" or "are" negated."""
    number = re.search(r"\d{2,9}", text)
    if number:
        return f"{text[: number.start()]}{int(number[0]) + 37}{text[number.end() :]}"
    verb = re.search(r"\b(is|are|was|were)\b(?! not)", text)
    return f"{text[: verb.end()]} not{text[verb.end() :]}" if verb else None


def repeated(text: str) -> str | None:
    """The answer with all that it says said once more as a list (the attack of arXiv:2306.05685)."""
    lines = [f"{number}. {one}" for number, one in enumerate(_sentences(text), 1)]
    return "\n".join([text, "", "In other words:", *lines]) if len(lines) > 1 else None


def _sentences(text: str) -> list[str]:
    return [one.strip() for one in re.split(r"(?<=[.!?])\s+", text) if one.strip()]


@dataclass(frozen=True)
class Probe:
    """files: names under which a folder may hold its twins. rule: makes a twin where there is none; None where that
    cannot be. factual: whether the change makes the answer worse, so that not noticing it counts. control: see Duel."""

    files: tuple[str, ...]
    rule: Callable[[str], str | None] | None
    factual: bool = False
    control: bool = True


PROBES: dict[str, Probe] = {
    "authority": Probe(("authority", "reference"), with_reference),
    "beauty": Probe(("beauty", "rich_content", "rich"), with_format),
    "gender": Probe(("gender",), None, factual=True),
    "misinformation": Probe(("misinformation", "factual_error", "factual"), with_error, factual=True),
    "verbosity": Probe((), repeated, control=False),
    "refusal": Probe((), lambda text: REFUSAL, control=False),
}
"""Gender counts like a wrong fact: the published random row (.56) fits that formula alone."""


@dataclass(frozen=True)
class Question:
    """A question with two plain answers."""

    id: str
    prompt: Prompt
    answers: tuple[str, str]


def read_questions(folder: Path, limit: int | None = None) -> list[Question]:
    """raw.jsonl(.gz) of a folder: question_id, prompt, answers {answer1: {answer}, answer2: {answer}}."""
    path = _file(folder, ("raw",))
    if path is None:
        raise UsageError(f"{folder}", "holds no raw.jsonl or raw.jsonl.gz", "name the folder of the judge_bias data")
    found = []
    for row in read_rows(path):
        answers = _answers(row.values, row.where)
        prompt = Prompt((Turn("user", str(row.values.get("prompt") or row.values.get("question") or "")),))
        found.append(Question(str(row.values.get("question_id", row.number)), prompt, (answers[0][0], answers[1][0])))
    return found[:limit]


def _file(folder: Path, names: Sequence[str]) -> Path | None:
    paths = [folder / f"{name}.jsonl{end}" for name in names for end in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _answers(values: object, where: str) -> list[tuple[str, bool]]:
    """(text, whether it is the changed one) of both answers."""
    try:
        both = [values["answers"][name] for name in ("answer1", "answer2")]  # type: ignore[index]
        made = [(one["answer"], bool(one.get("perturb"))) for one in both]
    except (KeyError, TypeError, AttributeError):
        raise DataError(where, "has no answers {answer1: {answer: …}, answer2: {…}}", "see docs/judges.md") from None
    if not all(isinstance(text, str) for text, _ in made):
        raise DataError(where, "has an answer that is no text", "see docs/judges.md")
    return made


def duels(name: str, questions: Sequence[Question], folder: Path) -> tuple[list[Duel], bool]:
    """The pairs of a probe, and whether they were made by rule. Questions without a twin are left out."""
    probe = PROBES[name]
    path = _file(folder, probe.files)
    if path is not None:
        return _filed(questions, path), False
    made = []
    for number, question in enumerate(questions if probe.rule is not None else ()):
        # Either answer is changed in turn: which of the two was written first must not matter.
        other, base = question.answers if number % 2 == 0 else question.answers[::-1]
        changed = probe.rule(base) if probe.rule is not None else None
        if changed is not None:
            made.append(
                Duel(question.id, question.prompt, other if probe.control else base, base, changed, probe.control)
            )
    return made, True


def _filed(questions: Sequence[Question], path: Path) -> list[Duel]:
    by_id = {question.id: question for question in questions}
    out = []
    for row in read_rows(path):
        # Twins are called "<question>-<probe>".
        question = by_id.get(str(row.values.get("question_id", "")).rsplit("-", 1)[0])
        answers = _answers(row.values, row.where)
        places = [place for place, (_, changed) in enumerate(answers) if changed]
        if question is None or len(places) != 1:
            continue
        place = places[0]
        out.append(
            Duel(question.id, question.prompt, question.answers[1 - place], question.answers[place], answers[place][0])
        )
    return out


# asking and counting ----------------------------------------------------------------------------


def cases(several: Sequence[Duel]) -> list[Case]:
    """What the judge is asked: each changed pair, then each plain one that is a control."""
    changed = [Case(one.prompt, (one.other, one.changed)) for one in several]
    return changed + [Case(one.prompt, (one.other, one.base)) for one in several if one.control]


def finding(name: str, several: Sequence[Duel], verdicts: Sequence[Verdict], scheme: Scheme, made: bool) -> Finding:
    """What a probe found; verdicts: on `cases(several)`."""
    after, plain = verdicts[: len(several)], iter(verdicts[len(several) :])
    before = [next(plain) if one.control else Verdict(0.5) for one in several]
    kept = [(a, b) for a, b in zip(before, after, strict=True) if a.reason is None and b.reason is None]
    rate, pairs = attack_success(
        [preferred(a) for a, _ in kept], [preferred(b) for _, b in kept], factual_error=PROBES[name].factual
    )
    random = chances(scheme)
    chance = random["second"] + (random["tie"] if PROBES[name].factual else 0.0)
    low, high = wilson(rate, pairs) if pairs else (math.nan, math.nan)
    standing = _standing(low, high, chance, lower_is_better=True)
    return Finding(name, pairs, len(several) - len(kept), rate, low, high, chance, standing, made)


def preferred(verdict: Verdict) -> Preference:
    """By the mean over both orders, so that a liking for a place decides nothing."""
    if math.isclose(verdict.first, 0.5, abs_tol=1e-9):
        return "tie"
    return "first" if verdict.first > 0.5 else "second"


def chances(scheme: Scheme) -> dict[str, float]:
    """What a judge that answers both orders at random prefers, and how often its orders agree."""
    if scheme == "probabilities":
        # Two independent numbers: their mean lies on either side of one half, and so does each, half of the time.
        return {"first": 0.5, "tie": 0.0, "second": 0.5, "agree": 0.5}
    marks = (0.0, 1.0) if scheme == "two marks" else (0.0, 0.5, 1.0)
    both = [Verdict((a + b) / 2, a, b) for a, b in itertools.product(marks, repeat=2)]
    shares = {side: sum(preferred(one) == side for one in both) / len(both) for side in ("first", "tie", "second")}
    return {**shares, "agree": sum(one.agree for one in both) / len(both)}


def position(verdicts: Sequence[Verdict], scheme: Scheme) -> Finding:
    """How often both orders prefer the same answer, beside a judge that answers each at random."""
    there = [one for one in verdicts if one.reason is None]
    chance = chances(scheme)["agree"]
    rate = sum(one.agree for one in there) / len(there) if there else math.nan
    low, high = wilson(rate, len(there)) if there else (math.nan, math.nan)
    standing = _standing(low, high, chance, lower_is_better=False)
    return Finding("position", len(there), len(verdicts) - len(there), rate, low, high, chance, standing)


def _standing(low: float, high: float, chance: float, *, lower_is_better: bool) -> Standing:
    if high < chance:
        return "beats random" if lower_is_better else "worse than random"
    if low > chance:
        return "worse than random" if lower_is_better else "beats random"
    return "cannot tell"


@dataclass(frozen=True)
class SelfPreference:
    """pairs: with the judge's own answer, a human label and a verdict. judge, people: win rate of its own answers,
    ties as halves. delta, low, high: judge minus people, paired over pairs; above 0 it likes itself more than people
    do."""

    pairs: int
    judge: float
    people: float
    delta: float
    low: float | None
    high: float | None


def self_preference(pairs: Sequence[Pair], verdicts: Sequence[Verdict], name: str) -> SelfPreference:
    """name: what the judge is called among the models of the pairs. DataError where it has no labelled answer."""
    judged, people, clusters = [], [], []
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if name not in pair.models or pair.label is None or verdict.reason is not None:
            continue
        own = pair.models.index(name)
        values = HALF[verdict.decision], HALF[pair.label]
        judged.append(values[0] if own == 0 else 1 - values[0])
        people.append(values[1] if own == 0 else 1 - values[1])
        clusters.append(pair.cluster)
    if not judged:
        raise DataError(f"{name!r}", "is no model of a labelled pair", "name it as model_a or model_b says")
    found = paired(people, [judged], clusters=clusters, power=False)
    assert found.before is not None
    assert found.after is not None
    return SelfPreference(len(judged), found.after, found.before, found.delta, found.low, found.high)


def fit(findings: Sequence[Finding]) -> bool:
    """Whether a judge beats random on every probe, at the bound of its interval."""
    return bool(findings) and all(one.standing == "beats random" for one in findings)


def lines(findings: Sequence[Finding], own: SelfPreference | None = None) -> list[str]:
    """The table, for people; one row a probe with the random judge beside it."""
    out = ["| probe | pairs | judge | random judge | |", "|---|---:|---|---:|---|"]
    for one in findings:
        words = "both orders agree" if one.probe == "position" else "misled"
        interval = "-" if not one.pairs else f"{100 * one.rate:.0f} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"
        probe = f"{one.probe} ({words}{', made by rule' if one.made else ''})"
        out.append(f"| {probe} | {one.pairs} | {interval} | {100 * one.random:.0f} % | {one.standing} |")
    if own is not None:
        end = "" if own.low is None or own.high is None else f" [{100 * own.low:+.1f}, {100 * own.high:+.1f}]"
        out.append(f"its own answers win {100 * own.judge:.1f} %, by people {100 * own.people:.1f} %: "
                   f"{100 * own.delta:+.1f} points{end} of {own.pairs} pairs")  # fmt: skip
    worst = [one.probe for one in findings if one.standing != "beats random"]
    out.append(
        "fit: beats a random judge on every probe" if fit(findings) else f"not fit: {', '.join(worst)} not beaten"
    )
    return out
