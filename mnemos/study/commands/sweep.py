"""Sweep a setting: one arm a value, everything else shared and cached, and where to stand.

    mnemos sweep study.yaml --over replay.share_of_final=0,0.01,0.03,0.1,0.3
    mnemos sweep study.yaml --over lora.rank=4,16 --over train.learning_rate=1e-4,5e-4 --arm lora

A key is METHOD.SETTING for any method of the study's arms, or train.SETTING. Several keys give the
grid of their values. The arms that are not swept are left out, except `plain`.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import find, retired_or_nearest
from mnemos.core.names import named_after, one_file
from mnemos.core.places import resolved
from mnemos.core.settings import TrainSettings
from mnemos.core.yaml_text import parse_yaml
from mnemos.study.config import Study, raw_study, resolved_study
from mnemos.study.engines import AskedEngine
from mnemos.study.experiment import Experiment, build, describe
from mnemos.study.preflight import preflight
from mnemos.study.reach import refuse_idle_axes, refuse_unreached
from mnemos.study.results.standing import frontier_of
from mnemos.study.run import Record, carry_out

TRAIN = "train"
MOST_ARMS = 200


@dataclass(frozen=True)
class Axis:
    """One setting and the values it takes. method: `train` for a training setting."""

    method: str
    setting: str
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        """As it is written: replay.share_of_final."""
        return f"{self.method}.{self.setting}"


@dataclass(frozen=True)
class Swept:
    """One arm of a sweep: its name and the value of each key."""

    arm: str
    values: Mapping[str, Any]


def axis(text: str) -> Axis:
    """``METHOD.SETTING=VALUE,VALUE,…``; values are YAML. Raises UsageError for anything else."""
    key, separator, words = text.partition("=")
    method, dot, setting = key.strip().partition(".")
    if not separator or not dot or not setting or not words.strip():
        raise UsageError(
            f"--over {text}", "must be METHOD.SETTING=VALUE,VALUE,…", "for example --over replay.share_of_final=0,0.1"
        )
    try:
        values = parse_yaml(words if words.lstrip().startswith("[") else f"[{words}]")
    except UsageError:
        raise UsageError(f"--over {text}", "has values that are no YAML list", "quote a value with a comma") from None
    # By repr: 1, 1.0 and true are equal to Python, and here three values.
    if len({repr(value) for value in values}) < len(values):
        raise UsageError(f"--over {text}", "names a value twice", "list each value once")
    return Axis(method, setting, tuple(values))


def swept_study(
    study: str | Path | Mapping[str, Any],
    over: Sequence[str],
    *,
    arm: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Study, Path, list[Swept], str]:
    """The study of a sweep, its folder, its arms and the arm that they were made from.

    Raises UsageError, with the nearest known name, for a key that no arm has.
    """
    if not over:
        raise UsageError("--over", "is missing: there is nothing to sweep", "--over replay.share_of_final=0,0.03,0.1")
    import mnemos.methods  # noqa: F401  fills the registry

    raw, folder = raw_study(study, overrides)
    axes = [axis(text) for text in over]
    keys = [one.key for one in axes]
    if len(set(keys)) < len(keys):
        raise UsageError(f"--over {keys}", "names a key twice", "give all of its values at once")
    arms = {"plain": [], **(raw.get("arms") or {})}
    base = _base(arms, axes, arm)
    size = math.prod(len(one.values) for one in axes)
    if size > MOST_ARMS:
        raise UsageError(f"--over {keys}", f"is a grid of {size:,} arms, above {MOST_ARMS}", "give fewer values")
    grid = list(itertools.product(*(one.values for one in axes)))
    made: dict[str, Any] = {}
    _refuse_left_out(overrides or {}, base)
    own_train = raw.get("arm_train") or {}
    own = own_train.get(base, {})
    trained: dict[str, Any] = {"plain": own_train["plain"]} if "plain" in own_train else {}
    swept = []
    for values in grid:
        name = _name(zip(keys, values, strict=True), made)
        steps, settings = copy.deepcopy(list(arms[base] or [])), dict(own)
        for one, value in zip(axes, values, strict=True):
            if one.method == TRAIN:
                settings[one.setting] = value
            else:
                _set(steps, one, value)
        made[name] = steps
        if settings:
            trained[name] = settings
        swept.append(Swept(name, dict(zip(keys, values, strict=True))))
    own_parts = {key: raw.get(key) or {} for key in ("arm_data", "arm_vocabulary")}
    raw.update(arms=made, arm_train=trained)
    for key, given in own_parts.items():
        # Every value of the swept arm has what that arm has of its own; plain stays what it is in the study.
        kept = {"plain": given["plain"]} if "plain" in given else {}
        raw[key] = {**kept, **(dict.fromkeys(made, given[base]) if base in given else {})}
    raw["name"] = f"{raw['name']}-sweep"
    return resolved_study(raw, folder), folder, swept, base


def _refuse_left_out(overrides: Mapping[str, Any], base: str) -> None:
    for key in overrides:
        section, _, rest = key.partition(".")
        arm = rest.partition(".")[0]
        if section in ("arms", "arm_train", "arm_data", "arm_vocabulary") and arm not in ("", base, "plain"):
            raise UsageError(
                f"--set {key}", f"reaches no plan: this sweep varies {base} and leaves {arm} out", "drop it"
            )


def _base(arms: Mapping[str, Any], axes: Sequence[Axis], arm: str | None) -> str:
    """The arm to vary: the one named, else the only one that uses every method swept."""
    if arm is not None and arm not in arms:
        raise UsageError(f"--arm {arm}", "is not an arm of this study", nearest(arm, arms))
    for one in axes:
        if one.method == TRAIN:
            if one.setting not in TrainSettings.model_fields:
                raise UsageError(f"--over {one.key}", *retired_or_nearest(one.setting, TrainSettings.model_fields))
            continue
        used = {name for steps in arms.values() for step in steps or [] for name in step}
        if one.method not in used:
            find(one.method)  # a name that no method has gets its own hint
            raise UsageError(
                f"--over {one.key}", f"is a method that no arm of this study uses; they use {_listed(used)}",
                f"add an arm with {one.method}, or sweep one of those",
            )  # fmt: skip
    wanted = [one.method for one in axes if one.method != TRAIN]
    fitting = [name for name, steps in arms.items() if all(_uses(steps, method) for method in wanted)]
    if arm is not None:
        missing = [method for method in wanted if not _uses(arms[arm], method)]
        if missing:
            there = [name for step in arms[arm] or [] for name in step]
            raise UsageError(f"--arm {arm}", f"does not use {missing[0]}; it uses {_listed(there)}", "name another arm")
        return arm
    if not wanted:
        return "plain"
    if len(fitting) != 1:
        text = "no single arm uses" if not fitting else f"several arms ({_listed(fitting)}) use"
        raise UsageError(f"--over {', '.join(wanted)}", f"{text} what is swept", "name the arm to vary with --arm")
    return fitting[0]


def _uses(steps: Any, method: str) -> bool:
    return any(method in step for step in steps or [])


def _listed(names: Any) -> str:
    return ", ".join(sorted(set(names))) or "none"


def _set(steps: list[Any], one: Axis, value: Any) -> None:
    """Put the value into the arm's step. A name inside a setting's expression or mapping counts as a
    setting too: weights.rho sets rho in ``rho*after + (1 - rho)*before``."""
    places = [number for number, step in enumerate(steps) if one.method in step]
    if len(places) > 1:
        raise UsageError(f"--over {one.key}", f"{one.method} is used {len(places)} times in the arm", "leave one")
    given = dict(steps[places[0]][one.method] or {})
    known = find(one.method).settings.model_fields
    if one.setting in known:
        given[one.setting] = value
    elif not _set_inside(given, one.setting, value):
        inner = {key for held in given.values() if isinstance(held, Mapping) for key in held}
        names = {name for held in given.values() if isinstance(held, str) for name in _names(held)}
        hint = nearest(one.setting, {*known, *inner, *(names - {"after", "before"})})
        raise UsageError(f"--over {one.key}", f"is not a setting of {one.method}", hint)
    steps[places[0]] = {one.method: given}


def _set_inside(given: dict[str, Any], name: str, value: Any) -> bool:
    for key, held in given.items():
        if isinstance(held, Mapping) and name in held:
            given[key] = {**held, name: value}
            return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    for key, held in given.items():
        if number and key == "expression" and isinstance(held, str) and name in _names(held):
            given[key] = re.sub(rf"\b{re.escape(name)}\b", f"({value!r})" if value < 0 else repr(value), held)
            return True
    return False


def _names(text: str) -> list[str]:
    return re.findall(r"\b[A-Za-z_]\w*\b", text)


def _name(pairs: Any, taken: Mapping[str, Any]) -> str:
    """replay.share_of_final=0.1,lora.rank=8, without what a folder's name should not have."""
    text = ",".join(f"{key}={_short(value)}" for key, value in pairs)
    name = named_after(re.sub(r"[^\w.,+=-]+", "_", text.replace(" ", "").replace("*", "x")), "value")
    there = {one_file(one) for one in taken}
    number, free = 1, name
    while one_file(free) in there:
        number += 1
        free = f"{name}-{number}"
    return free


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def sweep(
    study: str | Path | Mapping[str, Any],
    over: str | Sequence[str],
    *,
    arm: str | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Record:
    """Train and measure one arm for each value and return the record, whose results hold `sweep`.

    over: ``METHOD.SETTING=VALUE,…``, one or several. arm: the arm to vary, where several use the
    method. out: runs/<study>-sweep unless given; finished steps found there are reused, and a value
    that turns the method off is the plain arm's training. Raises as `run`, and UsageError with the
    nearest name for a key that no arm has.
    """
    asked = [over] if isinstance(over, str) else list(over)
    loaded, folder, swept, base = swept_study(study, asked, arm=arm, overrides=overrides)

    def section(experiment: Experiment) -> dict[str, Any]:
        return {"sweep": sweep_section(experiment, swept, base)}

    def look(experiment: Experiment) -> list[str]:
        return _reached(experiment, swept, base, overrides)

    return carry_out(loaded, folder, out=out, engine=engine, jobs=jobs, quiet=quiet, look=look, more=section)


def sweep_lines(
    study: str | Path | Mapping[str, Any],
    over: Sequence[str],
    *,
    arm: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[str]:
    """What `sweep` would do, line by line, without loading a model."""
    loaded, folder, swept, base = swept_study(study, over, arm=arm, overrides=overrides)
    experiment = build(loaded, folder, resolved(Path("runs") / str(loaded.name)))
    return [*describe(experiment), *_reached(experiment, swept, base, overrides), *preflight(experiment, dry=True)]


def _reached(
    experiment: Experiment, swept: Sequence[Swept], base: str, overrides: Mapping[str, Any] | None
) -> list[str]:
    """Refuse a key or an override that reaches no plan; lines on overrides that reach some arms only."""
    refuse_idle_axes(experiment, {one.arm: one.values for one in swept}, base)
    training = [key.partition(".")[2] for key in swept[0].values if key.startswith(f"{TRAIN}.")]
    return refuse_unreached(experiment.study, experiment.root, overrides, swept=training)


def sweep_section(experiment: Experiment, swept: Sequence[Swept], base: str) -> dict[str, Any]:
    """The `sweep` of results.json: over (keys and values), base, arms (arm, values, off: it is the
    plain arm's training) and frontier, that of these arms alone (see `measure.frontier`)."""
    keys = list(swept[0].values)
    # Reversed, so that of an arm's runs the first is the one that stays.
    first = {run.arm: run for run in reversed(experiment.runs)}
    # A run that goes on behind failures has the arms that are whole.
    swept = [one for one in swept if one.arm in first]
    plain = first["plain"].last.model.fingerprint if "plain" in first else None
    return {
        "over": [{"key": key, "values": list(dict.fromkeys(_plain(one.values[key]) for one in swept))} for key in keys],
        "base": base,
        "arms": [
            {
                "arm": one.arm,
                "values": {key: _plain(value) for key, value in one.values.items()},
                "off": first[one.arm].last.model.fingerprint == plain,
            }
            for one in swept
        ],
        "frontier": frontier_of(experiment, [one.arm for one in swept]) if swept else None,
    }


def _plain(value: Any) -> Any:
    """A value that JSON and a report can show: lists and mappings as text."""
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)
