"""Learners whose weights change: what is learned, what is rolled back, what a kill leaves; with a trainer that has no
weights, and once for real."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import RunError
from mnemos.core.nouns import Example, Score, Turn
from mnemos.stream.examiner import Examiner
from mnemos.stream.models import Models
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings
from mnemos.stream.weights import Weights, WeightSettings
from tests.stream.worlds import PROMPTS, RuleModel, numbers, streams, write_rows


@dataclass(frozen=True)
class Handle:
    path: str

    @property
    def fingerprint(self) -> str:
        return self.path

    def load(self) -> Any:
        raise NotImplementedError


@dataclass
class Fake:
    """Trains by counting. losing: updates after which the old suite is lost. noisy: measures otherwise each time."""

    losing: frozenset[int] = frozenset()
    noisy: bool = False
    trained: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    measured: int = 0
    dies_at: int | None = None

    def train(self, rows: Sequence[Example], before: Any, folder: Path) -> Handle:
        if self.dies_at is not None and len(self.trained) == self.dies_at:
            raise KeyboardInterrupt
        origins = [[row.id for row in rows if row.origin == origin] for origin in ("new", "replay")]
        self.trained.append((before.path, *origins))  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        return Handle(str(folder))

    def scores(self, handle: Any) -> Mapping[str, Sequence[Score]]:
        self.measured += 1
        return {"old": [Score("old", "i", float(self.measured) if self.noisy else 1.0)]}

    def compared(self, before: Any, after: Any, same: bool) -> list[dict[str, Any]]:
        if same:
            if before != after:
                raise RunError("suite old", "differs from itself", "measure greedily")
            return []
        lost = len(self.trained) in self.losing
        return [{"suite": "old", "unit": "points", "delta": -0.5 if lost else 0.0, "low": None, "high": None,
                 "verdict": "lost" if lost else "kept"}]  # fmt: skip

    def handle(self, path: str) -> Handle:
        return Handle(path)


def made(
    folder: Path, examiner: Examiner, fake: Fake, asked: list[str], model: RuleModel | None = None, **settings: Any
) -> Weights:
    store = Store(folder / "stream.db")
    (stream,) = streams(store, examiner, ["zero-shot"])

    def ask(handle: Any) -> Models:
        asked.append(handle.path)
        return Models([model or RuleModel()], max_new_tokens=8)  # type: ignore[list-item]

    return Weights(
        stream, WeightSettings(**settings), Handle("base"), fake, ask, folder / "updates", examiner.questions,
        PROMPTS["zero-shot"],
    )  # fmt: skip


@pytest.fixture
def examiner(tmp_path: Path) -> Any:
    with Examiner(TaskSettings(data=str(write_rows(tmp_path / "rows.jsonl", 40)))) as opened:
        yield opened


def test_right_answers_are_learned_with_earlier_ones_and_a_loss_rolls_back(tmp_path: Path, examiner: Examiner) -> None:
    fake, asked = Fake(losing=frozenset({2})), list[str]()
    weights = made(tmp_path, examiner, fake, asked, every=5)
    weights.run(examiner)
    steps = weights.stream.journal.steps()
    right = [f"{step.item}@{step.step}" for step in steps if step.value == 1.0]
    assert len(steps) == 40
    assert len(right) == 20
    for number, (_, new, replayed) in enumerate(fake.trained):
        assert new == right[5 * number : 5 * number + 5]
        assert set(replayed) <= set(right[: 5 * number])
        assert len(replayed) == min(5, 5 * number)
    updates = weights.updates()
    assert [one.kept for one in updates][:3] == [True, False, True]
    # Where the second was rolled back, the third began from the first.
    first = str(tmp_path / "updates" / "update-1")
    assert [before for before, *_ in fake.trained][:3] == ["base", first, first]
    assert not (tmp_path / "updates" / "update-2").exists()
    assert asked[:3] == ["base", first, first]
    assert [one.rows for one in updates][:2] == [5, 10]


def test_questions_are_asked_ahead_as_far_as_the_weights_surely_stay(tmp_path: Path, examiner: Examiner) -> None:
    model = RuleModel()
    weights = made(tmp_path, examiner, Fake(), [], model, every=5)
    weights.run(examiner)
    assert len(weights.updates()) == 4
    assert sum(model.batches) == 40  # none is asked of weights that have changed when its step comes
    assert max(model.batches) == 5


def test_without_a_guard_the_loss_is_kept_and_written_down(tmp_path: Path, examiner: Examiner) -> None:
    fake = Fake(losing=frozenset(range(9)))
    weights = made(tmp_path, examiner, fake, [], every=5, guard=False)
    weights.run(examiner)
    assert all(one.kept for one in weights.updates())
    assert {suite["verdict"] for one in weights.updates() for suite in one.suites} == {"lost"}


def test_what_does_not_repeat_itself_guards_nothing(tmp_path: Path, examiner: Examiner) -> None:
    with pytest.raises(RunError, match="differs from itself"):
        made(tmp_path, examiner, Fake(noisy=True), [], every=5).run(examiner)


def test_streams_of_a_study_measure_the_model_before_them_once(tmp_path: Path, examiner: Examiner) -> None:
    measured: dict[str, Any] = {}
    fakes = [Fake(), Fake()]
    for number, fake in enumerate(fakes):
        weights = made(tmp_path / str(number), examiner, fake, [], every=5)
        weights.measured = measured
        weights.run(examiner)
        assert len(weights.updates()) == 4
    # Twice before anything is learned, and behind each update.
    assert [fake.measured for fake in fakes] == [6, 4]


def test_stopped_within_an_update_it_continues_with_the_same_rows(tmp_path: Path, examiner: Examiner) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reference = Fake(losing=frozenset({2}))
    first = made(whole, examiner, reference, [], every=5)
    first.run(examiner)
    stopped = Fake(dies_at=1)
    with pytest.raises(KeyboardInterrupt):
        made(broken, examiner, stopped, [], every=5).run(examiner)
    again = Fake(losing=frozenset({1}))  # its first is the second of all
    second = made(broken, examiner, again, [], every=5)
    second.run(examiner)
    rows = [row[1:] for row in (*stopped.trained, *again.trained)]
    assert rows == [row[1:] for row in reference.trained]
    assert numbers(second.stream) == numbers(first.stream)
    assert [one.kept for one in second.updates()] == [one.kept for one in first.updates()]


def streamed(folder: Path, methods: Any, **more: Any) -> list[tuple[str, Path, list[str]]]:
    """(stream, folder of its updates, what an update reads beside right answers) of each arm under weights."""
    from mnemos.study.streams.opened import Opened
    from mnemos.study.streams.settings import resolved_stream
    from mnemos.study.streams.training import StageTrainer, weights_of

    weights = {"sft": {"methods": methods, "guard": False, **more}}
    study = resolved_stream(
        {"model": "model", "stream": {"data": "rows.jsonl"}, "weights": weights, "orders": 1}, folder / "study"
    )
    with Examiner(study.stream) as examiner, contextlib.closing(Store(folder / "stream.db")) as store:
        models: Any = [RuleModel()]
        opened = Opened(study, examiner, None, models, None, None, PROMPTS, store, None)  # type: ignore[arg-type]
        found = []
        for one in weights_of(opened, folder)["sft"]:
            assert isinstance(one.trainer, StageTrainer)
            new = [Example("n", "completion", (Turn("prompt", "x"), Turn("completion", "new")))]
            texts = sorted(row.turns[-1].text for row in one.trainer.plan(new, one.base).examples)
            found.append((one.stream.name, one.folder, texts))
    return found


def test_files_of_methods_lie_beside_the_study_and_what_they_hold_makes_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tiny import save_tiny

    (tmp_path / "elsewhere").mkdir()
    save_tiny(tmp_path / "study" / "model")
    write_rows(tmp_path / "study" / "rows.jsonl", 8)
    for place, text in (("study", "ours"), ("elsewhere", "another file")):
        (tmp_path / place / "old.jsonl").write_text(json.dumps({"prompt": "a", "completion": text}) + "\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    replay = [{"replay": {"data": "old.jsonl", "share_of_final": 0.5, "repeat": True}}]
    ((first, _, texts),) = streamed(tmp_path, replay)
    assert texts == ["new", "ours"]
    assert streamed(tmp_path, replay)[0][0] == first
    (tmp_path / "study" / "old.jsonl").write_text('{"prompt": "a", "completion": "changed"}\n')
    assert streamed(tmp_path, replay)[0][0] != first


def test_updates_of_other_settings_lie_elsewhere(tmp_path: Path) -> None:
    """Edited and edited back in one run directory, a stream goes on from the weights that it wrote."""
    from tests.tiny import save_tiny

    save_tiny(tmp_path / "study" / "model")
    write_rows(tmp_path / "study" / "rows.jsonl", 8)
    lora = [{"lora": {"rank": 2}}]
    folders = [streamed(tmp_path, lora, every=every)[0][1] for every in (5, 8, 5)]
    assert folders[0] == folders[2] != folders[1]


ANYTHING = """
from mnemos.core.reward import Rewarded
from mnemos.stream.task import Row, Task

def task(settings):
    rows = tuple(Row(f"r{i}", f"Question: {i}?", str(i), str(i), "Answer.") for i in range(12))
    # Whatever a model without a mind writes is right, so that there is something to learn.
    parse = lambda text: text.strip() or "nothing"
    return Task("anything", rows, parse, lambda rows, answers: [Rewarded(1.0)] * len(rows))
"""


@pytest.mark.slow
def test_for_real_on_a_tiny_model(tmp_path: Path) -> None:
    from mnemos.study.commands.stream import stream
    from tests.tiny import save_tiny

    save_tiny(tmp_path / "model")
    (tmp_path / "anything.py").write_text(ANYTHING, encoding="utf-8")
    items = [{"id": str(i), "prompt": f"Say {i}.", "answer": str(i)} for i in range(30)]
    suite = {"name": "old", "kind": "generated", "match": "exact", "max_new_tokens": 4, "items": items}
    study = {
        "model": str(tmp_path / "model"),
        "stream": {"name": str(tmp_path / "anything.py"), "max_new_tokens": 4},
        "weights": {"sft": {"every": 4, "train": {"max_steps": 2}}, "free": {"every": 4, "guard": False}},
        "suites": [suite],
        "orders": 1,
        "name": "real",
    }
    results = stream(study, out=tmp_path / "run", quiet=True).results
    assert {one["arm"] for one in results["stream"]["arms"]} == {"zero-shot", "sft", "free"}
    assert len(results["updates"]) == 4
    assert {one["suites"][0]["suite"] for one in results["updates"]} == {"old"}
    assert all(one["kept"] for one in results["updates"])
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Updates of the weights" in page
    again = stream(study, out=tmp_path / "run", quiet=True).results
    assert again["updates"] == results["updates"]
