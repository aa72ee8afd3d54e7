"""What a model knows of its facts: mnemos' probing beside asking each sample apart.

FACTS invented facts of one relation are asked as `mnemos know` asks by default, PROMPTS few-shot prompts each, once
greedily and SAMPLES times by sampling, in short answers. The model is a Llama of some ten million random parameters
with the patient's tokenizer: it knows nothing, so that every sample is asked on both sides and nothing is saved by
stopping early.

know-prefix           answers a second. The peer asks each sample apart, by transformers' `generate` with its cache
know-prefix-batched   the same where the peer asks PADDED prompts in one batch, each read whole: what reading shared
                      examples once is worth beyond batching
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Result, alternate, compared

FACTS = int(os.environ.get("MNEMOS_BENCH_ROWS", "12"))
PROMPTS, SAMPLES, NEW_TOKENS = 10, 16, 8
APART = 24
"""Samples that the slow peer is timed on."""
PADDED = 64
SHAPE = {
    "hidden_size": 320, "intermediate_size": 1280, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 8, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def run(repetitions: int = 2) -> Iterator[Result]:
    """Both results."""
    from mnemos.models.load import Checkpoint
    from mnemos.recipes.reproductions.invented_people import random_model

    with tempfile.TemporaryDirectory() as folder:
        model = Checkpoint(str(random_model(Path(folder) / "model", SHAPE)), torch_dtype="float32").load()
        facts, asking = asked()
        peer = Peer(model, facts, asking)
        for name, bound, size, number in (
            ("know-prefix", 4.0, 1, APART),
            ("know-prefix-batched", 1.0, PADDED, PROMPTS * len(facts)),
        ):
            sides = alternate(partial(ours, model, facts, asking), partial(peer.rate, size, number), repetitions)
            yield compared(
                name,
                sides,
                unit="answers/s",
                direction="higher is better",
                bound=bound,
                details={
                    "facts": len(facts),
                    "answers": len(facts) * PROMPTS * (1 + SAMPLES),
                    "answers that the peer was timed on": number,
                    "tokens of a prompt": peer.prompt_tokens,
                    "parameters": sum(one.numel() for one in model.model.parameters()),
                },
            )


def asked() -> tuple[Any, Any]:
    """Facts of one relation, and how they are asked."""
    from mnemos.core.nouns import Example, Turn
    from mnemos.recipes.worlds.people import people, questions
    from mnemos.synthesis.knowledge import Asking, facts_in

    asking = Asking(prompts=PROMPTS, samples=SAMPLES, max_new_tokens=NEW_TOKENS, early_stop=False, raw=True)
    found = [questions(person, 0)[0] for person in people(FACTS, 0)]
    rows = [
        Example(f"{n}", "completion", (Turn("prompt", one.text), Turn("completion", f" {one.answer}")))
        for n, one in enumerate(found)
    ]
    facts, _ = facts_in(rows, asking)
    return facts, asking


def ours(model: Any, facts: Any, asking: Any) -> float:
    """Answers a second of a whole probing."""
    from mnemos.synthesis.knowledge import probe

    started = time.perf_counter()
    found = probe(model, facts, asking)
    if found.asked != len(facts) * PROMPTS * (1 + SAMPLES):
        raise AssertionError(f"{found.asked} answers were asked for")
    return found.asked / (time.perf_counter() - started)


class Peer:
    """The same prompts through transformers alone, every prompt read whole for every sample."""

    def __init__(self, model: Any, facts: Any, asking: Any) -> None:
        from mnemos.synthesis.knowledge import prompts_for

        self.model, self.asking = model.model, asking
        self.rows = [model.renderer.prompt_ids(prompt) for prompts in prompts_for(facts, asking) for prompt in prompts]
        self.prompt_tokens = sum(map(len, self.rows)) / len(self.rows)

    def rate(self, size: int, number: int) -> float:
        """Answers a second, `size` prompts a batch."""
        started = time.perf_counter()
        for at in range(0, number, size):
            self._generate([self.rows[i % len(self.rows)] for i in range(at, min(at + size, number))])
        return number / (time.perf_counter() - started)

    def _generate(self, rows: list[list[int]]) -> None:
        import torch
        from transformers import GenerationConfig

        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        how = GenerationConfig(
            max_new_tokens=self.asking.max_new_tokens, do_sample=True, temperature=self.asking.temperature,
            top_k=self.asking.top_k, pad_token_id=0,
        )  # fmt: skip
        with torch.inference_mode():
            self.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)
