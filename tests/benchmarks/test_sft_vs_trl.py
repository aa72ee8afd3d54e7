"""The benchmark's own rows and its refusal to compare different trainings."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sft_vs_trl import Side, _agree, _invented


def test_invented_rows_have_the_lengths_of_the_real_ones() -> None:
    lengths = [len(prompt.split()) + len(completion.split()) for prompt, completion in _invented()]
    assert np.allclose(np.quantile(lengths, [0.25, 0.5, 0.75]), [61, 124, 252], rtol=0.1)
    assert _invented() == _invented()


def test_different_losses_are_not_compared() -> None:
    assert _agree(Side("a", [2.0, 1.0]), Side("b", [2.0, 1.0005])) == pytest.approx(5e-4, rel=1e-2)
    with pytest.raises(RuntimeError, match="the losses differ"):
        _agree(Side("a", [2.0, 1.0]), Side("b", [2.0, 1.1]))
    with pytest.raises(RuntimeError, match="the losses differ"):
        _agree(Side("a", [2.0]), Side("b", [2.0, 1.0]))
