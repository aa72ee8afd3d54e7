"""Labels in context: what is shown, what is scored, and what is concluded, each held to something counted by hand."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import OptionScore, Prompt
from mnemos.measure import in_context
from mnemos.measure.in_context import Asked, Labelled, Shown, Task, ask, shown, task_of

NAMES = ("plant", "river", "tool")
ROWS = [Labelled(f"{name} number {n}", name) for n in range(40) for name in NAMES]


class Reader:
    """A model that reads. recognises: it knows which name a text has; learns: it counts the labels that stand in the
    context behind texts of the same first word; likes: nats that a name gets whatever the text is."""

    name = fingerprint = "reader"

    def __init__(self, recognises: float = 0, learns: float = 0, likes: dict[str, float] | None = None) -> None:
        self.recognises, self.learns, self.likes = recognises, learns, likes or {}
        self.read = 0

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        self.read += len(contexts)
        pairs = zip(contexts, options, strict=True)
        return [[self.score(prompt.turns[0].text, option) for option in row] for prompt, row in pairs]

    def score(self, context: str, option: str) -> OptionScore:
        text, label = parts(option)
        word = text.split()[0]
        seen = Counter(
            one[1] for one in map(parts, context.split(in_context.BETWEEN)[:-1]) if one[0].split()[0] == word
        )
        # The text's own nats: another amount for each text, the same for its labels.
        value = -float(len(text)) + self.recognises * (label == word) + self.learns * seen[label]
        return OptionScore(value + self.likes.get(label, 0.0), 1, False)


def parts(shown: str) -> tuple[str, str]:
    found = re.fullmatch(r"(?:Text: )?(.*)\n(?:Label: )?(.*)", shown)
    assert found, shown
    return found[1], found[2]


def corrected(
    cells: Sequence[in_context.Cell], task: Task, *, calibrated: bool = False
) -> dict[tuple[str, int], float]:
    return {
        (one.labelling, one.shots): task.corrected(float((one.calibrated if calibrated else one.right).mean()))
        for one in cells
    }


def test_a_task_has_as_many_items_of_each_label_and_nothing_twice() -> None:
    task = task_of([*ROWS, *ROWS[:7]], 20, 8)
    assert Counter(item.label for item in task.items) == dict.fromkeys(NAMES, 6)
    assert not {*task.items} & {*task.pool}
    assert len(task.items) + len(task.pool) == len(ROWS)
    assert task.labels == tuple(sorted(NAMES))
    assert (task.corrected(task.chance), task.corrected(1)) == (0, 1)
    assert [task.labels[place] for place in task.right] == [item.label for item in task.items]
    assert task_of(list(ROWS), 20, 8) == task_of(list(ROWS), 20, 8) != task_of(list(ROWS), 20, 8, seed=1)


@pytest.mark.parametrize(
    ("rows", "number", "shots", "message"),
    [
        ([Labelled("a", "x"), Labelled("b", "x")], 2, 0, "1 labels"),
        ([Labelled(str(n), str(n)) for n in range(50)], 100, 0, "50 labels"),
        (ROWS, 120, 0, "'plant': 40 rows"),
        (ROWS, 2, 0, "take 0 of each"),
        (ROWS, 60, 100, "60 rows beside the items"),
    ],
)
def test_a_task_that_cannot_be_asked_is_refused(rows: list[Labelled], number: int, shots: int, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        task_of(rows, number, shots)


@pytest.mark.parametrize(
    "wrong",
    [
        {"natural": "Text: {text}"},
        {"natural": "{label}: {text}"},
        {"minimal": "{text}{text}{label}"},
        {"draws": 0},
        {"shots": (4, 4)},
        {"shots": (-1,)},
        {"shots": ()},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Asked(**wrong)  # type: ignore[arg-type]


def test_all_labellings_show_the_same_texts_and_fewer_examples_are_the_first_ones() -> None:
    task, asked = task_of(ROWS, 30, 16), Asked()
    one = shown(task, asked, 0)
    contexts = {name: one.context(name, 16, asked.minimal) for name in in_context.LABELLINGS}
    rows = {name: [parts(text) for text in shown.split(in_context.BETWEEN)[:-1]] for name, shown in contexts.items()}
    assert all([text for text, _ in found] == [example.text for example in one.examples] for found in rows.values())
    assert [label for _, label in rows["gold"]] == [text.split()[0] for text, _ in rows["gold"]]
    # Symbols are one for each label throughout; drawn labels are names that know nothing of the text.
    assert {(text.split()[0], label) for text, label in rows["abstract"]} == {*one.symbols.items()}
    assert sorted(one.symbols.values()) == ["A", "B", "C"]
    assert [label for _, label in rows["random"]] == list(one.drawn)
    assert contexts["gold"].startswith(one.context("gold", 4, asked.minimal))
    assert shown(task, asked, 0) == one != shown(task, asked, 1)


def test_drawn_labels_are_uniform_over_the_names_whatever_is_right() -> None:
    rows = [Labelled(f"plant {n}", "plant") for n in range(400)] + [Labelled(f"tool {n}", "tool") for n in range(20)]
    task = task_of(rows, 10, 64)
    drawn = [name for draw in range(40) for name in shown(task, Asked(shots=(64,)), draw).drawn]
    # 2,560 fair coins: six standard errors.
    assert abs(drawn.count("tool") / len(drawn) - 0.5) < 6 * 0.5 / math.sqrt(len(drawn))


def test_one_that_only_recognises_and_one_that_only_learns() -> None:
    task, asked = task_of(ROWS, 30, 32), Asked(shots=(0, 8, 32), draws=3)
    recognises = corrected(ask(Reader(recognises=1), task, asked), task)
    assert {key: value for key, value in recognises.items() if key[0] != "abstract"} == {
        (name, shots): 1 for name in ("gold", "random", "minimal") for shots in (0, 8, 32)
    }
    # Symbols tell it nothing: the first one is always taken, and that is right at chance exactly.
    assert {recognises["abstract", shots] for shots in (0, 8, 32)} == {0.0}
    learns = corrected(ask(Reader(learns=1), task, asked), task)
    assert learns["gold", 32] == learns["abstract", 32] == learns["minimal", 32] == 1
    assert learns["gold", 0] == learns["random", 0] == 0
    assert learns["random", 32] < 0.5


def test_calibration_takes_off_what_a_name_gets_behind_no_content() -> None:
    task, asked = task_of(ROWS, 30, 0), Asked(shots=(0,), draws=2)
    cells = ask(Reader(recognises=1, likes={"tool": 5.0}), task, asked)
    assert corrected(cells, task)["gold", 0] == 0, "it says tool to everything"
    assert corrected(cells, task, calibrated=True)["gold", 0] == 1


def test_examples_are_read_once_for_many_texts_and_without_any_once_for_gold_and_random() -> None:
    task, asked, model = task_of(ROWS, 30, 4), Asked(shots=(0, 4), draws=2), Reader()
    ask(model, task, asked)
    # 31 texts with the one without content: two groups. Without examples three questions, not four.
    assert model.read == 2 * 2 * (3 + 4)


def test_a_context_that_does_not_fit_is_refused() -> None:
    class Short(Reader):
        def score(self, context: str, option: str) -> OptionScore:
            return OptionScore(math.nan, 0, False) if len(context) > 200 else super().score(context, option)

    with pytest.raises(DataError, match="gold with 16 examples: 93 texts"):
        ask(Short(), task_of(ROWS, 30, 16), Asked(shots=(0, 16), draws=1))


def test_orderings_of_one_that_recognises_and_of_one_that_learns() -> None:
    task, asked = task_of(ROWS, 60, 32), Asked(shots=(2, 32), draws=5)
    verdicts = {
        name: {one.says: one.verdict for one in in_context.orderings(ask(model, task, asked), task)}
        for name, model in {"recognises": Reader(recognises=1), "learns": Reader(learns=1)}.items()
    }
    assert verdicts["recognises"] == {
        "random labels are above chance with 32 examples": "HOLDS",
        "gold labels are above random ones with 32 examples": "DOES NOT HOLD",
        "gold labels are above abstract ones with 32 examples": "HOLDS",
        "random labels gain nothing from 2 to 32 examples": "HOLDS",
        "abstract labels gain from 2 to 32 examples": "DOES NOT HOLD",
    }
    assert verdicts["learns"]["gold labels are above random ones with 32 examples"] == "HOLDS"
    assert verdicts["learns"]["abstract labels gain from 2 to 32 examples"] == "HOLDS"
    assert in_context.orderings(ask(Reader(), task, Asked(shots=(0,), draws=1)), task) == []


@given(st.integers(2, 6), st.integers(2, 30), st.integers(1, 4), st.integers(0, 2**20))
@settings(max_examples=30)
def test_a_difference_is_that_of_the_accuracies(labels: int, items: int, draws: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = Task(tuple(Labelled("", "") for _ in range(items)), (), tuple(map(str, range(labels))))
    a, b = (rng.random((draws, items)) < 0.5 for _ in range(2))
    mean, low, high = in_context.difference(a, b, task)
    assert mean == pytest.approx(in_context.accuracy(a, task)[0] - in_context.accuracy(b, task)[0])
    assert low <= mean <= high
    assert in_context.difference(b, a, task) == pytest.approx((-mean, -high, -low))


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    """Items and draws with effects of their own; docs/knowledge.md has the table of 1,000 times."""
    for items, draws in ((40, 3), (40, 5), (100, 5)):
        alone, between = coverage(items, draws, 400)
        assert alone >= 0.93, (items, draws, alone)
        assert between >= 0.93, (items, draws, between)


def coverage(items: int, draws: int, times: int, seed: int = 0) -> tuple[float, float]:
    """How often the interval of an accuracy, and that of a difference, hold the true one: logits are normal with
    standard deviation 1 over items, 0.5 over draws and 1 beside, the draws' shared by half with the other side."""
    rng = np.random.default_rng(seed)
    task = Task(tuple(Labelled("", "") for _ in range(items)), (), ("a", "b", "c", "d"))
    level = {"a": 0.8, "b": 0.2}
    # What both means are over all items and draws.
    spread = math.sqrt(1 + 0.25 + 1)
    from scipy.stats import norm

    truth = {name: task.corrected(float(norm.cdf(value / spread))) for name, value in level.items()}
    held = np.zeros(2)
    for _ in range(times):
        item, shared = rng.normal(size=(1, items)), rng.normal(size=(draws, 1)) * 0.5 * math.sqrt(0.5)
        right = {}
        for name, value in level.items():
            own = rng.normal(size=(draws, 1)) * 0.5 * math.sqrt(0.5)
            right[name] = value + item + shared + own + rng.normal(size=(draws, items)) > 0
        _, low, high = in_context.accuracy(right["a"], task)
        held[0] += low <= truth["a"] <= high
        _, low, high = in_context.difference(right["a"], right["b"], task)
        held[1] += low <= truth["a"] - truth["b"] <= high
    return float(held[0] / times), float(held[1] / times)


def test_braces_and_names_in_a_text_are_left_alone() -> None:
    assert in_context.filled("T: {text} L: {label}", "a {label} {text}", "{text}") == "T: a {label} {text} L: {text}"


def test_rows_to_learn_and_items_to_ask_are_written_alike() -> None:
    task, asked = task_of(ROWS, 30, 16), Asked()
    symbols = shown(task, asked, 0).symbols
    for labelling in ("gold", "random", "abstract"):
        rows = list(in_context.rows_to_learn(task, asked, labelling))  # type: ignore[arg-type]
        assert [row["label"] for row in rows] == [row.label for row in task.pool]
        if labelling != "random":
            assert all(
                row["completion"].strip()
                == {**{n: n for n in NAMES}, **({} if labelling == "gold" else symbols)}[row["label"]]
                for row in rows
            )
            items = list(in_context.items_to_ask(task, asked, labelling))  # type: ignore[arg-type]
            right = [item["options"][item["answer"]].strip() for item in items]
            assert right == [one.label if labelling == "gold" else symbols[one.label] for one in task.items]
            assert {option for item in items for option in item["options"]} == {row["completion"] for row in rows}
    prompts = {row["prompt"] for row in in_context.rows_to_learn(task, asked, "abstract")}
    assert all(prompt.endswith("\n") for prompt in prompts), "no space stands before a symbol"
    drawn = Counter(row["completion"] for row in in_context.rows_to_learn(task, asked, "random"))
    assert set(drawn) == {" plant", " river", " tool"}


def test_symbols_are_a_one_to_one_map() -> None:
    for space in in_context.SPACES:
        found = in_context.symbols_of(NAMES, space, random.Random(0))  # type: ignore[arg-type]
        assert list(found) == list(NAMES)
        assert sorted(found.values()) == sorted(in_context.SPACES[space][:3])
    assert isinstance(shown(task_of(ROWS, 30, 4), Asked(symbols="numbers"), 0), Shown)
