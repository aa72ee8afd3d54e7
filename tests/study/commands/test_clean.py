"""Step folders of earlier versions of a study: named, and removed only when nothing needs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mnemos
from mnemos.core.errors import RunError, UsageError
from mnemos.study.commands.clean import note_steps, remove, stale
from mnemos.study.lock import locked
from tests.study.worlds import make_study

TRAIN = {"learning_rate": 1e-3, "max_steps": 1}


def _command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from mnemos.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "runs", "clean", *map(str, words)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_a_changed_study_left_is_named_and_removed_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    mnemos.run(make_study(tmp_path, arms={}, train=TRAIN), out=run, quiet=True)
    old = {path.name for path in (run / "steps").iterdir()}
    assert stale(run) == []
    study = make_study(tmp_path, arms={}, train={**TRAIN, "learning_rate": 2e-3})
    mnemos.run(study, out=run)
    assert "2 step folders (" in capsys.readouterr().err
    found = stale(run)
    assert {one.path.name.split("-")[0] for one in found} == {"train", "measure"}
    assert {one.path.name for one in found} < old
    assert {one.title for one in found} == {"plain, seed 0: train", "plain, seed 0: measure"}
    assert found[0].size > found[1].size > 0

    listed = _command(run)
    assert listed.returncode == 0, listed.stderr
    assert all(one.path.name in listed.stdout for one in found)
    assert "add --yes" in listed.stdout
    assert all(one.path.is_dir() for one in found)
    (run / "steps" / "mine").mkdir()  # nothing of mnemos: not touched
    done = _command(run, "--yes")
    assert done.returncode == 0, done.stderr
    assert not any(one.path.exists() for one in found)
    assert (run / "steps" / "mine").is_dir()
    stamps = {path: path.stat().st_mtime_ns for path in run.glob("steps/*/done.json")}
    assert mnemos.run(study, out=run, quiet=True).comparisons
    assert {path: path.stat().st_mtime_ns for path in run.glob("steps/*/done.json")} == stamps


def test_what_results_or_links_name_is_never_stale(tmp_path: Path) -> None:
    key = "train-0123456789abcdef"
    for name in (key, "measure-0123456789abcdef", "weights-0123456789abcdef", "write-0123456789abcdef"):
        (tmp_path / "steps" / name).mkdir(parents=True)
        (tmp_path / "steps" / name / "done.json").write_text("{}")
    (tmp_path / "results.json").write_text(json.dumps({"arms": [{"runs": [{"model": f"steps/{key}/model"}]}]}))
    place = tmp_path / "arms" / "plain" / "seed-0"
    place.mkdir(parents=True)
    (place / "answers").symlink_to("../../../steps/measure-0123456789abcdef/answers")
    (tmp_path / "steps.json").write_text(json.dumps(["weights-0123456789abcdef"]))
    assert [one.path.name for one in stale(tmp_path)] == ["write-0123456789abcdef"]
    with locked(tmp_path), pytest.raises(RunError, match="is in use by process"):
        remove(tmp_path)
    assert (tmp_path / "steps" / "write-0123456789abcdef").is_dir()
    assert [one.path.name for one in remove(tmp_path)] == ["write-0123456789abcdef"]
    assert {path.name for path in (tmp_path / "steps").iterdir()} == {
        key,
        "measure-0123456789abcdef",
        "weights-0123456789abcdef",
    }


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "steps" / "train-0123456789abcdef").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="is not the directory of a run"):
            remove(folder)
    assert (tmp_path / "steps" / "train-0123456789abcdef").is_dir()
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / ".lock").exists()


def test_every_kind_of_step_is_found_once_nothing_needs_it(tmp_path: Path) -> None:
    """By the keys that steps give themselves, so that a new kind is not forgotten here."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(mnemos.__file__).parent.glob("study/*.py"))
    kinds = set(re.findall(r'return "(\w+)-" \+ fingerprint', text))
    assert {"train", "extend", "measure"} <= kinds
    for kind in kinds:
        (tmp_path / "steps" / f"{kind}-{16 * '0'}").mkdir(parents=True)
    note_steps(tmp_path, [])
    assert {one.path.name.split("-")[0] for one in stale(tmp_path)} == kinds
