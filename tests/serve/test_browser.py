"""The page in a real Chromium: keys, votes, a run that moves, a chat, and what a hostile answer can do (nothing)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.progress import Status
from mnemos.measure.votes import read_table
from mnemos.study.progress import LOG, Log, Progress
from tests.serve.folders import SUITE, Parrot, Served, make_run, serving

pytest.importorskip("starlette", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")

MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PATIENCE = 60_000
"""Milliseconds: a busy machine starts a browser slowly."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot start.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=2 * PATIENCE)
        yield found
        found.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    root = tmp_path / "runs"
    rows = [(str(n), f"short answer {n}", 1.0) for n in range(3)]
    make_run(root / "one", rows, [(item, f"{MARKUP} long {text} {'word ' * 60}", 0.0) for item, text, _ in rows])
    for place in ("arms/plain/seed-0/model", "before/model"):
        (root / "one" / place).mkdir(parents=True)
    with serving(root, tmp_path / "cache", loader=lambda path: Parrot(pause=0.05, words=400)) as found:
        yield found


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    """A page behind the door. Whatever the console calls an error fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 760})
    context.set_default_timeout(PATIENCE)
    found = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    found.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(served.entry)
    yield found
    context.close()
    assert errors == []
    assert all(url.startswith((served.address, "data:")) for url in asked)


def test_an_arrow_is_pressed_and_a_vote_lands(page: Any, served: Served) -> None:
    page.get_by_role("link", name="one").click()
    page.get_by_role("link", name="Vote", exact=True).click()
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Suite").select_option(SUITE)
    page.get_by_role("button", name="Begin").click()
    page.get_by_text("ann: 0 of 3 voted.").wait_for()
    page.wait_for_load_state()
    # Letters in the field are no votes.
    page.get_by_label("Why, if you like").fill("a b t x")
    page.get_by_label("Why, if you like").press("a")
    page.get_by_text("ann: 0 of 3 voted.").wait_for()
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("ann: 1 of 3 voted.").wait_for()
    # Its text is there before its script listens to keys.
    page.wait_for_load_state()
    [vote] = read_table(served.root / "votes.sqlite")
    assert (vote.verdict, vote.rater, vote.reason) == (vote.shown_first, "ann", "a b t xa")
    page.keyboard.press("t")
    page.get_by_text("ann: 2 of 3 voted.").wait_for()
    page.wait_for_load_state()
    page.get_by_label("vote by single keys", exact=False).dispatch_event("click")
    page.keyboard.press("x")
    assert page.get_by_text("ann: 2 of 3 voted.").is_visible()
    page.get_by_role("button", name="Both bad").click()
    page.get_by_text("You have voted on every pair").wait_for()
    assert {vote.verdict for vote in read_table(served.root / "votes.sqlite")} >= {"tie", "both_bad"}
    page.get_by_role("link", name="See what the votes come to").click()
    page.get_by_text("3 votes so far.").wait_for()


def test_a_run_in_progress_moves(page: Any, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemos.study.progress.EVERY", 0.2)
    monkeypatch.setattr("mnemos.study.progress.EARLY", 0.1)
    place = served.root / "one"
    (place / ".lock.owner").write_text(f"process {os.getpid()}\n")
    log = Log(place / LOG)
    log.write("mnemos 0.1.0: one, 2 steps")
    page.goto(f"{served.address}/run?run=one")
    with Progress(["train-1", "measure-1"], silent=True, log=log) as progress:
        progress.start("train-1", "plain, seed 0: train")
        progress.at("train-1", Status("", 120, 960, "steps", 2.345, 812.0, 65.0))
        page.get_by_text("120 of 960 steps").wait_for()
        for words in ("2.345", "812", "1:05"):
            assert page.get_by_role("cell", name=words).is_visible()
        progress.at("train-1", Status("", 480, 960, "steps", 1.5, 812.0, 30.0))
        page.get_by_text("480 of 960 steps").wait_for()
        progress.finish("train-1")
        page.get_by_text("running 1 of 2 steps").wait_for()
    log.write("done")
    page.locator("#status").get_by_text("finished").wait_for()


def test_markup_in_answers_does_nothing_and_a_phone_shows_all(page: Any, served: Served) -> None:
    for path in ("/", "/run?run=one", f"/answers?run=one&suite={SUITE}", "/start?run=one", "/votes", "/chat?run=one"):
        page.goto(served.address + path)
        assert page.title() != "owned"
        wide = "[...document.querySelectorAll('main *')].filter(x => x.getBoundingClientRect().right > innerWidth + 1)"
        assert page.evaluate(f"{wide}.filter(x => !x.closest('.scroll')).map(x => x.outerHTML.slice(0, 90))") == [], (
            path
        )
        assert page.locator("img").count() == 0
        # Every field and button has a name that a screen reader says, and every page one heading of the first rank.
        fields = page.locator("input:not([type=hidden]), select, textarea")
        assert fields.evaluate_all("all => all.every(one => one.labels.length)"), path
        assert page.locator("h1").count() == 1, path
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_a_chat_streams_and_stops(page: Any, served: Served) -> None:
    page.goto(f"{served.address}/chat?run=one")
    page.get_by_label("Question").fill("<b>hey</b>")
    page.get_by_label("Question").press("Control+Enter")
    page.get_by_text("<b>hey</b>-3").nth(1).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    shown = page.locator("[data-side='0'] .assistant").inner_text()
    assert 3 < len(shown.split()) < 400
    # What was written stays, and the next question goes on from it.
    page.get_by_label("Question").fill("again")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("again-1").nth(1).wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("Stopped.").wait_for()
