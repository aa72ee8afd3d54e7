"""Joined, picked and padded passes give the logits and gradients of plain, separate ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from mnemos.core.nouns import Tokens
from mnemos.train.documents import (
    ATTENTION,
    Way,
    document_attention,
    find_way,
    local_span,
    logits,
    micro_batch,
    plain_attention,
)
from mnemos.train.schedule import join
from tests.tiny import tiny_model, tiny_tokenizer

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
CONFIGS = {
    "gemma2": lambda: Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0),
    "cohere": lambda: CohereConfig(**SHAPE, logit_scale=0.25),
    "granite": lambda: GraniteConfig(**SHAPE, logits_scaling=3.0),
    "mistral": lambda: MistralConfig(**SHAPE, head_dim=8, sliding_window=12),
    "bloom": lambda: BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.0),
    "mamba": lambda: MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4),
}
JOINED = ["llama", "qwen3", "gemma", "gemma3", "gpt2", "cohere", "granite"]
PADDED = ["gemma2", "mistral", "bloom", "mamba"]


def _model(family: str) -> Any:
    if family not in CONFIGS:
        return tiny_model(tiny_tokenizer(), family)
    torch.manual_seed(0)
    config: PreTrainedConfig = CONFIGS[family]()
    return AutoModelForCausalLM.from_config(config).eval()


def _rows(size: int) -> list[tuple[Tokens, ...]]:
    made = np.random.default_rng(0)
    rows = []
    for length in (11, 3, 7, 24, 1):
        weight = np.where(made.random(length) < 0.4, 0, made.random(length))
        ids = made.integers(3, size, length)
        rows.append(Tokens(ids.astype(np.int32), weight.astype(np.float32), weight > 0, "x"))
    return [(rows[0], rows[1]), (rows[2],), (rows[3], rows[4])]


def _plain(model: Any, rows: list[tuple[Tokens, ...]]) -> torch.Tensor:
    """The loss by hand: each example alone, all logits, shifted labels."""
    total = torch.zeros(())
    for one in (one for row in rows for one in row):
        ids = torch.tensor(one.ids.astype(np.int64))
        out = model(input_ids=ids[None]).logits[0, :-1]
        total = total + (F.cross_entropy(out, ids[1:], reduction="none") * torch.tensor(one.weight[1:])).sum()
    return total


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("family", [*JOINED, *PADDED])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_loss_and_gradients_equal_separate_plain_passes(family: str) -> None:
    model = _model(family)
    rows = _rows(60)
    wanted = _plain(model, rows)
    wanted_gradients = _gradients(model, wanted)
    with plain_attention(model):
        way = find_way(model, longest=24)
        assert way.joined == (family in JOINED)
        batch = micro_batch(join(rows), way)
        out = logits(model, batch, way)
        assert out.shape == (len(batch.targets), model.config.vocab_size)
        loss = (F.cross_entropy(out.float(), batch.targets, reduction="none") * batch.weight).sum()
        gradients = _gradients(model, loss)
    assert torch.allclose(loss, wanted, rtol=1e-5)
    assert gradients.keys() == wanted_gradients.keys()
    for name, gradient in gradients.items():
        scale = wanted_gradients[name].abs().max()
        assert (gradient - wanted_gradients[name]).abs().max() <= 2e-4 * scale + 1e-6, name
    assert model.config._attn_implementation != ATTENTION


@pytest.mark.parametrize("family", [*JOINED, "gemma2"])
def test_logits_are_computed_where_asked_only(family: str) -> None:
    assert find_way(_model(family), longest=24).picks


@pytest.mark.parametrize("way", [Way(False, False), Way(False, True), Way(False, True, split=False)])
def test_every_way_gives_the_same_loss(way: Way) -> None:
    model, rows = _model("llama"), _rows(60)
    batch = micro_batch(join(rows), way)
    loss = (F.cross_entropy(logits(model, batch, way), batch.targets, reduction="none") * batch.weight).sum()
    assert torch.allclose(loss, _plain(model, rows), rtol=1e-5)
    assert (len(batch.passes) == 1) == (not way.split)


class Bare(LlamaForCausalLM):  # type: ignore[misc]
    """A model that knows neither positions nor chosen logits."""

    def forward(self, input_ids: Any, attention_mask: Any = None, use_cache: Any = None) -> Any:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


def test_a_model_with_a_narrow_forward_is_run_plainly() -> None:
    torch.manual_seed(0)
    model = Bare(LlamaConfig(**SHAPE)).eval()
    way = find_way(model, longest=24)
    assert way == Way(joined=False, picks=False)
    batch = micro_batch(join(_rows(60)), way)
    loss = (F.cross_entropy(logits(model, batch, way), batch.targets, reduction="none") * batch.weight).sum()
    assert torch.allclose(loss, _plain(model, _rows(60)), rtol=1e-5)


def test_a_window_counts_only_when_examples_reach_beyond_it() -> None:
    assert find_way(_model("mistral"), longest=12).joined
    assert not find_way(_model("mistral"), longest=13).joined
    assert local_span(_model("llama").config) > 10**9


def test_a_leak_between_examples_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe itself: an attention that ignores the boundaries must not be taken."""
    from mnemos.train import documents

    def careless(*args: Any, document_lengths: Any = None, **kwargs: Any) -> Any:
        return document_attention(*args, **kwargs)

    monkeypatch.setattr(documents, "document_attention", careless)
    assert not find_way(_model("llama"), longest=24).joined


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_document_attention_is_masked_attention(heads: int) -> None:
    torch.manual_seed(0)
    lengths = (5, 1, 8)
    query, key, value = (torch.randn(1, h, 14, 8) for h in (4, heads, heads))
    got, _ = document_attention(torch.nn.Module(), query, key, value, None, scaling=0.3, document_lengths=lengths)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    mask = (documents[:, None] == documents[None]) & torch.ones(14, 14, dtype=torch.bool).tril()
    key, value = key.repeat_interleave(4 // heads, 1), value.repeat_interleave(4 // heads, 1)
    scores = (query @ key.transpose(2, 3) * 0.3).masked_fill(~mask, float("-inf"))
    assert torch.allclose(got, (scores.softmax(-1) @ value).transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize(
    "strange",
    [{"softcap": 50.0}, {"s_aux": torch.zeros(4)}, {"is_causal": False}, {"sliding_window": 3}, {"position_bias": 1}],
)
def test_document_attention_refuses_what_it_would_get_wrong(strange: dict[str, Any]) -> None:
    one = torch.randn(1, 4, 6, 8)
    with pytest.raises(NotImplementedError):
        document_attention(torch.nn.Module(), one, one, one, None, document_lengths=(6,), **strange)
    with pytest.raises(NotImplementedError):
        document_attention(torch.nn.Module(), one, one, one, torch.ones(1, 1, 6, 6), document_lengths=(6,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_variable_length_kernel_agrees_on_a_gpu() -> None:
    from mnemos.train.documents import _flash, _flash_agrees, _one_by_one

    device, lengths = torch.device("cuda"), (130, 7, 63)
    assert _flash_agrees(8, 2, 64, torch.bfloat16, device)
    rows = [torch.randn(1, h, 200, 64, device=device, dtype=torch.bfloat16, requires_grad=True) for h in (8, 2, 2)]
    results = []
    for run in (_flash(*rows, lengths, 0.2), _one_by_one(*rows, lengths, 0.0, 0.2)):
        run.float().square().sum().backward()
        results.append([run.detach().float(), *(one.grad.float() for one in rows)])
        for one in rows:
            one.grad = None
    for got, wanted in zip(*results, strict=True):
        assert torch.allclose(got, wanted, atol=5e-2, rtol=5e-2)
