"""Pairs of answers with what people said of them, from the files that people have.

One row is one vote, or a pair without one:

    {"prompt": …, "answer_a": …, "answer_b": …, "verdict": "a", "rater": "ann", "model_a": …, "model_b": …, "item": …}
    {"chosen": …, "rejected": …}            a preference row, in any form that training data may have

verdict: a, b, tie or both_bad; rows without one are judged too, and serve to correct a win rate. messages may stand for
prompt; reference and criteria go to the judge. Rows of one item and two models are several raters' votes on one pair,
also where they saw the models in other places. Who stands as a in a preference row is drawn by seed, or a judge that
always says a would look perfect.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from mnemos.core.errors import DataError
from mnemos.core.nouns import Prompt
from mnemos.core.progress import note
from mnemos.measure.items import Row, parse, read_rows
from mnemos.measure.votes import VoteVerdict
from mnemos.rewards.judge import Decision
from mnemos.rewards.judge_prompt import Case
from mnemos.sources.read import read, skipped

LABELS: tuple[Decision, ...] = ("a", "b", "tie")
OF_VOTE: Mapping[str, Decision] = {"a": "a", "b": "b", "tie": "tie", "both_bad": "tie"}
"""What a vote says in the judge's words: two answers that are both bad are as good as each other."""

HALF: Mapping[str, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""What a label is worth to the first answer."""


def majority(votes: Collection[VoteVerdict]) -> Decision | None:
    """What most votes say, a tie where as many say something else; None without votes."""
    if not votes:
        return None
    ranked = Counter(OF_VOTE[one] for one in votes).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else "tie"


_ASKED = ("prompt", "messages", "raw", "tools", "functions", "chat_template_kwargs")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. models: whose they are. votes: rater -> verdict, none where nobody has looked.
    cluster: pairs that share it (two turns of a dialogue, one prompt) are not independent."""

    id: str
    prompt: Prompt
    answers: tuple[str, str]
    models: tuple[str, str] = ("a", "b")
    votes: Mapping[str, VoteVerdict] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    criteria: str = ""
    cluster: str | None = None

    @property
    def label(self) -> Decision | None:
        """What most raters say, a tie where as many say something else; None without votes."""
        return majority(self.votes.values())

    @property
    def case(self) -> Case:
        """What a judge is shown: never who wrote what, nor what people said."""
        return Case(self.prompt, self.answers, self.references, self.criteria)


def read_pairs(path: str | Path, *, limit: int | None = None, seed: int = 0) -> list[Pair]:
    """The pairs in a file. limit: at most so many, drawn by seed. Raises DataError with file and line."""
    rows = list(read_rows(Path(path)))
    if rows and "answer_a" not in rows[0].values:
        return _drawn(_preferences(path, seed), limit, seed)
    pairs: dict[tuple[str, ...], Pair] = {}
    for row in rows:
        pair = _pair(row)
        # Raters may have seen the two models in other places; the first row says which is a.
        key = (pair.id, *sorted(pair.models))
        pairs[key] = _joined(pairs[key], pair, row.where) if key in pairs else pair
    if not pairs:
        raise DataError(f"{path}", "holds no pair", "one row a vote: prompt, answer_a, answer_b, verdict")
    return _drawn(list(pairs.values()), limit, seed)


def _pair(row: Row) -> Pair:
    values = row.values
    texts = []
    for name in ("answer_a", "answer_b"):
        if not isinstance(values.get(name), str):
            raise DataError(
                f"{row.where}: {name}", "must be a text", "a row of votes has prompt, answer_a and answer_b"
            )
        texts.append(str(values[name]))
    item = parse(
        Row(row.where, row.number, {key: values[key] for key in _ASKED if key in values}),
        chat=True,
        system=None,
        columns={},
    )
    if item.prompt is None:
        raise DataError(row.where, "has no prompt or messages", "say what was asked")
    verdict, rater = values.get("verdict"), values.get("rater", "")
    if verdict is not None and verdict not in get_args(VoteVerdict):
        raise DataError(
            f"{row.where}: verdict = {verdict!r}", f"is none of {', '.join(get_args(VoteVerdict))}", "correct it"
        )
    names = [values.get("model_a", "a"), values.get("model_b", "b")]
    if not all(isinstance(one, str) and one for one in (*names, rater or "-")) or names[0] == names[1]:
        raise DataError(f"{row.where}: model_a, model_b, rater", "must be texts, the models two", "correct them")
    number = values.get("item", values.get("id", row.number))
    references = values.get("references", [values["reference"]] if values.get("reference") else [])
    if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
        raise DataError(f"{row.where}: references", "must be a list of texts", "one a turn")
    return Pair(
        str(number),
        item.prompt,
        (texts[0], texts[1]),
        (names[0], names[1]),
        {} if verdict is None else {rater: verdict},
        tuple(references),
        str(values.get("criteria") or ""),
        str(values["cluster"]) if values.get("cluster") is not None else None,
    )


def _turned(pair: Pair) -> Pair:
    """The same pair, votes included, with its answers exchanged."""
    other: Mapping[str, VoteVerdict] = {"a": "b", "b": "a"}
    votes = {rater: other.get(vote, vote) for rater, vote in pair.votes.items()}
    return replace(pair, answers=pair.answers[::-1], models=pair.models[::-1], votes=votes)


def _joined(first: Pair, second: Pair, where: str) -> Pair:
    second = second if second.models == first.models else _turned(second)
    if first.answers != second.answers or first.prompt != second.prompt:
        raise DataError(f"{where}: item {second.id!r}", "stands above with other answers", "give it another id")
    twice = sorted(set(first.votes) & set(second.votes))
    if twice or not second.votes:
        who = f"{twice[0]!r} has voted on item {second.id!r} already" if twice else f"item {second.id!r} is there twice"
        raise DataError(where, who, "one vote a pair and rater, each with its rater's name")
    return replace(first, votes={**first.votes, **second.votes})


def _preferences(path: str | Path, seed: int) -> list[Pair]:
    pairs = []
    # Some files of pairs hold a few that differ in more than the answer; those are left out as training leaves them.
    source = read(str(path), format="preference", on_bad="skip")
    for row in source:
        answers = (row.turns[-1].text, row.rejected[-1].text)
        first = random.Random(f"{seed} {row.id}").random() < 0.5
        pair = Pair(row.id, row.prompt, answers if first else answers[::-1], votes={"": "a" if first else "b"})
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path}", "holds no pair", "rows need chosen and rejected, or answer_a and answer_b")
    for reason, number in skipped(source).items():
        note(f"{path}: {reason}: {number:,}")
    return pairs


def _drawn(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    if limit is None or limit >= len(pairs):
        return list(pairs)
    kept = set(random.Random(seed).sample(range(len(pairs)), limit))
    return [pair for place, pair in enumerate(pairs) if place in kept]


def row_of(pair: Pair, **more: Any) -> dict[str, Any]:
    """A row that `read_pairs` reads back, without votes."""
    return {
        "item": pair.id,
        "messages": [turn.message() for turn in pair.prompt.turns],
        "answer_a": pair.answers[0],
        "answer_b": pair.answers[1],
        "model_a": pair.models[0],
        "model_b": pair.models[1],
        **more,
    }
