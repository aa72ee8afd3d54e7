"""The table of names against the module classes of transformers, for every family."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.methods.trainable.layers import Part, layers_of, parts_of, tied_weight
from mnemos.methods.trainable.parts import freeze, only
from tests.laws import base_plan
from tests.methods.families import FAMILIES, LAYERS, build, moving

PARTS: tuple[Part, ...] = ("attention", "mlp", "embeddings", "norms", "head")


def by_class(model: Any) -> dict[str, set[str]]:
    """Parameter -> parts, from the classes of the modules around it instead of from names."""
    out: dict[str, set[str]] = {}
    head = model.get_output_embeddings()
    for name, parameter in model.named_parameters():
        path = name.split(".")[:-1]
        owners = [model.get_submodule(".".join(path[: i + 1])) for i in range(len(path))]
        classes = [type(owner).__name__ for owner in owners]
        if owners[-1] is head or "Embedding" in classes[-1]:
            is_head, is_tied = owners[-1] is head, head.weight is parameter
            out[name] = {"head"} if is_head and not is_embedding(model, parameter) else {"embeddings"}
            if is_tied and is_embedding(model, parameter):
                out[name] = {"embeddings", "head"}
        elif "Norm" in classes[-1]:
            out[name] = {"norms"}
        elif any("Attention" in one for one in classes):
            out[name] = {"attention"}
        else:  # an MLP, or the bare linear layers of an OPT layer
            assert any("MLP" in one for one in classes) or path[-1] in ("fc1", "fc2")
            out[name] = {"mlp"}
    return out


def is_embedding(model: Any, parameter: torch.Tensor) -> bool:
    return model.get_input_embeddings().weight is parameter


def plan_trainable(method: Any, **settings: Any) -> Any:
    return method(base_plan(), **settings).trainable


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_names_and_classes_agree(family: str, tied: bool) -> None:
    model = build(family, tie_word_embeddings=tied)
    assert (tied_weight(model) is not None) == tied
    assert {name: set(parts) for name, parts in parts_of(model).items()} == by_class(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers(family: str) -> None:
    model = build(family)
    layers, depth = layers_of(model)
    assert depth == LAYERS == model.config.num_hidden_layers
    outside = {name for name, _ in model.named_parameters()} - set(layers)
    assert not [name for name in outside if "attn" in name or "mlp" in name]
    assert all(f".{index}." in name for name, index in layers.items())


def test_the_stack_is_the_largest_numbered_list() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(5)])
            self.layers = torch.nn.ModuleList([torch.nn.Linear(9, 9) for _ in range(3)])

    layers, depth = layers_of(Two())
    assert depth == 3
    assert all(name.startswith("layers.") for name in layers)
    assert layers_of(torch.nn.Linear(2, 2)) == ({}, 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", PARTS)
def test_freeze_and_only_are_complements(family: str, part: Part, caplog: pytest.LogCaptureFixture) -> None:
    every = {name for name, _ in build(family).named_parameters()}
    reference = {name for name, parts in by_class(build(family)).items() if part in parts}
    trained = moving(plan_trainable(only, parts=(part,)).prepare(build(family)))
    kept = every - moving(plan_trainable(freeze, parts=(part,)).prepare(build(family)))
    assert trained == kept == reference
    tied = tied_weight(build(family)) is not None
    assert ("one tied weight" in caplog.text) == (tied and part in ("embeddings", "head"))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_settings_are_joined(family: str) -> None:
    model = build(family)
    layers, depth = layers_of(model)
    settings = {"layers_first": 1, "layers_last": 1, "parts": ("norms",), "pattern": r"\.1\..*mlp"}
    trained = moving(plan_trainable(only, **settings).prepare(model))
    expected = {
        name
        for name, parts in by_class(model).items()
        if layers.get(name) in (0, depth - 1) or "norms" in parts or (layers.get(name) == 1 and "mlp" in parts)
    }
    assert trained == expected
    assert moving(plan_trainable(freeze, **settings).prepare(model)) == set(by_class(model)) - expected


def test_prepare_also_wakes_what_was_frozen_before() -> None:
    model = build("llama").requires_grad_(False)
    assert moving(plan_trainable(freeze, parts=("mlp",)).prepare(model))


@pytest.mark.parametrize("method", [freeze, only])
def test_an_update_changes_nothing_else(method: Any) -> None:
    model = build("gpt2")
    plan_trainable(method, parts=("attention",)).prepare(model)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    ids = torch.arange(12).reshape(2, 6)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=0.1, weight_decay=0.1).step()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}
    attention = {name for name, parts in by_class(model).items() if "attention" in parts}
    assert changed == (attention if method is only else set(start) - attention)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (freeze, {"layers_first": 4}, "freeze.layers_first = 4: the model has 3 layers"),
        (only, {"layers_last": 9}, "only.layers_last = 9: the model has 3 layers"),
        (only, {"pattern": "nothing_like_it"}, "only.pattern = 'nothing_like_it': matches no parameter of LlamaFor"),
        (freeze, {"parts": ("mlp",), "pattern": "typo"}, "freeze.pattern = 'typo': matches no parameter"),
        (freeze, {"pattern": "."}, "leaves no parameter to train"),
        (freeze, {"layers_first": 3, "parts": ("embeddings", "head", "norms")}, "leaves no parameter to train"),
    ],
)
def test_selections_that_cannot_be_meant(method: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        plan_trainable(method, **settings).prepare(build("llama"))
    assert message in str(caught.value)
    if "layers" not in message:
        assert "model.layers.N.self_attn.q_proj.weight" in caught.value.cure


def test_a_part_that_the_model_lacks() -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])

        def get_input_embeddings(self) -> None:
            return None

        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(
        ModelError, match=r"only\.parts = mlp: matches no parameter of Bare\n  known: layers\.N\.weight"
    ):
        plan_trainable(only, parts=("mlp",)).prepare(Bare())


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (only, {}, "names nothing to train"),
        (only, {"pattern": "(open"}, "is not a regular expression"),
        (freeze, {"pattern": "(open"}, "is not a regular expression"),
        (freeze, {"parts": ("all",)}, "Input should be 'attention'"),
        (only, {"parts": ("atention",)}, "only.parts.0 = 'atention'"),
        (freeze, {"layers_first": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be_meant(method: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        method(base_plan(), **settings)
    assert message in str(caught.value)


def test_order_and_repeats_of_parts_do_not_count() -> None:
    one = only(base_plan(), parts=("mlp", "attention", "mlp"))
    assert one.fingerprint == only(base_plan(), parts=("attention", "mlp")).fingerprint


def test_two_methods_may_not_both_say_what_moves() -> None:
    plan = freeze(base_plan(), parts=("mlp",))
    with pytest.raises(UsageError, match=r"only after Freeze: two methods of one arm say what may move"):
        only(plan, parts=("attention",))
    assert freeze(plan).trainable == plan.trainable, "off is always allowed"


def test_it_is_said_once_and_through_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan_trainable(only, parts=("embeddings", "head")).prepare(build("gpt2"))
        assert not caplog.records, "naming both leaves nothing to say"
        plan_trainable(only, parts=("head",)).prepare(build("gpt2"))
    assert len(caplog.records) == 1
