"""A small slice of the table of docs/intervals.md, and that its bounds can be broken."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.intervals import KINDS, Setting, faults, page, proven, settings, simulate
from mnemos.measure.uncertainty import paired


@pytest.mark.parametrize("kind", ["right or wrong", "graded, rare large losses", "bits, weighted"])
def test_a_slice_of_the_table_is_within_its_bounds(kind: str) -> None:
    for seeds, luck in ((1, 0.0), (3, 1.0)):
        row = simulate(Setting(kind, 12, seeds, luck), 150, 150)
        assert row.covered is not None
        assert row.covered >= 93
        assert row.false <= 6
        assert row.repeats == 150


def test_too_few_items_are_withheld_and_printed_as_such() -> None:
    row = simulate(Setting("bits, clustered", 12, 1, 0.0), 20, 20)
    assert (row.covered, row.power, row.withheld) == (None, None, 100)
    assert "| bits, clustered | 12 | 1 | no | – | – | 0.0 | – | – |" in page([row])
    assert faults(row) == []


def test_every_bound_can_be_broken() -> None:
    row = dataclasses.replace(
        simulate(Setting("bits", 12, 1, 0.0), 20, 20), covered=92.9, false=6.1, power=60.0, power_repeats=400
    )
    assert faults(row) == ["coverage 92.9", "false claims 6.1", "power 60.0"]
    assert "Rows beyond a bound: bits, 12 items" in page([row])


def test_the_table_has_the_settings_that_studies_have() -> None:
    rows = list(settings())
    assert {row.kind for row in rows} == set(KINDS)
    assert {row.items for row in rows} == {9, 12, 20, 40, 100, 400, 2000}
    assert {row.seeds for row in rows} == {1, 2, 3, 4, 5}


def test_a_claim_needs_interval_and_p() -> None:
    assert proven(paired([1.0] * 100, [[0.0] * 60 + [1.0] * 40]))
    assert not proven(paired([1.0] * 100, [[1.0] * 100]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_settings_that_are_hard_to_cover(kind: str) -> None:
    """Few items, skew, rare losses, uneven weights, two and three seeds with effects of their own."""
    for items, seeds, luck in ((9, 3, 1.0), (12, 1, 0.0), (12, 2, 1.0), (40, 1, 0.0), (40, 3, 1.0), (100, 3, 1.0)):
        row = simulate(Setting(kind, items, seeds, luck), 300, 900)
        assert faults(row) == [], row
