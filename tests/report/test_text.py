"""The terminal ledger and the Markdown."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from mnemos.report import card, render
from mnemos.report.ledger import show
from mnemos.report.markdown import escape, fence
from mnemos.report.reading import read
from mnemos.report.verdicts import verdict_words
from mnemos.report.words import clean
from tests.report import synthetic


def squeezed(text: str) -> str:
    """Text without white space: wrapping may break a line anywhere."""
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("kind", synthetic.ALL)
@pytest.mark.parametrize("width", [40, 72, 100, 160])
def test_ledger_fits_and_is_clean(kind: str, width: int) -> None:
    text = render(synthetic.ALL[kind](), "text", width)
    assert "\x1b" not in text
    for line in text.splitlines():
        assert line == line.rstrip()
        assert cell_len(line) <= width


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_ledger_holds_every_verdict(kind: str) -> None:
    results = synthetic.ALL[kind]()
    text = squeezed(render(results, "text", 220))
    for change in read(results).changes:
        assert squeezed(verdict_words(change, tolerance=False)) in text
        if change.missing:
            assert f"{change.missing:,}missing" in text


def test_ledger_says_cost_and_matrix() -> None:
    text = render(synthetic.sequence(), "text", 120)
    assert "123 k tokens, 1.10 GB peak memory, 100 % of the weights trainable, 3 seeds" in text
    assert "Backward transfer: earlier tasks lost 62.8 points once later ones were taught" in text
    assert re.search(r"joint +90\.0 +92\.0 +84\.0", text)
    narrow = render(synthetic.sequence(), "text", 40)
    assert "slurp_text: 0.0, 2.2, 90.8, 44.3" in narrow


def test_ledger_in_colour_only_on_a_terminal() -> None:
    facts = read(synthetic.study())
    piped, terminal = io.StringIO(), io.StringIO()
    show(facts, Console(file=piped, width=100))
    show(facts, Console(file=terminal, width=100, force_terminal=True, color_system="standard"))
    assert "\x1b" not in piped.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_ledger_survives_an_ascii_pipe() -> None:
    pipe = io.BytesIO()
    raw = io.TextIOWrapper(pipe, encoding="ascii")
    show(read(synthetic.ugly()), Console(file=raw, width=100))
    raw.flush()
    assert len(pipe.getvalue().decode("ascii").splitlines()) > 10


def tables(text: str) -> list[list[str]]:
    """The lines of every table in a Markdown text."""
    out: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            out[-1].append(line)
        elif out[-1]:
            out.append([])
    return [lines for lines in out if lines]


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_markdown_tables_are_well_formed(kind: str) -> None:
    text = render(synthetic.ALL[kind](), "md")
    found = tables(text)
    assert found
    for lines in found:
        pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(pipes) == 1
        assert re.fullmatch(r"\|(-{3}:?\|)+", lines[1])
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == len(found)


def rendered_text(text: str) -> str:
    """What a reader sees of a Markdown text."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script" not in html
    assert "<img" not in html
    assert "javascript:" not in "".join(re.findall(r'(?:href|src)="([^"]*)"', html))
    plain = re.sub(r"<[^>]+>", "", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, char)
    return plain


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_markdown_shows_every_comparison_as_written(kind: str) -> None:
    results = synthetic.ALL[kind]()
    seen = squeezed(rendered_text(render(results, "md")))
    for change in read(results).changes:
        assert squeezed(verdict_words(change)) in seen
        assert squeezed(change.suite) in seen


def test_escape_is_undone_by_a_reader() -> None:
    hostile = clean(synthetic.HOSTILE + " a_b_c #1 [x](y) [1](z) @you https://a.b www.c.d [-1.0, +2.0] ![i](j) ~~s~~")
    assert squeezed(rendered_text(escape(hostile))) == squeezed(hostile)
    assert "<a" not in MarkdownIt("commonmark").render(escape(hostile))


def test_fence_outlasts_the_text() -> None:
    block = fence("```\ninside ````\n```")
    assert block.startswith("`````text\n")
    assert MarkdownIt().parse(block)[0].type == "fence"
    assert "more characters in results.json" in fence("x" * 5000)


def test_card_for_a_comparison() -> None:
    finding = SimpleNamespace(outcome=3, reason="refusals: lost: loss between 19.8 and 32.2 points, 2.0 points allowed")
    kept = SimpleNamespace(outcome=0, reason="arithmetic: kept: fine")
    text = card(synthetic.compare(), SimpleNamespace(exit_code=3, findings=(finding, kept)))
    assert text.startswith("### mnemos: gate lost\n")
    assert "refusals: lost: loss between" in text
    assert "arithmetic: kept: fine" not in text
    assert "| refusals | 98.0 | 72.0 | **lost** 26.0 points [19.8, 32.2] | 200 |" in text
    assert len(text.splitlines()) < 25
    tables(text)


@pytest.mark.parametrize(("code", "text"), [(0, "gate kept"), (4, "gate cannot tell (loss allowed: 2 points)")])
def test_card_decisions(code: int, text: str) -> None:
    gate = {"exit_code": code, "max_loss": 2.0} if code else {"exit_code": code}
    assert card(synthetic.compare(), gate).splitlines()[0] == f"### mnemos: {text}"


def test_card_folds_many_kept_suites_and_lists_arms() -> None:
    suites = [("s%d" % i, "old", "points", "higher", 100, 2.0, 0.9) for i in range(12)]  # noqa: UP031
    results = synthetic.study((0,), ("one",), tuple(suites))
    for row in results["comparisons"]:
        row["verdict"] = "lost" if row["suite"] == "s3" else "kept"
    text = card(results)
    assert "Kept: s0, s1, s2, s4" in text
    assert text.count("| s") == 2
    assert "- **half-way**: learned" in card(synthetic.study())
