"""Bridges: each formula against one written out by hand, and what padding and other sounds must not change."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import ModelError, UsageError
from mnemos.models.speech.bridges import BRIDGES, bridge_of, fired, refuse_width, settings_of

WIDTH, OUT = 8, 12
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"stack": 3, "hidden": 5},
    "conv": {"inner": 4},
    "qformer": {"queries": 3, "depth": 1, "tapped": [0, 2]},
    "window_qformer": {"window": 4, "depth": 1},
    "cif": {"frames_per_vector": 3},
}


def made(kind: str) -> tuple[Any, Any, int]:
    """(bridge, its network, tapped layers)."""
    bridge = bridge_of({"kind": kind, **SMALL[kind]})
    torch.manual_seed(0)
    taps = bridge.taps(3)
    network = bridge.module(WIDTH, len(taps), OUT).eval()
    with torch.no_grad():  # fresh layer weights are zero, by which a mix of layers could not be told from a mean
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return bridge, network, len(taps)


def alone(network: Any, states: torch.Tensor) -> np.ndarray[Any, Any]:
    """float[K, H] of one sound, float[L, T, D]."""
    with torch.no_grad():
        found: np.ndarray[Any, Any] = network(states[None], torch.tensor([states.shape[1]]))[0].double().numpy()
    return found


def weights(network: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: one.detach().double().numpy() for name, one in network.state_dict().items()}


def gelu(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def norm(x: np.ndarray[Any, Any], w: dict[str, Any], name: str = "norm", eps: float = 1e-5) -> np.ndarray[Any, Any]:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


@pytest.mark.parametrize("kind", BRIDGES)
@pytest.mark.parametrize("frames", [1, 2, 7, 12, 13])
def test_as_many_vectors_as_were_promised_and_the_same_beside_another_sound(kind: str, frames: int) -> None:
    bridge, network, layers = made(kind)
    torch.manual_seed(1)
    states, other = torch.randn(layers, frames, WIDTH), torch.randn(layers, 19, WIDTH)
    single = alone(network, states)
    assert single.shape == (bridge.vectors(frames), OUT)
    padded = torch.stack([torch.nn.functional.pad(states, (0, 0, 0, 19 - frames)), other])
    with torch.no_grad():
        both = network(padded, torch.tensor([frames, 19]))
    assert np.allclose(both[0, : bridge.vectors(frames)].numpy(), single, atol=1e-5)
    assert np.allclose(both[1].numpy(), alone(network, other), atol=1e-5)


@pytest.mark.parametrize("kind", BRIDGES)
def test_standardised_states_are_read_in_the_place_of_raw_ones(kind: str) -> None:
    _, network, layers = made(kind)
    torch.manual_seed(1)
    centre, scale = torch.randn(layers, 1, WIDTH), torch.rand(layers, 1, WIDTH) + 0.5
    states, other = 5 + torch.randn(layers, 7, WIDTH), torch.randn(layers, 19, WIDTH)
    wanted = alone(network, (states - centre) / scale)
    before = set(network.state_dict())
    network.standardise(centre, scale)
    assert set(network.state_dict()) - before == {"centre", "scale"}
    assert not any(name in ("centre", "scale") for name, _ in network.named_parameters())
    assert np.allclose(alone(network, states), wanted, atol=1e-5)
    # What stands behind a sound's end is no state, and must not become one.
    padded = torch.stack([torch.nn.functional.pad(states, (0, 0, 0, 12)), other])
    with torch.no_grad():
        both = network(padded, torch.tensor([7, 19]))[0, : len(wanted)].numpy()
    assert np.allclose(both, wanted, atol=1e-5)


def test_stacked_frames_through_two_layers() -> None:
    _, network, _ = made("mlp")
    states = torch.randn(1, 7, WIDTH, generator=torch.Generator().manual_seed(2))
    w, x = weights(network), np.vstack([states[0].double().numpy(), np.zeros((2, WIDTH))]).reshape(3, -1)
    wanted = gelu(x @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T + w["fc2.bias"]
    assert np.allclose(alone(network, states), wanted, atol=1e-5)


def test_convolutions_with_gates_and_the_bottleneck() -> None:
    _, network, _ = made("conv")
    states = torch.randn(1, 11, WIDTH, generator=torch.Generator().manual_seed(2))
    w, x = weights(network), states[0].double().numpy()
    for number in range(3):
        kernel, bias = w[f"convolutions.{number}.weight"], w[f"convolutions.{number}.bias"]
        padded = np.vstack([np.zeros((2, x.shape[1])), x, np.zeros((2, x.shape[1]))])
        rows = [np.einsum("ock,kc->o", kernel, padded[t : t + 5]) + bias for t in range(0, len(x), 2)]
        first, gate = np.split(np.array(rows), 2, axis=1)
        x = first / (1 + np.exp(-gate))
    x = norm(x, w)
    inner = gelu(x @ w["down.weight"].T + w["down.bias"])
    assert np.allclose(alone(network, states), x + inner @ w["up.weight"].T + w["up.bias"], atol=1e-4)


def attention(w: dict[str, Any], at: str, x: Any, y: Any, heads: int) -> Any:
    """BERT's attention of x over y, with its output layer, residual and norm."""
    q, k, v = (
        one @ w[f"{at}.attention.{name}.weight"].T + w[f"{at}.attention.{name}.bias"]
        for one, name in ((x, "query"), (y, "key"), (y, "value"))
    )
    parts = []
    for head in np.split(np.arange(q.shape[1]), heads):
        scores = q[:, head] @ k[:, head].T / np.sqrt(len(head))
        p = np.exp(scores - scores.max(-1, keepdims=True))
        parts.append(p / p.sum(-1, keepdims=True) @ v[:, head])
    out = np.hstack(parts) @ w[f"{at}.output.dense.weight"].T + w[f"{at}.output.dense.bias"]
    return norm(out + x, w, f"{at}.output.LayerNorm", 1e-12)


def qformer(w: dict[str, Any], queries: Any, states: Any, heads: int) -> Any:
    """One layer: queries attend to each other (both ways), then to the states, then a feed-forward."""
    at = "qformer.encoder.layer.0"
    x = norm(queries, w, "qformer.layernorm", 1e-12)
    x = attention(w, f"{at}.attention", x, x, heads)
    x = attention(w, f"{at}.crossattention", x, states, heads)
    inner = gelu(x @ w[f"{at}.intermediate_query.dense.weight"].T + w[f"{at}.intermediate_query.dense.bias"])
    out = inner @ w[f"{at}.output_query.dense.weight"].T + w[f"{at}.output_query.dense.bias"]
    return norm(out + x, w, f"{at}.output_query.LayerNorm", 1e-12)


def test_layers_have_queries_of_their_own_and_are_mixed_query_by_query() -> None:
    _, network, _ = made("qformer")
    states = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(2))
    w, x = weights(network), states.double().numpy()
    heads = network.qformer.config.num_attention_heads
    each = np.array([qformer(w, w["queries"][layer], x[layer], heads) for layer in range(2)])  # [L, Q, D]
    share = np.exp(w["layer_weights"])
    share /= share.sum(-1, keepdims=True)  # [Q, L]
    mixed = np.einsum("ql,lqd->qd", share, each)
    wanted = norm(mixed, w) @ w["out.weight"].T + w["out.bias"]
    assert np.allclose(alone(network, states), wanted, atol=1e-4)


def test_a_fresh_qformer_weighs_all_layers_alike() -> None:
    network = bridge_of({"kind": "qformer", **SMALL["qformer"]}).module(WIDTH, 2, OUT)
    assert not network.layer_weights.any()


def test_a_window_is_read_by_itself() -> None:
    _, network, _ = made("window_qformer")
    states = torch.randn(1, 6, WIDTH, generator=torch.Generator().manual_seed(2))
    w, heads = weights(network), network.qformer.config.num_attention_heads
    x = norm(states[0].double().numpy(), w)
    wanted = [qformer(w, w["queries"], part, heads) @ w["out.weight"].T + w["out.bias"] for part in (x[:4], x[4:])]
    assert np.allclose(alone(network, states), np.vstack(wanted), atol=1e-4)


def test_a_third_of_a_second_is_seventeen_frames() -> None:
    # SALMONN: round(1500 * 0.333333 / 30) of a window of 30 s.
    assert bridge_of({"kind": "window_qformer"}).vectors(1500) == 89  # 88 whole windows, and the rest


def one_by_one(states: Any, alpha: Any, count: int) -> Any:
    """Integrate and fire as it is usually written: a sum that is emptied whenever it reaches 1."""
    out, held, weight = [], np.zeros(states.shape[1]), 0.0
    for state, a in zip(states, alpha, strict=True):
        while weight + a >= 1 - 1e-9:
            out.append(held + (1 - weight) * state)
            a, held, weight = a - (1 - weight), np.zeros(states.shape[1]), 0.0
        held, weight = held + a * state, weight + a
    out.append(held)  # what rounding left of the last
    return np.array(out[:count])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 6), st.integers(0, 10_000))
def test_fired_vectors_are_those_of_the_loop(frames: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    states, alpha = random.standard_normal((frames, 3)), random.uniform(0.01, 1.0, frames)
    alpha *= count / alpha.sum()
    found = fired(torch.from_numpy(states)[None], torch.from_numpy(alpha)[None], count)[0].numpy()
    assert np.allclose(found, one_by_one(states, alpha, count), atol=1e-6)


def test_weights_of_integrate_and_fire_sum_to_the_number_of_vectors() -> None:
    bridge, network, _ = made("cif")
    states = torch.randn(1, 10, WIDTH, generator=torch.Generator().manual_seed(2))
    w, x = weights(network), states[0].double().numpy()
    padded = np.vstack([np.zeros((1, WIDTH)), x, np.zeros((1, WIDTH))])
    read = [np.einsum("ock,kc->o", w["convolution.weight"], padded[t : t + 3]) for t in range(len(x))]
    logit = np.maximum(np.array(read) + w["convolution.bias"], 0) @ w["weight.weight"].T + w["weight.bias"]
    alpha = 1 / (1 + np.exp(-logit[:, 0]))
    alpha *= bridge.vectors(10) / alpha.sum()
    wanted = one_by_one(x, alpha, 4) @ w["out.weight"].T + w["out.bias"]
    assert np.allclose(alone(network, states), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", BRIDGES)
def test_every_weight_of_a_bridge_learns(kind: str) -> None:
    _, network, layers = made(kind)
    states = torch.randn(1, layers, 9, WIDTH, generator=torch.Generator().manual_seed(3))
    found = network(states, torch.tensor([9]))
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(4))).sum().backward()
    still = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    # A bias that all keys share moves no softmax; one window has one query, which attends to itself alone.
    allowed = r"key\.bias" + (r"|attention\.attention\.(query|key)\." if kind == "window_qformer" else "")
    assert not [name for name in still if not re.search(allowed, name)]


def test_settings_are_read_back() -> None:
    for kind, values in SMALL.items():
        bridge = bridge_of({"kind": kind, **values})
        assert bridge_of(settings_of(bridge)) == bridge


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"kind": "mpl"}, "did you mean 'mlp'"),
        ({"kind": "mlp", "stak": 2}, "did you mean 'stack'"),
        ({"kind": "mlp", "stack": 0}, "from 1 to"),
        ({"kind": "mlp", "stack": 2.5}, "whole number"),
        ({"kind": "qformer", "tapped": "all"}, "list of layers"),
        ({"kind": "qformer", "dropout": 1.5}, r"\[0, 1\)"),
        ({"kind": "qformer", "queries": 10**9}, "16,384"),
        ({}, "is no bridge"),
    ],
)
def test_settings_that_cannot_be_meant(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bridge_of(given_)


def test_a_layer_that_the_encoder_has_not() -> None:
    with pytest.raises(UsageError, match="layers 0 to 5"):
        bridge_of({"kind": "qformer", "tapped": [2, 6]}).taps(6)
    assert bridge_of({"kind": "qformer"}).taps(12) == (2, 5, 8, 11)  # DeSTA2's on Whisper-small


def test_a_bridge_of_another_width_is_refused() -> None:
    _, network, _ = made("mlp")
    stored = dict(network.state_dict())
    with pytest.raises(ModelError, match="ask for"):
        refuse_width(network, stored | {"fc2.weight": torch.zeros(OUT + 1, 5)}, "a model: bridge")
    with pytest.raises(ModelError, match=r"lacks fc2\.bias"):
        refuse_width(network, {name: one for name, one in stored.items() if name != "fc2.bias"}, "a model: bridge")
    with pytest.raises(ModelError, match="no place"):
        refuse_width(network, stored | {"more": torch.zeros(1)}, "a model: bridge")
