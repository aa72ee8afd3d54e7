"""A whole teaching on a tiny model: looked at, raced, proven, handed over, continued, refused."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.core.files import read_json, read_jsonl
from mnemos.core.yaml_text import dump_yaml, read_yaml
from mnemos.study.commands.clean import stale
from mnemos.study.config import load_study
from mnemos.study.lock import locked
from mnemos.study.teach import look as looking
from mnemos.study.teach import propose as proposing
from tests.study.teach_world import make_world, new_rows
from tests.study.worlds import chat, without_timings, write_jsonl

RATES = ((float("inf"), 3e-3),)
TWO_ARMS = "40k tokens"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No built-in suite is asked, and a rate at which a tiny model learns."""
    monkeypatch.setattr(looking, "abilities", lambda *_, **__: ())
    monkeypatch.setattr(proposing, "RATES", RATES)


def teach(world: Path, out: Path, **more: Any) -> mnemos.Taught:
    given: dict[str, Any] = {
        "model": world / "model", "suites": [world / "old.yaml"], "budget": TWO_ARMS, "max_loss": 20, "quiet": True,
    }  # fmt: skip
    return mnemos.teach(more.pop("data", world / "new.jsonl"), out=out, **{**given, **more})


def steps(out: Path) -> set[str]:
    return {path.parent.name for path in out.glob("steps/*/done.json")}


def test_the_plan_is_a_study_that_can_be_edited(world: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    found = teach(world, tmp_path, plan_only=True, say=lines.append)
    assert (found.outcome, found.exit_code, found.model) == ("planned", 0, None)
    assert any(line.startswith("old     old: 100 %") for line in lines)
    assert any("2 arms on" in line for line in lines)
    study, _ = load_study(tmp_path / "plan.yaml")
    assert {"plain", "half-way", "kl", "lora"} <= set(study.arms)
    assert not steps(tmp_path)
    edited = (tmp_path / "plan.yaml").read_text().replace("coefficient: 0.2", "coefficient: 0.5")
    (tmp_path / "plan.yaml").write_text(edited)
    teach(world, tmp_path, plan_only=True, say=lines.append)
    assert (tmp_path / "plan.yaml").read_text() == edited
    assert any("was edited" in line for line in lines)


def test_disk_is_counted_in_the_dtype_that_models_are_saved_in(world: Path, tmp_path: Path) -> None:
    """A model that came in 16 bits is saved in 16: counted in 32, a race that fits would be refused."""
    import torch
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    shutil.copytree(world / "model", half)
    AutoModelForCausalLM.from_pretrained(half).to(torch.bfloat16).save_pretrained(half)
    found: dict[str, int] = {}
    for name, model in (("whole", world / "model"), ("half", half)):
        lines: list[str] = []
        teach(world, tmp_path / name, model=model, plan_only=True, say=lines.append)
        (line,) = (line for line in lines if "of disk for" in line)
        taken, models = re.fullmatch(r"plan    about (\S+) MB of disk for (\d+) models, .*", line).groups()  # type: ignore[union-attr]
        found[name] = round(1000 * float(taken) / int(models))
    assert found["half"] == pytest.approx(found["whole"] / 2, rel=0.1)


def test_an_edited_plan_is_raced(world: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out, plan = tmp_path / "out", tmp_path / "out" / "plan.yaml"
    teach(world, out, plan_only=True)
    value = read_yaml(plan)
    value["arms"] = {"plain": [], "nearer": [{"kl_to_before": {"coefficient": 0.5}}]}
    value["arm_train"] = {"nearer": {"learning_rate": 1e-3}}
    plan.write_text(dump_yaml(value))
    found = teach(world, out, plan=plan, plan_only=True, say=lines.append)
    assert found.outcome == "planned"
    assert "plan    nearer: from plan.yaml" in lines
    assert not any("lora" in line or "was edited" in line for line in lines)
    for key, other in {"model": str(world / "raw"), "seeds": [5], "suites": {"new": ["sums"]}, "joint": True}.items():
        (tmp_path / "other.yaml").write_text(dump_yaml({**value, key: other}))
        with pytest.raises(UsageError, match=f"other.yaml: {key}"):
            teach(world, out, plan=tmp_path / "other.yaml", plan_only=True)


def test_the_plan_names_the_whole_command(world: Path, tmp_path: Path) -> None:
    teach(world, tmp_path, plan_only=True, old_rows=world / "old.jsonl", seed=3)
    text = (tmp_path / "plan.yaml").read_text()
    assert f"--suites {world / 'old.yaml'} --old-rows {world / 'old.jsonl'} --max-loss 20 --seed 3 --out" in text


def test_rows_that_a_suite_asks_are_not_rehearsed(world: Path, tmp_path: Path) -> None:
    leak = chat(999, "What is number 1007?", "the answer")
    leaking = tmp_path / "leaking.jsonl"
    write_jsonl(leaking, [chat(n, f"Old {n}?", "yes") for n in range(20)] + [leak])
    with pytest.raises(DataError, match=r"suite 'old': asks 1 of its 60 .*item '7' and \S*leaking.jsonl:21"):
        teach(world, tmp_path / "given", plan_only=True, old_rows=leaking)
    assert not (tmp_path / "given" / "look.json").exists()
    # Rows that the look holds out of DATA are a suite as well.
    held = next(iter(read_jsonl(_held(world, tmp_path / "held"))))["messages"][0]["content"]
    write_jsonl(tmp_path / "held.jsonl", [chat(0, held, "rain")])
    with pytest.raises(DataError, match=r"suite 'new'.* asks 1 of its"):
        teach(world, tmp_path / "held", plan_only=True, old_rows=tmp_path / "held.jsonl")
    # And an edited plan names rows of its own.
    plan = read_yaml(tmp_path / "held" / "plan.yaml")
    plan["arms"]["own"] = [{"replay": {"data": str(leaking), "share_of_final": 0.1, "repeat": True}}]
    (tmp_path / "edited.yaml").write_text(dump_yaml(plan), encoding="utf-8")
    with pytest.raises(DataError, match="suite 'old'"):
        teach(world, tmp_path / "held", plan_only=True, plan=tmp_path / "edited.yaml")


def _held(world: Path, out: Path) -> Path:
    teach(world, out, plan_only=True)
    return out / "rows" / "new.items.jsonl"


def test_rows_of_earlier_rounds_that_are_measured_now_are_left_out(world: Path, tmp_path: Path) -> None:
    held = read_jsonl(_held(world, tmp_path / "out"))
    earlier = tmp_path / "earlier"
    (earlier / "rows").mkdir(parents=True)
    rows = [chat(0, held[0]["messages"][0]["content"], "rain"), chat(1, "Another one?", "yes")]
    write_jsonl(earlier / "rows" / "a.jsonl", rows)
    record = {"model": str(world / "model"), "old": [], "new": [], "rows": [str(earlier / "rows" / "a.jsonl")]}
    (earlier / "teach.json").write_text(json.dumps(record), encoding="utf-8")
    lines: list[str] = []
    teach(world, tmp_path / "out", model=None, after=earlier, plan_only=True, say=lines.append)
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "rows" / "earlier.jsonl")] == ["1"]
    assert any("1 of earlier teachings are not rehearsed" in line for line in lines)


def test_old_rows_of_all_rounds_are_rehearsed_beside_what_was_taught(world: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    files = {}
    for name, count in (("taught", 3), ("first", 2), ("second", 1)):
        files[name] = tmp_path / f"{name}.jsonl"
        write_jsonl(files[name], [chat(n, f"{name} question {n}", "an answer") for n in range(count)])
    record = {"model": str(world / "model"), "old": [], "new": [], "rows": [str(files["taught"])]}
    (earlier / "teach.json").write_text(json.dumps({**record, "old_rows": [str(files["first"])]}), encoding="utf-8")
    given: dict[str, Any] = {"model": None, "after": earlier, "plan_only": True}
    teach(world, tmp_path / "out", old_rows=files["second"], **given)
    asked = [row["messages"][0]["content"] for row in read_jsonl(tmp_path / "out" / "rows" / "earlier.jsonl")]
    assert [text.partition(" ")[0] for text in asked] == ["taught"] * 3 + ["first"] * 2 + ["second"]
    assert "earlier.jsonl" in (tmp_path / "out" / "plan.yaml").read_text(encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text('{"text": "a page of prose"}')
    lines: list[str] = []
    teach(world, tmp_path / "texts", old_rows=tmp_path / "texts.jsonl", say=lines.append, **given)
    assert any("1 old rows have no messages, as the taught ones have" in line for line in lines)


def test_a_model_is_raced_for_proven_and_handed_over(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines: list[str] = []
    found = teach(world, out, say=lines.append)
    assert found.exit_code in (0, 3, 4)
    assert found.record is not None
    record = read_json(out / "teach.json")
    assert record["outcome"] == found.outcome
    assert record["tokens"] == found.tokens > 0
    # Nothing of the held-out half was asked before the proof, and the proof asks nothing else.
    for rung in out.glob("rungs/*/study.yaml"):
        assert "part: development" in rung.read_text()
        assert "part: held_out" not in rung.read_text()
    assert "development" not in (out / "proof" / "study.yaml").read_text()
    if found.model is not None:
        card = (found.model / "README.md").read_text()
        assert found.arm is not None
        assert found.arm in card
        assert "mnemos gate" in card
        assert (out / "repeat.yaml").is_file()
    assert list((out / "proof").glob("arms/*/*"))
    assert not stale(out / "proof")
    assert {one.path.name for one in stale(out)} < steps(out)
    before = steps(out)
    again = teach(world, out)
    assert steps(out) == before
    assert (again.outcome, again.arm, again.tokens) == (found.outcome, found.arm, found.tokens)
    assert without_timings(read_json(out / "teach.json")) == without_timings(record)
    with pytest.raises(UsageError, match="holds another teaching"):
        teach(world, out, data=world / "old.jsonl")


def test_rows_that_the_model_knows_are_said_and_nothing_is_trained(world: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    write_jsonl(tmp_path / "known.jsonl", [chat(n, f"What is number {2000 + n}?", "the answer") for n in range(150)])
    found = teach(world, tmp_path / "out", data=tmp_path / "known.jsonl", say=lines.append)
    assert (found.outcome, found.exit_code) == ("known", 0)
    assert any(line.startswith("known") for line in lines)
    assert not steps(tmp_path / "out")


def test_what_cannot_be_taught_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the smallest that works"):
        teach(world, tmp_path / "a", budget="10 tokens")
    write_jsonl(
        tmp_path / "leak.jsonl", [*new_rows(), *(chat(900 + n, f"What is number {1000 + n}?", "no") for n in range(9))]
    )
    with pytest.raises(DataError, match=r"suite 'old': asks \d of its 60 items in the words of rows"):
        teach(world, tmp_path / "b", data=tmp_path / "leak.jsonl")
    with pytest.raises(UsageError, match="exactly one of them"):
        teach(world, tmp_path / "c", model=None)
    with pytest.raises(UsageError, match=r"holds no teach\.json"):
        teach(world, tmp_path / "c", model=None, after=tmp_path)
    with pytest.raises(UsageError, match="--max-loss 0"):
        teach(world, tmp_path / "c", max_loss=0)
    with locked(tmp_path / "d"), pytest.raises(RunError, match="is in use by process"):
        teach(world, tmp_path / "d")


def test_an_old_suite_at_nothing_is_left_out(world: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    items = [{"id": str(n), "prompt": f"Riddle {n}", "answer": "never"} for n in range(60)]
    (tmp_path / "none.yaml").write_text(
        json.dumps({"name": "none", "kind": "generated", "chat": True, "max_new_tokens": 4, "items": items})
    )
    teach(
        world, tmp_path / "out", suites=[tmp_path / "none.yaml", world / "old.yaml"], plan_only=True, say=lines.append
    )
    assert any("none: 0 %" in line and "left out" in line for line in lines)
    look = read_json(tmp_path / "out" / "look.json")["look"]
    assert [spec["name"] for spec in look["old"]] == ["old"]


def test_the_command_line_says_the_outcome_by_its_exit_code(world: Path, tmp_path: Path) -> None:
    words = ["teach", str(world / "new.jsonl"), "--model", str(world / "model"), "--suites", str(world / "old.yaml")]
    found = CliRunner().invoke(app, [*words, "--budget", TWO_ARMS, "--plan-only", "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert "plan    plain: the reference" in found.output
    assert "plan.yaml" in found.output


SCRIPT = """
import sys
from mnemos.study.teach import look, propose
look.abilities = lambda *a, **k: ()
propose.RATES = ((float("inf"), 3e-3),)
import mnemos
world = sys.argv[1]
mnemos.teach(world + "/new.jsonl", world + "/model", suites=[world + "/old.yaml"], budget="40k tokens", max_loss=20,
             out=sys.argv[2], quiet=True)
"""


def end_of(world: Path, out: Path, draw: random.Random | None, kills: int, longest: float) -> dict[str, Any]:
    """teach.json of a teaching that is killed so often, after a random time each, and then left alone."""
    command = [sys.executable, "-c", SCRIPT, str(world), str(out)]
    for _ in range(kills if draw is not None else 0):
        assert draw is not None
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(draw.uniform(0.5, longest))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    found: dict[str, Any] = without_timings(read_json(out / "teach.json"))
    return json.loads(json.dumps(found).replace(str(out), "OUT"))  # type: ignore[no-any-return]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(world: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    whole = end_of(world, tmp_path / "whole", None, 0, 0)
    longest = time.monotonic() - began
    assert end_of(world, tmp_path / "killed", random.Random(0), 20, longest / 4) == whole


@pytest.mark.slow
def test_ten_rounds_one_after_the_other_keep_what_was_learned(world: Path, tmp_path: Path) -> None:
    """Each round teaches other questions; what was taught before is among the old suites and rehearsed."""
    last: Path | None = None
    for number in range(10):
        rows = [chat(n, f"Weather {number} in town {n}", f"kind {number}") for n in range(150)]
        write_jsonl(tmp_path / f"round-{number}.jsonl", rows)
        out = tmp_path / f"out-{number}"
        # Old rows once: later rounds rehearse them with what was taught since.
        start = (
            {"model": world / "model", "old_rows": world / "old.jsonl"}
            if last is None
            else {"model": None, "after": last}
        )
        suites = [world / "old.yaml"] if last is None else []
        found = teach(
            world,
            out,
            data=tmp_path / f"round-{number}.jsonl",
            suites=suites,
            max_loss=60,
            budget="90k tokens",
            **start,
        )
        record = read_json(out / "teach.json")
        assert len(record["rows"]) == number + 1
        assert len(record["old"]) == number + 1
        if found.model is None:
            break
        last = out
    assert last is not None
