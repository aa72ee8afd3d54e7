"""Sweeps: what is varied, what is refused, what is trained, and what the results hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.report.advice import recommend
from mnemos.study.commands.sweep import axis, sweep_lines, swept_study
from tests.study.worlds import chat, make_study, write_jsonl

ARMS: dict[str, Any] = {
    "replay": [{"replay": {"data": "old.jsonl", "share_of_final": 0.25}}],
    "lora": [{"lora": {"rank": 2}}, {"kl_to_before": {}}],
    "lora-2": [{"lora": {"rank": 4}}],
    "half": [{"weights": {"expression": "rho*after + (1 - rho)*before"}}],
}


def study(folder: Path, **changes: Any) -> Path:
    return make_study(folder, **{"arms": ARMS, **changes})


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("replay.share_of_final=0,0.01,0.3", "replay.share_of_final", (0, 0.01, 0.3)),
        ("train.learning_rate=1e-4, 5e-4", "train.learning_rate", (1e-4, 5e-4)),
        ("lora.targets=[[q_proj], all-linear]", "lora.targets", (["q_proj"], "all-linear")),
        ("weights.expression=0.3*after + 0.7*before,after", "weights.expression", ("0.3*after + 0.7*before", "after")),
    ],
)
def test_an_axis_reads_its_values_as_yaml(text: str, key: str, values: tuple[Any, ...]) -> None:
    found = axis(text)
    assert (found.key, found.values) == (key, values)


@pytest.mark.parametrize("text", ["replay", "replay.share_of_final", "replay=1", "replay.share_of_final=", "a.b=1,1"])
def test_a_malformed_axis_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--over"):
        axis(text)


@pytest.mark.parametrize(
    ("over", "arm", "message"),
    [
        (["repaly.share_of_final=0.1"], None, "did you mean 'replay'?"),
        (["ia3.parts=[[keys]]"], None, "no arm of this study uses; they use kl_to_before, lora, replay, weights"),
        (["replay.share_of_finale=0.1"], None, "did you mean 'share_of_final'?"),
        (["replay.share_of_final=1.5"], None, "1.5"),
        (["train.learning_rat=1"], None, "did you mean 'learning_rate'?"),
        (["train.learning_rate=-1"], None, "learning_rate"),
        (["lora.rank=2,4"], None, "several arms (lora, lora-2) use"),
        (["lora.rank=2,4"], "replay", "does not use lora; it uses replay"),
        (["lora.rank=2,4"], "lroa", "did you mean 'lora'?"),
        (["replay.share_of_final=0.1", "lora.rank=2"], None, "no single arm uses"),
        (["weights.roh=0.5"], None, "did you mean 'rho'?"),
        (["lora.rank=2", "lora.rank=4"], "lora", "names a key twice"),
        ([], None, "nothing to sweep"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_words(
    tmp_path: Path, over: list[str], arm: str | None, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        swept_study(study(tmp_path), over, arm=arm)
    assert message in str(caught.value)


def test_a_grid_has_one_arm_a_combination_and_plain(tmp_path: Path) -> None:
    over = ["lora.rank=2,4", "kl_to_before.coefficient=0.1,1", "train.learning_rate=1e-3"]
    made, folder, swept, base = swept_study(study(tmp_path), over)
    assert (folder, base, len(swept)) == (tmp_path, "lora", 4)
    assert list(made.arms) == ["plain", *(one.arm for one in swept)]
    assert swept[0].arm == "lora.rank=2,kl_to_before.coefficient=0.1,train.learning_rate=0.001"
    steps = made.arms[swept[3].arm]
    assert steps is not None
    assert steps[0]["lora"]["rank"] == 4  # type: ignore[index]
    assert steps[1]["kl_to_before"]["coefficient"] == 1  # type: ignore[index]
    assert made.train_of(swept[0].arm).learning_rate == 1e-3
    assert made.train_of("plain") == made.train


@pytest.mark.parametrize("key", ["arm_vocabulary", "arm_data"])
@pytest.mark.parametrize("base", ["plain", "wide"])
def test_what_an_arm_has_of_its_own_goes_with_it(tmp_path: Path, key: str, base: str) -> None:
    (tmp_path / "text.txt").write_text("x\n")
    write_jsonl(tmp_path / "other.jsonl", [chat(0, "a", "b")])
    own: dict[str, Any] = (
        {"data": "text.txt", "scripts": ["Han"]} if key == "arm_vocabulary" else {"new": "other.jsonl"}
    )
    path = study(tmp_path, arms={"wide": []}, **{key: {base: own}})
    found, *_ = swept_study(path, ["train.learning_rate=0.001,0.002"], arm=base)
    swept = {"train.learning_rate=0.001", "train.learning_rate=0.002"}
    assert set(getattr(found, key)) == swept | ({"plain"} if base == "plain" else set())
    # Of another arm: plain keeps its own, and no other arm is there.
    other = "plain" if base == "wide" else "wide"
    found, *_ = swept_study(path, ["train.learning_rate=0.001,0.002"], arm=other)
    assert set(getattr(found, key)) == ({"plain"} if base == "plain" else set())
    with pytest.raises(UsageError, match="leaves wide out"):
        swept_study(path, ["train.learning_rate=0.1,0.2"], arm="plain", overrides={f"{key}.wide": own})


def test_a_name_in_an_expression_is_a_setting(tmp_path: Path) -> None:
    made, _, swept, _ = swept_study(study(tmp_path), ["weights.rho=0.25,-0.5"])
    text = [made.arms[one.arm][0]["weights"]["expression"] for one in swept]  # type: ignore[index]
    assert text == ["0.25*after + (1 - 0.25)*before", "(-0.5)*after + (1 - (-0.5))*before"]
    assert [one.arm for one in swept] == ["weights.rho=0.25", "weights.rho=-0.5"]


def test_expressions_make_names_that_folders_can_have(tmp_path: Path) -> None:
    over = ["weights.expression=0.3*after + 0.7*before,0.3*before + 0.7*after"]
    made, _, swept, _ = swept_study(study(tmp_path), over)
    assert swept[0].arm == "weights.expression=0.3xafter+0.7xbefore"
    assert len(made.arms) == 3


def test_dry_run_loads_nothing_and_shows_the_values(tmp_path: Path) -> None:
    text = "\n".join(sweep_lines(study(tmp_path), ["replay.share_of_final=0,0.5"]))
    assert "arm     replay.share_of_final=0.5, seed 0" in text
    assert "share_of_final=0.0" in text
    assert not (tmp_path / "runs").exists()


def test_a_sweep_shares_what_it_can_and_finds_where_to_stand(tmp_path: Path) -> None:
    suites = {"new": ["new.yaml"], "old": ["old.yaml"]}
    file = study(tmp_path, suites=suites, health=False)
    record = mnemos.sweep(file, "replay.share_of_final=0,0.5", out=tmp_path / "run", quiet=True)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["study"] == "study-sweep"
    section = results["sweep"]
    assert section["over"] == [{"key": "replay.share_of_final", "values": [0, 0.5]}]
    assert [(one["values"]["replay.share_of_final"], one["off"]) for one in section["arms"]] == [
        (0, True),
        (0.5, False),
    ]
    assert [point["arm"] for point in section["frontier"]["points"]] == [one["arm"] for one in section["arms"]]
    assert section["frontier"]["old"] == ["old"]
    assert [entry["suite"] for entry in section["frontier"]["left_out"]] == ["english"]
    trainings = [path for path in (tmp_path / "run" / "steps").iterdir() if path.name.startswith("train-")]
    assert len(trainings) == 2, "the value that turns replay off must be the plain training"
    advice = recommend(results)
    assert set(advice.order) == {one["arm"] for one in section["arms"]}
    assert "Sweep of replay.share_of_final" in record.report("text")
    assert 'id="advice"' in (tmp_path / "run" / "report.html").read_text()
    settings = next(arm for arm in results["arms"] if arm["arm"].endswith("0.5"))["history"][-1]["settings"]
    assert settings["data"] == "old.jsonl"
