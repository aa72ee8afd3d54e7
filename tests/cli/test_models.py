"""`mnemos models` and `model show`: what is listed and described, held against the files themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.models.load import load_model
from mnemos.weights.checkpoint import resolve
from tests.tiny import save_tiny
from tests.weights.gguf_files import write_gguf


def run(*words: str) -> Any:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", "gemma")


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    base = save_tiny(tmp_path / "base")
    return write_gguf(
        tmp_path / "tiny.gguf", load_model(str(base)), AutoTokenizer.from_pretrained(base), "llama", "Q8_0"
    )


def test_a_model_is_described_from_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemos.weights.finite.refuse_nonfinite", None)  # what loading real numbers would call
    found = json.loads(run("model", "show", str(folder), "--json"))
    model, tokenizer = load_model(str(folder), headers_only=True), AutoTokenizer.from_pretrained(folder)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["bytes"] == (folder / "model.safetensors").stat().st_size
    assert (found["family"], found["dtype"], found["tied_embeddings"]) == ("gemma", "float32", True)
    assert found["context_length"] == 512
    assert found["vocabulary"] == {"tokens": len(tokenizer), "rows": 400}
    assert found["special_tokens"]["eos_token"] == {"text": "<|im_end|>", "id": tokenizer.eos_token_id}
    assert [one["id"] for one in found["stop_tokens"]] == [tokenizer.eos_token_id]
    assert found["chat_template"] | {"hash": ""} == {"hash": "", "system": True, "tools": False, "thinking": False}
    assert found["lora"]["targets"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    # rank x (inputs + outputs) of each layer: q, k, v, o, gate, up, down, twice
    assert found["lora"]["parameters"] == 2 * 16 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
    # Weights, gradients and AdamW's two moments in float32, activations and the program on top.
    assert found["memory"]["full_bytes"] > 16 * found["parameters"]
    assert found["memory"]["tokens"] == 512
    assert found["memory"]["lora_bytes"] > 4 * found["parameters"] + 16 * found["lora"]["parameters"]


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        ("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"
         "<|eos|>{% endfor %}", {"system": False, "tools": False, "thinking": False}),
        ("{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}<|eos|>{% endfor %}"
         "{% if enable_thinking %}<think>{% endif %}", {"system": True, "tools": True, "thinking": True}),
    ],
)  # fmt: skip
def test_what_a_template_takes_is_tried(folder: Path, template: str, takes: dict[str, bool]) -> None:
    (folder / "chat_template.jinja").write_text(template)
    found = json.loads(run("model", "show", str(folder), "--json"))["chat_template"]
    assert {name: found[name] for name in takes} == takes


def test_it_is_said_in_lines(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    lines = run("model", "show", str(folder)).splitlines()
    assert [line.split()[0] for line in lines] == [
        "model", "family", "parameters", "on", "embeddings", "context", "vocabulary", "special", "stops", "template",
        "lora", "training",
    ]  # fmt: skip
    assert "chat_template.jinja" in lines[9]


def test_an_adapter_names_its_base(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from mnemos.weights.adapter import quiet_peft

    with quiet_peft():
        model = get_peft_model(load_model(str(folder)), LoraConfig(r=2, target_modules=["q_proj"]))
        model.peft_config["default"].base_model_name_or_path = str(folder)
        model.save_pretrained(tmp_path / "adapter")
    found = json.loads(run("model", "show", str(tmp_path / "adapter"), "--json"))
    assert found["made_of"] == f"an adapter on {folder}"
    assert found["family"] == "gemma"


def test_a_file_is_described_without_being_converted_and_listed_once_it_is(packed: Path, tmp_path: Path) -> None:
    found = json.loads(run("model", "show", str(packed), "--json"))
    assert not list((tmp_path / "cache").glob("models/*"))
    place = resolve(str(packed), allow_pickle=False, trust_remote_code=False)
    plain = json.loads(run("model", "show", str(place), "--json"))
    same = ("family", "architecture", "parameters", "tied_embeddings", "context_length", "vocabulary", "special_tokens",
            "stop_tokens", "chat_template", "lora", "memory", "dtype")  # fmt: skip
    assert {key: found[key] for key in same} == {key: plain[key] for key in same}
    assert found["made_of"] == "GGUF, Q8_0"
    assert found["bytes"] == packed.stat().st_size
    (row,) = [one for one in json.loads(run("models", "--json")) if one["cache"] == "mnemos"]
    assert row | {"used": "", "size": 0} == {
        "name": str(packed), "cache": "mnemos", "size": 0, "family": "llama", "dtype": "bfloat16", "path": str(place),
        "used": "",
    }  # fmt: skip
    assert row["size"] == sum(file.stat().st_size for file in place.iterdir())


def test_downloads_are_listed_by_what_a_study_may_say(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "none"))
    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    assert run("models") == "no model is in the caches yet\n"
    commits = {"main": "1" * 40, "v1": "2" * 40}
    for commit in commits.values():
        shutil.copytree(folder, hub / "models--org--tiny" / "snapshots" / commit)
    (hub / "models--org--tiny" / "refs").mkdir()
    for name, commit in commits.items():
        (hub / "models--org--tiny" / "refs" / name).write_text(commit)
    (hub / "models--org--tiny" / "snapshots" / commits["v1"] / "config.json").write_text("{")
    found = {one["name"]: one for one in json.loads(run("models", "--json"))}
    assert set(found) == {"org/tiny", "org/tiny@v1"}
    assert (found["org/tiny"]["family"], found["org/tiny"]["dtype"]) == ("gemma", "float32")
    assert found["org/tiny@v1"]["family"] is None, "a listing survives a broken configuration"
    assert found["org/tiny"]["path"].endswith(commits["main"])
    for name in found:
        assert name in run("models")


def test_what_is_no_model_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "architectures": ["CLIPModel"]}))
    done = CliRunner().invoke(app, ["model", "show", str(tmp_path)])
    assert done.exit_code == 1
    assert "holds no *.safetensors weights" in str(done.exception)
