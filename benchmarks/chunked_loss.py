"""The loss of a large vocabulary: logits made in chunks beside whole logits, in seconds and in memory.

A Qwen-like model (151,936 tokens, width 896, tied embeddings, random weights) with one layer, so that the output
layer is nearly all of the work, takes one training step on 2,048 supervised tokens: loss, gradients, nothing else.
Both sides are mnemos' own and give the same loss. Each step runs in a fresh process; memory is the highest of
resident memory during the step less what was resident before it, that is, everything beside the weights (the
gradients, 0.55 GB for the embedding alone, are part of both). Seconds are of one thread's processor time without a
GPU: other work on the machine disturbs them less than the wall clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared

VOCABULARY, WIDTH, TOKENS, ROWS, REPETITIONS = 151_936, 896, 2048, 4, 3
SECONDS, MEMORY = 1.02, 0.25


def run() -> Iterator[Result]:
    """Seconds and memory."""
    steps = [(_measured("chunks"), _measured("whole")) for _ in range(REPETITIONS)]
    losses = sorted({round(one["loss"], 4) for pair in steps for one in pair})
    shape = {"vocabulary": VOCABULARY, "width": WIDTH, "supervised tokens": TOKENS, "losses": losses}
    for name, key, unit, bound in (
        ("chunked-loss-seconds", "seconds", "s", SECONDS),
        ("chunked-loss-memory", "bytes", "MB", MEMORY),
    ):
        scale = 1e6 if unit == "MB" else 1.0
        sides = [ours[key] / scale for ours, _ in steps], [peer[key] / scale for _, peer in steps]
        yield compared(name, sides, unit=unit, direction="lower is better", bound=bound, details=shape)


def _measured(side: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.chunked_loss", side]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _step(side: str) -> dict[str, float]:
    """One step in this process."""
    import torch

    from benchmarks.method_step_cost import clock
    from mnemos.core.plan import Likelihood, References, StepView
    from mnemos.train.documents import Way, micro_batch, outputs
    from mnemos.train.memory import Peak
    from mnemos.train.trainer import loss_of

    now = clock()
    model = _model()
    way = Way(joined=False, picks=False, chunks=side == "chunks")
    batch = micro_batch(_batch(), way)
    # Kernels and the trial of the output layer, once for all steps of a training.
    _warm(model, way)
    model.zero_grad()
    peak = Peak("before")
    peak.phase("step")
    start = now()

    def nothing(*_: Any) -> Any:
        raise AssertionError("the likelihood asks for no other model")

    view = StepView(
        model=model,
        outputs=outputs(model, batch, way),
        targets=batch.targets,
        weight=batch.weight,
        rehearsed=torch.zeros(len(batch.targets), dtype=torch.bool),
        normaliser=float(len(batch.targets)),
        share=1.0,
        references=References(nothing, nothing, nothing, nothing),
    )
    loss = loss_of([Likelihood()], view)
    loss.backward()
    seconds, phases = now() - start, peak.phases()
    return {"loss": loss.item(), "seconds": seconds, "bytes": phases["step"] - phases["before"]}


def _model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4864,
        num_hidden_layers=1,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).train()


def _batch() -> dict[str, Any]:
    import numpy as np

    from mnemos.core.nouns import Tokens
    from mnemos.train.schedule import join

    made = np.random.default_rng(0)
    # One token more than is supervised: nothing predicts a row's first one.
    length = TOKENS // ROWS + 1
    ones = np.ones(length, np.float32)
    rows = [Tokens(made.integers(0, VOCABULARY, length).astype(np.int32), ones, ones > 0, "x") for _ in range(ROWS)]
    return join([(row,) for row in rows])


def _warm(model: Any, way: Any) -> None:
    import torch

    from mnemos.models.head import head_of

    if way.chunks:
        head_of(model)
    model(input_ids=torch.arange(8)[None]).logits.sum().backward()


if __name__ == "__main__":
    print(json.dumps(_step(sys.argv[1])))
