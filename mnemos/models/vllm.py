"""A model that vLLM answers for inside this process: `handle("vllm:org/model")`.

Worth it on a GPU where a study writes many rows and nobody runs a server. vLLM is an extra of its
own (`pip install vllm`), since it pins its torch; where the two cannot share an environment, run
`vllm serve` in another one and name its address (`models.server`).

Prompts are rendered here, with the same renderer as everywhere else, and reach vLLM as token ids.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt
from mnemos.core.packages import missing
from mnemos.models.server import prompt_seed, refuse_local
from mnemos.weights.checkpoint import resolve

if TYPE_CHECKING:
    from mnemos.core.plan import ModelHandle
    from mnemos.sources.render import Renderer

PREFIX = "vllm:"
"""What such a model's name begins with in a study file."""


@dataclass(frozen=True)
class Engine:
    """A checkpoint that vLLM shall answer for; implements `core.plan.ModelHandle`."""

    checkpoint: ModelHandle

    @property
    def path(self) -> str:
        """``vllm:`` and the checkpoint's directory or hub id, as it stands in a study file."""
        return PREFIX + self.checkpoint.path

    @property
    def fingerprint(self) -> str:
        """The checkpoint's, marked: another engine may answer in other words."""
        return fingerprint({"vllm": self.checkpoint.fingerprint})

    def load(self) -> EngineModel:
        """The model on the GPU. UsageError where vLLM is not installed, ModelError where it cannot
        serve the checkpoint."""
        try:
            from vllm import LLM
        except ImportError as error:
            path = self.checkpoint.path
            otherwise = f"start `vllm serve {path}` elsewhere and name http://localhost:8000/v1#{path}"
            raise missing(f"model {self.path!r}", "vllm", why=error, otherwise=otherwise) from None
        try:
            engine = LLM(model=self._served(), seed=0)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(
                f"{self.path}: {' '.join(str(error).split())[:300]}",
                "vLLM cannot serve it here",
                "see the message above it; leave `vllm:` out to have it answered by transformers",
            ) from None
        return EngineModel(engine, engine.get_tokenizer(), self.path, self.fingerprint)

    def _served(self) -> str:
        """What vLLM loads: a GGUF file as everybody else reads it, so that tokens and template are the same."""
        path = self.checkpoint.path
        if not Path(path).is_file():
            return path
        return str(resolve(path, allow_pickle=False, trust_remote_code=False))


class EngineModel:
    """Implements core.nouns.LanguageModel on a `vllm.LLM`.

    Traps: 1. vLLM takes most of the GPU's memory until the object is dropped. 2. Its kernels depend on
    what shares a batch, so answers agree with transformers' up to ties, not bit for bit.
    """

    def __init__(self, engine: Any, tokenizer: Any, name: str, fingerprint: str) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self._name, self._fingerprint = name, fingerprint

    @property
    def name(self) -> str:
        """``vllm:`` and what it was loaded from."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """The handle's."""
        return self._fingerprint

    @cached_property
    def renderer(self) -> Renderer:
        """Turns prompts into this model's tokens, with its own chat template."""
        from mnemos.sources.render import Renderer

        return Renderer(self.tokenizer)

    def takes_tools(self, prompt: Prompt) -> bool:
        """Whether the chat template shows the prompt's tools to the model."""
        return self.renderer.takes_tools(prompt)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer a prompt, each sampled with a seed of its own as `models.server` does it. A prompt
        that leaves no room in the model's context comes back empty and unfinished."""
        refuse_local(self.name, decoding)
        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        room = [self._context - len(row) for row in rows]
        fits = [n for n, left in enumerate(room) if left > 0 and decoding.max_new_tokens > 0]
        seen: Counter[Prompt] = Counter()
        settings = []
        for n in fits:
            seed = prompt_seed(decoding.seed, prompts[n], seen[prompts[n]])
            seen[prompts[n]] += 1
            settings.append(self._sampling(decoding, seed, room[n]))
        out = [Generation("", (), False)] * len(rows)
        for n, (ids, finished) in zip(fits, self._ask([rows[n] for n in fits], settings), strict=True):
            text = self.renderer.decode(ids)
            kept = decoding.cut(text)
            out[n] = Generation(kept, tuple(ids), finished or kept != text)
        return out

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """ln p(option | context) in nats for every option of every context; NaN where one does not
        fit behind its context."""
        from mnemos.models.choose import MISSING, tokenized

        items = tokenized(self.tokenizer, self.renderer, contexts, options)
        jobs = [(item.context, option) for item in items for option in item.options]
        fits = [n for n, (context, option) in enumerate(jobs) if len(context) + len(option) <= self._context]
        scores = [MISSING] * len(jobs)
        for n, found in zip(fits, self._read([[*jobs[n][0], *jobs[n][1]] for n in fits]), strict=True):
            # found[i] is about token i + 1 of the row, so the option begins at len(context) - 1.
            own = found[len(jobs[n][0]) - 1 :]
            scores[n] = OptionScore(math.fsum(value for value, _ in own), len(own), all(best for _, best in own))
        taken = iter(scores)
        return [[next(taken) for _ in item.options] for item in items]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: summed -ln p of its tokens after BOS (EOS where there is no BOS), and how many."""
        from mnemos.models.choose import started

        found = self._read(started(self.tokenizer, texts))
        return [(-math.fsum(value for value, _ in row), len(row)) for row in found]

    @property
    def _context(self) -> int:
        longest: int = self.engine.llm_engine.model_config.max_model_len
        return longest

    def _sampling(self, decoding: Decoding, seed: int, room: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            max_tokens=min(decoding.max_new_tokens, room),
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k or -1,
            seed=seed,
            stop_token_ids=sorted(self.renderer.stop_ids),
        )

    def _ask(self, rows: Sequence[Sequence[int]], settings: Sequence[Any]) -> list[tuple[list[int], bool]]:
        """Generated ids without the stop token, and whether there was one."""
        if not rows:
            return []
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        replies = self.engine.generate(prompts, list(settings), use_tqdm=False)
        out = []
        for reply in replies:
            (answer,) = reply.outputs
            ids, finished = [int(token) for token in answer.token_ids], answer.finish_reason == "stop"
            # No stop strings are asked for, so what stopped it is its last token.
            out.append((ids[:-1] if finished else ids, finished))
        return out

    def _read(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[float, bool]]]:
        """Per row: ln p of each token but the first, and whether it was the most likely one."""
        if not rows:
            return []
        from vllm import SamplingParams

        # Of the prompt's own tokens alone; one token must be generated and is thrown away.
        settings = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        replies = self.engine.generate(prompts, settings, use_tqdm=False)
        return [
            [
                (float(at[token].logprob), at[token].rank == 1)
                for token, at in zip(list(row)[1:], reply.prompt_logprobs[1:], strict=True)
            ]
            for row, reply in zip(rows, replies, strict=True)
        ]
