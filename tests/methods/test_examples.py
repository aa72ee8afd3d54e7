"""replay: how many old rows, from where, and when it is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import apply
from mnemos.core.nouns import Example
from mnemos.core.plan import PastTask, Plan
from mnemos.methods.examples.replay import replay
from mnemos.sources.mix import new_share_start
from tests.laws import base_plan, rows


def plan_with(new: int, *past: int, **changed: Any) -> Plan:
    tasks = tuple(PastTask(f"t{i}", rows(f"old{i}", count), None) for i, count in enumerate(past))
    return base_plan(**{"examples": rows("new", new), "past": tasks, **changed})


def origins(examples: list[Example]) -> Counter[str]:
    return Counter(example.origin if example.origin == "new" else example.id.split("/")[1] for example in examples)


@pytest.mark.parametrize(("share", "old"), [(0.1, 10), (0.5, 90), (0.01, 1), (0.001, 0)])
def test_share_is_of_the_final_set(share: float, old: int) -> None:
    mixed = list(replay(plan_with(90, 100), share_of_final=share).examples)
    assert origins(mixed) == Counter({"new": 90, **({"t0": old} if old else {})})
    assert Counter(example.origin for example in mixed) == Counter({"new": 90, **({"replay": old} if old else {})})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.floats(0.0, 0.9))
def test_earlier_tasks_have_equal_lots(new: int, tasks: int, share: float) -> None:
    """Exactly, but for rounding each batch to whole rows in turn."""
    mixed = list(replay(plan_with(new, *[600] * tasks), share_of_final=share).examples)
    counts = origins(mixed)
    assert counts.pop("new") == new
    ideal = share / (1 - share) * new / tasks
    slack = 0.5 * (1 + share / (1 - share)) + 1e-9
    assert all(abs(counts[f"t{i}"] - ideal) <= slack for i in range(tasks))
    assert len({example.id for example in mixed}) == len(mixed), "ids stay apart"


def test_seeds() -> None:
    def order(plan: Plan, **given: Any) -> list[str]:
        return [example.id for example in replay(plan, share_of_final=0.5, **given).examples]

    plan = plan_with(20, 60, 60)
    assert order(plan) == order(plan)
    assert order(plan) != order(plan, seed=1)
    other_arm = plan_with(20, 60, 60, seed=plan.seed + 1)
    assert order(plan, seed=1) == order(other_arm), "the setting is added to the arm's seed"
    made = {replay(one, share_of_final=0.5).fingerprint for one in (plan, other_arm)}
    assert len(made) == 2


def test_too_few_old_rows() -> None:
    mixed = replay(plan_with(50, 60, 5), share_of_final=0.5).examples
    with pytest.raises(DataError, match=r"the lot of task t1 \(old1: 5 rows\)"):
        list(mixed)
    assert origins(list(replay(plan_with(50, 60, 5), share_of_final=0.5, repeat=True).examples))["t1"] == 25


def test_tasks_that_kept_no_rows_are_left_out() -> None:
    past = (PastTask("t0", None, None), PastTask("t1", rows("old", 60), None))
    assert origins(list(replay(plan_with(30, past=past), share_of_final=0.25).examples)) == {"new": 30, "t1": 10}


def test_the_first_task_of_a_sequence_has_nothing_to_replay() -> None:
    plan = plan_with(30, sequence=True)
    out = replay(plan)
    assert out.fingerprint == plan.fingerprint
    assert out.history[-1].off
    assert out.history[-1].settings["share_of_final"] == 0.1


def test_without_old_rows_it_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"replay\.data = null: .*this is not a sequence\n  name a file in replay\.data"
    ):
        replay(plan_with(30, sequence=False))
    kept_nothing = (PastTask("t0", None, None),)
    with pytest.raises(UsageError, match=r"no earlier task kept its own\n.*keep: true"):
        replay(plan_with(30, past=kept_nothing, sequence=True))


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_bounds(share: float) -> None:
    with pytest.raises(UsageError, match=r"replay\.share_of_final = "):
        replay(plan_with(30, 60), share_of_final=share)


def test_the_share_of_new_rows_may_grow() -> None:
    plan = plan_with(30, 60)
    out = replay(plan, share_of_final=0.5, new_share_start=0.1)
    assert new_share_start(out.examples) == 0.1
    stepped = replay(plan, share_of_final=0.5, new_share_start=0.1, new_share_shape="step")
    assert stepped.examples.fingerprint != out.examples.fingerprint
    assert out.fingerprint != replay(plan, share_of_final=0.5).fingerprint
    assert sorted(e.id for e in out.examples) == sorted(e.id for e in replay(plan, share_of_final=0.5).examples)
    wrapped = replay(out, share_of_final=0.25)
    assert new_share_start(wrapped.examples) == 0.1, "a further method around it leaves the order on"


def test_two_sources_have_one_order() -> None:
    examples = replay(plan_with(30, 60, 60), share_of_final=0.5, new_share_start=0.0).examples
    assert new_share_start(examples) == 0.0
    assert origins(list(examples)) == {"new": 30, "t0": 15, "t1": 15}


@pytest.mark.parametrize(("share", "start", "low"), [(0.1, 0.5, "0.8 and 1"), (0.8, 0.9, "0 and 0.4")])
def test_a_share_that_cannot_be_reached_is_refused(share: float, start: float, low: str) -> None:
    with pytest.raises(UsageError, match=rf"new_share_start = .*\n.*between {low}"):
        replay(plan_with(30, 600), share_of_final=share, new_share_start=start)


def test_an_order_is_set_once() -> None:
    once = replay(plan_with(30, 60), share_of_final=0.5, new_share_start=0.1)
    with pytest.raises(UsageError, match="is set twice"):
        replay(once, share_of_final=0.5, new_share_start=0.1)


def test_two_replays_nest() -> None:
    plan = apply(plan_with(80, 200), [{"replay": {"share_of_final": 0.2}}, {"replay": {"share_of_final": 0.5}}])
    ids = [example.id for example in plan.examples]
    assert len(ids) == 200
    assert len(set(ids)) == 200


def old_file(path: Path, count: int) -> Path:
    lines = [json.dumps({"prompt": f"old {i}?", "completion": f"{i}."}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_data_is_read_late_and_its_content_counts(tmp_path: Path) -> None:
    path = old_file(tmp_path / "old.jsonl", 40)
    plan = plan_with(30, sequence=False)
    first = replay(plan, data=str(path), share_of_final=0.25)
    assert Counter(example.origin for example in first.examples) == {"new": 30, "replay": 10}
    taken = first.fingerprint
    assert replay(plan, data=str(path), share_of_final=0.25).fingerprint == taken
    old_file(path, 41)
    assert replay(plan, data=str(path), share_of_final=0.25).fingerprint != taken


def test_data_takes_precedence_over_earlier_tasks(tmp_path: Path) -> None:
    path = old_file(tmp_path / "old.jsonl", 40)
    mixed = list(replay(plan_with(30, 60), data=str(path), share_of_final=0.25).examples)
    assert not [example for example in mixed if "t0" in example.id]
    assert Counter(example.origin for example in mixed) == {"new": 30, "replay": 10}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises((DataError, UsageError), match=r"nowhere\.jsonl"):
        list(replay(plan_with(30), data=str(tmp_path / "nowhere.jsonl")).examples)
