"""What must hold for every conversation in every template family."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.nouns import Example, Prompt, Tokens, Turn
from mnemos.sources.render import Renderer
from tests.sources.families import FAMILIES, Family, tokenizer

ALPHABET = st.characters(codec="utf-8", exclude_characters="\ue000\ue001")
WORDS = st.sampled_from(
    ["user", "assistant", "<|", "|>", "\n", "\n\n", " ", "[INST", "###", "Five.", "é", "你好", "<think>"]
)
CONTENT = st.one_of(st.text(ALPHABET, min_size=1, max_size=12), st.lists(WORDS, min_size=1, max_size=6).map("".join))


def conversation(family: Family) -> st.SearchStrategy[tuple[Turn, ...]]:
    pair = st.tuples(CONTENT, CONTENT, st.booleans())
    system = st.one_of(st.none(), CONTENT.filter(lambda text: bool(text.strip()))) if family.system else st.none()

    def make(drawn: tuple[str | None, list[tuple[str, str, bool]]]) -> tuple[Turn, ...]:
        turns = [] if drawn[0] is None else [Turn("system", drawn[0])]
        for asked, answer, learn in drawn[1]:
            turns += [Turn("user", asked), Turn("assistant", answer, learn)]
        return tuple(turns)

    return st.tuples(system, st.lists(pair, min_size=1, max_size=3)).map(make)


def runs(tokens: Tokens) -> list[list[int]]:
    found: list[list[int]] = []
    inside = False
    for number, output in zip(tokens.ids.tolist(), tokens.output.tolist(), strict=True):
        if output and not inside:
            found.append([])
        if output:
            found[-1].append(number)
        inside = output
    return found


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_conversation(name: str, data: Any) -> None:
    family, made = FAMILIES[name], tokenizer(name)
    turns = data.draw(conversation(family))
    renderer = Renderer(made)
    tokens = renderer.render(Example("1", "messages", turns))
    ids = tokens.ids.tolist()
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    theirs = made.apply_chat_template(messages, return_dict=False)

    # The ids are the tokenizer's own; an end that it leaves out is added behind. Only where contents
    # spell special tokens do they differ, and still say the same.
    spelled = any(token in turn.text for token in made.all_special_tokens for turn in turns)
    if not spelled:
        assert ids[: len(theirs)] == theirs
    tail = family.stop if family.appended else ""
    assert renderer.decode(ids, special=True) == made.apply_chat_template(messages, tokenize=False) + tail
    assert ids.count(made.bos_token_id) == family.bos

    # Weight: 1 but for the first token and the exempt turns.
    assert tokens.weight[0] == 0
    answers = [turn for turn in turns if turn.role == "assistant"]
    learned = [turn for turn in answers if turn.learn]
    if len(learned) == len(answers):
        assert (tokens.weight[1:] == 1).all()

    # What is learned is, turn by turn, the content and what ends it.
    stop = made.convert_tokens_to_ids(family.stop)
    text = [made.decode(run, clean_up_tokenization_spaces=False) for run in runs(tokens)]
    expected = []
    for turn in learned:
        lead = family.last_lead if turn is turns[-1] else family.lead
        content = turn.text.strip() if family.trims else turn.text
        if name == "qwen3" and turn is turns[-1]:
            content = content.lstrip("\n")
        expected.append(lead + content + family.stop)
    assert text == expected
    assert all(run[-1] == stop for run in runs(tokens))
    if answers[-1].learn:
        last = int(tokens.output.nonzero()[0][-1])
        assert ids[last] == stop
        assert tokens.weight[last] == 1
        assert stop in renderer.stop_ids


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"r1"}))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_text_given_in_use_is_what_stands_before_the_answer(name: str, data: Any) -> None:
    family, made = FAMILIES[name], tokenizer(name)
    turns = data.draw(conversation(family))
    turns = (*turns[:-1], Turn("assistant", turns[-1].text))
    renderer = Renderer(made)
    tokens = renderer.render(Example("1", "messages", turns))
    run = runs(tokens)[-1]
    last = int(tokens.output.nonzero()[0][-1])
    before = renderer.decode(tokens.ids.tolist()[: last + 1 - len(run)], special=True)
    assert before == renderer.decode(renderer.prompt_ids(Prompt(turns[:-1])), special=True)


@settings(max_examples=100, deadline=None)
@given(prompt=st.text(ALPHABET, max_size=12), completion=st.text(ALPHABET, min_size=1, max_size=12))
def test_every_completion(prompt: str, completion: str) -> None:
    made = tokenizer("phi")
    renderer = Renderer(made)
    turns = (Turn("prompt", prompt), Turn("completion", completion))
    tokens = renderer.render(Example("1", "completion", turns))
    given_ids = renderer.prompt_ids(Prompt(turns[:1]))
    assert tokens.ids[: len(given_ids)].tolist() == given_ids
    assert tokens.output.tolist() == [False] * len(given_ids) + [True] * (len(tokens) - len(given_ids))
    assert renderer.decode(tokens.ids[tokens.output].tolist(), special=True) == completion + "<|eos|>"
    assert tokens.ids.tolist().count(made.bos_token_id) == 1


THOUGHTS = st.lists(st.sampled_from(["<think>", "</think>", "\n", "a", " ", "Five."]), min_size=1, max_size=6).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(CONTENT, THOUGHTS), min_size=1, max_size=3))
def test_thoughts_wherever_they_stand(pairs: list[tuple[str, str]]) -> None:
    made = tokenizer("qwen3")
    renderer = Renderer(made)
    turns = tuple(turn for asked, answer in pairs for turn in (Turn("user", asked), Turn("assistant", answer)))
    tokens = renderer.render(Example("1", "messages", turns))
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    whole = made.apply_chat_template(messages, tokenize=False)
    texts = [renderer.decode(run, special=True) for run in runs(tokens)]
    assert len(texts) == len(pairs)
    for i, text in enumerate(texts):
        before = made.apply_chat_template(messages[: 2 * i + 1], tokenize=False, add_generation_prompt=True)
        assert whole.startswith(before + text)
        assert text.endswith("<|im_end|>")
        assert text.count("<|im_end|>") == 1
