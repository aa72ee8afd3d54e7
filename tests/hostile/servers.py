"""Servers on loopback that do what servers should not, asked by a judge of pairs; and addresses of none."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tests.hostile.runner import Case, Content
from tests.models.test_transport import OPEN, Act, drips, pours, sends

PAIRS = "".join(json.dumps({"prompt": f"q{i}", "chosen": "yes", "rejected": "no"}) + "\n" for i in range(1))
JUDGE = ("reward", "judge", "pairs.jsonl", "--out", "judged.jsonl", "--set", "verdict=text", "--judge")
FILES: Mapping[str, Content] = {"pairs.jsonl": PAIRS}


@dataclass(frozen=True)
class Served:
    """A case and what its server does at each connection; None for no server."""

    case: Case
    act: Act | None = None


def chat(content: Any, **more: Any) -> bytes:
    """A reply as it should be, but for its content and what is added."""
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], **more}).encode()


def hangs_up(connection: socket.socket, done: threading.Event) -> None:
    """Say nothing."""


def waits(connection: socket.socket, done: threading.Event) -> None:
    """Say nothing, for as long as it is let."""
    done.wait(60)


def halves(connection: socket.socket, done: threading.Event) -> None:
    """Promise more than is sent."""
    connection.sendall(OPEN + b"content-length: 1000\r\n\r\n" + b'{"choices"')


@cache
def bomb() -> bytes:
    """300 MB in 300 kB."""
    return gzip.compress(b" " * 300_000_000)


def later(make: Callable[[], bytes], *answer: str) -> Act:
    """Send what is made when it is asked for: it is large."""
    return lambda connection, done: sends(make(), *answer)(connection, done)


PACKED = ("200 OK", "content-encoding: gzip")
CHUNKS = b"transfer-encoding: chunked\r\n\r\n"
LENGTH = b"content-length: 99999999999999\r\n\r\n"
BUCKET = b"10000\r\n" + b" " * 65536 + b"\r\n"
DEEP = b"[" * 100_000

REPLIES: list[tuple[str, bytes | Callable[[], bytes], str]] = [
    ("nothing", b"", r"JSON object: nothing"),
    ("a word", b"hello", r"JSON object: hello"),
    ("a list", b"[]", r"JSON object"),
    ("a number", b"7", r"JSON object"),
    ("half of JSON", chat("a")[:-3], r"JSON object"),
    ("two objects", chat("a") * 2, r"JSON object"),
    ("lists 100,000 deep", DEEP, r"JSON object"),
    ("objects 100,000 deep", b'{"a":' * 100_000, r"JSON object"),
    ("a number of 6,000 digits", b'{"choices": ' + b"9" * 6000 + b"}", r"JSON object"),
    ("no text", b"\xff\xfe\x00", r"JSON object"),
    ("a page of the web", b"<!DOCTYPE html><html>\x1b[31m</html>", r"JSON object: <!DOCTYPE html><html>\\x1b\[31m"),
    ("a turned word", "{\u202e\u2066".encode(), r"u202e"),
    ("an empty object", b"{}", r"gives no answer"),
    ("no choice", b'{"choices": []}', r"gives no answer"),
    ("choices of an object", b'{"choices": {"0": {}}}', r"gives no answer"),
    ("choices of numbers", b'{"choices": [7]}', r"gives no answer"),
    ("an error of escape codes", b'{"error": "\\u001b[2J\\u202eevil"}', r"gives no answer"),
    ("an error of 60 MB", lambda: b'{"error": "' + b"x" * (60 << 20) + b'"}', r"gives no answer"),
    ("no message", b'{"choices": [{}]}', r"message = None"),
    ("a message of null", b'{"choices": [{"message": null}]}', r"message = None"),
    ("a message of a text", b'{"choices": [{"message": "hi"}]}', r"message = 'hi'"),
    ("a content of a number", chat(17), r"content = 17"),
    ("a content of an object", chat({"text": "a"}), r"content = \{"),
    ("a content of pictures", chat([{"type": "image_url", "image_url": {"url": "x"}}]), r"part of the content"),
    ("a content of null parts", chat([None]), r"part of the content"),
    ("NaN tokens", chat("a", usage={"completion_tokens": float("nan")}), r"completion_tokens = nan"),
    ("infinite tokens", chat("a", usage={"completion_tokens": float("inf")}), r"completion_tokens = inf"),
    ("tokens below 0", chat("a", usage={"completion_tokens": -3}), r"completion_tokens = -3"),
    ("tokens in words", chat("a", usage={"completion_tokens": "many"}), r"completion_tokens = 'many'"),
    ("tokens that are true", chat("a", usage={"completion_tokens": True}), r"completion_tokens = True"),
    ("tokens of 10**30", chat("a", usage={"completion_tokens": 10**30}), r"completion_tokens = 10{30}"),
    ("a silent judge", chat(""), r"verdict"),
    ("a judge of escape codes", chat("\x1b[2J\u202e"), r"verdict"),
    ("a judge of half a letter", b'{"choices": [{"message": {"content": "\\ud83d"}}]}', r"verdict"),
    ("a judge of 5 MB", lambda: chat("maybe " * 900_000), r"verdict"),
    ("100 MB", lambda: b" " * (100 << 20), r"more than 67,108,864 bytes"),
]

STATUSES: list[tuple[str, str, tuple[str, ...], str]] = [
    ("not found", "404 Not Found", (), r"status 404"),
    ("forbidden", "403 Forbidden", (), r"status 403"),
    ("no key", "401 Unauthorized", (), r"status 401"),
    ("too long a prompt", "400 Bad Request", (), r"status 400"),
    ("a teapot", "418 I'm a teapot", (), r"status 418"),
    ("a status of 999", "999 What", (), r"."),
    ("elsewhere", "302 Found", ("location: http://127.0.0.1:9/\x1b[2J",), r"redirects|RemoteProtocolError"),
    ("elsewhere in a circle", "307 Temporary Redirect", ("location: /v1/chat/completions",), r"redirects"),
    ("elsewhere, nowhere", "301 Moved", (), r"redirects .*nowhere"),
    ("later, in a year", "429 Too Many Requests", ("retry-after: 31536000",), r"pause of 31,536,000 s"),
    ("later, at the end of time", "503 Unavailable", ("retry-after: Fri, 31 Dec 9999 23:59:59 GMT",), r"pause of"),
    ("packed by somebody's own", "200 OK", ("content-encoding: br",), r"packs its answer as br"),
    ("packed twice", "200 OK", ("content-encoding: gzip, gzip",), r"packs its answer as gzip, gzip"),
    ("packed and damaged", *("200 OK", ("content-encoding: gzip",)), r"damaged gzip"),
]

ACTS: list[tuple[str, Act, str]] = [
    ("drips", drips(OPEN + b"content-length: 1000000\r\n\r\n", b" "), r"no whole answer in 2 s"),
    ("drips in chunks", drips(OPEN + CHUNKS, b"1\r\n \r\n"), r"no whole answer in 2 s"),
    ("drips its headers", drips(b"HTTP/1.1 200 OK\r\nx-slow: ", b"a"), r"no whole answer in 2 s"),
    ("drips that it goes on", drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), r"no whole answer in 2 s"),
    ("drips a refusal", drips(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 999999\r\n\r\n", b"x"), r"no whole answer"),
    ("waits", waits, r"no whole answer in 2 s"),
    ("hangs up", hangs_up, r"no (whole )?answer"),
    ("sends half", halves, r"no (whole )?answer"),
    ("pours without end", pours(OPEN + LENGTH, BUCKET), r"more than 67,108,864 bytes|no whole answer"),
    ("pours chunks without end", pours(OPEN + CHUNKS, BUCKET), r"more than 67,108,864 bytes|no whole answer"),
    ("pours headers without end", pours(b"HTTP/1.1 200 OK\r\nx-long: ", b"a" * 65536), r"no (whole )?answer"),
    ("speaks another tongue", sends(b"", "\x00\x01"), r"no (whole )?answer"),
    ("sends a bomb", later(bomb, *PACKED), r"more than 67,108,864 bytes"),
    ("sends a bomb in a bomb", later(lambda: gzip.compress(bomb()), *PACKED), r"JSON object|bytes"),
    ("sends a bomb as a refusal", later(bomb, "400 Bad Request", "content-encoding: gzip"), r"status 400"),
]  # fmt: skip

ADDRESSES: list[tuple[str, str, str]] = [
    ("no name", "http://127.0.0.1:9/v1", r"names no model's name"),
    ("no host", "http:///v1#m", r"names no host"),
    ("a port of words", "http://127.0.0.1:port/v1#m", r"is no address"),
    ("a port beyond", "http://127.0.0.1:99999/v1#m", r"is no address"),
    ("a space", "http://127.0.0.1:9/v 1#m", r"is no address"),
    ("an escape code", "http://127.0.0.1:9/\x1b[2J#m", r"is no address"),
    ("a host of 300 letters", f"http://{'h' * 300}/v1#m", r"is no address"),
    ("a password", "http://me:secret@127.0.0.1:9/v1#m", r"has a user name or password"),
    ("a host that is half a bracket", "http://[::1/v1#m", r"is no address"),
    ("nobody who listens", "http://127.0.0.1:9/v1#m", r"127\.0\.0\.1:9.*(no answer|reached|refused)"),
]

SETTINGS: list[tuple[str, Mapping[str, str], str]] = [
    ("a time in words", {"MNEMOS_SERVER_SECONDS": "long"}, r"MNEMOS_SERVER_SECONDS = long"),
    ("a time below 0", {"MNEMOS_SERVER_SECONDS": "-1"}, r"MNEMOS_SERVER_SECONDS = -1"),
    ("a time that is none", {"MNEMOS_SERVER_SECONDS": "nan"}, r"MNEMOS_SERVER_SECONDS = nan"),
    ("a key of two lines", {"OPENAI_API_KEY": "a\nb"}, r"OPENAI_API_KEY"),
    ("a key of no letters", {"OPENAI_API_KEY": "schlüssel"}, r"OPENAI_API_KEY"),
    ("a proxy that is none", {"HTTP_PROXY": "::nonsense::", "http_proxy": "::nonsense::"}, r"HTTP_PROXY"),
    ("certificates of nothing", {"SSL_CERT_FILE": "gone.pem"}, r"SSL_CERT_FILE"),
]

PATIENCE = {"MNEMOS_SERVER_SECONDS": "2"}
"""Time enough for bytes, and not for drips."""


def cases() -> list[Served]:
    """All of them. {url} in a command line is the address of the case's server."""
    words = (*JUDGE, "{url}#m")

    def asked(name: str, says: str, act: Act, seconds: str = "60") -> Served:
        return Served(Case(name, says, words, FILES, env={"MNEMOS_SERVER_SECONDS": seconds}), act)

    out = []
    for name, body, says in REPLIES:
        act = sends(body) if isinstance(body, bytes) else later(body)
        out.append(asked(f"a server that answers {name}", says, act))
    for name, status, headers, says in STATUSES:
        out.append(asked(f"a server that says {name}", says, sends(b"\x1b[2Jno", status, *headers)))
    for name, act, says in ACTS:
        seconds = "60" if "bytes" in says or "status" in says else "2"
        out.append(asked(f"a server that {name}", says, act, seconds))
    for name, address, says in ADDRESSES:
        out.append(Served(Case(f"an address of {name}", says, (*JUDGE, address), FILES, env=PATIENCE)))
    for name, env, says in SETTINGS:
        out.append(Served(Case(f"a setting of {name}", says, words, FILES, env=env), sends(chat("(A)"))))
    return [replace(one, case=replace(one.case, fails=UNMENDED.get(one.case.name, ""))) for one in out]


UNMENDED: dict[str, str] = {}
