"""Task families: what becomes a case, that no part shares one with another, and what rows with and without instructions
hold."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.files import read_jsonl
from mnemos.measure.ask import measure
from mnemos.measure.suite import load_suites
from mnemos.models.load import Checkpoint
from mnemos.recipes.reproductions import families
from mnemos.recipes.reproductions.families import FAMILIES, OPTIONS, TOPICS, UNSEEN, Case, make, parts, prompt
from tests.tiny import save_tiny

SIGNS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}


def write(path: Path, made: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of the real ones' shape, of invented rows."""
    folder = tmp_path_factory.mktemp("data")
    reviews = [
        {
            "category": "sa",
            "id": f"sa-{n}",
            "input": f"A {('good', 'bad')[n % 2]}  thing {{number}} {n}.",
            "output": label,
        }
        for n in range(200)
        for label in [("positive", "negative")[n % 2]]
    ]
    pairs = [
        {
            "category": "para",
            "id": f"para-{n}",
            "input": f"dog {n} runs to house h{n % 7}",
            "output": f"house h{n % 7} : dog {n}",
        }
        for n in range(200)
    ]
    write(folder / "superni_cl/train10pct.jsonl.gz", [*reviews, *pairs, {"category": "qa", "id": "qa-1"}])
    written = [{"slurp_id": n, "sentence": f"say {n}", "scenario": [*TOPICS, "iot"][n % 9]} for n in range(400)]
    write(folder / "slurp_text/devel.jsonl.gz", written)
    sums = [
        {
            "question": f"Ann has {n} pens and {sign}?",
            "answer": f"It is {n}{sign}2=<<{n}{sign}2=7>>7 and <<7+1=8>>8\n#### 8",
        }
        for n in range(400)
        for sign in ["+-*/"[n % 4]]
    ]
    # Two kinds of sum in the first step, none at all, and a question that is too long.
    sums += [{"question": f"Both {n}?", "answer": "<<1+2*3=7>>7\n#### 7"} for n in range(8)]
    sums += [{"question": "None?", "answer": "It is 7.\n#### 7"}, {"question": "Long " * 40, "answer": "<<1+2=3>>3"}]
    write(folder / "gsm8k/train.jsonl.gz", sums)
    write(folder / "xquad/en.jsonl.gz", [row for n in range(60) for row in passage(n)])
    return folder


def passage(number: int) -> list[dict[str, Any]]:
    """Five questions about a passage of five sentences."""
    names = [f"{name} {number}" for name in ("Ada", "Bob", "Cem", "Dora", "Emil")]
    context = " ".join(f"In town {n}, {name} sings." for n, name in enumerate(names))
    return [
        {
            "id": f"{number}-{n}",
            "context": context,
            "question": f"Who sings in town {n}?",
            "answers": [{"text": name, "answer_start": context.index(name)}],
        }
        for n, name in enumerate(names)
    ]


def texts(folder: Path, name: str) -> list[dict[str, Any]]:
    return read_jsonl(folder / "data" / "rows" / f"{name}.jsonl")


def test_every_case_has_its_answer_among_its_options(data: Path) -> None:
    places: Counter[tuple[str, int]] = Counter()
    for name, family in FAMILIES.items():
        cases = list(family.cases(data))
        assert len({case.id for case in cases}) == len(cases)
        for case in cases:
            assert case.answer in case.options
            assert len(set(case.options)) == len(case.options) in (2, OPTIONS)
            places[name, case.options.index(case.answer)] += 1
    for name in FAMILIES:
        own = [number for (family, _), number in places.items() if family == name]
        assert max(own) < 1.4 * min(own), f"{name}: no place is right much more often"


def test_an_operation_is_that_of_the_first_step_alone(data: Path) -> None:
    found = list(families.operation(data))
    assert len(found) == 400
    for case in found:
        sign = case.parts["text"].split()[-1].removesuffix("?")
        assert case.answer == SIGNS[sign]


@pytest.mark.parametrize(
    ("step", "operation"),
    [
        ("48/2", "division"),
        (".5*50", "multiplication"),
        ("-3+5", "addition"),
        ("(2+1)-1", None),
        ("20%*5", "multiplication"),
    ],
)
def test_a_sign_in_front_is_no_operation(step: str, operation: str | None, tmp_path: Path) -> None:
    write(tmp_path / "gsm8k/train.jsonl.gz", [{"question": "How many?", "answer": f"<<{step}=1>>1\n#### 1"}])
    assert [case.answer for case in families.operation(tmp_path)] == ([] if operation is None else [operation])


def test_what_is_read_is_one_sentence_and_holds_the_answer(data: Path) -> None:
    for case in families.reading(data):
        assert case.answer in case.parts["text"]
        assert case.parts["text"].count("sings") == 1
        town = case.parts["question"].removeprefix("Who sings in town ").removesuffix("?")
        assert case.parts["text"].startswith(f"In town {town},")


def test_half_of_the_sentences_stand_beside_their_own_paraphrase(data: Path) -> None:
    cases = list(families.paraphrase(data))
    for case in cases:
        own = case.parts["first"].split()[1] in case.parts["second"].split()
        assert case.answer == ("same" if own else "different")
        if not own:
            place = case.parts["first"].split()[-1]
            assert case.parts["second"].startswith(f"house {place} :"), "of those with most words in common"
    assert Counter(case.answer for case in cases) == {"same": 100, "different": 100}


def test_parts_share_no_case_and_no_passage(data: Path) -> None:
    for name in FAMILIES:
        found = parts(data, name)
        keys = [{case.cluster or case.id for case in part} for part in found]
        assert len(set.union(*keys)) == sum(map(len, keys)), name
        asked = families.ASKED if name in UNSEEN else families.ASKED_FEWER
        assert [len(part) for part in found] == [families.LEARNED, families.CHOSEN, asked]
        assert found == parts(data, name)
        if name != "reading":
            learned = Counter(case.answer for case in found[0])
            assert max(learned.values()) <= 2 * min(learned.values()), f"{name}: labels are about even"


def test_too_few_cases_are_said(data: Path) -> None:
    with pytest.raises(DataError, match=r"family sentiment: has \d+ cases to learn, and 500 are wanted"):
        parts(data, "sentiment", learned=500)


def test_no_wording_asks_that_is_learned_and_each_holds_the_input_once() -> None:
    taught = {wording for family in FAMILIES.values() for wording in family.taught}
    asked = {wording for family in FAMILIES.values() for wording in family.asked}
    assert not taught & asked
    assert len(taught) == 4 * len(FAMILIES)
    for wording in (*taught, *asked):
        assert wording.count("{input}") == wording.count("{options}") == 1
        assert wording.endswith("\n{options}"), "options stand behind the input, as in the paper"


def test_braces_of_an_input_are_text() -> None:
    case = Case("1", {"text": "a {options} of {input}"}, ("x", "y"), "y")
    family = FAMILIES["sentiment"]
    assert (
        prompt(family, case, "Say:\n{input}\n{options}") == "Say:\na {options} of {input}\nOptions:\n- x\n- y\nAnswer:"
    )
    assert prompt(family, case, None) == "a {options} of {input}\nAnswer:"


def test_rows_of_all_but_one_and_without_instructions(data: Path, tmp_path: Path) -> None:
    make(data, tmp_path)
    own = {name: {row["id"] for row in texts(tmp_path, name)} for name in FAMILIES}
    every = texts(tmp_path, "all")
    assert {row["id"] for row in every} == set.union(*own.values())
    assert len(every) == families.LEARNED * len(FAMILIES)
    wordings = Counter(row["prompt"].count("Options:") for row in every)
    assert wordings == {1: len(every)}
    for name in UNSEEN:
        others = texts(tmp_path, f"without-{name}")
        assert {row["id"] for row in others} == {row["id"] for row in every} - own[name]
    for name in ("all", *(f"without-{name}" for name in UNSEEN)):
        written, bare = ({row["id"]: row for row in texts(tmp_path, f"{name}{end}")} for end in ("", "-bare"))
        assert written.keys() == bare.keys()
        for identity, row in bare.items():
            given = row["prompt"].removesuffix("\nAnswer:")
            assert "Options:" not in given
            assert given in written[identity]["prompt"]
            assert row["completion"] == written[identity]["completion"]
    first = {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*.*"))}
    make(data, tmp_path)
    assert first == {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*.*"))}


def test_a_suite_asks_what_no_row_holds_and_a_tiny_model_can_be_asked(data: Path, tmp_path: Path) -> None:
    make(data, tmp_path / "out")
    taught = {row["prompt"] for name in FAMILIES for row in texts(tmp_path / "out", name)}
    below = tmp_path / "out" / "data"
    suites = load_suites([str(below / f"{name}{end}.yaml") for name in FAMILIES for end in ("", "-choose")], below)
    items = [item for name in FAMILIES for item in read_jsonl(below / f"{name}.items.jsonl")]
    assert not taught & {item["prompt"] for item in items}
    assert len(items) == 2 * families.ASKED + 3 * families.ASKED_FEWER
    model = Checkpoint(str(save_tiny(tmp_path / "tiny"))).load()
    found = measure(model, [suite for suite in suites if suite.name in ("sentiment-choose", "reading-choose")])
    for name, asked in found.items():
        values = [score.value for score in asked.scores]
        assert set(values) <= {0.0, 1.0}, name
        assert len(values) == families.CHOSEN


def test_real_sets_make_families(real_data: Path, tmp_path: Path) -> None:
    make(real_data, tmp_path)
    for name in FAMILIES:
        rows = texts(tmp_path, name)
        assert len({row["prompt"] for row in rows}) == families.LEARNED
        assert max(len(row["prompt"]) for row in rows) < 500
