"""Suites as people write them: read, checked, refused with a place and a cure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.measure import items
from mnemos.measure import suite as suites_module
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import Suite, linked, load_suites


def one(base: Path = Path("."), **values: Any) -> Suite:
    values.setdefault("name", "s")
    return load_suites([values], base)[0]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_with_several_suites(tmp_path: Path) -> None:
    lines(tmp_path / "items.jsonl", {"id": "a", "prompt": "2+3=", "answer": 5}, {"prompt": "1+1=", "answer": "2"})
    text = """
    suites:
      - {name: sums, kind: generated, match: number, data: items.jsonl, max_new_tokens: 4}
      - {name: stops, kind: stop_rate, of: sums}
    """
    (tmp_path / "suites.yaml").write_text(text, encoding="utf-8")
    sums, stops = load_suites(["suites.yaml"], tmp_path)
    assert [item.id for item in sums.items] == ["a", "2"]
    assert sums.items[0].answers == ("5",)
    assert sums.items[0].prompt is not None
    assert sums.items[0].prompt.turns[0].role == "prompt"
    assert stops.items == sums.items
    assert stops.decoding == sums.decoding
    assert sums.margin == pytest.approx(0.02)
    assert not sums.uses_chat


def test_items_in_every_format(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(rows), encoding="utf-8")
    (tmp_path / "d.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    prints = {
        one(tmp_path, kind="bits_per_byte", data=f"{n}").fingerprint
        for n in ("a.jsonl", "b.json", "c.yaml", "d.txt", "e.jsonl.gz")
    }
    assert len(prints) == 1


def test_chat_raw_and_system() -> None:
    items = [{"prompt": "hi", "expect": "answer"}, {"prompt": "raw", "raw": True, "expect": "answer"}]
    items.append({"messages": [{"role": "user", "content": "hey"}], "expect": "answer"})
    found = one(kind="refusal", chat=True, system="Be kind.", items=items)
    roles = [[turn.role for turn in item.prompt.turns] for item in found.items if item.prompt]
    assert roles == [["system", "user"], ["prompt"], ["system", "user"]]
    assert found.uses_chat


@pytest.mark.parametrize(
    ("answer", "true"), [(0, (0,)), ("no", (1,)), (["yes", "maybe"], (0, 2)), ([1, "maybe"], (1, 2))]
)
def test_right_options_by_index_or_text(answer: Any, true: tuple[int, ...]) -> None:
    key = "answers" if isinstance(answer, list) else "answer"
    found = one(kind="choice", items=[{"prompt": "?", "options": ["yes", "no", "maybe"], key: answer}])
    assert found.items[0].true == true


@pytest.mark.parametrize("kind", ["choice", "mc1", "mc2", "generated", "refusal"])
def test_an_empty_prompt_may_be_asked_and_an_empty_text_may_not(kind: str) -> None:
    wanted = {"generated": {"answer": "x"}, "refusal": {"expect": "answer"}}
    item = wanted.get(kind, {"options": ["a", "b"], "answer": 0})
    for chat, role in ((False, "prompt"), (True, "user")):
        (turn,) = one(kind=kind, chat=chat, items=[{"prompt": "", **item}]).items[0].prompt.turns
        assert (turn.role, turn.text) == (role, "")
    with pytest.raises(DataError, match="must be a text that is not empty"):
        one(kind="bits_per_byte", items=[{"text": ""}])


def test_number_options_match_by_value() -> None:
    found = one(kind="choice", items=[{"prompt": "?", "options": [3, 4, 5], "answer": 4}])
    assert found.items[0].true == (1,)


CHOICE = {"prompt": "?", "options": ["a", "b"], "answer": 0}
ASK = {"prompt": "?", "answer": "x"}


@pytest.mark.parametrize(
    ("values", "message", "cure"),
    [
        ({"kind": "generatd", "items": [ASK]}, "not a known kind", "'generated'"),
        ({"kind": "generated", "items": [ASK], "max_new_token": 3}, "not a known key", "'max_new_tokens'"),
        ({"kind": "generated", "items": [ASK], "max_new_tokens": 0}, "greater than or equal to 1", "Longest answer"),
        ({"kind": "generated", "items": [ASK], "match": "fuzzy"}, "match = 'fuzzy'", ""),
        ({"kind": "generated"}, "exactly one of data, items, of", ""),
        ({"kind": "generated", "items": [ASK], "data": "x.jsonl"}, "exactly one of", ""),
        ({"kind": "choice", "of": "other"}, "not for kind choice", "of its own"),
        ({"kind": "generated", "items": [ASK], "schema": {}}, "goes with match: json", "match: json"),
        ({"kind": "language", "items": [ASK]}, "is not given", "language: en"),
        ({"kind": "language", "items": [ASK], "language": "xx"}, "not a known code", "ISO 639-1"),
        ({"kind": "language", "items": [ASK], "language": "en", "among": ["zh"]}, "leaves out", "add it"),
        ({"kind": "lm_eval", "task": "t", "items": [ASK]}, "brings its own", "drop"),
        ({"kind": "lm_eval", "task": "t", "include_path": "nowhere"}, "not a folder", "YAML"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        one(**values)
    assert message in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("generated", {"prompt": "?"}, "names no answer"),
        ("generated", {"answer": "x"}, "has no prompt or messages"),
        ("generated", {"prompt": "?", "anwser": "x"}, "did you mean 'answer'"),
        ("generated", {"prompt": "?", "answer": True}, "must be a text or a number"),
        ("generated", {"prompt": "?", "answer": "a", "answers": ["b"]}, "has both"),
        ("bits_per_byte", {"text": ""}, "not empty"),
        ("generated", {"prompt": "a", "messages": [], "answer": "a"}, "has both prompt and messages"),
        ("generated", {"messages": [], "answer": "a"}, "is empty"),
        ("generated", {"messages": "hi", "answer": "a"}, "must be a list"),
        ("generated", {"messages": [{"role": "bott", "content": "x"}], "answer": "a"}, "is not known"),
        ("generated", {"messages": [{"role": "assistant", "content": "x"}], "answer": "a"}, "ends with an assistant"),
        ("choice", {"prompt": "?", "options": ["a"], "answer": 0}, "at least two"),
        ("choice", {"prompt": "?", "options": ["a", "a"], "answer": 0}, "all different"),
        ("choice", {"prompt": "?", "options": ["a", "b"], "answer": 2}, "no index into 2"),
        ("choice", {"prompt": "?", "options": ["a", "b"], "answer": "c"}, "not among the options"),
        ("choice", {"prompt": "?", "options": ["a", "b"]}, "no right option"),
        ("mc2", {"prompt": "?", "options": ["a", "b"], "answers": [0, 1]}, "every option right"),
        ("refusal", {"prompt": "?", "expect": "refusal"}, "must be refuse or answer"),
        ("refusal", {"prompt": "?"}, "has no expect"),
        ("bits_per_byte", {"prompt": "?"}, "has no text"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, kind: str, row: dict[str, Any], message: str) -> None:
    good = {"generated": ASK, "choice": CHOICE, "mc2": CHOICE, "bits_per_byte": {"text": "t"}}
    first = good.get(kind, {"prompt": "?", "expect": "answer"})
    lines(tmp_path / "items.jsonl", first, row)
    with pytest.raises(DataError) as caught:
        one(tmp_path, kind=kind, data="items.jsonl")
    assert message in str(caught.value)
    assert "items.jsonl:2" in str(caught.value)


def test_other_columns_are_left_alone_and_columns_renames(tmp_path: Path) -> None:
    lines(tmp_path / "items.jsonl", {"question": "?", "gold": "x", "topic": "maths"})
    found = one(tmp_path, kind="generated", data="items.jsonl", columns={"prompt": "question", "answer": "gold"})
    assert found.items[0].answers == ("x",)
    with pytest.raises(DataError, match=r"items\.jsonl:1: column 'q'"):
        one(tmp_path, kind="generated", data="items.jsonl", columns={"prompt": "q"})


def test_a_column_is_compared_with_the_known_keys_once_and_not_in_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def close(word: str, *_: Any, **__: Any) -> list[str]:
        compared.append(word)
        return []

    monkeypatch.setattr(items.difflib, "get_close_matches", close)
    items._meant.cache_clear()
    lines(tmp_path / "items.jsonl", *[{"id": n, "prompt": "?", "answer": "x", "topic": n} for n in range(50)])
    one(tmp_path, kind="generated", data="items.jsonl")
    assert compared == ["topic"]
    # What was found with the stand-in must not be kept for others.
    items._meant.cache_clear()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"text": "a"}\n{oops\n', "items.jsonl:2"),
        (b'{"text": "a"}\n\xff\xfe\n', "items.jsonl:2"),
        (b"[1]\n", "is a number, not an object"),
        (b'{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}\n', "stands at"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "items.jsonl").write_bytes(content)
    with pytest.raises(DataError) as caught:
        one(tmp_path, kind="bits_per_byte", data="items.jsonl")
    assert message in str(caught.value)


def test_missing_file_and_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        one(tmp_path, kind="bits_per_byte", data="nowhere.jsonl")
    (tmp_path / "a.csv").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"ends in none of"):
        one(tmp_path, kind="bits_per_byte", data="a.csv")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites_module, "BUILT_IN", tmp_path / "built-in")
    (tmp_path / "built-in").mkdir()
    text = "{name: 'bits-per-byte:english', kind: bits_per_byte, items: [{text: t}]}"
    (tmp_path / "built-in" / "bits-per-byte-english.yaml").write_text(text, encoding="utf-8")
    assert load_suites(["bits-per-byte:english"], tmp_path)[0].name == "bits-per-byte:english"
    with pytest.raises(UsageError, match="did you mean 'bits-per-byte-english'"):
        load_suites(["bits-per-byte:englisch"], tmp_path)
    with pytest.raises(UsageError, match="named twice"):
        load_suites(["bits-per-byte:english"] * 2, tmp_path)
    with pytest.raises(MnemosError, match="name"):
        one(name="../evil", kind="bits_per_byte", items=[{"text": "t"}])


def test_of_is_linked_across_calls_and_refused_when_unknown() -> None:
    asked = one(name="asked", kind="generated", max_new_tokens=7, items=[ASK])
    (waiting,) = load_suites([{"name": "stops", "kind": "stop_rate", "of": "asked"}], Path("."))
    assert waiting.items == ()
    (now,) = load_suites([{"name": "stops", "kind": "stop_rate", "of": "asked"}], Path("."), known=[asked])
    assert now.items == asked.items
    assert linked([asked, waiting])[1].fingerprint == now.fingerprint
    assert now.decoding is not None
    assert now.decoding.max_new_tokens == 7
    with pytest.raises(UsageError, match="did you mean 'asked'"):
        linked([asked, load_suites([{"name": "s", "kind": "kl", "of": "aksed"}], Path("."))[0]], strict=True)
    choice = one(name="choice", kind="choice", items=[CHOICE])
    with pytest.raises(UsageError, match="generates no answers"):
        load_suites([{"name": "s", "kind": "kl", "of": "choice"}], Path("."), known=[choice])


def test_fingerprint_follows_what_can_change_a_score() -> None:
    start = one(kind="generated", items=[ASK])
    assert one(kind="generated", items=[ASK], tolerance=5).fingerprint == start.fingerprint
    others = [
        one(kind="generated", items=[{**ASK, "answer": "y"}]),
        one(kind="generated", items=[ASK], max_new_tokens=5),
        one(kind="generated", items=[ASK], match="exact"),
        one(kind="generated", items=[ASK], chat=True),
        one(kind="generated", items=[ASK], name="other"),
        one(kind="stop_rate", items=[ASK]),
    ]
    assert len({start.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_fingerprint_follows_further_turns() -> None:
    items = [{"turns": ["Name a city.", *more], "answer": "Paris"} for more in ([], ["In French."], ["In Chinese."])]
    assert len({one(kind="generated", items=[item]).fingerprint for item in items}) == 3


def test_fingerprint_follows_categories_where_they_weigh() -> None:
    several = [[{**ASK, "id": str(n), "category": name} for n, name in enumerate(names)] for names in ("aab", "abb")]
    a, b = (one(kind="generated", items=items) for items in several)
    assert a.fingerprint == b.fingerprint
    a, b = (one(kind="generated", items=items, balanced=True) for items in several)
    assert a.fingerprint != b.fingerprint


def test_limit_is_a_fixed_draw() -> None:
    items = [{"id": str(i), "text": "t"} for i in range(50)]
    a, b = (one(kind="bits_per_byte", items=items, limit=10) for _ in range(2))
    assert [i.id for i in a.items] == [i.id for i in b.items]
    assert len(a.items) == 10
    assert [i.id for i in a.items] != [str(i) for i in range(10)]


def test_every_kind_says_what_it_is() -> None:
    for name, kind in KINDS.items():
        assert kind.summary, name
        assert kind.unit in ("points", "bits", "nats", "WER", "CER")
        assert (kind.settings.__doc__ or "").strip()
        for key, info in kind.settings.model_fields.items():
            assert info.description, f"{name}.{key}"


WRITTEN = ["12:30", "007", "010", "0x1F", "1.10", "1_000", "yes", "no", "on"]


def test_an_answer_is_the_text_that_stands_in_the_suite(tmp_path: Path) -> None:
    items = "\n".join(f"  - {{id: a{n}, prompt: p, answer: {text}}}" for n, text in enumerate(WRITTEN))
    (tmp_path / "s.yaml").write_text(f"name: s\nkind: generated\nitems:\n{items}\n")
    (tmp_path / "items.yaml").write_text("".join(f"- {{prompt: p, answers: [{text}]}}\n" for text in WRITTEN))
    (suite,) = load_suites(["s.yaml"], tmp_path)
    assert [item.answers for item in suite.items] == [(text,) for text in WRITTEN]
    assert [item.answers for item in one(tmp_path, kind="generated", data="items.yaml").items] == [
        (text,) for text in WRITTEN
    ]


def test_options_and_ids_are_texts_as_written(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "{name: s, kind: choice, items: [{id: 007, prompt: p, options: [1.10, 1.1, 010], answer: 010}]}"
    )
    (item,) = load_suites(["s.yaml"], tmp_path)[0].items
    assert (item.id, item.options, item.true) == ("007", ("1.10", "1.1", "010"), (2,))


def test_json_answers_keep_their_text(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"prompt": "p", "answer": 1.10}\n{"prompt": "p", "answer": 1E3}\n')
    (tmp_path / "items.json").write_text('[{"prompt": "p", "answer": 1.10}, {"prompt": "p", "answer": 1E3}]')
    for name in ("items.jsonl", "items.json"):
        assert [item.answers for item in one(tmp_path, kind="generated", data=name).items] == [("1.10",), ("1E3",)]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("s.yaml", "name: s\nkind: generated\nname: t\nitems: [{prompt: p, answer: a}]", "s.yaml:3"),
        ("s.json", '{"name": "s", "kind": "generated", "kind": "choice", "items": []}', "s.json"),
        ("s.yaml", "{name: s, kind: generated, items: [{prompt: p, answer: a,\n answer: b}]}", "s.yaml:2"),
    ],
)
def test_a_key_written_twice_is_refused_with_its_place(tmp_path: Path, name: str, text: str, place: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        load_suites([name], tmp_path)
    assert caught.value.value.endswith(place)


def test_an_item_with_a_key_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"prompt": "p", "answer": "x"}\n{"prompt": "p", "answer": "x", "answer": 2}')
    with pytest.raises(DataError, match=r"items\.jsonl:2: has the key 'answer' twice"):
        one(tmp_path, kind="generated", data="items.jsonl")


def test_an_infinite_tolerance_is_refused() -> None:
    with pytest.raises(UsageError, match="tolerance"):
        one(kind="generated", tolerance=float("inf"), items=[ASK])
