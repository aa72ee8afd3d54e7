"""The HTML page, and what holds for every format."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import UsageError
from mnemos.report import FORMATS, render
from mnemos.report.reading import read
from mnemos.report.verdicts import verdict_words
from mnemos.report.words import figure, typeset
from tests.report import synthetic

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "path", "use"}


class Page(HTMLParser):
    """Every tag with its attributes, all text, and whether tags were closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "desc"):
            self.text.append(data)

    @property
    def readable(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


@cache
def html(kind: str) -> str:
    return render(synthetic.ALL[kind](), "html")


@cache
def page(kind: str) -> Page:
    return Page(html(kind))


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_page_is_well_formed_and_alone(kind: str) -> None:
    found = page(kind)
    assert found.open == []
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action", "data", "srcset", "xlink:href"):
                assert value is not None
                assert value.startswith(("#", "data:,")), (tag, name, value)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    uses = {(attributes["href"] or "")[1:] for tag, attributes in found.tags if tag == "use"}
    assert uses <= set(ids)


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_style_fetches_nothing(kind: str) -> None:
    text = html(kind)
    css = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert "@import" not in css
    assert "url(" not in css
    assert "default-src 'none'" in text


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_every_comparison_appears_with_its_numbers(kind: str) -> None:
    results = synthetic.ALL[kind]()
    text = page(kind).readable
    for change in read(results).changes:
        assert typeset(verdict_words(change)) in text
        assert change.suite in text
        assert figure(change.before, change.unit) in text
    for arm in results["arms"]:
        assert re.sub(r"\s+", " ", read({"comparisons": [], "arms": [arm]}).arms[0].name) in text


def test_hostile_text_is_shown_and_inert() -> None:
    text = html("ugly")
    assert "<script" not in text
    assert "onerror=alert" in page("ugly").readable
    assert "<script>alert(1)</script></style>" in page("ugly").readable
    assert text.count("</style>") == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def test_missing_is_said_with_its_reasons() -> None:
    text = page("ugly").readable
    assert "cannot tell: missing (timeout: 241, no answer <b>at all</b> | pipe: 119)" in text
    assert "240 missing" in text
    assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    assert "built-in" not in text


def test_long_answers_are_cut_and_say_so() -> None:
    assert re.search(r"\u2026 \d,?\d* more characters in results.json", page("ugly").readable)


def test_sections_only_where_there_is_something() -> None:
    def sections(kind: str) -> set[str]:
        return {attributes.get("id") or "" for tag, attributes in page(kind).tags if tag == "section"}

    everything = {
        "arms",
        "overview",
        "taught",
        "plane",
        "changes",
        "ledger",
        "answers",
        "cost",
        "health",
        "measured",
        "words",
    }
    assert everything <= sections("study")
    assert "sequence" in sections("sequence")
    assert "sequence" not in sections("study")
    assert not {"taught", "plane", "cost", "overview"} & sections("compare")


def test_provenance_is_whole() -> None:
    text = page("study").readable
    for part in ("9a1d33c0ffee0001", "5f0c2a9b11d7e3c4", "00ff00ff00ff00ff", "9db4557aa01c, with uncommitted changes",
                 "torch 2.13.0", "temperature 0", "arXiv:1909.03329", "48, 49, 50", "memory_gb 8"):  # fmt: skip
        assert part in text
    assert "77aa77aa77aa77aa" in page("compare").readable


def test_flips_take_every_rule_in_turn() -> None:
    results = synthetic.study(arms=("plain",))
    flip = results["flips"][0]
    results["flips"] = [{**flip, "item": f"i{n}"} for n in range(20)] + results["flips"][1:]
    text = Page(render(results, "html")).readable
    assert "largest gain" in text
    assert "random" in text
    assert "9 of 22" in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", synthetic.ALL)
def test_same_input_same_bytes(kind: str, format: str) -> None:
    results = synthetic.ALL[kind]()
    kept = copy.deepcopy(results)
    first = html(kind) if format == "html" else render(synthetic.ALL[kind](), format, 100)
    assert render(results, format, 100) == first
    assert json.dumps(results) == json.dumps(kept), "rendering changed its input"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_same_bytes_in_another_process(seed: str) -> None:
    code = (
        "import hashlib; from mnemos.report import render; from tests.report import synthetic; "
        "print(hashlib.sha256(render(synthetic.sequence(), 'html').encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.strip() == hashlib.sha256(html("sequence").encode()).hexdigest()


def test_reader_style_sheet_changes_nothing() -> None:
    import matplotlib

    results = synthetic.study((0, 1), ("plain", "replay"))
    plain = render(results, "html")
    with matplotlib.rc_context({"axes.grid": True, "font.size": 20, "lines.linewidth": 9}):
        assert render(results, "html") == plain


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "results",
    [
        {"comparisons": [], "arms": []},
        {"format": 1, "arms": [{"arm": "plain", "history": [], "runs": []}], "matrix": None, "flips": None},
        {"comparisons": [{"arm": "a", "suite": "s", "delta": None, "missing": 3}]},
        synthetic.study((0,), ("plain",), synthetic.SUITES[:2]),
    ],
)
def test_small_and_empty_inputs(results: dict[str, Any], format: str) -> None:
    text = render(results, format)
    assert text
    if format == "html":
        assert Page(text).open == []


def test_json_is_the_dict_with_null_for_nan() -> None:
    results = synthetic.study()
    assert json.loads(render(results, "json")) == results
    ugly = json.loads(render(synthetic.ugly(), "json"))
    row = next(row for row in ugly["comparisons"] if row["suite"] == "json-answers")
    assert row["before"] is None
    assert json.loads(render({"study": "\ud800"}, "json")) == {"study": "\ud800"}


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'html'"):
        render(synthetic.compare(), "htlm")


def test_import_is_light() -> None:
    code = "import sys, mnemos.report; print(sorted({'matplotlib', 'jinja2', 'rich', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
