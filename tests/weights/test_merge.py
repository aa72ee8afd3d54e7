"""Whole merges: vocabularies, heads of other tasks, adapters, damage, kills."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mnemos.core.errors import MnemosError, ModelError, RunError, UsageError
from mnemos.models.load import Checkpoint, load_model
from mnemos.weights import shards
from mnemos.weights.card import add_table, identify
from mnemos.weights.checkpoint import load_tokenizer
from mnemos.weights.expression import parse
from mnemos.weights.merge import How, Merged
from mnemos.weights.write import combine
from tests.tiny import save_tiny, tiny_tokenizer
from tests.weights.checkpoints import some, tensors, write

EMBEDDING, HEAD, INNER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"


def merged(text: str, places: dict[str, Path], out: Path, parent: str, **how: Any) -> Merged:
    return combine(parse(text), places, out, parent=parent, how=How(**how))


@pytest.fixture
def trio(tmp_path: Path) -> dict[str, Path]:
    """base, a and b, alike in everything but their numbers."""
    return {name: write(tmp_path / name, some(i)) for i, name in enumerate(("base", "a", "b"))}


# --- vocabularies -------------------------------------------------------------------------------

WORDS = ["<unk>", "alpha", "beta", "gamma"]


@pytest.fixture
def chinese(tmp_path: Path) -> dict[str, Path]:
    """cp with two words more, chat with a turn token more, base with neither (Chinese-LLaMA)."""
    return {
        "cp": write(tmp_path / "cp", some(0, rows=6), [*WORDS, "你", "好"], eos_token_id=0),
        "base": write(tmp_path / "base", some(1, rows=4), WORDS),
        "chat": write(tmp_path / "chat", some(2, rows=5), WORDS, special=("<|end|>",), template="{{ messages }}",
                      eos_token_id=4),
    }  # fmt: skip


def test_other_vocabularies_are_refused_with_both_ways_out(chinese: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="2 tokens differ") as caught:
        merged("cp + 0.5*(chat - base)", chinese, tmp_path / "out", "cp")
    assert "embeddings=align" in caught.value.cure
    assert "embeddings=skip" in caught.value.cure


def test_rows_of_equal_tokens_are_added_and_the_others_kept(chinese: dict[str, Path], tmp_path: Path) -> None:
    done = merged("cp + 0.5*(chat - base)", chinese, tmp_path / "out", "cp", embeddings="align")
    cp, base, chat = (tensors(chinese[name]) for name in ("cp", "base", "chat"))
    out = tensors(tmp_path / "out")
    for key in (EMBEDDING, HEAD):
        shared = cp[key][:4] + 0.5 * (chat[key][:4] - base[key])
        torch.testing.assert_close(out[key][:4], shared)
        assert torch.equal(out[key][4:6], cp[key][4:6])  # 你 and 好: nothing is known of them elsewhere
        assert torch.equal(out[key][6], chat[key][4])  # <|end|>: from the model whose template is used
        assert len(out[key]) == 7
    torch.testing.assert_close(out[INNER], cp[INNER] + 0.5 * (chat[INNER] - base[INNER]))
    assert done.who.tokenizer == "cp"
    assert done.who.template == "chat"
    notes = "\n".join(done.notes)
    assert "2 tokens ('你', '好'): rows kept from cp, because chat and base lack them" in notes
    assert "1 token ('<|end|>'): rows kept from chat" in notes
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (7, 6)
    tokenizer = load_tokenizer(str(tmp_path / "out"))
    assert tokenizer.convert_tokens_to_ids(["alpha", "好", "<|end|>"]) == [1, 5, 6]
    assert tokenizer.chat_template == "{{ messages }}"


def test_skip_keeps_every_row_of_the_tokenizers_model(chinese: dict[str, Path], tmp_path: Path) -> None:
    done = merged("cp + 0.5*(chat - base)", chinese, tmp_path / "out", "cp", embeddings="skip")
    cp, chat, out = tensors(chinese["cp"]), tensors(chinese["chat"]), tensors(tmp_path / "out")
    for key in (EMBEDDING, HEAD):
        assert torch.equal(out[key][:6], cp[key])
        assert torch.equal(out[key][6], chat[key][4])
    assert any("nothing computed" in note for note in done.notes)


def test_rows_are_found_by_token_and_not_by_place(tmp_path: Path) -> None:
    places = {"a": write(tmp_path / "a", some(0, rows=4), WORDS),
              "b": write(tmp_path / "b", some(1, rows=4), [WORDS[0], *reversed(WORDS[1:])])}  # fmt: skip
    merged("0.25*a + 0.75*b", places, tmp_path / "out", "a", embeddings="align")
    a, b, out = tensors(places["a"]), tensors(places["b"]), tensors(tmp_path / "out")
    torch.testing.assert_close(out[EMBEDDING], 0.25 * a[EMBEDDING] + 0.75 * b[EMBEDDING][[0, 3, 2, 1]])
    merged("0.25*a + 0.75*b", places, tmp_path / "other", "a", embeddings="align", tokenizer="b")
    other = tensors(tmp_path / "other")
    torch.testing.assert_close(other[EMBEDDING], out[EMBEDDING][[0, 3, 2, 1]])
    assert json.loads((tmp_path / "other" / "tokenizer.json").read_text())["model"]["vocab"]["alpha"] == 3


def test_padding_rows_are_the_donors(tmp_path: Path) -> None:
    """Qwen's checkpoints differ in how far their embedding is padded."""
    places = {"a": write(tmp_path / "a", some(0, rows=8), WORDS), "b": write(tmp_path / "b", some(1, rows=5), WORDS)}
    merged("0.5*a + 0.5*b", places, tmp_path / "out", "a", embeddings="align")
    a, b, out = (tensors(place)[EMBEDDING] for place in (*places.values(), tmp_path / "out"))
    torch.testing.assert_close(out[:4], 0.5 * a[:4] + 0.5 * b[:4])
    assert torch.equal(out[4:], a[4:])


def test_ties_over_kept_rows_counts_only_the_others(chinese: dict[str, Path], tmp_path: Path) -> None:
    text = "ties(base, chat, cp, density=0.5)"
    made = merged(text, chinese, tmp_path / "out", "cp", embeddings="align", template="cp")
    plain = {n: write(tmp_path / f"{n}4", {k: v[:4] if k in (EMBEDDING, HEAD) else v for k, v in tensors(p).items()})
             for n, p in chinese.items()}  # fmt: skip
    assert made.kept == merged(text, plain, tmp_path / "plain", "cp").kept
    out, small = tensors(tmp_path / "out"), tensors(tmp_path / "plain")
    torch.testing.assert_close(out[EMBEDDING][:4], small[EMBEDDING])


def test_the_chat_model_gives_template_and_tokens_where_vocabularies_agree(tmp_path: Path) -> None:
    """A base keeps the rows unused that its chat model names."""
    cp = write(tmp_path / "cp", some(0), WORDS)
    base = write(tmp_path / "base", some(1), WORDS)
    chat = write(tmp_path / "chat", some(2), WORDS, special=("<|end|>",), template="T", eos_token_id=4)
    (chat / "generation_config.json").write_text('{"eos_token_id": 4}')
    done = merged("cp + chat - base", {"cp": cp, "base": base, "chat": chat}, tmp_path / "out", "cp")
    assert (done.who.trunk, done.who.tokenizer, done.who.template) == ("cp", "chat", "chat")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "T"
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {"eos_token_id": 4}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 4
    got = {name: tensors(place)[EMBEDDING] for name, place in (("cp", cp), ("base", base), ("chat", chat))}
    torch.testing.assert_close(tensors(tmp_path / "out")[EMBEDDING], got["cp"] + got["chat"] - got["base"])


def test_no_tokenizer_and_other_shapes_cannot_be_aligned(tmp_path: Path) -> None:
    places = {"a": write(tmp_path / "a", some(0, rows=4)), "b": write(tmp_path / "b", some(1, rows=5), [*WORDS, "x"])}
    for way in ("same", "align"):
        with pytest.raises(ModelError, match="tokenizer"):
            merged("a + b", places, tmp_path / "out", "a", embeddings=way)


def test_tokens_of_tokenizers_without_tokenizer_json(tmp_path: Path) -> None:
    from mnemos.weights.vocabulary import read_vocabulary

    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "added_tokens.json").write_text('{"<x>": 2}')
    found = read_vocabulary(tmp_path, 3)
    assert found is not None
    assert found.all == {"a": 0, "b": 1, "<x>": 2}
    assert read_vocabulary(tmp_path / "none", 3) is None


# --- heads of other tasks -------------------------------------------------------------------------


def test_a_reward_model_keeps_its_head(tmp_path: Path) -> None:
    """DogeRM: the trunk is merged, the score head is the reward model's, the LM head is dropped."""
    lm = some(0)
    rm = {key: value for key, value in some(1).items() if key != HEAD} | {"score.weight": torch.ones(1, 8)}
    places = {
        "rm": write(tmp_path / "rm", rm, architectures=["LlamaForSequenceClassification"], num_labels=1),
        "lm": write(tmp_path / "lm", lm),
        "base": write(tmp_path / "base", some(2)),
    }
    merged("rm + 0.3*(lm - base)", places, tmp_path / "out", "rm")
    out, base = tensors(tmp_path / "out"), tensors(places["base"])
    assert out.keys() == rm.keys()
    assert torch.equal(out["score.weight"], rm["score.weight"])
    torch.testing.assert_close(out[INNER], rm[INNER] + 0.3 * (lm[INNER] - base[INNER]))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]
    merged("0.6*lm + 0.4*rm", places, tmp_path / "back", "lm")
    back = tensors(tmp_path / "back")
    assert back.keys() == lm.keys()
    assert torch.equal(back[HEAD], lm[HEAD])
    torch.testing.assert_close(back[INNER], 0.6 * lm[INNER] + 0.4 * rm[INNER])


def test_real_sequence_classifiers_merge_and_load(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    save_tiny(tmp_path / "lm", seed=1)
    for name, seed in (("rm", 2), ("one", 3)):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "lm", num_labels=1)
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    places = {"rm": tmp_path / "rm", "lm": tmp_path / "lm"}
    merged("0.5*rm + 0.5*lm", places, tmp_path / "out", "rm")
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(loaded.score.weight, tensors(tmp_path / "rm")["score.weight"])


def test_a_bare_trunk_is_found_without_its_prefix(trio: dict[str, Path], tmp_path: Path) -> None:
    bare = {k.removeprefix("model."): v for k, v in tensors(trio["b"]).items() if k != HEAD}
    trio["b"] = write(tmp_path / "bare", bare, architectures=["LlamaModel"])
    merged("0.5*a + 0.5*b", trio, tmp_path / "out", "a")
    out, a = tensors(tmp_path / "out"), tensors(trio["a"])
    torch.testing.assert_close(out[INNER], 0.5 * a[INNER] + 0.5 * bare[INNER.removeprefix("model.")])
    assert torch.equal(out[HEAD], a[HEAD])


# --- adapters and differences -----------------------------------------------------------------------

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ["q_proj", "up_proj"]},
    "rslora": {"use_rslora": True, "target_modules": "all-linear"},
    "patterns": {
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {r"layers.0.*": 7},
    },
    "dora": {"use_dora": True, "target_modules": ["q_proj", "up_proj"]},
    "head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


def adapter(folder: Path, base: Path, seed: int = 0, **config: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(load_model(str(base)), LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **config))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_a_checkpoint(kind: str, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    made = adapter(tmp_path / "adapter", base, **ADAPTERS[kind])
    merged("tuned", {"tuned": made}, tmp_path / "out", "tuned")
    expected = load_model(str(made), merge=True).state_dict()
    start = tensors(base)
    found = load_model(str(tmp_path / "out")).state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(value, start[key]) for key, value in tensors(tmp_path / "out").items())
    merged("2*base - tuned", {"tuned": made, "base": base}, tmp_path / "away", "base")
    key = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(tensors(tmp_path / "away")[key], 2 * start[key] - expected[key], atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_of_a_turned_layer(tmp_path: Path) -> None:
    """GPT-2 stores its matrices transposed."""
    base = save_tiny(tmp_path / "base", "gpt2")
    made = adapter(tmp_path / "adapter", base, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    merged("tuned", {"tuned": made}, tmp_path / "out", "tuned")
    expected, found = (
        load_model(str(p), **how).state_dict() for p, how in ((made, {"merge": True}), (tmp_path / "out", {}))
    )
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "kind IA3"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"lora_bias": True}, "lora_bias"),
        ({"use_dora": True, "fan_in_fan_out": True}, "use_dora with fan_in_fan_out"),
        ({"base_model_name_or_path": "nowhere/base"}, "neither a directory here"),
    ],
)
def test_adapters_that_cannot_be_added(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    base = write(tmp_path / "base", some(0))
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(base), **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"base_model.model.x.lora_A.weight": torch.ones(2, 8)}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=words):
        merged("t", {"t": folder}, tmp_path / "out", "t")


def test_adapter_tensors_that_fit_nothing(tmp_path: Path) -> None:
    write(tmp_path / "base", some(0))
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "../base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    head = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({f"{head}A.weight": torch.ones(2, 8), f"{head}B.weight": torch.ones(9, 2)}, r"update of shape \[9, 8\]"),
        ({f"{head}A.weight": torch.ones(2, 8)}, "not adapted in a way"),
        ({"base_model.model.nothing.weight": torch.ones(2, 8)}, "no counterpart"),
        ({"base_model.model.lm_head.weight": torch.ones(2, 8)}, r"shape \[2, 8\]"),
    ]
    for values, words in wrong:
        save_file(values, folder / "adapter_model.safetensors")
        with pytest.raises(ModelError, match=words):
            merged("t", {"t": folder}, tmp_path / "out", "t")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no adapter_model"):
        merged("t", {"t": folder}, tmp_path / "out", "t")


def test_a_saved_difference_is_a_name(trio: dict[str, Path], tmp_path: Path) -> None:
    done = merged("a - base", trio, tmp_path / "tau", "a", vector=True, shard_size=1000)
    assert set(done.dtypes) == {"float32"}
    places = {**trio, "tau": tmp_path / "tau"}
    merged("b + 0.5*tau", places, tmp_path / "out", "b")
    base, a, b, out = (tensors(place)[INNER] for place in (*trio.values(), tmp_path / "out"))
    torch.testing.assert_close(out, b + 0.5 * (a - base))
    with pytest.raises(UsageError, match="saved difference"):
        merged("tau", places, tmp_path / "no", "tau")
    with pytest.raises(MnemosError):
        load_model(str(tmp_path / "tau"))


# --- what is refused -------------------------------------------------------------------------------


def test_inputs_are_checked_before_anything_is_written(trio: dict[str, Path], tmp_path: Path) -> None:
    def refused(words: str, text: str = "a + b", **how: Any) -> None:
        with pytest.raises(MnemosError, match=words):
            merged(text, trio, tmp_path / "new" / "out", "a", **how)
        assert not (tmp_path / "new").exists()

    good = {name: (trio["b"] / name).read_bytes() for name in ("model.safetensors", "config.json")}
    (trio["b"] / "model.safetensors").write_bytes(good["model.safetensors"][:-8])
    refused("damaged")
    (trio["b"] / "model.safetensors").write_bytes(b"\xff" * 64)
    refused("damaged")
    (trio["b"] / "model.safetensors").unlink()
    (trio["b"] / "model-00001-of-00002.safetensors").write_bytes(good["model.safetensors"])
    refused("neither")
    index = {"weight_map": {EMBEDDING: "model-00001-of-00002.safetensors", HEAD: "model-00002-of-00002.safetensors"}}
    (trio["b"] / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("model-00002-of-00002.safetensors: is named by the index but missing")
    (trio["b"] / "model.safetensors.index.json").unlink()
    (trio["b"] / "model-00001-of-00002.safetensors").rename(trio["b"] / "pytorch_model.bin")
    refused("pickle")
    (trio["b"] / "pytorch_model.bin").unlink()
    refused("no .*safetensors")
    (trio["b"] / "model.safetensors").write_bytes(good["model.safetensors"])
    (trio["b"] / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    refused(r"quantised \(gptq\)")
    (trio["b"] / "config.json").write_bytes(good["config.json"])
    save_file({**tensors(trio["b"]), INNER: torch.ones(12, 8, dtype=torch.uint8)}, trio["b"] / "model.safetensors")
    refused(r"up_proj.weight in .*: is stored as U8")
    save_file({**tensors(trio["a"]), INNER: torch.ones(12, 8).to(torch.float8_e4m3fn)}, trio["b"] / "model.safetensors")
    refused("stored as F8_E4M3")
    save_file({**tensors(trio["a"]), INNER: torch.ones(12, 9)}, trio["b"] / "model.safetensors")
    refused(r"tensor model.layers.1.mlp.up_proj.weight: shape \[12, 8\] in a: shape \[12, 9\] in b")
    refused("dtype 'bf16'", dtype="bf16")
    refused("did you mean 'base'", text="a + bsae")
    refused("soup is chosen by measuring", text="soup(a, base)")


def test_files_beside_an_index_that_nobody_names_are_refused(trio: dict[str, Path], tmp_path: Path) -> None:
    (trio["a"] / "model.safetensors").rename(trio["a"] / "consolidated.safetensors")
    with pytest.raises(ModelError, match=r"holds consolidated.safetensors but neither model.safetensors"):
        merged("a", trio, tmp_path / "out", "a")


@pytest.mark.parametrize("text", ["0.5*a + 0.5*b", "ties(base, a, b)", "dare(base, a, b)", "breadcrumbs(base, b)", "b"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(text: str, value: float, trio: dict[str, Path], tmp_path: Path) -> None:
    broken = tensors(trio["b"])
    broken[INNER][3, 2] = value
    save_file(broken, trio["b"] / "model.safetensors")
    with pytest.raises(ModelError, match=rf"tensor {INNER} of .*not finite") as caught:
        merged(text, trio, tmp_path / "out", "base")
    assert caught.value.cure.startswith("b is broken there")
    assert not (tmp_path / "out").exists()
    merged(text, trio, tmp_path / "out", "base", allow_nonfinite=True)
    assert not tensors(tmp_path / "out")[INNER].isfinite().all()


def test_what_overflows_is_named(trio: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not finite in torch.float16") as caught:
        merged("1e6*a", trio, tmp_path / "out", "a", dtype="float16")
    assert "too large" in caught.value.cure


def test_what_looks_wrong_is_said_with_its_number(trio: dict[str, Path], tmp_path: Path) -> None:
    done = merged("a + b", trio, tmp_path / "one", "a")
    assert any("add up to 2, not 1" in line for line in done.warnings)
    assert any("cosine between their weights is" in line for line in done.warnings)
    near = {key: value + 0.01 * torch.randn_like(value) for key, value in tensors(trio["a"]).items()}
    trio["near"] = write(tmp_path / "near", near)
    assert merged("0.5*a + 0.5*near", trio, tmp_path / "two", "a").warnings == ()
    trio["half"] = write(tmp_path / "half", {k: v.bfloat16() for k, v in near.items()}, model_type="mistral")
    trio["again"] = trio["a"]
    warnings = merged("mean(a, half, again)", trio, tmp_path / "three", "a").warnings
    assert any("half is a mistral, a a llama" in line for line in warnings)
    assert any("a and again are the same directory" in line for line in warnings)
    assert tensors(tmp_path / "three")[INNER].dtype == torch.float32


def test_dtypes_are_worth_a_word_only_where_the_result_holds_less(trio: dict[str, Path], tmp_path: Path) -> None:
    near = {key: value + 0.01 * torch.randn_like(value) for key, value in tensors(trio["a"]).items()}
    for name, dtype in (("bf", torch.bfloat16), ("half", torch.float16)):
        trio[name] = write(tmp_path / name, {key: value.to(dtype) for key, value in near.items()})

    def warned(trunk: str, other: str) -> bool:
        done = merged(f"0.5*{trunk} + 0.5*{other}", trio, tmp_path / f"{trunk}-{other}", trunk)
        return any("dtypes differ" in line and trunk in line and other in line for line in done.warnings)

    assert not warned("a", "bf")
    assert not warned("a", "half")
    assert warned("bf", "a")
    assert warned("half", "a")
    assert warned("bf", "half")
    assert warned("half", "bf")


def test_shards_index_and_card(trio: dict[str, Path], tmp_path: Path) -> None:
    done = merged("ties(base, a, b)", trio, tmp_path / "out", "base", shard_size=250, dtype="bfloat16", card=True)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = sorted(tmp_path.glob("out/*.safetensors"))
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert index["metadata"]["total_size"] == done.bytes == sum(2 * v.numel() for v in tensors(trio["a"]).values())
    assert len(files) > 3
    for file in files:
        values = load_file(file)
        assert len(values) == 1 or sum(v.nbytes for v in values.values()) <= 250
        assert all(index["weight_map"][key] == file.name for key in values)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "ties(base, a, b)" in card
    for name, place in trio.items():
        assert f"| `{name}` | {name} | `{Checkpoint(str(place)).fingerprint}` |" in card
    add_table(tmp_path / "out", "| suite |")
    assert (tmp_path / "out" / "README.md").read_text() == card + "\n## Measured\n\n| suite |\n"


def test_what_ties_kept_is_said_where_it_is_more_than_was_asked_for(tmp_path: Path) -> None:
    """Deltas of one step of bfloat16 each: the threshold is their one size, so all of them are kept."""
    base = {key: torch.ones_like(value).bfloat16() for key, value in some(0).items()}
    torch.manual_seed(0)
    steps = {key: (torch.rand(value.shape) < 0.4).float() * 2**-7 for key, value in base.items()}
    places = {
        "base": write(tmp_path / "base", base),
        "a": write(tmp_path / "a", {key: (value + steps[key]).bfloat16() for key, value in base.items()}),
        "b": write(tmp_path / "b", base),
    }
    share = sum(int(value.count_nonzero()) for value in steps.values()) / sum(v.numel() for v in steps.values())
    wanted = sum(max(round(0.2 * value.numel()), 1) for value in steps.values()) / sum(
        value.numel() for value in steps.values()
    )
    for exact, kept in ((0, share), (1, wanted)):
        text = f"ties(base, a, b, density=0.2, exact={exact})"
        done = merged(text, places, tmp_path / f"out {exact}", "base", card=True)
        written = str(parse(text))
        assert done.kept[written]["asked"] == 0.2
        ((name, found), (other, none)) = done.kept[written]["kept"]
        assert (name, other, none) == ("a", "b", 0)
        assert found == pytest.approx(kept, abs=1e-5)
        line = f"{written} kept {kept:.1%} of a, 0.0% of b; asked for 20.0%"
        line += ": equal sizes at the threshold are all kept, exact=1 takes exactly the share" * (1 - exact)
        assert f"- {line}\n" in (tmp_path / f"out {exact}" / "README.md").read_text()
        card = json.loads((tmp_path / f"out {exact}" / "mnemos_merge.json").read_text())
        assert card["kept"][written]["kept"][0] == ["a", found]


def test_threads_change_nothing(trio: dict[str, Path], tmp_path: Path) -> None:
    for threads in (1, 3):
        merged("della(base, a, b)", trio, tmp_path / str(threads), "base", threads=threads)
    files = [(tmp_path / str(threads) / "model.safetensors").read_bytes() for threads in (1, 3)]
    assert files[0] == files[1]


# --- kills and full disks --------------------------------------------------------------------------

CHILD = """
import sys, time
from pathlib import Path
from mnemos.weights.expression import parse
from mnemos.weights import shards
from mnemos.weights.merge import How
from mnemos.weights.write import combine
real = shards._write
def slow(*given):
    real(*given)
    time.sleep(0.3)
shards._write = slow
root = Path(sys.argv[1])
places = {name: root / name for name in ("base", "a", "b")}
combine(parse("dare(base, a, b, drop=0.5)"), places, root / "out", parent="base", how=How(shard_size=500, card=True))
"""


def test_a_killed_merge_continued_equals_the_unbroken(trio: dict[str, Path], tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)])
    partial = tmp_path / ".out.partial"
    deadline = time.monotonic() + 120
    while len(list(partial.glob("model-*.safetensors"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert not (partial / "config.json").exists()  # nothing that looks like a model
    how: dict[str, Any] = {"shard_size": 500, "card": True}
    done = merged("dare(base, a, b, drop=0.5)", trio, tmp_path / "out", "base", **how)
    assert done.resumed >= 3
    merged("dare(base, a, b, drop=0.5)", trio, tmp_path / "unbroken", "base", **how)
    names = sorted(path.name for path in (tmp_path / "unbroken").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
    assert not partial.exists()


def test_a_full_disk_half_way(trio: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = shards._write, []

    def full(one: Any, *rest: Any) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(one.name)
        real(one, *rest)

    monkeypatch.setattr(shards, "_write", full)
    with pytest.raises(RunError, match="disk is full"):
        merged("0.5*a + 0.5*b", trio, tmp_path / "out", "a", shard_size=500)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shards, "_write", real)
    assert merged("0.5*a + 0.5*b", trio, tmp_path / "out", "a", shard_size=500).resumed == 2
    merged("0.5*a + 0.5*b", trio, tmp_path / "whole", "a", shard_size=500)
    assert all(torch.equal(v, tensors(tmp_path / "whole")[k]) for k, v in tensors(tmp_path / "out").items())


def test_too_small_a_disk_is_seen_before_writing(
    trio: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 0, 100))  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"the disk is full: .* bytes are needed, 100 free"):
        merged("a", trio, tmp_path / "out", "a")


def test_another_expression_does_not_continue_a_killed_one(
    trio: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shards._write

    def killed(one: Any, *rest: Any) -> None:
        real(one, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        merged("a", trio, tmp_path / "out", "a", shard_size=500)
    monkeypatch.setattr(shards, "_write", real)
    assert merged("b", trio, tmp_path / "out", "a", shard_size=500).resumed == 0
    assert torch.equal(tensors(tmp_path / "out")[INNER], tensors(trio["b"])[INNER])


def test_two_at_once_are_refused(trio: dict[str, Path], tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".out.lock"), pytest.raises(RunError, match="another process"):
        merged("a", trio, tmp_path / "out", "a")


def test_a_large_checkpoint_is_named_by_a_sample(
    trio: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemos.weights.card.WHOLE", 100)
    first, other = identify(trio["a"]), identify(trio["b"])
    assert first.startswith("sample-")
    assert first != other
    shutil.copytree(trio["a"], tmp_path / "copy")
    assert identify(tmp_path / "copy") == first
