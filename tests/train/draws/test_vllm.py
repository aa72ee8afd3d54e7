"""Training on answers that vLLM writes. vLLM needs a GPU: TRL's engine is replaced by a stand-in that writes greedily
with the model that it was given, so what is shown is when weights are sent, what is asked and what is learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.generation import vllm_generation

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import Decoding
from mnemos.core.plan import Plan, SelfTaught
from mnemos.core.settings import TrainSettings
from mnemos.methods.draw.on_policy import TeacherDivergence
from mnemos.models import decode
from mnemos.train.draws import vllm
from mnemos.train.likelihood import train
from tests.train.draws.test_self_distillation import TEMPLATE, chats
from tests.train.making import plan, weights

COLD = 1e-4
"""A temperature at which sampling is greedy."""


class StandIn:
    """TRL's VLLMGeneration as far as it is used."""

    made: ClassVar[list[StandIn]] = []

    def __init__(self, model: Any, accelerator: Any, processing_class: Any, **settings: Any) -> None:
        self.model, self.settings, self.sent, self.asked = model, settings, [], []
        self.generation_kwargs: dict[str, Any] = {}
        self.made.append(self)

    def sync_weights(self) -> None:
        self.sent.append({name: value.detach().clone() for name, value in self.model.state_dict().items()})

    def generate(self, prompts: list[list[int]], images: None, samples: int) -> tuple[Any, ...]:
        """By the weights that were sent last, in a model of its own."""
        assert samples == 1
        self.asked.append(prompts)
        own = AutoModelForCausalLM.from_pretrained(self.model.name_or_path)
        own.load_state_dict(self.sent[-1])
        stop = frozenset(self.generation_kwargs["stop_token_ids"])
        with torch.no_grad():
            found = decode.write(own, prompts, stop, Decoding(self.settings["max_completion_length"], 0.0), 4096)
        return prompts, [ids + ([] if end is None else [end]) for ids, end in found], None, None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(vllm, "gpu", lambda: True)
    monkeypatch.setattr(vllm_generation, "VLLMGeneration", StandIn)
    monkeypatch.setattr(StandIn, "made", [])
    return StandIn


def taught(model: Path, where: str) -> Plan:
    draw = SelfTaught(5, COLD, 0.25, TEMPLATE)
    settings: dict[str, Any] = {"per_device_train_batch_size": 3, "max_length": 256, "generation_backend": where}
    return plan(model, examples=chats(), weigh=(), draw=draw, objective=(TeacherDivergence("forward"),), **settings)


def test_its_answers_are_learned_and_it_has_the_weights_of_the_moment(
    sharp: Path,
    engine: type[StandIn],
    tmp_path: Path,
) -> None:
    ours = train(taught(sharp, "vllm"), tmp_path / "vllm", quiet=True)
    local = train(taught(sharp, "local"), tmp_path / "local", quiet=True)
    for name, value in weights(local.model).items():
        assert torch.equal(value, weights(ours.model)[name]), name
    (made,) = engine.made
    assert len(made.sent) == len(made.asked) == ours.steps
    assert any(not torch.equal(value, made.sent[1][name]) for name, value in made.sent[0].items())
    assert made.settings["mode"] == "colocate"
    assert made.settings["temperature"] == COLD
    assert made.settings["max_model_length"] == 256


def test_an_address_is_a_server(sharp: Path, engine: type[StandIn], tmp_path: Path) -> None:
    train(taught(sharp, "http://localhost:8000"), tmp_path, quiet=True)
    (made,) = engine.made
    assert (made.settings["mode"], made.settings["server_base_url"]) == ("server", "http://localhost:8000")


def test_an_answer_ends_before_its_stop_token() -> None:
    assert vllm._until([5, 6, 2], frozenset({2})) == ([5, 6], 2)
    assert vllm._until([5, 6], frozenset({2})) == ([5, 6], None)
    assert vllm._until([2], frozenset({2})) == ([], 2)


def raising(error: Exception) -> Callable[..., Any]:
    def make(*_: Any, **__: Any) -> Any:
        raise error

    return make


def test_refusals(sharp: Path, engine: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="generation_backend"):
        TrainSettings(generation_backend="vlm")
    monkeypatch.setattr(vllm_generation, "VLLMGeneration", raising(ConnectionError("nobody there")))
    with pytest.raises(ModelError, match="vLLM cannot begin: nobody there"):
        train(taught(sharp, "http://localhost:1"), tmp_path / "a", quiet=True)
    monkeypatch.setattr(vllm_generation, "VLLMGeneration", raising(ImportError("vLLM is not available")))
    with pytest.raises(UsageError, match="pip install vllm"):
        train(taught(sharp, "vllm"), tmp_path / "b", quiet=True)
    monkeypatch.setattr(vllm, "gpu", lambda: False)
    with pytest.raises(UsageError, match="needs a CUDA GPU"):
        train(taught(sharp, "vllm"), tmp_path / "c", quiet=True)
