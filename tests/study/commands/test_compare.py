"""Models made by plain transformers, of three architectures: compared without a trainer of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import mnemos
from mnemos.weights.adapter import quiet_peft
from tests.models.test_tied import adapter
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

SUITES = [
    {
        "name": "sums",
        "kind": "choice",
        "items": [
            {"id": str(n), "prompt": f"{n} + 1 =", "options": [f" {n + 1}", f" {n}"], "answer": 0} for n in range(12)
        ],
    },
    {
        "name": "says",
        "kind": "generated",
        "match": "exact",
        "max_new_tokens": 4,
        "chat": True,
        "items": [{"id": str(n), "prompt": f"Say {n}.", "answer": str(n)} for n in range(4)],
    },
    {
        "name": "english",
        "kind": "bits_per_byte",
        "items": [{"id": str(n), "text": f"The river runs past mill {n}."} for n in range(10)],
    },
]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_a_model_against_itself_and_against_a_perturbed_one(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path / "before", family)
    tokenizer = tiny_tokenizer()
    changed = tiny_model(tokenizer, family)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    changed.save_pretrained(tmp_path / "after")
    tokenizer.save_pretrained(tmp_path / "after")
    (tmp_path / "suites.yaml").write_text(yaml.safe_dump(SUITES))

    same = mnemos.compare(tmp_path / "before", tmp_path / "before", tmp_path / "suites.yaml").comparisons
    assert {row["suite"] for row in same} >= {"sums", "says", "english"}
    assert all(row["delta"] in (0, None) and row["low"] in (0, None) for row in same)
    assert sum(row["delta"] == 0 for row in same) >= 3

    record = mnemos.compare(tmp_path / "before", tmp_path / "after", tmp_path / "suites.yaml", new=["says"])
    rows = {row["suite"]: row for row in record.comparisons}
    assert rows["english"]["delta"] != 0
    assert rows["english"]["low"] < rows["english"]["delta"] < rows["english"]["high"]
    assert rows["kl:says"]["after"] > 0
    assert {row["claim"] for row in record.comparisons} == {"about this checkpoint"}
    assert "about these two checkpoints" in record.report("text").replace("\n", " ")

    bare = mnemos.compare(
        tmp_path / "before", tmp_path / "after", tmp_path / "suites.yaml", new=["says"], health=False
    ).comparisons
    assert [row["suite"] for row in bare] == ["sums", "says", "english"]
    assert all(row["p_holm"] == rows[row["suite"]]["p_holm"] for row in bare), "health weakens nothing"
    assert record.results["manifest"]["model"]["fingerprint"] != record.results["manifest"]["after"]["fingerprint"]


def test_what_was_measured_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model after: the one before is taken from the cache, and what is compared is the same."""
    from mnemos.models.load import Checkpoint

    for name, seed in (("before", 0), ("after", 1), ("later", 2)):
        save_tiny(tmp_path / name, seed=seed)
    suites = [one for one in SUITES if one["name"] != "says"]
    loads, load = [], Checkpoint.load

    def counted(self: Checkpoint) -> object:
        loads.append(Path(self.path).name)
        return load(self)

    monkeypatch.setattr(Checkpoint, "load", counted)
    first = mnemos.compare(tmp_path / "before", tmp_path / "after", suites).comparisons
    assert loads == ["before", "after"]
    again = mnemos.compare(tmp_path / "before", tmp_path / "after", suites, out=tmp_path / "out").comparisons
    assert again == first
    assert (tmp_path / "out" / "before" / "answers" / "sums.jsonl").is_file()
    mnemos.compare(tmp_path / "before", tmp_path / "later", suites)
    assert loads == ["before", "after", "later"]
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    assert mnemos.compare(tmp_path / "before", tmp_path / "after", suites).comparisons == first
    assert loads == ["before", "after", "later", "before", "after"]
    save_tiny(tmp_path / "before", seed=3)
    mnemos.compare(tmp_path / "before", tmp_path / "after", suites)
    assert loads[5:] == ["before", "after"], "other weights behind the same path"


def test_the_cache_lies_where_its_variable_or_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemos.core.cache import cache_folder

    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MNEMOS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mnemos"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mnemos"


@pytest.mark.parametrize(("family", "target"), [("gemma", "embed_tokens"), ("gemma", "lm_head"), ("gpt2", "wte")])
def test_an_adapter_on_tied_embeddings_is_compared_as_it_was_trained(tmp_path: Path, family: str, target: str) -> None:
    """Bits per byte of peft's own wrapper, token by token, on a base whose embeddings are tied."""
    import math

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = save_tiny(tmp_path / "base", family)
    made, _ = adapter(tmp_path / "adapter", base, target_modules=[target], fan_in_fan_out=family == "gpt2")
    (suite,) = [one for one in SUITES if one["name"] == "english"]
    (row,) = mnemos.compare(base, made, [suite], health=False).comparisons
    with quiet_peft():
        wrapper = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), made).eval()
    tokenizer, nats, size = tiny_tokenizer(), 0.0, 0
    for item in suite["items"]:
        ids = torch.tensor([tokenizer(item["text"])["input_ids"]])
        with torch.no_grad():
            logits = wrapper(input_ids=ids).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        size += len(item["text"].encode())
    assert row["after"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert abs(row["delta"]) > 1e-3


def test_a_model_that_is_swapped_while_it_is_asked_spoils_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of another file must not lie in the cache under this one's name."""
    import os
    import shutil

    from mnemos.core.errors import RunError
    from mnemos.study import steps

    for name, seed in (("before", 0), ("after", 1), ("other", 2)):
        save_tiny(tmp_path / name, seed=seed)
    file = tmp_path / "after" / "model.safetensors"
    shutil.copy(file, tmp_path / "kept")
    suites = [one for one in SUITES if one["name"] == "english"]
    work = steps.MeasureStep.work

    def swapping(self: steps.MeasureStep, directory: Path, quiet: bool) -> object:
        if self.title == "after: measure":
            shutil.copy(tmp_path / "other" / file.name, tmp_path / "coming")
            os.replace(tmp_path / "coming", file)
        return work(self, directory, quiet)

    with monkeypatch.context() as patch:
        patch.setattr(steps.MeasureStep, "work", swapping)
        with pytest.raises(RunError, match=r"model\.safetensors: was changed while after: measure worked"):
            mnemos.compare(tmp_path / "before", tmp_path / "after", suites)
    os.replace(tmp_path / "kept", file)
    (row,) = mnemos.compare(tmp_path / "before", tmp_path / "after", suites, health=False).comparisons
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    assert mnemos.compare(tmp_path / "before", tmp_path / "after", suites, health=False).comparisons == [row]
