"""Instructions with inputs and answers that a model makes up from a few seeds (Self-Instruct, arXiv:2212.10560)."""

from __future__ import annotations

import math
import random
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation
from mnemos.sources.dedup import Exact
from mnemos.sources.generated import SynthesisContext
from mnemos.sources.novelty import NoveltyIndex
from mnemos.sources.words import words
from mnemos.synthesis.instructions import MadeInstructions, asked_as, like, single
from mnemos.synthesis.writers import Tally

ORIGIN = "new, self-instruct"
FEWEST_SEEDS = 8
"""Instructions that one prompt shows."""
FEWEST_PROMPTS, PROMPTS_A_ROUND = 16, 32
"""Prompts whose instructions are filtered before the next ones are drawn from the pool."""
MOST_INSTANCES = 5
"""Of one instruction."""

FEWEST_WORDS, MOST_WORDS = 4, 150
UNFIT = "image images graph graphs picture pictures file files map maps draw plot".split()  # noqa: SIM905
_UNFIT = re.compile(rf"\b(?:{'|'.join(UNFIT)}|go to)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\n\s*\d{1,3}\s?[.)] ")

MAKE = "Come up with a series of tasks:\n"
IS_CLASSIFICATION = """\
Does the task have a small, fixed set of labels as its possible outputs?

Task: Say whether the review is positive or negative.
Labels: yes

Task: Write a short poem about the sea.
Labels: no

Task: Which of the four seasons does the sentence speak of?
Labels: yes

Task: Explain to a child why the sky is blue.
Labels: no

Task: {instruction}
Labels:"""
INPUT_FIRST = """\
Come up with examples for the tasks. Where a task needs no further input, write the output alone.

Task: Sort the numbers from the smallest to the largest.
Example 1
Input: 10, 92, 2, 5
Output: 2, 5, 10, 92
Example 2
Input: -4, 7, 0
Output: -4, 0, 7

Task: Name three things that float on water.
Example 1
Output: A cork, a dry leaf and a wooden boat.

Task: Put the sentence into the past tense.
Example 1
Input: She walks to the old mill.
Output: She walked to the old mill.

Task: {instruction}
"""
OUTPUT_FIRST = """\
Write an input for each of the labels that the task can have as its output.

Task: Say whether the review is positive or negative.
Class label: positive
Review: The bread was fresh and the people were kind.
Class label: negative
Review: We waited for an hour and the soup was cold.

Task: Is the number even or odd? Answer even or odd.
Class label: even
Number: 28
Class label: odd
Number: 7

Task: {instruction}
"""
_EXAMPLE = re.compile(r"(?:\A|\n)\s*Example\s?\d*\s?[.:]?")
_OUTPUT, _INPUT = re.compile(r"Output\s*\d*\s*:"), re.compile(r"Input\s*\d*\s*:")
_LABEL = "Class label:"

Instance = tuple[str, str]
"""Input, which may be empty, and output."""


@dataclass(frozen=True)
class Making:
    """Settings of the making; see the method."""

    rows: int
    oversample: float
    novelty: float
    generated_shots: int
    temperature: float
    top_p: float
    max_instruction_tokens: int
    max_instance_tokens: int
    raw: bool
    min_usable: float
    seed: int


@dataclass(frozen=True)
class SelfInstructRows(MadeInstructions):
    """`making.rows` rows of instructions that the author makes up; seeds are no part of them."""

    making: Making

    def describe(self) -> str:
        """One line for people."""
        return f"{self.making.rows:,} rows that {self.author.path} makes up from {self.seeds.describe()}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Instructions by rounds, each with its instances, until the budget is full or the prompts are spent. Raises
        DataError for fewer than eight seeds, and with counts by reason where too little is usable."""
        given, tally = self.making, Tally(context)
        seeds = single(context.rows(self.seeds))
        shown = instructions_of(seeds)
        index = NoveltyIndex(given.novelty)
        for one in shown:
            index.add(one)
        exact = Exact()
        for row in seeds:
            exact.repeats("\n".join(turn.text for turn in row.turns))
        rng = random.Random(f"self-instruct {given.seed}")
        made: list[str] = []
        rows: list[Example] = []
        left = math.ceil(given.oversample * given.rows)
        while len(rows) < given.rows and left > 0:
            # As many as rows are missing, but never so few that the last rows are asked for one at a time.
            number = min(left, PROMPTS_A_ROUND, max(given.rows - len(rows), FEWEST_PROMPTS))
            prompts = [shown_as(_drawn(rng, shown, made, given.generated_shots)) for _ in range(number)]
            left -= len(prompts)
            new = self._novel(context, tally, index, prompts)
            made += new
            found = self._instances(context, tally, new)
            rows += self.clean(tally, _rows(seeds[0], found, len(made) - len(new)), exact)
        context.note("instructions made", len(made))
        context.note("rows of an instruction", len(rows) / len(made) if made else math.nan)
        cure = "raise self_instruct.oversample or the token limits, or name a larger self_instruct.author"
        return tally.keep(rows, given.rows, given.min_usable, what="rows of made-up instructions", cure=cure)

    def _novel(self, context: SynthesisContext, tally: Tally, index: NoveltyIndex, prompts: Sequence[str]) -> list[str]:
        """Instructions of one round that are like none of the pool; they are of it from now on."""
        given = self.making
        decoding = Decoding(
            given.max_instruction_tokens, given.temperature, given.top_p, seed=given.seed, stop=("\n\n",)
        )
        asked = [asked_as(prompt, given.raw) for prompt in prompts]
        new = []
        for answer in context.model(self.author).generate(asked, decoding):
            for one in listed(answer, tally):
                reason = unfit(one) or ("like an instruction that was there" if not index.admit(one) else None)
                if reason is None:
                    new.append(one)
                else:
                    tally.drop(f"instruction: {reason}")
        return new

    def _instances(
        self, context: SynthesisContext, tally: Tally, instructions: Sequence[str]
    ) -> list[tuple[str, bool, list[Instance]]]:
        """Each instruction, whether it is a classification, and its instances, output first where it is: a model that
        writes inputs first mostly writes such of one label."""
        if not instructions:
            return []
        given, model = self.making, context.model(self.author)
        verdicts = model.generate(
            [asked_as(IS_CLASSIFICATION.format(instruction=one), given.raw) for one in instructions],
            Decoding(4, stop=("\n",)),
        )
        kinds = [_yes_or_no(one.text) for one in verdicts]
        known = [(one, kind) for one, kind in zip(instructions, kinds, strict=True) if kind is not None]
        tally.drop("instruction: neither yes nor no whether it has labels", len(instructions) - len(known))
        context.count("instructions with labels", sum(kind for _, kind in known))
        if not known:
            return []
        asked = [
            asked_as((OUTPUT_FIRST if kind else INPUT_FIRST).format(instruction=one), given.raw) for one, kind in known
        ]
        stop = (f"Example {MOST_INSTANCES + 1}", "Task:")
        answers = model.generate(asked, Decoding(given.max_instance_tokens, stop=stop))
        out = []
        for (one, kind), answer in zip(known, answers, strict=True):
            found, reason = usable(by_label(answer) if kind else by_input(answer))
            if reason:
                tally.drop(f"instruction: {reason}")
            out.append((one, kind, found))
        return out


def instructions_of(seeds: Sequence[Example]) -> list[str]:
    """The different questions of the seeds on one line each, short enough to be shown. Raises DataError for fewer than
    eight."""
    found = dict.fromkeys(" ".join(row.turns[-2].text.split()) for row in seeds)
    usable_ones = [one for one in found if len(words(one)) <= MOST_WORDS]
    if len(usable_ones) < FEWEST_SEEDS:
        raise DataError(
            f"{len(usable_ones)} seed instructions (of {len(seeds):,} rows of one question and one answer)",
            f"are fewer than the {FEWEST_SEEDS} different ones, of {MOST_WORDS} words at most, that each prompt shows",
            "write more of them by hand: the paper has 175",
        )
    return usable_ones


def _drawn(rng: random.Random, seeds: Sequence[str], made: Sequence[str], generated: int) -> list[str]:
    """Eight instructions in a random order, up to `generated` of them made by the author."""
    own = rng.sample(made, min(generated, len(made)))
    shown = [*own, *rng.sample(seeds, FEWEST_SEEDS - len(own))]
    rng.shuffle(shown)
    return shown


def shown_as(instructions: Sequence[str]) -> str:
    """A numbered list with an open place behind it."""
    lines = [f"{number}. {one.rstrip(':')}" for number, one in enumerate(instructions, 1)]
    return MAKE + "\n".join(lines) + f"\n{len(lines) + 1}."


def listed(answer: Generation, tally: Tally) -> Iterator[str]:
    """Instructions of a numbered list, on one line each. The last of a list that the limit cut off is half a one."""
    found = [" ".join(one.split()) for one in _NUMBERED.split(f"\n{answer.text}")]
    if not answer.finished:
        tally.drop("instruction: no end")
        found = found[:-1]
    yield from (one for one in found if one)


def unfit(instruction: str) -> str | None:
    """Why an instruction is not one for a language model, by the paper's rules; None where it may be."""
    count = len(words(instruction))
    if count < FEWEST_WORDS:
        return "too short"
    if count > MOST_WORDS:
        return "too long"
    if _UNFIT.search(instruction):
        return "about pictures, files or maps"
    if instruction.startswith("Write a program"):
        return "a program whose output or text could be meant"
    return "begins with a mark" if instruction[0] in string.punctuation else None


def _yes_or_no(text: str) -> bool | None:
    first = re.findall(r"[a-z]+", text.lower())[:1]
    return {"yes": True, "no": False}.get(first[0]) if first else None


def by_input(answer: Generation) -> list[Instance]:
    """Instances of a text of Example, Input and Output; one without an Output says nothing."""
    parts = _EXAMPLE.split(answer.text) if _EXAMPLE.search(answer.text) else [answer.text]
    found = []
    for part in parts:
        asked, marker, output = _split(_OUTPUT, part)
        if marker:
            # What follows a further Input is another instance, whose border nobody can tell.
            found.append((_INPUT.sub("", asked, count=1).strip(), _split(_INPUT, output)[0].strip()))
    return found if answer.finished else found[:-1]


def by_label(answer: Generation) -> list[Instance]:
    """Instances of a text of class labels, each with its input on the lines behind it."""
    found = []
    for part in answer.text.split(_LABEL)[1:]:
        label, _, asked = part.strip().partition("\n")
        found.append((asked.strip(), label.strip()))
    return found if answer.finished else found[:-1]


def _split(pattern: re.Pattern[str], text: str) -> tuple[str, str, str]:
    met = pattern.search(text)
    return (text[: met.start()], met[0], text[met.end() :]) if met else (text, "", "")


def usable(instances: Sequence[Instance]) -> tuple[list[Instance], str]:
    """Instances that may be learned, each once, five at most; and why there is none, where there is none."""
    kept = [
        (asked, output)
        for asked, output in instances
        if output and asked != output and not asked.endswith(":") and not output.endswith(":")
    ]
    if not kept:
        return [], "no instance that can be read"
    outputs: dict[str, str] = {}
    for asked, output in kept:
        # One of the two answers is wrong, and nobody can say which: none of the instruction is believed.
        if asked and outputs.setdefault(asked, output) != output:
            return [], "one input with two outputs"
    return list(dict.fromkeys(kept))[:MOST_INSTANCES], ""


def _rows(seed: Example, found: Sequence[tuple[str, bool, list[Instance]]], start: int) -> Iterator[Example]:
    for number, (instruction, kind, instances) in enumerate(found, start):
        for place, (asked, output) in enumerate(instances):
            question = f"{instruction}\n\n{asked}" if asked else instruction
            more = {"instruction": instruction, "classification": kind}
            yield like(seed, f"self-instruct/{number}/{place}", question, output, ORIGIN, **more)
