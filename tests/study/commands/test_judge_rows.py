"""Votes and verdicts become rows: through SQLite and files, with the answers of a run, for pairs and thumbs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, NotComparable, UsageError
from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.core.nouns import Answer, Score
from mnemos.measure.ask import Measured, save_measured
from mnemos.measure.human import read_pairs
from mnemos.measure.votes import VoteStore, write_votes
from mnemos.sources.read import read
from mnemos.study.commands.judge_rows import answered, categories, export, judge_votes, pairs_in, table
from tests.measure.test_votes import VOTE
from tests.rewards.test_judge import Fake, judge

STUDY = """\
model: mnemos:patients/chat
teach: {data: rows.jsonl}
suites: {new: [suite.yaml]}
arms: {replay: []}
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with the files of a finished run that votes are about."""
    run = tmp_path / "runs" / "study"
    rows = [{"id": n, "prompt": f"q{n}", "answer": "x"} for n in (81, 82, 83)]
    run.mkdir(parents=True)
    (run / "study.yaml").write_text(STUDY)
    write_jsonl(run / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    (run / "suite.yaml").write_text("{name: chat, kind: generated, chat: true, data: items.jsonl}")
    write_jsonl(run / "items.jsonl", rows)
    for place, word in (("before", "old"), ("arms/replay/seed-0", "new and longer")):
        (run / place / "answers").mkdir(parents=True)
        write_jsonl(
            run / place / "answers" / "chat.jsonl",
            [{"suite": "chat", "item": str(row["id"]), "text": f"{word} {row['id']}", "data": {}} for row in rows],
        )
    return tmp_path / "runs"


def votes(path: Path) -> Path:
    store = VoteStore(path)
    store.add_all(
        [
            VOTE,  # 81: the arm wins
            replace(VOTE, rater="Robert'); DROP TABLE votes;--"),
            replace(VOTE, item="82", verdict="both_bad"),
            replace(VOTE, item="83", verdict="tie"),
        ]
    )
    return path


def test_votes_of_the_page_become_pairs(tmp_path: Path, runs: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    counts = export([votes(tmp_path / "votes.sqlite")], runs, out, "pairs")
    assert counts == {"rows": 1, "left out: both are bad": 1, "left out: no majority for one answer": 1}
    (row,) = read(str(out), format="preference")
    assert (row.prompt.turns[-1].text, row.turns[-1].text) == ("q81", "new and longer 81")
    assert row.rejected[-1].text == "old 81"
    assert (row.meta["raters"], row.meta["share"]) == (2, 1.0)


def test_votes_become_thumbs(tmp_path: Path, runs: Path) -> None:
    out = tmp_path / "kto.jsonl"
    counts = export([votes(tmp_path / "votes.sqlite")], runs, out, "kto")
    found = {row.turns[-1].text: row.label for row in read(str(out))}
    assert found == {"old 81": False, "new and longer 81": True, "old 82": False, "new and longer 82": False}
    assert counts["rows"] == 4


def test_an_answer_that_is_up_as_often_as_down_has_no_thumb(tmp_path: Path) -> None:
    path, out = tmp_path / "h.jsonl", tmp_path / "kto.jsonl"
    base = {"prompt": "q", "answer_a": "x", "verdict": "a"}
    write_jsonl(path, [{**base, "answer_b": "y", "item": 1}, {**base, "answer_b": "z", "verdict": "b", "item": 2}])
    counts = export([path], None, out, "kto")
    assert counts == {"rows": 2, "left out: up as often as down": 1}


def test_votes_in_a_file_of_rows_are_the_same(tmp_path: Path, runs: Path) -> None:
    write_votes(tmp_path / "v.jsonl", VoteStore(votes(tmp_path / "v.sqlite")).votes())
    assert pairs_in(tmp_path / "v.jsonl", runs) == pairs_in(tmp_path / "v.sqlite", runs)
    with pytest.raises(UsageError, match="without the answers"):
        pairs_in(tmp_path / "v.jsonl", None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"run": "../../etc"}, "leads out of"),
        ({"run": "absent"}, "is no run"),
        ({"model_b": "../../../x"}, "leads out of|are not in"),
        ({"model_b": "plain/seed-0"}, "are not in"),
        ({"item": "99"}, "is in no suite"),
        ({"suite": "../x"}, "is in no suite"),
    ],
)
def test_a_vote_on_what_is_not_there_is_refused(runs: Path, wrong: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        answered([replace(VOTE, **wrong)], runs)  # type: ignore[arg-type]


def test_a_judge_votes_like_a_rater_and_a_table_stands(tmp_path: Path, runs: Path) -> None:
    run, out = runs / "study", tmp_path / "verdicts.jsonl"
    places = {"before": run / "before/answers/chat.jsonl", "arm": run / "arms/replay/seed-0/answers/chat.jsonl"}
    counts = judge_votes(judge(Fake(taste=1.0)), str(run / "suite.yaml"), places, out)
    assert counts == {"pairs": 3, "a": 3}
    pairs = read_pairs(out)
    assert [(one.models, one.label) for one in pairs] == [(("arm", "before"), "a")] * 3
    assert table([out], None)[2].startswith("| arm |")
    assert any("at equal length" in line for line in table([out], None))
    exported = export([out], None, tmp_path / "p.jsonl", "pairs")
    assert exported["rows"] == 3
    with pytest.raises(DataError, match="two models answered"):
        judge_votes(judge(Fake()), str(run / "suite.yaml"), {"a": places["arm"]}, out)


def test_a_prompt_that_is_won_beside_several_models_is_one_prompt(tmp_path: Path) -> None:
    rates = {"sensitivity": 0.9, "right": 500, "specificity": 0.8, "wrong": 500}
    record = {"judge": {"name": "it", "fingerprint": "f"}, "models": {"arm": {"rates": rates}}}
    (tmp_path / "c.json").write_text(json.dumps(record))

    def width(models: int) -> float:
        rows = [
            {"item": f"{n}", "prompt": f"q{n}", "answer_a": "x", "answer_b": "y", "model_a": "arm", "model_b": f"m{m}",
             "verdict": "ab"[n % 3 == 0], "judge": "f", "cluster": f"{n}"}
            for n in range(40) for m in range(models)
        ]  # fmt: skip
        (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = table([tmp_path / "v.jsonl"], None, tmp_path / "c.json")
        line = next(one for one in found if one.startswith("arm: wins"))
        low, high = line.rsplit("[", 1)[1].rstrip("]").split(", ")
        return float(high) - float(low)

    assert width(8) > 0.95 * width(1)


def test_wins_are_corrected_by_the_same_judge_alone(tmp_path: Path, runs: Path) -> None:
    run, out = runs / "study", tmp_path / "verdicts.jsonl"
    places = {"before": run / "before/answers/chat.jsonl", "arm": run / "arms/replay/seed-0/answers/chat.jsonl"}
    made = judge(Fake(taste=1.0))
    judge_votes(made, str(run / "suite.yaml"), places, out)
    rates = {"sensitivity": 0.9, "right": 50, "specificity": 0.8, "wrong": 50}
    file = tmp_path / "c.json"
    record = {"judge": {"name": "it", "fingerprint": made.fingerprint}, "models": {"arm": {"rates": rates}}}
    file.write_text(json.dumps(record))
    found = table([out], None, file)
    assert any(line.startswith("arm: wins by the judge 100.0 %") and "corrected 100.0 %" in line for line in found)
    assert any(line.startswith("before: not corrected") for line in found)
    record["judge"] = {"name": "other", "fingerprint": "0"}
    file.write_text(json.dumps(record))
    with pytest.raises(NotComparable, match="is of other"):
        table([out], None, file)


def test_scores_by_category(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("{name: chat, kind: generated, chat: true, data: items.jsonl}")
    items = [{"id": n, "prompt": f"q{n}", "answer": "x", "category": "ab"[n % 2]} for n in range(40)]
    write_jsonl(tmp_path / "items.jsonl", items)
    for side in (0, 1):
        scores = [Score("chat", str(n), float(n % 2 == 0 or side == 1)) for n in range(40)]
        answers = [Answer("chat", str(n), "x") for n in range(40)]
        save_measured(tmp_path / str(side), {"chat": Measured("chat", answers, scores)})
    lines = categories(str(suite), tmp_path / "0/chat.jsonl", tmp_path / "1/chat.jsonl")
    assert lines[2].startswith("| a | 20 | 100.0 | 100.0 | +0.0 [")
    assert lines[3].startswith("| b | 20 | 0.0 | 100.0 | +100.0 [")
    assert lines[4].startswith("| all | 40 | 50.0 | 100.0 | +50.0 [")
    with pytest.raises(UsageError, match="is not a file"):
        categories(str(suite), tmp_path / "absent", tmp_path / "1/chat.jsonl")
    suite.write_text("{name: chat, kind: generated, items: [{id: 0, prompt: q, answer: x}]}")
    with pytest.raises(UsageError, match="no item with a category"):
        categories(str(suite), tmp_path / "0/chat.jsonl", tmp_path / "1/chat.jsonl")


def test_the_verbs(tmp_path: Path, runs: Path) -> None:
    path = votes(tmp_path / "votes.sqlite")

    def call(*words: str) -> Any:
        return CliRunner().invoke(app, ["judge", *words])

    done = call("export", str(path), "--runs", str(runs), "--format", "pairs", "--out", str(tmp_path / "p.jsonl"))
    assert done.exit_code == 0, done.output
    assert "rows: 1" in done.output
    assert len(read_jsonl(tmp_path / "p.jsonl")) == 1
    done = call("table", str(path), "--runs", str(runs))
    assert done.exit_code == 0, done.output
    assert "replay/seed-0" in done.output
    (tmp_path / "empty.jsonl").write_text(json.dumps({"prompt": "q", "answer_a": "", "answer_b": ""}) + "\n")
    done = call("export", str(tmp_path / "empty.jsonl"), "--format", "kto")
    assert isinstance(done.exception, DataError)
    assert "no vote" in str(done.exception)
