"""Models that cannot be loaded, trained or trusted."""

from __future__ import annotations

import pytest

from tests.hostile import models
from tests.hostile.runner import Case, Warm, parameters

QUICK = ("config, a billion layers", "weights, a pipe", "a template that multiplies a string", "an adapter of itself")


@pytest.mark.parametrize("case", parameters(models.cases(), QUICK))
def test_models(warm: Warm, case: Case) -> None:
    warm.run(case)
