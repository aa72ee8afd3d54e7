"""What moves, how often, and that a restore puts the same bits back."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnemos.core.errors import ModelError
from mnemos.stream.adaptation.moving import Moving, Snapshot, moved
from tests.stream.adaptation.ears import TinyEars, clip


def loss_of(ears: TinyEars, seed: int = 0) -> torch.Tensor:
    return ears.logits(ears.features([clip(seed)]))[0].square().mean()


def as_collected(network: nn.Module) -> list[nn.Parameter]:
    """The list of SUTA's published code: nested modules, and so many tensors several times."""
    found = []
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            found += [one for key, one in module.named_parameters() if key in ("weight", "bias")]
        parts = name.split(".")
        if len(parts) > 1 and parts[1] in ("feature_extractor", "feature_projection"):
            found += [one for _, one in module.named_parameters()]
    return found


def test_multipliers_are_those_of_the_published_collection() -> None:
    ears = TinyEars()
    listed = as_collected(ears.network)
    times = {id(one): sum(other is one for other in listed) for one in listed}
    found = {id(one): count for one, count, _ in moved(ears.network, "norms+front")}
    assert found == times
    assert {4, 3, 2, 1} <= set(times.values())
    names = {id(one): name for name, one in ears.network.named_parameters()}
    by_name = {names[key]: count for key, count in found.items()}
    assert by_name["wav2vec2.feature_extractor.conv_layers.1.conv.weight"] == 4
    assert by_name["wav2vec2.feature_projection.layer_norm.weight"] == 3
    assert by_name["wav2vec2.feature_projection.projection.weight"] == 2
    assert by_name["wav2vec2.encoder.layers.0.layer_norm.weight"] == 1


@pytest.mark.parametrize("as_published", [False, True])
def test_steps_are_adamw_s(as_published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemos.stream.adaptation.moving.BLOCK", 50)  # vectors of several blocks
    ours, theirs = TinyEars(), TinyEars()
    moving = Moving(ours.network, "norms+front", as_published=as_published)
    for one in theirs.network.parameters():
        one.requires_grad_(False)
    listed = as_collected(theirs.network)
    for one in listed:
        one.requires_grad_(True)
    tensors = listed if as_published else list(dict.fromkeys(listed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the list has duplicates
        optimiser = torch.optim.AdamW(tensors, lr=1e-3, weight_decay=0.0, foreach=False)
    for step in range(4):
        loss_of(ours, step).backward()
        assert moving.step(1e-3)
        optimiser.zero_grad()
        loss_of(theirs, step).backward()
        optimiser.step()
    for (name, a), b in zip(ours.network.named_parameters(), theirs.network.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-7), name
    changed = TinyEars()
    first = dict(changed.network.named_parameters())
    differs = {name for name, one in ours.network.named_parameters() if not torch.equal(one, first[name])}
    wanted = {id(one) for one in tensors}
    names = {id(one): name for name, one in theirs.network.named_parameters()}
    assert differs == {names[key] for key in wanted}


def test_a_restore_puts_the_same_bits_back() -> None:
    ears = TinyEars()
    moving = Moving(ears.network, "norms+front")
    before = [one.detach().clone() for one in ears.network.parameters()]

    def walk(steps: int) -> list[Any]:
        for step in range(steps):
            loss_of(ears, step).backward()
            moving.step(1e-2)
        return [one.detach().clone() for one in ears.network.parameters()]

    walk(2)
    kept = moving.snapshot()
    once = walk(3)
    moving.restore(kept)
    assert all(torch.equal(a, b) for a, b in zip(once, walk(3), strict=True))
    moving.restore(moving.source)
    assert all(torch.equal(a, b) for a, b in zip(before, ears.network.parameters(), strict=True))
    again = Snapshot.of(kept.tensors(), kept.counts)
    assert all(torch.equal(a, b) for a, b in zip(again.tensors(), kept.tensors(), strict=True))


def test_closed_it_is_as_it_came() -> None:
    ears = TinyEars()
    before = {name: one.detach().clone() for name, one in ears.network.named_parameters()}
    needed = {name: one.requires_grad for name, one in ears.network.named_parameters()}
    moving = Moving(ears.network, "norms")
    loss_of(ears).backward()
    moving.step(1e-2)
    moving.close()
    for name, one in ears.network.named_parameters():
        assert torch.equal(one, before[name])
        assert one.grad is None
        assert one.requires_grad == needed[name]


def test_what_moves() -> None:
    ears = TinyEars()
    names = {id(one): name for name, one in ears.network.named_parameters()}

    def of(what: Any) -> set[str]:
        return {names[id(one)] for one, _, _ in moved(ears.network, what)}

    norms, front, biases = of("norms"), of("front"), of("norms+biases")
    assert all("norm" in name for name in norms)
    assert all("feature_" in name for name in front)
    assert of("norms+front") == norms | front
    assert norms <= biases
    assert not any("conv_layers" in name for name in biases)
    assert "wav2vec2.encoder.layers.0.attention.k_proj.bias" in biases
    with pytest.raises(ModelError, match="nothing of norms"):
        Moving(nn.Linear(2, 2), "norms")


def test_the_front_is_spared_where_no_norm_stands_in_it() -> None:
    for norm, spared in (("group", True), ("layer", False)):
        ears = TinyEars(norm=norm)
        moving = Moving(ears.network, "norms")
        assert moving.spares_front is spared
        moving.close()
        moving = Moving(ears.network, "norms+front")
        assert not moving.spares_front
        assert moving.spares_front_with_norms is spared


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.integers(0, 30))
def test_a_gradient_that_is_no_number_is_refused(bad: float, place: int) -> None:
    layer = nn.LayerNorm(16)
    moving = Moving(layer, "norms")
    layer(torch.randn(3, 16)).square().sum().backward()
    moving.flats[0].slopes[place] = bad
    before = layer.weight.detach().clone()
    assert not moving.step(0.1)
    assert torch.equal(layer.weight, before)
    assert not moving.flats[0].slopes.any()
    assert moving.flats[0].count == 0
    layer(torch.randn(3, 16)).square().sum().backward()
    assert moving.step(0.1)
