"""Merges that cannot be meant."""

from __future__ import annotations

import pytest

from tests.hostile import expressions
from tests.hostile.runner import Case, Warm, parameters

QUICK = ("an expression of a pattern that never ends", "merge, a sweep of a billion", "a merge of NaN")


@pytest.mark.parametrize("case", parameters(expressions.cases(), QUICK))
def test_expressions(warm: Warm, case: Case) -> None:
    warm.run(case)
