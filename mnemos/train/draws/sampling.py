"""What all draws share in which the model in training writes the answers itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Decoding, Example, Prompt, Tokens
from mnemos.core.plan import Plan
from mnemos.core.rollouts import Rollouts
from mnemos.core.settings import TrainSettings
from mnemos.models import decode
from mnemos.models.head import bare
from mnemos.models.language import BATCH_TOKENS, stops_of
from mnemos.sources.sound_marks import as_array
from mnemos.train.draws.vllm import LOCAL, VLLMSampler
from mnemos.train.gathered import gathered
from mnemos.train.rows import refuse_token_weights
from mnemos.train.schedule import Schedule


def refuse(plan: Plan) -> None:
    """UsageError for what answers that are not written yet cannot have."""
    why = "weighs tokens of the data, and the model writes its own"
    refuse_token_weights(plan, "{} on answers that the model draws", why, "answers that are not written yet")


def silent(ids: list[int], example: Example) -> Tokens:
    """A prompt: nothing of it is learned."""
    size = len(ids)
    return Tokens(as_array(ids), np.zeros(size, np.float32), np.zeros(size, bool), example.id, example.origin)


def answered(prompt: Tokens, answer: list[int], weight: float = 1.0) -> Tokens:
    """The prompt with an answer behind it, each token of which has `weight`."""
    new = np.arange(len(prompt) + len(answer)) >= len(prompt)
    ids = np.concatenate([prompt.ids, np.array(answer, np.int32)])
    return Tokens(ids, new.astype(np.float32) * np.float32(weight), new, prompt.example, prompt.origin)


class RolloutOrder(Sampler[list[int]]):
    """Rows of each micro-batch of one process, all of a rollout batch's in its first; the others are empty,
    since answers are cut into micro-batches only when they are there."""

    def __init__(self, inner: Schedule, repeats: int, process: int, processes: int) -> None:
        self.inner, self.repeats, self.process, self.processes = inner, repeats, process, processes

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iteration gives."""
        self.inner.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for chunk in self.inner:
            # Every process goes through the same chunks: no prompt is answered twice and none is left out.
            yield chunk[self.process :: self.processes]
            for _ in range(self.repeats - 1):
                yield []

    def __len__(self) -> int:
        return len(self.inner) * self.repeats


def prompts_a_batch(draw: Rollouts, train: TrainSettings) -> int:
    """Prompts of one rollout batch over all processes. Raises UsageError, naming the nearest valid batch."""
    batch, times = train.per_device_train_batch_size, train.gradient_accumulation_steps
    if batch * times % draw.num_generations == 0:
        return batch * times // draw.num_generations
    # batch * times is a multiple of the group exactly where batch is one of group / gcd(group, times).
    unit = draw.num_generations // math.gcd(draw.num_generations, times)
    raise UsageError(
        f"train.per_device_train_batch_size = {batch} ({batch * times} answers a step with accumulation)",
        f"must give whole groups of {draw.num_generations} samples",
        f"the nearest valid value is {max(1, round(batch / unit)) * unit}",
    )


class RolloutSampler:
    """Answers by the model in training as it is now.

    tokens, generated: of prompts and answers, and of answers alone, over all steps of this process.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        # Attention over joined rows is for training; answers are written with what the model came with.
        self.attention = bare(trainer.model).config._attn_implementation
        self._refuse_pieces()
        self.tokens, self.generated = 0, 0
        self.vllm: VLLMSampler | None = None

    def _refuse_pieces(self) -> None:
        """UsageError where parameters are in pieces that cannot be made whole for writing."""
        from torch.distributed.fsdp import FSDPModule

        trainer = self.trainer
        if trainer.is_deepspeed_enabled:
            raise UsageError(
                "train.deepspeed",
                "cuts parameters up, and answers are written by the whole model",
                "use FSDP2 (train.fsdp: true), or one process per whole model (plain torchrun)",
            )
        if not trainer.is_fsdp_enabled:
            return
        if not trainer.accelerator.is_fsdp2:
            raise UsageError(
                "train.fsdp_config.version = 1",
                "cuts parameters up for good, and answers are written by the whole model",
                "train.fsdp_config: {version: 2} (accelerate launch --fsdp_version 2)",
            )
        if not hasattr(FSDPModule, "reset_iter_state"):
            raise UsageError(
                f"torch {torch.__version__}",
                "cannot forget a forward pass of some processes alone, and with FSDP each writes its own answers",
                "install torch 2.13 or later, or train on one process per whole model (plain torchrun)",
            )
        if trainer.plan.train.generation_backend != LOCAL:
            raise UsageError(
                f"train.generation_backend = {trainer.plan.train.generation_backend}",
                "is given whole parameters, which FSDP cuts up",
                "leave it out, or train on one process per whole model (plain torchrun)",
            )

    def __call__(self, prompts: list[list[int]]) -> list[decode.Decoded]:
        """An answer to each prompt; written locally, the same for any number of processes."""
        trainer = self.trainer
        assert trainer.stage is not None
        # As a suite asks: an answer that runs on behind its end here would be rewarded, and learned, for what no
        # reader of the trained model will see.
        draw, stop = trainer.plan.draw, stops_of(trainer.model, trainer.stage.renderer)
        if trainer.plan.train.generation_backend != LOCAL:
            if self.vllm is None:
                self.vllm = VLLMSampler(trainer, trainer.stage.renderer.tokenizer)
            return self.vllm(prompts, stop)
        # Of seed and step alone, so that a continued training draws what an unbroken one would.
        seed = int(np.random.SeedSequence([trainer.plan.seed, trainer.state.global_step]).generate_state(1)[0])
        decoding = Decoding(draw.max_new_tokens, draw.temperature, seed=seed)
        room = BATCH_TOKENS.get(trainer.args.device.type, 65536)
        with self._asking(), gathered(trainer.model), trainer.accelerator.autocast():
            return decode.write(trainer.model, prompts, stop, decoding, room)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The model with the attention that it came with, without gradient and dropout."""
        model = self.trainer.model
        inner, joined, training = bare(model), bare(model).config._attn_implementation, model.training
        inner.set_attn_implementation(self.attention)
        model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            model.train(training)
            inner.set_attn_implementation(joined)

    def read(self) -> tuple[int, int]:
        """tokens and generated, over all processes."""
        trainer = self.trainer
        both = torch.tensor([self.tokens, self.generated], device=trainer.args.device)
        total = trainer.accelerator.reduce(both, "sum").tolist() if trainer.args.world_size > 1 else both.tolist()
        return int(total[0]), int(total[1])


def question(example: Example) -> Prompt | None:
    """What an answer is drawn to: the turns before the last answer, or all where the last is none."""
    *before, last = example.turns
    if last.role in ("user", "prompt", "tool"):
        return Prompt(tuple(example.turns), example.variables)
    if not before or last.role not in ("assistant", "completion") or not last.learn:
        return None
    return example.prompt
