"""A section of the report is one module and one row: nothing else in the house is touched."""

from __future__ import annotations

import pytest

from mnemos.report import render
from mnemos.report.sections import SECTIONS
from tests.extensions import toy_section
from tests.report.synthetic import study


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_a_section_from_outside_stands_in_every_format(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    results = {**study(), "answer_length": {"plain": 2.5}}
    without = render(results, form, 120)
    assert "2.5 times" not in without
    monkeypatch.setattr("mnemos.report.sections.SECTIONS", [*SECTIONS, toy_section])
    text = render(results, form, 120)
    assert "Longer answers" in text
    assert "Answers of plain are 2.5 times as long." in text
    assert ("Length by arm" in text) == (form != "html")
    assert ("Words of an answer, after over before." in text and 'id="answer-length"' in text) == (form == "html")
    assert render(study(), form, 120).count("Longer answers") == 0
