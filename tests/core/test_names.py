"""One rule for what becomes a file or folder: nothing leaves its place, nothing is written over something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.names import MOST_BYTES, check_name, data_name, named_after, refuse_clash, trouble
from mnemos.measure.suite import load_suites
from mnemos.study.commands.sweep import swept_study
from mnemos.study.config import load_study
from mnemos.study.run import plan_lines
from tests.study.worlds import make_study

GOOD = ["plain", "lora-16", "a.b", "bits-per-byte:english", "x=0.1,y=2", "中文", "é", "two words", "100 %", ".x", "_"]
BAD = {
    "": "empty",
    "  ": "empty",
    ".": "another folder",
    "..": "another folder",
    "a/b": "/ separates folders",
    "x/../../../PWNED": "/ separates folders",
    "/etc/passwd": "/ separates folders",
    "a\\b": "\\ separates folders",
    "a\0b": "cannot be printed",
    "a\nb": "cannot be printed",
    "\x1b[2Ja": "cannot be printed",
    "a\u202eb": "cannot be printed",
    "a\u200bb": "cannot be printed",
    "\ud83d": "cannot be printed",
    "-rf": "hyphen",
    " a": "space",
    "a ": "space",
    "n" * 181: "181 bytes",
    "中" * 61: "183 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_names_a_file(name: str, tmp_path: Path) -> None:
    assert check_name(name, "here") == name
    (tmp_path / name).write_text("x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", BAD)
def test_what_names_none(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name, "arms: name")
    assert BAD[name] in str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("where", ["name", "task", "arm", "suite"])
def test_it_is_refused_wherever_it_stands(tmp_path: Path, name: str, where: str) -> None:
    if where == "suite":
        with pytest.raises(UsageError):
            load_suites([{"name": name, "kind": "bits_per_byte", "items": [{"text": "x"}]}], tmp_path)
        return
    study: dict[str, Any] = {"model": "some/model", "teach": {"data": "some/data"}, "suites": {"old": ["refusals"]}}
    if where == "name":
        study["name"] = name
    elif where == "task":
        study["teach"]["name"] = name
    else:
        study["arms"] = {name: []}
    with pytest.raises(UsageError):
        load_study(study)


@pytest.mark.parametrize(
    "names", [["a", "a"], ["lora", "LoRA"], ["kl:new", "kl-new"], ["é", "e\u0301"], ["straße", "STRASSE"]]
)
def test_two_names_of_one_file_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{names[0]}.*(twice|some disks)"):
        refuse_clash(names, "arms")
    refuse_clash([names[0], "b"], "arms")
    suites = [{"name": name, "kind": "bits_per_byte", "items": [{"text": "x"}]} for name in names]
    with pytest.raises(UsageError, match="suite"):
        load_suites(suites, tmp_path)


def test_arms_and_tasks_of_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="arms: lora, LORA"):
        load_study(make_study(tmp_path, arms={"lora": [], "LORA": []}))
    with pytest.raises(UsageError, match="arms: plain, Plain"):
        load_study(make_study(tmp_path, arms={"Plain": []}))
    tasks = [{"data": "new.jsonl", "name": name, "suites": ["new.yaml"]} for name in ("one", "One")]
    with pytest.raises(UsageError, match="tasks: one, One"):
        load_study(make_study(tmp_path, teach=tasks, suites={}))


def test_a_task_does_not_leave_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    task = {"data": "new.jsonl", "name": "x/../../../../PWNED"}
    study = make_study(here, teach=task)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"teach.name = 'x/\.\./.*PWNED': names a file or folder"):
        plan_lines(study)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_give_names_whatever_they_are_called(tmp_path: Path) -> None:
    assert data_name("rows.jsonl.gz", "rows") == "rows"
    assert data_name("owner/rows", "rows") == "rows"
    assert data_name(".jsonl", "rows") == "rows"
    assert data_name("-x\x1b.json", "rows") == "_x_"
    assert data_name("..", "rows") == "rows"
    study = make_study(tmp_path, name=None).rename(tmp_path / "-s\n.yaml")
    assert load_study(study)[0].name == "_s_"


def test_a_long_value_makes_a_short_name_of_its_own() -> None:
    texts = ["+".join(f"{n}*after" for n in range(40)) + end for end in ("", "+before")]
    names = [named_after(text, "value") for text in texts]
    assert names[0] != names[1]
    assert all(trouble(name) is None and len(name.encode()) <= MOST_BYTES for name in names)


def test_swept_values_that_differ_in_capitals_have_folders_of_their_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={"lora": [{"lora": {"rank": 2}}]})
    _, _, swept, _ = swept_study(study, ["lora.targets=[[q_proj], [Q_PROJ]]"])
    assert [one.arm for one in swept] == ["lora.targets=_q_proj_", "lora.targets=_Q_PROJ_-2"]
