"""`mnemos stream serve`: an OpenAI-compatible server whose answers come with a memory, and that takes thumbs.

    POST /v1/chat/completions   as OpenAI's; also with stream: true
    POST /v1/feedback           {"id": "chatcmpl-…", "value": 1 or 0, "source": "who"}
    GET  /v1/models

On the loopback address and with a token unless told otherwise. Bodies, headers, waiting and the number of requests at
once are bounded. The standard library's server, one thread a connection; the model is asked in batches. What a request
says of temperature and top_p is not used: the service's own settings are.
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mnemos.core.errors import MnemosError, RunError
from mnemos.core.nouns import Turn
from mnemos.stream.service import Answered, Refused, Service

MOST_BODY = 4 << 20
"""Bytes of a request."""
MOST_REQUESTS = 64
"""Requests at once; more are told to come again."""
SECONDS = 60.0
"""That a client may be silent."""
MOST_SOURCE = 100
"""Characters of a source."""
ROLES = ("system", "developer", "user", "assistant")


@contextmanager
def one_server(path: Path) -> Iterator[None]:
    """Refuse a second server on the same file. The lock dies with its process."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the file itself: a link to it is another name for the same memory.
    lock = FileLock(f"{path.resolve()}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path}", "is served by another process", "end that one, or name another file") from None
    try:
        yield
    finally:
        lock.release()


def make_server(service: Service, *, host: str, port: int, token: str | None, model: str) -> ThreadingHTTPServer:
    """A server that is not serving yet; port 0 takes any. RunError where the address cannot be had."""
    room = threading.BoundedSemaphore(MOST_REQUESTS)

    class Handler(_Handler):
        pass

    Handler.service, Handler.token, Handler.model, Handler.room = service, token, model, room
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True
        request_queue_size = 128

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise RunError(
            f"{host}:{port}", f"cannot be listened on: {error.strerror or error}", "choose another --port"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    """One connection. protocol 1.1, so that clients keep it."""

    protocol_version = "HTTP/1.1"
    server_version = "mnemos"
    sys_version = ""
    timeout = SECONDS
    service: Service
    token: str | None
    model: str
    room: threading.BoundedSemaphore

    def do_GET(self) -> None:
        """List the one model."""
        self._handled({"/v1/models": lambda: {"object": "list", "data": [{"id": self.model, "object": "model"}]}})

    def do_POST(self) -> None:
        """Answer, or learn."""
        self._handled({"/v1/chat/completions": self._completions, "/v1/feedback": self._feedback})

    def _handled(self, places: Mapping[str, Any]) -> None:
        if not self.room.acquire(blocking=False):
            self._reply(503, _error("too many requests at once; try again", "overloaded"))
            return
        try:
            self._checked()
            found = places.get(self.path.partition("?")[0].rstrip("/"))
            if found is None:
                raise Refused(404, f"there is no {self.path[:100]}")
            reply = found()
            if reply is not None:
                self._reply(200, reply)
        except Refused as error:
            self._reply(error.status, _error(str(error), "invalid_request_error"))
        except MnemosError as error:
            # The model behind, the disk: not the client's fault, and told in words.
            self._reply(502, _error(str(error), "server_error"))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:  # one request must not end as a closed connection without a word
            self._reply(500, _error(f"the request failed: {type(error).__name__}", "server_error"))
        finally:
            self.room.release()

    def _checked(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if self.token is not None and not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refused(401, "wrong or no token; send Authorization: Bearer TOKEN")

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise Refused(411, "a request needs a Content-Length")
        if int(length) > MOST_BODY:
            raise Refused(413, f"a request may have {MOST_BODY:,} bytes")
        try:
            value = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        try:
            # JSON can write half of a surrogate pair, which is no character: no tokenizer and no database takes it.
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused(400, "the body holds half of a surrogate pair, which is no text") from None
        if not isinstance(value, dict):
            raise Refused(400, "the body must be a JSON object")
        return value

    # answers ----------------------------------------------------------------------------

    def _completions(self) -> dict[str, Any] | None:
        body = self._body()
        turns = _turns(body.get("messages"))
        for name in ("tools", "functions"):
            if body.get(name):
                raise Refused(400, f"{name} are not supported here")
        if body.get("n") not in (None, 1):
            raise Refused(400, "n must be 1")
        tokens = body.get("max_completion_tokens", body.get("max_tokens"))
        if tokens is not None and (
            isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 < tokens <= 1 << 20
        ):
            raise Refused(400, "max_tokens must be a positive number")
        answered = self.service.answer(turns, tokens, self._source(body.get("user")))
        if not body.get("stream"):
            return self._whole(answered)
        usage = isinstance(body.get("stream_options"), dict) and bool(body["stream_options"].get("include_usage"))
        self._streamed(answered, usage)
        return None

    def _whole(self, one: Answered) -> dict[str, Any]:
        message = {"role": "assistant", "content": one.text}
        choice = {"index": 0, "message": message, "finish_reason": _reason(one), "logprobs": None}
        return {
            "id": one.id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [choice],
            "usage": _usage(one),
        }

    def _streamed(self, one: Answered, usage: bool) -> None:
        """Server-sent events. The answer is whole before its first piece is sent: it is on disk by then."""
        head = {"id": one.id, "object": "chat.completion.chunk", "created": int(time.time()), "model": self.model}
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": piece}, None) for piece in _pieces(one.text)]
        deltas.append(({}, _reason(one)))
        events = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": why}]} for d, why in deltas]
        if usage:
            events.append({**head, "choices": [], "usage": _usage(one)})
        data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _feedback(self) -> dict[str, Any]:
        body = self._body()
        name, value = body.get("id"), body.get("value")
        if not isinstance(name, str):
            raise Refused(400, "id must be the id of an answer")
        if isinstance(value, bool) or value not in (0, 1):
            raise Refused(400, "value must be 1 or 0")
        return self.service.feedback(name, float(value), self._source(body.get("source")))

    def _source(self, given: object) -> str:
        if given is None:
            return f"address {self.client_address[0]}"
        if not isinstance(given, str) or not given.isprintable() or len(given) > MOST_SOURCE:
            raise Refused(400, f"user and source must be printable, {MOST_SOURCE} characters at most")
        return given

    def _reply(self, status: int, value: Mapping[str, Any]) -> None:
        data = json.dumps(value).encode()
        if status >= 400:
            # What was not read of a body must not be taken for the next request.
            self.close_connection = True
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """No line for each request: prompts of users would stand in somebody's log."""


def _turns(messages: object) -> tuple[Turn, ...]:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list of messages")
    out = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            parts = [
                part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
            ]
            content = None if None in parts else "".join(map(str, parts))
        if role not in ROLES or not isinstance(content, str):
            raise Refused(400, f"each message needs a role of {', '.join(ROLES)} and a text")
        out.append(Turn("system" if role == "developer" else str(role), content))
    return tuple(out)


def _pieces(text: str) -> list[str]:
    """Words with the white space behind them."""
    out, start = [], 0
    for at in range(1, len(text)):
        if text[at - 1].isspace() and not text[at].isspace():
            out.append(text[start:at])
            start = at
    return [*out, text[start:]] if text else []


def _reason(one: Answered) -> str:
    return "stop" if one.finished else "length"


def _usage(one: Answered) -> dict[str, int]:
    return {
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.tokens,
        "total_tokens": one.prompt_tokens + one.tokens,
    }


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
