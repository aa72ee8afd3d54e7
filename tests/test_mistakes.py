"""Mistakes that people make in files and options: each is one clear error of theirs, before anything is measured.

All go through the command line in this process, once as a dry run where the command has one and once for real.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mnemos.cli import main
from mnemos.measure import ask
from tests.study.worlds import chat, make_study
from tests.tiny import TEMPLATE

TRAIN = {"learning_rate": 1e-3, "max_steps": 1}
Change = Callable[[Path], Any]


@dataclass(frozen=True)
class Mistake:
    """named: what the error names, in order. change: of the study's keys. make: what is done to the folder.
    words: options. dry: whether a dry run says it too."""

    named: list[str]
    change: dict[str, Any] = field(default_factory=dict)
    make: Change | None = None
    words: list[str] = field(default_factory=list)
    dry: bool = True


def train(**settings: Any) -> dict[str, Any]:
    return {"train": {**TRAIN, **settings}}


def arm(*methods: dict[str, Any]) -> dict[str, Any]:
    return {"arms": {"a": list(methods)}}


def suite(kind: str, item: dict[str, str], **settings: Any) -> dict[str, Any]:
    return {"suites": {"old": [{"name": "s", "kind": kind, "items": [item], **settings}]}}


def config(**changes: Any) -> Change:
    """The model's config.json with these values."""

    def make(folder: Path) -> None:
        path = folder / "model" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return make


def generation(**changes: Any) -> Change:
    def make(folder: Path) -> None:
        path = folder / "model" / "generation_config.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**kept, **changes}))

    return make


def file(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def loop(name: str) -> Change:
    def make(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(path)

    return make


def template(text: str) -> Change:
    return lambda folder: (folder / "model" / "chat_template.jinja").write_text(text)


def pickled(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def adapter_of_itself(folder: Path) -> None:
    model = folder / "model"
    (model / "config.json").unlink()
    (model / "model.safetensors").unlink()
    text = {"base_model_name_or_path": str(model), "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    (model / "adapter_config.json").write_text(json.dumps(text))
    (model / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")


def long_id(folder: Path) -> None:
    row = json.dumps(chat(0, "Say 0.", "0 it is")).replace('"row-0"', "9" * 5000)
    (folder / "new.jsonl").write_text(row + "\n")


DEEP = "[" * 3000 + "]" * 3000

MISTAKES = {
    "seed below 0": Mistake(["seeds.0 = -1", "0"], {"seeds": [-1]}),
    "seed above 32 bits": Mistake(["seeds", "4294967296", "4294967295"], {"seeds": [2**32]}),
    "seed of the data": Mistake(["train.data_seed", "-1"], train(data_seed=-1)),
    "seed of a method": Mistake(["replay.seed", "-1"], arm({"replay": {"data": "old.jsonl", "seed": -1}})),
    "seed of a suite": Mistake(
        ["seed = -1"],
        {
            "suites": {
                "old": [{"name": "s", "kind": "generated", "seed": -1, "items": [{"prompt": "a", "answer": "b"}]}]
            }
        },
    ),
    "seeds that are truths": Mistake(["seeds.0 = true", "number"], {"seeds": [True]}),
    "2000 seeds": Mistake(["study.seeds", "at most 1000", "not 2000"], {"seeds": list(range(2000))}),
    "learning rate": Mistake(["train.learning_rate = 1.0e+300", "100"], train(learning_rate=1e300)),
    "epochs": Mistake(["train.num_train_epochs", "finite"], train(num_train_epochs=float("inf"))),
    "many epochs": Mistake(["train.num_train_epochs = 1.0e+300", "100000"], train(num_train_epochs=1e300)),
    "steps": Mistake(["train.max_steps = 10000000000000000000000"], train(max_steps=10**22)),
    "decay": Mistake(["train.weight_decay = 1.0e+300", "1000"], train(weight_decay=1e300)),
    "moments": Mistake(["trajectory.moments = 1000000000"], {"trajectory": {"suites": ["new"], "moments": 10**9}}),
    "rank": Mistake(["lora.rank = 1000000000000"], arm({"lora": {"rank": 10**12}})),
    "rank above the matrices": Mistake(["lora.rank = 4096", "32"], arm({"lora": {"rank": 4096}})),
    "tolerance": Mistake(
        ["tolerance"],
        {
            "suites": {
                "old": [{"name": "s", "kind": "bits_per_byte", "tolerance": float("inf"), "items": [{"text": "a"}]}]
            }
        },
    ),
    "tracker without its package": Mistake(["train.report_to: wandb", "pip install"], train(report_to=["wandb"])),
    "unknown tracker": Mistake(["wnadb"], train(report_to=["wnadb"])),
    "launcher without its package": Mistake(["train.deepspeed", "package deepspeed"], train(deepspeed={"a": 1})),
    "optimiser": Mistake(["adamv"], train(optim="adamv")),
    "optimiser without its package": Mistake(["train.optim", "pip install"], train(optim="apollo_adamw")),
    "scheduler": Mistake(["cosinus"], train(lr_scheduler_type="cosinus")),
    "NUL in the model's path": Mistake([r"model\x00", "NUL"], {"model": "./model\0"}),
    "NUL in the data's path": Mistake([r"new\x00.jsonl", "NUL"], {"teach": {"data": "new\0.jsonl"}}),
    "NUL in a suite's path": Mistake([r"new\x00.yaml", "NUL"], {"suites": {"old": ["new\0.yaml"]}}),
    "NUL in a suite's name": Mistake([r"refus\x00als"], {"suites": {"old": ["refus\0als"]}}),
    "NUL in a setting's path": Mistake([r"x\x00", "NUL"], arm({"replay": {"data": "x\0"}})),
    "NUL in an override": Mistake(["NUL"], words=["--set", r'teach.data="a\0b"']),
    "empty path of a model": Mistake(["model = ''", "names nothing"], {"model": ""}),
    "empty path of data": Mistake(["data = ' '", "names nothing"], {"teach": {"data": " "}}),
    "data that are absent": Mistake(["data = ./none.jsonl", "no such file"], {"teach": {"data": "./none.jsonl"}}),
    "deep YAML": Mistake(["study.yaml", "nested"], make=file("study.yaml", f"model: {DEEP}")),
    "deep YAML in an override": Mistake(["nested"], words=["--set", f"seeds={DEEP}"]),
    "deep YAML of a suite": Mistake(["old.yaml", "nested"], make=file("old.yaml", f"items: {DEEP}")),
    "deep JSON rows": Mistake(["new.jsonl:1", "nested"], make=file("new.jsonl", '{"text": ' + DEEP + "}\n")),
    "deep JSON configuration": Mistake(["config.json", "nested"], make=file("model/config.json", DEEP)),
    "id of 5,000 digits": Mistake(["new.jsonl:1", "digits"], make=long_id, dry=False),
    "override cut short": Mistake(["--set seeds=[1", "YAML"], words=["--set", "seeds=[1"]),
    "loop for a study": Mistake(["study.yaml", "loop"], make=loop("study.yaml")),
    "loop for a model": Mistake(["model", "loop"], make=loop("model")),
    "loop for data": Mistake(["new.jsonl", "loop"], make=loop("new.jsonl")),
    "loop for a suite": Mistake(["old.yaml", "loop"], make=loop("old.yaml")),
    "loop for the output": Mistake(["run", "loop"], make=loop("run"), dry=False),
    "0 heads": Mistake(["config.json", "num_attention_heads = 0"], make=config(num_attention_heads=0)),
    "0 layers": Mistake(["config.json: num_hidden_layers = 0"], make=config(num_hidden_layers=0)),
    "heads below 0": Mistake(["num_key_value_heads = -1"], make=config(num_key_value_heads=-1)),
    "heads in words": Mistake(["config.json: num_attention_heads = 'many'"], make=config(num_attention_heads="many")),
    "width that heads do not share": Mistake(["config.json", "33"], make=config(hidden_size=33)),
    "absurd width": Mistake(["config.json: hidden_size = 1000000000000"], make=config(hidden_size=10**12)),
    "configuration that is a list": Mistake(["config.json"], make=file("model/config.json", "[1]")),
    "configuration that is cut short": Mistake(["config.json"], make=file("model/config.json", '{"a": ')),
    "unknown architecture": Mistake(["config.json", "lama"], make=config(model_type="lama")),
    "an adapter that is its own base": Mistake(["adapter_config.json", "itself"], make=adapter_of_itself),
    "generation config that is a list": Mistake(
        ["generation_config.json"], make=file("model/generation_config.json", "[1]")
    ),
    "end token in words": Mistake(["generation_config.json", "eos_token_id"], make=generation(eos_token_id="end")),
    "end tokens in a mapping": Mistake(
        ["generation_config.json", "eos_token_id"], make=generation(eos_token_id={"a": 1})
    ),
    "template of itself": Mistake(
        ["template"], make=template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}" + TEMPLATE)
    ),
    "template that is no template": Mistake(["template"], make=template("{% for m in messages %}")),
    "template that ignores the messages": Mistake(["template", "messages"], make=template("{{ bos_token }}hello")),
    "refused pickle": Mistake(["pytorch_model.bin", "--allow-pickle|allow_pickle"], make=pickled),
}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be asked of a model."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was asked")

    monkeypatch.setattr(ask, "measure", refuse)
    return


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mistake = MISTAKES[name]
    study = make_study(tmp_path, **{"train": TRAIN, **mistake.change})
    if mistake.make is not None:
        mistake.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in (["--dry-run"] if mistake.dry else [], ["--out", "run", "--quiet"]):
        if not words:
            continue
        monkeypatch.setattr(sys, "argv", ["mnemos", "run", str(study), *words, *mistake.words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        message = capsys.readouterr().err
        assert ended.value.code in (1, 2), message
        assert "defect" not in message
        assert "Traceback" not in message
        errors = [line for line in message.splitlines() if line.startswith("mnemos: ")]
        assert len(errors) == 1, message
        text = message[message.index("mnemos: ") :]
        assert len(text) < 7000
        for part in mistake.named:
            assert any(choice in text for choice in part.split("|")), text
    assert not list(tmp_path.glob("run/steps/*/done.json"))
