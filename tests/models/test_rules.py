"""The rule adapter against the authors' rules, written once more by hand, on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import Decoding, Prompt, RuleDecoding, Turn
from mnemos.measure.suite import load_suites
from mnemos.models.language import LocalModel
from mnemos.models.rules import RuleAdapter, pieces
from mnemos.models.server import refuse_local
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model() -> LocalModel:
    tokenizer = tiny_tokenizer()
    return LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "tiny")


def greedy(model: LocalModel, row: list[int], longest: int, *, end: bool, repetition: bool, words: bool) -> list[int]:
    """One token after the other by whole forward passes, the rules as the paper tells them."""
    vocabulary = model.tokenizer.get_vocab()
    special = set(model.tokenizer.all_special_ids) | model.stop_ids
    written: list[int] = []
    while len(written) < longest:
        with torch.no_grad():
            logits = model.model(torch.tensor([row + written])).logits[0, -1].log_softmax(-1)
        for token in range(len(logits)):
            if end and token in model.stop_ids:
                logits[token] += 15 * len(written) / 250
            if repetition and token in row + written and token not in special:
                logits[token] -= 1.5
        # What of LLaMA's fifteen pieces a byte-level vocabulary of 400 has.
        for text, nats in (("<", -4), ("|", -4), ("I", -5), ("Ċ", 1), ("!", 1)):
            logits[vocabulary[text]] += nats * words
        token = int(logits.argmax())
        if token in model.stop_ids:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("off", ["", "end", "repetition", "words"])
def test_answers_are_those_of_the_rules_by_hand(model: LocalModel, off: str) -> None:
    rules: dict[str, Any] = {name: name != off for name in ("end", "repetition", "words")}
    prompts = [Prompt((Turn("user", text),)) for text in ("What is two?", "I! Ada < 12 | I", "river")]
    found = model.generate(prompts, replace(RuleDecoding(24), **rules))
    expected = [greedy(model, list(model.renderer.prompt_ids(prompt)), 24, **rules) for prompt in prompts]
    assert [list(one.ids) for one in found] == expected
    assert expected != [list(one.ids) for one in model.generate(prompts, Decoding(24))]
    assert model.stream(prompts[0], replace(RuleDecoding(24), **rules), lambda text: False).ids == found[0].ids


def test_the_rules_add_up_and_each_can_be_off(model: LocalModel) -> None:
    tokenizer, stop = model.tokenizer, model.stop_ids
    logits = torch.randn(2, len(tokenizer))
    texts = [([0, 30, 30, 41], [50] * 125), ([9], [])]

    def added(**rules: Any) -> torch.Tensor:
        before = logits.clone()
        out = RuleAdapter(replace(RuleDecoding(), **rules), tokenizer, stop)(logits, texts) - logits
        assert torch.equal(before, logits), "the model's own logits are left alone"
        return out

    none = {"end": False, "repetition": False, "words": False}
    assert not added(**none).any()
    parts = [added(**{**none, name: True}) for name in none]
    assert torch.allclose(sum(parts, torch.zeros_like(logits)), added(), atol=1e-5)
    end, repetition, _ = parts
    assert end[0, sorted(stop)].allclose(torch.tensor(7.5), atol=1e-5)
    assert not end[1].any()
    # Once for each kind of token, and never for special ones (0 is one).
    assert repetition[0].nonzero().flatten().tolist() == [30, 41, 50]
    assert repetition[0, [30, 41, 50]].allclose(torch.tensor(-1.5), atol=1e-5)


def test_ending_stays_likely_behind_its_longest_answer(model: LocalModel) -> None:
    """The authors' code falls back to no bias behind 250 tokens."""
    rules = RuleAdapter(RuleDecoding(repetition=False, words=False), model.tokenizer, model.stop_ids)
    for length in (250, 251, 4000):
        added = rules(torch.zeros(1, len(model.tokenizer)), [([9], [50] * length)])
        assert float(added.max()) == 15


def test_pieces_are_found_however_a_tokenizer_spells_them() -> None:
    spelled = ["▁I", "I", "ĠWe", "Ċ", "<0x21>", "▁▁▁", "<0x0A>", "xI"]
    found = pieces({text: number for number, text in enumerate(spelled)})
    assert found == {0: -5, 1: -5, 2: -3, 3: 1, 4: 1, 5: 1, 6: 1}


def test_a_vocabulary_without_any_piece_is_refused(model: LocalModel) -> None:
    class Foreign:
        all_special_ids: tuple[int, ...] = ()

        def get_vocab(self) -> dict[str, int]:
            return {"水": 0}

    with pytest.raises(UsageError, match="words: false"):
        RuleAdapter(RuleDecoding(), Foreign(), frozenset())
    RuleAdapter(RuleDecoding(words=False), Foreign(), frozenset())


def test_suites_ask_by_them_and_keep_their_name_without_them() -> None:
    def suite(**more: Any) -> Any:
        return load_suites([{"name": "s", "kind": "stop_rate", "items": [{"prompt": "a"}], **more}], Path("."))[0]

    assert suite(rules={}).decoding == RuleDecoding()
    assert suite(rules={"end": False}, temperature=0.5).decoding == RuleDecoding(64, 0.5, end=False)
    assert type(suite().decoding) is Decoding
    ways: list[dict[str, Any]] = [{}, {"rules": {}}, {"rules": {"words": False}}]
    assert len({suite(**more).fingerprint for more in ways}) == 3
    with pytest.raises(UsageError, match="two ways to decode"):
        suite(rules={}, power={})
    pair = [{"name": "s", "kind": "stop_rate", "items": [{"prompt": "a"}], "rules": {}}]
    linked = load_suites([*pair, {"name": "r", "kind": "repetition", "of": "s"}], Path("."))
    assert linked[1].decoding == RuleDecoding(), "the answers are the other suite's"


def test_engines_that_hand_out_no_logits_refuse() -> None:
    with pytest.raises(ModelError, match="logits"):
        refuse_local("far", RuleDecoding(4))


def test_a_suite_may_say_what_ends_an_answer(model: LocalModel) -> None:
    def suite(**more: Any) -> Any:
        return load_suites([{"name": "s", "kind": "stop_rate", "items": [{"prompt": "a"}], **more}], Path("."))[0]

    asked = suite(stop=["\n# Query", "x"], rules={})
    assert asked.decoding == RuleDecoding(stop=("\n# Query", "x"))
    assert suite(stop=[]).fingerprint == suite().fingerprint != suite(stop=["x"]).fingerprint
    whole = model.generate([asked.items[0].prompt], Decoding(12))[0].text
    assert (
        model.generate([asked.items[0].prompt], Decoding(12, stop=(whole[3],)))[0].text
        == whole[: whole.index(whole[3])]
    )
    for wrong in ({"stop": [""]}, {"stop": ["x"], "power": {}}):
        with pytest.raises(UsageError, match="stop"):
            suite(**wrong)
