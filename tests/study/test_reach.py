"""A setting that reaches no plan is refused, with the name of what stands before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.study.commands.sweep import sweep_lines
from mnemos.study.config import load_study, parse_override
from mnemos.study.reach import refuse_unreached
from mnemos.study.run import plan_lines
from tests.study.worlds import make_study

ARMS: dict[str, Any] = {
    "lora": [{"lora": {"rank": 2, "learning_rate": 1e-3}}],
    "bare": [{"lora": {"rank": 2}}],
    "kl": [{"kl_to_before": {"coefficient": 0.0}}],
    "drawn": [{"grpo": {"reward": {"verifier": "exact"}, "num_generations": 2, "max_new_tokens": 4}}],
}
TRAIN = {"learning_rate": 5e-4, "num_train_epochs": 1}


def study(folder: Path, **changes: Any) -> Path:
    return make_study(folder, **{"arms": ARMS, "train": TRAIN, **changes})


IDLE: list[tuple[dict[str, Any], list[str], str | None, str]] = [
    ({}, ["train.learning_rate=1e-5,1e-2"], "lora", "lora.learning_rate = 0.001 of arm lora stands before it"),
    ({}, ["train.learning_rate=1e-5,1e-2"], "lora", "stands before it"),
    ({}, ["train.learning_rate=1e-2"], "lora", "lora.learning_rate = 0.001"),
    ({}, ["train.learning_rate=5e-4"], "lora", "lora.learning_rate = 0.001"),
    ({}, ["lora.rank=2,4", "train.learning_rate=1e-5,1e-2"], "lora", "--over train.learning_rate: reaches no plan"),
    ({"train": {**TRAIN, "max_steps": 4}}, ["train.num_train_epochs=1,2"], None, "train.max_steps = 4"),
    ({"arm_train": {"bare": {"max_steps": 4}}}, ["train.num_train_epochs=1,2"], "bare", ".max_steps = 4"),
    ({"train": {**TRAIN, "lr_scheduler_type": "constant"}}, ["train.warmup_ratio=0,0.1"], None, "lr_scheduler_type"),
    ({"train": {**TRAIN, "optim": "sgd"}}, ["train.adam_beta1=0.8,0.9"], None, "train.optim = 'sgd'"),
    ({}, ["train.save_steps=1,2"], None, "whatever its value, what arm"),
    ({}, ["train.generation_backend=local,vllm"], "bare", "whatever its value, what arm"),
    ({}, ["kl_to_before.direction=forward,reverse"], "kl", "kl_to_before.coefficient = 0.0"),
]


@pytest.mark.parametrize(("changes", "over", "arm", "message"), IDLE)
def test_a_sweep_that_sweeps_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], over: list[str], arm: str | None, message: str
) -> None:
    file = study(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        sweep_lines(file, over, arm=arm)
    assert message in str(caught.value)
    assert "--over" in str(caught.value)
    with pytest.raises(UsageError, match="reaches no plan"):
        mnemos.sweep(file, over, arm=arm, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "steps").exists()


@pytest.mark.parametrize(
    ("over", "arm"),
    [
        (["train.learning_rate=1e-5,1e-2"], "bare"),
        (["train.learning_rate=5e-4"], "bare"),
        (["lora.learning_rate=1e-5,1e-2"], "lora"),
        (["lora.learning_rate=0.001"], "lora"),
        (["lora.rank=2"], "lora"),
        (["lora.targets=[[q_proj]]"], "lora"),
        (["train.data_seed=0,1"], None),
        (["kl_to_before.coefficient=0,1", "kl_to_before.direction=forward,reverse"], "kl"),
        (["train.generation_backend=local,http://127.0.0.1:9/v1"], "drawn"),
    ],
)
def test_a_sweep_that_sweeps_something_is_not(tmp_path: Path, over: list[str], arm: str | None) -> None:
    assert any(line.startswith("arm ") for line in sweep_lines(study(tmp_path), over, arm=arm))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm_train": {"lora": {"learning_rate": 1e-2}}}, "arm_train.lora.learning_rate = 0.01: reaches no plan"),
        ({"arm_train": {"lora": {"learning_rate": 1e-2}}}, "lora.learning_rate = 0.001 of arm lora stands before it"),
        ({"arm_train": {"bare": {"num_train_epochs": 2, "max_steps": 4}}}, "arm_train.bare.max_steps = 4 stands"),
        ({"arm_train": {"bare": {"fsdp_config": {"x": 1}}}}, "arm_train.bare.fsdp_config"),
    ],
)
def test_a_training_setting_of_an_arm_that_does_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_lines(study(tmp_path, **changes))
    assert message in str(caught.value)


def test_those_that_do_something(tmp_path: Path) -> None:
    own = {
        "bare": {"learning_rate": 5e-4, "max_steps": 4, "save_steps": 1, "report_to": []},
        "lora": {"num_train_epochs": 2, "optim": "sgd"},
        "plain": {"learning_rate": 1e-4},
    }
    loaded, _ = load_study(study(tmp_path, arm_train=own))
    assert refuse_unreached(loaded, tmp_path, {}) == []


@pytest.mark.parametrize(
    ("changes", "override", "message"),
    [
        (
            {"arms": {"lora": ARMS["lora"]}, "arm_train": {"plain": {"learning_rate": 1e-4}}},
            "train.learning_rate=1e-2",
            "arm_train.plain.learning_rate = 0.0001; lora.learning_rate = 0.001 of arm lora stand before it",
        ),
        ({}, "arms.kl.0.kl_to_before.direction=reverse", "kl_to_before.coefficient = 0.0 of arm kl stands before it"),
        ({}, "arm_train.lora.learning_rate=0.1", "lora.learning_rate = 0.001 of arm lora stands before it"),
        ({"train": {**TRAIN, "max_steps": 2}}, "train.num_train_epochs=7", "train.max_steps = 2 stands before it"),
        ({"train": {**TRAIN, "max_steps": 2}}, "train={max_steps: 3, num_train_epochs: 7}", "train.max_steps = 3"),
    ],
)
def test_an_override_that_does_nothing(tmp_path: Path, changes: dict[str, Any], override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_lines(study(tmp_path, **changes), dict([parse_override(override)]))
    assert message in str(caught.value)


def test_an_override_that_reaches_some_arms_says_which_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study(tmp_path, arms={"lora": ARMS["lora"]})
    text = "note    --set train.learning_rate does not reach arm lora: lora.learning_rate = 0.001 of arm lora stands"
    assert any(line.startswith(text) for line in plan_lines(file, {"train.learning_rate": 1e-2}))
    assert not any(line.startswith("note") for line in plan_lines(file, {"train.max_steps": 1, "train.save_steps": 9}))


def test_an_override_of_an_arm_that_the_sweep_leaves_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this sweep varies lora and leaves bare out"):
        sweep_lines(study(tmp_path), ["lora.rank=2,4"], arm="lora", overrides={"arms.bare.0.lora.rank": 8})


def test_plain_keeps_its_own_training_in_a_sweep(tmp_path: Path) -> None:
    from mnemos.study.commands.sweep import swept_study

    file = study(tmp_path, arm_train={"plain": {"max_steps": 3}})
    made, _, swept, _ = swept_study(file, ["lora.rank=2,4"], arm="bare")
    assert made.train_of("plain").max_steps == 3
    assert made.train_of(swept[0].arm).max_steps == -1
