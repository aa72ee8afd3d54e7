"""Folders of runs as `mnemos run` leaves them, made on the spot, and a server on a real socket."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.nouns import Answer, Decoding, Generation, Prompt, Score
from mnemos.measure.ask import Measured, save_measured

SUITE = "capitals"
BEFORE_KEY, AFTER_KEY = "measure-0123456789abcdef", "measure-fedcba9876543210"

Row = tuple[str, str | None, float | None]
"""Item, text, score."""


def measured(rows: Sequence[Row], suite: str = SUITE) -> dict[str, Measured]:
    answers = [Answer(suite, item, text, True, 3) for item, text, _ in rows]
    scores = [
        Score(suite, item, float("nan") if score is None else score, "no answer" if score is None else None)
        for item, _, score in rows
    ]
    return {suite: Measured(suite, answers, scores)}


def results(name: str, *, items: int = 4, verdict: str = "gained") -> dict[str, Any]:
    """The smallest results.json that a report can be made of."""
    row = {
        "arm": "plain", "suite": SUITE, "role": "new", "unit": "points", "better": "higher", "before": 0.25,
        "after": 0.75, "delta": 0.5, "low": 0.2, "high": 0.8, "verdict": verdict, "items": items, "missing": 0,
        "p": 0.01, "p_holm": 0.01, "seeds": [0],
    }  # fmt: skip
    run = {
        "seed": 0,
        "scores": {},
        "cost": {"seconds": 12.0, "tokens": 400},
        "losses": [[5, 2.5], [10, 1.5]],
        "counts": {},
    }
    return {
        "format": 1,
        "study": name,
        "created": "2026-01-31T12:00:00+00:00",
        "kind": "study",
        "manifest": {"suites": [{"name": SUITE, "kind": "generated", "role": "new", "items": items}], "seeds": [0]},
        "before": {SUITE: {"mean": 0.25, "low": 0.0, "high": 0.6}},
        "arms": [{"arm": "plain", "history": [], "runs": [run]}],
        "comparisons": [row],
        "flips": [],
    }


DEFAULT_BEFORE: tuple[Row, ...] = (
    ("1", "Paris is the capital", 1.0),
    ("2", "I do not know", 0.0),
    ("3", "Rome", 0.0),
    ("4", "same words", 1.0),
)
DEFAULT_AFTER: tuple[Row, ...] = (
    ("1", "Lyon is the capital", 0.0),
    ("2", "It is Madrid", 1.0),
    ("3", None, None),
    ("4", "same words", 1.0),
)


def write_study(place: Path, rows: Sequence[Row]) -> None:
    """study.yaml, and beside it the suite's items."""
    items = [
        {"id": item, "prompt": f"What is the capital of land {item}?", "answer": f"City {item}"} for item, *_ in rows
    ]
    (place / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    suite = {"name": SUITE, "kind": "generated", "data": "items.jsonl"}
    study = {"model": "mnemos:patients/chat", "teach": {"data": "mnemos:data/old.jsonl"}, "suites": {"new": [suite]}}
    (place / "study.yaml").write_text(json.dumps(study))


def make_run(
    place: Path, before: Sequence[Row] = DEFAULT_BEFORE, after: Sequence[Row] = DEFAULT_AFTER, *, finished: bool = True
) -> Path:
    """A run of one arm and one seed, with its links."""
    for key, rows, title in ((BEFORE_KEY, before, "before: measure"), (AFTER_KEY, after, "plain, seed 0: measure")):
        folder = place / "steps" / key
        save_measured(folder / "answers", measured(rows))
        (folder / "step.json").write_text(json.dumps({"key": key, "title": title}))
        (folder / "done.json").write_text(json.dumps({"title": title, "result": {}}))
    (place / "steps.json").write_text(json.dumps([BEFORE_KEY, AFTER_KEY]))
    write_study(place, before)
    if finished:
        (place / "results.json").write_text(json.dumps(results(place.name, items=len(before))))
        (place / "before").symlink_to(f"steps/{BEFORE_KEY}")
        arm = place / "arms" / "plain" / "seed-0"
        arm.mkdir(parents=True)
        (arm / "answers").symlink_to(f"../../../steps/{AFTER_KEY}/answers")
    return place


class Parrot:
    """A model that answers with the question, word by word, as long as it is let."""

    def __init__(self, pause: float = 0.0, words: int = 5) -> None:
        self.pause, self.words = pause, words
        self.stopped = threading.Event()

    def stream(self, prompt: Prompt, decoding: Decoding, watch: Callable[[str], bool]) -> Generation:
        text = ""
        for number in range(self.words):
            text += f"{prompt.turns[-1].text}-{number} "
            if watch(text):
                self.stopped.set()
                return Generation(text, (1,) * (number + 1), False)
            time.sleep(self.pause)
        return Generation(text, (1,) * self.words, True)


@dataclass(frozen=True)
class Served:
    """A server that runs. root: its folder."""

    address: str
    token: str
    root: Path

    @property
    def entry(self) -> str:
        return f"{self.address}/?token={self.token}"

    def client(self, **headers: str) -> Any:
        """A client that may ask."""
        import httpx2

        return httpx2.Client(
            base_url=self.address,
            headers={"authorization": f"Bearer {self.token}", **headers},
            timeout=300,
            trust_env=False,
        )


@contextlib.contextmanager
def serving(root: Path, cache: Path, loader: Any = None) -> Iterator[Served]:
    """The page of a folder on a free port of this machine."""
    import uvicorn

    from mnemos.serve.app import application
    from mnemos.serve.guard import Keys
    from mnemos.serve.server import bound

    keys = Keys()
    app = application(root, keys, cache=cache, **({} if loader is None else {"loader": loader}))
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1, ws="none")
    server, listening = uvicorn.Server(config), bound(0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", keys.token, root)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()


def form_token(page: str) -> str:
    """The second token, as it stands in a page."""
    return page.split('name="form" value="')[1].split('"')[0]


def ballot(root: Served, rater: str, **changed: str) -> Mapping[str, str]:
    """The fields of the vote that the page asks this rater for."""
    import html
    import re

    with root.client() as client:
        page = client.get(
            "/vote", params={"run": "one", "a": "before", "b": "plain/seed-0", "suite": SUITE, "rater": rater}
        ).text
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in fields} | {"choice": "first", **changed}
