"""Reproductions: the registry is sound; a walk prints verdicts, continues after a kill, and survives a failure."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json
from mnemos.recipes import reproduce
from mnemos.recipes.findings import load_findings
from mnemos.recipes.reproductions.registry import (
    Reproduction,
    find_reproduction,
    load_reproductions,
    part_path,
    study_name,
)
from mnemos.study.adaptations.settings import AdaptationStudy
from mnemos.study.config import raw_study
from mnemos.study.streams.settings import StreamStudy
from tests.study.worlds import make_study, without_timings, write_jsonl

ROOT = Path(__file__).parents[2]
REPRODUCTIONS = load_reproductions()
PARTS = [(reproduction.name, part) for reproduction in REPRODUCTIONS for part in reproduction.parts]


def loaded(part: str, registry: Path = reproduce.REGISTRY) -> Any:
    """The part's study, with a stand-in for what the reproduction makes."""
    raw, folder = raw_study(part_path(part, registry))
    filled, _ = reproduce.with_stand_in(raw, Path("/nowhere"), Path("/nowhere"))
    return reproduce.resolved_part(filled, folder)


@pytest.mark.parametrize(("reproduction", "part"), PARTS)
def test_every_study_of_a_reproduction_loads(reproduction: str, part: str) -> None:
    study = loaded(part)
    tested = {finding.study for finding in load_findings()}
    if study.name in tested:
        least = 2 if any(one.models for one in REPRODUCTIONS if one.name == reproduction) else 5
        # Streams of utterances are as many draws as there are sequences and seeds; those of agents, as orders.
        runs = len(study.orders if isinstance(study, StreamStudy) else study.seeds)
        runs *= len(study.orders) if isinstance(study, AdaptationStudy) else 1
        assert runs >= least or study.every_order, "a finding needs five seeds (two real ones) or every order"


def test_roads_prepare_by_functions_that_exist() -> None:
    for reproduction in REPRODUCTIONS:
        for function in filter(None, (reproduction.prepare, reproduction.make)):
            module, _, name = function.partition(":")
            assert callable(getattr(importlib.import_module(module), name)), reproduction.name


def test_every_finding_has_a_study_to_test_it() -> None:
    known = {study_name(part) for _, part in PARTS} | {"catalogue"}
    assert {finding.study for finding in load_findings()} <= known


def test_arms_that_a_finding_names_are_spelt_as_in_its_study() -> None:
    """An arm that is named there and not in the study is close to none that is."""
    by_study = {study_name(part): loaded(part) for _, part in PARTS}
    for finding in load_findings():
        study = by_study.get(finding.study)
        for test in finding.tests if study else ():
            names = [*study.arms, "joint", "before"]
            for name in (test.arm, test.than):
                if not fnmatch.filter(names, name):
                    assert not difflib.get_close_matches(name, names, cutoff=0.8), (finding.id, name)


def write_registry(folder: Path, reproductions: list[dict[str, Any]]) -> Path:
    path = folder / "reproductions.yaml"
    path.write_text(yaml.safe_dump(reproductions))
    return path


def entry(name: str, *parts: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "title": "T", "papers": ["arXiv:1909.03329"], "minutes": 1, "parts": list(parts), **more}


def two_parts(folder: Path) -> Path:
    """A reproduction whose second part starts from what the first one made; returns the registry."""
    train = {"learning_rate": 1e-3, "num_train_epochs": 8, "per_device_train_batch_size": 4, "save_steps": 4}
    study = yaml.safe_load(make_study(folder, arms={}, train=train, health=False).read_text())
    (folder / "study.yaml").unlink()
    second = {**study, "model": "$MNEMOS_REPRODUCTION/first/arms/plain/seed-0/model"}
    (folder / "first.yaml").write_text(yaml.safe_dump(study))
    (folder / "second.yaml").write_text(yaml.safe_dump(second))
    return write_registry(folder, [entry("two", "first.yaml", "second.yaml")])


def test_jobs_are_for_the_parts_that_have_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`reproduce --all --jobs 2` stopped at the first stream."""
    registry = two_parts(tmp_path)
    (tmp_path / "second.yaml").write_text(yaml.safe_dump({"model": "m", "stream": "sums"}))
    asked: list[dict[str, Any]] = []

    def run(path: Path, **given: Any) -> Any:
        asked.append({key: given.get(key) for key in ("engine", "jobs")})
        return SimpleNamespace(results={})

    monkeypatch.setattr("mnemos.study.run.run", run)
    (reproduction,) = load_reproductions(registry)
    reproduce.walk(reproduction, tmp_path / "out", engine="pool", jobs=2, quiet=True, registry=registry)
    assert asked == [{"engine": "pool", "jobs": 2}, {"engine": None, "jobs": None}]


def test_a_part_is_walked_alone_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = two_parts(tmp_path)
    rows = [{**row, "table": f"{__name__}:counted"} for row in yaml.safe_load(registry.read_text())]
    registry.write_text(yaml.safe_dump(rows))
    ran: list[str] = []

    def run(path: Path, **given: Any) -> Any:
        ran.append(path.stem)
        assert given["out"] == tmp_path / "out" / "two" / path.stem
        return SimpleNamespace(results={})

    monkeypatch.setattr("mnemos.study.run.run", run)
    (reproduction,) = load_reproductions(registry)
    for only in (["second"], ["second", "first"], []):
        ran.clear()
        reproduce.walk(reproduction, tmp_path / "out", quiet=True, registry=registry, only=only)
        # In the order of the registry, whatever the order of the names.
        assert ran == (sorted(only) or ["first", "second"])
        # A table is of the whole.
        assert (tmp_path / "out/two/table.txt").exists() is not bool(only)
    lines = reproduce.dry_lines(reproduction, tmp_path / "out", registry=registry, only=["second"])
    assert [line for line in lines if line.startswith("reproduction two")] == [
        "reproduction two, part 2 of 2: second.yaml"
    ]
    with pytest.raises(UsageError, match="did you mean 'second'"):
        reproduce.walk(reproduction, tmp_path / "out", quiet=True, registry=registry, only=["secnd"])


def test_a_part_needs_one_reproduction() -> None:
    for names in (["--all"], ["lamol", "chinese"]):
        done = CliRunner().invoke(app, ["reproduce", *names, "--part", "x"])
        assert isinstance(done.exception, UsageError)
        assert "--part: needs one reproduction" in str(done.exception)
    done = CliRunner().invoke(app, ["reproduce", "real-streams", "--part", "stream_wights", "--dry-run"])
    assert "did you mean 'stream_weights'" in str(done.exception)


def results_of(out: Path) -> Any:
    found = [read_json(out / "two" / part / "results.json") for part in ("first", "second")]
    return without_timings(found)


def test_a_killed_walk_continues_and_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    registry = two_parts(tmp_path)
    reproduction = find_reproduction("two", load_reproductions(registry))
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    words = ["reproduce", "two", "--registry", registry, "--out", broken, "--jobs", "1", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "mnemos.cli", *map(str, words)], cwd=ROOT)
    training = broken / "two" / "second" / "steps"
    while not list(training.glob("train-*/checkpoints/checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (broken / "two" / "first" / "results.json").exists()
    assert not (broken / "two" / "second" / "results.json").exists(), "the walk was too quick to be killed"
    for out in (broken, whole):
        assert reproduce.walk(reproduction, out, jobs=1, quiet=True, registry=registry) == []
    # The second part's model differs in its path alone, which a fingerprint leaves out.
    first, second = results_of(broken), results_of(whole)
    for results in (*first, *second):
        results["manifest"]["model"].pop("path")
    assert first == second
    assert "MNEMOS_REPRODUCTION" not in os.environ


def test_a_reproduction_says_which_real_model_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = two_parts(tmp_path)
    rows = [{**row, "models": ["qwen"]} for row in yaml.safe_load(registry.read_text())]
    registry.write_text(yaml.safe_dump(rows))
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path / "models"))
    reproduction = find_reproduction("two", load_reproductions(registry))
    absent = reproduce.walk(reproduction, tmp_path / "out", quiet=True, registry=registry)
    assert isinstance(absent, reproduce.Absent)
    assert "no qwen below" in absent.reason
    assert "MNEMOS_MODELS" in absent.reason
    assert os.environ["MNEMOS_MODELS"] == str(tmp_path / "models")


def test_a_study_names_a_real_model_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qwen").mkdir()
    raw = {"model": "$MNEMOS_MODELS/qwen", "arms": {"a": ["$MNEMOS_MODELS/gemma"]}}
    filled, missing = reproduce.with_stand_in(raw, Path("/nowhere"), tmp_path)
    assert filled == {"model": "$MNEMOS_MODELS/qwen", "arms": {"a": [reproduce.STAND_IN]}}
    assert missing == ["$MNEMOS_MODELS/gemma"]


def test_a_dry_run_plans_a_later_part_with_a_stand_in_and_says_so(tmp_path: Path) -> None:
    registry = two_parts(tmp_path)
    (reproduction,) = load_reproductions(registry)
    lines = reproduce.dry_lines(reproduction, tmp_path / "out", registry=registry)
    text = [line for line in lines if "in place of" in line]
    assert len(text) == 1
    assert "$MNEMOS_REPRODUCTION/first/arms/plain/seed-0/model" in text[0]
    assert sum("arm     plain, seed 0" in line for line in lines) == 2
    assert not list((tmp_path / "out").rglob("steps"))


def writes(data: Path, out: Path) -> None:
    """A `make` that takes a model: rows for the study."""
    rows = [{"prompt": f"Say {n}.", "completion": str(n)} for n in range(8)]
    (out / "data").mkdir(parents=True)
    write_jsonl(out / "data" / "own.jsonl", rows)


def test_a_dry_run_lets_no_model_write_and_plans_with_other_rows(tmp_path: Path) -> None:
    study = yaml.safe_load(make_study(tmp_path, arms={}, health=False).read_text())
    study["teach"] = {"data": "$MNEMOS_REPRODUCTION/data/own.jsonl"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    registry = write_registry(tmp_path, [entry("own", "study.yaml", make=f"{__name__}:writes")])
    (reproduction,) = load_reproductions(registry)
    planned = "\n".join(reproduce.dry_lines(reproduction, tmp_path / "out", registry=registry))
    assert f"planned with {reproduce.ROWS_STAND_IN} in place of $MNEMOS_REPRODUCTION/data/own.jsonl" in planned
    assert not (tmp_path / "out" / "own" / "data").exists()
    assert reproduce.prepare(reproduction, tmp_path / "out" / "own") is None
    planned = "\n".join(reproduce.dry_lines(reproduction, tmp_path / "out", registry=registry))
    assert "in place of" not in planned


def fails(data: Path, out: Path) -> None:
    """A `prepare` that breaks."""
    raise ValueError("broken reproduction")


def lacks(data: Path, out: Path) -> None:
    """A `prepare` whose data are not there."""
    (data / "absent.jsonl").read_text()


def test_all_goes_on_past_a_failure_and_absent_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    make_study(tmp_path, arms={}, name="lamol", health=False)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\n")
    registry = write_registry(
        tmp_path,
        [
            entry("broken", "a.yaml", prepare=f"{__name__}:fails"),
            entry("no-data", "b.yaml", prepare=f"{__name__}:lacks"),
            entry("good", "study.yaml"),
        ],
    )
    code = reproduce.reproduce(None, tmp_path / "out", jobs=1, quiet=True, registry=registry)
    assert code == 1
    text = capsys.readouterr().out
    end = text.split("\n\n")[-1]
    assert "broken: FAILED: ValueError: broken reproduction" in end
    assert "no-data: skipped: its data are absent: no absent.jsonl" in end
    # The findings of the study called lamol are judged; the arms that test them are not there.
    assert "good: " in end
    assert "not tested yet" in end
    assert "here   no arm " in text
    assert (tmp_path / "out" / "good" / "findings.md").is_file()
    with pytest.raises(ValueError, match="broken reproduction"):
        reproduce.reproduce(["broken"], tmp_path / "out", registry=registry)
    with pytest.raises(DataError, match="data are absent"):
        reproduce.reproduce(["no-data"], tmp_path / "out", registry=registry)


def test_a_registry_with_mistakes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{name: a}")
    (tmp_path / "b.yaml").write_text("{name: a}")
    for reproductions, error, text in (
        ([entry("x", "a.yaml"), entry("x", "b.yaml")], DataError, "x: is there twice"),
        ([entry("x", "a.yaml"), entry("y", "b.yaml")], DataError, "study a: is there twice"),
        ([entry("x", "absent.yaml")], UsageError, "does not exist"),
        ([entry("x", "a.yaml", minuets=3)], UsageError, "minuets"),
    ):
        with pytest.raises(error, match=text):
            load_reproductions(write_registry(tmp_path, reproductions))
    with pytest.raises(UsageError, match="did you mean 'chinese'"):
        find_reproduction("chinse", REPRODUCTIONS)
    assert isinstance(find_reproduction("chinese", REPRODUCTIONS), Reproduction)


def test_the_command_wants_one_of_name_list_and_all() -> None:
    command = [sys.executable, "-m", "mnemos.cli", "reproduce"]
    listed = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert all(
        reproduction.name in listed.stdout and reproduction.title in listed.stdout for reproduction in REPRODUCTIONS
    )
    neither = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert neither.returncode == 2
    assert "--list" in neither.stderr


def counted(data: Path, out: Path) -> list[str]:
    """A table of a registry's."""
    (out / "counted.txt").parent.mkdir(parents=True, exist_ok=True)
    (out / "counted.txt").write_text("3")
    return ["three", "of them"]


def unread(data: Path, out: Path) -> list[str]:
    return [(data / "nowhere.csv").read_text()]


def test_a_road_without_a_study_prints_and_keeps_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [entry("table", table=f"{__name__}:counted"), entry("no-table-data", table=f"{__name__}:unread")]
    registry = write_registry(tmp_path, rows)
    table, absent = load_reproductions(registry)
    assert any("counted" in line for line in reproduce.dry_lines(table, tmp_path / "out", registry=registry))
    assert not (tmp_path / "out/table/counted.txt").exists()
    assert reproduce.reproduce(["table"], tmp_path / "out", quiet=True, registry=registry) == 0
    assert capsys.readouterr().out.count("three\nof them\n") == 1
    assert (tmp_path / "out/table/table.txt").read_text() == "three\nof them\n"
    assert isinstance(reproduce.walk(absent, tmp_path / "out", quiet=True, registry=registry), reproduce.Absent)
    with pytest.raises(UsageError, match="neither parts nor a table"):
        load_reproductions(write_registry(tmp_path, [entry("nothing")]))
