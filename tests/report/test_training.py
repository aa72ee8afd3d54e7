"""The report says how each arm was trained."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.report import render
from mnemos.report.reading import read
from tests.report.synthetic import study

COMMON: dict[str, Any] = {
    "learning_rate": 5e-4,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "max_length": 1024,
    "truncate": False,
    "packing": True,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.03,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "bf16": True,
    "fsdp": "",
    "optim": "adamw_torch",
    "long_documents": "as_rows",
    "data_seed": 7,
}


def trained(**own: dict[str, Any]) -> dict[str, Any]:
    results = study()
    for arm in results["arms"]:
        arm["train"] = {**COMMON, **own.get(arm["arm"], {})}
    return results


def test_settings_of_all_arms_stand_once() -> None:
    record = dict(read(trained()).sections["training"])
    assert record == {
        "learning rate": "0.0005",
        "length": "3 epochs",
        "batch": "8 x 4 = 32 rows a step, over all processes",
        "optimiser": "adamw_torch, betas 0.9 and 0.999, epsilon 1e-08, weight decay 0.1, gradients clipped at norm 1",
        "schedule": "cosine, warm-up over 0.03 of the steps",
        "precision": "bfloat16, with float32 master weights",
        "longest example": "1024 tokens",
        "beside these": "packing true, data_seed 7",
    }


def test_arms_that_differ_are_named() -> None:
    results = trained()
    names = [arm["arm"] for arm in results["arms"]]
    results["arms"][0]["train"] |= {"learning_rate": 1e-2, "max_steps": 7, "bf16": False}
    del results["arms"][0]["train"]["num_train_epochs"]
    record = dict(read(results).sections["training"])
    assert record["learning rate"].startswith(f"0.01 ({names[0]}); 0.0005 ({names[1]}")
    assert record["length"].startswith(f"7 steps ({names[0]}); 3 epochs (")
    assert record["precision"].startswith(f"float32 ({names[0]}); bfloat16")


def test_what_rounding_took_is_said() -> None:
    results = trained()
    for arm in results["arms"]:
        arm["train"] |= {"bf16": False, "saved_dtype": "bfloat16", "rounding": 0.3456}
    words = "float32; saved in bfloat16, which took 35 % of what training changed"
    assert dict(read(results).sections["training"])["precision"] == words


@pytest.mark.parametrize("format", ["text", "md", "html"])
def test_every_report_has_them(format: str) -> None:
    text = render(trained(), format)
    assert "How it was trained" in text or format == "text"
    for words in ("learning rate", "0.0005", "32 rows", "adamw", "cosine"):
        assert words in text


@pytest.mark.parametrize(
    "train", [None, [], "x", {}, {"learning_rate": "\x1b[2J"}, {"per_device_train_batch_size": "8"}]
)
def test_odd_and_older_results_have_a_report(train: Any) -> None:
    results = study()
    for arm in results["arms"]:
        arm["train"] = train
    for format in ("text", "md", "html"):
        assert "\x1b" not in render(results, format)
    assert "training" not in read(study()).sections
