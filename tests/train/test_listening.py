"""Training a language model that listens through the one loop, with the arms of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos.methods  # noqa: F401 - fills the catalogue
from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.method import apply
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.models.adapter_scale import lora_layers, lora_scale
from mnemos.models.load import Checkpoint, load_model
from mnemos.models.renderer import renderer_of
from mnemos.sources.read import read
from mnemos.train.likelihood import train
from mnemos.weights.lora import open_weights
from tests.models.speech.making import clip, tiny_listener
from tests.tiny import save_tiny

QUESTIONS = ("Who speaks?", "Which word?", "How long is it?", "Is it loud?")
ANSWERS = ("Ada.", "five", "short", "no")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        file = clip(folder, 0.4 + 0.1 * (number % 3), number)
        asked, answer = QUESTIONS[number % 4], ANSWERS[number % 4]
        lines.append(json.dumps({"audio": file.name, "question": asked, "answer": answer}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def texts(folder: Path) -> Path:
    lines = [{"prompt": f"What is {n} plus {n}?", "completion": f"The answer is {2 * n}."} for n in range(6)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "texts.jsonl"


def plan(model: Path, data: Path, arm: Sequence[dict[str, Any]] = (), **settings: Any) -> Plan:
    asked = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "bf16": False, **settings}
    made = Plan(
        examples=read(str(data)), before=Checkpoint(str(model)), task="new", seed=0, train=TrainSettings(**asked)
    )
    return apply(made, [{"output_only": {}}, *arm])


def state(place: Path | str) -> dict[str, torch.Tensor]:
    return {name: one.clone() for name, one in load_model(str(place)).state_dict().items()}


def moved(before: Path | str, after: Path | str) -> set[str]:
    one, other = state(before), state(after)
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def stored(place: Path | str) -> set[str]:
    from safetensors.torch import load_file

    return set(load_file(Path(place) / "model.safetensors"))


def test_a_step_moves_the_bridge_down_the_loss_of_the_answers(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    how = {"max_steps": 1, "per_device_train_batch_size": 4, "optim": "sgd", "max_grad_norm": 0.0}
    done = train(plan(model, data, **how), tmp_path / "out", quiet=True)
    network, renderer = load_model(str(model)), renderer_of(Checkpoint(str(model)))
    # Written out: each row by itself, mean over all tokens of answers.
    total, count = torch.zeros(()), 0
    for example in read(str(data)):
        tokens = renderer.render(example)
        ids, taught = torch.from_numpy(tokens.ids).long(), torch.from_numpy(tokens.output.copy())
        logits = network(input_ids=ids[None]).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits[taught[1:]], ids[1:][taught[1:]], reduction="sum")
        total, count = total + nll, count + int(taught[1:].sum())
    loss = total / count
    assert done.losses[-1][1] == pytest.approx(float(loss.detach()), rel=1e-4)
    loss.backward()
    after = state(done.model)
    for name, parameter in network.named_parameters():
        wanted = parameter.detach() - 1e-2 * parameter.grad if parameter.grad is not None else parameter.detach()
        assert torch.allclose(after[name], wanted, atol=1e-5), name
        assert (parameter.grad is not None) == name.startswith("bridge."), name
    # The directory holds the bridge and refers to what did not move.
    assert {name.split(".")[0] for name in stored(done.model)} == {"bridge"}
    config = json.loads((Path(done.model) / "config.json").read_text())
    assert config["language_model"] == str(model / "language")
    loaded: Any = Checkpoint(done.model).load()
    assert loaded.renderer.hear is not None


@pytest.mark.parametrize(
    "bridge", ["qformer", *(pytest.param(one, marks=pytest.mark.slow) for one in ("conv", "window_qformer", "cif"))]
)
def test_every_bridge_trains(bridge: str, tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m", bridge), rows(tmp_path / "data")
    done = train(plan(model, data), tmp_path / "out", quiet=True)
    names = moved(model, done.model)
    assert names
    assert all(name.startswith("bridge.") for name in names)


def test_rows_with_and_without_sounds_in_one_run(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    arm = [{"replay": {"data": str(texts(tmp_path)), "share_of_final": 0.5}}, {"kl_to_before": {"coefficient": 0.1}}]
    done = train(plan(model, data, arm, max_steps=-1, num_train_epochs=1), tmp_path / "out", quiet=True)
    assert done.counts["origin new"] == 4
    assert done.counts["origin replay"] == 4
    assert all(name.startswith("bridge.") for name in moved(model, done.model))


def test_the_language_model_moves_where_an_arm_says_so(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    done = train(plan(model, data, [{"only": {"pattern": r"^(bridge|language)\."}}]), tmp_path / "out", quiet=True)
    names = moved(model, done.model)
    assert any(name.startswith("language.") for name in names)
    assert names <= stored(done.model)
    # A second stage stands on what the first left, without a copy of it in between.
    more = train(plan(Path(done.model), data, [{"freeze": {"parts": ["norms"]}}]), tmp_path / "more", quiet=True)
    assert all(name.startswith("bridge.") for name in moved(done.model, more.model))


def test_factors_alone_leave_the_bridge(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    done = train(plan(model, data, [{"ia3": {}}]), tmp_path / "out", quiet=True)
    names = moved(model, done.model)
    assert names
    assert all(name.startswith("language.") for name in names)


@pytest.mark.parametrize("arm", [{"lora": {"rank": 2}}, {"lora": {"rank": 2, "targets": ["q_proj"]}}])
def test_adapters_on_the_language_model_with_the_bridge_beside_them(arm: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    done = train(plan(model, data, [arm, {"kl_to_before": {"coefficient": 0.1}}]), tmp_path / "out", quiet=True)
    names = set(load_file(Path(done.model) / "adapter_model.safetensors"))
    assert any(".bridge." in name for name in names)
    adapted = [name for name in names if "lora_" in name]
    assert adapted
    assert all(".language." in name for name in adapted)
    changed = moved(model, done.model)  # merged in memory
    assert any(name.startswith("bridge.") for name in changed)
    assert any(name.startswith("language.") for name in changed)


def test_a_merged_adapter_is_a_directory_of_its_own(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    done = train(plan(model, data, [{"lora": {"rank": 2}}], keep_merged=True), tmp_path / "out", quiet=True)
    merged, adapter = state(done.model), state(tmp_path / "out" / "adapter")
    assert all(torch.allclose(merged[name], adapter[name], atol=1e-5) for name in adapter)
    assert any(name.startswith("language.") for name in stored(done.model))


@pytest.mark.slow
def test_halfway_between_before_and_after(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    arm = [{"weights": {"expression": "before + 0.5*(after - before)"}}]
    done = train(plan(model, data, arm), tmp_path / "out", quiet=True)
    whole = train(plan(model, data), tmp_path / "whole", quiet=True)
    before, after, half = state(model), state(whole.model), state(done.model)
    for name, one in half.items():
        assert torch.allclose(one, (before[name] + after[name]) / 2, atol=1e-5), name


@pytest.mark.slow
def test_a_penalty_on_how_far_the_bridge_moves(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    arm = [{"ewc": {"data": str(data), "coefficient": 10.0}}]
    done = train(plan(model, data, arm), tmp_path / "out", quiet=True)
    assert moved(model, done.model)


def test_sounds_that_cannot_be_heard_are_counted(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data", 3)
    (data.parent / "broken.wav").write_bytes(b"no sound")
    with open(data, "a") as file:
        for name in ("broken.wav", "none.wav"):
            file.write("\n" + json.dumps({"audio": name, "question": "Who?", "answer": "Ada"}))
    done = train(plan(model, data), tmp_path / "out", quiet=True)
    assert done.counts["left out: damaged audio"] == 1
    assert done.counts["left out: no such file"] == 1
    assert done.counts["examples"] == 3


def test_conversations_in_parts(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data", 2)
    lines = []
    for line in data.read_text().splitlines():
        row = json.loads(line)
        parts = [{"type": "audio", "audio": row["audio"]}, {"type": "text", "text": f"\n{row['question']}"}]
        chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": row["answer"]}]
        lines.append(json.dumps({"messages": chat}))
    (data.parent / "chats.jsonl").write_text("\n".join(lines))
    chats = read(str(data.parent / "chats.jsonl"))
    assert [example.turns for example in chats] == [example.turns for example in read(str(data))]
    before = chats.fingerprint
    (data.parent / "0-0.4.wav").write_bytes(clip(tmp_path / "other", 0.4, 9).read_bytes())
    assert read(str(data.parent / "chats.jsonl")).fingerprint != before
    done = train(plan(model, data.parent / "chats.jsonl", max_steps=1), tmp_path / "out", quiet=True)
    assert done.counts["examples"] == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"audio": "a.wav", "question": "Who?", "answer": " "}, "is empty"),
        ({"audio": "a.wav", "question": "", "answer": "Ada"}, "question: is empty"),
        ({"audio": "a.wav", "instruction": "Who?", "label": 3}, "must be text"),
        ({"audio": 3, "question": "Who?", "answer": "Ada"}, "must be the path"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": "https://a.b/c.wav"}]}]}, "downloaded"),
        ({"messages": [{"role": "system", "content": [{"type": "audio", "audio": "a.wav"}]}]}, "user's turn alone"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}, {"type": "image"}]}]}, "path of a sound"),
    ],
)
def test_rows_that_cannot_be_meant(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=words):
        list(read(str(tmp_path / "rows.jsonl")))


def test_dynamic_superbs_names_are_known(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,instruction,label\na.wav,Who speaks?,Ada\n")
    [example] = read(str(tmp_path))
    assert example.turns[0].sounds[0].path == str(tmp_path / "a.wav")
    assert (example.turns[0].text, example.turns[1].text) == ("\nWho speaks?", "Ada")


def test_adapters_at_sounds_alone_leave_text_bit_for_bit(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    arm = [{"lora": {"rank": 2, "positions": "sounds"}}]
    done = train(plan(model, data, arm, max_steps=3, learning_rate=0.1), tmp_path / "out", quiet=True)
    before, after = load_model(str(model)), load_model(done.model)
    assert hasattr(after, "peft_config")  # no weights do what it does
    renderer = renderer_of(Checkpoint(done.model))
    text = torch.tensor([renderer.tokenizer("What is two plus three?")["input_ids"]])
    example = next(iter(read(str(data))))
    sound = torch.from_numpy(renderer.render(example).ids).long()[None]
    with torch.no_grad():
        assert torch.equal(after(input_ids=text).logits, before(input_ids=text).logits)
        heard = after(input_ids=sound).logits
        # Without the masks, adapters would count at places of text too.
        after.base_model.model.sounds = None
        for layer in lora_layers(after):
            for module in layer.lora_B.values():
                module._forward_hooks.clear()
        assert not torch.allclose(after(input_ids=sound).logits, heard, atol=1e-4)
        assert not torch.equal(after(input_ids=text).logits, before(input_ids=text).logits)


def test_adapters_at_sounds_alone_cannot_be_merged(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    arm = [{"lora": {"rank": 2, "positions": "sounds"}}]
    with pytest.raises(UsageError, match="cannot be merged"):
        plan(model, data, arm, keep_merged=True)
    done = train(plan(model, data, arm, max_steps=1), tmp_path / "out", quiet=True)
    with pytest.raises(ModelError, match="cannot be merged"):
        load_model(done.model, merge=True)
    with pytest.raises(ModelError, match="cannot be merged"):
        open_weights("adapter", Path(done.model))
    with pytest.raises(ModelError, match="hears nothing"):
        train(plan(save_tiny(tmp_path / "text"), texts(tmp_path), arm), tmp_path / "wrong", quiet=True)


def test_a_scale_of_adapters_lies_between_without_and_with(tmp_path: Path) -> None:
    model, data = tiny_listener(tmp_path / "m"), rows(tmp_path / "data")
    done = train(plan(model, data, [{"lora": {"rank": 2}}], max_steps=2), tmp_path / "out", quiet=True)
    example = next(iter(read(str(data))))
    ids = torch.from_numpy(renderer_of(Checkpoint(done.model)).render(example).ids).long()[None]

    def logits(network: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = network(input_ids=ids).logits
        return found

    beside = load_model(done.model, merge=False)
    whole = logits(beside)
    # At 0 the language model is as it came, behind the trained bridge.
    without = load_model(str(model))
    without.bridge.load_state_dict(load_model(done.model).bridge.state_dict())
    with lora_scale(beside, 0.0):
        assert torch.allclose(logits(beside), logits(without), atol=1e-5)
    assert torch.equal(logits(beside), whole)
    # At one half it is what weights with half of the product give.
    merged = load_model(done.model)
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            parameter.copy_((parameter + merged.state_dict()[name]) / 2)
    half: Any = Checkpoint(done.model, lora_scale=0.5).load()
    assert torch.allclose(logits(half.model), logits(without), atol=1e-4)
    assert Checkpoint(done.model, lora_scale=0.5).fingerprint != Checkpoint(done.model).fingerprint
    for wrong in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="from 0 on"), lora_scale(beside, wrong):
            pass
    with pytest.raises(UsageError, match="needs adapters beside"):
        Checkpoint(str(model), lora_scale=0.5).load()


def test_a_merge_of_directories_names_the_parts_of_the_first(tmp_path: Path) -> None:
    from mnemos.weights.expression import parse
    from mnemos.weights.write import combine

    models = {name: tiny_listener(tmp_path / name) for name in ("a", "b")}
    combine(parse("0.5*a + 0.5*b"), models, tmp_path / "merged", parent="a")
    assert not (tmp_path / "merged" / "language").exists()
    merged, a, b = state(tmp_path / "merged"), state(models["a"]), state(models["b"])
    for name, one in merged.items():
        assert torch.allclose(one, (a[name] + b[name]) / 2 if name.startswith("bridge.") else a[name], atol=1e-6), name
