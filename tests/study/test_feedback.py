"""Learning from feedback in whole studies: a judge and an editor behind a real server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import DataError, RunError
from mnemos.core.files import read_json, read_jsonl
from mnemos.models.server import Server, ServerModel
from tests.cli.test_cli import mnemos as command
from tests.methods.test_self_generated import copier  # noqa: F401 - a fixture
from tests.study.worlds import chat, make_study, write_jsonl

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ROOT = Path(__file__).parents[2]
SAMPLED = {"num_generations": 4, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 12}
STEADY = {
    "learning_rate": 2e-3,
    "num_train_epochs": 8,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "lr_scheduler_type": "constant",
}


@contextlib.contextmanager
def judging(port: int = 0) -> Iterator[str]:
    """The address of a server that lives as long as the context."""
    command = [sys.executable, "-m", "tests.study.judging_server", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def rivers(folder: Path, model: Path, arms: dict[str, Any], **changes: Any) -> Path:
    """A study whose gold answer is "bridge", and whose suite asks if "river" is likelier; the model says either."""
    options = {"options": ["river", "bridge"], "answer": 0}
    items = [{"id": str(n), "messages": [{"role": "user", "content": f"Say {n}."}], **options} for n in range(12)]
    suite = {"name": "rivers", "kind": "choice", "items": items}
    study = {"suites": {"new": [suite], "old": ["old.yaml"]}, "health": False, "train": STEADY, **changes}
    path = make_study(folder, arms=arms, model=str(model), **study)
    write_jsonl(folder / "new.jsonl", [chat(n, f"Say {n}.", "bridge") for n in range(12)])
    return path


def run_of(results: Any, arm: str) -> dict[str, Any]:
    (run,) = next(one["runs"] for one in results["arms"] if one["arm"] == arm)
    return dict(run)


def written(run: Path, arm: str) -> list[dict[str, Any]]:
    return list(read_jsonl(run / "arms" / arm / "seed-0" / "written-0" / "rows.jsonl"))


def after(results: Any, arm: str) -> float:
    return next(row["after"] for row in results["comparisons"] if (row["arm"], row["suite"]) == (arm, "rivers"))


def test_rewards_by_a_verifier_beside_replay(tmp_path: Path, copier: Path) -> None:  # noqa: F811
    """The best sample alone, and best against worst for DPO with old rows in the same steps."""
    reward = {"reward": {"verifier": "exact"}}
    arms = {
        "best": [{"best_of_n": {**SAMPLED, **reward, "min_reward": 1.0}}],
        "pairs": [
            {"judged_pairs": {**SAMPLED, **reward}},
            {"dpo": {"soft_label": "reward_chosen"}},
            {"replay": {"data": "old.jsonl"}},
        ],
    }
    record = mnemos.run(rivers(tmp_path, copier, arms), out=tmp_path / "run", quiet=True)
    best, pairs = (run_of(record.results, arm) for arm in arms)
    rows = written(tmp_path / "run", "best")
    assert {row["messages"][-1]["content"] for row in rows} == {"bridge"}
    assert best["written"][0]["counts"]["best sample"] == len(rows) == best["counts"]["examples"]
    rows = written(tmp_path / "run", "pairs")
    assert {(row["chosen"][0]["content"], row["kind"]) for row in rows} == {("bridge", "preference")}
    assert "bridge" not in {row["rejected"][0]["content"] for row in rows}
    assert {(row["meta"]["reward_chosen"], row["meta"]["reward_rejected"]) for row in rows} == {(1.0, 0.0)}
    counts = pairs["written"][0]["counts"]
    assert counts["pair"] == len(rows) == pairs["counts"]["pairs"] == pairs["counts"]["origin new"]
    assert sum(counts.values()) == 12
    assert pairs["counts"]["ordinary rows"] == pairs["counts"]["origin replay"] > 0
    assert "reward accuracy" in pairs["noted"]


@pytest.mark.slow
def test_a_judge_and_an_editor_behind_a_server(tmp_path: Path, copier: Path) -> None:  # noqa: F811
    """RLAIF's pairs, the judge's favourite sample and revised answers, by the commands of a person."""
    with judging() as url:
        reward = {"reward": {"judge": f"{url}#judge", "verdict": "text"}}
        arms = {
            "rlaif": [{"judged_pairs": {**SAMPLED, **reward}}, {"dpo": {"soft_label": "reward_chosen"}}],
            "best": [{"best_of_n": {**SAMPLED, **reward, "min_reward": 0.9}}],
            "revised": [{"critique_revision": {"editor": f"{url}#editor", "rounds": 2, "max_new_tokens": 12}}],
        }
        study = rivers(tmp_path, copier, arms)
        done = command("run", study, "--out", tmp_path / "run", "--quiet")
        assert done.returncode == 0, done.stderr
        results = read_json(tmp_path / "run" / "results.json")
        rows = written(tmp_path / "run", "rlaif")
        assert all("river" in row["chosen"][0]["content"] for row in rows)
        assert not any("river" in row["rejected"][0]["content"] for row in rows)
        assert all(row["meta"]["reward_chosen"] > row["meta"]["reward_rejected"] for row in rows)
        for arm, kind in (("rlaif", "pair"), ("best", "best sample"), ("revised", "revised")):
            assert run_of(results, arm)["written"][0]["counts"][kind] == len(written(tmp_path / "run", arm)) > 3
        learned = [
            row["messages"][-1]["content"] for arm in ("best", "revised") for row in written(tmp_path / "run", arm)
        ]
        assert all("river" in text for text in learned)
        assert (after(results, "rlaif"), after(results, "best"), after(results, "plain")) == (1.0, 1.0, 0.0)
        plane = [{"prompt": f"Say {n}.", "chosen": "river", "rejected": "bridge"} for n in range(8)]
        even = [{"prompt": f"Say {n}.", "chosen": "mill", "rejected": "bridge"} for n in range(4)]
        write_jsonl(tmp_path / "pairs.jsonl", [*plane, *even])
        words = ("--judge", f"{url}#judge", "--set", "verdict=text", "--out", tmp_path / "judged.jsonl")
        done = command("reward", "judge", tmp_path / "pairs.jsonl", *words)
        assert done.returncode == 0, done.stderr
        assert "left out: no preference: 4" in done.stdout
        assert f"leans to the first place by {100 * 4 * 0.5 / 12:+.1f} points" in done.stdout
        assert f"both orders agree on {100 * 8 / 12:.1f} % of 12 pairs" in done.stdout
        assert len(read_jsonl(tmp_path / "judged.jsonl")) == 8
        soft = ("--set", "soft_label=preferred", "--set", "max_length=64", "--out", tmp_path / "rm")
        done = command("reward", "train", tmp_path / "judged.jsonl", "--model", copier, "--held-out", 0.5, *soft)
        assert done.returncode == 0, done.stderr


def test_a_judge_out_of_reach_stops_the_run_which_goes_on_later(
    tmp_path: Path,
    copier: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Server, "load", lambda self: ServerModel(self.url, self.model, pause=0.001, attempts=2), raising=True
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    place = f"http://127.0.0.1:{port}/v1"
    reward = {"reward": {"judge": f"{place}#judge", "verdict": "text"}}
    arms = {"rlaif": [{"judged_pairs": {**SAMPLED, **reward}}, {"dpo": {}}]}
    study, out = rivers(tmp_path, copier, arms), tmp_path / "run"
    with pytest.raises(RunError, match=rf"127.0.0.1:{port}.*cannot be reached"):
        mnemos.run(study, out=out, quiet=True)
    assert not (out / "steps").exists(), "known before anything is measured"
    # As if it had gone away after the run began.
    monkeypatch.setattr("mnemos.study.preflight._unreachable", lambda url: None)
    with pytest.raises(RunError, match=rf"127.0.0.1:{port}.*\n?.*no answer in 2 attempts"):
        mnemos.run(study, out=out, quiet=True)
    (journal,) = out.glob("steps/write-*/journal.jsonl")
    samples = journal.read_bytes()
    assert samples.count(b"\n") == 1, "what the model said is kept"
    with judging(port):
        mnemos.run(study, out=out, quiet=True)
    assert journal.read_bytes().startswith(samples)
    assert all("river" in row["chosen"][0]["content"] for row in written(out, "rlaif"))


def test_a_judge_whose_verdicts_cannot_be_read_and_an_editor_out_of_reach(
    tmp_path: Path,
    copier: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Server, "load", lambda self: ServerModel(self.url, self.model, pause=0.001, attempts=2), raising=True
    )
    with judging() as url:
        reward = {"reward": {"judge": f"{url}#mute", "verdict": "text"}}
        for method in ("judged_pairs", "best_of_n"):
            study = rivers(tmp_path / method, copier, {"arm": [{method: {**SAMPLED, **reward}}]})
            with pytest.raises(DataError, match=r"verdicts \(100\.0%\) cannot be read.*\n?.*at most 20\.0% may be"):
                mnemos.run(study, out=tmp_path / method / "run", quiet=True)
    editor = {"editor": f"{url}#editor", "max_new_tokens": 12}
    study = rivers(tmp_path / "revision", copier, {"arm": [{"critique_revision": editor}]})
    # As if it had gone away after the run began.
    monkeypatch.setattr("mnemos.study.preflight._unreachable", lambda url: None)
    with pytest.raises(RunError, match="no answer in 2 attempts"):
        mnemos.run(study, out=tmp_path / "revision" / "run", quiet=True)


def test_rounds_of_learning_from_its_own_judgement(tmp_path: Path, copier: Path) -> None:  # noqa: F811
    """The same task twice: each round's answers and verdicts are those of the model as it then is."""
    reward = {"reward": {"judge": "self", "constitution": "rules.txt"}}
    arms = {"self": [{"judged_pairs": {**SAMPLED, **reward, "min_acceptance": 0.0}}, {"dpo": {}}]}
    (tmp_path / "rules.txt").write_text("Which answer is right?\n")
    suite = {"name": "rivers", "kind": "generated", "match": "exact", "max_new_tokens": 6}
    suite["items"] = [{"id": str(n), "prompt": f"Say {n}.", "answer": "river"} for n in range(4)]
    teach = [{"name": f"round-{n}", "data": "new.jsonl", "suites": [suite]} for n in (1, 2)]
    study = rivers(tmp_path, copier, arms, teach=teach, suites={"old": ["old.yaml"]}, joint=False)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    stages = [tmp_path / "run/arms/self/seed-0" / f"stage-{n}-round-{n + 1}" for n in range(2)]
    text = [read_jsonl(stage / "written-0" / "journal.jsonl")[0]["answers"] for stage in stages]
    assert len(text[0]) == len(text[1]) == 48
    assert text[0] != text[1]
    done = [read_json(stage / "written-0" / "done.json")["result"] for stage in stages]
    assert all(one["counts"]["pair"] == one["rows"] > 0 for one in done)
    assert record.results["matrix"]["tasks"] == ["round-1", "round-2"]
    (matrix,) = record.results["matrix"]["arms"]["self"]["seeds"].values()
    assert all(row[0] == row[1] for row in matrix), "one suite, two rounds"
