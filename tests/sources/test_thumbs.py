"""An answer that its file calls bad is never learned, or measured against, as a good one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Turn
from mnemos.core.settings import TrainSettings
from mnemos.rewards.verified import Verified
from mnemos.sources.read import read
from mnemos.sources.render import Renderer
from mnemos.study.commands.init import write_study
from mnemos.train.rows import as_tokens
from tests.sources.test_read import MESSAGES, A, U, one, write
from tests.tiny import tiny_tokenizer

SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]
SHAPES: dict[str, dict[str, Any]] = {
    "messages": {"messages": MESSAGES},
    "sharegpt": {"conversations": SHAREGPT},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Yes."},
    "prompt_completion": {"prompt": "Hi", "completion": "Yes."},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("thumb", [{"label": False}, {"kto_tag": False}, {"kto_tag": 0}, {"kto_tag": "false"}])
def test_a_thumb_down_is_kept_in_every_format(tmp_path: Path, shape: str, thumb: dict[str, Any]) -> None:
    source, example = one(tmp_path, {**SHAPES[shape], **thumb})
    assert source.format == "label"
    assert (example.kind, example.label, example.turns, example.meta) == ("label", False, (U, A), {})
    _, up = one(tmp_path, {**SHAPES[shape], **dict.fromkeys(thumb, True)})
    assert (up.kind, up.label) == ("label", True)
    # Said to be of another format, or met behind rows without a thumb, it is still no row to imitate.
    _, asked = one(tmp_path, {**SHAPES[shape], **thumb}, format=shape)
    assert (asked.kind, asked.label, asked.turns) == ("label", False, (U, A))
    late = read(write(tmp_path, [*[SHAPES[shape]] * 25, {**SHAPES[shape], **thumb}]))
    assert [example.label for example in late] == [None] * 25 + [False]


@pytest.mark.parametrize("label", [0, 1, -1, 0.0, "0", "true", "False"])
@pytest.mark.parametrize("shape", [*SHAPES, "text"])
def test_a_number_that_may_be_a_thumb_or_a_class_is_asked_about(tmp_path: Path, shape: str, label: Any) -> None:
    row = {**SHAPES.get(shape, {"text": "The river."}), "label": label}
    path = write(tmp_path, [row, row])
    for on_bad in ("stop", "skip"):
        with pytest.raises(DataError, match=r"label = .*a good or a bad answer(.|\n)*`format: label` reads thumbs"):
            list(read(path, on_bad=on_bad))  # type: ignore[arg-type]
    (first, _) = read(path, format=shape)
    assert (first.label, first.meta) == (None, {"label": label})
    late = write(tmp_path, [*[SHAPES.get(shape, {"text": "The river."})] * 25, row], "late.jsonl")
    with pytest.raises(DataError, match=r"late\.jsonl:26: label = "):
        list(read(late))
    if shape != "text":
        (first, _) = read(path, format="label")
        assert first.label is (str(label).lower() in ("1", "true"))


def test_labels_that_are_classes_stay_columns(tmp_path: Path) -> None:
    rows = [{**SHAPES["messages"], "label": n} for n in (0, 1, 2)]
    examples = list(read(write(tmp_path, rows)))
    assert [(e.kind, e.label, e.meta) for e in examples] == [("messages", None, {"label": n}) for n in (0, 1, 2)]
    _, tagged = one(tmp_path, {**SHAPES["sharegpt"], "label": "sports", "kto_tag": False})
    assert tagged.label is False


def test_a_column_that_is_named_as_the_label_is_one(tmp_path: Path) -> None:
    rows = [{**SHAPES["messages"], "liked": n} for n in (0, 1)]
    assert [e.label for e in read(write(tmp_path, rows), columns={"label": "liked"})] == [False, True]
    odd = write(tmp_path, [{**SHAPES["messages"], "liked": 3}])
    with pytest.raises(DataError, match=r"label = 3: must be true or false"):
        list(read(odd, columns={"label": "liked"}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**SHAPES["messages"], "label": True, "kto_tag": False}, "say different things"),
        ({**SHAPES["messages"], "kto_tag": "good"}, "kto_tag = 'good': must be true or false"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "label": False}, "beside chosen and rejected"),
        ({"text": "The river.", "label": False}, "the name of a class"),
        ({"text": "The river.", "kto_tag": False}, "the name of a class"),
    ],
)
def test_verdicts_that_contradict_each_other_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        one(tmp_path, row)


def test_likelihood_leaves_a_thumb_down_out_and_counts_it(tmp_path: Path) -> None:
    rows = [{**SHAPES["sharegpt"], "kto_tag": thumb} for thumb in (True, False, False)]
    counts: Counter[str] = Counter()
    source = read(write(tmp_path, rows))
    tokens = as_tokens(source, TrainSettings(), Renderer(tiny_tokenizer()), counts)
    assert (len(tokens), counts) == (1, {"left out: a thumb down": 2})


def test_a_bad_answer_is_no_reference_of_a_reward() -> None:
    bad, good = Example("1", "label", (U, A), label=False), Example("2", "label", (U, A), label=True)
    found = Verified("exact")([bad.turns[:1], good.turns[:1]], ["Yes.", "Yes."], [bad, good])  # type: ignore[list-item]
    assert found[0].reason == "the gold answer has a thumb down"
    assert (found[1].value, found[1].reason) == (1.0, None)


def starter(folder: Path, rows: Sequence[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    monkeypatch.chdir(folder)
    write(folder, rows)
    text = list(write_study("data.jsonl", "model", folder / "study.yaml", probe=False))
    return text, (folder / "suites" / "data.jsonl").read_text()


def test_the_starter_suite_measures_against_good_answers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(answer: str, **more: Any) -> dict[str, Any]:
        return {"messages": [MESSAGES[0], {"role": "assistant", "content": answer}], **more}

    off = {"messages": [MESSAGES[0], {"role": "assistant", "content": "off", "weight": 0}]}
    rows = [*[off] * 10, *[row("good", label=True) for _ in range(10)], *[row("bad", label=False) for _ in range(40)]]
    text, suite = starter(tmp_path, rows, monkeypatch)
    answers = [json.loads(line)["answer"] for line in suite.splitlines()]
    assert answers == ["good"] * 2
    assert any("(a thumb down: 40, the last answer's loss is off: 10)" in line for line in text)
    kept = list(read(str(tmp_path / "data.train.jsonl")))
    assert Counter(e.label for e in kept) == {True: 8, False: 40, None: 10}
    (tmp_path / "study.yaml").unlink()
    with pytest.raises(DataError, match=r"fewer than 5 answers to measure against \(a thumb down: 12\)"):
        starter(tmp_path, [row("bad", label=False)] * 12, monkeypatch)


def test_replayed_rows_beside_drawn_answers_are_no_bad_ones() -> None:
    from types import SimpleNamespace

    from mnemos.train.draws.policy import _rows

    plan: Any = SimpleNamespace(train=TrainSettings(), weigh=(), before=None)
    down = Example("1", "label", (U, Turn("assistant", "Bad.")), label=False, origin="replay")
    assert _rows(plan, Renderer(tiny_tokenizer()), down, Counter()) == ([], "a thumb down")
