"""Studies of streams, with a model behind a server that answers by a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import UsageError
from mnemos.study.commands.stream import MemoryFile, load, stream
from tests.stream.rule_server import rule_server
from tests.stream.worlds import RuleModel, write_rows


def guessing() -> RuleModel:
    """Right by chance: each colour in turn, whatever is asked; made of the question, so that a kill changes nothing."""
    return RuleModel(lambda text: ("red", "green", "blue")[len(text) % 3])


def study(folder: Path, model: str, **more: Any) -> Path:
    write_rows(folder / "rows.jsonl", 100, hint="look at the country")
    values = {
        "model": model,
        "stream": {"data": "rows.jsonl", "instruction": "Name the colour.", "items": 60},
        "arms": {"icl": {"agent": "self-stream-icl", "k": 4}, "cot": "chain-of-thought"},
        "orders": [0],
        "panel": {"items": 5, "every": 20},
        "prices": {"prompt": 1.0},
        **more,
    }
    (folder / "study.yaml").write_text(json.dumps(values), encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stream")
    with rule_server(guessing()) as model:
        help_ = {"ways": ["random"], "budget": 0.3}
        record = mnemos.run(study(folder, model, controls=True, help=help_), out=folder / "run", quiet=True)
    assert record.directory == folder / "run"
    return folder, dict(record.results)


def test_results_have_gain_curve_forgetting_and_cost(finished: tuple[Path, dict[str, Any]]) -> None:
    _, results = finished
    arms = {one["arm"]: one for one in results["stream"]["arms"]}
    assert {"zero-shot", "icl", "cot", "random-correct", "oracle-memory", "coin-feedback"} <= set(arms)
    icl = arms["icl"]
    assert icl["low"] > 0
    assert icl["gain"] == pytest.approx(icl["stateful"] - icl["reset"])
    assert icl["pays_off"] is not None
    assert icl["items"] == 60
    assert icl["forgetting"]["last"] == 60
    assert icl["cost"]["dollars"] == pytest.approx(icl["cost"]["prompt_tokens"] / 1e6)
    assert [one["step"] for one in icl["curve"]] == [50, 60]
    for steady in ("zero-shot", "cot"):
        assert (arms[steady]["gain"], arms[steady]["low"]) == (0.0, 0.0)
    assert arms["oracle-memory"]["sees_gold"]
    assert arms["oracle-memory"]["stateful"] >= icl["stateful"]
    rows = {one["arm"]: one for one in results["comparisons"]}
    assert rows["icl"]["verdict"] == "gained"
    assert rows["zero-shot"]["verdict"] == "kept"
    assert results["help"]["ways"][0]["way"] == "random"
    names = results["contrasts"]["arms"]
    pairs = {(names[a], names[b]): numbers for a, b, *numbers in results["contrasts"]["suites"]["rows"]}
    assert len(pairs) == len(names) * (len(names) - 1) / 2
    assert pairs["icl", "zero-shot"] == [rows["icl"][key] for key in ("delta", "low", "high")]


def test_models_in_turns_are_compared_with_the_mean_of_each_alone(tmp_path: Path) -> None:
    arms = {"icl": {"agent": "self-stream-icl", "k": 4}, "mam": {"agent": "mam-stream-icl", "k": 4}}
    arms["second"] = {**arms["icl"], "model": 1}
    with rule_server(guessing()) as first, rule_server(RuleModel()) as other:
        path = study(tmp_path, first, models=[other], arms=arms, panel={}, orders=[0, 1])
        results = mnemos.run(path, out=tmp_path / "run", quiet=True).results
    found = {one["arm"]: one["stateful"] for one in results["stream"]["arms"]}
    ((a, b, delta, low, high),) = results["contrasts"]["suites"]["over-each-model-alone"]
    assert [results["contrasts"]["arms"][place] for place in (a, b)] == ["mam", "icl"]
    assert delta == pytest.approx(found["mam"] - (found["icl"] + found["second"]) / 2)
    assert low < delta < high


def test_the_report_says_it_in_every_format(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    from mnemos.report import render

    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    for text in (page, render(results, "md"), render(results, "text")):
        joined = " ".join(text.split())
        assert "gained from its memory" in joined
        assert "gold answers of the stream: an upper bound" in joined
        assert "Verdicts are about" not in joined
        assert "icl" in joined
        assert "did better at rows" in joined
        assert "learned rows" not in joined
    assert 'data-mark="stream icl"' in page
    assert "Asking a person for help" in page
    assert "The agents and their settings" in page
    assert "what was taught" not in page.lower()
    assert "what came along the stream" in page


def test_a_finished_study_asks_nothing_again(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    from tests.stream import rule_server as server

    asked = guessing()
    with server.rule_server(asked) as model:
        # Another port is another address: named as the first one was, nothing is asked.
        values = json.loads((folder / "study.yaml").read_text())
        assert model != values["model"]
        again = stream({**values, "stream": {**values["stream"], "data": str(folder / "rows.jsonl")},
                        "name": "study"}, out=folder / "run", quiet=True)  # fmt: skip
    assert asked.asked == []
    assert again.results["help"] == results["help"]
    first = [{k: v for k, v in one.items() if k != "cost"} for one in results["stream"]["arms"]]
    second = [{k: v for k, v in one.items() if k != "cost"} for one in again.results["stream"]["arms"]]
    assert first == second


def test_what_it_remembers_can_be_looked_at(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    file = MemoryFile(folder / "run" / "stream.db")
    rows = file.rows(stream="icl, order 0")
    held = {one["arm"]: one for one in results["stream"]["arms"]}["icl"]["cost"]["memories"]
    assert len(rows) == pytest.approx(held, abs=10)
    assert all(row["correct"] == 1 for row in rows)
    runner = CliRunner()
    done = runner.invoke(
        app, ["stream", "memory", str(folder / "run" / "stream.db"), "--search", "country", "--limit", "2"]
    )
    assert done.exit_code == 0, done.output
    assert "country" in done.output
    kept = runner.invoke(app, ["stream", "memory", str(folder / "run" / "stream.db"), "--delete", "1"])
    assert "would be deleted" in kept.output


def test_the_plan_is_said_without_a_model(tmp_path: Path) -> None:
    path = study(tmp_path, "http://127.0.0.1:1/v1#none")
    for words in (["stream", str(path), "--dry-run"], ["run", str(path), "--dry-run"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (done.output, done.exception)
        assert "60 questions, 16 gold examples held back" in done.output
        assert "arm     icl: self-stream-icl (k = 4)" in done.output
    listed = CliRunner().invoke(app, ["stream", "agents"])
    assert "coin-feedback" in listed.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": {"a": "self-stream"}}, "did you mean 'self-stream-icl'"),
        ({"arms": {"a": {"agent": "self-stream-icl", "kk": 3}}}, "did you mean 'k'"),
        ({"arms": {"a": {"k": 3}}}, "names no agent"),
        ({"arms": {"a": {"agent": "zero-shot", "learn_until": 2}}}, "share from 0 to 1"),
        ({"arms": {"a": {"agent": "zero-shot", "feedback": "noise"}}}, "real or coin"),
        ({"arms": {"zero-shot": {"agent": "mem-prompt"}}}, "all are compared with"),
        ({"arms": [1]}, "must be a mapping"),
        ({"stream": {"name": "sqll"}}, "did you mean 'sql'"),
        ({"stream": {"dta": "x"}}, "did you mean 'data'"),
        ({"orders": [1, 1]}, "must differ"),
        ({"orders": 0}, "orders"),
        ({"orders": "three"}, "orders"),
        ({"memory": {"search": "similar"}}, "needs vectors"),
        ({"memory": {"encoder": "./nowhere"}}, "no such directory"),
        ({"prices": {"prompts": 1.0}}, "is not a price"),
        ({"teach": {"data": "x"}}, "keep one"),
        ({"prompts": "nowhere"}, "is no folder"),
        ({"decoding": {"temperature": -1}}, "temperature"),
        ({"window": 3}, "is not a known key|did you mean|known"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = study(tmp_path, "http://127.0.0.1:1/v1#none", **change)
    with pytest.raises(UsageError, match=words):
        load(path)
    with pytest.raises(UsageError, match=words):
        mnemos.run(path, out=tmp_path / "run", quiet=True)


def test_a_training_is_no_stream(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no stream"):
        load({"model": "x", "teach": {"data": "y"}})


def test_help_that_cannot_be_had_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = study(tmp_path, "http://127.0.0.1:1/v1#none", help={"ways": ["executed"]})
    with pytest.raises(UsageError, match="runs none"):
        stream(path, out=tmp_path / "run", quiet=True)
    write_rows(tmp_path / "rows.jsonl", 100)
    with pytest.raises(UsageError, match="has none"):
        stream(path, out=tmp_path / "run", quiet=True)
