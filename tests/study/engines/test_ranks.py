"""What each rank of a step on several nodes is told."""

from __future__ import annotations

import random

from mnemos.study.engines.ranks import Seat, environments


def test_ranks_stand_in_the_order_of_addresses_and_gpus() -> None:
    seats = [
        Seat(0, "10.0.0.10", "b", ("0",)),
        Seat(1, "10.0.0.9", "a", ("10",)),
        Seat(2, "10.0.0.10", "b", ("1",)),
        Seat(3, "10.0.0.9", "a", ("9",)),
    ]
    random.Random(0).shuffle(seats)
    told = environments(seats, 4242)
    assert [number for number, _ in told] == [3, 1, 0, 2]
    assert {variables["MASTER_ADDR"] for _, variables in told} == {"10.0.0.9"}
    assert {variables["MASTER_PORT"] for _, variables in told} == {"4242"}
    assert {variables["WORLD_SIZE"] for _, variables in told} == {"4"}
    keys = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "CUDA_VISIBLE_DEVICES")
    assert [tuple(variables[key] for key in keys) for _, variables in told] == [
        ("0", "0", "2", "0", "9,10"),
        ("1", "1", "2", "0", "9,10"),
        ("2", "0", "2", "1", "0,1"),
        ("3", "1", "2", "1", "0,1"),
    ]


def test_without_gpus_no_variable_hides_one() -> None:
    ((_, variables),) = environments([Seat(0, "127.0.0.1", "a", ())], 1)
    assert "CUDA_VISIBLE_DEVICES" not in variables
