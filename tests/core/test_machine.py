"""Memory as control groups leave it to a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core import machine

MB = 2**20


def group(folder: Path, limit: str, used: int, stat: str, *, first: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
    for name, value in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(value + "\n")
    (folder / "memory.stat").write_text(stat)


def place(monkeypatch: pytest.MonkeyPatch, folder: Path, own: str) -> None:
    (folder / "own").write_text(own)
    monkeypatch.setattr(machine, "CGROUPS", folder / "tree")
    monkeypatch.setattr(machine, "OWN", folder / "own")


def test_the_smallest_limit_above_a_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, tmp_path, "0::/batch/job\n")
    group(tmp_path / "tree/batch", str(64 * MB), 40 * MB, "anon 1\ninactive_file 10485760\n")
    group(tmp_path / "tree/batch/job", "max", 30 * MB, "")
    assert machine.total_memory() == 64 * MB
    # What is charged for files that were read is given back when it is needed.
    assert machine.free_memory() == (64 - 40 + 10) * MB


def test_the_first_version_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, tmp_path, "5:cpu:/x\n4:memory:/job\n")
    group(tmp_path / "tree/memory/job", str(32 * MB), 8 * MB, "total_inactive_file 0\n", first=True)
    group(tmp_path / "tree/memory", str(2**63 - 4096), 0, "", first=True)
    assert machine.total_memory() == 32 * MB
    assert machine.free_memory() == 24 * MB


@pytest.mark.parametrize("own", ["", "nonsense", "0::/gone\n"])
def test_without_a_limit_the_machine_is_what_there_is(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(monkeypatch, tmp_path, own)
    assert machine.total_memory() > 256 * MB
    assert 0 < machine.free_memory() <= machine.total_memory()
    assert 0 < machine.resident_memory() < machine.total_memory()


def test_a_group_that_uses_more_than_its_limit_has_nothing_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(monkeypatch, tmp_path, "0::/\n")
    group(tmp_path / "tree", str(MB), 2 * MB, "")
    assert machine.free_memory() == 0
