"""Is a task recognised or learned from examples? Labels in context that are right, drawn, or replaced by symbols.

The same examples are shown before a text to be labelled, with labels of four kinds (arXiv:2305.09731):

    gold      the right label's name: both ways are open
    random    a label's name drawn anew for each example: the format is there, the mapping is not (recognition)
    abstract  a symbol for each label, the same throughout: the mapping is there, names that would tell it from
              elsewhere are not (learning); shown in the minimal template
    minimal   gold in the minimal template, so that template and label are told apart

Items are as many of each label, so that any constant answer is right in 1 / labels of them: `corrected` puts that at
0 and every item right at 1. The label with the highest sum of ln p is the answer; `calibrated` first takes off what
each label gets behind a text without content (arXiv:2102.09690), since names differ in length and frequency.

Deviations from the paper: 1. one template a task instead of three. 2. symbols are letters or numbers. 3. items are
balanced by label, and the same for every draw of examples; the paper averages over data sets.
"""

from __future__ import annotations

import math
import random
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import LanguageModel, Prompt, Turn
from mnemos.measure.uncertainty import mean_interval

Labelling = Literal["gold", "random", "abstract", "minimal"]
LABELLINGS: tuple[Labelling, ...] = ("gold", "random", "abstract", "minimal")
"""What the labels in context are; see above."""

Symbols = Literal["letters", "numbers"]
SPACES: dict[str, tuple[str, ...]] = {
    "letters": tuple(string.ascii_uppercase),
    "numbers": tuple(str(number) for number in range(1, 27)),
}
"""What stands for labels. None ends in a mark, which a tokenizer might join with the line break behind it."""

NATURAL = "Text: {text}\nLabel: {label}"
MINIMAL = "{text}\n{label}"
"""Templates of an example. The natural one may name the task; the minimal one says nothing of it."""
BETWEEN = "\n\n\n"
"""Between examples."""
CONTENT_FREE = "N/A"
"""A text that says nothing, by which scores are calibrated."""

MOST_LABELS = 20
TOGETHER = 16
"""Texts to be labelled that are scored behind one reading of the examples."""
MARGIN = 0.1
"""Of the corrected scale: a change that is proven to lie within it counts as none."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """A text and the name of its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """items: what is asked, as many of each label. pool: what examples are drawn from. labels: their names, sorted."""

    items: tuple[Labelled, ...]
    pool: tuple[Labelled, ...]
    labels: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The share of items that any constant answer gets right."""
        return 1 / len(self.labels)

    @property
    def right(self) -> list[int]:
        """The place of each item's label."""
        return [self.labels.index(item.label) for item in self.items]

    def corrected(self, accuracy: float) -> float:
        """0 at chance, 1 where all is right; below 0 where it is worse than chance."""
        return (accuracy - self.chance) / (1 - self.chance)


@dataclass(frozen=True)
class Asked:
    """How a task is asked. shots: numbers of examples. draws: of examples, each of one seed. natural, minimal:
    templates with {text} and {label} at their end."""

    shots: tuple[int, ...] = (0, 4, 8, 16)
    draws: int = 5
    natural: str = NATURAL
    minimal: str = MINIMAL
    symbols: Symbols = "letters"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("natural", "minimal"):
            text = getattr(self, name)
            if text.count("{text}") != 1 or text.count("{label}") != 1 or not text.endswith("{label}"):
                raise UsageError(
                    f"{name} template {text!r}", "must hold {text} once and end in {label}", f"such as {NATURAL!r}"
                )
        if self.draws < 1 or not self.shots or min(self.shots) < 0 or len({*self.shots}) < len(self.shots):
            raise UsageError(
                f"shots {list(self.shots)}, draws {self.draws}",
                "must be different numbers from 0 on, and at least one draw",
                "such as 0, 4, 8, 16 and 5",
            )


def task_of(rows: Sequence[Labelled], number: int, most_shots: int, seed: int = 0) -> Task:
    """Split rows into items, as many of each label and at most `number`, and a pool of examples; a text that stands
    twice counts once. Raises DataError for fewer than two labels, more than `MOST_LABELS`, or too few rows."""
    unique = {row.text: row for row in reversed(rows)}
    ways: dict[str, list[Labelled]] = defaultdict(list)
    for row in reversed(unique.values()):
        ways[row.label].append(row)
    labels = tuple(sorted(ways))
    if not 2 <= len(labels) <= MOST_LABELS:
        raise DataError(
            f"{len(labels):,} labels",
            f"must be from 2 to {MOST_LABELS}",
            "name the columns of text and label, or keep the rows of some labels (--label)",
        )
    each = number // len(labels)
    rng = random.Random(f"task {seed}")
    items: list[Labelled] = []
    pool: list[Labelled] = []
    for label in labels:
        own = rng.sample(ways[label], len(ways[label]))
        # One row of each label stays for the examples at least.
        if not each or len(own) <= each:
            raise DataError(
                f"label {label!r}: {len(own):,} rows",
                f"{number} items of {len(labels)} labels take {each} of each, and examples at least one more",
                "take fewer items, at least one a label, or leave the label out",
            )
        items += own[:each]
        pool += own[each:]
    if len(pool) < most_shots:
        raise DataError(
            f"{len(pool):,} rows beside the items", f"{most_shots} examples were asked for", "ask for fewer"
        )
    return Task(tuple(items), tuple(rng.sample(pool, len(pool))), labels)


# what is shown ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One draw of examples. examples: the most that are shown; fewer are the first of them. drawn: a label's name for
    each, whatever is right. symbols: label -> symbol."""

    examples: tuple[Labelled, ...]
    drawn: tuple[str, ...]
    symbols: Mapping[str, str]

    def names(self, labelling: Labelling, labels: Sequence[str]) -> list[str]:
        """What may be answered, in the order of the labels."""
        return [self.symbols[label] for label in labels] if labelling == "abstract" else list(labels)

    def context(self, labelling: Labelling, shots: int, template: str) -> str:
        """The first examples, each followed by an empty stretch."""
        out = []
        for example, drawn in list(zip(self.examples, self.drawn, strict=True))[:shots]:
            name = {"random": drawn, "abstract": self.symbols[example.label]}.get(labelling, example.label)
            out.append(filled(template, example.text, name) + BETWEEN)
        return "".join(out)


def filled(template: str, text: str, label: str) -> str:
    """The template with both put in; braces of either are left alone."""
    before, after = template.split("{text}")
    return before + text + after.removesuffix("{label}") + label


def shown(task: Task, asked: Asked, draw: int) -> Shown:
    """The examples of one draw, the same for every labelling and number of shots."""
    rng = random.Random(f"shots {asked.seed} {draw}")
    examples = rng.sample(task.pool, max(asked.shots))
    drawn = [rng.choice(task.labels) for _ in examples]
    return Shown(tuple(examples), tuple(drawn), symbols_of(task.labels, asked.symbols, rng))


def symbols_of(labels: Sequence[str], space: Symbols, rng: random.Random) -> dict[str, str]:
    """A symbol for each label, by a random one-to-one map onto the first of the space."""
    names = SPACES[space][: len(labels)]
    return dict(zip(labels, rng.sample(names, len(names)), strict=True))


# asking -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What one labelling with one number of examples gave. right, calibrated: bool[D, n], of each draw and item, by
    the sum of ln p and after calibration."""

    labelling: Labelling
    shots: int
    right: Bools
    calibrated: Bools


def ask(model: LanguageModel, task: Task, asked: Asked, say: Callable[[str], None] = lambda line: None) -> list[Cell]:
    """Every labelling and number of examples. say: is told each cell as it comes.

    Without examples gold and random are one question, asked once. Raises DataError where a context is too long for
    the model: examples that fall out of it without a word would make cells unequal.
    """
    draws = [shown(task, asked, draw) for draw in range(asked.draws)]
    out: list[Cell] = []
    for shots in sorted(asked.shots):
        for labelling in LABELLINGS:
            same = next((one for one in out if (one.labelling, one.shots) == ("gold", 0)), None)
            if labelling == "random" and not shots and same is not None:
                out.append(Cell("random", 0, same.right, same.calibrated))
                continue
            found = [_draw(model, task, asked, one, labelling, shots) for one in draws]
            out.append(Cell(labelling, shots, np.array([a for a, _ in found]), np.array([b for _, b in found])))
            say(f"{labelling} with {shots} examples: {100 * out[-1].right.mean():.1f} % right")
    return out


def _draw(
    model: LanguageModel, task: Task, asked: Asked, one: Shown, labelling: Labelling, shots: int
) -> tuple[Bools, Bools]:
    template = asked.natural if labelling in ("gold", "random") else asked.minimal
    names = one.names(labelling, task.labels)
    context = one.context(labelling, shots, template)
    texts = [*(item.text for item in task.items), CONTENT_FREE]
    groups = [texts[at : at + TOGETHER] for at in range(0, len(texts), TOGETHER)]
    # A text and its label are one option, so that the examples are read once for many texts. Of ln p of both, the
    # text's part is the same for every label and drops out of every comparison below.
    found = model.choose(
        [Prompt((Turn("prompt", context),))] * len(groups),
        [[filled(template, text, name) for text in group for name in names] for group in groups],
    )
    flat = [score.log_prob for row in found for score in row]
    if not all(map(math.isfinite, flat)):
        raise DataError(
            f"{labelling} with {shots} examples: {sum(not math.isfinite(value) for value in flat)} texts",
            "do not fit the model's context behind the examples",
            "ask for fewer examples, or leave long texts out",
        )
    # float[n + 1, labels]; the last row is the text without content.
    scores = np.array(flat).reshape(len(texts), len(names))
    return _right(scores[:-1], task), _right(scores[:-1] - scores[-1], task)


def _right(scores: npt.NDArray[np.float64], task: Task) -> Bools:
    return np.asarray(scores.argmax(axis=-1) == np.array(task.right))


# what follows -------------------------------------------------------------------------------------

Interval = tuple[float, float, float]
"""Mean, low and high on the corrected scale."""


def accuracy(values: Bools, task: Task) -> Interval:
    """Corrected, with a 95 % interval over items and draws."""
    mean, low, high = mean_interval(values.astype(float))
    assert low is not None  # a task has two items or more
    assert high is not None
    return task.corrected(mean), task.corrected(low), task.corrected(high)


def difference(more: Bools, less: Bools, task: Task) -> Interval:
    """more - less, corrected, paired by item and draw."""
    # From [-1, 1] into [0, 1], where intervals of bounded scores are simulated, and back.
    halved = (more.astype(float) - less.astype(float) + 1) / 2
    mean, low, high = mean_interval(halved)
    assert low is not None
    assert high is not None
    scale = 1 / (1 - task.chance)
    return (2 * mean - 1) * scale, (2 * low - 1) * scale, (2 * high - 1) * scale


@dataclass(frozen=True)
class Ordering:
    """A claim about two cells. says: in words. verdict: HOLDS, DOES NOT HOLD or CANNOT TELL."""

    says: str
    interval: Interval
    verdict: str


def orderings(cells: Sequence[Cell], task: Task, calibrated: bool = False) -> list[Ordering]:
    """What the paper says of recognition and learning, by these cells; what cannot be asked of them is left out."""
    table: dict[tuple[str, int], Bools] = {
        (cell.labelling, cell.shots): cell.calibrated if calibrated else cell.right for cell in cells
    }
    with_examples = sorted({shots for _, shots in table if shots})
    if not with_examples:
        return []
    few, many = with_examples[0], with_examples[-1]
    found = [
        _above(f"random labels are above chance with {many} examples", accuracy(table["random", many], task)),
        _above(
            f"gold labels are above random ones with {many} examples",
            difference(table["gold", many], table["random", many], task),
        ),
        _above(
            f"gold labels are above abstract ones with {many} examples",
            difference(table["gold", many], table["abstract", many], task),
        ),
    ]
    if few < many:
        flat = difference(table["random", many], table["random", few], task)
        found += [
            Ordering(f"random labels gain nothing from {few} to {many} examples", flat, _flat(flat)),
            _above(
                f"abstract labels gain from {few} to {many} examples",
                difference(table["abstract", many], table["abstract", few], task),
            ),
        ]
    return found


def _above(says: str, found: Interval) -> Ordering:
    _, low, high = found
    return Ordering(says, found, "HOLDS" if low > 0 else "DOES NOT HOLD" if high < MARGIN else "CANNOT TELL")


def _flat(found: Interval) -> str:
    _, low, high = found
    # A fall is no gain, and a gain that is proven to be small counts as none.
    return "HOLDS" if high < MARGIN else "DOES NOT HOLD" if low > 0 else "CANNOT TELL"


# rows to learn from ---------------------------------------------------------------------------------


def rows_to_learn(task: Task, asked: Asked, labelling: Labelling) -> Iterator[dict[str, Any]]:
    """The pool as rows of prompt and completion, labelled so; the labels of draw 0."""
    rng = random.Random(f"learned {asked.seed}")
    drawn = [rng.choice(task.labels) for _ in task.pool]
    symbols = shown(task, asked, 0).symbols
    template = asked.natural if labelling in ("gold", "random") else asked.minimal
    for row, other in zip(task.pool, drawn, strict=True):
        name = {"random": other, "abstract": symbols[row.label]}.get(labelling, row.label)
        prompt, space = _parted(filled(template, row.text, ""))
        yield {"prompt": prompt, "completion": space + name, "label": row.label}


def items_to_ask(task: Task, asked: Asked, labelling: Labelling) -> Iterator[dict[str, Any]]:
    """The items as those of a suite of kind choice, to be answered as `rows_to_learn` teaches."""
    names = shown(task, asked, 0).names(labelling, task.labels)
    template = asked.natural if labelling in ("gold", "random") else asked.minimal
    for place, item in zip(task.right, task.items, strict=True):
        prompt, space = _parted(filled(template, item.text, ""))
        yield {"prompt": prompt, "options": [space + name for name in names], "answer": place}


def _parted(prompt: str) -> tuple[str, str]:
    """A prompt without the spaces at its end, which belong to the word behind them in most tokenizers; and those."""
    kept = prompt.rstrip(" ")
    return kept, prompt[len(kept) :]
