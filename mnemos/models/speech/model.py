"""A language model that listens: an encoder's states, through a bridge, among the embeddings of any causal model.

Rows are token ids as everywhere; ids of sounds (`spelling`) are looked up in what the bridge makes of the sound, all
others in the language model's own embedding. Rows without sounds take the very path of the language model alone.
The model's configuration, output layer, caches and attention are the language model's, so that whatever runs a causal
language model runs this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mnemos.models.speech.features import Features
from mnemos.models.speech.spelling import Speller, Window, codes, window_of
from mnemos.sources.sound_marks import FIRST_SOUND

BRIDGE, LANGUAGE = "bridge.", "language."
"""What names of parameters begin with."""


class SpeechLanguageModel(PreTrainedModel):  # type: ignore[misc]
    """language: a causal language model of transformers. bridge: a network of `bridges`, None of a cascade, which is
    the language model alone and reads a recogniser's words. features: what the frozen encoder says of sounds; it is no
    module of this one, is never trained and is loaded when a sound that was never heard comes. speller: what is read
    for a sound.

    Unless told otherwise only the bridge may move (`moves_by_default`).
    """

    main_input_name = "input_ids"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, language: Any, bridge: nn.Module | None, features: Features | None, speller: Speller) -> None:
        # The language model's own configuration: what asks a model for its window, cache or attention asks it there.
        super().__init__(language.config)
        self.language, self.bridge = language, bridge
        self.features, self.speller = features, speller
        self.generation_config = language.generation_config
        self.language_as_loaded = True
        self.stored: frozenset[str] = frozenset()
        self.sounds: torch.Tensor | None = None
        """bool[B, T]: where the latest forward pass had sounds, for adapters that count there alone. It stays after
        the pass, because layers that are computed again in the backward pass ask once more."""
        self._latest: list[tuple[Sequence[Window], torch.Tensor]] | None = None

    @classmethod
    def can_generate(cls) -> bool:
        """No by itself: the language model does (`generate`)."""
        return False

    # Which of the language model's abilities this one has.

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether its layers can be computed again in the backward pass."""
        return bool(self.language.supports_gradient_checkpointing)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The language model's."""
        self.language.activation_checkpointing_enable(*args, **kwargs)

    def activation_checkpointing_disable(self) -> None:
        """The language model's."""
        self.language.activation_checkpointing_disable()

    def _can_set_attn_implementation(self) -> bool:
        return bool(self.language._can_set_attn_implementation())

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """The language model's; configuration and all."""
        self.language.set_attn_implementation(*args, **kwargs)

    def get_input_embeddings(self) -> Any:
        """The language model's embedding of text."""
        return self.language.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        """Replace it."""
        self.language.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        """The language model's output layer."""
        return self.language.get_output_embeddings()

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        """The language model's."""
        return self.language.prepare_inputs_for_generation(*args, **kwargs)

    def generate(self, inputs: torch.Tensor, **kwargs: Any) -> Any:
        """The language model's. Trap: of rows with sounds what is returned holds the answer alone, as it does
        wherever transformers is given embeddings."""
        if not has_sounds(inputs):
            return self.language.generate(inputs, **kwargs)
        return self.language.generate(inputs_embeds=self.embedded(inputs), **kwargs)

    # What hears.

    def moves_by_default(self, name: str) -> bool:
        """Whether a parameter moves where nobody says what may: the bridge does, the language model and the encoder
        do not. A cascade has no bridge, so its language model moves as any other."""
        return self.bridge is None or name.startswith(BRIDGE)

    def forward(
        self, input_ids: torch.Tensor | None = None, inputs_embeds: torch.Tensor | None = None, **inputs: Any
    ) -> Any:
        """As the language model's. input_ids: int64[B, T], of text and of sounds."""
        if input_ids is not None:
            self.sounds = input_ids >= FIRST_SOUND
        if inputs_embeds is None and input_ids is not None:
            if input_ids.is_meta:
                inputs_embeds = self._without_numbers(input_ids)
            elif has_sounds(input_ids):
                inputs_embeds = self.embedded(input_ids)
        if inputs_embeds is None:
            return self.language(input_ids=input_ids, **inputs)
        return self.language(inputs_embeds=inputs_embeds, **inputs)

    def _without_numbers(self, ids: torch.Tensor) -> torch.Tensor:
        """float[B, T, H] on torch's meta device, where nobody can tell which ids are of sounds: for an estimate of
        memory they are embeddings that gradients go through, as vectors of a bridge are that moves."""
        text: torch.Tensor = self.get_input_embeddings()(ids)
        moves = self.bridge is not None and any(one.requires_grad for one in self.bridge.parameters())
        return text.detach().requires_grad_() if moves and not text.requires_grad else text

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """float[B, T, H]: the embeddings of ids of text and of sounds."""
        sound = ids >= FIRST_SOUND
        text = self.get_input_embeddings()(ids.masked_fill(sound, 0))
        vectors = self.vectors(ids[sound])
        return text.masked_scatter(sound[..., None].expand_as(text), vectors.to(text.dtype))  # type: ignore[no-any-return]

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """float[N, H]: the bridge's vectors that ids of sounds, int64[N], name; with gradients to the bridge."""
        found, numbers = codes(ids)
        known, row = torch.unique(found, return_inverse=True)
        windows = [window_of(code) for code in known.tolist()]
        made = self.bridged(windows)
        if self._latest is not None:
            self._latest.append((windows, made))
        return made[row, numbers]

    def bridged(self, windows: Sequence[Window]) -> torch.Tensor:
        """float[W, K, H]: what the bridge makes of windows; row w holds `speller.bridge.vectors(frames)` vectors, and
        numbers without meaning behind them."""
        assert self.bridge is not None
        assert self.features is not None
        weight = next(self.bridge.parameters())
        self.features.encoder.to(weight.device)
        states = self.features.states(windows)
        frames = torch.tensor([one.shape[1] for one in states], device=weight.device)
        longest = int(frames.max())
        # Wide before they are stacked: autocast on a CPU knows no float16.
        padded = [nn.functional.pad(one.to(weight.dtype), (0, 0, 0, longest - one.shape[1])) for one in states]
        made: torch.Tensor = self.bridge(torch.stack(padded).to(weight.device), frames)
        return made

    @contextmanager
    def watched(self) -> Iterator[list[tuple[Sequence[Window], torch.Tensor]]]:
        """Within it, every forward pass over sounds adds (windows, float[W, K, H]) to the list: what the bridge made of
        them, with gradients, for a term of the loss about the vectors themselves."""
        before, self._latest = self._latest, []
        try:
            yield self._latest
        finally:
            self._latest = before

    # What is saved.

    def note_changed(self) -> None:
        """Weights of the language model are others than its files hold: something was merged into them."""
        self.language_as_loaded = False

    def own_state(self, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The tensors that the directory itself holds: the bridge, and what moved of the language model."""
        state = self.state_dict() if state is None else state
        moving = {name for name, one in self.named_parameters() if one.requires_grad}
        own = {
            name: one
            for name, one in state.items()
            if name.startswith(BRIDGE) or name in self.stored or name in moving or not self.language_as_loaded
        }
        return _without_tied(self.language, own)

    def save_pretrained(
        self, save_directory: Any, state_dict: Mapping[str, torch.Tensor] | None = None, **_: Any
    ) -> None:
        """Write config.json and model.safetensors of a directory that refers to the parts where they are."""
        from mnemos.models.speech.write import write_directory

        write_directory(Path(save_directory), self.speller.config, self.config, self.own_state(state_dict))


def _without_tied(language: Any, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the output layer where it shares the embedding's numbers: a file holds a tensor once."""
    head, embeddings = language.get_output_embeddings(), language.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return own
    names = {name for name, module in language.named_modules() if module is head}
    return {name: one for name, one in own.items() if name not in {f"{LANGUAGE}{stem}.weight" for stem in names}}


def has_sounds(ids: torch.Tensor) -> bool:
    """Whether any id stands for a sound."""
    return bool((ids >= FIRST_SOUND).any())
