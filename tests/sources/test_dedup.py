"""Deduplication: signatures against exact similarity, groups against every pair, paragraphs, contamination."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.sources.dedup import BANDS, ROWS, Contamination, Exact, Paragraphs, minhash_groups, normalised, shingles

WORDS = [f"{a}{b}" for a in "bdfgklmnprstv" for b in ("ala", "eno", "iru", "osta", "umi")]


def text(seed: int, length: int = 80) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def similarity(a: str, b: str) -> float:
    one, other = set(shingles(a)), set(shingles(b))
    return len(one & other) / len(one | other)


def test_near_duplicates_are_found_and_others_are_not() -> None:
    base = [text(seed) for seed in range(30)]
    near = [" ".join([*part.split()[:-2], "other", "ends"]) for part in base]
    groups = minhash_groups([*base, *near])
    assert groups[:30] == list(range(30))
    assert min(similarity(a, b) for a, b in zip(base, near, strict=True)) > 0.9
    assert groups[30:] == list(range(30))
    assert minhash_groups(iter([*base, *near])) == groups


def test_how_often_a_pair_is_found_follows_the_bands() -> None:
    """1 - (1 - s^8)^14, counted over pairs of about s = 0.75."""
    texts: list[str] = []
    for seed in range(150):
        first = text(seed, 120).split()
        rng = random.Random(seed + 9000)
        second = first.copy()
        for at in (20, 50, 90):
            second[at] = rng.choice(WORDS) + "x"
        texts += [" ".join(first), " ".join(second)]
    values = [similarity(a, b) for a, b in zip(texts[::2], texts[1::2], strict=True)]
    expected = sum(1 - (1 - s**ROWS) ** BANDS for s in values)
    groups = minhash_groups(texts)
    found = sum(groups[2 * at] == groups[2 * at + 1] for at in range(150))
    spread = sum((p := 1 - (1 - s**ROWS) ** BANDS) * (1 - p) for s in values) ** 0.5
    assert abs(found - expected) < 4 * spread


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([text(0), text(1), text(0) + " end", "", " ", "short", text(1).upper()]), max_size=9))
def test_groups_begin_with_their_first_text(texts: list[str]) -> None:
    groups = minhash_groups(texts)
    assert len(groups) == len(texts)
    for at, first in enumerate(groups):
        assert first <= at
        assert groups[first] == first
    for a, b in combinations(range(len(texts)), 2):
        if texts[a].strip() and normalised(texts[a]) == normalised(texts[b]):
            assert groups[a] == groups[b]
        if not texts[b].strip():
            assert groups[b] == b


def test_normalisation_and_shingles() -> None:
    assert normalised("Café, 12 STÜCK!\n") == "cafe 0 stuck"
    assert shingles("a b c d e f") == ["a b c d e", "b c d e f"]
    assert shingles("A b.") == ["a b"]
    assert shingles("人工智能是计算机")[0] == "人 工 智 能 是"


def test_exact_copies_and_paragraphs() -> None:
    exact = Exact()
    assert [exact.repeats(one) for one in ("a b", "a  b\n", "a c", "a b")] == [False, True, False, True]
    paragraphs = Paragraphs(least=5)
    assert (
        paragraphs.without("a long paragraph\nshort\nanother one here") == "a long paragraph\nshort\nanother one here"
    )
    assert paragraphs.without("A new one here\na long  paragraph\nabc") == "A new one here\nabc"
    assert paragraphs.without("a long paragraph") == ""
    assert paragraphs.removed == 2


def test_contamination_is_thirteen_words_or_a_whole_short_item() -> None:
    item, other = text(5, 30), text(6, 30)
    found = Contamination([item, other, "just five words of text"])
    inside = f"{text(7, 20)} {' '.join(item.split()[10:23])} {text(8, 20)}"
    assert found.hits(inside.upper()) == {0}
    assert found.hits(f"{text(7, 20)} {' '.join(item.split()[10:22])} and then {text(8, 20)}") == set()
    assert found.hits(f"before just five words of text after {text(9)}") == {2}
    assert found.found == {0: 1, 2: 1}
