"""What the reproductions make before they run: worlds of people, Chinese documents, truths, start models."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mnemos.core.files import read_jsonl
from mnemos.models.load import Checkpoint
from mnemos.recipes.patient import load_recipe
from mnemos.recipes.reproduce import data_folder
from mnemos.recipes.reproductions import chinese_text, following, invented_people, smaller_patients
from mnemos.recipes.worlds.people import ATTRIBUTES, WORDINGS, people

DATA = data_folder()
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def test_a_world_has_few_values_and_two_halves() -> None:
    people = invented_people.world(40, 5, seed=3)
    assert Counter(person.asked for person in people) == {"train": 20, "test": 20}
    for name in ATTRIBUTES:
        assert len({person.facts[name] for person in people}) <= 5
    assert people == invented_people.world(40, 5, seed=3)
    assert people != invented_people.world(40, 5, seed=4)


def test_biographies_differ_in_wording_alone() -> None:
    people = invented_people.world(6, 5, seed=3)
    once, many = (invented_people.biographies(people, telling, 8, 3) for telling in ("once", "many"))
    assert len(once) == len(many) == 48
    assert len({row["text"] for row in once}) == 6
    assert len({row["text"] for row in many}) == 48
    for rows in (once, many):
        for row in rows:
            facts = people[int(row["id"].split("-")[0])].facts
            assert all(value.lower() in row["text"].lower() for value in facts.values())
    anew = invented_people.biographies(people, "many", 1, 3, first=8)
    assert not {row["text"] for row in anew} & {row["text"] for row in many}


def test_no_question_about_the_unseen_half_is_taught(tmp_path: Path) -> None:
    people = invented_people.world(10, 5, seed=3)
    invented_people.write_world(tmp_path, people, 3)
    rows = {path.stem: read_jsonl(path) for path in tmp_path.glob("*.jsonl")}
    taught = {row["person"] for row in rows["questions"]}
    assert taught == {p.name for p in people if p.asked == "train"}
    assert not taught & {row["person"] for row in rows["unseen-people"]}
    assert not {row["prompt"] for row in rows["questions"]} & {row["prompt"] for row in rows["seen-people"]}
    assert len(rows["questions"]) == 5 * len(ATTRIBUTES) * WORDINGS * invented_people.ROUNDS
    assert len(rows["once"]) == len(rows["many"])


def test_the_best_guess_is_counted_on_the_taught_half() -> None:
    people = invented_people.world(20, 4, seed=3)
    rights = []
    for name in ATTRIBUTES:
        taught = [person.facts[name] for person in people if person.asked == "train"]
        guess = max(dict.fromkeys(taught), key=taught.count)
        rights += [person.facts[name] == guess for person in people if person.asked == "test"]
    assert invented_people.best_guess(people) == pytest.approx(sum(rights) / len(rights))


def test_truths_have_one_true_option_and_parts_share_no_person() -> None:
    world = load_recipe().world
    parts = {part: chinese_text.truths(world, part, 30) for part in ("test", "dev")}
    by_name = {person.name: person for person in people(world.people, world.seed)}
    for rows in parts.values():
        for row in rows:
            facts = by_name[row["cluster"]].facts
            assert row["options"][row["answer"]] == facts[row["id"].split("-", 1)[1]]
            assert len(set(row["options"])) == 1 + chinese_text.FALSE_OPTIONS
            assert not set(row["options"][1:]) & {facts[row["id"].split("-", 1)[1]]}
    assert not {row["cluster"] for row in parts["test"]} & {row["cluster"] for row in parts["dev"]}


def test_common_characters() -> None:
    assert chinese_text.common(["aab", "abc", "ab"], 2) == ["aab", "ab"]


@pytest.mark.skipif(not (DATA / chinese_text.SOURCE).is_file(), reason="no Tatoeba below $MNEMOS_DATA")
def test_chinese_documents_are_in_one_part_each() -> None:
    parts = chinese_text.chinese(DATA)
    texts = {part: {row["text"] for row in rows} for part, rows in parts.items()}
    assert len(parts["train"]) == chinese_text.TRAIN
    assert not texts["train"] & (texts["test"] | texts["dev"])
    assert len({character for rows in texts.values() for text in rows for character in text}) <= chinese_text.CHARACTERS


def test_absent_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tatoeba"):
        chinese_text.chinese(tmp_path)


def test_a_start_model_is_random_and_kept(tmp_path: Path) -> None:
    folder = invented_people.random_model(tmp_path / "start", SMALL)
    print_before = Checkpoint(str(folder)).fingerprint
    assert Checkpoint(str(folder)).load().nats(["The river runs."])[0][1] > 2
    invented_people.random_model(tmp_path / "start", {**SMALL, "hidden_size": 32})
    assert Checkpoint(str(folder)).fingerprint == print_before


def test_a_smaller_patient_learns_what_it_reads(tmp_path: Path) -> None:
    texts = ["Ada Lane was born in Orford in 1912.", "2 + 3 = 5"] * 20
    built = smaller_patients.build(tmp_path / "small", SMALL, texts, 40)
    start = Checkpoint(str(tmp_path / "small-start")).load().nats(texts[:2])
    after = Checkpoint(str(built)).load().nats(texts[:2])
    assert sum(nats for nats, _ in after) < 0.8 * sum(nats for nats, _ in start)


def test_no_row_of_following_refuses_and_one_task_has_as_many(tmp_path: Path) -> None:
    following.make(tmp_path, tmp_path)
    rows, own = (read_jsonl(tmp_path / "data" / f"{name}.jsonl") for name in ("instructions", "one-task"))
    assert len(rows) == len(own) == len({row["id"] for row in own}) > 1000
    assert not any("cannot help" in row["messages"][-1]["content"] for row in rows)
    assert {row["id"].split("-")[0] for row in own} == {"record"}
