"""Clips and suites of the recipe: parts that share nothing, labels that are true, equal bytes for equal seeds."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError
from mnemos.core.files import read_jsonl
from mnemos.measure.suite import load_suites
from mnemos.recipes import listening
from mnemos.recipes.reproductions.adaptation import SPEAKERS
from mnemos.rewards.instructions import check_instruction
from mnemos.sources import audio
from mnemos.sources.described import described
from mnemos.study.config import raw_study, resolved_study
from mnemos.synthesis.sound_questions import ATTRIBUTES
from tests.tiny_speech import sound

REAL = Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[3] / "shared" / "data"))
SMALL = listening.Sizes((2, 1), (3, 2), (1, 1))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four sets, tiny: two digits by each speaker, two takes of each part."""
    folder: Path = tmp_path_factory.mktemp("data")
    for name in ("fsdd", "asr_speechbrain/wav", "noise_ms_snsd/flac", "speech_llm_fixtures/audio"):
        (folder / name).mkdir(parents=True)
    people = {name: {"gender": "male", "accent": name[:2]} for name in SPEAKERS}
    (folder / "fsdd" / "speakers.json").write_text(json.dumps(people))
    seed = 0
    for speaker in SPEAKERS:
        with tarfile.open(folder / "fsdd" / f"{speaker}.tar.gz", "w:gz") as tar:
            for digit in (3, 7):
                for take in (0, 1, 5, 6):
                    audio.write(sound(0.3, seed := seed + 1), folder / "one.wav")
                    info = tarfile.TarInfo(f"{digit}_{speaker}_{take}.wav")
                    info.size = (folder / "one.wav").stat().st_size
                    tar.addfile(info, io.BytesIO((folder / "one.wav").read_bytes()))
    rows: list[dict[str, Any]] = []
    for at, speaker in enumerate(("spk1", "spk2")):
        audio.write(sound(1.2, 100 + at), folder / "asr_speechbrain" / "wav" / f"{speaker}.wav")
        rows.append({"file": f"wav/{speaker}.wav", "kind": "speech", "text_checked": "A DOG", "speaker": speaker})
        audio.write(sound(0.2, 200 + at), folder / "asr_speechbrain" / "wav" / f"rir{at + 1}.wav")
    rows.append({"file": "wav/none.wav", "kind": "speech", "text_checked": None, "speaker": "spk1"})
    with gzip.open(folder / "asr_speechbrain" / "index.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    for at, name in enumerate(listening.NOISES):
        audio.write(sound(2.0, 300 + at), folder / "noise_ms_snsd" / "flac" / f"{name}.flac")
    audio.write(sound(1.5, 400), folder / "speech_llm_fixtures" / "audio" / "jfk.flac")
    return folder


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("made") / "listening"
    assert listening.make(data, place, SMALL, synthetic=False) == []
    return place


def rows(place: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(place / "metadata.jsonl"))


def test_parts_share_no_take_and_no_sentence(out: Path) -> None:
    train, test = rows(out / "train"), rows(out / "test")
    assert Counter(row["set"] for row in train) == {"fsdd": 16, "fsdd pairs": 3, "harvard": 1}
    assert Counter(row["set"] for row in test) == {"fsdd": 8, "fsdd pairs": 2, "harvard": 1, "jfk": 1}
    takes = [{row["take"] for row in part if row["set"] == "fsdd"} for part in (train, test)]
    assert takes[0] == {5, 6}
    assert takes[1] <= {0, 1, 2, 3, 4}
    assert all(row["synthetic"] is False for row in (*train, *test))
    assert {row["digit"] for row in test if "digit" in row} == {"three", "seven"}


def test_what_is_added_is_what_is_known(data: Path, out: Path) -> None:
    """A clip in noise lies as far above it as it says: the noise is what remains when the clip is taken out."""
    clean = {row["id"]: row for row in rows(out / "train")}
    assert {"none"} < {row["noise"] for row in clean.values()} <= {"none", *listening.NOISES.values()}
    assert all(("snr" in row) == (row["noise"] != "none") for row in clean.values())
    assert {row["room"] for row in clean.values() if "room" in row} <= {"dry", "echoing"}
    levels = [round(20 * np.log10(audio.rms(audio.read(out / "train" / row["file_name"]).samples)))
              for row in clean.values()]  # fmt: skip
    assert set(levels) <= {round(level) for level in listening.LEVELS_DB}


def test_noise_of_the_two_parts_is_from_other_stretches(data: Path) -> None:
    folder = data / "noise_ms_snsd" / "flac"
    learned, tested = (listening._noises(folder, part) for part in ("train", "test"))
    whole = audio.read(folder / "CopyMachine_2.flac", rate=16_000).samples
    parts = [one["copy machine"].samples for one in (learned, tested)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_same_seed_gives_the_same_bytes(data: Path, out: Path, tmp_path: Path) -> None:
    listening.main([str(data), "--out", str(tmp_path / "a"), "--takes", "2", "1", "--pairs", "3", "2",
                    "--copies", "1", "1", "--no-synthetic"])  # fmt: skip
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((out / name).read_bytes() == (tmp_path / "a" / name).read_bytes() for name in names)
    listening.make(data, tmp_path / "b", SMALL, seed=1, synthetic=False)
    assert rows(tmp_path / "b" / "train") != rows(out / "train")


def test_suites_are_read_and_their_labels_are_the_clips(out: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path))
    suites = {suite.name: suite for suite in load_suites(["suites.yaml", "forms.yaml"], out)}
    assert {"digit", "who", "accent", "noise", "speakers", "digit-shuffled", "forms-audio", "forms-description",
            "forms-text"} <= set(suites)  # fmt: skip
    known = {row["file_name"]: row for row in rows(out / "test")}
    for name, column in (("digit", "digit"), ("who", "speaker"), ("speakers", "speakers")):
        for item in suites[name].items:
            assert item.sound is not None
            assert (known[Path(item.sound.path).name].get("snr", 20) >= 20) or name != "digit"
            assert item.answers == (str(known[Path(item.sound.path).name][column]),)
    # Whether the question names the labels or not, an answer is read against the same ones.
    open_, named = suites["digit"].items, suites["digit-options"].items
    assert all(set(item.options) == {"seven", "three"} for item in (*open_, *named))
    questions = [[item.prompt.turns[-1].text for item in items if item.prompt] for items in (open_, named)]
    assert [any("answer could be" in text for text in one) for one in questions] == [False, True]
    assert suites["who"].items[0].category == "speaker"
    assert len({suites[f"forms-{form}"].items[0].id for form in ("audio", "description", "text")}) == 1


def test_the_reproduction_takes_forms_about_sounds_for_new_and_the_others_for_old(out: Path, tmp_path: Path) -> None:
    from mnemos.core.yaml_text import read_yaml
    from mnemos.recipes.reproductions.real_listening import SHUFFLED, split_suites

    clips = tmp_path / "clips"
    shutil.copytree(out, clips)
    split_suites(clips)
    heard, text = ([one["name"] for one in read_yaml(clips / name)] for name in ("heard.yaml", "text.yaml"))
    assert text == ["forms-description", "forms-text"]
    assert "forms-audio" in heard
    assert "digit" in heard
    assert {name for name in heard if name.endswith("-shuffled")} <= set(SHUFFLED)
    assert load_suites(["heard.yaml", "text.yaml"], clips)
    assert load_suites(["tasks.yaml"], clips)
    tasks = [one["name"] for one in read_yaml(clips / "tasks.yaml")]
    assert tasks == [name for name in heard if name != "forms-audio"]


def test_the_bridge_of_the_reproduction_first_learns_every_label(out: Path, tmp_path: Path) -> None:
    from mnemos.recipes.reproductions.real_listening import label_rows

    shutil.copytree(out, tmp_path / "clips")
    label_rows(tmp_path)
    known = {row["id"]: row for row in rows(out / "train")}
    asked: Counter[str] = Counter()
    for row in read_jsonl(tmp_path / "labels.jsonl"):
        _, *turns = row["messages"]
        sound, question = turns[0]["content"]
        assert (tmp_path / sound["audio"]).is_file()
        turns[0] = {"role": "user", "content": question["text"].strip()}
        for user, model in zip(turns[::2], turns[1::2], strict=True):
            name = next(one for one, about in ATTRIBUTES.items() if user["content"] in about.questions)
            assert model["content"] == known[row["id"]][name]
            asked[name] += 1
    digits = sum("digit" in row for row in known.values())
    assert (asked["digit"], asked["speaker"], asked["noise"]) == (digits, digits, len(known))


def test_the_study_teaches_four_arms(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "out"
    for name in ("listener", "cascade"):
        (tmp_path / name).mkdir()
    listening.main([str(data), "--out", str(place), "--takes", "1", "1", "--pairs", "1", "1", "--no-synthetic",
                    "--model", str(tmp_path / "listener"), "--cascade", str(tmp_path / "cascade")])  # fmt: skip
    assert str(place / "study.yaml") in capsys.readouterr().out
    (place / "rows").mkdir()
    for name in ("self", "human"):
        row = {"audio": "../train/0000.flac", "question": "Who?", "answer": name}
        (place / "rows" / f"{name}.jsonl").write_text(json.dumps(row))
    study = resolved_study(*raw_study(str(place / "study.yaml")))
    assert set(study.arms) == {"plain", "self-lora", "human", "human-lora"}
    assert (Path(study.model), Path(study.beside["cascade"])) == (tmp_path / "listener", tmp_path / "cascade")
    rows_of = {arm: next(iter(own.values())) for arm, own in study.arm_data.items()}
    assert set(rows_of.values()) == {str(place / "rows" / "human.jsonl")}


def test_every_rule_is_one_that_a_program_checks() -> None:
    from mnemos.recipes.listening_suites import RULES

    for _, check, arguments in RULES.values():
        check_instruction(check, arguments, where="rule")


def test_absent_sets_are_named_and_none_at_all_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "asr_speechbrain", tmp_path / "data" / "asr_speechbrain")
    found = listening.make(tmp_path / "data", tmp_path / "out", SMALL, synthetic=False)
    assert found == ["fsdd", "jfk.flac", "noise_ms_snsd"]
    with pytest.raises(DataError, match="has none of fsdd"):
        listening.make(tmp_path / "nothing", tmp_path / "out", SMALL, synthetic=False)


def test_orders_are_spoken_by_other_voices_in_each_part(tmp_path: Path, monkeypatch: Any) -> None:
    said_by: list[tuple[str, str]] = []

    def say(self: Any, text: str, voice: str, seed: int = 0) -> Path:
        said_by.append((voice, text))
        audio.write(sound(1.1, len(said_by)), tmp_path / "said.wav")
        return tmp_path / "said.wav"

    monkeypatch.setattr("mnemos.sources.voices.Voices.say", say)
    listening.make(tmp_path, tmp_path / "out", listening.Sizes(copies=(1, 2)))
    train, test = (rows(tmp_path / "out" / part) for part in ("train", "test"))
    assert (len(train), len(test)) == (16, 16)
    assert not {row["transcript"] for row in train} & {row["transcript"] for row in test}
    assert all(row["synthetic"] is True for row in (*train, *test))
    assert not {voice for voice, _ in said_by[:16]} & {voice for voice, _ in said_by[16:]}
    assert {row["intent"] for row in test} == set(listening.ORDERS)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "fsdd" / "theo.tar.gz").is_file(), reason="needs the fsdd recordings ($MNEMOS_DATA)")
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_the_real_sets_are_read(tmp_path: Path) -> None:
    assert listening.make(REAL, tmp_path / "out", listening.Sizes((1, 1), (4, 4), (1, 1))) == []
    counts: Counter[str] = Counter()
    clips = list(described(tmp_path / "out" / "test", counts))
    assert not counts
    assert {clip.known["set"] for clip in clips} == {"fsdd", "fsdd pairs", "harvard", "jfk", "espeak-ng"}
    voices = [clip.pitch_hz for clip in clips if clip.synthetic and clip.pitch_hz is not None]
    genders = [clip.known["gender"] for clip in clips if clip.synthetic and clip.pitch_hz is not None]
    low = [hz for hz, gender in zip(voices, genders, strict=True) if gender == "male"]
    high = [hz for hz, gender in zip(voices, genders, strict=True) if gender == "female"]
    assert np.median(low) < np.median(high)


def test_the_page_has_the_table_of_the_kept_results() -> None:
    from mnemos.core.files import read_json
    from mnemos.recipes.pages import changes_table

    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "listening.md").read_text(encoding="utf-8")
    _, _, *rows = changes_table(read_json(docs / "results" / "real-listening.json")).splitlines()
    assert len(rows) == 16
    assert all(row in page for row in rows)


def test_the_sweep_asks_a_suite_of_the_study() -> None:
    from mnemos.core.yaml_text import read_yaml
    from mnemos.recipes.reproductions.real_listening import STUDY

    named = [one["name"] for one in read_yaml(STUDY)["suites"]["old"] if isinstance(one, dict)]
    assert named.count("json-answers") == 1
