"""LocalModel: a transformers causal language model that can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from mnemos.core.errors import NotComparable
from mnemos.core.nouns import Decoding, Generation, OptionScore, PowerDecoding, Prompt, RuleDecoding
from mnemos.models import choose, decode, power, score, states
from mnemos.models.head import bare
from mnemos.models.rules import RuleAdapter
from mnemos.sources.render import Renderer

BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens that share one forward pass: enough to keep the device busy, little enough to fit."""


THOUGHT_TOKENS = 16
"""Tokens at the end of a prompt in which a thought may be opened."""


def stops_of(model: Any, renderer: Renderer) -> frozenset[int]:
    """Tokens that end an answer of `model`: those of its tokenizer and chat template, as `renderer` finds them, and
    those that its generation configuration names. A chat model may name its second end token there alone
    (`<|endoftext|>`, `<eos>`). model: of transformers, or a wrapper for adapters or several processes around one."""
    named = getattr(getattr(bare(model), "generation_config", None), "eos_token_id", None)
    more = [named] if isinstance(named, int) else list(named or ())
    return frozenset(renderer.stop_ids) | frozenset(int(token) for token in more)


class LocalModel:
    """Implements core.nouns.LanguageModel on one device, in the dtype that `model` has.

    model: a causal language model of transformers, or a peft wrapper around one. Calls are
    deterministic, keep the order of their input, and do not depend on batching beyond float
    tolerance. Nothing here changes the model's weights.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        fingerprint: str,
        device: str | torch.device | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = (model.to(device) if device is not None else model).eval()
        self.tokenizer = tokenizer
        self._name, self._fingerprint = name, fingerprint
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, 65536)

    @property
    def name(self) -> str:
        """The path or hub id that it was loaded from."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint."""
        return self._fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @cached_property
    def renderer(self) -> Renderer:
        """Turns prompts into this model's tokens, with its own chat template."""
        return Renderer(self.tokenizer, hear=getattr(bare(self.model), "speller", None))

    @property
    def hears(self) -> bool:
        """Whether a prompt may hold sounds."""
        return getattr(bare(self.model), "speller", None) is not None

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the renderer's and those of generation_config."""
        return stops_of(self.model, self.renderer)

    def takes_tools(self, prompt: Prompt) -> bool:
        """Whether the chat template shows the prompt's tools to the model."""
        return self.renderer.takes_tools(prompt)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer a prompt; see `decode.write` for how sampling is seeded.

        Trap: a prompt that fills the model's whole context cannot be answered and comes back as
        Generation("", (), finished=False); no other answer has no ids and is unfinished unless
        max_new_tokens is 0.
        """
        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        if isinstance(decoding, PowerDecoding):
            sampled = power.write(self.model, rows, self.stop_ids, decoding, self.batch_tokens)
        else:
            ended = self._ended(decoding.stop)
            rules = self._rules(decoding)
            written = decode.write(self.model, rows, self.stop_ids, decoding, self.batch_tokens, ended, rules)
            sampled = [(one, 0) for one in written]
        out = []
        for (ids, end), discarded in sampled:
            text = self.renderer.decode(ids)
            kept = decoding.cut(text)
            out.append(Generation(kept, tuple(ids), end is not None or kept != text, discarded))
        return out

    @torch.inference_mode()
    def stream(self, prompt: Prompt, decoding: Decoding, watch: Callable[[str], bool]) -> Generation:
        """One answer, shown while it is written: what `generate` gives for this prompt alone.

        watch: takes the whole text so far after each token that does not end the answer, and ends it by True; an
        answer that is ended so is unfinished. Trap: the text may end within a letter of several tokens, shown as
        U+FFFD until the rest is there. See `generate` for a prompt that fills the context.
        """
        stopped = self._ended(decoding.stop)

        def ended(ids: Sequence[int]) -> bool:
            return watch(self.renderer.decode(ids)) or (stopped is not None and stopped(ids))

        rows = [self.renderer.prompt_ids(prompt)]
        rules = self._rules(decoding)
        [(found, end)] = decode.write(self.model, rows, self.stop_ids, decoding, self.batch_tokens, ended, rules)
        text = self.renderer.decode(found)
        kept = decoding.cut(text)
        return Generation(kept, tuple(found), end is not None or kept != text)

    def _rules(self, decoding: Decoding) -> RuleAdapter | None:
        """What is added to logits, where the decoding has rules."""
        if not isinstance(decoding, RuleDecoding):
            return None
        return RuleAdapter(decoding, self.tokenizer, self.stop_ids)

    def opens_thought(self, prompt: Prompt) -> bool:
        """Whether the chat template ends a prompt within a thought (`<think>`), so that the answer begins in it."""
        text = self.renderer.decode(self.renderer.prompt_ids(prompt)[-THOUGHT_TOKENS:], special=True).rstrip()
        return text.endswith("<think>")

    def _ended(self, stop: Sequence[str]) -> decode.Ended | None:
        """Whether a text of `stop` stands in what is written, asked after every token."""
        if not stop:
            return None
        # A token that writes anything writes a byte at least: whatever is new stands in so many.
        reach = 1 + max(len(text.encode()) for text in stop)

        def ended(ids: Sequence[int]) -> bool:
            # Tokens may be spelled otherwise at the beginning of a text, so the whole decides.
            return any(
                text in self.renderer.decode(ids[-reach:]) and text in self.renderer.decode(ids) for text in stop
            )

        return ended

    @torch.inference_mode()
    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """ln p(option | context) in nats for every option of every context; see `choose`.

        An option that does not fit behind its context scores NaN: the caller counts it as
        missing.
        """
        items = choose.tokenized(self.tokenizer, self.renderer, contexts, options)
        return choose.score_options(self.model, items, self.batch_tokens)

    @torch.inference_mode()
    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: summed -ln p of all its tokens after BOS, and how many tokens; no EOS is
        added. BOS stands there whether or not the tokenizer uses it; without one the EOS token, as
        lm-evaluation-harness has it; without either, the text's first token is given and not counted."""
        return score.nats(self.model, choose.started(self.tokenizer, texts), self.batch_tokens)

    @torch.inference_mode()
    def token_nats(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Per row of this model's token ids: -ln p of each token but the first, in nats."""
        return score.token_nats(self.model, rows, self.batch_tokens)

    @torch.inference_mode()
    def hidden(self, prompts: Sequence[Prompt], layer: int | None = None) -> list[list[float] | None]:
        """Per prompt, the state behind its last token: float[H]. layer: 0 for the embeddings, the last unless given
        (behind the final norm). None for a prompt longer than the context, or a state that is not finite. Raises
        UsageError for a layer that the model does not have."""
        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        return states.behind(self.model, rows, layer, self.batch_tokens)

    @torch.inference_mode()
    def divergence(
        self, other: LocalModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
    ) -> list[tuple[float, int]]:
        """Per prompt: sum over the answer's tokens of KL(self ‖ other) over the full vocabulary,
        in nats, and the number of tokens. answers: token ids, without the stop token. See
        `score.divergence`. Raises NotComparable when the two tokenizers differ; more embedding
        rows than the tokenizer has tokens are padding and no difference."""
        tokens = self._same_tokens(other)
        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        return score.divergence(self.model, other.model, rows, answers, tokens, self.batch_tokens)

    @torch.inference_mode()
    def text_divergence(self, other: LocalModel, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: sum of KL(self ‖ other) over the tokens that `nats` predicts, in nats, and how many.
        (nan, 0) where the text exceeds a context. Raises NotComparable when the two tokenizers differ."""
        tokens = self._same_tokens(other)
        rows = choose.started(self.tokenizer, texts)
        return score.divergence(
            self.model, other.model, [ids[:1] for ids in rows], [ids[1:] for ids in rows], tokens, self.batch_tokens
        )

    @torch.inference_mode()
    def shift(
        self, other: LocalModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
    ) -> list[list[tuple[int, float]]]:
        """Per prompt, of each token of an answer that `other` wrote: its rank in this model, and KL(other || self)
        there; see `score.shift`. Raises NotComparable when the two tokenizers differ.

        Trap: prompts are rendered with the template of `other` for both. With this model's own, ranks would be those
        behind another text than the one that was answered.
        """
        tokens = self._same_tokens(other)
        rows = [other.renderer.prompt_ids(prompt) for prompt in prompts]
        return score.shift(self.model, other.model, rows, answers, tokens, self.batch_tokens)

    def _same_tokens(self, other: LocalModel) -> int:
        """How many token ids the one tokenizer of both has. NotComparable where there are two."""
        if self.tokenizer.get_vocab() != other.tokenizer.get_vocab():
            raise NotComparable(
                f"the tokenizers of {self.name} and {other.name}",
                "have different tokens, so token probabilities cannot be compared",
                "compare checkpoints of one tokenizer",
            )
        # Not the number of entries: ids may have holes.
        tokens: int = 1 + max(self.tokenizer.get_vocab().values())
        for one in (self, other):
            rows = int(one.model.get_input_embeddings().weight.shape[0])
            if rows < tokens:
                raise NotComparable(
                    f"{one.name}: {rows} embedding rows",
                    f"its tokenizer has {tokens} tokens",
                    "compare checkpoints of one tokenizer",
                )
        return tokens
