"""Studies that cannot be meant."""

from __future__ import annotations

import pytest

from tests.hostile import studies
from tests.hostile.runner import Case, Warm, parameters

QUICK = ("a learning rate beyond floats", "a file of aliases of aliases", "an adapter on nothing")


@pytest.mark.parametrize("case", parameters(studies.cases(), QUICK))
def test_studies(warm: Warm, case: Case) -> None:
    warm.run(case)
