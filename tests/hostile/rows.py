"""Files of rows in which something is no row, no text, or no end."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.runner import Case, Content
from tests.hostile.studies import BASE, with_keys

SHOW = ("data", "show", "FILE", "--model", "model")
TRAIN = ("run", "study.yaml", "--out", "run", "--quiet")

GOOD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def messages(*turns: Any, **more: Any) -> str:
    """One row of a chat."""
    return json.dumps({"messages": list(turns), **more})


def turn(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    """One turn."""
    return {"role": role, "content": content, **more}


USER, ANSWER = turn("user", "a"), turn("assistant", "b")

LINES: list[tuple[str, str, str]] = [
    ("half of JSON", '{"messages": [', r"rows\.jsonl:2.*not valid JSON"),
    ("a list", "[1, 2]", r"rows\.jsonl:2"),
    ("a number", "7", r"rows\.jsonl:2"),
    ("a text", '"hello"', r"rows\.jsonl:2"),
    ("null", "null", r"rows\.jsonl:2"),
    ("two rows", GOOD + GOOD, r"rows\.jsonl:2.*Extra data"),
    ("a comma too many", GOOD + ",", r"rows\.jsonl:2.*Extra data"),
    ("quotes of Python", "{'text': 'a'}", r"rows\.jsonl:2.*not valid JSON"),
    ("NaN for a text", '{"text": NaN}', r"rows\.jsonl:2"),
    ("half a surrogate pair", '{"text": "\\ud83d"}', r"rows\.jsonl:2.*half of a character"),
    ("half a pair in a key", '{"text": "a", "\\ud83d": 1}', r"rows\.jsonl:2.*half of a character"),
    ("a key twice", '{"text": "a", "text": "b"}', r"rows\.jsonl:2.*'text' twice"),
    ("a number of 5,000 digits", '{"text": "a", "n": ' + "7" * 5000 + "}", r"rows\.jsonl:2.*5,000 digits"),
    ("lists 600 deep", '{"text": "a", "x": ' + "[" * 600 + "]" * 600 + "}", r"rows\.jsonl:2.*nested"),
    ("lists 100,000 deep", '{"text": ' + "[" * 100_000, r"rows\.jsonl:2.*nested"),
    ("objects 100,000 deep", '{"a":' * 100_000, r"rows\.jsonl:2.*nested"),
    ("no column of ours", '{"frage": "a", "antwort": "b"}', r"rows\.jsonl:2"),
    ("no message", messages(), r"rows\.jsonl:2"),
    ("messages of a text", '{"messages": "hello"}', r"rows\.jsonl:2"),
    ("messages of numbers", messages(1, 2), r"rows\.jsonl:2"),
    ("messages of null", '{"messages": null}', r"rows\.jsonl:2"),
    ("a role of nobody", messages(turn("wizard", "a"), ANSWER), r"rows\.jsonl:2.*wizard"),
    ("a role with an escape code", messages(turn("\x1b[2Juser", "a"), ANSWER), r"rows\.jsonl:2.*x1b"),
    ("a role that is a list", messages(turn(["user"], "a"), ANSWER), r"rows\.jsonl:2"),
    ("no role", messages({"content": "a"}, ANSWER), r"rows\.jsonl:2"),
    ("no content", messages({"role": "user"}, ANSWER), r"rows\.jsonl:2"),
    ("a content of a number", messages(turn("user", 7), ANSWER), r"rows\.jsonl:2"),
    ("a content of null", messages(turn("user", None), ANSWER), r"rows\.jsonl:2"),
    ("an empty answer", messages(USER, turn("assistant", "")), r"rows\.jsonl:2"),
    ("nobody who answers", messages(USER), r"rows\.jsonl:2"),
    ("a picture", messages(turn("user", [{"type": "image_url", "image_url": {"url": "x"}}]), ANSWER), r"rows\.jsonl:2"),
    ("images beside the messages", messages(USER, ANSWER, images=["a.png"]), r"rows\.jsonl:2.*images"),
    ("tools that are a number", messages(USER, ANSWER, tools=7), r"rows\.jsonl:2.*tools"),
    ("tools that are broken JSON", messages(USER, ANSWER, tools="[{"), r"rows\.jsonl:2.*tools"),
    ("a call of no name", messages(USER, turn("assistant", None, tool_calls=[{"x": 1}])), r"rows\.jsonl:2"),
    ("a weight of a text", messages(USER, turn("assistant", "b", weight="heavy")), r"rows\.jsonl:2.*weight"),
    ("a weight below 0", messages(USER, turn("assistant", "b", weight=-1)), r"rows\.jsonl:2.*weight"),
    ("a loss that is maybe", messages(USER, turn("assistant", "b", loss="maybe")), r"rows\.jsonl:2.*loss"),
    ("an id of a list", messages(USER, ANSWER, id=[1]), r"rows\.jsonl:2.*id"),
    ("the id of the row before", messages(USER, ANSWER, id="x"), r"rows\.jsonl:2.*'x'"),
    ("a row of 17 MB", messages(turn("user", "a" * (17 << 20)), ANSWER), r"rows\.jsonl:2.*longer than 16 MiB"),
    ("a row of 110 MB", '{"text": "' + "a" * (110 << 20) + '"}', r"rows\.jsonl:2.*longer than 16 MiB"),
    ("110 MB without a line end", "a" * (110 << 20), r"rows\.jsonl:2.*longer than 16 MiB"),
]

FIRST = messages(USER, ANSWER, id="x")


def line_files(line: str) -> Mapping[str, Content]:
    """A study whose second row is the line; the first is good."""
    return {"rows.jsonl": f"{FIRST}\n{line}\n{GOOD}\n", "study.yaml": with_keys("teach: {data: rows.jsonl}")}


SHAPES: list[tuple[str, str, str]] = [
    ("preferences of nothing", '{"prompt": "a", "chosen": "b"}', r"rows\.jsonl:1|fit no format"),
    ("a choice of the same", '{"prompt": "a", "chosen": "b", "rejected": "b"}', r"rows\.jsonl:1"),
    ("turns of nobody", '{"conversations": [{"from": "wizard", "value": "a"}, {"from": "gpt", "value": "b"}]}',
     r"rows\.jsonl:1.*wizard"),
    ("turns of a number", '{"conversations": 7}', r"rows\.jsonl:1"),
    ("an instruction of a list", '{"instruction": ["a"], "output": "b"}', r"rows\.jsonl:1.*instruction"),
    ("an empty text", '{"text": ""}', r"rows\.jsonl:1"),
    ("a text of white space", '{"text": "  \\n "}', r"rows\.jsonl:1"),
    ("a text of an object", '{"text": {"a": 1}}', r"rows\.jsonl:1"),
    ("columns of nobody", '{"eins": "a", "zwei": "b"}', r"eins.*fit no format"),
    ("columns with an escape code", '{"\\u001b[2Jeins": "a"}', r"x1b.*fit no format"),
    ("no column", "{}", r"rows\.jsonl"),
    ("a column of 100,000 letters", json.dumps({"k" * 100_000: "a"}), r"kkk"),
    ("100,000 columns", json.dumps({f"k{i}": 1 for i in range(100_000)}), r"k0"),
]  # fmt: skip


def gz(data: bytes) -> bytes:
    """Packed."""
    return gzip.compress(data, 9, mtime=0)


def bomb(path: Path) -> None:
    """Three gigabytes of a row in three megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"a" * (16 << 20)
    with open(path, "wb") as file:
        for _ in range(200):
            file.write(packer.compress(block))
        file.write(packer.flush())


def parquet(columns: Mapping[str, Any]) -> Callable[[Path], None]:
    """A Parquet file of these columns."""

    def act(path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path)

    return act


def damaged(make: Callable[[Path], None], at: float) -> Callable[[Path], None]:
    """The file with 40 bytes overwritten, at a share of its length."""

    def act(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        start = min(int(len(data) * at), len(data) - 40)
        data[start : start + 40] = b"\xff" * 40
        path.write_bytes(bytes(data))

    return act


def wide(as_stored: bool) -> Callable[[Path], None]:
    """A dictionary of one text of 20 MB, that a thousand rows name. as_stored: whether readers are told so."""

    def act(path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        names = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000), pyarrow.array(["a" * (20 << 20)]))
        table = pyarrow.table({"text": names})
        pyarrow.parquet.write_table(table, path, store_schema=as_stored, compression="zstd")

    return act


def zipped(path: Path) -> None:
    """An archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", GOOD)


def sqlite(path: Path) -> None:
    """A database."""
    with sqlite3.connect(path) as base:
        base.execute("create table t (x)")
    base.close()


def deep_folder(path: Path) -> None:
    """Folders within folders, with nothing in them."""
    path.joinpath(*["d"] * 200).mkdir(parents=True)


def circle(path: Path) -> None:
    """A folder that holds itself."""
    path.mkdir()
    (path / "again").symlink_to(path.resolve(), target_is_directory=True)


TEXTS = parquet({"text": [f"text {i}" for i in range(500)]})
PARTS = io.BytesIO(b"PAR1" + struct.pack("<I", 1 << 30) + b"PAR1").getvalue()

FILES: list[tuple[str, str, Content, str]] = [
    ("nothing", "r.jsonl", b"", r"r\.jsonl.*is empty"),
    ("line ends", "r.jsonl", b"\n\n  \n", r"r\.jsonl.*is empty|gives no row"),
    ("NULs", "r.jsonl", b"\0" * 100_000, r"r\.jsonl"),
    ("a million line ends and a NUL", "r.jsonl", b"\n" * 1_000_000 + b"\0", r"r\.jsonl"),
    ("UTF-16", "r.jsonl", GOOD.encode("utf-16"), r"r\.jsonl.*UTF-16"),
    ("UTF-32", "r.jsonl", GOOD.encode("utf-32"), r"r\.jsonl"),
    ("Latin-1", "r.jsonl", '{"text": "café"}'.encode("latin-1"), r"r\.jsonl.*UTF-8"),
    ("a picture", "r.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, r"r\.jsonl"),
    ("an archive", "r.jsonl", zipped, r"r\.jsonl"),
    ("a database", "r.jsonl", sqlite, r"r\.jsonl"),
    ("a page of the web", "r.jsonl", "<!DOCTYPE html><html></html>", r"r\.jsonl"),
    ("a table", "r.csv", "prompt,completion\na,b\n", r"r\.csv"),
    ("a pickle", "r.pkl", b"\x80\x04\x95", r"r\.pkl"),
    ("a pipe", "r.jsonl", os.mkfifo, r"r\.jsonl.*pipe"),
    ("a loop of links", "r.jsonl", lambda path: path.symlink_to(path.name), r"r\.jsonl"),
    ("a broken link", "r.jsonl", lambda path: path.symlink_to("gone"), r"r\.jsonl"),
    ("zeros without end", "r.jsonl", lambda path: path.symlink_to("/dev/zero"), r"/dev/zero.*device"),
    ("three gigabytes packed", "r.jsonl.gz", bomb, r"r\.jsonl\.gz.*times its size"),
    ("half a packed file", "r.jsonl.gz", gz(GOOD.encode() * 99)[:40], r"r\.jsonl\.gz.*damaged"),
    ("a packed file of garbage", "r.jsonl.gz", b"\x1f\x8b" + b"\xff" * 99, r"r\.jsonl\.gz.*damaged"),
    ("packed nothing", "r.jsonl.gz", gz(b""), r"r\.jsonl\.gz.*is empty"),
    ("packed twice", "r.jsonl.gz", gz(gz(GOOD.encode())), r"r\.jsonl\.gz"),
    ("an array cut short", "r.json", f"[{GOOD}, {GOOD}", r"r\.json.*ends within"),
    ("an array of two arrays", "r.json", f"[{GOOD}][{GOOD}]", r"r\.json.*behind the end"),
    ("an array of numbers", "r.json", "[1, 2]", r"r\.json:1"),
    ("an array of nothing", "r.json", "[]", r"r\.json"),
    ("an array without commas", "r.json", f"[{GOOD}\n{GOOD}]", r"r\.json:2"),
    ("an array 100,000 deep", "r.json", "[" * 100_000, r"r\.json.*nested"),
    ("an array of one text of 110 MB", "r.json", '["' + "a" * (110 << 20) + '"]', r"r\.json.*longer"),
    ("one object over lines", "r.json", json.dumps({"text": "a", "more": [1]}, indent=1), r"r\.json"),
    ("Parquet of nothing", "r.parquet", b"PAR1", r"r\.parquet.*damaged"),
    ("Parquet of a lying end", "r.parquet", PARTS, r"r\.parquet.*damaged"),
    ("Parquet damaged in its middle", "r.parquet", damaged(TEXTS, 0.3), r"r\.parquet"),
    ("Parquet damaged at its end", "r.parquet", damaged(TEXTS, 0.95), r"r\.parquet"),
    ("Parquet of numbers", "r.parquet", parquet({"text": [1, 2]}), r"r\.parquet"),
    ("Parquet of nulls", "r.parquet", parquet({"text": ["a", None]}), r"r\.parquet"),
    ("Parquet of bytes", "r.parquet", parquet({"text": [b"\xff\xfe"]}), r"r\.parquet"),
    ("Parquet of no row", "r.parquet", parquet({"text": []}), r"r\.parquet"),
    ("Parquet of other columns", "r.parquet", parquet({"eins": ["a"]}), r"eins.*fit no format"),
    ("Parquet of one text a thousand times", "r.parquet", wide(True), r"r\.parquet.*longer than 16 MiB"),
    ("Parquet of 20 GB in a kilobyte", "r.parquet", wide(False), r"r\.parquet"),
    ("a folder of nothing", "r", Path.mkdir, r"holds no data files"),
    ("folders 200 deep", "r", deep_folder, r"holds no data files"),
    ("a folder that holds itself", "r", circle, r"holds no data files"),
    ("a text of line ends", "r.txt", b"\n\n\n", r"r\.txt.*is empty|gives no row"),
    ("a text in Latin-1", "r.txt", "café".encode("latin-1"), r"r\.txt.*UTF-8"),
    ("a text of one line of 110 MB", "r.txt", b"a" * (110 << 20), r"r\.txt.*longer than 16 MiB"),
]


def cases() -> list[Case]:
    """All of them."""
    out = [Case(f"a row of {name}", says, TRAIN, line_files(line)) for name, line, says in LINES]
    for name, line, says in SHAPES:
        files: Mapping[str, Content] = {"rows.jsonl": f"{line}\n", "study.yaml": with_keys("teach: {data: rows.jsonl}")}
        out.append(Case(f"rows of {name}", says, TRAIN, files))
    for name, place, content, says in FILES:
        words = tuple(place if word == "FILE" else word for word in SHOW)
        out.append(Case(f"a file of {name}", says, words, {place: content, "study.yaml": BASE}))
    return [replace(case, fails=UNMENDED.get(case.name, "")) for case in out]


UNMENDED: dict[str, str] = {}
