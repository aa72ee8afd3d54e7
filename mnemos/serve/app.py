"""The page as a web application: what each address shows, and what a form or a script may send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.measure.votes import Vote
from mnemos.serve import look, places, voting
from mnemos.serve.answers import answers_page, files_of
from mnemos.serve.chat import Chat, Loader, load, models_in, question, read_body
from mnemos.serve.guard import MOST_FIELDS, REPORT_POLICY, TOO_LARGE, Guard, Keys, TooLargeError
from mnemos.serve.live import live, version
from mnemos.serve.places import RESULTS, AbsentError, Run
from mnemos.serve.runs import run_page, runs_page
from mnemos.serve.served import Served
from mnemos.serve.summary import results_of
from mnemos.serve.vote import start_page, tally_page, vote_page

EVERY = 0.5
"""Seconds between two looks at a run's files."""

BEAT = 15.0
"""Seconds after which a silent stream says that it is there."""

MOST_STREAMS = 64
"""Browsers that may watch at once."""

Shown = Mapping[str, Any]


class Page:
    """What lies behind every address."""

    def __init__(self, served: Served, keys: Keys, loader: Loader = load) -> None:
        self.served, self.keys = served, keys
        self.chat = Chat(loader)
        self.streams = 0

    # what is asked for ----------------------------------------------------------------------

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page. run: the run that it is about, where there is one."""
        about = {"run": None, "here": "", "form": self.keys.form, "folder": self.served.root.name, **values}
        return HTMLResponse(look.environment().get_template(template).render(about), status)

    def page(self, build: Callable[[Served, Mapping[str, str]], tuple[str, Shown]]) -> Callable[[Request], Response]:
        """An address that shows what `build` makes of its query: a template and its values."""

        def answer(request: Request) -> Response:
            template, values = build(self.served, dict(request.query_params))
            return self.show(template, **values)

        return answer

    def report(self, request: Request) -> Response:
        """The report of a run, made of its results again: no file of the run is handed to the browser as it is."""
        from mnemos.report import render

        run = self.served.run(request.query_params)
        text = render(results_of(run.path / RESULTS), "html")
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY})

    async def vote(self, request: Request) -> Response:
        """A form with a vote: kept, and the next pair shown."""
        form = await self.form(request)
        return await run_in_threadpool(self._vote, form)

    def _vote(self, form: Mapping[str, str]) -> Response:
        run = self.served.run(form)
        rater = voting.rater_named(form.get("rater", ""))
        names = [form.get(name, "") for name in ("a", "b")]
        suite, item = form.get("suite", ""), form.get("item", "")
        files = files_of(self.served, run, names[0], names[1], suite)
        contest = voting.Contest.of(run.id, self.served.index.about(files[0])[0], *names)
        if len(self.served.index.pairs(*files, [item])) != 1:
            raise AbsentError(f"item {item[:200]!r}", "was not answered by both", "vote on what is shown")
        first = voting.shown_first(contest, item, rater, self.served.seed)
        verdict = voting.verdict_of(form.get("choice", ""), first)
        # A form writes line ends its own way.
        reason = form.get("reason", "").replace("\r\n", "\n").strip()
        self.served.votes.add(
            Vote(contest.run, contest.suite, item, contest.model_a, contest.model_b, first, verdict, reason, rater)
        )
        return RedirectResponse(look.link("/vote", run=run.id, suite=suite, a=names[0], b=names[1], rater=rater), 303)

    async def ask(self, request: Request) -> Response:
        """A question to one or two models, answered by a stream of lines."""
        body = read_body(await request.body())
        if not self.keys.signs(request.headers.get("x-form-token", "")):
            raise ForgedError
        name = body.get("run")
        run = places.run_named(self.served.root, name if isinstance(name, str) else "")
        asked = await run_in_threadpool(question, self.served.root, run, body)
        return StreamingResponse(await self.chat.answer(asked), media_type="application/x-ndjson")

    async def events(self, request: Request) -> Response:
        """Server-sent events: one whenever a run's files, or the votes, have changed."""
        run = self.served.run(request.query_params) if "run" in request.query_params else None
        if self.streams >= MOST_STREAMS:
            return PlainTextResponse("Too many pages are watching; close some.\n", 503)
        return StreamingResponse(self._changes(run), media_type="text/event-stream")

    async def _changes(self, run: Run | None) -> AsyncIterator[str]:
        self.streams += 1
        try:
            last, spoke = "", time.monotonic()
            yield "retry: 2000\n\n"
            while True:
                now = await run_in_threadpool(self._version, run)
                if now != last:
                    yield f"event: changed\ndata: {fingerprint(now)}\n\n"
                    last, spoke = now, time.monotonic()
                elif time.monotonic() - spoke > BEAT:
                    # Also what looks at a run whose process is gone without a word: its page is made again.
                    yield "event: beat\ndata: -\n\n"
                    spoke = time.monotonic()
                await asyncio.sleep(EVERY)
        finally:
            self.streams -= 1

    def _version(self, run: Run | None) -> str:
        found = [
            f"{votes}" for votes in (_stamp(self.served.votes.path), _stamp(Path(f"{self.served.votes.path}-wal")))
        ]
        shown = [run] if run is not None else places.runs(self.served.root)[:50]
        return " ".join([*found, *(version(one.path) for one in shown), *(live(one.path).state for one in shown)])

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form that was sent. Raises ForgedError where it did not stand in a page of this server."""
        try:
            fields = parse_qs((await request.body()).decode("utf-8"), max_num_fields=MOST_FIELDS, strict_parsing=False)
        except ValueError as error:
            raise UsageError("the form", f"cannot be read ({error})", "send it from the page") from None
        found = {name: values[0] for name, values in fields.items()}
        if not self.keys.signs(found.get("form", "")):
            raise ForgedError
        return found

    # what goes wrong --------------------------------------------------------------------------

    def explained(self, request: Request, error: Exception) -> Response:
        """A page that says what went wrong."""
        assert isinstance(error, MnemosError)
        twice = isinstance(error, DataError) and "has voted on" in error.bound
        status = 404 if isinstance(error, AbsentError) else 409 if twice else 400
        if request.url.path == "/ask":
            return PlainTextResponse(f"{error}\n", status)
        again = str(request.url.path) if request.method == "GET" else ""
        return self.show("error.html", status, error=error, again=again, twice=twice)


class ForgedError(Exception):
    """A request that no page of this server made."""


def _forged(request: Request, error: Exception) -> Response:
    return PlainTextResponse(
        "This form is not from a page of this server, or from one of an earlier start: load it again.\n", 403
    )


def _too_large(request: Request, error: Exception) -> Response:
    return PlainTextResponse(TOO_LARGE, 413)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


def _stamp(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "page.css":
        return Response(look.stylesheet(), media_type="text/css")
    if name == "page.js":
        return Response(look.script(), media_type="text/javascript")
    return PlainTextResponse("There is no such file.\n", 404)


def application(root: Path, keys: Keys, *, cache: Path, seed: int = 0, loader: Loader = load) -> Guard:
    """The application for one folder of runs. cache: where the index lies. loader: gives the models of the chat.

    Raises UsageError where `root` is no folder."""
    page = Page(Served(root, cache=cache, seed=seed), keys, loader)
    routes = [
        Route("/", page.page(runs_page)),
        Route("/run", page.page(run_page)),
        Route("/report", page.report),
        Route("/answers", page.page(answers_page)),
        Route("/votes", page.page(tally_page)),
        Route("/vote", page.page(vote_page), methods=["GET"]),
        Route("/vote", page.vote, methods=["POST"]),
        Route("/start", page.page(start_page)),
        Route("/chat", page.page(chat_page)),
        Route("/ask", page.ask, methods=["POST"]),
        Route("/events", page.events),
        Route("/static/{name}", _static),
    ]
    handlers: dict[Any, Any] = {
        MnemosError: page.explained,
        ForgedError: _forged,
        TooLargeError: _too_large,
        ClientDisconnect: _gone,
    }
    made = Starlette(routes=routes, exception_handlers=handlers)
    made.state.page = page
    return Guard(made, keys)


def chat_page(served: Served, query: Mapping[str, str]) -> tuple[str, Shown]:
    """Two models of a run, and a box to ask them in."""
    run = served.run(query)
    models = list(models_in(served.root, run))
    chosen = [query.get("a", ""), query.get("b", "")]
    return "chat.html", {"run": run, "here": "chat", "models": models, "chosen": chosen}
