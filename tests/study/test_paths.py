"""Places as people write them, and patients that are not the ones that were built."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mnemos.core import places, shipped
from mnemos.core.errors import ModelError
from mnemos.study import paths


def test_a_path_is_shown_as_it_would_be_written(tmp_path: Path) -> None:
    home = Path.home()
    assert paths.shown_path(str(paths.RECIPES / "data" / "old.jsonl"), tmp_path) == "mnemos:data/old.jsonl"
    assert paths.shown_path(str(tmp_path / "data" / "old.jsonl"), tmp_path) == "data/old.jsonl"
    assert paths.shown_path(str(home / "old.jsonl"), tmp_path) == "~/old.jsonl"
    for other in ("/elsewhere/old.jsonl", "owner/name", "0.5*after + 0.5*before", str(tmp_path)):
        assert paths.shown_path(other, tmp_path / "study") == other


def test_what_is_shown_is_found_again(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text("{}")
    for place in (str(file), str(paths.RECIPES / "demo.yaml")):
        assert str(paths.resolve_path(paths.shown_path(place, tmp_path), tmp_path)) == place


@pytest.fixture
def patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what ships, in the place where it is looked for."""
    folder = shutil.copytree(paths.PATIENTS, tmp_path / "recipes" / "patients")
    monkeypatch.setattr(places, "RECIPES", folder.parent)
    monkeypatch.setattr(places, "PATIENTS", folder)
    return folder


@pytest.mark.parametrize("text", ["mnemos:patients/chat", "{folder}/chat"])
def test_a_patient_is_checked_when_it_is_named(patients: Path, text: str) -> None:
    place = text.format(folder=patients)
    assert paths.model_location(place, patients) == str(patients / "chat")
    config = patients / "chat" / "config.json"
    config.write_text(config.read_text().replace("{", "{ ", 1))
    assert paths.model_location(place, patients), "checked once in a process"
    shipped.verify_once.cache_clear()
    with pytest.raises(ModelError, match=r"chat/config\.json.*\n?.*not the file that was built"):
        paths.model_location(place, patients)
    assert paths.model_location("mnemos:patients/base", patients) == str(patients / "base")


def test_other_directories_are_not_checked(patients: Path) -> None:
    copy = shutil.copytree(patients / "chat", patients.parent.parent / "mine")
    (copy / "added.json").write_text("{}")
    assert paths.model_location(str(copy), patients) == str(copy)
