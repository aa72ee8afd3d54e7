"""Adapters on tied embeddings: the model that was trained, loaded, merged, saved and added.

The reference is peft's wrapper on the base, which is what was trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mnemos.core.errors import ModelError
from mnemos.models.load import load_model
from mnemos.weights.adapter import quiet_peft
from mnemos.weights.expression import parse
from mnemos.weights.merge import How
from mnemos.weights.write import combine
from tests.tiny import save_tiny

PROMPT = (torch.arange(40) * 7)[None] % 300
KINDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "embed": ("gemma", {"target_modules": ["embed_tokens", "q_proj"]}, False),
    "head": ("gemma", {"target_modules": ["lm_head"]}, False),
    "both": ("gemma", {"target_modules": ["embed_tokens", "lm_head"]}, False),
    "whole": ("gemma", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    "whole head": ("gemma", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    "wte": ("gpt2", {"target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}, False),
    "alike": ("gemma", {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}, True),
    "whole alike": (
        "gemma",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        True,
    ),
    "elsewhere": ("gemma", {"target_modules": ["q_proj"]}, True),
}


def adapter(folder: Path, base: Path, **config: Any) -> tuple[Path, torch.Tensor]:
    """An adapter's directory, and the logits of the wrapper that was saved."""
    from peft import LoraConfig, get_peft_model

    with quiet_peft():
        model = get_peft_model(load_model(str(base)), LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **config))
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            logits = model.eval()(input_ids=PROMPT).logits
        model.save_pretrained(folder)
    return folder, logits


def logits(folder: Path, **how: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = load_model(str(folder), **how)(input_ids=PROMPT).logits
    return out


def tied(folder: Path) -> bool:
    model = load_model(str(folder))
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_on_tied_embeddings_is_the_model_that_was_trained(kind: str, tmp_path: Path) -> None:
    family, config, stays_tied = KINDS[kind]
    base = save_tiny(tmp_path / "base", family)
    assert tied(base)
    made, wanted = adapter(tmp_path / "adapter", base, **config)
    assert not close(logits(base), wanted)
    assert close(logits(made), wanted)
    assert close(logits(made, merge=False), wanted)
    load_model(str(made)).save_pretrained(tmp_path / "saved")
    assert close(logits(tmp_path / "saved"), wanted)
    combine(parse("tuned"), {"tuned": made}, tmp_path / "merged", parent="tuned")
    assert close(logits(tmp_path / "merged"), wanted)
    for folder in (tmp_path / "saved", tmp_path / "merged"):
        assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] == stays_tied
        assert tied(folder) == stays_tied
        stored = load_file(folder / "model.safetensors")
        assert ("lm_head.weight" in stored) != stays_tied


@pytest.mark.parametrize("family", ["gemma", "gpt2"])
def test_arithmetic_with_a_tied_trunk_gives_what_the_sum_of_both_roles_gives(family: str, tmp_path: Path) -> None:
    """0.5*base + 0.5*tuned, with either of the two as the trunk, against plain sums of the loaded weights."""
    base = save_tiny(tmp_path / "base", family)
    made, _ = adapter(tmp_path / "adapter", base, target_modules=["wte" if family == "gpt2" else "embed_tokens"])
    loaded = [load_model(str(place)).state_dict() for place in (base, made)]
    places = {"base": base, "tuned": made}
    for trunk in places:
        combine(parse("0.5*base + 0.5*tuned"), places, tmp_path / f"at {trunk}", parent=trunk)
        found = load_model(str(tmp_path / f"at {trunk}")).state_dict()
        assert found.keys() == loaded[0].keys()
        for key, value in found.items():
            torch.testing.assert_close(value, 0.5 * loaded[0][key] + 0.5 * loaded[1][key], atol=1e-6, rtol=1e-5)
    embedding = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"
    assert not torch.equal(found[embedding], found["lm_head.weight"])


@pytest.mark.parametrize("kind", ["embed", "whole head", "wte", "elsewhere"])
@pytest.mark.parametrize("text", ["base + v", "v + base", "base - w", "ties(base, base + v, density=1)"])
def test_a_saved_difference_to_such_an_adapter_is_both_of_its_parts(kind: str, text: str, tmp_path: Path) -> None:
    family, config, stays_tied = KINDS[kind]
    base = save_tiny(tmp_path / "base", family)
    made, wanted = adapter(tmp_path / "adapter", base, **config)
    models = {"tuned": made, "base": base}
    difference, parent = ("tuned - base", "tuned") if "v" in text else ("base - tuned", "base")
    saved = combine(parse(difference), models, tmp_path / "saved", parent=parent, how=How(vector=True))
    assert saved.how.vector
    combine(
        parse(text), {"base": base, "v": tmp_path / "saved", "w": tmp_path / "saved"}, tmp_path / "out", parent="base"
    )
    assert close(logits(tmp_path / "out"), wanted)
    assert tied(tmp_path / "out") == stays_tied


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ({"target_modules": ["embed_tokens"]}, {"target_modules": ["lm_head"]}),
        ({"target_modules": ["q_proj"]}, {"target_modules": ["q_proj", "v_proj"]}),
        ({"target_modules": ["q_proj"]}, {"target_modules": ["q_proj"], "use_dora": True}),
        ({"target_modules": ["lm_head"]}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    ],
)
def test_an_adapter_on_an_adapter_is_both(inner: dict[str, Any], outer: dict[str, Any], tmp_path: Path) -> None:
    """Also where both change one module, or the outer one holds whole what the inner one adapts."""
    base = save_tiny(tmp_path / "base", "gemma")
    first, _ = adapter(tmp_path / "first", base, **inner)
    second, wanted = adapter(tmp_path / "second", first, **outer)
    config = json.loads((second / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(first)
    (second / "adapter_config.json").write_text(json.dumps(config))
    assert close(logits(second), wanted)
    combine(parse("tuned"), {"tuned": second}, tmp_path / "merged", parent="tuned")
    assert close(logits(tmp_path / "merged"), wanted)


def test_an_adapter_that_names_itself_as_its_base_is_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    first, _ = adapter(tmp_path / "first", base, target_modules=["q_proj"])
    second, _ = adapter(tmp_path / "second", base, target_modules=["q_proj"])
    for place, names in ((first, first), (first, second), (second, first)):
        config = json.loads((place / "adapter_config.json").read_text())
        (place / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(names)}))
    for place in (first, second):
        with pytest.raises(ModelError, match="leads back to the adapter itself"):
            load_model(str(place))
        with pytest.raises(ModelError, match="leads back to the adapter itself"):
            combine(parse("a"), {"a": place}, tmp_path / "out", parent="a")


def test_a_merge_that_peft_gets_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    made, _ = adapter(tmp_path / "adapter", save_tiny(tmp_path / "base"), target_modules=["q_proj"])
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, *_, **__: self.unload(), raising=False)
    with pytest.raises(ModelError, match="merged logits differ from the adapter's"):
        load_model(str(made))
