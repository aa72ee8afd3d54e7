"""Model folders, adapters and files in which something is wrong: configurations, headers, tokenizers, templates."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.runner import Case, Content

COMPARE = ("compare", "good", "model", "--suites", "new.yaml", "--no-health")
CHAT = {"chat.yaml": "{name: c, kind: generated, chat: true, items: [{prompt: hi, answer: ho}]}"}

Changes = Mapping[str, Any]
GONE = object()


def changed(changes: Changes) -> Callable[[Path], None]:
    """Set keys of a JSON file; dots lead into objects, GONE takes a key away."""

    def act(path: Path) -> None:
        value = json.loads(path.read_text()) if path.is_file() else {}
        for key, new in changes.items():
            here, parts = value, key.split("/")
            for part in parts[:-1]:
                here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
            if new is GONE:
                here.pop(parts[-1], None)
            else:
                here[parts[-1]] = new
        path.write_text(json.dumps(value))

    return act


HUGE = 10**18
CONFIG: list[tuple[str, Changes, str]] = [
    ("no model_type", {"model_type": GONE, "architectures": GONE}, r"config\.json.*model_type"),
    ("a model_type nobody knows", {"model_type": "llamma"}, r"llamma"),
    ("a model_type that is a list", {"model_type": ["llama"]}, r"model_type = \['llama'\]"),
    ("a model_type with an escape code", {"model_type": "\x1b[2Jllama"}, r"x1b\[2J"),
    ("an encoder", {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, r"encoder"),
    ("a model of pictures", {"model_type": "vit", "architectures": ["ViTModel"]}, r"no causal language model"),
    ("an encoder-decoder", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, r"encoder-decoder"),
    ("a recogniser", {"model_type": "whisper"}, r"encoder-decoder"),
    ("a classifier", {"architectures": ["LlamaForSequenceClassification"]}, r"number or a class"),
    ("no width", {"hidden_size": 0}, r"hidden_size = 0"),
    ("a width below 0", {"hidden_size": -32}, r"hidden_size = -32"),
    ("a width in words", {"hidden_size": "thirty-two"}, r"hidden_size = 'thirty-two'"),
    ("a width of the universe", {"hidden_size": HUGE, "head_dim": HUGE}, r"head_dim = 10{18}"),
    ("a wider model than its file", {"hidden_size": 64}, r"shape \[400, 32\].*\[400, 64\]"),
    ("a width that is a half", {"hidden_size": 32.5}, r"hidden_size = 32\.5"),
    ("no head", {"num_attention_heads": 0}, r"num_attention_heads"),
    ("heads below 0", {"num_attention_heads": -4}, r"num_attention_heads"),
    ("three heads", {"num_attention_heads": 3}, r"config\.json.*heads \(3\)"),
    ("no key-value head", {"num_key_value_heads": 0}, r"num_key_value_heads"),
    ("three key-value heads", {"num_key_value_heads": 3}, r"k_proj.*shape \[16, 32\]"),
    ("heads as a list", {"num_attention_heads": [4]}, r"config\.json.*num_attention_heads"),
    ("no layer", {"num_hidden_layers": 0}, r"num_hidden_layers = 0"),
    ("layers below 0", {"num_hidden_layers": -1}, r"num_hidden_layers = -1"),
    ("a layer too many", {"num_hidden_layers": 3}, r"lacks"),
    ("a layer too few", {"num_hidden_layers": 1}, r"layers that config.json has no place for"),
    ("a billion layers", {"num_hidden_layers": 10**9}, r"num_hidden_layers"),
    ("a vocabulary of ten", {"vocab_size": 10}, r"shape \[400, 32\].*\[10, 32\]"),
    ("a vocabulary of the universe", {"vocab_size": HUGE}, r"vocab_size = 10{18}"),
    ("a vocabulary below 0", {"vocab_size": -400}, r"vocab_size = -400"),
    ("an activation nobody knows", {"hidden_act": "gelu_nope"}, r"gelu_nope"),
    ("a precision nobody knows", {"dtype": "float99"}, r"config\.json.*float99"),
    ("rope in words", {"rope_parameters": {"rope_theta": "large", "rope_type": "default"}}, r"model: .*'str'"),
    ("rope nobody knows", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "moebius"}}, r"moebius"),
    ("an epsilon in words", {"rms_norm_eps": "tiny"}, r"config\.json.*rms_norm_eps"),
    ("code of its own", {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
     "model_type": "evil"}, r"own code|evil"),
    ("quantised by nobody", {"quantization_config": {"quant_method": "nobody"}}, r"quantization_config = 'nobody'"),
    ("quantised by a missing package", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"GPTQ"),
    ("quantised by a list", {"quantization_config": [4]}, r"quantization_config = \[4\]"),
    ("weights elsewhere", {"transformers_weights": "../../good/model.safetensors"}, r"transformers_weights"),
    ("weights in a pickle", {"transformers_weights": "model.bin"}, r"transformers_weights"),
    ("an architecture of a number", {"architectures": 7}, r"architectures = 7"),
    ("an end of a text", {"eos_token_id": "</s>"}, r"config\.json.*eos_token_id"),
    ("an end of a list of lists", {"eos_token_id": [[1]]}, r"config\.json.*eos_token_id"),
    ("padding beyond the vocabulary", {"pad_token_id": 10**9}, r"Padding_idx"),
    ("positions below 0", {"max_position_embeddings": -1}, r"max_position_embeddings = -1"),
]  # fmt: skip

GENERATION: list[tuple[str, Changes, str]] = [
    ("an end in words", {"eos_token_id": "</s>"}, r"eos_token_id"),
    ("an end that is true", {"eos_token_id": [True]}, r"eos_token_id"),
    ("an end below 0", {"eos_token_id": -7}, r"eos_token_id"),
]

TEXTS: list[tuple[str, str | bytes]] = [
    ("empty", b""),
    ("a brace", b"{"),
    ("a list", b"[]"),
    ("a number", b"7"),
    ("lists 100,000 deep", b"[" * 100_000),
    ("Latin-1", b'{"caf\xe9": 1}'),
    ("UTF-16", '{"a": 1}'.encode("utf-16")),
    ("NULs", b"\0" * 999),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
]


def tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def headed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the header of a safetensors file."""

    def act(path: Path) -> None:
        header, data = tensors(path)
        header = change(header) or header
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    return act


def filled(value: bytes) -> Callable[[Path], None]:
    """Begin the first matrix with these bytes."""

    def act(path: Path) -> None:
        header, data = tensors(path)
        start = header["model.embed_tokens.weight"]["data_offsets"][0]
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[:start] + value + data[start + len(value) :])

    return act


def cut(path: Path) -> None:
    """Leave the first half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def instead(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Put something else in a file's place."""

    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


EMBEDDING = "model.embed_tokens.weight"
WEIGHTS: list[tuple[str, Content, str]] = [
    ("empty", b"", r"model\.safetensors"),
    ("seven bytes", b"1234567", r"model\.safetensors"),
    ("a header of 2**63 bytes", struct.pack("<Q", 1 << 63) + b"{}", r"model\.safetensors"),
    ("a header of a terabyte", struct.pack("<Q", 1 << 40) + b"{}", r"model\.safetensors"),
    ("a header that is no JSON", struct.pack("<Q", 5) + b"hello", r"model\.safetensors"),
    ("a header that is a list", struct.pack("<Q", 2) + b"[]", r"model\.safetensors"),
    ("a header 100,000 deep", struct.pack("<Q", 100_000) + b"[" * 100_000, r"model\.safetensors"),
    ("a page of the web", b"<!DOCTYPE html><html>" + b"x" * 9999, r"model\.safetensors"),
    ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", r"model\.safetensors"),
    ("cut short", cut, r"model\.safetensors"),
    ("no tensor", struct.pack("<Q", 2) + b"{}", r"lacks|model\.safetensors"),
    ("a dtype nobody knows", headed(lambda h: h[EMBEDDING].update(dtype="F99")), r"model\.safetensors"),
    ("a shape below 0", headed(lambda h: h[EMBEDDING].update(shape=[-1, 32])), r"model\.safetensors"),
    ("a shape of the universe", headed(lambda h: h[EMBEDDING].update(shape=[HUGE, HUGE])), r"model\.safetensors"),
    ("offsets beyond the file", headed(lambda h: h[EMBEDDING].update(data_offsets=[0, HUGE])), r"model\.safetensors"),
    ("offsets turned round", headed(lambda h: h[EMBEDDING].update(data_offsets=[64, 0])), r"model\.safetensors"),
    ("tensors over one another", headed(lambda h: h.update({"x": h[EMBEDDING]})), r"model\.safetensors"),
    ("a tensor less", headed(lambda h: {k: v for k, v in h.items() if k != EMBEDDING}), r"lacks|model\.safetensors"),
    ("a tensor by another name", headed(lambda h: {k.replace("norm", "n\x1borm"): v for k, v in h.items()}), r"lacks"),
    ("integers", headed(lambda h: h[EMBEDDING].update(dtype="I32")), r"embed_tokens.*I32"),
    ("a NaN", filled(b"\0\0\xc0\x7f"), r"embed_tokens.*not finite"),
    ("infinity", filled(b"\0\0\x80\x7f"), r"embed_tokens.*not finite"),
    ("a folder", instead(Path.mkdir), r"model\.safetensors.*no regular file"),
    ("a loop of links", instead(lambda path: path.symlink_to(path.name)), r"model\.safetensors.*no regular file"),
    ("zeros without end", instead(lambda path: path.symlink_to("/dev/zero")), r"model\.safetensors.*no regular file"),
    ("a pipe", instead(os.mkfifo), r"model\.safetensors.*no regular file"),
    ("absent", None, r"holds no \*\.safetensors"),
]  # fmt: skip

INDEX: list[tuple[str, str, str]] = [
    ("no map", "{}", r"weight_map"),
    ("a list for a map", '{"weight_map": [1]}', r"weight_map"),
    ("a shard that is absent", '{"weight_map": {"a": "model-1.safetensors"}}', r"model-1\.safetensors"),
    ("a shard elsewhere", '{"weight_map": {"a": "../good/model.safetensors"}}', r"own folder"),
    ("a shard with an escape code", '{"weight_map": {"a": "\\u001b[2J.safetensors"}}', r"x1b"),
    ("itself as a shard", '{"weight_map": {"a": "model.safetensors.index.json"}}', r"index\.json"),
    ("a NUL in a shard", '{"weight_map": {"a": "mo\\u0000del.safetensors"}}', r"x00"),
]

LONG_WORD = 10**9
TOKENIZER: list[tuple[str, str, Content, str]] = [
    ("is empty", "tokenizer.json", b"", r"tokenizer"),
    ("is no JSON", "tokenizer.json", b"{", r"tokenizer"),
    ("is an empty object", "tokenizer.json", b"{}", r"tokenizer"),
    ("is lists 100,000 deep", "tokenizer.json", b"[" * 100_000, r"tokenizer"),
    ("is a picture", "tokenizer.json", b"\x89PNG" + bytes(range(256)), r"tokenizer"),
    ("is absent", "tokenizer.json", None, r"tokenizer"),
    ("is a pipe", "tokenizer.json", instead(os.mkfifo), r"tokenizer"),
    ("has a model nobody knows", "tokenizer.json", changed({"model/type": "BPEE"}), r"tokenizer"),
    ("merges what it lacks", "tokenizer.json", changed({"model/merges": [["zzz", "yyy"]]}), r"tokenizer"),
    ("has a word below 0", "tokenizer.json", changed({"model/vocab/zzz": -5}), r"tokenizer"),
    ("has a word of number 10**12", "tokenizer.json", changed({"model/vocab/zzz": 10**12}), r"tokenizer"),
    ("has one word more", "tokenizer.json", changed({"model/vocab/zzz": 4000}), r"401 tokens"),
    ("splits by a broken pattern", "tokenizer.json",
     changed({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated", "invert": False}}),
     r"tokenizer"),
    ("has a class of a number", "tokenizer_config.json", changed({"tokenizer_class": 7}), r"tokenizer"),
    ("has code of its own", "tokenizer_config.json",
     changed({"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}), r"own code"),
    ("has a stop that is a list", "tokenizer_config.json", changed({"eos_token": ["a"]}), r"eos_token"),
    ("has a length in words", "tokenizer_config.json", changed({"model_max_length": "long"}), r"tokenizer"),
    ("has added tokens of a list", "tokenizer_config.json", changed({"added_tokens_decoder": [1]}), r"tokenizer"),
    ("has added tokens in words", "tokenizer_config.json", changed({"added_tokens_decoder": {"x": {}}}), r"tokenizer"),
    ("has more tokens of a number", "tokenizer_config.json", changed({"extra_special_tokens": 7}), r"extra_special"),
]  # fmt: skip

SHOW = "{% for m in messages %}{{ m.content }}{% endfor %}"
TEMPLATES: list[tuple[str, Content, str]] = [
    ("multiplies a string", SHOW + "{{ 'a' * 10**12 }}", r"chat template of .*memory"),
    ("doubles a string", "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}"
     + SHOW, r"chat template of .*(memory|does not end)"),
    ("pads a number", SHOW + "{{ '%99999999999d' % 1 }}", r"chat template of .*memory"),
    ("never ends", SHOW + "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
     r"chat template of .*does not end"),
    ("computes 9**9**9", SHOW + "{{ 9 ** (9 ** 9) }}", r"chat template of .*(does not end|memory)"),
    ("calls itself", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}" + SHOW, r"chat template of .*Recursion"),
    ("is cut short", "{% for m in messages %}", r"chat template of .*no template"),
    ("is nested", "{{ " + "(" * 99_999 + "1" + ")" * 99_999 + " }}", r"chat template of .*no template"),
    ("reads a file", "{% include '/etc/passwd' %}", r"chat template of .*fails"),
    ("reaches for Python", "{{ ''.__class__.__mro__[1].__subclasses__() }}", r"chat template of .*fails|refuses"),
    ("knows one line", "You are helpful.", r"whatever the messages say"),
    ("writes 5 MB", SHOW + "{{ 'a' * 5000000 }}", r"writes more than"),
    ("is 20 MB", "{# " + "x" * 20_000_000 + " #}" + SHOW, r"chat template of .*characters"),
    ("steers the terminal", SHOW + "{{ raise_exception('\x1b[2J\u202ebad') }}", r"x1b\[2J"),
    ("is Latin-1", "{{ 'café' }}".encode("latin-1"), r"chat_template\.jinja"),
    ("is a folder", instead(Path.mkdir), r"has no chat template"),
    ("drops every word", "{% for m in messages %}{{ m.role }}{% endfor %}", r"whatever the messages say"),
    ("refuses everybody", "{{ raise_exception('nobody may speak') }}", r"nobody may speak"),
]  # fmt: skip

ADAPTER = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "good",
}


def adapter(changes: Changes, weights: Content = b"") -> dict[str, Content]:
    """Files that make `model` an adapter folder. weights: of the adapter; b"" for right ones."""
    config = {key: value for key, value in {**ADAPTER, **changes}.items() if value is not GONE}
    files: dict[str, Content] = {"model/config.json": None, "model/model.safetensors": None}
    files["model/adapter_config.json"] = json.dumps(config)
    files["model/adapter_model.safetensors"] = lora(2) if weights == b"" else weights
    return files


def lora(rank: int, fill: float = 0.01) -> Callable[[Path], None]:
    """Weights of an adapter on the query projections of the world's model."""

    def act(path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        made = {}
        for layer in (0, 1):
            at = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            made[f"{at}.lora_A.weight"] = torch.full((rank, 32), fill)
            made[f"{at}.lora_B.weight"] = torch.full((32, rank), fill)
        save_file(made, path)

    return act


ADAPTERS: list[tuple[str, Mapping[str, Content], str]] = [
    ("of itself", adapter({"base_model_name_or_path": "model"}), r"base_model_name_or_path.*itself|leads back"),
    ("of nothing", adapter({"base_model_name_or_path": GONE}), r"base_model_name_or_path"),
    ("of what is absent", adapter({"base_model_name_or_path": "./gone"}), r"gone"),
    ("of a number", adapter({"base_model_name_or_path": 7}), r"base_model_name_or_path"),
    ("of a NUL", adapter({"base_model_name_or_path": "a\0b"}), r"x00"),
    ("of a server", adapter({"base_model_name_or_path": "http://127.0.0.1:9/v1#m"}), r"127\.0\.0\.1"),
    ("of no rank", adapter({"r": 0}), r"r = 0"),
    ("of a rank below 0", adapter({"r": -2}), r"r = -2"),
    ("of a rank in words", adapter({"r": "two"}), r"r = 'two'"),
    ("of another rank than its file", adapter({"r": 4}), r"size mismatch"),
    ("of an absurd rank", adapter({"r": 10**12}), r"r = 10{12}"),
    ("of a kind nobody knows", adapter({"peft_type": "LORRA"}), r"LORRA"),
    ("on nothing", adapter({"target_modules": ["nothing"]}), r"nothing"),
    ("by a broken pattern", adapter({"target_modules": "(["}), r"target_modules.*no pattern"),
    ("by an endless pattern", adapter({"target_modules": "(.*)*(.*)*(.*)*(.*)*z"}), r"target_modules.*no end"),
    ("on everything", adapter({"target_modules": "all-linear"}), r"missing adapter keys"),
    ("for pictures", adapter({"task_type": "FEATURE_EXTRACTION_OF_PICTURES"}), r"Invalid task type"),
    ("without weights", adapter({}, weights=lambda path: None), r"adapter_model\.safetensors"),
    ("of a damaged file", adapter({}, weights=b"hello"), r"adapter_model\.safetensors"),
    ("of NaN", adapter({}, weights=lora(2, float("nan"))), r"finite|NaN|nan"),
    ("of a list", {**adapter({}), "model/adapter_config.json": "[]"}, r"adapter_config\.json"),
    ("of a brace", {**adapter({}), "model/adapter_config.json": "{"}, r"adapter_config\.json"),
]  # fmt: skip


def gguf(path: Path) -> None:
    """A folder of nothing but a GGUF file."""
    for one in path.parent.iterdir():
        one.unlink()
    path.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 64)


def only(name: str, content: bytes) -> Callable[[Path], None]:
    """A folder that holds one file beside the tokenizer."""

    def act(path: Path) -> None:
        (path / "model.safetensors").unlink()
        (path / name).write_bytes(content)

    return act


FOLDERS: list[tuple[str, Mapping[str, Content], tuple[str, ...], str]] = [
    ("a folder of a GGUF file", {"model/model.gguf": gguf}, COMPARE, r"model\.gguf.*cut short"),
    ("weights in GGUF alone", {"model": only("m.gguf", b"GGUF\3\0\0\0" + b"\xff" * 99)}, COMPARE, r"m\.gguf.*short"),
    ("a GGUF file", {"m.gguf": b"GGUF\3\0\0\0"}, ("compare", "good", "m.gguf", *COMPARE[3:]), r"m\.gguf.*cut short"),
    ("a pickle alone", {"model": only("pytorch_model.bin", b"\x80\x02cos\nsystem\n")}, COMPARE, r"pickle"),
    ("a shard without an index", {"model": only("model-00001-of-00002.safetensors", b"x")}, COMPARE, r"index"),
    ("an archive", {"m.zip": b"PK\3\4"}, ("compare", "good", "m.zip", *COMPARE[3:]), r"m\.zip"),
    ("an empty folder", {"void": lambda path: path.mkdir()}, ("compare", "good", "void", *COMPARE[3:]), r"void"),
    ("a folder that is gone", {}, ("compare", "good", "./gone", *COMPARE[3:]), r"gone"),
    ("a hub id that is none", {}, ("compare", "good", "a/b/c", *COMPARE[3:]), r"a/b/c"),
    ("a hub id that is not here", {}, ("compare", "good", "nobody/nothing", *COMPARE[3:]), r"nobody/nothing"),
    ("a server", {}, ("compare", "good", "http://127.0.0.1:9/v1#m", *COMPARE[3:]), r"127\.0\.0\.1"),
    ("a name of escape codes", {}, ("compare", "good", "\x1b]0;x\x07", *COMPARE[3:]), r"x1b"),
    ("a name of bidi marks", {}, ("compare", "good", "mod\u202eel", *COMPARE[3:]), r"u202e"),
    ("a name that is an option", {}, ("compare", *COMPARE[3:], "--", "good", "-model"), r"-model: there is no"),
    ("a name of 5,000 letters", {}, ("compare", "good", "m" * 5000, *COMPARE[3:]), r"mmm"),
    ("a home of nobody", {}, ("compare", "good", "~nobody-at-all/model", *COMPARE[3:]), r"nobody-at-all"),
]  # fmt: skip


def cases() -> list[Case]:
    """All of them."""
    out = []
    for kind, table, file in (("config", CONFIG, "config.json"), ("generation", GENERATION, "generation_config.json")):
        out += [Case(f"{kind}, {n}", text, COMPARE, {f"model/{file}": changed(to)}) for n, to, text in table]
        out += [Case(f"{kind}, {n}", rf"{file}", COMPARE, {f"model/{file}": to}) for n, to in TEXTS]
    for name, to, text in WEIGHTS:
        met_in_use = "nothing" if "not finite" in text else "run"
        out.append(Case(f"weights, {name}", text, COMPARE, {"model/model.safetensors": to}, untouched=met_in_use))
    place = "model/model.safetensors"
    out += [Case(f"index, {n}", text, COMPARE, {place: None, f"{place}.index.json": to}) for n, to, text in INDEX]
    out += [Case(f"a tokenizer that {n}", text, COMPARE, {f"model/{f}": to}) for n, f, to, text in TOKENIZER]
    chat = ("compare", "model", "model", "--suites", "chat.yaml", "--no-health")
    for name, template, text in TEMPLATES:
        files = {"model/chat_template.jinja": template, **CHAT}
        out.append(Case(f"a template that {name}", text, chat, files))
    for name, files, text in ADAPTERS:
        met_in_use = "nothing" if "finite" in text else "run"
        out.append(Case(f"an adapter {name}", text, COMPARE, files, untouched=met_in_use))
    out += [Case(name, text, words, files) for name, files, words, text in FOLDERS]
    return [replace(case, fails=UNMENDED.get(case.name, "")) for case in out]


UNMENDED: dict[str, str] = {}
