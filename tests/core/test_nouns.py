"""A turn is a text, or parts in their order."""

from __future__ import annotations

import dataclasses

import pytest

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import AudioPart, Example, Prompt, TextPart, Turn
from mnemos.sources.render import Renderer
from tests.tiny import tiny_tokenizer

HEARD = Turn("user", (TextPart("What is "), AudioPart("a.wav", 1.0, 2.5), TextPart("said?")))


def test_words_and_sounds_of_a_turn() -> None:
    assert Turn("user", "Hello").text == "Hello"
    assert Turn("user", "Hello").sounds == ()
    assert HEARD.text == "What is said?"
    assert HEARD.sounds == (AudioPart("a.wav", 1.0, 2.5),)
    assert HEARD.in_words() == "What is said?"
    assert HEARD.message()["content"] == [
        {"type": "text", "text": "What is "},
        {"type": "audio", "audio": "a.wav"},
        {"type": "text", "text": "said?"},
    ]


def test_what_is_heard_counts_in_the_fingerprint() -> None:
    turns = [HEARD, dataclasses.replace(HEARD, content=HEARD.content[::-1]), Turn("user", HEARD.text)]
    assert len({fingerprint(turn) for turn in turns}) == 3
    assert len(set(turns)) == 3


def test_a_model_that_reads_text_alone_refuses_sounds_by_name() -> None:
    renderer = Renderer(tiny_tokenizer())
    with pytest.raises(DataError, match=r"a\.wav: is a sound, and this model reads text alone"):
        renderer.render(Example("x", "messages", (HEARD, Turn("assistant", "Nothing."))))
    with pytest.raises(DataError, match=r"the prompt: a\.wav"):
        renderer.prompt_ids(Prompt((HEARD,)))
