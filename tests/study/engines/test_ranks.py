"""What each rank of a step on several nodes is ranked."""

from __future__ import annotations

import random

import pytest

from mnemos.core.errors import DataError
from mnemos.study.engines.ranks import LostRankError, Seat, _cause, environments


def test_ranks_stand_in_the_order_of_addresses_and_gpus() -> None:
    seats = [
        Seat(0, "10.0.0.10", "b", ("0",)),
        Seat(1, "10.0.0.9", "a", ("10",)),
        Seat(2, "10.0.0.10", "b", ("1",)),
        Seat(3, "10.0.0.9", "a", ("9",)),
    ]
    random.Random(0).shuffle(seats)
    ranked = environments(seats, 4242)
    assert [number for number, _ in ranked] == [3, 1, 0, 2]
    assert {variables["MASTER_ADDR"] for _, variables in ranked} == {"10.0.0.9"}
    assert {variables["MASTER_PORT"] for _, variables in ranked} == {"4242"}
    assert {variables["WORLD_SIZE"] for _, variables in ranked} == {"4"}
    keys = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "CUDA_VISIBLE_DEVICES")
    assert [tuple(variables[key] for key in keys) for _, variables in ranked] == [
        ("0", "0", "2", "0", "9,10"),
        ("1", "1", "2", "0", "9,10"),
        ("2", "0", "2", "1", "0,1"),
        ("3", "1", "2", "1", "0,1"),
    ]


def test_without_gpus_no_variable_hides_one() -> None:
    ((_, variables),) = environments([Seat(0, "127.0.0.1", "a", ())], 1)
    assert "CUDA_VISIBLE_DEVICES" not in variables


def test_the_cause_is_raised_and_not_what_came_of_it() -> None:
    """A rank that fails closes its connections, and the others say so, perhaps first."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'mnemos[ray]')")

    def raised(cause: Exception) -> Exception:
        found: Exception = ray.exceptions.RayTaskError("f", "Traceback", cause, pid=1, ip="n").as_instanceof_cause()
        return found

    closed, own, gone = (
        raised(RuntimeError("closed by peer")),
        raised(DataError("row 3")),
        ray.exceptions.RayActorError(),
    )
    assert str(_cause(ray, [closed, gone, own])) == "row 3"
    assert isinstance(_cause(ray, [closed, gone]), LostRankError)
    assert str(_cause(ray, [closed])) == "closed by peer"
