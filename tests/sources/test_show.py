"""What `mnemos data show` prints."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Example, Tokens, Turn
from mnemos.sources.mix import Rows
from mnemos.sources.render import Renderer
from mnemos.sources.show import coloured, show
from tests.sources.families import tokenizer, turns
from tests.tiny import tiny_tokenizer

CHAT = turns("user: What is 2+3?", "assistant: Five. 你好")


def printed(renderable: Any, colour: bool = False) -> str:
    file = io.StringIO()
    Console(
        file=file, width=200, soft_wrap=True, force_terminal=colour, color_system="standard" if colour else None
    ).print(renderable)
    return file.getvalue()


def rows(*chats: tuple[Turn, ...]) -> Rows:
    return Rows(tuple(Example(f"row [red]{i}", "messages", turns_) for i, turns_ in enumerate(chats, 1)), "chats")


def test_it_reads_without_colour() -> None:
    renderer = Renderer(tiny_tokenizer())
    lines = printed(show(rows(CHAT, CHAT, CHAT), renderer, 2, max_length=5)).splitlines()
    tokens = len(renderer.render(Example("1", "messages", CHAT)))
    learned = len(renderer.tokenizer.encode("Five. 你好", add_special_tokens=False)) + 1
    assert lines[0] == "chats: 3 rows"
    assert lines[1].startswith(f"row [red]1  (messages, {tokens} tokens) ---")
    assert lines[2:6] == [
        "<|bos|><|im_start|>user↵",
        "What is 2+3?<|im_end|>↵",
        "<|im_start|>assistant↵",
        "⟦Five. 你好<|im_end|>⟧↵",
    ]
    assert lines[7].startswith("row [red]2")
    assert lines[-2].startswith("legend: context, not learned  ⟦learned⟧")
    assert lines[-1] == (
        f"3 rows, {3 * tokens} tokens, {3 * learned} learned ({learned / tokens:.1%}); longest {tokens} tokens, "
        "3 longer than 5"
    )
    assert not any("note:" in line for line in lines)


def test_colours_follow_the_weight() -> None:
    renderer = Renderer(tiny_tokenizer(chat=False))
    ids = np.array(renderer.tokenizer.encode("the answer is five", add_special_tokens=False), np.int32)
    weight = np.zeros(len(ids), np.float32)
    weight[:4] = (1, 1, 0.5, -1)
    text = coloured(Tokens(ids, weight, weight != 0, "1"), renderer)
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    pieces = [renderer.decode([number]) for number in ids.tolist()]
    assert styles[pieces[0]] == "dim"  # The first token is never predicted, whatever its weight.
    assert styles[f"⟦{pieces[1]}⟧"] == "underline green"
    assert styles[f"⟦{pieces[2]}⟧0.5 "] == "underline yellow"
    assert styles[f"⟦{pieces[3]}⟧-1 "] == "underline red"
    assert "\x1b[4;32m" in printed(text, colour=True)


def test_weights_of_a_method_are_shown() -> None:
    def half(given: Sequence[Tokens]) -> list[Tokens]:
        return [Tokens(row.ids, row.weight * row.output / 2, row.output, row.example) for row in given]

    assert "⟦Five. 你好<|im_end|>⟧0.5 " in printed(show(rows(CHAT), Renderer(tiny_tokenizer()), weigh=half))


def test_rows_that_teach_nothing_are_counted() -> None:
    exempt = (CHAT[0], Turn("assistant", "Five.", learn=False))
    assert printed(show(rows(CHAT, exempt), Renderer(tiny_tokenizer()))).endswith("; 1 teach nothing\n")


def test_a_prompt_that_is_other_tokens_in_use_is_said() -> None:
    out = printed(show(rows(CHAT), Renderer(tokenizer("r1"))))
    assert "note: in use, the prompt before the last answer goes on '<think>" in out


def test_a_thumb_down_is_said() -> None:
    source = Rows(tuple(Example(str(n), "label", CHAT, label=bool(n)) for n in range(3)))
    out = printed(show(source, Renderer(tiny_tokenizer()), 3))
    assert out.count("note: a thumb down") == 1
    assert out.endswith("; 1 with a thumb down\n")


def test_raw_rows() -> None:
    source = Rows(
        (
            Example("a", "text", turns("text: The river.")),
            Example("b", "completion", turns("prompt: 2+3=", "completion: 5")),
        )
    )
    out = printed(show(source, Renderer(tiny_tokenizer(chat=False)), 2))
    assert "<|bos|>⟦The river.<|eos|>⟧" in out
    assert "<|bos|>2+3=⟦5<|eos|>⟧" in out
    with pytest.raises(UsageError, match="count = 0"):
        show(source, Renderer(tiny_tokenizer(chat=False)), 0)


def test_many_rows_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemos.sources import show as module

    monkeypatch.setattr(module, "COUNTED", 3)
    assert "\nfirst 3 rows, " in printed(show(rows(*[CHAT] * 5), Renderer(tiny_tokenizer())))
    assert "\n3 rows, " in printed(show(rows(*[CHAT] * 3), Renderer(tiny_tokenizer())))
