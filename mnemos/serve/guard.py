"""What every request passes: who may ask, how much may be sent, and what a browser may do with the answer.

The page is for one person, or several on one machine. Its address holds a token that is drawn at the start; a browser
keeps it as a cookie that scripts cannot read and other sites cannot send. What changes anything must also bring a
second token, which stands in the pages themselves, so that no other site can forge it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 256 << 10
"""Bytes of a request's body."""

MOST_FIELDS = 100
HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a loopback address may be asked for: any other is a name that somebody pointed here."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
"""Of a report: a file with its own style, whose forms, links to frames and scripts do nothing."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
TOO_LARGE = f"A request may hold {MOST_BODY >> 10} KiB.\n"
UNKNOWN = "This address needs the token that `mnemos serve` printed. Open the whole address that it printed.\n"


class TooLargeError(Exception):
    """A body beyond MOST_BODY; the application answers it."""


@dataclass(frozen=True)
class Keys:
    """token: what a browser must show. cookie: under which name it keeps it; one a server, or two on one machine would
    sign each other out: cookies know no ports."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    cookie: str = field(default_factory=lambda: f"mnemos-{secrets.token_hex(4)}")

    @property
    def form(self) -> str:
        """What a form must bring. Not the token itself, which never stands in a page."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()

    def opens(self, given: str) -> bool:
        """Whether it is the token; takes as long for a wrong one."""
        return hmac.compare_digest(self.token.encode(), given.encode("utf-8", "replace"))

    def signs(self, given: str) -> bool:
        """Whether it is what a form must bring."""
        return hmac.compare_digest(self.form.encode(), given.encode("utf-8", "replace"))


class Guard:
    """The application behind its door."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._refusal(scope, headers)
        sender = _with_headers(send)
        if answer is not None:
            await answer(scope, receive, sender)
            return
        await self.app(scope, _bounded(receive), sender)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> PlainTextResponse | RedirectResponse | None:
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            return PlainTextResponse("This server answers to its own address alone.\n", 400)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY:
            return PlainTextResponse(TOO_LARGE, 413)
        if scope["path"].startswith("/static/"):
            return None  # holds nothing of anybody's
        if self._known(headers):
            return None if scope["method"] in ("GET", "HEAD") else self._foreign(headers)
        return self._entering(scope)

    def _known(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if given and self.keys.opens(given):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.keys.cookie)
        except CookieError:
            return False
        return found is not None and self.keys.opens(found.value)

    def _entering(self, scope: Scope) -> PlainTextResponse | RedirectResponse:
        """A visitor with the token in the address gets the cookie, and the address without it."""
        try:
            query = parse_qsl(scope["query_string"].decode("ascii", "replace"), max_num_fields=MOST_FIELDS)
        except ValueError:
            query = []
        given = dict(query).get("token", "")
        if scope["method"] != "GET" or not given or not self.keys.opens(given):
            return PlainTextResponse(UNKNOWN, 401)
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # A path of its own, never "//somewhere": the browser must come back here.
        path = "/" + scope["path"].lstrip("/\\")
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        answer.set_cookie(self.keys.cookie, self.keys.token, httponly=True, samesite="strict", path="/")
        return answer

    def _foreign(self, headers: Mapping[str, str]) -> PlainTextResponse | None:
        """Whether a page of another site sends this. The second token is looked at where the body is read."""
        origin = headers.get("origin")
        if origin not in (None, "null") and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("This request comes from a page of another site.\n", 403)
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("This request comes from a page of another site.\n", 403)
        return None


def _bounded(receive: Receive) -> Receive:
    """The same messages, up to MOST_BODY bytes of them: a length in the header may be a lie, or absent."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY:
            raise TooLargeError
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("content-security-policy", POLICY)
        await send(message)

    return sender
