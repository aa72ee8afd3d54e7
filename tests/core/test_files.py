"""A written file is whole or not there, whatever happens in between."""

from __future__ import annotations

import errno
import gc
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import RunError
from mnemos.core.files import read_json, read_jsonl, write_json, write_jsonl, write_text


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trips(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "ü\u2028"], "b": {"c": True}}
    write_json(tmp_path / "deep" / "er" / "x.json", value)
    assert read_json(tmp_path / "deep" / "er" / "x.json") == value
    rows = [{"n": 1, "text": "line\nbreak"}, {"n": 2, "text": "ü"}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert read_jsonl(tmp_path / "x.jsonl") == rows
    write_jsonl(tmp_path / "none.jsonl", [])
    assert read_jsonl(tmp_path / "none.jsonl") == []
    assert left(tmp_path) == ["deep", "none.jsonl", "x.jsonl"]


def test_reading_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    for wanted in (False, True):
        (gc.enable if wanted else gc.disable)()
        try:
            with pytest.raises(ValueError, match="Expecting property name"):
                read_json(tmp_path / "x.json")
            assert gc.isenabled() == wanted
        finally:
            gc.enable()


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_jsonl_rows_end_at_newlines_only(tmp_path: Path, separator: str) -> None:
    """Model output may hold characters at which str.splitlines would also break."""
    rows = [{"text": f"a{separator}b"}, {"text": separator}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert read_jsonl(tmp_path / "x.jsonl") == rows


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    """JSON files of users may hold one; it has no UTF-8, so the row is written with escapes."""
    rows = [{"text": "a\ud83d"}, {"text": "ü"}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert read_jsonl(tmp_path / "x.jsonl") == rows
    assert "ü" in (tmp_path / "x.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"score": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "x.jsonl", [{"score": value}])
    assert left(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "results.json"
    write_text(path, "old")

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"mnemos.core.files.os.{call}", full)
    with pytest.raises(RunError, match=r"results\.json: the disk is full\n  free some room"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert left(tmp_path) == ["results.json"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"may not mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    path = small_disk / "results.json"
    write_text(path, "old")
    with pytest.raises(RunError, match="the disk is full"):
        write_text(path, "x" * 200_000)
    assert path.read_text() == "old"
    assert left(small_disk) == ["results.json"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_file_size_limit_leaves_the_old_file(tmp_path: Path) -> None:
    """Another error than a full disk is not mistaken for one, and leaves nothing half written."""
    path = tmp_path / "results.json"
    write_text(path, "old")
    code = f"""
        import resource, signal
        from mnemos.core.files import write_text
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_text({str(path)!r}, "x" * 100_000)
        except OSError as error:
            print(type(error).__name__, error.errno)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", str(errno.EFBIG)]
    assert path.read_text() == "old"
    assert left(tmp_path) == ["results.json"]


def test_ctrl_c_in_between_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnemos.core.files.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "x.json", "new")
    assert left(tmp_path) == []


def test_kill_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "old")
    code = f"""
        import os, signal
        import mnemos.core.files as files
        files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        files.write_text({str(path)!r}, "new")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_writing_into_a_file_as_a_folder_is_not_called_full(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "x.json", "new")
