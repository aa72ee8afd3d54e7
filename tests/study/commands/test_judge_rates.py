"""`mnemos judge rates`: a run's win rates without the judge's errors, from kept scores, votes and calibrations."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, NotComparable, UsageError
from mnemos.core.files import write_json
from mnemos.measure.votes import Vote, VoteStore
from mnemos.study.commands.judge_rates import rates
from mnemos.study.results.items import FILE, write_items

JUDGE = "0123456789abcdef"


def run_of(folder: Path, pairs: Sequence[float], before: Sequence[float] = (), after: Sequence[float] = ()) -> Path:
    """A finished run with one arm: a pairwise suite "pairs", and a suite "tests" of the same items."""
    names = [f"i{n}" for n in range(len(pairs))]
    settings: Mapping[str, Any] = {"against": "before"}
    suites = [
        {"name": "pairs", "kind": "pairwise", "settings": settings, "judged": {"judge": [JUDGE]}},
        {"name": "tests", "kind": "generated", "settings": {}},
        {"name": "others", "kind": "generated", "settings": {}},
    ]
    none = [0.0] * len(names)
    sides: list[dict[str, Any]] = [
        {"arm": None, "scores": {"pairs": [0.5] * len(names), "tests": list(before or none), "others": [0.0]}},
        {"arm": "plain", "seed": 1, "order": 0, "last": False, "scores": {"pairs": none, "tests": none}},
        {
            "arm": "plain",
            "seed": 1,
            "order": 0,
            "last": True,
            "scores": {"pairs": list(pairs), "tests": list(after or none), "others": [0.0]},
        },
    ]
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", {"manifest": {"suites": suites}})
    kept = {"pairs": {"items": names}, "tests": {"items": names[::-1]}, "others": {"items": ["x"]}}
    for side in sides:
        side["scores"]["tests"] = side["scores"]["tests"][::-1]  # the order of a suite's items is its own
    write_items(folder / FILE, {"format": 1, "suites": kept, "sides": sides})
    return folder


def calibration(path: Path, judge: str = JUDGE) -> Path:
    """The worked example of arXiv:2511.21140: .90 and .85 on 100 labels each, of a model called a."""
    found = {"sensitivity": 0.9, "right": 100, "specificity": 0.85, "wrong": 100}
    write_json(
        path,
        {
            "judge": {"fingerprint": judge, "name": "judge other"},
            "labelled": 200,
            "soft": {"right": 0.875, "low": 0.8, "high": 0.9},
            "position": {"consistent": 0.5},
            "models": {"a": {"rates": found}},
        },
    )
    return path


def row(lines: Sequence[str], name: str = "plain/seed-1") -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in found.split("|")[1:-1]]


def numbers(cell: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d+\.\d", cell)]


def test_error_rates_of_other_pairs_give_the_published_example(tmp_path: Path) -> None:
    place = run_of(tmp_path / "run", [1.0] * 700 + [0.5] * 100 + [0.0] * 200)
    file = calibration(tmp_path / "calibration.json")
    lines = rates(place, "pairs", calibration=file, as_="a")
    assert row(lines)[3:5] == ["70.0 % [67.1, 72.8]", "73.3 % [66.4, 81.6]"]
    assert "87.5 % [80.0, 90.0]" in lines[0]
    # Without --as nobody's error rates are taken for this model's.
    assert row(rates(place, "pairs", calibration=file))[4].startswith("not possible: no human label")
    with pytest.raises(NotComparable, match="other"):
        rates(place, "pairs", calibration=calibration(tmp_path / "of-another.json", "ffff"), as_="a")
    with pytest.raises(UsageError, match="--as b"):
        rates(place, "pairs", calibration=file, as_="b")


def test_another_suites_scores_label_the_pairs_and_a_part_of_them_finds_the_whole(tmp_path: Path) -> None:
    """The answer after is right on 60 % of items, before on 40 %; the judge copies the truth, or says at random that
    after is better."""
    rng = random.Random(0)
    before = [float(rng.random() < 0.4) for _ in range(600)]
    after = [float(rng.random() < 0.6) for _ in range(600)]
    truth = [0.5 if a == b else float(a > b) for a, b in zip(after, before, strict=True)]
    judged = [one if rng.random() < 0.6 else rng.choice([1.0, 1.0, 0.5]) for one in truth]
    place = run_of(tmp_path / "run", judged, before, after)
    lines = rates(place, "pairs", checked_by="tests", labels=150)
    cells = row(lines)
    assert cells[1:3] == ["600", "150"]
    whole = 100 * sum(truth) / 600
    assert f"win rate is {whole:.1f} %" in lines[-1]
    naive, corrected, alone = (numbers(cells[place]) for place in (5, 6, 7))
    assert naive[1] > whole, "the judge alone is sure of something false"
    assert corrected[1] <= whole <= corrected[2]
    assert corrected[2] - corrected[1] < alone[2] - alone[1], "verdicts on the others are worth something"
    assert lines == rates(place, "pairs", checked_by="tests", labels=150), "drawn by seed"
    assert lines != rates(place, "pairs", checked_by="tests", labels=150, seed=1)
    assert row(rates(place, "pairs", checked_by="tests"))[2] == "600"


def test_peoples_votes_label_the_pairs_whichever_way_round_they_were_shown(tmp_path: Path) -> None:
    place = run_of(tmp_path / "run", [1.0] * 12 + [0.0] * 12)
    store = VoteStore(tmp_path / "votes.sqlite")
    for number in range(20):
        # People like the answer after on items 0 to 14, of which the judge sees twelve.
        liked_after = number < 15
        vote = Vote("one", "pairs", f"i{number}", "plain/seed-1", "before", "b", "a" if liked_after else "b", rater="x")
        if number % 2:
            vote = replace(vote.turned(), shown_first="a")
        store.add(vote)
    store.add(Vote("one", "pairs", "i0", "lora/seed-1", "before", "a", "b", rater="x"))
    cells = row(rates(place, "pairs", votes=tmp_path / "votes.sqlite"))
    assert cells[1:3] == ["24", "20"]
    assert numbers(cells[7])[0] == 75.0
    # Of 15 that people like it finds 12, of 5 others it calls none better: (.5 + 1 - 1) / (.8 + 1 - 1).
    assert numbers(cells[4])[0] == 62.5
    store.add(Vote("two", "pairs", "i0", "plain/seed-1", "before", "a", "b", rater="x"))
    with pytest.raises(UsageError, match="2 runs"):
        rates(place, "pairs", votes=tmp_path / "votes.sqlite")
    assert row(rates(place, "pairs", votes=tmp_path / "votes.sqlite", run="one"))[2] == "20"
    with pytest.raises(UsageError, match="no vote"):
        rates(place, "pairs", votes=tmp_path / "votes.sqlite", run="three")


def test_an_unfit_judge_is_called_so_beside_its_rates(tmp_path: Path) -> None:
    place = run_of(tmp_path / "run", [0.5] * 30)
    probes = [{"probe": "position", "standing": "worse than random"}, {"probe": "refusal", "standing": "beats random"}]
    record = {"judge": {"fingerprint": JUDGE, "name": "judge q"}, "fit": False, "probes": probes}
    write_json(tmp_path / "probes.json", record)
    lines = rates(place, "pairs", probes=tmp_path / "probes.json")
    assert lines[0] == "judge q is NOT FIT: a random judge is not beaten on position"
    write_json(tmp_path / "probes.json", {**record, "fit": True})
    assert "is fit" in rates(place, "pairs", probes=tmp_path / "probes.json")[0]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"suite": "pears"}, "pears"),
        ({"suite": "tests"}, "does not compare"),
        ({"checked_by": "others"}, "other items"),
        ({"checked_by": "test"}, "is not of this run"),
        ({"checked_by": "tests", "votes": Path("v.jsonl")}, "give one"),
        ({"probes": Path("results.json")}, "no record of a judge"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, more: dict[str, Any], error: str) -> None:
    place = run_of(tmp_path / "run", [0.5] * 4)
    if "probes" in more:
        more = {"probes": place / "results.json"}
    with pytest.raises((UsageError, DataError), match=error):
        rates(place, **{"suite": "pairs", **more})


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        rates(tmp_path, "pairs")
