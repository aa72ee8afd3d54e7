"""IFEval's 25 kinds of instruction, each by hand-made answers, and most beside lm-evaluation-harness' checkers."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.rewards.instructions import CHECKS, check_instruction, followed, loosened, sentences

LESS, LEAST = "less than", "at least"
GERMAN = "Der Regen fällt heute auf die Stadt und die Felder."
CASES: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "keywords:existence": [({"keywords": ["Rain", "c++"]}, ["rain and C++"], ["rain", "c + +", ""])],
    "keywords:frequency": [
        ({"keyword": "rain", "frequency": 2, "relation": LEAST}, ["Rain, rain", "rainrain rain"], ["rain"]),
        ({"keyword": "rain", "frequency": 2, "relation": LESS}, ["rain", "sun"], ["rain rain"]),
    ],
    "keywords:forbidden_words": [({"forbidden_words": ["rain"]}, ["rainy", "sun"], ["Rain.", "a rain"])],
    "keywords:letter_frequency": [
        ({"letter": "Q", "let_frequency": 2, "let_relation": LEAST}, ["Qq", "queue q"], ["q"]),
        ({"letter": "#", "let_frequency": 2, "let_relation": LESS}, ["#", "none"], ["##"]),
    ],
    "language:response_language": [
        ({"language": "de"}, [GERMAN, "123"], ["The rain falls today."]),
        ({"language": "kn"}, ["ಮಳೆ ಇಂದು ನಗರದ ಮೇಲೆ ಬೀಳುತ್ತದೆ"], ["La pluie tombe sur la ville aujourd'hui."]),
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 3, "relation": LEAST}, ["One. Two! Three?", "一。二。三"], ["One. Two."]),
        ({"num_sentences": 3, "relation": LESS}, ["Mr. A. Smith paid 3.5 euros. Good."], ["One... Two?! Three"]),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, ["a\n***\nb", "***a***b***"], ["a", "a *** *** b", "a\n\nb"])
    ],
    "length_constraints:number_words": [
        ({"num_words": 3, "relation": LEAST}, ["one two three", "a-b c"], ["one two", "... !"]),
        ({"num_words": 3, "relation": LESS}, ["one two"], ["one two three"]),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Rain"},
            ["Sun.\n\nRain, again", "a\n\n'rain' b"],
            ["rain", "a\n\nb rain", "a\n\nrain\n\nb", "a\n\n\n\nrain"],
        )
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, ["[a] [b]", "[a [b] []"], ["[a]", "[a [b]", "[a\nb] [c"])
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, ["Bye.\nP.S. more", "p. s. more"], ["PS more", "P.P.S more"]),
        ({"postscript_marker": "P.P.S"}, ["p.p.s more", "P. P. S."], ["P.S. more"]),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 2}, ["* a\n* b", "- a\n  * b\n**c**"], ["* a", "* a\n* b\n- c", "a * b"])
    ],
    "detectable_format:constrained_response": [({}, ["My answer is yes.", "So: My answer is maybe."], ["Yes."])],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, ["*a* and *b*", "*a*\n**b**"], ["*a*", "* * and **", "*a\nb* *c"])
    ],
    "detectable_format:multiple_sections": [
        ({"section_spliter": "Part", "num_sections": 2}, ["Part 1\nx\nPart 2", "Part1Part2"], ["Part 1", "PART 1"])
    ],
    "detectable_format:json_format": [
        ({}, ['{"a": 1}', '```json\n{"a": [1]}\n```', "3"], ['{"a": 1', 'So: {"a": 1}', "[" * 9999])
    ],
    "detectable_format:title": [({}, ["<<Rain>>\ntext", "a <<b>> c"], ["<< >>", "<Rain>", "<<a\nb>>", "<<>>"])],
    "combination:two_responses": [
        ({}, ["a\n******\nb", "******a******b"], ["a", "a******a", "a******b******c", "a************b"])
    ],
    "combination:repeat_prompt": [({"prompt_to_repeat": "Say Hi."}, [" say hi. Hi!"], ["Hi! Say hi."])],
    "startend:end_checker": [({"end_phrase": "Any questions?"}, ['"... any questions?"\n'], ["Any questions? No."])],
    "startend:quotation": [({}, ['"a"', ' "a" and "b"\n'], ['"', '"a', "'a'"])],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": LEAST}, ["A BIG day", "DON'T", "SELF-MADE, US"], ["Big DAY"]),
        ({"capital_frequency": 2, "capital_relation": LESS}, ["one DAY", "self-MADE"], ["ONE DAY"]),
    ],
    "change_case:english_capital": [
        ({}, ["THE RAIN FALLS ON THE TOWN TODAY."], ["The rain falls.", GERMAN.upper()])
    ],
    "change_case:english_lowercase": [
        ({}, ["the rain falls on the town today."], ["The rain falls.", GERMAN.lower()])
    ],
    "punctuation:no_comma": [({}, ["no; comma"], ["one, two"])],
}  # fmt: skip


def test_there_are_cases_for_all_25_kinds() -> None:
    assert set(CASES) == set(CHECKS)
    assert len(CHECKS) == 25


@pytest.mark.parametrize("name", CASES)
def test_what_follows_and_what_does_not(name: str) -> None:
    for arguments, good, bad in CASES[name]:
        given = check_instruction(name, {**arguments, "other": None}, where="here")
        assert [text for text in good if not followed(name, given, text)] == []
        assert [text for text in [*bad, "", " \n"] if followed(name, given, text)] == []


def test_the_loose_reading_drops_first_and_last_lines_and_asterisks() -> None:
    assert loosened("Sure!\n*a*, b\nBye") == [
        "Sure!\n*a*, b\nBye", "*a*, b\nBye", "Sure!\n*a*, b", "*a*, b", "Sure!\na, b\nBye", "a, b\nBye", "Sure!\na, b",
        "a, b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No full stop", 1),
        ("Dr. Who, e.g. on Jan 3 at 5 p.m. or so.", 1),
        ("Costs 3.50 today. Fine.", 2),
        ("1. First thing\n2. Second thing.", 1),
        ('He said "Go!" Then he went.', 2),
        ("Wait... what?! Yes", 3),
        ("天下雨。我走了！好", 3),
    ],
)
def test_sentences_end_at_stops(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("keywords:exist", {"keywords": ["a"]}),
        (7, {}),
        ("keywords:existence", {}),
        ("keywords:existence", {"keywords": []}),
        ("keywords:existence", {"keywords": "a"}),
        ("keywords:existence", {"keywords": ["a", ""]}),
        ("punctuation:no_comma", {"n": 1}),
        ("length_constraints:number_words", {"num_words": True, "relation": LEAST}),
        ("length_constraints:number_words", {"num_words": 3, "relation": "more"}),
        ("language:response_language", {"language": "xx"}),
    ],
)
def test_instructions_that_cannot_be_checked_are_refused(name: Any, arguments: Any) -> None:
    with pytest.raises(DataError, match="here"):
        check_instruction(name, arguments, where="here")


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "<<" * 25_000, "." * 50_000, "*" * 50_000, '!"' * 25_000, "a-" * 25_000]
)
def test_no_answer_takes_long(text: str) -> None:
    # Processor time that only a wrong order of growth could take: a square of these lengths is minutes.
    begin = time.thread_time()
    for name, cases in CASES.items():
        if "english" not in name and "language" not in name:
            followed(name, cases[0][0], text)
    assert time.thread_time() - begin < 20


@pytest.fixture(scope="module")
def peer() -> Any:
    """The checkers of lm-evaluation-harness, without what they download and the identifier of languages."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-evaluation-harness is not installed")
    file = Path(found.origin).parent / "tasks" / "ifeval" / "instructions.py"
    spec = importlib.util.spec_from_file_location("peer_instructions", file)
    assert spec is not None
    assert spec.loader is not None
    util: Any = types.ModuleType("instructions_util")
    util.LANGUAGE_CODES = {"en": "English"}
    util.count_words = lambda text: len(re.findall(r"\w+", text))
    package: Any = types.ModuleType("lm_eval.tasks.ifeval")
    package.instructions_util = util
    fakes = {"langdetect": types.ModuleType("langdetect"), "lm_eval.tasks.ifeval": package}
    fakes |= {name: types.ModuleType(name) for name in ("lm_eval", "lm_eval.tasks")}
    kept = {name: sys.modules.get(name) for name in fakes}
    module = importlib.util.module_from_spec(spec)
    try:
        sys.modules.update(fakes)
        spec.loader.exec_module(module)
    finally:
        for name, one in kept.items():
            if one is None:
                del sys.modules[name]
            else:
                sys.modules[name] = one
    return module


PEERS = {
    "keywords:existence": "KeywordChecker",
    "keywords:frequency": "KeywordFrequencyChecker",
    "keywords:forbidden_words": "ForbiddenWords",
    "keywords:letter_frequency": "LetterFrequencyChecker",
    "length_constraints:number_paragraphs": "ParagraphChecker",
    "length_constraints:number_words": "NumberOfWords",
    "length_constraints:nth_paragraph_first_word": "ParagraphFirstWordCheck",
    "detectable_content:number_placeholders": "PlaceholderChecker",
    "detectable_content:postscript": "PostscriptChecker",
    "detectable_format:number_bullet_lists": "BulletListChecker",
    "detectable_format:constrained_response": "ConstrainedResponseChecker",
    "detectable_format:number_highlighted_sections": "HighlightSectionChecker",
    "detectable_format:multiple_sections": "SectionChecker",
    "detectable_format:json_format": "JsonFormat",
    "detectable_format:title": "TitleChecker",
    "combination:two_responses": "TwoResponsesChecker",
    "combination:repeat_prompt": "RepeatPromptThenAnswer",
    "startend:end_checker": "EndChecker",
    "startend:quotation": "QuotationChecker",
    "punctuation:no_comma": "CommaChecker",
}
"""All but sentences, words in capitals and the three that tell a language."""

SAYS = "rain|Rain |q|say hi. |Any questions?|P.S.|p. p. s|Part 1 |Part2|My answer is no.|[a]|1|* a\n|- b\n"
SIGNS = "[|]|<<|>>|{|}|\"|'|,|.| |\n|\n\n|*|**|***|******"
WORDS = st.sampled_from([*SAYS.split("|"), *SIGNS.split("|")])


def theirs(peer: Any, name: str, arguments: dict[str, Any], text: str) -> bool:
    instruction = getattr(peer, PEERS[name])(name)
    instruction.build_description(**arguments)
    return bool(text.strip()) and bool(instruction.check_following(text))


@given(st.lists(WORDS, max_size=12).map("".join))
@settings(max_examples=150, deadline=None)
def test_the_harness_gives_the_same(peer: Any, text: str) -> None:
    # A lone asterisk before a line end is a bullet to the harness alone: its pattern reads on in the next line.
    text = re.sub(r"\*\s*\n", "* x\n", text + "\n")
    for name in PEERS:
        for arguments, _, _ in CASES[name]:
            if "c++" not in str(arguments) and arguments.get("letter") != "#":
                assert followed(name, arguments, text) is theirs(peer, name, arguments, text), (name, arguments)
