"""Runs on a cluster of two nodes, each with a core, which lose workers, a node and their driver: the same results.

Slow: a cluster takes half a minute to start, and each run several interpreters with torch.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnemos.study.engines import attempts
from tests.study.engines.nodes import PATIENCE, ROOT, Nodes, refused
from tests.study.worlds import make_study, without_timings

WHY = refused()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY is not None, reason=str(WHY))]

LONG = {"learning_rate": 1e-3, "num_train_epochs": 40, "per_device_train_batch_size": 4, "save_steps": 8}
"""Trainings that something can happen to on the way."""

KILLS, MOMENTS = 6, 60.0
"""Kills at random, each within so many seconds from the start; about half of that passes before the first step."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes() as cluster:
        cluster.add()
        yield cluster


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, nodes: Nodes) -> Path:
    """A study of two arms and two seeds, and what local execution makes of it, short and long."""
    folder = tmp_path_factory.mktemp("world")
    make_study(folder, seeds=[0, 1])
    (folder / "study.yaml").rename(folder / "short.yaml")
    make_study(folder, seeds=[0, 1], train=LONG)
    (folder / "study.yaml").rename(folder / "long.yaml")
    for name in ("short", "long"):
        code, text = nodes.mnemos("run", str(folder / f"{name}.yaml"), "--out", str(folder / f"local-{name}"))
        assert code == 0, text
    return folder


def words(world: Path, nodes: Nodes, name: str, out: str, *more: str) -> list[str]:
    engine = ["--engine", "ray", "--address", nodes.address]
    return ["run", str(world / f"{name}.yaml"), "--out", str(world / out), *engine, *more]


def results(run: Path) -> Any:
    return without_timings(json.loads((run / "results.json").read_text()))


def weights(run: Path) -> dict[str, bytes]:
    """Every trained model's bytes, by its step."""
    files = run.glob("steps/*/model/model.safetensors")
    return {path.parts[-3]: path.read_bytes() for path in files}


def same(world: Path, name: str, out: str) -> None:
    """Equal to what local execution made, to the last bit."""
    theirs, ours = weights(world / f"local-{name}"), weights(world / out)
    assert len(theirs) == 4
    assert ours == theirs
    assert results(world / out) == results(world / f"local-{name}")
    assert not (world / out / attempts.FOLDER).exists()


def until(found: Callable[[], Any], running: Callable[[], bool] = lambda: True) -> Any:
    """What `found` returns once that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := found():
            return value
        assert running()
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def at_work(run: Path, node: str | None = None) -> Callable[[], dict[str, Any] | None]:
    """What finds a worker's word about a training (on a node) that has a checkpoint and is not done."""

    def found() -> dict[str, Any] | None:
        for path in (run / attempts.FOLDER).glob("train-*.attempt"):
            word = attempts.last_word(run, path.read_text())
            step = run / "steps" / path.stem
            there = word is not None and (node is None or node in word["nodes"])
            if there and list(step.glob("checkpoints/checkpoint-*")) and not (step / "done.json").exists():
                return word
        return None

    return found


def test_local_pool_and_ray_give_the_same_bits(world: Path, nodes: Nodes) -> None:
    code, text = nodes.mnemos(*words(world, nodes, "short", "ray"))
    assert code == 0, text
    assert text.count("1 CPU, 0 GPU") == 2
    assert "[9/9]" in text
    same(world, "short", "ray")
    code, text = nodes.mnemos("run", str(world / "short.yaml"), "--out", str(world / "pool"), "--jobs", "2")
    assert code == 0, text
    same(world, "short", "pool")


def test_a_killed_worker_is_named_and_the_run_goes_on_where_it_was(world: Path, nodes: Nodes) -> None:
    run = world / "worker"
    pid = nodes.start([sys.executable, "-m", "mnemos", *words(world, nodes, "long", "worker")])
    word = until(at_work(run), lambda: nodes.alive(pid))
    nodes.kill(word["pid"])
    code, text = nodes.ended(pid)
    assert code == 1, text
    assert "its worker ended without a word (killed, or out of memory?)" in text
    code, text = nodes.mnemos(*words(world, nodes, "long", "worker"))
    assert code == 0, text
    assert "finished steps reused" in text
    same(world, "long", "worker")


def test_a_killed_driver_takes_its_workers_along_and_the_same_command_continues(world: Path, nodes: Nodes) -> None:
    run = world / "driver"
    pid = nodes.start([sys.executable, "-m", "mnemos", *words(world, nodes, "long", "driver")])
    word = until(at_work(run), lambda: nodes.alive(pid))
    nodes.kill(pid)
    until(lambda: not nodes.alive(word["pid"]))
    code, text = nodes.mnemos(*words(world, nodes, "long", "driver"))
    assert code == 0, text
    assert "finished steps reused" in text
    same(world, "long", "driver")


def test_killed_at_random_moments_it_ends_the_same(world: Path, nodes: Nodes) -> None:
    """Other moments each time: at a start, in a plan, in a training, in a measurement; the driver, or one of its
    workers. What is drawn is said where the test fails."""
    seed = random.SystemRandom().randrange(1_000_000)
    draw, run, killed = random.Random(seed), world / "random", list[str]()
    command = [sys.executable, "-m", "mnemos", *words(world, nodes, "long", "random")]
    for _ in range(KILLS):
        pid = nodes.start(command)
        moment = time.monotonic() + draw.uniform(0, MOMENTS)
        while nodes.alive(pid) and time.monotonic() < moment:
            time.sleep(0.05)
        found = (attempts.last_word(run, path.read_text()) for path in (run / attempts.FOLDER).glob("*.attempt"))
        workers = [word["pid"] for word in found if word is not None and nodes.alive(word["pid"])]
        victim = draw.choice(workers) if workers and draw.random() < 0.5 else pid
        if nodes.alive(victim):
            nodes.kill(victim)
            killed.append("driver" if victim == pid else "worker")
        nodes.ended(pid)
        until(lambda: not any(nodes.alive(one) for one in workers))  # noqa: B023 - asked at once
    assert killed, "every run was over before its moment came"
    code, text = nodes.mnemos(*words(world, nodes, "long", "random"))
    assert code == 0, f"seed {seed}, killed {killed}: {text}"
    same(world, "long", "random")


def test_an_error_of_a_step_is_the_caller_s_and_the_rest_can_be_continued(world: Path, nodes: Nodes) -> None:
    short = ["--set", "train.max_length=2", "--set", "arms={}"]
    code, text = nodes.mnemos(*words(world, nodes, "short", "raises", *short))
    assert code == 1, text
    assert "Traceback" not in text
    assert "max_length" in text or "supervised" in text
    code, text = nodes.mnemos(*words(world, nodes, "short", "raises"))
    assert code == 0, text
    same(world, "short", "raises")


def test_no_free_resources_are_said_and_waited_for(world: Path, nodes: Nodes) -> None:
    hog = (
        "import ray, sys, time\nray.init(sys.argv[1])\nf = ray.remote(num_cpus=1)(lambda s: time.sleep(s))\n"
        "refs = [f.remote(130) for _ in range(2)]\ntime.sleep(5)\nprint('all taken', flush=True)\nray.get(refs)"
    )
    taken = nodes.start([sys.executable, "-c", hog, nodes.address])
    until(lambda: "all taken" in nodes.ask("text", pid=taken)["text"], lambda: nodes.alive(taken))
    code, text = nodes.mnemos(*words(world, nodes, "short", "waits"))
    assert code == 0, text
    assert "no free resources: 2 steps have not begun, each needs 1 CPU, 0 GPU, and 0 CPU, 0 GPU are free" in text
    same(world, "short", "waits")


def test_two_processes_train_as_under_torchrun(world: Path, nodes: Nodes) -> None:
    more = ["--set", "engine.processes=2", "--set", "engine.name=ray", "--set", "arms={}", "--set", "seeds=[0]"]
    code, text = nodes.mnemos(*words(world, nodes, "short", "two", *more))
    assert code == 0, text
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29511", "-m", "mnemos"]
    quick = ["--set", "arms={}", "--set", "seeds=[0]", "--out", str(world / "torchrun")]
    code, text = nodes.call(*launch, "run", str(world / "short.yaml"), *quick)
    assert code == 0, text
    assert weights(world / "two") == weights(world / "torchrun") != {}
    assert weights(world / "two").items() != weights(world / "local-short").items()


def test_replicas_of_a_model_write_what_one_writes_also_where_they_were_killed(world: Path, nodes: Nodes) -> None:
    (world / "writes").mkdir()
    study = make_study(
        world / "writes",
        arms={"own": [{"continued": {"times": 12}}]},
        suites={"new": [], "old": ["old.yaml"]},
        train={"learning_rate": 1e-3, "max_steps": 1, "per_device_train_batch_size": 8},
    )
    small = {"MNEMOS_TEST_PIECE_ROWS": "4"}
    two = {"name": "ray", "address": nodes.address, "processes": 2}

    def command(out: str, engine: dict[str, Any] | None) -> list[str]:
        given = (str(study), str(world / out), 4, engine)
        return ["-c", f"from tests.study.writer import main; main(*{given!r})"]

    for out, engine in (("writes-one", None), ("writes-two", two)):
        code, text = nodes.call(*command(out, engine), **small)
        assert code == 0, text
    (rows,) = (world / "writes-one").glob("steps/write-*/rows.jsonl")
    place = rows.parent.relative_to(world / "writes-one")
    assert (world / "writes-two" / place / "rows.jsonl").read_bytes() == rows.read_bytes()
    shares = [(world / "writes-two" / place / name).read_bytes() for name in ("journal.jsonl", "journal-1.jsonl")]
    assert [share.count(b"\n") for share in shares] == [36, 36]
    # Two begin and are killed, one goes on: each piece is asked once, and stands where it belongs.
    pid = nodes.start([sys.executable, *command("writes-killed", two)], **small)
    other = world / "writes-killed" / place / "journal-1.jsonl"
    until(lambda: other.exists() and other.read_bytes().count(b"\n") >= 3, lambda: nodes.alive(pid))
    nodes.kill(pid)
    code, text = nodes.call(*command("writes-killed", None), **small)
    assert code == 0, text
    assert (world / "writes-killed" / place / "rows.jsonl").read_bytes() == rows.read_bytes()


def test_a_node_that_differs_is_refused(world: Path, nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nf = m.version\n"
        "m.version = lambda name: '0.0.1' if name == 'transformers' else f(name)\n"
    )
    nodes.add(PYTHONPATH=f"{tmp_path}:{ROOT}")
    try:
        code, text = nodes.mnemos("cluster", "check", "--address", nodes.address)
        assert code == 1, text
        assert text.count("\nnode ") == 3
        assert text.count("NO: is not what this run was planned on: transformers 0.0.1 there") == 1
        code, text = nodes.mnemos(*words(world, nodes, "short", "differs"))
        assert code == 1, text
        assert "is not what this run was planned on: transformers 0.0.1 there" in text
        assert not (world / "differs" / "steps").exists()
    finally:
        nodes.lose()
        until(lambda: nodes.ask("living")["count"] == 2)


def test_a_node_that_does_not_see_the_directory_is_refused(world: Path, nodes: Nodes) -> None:
    (world / "blind").mkdir()
    nodes.add_blind(world / "blind")
    try:
        code, text = nodes.mnemos("cluster", "check", "--address", nodes.address, "--out", str(world / "blind"))
        assert code == 1, text
        assert text.count(f"NO: does not see this run's directory {world / 'blind'}") == 1
        code, text = nodes.mnemos(*words(world, nodes, "short", "blind"))
        assert code == 1, text
        assert f"does not see this run's directory {world / 'blind'}" in text
        assert not (world / "blind" / "steps").exists()
    finally:
        nodes.lose()
        until(lambda: nodes.ask("living")["count"] == 2)


def test_a_lost_node_s_steps_run_elsewhere(world: Path, nodes: Nodes) -> None:
    """Last: the cluster has one node behind it."""
    run = world / "node"
    (second,) = (one for one in nodes.ask("living")["others"])
    pid = nodes.start([sys.executable, "-m", "mnemos", *words(world, nodes, "long", "node")])
    until(at_work(run, second), lambda: nodes.alive(pid))
    nodes.lose()
    code, text = nodes.ended(pid)
    assert code == 0, text
    assert "is lost; begun again" in text
    same(world, "long", "node")
