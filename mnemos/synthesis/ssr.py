"""Rows made up from a few demonstrations, and answered by the model itself (SSR, arXiv:2403.01244)."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import NotGenerated, SynthesisContext
from mnemos.sources.similarity import representative
from mnemos.synthesis.writers import Tally, answered, fill

_FIELD = re.compile(r"(?:\A|\n)\s*(?:Input|Output):")


@dataclass(frozen=True)
class Synthesis:
    """Settings of the synthesis; see the method."""

    per_new: float
    demonstrations: int
    shots: int
    oversample: float
    temperature: float
    top_p: float
    clusters: int
    longest_input: int
    longest_output: int
    max_new_tokens: int
    min_usable: float
    seed: int


@dataclass(frozen=True)
class SyntheticRows(NotGenerated):
    """Rows like those of an earlier task. rows: that task's, of which a few are shown. author: who
    makes up inputs. answers: who answers them; None keeps the author's outputs."""

    task: str
    rows: Source
    author: ModelHandle
    answers: ModelHandle | None
    synthesis: Synthesis

    def describe(self) -> str:
        """One line for people."""
        text = self.synthesis
        return f"{100 * text.per_new:g} % of {self.task} made up by {self.author.path} from {text.demonstrations} rows"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Synthesise, filter, select, answer: steps 1 to 4 of the paper."""
        given, tally = self.synthesis, Tally(context)
        stored = context.rows(self.rows)
        wanted = math.ceil(given.per_new * len(stored))
        shown = self._demonstrations(stored)
        prompts = _prompts(shown, given.shots, math.ceil(given.oversample * wanted), given.seed)
        decoding = Decoding(given.max_new_tokens, given.temperature, given.top_p, seed=given.seed)
        text = context.model(self.author).generate(prompts, decoding)
        # All demonstrations have one form and one definition, so the first stands for them.
        rows = self._parsed(tally, text, shown[0])
        # Chosen rows first, the others behind as substitutes for those whose answer is left out.
        chosen = set(representative([question(row) for row in rows], wanted, given.clusters, given.seed))
        ordered = [rows[i] for i in sorted(chosen)] + [row for i, row in enumerate(rows) if i not in chosen]
        done = fill(ordered, wanted, lambda batch: self._answered(tally, batch))
        cure = "raise ssr.oversample or ssr.max_new_tokens, show more demonstrations, or name a larger ssr.author"
        return tally.keep(done, wanted, given.min_usable, what=f"rows like those of {self.task}", cure=cure)

    def _demonstrations(self, stored: Sequence[Example]) -> list[Example]:
        """Rows to show: one question and one answer, all under the same system turn."""
        # One definition stands above all demonstrations of a prompt, so they must share it: the largest group is
        # taken.
        groups: dict[tuple[str, str], list[Example]] = defaultdict(list)
        for row in stored:
            if _is_pair(row):
                groups[row.kind, definition(row)].append(row)
        usable = max(groups.values(), key=len, default=[])
        if len(usable) < self.synthesis.demonstrations:
            raise DataError(
                f"ssr.demonstrations = {self.synthesis.demonstrations}",
                f"task {self.task} has {len(usable):,} usable rows (one question with one answer, no line that begins "
                f"with Input: or Output:, the same system turn) of {len(stored):,}",
                f"set demonstrations to {max(2, len(usable))} at most, or use lamol or replay",
            )
        return random.Random(f"ssr {self.synthesis.seed}").sample(usable, self.synthesis.demonstrations)

    def _parsed(self, tally: Tally, generations: Sequence[Generation], shown: Example) -> list[Example]:
        rows: list[Example] = []
        seen: set[str] = set()
        for number, generation in enumerate(generations):
            limits = self.synthesis.longest_input, self.synthesis.longest_output
            found = parse(generation, *limits, answered=self.answers is not None)
            if isinstance(found, str):
                tally.drop(found)
            elif found[0] in seen:
                tally.drop("an input that was there before")
            else:
                seen.add(found[0])
                rows.append(_row(shown, f"{self.task}/{number}", *found))
        return rows

    def _answered(self, tally: Tally, rows: list[Example]) -> list[Example]:
        if self.answers is None:
            return rows
        return answered(tally, self.answers, rows, self.synthesis.max_new_tokens)


def _is_pair(row: Example) -> bool:
    roles = tuple(turn.role for turn in row.turns)
    pair = roles in (("user", "assistant"), ("system", "user", "assistant"), ("prompt", "completion"))
    alone = not row.variables and not any(turn.fields for turn in row.turns)
    return pair and alone and row.label is not False and not any(_FIELD.search(turn.text) for turn in row.turns[-2:])


def definition(row: Example) -> str:
    """What stands above the demonstrations: the system turn, if there is one."""
    return row.turns[0].text if row.turns[0].role == "system" else ""


def question(row: Example) -> str:
    """The input of a row."""
    return row.turns[-2].text


def _prompts(shown: Sequence[Example], shots: int, count: int, seed: int) -> list[Prompt]:
    """`count` prompts: every ordered choice of demonstrations in a random order, round and round.
    Where there are too many choices to list, each prompt draws its own."""
    rng = random.Random(f"ssr prompts {seed}")
    # Two of twenty rows make 380 ordered pairs; five of twenty would make 1.9 million.
    if math.perm(len(shown), shots) <= 100_000:
        orders = list(itertools.permutations(range(len(shown)), shots))
        rng.shuffle(orders)
        picked = list(itertools.islice(itertools.cycle(orders), count))
    else:
        picked = [tuple(rng.sample(range(len(shown)), shots)) for _ in range(count)]
    return [Prompt((Turn("prompt", shown_as([shown[i] for i in order])),)) for order in picked]


def shown_as(rows: Sequence[Example]) -> str:
    """The definition, each row as Input and Output, and an open Input."""
    pairs = [f"Input: {question(row).strip()}\nOutput: {row.turns[-1].text.strip()}" for row in rows]
    head = definition(rows[0]).strip()
    return "\n\n".join([*([head] if head else []), *pairs, "Input:"])


def parse(
    generation: Generation, longest_input: int, longest_output: int, *, answered: bool = False
) -> tuple[str, str] | str:
    """Input and output that a model wrote behind "Input:", or the reason why there are none. What it
    wrote behind a further "Input:" is not read. Lengths in characters. answered: the input will be
    answered anew, so one that ends without an output is taken with an empty one."""
    # The model goes on behind "Input:", writes an output, and often a further example behind it.
    asked, marker, rest = generation.text.partition("\nOutput:")
    # A further field before the output: the input has no end that could be told.
    if _FIELD.search(asked.lstrip()):
        return "no output"
    if not marker and not (answered and generation.finished):
        return "no output" if generation.finished else "no end"
    output, more, _ = rest.partition("\nInput:")
    asked, output = asked.strip(), output.strip()
    if not asked or not (output or answered):
        return "empty input" if not asked else "empty output"
    if len(asked) > longest_input:
        return "input too long"
    # A further "Input:" shows that the output had ended, even where the length limit then cut the text off.
    if not more and not generation.finished:
        return "no end"
    return (asked, output) if len(output) <= longest_output else "output too long"


def _row(shown: Example, id: str, asked: str, output: str) -> Example:
    """A row in the form of the demonstrations, white space at the edges of raw pairs included."""
    contents = [*(turn.text for turn in shown.turns[:-2]), asked, output]
    if shown.kind == "completion":
        contents = [_edged(text, turn.text) for text, turn in zip(contents, shown.turns, strict=True)]
    turns = tuple(Turn(turn.role, text) for turn, text in zip(shown.turns, contents, strict=True))
    return Example(id, "completion" if shown.kind == "completion" else "messages", turns, origin="replay")


def _edged(text: str, like: str) -> str:
    start, end = len(like) - len(like.lstrip()), len(like.rstrip())
    # The white space around a raw prompt is part of what the model learned to answer behind.
    return like[:start] + text + like[end:]
