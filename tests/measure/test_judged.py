"""Suites that a judge scores: pairwise, graded over turns, by criteria; their manifest, and the named suites."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, NotComparable, UsageError
from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt
from mnemos.core.plan import ModelHandle
from mnemos.measure import manifest as manifests
from mnemos.measure.ask import load_measured, measure, save_measured, score
from mnemos.measure.compare import comparisons
from mnemos.measure.judged import by_category
from mnemos.measure.suite import Suite, load_suites
from mnemos.rewards import by_name
from tests.measure.fakes import FakeModel

SEEN: list[str] = []


@dataclass(frozen=True)
class Longer:
    """A judge that prefers long answers; rates one by its words, up to 10. lean: likes the first place by so many
    letters."""

    path: str
    lean: int = 0
    says: str | None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.path} {self.lean}"

    def load(self) -> Longer:
        return self

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        out = []
        for context, texts in zip(contexts, options, strict=True):
            text = context.turns[-1].text
            SEEN.append(text)
            if len(texts) == 2:
                first, second = text.split("(A) ", 1)[1].split("\n\n(B) ", 1)
                gap = len(first) - len(second.split("\n\nReply")[0]) + self.lean
                out.append([OptionScore(float(gap), 1, False), OptionScore(0.0, 1, False)])
            else:
                words = len(text.split("Answer:\n\n", 1)[-1].split("\n\n")[0].split())
                out.append([OptionScore(0.0 if place + 1 == words else -60.0, 1, False) for place in range(len(texts))])
        return out

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        return [Generation(self.says or "", (1,), True) for _ in prompts]


JUDGES: dict[str, Any] = {
    "longer": Longer("longer"),
    "placed": Longer("placed", 100),
    "silent": Longer("silent", says="who knows"),
}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(by_name, "handle", lambda name: JUDGES[name.rsplit("#", 1)[-1].rsplit("/", 1)[-1]])


def suite(kind: str, items: list[dict[str, Any]], judge: Any = "longer", **more: Any) -> Suite:
    (made,) = load_suites([{"name": "s", "kind": kind, "items": items, "judge": judge, "chat": True, **more}], Path())
    return made


QUESTIONS = [{"prompt": f"q{n}"} for n in range(24)]


def saying(text: Callable[[int], str]) -> FakeModel:
    return FakeModel(lambda prompt: text(int(prompt[1:])))


def test_the_model_after_is_judged_against_the_model_before() -> None:
    made = suite("pairwise", QUESTIONS)
    before = measure(saying(lambda n: "short"), [made])["s"]
    assert [one.value for one in before.scores] == [0.5] * 24
    model = saying(lambda n: "much longer" if n < 20 else "short" if n < 22 else "")
    after = measure(model, [made], before=object(), before_answers={"s": before.answers})["s"]  # type: ignore[arg-type]
    assert [one.value for one in after.scores] == [1.0] * 20 + [0.5] * 2 + [0.0] * 2
    assert after.scores[0].note == "better, p 1.00"
    assert [after.scores[place].note for place in (20, 22)] == ["the same answer", "an empty answer"]
    (row,) = comparisons([made], {"s": before.scores}, {0: {"s": after.scores}}, arm="plain", roles={"s": "new"})
    assert row.verdict == "gained"
    assert row.delta == pytest.approx((20 + 1) / 24 - 0.5)


def test_scores_come_again_from_kept_answers(tmp_path: Path) -> None:
    made = suite("pairwise", QUESTIONS)
    before = measure(saying(lambda n: "short"), [made])
    after = measure(saying(lambda n: "x" * (n % 9)), [made], before=object(), before_answers={"s": before["s"].answers})  # type: ignore[arg-type]
    save_measured(tmp_path, after)
    kept = load_measured(tmp_path)["s"]
    assert score(made, kept.answers) == after["s"].scores == kept.scores


def test_the_same_model_ties_with_itself_exactly() -> None:
    made = suite("pairwise", QUESTIONS)
    before = measure(saying(lambda n: f"a{n}"), [made])["s"]
    again = measure(saying(lambda n: f"a{n}"), [made], before=object(), before_answers={"s": before.answers})["s"]  # type: ignore[arg-type]
    assert [one.value for one in again.scores] == [one.value for one in before.scores]
    assert not SEEN, "equal answers need no judge"


def test_a_judge_that_goes_by_the_place_ties_and_is_noticed() -> None:
    made = suite("pairwise", QUESTIONS, judge="placed")
    before = measure(saying(lambda n: "short"), [made])["s"]
    after = measure(saying(lambda n: "longer one"), [made], before=object(), before_answers={"s": before.answers})["s"]  # type: ignore[arg-type]
    assert [one.value for one in after.scores] == [0.5] * 24
    (row,) = comparisons([made], {"s": before.scores}, {0: {"s": after.scores}}, arm="plain", roles={})
    assert any("two orders disagree on 100 %" in text for text in row.notices)


def test_an_anchor_is_a_file_of_answers(tmp_path: Path) -> None:
    anchor = tmp_path / "anchor.jsonl"
    rows = [{"id": str(n), "answer": "four"} for n in range(1, 24)] + [
        {"item": "24", "text": None, "data": {"missing": "x"}}
    ]
    anchor.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = suite("pairwise", QUESTIONS, against=str(anchor))
    found = measure(saying(lambda n: "longest" if n % 2 else "a"), [made])["s"].scores
    assert [one.value for one in found[:4]] == [0.0, 1.0, 0.0, 1.0]
    assert math.isnan(found[-1].value)
    assert found[-1].reason == "the anchor has no answer to this item"
    anchor.write_text('{"id": "1"}\n')
    with pytest.raises(DataError, match=r"anchor\.jsonl:1: is no answer"):
        suite("pairwise", QUESTIONS, against=str(anchor))


TALKS = [{"id": n, "turns": [f"q{n}", f"q{n + 100}"], "category": "ab"[n % 2]} for n in range(6)]


def test_a_dialogue_is_led_through_its_turns_and_rated_at_each() -> None:
    made = suite("graded", TALKS)
    model = saying(lambda n: "one two three four" if n < 100 else "one")
    found = measure(model, [made])["s"]
    assert found.answers[0].data["turns"] == ["one two three four", "one"]
    assert found.answers[0].text == "one"
    # ratings 4 and 1 on a scale from 1 to 10: (3 / 9 + 0) / 2
    assert found.scores[0].value == pytest.approx(1 / 6)
    assert found.scores[0].note == "4 1"
    second = [text for text in SEEN if "q100" in text]
    assert all("assistant: one two three four" in text for text in second)
    assert {name: len(scores) for name, scores in by_category(made.items, found.scores).items()} == {"a": 3, "b": 3}


def test_an_empty_answer_has_the_lowest_rating_and_no_judge_is_asked() -> None:
    found = measure(saying(lambda n: " "), [suite("graded", QUESTIONS)])["s"].scores
    assert [one.value for one in found] == [0.0] * 24
    assert not SEEN


def test_two_dialogues_are_compared_as_wholes() -> None:
    made = suite("pairwise", TALKS)
    before = measure(saying(lambda n: "ab"), [made])["s"]
    after = measure(saying(lambda n: "abc"), [made], before=object(), before_answers={"s": before.answers})["s"]  # type: ignore[arg-type]
    assert [one.value for one in after.scores] == [1.0] * 6
    assert "user: q0\n\nassistant: abc\n\nuser: q100\n\nassistant: abc" in SEEN[0]


def test_criteria_are_for_the_judge_alone() -> None:
    items = [{"prompt": "q1", "criteria": ["names a river", "is short"]}]
    model = saying(lambda n: "the Rhine")
    made = suite("criteria", items)
    measure(model, [made])
    assert "- names a river\n- is short" in SEEN[0]
    assert not any("river" in text for text in model.calls)
    other = suite("criteria", [{"prompt": "q1", "criteria": "is long"}])
    assert made.fingerprint != other.fingerprint
    with pytest.raises(DataError, match="has no criteria"):
        suite("criteria", [{"prompt": "q1"}])


def test_references_are_shown_to_the_judge(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"question_id": 0, "choices": [{"turns": ["gold one", "gold two"]}]}) + "\n")
    measure(saying(lambda n: "x"), [suite("graded", TALKS, references=str(path))])
    assert sum("gold one" in text for text in SEEN) == 1
    assert sum("gold two" in text for text in SEEN) == 1


def test_a_panel_rates_by_its_mean_and_votes_by_majority() -> None:
    measure(saying(lambda n: "x"), [suite("graded", QUESTIONS, judge=["longer", "placed"])])
    assert len(SEEN) == 48
    made = suite("pairwise", QUESTIONS, judge=["longer", "placed"])
    before = measure(saying(lambda n: "x"), [made])["s"]
    after = measure(saying(lambda n: "xx"), [made], before=object(), before_answers={"s": before.answers})["s"]  # type: ignore[arg-type]
    assert {one.value for one in after.scores} == {0.5}  # one of two wins is no majority


def test_unreadable_verdicts_stop_the_measurement() -> None:
    made = suite("graded", QUESTIONS, judge="silent", verdict="text")
    with pytest.raises(DataError, match=r"24 of 24 verdicts \(100\.0%\) cannot be read"):
        measure(saying(lambda n: "x"), [made])


def manifest_of(made: Suite) -> dict[str, Any]:
    class Handle:
        path, fingerprint = "m", "m"

    handle: ModelHandle = Handle()  # type: ignore[assignment]
    return manifests.manifest(model=handle, suites=[made], roles={}, seeds=[0])


def test_a_judge_that_drifted_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tmp_path / "p.yaml"
    prompt.write_text('{kind: single, template: "Rate {answer}"}')
    first = manifest_of(suite("graded", QUESTIONS, prompt=str(prompt)))
    manifests.refuse_differences(first, manifest_of(suite("graded", QUESTIONS, prompt=str(prompt))))
    prompt.write_text('{kind: single, template: "Judge {answer}"}')
    with pytest.raises(NotComparable, match=r"suites\.s\.judged\.prompts"):
        manifests.refuse_differences(first, manifest_of(suite("graded", QUESTIONS, prompt=str(prompt))))
    prompt.write_text('{kind: single, template: "Rate {answer}"}')
    monkeypatch.setitem(JUDGES, "longer", Longer("longer", 1))
    with pytest.raises(NotComparable, match=r"suites\.s\.judged\.judge"):
        manifests.refuse_differences(first, manifest_of(suite("graded", QUESTIONS, prompt=str(prompt))))


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("pairwise", {"prompt": by_name.PAIR.replace("pair", "single")}, "rates single answers"),
        ("graded", {"prompt": by_name.PAIR}, "compares pairs"),
        ("graded", {"references": "absent.jsonl"}, "is not a file"),
        ("graded", {"judge": None}, "judge"),
        ("graded", {"items": [{"turns": ["a", ""]}]}, "none empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, DataError), match=words):
        suite(kind, more.pop("items", QUESTIONS), **more)


def test_columns_of_old_files_that_are_called_like_new_keys_do_no_harm() -> None:
    rows = [{"prompt": "q1", "turns": 3, "criteria": {"a": 1}, "category": [1], "turn": 2, "categorys": 1}]
    (item,) = suite("graded", rows).items
    assert (item.follow_ups, item.criteria, item.category) == ((), None, None)


def test_named_suites_read_their_questions(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    monkeypatch.setenv("MNEMOS_JUDGE", "http://127.0.0.1:1/v1#longer")
    bench, vicuna = load_suites(["mt-bench", "vicuna"], tmp_path)
    assert (len(bench.items), len(vicuna.items)) == (80, 80)
    assert all(len(item.follow_ups) == 1 for item in bench.items)
    assert len({item.category for item in bench.items}) == 8
    monkeypatch.delenv("MNEMOS_JUDGE")
    with pytest.raises(UsageError, match="environment variable that is not set"):
        load_suites(["mt-bench"], tmp_path)
