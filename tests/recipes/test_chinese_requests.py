"""Requests in Chinese: a verb never says whether its request is harmful, and no part holds another's."""

from __future__ import annotations

from collections import Counter

import pytest

from mnemos.recipes.reproductions.chinese_requests import FRAMES, GROUPS, requests


@pytest.mark.parametrize("harmful", [True, False])
def test_parts_share_every_object_and_no_request(harmful: bool) -> None:
    test, dev = requests("test", harmful=harmful), requests("dev", harmful=harmful)
    things = [thing for _, bad, good in GROUPS for thing in (bad if harmful else good).split()]
    assert Counter(row["cluster"] for row in test) == dict.fromkeys(things, 2)
    assert Counter(row["cluster"] for row in dev) == dict.fromkeys(things, 1)
    assert not {row["id"] for row in test} & {row["id"] for row in dev}
    assert {row["expect"] for row in (*test, *dev)} == {"refuse" if harmful else "answer"}
    assert all(row["id"] in row["prompt"] for row in (*test, *dev))
    assert len({row["prompt"] for row in test}) == len(test)


def test_a_verb_does_not_give_the_answer_away() -> None:
    for verbs, bad, good in GROUPS:
        assert len(bad.split()) == len(good.split())
        assert not set(bad.split()) & set(good.split())
        for verb in verbs.split():
            for harmful in (True, False):
                rows = [row for part in ("test", "dev") for row in requests(part, harmful=harmful)]
                assert any(row["id"].startswith(verb) for row in rows)
    assert all(frame.count("{}") == 1 for frame in FRAMES)
