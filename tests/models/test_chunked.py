"""Chunks of logits against whole ones in float64: values, gradients, and what a family does after its output layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, PhiConfig

from mnemos.core.outputs import Outputs, Whole, log_prob
from mnemos.models import chunked
from mnemos.models.chunked import Chunked
from mnemos.models.forward import logits_at
from mnemos.models.head import Head, head_of, states_only
from mnemos.models.score import divergence, token_nats
from tests.models.families import FAMILIES, sharp
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
OTHERS = {
    # A bias in the output layer.
    "phi": lambda: PhiConfig(vocab_size=90, **SMALL),
    # Logits are divided, and multiplied.
    "granite": lambda: GraniteConfig(vocab_size=90, logits_scaling=3.0, **SMALL),
    "cohere": lambda: CohereConfig(vocab_size=90, logit_scale=0.25, **SMALL),
}
IDS = torch.arange(3, 27).reshape(2, 12)


@pytest.fixture(autouse=True)
def _tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three positions of a vocabulary of 90 tokens."""
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 4 * 90 * 3)


def _model(family: str) -> Any:
    if family in OTHERS:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(OTHERS[family]()).eval()
    return sharp(family).model


def _loss(logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    # More than the likelihood: a term that looks at the whole distribution.
    spread = logits.log_softmax(-1).square().mean(-1)
    return ((F.cross_entropy(logits, targets, reduction="none") + 0.1 * spread) * weight).sum()


def _log_prob(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -F.cross_entropy(logits, targets, reduction="none")


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def _outputs(model: Any) -> Chunked:
    head = head_of(model)
    assert head is not None
    with states_only(model) as read:
        assert model(input_ids=IDS, use_cache=False).logits.numel() == 0
    return Chunked(read[0].reshape(-1, read[0].shape[-1]), head, 90)


def _same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_family_has_a_head_and_its_chunks_are_the_whole(family: str) -> None:
    model = _model(family).double()
    targets, weight = IDS.flatten(), torch.linspace(-1, 2, IDS.numel()).double()
    logits = model(input_ids=IDS, use_cache=False).logits.flatten(0, 1)
    wanted = _loss(logits, targets, weight)
    wanted_gradients = _gradients(model, wanted)
    total = _outputs(model).total(lambda rows, some: _loss(some.whole(), targets[rows], weight[rows]))
    torch.testing.assert_close(total.detach(), wanted.detach(), rtol=1e-6, atol=0)
    _same(_gradients(model, total), wanted_gradients)
    # A number a position, of which a loss is made that is no sum.
    each = _outputs(model).each(_log_prob, targets)
    logs = logits.detach().log_softmax(-1)[torch.arange(len(targets)), targets]
    torch.testing.assert_close(each.detach(), logs, rtol=1e-6, atol=1e-9)
    chosen = each[3:9].sum().sigmoid() - each[12:].mean().square()
    logits = model(input_ids=IDS, use_cache=False).logits.flatten(0, 1)
    wanted_each = logits.log_softmax(-1)[torch.arange(len(targets)), targets]
    _same(
        _gradients(model, chosen),
        _gradients(model, wanted_each[3:9].sum().sigmoid() - wanted_each[12:].mean().square()),
    )


def _adapted(**settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model(tiny_tokenizer()), LoraConfig(r=2, **settings))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.3)
    return model.double()


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]},
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_on_the_output_layer(settings: dict[str, Any]) -> None:
    model = _adapted(**settings)
    targets = IDS.flatten()

    def whole() -> Whole:
        return Whole(model(input_ids=IDS).logits.flatten(0, 1))

    total = _outputs(model).total(lambda rows, some: some.each(_log_prob, targets[rows]).sum())
    _same(_gradients(model, total), _gradients(model, whole().each(_log_prob, targets).sum()))
    each = _outputs(model).each(_log_prob, targets)
    _same(_gradients(model, each.mean().square()), _gradients(model, whole().each(_log_prob, targets).mean().square()))


def test_an_output_layer_that_drops_out_is_asked_whole() -> None:
    assert head_of(_adapted(target_modules=["lm_head"], lora_dropout=0.1)) is None
    assert head_of(_adapted(target_modules=["q_proj"], lora_dropout=0.1)) is not None


class _Changed(nn.Module):
    """A model whose logits are not what its configuration says."""

    def __init__(self, inner: Any, change: Any) -> None:
        super().__init__()
        self.inner, self.change, self.config = inner, change, inner.config

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **given: Any) -> Any:
        out = self.inner(**given)
        out.logits = self.change(out.logits)
        return out


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z.index_fill(-1, torch.tensor([4]), -1e9),
        lambda z: z * 1.001,
        lambda z: 30 * torch.tanh(z / 30),
        lambda z: z + torch.linspace(0, 1e-3, z.shape[-1]),
        lambda z: torch.cat([z, z[..., :1]], -1),
    ],
)
def test_a_model_that_does_something_of_its_own_is_asked_whole(change: Any) -> None:
    model = tiny_model(tiny_tokenizer())
    assert head_of(_Changed(model, lambda z: z)) is not None
    assert head_of(_Changed(model, change)) is None


def test_a_layer_that_has_been_wrapped_since_is_tried_again() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny_model(tiny_tokenizer())
    first = head_of(model)
    assert first is not None
    assert type(first.layer) is nn.Linear
    wrapped = head_of(get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"])))
    assert wrapped is not None
    assert wrapped.layer is not first.layer
    assert len(wrapped.moving) == 2


def _random(count: int, bias: bool, seed: int) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(seed)
    layer = nn.Linear(5, 90, bias=bias).double()
    return torch.randn(count, 5, dtype=torch.float64, requires_grad=True), layer, torch.randint(0, 90, (count,))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_any_number_of_positions(count: int, bias: bool, frozen: bool, ends: bool, seed: int) -> None:
    """Also where the layer or what it reads stands still."""
    states, layer, targets = _random(count, bias, seed)
    layer.requires_grad_(not frozen)
    states.requires_grad_(not ends or frozen)
    head = Head(layer, lambda z: 2 * torch.tanh(z / 2))

    def grads(loss: torch.Tensor) -> list[torch.Tensor | None]:
        states.grad = None
        layer.zero_grad()
        (3 * loss).backward()
        return [states.grad, *(one.grad for one in layer.parameters())]

    def logs(outputs: Outputs, rows: Any = slice(None)) -> torch.Tensor:
        return outputs.each(_log_prob, targets[rows])

    cut = Chunked(states, head, 90)
    pairs = [
        (grads(logs(Whole(head(states))).sum()), grads(cut.total(lambda rows, some: logs(some, rows).sum()))),
        (grads(logs(Whole(head(states)))[::2].sum().exp()), grads(logs(cut)[::2].sum().exp())),
    ]
    for wanted, got in pairs:
        for one, other in zip(wanted, got, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-12)


def test_no_more_positions_at_once_than_fit() -> None:
    states, layer, targets = _random(10, False, 0)
    seen: list[int] = []

    def loss(rows: Any, some: Outputs) -> torch.Tensor:
        seen.append(len(some.whole()))
        return some.each(_log_prob, targets[rows]).sum()

    Chunked(states, Head(layer, lambda z: z), 90).total(loss).backward()
    assert seen == [3, 3, 3, 1]


def test_sixteen_bits_under_autocast_keep_their_gradients() -> None:
    """Chunks, then whole logits, in one autocast: what the first casts must not be cut off for the second."""
    states, layer, targets = _random(10, False, 0)
    layer.float()
    states = states.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        cut = Chunked(states, Head(layer, lambda z: z), 90)
        total = cut.total(lambda rows, some: -some.each(log_prob, targets[rows]).sum())
        each = cut.each(log_prob, targets)
        whole = -Whole(layer(states)).each(log_prob, targets).sum()
    whole.backward()
    wanted = [states.grad, layer.weight.grad]
    for loss in (total, -each.sum()):
        states.grad = layer.weight.grad = None
        loss.backward()
        for got, one in zip([states.grad, layer.weight.grad], wanted, strict=True):
            assert one is not None
            torch.testing.assert_close(got, one, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(total, whole, rtol=1e-3, atol=0)


def test_scores_of_long_texts_are_made_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = tiny_model(tiny_tokenizer()), tiny_model(tiny_tokenizer(), seed=1)
    rows = [list(range(5, 60)), list(range(100, 120))]
    whole = token_nats(model, rows, 1000), divergence(model, other, rows, rows[::-1], 300, 1000)
    calls = _counted(monkeypatch)
    monkeypatch.setattr(chunked, "LOGIT_BYTES", 0)
    cut = token_nats(model, rows, 1000), divergence(model, other, rows, rows[::-1], 300, 1000)
    assert calls
    for row, wanted in zip(cut[0], whole[0], strict=True):
        assert row == pytest.approx(wanted, rel=1e-6)
    for (value, count), wanted_item in zip(cut[1], whole[1], strict=True):
        assert (value, count) == (pytest.approx(wanted_item[0], rel=1e-5), wanted_item[1])
    assert all(value == 0 for value, _ in divergence(model, model, rows, rows[::-1], 300, 1000))


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = chunked.Chunked.__init__

    def counted(self: Chunked, states: torch.Tensor, head: Head, vocabulary: int) -> None:
        calls.append(len(states))
        original(self, states, head, vocabulary)

    monkeypatch.setattr(chunked.Chunked, "__init__", counted)
    return calls


def test_whole_logits_can_still_be_had() -> None:
    model = tiny_model(tiny_tokenizer())
    found, _ = logits_at(model, torch.arange(24), input_ids=IDS)
    outputs = _outputs(model)
    torch.testing.assert_close(outputs.whole(), found)
    assert outputs.whole() is outputs.whole()
    places = torch.tensor([5, 1])
    torch.testing.assert_close(outputs.at(places).whole(), found[places])
