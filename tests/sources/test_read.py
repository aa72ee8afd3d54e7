"""Every format, every container, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Turn, frozen
from mnemos.sources.files import rows_of
from mnemos.sources.read import FileSource, read
from mnemos.sources.write import row_of
from tests.sources.families import turns

U, A = Turn("user", "Hi"), Turn("assistant", "Yes.")
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
ADD = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
NO = [{"role": "assistant", "content": "No."}]


def write(folder: Path, rows: Iterable[Any], name: str = "data.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def one(folder: Path, row: Mapping[str, Any], **settings: Any) -> tuple[FileSource, Example]:
    source = read(write(folder, [row]), **settings)
    (example,) = source
    return source, example


@pytest.mark.parametrize(
    ("row", "format", "wanted"),
    [
        ({"messages": MESSAGES}, "messages", (U, A)),
        ({"messages": MESSAGES, "system": "Be brief."}, "messages", (Turn("system", "Be brief."), U, A)),
        (
            {
                "messages": [
                    {"role": "developer", "content": "d"},
                    *MESSAGES[:1],
                    {**MESSAGES[1], "weight": 0},
                    *MESSAGES,
                ]
            },
            "messages",
            (Turn("system", "d"), U, Turn("assistant", "Yes.", learn=False), U, A),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                    *NO,
                ]
            },
            "messages",
            (U, Turn("assistant", "No.")),
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]},
            "sharegpt",
            (U, A),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                    {"from": "observation", "value": "3"},
                    {"from": "gpt", "value": "Yes."},
                ]
            },
            "sharegpt",
            (U, Turn("assistant", "", fields=frozen({"tool_calls": [ADD]})), Turn("tool", "3"), A),
        ),
        ({"instruction": "Hi", "input": "", "output": "Yes."}, "alpaca", (U, A)),
        ({"instruction": "Add", "input": "2 3", "output": "5"}, "alpaca", turns("user: Add\n\n2 3", "assistant: 5")),
        (
            {"instruction": "Hi", "output": "Yes.", "history": [["a", "b"]], "system": "s"},
            "alpaca",
            (*turns("system: s", "user: a", "assistant: b"), U, A),
        ),
        ({"question": "Hi", "answer": "Yes."}, "question_answer", (U, A)),
        (
            {"question": "How many?", "answer": "Two.", "context": "Two came.", "system": "s"},
            "question_answer",
            turns("system: s", "user: Two came.\n\nHow many?", "assistant: Two."),
        ),
        ({"question": "no", "answer": "no", "text": "A page."}, "text", turns("text: A page.")),
        ({"prompt": "2+3=", "completion": " 5"}, "prompt_completion", turns("prompt: 2+3=", "completion:  5")),
        (
            {"prompt": [*MESSAGES, *MESSAGES[:1]], "completion": MESSAGES[1:]},
            "prompt_completion",
            (U, Turn("assistant", "Yes.", learn=False), U, A),
        ),
        ({"text": "The river."}, "text", (Turn("text", "The river."),)),
        ({"text": "The river.", "label": "geography"}, "text", (Turn("text", "The river."),)),
    ],
)
def test_formats_to_learn_from(tmp_path: Path, row: dict[str, Any], format: str, wanted: tuple[Turn, ...]) -> None:
    source, example = one(tmp_path, row)
    assert source.format == format
    assert example.turns == wanted
    assert example.id == "data:1"
    assert example.origin == "new"
    assert source.counts == {"rows": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."},
        {"prompt": MESSAGES[:1], "chosen": MESSAGES[1:], "rejected": NO},
        {"prompt": "Hi", "chosen": MESSAGES, "rejected": [MESSAGES[0], *NO]},
        {"chosen": MESSAGES, "rejected": [MESSAGES[0], *NO]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
        {"chosen": "Hi Yes.", "rejected": "Hi No."},
        {"instruction": "Hi", "input": "", "chosen": "Yes.", "rejected": "No."},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ],
)
def test_preference_in_every_spelling(tmp_path: Path, row: dict[str, Any]) -> None:
    source, example = one(tmp_path, row)
    assert (source.format, example.kind) == ("preference", "preference")
    assert example.turns == (U, A)
    assert example.rejected == (Turn("assistant", "No."),)


@pytest.mark.parametrize(
    ("row", "thumb"),
    [
        ({"prompt": "Hi", "completion": "Yes.", "label": True}, True),
        ({"messages": MESSAGES, "label": False}, False),
        ({"prompt": MESSAGES[:1], "completion": MESSAGES[1:], "label": False}, False),
    ],
)
def test_labels(tmp_path: Path, row: dict[str, Any], thumb: bool) -> None:
    source, example = one(tmp_path, row)
    assert (source.format, example.kind, example.label) == ("label", "label", thumb)
    assert example.turns == (U, A)


def test_labels_of_other_kinds_are_columns_like_any_other(tmp_path: Path) -> None:
    source, example = one(tmp_path, {"messages": MESSAGES, "label": "sports"})
    assert (source.format, example.meta) == ("messages", {"label": "sports"})
    _, asked = one(tmp_path, {"messages": MESSAGES, "label": 1}, format="label")
    assert asked.label is True


def test_further_columns_become_meta_and_ids_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 7, "text": "a", "url": "u", "n": None}, {"text": "b", "tags": ["x"]}])
    first, second = read(path)
    assert (first.id, dict(first.meta)) == ("7", {"url": "u"})
    assert (second.id, dict(second.meta)) == ("data:2", {"tags": ["x"]})


def test_columns_rename(tmp_path: Path) -> None:
    path = write(tmp_path, [{"en": "Hello", "zh": "你好", "prompt": "other"}])
    source = read(path, columns={"prompt": "en", "completion": "zh"}, name="translate")
    (example,) = source
    assert example.turns == turns("prompt: Hello", "completion: 你好")
    assert source.describe() == "translate (data.jsonl): 1 row, prompt_completion (prompt = en, completion = zh)"
    with pytest.raises(DataError, match=r"data.jsonl:1: columns en, zh, prompt: has no column 'eng'(.|\n)*'en'"):
        list(read(path, columns={"prompt": "eng", "completion": "zh"}))
    with pytest.raises(UsageError, match=r"columns: promt(.|\n)*'prompt'"):
        read(path, columns={"promt": "en"})


def test_describe_says_rows_format_and_columns(tmp_path: Path) -> None:
    rows = [{"instruction": f"i {n}", "input": "", "output": "o"} for n in range(1200)]
    path = write(tmp_path, rows)
    assert read(path).describe() == "data.jsonl: 1,200 rows, alpaca (instruction, input, output)"
    limited = read(path, limit=3)
    assert limited.describe() == "data.jsonl: first 3 of 1,200 rows, alpaca (instruction, input, output)"
    assert len(list(limited)) == 3


CONTAINERS = ["jsonl", "jsonl.gz", "array", "array.gz", "object lines in .json", "parquet", "folder", "saved", "dict"]


def contained(folder: Path, rows: list[dict[str, Any]], container: str) -> str:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    array = json.dumps(rows, indent=1).encode()
    if container == "folder":
        (folder / "d" / "data").mkdir(parents=True)
        (folder / "d" / "data" / "train-00000-of-00001.jsonl").write_bytes(lines)
        (folder / "d" / "data" / "test-00000-of-00001.jsonl").write_text('{"text": "not this"}\n')
        (folder / "d" / "README.md").write_text("# about")
        return str(folder / "d")
    if container in ("parquet", "saved", "dict"):
        import datasets

        data = datasets.Dataset.from_list(rows)
        if container == "parquet":
            data.to_parquet(folder / "d.parquet")
            return str(folder / "d.parquet")
        both = datasets.DatasetDict({"train": data, "test": data.select([0])})
        (data if container == "saved" else both).save_to_disk(str(folder / "d"))
        return str(folder / "d")
    content = {"array": array, "array.gz": gzip.compress(array), "jsonl.gz": gzip.compress(lines)}.get(container, lines)
    name = {"jsonl": "d.jsonl", "array": "d.json", "object lines in .json": "d.json"}.get(container, "no-suffix-needed")
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.filterwarnings("ignore")
def test_every_container_gives_the_same_examples(tmp_path: Path, container: str) -> None:
    rows = [{"messages": [*MESSAGES[:1], {"role": "assistant", "content": f'{n}\n"é"'}], "n": n} for n in range(9)]
    source = read(contained(tmp_path, rows, container))
    examples = list(source)
    assert [e.turns[1].text for e in examples] == [f'{n}\n"é"' for n in range(9)]
    assert [e.meta["n"] for e in examples] == list(range(9))
    assert len({e.id for e in examples}) == 9
    assert list(source) == examples
    assert source.describe().endswith(": 9 rows, messages (messages)")
    assert source.fingerprint == read(source.location).fingerprint


def test_plain_text_is_cut_into_paragraphs_or_lines(tmp_path: Path) -> None:
    path = tmp_path / "plays.txt"
    path.write_bytes("\ufeffFirst:\r\nSpeak.\n\n \nAll:\nSpeak, speak.\n".encode())
    source = read(str(path))
    assert [e.turns[0].text for e in source] == ["First:\nSpeak.", "All:\nSpeak, speak."]
    assert [e.id for e in source] == ["plays:1", "plays:5"]
    assert source.describe() == "plays.txt: 2 rows, one a paragraph, text (text)"
    lines = tmp_path / "lines.txt.gz"
    lines.write_bytes(gzip.compress(b"one\ntwo\nthree"))
    assert [e.turns[0].text for e in read(str(lines))] == ["one", "two", "three"]
    assert read(str(lines)).describe() == "lines.txt.gz: 3 rows, one a line, text (text)"


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=6,
    ),
    indent=st.sampled_from([None, 0, 2]),
    size=st.integers(1, 40),
)
def test_arrays_are_read_whatever_the_chunks(values: list[Any], indent: int | None, size: int) -> None:
    import tempfile

    from mnemos.sources import files

    rows = [{"text": value} for value in values]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", size)
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(rows, indent=indent))
        assert [raw.value for raw in rows_of(path, "a.json", "a")] == rows
        assert [int(raw.id.split(":")[1]) for raw in rows_of(path, "a.json", "a")] == list(range(1, len(rows) + 1))


def test_array_rows_are_named_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n {"text": "a"},\n {"text": "b"},\n {"txt":\n  "c"}\n]')
    with pytest.raises(DataError, match=r"a\.json:4: columns txt"):
        list(read(str(path), format="text"))
    path.write_text('[{"text": "a"},\n{"text" "b"}]')
    with pytest.raises(DataError, match=r"a\.json:2: is not valid JSON"):
        list(read(str(path)))


BAD = {
    "malformed JSON": '{"messages": [}',
    "not an object": '["messages"]',
    "no messages": '{"text": "x"}',
    "unknown role": '{"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]}',
    "no role": '{"messages": [{"content": "a"}]}',
    "no answer": '{"messages": [{"role": "user", "content": "a"}]}',
    "empty answer": '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
    "unsupported field": '{"messages": [{"role": "assistant", "content": "a", "train_detail": [1]}]}',
    "unsupported content": '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
    "wrong type": '{"messages": "hello"}',
    "duplicate id": '{"id": "a", "messages": [{"role": "assistant", "content": "b"}]}',
    "two system turns": '{"system": "s", "messages": [{"role": "system", "content": "t"}]}',
}
GOOD = '{"id": "a", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_or_counted(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD + "\n" + BAD[reason] + "\n" + GOOD.replace('"a"', '"z"', 1))
    with pytest.raises(DataError, match=r"bad\.jsonl:3") as caught:
        list(read(str(path)))
    assert caught.value.bound
    assert caught.value.cure
    source = read(str(path), on_bad="skip")
    assert [example.id for example in source] == ["a", "z"]
    assert source.counts == {"rows": 2, reason: 1}
    assert [example.id for example in source] == ["a", "z"]
    assert source.counts == {"rows": 2, reason: 1}


MESSAGES_OF_ERRORS = [
    ("unknown role", r"messages\[0\]: role = 'usr': is not known\n  did you mean 'user'\?"),
    ("malformed JSON", r"bad\.jsonl:3, column 15: is not valid JSON"),
    ("no messages", r"columns text: a row of format messages needs messages"),
    ("duplicate id", r"id = 'a': was already used at .*bad\.jsonl:1"),
    ("no answer", r"last turn: user: must be the assistant's"),
]


@pytest.mark.parametrize(("reason", "message"), MESSAGES_OF_ERRORS)
def test_what_an_error_says(tmp_path: Path, reason: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD + "\n" + BAD[reason] + "\n")
    with pytest.raises(DataError, match=message):
        list(read(str(path)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": " "}, "completion: is empty"),
        ({"prompt": "a", "completion": 5}, "must both be text or both messages"),
        ({"prompt": "a", "completion": ["b"]}, "must both be text or both messages"),
        ({"text": "\n"}, "text: is empty"),
        ({"text": ["a"]}, r"text = \['a'\]: must be text"),
        ({"instruction": " ", "output": "a"}, "are both empty"),
        ({"question": "", "answer": "a", "context": " "}, "context and question: are both empty"),
        ({"question": "a", "answer": " "}, "is empty"),
        ({"question": "a", "answer": 5}, "answer = 5: must be text"),
        ({"question": "a", "answer": "b", "context": ["c"]}, "context = .*must be text"),
        ({"instruction": "a", "output": None, "input": "b"}, "needs output|fit no format"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "must be pairs"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"chosen": "b c", "rejected": "d c"}, "begin differently"),
        ({"chosen": MESSAGES, "rejected": [*MESSAGES, *MESSAGES]}, "must be one conversation with two last answers"),
        ({"id": True, "text": "a"}, "id = True"),
        ({"messages": [{"role": "user", "content": None}, *NO]}, r"messages\[0\]\.content = None: must be text"),
        ({"messages": [{"role": "user", "content": "a"}, {**NO[0], "weight": 0.5}]}, "must be 0 or 1"),
        ({"messages": []}, "must be a list of messages"),
        ({"messages": ["hello"]}, "must be an object"),
    ],
)
def test_rows_that_cannot_be_meant(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read(write(tmp_path, [row])))


def test_no_format_fits(tmp_path: Path) -> None:
    path = write(tmp_path, [{"query": "a", "response": "b"}])
    source = read(path)
    with pytest.raises(DataError, match=r"columns query, response: fit no format(.|\n)*prompt: query, completion"):
        list(source)
    assert len(list(read(path, columns={"prompt": "query", "completion": "response"}))) == 1


def test_skipping_finds_the_format_behind_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('oops\n{"other": 1}\n{"text": "a"}\n')
    source = read(str(path), on_bad="skip")
    assert [e.turns[0].text for e in source] == ["a"]
    assert source.counts == {"malformed JSON": 1, "no text": 1, "rows": 1}


def test_files_that_are_no_data(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    cases = [
        (file("empty.jsonl", b""), "is empty"),
        (file("blank.jsonl", b" \n\n"), "is empty"),
        (file("wide.jsonl", '{"text": "a"}'.encode("utf-16")), "UTF-16"),
        (file("latin.jsonl", '{"text": "é"}'.encode("latin-1")), r"latin\.jsonl:1, byte 11: is not UTF-8 \(0xe9\)"),
        (file("latin.json", '[{"text": "é"}]'.encode("latin-1")), "is not UTF-8"),
        (file("latin.txt", "a\n\né".encode("latin-1")), r"latin\.txt:3, byte 1: is not UTF-8"),
        (file("half.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9999)[:-40]), "damaged gzip"),
        (file("half.parquet", b"PAR1 and then nothing"), "damaged Parquet"),
        (file("pretty.json", b'{\n "text": "a"\n}'), "one object over many lines"),
        (file("list.json", b"[]"), "gives no row|fit no format"),
        (file("cut.json", b'[{"text": "a"}, {"te'), r"cut\.json:1: is not valid JSON"),
    ]
    for path, text in cases:
        with pytest.raises(DataError, match=text):
            list(read(path))


def test_all_rows_bad_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = write(tmp_path, [{"text": " "}, {"text": ""}])
    with pytest.raises(DataError, match=r"no row to learn from \(empty text: 2\)"):
        list(read(path, on_bad="skip"))


def test_nothing_there(tmp_path: Path) -> None:
    write(tmp_path, [{"text": "a"}], "train.jsonl")
    with pytest.raises(DataError, match=r"does not exist\n  did you mean 'train.jsonl'"):
        read(str(tmp_path / "trian.jsonl"))
    with pytest.raises(DataError, match="there is no folder"):
        read(str(tmp_path / "nowhere" / "a.jsonl"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="holds no data files"):
        read(str(tmp_path / "sub"))
    with pytest.raises(DataError, match=r"has no split 'test'\n  splits there: train"):
        read(str(tmp_path), split="test")


def test_a_folder_holds_every_kind_of_file_that_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, [{"prompt": "a", "completion": "b"}], "one.jsonl")
    (tmp_path / "two.csv").write_text("prompt,completion\nc,d\n")
    assert [row.turns[-1].text for row in read(str(tmp_path))] == ["b", "d"]


def test_settings_that_cannot_be_meant(tmp_path: Path) -> None:
    path = write(tmp_path, [{"text": "a"}])
    with pytest.raises(UsageError, match=r"format = 'alpca'(.|\n)*'alpaca'"):
        read(path, format="alpca")
    with pytest.raises(UsageError, match="limit = 0"):
        read(path, limit=0)
    with pytest.raises(UsageError, match="on_bad = 'stpo'"):
        read(path, on_bad="stpo")  # type: ignore[arg-type]


def test_a_hub_data_set_offline_and_not_cached_says_what_to_do() -> None:
    source = read("nobody-here/no-such-data")
    with pytest.raises(DataError, match=r"nobody-here/no-such-data(.|\n)*load it once with a connection"):
        _ = source.fingerprint
    with pytest.raises(DataError, match="load it once"):
        list(source)


@pytest.mark.filterwarnings("ignore")
def test_a_hub_data_set_is_pinned_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    write(tmp_path, [{"text": "a"}, {"text": "b"}], "train.jsonl")
    asked = []
    real = datasets.load_dataset_builder

    def builder(path: str, configuration: str | None) -> Any:
        asked.append((path, configuration))
        made = real(str(tmp_path), cache_dir=str(tmp_path / "cache"))
        made.hash = commit
        return made

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    commit = "1" * 40
    source = read("owner/name:english")
    assert [e.turns[0].text for e in source] == ["a", "b"]
    assert [e.id for e in source] == ["owner/name/english:1", "owner/name/english:2"]
    assert source.describe() == "owner/name:english: 2 rows, text (text)"
    assert set(asked) == {("owner/name", "english")}
    first = source.fingerprint
    assert read("owner/name:english").fingerprint == first
    commit = "2" * 40
    assert read("owner/name:english").fingerprint != first
    with pytest.raises(DataError, match="has no split 'dev'"):
        list(read("owner/name:english", split="dev"))


def test_the_fingerprint_follows_content_and_settings(tmp_path: Path) -> None:
    path = write(tmp_path, [{"text": "a", "b": "c"}, {"text": "d", "b": "e"}])
    base = read(path).fingerprint
    assert read(path, name="other").fingerprint == base
    changed = [
        read(path, limit=1),
        read(path, on_bad="skip"),
        read(path, columns={"text": "b"}),
        read(path, format="text"),
    ]
    assert len({base, *(source.fingerprint for source in changed)}) == 5
    same_size = Path(path).read_text().replace("d", "x")
    Path(path).write_text(same_size)
    os.utime(path, ns=(1, 1))
    assert read(path).fingerprint != base


def test_reading_is_lazy_and_streams(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('{"text": "a"}\n' * 30 + "oops\n")
    examples = iter(read(str(path)))
    assert [next(examples).id for _ in range(30)][-1] == "long:30"
    with pytest.raises(DataError, match=r"long\.jsonl:31"):
        next(examples)


def test_files_of_a_folder_keep_their_ids_apart(tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        write(tmp_path / part, [{"text": part}], "rows.jsonl")
    assert [(e.id, e.turns[0].text) for e in read(str(tmp_path))] == [("a/rows:1", "a"), ("b/rows:1", "b")]


def test_written_rows_read_back(tmp_path: Path) -> None:
    chat = (U, Turn("assistant", "Yes.", learn=False), U, A)
    examples = [
        Example("1", "messages", chat, meta={"n": 1}),
        Example("2", "completion", turns("prompt: a", "completion: b")),
        Example("3", "text", turns("text: a")),
        Example("4", "preference", (U, A), (Turn("assistant", "No."),)),
        Example("5", "label", (U, A), label=False),
    ]
    for example in examples:
        _, back = one(tmp_path, row_of(example))
        assert back == example


REAL = [
    ("dolly_2k/train.jsonl.gz", {}, "train.jsonl.gz: 2,000 rows, alpaca (instruction, input, output)"),
    ("hh_harmless_test", {"on_bad": "skip"}, "hh_harmless_test: 1,500 rows, preference (chosen, rejected)"),
    (
        "llamafactory_demo/dpo_zh_demo.jsonl.gz",
        {},
        "dpo_zh_demo.jsonl.gz: 300 rows, preference (chosen, conversations, rejected)",
    ),
    ("llamafactory_demo/kto_en_demo.jsonl.gz", {}, "kto_en_demo.jsonl.gz: 300 rows, label (label, messages)"),
    ("llamafactory_demo/glaive_toolcall_zh_demo.jsonl.gz", {}, "sharegpt (conversations, tools)"),
    ("web_and_wiki_demo/wiki_demo.txt.gz", {}, "wiki_demo.txt.gz: 30 rows, one a line, text (text)"),
    ("gsm8k", {"columns": {"prompt": "question", "completion": "answer"}, "split": "test"}, "gsm8k: 1,319 rows"),
]


@pytest.mark.parametrize(("path", "settings", "description"), REAL)
def test_real_data(real_data: Path, path: str, settings: dict[str, Any], description: str) -> None:
    if not (real_data / path).exists():
        pytest.skip(f"{path} absent")
    source = read(str(real_data / path), **settings)
    assert description in source.describe()
    rows = list(source)
    assert source.counts["rows"] == len(rows) == len({row.id for row in rows})
