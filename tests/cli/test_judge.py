"""`mnemos judge calibrate`, `probe` and `vote` as a person types them, with a real server behind the address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.files import read_json
from mnemos.measure.votes import Vote, VoteStore, read_table
from mnemos.serve.voting import agreements
from tests.study.test_feedback import judging
from tests.study.worlds import write_jsonl


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    """Likes answers with the word river, and takes the first place where it likes neither more."""
    with judging() as url:
        yield f"{url}#judge"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def invoke(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["judge", *map(str, arguments), "--set", "verdict=text"])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_calibrate_finds_what_people_and_the_judge_agree_on(tmp_path: Path, judge: str) -> None:
    # People take the river in twelve of sixteen pairs; the judge takes it in all, wherever it stands.
    rows = []
    for number in range(16):
        river, mill = f"the river {number}", f"the mill {number}"
        first, second = (river, mill) if number % 2 else (mill, river)
        liked = river if number < 12 else mill
        rows.append(
            {"prompt": f"Where? {number}", "answer_a": first, "answer_b": second, "verdict": "ab"[liked == second]}
        )
    write_jsonl(tmp_path / "human.jsonl", rows)
    out = tmp_path / "calibration.json"
    text = invoke("calibrate", "--judge", judge, "--human", tmp_path / "human.jsonl", "--out", out, "--repeat", "4")
    assert read_json(out)["judge"]["settings"]["judge"] == judge
    assert f"{100 * 12 / 16:.1f}" in text, text
    assert "16 pairs" in text, text


def test_probe_says_what_misleads_the_judge(tmp_path: Path, judge: str) -> None:
    rows = [
        {
            "question_id": f"q{n}",
            "prompt": f"Where is number {n}?",
            "answers": {
                "answer1": {"answer": f"In the mill, as I said before. Number {n} is there."},
                "answer2": {"answer": f"At the bridge, near the tower. Number {n} is there."},
            },
        }
        for n in range(6)
    ]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    out = tmp_path / "probes.json"
    text = invoke("probe", "--judge", judge, "--data", tmp_path, "--out", out)
    found = read_json(out)
    # It likes no answer of these more than another, so it always takes the first place.
    probes = {one["probe"]: one for one in found["probes"]}
    assert (probes["position"]["pairs"], probes["position"]["rate"]) == (6, 0.0)
    assert probes["position"]["standing"] == "worse than random"
    assert probes["misinformation"]["made"], "made by rule where the folder holds no twins"
    assert found["fit"] is False
    assert "| position (both orders agree) | 6 | 0 %" in text


def test_vote_lets_the_judge_compare_every_two_models(tmp_path: Path, judge: str) -> None:
    items = [{"id": str(n), "messages": [{"role": "user", "content": f"Where? {n}"}]} for n in range(5)]
    write_jsonl(tmp_path / "items.jsonl", [{**item, "answer": "river"} for item in items])
    (tmp_path / "suite.yaml").write_text("name: places\nkind: generated\nmatch: exact\ndata: items.jsonl\n")
    for name, word in (("wet", "river"), ("dry", "mill"), ("stone", "bridge")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"id": str(n), "answer": f"the {word} {n}"} for n in range(5)])
    answers = [f"--answers={name}={tmp_path / name}.jsonl" for name in ("wet", "dry", "stone")]
    out = tmp_path / "verdicts.jsonl"
    text = invoke("vote", "--judge", judge, "--suite", tmp_path / "suite.yaml", *answers, "--out", out)
    assert "pairs: 15; tie: 5; b: 10" in text, text
    table = CliRunner().invoke(app, ["judge", "table", str(out)])
    assert table.exit_code == 0, table.output
    assert "| 100.0 % | 10 |" in next(line for line in table.output.splitlines() if line.startswith("| wet |"))


def test_a_judge_is_a_rater_beside_people_on_the_page(tmp_path: Path, judge: str) -> None:
    write_jsonl(
        tmp_path / "items.jsonl", [{"id": str(n), "prompt": f"Where? {n}", "answer": "river"} for n in range(4)]
    )
    (tmp_path / "s.yaml").write_text("name: places\nkind: generated\nmatch: exact\nchat: true\ndata: items.jsonl\n")
    for name, word in (("before", "river"), ("after", "mill")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"id": str(n), "answer": f"the {word} {n}"} for n in range(4)])
    table = tmp_path / "votes.sqlite"
    verdicts: list[Any] = ["a", "a", "b", "tie"]
    people = [
        Vote("x", "places", str(n), "before", "after", "b", verdict, rater="ann") for n, verdict in enumerate(verdicts)
    ]
    VoteStore(table).add_all(people)
    answers = [f"--answers={name}={tmp_path / name}.jsonl" for name in ("before", "after")]
    common: list[str | Path] = [
        "vote",
        "--judge",
        judge,
        "--suite",
        tmp_path / "s.yaml",
        *answers,
        "--out",
        tmp_path / "v.jsonl",
    ]
    invoke(*common, "--votes", table, "--run", "x")
    # The judge prefers the answer with the river, and so does ann in two of the three that she decided.
    [found] = agreements(read_table(table))
    assert (found.items, found.same, found.plain, found.plain_same) == (4, 2, 3, 2)
    assert any(name.startswith("judge ") for name in found.raters)
    again = CliRunner().invoke(
        app, ["judge", *map(str, common), "--votes", str(table), "--run", "x", "--set", "verdict=text"]
    )
    assert "has voted on 'after' beside 'before' already" in str(again.exception), again.output
    assert len(read_table(table)) == 8
    alone = CliRunner().invoke(app, ["judge", *map(str, common), "--votes", str(table)])
    assert "go together" in str(alone.exception)
    twice = CliRunner().invoke(app, ["judge", *map(str, common), f"--answers=after={table}"])
    assert "names a model twice" in str(twice.exception)
