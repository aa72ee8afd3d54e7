"""YAML 1.2: what was written is what is read, and what would be misread is refused with its line."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.json_text import parse_json
from mnemos.core.yaml_text import dump_yaml, parse_yaml, read_yaml, yaml_scalar


def test_a_setting_may_be_called_on() -> None:
    text = "{distill: {on: rehearsed}, off: no, a: true, b: False, c: 3, d: 1.0e-3, e: null, f: [yes, 2026-01-31]}"
    assert parse_yaml(text) == {
        "distill": {"on": "rehearsed"},
        "off": "no",
        "a": True,
        "b": False,
        "c": 3,
        "d": 1e-3,
        "e": None,
        "f": ["yes", "2026-01-31"],
    }
    assert parse_yaml("on") == "on"
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    "written", ["12:30", "007", "010", "0x1F", "1.10", "1_000", "yes", "no", "on", "1:30:00", "1e5", "0o17", "+3", "5."]
)
def test_a_scalar_keeps_the_text_it_was_written_as(written: str) -> None:
    read = parse_yaml(f"answer: {written}")["answer"]
    assert str(read) == f"{read}" == written
    assert str(copy.deepcopy(read)) == str(pickle.loads(pickle.dumps(read))) == written
    assert str(parse_yaml(dump_yaml([read]))[0]) == written
    assert str(parse_yaml(dump_yaml([written]))[0]) == written


@pytest.mark.parametrize(
    ("written", "number"),
    [("007", 7), ("0x1F", 31), ("0o17", 15), ("1.10", 1.1), ("1e-4", 1e-4), (".5", 0.5), ("-3", -3)],
)
def test_numbers_count_as_the_core_schema_says(written: str, number: float) -> None:
    read = parse_yaml(written)
    assert read == number
    assert json.loads(json.dumps(read)) == number


def test_keys_are_texts() -> None:
    assert list(parse_yaml("010: a\non: b\n1.10: c\ntrue: d\n~: e")) == ["010", "on", "1.10", "true", "~"]


def test_a_merged_mapping_gives_what_is_not_said() -> None:
    text = "a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {y: 5, z: 6}]}"
    read = parse_yaml(text)
    assert read["b"] == {"x": 3, "y": [2]}
    assert read["c"] == {"x": 1, "y": [2], "z": 6}
    assert read == yaml.safe_load(text)
    read["b"]["y"].append(7)
    assert read["a"]["y"] == [2], "an alias is a copy: --set changes one place"


def bomb(times: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, times)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3", "the key 'a' stands at line 1 already"),
        ("x:\n  - {b: 1, b: 2}", "f.yaml:2", "the key 'b'"),
        ("a: [1", "f.yaml:1", "is not YAML"),
        ("a: b: c", "f.yaml:1", "is not YAML"),
        ("[" * 100_000, "f.yaml:1", "nested deeper than 64"),
        ("\n".join("  " * n + "a:" for n in range(300)), "f.yaml:65", "nested deeper than 64"),
        ("a: &a [*a]", "f.yaml:1", "refers to itself"),
        ("a: *b", "f.yaml:1", "no anchor"),
        ("a: !!python/object:os.system x", "f.yaml:1", "tag"),
        ("a: !secret x", "f.yaml:1", "tag"),
        ("a: 1\n---\nb: 2", "f.yaml:2", "second document"),
        ("%YAML 1.1\n---\na: yes", "f.yaml:2", "another YAML than 1.2"),
        ("? [1]\n: 2", "f.yaml:1", "a key must be a text"),
        ("<<: 3", "f.yaml:1", "mappings only"),
        ('a: "\\ud800"', "f.yaml:1", "surrogate"),
        ("a: \x00", "f.yaml", "is not YAML"),
        (bomb(9), "f.yaml:6", "aliases repeat more than 100,000 values"),
    ],
)
def test_what_would_be_misread_is_refused_with_its_line(text: str, place: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_yaml(text, "f.yaml", DataError)
    assert caught.value.value == place
    assert message in caught.value.bound
    assert caught.value.cure


def test_a_bomb_of_aliases_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UsageError):
            parse_yaml(bomb(12))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_number_of_5000_digits_stays_a_text() -> None:
    assert parse_yaml("9" * 5000) == "9" * 5000
    assert parse_json("9" * 5000, "x") == "9" * 5000


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
    | st.sampled_from(["yes", "no", "on", "12:30", "007", "1_000", "~", "null", "<<", "=", "1e3", ".inf", "a: b", "#"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="ascii")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert parse_yaml(dump_yaml(value)) == value


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_a_text_in_a_line_is_read_back(text: str) -> None:
    assert parse_yaml(f"a: {yaml_scalar(text)}   # said") == {"a": text}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, made: Any, message: str) -> None:
    made(tmp_path / "x.yaml")
    with pytest.raises(DataError, match=message):
        read_yaml(tmp_path / "x.yaml", DataError)


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_yaml("a\0b.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ('{"a": NaN}', "NaN"),
        ('["\\ud83d"]', "surrogate"),
        ('[{"\\udc00x": 1}]', "surrogate"),
        ("[1] [2]", "not JSON"),
        ('{"a" 1}', "not JSON"),
    ],
)
def test_json_that_would_be_misread_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=r"f\.json:3") as caught:
        parse_json(text, "f.json:3")
    assert message in caught.value.bound


@pytest.mark.parametrize("written", ["1.10", "1E5", "1e-4", "0.10"])
def test_json_numbers_keep_their_text(written: str) -> None:
    (read,) = parse_json(f"[{written}]", "x")
    assert str(read) == written
    assert read == json.loads(written)


def test_whole_emoji_as_escapes_are_fine() -> None:
    assert parse_json('["\\ud83d\\ude00"]', "x") == ["😀"]
