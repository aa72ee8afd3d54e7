"""A Ray cluster for tests, in a network namespace of its own where nothing but loopback is up.

Ray binds the machine's own address, and with that nothing of a test would be alone on the machine. Without another
interface it takes 127.0.0.1 by itself. `python -m tests.study.engines.nodes` runs inside the namespace: it starts a
head, and then does what it is told by lines of JSON, each answered by one. `Nodes` starts and asks it from a test.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]
ALONE = ("unshare", "-rn", "-p", "-f", "--kill-child", "--mount-proc")
"""Alone with its network and its processes, all of which end with the first: nothing of a test outlives it."""
PATIENT = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What takes seconds takes minutes on a busy machine."""
PATIENCE = 900.0
"""Seconds; a busy machine takes minutes to start what takes seconds."""


def refused() -> str | None:
    """Why no such cluster can be had here; None where it can."""
    if importlib.util.find_spec("ray") is None:
        return "ray is not installed (pip install 'mnemos[ray]')"
    try:
        subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces are refused here: {error}"
    return None


class Nodes:
    """The cluster, as a context. head: False for a namespace without one."""

    def __init__(self, *, head: bool = True, num_cpus: int = 1) -> None:
        inside = f'ip link set lo up && exec "{sys.executable}" -m tests.study.engines.nodes {int(head)} {num_cpus}'
        self.process = subprocess.Popen(
            [*ALONE, "sh", "-c", inside],
            cwd=ROOT,
            env={**os.environ, **PATIENT, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = str(self._answer()["address"])

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, "the cluster's process is gone"
            if line.startswith("ANSWER "):
                found: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return found

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def start(self, words: Sequence[str], **variables: str) -> int:
        """Start a program within the namespace: its pid."""
        return int(self.ask("start", words=list(words), variables=variables)["pid"])

    def ended(self, pid: int) -> tuple[int, str]:
        """(exit code, what it wrote to both streams) of a program, once it has ended."""
        found = self.ask("wait", pid=pid)
        return int(found["code"]), str(found["text"])

    def kill(self, pid: int) -> None:
        """End a process of the namespace at once. pid: as it is called there."""
        self.ask("kill", pid=pid)

    def alive(self, pid: int) -> bool:
        return bool(self.ask("alive", pid=pid)["alive"])

    def call(self, *words: str, **variables: str) -> tuple[int, str]:
        return self.ended(self.start([sys.executable, *words], **variables))

    def mnemos(self, *words: str, **variables: str) -> tuple[int, str]:
        return self.call("-m", "mnemos", *words, **variables)

    def add(self, **variables: str) -> str:
        """A further node of one core: its id. variables: of its own environment."""
        return str(self.ask("add", variables=variables)["id"])

    def add_blind(self, folder: Path) -> None:
        """A further node for which `folder` is empty: it has mounts of its own."""
        self.ask("blind", folder=str(folder))

    def lose(self) -> None:
        """The node that was added last is gone at once, with everything that ran on it."""
        self.ask("lose")


def ports(number: int) -> dict[str, int]:
    """Of the agents of a node, which are alone in their namespace."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {name: 21_000 + 10 * number + place for place, name in enumerate(names)}


def tell_ports() -> None:
    """Let a node be told every port of its agents. Ray tells it all but one, waits fifteen seconds for the agent to say
    that one, and then ends the node, which is too short where others work too."""
    from ray._private import services

    start = services.start_ray_process

    def started(command: list[str], process_type: str, *rest: Any, **more: Any) -> Any:
        if process_type == "raylet":
            given = re.search(r"--listen-port=(\d+)", " ".join(command))
            assert given is not None
            command = [*command, f"--dashboard_agent_listen_port={given[1]}"]
        return start(command, process_type, *rest, **more)

    services.start_ray_process = started


def processes_of(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


class _Inside:
    def __init__(self, head: bool, num_cpus: int) -> None:
        # Sockets lie there, whose paths may be 107 bytes long.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        self.programs: dict[int, tuple[subprocess.Popen[str], Path]] = {}
        self.added: list[int] = []
        self.number = 0
        self.cluster: Any = None
        if head:
            tell_ports()
            from ray._private import utils
            from ray.cluster_utils import Cluster

            size = {"num_cpus": num_cpus, "object_store_memory": 80 * 2**20, "include_dashboard": False}
            more = {"temp_dir": str(self.folder), "no_monitor": True, "include_log_monitor": False, **ports(0)}
            # Where `--address auto` looks, outside of this namespace too.
            utils.write_ray_address = lambda *_: None
            self.cluster = Cluster(initialize_head=True, head_node_args={**size, **more}, shutdown_at_exit=False)

    @property
    def address(self) -> str:
        return self.cluster.address if self.cluster else ""

    def start(self, words: list[str], variables: Mapping[str, str]) -> dict[str, Any]:
        path = self.folder / f"program-{len(self.programs)}.txt"
        with path.open("w") as out:
            process = subprocess.Popen(
                words, cwd=ROOT, env={**os.environ, **variables}, stdout=out, stderr=subprocess.STDOUT, text=True
            )
        self.programs[process.pid] = process, path
        return {"pid": process.pid}

    def wait(self, pid: int) -> dict[str, Any]:
        process, path = self.programs[pid]
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = -1
        return {"code": code, "text": path.read_text(errors="replace")}

    def add(self, variables: Mapping[str, str]) -> dict[str, Any]:
        self.number += 1
        size = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
        node = self.cluster.add_node(**size, **ports(self.number), env_vars=dict(variables))
        self.added.append(node.all_processes["raylet"][0].process.pid)
        return {"id": node.node_id}

    def blind(self, folder: str) -> dict[str, Any]:
        self.number += 1
        given = {"dashboard_agent_grpc_port" if "metrics_agent" in k else k: v for k, v in ports(self.number).items()}
        words = [sys.executable, "-m", "tests.study.engines.nodes", "join", f"--address={self.address}"]
        words += [f"--{name.replace('_', '-')}={port}" for name, port in given.items()]
        inside = f"mount -t tmpfs none {shlex.quote(folder)} && exec {shlex.join(words)}"
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", inside], stdout=subprocess.DEVNULL)
        self.added.append(process.pid)
        script = "import ray, sys; ray.init(sys.argv[1]); print('alive', sum(n['Alive'] for n in ray.nodes()))"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            done = subprocess.run(
                [sys.executable, "-c", script, self.address], capture_output=True, text=True, check=False
            )
            if "alive 2" in done.stdout:
                break
        return {}

    def lose(self) -> dict[str, Any]:
        for process in processes_of(self.added.pop()):
            process.kill()
        return {}

    def text(self, pid: int) -> dict[str, Any]:
        return {"text": self.programs[pid][1].read_text(errors="replace")}

    def living(self) -> dict[str, Any]:
        """How many nodes live, and the ids of those that are not the head."""
        alive = [one["NodeID"] for one in self.cluster.global_state.node_table() if one["Alive"]]
        return {"count": len(alive), "others": [one for one in alive if one != self.cluster.head_node.node_id]}

    def kill(self, pid: int) -> dict[str, Any]:
        psutil.Process(pid).kill()
        return {}

    def alive(self, pid: int) -> dict[str, Any]:
        return {"alive": psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE}


def join(words: list[str]) -> None:
    """`ray start` of a further node."""
    tell_ports()
    from ray.scripts.scripts import main as ray

    size = ["--num-cpus=1", f"--object-store-memory={80 * 2**20}", "--disable-usage-stats", "--block"]
    sys.argv = ["ray", "start", *size, *words]
    ray()


def main() -> None:
    if sys.argv[1] == "join":
        return join(sys.argv[2:])
    inside = _Inside(sys.argv[1] == "1", int(sys.argv[2]))
    try:
        print("ANSWER " + json.dumps({"address": inside.address}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print("ANSWER " + json.dumps(getattr(inside, asked.pop("do"))(**asked)), flush=True)
    finally:
        shutil.rmtree(inside.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
