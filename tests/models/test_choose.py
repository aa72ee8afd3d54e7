"""The packed row against one plain pass per (context, option) pair, for many architectures."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Prompt, Turn
from mnemos.models import choose, prefix, tree
from mnemos.models.forward import log_probs, logits_at
from mnemos.models.language import LocalModel
from mnemos.models.tree import Item
from tests.models.families import FAMILIES, next_log_probs, sharp

loaded = cache(sharp)
token = st.integers(0, 390)
HEADING = list(range(40, 40 + prefix.SHORTEST))
texts = st.lists(token, min_size=1, max_size=24)
some_items = st.lists(
    st.builds(Item, texts, st.lists(st.lists(token, min_size=1, max_size=6), min_size=1, max_size=5)),
    min_size=1,
    max_size=5,
)


def reference(model: Any, item: Item) -> list[tuple[float, bool]]:
    out = []
    for option in item.options:
        table = next_log_probs(model, item.context + option[:-1])[len(item.context) - 1 :]
        picked = table[torch.arange(len(option)), torch.tensor(option)]
        out.append((float(picked.sum()), bool((table.argmax(-1) == torch.tensor(option)).all())))
    return out


@torch.inference_mode()
def scores(model: LocalModel, items: list[Item], batch_tokens: int = 200) -> Any:
    return choose.score_options(model.model, items, batch_tokens)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(items=some_items)
def test_scores_are_those_of_one_pass_per_option(family: str, items: list[Item]) -> None:
    model = loaded(family)
    for item, found in zip(items, scores(model, items), strict=True):
        for score, option, (value, greedy) in zip(found, item.options, reference(model.model, item), strict=True):
            assert score.log_prob == pytest.approx(value, abs=1e-4)
            assert score.tokens == len(option)
            assert score.greedy == greedy


several_options = st.lists(st.lists(token, min_size=1, max_size=4), min_size=2, max_size=3)
families_of_items = st.lists(
    st.builds(
        lambda start, ends: [Item([*HEADING, *start, *end], options) for end, options in ends],
        st.lists(token, max_size=8),
        st.lists(
            st.tuples(
                st.lists(token, max_size=9), st.lists(st.lists(token, min_size=1, max_size=4), min_size=2, max_size=3)
            ),
            min_size=1,
            max_size=4,
        ),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2", "gemma3", "bloom", "mamba"])
@settings(max_examples=6, deadline=None)
@given(several=families_of_items, batch_tokens=st.sampled_from([60, 200, 4000]))
def test_contexts_that_begin_alike_score_as_one_pass_per_option(
    family: str, several: list[list[Item]], batch_tokens: int
) -> None:
    """A context may be another one's beginning, or equal to it."""
    model = loaded(family)
    items = [item for group in several for item in group]
    for item, found in zip(items, scores(model, items, batch_tokens), strict=True):
        for score, (value, greedy) in zip(found, reference(model.model, item), strict=True):
            assert score.log_prob == pytest.approx(value, abs=1e-4)
            assert score.greedy == greedy


@pytest.mark.parametrize(
    ("family", "shares"), [("llama", True), ("qwen3", True), ("gpt2", True), ("gemma3", False), ("mamba", False)]
)
def test_which_models_go_on_from_a_shared_beginning(family: str, shares: bool) -> None:
    with torch.inference_mode():
        assert choose._shares(loaded(family).model) is shares


def test_the_check_on_the_model_itself_catches_a_beginning_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cat", lambda parts, dim: torch.ones_like(real(parts, dim=dim)))
    model = sharp("llama", seed=5)
    with torch.inference_mode():
        assert choose._longest(model.model)
        assert not choose._shares(model.model)


real = torch.cat


def test_keys_and_values_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """gpt2 keeps 2 x layers x width x 4 bytes a token, the others fewer heads of it."""
    for family in ("gpt2", "qwen3"):
        model = loaded(family).model
        with torch.inference_mode():
            layers = model(input_ids=torch.zeros(1, 7, dtype=torch.long), use_cache=True).past_key_values.layers
        bytes_ = sum(one.keys.nbytes + one.values.nbytes for one in layers) / 7
        monkeypatch.setattr(prefix, "CACHE_BYTES", 50 * bytes_)
        assert prefix.cached_tokens(model) == 50


def test_orders_of_a_pair_share_what_stands_before_the_answers() -> None:
    """Three pairs behind one heading: each pair is a family, and the heading alone joins no two of them."""
    heading = list(range(100, 120))
    pairs = [[*heading, *range(n, n + 40)] for n in (150, 200, 250)]
    items = [Item([*start, *end], [[1, 2], [3, 4]]) for start in pairs for end in ([5, 6, 7], [7, 6, 5])]

    def made(items: list[Item], batch_tokens: int) -> tuple[list[prefix.Family], list[int]]:
        return prefix.families(items, [item.width for item in items], batch_tokens)

    found, alone = made([*items, Item([9] * 30, [[1], [2]])], 4000)
    assert sorted(one.members for one in found) == [[0, 1], [2, 3], [4, 5]]
    assert {one.shared for one in found} == {60}
    assert alone == [6]
    # 20 questions behind the same examples are one family, cut where a batch is full.
    shots = [Item([*range(300), n], [[1], [2]]) for n in range(20)]
    (one,), _ = made(shots, 100_000)
    assert (len(one.members), one.shared) == (20, 300)
    cut, rest = made(shots, 3_010)
    assert sorted(i for family in cut for i in family.members) + rest == list(range(20))
    assert max(len(family.members) for family in cut) == 10
    assert made([Item([n] * 15 + [1], [[1], [2]]) for n in (1, 1)], 4000)[0] == [], "too short to pay"


@pytest.mark.parametrize(
    ("family", "longest"),
    [
        ("llama", 2**20),
        ("qwen3", 2**20),
        ("gemma", 2**20),
        ("gpt2", 2**20),
        ("gemma2", 16),
        ("gemma3", 16),
        ("mistral", 12),
        ("bloom", 0),
        ("mamba", 0),
    ],
)
def test_which_models_take_packed_rows(family: str, longest: int) -> None:
    model = loaded(family)
    with torch.inference_mode():
        assert choose._longest(model.model) == longest


def test_the_check_on_the_model_itself_catches_a_wrong_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sharp("llama", seed=3)
    monkeypatch.setattr(tree, "_mask", lambda owner, dtype: None)
    with torch.inference_mode():
        assert choose._longest(model.model) == 0


def test_beyond_the_sliding_window_and_below_it() -> None:
    model = loaded("gemma3")
    items = [Item(list(range(5, 5 + n)), [[7, 8, 9], [9, 8], [3]]) for n in (6, 11, 12, 13, 40, 90)]
    for item, found in zip(items, scores(model, items), strict=True):
        expected = [value for value, _ in reference(model.model, item)]
        assert [score.log_prob for score in found] == pytest.approx(expected, abs=1e-4)


def test_options_that_do_not_fit_one_row_share_several(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("gemma3")  # rows of 16 tokens at most
    item = Item([5, 6, 7, 8], [[n + 9, n + 10, n + 11, n + 12, n + 13] for n in range(7)] + [[3] * 14, [4]])
    packed: list[int] = []

    def watched(model: Any, items: list[Item], inner: Any = choose.packed_scores) -> Any:
        packed.extend(one.width for one in items)
        return inner(model, items)

    scores(model, [item])  # what the model takes is tried once, before it is watched
    monkeypatch.setattr(choose, "packed_scores", watched)
    found = [score.log_prob for score in scores(model, [item])[0]]
    assert found == pytest.approx([value for value, _ in reference(model.model, item)], abs=1e-4)
    # Of seven options of four read tokens three stand beside the context of four; the longest one stands alone.
    assert sorted(packed) == [4 + 3 * 4, 4 + 3 * 4]


def test_greedy_is_told_from_unlikely() -> None:
    model = loaded("llama")
    context = [3, 50, 60]
    best: list[int] = []
    for _ in range(3):
        best.append(int(next_log_probs(model.model, context + best)[-1].argmax()))
    other = [*best[:2], (best[2] + 1) % 300]
    assert [score.greedy for score in scores(model, [Item(context, [best, other, best[:1]])])[0]] == [True, False, True]


def test_an_option_beyond_the_context_is_missing_and_the_others_are_not() -> None:
    model = loaded("llama")
    item = Item([5] * 125, [[6] * 4, [6] * 5, [7]])
    found = scores(model, [item])[0]
    assert math.isnan(found[1].log_prob)
    assert found[1].tokens == 0
    for o in (0, 2):
        assert found[o].log_prob == pytest.approx(
            reference(model.model, Item(item.context, [item.options[o]]))[0][0], abs=1e-4
        )


@settings(max_examples=10, deadline=None)
@given(items=some_items, batch_tokens=st.integers(1, 400))
def test_batching_does_not_matter(items: list[Item], batch_tokens: int) -> None:
    model = loaded("qwen3")
    for a, b in zip(scores(model, items, batch_tokens), scores(model, items, 10_000), strict=True):
        assert [s.log_prob for s in a] == pytest.approx([s.log_prob for s in b], abs=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_a_wrapped_adapter_is_scored_too() -> None:
    from peft import LoraConfig, get_peft_model

    model = sharp("llama", seed=5)
    items = [Item([3, 4, 5, 6], [[7, 8, 9], [10, 11]])]
    before = scores(model, items)[0]
    wrapped = get_peft_model(model.model, LoraConfig(target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    adapted = LocalModel(wrapped, model.tokenizer, "adapted", "x")
    after = scores(adapted, items)[0]
    assert [s.log_prob for s in after] == pytest.approx([v for v, _ in reference(wrapped, items[0])], abs=1e-4)
    assert abs(after[0].log_prob - before[0].log_prob) > 1e-2
    with wrapped.disable_adapter():
        assert [s.log_prob for s in scores(adapted, items)[0]] == [s.log_prob for s in before]


def prompt(text: str) -> Prompt:
    return Prompt((Turn("prompt", text),))


def test_raw_text_is_split_as_lm_evaluation_harness_splits_it() -> None:
    model = loaded("llama")
    tokenizer, bos = model.tokenizer, model.tokenizer.bos_token_id

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    context, choices = "The river runs  ", ["past", " under the bridge", "."]
    item = choose.tokenized(tokenizer, model.renderer, [prompt(context)], [choices])[0]
    assert item.context == [bos, *encode("The river runs")]
    for choice, ids in zip(choices, item.options, strict=True):
        assert item.context + ids == [bos, *encode(context + choice)]
    empty = choose.tokenized(tokenizer, model.renderer, [prompt("")], [["Ada"]])[0]
    assert empty == Item([bos], [encode("Ada")])


def test_chat_options_follow_the_generation_prompt() -> None:
    model = loaded("llama")
    asked = Prompt((Turn("user", "What is two plus three?"),))
    item = choose.tokenized(model.tokenizer, model.renderer, [asked], [["five", "The answer"]])[0]
    assert item.context == model.renderer.prompt_ids(asked)
    assert [model.tokenizer.decode(ids) for ids in item.options] == ["five", "The answer"]
    found = model.choose([asked, prompt("Ada")], [["five", "The answer"], [" Lane"]])
    assert [len(row) for row in found] == [2, 1]
    assert found[0][0].log_prob == pytest.approx(reference(model.model, item)[0][0], abs=1e-4)


def test_empty_options_are_refused() -> None:
    model = loaded("llama")
    with pytest.raises(UsageError, match="none of them empty"):
        model.choose([prompt("a")], [["b", ""]])
    with pytest.raises(UsageError, match="as many"):
        model.choose([prompt("a")], [])
    assert model.choose([], []) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_at_some_positions_are_those_of_the_full_pass(family: str) -> None:
    model = loaded(family)
    ids = torch.randint(0, 300, (3, 10), generator=torch.Generator().manual_seed(1))
    flat = torch.tensor([29, 0, 7, 7, 15])
    with torch.inference_mode():
        full = model.model(input_ids=ids).logits
        some, _ = logits_at(model.model, flat, input_ids=ids)
    torch.testing.assert_close(some, full.reshape(30, -1)[flat], atol=1e-4, rtol=1e-4)
    assert not model.model.get_output_embeddings()._forward_pre_hooks


def test_log_probs_of_16_bit_logits_are_computed_in_32() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    targets, rows = torch.tensor([3, 7, 3]), torch.tensor([0, 2, 3])
    values, greedy = log_probs(logits, targets, rows)
    table = logits.double().log_softmax(-1)
    torch.testing.assert_close(values.double(), table[rows, targets], atol=1e-5, rtol=0)
    assert greedy.tolist() == (table.argmax(-1)[rows] == targets).tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a third party's
def test_scores_are_those_of_lm_evaluation_harness() -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = sharp("llama", seed=4)
    model.model.config.name_or_path = "tiny"
    peer = HFLM(pretrained=model.model, tokenizer=model.tokenizer, device="cpu", batch_size=3, add_bos_token=True)
    # The tokenizer of the tests adds no BOS by itself; spelt out, both sides see one.
    bos = model.tokenizer.bos_token
    contexts = ["The river runs", "What is two plus three? ", "Ada", "in 1912.\n"]
    choices = [
        [" past", " under the old mill"],
        ["five", "The answer is five."],
        [" Lane", " and", "m"],
        ["She", " She"],
    ]
    requests = [
        Instance("loglikelihood", {}, (bos + context, option), i)
        for i, (context, options) in enumerate(zip(contexts, choices, strict=True))
        for option in options
    ]
    theirs = iter(peer.loglikelihood(requests, disable_tqdm=True))
    for row in model.choose([prompt(context) for context in contexts], choices):
        for score in row:
            value, greedy = next(theirs)
            assert score.log_prob == pytest.approx(value, abs=1e-4)
            assert score.greedy == greedy
