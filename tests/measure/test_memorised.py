"""Verbatim continuation and the search for short prompts, against greedy decoding one prompt at a time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import ModelError, UsageError
from mnemos.core.files import read_json, read_jsonl
from mnemos.measure import memorised
from mnemos.measure.memorised import Compressed, compressed, continued, searched_ids
from mnemos.models.language import LocalModel
from mnemos.models.search import refuse_many, shortest_prompts
from tests.study.worlds import write_jsonl
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> LocalModel:
    tokenizer = tiny_tokenizer()
    return LocalModel(tiny_model(tokenizer, request.param), tokenizer, "tiny", "tiny")


def greedy(model: LocalModel, row: list[int], number: int) -> list[int]:
    out: list[int] = []
    for _ in range(number):
        with torch.no_grad():
            out.append(int(model.model(torch.tensor([row + out])).logits[0, -1].argmax()))
    return out


def test_the_shortest_prompt_is_that_of_all_prompts_tried_one_by_one(model: LocalModel) -> None:
    vocabulary, opening = [9, 30, 41, 52, 300], [0]
    answers = {
        prompt: greedy(model, [*opening, *prompt], 3)
        for n in (1, 2)
        for prompt in itertools.product(vocabulary, repeat=n)
    }
    texts = [answers[30,], answers[41, 52], answers[9, 9][:2], [300, 300, 9]]
    expected = [next((one for one, answer in answers.items() if answer[: len(text)] == text), None) for text in texts]
    found = shortest_prompts(model.model, texts, 2, vocabulary, opening, 4096)
    assert found == expected
    assert found[3] is None, "no prompt gives a text that the model would not write"
    assert shortest_prompts(model.model, texts, 1, vocabulary, opening, 4096)[0] == (
        expected[0] if expected[0] and len(expected[0]) == 1 else None
    )


def test_continuations_are_compared_token_by_token(model: LocalModel) -> None:
    decode, tokenizer = model.renderer.decode, model.tokenizer
    first = tokenizer("The river", add_special_tokens=False)["input_ids"]
    own = greedy(model, [0, *first], 8)
    learned = decode([*first, *own])
    # Only where the text is read as the tokens that were written.
    same = tokenizer(learned, add_special_tokens=False)["input_ids"] == [*first, *own] and not (
        set(own) & (model.stop_ids | set(tokenizer.all_special_ids))
    )
    other = learned[:-4] + "@@@@"
    found = continued(model, [learned, other, "The"], [len(first)], 8)[len(first)]
    assert found[2] is None, "no longer than its beginning"
    assert found[0] is not None
    assert found[0].exact is (found[0].run == 8)
    if same:
        assert found[0].exact
        assert found[0].similarity == 1
    assert found[1] is not None
    assert not found[1].exact
    assert found[1].similarity < 1


def test_a_ratio_is_a_number_a_bound_or_open() -> None:
    assert (Compressed(12, (4, 7), 2).ratio, Compressed(12, (4, 7), 2).memorised) == (6, True)
    assert Compressed(2, (4, 7), 2).memorised is False, "the prompt is as long as the text"
    assert (Compressed(3, None, 2).bound, Compressed(3, None, 2).memorised) == (1, False)
    assert (Compressed(12, None, 2).bound, Compressed(12, None, 2).memorised) == (4, None)


def test_a_search_that_would_not_end_is_refused(model: LocalModel) -> None:
    with pytest.raises(UsageError, match="tried at most"):
        compressed(model, ["The river"], 3, 4)
    refuse_many(1000, 2)
    assert not set(searched_ids(model)) & model.stop_ids


def test_a_model_that_takes_no_tokens_is_refused() -> None:
    class Far:
        name = "far"

    with pytest.raises(ModelError, match="does not take tokens"):
        memorised.local(Far())  # type: ignore[arg-type]


def test_the_command_writes_every_text_and_what_random_ones_give(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data.jsonl", [{"text": "The river runs past the old mill."}, {"text": "What is two?"}])
    model: Any = save_tiny(tmp_path / "M")
    words = ["memorised", tmp_path / "data.jsonl", "--model", model, "--prefix", 2, "--max-new-tokens", 4, "--search",
             1, "--tokens", 2, "--random", 3, "--out", tmp_path / "out"]  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    record, rows = read_json(tmp_path / "out/memorised.json"), read_jsonl(tmp_path / "out/texts.jsonl")
    assert [row["id"] for row in rows] == ["given-0", "given-1", "random-0", "random-1", "random-2"]
    assert record["given"]["compressed"]["texts"] == 2
    assert record["given"]["compressed"]["undecided"] == 0, "two tokens, prompts of one: every text is decided"
    assert record["random"]["continued"][0]["texts"] == 3
    assert "word for word" in done.output
