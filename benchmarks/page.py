"""The local page: how soon it is there, how soon ten thousand answers are filtered, and whether votes are lost.

There is no peer to compare with, so "peer" is the limit that we set ourselves: a second until Chromium has painted a
folder of 200 runs, a fifth of a second for each filter over 10,000 items, and every one of fifty votes at once kept.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared
from tests.serve.folders import SUITE, form_token, make_run, serving

RUNS, ITEMS, RATERS = 200, 10_000, 50
PAINT_SECONDS, FILTER_SECONDS = 1.0, 0.2
REPETITIONS = 5
PAIR = {"run": "one", "a": "before", "b": "plain/seed-0", "suite": SUITE}


def run() -> Iterator[Result]:
    """Paint, filters, votes."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("page-first-paint: left out, no Chromium is installed")
    else:
        yield first_paint(chromium)
    yield filtered()
    yield votes()


def first_paint(chromium: str) -> Result:
    """Seconds from the navigation to the first contentful paint, as Chromium says them; the first one is of a server
    that has seen none of the runs."""
    from playwright.sync_api import sync_playwright

    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        for number in range(RUNS):
            make_run(root / f"run-{number}")
        for repetition in range(REPETITIONS):
            with serving(root, Path(folder) / f"cache-{repetition}") as served, sync_playwright() as playwright:
                flags = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = playwright.chromium.launch(executable_path=chromium, args=flags)
                page = browser.new_page()
                page.goto("about:blank")
                page.goto(served.entry)
                page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
                found = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                seconds.append(found / 1000)
                browser.close()
    details = {"runs": RUNS, "cache": "empty each time", "peer is": "the limit, for want of a peer"}
    return _below("page-first-paint", seconds, PAINT_SECONDS, details)


def filtered() -> Result:
    """Seconds of a request for a page of answers, the slowest of all filters, once the index is there."""
    before = [(str(n), f"answer {n} of the model before, in a few words", float(n % 3 == 0)) for n in range(ITEMS)]
    after = [
        (item, f"{text} and more" if n % 2 else text, float(n % 5 == 0)) for n, (item, text, _) in enumerate(before)
    ]
    queries = [{"show": show} for show in ("all", "flips", "lost", "gained", "differs", "missing")]
    queries += [{"seed": "1"}, {"show": "flips", "seed": "7"}, {"q": "answer 99"}]
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder) / "runs" / "one", before, after)
        with serving(Path(folder) / "runs", Path(folder) / "cache") as served, served.client() as client:
            began = time.monotonic()
            client.get("/answers", params=PAIR).raise_for_status()
            reading = time.monotonic() - began
            by_query = {str(query): [_asked(client, query) for _ in range(REPETITIONS)] for query in queries}
    slowest = max(by_query.values(), key=statistics.median)
    medians = {query: statistics.median(found) for query, found in by_query.items()}
    details = {"items": ITEMS, "seconds by filter": medians, "first request, which reads both files": reading}
    return _below("page-answers-filtered", slowest, FILTER_SECONDS, details)


def _asked(client: Any, query: dict[str, str]) -> float:
    began = time.monotonic()
    client.get("/answers", params={**PAIR, **query}).raise_for_status()
    return time.monotonic() - began


def votes() -> Result:
    """Votes that are kept of fifty that are sent at once."""
    from mnemos.measure.votes import read_table

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        make_run(root / "one")
        start = threading.Barrier(RATERS)
        with serving(root, Path(folder) / "cache") as served:
            with served.client() as client:
                form = form_token(client.get("/vote", params={**PAIR, "rater": "x"}).text)

            def vote(number: int) -> int:
                with served.client() as client:
                    start.wait()
                    fields = {**PAIR, "item": "1", "rater": f"rater {number}", "choice": "first", "form": form}
                    return int(client.post("/vote", data=fields).status_code)

            began = time.monotonic()
            with ThreadPoolExecutor(RATERS) as pool:
                answered = list(pool.map(vote, range(RATERS)))
            seconds = time.monotonic() - began
        kept = len(read_table(root / "votes.sqlite"))
    details = {"answered": answered.count(303), "seconds": seconds}
    return compared(
        "page-votes-at-once", ([kept], [RATERS]), unit="votes", direction="higher is better", bound=1.0, details=details
    )


def _below(name: str, seconds: list[float], limit: float, details: dict[str, Any]) -> Result:
    return compared(name, (seconds, [limit]), unit="s", direction="lower is better", bound=1.0, details=details)
