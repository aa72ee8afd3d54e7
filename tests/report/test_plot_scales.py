"""The picture of a sweep over scales: where points lie, and what cannot be drawn."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from mnemos.report.plot_scales import scales_plot


def score(mean: float | None) -> dict[str, Any]:
    near = None if mean is None else (mean - 0.1, mean + 0.1)
    return {"mean": mean, "low": near and near[0], "high": near and near[1], "items": 9, "missing": 0}


def swept(**suites: tuple[str, list[float | None]]) -> dict[str, Any]:
    drawn = {name: {"unit": unit, "scores": [score(one) for one in means]} for name, (unit, means) in suites.items()}
    return {"scales": [1.0, 0.0, 0.5], "suites": drawn}


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter() if node.tag.endswith("text")]


def test_a_line_a_suite_and_a_panel_a_unit() -> None:
    found = scales_plot(swept(digit=("points", [0.9, 0.1, 0.5]), json=("points", [0.2, 0.8, 0.5]),
                              bits=("bits per byte", [1.5, 1.0, 1.2])))  # fmt: skip
    assert {"digit", "json", "bits", "score", "bits per byte"} <= set(texts(found))
    assert sum("scale of the adapters" in one for one in texts(found)) == 2
    # Scales were measured from 1 downwards and are told from the smallest to the largest.
    assert re.search(r"digit: 0\.100 to 0\.900", found)


def test_a_suite_without_scores_is_left_out_and_none_at_all_is_no_picture() -> None:
    assert "json" not in scales_plot(swept(digit=("points", [0.9, 0.1, 0.5]), json=("points", [None, None, 0.5])))
    assert scales_plot(swept(json=("points", [None, None, 0.5]))) == ""
