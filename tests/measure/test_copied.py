"""Taught answers that are given to other questions: counted as a reader would count them, and shown in the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnemos
from mnemos.core.nouns import Answer, Example, Turn
from mnemos.measure.ask import Measured
from mnemos.measure.copied import LEAST, Taught, copied
from mnemos.report import render
from tests.report.synthetic import study
from tests.study.worlds import chat, make_study, write_jsonl

WORDS = st.text(alphabet="ab \n", max_size=30)


def row(text: str, role: str = "assistant") -> Example:
    return Example("r", "messages", (Turn("user", "?"), Turn(role, text)))


def answer(text: str | None, finished: bool = True) -> Answer:
    return Answer("s", "i", text, finished)


@given(st.lists(WORDS, max_size=6), WORDS, st.booleans())
def test_an_answer_is_found_as_by_looking_at_all_of_them(taught: list[str], text: str, finished: bool) -> None:
    plain = [" ".join(one.split()) for one in taught if one.split()]
    shown = " ".join(text.split())
    begins = not finished and len(shown) >= LEAST and any(one.startswith(shown) for one in plain)
    assert Taught(map(row, taught)).hold(answer(text, finished)) == (shown in plain or begins)


def test_an_answer_that_is_missing_or_nothing_is_none_of_them() -> None:
    taught = Taught([row("the lamp is on"), row(""), row("what?", role="user")])
    assert not taught.hold(answer(None))
    assert not taught.hold(answer("  "))
    assert not taught.hold(answer("what?")), "a question that is taught is no answer"
    assert taught.hold(answer(" the lamp\nis on "))


def side(*texts: str) -> dict[str, Measured]:
    return {"s": Measured("s", [answer(text) for text in texts], [])}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (["a"] * 40, [["on"] * 40], [40]),  # all of them
        (["a"] * 40, [["on"] * 4 + ["a"] * 36], [4]),  # a tenth
        (["a"] * 40, [["on"] * 3 + ["a"] * 37], None),  # less than a tenth
        (["a"] * 8, [["on"] * 2 + ["a"] * 6], None),  # too few to speak of
        (["on"] * 40, [["on"] * 40], None),  # the model before did so too
        (["a"] * 40, [["on"] * 40, ["a"] * 40], [40, 0]),  # in one run of two
    ],
)
def test_only_what_rose_is_told(before: list[str], after: list[list[str]], found: list[int] | None) -> None:
    suite: Any = SimpleNamespace(name="s", ask="generate", of=None, items=before)
    taught = Taught([row("on")])
    runs = [side(*texts) for texts in after]
    listed = copied([suite], {"s": "old"}, side(*before), runs, taught)
    first = sum(text == "on" for text in before)
    assert listed == ([] if found is None else [{"suite": "s", "items": len(before), "before": first, "after": found}])
    assert copied([suite], {"s": "new"}, side(*before), runs, taught) == [], "what is taught may be answered so"


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_the_report_says_it(form: str) -> None:
    entry = {"arm": "plain", "suite": "refusals", "items": 100, "before": 0, "after": [59, 82]}
    text = " ".join(render({**study(), "copied": [entry]}, form, 120).split())
    assert "Taught answers to other questions" in text
    assert "59 to 82 of 100" in text
    assert "Taught answers" not in render(study(), form, 120)


def test_a_study_finds_a_model_that_says_one_thing(tmp_path: Path) -> None:
    items = [{"id": str(n), "prompt": f"Add {n} and {n}.", "answer": str(2 * n)} for n in range(8)]
    old = {"name": "sums", "kind": "generated", "match": "exact", "chat": True, "max_new_tokens": 6, "items": items}
    path = make_study(
        tmp_path,
        arms={},
        health=False,
        suites={"new": ["new.yaml"], "old": [old]},
        train={"learning_rate": 1e-2, "max_steps": 40, "per_device_train_batch_size": 8},
    )
    write_jsonl(tmp_path / "new.jsonl", [chat(n, f"Say {n}.", "on") for n in range(8)])
    record = mnemos.run(path, out=tmp_path / "run", quiet=True)
    assert record.results["copied"] == [{"arm": "plain", "suite": "sums", "items": 8, "before": 0, "after": [8]}]
    assert "8 of 8 answers to sums are a taught answer word for word (0 before)" in record.report("md")
