"""Generating against transformers' own generate, one prompt at a time; sampling; likelihood."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from mnemos.core.errors import NotComparable
from mnemos.core.nouns import Decoding, LanguageModel, Prompt, Turn
from mnemos.models import decode, score
from mnemos.models.forward import batches
from mnemos.models.language import LocalModel
from tests.models.families import FAMILIES, next_log_probs, sharp
from tests.tiny import tiny_tokenizer

loaded = cache(sharp)
TEXTS = ["The", "What is two plus three? The answer is", "Ada Lane was born", "{", "river mill bridge stone under past"]
PROMPTS = [Prompt((Turn("prompt", text),)) for text in TEXTS]


def theirs(model: LocalModel, ids: list[int], new: int) -> list[int]:
    stop = sorted(model.stop_ids)
    out = model.model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=new,
        eos_token_id=stop, pad_token_id=2,
    )  # fmt: skip
    return [int(i) for i in out[0, len(ids) :]]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_that_of_transformers_one_by_one(family: str) -> None:
    model = loaded(family)
    found = model.generate(PROMPTS, Decoding(max_new_tokens=24))
    for prompt, answer in zip(PROMPTS, found, strict=True):
        ids = theirs(model, model.renderer.prompt_ids(prompt), 24)
        assert answer.finished == (ids[-1] in model.stop_ids)
        assert list(answer.ids) == (ids[:-1] if answer.finished else ids)
        assert answer.text == model.tokenizer.decode(answer.ids, skip_special_tokens=True)


def test_a_stop_token_ends_a_row_and_the_others_go_on() -> None:
    model = loaded("llama")
    rows = [model.renderer.prompt_ids(prompt) for prompt in PROMPTS]
    free = decode.write(model.model, rows, frozenset(), Decoding(max_new_tokens=20), 4096)
    stop = free[1][0][4]
    cut = decode.write(model.model, rows, frozenset({stop}), Decoding(max_new_tokens=20), 4096)
    for (ids, end), (all_ids, _) in zip(cut, free, strict=True):
        assert (end == stop) == (stop in all_ids)
        assert ids == (all_ids[: all_ids.index(stop)] if end is not None else all_ids)
    assert {end for _, end in cut} == {stop, None}


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_penalties_of_a_generation_config_are_not_applied_and_stay(family: str) -> None:
    model = sharp(family, seed=2)
    before = model.generate(PROMPTS[:2], Decoding(max_new_tokens=12))
    model.model.generation_config.repetition_penalty = 5.0
    assert model.generate(PROMPTS[:2], Decoding(max_new_tokens=12)) == before
    assert model.model.generation_config.repetition_penalty == 5.0


def test_generation_config_stops_too() -> None:
    model = sharp("llama", seed=1)
    first = model.generate(PROMPTS[:1], Decoding(max_new_tokens=6))[0]
    model.model.generation_config.eos_token_id = [1, first.ids[2]]
    again = LocalModel(model.model, model.tokenizer, "again", "x").generate(PROMPTS[:1], Decoding(max_new_tokens=6))[0]
    assert again.ids == first.ids[: first.ids.index(first.ids[2])]
    assert again.finished


@pytest.mark.parametrize("family", ["llama", "gemma3", "mamba"])
@pytest.mark.parametrize(
    "settings_", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.3, "top_k": 5}]
)
def test_samples_do_not_depend_on_the_batch(family: str, settings_: dict[str, float]) -> None:
    model = loaded(family)
    decoding = Decoding(max_new_tokens=8, seed=7, **settings_)  # type: ignore[arg-type]
    together = model.generate(PROMPTS, decoding)
    assert together == [model.generate([prompt], decoding)[0] for prompt in PROMPTS]
    assert together == model.generate(PROMPTS[::-1], decoding)[::-1]
    small = LocalModel(model.model, model.tokenizer, "small", "x", batch_tokens=30)
    assert together == small.generate(PROMPTS, decoding)
    other = model.generate(PROMPTS, Decoding(max_new_tokens=8, seed=8, **settings_))  # type: ignore[arg-type]
    assert together != other


def test_the_same_prompt_twice_gives_two_samples_and_the_first_stays() -> None:
    model = loaded("llama")
    decoding = Decoding(max_new_tokens=8, temperature=1.0)
    one, two, other = model.generate([PROMPTS[0], PROMPTS[0], PROMPTS[1]], decoding)
    assert one != two
    assert [one, other] == model.generate(PROMPTS[:2], decoding)


@settings(max_examples=30, deadline=None)
@given(
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 3, 50]),
    seed=st.integers(0, 99),
)
def test_samples_follow_the_distribution_of_transformers_warpers(
    temperature: float, top_p: float, top_k: int, seed: int
) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed)) * 2
    warped = TemperatureLogitsWarper(temperature)(None, logits.double())
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    expected = warped.softmax(-1)[0]
    # evenly spaced uniforms meet each token as often as its probability says, up to one
    uniform = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    tokens = decode.pick(logits.expand(2000, -1), Decoding(temperature=temperature, top_p=top_p, top_k=top_k), uniform)
    found = torch.bincount(torch.tensor(tokens), minlength=12) / 2000
    torch.testing.assert_close(found.double(), expected, atol=1.1e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 50, decode.BEST, 2000]),
    steps=st.sampled_from([1, 4, 1000]),
    spread=st.sampled_from([0.5, 4.0]),
    seed=st.integers(0, 99),
)
def test_the_most_likely_tokens_decide_as_all_do_or_not_at_all(
    temperature: float, top_p: float, top_k: int, steps: int, spread: float, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    # Few steps a unit: many equal logits, as 16-bit models have.
    logits = (torch.randn(8, 5000, generator=drawn) * spread * steps).round() / steps
    decoding = Decoding(temperature=temperature, top_p=top_p, top_k=top_k)
    uniform = torch.rand(8, generator=drawn, dtype=torch.float64)
    wanted = decode._pick_of_all(logits, decoding, uniform)
    assert decode.pick(logits, decoding, uniform) == wanted.tolist()
    if top_k > decode.BEST:
        return
    found = decode._pick_of_best(logits, decoding, uniform)
    assert ((found == wanted) | (found == -1)).all()
    if spread > 1 and steps > 100 and temperature <= 1 and top_k < decode.BEST:
        assert (found >= 0).all()


def test_a_prompt_beyond_the_context_comes_back_empty_and_unfinished() -> None:
    model = loaded("llama")
    long, fits = Prompt((Turn("prompt", "x" * 400),)), Prompt((Turn("prompt", "x" * 120),))
    nothing, little = model.generate([long, fits], Decoding(max_new_tokens=50))
    assert (nothing.ids, nothing.text, nothing.finished) == ((), "", False)
    room = 128 - len(model.renderer.prompt_ids(fits))
    assert little.finished or len(little.ids) == room < 50
    assert model.generate([], Decoding()) == []


def test_it_is_a_language_model() -> None:
    model: LanguageModel = loaded("llama")
    assert (model.name, model.fingerprint) == ("llama", "llama-0")


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mamba"])
def test_nats_of_short_texts(family: str) -> None:
    model = loaded(family)
    for text, (nats, count) in zip(TEXTS, model.nats(TEXTS), strict=True):
        ids = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
        table = next_log_probs(model.model, ids)
        expected = -sum(float(table[t, token]) for t, token in enumerate(ids[1:]))
        assert nats == pytest.approx(expected, abs=1e-3)
        assert count == len(ids) - 1
    assert model.nats([]) == []
    assert model.nats([""]) == [(0.0, 0)]


def test_nats_of_a_text_beyond_the_context() -> None:
    """Windows of 128 that move on by 64, the last one moved back to use its whole context."""
    model = loaded("llama")
    text = " ".join(TEXTS) * 14
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert len(ids) > 300
    total, done = 0.0, 1
    while done < len(ids):
        start = 0 if done == 1 else max(0, min(done - 64, len(ids) - 129))
        end = min(start + 129, len(ids))
        table = next_log_probs(model.model, ids[start : end - 1])
        total -= sum(float(table[t - start - 1, ids[t]]) for t in range(done, end))
        done = end
    nats, count = model.nats([text])[0]
    assert count == len(ids) - 1
    assert nats == pytest.approx(total, rel=1e-5)


@given(length=st.integers(0, 60), limit=st.integers(1, 20))
def test_windows_score_each_token_once_with_enough_before_it(length: int, limit: int) -> None:
    ids = list(range(100, 100 + length))
    scored = []
    for fed, first in score.windows(ids, limit):
        assert 1 <= first < len(fed) <= limit + 1
        assert fed == ids[fed[0] - 100 : fed[0] - 100 + len(fed)]
        assert fed[0] == 100 or first >= max(1, limit // 2)
        scored += fed[first:]
    assert scored == ids[1:]


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget=st.integers(1, 200), rows=st.integers(1, 8))
def test_batches_cover_everything_within_the_budget(lengths: list[int], budget: int, rows: int) -> None:
    made = list(batches(lengths, budget, rows))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_divergence_is_the_summed_kl_of_the_full_distributions() -> None:
    model, other = loaded("llama"), sharp("llama", seed=9)
    answers = [[5, 6, 7], [9], [], list(range(20, 40)), [3] * 4]
    found = model.divergence(other, PROMPTS, answers)
    for prompt, answer, (nats, count) in zip(PROMPTS, answers, found, strict=True):
        context = model.renderer.prompt_ids(prompt)
        p, q = (
            np.exp(next_log_probs(m.model, context + answer)[len(context) - 1 : -1].numpy())
            if answer
            else np.zeros((0, 1))
            for m in (model, other)
        )
        assert nats == pytest.approx(float(rel_entr(p, q).sum()), rel=1e-4, abs=1e-5)
        assert count == len(answer)
    assert found[3][0] > 0.1
    assert model.divergence(sharp("llama"), PROMPTS, answers) == [(0.0, len(answer)) for answer in answers]


def test_text_divergence_is_cross_entropy_against_the_predictions_before_less_their_entropy() -> None:
    model, other = sharp("llama"), sharp("llama", seed=1)
    texts = ["The river runs past the old mill.", "0 1 2 3"]
    for text, (total, count) in zip(texts, model.text_divergence(other, texts), strict=True):
        ids = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.inference_mode():
            p, q = (
                one.model(torch.tensor([ids])).logits[0, :-1].double().softmax(-1).numpy() for one in (model, other)
            )
        cross_entropy, entropy = -(p * np.log(q)).sum(), -(p * np.log(p)).sum()
        assert count == len(ids) - 1
        assert total == pytest.approx(cross_entropy - entropy, rel=1e-4)
    assert [value for value, _ in model.text_divergence(model, texts)] == [0.0, 0.0]


def test_divergence_misfits() -> None:
    model = loaded("llama")
    assert math.isnan(model.divergence(model, PROMPTS[:1], [[5] * 200])[0][0])
    stranger = LocalModel(model.model, tiny_tokenizer(vocabulary=380), "stranger", "x")
    with pytest.raises(NotComparable, match="different tokens"):
        model.divergence(stranger, PROMPTS[:1], [[5]])
    cut = sharp("llama", vocab_size=len(model.tokenizer) - 1)
    for one, other in ((model, cut), (cut, model)):
        with pytest.raises(NotComparable, match=f"{len(model.tokenizer) - 1} embedding rows"):
            one.divergence(other, PROMPTS[:1], [[5]])


@pytest.mark.parametrize("side", ["before", "after", "both"])
def test_rows_that_pad_a_vocabulary_change_no_divergence(side: str) -> None:
    """Whatever stands in the rows that no token has, KL is that of the models without them."""
    pair = [sharp("llama"), sharp("llama", seed=9)]
    answers, texts = [[5, 6, 7], [9], list(range(20, 40))], ["The river runs past the old mill.", "0 1 2 3"]
    wanted = pair[0].divergence(pair[1], PROMPTS[:3], answers), pair[0].text_divergence(pair[1], texts)
    padded = [one for one, name in zip(pair, ("before", "after"), strict=True) if side in (name, "both")]
    for more, one in zip((48, 16), padded, strict=False):
        tokens = len(one.tokenizer)
        one.model.resize_token_embeddings(tokens + more, mean_resizing=False)
        torch.nn.init.normal_(one.model.get_output_embeddings().weight[tokens:], std=9)
    found = pair[0].divergence(pair[1], PROMPTS[:3], answers), pair[0].text_divergence(pair[1], texts)
    for ours, theirs in zip(found, wanted, strict=True):
        assert [count for _, count in ours] == [count for _, count in theirs]
        assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], rel=1e-5)
