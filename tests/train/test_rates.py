"""Which learning rates are called unusual for a model's size, and which are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mnemos.methods  # noqa: F401  fills the registry
from mnemos.core.method import apply
from mnemos.core.plan import Plan, PreferencePairs
from mnemos.core.settings import TrainSettings
from mnemos.study.run import plan_lines
from mnemos.train.rates import BANDS, band, size, starting_rate, unusual
from tests.study.worlds import make_study
from tests.train.making import pairs


def plan(rate: float, steps: list[dict[str, Any]], **train: Any) -> Plan:
    class Before:
        path, fingerprint = "M", "0"

    settings = TrainSettings(learning_rate=rate, **train)
    before: Any = Before()
    return apply(Plan(examples=pairs(), before=before, task="t", train=settings, seed=0), steps)


LORA = [{"lora": {"rank": 8}}]


def test_bands_cover_every_size_and_begin_inside() -> None:
    assert [one.most for one in BANDS] == sorted(one.most for one in BANDS)
    assert all(one.low < one.start < one.high for one in BANDS)
    assert band(1_300_000).start > band(494_000_000).start > band(70_000_000_000).start
    assert 1e-5 <= starting_rate(494_000_000) <= 2e-5
    assert starting_rate(494_000_000, lora=True) == pytest.approx(10 * starting_rate(494_000_000))


@pytest.mark.parametrize(
    ("rate", "steps", "parameters", "expected"),
    [
        (2e-5, [], 494e6, None),
        (5e-4, [], 494e6, "above what is usual for full fine-tuning of 494 M parameters: 3e-06 to 6e-05"),
        (1e-7, [], 494e6, "below"),
        (5e-4, [], 1.3e6, None),
        (2e-4, LORA, 494e6, None),
        (2e-5, LORA, 494e6, "below what is usual for a low-rank adapter on 494 M parameters: 3e-05 to 0.0006"),
        (5e-5, [{"lora": {"rank": 8, "learning_rate": 5e-3}}], 494e6, "learning_rate 0.005 is above"),
        (5e-2, [{"ia3": {}}], 494e6, None),
        (5e-4, [{"freeze": {"parts": ["embeddings"]}}], 494e6, "full fine-tuning"),
    ],
)
def test_a_rate_outside_of_the_band_is_said(
    rate: float, steps: list[dict[str, Any]], parameters: float, expected: str | None
) -> None:
    found = unusual(plan(rate, steps), int(parameters))
    assert (found is None) == (expected is None)
    assert expected is None or expected in str(found)


def test_no_table_is_asked_about_other_optimisers_and_low_rates_on_policy() -> None:
    assert unusual(plan(0.1, [], optim="sgd"), 494_000_000) is None
    low = plan(1e-7, [])
    assert unusual(low, 494_000_000) is not None
    assert unusual(replace(low, draw=PreferencePairs()), 494_000_000) is None


def test_sizes_in_words() -> None:
    assert [size(one) for one in (1_300_000, 494_032_768, 7_000_000_000)] == ["1.3 M", "494 M", "7 B"]


def test_a_dry_run_names_the_arm(tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={"lora": LORA}, arm_train={"lora": {"learning_rate": 5e-6}})
    notes = [line for line in plan_lines(study) if line.startswith("note")]
    assert len(notes) == 1
    assert notes[0].startswith("note    arm lora: learning_rate 5e-06 is below")
