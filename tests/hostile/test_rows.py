"""Rows that cannot be learned from."""

from __future__ import annotations

import pytest

from tests.hostile import rows
from tests.hostile.runner import Case, Warm, parameters

QUICK = ("a row of lists 100,000 deep", "a file of three gigabytes packed")


@pytest.mark.parametrize("case", parameters(rows.cases(), QUICK))
def test_rows(warm: Warm, case: Case) -> None:
    warm.run(case)
