"""Memories: exact search against numpy, words, both; and what a file refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Turn
from mnemos.stream.index import Index
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Ask, Recall, Remember
from mnemos.stream.memory import Memory, claim_encoder
from mnemos.stream.models import TOO_LONG, Models, guessed
from mnemos.stream.store import Store
from mnemos.study.commands.stream import MemoryFile, memory_lines, parse_ids
from tests.stream.worlds import RuleModel

DRAW = np.random.default_rng(0)


def filled(path: Path, search: Any = "lexical", vectors: Any = None, texts: Any = None) -> Memory:
    store = Store(path)
    memory = Memory(store, Journal(store, "s", "x").number, search)
    texts = texts or ["red apples grow", "green apples fall", "blue rivers run"]
    for step, text in enumerate(texts):
        row = Remember(text, f"Question: {text}\nAnswer:", f"a{step}", step != 1)
        with store.transaction():
            made = memory.insert(step, f"q{step}", [(row, None if vectors is None else vectors[step])], f"by {step}")
        memory.added(made)
    return memory


def steps(memory: Memory, key: str, k: int = 5, vector: Any = None, **how: Any) -> list[int]:
    return [one.id for one in memory.recall(Recall(key, k, **how), vector, np.random.default_rng(1))]


def test_words_find_rows_and_feedback_filters_them(tmp_path: Path) -> None:
    memory = filled(tmp_path / "s.db")
    assert steps(memory, "apples of any red", which="all") == [1, 0]
    assert steps(memory, "apples", which="incorrect") == [1]
    assert steps(memory, "apples", which="correct") == [0]
    assert steps(memory, "nothing here", which="all") == []
    assert steps(memory, "", which="all") == []
    assert steps(memory, "x", which="all", how="latest", k=2) == [1, 2]
    assert sorted(steps(memory, "x", which="all", how="random", k=9)) == [0, 1, 2]
    # What is no word, or a word of FTS5's own, is a word all the same.
    assert steps(memory, 'apples" OR (NEAR * AND', which="all", k=1) != []


def test_a_memory_is_the_same_after_it_was_opened_again(tmp_path: Path) -> None:
    vectors = DRAW.normal(size=(3, 8)).astype(np.float32)
    first = filled(tmp_path / "s.db", "similar", vectors)
    again = Memory(Store(tmp_path / "s.db"), first.stream, "similar")
    for vector in vectors:
        assert steps(first, "x", 2, vector, which="all") == steps(again, "x", 2, vector, which="all")
    assert len(again) == 3


def test_streams_of_one_file_do_not_move_each_other_s_words(tmp_path: Path) -> None:
    memory = filled(tmp_path / "s.db")
    alone = memory.lexical("red apples", 3)
    other = Memory(memory.store, Journal(memory.store, "other", "x").number)
    with memory.store.transaction():
        other.insert(0, "q", [(Remember("red red apples", "t", "a", True), None)] * 20, "x")
    assert memory.lexical("red apples", 3) == alone


def test_words_of_most_rows_are_left_out_where_the_others_decide(tmp_path: Path) -> None:
    texts = [f"colour of town t{n % 7} in country c{n % 5}" for n in range(40)]
    memory = filled(tmp_path / "s.db", texts=texts)
    asked: list[list[str]] = []
    whole = memory._matching
    memory._matching = lambda words, k, allowed: asked.append(list(words)) or whole(words, k, allowed)  # type: ignore
    for k in (3, 9, 30):
        found = memory.lexical("Colour of town t3 in country c2", k)
        every = whole(["colour", "of", "town", "t3", "in", "country", "c2"], k, None)
        assert [score for _, score in found] == pytest.approx([score for _, score in every], abs=1e-4)
        assert len(found) == k
    everywhere = ["colour", "of", "town", "in", "country"]
    # 40 / 7 and 40 / 5 rows hold the two words that tell rows apart: for thirty, all are asked for after all.
    assert asked == [["t3", "c2"], ["t3", "c2"], ["t3", "c2"], [*everywhere[:3], "t3", *everywhere[3:], "c2"]]
    again = Memory(memory.store, memory.stream)
    assert again.lexical("colour of c2", 3) == memory.lexical("colour of c2", 3)
    assert again._held == memory._held


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000))
def test_exact_search_is_numpy_s(rows: int, k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    # Few different vectors, so that there are ties.
    vectors = draw.integers(-1, 2, size=(rows, 4)).astype(np.float32)
    allowed = draw.random(rows) < 0.6
    index = Index(4)
    for vector in vectors:
        index.add(vector)
    asked = draw.normal(size=4).astype(np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    scores = (vectors / lengths[:, None]) @ (asked / np.linalg.norm(asked))
    wanted = sorted(np.flatnonzero(allowed), key=lambda i: (-round(float(scores[i]), 5), -i))[:k]
    found = index.search(asked, k, allowed)
    assert [score for _, score in found] == pytest.approx([float(scores[i]) for i in wanted], abs=1e-5)
    assert len({place for place, _ in found}) == len(found) == min(k, int(allowed.sum()))
    assert all(allowed[place] for place, _ in found)


def test_of_equal_rows_the_later_is_found_first() -> None:
    index = Index(2)
    for _ in range(6):
        index.add(np.array([1.0, 0.0], np.float32))
    assert [place for place, _ in index.search(np.array([1.0, 0.0], np.float32), 3)] == [5, 4, 3]


def test_hybrid_fuses_ranks(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    memory = filled(tmp_path / "s.db", "hybrid", vectors)
    # By meaning 2 is first, by words 0; 0 is in both lists and 2 in one.
    asked = np.array([0.6, 0.0, 0.8], np.float32)
    assert steps(memory, "red apples", 1, asked, which="correct") == [0]


def test_other_encoders_widths_and_numbers_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    claim_encoder(store, "one", 4)
    claim_encoder(store, "one", 4)
    for other in (("two", 4), ("one", 8)):
        with pytest.raises(DataError, match="another encoder"):
            claim_encoder(store, *other)
    index = Index(4)
    with pytest.raises(DataError, match="must have 4 numbers"):
        index.add(np.ones(3, np.float32))
    with pytest.raises(DataError, match="not finite"):
        index.add(np.array([1, np.nan, 0, 0], np.float32))
    index.add(np.zeros(4, np.float32))
    assert index.search(np.ones(4, np.float32), 1) == [(0, 0.0)]


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, " * 100)
    sqlite3.connect(tmp_path / "other.db").execute("create table t (a)").connection.commit()
    for name, words in (("text.db", "no SQLite file"), ("other.db", "another program")):
        with pytest.raises(DataError, match=words):
            Store(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        MemoryFile(tmp_path / "nowhere.db")


def test_a_file_is_listed_searched_cleaned_and_exported(tmp_path: Path) -> None:
    memory = filled(tmp_path / "s.db")
    file = MemoryFile(tmp_path / "s.db")
    assert [row["answer"] for row in file.rows()] == ["a0", "a1", "a2"]
    assert [row["answer"] for row in file.rows(until=1)] == ["a0", "a1"]
    assert [row["answer"] for row in file.rows(correct=False)] == ["a1"]
    assert [row["answer"] for row in file.rows(words="apples red")] == ["a0", "a1"]
    assert [row["answer"] for row in file.rows(source="by 2")] == ["a2"]
    assert file.rows(source="%") == []
    assert "wrong Question: green apples fall Answer: => a1" in memory_lines(file.rows())[1]
    ids = [row["id"] for row in file.rows(correct=False)]
    assert file.delete([*ids, 999]) == 1
    assert [row["answer"] for row in MemoryFile(tmp_path / "s.db").rows(words="apples")] == ["a0"]
    again = Memory(Store(tmp_path / "s.db"), memory.stream)
    assert steps(again, "apples", which="all") == [0]
    file.export(file.rows(), tmp_path / "out.jsonl")
    from mnemos.sources.read import read

    rows = list(read(str(tmp_path / "out.jsonl")))
    assert [row.turns[-1].text for row in rows] == ["a0", "a2"]
    assert parse_ids("3,5,9-11") == [3, 5, 9, 10, 11]
    with pytest.raises(DataError, match="must be ids"):
        parse_ids("three")


def test_words_are_searched_for_among_all_rows_that_other_conditions_leave(tmp_path: Path) -> None:
    """However many other rows rank before them; `--search … --delete all` deletes what is found."""
    store = Store(tmp_path / "s.db")
    memory = Memory(store, Journal(store, "s", "x").number)
    long = "how do I get a refund for the blue bicycle that I bought last week"
    for step in range(40):
        # Short keys rank before long ones.
        key, source = (long, "mallory") if step % 20 == 0 else ("refund", "ann")
        with store.transaction():
            memory.insert(step, f"i{step}", [(Remember(key, key, "a", True), None)], source)
    file = MemoryFile(tmp_path / "s.db")
    assert [row["step"] for row in file.rows(source="mallory", words="refund")] == [0, 20]
    assert [row["step"] for row in file.rows(until=0, words="refund")] == [0]
    assert len(file.rows(words="refund")) == 40


class Counted(RuleModel):
    """Has a window, and a tokenizer that counts words."""

    class renderer:  # noqa: N801
        @staticmethod
        def prompt_ids(prompt: Any) -> list[int]:
            return list(range(len(prompt.turns[0].text.split())))


def test_shots_that_do_not_fit_go_from_the_least_similar_on_and_are_counted() -> None:
    shots = tuple(f"Question: town {i} in country c{i}?\nAnswer: red" for i in range(10))
    fields = {"instruction": "", "question": "Question: town in country c9?\nAnswer:"}
    ask = Ask("{shots} {question}", fields, shots, bare="{question}")
    model = Counted()
    served = Models([model], max_new_tokens=4, budget=30).answer([(ask, 0)])[0]
    assert served.prompt_tokens <= 30
    assert served.written.dropped == 10 - model.asked[0].count("town") + 1
    assert "c9?\nAnswer: red" in model.asked[0]
    assert "country c0" not in model.asked[0]
    none = Models([Counted()], max_new_tokens=4, budget=7).answer([(ask, 0)])[0]
    assert (none.written.dropped, none.failed) == (10, None)
    lost = Models([Counted()], max_new_tokens=4, budget=2).answer([(ask, 0)])[0]
    assert lost.failed == TOO_LONG


def test_the_same_prompt_is_asked_once_and_counted_each_time() -> None:
    ask = Ask("{question}", {"question": "Question: town in country c1?\nAnswer:"})
    model = RuleModel()
    models = Models([model], max_new_tokens=4)
    first = models.answer([(ask, 0), (ask, 1)])
    second = models.answer([(ask, 0)])
    assert len(model.asked) == 1
    assert {one.prompt_tokens for one in (*first, *second)} == {guessed(model.asked[0]) + 8}
    sampled = Models([model], max_new_tokens=4, temperature=1.0)
    sampled.answer([(ask, 0), (ask, 1), (ask, 1)])
    assert len(model.asked) == 4


def test_a_base_model_continues_text_and_ends_before_the_next_example() -> None:
    class Base(RuleModel):
        tokenizer = SimpleNamespace(chat_template=None)

        def generate(self, asked: Any, decoding: Any) -> Any:
            self.seen = [(turn.role, turn.text) for prompt in asked for turn in prompt.turns], decoding.stop
            return super().generate(asked, decoding)

    model = Base()
    before = (Turn("system", "Be short."),)
    ask = Ask("{question}", {"question": "Question: town in country c1?\nAnswer:"}, before=before)
    Models([model], max_new_tokens=4).answer([(ask, 0)])
    assert model.seen == ([("prompt", "Be short.\n\nQuestion: town in country c1?\nAnswer:")], ("\n\n",))
