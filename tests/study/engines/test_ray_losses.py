"""What the engine makes of what a cluster says: a cluster of a script, with Ray's own errors."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, MnemosError, RunError, UsageError
from mnemos.study.engines import attempts, cluster, remote
from mnemos.study.engines import ray as engine
from mnemos.study.engines.cluster import Node
from mnemos.study.engines.failures import StepsFailedError
from mnemos.study.engines.schedule import Schedule, bring_to_done
from mnemos.study.progress import Progress
from mnemos.study.sections import EngineSettings
from tests.study.engines.test_schedule import Stub

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'mnemos[ray]')")


IDS = {"n1": "11" * 28, "n2": "22" * 28}


class Scripted:
    """A cluster of two nodes: `outcomes` are what tasks come to, in the order in which they are submitted; None: none
    yet. A ping is answered by a node that lives."""

    exceptions = ray.exceptions

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.refs: dict[str, Any] = {}
        self.options: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.gone: set[str] = set()
        self.free = {"CPU": 0.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": number, "Alive": name not in self.gone, "NodeManagerAddress": name, "Resources": {"CPU": 1.0}}
            for name, number in IDS.items()
        ]

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        def made(function: Any) -> Any:
            class Task:
                @staticmethod
                def remote(*arguments: Any) -> str:
                    ref = f"ref-{len(self.refs)}"
                    if function is remote.ping:
                        self.refs[ref] = True
                        return ref
                    outcome = self.outcomes.pop(0)
                    if isinstance(outcome, ray.exceptions.ObjectStoreFullError):
                        raise outcome
                    self.options.append(options)
                    self.refs[ref] = outcome(arguments[0]) if callable(outcome) else outcome
                    return ref

            return Task

        return made

    def wait(self, refs: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        done = [ref for ref in refs if self.refs[ref] is not None][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: str) -> Any:
        if isinstance(self.refs[ref], BaseException):
            raise self.refs[ref]
        return self.refs[ref]

    def cancel(self, ref: str, force: bool) -> None:
        assert force
        self.cancelled.append(ref)

    def available_resources(self) -> dict[str, float]:
        return self.free


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "here", dict)
    monkeypatch.setattr(engine, "LOOK_EVERY", -1.0)  # nodes are asked for anew each time


def place(script: Scripted, root: Path, **settings: Any) -> Any:
    return engine._Tasks(script, EngineSettings(name="ray", **settings), root, 1)


def carried(script: Scripted, root: Path, steps: list[Stub], **settings: Any) -> list[str]:
    """The lines that are shown."""
    lines: list[str] = []
    schedule = Schedule(steps, root)
    with Progress(schedule.todo, silent=True) as progress:
        progress.note = lines.append  # type: ignore[method-assign]
        bring_to_done(schedule, place(script, root, **settings), progress, keep_going=settings.get("keep_going", False))
    return lines


def on(node: str, outcome: Any) -> Callable[[Any], Any]:
    """The outcome of a task whose worker said that it is on `node`."""

    def tried(order: remote.Order) -> Any:
        word = {"nodes": [IDS[node]], "pid": 1, "status": {}}
        (Path(order.root) / attempts.FOLDER / f"{order.attempt}.json").write_text(json.dumps(word))
        return outcome

    return tried


def lost(script: Scripted, node: str) -> Callable[[Any], Any]:
    """The outcome of a task whose node ends."""

    def tried(order: remote.Order) -> Any:
        script.gone.add(node)
        return on(node, ray.exceptions.WorkerCrashedError())(order)

    return tried


def test_lines_are_shown_and_ray_is_told_to_spread_and_never_to_retry(tmp_path: Path) -> None:
    script = Scripted(["first"], ["second"])
    steps = [Stub("a-1"), Stub("a-2", ("a-1",))]
    assert carried(script, tmp_path, steps, num_gpus=0, num_cpus=0.5) == ["first", "second"]
    assert script.options[0] == {
        "num_cpus": 0.5,
        "num_gpus": 0.0,
        "max_retries": 0,
        "retry_exceptions": False,
        "scheduling_strategy": "SPREAD",
    }


def test_behind_a_step_that_fails_the_others_are_done_and_behind_a_dead_worker_none(tmp_path: Path) -> None:
    failure = ray.exceptions.RayTaskError("one", "Traceback …", DataError("rows", "cannot be read"))
    steps = [Stub("a-1"), Stub("a-2", ("a-1",)), Stub("b-1"), Stub("b-2", ("b-1",))]
    with pytest.raises(StepsFailedError, match=r"1 of 4 steps failed, and 1 more needed them: a stub: rows: cannot"):
        carried(Scripted(failure, [], []), tmp_path, steps, keep_going=True)
    with pytest.raises(RunError, match="its worker ended without a word"):
        carried(Scripted(on("n1", ray.exceptions.OutOfMemoryError("full")), []), tmp_path, steps, keep_going=True)


def test_a_step_of_a_lost_node_is_begun_again(tmp_path: Path) -> None:
    script = Scripted()
    script.outcomes = [lost(script, "n2"), []]
    assert carried(script, tmp_path, [Stub("a-1")]) == ["a stub: its node n2 is lost; begun again"]


def test_a_step_that_no_worker_spoke_of_is_lost_with_a_node_that_is_gone_since(tmp_path: Path) -> None:
    script = Scripted()

    def tried(order: remote.Order) -> Any:
        script.gone.add("n1")
        return ray.exceptions.NodeDiedError("gone")

    tasks = place(script, tmp_path)
    script.outcomes = [[], tried, []]
    tasks.begin(Stub("a-0"))  # asks for the nodes
    list(tasks.heard())
    tasks.begin(Stub("a-1"))
    assert ("a-1", "a stub: its node n1 is lost; begun again") in list(tasks.heard())


def test_it_is_not_begun_again_for_ever(tmp_path: Path) -> None:
    script = Scripted()
    script.outcomes = [lost(script, "n2"), lost(script, "n2"), lost(script, "n2")]
    with pytest.raises(RunError, match=r"lost with its node 3 times, the last one n2, and engine.max_retries is 2"):
        carried(script, tmp_path, [Stub("a-1")], max_retries=2)


def test_a_worker_that_died_alone_is_not_begun_again(tmp_path: Path) -> None:
    script = Scripted(on("n1", ray.exceptions.WorkerCrashedError()), [])
    with pytest.raises(RunError, match=r"ended without a word \(killed, or out of memory\?\)"):
        carried(script, tmp_path, [Stub("a-1")])
    assert len(script.outcomes) == 1


def test_nor_is_one_that_ray_ended_for_want_of_memory(tmp_path: Path) -> None:
    script = Scripted()
    script.outcomes = [on("n1", ray.exceptions.OutOfMemoryError("memory")), []]
    with pytest.raises(RunError, match="out of memory"):
        carried(script, tmp_path, [Stub("a-1")])


def test_an_error_of_a_step_is_raised_as_itself(tmp_path: Path) -> None:
    cause = UsageError("max_length = 2", "is too short", "raise it")
    error = ray.exceptions.RayTaskError("f", "Traceback", cause, pid=1, ip="n1").as_instanceof_cause()
    with pytest.raises(UsageError) as caught:
        carried(Scripted(error), tmp_path, [Stub("a-1")])
    assert type(caught.value) is UsageError
    assert str(caught.value) == "max_length = 2: is too short\n  raise it"


@pytest.mark.parametrize("late", [False, True])
def test_a_full_object_store_is_named(late: bool, tmp_path: Path) -> None:
    full = ray.exceptions.OutOfDiskError("full") if late else ray.exceptions.ObjectStoreFullError("full")
    with pytest.raises(RunError, match="object store, or the disk that it spills to, is full"):
        carried(Scripted(full), tmp_path, [Stub("a-1")])


def test_no_free_resources_are_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(None, None)
    tasks = place(script, tmp_path)
    tasks.begin(Stub("a-1"))
    tasks.begin(Stub("a-2"))
    assert not list(tasks.heard())
    monkeypatch.setattr(engine, "UNPLACED", -1.0)
    ((_, line),) = tasks.heard()
    words = "no free resources: 2 steps have not begun, each needs 1 CPU, 0 GPU, and 0 CPU, 0 GPU are free"
    assert line.startswith(words)
    monkeypatch.setattr(engine, "UNPLACED", 60.0)
    tasks.unplaced_after = float("inf")
    assert not list(tasks.heard())
    tasks.end()
    assert sorted(script.cancelled) == ["ref-0", "ref-1"]
    assert attempts.current(tmp_path, "a-1") == "none"


def test_room_is_what_living_nodes_have_or_what_jobs_say(tmp_path: Path) -> None:
    script = Scripted(None)
    tasks = place(script, tmp_path)
    assert tasks.room() == 2
    assert place(script, tmp_path, num_cpus=0.5).room() == 4
    assert place(script, tmp_path, jobs=7).room() == 7
    tasks.begin(Stub("a-1"))
    assert tasks.room() == 1
    script.gone = {"n1"}
    assert tasks.room() == 0
    # Nothing would ever begin otherwise: it waits for a node to come back, and that is said.
    script.gone = {"n1", "n2"}
    assert place(script, tmp_path).room() == 1


def test_places_of_a_node() -> None:
    node = Node("a", "10.0.0.1", {"CPU": 8.0, "GPU": 2.0})
    assert [node.places(1, 0), node.places(3, 0), node.places(1, 1), node.places(0.1, 0.1)] == [8, 2, 2, 20]
    assert Node("a", "10.0.0.1", {}).places(1, 0) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_cpus": 2}, r"a step of 2 CPU and 0 GPU: fits on no node of the cluster \(n1: 1 CPU, 0 GPU; n2"),
        ({"num_gpus": 1}, "a step of 1 CPU and 1 GPU: fits on no node"),
        ({"processes": 3}, "3 processes of 1 CPU and 0 GPU: fits 2 times on the cluster"),
    ],
)
def test_what_fits_nowhere_is_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        engine.checked_nodes(Scripted(), EngineSettings(**settings), tmp_path, ())


def answer(**changes: Any) -> dict[str, Any]:
    return {"here": {"torch": "2", "device": "cpu", "commit": None}, "root": True, "missing": [], **changes}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("ModuleNotFoundError: No module named 'mnemos'", "cannot work on this run: ModuleNotFoundError"),
        (answer(root=False), "does not see this run's directory /runs/x"),
        (answer(here={"torch": "3", "device": "cpu", "commit": "b"}), "torch 3 there, 2 here"),
        (answer(here={"torch": "2", "device": "H200", "commit": "a"}), "device H200 there, cpu here.*num_gpus"),
        (answer(here={"torch": "2", "device": "cpu", "peft": "1", "commit": "a"}), "peft 1 there, None here"),
        (answer(missing=["/data/rows.jsonl"]), "does not see /data/rows.jsonl"),
        (answer(), None),
    ],
)
def test_what_keeps_a_node_from_working_is_named(found: Any, words: str | None) -> None:
    expected = {"torch": "2", "device": "cpu", "commit": "a"}
    error = cluster.trouble(Node("a", "10.0.0.1", {}), found, expected, Path("/runs/x"))
    if words is None:
        assert error is None
    else:
        with pytest.raises(MnemosError, match=f"(?s)node 10.0.0.1: .*{words}"):
            raise error


def test_a_cluster_is_never_started_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def none(address: str) -> str:
        raise ConnectionError

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", none)
    for address in (None, "auto"):
        with pytest.raises(UsageError, match=r"(?s)no Ray cluster runs on this machine.*ray start --head"):
            cluster.reached(address)
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", "10.0.0.1:", "10.0.0.1:99999", ":6379"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=f"--address {address}"):
        cluster.reached(address)


def test_an_address_that_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        with pytest.raises(RunError, match=f"--address {address}: nobody answers there"):
            cluster.reached(address)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda _: address)
        with pytest.raises(RunError, match=f"the cluster at {address}, which Ray last noted on this machine: nobody"):
            cluster.reached(None)


@pytest.mark.parametrize("reply", [b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_what_answers_and_is_no_head_is_named(reply: bytes) -> None:
    """Ray itself would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            if reply.startswith(b"\x00"):
                assert cluster.reached(address) == address
            else:
                with pytest.raises(RunError, match="something answers there that is no head of Ray"):
                    cluster.reached(address)
        finally:
            thread.join()


def test_secrets_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("MNEMOS_DATA", "/data")
    found = cluster.passed_on(3)
    assert "HF_TOKEN" not in found
    assert (found["MNEMOS_DATA"], found["OMP_NUM_THREADS"]) == ("/data", "3")
