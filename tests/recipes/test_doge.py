"""DogeRM on the patient: pairs, the choice of alpha, and a verdict that is computed."""

from __future__ import annotations

import json

import pytest

from mnemos.recipes import doge
from mnemos.recipes.worlds.tasks import commands


def run(seed, alpha, test, general=(70.0, 70.0)):
    accuracy = {
        "validation": {"0": 50.0, "0.5": 60.0},
        "test": {"0": test[0], "0.5": test[1]},
        "general": {"0": general[0], "0.5": general[1]},
    }
    return {"seed": seed, "alpha": alpha, "accuracy": accuracy, "pairs": {}}


def test_general_pairs_hold_no_glossa_and_prefer_the_right_answer():
    words = {word for task in commands("test") for word in task.answer.split()}
    pairs = doge.general_pairs(0)
    assert len(pairs) > doge.GENERAL_PAIRS + doge.TEST_PAIRS
    assert all(pair.turns[-1] != pair.rejected[-1] for pair in pairs)
    assert not words & {word for pair in pairs for turn in (*pair.turns, *pair.rejected) for word in turn.text.split()}


def test_domain_pairs_of_validation_and_test_share_no_command():
    validation, test = ({pair.id for pair in doge.domain_pairs(which, 0)} for which in ("dev", "test"))
    assert len(test) == doge.TEST_PAIRS
    assert not validation & test


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((10.0, 11.0, 12.0), "HOLDS"),
        ((-10.0, -11.0, -12.0), "DOES NOT HOLD"),
        ((0.1, 0.0, -0.1), "DOES NOT HOLD"),
        ((30.0, -20.0, 5.0), "CANNOT TELL"),
    ],
)
def test_the_verdict_follows_from_the_interval_over_seeds(gains, verdict):
    runs = [run(seed, 0.5, (50.0, 50.0 + gain)) for seed, gain in enumerate(gains)]
    assert doge.summary(runs)["verdict"] == verdict


def test_one_seed_gives_no_verdict():
    assert doge.summary([run(0, 0.5, (50.0, 90.0))])["verdict"] == "CANNOT TELL"


@pytest.mark.slow
def test_a_seed_runs_and_is_not_run_again(tmp_path, monkeypatch, capsys):
    for name, value in {"DOMAIN_ROWS": 40, "GENERAL_PAIRS": 24, "TEST_PAIRS": 10, "ALPHAS": (0.0, 0.5)}.items():
        monkeypatch.setattr(doge, name, value)
    arguments = ["--out", str(tmp_path), "--seeds", "0", "1"]
    assert doge.main(arguments) == 0
    first = json.loads((tmp_path / "results.json").read_text())
    assert [one["alpha"] in (0.0, 0.5) for one in first["runs"]] == [True, True]
    assert "ranks the domain's pairs better" in capsys.readouterr().out
    monkeypatch.setattr(doge, "run_seed", lambda *_: pytest.fail("was run again"))
    assert doge.main(arguments) == 0
    assert json.loads((tmp_path / "results.json").read_text()) == first
