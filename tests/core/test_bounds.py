"""Every whole number that somebody may set has a bound, and what is beyond it is refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import mnemos.methods  # noqa: F401  fills the registry
from mnemos.core.errors import UsageError
from mnemos.core.method import REGISTRY
from mnemos.core.settings import MOST_SEED, TrainSettings
from mnemos.core.yaml_text import parse_yaml
from mnemos.measure.kinds import KINDS
from mnemos.rewards.by_name import RewardSettings
from mnemos.study.commands import merge
from mnemos.study.commands.sweep import swept_study
from mnemos.study.config import MOST_TRAININGS, Study, load_study
from mnemos.study.engines.pool import ParallelEngine
from mnemos.study.sections import Task, Trajectory
from mnemos.train.reward_model import RewardTraining
from mnemos.weights.merge import How
from tests.study.worlds import make_study

RECORDS: list[type[BaseModel]] = [TrainSettings, Study, Task, Trajectory, RewardSettings, RewardTraining]
RECORDS += [method.settings for method in REGISTRY.values()] + [kind.settings for kind in KINDS.values()]


def integers(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "integer":
            yield schema
        for part in schema.values():
            yield from integers(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from integers(part)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_whole_numbers_are_bounded_on_both_sides(record: type[BaseModel]) -> None:
    for name, text in record.model_json_schema().get("properties", {}).items():
        for one in integers(text):
            assert {"maximum", "minimum"} <= set(one), f"{record.__name__}.{name}"
            if "seed" in name:
                assert (one["minimum"], one["maximum"]) == (0, MOST_SEED)


STUDY: dict[str, Any] = {"model": "a/b", "teach": {"data": "c/d"}, "suites": {"old": ["refusals"]}}
TASKS = [{"data": "c/d", "name": str(n), "suites": ["refusals"]} for n in range(5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": range(1_500_000)}, "seeds"),
        ({"seeds": list(range(1_500_000))}, "at most 1000 items"),
        ({"trajectory": {"suites": ["refusals"], "moments": 10**9}}, "trajectory.moments = 1000000000"),
        (
            {"trajectory": {"suites": ["refusals"], "moments": 1000}, "seeds": list(range(21))},
            "21 seeds x 1,000 moments",
        ),
        ({"arms": {f"a{n}": [] for n in range(300)}, "seeds": list(range(100))}, "301 arms x 100 seeds"),
        ({"arms": {f"a{n}": [] for n in range(40)}, "teach": TASKS, "orders": "all"}, "41 arms x 120 orders x 5 tasks"),
        ({"train": {"max_steps": 10**22}}, "max_steps = 10000000000000000000000"),
        ({"train": {"data_seed": -1}}, "data_seed = -1"),
    ],
)
def test_sizes_of_a_study(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_study({**STUDY, **changes})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_study_at_the_bound_is_meant() -> None:
    made, _ = load_study({**STUDY, "trajectory": {"suites": ["refusals"], "moments": 20}, "seeds": list(range(1000))})
    assert len(made.seeds) * 20 == MOST_TRAININGS


def test_values_of_a_yaml_text_are_counted_while_it_is_read() -> None:
    with pytest.raises(UsageError, match="x:1: is the end of 200,000 values"):
        parse_yaml(f"seeds: [{'0,' * 300_000}]", "x")


@pytest.mark.parametrize("jobs", [0, -1, 257, 10**9])
def test_jobs(jobs: int) -> None:
    with pytest.raises(UsageError, match=r"jobs = .*: must be from 1 to 256"):
        ParallelEngine(jobs)


def test_points_of_a_merge_are_counted_before_they_are_made(tmp_path: Path) -> None:
    axes = [(name, [0.5] * 1000) for name in "abcd"]
    bound = merge.bind("x*a", [f"x={tmp_path}"], {"a": 0.5})
    with pytest.raises(UsageError, match="--sweep a b c d: is a grid of 1,000,000,000,000 points, above 1,000"):
        merge.sweep(bound, axes, tmp_path / "out", ["refusals"], how=How())


def test_a_grid_is_counted_before_it_is_made(tmp_path: Path) -> None:
    many = ",".join(str(n / 20000) for n in range(10_000))
    over = [f"replay.{name}={many}" for name in ("share_of_final", "seed", "new_share_start")]
    with pytest.raises(UsageError, match="a grid of 1,000,000,000,000 arms, above 200"):
        swept_study(make_study(tmp_path), over)
