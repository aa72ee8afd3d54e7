"""Checkpoints that load, and those that are refused with a cure."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mnemos.core.errors import ModelError
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.models.load import Checkpoint, check_vocabulary, load_model, load_tokenizer
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_directory_loads_as_it_was_saved(original: Path) -> None:
    handle: ModelHandle = Checkpoint(str(original))
    model = handle.load()
    expected = tiny_model(tiny_tokenizer())
    for (name, a), (_, b) in zip(model.model.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(a.cpu().float(), b), name
    assert not model.model.training
    assert (model.name, model.fingerprint) == (str(original), handle.fingerprint)
    answer = model.generate([Prompt((Turn("user", "hello"),))], Decoding(max_new_tokens=3))[0]
    assert len(answer.ids) <= 3


def test_dtype_is_the_one_asked_for(original: Path) -> None:
    assert load_model(str(original)).dtype == torch.float32
    assert load_model(str(original), dtype="bfloat16").dtype == torch.bfloat16


def test_fingerprint_is_the_content_wherever_it_lies(original: Path, folder: Path) -> None:
    same = Checkpoint(str(original)).fingerprint
    assert Checkpoint(str(folder)).fingerprint == same
    (folder / "trainer_state.json").write_text("{}")
    assert Checkpoint(str(folder)).fingerprint == same
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        text = (folder / name).read_text()
        change(folder / name, something="else")
        assert Checkpoint(str(folder)).fingerprint != same, name
        (folder / name).write_text(text)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert Checkpoint(str(folder)).fingerprint != same


def test_fingerprint_follows_one_changed_weight(folder: Path) -> None:
    before = Checkpoint(str(folder)).fingerprint
    tensors = load_file(folder / "model.safetensors")
    tensors[next(iter(tensors))].view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert Checkpoint(str(folder)).fingerprint != before


def test_pickled_weights_need_consent(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    expected = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickle") as caught:
        load_model(str(folder))
    assert "allow_pickle" in caught.value.cure
    state = load_model(str(folder), allow_pickle=True).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert Checkpoint(str(folder)).fingerprint != Checkpoint(str(folder), allow_pickle=True).fingerprint


def test_remote_code_needs_consent(folder: Path) -> None:
    change(
        folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
    )
    (folder / "mine.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(ModelError) as caught:
        load_model(str(folder))
    assert "trust_remote_code" in caught.value.cure


@pytest.mark.parametrize("keep", [4, 200, -10])
def test_truncated_weights_name_the_file(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged"):
        load_model(str(folder))


def test_missing_things_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_model("./nowhere/at/all")
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(folder / "config.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config\.json.*is missing"):
        load_model(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(str(tmp_path / "empty"))
    (folder / "config.json").write_text("{broken")
    with pytest.raises(ModelError, match="is not JSON"):
        load_model(str(folder))


def test_tensors_that_the_files_lack_are_not_made_up(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors .*model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    load_model(str(folder)).save_pretrained(folder / "sharded", max_shard_size="40KB")
    shards = sorted((folder / "sharded").glob("*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        load_model(str(folder / "sharded"))


def test_fewer_embedding_rows_than_tokens_is_refused_and_more_is_fine(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    model = load_model(str(folder))
    rows = len(tokenizer)
    for size in (rows + 56, rows):
        model.resize_token_embeddings(size, mean_resizing=False)
        check_vocabulary(model, tokenizer, "here")
    model.resize_token_embeddings(rows - 1, mean_resizing=False)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=f"{rows - 1} embedding rows: its tokenizer has {rows} tokens"):
        Checkpoint(str(folder)).load()


def test_hub_ids_offline_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for ask in (
        lambda: Checkpoint("some-org/no-such-model").fingerprint,
        lambda: load_model("some-org/no-such-model@main"),
        lambda: load_tokenizer("some-org/no-such-model"),
    ):
        with pytest.raises(ModelError, match="neither a directory here nor a model") as caught:
            ask()
        assert "offline" in caught.value.cure


def test_a_hub_id_in_the_cache_loads_and_is_named_by_its_commit(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    commits = ["1" * 40, "2" * 40]
    for commit in commits:
        shutil.copytree(original, cache / "models--org--tiny" / "snapshots" / commit)
    refs = cache / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commits[0])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert constants.HF_HUB_OFFLINE
    first = Checkpoint("org/tiny")
    assert first.load().fingerprint == first.fingerprint
    (refs / "main").write_text(commits[1])
    assert Checkpoint("org/tiny").fingerprint != first.__class__("org/tiny@" + commits[0]).fingerprint


@PEFT
def test_an_adapter_directory_is_its_base_with_the_adapter(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(str(folder))
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = base(input_ids=ids).logits
    wrapped = get_peft_model(base, LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    wrapped.peft_config["default"].base_model_name_or_path = str(folder)
    expected = wrapped.eval()(input_ids=ids).logits
    adapter = tmp_path / "adapter"
    wrapped.save_pretrained(adapter)

    merged = load_model(str(adapter))
    assert not hasattr(merged, "disable_adapter")
    torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    kept = load_model(str(adapter), merge=False)
    torch.testing.assert_close(kept(input_ids=ids).logits, expected)
    with kept.disable_adapter():
        assert torch.equal(kept(input_ids=ids).logits, plain)
    assert hasattr(load_model(str(adapter), dtype="bfloat16"), "disable_adapter")

    assert Checkpoint(str(adapter)).load().tokenizer.get_vocab() == load_tokenizer(str(folder)).get_vocab()
    before = Checkpoint(str(adapter)).fingerprint
    change(folder / "config.json", something="else")
    assert Checkpoint(str(adapter)).fingerprint != before


@PEFT
def test_a_damaged_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(load_model(str(folder)), LoraConfig(target_modules=["q_proj"]))
    wrapped.peft_config["default"].base_model_name_or_path = str(folder)
    adapter = tmp_path / "adapter"
    wrapped.save_pretrained(adapter)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[next(iter(tensors))]
    save_file(tensors, file)
    with pytest.raises(ModelError, match="does not fit its base"):
        load_model(str(adapter))
    file.unlink()
    with pytest.raises(ModelError, match="holds no adapter_model"):
        load_model(str(adapter))
    change(adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="base_model_name_or_path"):
        load_model(str(adapter))


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, mnemos.models, mnemos.models.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
