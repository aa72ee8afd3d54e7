"""What a step of a stream costs beside its model: memory, grading in another process, journal.

The model answers at once by a rule, so that all time is ours. There is no peer: "peer" is the limit that we set
ourselves, 5 ms a step, 500 MB for a stream of 10,000 steps, and a step's cost there of at most twice that of a stream
of a thousand. Seconds are the processor's, of this process alone: a busy machine changes them little.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, compared
from mnemos.core.nouns import Decoding, Generation, Prompt
from mnemos.stream import prompts
from mnemos.stream.agents import make
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Journal
from mnemos.stream.loop import Stream
from mnemos.stream.loop import run as run_streams
from mnemos.stream.memory import Memory
from mnemos.stream.models import Models
from mnemos.stream.orders import permutation
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings

LIMIT = 0.005
STEPS = (1_000, 10_000)
MEGABYTES = 500.0
GROWTH = 2.0


class Instant:
    """Answers at once."""

    name = fingerprint = "instant"

    def generate(self, asked: list[Prompt], decoding: Decoding) -> list[Generation]:
        return [Generation("red", (), True) for _ in asked]


def run() -> Iterator[Result]:
    """Seconds a step of self-stream-icl with word search, half of the answers right; its growth with length; and all
    memory of the process, the interpreter's included."""
    found = {steps: seconds(steps) for steps in STEPS}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    details = {"seconds a step by length": found, "resident MB": memory}
    longest = found[STEPS[-1]]
    for name, ours, peer, unit in (
        ("stream-overhead", longest, LIMIT, "s"),
        ("stream-growth", longest, GROWTH * found[STEPS[0]], "s"),
        ("stream-memory", memory, MEGABYTES, "MB"),
    ):
        sides = ([ours], [peer])
        yield compared(name, sides, unit=unit, direction="lower is better", bound=1.0, details=details)


def seconds(steps: int) -> float:
    texts = prompts.load()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        lines = (
            json.dumps(
                {
                    "id": f"q{i}",
                    "question": f"colour of town {i} in country {i % 97}?",
                    "answer": ("red", "blue")[i % 2],
                }
            )
            for i in range(steps + 16)
        )
        rows.write_text("\n".join(lines), encoding="utf-8")
        with Examiner(TaskSettings(data=str(rows), items=steps)) as examiner:
            store = Store(Path(folder) / "s.db")
            journal = Journal(store, "s", "x")
            stream = Stream(
                "s",
                lambda: make("self-stream-icl", texts, {}),
                permutation(list(examiner.questions), 0),
                journal,
                Memory(store, journal.number),
            )
            models = Models([Instant()], max_new_tokens=8)  # type: ignore[list-item]
            began = time.process_time()
            run_streams([stream], examiner.questions, examiner, models)
            return (time.process_time() - began) / steps
