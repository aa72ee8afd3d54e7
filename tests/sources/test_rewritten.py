"""Answers that the chat template rewrites: refused, masked, split into rows as in use, or learned so, and counted."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Prompt, Source, Turn, frozen
from mnemos.core.plan import Plan, PreferencePairs
from mnemos.core.settings import TrainSettings
from mnemos.sources.mix import Rows
from mnemos.sources.read import read
from mnemos.sources.render import Renderer
from mnemos.sources.rewritten import Rule, as_learned
from mnemos.sources.show import show
from mnemos.train.draws.preference import prepare as pairs
from mnemos.train.rows import prepare
from tests.sources.families import marked, tokenizer, turns
from tests.sources.test_read import write
from tests.sources.test_render import CHAT, THOUGHT, peer_templates
from tests.tiny import tiny_tokenizer

QWEN_FIRST = (
    "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n"
    "⟦<think>\nTwo and three.\n</think>\n\nFive.<|im_end|>⟧\n"
)
QWEN_LAST = (
    "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n{}\n<|im_start|>user\nSure?<|im_end|>\n"
    "<|im_start|>assistant\n⟦<think>\nLet me see.\n</think>\n\nYes.<|im_end|>⟧\n"
)
R1_FIRST = "<|bos|><|User|>What is 2+3?<|Assistant|><think>\n⟦Two and three.\n</think>\n\nFive.<|eos|>⟧"
R1_LAST = (
    "<|bos|><|User|>What is 2+3?<|Assistant|>\n\nFive.<|eos|><|User|>Sure?<|Assistant|><think>\n"
    "⟦Let me see.\n</think>\n\nYes.<|eos|>⟧"
)


PEERS = [path for path in peer_templates() if "_training" not in path.stem]


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_templates_of_real_models(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    made = tiny_tokenizer(chat=False)
    special = re.findall(r"<[|｜][^'\"<>{}\n]{1,40}[|｜]>|<(?:start|end)_of_turn>|<\w+\|>|<\|\w+>", source)
    made.add_special_tokens({"additional_special_tokens": sorted(set(special))})
    made.chat_template = source
    renderer = Renderer(made)
    drops_all = path.stem.startswith("deepseek")
    # An answer that stands last keeps its reasoning, also where the generation prompt opens the thought already.
    assert bool(renderer.rewritten(Example("1", "messages", THOUGHT[:2]))) == drops_all
    changed = renderer.rewritten(Example("1", "messages", THOUGHT))
    assert set(changed) in ([set(), {1}] if not drops_all else [{1, 3}])
    rows = as_learned(renderer, Example("1", "messages", THOUGHT), "split", Counter())
    assert len(rows) == (2 if changed else 1)
    for row, i in zip(rows, (1, 3) if changed else (3,), strict=True):
        prompt = renderer.prompt_ids(Prompt(THOUGHT[:i]))
        written = made.decode(row.ids[int(np.flatnonzero(row.output)[0]) :].tolist())
        assert all(one in written for one in re.findall(r"[A-Z][a-z ]+\.", THOUGHT[i].text))
        if changed and path.stem != "qwen3_5_nothink":  # Its prompt in use closes the thought that these rows have.
            assert row.ids[: len(prompt)].tolist() == prompt
            assert row.output[len(prompt)]


def plan(source: Source, **more: Any) -> Plan:
    return Plan(source, **{"before": None, "task": "t", "seed": 0, "train": TrainSettings(), **more})  # type: ignore[arg-type]


def learned(name: str, turns: tuple[Turn, ...], rule: Rule) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    rows = as_learned(Renderer(tokenizer(name)), Example("1", "messages", turns), rule, counts)
    for row in rows:
        # What is not to be learned has no weight in a row that was split, whatever weighs it.
        assert len(rows) == 1 or (row.weight[1:] == row.output[1:]).all()
    return [marked(row, tokenizer(name)) for row in rows], counts


def test_split_gives_each_answer_as_in_use() -> None:
    rows, counts = learned("qwen3", THOUGHT, "split")
    assert rows == [QWEN_FIRST, QWEN_LAST.format("Five.<|im_end|>")]
    assert counts == {"rewritten answers: conversations split": 1, "rewritten answers: rows of them": 2}
    rows, counts = learned("r1", THOUGHT, "split")
    assert rows == [R1_FIRST, R1_LAST]
    assert counts == {"rewritten answers: conversations split": 1, "rewritten answers: rows of them": 2}


@pytest.mark.parametrize("name", ["qwen3", "r1"])
def test_split_rows_go_on_where_the_prompt_in_use_ends(name: str) -> None:
    made = tokenizer(name)
    renderer = Renderer(made)
    rows = as_learned(renderer, Example("1", "messages", THOUGHT), "split", Counter())
    for row, i in zip(rows, (1, 3), strict=True):
        messages = [{"role": turn.role, "content": turn.text} for turn in THOUGHT[:i]]
        theirs = made.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert renderer.prompt_ids(Prompt(THOUGHT[:i])) == theirs
        assert row.ids[: len(theirs)].tolist() == theirs
        assert not row.output[: len(theirs)].any()
        assert row.output[len(theirs)]
        stop = int(np.flatnonzero(row.output)[-1])
        assert int(row.ids[stop]) in renderer.stop_ids
    assert [row.example for row in rows] == ["1", "1#2"]


def test_mask_reads_and_does_not_learn() -> None:
    rows, counts = learned("qwen3", THOUGHT, "mask")
    assert rows == [QWEN_LAST.format("Five.<|im_end|>")]
    assert counts == {"rewritten answers: masked": 1}
    rows, counts = learned("r1", THOUGHT, "mask")
    assert "⟦" not in rows[0]
    assert counts == {"rewritten answers: masked": 2}


def test_keep_learns_what_is_left() -> None:
    rows, counts = learned("qwen3", THOUGHT, "keep")
    assert rows == [QWEN_LAST.format("⟦Five.<|im_end|>⟧")]
    assert counts == {"rewritten answers: learned as the chat template has them": 1}


def test_refuse_is_the_default_and_names_file_line_and_turn(tmp_path: Path) -> None:
    assert TrainSettings().rewritten_turns == "refuse"
    path = write(tmp_path, [{"messages": [{"role": turn.role, "content": turn.text} for turn in THOUGHT]}])
    text = (
        r"data\.jsonl:1: example 'data:1', turn 2 \(assistant\): is rewritten by the chat template: 'Five\.' is left"
        r"(.|\n)*train\.rewritten_turns: split"
    )
    with pytest.raises(DataError, match=text):
        prepare(plan(read(path)), Renderer(tokenizer("qwen3")))
    with pytest.raises(DataError, match=r"rewritten by the chat template, as 1 more of the row"):
        prepare(plan(read(path)), Renderer(tokenizer("r1")))


@pytest.mark.parametrize("name", ["qwen3", "r1", "llama3", "gemma", "mistral"])
@pytest.mark.parametrize("rule", ["refuse", "mask", "split", "keep"])
def test_answers_that_are_only_trimmed_are_no_matter(name: str, rule: Rule) -> None:
    text = (CHAT[0], Turn("assistant", " Five.\n"), CHAT[2], Turn("assistant", "\nYes, I am. "))
    rows, counts = learned(name, text, rule)
    assert (len(rows), counts) == (1, {})
    assert rows == [marked(Renderer(tokenizer(name)).render(Example("1", "messages", text)), tokenizer(name))]


def test_white_space_around_a_thought_is_the_templates_own() -> None:
    text = turns("user: What is 2+3?", "assistant: <think>Two and three.</think>Five.")
    rows, counts = learned("qwen3", text, "refuse")
    assert (rows, counts) == ([QWEN_FIRST], {})
    rows, _ = learned("r1", text, "split")
    assert rows == [R1_FIRST.replace("\n</think>\n\n", "</think>")]


def test_a_turn_that_is_not_learned_may_be_rewritten() -> None:
    text = (THOUGHT[0], Turn("assistant", THOUGHT[1].text, learn=False), *THOUGHT[2:])
    rows, counts = learned("qwen3", text, "refuse")
    assert (rows, counts) == ([QWEN_LAST.format("Five.<|im_end|>")], {})
    assert learned("r1", text, "split")[0] == [R1_LAST]


def test_a_template_that_changes_words_is_met_too() -> None:
    shouting = tiny_tokenizer()
    shouting.chat_template = shouting.chat_template.replace("m['content']", "(m['content'] | upper)")
    with pytest.raises(DataError, match=r"turn 2 \(assistant\): is rewritten"):
        as_learned(Renderer(shouting), Example("1", "messages", CHAT), "refuse", Counter())
    rows = as_learned(Renderer(shouting), Example("1", "messages", CHAT), "split", Counter())
    assert marked(rows[0], shouting) == (
        "<|bos|><|im_start|>user\nWHAT IS 2+3?<|im_end|>\n<|im_start|>assistant\n⟦Five.<|im_end|>⟧\n"
    )


def test_special_tokens_in_a_split_answer_are_plain_text() -> None:
    evil = "<|eos|><|User|>"
    text = (Turn("user", evil), Turn("assistant", f"<think>\n{evil}\n</think>\n\n{evil}"))
    made = tokenizer("r1")
    (row,) = as_learned(Renderer(made), Example("1", "messages", text), "split", Counter())
    assert marked(row, made) == f"<|bos|><|User|>{evil}<|Assistant|><think>\n⟦{evil}\n</think>\n\n{evil}<|eos|>⟧"
    for name, number in (("<|eos|>", 1), ("<|User|>", 1), ("<|bos|>", 1)):
        assert (row.ids == made.convert_tokens_to_ids(name)).sum() == number


# Reasoning in a field of its own, kept behind the last question.
FIELD = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content and loop.index0 > ns.last %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    "{{ m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_in_a_field_of_its_own(field: str) -> None:
    made = tiny_tokenizer()
    made.chat_template = FIELD
    thought = [frozen({field: text}) for text in ("Two and three.", "Let me see.")]
    words = (
        CHAT[0],
        Turn("assistant", "Five.", fields=thought[0]),
        CHAT[2],
        Turn("assistant", "Yes.", fields=thought[1]),
    )
    example = Example("1", "messages", words)
    with pytest.raises(DataError, match=r"turn 2 \(assistant\): is rewritten by the chat template: 'Five\.' is left"):
        as_learned(Renderer(made), example, "refuse", Counter())
    rows = as_learned(Renderer(made), example, "split", Counter())
    question = "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n"
    assert [marked(row, made) for row in rows] == [
        f"{question}⟦<think>Two and three.</think>Five.<|im_end|>⟧\n",
        f"{question}Five.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>Let me see.</think>Yes.<|im_end|>⟧\n",
    ]
    alone = Example("1", "messages", words[:2])
    messages = [turn.message() for turn in alone.turns]
    assert Renderer(made).render(alone).ids.tolist() == made.apply_chat_template(messages, return_dict=False)
    never = tiny_tokenizer()
    never.chat_template = FIELD.replace("loop.index0 > ns.last", "false")
    with pytest.raises(DataError, match=r"turn 2 \(assistant\).*drops or rewrites"):
        as_learned(Renderer(never), alone, "split", Counter())


def test_a_training_says_what_it_did_with_them() -> None:
    example, plain = Example("1", "messages", THOUGHT), Example("2", "messages", CHAT)
    renderer = Renderer(tokenizer("qwen3"))
    source = Rows((example, plain))
    split = prepare(plan(source, train=TrainSettings(rewritten_turns="split")), renderer)
    assert [tokens.example for (tokens,) in split.rows] == ["1", "1#2", "2"]
    assert split.counts["rewritten answers: rows of them"] == 2
    kept = prepare(plan(source, train=TrainSettings(rewritten_turns="keep")), renderer)
    assert kept.counts["rewritten answers: learned as the chat template has them"] == 1
    assert len(kept.rows) == 2


def test_pairs_are_compared_on_answers_as_in_use() -> None:
    bad = Turn("assistant", "<think>\nHm.\n</think>\n\nSix.")
    example = Example("1", "preference", THOUGHT[:2], (bad,))
    renderer, given = Renderer(tokenizer("r1")), plan(Rows((example,)), draw=PreferencePairs())
    with pytest.raises(DataError, match=r"turn 2 \(assistant\): is rewritten"):
        pairs(given, renderer)
    made = pairs(replace(given, train=TrainSettings(rewritten_turns="split")), renderer)
    assert [marked(tokens, tokenizer("r1")) for tokens in made.rows[0]] == [
        R1_FIRST,
        "<|bos|><|User|>What is 2+3?<|Assistant|><think>\n⟦Hm.\n</think>\n\nSix.<|eos|>⟧",
    ]
    with pytest.raises(DataError, match="no token of an answer is left: 1"):
        pairs(replace(given, train=TrainSettings(rewritten_turns="mask")), renderer)


def test_looking_at_the_data_says_it() -> None:
    file = io.StringIO()
    source = Rows((Example("1", "messages", THOUGHT), Example("2", "messages", CHAT)))
    Console(file=file, width=200, soft_wrap=True).print(show(source, Renderer(tokenizer("qwen3")), 2))
    assert file.getvalue().count("note: the chat template rewrites the answer of turn 2; train.rewritten_turns") == 1
