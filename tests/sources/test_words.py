"""Words of ASCII are found by a shorter road."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnemos.sources.words import _WORDS, words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_gives_the_same_words_as_every_script(text: str) -> None:
    assert words(text) == _WORDS.findall(text)


def test_every_ascii_character_parts_words_or_does_not_alike() -> None:
    for code in range(128):
        text = f"a{chr(code)}b"
        assert words(text) == _WORDS.findall(text), hex(code)
