"""ROUGE-L against the package rouge_score, the index against all comparisons, items of suites in rows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.rewards.verifiers import rouge_l
from mnemos.sources.held_out import HeldOut
from mnemos.sources.novelty import NoveltyIndex
from mnemos.sources.similarity import longest_common
from mnemos.sources.words import bare_words

few = settings(max_examples=40, deadline=None)
# Few words, so that texts share many of them in many orders.
texts = st.lists(st.sampled_from("a b c d e f. Write, write the The 12 x-y".split()), max_size=12).map(" ".join)  # noqa: SIM905


def slow_lcs(one: list[str], other: list[str]) -> int:
    """The table of every textbook."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@few
@given(texts, texts)
def test_the_longest_common_subsequence_is_that_of_the_table(one: str, other: str) -> None:
    assert longest_common(bare_words(one), bare_words(other)) == slow_lcs(bare_words(one), bare_words(other))


@few
@given(texts, texts)
def test_rouge_l_of_ascii_is_that_of_the_package(one: str, other: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    assert rouge_l(one, other) == pytest.approx(scorer.score(one, other)["rougeL"].fmeasure, abs=1e-12)


@few
@given(st.lists(texts, max_size=30), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_the_index_decides_as_all_comparisons_do(pool: list[str], bound: float) -> None:
    index, admitted = NoveltyIndex(bound), []
    for text in pool:
        first = next((i for i, one in enumerate(admitted) if rouge_l(text, one) >= bound - 1e-9), None)
        found = index.like(text)
        assert (found and found[0]) == first
        if found:
            assert found[1] == pytest.approx(rouge_l(text, admitted[found[0]]))
        assert index.admit(text) == (first is None)
        if first is None:
            admitted.append(text)
    assert len(index) == len(admitted)


def test_few_texts_are_compared_and_scripts_without_spaces_have_words() -> None:
    rng = random.Random(0)
    index = NoveltyIndex(0.7)
    pool = [" ".join(f"word{rng.randrange(2000)}" for _ in range(12)) for _ in range(3000)]
    for text in pool:
        index.add(text)
    assert index.like(" ".join(pool[1500].split()[:-2])) == (1500, pytest.approx(20 / 22))
    assert index.compared <= 2
    assert rouge_l("请写一首关于春天的诗", "请写一首关于秋天的诗") == pytest.approx(0.9)
    assert NoveltyIndex(0.7).like("?!") is None


LONG = "the committee of the northern valley met on the second day of may to hear about the old bridge"


def test_thirteen_words_in_a_row_or_the_whole_of_a_short_item_are_found() -> None:
    held = HeldOut([("news", "f1", (LONG, "What is 12 + 30?")), ("pages", "f2", ("Name a river!",))])
    assert held.suite_in(["Yes.", f"Say: {' '.join(LONG.split()[3:16]).upper()}!"]) == "news"
    assert held.suite_in([" ".join(LONG.split()[3:15])]) is None, "twelve words"
    assert held.suite_in(["what is 12 30"]) == "news"
    assert held.suite_in(["What is 12 + 31?"]) is None, "another sum"
    assert held.suite_in(["Name a river, and a bridge!"]) is None
    assert held.suite_in(["name a RIVER"]) == "pages"
    assert held.suite_in(["", "..."]) is None


def test_how_a_suite_asks_is_no_item() -> None:
    asked = "Say which of the four sections the following piece of news belongs to, and nothing else:"
    held = HeldOut([("news", "f", tuple(f"{asked} story {i} about thing {i} of place {i} in the year {i}" for i in range(40)))])  # fmt: skip  # noqa: E501
    assert held.suite_in([f"{asked} a tale of two mills and a bridge that was never built at all"]) is None
    assert held.suite_in([f"{asked} story 7 about thing 7 of place 7 in the year 7"]) == "news"


def test_a_fingerprint_is_of_the_suites_own() -> None:
    one, other = (HeldOut([("a", name, ("x",))]).fingerprint for name in ("f1", "f2"))
    assert one != other
    assert HeldOut([("a", "f1", ("x",))]).fingerprint == one
