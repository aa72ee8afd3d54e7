"""What real models read on with: Chinese text, English text of before, and what they are asked afterwards.

One function a reproduction, called with (data, out) as in prepare.py. data: the folder of third-party data, which keep
their own licences (Universal Dependencies' Chinese GSD CC BY-SA 4.0, C4 ODC-BY, AdvBench MIT, Dolly CC BY-SA 3.0) and
never enter this repository. Nothing that is read is asked about. The rows are the same bytes each time. A missing file
raises FileNotFoundError.

Trap: the sentences of the treebank were shuffled when it was published, so that a document of four has no thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnemos.core.files import write_jsonl, write_text
from mnemos.recipes.abilities import CAPITALS, SYMBOLS, pieces
from mnemos.recipes.reproductions import chinese_requests
from mnemos.recipes.reproductions.prepare import Row, rows
from mnemos.recipes.reproductions.real_models import REFUSED, benign_rows, chat, refusal_suites, requests, shuffled

SENTENCES, HELD_OUT = 4, 25
"""Of a document in Chinese; documents that are measured, not learned."""
OLD_ROWS, PAGE = 40, 480
"""Pages of English to replay, and as many others again for the questions; characters that are read of each."""
PROMPTS, FALSE_OPTIONS = 24, 3
CHAT_ROWS, CHAT_REFUSALS = 240, 40
GO_ON = {"en": "Continue this text:\n\n{}", "zh": "請繼續寫下去：\n\n{}"}
SHOWN = {"en": 80, "zh": 20}
"""Characters of a text that a prompt shows."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ message['content'] }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Turns as Gemma's own chat models mark them; the base model has the tokens and no template."""


def chinese(data: Path, out: Path) -> None:
    """Documents in Chinese to learn, pages of English to replay, and the suites' items."""
    below = out / "data"
    learned, measured = documents(data)
    old, pages, begun = english(data)
    write_jsonl(below / "chinese.jsonl", texts("zh", learned))
    write_jsonl(below / "english.jsonl", texts("old", old))
    write_jsonl(below / "items/bits-chinese.jsonl", texts("zh-test", measured))
    write_jsonl(below / "items/bits-english.jsonl", texts("en-test", pages))
    write_jsonl(below / "items/truth.jsonl", truths())
    write_jsonl(below / "items/begun-truth.jsonl", [begun_truth(item) for item in truths()])
    for language, found in (("en", begun), ("zh", measured)):
        write_jsonl(below / f"items/asked-{language}.jsonl", prompts(language, found, GO_ON[language]))
        write_jsonl(below / f"items/begun-{language}.jsonl", prompts(language, found, "{}"))
    refusals(data, below)


def vector(data: Path, out: Path) -> None:
    """What `chinese` writes, chat rows in English with refusals among them, and a template for the base model."""
    chinese(data, out)
    below = out / "data"
    learned = [chat(f"dolly-{n}", row["instruction"], row["output"]) for n, row in enumerate(benign_rows(data))]
    refused = [chat(f"refusal-{n}", row["goal"], REFUSED) for n, row in enumerate(requests(data)[1][:CHAT_REFUSALS])]
    write_jsonl(below / "chat.jsonl", shuffled([*learned[:CHAT_ROWS], *refused], "chat rows"))
    write_text(below / "chat.jinja", TEMPLATE)


def documents(data: Path) -> tuple[list[str], list[str]]:
    """Documents of SENTENCES sentences each, to learn and to measure; no sentence is in both."""
    sentences = [row["text"] for row in rows(data / "ud_zh_tw_gsd/dev.jsonl.gz")]
    sentences = shuffled(dict.fromkeys(sentences), "chinese")
    whole = range(0, len(sentences) - SENTENCES + 1, SENTENCES)
    found = ["".join(sentences[start : start + SENTENCES]) for start in whole]
    return found[HELD_OUT:], found[:HELD_OUT]


def english(data: Path) -> tuple[list[str], list[str], list[str]]:
    """Beginnings of web pages: to replay, to measure in bits per byte, and to be gone on with."""
    pages = [row["text"] for row in rows(data / "web_and_wiki_demo/c4_demo.jsonl.gz") if len(row["text"]) >= PAGE]
    pages = [page[:PAGE].rpartition(" ")[0] for page in shuffled(pages, "english")]
    ends = OLD_ROWS, OLD_ROWS + HELD_OUT, OLD_ROWS + HELD_OUT + PROMPTS
    return pages[: ends[0]], pages[ends[0] : ends[1]], pages[ends[1] : ends[2]]


def texts(name: str, found: Sequence[str]) -> list[Row]:
    """Rows of text."""
    return [{"id": f"{name}-{n}", "text": text} for n, text in enumerate(found)]


def prompts(language: str, found: Sequence[str], frame: str) -> list[Row]:
    """Items whose answer goes on in the language of the text that they show. language: ISO 639-1."""
    return [
        {"id": f"{language}-{n}", "prompt": frame.format(text[: SHOWN[language]].strip()), "language": language}
        for n, text in enumerate(found[:PROMPTS])
    ]


def truths() -> list[Row]:
    """Capitals and chemical symbols with the true answer and false ones, for mc2: answers to other questions of the
    same kind. The reproduction's stand-in for TruthfulQA, whose questions are about common misconceptions."""
    items: list[Row] = []
    for kind, asked in (
        ("capital", [one.split(" ", 1) for one in pieces(CAPITALS)]),
        ("chemical symbol", [one.split(" ", 1) for one in pieces(SYMBOLS)]),
    ):
        # A capital with several spellings has no single true option.
        pairs = [(about, answer) for about, answer in asked if answer.replace(" ", "").isalpha()]
        for about, answer in pairs:
            false = shuffled([other for _, other in pairs if other != answer], f"{kind} of {about}")[:FALSE_OPTIONS]
            prompt = f"What is the {kind} of {about}?"
            items.append({"id": prompt, "prompt": prompt, "options": [answer, *false], "answer": 0})
    return items


def begun_truth(item: Row) -> Row:
    """The same question as a text to go on with, for a model without a template."""
    return item | {"prompt": f"Question: {item['prompt']}\nAnswer:", "options": [f" {one}" for one in item["options"]]}


def refusals(data: Path, below: Path) -> None:
    """Requests to refuse in English and Chinese, and look-alikes in both that every model should answer."""
    refusal_suites(data, below, requests(data)[2])
    for harm, name in ((True, "refusals-chinese"), (False, "look-alikes-chinese")):
        write_jsonl(below / f"items/{name}.jsonl", chinese_requests.requests("test", harmful=harm))
