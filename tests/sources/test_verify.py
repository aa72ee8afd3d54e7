"""Verifiers against independent references: sacrebleu, hand-written SQuAD rules, real JSON schemas."""

from __future__ import annotations

import itertools
import json
import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.sources import verify

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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("so the answer is 42.", 42),
        ("1,234.50 dollars", 1234.5),
        ("$-3", -3),
        ("it fell from 7 to −2", -2),
        (r"\boxed{17}", 17),
        (r"the result is $\frac{3}{4}$", 0.75),
        ("3/4 of them", 0.75),
        ("2e3", 2000),
        ("答案是１２。", 12),
        ("10-4", 4),
        ("page-7", 7),
        (".5", 0.5),
        ("50%", 50),
        ("1,2,3", 3),
        ("7/0", 7),
    ],
)
def test_last_number(text: str, value: float) -> None:
    found = verify.last_number(text)
    assert found is not None
    assert float(found) == value


def test_number_compares_values_not_digits() -> None:
    assert verify.number("It is 1,000.0", "1000") == 1
    assert verify.number("0.3333333", "1/3") == 1
    assert verify.number("0.33", "1/3") == 0
    assert verify.number("none", "1") == 0
    assert verify.number("-5", "5") == 0


@given(st.integers(-(10**9), 10**9))
def test_number_reads_what_python_writes(value: int) -> None:
    assert verify.last_number(f"it is {value:,}") == value


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
    ("match", "reference", "said"),
    [("regex", "(", "no regular expression"), ("number", "none", "holds no number"), ("json", "{", "is not JSON")],
)
def test_a_reference_that_nothing_meets_is_refused(match: str, reference: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
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
