"""Suites that cannot be asked, scored or read."""

from __future__ import annotations

import pytest

from tests.hostile import suites
from tests.hostile.runner import Case, Warm, parameters

QUICK = ("a suite of an infinite tolerance", "an item of a pattern that is none")


@pytest.mark.parametrize("case", parameters(suites.cases(), QUICK))
def test_suites(warm: Warm, case: Case) -> None:
    warm.run(case)
