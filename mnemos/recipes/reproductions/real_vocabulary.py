"""What the study of a vocabulary's extension reads: Hindi text of XQuAD, which a real model splits badly.

Called with (data, out) as in prepare.py. data: the folder of third-party data, which keep their own licences (XQuAD CC
BY-SA 4.0) and never enter this repository. Pieces and model learn from other articles than are measured. The rows are
the same bytes each time. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.prepare import rows
from mnemos.recipes.reproductions.real_models import shuffled
from mnemos.recipes.reproductions.real_reading import texts, truths

XQUAD = "xquad/paragraphs_ar_hi_ru_th.jsonl.gz", "xquad/en.jsonl.gz"
MEASURED, SHOWN = 16, 200
"""Articles that are measured, by their first paragraph; characters of each, up to a whole word."""
HALF = 2_000
"""Characters of Hindi in each half of what is taught."""
TRUTHS = 20


def hindi(data: Path, out: Path) -> None:
    """Text that pieces are learned from, its beginning to be taught, whole and in two halves, and the suites' items."""
    below = out / "data"
    paragraphs = [row for row in rows(data / XQUAD[0]) if row["lang"] == "hi"]
    english = list(dict.fromkeys(row["context"] for row in rows(data / XQUAD[1])))
    titles = shuffled(dict.fromkeys(row["title"] for row in paragraphs), "hindi titles")
    measured, learned = titles[:MEASURED], set(titles[MEASURED:])
    first = [next(n for n, row in enumerate(paragraphs) if row["title"] == title) for title in measured]
    # The two languages' paragraphs stand in one order.
    own = shuffled((row["text"] for row in paragraphs if row["title"] in learned), "hindi paragraphs")
    stays = [text for text, row in zip(english, paragraphs, strict=True) if row["title"] in learned]
    write_jsonl(below / "pieces.jsonl", texts("hi", own))
    write_jsonl(below / "english.jsonl", texts("en", stays))
    first_half = _most(own)
    second_half = _most(own[len(first_half) :])
    parts = {"hindi": first_half + second_half, "first": first_half, "second": second_half}
    for name, part in parts.items():
        write_jsonl(below / f"{name}.jsonl", texts(f"hi-{name}", part))
    write_jsonl(below / "items/bits-hindi.jsonl", texts("hi-test", [_begun(paragraphs[n]["text"]) for n in first]))
    write_jsonl(below / "items/bits-english.jsonl", texts("en-test", [_begun(english[n]) for n in first]))
    write_jsonl(below / "items/truth.jsonl", shuffled(truths(), "hindi truths")[:TRUTHS])


def _most(found: Sequence[str]) -> list[str]:
    """The first texts, up to so many characters as a task teaches."""
    out: list[str] = []
    while sum(map(len, out)) < HALF and len(out) < len(found):
        out.append(found[len(out)])
    return out


def _begun(text: str) -> str:
    return text[:SHOWN].rpartition(" ")[0]
