"""The loop that engines share: needs before steps, every step once, failures at once, retries bounded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, RunError
from mnemos.core.files import write_json
from mnemos.core.progress import Status
from mnemos.study.engines.failures import Failures, StepsFailedError
from mnemos.study.engines.schedule import Retries, Schedule, bring_to_done
from mnemos.study.progress import Progress


@dataclass(frozen=True)
class Stub:
    key: str
    needs: tuple[str, ...] = ()
    title: str = "a stub"
    every_process: bool = False
    files: dict[str, str] = field(default_factory=dict)

    def work(self, directory: Path, quiet: bool) -> dict[str, Any]:
        raise AssertionError("nobody works here")


class Shuffled:
    """A workplace of so many places, in which steps end in any order."""

    def __init__(self, places: int, seed: int, fails: Iterable[str] = ()) -> None:
        self.places, self.random, self.fails = places, random.Random(seed), set(fails)
        self.running: list[Stub] = []
        self.begun: list[str] = []
        self.done: set[str] = set()

    def room(self) -> int:
        return self.places - len(self.running)

    def begin(self, step: Any) -> Callable[[], Status]:
        assert step.key not in self.begun
        assert set(step.needs) <= self.done
        self.running.append(step)
        self.begun.append(step.key)
        return Status

    def heard(self) -> Iterator[tuple[str, Status | str | Exception | None]]:
        assert 0 < len(self.running) <= self.places
        step = self.running.pop(self.random.randrange(len(self.running)))
        if step.key in self.fails:
            yield step.key, DataError(step.key, "cannot be read")
            return
        yield step.key, Status("nearly there")
        self.done.add(step.key)
        yield step.key, None


def carried(
    steps: list[Stub], place: Shuffled, root: Path = Path("/nonexistent"), *, keep_going: bool = False
) -> Schedule:
    schedule = Schedule(steps, root)
    with Progress(schedule.todo, schedule.reused, silent=True) as progress:
        bring_to_done(schedule, place, progress, keep_going=keep_going)
    return schedule


@st.composite
def plans(draw: st.DrawFn) -> list[Stub]:
    """Steps each of which may need any that are listed before it; some come twice."""
    steps: list[Stub] = []
    for number in range(draw(st.integers(0, 12))):
        needs = draw(st.sets(st.sampled_from([step.key for step in steps]), max_size=3)) if steps else set()
        steps.append(Stub(f"train-{number}", tuple(sorted(needs))))
    return steps + (draw(st.lists(st.sampled_from(steps), max_size=3)) if steps else [])


@given(plans(), st.integers(1, 5), st.integers(0, 5))
def test_every_step_is_begun_once_and_behind_its_needs(steps: list[Stub], places: int, seed: int) -> None:
    place = Shuffled(places, seed)
    schedule = carried(steps, place)
    assert sorted(place.begun) == sorted({step.key for step in steps})
    assert schedule.over


def test_steps_begin_as_they_are_listed_and_in_the_end_the_longest_chain_first() -> None:
    steps = [Stub("before")]
    for n in range(5):
        steps += [Stub(f"train-{n}"), Stub(f"measure-{n}", (f"train-{n}", "before"))]
    place = Shuffled(1, 0)
    carried(steps, place)
    assert place.begun[:7] == ["before", "train-0", "measure-0", "train-1", "measure-1", "train-2", "measure-2"]
    # Two are ready for one place from here on.
    assert place.begun[7:] == ["train-3", "train-4", "measure-3", "measure-4"]


def test_finished_steps_are_not_begun_and_hold_nobody_up(tmp_path: Path) -> None:
    for key in ("a-1", "elsewhere-1"):
        write_json(tmp_path / "steps" / key / "done.json", {"result": {}})
    place = Shuffled(2, 0)
    place.done = {"a-1", "elsewhere-1"}
    schedule = carried([Stub("a-1"), Stub("b-1", ("a-1", "elsewhere-1"))], place, tmp_path)
    assert place.begun == ["b-1"]
    assert schedule.reused == 1


def test_a_failure_is_raised_at_once() -> None:
    place = Shuffled(1, 0, fails=["a-1"])
    with pytest.raises(DataError, match="a-1: cannot be read"):
        carried([Stub("a-0"), Stub("a-1"), Stub("a-2")], place)
    assert place.begun == ["a-0", "a-1"]


@given(plans(), st.sets(st.integers(0, 11), max_size=3), st.integers(1, 5), st.integers(0, 5))
def test_behind_failures_all_is_done_that_needs_none_of_them(
    steps: list[Stub], fails: set[int], places: int, seed: int
) -> None:
    every = {step.key: step for step in steps}

    def able(key: str) -> bool:
        """Whether neither it nor what it needs fails, at any distance."""
        return key not in place.fails and all(able(need) for need in every[key].needs)

    place = Shuffled(places, seed, [f"train-{number}" for number in fails])
    met = {key for key in place.fails & every.keys() if all(able(need) for need in every[key].needs)}
    if met:
        with pytest.raises(StepsFailedError) as caught:
            carried(steps, place, keep_going=True)
        assert caught.value.failed == {key: f"a stub: {key}: cannot be read" for key in met}
        assert caught.value.undone == {key for key in every if not able(key)}
        assert f"{len(met)} of {len(every)} steps failed" in str(caught.value)
    else:
        carried(steps, place, keep_going=True)
    assert place.done == {key for key in every if able(key)}


@pytest.mark.parametrize("error", [RunError("a disk", "is full"), OSError("the disk is full")])
def test_what_every_further_step_would_meet_ends_the_run(error: Exception) -> None:
    with Progress(("a-1",), silent=True) as progress, pytest.raises(type(error), match="full"):
        Failures([Stub("a-1")], True).add(Stub("a-1"), error, progress)


@pytest.mark.parametrize("steps", [[Stub("b-1", ("a-1",))], [Stub("a-1", ("b-1",)), Stub("b-1", ("a-1",))]])
def test_a_step_that_waits_for_nobody_is_named(steps: list[Stub]) -> None:
    with pytest.raises(RunError, match="which nobody does"):
        carried(steps, Shuffled(1, 0))


def test_ten_thousand_steps_ask_the_disk_about_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at every waiting step whenever one ends would be fifty million questions."""
    from mnemos.study.engines import schedule as module

    asked: list[str] = []
    monkeypatch.setattr(module, "is_done", lambda key, root: asked.append(key) or False)
    steps = [Stub(f"{kind}-{n}", () if kind == "train" else (f"train-{n}",)) for n in range(5_000) for kind in KINDS]
    place = Shuffled(256, 0)
    carried(steps, place)
    assert len(asked) == 10_000


KINDS = ("train", "measure")


def test_retries_are_counted_for_each_step() -> None:
    retries = Retries(2)
    for _ in range(2):
        retries.count(Stub("a-1"), "10.0.0.1")
        retries.count(Stub("a-2"), "10.0.0.2")
    with pytest.raises(RunError, match=r"lost with its node 3 times, the last one 10.0.0.9.*max_retries is 2"):
        retries.count(Stub("a-1"), "10.0.0.9")
    with pytest.raises(RunError, match="lost with its node 1 times"):
        Retries(0).count(Stub("a-1"), "10.0.0.1")
