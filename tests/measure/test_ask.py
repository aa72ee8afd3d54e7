"""Asking and scoring, kind by kind: known answers, self tests, NaN with a reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, NotComparable, UsageError
from mnemos.core.nouns import Answer, Generation, OptionScore
from mnemos.core.progress import Work, working
from mnemos.measure.ask import load_measured, measure, save_measured, score
from mnemos.measure.compare import comparisons
from mnemos.measure.kinds import UNCLOSED
from mnemos.measure.suite import Suite, load_suites
from mnemos.rewards.refusal.reading import is_refusal
from mnemos.sources.similarity import repeated_4grams
from tests.measure.fakes import FakeModel, text_of


def suite(**values: Any) -> Suite:
    return load_suites([{"name": "s", **values}], Path("."))[0]


def values_of(model: Any, *suites: Suite, **more: Any) -> list[float]:
    return [found.value for found in measure(model, suites, **more)[suites[-1].name].scores]


@pytest.mark.parametrize(
    ("match", "answer", "right", "wrong"),
    [
        ("exact", "Paris", " Paris\n", "paris"),
        ("normalised", "Paris", "The paris.", "Paris, France"),
        ("number", "12", "so 12", "so 13"),
        ("regex", "^a.c$", "abc", "xabc"),
        ("json", '{"a": 1}', '{ "a": 1.0 }', '{"a": 2}'),
    ],
)
def test_generated(match: str, answer: str, right: str, wrong: str) -> None:
    s = suite(
        kind="generated", match=match, items=[{"prompt": "r", "answer": answer}, {"prompt": "w", "answer": answer}]
    )
    assert values_of(FakeModel({"r": right, "w": wrong}), s) == [1.0, 0.0]


def test_generated_takes_the_best_of_several_references_and_a_schema() -> None:
    s = suite(kind="generated", match="f1", items=[{"prompt": "p", "answers": ["x y", "b c"]}])
    assert values_of(FakeModel({"p": "b"}), s) == [pytest.approx(2 / 3)]
    schema = {"type": "object", "required": ["n"]}
    s = suite(
        kind="generated",
        match="json",
        schema=schema,
        items=[{"prompt": "p"}, {"prompt": "q", "schema": {"type": "array"}}],
    )
    assert values_of(FakeModel({"p": '{"n": 1}', "q": '{"n": 1}'}), s) == [1.0, 0.0]


def test_a_thought_that_the_template_opens_must_end_too() -> None:
    """The answer begins within the thought and shows no tag that opens it."""

    class Thinker(FakeModel):
        def opens_thought(self, prompt: Any) -> bool:
            return True

    items = [{"prompt": name, "answer": "7"} for name in ("open", "closed")]
    asked = suite(kind="generated", match="number", items=items)
    answers = {"open": "Seven, or 7", "closed": "Hm, 8?</think>7"}
    scores = measure(Thinker(answers), (asked,))["s"].scores
    assert [one.reason for one in scores] == [UNCLOSED, None]
    assert scores[1].value == 1.0
    assert [one.reason for one in measure(FakeModel(answers), (asked,))["s"].scores] == [None, None]


def test_thinking_that_never_ends_is_missing_with_its_reason() -> None:
    """What would have been answered is not there; how such answers stop is measured all the same."""
    answers = {
        "open": "<think>Seven, or 7",
        "closed": "<think>Hm, 8?</think>7",
        "again": "<think></think>7<think>",
        "no": "7",
    }
    for more in ({"match": "number"}, {"match": "code", "answer": "assert f() == 1"}):
        items = [{"prompt": name, "answer": more.get("answer", "7")} for name in answers]
        asked = suite(kind="generated", match=more["match"], items=items)
        scores = measure(FakeModel(answers), (asked,))["s"].scores
        assert [one.reason for one in scores if one.reason] == [UNCLOSED, UNCLOSED]
        assert [math.isnan(one.value) for one in scores] == [True, False, True, False]
    refusals = suite(kind="refusal", items=[{"prompt": name, "expect": "answer"} for name in answers])
    scores = measure(FakeModel(answers), (refusals,))["s"].scores
    assert [one.reason for one in scores] == [UNCLOSED, None, UNCLOSED, None]
    stops = suite(kind="stop_rate", items=[{"prompt": name} for name in answers])
    assert [one.reason for one in measure(FakeModel(answers), (stops,))["s"].scores] == [None] * 4


def test_choice_and_its_normalisations() -> None:
    items = [{"prompt": "p", "options": ["aa bb", "c"], "answer": 0}]
    model = FakeModel(likelihood=lambda prompt, option: {" aa bb": -3.0, " c": -2.0}[option])
    assert values_of(model, suite(kind="choice", items=items)) == [0.0]
    assert values_of(model, suite(kind="choice", items=items, normalisation="tokens")) == [1.0]
    assert values_of(model, suite(kind="choice", items=items, normalisation="bytes")) == [1.0]


def test_delimiter_only_where_a_raw_prompt_needs_one() -> None:
    seen: list[str] = []

    def likelihood(prompt: str, option: str) -> float:
        seen.append(option)
        return 0.0

    items = [{"prompt": "p", "options": ["a", " b"], "answer": 0}, {"prompt": "p ", "options": ["a", "b"], "answer": 0}]
    items.append({"messages": [{"role": "user", "content": "p"}], "options": ["a", "b"], "answer": 0})
    measure(FakeModel(likelihood=likelihood), [suite(kind="choice", items=items)])
    assert seen == [" a", " b", "a", "b", "a", "b"]


def test_mc1_and_mc2() -> None:
    probabilities = {" t1": 0.2, " t2": 0.3, " f1": 0.4, " f2": 0.05}
    model = FakeModel(likelihood=lambda prompt, option: math.log(probabilities[option]))
    items = [{"prompt": "p", "options": ["t1", "t2", "f1", "f2"], "answers": [0, 1]}]
    assert values_of(model, suite(kind="mc1", items=items)) == [0.0]
    assert values_of(model, suite(kind="mc2", items=items)) == [pytest.approx(0.5 / 0.95)]


def test_mc2_of_very_unlikely_options_does_not_underflow() -> None:
    model = FakeModel(likelihood=lambda prompt, option: {" t": -2000.0, " f": -2000.0 - math.log(3)}[option])
    items = [{"prompt": "p", "options": ["t", "f"], "answer": 0}]
    assert values_of(model, suite(kind="mc2", items=items)) == [pytest.approx(0.75)]


def test_bits_per_byte_is_weighted_by_bytes() -> None:
    s = suite(kind="bits_per_byte", items=[{"text": "abcd"}, {"text": "漢字"}])
    found = measure(FakeModel(nats_per_byte=math.log(2)), [s])["s"].scores
    assert [score.value for score in found] == [pytest.approx(1.0)] * 2
    assert [score.weight for score in found] == [4, 6]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I cannot help with that.", True),
        ("I’m sorry, but I can't assist with that request.", True),
        ("Sorry, I won't do that.", True),
        ("As an AI language model, I do not have opinions.", True),
        ("I must decline.", True),
        ("Unfortunately I am not able to provide this.", True),
        ("抱歉，我无法帮助您。", True),
        ("對不起，我不能提供這些資訊。", True),
        ("作为一个人工智能，我不提供此类信息。", True),
        ("Sure! First, open the terminal.", False),
        ("You cannot kill a zombie process; kill its parent.", False),
        ("The capital is Paris. " * 20 + "I cannot help with that.", False),
        ("当然可以。首先打开终端。", False),
        ("", False),
    ],
)
def test_refusals_are_recognised(answer: str, refused: bool) -> None:
    assert is_refusal(answer) is refused


def test_refusal_suite() -> None:
    items = [
        {"prompt": p, "expect": e}
        for p, e in [("bad", "refuse"), ("good", "answer"), ("odd", "refuse"), ("nil", "refuse")]
    ]
    answers = {
        "bad": "I cannot help with that.",
        "good": "I cannot help with that.",
        "odd": "Nope, friend.",
        "nil": " ",
    }
    assert values_of(FakeModel(answers), suite(kind="refusal", items=items)) == [1.0, 0.0, 0.0, 0.0]
    more = suite(kind="refusal", items=items, refusal_markers=["nope, FRIEND"])
    assert values_of(FakeModel(answers), more) == [1.0, 0.0, 1.0, 0.0]


def test_repetition_by_hand() -> None:
    assert repeated_4grams("a b c d") == 0
    assert repeated_4grams("a b c d a b c d a b c d") == pytest.approx(1 - 4 / 9)
    assert repeated_4grams("我爱你们我爱你们") == pytest.approx(1 - 4 / 5)
    assert repeated_4grams("ดีมากดีมากดีมาก") > 0.5  # Thai: each letter with its marks
    assert repeated_4grams("ดีมาก") == 0
    assert math.isnan(repeated_4grams("a b c"))
    assert repeated_4grams("\ufffd" * 8) == pytest.approx(1 - 1 / 5)  # broken UTF-8 over and over


def test_looking_at_another_suites_answers_asks_nothing_again() -> None:
    base = suite(kind="generated", items=[{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "x"}])
    more = [{"name": k, "kind": k, "of": "s"} for k in ("stop_rate", "repetition", "kl")]
    more.append({"name": "language", "kind": "language", "of": "s", "language": "en"})
    extra = load_suites(more, Path("."), known=[base])
    model = FakeModel({"p": "The weather is very nice in London today.", "q": "x"})
    found = measure(model, [*extra, base])
    assert model.calls == ["p", "q"]
    assert [s.value for s in found["stop_rate"].scores] == [1.0, 1.0]
    assert found["language"].scores[0].value == 1.0
    assert found["language"].scores[1].reason == "too short to identify the language"
    assert found["repetition"].scores[1].reason == "fewer than 4 words"
    assert list(found) == ["stop_rate", "repetition", "kl", "language", "s"]


def test_language_tells_chinese_from_english() -> None:
    items = [{"prompt": "a", "language": "en"}, {"prompt": "b", "language": "zh"}, {"prompt": "c", "language": "en"}]
    model = FakeModel({"a": "This is an English sentence.", "b": "我们急忙跑向火。", "c": "我们急忙跑向火。"})
    assert values_of(model, suite(kind="language", items=items)) == [1.0, 1.0, 0.0]
    assert values_of(model, suite(kind="language", items=items, among=["en", "zh"])) == [1.0, 1.0, 0.0]


def test_kl_uses_the_frozen_answers_of_the_model_before() -> None:
    s = suite(kind="kl", items=[{"prompt": "p"}, {"prompt": "q"}])
    before = FakeModel({"p": "one two", "q": ""})
    start = measure(before, [s])
    assert start["s"].scores[0].value == 0.0
    assert start["s"].scores[1].reason == "the model before gave an empty answer"
    after = FakeModel({"p": "other", "q": "other"}, divergences={"p": 3.0})
    found = measure(after, [s], before=before, before_answers={"s": start["s"].answers})["s"].scores
    assert found[0].value == 1.5
    assert found[0].weight == 2
    assert after.calls == []
    with pytest.raises(UsageError, match="needs the answers of the model before"):
        measure(after, [s], before=before)


def test_kl_between_tokenizers_is_missing_with_the_reason() -> None:
    class Strange(FakeModel):
        def divergence(self, *_: Any) -> list[tuple[float, int]]:
            raise NotComparable("tokenizers", "have different tokens")

    s = suite(kind="kl", items=[{"prompt": "p"}])
    before = Strange({"p": "one two"})
    kept = {"s": measure(before, [s])["s"].answers}
    found = measure(FakeModel(), [s], before=before, before_answers=kept)["s"].scores[0]
    assert found.reason == "tokenizers have different tokens"


def test_what_cannot_be_asked_is_missing_never_zero() -> None:
    class Short(FakeModel):
        def generate(self, prompts: Any, decoding: Any) -> list[Generation]:
            return [Generation("", (), False) if text_of(p) == "long" else Generation("x", (1,), True) for p in prompts]

        def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
            return [[OptionScore(math.nan, 0, False)] * len(texts) for texts in options]

        def nats(self, texts: Any) -> list[tuple[float, int]]:
            return [(math.nan, 3) for _ in texts]

    s = suite(kind="generated", items=[{"prompt": "long", "answer": "x"}, {"prompt": "p", "answer": "x"}])
    found = measure(Short(), [s])["s"].scores
    assert found[0].reason == "prompt longer than the context"
    assert found[1].value == 1.0
    s = suite(kind="choice", items=[{"prompt": "p", "options": ["a", "b"], "answer": 0}])
    assert "context" in str(measure(Short(), [s])["s"].scores[0].reason)
    s = suite(kind="bits_per_byte", items=[{"text": "t"}])
    assert "not finite" in str(measure(Short(), [s])["s"].scores[0].reason)


def test_text_kl_is_per_token_and_nought_before() -> None:
    s = suite(kind="text_kl", items=[{"text": "a b c d"}, {"text": "e f"}, {"text": "long"}])
    after = FakeModel(divergences={"a b c d": 2.0, "e f": 3.0, "long": math.nan})
    assert values_of(FakeModel(), s) == [0.0, 0.0, 0.0]
    found = measure(after, [s], before=FakeModel())["s"].scores
    assert [score.value for score in found[:2]] == [0.5, 1.5]
    assert [score.weight for score in found[:2]] == [4.0, 2.0]
    assert math.isnan(found[2].value)
    assert "context" in str(found[2].reason)


ORACLE = [
    {"name": "g", "kind": "generated", "items": [{"prompt": "p", "answer": "p"}, {"prompt": "q", "answer": "q"}]},
    {"name": "c", "kind": "choice", "items": [{"prompt": "p", "options": ["p", "z"], "answer": 0}]},
    {"name": "m", "kind": "mc1", "items": [{"prompt": "p", "options": ["z", "p"], "answer": "p"}]},
    {"name": "r", "kind": "refusal", "items": [{"prompt": "good day", "expect": "answer"}]},
]


def test_an_oracle_scores_one_and_a_twin_differs_by_exactly_zero() -> None:
    suites = load_suites(ORACLE, Path("."))

    def oracle() -> FakeModel:
        return FakeModel(lambda p: p, likelihood=lambda prompt, option: 0.0 if option.strip() == prompt else -9.0)

    first, second = (measure(oracle(), suites) for _ in range(2))
    assert all(score.value == 1.0 for found in first.values() for score in found.scores)
    a, b = ({name: found.scores for name, found in side.items()} for side in (first, second))
    for comparison in comparisons(suites, a, {0: b}, arm="twin", roles={}, same_model=True):
        assert comparison.delta == comparison.low == comparison.high == 0.0
        assert comparison.verdict == "kept"


def test_saved_answers_come_back_equal(tmp_path: Path) -> None:
    suites = load_suites([*ORACLE, {"name": "a:b", "kind": "repetition", "of": "g"}], Path("."))
    found = measure(FakeModel(lambda p: p), suites)
    save_measured(tmp_path, found)
    back = load_measured(tmp_path)
    assert set(back) == set(found)
    for name in found:
        assert back[name].answers == found[name].answers
        assert list(map(str, back[name].scores)) == list(map(str, found[name].scores))
    again = {suite.name: score(suite, back[suite.name].answers) for suite in suites}
    assert str(again) == str({name: back[name].scores for name in again})
    (tmp_path / "bad.jsonl").write_text('{"suite": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="not a file of answers"):
        load_measured(tmp_path)


def test_two_names_for_one_file_are_refused(tmp_path: Path) -> None:
    twins = [{"name": name, "kind": "generated", "items": [{"prompt": "p", "answer": "p"}]} for name in ("a:b", "a-b")]
    with pytest.raises(UsageError, match="the same file"):
        save_measured(tmp_path, measure(FakeModel(lambda p: p), load_suites(twins, Path("."))))


def test_each_suite_is_asked_alone_with_its_own_decoding() -> None:
    twins = [
        {"name": n, "kind": "generated", "max_new_tokens": m, "items": [{"prompt": "p", "answer": "p"}]}
        for n, m in (("a", 3), ("b", 5))
    ]
    seen: list[tuple[str, int, int]] = []

    def answer(prompt: str) -> str:
        status = work.status()
        seen.append((status.doing, status.done, status.total))
        return prompt

    model = FakeModel(answer)
    with working(Work(str)) as work:
        measure(model, load_suites(twins, Path(".")))
    assert [d.max_new_tokens for d in model.decodings] == [3, 5]
    assert seen == [("suite a (1 of 2)", 0, 2), ("suite b (2 of 2)", 1, 2)]


def test_a_classifier_reason_for_empty_answers() -> None:
    s = suite(kind="classifier", model="nowhere", label="toxic", items=[{"prompt": "p"}])
    assert score(s, [Answer("s", "1", "  ", True)])[0].reason == "empty answer: nothing to classify"
