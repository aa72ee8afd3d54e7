"""What a model knows of the facts in its training data: every question asked with few-shot prompts before training.

The prompts of a round share their examples over all facts of a relation, and all samples of a prompt share all of it:
`models.scheduler` reads what is shared once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, LanguageModel, Prompt, Turn
from mnemos.rewards.verifiers import best, check_reference, score
from mnemos.synthesis.self_generated import ASKERS, answerable
from mnemos.synthesis.slick import Known


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
