"""GGUF files as models: the directory that is written holds what the file was made of, and faults are named."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GgufConfig

from mnemos.core.cache import models_folder
from mnemos.core.errors import ModelError, RunError
from mnemos.core.places import model_location
from mnemos.models.load import Checkpoint, load_model
from mnemos.weights import gguf_convert
from mnemos.weights.adapter import quiet_peft
from mnemos.weights.checkpoint import load_tokenizer, named, resolve
from mnemos.weights.expression import parse
from mnemos.weights.gguf_header import read_header
from mnemos.weights.write import combine
from tests.tiny import save_tiny, tiny_tokenizer
from tests.weights.gguf_files import write_gguf

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
WIDE = {**SHAPE, "head_dim": 32}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**SHAPE, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {**SHAPE, "tie_word_embeddings": True}),
    # heads wider than hidden_size / heads, which transformers takes to be 128 wide
    "qwen3": ("Qwen3Config", WIDE),
    "gemma2": ("Gemma2Config", {**WIDE, "sliding_window": 16}),
    "gemma3": ("Gemma3TextConfig", {**WIDE, "sliding_window": 16}),
    "phi3": ("Phi3Config", SHAPE),
    "gpt2": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "starcoder2": ("Starcoder2Config", {**SHAPE, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
}
IDS = (torch.arange(60) * 7)[None] % 300
TEXTS = ("What is 1234 + 55?", "<|im_start|>user\nhello  world's café 汉字<|im_end|>\n", " two  spaces\n\n\tand a tab")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))


def made(arch: str, seed: int = 0, tokenizer: Any = None, **more: Any) -> tuple[Any, Any]:
    """A tiny model with weights far from their start, so that a norm or a rotation that is wrong shows."""
    tokenizer = tokenizer or tiny_tokenizer()
    name, shape = CONFIGS[arch]
    special = {f"{k}_token_id": getattr(tokenizer, f"{k}_token_id") for k in ("bos", "eos", "pad")}
    torch.manual_seed(seed)
    config = getattr(transformers, name)(**{"vocab_size": len(tokenizer), **special, **shape, **more})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.ndim == 2 else parameter.add_(0.1 * torch.randn_like(parameter))
    return model, tokenizer


def own_tokenizer(arch: str, adds_bos: bool = True) -> Any:
    """The tiny tokenizer, cut into words as the architecture's are."""
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    if arch == "qwen2":
        split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    return tokenizer


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(IDS).logits
    return out


@pytest.mark.parametrize("arch", sorted(CONFIGS))
def test_every_architecture_computes_what_the_original_does(arch: str, tmp_path: Path) -> None:
    model, tokenizer = made(arch)
    file = write_gguf(
        tmp_path / "m.gguf", model, tokenizer, arch, pre="qwen2" if arch in ("qwen2", "qwen3") else "gpt-2"
    )
    assert float((logits(load_model(str(file))) - logits(model)).abs().max()) == 0
    assert sorted(CONFIGS) == sorted(gguf_convert.ARCHITECTURES)


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma3"])
def test_the_tokenizer_is_the_original(arch: str, adds_bos: bool, tmp_path: Path) -> None:
    model, tokenizer = made(arch, tokenizer=own_tokenizer(arch, adds_bos))
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, arch, pre="qwen2" if arch == "qwen2" else "gpt-2")
    found = load_tokenizer(str(file))
    assert found.get_vocab() == tokenizer.get_vocab()
    for text in TEXTS:
        assert found(text).input_ids == tokenizer(text).input_ids
        assert found.decode(found(text).input_ids) == tokenizer.decode(tokenizer(text).input_ids)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "chat_template"):
        assert getattr(found, name) == getattr(tokenizer, name)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_0", "Q4_0"])
def test_matrices_come_back_as_they_were_rounded(kind: str, tmp_path: Path) -> None:
    """Against the package's own rounding, and against transformers' own reading of the file."""
    model, tokenizer = made("llama")
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", kind)
    dtype = {"F16": torch.float16}.get(kind, torch.bfloat16)
    found = AutoModelForCausalLM.from_pretrained(resolve(str(file), allow_pickle=False, trust_remote_code=False))
    assert found.dtype == dtype
    number = gguf.GGMLQuantizationType[kind]
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"):
        wanted = gguf.dequantize(gguf.quantize(model.state_dict()[name].numpy(), number), number)
        assert torch.equal(found.state_dict()[name], torch.tensor(wanted).to(dtype))
    other = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", dtype=dtype, quantization_config=GgufConfig(dequantize=True)
    )
    assert torch.equal(logits(found), logits(other.eval()))


def test_blocks_of_q4_k_are_read_as_ggml_lays_them_out(tmp_path: Path) -> None:
    """256 weights a block: two float16, twelve bytes of 6-bit scales and minima, 4 bits a weight (ggml-quants.c)."""
    draw = np.random.default_rng(0)
    rows, width = 64, 256
    model, tokenizer = made("llama", hidden_size=width, intermediate_size=rows, head_dim=64)
    blocks = draw.integers(0, 256, (rows, 144), np.uint8)
    blocks[:, :4] = draw.uniform(0.001, 0.01, (rows, 2)).astype(np.float16).view(np.uint8)
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", raw={"blk.0.ffn_up.weight": (blocks, "Q4_K")})
    scale, least = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float64)[:, 0] for i in (0, 2))
    wanted = np.zeros((rows, width))
    for row in range(rows):
        q = blocks[row, 4:16].astype(int)
        for j in range(8):
            if j < 4:
                s, m = q[j] & 63, q[j + 4] & 63
            else:
                s, m = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4, (q[j + 4] >> 4) | (q[j] >> 6) << 4
            part = blocks[row, 16 + 32 * (j // 2) : 48 + 32 * (j // 2)].astype(int)
            values = part & 15 if j % 2 == 0 else part >> 4
            wanted[row, 32 * j : 32 * j + 32] = scale[row] * s * values - least[row] * m
    found = load_model(str(file)).model.layers[0].mlp.up_proj.weight.detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=2**-8, atol=1e-6)


def changed(model: Any, share: float) -> Any:
    """The model with an output matrix of its own, `share` of its size away from the embeddings."""
    weight = model.get_input_embeddings().weight.detach()
    other = weight + share * weight.std() * torch.randn_like(weight)
    model.get_output_embeddings().weight = torch.nn.Parameter(other)
    return model


@pytest.mark.parametrize(
    ("kind", "output", "apart", "tied"),
    [
        ("F32", None, 0.0, True),  # no output matrix in the file
        ("F32", "F32", 0.0, True),
        ("F32", "F32", 1e-3, False),
        ("F16", "F16", 1e-2, False),
        ("Q4_0", "Q8_0", 0.0, True),
        ("Q8_0", "F16", 0.0, True),
        ("Q5_0", "Q8_0", 0.0, True),
        ("Q8_0", "Q8_0", 0.0, True),
        ("Q8_0", "F16", 0.1, False),
        ("Q4_0", "Q8_0", 0.3, False),
    ],
)
def test_embeddings_are_tied_where_both_matrices_are_one(
    kind: str, output: str | None, apart: float, tied: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = made("qwen2", tokenizer=own_tokenizer("qwen2"))
    if apart:
        changed(model, apart)
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "qwen2", kind, output_kind=output, pre="qwen2")
    found = load_model(str(file))
    inner, outer = found.get_input_embeddings().weight, found.get_output_embeddings().weight
    assert (inner is outer) is tied is found.config.tie_word_embeddings
    assert f"embeddings {'tied' if tied else 'not tied'}" in capsys.readouterr().err
    if tied:  # the finer of the two
        number = gguf.GGMLQuantizationType[output or kind]
        stored = gguf.dequantize(gguf.quantize(model.lm_head.weight.detach().numpy(), number), number)
        dtype = getattr(torch, read_header(file).dtype)
        assert torch.equal(outer, torch.tensor(stored.astype(np.float32)).to(dtype).float())


def test_rotary_settings_reach_the_configuration(tmp_path: Path) -> None:
    """Base and scaling, which transformers drops for some architectures; logits against the original's."""
    scaled = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
    model, tokenizer = made("llama", rope_parameters=scaled)
    more = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", more=more)
    assert float((logits(load_model(str(file))) - logits(model)).abs().max()) == 0

    scaled = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
    model, tokenizer = made("qwen2", rope_parameters=scaled)
    keys = {"type": "yarn", "factor": 4.0, "original_context_length": 32}
    more = {f"qwen2.rope.scaling.{key}": value for key, value in keys.items()}
    file = write_gguf(tmp_path / "y.gguf", model, tokenizer, "qwen2", more=more, pre="qwen2")
    assert float((logits(load_model(str(file))) - logits(model)).abs().max()) == 0


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_factors_are_its_scaling(factor: float, tmp_path: Path) -> None:
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model, tokenizer = made("llama", head_dim=64, rope_parameters=scaled)
    plain = 1 / 500000.0 ** (np.arange(0, 64, 2) / 64)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()  # as llama.cpp's converter writes them
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", extra={"rope_freqs.weight": factors})
    assert float((logits(load_model(str(file))) - logits(model)).abs().max()) < 1e-5
    assert load_model(str(file)).config.rope_parameters["factor"] == pytest.approx(factor, rel=1e-4)

    file = write_gguf(tmp_path / "o.gguf", model, tokenizer, "llama", extra={"rope_freqs.weight": 1 + 0 * factors + 1})
    with pytest.raises(ModelError, match=r"rope_freqs\.weight.*otherwise than Llama 3"):
        load_model(str(file))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which nothing is wrong."""
    model, tokenizer = made("llama")
    return write_gguf(tmp_path_factory.mktemp("good") / "good.gguf", model, tokenizer, "llama", "Q8_0")


def directory(file: Path) -> Path:
    return resolve(str(file), allow_pickle=False, trust_remote_code=False)


def test_it_is_written_once_and_said_once(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = directory(good)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "good.gguf: Q8_0, written once as bfloat16" in printed
    assert str(first) in printed
    assert first.parent == tmp_path / "cache" / "models"
    made_at = (first / "model.safetensors").stat().st_mtime_ns
    assert directory(good) == first
    assert capsys.readouterr().err == ""
    assert (first / "model.safetensors").stat().st_mtime_ns == made_at
    assert [place.name for place in first.parent.iterdir() if not place.name.endswith(".lock")] == [first.name]


def test_a_file_is_named_by_its_content(good: Path, tmp_path: Path) -> None:
    """Wherever it lies, alone in its folder or not; another template or other bytes are another model."""
    copy = tmp_path / "there" / "other.gguf"
    copy.parent.mkdir()
    copy.write_bytes(good.read_bytes())
    assert named(str(copy)) == named(str(copy.parent)) == named(str(good))
    (copy.parent / "chat_template.jinja").write_text("{{ messages }}")
    assert named(str(copy)) != named(str(good))
    copy.write_bytes(good.read_bytes()[:-1] + b"!")
    assert named(str(copy)) != named(str(good))
    assert not (tmp_path / "cache").exists(), "a fingerprint converts nothing"


def test_two_processes_share_one_conversion(good: Path, tmp_path: Path) -> None:
    code = (
        "from mnemos.weights.checkpoint import resolve\n"
        f"print(resolve({str(good)!r}, allow_pickle=False, trust_remote_code=False))"
    )
    start = [subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) for _ in range(2)]
    done = [process.communicate(timeout=600) for process in start]
    assert [process.returncode for process in start] == [0, 0], done
    assert len({out for out, _ in done}) == 1
    assert sum("written once" in error for _, error in done) == 1
    assert float(logits(load_model(done[0][0].strip())).abs().max()) > 0


def test_a_killed_conversion_leaves_nothing_that_is_taken_for_one(good: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_convert, "_save_tokenizer", stop)
        with pytest.raises(KeyboardInterrupt):
            directory(good)
    assert [place for place in models_folder().iterdir() if place.is_dir()] == []
    name = directory(good).name
    shutil.rmtree(models_folder() / name)
    (models_folder() / f".{name}.partial").mkdir()  # of a process that was killed outright
    assert (directory(good) / "model.safetensors").is_file()
    assert [place.name for place in models_folder().iterdir() if place.is_dir()] == [name]


def test_a_cache_without_room_or_without_leave_is_one_error(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(RunError, match=r"the disk is full: [\d,]+ bytes are needed, 1,000 free\n.*MNEMOS_CACHE"):
        directory(good)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    with pytest.raises(RunError, match=r"the disk is full\n.*MNEMOS_CACHE"):
        directory(good)
    assert [place for place in models_folder().iterdir() if place.is_dir()] == []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"(?s)file.*MNEMOS_CACHE"):
        directory(good)


def test_a_template_comes_from_the_file_or_from_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = made("llama")
    file = write_gguf(tmp_path / "base" / "m.gguf", model, tokenizer, "llama", template=False)
    assert load_tokenizer(str(file)).chat_template is None
    assert "no chat template: one may lie beside it as chat_template.jinja" in capsys.readouterr().err
    (file.parent / "chat_template.jinja").write_text(tokenizer.chat_template)
    assert load_tokenizer(str(file)).chat_template == tokenizer.chat_template
    assert "chat template of chat_template.jinja" in capsys.readouterr().err
    (file.parent / "chat_template.jinja").write_bytes(b"\xff\xfe{")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: is no text"):
        load_tokenizer(str(file))


def test_every_token_that_ends_an_answer_stops_it(tmp_path: Path) -> None:
    model, tokenizer = made("llama")
    end = tokenizer.convert_tokens_to_ids("<|eos|>")
    more = {"tokenizer.ggml.eot_token_id": end}
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", more=more)
    assert Checkpoint(str(file)).load().stop_ids >= {tokenizer.eos_token_id, end}


def test_a_folder_of_one_file_is_that_file_and_of_several_none(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a-q4.gguf").write_bytes(good.read_bytes())
    assert float((logits(load_model(str(folder))) - logits(load_model(str(good)))).abs().max()) == 0
    (folder / "b-q8.gguf").write_bytes(good.read_bytes())
    with pytest.raises(ModelError, match=r"holds 2 GGUF files: a-q4\.gguf, b-q8\.gguf\n.*name one of them"):
        load_model(str(folder))
    save_tiny(folder)
    assert load_model(str(folder)).config.hidden_size == 32, "weights in safetensors are the model"


def test_a_file_without_its_suffix_is_known_by_its_first_bytes(good: Path, tmp_path: Path) -> None:
    """A hub's cache keeps files under their hash, and links to them are followed."""
    (tmp_path / "abcdef").write_bytes(good.read_bytes())
    (tmp_path / "link.gguf").symlink_to(tmp_path / "abcdef")
    assert named(model_location("link.gguf", tmp_path)) == named(str(good))
    assert directory(tmp_path / "abcdef").name.startswith("abcdef-")


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """A text of the head in place of another, its length before it; the tensors move, and nobody reads them."""
    before, after = (struct.pack("<Q", len(text)) + text for text in (old, new))
    assert data.count(before) == 1
    return data.replace(before, after) + bytes(64)


def kind_of(data: bytes, name: bytes, kind: int) -> bytes:
    """The file with another type for a matrix: behind its name lie 4 + 2 * 8 bytes of dimensions."""
    at = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 20
    return data[:at] + struct.pack("<I", kind) + data[at + 4 :]


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "no GGUF file, or cut short"),
    "something else": (lambda data: b"PK" + data, "no GGUF file"),
    "half": (lambda data: data[: len(data) // 2], r"cut short: tensor \S+ ends at byte"),
    "a head": (lambda data: data[:900], "cut short: its head goes on where it ends, at byte 900"),
    "one byte less": (lambda data: data[:-40], "cut short"),
    "version 1": (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "is GGUF version 1"),
    "big-endian": (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "is big-endian"),
    "an unknown architecture": (
        lambda data: renamed(data, b"llama", b"llamb"),
        "architecture = llamb.*not among.*qwen2",
    ),
    "an encoder-decoder model": (
        lambda data: renamed(data, b"llama", b"t5"),
        "architecture = t5: is an encoder-decoder",
    ),
    "a vision model": (lambda data: renamed(data, b"llama", b"clip"), "architecture = clip.*pictures"),
    "an encoder": (lambda data: renamed(data, b"llama", b"bert"), "architecture = bert: is an encoder"),
    "an unknown quantisation": (
        lambda data: kind_of(data, b"blk.1.ffn_up.weight", 99),
        r"tensor blk\.1\.ffn_up\.weight.*has the quantisation 99",
    ),
    "one that cannot be undone": (
        lambda data: kind_of(data, b"blk.1.ffn_up.weight", 9),  # Q8_1, of computing alone
        r"tensor blk\.1\.ffn_up\.weight.*(quantisation Q8_1|cut short)",
    ),
    "a tensor of another name": (
        lambda data: renamed(data, b"blk.1.ffn_up.weight", b"blk.1.ffn_up.weighs"),
        r"tensor blk\.1\.ffn_up\.weighs.*no place in the architecture llama",
    ),
    "an unknown way to cut words": (lambda data: renamed(data, b"gpt-2", b"sm0l"), "tokenizer.ggml.pre = sm0l"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_it(fault: str, good: Path, tmp_path: Path) -> None:
    damage, words = FAULTS[fault]
    (tmp_path / "bad.gguf").write_bytes(damage(good.read_bytes()))
    with pytest.raises(ModelError, match=f"(?s){words}") as caught:
        load_model(str(tmp_path / "bad.gguf"), headers_only=True)
    assert "bad.gguf" in str(caught.value)
    assert caught.value.cure
    assert not list(models_folder().glob("bad*"))


@pytest.mark.slow
def test_a_real_model_comes_back_within_its_rounding(tmp_path: Path) -> None:
    """Qwen2.5-Coder-0.5B-Instruct as Q8_0: tokenizer and template to the letter, matrices as it rounds."""
    place = Path(os.environ.get("MNEMOS_MODELS", Path.home() / ".cache" / "mnemos-models")).expanduser() / "qwen"
    if not (place / "config.json").is_file():
        pytest.skip(f"real model absent: {place} (set MNEMOS_MODELS)")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16)
    file = write_gguf(tmp_path / "q.gguf", model, tokenizer, "qwen2", "Q8_0", output_kind="F16", pre="qwen2")
    folder = directory(file)
    found = load_tokenizer(str(file))
    assert found.chat_template == tokenizer.chat_template
    for text in (*TEXTS, Path(__file__).read_text()):
        assert found(text).input_ids == tokenizer(text).input_ids
    del model
    stored, original = (load_file(one / "model.safetensors") for one in (folder, place))
    assert set(stored) == set(original)
    assert torch.equal(stored["model.embed_tokens.weight"], original["model.embed_tokens.weight"].half().bfloat16())
    for name, value in original.items():
        if value.ndim == 2 and "embed" not in name:
            assert float((stored[name].float() - value.float()).norm() / value.float().norm()) < 0.01


def test_parts_of_a_split_file_are_to_be_joined(tmp_path: Path) -> None:
    model, tokenizer = made("llama")
    file = write_gguf(tmp_path / "m-00001-of-00003.gguf", model, tokenizer, "llama", more={"split.count": 3})
    with pytest.raises(ModelError, match=r"is one of 3 parts\n.*llama-gguf-split --merge"):
        load_model(str(file))


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    model, tokenizer = made("llama")
    more = {"llama.block_count": 3}
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, "llama", more=more)
    with pytest.raises(ModelError, match=r"lacks 9 tensors.*layers\.2"):
        load_model(str(file))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 9000), st.binary(min_size=1, max_size=8))
def test_any_damage_to_a_head_is_a_header_or_one_error(good: Path, at: int, other: bytes) -> None:
    data = bytearray(good.read_bytes())
    data[at : at + len(other)] = other
    file = models_folder().parent / "fuzzed.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    with contextlib.suppress(ModelError):
        header = read_header(file)
        assert header.quantisation
        assert header.parameters >= 0


def test_an_adapter_stands_on_a_file(good: Path, tmp_path: Path) -> None:
    """Loaded, and merged out of core: the same model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    with quiet_peft():
        config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"])
        model = get_peft_model(load_model(str(good)), config)
    wanted = logits(model.eval())
    model.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(good)}))
    assert float((logits(load_model(str(tmp_path / "adapter"))) - wanted).abs().max()) < 1e-5
    combine(parse("a"), {"a": tmp_path / "adapter"}, tmp_path / "out", parent="a")
    merged = logits(load_model(str(tmp_path / "out")))  # in bfloat16, as the base was written
    assert float((merged - wanted).abs().max() / wanted.abs().max()) < 0.05
