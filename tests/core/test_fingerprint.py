"""Fingerprints: equal meaning, equal name; any change, another name; the unknown refused."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.fingerprint import LENGTH, canonical, directory_fingerprint, file_fingerprint, fingerprint

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Other:
    x: float
    y: float = 0.0


class Named:
    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


def test_it_is_the_sha256_of_sorted_json() -> None:
    value = {"b": [1, 2.5, None, True], "a": "ü"}
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert fingerprint(value) == hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


@given(plain)
def test_json_values_are_their_own_canonical_form(value: Any) -> None:
    assert canonical(value) == value
    assert fingerprint(json.loads(json.dumps(value))) == fingerprint(value)


@given(plain, plain)
def test_different_json_differs(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (fingerprint(a) == fingerprint(b)) == same


def test_order_of_keys_and_of_sets_does_not_count() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"z", "a", "m"}) == fingerprint(frozenset(["m", "z", "a"]))
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_sets_of_any_values_do_not_depend_on_the_hash_seed() -> None:
    code = "from mnemos.core.fingerprint import fingerprint; print(fingerprint({'a', 'b', ('c', 1), None, 2}))"
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(made) == 1


def test_numbers_that_json_lacks() -> None:
    assert fingerprint(math.nan) == fingerprint(float("nan"))
    assert len({fingerprint(value) for value in (math.nan, math.inf, -math.inf, None, 0.0)}) == 5
    assert json.dumps(canonical([math.nan, math.inf]), allow_nan=False)


def test_half_a_surrogate_pair_has_a_name() -> None:
    assert fingerprint("\ud83d") != fingerprint("\ud83e")


def test_types_are_told_apart() -> None:
    assert len({fingerprint(value) for value in (1, 1.0, "1", True, [1])}) == 5


def test_dataclasses_are_their_class_and_compared_fields() -> None:
    assert fingerprint(Point(1.0)) == fingerprint(Point(1.0, 0.0, note="ignored"))
    assert fingerprint(Point(1.0)) != fingerprint(Point(1.0, 1.0))
    assert fingerprint(Point(1.0)) != fingerprint(Other(1.0))
    assert canonical(Point(1.0)) == {"is": "Point", "x": 1.0, "y": 0.0}


def test_an_object_with_a_fingerprint_stands_for_itself() -> None:
    assert fingerprint([Named("abc")]) == fingerprint([Named("abc")])
    assert fingerprint(Named("abc")) != fingerprint(Named("abd"))


@pytest.mark.parametrize("value", [object(), lambda: 0, np.float32(1), np.zeros(2), b"bytes", {1: object()}, Point])
def test_what_has_no_name_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no fingerprint for"):
        fingerprint({"setting": value})


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"one")
    first = file_fingerprint(path)
    assert first == hashlib.sha256(b"one").hexdigest()[:LENGTH]
    path.write_bytes(b"two")  # same size
    os.utime(path, ns=(1, 1))
    second = file_fingerprint(path)
    path.write_bytes(b"longer")
    assert len({first, second, file_fingerprint(path)}) == 3
    path.write_bytes(b"one")
    assert file_fingerprint(path) == first


def test_a_directory_is_the_files_of_its_suffixes(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"w")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "inner.json").mkdir()

    def taken() -> str:
        return directory_fingerprint(tmp_path, suffixes=(".safetensors", ".json"))

    first = taken()
    (tmp_path / "README.md").write_text("not counted")
    assert taken() == first
    (tmp_path / "config.json").write_text('{"a": 1}')
    second = taken()
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert len({first, second, taken()}) == 3
