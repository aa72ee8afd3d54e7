"""The part of a report about sounds: computed from answers, said and tabled."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.nouns import Answer
from mnemos.measure.ask import Measured, measure, score
from mnemos.measure.compare import summary
from mnemos.measure.listening import listening
from mnemos.measure.suite import Suite, load_suites
from mnemos.measure.uncertainty import paired
from mnemos.report.sections import listening as section
from mnemos.sources import audio
from tests.measure.fakes import FakeModel
from tests.tiny_speech import sound

FACTS: Any = None
ROWS = 24


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, ...]:
    folder = tmp_path_factory.mktemp("clips")
    rows, forms = [], []
    for number in range(ROWS):
        audio.write(sound(0.05 + 0.01 * number, number), folder / f"{number}.wav")
        label = ("male", "female")[number % 2]
        question = "Male or female? The answer could be male, or female."
        row = {"audio": f"{number}.wav", "id": f"r{number}", "cluster": f"s{number // 2}"}
        rows.append({**row, "instruction": question, "label": label, "dimension": "speaker"})
        rules = {"instruction_id_list": ["startend:quotation", "punctuation:no_comma"], "kwargs": [{}, {}]}
        forms.append({**row, "seed": label, "prompt": f"Who? {number}", **rules})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "forms.jsonl").write_text("\n".join(map(json.dumps, forms)))
    labels = {"kind": "dynamic_superb", "data": "rows.jsonl"}
    asked = {"kind": "speech_ifeval", "data": "forms.jsonl"}
    return load_suites(
        [
            {"name": "gender", **labels},
            {"name": "gender-absent", **labels, "audio": "absent"},
            {"name": "gender-exact", **labels, "reading": "exact"},
            {"name": "form", **asked},
            {"name": "form-text", **asked, "form": "text"},
            {"name": "form-described", **asked, "form": "description"},
            {"name": "plain", "kind": "generated", "items": [{"prompt": "q", "answer": "one"}]},
        ],
        folder,
    )


def says(right: float, quoted: int) -> FakeModel:
    """Of labels, so many in a row are right and the rest say nothing; of instructions, every `quoted`-th is in
    quotes."""
    counts = {"labels": 0, "forms": 0}

    def answer(text: str) -> str:
        if "Male or" in text:
            counts["labels"] += 1
            place = (counts["labels"] - 1) % ROWS
            return ("It is male.", "female")[place % 2] if place < right * ROWS else "I cannot tell"
        counts["forms"] += 1
        return '"one"' if counts["forms"] % quoted == 0 else "one"

    return FakeModel(answer)


@pytest.fixture(scope="module")
def results(suites: tuple[Suite, ...]) -> dict[str, Any]:
    before = [measure(says(0.5, 2), suites)]
    after = [measure(says(share, 3), suites) for share in (0.75, 1.0)]
    return listening(suites, {"before": before, "plain": after})


def test_labels_are_counted_by_side_and_dimension_over_all_runs(results: dict[str, Any]) -> None:
    rows = {(row["suite"], row["side"]): row for row in results["listening"]["labels"]}
    assert set(rows) == {(name, side) for name in ("gender", "gender-absent", "gender-exact")
                         for side in ("before", "plain")}  # fmt: skip
    before, plain = rows["gender", "before"], rows["gender", "plain"]
    assert (before["dimension"], before["parsed"], before["unparsable"], before["exact"]) == ("speaker", 0.5, 0.5, 0.25)
    assert (plain["items"], plain["parsed"]) == (2 * ROWS, pytest.approx(0.875))


def test_a_control_is_the_paired_difference_of_one_model(suites: tuple[Suite, ...], results: dict[str, Any]) -> None:
    rows = {row["side"]: row for row in results["listening"]["controls"]}
    assert {(row["suite"], row["control"], row["audio"]) for row in rows.values()} == {
        ("gender", "gender-absent", "absent")
    }
    # The script goes on counting, so that both suites are answered alike: the difference is 0 with an interval.
    assert rows["before"]["delta"] == 0
    assert rows["before"]["low"] < 0 < rows["before"]["high"]
    own = np.array([1.0] * 12 + [0.0] * 12)
    clusters = [item.cluster for item in suites[0].items]
    assert rows["before"]["low"] == paired(list(own), [list(own)], clusters=clusters).low


def test_forms_are_held_against_the_description(results: dict[str, Any]) -> None:
    rows = {(row["suite"], row["side"]): row for row in results["listening"]["forms"]}
    assert "reference" not in rows["form-described", "before"]
    for name in ("form", "form-text"):
        assert rows[name, "before"]["reference"] == "form-described"
    one = rows["form", "plain"]
    assert one["strict"] == pytest.approx(1 / 3)
    assert one["by"] == {"startend:quotation": [16, 16, 48], "punctuation:no_comma": [48, 48, 48]}
    assert one["change"]["relative"] == pytest.approx(0.0)
    assert rows["form", "before"]["strict"] == 0.5


def test_the_section_says_what_cannot_be_read_and_tables_the_rest(results: dict[str, Any]) -> None:
    record = section.read(json.loads(json.dumps(results)), FACTS)
    assert record is not None
    assert section.words(FACTS, record)[0] == "before on gender (speaker): 50.0 % of the answers name no option."
    labels, controls, forms, rules = section.tables(FACTS, record)
    assert labels.rows[0] == ("gender, before", "speaker", "25.0 %", "50.0 %", "50.0 %", "24")
    assert controls.rows[0][:5] == ("gender, before", "no sound", "50.0", "50.0", "+0.0")
    assert forms.rows[5][:2] == ("form-described, plain", "described in text")
    assert forms.rows[4][4] == "reference"
    assert rules.heads[2:] == ("quotes", "punctuation:no_comma")
    drawn = section.figures(FACTS, record)
    assert drawn[0].lines[0][:2] == (
        "gender, before", "dimension speaker, exact 25.0 %, parsed 50.0 %, unparsable 50.0 %, items 24"
    )  # fmt: skip
    assert rules.rows[0][2:] == ("12 and 12 of 24", "24 and 24 of 24")


def test_a_score_that_needs_no_sound_is_said_so() -> None:
    row = {"suite": "s", "control": "c", "audio": "shuffled", "side": "plain", "value": 0.5, "other": 0.45,
           "delta": 0.05, "low": -0.1, "high": 0.2, "items": 40}  # fmt: skip
    found = section.read({"listening": {"labels": [], "controls": [row], "forms": []}}, FACTS)
    assert found is not None
    assert section.words(FACTS, found) == [
        "plain on s: not shown to hear anything, since it scores +5.0 points against another row's sound "
        "[-10.0, +20.0]."
    ]
    assert section.read({}, FACTS) is None
    assert section.read({"listening": {"labels": [], "controls": [], "forms": []}}, FACTS) is None


def test_categories_that_count_alike_do_so_in_changes_and_controls(suites: tuple[Suite, ...]) -> None:
    """20 rows of one category and 4 of another; what follows with sound is the few, and with text the many."""
    named = {suite.name: suite for suite in suites}

    def parted(name: str, names: tuple[str, str], **settings: bool) -> Suite:
        suite = named[name]
        items = tuple(replace(item, category=names[n >= 20]) for n, item in enumerate(suite.items))
        return replace(suite, items=items, settings=suite.settings.model_copy(update=settings))

    def answered(suite: Suite, texts: tuple[str, str]) -> Measured:
        pairs = [(item.id, texts[n >= 20]) for n, item in enumerate(suite.items)]
        answers = [Answer(suite.name, name, text, True, 1) for name, text in pairs]
        return Measured(suite.name, answers, score(suite, answers))

    forms = [parted(name, ("closed", "creative")) for name in ("form", "form-text")]
    follows, does_not = '"one"', "one, two"
    texts = [(does_not, follows), (follows, does_not)]
    run = {suite.name: answered(suite, text) for suite, text in zip(forms, texts, strict=True)}
    (row,) = [row for row in listening(forms, {"before": [run]})["listening"]["forms"] if "change" in row]
    assert row["strict"] == row["change"]["value"] == pytest.approx(0.5)
    assert row["change"]["relative"] == pytest.approx(0.0)
    heard = [parted(name, ("speaker", "content"), balanced=True) for name in ("gender", "gender-absent")]
    run = {suite.name: answered(suite, text) for suite, text in zip(heard, [("-", "male"), ("-", "-")], strict=True)}
    (control,) = listening(heard, {"before": [run]})["listening"]["controls"]
    assert control["value"] == pytest.approx(summary(run["gender"].scores, heard[0])["mean"])


def test_without_suites_about_sounds_there_is_nothing(suites: tuple[Suite, ...]) -> None:
    assert listening([suites[-1]], {}) == {}
