"""in_context and curriculum: what is read beside what, and what first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.core.nouns import Example, Tokens, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.methods.examples.order import BETWEEN, Sorted, curriculum, in_context
from mnemos.methods.examples.replay import replay
from mnemos.sources.batches import pack, pack_in_turn
from mnemos.sources.generated import generated_in, materialize
from mnemos.sources.mix import Rows, read_in_turn
from mnemos.sources.order import ordered
from mnemos.sources.render import Renderer
from mnemos.train.rows import prepare
from mnemos.train.trainer import ramp_of
from mnemos.weights.checkpoint import load_tokenizer
from tests.laws import Handle, base_plan, data_file
from tests.tiny import save_tiny
from tests.train.making import plan
from tests.train.test_order import Arguments

TOPICS = ("the river runs under the old stone bridge", "two plus three is five and five plus two is seven",
          "she studied chemistry in the town of Orford")  # fmt: skip


def documents(count: int = 12) -> Rows:
    texts = [f"{TOPICS[n % 3]} number {n} " * (1 + n % 5) for n in range(count)]
    return Rows(tuple(Example(f"d{n}", "text", (Turn("text", text),)) for n, text in enumerate(texts)))


CHUNKED = TrainSettings(long_documents="chunk")


@pytest.mark.parametrize("order", ["in-context", "random"])
def test_documents_are_joined_in_the_order_of_the_path(order: Any) -> None:
    start = base_plan(examples=documents(), train=CHUNKED)
    [joined] = list(in_context(start, order=order).examples)
    texts = [row.turns[0].text for row in documents()]
    assert joined.turns[0].text == BETWEEN.join(texts[place] for place in ordered(texts, order, start.seed))
    assert joined.kind == "text"


def test_neighbours_stand_side_by_side() -> None:
    start = base_plan(examples=documents(30), train=CHUNKED)

    def alike(order: Any) -> int:
        [joined] = list(in_context(start, order=order).examples)
        kinds = [next(n for n, topic in enumerate(TOPICS) if topic in text) for text in
                 joined.turns[0].text.split(BETWEEN)]  # fmt: skip
        return sum(a == b for a, b in itertools.pairwise(kinds))

    assert alike("in-context") > 20 > alike("random")


def test_long_texts_are_several_and_old_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemos.methods.examples.order.LONGEST", 500)
    start = replay(base_plan(examples=documents(), train=CHUNKED), data=data_file("messages"), share_of_final=0.2)
    rows = list(in_context(start).examples)
    joined = [row for row in rows if row.origin == "new"]
    assert len(joined) > 1
    assert len({row.id for row in rows}) == len(rows)
    assert sum(len(row.turns[0].text.split(BETWEEN)) for row in joined) == 12
    assert sum(row.origin == "replay" for row in rows) == 3


def test_what_cannot_be_joined() -> None:
    with pytest.raises(UsageError, match="long_documents: chunk"):
        list(in_context(base_plan(examples=documents())).examples)
    with pytest.raises(DataError, match="is no document"):
        list(in_context(base_plan(train=CHUNKED)).examples)


class Context:
    """Writes by a made-up loss: longer texts are easier, and one cannot be read."""

    def model(self, handle: Any) -> Any:
        return self

    def rows(self, source: Any) -> list[Example]:
        return list(source)

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(100.0 / len(text) * 10, 10) if "number 4 " not in text else (0.0, 0) for text in texts]


def written(made: Plan) -> list[str]:
    context: Any = Context()
    source = materialize(made.examples, lambda one: Rows(tuple(one.write(context))))
    return [row.id for row in source]


def test_rows_go_from_easy_to_hard() -> None:
    start = base_plan(examples=documents())
    length = {row.id: len(row.turns[0].text) for row in documents()}
    short_first = written(curriculum(start))
    assert [length[i] for i in short_first] == sorted(length.values())
    assert [length[i] for i in written(curriculum(start, hard_first=True))] == sorted(length.values(), reverse=True)
    by_loss = written(curriculum(start, by="loss"))
    assert by_loss[-1] == "d4", "what the model cannot read is the hardest"
    assert [length[i] for i in by_loss[:-1]] == sorted((length[i] for i in length if i != "d4"), reverse=True)
    with pytest.raises(UsageError, match="is not asked by: length"):
        curriculum(start, reference_model=".")


def test_a_curriculum_is_written_once_and_read_in_turn() -> None:
    made = curriculum(base_plan(examples=documents()))
    [one] = generated_in(made.examples)
    assert isinstance(one, Sorted)
    assert read_in_turn(made.examples)
    with pytest.raises(RunError, match="not been written yet"):
        list(made.examples)
    assert not read_in_turn(base_plan().examples)
    mixed = replay(made, data=data_file("messages"), share_of_final=0.2)
    with pytest.raises(UsageError, match="put curriculum last"):
        read_in_turn(mixed.examples)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("order") / "llama", chat=False)


def test_training_reads_it_in_that_order_also_packed_and_in_pieces(llama: Path) -> None:
    start = plan(llama, examples=documents(), packing=True, max_length=40, long_documents="chunk")
    context: Any = Context()
    made = materialize(curriculum(start), lambda one: Rows(tuple(one.write(context))))
    rows = prepare(made, Renderer(load_tokenizer(str(llama)))).rows
    read = [token.example.partition("#")[0] for row in rows for token in row]
    assert list(dict.fromkeys(read)) == written(curriculum(start))
    ramp = ramp_of(made, rows, Arguments())
    assert ramp is not None
    assert [ramp.order(epoch, 5).tolist() for epoch in (0, 1)] == [list(range(len(rows)))] * 2


def test_packing_in_turn_keeps_all_rows_within_twice_the_groups() -> None:
    some = next(iter(rows_of([7])))
    lengths = [7, 3, 9, 2, 2, 10, 1, 6, 6, 6]
    groups = pack_in_turn(rows_of(lengths), 10)
    assert [len(row) for group in groups for row in group] == lengths
    assert all(sum(map(len, group)) <= 10 for group in groups)
    assert len(groups) <= 2 * len(pack(rows_of(lengths), 10))
    with pytest.raises(DataError, match="longer than a packed row"):
        pack_in_turn([some], 6)


def rows_of(lengths: Sequence[int]) -> list[Tokens]:
    import numpy as np

    return [
        Tokens(np.zeros(n, np.int32), np.ones(n, np.float32), np.ones(n, np.bool_), f"r{i}")
        for i, n in enumerate(lengths)
    ]


def test_fingerprints_tell_orders_apart() -> None:
    start = base_plan(examples=documents(), train=CHUNKED, before=Handle("before"))
    made = [in_context(start), in_context(start, order="random"), in_context(start, seed=1), curriculum(start),
            curriculum(start, by="loss"), curriculum(start, hard_first=True), start]  # fmt: skip
    assert len({one.fingerprint for one in made}) == len(made)
