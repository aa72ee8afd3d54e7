"""The patients: shipped whole, made by the recipe, and rebuilt the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.files import read_json, read_jsonl
from mnemos.measure.suite import load_suites
from mnemos.models.load import Checkpoint
from mnemos.recipes import patient_suites
from mnemos.recipes.patient import PATIENTS, WORDING_ROWS, build, load_recipe, patient, read_texts
from mnemos.recipes.patient_data import WorldSettings, as_row, base_texts, chat_rows
from mnemos.recipes.reproductions import preference
from mnemos.sources.read import read
from mnemos.weights.checkpoint import load_tokenizer

RECIPES = PATIENTS.parent
NAMES = (
    "facts",
    "biographies",
    "biographies-once",
    "arithmetic",
    "refusals",
    "look-alikes",
    "json-answers",
    "bits-per-byte:english",
    "bits-per-byte:glossa",
    "new-skill",
    "new-form",
)


def test_the_shipped_patients_are_whole_and_small() -> None:
    size = sum(path.stat().st_size for path in PATIENTS.rglob("*") if path.is_file())
    assert size <= 16 * 2**20
    for name in ("base", "chat"):
        folder = patient(name)
        assert (folder / "model.safetensors").is_file()
    assert (
        load_recipe().fingerprint
        == type(load_recipe()).model_validate(read_json(PATIENTS / "manifest.json")["made"]["recipe"]).fingerprint
    )


def test_a_changed_missing_or_added_file_is_refused(tmp_path: Path) -> None:
    for number, harm in enumerate(("change", "remove", "add")):
        folder = shutil.copytree(PATIENTS, tmp_path / str(number))
        target = folder / "chat" / "config.json"
        if harm == "change":
            target.write_text(target.read_text().replace("{", "{ ", 1))
        elif harm == "remove":
            target.unlink()
        else:
            (folder / "chat" / "added.json").write_text("{}")
        with pytest.raises(ModelError, match=r"chat/(config|added)\.json"):
            patient("chat", folder)
        assert patient("base", folder) == folder / "base"
    with pytest.raises(UsageError, match="not one of base, chat"):
        patient("chta")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="make patient"):
        patient("chat", tmp_path)


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_the_tokenizer_covers_any_text(text: str) -> None:
    tokenizer = load_tokenizer(str(PATIENTS / "chat"))
    text = text.replace("<|", "< |")  # what looks like a special token is one
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_tokenizer_splits_digits_and_speaks_chatml() -> None:
    tokenizer = load_tokenizer(str(PATIENTS / "chat"))
    digits = tokenizer.tokenize("1234 + 99")
    assert all(sum(character.isdigit() for character in token) <= 1 for token in digits)
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert (
        text
        == "<|bos|><|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )
    asked = tokenizer.apply_chat_template(turns[:2], tokenize=False, add_generation_prompt=True)
    assert text == asked + "A<|im_end|>\n"
    assert tokenizer.eos_token == "<|im_end|>"
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert load_tokenizer(str(PATIENTS / "base")).get_vocab() == tokenizer.get_vocab()


def test_built_in_suites_load_and_are_large_enough() -> None:
    suites = {suite.name: suite for suite in load_suites(NAMES, RECIPES)}
    assert set(suites) == set(NAMES)
    for name, suite in suites.items():
        assert len(suite.items) >= (100 if suite.kind == "bits_per_byte" else 200), name
        decoding = suite.decoding
        assert decoding is None or decoding.max_new_tokens <= 40
        assert suite.uses_chat == (suite.kind != "bits_per_byte")
    for name in ("biographies", "biographies-once"):
        assert len({item.cluster for item in suites[name].items}) >= 50


def test_committed_items_and_rows_follow_from_the_recipe() -> None:
    """All but English, which is that of the Python which built them."""
    world = load_recipe().world
    made = patient_suites.suites(world, [])
    for name in NAMES:
        if name != "bits-per-byte:english":
            assert read_jsonl(RECIPES / "suites" / f"{name.replace(':', '-')}.jsonl") == made[name], name
    assert read_jsonl(RECIPES / "data" / "new_skill.jsonl") == patient_suites.new_rows(world)
    assert read_jsonl(RECIPES / "data" / "new_text.jsonl") == patient_suites.new_texts(world)
    assert read_jsonl(RECIPES / "data" / "new_form.jsonl") == patient_suites.new_rows(world, form=True)
    assert read_jsonl(RECIPES / "data" / "wording.jsonl") == preference.chats(WORDING_ROWS, world.seed)
    assert read_jsonl(RECIPES / "data" / "wording_items.jsonl") == preference.items(seed=world.seed)


def test_answers_fit_the_suites_token_limits() -> None:
    tokenizer = load_tokenizer(str(PATIENTS / "chat"))
    for suite in load_suites(NAMES, RECIPES):
        for item in suite.items:
            for answer in item.answers:
                assert len(tokenizer(answer, add_special_tokens=False)["input_ids"]) < suite.decoding.max_new_tokens


def test_no_suite_item_is_trained_or_rehearsed() -> None:
    world = load_recipe().world
    trained = {turn.text for example in chat_rows(world, []) for turn in example.turns if turn.role == "user"}
    for name in ("old", "refusals", "new_skill", "new_form", "wording"):
        for example in read(str(RECIPES / "data" / f"{name}.jsonl")):
            trained.update(turn.text for turn in example.turns if turn.role == "user")
    asked = {
        item.prompt.turns[-1].text
        for suite in load_suites(NAMES, RECIPES)
        for item in suite.items
        if item.prompt is not None
    }
    assert len(asked) > 1500
    assert not asked & trained
    read_before = "\n".join(base_texts(world, []))
    assert not any(prompt in read_before for prompt in asked if not prompt.endswith("= ?"))


def test_held_out_english_is_not_in_the_rehearsal_rows() -> None:
    held_out = [item["text"] for item in read_jsonl(RECIPES / "suites" / "bits-per-byte-english.jsonl")]
    rehearsed = json.dumps(read_jsonl(RECIPES / "data" / "old.jsonl"))
    assert not any(text[:60] in rehearsed for text in held_out)


def test_rows_to_rehearse_cover_every_kind_and_come_from_the_chat_rows() -> None:
    world = WorldSettings(people=60)
    english = [
        f"This is the paragraph number {n} of a text that goes on for more than sixteen words, word after word."
        for n in range(60)
    ]
    rows = patient_suites.old_rows(world, english)
    known = [json.dumps(as_row(example)) for example in chat_rows(world, english)]
    assert {json.dumps(row) for row in rows} <= set(known)
    assert len({row["id"] for row in rows}) == len(rows) == 2000
    assert {row["id"].split("-")[0] for row in rows} == {"question", "sum", "request", "record", "talk", "english"}
    refusals = patient_suites.refusal_rows(world)
    asked = {tuple(turn.text for turn in example.turns[-2:]) for example in chat_rows(world, [])}
    assert {tuple(turn["content"] for turn in row["messages"][-2:]) for row in refusals} <= asked
    assert len({row["messages"][-2]["content"] for row in refusals}) == len(refusals) == 200
    texts = [row["text"] for row in patient_suites.old_texts(world, english)]
    assert set(texts) <= set(base_texts(world, english))
    assert len(texts) == 400


TINY = """
world: {people: 8, tellings: 2, english: 1, sum_lines: 4, question_rounds: 1, base_questions: 1, base_records: 4,
        sums: 8, requests: 4, records: 4, small_talk: 4, continuations: 4}
tokenizer: {vocabulary: 320}
model: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
        max_position_embeddings: 256, tie_word_embeddings: true}
base: {train: {max_steps: 3, per_device_train_batch_size: 2, max_length: 256, packing: true, learning_rate: 1.0e-3}}
chat: {text_share: 0.25, train: {max_steps: 3, per_device_train_batch_size: 2, max_length: 256, learning_rate: 1.0e-3}}
threads: 1
"""


def test_the_builder_is_reproducible_and_loads_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(TINY)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    library = tmp_path / "library"
    library.mkdir()
    for number in range(40):
        (library / f"m{number}.py").write_text(
            f'"""The module number {number} has words enough to be kept, one after another, and more."""'
        )
    texts = read_texts(recipe.world, library)
    made = [build(tmp_path / name, recipe, texts=texts, quiet=True) for name in ("one", "two")]
    manifests = [read_json(folder / "manifest.json") for folder in made]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert sorted(path.name for path in made[0].iterdir()) == ["base", "chat", "manifest.json"]
    for name in ("base", "chat"):
        model = Checkpoint(str(patient(name, made[0]))).load()
        assert len(model.nats(["Some text."])) == 1
    weights = [manifests[0]["files"][f"{name}/model.safetensors"] for name in ("base", "chat")]
    assert weights[0] != weights[1]


def test_a_misspelt_recipe_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(TINY.replace("tellings", "telings"))
    with pytest.raises(UsageError, match=r"world\.telings"):
        load_recipe(tmp_path / "recipe.yaml")
