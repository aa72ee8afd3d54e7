"""Ways to spend tokens on an answer: how many answers are drawn, which one is chosen, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mnemos.core.files import write_jsonl
from mnemos.core.nouns import Answer
from mnemos.measure.sampling import SAMPLES
from mnemos.models.language import LocalModel
from mnemos.recipes import power_sampling, ways
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"id": f"row-{n}", "prompt": f"What is {n} plus three?", "answer": f"It is {n + 3}."} for n in range(5)]
    write_jsonl(tmp_path / "items.jsonl", rows)
    for name in power_sampling.SUITES:
        own = f"name: {name}\nkind: generated\nmatch: number\ndata: items.jsonl\nchat: true\nmax_new_tokens: 9\n"
        (tmp_path / f"{name}.yaml").write_text(own)
    monkeypatch.setattr(power_sampling, "FOLDER", tmp_path)
    return tmp_path


def test_the_majority_is_of_last_numbers_and_the_first_among_equals() -> None:
    assert power_sampling.majority(["7", "it is 3", "3 or 4", "so 3.0", "none"]) == 1
    assert power_sampling.majority(["no", None, "5", "6"]) == 2
    assert power_sampling.majority(["no", None]) == 0


def test_the_likeliest_is_by_the_models_own_sum_and_never_an_empty_answer(suites: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "0123")
    suite = power_sampling.suite_of("gsm8k", 1, 6)
    texts = ["", "five", "three plus three is it", "it"]
    (place,) = power_sampling.likeliest(model, suite, [Answer("s", "row-0", "", data={SAMPLES: texts})])
    prompt = suite.items[0].prompt
    assert prompt is not None
    begun = model.renderer.prompt_ids(prompt)
    sums = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model.model(torch.tensor([[*begun, *ids]])).logits[0].double().numpy()
        own = log_softmax(logits, axis=-1)
        sums.append(sum(own[len(begun) + at - 1, token] for at, token in enumerate(ids)) if ids else -np.inf)
    assert place == int(np.argmax(sums))


def test_as_many_answers_are_drawn_as_power_sampling_took_tokens_and_nothing_is_asked_twice(
    suites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_sampling, "BLOCK", 3)
    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "0123")
    cells = power_sampling.walk(model, suites / "out", "gsm8k", 5, 6)
    tokens = {name: power_sampling.tokens(cell) for name, cell in cells.items()}
    drawn = cells[power_sampling.SAMPLED].answers
    assert {len(one.data[SAMPLES]) for one in drawn} == {round(tokens["power"] / tokens["greedy"])}
    assert tokens["power"] > 2 * tokens["greedy"]
    for one, all_of_them in zip(cells[power_sampling.LIKELIEST].answers, drawn, strict=True):
        assert one.text in all_of_them.data[SAMPLES]
        assert one.tokens == all_of_them.tokens
    for cell in (cells[power_sampling.SAMPLED], cells[power_sampling.LIKELIEST], cells[power_sampling.MAJORITY]):
        for own, best in zip(cell.scores, cells[power_sampling.ONE].scores, strict=True):
            assert own.value <= best.value
    monkeypatch.setattr(ways, "measure", lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr(power_sampling, "likeliest", lambda *_: pytest.fail("asked again"))
    again = power_sampling.walk(model, suites / "out", "gsm8k", 5, 6)
    record = power_sampling.record_of(again)
    assert record == power_sampling.record_of(cells)
    assert len(record["orderings"]) == len(power_sampling.ORDERINGS)
    assert {one["verdict"] for one in record["orderings"]} <= {"HOLDS", "DOES NOT HOLD", "CANNOT TELL"}
    without = {name: cell for name, cell in cells.items() if name != power_sampling.MAJORITY}
    assert len(power_sampling.record_of(without)["orderings"]) == len(power_sampling.ORDERINGS) - 1
    lines = power_sampling.lines({"gsm8k": record, "human-eval": record})
    assert len(lines) == 2 * (2 + len(cells) + 1 + 2 + len(power_sampling.ORDERINGS)) + 1
