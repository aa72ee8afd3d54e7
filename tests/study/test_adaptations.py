"""A study of recognisers that adapt, from rows on disk to a report: tiny model, made-up sound, real files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="sound is read with soundfile")

from mnemos.core.errors import UsageError
from mnemos.measure.recognition import Errors, errors, units
from mnemos.measure.uncertainty import paired
from mnemos.report import render
from mnemos.sources.audio import read, rms, write
from mnemos.study.adaptations.results import Item, growth
from mnemos.study.adaptations.settings import Domain, resolved_adaptation
from mnemos.study.adaptations.speech import Speech
from mnemos.study.run import plan_lines, run
from tests.tiny_speech import sound, tiny_whisper_ctc

WORDS = ("ab", "cd", "ef gh", "a", "b c")


def counted(spoken: str, transcript: str) -> Errors:
    how = {"normaliser": "basic", "kind": "wer"}
    return errors(units(spoken, **how), units(transcript, **how))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows of two speakers, noise, and a study file."""
    folder = tmp_path_factory.mktemp("world")
    tiny_whisper_ctc(folder / "model")
    (folder / "wav").mkdir()
    for name, count, first in (("stream", 6, 0), ("old", 3, 50)):
        rows = []
        for at in range(count):
            write(sound(0.4, seed=first + at), folder / "wav" / f"{name}{at}.wav")
            row = {"id": f"{name}{at}", "audio": f"wav/{name}{at}.wav", "text": WORDS[at % 5], "speaker": f"s{at % 2}"}
            rows.append(json.dumps(row))
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    write(type(sound(0.1))(noise, 16000), folder / "noise.wav")
    return folder


def study(**more: Any) -> dict[str, Any]:
    speech = {
        "data": "stream.jsonl", "old": "old.jsonl", "utterances": 4,
        "domains": {
            "clean": {}, "quiet": {"noise": "noise.wav", "snr": 10}, "loud": {"noise": "noise.wav", "snr": 0},
            "white": {"gaussian": 0.01}, "loud too": {"noise": "noise.wav", "snr": 0},
        },
    }  # fmt: skip
    csuta = {"method": "csuta", "learning_rate": 1e-3}
    orders = {"all": ["clean", "quiet", "loud", "white"]}
    return {
        "model": "model",
        "name": "ears",
        "adapt": speech,
        "orders": orders,
        "arms": {"suta": {"steps": 2}, "on": csuta},
        **more,
    }


def test_from_rows_to_a_report(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    found = run(study(), out=tmp_path / "run", quiet=True)
    results = found.results
    assert [one["arm"] for one in results["arms"]] == ["source", "suta", "on"]
    rows = {(row["arm"], row["suite"]): row for row in results["comparisons"]}
    domains = {"wer:clean", "wer:quiet", "wer:loud", "wer:white"}
    assert {suite for _, suite in rows} == {"wer", "wer:0 dB", "old-wer", *domains}
    assert rows["on", "wer:0 dB"]["after"] == rows["on", "wer:loud"]["after"]
    assert all(row["delta"] == row["low"] == row["high"] == 0 for (arm, _), row in rows.items() if arm == "source")
    # Restored before each utterance, it knows the old domain as before.
    restored = rows["suta", "old-wer"]
    assert restored["delta"] == restored["low"] == restored["high"] == 0
    assert restored["verdict"] == "kept"
    assert rows["on", "old-wer"]["method"] != restored["method"]
    assert rows["on", "wer"]["items"] == 16
    arms = {one["arm"]: one for one in results["adaptation"]["arms"]}
    assert arms["on"]["cost"]["steps"] == 16
    assert [one["speaker"] for one in arms["on"]["speakers"]] == ["s0", "s1"]
    assert arms["on"]["orders"][0]["segments"] == [[0, "clean"], [4, "quiet"], [8, "loud"], [12, "white"]]
    assert {"wer", "old-wer"} <= set(results["contrasts"]["suites"])
    for kind in ("html", "md", "text"):
        text = render(results, kind)
        assert "real-time factor" in text or kind == "html"
    page = render(results, "html")
    assert "Adapting while listening" in page
    assert "3 ways of adapting, 1 sequence of utterances" in page
    assert "not recorded" not in page, "nothing is trained, so there are no rows to count"
    # The same again is read from the file, and gives the same numbers.
    again = run(study(), out=tmp_path / "run", quiet=True).results
    assert {**again, "created": ""} == {**results, "created": ""}


def test_the_rate_is_errors_over_words_and_the_interval_that_of_paired_utterances(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemos.stream.journal import Journal
    from mnemos.stream.store import Store

    monkeypatch.chdir(world)
    run(study(arms={"on": {"method": "csuta", "learning_rate": 1e-3}}), out=tmp_path, quiet=True)
    results = json.loads((tmp_path / "results.json").read_text())
    store = Store(tmp_path / "stream.db")
    rows = [json.loads(line) for line in (world / "stream.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = {row["id"]: row["text"] for row in rows}
    sides: dict[str, dict[str, Errors]] = {}
    for name, mark in store.rows("select name, fingerprint from streams"):
        steps = Journal(store, str(name), str(mark)).steps()
        arm = str(name).partition(",")[0]
        sides[arm] = {step.item: counted(texts[step.item.split("/")[2]], step.answer) for step in steps}
    before, after = sides["source"], sides["on"]
    words = [float(one.units) for one in before.values()]
    expected = paired(
        [one.total / one.units for one in before.values()],
        [[after[item].total / after[item].units for item in before]],
        weights=words, clusters=[item.split("/")[2] for item in before], bounded=False,
    )  # fmt: skip
    row = next(row for row in results["comparisons"] if (row["arm"], row["suite"]) == ("on", "wer"))
    assert (row["delta"], row["low"], row["high"]) == (expected.delta, expected.low, expected.high)
    store.close()
    total = sum(one.total for one in after.values()) / sum(one.units for one in after.values())
    assert row["after"] == pytest.approx(total)
    # Longer halves: what the later one errs more than the source, less what the earlier one does.
    half = {True: [0, 0], False: [0, 0]}
    for place, item in enumerate(before):
        half[place >= 8][0] += after[item].total - before[item].total
        half[place >= 8][1] += before[item].units
    rises = [one for one in results["contrasts"]["suites"]["rise-along"] if one[0] == 1]
    assert rises[0][2] == pytest.approx(half[True][0] / half[True][1] - half[False][0] / half[False][1])


def test_a_gain_grows_by_its_share_of_the_sources_errors() -> None:
    def items(*counts: int) -> list[Item]:
        domains = ("quiet", "loud") * (len(counts) // 2)
        return [
            Item(("a", 0, str(at)), domain, f"u{at // 2}", "", count, 4, at, len(counts))
            for at, (domain, count) in enumerate(zip(domains, counts, strict=True))
        ]

    # Of 4 errors in the quiet 3 are left, of 8 in the loud 4: a gain of a quarter, then of a half.
    arms = {"source": items(1, 3, 3, 5), "own": items(1, 1, 2, 3)}
    domains = {"quiet": Domain(noise="n", snr=10), "loud": Domain(noise="n", snr=0)}
    study = SimpleNamespace(adapt=SimpleNamespace(domains=domains))
    found = growth(cast(Any, SimpleNamespace(opened=SimpleNamespace(study=study), arms=arms)), "own")
    assert found == (0.25, None, None)  # two utterances are too few for an interval


def test_domains(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    speech = Speech(resolved_adaptation(study(), world).adapt)
    clean, loud = speech.clip("0.0/clean/stream1"), speech.clip("2.0/loud/stream1")
    assert np.array_equal(clean.samples, read(world / "wav" / "stream1.wav", rate=16000).samples)
    # Each at -25 dB before, at 0 dB of each other: both scales are known, and what is left over is the noise.
    level = 10 ** (-25 / 20)
    speaking = clean.samples * (level / rms(clean.samples))
    assert rms(loud.samples - speaking) == pytest.approx(level, rel=1e-3)
    assert np.array_equal(loud.samples, speech.clip("7.3/loud/stream1").samples)  # wherever it stands
    white = speech.clip("3.0/white/stream1").samples - clean.samples
    assert rms(white) == pytest.approx(0.01, rel=0.1)
    order = speech.order(["clean", "loud"], 0)
    assert len(order) == len(set(order)) == 8
    assert len({item.split("/")[2] for item in order[:6]}) == 6  # none twice before all were heard
    assert order == speech.order(["clean", "loud"], 0) != speech.order(["clean", "loud"], 1)


def test_what_a_study_would_do(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    lines = plan_lines(study(orders={"short": ["loud", "clean"]}))
    assert lines[0] == "speech  6 utterances, 3 of the old domain"
    assert "domain  loud: noise at 0 dB" in lines
    assert lines[-1] == "steps   24 utterances heard"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": {"dsuta3": None}}, "did you mean 'dsuta'"),
        ({"arms": {"suta": {"step": 1}}}, "did you mean 'steps'"),
        ({"arms": {"source": "suta"}}, "give yours another name"),
        ({"orders": {"a": ["lout"]}}, "did you mean 'loud'"),
        ({"orders": {"a": "loud"}}, "must be a list"),
        ({"arms": ["suta"]}, "must be a mapping"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"teach": {}}, "teach"),
    ],
)
def test_what_cannot_be_meant(
    changed: dict[str, Any], message: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    with pytest.raises(UsageError, match=message):
        resolved_adaptation(study(**changed), world)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({"noise": "noise.wav", "gaussian": 0.1}, "keep one"),
        ({"gaussian": 0.1, "snr": 3}, "there is no noise to lower"),
    ],
)
def test_noises_that_contradict_each_other_are_refused(domain: dict[str, Any], message: str, world: Path) -> None:
    made = study()
    made["adapt"]["domains"]["both"] = domain
    with pytest.raises(UsageError, match=message):
        resolved_adaptation(made, world)
