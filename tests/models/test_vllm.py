"""vLLM inside the process. The engine itself needs a GPU and an environment of its own, so a stand-in
with the same interface answers here, token by token; what is tested is our side of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.core.places import author_location
from mnemos.models.load import Checkpoint, handle
from tests.tiny import save_tiny

CONTEXT = 96


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    prompt_logprobs: int | None = None


class LLM:
    """Greedy, one forward pass a token. asked: the settings of every request."""

    def __init__(self, model: str, seed: int) -> None:
        self.local = Checkpoint(model).load()
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=CONTEXT))
        self.asked: list[SamplingParams] = []

    def get_tokenizer(self) -> Any:
        return self.local.tokenizer

    def generate(self, prompts: list[dict[str, list[int]]], settings: Any, use_tqdm: bool) -> list[Any]:
        several = settings if isinstance(settings, list) else [settings] * len(prompts)
        self.asked += several
        return [self._one(p["prompt_token_ids"], one) for p, one in zip(prompts, several, strict=True)]

    def _one(self, ids: list[int], settings: SamplingParams) -> Any:
        import torch

        written: list[int] = []
        reason = "length"
        with torch.no_grad():
            table = self.local.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            while len(written) < settings.max_tokens:
                logits = self.local.model(torch.tensor([ids + written])).logits[0, -1]
                written.append(int(logits.argmax()))
                if written[-1] in settings.stop_token_ids:
                    reason = "stop"
                    break
        kept = [None]
        for place, token in enumerate(ids[1:]):
            rank = int((table[place] > table[place, token]).sum()) + 1
            kept.append({token: SimpleNamespace(logprob=float(table[place, token]), rank=rank)})
        answer = SimpleNamespace(token_ids=tuple(written), finish_reason=reason)
        return SimpleNamespace(outputs=[answer], prompt_logprobs=kept)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("engine") / "model")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


def chats(*texts: str) -> list[Prompt]:
    return [Prompt((Turn("user", text),)) for text in texts]


@pytest.mark.usefixtures("engine")
def test_it_says_what_transformers_say(tiny: Path) -> None:
    served, local = handle(f"vllm:{tiny}").load(), Checkpoint(str(tiny)).load()
    prompts = [*chats("What is two plus three?", "Ada"), Prompt((Turn("prompt", "The river runs"),))]
    asked = Decoding(max_new_tokens=12)
    assert served.generate(prompts, asked) == local.generate(prompts, asked)
    options = [["five.", "six.", "the old mill"], [" the old mill"], [" past", " 3"]]
    for a, b in zip(served.choose(prompts, options), local.choose(prompts, options), strict=True):
        assert [(one.tokens, one.greedy) for one in a] == [(one.tokens, one.greedy) for one in b]
        assert [one.log_prob for one in a] == pytest.approx([one.log_prob for one in b], rel=1e-5)
    texts = ["Ada Lane was born in Orford in 1912.", "0 1 2"]
    for (nats, count), (wanted, tokens) in zip(served.nats(texts), local.nats(texts), strict=True):
        assert count == tokens
        assert nats == pytest.approx(wanted, rel=1e-5)


@pytest.mark.usefixtures("engine")
def test_an_answer_ends_at_a_stop_token_which_is_not_part_of_it(tiny: Path) -> None:
    import torch

    served: Any = handle(f"vllm:{tiny}").load()
    stop = min(served.renderer.stop_ids)
    inner = served.engine.local.model
    inner.lm_head = torch.nn.Linear(inner.config.hidden_size, inner.config.vocab_size)
    with torch.no_grad():  # the stop token whatever is asked
        inner.lm_head.weight.zero_()
        inner.lm_head.bias.copy_(torch.arange(inner.config.vocab_size) == stop)
    (answer,) = served.generate(chats("a"), Decoding(max_new_tokens=5))
    assert (answer.ids, answer.text, answer.finished) == ((), "", True)


@pytest.mark.usefixtures("engine")
def test_each_prompt_has_a_seed_and_its_room(tiny: Path) -> None:
    served: Any = handle(f"vllm:{tiny}").load()
    long = Prompt((Turn("prompt", "0 1 2 3 4 5 6 7 8 9 " * 40),))
    prompts = [*chats("one", "one", "two"), long]
    answers = served.generate(prompts, Decoding(max_new_tokens=200, temperature=0.7, top_p=0.9, top_k=20, seed=3))
    asked = served.engine.asked
    assert (answers[3].ids, answers[3].finished, len(asked)) == ((), False, 3)
    assert len({one.seed for one in asked}) == 3
    sizes = [len(served.renderer.prompt_ids(prompt)) for prompt in prompts[:3]]
    assert [one.max_tokens for one in asked] == [CONTEXT - size for size in sizes]
    assert {(one.temperature, one.top_p, one.top_k) for one in asked} == {(0.7, 0.9, 20)}
    again: Any = handle(f"vllm:{tiny}").load()
    again.generate(prompts[:1], Decoding(max_new_tokens=2, temperature=0.7, seed=3))
    assert again.engine.asked[0].seed == asked[0].seed


def test_without_vllm_the_server_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    one = handle(f"vllm:{tiny}")
    assert one.path == f"vllm:{tiny}"
    assert one.fingerprint != Checkpoint(str(tiny)).fingerprint
    with pytest.raises(UsageError, match=f"pip install vllm, or start `vllm serve {tiny}`"):
        one.load()


def test_its_place_is_found_as_any_models(tiny: Path) -> None:
    assert author_location("vllm:model", tiny.parent) == f"vllm:{tiny}"
    assert author_location("vllm:org/name", tiny.parent) == "vllm:org/name"
    with pytest.raises(UsageError, match="no such directory"):
        author_location("vllm:./nowhere", tiny.parent)
