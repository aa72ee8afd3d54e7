"""Squared gradients of single examples against one backward pass an example."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mnemos.core.nouns import Tokens
from mnemos.models import chunked
from mnemos.sources.render import Renderer
from mnemos.train import fisher, passes
from mnemos.train.documents import Way, find_way
from mnemos.train.fisher import Runner, UncoveredError, squared_gradients
from tests.tiny import tiny_model, tiny_tokenizer
from tests.train.making import Lora, Soft, pairs

FAMILIES = ("llama", "qwen3", "gemma", "gemma3", "gpt2")


def made(family: str = "llama", count: int = 7) -> tuple[Any, list[Tokens]]:
    tokenizer = tiny_tokenizer()
    rows = [Renderer(tokenizer).render(example) for example in pairs(count)]
    return tiny_model(tokenizer, family), Soft()(rows, None)  # type: ignore[arg-type]


def runner(model: Any, way: Way | None = None, **changed: Any) -> Runner:
    settings: dict[str, Any] = {"batch": 3, "sampled": False, "seed": 3, **changed}
    way = find_way(model, 128) if way is None else way
    return Runner(model, way, lambda batch: batch, nullcontext, **settings)


def by_hand(model: Any, rows: list[Tokens]) -> dict[str, torch.Tensor]:
    """Full logits of transformers, one example and one backward pass at a time."""
    sums = {name: torch.zeros_like(value) for name, value in model.named_parameters() if value.requires_grad}
    for row in rows:
        model.zero_grad()
        ids, weight = torch.tensor(row.ids.astype(np.int64)), torch.tensor(row.weight)
        logits = model(input_ids=ids[None]).logits[0, :-1]
        (torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none") * weight[1:]).sum().backward()
        for name, value in model.named_parameters():
            if name in sums and value.grad is not None:
                sums[name] += value.grad.square()
    model.zero_grad()
    return sums


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(
        float((one[name] - value).abs().max()) <= 2e-4 * float(value.abs().max()) for name, value in other.items()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_each_example_by_itself(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken apart from joined passes, tied and scaled embeddings, norms of heads and all."""
    model, rows = made(family)
    wanted = by_hand(model, rows)
    run = runner(model)
    assert run.way.joined
    slow = fisher._one_by_one
    monkeypatch.setattr(fisher, "_one_by_one", lambda r, given, n: slow(r, given, n) if len(given) == 2 else None)
    assert close(squared_gradients(run, rows, range(7), rows), wanted)


def test_it_is_not_the_square_of_the_mean() -> None:
    model, rows = made()
    wanted = by_hand(model, rows)
    gradient = {}
    for row in rows:
        single = by_hand(model, [row])
        for name, value in single.items():
            gradient[name] = gradient.get(name, 0) + value.sqrt()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(gradient[name].square() / 7, wanted[name], rtol=0.2)


@pytest.mark.parametrize("way", [Way(False, False), Way(False, True)])
def test_padded_models_go_one_by_one(way: Way) -> None:
    model, rows = made()
    assert close(squared_gradients(runner(model, way), rows, range(7), rows), by_hand(model, rows))


def test_only_what_may_move_is_counted_and_nothing_stays_behind() -> None:
    model, rows = made()
    for name, value in model.named_parameters():
        value.requires_grad_("layers.1.self_attn" in name)
    moving = {name for name, value in model.named_parameters() if value.requires_grad}
    wanted = by_hand(model, rows)
    model.train()
    found = squared_gradients(runner(model), rows, range(7), rows)
    assert found.keys() == moving
    assert close(found, wanted)
    assert model.training
    assert {name for name, value in model.named_parameters() if value.requires_grad} == moving
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters() -> None:
    model, rows = made()
    torch.manual_seed(0)
    model = Lora().prepare(model)
    assert close(squared_gradients(runner(model), rows, range(7), rows), by_hand(model, rows))


def test_a_layer_that_cannot_be_taken_apart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = made()
    wanted = by_hand(model, rows)
    right = fisher._of_example
    # A layer that forgets an example's first token: the two checked examples disagree.
    monkeypatch.setattr(fisher, "_of_example", lambda c, name, at, to: right(c, name, (at[0] + 1, at[1]), to))
    assert close(squared_gradients(runner(model), rows, range(7), rows), wanted)

    def refuse(*_: Any) -> Any:
        raise UncoveredError("a layer")

    monkeypatch.setattr(fisher, "_of_example", refuse)
    assert close(squared_gradients(runner(model), rows, range(7), rows), wanted)


def test_drawn_tokens_do_not_depend_on_what_shares_a_pass() -> None:
    model, rows = made()
    both = [squared_gradients(runner(model, sampled=True, batch=b), rows, range(7), rows) for b in (1, 5)]
    assert close(*both)
    padded = squared_gradients(runner(model, Way(False, False), sampled=True), rows, range(7), rows)
    assert close(padded, both[0])
    halves = [squared_gradients(runner(model, sampled=True), rows[i::2], list(range(7))[i::2], rows) for i in (0, 1)]
    assert close({name: halves[0][name] + halves[1][name] for name in halves[0]}, both[0])
    other = squared_gradients(runner(model, sampled=True, seed=4), rows, range(7), rows)
    assert not close(other, both[0])


def test_tokens_are_drawn_from_the_models_own_distribution() -> None:
    """By inverting the distribution function with the row's own numbers, as numpy does it."""
    model, rows = made()
    run = runner(model, sampled=True)
    from mnemos.train.documents import logits, micro_batch
    from mnemos.train.schedule import join

    batch = micro_batch(join([(row,) for row in rows[:2]]), run.way)
    with torch.no_grad():
        out = logits(model, batch, run.way)
    got = passes._drawn(out, run._uniform(batch, rows[:2], [5, 6]))
    uniform = np.concatenate(
        [np.random.default_rng([3, n]).random(len(row)) for n, row in ((5, rows[0]), (6, rows[1]))]
    )
    expected = [
        int(np.searchsorted(np.cumsum(softmax(row.astype(np.float64))), u, side="right"))
        for row, u in zip(out.numpy(), uniform[batch.place.numpy()], strict=True)
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
def test_logits_in_chunks_give_the_same(family: str, sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tied and scaled heads; taken apart and example by example; nobody holds all logits."""
    model, rows = made(family)
    run = runner(model, sampled=sampled)
    wanted = squared_gradients(run, rows, range(7), rows)
    # Three positions a chunk, so that examples begin and end within chunks.
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 3 * 4 * model.get_input_embeddings().weight.shape[0])
    monkeypatch.setattr(chunked.Chunked, "whole", lambda self: pytest.fail("all logits were asked for at once"))
    taken_apart = fisher._together(run, rows, range(7))
    alone = fisher._one_by_one(run, rows, range(7))
    for found in (taken_apart, alone):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert float((found[name] - value).abs().max()) <= 1e-6 * max(1.0, float(value.abs().max())), name


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_an_output_layer_that_is_no_plain_one_goes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = made()
    adapted = Lora().prepare(model)
    run = runner(adapted)
    wanted = squared_gradients(run, rows, range(7), rows)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 3 * 4 * model.get_input_embeddings().weight.shape[0])
    assert close(squared_gradients(run, rows, range(7), rows), wanted)
