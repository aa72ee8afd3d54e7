"""A judge's calibration: who agrees with whom, what is refused, and a corrected win rate that finds the truth."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, NotComparable
from mnemos.measure.calibration import calibrate, lines, read_calibration
from mnemos.measure.human import Pair, read_pairs
from mnemos.measure.judging import position_bias
from mnemos.rewards.by_name import RewardSettings
from mnemos.rewards.judge import Verdict
from mnemos.study.commands import judge as command
from tests.rewards.test_judge import ASKED, Fake, judge

GONE = Verdict(math.nan, reason="longer than the judge reads")


def verdict(decision: str) -> Verdict:
    value = {"a": 0.9, "b": 0.1, "tie": 0.5}[decision]
    return Verdict(value, value, value)


def pair(label: str | None, number: int = 0, **more: Any) -> Pair:
    return Pair(str(number), ASKED, ("x", "y"), votes={} if label is None else {"ann": label}, **more)  # type: ignore[dict-item]


def test_a_judge_that_errs_more_for_one_model_is_corrected_for_each() -> None:
    """'new' really wins 40 % of pairs; the judge misses few of its wins and grants it many more."""
    rng = random.Random(0)
    pairs, verdicts = [], []
    for number in range(3000):
        truth = "a" if rng.random() < 0.4 else "b"
        right = rng.random() < (0.95 if truth == "a" else 0.7)
        decision = truth if right else {"a": "b", "b": "a"}[truth]
        labelled = number < 600
        pairs.append(pair(truth if labelled else None, number, models=("new", "old")))
        verdicts.append(verdict(decision))
    found = calibrate(pairs, verdicts)
    new = found["models"]["new"]
    assert new["wins"]["naive"] == pytest.approx(0.4 * 0.95 + 0.6 * 0.3, abs=0.03)
    for way in ("wins", "win_rate"):
        assert new[way]["low"] <= 0.4 <= new[way]["high"]
        assert new[way]["naive_low"] > 0.45
    assert new["rates"]["sensitivity"] == pytest.approx(0.95, abs=0.03)
    assert found["models"]["old"]["rates"]["sensitivity"] == pytest.approx(0.7, abs=0.05)
    assert found["labelled"] == 600
    assert any("corrected" in line for line in lines(found))


def test_a_judge_that_always_ties_is_no_better_than_a_coin() -> None:
    found = calibrate([pair("a", i) for i in range(20)] + [pair("b", i) for i in range(20)], [verdict("tie")] * 40)
    assert found["agreement"]["agree"]["value"] == 0.0
    assert found["agreement"]["prevalence"]["tie"] == [0.0, 1.0]
    assert found["soft"]["right"] == 0.5
    assert found["models"]["a"]["wins"]["value"] is None
    text = "\n".join(lines(found))
    assert "not possible (sensitivity + specificity is at most 1: no better than a coin)" in text
    json.dumps(found, allow_nan=False)


def test_missing_verdicts_are_counted_by_reason() -> None:
    found = calibrate([pair("a", i) for i in range(4)], [verdict("a")] * 3 + [GONE])
    assert found["missing"] == {"longer than the judge reads": 1}
    assert found["labelled"] == 3
    assert "1 missing: longer than the judge reads" in lines(found)[0]
    with pytest.raises(DataError, match="1 of 2 pairs"):
        calibrate([pair("a"), pair(None)], [verdict("a")] * 2)


def test_both_bad_is_a_tie_and_raters_are_a_majority() -> None:
    assert pair("both_bad").label == "tie"
    three = Pair("1", ASKED, ("x", "y"), votes={"ann": "a", "bob": "a", "eve": "b"})
    assert three.label == "a"
    two = Pair("1", ASKED, ("x", "y"), votes={"ann": "a", "bob": "b"})
    assert two.label == "tie"
    found = calibrate([three, two] * 8, [verdict("a")] * 16)
    assert found["people"]["raters"] == 3
    assert found["people"]["pairs"] == 16
    assert found["people"]["alpha"]["value"] < 0


def test_copies_of_a_dialogue_make_no_interval_of_the_record_narrower(tmp_path: Path) -> None:
    rng = random.Random(0)
    votes = [rng.choice("ab") for _ in range(60)]
    says = [vote if rng.random() < 0.9 else {"a": "b", "b": "a"}[vote] for vote in votes]
    given = [Verdict(0.5, 0.9, 0.1) if rng.random() < 0.2 else verdict(say) for say in says]

    def record(copies: int) -> dict[str, Any]:
        pairs = [
            pair(vote if n < 40 else None, 100 * n + copy, cluster=str(n))
            for n, vote in enumerate(votes)
            for copy in range(copies)
        ]
        verdicts = [one for one in given for _ in range(copies)]
        return calibrate(pairs, verdicts, again=verdicts)

    def widths(found: dict[str, Any]) -> list[float]:
        model, place = found["models"]["a"], found["position"]
        shares = [model["wins"], model["win_rate"], place["first_when_torn"], found["noise"]]
        bounds = [(one["low"], one["high"]) for one in shares]
        bounds += [tuple(model["rates"][f"{name}_interval"]) for name in ("sensitivity", "specificity")]
        bounds += [(place[f"{name}_low"], place[f"{name}_high"]) for name in ("lean", "consistent")]
        bounds += [(model[way]["naive_low"], model[way]["naive_high"]) for way in ("wins", "win_rate")]
        return [high - low for low, high in bounds]

    once, often = record(1), record(8)
    assert "sizes" not in once["models"]["a"]["rates"]
    for a, b in zip(widths(once), widths(often), strict=True):
        assert b > 0.95 * a
    written = {**often, "judge": {"name": "j", "fingerprint": "f"}}
    (tmp_path / "c.json").write_text(json.dumps(written))
    known = read_calibration(tmp_path / "c.json", "f")["a"]
    assert known.right > 100
    assert max(known.independent) < 40, "another file's wins are corrected by as many labels as are independent"


def test_raters_of_one_dialogue_are_drawn_together() -> None:
    rng = random.Random(0)
    both = [(vote, vote if rng.random() < 0.8 else "ab"[vote == "a"]) for vote in rng.choices("ab", k=40)]

    def width(copies: int) -> float:
        pairs = [
            Pair(f"{n}-{copy}", ASKED, ("x", "y"), votes={"ann": a, "bob": b}, cluster=str(n))  # type: ignore[dict-item]
            for n, (a, b) in enumerate(both)
            for copy in range(copies)
        ]
        alpha = calibrate(pairs, [verdict("a")] * len(pairs))["people"]["alpha"]
        return float(alpha["high"] - alpha["low"])

    assert width(8) == pytest.approx(width(1), rel=0.1)


def test_noise_and_place_are_those_of_the_verdicts() -> None:
    torn = Verdict(0.5, 0.9, 0.1)  # takes what stands first
    verdicts = [torn] * 6 + [verdict("a")] * 6
    found = calibrate([pair("a", i) for i in range(12)], verdicts, again=[verdict("b")] * 2 + verdicts[2:4])
    assert found["noise"]["flips"] == 2
    assert found["noise"]["pairs"] == 4
    assert found["position"]["first_when_torn"] == {
        "pairs": 6, "rate": 1.0, "low": pytest.approx(0.61, abs=0.01), "high": 1.0,
    }  # fmt: skip
    assert found["position"]["consistent"] == position_bias(verdicts).consistent


def test_which_answer_is_called_a_decides_nothing_about_the_places() -> None:
    # A tie in one order, what stands first in the other.
    half = [Verdict(0.25, 0.5, 0.0)] * 6 + [verdict("tie")] * 2
    for several in (half, [one.turned for one in half]):
        place = calibrate([pair("a", i) for i in range(8)], several)["position"]
        assert place["consistent"] == 0.25
        assert (place["first_when_torn"]["pairs"], place["first_when_torn"]["rate"]) == (6, 1.0)


def rows(path: Path, *values: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in values))
    return path


BASE = {"prompt": "Which city?", "answer_a": "x", "answer_b": "y", "item": 1}


def test_rows_of_one_item_are_votes_of_several_raters(tmp_path: Path) -> None:
    path = rows(
        tmp_path / "h.jsonl",
        {**BASE, "verdict": "a", "rater": "ann"},
        {**BASE, "verdict": "tie", "rater": "Robert'); DROP TABLE votes;--"},
        {**BASE, "item": 2, "reference": "gold", "criteria": "short"},
    )
    first, second = read_pairs(path)
    assert first.votes == {"ann": "a", "Robert'); DROP TABLE votes;--": "tie"}
    assert (second.label, second.references, second.criteria) == (None, ("gold",), "short")


def test_raters_who_saw_the_models_in_other_places_vote_on_one_pair(tmp_path: Path) -> None:
    named = {**BASE, "model_a": "new", "model_b": "old"}
    turned = {**named, "answer_a": "y", "answer_b": "x", "model_a": "old", "model_b": "new"}
    votes = [
        {**named, "verdict": "a", "rater": "ann"},
        {**turned, "verdict": "b", "rater": "bob"},
        {**turned, "verdict": "both_bad", "rater": "eve"},
    ]
    [found] = read_pairs(rows(tmp_path / "h.jsonl", *votes))
    assert (found.models, found.answers) == (("new", "old"), ("x", "y"))
    assert found.votes == {"ann": "a", "bob": "a", "eve": "both_bad"}
    with pytest.raises(DataError, match="'ann' has voted on item '1' already"):
        read_pairs(rows(tmp_path / "h.jsonl", votes[0], {**turned, "verdict": "b", "rater": "ann"}))


def test_preference_rows_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "q", "chosen": "good", "rejected": bad} for bad in ("bad", "good", "good")]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(read_pairs(tmp_path / "p.jsonl")) == 1
    assert re.search(r"p\.jsonl: skipped: .*: 2\n", capsys.readouterr().err)


def test_preference_rows_stand_either_way_round(tmp_path: Path) -> None:
    path = rows(tmp_path / "h.jsonl", *[{"prompt": f"q{i}", "chosen": "good", "rejected": "bad"} for i in range(60)])
    pairs = read_pairs(path)
    assert all(one.answers[0 if one.label == "a" else 1] == "good" for one in pairs)
    assert 15 < sum(one.label == "a" for one in pairs) < 45
    assert [one.id for one in read_pairs(path, limit=5)] == [one.id for one in read_pairs(path, limit=5)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([{"verdict": "a", "rater": "x"}, {"verdict": "b", "rater": "x"}], r"h.jsonl:2: 'x' has voted"),
        ([{"verdict": "a"}, {"verdict": "a", "answer_a": "z", "rater": "x"}], "with other answers"),
        ([{"verdict": "c"}], "is none of a, b, tie, both_bad"),
        ([{"answer_a": 3}], "answer_a: must be a text"),
        ([{"prompt": None}], "no prompt or messages"),
        ([{"model_a": "m", "model_b": "m"}], "models two"),
        ([{"rater": 3}], "must be texts"),
        ([{"references": "gold"}], "list of texts"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, more: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pairs(rows(tmp_path / "h.jsonl", *[{**BASE, **one} for one in more]))


@pytest.mark.parametrize("text", ["{broken", "[]", '{"answer_a": 1}', ""])
def test_an_unreadable_human_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=r"h\.jsonl"):
        read_pairs(path)


def test_the_command_writes_a_calibration_that_no_other_judge_may_use(tmp_path: Path, monkeypatch: Any) -> None:
    human = rows(
        tmp_path / "h.jsonl",
        *[{**BASE, "item": i, "answer_a": "x" * (1 + i % 3), "answer_b": "yy", "verdict": "b"} for i in range(30)],
        {**BASE, "item": 99, "answer_a": "", "answer_b": "", "verdict": "both_bad"},
    )
    longer = judge(Fake(taste=1.0))
    monkeypatch.setattr(command, "judge", lambda settings: longer)
    out = tmp_path / "c.json"
    record = command.calibrate_judge(RewardSettings(judge="fake"), human, out)
    assert record["noise"]["flips"] == 0
    assert record["labelled"] == 31
    assert set(read_calibration(out, longer.fingerprint)) == {"a", "b"}
    with pytest.raises(NotComparable, match="calibrate this judge"):
        read_calibration(out, judge(Fake(taste=1.0), seed=1).fingerprint)
    out.write_text("{}")
    with pytest.raises(DataError, match="is no calibration"):
        read_calibration(out, "x")


def test_a_panel_says_how_far_each_judge_carries_it(tmp_path: Path, monkeypatch: Any) -> None:
    from mnemos.rewards.panel import Panel

    human = rows(
        tmp_path / "h.jsonl",
        *[{**BASE, "item": i, "answer_a": "x" * (1 + i % 3), "answer_b": "yy", "verdict": "b"} for i in range(30)],
    )
    panel = Panel((judge(Fake(taste=1.0)), judge(Fake(taste=2.0, path="2")), judge(Fake(taste=-1.0, path="3"))))
    monkeypatch.setattr(command, "judge", lambda settings: panel)
    record = command.calibrate_judge(RewardSettings(judge="fake"), human, tmp_path / "c.json", repeat=0)
    assert record["panel"]["fake"]["agree"] == 1.0
    assert record["panel"]["3"]["agree"] == pytest.approx(1 / 3)
    assert record["panel"]["3"]["without"] == 1.0
