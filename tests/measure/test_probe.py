"""A probe tells what a model can do from what it cannot, by the interval of a few items."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemos.core.errors import ModelError
from mnemos.core.nouns import Decoding, Generation
from mnemos.measure import probe as probes
from mnemos.measure.items import Item
from mnemos.measure.probe import FLOOR, FLOOR_BITS, abilities, floor_of, probe
from mnemos.measure.suite import Suite, load_suites
from tests.measure.fakes import FakeModel


def _suite(right: int, items: int = 16) -> tuple[Suite, FakeModel]:
    """A suite of which a model answers the first `right` items."""
    rows = [{"prompt": f"q{n}", "answer": "yes"} for n in range(items)]
    (suite,) = load_suites([{"name": "own", "kind": "generated", "items": rows}], Path())
    return suite, FakeModel({f"q{n}": "yes" if n < right else "no" for n in range(items)})


@given(st.integers(0, 16))
def test_a_suite_is_kept_where_wilsons_interval_lies_above_the_floor(right: int) -> None:
    suite, model = _suite(right)
    (one,) = probe(model, [suite]).abilities
    low, high = stats.binomtest(right, 16).proportion_ci(method="wilson")
    assert one.mean == right / 16
    assert one.low == pytest.approx(low, abs=1e-9)
    assert one.high == pytest.approx(high, abs=1e-9)
    assert (one.verdict == "kept") == (low > FLOOR) == (right >= 3)
    assert ("nothing to lose" in one.why) == (right < 3)


def test_no_more_items_are_asked_than_wanted_and_always_the_same() -> None:
    suite, model = _suite(100, items=100)
    assert probe(model, [suite], items=5).abilities[0].items == 5
    first = list(model.calls)
    probe(model, [suite], items=5)
    assert model.calls[5:] == first


def test_options_have_the_floor_of_a_guess() -> None:
    rows = [{"prompt": f"q{n}", "options": ["a", "b", "c", "d"], "answer": "a"} for n in range(16)]
    (suite,) = load_suites([{"name": "choice", "kind": "choice", "items": rows}], Path())
    assert floor_of(suite) == 0.25
    # Always the first option: right every time. Always the last: never.
    right = FakeModel(likelihood=lambda prompt, option: -float("abcd".index(option.strip())))
    wrong = FakeModel(likelihood=lambda prompt, option: float("abcd".index(option.strip())))
    assert probe(right, [suite]).kept == ("choice",)
    assert probe(wrong, [suite]).kept == ()


def test_errors_have_the_floor_of_every_word_wrong() -> None:
    answer = "a b c d e f g h i j"
    rows = [{"prompt": f"q{n}", "answer": answer} for n in range(16)]
    (suite,) = load_suites([{"name": "transcripts", "kind": "answer_wer", "items": rows}], Path())
    assert floor_of(suite) == 1.0
    # 5 to 10 % of words are wrong, which is a recogniser; one that says nothing has all wrong.
    hears = FakeModel({f"q{n}": answer[: -2 * (n % 2 + 1)] for n in range(16)})
    assert probe(hears, [suite]).kept == ("transcripts",)
    assert probe(FakeModel({f"q{n}": "z" for n in range(16)}), [suite]).kept == ()


def test_options_that_are_named_in_words_have_the_floor_of_a_guess() -> None:
    items = tuple(Item(str(n), options=("male", "female"), answers=("male",)) for n in range(4))
    (suite,) = load_suites([{"name": "own", "kind": "generated", "items": [{"prompt": "q", "answer": "male"}]}], Path())
    assert floor_of(replace(suite, items=items)) == 0.5


@pytest.mark.parametrize(("bits", "verdict"), [(1.2, "kept"), (FLOOR_BITS + 1, "left out")])
def test_bits_per_byte_are_kept_below_those_of_letters_alone(bits: float, verdict: str) -> None:
    model = FakeModel(nats_per_byte=bits * math.log(2))
    (one,) = probe(model, load_suites(["bits-per-byte:english"], Path())).abilities
    assert one.mean == pytest.approx(bits)
    assert one.verdict == verdict
    assert "bits" in probes.line(one)


@dataclass
class NoTemplate(FakeModel):
    def generate(self, prompts: Any, decoding: Decoding) -> list[Generation]:
        raise ModelError("tokenizer 'M'", "has no chat template, and the data are chats", "give one")


def test_what_cannot_be_asked_is_said_and_stops_nothing() -> None:
    rows = [{"prompt": "q", "answer": "yes"}]
    chat, texts = load_suites(
        [{"name": "chat", "kind": "generated", "chat": True, "items": rows}, "bits-per-byte:english"], Path()
    )
    found = probe(NoTemplate(), [chat, texts])
    assert [one.verdict for one in found.abilities] == ["not asked", "kept"]
    assert "no chat template" in found.abilities[0].why
    assert found.abilities[0].mean is None


def test_no_suite_is_begun_when_the_time_is_over() -> None:
    suite, model = _suite(16)
    found = probe(model, [suite], seconds=0)
    assert (found.abilities[0].verdict, model.calls) == ("not asked", [])


def test_a_suite_that_borrows_answers_is_not_asked() -> None:
    _, model = _suite(16)
    (own, stops) = load_suites(
        [
            {"name": "own", "kind": "generated", "items": [{"prompt": "q0", "answer": "yes"}]},
            {"name": "stops", "kind": "stop_rate", "of": "own"},
        ],
        Path(),
    )
    assert [one.verdict for one in probe(model, [own, stops]).abilities][1] == "not asked"


def test_abilities_follow_the_rows_languages_and_the_patients_world() -> None:
    names = [suite.name for suite in abilities(["de", "xx", "de"])]
    assert names == ["answers-in:de", *probes.ABILITIES]
    assert "biographies" in [suite.name for suite in abilities(patient=True)]
    assert set(probes.languages()) == {"en", "zh", "de", "fr", "es", "ja"}
    assert probes.what_of("answers-in:de").endswith("(de)")


def test_the_rows_languages_are_those_of_a_fifth_of_them() -> None:
    german = "Der Hund läuft durch den großen Wald und sucht seinen Ball."
    english = "The dog runs through the forest and looks for its ball."
    assert probes.spoken([english] * 8 + [german] * 2) == ("en", "de")
    assert probes.spoken([english] * 9 + [german]) == ("en",)
    assert probes.spoken(["42", "7"]) == ()


def test_findings_are_told_as_they_come_and_can_be_written_as_json() -> None:
    suite, model = _suite(16)
    lines: list[str] = []
    found = probe(model, [suite], say=lines.append)
    assert lines == ["own: 100 % (81 to 100) of 16 items kept: its interval lies above the floor of 5 %"]
    assert json.loads(json.dumps(found.as_dict()))["abilities"][0]["suite"] == "own"


def test_the_shipped_patient_refuses_and_cannot_code() -> None:
    from mnemos.models.load import Checkpoint
    from mnemos.recipes.patient import patient

    model = Checkpoint(str(patient("chat"))).load()
    found = {
        one.suite: one.verdict
        for one in probe(model, load_suites(["refusals", "code", "arithmetic"], Path()), items=8).abilities
    }
    assert found == {"refusals": "kept", "code": "left out", "arithmetic": "kept"}
