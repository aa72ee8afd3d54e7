"""Tokenizers side by side: one measure as bars, a group a language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mnemos.report.svg import Scale, Sheet, arm_colour, draw, fit, tick_text
from mnemos.report.words import typeset

BAR, GAP, LEFT, TOP, FIELD = 16.0, 22.0, 52.0, 30.0, 190.0


def bars(values: Mapping[str, Mapping[str, float]], title: str, *, name: str) -> str:
    """values: tokenizer -> language -> number; NaN leaves its place empty."""
    makers = list(values)
    languages = list(dict.fromkeys(language for one in values.values() for language in one))
    group = BAR * len(makers) + GAP
    width = max(360.0, LEFT + group * len(languages) + 20)
    known = [v for one in values.values() for v in one.values() if math.isfinite(v)]
    up = Scale(0, (max(known, default=1.0) or 1.0) * 1.05, TOP + FIELD, TOP)

    def paint(sheet: Sheet) -> None:
        sheet.write(0, 14, title, size=12, weight="bold")
        sheet.box(LEFT, TOP, width - LEFT - 8, FIELD, fill="panel", zorder=0)
        for tick in up.ticks(5):
            sheet.line([LEFT, width - 8], [up(tick)] * 2, colour="rule", width=0.8, zorder=1)
            sheet.write(LEFT - 6, up(tick) + 4, tick_text(tick), size=10.5, colour="muted", ha="right")
        for place, language in enumerate(languages):
            start = LEFT + GAP / 2 + group * place
            middle = start + BAR * len(makers) / 2
            sheet.write(middle, TOP + FIELD + 16, fit(language, group - 4, 11), size=11, ha="center")
            for at, maker in enumerate(makers):
                value = values[maker].get(language, math.nan)
                if math.isfinite(value):
                    top = up(value)
                    sheet.box(start + BAR * at, top, BAR - 2, TOP + FIELD - top, fill=arm_colour(at), zorder=3)
        _key(sheet, makers, width)

    described = "; ".join(
        f"{maker}, {language}: {value:.3g}" for maker, one in values.items() for language, value in one.items()
    )
    return draw(paint, width, TOP + FIELD + 30 + 18 * len(makers), name=name, title=title, desc=typeset(described))


def _key(sheet: Sheet, makers: Sequence[str], width: float) -> None:
    for at, maker in enumerate(makers):
        y = TOP + FIELD + 40 + 18 * at
        sheet.box(LEFT, y - 10, 12, 12, fill=arm_colour(at))
        sheet.write(LEFT + 18, y, fit(maker, width - LEFT - 30, 11.5), size=11.5)
