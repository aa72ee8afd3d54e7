"""Suites of kind wer and cer: errors against jiwer, rates of sums, what cannot be heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure, score
from mnemos.measure.recognition import NORMALISERS, errors, totals
from mnemos.measure.suite import Suite, load_suites
from mnemos.models.load import Checkpoint
from mnemos.sources import audio
from tests.measure.fakes import FakeModel
from tests.tiny_speech import sound, tiny_ctc

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=150)
@given(WORDS, WORDS)
def test_errors_are_those_of_jiwer(reference: list[str], written: list[str]) -> None:
    jiwer = pytest.importorskip("jiwer", reason="the reference is not installed")
    theirs = jiwer.process_words(" ".join(reference), " ".join(written))
    ours = errors(reference, written)
    assert ours.total == theirs.substitutions + theirs.deletions + theirs.insertions
    assert ours.total / ours.units == pytest.approx(theirs.wer)
    # Several alignments may be the shortest; each has so many insertions more than deletions.
    assert ours.insertions - ours.deletions == theirs.insertions - theirs.deletions
    assert min(ours.substitutions, ours.deletions, ours.insertions) >= 0


def suite(folder: Path, texts: list[str], **more: Any) -> Suite:
    rows = []
    for number, text in enumerate(texts):
        audio.write(sound(0.3, number), folder / f"{number}.wav")
        rows.append({"audio": f"{number}.wav", "text": text, "speaker": f"s{number % 2}"})
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [made] = load_suites([{"name": "said-aloud", "kind": "wer", "data": "items.jsonl", **more}], folder)
    return made


def test_the_rate_is_errors_over_words_of_all_items(tmp_path: Path) -> None:
    made = suite(tmp_path, ["One, two three!", "four"])
    answers = [
        Answer(made.name, item.id, text, True)
        for item, text in zip(made.items, ["one too three", "for you"], strict=True)
    ]
    found = score(made, answers)
    assert [(one.value, one.weight, one.cluster, one.note) for one in found] == [
        (pytest.approx(1 / 3), 3.0, "s0", "1 substituted"),
        (2.0, 1.0, "s1", "1 substituted, 1 inserted"),
    ]
    rate = sum(one.value * one.weight for one in found) / sum(one.weight for one in found)
    assert totals(made.settings, made.items, answers) == {
        "units": 4,
        "substitutions": 2,
        "deletions": 0,
        "insertions": 1,
        "items": 2,
        "empty": 0,
        "rate": pytest.approx(rate),
    }


def test_characters_are_counted_with_the_spaces_between_words(tmp_path: Path) -> None:
    made = suite(tmp_path, ["ab  cd"], kind="cer")
    [found] = score(made, [Answer(made.name, made.items[0].id, "abcd", True)])
    assert (found.value, found.weight) == (pytest.approx(1 / 5), 5.0)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", "Don't. Stop", "Don't. Stop"),
        ("basic", "Don\u2019t \u2018stop\u2019, caf\u00e9-bar 7!", "don't stop caf\u00e9 bar 7"),
        ("basic", "राम की किताब।", "राम की किताब"),
        ("basic", "ọ̀rọ̀ 'rere' ẹ́kọ́'ẹ́", "ọ̀rọ̀ rere ẹ́kọ́'ẹ́"),
        ("basic", "❤\ufe0f cafe\u0301 1\ufe0f\u20e3 ☀\u0301", "caf\u00e9 1"),
        ("english", "Don't pay twenty dollars.", "do not pay $20"),
    ],
)
def test_normalisers(name: str, text: str, expected: str) -> None:
    assert " ".join(NORMALISERS[name](text).split()) == expected


def test_a_word_with_vowel_signs_is_one_word(tmp_path: Path) -> None:
    made = suite(tmp_path, ["राम की किताब"])
    [found] = score(made, [Answer(made.name, made.items[0].id, "राम का कताब", True)])
    assert (found.value, found.weight) == (pytest.approx(2 / 3), 3.0)


def test_the_suite_is_named_by_its_sounds(tmp_path: Path) -> None:
    before = suite(tmp_path, ["one", "two"]).fingerprint
    audio.write(sound(0.3, 9), tmp_path / "1.wav")
    [again] = load_suites([{"name": "said-aloud", "kind": "wer", "data": "items.jsonl"}], tmp_path)
    assert again.fingerprint != before


def test_a_recogniser_is_asked_and_what_it_cannot_hear_is_missing(tmp_path: Path) -> None:
    made = suite(tmp_path, ["one", "two", "three"])
    (tmp_path / "1.wav").write_bytes(b"no sound")
    audio.write(sound(0.0005), tmp_path / "2.wav")
    ears = Checkpoint(str(tiny_ctc(tmp_path / "m"))).load()
    found = measure(ears, [made])[made.name]
    assert found.answers[0].text == ears.transcribe([audio.read(tmp_path / "0.wav", rate=16_000)])[0]
    assert [one.reason for one in found.scores] == [None, "damaged audio", "too short"]


def test_who_cannot_be_asked_is_named(tmp_path: Path) -> None:
    from tests.tiny import save_tiny

    made = suite(tmp_path, ["one"])
    with pytest.raises(UsageError, match="reads text alone"):
        measure(Checkpoint(str(save_tiny(tmp_path / "llm"))).load(), [made])
    [text] = load_suites([{"name": "t", "kind": "generated", "items": [{"prompt": "a", "answer": "b"}]}], tmp_path)
    with pytest.raises(UsageError, match="only hears"):
        measure(Checkpoint(str(tiny_ctc(tmp_path / "m"))).load(), [text])


def test_answers_to_prompts_are_counted_as_transcripts_are(tmp_path: Path) -> None:
    items = [
        {"prompt": "<|unit_1|><|unit_2|>", "completion": "one two three", "speaker": "a"},
        {"prompt": "<|unit_3|>", "completion": "four", "speaker": "b"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, items)))
    columns = {"answer": "completion", "cluster": "speaker"}
    jiwer = pytest.importorskip("jiwer", reason="the reference is not installed")
    answers = {"<|unit_1|><|unit_2|>": "One too tree.", "<|unit_3|>": "for you"}
    for kind, rate in (("answer_wer", jiwer.wer), ("answer_cer", jiwer.cer)):
        [made] = load_suites([{"name": "u", "kind": kind, "data": "rows.jsonl", "columns": columns}], tmp_path)
        found = measure(FakeModel(answers), [made])[made.name]
        expected = [rate("one two three", "one too tree"), rate("four", "for you")]
        assert [one.value for one in found.scores] == pytest.approx(expected)
        assert [one.cluster for one in found.scores] == ["a", "b"]
        assert (made.unit, made.better) == (kind[-3:].upper(), "lower")
    for item, why in (({"prompt": "a", "answer": "..."}, "no word left"), ({"prompt": "a"}, "has no transcript"),
                      ({"prompt": "a", "answers": ["b", "c"]}, "has several")):  # fmt: skip
        with pytest.raises(DataError, match=why):
            load_suites([{"name": "u", "kind": "answer_wer", "items": [item]}], tmp_path)


@pytest.mark.parametrize(
    ("item", "what"), [({"audio": "0.wav", "text": "..."}, "no word left"), ({"text": "a"}, "audio"), ("a", "mapping")]
)
def test_bad_items_are_refused(item: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what):
        load_suites([{"name": "s", "kind": "wer", "items": [item]}], tmp_path)
