"""Checks of model-written code per second, in the sandbox with all its walls, on two cores.

The programs are those of HumanEval with their canonical solutions where $MNEMOS_DATA has them, else two
hundred small functions with tests. The peer is the rate that training on rewards is promised: 20 a second.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

from benchmarks.common import Result, compared
from mnemos.rewards import checks
from mnemos.rewards.sandbox.box import Code, Sandbox

REPETITIONS = 3
PROMISED = 20.0
DATA = Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))


def programs() -> tuple[str, list[Code]]:
    """What the programs are, and the programs."""
    file = DATA / "human_eval" / "human_eval.jsonl.gz"
    if not file.is_file():
        return "small functions", [Code(f"def f(x): return x + {i}", f"assert f(1) == {i + 1}") for i in range(200)]
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    made = [
        Code(row["canonical_solution"], f"{row['prompt']}\n{checks.PLACE}\n{row['test']}\ncheck({row['entry_point']})")
        for row in rows
    ]
    return "HumanEval", made


def run() -> list[Result]:
    """One result: checks a second, the start of the workers not counted."""
    name, made = programs()
    rates = []
    with Sandbox(workers=2) as sandbox:
        sandbox.run(made[:2])
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            found = sandbox.run(made)
            rates.append(len(made) / (time.perf_counter() - started))
        level = sandbox.level
    passed = sum(one.status == "passed" for one in found)
    details = {"programs": name, "number": len(made), "passed": passed, "workers": 2, "walls": level}
    return [
        compared(
            "sandbox-checks",
            (rates, [PROMISED] * REPETITIONS),
            unit="checks/s",
            direction="higher is better",
            bound=1.0,
            details=details,
        )
    ]
