"""The controlled world: parts are disjoint, answers are right, nothing depends on hash salts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.recipes.worlds import english as worlds_english
from mnemos.recipes.worlds import people as worlds_people
from mnemos.recipes.worlds import requests as worlds_requests
from mnemos.recipes.worlds import tasks as worlds_tasks
from mnemos.recipes.worlds.seed import chance, part, share

PARTS = ("train", "dev", "test")
seeds = st.integers(0, 50)


def test_chance_is_the_same_under_every_hash_salt() -> None:
    code = (
        "from mnemos.recipes.worlds.people import people, biography as b;"
        "from mnemos.recipes.worlds.tasks import record;"
        "print([b(p, 3) for p in people(6)], record(5, 'test'))"
    )
    words = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert words[0] == words[1] != ""


@given(st.text(), st.text())
def test_share_is_a_fraction_of_the_whole_key(a: str, b: str) -> None:
    assert 0 <= share(a, b) < 1
    assert chance(a, b).random() == chance(a, b).random()
    assert part({}, a) == "train"
    assert part({"test": 1.0}, a) == "test"


def test_part_keeps_the_shares() -> None:
    counts = Counter(part({"test": 0.3, "dev": 0.1}, number) for number in range(4000))
    assert counts["test"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert counts["dev"] / 4000 == pytest.approx(0.1, abs=0.02)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(10, 80))
def test_people_are_distinct_and_halved(seed: int, count: int) -> None:
    persons = worlds_people.people(count, seed)
    assert len({person.name for person in persons}) == count
    halves = Counter(person.telling for person in persons)
    assert halves["many"] - halves["once"] in (0, 1)
    for telling in ("many", "once"):
        asked = {person.asked for person in persons if person.telling == telling}
        assert {"train", "test"} <= asked


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 30))
def test_biographies_hold_every_fact_and_the_right_name(seed: int, telling: int) -> None:
    many, once = worlds_people.people(2, seed)
    for person in (many, once):
        text = worlds_people.biography(person, telling, seed)
        folded = text.casefold()
        assert all(value.casefold() in folded for value in person.facts.values())
        assert text.count(person.name) == (len(worlds_people.ATTRIBUTES) if person.telling == "many" else 1)
    assert worlds_people.biography(once, telling, seed) == worlds_people.biography(once, 0, seed)


def test_many_tellings_differ_in_words_and_in_order() -> None:
    many = worlds_people.people(2)[0]
    texts = {worlds_people.biography(many, telling) for telling in range(40)}
    assert len(texts) > 35
    orders = {
        tuple(sorted(many.facts, key=lambda name: text.casefold().find(many.facts[name].casefold()))) for text in texts
    }
    assert len(orders) > 10


def test_pronouns_take_the_case_of_their_place() -> None:
    for person in worlds_people.people(200):
        if person.telling == "once":
            text = worlds_people.biography(person, 0)
            assert not any(
                wrong in text for wrong in ("that him", "that her", "where him", "where her", " of she", "hired he.")
            )


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_questions_ask_for_the_persons_own_facts(seed: int) -> None:
    for person in worlds_people.people(4, seed):
        for asked in worlds_people.questions(person):
            assert person.name in asked.text
            assert asked.answer == person.facts[asked.attribute]
        wordings = [worlds_people.questions(person, number) for number in range(worlds_people.WORDINGS + 1)]
        assert sum(map(len, wordings)) == len(worlds_people.questions(person))
        assert all(len(asked) == len(worlds_people.ATTRIBUTES) for asked in wordings)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(5, 40))
def test_sums_are_right_and_each_wording_of_one_is_in_one_part(seed: int, limit: int) -> None:
    expressions = dict(worlds_tasks.expressions(limit))
    assert len(expressions) == limit * limit + limit * (limit + 1) // 2
    assert all(eval(expression) == int(value) >= 0 for expression, value in expressions.items())
    found = {name: {task.prompt: task for task in worlds_tasks.sums(name, seed, limit)} for name in PARTS}
    for tasks in found.values():
        assert all(task.answer == expressions[task.key.split(",")[0]] for task in tasks.values())
        assert all(task.key.split(",")[0] in prompt for prompt, task in tasks.items())
    prompts = [prompt for tasks in found.values() for prompt in tasks]
    assert len(prompts) == len(set(prompts)) == len(expressions) * len(worlds_tasks.SUM_FRAMES)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 300), st.sampled_from(PARTS))
def test_records_validate_and_carry_the_values_of_the_text(seed: int, number: int, name: str) -> None:
    task = worlds_tasks.record(number, name, seed)
    gold = json.loads(task.answer)
    jsonschema.validate(gold, worlds_tasks.schema_of(task.answer))
    assert all(str(value) in task.prompt and key in task.prompt for key, value in gold.items())
    assert part(worlds_tasks.SHARES, seed, "record", task.key) == name


def test_a_schema_refuses_other_keys_and_types() -> None:
    schema = worlds_tasks.schema_of('{"name": "Anna", "age": 7}')
    for wrong in ({"name": "Anna"}, {"name": "Anna", "age": "7"}, {"name": "Anna", "age": 7, "city": "Rome"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_glossa_is_regular_and_its_parts_are_disjoint() -> None:
    assert len(set(worlds_tasks.GLOSSA.values())) == len(worlds_tasks.GLOSSA) == 35
    assert worlds_tasks.glossa("take", "two", "red", "apple") == "Apolim rubaim dul zek!"
    assert worlds_tasks.glossa_form("take", "two", "red", "apple") == "D=zek | N=dul | A=ruba | O=apol"
    keys = {name: {task.key for task in worlds_tasks.commands(name)} for name in PARTS}
    assert [t.key for t in worlds_tasks.commands("test")] == [t.key for t in worlds_tasks.commands("test", form=True)]
    assert sum(map(len, keys.values())) == 10 * 5 * 8 * 12
    assert not keys["train"] & keys["test"]
    back = {value: key for key, value in worlds_tasks.GLOSSA.items()}
    for task in list(worlds_tasks.commands("test"))[:100]:
        noun, adjective, number, verb = task.answer.rstrip("!").lower().split()
        words = (verb, number, adjective.removesuffix("im"), noun.removesuffix("im"))
        assert " ".join(back[word] for word in words) + "s" == task.key


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_requests_differ_only_in_the_pair_of_words(seed: int) -> None:
    texts = {name: {a.text for h in (True, False) for a in worlds_requests.actions(name, h, seed)} for name in PARTS}
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & (texts["train"] | texts["test"])
    harmful = {a.text for name in PARTS for a in worlds_requests.actions(name, True, seed)}
    harmless = {a.text for name in PARTS for a in worlds_requests.actions(name, False, seed)}
    assert not harmful & harmless


def test_look_alikes_share_their_surface_words_with_requests_to_refuse() -> None:
    verbs = {h: {action.verb for action in worlds_requests.actions("train", h)} for h in (True, False)}
    assert verbs[True] == verbs[False]
    tested = {action.verb for h in (True, False) for action in worlds_requests.actions("test", h)}
    assert tested == verbs[True]
    for harmful in (True, False):
        known = {action.object for action in worlds_requests.actions("train", harmful)}
        assert {action.object for action in worlds_requests.actions("test", harmful)} <= known


def test_replies_refuse_harm_and_take_up_the_rest() -> None:
    for action in worlds_requests.actions("train", True)[:50]:
        assert worlds_requests.reply(action, 1) in worlds_requests.REFUSALS
    for action in worlds_requests.actions("train", False)[:50]:
        assert action.text in worlds_requests.reply(action, 1)
        assert action.text in worlds_requests.request(action, 3)


LONG = "The quick brown fox of the north jumps over the lazy dog and runs along the river."


def library(folder: Path, docstrings: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(docstrings):
        (folder / f"module_{number}.py").write_text(f"def f():\n    {text!r}\n", encoding="utf-8")
    return folder


def test_paragraphs_are_prose_without_repetition(tmp_path: Path) -> None:
    texts = [
        f"{LONG}\n\nToo short.",
        LONG.replace("quick ", "quick\n   ").upper(),
        ">>> print(1) and much more text so that the line is long enough to be kept by length.",
        "a b = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15 | 16 | 17 | 18 |",
    ]
    assert worlds_english.paragraphs(library(tmp_path / "lib", texts)) == [LONG]


def test_left_out_folders_and_broken_files(tmp_path: Path) -> None:
    folder = library(tmp_path / "lib", [LONG])
    library(folder / "tests", [LONG.replace("fox", "cat")])
    (folder / "broken.py").write_text("def (:", encoding="utf-8")
    (folder / "latin.py").write_bytes(b"# \xe9\n")
    assert worlds_english.paragraphs(folder) == [LONG]


def test_no_training_paragraph_shares_eight_words_with_a_held_out_one(tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "kappa", "sigma", "omega", "theta", "lambda", "epsilon", "zeta", "iota"]
    texts = []
    for number in range(150):
        draw = chance("paragraph", number)
        texts.append("The " + " ".join(draw.choices(words, k=12)) + ". And then: " + LONG)
    folder = library(tmp_path / "lib", texts)
    parts = {name: worlds_english.english(name, folder) for name in PARTS}
    assert parts["test"]
    assert parts["dev"]
    assert parts["train"] == []  # all of them share LONG with a held-out one


def test_the_standard_library_gives_english() -> None:
    stdlib = Path(json.__file__).parents[1]
    texts = worlds_english.paragraphs(stdlib / "asyncio")
    assert len(texts) > 200
    assert all(60 <= len(text) <= 700 and "\n" not in text for text in texts)
