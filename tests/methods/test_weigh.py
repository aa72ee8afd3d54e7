"""output_only: which tokens count, by the mask made in rendering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.core.method import apply
from mnemos.core.nouns import Tokens
from mnemos.core.plan import Weigh
from mnemos.methods.weigh import PromptWeight, output_only
from tests.laws import Handle, base_plan


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
