"""One question to a web server, whatever it does: drip, never end, send a bomb, redirect, speak no JSON.

Every answer has a bound in bytes, counted after unpacking, and a limit in seconds that covers all of it:
connecting, headers, body and further tries, pauses between them apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from mnemos.core.errors import RunError, UsageError, printable
from mnemos.core.progress import counting

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response
    from tenacity import RetryCallState

MOST_BYTES = 64 << 20
"""Of one answer; probabilities of a prompt of 128,000 tokens take about 25 MB."""

MOST_TROUBLE = 1 << 16
"""Bytes that are read of a refusal, to quote its beginning."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, where the server names no time."""

LONGEST_WAIT = 600.0
"""Seconds between two attempts at most, where the server asks for so many (Retry-After)."""

PASSING = frozenset({408, 409, 425, 429})
"""Refusals that may pass by themselves; so may every 5xx."""

T = TypeVar("T")


class _Passing(Exception):  # noqa: N818 - a message between two functions, never shown
    """What may be gone at the next try. wanted: seconds that the server asks for."""

    def __init__(self, trouble: str, wanted: float = 0.0) -> None:
        super().__init__(trouble)
        self.wanted = wanted


class UnansweredError(RunError):
    """A server that gives no answer, though it may be there again later, and another one may answer meanwhile."""


@dataclass(frozen=True)
class Asking:
    """How a server is asked. parallel: requests at once, of each server. attempts: tries of one request. pause: seconds
    before the second try, doubled at each further one. timeout: seconds that one answer may take, all
    tries together. most: bytes of one answer. sleep: how pauses are spent."""

    parallel: int
    attempts: int
    pause: float
    timeout: float
    most: int = MOST_BYTES
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def all(
        self,
        asks: Sequence[Callable[[AsyncClient, Any], Awaitable[T]]],
        jobs: Sequence[Any],
        lost: Callable[[int, UnansweredError], None] = lambda number, error: None,
    ) -> list[T]:
        """Answers in the order of `jobs`; the first failure stops the others and is raised. asks: how each of several
        servers is asked that offer the same. Each is given a job whenever it has a place free. One that gives no answer
        is told to `lost` by its number and asked nothing more; its jobs go to the others, and its error is raised where
        none is left. Works where an event loop runs already (a notebook) because it brings its own, in a thread."""
        from anyio.from_thread import start_blocking_portal

        if not jobs:
            return []
        with start_blocking_portal() as portal:
            return portal.call(self._all, asks, jobs, lost)

    async def _all(
        self,
        asks: Sequence[Callable[[AsyncClient, Any], Awaitable[T]]],
        jobs: Sequence[Any],
        lost: Callable[[int, UnansweredError], None],
    ) -> list[T]:
        found: dict[int, T] = {}
        living = set(range(len(asks)))
        workers = [number for _ in range(min(self.parallel, len(jobs))) for number in living]
        # Not ended by being empty: what a server that is lost gives back has to find somebody.
        todo: asyncio.Queue[int | None] = asyncio.Queue()
        for place in range(len(jobs)):
            todo.put_nowait(place)

        async def work(client: AsyncClient, number: int) -> None:
            while (place := await todo.get()) is not None:
                if number not in living:
                    return todo.put_nowait(place)
                try:
                    found[place] = await asks[number](client, jobs[place])
                except UnansweredError as error:
                    if number in living and len(living) > 1:
                        lost(number, error)
                    living.discard(number)
                    if not living:
                        raise
                    return todo.put_nowait(place)
                count.to(len(found))
                if len(found) == len(jobs):
                    for _ in workers:
                        todo.put_nowait(None)

        with counting(len(jobs)) as count:
            async with self._client(len(asks)) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        for number in workers:
                            group.create_task(work(client, number))
                except BaseExceptionGroup as several:
                    raise several.exceptions[0] from None
        return [found[place] for place in range(len(jobs))]

    def _client(self, servers: int) -> AsyncClient:
        import httpx2

        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError(
                "the environment variable OPENAI_API_KEY", "holds what no key has", "copy the key again, in one line"
            )
        # Only what `bounded` can unpack piece by piece with a bound.
        most = self.parallel * servers
        headers = {"Accept-Encoding": "gzip", **({"Authorization": f"Bearer {key}"} if key else {})}
        try:
            return httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 10.0)),
                limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            )
        except (httpx2.InvalidURL, ValueError, ImportError, OSError) as error:  # a proxy or a certificate
            raise UsageError(
                f"the connection's settings: {excerpt(str(error))}",
                "cannot be used",
                "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None

    async def post(
        self, client: AsyncClient, address: str, body: dict[str, Any], cure: Callable[[int], str]
    ) -> dict[str, Any]:
        """The server's JSON object. cure: what helps against a refusal of some status. RunError names the
        address, what came, the attempts and the cure."""
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        content, spent = json.dumps(body).encode(), 0.0
        tries = AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(_Passing),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            async for one in tries:
                with one:
                    began = time.monotonic()
                    try:
                        return await self._once(client, address, content, cure, self.timeout - spent)
                    finally:
                        # The tries alone: a pause that the server asked for must not use up the time of the answer.
                        spent += time.monotonic() - began
        except _Passing as error:
            raise UnansweredError(
                f"{address}: {error}",
                f"no answer in {self.attempts} attempts",
                "check that the server runs and is not overloaded, then run the same command again: "
                "answers already given are kept",
            ) from None
        raise AssertionError("unreachable")  # pragma: no cover

    def _wait(self, state: RetryCallState) -> float:
        """Growing and jittered, so that many clients do not come back at one moment; or as asked."""
        error = state.outcome.exception() if state.outcome else None
        wanted = error.wanted if isinstance(error, _Passing) else 0.0
        growing: float = self.pause * 2.0 ** (state.attempt_number - 1) * random.uniform(0.5, 1.0)
        return max(wanted, min(LONGEST_PAUSE, growing))

    async def _once(
        self, client: AsyncClient, address: str, content: bytes, cure: Callable[[int], str], left: float
    ) -> dict[str, Any]:
        import httpx2

        headers = {"Content-Type": "application/json"}
        try:
            async with (
                # httpx counts each read on its own, and a server that drips would reset that for ever.
                asyncio.timeout(left),
                client.stream("POST", address, content=content, headers=headers) as response,
            ):
                if response.status_code >= 300:
                    await self._refused(response, address, cure)
                data = await bounded(response, address, self.most)
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout, httpx2.PoolTimeout):
            raise UnansweredError(
                address,
                f"gave no whole answer in {self.timeout:g} s",
                "check that the server is not overloaded or stuck, then run the same command again",
            ) from None
        except httpx2.InvalidURL as error:
            raise UsageError(address, f"is no address ({excerpt(str(error))})", "write http://host:port/v1") from None
        except httpx2.TransportError as error:
            raise _Passing(excerpt(f"{type(error).__name__}: {error}".rstrip(": "))) from None
        return _object(data, address, response.status_code)

    async def _refused(self, response: Response, address: str, cure: Callable[[int], str]) -> None:
        status = response.status_code
        if status < 400:
            place = excerpt(response.headers.get("location", "")) or "nowhere"
            raise RunError(
                address,
                f"redirects (status {status}) to {place}",
                "name the address that answers by itself; most end in /v1",
            )
        text = await bounded(response, address, MOST_TROUBLE, cut=True)
        trouble = f"status {status}: {excerpt(text.decode(errors='replace'))}"
        if status not in PASSING and status < 500:
            raise RunError(address, f"refuses the request ({trouble})", cure(status))
        wanted = seconds(response.headers.get("retry-after", ""))
        if wanted > LONGEST_WAIT:
            raise RunError(
                f"{address}: {trouble}",
                f"asks for a pause of {wanted:,.0f} s, longer than {LONGEST_WAIT:g} s",
                "run the same command again later: answers already given are kept",
            )
        raise _Passing(trouble, wanted)


async def bounded(response: Response, address: str, most: int, cut: bool = False) -> bytes:
    """The body, unpacked, at most so many bytes. cut: end there instead of raising RunError."""
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip"):
        if cut:
            return b""
        raise RunError(address, f"packs its answer as {excerpt(packing)}", "only gzip was asked for; check the proxy")
    unpacker = zlib.decompressobj(wbits=31) if packing.endswith("gzip") else None
    found = bytearray()
    try:
        async for chunk in response.aiter_raw():
            # One byte more than allowed is unpacked, never the whole of a bomb.
            found += unpacker.decompress(chunk, most + 1 - len(found)) if unpacker else chunk
            if len(found) > most:
                break
    except zlib.error:
        raise RunError(address, "sends a damaged gzip answer", "check the server and the proxy before it") from None
    if len(found) > most and not cut:
        raise RunError(
            address, f"sends more than {most:,} bytes for one answer", "check the address, or ask for fewer tokens"
        )
    return bytes(found[:most])


def _object(data: bytes, address: str, status: int) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        text = excerpt(data[:MOST_TROUBLE].decode(errors="replace")) or f"nothing (status {status})"
        raise RunError(
            address, f"answers with something else than a JSON object: {text}", "check the address; most end in /v1"
        )
    return found


def seconds(text: str) -> float:
    """What Retry-After means: a number of seconds or a date; 0 for anything else."""
    try:
        value = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
            value = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError, TypeError):
            return 0.0
    # float("nan") is a number to Python and no time to wait.
    return max(0.0, value) if value == value else 0.0


def excerpt(text: str) -> str:
    """The beginning in one printable line."""
    line = printable(" ".join(text[:4096].split()))
    return line if len(line) <= 200 else line[:199] + "…"
