"""What filters kept, as bars: by filter, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.report.svg import Sheet, draw, fit
from mnemos.report.words import typeset

WIDTH, LEFT, LINE, TOP = 560.0, 170.0, 24.0, 34.0


def kept_bars(record: Mapping[str, Any]) -> str:
    """The share of pages that each filter keeps by itself; empty without a page."""
    kept = {name: value for name, value in record["audit"]["kept"].items() if value is not None}
    if not kept:
        return ""
    wide = WIDTH - LEFT - 70

    def paint(sheet: Sheet) -> None:
        sheet.write(0, 14, "share of pages kept, each filter by itself", size=12, weight="bold")
        for at, (name, value) in enumerate(kept.items()):
            y = TOP + LINE * at
            sheet.write(LEFT - 8, y + 13, fit(name, LEFT - 12, 11.5), size=11.5, ha="right")
            sheet.box(LEFT, y, wide, LINE - 6, fill="panel", zorder=0)
            colour = "kept" if name == "all together" else "gained"
            sheet.box(LEFT, y, wide * value, LINE - 6, fill=colour, zorder=2)
            sheet.write(LEFT + wide + 8, y + 13, f"{100 * value:.1f} %", size=11)

    text = "; ".join(f"{name} {100 * value:.1f} %" for name, value in kept.items())
    height = TOP + LINE * len(kept) + 8
    return draw(paint, WIDTH, height, name="kept", title="Share of pages that each filter keeps", desc=typeset(text))
