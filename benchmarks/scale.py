"""A study of a million rows is planned, a manifest of 100,000 items made, and what 10,000 steps left is read.

There is no peer, so "peer" is a limit. Seconds are the processor's, so that other work beside it does not count;
the figures of time by the clock are in the details.

plan-million-rows    how often a row is read while the study is planned, replay's count of rows included
manifest-100k-items  seconds to load a suite of 100,000 items and make its manifest
results-10k-steps    seconds to see which of 10,000 steps are done, and to read what each left and their results.json
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.common import Result, compared

ROWS, ITEMS, STEPS = 1_000_000, 100_000, 10_000
READ_ONCE = 1.001
"""Rows read while planning for each row of the file: all once, some of the first ones again to tell their format."""
MANIFEST_SECONDS, RESULTS_SECONDS = 10.0, 1.0
LIMIT = "the limit, for want of a peer"


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield _planned(place)
        yield _manifest(place)
        yield _results(place)


def _planned(place: Path) -> Result:
    from mnemos.sources import files, read
    from mnemos.study.run import plan_lines

    rows, old = place / "rows.jsonl", place / "old.jsonl"
    for path, count in ((rows, ROWS), (old, ROWS // 5)):
        with open(path, "w", encoding="utf-8") as file:
            for n in range(count):
                file.write(json.dumps({"prompt": f"What is {n} plus one?", "completion": f"It is {n + 1}."}) + "\n")
    study = {
        "model": "mnemos:patients/chat",
        "teach": {"data": str(rows)},
        "suites": {"new": [], "old": ["refusals"]},
        "arms": {"replay": [{"replay": {"data": str(old), "share_of_final": 0.1}}], "lora": [{"lora": {}}]},
        "seeds": [0, 1, 2],
    }
    seen = {str(rows): 0, str(old): 0}
    plain = files.rows_of

    def counted(path: Path, label: str, stem: str) -> Iterator[Any]:
        for raw in plain(path, label, stem):
            seen[str(path)] += 1
            yield raw

    with patch.object(read, "rows_of", counted):
        took = _timed(lambda: plan_lines(study, out=place / "run"))
    most = max(seen[str(rows)] / ROWS, seen[str(old)] / (ROWS // 5))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    details = {**took, "peak memory, bytes": peak, "bytes of the file": rows.stat().st_size, "peer is": LIMIT}
    return compared(
        "plan-million-rows",
        ([most], [1.0]),
        unit="reads of a row",
        direction="lower is better",
        bound=READ_ONCE,
        details=details,
    )


def _manifest(place: Path) -> Result:
    from mnemos.measure.manifest import manifest
    from mnemos.measure.suite import load_suites
    from mnemos.models.load import Checkpoint
    from mnemos.study.paths import model_location

    items = place / "items.jsonl"
    with open(items, "w", encoding="utf-8") as file:
        for n in range(ITEMS):
            file.write(json.dumps({"id": str(n), "prompt": f"What is {n} plus one?", "answer": str(n + 1)}) + "\n")
    suite = {"name": "sums", "kind": "generated", "match": "exact", "max_new_tokens": 8, "data": str(items)}
    before = Checkpoint(model_location("mnemos:patients/chat", place))

    def made() -> None:
        suites = load_suites([suite], place)
        frozen = manifest(model=before, suites=suites, roles={}, seeds=[0])
        assert frozen["suites"][0]["items"] == ITEMS
        json.dumps(frozen)

    took = _timed(made)
    return compared(
        "manifest-100k-items",
        ([took["processor seconds"]], [MANIFEST_SECONDS]),
        unit="s",
        direction="lower is better",
        bound=1.0,
        details={**took, "peer is": LIMIT},
    )


@dataclass(frozen=True)
class _Finished:
    """A step that lies there."""

    key: str
    title: str
    needs: tuple[str, ...]
    every_process: bool = False
    files: Any = None

    def work(self, directory: Path, quiet: bool) -> Any:
        raise NotImplementedError


def _results(place: Path) -> Result:
    from mnemos.core.files import read_json
    from mnemos.study.engines.schedule import Schedule
    from mnemos.study.steps import result_of

    root = place / "many"
    losses = [[step, 2.0 / step] for step in range(10, 310, 10)]
    trained = {"seconds": 61.5, "steps": 300, "tokens": 600_000, "losses": losses, "counts": {"rows": 4800}}
    measured = {"suites": ["new", "refusals", "arithmetic"], "renderer": "0123456789abcdef", "seconds": 20.1}
    steps: list[_Finished] = []
    for n in range(STEPS // 2):
        steps.append(_Finished(f"train-{n:016x}", f"arm {n}: train", ()))
        steps.append(_Finished(f"measure-{n:016x}", f"arm {n}: measure", (steps[-1].key,)))
    for step in steps:
        result = trained if step.key.startswith("train") else measured
        folder = root / "steps" / step.key
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(
            json.dumps({"key": step.key, "title": step.title, "result": result}, indent=1)
        )
    runs = [{"seed": 0, "scores": {"new": {"mean": 0.5}}, "cost": trained, "losses": losses} for _ in steps[::2]]
    (root / "results.json").write_text(json.dumps({"format": 1, "arms": [{"arm": "a", "runs": runs}]}, indent=1))

    def read() -> None:
        assert Schedule(steps, root).over
        assert len([result_of(step.key, root) for step in steps]) == STEPS
        assert len(read_json(root / "results.json")["arms"][0]["runs"]) == STEPS // 2

    pairs = [_timed(read) for _ in range(3)]
    return compared(
        "results-10k-steps",
        ([one["processor seconds"] for one in pairs], [RESULTS_SECONDS]),
        unit="s",
        direction="lower is better",
        bound=1.0,
        details={"seconds": [one["seconds"] for one in pairs], "peer is": LIMIT},
    )


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    started, before = time.monotonic(), time.process_time()
    work()
    return {"seconds": time.monotonic() - started, "processor seconds": time.process_time() - before}
