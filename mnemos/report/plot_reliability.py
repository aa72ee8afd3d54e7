"""The reliability plot of a reward model: how often is it right when it is so sure?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.report.svg import LIGHT, Sheet, draw

SIDE, LEFT, TOP = 240.0, 56.0, 18.0


def reliability_plot(calibration: Mapping[str, Any], *, name: str) -> str:
    """One point a bin of confidence, its share right with a 95 % interval, beside the diagonal.

    calibration: as `study.commands.reward.reliability` gives it.
    """
    error = calibration["error"]
    text = "no pair" if error is None else f"expected calibration error {error:.3f}"
    return draw(
        lambda sheet: _paint(sheet, calibration),
        LEFT + SIDE + 24,
        TOP + SIDE + 52,
        name=name,
        title="Share of pairs ranked right by the confidence of the reward model",
        desc=text,
    )


def _paint(sheet: Sheet, calibration: Mapping[str, Any]) -> None:
    def x(value: float) -> float:
        # A confidence is sigmoid(|difference|), at least 1/2: the axis begins there.
        return LEFT + SIDE * (value - 0.5) / 0.5

    def y(value: float) -> float:
        return TOP + SIDE * (1 - value)

    sheet.line([x(0.5), x(0.5), x(1.0)], [y(1.0), y(0.0), y(0.0)])
    sheet.line([x(0.5), x(1.0)], [y(0.5), y(1.0)], colour="muted", linestyle="--")
    for value in (0.0, 0.5, 1.0):
        sheet.write(LEFT - 8, y(value) + 4, f"{100 * value:.0f} %", size=11, colour="muted", ha="right")
    for value in (0.5, 0.75, 1.0):
        sheet.write(x(value), y(0) + 18, f"{value:g}", size=11, colour="muted", ha="center")
    sheet.write(x(0.75), y(0) + 40, "confidence: sigmoid of the difference", size=12, ha="center")
    sheet.write(LEFT, TOP - 5, "right", size=12, ha="right")
    for row in calibration["bins"]:
        if not row["number"]:
            continue
        place = x(row["confidence"])
        sheet.line([place, place], [y(row["low"]), y(row["high"])], colour="arm-1", width=1.5)
        sheet.ax.plot([place], [y(row["right"])], marker="o", markersize=6, color=LIGHT["arm-1"])
        sheet.write(place + 7, y(row["right"]) + 4, f"{row['number']}", size=10, colour="muted")
