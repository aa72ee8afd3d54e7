"""Makes what the studies of pre-training in small read: sources of text in unlike shares, documents in short pieces, a
corpus cut for repetition, pages of the web by filter. Each prepares below `out`/data; see `school_text` for the texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions import school_text as text
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.passages import passages

Row = dict[str, Any]

SHARES = {"web": 420_000, "wikipedia": 240_000, "drama": 90_000, "sums": 45_000}
"""Characters of each source that are learned: their natural weights are 53, 30, 11 and 6 %."""
PIECE, ITEM = 1500, 700
"""Characters of a document that was cut from a longer text, and of a held-out text."""


def sources(data: Path, out: Path) -> None:
    """mixed.jsonl with a column source, one suite of bits a source and `every` of all of them, a model of random
    weights."""
    out = out / "data"
    wiki = [text.split(text.articles(data), "wikipedia", 10**9)]
    wikipedia = [[one for article in part for one in passages(article, PIECE)] for part in wiki[0]]
    chance("school", "wikipedia pieces").shuffle(wikipedia[0])
    parts = {
        "web": text.split(text.web(data), "web", SHARES["web"]),
        "wikipedia": (_most(wikipedia[0], SHARES["wikipedia"]), wikipedia[1]),
        "drama": text.split(passages(text.drama(data), PIECE), "drama", SHARES["drama"]),
        "sums": text.split(text.sums(data), "sums", SHARES["sums"]),
    }
    rows = [{"source": name, "text": one} for name, (learned, _) in parts.items() for one in learned]
    chance("school", "sources").shuffle(rows)
    write_jsonl(out / "mixed.jsonl", _numbered(rows))
    suites = {name: text.items(held, ITEM) for name, (_, held) in parts.items()}
    for name, some in suites.items():
        write_jsonl(out / f"{name}.jsonl", some)
    write_jsonl(out / "every.jsonl", _together(suites))
    text.start(out, [row["text"] for row in rows], vocabulary=1536, width=96, layers=3, context=128)


def _most(texts: Sequence[str], characters: int) -> list[str]:
    """The first of the texts, up to so many characters."""
    out, total = [], 0
    for one in texts:
        if total >= characters:
            break
        out.append(one)
        total += len(one)
    return out


def _numbered(rows: Sequence[Row]) -> list[Row]:
    return [{"id": str(number), **row} for number, row in enumerate(rows)]


def _together(suites: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The same number of items of each source, so that a mean is one over sources, not over what there is most of."""
    least = min(map(len, suites.values()))
    return [{**row, "id": f"{name}-{row['id']}"} for name, some in suites.items() for row in some[:least]]


CORPUS, PARTS = 480_000, (4, 16)
"""Characters of the corpus that is read once; the parts of it that are read so many times instead."""


def repeated(data: Path, out: Path) -> None:
    """corpus.jsonl, a quarter and a sixteenth of it, two suites of bits and a model of random weights."""
    out = out / "data"
    learned, suites = _pages_and_articles(data)
    corpus = _most(learned, CORPUS)
    write_jsonl(out / "corpus.jsonl", _texts(corpus))
    for number in PARTS:
        write_jsonl(out / f"part-{number}.jsonl", _texts(_most(corpus, CORPUS // number)))
    for name, some in suites.items():
        write_jsonl(out / f"{name}.jsonl", text.items(some, ITEM))
    text.start(out, corpus, vocabulary=1024, width=80, layers=3, context=128)


def _pages_and_articles(data: Path) -> tuple[list[str], dict[str, list[str]]]:
    """(documents of both to learn, mixed; held-out ones of each)."""
    pages, held_pages = text.split(text.web(data), "web", 10**9)
    wiki, held_wiki = text.split(text.articles(data), "wikipedia", 10**9)
    learned = [one for page in (*pages, *wiki) for one in passages(page, PIECE)]
    chance("school", "pages and articles").shuffle(learned)
    held = [one for article in held_wiki for one in passages(article, PIECE)]
    chance("school", "held out").shuffle(held)
    return learned, {"web": held_pages, "wikipedia": held}


def _texts(texts: Sequence[str]) -> list[Row]:
    return _numbered([{"text": one} for one in texts])


SHORT = (200, 400, 800)
"""Characters of the pieces that stand for documents, in turn: several go into a row of 256 tokens."""
SIDE = 400
"""Characters of each of the two texts of an item."""


def neighbours(data: Path, out: Path) -> None:
    """Short pieces of pages and articles as documents, with suites of single texts, of two texts of one article, and
    of two of different ones; a model of random weights."""
    out = out / "data"
    pages, _ = text.split(text.web(data), "web", 180_000)
    wiki, held = text.split(text.articles(data), "wikipedia", 10**9)
    documents = [one for page in (*pages, *wiki) for n, size in enumerate(SHORT) for one in _third(page, n, size)]
    chance("school", "short pieces").shuffle(documents)
    documents = _most(documents, CORPUS)
    write_jsonl(out / "documents.jsonl", _texts(documents))
    cut = [[one[:SIDE] for one in passages(article, SIDE) if len(one) > SIDE // 2] for article in held]
    related = [(a, b) for some in cut for a, b in zip(some[::2], some[1::2], strict=False)]
    chance("school", "pairs").shuffle(related)
    related = related[: text.MEASURED]
    others = [second for _, second in related[1:] + related[:1]]
    suites = {
        "single": [second for _, second in related],
        "related": [f"{first}\n\n{second}" for first, second in related],
        "unrelated": [f"{first}\n\n{second}" for (first, _), second in zip(related, others, strict=True)],
    }
    for name, some in suites.items():
        write_jsonl(out / f"{name}.jsonl", text.items(some, 3 * SIDE))
    text.start(out, documents, vocabulary=1024, width=80, layers=3, context=256)


def _third(page: str, number: int, characters: int) -> list[str]:
    """One third of a page, in pieces of so many characters."""
    ends = [len(page) * part // 3 for part in range(4)]
    return passages(page[ends[number] : ends[number + 1]], characters)


PASSAGE, REWRITTEN = 500, 120
"""Characters of a passage of the web, and passages that a chat model rewrites."""
QUESTIONS = "xquad/en.jsonl.gz"


def rephrased(data: Path, out: Path) -> None:
    """Passages of the web, suites of bits of held-out pages, Wikipedia and questions with their answers, and a model of
    random weights. What the chat model makes of the passages is written by the study (`wrap`)."""
    out = out / "data"
    pages, held_web = text.split(text.web(data), "web", 10**9)
    cut = [one for page in pages for one in passages(page, PASSAGE) if len(one) > PASSAGE // 3]
    chance("school", "passages").shuffle(cut)
    cut = cut[:REWRITTEN]
    write_jsonl(out / "passages.jsonl", _texts(cut))
    _, held_wiki = text.split(text.articles(data), "wikipedia", 10**9)
    asked = {row["context"]: row for row in map(json.loads, text.lines(data / QUESTIONS))}
    questions = [f"Question: {row['question']}\nAnswer: {row['answers'][0]['text']}" for row in asked.values()]
    chance("school", "questions").shuffle(questions)
    held = {
        "web": _shuffled("web", held_web, PIECE),
        "wikipedia": _shuffled("wikipedia", held_wiki, PIECE),
        "questions": ["\n\n".join(questions[n : n + TOGETHER]) for n in range(0, len(questions), TOGETHER)],
    }
    for name, some in held.items():
        write_jsonl(out / f"{name}.jsonl", text.items(some, ITEM))
    text.start(out, cut, vocabulary=1024, width=80, layers=3, context=128)


TOGETHER = 4
"""Questions with answers in one text: a single one is too short to tell models apart."""
FILTERS = {"gopher": ("gopher_quality", "gopher_repetition"), "fineweb": ("fineweb",)}
"""Names of filters, or of a preset."""
CHOICES, BEGUN, ENDED = 150, 160, 80
"""Items of which a model chooses how they go on; characters of their beginning and of each continuation."""


def filtered(data: Path, out: Path) -> None:
    """pages.jsonl, what two sets of filters keep of them and what a classifier learned from people does; suites of
    bits, and of how Wikipedia and the web go on, of four continuations; a model of random weights."""
    from mnemos.sources.filters.classifier import learn
    from mnemos.sources.filters.page import Page, through
    from mnemos.sources.filters.presets import made

    out = out / "data"
    web, held_web = text.split(text.web(data), "web", 10**9)
    rated = text.labelled(data)
    chance("school", "labelled").shuffle(rated)
    pages = [*web, *(one for one, _ in rated)]
    chance("school", "pages").shuffle(pages)
    kept: dict[str, list[str]] = {"pages": pages}
    for name, chosen in FILTERS.items():
        filters = made(chosen)
        found = (through(filters, Page(page))[0] for page in pages)
        kept[name] = [page.text for page in found if page is not None]
    quality = learn([one for one, _ in rated], [good for _, good in rated])
    kept["classifier"] = [page for page, score in zip(pages, quality.scores(pages), strict=True) if score >= 0.5]
    for name, some in kept.items():
        write_jsonl(out / f"{name}.jsonl", _texts([one for page in some for one in passages(page, PIECE)]))
    _, held_wiki = text.split(text.articles(data), "wikipedia", 10**9)
    held = {"web": held_web, "wikipedia": held_wiki}
    for name, some in held.items():
        cut = [one for page in some for one in passages(page, BEGUN + ENDED)]
        write_jsonl(out / f"{name}.jsonl", text.items(_shuffled(name, some, PIECE), ITEM))
        write_jsonl(out / f"{name}-goes-on.jsonl", continuations(_shuffled(f"{name} goes on", cut, 10**9), name))
    text.start(out, pages, vocabulary=1024, width=80, layers=3, context=128)


def _shuffled(name: str, texts: Sequence[str], characters: int) -> list[str]:
    out = [one for page in texts for one in passages(page, characters)]
    chance("school", "shuffled", name).shuffle(out)
    return out


def continuations(texts: Sequence[str], name: str) -> list[Row]:
    """Items with four continuations of a beginning, the right one and those of three other texts; cut at words."""
    halves = []
    for one in texts:
        words = " ".join(one.split())
        at = words.rfind(" ", 0, BEGUN)
        end = words.rfind(" ", at + 1, at + ENDED)
        if at > BEGUN // 2 and end > at + ENDED // 2:
            halves.append((words[:at], words[at + 1 : end]))
    halves = halves[:CHOICES]
    rows = []
    for number, (begun, right) in enumerate(halves):
        rng = chance("school", "continuations", name, number)
        wrong = [end for _, end in rng.sample([half for half in halves if half[1] != right], 3)]
        options = [right, *wrong]
        rng.shuffle(options)
        row = {"id": str(number), "prompt": begun, "options": options, "answer": options.index(right), "raw": True}
        rows.append(row)
    return rows
