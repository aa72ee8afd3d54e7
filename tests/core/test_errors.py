"""Messages name the value, the bound and the cure; exit codes follow the kind of failure."""

from __future__ import annotations

import pickle

import pytest

from mnemos.core.errors import (
    DataError,
    MnemosError,
    ModelError,
    NotComparable,
    RunError,
    UsageError,
    nearest,
    printable,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(MnemosError, 1), (DataError, 1), (ModelError, 1), (RunError, 1), (UsageError, 2), (NotComparable, 2)],
)
def test_exit_codes(kind: type[MnemosError], code: int) -> None:
    assert kind("value").exit_code == code
    assert issubclass(kind, MnemosError)


def test_message_is_value_bound_cure() -> None:
    assert str(UsageError("rank = -1", "must be at least 0", "use 16")) == "rank = -1: must be at least 0\n  use 16"
    assert str(UsageError("rank = -1", "must be at least 0")) == "rank = -1: must be at least 0"
    assert str(UsageError("nothing there")) == "nothing there"
    assert str(UsageError("a file", cure="look elsewhere")) == "a file\n  look elsewhere"


def test_errors_cross_process_borders() -> None:
    back = pickle.loads(pickle.dumps(DataError("a", "b", "c")))
    assert (type(back), back.value, back.bound, back.cure) == (DataError, "a", "b", "c")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("repaly", ["replay", "lora"], "did you mean 'replay'?"),
        ("learning_rte", ["learning_rate", "rank"], "did you mean 'learning_rate'?"),
        ("zzz", ["replay", "lora"], "known: lora, replay"),
        ("zzz", [], "nothing may stand here"),
    ],
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_messages_steer_no_terminal_and_quote_no_file_whole() -> None:
    text = str(DataError("a\x1b[2Jb\x00\x9b", "\u202eevil \ud83d", "two\n\tlines, ℕ, 中文, 👩\u200d💻\r"))
    assert text == "a\\x1b[2Jb\\x00\\x9b: \\u202eevil \\ud83d\n  two\n\tlines, ℕ, 中文, 👩\u200d💻\\r"
    assert printable("plain ü") == "plain ü"
    long = str(UsageError("x" * 20_000 + "end", "is long"))
    assert len(long) < 2100
    assert "characters left out" in long
    assert long.endswith("end: is long")
