"""Token shift against ranks and divergences counted by hand on real tiny models."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr

from mnemos.core.nouns import Answer, Prompt, Turn
from mnemos.measure.ask import measure
from mnemos.measure.suite import load_suites
from mnemos.measure.token_shift import pooled, shares
from mnemos.models.language import LocalModel
from tests.tiny import TEMPLATE, tiny_model, tiny_tokenizer


def local(seed: int, tokenizer: Any = None, **changed: Any) -> LocalModel:
    tokenizer = tokenizer or tiny_tokenizer()
    return LocalModel(tiny_model(tokenizer, seed=seed), tokenizer, f"model {seed}", f"{seed}")


def suites(**settings: Any) -> Any:
    items = [{"prompt": f"What is {n}?"} for n in range(6)]
    asked = {"name": "asked", "kind": "stop_rate", "items": items, "chat": True, "max_new_tokens": 9}
    return load_suites([asked, {"name": "shift", "kind": "token_shift", "of": "asked", **settings}], Path("."))


def test_ranks_and_divergences_are_those_of_single_forward_passes() -> None:
    before, after = local(0), local(1)
    prompts = [Prompt((Turn("user", f"What is {n}?"),)) for n in range(4)]
    answers = [[7, 30, 200, 41, 5][:size] for size in (5, 1, 3, 4)]
    found = before.shift(after, prompts, answers)
    for prompt, answer, pairs in zip(prompts, answers, found, strict=True):
        ids = after.renderer.prompt_ids(prompt)
        for at, (rank, nats) in enumerate(pairs):
            fed = torch.tensor([[*ids, *answer[:at]]])
            with torch.no_grad():
                q, p = (log_softmax(one.model(fed).logits[0, -1].double().numpy()) for one in (before, after))
            order = list(np.argsort(-q, kind="stable"))
            assert rank == order.index(answer[at]) + 1
            assert nats == pytest.approx(rel_entr(np.exp(p), np.exp(q)).sum(), abs=1e-5)
        assert len(pairs) == len(answer)


def test_prompts_are_rendered_as_the_model_that_answered_saw_them() -> None:
    """The base's own template is another one: with it, ranks would be those behind another text."""
    plain, marked = tiny_tokenizer(), tiny_tokenizer()
    marked.chat_template = TEMPLATE.replace("assistant\\n", "tool\\n")
    before, after = local(0, marked), local(1, plain)
    prompts, answers = [Prompt((Turn("user", "What?"),))], [[7, 30, 200]]
    same = local(0, plain)
    assert before.renderer.prompt_ids(prompts[0]) != after.renderer.prompt_ids(prompts[0])
    assert before.shift(after, prompts, answers) == same.shift(after, prompts, answers)


def test_a_suite_of_it_borrows_the_answers_and_the_model_before_is_not_shifted() -> None:
    before, after = local(0), local(1)
    first = measure(before, suites())
    assert [score.value for score in first["shift"].scores] == [0.0] * 6
    assert all(set(answer.data["ranks"]) == {1} for answer in first["shift"].answers), "it is greedy"
    assert max(nats for answer in first["shift"].answers for nats in answer.data["kl"]) < 1e-5
    second = measure(after, suites(), before=before)
    for own, asked, score in zip(second["shift"].answers, second["asked"].answers, second["shift"].scores, strict=True):
        assert (own.text, own.data["ids"]) == (asked.text, asked.data["ids"])
        assert score.value == pytest.approx(np.mean([rank > 3 for rank in own.data["ranks"]]))
        beyond = [at for at, rank in enumerate(own.data["ranks"]) if rank > 3]
        assert [at for at, _, _ in own.data["shifted"]] == beyond
        for at, text, _ in own.data["shifted"]:
            assert text == after.renderer.decode([own.data["ids"][at]], special=True)
    assert np.mean([score.value for score in second["shift"].scores]) > 0.5, "two random models agree on little"


def test_what_cannot_be_compared_is_missing_with_a_reason() -> None:
    other = local(1, tiny_tokenizer(vocabulary=300))
    after = measure(other, suites(), before=local(0))
    assert all(score.reason is not None and "tokenizers" in score.reason for score in after["shift"].scores)
    long = load_suites(
        [{"name": "s", "kind": "token_shift", "items": [{"prompt": "river " * 900}], "max_new_tokens": 4}], Path(".")
    )
    (score,) = measure(local(0), long)["s"].scores
    assert math.isnan(score.value)
    assert score.reason == "prompt longer than the context"


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1))
def test_shares_are_counts(ranks: list[int]) -> None:
    expected = (
        np.mean([r == 1 for r in ranks]),
        np.mean([r in (2, 3) for r in ranks]),
        np.mean([r > 3 for r in ranks]),
    )
    assert shares(ranks) == pytest.approx(expected)


def answer(ids: list[int], ranks: list[int]) -> Answer:
    shifted = [[at, f"<{ids[at]}>", rank] for at, rank in enumerate(ranks) if rank > 3]
    data = {"ids": ids, "ranks": ranks, "kl": [0.1 * rank for rank in ranks], "shifted": shifted}
    return Answer("s", "i", "", True, len(ids), data)


def test_answers_are_pooled_by_token() -> None:
    """Shifted at the first token of each answer alone; token 5 twice, of three times that it is written."""
    found = pooled([answer([5, 1, 2, 3, 4, 6, 7, 8, 9, 10], [8, *[1] * 9]), answer([5, 5], [4, 2]), Answer("s", "x")])
    assert found is not None
    assert (found["tokens"], found["shifted"], found["marginal"]) == (12, 2 / 12, 1 / 12)
    assert found["most"] == [["<5>", 2, 3]]
    assert [tenth["shifted"] for tenth in found["tenths"]] == [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    # The second token of the short answer begins its second half.
    assert found["tenths"][5]["kl"] == pytest.approx(np.mean([0.1, 0.2]))
    assert found["kl"] == pytest.approx((0.8 + 0.9 + 0.4 + 0.2) / 12)
    assert pooled([Answer("s", "x")]) is None


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_the_report_says_where_a_model_moved(form: str) -> None:
    from mnemos.report import render
    from tests.report.synthetic import study

    results = copy.deepcopy(study())
    arm = results["arms"][0]["arm"]
    results["token_shift"] = {"chats": {arm: pooled([answer([5, 1, 2, 3], [8, 1, 2, 1])])}}
    text = " ".join(render(results, form, 120).split())
    assert "50.0 % of 4 tokens unshifted, 25.0 % marginal, 25.0 % shifted" in text
    if form == "html":
        assert "Tokens that the model before would not have written" in text
        assert "&lt;5&gt;" in text
        assert "<5>" not in text
    else:
        assert "Shifted tokens by how much of the answer is written" in text
    results["token_shift"]["chats"][arm]["most"] = [["\x1b[31m\u202e", 1, 1]]
    assert "\x1b[31m" not in render(results, form, 120)


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_many_arms_are_a_sentence_a_suite_and_a_row_each(form: str) -> None:
    from mnemos.report import render
    from tests.report.synthetic import study

    results = copy.deepcopy(study())
    made = {f"arm-{n}": pooled([answer([5, 1, 2, 3], [n, 1, 2, 1])]) for n in range(1, 7)}
    results["token_shift"] = {"chats": made}
    text = " ".join(render(results, form, 120).split())
    assert re.search(r"On chats 0\.0 % \(arm-1\) to 25\.0 % \(arm-4\) of the tokens are shifted\.", text)
    assert all(f"chats, {arm}" in text for arm in made)
