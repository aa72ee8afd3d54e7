"""Independent streams together against one after the other, on a real chat model (below $MNEMOS_MODELS).

Five agents in two orders over text-to-SQL questions. Both sides begin with empty files and make the same steps, which
is checked; the model is loaded once.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, compared
from mnemos.models.load import handle
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

AGENTS = ("zero-shot", "self-stream-icl", "mem-prompt", "grow-prompt", "random-correct")
ORDERS = (0, 1)
ITEMS = 12
BOUND = 4.0


def run(items: int = ITEMS) -> Iterator[Result]:
    """Steps a second. Without $MNEMOS_MODELS/qwen there is nothing to measure."""
    folder = Path(os.environ.get("MNEMOS_MODELS", Path.home() / ".cache" / "mnemos-models")) / "qwen"
    if not folder.exists():
        print(f"stream-lockstep: no model at {folder}; see $MNEMOS_MODELS")
        return
    model = handle(str(folder)).load()
    rates, answers = {}, {}
    with Examiner(TaskSettings(name="sql", items=items)) as examiner:
        for together in (True, False):
            rates[together], answers[together] = measured(examiner, model, together)
    same = sum(a == b for a, b in zip(answers[True], answers[False], strict=True)) / len(answers[True])
    yield compared(
        "stream-lockstep",
        ([rates[True]], [rates[False]]),
        unit="steps/s",
        direction="higher is better",
        bound=BOUND,
        details={"streams": len(AGENTS) * len(ORDERS), "items": items, "share of equal answers": same},
    )


def measured(examiner: Examiner, model: object, together: bool) -> tuple[float, list[str]]:
    texts = prompts.load()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.db")
        streams = []
        for agent in AGENTS:
            for seed in ORDERS:
                journal = Journal(store, f"{agent}/{seed}", "x")
                given = {} if agent == "zero-shot" else {"k": 4}
                streams.append(
                    Stream(
                        journal.name,
                        lambda agent=agent, given=given: make(agent, texts, given),
                        permutation(list(examiner.questions), seed),
                        journal,
                        Memory(store, journal.number),
                        seed=seed,
                    )
                )
        # A model of its own for each side: answers that it keeps must not be the other side's.
        models = Models([model], max_new_tokens=examiner.max_new_tokens)  # type: ignore[list-item]
        began = time.monotonic()
        run_streams(streams, examiner.questions, examiner, models, together=together)
        seconds = time.monotonic() - began
        answers = [step.answer for stream in streams for step in stream.journal.steps()]
        store.close()
    return len(answers) / seconds, answers
