"""Processes of a launch share the suites of a measurement; threads stand for them, since they meet in files alone."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.measure.ask import measure
from mnemos.measure.suite import Suite, load_suites
from mnemos.models.forward import kept_batches
from mnemos.models.load import Checkpoint
from mnemos.study import sharing, synthesis
from mnemos.study.synthesis import Journal, KeptBatches
from tests.study.worlds import make_study


def of_sizes(*sizes: int) -> list[Suite]:
    rows = [[{"id": str(n), "prompt": "?", "answer": "x"} for n in range(size)] for size in sizes]
    return list(
        load_suites([{"name": f"s{n}", "kind": "generated", "items": one} for n, one in enumerate(rows)], Path())
    )


@given(st.lists(st.integers(1, 12), max_size=9), st.integers(1, 4))
def test_every_suite_is_asked_by_one_process_and_none_has_far_more(sizes: list[int], count: int) -> None:
    found = sharing.shares(of_sizes(*sizes), count)
    assert len(found) == count
    assert sorted(suite.name for own in found for suite in own) == [f"s{n}" for n in range(len(sizes))]
    load = [sum(len(suite.items) for suite in own) for own in found]
    # Whoever has most had least before its last and smallest suite came.
    assert all(load[rank] - len(own[-1].items) <= min(load) for rank, own in enumerate(found) if own)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing")
    make_study(folder)
    return folder


def suites_of(world: Path) -> tuple[Suite, ...]:
    """Some that are asked by themselves, and one that is about another's answers."""
    return load_suites(["new.yaml", "old.yaml", {"name": "stops", "kind": "stop_rate", "of": "new"}], world)


def test_a_shared_measurement_asks_each_batch_once_and_gives_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "LOOK_EVERY", 0.001)
    suites = suites_of(world)
    alone = measure(Checkpoint(str(world / "model")).load(), suites)
    asked: Counter[int] = Counter()
    answered = Journal.answered

    def counted(self: Journal, key: str, ask: Any) -> Any:
        def counting() -> Any:
            asked[self.rank] += 1
            return ask()

        return answered(self, key, counting)

    monkeypatch.setattr(Journal, "answered", counted)
    load = threading.Lock()

    def process(rank: int) -> Any:
        journal = Journal(tmp_path / "journal.jsonl", rank, 3)
        with load:  # what transformers imports on the way is not safe between threads
            model: Any = Checkpoint(str(world / "model")).load()
        sharing.ask_share(lambda: model, suites, journal)
        if rank:
            return None
        sharing.await_shares(journal)
        before = sum(asked.values())
        with kept_batches(KeptBatches(journal)):
            found = measure(model, suites)
        assert sum(asked.values()) == before, "asked again"
        return journal, found

    with ThreadPoolExecutor(3) as pool:
        journal, found = next(iter(pool.map(process, range(3))))
    assert found == alone
    # One mark each, and of three suites that differ in kind a batch each.
    assert sorted(asked.values()) == [2, 2, 2]
    assert len(list(tmp_path.glob("journal*.jsonl"))) == 3
    journal.remove()
    assert not list(tmp_path.glob("journal*.jsonl"))


def test_a_process_without_a_suite_loads_nothing(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("loaded")

    journal = Journal(tmp_path / "journal.jsonl", 1, 2)
    sharing.ask_share(never, of_sizes(3), journal)
    assert journal.path.read_text().count("\n") == 1
