"""output_only: which tokens count, by the mask made in rendering. token_mask: by the model before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.method import apply
from mnemos.core.nouns import Tokens
from mnemos.core.plan import Weigh
from mnemos.methods.weigh.tokens import PromptWeight, RoleWeights, TokenMask, output_only, token_mask
from mnemos.models.load import Checkpoint
from tests.laws import Handle, base_plan
from tests.tiny import save_tiny


def row(weight: list[float], output: list[bool]) -> Tokens:
    ids = np.arange(len(weight), dtype=np.int32)
    return Tokens(ids, np.array(weight, np.float32), np.array(output), "row", "new")


def test_prompts_are_masked_and_outputs_kept() -> None:
    given_row = row([0, 1, 1, 1, 1, 0.5], [False, False, True, True, False, True])
    (step,) = output_only(base_plan()).weigh
    assert isinstance(step, Weigh)
    (out,) = step([given_row], Handle("before"))
    assert out.weight.tolist() == [0, 0, 1, 1, 0, 0.5]
    assert out.weight.dtype == np.float32
    assert given_row.weight.tolist() == [0, 1, 1, 1, 1, 0.5], "the rows given stay as they are"
    assert (out.ids == given_row.ids).all()
    assert (out.output == given_row.output).all()
    assert (out.example, out.origin) == ("row", "new")


@given(
    st.lists(st.tuples(st.floats(0, 2, width=32), st.booleans()), min_size=1, max_size=20),
    st.floats(0, 1, width=32, exclude_max=True),
)
def test_prompt_weight_scales_prompts_only(tokens: list[tuple[float, bool]], share: float) -> None:
    weights, outputs = [w for w, _ in tokens], [o for _, o in tokens]
    (out,) = PromptWeight(share)([row(weights, outputs)], Handle("before"))
    expected = [w if o else np.float32(share) * np.float32(w) for w, o in tokens]
    np.testing.assert_array_equal(out.weight, np.array(expected, np.float32))


@given(
    st.lists(st.tuples(st.floats(0, 2, width=32), st.booleans()), min_size=2, max_size=20),
    st.floats(0.015625, 1, width=32),
    st.floats(0.015625, 1, width=32, exclude_max=True),
)
def test_only_the_ratio_of_both_weights_is_learned(
    tokens: list[tuple[float, bool]], prompt: float, answer: float
) -> None:
    """The loss divides by the sum of weights: with the same ratio every token has the same share of it."""
    given_row = row([w for w, _ in tokens], [o for _, o in tokens])
    (step,) = output_only(base_plan(), prompt_weight=prompt, answer_weight=answer).weigh
    assert step.by_role  # type: ignore[attr-defined]
    (out,) = step([given_row], Handle("before"))
    expected = [w * (answer if o else prompt) for w, o in tokens]
    # Half of the smallest float32 is none: near zero numbers are as far apart as that one, and not in proportion.
    np.testing.assert_allclose(out.weight, expected, rtol=1e-6, atol=float(np.finfo(np.float32).smallest_normal))
    top = max(prompt, answer)
    (other,) = RoleWeights(prompt / top, answer / top)([given_row], Handle("before"))
    if sum(expected):
        np.testing.assert_allclose(
            out.weight / out.weight.sum(), other.weight / other.weight.sum(), rtol=1e-4, atol=1e-12
        )


def test_prompts_alone_and_nothing() -> None:
    (step,) = output_only(base_plan(), prompt_weight=1, answer_weight=0).weigh
    (out,) = step([row([1, 1, 1], [False, True, False])], Handle("before"))
    assert out.weight.tolist() == [1, 0, 1]
    with pytest.raises(UsageError, match="prompt_weight = 0 and answer_weight = 0: learn nothing"):
        output_only(base_plan(), answer_weight=0)
    later = apply(base_plan(), [{"output_only": {"answer_weight": 0.5}}, {"output_only": {}}])
    assert later.weigh == (PromptWeight(0.0),)


def test_documents_are_all_output() -> None:
    (out,) = PromptWeight(0.0)([row([0, 1, 1], [True, True, True])], Handle("before"))
    assert out.weight.tolist() == [0, 1, 1]


def test_the_later_one_holds() -> None:
    plan = apply(base_plan(), [{"output_only": {}}, {"output_only": {"prompt_weight": 0.1}}])
    assert plan.weigh == (PromptWeight(0.1),)
    assert apply(plan, [{"output_only": {"prompt_weight": 0.1}}]).fingerprint == plan.fingerprint
    assert apply(plan, [{"output_only": {"prompt_weight": 1.0}}]).weigh == (PromptWeight(0.1),)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_bounds(share: float) -> None:
    with pytest.raises(UsageError, match=r"output_only\.prompt_weight = "):
        output_only(base_plan(), prompt_weight=share)


# --- token_mask ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A handle whose model tells given perplexities."""

    perplexity: tuple[tuple[float, ...], ...]
    path: str = "told"
    fingerprint: str = "told"

    def load(self) -> Any:
        return self

    def token_nats(self, rows: list[list[int]]) -> list[list[float]]:
        assert [len(ids) - 1 for ids in rows] == [len(one) for one in self.perplexity]
        return [[math.log(value) for value in one] for one in self.perplexity]


ROWS = [row([1, 0, 1, 0.5, 1], [False] * 5), row([1, 1, 1], [True] * 3), row([1, 0], [True] * 2)]
SAID = Told(((9.0, 2.6, 1.5, 1.1), (2.4, 30.0), (99.0,)))
"""Supervised: row 0 tokens 2, 3, 4 (2.6, 1.5, 1.1) and row 1 tokens 1, 2 (2.4, 30)."""


@pytest.mark.parametrize(
    ("settings", "masked"),
    [
        ({"masked_share": 0.2}, {(1, 2)}),
        ({"masked_share": 0.4}, {(1, 2), (0, 2)}),
        ({"masked_share": 0.4, "select": "lowest"}, {(0, 4), (0, 3)}),
        ({"threshold": 2.5}, {(1, 2), (0, 2)}),
        ({"threshold": 2.5, "masked_share": 0.9}, {(1, 2), (0, 2)}),
        ({"threshold": 2.5, "select": "lowest"}, {(0, 4), (0, 3)}),
        ({"threshold": 1000.0}, set()),
    ],
)
def test_the_least_likely_supervised_tokens_are_masked(settings: Any, masked: set[tuple[int, int]]) -> None:
    (step,) = token_mask(base_plan(), **settings).weigh
    assert isinstance(step, Weigh)
    out = step(ROWS, SAID)
    gone = {
        (r, t)
        for r, (old, new) in enumerate(zip(ROWS, out, strict=True))
        for t in range(len(old))
        if old.weight[t] != new.weight[t]
    }
    assert gone == masked
    assert all(out[r].weight[t] == 0 for r, t in gone)
    assert ROWS[0].weight.tolist() == [1, 0, 1, 0.5, 1], "the rows given stay as they are"


def test_the_random_control_masks_as_many() -> None:
    """For a share and for a threshold; another seed takes others, the same seed the same."""
    drawn = []
    for seed in range(8):
        for settings in ({"masked_share": 0.4}, {"threshold": 2.5}):
            (step,) = token_mask(base_plan(), select="random", seed=seed, **settings).weigh
            out, again = step(ROWS, SAID), step(ROWS, SAID)
            assert [r.weight.tolist() for r in out] == [r.weight.tolist() for r in again]
            assert sum(int(np.count_nonzero(r.weight[1:])) for r in out) == 5 - 2
            drawn.append(str([r.weight.tolist() for r in out]))
    assert len(set(drawn)) > 3


def test_only_what_matters_is_in_the_fingerprint() -> None:
    plan = base_plan()
    assert token_mask(plan, seed=5).fingerprint == token_mask(plan).fingerprint
    assert token_mask(plan, seed=5, select="random").fingerprint != token_mask(plan, select="random").fingerprint
    same = [token_mask(plan, threshold=2.5, masked_share=share).fingerprint for share in (0.1, 0.2)]
    assert same[0] == same[1] != token_mask(plan).fingerprint


def test_probabilities_are_those_of_the_model_before(tmp_path: Path) -> None:
    """Against full logits of transformers, token by token."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = save_tiny(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    made = np.random.default_rng(0)
    rows = [
        Tokens(made.integers(5, 300, n).astype(np.int32), np.ones(n, np.float32), np.ones(n, np.bool_), f"r{n}")
        for n in (7, 3, 12, 1)
    ]
    expected = []
    for one in rows:
        ids = torch.tensor(one.ids.astype(np.int64))[None]
        with torch.no_grad():
            nll = -model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        expected += nll.tolist()
    cut = sorted(expected, reverse=True)[4]
    (step,) = token_mask(base_plan(), masked_share=5 / len(expected)).weigh
    out = step(rows, Checkpoint(str(folder)))
    masked = np.concatenate([one.weight[1:] == 0 for one in out])
    assert masked.tolist() == [value >= cut for value in expected]


def test_a_model_that_tells_no_probabilities_is_refused() -> None:
    @dataclass(frozen=True)
    class Mute:
        path: str = "mute"
        fingerprint: str = "mute"

        def load(self) -> Any:
            return object()

    with pytest.raises(ModelError, match="tells no probabilities of given tokens"):
        TokenMask(0.5, None, "highest", 0)(ROWS, Mute())


@pytest.mark.parametrize("settings", [{"masked_share": 1.0}, {"threshold": 0.5}, {"select": "worst"}])
def test_token_mask_bounds(settings: Any) -> None:
    with pytest.raises(UsageError, match=r"token_mask\."):
        token_mask(base_plan(), **settings)
