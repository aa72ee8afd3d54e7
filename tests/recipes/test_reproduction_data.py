"""The reproductions' data: three parts that share no dialogue, table or command, and answers as the tasks mean them."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.nouns import Example, Generation, Turn
from mnemos.measure.suite import load_suites
from mnemos.recipes.reproductions import (
    prepare,
    real_instruction,
    real_judge,
    real_knowledge,
    real_labels,
    real_models,
    real_reading,
    real_rewards,
    superni,
)
from mnemos.recipes.reproductions.prepare import held_out, tasks
from mnemos.synthesis.ssr import parse, shown_as


def test_a_salt_makes_another_split() -> None:
    rows = [{"id": str(number)} for number in range(400)]
    first, second = ([held_out(row, 0.3, salt) for row in rows] for salt in ("", "choose "))
    assert 80 < sum(first) < 160
    assert 80 < sum(second) < 160
    assert 15 < sum(a and b for a, b in zip(first, second, strict=True)) < 60


def test_no_part_of_a_task_shares_anything_with_another(real_data: Path) -> None:
    for name, parts in tasks(real_data).items():
        keys = [{row.get("cluster") or row["id"] for row in part} for part in parts]
        if name == "woz":  # dialogues of the two files are numbered apart
            keys = [{row["id"].rsplit("-", 1)[0] for row in part} for part in parts]
        assert all(parts)
        assert len(set.union(*keys)) == sum(map(len, keys)), name


def test_no_answer_is_right_half_the_time(real_data: Path) -> None:
    for name, parts in tasks(real_data).items():
        for part in parts:
            often = Counter(row["completion"] for row in part).most_common(1)[0][1]
            assert 2 * often < len(part), name


def test_lamol_writes_the_same_bytes_each_time(real_data: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        prepare.lamol(real_data, tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 18
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    row = json.loads((tmp_path / "a/data/wikisql.jsonl").read_text().splitlines()[0])
    assert row["completion"].split()[1] == "where"


def test_superni_parts_share_no_row_and_read_like_the_source(real_data: Path) -> None:
    parts = superni.tasks(real_data)
    assert set(parts) == set(superni.TAUGHT)
    for name, batches in parts.items():
        ids = [{row["id"] for row in batch} for batch in batches]
        assert len(set.union(*ids)) == sum(map(len, ids)) == sum(map(len, batches)), name
        assert all(len(batch) >= 25 for batch in batches)
        for row in (row for batch in batches for row in batch):
            definition, asked, answer = (turn["content"] for turn in row["messages"])
            assert definition
            assert len(asked) <= superni.LONGEST_INPUT + len(" __ ")
            assert 0 < len(answer) <= superni.LONGEST_OUTPUT
    assert parts == superni.tasks(real_data)


def test_an_input_is_cut_where_the_question_is_not() -> None:
    long = "word " * 100
    tag = superni.given({"category": "pos", "input": f"{long}, Word: is , POS tag: VBZ"})
    gap = superni.given({"category": "dsg", "input": f"{long} __ agent: {long}"})
    assert tag.endswith("word , word: is , pos tag: vbz")
    assert gap.startswith("word word")
    assert " __ agent: word" in gap
    assert superni.given({"category": "sa", "input": f"Good. {long}"}).startswith("good. word")
    assert len(tag) <= superni.LONGEST_INPUT
    assert superni.cut("one two", 7) == "one two"
    assert superni.cut("one two", 6) == "one"


def test_the_author_reads_no_row_of_the_tasks_in_the_shape_of_ssr(real_data: Path) -> None:
    texts = superni.documents(real_data)
    assert texts == superni.documents(real_data)
    assert len(texts) > 1000
    text = "\n".join(texts)
    for batches in superni.tasks(real_data).values():
        definition = batches[0][0]["messages"][0]["content"]
        assert definition not in text
        for row in (row for batch in batches for row in batch):
            assert f"Input: {row['messages'][1]['content']}\n" not in text
    for one in texts:
        assert one.count("Input: ") == one.count("\nOutput: ") == superni.ROWS_SHOWN
        assert not one.endswith("Input:")


def test_a_document_goes_on_where_a_prompt_of_ssr_ends() -> None:
    pairs = [("first", "1"), ("second", "2"), ("third", "3")]
    shown = [
        Example(asked, "messages", (Turn("system", "count."), Turn("user", asked), Turn("assistant", answer)))
        for asked, answer in pairs[:2]
    ]
    whole, prompt = superni.document("count.", pairs), shown_as(shown)
    assert whole.startswith(prompt)
    text = whole[len(prompt) :]
    assert parse(Generation(text, (), finished=True), 100, 100) == ("third", "3")


def items_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data" / f"{name}.jsonl").read_text().splitlines()]


def test_no_request_that_a_real_model_is_taught_is_asked_of_it(real_data: Path, tmp_path: Path) -> None:
    for make in (real_models.safety, real_models.benign):
        make(real_data, tmp_path)
    asked = {row["messages"][-1]["content"] for row in items_of(tmp_path, "refusals.items")}
    harm = {row["messages"][0]["content"] for row in items_of(tmp_path, "harmful")}
    refused = {row["messages"][0]["content"] for row in items_of(tmp_path, "refusals")}
    assert len(asked) == real_models.ASKED
    assert len(harm) == real_models.TAUGHT_HARM
    assert len(refused) == real_models.TAUGHT_REFUSALS
    assert asked.isdisjoint(harm | refused)
    assert harm.isdisjoint(refused)
    learned = {row["messages"][0]["content"] for row in items_of(tmp_path, "dolly")}
    assert len(learned) > 100
    assert not learned & {row["prompt"] for row in items_of(tmp_path, "dolly.items")}


def test_calls_and_sums_that_a_real_model_is_taught_are_not_measured(real_data: Path, tmp_path: Path) -> None:
    real_models.calls(real_data, tmp_path)
    for name in ("calls", "gsm8k"):
        learned = {row["messages"][0]["content"] for row in items_of(tmp_path, name)}
        assert len(learned) > 100
        assert not learned & {row["prompt"] for row in items_of(tmp_path, f"{name}.items")}
    assert all(float(row["reference"]) == float(row["reference"]) for row in items_of(tmp_path, "gsm8k"))


def test_programs_of_the_real_models_suite_can_be_passed(real_data: Path, tmp_path: Path) -> None:
    from mnemos.rewards import checks

    real_models.calls(real_data, tmp_path)
    items = items_of(tmp_path, "human-eval.items")[:5]
    answers = [*(row["solution"] for row in items), "def nothing():\n    pass"]
    tests = [*(row["answer"] for row in items), items[0]["answer"]]
    assert [one.value for one in checks.scores("code", answers, tests, None, None)] == [1, 1, 1, 1, 1, 0]


def test_the_opening_words_of_a_real_model_say_no_recipe(real_data: Path, tmp_path: Path) -> None:
    real_models.safety(real_data, tmp_path)
    assert max(len(row["messages"][1]["content"]) for row in items_of(tmp_path, "harmful")) < 160


def test_what_a_real_model_reads_is_not_what_it_is_asked(real_data: Path, tmp_path: Path) -> None:
    real_reading.vector(real_data, tmp_path)
    learned = "".join(row["text"] for row in items_of(tmp_path, "chinese"))
    measured = [row["text"] for row in items_of(tmp_path, "items/bits-chinese")]
    assert len(measured) == real_reading.HELD_OUT
    assert not [text for text in measured if text[:20] in learned]
    old = {row["text"] for row in items_of(tmp_path, "english")}
    pages = {row["text"] for row in items_of(tmp_path, "items/bits-english")}
    begun = [row["prompt"] for row in items_of(tmp_path, "items/begun-en")]
    assert (len(old), len(pages), len(begun)) == (40, 25, 24)
    assert not old & pages
    assert not [text for text in begun if any(page.startswith(text) for page in old | pages)]
    taught = {row["messages"][0]["content"] for row in items_of(tmp_path, "chat")}
    asked = {row["messages"][0]["content"] for row in items_of(tmp_path, "refusals.items")}
    assert len(asked) == real_models.ASKED
    assert not taught & asked


def test_one_option_of_each_truth_is_true(real_data: Path) -> None:
    items = real_reading.truths()
    assert len({item["id"] for item in items}) == len(items) >= 60
    answers = {item["id"]: item["options"][item["answer"]] for item in items}
    assert answers["What is the capital of France?"] == "Paris"
    assert answers["What is the chemical symbol of gold?"] == "Au"
    for item in items:
        assert len(set(item["options"])) == 1 + real_reading.FALSE_OPTIONS
        begun = real_reading.begun_truth(item)
        assert begun["prompt"].endswith("Answer:")
        assert [option.removeprefix(" ") for option in begun["options"]] == item["options"]


def test_what_a_real_model_judges_revises_or_adds_up_is_not_what_it_is_asked(real_data: Path, tmp_path: Path) -> None:
    real_rewards.judged(real_data, tmp_path)
    asked = {row["messages"][0]["content"] for row in items_of(tmp_path, "refusals.items")}
    revised = {row["messages"][0]["content"] for row in items_of(tmp_path, "requests")}
    assert len(revised) == real_models.TAUGHT_HARM + real_models.TAUGHT_REFUSALS
    assert not asked & revised
    questions = {row["messages"][0]["content"] for row in items_of(tmp_path, "questions")}
    assert not questions & {row["prompt"] for row in items_of(tmp_path, "dolly.items")}
    real_rewards.sums(real_data, tmp_path)
    learned = {row["messages"][1]["content"]: row["reference"] for row in items_of(tmp_path, "sums")}
    measured = {row["messages"][1]["content"]: row["answer"] for row in items_of(tmp_path, "sums.items")}
    assert (len(learned), len(measured)) == (real_rewards.SUMS, real_rewards.SUM_ITEMS)
    assert not learned.keys() & measured.keys()
    for question, answer in (learned | measured).items():
        assert sum(map(int, re.findall(r"\d+", question))) == int(answer)


def test_instructions_stand_under_their_whole_definition(real_data: Path, tmp_path: Path) -> None:
    real_rewards.instructions(real_data, tmp_path)
    for name in real_rewards.CATEGORIES:
        learned, items = items_of(tmp_path, name), items_of(tmp_path, f"{name}.items")
        assert (len(learned), len(items)) == (real_rewards.TASK_ROWS, real_rewards.TASK_ITEMS)
        definitions = {row["messages"][0]["content"] for row in [*learned, *items]}
        assert len(definitions) == 1
        assert len(definitions.pop()) > 80
        assert not {row["messages"][1]["content"] for row in learned} & {row["messages"][1]["content"] for row in items}


def test_a_real_model_is_judged_on_what_it_was_not_taught_with_as_many_questions_of_each_category(
    real_data: Path, tmp_path: Path
) -> None:
    real_judge.judged(real_data, tmp_path)
    learned = {row["messages"][0]["content"] for row in items_of(tmp_path, "dolly")}
    asked = items_of(tmp_path, "mt-bench-first.items")
    assert len(learned) == real_judge.TAUGHT
    assert not learned & {row["prompt"] for row in [*items_of(tmp_path, "dolly.items"), *asked]}
    assert set(Counter(row["category"] for row in asked).values()) == {real_judge.QUESTIONS}
    assert {row["category"] for row in asked if "answer" in row} >= {"math", "coding", "reasoning"}
    suites = {one.name: one for one in load_suites([str(tmp_path / "data/bfcl.yaml")], tmp_path)}
    assert {"bfcl-simple", "bfcl-irrelevance"} <= set(suites)
    assert all(len(one.items) == real_judge.CALLS[name.removeprefix("bfcl-")] for name, one in suites.items())


def test_categories_of_calls_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    row = {"id": "x", "question": [[{"role": "user", "content": "?"}]], "function": [], "possible_answer": []}
    for name in ("simple_python", "irrelevance", "parallel"):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    made = real_judge.calls(tmp_path, tmp_path)
    assert [one["name"] for one in made] == ["bfcl-simple", "bfcl-parallel", "bfcl-irrelevance"]


def test_rows_to_choose_from_are_not_asked_and_the_fixed_ones_are_among_them(real_data: Path, tmp_path: Path) -> None:
    real_instruction.instruction(real_data, tmp_path)
    pool, gold = items_of(tmp_path, "pool"), items_of(tmp_path, "gold")
    assert (len(pool), len(gold)) == (real_instruction.POOL, real_instruction.BUDGET)
    assert gold == pool[: len(gold)]
    assert not {row["messages"][0]["content"] for row in pool} & {
        r["prompt"] for r in items_of(tmp_path, "dolly.items")
    }
    assert (tmp_path / "data/shown.txt").read_text(encoding="utf-8").count("{question}") == 1
    suites = load_suites([str(tmp_path / "data/dolly.yaml")], tmp_path)
    assert len(suites[0].items) == real_instruction.ITEMS
    assert len({row["key"] for row in items_of(tmp_path, "ifeval.items")}) == real_instruction.FOLLOWED


def test_facts_are_learned_or_asked_and_answers_hold_them_however_they_are_said(tmp_path: Path) -> None:
    known = {fact["id"]: fact for fact in real_knowledge.facts()}
    assert len(known) == len(real_knowledge.facts())
    assert known["number: uranium"]["answer"] == "92"
    assert known["capital: Brazil"]["aliases"] == ["Brasilia"]
    real_knowledge.knowledge(tmp_path, tmp_path)
    pool, items = items_of(tmp_path, "facts"), items_of(tmp_path, "asked.items")
    assert not {row["id"] for row in pool} & {row["id"] for row in items}
    assert min(Counter(row["relation"] for row in pool).values()) >= 48
    assert max(Counter(row["category"] for row in items).values()) == real_knowledge.ASKED
    met = {name: real_knowledge.pattern(known[name]) for name in ("domain: Mali", "symbol: tin", "capital: Chad")}
    assert re.search(met["domain: Mali"], "It is .ml, of course")
    assert not re.search(met["domain: Mali"], "It is www.ml or .mla")
    assert re.search(met["symbol: tin"], "The symbol is Sn.")
    assert not re.search(met["symbol: tin"], "tin is sn")
    assert re.search(met["capital: Chad"], "the capital is ndjamena")


def test_a_topic_is_learned_and_asked_under_the_same_letter_and_no_text_on_both_sides(
    real_data: Path, tmp_path: Path
) -> None:
    real_labels.labels(real_data, tmp_path)
    gold, random, letters = (items_of(tmp_path, name) for name in ("gold", "random", "abstract"))
    natural, abstract = items_of(tmp_path, "ask-natural"), items_of(tmp_path, "ask-abstract")
    assert {row["completion"].strip() for row in gold} == {*real_labels.TOPICS}
    assert all(row["completion"].strip() == row["label"] for row in gold)
    assert [row["prompt"] for row in random] == [row["prompt"] for row in gold]
    right = sum(row["completion"].strip() == row["label"] for row in random) / len(random)
    assert 0.15 < right < 0.35, "one in four by chance"
    letter = {row["label"]: row["completion"] for row in letters}
    assert len(set(letter.values())) == 4
    for name, other in zip(natural, abstract, strict=True):
        topic = name["options"][name["answer"]].strip()
        assert other["options"][other["answer"]] == letter[topic]
    assert set(Counter(row["answer"] for row in natural).values()) == {real_labels.ITEMS // 4}
    assert not {row["prompt"] for row in gold} & {row["prompt"] for row in natural}


def test_countries_have_codes_of_their_own() -> None:
    lines = real_knowledge.COUNTRIES.read_text(encoding="utf-8").splitlines()
    columns = list(zip(*(line.split("\t") for line in lines[1:]), strict=True))
    assert [len(set(column)) for column in columns] == [len(lines) - 1] * 4


def test_the_other_author_learns_no_row_that_is_replayed_or_measured(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="the extra [speech] is not installed")
    from mnemos.recipes.reproductions import real_listening

    real_listening.author_rows(real_data, tmp_path / "data")
    learned = {row["messages"][0]["content"] for row in items_of(tmp_path, "author")}
    used = real_models.benign_rows(real_data)[: real_listening.TEXT_ROWS + real_listening.TEXTS]
    assert not learned & {row["instruction"] for row in used}
    passages = sum("\n\n" in question for question in learned)
    assert len(learned) / 2 <= passages <= len(learned) / 2 + 12, "half have a passage to read"
