"""Filters: each rule at its bound, the published scans written anew, and every drop with a reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.sources.filters import gopher
from mnemos.sources.filters.classifier import cross_scores, learn
from mnemos.sources.filters.gopher import GopherQuality, GopherRepetition
from mnemos.sources.filters.other import Language, Perplexity, PersonalData, RepeatedCharacters, Scored, character_model
from mnemos.sources.filters.page import LONGEST, Page, through
from mnemos.sources.filters.presets import FILTERS, PRESETS, made
from mnemos.sources.filters.web import C4Lines, DCLMLines, FineWeb

NAMES = ["river", "stone", "window", "garden", "letter", "market", "winter", "silver", "mountain", "kitchen"]
GOOD = """The old mill stood by the river for two hundred years, and nobody in the village could say who had built it.
When the flood came in spring, its wheel broke loose and was carried down to the bridge.
A carpenter from the next valley offered to repair it if they would give him the rooms above the stable.
They agreed, because winter had been long and flour was hard to find anywhere else.
He worked alone until harvest, measuring each beam twice before he cut into the wood.
Children watched him from the wall and asked what every tool was called.
On the first day of October the wheel turned again with a sound like distant rain.
That evening everyone ate fresh bread in the yard, and the miller's daughter played her violin.
Years later travellers would still be told about the man who stayed to have a home.
His name is painted on a board over the door, though rain has taken most of its letters."""
CHINESE = "人工智能是计算机科学、心理学、哲学等学科融合的交叉学科。" * 9


def reason(one: Any, text: str) -> str:
    found = one(Page(text))
    return found if isinstance(found, str) else ""


def test_a_good_page_passes_every_preset_and_is_not_changed() -> None:
    for names in PRESETS:
        page, why = through(made([names]), Page(GOOD))
        assert why == ""
        assert page is not None
        assert page.text == GOOD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("the and of " * 3, "fewer words"),
        ("a I o " * 40, "words shorter"),
        ("incomprehensibilities " * 60, "words longer"),
        ("the word and # that " * 20, "too many #"),
        ("the word and ... that " * 20, "too many ellipses"),
        ("\n".join(["- the word and that have been"] * 20), "lines with bullets"),
        ("\n".join(["the word and that have been…"] * 20 + ["and words of the page that are " * 20]), "end in an ell"),
        ("the word 12345 and 678 91011 " * 20, "too few words with a letter"),
        ("wir haben nichts davon gewusst sagte jemand " * 20, "too few stop words"),
    ],
)
def test_gopher_s_quality_rules(text: str, why: str) -> None:
    assert why in reason(GopherQuality(), text)


def test_bounds_are_where_they_are_said_to_be() -> None:
    fifty = "that " * 25 + "have " * 25
    assert reason(GopherQuality(), fifty) == ""
    assert "fewer words" in reason(GopherQuality(), fifty.removesuffix("have "))
    lines = ["a line that is long enough to stay here"] + ["short"] * 2
    assert reason(FineWeb(min_ended=0.0, max_line_ends=1.0, max_repeated=1.0), "\n".join(lines)) == ""  # 2/3 < 0.67
    assert "short lines" in reason(FineWeb(min_ended=0.0, max_repeated=1.0), "\n".join([*lines, "more"]))


words = st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), max_size=40)


@settings(max_examples=150)
@given(words, st.integers(2, 6))
def test_repetition_is_the_published_scan(text: list[str], n: int) -> None:
    """datatrove's two functions, as they stand in its source."""
    seen: set[str] = set()
    repeated, at = 0, 0
    while at < len(text) - n + 1:
        gram = "".join(text[at : at + n])
        if gram in seen:
            repeated += len(gram)
            at += n
        else:
            seen.add(gram)
            at += 1
    assert gopher.repeated_characters(text, n) == repeated
    joined = [" ".join(text[at : at + n]) for at in range(len(text) - n + 1)]
    top = Counter(joined).most_common(1)
    assert gopher.top_characters(text, n) == (len(top[0][0]) * top[0][1] if top else 0)


def test_repetition_is_dropped_by_lines_paragraphs_and_grams() -> None:
    line = "this line stands here more often than once"
    assert "repeated" in reason(GopherRepetition(), "\n".join([line] * 5))
    assert "repeated paragraphs" in reason(GopherRepetition(), "\n\n".join([line, "other words", line, line]))
    assert "2-gram" in reason(GopherRepetition(), "spam eggs " * 40)
    assert reason(GopherRepetition(), GOOD) == ""


def test_c4_edits_lines_and_drops_pages() -> None:
    page = C4Lines()(
        Page(GOOD + "\nEnable JavaScript to see this page.\nRead our privacy policy for more.\nHome\nA [1] b c.")
    )
    assert isinstance(page, Page)
    assert page.text == GOOD + "\nA  b c."
    assert reason(C4Lines(), GOOD + "\nLorem ipsum dolor sit.") == "lorem ipsum"
    assert reason(C4Lines(), GOOD + "\nif (a) { b }") == "a curly bracket"
    assert reason(C4Lines(), "One sentence is here. Mr. J. Smith said no... well then") == "too few sentences"
    assert reason(C4Lines(min_sentences=2), "One sentence is here. And two") == ""
    long = "x" * 1001
    assert C4Lines()(Page(GOOD + f"\nthe {long} word")) == Page(GOOD)
    assert C4Lines(terminal=True)(Page(GOOD + "\nno end of this line here")) == Page(GOOD)


def test_dclm_corrects_lines() -> None:
    page = DCLMLines()(Page(GOOD + "\n3 likes\n12345\nSIGN\nRead more..."))
    assert isinstance(page, Page)
    assert page.text == GOOD
    assert "no text" in reason(DCLMLines(), GOOD + "\nTHIS IS ALL SHOUTED AT YOU " * 3)


def test_fineweb_s_own_rules() -> None:
    assert "end like a sentence" in reason(FineWeb(), "\n".join(["no end in this line of words here"] * 9))
    assert "repeated lines" in reason(FineWeb(), GOOD + "\n" + GOOD.split("\n")[0])
    assert "line ends" in reason(FineWeb(max_repeated=1.0, max_short=1.0), "yes.\nno.\n" * 30)
    assert reason(FineWeb(), "\n".join([CHINESE, "एक वाक्य यहाँ है।"])) == ""


def test_personal_data_is_replaced_and_private_networks_stay() -> None:
    text = "mail john.doe+x@mail.example.org or 8.8.8.8, not 192.168.1.1, 999.1.1.1 or version 1.2.3.4.5"
    page = PersonalData()(Page(text))
    assert isinstance(page, Page)
    assert page.text == "mail email@example.com or 192.0.2.1, not 192.168.1.1, 999.1.1.1 or version 1.2.3.4.5"


def test_runs_of_one_character_and_languages() -> None:
    assert "runs of one" in reason(RepeatedCharacters(), "text " + "=" * 60)
    assert reason(RepeatedCharacters(), "text " + "=" * 9) == ""
    assert reason(Language("en"), CHINESE) == "in zh"
    assert reason(Language("zh"), CHINESE) == ""


def test_english_rules_reject_chinese_by_construction() -> None:
    _, why = through(made(["fineweb"]), Page(CHINESE))
    assert why.startswith("gopher")


def test_perplexity_keeps_what_is_like_its_reference() -> None:
    model = character_model([GOOD] * 3)
    assert model.bits(GOOD) < 1 < model.bits("qzx vkj wqp") < model.bits(CHINESE[:40])
    assert reason(Perplexity(model, least=0.0), GOOD) == ""
    assert reason(Perplexity(model), CHINESE) == "too surprising"
    assert reason(Perplexity(model, least=2.0), GOOD) == "too easy to predict"
    # Probabilities of what may come next sum to one, over characters that were seen and all others.
    context = GOOD[:4]  # "The "
    kinds = set(GOOD)
    total = sum(2 ** -(5 * model.bits(context + c) - 4 * model.bits(context)) for c in kinds)
    unseen = 2 ** -(5 * model.bits(context + "\u4e00") - 4 * model.bits(context))
    assert total + unseen * (0x10FFFF - len(kinds)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="hold no character"):
        character_model([""])


def test_a_classifier_learns_and_never_scores_what_it_saw() -> None:
    good = [f"{GOOD} the {name} is told {n}" for n, name in enumerate(NAMES * 3)]
    bad = [f"buy cheap {name} now click {n} here best price free shipping" for n, name in enumerate(NAMES * 3)]
    label = [True] * 30 + [False] * 30
    model = learn(good + bad, label)
    assert reason(Scored(model), "click here to buy now best price") == "score below 0.5"
    scores = cross_scores(good + bad, label)
    assert min(scores[:30]) > max(scores[30:])
    below = Scored(model, keep="below")
    assert reason(below, good[0]) == "score of 0.5 or above"
    assert reason(Scored(lambda text: float("nan"), keep="below"), GOOD) == "no score"
    with pytest.raises(DataError, match="too few to learn"):
        learn(good[:9], [True] * 9)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_a_filter(text: str) -> None:
    for name in FILTERS:
        if name == "language":
            continue
        page, why = through([FILTERS[name]()], Page(text))
        assert (page is None) == bool(why)
        if why:
            assert ": " in why


def test_odd_pages_have_reasons() -> None:
    assert through([], Page(" \n "))[1] == "page: empty"
    assert "longer than" in through([], Page("x" * (LONGEST + 1)))[1]
    assert Page("x", "https://user@www.Example.org:80/a").domain == "example.org"


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (["finweb"], {}, "did you mean 'fineweb'"),
        (["c4"], {"c4.min_sentence": 3}, "did you mean 'min_sentences'"),
        (["c4"], {"c4.min_sentences": "three"}, "must be a int"),
        (["c4"], {"fineweb.short": 3}, "is no filter that is used"),
    ],
)
def test_what_cannot_be_meant_is_refused(names: list[str], values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(names, values)


def test_settings_and_language_reach_filters() -> None:
    filters = made(["fineweb"], {"fineweb.max_repeated": 0.1, "gopher_quality.min_words": 5}, "en")
    assert filters[0] == Language("en")
    assert FineWeb(max_repeated=0.1) in filters
    assert GopherQuality(min_words=5) in filters
