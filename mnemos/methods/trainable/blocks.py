"""New transformer blocks between the old ones, as a value of Plan.trainable."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import ModelError
from mnemos.methods.trainable.layers import known_names, layers_of

if TYPE_CHECKING:
    import torch

OUTPUTS = re.compile(
    r"\b(o_proj|down_proj|attn\.c_proj|mlp\.c_proj|attention\.dense|self_attention\.dense"
    r"|dense_4h_to_h|out_proj|fc2|fc_out)\.(weight|bias)$"
)
"""The projections through which a block adds to the residual stream: attention's and the MLP's."""

PER_LAYER = re.compile(r"layer")
"""Names of configuration lists that may hold one entry, or an index, for each layer."""

TOLERANCE = 1e-4
"""Largest change of a logit by untrained new blocks, as a share of the largest logit."""


@dataclass(frozen=True)
class Expanded:
    """One copy of every `every`-th block behind it, doing nothing until it is trained; only copies move."""

    every: int
    learning_rate: float | None

    def prepare(self, model: Any) -> Any:
        """A model of the same class with the new blocks; ModelError where it would not be complete
        or would not compute what `model` computes."""
        _, depth = layers_of(model)
        sources = placed(depth, self.every)
        layers = _stack(model)
        grown = _empty(model, _configuration(model.config, depth, sources))
        state = _state(model.state_dict(), layers, sources)
        wanted, given = grown.state_dict(), set(state)
        if set(wanted) != given or any(wanted[name].shape != state[name].shape for name in given):
            odd = sorted(set(wanted) ^ given) or sorted(n for n in given if wanted[n].shape != state[n].shape)
            raise ModelError(
                f"block_expansion of {type(model).__name__}",
                f"the new blocks do not fit this architecture's configuration (first: {odd[0]})",
                "its layers differ from one another in a way that is not known: use another method",
            )
        # Names and shapes alone, of which memory is estimated before a run: there is nothing to copy or to compute.
        hollow = any(value.is_meta for value in state.values())
        if hollow:
            grown.to("meta")
        else:
            grown.load_state_dict(state)
        grown.tie_weights()
        grown.generation_config = model.generation_config
        # Weight by weight: `grown.to(dtype)` would also round what no file holds, such as the frequencies of rotary
        # positions, which stay in float32 whatever the weights are in.
        for name, value in grown.named_parameters():
            value.data = value.data.to(state[name].dtype)
        grown.train(model.training)
        if not hollow:
            _check(model, grown)
        # With the dot behind the number: layer 1 is not layer 10.
        new = tuple(f"{layers}.{index}." for index, (_, added) in enumerate(sources) if added)
        for name, value in grown.named_parameters():
            value.requires_grad_(name.startswith(new) and value.is_floating_point())
        return grown


def placed(depth: int, every: int) -> list[tuple[int, bool]]:
    """The blocks of the grown model in order: (index of the old block, whether it is a new copy).
    A last group of fewer than `every` blocks gets its copy too."""
    out: list[tuple[int, bool]] = []
    for index in range(depth):
        out.append((index, False))
        if (index + 1) % every == 0 or index == depth - 1:
            out.append((index, True))
    return out


def _stack(model: Any) -> str:
    """The name of the list of blocks, such as model.layers."""
    names, _ = layers_of(model)
    if not names:
        raise ModelError(type(model).__name__, "has no list of blocks", f"known: {known_names(model)}")
    name = next(iter(names))
    found = re.match(rf"(.*?)\.{names[name]}\.", name)
    assert found is not None
    return found[1]


def _state(state: dict[str, torch.Tensor], layers: str, sources: list[tuple[int, bool]]) -> dict[str, torch.Tensor]:
    out = {name: value for name, value in state.items() if not name.startswith(f"{layers}.")}
    silent = 0
    for index, (source, added) in enumerate(sources):
        prefix = f"{layers}.{source}."
        for name, value in state.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                # Zero output projections make a copy add 0 to the residual stream. Everything before them is kept: it
                # gives them their gradient, so that they can leave 0.
                mute = added and OUTPUTS.search(rest) is not None
                silent += mute
                out[f"{layers}.{index}.{rest}"] = value.new_zeros(value.shape) if mute else value
    if not silent:
        raise ModelError(
            f"block_expansion of {layers}.N",
            "none of its projections is known to be a block's output",
            "known: " + ", ".join(sorted({re.sub(r"\.\d+\.", ".N.", name) for name in state if layers in name})[:12]),
        )
    return out


def _configuration(config: Any, depth: int, sources: list[tuple[int, bool]]) -> Any:
    """The configuration of the grown model: its depth, and lists that speak of each layer."""
    grown = copy.deepcopy(config)
    places = [source for source, _ in sources]
    for name, value in list(vars(grown).items()):
        if not PER_LAYER.search(name) or not isinstance(value, list) or not value:
            continue
        # One entry for each layer, or indices of layers. A list of indices can be as long as the model is deep; its
        # name tells it apart (`mlp_only_layers`).
        if len(value) == depth and not name.endswith("_only_layers"):
            setattr(grown, name, [value[source] for source in places])
        elif all(isinstance(item, int) for item in value):
            setattr(grown, name, [index for index, source in enumerate(places) if source in value])
    grown.num_hidden_layers = len(places)
    return grown


def _empty(model: Any, config: Any) -> Any:
    from transformers.initialization import no_init_weights

    config._attn_implementation = model.config._attn_implementation
    # Every weight is loaded right afterwards; drawing values would only advance the generator that training draws from.
    with no_init_weights():
        return type(model)(config)


def _check(model: Any, grown: Any) -> None:
    import torch

    device = next(model.parameters()).device
    # Steps of a prime, so that the ids spread over the vocabulary.
    ids = (torch.arange(12, device=device) * 7919).remainder(model.get_input_embeddings().weight.shape[0])[None]
    training = model.training
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids, use_cache=False).logits
        got = grown.to(device).eval()(input_ids=ids, use_cache=False).logits
    model.train(training)
    grown.train(training)
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    # Written so that NaN is refused too.
    if not difference <= TOLERANCE:
        raise ModelError(
            f"block_expansion of {type(model).__name__}: untrained new blocks change logits by {difference:.2g}",
            f"at most {TOLERANCE} of the largest is rounding",
            "this architecture's blocks are not a sum with what they are given: use another method",
        )
