"""Families of tasks for instruction tuning (FLAN, arXiv:2109.01652): real sets as rows in several wordings, with an
instruction and without, and suites that ask in wordings which nobody learned.

A family turns a set under the folder of third-party data into cases: an input, options, the right one. Written below
`out`/data are its rows to learn, the rows of all families, of all but one, and the same rows without instructions. Each
set keeps its own licence (Super-NaturalInstructions and what it is made of, SLURP text CC BY 4.0, GSM8K MIT, XQuAD CC
BY-SA 4.0) and never enters this repository.

Without an instruction a row is the input and the answer alone; both end in the line that the answer stands on, so that
where an answer begins is no part of what an instruction teaches.

Deviations from the paper: 1. five families of one set each, not twelve of 62, and four wordings a family, not ten.
2. families are asked in wordings of their own, which no arm learned. 3. the line "Answer:" stands for the EOS between
input and target, which a model that was trained as a whole can learn and adapters on few rows cannot. 4. every family
has options, listed behind the input as in the paper, and is scored by their likelihood. 5. a wording that turns the
task round is not among them.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.files import write_jsonl, write_text
from mnemos.recipes.reproductions.prepare import held_out, rows
from mnemos.recipes.reproductions.real_models import shuffled
from mnemos.recipes.reproductions.superni import SOURCE, cut

Row = dict[str, Any]

LEARNED, ASKED, ASKED_FEWER, CHOSEN = 48, 40, 20, 16
"""Rows of a family that are learned; items that report of a family that is left out in turn, and of one that never is;
items on which settings are chosen."""
MEASURED, CHOOSING = 0.3, 0.2
"""Share of all cases that report, and share of the others on which settings are chosen."""
OPTIONS = 4
"""Options of a case where a set has more."""
LONGEST, LONGEST_SENTENCE, LONGEST_ANSWER = 160, 120, 28
"""Characters of an input, of each of two sentences, and of an option that is a piece of text."""
UNSEEN = ("sentiment", "topic")
"""Families that are left out in turn: their labels are words that say what they mean, and no other has such inputs."""


@dataclass(frozen=True)
class Case:
    """One question. parts: what a wording's braces hold. cluster: what cases share that are not independent."""

    id: str
    parts: Mapping[str, str]
    options: tuple[str, ...]
    answer: str
    cluster: str = ""


@dataclass(frozen=True)
class Family:
    """Cases of one kind. input: what stands in place of {input} in every wording. taught, asked: wordings that are
    learned, and others that ask."""

    cases: Callable[[Path], Iterator[Case]]
    input: str
    taught: tuple[str, ...]
    asked: tuple[str, ...]


# what is read ---------------------------------------------------------------------------------------


def sentiment(data: Path) -> Iterator[Case]:
    """A review of a product, cut at a word -> positive or negative."""
    for row in superni(data, "sa"):
        text = cut(spaced(row["input"]), LONGEST)
        yield Case(row["id"], {"text": text}, mixed(("positive", "negative"), row["id"]), row["output"])


def paraphrase(data: Path) -> Iterator[Case]:
    """Two sentences -> same or different. Half of the sentences stand beside their own paraphrase, the others beside
    that of the sentence with which they share most words."""
    pairs = [(row["id"], spaced(row["input"]), spaced(row["output"])) for row in superni(data, "para")]
    pairs = [pair for pair in pairs if max(map(len, pair[1:])) <= LONGEST_SENTENCE]
    for number, (identity, first, own) in enumerate(pairs):
        same = number % 2 == 0
        second = own if same else _nearest(first, [other for one, _, other in pairs if one != identity])
        options = mixed(("same", "different"), identity)
        yield Case(identity, {"first": first, "second": second}, options, "same" if same else "different")


def _nearest(sentence: str, others: Sequence[str]) -> str:
    words = set(sentence.split())
    return max(others, key=lambda other: (len(words & set(other.split())), other))


TOPICS = ("alarm", "calendar", "email", "lists", "music", "news", "transport", "weather")
"""Scenarios of SLURP whose names say what they are."""


def topic(data: Path) -> Iterator[Case]:
    """A spoken command -> its topic, of four that are offered."""
    for row in rows(data / "slurp_text/devel.jsonl.gz"):
        identity, right = f"slurp-{row['slurp_id']}", row["scenario"]
        if right in TOPICS:
            offered = offer(right, [one for one in TOPICS if one != right], identity)
            yield Case(identity, {"text": spaced(row["sentence"])}, offered, right)


def reading(data: Path) -> Iterator[Case]:
    """A sentence of a passage and a question -> the right one of four answers to questions about the passage."""
    passages: dict[str, list[Row]] = defaultdict(list)
    for row in rows(data / "xquad/en.jsonl.gz"):
        passages[row["context"]].append(row)
    for passage, asked in passages.items():
        for row in asked:
            right = spaced(row["answers"][0]["text"])
            sentence = _sentence(passage, int(row["answers"][0]["answer_start"]))
            others = {spaced(one["answers"][0]["text"]) for one in asked} - {right}
            wrong = sorted(one for one in others if len(one) <= LONGEST_ANSWER and not _within(one, right))
            fits = len(sentence) <= LONGEST and right in sentence and len(right) <= LONGEST_ANSWER
            if fits and len(wrong) >= OPTIONS - 1:
                parts = {"text": sentence, "question": spaced(row["question"])}
                yield Case(row["id"], parts, offer(right, wrong, row["id"]), right, cluster=passage[:40])


def _within(one: str, other: str) -> bool:
    return one.lower() in other.lower() or other.lower() in one.lower()


def _sentence(passage: str, place: int) -> str:
    start = max(
        (passage.rfind(end, 0, place) + len(end) for end in (". ", "? ", "! ") if end in passage[:place]), default=0
    )
    end = passage.find(". ", place)
    return spaced(passage[start : end + 1 if end >= 0 else None])


OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
CALCULATION = re.compile(r"<<([^=>]*)=")
OPERATOR = re.compile(r"(?<=[\d.)%])\s*([-+*/])")


def operation(data: Path) -> Iterator[Case]:
    """A short word problem -> the one kind of sum that its solution begins with."""
    for number, row in enumerate(rows(data / "gsm8k/train.jsonl.gz")):
        signs = set(OPERATOR.findall((CALCULATION.findall(row["answer"]) or [""])[0]))
        question = spaced(row["question"])
        if len(signs) == 1 and len(question) <= LONGEST:
            identity = f"gsm8k-{number}"
            options = mixed(tuple(OPERATIONS.values()), identity)
            yield Case(identity, {"text": question}, options, OPERATIONS[signs.pop()])


def superni(data: Path, category: str) -> Iterator[Row]:
    """Rows of one category of Super-NaturalInstructions."""
    return (row for row in rows(data / SOURCE) if row["category"] == category)


def spaced(text: str) -> str:
    """With single spaces."""
    return " ".join(text.split())


def mixed(options: Sequence[str], identity: str) -> tuple[str, ...]:
    """Options in an order of the case's own, so that no place is right more often."""
    return tuple(random.Random(f"options {identity}").sample(list(options), len(options)))


def offer(right: str, wrong: Sequence[str], identity: str) -> tuple[str, ...]:
    """The right option among others that are drawn."""
    drawn = random.Random(f"offered {identity}").sample(list(wrong), OPTIONS - 1)
    return mixed([right, *drawn], identity)


# how it is said -------------------------------------------------------------------------------------

FAMILIES: Mapping[str, Family] = {
    "sentiment": Family(
        sentiment,
        "{text}",
        (
            "Is the sentiment of this review positive or negative?\n{input}\n{options}",
            "{input}\nWhat does this customer think of the product?\n{options}",
            "Read what a customer wrote, and decide how the customer felt about it.\n{input}\n{options}",
            "Review: {input}\nChoose the sentiment of the review.\n{options}",
        ),
        (
            "Label this review by its sentiment.\n{input}\n{options}",
            "{input}\nIs the writer of this review happy with it? Say which kind of review it is.\n{options}",
        ),
    ),
    "topic": Family(
        topic,
        "{text}",
        (
            "What is this request to an assistant about?\n{input}\n{options}",
            "{input}\nWhich topic does the request belong to?\n{options}",
            "Sort the request into one of the topics.\nRequest: {input}\n{options}",
            "Somebody says: {input}\nName the topic.\n{options}",
        ),
        (
            "Which part of the assistant should deal with this command?\n{input}\n{options}",
            "{input}\nChoose the subject of the command above.\n{options}",
        ),
    ),
    "paraphrase": Family(
        paraphrase,
        "{first}\n{second}",
        (
            "Do these two sentences have the same meaning or a different one?\n{input}\n{options}",
            "{input}\nIs the meaning of both sentences the same?\n{options}",
            "Compare what the two sentences say.\n{input}\n{options}",
            "Here are two sentences.\n{input}\nSay whether they mean the same.\n{options}",
        ),
        (
            "Does the second sentence say what the first one says?\n{input}\n{options}",
            "{input}\nJudge whether one of these sentences is a rewording of the other.\n{options}",
        ),
    ),
    "reading": Family(
        reading,
        "{text}\n{question}",
        (
            "Read the text and answer the question.\n{input}\n{options}",
            "{input}\nWhich answer does the text give?\n{options}",
            "Answer by what the text says.\n{input}\n{options}",
            "Text and question: {input}\nPick the right answer.\n{options}",
        ),
        (
            "Use the passage to find the answer.\n{input}\n{options}",
            "{input}\nChoose what answers the question above.\n{options}",
        ),
    ),
    "operation": Family(
        operation,
        "{text}",
        (
            "Which kind of sum solves the first step of this problem?\n{input}\n{options}",
            "{input}\nWhat has to be done with the numbers first?\n{options}",
            "Name the operation with which the solution begins.\n{input}\n{options}",
            "Problem: {input}\nChoose the first operation.\n{options}",
        ),
        (
            "Say how to begin with this word problem.\n{input}\n{options}",
            "{input}\nPick the operation that the first step needs.\n{options}",
        ),
    ),
}


def prompt(family: Family, case: Case, wording: str | None) -> str:
    """The question in a wording; without one the input alone."""
    given = family.input.format(**case.parts)
    if wording is not None:
        listed = "\n".join(["Options:", *(f"- {one}" for one in case.options)])
        # One pass: an input that holds braces is text, and no place for anything.
        given = re.sub(r"\{(input|options)\}", lambda found: {"input": given, "options": listed}[found[1]], wording)
    return f"{given}\nAnswer:"


def row(family: Family, case: Case, wording: str | None) -> Row:
    """What is learned of a case."""
    return {"id": case.id, "prompt": prompt(family, case, wording), "completion": f" {case.answer}"}


def item(family: Family, case: Case, wording: str) -> Row:
    """A case as it is asked."""
    cluster = {"cluster": case.cluster} if case.cluster else {}
    asked = {"prompt": prompt(family, case, wording), "options": list(case.options), "answer": case.answer, "raw": True}
    return {"id": case.id, **asked, **cluster}


# what is written ------------------------------------------------------------------------------------

Parts = tuple[list[Case], list[Case], list[Case]]


def parts(data: Path, name: str, learned: int = LEARNED) -> Parts:
    """A family's cases to learn, to choose settings on and to ask, in a random order of their own, and no passage in
    two of them. Labels are drawn evenly where a family has the same few in every case. Raises DataError where there
    are too few, FileNotFoundError where `data` lacks a set."""
    found = even(shuffled(FAMILIES[name].cases(data), f"families: {name}"))
    ask = [case for case in found if held_out(_key(case), MEASURED)]
    rest = [case for case in found if not held_out(_key(case), MEASURED)]
    choose = [case for case in rest if held_out(_key(case), CHOOSING, salt="choose ")]
    learn = [case for case in rest if not held_out(_key(case), CHOOSING, salt="choose ")]
    asked = ASKED if name in UNSEEN else ASKED_FEWER
    for what, cases, wanted in (("to learn", learn, learned), ("to choose on", choose, CHOSEN), ("to ask", ask, asked)):
        if len(cases) < wanted:
            raise DataError(
                f"family {name}", f"has {len(cases)} cases {what}, and {wanted} are wanted", "give more data"
            )
    # Shuffled again: wordings are taken in turn, and answers were.
    kept = (learn[:learned], choose[:CHOSEN], ask[:asked])
    return tuple(shuffled(part, f"families: {name} {n}") for n, part in enumerate(kept))  # type: ignore[return-value]


def _key(case: Case) -> Row:
    return {"id": case.id, "cluster": case.cluster}


def even(cases: Sequence[Case]) -> list[Case]:
    """As many cases of every answer, in turn, where the answers are labels; as they are where each is a piece of text
    of its own."""
    by_answer: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_answer[case.answer].append(case)
    if len(by_answer) > len(cases) // 4:
        return list(cases)
    fewest = min(map(len, by_answer.values()))
    return [by_answer[answer][turn] for turn in range(fewest) for answer in sorted(by_answer)]


def make(data: Path, out: Path) -> None:
    """Write rows and suites below `out`/data: rows/all, rows/FAMILY, and for each of `UNSEEN` rows/without-FAMILY; all
    and without-FAMILY also as -bare, without instructions. Suites FAMILY.yaml report, FAMILY-choose.yaml are for
    choosing settings."""
    below, found = out / "data", {name: parts(data, name) for name in FAMILIES}
    for name, (_, choose, ask) in found.items():
        suite(below, name, FAMILIES[name], ask)
        suite(below, f"{name}-choose", FAMILIES[name], choose)
    taught = {name: learn for name, (learn, _, _) in found.items()}
    for name in FAMILIES:
        rows_of(below, name, {name: taught[name]})
    rows_of(below, "all", taught)
    rows_of(below, "all-bare", taught, bare=True)
    for name in UNSEEN:
        others = {other: learn for other, learn in taught.items() if other != name}
        rows_of(below, f"without-{name}", others)
        rows_of(below, f"without-{name}-bare", others, bare=True)


def rows_of(below: Path, name: str, taught: Mapping[str, Sequence[Case]], *, bare: bool = False) -> None:
    """Write one file of rows: the wordings of a family are taken in turn; bare: none of them."""
    made = []
    for family, cases in ((FAMILIES[one], cases) for one, cases in taught.items()):
        wordings = (None,) if bare else family.taught
        made += [row(family, case, wordings[n % len(wordings)]) for n, case in enumerate(cases)]
    write_jsonl(below / "rows" / f"{name}.jsonl", shuffled(made, f"rows: {len(taught)}"))


def suite(below: Path, name: str, family: Family, cases: Sequence[Case]) -> None:
    """Write a suite of these cases, the wordings that ask taken in turn."""
    write_jsonl(
        below / f"{name}.items.jsonl",
        [item(family, case, family.asked[n % len(family.asked)]) for n, case in enumerate(cases)],
    )
    settings = {"name": name, "kind": "choice", "data": f"{name}.items.jsonl", "tolerance": 5}
    write_text(below / f"{name}.yaml", json.dumps(settings, indent=1) + "\n")
