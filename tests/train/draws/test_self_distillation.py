"""Training on drawn answers against a loop written by hand, cut up, stopped and continued."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, Turn
from mnemos.core.plan import Plan, SelfTaught
from mnemos.methods.draw.on_policy import TeacherDivergence
from mnemos.models import decode
from mnemos.sources.render import Renderer
from mnemos.train.draws.self_distillation import prepare as prepare_prompts
from mnemos.train.draws.self_distillation import shown
from mnemos.train.likelihood import train
from mnemos.train.schedule import Schedule
from tests.train.making import Few, Lora, Soft, plan, texts, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TEMPLATE = "{question} (such as: {answer})"


def chats(count: int = 6) -> Few:
    """Short chats of different lengths."""
    rows = [
        Example(f"c{i}", "messages", (Turn("user", "What" + " now" * i + "?"), Turn("assistant", f"It is {i}.")))
        for i in range(count)
    ]
    return Few(tuple(rows), f"chats-{count}")


def taught(model: Path, **changes: Any) -> Plan:
    """Two steps of three rows a pass, two passes."""
    settings = {"examples": chats(), "weigh": (), "per_device_train_batch_size": 3, "max_length": 256, **changes}
    draw = SelfTaught(5, 1.0, 0.25, TEMPLATE)
    return plan(model, draw=draw, **{"objective": (TeacherDivergence("forward"),), **settings})


def by_hand(given: Plan) -> tuple[list[float], dict[str, torch.Tensor]]:
    """AdamW on the mean divergence over the drawn tokens, with a second model for the teacher."""
    path, settings = given.before.path, given.train
    renderer = Renderer(AutoTokenizer.from_pretrained(path))
    student, teacher = (AutoModelForCausalLM.from_pretrained(path) for _ in range(2))
    optimizer = torch.optim.AdamW(student.parameters(), eps=settings.adam_epsilon, weight_decay=0.0)
    rows = []
    for example in given.examples:
        prompts = shown(example, TEMPLATE)
        assert prompts is not None
        rows.append(tuple(renderer.prompt_ids(prompt) for prompt in prompts))
    end = renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lengths = [sum(map(len, row)) for row in prepare_prompts(given, renderer).rows for row in [row]]
    schedule, losses = Schedule(lengths, 3, given.seed), []
    for epoch in range(2):
        for chunk in schedule.chunks(epoch):
            seed = int(np.random.SeedSequence([given.seed, len(losses)]).generate_state(1)[0])
            with torch.no_grad():
                prompts = [rows[i][0] for i in chunk]
                written = decode.write(student, prompts, renderer.stop_ids, Decoding(5, 1.0, seed=seed), 4096)
            total, count = torch.zeros(()), 0
            for i, (ids, stopped) in zip(chunk, written, strict=True):
                answer = [*ids, end] if stopped is not None else ids
                p, q = (_log_probs(m, rows[i][k], answer) for m, k in ((teacher, 1), (student, 0)))
                total = total + (p.detach().exp() * (p.detach() - q)).sum()
                count += len(answer)
            loss = total / count
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - len(losses) / 4)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), settings.max_grad_norm)
            optimizer.step()
            losses.append(loss.item())
            with torch.no_grad():
                for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
                    theirs.copy_(0.75 * theirs + 0.25 * ours)
    return losses, student.state_dict()


def _log_probs(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    out = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return out.log_softmax(-1)


def test_equals_a_loop_written_by_hand(sharp: Path, tmp_path: Path) -> None:
    given = taught(sharp)
    result = train(given, tmp_path, quiet=True)
    losses, state = by_hand(given)
    assert len(losses) == result.steps == 4
    assert np.allclose([loss for _, loss in result.losses], losses, rtol=1e-4)
    saved = weights(result.model)
    assert all(torch.allclose(saved[name], state[name], atol=5e-5) for name in saved)
    assert 0 < result.supervised_tokens <= 12 * 6
    assert result.tokens > result.supervised_tokens


def test_a_step_may_be_cut(sharp: Path, tmp_path: Path) -> None:
    whole = train(taught(sharp), tmp_path / "a", quiet=True)
    parts = train(
        taught(sharp, per_device_train_batch_size=1, gradient_accumulation_steps=3), tmp_path / "b", quiet=True
    )
    assert np.allclose([loss for _, loss in parts.losses], [loss for _, loss in whole.losses], rtol=1e-4)
    assert (parts.tokens, parts.supervised_tokens) == (whole.tokens, whole.supervised_tokens)


def test_the_teacher_is_the_model_that_was_shown_the_answer(sharp: Path, tmp_path: Path) -> None:
    """Shown nothing new, and before the first update, it says what the student says."""
    same = replace(taught(sharp, max_steps=1), draw=SelfTaught(5, 1.0, 0.25, "{question}"))
    other = taught(sharp, max_steps=1)
    assert train(same, tmp_path / "a", quiet=True).losses[0][1] == pytest.approx(0, abs=1e-5)
    assert train(other, tmp_path / "b", quiet=True).losses[0][1] > 1e-2


@dataclass(frozen=True)
class Stop:
    """A term worth nothing that stops the training at one call."""

    call: int = field(default=0, compare=False)
    calls: list[int] = field(default_factory=list, compare=False)

    def loss(self, view: Any) -> Any:
        self.calls.append(1)
        if len(self.calls) == self.call:
            raise KeyboardInterrupt
        return 0 * view.logits.sum()


@pytest.mark.parametrize("adapters", [False, True])
def test_stopped_and_continued_equals_unbroken(sharp: Path, tmp_path: Path, adapters: bool) -> None:
    """Stopped in the fourth step, after the checkpoint of the third."""

    def given(stop: Stop) -> Plan:
        more: dict[str, Any] = {"trainable": Lora()} if adapters else {}
        return taught(sharp, save_steps=1, objective=(TeacherDivergence("forward"), stop), **more)

    whole = train(given(Stop()), tmp_path / "whole", quiet=True)
    with pytest.raises(KeyboardInterrupt):
        train(given(Stop(4)), tmp_path / "broken", quiet=True)
    counting = Stop()
    continued = train(given(counting), tmp_path / "broken", quiet=True)
    assert len(counting.calls) == 1
    assert continued.losses == whole.losses
    assert (continued.tokens, continued.supervised_tokens) == (whole.tokens, whole.supervised_tokens)
    one, other = weights(whole.model), weights(continued.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(Path(continued.model).glob("*teacher*"))
    name, key, value = (
        ("adapter_config.json", "peft_type", "LORA") if adapters else ("config.json", "model_type", "llama")
    )
    assert json.loads((Path(continued.model) / name).read_text())[key] == value


def test_what_is_shown_and_what_is_left_out(sharp: Path) -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Why?"), Turn("assistant", "So."))
    pair = shown(Example("a", "messages", turns), TEMPLATE)
    assert pair is not None
    assert pair[0].turns == turns[:2]
    assert pair[1].turns == (turns[0], Turn("user", "Why? (such as: So.)"))
    assert shown(Example("b", "messages", turns[:2]), TEMPLATE) is None
    rows = (*chats(2).examples, *texts(1).examples, replace(chats(9).examples[8], id="long"))
    given = taught(sharp, examples=Few(rows, "some"), max_length=60)
    prepared = prepare_prompts(given, Renderer(AutoTokenizer.from_pretrained(sharp)))
    left_out = {name: count for name, count in prepared.counts.items() if name.startswith("left out")}
    assert left_out.pop("left out: no prompt with an answer at its end") == 1
    assert prepared.counts["examples"] == 4
    assert prepared.counts["rows"] == 4 - 1 - sum(left_out.values())
    with pytest.raises(DataError, match="0 of 1 examples can be answered"):
        prepare_prompts(taught(sharp, examples=texts(1)), Renderer(AutoTokenizer.from_pretrained(sharp)))


def test_what_cannot_be_meant_is_refused(sharp: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Soft on answers that the model draws: weighs tokens of the data"):
        train(taught(sharp, weigh=(Soft(),)), tmp_path, quiet=True)
    with pytest.raises(UsageError, match="cannot be packed"):
        train(taught(sharp, packing=True), tmp_path, quiet=True)
