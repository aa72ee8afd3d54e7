"""`mnemos data filter`: what is kept, dropped with reasons, and compared with people's labels."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.study.commands.filter import filter_pages
from mnemos.study.commands.filter_parts import Asked, Reading
from mnemos.study.engines.local import LocalEngine
from mnemos.study.steps import Step
from tests.sources.test_filters import CHINESE, GOOD, NAMES


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["data", "filter", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def _page(seed: int) -> str:
    """Sentences of their own, in the story's words."""
    rng = random.Random(seed)
    words = GOOD.replace(".", "").replace(",", "").split()
    return "\n".join(f"The {' '.join(rng.sample(words, 14))} and that of it." for _ in range(9))


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    good = [_page(n) for n in range(20)]
    made = [{"text": text, "url": f"https://a.org/{n}", "label": 1} for n, text in enumerate(good)]
    made += [{"text": f"spam eggs {name} " * 40, "url": "https://b.org", "label": 0} for name in NAMES * 2]
    made += [{"text": good[0], "url": "https://c.org", "label": 1}]
    mail = GOOD + "\nThe mail is a.b@c.org, as you have seen that."
    odd = [good[1] + "\nAnd more was seen in it.", CHINESE, 7, mail, GOOD + "\nAnd that is it."]
    made += [{"text": text} for text in odd]
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made) + '{"text": \n', encoding="utf-8")
    return path


def test_pages_are_kept_dropped_and_counted(tmp_path: Path, pages: Path) -> None:
    out = tmp_path / "out"
    words = invoke(pages, "--dedup", "exact", "--dedup", "minhash", "--label", "label", "--out", out)
    kept, dropped = rows(out / "pages.jsonl.gz"), rows(out / "dropped.jsonl.gz")
    record = json.loads((out / "filter.json").read_text())
    assert record["kept"] == len(kept)
    assert record["pages"] == len(kept) + len(dropped) == 45
    assert sum(record["reasons"].values()) == len(dropped)
    assert all(": " in row["dropped"] for row in dropped)
    assert record["reasons"]["dedup: an exact copy"] == 1
    assert record["reasons"]["dedup: a near-duplicate"] >= 1
    assert sum(record["bad_rows"].values()) == 2
    assert "email@example.com" in kept[-1]["text"]
    first = record["by"]["domain"][0]
    assert (first["name"], first["pages"]) == ("a.org", 20)
    assert first["kept"] == sum(row.get("url", "").startswith("https://a.org") for row in kept)
    area, low, high = record["audit"]["agreement"]["gopher_repetition"]
    assert area > 0.8
    assert low < area <= high
    assert "classifier, 5-fold" in record["audit"]["agreement"]
    assert "of what the row drops" in words
    assert "<svg" in (out / "filter.html").read_text()
    assert not (out / "filtered.jsonl.gz").exists()


def test_contamination_perplexity_and_a_classifier(tmp_path: Path, pages: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"prompt": GOOD.split("\n")[3], "completion": "x"}) + "\n")
    words = invoke(pages, "--preset", "none", "--against", suite, "--out", tmp_path / "a")
    assert "contamination: holds words of a suite" in words
    reference = tmp_path / "reference.jsonl"
    reference.write_text(json.dumps({"text": GOOD}) + "\n")
    words = invoke(pages, "--preset", "none", "--reference", reference, "--out", tmp_path / "b")
    assert "perplexity: too surprising" in words
    learned = CliRunner().invoke(app, ["data", "classifier", str(pages), "--out", str(tmp_path / "quality.json")])
    assert learned.exit_code == 0
    words = invoke(pages, "--preset", "none", "--classifier", tmp_path / "quality.json", "--out", tmp_path / "c")
    assert "label: score below 0." in words


@dataclass(frozen=True)
class Stopping:
    """An engine that is stopped behind its first step."""

    def run(self, steps: Sequence[Step], root: Path) -> None:
        LocalEngine(quiet=True).run(steps[:1], root)
        raise KeyboardInterrupt


def test_files_are_filtered_each_by_itself_and_a_stop_costs_the_one_at_work(
    tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out is what one file of all pages gives, deduplication across the files included."""
    asked = Asked(dedup=("exact", "paragraphs", "minhash"), label="label")
    whole = filter_pages(str(pages), tmp_path / "whole", asked)
    folder, out, lines = tmp_path / "folder", tmp_path / "out", pages.read_text().splitlines(keepends=True)
    folder.mkdir()
    for number, at in enumerate(range(0, len(lines), 20)):
        (folder / f"part-{number}.jsonl").write_text("".join(lines[at : at + 20]))
    with pytest.raises(KeyboardInterrupt):
        filter_pages(str(folder), out, asked, engine=Stopping())
    read: list[str] = []
    monkeypatch.setattr(Reading, "__iter__", _noting(Reading.__iter__, read))
    assert filter_pages(str(folder), out, asked) == whole
    # The last time all three are read for the audit.
    assert read[:2] == ["part-1.jsonl", "part-2.jsonl"]
    assert read[2:] == ["part-0.jsonl part-1.jsonl part-2.jsonl"]
    for name in ("pages.jsonl.gz", "dropped.jsonl.gz"):
        # Drops by filters stand before those of deduplication, file by file.
        assert sorted(map(json.dumps, rows(out / name))) == sorted(map(json.dumps, rows(tmp_path / "whole" / name)))
    assert rows(out / "pages.jsonl.gz") == rows(tmp_path / "whole" / "pages.jsonl.gz")
    assert not (out / "steps").exists()
    with pytest.raises(UsageError, match="is there already"):
        filter_pages(str(folder), out, asked)


def _noting(plain: Any, into: list[str]) -> Any:
    def noted(self: Reading) -> Any:
        into.append(" ".join(Path(part.label).name for part in self.parts))
        return plain(self)

    return noted


@pytest.mark.slow
def test_several_files_at_a_time_give_the_same(tmp_path: Path, pages: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{name}.jsonl").write_bytes(pages.read_bytes())
    one, two = tmp_path / "one", tmp_path / "two"
    invoke(tmp_path / "folder", "--dedup", "exact", "--out", one)
    invoke(tmp_path / "folder", "--dedup", "exact", "--out", two, "--jobs", "2")
    assert (one / "filter.json").read_text() == (two / "filter.json").read_text()
    assert rows(one / "pages.jsonl.gz") == rows(two / "pages.jsonl.gz")


def test_what_leaves_nothing_or_cannot_be_meant_is_refused(tmp_path: Path, pages: Path) -> None:
    with pytest.raises(DataError, match="leaves no page"):
        invoke(pages, "--language", "sw", "--out", tmp_path / "a")
    with pytest.raises(UsageError, match="is there already"):
        invoke(pages, "--out", tmp_path / "a")
    with pytest.raises(UsageError, match="did you mean 'minhash'"):
        invoke(pages, "--dedup", "minhas", "--out", tmp_path / "b")
    with pytest.raises(UsageError, match="did you mean 'fineweb'"):
        invoke(pages, "--preset", "fineweeb", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()
