"""What the machine and libraries raise is explained, with the file; only what nobody foresaw is called a defect."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnemos.cli.errors import explained, message_and_code
from mnemos.core.errors import UsageError
from mnemos.core.files import read_json


def raised(act: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as error:  # noqa: PT011 - any
        act()
    return error.value


def raising(error: BaseException) -> None:
    raise error


def deep() -> Any:
    return deep()


KINDS: list[tuple[int, int, str]] = [
    (errno.ENOSPC, 1, "the disk is full"),
    (errno.EACCES, 1, "permission denied"),
    (errno.EROFS, 1, "cannot be written"),
    (errno.ENOENT, 1, "does not exist"),
    (errno.EISDIR, 2, "is a directory"),
    (errno.ENOTDIR, 2, "is not a directory"),
    (errno.ELOOP, 2, "loop of symbolic links"),
    (errno.ENAMETOOLONG, 2, "longer than a file's name"),
    (errno.EMFILE, 1, "too many files are open"),
    (errno.EXDEV, 1, os.strerror(errno.EXDEV)),
]


@pytest.mark.parametrize(("number", "code", "message"), KINDS)
def test_what_the_system_refuses(number: int, code: int, message: str) -> None:
    text, exit_code = message_and_code(OSError(number, os.strerror(number), "/some/file"))
    assert message in text
    assert "/some/file" in text
    assert "defect" not in text
    assert exit_code == code


def test_real_files(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    cases = {
        loop / "x": "loop of symbolic links",
        tmp_path: "is a directory",
        tmp_path / ("n" * 300): "longer than a file's name",
        tmp_path / "absent": "does not exist",
    }
    for path, words in cases.items():
        text, _ = message_and_code(raised(lambda path=path: read_json(path)))  # type: ignore[misc]
        assert words in text, text
        assert str(path)[:40] in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"\xff", "is not utf-8"), (b"[" * 100_000, "nested too deeply")],
)
def test_the_file_is_named_where_the_error_does_not(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    text, code = message_and_code(raised(lambda: read_json(path)))
    assert message in text
    assert str(path) in text
    assert code == 1


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (deep, "nested too deeply"),
        (lambda: raising(MemoryError()), "memory: is not enough"),
        (lambda: bytearray(1 << 62), "memory: is not enough"),
        (lambda: "\ud83d".encode(), "no text"),
        (lambda: b"\xff".decode(), "is not utf-8 (byte 0)"),
        (lambda: json.loads("[1"), "is not JSON"),
        (lambda: pickle.loads(b"\x80"), "damaged"),
        (lambda: importlib.import_module("package_that_is_absent.part"), "package package_that_is_absent: is not"),
        (lambda: raising(OSError("Can't load the thing at \x1b[2J")), r"Can't load the thing at \x1b[2J"),
        (lambda: raising(UsageError("a", "b", "c")), "mnemos: a: b\n  c"),
    ],
)
def test_other_kinds(act: Callable[[], Any], message: str) -> None:
    text, code = message_and_code(raised(act))
    assert message in text
    assert "defect" not in text
    assert code in (1, 2)


def test_memory_of_torch() -> None:
    import torch

    error = raised(lambda: torch.empty(1 << 60))
    assert "memory" in str(explained(error))


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), ModuleNotFoundError("x", name="mnemos.gone")])
def test_the_rest_is_a_defect(error: Exception) -> None:
    assert explained(error) is None
    text, code = message_and_code(error)
    assert "defect of mnemos" in text
    assert code == 1
