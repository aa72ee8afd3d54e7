"""Answers of a model in training, written by vLLM: TRL's engine, fed with the weights before each batch of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.packages import missing
from mnemos.models.decode import Decoded

MEMORY = 0.3
"""Share of the GPU's memory that vLLM may take beside training, TRL's own default."""

LOCAL = "local"


def gpu() -> bool:
    """Whether vLLM would find one."""
    return torch.cuda.is_available()


class VLLMSampler:
    """`train.generation_backend`: vllm shares the GPU of each process, an address is a server on other GPUs.

    Traps: 1. a seed for each answer would make all samples of a group equal, so vLLM draws from its own
    generator: a training that was killed continues, but not to the same weights. 2. its probabilities differ
    from those of training in the last digits; ratios are taken with training's on both sides, uncorrected.
    """

    def __init__(self, trainer: Any, tokenizer: Any) -> None:
        """Raises UsageError without vLLM or a GPU, ModelError where vLLM cannot begin."""
        where = trainer.plan.train.generation_backend
        if not gpu():
            raise UsageError(
                f"train.generation_backend = {where}", "needs a CUDA GPU, and there is none here", "leave it out"
            )
        from trl.generation import vllm_generation

        make: Any = vllm_generation.VLLMGeneration  # parts of it have no types
        place = {"mode": "colocate"} if where == "vllm" else {"mode": "server", "server_base_url": where}
        draw = trainer.plan.draw
        try:
            self.engine = make(
                trainer.model,
                trainer.accelerator,
                tokenizer,
                gpu_memory_utilization=MEMORY,
                max_model_length=trainer.plan.train.max_length,
                temperature=draw.temperature,
                max_completion_length=draw.max_new_tokens,
                **place,
            )
        except ImportError as error:
            # A version whose torch is not this one is an ImportError, too.
            raise missing(f"train.generation_backend = {where}", "vllm", why=error, otherwise="leave it out") from None
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(
                f"train.generation_backend = {where}", f"vLLM cannot begin: {text}", "see docs/on_policy.md"
            ) from None

    def __call__(self, prompts: Sequence[Sequence[int]], stop: frozenset[int]) -> list[Decoded]:
        """An answer to each prompt by the weights as they are; the same shape as `models.decode.write`."""
        self.engine.generation_kwargs = {"stop_token_ids": sorted(stop)}
        self.engine.sync_weights()
        # No images, and one answer a prompt: groups are written out as equal prompts already.
        _, answers, _, _ = self.engine.generate([list(row) for row in prompts], None, 1)
        return [_until(list(ids), stop) for ids in answers]


def _until(ids: list[int], stop: frozenset[int]) -> Decoded:
    """What stands before the stop token, and that token; None where the answer was cut."""
    end = next((at for at, token in enumerate(ids) if token in stop), None)
    return (ids, None) if end is None else (ids[:end], ids[end])
