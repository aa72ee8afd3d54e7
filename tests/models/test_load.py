"""Checkpoints that load, and those that are refused with a cure."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mnemos
from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.models.load import Checkpoint, check_vocabulary, load_model
from mnemos.weights import finite
from mnemos.weights.card import identify
from mnemos.weights.checkpoint import load_tokenizer, named
from mnemos.weights.expression import parse
from mnemos.weights.files import check_weights, read_config, weight_files
from mnemos.weights.write import combine
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer
from tests.weights.test_precision import cast

PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_tensor(folder: Path, name: str, made: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = load_file(folder / "model.safetensors")
    save_file({**found, name: made(found[name])}, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_directory_loads_as_it_was_saved(original: Path) -> None:
    handle: ModelHandle = Checkpoint(str(original))
    model = handle.load()
    expected = tiny_model(tiny_tokenizer())
    for (name, a), (_, b) in zip(model.model.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(a.cpu().float(), b), name
    assert not model.model.training
    assert (model.name, model.fingerprint) == (str(original), handle.fingerprint)
    answer = model.generate([Prompt((Turn("user", "hello"),))], Decoding(max_new_tokens=3))[0]
    assert len(answer.ids) <= 3


def test_dtype_is_the_one_asked_for(original: Path) -> None:
    assert load_model(str(original)).dtype == torch.float32
    assert load_model(str(original), dtype="bfloat16").dtype == torch.bfloat16


def test_fingerprint_is_the_content_wherever_it_lies(original: Path, folder: Path) -> None:
    same = Checkpoint(str(original)).fingerprint
    assert Checkpoint(str(folder)).fingerprint == same
    (folder / "trainer_state.json").write_text("{}")
    assert Checkpoint(str(folder)).fingerprint == same
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        text = (folder / name).read_text()
        change(folder / name, something="else")
        assert Checkpoint(str(folder)).fingerprint != same, name
        (folder / name).write_text(text)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert Checkpoint(str(folder)).fingerprint != same


def test_fingerprint_looks_at_what_makes_features_of_a_recogniser_alone(folder: Path) -> None:
    file, config = folder / "preprocessor_config.json", folder / "config.json"
    plain = named(str(folder))
    file.write_text('{"sampling_rate": 16000}', encoding="utf-8")
    assert named(str(folder)) == plain
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, "architectures": ["Wav2Vec2ForCTC"]}), encoding="utf-8")
    first = named(str(folder))
    file.write_text('{"sampling_rate": 8000}', encoding="utf-8")
    assert named(str(folder)) != first


def test_fingerprint_follows_one_changed_weight(folder: Path) -> None:
    before = Checkpoint(str(folder)).fingerprint
    tensors = load_file(folder / "model.safetensors")
    tensors[next(iter(tensors))].view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert Checkpoint(str(folder)).fingerprint != before


def test_pickled_weights_need_consent(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    expected = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickle") as caught:
        load_model(str(folder))
    assert "allow_pickle" in caught.value.cure
    state = load_model(str(folder), allow_pickle=True).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert Checkpoint(str(folder)).fingerprint != Checkpoint(str(folder), allow_pickle=True).fingerprint


def test_remote_code_needs_consent(folder: Path) -> None:
    change(
        folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
    )
    (folder / "mine.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(ModelError) as caught:
        load_model(str(folder))
    assert "trust_remote_code" in caught.value.cure


@pytest.mark.parametrize("keep", [4, 200, -10])
def test_truncated_weights_name_the_file(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged"):
        load_model(str(folder))


def test_missing_things_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_model("./nowhere/at/all")
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(folder / "config.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config\.json.*is missing"):
        load_model(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(str(tmp_path / "empty"))
    (folder / "config.json").write_text("{broken")
    with pytest.raises(ModelError, match="is not JSON"):
        load_model(str(folder))


def test_tensors_that_the_files_lack_are_not_made_up(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors .*model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    load_model(str(folder)).save_pretrained(folder / "sharded", max_shard_size="40KB")
    shards = sorted((folder / "sharded").glob("*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        load_model(str(folder / "sharded"))


def test_fewer_embedding_rows_than_tokens_is_refused_and_more_is_fine(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    model = load_model(str(folder))
    rows = len(tokenizer)
    for size in (rows + 56, rows):
        model.resize_token_embeddings(size, mean_resizing=False)
        check_vocabulary(model, tokenizer, "here")
    model.resize_token_embeddings(rows - 1, mean_resizing=False)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=f"{rows - 1} embedding rows: its tokenizer has {rows} tokens"):
        Checkpoint(str(folder)).load()


def test_hub_ids_offline_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for ask in (
        lambda: Checkpoint("some-org/no-such-model").fingerprint,
        lambda: load_model("some-org/no-such-model@main"),
        lambda: load_tokenizer("some-org/no-such-model"),
    ):
        with pytest.raises(ModelError, match=r"hub's cache .*while HF_HUB_OFFLINE is set") as caught:
            ask()
        assert "unset HF_HUB_OFFLINE" in caught.value.cure


def test_a_hub_id_in_the_cache_loads_and_is_named_by_its_commit(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    commits = ["1" * 40, "2" * 40]
    for commit in commits:
        shutil.copytree(original, cache / "models--org--tiny" / "snapshots" / commit)
    refs = cache / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commits[0])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert constants.HF_HUB_OFFLINE
    first = Checkpoint("org/tiny")
    assert first.load().fingerprint == first.fingerprint
    (refs / "main").write_text(commits[1])
    assert Checkpoint("org/tiny").fingerprint != first.__class__("org/tiny@" + commits[0]).fingerprint
    (refs / "v1.0").write_text(commits[0])  # a branch or tag is its commit, whatever main is by now
    assert Checkpoint("org/tiny@v1.0").fingerprint == Checkpoint("org/tiny@v1.0").load().fingerprint
    with pytest.raises(ModelError, match=r"org/tiny@v2: .*HF_HUB_OFFLINE is set\n.*name a revision"):
        Checkpoint("org/tiny@v2").load()


def test_a_hub_id_online_is_asked_for_its_revision_and_downloaded(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a hub on this machine, in a process of its own: huggingface_hub reads its settings once."""
    commit = "3" * 40
    with hub_of({("org/tiny", "v1"): (commit, original)}) as (address, asked):
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        code = (
            "from mnemos.weights.checkpoint import named, resolve\n"
            "from mnemos.core.errors import ModelError\n"
            "print(named('org/tiny@v1'))\n"
            "print(resolve('org/tiny@v1', allow_pickle=False, trust_remote_code=False))\n"
            "try:\n    named('org/tiny@v2')\nexcept ModelError as error:\n    print(error.bound, error.cure)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    name, place, refusal = done.stdout.splitlines()
    assert Path(place).name == commit
    assert (Path(place) / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()
    assert name == fingerprint({"hub": "org/tiny@v1", "commit": commit})
    assert "that the hub gave" in refusal
    assert "the revision behind @" in refusal
    assert any("/v1" in path for path in asked)


@contextlib.contextmanager
def hub_of(models: dict[tuple[str, str], tuple[str, Path]]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as the Hugging Face hub does for a few models: (name, revision) -> commit, directory."""
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            for (name, revision), (commit, folder) in models.items():
                for known in (revision, commit):
                    if path == f"/api/models/{name}/revision/{known}":
                        files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                        return self.send(json.dumps({"id": name, "sha": commit, "siblings": files}).encode(), body)
                    if path.startswith(f"/api/models/{name}/tree/{known}"):
                        files = [
                            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                            for file in sorted(folder.iterdir())
                        ]
                        return self.send(json.dumps(files).encode(), body)
                    start = f"/{name}/resolve/{known}/"
                    if path.startswith(start) and (folder / path.removeprefix(start)).is_file():
                        headers = {"X-Repo-Commit": commit, "ETag": f'"{hash(path) & 0xFFFFFFFF}"'}
                        return self.send((folder / path.removeprefix(start)).read_bytes(), body, headers)
            self.send(b"{}", body, {"X-Error-Code": "RevisionNotFound"}, 404)
            return None

        def send(self, data: bytes, body: bool, headers: dict[str, str] | None = None, code: int = 200) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("shards", [True, False])
def test_weights_in_shards_are_the_same_model(original: Path, tmp_path: Path, shards: bool) -> None:
    whole = load_model(str(original))
    whole.save_pretrained(tmp_path / "parts", max_shard_size="20KB" if shards else "1GB")
    assert (len(list((tmp_path / "parts").glob("*.safetensors"))) > 1) is shards
    again = load_model(str(tmp_path / "parts"))
    assert all(torch.equal(again.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_tied_embeddings_that_are_two_matrices_are_refused(tmp_path: Path) -> None:
    """transformers computes with both and says so in a log alone; with headers only it cannot tell."""
    folder = save_tiny(tmp_path, "gemma")
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    inner = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": inner.clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(folder)).config.tie_word_embeddings, "two copies of one matrix are tied"
    save_file({**tensors, "lm_head.weight": inner + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    for headers_only in (True, False):
        with pytest.raises(ModelError, match=r"tie_word_embeddings = true: but lm_head\.weight and model\.embed_tok"):
            load_model(str(folder), headers_only=headers_only)
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    assert torch.equal(load_model(str(folder)).lm_head.weight, inner + 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors.*lm_head\.weight\n.*tie_word_embeddings: true"):
        load_model(str(folder))


@PEFT
def test_an_adapter_directory_is_its_base_with_the_adapter(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(str(folder))
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = base(input_ids=ids).logits
    wrapped = get_peft_model(base, LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    wrapped.peft_config["default"].base_model_name_or_path = str(folder)
    expected = wrapped.eval()(input_ids=ids).logits
    adapter = tmp_path / "adapter"
    wrapped.save_pretrained(adapter)

    merged = load_model(str(adapter))
    assert not hasattr(merged, "disable_adapter")
    torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    kept = load_model(str(adapter), merge=False)
    torch.testing.assert_close(kept(input_ids=ids).logits, expected)
    with kept.disable_adapter():
        assert torch.equal(kept(input_ids=ids).logits, plain)
    assert hasattr(load_model(str(adapter), dtype="bfloat16"), "disable_adapter")

    assert Checkpoint(str(adapter)).load().tokenizer.get_vocab() == load_tokenizer(str(folder)).get_vocab()
    before = Checkpoint(str(adapter)).fingerprint
    change(folder / "config.json", something="else")
    assert Checkpoint(str(adapter)).fingerprint != before


@PEFT
def test_an_adapter_on_an_adapter_loses_nothing_of_the_lower_one_in_16_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemos.models.precision.fast_dtype", lambda: "bfloat16")
    cast(folder, torch.bfloat16)
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = load_model(str(folder))
    lower, upper = (adapter_of(plain, tmp_path / name, seed) for seed, name in enumerate(("lower", "upper")))
    point_at(lower, folder)
    point_at(upper, lower)
    wanted = load_model(str(upper))(input_ids=ids).logits
    # As it is measured: in float32, whatever the machine computes faster; the lower adapter is all there.
    found = Checkpoint(str(upper)).load().model
    assert found.dtype == torch.float32
    torch.testing.assert_close(found(input_ids=ids).logits, wanted)
    # As it was asked for: an upper adapter beside the sum, cast once.
    asked = load_model(str(upper), dtype="bfloat16")
    assert hasattr(asked, "disable_adapter")
    with asked.disable_adapter():
        below = asked(input_ids=ids).logits.float()
    assert torch.equal(below, saved_in_16_bits(lower, tmp_path / "l")(input_ids=ids).logits.float())
    whole = load_model(str(upper), dtype="bfloat16", merge=True)
    assert whole.dtype == torch.bfloat16
    # The frequencies of rotary positions are no weights: they are not rounded with them.
    assert next(value for name, value in whole.named_buffers() if "inv_freq" in name).dtype == torch.float32
    assert torch.equal(whole(input_ids=ids).logits, saved_in_16_bits(upper, tmp_path / "u")(input_ids=ids).logits)


def saved_in_16_bits(adapter: Path, place: Path) -> Any:
    """The sum in float32, saved in bfloat16 and loaded as it lies there."""
    load_model(str(adapter)).save_pretrained(place)
    cast(place, torch.bfloat16)
    return load_model(str(place), dtype="bfloat16")


def adapter_of(model: Any, place: Path, seed: int) -> Path:
    """A LoRA of random numbers for a model, saved; the model is left as it was."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    wrapped.save_pretrained(place)
    wrapped.unload()
    return place


def point_at(adapter: Path, base: Path) -> None:
    change(adapter / "adapter_config.json", base_model_name_or_path=str(base))


@PEFT
def test_a_damaged_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(load_model(str(folder)), LoraConfig(target_modules=["q_proj"]))
    wrapped.peft_config["default"].base_model_name_or_path = str(folder)
    adapter = tmp_path / "adapter"
    wrapped.save_pretrained(adapter)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[next(iter(tensors))]
    save_file(tensors, file)
    with pytest.raises(ModelError, match="does not fit its base"):
        load_model(str(adapter))
    file.unlink()
    with pytest.raises(ModelError, match="holds no adapter_model"):
        load_model(str(adapter))
    change(adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="base_model_name_or_path"):
        load_model(str(adapter))


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, mnemos.models, mnemos.models.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, tmp_path: Path, bad: float) -> None:
    change_tensor(folder, "model.norm.weight", lambda value: value.index_fill(0, torch.tensor([3]), bad))
    with pytest.raises(ModelError, match=r"model\.norm\.weight of .*\n?.*1 of 32 values are not finite"):
        load_model(str(folder))
    with pytest.raises(ModelError, match="not finite"):
        mnemos.compare(folder, folder, [{"name": "c", "kind": "bits_per_byte", "items": [{"text": "abc"}]}])


@PEFT
def test_an_adapter_that_is_not_finite_is_refused(folder: Path, tmp_path: Path) -> None:
    wrapped = get_peft_model(load_model(str(folder)), LoraConfig(target_modules=["q_proj"]))
    wrapped.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value + float("nan") for name, value in load_file(file).items()}, file)
    for merge in (True, False):
        with pytest.raises(ModelError, match="not finite"):
            load_model(str(tmp_path / "adapter"), merge=merge)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_weights_stored_as_integers_are_refused(folder: Path, dtype: torch.dtype) -> None:
    change_tensor(folder, "model.norm.weight", lambda value: value.to(dtype))
    with pytest.raises(ModelError, match=r"model\.norm\.weight in .*: is stored as"):
        load_model(str(folder))


def test_finite_sums_that_overflow_are_finite() -> None:
    assert finite.all_finite(torch.full((4,), 3e38))
    assert finite.all_finite(torch.full((300,), 60000.0, dtype=torch.float16))
    assert finite.all_finite(torch.empty(0))
    assert not finite.all_finite(torch.tensor([1.0, -math.inf, math.inf]))


def test_one_rule_says_which_file_is_the_model(folder: Path, tmp_path: Path) -> None:
    """A complete file beside an older save in shards: transformers reads the file, and so does everybody."""
    older = load_model(str(save_tiny(tmp_path / "older", seed=5)))
    older.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    before = Checkpoint(str(folder)).fingerprint
    for file in (tmp_path / "shards").glob("model*"):
        shutil.copy(file, folder / file.name)
    assert weight_files(folder) == (folder / "model.safetensors",)
    wanted = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    combine(parse("a"), {"a": folder}, tmp_path / "out", parent="a")
    for place in (folder, tmp_path / "out"):
        found = load_model(str(place)).state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert Checkpoint(str(folder)).fingerprint == before, "shards that nobody reads are no part of the model"
    assert sorted(file.name for file in (tmp_path / "out").glob("*safetensors*")) == ["model.safetensors"]
    next(folder.glob("model-00001*")).write_bytes(b"rest of a broken save")
    load_model(str(folder))
    assert identify(folder) == before
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00001.*is damaged"):
        load_model(str(folder))
    with pytest.raises(ModelError, match=r"model-00001.*is damaged"):
        combine(parse("a"), {"a": folder}, tmp_path / "again", parent="a")


def test_the_file_that_the_configuration_names_is_the_model(folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=5)
    shutil.copy(other / "model.safetensors", folder / "better.safetensors")
    change(folder / "config.json", transformers_weights="better.safetensors")
    assert weight_files(folder) == (folder / "better.safetensors",)
    found, wanted = load_model(str(folder)).state_dict(), load_model(str(other)).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for odd, words in (("../better.safetensors", "in this folder"), ("none.safetensors", "missing")):
        change(folder / "config.json", transformers_weights=odd)
        with pytest.raises(ModelError, match=words):
            load_model(str(folder))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "no weight_map"),
        ({"weight_map": {"a": 3}}, "no weight_map"),
        ({"weight_map": {"a": "../a.safetensors"}}, "not in the index's own folder"),
        ({"weight_map": {"a": "b.safetensors"}}, r"b\.safetensors: is named by the index but missing"),
    ],
)
def test_an_index_that_names_nothing_to_read_is_refused(folder: Path, index: dict[str, Any], words: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=words):
        load_model(str(folder))
    with pytest.raises(ModelError, match=words):
        Checkpoint(str(folder)).fingerprint  # noqa: B018 - reading it is the test


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("bert", {"architectures": ["BertForMaskedLM"]}, "is an encoder"),
        ("roberta", {}, "is an encoder"),
        ("t5", {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder-decoder"),
        ("vit", {"architectures": ["ViTForImageClassification"]}, "no causal language model"),
        ("clip", {"architectures": ["CLIPModel"]}, "no causal language model"),
        ("whisper", {"architectures": ["WhisperForConditionalGeneration"]}, "encoder-decoder"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "a number or a class"),
        ("no_such_type", {}, "does not recognize"),
    ],
)
def test_other_kinds_of_model_are_refused_by_name(
    folder: Path, kind: str, settings: dict[str, Any], words: str
) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **settings}))
    for how in ({}, {"headers_only": True}):
        with pytest.raises(ModelError, match=words):
            load_model(str(folder), **how)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_attention_heads": 0},
        {"hidden_size": "wide"},
        {"num_hidden_layers": -1},
        {"vocab_size": None},
        {"rope_parameters": {"rope_type": "none such"}},
        {"hidden_act": "no such activation"},
    ],
)
def test_configurations_that_cannot_be_meant_are_model_errors(folder: Path, settings: dict[str, Any]) -> None:
    change(folder / "config.json", **settings)
    for how in ({}, {"headers_only": True}):
        with pytest.raises(ModelError, match="model"):
            load_model(str(folder), **how)


def test_a_broken_configuration_is_not_blamed_on_the_tokenizer(folder: Path) -> None:
    (folder / "config.json").write_text("{broken")
    with pytest.raises(ModelError, match=r"config\.json: the model's configuration is not JSON"):
        Checkpoint(str(folder)).load()


@pytest.mark.parametrize("eos", ["<|im_end|>", [3, "x"], 1.5, {"a": 1}, True])
def test_a_generation_configuration_that_ends_answers_with_no_token_is_refused(folder: Path, eos: Any) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    with pytest.raises(ModelError, match=r"eos_token_id|generation"):
        Checkpoint(str(folder)).load()


@pytest.mark.parametrize("text", ["[]", "{broken", '"text"'])
def test_a_generation_configuration_that_is_none_is_refused_by_name(folder: Path, text: str) -> None:
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json: the generation configuration is not"):
        Checkpoint(str(folder)).load()


def test_headers_alone_tell_what_is_missing(folder: Path) -> None:
    model = load_model(str(folder), headers_only=True)
    assert {value.device.type for value in model.parameters()} == {"meta"}
    found = load_file(folder / "model.safetensors")
    found.pop("model.norm.weight")
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors .*model\.norm\.weight"):
        load_model(str(folder), headers_only=True)


@PEFT
def test_headers_alone_open_an_adapter(folder: Path, tmp_path: Path) -> None:
    wrapped = get_peft_model(load_model(str(folder)), LoraConfig(target_modules=["q_proj"]))
    wrapped.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    change(config, base_model_name_or_path=str(folder))
    model = load_model(str(tmp_path / "adapter"), headers_only=True)
    assert {value.device.type for value in model.parameters()} == {"meta"}
    assert not hasattr(model, "peft_config")
    change(config, target_modules=["k_proj"])
    with pytest.raises(ModelError, match="does not fit its base"):
        load_model(str(tmp_path / "adapter"), headers_only=True)


def test_a_forbidden_file_is_not_called_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, *_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ModelError, match=r"config\.json: may not be read \(permission denied\)"):
        read_config(folder / "config.json", "the model's configuration")
    monkeypatch.undo()

    def refused(file: Any, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(ModelError, match=r"model\.safetensors: may not be read \(permission denied\)"):
        check_weights(folder, allow_pickle=False)


def test_a_refused_pickle_is_a_model_error(folder: Path) -> None:
    """torch refuses to build what is no tensor, and that is about the file."""
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Path("x")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"is a pickle"):
        load_model(str(folder))
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        load_model(str(folder), allow_pickle=True)


def test_layers_that_the_configuration_leaves_out_are_not_dropped(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=1)
    for how in ({}, {"headers_only": True}):
        with pytest.raises(ModelError, match=r"holds 9 weights of layers .*first model\.layers\.1\."):
            load_model(str(folder), **how)
