"""Suites that a judge scores: pairwise (against the model before, or an anchor), graded and criteria (on a scale).

A pairwise score is 1 where the judge prefers the model's answer in both orders, 0 where it prefers the other one in
both, 1/2 otherwise. The model before stands against itself, at 1/2 of every item, so that the usual paired comparison
of before and after is about the win rate. A graded score is the rating, 0 the lowest of the scale and 1 the highest,
meaned over the turns of the item. What the judge said stands in the note of each score.

Two cases need no judge: equal answers are a tie, and an empty answer loses or gets the lowest rating.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.nouns import Answer, Prompt, Score, Turn
from mnemos.measure.human import HALF
from mnemos.measure.items import Item, read_rows
from mnemos.measure.settings import GradedSettings, JudgedSettings, PairwiseSettings
from mnemos.rewards.by_name import RewardSettings, judge
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge import Judge
from mnemos.rewards.judge_prompt import CRITERIA, PAIR, SINGLE, Case
from mnemos.rewards.panel import Panel

AGAINST = "against"
"""Key of Answer.data: the replies that an answer stands against, or why there are none."""

ITSELF, SAME, EMPTY, TORN = "itself", "the same answer", "an empty answer", "the orders differ"

Scored = tuple[float, str | None, float, str]

MOST_TORN = 0.3
"""Share of pairs whose orders disagree from which on a notice stands beside the verdict."""


def replies(answer: Answer) -> tuple[str, ...]:
    """What the model said, one text a turn."""
    turns = answer.data.get("turns")
    return tuple(turns) if turns else (answer.text or "",)


def reward_settings(settings: JudgedSettings, judge_name: str | list[str]) -> RewardSettings:
    """The judge of a suite, as any judge is named."""
    default = PAIR if isinstance(settings, PairwiseSettings) else CRITERIA if settings.kind == "criteria" else SINGLE
    constitution = settings.constitution if isinstance(settings, PairwiseSettings) else None
    return RewardSettings(
        judge=judge_name,
        prompt=settings.prompt or default,
        verdict=settings.verdict,
        raw=settings.raw,
        max_unparsed=settings.max_unparsed,
        constitution=constitution,
    )


def comparer(settings: PairwiseSettings) -> Judge | Panel:
    """The judge of a pairwise suite. Raises UsageError for a prompt of single answers."""
    made = judge(reward_settings(settings, settings.judge))
    if isinstance(made, Grader):
        raise UsageError(
            f"suite {settings.name!r}: prompt", "rates single answers, and pairs are compared", "name another"
        )
    return made


def graders(settings: GradedSettings) -> list[Grader]:
    """The judges of a graded suite; several rate each answer, and their mean counts. Raises UsageError for a prompt of
    pairs."""
    names = settings.judge if isinstance(settings.judge, list) else [settings.judge]
    made = [judge(reward_settings(settings, name)) for name in names]
    found = [one for one in made if isinstance(one, Grader)]
    if len(found) < len(made):
        raise UsageError(
            f"suite {settings.name!r}: prompt", "compares pairs, and single answers are rated", "name another"
        )
    return found


# pairwise -------------------------------------------------------------------------------------


def facing(answer: Answer, other: Answer | Sequence[str] | None) -> Answer:
    """The answer with what it stands against. other: another model's answer, an anchor's replies, or None."""
    if other is None:
        value: Any = {"missing": "the anchor has no answer to this item"}
    elif isinstance(other, Answer):
        reason = other.data.get("missing")
        value = list(replies(other)) if reason is None else {"missing": f"the model before: {reason}"}
    else:
        value = list(other)
    return Answer(
        answer.suite, answer.item, answer.text, answer.finished, answer.tokens, {**answer.data, AGAINST: value}
    )


def pairwise(settings: PairwiseSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Scored]:
    """One score an answer. Raises DataError where too many verdicts cannot be read."""
    values = [_settled(answer) for answer in answers]
    open_ = [place for place, one in enumerate(values) if one is None]
    cases = [_duel(settings, items[place], answers[place]) for place in open_]
    if cases:
        for place, verdict in zip(open_, comparer(settings).cases(cases), strict=True):
            if verdict.reason is not None:
                values[place] = (math.nan, verdict.reason, 1.0, "")
                continue
            word = {"a": "better", "b": "worse", "tie": "tie"}[verdict.decision]
            note = f"{word}, p {verdict.first:.2f}{'' if verdict.agree else ', ' + TORN}"
            values[place] = (HALF[verdict.decision], None, 1.0, note)
    return [one for one in values if one is not None]


def _settled(answer: Answer) -> Scored | None:
    """The score of a pair about which nobody has to be asked."""
    other = answer.data.get(AGAINST)
    if other is None:
        return 0.5, None, 1.0, ITSELF
    if isinstance(other, Mapping):
        return math.nan, str(other["missing"]), 1.0, ""
    own, there = replies(answer), tuple(other)
    if own == there:
        return 0.5, None, 1.0, SAME
    empty = not any(map(str.strip, own)), not any(map(str.strip, there))
    if empty[0] == empty[1]:
        return (0.5, None, 1.0, SAME) if empty[0] else None
    return (0.0 if empty[0] else 1.0), None, 1.0, EMPTY


def _duel(settings: PairwiseSettings, item: Item, answer: Answer) -> Case:
    own, other = replies(answer), tuple(answer.data[AGAINST])
    # Each talked in a dialogue of its own, so that the questions alone are common.
    both = (own[0], other[0]) if len(own) == len(other) == 1 else (_padded(own, item), _padded(other, item))
    return Case(_questions(item), both, references(settings, item), item.criteria or "")


def _padded(texts: tuple[str, ...], item: Item) -> tuple[str, ...]:
    """One reply a question: an anchor that answered fewer turns said nothing to the others."""
    number = 1 + len(item.follow_ups)
    return (*texts[:number], *[""] * (number - len(texts)))


def _questions(item: Item) -> Prompt:
    assert item.prompt is not None
    return Prompt((*item.prompt.turns, *(Turn("user", text) for text in item.follow_ups)), item.prompt.variables)


def notices(before: Sequence[Score], after: Sequence[Sequence[Score]]) -> tuple[str, ...]:
    """A warning where the judge's two orders often disagree: it then decides by the place, and ties hide a change."""
    asked = [score.note for row in after for score in row if score.note and ", p " in score.note]
    torn = sum(TORN in note for note in asked)
    if not asked or torn / len(asked) < MOST_TORN:
        return ()
    return (
        f"the judge's two orders disagree on {100 * torn / len(asked):.0f} % of the pairs that it was asked about; "
        "these count as ties, so calibrate it (mnemos judge calibrate) before you believe the rate",
    )


# graded ---------------------------------------------------------------------------------------


def graded(settings: GradedSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Scored]:
    """One score an answer. Raises DataError where too many ratings cannot be read."""
    turns = [
        (place, number, case)
        for place, (item, answer) in enumerate(zip(items, answers, strict=True))
        for number, case in enumerate(_turns(settings, item, answer))
    ]
    asked = [case for _, _, case in turns if str(case.answers[0]).strip()]
    several = graders(settings)
    scale = several[0].prompts.plain
    rated = zip(asked, *[grader.ratings(asked) for grader in several], strict=True) if asked else iter(())
    found: dict[int, list[float | str]] = {}
    for place, _, case in turns:
        value: float | str = scale.scale[0]
        if str(case.answers[0]).strip():
            value = _mean(next(rated)[1:])
        found.setdefault(place, []).append(value)
    return [_rating(found[place], scale.share) for place in range(len(items))]


def _turns(settings: GradedSettings, item: Item, answer: Answer) -> list[Case]:
    """Each reply with all that stood before it."""
    assert item.prompt is not None
    out, before = [], list(item.prompt.turns)
    known = references(settings, item)
    for number, reply in enumerate(replies(answer)):
        if number:
            before.append(Turn("user", item.follow_ups[number - 1]))
        out.append(
            Case(Prompt(tuple(before), item.prompt.variables), (reply,), known[: number + 1], item.criteria or "")
        )
        before.append(Turn("assistant", reply))
    return out


def _mean(values: Sequence[float | str]) -> float | str:
    there = [one for one in values if not isinstance(one, str)]
    if 2 * len(there) < len(values) or not there:
        return next(one for one in values if isinstance(one, str))
    return math.fsum(there) / len(there)


def _rating(values: Sequence[float | str], share: Any) -> Scored:
    reason = next((one for one in values if isinstance(one, str)), None)
    if reason is not None:
        return math.nan, reason, 1.0, ""
    numbers = [float(one) for one in values]
    note = " ".join(f"{one:.3g}" for one in numbers)
    return math.fsum(map(share, numbers)) / len(numbers), None, 1.0, note


# files ------------------------------------------------------------------------------------------


def references(settings: JudgedSettings, item: Item) -> tuple[str, ...]:
    """Right answers of an item, one a turn: from the suite's file of references, else its own."""
    if settings.references is not None:
        found = answers_in(settings.references, file_fingerprint(settings.references)).get(item.id)
        if found is not None:
            return found
    return item.answers


@lru_cache(maxsize=8)
def answers_in(path: str, content: str) -> Mapping[str, tuple[str, ...]]:
    """Answers by item from a file of rows: what mnemos measured (item, text, data), FastChat's model answers
    (question_id, choices), or id and answer or turns. content: the file's fingerprint."""
    out: dict[str, tuple[str, ...]] = {}
    for row in read_rows(Path(path)):
        values = row.values
        if isinstance(values.get("data"), Mapping) and "missing" in values["data"]:
            continue  # what the anchor's model could not be asked
        name = next((values[key] for key in ("item", "id", "question_id") if values.get(key) is not None), None)
        texts = _texts(values)
        if name is None or not texts or not all(isinstance(one, str) for one in texts):
            raise DataError(row.where, "is no answer", "a row has id and answer, or turns: one text a turn")
        if str(name) in out:
            raise DataError(f"{row.where}: {name!r}", "has an answer already", "keep one")
        out[str(name)] = tuple(texts)
    return out


def _texts(values: Mapping[str, Any]) -> Sequence[Any]:
    data, choices = values.get("data"), values.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        values = choices[0]
    elif isinstance(data, Mapping) and data.get("turns"):
        values = data
    turns = values.get("turns")
    if isinstance(turns, list):
        return turns
    text = values.get("text") if isinstance(values.get("text"), str) else values.get("answer")
    return [] if text is None else [text]


def prints(settings: JudgedSettings, items: Sequence[Item]) -> dict[str, Any]:
    """What decides a score beside the answer, in a manifest: who judges, what it is asked, and what it is shown."""
    several: list[Any] = [comparer(settings)] if isinstance(settings, PairwiseSettings) else list(
        graders(settings) if isinstance(settings, GradedSettings) else ()
    )  # fmt: skip
    made: dict[str, Any] = {"judge": [one.fingerprint for one in several]}
    made["prompts"] = [inner.prompts.fingerprint for one in several for inner in getattr(one, "judges", (one,))]
    if settings.references is not None:
        made["references"] = file_fingerprint(settings.references)
    if isinstance(settings, PairwiseSettings) and settings.against != "before":
        made["against"] = file_fingerprint(settings.against)
    extras = [[list(item.follow_ups), item.criteria, item.category] for item in items]
    return {**made, **({"shown": extras} if any(any(one) for one in extras) else {})}


def check(settings: JudgedSettings, where: str) -> None:
    """Refuse a judge's prompt of the wrong kind, and files that are not there. Raises UsageError, DataError."""
    for name in ("prompt", "references", "constitution", "against"):
        value = getattr(settings, name, None)
        if value in (None, "before") or not isinstance(value, str):
            continue
        path = value.partition("#")[0]
        if not Path(path).is_file():
            raise UsageError(f"{where}: {name} {value}", "is not a file", "it is relative to the suite's file")
        if name in ("references", "against"):
            answers_in(value, file_fingerprint(value))
    if isinstance(settings, PairwiseSettings):
        comparer(settings)
    elif isinstance(settings, GradedSettings):
        graders(settings)


def by_category(items: Sequence[Item], scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Scores by the category of their item, in the items' order; items without one are left out."""
    found: dict[str, list[Score]] = {}
    for item, score in zip(items, scores, strict=True):
        if item.category is not None:
            found.setdefault(item.category, []).append(score)
    return found
