"""Rows that a model writes: mnemos' batched generation beside `model.generate`, one prompt at a time.

The shipped chat patient answers the first PROMPTS questions of the shipped old rows, greedily, at most
NEW_TOKENS tokens each. The peer is what a plain script does: render the chat, call transformers'
`generate` with its key-value cache, decode, next question. Both models are loaded before the clock
starts; rendering and decoding are timed on both sides. Both compute in float32: where 16 bits are faster mnemos
would take them, and two equal logits are then decided by how rows share a batch.

rehearsal-generation   answers per second; not reported unless both sides wrote the same texts
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Result, alternate, compared

PROMPTS = 200
NEW_TOKENS = 64
REPETITIONS = 3
RECIPES = Path(__file__).parents[1] / "mnemos" / "recipes"
MODEL = RECIPES / "patients" / "chat"
ROWS = RECIPES / "data" / "old.jsonl"


def run() -> Iterator[Result]:
    """The result; RuntimeError when the sides differ in one text."""
    from mnemos.core.nouns import Decoding
    from mnemos.models.load import Checkpoint

    prompts = questions()
    model = Checkpoint(str(MODEL), torch_dtype="float32").load()
    peer_model = Peer(str(MODEL), sorted(model.stop_ids))
    text: dict[str, list[str]] = {}
    tokens: dict[str, int] = {}

    def timed(side: str, write: Callable[[], list[str]]) -> float:
        gc.collect()
        start = time.perf_counter()
        text[side] = write()
        return len(prompts) / (time.perf_counter() - start)

    def ours() -> float:
        return timed("ours", write_ours)

    def write_ours() -> list[str]:
        answers = model.generate(prompts, Decoding(max_new_tokens=NEW_TOKENS))
        tokens["written"] = sum(len(answer.ids) for answer in answers)
        return [answer.text for answer in answers]

    def peer() -> float:
        return timed("peer", lambda: [peer_model.answer(prompt) for prompt in prompts])

    model.generate(prompts[:8], Decoding(max_new_tokens=NEW_TOKENS))
    peer_model.answer(prompts[0])
    sides = alternate(ours, peer, REPETITIONS)
    agree(text["ours"], text["peer"])
    yield compared(
        "rehearsal-generation",
        sides,
        unit="answers/s",
        direction="higher is better",
        bound=5.0,
        details={
            "prompts": len(prompts),
            "tokens written": tokens["written"],
            "longest answer, tokens": NEW_TOKENS,
            "parameters": sum(p.numel() for p in model.model.parameters()),
        },
    )


def questions() -> list[Any]:
    """The contexts of the first rows, without their answers."""
    from itertools import islice

    from mnemos.core.nouns import Prompt
    from mnemos.sources.read import read

    return [Prompt(row.turns[:-1]) for row in islice(read(str(ROWS)), PROMPTS)]


def agree(ours: list[str], peer: list[str]) -> None:
    """Raise unless both sides wrote the same texts."""
    differ = [i for i, (a, b) in enumerate(zip(ours, peer, strict=True)) if a != b]
    if differ:
        i = differ[0]
        raise RuntimeError(f"{len(differ)} of {len(ours)} answers differ, first {i}: {ours[i]!r} against {peer[i]!r}")


class Peer:
    """One question at a time through transformers alone."""

    def __init__(self, path: str, stop: list[int]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        self.tokenizer = AutoTokenizer.from_pretrained(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device).eval()
        self.model.generation_config = GenerationConfig(
            max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
        )

    def answer(self, prompt: Any) -> str:
        messages = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
        given = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        out = self.model.generate(**given)[0, given["input_ids"].shape[1] :]
        text: str = self.tokenizer.decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
