"""What a step costs on a Ray cluster beside its work, and what a second node brings.

    python -m benchmarks.ray_overhead

Two nodes of one core on this machine, in a network namespace of their own (see tests/study/engines/nodes.py), through
the engine that `--engine ray` is. `ray-overhead`: seconds a step beside the work of steps that do nothing, against the
limit of 10 ms. `ray-two-nodes`: the time of eight steps that wait for SECONDS each on one node, over that on two; a
step that waits takes no core, so it says what the engine adds, and not how busy this machine is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared, save

LIMIT, STEPS, EIGHT, SECONDS, REPETITIONS = 0.010, 100, 8, 4.0, 3


@dataclass(frozen=True)
class Waits:
    """A step that waits."""

    key: str
    seconds: float
    title: str = "wait"
    needs: tuple[str, ...] = ()
    every_process: bool = False

    @property
    def files(self) -> Mapping[str, str]:
        return {}

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        from mnemos.study import steps

        # Giving memory back, a tenth of a second with torch loaded, is a part of each step on every engine.
        steps.release = lambda: None
        time.sleep(self.seconds)
        return {}


def engine_seconds(address: str, jobs: int) -> dict[str, list[float]]:
    """Seconds with `jobs` steps at a time: of STEPS that do nothing, each, and of EIGHT that wait.

    Through the loop and the workplace of the engine, without its look at every node, which comes once a run.
    """
    from benchmarks.ray_overhead import Waits as Sent  # by a name that workers can import
    from mnemos.study.engines import cluster
    from mnemos.study.engines.ray import _Tasks
    from mnemos.study.engines.schedule import Schedule, bring_to_done
    from mnemos.study.progress import Progress
    from mnemos.study.sections import EngineSettings

    settings = EngineSettings(name="ray", address=address, jobs=jobs)
    out: dict[str, list[float]] = {"nothing": [], "waits": []}
    with cluster.joined(address, cluster.passed_on(1)) as ray, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def took(kind: str, count: int, seconds: float) -> float:
            schedule = Schedule([Sent(f"{kind}-{n}", seconds) for n in range(count)], root)
            place, began = _Tasks(ray, settings, root, 1), time.monotonic()
            with Progress(schedule.todo, silent=True) as progress:
                bring_to_done(schedule, place, progress)
            return time.monotonic() - began

        # Interpreters and torch are loaded once for all that is measured, on both nodes.
        took("warm", 8, 1.0)
        for repetition in range(REPETITIONS):
            out["nothing"].append(took(f"nothing-{repetition}", STEPS, 0.0) / STEPS)
            out["waits"].append(took(f"waits-{repetition}", EIGHT, SECONDS))
    return out


def run() -> Iterator[Result]:
    """Both figures, of one cluster."""
    from tests.study.engines.nodes import Nodes, refused

    why = refused()
    if why is not None:
        raise SystemExit(f"ray_overhead: {why}")
    found: dict[int, dict[str, list[float]]] = {}
    with Nodes() as nodes:
        nodes.add()
        for jobs in (1, 2):
            code, text = nodes.call("-m", "benchmarks.ray_overhead", "--inside", nodes.address, str(jobs))
            if code:
                raise SystemExit(text)
            found[jobs] = json.loads(text.strip().splitlines()[-1])
    details = {f"{jobs} at a time": times for jobs, times in found.items()}
    # One at a time: with two, half of each step's cost hides behind the other one.
    yield compared(
        "ray-overhead", (found[1]["nothing"], [LIMIT] * REPETITIONS), unit="s", direction="lower is better", bound=1.0,
        details={"steps": STEPS, **details},
    )  # fmt: skip
    yield compared(
        "ray-two-nodes", (found[1]["waits"], found[2]["waits"]), unit="s", direction="higher is better", bound=1.7,
        details={"steps": EIGHT, "seconds of each": SECONDS},
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inside", nargs=2, metavar=("ADDRESS", "JOBS"), help="measure on a cluster that is there")
    inside = parser.parse_args().inside
    if inside:
        print(json.dumps(engine_seconds(inside[0], int(inside[1]))))
        return
    for result in run():
        save(result)
        print(f"{result.name}: {result.ratio:.2f}, bound {result.bound:g}: {result.holds}", file=sys.stderr)


if __name__ == "__main__":
    main()
