"""The command line as a person uses it: exit codes, words, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study.worlds import make_study
from tests.tiny import save_tiny

ROOT = Path(__file__).parents[2]


def mnemos(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "mnemos.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


HEAVY = {"torch", "transformers", "datasets", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], HEAVY | {"pydantic"}),  # a tenth of a second, which the list of verbs does not need
        (["--version"], HEAVY),
        (["run", "--help"], HEAVY),
        (["data", "show", "--help"], HEAVY),
    ],
)
def test_help_loads_no_heavy_package(words: list[str], heavy: set[str]) -> None:
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['mnemos', *{words!r}]\n"
        "try:\n    runpy.run_module('mnemos.cli', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = {heavy!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "absent.yaml"], 2, "does not exist"),
        (["run", "mnemos:demo.yaml", "--dry-run", "--set", "trian.x=1"], 2, "train"),
        (["run", "mnemos:demo.yaml", "--dry-run", "--nonsense"], 2, "not an option"),
        (["run", "mnemos:demo.yaml", "--dry-run", "--train.learning_rate"], 2, "has no value"),
        (["report", "absent"], 2, "does not exist"),
        (["methods", "lorra"], 2, "did you mean 'lora'?"),
        (["compare", "./absent", "./absent", "--suites", "refusals"], 2, "no such directory"),
        (["gate", "mnemos:patients/chat", "mnemos:patients/chat", "--suites", "refusals", "--max-loss", "-1"], 2, "-1"),
        (["compare", "mnemos:patients/chat", "mnemos:patients/chat", "--suites", "refusal"], 2, "refusals"),
        (["sweep", "mnemos:demo.yaml", "--over", "repaly.share_of_final=0.1"], 2, "did you mean 'replay'?"),
        (["sweep", "mnemos:demo.yaml", "--over", "replay"], 2, "METHOD.SETTING=VALUE"),
        (["recommend", "absent"], 2, "does not exist"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_mistakes_have_codes_and_words_and_no_traceback(words: list[str], code: int, message: str) -> None:
    done = mnemos(*words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = mnemos("run", "absent.yaml", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_overrides_as_options(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    done = mnemos("run", study, "--dry-run", "--arms.replay.0.replay.share_of_final", "0.5", "--seeds.0=7")
    assert done.returncode == 0, done.stderr
    assert "share_of_final=0.5" in done.stdout
    assert "seed 7" in done.stdout


def test_a_sweep_is_printed_before_it_is_run(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    done = mnemos("sweep", study, "--over", "replay.share_of_final=0,0.5", "--set", "seeds=[7]", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "arm     replay.share_of_final=0.5, seed 7" in done.stdout


def test_methods_as_json_has_what_a_catalogue_needs() -> None:
    rows = json.loads(mnemos("methods", "--json").stdout)
    assert {"replay", "lora", "kl_to_before", "weights"} <= {row["name"] for row in rows}
    assert all(row["changes"] and row["paper"] and row["summary"] for row in rows)


def test_a_setting_that_must_be_given_has_no_default() -> None:
    text = mnemos("methods", "rho1").stdout
    assert "--reference_model (string, required): " in text
    assert "--kept_share (number > 0, <= 1, default 0.6): " in text
    assert "--soft_label (string or null, default None): " in mnemos("methods", "dpo").stdout


def test_a_study_a_report_and_the_same_model_twice(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    done = mnemos("run", study, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "replay" in done.stdout
    assert "report  run/report.html" in done.stdout
    results = json.loads(mnemos("report", tmp_path / "run", "--format", "json").stdout)
    assert results == json.loads((tmp_path / "run" / "results.json").read_text())
    for form in ("md", "html", "text"):
        assert "plain" in mnemos("report", tmp_path / "run", "--format", form).stdout
    advice = json.loads(mnemos("recommend", tmp_path / "run", "--format", "json").stdout)
    assert set(advice["order"]) == {"plain", "replay"}
    assert advice["why"] in mnemos("recommend", tmp_path / "run" / "results.json").stdout.replace("\n", " ")

    model = tmp_path / "model"
    suites = ["--suites", tmp_path / "new.yaml", "--suites", tmp_path / "old.yaml"]
    same = json.loads(mnemos("compare", model, model, *suites, "--format", "json").stdout)
    assert len(same["comparisons"]) == 6
    assert all(row["delta"] in (0, None) and row["low"] in (0, None) for row in same["comparisons"])
    assert sum(row["delta"] == 0 for row in same["comparisons"]) >= 4
    assert mnemos("gate", model, model, *suites, "--no-health").returncode == 0


def test_a_gate_tells_a_proven_loss_from_too_few_items(tmp_path: Path) -> None:
    make_study(tmp_path)
    save_tiny(tmp_path / "other", seed=1)
    done = mnemos(
        "gate",
        tmp_path / "model",
        tmp_path / "other",
        "--suites",
        tmp_path / "old.yaml",
        "--card",
        tmp_path / "card.md",
    )
    assert done.returncode in (3, 4), done.stderr
    assert (tmp_path / "card.md").read_text().strip() in done.stdout


def test_init_writes_a_study_that_runs(tmp_path: Path) -> None:
    make_study(tmp_path)
    done = mnemos("init", "new.jsonl", "--model", "model", "--out", "mine.yaml", "--no-probe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert mnemos("init", "new.jsonl", "--model", "model", "--out", "mine.yaml", cwd=tmp_path).returncode == 2
    plain = ["--set", "arms={}", "--set", "seeds=[0]", "--set", "train.num_train_epochs=1"]
    ran = mnemos("run", "mine.yaml", *plain, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    train = (tmp_path / "new.train.jsonl").read_text().splitlines()
    items = (tmp_path / "suites" / "new.jsonl").read_text().splitlines()
    assert len(train) + len(items) == 24
    assert not {json.loads(line)["id"] for line in train} & {json.loads(line)["id"] for line in items}


def test_data_show_marks_what_is_learned(tmp_path: Path) -> None:
    make_study(tmp_path)
    done = mnemos("data", "show", "new.jsonl", "--model", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "it is" in done.stdout


@pytest.mark.parametrize("verb", ["run", "sweep", "reproduce"])
def test_dotted_keys_override_in_every_verb_that_has_a_study(verb: str) -> None:
    words = {
        "run": ["mnemos:demo.yaml"],
        "sweep": ["mnemos:demo.yaml", "--arm", "replay", "--over", "replay.share_of_final=0,0.5"],
        "reproduce": ["instruct"],
    }[verb]
    done = mnemos(verb, *words, "--dry-run", "--train.learning_rate", "0")
    assert done.returncode == 2
    assert "train.learning_rate = 0" in done.stderr
    assert mnemos(verb, *words, "--dry-run", "--lerning_rate", "0").returncode == 2
