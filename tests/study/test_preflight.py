"""What configuration and headers say is known before the first step, and in a dry run."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import mnemos
from mnemos.core.errors import MnemosError, RunError
from mnemos.core.yaml_text import read_yaml
from mnemos.study.commands.sweep import sweep_lines
from mnemos.study.config import load_study
from mnemos.study.experiment import build
from mnemos.study.preflight import preflight
from mnemos.study.run import plan_lines
from tests.study.worlds import make_study, write_jsonl
from tests.tiny import save_tiny

TRAIN = {"learning_rate": 1e-3, "max_steps": 1}


def _no_template(folder: Path) -> None:
    shutil.rmtree(folder / "model")
    save_tiny(folder / "model", chat=False)


def _fewer_rows(folder: Path) -> None:
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": 10}))


def _classifier(folder: Path) -> dict[str, Any]:
    (folder / "judge").mkdir(exist_ok=True)
    (folder / "judge" / "config.json").write_text(json.dumps({"id2label": {"0": "fine", "1": "toxic"}}))
    suite = {"name": "c", "kind": "classifier", "model": str(folder / "judge"), "label": "toxc"}
    return {"suites": {"new": ["new.yaml"], "old": [{**suite, "items": [{"prompt": "Hello."}]}]}}


def _encoder(folder: Path) -> None:
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))


def _vision(folder: Path) -> None:
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "clip", "architectures": ["CLIPModel"]}))


def _gguf(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "model-q4.gguf").write_bytes(b"GGUF")


def _row(**changes: Any) -> Callable[[Path], dict[str, Any]]:
    """A tenth row of its own file, so that a second writing of the study leaves it."""
    text = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>Hm.</think>Yes."}]

    def prepare(folder: Path) -> dict[str, Any]:
        rows = [{"messages": [text[0], {"role": "assistant", "content": "Yes."}]}] * 9
        write_jsonl(folder / "rows.jsonl", [*rows, {"messages": text, **changes}])
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        tokenizer.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'].split('</think>')[-1]")
        tokenizer.save_pretrained(folder / "model")
        return {"teach": {"data": "rows.jsonl"}}

    return prepare


def _replayed(folder: Path) -> dict[str, Any]:
    _row()(folder)
    return {"arms": {"a": [{"replay": {"data": "rows.jsonl", "share_of_final": 0.2}}]}}


CASES: dict[str, tuple[dict[str, Any], Callable[[Path], Any] | None, str]] = {
    "optimiser": ({"train": {**TRAIN, "optim": "adamv"}}, None, "adamv"),
    "optimiser's package": ({"train": {**TRAIN, "optim": "apollo_adamw"}}, None, "apollo"),
    "scheduler": ({"train": {**TRAIN, "lr_scheduler_type": "cosinus"}}, None, "cosinus"),
    "tracker's package": ({"train": {**TRAIN, "report_to": ["wandb"]}}, None, "wandb"),
    "unknown tracker": ({"train": {**TRAIN, "report_to": ["wnadb"]}}, None, "wnadb"),
    "deepspeed": ({"train": {**TRAIN, "deepspeed": {"zero_optimization": {"stage": 2}}}}, None, "deepspeed"),
    "one arm's optimiser": ({"arm_train": {"replay": {"optim": "adamv"}}}, None, "adamv"),
    "adapter targets": ({"arms": {"a": [{"lora": {"targets": ["q_prj"]}}]}}, None, "q_prj"),
    "layers": ({"arms": {"a": [{"freeze": {"layers_first": 99}}]}}, None, "the model has 2 layers"),
    "template": ({}, _no_template, "chat template"),
    "vocabulary": ({}, _fewer_rows, "embedding|shape|size"),
    "an encoder": ({}, _encoder, "is an encoder"),
    "a vision model": ({}, _vision, "no causal language model"),
    "a broken GGUF file": ({}, _gguf, r"model-q4\.gguf.*is no GGUF file, or cut short"),
    "tools that are ignored": ({}, _row(tools=[{"name": "f"}]), r"rows\.jsonl:10: .*tools: is ignored"),
    "pictures": ({}, _row(images=["a.png"]), r"rows\.jsonl:10: images: cannot be learned"),
    "rewritten answers": ({}, _row(), r"rows\.jsonl:10: .*turn 2 \(assistant\): is rewritten by the chat template"),
    "rewritten answers among old rows": ({}, _replayed, r"rows\.jsonl:10: .*is rewritten by the chat template"),
    "label": ({}, _classifier, "is no class of .*judge.*\n?.*toxic"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("look", ["dry run", "run"])
def test_it_is_known_before_anything_is_measured(tmp_path: Path, case: str, look: str) -> None:
    changes, prepare, text = CASES[case]
    study = make_study(tmp_path, **changes)
    if prepare is not None:
        more = prepare(tmp_path)
        if more:
            study.write_text(json.dumps({**read_yaml(study), **changes, **more}))
    looks = {"dry run": plan_lines, "run": lambda path: mnemos.run(path, out=tmp_path / "run", quiet=True)}
    with pytest.raises(MnemosError, match=text) as caught:
        looks[look](study)  # type: ignore[operator]
    assert caught.value.bound
    assert not (tmp_path / "run" / "steps").exists()


def test_a_sweep_is_looked_at_too(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    with pytest.raises(MnemosError, match="adamv"):
        sweep_lines(study, ["train.optim=adamw_torch,adamv"])


def test_what_can_be_meant_passes(tmp_path: Path) -> None:
    arms = {"lora": [{"lora": {"rank": 2}}], "first": [{"freeze": {"layers_first": 1}}]}
    study = make_study(tmp_path, arms=arms, train={**TRAIN, "optim": "adafactor"})
    assert preflight(build(*load_study(study), tmp_path / "run")) == []


def test_a_server_that_does_not_answer_is_a_line_in_a_dry_run_and_an_error_in_a_run(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}/v1#model"
    arms = {
        "rlaif": [{"judged_pairs": {"num_generations": 2, "reward": {"judge": place, "verdict": "text"}}}, {"dpo": {}}]
    }
    study = make_study(tmp_path, arms=arms, train=TRAIN)
    assert any(line.startswith(f"server  {place}: cannot be reached now") for line in plan_lines(study))
    with pytest.raises(RunError, match="cannot be reached"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
    with socket.socket() as open_one:
        open_one.bind(("127.0.0.1", port))
        open_one.listen()
        assert not any(line.startswith("server") for line in plan_lines(study))
        # One of several that share the questions is enough; those that are not there are said.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            lost = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        more = {"arms.rlaif.0.judged_pairs.reward.judge": f"{lost},{place}"}
        lines = preflight(build(*load_study(study, more), tmp_path / "run"))
        assert [line.split(": cannot")[0] for line in lines if "server" in line] == [f"server  {lost}#model"]
