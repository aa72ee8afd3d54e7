"""What mergekit promises of its merges, as behaviours: small Llama, GPT-2 and Granite models in and out.

docs/merging.md says which of its cases do not apply here, and why.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GraniteConfig

from mnemos.core.errors import UsageError
from mnemos.weights.checkpoint import load_tokenizer
from mnemos.weights.expression import parse
from mnemos.weights.merge import How, Merged
from mnemos.weights.write import combine
from tests.tiny import save_tiny, tiny_tokenizer
from tests.weights.checkpoints import some, tensors, write
from tests.weights.test_operators import slerp

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("llamas")
    return {name: save_tiny(root / name, seed=seed) for seed, name in enumerate("abc")}


def made(text: str, places: dict[str, Path], out: Path, parent: str = "a") -> dict[str, torch.Tensor]:
    """The merge's tensors, once transformers has loaded it without a missing or unexpected one."""
    combine(parse(text), places, out, parent=parent)
    _, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    found = tensors(out)
    assert all(bool(value.isfinite().all()) for value in found.values())
    return found


@pytest.mark.parametrize(
    "text",
    [
        "0.6*a + 0.4*b",
        "slerp(a, b, 0.35)",
        "slerp(a, b, 0.6/(0.4 + 0.6))",
        "c + 0.5*(a - c) + 0.5*(b - c)",
        "breadcrumbs(c, a, b, smallest=0, largest=0.01)",
        "ties(c, a, b, density=0.3)",
        "dare_ties(c, a, b, drop=0.34)",
        "della(c, a, b, drop=0.34, spread=0.1, scale=0.5)",
        "model_stock(a, b, c)",
        "slerp(a, b, depth(0, 0.5, 0.3, 1))",
    ],
)
def test_two_and_three_model_merges_load(text: str, llamas: dict[str, Path], tmp_path: Path) -> None:
    found = made(text, llamas, tmp_path / "out")
    alone = tensors(llamas["a"])
    assert found.keys() == alone.keys()
    assert any(not torch.equal(found[key], alone[key]) for key in found)


@pytest.mark.parametrize("family", ["gpt2", "granite"])
def test_a_copy_is_a_copy(family: str, tmp_path: Path) -> None:
    if family == "gpt2":
        save_tiny(tmp_path / "a", "gpt2")
    else:
        tokenizer = tiny_tokenizer()
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 2}  # fmt: skip
        model = AutoModelForCausalLM.from_config(GraniteConfig(vocab_size=len(tokenizer), **shape))
        model.save_pretrained(tmp_path / "a")
        tokenizer.save_pretrained(tmp_path / "a")
    found, start = made("a", {"a": tmp_path / "a"}, tmp_path / "out"), tensors(tmp_path / "a")
    assert all(torch.equal(found[key], value) for key, value in start.items())


def test_a_scale_by_the_tensors_name(llamas: dict[str, Path], tmp_path: Path) -> None:
    found, start = made('where("o_proj", 0, a)', llamas, tmp_path / "out"), tensors(llamas["a"])
    zeroed = [key for key in found if "o_proj" in key]
    assert zeroed
    for key, value in found.items():
        assert not value.any() if key in zeroed else torch.equal(value, start[key])


def test_weights_that_sum_to_zero_give_the_base(llamas: dict[str, Path], tmp_path: Path) -> None:
    found, start = made("c + 0.5*(a - c) - 0.5*(a - c)", llamas, tmp_path / "out", "c"), tensors(llamas["c"])
    assert all(torch.equal(found[key], value) for key, value in start.items())


def test_a_spread_outside_its_range_is_refused() -> None:
    with pytest.raises(UsageError, match="not in"):
        parse("della(c, a, b, drop=0.34, spread=0.9)")


def test_layers_take_their_value_of_a_schedule(llamas: dict[str, Path], tmp_path: Path) -> None:
    found = made("slerp(a, b, depth(0, 1))", llamas, tmp_path / "out")
    a, b = tensors(llamas["a"]), tensors(llamas["b"])
    for layer, t in ((0, 0.0), (1, 1.0)):
        key = f"model.layers.{layer}.mlp.up_proj.weight"
        expected = slerp(a[key].double().numpy(), b[key].double().numpy(), t)
        np.testing.assert_allclose(found[key].numpy(), expected, atol=1e-6)
    assert torch.equal(found[EMBEDDING], a[EMBEDDING])
    assert torch.equal(found["model.norm.weight"], b["model.norm.weight"])


# --- tokenizers -----------------------------------------------------------------------------------

TOKENS = ["<unk>", "<s>", "</s>", *(f"tok{i}" for i in range(3, 16))]


@pytest.fixture
def vocabularies(tmp_path: Path) -> dict[str, Path]:
    """base; chatml with two tokens more; padded, whose tokenizer names four that have no row."""
    return {
        "base": write(tmp_path / "base", some(0, rows=16), TOKENS),
        "padded": write(tmp_path / "padded", some(1, rows=16), TOKENS, added=tuple(f"<UNUSED_{i}>" for i in range(4))),
        "chatml": write(tmp_path / "chatml", some(2, rows=18), TOKENS, added=("<|im_start|>", "<|im_end|>")),
    }


def merged(text: str, places: dict[str, Path], out: Path, **how: str) -> Merged:
    return combine(parse(text), places, out, parent="base", how=How(embeddings="align", **how))  # type: ignore[arg-type]


def vocabulary(folder: Path) -> dict[str, int]:
    found: dict[str, int] = load_tokenizer(str(folder)).get_vocab()
    return found


ALL = "mean(base, padded, chatml)"


def test_the_bases_tokenizer(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    done = merged(ALL, vocabularies, tmp_path / "out")
    assert len(vocabulary(tmp_path / "out")) == 16
    assert tensors(tmp_path / "out")[EMBEDDING].shape[0] == 16
    assert any("'<|im_end|>', '<|im_start|>'" in note and "left out" in note for note in done.notes)


def test_the_union_has_every_token_with_a_row(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    merged(ALL, vocabularies, tmp_path / "out", tokenizer="union")
    found = vocabulary(tmp_path / "out")
    assert len(found) == 18
    assert not any(token.startswith("<UNUSED") for token in found)
    out, chatml = tensors(tmp_path / "out")[EMBEDDING], tensors(vocabularies["chatml"])[EMBEDDING]
    for token, row in (("<|im_start|>", 16), ("<|im_end|>", 17)):
        assert torch.equal(out[found[token]], chatml[row])
    parts = [tensors(place)[EMBEDDING][:16] for place in vocabularies.values()]
    torch.testing.assert_close(out[:16], sum(parts) / 3)


def test_another_models_tokenizer(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    merged(ALL, vocabularies, tmp_path / "out", tokenizer="chatml")
    found = vocabulary(tmp_path / "out")
    assert len(found) == 18
    assert {"<|im_start|>", "<|im_end|>"} <= found.keys()
    assert AutoConfig.from_pretrained(tmp_path / "out").vocab_size == 18
    assert tensors(tmp_path / "out")["lm_head.weight"].shape[0] == 18


def test_slerp_over_a_union(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    merged("slerp(base, chatml, 0.5)", vocabularies, tmp_path / "out", tokenizer="union")
    assert len(vocabulary(tmp_path / "out")) == 18
    out = tensors(tmp_path / "out")[EMBEDDING]
    base, chatml = (tensors(vocabularies[name])[EMBEDDING] for name in ("base", "chatml"))
    expected = slerp(base.double().numpy(), chatml[:16].double().numpy(), 0.5)  # the angle of the shared rows
    np.testing.assert_allclose(out[:16].numpy(), expected, atol=1e-6)
    assert torch.equal(out[16:], chatml[16:])


def test_the_template_of_a_named_model(vocabularies: dict[str, Path], tmp_path: Path) -> None:
    write(vocabularies["padded"], some(1, rows=16), TOKENS, template="{{ 'padded' }}")
    write(vocabularies["base"], some(0, rows=16), TOKENS, template="{{ 'base' }}")
    places = {name: vocabularies[name] for name in ("base", "padded")}
    for wanted in ("base", "padded"):
        combine(
            parse("0.5*base + 0.5*padded"), places, tmp_path / f"out-{wanted}", parent="base", how=How(template=wanted)
        )
        assert load_tokenizer(str(tmp_path / f"out-{wanted}")).chat_template == f"{{{{ '{wanted}' }}}}"
    config = json.loads((tmp_path / "out-padded" / "tokenizer_config.json").read_text())
    assert "chat_template" not in config
