"""`mnemos laws`: fit laws of the loss to runs, and ask whether a jump is the model's or the metric's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.measure import emergence
from mnemos.measure.laws import chinchilla, optimum, repetition
from mnemos.measure.laws.chinchilla import LawFit
from mnemos.measure.laws.optimum import Frontier
from mnemos.measure.laws.points import Points, read_points
from mnemos.sources.bad_row import RowError
from mnemos.sources.files import rows_of

CHINCHILLA_FLOP = 5.76e23
"""Gopher's budget, for which the paper names a size."""
APPROACHES = ("1", "2", "3", "repetition")
MOST_DRAWS = 100_000
Fit = LawFit | Frontier


@dataclass(frozen=True)
class Asked:
    """What is fitted. without_highest: a second fit leaves out so many points of highest loss. compute: FLOP for
    which the optimum is printed."""

    approaches: tuple[str, ...] = ("1", "2", "3")
    without_highest: int = 0
    draws: int = chinchilla.DRAWS
    compute: float = CHINCHILLA_FLOP
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.compute) and self.compute > 0):
            raise UsageError(f"compute = {self.compute}", "must be a positive number of FLOP", "such as 5.76e23")
        if not 0 <= self.draws <= MOST_DRAWS:
            raise UsageError(f"draws = {self.draws}", f"must be from 0 to {MOST_DRAWS:,}", "1000 is usual")


def fit_laws(path: Path, out: Path, asked: Asked, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Fit every approach that was asked for; writes laws.json, laws.html and the figures into `out`. Raises DataError
    where none can be fitted; one that cannot be beside others that can is named with its reason."""
    points = read_points(path, columns)
    sets = {f"all {len(points)} points": points}
    if asked.without_highest:
        sets[f"without the {asked.without_highest} of highest loss"] = points.without_highest(asked.without_highest)
    record: dict[str, Any] = {
        "points": len(points), "left_out": dict(points.left_out), "compute": asked.compute, "draws": asked.draws,
        "fits": [],
    }  # fmt: skip
    kept: dict[tuple[str, str], Fit] = {}
    last: MnemosError | None = None
    for name, some in sets.items():
        for approach in asked.approaches:
            entry: dict[str, Any] = {"points": name, "approach": approach}
            try:
                fitted = _one(some, approach, asked)
                entry |= _entry(fitted, asked.compute)
                if not isinstance(fitted, repetition.Repetition):
                    kept[name, approach] = fitted
            except DataError as error:
                last = error
                entry["why_not"] = str(error).replace("\n ", ";")
            record["fits"].append(entry)
    if last is not None and all("why_not" in entry for entry in record["fits"]):
        if points.left_out:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in points.left_out.items())
            raise DataError(last.value, f"{last.bound} (rows left out, {reasons})", last.cure)
        raise last
    figures = _figures(list(sets.values())[-1], list(sets)[-1], kept)
    for name, figure in figures.items():
        write_text(out / f"{name}.svg", figure)
    write_json(out / "laws.json", record)
    from mnemos.report.plot_laws import page

    write_text(out / "laws.html", page("Laws of loss", list(figures.values()), "\n".join(lines(record))))
    return record


def _one(points: Points, approach: str, asked: Asked) -> Fit | repetition.Repetition:
    fits: dict[str, Callable[..., Fit | repetition.Repetition]] = {
        "1": optimum.envelope, "2": optimum.isoflop, "3": chinchilla.fit, "repetition": repetition.fit,
    }  # fmt: skip
    return fits[approach](points, draws=asked.draws, seed=asked.seed)


def _entry(fitted: Fit | repetition.Repetition, compute: float) -> dict[str, Any]:
    if isinstance(fitted, repetition.Repetition):
        base = {name: getattr(fitted.base, name) for name in ("A", "B", "E", "alpha", "beta")}
        return {"numbers": {k: _plain(v) for k, v in fitted.intervals().items()}, "base": base}
    optima = {name: _plain(value) for name, value in fitted.optima(compute).items()}
    if isinstance(fitted, LawFit):
        numbers = {name: _plain(value) for name, value in fitted.intervals().items()}
        return {
            "numbers": numbers, "optimum": optima, "objective": fitted.objective, "agree": fitted.agree,
            "r2": fitted.r2,
        }  # fmt: skip
    pairs = [[float(c), float(n)] for c, n in zip(fitted.compute, fitted.size, strict=True)]
    return {
        "numbers": {"exponent": _plain(fitted.intervals())}, "optimum": optima, "pairs": pairs,
        "without_optimum": fitted.left_out,
    }  # fmt: skip


def _plain(values: Sequence[float | None]) -> dict[str, float | None]:
    names = ("value", "low", "high", "sd")
    return dict(zip(names, values, strict=False))


def _figures(points: Points, name: str, kept: Mapping[tuple[str, str], Fit]) -> dict[str, str]:
    from mnemos.report.plot_laws import loss_plot, optimum_plot

    titles = {"1": "envelope of training curves", "2": "IsoFLOP parabolas", "3": "law of the loss"}
    found = {approach: fitted for (part, approach), fitted in kept.items() if part == name}
    out = {}
    law = found.get("3")
    if isinstance(law, LawFit):
        best = law.law

        def lowest(compute: float) -> float:
            size, tokens = best.optimum(compute)
            return float(best.loss(size, tokens))  # type: ignore[arg-type]

        out["loss"] = loss_plot(points.compute.tolist(), points.loss.tolist(), points.n.tolist(), lowest)
    lines = []
    for approach, fitted in found.items():
        pairs = [] if isinstance(fitted, LawFit) else list(zip(fitted.compute, fitted.size, strict=True))
        lines.append((titles[approach], lambda c, one=fitted: one_size(one, c), pairs))
    if lines:
        ends = (float(points.compute.min()), float(points.compute.max()))
        out["optimum"] = optimum_plot(lines, ends if ends[1] > ends[0] else (ends[0], ends[0] * 10))
    return out


def one_size(fitted: Fit, compute: float) -> float:
    """N_opt at so many FLOP."""
    return fitted.law.optimum(compute)[0] if isinstance(fitted, LawFit) else fitted.optimum(compute)[0]


def lines(record: Mapping[str, Any]) -> list[str]:
    """What was fitted, for people."""
    out = [f"{record['points']:,} points"]
    out += [f"left out, {reason}: {count:,}" for reason, count in record["left_out"].items()]
    for entry in record["fits"]:
        out += ["", f"approach {entry['approach']}, {entry['points']}"]
        if "why_not" in entry:
            out.append(f"  not fitted: {entry['why_not']}")
            continue
        out += [f"  {name:<9} {_text(value)}" for name, value in entry["numbers"].items()]
        if "r2" in entry:
            out.append(f"  R\u00b2 of ln L {entry['r2']:.4f}; {100 * entry['agree']:.0f} % of the last searches agree")
        if entry.get("without_optimum"):
            out.append(f"  {entry['without_optimum']} computes without an optimum inside the trained sizes")
        if "optimum" in entry:
            out.append(f"  at {record['compute']:.3g} FLOP:")
            out += [f"    {name.replace('_', ' ')} {_text(value)}" for name, value in entry["optimum"].items()]
    return out


def _text(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "cannot tell: no run shows it"
    text = f"{value['value']:.4g}"
    if value.get("low") is not None and value.get("high") is not None:
        text += f" [{value['low']:.4g}, {value['high']:.4g}]"
    else:
        text += " (no interval: too few draws have a fit)"
    return text + (f" \u00b1 {value['sd']:.3g}" if value.get("sd") is not None else "")


def judge_emergence(path: Path, out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Curves, tests and verdict of a file of outputs; writes emergence.json and emergence.html into `out`."""
    from mnemos.report.plot_laws import emergence_plot, page

    found = emergence.judge(_rows(path), seed=seed)
    record = {
        "verdict": found.verdict,
        "items": found.items,
        "left_out": dict(found.left_out),
        "curves": [
            {k: v.tolist() if hasattr(v, "tolist") else v for k, v in asdict(one).items()} for one in found.curves
        ],
    }
    record = {name: _finite(value) for name, value in record.items()}
    write_json(out / "emergence.json", record)
    text = "\n".join(emergence_lines(record))
    write_text(
        out / "emergence.html", page("One set of outputs, several metrics", [emergence_plot(found.curves)], text)
    )
    return record


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for raw in rows_of(path, str(path), path.name):
        if isinstance(raw.value, RowError):
            raise raw.value
        yield raw.value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def emergence_lines(record: Mapping[str, Any]) -> list[str]:
    """Verdict and curves, for people."""
    out = [record["verdict"], f"{record['items']:,} items answered at every size"]
    for one in record["curves"]:
        test = ""
        if one["p"] is not None:
            test = f"; two pieces against a line: p = {one['p']:.4f}, bend {one['bend']:+.3g} at {one['at']:.3g}"
        out.append(f"{one['name']}{test}")
        for size, mean, low, high in zip(one["sizes"], one["means"], one["low"], one["high"], strict=True):
            below = f" (below the detection limit {one['limit']:.3g})" if mean == 0 else ""
            around = "" if low is None else f" [{low:.4f}, {high:.4f}]"
            out.append(f"  {size:>10.3g}  {mean:.4f}{around}{below}")
    for name, count in record["left_out"].items():
        out.append(f"{name} left out: {count:,} of {record['items']:,} items have no number for it at some size")
    return out
