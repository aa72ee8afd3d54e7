"""Sequences in which a model rehearses what it wrote itself, from the study file to the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import DataError
from mnemos.core.files import read_jsonl
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.models.load import Checkpoint
from mnemos.sources.mix import Rows
from mnemos.study.run import plan_lines
from mnemos.train.likelihood import train
from tests.study.worlds import chat, make_study, write_jsonl

LONG = {
    "learning_rate": 1e-2,
    "num_train_epochs": 30,
    "per_device_train_batch_size": 8,
    "max_length": 128,
    "logging_steps": 50,
    "lr_scheduler_type": "constant",
}


def sequence(folder: Path, arms: dict[str, Any], **changes: Any) -> Path:
    """Two tasks, the second one short, and no arms but `arms` and plain."""
    write_jsonl(folder / "two.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(8)])
    write_jsonl(folder / "one.jsonl", [chat(n, f"Say {n}.", f"{n} it is") for n in range(16)])
    teach = [{"data": "one.jsonl", "suites": ["new.yaml"]}, {"data": "two.jsonl", "suites": ["old.yaml"]}]
    return make_study(
        folder,
        **{"teach": teach, "arms": arms, "suites": {}, "health": False, "joint": False, "train": LONG, **changes},
    )


def test_a_later_task_with_too_few_old_rows_is_refused_before_the_first_training(tmp_path: Path) -> None:
    arms = {"replay": [{"replay": {"share_of_final": 0.8}}]}
    study = sequence(tmp_path, arms)
    for look in (plan_lines, lambda path: mnemos.run(path, out=tmp_path / "run", quiet=True)):
        with pytest.raises(DataError, match=r"32 old rows are needed.*one.* has 16(.|\n)*at most 0\.667 is possible"):
            look(study)
    assert not list(tmp_path.glob("run/steps/*"))
    arms["replay"][0]["replay"]["repeat"] = True
    assert plan_lines(sequence(tmp_path, arms))


def kept_rows(run: Path) -> list[dict[str, Any]]:
    """The rows that the steps of this run wrote."""
    return [row for path in run.glob("steps/write-*/rows.jsonl") for row in read_jsonl(path)]


def test_lamol_writes_rows_of_the_first_task_and_rehearses_them(tmp_path: Path) -> None:
    settings = {"per_new": 0.5, "oversample": 8, "max_new_tokens": 40, "lm_weight": 1.0}
    study = sequence(tmp_path, {"lamol": [{"lamol": settings}]})
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    run = next(arm for arm in record.results["arms"] if arm["arm"] == "lamol")["runs"][0]
    (written,) = run["written"]
    assert written["rows"] == written["counts"]["kept"] == 4
    counts = run["counts"]
    # Of both stages together: 16 rows of the first task and 8 of the second.
    assert (counts["origin new"], counts["origin replay"]) == (24, 4)
    assert (counts["origin new, as text"], counts["origin replay, as text"]) == (24, 4)
    rows = kept_rows(tmp_path / "run")
    assert len(rows) == 4
    text = [(row["messages"][0]["content"], row["messages"][-1]["content"]) for row in rows]
    assert sum(question.startswith("Say") and answer.endswith("is") for question, answer in text) >= 2, text
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "steps").glob("*/done.json")}
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def author(folder: Path) -> None:
    """Teach the study's model to go on with demonstrations, as a base model would."""
    turns = [f"Input: Say {n}.\nOutput: {n} it is" for n in range(24)]
    texts = ["\n\n".join(turns[(i * step + 5 * step) % 24] for step in (1, 5, 7)) for i in range(24)]
    rows = Rows(tuple(Example(str(i), "text", (Turn("text", text),)) for i, text in enumerate(texts)))
    plan = Plan(rows, Checkpoint(str(folder / "model")), "author", 0, TrainSettings(**LONG))
    train(plan, folder / "author", quiet=True)


def test_ssr_makes_rows_up_from_a_few_and_rehearses_them(tmp_path: Path) -> None:
    settings = {"per_new": 0.25, "demonstrations": 6, "max_new_tokens": 48, "min_usable": 0.1, "top_p": 0.95}
    study = sequence(tmp_path, {"ssr": [{"ssr": settings}]})
    author(tmp_path)
    model = str(tmp_path / "author" / "model")
    record = mnemos.run(study, out=tmp_path / "run", quiet=True, overrides={"model": model})
    run = next(arm for arm in record.results["arms"] if arm["arm"] == "ssr")["runs"][0]
    (written,) = run["written"]
    assert 1 <= written["rows"] <= 6
    assert run["counts"]["origin replay"] == written["rows"]
    rows = kept_rows(tmp_path / "run")
    assert all(row["messages"][0]["content"].startswith("Say") for row in rows), rows
    assert all(row["messages"][1]["content"].endswith("it is") for row in rows), "answered by the model of the task"
