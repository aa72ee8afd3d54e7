"""What a model knows of the facts in its training data: every question asked with few-shot prompts before training.

`Classified` is a source whose rows carry, under `KEY`, the class of SliCK (arXiv:2405.05904) and what the model itself
answers. Sources over it choose rows by class (`OfClasses`). It holds no setting of an arm, so all arms of a study ask
once and select by the same classes.

The prompts of a round share their examples over all facts of a relation, and all samples of a prompt share all of it:
`models.scheduler` reads what is shared once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Example, Generation, LanguageModel, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.rewards.verifiers import best, check_reference, normalise, score
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few
from mnemos.synthesis.self_generated import ASKERS, answerable, answered
from mnemos.synthesis.slick import CLASSES, UNKNOWN, Known, again, priors

KEY = "knowledge"
"""The column of a classified row that holds what was found."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """How facts are asked.

    prompts: few-shot prompts a fact. shots: other facts of its relation in each. samples: answers sampled to each
    prompt, beside a greedy one; without any, what would be WeaklyKnown is Unknown. temperature, top_k: of sampling.
    verifier: when an answer is right. relation, aliases: columns with the kind of fact and with further right answers.
    raw: as text instead of a chat. early_stop: sample only where no greedy answer is right, and in each half of the
    prompts only until one is. seed: of examples and samples.
    """

    prompts: int = 10
    shots: int = 4
    samples: int = 16
    temperature: float = 0.5
    top_k: int = 40
    max_new_tokens: int = 32
    verifier: str = "normalised"
    relation: str = "relation"
    aliases: str = "aliases"
    raw: bool = False
    early_stop: bool = True
    seed: int = 0

    def right(self, fact: Fact, answer: Generation) -> bool:
        """Whether an answer is one of the fact's right ones. What cannot be compared is not right."""
        return best([score(self.verifier, answer.text.strip(), gold) for gold in fact.golds]).value == 1


@dataclass(frozen=True)
class Fact:
    """A question. context: its turns, the last one asks. shown: the answer that it has as an example for others.
    golds: every right one. text: whether it is asked as text. rows: places of the rows that ask it."""

    context: tuple[Turn, ...]
    shown: str
    golds: tuple[str, ...]
    relation: str
    text: bool
    rows: tuple[int, ...]
    variables: Any = ()

    @property
    def question(self) -> str:
        """The last turn's text."""
        return self.context[-1].text

    @property
    def alone(self) -> bool:
        """Whether nothing but a system turn stands before the question, so that it may be another one's example."""
        return all(turn.role == "system" for turn in self.context[:-1])


def facts_in(rows: Sequence[Example], asking: Asking) -> tuple[list[Fact], Counter[str]]:
    """Every question once, with the right answers of all rows that ask it; and rows left out, by reason."""
    left: Counter[str] = Counter()
    found: dict[Any, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        reason = _not_asked(row, asking)
        if reason is None:
            found[row.turns[:-1], row.variables, _relation(row, asking)].append(place)
        else:
            left[reason] += 1
    facts = []
    for (context, variables, relation), places in found.items():
        golds = dict.fromkeys(gold for place in places for gold in _golds(rows[place], asking))
        first = rows[places[0]]
        text = asking.raw or first.kind == "completion"
        if text and first.kind == "messages":
            context = (Turn("prompt", f"Question: {context[-1].text}\nAnswer:"),)
        last = first.turns[-1].text
        facts.append(Fact(context, last, tuple(golds), relation, text, tuple(places), variables))
    sizes = Counter((fact.relation, fact.text) for fact in facts if fact.alone)
    kept = [fact for fact in facts if sizes[fact.relation, fact.text] > asking.shots]
    few = sum(len(fact.rows) for fact in facts) - sum(len(fact.rows) for fact in kept)
    if few:
        left[f"not asked: fewer than {asking.shots + 1} questions of its relation"] += few
    return kept, left


def _not_asked(row: Example, asking: Asking) -> str | None:
    if row.origin != "new":
        return "as it was: not a new row"
    if not answerable(row) or row.turns[-2].role not in ASKERS:
        return "not asked: no answer to a question"
    if asking.raw and row.kind == "messages" and sum(turn.role != "system" for turn in row.turns) > 2:
        return "not asked: a chat of several turns, which text has no words for"
    if not _golds(row, asking):
        return "not asked: a gold answer that no answer could meet"
    return None


def _golds(row: Example, asking: Asking) -> list[str]:
    """The row's own answer and its aliases, without those that nothing could meet."""
    more = row.meta.get(asking.aliases) or ()
    texts = [row.turns[-1].text, *(more if isinstance(more, list | tuple) else [more])]
    return [str(text).strip() for text in texts if isinstance(text, str | int | float) and _usable(str(text), asking)]


def _usable(gold: str, asking: Asking) -> bool:
    try:
        check_reference(asking.verifier, gold.strip(), where="gold")
    except DataError:
        return False
    return bool(gold.strip())


def _relation(row: Example, asking: Asking) -> str:
    return str(row.meta.get(asking.relation, ""))


# prompts ------------------------------------------------------------------------------------------


def prompts_for(facts: Sequence[Fact], asking: Asking) -> list[list[Prompt]]:
    """Prompt[P][F]: the few-shot prompts, each with the same examples for every fact of a relation.

    One example more than needed is drawn, and stands in for a fact that would be its own example.
    """
    pools: dict[tuple[str, bool], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.alone:
            pools[fact.relation, fact.text].append(fact)
    out = []
    for number in range(asking.prompts):
        drawn = {
            key: random.Random(f"slick {asking.seed} {key} {number}").sample(pool, asking.shots + 1)
            for key, pool in pools.items()
        }
        out.append([_prompt(fact, drawn[fact.relation, fact.text], asking.shots) for fact in facts])
    return out


def _prompt(fact: Fact, drawn: Sequence[Fact], shots: int) -> Prompt:
    others = [one for one in drawn if one is not fact][:shots]
    if fact.text:
        shown = "".join(f"{one.question}{_behind(one)}{one.shown.strip()}\n\n" for one in others)
        return Prompt((Turn("prompt", f"{shown}{fact.question}{_line(fact)}"),))
    turns = [turn for one in others for turn in (one.context[-1], Turn("assistant", one.shown))]
    head = [turn for turn in fact.context[:1] if turn.role == "system"]
    return Prompt((*head, *turns, *fact.context[len(head) :]), fact.variables)


def _behind(fact: Fact) -> str:
    """What stands between a question and its answer in text."""
    lead = fact.shown[: len(fact.shown) - len(fact.shown.lstrip())]
    return lead or ("" if fact.question[-1:].isspace() else " ")


def _line(fact: Fact) -> str:
    """A line break before the answer belongs to the question: an answer ends at the next one."""
    lead = _behind(fact)
    return lead if "\n" in lead else ""


def stops_of(facts: Sequence[Fact]) -> tuple[str, ...]:
    """What ends an answer in text: a line, or an empty one where some gold answer has several lines."""
    return ("\n\n",) if any("\n" in gold for fact in facts for gold in fact.golds) else ("\n",)


# asking -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probed:
    """Of each fact, what was found (None: a prompt did not fit the context) and its greedy answers; asked: answers that
    were generated."""

    known: list[Known | None]
    greedy: list[list[str]]
    asked: int


def probe(model: LanguageModel, facts: Sequence[Fact], asking: Asking) -> Probed:
    """Ask a model every fact."""
    prompts = prompts_for(facts, asking)
    asker = _Asker(model, facts, prompts, asking)
    fits = [True] * len(facts)
    greedy: list[list[str]] = [[] for _ in facts]
    right: list[list[bool]] = [[] for _ in facts]
    every = [(i, j) for j in range(asking.prompts) for i in range(len(facts))]
    for (i, _), [answer] in zip(every, asker.ask(every, 1, 0.0, 0), strict=True):
        fits[i] = fits[i] and not _no_room(answer)
        greedy[i].append(answer.text.strip())
        right[i].append(asking.right(facts[i], answer))
    sampled = [[(0, 0)] * asking.prompts for _ in facts]
    # Rounds of two prompts, one of each half: a half is done once one of its samples is right.
    for first in range(0, asking.prompts, 2):
        going = [
            (i, j)
            for j in range(first, min(first + 2, asking.prompts))
            for i in range(len(facts))
            if fits[i] and _undecided(right[i], sampled[i], j, asking)
        ]
        for (i, j), answers in zip(
            going, asker.ask(going, asking.samples, asking.temperature, asking.top_k), strict=True
        ):
            sampled[i][j] = (sum(asking.right(facts[i], one) for one in answers), len(answers))
    known = [Known(tuple(right[i]), tuple(sampled[i])) if fits[i] else None for i in range(len(facts))]
    return Probed(known, greedy, asker.asked)


def _undecided(right: Sequence[bool], sampled: Sequence[tuple[int, int]], prompt: int, asking: Asking) -> bool:
    if not asking.samples:
        return False
    if not asking.early_stop:
        return True
    return not any(right) and not any(hits for hits, _ in sampled[prompt % 2 :: 2])


def _no_room(answer: Generation) -> bool:
    """What a prompt that fills the context comes back as."""
    return not answer.text and not answer.ids and not answer.finished


class _Asker:
    """Asks a model pairs of a fact and a prompt. asked: answers so far."""

    def __init__(
        self, model: LanguageModel, facts: Sequence[Fact], prompts: Sequence[Sequence[Prompt]], asking: Asking
    ) -> None:
        self.model, self.facts, self.prompts, self.asking = model, facts, prompts, asking
        self.stops = stops_of([fact for fact in facts if fact.text])
        self.asked = 0

    def ask(
        self, pairs: Sequence[tuple[int, int]], number: int, temperature: float, top_k: int
    ) -> list[list[Generation]]:
        """`number` answers to each pair (fact, prompt), in their order."""
        out: list[list[Generation]] = [[] for _ in pairs]
        for text in (False, True):
            places = [place for place, (i, _) in enumerate(pairs) if self.facts[i].text == text]
            if not places:
                continue
            asked = [self.prompts[pairs[place][1]][pairs[place][0]] for place in places for _ in range(number)]
            decoding = Decoding(
                self.asking.max_new_tokens, temperature, top_k=top_k, seed=self.asking.seed,
                stop=self.stops if text else (),
            )  # fmt: skip
            answers = self.model.generate(asked, decoding)
            self.asked += len(answers)
            for at, place in enumerate(places):
                out[place] = answers[at * number : (at + 1) * number]
        return out


# rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classified(NotGenerated):
    """The rows as they are, each with what the model before knows of it under `KEY`. rows without a class (see
    `facts_in`) have no such column, and are counted."""

    rows: Source
    before: ModelHandle
    asking: Asking

    def describe(self) -> str:
        """The rows, and who is asked."""
        return f"{self.rows.describe()} with what the model before knows of each"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Ask about every row. Raises DataError, with counts by reason, where none can be asked."""
        rows = context.rows(self.rows)
        facts, left = facts_in(rows, self.asking)
        records = classified(context.model(self.before), facts, self.asking, context)
        out = list(rows)
        number = 0
        for fact, record in zip(facts, records, strict=True):
            if record is None:
                left["not asked: a prompt longer than the context"] += len(fact.rows)
                continue
            number += len(fact.rows)
            context.count(record["class"], len(fact.rows))
            for place in fact.rows:
                out[place] = replace(rows[place], meta={**rows[place].meta, KEY: record})
        for reason, count in left.items():
            context.count(reason, count)
        too_few(
            left, number, 1, what="questions",
            cure=f"a fact is a row with a question and an answer, and {self.asking.shots} others of its relation are "
            f"examples: name their column, ask for fewer shots, or leave the column out",
        )  # fmt: skip
        return out


def classified(
    model: LanguageModel, facts: Sequence[Fact], asking: Asking, context: SynthesisContext
) -> list[Record | None]:
    """What was found of each fact, as its rows hold it; None where it could not be asked.

    class; greedy_right, greedy, sampled_right, sampled: counts; again: class -> probability of it in a second probing;
    same_halves; own: the answer that most prompts give greedily, confidence, their share, and own_right.
    """
    probed = probe(model, facts, asking)
    prior = priors([known for known in probed.known if known is not None])
    out: list[Record | None] = []
    for fact, known, texts in zip(facts, probed.known, probed.greedy, strict=True):
        if known is None:
            out.append(None)
            continue
        record = _record(known, again(known, prior, asking.samples), texts)
        out.append({**record, "own_right": asking.right(fact, Generation(record["own"], (), True))})
    context.note("answers a question", probed.asked / len(facts) if facts else 0.0)
    halves = [known.same_halves for known in probed.known if known is not None and known.same_halves is not None]
    context.note("same class in both halves", sum(halves) / len(halves) if halves else float("nan"))
    return out


def _record(known: Known, posterior: Mapping[str, float], texts: Sequence[str]) -> Record:
    right, asked, sampled_right, sampled = known.counts
    own, number = Counter(map(normalise, texts)).most_common(1)[0]
    return {
        "class": known.name,
        "greedy_right": right,
        "greedy": asked,
        "sampled_right": sampled_right,
        "sampled": sampled,
        "again": {name: round(value, 4) for name, value in posterior.items()},
        "same_halves": known.same_halves,
        "own": next(text for text in texts if normalise(text) == own),
        "confidence": number / asked,
    }


def class_in(row: Example) -> str | None:
    """The class of a classified row; None where it has none."""
    found = row.meta.get(KEY)
    return found["class"] if isinstance(found, Mapping) and found.get("class") in CLASSES else None


@dataclass(frozen=True)
class OfClasses:
    """New rows of the classes in `keep`, `number` of them drawn by seed (None: all), and every row that is not new.

    unknown: what takes the place of the gold answer of Unknown rows; None leaves it.
    """

    rows: Source
    keep: tuple[str, ...]
    number: int | None
    seed: int
    unknown: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of the classified rows and the choice."""
        choice = [self.keep, self.number, self.seed, self.unknown]
        return fingerprint(["OfClasses", self.rows.fingerprint, *choice])

    def describe(self) -> str:
        """One line for people."""
        some = "" if self.number is None else f"{self.number:,} "
        return f"{some}{', '.join(self.keep)} of {self.rows.describe()}"

    def __iter__(self) -> Iterator[Example]:
        rows = list(self.rows)
        chosen = drawn([at for at, row in enumerate(rows) if class_in(row) in self.keep], self.number, self.seed,
                       " and ".join(self.keep), Counter(filter(None, map(class_in, rows))))  # fmt: skip
        for at, row in enumerate(rows):
            if row.origin != "new":
                yield row
            elif at in chosen:
                relabelled = self.unknown is not None and class_in(row) == UNKNOWN
                yield answered(row, self.unknown or "") if relabelled else row


def drawn(places: Sequence[int], number: int | None, seed: int, what: str, there: Mapping[str, int]) -> set[int]:
    """`number` of the places, by seed. Raises DataError where there are fewer, or none."""
    if not places or (number is not None and number > len(places)):
        classes = ", ".join(f"{name}: {count:,}" for name, count in there.items()) or "none was classified"
        raise DataError(
            f"{number or 1:,} rows of {what}",
            f"there are {len(places):,} ({classes})",
            "ask for fewer, so that arms of one size can be compared, or give more data",
        )
    return set(places) if number is None else set(random.Random(f"classes {seed}").sample(list(places), number))
