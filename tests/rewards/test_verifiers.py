"""Verifiers against independent references: sacrebleu, hand-written SQuAD rules, real JSON schemas."""

from __future__ import annotations

import itertools
import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards import verifiers as verify
from mnemos.sources.similarity import longest_common

ASCII = st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + "  \n", max_size=40)


def squad(text: str) -> str:
    """The published normalisation, ASCII: lower, strip punctuation, articles, white space."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


@given(ASCII)
def test_normalise_is_squads_on_ascii(text: str) -> None:
    assert verify.normalise(text) == squad(text)


@given(ASCII, ASCII)
def test_f1_is_squads(answer: str, reference: str) -> None:
    a, b = squad(answer).split(), squad(reference).split()
    shared = sum((Counter(a) & Counter(b)).values())
    if not a or not b:
        expected = float(a == b)
    elif shared == 0:
        expected = 0.0
    else:
        precision, recall = shared / len(a), shared / len(b)
        expected = 2 * precision * recall / (precision + recall)
    assert verify.f1(answer, reference) == pytest.approx(expected)


@settings(deadline=None)  # the first example imports the reference
@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_chrf_is_sacrebleus(answer: str, reference: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    expected = sacrebleu.CHRF().sentence_score(answer, [reference]).score / 100
    assert verify.chrf(answer, reference) == pytest.approx(expected, abs=1e-9)


WORDS = st.lists(st.sampled_from(["the", "The", "cat", "sat,", "7", "on-", "a"]), max_size=8).map(" ".join)


@settings(deadline=None)  # the first example imports the reference
@given(WORDS | ASCII, WORDS | ASCII)
def test_rouge_l_is_the_authors(answer: str, reference: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    assert verify.rouge_l(answer, reference) == pytest.approx(scorer.score(reference, answer)["rougeL"].fmeasure)


def test_rouge_l_keeps_letters_of_other_alphabets_together() -> None:
    assert verify.rouge_l("el año pasó", "el ano paso") == pytest.approx(1 / 3)


@given(st.text(max_size=20))
def test_every_verifier_accepts_the_reference_itself(text: str) -> None:
    assert verify.exact(text, text) == 1
    assert verify.normalised(text, text) == 1
    assert verify.regex(text, re.escape(text)) == 1
    assert verify.json_equal(json.dumps(text), json.dumps(text)) == 1


def test_json_needs_the_whole_answer() -> None:
    assert verify.json_equal('{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}') == 1
    assert verify.json_equal('```json\n{"a": 1}\n```', '{"a": 1}') == 1
    assert verify.json_equal('Here: {"a": 1}', '{"a": 1}') == 0
    assert verify.json_equal("true", "1") == 0
    assert verify.json_equal("NaN", "NaN") == 0
    assert verify.json_equal("[" * 100_000, "[]") == 0


def test_json_schema() -> None:
    schema = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}
    assert verify.json_schema('{"age": 3}', schema) == 1
    assert verify.json_schema('{"age": -3}', schema) == 0
    assert verify.json_schema('{"age": 3} and more', schema) == 0
    assert verify.json_schema('{"age": true}', schema) == 0


def test_json_schema_fetches_nothing() -> None:
    assert verify.json_schema("1", {"$ref": "https://example.invalid/schema.json"}) == 0


@pytest.mark.parametrize(
    ("match", "reference", "message"),
    [("regex", "(", "no regular expression"), ("number", "none", "holds no number"), ("json", "{", "is not JSON")],
)
def test_a_reference_that_nothing_meets_is_refused(match: str, reference: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        verify.check_reference(match, reference, where="items.jsonl:3")
    assert "items.jsonl:3" in str(caught.value)
    with pytest.raises(DataError, match="empty after normalisation"):
        verify.check_reference("normalised", "the", where="x:1")


def test_a_broken_schema_is_refused() -> None:
    with pytest.raises(DataError, match="is not valid"):
        verify.check_schema({"type": "objekt"}, where="s")


def test_unknown_verifier_names_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'exact'"):
        verify.verifier("exakt")


def test_gsm8k_labels(real_data) -> None:  # type: ignore[no-untyped-def]
    """The final answers of real solutions are read as their authors marked them."""
    import gzip

    path = real_data / "gsm8k" / "train.jsonl.gz"
    if not path.exists():
        pytest.skip("gsm8k absent")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, 500)]
    for row in rows:
        gold = row["answer"].split("####")[-1].strip()
        assert verify.number(row["answer"], gold) == 1


CHINESE = st.text(alphabet="今天气很好不我是中国人，。？ab 12", max_size=20)


@settings(deadline=None)  # the first example imports the reference
@given(CHINESE, CHINESE)
def test_rouge_l_of_chinese_is_the_authors_over_sacrebleus_characters(answer: str, reference: str) -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    zh = pytest.importorskip("sacrebleu.tokenizers.tokenizer_zh").TokenizerZh()

    class Tokens:
        def tokenize(self, text: str) -> list[str]:
            return [token for token in zh(text).split() if token.isalnum()]

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Tokens())
    assert verify.rouge_l(answer, reference) == pytest.approx(scorer.score(reference, answer)["rougeL"].fmeasure)


@pytest.mark.parametrize(
    ("answer", "reference", "words"),
    [
        ("今天天气很好", "今天天气不好", 6),
        ("きょうはいい", "きょうはいく", 6),
        ("ดีมาก", "ดีมาย", 4),
        ("កខគឃ", "កខគង", 4),
        ("ກຂຄງ", "ກຂຄຈ", 4),
        ("ကခဂဃ", "ကခဂင", 4),
    ],
)
def test_scripts_without_spaces_keep_what_is_the_same(answer: str, reference: str, words: int) -> None:
    for graded in (verify.f1, verify.rouge_l):
        assert graded(answer, reference) == pytest.approx((words - 1) / words)
        assert graded(reference, reference) == 1
        assert graded(answer, "xyz") == 0


def test_marks_stay_on_their_letters() -> None:
    assert verify.rouge_l("हिन्दी भाषा", "हिन्दी नहीं") == pytest.approx(0.5)


WORD = st.lists(st.sampled_from("abcd"), max_size=12)


@given(WORD, WORD)
def test_common_is_the_longest_common_subsequence(answer: list[str], meant: list[str]) -> None:
    table = [[0] * (len(meant) + 1) for _ in range(len(answer) + 1)]
    for i, one in enumerate(answer):
        for j, other in enumerate(meant):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert longest_common(answer, meant) == table[-1][-1]


def test_small_digits_do_not_join_the_number_before_them() -> None:
    assert verify.normalised("10²", "102") == 0
    assert verify.normalised("3½", "3 1⁄2") == 1


# hostile text ---------------------------------------------------------------------------------

REFERENCES = {"regex": r"^(a|aa|1|11)+$", "json": '{"a": 1}', "number": "42"}
PIECES = [
    "[",
    "]",
    "{",
    "}",
    '"',
    "\\",
    "`",
    "```",
    "~~~",
    "\n",
    "\r",
    " ",
    "\t",
    "a",
    "a ",
    "1",
    "1-",
    ",111",
    ".234",
    "/",
]
PIECES += [
    "^2",
    "²",
    "\\frac{",
    "\\sqrt",
    "\u0301",
    "\u0323\u0301",
    "\ud800",
    "\0",
    "\ufdfa",
    "今",
    "ส",
    "1:1",
    "e9",
    "9",
    "-",
]
PIECES += ["[[", '{"a":', "$", "½", "\u200d", "\x1b[31m", "1 1/2 ", "10^999", "(a+)+"]


@st.composite
def hostile(draw: st.DrawFn) -> str:
    """A few pieces, each many times over, in one text of at most 20,000 characters."""
    parts = draw(st.lists(st.tuples(st.sampled_from(PIECES) | st.text(max_size=4), st.integers(1, 6000)), max_size=4))
    return "".join(piece * number for piece, number in parts)[:20_000]


@pytest.mark.parametrize("name", verify.VERIFIERS)
@settings(deadline=None, max_examples=60)
@given(text=hostile())
def test_every_verifier_gives_any_text_a_score_or_a_reason(name: str, text: str) -> None:
    found = verify.score(name, text, REFERENCES.get(name, "the reference 今天 ดี"))
    assert found.reason is not None or 0 <= found.value <= 1
    assert found.reason is None or "verifier failed" not in found.reason


@settings(deadline=None, max_examples=60)
@given(text=hostile())
def test_every_schema_gives_any_text_a_score_or_a_reason(text: str) -> None:
    found = verify.schema_score(text, {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False})
    assert found.reason is not None or found.value in (0, 1)


@pytest.mark.parametrize(
    ("name", "answer", "reference", "value"),
    [
        ("number", "9" * 5000, "7", 0.0),
        ("json", "9" * 5000, "7", 0.0),
        ("json", "[" * 600 + "]" * 600, "[]", 0.0),
        ("json", "[" * 400 + "]" * 400, "[" * 400 + "]" * 400, 1.0),
        ("json", "```" + "\n" * 1600, "7", 0.0),
        ("json", "1e400", "1e999", 0.0),
        ("json", "9007199254740993", "9007199254740992.0", 0.0),
        ("f1", "a" + "\u0301\u0323" * 90_000, "b", 0.0),
        ("rouge_l", "a b " * 45_000, "a b " * 45_000, 1.0),
    ],
)
def test_hostile_answers_of_old(name: str, answer: str, reference: str, value: float) -> None:
    assert verify.score(name, answer, reference).value == value


def test_what_cannot_be_said_in_bounded_time_has_a_reason() -> None:
    slow = r"^(a|aa|b|\s)+$"
    assert "takes more than" in str(verify.score("regex", "a" * 5000 + "!", slow).reason)
    assert verify.score("regex", "a b a", slow).value == 1
    assert "takes more than" in str(verify.schema_score(json.dumps("a" * 5000 + "!"), {"pattern": slow}).reason)
    assert "nested too deep" in str(verify.schema_score("[" * 600 + "]" * 600, {}).reason)
    assert "more than 200,000" in str(verify.score("exact", "a" * 200_001, "a").reason)


def test_a_schema_means_what_it_means_to_jsonschema() -> None:
    import jsonschema

    schemas: list[dict[str, Any]] = [
        {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
        {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        {"properties": {"b": {}}, "additionalProperties": False},
        {"type": "array", "uniqueItems": True},
        {"type": "string", "pattern": "^x+$"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"pattern": "x"}], "additionalItems": False},
        {"unevaluatedProperties": False, "properties": {"a": True}},
    ]
    values = [
        {"a": 1},
        {"a": "x"},
        {"b": "x"},
        {"b": 1},
        [1, True],
        [1, 1.0],
        [{"a": 1}, {"a": True}],
        "xx",
        "y",
        ["y"],
    ]
    for schema in schemas:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        for value in values:
            assert verify.json_schema(json.dumps(value), schema) == kind(schema).is_valid(value), (schema, value)


def test_many_objects_are_compared_at_once() -> None:
    many = json.dumps([{"a": n} for n in range(15_000)])
    assert verify.schema_score(many, {"uniqueItems": True}).value == 1


def test_a_schema_whose_patterns_have_no_limit_is_refused() -> None:
    with pytest.raises(DataError, match="bounded time"):
        verify.check_schema({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, where="s")
    with pytest.raises(DataError, match="is not valid"):
        verify.check_schema({"properties": {"a": {"pattern": "("}}}, where="s")


def test_one_reference_met_is_enough_and_a_missing_one_says_nothing_otherwise() -> None:
    none, half, full = missing("x"), Rewarded(0.5), Rewarded(1.0)
    assert verify.best([none, full]).value == 1
    assert verify.best([none, half]).reason == "x"
    assert verify.best([half, Rewarded(0.0)]).value == 0.5


def test_verifiers_are_listed_in_one_place() -> None:
    """What settings accept is the table; what the documentation says holds all of it."""
    from typing import get_args

    from mnemos.measure.settings import GeneratedSettings
    from mnemos.rewards.by_name import RewardSettings
    from mnemos.rewards.checks import CHECKS

    every = [*verify.VERIFIERS, *CHECKS]
    assert list(GeneratedSettings.model_json_schema()["properties"]["match"]["enum"]) == every
    assert RewardSettings.model_json_schema()["properties"]["verifier"]["anyOf"][0]["enum"] == every
    assert list(get_args(verify.TextName)) == list(verify.VERIFIERS)
    docs = Path(__file__).parents[2] / "docs"
    for page in ("suites.md", "reward.md"):
        text = (docs / page).read_text(encoding="utf-8")
        assert [name for name in every if not re.search(rf"\b{name}\b", text)] == []
