"""Which rows are learned: a budget of rows filled at random, by length, by what a model finds hard, by judges, or so
that they spread.

`Selected` is a `GeneratedSource`, because most of its rules ask a model: it is carried out once before training, its
answers lie in the step's journal, and arms that ask for the same share it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mnemos.core.errors import DataError, UsageError, nearest, shortened
from mnemos.core.nouns import Example, LanguageModel, Prompt, Source
from mnemos.core.plan import ModelHandle
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge_prompt import Case
from mnemos.sources.generated import NotGenerated, SynthesisContext, generated_in
from mnemos.sources.looks import counted
from mnemos.sources.mix import is_new
from mnemos.sources.similarity import embed
from mnemos.sources.spread import Unlike, grouped, k_center, quotas

Keep = Literal["highest", "middle", "lowest"]
"""Which end of a score fills the budget; middle: those whose rank is nearest to the median's."""

Scores = list[float | str]
"""For each row its score, or why it has none."""

NO_ANSWER, NO_QUESTION = "no answer to be learned", "no instruction before its answer"
TOO_LONG = "longer than the model reads, or impossible to it"
HINDERED = "the instruction makes its answer less likely"
TOO_LIKE = "too like a row that was chosen"
ASKERS = ("user", "prompt")
BATCH = 1000
"""Texts that are put into tokens together."""
SHOWN = 20
"""Groups whose shares are counted one by one."""


class Score(Protocol):
    """Says what rows are worth; a frozen dataclass, so that it has a fingerprint."""

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """One score a row, of any scale."""
        ...


def answers_of(row: Example) -> Iterator[tuple[Prompt, str]]:
    """Each answer of the row that is learned, with all that stands before it; of a document nothing."""
    for at, turn in enumerate(row.turns):
        if turn.role in ("assistant", "completion") and turn.learn and turn.text.strip():
            yield Prompt(row.turns[:at], row.variables), turn.text


@dataclass(frozen=True)
class Drawn:
    """A number by chance, by the row's own id: which rows are chosen hardly changes when others are added."""

    seed: int

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """Numbers in [0, 1)."""
        return [random.Random(f"select {self.seed} {row.id}").random() for row in rows]


@dataclass(frozen=True)
class AnswerTokens:
    """Tokens of the row's answers, in the tokenizer of the model that will learn them (arXiv:2402.04833)."""

    student: ModelHandle

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """Numbers of tokens; a row's answers add up, and the tokens of the template do not count."""
        from mnemos.weights.checkpoint import tokenizer_of

        tokenizer = tokenizer_of(self.student)
        texts, owners = [], []
        for place, row in enumerate(rows):
            own = [row.turns[0].text] if row.kind == "text" else [answer for _, answer in answers_of(row)]
            texts += own
            owners += [place] * len(own)
        totals: Counter[int] = Counter()
        for at in range(0, len(texts), BATCH):
            found = tokenizer(texts[at : at + BATCH], add_special_tokens=False, verbose=False)["input_ids"]
            for owner, ids in zip(owners[at : at + BATCH], found, strict=True):
                totals[owner] += len(ids)
        return [float(totals[place]) if totals[place] else NO_ANSWER for place in range(len(rows))]


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean nats a token of the row's answers behind their questions, under a model."""

    model: ModelHandle

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """At least 1."""
        return [
            one if isinstance(one, str) else math.exp(min(one, 700.0))
            for one in given_nats(context.model(self.model), rows)
        ]


@dataclass(frozen=True)
class InstructionFollowingDifficulty:
    """IFD = s(A|Q) / s(A): mean nats a token of an answer behind its instruction, as a share of those of the answer
    alone (arXiv:2308.12032). Above 1 the instruction only hinders, and the row has no score."""

    model: ModelHandle

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """Numbers in [0, 1]."""
        model = context.model(self.model)
        given = given_nats(model, rows)
        asked = [i for i, one in enumerate(given) if not isinstance(one, str)]
        alone = _mean_alone(model, [[answer for _, answer in answers_of(rows[i])] for i in asked])
        out: Scores = list(given)
        for i, beside in zip(asked, alone, strict=True):
            one = given[i]
            assert isinstance(one, float)
            if not any(turn.role in ASKERS for turn in rows[i].turns):
                out[i] = NO_QUESTION
            elif not math.isfinite(beside):
                out[i] = TOO_LONG
            else:
                # One way out for 0 / 0: an answer that is certain alone is not made likelier by its instruction.
                ratio = one / beside if beside > 0 else math.inf
                out[i] = HINDERED if ratio > 1 else ratio
        return out


def given_nats(model: LanguageModel, rows: Sequence[Example]) -> Scores:
    """Mean nats a token of each row's answers, each behind all that stands before it; answers of one row weighed by
    their tokens."""
    pairs = [(place, prompt, answer) for place, row in enumerate(rows) for prompt, answer in answers_of(row)]
    found = model.choose([prompt for _, prompt, _ in pairs], [[answer] for _, _, answer in pairs]) if pairs else []
    nats = [0.0] * len(rows)
    tokens = [0] * len(rows)
    for (place, _, _), (one,) in zip(pairs, found, strict=True):
        # NaN, of an answer that is too long, makes the row's sum NaN: half a row is not scored.
        nats[place] -= one.log_prob
        tokens[place] += one.tokens
    there = {place for place, _, _ in pairs}
    out: Scores = []
    for place, (total, number) in enumerate(zip(nats, tokens, strict=True)):
        if place not in there:
            out.append(NO_ANSWER)
        else:
            # Infinite where a model holds a token for impossible: nothing can be compared with it.
            out.append(TOO_LONG if not math.isfinite(total) or not number else total / number)
    return out


def _mean_alone(model: LanguageModel, answers: Sequence[Sequence[str]]) -> list[float]:
    """Mean nats a token of several answers, each behind nothing; NaN where one is too long."""
    flat = [text for several in answers for text in several]
    found = iter(model.nats(flat) if flat else [])
    out = []
    for several in answers:
        values = [next(found) for _ in several]
        tokens = sum(number for _, number in values)
        out.append(math.fsum(nats for nats, _ in values) / tokens if tokens else math.nan)
    return out


@dataclass(frozen=True)
class ComplexityTimesQuality:
    """The sum over a row's answers of (complexity of what was asked) * (quality of the answer), both by a judge
    (arXiv:2312.15685). mean: divide by the number of answers, so that long chats are not preferred for their length."""

    complexity: Grader
    quality: Grader
    mean: bool = False

    def __call__(self, context: SynthesisContext, rows: Sequence[Example]) -> Scores:
        """Numbers in the square of the judges' scale. Raises DataError where too many verdicts cannot be read."""
        pairs = [(place, *one) for place, row in enumerate(rows) for one in answers_of(row)]
        asked = [pair for pair in pairs if pair[1].turns and pair[1].turns[-1].role in ASKERS]
        complex_ = self.complexity.asking(context.model).ratings(
            [Case(Prompt(prompt.turns[:-1]), (prompt.turns[-1].text,)) for _, prompt, _ in asked]
        )
        good = self.quality.asking(context.model).ratings([Case(prompt, (answer,)) for _, prompt, answer in asked])
        products: list[list[float | str]] = [[] for _ in rows]
        for (place, _, _), one, other in zip(asked, complex_, good, strict=True):
            fault = next((value for value in (one, other) if isinstance(value, str)), None)
            products[place].append(fault if fault is not None else float(one) * float(other))
        return [self._together(several) for several in products]

    def _together(self, products: Sequence[float | str]) -> float | str:
        fault = next((one for one in products if isinstance(one, str)), None)
        if fault is not None or not products:
            return fault or NO_QUESTION
        total = math.fsum(float(one) for one in products)
        return total / len(products) if self.mean else total


@dataclass(frozen=True)
class Selected(NotGenerated):
    """`count` of the new rows in `rows`, in their order; rows of other origins stay as they are.

    method: whose settings an error names. score: what rows are worth; None takes k-center over embeddings. keep: which
    end of the score. similarity: a row whose cosine to a chosen one is at least so much is passed over; None compares
    nothing. per: a column; each of its values has a share of the budget, in proportion to size^(1 / temperature).
    """

    rows: Source
    method: str
    count: int
    score: Score | None = None
    keep: Keep = "highest"
    similarity: float | None = None
    per: str | None = None
    temperature: float = 1.0

    def describe(self) -> str:
        """How many, by what, of which rows."""
        rule = "k-center" if self.score is None else type(self.score).__name__
        return f"{self.count:,} of {self.rows.describe()} by {rule}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Raises DataError, with counts by reason, where fewer than `count` rows can be chosen."""
        rows = context.rows(self.rows)
        pool = [i for i, row in enumerate(rows) if is_new(row.origin)]
        # Before a model is asked about any of them.
        self._refuse_few(len(pool), len(pool), {})
        new = [rows[i] for i in pool]
        chosen = {pool[place] for place in self._chosen(context, new)}
        for i in pool:
            context.count("chosen" if i in chosen else "not chosen")
        if len(pool) < len(rows):
            context.count("as it was: not a new row", len(rows) - len(pool))
        for name, places in (("chosen", sorted(chosen)), ("in the pool", pool)):
            context.note(f"characters of an answer, {name}", _answer_chars([rows[i] for i in places]))
        return [row for i, row in enumerate(rows) if i in chosen or not is_new(row.origin)]

    def _chosen(self, context: SynthesisContext, new: Sequence[Example]) -> list[int]:
        scores: Scores = [0.0] * len(new) if self.score is None else self.score(context, new)
        dropped = Counter(one for one in scores if isinstance(one, str))
        for reason, number in dropped.items():
            context.count(f"cannot be chosen: {reason}", number)
        if self.score is not None:
            _note_scores(context, [one for one in scores if not isinstance(one, str)])
        order = ranked(scores, self.keep)
        self._refuse_few(len(order), len(new), dropped)
        groups = self._groups(new, sorted(order))
        share = quotas({name: len(places) for name, places in groups.items()}, self.count, self.temperature)
        if self.per is not None and len(groups) <= SHOWN:
            for name, number in share.items():
                context.count(f"chosen: {self.per} = {shortened(name, SHOWN)}", number)
        if self.score is None:
            return [place for name, places in groups.items() for place in _centres(new, places, share[name])]
        owner = {place: name for name, places in groups.items() for place in places}
        unlike = Unlike(embed([_whole(row) for row in new]), self.similarity) if self.similarity is not None else None
        chosen, passed = _filled(order, owner, share, unlike)
        if passed:
            context.count(f"passed over: {TOO_LIKE}", passed)
        self._refuse_few(len(chosen), len(new), {**dropped, TOO_LIKE: passed})
        return chosen

    def _groups(self, new: Sequence[Example], places: Sequence[int]) -> dict[str, list[int]]:
        """Places by the value of the column."""
        if self.per is None:
            return {"": list(places)}
        columns = {name for row in new for name in row.meta}
        if self.per not in columns:
            raise UsageError(
                f"{self.method}.per = {self.per!r}",
                "is no column of the rows",
                nearest(self.per, columns) if columns else "the rows have no further columns: leave per out",
            )
        found = grouped(new[place].meta.get(self.per) for place in places)
        return {name: [places[k] for k in inner] for name, inner in found.items()}

    def _refuse_few(self, there: int, pool: int, reasons: Mapping[str, int]) -> None:
        if there >= self.count:
            return
        text = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items() if number)
        cure = f"set rows to {there:,} at most, or give more data" if there else "give rows with questions and answers"
        if reasons.get(TOO_LIKE):
            cure += f", or raise {self.method}.similarity"
        raise DataError(
            f"{self.method}.rows = {self.count:,}",
            f"is more than the {there:,} new rows that can be chosen" + (f" of {pool:,} ({text})" if text else ""),
            cure,
        )

    def refuse_small_pool(self) -> None:
        """Raises DataError where the rows can be counted without writing any, and are fewer than the budget."""
        if not generated_in(self.rows):
            _, there = counted(self.rows)
            self._refuse_few(there, there, {})


def refuse_small_pools(values: Iterable[Any]) -> None:
    """`refuse_small_pool` of every selection within the values, so that it is known before the first of many
    trainings."""
    for one in generated_in(tuple(values)):
        if isinstance(one, Selected):
            one.refuse_small_pool()


def ranked(scores: Sequence[float | str], keep: Keep) -> list[int]:
    """Places of the rows that have a score, the first to be chosen first; of equal ones the earlier."""
    there = [(one, place) for place, one in enumerate(scores) if not isinstance(one, str)]
    sign = 1 if keep == "lowest" else -1
    order = [place for _, place in sorted(there, key=lambda one: (sign * one[0], one[1]))]
    if keep != "middle":
        return order
    # The rank of the median is (n - 1) / 2: by distance of ranks, not of values, so that no outlier moves the middle.
    centre = (len(order) - 1) / 2
    return [order[rank] for rank in sorted(range(len(order)), key=lambda rank: (abs(rank - centre), rank))]


def _note_scores(context: SynthesisContext, scores: Sequence[float]) -> None:
    """A judge or a model that scores nearly all rows alike chooses by chance, and the spread shows it."""
    mean = math.fsum(scores) / len(scores) if scores else math.nan
    context.note("score of a row, mean", mean)
    context.note(
        "score of a row, standard deviation",
        math.sqrt(math.fsum((one - mean) ** 2 for one in scores) / len(scores)) if scores else math.nan,
    )


def _filled(
    order: Sequence[int], owner: Mapping[int, str], share: Mapping[str, int], unlike: Unlike | None
) -> tuple[list[int], int]:
    """The first rows of the order that their groups have room for; and how many were passed over for likeness."""
    room, passed = dict(share), 0
    chosen: list[int] = []
    for place in order:
        if len(chosen) == sum(share.values()):
            break
        if not room[owner[place]]:
            continue
        if unlike is not None and not unlike.admit(place):
            passed += 1
            continue
        room[owner[place]] -= 1
        chosen.append(place)
    return chosen, passed


def _centres(new: Sequence[Example], places: Sequence[int], count: int) -> list[int]:
    if count == len(places):
        return list(places)
    return [places[k] for k in k_center(embed([_whole(new[place]) for place in places]), count)]


def _whole(row: Example) -> str:
    return "\n".join(turn.text for turn in row.turns)


def _answer_chars(rows: Sequence[Example]) -> float:
    lengths = [len(answer) for row in rows for _, answer in answers_of(row)]
    return sum(lengths) / len(lengths) if lengths else math.nan
