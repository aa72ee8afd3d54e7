"""Sums of checkpoints against plain tensor arithmetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mnemos.core.errors import ModelError, RunError, UsageError
from mnemos.models.load import Checkpoint, load_model
from mnemos.weights.expression import parse
from mnemos.weights.write import combine
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: save_tiny(root / name, seed=seed) for seed, name in enumerate(["after", "before", "base"])}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found.update(load_file(file))
    return found


def rewrite(folder: Path, **changed: torch.Tensor | None) -> None:
    found = {**tensors(folder), **{key.replace("__", "."): value for key, value in changed.items()}}
    save_file(
        {k: v for k, v in found.items() if v is not None}, folder / "model.safetensors", metadata={"format": "pt"}
    )


@pytest.mark.parametrize(
    ("text", "coefficients"),
    [
        ("0.3*after + 0.7*before", {"after": 0.3, "before": 0.7}),
        ("after + 0.5*(before - base)", {"after": 1.0, "before": 0.5, "base": -0.5}),
        ("2*before", {"before": 2.0}),
        ("after - after", {}),
    ],
)
def test_sums(places: dict[str, Path], tmp_path: Path, text: str, coefficients: dict[str, float]) -> None:
    combine(parse(text), places, tmp_path / "out", parent="after")
    parts = {name: tensors(path) for name, path in places.items()}
    result = tensors(tmp_path / "out")
    assert result.keys() == parts["after"].keys()
    for key, value in result.items():
        expected = sum(
            (c * parts[name][key].double() for name, c in coefficients.items()), torch.zeros(value.shape).double()
        )
        torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=1e-6)
    load_model(str(tmp_path / "out"))


def test_once_the_parent_is_the_parent_bit_by_bit(places: dict[str, Path], tmp_path: Path) -> None:
    combine(parse("after"), places, tmp_path / "out", parent="after")
    for file in places["after"].iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name
    assert Checkpoint(str(tmp_path / "out")).fingerprint == Checkpoint(str(places["after"])).fingerprint


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_16_bit_sharded_and_tied(family: str, tmp_path: Path) -> None:
    """Accumulated in float32, rounded once; layout, dtype and tie are the parent's."""
    for seed, name in enumerate(["a", "b"]):
        model = load_model(str(save_tiny(tmp_path / f"{name}32", family, seed)), dtype="bfloat16")
        model.tie_weights()
        model.save_pretrained(tmp_path / name, max_shard_size="30KB" if name == "a" else "5GB")
        shutil.copy(tmp_path / f"{name}32" / "tokenizer.json", tmp_path / name)
    combine(parse("0.1*a + 0.2*b + 0.7*a"), {"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "out", parent="a")
    a, b, out = tensors(tmp_path / "a"), tensors(tmp_path / "b"), tensors(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    for key, value in out.items():
        expected = a[key].double() * (0.1 + 0.7) + b[key].double() * 0.2
        assert value.dtype == torch.bfloat16
        # Half an ulp of bfloat16 is at most 2^-8 of the value; float32 adds 2^-23 of the terms.
        terms = a[key].double().abs() * 0.8 + b[key].double().abs() * 0.2
        assert bool(((value.double() - expected).abs() <= expected.abs() * 2**-8 + terms * 2**-22).all()), key
    loaded = load_model(str(tmp_path / "out"), dtype="bfloat16")
    tied = loaded.get_input_embeddings().weight.data_ptr() == loaded.get_output_embeddings().weight.data_ptr()
    assert tied == loaded.config.tie_word_embeddings == (family == "gpt2")


def test_tied_checkpoints_that_store_the_output_embedding_and_those_that_do_not(tmp_path: Path) -> None:
    for seed, name in enumerate(["a", "b"]):
        folder = save_tiny(tmp_path / name, "gemma", seed)
        assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert "lm_head.weight" not in tensors(tmp_path / "a")
    embedding = tensors(tmp_path / "b")["model.embed_tokens.weight"]
    rewrite(tmp_path / "b", lm_head__weight=embedding.clone())
    places = {"a": tmp_path / "a", "b": tmp_path / "b"}
    combine(parse("a + b"), places, tmp_path / "left", parent="a")
    combine(parse("a + b"), places, tmp_path / "right", parent="b")
    left, right = tensors(tmp_path / "left"), tensors(tmp_path / "right")
    assert "lm_head.weight" not in left
    assert torch.equal(right["lm_head.weight"], right["model.embed_tokens.weight"])
    assert torch.equal(right["lm_head.weight"], left["model.embed_tokens.weight"])
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        combine(parse("a + b"), places, tmp_path / "untied", parent="a")


def test_integers_come_from_the_parent(places: dict[str, Path], tmp_path: Path) -> None:
    for name, number in (("after", 3), ("before", 5)):
        shutil.copytree(places[name], tmp_path / name)
        rewrite(tmp_path / name, counter=torch.tensor([number]))
    combine(
        parse("0.5*after + 0.5*before"),
        {n: tmp_path / n for n in ("after", "before")},
        tmp_path / "out",
        parent="before",
    )
    assert tensors(tmp_path / "out")["counter"].tolist() == [5]


@settings(max_examples=10, deadline=None)
@given(a=st.floats(-3, 3, width=16), b=st.floats(-3, 3, width=16))
def test_a_sum_and_its_inverse_give_the_original(
    places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, a: float, b: float
) -> None:
    root = tmp_path_factory.mktemp("round")
    combine(parse(f"base + ({a!r})*after + ({b!r})*before"), places, root / "there", parent="base")
    back = {**places, "there": root / "there"}
    combine(parse(f"there - ({a!r})*after - ({b!r})*before"), back, root / "back", parent="base")
    original, found = tensors(places["base"]), tensors(root / "back")
    for key, value in original.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-5)


def test_misfits_name_the_tensor_and_both_shapes(places: dict[str, Path], tmp_path: Path) -> None:
    wide = save_tiny(tmp_path / "wide", hidden=64)
    with pytest.raises(ModelError, match=r"shape \[400, 32\] in after: shape \[400, 64\] in wide"):
        combine(parse("after + wide"), {**places, "wide": wide}, tmp_path / "out", parent="after")
    deep = save_tiny(tmp_path / "deep", layers=3)
    with pytest.raises(ModelError, match=r"model\.layers\.2.*after has none"):
        combine(parse("after + deep"), {**places, "deep": deep}, tmp_path / "out", parent="after")
    with pytest.raises(ModelError, match=r"model\.layers\.2.*after has none"):
        combine(parse("deep"), {**places, "deep": deep}, tmp_path / "out", parent="after")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "wide"]


def test_other_vocabularies_are_refused(places: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(places["after"], tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    value = json.loads(file.read_text())
    one, two = list(value["model"]["vocab"])[50:52]
    vocabulary = value["model"]["vocab"]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    file.write_text(json.dumps(value))
    with pytest.raises(ModelError, match="2 tokens differ"):
        combine(parse("after + other"), {**places, "other": tmp_path / "other"}, tmp_path / "out", parent="after")


def test_values_that_are_not_finite_are_refused(places: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(places["after"], tmp_path / "broken")
    norm = tensors(tmp_path / "broken")["model.norm.weight"]
    norm[0] = float("nan")
    rewrite(tmp_path / "broken", model__norm__weight=norm)
    with pytest.raises(ModelError, match=r"tensor model\.norm\.weight.*1 of 32 values are not finite"):
        combine(
            parse("0.5*after + 0.5*broken"), {**places, "broken": tmp_path / "broken"}, tmp_path / "out", parent="after"
        )
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["broken"]


def test_names_and_places_are_checked(places: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'before'"):
        combine(parse("after + befor"), places, tmp_path / "out", parent="after")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(RunError, match="is there already"):
        combine(parse("after"), places, tmp_path / "full", parent="after")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors weights"):
        combine(parse("empty"), {"empty": tmp_path / "empty"}, tmp_path / "out", parent="empty")
