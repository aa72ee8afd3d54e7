"""Suites about sounds: folders of Dynamic-SUPERB, labels read in three ways, controls, and instructions in three
forms."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, AudioPart, Prompt, TextPart, Turn
from mnemos.measure import dynamic_superb, speech_ifeval
from mnemos.measure.ask import measure, score
from mnemos.measure.flips import flips
from mnemos.measure.items import Item
from mnemos.measure.suite import Suite, load_suites
from mnemos.sources import audio
from tests.measure.fakes import FakeModel
from tests.tiny_speech import RATE, sound

QUESTION = "Is the speaker male or female? The answer could be male, or female."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))


def task(place: Path, rows: int = 4, **more: Any) -> Path:
    """A folder of clips that last 0.1, 0.2, … seconds, as a table of commas."""
    place.mkdir(exist_ok=True, parents=True)
    lines = ["file_name,file,instruction,label"]
    for number in range(rows):
        audio.write(sound(0.1 * (number + 1), number), place / f"{number}.wav")
        lines.append(f'{number}.wav,row-{number},"{QUESTION}",{("male", "female")[number % 2]}')
    (place / "metadata.csv").write_text("\n".join(lines))
    return place


def suite(folder: Path, **more: Any) -> Suite:
    [made] = load_suites([{"name": "gender", "kind": "dynamic_superb", **more}], folder)
    return made


def heard_by(made: Suite) -> dict[str, audio.Clip]:
    """What a model is given to hear, by item."""
    got: dict[str, audio.Clip] = {}

    class Ears(FakeModel):
        def generate(self, prompts: Any, decoding: Any) -> Any:
            for item, prompt in zip(made.items, prompts, strict=True):
                for part in prompt.turns[-1].sounds:
                    got[item.id] = audio.read(part.path)
            return super().generate(prompts, decoding)

    measure(Ears(lambda text: "male"), [made])
    return got


def test_a_folder_is_asked_with_sound_before_question(tmp_path: Path) -> None:
    made = suite(task(tmp_path / "t"), data=".", dimension="speaker", system="Listen.")
    prompts: list[Prompt] = []

    class Ears(FakeModel):
        def generate(self, asked: Any, decoding: Any) -> Any:
            prompts.extend(asked)
            return super().generate(asked, decoding)

    found = measure(Ears(lambda text: "A male, I think."), [made])["gender"]
    assert [one.value for one in found.scores] == [1, 0, 1, 0]
    assert [one.note for one in found.scores] == ["exact 0, parsed 1", "exact 0, parsed 0"] * 2
    part = AudioPart(str(tmp_path / "t" / "0.wav"))
    assert prompts[0].turns == (Turn("system", "Listen."), Turn("user", (part, TextPart(f"\n{QUESTION}"))))
    assert [(item.id, item.category) for item in made.items[:2]] == [("row-0", "speaker"), ("row-1", "speaker")]
    assert made.texts == ("",) * 4


def test_an_item_is_shown_with_its_question_and_its_file(tmp_path: Path) -> None:
    made = suite(task(tmp_path / "t"), data=".", dimension="speaker", system="Listen.")
    sides = [measure(FakeModel(lambda text, word=word: word), [made]) for word in ("male", "female")]
    shown = flips([made], *sides, arm="a", seed=0, each=1)
    files = {item.id: item.sound.path for item in made.items if item.sound is not None}
    assert shown
    assert [entry["prompt"] for entry in shown] == [f"{QUESTION} [{files[entry['item']]}]" for entry in shown]


def test_an_instance_names_its_folder_or_the_data_lie_beside_it(tmp_path: Path) -> None:
    task(tmp_path / "a" / "rows")
    instance = {"name": "Gender", "path": "rows", "version": "x", "keywords": ["Speaker"], "metrics": ["accuracy"]}
    (tmp_path / "a" / "instance.json").write_text(json.dumps(instance))
    named = suite(tmp_path, data="a/instance.json")
    assert [item.category for item in named.items] == ["speaker"] * 4
    (task(tmp_path / "b") / "instance.json").write_text(json.dumps({**instance, "path": "DynamicSuperb/Gender"}))
    assert len(suite(tmp_path, data="b").items) == 4
    (tmp_path / "b" / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"'DynamicSuperb/Gender' of its instance\.json is no folder here"):
        suite(tmp_path, data="b")
    (tmp_path / "b" / "instance.json").write_text("[]")
    with pytest.raises(DataError, match="must hold an object"):
        suite(tmp_path, data="b")


def test_a_copy_of_a_data_set_of_the_hub_holds_its_sounds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    audio.write(sound(0.3, 1), tmp_path / "1.wav")
    data = (tmp_path / "1.wav").read_bytes()
    rows = [{"file": f"row-{n}", "audio": {"bytes": data, "path": "a.wav"}, "instruction": QUESTION, "label": "male"}
            for n in range(2)]  # fmt: skip
    (tmp_path / "task" / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "task" / "data" / "test-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows[:1]), tmp_path / "task" / "data" / "train-0.parquet")
    made = suite(tmp_path, data="task")
    assert [item.id for item in made.items] == ["row-0", "row-1"]
    assert heard_by(made)["row-1"].seconds == pytest.approx(0.3)


def test_a_pair_is_joined_with_half_a_second_of_silence(tmp_path: Path) -> None:
    first, second = sound(0.3, 1), sound(0.2, 2)
    audio.write(first, tmp_path / "1.wav")
    audio.write(second, tmp_path / "2.wav")
    row = {"audio": "1.wav", "audio2": "2.wav", "instruction": QUESTION, "label": "male"}
    [clip] = heard_by(suite(tmp_path, items=[row])).values()
    expected = np.concatenate([first.samples, np.zeros(RATE // 2, np.float32), second.samples])
    assert np.allclose(clip.samples, expected, atol=1e-4)
    with pytest.raises(DataError, match="no such file"):
        suite(tmp_path, items=[{**row, "audio2": "gone.wav"}])


def test_controls_are_silence_another_sound_or_none(tmp_path: Path) -> None:
    folder = task(tmp_path / "t", 5)
    own = heard_by(suite(folder, data="."))
    silent = heard_by(suite(folder, data=".", audio="silence"))
    assert [clip.seconds for clip in silent.values()] == pytest.approx([clip.seconds for clip in own.values()])
    # So quiet that nobody hears it, and not so that it is refused as silent.
    assert all(audio.Bounds().silence < audio.rms(clip.samples) < 1.2e-4 for clip in silent.values())
    assert heard_by(suite(folder, data=".", audio="absent")) == {}
    other = heard_by(suite(folder, data=".", audio="shuffled"))
    lengths = {name: round(clip.seconds, 1) for name, clip in own.items()}
    moved = {name: round(clip.seconds, 1) for name, clip in other.items()}
    assert sorted(moved.values()) == sorted(lengths.values())
    assert all(moved[name] != lengths[name] for name in lengths)
    again = heard_by(suite(folder, data=".", audio="shuffled"))
    assert {name: round(clip.seconds, 1) for name, clip in again.items()} == moved
    prints = {suite(folder, data=".", audio=how).fingerprint for how in ("heard", "silence", "shuffled", "absent")}
    assert len(prints) == 4


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12).filter(lambda n: len(set(n)) > 1), st.integers(0, 99))
def test_nobody_is_given_the_own_sound_back(clips: list[int], seed: int) -> None:
    """Items that share a sound get one sound together, and never one that is equal to their own."""
    from types import SimpleNamespace

    from mnemos.measure.heard import controlled

    found = [(Item(str(at), sound=AudioPart(f"/none/{clip}.wav")), "") for at, clip in enumerate(clips)]
    made = controlled(SimpleNamespace(audio="shuffled", audio_seed=seed), found, "x")
    given_to: dict[int, set[str]] = {}
    for clip, (item, _) in zip(clips, made, strict=True):
        assert item.sound is not None
        assert item.sound.path != f"/none/{clip}.wav"
        given_to.setdefault(clip, set()).add(item.sound.path)
    assert all(len(paths) == 1 for paths in given_to.values())
    assert len(set.union(*given_to.values())) == len(set(clips))


def test_items_about_one_sound_are_one_cluster_in_every_form(tmp_path: Path) -> None:
    folder = task(tmp_path / "t", 3)
    (folder / "2.wav").write_bytes((folder / "0.wav").read_bytes())
    made = suite(folder, data=".")
    assert made.items[0].cluster == made.items[2].cluster is not None
    assert made.items[1].cluster is None
    rows = [{**ROW, "audio": f"{n}.wav"} for n in range(3)]
    forms = [constraints(folder, rows, form=form) for form in ("audio", "description", "text")]
    assert len({tuple(item.cluster for item in one.items) for one in forms}) == 1
    assert forms[1].items[0].cluster == made.items[0].cluster
    assert constraints(folder, [{**rows[0], "cluster": "ada"}, rows[2]]).items[0].cluster == "ada"


def test_equal_sounds_under_two_names_are_one(tmp_path: Path) -> None:
    folder = task(tmp_path / "t", 3)
    (folder / "2.wav").write_bytes((folder / "0.wav").read_bytes())
    moved = heard_by(suite(folder, data=".", audio="shuffled"))
    assert [round(clip.seconds, 1) for clip in moved.values()] == [0.2, 0.1, 0.2]
    for name in ("1.wav", "2.wav"):
        (folder / name).write_bytes((folder / "0.wav").read_bytes())
    with pytest.raises(DataError, match=r"has 1 different sound"):
        suite(folder, data=".", audio="shuffled")


def test_what_cannot_be_heard_is_missing_and_a_reader_of_text_is_refused(tmp_path: Path) -> None:
    folder = task(tmp_path / "t", 3)
    (folder / "1.wav").write_bytes(b"RIFF")
    model = FakeModel(lambda text: "male")
    model.longest = 0.25  # type: ignore[attr-defined]
    found = measure(model, [suite(folder, data=".")])["gender"]
    assert [one.reason for one in found.scores] == [None, "damaged audio", "longer than the model hears at once"]
    model.hears = False  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="reads text alone"):
        measure(model, [suite(folder, data=".")])
    assert measure(model, [suite(folder, data=".", audio="absent")])


# reading answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "options"),
    [
        (QUESTION, ("male", "female")),
        ("Which? The answer could be A, B, or C.", ("A", "B", "C")),
        ("Which? The answer could be yes or no.", ("yes", "no")),
        ("The answer could be v1.5, or 'version 2'.", ("v1.5", "version 2")),
        ("The answer could be up, down. Listen! The answer could be left, or right.", ("left", "right")),
        ("Say what you hear.", ()),
        ("The answer could be wrong.", ()),
    ],
)
def test_options_are_those_that_the_instruction_ends_with(instruction: str, options: tuple[str, ...]) -> None:
    assert dynamic_superb.options_of(instruction) == options


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("Non-sarcastic, not sarcastic", "non-sarcastic"),
        ("The tone is SARCASTIC.", "sarcastic"),
        ("yes and no", None),
        ("sarcastically", None),
        ("", None),
    ],
)
def test_the_first_option_that_an_answer_names(answer: str, named: str | None) -> None:
    assert dynamic_superb.first_named(answer, ("sarcastic", "non-sarcastic")) == named


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["red", "dark red", "blue", "x", "reddish", "Blue!"]), max_size=6))
def test_naming_is_that_of_words_compared_one_by_one(words: list[str]) -> None:
    options = ("red", "dark red", "blue")
    bare = re.findall(r"\w+", " ".join(words).lower())
    expected = None
    for at in range(len(bare)):
        here = [one for one in options if bare[at : at + len(one.split())] == one.split()]
        if here:
            expected = max(here, key=len)
            break
    # With single blanks between words, whole words in a row are whole words of the text.
    assert dynamic_superb.first_named(" ".join(bare), options) == expected


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("6", "six"), ("The digit spoken is 6.", "six"), ("6, I think", "six"), ("It is 6: six", "six"),
        ("**6**", "six"), ("seven, not 6", "seven"), ("6, not seven", "six"), ("60", None), ("16", None),
        ("1.6", None), ("6.5", None), ("6:30", None), ("0:06", None), ("x6", None), ("6,000", None), ("0", "zero"),
    ],
)  # fmt: skip
def test_a_number_up_to_twelve_may_be_named_in_numerals(answer: str, named: str | None) -> None:
    assert dynamic_superb.first_named(answer, ("six", "seven", "zero")) == named


@given(st.lists(st.sampled_from([(True, True), (False, True), (False, False), (False, None)]), min_size=1, max_size=20))
def test_the_second_phases_rule_is_the_mean_with_zero_for_what_cannot_be_read(kinds: list[Any]) -> None:
    words = {(True, True): "yes", (False, True): "Yes, it is", (False, False): "no", (False, None): "perhaps"}
    items = [Item(str(at), options=("yes", "no"), answers=("yes",)) for at in range(len(kinds))]
    answers = [Answer("s", str(at), words[kind], True) for at, kind in enumerate(kinds)]
    found = dynamic_superb.totals(items, answers)[""]
    assert found["exact"] == pytest.approx(np.mean([exact for exact, _ in kinds]))
    assert found["unparsable"] == pytest.approx(np.mean([parsed is None for _, parsed in kinds]))
    read = [parsed for _, parsed in kinds if parsed is not None]
    if read:
        assert found["parsed"] == pytest.approx(np.mean(read) * (1 - found["unparsable"]))
    else:
        assert (found["read"], found["parsed"]) == (None, 0)


def test_without_options_the_labels_of_the_task_are_options(tmp_path: Path) -> None:
    folder = task(tmp_path / "t")
    rows = [{"audio": f"{n % 2}.wav", "question": "Who?", "answer": f"ada {n % 2}", "id": f"i{n}"} for n in range(4)]
    made = suite(folder, items=rows)
    assert {item.options for item in made.items} == {("ada 0", "ada 1")}
    alone = suite(folder, items=rows[:2])
    assert {item.options for item in alone.items} == {()}
    found = score(alone, [Answer("gender", f"i{n}", f" ADA {n} ", True) for n in range(2)])
    assert [one.value for one in found] == [1, 1]


def test_exact_reading_is_the_label_but_for_case_and_space(tmp_path: Path) -> None:
    made = suite(task(tmp_path / "t", 3), data=".", reading="exact")
    answers = [Answer("gender", f"row-{n}", text, True) for n, text in enumerate([" MALE\n", "Female.", "male"])]
    assert [one.value for one in score(made, answers)] == [1, 0, 1]


def test_a_judge_is_asked_and_what_it_does_not_say_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Handle:
        fingerprint = "judge"

        def load(self) -> Any:
            def verdict(text: str) -> str:
                asked.append(text)
                return ["Yes.", "No, it does not say yes", "Hm"][len(asked) - 1]

            return FakeModel(verdict)

    monkeypatch.setattr("mnemos.models.load.handle", lambda path: Handle())
    monkeypatch.setattr("mnemos.measure.suite.handle", lambda path: Handle())
    made = suite(task(tmp_path / "t", 3), data=".", reading="judged", judge="m")
    found = score(made, [Answer("gender", f"row-{n}", "a {label} man", True) for n in range(3)])
    assert [one.reason for one in found] == [None, None, "the judge says neither yes nor no"]
    assert [one.value for one in found[:2]] == [1, 0]
    assert "Right answer:\nmale\n\nAnswer to be judged:\na {label} man\n" in asked[0]
    with pytest.raises(UsageError, match="goes with reading: judged"):
        suite(tmp_path / "t", data=".", judge="m")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": "robot"}, "is none of the options"),
        ({"label": None}, "label = 'None'"),
        ({"instruction": " "}, "must be a text"),
        ({"audio": None}, "has no audio"),
        ({"audio": "0.wav", "start": 2, "end": 1}, "must rise"),
        ({"audio2": 7}, "must be the path"),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path: Path, row: Mapping[str, Any], words: str) -> None:
    good = {"audio": "0.wav", "instruction": QUESTION, "label": "male"}
    with pytest.raises(DataError, match=words) as found:
        suite(task(tmp_path / "t"), items=[{**good, **row}])
    assert "item 1" in str(found.value)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    row = {"audio": "0.wav", "instruction": QUESTION, "label": "male", "file": "same"}
    with pytest.raises(DataError, match="stands at"):
        suite(task(tmp_path / "t"), items=[row, row])


# instructions ---------------------------------------------------------------------------------------------------------

ROW = {
    "audio": "0.wav", "seed": '[00:00:00 - 00:00:01]: "one"', "prompt": "What is said? Answer in upper case.",
    "text_prompt": "Name a river. Answer in upper case.", "instruction_id_list": ["change_case:english_capital"],
    "kwargs": [{}], "category": "closed",
}  # fmt: skip


def constraints(folder: Path, rows: Any = (ROW,), **more: Any) -> Suite:
    [made] = load_suites([{"name": "form", "kind": "speech_ifeval", "items": list(rows), **more}], folder)
    return made


def test_three_forms_of_one_row_have_one_name_and_three_prompts(tmp_path: Path) -> None:
    folder = task(tmp_path / "t")
    made = {form: constraints(folder, form=form).items[0] for form in ("audio", "description", "text")}
    assert len({item.id for item in made.values()}) == 1
    texts = {form: item.prompt.turns[-1].text for form, item in made.items() if item.prompt is not None}
    assert texts == {
        "audio": ROW["prompt"], "description": f"{ROW['seed']}\n\n{ROW['prompt']}", "text": ROW["text_prompt"]
    }  # fmt: skip
    assert [item.sound is not None for item in made.values()] == [True, False, False]
    assert len({constraints(folder, form=form).fingerprint for form in made}) == 3
    with pytest.raises(UsageError, match="goes with form: audio"):
        constraints(folder, form="text", audio="silence")
    with pytest.raises(DataError, match="names no instructions"):
        constraints(folder, [{**ROW, "instruction_id_list": None}])


JSON = Item("j", answers=(json.dumps([["detectable_format:json_format"], [{}]]),))


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ('{"a": 1}', True, True),
        ('```json\n{"a": 1}\n```', False, True),
        ('Here it is:\n{"a": 1}', False, True),
        ('Sure!\n```json\n{"a": 1}\n```', False, True),
        ('Sure!\n```json\n{"a": 1}\n```\nDone.\nBye.', False, False),
        ("a: 1", False, False),
        ("", False, False),
    ],
)
def test_json_in_a_fence_is_json_in_the_loose_reading_alone(text: str, strict: bool, loose: bool) -> None:
    assert speech_ifeval.readings(JSON, text) == {"strict": [strict], "loose": [loose]}


def test_other_instructions_are_read_by_the_checkers_of_ifeval(tmp_path: Path) -> None:
    made = constraints(task(tmp_path / "t"))
    for text, value in (("SEVEN", 1), ("Seven", 0), ("IT IS A SEVEN OF THE OLD KIND", 1), ("7", 0)):
        [found] = score(made, [Answer("form", "1", text, True)])
        assert found.value == value
    assert constraints(tmp_path / "t", reading="loose").fingerprint != made.fingerprint


def test_the_rate_is_the_mean_of_the_papers_groups() -> None:
    values, groups = [1.0, 0.0, 1.0, 1.0], ["closed", "closed", "closed", "creative"]
    assert speech_ifeval.if_rate(values, groups) == pytest.approx((2 / 3 + 1) / 2)
    assert speech_ifeval.if_rate(values, [*groups[:3], None]) == pytest.approx(3 / 4)
    assert math.isnan(speech_ifeval.if_rate([], []))


def test_the_change_is_that_of_the_published_table() -> None:
    """IFrate from the means of the three columns, and delta against the reference, as Speech-IFEval prints them."""
    table = {"reference": (93.35, 93.75, 90.50, 92.53), "DeSTA2": (83.71, 91.75, 91.50, 89.23)}
    rates = {}
    for name, (*columns, printed) in table.items():
        rates[name] = speech_ifeval.if_rate(columns, ["closed", "creative", "cot"])
        # Of 2,533 rows in groups: the print is rounded from the exact ones.
        assert rates[name] == pytest.approx(printed, abs=0.25)
    assert speech_ifeval.relative_change(89.23, 92.53) == pytest.approx(-3.57, abs=0.005)
    assert math.isnan(speech_ifeval.relative_change(1.0, 0.0))


def test_totals_count_each_instruction(tmp_path: Path) -> None:
    both = {**ROW, "instruction_id_list": ["startend:quotation", "punctuation:no_comma"], "kwargs": [{}, {}]}
    made = constraints(task(tmp_path / "t"), [both, {**both, "category": None}])
    answers = [Answer("form", name, text, True) for name, text in (("1", '"one"'), ("2", "one, two"))]
    found = speech_ifeval.totals(made.items, answers)
    assert found is not None
    assert (found["items"], found["strict"]) == (2, 0.5)
    assert found["by"] == {"startend:quotation": [1, 1, 2], "punctuation:no_comma": [1, 1, 2]}
    assert speech_ifeval.totals(made.items, [Answer("form", one, None) for one in "12"]) is None
