"""An answer that is shown while it is written is the answer that `generate` gives, and ends when it is told to."""

from __future__ import annotations

import pytest

from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.models.language import LocalModel
from tests.tiny import tiny_model, tiny_tokenizer

PROMPT = Prompt((Turn("user", "What is two plus three?"),))


@pytest.fixture(scope="module")
def model() -> LocalModel:
    tokenizer = tiny_tokenizer()
    return LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "0" * 16)


@pytest.mark.parametrize(
    "decoding", [Decoding(max_new_tokens=24), Decoding(max_new_tokens=24, temperature=1.0, seed=3)]
)
def test_a_streamed_answer_is_the_generated_one(model: LocalModel, decoding: Decoding) -> None:
    seen: list[str] = []
    found = model.stream(PROMPT, decoding, lambda text: seen.append(text) or False)  # type: ignore[func-returns-value]
    [whole] = model.generate([PROMPT], decoding)
    assert found == whole
    # One look a token, but for the one that ends the answer.
    assert len(seen) in (len(found.ids), len(found.ids) - 1)
    assert seen[-1] in (found.text, model.renderer.decode(found.ids[:-1]))


def test_a_stream_ends_when_it_is_told_to(model: LocalModel) -> None:
    seen: list[str] = []

    def watch(text: str) -> bool:
        seen.append(text)
        return len(seen) == 5

    found = model.stream(PROMPT, Decoding(max_new_tokens=24), watch)
    assert (len(found.ids), found.finished) == (5, False)
    assert found.text == seen[-1]


def test_a_text_that_stops_is_cut_off_a_stream_too(model: LocalModel) -> None:
    free = model.stream(PROMPT, Decoding(max_new_tokens=24), lambda text: False)
    stop = free.text[3:5]
    decoding = Decoding(max_new_tokens=24, stop=(stop,))
    found = model.stream(PROMPT, decoding, lambda text: False)
    assert [found] == model.generate([PROMPT], decoding)
    assert found.finished
    assert stop not in found.text
